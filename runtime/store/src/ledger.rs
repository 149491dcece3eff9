//! The ledger of a home: every SQL statement that is about it.

use std::path::Path;

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::adapter::{Manifest, ManifestFile};
use crate::error::Error;
use crate::failpoints::{Step, reach};
use crate::id::{ContentId, EntryId, GenerationId};
use crate::record::{Entry, Episode, Event, Generation, Outcome, Record, Refusal, Rollback, Trial};
use crate::sqlite::{Database, Format, Writing, encode};

/// What a home's ledger is: `SELK`.
static FORMAT: Format = Format {
    name: "a ledger of selkie",
    application_id: 0x5345_4c4b,
    version: 1,
    schema: include_str!("ledger.sql"),
};

/// Columns of an entry, with the generation that it made.
const ENTRY: &str = "SELECT e.number, e.kind, e.base_digest, e.parent, e.target, e.adapter, e.record, e.result, \
                     g.number FROM entries e LEFT JOIN generations g ON g.entry = e.number";

/// Columns of a generation.
const GENERATION: &str = "SELECT g.number, g.entry, g.base_digest, g.parent, g.adapter FROM generations g";

/// An open ledger.
pub(crate) struct Ledger {
    database: Database,
}

/// The part of a rollback that is not in columns.
#[derive(Serialize, Deserialize)]
struct RollbackRecord {
    time_ms: i64,
}

impl Ledger {
    /// Makes a new ledger: in `folder` under this name, then at `path`. What has a name that begins so is
    /// removed.
    pub(crate) fn publish(folder: &Path, name: &str, path: &Path) -> Result<(), Error> {
        Database::publish(folder, name, path, &FORMAT)
    }

    /// The ledger of a home where nothing was ever kept.
    pub(crate) fn empty(path: &Path) -> Result<Ledger, Error> {
        Database::empty(path, &FORMAT).map(|database| Ledger { database })
    }

    /// Opens for reading.
    pub(crate) fn read(path: &Path) -> Result<Ledger, Error> {
        Database::read(path, &FORMAT).map(|database| Ledger { database })
    }

    /// Opens for writing; the caller holds the home's lock, and has opened for reading first.
    pub(crate) fn write(path: &Path) -> Result<Ledger, Error> {
        Database::write(path, &FORMAT).map(|database| Ledger { database })
    }
}

