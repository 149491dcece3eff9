//! Generations of adapters and the ledger: the only crate that writes state.
//!
//! Weights change as transactions. [`Store::begin`] pins what is active; [`Transaction::stage`] puts a trained
//! adapter on the disk, synced, where nothing refers to it; [`Candidate::keep`] is one SQLite transaction that
//! writes the ledger row, the generation and the active pointer together. A process that dies anywhere leaves
//! the old generation active or the new one, whole. Rolling back moves the pointer and is a ledger row itself;
//! nothing that was kept is ever deleted.
//!
//! A home folder:
//!
//! ```text
//! lock             flock held by the one writer; the system drops it when the process dies
//! ledger.sqlite    episodes, generations, the active generation of each base model
//! adapters/<id>/   one PEFT folder an adapter, named by its content
//! staging/         folders that are being written
//! ```
//!
//! A run (of the outer loop) has a folder of its own with a [`RunLedger`]: what it was begun with and what it has
//! finished, in `run.sqlite`, so that it can be killed at any point and go on. Its rows are only ever added.
//!
//! Reading ([`Store::read_only`], [`RunLedger::read_only`]) takes no lock. Not here: what an adapter's files mean, clocks, scores,
//! decisions. The caller brings them; the store keeps them.

mod adapter;
mod disk;
mod error;
pub mod failpoints;
mod home;
mod id;
mod ledger;
mod reader;
mod record;
mod run;
mod sqlite;
mod store;
#[cfg(test)]
mod tests;

pub use adapter::AdapterFiles;
pub use error::{Damage, Difference, Error};
pub use id::{ContentId, EntryId, GenerationId};
pub use reader::Reader;
pub use record::{
    ContextRecord, EditRecord, Entry, Episode, Event, Generation, Item, Outcome, Record, Refusal, Rollback,
    Scores, ToolRecord, TrainingRecord, Trial,
};
pub use run::{RunLedger, RunRow};
pub use store::{Candidate, RollbackTo, Store, Transaction};
