//! The selkie command: words, pictures and exit codes. What is done is done in the other rooms.

mod args;
mod commands;
mod error;
mod picture;
mod progress;
mod settings;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::commands::run;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    // A worker trains nothing, and its memory may be limited.
    if !matches!(command, Command::Worker(_)) {
        keep_freed_memory();
    }
    match run(command) {
        Ok(code) => code,
        Err(error) => error.report(),
    }
}

/// Training allocates and frees the same few megabytes at every step. The C library hands blocks of that size back
/// to the system and has them cleared again, which costs a fifth of a small model's time; told so, it keeps them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_freed_memory() {
    const MEGABYTE: libc::c_int = 1 << 20;
    #[expect(unsafe_code, reason = "the C library's setting has no safe door")]
    // SAFETY: these set numbers of the allocator; an unknown setting or value is refused and changes nothing.
    unsafe {
        // Larger blocks are mapped one by one: kept, they would leave holes, and their clearing is little beside
        // what is computed with them.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 8 * MEGABYTE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 * MEGABYTE);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_freed_memory() {}
