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

/// What a candidate is measured by, where a context comes in the middle of things and its answers may not be known.
#[derive(Debug, Clone, PartialEq)]
pub struct Gated {
    /// What may be learned from.
    pub learn: Context,
    /// What is asked.
    pub asked: Asked,
}

/// What is asked of a candidate.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// What the context asks, whose answers are known.
    Known(Context),
    /// A demonstration of the puzzle, as its only test.
    HeldOut(Context),
    /// The passage itself: how likely is it?
    Text(Passage),
}

impl Context {
    /// The same without the outputs of its tests; a passage without its questions.
    #[must_use]
    pub fn without_answers(&self) -> Context {
        let mut context = self.clone();
        match &mut context {
            Context::Puzzle(puzzle) => puzzle.tests.iter_mut().for_each(|test| test.output = None),
            Context::Passage(passage) => passage.questions.clear(),
        }
        context
    }

    /// What is learned from and what is asked: the context's own tests or questions where an answer is known; else the
    /// puzzle's last demonstration, which then is not learned from (of two demonstrations it is, because one alone shows
    /// no rule); else the passage's text.
    pub fn gated(&self) -> Gated {
        match self {
            Context::Passage(passage) if passage.questions.is_empty() => {
                Gated { learn: self.clone(), asked: Asked::Text(passage.clone()) }
            }
            Context::Puzzle(puzzle) if puzzle.tests.iter().all(|test| test.output.is_none()) => {
                let mut learn = puzzle.clone();
                let mut asked = puzzle.clone();
                if let Some(last) = puzzle.train.last() {
                    asked.tests =
                        vec![PuzzleTest { input: last.input.clone(), output: Some(last.output.clone()) }];
                }
                if learn.train.len() > 2 {
                    learn.train.pop();
                    asked.train.pop();
                }
                Gated { learn: Context::Puzzle(learn), asked: Asked::HeldOut(Context::Puzzle(asked)) }
            }
            known => Gated { learn: known.clone(), asked: Asked::Known(known.clone()) },
        }
    }
}

impl Asked {
    /// `tests`, `questions`, `held_out_example` or `text`.
    pub fn name(&self) -> &'static str {
        match self {
            Asked::Known(Context::Puzzle(_)) => "tests",
            Asked::Known(Context::Passage(_)) => "questions",
            Asked::HeldOut(_) => "held_out_example",
            Asked::Text(_) => "text",
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
