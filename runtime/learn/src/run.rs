//! The training loop over a set: epochs in a seeded order, a schedule, several runs in shared passes, checkpoints.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use selkie_edit::{Schedule, Training};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::decoder::Decoder;
use crate::error::LearnError;
use crate::files::{hex, replace_file};
use crate::lora::{Adapter, LoraConfig};
use crate::optim::{ADAPTER_ADAMW, AdamWConfig, MAX_GRAD_NORM, learning_rate_at};
use crate::sequence::Sequence;
use crate::train::{Learner, PassOptions, StepOptions, Turn, step};
use crate::weights;

/// What one optimiser step saw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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

/// Every setting of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSettings {
    /// The adapter, with its dropout.
    pub lora: LoraConfig,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// What the learning rate does after the warm-up.
    pub schedule: Schedule,
    /// Steps over which the learning rate rises from 0.
    pub warmup_steps: u64,
    /// Passes over the set.
    pub epochs: u32,
    /// Sequences of one optimiser step.
    pub batch_size: usize,
    /// The optimiser, with its weight decay.
    pub adamw: AdamWConfig,
    /// Gradients are scaled down to this global norm.
    pub max_grad_norm: f64,
    /// Decides the initial adapter, the order of sequences and the dropout.
    pub seed: u64,
}

impl RunSettings {
    /// Those of a self-edit; SEAL's and Hugging Face's for the rest.
    pub fn new(training: &Training, seed: u64) -> RunSettings {
        RunSettings {
            lora: LoraConfig::from(&training.lora),
            learning_rate: training.learning_rate,
            schedule: training.schedule,
            warmup_steps: u64::from(training.warmup_steps),
            epochs: training.epochs,
            batch_size: training.batch_size.max(1) as usize,
            adamw: ADAPTER_ADAMW,
            max_grad_norm: MAX_GRAD_NORM,
            seed,
        }
    }
}

/// One adapter's training over one set, as far as it has come.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    settings: RunSettings,
    set: &'a [Sequence],
    learner: Learner,
    order: Order,
    stats: Vec<StepStats>,
    steps: u64,
}

/// The order of the sequences, shuffled anew each epoch.
#[derive(Debug, Clone)]
struct Order {
    rng: ChaCha8Rng,
    indices: Vec<usize>,
    batch_size: usize,
    /// The place of the next batch in this epoch.
    next: usize,
}

impl Order {
    fn new(mut rng: ChaCha8Rng, sequences: usize, batch_size: usize) -> Order {
        let mut indices: Vec<usize> = (0..sequences).collect();
        indices.shuffle(&mut rng);
        Order { rng, indices, batch_size, next: 0 }
    }

    /// The next batch.
    fn batch(&self) -> &[usize] {
        let end = self.next.saturating_add(self.batch_size).min(self.indices.len());
        &self.indices[self.next..end]
    }

    /// The batch is done.
    fn move_on(&mut self) {
        self.next = self.next.saturating_add(self.batch_size);
        if self.next >= self.indices.len() {
            self.next = 0;
            self.indices.shuffle(&mut self.rng);
        }
    }
}

/// The part of a checkpoint that is not tensors.
#[derive(Serialize, Deserialize)]
struct State {
    /// Of the settings and the set: a run goes on only with the same.
    digest: String,
    /// Of the tensors: a damaged number looks like any other.
    checksum: String,
    /// Bits of the loss and of the gradient norm of each step that is done.
    steps: Vec<(u32, u64)>,
}

const STATE_KEY: &str = "selkie";

