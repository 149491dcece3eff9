//! From a valid edit to the exact work: base tasks, resolved tool calls with their seeds, documents.

use serde_json::json;

use crate::catalogue::{Catalogue, PluginId, ToolKind};
use crate::context::{Context, Passage, Puzzle};
use crate::grid::{Example, Task};
use crate::limits::{PROBLEMS_MAX, STEPS_MAX};
use crate::problem::{Code, Problem, Refused};
use crate::seed::derive_seed;
use crate::self_edit::{Dialect, Permute, SelfEdit, ToolCall, ToolLimits, Training};
use crate::tool_data::TextSource;

/// What will be done, with nothing left to choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Work on grids; `None` for a passage.
    pub puzzle: Option<PuzzlePlan>,
    /// Work on a text; `None` for a puzzle.
    pub text: Option<TextPlan>,
    /// Texts to learn that the edit has, in order: a passage's each under its title, a puzzle's as they were
    /// written.
    pub documents: Vec<String>,
    /// How many documents about what was known before are learned along, at most: whoever knows them adds them
    /// ([`crate::ToolOutcomes::replayed`]).
    pub replay: u32,
    /// What the tools may use at most, beside the host's own limits.
    pub limits: ToolLimits,
    /// How to train.
    pub training: Training,
    /// The edit's seed, from which every other seed is derived.
    pub seed: u64,
}

/// The puzzle half of a plan. [`crate::puzzle_data::expand`] says in which order it is carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct PuzzlePlan {
    /// Base tasks by how many demonstrations were left out: leave-one-out, then leave-two-out.
    pub rounds: Vec<Vec<Task>>,
    /// Augmentations; each is applied to every base task.
    pub pipelines: Vec<Vec<PlannedCall>>,
    /// The last step.
    pub permute: Permute,
    /// The tools of the last step: colours (when asked for), then order; one pair a copy.
    pub permute_calls: Vec<Vec<PlannedCall>>,
}

/// The tools of a passage's plan. [`crate::expand_texts`] says in which order they are carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPlan {
    /// The passage, and the documents of the edit as what the model wrote about it.
    pub source: TextSource,
    /// Each is applied to the source.
    pub pipelines: Vec<Vec<PlannedCall>>,
}

/// A tool call that needs no further look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCall {
    /// The tool's full name.
    pub tool: String,
    /// The component that will run, pinned.
    pub plugin: PluginId,
    /// Parameters as a JSON object's text.
    pub params: String,
    /// The call's own seed.
    pub seed: u64,
}

/// The tool that renames the colours of a task, all grids alike.
pub const PERMUTE_COLORS: &str = "grid.permute_colors";

/// The tool that shuffles the demonstrations of a task.
pub const PERMUTE_EXAMPLES: &str = "grid.permute_examples";

/// Resolves an edit for one context: base tasks, tools pinned to their components, a seed for every call,
/// documents (a passage's with their title; a puzzle has none).
///
/// The edit must have been validated for the kind of context and against the tools of `catalogue`.
///
/// # Errors
/// When a tool is not in the catalogue, the edit is for the other kind of context, or a passage's documents
/// and those to be replayed make more steps than [`STEPS_MAX`]. (The examples of a puzzle are counted when they exist: [`steps`].)
pub fn plan(edit: &SelfEdit, catalogue: &Catalogue, context: &Context, seed: u64) -> Result<Plan, Refused> {
    let (puzzle, text, documents) = match context {
        Context::Puzzle(puzzle) => {
            (Some(puzzle_plan(edit, catalogue, puzzle, seed)?), None, edit.documents.clone())
        }
        Context::Passage(passage) => {
            let text = text_plan(edit, catalogue, passage, seed)?;
            (None, Some(text), titled_documents(edit, passage))
        }
    };
    if puzzle.is_none() {
        let replayed = usize::try_from(edit.replay).unwrap_or(usize::MAX);
        steps(documents.len().saturating_add(replayed), &edit.training).map_err(|problem| {
            match edit.dialect {
                // A completion has no training settings to point to.
                Dialect::SealCompletion => Problem { pointer: String::new(), ..problem },
                Dialect::Selkie | Dialect::SealArc => problem,
            }
        })?;
    }
    let (replay, limits, training) = (edit.replay, edit.limits, edit.training.clone());
    Ok(Plan { puzzle, text, documents, replay, limits, training, seed })
}

/// Optimiser steps of training on so many examples: batches, the last one perhaps smaller, times epochs.
///
/// # Errors
/// When there are more than [`STEPS_MAX`].
pub fn steps(examples: usize, training: &Training) -> Result<u64, Problem> {
    let batches = (examples as u64).div_ceil(u64::from(training.batch_size.max(1)));
    let steps = batches.saturating_mul(u64::from(training.epochs));
    if steps <= STEPS_MAX {
        return Ok(steps);
    }
    let expected = format!(
        "at most {STEPS_MAX} optimiser steps (SEAL drops a longer edit without a word; lower epochs, raise \
         batch_size, or ask for fewer tools or documents)"
    );
    let found = format!(
        "{steps} steps: {examples} examples in batches of {}, {} epochs",
        training.batch_size, training.epochs
    );
    Err(Problem::new(Code::TooManySteps, "/training/epochs", expected, found))
}

