//! The order of the stages of one self-edit: read [`step`] first.
//!
//! Everything that is decided is decided in [`decide`], everything that happens is told as an [`Event`], and
//! everything that can stop a step is a variant of [`StepError`]. Not here: how a stage works (that is its own
//! crate), a terminal, HTTP, the time of day.

pub mod decide;
pub mod embed;
mod error;
mod event;
mod host_model;
pub mod live;
mod prepare;
mod replay;
mod report;
mod runtime;
mod step;

pub use decide::{Decision, decide, gate};
pub use error::StepError;
pub use event::Event;
pub use prepare::{Prepared, prepare};
pub use replay::{Difference, Replay, replay};
pub use report::{AdaptReport, ScoreReport, ToolReport, TrainingReport};
pub use runtime::{PluginOptions, Runtime, model_files};
pub use step::{EditSource, Outcome, Request, Start, Terms, TrainingLimits, refuse_in, step, step_in};
