//! Pretraining a small base model from a stream of generated sequences: every weight is trained, the run can
//! be killed and resumed, and the same settings give the same weights.
//!
//! Matrices of the blocks are trained with Muon (momentum, orthogonalised by five Newton-Schulz iterations),
//! everything else with AdamW; at this size Muon reaches the same loss in about half the steps.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::decoder::{Decoder, Wanted};
use crate::error::LearnError;
use crate::files::replace_file;
use crate::optim::{AdamW, AdamWConfig, clip_factor};
use crate::sequence::Sequence;
use crate::train::{Part, PassOptions, loss_and_gradients};
use crate::weights::{self, Matrix};

/// Settings of a run. They are part of every checkpoint: a run is resumed only with the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PretrainSettings {
    /// Decides the initial weights; the stream of sequences has a seed of its own.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens of one step, at least: sequences are taken until this many.
    pub tokens_per_step: usize,
    /// Peak learning rate of Muon.
    pub muon_lr: f64,
    /// Peak learning rate of AdamW.
    pub adamw_lr: f64,
    /// Steps of the rise from 0.
    pub warmup: u64,
    /// Share of the steps, at the end, over which the rate falls to 0 in a line.
    pub decay: f64,
    /// An earlier end: a run that has not come there yet can be given one, and goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cool_down: Option<CoolDown>,
}

/// An earlier end of a run: from a step on, the rate falls to 0 in a line, and the run is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoolDown {
    /// The step at which it begins.
    pub at: u64,
    /// Steps that it takes.
    pub steps: u64,
}

impl PretrainSettings {
    /// Steps that the run really has.
    pub fn last_step(&self) -> u64 {
        self.cool_down.map_or(self.steps, |cool_down| self.steps.min(cool_down.at + cool_down.steps))
    }

    /// Whether a run of these settings has done the first `step` steps as one of the others would have.
    fn begins_as(&self, other: &PretrainSettings, step: u64) -> bool {
        let is_before = |settings: &PretrainSettings| settings.cool_down.is_none_or(|end| step <= end.at);
        let plain = |settings: &PretrainSettings| PretrainSettings { cool_down: None, ..settings.clone() };
        self == other || (plain(self) == plain(other) && is_before(self) && is_before(other))
    }
}

/// What is reported after each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PretrainStep {
    /// From 1.
    pub step: u64,
    /// Mean cross-entropy (nats) over labelled tokens.
    pub loss: f32,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Factor of both learning rates.
    pub rate: f64,
}

/// A run in progress.
pub struct Pretraining<'a> {
    settings: PretrainSettings,
    decoder: Decoder,
    adamw: AdamW,
    /// Momentum of each Muon matrix, by name.
    momentum: BTreeMap<String, Tensor>,
    step: u64,
    tokens: u64,
    next_sequence: u64,
    /// The sequence of an index, given the run's progress in 0..1.
    stream: Box<dyn Fn(u64, f32) -> Sequence + Send + Sync + 'a>,
}

/// Decay of Muon's momentum.
const MUON_MOMENTUM: f64 = 0.95;
/// AdamW for embeddings and norms.
const ADAMW: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.0 };
const CHECKPOINT: &str = "checkpoint.safetensors";
const STATE_KEY: &str = "selkie";

/// The part of a checkpoint that is not tensors.
#[derive(Serialize, Deserialize, PartialEq)]
struct State {
    settings: PretrainSettings,
    step: u64,
    adamw_step: u64,
    tokens: u64,
    next_sequence: u64,
}

