//! The page of a running server.

use axum::Router;

/// `/` and `/page/*`.
pub(crate) fn router() -> Router {
    Router::new()
}
