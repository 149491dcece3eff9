//! A catalogue of the grid tools and a native double that carries out their calls.

use std::path::PathBuf;

use selkie_edit::{
    Catalogue, Code, Domain, Draft, Example, Grid, PlannedCall, PluginId, Refused, SelfEdit, Task, ToolKind,
    ToolSpec, TrainingDefaults, Validator,
};
use serde_json::{Value, json};

/// A puzzle augmenter of the double's plugin.
pub(crate) fn tool(name: &str, summary: &str, params_schema: Value) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        kind: ToolKind::PuzzleAugmenter,
        summary: summary.to_owned(),
        params_schema,
        plugin: PluginId { name: "grid".to_owned(), version: "0.1.0".to_owned(), digest: "0".repeat(64) },
    }
}

fn object(properties: Value) -> Value {
    let required: Vec<String> = properties.as_object().expect("properties").keys().cloned().collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// The tools that SEAL's sets need.
pub(crate) fn catalogue() -> Catalogue {
    let axis = json!({ "enum": ["rows", "columns"] });
    let factor = json!({ "factor": { "type": "integer", "minimum": 2, "maximum": 8 } });
    let copies = json!({ "copies": { "type": "integer", "minimum": 1, "maximum": 64 } });
    let tools = [
        tool("grid.rotate", "Turns every grid.", object(json!({ "degrees": { "enum": [90, 180, 270] } }))),
        tool("grid.flip", "Mirrors every grid.", object(json!({ "axis": axis }))),
        tool(
            "grid.reflect",
            "Adds the mirror image.",
            object(json!({ "axis": axis, "reverse": { "type": "boolean" } })),
        ),
        tool("grid.translate", "Moves every grid.", object(copies.clone())),
        tool("grid.transpose", "Swaps rows and columns.", object(json!({}))),
        tool("grid.upscale", "Enlarges every cell.", object(factor.clone())),
        tool("grid.increase_height", "Repeats every row.", object(factor.clone())),
        tool("grid.increase_width", "Repeats every column.", object(factor)),
        tool(
            "grid.repeat",
            "Tiles every grid.",
            object(
                json!({ "axis": { "enum": ["rows", "columns", "both"] }, "times": { "type": "integer", "minimum": 2, "maximum": 8 } }),
            ),
        ),
        tool("grid.permute_colors", "Renames colours.", object(copies.clone())),
        tool("grid.permute_examples", "Shuffles demonstrations.", object(copies)),
        tool(
            "grid.note",
            "Changes nothing.",
            json!({ "type": "object", "properties": { "note": { "type": "string" } } }),
        ),
        ToolSpec {
            kind: ToolKind::TextAugmenter,
            ..tool("text.note", "Writes the passage's title.", json!({ "type": "object" }))
        },
        ToolSpec { kind: ToolKind::Grader, ..tool("grade.note", "Grades.", json!({ "type": "object" })) },
    ];
    Catalogue::new(tools).expect("distinct names")
}

/// Without some of the tools.
pub(crate) fn catalogue_without(names: &[&str]) -> Catalogue {
    Catalogue::new(catalogue().iter().filter(|tool| !names.contains(&tool.name.as_str())).cloned())
        .expect("distinct")
}

pub(crate) fn validator() -> Validator {
    Validator::new(&catalogue()).expect("schemas compile")
}

/// Parses and validates.
pub(crate) fn read(text: &str, domain: Domain) -> Result<SelfEdit, Refused> {
    let draft: Draft = selkie_edit::parse(text, domain)?;
    selkie_edit::validate(draft, &validator(), domain, &TrainingDefaults::seal())
}

/// Code and pointer of every problem.
pub(crate) fn codes(refused: &Refused) -> Vec<(Code, &str)> {
    refused.0.iter().map(|problem| (problem.code, problem.pointer.as_str())).collect()
}

pub(crate) fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the data that is not in the repository: under `$SELKIE_DATA`, by default `../shared/data`. Says
/// so and gives `None` where it is absent.
pub(crate) fn data(path: &str) -> Option<String> {
    shared("SELKIE_DATA", "../shared/data", path)
}

/// As [`data`], under `variable` or `default`.
pub(crate) fn shared(variable: &str, default: &str, path: &str) -> Option<String> {
    let root = std::env::var_os(variable).map_or_else(|| repository().join(default), PathBuf::from);
    let text = std::fs::read_to_string(root.join(path)).ok();
    if text.is_none() {
        eprintln!("skipped: {path} is not under {} (set {variable})", root.display());
    }
    text
}

/// Carries out a call of the deterministic tools; the random ones return the tasks with a mark of their
/// seed, so that tests see which seed reached them.
pub(crate) fn run(call: &PlannedCall, tasks: &[Task]) -> Result<Vec<Task>, String> {
    let params: Value = serde_json::from_str(&call.params).map_err(|error| error.to_string())?;
    let number = |name: &str| params[name].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let word = |name: &str| params[name].as_str().unwrap_or_default();
    let each =
        |change: &dyn Fn(Rows) -> Rows| tasks.iter().map(|task| changed(task, change)).collect::<Vec<_>>();
    Ok(match call.tool.as_str() {
        "grid.rotate" => each(&|rows| (0..number("degrees") / 90).fold(rows, |rows, _| turned_left(rows))),
        "grid.flip" => each(&|rows| flipped(rows, word("axis"))),
        "grid.transpose" => each(&transposed),
        "grid.reflect" => each(&|rows| {
            let mirror = flipped(rows.clone(), word("axis"));
            let (first, second) =
                if params["reverse"] == json!(true) { (mirror, rows) } else { (rows, mirror) };
            joined(first, second, word("axis"))
        }),
        "grid.upscale" => each(&|rows| wider(taller(rows, number("factor")), number("factor"))),
        "grid.increase_height" => each(&|rows| taller(rows, number("factor"))),
        "grid.increase_width" => each(&|rows| wider(rows, number("factor"))),
        "grid.repeat" => each(&|rows| {
            let down = if word("axis") == "columns" { 1 } else { number("times") };
            let across = if word("axis") == "rows" { 1 } else { number("times") };
            let wide: Rows = rows.iter().map(|row| row.repeat(across)).collect();
            (0..down).flat_map(|_| wide.clone()).collect()
        }),
        "grid.permute_colors" => {
            let shift = u8::try_from(call.seed % 9 + 1).unwrap_or(1);
            each(&|rows| {
                rows.iter().map(|row| row.iter().map(|colour| (colour + shift) % 10).collect()).collect()
            })
        }
        "grid.permute_examples" => tasks
            .iter()
            .map(|task| {
                let mut task = task.clone();
                let by = usize::try_from(call.seed % task.train.len() as u64).unwrap_or(0);
                task.train.rotate_left(by);
                task
            })
            .collect(),
        "grid.translate" => tasks.to_vec(),
        other => return Err(format!("no double for {other}")),
    })
}

type Rows = Vec<Vec<u8>>;

fn changed(task: &Task, change: &dyn Fn(Rows) -> Rows) -> Task {
    let grid = |grid: &Grid| Grid::from_rows(&change(grid.clone().into())).expect("still a grid");
    let example = |example: &Example| Example { input: grid(&example.input), output: grid(&example.output) };
    Task { train: task.train.iter().map(example).collect(), test: example(&task.test) }
}

fn transposed(rows: Rows) -> Rows {
    (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}

/// As numpy's rot90: against the clock.
fn turned_left(rows: Rows) -> Rows {
    flipped(transposed(rows), "rows")
}

fn flipped(rows: Rows, axis: &str) -> Rows {
    match axis {
        "rows" => rows.into_iter().rev().collect(),
        _ => rows.into_iter().map(|row| row.into_iter().rev().collect()).collect(),
    }
}

fn joined(first: Rows, second: Rows, axis: &str) -> Rows {
    match axis {
        "rows" => [first, second].concat(),
        _ => first.into_iter().zip(second).map(|(left, right)| [left, right].concat()).collect(),
    }
}

fn taller(rows: Rows, factor: usize) -> Rows {
    rows.into_iter().flat_map(|row| vec![row; factor]).collect()
}

fn wider(rows: Rows, factor: usize) -> Rows {
    rows.into_iter().map(|row| row.into_iter().flat_map(|cell| vec![cell; factor]).collect()).collect()
}