impl<'a> Pretraining<'a> {
    /// A run from fresh weights.
    ///
    /// # Errors
    /// Only the tensor library's.
    pub fn new(
        config: ModelConfig,
        settings: PretrainSettings,
        stream: impl Fn(u64, f32) -> Sequence + Send + Sync + 'a,
    ) -> Result<Pretraining<'a>, LearnError> {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let depth = (2.0 * config.layers as f32).sqrt();
        let decoder =
            Decoder::build(config, |name, shape| initial(name, shape, depth, &mut rng).map(Matrix::Tensor))?;
        let adamw = AdamW::new(ADAMW);
        let (momentum, stream) = (BTreeMap::new(), Box::new(stream));
        Ok(Pretraining { settings, decoder, adamw, momentum, step: 0, tokens: 0, next_sequence: 0, stream })
    }

    /// The model as it is now.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Steps in all.
    pub fn last_step(&self) -> u64 {
        self.settings.last_step()
    }

    /// Runs one step; `None` when the run is complete.
    ///
    /// # Errors
    /// [`LearnError::Diverged`] when the loss is not finite.
    pub fn step(&mut self) -> Result<Option<PretrainStep>, LearnError> {
        if self.step >= self.settings.last_step() {
            return Ok(None);
        }
        let progress = self.step as f32 / self.settings.steps as f32;
        let mut batch = Vec::new();
        let mut tokens = 0;
        while tokens < self.settings.tokens_per_step {
            let sequence = (self.stream)(self.next_sequence, progress);
            self.next_sequence += 1;
            tokens += sequence.len();
            batch.push(sequence);
        }
        let batch: Vec<&Sequence> = batch.iter().collect();
        let part = Part { adapter: None, batch: &batch, dropout: None };
        let passes = PassOptions::default();
        let (losses, gradients) = loss_and_gradients(&self.decoder, &[part], Wanted::Weights, passes)?;
        let loss = losses[0];
        if !loss.is_finite() {
            let learning_rate = self.settings.muon_lr;
            return Err(LearnError::Diverged { step: self.step, loss, learning_rate });
        }
        let rate = self.rate();
        self.update(gradients.weights, rate)?;
        self.step += 1;
        self.tokens += tokens as u64;
        Ok(Some(PretrainStep { step: self.step, loss, tokens: self.tokens, rate }))
    }

    /// Rise, plateau, fall: the factor of both rates at this step.
    fn rate(&self) -> f64 {
        let scheduled = |step: u64| {
            let (step, steps) = (step as f64, self.settings.steps as f64);
            let rise = ((step + 1.0) / self.settings.warmup.max(1) as f64).min(1.0);
            let fall = ((steps - step) / (steps * self.settings.decay).max(1.0)).min(1.0);
            rise * fall
        };
        match self.settings.cool_down {
            Some(CoolDown { at, steps }) if self.step >= at => {
                scheduled(at) * (1.0 - (self.step - at) as f64 / steps.max(1) as f64)
            }
            _ => scheduled(self.step),
        }
    }

    fn update(&mut self, gradients: BTreeMap<String, Tensor>, rate: f64) -> Result<(), LearnError> {
        let (_, factor) = clip_factor(&gradients.values().collect::<Vec<_>>(), crate::optim::MAX_GRAD_NORM)?;
        let mut others = Vec::new();
        for (name, weight) in self.decoder.weights_mut()? {
            let Some(gradient) = gradients.get(&name) else { continue };
            if !is_matrix_of_block(&name) {
                others.push((weight, gradient.affine(factor, 0.0)?));
                continue;
            }
            let momentum = match self.momentum.remove(&name) {
                Some(momentum) => (momentum.affine(MUON_MOMENTUM, 0.0)? + gradient)?,
                None => gradient.clone(),
            };
            let nesterov = (gradient + momentum.affine(MUON_MOMENTUM, 0.0)?)?;
            self.momentum.insert(name, momentum);
            let (rows, columns) = weight.dims2()?;
            let scale = (rows as f64 / columns as f64).max(1.0).sqrt();
            let change = orthogonalise(&nesterov)?.affine(self.settings.muon_lr * rate * scale, 0.0)?;
            *weight = (&*weight - change)?;
        }
        let mut pairs: Vec<(&mut Tensor, &Tensor)> =
            others.iter_mut().map(|(weight, gradient)| (&mut **weight, &*gradient)).collect();
        self.adamw.step(&mut pairs, 1.0, self.settings.adamw_lr * rate)?;
        Ok(())
    }

    /// Writes everything that resuming needs to `dir`, in one file that replaces the last one at once.
    ///
    /// # Errors
    /// [`LearnError::Write`].
    pub fn checkpoint(&mut self, dir: &Path) -> Result<(), LearnError> {
        let state = State {
            settings: self.settings.clone(),
            step: self.step,
            adamw_step: self.adamw.step,
            tokens: self.tokens,
            next_sequence: self.next_sequence,
        };
        let state = serde_json::to_string(&state).map_err(|e| LearnError::Config(e.to_string()))?;
        let mut tensors: Vec<(String, Tensor)> = self
            .decoder
            .weights_mut()?
            .into_iter()
            .map(|(name, weight)| (format!("weight.{name}"), weight.clone()))
            .collect();
        tensors.extend(
            self.momentum.iter().map(|(name, momentum)| (format!("momentum.{name}"), momentum.clone())),
        );
        for (index, (mean, square)) in self.adamw.moments.iter().enumerate() {
            tensors.push((format!("mean.{index:04}"), mean.clone()));
            tensors.push((format!("square.{index:04}"), square.clone()));
        }
        let path = dir.join(CHECKPOINT);
        let bytes = safetensors::serialize(
            tensors.iter().map(|(name, t)| (name, t)),
            Some([(STATE_KEY.to_owned(), state)].into()),
        )
        .map_err(|e| LearnError::Weights { path: path.clone(), reason: e.to_string() })?;
        replace_file(&path, &bytes)
    }

    /// Continues from the checkpoint in `dir`, when there is one; says whether there was.
    ///
    /// # Errors
    /// [`LearnError::Checkpoint`] when it is of another run or damaged.
    pub fn resume(&mut self, dir: &Path) -> Result<bool, LearnError> {
        let path = dir.join(CHECKPOINT);
        if !path.is_file() {
            return Ok(false);
        }
        let bytes = std::fs::read(&path).map_err(|source| LearnError::Read { path: path.clone(), source })?;
        let bad = |reason: String| LearnError::Checkpoint { path: path.clone(), reason };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
        let state = header.metadata().as_ref().and_then(|metadata| metadata.get(STATE_KEY));
        let state: State =
            serde_json::from_str(state.ok_or_else(|| bad("it is not of a pretraining run".into()))?)
                .map_err(|e| bad(e.to_string()))?;
        if !self.settings.begins_as(&state.settings, state.step) {
            let (theirs, ours) = (&state.settings, &self.settings);
            return Err(bad(format!(
                "it is of another run: {theirs:?} instead of {ours:?}; use another folder"
            )));
        }
        let mut tensors = weights::read(&bytes, &path).map_err(|e| bad(e.to_string()))?;
        for (name, weight) in self.decoder.weights_mut()? {
            let saved = tensors.remove(&format!("weight.{name}"));
            *weight = saved
                .filter(|saved| saved.dims() == weight.dims())
                .ok_or_else(|| bad(format!("`{name}` is missing or of another shape")))?;
        }
        let mut moments = Vec::new();
        while let Some(mean) = tensors.remove(&format!("mean.{:04}", moments.len())) {
            let square = tensors.remove(&format!("square.{:04}", moments.len()));
            moments.push((mean, square.ok_or_else(|| bad("half of a moment is missing".into()))?));
        }
        let adamw_weights =
            self.decoder.weights_mut()?.iter().filter(|(name, _)| !is_matrix_of_block(name)).count();
        if moments.len() != if state.adamw_step > 0 { adamw_weights } else { 0 } {
            return Err(bad(format!(
                "it has the moments of {} weights, not of {adamw_weights}",
                moments.len()
            )));
        }
        self.adamw.moments = moments;
        self.adamw.step = state.adamw_step;
        self.momentum = tensors
            .into_iter()
            .filter_map(|(name, t)| Some((name.strip_prefix("momentum.")?.to_owned(), t)))
            .collect();
        (self.step, self.tokens, self.next_sequence) = (state.step, state.tokens, state.next_sequence);
        Ok(true)
    }

    /// The weights as a `model.safetensors` in bf16: what ships is what is measured, so callers load it back.
    ///
    /// # Errors
    /// Only the tensor library's.
    pub fn export(&mut self) -> Result<Vec<u8>, LearnError> {
        let mut tensors = Vec::new();
        for (name, weight) in self.decoder.weights_mut()? {
            tensors.push((name, weight.to_dtype(candle_core::DType::BF16)?));
        }
        safetensors::serialize(
            tensors.iter().map(|(name, t)| (name, t)),
            Some([("format".to_owned(), "pt".to_owned())].into()),
        )
        .map_err(|e| LearnError::Config(e.to_string()))
    }
}

