//! The thread that carries out self-edits, one after the other: the only writer.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use selkie_edit::{Answer, Asked, Context, Problem, Refused, Report, Verdict, derive_seed};
use selkie_store::{Refusal, RollbackTo, Store};
use serde_json::json;

use super::adapters::Chosen;
use super::core::{Core, EditOver, Origin, Used, is_beside, millis};
use super::decode::Command;
use super::edits::EditState;
use super::request::{AdapterChoice, Budget, EditRequest, EditText};
use super::trace::{Answered, GateScores, Happened, Scope, When};
use super::{LiveError, locked};
use crate::error::StepError;
use crate::event::Event;
use crate::step::{EditSource, Outcome, Request, Start, Terms, TrainingLimits, refuse_in, step_in};

/// How often the thread looks for edits whose time to be approved is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a model may try to write an edit that somebody is asked about.
const WRITE_ATTEMPTS: u32 = 4;

/// Tasks of all kinds that may wait.
const TASKS_MAX: usize = 1024;

/// Characters of a refusal that a model reads.
const MESSAGE_CHARS_MAX: usize = 400;

/// What an edit uses that is not trained.
const ONE_EDIT: Used = Used { edits: 1, steps: 0, tokens: 0, seconds: 0.0 };

/// Why an edit is not begun any more.
pub(super) const GONE: &str = "the request that it was for has gone";

/// The same at the end of the runtime.
pub(super) const SHUTTING_DOWN: &str = "the runtime is shutting down";

/// A self-edit to carry out.
pub(super) struct Job {
    pub(super) id: String,
    pub(super) request: EditRequest,
    pub(super) start: Chosen,
    /// Whether nobody named `start`: it was what is active, and at the edit's turn is what is active then.
    pub(super) follows: bool,
    /// Whether the model wrote the text.
    pub(super) by_model: bool,
    pub(super) origin: Option<Origin>,
    pub(super) budget: Budget,
}

/// What the thread is asked to do.
pub(super) enum Task {
    /// Carry out an edit; where it says so, only write it, and let somebody be asked.
    Edit(Box<Job>, bool),
    /// Write down that an edit was refused.
    Refused(Box<Job>, String),
    /// Move the active pointer.
    Rollback(RollbackTo, mpsc::Sender<Result<String, LiveError>>),
}

