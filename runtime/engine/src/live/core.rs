//! What the two threads and all handles share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use selkie_edit::{Asked, Context, Domain};
use selkie_learn::codec::Item;
use selkie_learn::{Constraint, LearnError};
use tokio::sync::mpsc::UnboundedSender;

use super::adapters::{Adapters, Chosen};
use super::decode::Command;
use super::edits::{EditState, EditStatus, Edits};
use super::hub::Hub;
use super::reply::Piece;
use super::request::{Budget, EditRequest, EditText, Permission, Triggers};
use super::trace::{Happened, Scope, TraceEvent, Trigger};
use super::work::{GONE, Job, Queue, SHUTTING_DOWN, is_gone};
use super::{LiveError, LiveOptions, Stats, locked};
use crate::runtime::Runtime;

/// Anchors that are asked around each edit.
const ANCHORS: usize = 16;

pub(super) struct Core {
    pub(super) runtime: Arc<Runtime>,
    pub(super) options: LiveOptions,
    pub(super) hub: Hub,
    pub(super) adapters: Adapters,
    pub(super) queue: Queue,
    pub(super) edits: Mutex<Edits>,
    pub(super) stats: Mutex<Stats>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) anchors: Vec<Item>,
    /// Requests that are decoded or wait.
    pub(super) in_hand: AtomicUsize,
    pub(super) next: AtomicU64,
    pub(super) closing: AtomicBool,
    /// The running edit is to end before its next step.
    pub(super) abandon: AtomicBool,
    constraints: Mutex<HashMap<Domain, Constraint>>,
    /// Held while it is looked at whether a request's context asks for an edit, so that this is one thread's work.
    looking: Mutex<()>,
}

/// Items that are scored between two looks at whether anybody still waits for it.
const SCORED_AT_ONCE: usize = 16;

/// In the middle of which request an edit was proposed.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) number: u64,
    pub(super) request: String,
    pub(super) reply: UnboundedSender<Piece>,
}

