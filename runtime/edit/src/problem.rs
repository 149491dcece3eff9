//! What is wrong with a self-edit, in a form that a model or a person can repair from.

use serde::{Deserialize, Serialize};

use crate::limits::PROBLEMS_MAX;
use crate::wording;

/// One complaint about a self-edit. Short enough to hand back to a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// A stable name of the rule that was broken, in snake case.
    pub code: Code,
    /// JSON pointer into the edit (RFC 6901); empty for the whole text.
    pub pointer: String,
    /// What would have been accepted.
    pub expected: String,
    /// What was there, cut to a readable length.
    pub found: String,
    /// Whether writing the edit again can help. False where the rule is not about the edit's text.
    pub retryable: bool,
}

/// The rules that an edit can break.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// No text, or only white space.
    Empty,
    /// More bytes than [`crate::limits::EDIT_BYTES_MAX`].
    TooLarge,
    /// Deeper than [`crate::limits::JSON_DEPTH_MAX`].
    TooDeep,
    /// No JSON object where one was needed.
    NoJson,
    /// A JSON object that does not parse.
    BadJson,
    /// JSON, but neither Selkie's form nor one of SEAL's.
    UnknownForm,
    /// A key that the form does not have.
    UnknownField,
    /// A key that the form must have.
    MissingField,
    /// A value of another type.
    WrongType,
    /// A value outside its range or its list.
    OutOfRange,
    /// A number that is not finite.
    NotFinite,
    /// A tool that no loaded plugin has.
    UnknownTool,
    /// A tool or other data that does not suit the kind of context or the model.
    WrongKind,
    /// Parameters that the tool's schema refuses.
    BadParams,
    /// An edit that would train on nothing.
    NothingToLearn,
    /// More than a cap of [`crate::limits`] allows.
    OverLimit,
    /// More optimiser steps than [`crate::limits::STEPS_MAX`].
    TooManySteps,
}

impl Code {
    /// The code as it is written in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Empty => "empty",
            Code::TooLarge => "too_large",
            Code::TooDeep => "too_deep",
            Code::NoJson => "no_json",
            Code::BadJson => "bad_json",
            Code::UnknownForm => "unknown_form",
            Code::UnknownField => "unknown_field",
            Code::MissingField => "missing_field",
            Code::WrongType => "wrong_type",
            Code::OutOfRange => "out_of_range",
            Code::NotFinite => "not_finite",
            Code::UnknownTool => "unknown_tool",
            Code::WrongKind => "wrong_kind",
            Code::BadParams => "bad_params",
            Code::NothingToLearn => "nothing_to_learn",
            Code::OverLimit => "over_limit",
            Code::TooManySteps => "too_many_steps",
        }
    }
}

impl Problem {
    /// A problem that writing the edit again can solve. `expected` and `found` are cut to a readable length
    /// and their control characters escaped.
    pub fn new(
        code: Code,
        pointer: impl Into<String>,
        expected: impl AsRef<str>,
        found: impl AsRef<str>,
    ) -> Problem {
        Problem {
            code,
            pointer: pointer.into(),
            expected: wording::expectation(expected.as_ref()),
            found: wording::expectation(found.as_ref()),
            retryable: true,
        }
    }

    /// The same problem, which no other text of the edit would solve.
    #[must_use]
    pub fn not_retryable(self) -> Problem {
        Problem { retryable: false, ..self }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A key may hold anything, so the pointer is escaped here and kept exact in the field.
        let at = if self.pointer.is_empty() { "/".to_owned() } else { wording::expectation(&self.pointer) };
        write!(f, "{} at {at}: expected {}, found {}", self.code.as_str(), self.expected, self.found)
    }
}

/// A self-edit that was not accepted: every problem at once, at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refused(pub Vec<Problem>);

impl Refused {
    /// Whether writing the edit again can help: no problem is about anything but the edit's text.
    pub fn is_retryable(&self) -> bool {
        self.0.iter().all(|problem| problem.retryable)
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Refused {
        Refused(vec![problem])
    }
}

/// Collects problems up to [`PROBLEMS_MAX`], so that a hostile edit costs no more than a long one.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem. Of a value of the wrong type only that is said, not its range as well.
    pub(crate) fn push(&mut self, problem: Problem) {
        let is_explained =
            self.0.last().is_some_and(|last| last.code == Code::WrongType && last.pointer == problem.pointer);
        if !self.is_full() && !is_explained {
            self.0.push(problem);
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= PROBLEMS_MAX
    }

    /// # Errors
    /// The problems, when there are any.
    pub(crate) fn into_result(self) -> Result<(), Refused> {
        if self.0.is_empty() { Ok(()) } else { Err(Refused(self.0)) }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "the self-edit was refused for {} problem{plural}", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
