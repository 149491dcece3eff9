//! The writer, and the stages of a change: begin, stage, keep or discard.

use std::ops::Deref;
use std::path::Path;

use crate::adapter::Manifest;
use crate::disk;
use crate::error::Error;
use crate::failpoints::{Step, is_dead, reach};
use crate::home::{Found, Home, Lock};
use crate::id::{ContentId, EntryId, GenerationId};
use crate::ledger::{Ledger, Place, Pointer, Unkept};
use crate::reader::{Reader, read_adapter};
use crate::record::{Generation, Record, Refusal, Rollback, Trial};

/// A store that this process alone may change. Everything that a [`Reader`] answers, it answers too.
pub struct Store {
    // Before the lock, so that the ledger is closed when the next writer comes.
    reader: Reader,
    _lock: Lock,
}

/// Where a rollback goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackTo {
    /// The parent of what is active.
    Parent,
    /// The base model itself.
    Base,
    /// This generation, older or newer.
    Generation(GenerationId),
}

impl Store {
    /// Opens a home for writing. Makes it where there is none, and removes what a writer that died has left:
    /// adapters of no generation and folders that were being written.
    pub fn open(home: impl AsRef<Path>) -> Result<Store, Error> {
        let home = Home::at(home.as_ref());
        if matches!(home.look()?, Found::Store) {
            // Before anything is made: a ledger that is not ours, or of a later version, is left as it is.
            drop(Ledger::read(&home.ledger())?);
        }
        disk::create_folder(home.root())?;
        let lock = home.lock()?;
        // Again: another process may have made the ledger before this one had the lock.
        let found = home.look()?;
        disk::create_folder(&home.staging())?;
        disk::create_folder(&home.adapters())?;
        if !matches!(found, Found::Store) {
            Ledger::publish(&home.staging(), NEW_LEDGER, &home.ledger())?;
        }
        let ledger = Ledger::write(&home.ledger())?;
        let store = Store { reader: Reader { home, ledger }, _lock: lock };
        store.remove_leftovers()?;
        Ok(store)
    }

    /// Opens a home for reading: never waits for a writer, and changes nothing. A home whose first writer
    /// died before there was a ledger is an empty one.
    pub fn read_only(home: impl AsRef<Path>) -> Result<Reader, Error> {
        let home = Home::at(home.as_ref());
        let ledger = match home.look()? {
            Found::Nothing => return Err(Error::NoStore { home: home.root().to_owned() }),
            Found::Unfinished => Ledger::empty(&home.ledger())?,
            Found::Store => Ledger::read(&home.ledger())?,
        };
        Ok(Reader { home, ledger })
    }

    /// Begins a change of what is active for a base model. There is one at a time, which the borrow sees to;
    /// [`Transaction::reader`] can be asked meanwhile.
    pub fn begin(&mut self, base_digest: &str) -> Result<Transaction<'_>, Error> {
        let parent = self.active(base_digest)?;
        Ok(Transaction { store: self, base_digest: base_digest.to_owned(), parent, pointer: Pointer::Moves })
    }

    /// Begins a change beside what is active: what is kept becomes a generation with this parent, and what is active
    /// stays. For what only some are to use.
    ///
    /// # Errors
    /// A parent that is not there or of another base model.
    pub fn begin_beside(
        &mut self,
        base_digest: &str,
        parent: Option<GenerationId>,
    ) -> Result<Transaction<'_>, Error> {
        let parent = parent.map(|id| self.of_base(id, base_digest)).transpose()?;
        let parent = parent.map(|id| self.generation(id)).transpose()?;
        Ok(Transaction { store: self, base_digest: base_digest.to_owned(), parent, pointer: Pointer::Stays })
    }

    /// Moves the active pointer of a base model by hand, as an entry of the ledger. Nothing is deleted, so it
    /// can be moved back.
    pub fn rollback(
        &mut self,
        base_digest: &str,
        to: RollbackTo,
        time_ms: i64,
    ) -> Result<(EntryId, Rollback), Error> {
        let active = self.active(base_digest)?;
        let to = match (to, &active) {
            (RollbackTo::Base, _) => None,
            (RollbackTo::Parent, Some(active)) => active.parent,
            (RollbackTo::Parent, None) => {
                return Err(Error::NothingToRollBack { base_digest: base_digest.to_owned() });
            }
            (RollbackTo::Generation(id), _) => Some(self.of_base(id, base_digest)?),
        };
        let from = active.map(|generation| generation.id);
        if from == to {
            return Err(Error::AlreadyActive { generation: to });
        }
        let rollback = Rollback { time_ms, from, to };
        let entry = self.reader.ledger.add_rollback(base_digest, &rollback)?;
        Ok((entry, rollback))
    }

    fn of_base(&self, id: GenerationId, base_digest: &str) -> Result<GenerationId, Error> {
        let generation = self.generation(id)?;
        if generation.base_digest == base_digest {
            return Ok(id);
        }
        let asked = base_digest.to_owned();
        Err(Error::OtherBase { generation: id, of: generation.base_digest, asked })
    }

    /// Only what this crate names is removed: a file that a person put there stays.
    fn remove_leftovers(&self) -> Result<(), Error> {
        let home = &self.reader.home;
        for name in disk::names(&home.staging())? {
            if ContentId::parse(&name).is_some() || name.starts_with(NEW_LEDGER) {
                disk::remove(&home.staging().join(name))?;
            }
        }
        for id in disk::names(&home.adapters())?.iter().filter_map(|name| ContentId::parse(name)) {
            self.remove_unused(&id)?;
        }
        Ok(())
    }

    fn remove_unused(&self, adapter: &ContentId) -> Result<(), Error> {
        if self.reader.ledger.uses(adapter)? {
            return Ok(());
        }
        disk::remove(&self.reader.home.adapter(adapter))
    }
}

