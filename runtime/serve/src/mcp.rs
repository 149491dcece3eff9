//! The server as a set of tools for other agents (MCP over HTTP).

use axum::Router;
use selkie_engine::live::Live;

/// `/mcp`.
pub(crate) fn router(_live: Live) -> Router {
    Router::new()
}
