//! A model that answers many requests at once and may edit itself in the middle of one.
//!
//! [`Live`] is a handle that is cheap to clone. Behind it one thread decodes all streams in shared passes, and one
//! thread, the only writer, carries out self-edits one after the other. Neither waits for the other, except a stream
//! whose own edit is under way. Where a request's context is to be looked at before the first token, a third does that.

mod adapters;
mod core;
mod decode;
mod edits;
mod error;
mod hub;
mod reply;
mod request;
mod talk;
mod trace;
mod work;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use selkie_edit::{Context, Domain, Report, SelfEdit};
use selkie_learn::calls::{Marker, SELF_EDIT_TOOL};
use selkie_learn::pup::render::Prompt as Rendered;
use selkie_learn::{Codec, Constraint, LearnError, StopStrings, spawn_on_own_threads};
use selkie_store::{RollbackTo, Store};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use self::core::Core;
use self::decode::Command;
use self::talk::{Opening, context_of};

pub use edits::{EditState, EditStatus};
pub use error::LiveError;
pub use reply::{End, EndReason, Piece, Reply};
pub use request::{
    AdapterChoice, Budget, EditRequest, EditText, GenerateRequest, Message, Permission, Prompt,
    SelfEditTerms, Triggers,
};
pub use trace::{Answered, GateScores, Happened, Kv, Scope, TraceEvent, Trigger, When};

use crate::runtime::Runtime;

/// How a live runtime works, beyond what each request says.
#[derive(Debug, Clone)]
pub struct LiveOptions {
    /// Where generations and the ledger are.
    pub home: PathBuf,
    /// Streams that are decoded at the same time; more wait.
    pub streams: usize,
    /// Requests that may wait for a stream; more are refused.
    pub waiting: usize,
    /// Self-edits that may wait for their turn; more are refused.
    pub queue: usize,
    /// New tokens of one answer at most.
    pub max_tokens: usize,
    /// What self-edits of one request may use at most.
    pub budget: Budget,
    /// Whether models may edit themselves, whatever requests say.
    pub permission: Permission,
    /// How long a session's adapter lives after its last use.
    pub session_time_to_live: Duration,
    /// How long an edit waits for approval before it is refused.
    pub approval_timeout: Duration,
    /// Threads that training uses; 0 is one a core.
    pub training_threads: usize,
    /// Now, in milliseconds since 1970. An argument, so that the engine has no clock of its own.
    pub clock: fn() -> i64,
}

impl LiveOptions {
    /// Sixteen streams, sixty-four requests and sixteen edits that wait, answers of 1,024 tokens; self-edits are allowed,
    /// sessions last an hour, approvals ten minutes. The clock stands still: set it.
    pub fn new(home: PathBuf) -> LiveOptions {
        LiveOptions {
            home,
            streams: 16,
            waiting: 64,
            queue: 16,
            max_tokens: 1024,
            budget: Budget::default(),
            permission: Permission::Allow,
            session_time_to_live: Duration::from_secs(3600),
            approval_timeout: Duration::from_secs(600),
            training_threads: 0,
            clock: || 0,
        }
    }
}

/// An adapter that requests may name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct AdapterCard {
    /// `base`, a generation (`g3`), or the name that it was loaded under.
    pub name: String,
    /// What it was trained on top of; none for the base model and for adapters that were loaded.
    pub parent: Option<String>,
    /// Whether it is active for everybody.
    pub active: bool,
    /// Content id of its files (32 hex digits); none for the base model.
    pub content: Option<String>,
    /// Where it came from: `base`, `generation`, `loaded` or `session`.
    pub origin: String,
    /// The context of the edit that made it, where there was one.
    pub context: Option<String>,
    /// The self-edit that made it, in this runtime: an id, or the ledger's entry (`e12`).
    pub edit: Option<String>,
}

/// What a live runtime has done and is doing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// Streams that are decoded now.
    pub streams: usize,
    /// Requests that wait for a stream.
    pub waiting: usize,
    /// Edits that wait for their turn.
    pub queued: usize,
    /// Whether an edit is under way.
    pub training: bool,
    /// Requests since the start: all, and those that failed.
    pub requests: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub tokens: u64,
    /// Passes over several streams or one.
    pub passes: u64,
    /// Edits that were kept.
    pub kept: u64,
    /// Edits that were discarded by the gate.
    pub discarded: u64,
    /// Edits that were refused.
    pub refused: u64,
    /// Edits that failed by something else.
    pub edit_failures: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Seconds of training.
    pub training_seconds: f64,
}

