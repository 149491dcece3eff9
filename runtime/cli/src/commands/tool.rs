//! `selkie tool list` and `selkie tool run`.

use std::io::Read;
use std::process::ExitCode;

use selkie_edit::{Domain, Example, Grid, PlannedCall, Refused, Task, ToolSpec, Validator, validate_call};
use selkie_tools::{HostOptions, ToolHost};
use serde_json::{Value, json};

use crate::args::{ToolCommand, ToolListArgs, ToolRunArgs};
use crate::error::CommandError;

/// Bytes of a grid or a task on stdin. A task of 32 pairs of 30x30 grids is 120 kB.
const INPUT_BYTES_MAX: u64 = 4 << 20;

/// Runs one of the two.
pub(crate) fn run(command: &ToolCommand) -> Result<ExitCode, CommandError> {
    match command {
        ToolCommand::List(args) => list(args),
        ToolCommand::Run(args) => run_tool(args),
    }
}

fn list(args: &ToolListArgs) -> Result<ExitCode, CommandError> {
    let host = ToolHost::new(HostOptions::new(args.plugins.plugins.clone()))?;
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
    let host = ToolHost::new(HostOptions::new(args.plugins.plugins.clone()))?;
    let params: Value = serde_json::from_str(&args.params)
        .map_err(|error| CommandError::input(format!("--params is not JSON: {error}")))?;
    let validator =
        Validator::new(host.catalogue()).map_err(|error| CommandError::input(error.to_string()))?;
    validate_call(&json!({ "tool": args.name, "params": params }), &validator, Domain::Puzzle).map_err(
        |Refused(problems)| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            CommandError::input(format!("this tool call is not valid\n  {}", lines.join("\n  ")))
                .hint("`selkie tool list --json` prints every tool's parameters")
        },
    )?;
    let Some(tool) = host.catalogue().get(&args.name) else {
        return Err(CommandError::internal(format!("`{}` was accepted and is not loaded", args.name)));
    };
    let mut input = String::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_string(&mut input);
    read.map_err(|error| CommandError::input(format!("cannot read stdin: {error}")))?;
    let call = PlannedCall {
        tool: tool.name.clone(),
        plugin: tool.plugin.clone(),
        params: params.to_string(),
        seed: args.seed,
    };
    let bad = |error: serde_json::Error| {
        CommandError::input(format!("stdin is neither a grid nor a task: {error}"))
            .hint("a grid is rows of colours, [[0,1],[2,3]]; a task is {\"train\": [{\"input\": .., \"output\": ..}], \"test\": {..}}")
    };
    let value: Value = serde_json::from_str(&input).map_err(bad)?;
    if value.is_array() {
        let grid: Grid = serde_json::from_value(value).map_err(bad)?;
        // A tool works on tasks: a lone grid is the one example's input and output.
        let test = Example { input: grid.clone(), output: grid };
        let result = host.augment(&call, &[Task { train: Vec::new(), test }])?;
        let grids: Vec<&Grid> = result.made.iter().map(|task| &task.test.input).collect();
        match grids[..] {
            [grid] => print_compact(grid)?,
            _ => print_compact(&grids)?,
        }
    } else {
        let task: Task = serde_json::from_value(value).map_err(bad)?;
        let result = host.augment(&call, &[task])?;
        match &result.made[..] {
            [task] => print_compact(task)?,
            tasks => print_compact(&tasks)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line: grids are read by programs, and pretty-printed ones are a cell a line.
fn print_compact(value: &impl serde::Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string(value).map_err(|error| CommandError::internal(error.to_string()))?;
    super::print(&(text + "\n"))
}
