//! One prompt and its continuation so far, and the pass by which several grow.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{Tensor, TensorId};

use super::{Generated, Key, PromptCache, ROOM, StopReason};
use crate::constraint::Constraint;
use crate::decoder::{Cache, Decoder, Extension, Lane};
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::ops::FEW_ROWS;
use crate::sampler::{Choice, Sampler, SamplingSettings};

/// Everything of a stream but its tokens.
pub(crate) struct Setup<'a> {
    /// On the decoder's device.
    pub(crate) adapter: Option<Arc<Adapter>>,
    pub(crate) position_of: Box<dyn FnMut(u32) -> u32 + 'a>,
    pub(crate) sampling: SamplingSettings,
    pub(crate) stop: Vec<u32>,
    /// Tokens that are never chosen.
    pub(crate) banned: Vec<u32>,
    pub(crate) constraint: Option<Constraint>,
    pub(crate) max_new: usize,
}

/// Hears a token that was chosen, with its log-probability, and may end the stream.
pub(crate) type Hear<'a> = dyn FnMut(u32, Option<f32>) -> ControlFlow<()> + 'a;

/// A stream: its tokens, and the keys and values of all but the pending ones.
pub(crate) struct Stream<'a> {
    setup: Setup<'a>,
    sampler: Sampler,
    cache: Cache,
    /// The residual stream from which the next token is chosen, `[1, H]`.
    last: Tensor,
    /// Its logits, where they were made in a pass with those of other streams.
    logits: Option<Vec<f32>>,
    pub(crate) made: Generated,
    /// New tokens that have no keys and values yet, with their positions.
    pending: Vec<u32>,
    positions: Vec<u32>,
    pub(crate) ended: Option<StopReason>,
}

