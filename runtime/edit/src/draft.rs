//! The wire form of a self-edit, version 1, and the stage between text and validation.
//!
//! These types are the source of the JSON Schema ([`crate::schema`]) and nothing else uses them:
//! [`crate::validate`] turns them into a [`crate::SelfEdit`]. Every field that is not required is absent or
//! given, never `null`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::{
    ALPHA_MAX, ALPHA_MIN, BATCH_SIZE_MAX, CHAIN_DEPTH_MAX, DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, EPOCHS_MAX,
    FUEL_MAX, ITEMS_MAX, LEARNING_RATE_MAX, LEARNING_RATE_MIN, PERMUTE_COPIES_MAX, PIPELINES_MAX, RANK_MAX,
    REASON_CHARS_MAX, REPLAY_MAX, STEPS_MAX, TARGETS_MAX, TOOL_NAME_CHARS_MAX,
};
use crate::self_edit::{LossOn, Projection, Schedule};

/// A self-edit as it was written: its form is known, its contents are not checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Draft {
    /// A JSON object in Selkie's form.
    Selkie(Value),
    /// A JSON object in SEAL's form for puzzles.
    SealArc(Value),
    /// SEAL's free text for passages.
    SealCompletion(String),
}

/// A self-edit, version 1: what to learn from and how to train on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SelfEdit")]
pub struct EditDraft {
    /// The version of this form.
    #[schemars(extend("const" = 1))]
    pub version: u32,
    /// Why, in the model's words; it comes before what is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(max = REASON_CHARS_MAX))]
    pub reason: Option<String>,
    /// What to learn from.
    pub data: DataDraft,
    /// How to train. What is left out comes from the model's defaults.
    #[serde(default, skip_serializing_if = "is_default")]
    pub training: TrainingDraft,
}

/// What to learn from: tools for a puzzle, documents for a puzzle or a passage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "data")]
pub struct DataDraft {
    /// Augmentations of a puzzle: a tool, or a chain of tools, applied to every leave-one-out task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = PIPELINES_MAX))]
    pub tools: Vec<PipelineDraft>,
    /// The last step of a puzzle's dataset: copies with colours and demonstrations permuted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub permute: PermuteDraft,
    /// Texts to learn, written by the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = DOCUMENTS_MAX), inner(length(min = 1, max = DOCUMENT_BYTES_MAX)))]
    pub documents: Vec<String>,
    /// Whether the passage itself is learned too; true when left out. Means nothing for a puzzle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub include_source: Option<bool>,
    /// How many documents about what the model knew before are learned along, so that it is not forgotten; 0 when
    /// left out. Means nothing for a puzzle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 0, max = REPLAY_MAX))]
    pub replay: Option<u32>,
    /// Tighter limits on every batch of every tool. They can only take away: of these numbers and the host's the
    /// smaller ones hold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: ToolLimitsDraft,
}

/// What tools may use at most, a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "limits")]
pub struct ToolLimitsDraft {
    /// Units of fuel: WebAssembly instructions, nearly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64", range(min = 1, max = FUEL_MAX))]
    pub fuel: Option<u64>,
    /// Tasks or documents that a tool makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = ITEMS_MAX))]
    pub items: Option<u32>,
    /// Calls of the model by tools that may ask it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 0, max = ITEMS_MAX))]
    pub model_calls: Option<u32>,
}

/// One tool, or several in a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "pipeline")]
pub enum PipelineDraft {
    /// One tool.
    One(ToolDraft),
    /// Each tool works on what the one before it made.
    Chain(ChainDraft),
}

/// Tools in a row: each works on what the one before it made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "chain")]
pub struct ChainDraft {
    /// The tools in order.
    #[schemars(length(min = 1, max = CHAIN_DEPTH_MAX))]
    pub chain: Vec<ToolDraft>,
}

/// A tool and its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "tool")]
pub struct ToolDraft {
    /// The tool's full name.
    #[schemars(length(min = 1, max = TOOL_NAME_CHARS_MAX))]
    pub tool: String,
    /// What the tool's own schema asks for; no parameters when left out.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
}

/// Copies with colours and demonstrations permuted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "permute")]
pub struct PermuteDraft {
    /// Copies of every task; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 0, max = PERMUTE_COPIES_MAX))]
    pub copies: Option<u32>,
    /// Whether colours are permuted too, not only the order of demonstrations; when left out, whether there
    /// are any tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub colors: Option<bool>,
}

/// How to train. What is left out comes from the model's defaults.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "training")]
pub struct TrainingDraft {
    /// The tokens with a loss, for a puzzle: the last output, every output or everything. Documents are
    /// always learned whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "LossOn")]
    pub loss_on: Option<LossOn>,
    /// Peak learning rate of AdamW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64", range(min = LEARNING_RATE_MIN, max = LEARNING_RATE_MAX))]
    pub learning_rate: Option<f64>,
    /// Passes over the training set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = EPOCHS_MAX))]
    pub epochs: Option<u32>,
    /// Sequences of one optimiser step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = BATCH_SIZE_MAX))]
    pub batch_size: Option<u32>,
    /// The low-rank adapter.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lora: LoraDraft,
    /// How the learning rate falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Schedule")]
    pub schedule: Option<Schedule>,
    /// Steps over which the learning rate rises from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 0, max = STEPS_MAX))]
    pub warmup_steps: Option<u32>,
}

/// The low-rank adapter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "lora")]
pub struct LoraDraft {
    /// Rank of the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u32", range(min = 1, max = RANK_MAX))]
    pub rank: Option<u32>,
    /// The update is scaled by alpha / rank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64", range(min = ALPHA_MIN, max = ALPHA_MAX))]
    pub alpha: Option<f64>,
    /// The layers adapted in every block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<Projection>", length(min = 1, max = TARGETS_MAX))]
    pub targets: Option<Vec<Projection>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