/// Tasks that wait, the next one first.
pub(super) struct Queue {
    limit: usize,
    tasks: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    edits: usize,
    /// No more edits are taken.
    closing: bool,
    /// Nothing more is taken.
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Queue {
        Queue { limit, tasks: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        let waiting = locked(&self.tasks);
        waiting.closing || waiting.edits >= self.limit
    }

    pub(super) fn len(&self) -> usize {
        locked(&self.tasks).edits
    }

    /// Whether there was room.
    pub(super) fn push(&self, job: Job, ask: bool) -> bool {
        let mut waiting = locked(&self.tasks);
        if waiting.closing || waiting.edits >= self.limit {
            return false;
        }
        waiting.edits += 1;
        waiting.tasks.push_back(Task::Edit(Box::new(job), ask));
        self.changed.notify_all();
        true
    }

    /// Before every edit that waits. Whether there was room.
    pub(super) fn push_rollback(
        &self,
        to: RollbackTo,
        reply: mpsc::Sender<Result<String, LiveError>>,
    ) -> bool {
        let mut waiting = locked(&self.tasks);
        let others = waiting.tasks.iter().filter(|task| matches!(task, Task::Rollback(..))).count();
        if others >= self.limit.max(1) {
            return false;
        }
        if !waiting.closed {
            waiting.tasks.push_front(Task::Rollback(to, reply));
            self.changed.notify_all();
        }
        true
    }

    /// What is to be written down of an edit that will not run; not of more than can wait.
    pub(super) fn push_refused(&self, job: Job, reason: String) {
        let mut waiting = locked(&self.tasks);
        // Also where nothing more is taken: the thread that writes may say so itself, and then does it.
        if waiting.tasks.len() < TASKS_MAX {
            waiting.tasks.push_back(Task::Refused(Box::new(job), reason));
            self.changed.notify_all();
        }
    }

    /// No more edits are taken; those that waited are given back.
    pub(super) fn begin_to_close(&self) -> Vec<Job> {
        let mut waiting = locked(&self.tasks);
        waiting.closing = true;
        waiting.edits = 0;
        let is_edit = |task: &Task| matches!(task, Task::Edit(..));
        let (edits, others): (VecDeque<Task>, _) =
            std::mem::take(&mut waiting.tasks).into_iter().partition(is_edit);
        waiting.tasks = others;
        let job = |task| match task {
            Task::Edit(job, _) => Some(*job),
            _ => None,
        };
        edits.into_iter().filter_map(job).collect()
    }

    /// Nothing more is taken; what waits is still done.
    pub(super) fn close(&self) {
        let mut waiting = locked(&self.tasks);
        (waiting.closing, waiting.closed) = (true, true);
        self.changed.notify_all();
    }

    /// The next task; `Err` when nothing more will come, `Ok(None)` when none came for a while.
    fn next(&self) -> Result<Option<Task>, ()> {
        let mut waiting = locked(&self.tasks);
        if waiting.tasks.is_empty() && !waiting.closed {
            let woken = self.changed.wait_timeout(waiting, LOOK_EVERY);
            waiting = woken.map_or_else(|poisoned| poisoned.into_inner().0, |(waiting, _)| waiting);
        }
        match waiting.tasks.pop_front() {
            None if waiting.closed => Err(()),
            task => {
                waiting.edits -= usize::from(matches!(task, Some(Task::Edit(..))));
                Ok(task)
            }
        }
    }
}

/// Until the queue is closed.
pub(super) fn run(core: &Arc<Core>, mut store: Store) {
    while let Ok(task) = core.queue.next() {
        core.deny_expired();
        match task {
            None => {}
            Some(Task::Rollback(to, reply)) => {
                let _ = reply.send(roll_back(core, &mut store, to));
            }
            Some(Task::Refused(job, reason)) => write_down(core, &mut store, &job, &reason, &[]),
            Some(Task::Edit(job, true)) => write_and_park(core, &mut store, *job),
            Some(Task::Edit(job, false)) => edit(core, &mut store, *job),
        }
    }
}

fn roll_back(core: &Core, store: &mut Store, to: RollbackTo) -> Result<String, LiveError> {
    let (_, rollback) = store.rollback(core.runtime.model.digest(), to, core.now_ms())?;
    let active = rollback.to.map_or_else(|| "base".to_owned(), |id| id.to_string());
    core.hub.tell(None, None, Happened::Moved { to: active.clone() });
    Ok(active)
}

/// The model writes its edit, and then somebody is asked whether it may run.
fn write_and_park(core: &Core, store: &mut Store, mut job: Job) {
    let model = &core.runtime.model;
    let learn = job.request.context.gated().learn;
    let writer = model.policy().or(job.start.adapter.as_deref());
    let mut last = Refused(Vec::new());
    for attempt in 1..=WRITE_ATTEMPTS {
        if is_gone(&job) {
            return core.deny(job, GONE);
        }
        if core.abandon.load(Ordering::Relaxed) {
            return core.deny(job, SHUTTING_DOWN);
        }
        let seed = derive_seed(job.request.seed, &format!("write/{attempt}"));
        let written = match model.write_edit(writer, &learn, core.runtime.host.catalogue(), seed) {
            Ok(written) => written.text,
            Err(error) => return failed(core, store, &job, StepError::Learn(error), ONE_EDIT),
        };
        proposed(core, &job, &written, attempt);
        let accepted = core.runtime.accept(&written, learn.domain());
        (job.request.edit, job.by_model) = (EditText::Given(written), true);
        match accepted {
            // Who left while it was written cannot be asked.
            Ok(_) if is_gone(&job) => return core.deny(job, GONE),
            Ok(_) => return core.park(job),
            Err(problems) => {
                write_down(core, store, &job, &problems.to_string(), &problems.0);
                // Once is enough.
                job.by_model = false;
                last = problems;
            }
        }
    }
    failed(core, store, &job, StepError::NoValidEdit { attempts: WRITE_ATTEMPTS, last }, ONE_EDIT);
}

/// Whether the request in the middle of which an edit was proposed has ended.
pub(super) fn is_gone(job: &Job) -> bool {
    job.origin.as_ref().is_some_and(|origin| origin.reply.is_closed())
}

/// Writes down that what the model wrote was refused; what somebody else gave is not the model's episode.
fn write_down(core: &Core, store: &mut Store, job: &Job, reason: &str, problems: &[Problem]) {
    let text = match &job.request.edit {
        EditText::Given(text) => job.by_model.then(|| text.clone()),
        EditText::Model => locked(&core.edits).status(&job.id).ok().and_then(|status| status.text),
    };
    let Some(text) = text else { return };
    let (request, terms) = asked(core, job, EditSource::Given(&text));
    let refusal = Refusal { reason: reason.to_owned(), problems: problems.to_vec() };
    if let Ok(entry) = refuse_in(&core.runtime, store, (&request, &terms), &text, &refusal) {
        locked(&core.edits).change(&job.id, |status| status.entry = Some(entry.to_string()));
    }
}

fn proposed(core: &Core, job: &Job, text: &str, attempt: u32) {
    locked(&core.edits).change(&job.id, |status| status.text = Some(text.to_owned()));
    core.tell_edit(&job.id, job.origin.as_ref(), Happened::Proposed { text: text.to_owned(), attempt });
}

/// One edit from beginning to end.
fn edit(core: &Core, store: &mut Store, mut job: Job) {
    let began = Instant::now();
    if is_gone(&job) && job.request.scope == Scope::Request {
        return core.deny(job, GONE);
    }
    match start_now(core, &job) {
        Ok(start) => job.start = start,
        Err(error) => {
            let message = brief(&error.to_string());
            core.over(&job.id, job.origin.as_ref(), EditState::Failed, message.clone());
            return wake(core, &job, None, message, Used::default());
        }
    }
    let job = &job;
    core.count(|stats| stats.training = true);
    locked(&core.edits).change(&job.id, |status| status.state = EditState::Running);
    let source = match &job.request.edit {
        EditText::Model => EditSource::Model,
        EditText::Given(text) => EditSource::Given(text),
    };
    let (request, terms) = asked(core, job, source);
    let asked = job.request.context.gated().asked;
    let (mut used, mut clock) = (ONE_EDIT, None::<Instant>);
    let mut tell = |event: Event<'_>| {
        match &event {
            // From here on seconds count.
            Event::Dataset { .. } => clock = Some(Instant::now()),
            Event::Step(stats) => {
                used.steps += 1;
                used.tokens += stats.tokens as u64;
            }
            _ => {}
        }
        used.seconds = clock.map_or(0.0, |since| since.elapsed().as_secs_f64());
        told(core, job, &asked, event);
        core.deny_expired();
        match core.abandon.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let outcome = step_in(&core.runtime, store, &request, &terms, &mut tell);
    let seconds = began.elapsed().as_secs_f64();
    locked(&core.edits).took(seconds);
    core.count(|stats| {
        stats.training = false;
        stats.training_seconds += seconds;
    });
    match outcome {
        Ok(outcome) => ended(core, job, outcome, used),
        Err(error) => failed(core, store, job, error, used),
    }
}

/// What an edit is trained on top of at its turn: edits before it may have moved what is active.
fn start_now(core: &Core, job: &Job) -> Result<Chosen, LiveError> {
    let session = match (job.request.scope, job.follows) {
        (Scope::Global, _) => None,
        (Scope::Session, true) => job.request.session.as_deref(),
        _ => return Ok(job.start.clone()),
    };
    core.adapters.choose(&AdapterChoice::Active, session, job.origin.is_some(), core.now_ms())
}

fn asked<'a>(core: &'a Core, job: &'a Job, edit: EditSource<'a>) -> (Request<'a>, Terms<'a>) {
    let Job { request, start, budget, .. } = job;
    let request = Request {
        context: &request.context,
        edit,
        seed: request.seed,
        fresh: request.fresh,
        time_ms: core.now_ms(),
    };
    let start = match (&start.adapter, job.request.fresh) {
        (_, true) => Start::Base,
        (None, false) => Start::Base,
        (Some(adapter), false) => Start::Adapter(adapter, start.generation, name_of_start(start)),
    };
    let Budget { steps, tokens, seconds, .. } = *budget;
    let limits = Some(TrainingLimits { steps, tokens, seconds });
    let terms = Terms { start, beside: is_beside(job.request.scope), limits, anchors: &core.anchors };
    (request, terms)
}

