//! One request while it is answered: its text, and the self-edits in the middle of it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use selkie_edit::{Context, Passage, derive_seed};
use selkie_learn::calls::{CallFormat, Marker};
use selkie_learn::pup::render::Prompt as Rendered;
use selkie_learn::{
    Constraint, Detokenizer, Released, Resumption, SamplingSettings, StopReason, StopStrings, StreamSettings,
    Streams,
};
use tokio::sync::mpsc::UnboundedSender;

use super::LiveError;
use super::adapters::Chosen;
use super::core::{Core, EditOver, Origin};
use super::reply::{End, EndReason, Piece};
use super::request::{Budget, EditRequest, EditText, SelfEditTerms};
use super::trace::{Happened, Kv, Trigger};
use super::work::brief;

/// Tokens of a self-edit that is written in the middle of a text.
const EDIT_TOKENS_MAX: usize = 1024;

/// Self-edits that one request may propose, refused ones among them.
const PROPOSALS_MAX: u32 = 8;

/// A request whose prompt is rendered.
pub(super) struct Opening {
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) prompt: Rendered,
    pub(super) chosen: Chosen,
    /// Whether `chosen` was not named but active.
    pub(super) follows: bool,
    pub(super) session: Option<String>,
    pub(super) sampling: SamplingSettings,
    pub(super) max_tokens: usize,
    pub(super) stop: StopStrings,
    pub(super) stops: usize,
    pub(super) constraint: Option<Constraint>,
    pub(super) terms: SelfEditTerms,
    /// Whether the model may edit itself at all.
    pub(super) may_edit: bool,
    pub(super) context: Option<Context>,
    /// What asks for an edit before the first token, or why that cannot be known.
    pub(super) asked: Result<Option<(Trigger, String)>, String>,
    pub(super) reply: UnboundedSender<Piece>,
}

/// What the stream of a request is doing.
enum Phase {
    /// It answers.
    Speaking,
    /// It writes a self-edit under the grammar, from this place among its tokens; the call began at `marker`.
    Writing { from: usize, marker: usize },
    /// It waits for a self-edit that was asked for at `marker`; `call` where the model reads what came of it. Where the
    /// weights stay, so many tokens of what it `said` do too.
    Editing { since: Instant, marker: usize, said: usize, call: bool },
    /// It has ended.
    Ended,
}

pub(super) struct Talk<'c> {
    core: &'c Core,
    number: u64,
    id: String,
    reply: UnboundedSender<Piece>,
    chosen: Chosen,
    /// Whether `chosen` was not named but active.
    follows: bool,
    session: Option<String>,
    seed: u64,
    prompt_tokens: usize,
    /// Tokens that may still be generated.
    left: usize,
    /// Tokens that were generated.
    made: usize,
    detokenizer: Detokenizer<'c>,
    stop: StopStrings,
    /// How many of the stop strings are the request's; the one after them is the head of a call.
    stops: usize,
    call: Option<&'static CallFormat>,
    marker: Option<u32>,
    /// What was released, and where in all text each token of the answer ends.
    text: String,
    seen: usize,
    /// Where in all text the answer begins, behind the last call.
    begins_at: usize,
    token_ends: Vec<usize>,
    answer: Vec<u32>,
    terms: SelfEditTerms,
    may_edit: bool,
    budget: Budget,
    proposals: u32,
    /// Whether the model was told that there will be no more self-edits.
    is_told: bool,
    context: Option<Context>,
    window: Vec<f32>,
    /// Pieces that wait until the first window of confidence is over.
    held: Option<Vec<Piece>>,
    phase: Phase,
    /// Whether it takes no place among the requests: it waits for an edit, or has ended.
    has_left: bool,
}

