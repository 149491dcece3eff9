//! What a measured process is asked on stdin and what it answers on stdout; the Python scripts speak the same JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use selkie_learn::DeviceChoice;
use serde::{Deserialize, Serialize};

use crate::args::Dtype;

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Request {
    /// A Hugging Face model folder.
    pub(super) model: PathBuf,
    /// Where both sides compute, `cpu` or `cuda:N`.
    pub(super) device: DeviceChoice,
    /// Threads to compute with.
    pub(super) threads: usize,
    /// What to do.
    #[serde(flatten)]
    pub(super) work: Work,
}

/// What is measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub(super) enum Work {
    /// Optimiser steps on one batch, which is the same at every step.
    Train {
        /// The PEFT folder of the adapter at the start.
        adapter: PathBuf,
        /// Sequences of one length.
        batch: Vec<Row>,
        /// Adapters that are trained together; Python trains the first of them.
        adapters: usize,
        /// Steps before the clock starts.
        warmup: usize,
        /// Steps on the clock.
        steps: usize,
        /// Of every step.
        learning_rate: f64,
    },
    /// Epochs over the sequences, one a step, with a learning rate that falls linearly to 0.
    SealEdit {
        /// The PEFT folder of the adapter at the start.
        adapter: PathBuf,
        /// Sequences, as long as they are.
        batch: Vec<Row>,
        /// Times through the sequences.
        epochs: usize,
        /// Tokens that Python pads every sequence to.
        pad_to: usize,
        /// Of the first step.
        learning_rate: f64,
    },
    /// Greedy generation from one prompt.
    Decode {
        /// Token ids.
        prompt: Vec<u32>,
        /// Tokens to make.
        new_tokens: usize,
        /// How Python holds the weights. Training is in f32 on both sides.
        dtype: Dtype,
    },
}

/// A sequence and where its labels begin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    /// Token ids.
    pub(super) ids: Vec<u32>,
    /// The first token with a loss.
    pub(super) labelled_from: usize,
}

/// What a process measured of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Answer {
    /// User and system time of all threads on the clock; `None` where the platform does not say.
    pub(super) cpu_ms: Option<f64>,
    /// Wall time on the clock.
    pub(super) wall_ms: f64,
    /// The most memory that the process ever had, in 10^6 bytes; `None` where the platform does not say.
    pub(super) peak_rss_mb: Option<f64>,
    /// The loss of every step, those before the clock included; `None` where it is not finite.
    #[serde(default)]
    pub(super) losses: Vec<Option<f64>>,
    /// The tokens that were made.
    #[serde(default)]
    pub(super) tokens: Vec<u32>,
    /// What computed, by name.
    pub(super) versions: BTreeMap<String, String>,
}

impl Work {
    /// The script that does the same in Python.
    pub(super) fn script(&self) -> &'static str {
        match self {
            Work::Train { .. } => "train.py",
            Work::SealEdit { .. } => "seal_edit.py",
            Work::Decode { .. } => "decode.py",
        }
    }

    /// How many of the unit that times are given in: steps, tokens, or the whole.
    pub(super) fn units(&self) -> usize {
        match self {
            Work::Train { steps, adapters, .. } => steps * adapters,
            _ => self.python_units(),
        }
    }

    /// The same for Python, which trains one adapter.
    pub(super) fn python_units(&self) -> usize {
        match self {
            Work::Train { steps, .. } => *steps,
            Work::SealEdit { .. } => 1,
            Work::Decode { new_tokens, .. } => *new_tokens,
        }
    }
}
