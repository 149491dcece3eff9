//! One self-edit through all stages. Read this first.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use selkie_edit::{Context, Plan, Refused, Report, SelfEdit, ToolOutcomes, Verdict, derive_seed, steps};
use selkie_learn::{Adapter, Trained, TrainingSet, WrittenEdit, peft, train};
use selkie_store::{
    ContextRecord, EditRecord, GenerationId, Record, Refusal, Scores, Store, ToolRecord, TrainingRecord,
    Trial,
};
use serde_json::json;

use crate::decide::{Decision, decide};
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
    let context = request.context;
    runtime.model.codec().items(context)?;
    let given = match request.edit {
        EditSource::Given(text) => Some((WrittenEdit::given(text), accepted(runtime, request, text)?)),
        EditSource::Model => None,
    };
    let mut store = Store::open(home)?;
    let parent = if request.fresh { None } else { active_adapter(runtime, &store)? };
    let (written, Prepared { edit, plan, tools, set }) = match given {
        Some(given) => given,
        None => written_by_model(runtime, &mut store, request, parent.as_ref(), tell)?,
    };
    tell(Event::Accepted { dialect: edit.dialect });
    tell(Event::Tools { runs: &tools.runs, items: tools.items() + plan.documents.len() });
    let steps = steps(set.sequences().len(), &plan.training)?;
    tell(Event::Dataset {
        examples: set.sequences().len(),
        left_out: set.left_out(),
        tokens: set.tokens(),
        steps,
    });

    let before = runtime.model.evaluate(parent.as_ref(), context)?;
    tell(Event::Before(&before));
    let start = Instant::now();
    let (trained, candidate) = train_candidate(runtime, parent.as_ref(), &plan, &set, tell)?;
    let training = training_record(&plan, &set, &trained, start.elapsed().as_secs_f64());
    let after = runtime.model.evaluate(Some(&candidate), context)?;
    tell(Event::After(&after));
    let decision = decide(&before, &after);

    let record = record(runtime, request, &written.text, Some(&edit));
    let trial = trial(runtime, &tools, &set, training.clone(), (&before, &after));
    let files = peft::to_files(&candidate, &runtime.model.profile().name)?;
    let staged = store.begin(runtime.model.digest())?.stage(&files)?;
    let generation = match decision.verdict {
        Verdict::Kept => Some(staged.keep(&record, &trial)?.id),
        Verdict::Discarded => {
            staged.discard(&record, &trial)?;
            None
        }
    };
    let (edit_text, data_digest) = (written.text, set.digest().to_owned());
    Ok(Outcome { edit_text, edit, tools, training, data_digest, before, after, decision, generation })
}

/// Parses and validates an edit and carries it out as far as needs no gradient.
fn accepted(runtime: &Runtime, request: &Request<'_>, text: &str) -> Result<Prepared, StepError> {
    let edit = runtime.accept(text, request.context.domain())?;
    prepare(runtime, request.context, edit, request.seed)
}

/// The first edit that the model writes and that is not refused at any stage.
fn written_by_model(
    runtime: &Runtime,
    store: &mut Store,
    request: &Request<'_>,
    parent: Option<&Adapter>,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<(WrittenEdit, Prepared), StepError> {
    let mut last = Refused(Vec::new());
    // What learned to write edits writes them; a model that did not writes as it is now.
    let writer = runtime.model.policy().or(parent);
    for attempt in 1..=WRITE_ATTEMPTS {
        let seed = derive_seed(request.seed, &format!("write/{attempt}"));
        let written = runtime.model.write_edit(writer, request.context, runtime.host.catalogue(), seed)?;
        tell(Event::Written { attempt, edit: &written });
        match accepted(runtime, request, &written.text) {
            Ok(prepared) => return Ok((written, prepared)),
            Err(StepError::Refused(problems)) => {
                tell(Event::Refused { attempt, problems: &problems });
                let record = record(runtime, request, &written.text, None);
                let refusal = Refusal { reason: problems.to_string(), problems: problems.0.clone() };
                store.begin(runtime.model.digest())?.refuse(&record, &refusal)?;
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
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<(Trained, Adapter), StepError> {
    let base = runtime.model.decoder();
    let seed = derive_seed(plan.seed, "train");
    let mut progress = |stats: &_| {
        tell(Event::Step(stats));
        ControlFlow::Continue(())
    };
    let Some(parent) = parent else {
        let trained = train(base, set.sequences(), &plan.training, seed, &mut progress)?;
        let adapter = trained.adapter.clone();
        return Ok((trained, adapter));
    };
    let (active, added) = (parent.rank(), plan.training.lora.rank as usize);
    if active + added > STACKED_RANK_MAX {
        return Err(StepError::StackTooHigh { active, added, limit: STACKED_RANK_MAX });
    }
    let trained = train(&base.merged(parent)?, set.sequences(), &plan.training, seed, &mut progress)?;
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

fn record(runtime: &Runtime, request: &Request<'_>, text: &str, edit: Option<&SelfEdit>) -> Record {
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
        options: json!({ "fresh": request.fresh }),
    }
}
