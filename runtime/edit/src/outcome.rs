//! Plain results that the rooms hand to each other: what tools made, what a model scored, what was decided.

use serde::{Deserialize, Serialize};

use crate::catalogue::PluginId;
use crate::grid::{Grid, Task};

/// What one tool did during a self-edit, summed over its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolRun {
    /// The tool's full name.
    pub tool: String,
    /// The component that ran.
    pub plugin: PluginId,
    /// Batches it was called with.
    pub calls: u64,
    /// Tasks or documents it returned.
    pub items: u64,
    /// Fuel it used: WebAssembly instructions, nearly; the same for the same input and seed.
    pub fuel: u64,
}

/// Everything the tools made for one edit, and what they were; and what is learned along.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolOutcomes {
    /// The puzzle's training tasks: de-duplicated, in a fixed order, at most
    /// [`crate::limits::EXAMPLES_MAX`]. Empty for a passage.
    pub tasks: Vec<Task>,
    /// The passage's documents that tools wrote, as they are learned; at most [`crate::limits::EXAMPLES_MAX`].
    /// Empty for a puzzle.
    pub documents: Vec<String>,
    /// Documents about what was known before, as they are learned; empty where nothing is known or the edit asks
    /// for none.
    pub replayed: Vec<String>,
    /// One entry a tool, in order of first use.
    pub runs: Vec<ToolRun>,
}

impl ToolOutcomes {
    /// Tasks and documents, replayed ones included.
    pub fn items(&self) -> usize {
        self.tasks.len() + self.documents.len() + self.replayed.len()
    }
}

/// A model's answer to one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// A grid, as rows.
    Grid(Grid),
    /// Text; also what a model wrote where a grid was asked for and none could be read.
    Text(String),
}

/// How a model did on one item of a context.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemReport {
    /// The question, or `test 0` of a puzzle.
    pub item: String,
    /// Whether greedy decoding gives exactly the expected answer.
    pub solved: bool,
    /// Mean log-probability (nats) of the expected answer's tokens, end token included.
    pub log_prob: f64,
    /// What greedy decoding gives.
    pub prediction: Answer,
    /// What was expected.
    pub expected: Answer,
}

/// How a model did on a context: the measurement that decides. At least one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// One entry a test grid or question.
    pub items: Vec<ItemReport>,
}

impl Report {
    /// The share of items solved, 0..=1.
    pub fn score(&self) -> f64 {
        let solved = self.items.iter().filter(|item| item.solved).count();
        solved as f64 / self.items.len().max(1) as f64
    }

    /// Whether every item is solved.
    pub fn solved(&self) -> bool {
        self.items.iter().all(|item| item.solved)
    }

    /// Mean over items of the expected answer's log-probability (nats a token).
    pub fn log_prob(&self) -> f64 {
        self.items.iter().map(|item| item.log_prob).sum::<f64>() / self.items.len().max(1) as f64
    }
}

/// Whether a candidate is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It scored higher: it becomes the active generation.
    Kept,
    /// It did not: it is dropped, and the active generation stays.
    Discarded,
}
