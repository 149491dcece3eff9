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
    let Some(packed) = pack(&opened, &laws, &cases, &args.out)? else {
        let broken: String = laws.broken().map(|broken| format!("\n{broken}")).collect();
        let differ: Vec<_> = cases.into_iter().filter(|case| case.differs.is_some()).collect();
        let differ = if differ.is_empty() { String::new() } else { super::test::text(&differ) };
        return Err(CommandError::no(
            format!("{} is not packed{broken}\n{differ}", opened.plugin).trim_end(),
        ));
    };
    crate::commands::print(&format!(
        "{}: {}, sha256 {}\n{}: what is in it\n  laws checked, {} cases as expected\n",
        packed.component.display(),
        opened.plugin,
        opened.plugin.digest,
        packed.list.display(),
        cases.len(),
    ))?;
    Ok(ExitCode::SUCCESS)
}
