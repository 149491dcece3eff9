//! `selkie report`: what runs of the outer loop came to, for people.

use std::process::ExitCode;

use selkie_outer::{report, summarise};
use selkie_store::RunLedger;

use crate::args::ReportArgs;
use crate::error::CommandError;

/// Writes the page and prints the text.
pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode, CommandError> {
    let ledgers =
        args.runs.iter().map(|folder| RunLedger::read_only(folder)).collect::<Result<Vec<_>, _>>()?;
    let summary = summarise(&ledgers)?;
    let html = args.html.clone().or_else(|| Some(args.runs.first()?.join("report.html")));
    if let Some(path) = &html {
        std::fs::write(path, report::html(&summary)).map_err(|error| super::write_error(path, &error))?;
    }
    match args.json {
        true => super::print_json(&summary)?,
        false => super::print(&report::text(&summary))?,
    }
    if let Some(path) = html {
        eprintln!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
