//! What can stop a run: one variant a cause.

use std::path::PathBuf;

use selkie_engine::StepError;
use selkie_learn::LearnError;

/// An error of a run. What was finished is in its ledger; the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum OuterError {
    /// A stage of an inner loop failed for another reason than the edit.
    #[error(transparent)]
    Step(#[from] StepError),
    /// Drawing, training or measuring failed.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// The ledger of the run failed.
    #[error(transparent)]
    Store(#[from] selkie_store::Error),
    /// A row of the ledger is not what this version writes.
    #[error("row `{key}` of the run's ledger cannot be read: {reason}; use a new folder")]
    Row {
        /// The row.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the run cannot be written.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The settings ask for what cannot be done.
    #[error("{0}")]
    Settings(String),
}
