//! A live runtime as tools of the Model Context Protocol: another model checks, applies and rolls back self-edits.
//!
//! What a tool does is in `calls`; `lines` and `over_http` are the two ways to reach it. Granting a permission is no tool,
//! and no argument of one: what self-edits may do is what [`Live`] was started with.

mod arguments;
mod calls;
mod lines;
mod over_http;
mod results;
mod tools;

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, CustomRequest, CustomResult, ErrorCode, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerInfo, Tool,
};
use rmcp::service::{RequestContext, RoleServer, ServerInitializeError};
use rmcp::{ServerHandler, ServiceExt};
use selkie_engine::live::Live;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use self::lines::Lines;

pub use over_http::router;

/// Bytes of one message. The largest self-edit (1 MiB) fits with every byte escaped, and so does any context that a
/// model has room for; a line or body that is longer is refused before it is parsed.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Calls of `score` at the same time: each takes as many threads as the model is given. Two, so that what is active can
/// be compared with the base model in one breath.
const SCORES_MAX: usize = 2;

/// What a model is told of the server as a whole.
const INSTRUCTIONS: &str = "A small language model that can be taught a puzzle or a passage by a self-edit: a JSON \
    document that says what training data to make and how to train. `self_edit_schema` says how one is written, \
    `check_self_edit` finds every problem of one, `apply_self_edit` trains and keeps the result only if the model got \
    better at that puzzle or passage. Everything that was tried is in `log`; `rollback` takes a change back.";

/// Why serving on a pair of streams ended early.
#[derive(Debug, thiserror::Error)]
pub enum McpError {
    /// The client and the server did not come to terms.
    #[error("the MCP client did not begin as the protocol says: {0}")]
    Begin(Box<ServerInitializeError>),
    /// The server's own task ended badly.
    #[error("the MCP server stopped: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Serves one client on standard input and output, until it closes them. Nothing else may be written to standard
/// output meanwhile. The runtime goes on afterwards.
///
/// # Errors
/// A client that speaks something else.
pub async fn stdio(live: Live) -> Result<(), McpError> {
    on(live, tokio::io::stdin(), tokio::io::stdout()).await
}

/// The same on any pair of streams: a JSON-RPC message a line.
///
/// # Errors
/// As [`stdio`].
pub async fn on<R, W>(live: Live, read: R, write: W) -> Result<(), McpError>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    match Server::new(live).serve(Lines::new(read, write)).await {
        Ok(running) => {
            running.waiting().await?;
            Ok(())
        }
        // It asked nothing.
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(McpError::Begin(Box::new(error))),
    }
}

/// The tools over one runtime.
#[derive(Clone)]
struct Server {
    live: Live,
    /// Turns of `score`.
    scores: Arc<Semaphore>,
}

impl Server {
    fn new(live: Live) -> Server {
        Server { live, scores: Arc::new(Semaphore::new(SCORES_MAX)) }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerInfo {
        ServerInfo::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("selkie", env!("CARGO_PKG_VERSION")).with_title("Selkie"))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::ALL.map(tools::described).to_vec()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::find(name).map(tools::described)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let Some(tool) = tools::find(&request.name) else { return Err(unknown_tool(&request.name)) };
        Ok(calls::call(self, tool, request.arguments.unwrap_or_default(), &context).await)
    }

    /// What rmcp could not read as a request that it knows: a method of another protocol version, or parameters of the
    /// wrong shape.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        Err(not_understood(&request.method))
    }
}

/// A name that is no tool's, as the protocol wants it answered.
fn unknown_tool(name: &str) -> ErrorData {
    let name: String = name.chars().take(64).collect();
    let known = tools::ALL.map(tools::name).join(", ");
    ErrorData::invalid_params(format!("there is no tool `{name}`; the tools are {known}"), None)
}

/// Methods with parameters that a server with tools answers.
const METHODS: [&str; 3] = ["initialize", "tools/list", "tools/call"];

fn not_understood(method: &str) -> ErrorData {
    if METHODS.contains(&method) {
        let message = format!("the parameters of `{method}` do not have the protocol's form");
        return ErrorData::invalid_params(message, None);
    }
    let method: String = method.chars().take(64).collect();
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, Cow::Owned(format!("there is no method `{method}`")), None)
}