/// The adapter that asks for edits is called so in the ledger; it is the base model's own.
fn name_of_start(start: &Chosen) -> &str {
    if start.name == "base" { crate::step::ASKS } else { &start.name }
}

/// Tells what a step tells.
fn told(core: &Core, job: &Job, asked: &Asked, event: Event<'_>) {
    let tell = |what| core.tell_edit(&job.id, job.origin.as_ref(), what);
    let change = |change: &dyn Fn(&mut super::EditStatus)| locked(&core.edits).change(&job.id, change);
    match event {
        Event::Written { attempt, edit } => proposed(core, job, &edit.text, attempt),
        Event::Refused { problems, .. } => {
            tell(Happened::Refused { problems: problems.0.clone(), message: brief(&problems.to_string()) })
        }
        Event::Accepted { .. } | Event::Measuring => {}
        Event::Tools { runs, .. } => runs.iter().for_each(|run| {
            tell(Happened::ToolRan {
                tool: run.tool.clone(),
                calls: run.calls,
                items: run.items,
                fuel: run.fuel,
            });
        }),
        Event::Dataset { examples, tokens, steps, .. } => {
            change(&|status| status.steps = (0, steps));
            tell(Happened::Dataset { examples, tokens, steps });
        }
        Event::Before(report) => {
            let scores = scores(asked, report);
            change(&|status| status.before = Some(scores.clone()));
            tell(Happened::Evaluated { when: When::Before, scores });
        }
        Event::Step(stats) => {
            core.count(|counts| counts.steps += 1);
            let loss = stats.loss.is_finite().then_some(stats.loss);
            change(&|status| {
                status.steps = (stats.step + 1, stats.steps);
                status.losses.push(loss);
            });
            let (step, steps, learning_rate) = (stats.step, stats.steps, stats.learning_rate);
            tell(Happened::TrainingStep { step, steps, loss, learning_rate });
        }
        Event::After(report) => {
            let scores = scores(asked, report);
            change(&|status| status.after = Some(scores.clone()));
            tell(Happened::Evaluated { when: When::After, scores });
        }
    }
}

