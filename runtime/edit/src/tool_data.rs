//! What tools are given and give, beside tasks: texts, and what is graded.

use serde::{Deserialize, Serialize};

use crate::grid::Grid;

/// What a text augmenter works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSource {
    /// The passage's title; may be empty.
    #[serde(default)]
    pub title: String,
    /// The passage.
    pub text: String,
    /// What a model wrote about it, as it wrote it.
    #[serde(default)]
    pub completions: Vec<String>,
}

/// What a grader grades. Of two sides one may be the reference; a grader is never told which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Submission {
    /// Two answers to one question.
    Answers {
        /// One of them.
        left: String,
        /// The other.
        right: String,
    },
    /// Two grids.
    Grids {
        /// One of them.
        left: Grid,
        /// The other.
        right: Grid,
    },
    /// A self-edit of a passage, before anything is trained on it; without questions and answers.
    Edit {
        /// The passage's title; may be empty.
        #[serde(default)]
        title: String,
        /// The passage.
        passage: String,
        /// What the edit would train on, in order, without titles and without the passage.
        documents: Vec<String>,
    },
}

/// Which of the three a submission is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubmissionKind {
    /// Two answers.
    Answers,
    /// Two grids.
    Grids,
    /// A self-edit of a passage.
    Edit,
}

impl Submission {
    /// Which of the three it is.
    pub fn kind(&self) -> SubmissionKind {
        match self {
            Submission::Answers { .. } => SubmissionKind::Answers,
            Submission::Grids { .. } => SubmissionKind::Grids,
            Submission::Edit { .. } => SubmissionKind::Edit,
        }
    }
}

/// A grade.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// 0 is worst, 1 is best.
    pub value: f64,
    /// Why, one line each.
    #[serde(default)]
    pub reasons: Vec<String>,
}
