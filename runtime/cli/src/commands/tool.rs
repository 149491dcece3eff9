//! `selkie tool list` and `selkie tool run`.

use std::io::Read;
use std::process::ExitCode;

use selkie_edit::{
    Domain, Example, Grid, PlannedCall, Refused, Submission, Task, TextSource, ToolKind, ToolSpec, Validator,
    validate_call,
};
use selkie_engine::{Runtime, model_files};
use selkie_learn::Compute;
use selkie_tools::ToolHost;
use selkie_tools::grading::Pair;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{ToolCommand, ToolListArgs, ToolRunArgs};
use crate::error::CommandError;
use crate::settings;

/// Bytes of stdin. A task of 32 pairs of 30x30 grids is 120 kB.
const INPUT_BYTES_MAX: u64 = 4 << 20;

/// Runs one of the two.
pub(crate) fn run(command: &ToolCommand) -> Result<ExitCode, CommandError> {
    match command {
        ToolCommand::List(args) => list(args),
        ToolCommand::Run(args) => run_tool(args),
    }
}

fn list(args: &ToolListArgs) -> Result<ExitCode, CommandError> {
    let host = ToolHost::new(settings::host(&args.plugins))?;
    let tools: Vec<&ToolSpec> = host.catalogue().iter().collect();
    if args.json {
        let tools: Vec<Value> = tools.iter().map(|tool| tool_json(tool)).collect();
        super::print_json(&json!({ "tools": tools }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = tools.iter().map(|tool| tool.name.len()).max().unwrap_or(0);
    let line = |tool: &&ToolSpec| {
        format!("{:width$}  {}  ({}, {})\n", tool.name, tool.summary, tool.plugin, &tool.plugin.digest[..12])
    };
    super::print(&tools.iter().map(line).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

fn tool_json(tool: &ToolSpec) -> Value {
    json!({
        "name": tool.name,
        "kind": tool.kind,
        "summary": tool.summary,
        "params": tool.params_schema,
        "plugin": tool.plugin.name,
        "version": tool.plugin.version,
        "digest": tool.plugin.digest,
    })
}

fn run_tool(args: &ToolRunArgs) -> Result<ExitCode, CommandError> {
    let host = match args.plugins.grants.is_empty() {
        true => ToolHost::new(settings::host(&args.plugins.plugins))?,
        // Only a granted plugin has use for a model.
        false => {
            let files = model_files(args.model.model.as_deref(), Domain::Passage)?;
            Runtime::open_on(&files, args.plugins.options(), &Compute::cpu())?.host
        }
    };
    let params: Value = serde_json::from_str(&args.params)
        .map_err(|error| CommandError::input(format!("--params is not JSON: {error}")))?;
    run_on_stdin(&host, &args.name, &params, args.seed)?;
    Ok(ExitCode::SUCCESS)
}

/// One call of a tool with what is on stdin; its answer goes to stdout. Gives what it logged.
pub(crate) fn run_on_stdin(
    host: &ToolHost,
    name: &str,
    params: &Value,
    seed: u64,
) -> Result<String, CommandError> {
    let validator =
        Validator::new(host.catalogue()).map_err(|error| CommandError::input(error.to_string()))?;
    validate_call(&json!({ "tool": name, "params": params }), &validator).map_err(|Refused(problems)| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        CommandError::input(format!("this tool call is not valid\n  {}", lines.join("\n  ")))
            .hint("`selkie tool list --json` prints every tool's parameters")
    })?;
    let Some(tool) = host.catalogue().get(name) else {
        return Err(CommandError::internal(format!("`{name}` was accepted and is not loaded")));
    };
    let mut input = String::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_string(&mut input);
    read.map_err(|error| CommandError::input(format!("cannot read stdin: {error}")))?;
    let (tool_name, plugin) = (tool.name.clone(), tool.plugin.clone());
    let call = PlannedCall { tool: tool_name, plugin, params: params.to_string(), seed };
    match tool.kind {
        ToolKind::PuzzleAugmenter => augment(host, &call, &input),
        ToolKind::TextAugmenter => write(host, &call, &input),
        ToolKind::Grader => grade(host, &call, &input),
    }
}

fn augment(host: &ToolHost, call: &PlannedCall, input: &str) -> Result<String, CommandError> {
    let bad = |error: serde_json::Error| {
        CommandError::input(format!("stdin is neither a grid nor a task: {error}"))
            .hint("a grid is rows of colours, [[0,1],[2,3]]; a task is {\"train\": [{\"input\": .., \"output\": ..}], \"test\": {..}}")
    };
    let value: Value = serde_json::from_str(input).map_err(bad)?;
    if value.is_array() {
        let grid: Grid = serde_json::from_value(value).map_err(bad)?;
        // A tool works on tasks: a lone grid is the one example's input and output.
        let test = Example { input: grid.clone(), output: grid };
        let result = host.augment(call, &[Task { train: Vec::new(), test }])?;
        let grids: Vec<&Grid> = result.made.iter().map(|task| &task.test.input).collect();
        match grids[..] {
            [grid] => print_compact(grid)?,
            _ => print_compact(&grids)?,
        }
        return Ok(result.log);
    }
    let task: Task = serde_json::from_value(value).map_err(bad)?;
    let result = host.augment(call, &[task])?;
    match &result.made[..] {
        [task] => print_compact(task)?,
        tasks => print_compact(&tasks)?,
    }
    Ok(result.log)
}

/// A source as JSON, or the text alone.
fn write(host: &ToolHost, call: &PlannedCall, input: &str) -> Result<String, CommandError> {
    let source: TextSource = match input.trim_start().starts_with('{') {
        true => serde_json::from_str(input).map_err(|error| {
            CommandError::input(format!("stdin is no text source: {error}")).hint(
                "a source is {\"title\": .., \"text\": .., \"completions\": [..]}; anything else is the text itself",
            )
        })?,
        false => TextSource { title: String::new(), text: input.trim().to_owned(), completions: Vec::new() },
    };
    let result = host.write(call, &[source])?;
    print_compact(&result.made.concat())?;
    Ok(result.log)
}

/// What a grader is given on stdin.
#[derive(Deserialize)]
#[serde(untagged)]
enum Graded {
    Answers { answer: String, reference: String },
    Grids { answer: Grid, reference: Grid },
    Edit(EditFields),
}

#[derive(Deserialize)]
struct EditFields {
    #[serde(default)]
    title: String,
    passage: String,
    documents: Vec<String>,
}

fn grade(host: &ToolHost, call: &PlannedCall, input: &str) -> Result<String, CommandError> {
    let graded: Graded = serde_json::from_str(input).map_err(|_| {
        CommandError::input("stdin is nothing to grade").hint(
            "write {\"answer\": .., \"reference\": ..} with two texts or two grids, or \
             {\"title\": .., \"passage\": .., \"documents\": [..]}",
        )
    })?;
    let pair = match graded {
        Graded::Answers { answer, reference } => Pair::Answers { answer, reference },
        Graded::Grids { answer, reference } => Pair::Grids { answer, reference },
        Graded::Edit(EditFields { title, passage, documents }) => {
            let edit = Submission::Edit { title, passage, documents };
            let mut result = host.grade_edits(call, &[edit])?;
            print_compact(&result.made.pop())?;
            return Ok(result.log);
        }
    };
    let result = host.compare(call, &[pair])?;
    print_compact(&json!({ "value": result.made.first() }))?;
    Ok(result.log)
}

/// One line: grids are read by programs, and pretty-printed ones are a cell a line.
fn print_compact(value: &impl serde::Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string(value).map_err(|error| CommandError::internal(error.to_string()))?;
    super::print(&(text + "\n"))
}
