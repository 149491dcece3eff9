//! `selkie replay`.

use std::process::ExitCode;

use selkie_engine::{Event, Runtime, model_files, replay};
use selkie_store::Store;

use crate::args::ReplayArgs;
use crate::commands::show::find_entry;
use crate::error::CommandError;
use crate::{progress, settings};

/// Does an entry again. Exit code 1 when something differs.
pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode, CommandError> {
    let reader = Store::read_only(settings::home(&args.home))?;
    let entry = find_entry(&reader, &args.id)?;
    let domain = entry.episode().map(|episode| episode.record.context.domain);
    let domain = domain
        .ok_or_else(|| CommandError::input(format!("{} is a rollback: nothing to replay", entry.id)))?;
    let files = model_files(args.model.model.as_deref(), domain)?;
    let compute = args.device.device.resolve()?;
    let runtime = Runtime::open_on(&files, args.plugins.options(), &compute)?;
    let bar = progress::bar(0);
    let replayed = replay(&runtime, &reader, &entry, &mut |event| {
        if let Event::Step(stats) = event {
            bar.set_length(stats.steps);
            bar.set_position(stats.step + 1);
        }
    })?;
    bar.finish_and_clear();
    match replayed.difference {
        None => {
            super::print(&format!("{}: the same, adapter {} byte for byte\n", entry.id, replayed.adapter))?;
            Ok(ExitCode::SUCCESS)
        }
        Some(difference) => {
            super::print(&format!(
                "{}: differs, first in {}\n  recorded: {}\n  replayed: {}\n",
                entry.id, difference.what, difference.recorded, difference.replayed
            ))?;
            Ok(ExitCode::from(1))
        }
    }
}
