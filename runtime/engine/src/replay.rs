//! Doing a ledger entry again, and naming the first thing that differs.

use std::ops::ControlFlow;

use selkie_edit::{Context, Gated, plan, steps};
use selkie_learn::{TrainingSet, peft};
use selkie_store::{ContentId, Entry, Outcome, Reader, Scores, ToolRecord, Trial};

use crate::error::StepError;
use crate::event::Event;
use crate::prepare::run_tools;
use crate::runtime::Runtime;
use crate::step::{self, ASKS, train_candidate, training_record};

/// What a replay found.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The adapter of the entry.
    pub adapter: ContentId,
    /// The first thing that differs; `None` when everything is the same, the adapter byte for byte.
    pub difference: Option<Difference>,
}

/// The first thing that differs, in the order of the stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// What differs.
    pub what: String,
    /// As the ledger has it.
    pub recorded: String,
    /// As it came out now.
    pub replayed: String,
}

/// Replays an episode from its record. Nothing is written.
///
/// # Errors
/// [`StepError::NotReplayable`] when the entry is not an episode with a training, is of another base model, or a
/// plugin of then is not loaded; otherwise as [`crate::step()`].
pub fn replay(
    runtime: &Runtime,
    store: &Reader,
    entry: &Entry,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Replay, StepError> {
    let refuse = |reason: String| StepError::NotReplayable { entry: entry.id.to_string(), reason };
    let Some(episode) = entry.episode() else { return Err(refuse("it is a rollback".to_owned())) };
    let (Outcome::Kept { adapter, trial, .. } | Outcome::Discarded { adapter, trial }) = &episode.outcome
    else {
        return Err(refuse("its self-edit was refused, so nothing was trained".to_owned()));
    };
    if entry.base_digest != runtime.model.digest() {
        let (theirs, ours) = (short(&entry.base_digest), short(runtime.model.digest()));
        return Err(refuse(format!(
            "it is of base model {theirs}, and this is {ours}; name it with --model"
        )));
    }
    let is_loaded = |tool: &ToolRecord| runtime.host.plugins().any(|plugin| *plugin == tool.plugin);
    if let Some(tool) = trial.tools.iter().find(|tool| !is_loaded(tool)) {
        let (plugin, digest) = (&tool.plugin, short(&tool.plugin.digest));
        return Err(refuse(format!(
            "plugin {plugin} ({digest}) is not loaded; name its folder with --plugins"
        )));
    }
    let record = &episode.record;
    let start = record.options["start"].as_str();
    if let Some(name) = start.filter(|name| *name != ASKS) {
        return Err(refuse(format!(
            "it was trained on top of adapter `{name}`, which the ledger does not hold"
        )));
    }
    let context = Context::to_learn_from_json(&record.context.content.to_string(), &record.context.name)?;
    let Gated { learn, asked } = context.gated();
    let parent = match episode.parent {
        Some(id) if record.options["fresh"] != true => {
            let files = store.adapter_files(&store.generation(id)?.adapter)?;
            Some(peft::from_files(runtime.model.decoder().config(), &files)?)
        }
        _ if start == Some(ASKS) => runtime.model.asks().cloned(),
        _ => None,
    };
    let edit = runtime.accept(&record.edit.text, learn.domain())?;
    let plan = plan(&edit, runtime.host.catalogue(), &learn, record.seed)?;
    let tools = run_tools(runtime, &plan)?;
    let set = TrainingSet::build(runtime.model.codec(), &plan, &tools)?;
    steps(set.sequences().len(), &plan.training)?;
    let before = runtime.model.evaluate_asked(parent.as_ref(), &asked)?;
    let (trained, candidate) = train_candidate(runtime, parent.as_ref(), &plan, &set, &mut |event| {
        tell(event);
        ControlFlow::Continue(())
    })?;
    let after = runtime.model.evaluate_asked(Some(&candidate), &asked)?;
    let training = training_record(&plan, &set, &trained, trial.training.seconds);
    let again = step::trial(runtime, &tools, &set, training, (&before, &after));
    let files = peft::to_files(&candidate, &runtime.model.profile().name)?;
    let difference = first_difference((trial, adapter), (&again, &ContentId::of(&files)?));
    Ok(Replay { adapter: adapter.clone(), difference })
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Compares in the order in which the stages ran, so that what is named is the cause and not a consequence.
fn first_difference(recorded: (&Trial, &ContentId), replayed: (&Trial, &ContentId)) -> Option<Difference> {
    let ((old, old_adapter), (new, new_adapter)) = (recorded, replayed);
    let differ = |what: &str, old: String, new: String| {
        (old != new).then(|| Difference { what: what.to_owned(), recorded: old, replayed: new })
    };
    let ran = |tool: Option<&ToolRecord>| tool.map_or("nothing".to_owned(), |tool| format!("{tool:?}"));
    let tools = (0..old.tools.len().max(new.tools.len()))
        .find_map(|at| differ(&format!("tool {at}"), ran(old.tools.get(at)), ran(new.tools.get(at))));
    if tools.is_some() {
        return tools;
    }
    differ("data digest", old.data_digest.clone(), new.data_digest.clone())
        .or_else(|| {
            differ(
                "training settings",
                format!("{:?}", old.training.settings),
                format!("{:?}", new.training.settings),
            )
        })
        .or_else(|| differ("score before", scores(&old.before), scores(&new.before)))
        .or_else(|| first_loss(&old.training.losses, &new.training.losses))
        .or_else(|| differ("adapter", old_adapter.to_string(), new_adapter.to_string()))
        .or_else(|| differ("score after", scores(&old.after), scores(&new.after)))
}

fn first_loss(old: &[f64], new: &[f64]) -> Option<Difference> {
    let loss = |losses: &[f64], step: usize| losses.get(step).map_or("none".to_owned(), f64::to_string);
    let step = (0..old.len().max(new.len())).find(|&step| loss(old, step) != loss(new, step))?;
    Some(Difference {
        what: format!("loss of step {step}"),
        recorded: loss(old, step),
        replayed: loss(new, step),
    })
}

fn scores(scores: &Scores) -> String {
    format!("score {} log-probability {}", scores.score, scores.log_prob)
}
