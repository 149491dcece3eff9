//! The model that is being adapted, for text augmenters and graders that ask for it:
//! `register!(grader: Judge; asks: host_model)`. The operator must grant it too.

use crate::error::{ErrorKind, ToolError};

/// How likely a completion is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Natural logarithm of its probability: the sum over its tokens; at most 0.
    pub log_prob: f64,
    /// Its tokens, by the model's own tokenizer.
    pub tokens: u32,
}

/// Why the model did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// It was not granted, or not for this call.
    NotGranted,
    /// The call's budget of model calls or of tokens is used up.
    Budget,
    /// The text is longer than the model can read, or empty.
    UnsupportedText,
    /// A fault of the host's.
    Failed,
}

/// A refusal, with a sentence that says what is missing. `?` makes it a [`ToolError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which kind of refusal.
    pub kind: RefusalKind,
    /// What is missing.
    pub message: String,
}

impl From<Refusal> for ToolError {
    fn from(refusal: Refusal) -> ToolError {
        ToolError { kind: ErrorKind::ModelUnavailable, message: refusal.message }
    }
}

/// How likely the model finds `completion` after `prompt`.
///
/// # Errors
/// When the host refuses. Natively, unless [`crate::testing::with_host_model`] gave a stand-in.
pub fn log_likelihood(prompt: &str, completion: &str) -> Result<Likelihood, Refusal> {
    side::log_likelihood(prompt, completion)
}

/// The model's most likely continuation of `prompt`: at most `max_tokens` tokens.
///
/// # Errors
/// As [`log_likelihood`].
pub fn complete(prompt: &str, max_tokens: u32) -> Result<String, Refusal> {
    side::complete(prompt, max_tokens)
}

#[cfg(target_family = "wasm")]
mod side {
    //! The host's model.

    use super::{Likelihood, Refusal, RefusalKind};
    use crate::bindings::text::selkie::plugin::host_model as wire;

    pub(super) fn log_likelihood(prompt: &str, completion: &str) -> Result<Likelihood, Refusal> {
        wire::log_likelihood(prompt, completion)
            .map(|found| Likelihood { log_prob: found.log_prob, tokens: found.tokens })
            .map_err(refusal_in)
    }

    pub(super) fn complete(prompt: &str, max_tokens: u32) -> Result<String, Refusal> {
        wire::complete(prompt, max_tokens).map_err(refusal_in)
    }

    fn refusal_in(refusal: wire::Refusal) -> Refusal {
        let kind = match refusal.kind {
            wire::RefusalKind::NotGranted => RefusalKind::NotGranted,
            wire::RefusalKind::Budget => RefusalKind::Budget,
            wire::RefusalKind::UnsupportedText => RefusalKind::UnsupportedText,
            wire::RefusalKind::Failed => RefusalKind::Failed,
        };
        Refusal { kind, message: refusal.message }
    }
}

#[cfg(not(target_family = "wasm"))]
mod side {
    //! The stand-in that a test set.

    use super::{Likelihood, Refusal, RefusalKind};
    use crate::testing::host_model::with_current;

    pub(super) fn log_likelihood(prompt: &str, completion: &str) -> Result<Likelihood, Refusal> {
        with_current(|model| model.log_likelihood(prompt, completion)).unwrap_or_else(not_granted)
    }

    pub(super) fn complete(prompt: &str, max_tokens: u32) -> Result<String, Refusal> {
        with_current(|model| model.complete(prompt, max_tokens)).unwrap_or_else(not_granted)
    }

    fn not_granted<T>() -> Result<T, Refusal> {
        let message = "no host model: a native test sets one with `selkie_sdk::testing::with_host_model`";
        Err(Refusal { kind: RefusalKind::NotGranted, message: message.into() })
    }
}
