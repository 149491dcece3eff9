//! What the tools are given. Their descriptions are what a model reads; an argument that is not here is refused.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use selkie_edit::Domain;
use serde::Deserialize;
use serde_json::Value;

/// `self_edit_schema` and `list_tools`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForDomain {
    /// What the self-edit is for. Without it, the first kind of context that the model understands.
    #[serde(default)]
    pub(super) domain: Option<Domain>,
}

/// `check_self_edit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    /// The self-edit: a JSON object, or text that holds one.
    #[schemars(schema_with = "edit_schema")]
    pub(super) edit: Value,
    /// What it is for. Without it, the first kind of context that the model understands.
    #[serde(default)]
    pub(super) domain: Option<Domain>,
}

/// `apply_self_edit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Apply {
    /// What the model is to learn: a puzzle or a passage.
    #[schemars(schema_with = "context_schema")]
    pub(super) context: Value,
    /// The self-edit: a JSON object, or text that holds one. Without it the model writes its own.
    #[serde(default)]
    #[schemars(schema_with = "edit_schema")]
    pub(super) edit: Option<Value>,
    /// Decides everything random: the same seed gives the same result.
    #[serde(default = "one")]
    pub(super) seed: u64,
    /// For whom the result is active: everybody (`global`), or requests that name the same `session`.
    #[serde(default)]
    pub(super) scope: EditScope,
    /// The session, for that scope.
    #[serde(default)]
    pub(super) session: Option<String>,
    /// Start from the base model instead of what is active.
    #[serde(default)]
    pub(super) fresh: bool,
    /// Limits of your own. The operator's hold too: of two numbers the smaller one counts.
    #[serde(default)]
    pub(super) budget: TighterBudget,
}

/// For whom an edit is.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EditScope {
    /// Everybody.
    #[default]
    Global,
    /// One session.
    Session,
}

/// A budget that can take away and not give.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TighterBudget {
    /// Optimiser steps at most.
    pub(super) steps: Option<u64>,
    /// Tokens that training processes, over all epochs, at most.
    pub(super) tokens: Option<u64>,
    /// Seconds of training at most.
    pub(super) seconds: Option<f64>,
}

/// `score`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Score {
    /// The text before; with `completion`.
    #[serde(default)]
    pub(super) prompt: Option<String>,
    /// The text whose log-probability is wanted; with `prompt`.
    #[serde(default)]
    pub(super) completion: Option<String>,
    /// Instead of both: a puzzle or a passage, measured as `apply_self_edit` would measure it.
    #[serde(default)]
    #[schemars(schema_with = "context_schema")]
    pub(super) context: Option<Value>,
    /// Which adapter is measured: `active`, `base`, or a name that `log` lists.
    #[serde(default = "active")]
    pub(super) adapter: String,
    /// The session whose adapter is meant by `active`, if any.
    #[serde(default)]
    pub(super) session: Option<String>,
}

/// `generate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Generate {
    /// A text to continue. Give this, or `messages`, or `context`.
    #[serde(default)]
    pub(super) prompt: Option<String>,
    /// A conversation to answer.
    #[serde(default)]
    pub(super) messages: Option<Vec<Said>>,
    /// A puzzle to solve or a passage to answer a question about; `item` says which. The model does not see the
    /// passage: it answers from what it has learned.
    #[serde(default)]
    #[schemars(schema_with = "context_schema")]
    pub(super) context: Option<Value>,
    /// Which test of the puzzle or question of the passage, from 0.
    #[serde(default)]
    pub(super) item: usize,
    /// Which adapter answers: `active`, `base`, or a name that `log` lists.
    #[serde(default = "active")]
    pub(super) adapter: String,
    /// The session whose adapter is meant by `active`, if any.
    #[serde(default)]
    pub(super) session: Option<String>,
    /// New tokens at most.
    #[serde(default)]
    pub(super) max_tokens: Option<usize>,
    /// 0 takes the most probable token every time.
    #[serde(default)]
    pub(super) temperature: f64,
    /// Draw from the smallest set of tokens that has this share of the probability.
    #[serde(default = "whole")]
    pub(super) top_p: f64,
    /// Decides every draw.
    #[serde(default)]
    pub(super) seed: u64,
    /// Texts that end the answer: 16 at most, of 1024 bytes at most.
    #[serde(default)]
    pub(super) stop: Vec<String>,
    /// A JSON Schema that the answer obeys.
    #[serde(default)]
    #[schemars(schema_with = "object_schema")]
    pub(super) json_schema: Option<Value>,
}

/// A message of a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    /// `system`, `user` or `assistant`.
    pub(super) role: String,
    /// Its text.
    pub(super) content: String,
}

/// `log`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    /// Entries at most, 1 to 100.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 100))]
    pub(super) limit: usize,
}

/// `rollback`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// `parent`, `base`, or a generation such as `g3`.
    pub(super) to: String,
}

fn one() -> u64 {
    1
}

fn ten() -> usize {
    10
}

fn whole() -> f64 {
    1.0
}

fn active() -> String {
    "active".to_owned()
}

fn edit_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "object" }, { "type": "string" }] })
}

fn object_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// What [`selkie_edit::Context::to_learn_from_json`] reads.
fn context_schema(_: &mut SchemaGenerator) -> Schema {
    let grid = || {
        json_schema!({
            "description": "Rows of colours, 1 to 30 rows of 1 to 30 colours.",
            "type": "array",
            "items": { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 9 } },
        })
    };
    let pair = |required: &[&str]| {
        json_schema!({
            "type": "object",
            "properties": { "input": grid(), "output": grid() },
            "required": required,
        })
    };
    json_schema!({
        "anyOf": [
            {
                "description": "A puzzle in ARC's form. The outputs of tests are for the measurement alone; without them \
                                the last demonstration is measured.",
                "type": "object",
                "properties": {
                    "id": { "type": "string" },
                    "train": { "type": "array", "minItems": 2, "items": pair(&["input", "output"]) },
                    "test": { "type": "array", "minItems": 1, "items": pair(&["input"]) },
                },
                "required": ["train", "test"],
            },
            {
                "description": "A passage, and questions that are asked afterwards without it; without questions its text \
                                is measured.",
                "type": "object",
                "properties": {
                    "title": { "type": "string" },
                    "context": { "type": "string", "description": "The text to learn." },
                    "questions": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": { "question": { "type": "string" }, "answer": { "type": "string" } },
                            "required": ["question", "answer"],
                        },
                    },
                },
                "required": ["title", "context"],
            },
        ],
    })
}
