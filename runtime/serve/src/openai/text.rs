//! `/v1/completions`.

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use selkie_engine::live::Prompt;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, FinishReason, ToldToken};
use super::job::{Asked, Collected, Words, respond};
use super::request::CommonFields;
use crate::api_error::{ApiError, Body};
use crate::app::App;

/// Text to be continued.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct TextRequest {
    /// The text, or several.
    prompt: TextPrompt,
    /// 0 tells each token's log-probability; other tokens' are not known here.
    #[serde(default)]
    #[schemars(range(max = 0))]
    logprobs: Option<u32>,
    #[serde(flatten)]
    common: CommonFields,
}

/// One text, or several. Token ids are not taken.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text, or a list of texts (token ids are not taken)")]
pub(crate) enum TextPrompt {
    /// One.
    One(String),
    /// Several, each with answers of its own.
    Several(Vec<String>),
}

/// Continued text, or a piece of it.
pub(crate) type TextAnswer = Answer<TextChoice>;

/// One answer, or a piece of one.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TextChoice {
    /// Which, from 0; the choices of the first prompt come first.
    index: usize,
    /// The text, or what is added to it.
    text: String,
    /// Of each token, if that was asked for.
    logprobs: Option<TextLogProbs>,
    /// Why it ended; null before the last piece.
    finish_reason: Option<FinishReason>,
}

/// Log-probabilities.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct TextLogProbs {
    /// Each token's text.
    tokens: Vec<String>,
    /// In nats, before temperature and grammar; 0 where a grammar left no choice.
    token_logprobs: Vec<f32>,
    /// Null: other tokens' are not known.
    top_logprobs: Option<Vec<f32>>,
}

/// How text is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextWords {
    log_probs: bool,
}

impl TextWords {
    fn log_probs(self, tokens: impl IntoIterator<Item = ToldToken>) -> Option<TextLogProbs> {
        self.log_probs.then(|| {
            let mut told = TextLogProbs::default();
            for token in tokens {
                told.token_logprobs.push(token.log_prob());
                told.tokens.push(token.text);
            }
            told
        })
    }
}

impl Words for TextWords {
    type Choice = TextChoice;
    type Delta = TextChoice;
    const ID: &'static str = "cmpl";
    const ANSWER: &'static str = "text_completion";
    const PIECE: &'static str = "text_completion";

    fn choice(&self, index: usize, choice: Collected, reason: FinishReason) -> TextChoice {
        let logprobs = self.log_probs(choice.tokens);
        TextChoice { index, text: choice.end.text, logprobs, finish_reason: Some(reason) }
    }

    fn first(&self, _index: usize) -> Option<TextChoice> {
        None
    }

    fn delta(&self, index: usize, text: String, token: Option<ToldToken>) -> TextChoice {
        let logprobs = token.and_then(|token| self.log_probs([token]));
        TextChoice { index, text, logprobs, finish_reason: None }
    }

    fn last(&self, index: usize, reason: FinishReason) -> TextChoice {
        TextChoice { index, text: String::new(), logprobs: None, finish_reason: Some(reason) }
    }

    fn tells_tokens(&self) -> bool {
        self.log_probs
    }
}

impl Asked for TextRequest {
    type Words = TextWords;

    fn split(self) -> Result<(Vec<Prompt>, TextWords, CommonFields), ApiError> {
        let TextRequest { prompt, logprobs, common } = self;
        if logprobs.is_some_and(|tokens| tokens > 0) {
            let message = "only the log-probability of the token that was chosen is known; say `logprobs` 0";
            return Err(ApiError::field("logprobs", message));
        }
        let prompts = match prompt {
            TextPrompt::One(text) => vec![text],
            TextPrompt::Several(texts) => texts,
        };
        let words = TextWords { log_probs: logprobs.is_some() };
        Ok((prompts.into_iter().map(Prompt::Text).collect(), words, common))
    }
}

/// `POST /v1/completions`.
pub(crate) async fn completions(
    State(app): State<App>,
    Body(request): Body<TextRequest>,
) -> Result<Response, ApiError> {
    respond(app, request).await
}
