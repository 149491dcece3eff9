//! The outer loop: a model learns to write better self-edits (ReST-EM, as SEAL has it). Read [`run`] first.
//!
//! Self-edits are drawn for every training context, each is tried in an inner loop of its own, and the next policy
//! imitates those that helped. Policies are compared on contexts that nothing is chosen by. Everything that is
//! finished is a row of the run's ledger; a run that is killed goes on from there, to the same end.
//!
//! Not here: how an edit is carried out (`engine`), a terminal, the time of day.

mod compare;
mod episode;
mod error;
pub mod given;
mod inner;
//pub mod judge;
mod policy;
pub mod presets;
pub mod report;
pub mod reward;
mod run;
pub mod settings;
pub mod subject;
mod summarise;
pub mod summary;
mod trial;
mod vote;
pub mod world;

pub use episode::{Episode, Outcome};
pub use error::OuterError;
pub use policy::{PolicyRecord, policy_digest};
pub use run::{Event, run};
pub use settings::Settings;
pub use subject::{Contexts, Subject, Watched};
pub use summarise::{metrics, settings_of, summarise};
pub use summary::Summary;
