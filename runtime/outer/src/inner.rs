//! Inner loops: prepared self-edits are trained together over the frozen base and measured together.

use selkie_edit::{Context, Domain, SelfEdit, TrainingDefaults, derive_seed, parse, validate};
use selkie_engine::{Prepared, Runtime, StepError};
use selkie_learn::codec::Item;
use selkie_learn::run::{RunSettings, train_many};
use selkie_learn::{Adapter, LearnError, PassOptions, Score, Sequence, Trained};

use crate::error::OuterError;
use crate::reward::Measured;
use crate::settings::Settings;
use crate::subject::Anchors;
use crate::vote;

/// An edit that was refused, in words; any other failure is an error of the run.
pub(crate) type Accepted = Result<Prepared, String>;

/// One training of one edit.
pub(crate) struct Job<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) context: &'a Context,
    pub(crate) seed: u64,
    /// The epochs that the edit asks for are divided by this: the proxy's are a quarter.
    pub(crate) shortened: u32,
}

/// What is measured of every job, and how.
pub(crate) struct Measure<'a> {
    pub(crate) anchors: &'a Anchors,
    pub(crate) votes: usize,
    pub(crate) check_decoding: bool,
}

/// Parses, validates and plans an edit, runs its tools and builds its training set. What it leaves open comes from
/// the run's settings.
pub(crate) fn prepare(
    runtime: &Runtime,
    settings: &Settings,
    context: &Context,
    text: &str,
    seed: u64,
) -> Result<Accepted, OuterError> {
    match accept(runtime, settings, text).and_then(|edit| {
        let prepared = selkie_engine::prepare(runtime, context, edit, seed)?;
        Ok(prepared)
    }) {
        Ok(prepared) => Ok(Ok(prepared)),
        Err(StepError::Refused(problems)) => Ok(Err(problems.to_string())),
        // A tool that fails on what the edit asks of it is the edit's misfortune, not the run's.
        Err(StepError::Tool(error)) => Ok(Err(error.to_string())),
        Err(other) => Err(other.into()),
    }
}

fn accept(runtime: &Runtime, settings: &Settings, text: &str) -> Result<SelfEdit, StepError> {
    let training = settings.training.clone();
    let defaults = match settings.domain {
        Domain::Puzzle => TrainingDefaults { puzzle: training, ..runtime.model.profile().training.clone() },
        Domain::Passage => TrainingDefaults { passage: training, ..runtime.model.profile().training.clone() },
    };
    Ok(validate(parse(text, settings.domain)?, &runtime.validator, settings.domain, &defaults)?)
}

