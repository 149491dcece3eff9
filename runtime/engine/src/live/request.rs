//! What a live runtime is asked: to generate, and to edit.

use std::time::Duration;

use selkie_edit::Context;
use selkie_learn::{Grammar, SamplingSettings};

use super::trace::{Kv, Scope, Trigger};

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// What is continued.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Any text.
    Text(String),
    /// A conversation, rendered by the model's own template; pup, which has none, is asked the last message (a question,
    /// or a puzzle in JSON) as it was trained to be asked.
    Chat(Vec<Message>),
    /// A test of a puzzle or a question of a passage, without its answer: its place among the context's.
    Item(Context, usize),
}

/// Which adapter a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdapterChoice {
    /// What is active for everybody, or for the request's session where that has one of its own.
    #[default]
    Active,
    /// The base model alone.
    Base,
    /// A generation (`g3`) or a loaded adapter by its name.
    Named(String),
}

/// A request to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// What is continued.
    pub prompt: Prompt,
    /// Which adapter answers.
    pub adapter: AdapterChoice,
    /// Requests with the same name share what is learned in the scope of a session.
    pub session: Option<String>,
    /// How tokens are chosen.
    pub sampling: SamplingSettings,
    /// New tokens at most; none is what the model has room for, within the runtime's limit.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer, and are no part of it.
    pub stop: Vec<String>,
    /// What the answer must obey. A request with a grammar does not edit itself.
    pub grammar: Option<Grammar>,
    /// Whether and how the model may edit itself on the way.
    pub self_edit: SelfEditTerms,
}

/// Whether self-edits may run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// They run.
    Allow,
    /// Somebody is asked about each.
    Ask,
    /// They are refused.
    #[default]
    Deny,
}

/// What self-edits of one request (or one call) may use, all together. An operator's budget and a client's are both
/// kept: the smaller number holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// Self-edits that may be trained.
    pub edits: u32,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens that training processes, over all epochs.
    pub tokens: u64,
    /// Wall-clock seconds of training and measuring.
    pub seconds: f64,
}

impl Default for Budget {
    /// Two edits within the validator's limit of steps, a million tokens, and ten minutes.
    fn default() -> Budget {
        Budget { edits: 2, steps: 750, tokens: 1_000_000, seconds: 600.0 }
    }
}

impl Budget {
    /// The smaller number of each.
    pub fn narrowed(self, other: Budget) -> Budget {
        Budget {
            edits: self.edits.min(other.edits),
            steps: self.steps.min(other.steps),
            tokens: self.tokens.min(other.tokens),
            seconds: self.seconds.min(other.seconds),
        }
    }
}

/// What from outside of the model asks for a self-edit while it generates.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Triggers {
    /// The mean log-probability (nats) of so many tokens in a row is below this.
    pub low_confidence: Option<(usize, f32)>,
    /// The model is asked what its context shows (a puzzle's last demonstration); it answers otherwise.
    pub failed_grader: bool,
    /// The prompt came with a context that this adapter was not trained on.
    pub document: bool,
}

/// Whether and how a model may edit itself while it answers a request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SelfEditTerms {
    /// Whether self-edits may run. An operator's `Deny` holds over a request's `Allow`.
    pub permission: Permission,
    /// What they may use.
    pub budget: Budget,
    /// For whom what is learned is active.
    pub scope: Scope,
    /// How long a session's adapter lives after its last use, within the runtime's setting; none is that.
    pub time_to_live: Option<Duration>,
    /// What becomes of keys and values.
    pub kv: Kv,
    /// What else than the model's own marker asks for an edit.
    pub triggers: Triggers,
    /// What is adapted to. Without one it is read from the prompt: the newest message that holds a puzzle or a passage,
    /// else all that was said as one passage.
    pub context: Option<Context>,
}

/// Where a self-edit comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditText {
    /// The model writes it.
    Model,
    /// This text.
    Given(String),
}

/// A request to edit, from outside of generation.
#[derive(Debug, Clone, PartialEq)]
pub struct EditRequest {
    /// What is adapted to.
    pub context: Context,
    /// The edit.
    pub edit: EditText,
    /// Decides everything random.
    pub seed: u64,
    /// What it may use.
    pub budget: Budget,
    /// For whom what is learned is active.
    pub scope: Scope,
    /// The session, for that scope.
    pub session: Option<String>,
    /// As in [`SelfEditTerms`].
    pub time_to_live: Option<Duration>,
    /// Whether it runs at once or waits for [`super::Live::approve`].
    pub permission: Permission,
    /// What asked for it.
    pub trigger: Trigger,
    /// Whether to start from the base model instead of what is active.
    pub fresh: bool,
}

impl GenerateRequest {
    /// The most likely answer by what is active, without self-edits on the way.
    pub fn new(prompt: Prompt) -> GenerateRequest {
        GenerateRequest {
            prompt,
            adapter: AdapterChoice::Active,
            session: None,
            sampling: SamplingSettings::GREEDY,
            max_tokens: None,
            stop: Vec::new(),
            grammar: None,
            self_edit: SelfEditTerms::default(),
        }
    }
}

impl EditRequest {
    /// An edit that runs at once and is for everybody, on top of what is active.
    pub fn new(context: Context, edit: EditText) -> EditRequest {
        EditRequest {
            context,
            edit,
            seed: 0,
            budget: Budget::default(),
            scope: Scope::Global,
            session: None,
            time_to_live: None,
            permission: Permission::Allow,
            trigger: Trigger::Call,
            fresh: false,
        }
    }
}
