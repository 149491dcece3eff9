//! An answer under way: replies of the engine, collected or told as they come, in the words of one of the endpoints.

use std::time::{Duration, Instant};

use axum::Json;
use axum::response::{IntoResponse, Response};
use selkie_engine::live::{End, Happened, Piece, Prompt, Reply, TraceEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::answer::{Answer, FinishReason, ToldToken, Usage};
use super::request::{CommonFields, StreamOptions};
use crate::api_error::ApiError;
use crate::app::App;
use crate::sse::{Form, Pieces, answer};

/// What comes of it within the limit. A machine that is late in looking does not make the limit longer.
async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, ApiError> {
    let began = Instant::now();
    match tokio::time::timeout(limit, work).await {
        Ok(done) if began.elapsed() <= limit => Ok(done),
        _ => Err(ApiError::timed_out(limit.as_secs())),
    }
}

/// The words of an endpoint.
pub(crate) trait Words: Clone + Send + Sync + 'static {
    /// A whole choice.
    type Choice: Serialize + Send;
    /// A piece of one.
    type Delta: Serialize + Send + Sync;
    /// Before the request's number, as the answer's id.
    const ID: &'static str;
    /// `object` of an answer.
    const ANSWER: &'static str;
    /// `object` of a piece.
    const PIECE: &'static str;

    /// A choice that has ended.
    fn choice(&self, index: usize, choice: Collected, reason: FinishReason) -> Self::Choice;
    /// The first piece of a choice, if it has one of its own.
    fn first(&self, index: usize) -> Option<Self::Delta>;
    /// A piece of text with the token that brought it.
    fn delta(&self, index: usize, text: String, token: Option<ToldToken>) -> Self::Delta;
    /// The last piece of a choice.
    fn last(&self, index: usize, reason: FinishReason) -> Self::Delta;
    /// Whether pieces without text are told too, because their tokens are asked for.
    fn tells_tokens(&self) -> bool;
}

/// A whole reply.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) tokens: Vec<ToldToken>,
    pub(crate) events: Vec<TraceEvent>,
    pub(crate) end: End,
}

/// What an endpoint is asked: the fields of both, and those of its own.
pub(crate) trait Asked: DeserializeOwned + Send + 'static {
    type Words: Words;
    /// The prompts, how they are answered, and everything else.
    fn split(self) -> Result<(Vec<Prompt>, Self::Words, CommonFields), ApiError>;
}

/// Answers a request of either endpoint.
pub(crate) async fn respond<A: Asked>(app: App, asked: A) -> Result<Response, ApiError> {
    let job = app.blocking(move |app| Job::start(app, asked)).await?;
    match job.stream {
        Some(options) => Ok(job.stream_all(options)),
        None => job.collect_all().await,
    }
}

/// Replies under way.
struct Job<W: Words> {
    app: App,
    words: W,
    replies: Vec<Reply>,
    choices_a_prompt: usize,
    stream: Option<StreamOptions>,
    frame: Frame,
}

/// What every piece of an answer says.
#[derive(Debug, Clone)]
struct Frame {
    id: String,
    created: i64,
    model: String,
}

impl Frame {
    fn answer<C>(&self, object: &'static str, choices: Vec<C>) -> Answer<C> {
        Answer {
            id: self.id.clone(),
            object,
            created: self.created,
            model: self.model.clone(),
            choices,
            usage: None,
            adapter_generation: None,
            selkie_events: Vec::new(),
            selkie_event: None,
        }
    }
}

impl<W: Words> Job<W> {
    /// Begins all replies, or none: those that have begun are cancelled when one is refused.
    fn start<A: Asked<Words = W>>(app: &App, asked: A) -> Result<Job<W>, ApiError> {
        let (prompts, words, fields) = asked.split()?;
        let (stream, model, count) = (fields.stream(), fields.model(app), prompts.len());
        let requests = fields.requests(app, prompts)?;
        let replies: Result<Vec<Reply>, _> = requests.map(|request| app.live().generate(request)).collect();
        let replies = replies?;
        let choices_a_prompt = replies.len() / count.max(1);
        let request = replies.first().map_or_else(String::new, |reply| reply.request().to_owned());
        let frame = Frame { id: format!("{}-{request}", W::ID), created: app.now(), model };
        Ok(Job { app: app.clone(), words, replies, choices_a_prompt, stream, frame })
    }