fn scores(asked: &Asked, report: &Report) -> GateScores {
    let inputs = match asked {
        Asked::Known(Context::Puzzle(puzzle)) | Asked::HeldOut(Context::Puzzle(puzzle)) => {
            let known = puzzle.tests.iter().filter(|test| test.output.is_some());
            known.map(|test| json!(test.input)).collect()
        }
        _ => Vec::new(),
    };
    let value = |answer: &Answer| match answer {
        Answer::Grid(grid) => json!(grid),
        Answer::Text(text) => json!(text),
    };
    let answered = |(place, item): (usize, &selkie_edit::ItemReport)| Answered {
        item: item.item.clone(),
        solved: item.solved,
        prediction: value(&item.prediction),
        expected: value(&item.expected),
        input: inputs.get(place).cloned(),
    };
    let log_prob = report.log_prob();
    GateScores {
        measured: asked.name().to_owned(),
        solved: report.items.iter().filter(|item| item.solved).count(),
        items: report.items.len(),
        log_prob: log_prob.is_finite().then_some(log_prob),
        answers: report.items.iter().enumerate().map(answered).collect(),
    }
}

/// An edit that came to a verdict.
fn ended(core: &Core, job: &Job, outcome: Outcome, used: Used) {
    let reason = match outcome.anchors {
        Some((was, is)) => format!("{}; of what it knew {was:.2} -> {is:.2}", outcome.decision.reason),
        None => outcome.decision.reason.clone(),
    };
    let kept = outcome.generation.and_then(|id| {
        let adapter = core.adapters.remember(id, outcome.candidate.clone()).ok()?;
        Some(Chosen { name: id.to_string(), adapter: Some(adapter), generation: Some(id) })
    });
    if let (Some(kept), Scope::Session, Some(session)) = (&kept, job.request.scope, &job.request.session) {
        let longest = core.options.session_time_to_live;
        let time_to_live = job.request.time_to_live.map_or(longest, |asked| asked.min(longest));
        core.adapters.set_session(session, kept.clone(), core.now_ms(), millis(time_to_live));
    }
    let state = if kept.is_some() { EditState::Kept } else { EditState::Discarded };
    let why = reason.clone();
    core.count(|stats| match outcome.decision.verdict {
        Verdict::Kept => stats.kept += 1,
        Verdict::Discarded => stats.discarded += 1,
    });
    let (what, message) = match &kept {
        Some(kept) => {
            let (generation, scope) = (kept.name.clone(), job.request.scope);
            let parent = job.start.name.clone();
            let message = format!("kept: {reason}");
            (Happened::Kept { generation, parent, scope, reason }, message)
        }
        None => {
            let message = format!("not kept: {reason}. The weights are as before.");
            (Happened::RolledBack { reason }, message)
        }
    };
    core.tell_change(&job.id, job.origin.as_ref(), what, |status| {
        status.state = state;
        status.reason = Some(why);
        status.generation = kept.as_ref().map(|kept| kept.name.clone());
        status.entry = Some(outcome.entry.to_string());
    });
    wake(core, job, kept, message, used);
}

