//! What answers have in common: the envelope, the count of tokens, the reasons to end.

use schemars::JsonSchema;
use selkie_engine::live::{End, EndReason, TraceEvent};
use serde::Serialize;

use crate::api_error::ApiError;

/// An answer, or a piece of one.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "AnswerWith{C}")]
pub(crate) struct Answer<C> {
    /// Its id; every piece has it.
    pub(crate) id: String,
    /// What it is, in OpenAI's words.
    pub(crate) object: &'static str,
    /// When, in seconds since 1970.
    pub(crate) created: i64,
    /// The model, as the request named it.
    pub(crate) model: String,
    /// The answers.
    pub(crate) choices: Vec<C>,
    /// Tokens; of a streamed answer in its last piece, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<Usage>,
    /// The adapter at the end of the first choice: `base`, a generation, or a loaded one. Of a streamed answer in the
    /// piece that ends a choice, and in one that tells of a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter_generation: Option<String>,
    /// What happened to self-edits on the way; of a streamed answer in pieces of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub(crate) selkie_events: Vec<TraceEvent>,
    /// What happened to a self-edit, in a piece that tells of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) selkie_event: Option<TraceEvent>,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Usage {
    /// Of the prompts, each once.
    pub(crate) prompt_tokens: usize,
    /// Of the answers.
    pub(crate) completion_tokens: usize,
    /// Of both.
    pub(crate) total_tokens: usize,
}

impl Usage {
    /// The sum over the choices; every prompt has as many as every other.
    pub(crate) fn of<'a>(ends: impl Iterator<Item = &'a End>, choices_a_prompt: usize) -> Usage {
        let mut usage = Usage::default();
        for (at, end) in ends.enumerate() {
            if at % choices_a_prompt.max(1) == 0 {
                usage.prompt_tokens += end.prompt_tokens;
            }
            usage.completion_tokens += end.tokens;
        }
        usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
        usage
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FinishReason {
    /// The model ended it, or a stop text came, or its grammar was complete.
    Stop,
    /// The limit of tokens was reached.
    Length,
}

impl FinishReason {
    /// The reason, unless the answer was never finished.
    pub(crate) fn of(end: &End) -> Result<FinishReason, ApiError> {
        match &end.reason {
            EndReason::Stop => Ok(FinishReason::Stop),
            EndReason::Length => Ok(FinishReason::Length),
            EndReason::Cancelled => Err(ApiError::stopping()),
            // It became clear late that the grammar is too much.
            EndReason::Failed(reason) if reason.starts_with("constrained decoding") => {
                Err(ApiError::field("response_format", reason.clone()))
            }
            EndReason::Failed(reason) => Err(ApiError::internal(reason.clone())),
        }
    }
}

/// A token as it was generated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToldToken {
    /// Its text; a character that needs several tokens comes with the last of them.
    pub(crate) text: String,
    /// The model's log-probability of it, in nats; none where a grammar forced it.
    pub(crate) log_prob: Option<f32>,
}

impl ToldToken {
    /// What clients read, who expect a number: what was forced is certain.
    pub(crate) fn log_prob(&self) -> f32 {
        self.log_prob.unwrap_or(0.0)
    }
}
