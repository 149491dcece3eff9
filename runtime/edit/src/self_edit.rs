//! A valid self-edit: what to learn from and how to train on it.
//!
//! There is one way to get a [`SelfEdit`]: [`crate::validate`]. It serialises nowhere; the wire forms are
//! [`crate::draft`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which written form an edit came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Selkie's own JSON, version 1.
    Selkie,
    /// SEAL's JSON for ARC puzzles: four augmentation flags and three training settings.
    SealArc,
    /// SEAL's free text for passages: a completion that is split into documents.
    SealCompletion,
}

/// A self-edit that obeys every rule: defaults filled in, SEAL's flags expanded.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfEdit {
    /// The form it was written in.
    pub dialect: Dialect,
    /// Augmentations; each is a chain of one or more tools, applied to every base task.
    pub pipelines: Vec<Vec<ToolCall>>,
    /// The last step of a puzzle's dataset.
    pub permute: Permute,
    /// Texts that the model wrote to learn from, in order, without the title and without white space around them.
    pub documents: Vec<String>,
    /// Whether the passage itself is learned too, as the last document; false for a puzzle.
    pub include_source: bool,
    /// How many documents about what was known before are learned along, at most; 0 for a puzzle.
    pub replay: u32,
    /// Limits on its tools that are tighter than the host's.
    pub limits: ToolLimits,
    /// How to train.
    pub training: Training,
    /// Why, in the model's words.
    pub reason: Option<String>,
}

/// What an edit allows its tools at most, a batch. It can take away and not give: of an edit's number and the
/// host's the smaller one holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ToolLimits {
    /// Units of fuel.
    pub fuel: Option<u64>,
    /// Tasks or documents that they make.
    pub items: Option<u32>,
    /// Calls of the model, where they are granted.
    pub model_calls: Option<u32>,
}

/// A tool by name with parameters that its schema accepted (a JSON object).
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Full name, such as `grid.rotate`.
    pub tool: String,
    /// A JSON object.
    pub params: Value,
}

/// SEAL's last step for puzzles: every task once more with its colours and its demonstrations permuted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permute {
    /// How many permuted copies of each task are added; SEAL's `permute_n`, 1.
    pub copies: u32,
    /// Whether colours are permuted too, or only the order of the demonstrations.
    pub colors: bool,
}

/// Which tokens the loss is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// The output of the example to solve; SEAL's `train_using_output_tokens`.
    FinalOutput,
    /// Every demonstration's output too.
    AllOutputs,
    /// Every token; SEAL's `train_using_all_tokens`. What documents always use.
    AllTokens,
}

/// How the learning rate falls after the warm-up, as Hugging Face names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Half a cosine to 0.
    Cosine,
    /// A line to 0.
    Linear,
    /// No fall.
    Constant,
}

/// A linear layer of a decoder block that LoRA may adapt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the model's own")]
pub enum Projection {
    QProj,
    KProj,
    VProj,
    OProj,
    GateProj,
    UpProj,
    DownProj,
}

impl Projection {
    /// All seven, in the order of a block.
    pub const ALL: [Projection; 7] = [
        Projection::QProj,
        Projection::KProj,
        Projection::VProj,
        Projection::OProj,
        Projection::GateProj,
        Projection::UpProj,
        Projection::DownProj,
    ];

    /// The name in configuration files, such as `q_proj`.
    pub fn as_str(self) -> &'static str {
        match self {
            Projection::QProj => "q_proj",
            Projection::KProj => "k_proj",
            Projection::VProj => "v_proj",
            Projection::OProj => "o_proj",
            Projection::GateProj => "gate_proj",
            Projection::UpProj => "up_proj",
            Projection::DownProj => "down_proj",
        }
    }
}

/// The low-rank adapter that is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Rank of the update.
    pub rank: u32,
    /// The update is scaled by `alpha / rank`.
    pub alpha: f64,
    /// The layers adapted in every block, sorted, without duplicates, at least one.
    pub targets: Vec<Projection>,
}

/// How to train. What an edit leaves out comes from the model's [`TrainingDefaults`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Tokens of a puzzle's tasks with a loss (documents always use all tokens).
    pub loss_on: LossOn,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// Passes over the training set.
    pub epochs: u32,
    /// Sequences of one optimiser step.
    pub batch_size: u32,
    /// The adapter.
    pub lora: Lora,
    /// What the learning rate does after the warm-up.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: u32,
}

/// What an edit's training settings are when it does not say: one set a kind of context, chosen by the model
/// (a model of a million parameters wants other rates than one of seven billion).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingDefaults {
    /// For puzzles.
    pub puzzle: Training,
    /// For passages.
    pub passage: Training,
}

impl TrainingDefaults {
    /// SEAL's own settings: ARC with Llama-3.2-1B (rank 128, alpha 16, batch 2, cosine) and single-passage
    /// knowledge with Qwen2.5-7B (rank 32, alpha 64, q and v, ten epochs of batch 1 at 1e-3, linear).
    pub fn seal() -> TrainingDefaults {
        use Projection::{DownProj, GateProj, QProj, UpProj, VProj};
        TrainingDefaults {
            puzzle: Training {
                loss_on: LossOn::AllOutputs,
                learning_rate: 1e-4,
                epochs: 2,
                batch_size: 2,
                lora: Lora {
                    rank: 128,
                    alpha: 16.0,
                    targets: vec![QProj, VProj, GateProj, UpProj, DownProj],
                },
                schedule: Schedule::Cosine,
                warmup_steps: 0,
            },
            passage: Training {
                loss_on: LossOn::AllTokens,
                learning_rate: 1e-3,
                epochs: 10,
                batch_size: 1,
                lora: Lora { rank: 32, alpha: 64.0, targets: vec![QProj, VProj] },
                schedule: Schedule::Linear,
                warmup_steps: 0,
            },
        }
    }
}