    async fn collect_all(self) -> Result<Response, ApiError> {
        let limit = self.app.options().limits.request;
        let Job { words, replies, choices_a_prompt, frame, .. } = self;
        let collected = within(limit, async {
            let mut collected = Vec::with_capacity(replies.len());
            for reply in replies {
                collected.push(collect(reply).await?);
            }
            Ok::<_, ApiError>(collected)
        });
        let collected = collected.await??;
        let usage = Usage::of(collected.iter().map(|choice| &choice.end), choices_a_prompt);
        let adapter = collected.first().map(|choice| choice.end.adapter.clone());
        let (mut choices, mut events) = (Vec::new(), Vec::new());
        for (index, mut choice) in collected.into_iter().enumerate() {
            let reason = FinishReason::of(&choice.end)?;
            events.append(&mut choice.events);
            choices.push(words.choice(index, choice, reason));
        }
        let answer = frame.answer(W::ANSWER, choices);
        let answer =
            Answer { usage: Some(usage), adapter_generation: adapter, selkie_events: events, ..answer };
        Ok(Json(answer).into_response())
    }

    fn stream_all(self, options: StreamOptions) -> Response {
        let limit = self.app.options().limits.request;
        answer(Form::Events, async move |pieces: Pieces| {
            let told = within(limit, self.tell_all(&pieces, options)).await;
            if let Err(error) = told.flatten() {
                pieces.send(&error.body()).await;
            }
            pieces.done().await;
        })
    }

    async fn tell_all(self, pieces: &Pieces, options: StreamOptions) -> Result<(), ApiError> {
        let mut tellers = JoinSet::new();
        for (index, reply) in self.replies.into_iter().enumerate() {
            let teller = Teller {
                index,
                words: self.words.clone(),
                frame: self.frame.clone(),
                pieces: pieces.clone(),
            };
            tellers.spawn(async move { (index, teller.tell(reply).await) });
        }
        let mut ends = Vec::new();
        while let Some(told) = tellers.join_next().await {
            let (index, end) = told.map_err(|_| ApiError::internal("the answer was dropped"))?;
            // Without an end nobody listens any more.
            let Some(end) = end? else { return Ok(()) };
            ends.push((index, end));
        }
        if options.include_usage() {
            ends.sort_by_key(|(index, _)| *index);
            let usage = Usage::of(ends.iter().map(|(_, end)| end), self.choices_a_prompt);
            let last = self.frame.answer::<W::Delta>(W::PIECE, Vec::new());
            pieces.send(&Answer { usage: Some(usage), ..last }).await;
        }
        Ok(())
    }
}

async fn collect(mut reply: Reply) -> Result<Collected, ApiError> {
    let (mut tokens, mut events) = (Vec::new(), Vec::new());
    while let Some(piece) = reply.next().await {
        match piece {
            Piece::Text { text, log_prob, .. } => tokens.push(ToldToken { text, log_prob }),
            Piece::Event(event) => events.push(event),
            Piece::End(end) => return Ok(Collected { tokens, events, end }),
        }
    }
    Err(ApiError::stopping())
}

/// Tells one choice as it comes.
struct Teller<W: Words> {
    index: usize,
    words: W,
    frame: Frame,
    pieces: Pieces,
}

impl<W: Words> Teller<W> {
    /// Tells it to its end; nothing when nobody listens any more.
    async fn tell(self, mut reply: Reply) -> Result<Option<End>, ApiError> {
        if let Some(first) = self.words.first(self.index) {
            self.send(first, None, None).await;
        }
        loop {
            let piece = tokio::select! {
                piece = reply.next() => piece,
                // Dropping the reply cancels it.
                () = self.pieces.closed() => return Ok(None),
            };
            match piece {
                None => return Err(ApiError::stopping()),
                Some(Piece::Text { text, log_prob, .. }) => self.text(text, log_prob).await,
                Some(Piece::Event(event)) => self.event(event).await,
                Some(Piece::End(end)) => return self.end(end).await.map(Some),
            }
        }
    }

    async fn text(&self, text: String, log_prob: Option<f32>) {
        if !text.is_empty() || self.words.tells_tokens() {
            let token = ToldToken { text: text.clone(), log_prob };
            self.send(self.words.delta(self.index, text, Some(token)), None, None).await;
        }
    }

    async fn event(&self, event: TraceEvent) {
        let adapter = match &event.what {
            Happened::Resumed { adapter, .. } => Some(adapter.clone()),
            _ => None,
        };
        let nothing = self.words.delta(self.index, String::new(), None);
        self.send(nothing, adapter, Some(event)).await;
    }

    async fn end(&self, end: End) -> Result<End, ApiError> {
        let reason = FinishReason::of(&end)?;
        if !end.rest.is_empty() {
            self.send(self.words.delta(self.index, end.rest.clone(), None), None, None).await;
        }
        self.send(self.words.last(self.index, reason), Some(end.adapter.clone()), None).await;
        Ok(end)
    }

    async fn send(&self, delta: W::Delta, adapter: Option<String>, event: Option<TraceEvent>) {
        let piece = self.frame.answer(W::PIECE, vec![delta]);
        let piece = Answer { adapter_generation: adapter, selkie_event: event, ..piece };
        self.pieces.send(&piece).await;
    }
}