/// Trains every job, together; a job that diverged has the reason in words.
pub(crate) fn train(runtime: &Runtime, jobs: &[Job<'_>]) -> Result<Vec<Result<Trained, String>>, OuterError> {
    let runs: Vec<_> = jobs
        .iter()
        .map(|job| {
            let mut training = job.prepared.plan.training.clone();
            training.epochs = training.epochs.div_ceil(job.shortened);
            let seed = derive_seed(job.seed, "train");
            (job.prepared.set.sequences(), RunSettings::new(&training, seed))
        })
        .collect();
    let trained = train_many(runtime.model.decoder(), &runs, PassOptions::default(), |_, _| ())?;
    trained
        .into_iter()
        .map(|one| match one {
            Ok(trained) => Ok(Ok(trained)),
            Err(error @ LearnError::Diverged { .. }) => Ok(Err(error.to_string())),
            Err(other) => Err(other.into()),
        })
        .collect()
}

/// Trains every job together and measures what came of each.
pub(crate) fn measure(
    runtime: &Runtime,
    jobs: &[Job<'_>],
    measure: &Measure<'_>,
) -> Result<Vec<Result<Measured, String>>, OuterError> {
    let trained = train(runtime, jobs)?;
    let items: Vec<Vec<Item>> =
        jobs.iter().map(|job| runtime.model.codec().items(job.context)).collect::<Result<_, LearnError>>()?;
    let done: Vec<(usize, &Trained)> =
        trained.iter().enumerate().filter_map(|(at, one)| Some((at, one.as_ref().ok()?))).collect();
    let work: Vec<_> = done.iter().map(|&(at, one)| (Some(&one.adapter), items[at].as_slice())).collect();
    let scores = runtime.model.score_items(&work)?;
    let adapters: Vec<&Adapter> = done.iter().map(|(_, one)| &one.adapter).collect();
    let kept = measure.anchors.kept(&runtime.model, &adapters)?;
    let mut results: Vec<Result<Measured, String>> =
        trained.iter().map(|one| Err(one.as_ref().err().cloned().unwrap_or_default())).collect();
    for (((at, one), scores), kept) in done.into_iter().zip(scores).zip(kept) {
        let mut solved: Vec<bool> = scores.iter().map(|score| score.greedy).collect();
        let adapter = Some(&one.adapter);
        let disagreements = match measure.check_decoding {
            true => Some(disagreements(runtime, adapter, &items[at], &solved)?),
            false => None,
        };
        if measure.votes > 1
            && let Context::Puzzle(puzzle) = jobs[at].context
        {
            solved = vote::solved(&runtime.model, adapter, puzzle, measure.votes)?;
        }
        let tokens = one.steps.iter().map(|step| step.tokens as u64).sum();
        let log_prob = mean(scores.iter().map(|score| score.log_prob / score.tokens.max(1) as f64));
        let steps = one.steps.len() as u64;
        results[at] = Ok(Measured { solved, log_prob, kept, steps, tokens, disagreements });
    }
    Ok(results)
}

/// The base model alone on a context, asked as after an edit or with the context in sight.
pub(crate) fn measure_base(
    runtime: &Runtime,
    context: &Context,
    in_context: bool,
    check_decoding: bool,
) -> Result<Measured, OuterError> {
    let codec = runtime.model.codec();
    let items = if in_context { codec.items_in_context(context)? } else { codec.items(context)? };
    let scores = runtime.model.score_items(&[(None, &items)])?.swap_remove(0);
    let solved: Vec<bool> = scores.iter().map(|score| score.greedy).collect();
    let disagreements =
        if check_decoding { Some(disagreements(runtime, None, &items, &solved)?) } else { None };
    let log_prob = mean(scores.iter().map(|score| score.log_prob / score.tokens.max(1) as f64));
    Ok(Measured { solved, log_prob, kept: None, steps: 0, tokens: 0, disagreements })
}

/// One adapter for several contexts, and what each of them says of it.
pub(crate) fn measure_together(
    runtime: &Runtime,
    settings: &Settings,
    contexts: &[&Context],
    sequences: &[Sequence],
    seed: u64,
    anchors: &Anchors,
) -> Result<Vec<Measured>, OuterError> {
    let items: Vec<Vec<Item>> = contexts
        .iter()
        .map(|context| runtime.model.codec().items(context))
        .collect::<Result<_, LearnError>>()?;
    if sequences.is_empty() {
        return contexts.iter().map(|context| measure_base(runtime, context, false, false)).collect();
    }
    let run = RunSettings::new(&settings.training, derive_seed(seed, "together"));
    let jobs = [(sequences, run)];
    let trained =
        train_many(runtime.model.decoder(), &jobs, PassOptions::default(), |_, _| ())?.swap_remove(0)?;
    let work: Vec<_> = items.iter().map(|items| (Some(&trained.adapter), items.as_slice())).collect();
    let kept = anchors.kept(&runtime.model, &[&trained.adapter])?.swap_remove(0);
    let (steps, tokens) =
        (trained.steps.len() as u64, trained.steps.iter().map(|step| step.tokens as u64).sum());
    let measured = |scores: Vec<Score>| Measured {
        solved: scores.iter().map(|score| score.greedy).collect(),
        log_prob: mean(scores.iter().map(|score| score.log_prob / score.tokens.max(1) as f64)),
        kept,
        steps,
        tokens,
        disagreements: None,
    };
    Ok(runtime.model.score_items(&work)?.into_iter().map(measured).collect())
}

/// Items on which greedy decoding says something else than the forward pass.
fn disagreements(
    runtime: &Runtime,
    adapter: Option<&Adapter>,
    items: &[Item],
    solved: &[bool],
) -> Result<u32, OuterError> {
    let mut count = 0;
    for (item, &solved) in items.iter().zip(solved) {
        count += u32::from((runtime.model.answer(adapter, item)? == item.expected) != solved);
    }
    Ok(count)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}
