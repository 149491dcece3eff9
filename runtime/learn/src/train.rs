//! Training: one step (loss, gradients, clipping, AdamW) and the loop over a training set.
//!
//! Deterministic: the same base, set, settings and seed give the same adapter, bit for bit, on one kind of
//! CPU. Nothing here evaluates or decides.

use std::ops::ControlFlow;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use selkie_edit::Training;

use crate::decoder::{Decoder, Gradients, Rows, Wanted};
use crate::error::LearnError;
use crate::lora::{Adapter, LoraPair};
use crate::ops;
use crate::optim::{ADAPTER_ADAMW, AdamW, AdamWConfig, MAX_GRAD_NORM, clip_factor, learning_rate_at};
use crate::sequence::Sequence;

/// Labelled rows whose logits exist at one time. At a vocabulary of 150,000 this is 600 MB.
const LOGIT_ROWS: usize = 1024;

/// What one optimiser step saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepStats {
    /// From 0.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean cross-entropy (nats) over the labelled tokens, before the update.
    pub loss: f32,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// The learning rate used.
    pub learning_rate: f64,
    /// Tokens of the batch.
    pub tokens: usize,
}

/// A trained adapter and how training went.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The adapter.
    pub adapter: Adapter,
    /// Every step in order, at least one.
    pub steps: Vec<StepStats>,
}

/// An adapter in training: the adapter, its optimiser and nothing else.
#[derive(Debug, Clone)]
pub struct Trainer<'a> {
    decoder: &'a Decoder,
    adapter: Adapter,
    optimizer: AdamW,
}

impl<'a> Trainer<'a> {
    /// Starts from an adapter (see [`Adapter::init`]) over frozen weights.
    ///
    /// # Errors
    /// When the adapter does not fit the decoder.
    pub fn new(
        decoder: &'a Decoder,
        adapter: Adapter,
        adamw: AdamWConfig,
    ) -> Result<Trainer<'a>, LearnError> {
        adapter.check(decoder.config())?;
        Ok(Trainer { decoder, adapter, optimizer: AdamW::new(adamw) })
    }

    /// One step on a batch: the mean loss (nats) over its labelled tokens and the gradient norm before
    /// clipping at [`MAX_GRAD_NORM`].
    ///
    /// # Errors
    /// [`LearnError::NothingLabelled`], ids out of the vocabulary, or the tensor library's.
    pub fn step(&mut self, batch: &[&Sequence], learning_rate: f64) -> Result<(f32, f64), LearnError> {
        let (loss, gradients) =
            loss_and_gradients(self.decoder, Some(&self.adapter), batch, Wanted::Adapter)?;
        let flat: Vec<_> = gradients.pairs.values().flat_map(|(a, b)| [a, b]).collect();
        let (norm, factor) = clip_factor(&flat, MAX_GRAD_NORM)?;
        let clipped =
            flat.iter().map(|gradient| gradient.affine(factor, 0.0)).collect::<Result<Vec<_>, _>>()?;
        let current = self.adapter.pairs.values().flat_map(|pair| [&pair.a, &pair.b]);
        let parameters: Vec<_> = current.zip(&clipped).collect();
        let mut updated = self.optimizer.step(&parameters, learning_rate)?.into_iter();
        for pair in self.adapter.pairs.values_mut() {
            if let (Some(a), Some(b)) = (updated.next(), updated.next()) {
                *pair = LoraPair { a, b, scale: pair.scale };
            }
        }
        Ok((loss, norm))
    }

    /// The adapter as it is now.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// The adapter, done.
    pub fn into_adapter(self) -> Adapter {
        self.adapter
    }
}

