//! The one capability: asking the model that is being adapted. It takes two keys, and has a budget.
//!
//! The first key is the plugin's manifest (`"asks": ["host_model"]`), the second the operator's [`Grants`]. Neither
//! type can be made from a text that a model wrote: a self-edit names tools and nothing else, so it can use less
//! than what is granted and never more.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use selkie_edit::ToolLimits;

use crate::limits::{MODEL_CALLS_MAX, MODEL_TOKENS_MAX};
use crate::state::{DeadlinePassed, left};

/// A model that plugins may ask. Implementations stop at `until`; the host does not wait longer in any case.
pub trait HostModel: Send + Sync {
    /// The log-probability of `completion` after `prompt`.
    ///
    /// # Errors
    /// A sentence for the plugin's author, with whether the text is at fault.
    fn log_likelihood(
        &self,
        prompt: &str,
        completion: &str,
        until: Instant,
    ) -> Result<Likelihood, ModelError>;

    /// The most likely continuation of `prompt`, of at most `max_tokens` tokens.
    ///
    /// # Errors
    /// As [`HostModel::log_likelihood`].
    fn complete(&self, prompt: &str, max_tokens: u32, until: Instant) -> Result<Completion, ModelError>;
}

/// How likely a completion is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Natural logarithm of its probability, summed over its tokens.
    pub log_prob: f64,
    /// Its tokens.
    pub tokens: u32,
    /// Tokens that were computed, the prompt's included: what the budget is charged.
    pub computed: u32,
}

/// What a model wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// Tokens that were computed, the prompt's included.
    pub computed: u32,
}

/// Why a model did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// It cannot read the text: it is empty or too long.
    #[error("{0}")]
    UnsupportedText(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

/// What one batch may ask of the host model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelBudget {
    /// Calls.
    pub calls: u32,
    /// Tokens computed, prompts included. The call that passes the bound is the last.
    pub tokens: u32,
}

impl Default for ModelBudget {
    fn default() -> ModelBudget {
        ModelBudget { calls: MODEL_CALLS_MAX, tokens: MODEL_TOKENS_MAX }
    }
}

/// What the operator grants: the second key. It does not deserialise.
#[derive(Clone, Default)]
pub struct Grants {
    model: Option<Arc<dyn HostModel>>,
    plugins: BTreeMap<String, ModelBudget>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.plugins).finish()
    }
}

impl Grants {
    /// Nothing.
    pub fn none() -> Grants {
        Grants::default()
    }

    /// Nothing yet, with a model to ask.
    pub fn of(model: Arc<dyn HostModel>) -> Grants {
        Grants { model: Some(model), plugins: BTreeMap::new() }
    }

    /// The host model for the plugin of that name.
    #[must_use]
    pub fn with(mut self, plugin: impl Into<String>, budget: ModelBudget) -> Grants {
        self.plugins.insert(plugin.into(), budget);
        self
    }

    /// The plugins that something is granted to.
    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        self.plugins.keys().map(String::as_str)
    }

    /// What a plugin's batch may ask. `asks` is the first key.
    pub(crate) fn access(&self, plugin: &str, asks: bool, until: Instant) -> ModelAccess {
        let granted = self.plugins.get(plugin).copied();
        let key = match (asks, granted) {
            (false, _) => Some(MissingKey::Manifest),
            (true, None) => Some(MissingKey::Operator),
            (true, Some(_)) => None,
        };
        ModelAccess {
            model: self.model.clone().filter(|_| key.is_none()),
            missing: key,
            budget: granted.unwrap_or(ModelBudget { calls: 0, tokens: 0 }),
            used: ModelBudget { calls: 0, tokens: 0 },
            was_refused: false,
            until,
        }
    }
}

/// Which of the two keys is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingKey {
    /// The plugin's manifest does not ask.
    Manifest,
    /// The operator has not granted it.
    Operator,
    /// A native plugin has no way to ask.
    Native,
}