/// A live runtime. Clones share it; it stops when [`Live::shutdown`] is called or the last clone is dropped.
#[derive(Clone)]
pub struct Live {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    decoding: JoinHandle<()>,
    /// Closed when the other thread has ended.
    editing: mpsc::Receiver<()>,
}

impl Live {
    /// Starts the two threads.
    ///
    /// # Errors
    /// A home that cannot be opened or that another process writes to, and an active adapter that does not fit the
    /// model.
    pub fn start(runtime: Arc<Runtime>, options: LiveOptions) -> Result<Live, LiveError> {
        let store = Store::open(&options.home)?;
        let reader = Store::read_only(&options.home)?;
        let (commands, orders) = mpsc::channel();
        let training_threads = options.training_threads;
        let core = Arc::new(Core::new(runtime, options, reader, commands)?);
        core.adapters.active()?;
        let (done, editing) = mpsc::channel();
        let own = core.clone();
        spawn_on_own_threads("selkie-edit", training_threads, move || {
            work::run(&own, store);
            drop(done);
        })?;
        let own = core.clone();
        let named = std::thread::Builder::new().name("selkie-decode".to_owned());
        let decoding = named.spawn(move || decode::run(&own, &orders)).map_err(LiveError::Thread)?;
        let threads = Mutex::new(Some(Threads { decoding, editing }));
        Ok(Live { inner: Arc::new(Inner { core, threads }) })
    }

    /// The model and the tools.
    pub fn runtime(&self) -> &Runtime {
        &self.core().runtime
    }

    /// How it was started.
    pub fn options(&self) -> &LiveOptions {
        &self.core().options
    }

    fn core(&self) -> &Core {
        &self.inner.core
    }

