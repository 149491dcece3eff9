//! What can go wrong in learning; each variant is one condition with its data.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A file of a model or adapter that cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A JSON file that is not what it should be.
    #[error("`{path}` is not a valid {what}: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Where it is wrong.
        reason: String,
    },
    /// A model of a family that the engine does not run.
    #[error("the model's architecture is `{found}`; supported: {supported}")]
    Architecture {
        /// `architectures` or `model_type` of its configuration.
        found: String,
        /// The families that run.
        supported: &'static str,
    },
    /// A configuration that contradicts itself or asks for what the engine does not do.
    #[error("`config.json`: {0}")]
    Config(String),
    /// A weight file that is truncated, damaged or not safetensors.
    #[error("`{path}` is not a readable safetensors file: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that is not there.
    #[error("the model has no tensor `{0}`")]
    MissingTensor(String),
    /// A tensor of another shape.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// From the configuration.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// An adapter that does not fit the model, or that uses what the engine does not do.
    #[error("the adapter cannot be used: {0}")]
    Adapter(String),
    /// A tokenizer that cannot be loaded or that fails on a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A token id outside the model's vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    TokenId {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// Training data without a single token to learn.
    #[error("nothing to learn: no token of the training set has a loss")]
    NothingLabelled,
    /// A sequence that is too long for the model or the cap.
    #[error("a sequence of {found} tokens; the limit is {limit}")]
    TooLong {
        /// Tokens.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A loss that is not a number or not finite: the learning rate is too high for this model.
    #[error("the loss became {loss} at step {step}; lower the learning rate (it was {learning_rate})")]
    Diverged {
        /// From 0.
        step: u64,
        /// The loss.
        loss: f32,
        /// The peak learning rate.
        learning_rate: f64,
    },
    /// Settings of generation that contradict themselves, or logits that nothing can be chosen from.
    #[error("generation: {0}")]
    Sampling(String),
    /// A grammar or a schema that decoding cannot be constrained to, or a vocabulary that has no bytes.
    #[error("constrained decoding: {0}")]
    Constraint(String),
    /// A context that the model's renderer cannot show.
    #[error("this model cannot be given this context: {0}")]
    Render(String),
    /// A checkpoint that does not belong to this run.
    #[error("checkpoint `{path}`: {reason}")]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A device that cannot be used, or not as asked.
    #[error("device: {0}")]
    Device(String),
    /// An error of the tensor library: memory, device, or a mistake of ours.
    #[error("tensor library: {0}")]
    Tensor(#[from] candle_core::Error),
}
