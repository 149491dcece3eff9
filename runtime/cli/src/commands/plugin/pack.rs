//! `selkie plugin pack`.

use std::process::ExitCode;

use selkie_tools::author::{LAW_CASES, pack};

use crate::args::PluginPackArgs;
use crate::error::CommandError;

pub(super) fn run(args: &PluginPackArgs) -> Result<ExitCode, CommandError> {
    let opened = super::opened(&args.plugin.plugin)?;
    let cases = super::test::cases(&opened, args.cases.as_deref())?.unwrap_or_default();
    let opened = opened.with_stand_in()?;
    let laws = opened.check_laws(LAW_CASES, 1);
    match pack(&opened, &laws, &cases, &args.out)? {
        Some(packed) => {
            let count = cases.len();
            crate::commands::print(&format!(
                "{}: {}, sha256 {}\n{}: what is in it\n  laws checked, {count} cases as expected\n",
                packed.component.display(),
                opened.plugin,
                opened.plugin.digest,
                packed.list.display(),
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            let broken = laws.broken().map(|broken| format!("{broken}\n"));
            let differ = cases.iter().filter(|case| case.differs.is_some()).cloned().collect::<Vec<_>>();
            let differ = if differ.is_empty() { String::new() } else { super::test::text(&differ) };
            eprintln!("no: {} is not packed\n{}{differ}", opened.plugin, broken.collect::<String>());
            Ok(ExitCode::FAILURE)
        }
    }
}
