//! The thread that carries out self-edits, one after the other: the only writer.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use selkie_edit::{Answer, Asked, Context, Refused, Report, Verdict, derive_seed};
use selkie_store::{Refusal, RollbackTo, Store};
use serde_json::json;

use super::adapters::Chosen;
use super::core::{Core, EditOver, Origin, Used, is_beside, millis};
use super::decode::Command;
use super::edits::EditState;
use super::request::{AdapterChoice, Budget, EditRequest, EditText};
use super::trace::{Answered, GateScores, Happened, Scope, Trigger, When};
use super::{LiveError, locked};
use crate::error::StepError;
use crate::event::Event;
use crate::step::{EditSource, Outcome, Request, Start, Terms, TrainingLimits, refuse_in, step_in};

/// How often the thread looks for edits whose time to be approved is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a model may try to write an edit that somebody is asked about.
const WRITE_ATTEMPTS: u32 = 4;

/// Characters of a refusal that a model reads.
const MESSAGE_CHARS_MAX: usize = 400;

/// A self-edit to carry out.
pub(super) struct Job {
    pub(super) id: String,
    pub(super) request: EditRequest,
    pub(super) start: Chosen,
    pub(super) origin: Option<Origin>,
    pub(super) budget: Budget,
}

/// What the thread is asked to do.
pub(super) enum Task {
    /// Carry out an edit; where it says so, only write it, and let somebody be asked.
    Edit(Box<Job>, bool),
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
    closed: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Queue {
        Queue { limit, tasks: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        let waiting = locked(&self.tasks);
        waiting.closed || waiting.edits >= self.limit
    }

    pub(super) fn len(&self) -> usize {
        locked(&self.tasks).edits
    }

    /// Whether there was room.
    pub(super) fn push(&self, job: Job, ask: bool) -> bool {
        let mut waiting = locked(&self.tasks);
        if waiting.closed || waiting.edits >= self.limit {
            return false;
        }
        waiting.edits += 1;
        waiting.tasks.push_back(Task::Edit(Box::new(job), ask));
        self.changed.notify_all();
        true
    }

    /// Before every edit that waits.
    pub(super) fn push_rollback(&self, to: RollbackTo, reply: mpsc::Sender<Result<String, LiveError>>) {
        let mut waiting = locked(&self.tasks);
        if waiting.closed {
            return;
        }
        waiting.tasks.push_front(Task::Rollback(to, reply));
        self.changed.notify_all();
    }

    /// Nothing more is taken; what waited is given back.
    pub(super) fn close(&self) -> Vec<Job> {
        let mut waiting = locked(&self.tasks);
        waiting.closed = true;
        waiting.edits = 0;
        self.changed.notify_all();
        let jobs = waiting.tasks.drain(..).filter_map(|task| match task {
            Task::Edit(job, _) => Some(*job),
            Task::Rollback(..) => None,
        });
        jobs.collect()
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
    let mut last = None;
    for attempt in 1..=WRITE_ATTEMPTS {
        let seed = derive_seed(job.request.seed, &format!("write/{attempt}"));
        let written = match model.write_edit(writer, &learn, core.runtime.host.catalogue(), seed) {
            Ok(written) => written.text,
            Err(error) => return failed(core, store, &job, StepError::Learn(error), None),
        };
        proposed(core, &job, &written, attempt);
        match core.runtime.accept(&written, learn.domain()) {
            Ok(_) => {
                job.request.edit = EditText::Given(written);
                return core.park(job);
            }
            Err(problems) => last = Some((problems, written)),
        }
    }
    if let Some((problems, written)) = last {
        failed(core, store, &job, StepError::Refused(problems), Some(&written));
    }
}

fn proposed(core: &Core, job: &Job, text: &str, attempt: u32) {
    locked(&core.edits).change(&job.id, |status| status.text = Some(text.to_owned()));
    core.tell_edit(&job.id, job.origin.as_ref(), Happened::Proposed { text: text.to_owned(), attempt });
}

/// One edit from beginning to end.
fn edit(core: &Core, store: &mut Store, mut job: Job) {
    let began = Instant::now();
    let gone = job.origin.as_ref().is_some_and(|origin| origin.reply.is_closed());
    if gone && job.request.scope == Scope::Request {
        return core.deny(job, "the request that it was for has gone");
    }
    if job.request.scope == Scope::Global {
        // Edits before this one may have moved it.
        match core.adapters.choose(&AdapterChoice::Active, None, job.origin.is_some(), core.now_ms()) {
            Ok(active) => job.start = active,
            Err(error) => {
                return core.over(&job.id, job.origin.as_ref(), EditState::Failed, error.to_string());
            }
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
    let mut tell = |event: Event<'_>| {
        told(core, job, &asked, event);
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
        Ok(outcome) => ended(core, job, outcome, seconds),
        Err(error) => {
            let text = locked(&core.edits).status(&job.id).ok().and_then(|status| status.text);
            failed(core, store, job, error, text.as_deref());
        }
    }
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
        Event::Accepted { .. } => {}
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
fn ended(core: &Core, job: &Job, outcome: Outcome, seconds: f64) {
    let used = Used {
        edits: 1,
        steps: outcome.training.losses.len() as u64,
        tokens: outcome.training.tokens,
        seconds,
    };
    let reason = match outcome.anchors {
        Some((was, is)) => format!("{}; of what it knew {was:.2} -> {is:.2}", outcome.decision.reason),
        None => outcome.decision.reason.clone(),
    };
    let kept = outcome.generation.and_then(|id| {
        let adapter = core.adapters.remember(id, outcome.candidate.clone()).ok()?;
        Some(Chosen { name: id.to_string(), adapter: Some(adapter), generation: Some(id) })
    });
    if let (Some(kept), Scope::Session, Some(session)) = (&kept, job.request.scope, &job.request.session) {
        let time_to_live = job.request.time_to_live.unwrap_or(core.options.session_time_to_live);
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
fn failed(core: &Core, store: &mut Store, job: &Job, error: StepError, text: Option<&str>) {
    let message = brief(&error.to_string());
    let (state, problems) = match error {
        StepError::Refused(problems) => (EditState::Refused, problems),
        StepError::NoValidEdit { last, .. } => (EditState::Refused, last),
        StepError::OverBudget { .. } | StepError::Abandoned => (EditState::Refused, Refused(Vec::new())),
        _ => (EditState::Failed, Refused(Vec::new())),
    };
    // What the model wrote by itself is written down already; the rest of what a model asked for is, here.
    let by_model = job.request.trigger == Trigger::Model;
    if let (EditState::Refused, EditText::Given(_), Some(text), true) =
        (state, &job.request.edit, text, by_model)
    {
        let (request, terms) = asked(core, job, EditSource::Given(text));
        let refusal = Refusal { reason: message.clone(), problems: problems.0.clone() };
        if let Ok(entry) = refuse_in(&core.runtime, store, (&request, &terms), text, &refusal) {
            locked(&core.edits).change(&job.id, |status| status.entry = Some(entry.to_string()));
        }
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
    wake(core, job, None, message, Used { edits: 1, ..Used::default() });
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
