//! The SQLite files of this crate: how one is made, opened, recognised, asked and written.
//!
//! Write-ahead log with `synchronous = FULL`. With the log, a reader sees the last commit at once, whatever the
//! writer does: in a rollback journal a writer that is stopped during a commit shuts readers out, and after a
//! kill a reader must be able to write to roll back. FULL syncs the log at every commit; NORMAL, the usual
//! companion, may lose the last commits in a power cut, and what was reported as kept stays kept.
//! The price: a folder cannot be shared by two machines over a network file system (flock cannot promise that
//! either), and who may not write to the folder reads it with the log's files as the last writer left them, or
//! without any.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Params, Row, Transaction, TransactionBehavior};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk;
use crate::error::Error;
use crate::failpoints::{Step, reach};

/// How long to wait for another connection's lock. Only the moment in which the log of a killed writer is
/// recovered locks anybody out; ten seconds is far more than that takes on any disk.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a kind of file is.
pub(crate) struct Format {
    /// In an error: `FILE is not ...`.
    pub(crate) name: &'static str,
    /// Marks the file in `PRAGMA application_id`: four letters.
    pub(crate) application_id: i64,
    /// The format that this code writes, in `PRAGMA user_version`.
    pub(crate) version: i64,
    /// What a new file has.
    pub(crate) schema: &'static str,
}

/// An open file.
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
    format: &'static Format,
}

impl Database {
    /// Makes a new file whole in `folder` and renames it to `path`, so that a reader finds all of it or
    /// nothing. What a process that died while it did so has left is removed: all that begins with `name`.
    pub(crate) fn publish(
        folder: &Path,
        name: &str,
        path: &Path,
        format: &'static Format,
    ) -> Result<(), Error> {
        for left in disk::names(folder)?.iter().filter(|left| left.starts_with(name)) {
            disk::remove(&folder.join(left))?;
        }
        let new = folder.join(name);
        create(&new, format).map_err(|source| failed(&new, source))?;
        reach(Step::PublishLedger)?;
        disk::rename(&new, path)?;
        disk::sync_parent(path)
    }

    /// A new one in memory, which stands for a file that is not there yet.
    pub(crate) fn empty(path: &Path, format: &'static Format) -> Result<Database, Error> {
        let connection = Connection::open_in_memory().and_then(|connection| {
            write_schema(&connection, format)?;
            Ok(connection)
        });
        Database::opened(connection, path, format)
    }

    /// Opens for reading.
    pub(crate) fn read(path: &Path, format: &'static Format) -> Result<Database, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = Database::open(path, path, flags, format)?;
        match database.check_format() {
            Err(Error::Ledger { source, .. }) if needs_a_writable_folder(&source) => {
                let Some(uri) = immutable_uri(path) else { return Err(database.failed(source)) };
                let flags = flags | OpenFlags::SQLITE_OPEN_URI;
                let database = Database::open(Path::new(&uri), path, flags, format)?;
                database.check_format().map(|()| database)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(database),
        }
    }

    /// Opens for writing; the caller holds the folder's lock. Of a file that is there, [`Database::read`] comes
    /// first: closing a writer folds the log into the file, which would touch one that is not ours.
    pub(crate) fn write(path: &Path, format: &'static Format) -> Result<Database, Error> {
        let database = Database::open(path, path, OpenFlags::SQLITE_OPEN_READ_WRITE, format)?;
        database.check_format()?;
        let pragmas = "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA foreign_keys = ON;";
        database.connection.execute_batch(pragmas).map_err(|source| database.failed(source))?;
        Ok(database)
    }

    fn open(name: &Path, path: &Path, flags: OpenFlags, format: &'static Format) -> Result<Database, Error> {
        let connection = Connection::open_with_flags(name, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            Ok(connection)
        });
        Database::opened(connection, path, format)
    }

    fn opened(
        connection: rusqlite::Result<Connection>,
        path: &Path,
        format: &'static Format,
    ) -> Result<Database, Error> {
        match connection {
            Ok(connection) => Ok(Database { connection, path: path.to_owned(), format }),
            Err(source) => Err(failed(path, source)),
        }
    }

