//! The sandboxed plugin host: the only crate that knows wasmtime.
//!
//! A plugin is a WebAssembly component of the world in `schemas/wit`. It imports nothing; what it can do is
//! compute, within limits that are on by default and each proven by a hostile guest (`tests/guests.rs`).
//! [`ToolHost`] loads plugins and calls their tools; [`build`] makes one from a Rust crate.

mod bindings;
#[path = "plugin_build.rs"]
pub mod build;
mod call;
mod component;
mod engine;
mod error;
mod host;
pub mod laws;
mod limiter;
pub mod limits;
pub mod manifest;
mod work;

pub use error::{GuestErrorKind, ToolError};
pub use host::{CallResult, HostOptions, Session, ToolHost};
pub use limits::Limits;
pub use work::{Made, Work};
