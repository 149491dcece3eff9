//! Base models, LoRA training, sampling and evaluation: the only crate that knows candle.
//!
//! Data flows one way: a context is rendered to [`Sequence`]s, a [`Decoder`] with an [`Adapter`] is trained or
//! scored on them. Base weights are frozen and shared; an adapter is always an argument.

pub mod base;
pub mod bundled;
pub mod calls;
mod chat;
pub mod codec;
pub mod config;
pub mod constraint;
pub mod dataset;
pub mod decoder;
pub mod detokenize;
pub mod device;
pub mod error;
mod files;
pub mod lines;
pub mod lora;
mod mapped;
pub mod merge;
pub mod model;
mod ops;
pub mod optim;
pub mod peft;
pub mod pretrain;
pub mod profile;
pub mod pup;
pub mod run;
pub mod sample;
pub mod sampler;
pub mod score;
pub mod sequence;
pub mod streams;
#[cfg(test)]
mod tests;
pub mod train;
mod weights;

pub use base::ModelFiles;
pub use codec::Codec;
pub use config::{Family, ModelConfig};
pub use constraint::{Constraint, Grammar, Vocabulary, self_edit_grammar};
pub use dataset::{DatasetError, TrainingSet};
pub use decoder::Decoder;
pub use detokenize::{Detokenizer, Released, StopStrings};
pub use device::{Compute, DeviceChoice, NoCuda, cpu_kernels, cpu_threads, spawn_on_own_threads};
pub use error::LearnError;
pub use lora::{Adapter, LoraConfig, LoraPair, Site};
pub use model::{Drawing, Model, WrittenEdit};
pub use run::{Run, RunSettings, StepStats, Trained, train, train_many};
pub use sample::{Generated, PromptCache, Request, StopReason, generate, generate_batch};
pub use sampler::{Choice, Sampler, SamplingSettings};
pub use score::{Score, score, score_many, token_logits};
pub use sequence::Sequence;
pub use streams::{Resumption, StreamEvent, StreamSettings, Streams};
pub use train::{PassOptions, StepOptions, Trainer};
