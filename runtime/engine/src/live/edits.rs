//! What is known of the self-edits of a live runtime.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use super::LiveError;
use super::core::Parked;
use super::trace::{GateScores, Scope, TraceEvent, Trigger};
use super::work::{Job, is_gone};

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

/// Edits that are remembered.
const REMEMBERED_MAX: usize = 256;

/// Every edit of a runtime, with its events.
#[derive(Default)]
pub(super) struct Edits {
    known: HashMap<String, Known>,
    order: VecDeque<String>,
    parked: Parked,
    /// Seconds that edits took, and how many.
    took: (f64, u32),
}

struct Known {
    status: EditStatus,
    events: Vec<TraceEvent>,
}

impl Edits {
    pub(super) fn enter(&mut self, status: EditStatus) {
        if self.order.len() >= REMEMBERED_MAX {
            let over = |id: &String| self.known.get(id).is_none_or(|known| known.status.state.is_over());
            if let Some(place) = self.order.iter().position(over)
                && let Some(oldest) = self.order.remove(place)
            {
                self.known.remove(&oldest);
            }
        }
        self.order.push_back(status.id.clone());
        self.known.insert(status.id.clone(), Known { status, events: Vec::new() });
    }

    pub(super) fn status(&self, id: &str) -> Result<EditStatus, LiveError> {
        let known = self.known.get(id).map(|known| known.status.clone());
        known.ok_or_else(|| LiveError::UnknownEdit { edit: id.to_owned() })
    }

    pub(super) fn events(&self, id: &str) -> Result<Vec<TraceEvent>, LiveError> {
        let known = self.known.get(id).map(|known| known.events.clone());
        known.ok_or_else(|| LiveError::UnknownEdit { edit: id.to_owned() })
    }

    /// Newest first.
    pub(super) fn all(&self) -> Vec<EditStatus> {
        self.order.iter().rev().filter_map(|id| self.status(id).ok()).collect()
    }

    pub(super) fn change(&mut self, id: &str, change: impl FnOnce(&mut EditStatus)) {
        if let Some(known) = self.known.get_mut(id) {
            change(&mut known.status);
        }
    }

    pub(super) fn add_event(&mut self, id: &str, event: TraceEvent) {
        if let Some(known) = self.known.get_mut(id) {
            known.events.push(event);
        }
    }

    pub(super) fn park(&mut self, job: Job, until_ms: i64) {
        self.change(&job.id, |status| status.state = EditState::AwaitingApproval);
        self.parked.push_back((until_ms, job));
    }

    /// Edits that wait for approval.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn unpark(&mut self, id: &str) -> Option<Job> {
        let place = self.parked.iter().position(|(_, job)| job.id == id)?;
        self.parked.remove(place).map(|(_, job)| job)
    }

    /// Edits that nobody can approve any more: their time is over, or the request that they were for has gone.
    pub(super) fn expired(&mut self, now_ms: i64) -> Vec<Job> {
        let is_over = |(until, job): &(i64, Job)| *until <= now_ms || is_gone(job);
        let (expired, left) = std::mem::take(&mut self.parked).into_iter().partition(is_over);
        self.parked = left;
        let expired: Parked = expired;
        expired.into_iter().map(|(_, job)| job).collect()
    }

    pub(super) fn took(&mut self, seconds: f64) {
        self.took.0 += seconds;
        self.took.1 += 1;
    }

    /// Mean seconds of an edit, once one has ended.
    pub(super) fn mean_seconds(&self) -> Option<f64> {
        let (seconds, count) = self.took;
        (count > 0).then(|| seconds / f64::from(count))
    }
}
