//! The ledger file: how it is opened, and every SQL statement of the crate.
//!
//! Write-ahead log with `synchronous = FULL`. With the log, a reader sees the last commit at once, whatever the
//! writer does: in a rollback journal a writer that is stopped during a commit shuts readers out, and after a
//! kill a reader must be able to write to roll back. FULL syncs the log at every commit; NORMAL, the usual
//! companion, may lose the last commits in a power cut, and a generation that was reported as kept stays kept.
//! The price: a home cannot be shared by two machines over a network file system (flock cannot promise that
//! either), and who may not write to the folder reads it with the log's files as the last writer left them, or
//! without any.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::adapter::{Manifest, ManifestFile};
use crate::error::Error;
use crate::failpoints::{Step, reach};
use crate::id::{ContentId, EntryId, GenerationId};
use crate::record::{Entry, Episode, Event, Generation, Outcome, Record, Refusal, Rollback, Trial};

/// The format that this code writes, in `PRAGMA user_version`.
const FORMAT: i64 = 1;

/// Marks the file as a ledger of selkie in `PRAGMA application_id`: `SELK`.
const APPLICATION_ID: i64 = 0x5345_4c4b;

/// How long to wait for another connection's lock. Only the moment in which the log of a killed writer is
/// recovered locks anybody out; ten seconds is far more than that takes on any disk.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Columns of an entry, with the generation that it made.
const ENTRY: &str = "SELECT e.number, e.kind, e.base_digest, e.parent, e.target, e.adapter, e.record, e.result, \
                     g.number FROM entries e LEFT JOIN generations g ON g.entry = e.number";

/// Columns of a generation.
const GENERATION: &str = "SELECT g.number, g.entry, g.base_digest, g.parent, g.adapter FROM generations g";

/// An open ledger.
pub(crate) struct Ledger {
    connection: Connection,
    path: PathBuf,
}

/// The part of a rollback that is not in columns.
#[derive(Serialize, Deserialize)]
struct RollbackRecord {
    time_ms: i64,
}

impl Ledger {
    /// Makes a new ledger: complete in one file when this returns, so that a rename publishes it.
    pub(crate) fn create(path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Ledger { path: path.to_owned(), source };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
        write_schema(&connection).map_err(failed)?;
        // The last connection that closes moves the log into the file, and syncs it.
        connection.close().map_err(|(_, source)| failed(source))
    }

    /// The ledger of a home where nothing was ever kept.
    pub(crate) fn empty(path: &Path) -> Result<Ledger, Error> {
        let ledger = Connection::open_in_memory().and_then(|connection| {
            write_schema(&connection)?;
            Ok(Ledger { connection, path: path.to_owned() })
        });
        ledger.map_err(|source| Error::Ledger { path: path.to_owned(), source })
    }

    /// Opens for reading.
    pub(crate) fn read(path: &Path) -> Result<Ledger, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let ledger = Ledger::open(path, path, flags)?;
        match ledger.check_format() {
            Err(Error::Ledger { source, .. }) if needs_a_writable_folder(&source) => {
                let Some(uri) = immutable_uri(path) else {
                    return Err(Error::Ledger { path: path.to_owned(), source });
                };
                let ledger = Ledger::open(Path::new(&uri), path, flags | OpenFlags::SQLITE_OPEN_URI)?;
                ledger.check_format().map(|()| ledger)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(ledger),
        }
    }

    /// Opens for writing; the caller holds the home's lock. Of a ledger that is there, [`Ledger::read`] comes
    /// first: closing a writer folds the log into the file, which would touch one that is not ours.
    pub(crate) fn write(path: &Path) -> Result<Ledger, Error> {
        let ledger = Ledger::open(path, path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        ledger.check_format()?;
        let pragmas = "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA foreign_keys = ON;";
        ledger.connection.execute_batch(pragmas).map_err(|source| ledger.failed(source))?;
        Ok(ledger)
    }

    fn open(name: &Path, path: &Path, flags: OpenFlags) -> Result<Ledger, Error> {
        let connection = Connection::open_with_flags(name, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            Ok(connection)
        });
        let path = path.to_owned();
        match connection {
            Ok(connection) => Ok(Ledger { connection, path }),
            Err(source) => Err(Error::Ledger { path, source }),
        }
    }

    fn check_format(&self) -> Result<(), Error> {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (application, format) = match (pragma("application_id"), pragma("user_version")) {
            (Ok(application), Ok(format)) => (application, format),
            (Err(source), _) | (_, Err(source)) => {
                return Err(match source.sqlite_error_code() {
                    Some(ErrorCode::NotADatabase) => Error::NotALedger { path: self.path.clone() },
                    _ => self.failed(source),
                });
            }
        };
        if application != APPLICATION_ID || format < 1 {
            return Err(Error::NotALedger { path: self.path.clone() });
        }
        if format > FORMAT {
            return Err(Error::NewerLedger { path: self.path.clone(), found: format, known: FORMAT });
        }
        Ok(())
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Ledger { path: self.path.clone(), source }
    }
}