/// The base tasks of SEAL's recipe: each demonstration in turn is the one to solve, and of the others each
/// set of `left_out - 1` is left out too; the rest are shown in their order. With `left_out` 2 and two
/// demonstrations, nothing is left to show.
pub fn leave_out(demonstrations: &[Example], left_out: LeaveOut) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (index, test) in demonstrations.iter().enumerate() {
        let others = (0..demonstrations.len()).filter(|&other| other != index);
        let shown_without = |dropped: Option<usize>| {
            let shown = others.clone().filter(|&other| Some(other) != dropped);
            let train = shown.filter_map(|other| demonstrations.get(other).cloned()).collect();
            Task { train, test: test.clone() }
        };
        match left_out {
            LeaveOut::One => tasks.push(shown_without(None)),
            LeaveOut::Two => tasks.extend(others.clone().map(|dropped| shown_without(Some(dropped)))),
        }
    }
    tasks
}

/// How many demonstrations a base task lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaveOut {
    /// The one to solve.
    One,
    /// The one to solve and another.
    Two,
}

fn puzzle_plan(
    edit: &SelfEdit,
    catalogue: &Catalogue,
    puzzle: &Puzzle,
    seed: u64,
) -> Result<PuzzlePlan, Refused> {
    if edit.include_source {
        return Err(other_context("an edit for a puzzle", "an edit that learns a passage"));
    }
    let mut resolver = Resolver { catalogue, seed, problems: Vec::new() };
    let pipelines = resolver.pipelines(edit);
    let last_step = permute_calls(edit.permute);
    let pointer = match edit.dialect {
        Dialect::Selkie => "/data/permute",
        Dialect::SealArc | Dialect::SealCompletion => "",
    };
    let permute_calls = (0..edit.permute.copies)
        .map(|copy| resolver.pin(&last_step, &format!("permute/{copy}"), pointer))
        .collect();
    if !resolver.problems.is_empty() {
        return Err(Refused(resolver.problems));
    }
    // A task without demonstrations (two of two left out) shows no rule; SEAL trains on it all the same.
    let shows_a_rule = |task: &Task| !task.train.is_empty();
    let rounds = [LeaveOut::One, LeaveOut::Two]
        .map(|left_out| leave_out(&puzzle.train, left_out).into_iter().filter(shows_a_rule).collect())
        .to_vec();
    Ok(PuzzlePlan { rounds, pipelines, permute: edit.permute, permute_calls })
}

fn permute_calls(permute: Permute) -> Vec<ToolCall> {
    let one_copy = |tool: &str| ToolCall { tool: tool.to_owned(), params: json!({ "copies": 1 }) };
    let colours = permute.colors.then(|| one_copy(PERMUTE_COLORS));
    colours.into_iter().chain([one_copy(PERMUTE_EXAMPLES)]).collect()
}

/// Pins tools to their components; a missing one is noted once and left out.
struct Resolver<'a> {
    catalogue: &'a Catalogue,
    seed: u64,
    problems: Vec<Problem>,
}

impl Resolver<'_> {
    fn pipelines(&mut self, edit: &SelfEdit) -> Vec<Vec<PlannedCall>> {
        let pipelines = edit.pipelines.iter().enumerate();
        let pinned = pipelines.map(|(i, calls)| {
            let pointer = match edit.dialect {
                Dialect::Selkie => format!("/data/tools/{i}"),
                // The flags do not list their tools.
                Dialect::SealArc | Dialect::SealCompletion => String::new(),
            };
            self.pin(calls, &format!("pipeline/{i}"), &pointer)
        });
        pinned.collect()
    }

    fn pin(&mut self, calls: &[ToolCall], path: &str, pointer: &str) -> Vec<PlannedCall> {
        let mut pinned = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            match self.catalogue.get(&call.tool) {
                Some(tool) => pinned.push(PlannedCall {
                    tool: call.tool.clone(),
                    plugin: tool.plugin.clone(),
                    params: call.params.to_string(),
                    seed: derive_seed(self.seed, &format!("{path}/{index}")),
                }),
                None => {
                    let expected = format!("a loaded plugin with `{}`", call.tool);
                    let problem = Problem::new(Code::UnknownTool, pointer, expected, "none").not_retryable();
                    if !self.problems.contains(&problem) && self.problems.len() < PROBLEMS_MAX {
                        self.problems.push(problem);
                    }
                }
            }
        }
        pinned
    }
}

fn text_plan(
    edit: &SelfEdit,
    catalogue: &Catalogue,
    passage: &Passage,
    seed: u64,
) -> Result<TextPlan, Refused> {
    let kind = |call: &ToolCall| catalogue.get(&call.tool).map(|tool| tool.kind);
    if edit.pipelines.iter().flatten().any(|call| kind(call) == Some(ToolKind::PuzzleAugmenter)) {
        return Err(other_context("an edit for a passage", "an edit with tools for puzzles"));
    }
    let mut resolver = Resolver { catalogue, seed, problems: Vec::new() };
    let pipelines = resolver.pipelines(edit);
    if !resolver.problems.is_empty() {
        return Err(Refused(resolver.problems));
    }
    let source = TextSource {
        title: passage.title.clone(),
        text: passage.context.trim().to_owned(),
        completions: edit.documents.clone(),
    };
    Ok(TextPlan { source, pipelines })
}

/// Each document under its title, the passage itself last, as SEAL trains on them.
fn titled_documents(edit: &SelfEdit, passage: &Passage) -> Vec<String> {
    let source = edit.include_source.then_some(passage.context.trim());
    let texts = edit.documents.iter().map(String::as_str).chain(source);
    texts.map(|text| format!("{}\n{text}", passage.title)).collect()
}

fn other_context(expected: &str, found: &str) -> Refused {
    Problem::new(Code::WrongKind, "", expected, found).not_retryable().into()
}
