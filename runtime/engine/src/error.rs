//! What can stop a step: one variant a stage.

use selkie_edit::{ContextError, ExpandError, Problem, Refused, SchemaError};
use selkie_learn::{DatasetError, LearnError};
use selkie_tools::ToolError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The self-edit was refused; nothing was trained.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The model wrote no valid self-edit in as many tries as it has.
    #[error("the model wrote no valid self-edit in {attempts} tries; the last one: {last}")]
    NoValidEdit {
        /// How often it tried.
        attempts: u32,
        /// What was wrong with the last.
        last: Refused,
    },
    /// A plugin failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Loading, rendering, training or measuring failed.
    #[error(transparent)]
    Learn(#[from] LearnError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] selkie_store::Error),
    /// The context is not one.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A loaded tool's schema cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// Adapters on top of each other have reached the largest rank.
    #[error("the active adapter has rank {active} and this edit adds {added}; the limit is {limit}")]
    StackTooHigh {
        /// Rank of the active adapter.
        active: usize,
        /// Rank that the edit asks for.
        added: usize,
        /// The limit.
        limit: usize,
    },
    /// The edit asks for more than it may use; nothing was kept.
    #[error(
        "the self-edit asks for {asked:.0} {what} of training; the budget has {allowed:.0} left: ask for fewer epochs, less data or a larger batch"
    )]
    OverBudget {
        /// `steps`, `tokens` or `seconds`.
        what: &'static str,
        /// What it asks for.
        asked: f64,
        /// What is left.
        allowed: f64,
    },
    /// Somebody ended it before it was done.
    #[error("the self-edit was abandoned before it was done")]
    Abandoned,
    /// A replay of what cannot be replayed.
    #[error("{entry} cannot be replayed: {reason}")]
    NotReplayable {
        /// The ledger entry.
        entry: String,
        /// Why.
        reason: String,
    },
}

impl From<DatasetError> for StepError {
    fn from(error: DatasetError) -> StepError {
        match error {
            DatasetError::Refused(problem) => StepError::from(problem),
            DatasetError::Learn(error) => StepError::Learn(error),
        }
    }
}

impl From<ExpandError<ToolError>> for StepError {
    fn from(error: ExpandError<ToolError>) -> StepError {
        match error {
            ExpandError::Run(error) => StepError::Tool(error),
            ExpandError::Refused(problem) => StepError::from(problem),
        }
    }
}

impl From<Problem> for StepError {
    fn from(problem: Problem) -> StepError {
        StepError::Refused(Refused::from(problem))
    }
}
