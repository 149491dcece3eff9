//! What a Selkie plugin written in Rust links: typed grids and tasks, one trait, one macro.
//!
//! A tool that works on one grid at a time is this much:
//!
//! ```
//! use selkie_sdk::{Grid, NoParams, Tool, ToolError};
//!
//! struct Invert;
//!
//! impl Tool for Invert {
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
mod grid;
mod plugin;
mod rng;
mod tool;

pub use grid::{Example, Grid, GridChange, Task};
pub use plugin::run;
pub use rng::Rng;
pub use tool::{ErrorKind, Laws, NoParams, Shape, Tool, ToolError};

#[doc(hidden)]
pub use plugin::{Entry, augment, describe};
