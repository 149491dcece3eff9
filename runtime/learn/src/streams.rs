//! Streams that come and go: each may begin, wait, change its adapter and go on, or be closed, while the others run.
//!
//! What a stream says is what it would say alone, to the bit, whoever comes and goes beside it (see [`crate::sample`]).
//! A failure belongs to the stream that it happened to.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::constraint::Constraint;
use crate::decoder::Decoder;
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::pup::render::Prompt;
use crate::sample::{Generated, PromptCache, Setup, StopReason, Stream, grow};
use crate::sampler::SamplingSettings;

/// What a stream begins with.
#[derive(Debug)]
pub struct StreamSettings {
    /// What is continued.
    pub prompt: Prompt,
    /// The adapter, on the decoder's device ([`Decoder::adopt`]). Streams that share one pass best share the pointer.
    pub adapter: Option<Arc<Adapter>>,
    /// How tokens are chosen.
    pub sampling: SamplingSettings,
    /// Tokens that end the stream and are not part of it.
    pub stop: Vec<u32>,
    /// Tokens that are never chosen, as if the model gave them no probability.
    pub banned: Vec<u32>,
    /// Only what this allows is generated.
    pub constraint: Option<Constraint>,
    /// New tokens at most.
    pub max_new: usize,
}

/// How a stream goes on, perhaps under another adapter. Where its draws start anew from its seed and all keys and values
/// are computed anew, it says what a fresh run over the same tokens says.
#[derive(Debug)]
pub struct Resumption {
    /// So many of the stream's own tokens stay; those after them are forgotten.
    pub kept: usize,
    /// Tokens that are put behind them.
    pub inserted: Vec<u32>,
    /// The adapter from here on, on the decoder's device.
    pub adapter: Option<Arc<Adapter>>,
    /// So many of all tokens, the prompt's first, keep the keys and values that they have. The last token never does:
    /// what follows it is chosen by the new weights. 0 computes all anew.
    pub reused: usize,
    /// Whether draws start anew from the seed; else they go on, and a stream of which nothing changes says what it would
    /// have said.
    pub draws_anew: bool,
    /// Tokens that are never chosen from here on.
    pub banned: Vec<u32>,
    /// Only what this allows is generated from here on.
    pub constraint: Option<Constraint>,
    /// Tokens from here on, at most.
    pub max_new: usize,
}

/// Something that happened to a stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// A token was chosen, with its log-probability (nats); `None` when a constraint forced it.
    Token(u32, Option<f32>),
    /// The stream ended. It can be resumed, and stays until it is closed.
    Ended(StopReason),
    /// The stream failed and can only be closed.
    Failed(LearnError),
}

/// Streams by the numbers that their owner gave them.
pub struct Streams {
    prompts: PromptCache,
    open: BTreeMap<u64, Open>,
}

struct Open {
    prompt: Prompt,
    /// Tokens behind the prompt that are no longer the stream's own: from before it was resumed.
    before: Vec<u32>,
    stream: Stream<'static>,
    paused: bool,
}

impl Streams {
    /// No streams, and room for the keys and values of this many prompts.
    pub fn new(cached_prompts: usize) -> Streams {
        Streams { prompts: PromptCache::new(cached_prompts), open: BTreeMap::new() }
    }

    /// Streams that are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a stream would grow by [`Streams::advance`].
    pub fn is_running(&self) -> bool {
        self.open.values().any(Open::runs)
    }

    /// Begins a stream: its prompt is run now.
    ///
    /// # Errors
    /// An empty prompt, ids outside the vocabulary, settings that mean nothing, an adapter that does not fit.
    pub fn open(
        &mut self,
        decoder: &Decoder,
        number: u64,
        settings: StreamSettings,
    ) -> Result<(), LearnError> {
        let StreamSettings { prompt, adapter, sampling, stop, banned, constraint, max_new } = settings;
        let position_of = Box::new(prompt.position_of());
        let setup = Setup { adapter, position_of, sampling, stop, banned, constraint, max_new };
        let stream = Stream::start(decoder, &mut self.prompts, &prompt.ids, setup)?;
        self.open.insert(number, Open { prompt, before: Vec::new(), stream, paused: false });
        Ok(())
    }