impl<'a> Run<'a> {
    /// A run from the start.
    ///
    /// # Errors
    /// Settings that do not fit the model, or a set without anything to learn.
    pub fn new(decoder: &Decoder, set: &'a [Sequence], settings: RunSettings) -> Result<Run<'a>, LearnError> {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        let adapter = Adapter::init(decoder.config(), settings.lora.clone(), rng.random())?;
        let adapter = adapter.to_device(decoder.device())?;
        let options = StepOptions {
            adamw: settings.adamw,
            max_grad_norm: settings.max_grad_norm,
            dropout: settings.lora.dropout,
            seed: selkie_edit::derive_seed(settings.seed, "train"),
        };
        let batch_size = settings.batch_size.max(1);
        let steps = set.len().div_ceil(batch_size) as u64 * u64::from(settings.epochs);
        if steps == 0 {
            return Err(LearnError::NothingLabelled);
        }
        let order = Order::new(rng, set.len(), batch_size);
        Ok(Run { settings, set, learner: Learner::new(adapter, options), order, stats: Vec::new(), steps })
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.learner.optimizer.step
    }

    /// Whether all steps are done.
    pub fn is_finished(&self) -> bool {
        self.steps_done() >= self.steps
    }

    /// The adapter as it is now, on the decoder's device: see [`Adapter::to_device`].
    pub fn adapter(&self) -> &Adapter {
        &self.learner.adapter
    }

    /// The adapter, on the CPU, and the steps that were made, those before a checkpoint among them.
    ///
    /// # Errors
    /// [`LearnError::NothingLabelled`] without a step, [`LearnError::Diverged`] when the last update left a weight
    /// that is not finite: the loss is taken before the update, so it says nothing of the last one.
    pub fn finish(self) -> Result<Trained, LearnError> {
        let Some(last) = self.stats.last() else { return Err(LearnError::NothingLabelled) };
        if !is_finite(&self.learner.adapter)? {
            let (step, learning_rate) = (last.step, self.settings.learning_rate);
            return Err(LearnError::Diverged { step, loss: f32::NAN, learning_rate });
        }
        let adapter = self.learner.adapter.to_device(&Device::Cpu)?;
        Ok(Trained { adapter, steps: self.stats })
    }

    fn turn(&mut self) -> (Turn<'_>, usize) {
        let set = self.set;
        let batch: Vec<&Sequence> = self.order.batch().iter().map(|&index| &set[index]).collect();
        let learning_rate = self.learning_rate(self.steps_done());
        let tokens = batch.iter().map(|sequence| sequence.len()).sum();
        (Turn { learner: &mut self.learner, batch, learning_rate }, tokens)
    }

    fn learning_rate(&self, step: u64) -> f64 {
        let RunSettings { schedule, learning_rate, warmup_steps, .. } = self.settings;
        learning_rate_at(schedule, learning_rate, warmup_steps, self.steps, step)
    }

    /// Writes everything that going on needs to `path`, in one file that replaces the last one at once.
    ///
    /// # Errors
    /// [`LearnError::Write`], and [`LearnError::Diverged`] for a run whose loss was not finite: there is nothing to go
    /// on from.
    pub fn checkpoint(&self, path: &Path) -> Result<(), LearnError> {
        if self.stats.len() as u64 != self.steps_done() {
            let (step, learning_rate) = (self.stats.len() as u64, self.settings.learning_rate);
            return Err(LearnError::Diverged { step, loss: f32::NAN, learning_rate });
        }
        let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
        for (index, parameter) in parameters(&self.learner.adapter).enumerate() {
            tensors.insert(format!("parameter.{index:04}"), parameter.to_device(&Device::Cpu)?.contiguous()?);
        }
        for (index, (mean, square)) in self.learner.optimizer.moments.iter().enumerate() {
            tensors.insert(format!("mean.{index:04}"), mean.to_device(&Device::Cpu)?);
            tensors.insert(format!("square.{index:04}"), square.to_device(&Device::Cpu)?);
        }
        let steps = self.stats.iter().map(|step| (step.loss.to_bits(), step.grad_norm.to_bits())).collect();
        let state = State { digest: self.digest(), checksum: checksum(&tensors)?, steps };
        let state = serde_json::to_string(&state).map_err(|e| LearnError::Config(e.to_string()))?;
        let bytes = safetensors::serialize(&tensors, Some([(STATE_KEY.to_owned(), state)].into()))
            .map_err(|e| LearnError::Weights { path: path.to_owned(), reason: e.to_string() })?;
        replace_file(path, &bytes)
    }

    /// Goes on from a checkpoint, to the same adapter and steps, bit for bit on one kind of processor, as without the
    /// interruption. The base model is the caller's to keep: a checkpoint does not know it.
    ///
    /// # Errors
    /// [`LearnError::Checkpoint`] when it is of another run or damaged, or this run has begun; [`LearnError::Read`]. The
    /// run is as it was.
    pub fn resume(&mut self, path: &Path) -> Result<(), LearnError> {
        let bytes =
            std::fs::read(path).map_err(|source| LearnError::Read { path: path.to_owned(), source })?;
        let bad = |reason: String| LearnError::Checkpoint { path: path.to_owned(), reason };
        if self.steps_done() > 0 {
            return Err(bad("only a run that has not begun can go on from it".into()));
        }
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(e.to_string()))?;
        let state = header.metadata().as_ref().and_then(|metadata| metadata.get(STATE_KEY));
        let state: State =
            serde_json::from_str(state.ok_or_else(|| bad("it is not of a training run".into()))?)
                .map_err(|e| bad(e.to_string()))?;
        if state.digest != self.digest() || state.steps.len() as u64 > self.steps {
            let reason = "it is of other settings or other data; use them, or another output folder";
            return Err(bad(reason.into()));
        }
        let mut tensors = weights::read(&bytes, path).map_err(|e| bad(e.to_string()))?;
        if checksum(&tensors)? != state.checksum {
            return Err(bad("it is damaged; start the run anew".into()));
        }
        let mut take = |name: String, like: &Tensor| {
            let found = tensors.remove(&name).filter(|found| found.dims() == like.dims());
            let found = found.ok_or_else(|| bad(format!("`{name}` is missing or of another shape")))?;
            found.to_device(like.device()).map_err(LearnError::from)
        };
        let (mut saved, mut moments) = (Vec::new(), Vec::new());
        for (index, like) in parameters(&self.learner.adapter).enumerate() {
            saved.push(take(format!("parameter.{index:04}"), like)?);
            if !state.steps.is_empty() {
                let mean = take(format!("mean.{index:04}"), like)?;
                moments.push((mean, take(format!("square.{index:04}"), like)?));
            }
        }
        let mut saved = saved.into_iter();
        for pair in self.learner.adapter.pairs.values_mut() {
            if let (Some(a), Some(b)) = (saved.next(), saved.next()) {
                (pair.a, pair.b) = (a, b);
            }
        }
        self.learner.optimizer.moments = moments;
        self.learner.optimizer.step = state.steps.len() as u64;
        for (step, (loss, grad_norm)) in (0..).zip(state.steps) {
            let tokens = self.order.batch().iter().map(|&index| self.set[index].len()).sum();
            let (loss, grad_norm) = (f32::from_bits(loss), f64::from_bits(grad_norm));
            let learning_rate = self.learning_rate(step);
            self.stats.push(StepStats { step, steps: self.steps, loss, grad_norm, learning_rate, tokens });
            self.order.move_on();
        }
        Ok(())
    }

    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}", self.settings));
        hash.update(crate::dataset::digest(self.set));
        hex(hash)
    }
}

