//! What one run has finished, so that it can be killed at any point and go on where it was.
//!
//! A run is many pieces of work, each with a key that says which one it is. A piece is added when it is done, in
//! one transaction with those that were done beside it. Who resumes asks for a key before the work.

use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Row, params};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::disk;
use crate::error::{Difference, Error};
use crate::home::Lock;
use crate::sqlite::{Database, Format, Writing, encode};

/// What a run's ledger is: `SELR`.
static FORMAT: Format = Format {
    name: "a run of selkie",
    application_id: 0x5345_4c52,
    version: 1,
    schema: include_str!("run.sql"),
};

/// The ledger's file in the folder. SQLite's log lies beside it.
const FILE: &str = "run.sqlite";

/// The name of a ledger that is being made.
const NEW_FILE: &str = "run.sqlite.new";

/// The file that the one writer has locked.
const LOCK: &str = "run.lock";

/// How much of a value an error shows: a line on a screen.
const SHOWN_CHARS_MAX: usize = 100;

/// One finished piece of work of a run: a rollout, an evaluation, a cloned policy.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Which piece it is. No two rows of a run have the same.
    pub key: String,
    /// What came of it. Its numbers come back bit for bit; JSON has none that are not finite, and serde_json makes
    /// `null` of those.
    pub record: Value,
    /// Wall-clock seconds that it took. The only field in which two runs that did the same may differ.
    pub seconds: f64,
}

/// The ledger of a run: `run.sqlite` in its folder, and `run.lock` for its one writer. What else is in the folder
/// is not touched.
pub struct RunLedger {
    // Before the lock, so that the file is closed when the next writer comes.
    database: Database,
    _lock: Option<Lock>,
    folder: PathBuf,
}

impl RunLedger {
    /// Opens a run for writing. Makes the folder and the ledger where there are none.
    ///
    /// # Errors
    /// [`Error::RunLocked`] while another process writes to it; [`Error::NotALedger`] and
    /// [`Error::NewerLedger`] for a file that is not ours, which is left as it is.
    pub fn open(folder: &Path) -> Result<RunLedger, Error> {
        let file = folder.join(FILE);
        if disk::is_there(&file)? {
            // Before anything is made: see `Database::write`.
            drop(Database::read(&file, &FORMAT)?);
        }
        disk::create_folder(folder)?;
        let lock = Lock::take(&folder.join(LOCK), || Error::RunLocked { folder: folder.to_owned() })?;
        // Again: another process may have made it before this one had the lock.
        if !disk::is_there(&file)? {
            create(folder, &file)?;
        }
        let database = Database::write(&file, &FORMAT)?;
        Ok(RunLedger { database, _lock: Some(lock), folder: folder.to_owned() })
    }

    /// Opens a run for reading, also while it goes on: takes no lock, and writing to it fails.
    ///
    /// # Errors
    /// [`Error::NoRun`] where there is none.
    pub fn read_only(folder: &Path) -> Result<RunLedger, Error> {
        let (file, folder) = (folder.join(FILE), folder.to_owned());
        if !disk::is_there(&file)? {
            return Err(Error::NoRun { folder });
        }
        Ok(RunLedger { database: Database::read(&file, &FORMAT)?, _lock: None, folder })
    }

    /// The settings that the run was begun with; `None` before [`RunLedger::begin`].
    pub fn settings(&self) -> Result<Option<Value>, Error> {
        let found = self.database.all("SELECT settings FROM run", [], |row| row.get::<_, String>(0))?;
        found.first().map(|text| self.decode("settings", text)).transpose()
    }

    /// Writes the settings, if there are none yet. Objects with the same members in another order are the same.
    ///
    /// # Errors
    /// [`Error::OtherSettings`] when the run was begun with others.
    pub fn begin(&mut self, settings: &Value) -> Result<(), Error> {
        let text = encode(settings)?;
        if let Some(found) = self.settings()? {
            return match Difference::first(&found, settings) {
                Some(difference) => Err(Error::OtherSettings {
                    folder: self.folder.clone(),
                    difference: Box::new(difference),
                }),
                None => Ok(()),
            };
        }
        self.database.write_all(|writing| {
            writing.insert("INSERT INTO run (number, settings) VALUES (1, ?1)", params![text]).map(drop)
        })
    }

    /// The piece of work with this key, if it is finished.
    pub fn get(&self, key: &str) -> Result<Option<RunRow>, Error> {
        let sql = "SELECT key, record, seconds FROM finished WHERE key = ?1";
        let found = self.database.all(sql, params![key], Stored::read)?;
        found.into_iter().next().map(|stored| self.row(stored)).transpose()
    }

    /// Adds all rows in one transaction. A key that is there with the same record is left as it is, with the
    /// seconds that it has.
    ///
    /// # Errors
    /// [`Error::OtherRow`] for a key that is there with another record. Nothing is written then.
    pub fn add(&mut self, rows: &[RunRow]) -> Result<(), Error> {
        let records = rows.iter().map(|row| encode(&row.record)).collect::<Result<Vec<_>, _>>()?;
        let folder = &self.folder;
        self.database.write_all(|writing| {
            for (row, record) in rows.iter().zip(&records) {
                match stored_record(writing, &row.key)? {
                    Some(found) => same(folder, row, &found)?,
                    None => {
                        let sql = "INSERT INTO finished (key, record, seconds) VALUES (?1, ?2, ?3)";
                        writing.insert(sql, params![row.key, record, row.seconds])?;
                    }
                }
            }
            Ok(())
        })
    }