impl Core {
    pub(super) fn new(
        runtime: Arc<Runtime>,
        options: LiveOptions,
        reader: selkie_store::Reader,
        commands: mpsc::Sender<Command>,
    ) -> Result<Core, LiveError> {
        Ok(Core {
            hub: Hub::new(options.clock),
            adapters: Adapters::new(runtime.model.clone(), reader)?,
            queue: Queue::new(options.queue),
            edits: Mutex::default(),
            stats: Mutex::default(),
            anchors: anchors(&runtime)?,
            in_hand: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            closing: AtomicBool::new(false),
            abandon: AtomicBool::new(false),
            constraints: Mutex::default(),
            looking: Mutex::default(),
            commands,
            runtime,
            options,
        })
    }

    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn now_ms(&self) -> i64 {
        (self.options.clock)()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut locked(&self.stats));
    }

    /// What a self-edit is constrained to while it is written; compiled once.
    pub(super) fn edit_constraint(&self, domain: Domain) -> Result<Option<Constraint>, LearnError> {
        if let Some(known) = locked(&self.constraints).get(&domain) {
            return Ok(Some(known.clone()));
        }
        let made = self.runtime.model.edit_constraint(self.runtime.host.catalogue(), domain)?;
        if let Some(made) = &made {
            locked(&self.constraints).insert(domain, made.clone());
        }
        Ok(made)
    }

    /// Whether something asks for an edit before the model has said anything; `is_gone` ends the look.
    pub(super) fn asked_at_first(
        &self,
        context: &Context,
        chosen: &Chosen,
        triggers: Triggers,
        is_gone: &dyn Fn() -> bool,
    ) -> Result<Option<(Trigger, String)>, LiveError> {
        let _one = locked(&self.looking);
        if triggers.document && !self.adapters.has_learned(chosen, context)? {
            let why = format!("`{}` is new to {}", context.name(), chosen.name);
            return Ok(Some((Trigger::Document, why)));
        }
        if !triggers.failed_grader {
            return Ok(None);
        }
        let asked = context.gated().asked;
        let model = &self.runtime.model;
        let items = match &asked {
            Asked::Known(context) | Asked::HeldOut(context) => model.codec().items(context)?,
            Asked::Text(passage) => vec![model.codec().text_item(passage)?],
        };
        let mut solved = 0;
        for some in items.chunks(SCORED_AT_ONCE) {
            if is_gone() || self.closing.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let scores = model.score_items(&[(chosen.adapter.as_deref(), some)])?.swap_remove(0);
            solved += scores.iter().filter(|score| score.greedy).count();
        }
        let why = format!("{solved} of {} known answers ({}) are right", items.len(), asked.name());
        Ok((solved < items.len()).then_some((Trigger::FailedGrader, why)))
    }

    /// Tells an event of an edit: to everybody, to the edit's own list, and to the request that it belongs to.
    pub(super) fn tell_edit(&self, edit: &str, origin: Option<&Origin>, what: Happened) {
        self.tell_change(edit, origin, what, |_| ());
    }

    /// The same with a change of what is known of the edit: nobody sees one without the other.
    pub(super) fn tell_change(
        &self,
        edit: &str,
        origin: Option<&Origin>,
        what: Happened,
        change: impl FnOnce(&mut EditStatus),
    ) {
        let event = {
            let mut edits = locked(&self.edits);
            edits.change(edit, change);
            let event = self.hub.tell(origin.map(|origin| origin.request.as_str()), Some(edit), what);
            edits.add_event(edit, event.clone());
            event
        };
        if let Some(origin) = origin {
            let _ = origin.reply.send(Piece::Event(event));
        }
    }

    /// Takes an edit in: validates what can be, and lets it wait for approval or for its turn. It is trained on top of
    /// `start`, or, where that follows what is active, of what is active at its turn.
    pub(super) fn submit(
        &self,
        request: EditRequest,
        (start, follows): (Chosen, bool),
        origin: Option<Origin>,
    ) -> Result<String, LiveError> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(LiveError::Closed);
        }
        let permission = self.permitted(request.permission, origin.is_some())?;
        let learn = request.context.gated().learn;
        if let EditText::Given(text) = &request.edit {
            self.runtime.accept(text, learn.domain())?;
        }
        self.measurable(&request)?;
        let budget = self.options.budget.narrowed(request.budget);
        if budget.edits == 0 {
            return Err(LiveError::Request(
                "the budget of self-edits is 0; nothing may be trained".to_owned(),
            ));
        }
        // Those that wait for approval are as many at most.
        if self.queue.is_full() || locked(&self.edits).parked() >= self.options.queue.max(1) {
            return Err(self.busy());
        }
        let id = format!("edit-{}", self.number());
        let by_model = origin.is_some() && matches!(request.edit, EditText::Given(_));
        let job = Job { id: id.clone(), budget, request, start, follows, by_model, origin };
        self.enter(&job);
        let waits = permission == Permission::Ask && matches!(job.request.edit, EditText::Given(_));
        if waits {
            self.park(job);
        } else {
            self.enqueue(job, permission == Permission::Ask)?;
        }
        Ok(id)
    }

    /// The stricter of what the operator and the request say. What a client calls for itself is not what a model wants.
    fn permitted(&self, asked: Permission, by_model: bool) -> Result<Permission, LiveError> {
        match (self.options.permission, asked) {
            (Permission::Deny, _) => Err(LiveError::Denied { by: "by the operator" }),
            (_, Permission::Deny) => Err(LiveError::Denied { by: "by the request" }),
            (Permission::Ask, _) if by_model => Ok(Permission::Ask),
            (_, asked) => Ok(asked),
        }
    }

    /// Whether the model understands the context, and there is something to measure by.
    fn measurable(&self, request: &EditRequest) -> Result<(), LiveError> {
        let codec = self.runtime.model.codec();
        let possible = match request.context.gated().asked {
            Asked::Known(context) | Asked::HeldOut(context) => codec.items(&context).map(drop),
            Asked::Text(passage) => codec.text_item(&passage).map(drop),
        };
        possible.map_err(|error| LiveError::Request(format!("`{}`: {error}", request.context.name())))
    }

    fn enter(&self, job: &Job) {
        let Job { id, request, origin, .. } = job;
        let text = match &request.edit {
            EditText::Model => None,
            EditText::Given(text) => Some(text.clone()),
        };
        locked(&self.edits).enter(EditStatus {
            id: id.clone(),
            state: EditState::Queued,
            time_ms: self.now_ms(),
            request: origin.as_ref().map(|origin| origin.request.clone()),
            trigger: request.trigger,
            scope: request.scope,
            context: request.context.name().to_owned(),
            text: text.clone(),
            steps: (0, 0),
            losses: Vec::new(),
            before: None,
            after: None,
            reason: None,
            generation: None,
            entry: None,
        });
        if origin.is_none() {
            let why = "called for".to_owned();
            self.tell_edit(id, None, Happened::Triggered { trigger: request.trigger, why });
        }
        if let Some(text) = text {
            self.tell_edit(id, origin.as_ref(), Happened::Proposed { text, attempt: 1 });
        }
    }

    /// Lets a job wait until somebody says whether it may run.
    pub(super) fn park(&self, job: Job) {
        let (id, origin) = (job.id.clone(), job.origin.clone());
        let until = self.now_ms().saturating_add(millis(self.options.approval_timeout));
        {
            let mut edits = locked(&self.edits);
            // Looked at under the lock, so that the end of the runtime finds it or is seen here.
            if self.closing.load(Ordering::Acquire) {
                drop(edits);
                return self.deny(job, SHUTTING_DOWN);
            }
            edits.park(job, until);
        }
        self.tell_edit(&id, origin.as_ref(), Happened::AwaitingApproval);
    }

    /// Lets a job wait for its turn. With `ask`, what the model writes is shown before it is trained.
    pub(super) fn enqueue(&self, job: Job, ask: bool) -> Result<(), LiveError> {
        let (id, origin) = (job.id.clone(), job.origin.clone());
        locked(&self.edits).change(&id, |status| status.state = EditState::Queued);
        // Told first, because the other thread may begin at once.
        self.tell_edit(&id, origin.as_ref(), Happened::Queued { ahead: self.queue.len() });
        if self.queue.push(job, ask) {
            return Ok(());
        }
        let error = self.busy();
        self.over(&id, origin.as_ref(), EditState::Refused, error.to_string());
        Err(error)
    }

    pub(super) fn busy(&self) -> LiveError {
        let mean = locked(&self.edits).mean_seconds().unwrap_or(1.0);
        let retry_after = Duration::from_secs_f64(mean.clamp(1.0, 600.0));
        LiveError::Busy { what: "the queue of self-edits", limit: self.options.queue, retry_after }
    }

    /// Says whether an edit that waits may run.
    pub(super) fn approve(&self, edit: &str, allow: bool) -> Result<(), LiveError> {
        self.deny_expired();
        if self.closing.load(Ordering::Acquire) {
            return Err(LiveError::Closed);
        }
        if allow && self.queue.is_full() {
            return Err(self.busy());
        }
        let job = {
            let mut edits = locked(&self.edits);
            edits.status(edit)?;
            edits.unpark(edit).ok_or_else(|| LiveError::NotWaiting { edit: edit.to_owned() })?
        };
        if !allow {
            self.deny(job, "it was not approved");
            return Ok(());
        }
        self.tell_edit(edit, job.origin.as_ref(), Happened::Approved);
        let origin = job.origin.clone();
        self.enqueue(job, false).inspect_err(|error| {
            self.back_to_request(origin.as_ref(), error.to_string());
        })
    }

    /// Ends edits whose time to be approved is over.
    pub(super) fn deny_expired(&self) {
        let expired = locked(&self.edits).expired(self.now_ms());
        for job in expired {
            let reason = if is_gone(&job) { GONE } else { "nobody approved it in time" };
            self.deny(job, reason);
        }
    }

    pub(super) fn deny(&self, mut job: Job, reason: &str) {
        let origin = job.origin.take();
        self.over(&job.id, origin.as_ref(), EditState::Refused, reason.to_owned());
        self.back_to_request(origin.as_ref(), reason.to_owned());
        if job.by_model {
            self.queue.push_refused(job, reason.to_owned());
        }
    }

    /// Takes no more edits, and ends those that wait.
    pub(super) fn deny_all(&self) {
        let parked = locked(&self.edits).expired(i64::MAX);
        for job in self.queue.begin_to_close().into_iter().chain(parked) {
            self.deny(job, SHUTTING_DOWN);
        }
        self.queue.close();
    }

    /// An edit ended before there was anything to measure.
    pub(super) fn over(&self, edit: &str, origin: Option<&Origin>, state: EditState, reason: String) {
        let message = reason.clone();
        let what = match state {
            EditState::Failed => Happened::Failed { message },
            _ => Happened::Refused { problems: Vec::new(), message },
        };
        self.count(|stats| match state {
            EditState::Failed => stats.edit_failures += 1,
            _ => stats.refused += 1,
        });
        self.tell_change(edit, origin, what, |status| {
            (status.state, status.reason) = (state, Some(reason));
        });
    }

    /// Wakes the request in the middle of which an edit was proposed.
    fn back_to_request(&self, origin: Option<&Origin>, message: String) {
        if let Some(origin) = origin {
            let over = EditOver { number: origin.number, kept: None, message, used: Used::default() };
            let _ = self.commands.send(Command::EditOver(Box::new(over)));
        }
    }

    pub(super) fn trace_event(&self, request: &str, what: Happened) -> TraceEvent {
        self.hub.tell(Some(request), None, what)
    }
}