/// The place of a run among those that were to advance, and what its step saw.
pub type Advanced = (usize, Result<StepStats, LearnError>);

/// One step of every run that is not finished, in shared passes: what each saw, by its place in `runs`.
///
/// A run whose loss is not finite ends with [`LearnError::Diverged`] and is to be left alone from then on; the others
/// do not notice.
///
/// # Errors
/// As [`crate::Trainer::step`], of any run; then no run has moved on.
pub fn advance(
    decoder: &Decoder,
    runs: &mut [&mut Run<'_>],
    passes: PassOptions,
) -> Result<Vec<Advanced>, LearnError> {
    let mut indices = Vec::new();
    let (mut turns, mut tokens) = (Vec::new(), Vec::new());
    for (index, run) in runs.iter_mut().enumerate().filter(|(_, run)| !run.is_finished()) {
        let (turn, count) = run.turn();
        indices.push(index);
        turns.push(turn);
        tokens.push(count);
    }
    let rates: Vec<f64> = turns.iter().map(|turn| turn.learning_rate).collect();
    let seen = step(decoder, &mut turns, passes)?;
    let mut all = Vec::with_capacity(indices.len());
    for (((index, seen), learning_rate), tokens) in indices.into_iter().zip(seen).zip(rates).zip(tokens) {
        let run = &mut runs[index];
        run.order.move_on();
        let (step, loss, grad_norm) = (run.steps_done() - 1, seen.loss, seen.grad_norm);
        if !loss.is_finite() || !grad_norm.is_finite() {
            let learning_rate = run.settings.learning_rate;
            all.push((index, Err(LearnError::Diverged { step, loss, learning_rate })));
            continue;
        }
        let stats = StepStats { step, steps: run.steps, loss, grad_norm, learning_rate, tokens };
        run.stats.push(stats);
        all.push((index, Ok(stats)));
    }
    Ok(all)
}

/// Trains a new adapter on `set` for `training.epochs` epochs, shuffled anew each epoch by the seed. `progress`
/// is called after each step and may stop the training early.
///
/// # Errors
/// [`LearnError::Diverged`] when the loss is not finite; otherwise as [`crate::Trainer::step`].
pub fn train(
    decoder: &Decoder,
    set: &[Sequence],
    training: &Training,
    seed: u64,
    mut progress: impl FnMut(&StepStats) -> ControlFlow<()>,
) -> Result<Trained, LearnError> {
    let mut run = Run::new(decoder, set, RunSettings::new(training, seed))?;
    while !run.is_finished() {
        for (_, stats) in advance(decoder, &mut [&mut run], PassOptions::default())? {
            if progress(&stats?).is_break() {
                return run.finish();
            }
        }
    }
    run.finish()
}

/// Trains several adapters over one base in shared passes: one for each set, with its own settings. The result of
/// each is that of [`train`] alone, within rounding. `progress` is told the place in `jobs` and the step.
///
/// # Errors
/// As [`crate::Trainer::step`], when a job cannot be run at all. A job that diverges has an error of its own among the
/// results, and does not touch the others.
pub fn train_many(
    decoder: &Decoder,
    jobs: &[(&[Sequence], RunSettings)],
    passes: PassOptions,
    mut progress: impl FnMut(usize, &StepStats),
) -> Result<Vec<Result<Trained, LearnError>>, LearnError> {
    let mut runs = Vec::with_capacity(jobs.len());
    for (set, settings) in jobs {
        runs.push(Ok(Run::new(decoder, set, settings.clone())?));
    }
    loop {
        let (mut places, mut active) = (Vec::new(), Vec::new());
        for (place, run) in runs.iter_mut().enumerate() {
            if let Ok(run) = run
                && !run.is_finished()
            {
                places.push(place);
                active.push(run);
            }
        }
        if active.is_empty() {
            break;
        }
        let seen = advance(decoder, &mut active, passes)?;
        for (index, stats) in seen {
            match stats {
                Ok(stats) => progress(places[index], &stats),
                Err(error) => runs[places[index]] = Err(error),
            }
        }
    }
    Ok(runs.into_iter().map(|run| run.and_then(Run::finish)).collect())
}

/// SHA-256 over every tensor's name and numbers.
fn checksum(tensors: &BTreeMap<String, Tensor>) -> Result<String, LearnError> {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        hash.update(name);
        for value in tensor.flatten_all()?.to_vec1::<f32>()? {
            hash.update(value.to_le_bytes());
        }
    }
    Ok(hex(hash))
}

/// A and B of every pair, in the order in which the optimiser knows them.
fn parameters(adapter: &Adapter) -> impl Iterator<Item = &Tensor> {
    adapter.sites().flat_map(|(_, pair)| [&pair.a, &pair.b])
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
