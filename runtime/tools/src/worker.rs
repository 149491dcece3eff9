//! Work that is done in another process of the same program, because it may have to be killed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// How the program starts itself as a worker: `program args.. job`. There it calls the function here that has the
/// job's name, and ends with what that returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The program, by an absolute path.
    pub program: PathBuf,
    /// What comes before the name of the job.
    pub args: Vec<OsString>,
}

impl Worker {
    pub(crate) fn command(&self, job: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).arg(job);
        command
    }
}

/// The job `native`: one call of a native plugin ([`crate::native`]), as the parent process asks on the socket that
/// is this process's stdout.
pub fn serve_native() -> ExitCode {
    crate::native::serve()
}
