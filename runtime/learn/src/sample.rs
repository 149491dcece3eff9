//! Generation: streams that grow token by token over caches of keys and values, many in one pass.
//!
//! The adapter is an argument of each stream, so nobody samples from stale weights, and streams of different adapters
//! share passes over the base. Positions come from a function of the tokens so far, so that a model with positions
//! of its own kind is decoded like any other.
//!
//! What a stream says does not depend on the streams beside it: prompts are run alone, and passes over several
//! streams stay within the number of rows up to which matrix products treat each row alone.

mod stream;

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{Tensor, TensorId};

use crate::constraint::{Constraint, ConstraintCost};
use crate::decoder::{Cache, Decoder};
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::sampler::SamplingSettings;

pub(crate) use stream::{Setup, Stream, grow};

/// Tokens for which a stream has room at first; a cache that is full grows.
const ROOM: usize = 1024;

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A stop token was chosen (it is not part of the result).
    StopToken,
    /// A stop string was met, or whoever was told the tokens had enough.
    Stopped,
    /// The constraint's grammar is complete.
    Complete,
    /// The limit on new tokens was reached.
    Length,
}

/// A prompt to continue.
pub struct Request<'a> {
    /// Token ids, at least one.
    pub prompt: &'a [u32],
    /// Told every token in order, from the first of the prompt; gives its rotary position.
    pub position_of: Box<dyn FnMut(u32) -> u32 + 'a>,
    /// The adapter.
    pub adapter: Option<&'a Adapter>,
    /// How tokens are chosen.
    pub sampling: SamplingSettings,
    /// Tokens that end the generation and are not part of it.
    pub stop: &'a [u32],
    /// Only what this allows is generated.
    pub constraint: Option<Constraint>,
    /// New tokens at most.
    pub max_new: usize,
}

/// A continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The new tokens, without the stop token.
    pub ids: Vec<u32>,
    /// The model's log-probability (nats) of each, before temperature, filters and constraint. Tokens that a
    /// constraint forced were not asked for, and have `None`.
    pub log_probs: Vec<Option<f32>>,
    /// Why it ended.
    pub ended: StopReason,
    /// What the constraint has cost, if there was one.
    pub constraint_cost: Option<ConstraintCost>,
}

/// A token as it is chosen: the place of its request, and the choice. A forced token has no log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// The place of the request.
    pub request: usize,
    /// The token.
    pub id: u32,
    /// Its log-probability (nats); `None` when a constraint forced it.
    pub log_prob: Option<f32>,
}

/// Keys and values of prompts that were run, so that the same prompt need not be run again. What is kept belongs to
/// one base model, and to the adapter as it was: an adapter that was trained since is another one.
#[derive(Debug)]
pub struct PromptCache {
    capacity: usize,
    entries: Vec<Entry>,
    hits: u64,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    cache: Cache,
    /// The residual stream of the prompt's last row.
    last: Tensor,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    ids: Vec<u32>,
    positions: Vec<u32>,
    /// The adapter's generation: the identities of its matrices, which no two trainings share.
    generation: Vec<TensorId>,
}

impl PromptCache {
    /// Room for this many prompts.
    pub fn new(capacity: usize) -> PromptCache {
        PromptCache { capacity, entries: Vec::new(), hits: 0 }
    }

    /// How often a prompt was found.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// A copy of what is known of a prompt, with room to grow.
    fn find(&mut self, key: &Key, capacity: usize) -> Result<Option<(Cache, Tensor)>, LearnError> {
        let Some(at) = self.entries.iter().position(|entry| entry.key == *key) else { return Ok(None) };
        self.hits += 1;
        let entry = self.entries.remove(at);
        let found = (entry.cache.duplicate(capacity)?, entry.last.clone());
        self.entries.push(entry);
        Ok(Some(found))
    }

    fn keep(&mut self, key: Key, cache: &Cache, last: &Tensor) -> Result<(), LearnError> {
        if self.capacity == 0 {
            return Ok(());
        }
        if self.entries.len() >= self.capacity {
            self.entries.remove(0);
        }
        self.entries.push(Entry { key, cache: cache.duplicate(cache.len())?, last: last.clone() });
        Ok(())
    }
}

/// Continues `prompt` by at most `max_new` tokens, until one of `stop`. `position_of` is told every token in
/// order, from the first of the prompt, and gives its position.
///
/// # Errors
/// As [`generate_batch`].
pub fn generate(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    prompt: &[u32],
    position_of: impl FnMut(u32) -> u32,
    sampling: SamplingSettings,
    stop: &[u32],
    max_new: usize,
) -> Result<(Vec<u32>, StopReason), LearnError> {
    let position_of = Box::new(position_of);
    let request = Request { prompt, position_of, adapter, sampling, stop, constraint: None, max_new };
    let mut cache = PromptCache::new(0);
    let made = generate_batch(decoder, &mut cache, vec![request], &mut |_| ControlFlow::Continue(()))?;
    Ok(made.into_iter().map(|made| (made.ids, made.ended)).next().unwrap_or((Vec::new(), StopReason::Length)))
}

/// Continues several prompts at once, each as if it were alone. `told` hears every token when it is chosen and may
/// end its stream.
///
/// # Errors
/// An empty prompt, ids outside the vocabulary, settings that mean nothing, an adapter that does not fit, logits that
/// are not numbers, a constraint that fails, and the tensor library's.
pub fn generate_batch(
    decoder: &Decoder,
    prompts: &mut PromptCache,
    requests: Vec<Request<'_>>,
    told: &mut dyn FnMut(Told) -> ControlFlow<()>,
) -> Result<Vec<Generated>, LearnError> {
    let adapters = adopted(decoder, &requests)?;
    let mut streams = Vec::with_capacity(requests.len());
    for request in requests {
        let adapter = request.adapter.and_then(|adapter| {
            adapters.iter().find(|(own, _)| std::ptr::eq(*own, adapter)).map(|(_, adopted)| adopted.clone())
        });
        let setup = Setup {
            adapter,
            position_of: request.position_of,
            sampling: request.sampling,
            stop: request.stop.to_vec(),
            banned: Vec::new(),
            constraint: request.constraint,
            max_new: request.max_new,
        };
        streams.push(Stream::start(decoder, prompts, request.prompt, setup)?);
    }
    loop {
        for (place, stream) in streams.iter_mut().enumerate().filter(|(_, stream)| stream.ended.is_none()) {
            let told = &mut |id, log_prob| told(Told { request: place, id, log_prob });
            stream.choose(decoder, told)?;
        }
        let active: Vec<_> = streams.iter_mut().filter(|stream| stream.ended.is_none()).collect();
        if active.is_empty() {
            break;
        }
        grow(decoder, active)?;
    }
    Ok(streams.into_iter().map(Stream::finish).collect())
}

/// Every adapter that is asked for, once, with itself on the decoder's device.
fn adopted<'a>(
    decoder: &Decoder,
    requests: &[Request<'a>],
) -> Result<Vec<(&'a Adapter, Arc<Adapter>)>, LearnError> {
    let mut adapters: Vec<(&Adapter, Arc<Adapter>)> = Vec::new();
    for adapter in requests.iter().filter_map(|request| request.adapter) {
        if !adapters.iter().any(|(own, _)| std::ptr::eq(*own, adapter)) {
            adapters.extend(decoder.adopt(Some(adapter))?.map(|adopted| (adapter, Arc::new(adopted))));
        }
    }
    Ok(adapters)
}
