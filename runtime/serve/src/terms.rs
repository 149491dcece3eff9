//! What clients say about self-edits, and what it means to the engine.

use std::time::Duration;

use schemars::JsonSchema;
use selkie_edit::Context;
use selkie_engine::live::{Budget, Kv, Live, LiveError, Permission, Scope, SelfEditTerms, Triggers};
use serde::Deserialize;
use serde_json::Value;

use crate::api_error::ApiError;

/// Whether and how the model may edit itself while it answers. Without this field it may not.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SelfEditFields {
    /// Whether edits run. The stricter of this and the operator's word holds.
    permission: Option<Permission>,
    /// For whom what is learned is active; everybody by default.
    scope: Option<Scope>,
    /// What becomes of keys and values; all are recomputed by default.
    kv: Option<Kv>,
    /// What edits may use. The smaller of each and the operator's number holds.
    budget: BudgetFields,
    /// What else than the model's own word asks for an edit.
    triggers: TriggerFields,
    /// How long a session's adapter lives after its last use.
    time_to_live_seconds: Option<f64>,
    /// What is adapted to: a puzzle or a passage. Without it it is read from the prompt.
    #[schemars(with = "Option<serde_json::Map<String, Value>>")]
    context: Option<Value>,
}

/// What self-edits may use, all together; what is not said is the operator's.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BudgetFields {
    /// Self-edits that may be trained.
    edits: Option<u32>,
    /// Optimiser steps.
    steps: Option<u64>,
    /// Tokens that training processes, over all epochs.
    tokens: Option<u64>,
    /// Wall-clock seconds of training and measuring.
    seconds: Option<f64>,
}

/// What from outside of the model asks for a self-edit.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TriggerFields {
    /// A low mean log-probability of the last tokens.
    low_confidence: Option<LowConfidence>,
    /// The model does not give the answers that its context shows.
    failed_grader: bool,
    /// The prompt came with a context that this adapter was not trained on.
    document: bool,
}

/// What is a low confidence.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LowConfidence {
    /// So many tokens in a row.
    #[schemars(range(min = 1))]
    window: usize,
    /// Their mean log-probability, in nats, is below this.
    below: f32,
}

impl SelfEditFields {
    /// The engine's terms, which it narrows by the operator's.
    pub(crate) fn terms(self) -> Result<SelfEditTerms, ApiError> {
        Ok(SelfEditTerms {
            permission: self.permission.unwrap_or(Permission::Allow),
            budget: self.budget.budget()?,
            scope: self.scope.unwrap_or_default(),
            time_to_live: seconds("self_edit.time_to_live_seconds", self.time_to_live_seconds)?,
            kv: self.kv.unwrap_or_default(),
            triggers: self.triggers.triggers()?,
            context: self.context.as_ref().map(context).transpose()?,
        })
    }
}

impl BudgetFields {
    /// The engine narrows it by the operator's.
    pub(crate) fn budget(self) -> Result<Budget, ApiError> {
        let seconds = seconds("budget.seconds", self.seconds)?;
        Ok(Budget {
            edits: self.edits.unwrap_or(u32::MAX),
            steps: self.steps.unwrap_or(u64::MAX),
            tokens: self.tokens.unwrap_or(u64::MAX),
            seconds: seconds.map_or(f64::INFINITY, |seconds| seconds.as_secs_f64()),
        })
    }
}

impl TriggerFields {
    fn triggers(self) -> Result<Triggers, ApiError> {
        let confidence = self.low_confidence.map(|low| (low.window, low.below));
        if confidence.is_some_and(|(window, below)| window == 0 || !below.is_finite()) {
            let name = "self_edit.triggers.low_confidence";
            return Err(ApiError::field(name, "the window must be at least 1 token, and `below` a number"));
        }
        let TriggerFields { failed_grader, document, .. } = self;
        Ok(Triggers { low_confidence: confidence, failed_grader, document })
    }
}

/// Texts that may end an answer. OpenAI has 4; each costs a search after every token, on the thread of all streams.
const STOPS_MAX: usize = 16;

/// Bytes of each. So much of an answer may have to be held back.
const STOP_BYTES_MAX: usize = 1 << 10;

/// Whether so many texts of such lengths may end an answer, or what is wrong with them.
pub(crate) fn check_stops(stops: &[String]) -> Result<(), String> {
    if stops.len() > STOPS_MAX {
        return Err(format!("`stop` has {} texts; there may be {STOPS_MAX}", stops.len()));
    }
    match stops.iter().enumerate().find(|(_, stop)| stop.len() > STOP_BYTES_MAX) {
        None => Ok(()),
        Some((at, stop)) => {
            let bytes = stop.len();
            Err(format!("text {at} of `stop` has {bytes} bytes; it may have {STOP_BYTES_MAX}"))
        }
    }
}

/// Whether what is active may be moved: where nothing may be changed, an earlier generation is a change too.
pub(crate) fn may_roll_back(live: &Live) -> Result<(), LiveError> {
    match live.options().permission {
        Permission::Deny => Err(LiveError::Denied { by: "by the operator" }),
        Permission::Ask | Permission::Allow => Ok(()),
    }
}

/// The longest that anything may take, about thirty years.
const SECONDS_MAX: f64 = 1e9;

/// A length of time, if it is one.
pub(crate) fn seconds(name: &str, seconds: Option<f64>) -> Result<Option<Duration>, ApiError> {
    let duration = match seconds {
        Some(seconds) if seconds > SECONDS_MAX => None,
        seconds => seconds.map(Duration::try_from_secs_f64).transpose().ok(),
    };
    duration.ok_or_else(|| {
        ApiError::field(name, format!("`{name}` must be a number of seconds from 0 to {SECONDS_MAX}"))
    })
}

/// A puzzle or a passage.
pub(crate) fn context(value: &Value) -> Result<Context, ApiError> {
    Ok(Context::from_json(&value.to_string(), "puzzle")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_end_an_answer_are_few_and_short() {
        let of = |bytes: usize| "x".repeat(bytes);
        for (stops, complaint) in [
            (vec![of(1); 16], None),
            (vec![of(1); 17], Some("`stop` has 17 texts; there may be 16")),
            (vec![of(1), of(1024)], None),
            (vec![of(1), of(1025)], Some("text 1 of `stop` has 1025 bytes; it may have 1024")),
        ] {
            assert_eq!(check_stops(&stops).err().as_deref(), complaint);
        }
    }
}
