//! Questions to a store. No lock is needed, and the answers are of the last commit.

use std::path::{Path, PathBuf};

use crate::adapter::{AdapterFiles, Manifest};
use crate::disk;
use crate::error::Error;
use crate::home::Home;
use crate::id::{ContentId, EntryId, GenerationId, numbered};
use crate::ledger::Ledger;
use crate::record::{Entry, Generation};

/// How many generations an error about a wrong name lists: enough to see what was meant, less than a screen.
const LISTED_MAX: u32 = 8;

/// A store that can be asked, and not changed. [`crate::Store::read_only`] opens one.
pub struct Reader {
    pub(crate) home: Home,
    pub(crate) ledger: Ledger,
}

impl Reader {
    /// The home folder.
    pub fn home(&self) -> &Path {
        self.home.root()
    }

    /// The last `limit` entries of the ledger, newest first.
    pub fn log(&self, limit: usize) -> Result<Vec<Entry>, Error> {
        self.ledger.log(limit)
    }

    /// An entry by its id.
    pub fn entry(&self, id: EntryId) -> Result<Entry, Error> {
        match self.ledger.entry(id)? {
            Some(entry) => Ok(entry),
            None => self.unknown_entry(&id.to_string()),
        }
    }

    /// An entry by what a person writes: `e12`.
    pub fn find_entry(&self, name: &str) -> Result<Entry, Error> {
        match numbered('e', name) {
            Some(number) => self.entry(EntryId(number)),
            None => self.unknown_entry(name),
        }
    }

    /// A generation by its id.
    pub fn generation(&self, id: GenerationId) -> Result<Generation, Error> {
        match self.ledger.generation(id)? {
            Some(generation) => Ok(generation),
            None => self.unknown_generation(&id.to_string()),
        }
    }

    /// A generation by what a person writes: `g3`, or the first digits of its adapter's content id.
    pub fn find_generation(&self, name: &str) -> Result<Generation, Error> {
        if let Some(number) = numbered('g', name) {
            return self.generation(GenerationId(number));
        }
        let is_prefix = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_prefix {
            return self.unknown_generation(name);
        }
        let mut matches = self.ledger.generations_by_prefix(&name.to_ascii_lowercase())?;
        match (matches.pop(), matches.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(oldest), false) => {
                matches.push(oldest);
                Err(Error::AmbiguousGeneration { name: name.to_owned(), matches })
            }
            (None, _) => self.unknown_generation(name),
        }
    }

    /// The generations that exist, newest first.
    pub fn generations(&self) -> Result<Vec<Generation>, Error> {
        self.ledger.newest_generations(u32::MAX)
    }

    /// What is active for a base model; `None` is the base model itself.
    pub fn active(&self, base_digest: &str) -> Result<Option<Generation>, Error> {
        self.ledger.active(base_digest)
    }

    /// What is active, one generation a base model that has one.
    pub fn actives(&self) -> Result<Vec<Generation>, Error> {
        self.ledger.actives()
    }

    /// The files of a kept adapter by name, each verified against what was kept. Files that were put beside
    /// them later are not among them.
    pub fn adapter_files(&self, adapter: &ContentId) -> Result<AdapterFiles, Error> {
        match self.ledger.manifest(adapter)? {
            Some(manifest) => read_adapter(&self.home.adapter(adapter), &manifest),
            None => Err(Error::UnknownAdapter { adapter: adapter.clone() }),
        }
    }

    /// Copies a generation's adapter to a new folder, or to an empty one; it is there whole or not at all.
    pub fn export(&self, generation: GenerationId, target: &Path) -> Result<Generation, Error> {
        let generation = self.generation(generation)?;
        let files = self.adapter_files(&generation.adapter)?;
        let taken = || Error::ExportTarget { path: target.to_owned() };
        let target = std::path::absolute(target).map_err(Error::io("find", target))?;
        let is_free = !target.exists() || (target.is_dir() && disk::names(&target)?.is_empty());
        let (Some(parent), Some(name), true) = (target.parent(), target.file_name(), is_free) else {
            return Err(taken());
        };
        let mut partial_name = std::ffi::OsString::from(".");
        partial_name.push(name);
        partial_name.push(".partial");
        let partial: PathBuf = parent.join(partial_name);
        disk::create_folder(parent)?;
        // What an export that was killed has left.
        disk::remove(&partial)?;
        disk::write_folder(&partial, &files)?;
        disk::rename(&partial, &target)?;
        disk::sync_folder(parent)?;
        Ok(generation)
    }

    fn unknown_entry<T>(&self, name: &str) -> Result<T, Error> {
        Err(Error::UnknownEntry { name: name.to_owned(), newest: self.ledger.newest_entry()? })
    }

    fn unknown_generation<T>(&self, name: &str) -> Result<T, Error> {
        let newest = self.ledger.newest_generations(LISTED_MAX)?;
        Err(Error::UnknownGeneration { name: name.to_owned(), newest })
    }
}

/// The files of a manifest, verified.
pub(crate) fn read_adapter(folder: &Path, manifest: &Manifest) -> Result<AdapterFiles, Error> {
    let read = |file: &crate::adapter::ManifestFile| {
        let bytes = disk::read(&folder.join(&file.name))?;
        manifest.verify(file, bytes.as_deref())?;
        Ok((file.name.clone(), bytes.unwrap_or_default()))
    };
    manifest.files.iter().map(read).collect()
}
