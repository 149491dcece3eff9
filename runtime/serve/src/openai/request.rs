//! The fields that completions and chat have in common, and what they mean to the engine.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use selkie_edit::derive_seed;
use selkie_engine::live::{AdapterChoice, GenerateRequest, Prompt, Scope};
use selkie_learn::{Grammar, SamplingSettings};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::app::App;
use crate::terms::{SelfEditFields, check_stops};

/// Fields that have no bearing on the answer.
const IGNORED: [&str; 8] = [
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
];

/// What both endpoints take.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct CommonFields {
    /// The model's name (what is active answers), or an adapter's.
    model: Option<String>,
    /// The adapter that answers: `active`, `base`, a generation (`g3`), or a name that was loaded. Before `model`.
    adapter_generation: Option<String>,
    /// Requests with the same name share what is learned in the scope of a session.
    session: Option<String>,
    /// Whether and how the model may edit itself on the way; without this it may not.
    self_edit: Option<SelfEditFields>,
    /// New tokens at most; without it what the model has room for, within the server's limit.
    max_tokens: Option<usize>,
    /// Logits are divided by it; 0, the default here, takes the most probable token.
    temperature: Option<f64>,
    /// Draw from the smallest set of tokens that has this share of the probability.
    top_p: Option<f64>,
    /// Draw from so many of the most probable tokens.
    top_k: Option<usize>,
    /// Decides every draw; without it every request has another one.
    seed: Option<i64>,
    /// Answers to each prompt.
    #[schemars(range(min = 1))]
    n: Option<usize>,
    /// Texts that end the answer, and are no part of it: 16 at most, of 1024 bytes at most.
    stop: Option<Stop>,
    /// Whether the answer comes in pieces, as server-sent events.
    stream: Option<bool>,
    /// How.
    stream_options: Option<StreamOptions>,
    /// What the answer must obey. Such an answer has no self-edits in it.
    response_format: Option<ResponseFormat>,
    /// Whatever else was said. Fields that would change the answer are refused, unless they ask for nothing.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// One text, or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text, or a list of texts")]
pub(crate) enum Stop {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

/// How an answer is streamed.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct StreamOptions {
    /// Whether the last piece counts the tokens.
    include_usage: bool,
}

/// What an answer must obey.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ResponseFormat {
    /// Nothing.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that obeys a schema.
    JsonSchema {
        /// The schema, with a name.
        json_schema: NamedSchema,
    },
}

/// A schema with a name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub(crate) struct NamedSchema {
    /// The schema. It is enforced while the answer is generated, `strict` or not.
    schema: Value,
}

impl ResponseFormat {
    fn grammar(self) -> Option<Grammar> {
        match self {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some(Grammar::JsonSchema(json!({ "type": "object" }))),
            ResponseFormat::JsonSchema { json_schema } => Some(Grammar::JsonSchema(json_schema.schema)),
        }
    }
}

impl CommonFields {
    /// How the answer is streamed, if it is.
    pub(crate) fn stream(&self) -> Option<StreamOptions> {
        self.stream.unwrap_or(false).then(|| self.stream_options.unwrap_or_default())
    }

    /// A limit of tokens under a newer name, which goes before the older one.
    pub(crate) fn limit_tokens(&mut self, max: Option<usize>) {
        self.max_tokens = max.or(self.max_tokens);
    }

