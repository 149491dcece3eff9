//! `selkie plugin inspect`.

use std::process::ExitCode;

use selkie_tools::author::{Inspection, inspect};
use selkie_tools::manifest::{Capability, ToolManifest};

use crate::args::PluginInspectArgs;
use crate::error::CommandError;
use crate::settings;

/// One that is refused is shown all the same; the answer to whether it could be used is then no.
pub(super) fn run(args: &PluginInspectArgs) -> Result<ExitCode, CommandError> {
    let found = inspect(&args.component, settings::plain_host())?;
    match args.json {
        true => crate::commands::print_json(&found)?,
        false => crate::commands::print(&text(&args.component.display().to_string(), &found))?,
    }
    Ok(if found.refused.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(file: &str, found: &Inspection) -> String {
    let digest = found.sha256.as_ref().map_or(String::new(), |digest| format!(", sha256 {digest}"));
    let mut text = format!("{file}: {} bytes{digest}\n", found.bytes);
    if let Some(refused) = &found.refused {
        text += &format!("  refused: {refused}\n");
    }
    if found.refused.is_none() || found.contract.is_some() || !found.imports.is_empty() {
        text += &super::about(found.contract.as_deref(), &found.imports);
    }
    if let Some(manifest) = &found.manifest {
        let asks = manifest.asks.iter().map(|ask| match ask {
            Capability::HostModel => "host_model",
        });
        let asks = asks.collect::<Vec<_>>().join(", ");
        let asks = if asks.is_empty() { "nothing" } else { &asks };
        text += &format!("  plugin {} {}, asks for {asks}\n", manifest.name, manifest.version);
        text += &manifest.tools.iter().map(tool_text).collect::<String>();
    }
    text
}

fn tool_text(tool: &ToolManifest) -> String {
    let takes = tool.takes.map_or(String::new(), |takes| format!(" of {takes:?}").to_lowercase());
    let laws: Vec<&str> = tool.laws.declared().map(|law| law.name()).collect();
    let laws = if laws.is_empty() { "none".to_owned() } else { laws.join(", ") };
    format!(
        "{}: {}{takes}\n  {}\n  params {}\n  laws {laws}\n",
        tool.name, tool.kind, tool.summary, tool.params
    )
}
