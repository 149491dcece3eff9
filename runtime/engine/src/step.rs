//! One self-edit through all stages. Read this first.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use selkie_edit::{
    Asked, Context, Gated, Plan, Refused, Report, SelfEdit, ToolOutcomes, Verdict, derive_seed, steps,
};
use selkie_learn::codec::Item;
use selkie_learn::{Adapter, Trained, TrainingSet, WrittenEdit, peft, train};
use selkie_store::{
    ContextRecord, EditRecord, EntryId, GenerationId, Record, Refusal, Scores, Store, ToolRecord,
    TrainingRecord, Transaction, Trial,
};
use serde_json::json;

use crate::decide::{Decision, gate};
use crate::error::StepError;
use crate::event::Event;
use crate::prepare::{Prepared, prepare};
use crate::runtime::Runtime;

/// How often a model may try to write a valid self-edit. SEAL tries without end.
const WRITE_ATTEMPTS: u32 = 4;

/// Rank that adapters on top of each other may reach; above it every token pays more for the adapter than for
/// a small model's own layer.
const STACKED_RANK_MAX: usize = 512;

/// What a step is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What to adapt to.
    pub context: &'a Context,
    /// Where the self-edit comes from.
    pub edit: EditSource<'a>,
    /// Decides everything random.
    pub seed: u64,
    /// Whether to start from the base model instead of the active generation.
    pub fresh: bool,
    /// Now, in milliseconds since 1970.
    pub time_ms: i64,
}

/// On which terms an edit runs that comes in the middle of things; [`Terms::default`] are those of [`step`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms<'a> {
    /// What the candidate is trained on top of.
    pub start: Start<'a>,
    /// Whether what is kept is for some only, so that what is active stays.
    pub beside: bool,
    /// What training may use; none is what the validator allows.
    pub limits: Option<TrainingLimits>,
    /// What the model knew, which a candidate should not forget.
    pub anchors: &'a [Item],
}

/// What the ledger calls the adapter with which a model asks for self-edits, where one is trained on top of it.
pub(crate) const ASKS: &str = "asks";

/// What a candidate is trained on top of.
#[derive(Debug, Clone, Copy, Default)]
pub enum Start<'a> {
    /// What is active; the base model where [`Request::fresh`] says so.
    #[default]
    Active,
    /// This adapter: of that generation, or, without one, of this name.
    Adapter(&'a Adapter, Option<GenerationId>, &'a str),
    /// The base model.
    Base,
}

/// What the training of one edit may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingLimits {
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens, over all epochs.
    pub tokens: u64,
    /// Wall-clock seconds, of training and of measuring before and after it.
    pub seconds: f64,
}

/// Where the self-edit comes from.
#[derive(Debug, Clone, Copy)]
pub enum EditSource<'a> {
    /// The model writes it.
    Model,
    /// This text.
    Given(&'a str),
}

/// What came of a step.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The self-edit as written.
    pub edit_text: String,
    /// The self-edit as understood.
    pub edit: SelfEdit,
    /// What the tools made.
    pub tools: ToolOutcomes,
    /// The training: settings, sizes, losses.
    pub training: TrainingRecord,
    /// Digest of the training set.
    pub data_digest: String,
    /// The model before.
    pub before: Report,
    /// The candidate.
    pub after: Report,
    /// What was decided and why.
    pub decision: Decision,
    /// The new generation, where the candidate was kept.
    pub generation: Option<GenerationId>,
    /// The entry of the ledger.
    pub entry: EntryId,
    /// The candidate itself.
    pub candidate: Adapter,
    /// Shares of the anchors that were answered before and after; none without anchors.
    pub anchors: Option<(f64, f64)>,
}

/// Adapts a model to a context by one self-edit, and keeps the result or discards it.
///
/// A given edit that is refused at any stage changes nothing: the home is not even opened. What a model wrote is
/// an episode: it is written down also when it was refused, and the model tries again.
///
/// # Errors
/// One variant of [`StepError`] a stage. The active generation is then the old one, except after
/// [`StepError::Store`]: a commit that reported an error may have happened, and the store tells.
pub fn step(
    runtime: &Runtime,
    home: &Path,
    request: &Request<'_>,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, StepError> {
    runtime.model.codec().items(request.context)?;
    let given = given(runtime, request, request.context)?;
    let mut store = Store::open(home)?;
    let mut go_on = |event: Event<'_>| {
        tell(event);
        ControlFlow::Continue(())
    };
    carry_out(runtime, &mut store, (request, &Terms::default()), given, &mut go_on)
}

