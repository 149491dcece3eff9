//! What a store holds for its one call: the account of memory, the log, and access to the host model.

use std::time::Instant;

use crate::limiter::Limiter;
use crate::limits::{LAST_WORDS_BYTES_MAX, Limits};
use crate::model::ModelAccess;

/// The data of a store.
pub(crate) struct State {
    pub(crate) limiter: Limiter,
    pub(crate) log: Log,
    pub(crate) model: ModelAccess,
    /// What the guest is given instead of randomness, where its toolchain asks for some.
    pub(crate) random: selkie_edit::SplitMix64,
}

impl State {
    pub(crate) fn new(limits: &Limits, model: ModelAccess, seed: u64) -> State {
        State {
            limiter: Limiter::new(limits),
            log: Log { text: String::new(), max: limits.log_bytes },
            model,
            random: selkie_edit::SplitMix64::new(seed),
        }
    }
}

/// What a guest wrote.
#[derive(Debug)]
pub(crate) struct Log {
    text: String,
    max: usize,
}

/// More than may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{used} bytes logged, {max} allowed")]
pub(crate) struct LogExceeded {
    pub(crate) used: usize,
    pub(crate) max: usize,
}

/// The deadline passed while the host worked for the guest.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the deadline passed in a call of the host")]
pub(crate) struct DeadlinePassed;

impl Log {
    /// Adds text; a line's end is the guest's business.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), LogExceeded> {
        let used = self.text.len().saturating_add(text.len());
        if used > self.max {
            return Err(LogExceeded { used, max: self.max });
        }
        self.text.push_str(text);
        Ok(())
    }

    /// All of it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Its end, fit to show.
    pub(crate) fn last_words(&self) -> String {
        let text = self.text.trim_end();
        let mut from = text.len().saturating_sub(LAST_WORDS_BYTES_MAX);
        while !text.is_char_boundary(from) {
            from += 1;
        }
        crate::error::scrub(text.get(from..).unwrap_or_default(), usize::MAX)
    }
}

/// Time that is left until an instant; zero when it has passed.
pub(crate) fn left(until: Instant) -> std::time::Duration {
    until.saturating_duration_since(Instant::now())
}
