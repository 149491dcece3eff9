//! An edit carried out as far as needs no gradient: planned, its tools run, its training set built.

use selkie_edit::{
    Context, Plan, SelfEdit, SplitMix64, ToolOutcomes, derive_seed, expand, expand_texts, plan, steps,
};
use selkie_learn::TrainingSet;

use crate::error::StepError;
use crate::runtime::Runtime;

/// An accepted edit; what is left is training.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The edit as understood.
    pub edit: SelfEdit,
    /// The exact work.
    pub plan: Plan,
    /// What the tools made, and what is replayed.
    pub tools: ToolOutcomes,
    /// What the adapter is trained on.
    pub set: TrainingSet,
}

/// Plans an edit for a context, runs its tools and builds its training set. The same arguments give the same set.
///
/// # Errors
/// [`StepError::Refused`] when the edit asks for too much or for nothing, [`StepError::Tool`] when a tool fails.
pub fn prepare(
    runtime: &Runtime,
    context: &Context,
    edit: SelfEdit,
    seed: u64,
) -> Result<Prepared, StepError> {
    let plan = plan(&edit, runtime.host.catalogue(), context, seed)?;
    let tools = run_tools(runtime, &plan)?;
    let set = TrainingSet::build(runtime.model.codec(), &plan, &tools)?;
    steps(set.sequences().len(), &plan.training)?;
    Ok(Prepared { edit, plan, tools, set })
}

/// Runs the plan's tools: the order is SEAL's ([`expand`]), the sandbox is the host's.
pub(crate) fn run_tools(runtime: &Runtime, plan: &Plan) -> Result<ToolOutcomes, StepError> {
    let mut session = runtime.host.session(plan.limits);
    let tasks = match &plan.puzzle {
        Some(puzzle) => expand(puzzle, plan.seed, |call, tasks| session.augment(call, tasks))?,
        None => Vec::new(),
    };
    let documents = match &plan.text {
        Some(text) => expand_texts(text, |call, source| session.write(call, source))?,
        None => Vec::new(),
    };
    let replayed = replayed(&runtime.known, plan.replay as usize, derive_seed(plan.seed, "replay"));
    Ok(ToolOutcomes { tasks, documents, replayed, runs: session.finish() })
}

/// So many of the known documents, drawn without repetition; all where there are fewer.
fn replayed(known: &[String], count: usize, seed: u64) -> Vec<String> {
    let mut rng = SplitMix64::new(seed);
    let mut left: Vec<&String> = known.iter().collect();
    let drawn = (0..count.min(left.len())).map(|_| left.swap_remove(rng.below(left.len())).clone());
    drawn.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replayed_is_drawn_by_the_seed_and_never_twice() {
        let known: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        let drawn = replayed(&known, 4, 1);
        assert_eq!(drawn, replayed(&known, 4, 1));
        assert_ne!(drawn, replayed(&known, 4, 2));
        let mut all = replayed(&known, 100, 1);
        all.sort();
        assert_eq!(all, known);
        assert_eq!(replayed(&[], 4, 1), Vec::<String>::new());
        assert_eq!(replayed(&known, 0, 1), Vec::<String>::new());
    }
}