    /// The model's name as the answer says it.
    pub(crate) fn model(&self, app: &App) -> String {
        self.model.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| app.model().to_owned())
    }

    /// One request to generate for every prompt and choice, a prompt's choices together. Each is made when its turn
    /// comes, so that a large one is not there many times before the first is looked at.
    pub(crate) fn requests(
        self,
        app: &App,
        prompts: Vec<Prompt>,
    ) -> Result<impl Iterator<Item = GenerateRequest> + use<>, ApiError> {
        self.refuse_others()?;
        let (n, most) = (self.n.unwrap_or(1), app.options().limits.choices);
        if n == 0 || prompts.is_empty() || n.saturating_mul(prompts.len()) > most {
            let prompts = prompts.len();
            let message =
                format!("{n} answers to {prompts} prompts; there may be 1 to {most} answers in all");
            return Err(ApiError::field("n", message));
        }
        let seed = self.seed.map_or_else(|| app.fresh_seed(), |seed| seed as u64);
        let request = self.request(app)?;
        let choices = move |(at, prompt): (usize, Prompt)| {
            let request = request.clone();
            (0..n).map(move |choice| {
                let mut request = GenerateRequest { prompt: prompt.clone(), ..request.clone() };
                request.sampling.seed = match (at, choice) {
                    (0, 0) => seed,
                    _ => derive_seed(seed, &format!("choice/{at}/{choice}")),
                };
                request
            })
        };
        Ok(prompts.into_iter().enumerate().flat_map(choices))
    }

    /// The request without its prompt and seed.
    fn request(self, app: &App) -> Result<GenerateRequest, ApiError> {
        let named = self.adapter_generation.or(self.model);
        let stop = match self.stop {
            None => Vec::new(),
            Some(Stop::One(text)) => vec![text],
            Some(Stop::Several(texts)) => texts,
        };
        let self_edit = self.self_edit.map(SelfEditFields::terms).transpose()?.unwrap_or_default();
        if self_edit.scope == Scope::Session && self.session.is_none() {
            let message = "`self_edit.scope` is `session` and no `session` is named: nobody could reach what is learned";
            return Err(ApiError::field("session", message));
        }
        check_stops(&stop).map_err(|message| ApiError::field("stop", message))?;
        Ok(GenerateRequest {
            prompt: Prompt::Text(String::new()),
            adapter: named.map_or(AdapterChoice::Active, |name| adapter(app, name)),
            session: self.session,
            sampling: SamplingSettings {
                temperature: self.temperature.unwrap_or(0.0),
                top_k: self.top_k,
                top_p: self.top_p.unwrap_or(1.0),
                seed: 0,
            },
            max_tokens: self.max_tokens,
            stop,
            grammar: self.response_format.and_then(ResponseFormat::grammar),
            self_edit,
        })
    }

    fn refuse_others(&self) -> Result<(), ApiError> {
        let asks =
            |(name, value): &(&String, &Value)| !IGNORED.contains(&name.as_str()) && !is_idle(name, value);
        match self.others.iter().find(asks) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!(
                    "`{name}` is not supported here, and the answer would not be what it asks for; leave it out"
                );
                Err(ApiError::field(name, message).code("unsupported_parameter"))
            }
        }
    }
}

/// Whether a field that we do not have asks for nothing.
fn is_idle(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(if name == "best_of" { 1.0 } else { 0.0 }),
        Value::String(text) => text.is_empty() || (name == "tool_choice" && text != "required"),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(true) => false,
    }
}

fn adapter(app: &App, name: String) -> AdapterChoice {
    match name.as_str() {
        "" | "active" => AdapterChoice::Active,
        "base" => AdapterChoice::Base,
        model if model == app.model() => AdapterChoice::Active,
        _ => AdapterChoice::Named(name),
    }
}

impl StreamOptions {
    pub(crate) fn include_usage(self) -> bool {
        self.include_usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> CommonFields {
        serde_json::from_str(json).expect("fields")
    }

    #[test]
    fn fields_that_would_change_the_answer_are_refused_unless_they_ask_for_nothing() {
        for accepted in [
            r#"{"user": "me", "store": true, "metadata": {"a": "b"}}"#,
            r#"{"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "tools": [], "echo": false}"#,
            r#"{"tool_choice": "auto", "suffix": null, "best_of": 1, "functions": null}"#,
        ] {
            fields(accepted).refuse_others().expect(accepted);
        }
        for (refused, param) in [
            (r#"{"frequency_penalty": 0.5}"#, "frequency_penalty"),
            (r#"{"logit_bias": {"50256": -100}}"#, "logit_bias"),
            (r#"{"tools": [{"type": "function"}]}"#, "tools"),
            (r#"{"tool_choice": "required"}"#, "tool_choice"),
            (r#"{"best_of": 2}"#, "best_of"),
            (r#"{"echo": true}"#, "echo"),
            (r#"{"self_edits": {"permission": "allow"}}"#, "self_edits"),
        ] {
            let error = fields(refused).refuse_others().expect_err(refused);
            assert_eq!(error.body().error.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn a_response_format_is_a_grammar() {
        let grammar = |json: &str| fields(json).response_format.and_then(ResponseFormat::grammar);
        assert_eq!(grammar("{}"), None);
        assert_eq!(grammar(r#"{"response_format": {"type": "text"}}"#), None);
        let object = Some(Grammar::JsonSchema(json!({ "type": "object" })));
        assert_eq!(grammar(r#"{"response_format": {"type": "json_object"}}"#), object);
        let schema = Some(Grammar::JsonSchema(json!({ "type": "integer" })));
        let named = r#"{"response_format": {"type": "json_schema",
                        "json_schema": {"name": "age", "strict": true, "schema": {"type": "integer"}}}}"#;
        assert_eq!(grammar(named), schema);
    }
}
