//! Generation: streams that grow token by token over caches of keys and values, many in one pass.
//!
//! The adapter is an argument of each stream, so nobody samples from stale weights, and streams of different adapters
//! share passes over the base. Positions come from a function of the tokens so far, so that a model with positions
//! of its own kind is decoded like any other.
//!
//! What a stream says does not depend on the streams beside it: prompts are run alone, and passes over several
//! streams stay within the number of rows up to which matrix products treat each row alone.

use std::ops::ControlFlow;

use candle_core::{Tensor, TensorId};

use crate::constraint::{Constraint, ConstraintCost};
use crate::decoder::{Cache, Decoder, Extension, Lane};
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::ops::FEW_ROWS;
use crate::sampler::{Choice, Sampler, SamplingSettings};

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
    for (place, request) in requests.into_iter().enumerate() {
        let generation = request.adapter.map_or_else(Vec::new, matrices);
        let adapter = request.adapter.and_then(|adapter| {
            adapters.iter().find(|(own, _)| std::ptr::eq(*own, adapter)).map(|(_, adopted)| adopted)
        });
        let request = Request { adapter, ..request };
        streams.push(Stream::start(decoder, prompts, place, request, generation)?);
    }
    loop {
        for stream in streams.iter_mut().filter(|stream| stream.ended.is_none()) {
            stream.choose(decoder, told)?;
        }
        let mut active: Vec<&mut Stream<'_>> =
            streams.iter_mut().filter(|stream| stream.ended.is_none()).collect();
        if active.is_empty() {
            break;
        }
        // Neighbours of one adapter are one lane.
        active.sort_by_key(|stream| {
            stream.request.adapter.map_or(0, |adapter| std::ptr::from_ref(adapter) as usize)
        });
        let mut rest = active.as_mut_slice();
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |stream: &&&mut Stream<'_>| {
                rows += stream.pending.len();
                rows <= FEW_ROWS
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (pass, later) = rest.split_at_mut(count);
            extend(decoder, pass)?;
            rest = later;
        }
    }
    Ok(streams.into_iter().map(Stream::finish).collect())
}

/// Every adapter that is asked for, once, with itself on the decoder's device.
fn adopted<'a>(
    decoder: &Decoder,
    requests: &[Request<'a>],
) -> Result<Vec<(&'a Adapter, Adapter)>, LearnError> {
    let mut adapters: Vec<(&Adapter, Adapter)> = Vec::new();
    for adapter in requests.iter().filter_map(|request| request.adapter) {
        if !adapters.iter().any(|(own, _)| std::ptr::eq(*own, adapter)) {
            adapters.extend(decoder.adopt(Some(adapter))?.map(|adopted| (adapter, adopted)));
        }
    }
    Ok(adapters)
}

/// What tells an adapter from what it was before it was trained further.
fn matrices(adapter: &Adapter) -> Vec<TensorId> {
    adapter.sites().flat_map(|(_, pair)| [pair.a.id(), pair.b.id()]).collect()
}

/// One prompt and its continuation so far.
struct Stream<'a> {
    place: usize,
    request: Request<'a>,
    sampler: Sampler,
    cache: Cache,
    /// The residual stream from which the next token is chosen, `[1, H]`.
    last: Tensor,
    /// Its logits, where they were made in a pass with those of other streams.
    logits: Option<Vec<f32>>,
    made: Generated,
    /// New tokens that have no keys and values yet, with their positions.
    pending: Vec<u32>,
    positions: Vec<u32>,
    ended: Option<StopReason>,
}

