//! What comes back of a request to generate: pieces, one after the other, until the end.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc::UnboundedReceiver;

use super::LiveError;
use super::trace::TraceEvent;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Text, with the tokens that it came of.
    Text {
        /// The text; may be empty while a character or a stop text is incomplete.
        text: String,
        /// The token's id.
        token: u32,
        /// The model's log-probability of it (nats); none where a grammar forced it.
        log_prob: Option<f32>,
    },
    /// Something happened to a self-edit of this request.
    Event(TraceEvent),
    /// The end; nothing follows.
    End(End),
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens that were generated.
    pub tokens: usize,
    /// The adapter at the end: `base`, `g3`, or a loaded adapter's name.
    pub adapter: String,
    /// The whole answer. For an item of a puzzle this is the grid as JSON rows where it is one.
    pub text: String,
    /// Text that was still held back when the end came, and is in no piece.
    pub rest: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The model ended it, or a stop text came, or a grammar was complete.
    Stop,
    /// The limit of tokens was reached.
    Length,
    /// Somebody cancelled it, or the runtime stopped.
    Cancelled,
    /// It failed, for this reason.
    Failed(String),
}

/// A running answer. Dropping it cancels the request.
#[derive(Debug)]
pub struct Reply {
    pub(super) request: String,
    pub(super) pieces: UnboundedReceiver<Piece>,
}

impl Reply {
    /// The request's id, as it stands in the trace.
    pub fn request(&self) -> &str {
        &self.request
    }

    /// The next piece; none after the end. Waits without blocking a thread, in any async runtime.
    pub async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }

    /// The next piece, for programs that are not async. Must not be called inside of an async runtime.
    pub fn next_blocking(&mut self) -> Option<Piece> {
        self.pieces.blocking_recv()
    }

    /// The end of the answer, all pieces passed over.
    ///
    /// # Errors
    /// [`LiveError::Closed`] when the runtime stopped before.
    pub async fn end(mut self) -> Result<End, LiveError> {
        while let Some(piece) = self.next().await {
            if let Piece::End(end) = piece {
                return Ok(end);
            }
        }
        Err(LiveError::Closed)
    }

    /// The same for programs that are not async.
    ///
    /// # Errors
    /// As [`Reply::end`].
    pub fn end_blocking(mut self) -> Result<End, LiveError> {
        while let Some(piece) = self.next_blocking() {
            if let Piece::End(end) = piece {
                return Ok(end);
            }
        }
        Err(LiveError::Closed)
    }
}

impl futures_core::Stream for Reply {
    type Item = Piece;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.pieces.poll_recv(context)
    }
}
