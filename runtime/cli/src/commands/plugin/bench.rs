//! `selkie plugin bench`.

use std::process::ExitCode;

use selkie_tools::author::{BenchReport, BudgetUse, ToolBench, WARN_PERCENT, bench, bench_cases, read_cases};

use crate::args::PluginBenchArgs;
use crate::error::CommandError;

pub(super) fn run(args: &PluginBenchArgs) -> Result<ExitCode, CommandError> {
    let opened = super::opened(&args.plugin.plugin)?;
    let report = match &args.cases {
        Some(path) => bench_cases(opened, &read_cases(path)?, args.repeats)?,
        None => bench(opened, args.repeats, args.seed)?,
    };
    if args.json {
        crate::commands::print_json(&report)?;
    } else {
        crate::commands::print(&text(&report))?;
    }
    let Some(percent) = args.fail_over else { return Ok(ExitCode::SUCCESS) };
    let over: Vec<String> = report.over(percent).map(|(tool, budget)| over(tool, budget)).collect();
    match over.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(CommandError::no(format!("over {percent}%: {}", over.join(", ")))),
    }
}

fn over(tool: &str, budget: Option<&BudgetUse>) -> String {
    budget.map_or_else(
        || format!("{tool} failed"),
        |budget| format!("{tool} {} {:.1}%", budget.limit, budget.percent),
    )
}

fn text(report: &BenchReport) -> String {
    let tools: String = report.tools.iter().map(tool_text).collect();
    format!("{} {}\n{tools}", report.plugin, report.version)
}

fn tool_text(tool: &ToolBench) -> String {
    let mut text = tool.tool.clone() + "\n";
    if let Some(measured) = &tool.measured {
        text += &format!(
            "  {} items in {:.1} ms (median of {}), most fuel with {}\n",
            measured.items, measured.milliseconds, measured.repeats, measured.params
        );
        for budget in &measured.budgets {
            let mark = if budget.percent > WARN_PERCENT { "  more than half of the limit" } else { "" };
            text += &format!(
                "  {:<13} {:>13} of {:>13} {:>6.1}%{mark}\n",
                budget.limit.to_string(),
                budget.used,
                budget.max,
                budget.percent
            );
        }
    }
    match (&tool.error, tool.failed, &tool.measured) {
        (Some(error), failed, _) => text += &format!("  {failed} batches failed, the first of {error}\n"),
        (None, _, None) => text += "  not measured: no case of it has an answer\n",
        (None, _, Some(_)) => {}
    }
    text
}
