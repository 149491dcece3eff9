//! `/v1/chat/completions`.

use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
use selkie_engine::live::{Message, Prompt};
use serde::{Deserialize, Serialize};

use super::answer::{Answer, FinishReason, ToldToken};
use super::job::{Asked, Collected, Words, respond};
use super::request::CommonFields;
use crate::api_error::{ApiError, Body};
use crate::app::App;

/// A conversation to be continued.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct ChatRequest {
    /// What was said. A model with a chat template reads all of it; pup, which has none, is asked the last message (a
    /// question, or a puzzle in ARC's JSON).
    messages: Vec<ChatMessage>,
    /// As `max_tokens`, and before it.
    #[serde(default)]
    max_completion_tokens: Option<usize>,
    /// Whether each token's log-probability is told.
    #[serde(default)]
    logprobs: Option<bool>,
    /// Other tokens' log-probabilities are not known here: only 0.
    #[serde(default)]
    #[schemars(range(max = 0))]
    top_logprobs: Option<u32>,
    #[serde(flatten)]
    common: CommonFields,
}

/// A message.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct ChatMessage {
    /// Who said it.
    role: Role,
    /// What.
    #[serde(default)]
    content: Content,
}

/// Who says something.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Whoever set up the conversation.
    #[serde(alias = "developer")]
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// Text, or parts of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text, or a list of parts of the type `text`")]
pub(crate) enum Content {
    /// One text.
    Text(String),
    /// Several, which are joined.
    Parts(Vec<TextPart>),
    /// Nothing.
    #[default]
    Nothing,
}

/// A part of a message. Only text is understood.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct TextPart {
    /// `text`.
    #[serde(rename = "type")]
    _type: TextType,
    /// The text.
    text: String,
}

/// The one type of part that is understood.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum TextType {
    Text,
}

impl ChatMessage {
    fn message(self) -> Message {
        let role = match self.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        let content = match self.content {
            Content::Text(text) => text,
            Content::Parts(parts) => parts.into_iter().map(|part| part.text).collect(),
            Content::Nothing => String::new(),
        };
        Message { role: role.to_owned(), content }
    }
}

/// A conversation's answer.
pub(crate) type ChatAnswer = Answer<ChatChoice>;

/// A piece of a conversation's answer.
pub(crate) type ChatChunk = Answer<ChatDelta>;

/// One answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatChoice {
    /// Which, from 0.
    index: usize,
    /// What the model says.
    message: AnswerMessage,
    /// Of each token, if that was asked for.
    logprobs: Option<ChatLogProbs>,
    /// Why it ended.
    finish_reason: FinishReason,
}

/// What the model says.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AnswerMessage {
    /// `assistant`.
    role: &'static str,
    /// The text.
    content: String,
}

/// A piece of one answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatDelta {
    /// Which, from 0.
    index: usize,
    /// What is added.
    delta: Delta,
    /// Of the token that brought it, if that was asked for.
    logprobs: Option<ChatLogProbs>,
    /// Why it ended; null before the last piece.
    finish_reason: Option<FinishReason>,
}

/// What a piece adds.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Delta {
    /// `assistant`, in the first piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Text.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// Log-probabilities.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChatLogProbs {
    /// One entry a token.
    content: Vec<TokenLogProb>,
}

/// A token's log-probability.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TokenLogProb {
    /// Its text; a character that needs several tokens comes with the last of them.
    token: String,
    /// In nats, before temperature and grammar; 0 where a grammar left no choice.
    logprob: f32,
    /// The text's bytes.
    bytes: Vec<u8>,
    /// Empty: other tokens' are not known.
    top_logprobs: Vec<f32>,
}

impl From<ToldToken> for TokenLogProb {
    fn from(token: ToldToken) -> TokenLogProb {
        let logprob = token.log_prob();
        let bytes = token.text.clone().into_bytes();
        TokenLogProb { token: token.text, logprob, bytes, top_logprobs: Vec::new() }
    }
}

/// How a conversation is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChatWords {
    log_probs: bool,
}