fn is_matrix_of_block(name: &str) -> bool {
    name.ends_with("_proj.weight")
}

/// Norms start at 1; the embedding is narrow; matrices keep the size of their input, those that write to the
/// residual stream less so, by depth.
fn initial(name: &str, shape: &[usize], depth: f32, rng: &mut ChaCha8Rng) -> Result<Tensor, LearnError> {
    let count = shape.iter().product();
    let std = match shape {
        [_] => return Ok(Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu)?),
        [_, _] if name.contains("embed") || name.contains("lm_head") => 0.02,
        [_, input, ..] if name.contains("o_proj") || name.contains("down_proj") => {
            0.5 / (*input as f32).sqrt() / depth
        }
        _ => 0.5 / (shape[1] as f32).sqrt(),
    };
    let normal = Normal::new(0.0, std).map_err(|e| LearnError::Config(e.to_string()))?;
    let values: Vec<f32> = normal.sample_iter(rng).take(count).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// The nearest matrix with orthogonal rows (or columns), nearly: five Newton-Schulz iterations with Muon's
/// published coefficients, which bring every singular value near 1.
fn orthogonalise(gradient: &Tensor) -> Result<Tensor, LearnError> {
    const A: f64 = 3.4445;
    const B: f64 = -4.7750;
    const C: f64 = 2.0315;
    let (rows, columns) = gradient.dims2()?;
    let tall = rows > columns;
    let x = if tall { gradient.t()?.contiguous()? } else { gradient.clone() };
    let norm = x.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
    let mut x = x.affine(1.0 / (f64::from(norm) + 1e-7), 0.0)?;
    for _ in 0..5 {
        let square = x.matmul(&x.t()?)?;
        let polynomial = (square.affine(B, 0.0)? + square.matmul(&square)?.affine(C, 0.0)?)?;
        x = (x.affine(A, 0.0)? + polynomial.matmul(&x)?)?;
    }
    Ok(if tall { x.t()?.contiguous()? } else { x })
}
