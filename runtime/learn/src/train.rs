//! Training steps: loss, gradients, clipping, AdamW, for one adapter or for several over one frozen base.
//!
//! Adapters that train together share the passes over the frozen weights and nothing else: each has its own batch,
//! loss normaliser, clipping, optimiser and learning rate, and comes out as if it had been trained alone.
//!
//! Deterministic on the CPU: the same base, batches, settings and seed give the same adapter, bit for bit, on one
//! kind of processor. Nothing here evaluates or decides.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::decoder::{Decoder, Gradients, Keep, Lane, Rows, Wanted};
use crate::error::LearnError;
use crate::lora::{Adapter, Site, check_dropout};
use crate::ops::{self, Dropout};
use crate::optim::{AdamW, AdamWConfig, MAX_GRAD_NORM, clip_factor};
use crate::sequence::Sequence;

/// Rows of one pass at most, unless a single sequence is longer; a longer batch is run in several passes whose
/// gradients are added up. At this many rows matrix products are at full speed, and the activations of a small
/// model still fit a core's cache.
pub const PASS_ROWS: usize = 1024;

/// How steps are made, beside the learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepOptions {
    /// The optimiser.
    pub adamw: AdamWConfig,
    /// Gradients of an adapter are scaled down to this global norm.
    pub max_grad_norm: f64,
    /// Share of the elements of a LoRA's input that are zeroed while training, in 0..1.
    pub dropout: f64,
    /// Decides the dropout.
    pub seed: u64,
}

/// How a batch is cut into passes. Changes memory and time, and the result only by rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassOptions {
    /// Rows (tokens) of one pass at most, unless a single sequence is longer.
    pub rows: usize,
    /// Sequences of one pass at most.
    pub sequences: usize,
    /// Whether activations inside of a block are computed again in the backward pass instead of being kept: less
    /// memory, about a third more time.
    pub checkpointing: bool,
}

impl StepOptions {
    /// These settings for the optimiser, Hugging Face's clipping, no dropout.
    pub fn new(adamw: AdamWConfig) -> StepOptions {
        StepOptions { adamw, max_grad_norm: MAX_GRAD_NORM, dropout: 0.0, seed: 0 }
    }
}

impl Default for PassOptions {
    fn default() -> PassOptions {
        PassOptions { rows: PASS_ROWS, sequences: usize::MAX, checkpointing: false }
    }
}

/// An adapter in training: the adapter, its optimiser and its settings.
#[derive(Debug, Clone)]
pub(crate) struct Learner {
    pub(crate) adapter: Adapter,
    pub(crate) optimizer: AdamW,
    pub(crate) options: StepOptions,
}

/// One learner's part of a step.
pub(crate) struct Turn<'a> {
    pub(crate) learner: &'a mut Learner,
    pub(crate) batch: Vec<&'a Sequence>,
    pub(crate) learning_rate: f64,
}

/// What a step saw of one learner: the mean loss (nats) over its labelled tokens, and its gradient norm before
/// clipping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Mean cross-entropy (nats) over the labelled tokens of the batch, before the update.
    pub loss: f32,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
}

impl Learner {
    pub(crate) fn new(adapter: Adapter, options: StepOptions) -> Learner {
        Learner { adapter, optimizer: AdamW::new(options.adamw), options }
    }

    fn update(
        &mut self,
        gradients: &BTreeMap<Site, (Tensor, Tensor)>,
        learning_rate: f64,
    ) -> Result<f64, LearnError> {
        let flat: Vec<&Tensor> = gradients.values().flat_map(|(a, b)| [a, b]).collect();
        let (norm, factor) = clip_factor(&flat, self.options.max_grad_norm)?;
        let mut parameters = Vec::with_capacity(flat.len());
        for (site, pair) in &mut self.adapter.pairs {
            let Some((a, b)) = gradients.get(site) else {
                let module = site.module();
                return Err(LearnError::Adapter(format!("BUG: no gradient of `{module}` was made")));
            };
            parameters.extend([(&mut pair.a, a), (&mut pair.b, b)]);
        }
        self.optimizer.step(&mut parameters, factor, learning_rate)?;
        Ok(norm)
    }
}

