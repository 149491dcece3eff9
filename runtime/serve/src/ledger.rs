//! `/v1/ledger`: what was tried, newest first.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use schemars::JsonSchema;
use selkie_edit::Verdict;
use selkie_store::{Entry, Episode, Error, Event, Outcome, Reader, Store};
use serde::{Deserialize, Serialize};

use crate::api_error::{ApiError, rejected};
use crate::app::App;

/// Entries of one answer at most: each is read whole.
const ENTRIES_MAX: usize = 1000;

/// How much of the ledger.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LedgerQuery {
    /// At most so many entries, and at most 1000.
    #[serde(default = "fifty")]
    limit: usize,
}

fn fifty() -> usize {
    50
}

/// The ledger's newest entries.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Ledger {
    /// The active generation of each base model that has one.
    active: Vec<ActiveGeneration>,
    /// Newest first.
    entries: Vec<LedgerEntry>,
}

/// An active generation.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ActiveGeneration {
    /// SHA-256 of the base model.
    base: String,
    /// Its name.
    generation: String,
    /// Content id of its adapter.
    adapter: String,
}

/// An entry, in short.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct LedgerEntry {
    /// Its name, such as `e12`.
    id: String,
    /// When, in milliseconds since 1970.
    time_ms: i64,
    /// SHA-256 of the base model.
    base: String,
    /// `episode` or `rollback`.
    event: &'static str,
    /// Of a rollback: what was active; null is the base model.
    from: Option<String>,
    /// Of a rollback: what is active since; null is the base model.
    to: Option<String>,
    /// Of an episode: the puzzle's id or the passage's title.
    task: Option<String>,
    /// What was active; null is the base model.
    parent: Option<String>,
    /// Null where the edit was refused.
    verdict: Option<Verdict>,
    /// Why it was refused, where it was.
    reason: Option<String>,
    /// The new generation, where it was kept.
    generation: Option<String>,
    /// Content id of the new generation's adapter.
    adapter: Option<String>,
    /// The share of items solved before, 0 to 1.
    before: Option<f64>,
    /// The share of items solved by the candidate.
    after: Option<f64>,
}

impl From<&Entry> for LedgerEntry {
    fn from(entry: &Entry) -> LedgerEntry {
        let head = LedgerEntry {
            id: entry.id.to_string(),
            time_ms: entry.time_ms(),
            base: entry.base_digest.clone(),
            ..LedgerEntry::default()
        };
        match &entry.event {
            Event::Rollback(rollback) => LedgerEntry {
                event: "rollback",
                from: rollback.from.map(|id| id.to_string()),
                to: rollback.to.map(|id| id.to_string()),
                ..head
            },
            Event::Episode(episode) => of_episode(head, episode),
        }
    }
}

fn of_episode(head: LedgerEntry, episode: &Episode) -> LedgerEntry {
    let trial = episode.outcome.trial();
    let entry = LedgerEntry {
        event: "episode",
        task: Some(episode.record.context.name.clone()),
        parent: episode.parent.map(|id| id.to_string()),
        verdict: episode.outcome.verdict(),
        before: trial.map(|trial| trial.before.score),
        after: trial.map(|trial| trial.after.score),
        ..head
    };
    match &episode.outcome {
        Outcome::Kept { generation, adapter, .. } => LedgerEntry {
            generation: Some(generation.to_string()),
            adapter: Some(adapter.as_str().to_owned()),
            ..entry
        },
        Outcome::Discarded { .. } => entry,
        Outcome::Refused(refusal) => LedgerEntry { reason: Some(refusal.reason.clone()), ..entry },
    }
}

/// `GET /v1/ledger`.
pub(crate) async fn ledger(
    State(app): State<App>,
    query: Result<Query<LedgerQuery>, QueryRejection>,
) -> Result<Json<Ledger>, ApiError> {
    let Query(query) = query.map_err(|error| rejected(&error))?;
    app.blocking(move |app| match Store::read_only(&app.live().options().home) {
        Ok(reader) => Ok(Json(read(&reader, query.limit.min(ENTRIES_MAX))?)),
        // Nothing was tried yet.
        Err(Error::NoStore { .. }) => Ok(Json(Ledger::default())),
        Err(error) => Err(selkie_engine::live::LiveError::from(error).into()),
    })
    .await
}

fn read(reader: &Reader, limit: usize) -> Result<Ledger, ApiError> {
    let of_store = |error| ApiError::from(selkie_engine::live::LiveError::from(error));
    let active = reader.actives().map_err(of_store)?.into_iter().map(|active| ActiveGeneration {
        base: active.base_digest,
        generation: active.id.to_string(),
        adapter: active.adapter.as_str().to_owned(),
    });
    let active = active.collect();
    let entries = reader.log(limit).map_err(of_store)?.iter().map(LedgerEntry::from).collect();
    Ok(Ledger { active, entries })
}
