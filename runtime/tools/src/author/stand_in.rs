//! What answers a plugin that asks for the host model, where there is none.

use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::model::{Completion, HostModel, Likelihood, ModelError};

/// Answers of the right form: a token is four bytes of text, and how likely one is follows from a digest.
pub(super) struct StandIn;

impl HostModel for StandIn {
    fn log_likelihood(&self, prompt: &str, completion: &str, _: Instant) -> Result<Likelihood, ModelError> {
        if completion.is_empty() {
            return Err(ModelError::UnsupportedText("an empty completion has no likelihood".into()));
        }
        let digest = Sha256::new().chain_update(prompt).chain_update([0]).chain_update(completion).finalize();
        let surprise = 0.5 + f64::from(digest[0]) / 64.0;
        let tokens = tokens(completion);
        let computed = tokens.saturating_add(self::tokens(prompt));
        Ok(Likelihood { log_prob: -surprise * f64::from(tokens), tokens, computed })
    }

    fn complete(&self, prompt: &str, max_tokens: u32, _: Instant) -> Result<Completion, ModelError> {
        let words: Vec<&str> = prompt.split_whitespace().take(max_tokens.min(64) as usize).collect();
        let text = words.join(" ");
        let computed = tokens(prompt).saturating_add(tokens(&text));
        Ok(Completion { text, computed })
    }
}

fn tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX)
}
