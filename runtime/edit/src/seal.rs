//! SEAL's JSON for puzzles: four flags, each a fixed set of augmentations, and three training settings.
//!
//! SEAL turns an edit with a missing key into an adapter that changes nothing. Here all seven keys are
//! required and no other is known.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::limits::{EPOCHS_MAX, LEARNING_RATE_MAX, LEARNING_RATE_MIN};
use crate::self_edit::{LossOn, ToolCall};

/// A self-edit in SEAL's form for ARC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SealArcSelfEdit")]
pub struct SealArcDraft {
    /// Which augmentations to use.
    pub data_generation: SealFlags,
    /// How to train.
    pub training: SealTraining,
}

/// Four groups of augmentations, on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "data_generation")]
pub struct SealFlags {
    /// Eleven: rotations, flips, reflections, a random translation, the transpose.
    pub use_basic_augmentations: bool,
    /// Three: resolution, height and width doubled.
    pub use_size_augmentations: bool,
    /// Six: a rotation, flip or transpose, then resolution doubled.
    pub use_chain_augmentations: bool,
    /// Three: the grid repeated downwards, sideways, both ways.
    pub use_repeat_augmentations: bool,
}

/// The three settings that SEAL lets a model choose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "training")]
pub struct SealTraining {
    /// The tokens with a loss.
    pub strategy: SealStrategy,
    /// Peak learning rate of AdamW.
    #[schemars(range(min = LEARNING_RATE_MIN, max = LEARNING_RATE_MAX))]
    pub learning_rate: f64,
    /// Passes over the training set.
    #[schemars(range(min = 1, max = EPOCHS_MAX))]
    pub num_train_epochs: u32,
}

/// SEAL's names for the tokens with a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "strategy")]
pub enum SealStrategy {
    /// Every token.
    TrainUsingAllTokens,
    /// The output of the example to solve.
    TrainUsingOutputTokens,
}

impl SealStrategy {
    /// The same in Selkie's words.
    pub fn loss_on(self) -> LossOn {
        match self {
            SealStrategy::TrainUsingAllTokens => LossOn::AllTokens,
            // Despite the plural, SEAL's code labels only the last output of a sequence.
            SealStrategy::TrainUsingOutputTokens => LossOn::FinalOutput,
        }
    }
}

/// A flag that is on, by its name, with the pipelines it stands for.
pub type FlagPipelines = (&'static str, Vec<Vec<ToolCall>>);

impl SealFlags {
    /// The pipelines of each flag that is on, in SEAL's order: 11 basic, 3 size, 6 chain, 3 repeat.
    pub fn pipelines(self) -> Vec<FlagPipelines> {
        let flags = [
            (self.use_basic_augmentations, "use_basic_augmentations", basic()),
            (self.use_size_augmentations, "use_size_augmentations", size()),
            (self.use_chain_augmentations, "use_chain_augmentations", chain()),
            (self.use_repeat_augmentations, "use_repeat_augmentations", repeat()),
        ];
        flags.into_iter().filter(|flag| flag.0).map(|(_, name, pipelines)| (name, pipelines)).collect()
    }

    /// Whether any flag is on. SEAL permutes colours only then.
    pub fn any(self) -> bool {
        self.use_basic_augmentations
            || self.use_size_augmentations
            || self.use_chain_augmentations
            || self.use_repeat_augmentations
    }
}

fn call(tool: &str, params: Value) -> ToolCall {
    ToolCall { tool: tool.to_owned(), params }
}

fn rotate(degrees: u32) -> ToolCall {
    call("grid.rotate", json!({ "degrees": degrees }))
}

fn flip(axis: &str) -> ToolCall {
    call("grid.flip", json!({ "axis": axis }))
}

fn transpose() -> ToolCall {
    call("grid.transpose", json!({}))
}

fn upscale() -> ToolCall {
    call("grid.upscale", json!({ "factor": 2 }))
}

fn basic() -> Vec<Vec<ToolCall>> {
    let reflect =
        |axis: &str, reverse: bool| call("grid.reflect", json!({ "axis": axis, "reverse": reverse }));
    let calls = [
        rotate(90),
        rotate(270),
        rotate(180),
        flip("rows"),
        flip("columns"),
        reflect("rows", true),
        reflect("columns", true),
        reflect("rows", false),
        reflect("columns", false),
        call("grid.translate", json!({ "copies": 1 })),
        transpose(),
    ];
    calls.into_iter().map(|call| vec![call]).collect()
}

fn size() -> Vec<Vec<ToolCall>> {
    let calls = [
        upscale(),
        call("grid.increase_height", json!({ "factor": 2 })),
        call("grid.increase_width", json!({ "factor": 2 })),
    ];
    calls.into_iter().map(|call| vec![call]).collect()
}

fn chain() -> Vec<Vec<ToolCall>> {
    let first = [rotate(90), rotate(270), rotate(180), flip("rows"), flip("columns"), transpose()];
    first.into_iter().map(|call| vec![call, upscale()]).collect()
}

fn repeat() -> Vec<Vec<ToolCall>> {
    let axes = ["rows", "columns", "both"];
    axes.into_iter().map(|axis| vec![call("grid.repeat", json!({ "axis": axis, "times": 2 }))]).collect()
}