    /// The rows whose keys begin with this, in order of key (by bytes). No character is a wildcard.
    pub fn rows(&self, prefix: &str) -> Result<Vec<RunRow>, Error> {
        let mut rows = Vec::new();
        self.each(prefix, |row| rows.push(row))?;
        Ok(rows)
    }

    /// SHA-256, in 64 hex digits, of what two runs that did the same have in common: a line with the settings
    /// (`null` where there are none), and a line `["key",record]` a row, in order of key; JSON with the members
    /// of objects sorted by name. Not the seconds.
    pub fn digest(&self) -> Result<String, Error> {
        self.database.at_once(|| {
            let mut digest = Sha256::new();
            let mut line = |mut value: Value| {
                value.sort_all_objects();
                digest.update(format!("{value}\n"));
            };
            line(self.settings()?.unwrap_or_default());
            self.each("", |row| line(json!([row.key, row.record])))?;
            Ok(format!("{:x}", digest.finalize()))
        })
    }

    fn each(&self, prefix: &str, mut take: impl FnMut(RunRow)) -> Result<(), Error> {
        let sql = "SELECT key, record, seconds FROM finished WHERE key >= ?1 ORDER BY key";
        let mut damaged = None;
        self.database.each(sql, params![prefix], |row| {
            let stored = Stored::read(row)?;
            if !stored.key.starts_with(prefix) {
                return Ok(false);
            }
            match self.row(stored) {
                Ok(row) => take(row),
                Err(error) => damaged = Some(error),
            }
            Ok(damaged.is_none())
        })?;
        damaged.map_or(Ok(()), Err)
    }

    fn row(&self, stored: Stored) -> Result<RunRow, Error> {
        let Stored { key, record, seconds } = stored;
        let record = self.decode(&key, &record)?;
        Ok(RunRow { key, record, seconds })
    }

    fn decode(&self, key: &str, text: &str) -> Result<Value, Error> {
        decode(&self.folder, key, text)
    }
}

/// A row before its JSON is parsed.
struct Stored {
    key: String,
    record: String,
    seconds: f64,
}

impl Stored {
    fn read(row: &Row<'_>) -> rusqlite::Result<Stored> {
        Ok(Stored { key: row.get(0)?, record: row.get(1)?, seconds: row.get(2)? })
    }
}

/// Makes the ledger of a run that begins; the caller holds the lock.
fn create(folder: &Path, file: &Path) -> Result<(), Error> {
    // A write-ahead log without its database would be replayed into the next one.
    let orphaned = |name: &String| name.starts_with("run.sqlite-");
    if let Some(log) = disk::names(folder)?.into_iter().find(orphaned) {
        return Err(Error::RunMissing { folder: folder.to_owned(), log });
    }
    Database::publish(folder, NEW_FILE, file, &FORMAT)
}

fn stored_record(writing: &Writing<'_>, key: &str) -> Result<Option<String>, Error> {
    let sql = "SELECT record FROM finished WHERE key = ?1";
    let found = writing
        .transaction
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(params![key], |row| row.get(0)).optional());
    found.map_err(|source| writing.failed(source))
}

/// Fails when the record that was found for a row is not the row's.
fn same(folder: &Path, row: &RunRow, found: &str) -> Result<(), Error> {
    match Difference::first(&decode(folder, &row.key, found)?, &row.record) {
        None => Ok(()),
        Some(difference) => {
            let (folder, key) = (folder.to_owned(), row.key.clone());
            Err(Error::OtherRow { folder, key, difference: Box::new(difference) })
        }
    }
}

fn decode(folder: &Path, key: &str, text: &str) -> Result<Value, Error> {
    let damaged = |source| Error::UnreadableRow { folder: folder.to_owned(), key: key.to_owned(), source };
    serde_json::from_str(text).map_err(damaged)
}

impl Difference {
    /// Where two documents part first: what is there in the order in which it is, then what is only here.
    fn first(there: &Value, here: &Value) -> Option<Difference> {
        differing("", Some(there), Some(here))
    }
}

fn differing(at: &str, there: Option<&Value>, here: Option<&Value>) -> Option<Difference> {
    match (there, here) {
        (Some(Value::Object(there)), Some(Value::Object(here))) => {
            let added = here.keys().filter(|name| !there.contains_key(*name));
            there.keys().chain(added).find_map(|name| {
                let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
                differing(&at, there.get(name), here.get(name))
            })
        }
        (Some(Value::Array(there)), Some(Value::Array(here))) => (0..there.len().max(here.len()))
            .find_map(|index| differing(&format!("{at}/{index}"), there.get(index), here.get(index))),
        _ => {
            // As text: 0.0 and -0.0 are equal, and not the same.
            let json = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            let (there, here) = (json(there), json(here));
            let parts = there != here;
            parts.then(|| Difference { pointer: at.to_owned(), there: cut(there), here: cut(here) })
        }
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SHOWN_CHARS_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}