/// What is asked of a ledger.
impl Ledger {
    /// The last `limit` entries, newest first.
    pub(crate) fn log(&self, limit: usize) -> Result<Vec<Entry>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.database.all(
            &format!("{ENTRY} ORDER BY e.number DESC LIMIT ?1"),
            params![limit],
            EntryRow::read,
        )?;
        rows.into_iter().map(EntryRow::decode).collect()
    }

    pub(crate) fn entry(&self, id: EntryId) -> Result<Option<Entry>, Error> {
        let rows =
            self.database.all(&format!("{ENTRY} WHERE e.number = ?1"), params![id.0], EntryRow::read)?;
        rows.into_iter().next().map(EntryRow::decode).transpose()
    }

    pub(crate) fn newest_entry(&self) -> Result<Option<EntryId>, Error> {
        let newest = self.database.all("SELECT max(number) FROM entries", [], |row| row.get(0))?;
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
        let counts = self.database.all(sql, params![adapter.as_str()], |row| row.get::<_, i64>(0))?;
        Ok(counts != [0])
    }

    /// What the files of a kept adapter are.
    pub(crate) fn manifest(&self, adapter: &ContentId) -> Result<Option<Manifest>, Error> {
        let read = |row: &Row<'_>| Ok(ManifestFile { name: row.get(0)?, sha256: row.get(1)? });
        let files = self.database.all(
            "SELECT name, sha256 FROM files WHERE adapter = ?1",
            params![adapter.as_str()],
            read,
        )?;
        // No generation has it, or its rows were tampered with: either way it is not one that was kept.
        Ok(Manifest::from_lines(files).ok().filter(|manifest| manifest.id == *adapter))
    }

    fn generations(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Generation>, Error> {
        self.database.all(sql, params, read_generation)
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

/// Where an episode stands.
pub(crate) struct Place {
    pub(crate) base_digest: String,
    pub(crate) parent: Option<GenerationId>,
    pub(crate) pointer: Pointer,
}

/// What an episode that is kept does to the active pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pointer {
    /// It moves from the parent to the new generation.
    Moves,
    /// It stays, wherever it is.
    Stays,
}

/// What is written to a ledger: one SQLite transaction each. Wherever something was active, it must still be.
impl Ledger {
    /// Adds an episode, the generation that it made, and makes that one active.
    pub(crate) fn add_kept(
        &mut self,
        place: &Place,
        manifest: &Manifest,
        record: &Record,
        trial: &Trial,
    ) -> Result<Generation, Error> {
        let Place { ref base_digest, parent, pointer } = *place;
        let (record, trial) = (encode(record)?, encode(trial)?);
        let adapter = &manifest.id;
        self.database.write_all(|writing| {
            if pointer == Pointer::Moves {
                writing.expect_active(base_digest, parent)?;
            }
            let entry =
                writing.insert_episode("kept", base_digest, parent, Some(adapter), &record, &trial)?;
            reach(Step::InsertFiles)?;
            for file in &manifest.files {
                // Two generations may share an adapter; its manifest is the same then.
                let sql = "INSERT OR IGNORE INTO files (adapter, name, sha256) VALUES (?1, ?2, ?3)";
                writing.insert(sql, params![adapter.as_str(), file.name, file.sha256])?;
            }
            reach(Step::InsertGeneration)?;
            let sql = "INSERT INTO generations (entry, base_digest, parent, adapter) VALUES (?1, ?2, ?3, ?4)";
            let values = params![entry.0, base_digest, parent.map(|id| id.0), adapter.as_str()];
            let id = GenerationId(writing.insert(sql, values)?);
            if pointer == Pointer::Moves {
                writing.move_pointer(base_digest, Some(id))?;
            }
            let (base_digest, adapter) = (base_digest.to_owned(), adapter.clone());
            Ok(Generation { id, entry, base_digest, parent, adapter })
        })
    }

    /// Adds an episode that came to nothing.
    pub(crate) fn add_unkept(
        &mut self,
        place: &Place,
        record: &Record,
        outcome: &Unkept<'_>,
    ) -> Result<EntryId, Error> {
        let Place { ref base_digest, parent, pointer } = *place;
        let record = encode(record)?;
        let (kind, adapter, result) = match *outcome {
            Unkept::Discarded(adapter, trial) => ("discarded", Some(adapter), encode(trial)?),
            Unkept::Refused(refusal) => ("refused", None, encode(refusal)?),
        };
        self.database.write_all(|writing| {
            if pointer == Pointer::Moves {
                writing.expect_active(base_digest, parent)?;
            }
            writing.insert_episode(kind, base_digest, parent, adapter, &record, &result)
        })
    }

    /// Adds a rollback and moves the pointer.
    pub(crate) fn add_rollback(&mut self, base_digest: &str, rollback: &Rollback) -> Result<EntryId, Error> {
        let record = encode(&RollbackRecord { time_ms: rollback.time_ms })?;
        let (from, to) = (rollback.from.map(|id| id.0), rollback.to.map(|id| id.0));
        self.database.write_all(|writing| {
            writing.expect_active(base_digest, rollback.from)?;
            let sql = "INSERT INTO entries (kind, base_digest, parent, target, record) \
                       VALUES ('rollback', ?1, ?2, ?3, ?4)";
            let entry = writing.insert(sql, params![base_digest, from, to, record])?;
            writing.move_pointer(base_digest, rollback.to)?;
            Ok(EntryId(entry))
        })
    }
}

impl Writing<'_> {
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
}
