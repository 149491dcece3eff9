//! The tools over streamable HTTP: one request at a time, and without sessions.
//!
//! rmcp carries a call out beside the answer that it writes. It does not learn that the client has gone, knows no
//! limit of time, and its loop keeps the runtime until its answer was taken. So a request brings along what ends its
//! call, and the answer is taken to its end here, whether or not the client still wants it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use rmcp::model::Extensions;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use selkie_engine::live::Live;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{MESSAGE_BYTES_MAX, Server};

/// What ends a call before it is answered.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// Its client has gone.
    gone: CancellationToken,
    /// The most that it may take.
    limit: Duration,
}

impl Bounds {
    /// Those of the request that a call came with; a call on a pair of streams has none.
    pub(super) fn of(extensions: &Extensions) -> Option<Bounds> {
        extensions.get::<Parts>()?.extensions.get().cloned()
    }

    /// Waits for the first of them, and says which it was.
    pub(super) async fn reached(self) -> String {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => "the call was cancelled".to_owned(),
            () = tokio::time::sleep(self.limit) => format!(
                "the call did not end within {} s, the most a request may take here; \
                 a self-edit that it began goes on, and `log` says how it ended",
                self.limit.as_secs()
            ),
        }
    }
}

/// Streamable HTTP at `/mcp`, one request at a time and without sessions, to be merged into a server. `hosts` are the
/// names that a request's `Host` may have, such as `localhost`; none means any, for a server that asks for a token. A
/// call that is not answered within the limit ends, and so does one whose client goes away.
pub fn router(live: Live, hosts: &[String], limit: Duration) -> Router {
    let settings = StreamableHttpServerConfig::default().with_stateful_mode(false);
    let settings = match hosts {
        [] => settings.disable_allowed_hosts(),
        hosts => settings.with_allowed_hosts(hosts),
    };
    let server = Server::new(live);
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        settings,
    );
    Router::new().route_service("/mcp", service).layer(axum::middleware::from_fn_with_state(limit, bounded))
}

/// Reads a request's body up to [`MESSAGE_BYTES_MAX`], and bounds the call that it may be.
async fn bounded(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, MESSAGE_BYTES_MAX).await else {
        let limit = format!("a message has at most {MESSAGE_BYTES_MAX} bytes\n");
        return (StatusCode::PAYLOAD_TOO_LARGE, limit).into_response();
    };
    let mut request = Request::from_parts(parts, Body::from(bytes));
    let gone = CancellationToken::new();
    request.extensions_mut().insert(Bounds { gone: gone.clone(), limit });
    let response = next.run(request).await;
    let is_stream =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    if is_stream { response.map(|body| relayed(body, gone)) } else { response }
}

/// The body for the client. What is written is taken to its end even where the client is gone, which is told.
fn relayed(body: Body, gone: CancellationToken) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut pieces = body.into_data_stream();
        loop {
            let piece = tokio::select! {
                piece = std::future::poll_fn(|context| Pin::new(&mut pieces).poll_next(context)) => piece,
                () = sender.closed(), if !gone.is_cancelled() => {
                    gone.cancel();
                    continue;
                }
            };
            match piece {
                // Nobody may be there to take it.
                Some(Ok(piece)) => drop(sender.send(piece).await),
                _ => break,
            }
        }
    });
    Body::from_stream(Relayed(receiver))
}

/// The pieces of a channel as a stream.
struct Relayed(mpsc::Receiver<Bytes>);

impl Stream for Relayed {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(Ok))
    }
}