fn write_schema(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN; {} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;",
        include_str!("ledger.sql")
    ))
}

/// Whether SQLite gave up because it may not create the log's files: a home on a read-only disk or of another
/// user, whose last writer closed it.
fn needs_a_writable_folder(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// A name by which SQLite takes the file as one that does not change; `None` where a log lies beside it, and
/// it may.
fn immutable_uri(path: &Path) -> Option<String> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if Path::new(&log).exists() {
        return None;
    }
    let escaped = path.to_str()?.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    Some(format!("file:{escaped}?immutable=1"))
}

/// What is asked of a ledger.
impl Ledger {
    /// The last `limit` entries, newest first.
    pub(crate) fn log(&self, limit: usize) -> Result<Vec<Entry>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows =
            self.all(&format!("{ENTRY} ORDER BY e.number DESC LIMIT ?1"), params![limit], EntryRow::read)?;
        rows.into_iter().map(EntryRow::decode).collect()
    }

    pub(crate) fn entry(&self, id: EntryId) -> Result<Option<Entry>, Error> {
        let rows = self.all(&format!("{ENTRY} WHERE e.number = ?1"), params![id.0], EntryRow::read)?;
        rows.into_iter().next().map(EntryRow::decode).transpose()
    }

    pub(crate) fn newest_entry(&self) -> Result<Option<EntryId>, Error> {
        let newest = self.all("SELECT max(number) FROM entries", [], |row| row.get(0))?;
        Ok(newest.into_iter().next().flatten().map(EntryId))
    }

    pub(crate) fn generation(&self, id: GenerationId) -> Result<Option<Generation>, Error> {
        self.generations(&format!("{GENERATION} WHERE g.number = ?1"), params![id.0]).map(|mut all| all.pop())
    }

    /// The generations whose adapter's id starts like this, newest first.
    pub(crate) fn generations_by_prefix(&self, prefix: &str) -> Result<Vec<Generation>, Error> {
        let sql = format!("{GENERATION} WHERE substr(g.adapter, 1, length(?1)) = ?1 ORDER BY g.number DESC");
        self.generations(&sql, params![prefix])
    }

    pub(crate) fn newest_generations(&self, limit: u32) -> Result<Vec<Generation>, Error> {
        self.generations(&format!("{GENERATION} ORDER BY g.number DESC LIMIT ?1"), params![limit])
    }

    pub(crate) fn active(&self, base_digest: &str) -> Result<Option<Generation>, Error> {
        let sql = format!("{GENERATION} JOIN active a ON a.generation = g.number WHERE a.base_digest = ?1");
        self.generations(&sql, params![base_digest]).map(|mut all| all.pop())
    }

    pub(crate) fn actives(&self) -> Result<Vec<Generation>, Error> {
        let sql = format!("{GENERATION} JOIN active a ON a.generation = g.number ORDER BY a.base_digest");
        self.generations(&sql, [])
    }

    /// Whether a generation has this adapter.
    pub(crate) fn uses(&self, adapter: &ContentId) -> Result<bool, Error> {
        let sql = "SELECT count(*) FROM generations WHERE adapter = ?1";
        let counts = self.all(sql, params![adapter.as_str()], |row| row.get::<_, i64>(0))?;
        Ok(counts != [0])
    }

    /// What the files of a kept adapter are.
    pub(crate) fn manifest(&self, adapter: &ContentId) -> Result<Option<Manifest>, Error> {
        let read = |row: &Row<'_>| Ok(ManifestFile { name: row.get(0)?, sha256: row.get(1)? });
        let files =
            self.all("SELECT name, sha256 FROM files WHERE adapter = ?1", params![adapter.as_str()], read)?;
        // No generation has it, or its rows were tampered with: either way it is not one that was kept.
        Ok(Manifest::from_lines(files).ok().filter(|manifest| manifest.id == *adapter))
    }

    fn generations(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Generation>, Error> {
        self.all(sql, params, read_generation)
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.connection.prepare_cached(sql).and_then(|mut statement| {
            let rows = statement.query_map(params, read)?;
            rows.collect()
        });
        rows.map_err(|source| self.failed(source))
    }
}

/// A row of [`ENTRY`], before its JSON is parsed.
struct EntryRow {
    id: EntryId,
    kind: String,
    base_digest: String,
    parent: Option<GenerationId>,
    target: Option<GenerationId>,
    adapter: Option<ContentId>,
    record: String,
    result: Option<String>,
    generation: Option<GenerationId>,
}

