//! What is known of the self-edits of a live runtime.

use serde::Serialize;

use super::trace::{GateScores, Scope, Trigger};

/// Where an edit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EditState {
    /// Somebody must say whether it may run.
    AwaitingApproval,
    /// It waits for its turn.
    Queued,
    /// It runs.
    Running,
    /// It ended: the candidate is a generation.
    Kept,
    /// It ended: the gate said no.
    Discarded,
    /// It ended before anything was trained.
    Refused,
    /// It ended by a failure that is not the edit's.
    Failed,
}

impl EditState {
    /// Whether nothing more will happen.
    pub fn is_over(self) -> bool {
        !matches!(self, EditState::AwaitingApproval | EditState::Queued | EditState::Running)
    }
}

/// What is known of one edit.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct EditStatus {
    /// Its id in this runtime, such as `edit-7`.
    pub id: String,
    /// Where it is.
    pub state: EditState,
    /// When it was proposed, in milliseconds since 1970.
    pub time_ms: i64,
    /// The request in the middle of which it was proposed, if any.
    pub request: Option<String>,
    /// What asked for it.
    pub trigger: Trigger,
    /// For whom it is.
    pub scope: Scope,
    /// The puzzle's id or the passage's title.
    pub context: String,
    /// The self-edit as written; none until the model has written it.
    pub text: Option<String>,
    /// Steps done and to do.
    pub steps: (u64, u64),
    /// Loss (nats a token) of each step so far; null where it was not finite.
    pub losses: Vec<Option<f32>>,
    /// The model before.
    pub before: Option<GateScores>,
    /// The candidate.
    pub after: Option<GateScores>,
    /// Why it ended as it did, in one sentence.
    pub reason: Option<String>,
    /// The new generation, where it was kept.
    pub generation: Option<String>,
    /// The entry of the ledger, such as `e12`, once it has one.
    pub entry: Option<String>,
}
