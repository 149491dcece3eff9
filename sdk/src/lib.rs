//! What a Selkie plugin written in Rust links: typed records, one trait a kind of tool, one macro.
//!
//! A tool that works on one grid at a time is this much:
//!
//! ```
//! use selkie_sdk::{Grid, NoParams, PuzzleAugmenter, ToolError};
//!
//! struct Invert;
//!
//! impl PuzzleAugmenter for Invert {
//!     const NAME: &'static str = "demo.invert";
//!     const SUMMARY: &'static str = "Replaces every colour c by 9 - c.";
//!     type Params = NoParams;
//!
//!     fn grid(_: &NoParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
//!         Ok(Some(grid.map(|colour| 9 - colour)))
//!     }
//! }
//!
//! selkie_sdk::register!(Invert);
//! # fn main() {}
//! ```
//!
//! README.md leads from an empty folder to a plugin that `selkie --plugins` loads.

#[doc(hidden)]
pub mod bindings;
mod convert;
mod error;
mod grader;
mod grid;
mod guest;
pub mod host_model;
mod laws;
mod plugin;
mod puzzle;
mod rng;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod text;

pub use error::{ErrorKind, ToolError};
pub use grader::{Edit, Grader, Score, Submission, Takes};
pub use grid::{Example, Grid, GridChange, Task};
pub use guest::log;
pub use laws::{Inverse, Laws, Shape};
pub use plugin::{NoParams, Plugin, run_grader, run_puzzle, run_text};
pub use puzzle::PuzzleAugmenter;
pub use rng::Rng;
pub use text::{Source, TextAugmenter};

#[doc(hidden)]
pub use convert::{WireError, WireScore, WireSource, WireSubmission, WireTask};
#[doc(hidden)]
pub use plugin::{GraderEntry, PuzzleEntry, TextEntry, Tools};
#[doc(hidden)]
pub use plugin::{guest_describe, guest_sources, guest_submissions, guest_tasks};

const NO_PARAMS_SCHEMA: &str = r#"{"type":"object","additionalProperties":false}"#;

#[cfg(test)]
mod tests;
