//! Between the JSON of case files and the typed records: tasks and grids as in ARC's files.

use serde_json::Value;

use crate::grader::{Edit, Submission};
use crate::grid::{Example, Grid, Task};
use crate::text::Source;

pub(super) fn list<T>(value: &Value, read: impl Fn(&Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = value.as_array().ok_or_else(|| format!("a list where there is {value}"))?;
    items.iter().map(read).collect()
}

pub(super) fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("a text where there is {value}"))
}

pub(super) fn task(value: &Value) -> Result<Task, String> {
    // ARC's files have a list of tests; a task of the interface has one.
    let test = match &value["test"] {
        Value::Array(tests) if tests.len() == 1 => &tests[0],
        other => other,
    };
    Ok(Task { train: list(&value["train"], example)?, test: example(test)? })
}

fn example(value: &Value) -> Result<Example, String> {
    Ok(Example { input: grid(&value["input"])?, output: grid(&value["output"])? })
}

fn grid(value: &Value) -> Result<Grid, String> {
    let bad = || format!("a grid (rows of colours 0 to 9, 1 to 255 a side) where there is {value}");
    let rows: Vec<Vec<u8>> = serde_json::from_value(value.clone()).map_err(|_| bad())?;
    let width = rows.first().map_or(0, Vec::len);
    let sides = u8::try_from(rows.len()).ok().zip(u8::try_from(width).ok());
    let even = rows.iter().all(|row| row.len() == width);
    let made = sides.filter(|_| even).and_then(|(height, width)| Grid::new(height, width, rows.concat()));
    made.ok_or_else(bad)
}

pub(super) fn source(value: &Value) -> Result<Source, String> {
    Ok(Source {
        title: optional_text(&value["title"])?,
        text: text(&value["text"])?,
        completions: if value["completions"].is_null() {
            Vec::new()
        } else {
            list(&value["completions"], text)?
        },
    })
}

fn optional_text(value: &Value) -> Result<String, String> {
    if value.is_null() { Ok(String::new()) } else { text(value) }
}

pub(super) fn submission(value: &Value) -> Result<Submission, String> {
    let kind = value.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
    match kind.map(|(kind, given)| (kind.as_str(), given)) {
        Some(("answers", given)) => {
            Ok(Submission::Answers { left: text(&given["left"])?, right: text(&given["right"])? })
        }
        Some(("grids", given)) => {
            Ok(Submission::Grids { left: grid(&given["left"])?, right: grid(&given["right"])? })
        }
        Some(("edit", given)) => Ok(Submission::Edit(Edit {
            title: optional_text(&given["title"])?,
            passage: text(&given["passage"])?,
            documents: list(&given["documents"], text)?,
        })),
        _ => Err(format!("one of `answers`, `grids` and `edit` where there is {value}")),
    }
}

/// A task as its case file would have it.
pub(super) fn task_json(task: &Task) -> Value {
    let grid = |grid: &Grid| Value::from(grid.rows().map(Value::from).collect::<Vec<_>>());
    let example = |example: &Example| serde_json::json!({ "input": grid(&example.input), "output": grid(&example.output) });
    serde_json::json!({ "train": task.train.iter().map(example).collect::<Vec<_>>(), "test": example(&task.test) })
}