/// One step of every learner, in shared passes.
///
/// # Errors
/// [`LearnError::NothingLabelled`] when a batch has no labelled token, ids out of the vocabulary, or the tensor
/// library's. A loss that is not finite is not an error here.
pub(crate) fn step(
    decoder: &Decoder,
    turns: &mut [Turn<'_>],
    options: PassOptions,
) -> Result<Vec<Seen>, LearnError> {
    let dropout = |learner: &Learner| {
        let StepOptions { dropout, seed, .. } = learner.options;
        let key = selkie_edit::derive_seed(seed, &format!("dropout/{}", learner.optimizer.step));
        (dropout > 0.0).then_some(Dropout { share: dropout, key, first: 0, first_asked: 0 })
    };
    ops::on_pool(|| {
        let parts: Vec<Part<'_>> = turns
            .iter()
            .map(|turn| Part {
                adapter: Some(&turn.learner.adapter),
                batch: &turn.batch,
                dropout: dropout(turn.learner),
            })
            .collect();
        let (losses, gradients) = loss_and_gradients(decoder, &parts, Wanted::Adapter, options)?;
        let mut seen = Vec::with_capacity(turns.len());
        for ((turn, loss), gradients) in turns.iter_mut().zip(losses).zip(&gradients.lanes) {
            let grad_norm = turn.learner.update(gradients, turn.learning_rate)?;
            seen.push(Seen { loss, grad_norm });
        }
        Ok(seen)
    })
}

/// An adapter in training over a decoder, a step at a time, by hand. [`crate::run::train`] has the loop.
#[derive(Debug, Clone)]
pub struct Trainer<'a> {
    decoder: &'a Decoder,
    learner: Learner,
    passes: PassOptions,
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
        Trainer::with_options(decoder, adapter, StepOptions::new(adamw), PassOptions::default())
    }

    /// The same with every setting.
    ///
    /// # Errors
    /// When the adapter does not fit the decoder, and for a dropout outside of 0..1.
    pub fn with_options(
        decoder: &'a Decoder,
        adapter: Adapter,
        options: StepOptions,
        passes: PassOptions,
    ) -> Result<Trainer<'a>, LearnError> {
        adapter.check(decoder.config())?;
        check_dropout(options.dropout)?;
        let adapter = adapter.to_device(decoder.device())?;
        Ok(Trainer { decoder, learner: Learner::new(adapter, options), passes })
    }

    /// One step on a batch: the mean loss (nats) over its labelled tokens and the gradient norm before
    /// clipping.
    ///
    /// # Errors
    /// [`LearnError::NothingLabelled`], ids out of the vocabulary, or the tensor library's.
    pub fn step(&mut self, batch: &[&Sequence], learning_rate: f64) -> Result<(f32, f64), LearnError> {
        let turn = Turn { learner: &mut self.learner, batch: batch.to_vec(), learning_rate };
        let seen = step(self.decoder, &mut [turn], self.passes)?;
        Ok((seen[0].loss, seen[0].grad_norm))
    }

    /// One step of several trainers over one decoder, in shared passes, each with its own batch and learning rate.
    /// Each comes out as if it had been trained alone. How the batches are cut into passes is the first one's to say.
    ///
    /// # Errors
    /// As [`Trainer::step`], of any, trainers of different decoders, and lists of different lengths; then nobody was
    /// updated.
    pub fn step_together(
        trainers: &mut [Trainer<'a>],
        batches: &[Vec<&Sequence>],
        learning_rates: &[f64],
    ) -> Result<Vec<Seen>, LearnError> {
        let Some((decoder, passes)) = trainers.first().map(|first| (first.decoder, first.passes)) else {
            return Ok(Vec::new());
        };
        if trainers.iter().any(|trainer| !std::ptr::eq(trainer.decoder, decoder)) {
            let reason = "trainers that step together must be over one base model";
            return Err(LearnError::Adapter(reason.to_owned()));
        }
        let counts = [trainers.len(), batches.len(), learning_rates.len()];
        if counts != [trainers.len(); 3] {
            let [trainers, batches, rates] = counts;
            return Err(LearnError::Adapter(format!(
                "{trainers} trainers that step together have {batches} batches and {rates} learning rates; \
                 expected one of each for every trainer"
            )));
        }
        let each = trainers.iter_mut().zip(batches).zip(learning_rates);
        let mut turns: Vec<Turn<'_>> = each
            .map(|((trainer, batch), &learning_rate)| Turn {
                learner: &mut trainer.learner,
                batch: batch.clone(),
                learning_rate,
            })
            .collect();
        step(decoder, &mut turns, passes)
    }

    /// The adapter as it is now, on the decoder's device: see [`Adapter::to_device`].
    pub fn adapter(&self) -> &Adapter {
        &self.learner.adapter
    }

    /// The adapter, done, on the decoder's device: see [`Adapter::to_device`].
    pub fn into_adapter(self) -> Adapter {
        self.learner.adapter
    }
}

/// What one adapter, or the base alone, is trained or measured on.
pub(crate) struct Part<'a> {
    pub(crate) adapter: Option<&'a Adapter>,
    pub(crate) batch: &'a [&'a Sequence],
    pub(crate) dropout: Option<Dropout>,
}