    fn check_format(&self) -> Result<(), Error> {
        let foreign = || Error::NotALedger { path: self.path.clone(), expected: self.format.name };
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (application, version) = match (pragma("application_id"), pragma("user_version")) {
            (Ok(application), Ok(version)) => (application, version),
            (Err(source), _) | (_, Err(source)) => {
                return Err(match source.sqlite_error_code() {
                    Some(ErrorCode::NotADatabase) => foreign(),
                    _ => self.failed(source),
                });
            }
        };
        if application != self.format.application_id || version < 1 {
            return Err(foreign());
        }
        let known = self.format.version;
        if version > known {
            return Err(Error::NewerLedger { path: self.path.clone(), found: version, known });
        }
        Ok(())
    }

    /// Asks on the last commit, however many questions there are.
    pub(crate) fn at_once<T>(&self, ask: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let _snapshot = self.connection.unchecked_transaction().map_err(|source| self.failed(source))?;
        ask()
    }

    /// All rows of an answer.
    pub(crate) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let mut rows = Vec::new();
        self.each(sql, params, |row| {
            rows.push(read(row)?);
            Ok(true)
        })?;
        Ok(rows)
    }

    /// The rows of an answer one by one, as long as `take` says so.
    pub(crate) fn each(
        &self,
        sql: &str,
        params: impl Params,
        mut take: impl FnMut(&Row<'_>) -> rusqlite::Result<bool>,
    ) -> Result<(), Error> {
        let done = self.connection.prepare_cached(sql).and_then(|mut statement| {
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                if !take(row)? {
                    break;
                }
            }
            Ok(())
        });
        done.map_err(|source| self.failed(source))
    }

    /// Runs `write` in a transaction: all of it is committed, or none.
    pub(crate) fn write_all<T>(
        &mut self,
        write: impl FnOnce(&Writing<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let failed = |source| failed(&self.path, source);
        // Immediate: what is checked and what is written see the same state.
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

    fn failed(&self, source: rusqlite::Error) -> Error {
        failed(&self.path, source)
    }
}

/// An open SQLite transaction.
pub(crate) struct Writing<'a> {
    pub(crate) transaction: Transaction<'a>,
    path: &'a Path,
}

impl Writing<'_> {
    /// The new row's number.
    pub(crate) fn insert(&self, sql: &str, params: impl Params) -> Result<i64, Error> {
        let inserted =
            self.transaction.prepare_cached(sql).and_then(|mut statement| statement.execute(params));
        inserted.map_err(|source| self.failed(source))?;
        Ok(self.transaction.last_insert_rowid())
    }

    pub(crate) fn failed(&self, source: rusqlite::Error) -> Error {
        failed(self.path, source)
    }
}

fn failed(path: &Path, source: rusqlite::Error) -> Error {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => Error::DamagedLedger { path, source },
        _ => Error::Ledger { path, source },
    }
}

/// A value as JSON that is known to read back: one bad row would make every later question fail.
pub(crate) fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Result<String, Error> {
    let unwritable = |source| Error::UnwritableRecord { source };
    let text = serde_json::to_string(value).map_err(unwritable)?;
    serde_json::from_str::<T>(&text).map_err(unwritable)?;
    Ok(text)
}

/// Makes a file that is complete when this returns, without a log beside it.
fn create(path: &Path, format: &Format) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    write_schema(&connection, format)?;
    // The last connection that closes moves the log into the file, and syncs it.
    connection.close().map_err(|(_, source)| source)
}

fn write_schema(connection: &Connection, format: &Format) -> rusqlite::Result<()> {
    let Format { application_id, version, schema, .. } = format;
    connection.execute_batch(&format!(
        "BEGIN; {schema} PRAGMA application_id = {application_id}; PRAGMA user_version = {version}; COMMIT;"
    ))
}

/// Whether SQLite gave up because it may not create the log's files: a folder on a read-only disk or of another
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
