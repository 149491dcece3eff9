//! `selkie worker`: this program as a process that another of its kind can kill. Not for people.

use std::process::ExitCode;

use selkie_tools::worker;

use crate::args::WorkerCommand;

/// Does the job.
pub(crate) fn run(command: WorkerCommand) -> ExitCode {
    match command {
        WorkerCommand::Native => worker::serve_native(),
        WorkerCommand::Compile => worker::serve_compile(),
    }
}