impl ChatWords {
    fn log_probs(self, tokens: impl IntoIterator<Item = ToldToken>) -> Option<ChatLogProbs> {
        self.log_probs.then(|| ChatLogProbs { content: tokens.into_iter().map(TokenLogProb::from).collect() })
    }
}

impl Words for ChatWords {
    type Choice = ChatChoice;
    type Delta = ChatDelta;
    const ID: &'static str = "chatcmpl";
    const ANSWER: &'static str = "chat.completion";
    const PIECE: &'static str = "chat.completion.chunk";

    fn choice(&self, index: usize, choice: Collected, reason: FinishReason) -> ChatChoice {
        let message = AnswerMessage { role: "assistant", content: choice.end.text };
        ChatChoice { index, message, logprobs: self.log_probs(choice.tokens), finish_reason: reason }
    }

    fn first(&self, index: usize) -> Option<ChatDelta> {
        let delta = Delta { role: Some("assistant"), content: Some(String::new()) };
        Some(ChatDelta { index, delta, logprobs: None, finish_reason: None })
    }

    fn delta(&self, index: usize, text: String, token: Option<ToldToken>) -> ChatDelta {
        let delta = Delta { role: None, content: (!text.is_empty()).then_some(text) };
        let logprobs = token.and_then(|token| self.log_probs([token]));
        ChatDelta { index, delta, logprobs, finish_reason: None }
    }

    fn last(&self, index: usize, reason: FinishReason) -> ChatDelta {
        ChatDelta { index, delta: Delta::default(), logprobs: None, finish_reason: Some(reason) }
    }

    fn tells_tokens(&self) -> bool {
        self.log_probs
    }
}

impl Asked for ChatRequest {
    type Words = ChatWords;

    fn split(self) -> Result<(Vec<Prompt>, ChatWords, CommonFields), ApiError> {
        let ChatRequest { messages, max_completion_tokens, logprobs, top_logprobs, mut common } = self;
        if messages.is_empty() {
            return Err(ApiError::field("messages", "`messages` is empty; there must be at least one"));
        }
        if top_logprobs.is_some_and(|tokens| tokens > 0) {
            let message =
                "only the log-probability of the token that was chosen is known; leave `top_logprobs` out";
            return Err(ApiError::field("top_logprobs", message));
        }
        common.limit_tokens(max_completion_tokens);
        let messages = messages.into_iter().map(ChatMessage::message).collect();
        let words = ChatWords { log_probs: logprobs.unwrap_or(false) };
        Ok((vec![Prompt::Chat(messages)], words, common))
    }
}

/// `POST /v1/chat/completions`.
pub(crate) async fn chat(
    State(app): State<App>,
    Body(request): Body<ChatRequest>,
) -> Result<Response, ApiError> {
    respond(app, request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(json: &str) -> Result<Vec<Message>, String> {
        let request: ChatRequest = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let (prompts, ..) = request.split().map_err(|error| error.body().error.message)?;
        match prompts.into_iter().next() {
            Some(Prompt::Chat(messages)) => Ok(messages),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_are_text_whatever_their_form() {
        let read = messages(
            r#"{"messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "you."}]},
                {"role": "assistant", "content": null, "refusal": null},
                {"role": "user", "content": "Who?", "name": "me"}]}"#,
        );
        let read = read.expect("messages");
        let read: Vec<(&str, &str)> =
            read.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
        assert_eq!(
            read,
            [("system", "Be brief."), ("user", "Hello, you."), ("assistant", ""), ("user", "Who?")]
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (json, complaint) in [
            (r#"{"messages": []}"#, "at least one"),
            (r#"{"messages": [{"role": "tool", "content": "x"}]}"#, "unknown variant `tool`"),
            (r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#, "of the type `text`"),
            (r#"{"messages": [{"role": "user", "content": 3}]}"#, "a text, or a list"),
            (
                r#"{"messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}"#,
                "only the log-probability",
            ),
            (r#"{"prompt": "x"}"#, "missing field `messages`"),
        ] {
            let error = messages(json).expect_err(json);
            assert!(error.contains(complaint), "{json}: {error}");
        }
    }
}