impl EntryRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<EntryRow> {
        let adapter: Option<String> = row.get(5)?;
        Ok(EntryRow {
            id: EntryId(row.get(0)?),
            kind: row.get(1)?,
            base_digest: row.get(2)?,
            parent: row.get::<_, Option<i64>>(3)?.map(GenerationId),
            target: row.get::<_, Option<i64>>(4)?.map(GenerationId),
            adapter: adapter.map(|text| content_id(5, &text)).transpose()?,
            record: row.get(6)?,
            result: row.get(7)?,
            generation: row.get::<_, Option<i64>>(8)?.map(GenerationId),
        })
    }

    fn decode(self) -> Result<Entry, Error> {
        let EntryRow { id, ref base_digest, .. } = self;
        let base_digest = base_digest.clone();
        let event = self.event().map_err(|source| Error::UnreadableEntry { entry: id, source })?;
        Ok(Entry { id, base_digest, event })
    }

    fn event(self) -> Result<Event, serde_json::Error> {
        let EntryRow { kind, parent, target, adapter, record, generation, .. } = self;
        // The table's checks leave only these combinations.
        let result = self.result.unwrap_or_default();
        let outcome = match (kind.as_str(), adapter, generation) {
            ("rollback", ..) => {
                let RollbackRecord { time_ms } = serde_json::from_str(&record)?;
                return Ok(Event::Rollback(Rollback { time_ms, from: parent, to: target }));
            }
            ("kept", Some(adapter), Some(generation)) => {
                Outcome::Kept { generation, adapter, trial: serde_json::from_str(&result)? }
            }
            ("discarded", Some(adapter), None) => {
                Outcome::Discarded { adapter, trial: serde_json::from_str(&result)? }
            }
            ("refused", None, None) => Outcome::Refused(serde_json::from_str(&result)?),
            (kind, ..) => {
                let told = format!("an entry of kind `{kind}` with other columns than that kind has");
                return Err(serde::de::Error::custom(told));
            }
        };
        let record = serde_json::from_str(&record)?;
        Ok(Event::Episode(Box::new(Episode { parent, record, outcome })))
    }
}

fn read_generation(row: &Row<'_>) -> rusqlite::Result<Generation> {
    Ok(Generation {
        id: GenerationId(row.get(0)?),
        entry: EntryId(row.get(1)?),
        base_digest: row.get(2)?,
        parent: row.get::<_, Option<i64>>(3)?.map(GenerationId),
        adapter: content_id(4, &row.get::<_, String>(4)?)?,
    })
}

fn content_id(column: usize, text: &str) -> rusqlite::Result<ContentId> {
    let invalid = || rusqlite::Error::InvalidColumnType(column, text.to_owned(), rusqlite::types::Type::Text);
    ContentId::parse(text).ok_or_else(invalid)
}

/// An episode that leaves what is active as it is.
pub(crate) enum Unkept<'a> {
    Discarded(&'a ContentId, &'a Trial),
    Refused(&'a Refusal),
}

/// What is written to a ledger: one SQLite transaction each. Wherever something was active, it must still be.
impl Ledger {
    /// Adds an episode, the generation that it made, and makes that one active.
    pub(crate) fn add_kept(
        &mut self,
        base_digest: &str,
        parent: Option<GenerationId>,
        manifest: &Manifest,
        record: &Record,
        trial: &Trial,
    ) -> Result<Generation, Error> {
        let (record, trial) = (encode(record)?, encode(trial)?);
        let adapter = &manifest.id;
        self.write_all(|ledger| {
            ledger.expect_active(base_digest, parent)?;
            let entry = ledger.insert_episode("kept", base_digest, parent, Some(adapter), &record, &trial)?;
            reach(Step::InsertFiles)?;
            for file in &manifest.files {
                // Two generations may share an adapter; its manifest is the same then.
                let sql = "INSERT OR IGNORE INTO files (adapter, name, sha256) VALUES (?1, ?2, ?3)";
                ledger.insert(sql, params![adapter.as_str(), file.name, file.sha256])?;
            }
            reach(Step::InsertGeneration)?;
            let sql = "INSERT INTO generations (entry, base_digest, parent, adapter) VALUES (?1, ?2, ?3, ?4)";
            let values = params![entry.0, base_digest, parent.map(|id| id.0), adapter.as_str()];
            let id = GenerationId(ledger.insert(sql, values)?);
            ledger.move_pointer(base_digest, Some(id))?;
            let (base_digest, adapter) = (base_digest.to_owned(), adapter.clone());
            Ok(Generation { id, entry, base_digest, parent, adapter })
        })
    }