/// The name of a ledger that is being made, under `staging/`; SQLite's log lies beside it.
const NEW_LEDGER: &str = "ledger.sqlite";

impl Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

/// A change that has begun: it knows what it will replace. Dropping it changes nothing.
#[must_use = "a transaction does nothing until an adapter is staged or the edit is refused"]
pub struct Transaction<'a> {
    store: &'a mut Store,
    base_digest: String,
    parent: Option<Generation>,
    pointer: Pointer,
}

impl<'a> Transaction<'a> {
    /// What is active and would be the parent; `None` is the base model itself.
    pub fn parent(&self) -> Option<&Generation> {
        self.parent.as_ref()
    }

    /// The store, for questions.
    pub fn reader(&self) -> &Reader {
        self.store
    }

    /// Puts a trained adapter on the disk, all of it synced, where no generation has it yet.
    pub fn stage(self, files: &[(String, Vec<u8>)]) -> Result<Candidate<'a>, Error> {
        let manifest = Manifest::of(files)?;
        let Transaction { store, base_digest, parent, pointer } = self;
        let place = Place { base_digest, parent: parent.map(|generation| generation.id), pointer };
        // Before the first byte is written, so that a failure below removes what there is.
        let candidate = Candidate { store, place, manifest };
        candidate.write(files)?;
        Ok(candidate)
    }

    /// Ends with an edit that came to no adapter.
    pub fn refuse(self, record: &Record, refusal: &Refusal) -> Result<EntryId, Error> {
        let parent = self.parent.map(|generation| generation.id);
        let place = Place { base_digest: self.base_digest, parent, pointer: self.pointer };
        let ledger = &mut self.store.reader.ledger;
        ledger.add_unkept(&place, record, &Unkept::Refused(refusal))
    }
}

/// An adapter on the disk that no generation has. Dropping it removes it.
#[must_use = "a candidate is removed unless it is kept"]
pub struct Candidate<'a> {
    store: &'a mut Store,
    place: Place,
    manifest: Manifest,
}

impl Candidate<'_> {
    /// The adapter's content id.
    pub fn adapter(&self) -> &ContentId {
        &self.manifest.id
    }

    /// Makes it a generation, and the active one unless the change is [beside](Store::begin_beside) it.
    pub fn keep(self, record: &Record, trial: &Trial) -> Result<Generation, Error> {
        let ledger = &mut self.store.reader.ledger;
        ledger.add_kept(&self.place, &self.manifest, record, trial)
    }

    /// Removes it, and writes down that it was tried.
    pub fn discard(self, record: &Record, trial: &Trial) -> Result<EntryId, Error> {
        let ledger = &mut self.store.reader.ledger;
        let outcome = Unkept::Discarded(&self.manifest.id, trial);
        ledger.add_unkept(&self.place, record, &outcome)
    }

    fn write(&self, files: &[(String, Vec<u8>)]) -> Result<(), Error> {
        let reader = &self.store.reader;
        let (staged, adapter) = (reader.home.staged(self.adapter()), reader.home.adapter(self.adapter()));
        if reader.ledger.uses(self.adapter())? {
            // The same bytes were kept before, and are not written again; but they will be loaded.
            return read_adapter(&adapter, &self.manifest).map(drop);
        }
        // What a failure in this process may have left, when its clean-up failed too.
        disk::remove(&staged)?;
        disk::remove(&adapter)?;
        disk::write_folder(&staged, files)?;
        reach(Step::PublishAdapter)?;
        disk::rename(&staged, &adapter)?;
        reach(Step::SyncAdapters)?;
        disk::sync_folder(&reader.home.adapters())
    }
}

impl Drop for Candidate<'_> {
    fn drop(&mut self) {
        if is_dead() {
            return;
        }
        // Asks the ledger rather than a flag: a commit that reported an error may have happened. Errors are
        // not told, because the next open does the same again.
        let _ = disk::remove(&self.store.reader.home.staged(&self.manifest.id));
        let _ = self.store.remove_unused(&self.manifest.id);
    }
}