/// An edit that came to none.
fn failed(core: &Core, store: &mut Store, job: &Job, error: StepError, used: Used) {
    let message = brief(&error.to_string());
    // What never was valid is written down already.
    let is_valid = !matches!(error, StepError::NoValidEdit { .. });
    let (state, problems) = match error {
        StepError::Refused(problems) => (EditState::Refused, problems),
        StepError::NoValidEdit { last, .. } => (EditState::Refused, last),
        StepError::OverBudget { .. } | StepError::Abandoned => (EditState::Refused, Refused(Vec::new())),
        _ => (EditState::Failed, Refused(Vec::new())),
    };
    if state == EditState::Refused && is_valid {
        write_down(core, store, job, &message, &problems.0);
    }
    let what = match state {
        EditState::Refused => Happened::Refused { problems: problems.0, message: message.clone() },
        _ => Happened::Failed { message: message.clone() },
    };
    core.count(|stats| match state {
        EditState::Refused => stats.refused += 1,
        _ => stats.edit_failures += 1,
    });
    core.tell_change(&job.id, job.origin.as_ref(), what, |status| {
        (status.state, status.reason) = (state, Some(message.clone()));
    });
    wake(core, job, None, message, used);
}

fn wake(core: &Core, job: &Job, kept: Option<Chosen>, message: String, used: Used) {
    if let Some(origin) = &job.origin {
        let over = EditOver { number: origin.number, kept, message, used };
        let _ = core.commands.send(Command::EditOver(Box::new(over)));
    }
}

/// The beginning of a long message, at a character.
pub(super) fn brief(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &message[..end]),
        None => message.to_owned(),
    }
}