impl<'c> Talk<'c> {
    /// Runs the prompt; what can ask for an edit before the first token does.
    pub(super) fn open(core: &'c Core, mut opening: Opening, streams: &mut Streams) -> Talk<'c> {
        let asked = std::mem::replace(&mut opening.asked, Ok(None));
        let codec = core.runtime.model.codec();
        let (call, marker) = match codec.marker() {
            Marker::Call(format) => (opening.may_edit.then_some(format), None),
            Marker::Token(id) => (None, Some(id)),
        };
        let holds = opening.may_edit && opening.terms.triggers.low_confidence.is_some();
        let prompt_tokens = opening.prompt.ids.len();
        let settings = StreamSettings {
            stop: core.runtime.model.stops(opening.prompt.end),
            prompt: opening.prompt,
            adapter: opening.chosen.adapter.clone(),
            sampling: opening.sampling,
            banned: if opening.may_edit { Vec::new() } else { marker.into_iter().collect() },
            constraint: opening.constraint,
            max_new: opening.max_tokens,
        };
        let mut talk = Talk {
            core,
            number: opening.number,
            id: opening.id,
            reply: opening.reply,
            chosen: opening.chosen,
            follows: opening.follows,
            session: opening.session,
            seed: opening.sampling.seed,
            prompt_tokens,
            left: opening.max_tokens,
            made: 0,
            detokenizer: codec.detokenizer(),
            stop: opening.stop,
            stops: opening.stops,
            call,
            marker,
            text: String::new(),
            seen: 0,
            begins_at: 0,
            token_ends: Vec::new(),
            answer: Vec::new(),
            budget: core.options.budget.narrowed(opening.terms.budget),
            terms: opening.terms,
            may_edit: opening.may_edit,
            proposals: 0,
            is_told: false,
            context: opening.context,
            window: Vec::new(),
            held: holds.then(Vec::new),
            phase: Phase::Speaking,
            has_left: false,
        };
        talk.begin(settings, asked, streams);
        talk
    }

    /// A request that nobody will answer.
    pub(super) fn refuse(core: &Core, opening: Opening) {
        let settings = End {
            reason: EndReason::Cancelled,
            prompt_tokens: opening.prompt.ids.len(),
            tokens: 0,
            adapter: opening.chosen.name,
            text: String::new(),
            rest: String::new(),
        };
        core.in_hand.fetch_sub(1, Ordering::Relaxed);
        core.trace_event(&opening.id, Happened::Ended { reason: "cancelled".to_owned(), tokens: 0 });
        let _ = opening.reply.send(Piece::End(settings));
    }

    fn begin(
        &mut self,
        settings: StreamSettings,
        asked: Result<Option<(Trigger, String)>, String>,
        streams: &mut Streams,
    ) {
        let (adapter, prompt_tokens) = (self.chosen.name.clone(), self.prompt_tokens);
        self.trace(Happened::Started { adapter, prompt_tokens });
        self.core.count(|stats| {
            stats.requests += 1;
            stats.prompt_tokens += prompt_tokens as u64;
        });
        if let Err(error) = streams.open(self.core.runtime.model.decoder(), self.number, settings) {
            return self.fail(&error.to_string());
        }
        match asked {
            Ok(Some((trigger, why))) => self.propose(trigger, why, EditText::Model, 0, streams),
            Ok(None) => {}
            Err(why) => self.fail(&why),
        }
    }

    /// Whether it waits for an edit.
    pub(super) fn waits(&self) -> bool {
        matches!(self.phase, Phase::Editing { .. })
    }

    /// Whether nobody hears it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.reply.is_closed()
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// A token was chosen.
    pub(super) fn token(&mut self, id: u32, log_prob: Option<f32>, streams: &mut Streams) {
        if self.reply.is_closed() {
            return self.end(EndReason::Cancelled);
        }
        self.made += 1;
        self.core.count(|stats| stats.tokens += 1);
        if matches!(self.phase, Phase::Writing { .. }) {
            let text = self.core.runtime.model.codec().text(&[id]);
            self.trace(Happened::Token { id, text, log_prob });
            return;
        }
        self.left = self.left.saturating_sub(1);
        if self.may_edit && Some(id) == self.marker {
            self.trace(Happened::Token { id, text: String::new(), log_prob });
            if self.left == 0 {
                return self.end(EndReason::Length);
            }
            let (why, at) = ("the model asked for it".to_owned(), self.answer.len());
            return self.propose(Trigger::Model, why, EditText::Model, at, streams);
        }
        let piece = self.detokenizer.push(id).unwrap_or_default();
        self.answer.push(id);
        self.seen += piece.len();
        self.token_ends.push(self.seen);
        self.trace(Happened::Token { id, text: piece.clone(), log_prob });
        let released = self.released(&piece);
        self.text.push_str(&released.text);
        self.say(Piece::Text { text: released.text, token: id, log_prob });
        match released.stop {
            Some(stop) if stop >= self.stops => self.call_began(streams),
            Some(_) => self.end(EndReason::Stop),
            None => self.watch_confidence(log_prob, streams),
        }
    }

    /// What a piece adds to the answer. A model that calls although it was told that it cannot is no longer heard: the
    /// head of its call is text like any other.
    fn released(&mut self, piece: &str) -> Released {
        let released = self.stop.push(piece);
        let Some(format) = self.call.filter(|_| self.is_told && released.stop >= Some(self.stops)) else {
            return released;
        };
        let text = released.text + format.head.trim_end();
        let behind = self.seen.saturating_sub(self.text.len() + text.len());
        self.stop = self.stop.restarted();
        let next = self.stop.push(piece.get(piece.len().saturating_sub(behind)..).unwrap_or_default());
        Released { text: text + &next.text, stop: next.stop }
    }

    /// Sends a piece, or keeps it until the first window is over.
    fn say(&mut self, piece: Piece) {
        match &mut self.held {
            Some(held) => held.push(piece),
            None => drop(self.reply.send(piece)),
        }
    }

    fn release(&mut self) {
        for piece in self.held.take().into_iter().flatten() {
            let _ = self.reply.send(piece);
        }
    }

    fn watch_confidence(&mut self, log_prob: Option<f32>, streams: &mut Streams) {
        let Some((size, below)) = self.terms.triggers.low_confidence.filter(|_| self.may_edit) else {
            return;
        };
        self.window.extend(log_prob);
        // An answer that has no room to go on is not said anew either.
        if self.window.len() < size.max(1) || self.left == 0 {
            return;
        }
        let mean = self.window.iter().sum::<f32>() / self.window.len() as f32;
        self.window.clear();
        if mean >= below || self.budget.edits == 0 {
            return self.release();
        }
        // What nobody has read yet can be said anew.
        let marker = if self.held.is_some() { 0 } else { streams.tokens(self.number).len() };
        let why = format!("the mean log-probability of {size} tokens is {mean:.2}, below {below:.2}");
        self.propose(Trigger::LowConfidence, why, EditText::Model, marker, streams);
    }

    /// The head of a call was written: from here on the edit is written under the grammar.
    fn call_began(&mut self, streams: &mut Streams) {
        let Some(format) = self.call else { return self.end(EndReason::Stop) };
        if self.left == 0 {
            return self.end(EndReason::Length);
        }
        let starts_at = self.text.len();
        let marker = self.token_ends.iter().take_while(|&&end| end <= starts_at).count();
        let before = marker.checked_sub(1).map_or(self.begins_at, |last| self.token_ends[last]);
        let head = format!("{}{}", self.text.get(before..).unwrap_or_default(), format.head);
        let domain = self.context.as_ref().map(Context::domain);
        let domain = domain.unwrap_or(selkie_edit::Domain::Passage);
        let codec = self.core.runtime.model.codec();
        let ready = codec.formatted(&head).and_then(|ids| Ok((ids, self.core.edit_constraint(domain)?)));
        let (inserted, constraint) = match ready {
            Ok((ids, Some(constraint))) => (ids, constraint),
            Ok((_, None)) => return self.fail("the model cannot write self-edits of this kind of context"),
            Err(error) => return self.fail(&error.to_string()),
        };
        let spoken = streams.tokens(self.number).len() - self.answer.len();
        let room = self.room(spoken + marker + inserted.len());
        if room == 0 {
            return self.end(EndReason::Length);
        }
        self.phase = Phase::Writing { from: spoken + marker + inserted.len(), marker: spoken + marker };
        let resumption = Resumption {
            kept: spoken + marker,
            inserted,
            adapter: self.chosen.adapter.clone(),
            reused: usize::MAX,
            draws_anew: true,
            banned: Vec::new(),
            constraint: Some(constraint),
            max_new: EDIT_TOKENS_MAX.min(room),
        };
        self.resume_stream(resumption, streams);
    }

    /// Positions that the model has behind so many tokens.
    fn room(&self, tokens: usize) -> usize {
        let positions = self.core.runtime.model.decoder().config().max_positions;
        positions.saturating_sub(self.prompt_tokens + tokens)
    }

    /// The stream ended: an edit is written, or the answer is complete.
    pub(super) fn stream_ended(&mut self, reason: StopReason, streams: &mut Streams) {
        if self.waits() {
            // It ended with the token that asked for an edit, and goes on behind that.
            return;
        }
        let Phase::Writing { from, marker } = self.phase else {
            return self.end(match reason {
                StopReason::Length => EndReason::Length,
                _ => EndReason::Stop,
            });
        };
        let tokens = streams.tokens(self.number);
        let text = self.core.runtime.model.codec().text(tokens.get(from..).unwrap_or_default());
        if reason == StopReason::Length {
            self.proposals += 1;
            self.is_told |= self.proposals >= PROPOSALS_MAX;
            self.phase = Phase::Editing { since: Instant::now(), marker, said: tokens.len(), call: true };
            let message =
                format!("refused: a self-edit has at most {EDIT_TOKENS_MAX} tokens; write a shorter one");
            return self.go_on(None, &message, true, streams);
        }
        self.propose(
            Trigger::Model,
            "the model called for it".to_owned(),
            EditText::Given(text),
            marker,
            streams,
        );
    }

    /// Asks for an edit; the stream waits, or reads why it need not.
    fn propose(
        &mut self,
        trigger: Trigger,
        why: String,
        edit: EditText,
        marker: usize,
        streams: &mut Streams,
    ) {
        let call = matches!(edit, EditText::Given(_));
        self.tell(Happened::Triggered { trigger, why });
        streams.pause(self.number);
        // A marker is no part of the answer.
        let marks = usize::from(trigger == Trigger::Model && !call);
        let said = streams.tokens(self.number).len() - marks;
        self.phase = Phase::Editing { since: Instant::now(), marker, said, call };
        self.proposals += 1;
        let submitted = self.submit(trigger, edit);
        if submitted.is_ok() {
            self.leave();
        }
        if let Err(error) = submitted {
            let message = brief(&error.to_string());
            let problems = match error {
                LiveError::Refused(problems) => problems.0,
                _ => Vec::new(),
            };
            self.tell(Happened::Refused { problems, message: message.clone() });
            self.core.count(|stats| stats.refused += 1);
            self.go_on(None, &format!("refused: {message}"), false, streams);
        }
    }

    fn submit(&mut self, trigger: Trigger, edit: EditText) -> Result<(), LiveError> {
        let no = |why: &str| LiveError::Request(why.to_owned());
        if self.budget.edits == 0 || self.proposals >= PROPOSALS_MAX {
            self.is_told = true;
            return Err(no("the budget of self-edits of this request is used up; go on without"));
        }
        let context = self.context.clone();
        let context = context.ok_or_else(|| no("there is nothing here to learn from; go on without"))?;
        let request = EditRequest {
            context,
            edit,
            seed: derive_seed(self.seed, &format!("edit/{}", self.proposals)),
            budget: self.budget,
            scope: self.terms.scope,
            session: self.session.clone(),
            time_to_live: self.terms.time_to_live,
            permission: self.terms.permission,
            trigger,
            fresh: false,
        };
        let origin = Origin { number: self.number, request: self.id.clone(), reply: self.reply.clone() };
        self.core.submit(request, (self.chosen.clone(), self.follows), Some(origin)).map(drop)
    }

    /// An edit of this request ended.
    pub(super) fn edit_over(&mut self, over: EditOver, streams: &mut Streams) {
        if !matches!(self.phase, Phase::Editing { .. }) {
            return;
        }
        self.budget = self.budget.less(over.used);
        // One that was denied before it began is not to be proposed again.
        let again = over.used.edits > 0 && self.budget.edits > 0;
        self.go_on(over.kept, &over.message, again, streams);
    }

    /// Goes on behind an edit, or behind its refusal: under the new adapter where there is one. A model that asks by a
    /// token can do so `again`, or never more in this answer.
    fn go_on(&mut self, kept: Option<Chosen>, message: &str, again: bool, streams: &mut Streams) {
        let Phase::Editing { since, marker, said, call } = self.phase else { return };
        if self.has_left {
            self.has_left = false;
            self.core.in_hand.fetch_add(1, Ordering::Relaxed);
        }
        if self.reply.is_closed() {
            return self.end(EndReason::Cancelled);
        }
        let changed = kept.is_some();
        let (stays, told) = match (call, self.call) {
            (true, Some(format)) => (said, format.answer(message)),
            // What nobody has read can be said anew, by other weights.
            _ => (if changed { marker } else { said }, String::new()),
        };
        // A model that reads no text is told nothing.
        let inserted = self.core.runtime.model.codec().formatted(&told).unwrap_or_default();
        let reused = match (changed, self.terms.kv) {
            (false, _) | (true, Kv::Keep) => usize::MAX,
            (true, Kv::Recompute) => 0,
            (true, Kv::FromMarker) => self.prompt_tokens + marker,
        };
        if let Some(kept) = kept {
            self.chosen = kept;
        }
        if !call && stays < self.answer.len() {
            self.forget_answer(stays);
        }
        self.release_after_edit(call, changed);
        if !again {
            self.terms.triggers.low_confidence = None;
        }
        let room = self.room(stays + inserted.len());
        self.left = self.left.min(room);
        if self.left == 0 {
            return self.end(EndReason::Length);
        }
        let resumption = Resumption {
            kept: stays,
            inserted,
            adapter: self.chosen.adapter.clone(),
            reused,
            draws_anew: changed,
            banned: if again { Vec::new() } else { self.marker.into_iter().collect() },
            constraint: None,
            max_new: self.left,
        };
        self.phase = Phase::Speaking;
        if let Some(recomputed) = self.resume_stream(resumption, streams) {
            let (adapter, kv) = (self.chosen.name.clone(), self.terms.kv);
            let paused_seconds = since.elapsed().as_secs_f64();
            self.tell(Happened::Resumed { adapter, kv, recomputed, paused_seconds });
        }
    }

    /// What was said under the old weights and has not been read is forgotten.
    fn forget_answer(&mut self, stays: usize) {
        self.answer.truncate(stays);
        self.token_ends.truncate(stays);
        let length = self.token_ends.last().copied().unwrap_or(0);
        self.seen = length;
        self.text.truncate(length);
        self.detokenizer = self.core.runtime.model.codec().detokenizer();
        self.stop = self.stop.restarted();
        if let Some(held) = &mut self.held {
            held.clear();
        }
    }

    /// After the result of a call the text begins anew for the stop strings and the detokenizer.
    fn release_after_edit(&mut self, call: bool, changed: bool) {
        self.window.clear();
        if call {
            self.release();
            self.detokenizer = self.core.runtime.model.codec().detokenizer();
            self.stop = self.stop.restarted();
            self.answer.clear();
            self.token_ends.clear();
            self.seen = self.text.len();
            self.begins_at = self.text.len();
        } else if self.budget.edits == 0 || !changed {
            self.release();
        }
    }

    fn resume_stream(&mut self, resumption: Resumption, streams: &mut Streams) -> Option<usize> {
        let resumed = streams.resume(self.core.runtime.model.decoder(), self.number, resumption);
        match resumed {
            Ok(recomputed) => Some(recomputed),
            Err(error) => {
                self.fail(&error.to_string());
                None
            }
        }
    }

    pub(super) fn fail(&mut self, why: &str) {
        self.core.count(|stats| stats.failed += 1);
        self.end(EndReason::Failed(why.to_owned()));
    }

    /// Gives its place among the requests to another one.
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.has_left, true) {
            self.core.in_hand.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Tells the end; nothing follows.
    pub(super) fn end(&mut self, reason: EndReason) {
        if self.has_ended() {
            return;
        }
        let codec = self.core.runtime.model.codec();
        let detokenizer = std::mem::replace(&mut self.detokenizer, codec.detokenizer());
        let mut rest = String::new();
        if !matches!(reason, EndReason::Failed(_) | EndReason::Cancelled) {
            let stop = std::mem::take(&mut self.stop);
            if !stop.has_met() {
                rest = stop.finish();
                rest.push_str(&detokenizer.finish().unwrap_or_default());
                rest.push_str(codec.closing(&self.answer));
            }
        }
        self.release();
        self.text.push_str(&rest);
        let word = match &reason {
            EndReason::Stop => "stop",
            EndReason::Length => "length",
            EndReason::Cancelled => "cancelled",
            EndReason::Failed(_) => "failed",
        };
        // Before it is told: whoever hears it may come back at once.
        self.leave();
        self.trace(Happened::Ended { reason: word.to_owned(), tokens: self.made });
        let end = End {
            reason,
            prompt_tokens: self.prompt_tokens,
            tokens: self.made,
            adapter: self.chosen.name.clone(),
            text: std::mem::take(&mut self.text),
            rest,
        };
        let _ = self.reply.send(Piece::End(end));
        self.phase = Phase::Ended;
    }

    /// Tells everybody, and the request itself.
    fn tell(&self, what: Happened) {
        let event = self.trace(what);
        let _ = self.reply.send(Piece::Event(event));
    }

    fn trace(&self, what: Happened) -> super::TraceEvent {
        self.core.trace_event(&self.id, what)
    }
}

/// What a request is about: its own context, else what its messages hold.
pub(super) fn context_of(texts: &[&str]) -> Option<Context> {
    let read = |text: &&str| Context::to_learn_from_json(text, "the conversation").ok();
    if let Some(context) = texts.iter().rev().find_map(read) {
        return Some(context);
    }
    let all: Vec<&str> = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
    let context = all.join("\n");
    let passage = Passage { title: "the conversation".to_owned(), context, questions: Vec::new() };
    (!passage.context.is_empty()).then_some(Context::Passage(passage))
}
