//! The model that plugins may ask: the base model of the runtime, without any adapter.
//!
//! Not the active generation: what a plugin is told would then depend on the edits before this one, and a replay
//! would have to follow them.

use std::sync::Arc;
use std::time::Instant;

use selkie_learn::{LearnError, Model};
use selkie_tools::{Completion, HostModel, Likelihood, ModelError};

/// A model as plugins see it.
pub(crate) struct AskedModel(pub(crate) Arc<Model>);

impl HostModel for AskedModel {
    fn log_likelihood(&self, prompt: &str, completion: &str, _: Instant) -> Result<Likelihood, ModelError> {
        let (score, computed) = self.0.likelihood(None, prompt, completion).map_err(told)?;
        Ok(Likelihood { log_prob: score.log_prob, tokens: count(score.tokens), computed: count(computed) })
    }

    fn complete(&self, prompt: &str, max_tokens: u32, until: Instant) -> Result<Completion, ModelError> {
        let mut go_on = || Instant::now() < until;
        let made = self.0.continuation(None, prompt, max_tokens as usize, &mut go_on);
        let (text, computed) = made.map_err(told)?;
        Ok(Completion { text, computed: count(computed) })
    }
}

fn told(error: LearnError) -> ModelError {
    match error {
        LearnError::TooLong { .. } | LearnError::Render(_) => ModelError::UnsupportedText(error.to_string()),
        other => ModelError::Failed(other.to_string()),
    }
}

fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