/// Trains a new adapter on `set` for `training.epochs` epochs, shuffled anew each epoch by the seed. `progress`
/// is called after each step and may stop the training early.
///
/// # Errors
/// [`LearnError::Diverged`] when the loss is not finite; otherwise as [`Trainer::step`].
pub fn train(
    decoder: &Decoder,
    set: &[Sequence],
    training: &Training,
    seed: u64,
    mut progress: impl FnMut(&StepStats) -> ControlFlow<()>,
) -> Result<Trained, LearnError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let adapter = Adapter::init(decoder.config(), &training.lora, rng.random())?;
    let mut trainer = Trainer::new(decoder, adapter, ADAPTER_ADAMW)?;
    let batch_size = training.batch_size.max(1) as usize;
    let steps = set.len().div_ceil(batch_size) as u64 * u64::from(training.epochs);
    let mut stats = Vec::new();
    let mut order: Vec<usize> = (0..set.len()).collect();
    'epochs: for _ in 0..training.epochs {
        order.shuffle(&mut rng);
        for chosen in order.chunks(batch_size) {
            let batch: Vec<&Sequence> = chosen.iter().map(|&index| &set[index]).collect();
            let step = stats.len() as u64;
            let (peak, warmup) = (training.learning_rate, u64::from(training.warmup_steps));
            let learning_rate = learning_rate_at(training.schedule, peak, warmup, steps, step);
            let (loss, grad_norm) = trainer.step(&batch, learning_rate)?;
            if !loss.is_finite() || !grad_norm.is_finite() {
                return Err(LearnError::Diverged { step, loss, learning_rate: peak });
            }
            let tokens = batch.iter().map(|sequence| sequence.len()).sum();
            let step = StepStats { step, steps, loss, grad_norm, learning_rate, tokens };
            stats.push(step);
            if progress(&step).is_break() {
                break 'epochs;
            }
        }
    }
    let Some(last) = stats.last() else { return Err(LearnError::NothingLabelled) };
    // The loss is taken before the update, so it says nothing of the last one.
    if !is_finite(trainer.adapter())? {
        return Err(LearnError::Diverged {
            step: last.step,
            loss: f32::NAN,
            learning_rate: training.learning_rate,
        });
    }
    Ok(Trained { adapter: trainer.into_adapter(), steps: stats })
}

fn is_finite(adapter: &Adapter) -> Result<bool, LearnError> {
    for (_, pair) in adapter.sites() {
        for half in [&pair.a, &pair.b] {
            if !half.sqr()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Mean cross-entropy (nats) over the labelled tokens of a batch, and its gradients.
pub(crate) fn loss_and_gradients(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    batch: &[&Sequence],
    wanted: Wanted,
) -> Result<(f32, Gradients), LearnError> {
    let (rows, targets) = pack(decoder, batch)?;
    if targets.is_empty() {
        return Err(LearnError::NothingLabelled);
    }
    let (last, tape) = decoder.forward(&rows, adapter)?;
    let scale = 1.0 / targets.len() as f32;
    let mut total = 0f64;
    let mut chunks = Vec::new();
    for chunk in targets.chunks(LOGIT_ROWS) {
        let (at, ids): (Vec<u32>, Vec<u32>) = chunk.iter().copied().unzip();
        let logits = decoder.logits(&last, &at)?;
        let scored = ops::token_log_probs(&logits, &ids)?.to_vec2::<f32>()?;
        total -= scored.iter().map(|row| f64::from(row[0])).sum::<f64>();
        ops::cross_entropy_gradient(&logits, &ids, scale)?;
        chunks.push((at, logits));
    }
    let gradients = decoder.backward(&rows, &tape, &chunks, adapter, wanted)?;
    Ok(((total * f64::from(scale)) as f32, gradients))
}

/// Packs sequences into rows, with (row, target) of every labelled token. Empty sequences are left out.
pub(crate) fn pack(decoder: &Decoder, batch: &[&Sequence]) -> Result<(Rows, Vec<(u32, u32)>), LearnError> {
    let vocab = decoder.config().vocab_size;
    let mut rows = Rows::default();
    let mut targets = Vec::new();
    for sequence in batch.iter().filter(|sequence| !sequence.is_empty()) {
        if let Some(&id) = sequence.ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(LearnError::TokenId { id, vocab });
        }
        let start = rows.ids.len();
        for (at, (&id, _)) in sequence
            .ids
            .iter()
            .zip(&sequence.labelled)
            .enumerate()
            .skip(1)
            .filter(|(_, (_, labelled))| **labelled)
        {
            targets.push(((start + at - 1) as u32, id));
        }
        rows.push(&sequence.ids, &sequence.positions);
    }
    Ok((rows, targets))
}