    /// Begins to generate.
    ///
    /// # Errors
    /// A prompt that the model does not understand or has no room for, an adapter that nobody knows, settings that
    /// mean nothing, and [`LiveError::Busy`].
    pub fn generate(&self, request: GenerateRequest) -> Result<Reply, LiveError> {
        let core = self.core();
        let number = core.number();
        let id = format!("request-{number}");
        let (reply, pieces) = tokio::sync::mpsc::unbounded_channel();
        let opening = self.opening(number, &id, request, reply)?;
        let limit = core.options.streams.max(1) + core.options.waiting;
        let taken = core.in_hand.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < limit && !core.closing.load(Ordering::Acquire)).then_some(count + 1)
        });
        if taken.is_err() {
            let busy = LiveError::Busy {
                what: "the queue of requests",
                limit: core.options.waiting,
                retry_after: Duration::from_secs(1),
            };
            return Err(if core.closing.load(Ordering::Acquire) { LiveError::Closed } else { busy });
        }
        self.open(Box::new(opening))?;
        Ok(Reply { request: id, pieces })
    }

    /// Hands a request to the thread that decodes; before that another thread looks whether its context asks for an edit,
    /// because that may take as long as an answer.
    fn open(&self, mut opening: Box<Opening>) -> Result<(), LiveError> {
        let triggers = opening.terms.triggers;
        let looks = opening.may_edit && (triggers.document || triggers.failed_grader);
        let Some(context) = opening.context.clone().filter(|_| looks) else {
            let sent = self.core().commands.send(Command::Open(opening));
            return sent.map_err(|_| LiveError::Closed);
        };
        let core = self.inner.core.clone();
        let look = move || {
            let is_gone = || opening.reply.is_closed();
            let asked = core.asked_at_first(&context, &opening.chosen, triggers, &is_gone);
            opening.asked = asked.map_err(|error| error.to_string());
            let _ = core.commands.send(Command::Open(opening));
        };
        let named = std::thread::Builder::new().name("selkie-look".to_owned());
        named.spawn(look).map(drop).map_err(|error| {
            self.core().in_hand.fetch_sub(1, Ordering::Relaxed);
            LiveError::Thread(error)
        })
    }

    fn opening(
        &self,
        number: u64,
        id: &str,
        request: GenerateRequest,
        reply: tokio::sync::mpsc::UnboundedSender<Piece>,
    ) -> Result<Opening, LiveError> {
        let core = self.core();
        check_session(request.session.as_deref())?;
        request.sampling.check().map_err(said)?;
        let may_edit = request.self_edit.permission != Permission::Deny
            && core.options.permission != Permission::Deny
            && request.grammar.is_none();
        let context = self.context(&request, may_edit);
        let prompt = self.rendered(&request.prompt, context.as_ref().filter(|_| may_edit)).map_err(said)?;
        let positions = core.runtime.model.decoder().config().max_positions;
        let room = positions.saturating_sub(prompt.ids.len());
        if room == 0 {
            let tokens = prompt.ids.len();
            return Err(LiveError::Request(format!(
                "the prompt has {tokens} tokens; the model has {positions} positions, for the prompt and what follows"
            )));
        }
        let max_tokens = request.max_tokens.unwrap_or(core.options.max_tokens);
        if max_tokens == 0 || max_tokens > core.options.max_tokens {
            let limit = core.options.max_tokens;
            return Err(LiveError::Request(format!("max_tokens is {max_tokens}; expected 1 to {limit}")));
        }
        let marker = core.runtime.model.codec().marker();
        let mut stops = request.stop.clone();
        if let (Marker::Call(format), true) = (marker, may_edit) {
            stops.push(format.head.trim_end().to_owned());
        }
        let constraint = request.grammar.as_ref().map(|grammar| {
            let vocabulary = core.runtime.model.codec().vocabulary(core.runtime.model.decoder().config())?;
            Constraint::new(&vocabulary, grammar)
        });
        let session = request.session.as_deref();
        Ok(Opening {
            number,
            id: id.to_owned(),
            chosen: core.adapters.choose(&request.adapter, session, may_edit, core.now_ms())?,
            prompt,
            sampling: request.sampling,
            max_tokens: max_tokens.min(room),
            stops: request.stop.len(),
            stop: StopStrings::new(stops).map_err(said)?,
            constraint: constraint.transpose().map_err(said)?,
            terms: request.self_edit,
            may_edit,
            follows: request.adapter == AdapterChoice::Active,
            session: request.session,
            context,
            asked: Ok(None),
            reply,
        })
    }

    /// What edits in the middle of a request would learn from.
    fn context(&self, request: &GenerateRequest, may_edit: bool) -> Option<Context> {
        if !may_edit {
            return None;
        }
        if let Some(context) = &request.self_edit.context {
            return Some(context.clone());
        }
        match &request.prompt {
            Prompt::Text(text) => context_of(&[text]),
            Prompt::Chat(messages) => {
                let from_people = messages.iter().filter(|message| message.role != "assistant");
                context_of(&from_people.map(|message| message.content.as_str()).collect::<Vec<_>>())
            }
            // Its answers are not the request's to learn from.
            Prompt::Item(context, _) => Some(context.without_answers()),
        }
    }

    /// The prompt in the model's language; with a context, a chat template is told of the tool.
    fn rendered(&self, prompt: &Prompt, context: Option<&Context>) -> Result<Rendered, LearnError> {
        let codec = self.core().runtime.model.codec();
        match prompt {
            Prompt::Text(text) => {
                let prompt = codec.text_prompt(text)?;
                match prompt.ids.is_empty() {
                    true => Err(LearnError::Render("the prompt is empty".to_owned())),
                    false => Ok(prompt),
                }
            }
            Prompt::Chat(messages) => {
                let messages: Vec<_> = messages
                    .iter()
                    .map(|message| (message.role.as_str(), message.content.as_str()))
                    .collect();
                let tool = context.filter(|_| matches!(codec, Codec::Chat(_)));
                codec.conversation(&messages, tool.map(|context| self.tool(context.domain())).as_ref())
            }
            Prompt::Item(context, place) => codec.asked(context, *place),
        }
    }

    /// The tool `self_edit`, as chat templates list tools.
    fn tool(&self, domain: Domain) -> serde_json::Value {
        let schema = selkie_edit::schema::compose(&self.core().runtime.host.catalogue().suited(domain));
        json!([{ "type": "function", "function": {
            "name": SELF_EDIT_TOOL,
            "description": "Change your own weights by a short training on what is in this conversation, when you \
                            cannot answer without. You are told whether it was kept, and go on with the new weights.",
            "parameters": schema,
        }}])
    }

    /// Parses and validates a self-edit; nothing is run.
    ///
    /// # Errors
    /// Every problem of the edit.
    pub fn check(&self, text: &str, domain: Domain) -> Result<SelfEdit, selkie_edit::Refused> {
        self.core().runtime.accept(text, domain)
    }

    /// Puts a self-edit into the queue; the answer is its id. A given text is validated first.
    ///
    /// # Errors
    /// [`LiveError::Refused`] with every problem, [`LiveError::Denied`], [`LiveError::Busy`] when the queue is full.
    pub fn submit(&self, request: EditRequest) -> Result<String, LiveError> {
        let core = self.core();
        let session = request.session.as_deref();
        check_session(session)?;
        let start = core.adapters.choose(&AdapterChoice::Active, session, false, core.now_ms())?;
        core.submit(request, (start, true), None)
    }

    /// Says whether an edit that waits for approval may run.
    ///
    /// # Errors
    /// [`LiveError::UnknownEdit`], and [`LiveError::NotWaiting`] when it does not wait for that.
    pub fn approve(&self, edit: &str, allow: bool) -> Result<(), LiveError> {
        self.core().approve(edit, allow)
    }

    /// The state of an edit of this runtime. The newest 256 are remembered; the ledger has all.
    ///
    /// # Errors
    /// [`LiveError::UnknownEdit`].
    pub fn edit(&self, edit: &str) -> Result<EditStatus, LiveError> {
        locked(&self.core().edits).status(edit)
    }

    /// The edits of this runtime, newest first.
    pub fn edits(&self) -> Vec<EditStatus> {
        locked(&self.core().edits).all()
    }

    /// The events of an edit so far, tokens left out.
    ///
    /// # Errors
    /// [`LiveError::UnknownEdit`].
    pub fn edit_events(&self, edit: &str) -> Result<Vec<TraceEvent>, LiveError> {
        locked(&self.core().edits).events(edit)
    }

    /// Waits until an edit has ended, without blocking a thread.
    ///
    /// # Errors
    /// [`LiveError::UnknownEdit`], [`LiveError::Closed`].
    pub async fn finished(&self, edit: &str) -> Result<EditStatus, LiveError> {
        let mut events = self.core().hub.listen();
        loop {
            let status = self.edit(edit)?;
            if status.state.is_over() {
                return Ok(status);
            }
            if let Err(RecvError::Closed) = events.recv().await {
                return self.edit(edit).and_then(|status| match status.state.is_over() {
                    true => Ok(status),
                    false => Err(LiveError::Closed),
                });
            }
        }
    }

    /// The same for programs that are not async.
    ///
    /// # Errors
    /// As [`Live::finished`].
    pub fn finished_blocking(&self, edit: &str) -> Result<EditStatus, LiveError> {
        let mut events = self.core().hub.listen();
        loop {
            let status = self.edit(edit)?;
            if status.state.is_over() {
                return Ok(status);
            }
            if let Err(RecvError::Closed) = events.blocking_recv() {
                let status = self.edit(edit)?;
                return if status.state.is_over() { Ok(status) } else { Err(LiveError::Closed) };
            }
        }
    }

    /// Moves the active pointer of everybody; waits for an edit that is under way, and goes before those that wait. The
    /// answer is what is active now. Blocks: call it from a thread that may.
    ///
    /// # Errors
    /// The store's: nothing to roll back, an unknown generation. [`LiveError::Busy`] where as many wait as edits may.
    pub fn rollback(&self, to: RollbackTo) -> Result<String, LiveError> {
        let (reply, answer) = mpsc::channel();
        if !self.core().queue.push_rollback(to, reply) {
            return Err(self.core().busy());
        }
        answer.recv().map_err(|_| LiveError::Closed)?
    }

    /// The same by name: `base`, `parent`, or a generation.
    ///
    /// # Errors
    /// As [`Live::rollback`].
    pub fn rollback_to(&self, name: &str) -> Result<String, LiveError> {
        self.rollback(match name {
            "base" => RollbackTo::Base,
            "parent" => RollbackTo::Parent,
            name => RollbackTo::Generation(self.core().adapters.generation_named(name)?),
        })
    }

    /// What requests may name: the base model, the generations of this model (newest first), and what was loaded.
    ///
    /// # Errors
    /// The store's.
    pub fn adapters(&self) -> Result<Vec<AdapterCard>, LiveError> {
        self.core().adapters.cards()
    }

    /// The newest entries of the ledger.
    ///
    /// # Errors
    /// The store's.
    pub fn log(&self, limit: usize) -> Result<Vec<selkie_store::Entry>, LiveError> {
        self.core().adapters.log(limit)
    }

    /// How likely a completion is after a prompt, under an adapter.
    ///
    /// # Errors
    /// An adapter that nobody knows, and text that the model does not understand or has no room for.
    pub fn score(
        &self,
        adapter: &AdapterChoice,
        session: Option<&str>,
        prompt: &str,
        completion: &str,
    ) -> Result<selkie_learn::Score, LiveError> {
        let core = self.core();
        let chosen = core.adapters.choose(adapter, session, false, core.now_ms())?;
        let scored = core.runtime.model.likelihood(chosen.adapter.as_deref(), prompt, completion);
        Ok(scored.map_err(said)?.0)
    }

    /// How the model does on a context under an adapter, by what the gate of an edit would ask.
    ///
    /// # Errors
    /// An adapter that nobody knows, and a context that the model does not understand or that has nothing to ask.
    pub fn evaluate(
        &self,
        adapter: &AdapterChoice,
        session: Option<&str>,
        context: &Context,
    ) -> Result<Report, LiveError> {
        let core = self.core();
        let chosen = core.adapters.choose(adapter, session, false, core.now_ms())?;
        let asked = context.gated().asked;
        core.runtime.model.evaluate_asked(chosen.adapter.as_deref(), &asked).map_err(said)
    }

    /// The name of the adapter that a request with this choice would be answered with now.
    ///
    /// # Errors
    /// An adapter that nobody knows.
    pub fn adapter_name(&self, adapter: &AdapterChoice, session: Option<&str>) -> Result<String, LiveError> {
        let core = self.core();
        Ok(core.adapters.choose(adapter, session, false, core.now_ms())?.name)
    }

    /// Loads a PEFT folder under a name. Loading the same name again replaces it; requests that run keep theirs.
    ///
    /// # Errors
    /// A name that is taken by the model or a generation or is no plain name, and a folder that is no adapter of this
    /// model.
    pub fn load_adapter(&self, name: &str, folder: &Path) -> Result<AdapterCard, LiveError> {
        self.core().adapters.load(name, folder)
    }

    /// Forgets an adapter that was loaded.
    ///
    /// # Errors
    /// [`LiveError::UnknownAdapter`].
    pub fn unload_adapter(&self, name: &str) -> Result<(), LiveError> {
        self.core().adapters.unload(name)
    }

    /// The name of what is active for everybody: `base` or a generation.
    ///
    /// # Errors
    /// The store's.
    pub fn active(&self) -> Result<String, LiveError> {
        Ok(self.core().adapters.active()?.name)
    }

    /// Everything that happens from now on, tokens included. A reader that is too slow misses events, and is told how
    /// many by the gap in the numbers.
    pub fn trace(&self) -> Trace {
        Trace { events: self.core().hub.listen() }
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        Stats { queued: self.core().queue.len(), ..*locked(&self.core().stats) }
    }

    /// Stops: new requests are refused, streams end as cancelled, the queue is refused, and the running edit is finished
    /// or, where `finish` is false, abandoned before its next step. Blocks until both threads have ended. A second call
    /// abandons what a first one lets finish.
    pub fn shutdown(&self, finish: bool) {
        self.inner.stop(finish);
    }
}

