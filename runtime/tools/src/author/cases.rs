//! A plugin's `cases.json`, through the host. The format is that of the SDK's `test_cases!`, which runs it natively.

use std::path::Path;

use selkie_edit::{Example, PlannedCall, PluginId, Score, Submission, Task, TextSource};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AuthorError, Difference};
use crate::call::Done;
use crate::error::{GuestErrorKind, ToolError};
use crate::host::{ToolHost, read_bounded};
use crate::laws::Items;
use crate::work::{Batch, Made, Work};

/// Bytes of a file of cases. Each is a few puzzles or passages.
const CASES_BYTES_MAX: usize = 16 << 20;

/// Scores are compared to this.
const SCORE_TOLERANCE: f64 = 1e-9;

/// The kinds of error that a case may expect.
const ERRORS: [&str; 5] =
    ["invalid_params", "unknown_tool", "unsupported_input", "model_unavailable", "internal"];

/// A call, and what must come of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// For the report.
    pub name: String,
    /// The tool's full name.
    pub tool: String,
    /// Its parameters, a JSON object's text.
    pub params: String,
    /// The seed.
    pub seed: u64,
    /// What the tool is given.
    pub items: Items,
    expected: Expected,
}

#[derive(Debug, Clone, PartialEq)]
enum Expected {
    Made(Vec<Value>),
    Error(String),
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// The tool.
    pub tool: String,
    /// How it is not as expected, if it is not.
    pub differs: Option<Difference>,
}

/// A case as it is written, but for its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tool: String,
    params: Option<Value>,
    seed: Option<u64>,
    tasks: Option<Vec<WrittenTask>>,
    sources: Option<Vec<TextSource>>,
    submissions: Option<Vec<Submission>>,
    made: Option<Vec<Value>>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct WrittenTask {
    train: Vec<Example>,
    test: WrittenTest,
}

/// ARC's files have a list of tests; a task of the interface has one.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenTest {
    One(Example),
    Listed([Example; 1]),
}

/// Reads a file of cases.
///
/// # Errors
/// When it cannot be read, and the first case that is none.
pub fn read_cases(path: &Path) -> Result<Vec<Case>, AuthorError> {
    let wrong = |reason: String| AuthorError::Cases { path: path.into(), reason };
    let bytes = read_bounded(path, CASES_BYTES_MAX)?;
    if bytes.len() > CASES_BYTES_MAX {
        return Err(wrong(format!("more than {CASES_BYTES_MAX} bytes")));
    }
    let cases: Vec<Value> =
        serde_json::from_slice(&bytes).map_err(|error| wrong(format!("not a list of cases: {error}")))?;
    let read = |(index, mut case): (usize, Value)| {
        let name = case.as_object_mut().and_then(|case| case.remove("name"));
        let name =
            name.as_ref().and_then(Value::as_str).map_or_else(|| format!("number {index}"), str::to_owned);
        let written: Result<Written, _> = serde_json::from_value(case);
        let read = written.map_err(|error| error.to_string()).and_then(|case| case.checked(&name));
        read.map_err(|reason| wrong(format!("case `{name}`: {reason}")))
    };
    cases.into_iter().enumerate().map(read).collect()
}

impl Written {
    fn checked(self, name: &str) -> Result<Case, String> {
        let items = match (self.tasks, self.sources, self.submissions) {
            (Some(tasks), None, None) => Items::Tasks(tasks.into_iter().map(Task::from).collect()),
            (None, Some(sources), None) => Items::Sources(sources),
            (None, None, Some(submissions)) => Items::Submissions(submissions),
            _ => return Err("a case has one of `tasks`, `sources` and `submissions`".into()),
        };
        let expected = match (self.made, self.error) {
            (Some(made), None) => Expected::Made(made.into_iter().map(plain_task).collect()),
            (None, Some(kind)) if ERRORS.contains(&kind.as_str()) => Expected::Error(kind),
            (None, Some(kind)) => return Err(format!("`{kind}` is none of {}", ERRORS.join(", "))),
            _ => return Err("a case has either `made`, a list, or `error`, a kind of error".into()),
        };
        let params = self.params.map_or_else(|| "{}".into(), |params| params.to_string());
        let (tool, seed) = (self.tool, self.seed.unwrap_or(0));
        Ok(Case { name: name.into(), tool, params, seed, items, expected })
    }
}

impl From<WrittenTask> for Task {
    fn from(task: WrittenTask) -> Task {
        let (WrittenTest::One(test) | WrittenTest::Listed([test])) = task.test;
        Task { train: task.train, test }
    }
}

