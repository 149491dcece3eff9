//! Why a live runtime says no.

use std::path::PathBuf;
use std::time::Duration;

use selkie_edit::Refused;

use crate::error::StepError;

/// An error of a live runtime.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The runtime has stopped, or is about to.
    #[error("the runtime is shutting down; no new work is taken")]
    Closed,
    /// There is no room now.
    #[error("{what} is full ({limit}); try again in {} s", retry_after.as_secs().max(1))]
    Busy {
        /// `the queue of self-edits` or `the queue of requests`.
        what: &'static str,
        /// How many it holds.
        limit: usize,
        /// When there may be room.
        retry_after: Duration,
    },
    /// The prompt, the settings or the grammar cannot be used.
    #[error("{0}")]
    Request(String),
    /// The self-edit was refused; nothing was trained.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Self-edits are not allowed here.
    #[error("self-edits are not allowed {by}")]
    Denied {
        /// `by the operator` or `by the request`.
        by: &'static str,
    },
    /// Nobody knows this edit.
    #[error("there is no self-edit `{edit}` in this runtime; the ledger has what was before")]
    UnknownEdit {
        /// What was asked for.
        edit: String,
    },
    /// It does not wait for approval.
    #[error("self-edit `{edit}` does not wait for approval")]
    NotWaiting {
        /// The edit.
        edit: String,
    },
    /// Nobody knows this adapter.
    #[error("there is no adapter `{name}`; the adapters are listed by `/v1/models`")]
    UnknownAdapter {
        /// What was asked for.
        name: String,
    },
    /// A name that an adapter cannot have.
    #[error("`{name}` cannot be an adapter's name: {reason}")]
    AdapterName {
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// A folder that is no adapter of this model.
    #[error("`{}` is no adapter of this model: {reason}", folder.display())]
    NotAnAdapter {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// Anything below: the model, a tool, the store.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl From<selkie_store::Error> for LiveError {
    fn from(error: selkie_store::Error) -> LiveError {
        LiveError::Step(error.into())
    }
}

impl From<selkie_learn::LearnError> for LiveError {
    fn from(error: selkie_learn::LearnError) -> LiveError {
        LiveError::Step(error.into())
    }
}
