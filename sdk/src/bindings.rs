//! The interface in `schemas/wit/since_v0.2.0`, as the guest sees it: a module a world, so that a plugin exports
//! only what it is. (No documentation of its own: what is generated has none.)

pub use selkie_sdk_grader as grader;
pub use selkie_sdk_puzzle as puzzle;
pub use selkie_sdk_text as text;