/// A task as the host would write it; anything else as it is.
fn plain_task(value: Value) -> Value {
    match WrittenTask::deserialize(&value) {
        Ok(task) => json!(Task::from(task)),
        Err(_) => value,
    }
}

/// Runs cases as a plan would be carried out: in batches, under the host's limits, held to the tool's laws.
pub fn run_cases(host: &ToolHost, plugin: &PluginId, cases: &[Case]) -> Vec<CaseReport> {
    let report = |case: &Case| {
        let differs = case.difference(case.run(host, plugin));
        CaseReport { name: case.name.clone(), tool: case.tool.clone(), differs }
    };
    cases.iter().map(report).collect()
}

impl Case {
    fn batch(&self) -> Batch<'_> {
        Batch { tool: &self.tool, params: &self.params, seed: self.seed, work: self.items.work() }
    }

    pub(super) fn expects_answer(&self) -> bool {
        matches!(self.expected, Expected::Made(_))
    }

    fn run(&self, host: &ToolHost, plugin: &PluginId) -> Result<Vec<Value>, ToolError> {
        let batch = self.batch();
        let (tool, params, seed) = (self.tool.clone(), self.params.clone(), self.seed);
        let call = PlannedCall { tool, plugin: plugin.clone(), params, seed };
        Ok(match batch.work {
            // The host does not trouble a tool for no work; a case may be about just that.
            Work::Tasks([]) | Work::Sources([]) | Work::Submissions([]) => {
                let Done { made, .. } = host.once(plugin, &batch)?;
                match made {
                    Made::Tasks(tasks) => values(tasks),
                    Made::Documents(documents) => values(documents),
                    Made::Scores(scores) => values(scores),
                }
            }
            Work::Tasks(tasks) => values(host.augment(&call, tasks)?.made),
            Work::Sources(sources) => values(host.write(&call, sources)?.made),
            Work::Submissions(submissions) => values(host.scores(&call, submissions)?.made),
        })
    }

    fn difference(&self, came: Result<Vec<Value>, ToolError>) -> Option<Difference> {
        match (&self.expected, came) {
            (Expected::Made(expected), Ok(made)) => {
                let (expected, made) = alike(expected, made);
                Difference::first("made", &expected, &made)
            }
            (Expected::Error(kind), Err(error)) if kind_of(&error) == Some(kind) => None,
            (Expected::Error(kind), Err(error)) => Some(Difference::of("error", kind, &error.to_string())),
            (Expected::Error(kind), Ok(made)) => {
                Some(Difference::of("error", kind, &Value::Array(made).to_string()))
            }
            (Expected::Made(expected), Err(error)) => {
                Some(Difference::of("made", &json!(expected).to_string(), &error.to_string()))
            }
        }
    }
}

fn values<T: Serialize>(made: Vec<T>) -> Vec<Value> {
    made.iter().map(|item| json!(item)).collect()
}

/// An error by the name that cases have for it.
fn kind_of(error: &ToolError) -> Option<&'static str> {
    match error {
        ToolError::Guest { kind, .. } => Some(match kind {
            GuestErrorKind::InvalidParams => "invalid_params",
            GuestErrorKind::UnknownTool => "unknown_tool",
            GuestErrorKind::UnsupportedInput => "unsupported_input",
            GuestErrorKind::ModelUnavailable => "model_unavailable",
            GuestErrorKind::Internal => "internal",
        }),
        ToolError::UnknownTool { .. } => Some("unknown_tool"),
        ToolError::NotGranted { .. } => Some("model_unavailable"),
        _ => None,
    }
}

/// Expectations and answers in one form: a score is as precise, and says as much, as its expectation.
fn alike(expected: &[Value], made: Vec<Value>) -> (Value, Value) {
    let made = made.into_iter().enumerate().map(|(index, came)| {
        let (Some(wanted), Ok(score)) = (expected.get(index), Score::deserialize(&came)) else { return came };
        let value = |wanted: &Value| match wanted.as_f64() {
            Some(close) if (close - score.value).abs() <= SCORE_TOLERANCE => wanted.clone(),
            _ => json!(score.value),
        };
        match wanted {
            Value::Object(fields) => {
                let mut came = json!({ "value": value(&wanted["value"]) });
                if fields.contains_key("reasons") {
                    came["reasons"] = json!(score.reasons);
                }
                came
            }
            wanted => value(wanted),
        }
    });
    let made = made.collect();
    (json!(expected), made)
}
