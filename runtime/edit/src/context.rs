//! What a model adapts to: a puzzle, or a passage with questions.

use serde::{Deserialize, Serialize};

use crate::catalogue::ToolKind;
use crate::grid::{Example, Grid};

/// One thing to adapt to.
#[derive(Debug, Clone, PartialEq)]
pub enum Context {
    /// Grids with a hidden rule.
    Puzzle(Puzzle),
    /// A text with questions about it.
    Passage(Passage),
}

/// A puzzle in ARC's sense. Every grid fits 30x30.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Puzzle {
    /// The task's name, such as `44f52bb0`.
    pub id: String,
    /// The demonstrations, at least two (leave-one-out needs one to learn from and one to predict).
    pub train: Vec<Example>,
    /// The examples to solve, at least one.
    pub tests: Vec<PuzzleTest>,
}

/// An example to solve, with the answer where it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PuzzleTest {
    /// The input grid.
    pub input: Grid,
    /// The expected output, which only the evaluation sees.
    pub output: Option<Grid>,
}

/// A passage with questions, as in SQuAD and in SEAL's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The article's title, which prefixes every document.
    pub title: String,
    /// The text to learn.
    pub context: String,
    /// What is asked afterwards, without the text; at least one.
    pub questions: Vec<Question>,
}

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The question.
    pub question: String,
    /// The gold answer.
    pub answer: String,
}

/// Which of the two a context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// A puzzle.
    Puzzle,
    /// A passage.
    Passage,
}

impl Context {
    /// Puzzle or passage.
    pub fn domain(&self) -> Domain {
        match self {
            Context::Puzzle(_) => Domain::Puzzle,
            Context::Passage(_) => Domain::Passage,
        }
    }

    /// The puzzle's id or the passage's title.
    pub fn name(&self) -> &str {
        match self {
            Context::Puzzle(puzzle) => &puzzle.id,
            Context::Passage(passage) => &passage.title,
        }
    }
}

impl Puzzle {
    /// The longest side of any of its grids, 0 to 30.
    pub fn largest_side(&self) -> u8 {
        let pairs = self.train.iter().flat_map(|pair| [&pair.input, &pair.output]);
        let tests = self.tests.iter().flat_map(|test| [Some(&test.input), test.output.as_ref()]).flatten();
        pairs.chain(tests).map(|grid| grid.height().max(grid.width())).max().unwrap_or(0)
    }
}

impl Domain {
    /// The kind of tool that works on this kind of context.
    pub fn tool_kind(self) -> ToolKind {
        match self {
            Domain::Puzzle => ToolKind::PuzzleAugmenter,
            Domain::Passage => ToolKind::TextAugmenter,
        }
    }
}
