//! A home folder: where things are, whether a folder may become a home, and who may write to it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::disk;
use crate::error::Error;
use crate::id::ContentId;

/// Paths of a home.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    root: PathBuf,
}

/// What is at a home's path, before anything is written.
pub(crate) enum Found {
    /// A ledger.
    Store,
    /// No folder.
    Nothing,
    /// An empty folder, or one whose first writer died before it had a ledger.
    Unfinished,
}

impl Home {
    pub(crate) fn at(root: &Path) -> Home {
        Home { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger.sqlite")
    }

    pub(crate) fn adapters(&self) -> PathBuf {
        self.root.join("adapters")
    }

    pub(crate) fn adapter(&self, id: &ContentId) -> PathBuf {
        self.adapters().join(id.as_str())
    }

    pub(crate) fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(crate) fn staged(&self, id: &ContentId) -> PathBuf {
        self.staging().join(id.as_str())
    }

    /// Looks without touching. The check matters because a writer removes leftovers: a folder that is not
    /// ours, or whose ledger was lost, must be refused before that.
    pub(crate) fn look(&self) -> Result<Found, Error> {
        match self.survey() {
            // The first writer may have made its ledger and more between two looks.
            Err(Error::ForeignFolder { .. } | Error::LedgerMissing { .. }) if self.ledger().exists() => {
                Ok(Found::Store)
            }
            found => found,
        }
    }

    fn survey(&self) -> Result<Found, Error> {
        match fs::metadata(&self.root) {
            Ok(found) if !found.is_dir() => return Err(Error::NotAFolder { path: self.root.clone() }),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Found::Nothing);
            }
            Err(error) => return Err(Error::io("look at", &self.root)(error)),
        }
        if self.ledger().exists() {
            return Ok(Found::Store);
        }
        let names = disk::names(&self.root)?;
        let ours = |name: &str| {
            matches!(name, "lock" | "adapters" | "staging") || name.starts_with("ledger.sqlite-")
        };
        // The lock file comes first, so a folder with the others alone is somebody else's.
        let locked_once = names.iter().any(|name| name == "lock");
        if let Some(found) = names.iter().find(|name| !(locked_once && ours(name))) {
            return Err(Error::ForeignFolder { home: self.root.clone(), found: found.clone() });
        }
        // A write-ahead log without its database would be replayed into the next one.
        let orphaned_log = names.iter().any(|name| name.starts_with("ledger.sqlite-"));
        if orphaned_log || !disk::names(&self.adapters())?.is_empty() {
            return Err(Error::LedgerMissing { home: self.root.clone() });
        }
        Ok(Found::Unfinished)
    }

    /// Makes this process the one writer.
    pub(crate) fn lock(&self) -> Result<Lock, Error> {
        Lock::take(&self.root.join("lock"), || Error::Locked { home: self.root.clone() })
    }
}

/// The right to write to a home, or to a run. The file stays when it is released: removing it would let a third process
/// lock a new file while a second one holds the old.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock without waiting; `held` is the error when another process has it.
    pub(crate) fn take(path: &Path, held: impl FnOnce() -> Error) -> Result<Lock, Error> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(Error::io("open", path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { file }),
            Err(TryLockError::WouldBlock) => Err(held()),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", path)(source)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, were it not for a child that another thread has forked and that has not reached
        // its exec: it shares the open file, and the lock with it. If this fails, closing is what is left.
        let _ = self.file.unlock();
    }
}