/// The same in a store that is open, on other terms. `tell` may end it before it commits.
///
/// A context whose answers are not known is measured as [`Context::gated`] says.
///
/// # Errors
/// As [`step`]; [`StepError::OverBudget`] and [`StepError::Abandoned`], after which the active generation is the old one.
pub fn step_in(
    runtime: &Runtime,
    store: &mut Store,
    request: &Request<'_>,
    terms: &Terms<'_>,
    tell: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Outcome, StepError> {
    let given = given(runtime, request, &request.context.gated().learn)?;
    carry_out(runtime, store, (request, terms), given, tell)
}

fn carry_out(
    runtime: &Runtime,
    store: &mut Store,
    (request, terms): (&Request<'_>, &Terms<'_>),
    given: Option<(WrittenEdit, Prepared)>,
    tell: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Outcome, StepError> {
    let Gated { learn, asked } = request.context.gated();
    let parent = parent(runtime, store, request, terms)?;
    let parent = parent.as_ref();
    let (written, Prepared { edit, plan, tools, set }) = match given {
        Some(given) => given,
        None => written_by_model(runtime, store, (request, terms), &learn, parent, tell)?,
    };
    go_on(tell(Event::Accepted { dialect: edit.dialect }))?;
    go_on(tell(Event::Tools { runs: &tools.runs, items: tools.items() + plan.documents.len() }))?;
    let steps = steps(set.sequences().len(), &plan.training)?;
    within(terms.limits, steps, set.tokens() as u64 * u64::from(plan.training.epochs))?;
    let (examples, left_out, tokens) = (set.sequences().len(), set.left_out(), set.tokens());
    go_on(tell(Event::Dataset { examples, left_out, tokens, steps }))?;

    let clock = Clock::start(terms.limits);
    let mut in_time = |event: Event<'_>| if clock.is_over() { ControlFlow::Break(()) } else { tell(event) };
    let before = clock.judge(measure(runtime, parent, &asked, &mut in_time))?;
    let known_before = known(runtime, parent, terms.anchors)?;
    clock.judge(go_on(in_time(Event::Before(&before))))?;
    let start = Instant::now();
    let trained = train_candidate(runtime, parent, &plan, &set, &mut in_time);
    let took = start.elapsed().as_secs_f64();
    let (trained, candidate) = clock.judge(trained)?;
    let training = training_record(&plan, &set, &trained, took);
    let after = clock.judge(measure(runtime, Some(&candidate), &asked, &mut in_time))?;
    let anchors = known_before.zip(known(runtime, Some(&candidate), terms.anchors)?);
    go_on(tell(Event::After(&after)))?;
    let decision = gate(&asked, (&before, &after), anchors);

    let record = record(runtime, request, terms, &written.text, Some(&edit));
    let trial = trial(runtime, &tools, &set, training.clone(), (&before, &after));
    let files = peft::to_files(&candidate, &runtime.model.profile().name)?;
    let staged = begin(runtime, store, terms)?.stage(&files)?;
    let (generation, entry) = match decision.verdict {
        Verdict::Kept => {
            let generation = staged.keep(&record, &trial)?;
            (Some(generation.id), generation.entry)
        }
        Verdict::Discarded => (None, staged.discard(&record, &trial)?),
    };
    let (edit_text, data_digest) = (written.text, set.digest().to_owned());
    Ok(Outcome {
        edit_text,
        edit,
        tools,
        training,
        data_digest,
        before,
        after,
        decision,
        generation,
        entry,
        candidate,
        anchors,
    })
}

/// The seconds of an edit, from its first measurement on.
struct Clock {
    start: Instant,
    allowed: f64,
}

impl Clock {
    fn start(limits: Option<TrainingLimits>) -> Clock {
        let allowed = limits.map_or(f64::INFINITY, |limits| limits.seconds);
        Clock { start: Instant::now(), allowed }
    }

    fn is_over(&self) -> bool {
        self.start.elapsed().as_secs_f64() > self.allowed
    }

    /// What was broken off because the time is over, says so.
    fn judge<T>(&self, result: Result<T, StepError>) -> Result<T, StepError> {
        match result {
            Err(StepError::Abandoned) if self.is_over() => {
                let asked = self.start.elapsed().as_secs_f64();
                Err(StepError::OverBudget { what: "seconds", asked, allowed: self.allowed })
            }
            other => other,
        }
    }
}

/// How a model does on what is asked; may be ended before every item.
fn measure(
    runtime: &Runtime,
    adapter: Option<&Adapter>,
    asked: &Asked,
    tell: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Report, StepError> {
    let mut told = ControlFlow::Continue(());
    let mut item = || {
        told = tell(Event::Measuring);
        told
    };
    let report = runtime.model.evaluate_asked_while(adapter, asked, &mut item)?;
    go_on(told)?;
    Ok(report)
}

fn go_on(told: ControlFlow<()>) -> Result<(), StepError> {
    match told {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(StepError::Abandoned),
    }
}

fn within(limits: Option<TrainingLimits>, steps: u64, tokens: u64) -> Result<(), StepError> {
    let Some(limits) = limits else { return Ok(()) };
    for (what, asked, allowed) in [("steps", steps, limits.steps), ("tokens", tokens, limits.tokens)] {
        if asked > allowed {
            return Err(StepError::OverBudget { what, asked: asked as f64, allowed: allowed as f64 });
        }
    }
    Ok(())
}

/// The share of the anchors that a model answers exactly; none without anchors.
fn known(runtime: &Runtime, adapter: Option<&Adapter>, anchors: &[Item]) -> Result<Option<f64>, StepError> {
    if anchors.is_empty() {
        return Ok(None);
    }
    let scores = runtime.model.score_items(&[(adapter, anchors)])?.swap_remove(0);
    let exact = scores.iter().filter(|score| score.greedy).count();
    Ok(Some(exact as f64 / anchors.len() as f64))
}

fn begin<'a>(
    runtime: &Runtime,
    store: &'a mut Store,
    terms: &Terms<'_>,
) -> Result<Transaction<'a>, selkie_store::Error> {
    let digest = runtime.model.digest();
    match (terms.beside, terms.start) {
        (false, _) => store.begin(digest),
        (true, Start::Adapter(_, parent, _)) => store.begin_beside(digest, parent),
        (true, Start::Base) => store.begin_beside(digest, None),
        (true, Start::Active) => {
            let parent = store.active(digest)?.map(|generation| generation.id);
            store.begin_beside(digest, parent)
        }
    }
}

/// What the candidate is trained on top of.
fn parent(
    runtime: &Runtime,
    store: &Store,
    request: &Request<'_>,
    terms: &Terms<'_>,
) -> Result<Option<Adapter>, StepError> {
    match terms.start {
        Start::Adapter(adapter, ..) => Ok(Some(adapter.clone())),
        Start::Active if !request.fresh => active_adapter(runtime, store),
        Start::Active | Start::Base => Ok(None),
    }
}

/// Writes down that an edit was refused, as [`step_in`] does with those that the model writes for it.
///
/// # Errors
/// The store's.
pub fn refuse_in(
    runtime: &Runtime,
    store: &mut Store,
    (request, terms): (&Request<'_>, &Terms<'_>),
    text: &str,
    refusal: &Refusal,
) -> Result<EntryId, StepError> {
    let record = record(runtime, request, terms, text, None);
    Ok(begin(runtime, store, terms)?.refuse(&record, refusal)?)
}

/// A given edit, carried out as far as needs no gradient.
fn given(
    runtime: &Runtime,
    request: &Request<'_>,
    learn: &Context,
) -> Result<Option<(WrittenEdit, Prepared)>, StepError> {
    match request.edit {
        EditSource::Given(text) => {
            Ok(Some((WrittenEdit::given(text), accepted(runtime, request, learn, text)?)))
        }
        EditSource::Model => Ok(None),
    }
}

/// Parses and validates an edit and carries it out as far as needs no gradient.
fn accepted(
    runtime: &Runtime,
    request: &Request<'_>,
    learn: &Context,
    text: &str,
) -> Result<Prepared, StepError> {
    let edit = runtime.accept(text, learn.domain())?;
    prepare(runtime, learn, edit, request.seed)
}

/// The first edit that the model writes and that is not refused at any stage.
fn written_by_model(
    runtime: &Runtime,
    store: &mut Store,
    (request, terms): (&Request<'_>, &Terms<'_>),
    learn: &Context,
    parent: Option<&Adapter>,
    tell: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<(WrittenEdit, Prepared), StepError> {
    let mut last = Refused(Vec::new());
    // What learned to write edits writes them; a model that did not writes as it is now.
    let writer = runtime.model.policy().or(parent);
    for attempt in 1..=WRITE_ATTEMPTS {
        let seed = derive_seed(request.seed, &format!("write/{attempt}"));
        let written = runtime.model.write_edit(writer, learn, runtime.host.catalogue(), seed)?;
        go_on(tell(Event::Written { attempt, edit: &written }))?;
        match accepted(runtime, request, learn, &written.text) {
            Ok(prepared) => return Ok((written, prepared)),
            Err(StepError::Refused(problems)) => {
                go_on(tell(Event::Refused { attempt, problems: &problems }))?;
                let record = record(runtime, request, terms, &written.text, None);
                let refusal = Refusal { reason: problems.to_string(), problems: problems.0.clone() };
                begin(runtime, store, terms)?.refuse(&record, &refusal)?;
                last = problems;
            }
            Err(other) => return Err(other),
        }
    }
    Err(StepError::NoValidEdit { attempts: WRITE_ATTEMPTS, last })
}

/// The adapter of the active generation of this base model.
fn active_adapter(runtime: &Runtime, store: &Store) -> Result<Option<Adapter>, StepError> {
    let Some(active) = store.active(runtime.model.digest())? else { return Ok(None) };
    let files = store.adapter_files(&active.adapter)?;
    Ok(Some(peft::from_files(runtime.model.decoder().config(), &files)?))
}

/// Trains a new adapter on top of the parent's, and joins the two into one.
pub(crate) fn train_candidate(
    runtime: &Runtime,
    parent: Option<&Adapter>,
    plan: &Plan,
    set: &TrainingSet,
    tell: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<(Trained, Adapter), StepError> {
    let base = runtime.model.decoder();
    let seed = derive_seed(plan.seed, "train");
    let mut told = ControlFlow::Continue(());
    let mut progress = |stats: &_| {
        told = tell(Event::Step(stats));
        told
    };
    let Some(parent) = parent else {
        let trained = train(base, set.sequences(), &plan.training, seed, &mut progress)?;
        go_on(told)?;
        let adapter = trained.adapter.clone();
        return Ok((trained, adapter));
    };
    let (active, added) = (parent.rank(), plan.training.lora.rank as usize);
    if active + added > STACKED_RANK_MAX {
        return Err(StepError::StackTooHigh { active, added, limit: STACKED_RANK_MAX });
    }
    let trained = train(&base.merged(parent)?, set.sequences(), &plan.training, seed, &mut progress)?;
    go_on(told)?;
    let adapter = parent.stack(&trained.adapter)?;
    Ok((trained, adapter))
}

pub(crate) fn training_record(
    plan: &Plan,
    set: &TrainingSet,
    trained: &Trained,
    seconds: f64,
) -> TrainingRecord {
    TrainingRecord {
        settings: plan.training.clone(),
        examples: set.sequences().len() as u64,
        tokens: trained.steps.iter().map(|step| step.tokens as u64).sum(),
        losses: trained.steps.iter().map(|step| f64::from(step.loss)).collect(),
        seconds,
    }
}

/// What came of an accepted edit, as the ledger keeps it.
pub(crate) fn trial(
    runtime: &Runtime,
    tools: &ToolOutcomes,
    set: &TrainingSet,
    training: TrainingRecord,
    (before, after): (&Report, &Report),
) -> Trial {
    Trial {
        plugins: runtime.host.plugins().cloned().collect(),
        tools: tools.runs.iter().map(ToolRecord::from).collect(),
        data_digest: set.digest().to_owned(),
        training,
        before: Scores::from(before),
        after: Scores::from(after),
    }
}

fn record(
    runtime: &Runtime,
    request: &Request<'_>,
    terms: &Terms<'_>,
    text: &str,
    edit: Option<&SelfEdit>,
) -> Record {
    let options = match terms.start {
        Start::Active => json!({ "fresh": request.fresh }),
        Start::Base => json!({ "fresh": true }),
        // A generation is the entry's parent.
        Start::Adapter(_, Some(_), _) => json!({ "fresh": false }),
        Start::Adapter(_, None, name) => json!({ "start": name }),
    };
    let context = request.context;
    Record {
        time_ms: request.time_ms,
        model: runtime.model.profile().name.clone(),
        context: ContextRecord {
            domain: context.domain(),
            name: context.name().to_owned(),
            content: context.to_json(),
        },
        edit: EditRecord { text: text.to_owned(), dialect: edit.map(|edit| edit.dialect) },
        seed: request.seed,
        options,
    }
}
