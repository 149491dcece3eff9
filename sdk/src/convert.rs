//! Between the interface's records and the typed twins.

use crate::bindings::grader::exports::selkie::plugin::grader as grading;
use crate::bindings::puzzle::selkie::plugin::types as wire;
use crate::bindings::text::exports::selkie::plugin::text_augmenter as texts;
use crate::error::{ErrorKind, ToolError};
use crate::grader::{Edit, Score, Submission};
use crate::grid::{Example, Grid, Task};
use crate::text::Source;

pub type WireTask = wire::Task;
pub type WireError = wire::ToolError;
pub type WireSource = texts::Source;
pub type WireSubmission = grading::Submission;
pub type WireScore = grading::Score;

pub(crate) fn tasks_in(tasks: Vec<WireTask>) -> Result<Vec<Task>, ToolError> {
    tasks.into_iter().map(task_in).collect()
}

pub(crate) fn tasks_out(tasks: Vec<Task>) -> Vec<WireTask> {
    tasks.into_iter().map(task_out).collect()
}

fn task_in(task: WireTask) -> Result<Task, ToolError> {
    let train = task.train.into_iter().map(example_in).collect::<Result<_, _>>()?;
    Ok(Task { train, test: example_in(task.test)? })
}

fn example_in(example: wire::Example) -> Result<Example, ToolError> {
    Ok(Example { input: grid_in(example.input)?, output: grid_in(example.output)? })
}

fn grid_in(grid: wire::Grid) -> Result<Grid, ToolError> {
    Grid::new(grid.height, grid.width, grid.cells)
        .ok_or_else(|| ToolError::unsupported_input("the host sent a grid that is not one"))
}

fn task_out(task: Task) -> WireTask {
    WireTask { train: task.train.into_iter().map(example_out).collect(), test: example_out(task.test) }
}

fn example_out(example: Example) -> wire::Example {
    wire::Example { input: grid_out(example.input), output: grid_out(example.output) }
}

fn grid_out(grid: Grid) -> wire::Grid {
    let (height, width, cells) = grid.into_parts();
    wire::Grid { height, width, cells }
}

pub(crate) fn sources_in(sources: Vec<WireSource>) -> Vec<Source> {
    let typed = |source: WireSource| Source {
        title: source.title,
        text: source.text,
        completions: source.completions,
    };
    sources.into_iter().map(typed).collect()
}

pub(crate) fn submissions_in(submissions: Vec<WireSubmission>) -> Result<Vec<Submission>, ToolError> {
    submissions.into_iter().map(submission_in).collect()
}

fn submission_in(submission: WireSubmission) -> Result<Submission, ToolError> {
    Ok(match submission {
        WireSubmission::Answers(grading::Answers { left, right }) => Submission::Answers { left, right },
        WireSubmission::Grids(grading::Grids { left, right }) => {
            Submission::Grids { left: grid_in(left)?, right: grid_in(right)? }
        }
        WireSubmission::Edit(grading::Edit { title, passage, documents }) => {
            Submission::Edit(Edit { title, passage, documents })
        }
    })
}

pub(crate) fn scores_out(scores: Vec<Score>) -> Vec<WireScore> {
    scores.into_iter().map(|score| WireScore { value: score.value, reasons: score.reasons }).collect()
}

pub(crate) fn error_out(error: ToolError) -> WireError {
    let kind = match error.kind {
        ErrorKind::InvalidParams => wire::ErrorKind::InvalidParams,
        ErrorKind::UnknownTool => wire::ErrorKind::UnknownTool,
        ErrorKind::UnsupportedInput => wire::ErrorKind::UnsupportedInput,
        ErrorKind::ModelUnavailable => wire::ErrorKind::ModelUnavailable,
        ErrorKind::Internal => wire::ErrorKind::Internal,
    };
    WireError { kind, message: error.message }
}
