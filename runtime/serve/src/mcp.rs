//! A live runtime as tools of the Model Context Protocol: another model checks, applies and rolls back self-edits.
//!
//! What a tool does is in `calls`; here are the two ways to reach it. Granting a permission is no tool, and no argument
//! of one: what self-edits may do is what [`Live`] was started with.

mod arguments;
mod calls;
mod lines;
mod results;
mod tools;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use rmcp::model::{
    CallToolRequestParams, CallToolResult, CustomRequest, CustomResult, ErrorCode, ErrorData, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerInfo, Tool,
};
use rmcp::service::{RequestContext, RoleServer, ServerInitializeError};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, ServiceExt};
use selkie_engine::live::Live;
use tokio::io::{AsyncRead, AsyncWrite};

use self::lines::Lines;

/// Bytes of one message. The largest self-edit (1 MiB) fits with every byte escaped, and so does any context that a
/// model has room for; a line or body that is longer is refused before it is parsed.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

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
    match (Server { live }).serve(Lines::new(read, write)).await {
        Ok(running) => {
            running.waiting().await?;
            Ok(())
        }
        // It asked nothing.
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(McpError::Begin(Box::new(error))),
    }
}

/// Streamable HTTP at `/mcp`, one request at a time and without sessions, to be merged into a server. `hosts` are the
/// names that a request's `Host` may have, such as `localhost`; none means any, for a server that asks for a token.
pub fn router(live: Live, hosts: &[String]) -> Router {
    let settings = StreamableHttpServerConfig::default().with_stateful_mode(false);
    let settings = match hosts {
        [] => settings.disable_allowed_hosts(),
        hosts => settings.with_allowed_hosts(hosts),
    };
    let server = Server { live };
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        settings,
    );
    Router::new().route_service("/mcp", service).layer(axum::middleware::from_fn(within_size))
}

/// Reads a request's body up to [`MESSAGE_BYTES_MAX`].
async fn within_size(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, MESSAGE_BYTES_MAX).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(_) => {
            let limit = format!("a message has at most {MESSAGE_BYTES_MAX} bytes\n");
            (StatusCode::PAYLOAD_TOO_LARGE, limit).into_response()
        }
    }
}

/// The tools over one runtime.
#[derive(Clone)]
struct Server {
    live: Live,
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
        Ok(calls::call(&self.live, tool, request.arguments.unwrap_or_default(), &context).await)
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
