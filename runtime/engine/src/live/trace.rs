//! What is told of a live runtime: typed events, as a stream, as lines of JSON, and as server-sent events.

use selkie_edit::Problem;
use serde::Serialize;

/// One thing that happened. Numbers of one runtime rise; no two events share one.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[schemars(title = "Selkie trace event, version 1")]
pub struct TraceEvent {
    /// Its number, from 1.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// The request that it belongs to, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The self-edit that it belongs to, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub what: Happened,
}

/// What can happen, in about this order.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happened {
    /// A request began to generate.
    Started {
        /// The adapter it began with: `base`, `g3`, or a loaded adapter's name.
        adapter: String,
        /// Tokens of its prompt.
        prompt_tokens: usize,
    },
    /// A token was chosen.
    Token {
        /// The token's id.
        id: u32,
        /// Its text. A character that needs several tokens comes with the last of them.
        text: String,
        /// The model's log-probability of it (nats); null where a grammar forced it.
        log_prob: Option<f32>,
    },
    /// Something asked for a self-edit.
    Triggered {
        /// What it was.
        trigger: Trigger,
        /// In one sentence.
        why: String,
    },
    /// A self-edit stands as text.
    Proposed {
        /// The text, as written.
        text: String,
        /// Which try of the model, from 1; 1 for an edit that was given.
        attempt: u32,
    },
    /// A person or a program must say whether the edit may run.
    AwaitingApproval,
    /// It may.
    Approved,
    /// The edit was refused, and nothing was trained.
    Refused {
        /// Every problem of the edit, where it is the edit.
        problems: Vec<Problem>,
        /// What the model reads: short, with what to do.
        message: String,
    },
    /// The edit waits for its turn.
    Queued {
        /// Edits before it.
        ahead: usize,
    },
    /// A tool ran.
    ToolRan {
        /// Full name.
        tool: String,
        /// Batches it was called with.
        calls: u64,
        /// Items it returned.
        items: u64,
        /// Fuel it used.
        fuel: u64,
    },
    /// The training set stands.
    Dataset {
        /// Sequences.
        examples: usize,
        /// Tokens of one epoch.
        tokens: usize,
        /// Optimiser steps to come.
        steps: u64,
    },
    /// The model or the candidate was measured.
    Evaluated {
        /// Before training or after it.
        when: When,
        /// What was found.
        scores: GateScores,
    },
    /// One optimiser step.
    TrainingStep {
        /// From 0.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Mean loss (nats a token) before the update; null when it is not finite.
        loss: Option<f32>,
        /// The learning rate used.
        learning_rate: f64,
    },
    /// The candidate was kept.
    Kept {
        /// The new generation, such as `g4`.
        generation: String,
        /// What it was trained on top of: `base` or a generation.
        parent: String,
        /// For whom it is active.
        scope: Scope,
        /// Why, in one sentence.
        reason: String,
    },
    /// The candidate was discarded; what was active still is.
    RolledBack {
        /// Why, in one sentence.
        reason: String,
    },
    /// The edit ended by a failure that is not the edit's; what was active still is.
    Failed {
        /// What happened.
        message: String,
    },
    /// The request goes on.
    Resumed {
        /// The adapter from here on: `base`, `g3`, or a loaded adapter's name.
        adapter: String,
        /// What became of the keys and values.
        kv: Kv,
        /// Tokens that were computed anew.
        recomputed: usize,
        /// Seconds that the request stood still.
        paused_seconds: f64,
    },
    /// The request ended.
    Ended {
        /// `stop`, `length`, `complete` (a grammar's end), `cancelled` or `failed`.
        reason: String,
        /// Tokens that were generated.
        tokens: usize,
    },
    /// Somebody moved the active pointer.
    Moved {
        /// What is active now: `base` or a generation.
        to: String,
    },
}

/// Before training or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// The model as it was.
    Before,
    /// The candidate.
    After,
}

/// What the gate looks at.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct GateScores {
    /// What was measured: `tests`, `questions`, `held_out_example` or `text`.
    pub measured: String,
    /// Items answered exactly.
    pub solved: usize,
    /// Items.
    pub items: usize,
    /// Mean log-probability (nats a token) of the expected answers; null when it is not finite.
    pub log_prob: Option<f64>,
    /// What the model says, one entry an item: rows of a grid, or text; with what was expected.
    pub answers: Vec<Answered>,
}

/// One item of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
pub struct Answered {
    /// The question, or `test 0`.
    pub item: String,
    /// Whether it is exact.
    pub solved: bool,
    /// What the model says.
    pub prediction: serde_json::Value,
    /// What was expected.
    pub expected: serde_json::Value,
    /// A puzzle's input grid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
}

/// What can ask for a self-edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The model wrote its marker, or called the tool `self_edit`.
    Model,
    /// The mean log-probability of the last tokens was low.
    LowConfidence,
    /// The model does not give the answers that its context shows.
    FailedGrader,
    /// A document came that the model has not seen.
    Document,
    /// Somebody called for it.
    Call,
}

/// For whom what was learned is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The request that made it, until it ends.
    Request,
    /// Requests of the same session, until its time is over.
    Session,
    /// Everybody who asks for what is active.
    #[default]
    Global,
}

/// What becomes of the keys and values that were computed before the weights changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kv {
    /// All are computed anew: exactly what a fresh run with the new adapter says.
    #[default]
    Recompute,
    /// All stay, except those of the last token: cheap, and a mixture of two models.
    Keep,
    /// Those before the self-edit began stay.
    FromMarker,
}

impl TraceEvent {
    /// The event as one line of JSON, without the newline.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/trace-event.v1.json");
        let schema = schemars::schema_for!(TraceEvent);
        let text = serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
        if std::env::var_os("SELKIE_UPDATE").is_some() {
            std::fs::write(path, &text).expect("the schema file");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == text, "{path} is not what the types say; run the tests with SELKIE_UPDATE=1");
    }

    #[test]
    fn an_event_is_a_line() {
        let event = TraceEvent {
            number: 7,
            time_ms: 1_700_000_000_000,
            request: Some("request-3".to_owned()),
            edit: None,
            what: Happened::Token { id: 5, text: "a \"b\"\n".to_owned(), log_prob: Some(-0.5) },
        };
        insta::assert_snapshot!(
            event.to_line(),
            @r#"{"number":7,"time_ms":1700000000000,"request":"request-3","event":"token","id":5,"text":"a \"b\"\n","log_prob":-0.5}"#
        );
    }
}
