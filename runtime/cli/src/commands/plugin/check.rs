//! `selkie plugin check`.

use std::process::ExitCode;

use serde_json::json;

use crate::args::PluginCheckArgs;
use crate::error::CommandError;

pub(super) fn run(args: &PluginCheckArgs) -> Result<ExitCode, CommandError> {
    let opened = super::opened(&args.plugin.plugin)?.with_stand_in()?;
    let laws = opened.check_laws(args.cases, args.seed);
    let is_kept = laws.broken().next().is_none();
    if args.json {
        crate::commands::print_json(&json!({
            "plugin": opened.plugin.name,
            "version": opened.plugin.version,
            "sha256": opened.plugin.digest,
            "bytes": opened.bytes,
            "contract": opened.contract,
            "imports": opened.imports,
            "asks": opened.manifest.asks,
            "kept": is_kept,
            "tools": laws.tools,
        }))?;
    } else {
        let model = match opened.asks_for_model() {
            true => "  a stand-in answers for the host model here\n",
            false => "",
        };
        let tools: String = laws.tools.iter().map(ToString::to_string).collect();
        let broken = match laws.broken().count() {
            0 => "every law that was tested held\n".to_owned(),
            count => format!("laws broken: {count}\n"),
        };
        crate::commands::print(&format!("{}{model}{tools}{broken}", super::headline(&opened)))?;
    }
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