impl std::fmt::Display for MissingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MissingKey::Manifest => "its manifest does not ask for it (\"asks\": [\"host_model\"])",
            MissingKey::Native => "native plugins have no way to ask it",
            MissingKey::Operator => "the operator has not granted it (`--grant PLUGIN`)",
        })
    }
}

/// A call's access to the model.
pub(crate) struct ModelAccess {
    model: Option<Arc<dyn HostModel>>,
    missing: Option<MissingKey>,
    budget: ModelBudget,
    used: ModelBudget,
    was_refused: bool,
    until: Instant,
}

/// Why a guest gets no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    NotGranted(String),
    Budget(String),
    UnsupportedText(String),
    Failed(String),
}

/// What a guest gets, or the end of its call.
type Asked<T> = wasmtime::Result<Result<T, Refusal>>;

impl ModelAccess {
    /// No model: for `describe`, which nothing is granted to.
    pub(crate) fn none(until: Instant) -> ModelAccess {
        Grants::none().access("", false, until)
    }

    /// Takes away what an edit does not want its tools to use.
    pub(crate) fn narrow(&mut self, limits: ToolLimits) {
        self.budget.calls = self.budget.calls.min(limits.model_calls.unwrap_or(u32::MAX));
    }

    /// The key for want of which a question was refused.
    pub(crate) fn refused_for(&self) -> Option<MissingKey> {
        self.missing.filter(|_| self.was_refused)
    }

    /// Calls and tokens so far.
    pub(crate) fn used(&self) -> ModelBudget {
        self.used
    }

    pub(crate) fn log_likelihood(&mut self, prompt: String, completion: String) -> Asked<Likelihood> {
        let until = self.until;
        self.ask(
            move |model| model.log_likelihood(&prompt, &completion, until),
            |likelihood| likelihood.computed,
        )
    }

    pub(crate) fn complete(&mut self, prompt: String, max_tokens: u32) -> Asked<Completion> {
        let until = self.until;
        let max_tokens = max_tokens.min(self.budget.tokens.saturating_sub(self.used.tokens));
        self.ask(move |model| model.complete(&prompt, max_tokens, until), |completion| completion.computed)
    }

    /// Asks on a thread of its own, so that the deadline holds whatever the model does.
    fn ask<T: Send + 'static>(
        &mut self,
        question: impl FnOnce(&dyn HostModel) -> Result<T, ModelError> + Send + 'static,
        computed: impl FnOnce(&T) -> u32,
    ) -> Asked<T> {
        if let Some(key) = self.missing {
            self.was_refused = true;
            return Ok(Err(Refusal::NotGranted(format!("host_model: {key}"))));
        }
        let Some(model) = self.model.clone() else {
            return Ok(Err(Refusal::Failed("this host has no model".into())));
        };
        let ModelBudget { calls, tokens } = self.budget;
        if self.used.calls >= calls {
            return Ok(Err(Refusal::Budget(format!("model_calls: {calls} are allowed in a batch"))));
        }
        if self.used.tokens >= tokens {
            return Ok(Err(Refusal::Budget(format!("model_tokens: {tokens} are allowed in a batch"))));
        }
        self.used.calls += 1;
        let (sender, receiver) = mpsc::channel();
        let work = move || {
            // Nobody listens any more when the deadline has passed.
            let _ = sender.send(question(model.as_ref()));
        };
        let spawned = std::thread::Builder::new().name("selkie-host-model".into()).spawn(work);
        if let Err(error) = spawned {
            return Ok(Err(Refusal::Failed(format!("no thread for the model: {error}"))));
        }
        match receiver.recv_timeout(left(self.until)) {
            Ok(Ok(answer)) => {
                self.used.tokens = self.used.tokens.saturating_add(computed(&answer));
                Ok(Ok(answer))
            }
            Ok(Err(ModelError::UnsupportedText(reason))) => Ok(Err(Refusal::UnsupportedText(reason))),
            Ok(Err(ModelError::Failed(reason))) => Ok(Err(Refusal::Failed(reason))),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(DeadlinePassed.into()),
            // The model panicked; its thread is gone, and nothing else.
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(Err(Refusal::Failed("the model failed".into()))),
        }
    }
}
