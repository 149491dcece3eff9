//! The public surface for programs that embed the runtime, in one place. `examples/embed.rs` is such a program.
//!
//! What is listed here is what such a program may rely on: within one minor version nothing is taken away or changes its
//! meaning, and enums may get further variants. Everything else of these crates may change.
//!
//! - Open a model and its tools: [`model_files`], [`Runtime`], [`PluginOptions`].
//! - Keep it running: [`Live`] with [`LiveOptions`]. It generates ([`GenerateRequest`], [`Reply`]), edits itself
//!   ([`EditRequest`], [`EditStatus`]), is rolled back, and tells everything ([`Trace`], [`TraceEvent`]).
//! - Or make one step without threads: [`step`], with a [`Request`].
//! - What it is about: a [`Context`], which is a [`Puzzle`] or a [`Passage`].

pub use selkie_edit::{
    Context, ContextError, Domain, Example, Grid, Passage, Problem, Puzzle, PuzzleTest, Question, Refused,
    SelfEdit,
};
pub use selkie_learn::{Compute, DeviceChoice, Grammar, ModelFiles, SamplingSettings};
pub use selkie_store::RollbackTo;
pub use selkie_tools::HostOptions;

pub use crate::live::{
    AdapterCard, AdapterChoice, Answered, Budget, EditRequest, EditState, EditStatus, EditText, End,
    EndReason, GateScores, GenerateRequest, Happened, Kv, Live, LiveError, LiveOptions, Message, Permission,
    Piece, Prompt, Reply, Scope, SelfEditTerms, Stats, Trace, TraceEvent, Trigger, Triggers, When,
};
pub use crate::{
    Decision, EditSource, Event, Outcome, PluginOptions, Request, Runtime, StepError, model_files, step,
};
