//! The trait of a tool that makes training tasks out of training tasks.

use serde::de::DeserializeOwned;

use crate::error::ToolError;
use crate::grid::{Grid, GridChange, Task};
use crate::laws::Laws;
use crate::rng::Rng;

/// A tool that makes tasks of tasks. Implement [`PuzzleAugmenter::grid`] when it changes one grid at a time,
/// [`PuzzleAugmenter::tasks`] when it needs whole tasks or randomness.
pub trait PuzzleAugmenter {
    /// Full name, `namespace.tool` in lower case, such as `demo.invert`.
    const NAME: &'static str;
    /// One line for people and for the model's prompt.
    const SUMMARY: &'static str;
    /// The parameters. Use `#[serde(deny_unknown_fields)]`.
    type Params: DeserializeOwned;

    /// What the tool promises; the host holds it to it. By default: nothing but that the seed does not matter.
    const LAWS: Laws = Laws::DETERMINISTIC;

    /// JSON Schema (draft 2020-12) of the parameters as text, without `$ref`. By default: no parameters.
    fn params_schema() -> String {
        crate::NO_PARAMS_SCHEMA.into()
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

    /// The tasks made of a batch of tasks. By default every task once, with [`PuzzleAugmenter::grid`] applied to
    /// each of its grids.
    ///
    /// # Errors
    /// When the parameters are wrong or the tool cannot work on such tasks at all.
    fn tasks(params: &Self::Params, tasks: Vec<Task>, rng: &mut Rng) -> Result<Vec<Task>, ToolError> {
        let _ = rng;
        map_tasks(&tasks, &mut |grid| Self::grid(params, grid))
    }
}

/// Every task with `change` applied to its grids. Not generic: each instance would be a kilobyte of component.
fn map_tasks(tasks: &[Task], change: GridChange<'_>) -> Result<Vec<Task>, ToolError> {
    tasks.iter().filter_map(|task| task.map_grids(change).transpose()).collect()
}
