//! The trait of a tool that says how good something is.

use serde::de::DeserializeOwned;

use crate::error::ToolError;
use crate::grid::Grid;
use crate::laws::Laws;

/// What a grader grades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Two answers to one question.
    Answers,
    /// Two grids.
    Grids,
    /// A self-edit of a passage.
    Edit,
}

impl Takes {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Takes::Answers => "answers",
            Takes::Grids => "grids",
            Takes::Edit => "edit",
        }
    }
}

/// A self-edit of a passage, before anything is trained on it. It comes with no question and no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The passage's title; may be empty.
    pub title: String,
    /// The passage.
    pub passage: String,
    /// What the edit would train on, in order, without titles and without the passage.
    pub documents: Vec<String>,
}

/// One thing to grade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submission {
    /// Two answers; nothing says which of them may be a reference.
    Answers {
        /// One of them.
        left: String,
        /// The other.
        right: String,
    },
    /// Two grids; nothing says which of them may be a reference.
    Grids {
        /// One of them.
        left: Grid,
        /// The other.
        right: Grid,
    },
    /// A self-edit.
    Edit(Edit),
}

/// A grade.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// 0 is worst, 1 is best. The host refuses anything else.
    pub value: f64,
    /// Why, one line each; may be empty. Of a grade of two sides the host uses the value alone.
    pub reasons: Vec<String>,
}

impl Score {
    /// A score without reasons.
    pub fn new(value: f64) -> Score {
        Score { value, reasons: Vec::new() }
    }

    /// 1 when it is right, 0 when it is not.
    pub fn right(right: bool) -> Score {
        Score::new(if right { 1.0 } else { 0.0 })
    }
}

/// A tool that grades. Implement the one of `answers`, `grids` and `edit` that [`Grader::TAKES`] names. A score
/// must depend on its submission and the parameters alone: among the submissions of a batch are some whose score
/// the host knows.
pub trait Grader {
    /// Full name, `namespace.tool` in lower case, such as `demo.same_length`.
    const NAME: &'static str;
    /// One line for people.
    const SUMMARY: &'static str;
    /// What it grades.
    const TAKES: Takes;
    /// The parameters. Use `#[serde(deny_unknown_fields)]`.
    type Params: DeserializeOwned;

    /// What the grader promises; the host holds it to it. By default: nothing but that the seed does not matter.
    const LAWS: Laws = Laws::DETERMINISTIC;

    /// JSON Schema (draft 2020-12) of the parameters as text, without `$ref`. By default: no parameters.
    fn params_schema() -> String {
        crate::NO_PARAMS_SCHEMA.into()
    }

    /// How well two answers agree. Swapping them must not change the score.
    ///
    /// # Errors
    /// When the parameters are wrong or such answers cannot be graded at all.
    fn answers(params: &Self::Params, left: &str, right: &str) -> Result<Score, ToolError> {
        let _ = (params, left, right);
        Err(not_taken(Self::TAKES, "two answers"))
    }

    /// How well two grids agree. Swapping them must not change the score.
    ///
    /// # Errors
    /// When the parameters are wrong or such grids cannot be graded at all.
    fn grids(params: &Self::Params, left: &Grid, right: &Grid) -> Result<Score, ToolError> {
        let _ = (params, left, right);
        Err(not_taken(Self::TAKES, "two grids"))
    }

    /// How good a self-edit is.
    ///
    /// # Errors
    /// When the parameters are wrong or such an edit cannot be graded at all.
    fn edit(params: &Self::Params, edit: &Edit) -> Result<Score, ToolError> {
        let _ = (params, edit);
        Err(not_taken(Self::TAKES, "a self-edit"))
    }

    /// The score of one submission, by the method that fits it.
    ///
    /// # Errors
    /// What that method refuses.
    fn submission(params: &Self::Params, submission: &Submission) -> Result<Score, ToolError> {
        match submission {
            Submission::Answers { left, right } => Self::answers(params, left, right),
            Submission::Grids { left, right } => Self::grids(params, left, right),
            Submission::Edit(edit) => Self::edit(params, edit),
        }
    }
}

/// Not generic: each instance would be more component.
fn not_taken(takes: Takes, given: &str) -> ToolError {
    ToolError::unsupported_input(format!("given {given}; this grader takes `{}`", takes.as_str()))
}
