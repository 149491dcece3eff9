//! `selkie plugin ...`: what an author of plugins types. What is found out is in `selkie_tools::author`.

mod bench;
mod check;
mod inspect;
mod pack;
mod test;

use std::path::Path;
use std::process::ExitCode;

use selkie_tools::author::{AuthorError, Import, NewPlugin, Opened, open};
use selkie_tools::build::{self, BuildError, Verified};
use selkie_tools::{Needs, ToolError};
use serde_json::Value;

use crate::args::{
    PluginBuildArgs, PluginCommand, PluginNewArgs, PluginRunArgs, PluginVerifyArgs, StarterLanguage,
};
use crate::error::{CommandError, chain};
use crate::settings;

/// Runs one of them.
pub(crate) fn run(command: &PluginCommand) -> Result<ExitCode, CommandError> {
    match command {
        PluginCommand::New(args) => new(args),
        PluginCommand::Build(args) => build(args),
        PluginCommand::Check(args) => check::run(args),
        PluginCommand::Test(args) => test::run(args),
        PluginCommand::Bench(args) => bench::run(args),
        PluginCommand::Run(args) => run_tool(args),
        PluginCommand::Inspect(args) => inspect::run(args),
        PluginCommand::Pack(args) => pack::run(args),
        PluginCommand::Verify(args) => verify(args),
    }
}

fn new(args: &PluginNewArgs) -> Result<ExitCode, CommandError> {
    let plugin =
        NewPlugin { name: args.name.clone(), kind: args.kind.into(), language: args.language.into() };
    let folder = plugin.create(Path::new(""))?;
    let native = match args.language {
        StarterLanguage::Rust => "  cargo test               runs cases.json natively\n",
        _ => "",
    };
    super::print(&format!(
        "{}: {} in {}\n{native}  selkie plugin test .     builds it and runs cases.json in the sandbox\n",
        folder.display(),
        plugin.kind,
        plugin.language
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn build(args: &PluginBuildArgs) -> Result<ExitCode, CommandError> {
    let report = build::build(&args.dir, args.out.as_deref())?;
    super::print(&format!(
        "{}: {}\n  {} bytes, sha256 {}\n  built by {}\n",
        report.path.display(),
        report.plugin,
        report.bytes,
        report.plugin.digest,
        report.toolchain
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn run_tool(args: &PluginRunArgs) -> Result<ExitCode, CommandError> {
    let params: Value = serde_json::from_str(&args.params)
        .map_err(|error| CommandError::input(format!("--params is not JSON: {error}")))?;
    let opened = opened(&args.plugin.plugin)?;
    let log = super::tool::run_on_stdin(&opened.host, &args.tool, &params, args.seed)?;
    if args.log {
        // A guest's text: nothing in it moves the cursor.
        let shown = log.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c });
        eprint!("{}", shown.collect::<String>());
    }
    Ok(ExitCode::SUCCESS)
}

/// A component must load; a folder is built first.
fn opened(plugin: &Path) -> Result<Opened, CommandError> {
    Ok(open(plugin, settings::plain_host())?)
}

/// A plugin in a few lines: who it is, what it was made for, what it imports.
fn headline(opened: &Opened) -> String {
    let Opened { plugin, bytes, contract, .. } = opened;
    let about = about(Some(contract), &opened.imports);
    format!("{plugin}: sha256 {}, {bytes} bytes\n{about}", plugin.digest)
}

fn about(contract: Option<&str>, imports: &[Import]) -> String {
    let version = contract.map_or_else(
        || "  not a plugin: it exports no manifest\n".to_owned(),
        |version| format!("  made for version {version} of the plugin interface\n"),
    );
    let line = |import: &Import| {
        let needs = match import.needs {
            Needs::Nothing => "given to every plugin",
            Needs::Stub => "links, and reaches nothing",
            Needs::TwoKeys => "needs \"asks\": [\"host_model\"] in its manifest, and `--grant PLUGIN`",
            Needs::Refused => "given to no plugin",
        };
        // A name that a guest chose.
        let name: String = import.name.chars().filter(|c| !c.is_control()).take(100).collect();
        format!("  imports {name}: {needs}\n")
    };
    let imports: String = imports.iter().map(line).collect();
    let none = if imports.is_empty() { "  imports nothing\n" } else { "" };
    format!("{version}{none}{imports}")
}

/// A component of the recorded toolchain must have the recorded bytes; one of another toolchain must load.
fn verify(args: &PluginVerifyArgs) -> Result<ExitCode, CommandError> {
    for verified in build::verify_dist(&args.dist)? {
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

impl From<BuildError> for CommandError {
    fn from(error: BuildError) -> CommandError {
        match error {
            BuildError::Load(error) => {
                CommandError::input(format!("the component was built but does not load: {}", chain(&error)))
            }
            error => CommandError::input(chain(&error)),
        }
    }
}

impl From<AuthorError> for CommandError {
    fn from(error: AuthorError) -> CommandError {
        match error {
            AuthorError::Build(error) => error.into(),
            AuthorError::Tool(error @ ToolError::NotAComponent { .. }) => CommandError::from(error)
                .hint("`selkie plugin inspect FILE` shows what can be read of a file that does not load"),
            AuthorError::Tool(error) => error.into(),
            error => CommandError::input(chain(&error)),
        }
    }
}
