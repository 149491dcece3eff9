//! The trait that a tool implements, with a default for everything that most tools do alike.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::grid::{Grid, GridChange, Task};
use crate::rng::Rng;

/// A tool of a plugin. Implement [`Tool::grid`] when the tool changes one grid at a time, [`Tool::tasks`] when
/// it needs whole tasks or randomness.
pub trait Tool {
    /// Full name, `namespace.tool` in lower case, such as `demo.invert`.
    const NAME: &'static str;
    /// One line for people and for the model's prompt.
    const SUMMARY: &'static str;
    /// The parameters. Use `#[serde(deny_unknown_fields)]`.
    type Params: DeserializeOwned;

    /// What the tool promises; the host holds it to it. By default: nothing but that the seed does not matter.
    const LAWS: Laws = Laws { deterministic: true, shape: None };

    /// JSON Schema (draft 2020-12) of the parameters as text, without `$ref`. By default: no parameters.
    fn params_schema() -> String {
        r#"{"type":"object","additionalProperties":false}"#.into()
    }

    /// The changed grid, or `None` when there is none (it would be above 255 a side): the task is then left
    /// out. Must not depend on anything but its arguments.
    ///
    /// # Errors
    /// When the parameters are wrong or the tool cannot work on such a grid at all.
    fn grid(params: &Self::Params, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        let _ = (params, grid);
        Err(ToolError::internal("the tool implements neither `grid` nor `tasks`"))
    }

    /// The tasks made of a batch of tasks. By default every task once, with [`Tool::grid`] applied to each of
    /// its grids.
    ///
    /// # Errors
    /// When the parameters are wrong or the tool cannot work on such tasks at all.
    fn tasks(params: &Self::Params, tasks: Vec<Task>, rng: &mut Rng) -> Result<Vec<Task>, ToolError> {
        let _ = rng;
        map_tasks(&tasks, &mut |grid| Self::grid(params, grid))
    }
}

/// The parameters of a tool that has none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// Every task with `change` applied to its grids. Not generic: each instance would be a kilobyte of component.
fn map_tasks(tasks: &[Task], change: GridChange<'_>) -> Result<Vec<Task>, ToolError> {
    tasks.iter().filter_map(|task| task.map_grids(change).transpose()).collect()
}

/// What a tool promises about its results.
#[derive(Debug, Clone, Copy)]
pub struct Laws {
    /// The result does not depend on the seed. The host then always passes seed 0.
    pub deterministic: bool,
    /// What happens to the sides of the grids; `None` is no promise.
    pub shape: Option<Shape>,
}

/// What happens to the sides of the grids of a task.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// They stay.
    Preserved,
    /// Height and width change places.
    Swapped,
    /// None is longer than this many times the longest side of the task it was made of.
    Bounded(u16),
}

/// Why a tool refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolError {
    /// Which kind of refusal.
    pub kind: ErrorKind,
    /// What was wrong, in one line. The host cuts it at 512 bytes.
    pub message: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The parameters do not parse, or a value is outside its range.
    InvalidParams,
    /// The plugin has no tool of that name.
    UnknownTool,
    /// The parameters are fine, but the tool cannot work on these tasks.
    UnsupportedInput,
    /// A fault of the plugin's own.
    Internal,
}

impl ToolError {
    /// The parameters are wrong.
    pub fn invalid_params(message: impl Into<String>) -> ToolError {
        ToolError { kind: ErrorKind::InvalidParams, message: message.into() }
    }

    /// The tool cannot work on these tasks.
    pub fn unsupported_input(message: impl Into<String>) -> ToolError {
        ToolError { kind: ErrorKind::UnsupportedInput, message: message.into() }
    }

    /// The plugin is at fault.
    pub fn internal(message: impl Into<String>) -> ToolError {
        ToolError { kind: ErrorKind::Internal, message: message.into() }
    }
}