    /// Adds an episode that came to nothing.
    pub(crate) fn add_unkept(
        &mut self,
        base_digest: &str,
        parent: Option<GenerationId>,
        record: &Record,
        outcome: &Unkept<'_>,
    ) -> Result<EntryId, Error> {
        let record = encode(record)?;
        let (kind, adapter, result) = match *outcome {
            Unkept::Discarded(adapter, trial) => ("discarded", Some(adapter), encode(trial)?),
            Unkept::Refused(refusal) => ("refused", None, encode(refusal)?),
        };
        self.write_all(|ledger| {
            ledger.expect_active(base_digest, parent)?;
            ledger.insert_episode(kind, base_digest, parent, adapter, &record, &result)
        })
    }

    /// Adds a rollback and moves the pointer.
    pub(crate) fn add_rollback(&mut self, base_digest: &str, rollback: &Rollback) -> Result<EntryId, Error> {
        let record = encode(&RollbackRecord { time_ms: rollback.time_ms })?;
        let (from, to) = (rollback.from.map(|id| id.0), rollback.to.map(|id| id.0));
        self.write_all(|ledger| {
            ledger.expect_active(base_digest, rollback.from)?;
            let sql = "INSERT INTO entries (kind, base_digest, parent, target, record) \
                       VALUES ('rollback', ?1, ?2, ?3, ?4)";
            let entry = ledger.insert(sql, params![base_digest, from, to, record])?;
            ledger.move_pointer(base_digest, rollback.to)?;
            Ok(EntryId(entry))
        })
    }

    /// Runs `write` in a transaction: all of it is committed, or none.
    fn write_all<T>(&mut self, write: impl FnOnce(&Writing<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let failed = |source| Error::Ledger { path: self.path.clone(), source };
        // Immediate: the check of what is active and the write see the same state.
        let transaction =
            Transaction::new(&mut self.connection, TransactionBehavior::Immediate).map_err(failed)?;
        reach(Step::InsertEntry)?;
        let writing = Writing { transaction, path: &self.path };
        let written = write(&writing)?;
        reach(Step::Commit)?;
        writing.transaction.commit().map_err(failed)?;
        reach(Step::Committed)?;
        Ok(written)
    }
}

/// An open SQLite transaction.
struct Writing<'a> {
    transaction: Transaction<'a>,
    path: &'a Path,
}

impl Writing<'_> {
    /// The new row's number.
    fn insert(&self, sql: &str, params: impl rusqlite::Params) -> Result<i64, Error> {
        self.transaction.execute(sql, params).map_err(|source| self.failed(source))?;
        Ok(self.transaction.last_insert_rowid())
    }

    fn insert_episode(
        &self,
        kind: &str,
        base_digest: &str,
        parent: Option<GenerationId>,
        adapter: Option<&ContentId>,
        record: &str,
        result: &str,
    ) -> Result<EntryId, Error> {
        let sql = "INSERT INTO entries (kind, base_digest, parent, adapter, record, result) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let (parent, adapter) = (parent.map(|id| id.0), adapter.map(ContentId::as_str));
        self.insert(sql, params![kind, base_digest, parent, adapter, record, result]).map(EntryId)
    }

    fn expect_active(&self, base_digest: &str, expected: Option<GenerationId>) -> Result<(), Error> {
        let sql = "SELECT generation FROM active WHERE base_digest = ?1";
        let found = self.transaction.query_row(sql, params![base_digest], |row| row.get(0)).optional();
        let found = found.map_err(|source| self.failed(source))?.map(GenerationId);
        if found == expected { Ok(()) } else { Err(Error::ActiveMoved { expected, found }) }
    }

    fn move_pointer(&self, base_digest: &str, to: Option<GenerationId>) -> Result<(), Error> {
        reach(Step::MovePointer)?;
        match to {
            Some(to) => {
                let sql = "INSERT INTO active (base_digest, generation) VALUES (?1, ?2) \
                           ON CONFLICT (base_digest) DO UPDATE SET generation = excluded.generation";
                self.transaction.execute(sql, params![base_digest, to.0])
            }
            None => {
                self.transaction.execute("DELETE FROM active WHERE base_digest = ?1", params![base_digest])
            }
        }
        .map_err(|source| self.failed(source))?;
        Ok(())
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::Ledger { path: self.path.to_owned(), source }
    }
}

/// A value as JSON that is known to read back: one bad row would make every later `log` fail.
fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Result<String, Error> {
    let unwritable = |source| Error::UnwritableRecord { source };
    let text = serde_json::to_string(value).map_err(unwritable)?;
    serde_json::from_str::<T>(&text).map_err(unwritable)?;
    Ok(text)
}
