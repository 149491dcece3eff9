//! Answers that come in pieces: server-sent events, and lines of JSON.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

/// Pieces that may wait for a client before their maker does.
const WAITING_PIECES: usize = 64;

/// What the last event of a stream says, as OpenAI's does.
const DONE: &str = "[DONE]";

/// How pieces are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `text/event-stream`.
    Events,
    /// `application/x-ndjson`.
    Lines,
}

/// Where the maker of an answer puts its pieces.
#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    sender: mpsc::Sender<Written>,
}

/// One piece: its number, if it has one, and its text.
type Written = (Option<u64>, String);

impl Pieces {
    /// Sends a piece; false when nobody listens any more.
    pub(crate) async fn send(&self, piece: &impl Serialize) -> bool {
        self.write(None, piece).await
    }

    /// Sends a piece with a number, from which a client may go on later.
    pub(crate) async fn send_numbered(&self, number: u64, piece: &impl Serialize) -> bool {
        self.write(Some(number), piece).await
    }

    async fn write(&self, number: Option<u64>, piece: &impl Serialize) -> bool {
        let Ok(text) = serde_json::to_string(piece) else { return false };
        self.sender.send((number, text)).await.is_ok()
    }

    /// Says that the answer is whole.
    pub(crate) async fn done(&self) {
        let _ = self.sender.send((None, DONE.to_owned())).await;
    }

    /// Waits until nobody listens.
    pub(crate) async fn closed(&self) {
        self.sender.closed().await;
    }
}

/// An answer whose pieces a task makes. When the client goes away, the next piece cannot be sent.
pub(crate) fn answer<F>(form: Form, make: impl FnOnce(Pieces) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(WAITING_PIECES);
    tokio::spawn(make(Pieces { sender }));
    match form {
        Form::Events => {
            let events = Mapped { receiver, map: event };
            let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
            // For proxies that would collect the events first.
            response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
        Form::Lines => {
            let lines = Mapped { receiver, map: line };
            let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
            (kind, Body::from_stream(lines)).into_response()
        }
    }
}

fn event((number, text): Written) -> Option<Event> {
    let event = Event::default().data(text);
    Some(match number {
        Some(number) => event.id(number.to_string()),
        None => event,
    })
}

/// Lines end with the connection; there is no line that says so.
fn line((_, text): Written) -> Option<String> {
    (text != DONE).then(|| text + "\n")
}

/// The pieces of a channel, written.
struct Mapped<T> {
    receiver: mpsc::Receiver<Written>,
    map: fn(Written) -> Option<T>,
}

impl<T> Stream for Mapped<T> {
    type Item = Result<T, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = std::task::ready!(self.receiver.poll_recv(context));
        Poll::Ready(piece.and_then(self.map).map(Ok))
    }
}
