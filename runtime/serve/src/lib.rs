//! A live runtime over HTTP and MCP, with a page to look at it.
//!
//! [`Server::bind`] takes a [`Live`](selkie_engine::live::Live) and [`ServeOptions`], [`Server::run`] answers until
//! it is told to stop. Requests and answers are types of this crate, twins of the engine's, so that neither side
//! holds the other in place; what a request asks for is decided in the engine. Not here: a terminal, signals, the
//! time of day, where the token comes from.

mod adapters;
mod api_error;
mod app;
mod document;
mod events;
mod guard;
mod ledger;
pub mod mcp;
mod metrics;
mod openai;
mod options;
mod page;
mod patient;
mod self_edits;
mod server;
mod sse;
mod terms;
#[cfg(test)]
mod tests;
mod tools;

pub use document::openapi;
pub use options::{Limits, ServeError, ServeOptions, Token};
pub use server::{Server, Stopper};