    /// One more token for every stream that neither waits nor has ended, in shared passes.
    pub fn advance(&mut self, decoder: &Decoder) -> Vec<(u64, StreamEvent)> {
        let mut events = Vec::new();
        for (&number, open) in self.open.iter_mut().filter(|(_, open)| open.runs()) {
            let hear = &mut |id, log_prob| {
                events.push((number, StreamEvent::Token(id, log_prob)));
                ControlFlow::Continue(())
            };
            match open.stream.choose(decoder, hear) {
                Ok(()) => events.extend(open.stream.ended.map(|reason| (number, StreamEvent::Ended(reason)))),
                Err(error) => {
                    open.paused = true;
                    events.push((number, StreamEvent::Failed(error)));
                }
            }
        }
        let growing =
            self.open.values_mut().filter(|open| open.runs()).map(|open| &mut open.stream).collect();
        if let Err(error) = grow(decoder, growing) {
            // The passes are shared, so it is not known whose they were.
            let text = error.to_string();
            for (&number, open) in self.open.iter_mut().filter(|(_, open)| open.runs()) {
                open.paused = true;
                events.push((number, StreamEvent::Failed(LearnError::Render(text.clone()))));
            }
        }
        events
    }

    /// Lets a stream wait. One that nobody knows is none.
    pub fn pause(&mut self, number: u64) {
        if let Some(open) = self.open.get_mut(&number) {
            open.paused = true;
        }
    }

    /// Lets a stream that waits go on as it was.
    pub fn unpause(&mut self, number: u64) {
        if let Some(open) = self.open.get_mut(&number) {
            open.paused = false;
        }
    }

    /// Everything behind a stream's prompt, inserted tokens too.
    pub fn tokens(&self, number: u64) -> Vec<u32> {
        let ids = |open: &Open| open.before.iter().chain(&open.stream.made.ids).copied().collect();
        self.open.get(&number).map(ids).unwrap_or_default()
    }

    /// Makes a stream go on from other tokens, under another adapter or constraint. The answer is how many tokens were
    /// run for it.
    ///
    /// # Errors
    /// A stream that nobody knows, nothing to go on from, and those of [`Streams::open`]. The stream is as it was.
    pub fn resume(
        &mut self,
        decoder: &Decoder,
        number: u64,
        resumption: Resumption,
    ) -> Result<usize, LearnError> {
        let Some(open) = self.open.get_mut(&number) else {
            return Err(LearnError::Render(format!("there is no stream {number}")));
        };
        let Resumption { kept, inserted, adapter, reused, draws_anew, banned, constraint, max_new } =
            resumption;
        let own = open.before.iter().chain(&open.stream.made.ids);
        let before: Vec<u32> = own.copied().take(kept).chain(inserted).collect();
        let stays = open.prompt.ids.len() + kept.min(before.len());
        let ids: Vec<u32> = open.prompt.ids.iter().chain(&before).copied().collect();
        let reused = reused.min(stays).min(open.stream.cache().len()).min(ids.len().saturating_sub(1));
        let setup = Setup {
            adapter,
            position_of: Box::new(open.prompt.position_of()),
            sampling: open.stream.setup().sampling,
            stop: open.stream.setup().stop.clone(),
            banned,
            constraint,
            max_new,
        };
        let cache = (reused > 0).then(|| (open.stream.cache(), reused));
        let mut stream = Stream::go_on(decoder, cache, &ids, setup)?;
        if !draws_anew {
            stream.draw_on(&open.stream);
        }
        open.stream = stream;
        (open.before, open.paused) = (before, false);
        Ok(ids.len() - reused)
    }

    /// Ends a stream and forgets it; what it generated since it was last resumed.
    pub fn close(&mut self, number: u64) -> Option<Generated> {
        self.open.remove(&number).map(|open| open.stream.finish())
    }
}

impl Open {
    fn runs(&self) -> bool {
        !self.paused && self.stream.ended.is_none()
    }
}
