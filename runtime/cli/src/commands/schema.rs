//! `selkie schema`.

use std::process::ExitCode;

use selkie_edit::schema::{compose, seal_arc_schema};
use selkie_tools::ToolHost;

use crate::args::SchemaArgs;
use crate::error::CommandError;
use crate::settings;

/// Prints the schema.
pub(crate) fn run(args: &SchemaArgs) -> Result<ExitCode, CommandError> {
    let host = ToolHost::new(settings::host(&args.plugins))?;
    match args.seal_arc {
        true => super::print_json(&seal_arc_schema())?,
        false => super::print_json(&compose(host.catalogue()))?,
    }
    Ok(ExitCode::SUCCESS)
}
