//! `selkie export`.

use std::process::ExitCode;

use selkie_store::Store;

use crate::args::ExportArgs;
use crate::error::CommandError;
use crate::settings;

/// Copies a generation's PEFT folder.
pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode, CommandError> {
    let reader = Store::read_only(settings::home(&args.home))?;
    let generation = reader.find_generation(&args.generation)?;
    reader.export(generation.id, &args.out)?;
    super::print(&format!("{} (adapter {}) in {}\n", generation.id, generation.adapter, args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}
