//! One command a file.

mod adapt;
mod agent;
mod bench;
mod chat;
mod doctor;
mod edit;
mod export;
mod generate;
mod log;
mod mcp;
mod merge;
mod plugin;
mod pretrain;
mod replay;
mod report;
mod rest_em;
mod rollback;
mod schema;
mod score;
mod serve;
mod show;
mod text;
mod tool;
mod train;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use crate::args::Command;
use crate::error::CommandError;

/// Runs a command.
pub(crate) fn run(command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Adapt(args) => adapt::run(&args),
        Command::Bench(command) => bench::run(command),
        Command::Doctor(args) => doctor::run(&args),
        Command::Edit(command) => edit::run(&command),
        Command::Schema(args) => schema::run(&args),
        Command::Tool(command) => tool::run(&command),
        Command::Plugin(command) => plugin::run(&command),
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Export(args) => export::run(&args),
        Command::RestEm(command) => rest_em::rest_em(&command),
        Command::Eval(command) => rest_em::eval(&command),
        Command::Report(args) => report::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Mcp(args) => mcp::run(&args),
        Command::Worker(command) => Ok(worker::run(command)),
    }
}

/// Writes data to stdout. A reader that went away (`selkie log | head`) is no error.
fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::internal(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// A file that cannot be written.
fn write_error(path: &std::path::Path, error: &std::io::Error) -> CommandError {
    CommandError::input(format!("cannot write `{}`: {error}", path.display()))
}

/// Writes one JSON document to stdout.
fn print_json(value: &impl serde::Serialize) -> Result<(), CommandError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| CommandError::internal(error.to_string()))?;
    print(&(text + "\n"))
}
