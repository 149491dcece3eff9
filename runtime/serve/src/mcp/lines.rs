//! JSON-RPC on a pair of streams, one message a line.
//!
//! In place of rmcp's own, for three reasons: a line has a limit; nothing is lost when a message is half read while
//! another one is sent; and clients that ask for something before they initialize (`server/discover` of newer
//! protocol versions) are told no instead of being left.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{ClientRequest, ErrorData, JsonRpcMessage, RequestId};
use rmcp::service::{RoleServer, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::{MESSAGE_BYTES_MAX, not_understood};

/// What answers a line that is no message for the server, and the request's id where it is known.
type Objection = Box<(ErrorData, Option<RequestId>)>;

/// Time for objections to be written once the client has closed its side.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One client's streams.
pub(super) struct Lines<R, W> {
    read: BufReader<R>,
    write: Arc<Mutex<W>>,
    /// What was read of the next line.
    line: Vec<u8>,
    /// Whether that line has more bytes than it may; the rest of it is passed over.
    is_too_long: bool,
    is_initialized: bool,
    /// Tasks that write objections.
    objections: TaskTracker,
}

impl<R: AsyncRead + Unpin, W> Lines<R, W> {
    pub(super) fn new(read: R, write: W) -> Lines<R, W> {
        Lines {
            read: BufReader::new(read),
            write: Arc::new(Mutex::new(write)),
            line: Vec::new(),
            is_too_long: false,
            is_initialized: false,
            objections: TaskTracker::new(),
        }
    }

    /// The next line, without its end; none at the end of the stream. What was read of it stays when this is dropped
    /// before it is done.
    async fn next_line(&mut self) -> Option<Result<Vec<u8>, ErrorData>> {
        loop {
            let bytes = self.read.fill_buf().await.ok()?;
            if bytes.is_empty() {
                return None;
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(bytes.len(), |end| end + 1);
            let fits = self.line.len() + used <= MESSAGE_BYTES_MAX;
            self.is_too_long |= !fits;
            if !self.is_too_long {
                self.line.extend_from_slice(&bytes[..end.unwrap_or(used)]);
            }
            self.read.consume(used);
            if end.is_some() {
                let line = std::mem::take(&mut self.line);
                let message = || format!("a message has at most {MESSAGE_BYTES_MAX} bytes");
                return Some(match std::mem::take(&mut self.is_too_long) {
                    true => Err(ErrorData::invalid_request(message(), None)),
                    false => Ok(line),
                });
            }
        }
    }
}

impl<R, W> Lines<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    /// A line as a message for the server, or the error that answers it at once.
    fn understood(&mut self, line: &[u8]) -> Result<RxJsonRpcMessage<RoleServer>, Objection> {
        let message: RxJsonRpcMessage<RoleServer> = serde_json::from_slice(line).map_err(|_| {
            Box::new((ErrorData::parse_error("this line is no JSON-RPC message", None), None))
        })?;
        if let JsonRpcMessage::Request(request) = &message
            && !self.is_initialized
        {
            let error = match &request.request {
                ClientRequest::InitializeRequest(_) => {
                    self.is_initialized = true;
                    return Ok(message);
                }
                ClientRequest::PingRequest(_) => return Ok(message),
                ClientRequest::CustomRequest(custom) => not_understood(&custom.method),
                _ => ErrorData::invalid_request("`initialize` comes before any other request", None),
            };
            return Err(Box::new((error, Some(request.id.clone()))));
        }
        Ok(message)
    }
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    type Error = std::io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), std::io::Error>> + Send + 'static {
        let write = self.write.clone();
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut write = write.lock().await;
            write.write_all(&line).await?;
            write.flush().await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            let Some(line) = self.next_line().await else {
                self.objections.close();
                let _ = tokio::time::timeout(LAST_WORDS, self.objections.wait()).await;
                return None;
            };
            let message = match line {
                Ok(line) if line.trim_ascii().is_empty() => continue,
                Ok(line) => self.understood(&line),
                Err(error) => Err(Box::new((error, None))),
            };
            match message {
                // Before the beginning, only requests are answered.
                Ok(JsonRpcMessage::Request(_)) => return message.ok(),
                Ok(message) if self.is_initialized => return Some(message),
                Ok(_) => {}
                // By a task of its own: this may be dropped at any await, and half a line must not be written.
                Err(objection) => {
                    let (error, id) = *objection;
                    let sending = self.send(JsonRpcMessage::error(error, id));
                    drop(self.objections.spawn(sending));
                }
            }
        }
    }

    async fn close(&mut self) -> Result<(), std::io::Error> {
        self.write.lock().await.shutdown().await
    }
}
