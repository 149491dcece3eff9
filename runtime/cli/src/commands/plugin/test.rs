//! `selkie plugin test`.

use std::path::Path;
use std::process::ExitCode;

use selkie_tools::author::{CaseReport, Opened, read_cases, run_cases};
use serde_json::json;

use crate::args::PluginTestArgs;
use crate::error::CommandError;

pub(super) fn run(args: &PluginTestArgs) -> Result<ExitCode, CommandError> {
    let opened = super::opened(&args.plugin.plugin)?;
    let Some(cases) = cases(&opened, args.cases.as_deref())? else {
        return Err(CommandError::input(format!(
            "there are no cases for `{}`: name a file with --cases",
            args.plugin.plugin.display()
        )));
    };
    let passed = cases.iter().all(|case| case.differs.is_none());
    if args.json {
        let (plugin, version) = (&opened.plugin.name, &opened.plugin.version);
        crate::commands::print_json(
            &json!({ "plugin": plugin, "version": version, "passed": passed, "cases": cases }),
        )?;
    } else {
        crate::commands::print(&text(&cases))?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A plugin's cases, run; none if there are no cases.
pub(super) fn cases(opened: &Opened, named: Option<&Path>) -> Result<Option<Vec<CaseReport>>, CommandError> {
    let Some(path) = opened.cases(named) else { return Ok(None) };
    Ok(Some(run_cases(&opened.host, &opened.plugin, &read_cases(&path)?)))
}

/// A line a case, with what is different; and how many there are.
pub(super) fn text(cases: &[CaseReport]) -> String {
    let line = |case: &CaseReport| {
        let (name, tool) = (&case.name, &case.tool);
        match &case.differs {
            None => format!("ok       {name} ({tool})\n"),
            Some(differs) => format!(
                "DIFFERS  {name} ({tool})\n  at       {}\n  expected {}\n  came     {}\n",
                differs.at, differs.expected, differs.came
            ),
        }
    };
    let lines: String = cases.iter().map(line).collect();
    let differ = match cases.iter().filter(|case| case.differs.is_some()).count() {
        0 => "all as expected".to_owned(),
        count => format!("{count} not as expected"),
    };
    format!("{lines}{} cases, {differ}\n", cases.len())
}
