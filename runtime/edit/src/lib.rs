//! Self-edits: from what a model wrote to a plan with nothing left to choose; and the plain types that the
//! other rooms exchange.
//!
//! Pure: no IO, no clock, no randomness of its own. Bad input is a list of [`Problem`]s, never a panic.
//!
//! ```
//! use selkie_edit::{Catalogue, Context, TrainingDefaults, Validator, parse, plan, validate};
//!
//! let passage = r#"{"title": "Selkies", "context": "Selkies are seals that become people.",
//!                   "questions": [{"question": "What are selkies?", "answer": "seals"}]}"#;
//! let context = Context::from_json(passage, "selkies")?;
//! let tools = Catalogue::default();
//! let validator = Validator::new(&tools)?;
//! let written = r#"Here: {"version": 1, "data": {"documents": ["A selkie is a seal."]}}"#;
//!
//! let draft = parse(written, context.domain())?;
//! let edit = validate(draft, &validator, context.domain(), &TrainingDefaults::seal())?;
//! let plan = plan(&edit, &tools, &context, 7)?;
//! assert_eq!(plan.documents[0], "Selkies\nA selkie is a seal.");
//!
//! let draft = parse(&written.replace("documents", "document"), context.domain())?;
//! let refused = validate(draft, &validator, context.domain(), &TrainingDefaults::seal()).unwrap_err();
//! assert_eq!(refused.0[0].pointer, "/data/document");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod catalogue;
pub mod completion;
pub mod context;
pub mod draft;
pub mod grid;
mod json;
pub mod limits;
pub mod outcome;
mod parse;
pub mod plan;
pub mod problem;
pub mod prompt;
pub mod puzzle_data;
pub mod read_context;
pub mod schema;
pub mod seal;
mod seed;
pub mod self_edit;
pub mod text_data;
pub mod tool_data;
mod validate;
mod validator;
mod wording;

pub use catalogue::{Catalogue, PluginId, ToolKind, ToolSpec};
pub use context::{Asked, Context, Domain, Gated, Passage, Puzzle, PuzzleTest, Question};
pub use draft::Draft;
pub use grid::{Example, Grid, GridError, Task};
pub use outcome::{Answer, ItemReport, Report, ToolOutcomes, ToolRun, Verdict};
pub use parse::parse;
pub use plan::{LeaveOut, Plan, PlannedCall, PuzzlePlan, TextPlan, leave_out, plan, steps};
pub use problem::{Code, Problem, Refused};
pub use prompt::{edit_prompt, selkie_form_help, selkie_prompt, tool_list};
pub use puzzle_data::{ExpandError, expand, expand_round, task_digest};
pub use read_context::ContextError;
pub use seed::{SplitMix64, derive_seed};
pub use self_edit::{
    Dialect, Lora, LossOn, Permute, Projection, Schedule, SelfEdit, ToolCall, ToolLimits, Training,
    TrainingDefaults,
};
pub use text_data::expand_texts;
pub use tool_data::{Score, Submission, SubmissionKind, TextSource};
pub use validate::{validate, validate_call};
pub use validator::{SchemaError, Validator};
