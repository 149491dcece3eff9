//! SEAL's recipe for a puzzle's training tasks, as a pure function of the plan and whatever runs the tools.
//!
//! A round takes base tasks, adds what every pipeline makes of them, drops what a puzzle cannot hold,
//! removes duplicates, and puts permuted copies of all of it in front. Leave-one-out comes first; only when
//! it makes fewer than [`EXAMPLES_MAX`] does leave-two-out fill the rest. Where SEAL keeps tasks in a set,
//! whose order changes from run to run, the first occurrence keeps its place here.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::grid::{Example, Grid, Task};
use crate::limits::{EXAMPLES_MAX, TASKS_MAX};
use crate::plan::{PlannedCall, PuzzlePlan};
use crate::problem::{Code, Problem};
use crate::seed::{SplitMix64, derive_seed};

/// Why a plan's tasks could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError<E> {
    /// A tool failed.
    #[error(transparent)]
    Run(E),
    /// The edit asks for more tasks than may exist at a time.
    #[error("{0}")]
    Refused(Problem),
}

/// The training tasks of a puzzle: de-duplicated, each within 30x30, at most [`EXAMPLES_MAX`], the same for
/// the same plan, seed and tools. `run` carries out one call on a batch of tasks, which is never empty.
///
/// # Errors
/// The first error of `run`; or a problem when more than [`TASKS_MAX`] tasks would exist at once.
pub fn expand<E>(
    plan: &PuzzlePlan,
    seed: u64,
    mut run: impl FnMut(&PlannedCall, &[Task]) -> Result<Vec<Task>, E>,
) -> Result<Vec<Task>, ExpandError<E>> {
    let mut tasks: Vec<Task> = Vec::new();
    for (round, base) in plan.rounds.iter().enumerate() {
        if tasks.len() >= EXAMPLES_MAX {
            break;
        }
        let known: HashSet<&Task> = tasks.iter().collect();
        let mut made: Vec<Task> = permuted_round(plan, base, &mut run)?;
        made.retain(|task| !known.contains(task));
        // The first round is taken in its order if it fits; what is chosen from must be shuffled.
        if round > 0 || made.len() > EXAMPLES_MAX {
            SplitMix64::new(derive_seed(seed, &format!("round/{round}"))).shuffle(&mut made);
        }
        made.truncate(EXAMPLES_MAX - tasks.len());
        tasks.extend(made);
    }
    Ok(tasks)
}

/// One round without the permuted copies: what the pipelines make of the base tasks, each pipeline in
/// turn, then the base tasks; without tasks above 30x30 and without duplicates.
///
/// # Errors
/// As [`expand`].
pub fn expand_round<E>(
    base: &[Task],
    pipelines: &[Vec<PlannedCall>],
    mut run: impl FnMut(&PlannedCall, &[Task]) -> Result<Vec<Task>, E>,
) -> Result<Vec<Task>, ExpandError<E>> {
    let mut augmented = Vec::new();
    for pipeline in pipelines {
        augmented.extend(run_all(pipeline, base, &mut run)?);
        within_cap(augmented.len() + base.len(), "/data/tools", "fewer tools or copies")?;
    }
    augmented.extend(base.iter().filter(|task| task.fits_puzzle()).cloned());
    Ok(distinct(augmented))
}

fn permuted_round<E>(
    plan: &PuzzlePlan,
    base: &[Task],
    run: &mut impl FnMut(&PlannedCall, &[Task]) -> Result<Vec<Task>, E>,
) -> Result<Vec<Task>, ExpandError<E>> {
    let augmented = expand_round(base, &plan.pipelines, &mut *run)?;
    // Known before anything runs, so an edit that asks for too many copies costs nothing.
    let planned = augmented.len().saturating_mul(plan.permute_calls.len() + 1);
    within_cap(planned, "/data/permute/copies", "fewer copies or tools")?;
    let mut tasks = Vec::new();
    for copy in &plan.permute_calls {
        tasks.extend(run_all(copy, &augmented, run)?);
        within_cap(tasks.len() + augmented.len(), "/data/permute/copies", "fewer copies or tools")?;
    }
    tasks.extend(augmented);
    Ok(distinct(tasks))
}

/// A batch through the calls of a pipeline, one after the other. A task may be above 30x30 between two
/// calls, not after the last.
fn run_all<E>(
    calls: &[PlannedCall],
    tasks: &[Task],
    run: &mut impl FnMut(&PlannedCall, &[Task]) -> Result<Vec<Task>, E>,
) -> Result<Vec<Task>, ExpandError<E>> {
    let mut batch = tasks.to_vec();
    for call in calls {
        if batch.is_empty() {
            break;
        }
        batch = run(call, &batch).map_err(ExpandError::Run)?;
        within_cap(batch.len(), "/data/tools", "fewer tools or copies")?;
    }
    batch.retain(Task::fits_puzzle);
    Ok(batch)
}

fn within_cap<E>(tasks: usize, pointer: &str, remedy: &str) -> Result<(), ExpandError<E>> {
    if tasks <= TASKS_MAX {
        return Ok(());
    }
    let expected = format!("at most {TASKS_MAX} tasks before they are cut to {EXAMPLES_MAX}: {remedy}");
    Err(ExpandError::Refused(Problem::new(Code::OverLimit, pointer, expected, format!("{tasks} tasks"))))
}

/// Without later duplicates.
fn distinct(tasks: Vec<Task>) -> Vec<Task> {
    let mut seen = HashSet::new();
    let is_first: Vec<bool> = tasks.iter().map(|task| seen.insert(task)).collect();
    tasks.into_iter().zip(is_first).filter_map(|(task, first)| first.then_some(task)).collect()
}

/// A task's name by its content: the first 16 hex digits of SHA-256 over its JSON with sorted keys and no
/// spaces, `{"test":{"input":..,"output":..},"train":[..]}`.
pub fn task_digest(task: &Task) -> String {
    let mut text = String::from(r#"{"test":"#);
    push_example(&mut text, &task.test);
    text.push_str(r#","train":["#);
    for (index, example) in task.train.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_example(&mut text, example);
    }
    text.push_str("]}");
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn push_example(text: &mut String, example: &Example) {
    text.push_str(r#"{"input":"#);
    push_grid(text, &example.input);
    text.push_str(r#","output":"#);
    push_grid(text, &example.output);
    text.push('}');
}

fn push_grid(text: &mut String, grid: &Grid) {
    text.push('[');
    for (index, row) in grid.rows().enumerate() {
        text.push_str(if index > 0 { ",[" } else { "[" });
        for (column, colour) in row.iter().enumerate() {
            if column > 0 {
                text.push(',');
            }
            text.push(char::from(b'0' + colour));
        }
        text.push(']');
    }
    text.push(']');
}
