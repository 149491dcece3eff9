//! A plugin's `cases.json`: what its tools make of what, in a format that no language owns.

use std::path::Path;

use serde_json::{Value, json};

use super::read;
use crate::error::ToolError;
use crate::plugin::{Plugin, Tools, call};

/// Scores are compared to this.
const SCORE_TOLERANCE: f64 = 1e-9;

/// Differences that a report shows.
const SHOWN_MAX: usize = 5;

/// Characters of a value that a report shows.
const VALUE_CHARS_MAX: usize = 400;

/// Keys of a case; anything else is a typing error.
const KEYS: [&str; 9] =
    ["name", "tool", "params", "seed", "tasks", "sources", "submissions", "made", "error"];

/// Runs every case of a file through the plugin's own dispatch. Gives how many there are.
///
/// # Errors
/// A report for people: the first cases that differ, each with what was expected and what came.
pub fn run_cases(plugin: &Plugin, path: impl AsRef<Path>) -> Result<usize, String> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let cases: Vec<Value> =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    check_cases(plugin, &cases)
}

pub(crate) fn check_cases(plugin: &Plugin, cases: &[Value]) -> Result<usize, String> {
    let check = |(index, case): (usize, &Value)| {
        let name = case["name"].as_str().map_or_else(|| format!("number {index}"), str::to_owned);
        check_case(plugin, case).err().map(|problem| format!("case `{name}`:\n{problem}"))
    };
    let wrong: Vec<String> = cases.iter().enumerate().filter_map(check).collect();
    if wrong.is_empty() {
        return Ok(cases.len());
    }
    let shown = wrong.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("\n");
    Err(format!("{} of {} cases differ\n{shown}", wrong.len(), cases.len()))
}

fn check_case(plugin: &Plugin, case: &Value) -> Result<(), String> {
    let fields = case.as_object().ok_or("  not an object")?;
    if let Some(key) = fields.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("  unknown key `{key}`"));
    }
    let made = run(plugin, case).map_err(|problem| format!("  expected {problem}"))?;
    match (made, &case["made"], &case["error"]) {
        (Ok(made), expected @ Value::Array(_), Value::Null) => compare(&made, expected),
        (Err(error), Value::Null, Value::String(kind)) if error.kind.as_str() == kind => Ok(()),
        (made, Value::Array(_), Value::Null) | (made, Value::Null, Value::String(_)) => {
            let expected = if case["error"].is_null() { shown(&case["made"]) } else { shown(&case["error"]) };
            let came = match made {
                Ok(made) => shown(&made),
                Err(error) => format!("{}: {}", error.kind.as_str(), error.message),
            };
            Err(format!("  expected {expected}\n  came     {came}"))
        }
        _ => Err("  a case has either `made`, a list, or `error`, a kind of error".into()),
    }
}

/// What the plugin makes of a case, as JSON; or what the case lacks.
fn run(plugin: &Plugin, case: &Value) -> Result<Result<Value, ToolError>, String> {
    let tool = read::text(&case["tool"])?;
    let params = if case["params"].is_null() { "{}".into() } else { case["params"].to_string() };
    let seed = match &case["seed"] {
        Value::Null => 0,
        seed => seed.as_u64().ok_or_else(|| format!("a seed where there is {seed}"))?,
    };
    Ok(match plugin.tools {
        Tools::Puzzle(tools) => {
            let tasks = read::list(&case["tasks"], read::task)?;
            call(tools, &tool, &params, seed, tasks).map(|made| made.iter().map(read::task_json).collect())
        }
        Tools::Text(tools) => {
            let sources = read::list(&case["sources"], read::source)?;
            call(tools, &tool, &params, seed, sources).map(|made| json!(made))
        }
        Tools::Grader(tools) => {
            let submissions = read::list(&case["submissions"], read::submission)?;
            let score = |score: crate::Score| json!({ "value": score.value, "reasons": score.reasons });
            call(tools, &tool, &params, seed, submissions).map(|made| made.into_iter().map(score).collect())
        }
    })
}

/// Item by item, so that the report names the first that differs.
fn compare(made: &Value, expected: &Value) -> Result<(), String> {
    let (made, expected) = (items(made), items(expected));
    for index in 0..made.len().max(expected.len()) {
        let (came, wanted) = (made.get(index), expected.get(index));
        if !came.zip(wanted).is_some_and(|(came, wanted)| agree(came, wanted)) {
            let or_nothing = |item: Option<&Value>| item.map_or_else(|| "nothing".into(), shown);
            let (wanted, came) = (or_nothing(wanted), or_nothing(came));
            return Err(format!("  at item {index}\n  expected {wanted}\n  came     {came}"));
        }
    }
    Ok(())
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether an item is what a case expects; a score may stand as its value alone.
fn agree(came: &Value, wanted: &Value) -> bool {
    let Some(value) = came["value"].as_f64() else { return came == &plain_task(wanted) };
    let close =
        |wanted: &Value| wanted.as_f64().is_some_and(|wanted| (wanted - value).abs() <= SCORE_TOLERANCE);
    match wanted {
        Value::Object(_) => {
            close(&wanted["value"]) && (wanted["reasons"].is_null() || wanted["reasons"] == came["reasons"])
        }
        _ => close(wanted),
    }
}

/// A task as it would be written here (`test` may be a list of one); anything else as it is.
fn plain_task(value: &Value) -> Value {
    read::task(value).map_or_else(|_| value.clone(), |task| read::task_json(&task))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
