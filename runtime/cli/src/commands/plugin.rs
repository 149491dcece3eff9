//! `selkie plugin build`, `check` and `verify`.

use std::process::ExitCode;

use selkie_tools::build::{self, BuildError, Verified};

use crate::args::{PluginCommand, PluginVerifyArgs};
use crate::error::CommandError;

/// Runs one of the three.
pub(crate) fn run(command: &PluginCommand) -> Result<ExitCode, CommandError> {
    match command {
        PluginCommand::Build(args) => {
            let report = build::build(&args.dir, args.out.as_deref()).map_err(build_error)?;
            super::print(&format!(
                "{}: {} {}\n  {} bytes, sha256 {}\n  built by {}\n",
                report.path.display(),
                report.plugin.name,
                report.plugin.version,
                report.bytes,
                report.plugin.digest,
                report.toolchain
            ))?;
        }
        PluginCommand::Check(args) => {
            let report = build::check(&args.component)?;
            let tools: String = report
                .manifest
                .tools
                .iter()
                .map(|tool| format!("  {}  {}\n", tool.name, tool.summary))
                .collect();
            super::print(&format!("{}: sha256 {}\n{tools}", report.plugin, report.plugin.digest))?;
        }
        PluginCommand::Verify(args) => return verify(args),
    }
    Ok(ExitCode::SUCCESS)
}

/// A component of the recorded toolchain must have the recorded bytes; one of another toolchain must load.
fn verify(args: &PluginVerifyArgs) -> Result<ExitCode, CommandError> {
    for verified in build::verify_dist(&args.dist).map_err(build_error)? {
        let line = match verified {
            Verified::Same(built) => {
                format!("{}: the same bytes, sha256 {}\n", built.plugin, built.plugin.digest)
            }
            Verified::OtherToolchain { built, recorded } => format!(
                "{}: built by {} where the committed one was by {recorded}; run the vectors through {}\n",
                built.plugin,
                built.toolchain,
                built.path.display()
            ),
        };
        super::print(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn build_error(error: BuildError) -> CommandError {
    CommandError::input(error.to_string())
}