impl Inner {
    fn stop(&self, finish: bool) {
        let core = &self.core;
        core.closing.store(true, Ordering::Release);
        core.deny_all();
        // After that, so that nothing is begun only to be abandoned.
        if !finish {
            core.abandon.store(true, Ordering::Release);
        }
        let Some(threads) = locked(&self.threads).take() else { return };
        // Nothing is ever sent on it; it closes.
        let _ = threads.editing.recv();
        let _ = core.commands.send(Command::Close);
        let _ = threads.decoding.join();
        core.hub.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop(false);
    }
}

/// Characters of a session's name.
const SESSION_CHARS_MAX: usize = 256;

fn check_session(name: Option<&str>) -> Result<(), LiveError> {
    let fits = |name: &str| !name.is_empty() && name.chars().count() <= SESSION_CHARS_MAX;
    match name.is_none_or(fits) {
        true => Ok(()),
        false => Err(LiveError::Request(format!("a session's name has 1 to {SESSION_CHARS_MAX} characters"))),
    }
}

/// A lock whose holder panicked is still a lock: what it guards is whole between its changes.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn said(error: LearnError) -> LiveError {
    LiveError::Request(match error {
        LearnError::Render(reason) | LearnError::Sampling(reason) => reason,
        other => other.to_string(),
    })
}

/// Events as they happen.
#[derive(Debug)]
pub struct Trace {
    events: tokio::sync::broadcast::Receiver<TraceEvent>,
}

impl Trace {
    /// The next event; none after the runtime has stopped.
    pub async fn next(&mut self) -> Option<TraceEvent> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next event, for programs that are not async.
    pub fn next_blocking(&mut self) -> Option<TraceEvent> {
        loop {
            match self.events.blocking_recv() {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