/// Mean cross-entropy (nats) over the labelled tokens of each part, and the gradients of each part's mean.
pub(crate) fn loss_and_gradients(
    decoder: &Decoder,
    parts: &[Part<'_>],
    wanted: Wanted,
    options: PassOptions,
) -> Result<(Vec<f32>, Gradients), LearnError> {
    let labelled = |part: &Part<'_>| part.batch.iter().map(|sequence| sequence.labelled_count()).sum();
    let labelled: Vec<usize> = parts.iter().map(labelled).collect();
    if labelled.contains(&0) {
        return Err(LearnError::NothingLabelled);
    }
    let mut losses = vec![0f64; parts.len()];
    let mut sum: Option<Gradients> = None;
    let keep = if options.checkpointing { Keep::Inputs } else { Keep::All };
    for pass in passes(parts, options) {
        let packed = pack(decoder, parts, &pass)?;
        // Sequences without a label may have come to stand alone.
        if packed.asked.is_empty() {
            continue;
        }
        let scales: Vec<f32> = packed.owners.iter().map(|&part| 1.0 / labelled[part] as f32).collect();
        let tape = decoder.forward(&packed.rows, &packed.lanes, &packed.asked, keep)?;
        let (log_probs, gradients) =
            decoder.backward(&packed.rows, tape, &packed.lanes, &packed.targets, &scales, wanted)?;
        for (log_prob, &part) in log_probs.iter().zip(&packed.owners) {
            losses[part] -= f64::from(*log_prob) / labelled[part] as f64;
        }
        match &mut sum {
            None => sum = Some(gradients),
            Some(sum) => sum.add(gradients)?,
        }
    }
    let losses = losses.into_iter().map(|loss| loss as f32).collect();
    Ok((losses, sum.unwrap_or_default()))
}

/// The sequences of one pass: for each part, which of its batch.
pub(crate) type Pass = Vec<std::ops::Range<usize>>;

/// Cuts all parts' batches, in order, into passes.
pub(crate) fn passes(parts: &[Part<'_>], options: PassOptions) -> Vec<Pass> {
    let mut passes = Vec::new();
    let mut pass: Pass = vec![0..0; parts.len()];
    let (mut rows, mut sequences) = (0, 0);
    for (index, part) in parts.iter().enumerate() {
        pass[index] = 0..0;
        for (at, sequence) in part.batch.iter().enumerate() {
            if sequences > 0 && (rows + sequence.len() > options.rows || sequences >= options.sequences) {
                passes.push(pass);
                pass = vec![0..0; parts.len()];
                pass[index] = at..at;
                (rows, sequences) = (0, 0);
            }
            pass[index].end = at + 1;
            (rows, sequences) = (rows + sequence.len(), sequences + 1);
        }
    }
    if sequences > 0 {
        passes.push(pass);
    }
    passes
}

/// One pass, ready to run.
pub(crate) struct Packed<'a> {
    pub(crate) rows: Rows,
    pub(crate) lanes: Vec<Lane<'a>>,
    /// Rows whose prediction counts, and what they should predict.
    pub(crate) asked: Vec<u32>,
    pub(crate) targets: Vec<u32>,
    /// The part of each of those.
    pub(crate) owners: Vec<usize>,
}

/// Packs sequences into rows. Empty sequences add nothing.
pub(crate) fn pack<'a>(decoder: &Decoder, parts: &[Part<'a>], pass: &Pass) -> Result<Packed<'a>, LearnError> {
    let vocab = decoder.config().vocab_size;
    let (asked, targets, owners) = (Vec::new(), Vec::new(), Vec::new());
    let mut packed = Packed { rows: Rows::default(), lanes: Vec::new(), asked, targets, owners };
    for (index, (part, range)) in parts.iter().zip(pass).enumerate() {
        let start = packed.rows.ids.len();
        for sequence in part.batch[range.clone()].iter().filter(|sequence| !sequence.is_empty()) {
            if let Some(&id) = sequence.ids.iter().find(|&&id| id as usize >= vocab) {
                return Err(LearnError::TokenId { id, vocab });
            }
            if sequence.labelled.len() != sequence.len() {
                let (labels, ids) = (sequence.labelled.len(), sequence.len());
                let reason = format!("a sequence of {ids} tokens has {labels} labels; expected one a token");
                return Err(LearnError::Render(reason));
            }
            let first = packed.rows.ids.len();
            for at in (1..sequence.len()).filter(|&at| sequence.labelled[at]) {
                packed.asked.push((first + at - 1) as u32);
                packed.targets.push(sequence.ids[at]);
                packed.owners.push(index);
            }
            packed.rows.push(&sequence.ids, &sequence.positions)?;
        }
        // Rows are counted from the batch's first, so that dropout does not depend on how it is cut.
        let earlier = &part.batch[..range.start];
        let first = earlier.iter().map(|sequence| sequence.len()).sum();
        let first_asked = earlier.iter().map(|sequence| sequence.labelled_count()).sum();
        let dropout = part.dropout.map(|dropout| Dropout { first, first_asked, ..dropout });
        packed.lanes.push(Lane { rows: packed.rows.ids.len() - start, adapter: part.adapter, dropout });
    }
    Ok(packed)
}
