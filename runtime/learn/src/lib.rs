//! Base models, LoRA training, sampling and evaluation: the only crate that knows candle.
//!
//! Data flows one way: a context is rendered to [`Sequence`]s, a [`Decoder`] with an [`Adapter`] is trained or
//! scored on them. Base weights are frozen and shared; an adapter is always an argument.

pub mod base;
pub mod bundled;
mod chat;
pub mod codec;
pub mod config;
pub mod dataset;
pub mod decoder;
pub mod error;
pub mod lora;
pub mod model;
mod ops;
pub mod optim;
pub mod peft;
pub mod pretrain;
pub mod profile;
pub mod pup;
pub mod sample;
pub mod score;
pub mod sequence;
#[cfg(test)]
mod tests;
pub mod train;
mod weights;

pub use base::ModelFiles;
pub use codec::Codec;
pub use config::{Family, ModelConfig};
pub use dataset::{DatasetError, TrainingSet};
pub use decoder::Decoder;
pub use error::LearnError;
pub use lora::{Adapter, LoraPair, Site};
pub use model::{Model, WrittenEdit};
pub use sample::{Sampling, StopReason, generate};
pub use score::{Score, score, token_logits};
pub use sequence::Sequence;
pub use train::{StepStats, Trained, Trainer, train};
