//! A model that answers many requests at once and may edit itself in the middle of one.
//!
//! [`Live`] is a handle that is cheap to clone. Behind it one thread decodes all streams in shared passes, and one
//! thread, the only writer, carries out self-edits one after the other. Neither waits for the other, except a stream
//! whose own edit is under way.

mod ask;
mod edits;
mod error;
mod reply;
mod request;
mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use selkie_edit::{Domain, SelfEdit};
use selkie_store::RollbackTo;

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
    runtime: Arc<Runtime>,
    options: LiveOptions,
}

impl Live {
    /// Starts the two threads.
    ///
    /// # Errors
    /// A home that cannot be opened, and an active adapter that does not fit the model.
    pub fn start(runtime: Arc<Runtime>, options: LiveOptions) -> Result<Live, LiveError> {
        Ok(Live { inner: Arc::new(Inner { runtime, options }) })
    }

    /// The model and the tools.
    pub fn runtime(&self) -> &Runtime {
        &self.inner.runtime
    }

    /// Begins to generate.
    ///
    /// # Errors
    /// A prompt that the model does not understand or has no room for, an adapter that nobody knows, settings that
    /// mean nothing, and [`LiveError::Busy`].
    pub fn generate(&self, request: GenerateRequest) -> Result<Reply, LiveError> {
        let _ = request;
        Err(LiveError::Closed)
    }

    /// Parses and validates a self-edit; nothing is run.
    ///
    /// # Errors
    /// Every problem of the edit.
    pub fn check(&self, text: &str, domain: Domain) -> Result<SelfEdit, selkie_edit::Refused> {
        self.inner.runtime.accept(text, domain)
    }

    /// Puts a self-edit into the queue; the answer is its id. A given text is validated first.
    ///
    /// # Errors
    /// [`LiveError::Refused`] with every problem, [`LiveError::Denied`], [`LiveError::Busy`] when the queue is full.
    pub fn submit(&self, request: EditRequest) -> Result<String, LiveError> {
        let _ = request;
        Err(LiveError::Closed)
    }

    /// Says whether an edit that waits for approval may run.
    ///
    /// # Errors
    /// [`LiveError::UnknownEdit`], and [`LiveError::NotWaiting`] when it does not wait for that.
    pub fn approve(&self, edit: &str, allow: bool) -> Result<(), LiveError> {
        let _ = (edit, allow);
        Err(LiveError::Closed)
    }

    /// The state of an edit of this runtime. The newest thousand are remembered; the ledger has all.
    ///
    /// # Errors
    /// [`LiveError::UnknownEdit`].
    pub fn edit(&self, edit: &str) -> Result<EditStatus, LiveError> {
        Err(LiveError::UnknownEdit { edit: edit.to_owned() })
    }

    /// The edits of this runtime, newest first.
    pub fn edits(&self) -> Vec<EditStatus> {
        Vec::new()
    }

    /// The events of an edit so far, tokens left out.
    ///
    /// # Errors
    /// [`LiveError::UnknownEdit`].
    pub fn edit_events(&self, edit: &str) -> Result<Vec<TraceEvent>, LiveError> {
        Err(LiveError::UnknownEdit { edit: edit.to_owned() })
    }

    /// Waits until an edit has ended, without blocking a thread.
    ///
    /// # Errors
    /// [`LiveError::UnknownEdit`], [`LiveError::Closed`].
    pub async fn finished(&self, edit: &str) -> Result<EditStatus, LiveError> {
        self.edit(edit)
    }

    /// Moves the active pointer of everybody; waits for an edit that is under way. Blocks: call it from a thread that may.
    ///
    /// # Errors
    /// The store's: nothing to roll back, an unknown generation.
    pub fn rollback(&self, to: RollbackTo) -> Result<String, LiveError> {
        let _ = to;
        Err(LiveError::Closed)
    }

    /// The same by name: `base`, `parent`, or a generation.
    ///
    /// # Errors
    /// As [`Live::rollback`].
    pub fn rollback_to(&self, name: &str) -> Result<String, LiveError> {
        let _ = name;
        Err(LiveError::Closed)
    }

    /// What requests may name: the base model, the generations of this model (newest first), and what was loaded.
    ///
    /// # Errors
    /// The store's.
    pub fn adapters(&self) -> Result<Vec<AdapterCard>, LiveError> {
        Ok(Vec::new())
    }

    /// Loads a PEFT folder under a name. Loading the same name again replaces it; requests that run keep theirs.
    ///
    /// # Errors
    /// A name that is taken by the model or a generation or is no plain name, and a folder that is no adapter of this
    /// model.
    pub fn load_adapter(&self, name: &str, folder: &Path) -> Result<AdapterCard, LiveError> {
        let _ = (name, folder);
        Err(LiveError::Closed)
    }

    /// Forgets an adapter that was loaded.
    ///
    /// # Errors
    /// [`LiveError::UnknownAdapter`].
    pub fn unload_adapter(&self, name: &str) -> Result<(), LiveError> {
        Err(LiveError::UnknownAdapter { name: name.to_owned() })
    }

    /// The name of what is active for everybody: `base` or a generation.
    pub fn active(&self) -> String {
        "base".to_owned()
    }

    /// Everything that happens from now on, tokens included. A reader that is too slow misses events, and is told how
    /// many by the gap in the numbers.
    pub fn trace(&self) -> Trace {
        Trace { events: tokio::sync::broadcast::channel(1).1 }
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Stops: new requests are refused, streams end as cancelled, the queue is refused, and the running edit is finished
    /// or, where `finish` is false, abandoned before its next step. Blocks until both threads have ended.
    pub fn shutdown(&self, finish: bool) {
        let _ = finish;
    }
}

/// Events as they happen. Also a [`futures_core::Stream`].
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
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// The next event, for programs that are not async.
    pub fn next_blocking(&mut self) -> Option<TraceEvent> {
        loop {
            match self.events.blocking_recv() {
                Ok(event) => return Some(event),
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