impl<'a> Stream<'a> {
    /// Runs the prompt, or takes what is known of it.
    fn start(
        decoder: &Decoder,
        prompts: &mut PromptCache,
        place: usize,
        mut request: Request<'a>,
        generation: Vec<TensorId>,
    ) -> Result<Stream<'a>, LearnError> {
        let config = decoder.config();
        if let Some(&id) = request.prompt.iter().find(|&&id| id as usize >= config.vocab_size) {
            return Err(LearnError::TokenId { id, vocab: config.vocab_size });
        }
        if request.prompt.is_empty() {
            return Err(LearnError::Render("the prompt is empty".to_owned()));
        }
        let positions: Vec<u32> = request.prompt.iter().map(|&id| (request.position_of)(id)).collect();
        let key = Key { ids: request.prompt.to_vec(), positions, generation };
        let capacity = key.ids.len() + request.max_new.min(ROOM);
        let (cache, last) = match prompts.find(&key, capacity)? {
            Some(found) => found,
            None => {
                let mut cache = Cache::new(config, capacity);
                let (ids, positions) = (key.ids.as_slice(), key.positions.as_slice());
                let lane = Lane { rows: ids.len(), adapter: request.adapter, dropout: None };
                let last = decoder.extend(&mut [Extension { cache: &mut cache, ids, positions }], &[lane])?;
                prompts.keep(key, &cache, &last)?;
                (cache, last)
            }
        };
        let sampler = Sampler::new(request.sampling)?;
        let made = Generated {
            ids: Vec::new(),
            log_probs: Vec::new(),
            ended: StopReason::Length,
            constraint_cost: None,
        };
        let (pending, positions) = (Vec::new(), Vec::new());
        let (logits, ended) = (None, None);
        Ok(Stream { place, request, sampler, cache, last, logits, made, pending, positions, ended })
    }

    /// Chooses the next token, after those that a constraint forces.
    fn choose(
        &mut self,
        decoder: &Decoder,
        told: &mut dyn FnMut(Told) -> ControlFlow<()>,
    ) -> Result<(), LearnError> {
        if self.made.ids.len() >= self.request.max_new {
            self.ended = Some(StopReason::Length);
            return Ok(());
        }
        if let Some(constraint) = &mut self.request.constraint {
            let forced = constraint.forced()?;
            let finished = constraint.is_finished();
            for id in forced {
                let vocab = decoder.config().vocab_size;
                if id as usize >= vocab {
                    return Err(LearnError::TokenId { id, vocab });
                }
                self.take(id, None, told);
            }
            if self.ended.is_none() && finished {
                self.ended = Some(StopReason::Complete);
            }
            // The choice after them needs their keys and values first.
            if self.ended.is_some() || !self.pending.is_empty() {
                return Ok(());
            }
        }
        let mut logits = match self.logits.take() {
            Some(logits) => logits,
            None => decoder.logits(&self.last)?.flatten_all()?.to_vec1::<f32>()?,
        };
        let choice = match &mut self.request.constraint {
            None => self.sampler.next(&logits)?,
            Some(constraint) => self.sampler.next_allowed(&mut logits, constraint)?,
        };
        let Choice { id, log_prob } = choice;
        if self.request.stop.contains(&id) {
            self.ended = Some(StopReason::StopToken);
            return Ok(());
        }
        if self.request.constraint.as_ref().is_some_and(|constraint| constraint.is_end(id)) {
            self.ended = Some(StopReason::Complete);
            return Ok(());
        }
        self.take(id, Some(log_prob), told);
        Ok(())
    }

    fn take(&mut self, id: u32, log_prob: Option<f32>, told: &mut dyn FnMut(Told) -> ControlFlow<()>) {
        if self.ended.is_some() {
            return;
        }
        self.made.ids.push(id);
        self.made.log_probs.push(log_prob);
        if told(Told { request: self.place, id, log_prob }).is_break() {
            self.ended = Some(StopReason::Stopped);
        } else if self.made.ids.len() >= self.request.max_new {
            self.ended = Some(StopReason::Length);
        } else {
            self.pending.push(id);
            self.positions.push((self.request.position_of)(id));
        }
    }

    fn finish(mut self) -> Generated {
        self.made.ended = self.ended.unwrap_or(StopReason::Length);
        self.made.constraint_cost = self.request.constraint.as_ref().map(Constraint::cost);
        self.made
    }
}

/// One pass over the pending tokens of some streams.
fn extend(decoder: &Decoder, streams: &mut [&mut Stream<'_>]) -> Result<(), LearnError> {
    let mut lanes: Vec<Lane<'_>> = Vec::with_capacity(streams.len());
    for stream in &*streams {
        let (rows, adapter) = (stream.pending.len(), stream.request.adapter);
        match lanes.last_mut() {
            Some(lane) if same(lane.adapter, adapter) => lane.rows += rows,
            _ => lanes.push(Lane { rows, adapter, dropout: None }),
        }
    }
    let mut extensions: Vec<Extension<'_>> = streams
        .iter_mut()
        .map(|stream| Extension {
            cache: &mut stream.cache,
            ids: &stream.pending,
            positions: &stream.positions,
        })
        .collect();
    let last = decoder.extend(&mut extensions, &lanes)?;
    // The head is read once for all. A lone stream may be about to be told its next tokens by a constraint.
    let logits = if streams.len() > 1 { decoder.logits(&last)?.to_vec2::<f32>()? } else { Vec::new() };
    let mut logits = logits.into_iter();
    for (row, stream) in streams.iter_mut().enumerate() {
        (stream.last, stream.logits) = (last.narrow(0, row, 1)?, logits.next());
        stream.pending.clear();
        stream.positions.clear();
    }
    Ok(())
}

fn same(one: Option<&Adapter>, other: Option<&Adapter>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => std::ptr::eq(one, other),
        _ => false,
    }
}