/// How an edit of a request ended.
pub(super) struct EditOver {
    pub(super) number: u64,
    /// The new adapter, where the candidate was kept.
    pub(super) kept: Option<Chosen>,
    /// What the model reads.
    pub(super) message: String,
    pub(super) used: Used,
}

/// What an edit used of its budget.
#[derive(Clone, Copy, Default)]
pub(super) struct Used {
    pub(super) edits: u32,
    pub(super) steps: u64,
    pub(super) tokens: u64,
    pub(super) seconds: f64,
}

impl Budget {
    pub(super) fn less(self, used: Used) -> Budget {
        Budget {
            edits: self.edits.saturating_sub(used.edits),
            steps: self.steps.saturating_sub(used.steps),
            tokens: self.tokens.saturating_sub(used.tokens),
            seconds: (self.seconds - used.seconds).max(0.0),
        }
    }
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The scope's word, for the ledger.
pub(super) fn is_beside(scope: Scope) -> bool {
    scope != Scope::Global
}

/// Questions that the bundled fact model was pretrained on; other models have none until somebody brings some.
fn anchors(runtime: &Runtime) -> Result<Vec<Item>, LiveError> {
    use selkie_learn::pup::facts::Known;
    let Some(world) = runtime.model.fact_world() else { return Ok(Vec::new()) };
    let questions = world.known_questions(Known::Asked, ANCHORS);
    let passage = selkie_edit::Passage { title: "known".to_owned(), context: String::new(), questions };
    Ok(runtime.model.codec().items(&selkie_edit::Context::Passage(passage))?)
}

/// Edits that wait for approval, the oldest first, by when that ends.
pub(super) type Parked = VecDeque<(i64, Job)>;