impl<'a> Stream<'a> {
    /// Runs the prompt, or takes what is known of it.
    pub(crate) fn start(
        decoder: &Decoder,
        prompts: &mut PromptCache,
        prompt: &[u32],
        mut setup: Setup<'a>,
    ) -> Result<Stream<'a>, LearnError> {
        check(decoder, prompt)?;
        let positions: Vec<u32> = prompt.iter().map(|&id| (setup.position_of)(id)).collect();
        let generation = setup.adapter.as_deref().map_or_else(Vec::new, matrices);
        let key = Key { ids: prompt.to_vec(), positions, generation };
        let capacity = key.ids.len() + setup.max_new.min(ROOM);
        let (cache, last) = match prompts.find(&key, capacity)? {
            Some(found) => found,
            None => {
                let cache = Cache::new(decoder.config(), capacity);
                let (cache, last) = run(decoder, setup.adapter.as_deref(), cache, &key.ids, &key.positions)?;
                prompts.keep(key, &cache, &last)?;
                (cache, last)
            }
        };
        Stream::from(setup, cache, last)
    }

    /// Goes on behind tokens of which the first `reused` have the keys and values of `cache`. All others, at least
    /// one, are run now, under the adapter of `setup`.
    pub(crate) fn go_on(
        decoder: &Decoder,
        cache: Option<(&Cache, usize)>,
        ids: &[u32],
        mut setup: Setup<'a>,
    ) -> Result<Stream<'a>, LearnError> {
        check(decoder, ids)?;
        let positions: Vec<u32> = ids.iter().map(|&id| (setup.position_of)(id)).collect();
        let capacity = ids.len() + setup.max_new.min(ROOM);
        let (cache, reused) = match cache {
            Some((cache, reused)) => (cache.head(reused, capacity)?, reused),
            None => (Cache::new(decoder.config(), capacity), 0),
        };
        let (ids, positions) = (&ids[reused..], &positions[reused..]);
        let (cache, last) = run(decoder, setup.adapter.as_deref(), cache, ids, positions)?;
        Stream::from(setup, cache, last)
    }

    fn from(setup: Setup<'a>, cache: Cache, last: Tensor) -> Result<Stream<'a>, LearnError> {
        let sampler = Sampler::new(setup.sampling)?;
        let made = Generated {
            ids: Vec::new(),
            log_probs: Vec::new(),
            ended: StopReason::Length,
            constraint_cost: None,
        };
        let (pending, positions) = (Vec::new(), Vec::new());
        let (logits, ended) = (None, None);
        Ok(Stream { setup, sampler, cache, last, logits, made, pending, positions, ended })
    }

    /// Draws as that stream would have.
    pub(crate) fn draw_on(&mut self, other: &Stream<'_>) {
        self.sampler = other.sampler.clone();
    }

    /// The keys and values so far.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn setup(&self) -> &Setup<'a> {
        &self.setup
    }

    /// Chooses the next token, after those that a constraint forces.
    pub(crate) fn choose(&mut self, decoder: &Decoder, hear: &mut Hear<'_>) -> Result<(), LearnError> {
        if self.made.ids.len() >= self.setup.max_new {
            self.ended = Some(StopReason::Length);
            return Ok(());
        }
        if let Some(constraint) = &mut self.setup.constraint {
            let forced = constraint.forced()?;
            let finished = constraint.is_finished();
            for id in forced {
                let vocab = decoder.config().vocab_size;
                if id as usize >= vocab {
                    return Err(LearnError::TokenId { id, vocab });
                }
                self.take(id, None, hear);
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
        for &id in &self.setup.banned {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let choice = match &mut self.setup.constraint {
            None => self.sampler.next(&logits)?,
            Some(constraint) => self.sampler.next_allowed(&mut logits, constraint)?,
        };
        let Choice { id, log_prob } = choice;
        if self.setup.stop.contains(&id) {
            self.ended = Some(StopReason::StopToken);
            return Ok(());
        }
        if self.setup.constraint.as_ref().is_some_and(|constraint| constraint.is_end(id)) {
            self.ended = Some(StopReason::Complete);
            return Ok(());
        }
        self.take(id, Some(log_prob), hear);
        Ok(())
    }

    fn take(&mut self, id: u32, log_prob: Option<f32>, hear: &mut Hear<'_>) {
        if self.ended.is_some() {
            return;
        }
        self.made.ids.push(id);
        self.made.log_probs.push(log_prob);
        if hear(id, log_prob).is_break() {
            self.ended = Some(StopReason::Stopped);
        } else if self.made.ids.len() >= self.setup.max_new {
            self.ended = Some(StopReason::Length);
        } else {
            self.pending.push(id);
            self.positions.push((self.setup.position_of)(id));
        }
    }

    pub(crate) fn finish(mut self) -> Generated {
        self.made.ended = self.ended.unwrap_or(StopReason::Length);
        self.made.constraint_cost = self.setup.constraint.as_ref().map(Constraint::cost);
        self.made
    }
}

/// What tells an adapter from what it was before it was trained further.
fn matrices(adapter: &Adapter) -> Vec<TensorId> {
    adapter.sites().flat_map(|(_, pair)| [pair.a.id(), pair.b.id()]).collect()
}

fn check(decoder: &Decoder, ids: &[u32]) -> Result<(), LearnError> {
    let vocab = decoder.config().vocab_size;
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
        return Err(LearnError::TokenId { id, vocab });
    }
    if ids.is_empty() {
        return Err(LearnError::Render("the prompt is empty".to_owned()));
    }
    Ok(())
}

/// One pass of one sequence alone; its residual stream in the last row, `[1, H]`.
fn run(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    mut cache: Cache,
    ids: &[u32],
    positions: &[u32],
) -> Result<(Cache, Tensor), LearnError> {
    let lane = Lane { rows: ids.len(), adapter, dropout: None };
    let last = decoder.extend(&mut [Extension { cache: &mut cache, ids, positions }], &[lane])?;
    Ok((cache, last))
}

/// Passes by which every stream grows by its pending tokens. Streams without any are left as they are.
pub(crate) fn grow(decoder: &Decoder, mut streams: Vec<&mut Stream<'_>>) -> Result<(), LearnError> {
    streams.retain(|stream| !stream.pending.is_empty());
    // Neighbours of one adapter are one lane.
    streams.sort_by_key(|stream| address(stream.setup.adapter.as_ref()));
    let mut rest = streams.as_mut_slice();
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
    Ok(())
}

fn address(adapter: Option<&Arc<Adapter>>) -> usize {
    adapter.map_or(0, |adapter| Arc::as_ptr(adapter) as usize)
}

/// One pass over the pending tokens of some streams.
fn extend(decoder: &Decoder, streams: &mut [&mut Stream<'_>]) -> Result<(), LearnError> {
    let adapters: Vec<Option<Arc<Adapter>>> =
        streams.iter().map(|stream| stream.setup.adapter.clone()).collect();
    let mut lanes: Vec<Lane<'_>> = Vec::with_capacity(streams.len());
    let mut of_last = None;
    for (stream, adapter) in streams.iter().zip(&adapters) {
        let (rows, address) = (stream.pending.len(), address(adapter.as_ref()));
        match lanes.last_mut() {
            Some(lane) if of_last == Some(address) => lane.rows += rows,
            _ => lanes.push(Lane { rows, adapter: adapter.as_deref(), dropout: None }),
        }
        of_last = Some(address);
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
