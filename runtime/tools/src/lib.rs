//! The sandboxed plugin host: the only crate that knows wasmtime.
//!
//! A plugin is a WebAssembly component of a world in `schemas/wit`. What it can do is compute, within limits that
//! are on by default and each proven by a hostile guest (`tests/guests`); the one thing that it can ask for is
//! the host model, which takes two keys. [`ToolHost`] loads plugins and calls their tools; [`build`] makes one from
//! a Rust crate.

pub mod author;
#[path = "plugin_build.rs"]
pub mod build;
mod call;
mod compile;
mod component;
mod contract;
mod engine;
mod error;
pub mod grading;
mod host;
pub mod laws;
mod limiter;
pub mod limits;
pub mod manifest;
mod model;
pub mod native;
mod self_test;
mod state;
mod wasi;
mod work;
pub mod worker;

pub use call::Usage;
pub use contract::Needs;
pub use error::{Exceeded, GraderFault, GuestErrorKind, ToolError};
pub use host::{CallResult, HostOptions, Session, ToolHost};
pub use limits::{Limit, Limits};
pub use model::{Completion, Grants, HostModel, Likelihood, MissingKey, ModelBudget, ModelError};
pub use self_test::{Death, self_test};
pub use work::{Made, Work};
pub use worker::Worker;
