//! The selkie command: words, pictures and exit codes. What is done is done in the other rooms.

mod args;
mod commands;
mod error;
mod picture;
mod progress;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::commands::run;

/// Training allocates and frees the same few megabytes at every step; this allocator keeps them instead of
/// handing them back to the system, which costs a fifth of a small model's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}
