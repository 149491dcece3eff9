//! What the tools answer.

use schemars::JsonSchema;
use selkie_edit::{Answer, Domain, Problem, ToolKind};
use selkie_engine::live::{AdapterCard, GateScores, Permission};
use serde::Serialize;
use serde_json::{Map, Value};

/// `self_edit_schema`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HowTo {
    /// What the self-edit is for.
    pub(super) domain: Domain,
    /// JSON Schema of a self-edit, with the loaded tools.
    pub(super) schema: Map<String, Value>,
    /// The same in words.
    pub(super) in_words: String,
    /// What the operator lets one call of `apply_self_edit` use.
    pub(super) budget: BudgetLimits,
    /// Whether the operator lets self-edits run: at once (`allow`), after a person said yes (`ask`), or not (`deny`).
    /// No tool changes it.
    pub(super) self_edits: Permission,
}

/// A budget as it is told.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BudgetLimits {
    /// Optimiser steps.
    pub(super) steps: u64,
    /// Tokens that training processes, over all epochs.
    pub(super) tokens: u64,
    /// Seconds of training.
    pub(super) seconds: f64,
}

/// `check_self_edit`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Checked {
    /// Whether it would be accepted.
    pub(super) valid: bool,
    /// Every problem; empty for a valid edit.
    pub(super) problems: Vec<Problem>,
    /// What a valid edit says, defaults filled in.
    pub(super) edit: Option<Understood>,
}

/// A valid self-edit in short.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Understood {
    /// The form that it was written in.
    pub(super) form: selkie_edit::Dialect,
    /// The tools that it uses, each a chain of one or more.
    pub(super) tools: Vec<Vec<String>>,
    /// Documents that it brings.
    pub(super) documents: usize,
    /// Passes over the training set.
    pub(super) epochs: u32,
    /// The highest learning rate.
    pub(super) learning_rate: f64,
}

/// What came of `apply_self_edit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It helped: the result is active.
    Kept,
    /// It did not help: nothing changed.
    Discarded,
    /// It was not run: repair what `problems` says and call again, or see `reason`.
    Refused,
    /// There is no room now: call again after `retry_after_seconds`.
    Busy,
    /// The operator does not allow self-edits.
    Denied,
    /// Something else went wrong: nothing changed.
    Failed,
}

/// `apply_self_edit`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Applied {
    /// What came of it.
    pub(super) verdict: Outcome,
    /// Why, in one sentence.
    pub(super) reason: String,
    /// Every problem of the edit, where it was refused for what it says.
    pub(super) problems: Vec<Problem>,
    /// When there may be room, where there was none.
    pub(super) retry_after_seconds: Option<u64>,
    /// The new generation, where the edit was kept.
    pub(super) generation: Option<String>,
    /// The adapter that is active for everybody now.
    pub(super) active: String,
    /// The edit's entry in the log.
    pub(super) entry: Option<String>,
    /// The edit as it was written.
    pub(super) edit: Option<String>,
    /// Optimiser steps that were made.
    pub(super) steps: u64,
    /// Loss (nats a token) of the first step and the last.
    pub(super) loss: Option<(Option<f32>, Option<f32>)>,
    /// The model before.
    pub(super) before: Option<GateScores>,
    /// The candidate.
    pub(super) after: Option<GateScores>,
}

/// `list_tools`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ToolList {
    /// The tools that a self-edit for this kind of context may name.
    pub(super) tools: Vec<Usable>,
    /// What one call of a tool may use.
    pub(super) limits: CallLimits,
}

/// A tool of a plugin.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Usable {
    /// What a self-edit calls it by.
    pub(super) name: String,
    /// What it does.
    pub(super) summary: String,
    /// What it works on.
    pub(super) kind: ToolKind,
    /// JSON Schema of its parameters.
    pub(super) parameters: Value,
    /// The plugin that it comes from.
    pub(super) plugin: String,
    /// The plugin's version.
    pub(super) version: String,
}

/// Limits of one call.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CallLimits {
    /// Instructions, nearly.
    pub(super) fuel: u64,
    /// Wall-clock seconds.
    pub(super) seconds: f64,
    /// Bytes of memory.
    pub(super) memory_bytes: usize,
    /// Tasks or documents that it may answer.
    pub(super) items: usize,
}

/// `score`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Scored {
    /// The adapter that was measured.
    pub(super) adapter: String,
    /// Of a completion.
    pub(super) completion: Option<Likelihood>,
    /// Of a context: one entry a test or question.
    pub(super) items: Option<Vec<Item>>,
}

/// How probable a completion is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Likelihood {
    /// Sum over its tokens (nats), its end included.
    pub(super) log_prob: f64,
    /// The mean of a token.
    pub(super) log_prob_per_token: f64,
    /// Its tokens, with the end.
    pub(super) tokens: usize,
    /// Whether greedy decoding gives exactly this.
    pub(super) greedy: bool,
}

/// One test or question.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Item {
    /// The question, or `test 0`.
    pub(super) item: String,
    /// Whether the answer is exactly what was expected.
    pub(super) solved: bool,
    /// Mean log-probability (nats a token) of the expected answer.
    pub(super) log_prob_per_token: f64,
    /// What the model says: rows of a grid, or text.
    pub(super) answer: Value,
}

/// `generate`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Generated {
    /// The answer. A puzzle's is a grid as JSON rows, where it is one.
    pub(super) text: String,
    /// Why it ended: `stop` or `length`.
    pub(super) finish_reason: String,
    /// The adapter that answered.
    pub(super) adapter: String,
    /// Tokens of the prompt.
    pub(super) prompt_tokens: usize,
    /// Tokens of the answer.
    pub(super) tokens: usize,
}

/// `log`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Log {
    /// The adapter that is active for everybody: `base` or a generation.
    pub(super) active: String,
    /// What was tried, newest first.
    pub(super) entries: Vec<Entry>,
    /// The adapters that requests may name.
    pub(super) adapters: Vec<AdapterCard>,
}

/// An entry of the ledger in short.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Entry {
    /// Its name.
    pub(super) id: String,
    /// When, in milliseconds since 1970.
    pub(super) time_ms: i64,
    /// `kept`, `discarded`, `refused` or `rollback`.
    pub(super) what: &'static str,
    /// The puzzle's id or the passage's title.
    pub(super) context: Option<String>,
    /// The generation that an edit made or a rollback went to; none is the base model or nothing.
    pub(super) generation: Option<String>,
    /// The share of items solved before the edit, 0 to 1.
    pub(super) score_before: Option<f64>,
    /// The same with the candidate.
    pub(super) score_after: Option<f64>,
    /// Why a refused edit was refused.
    pub(super) reason: Option<String>,
}

/// `rollback`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RolledBack {
    /// What was active before.
    pub(super) was: String,
    /// What is active now: `base` or a generation.
    pub(super) active: String,
}

/// An answer as JSON: rows of a grid, or text.
pub(super) fn answer(answer: &Answer) -> Value {
    match answer {
        Answer::Grid(grid) => grid.rows().map(<[u8]>::to_vec).collect(),
        Answer::Text(text) => text.trim().into(),
    }
}
