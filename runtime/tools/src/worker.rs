//! Work that is done in another process of the same program, because it may have to be killed.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use wasmtime::Engine;

use crate::error::scrub;
use crate::limits::{COMPILE_MEMORY_BYTES_MAX, COMPONENT_BYTES_MAX, ERROR_BYTES_MAX};

/// Bytes of compiled code that are taken from a process that compiles: ten times the largest component.
const CODE_BYTES_MAX: u64 = 10 * COMPONENT_BYTES_MAX as u64;

/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(5);

/// The exit code of a process whose component was refused; stdout says why.
const REFUSED: u8 = 1;

/// How the program starts itself as a worker: `program args.. job`. There it calls the function here that has the
/// job's name, and ends with what that returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// The program, by an absolute path.
    pub program: PathBuf,
    /// What comes before the name of the job.
    pub args: Vec<OsString>,
}

/// Why a process gave no code.
#[derive(Debug)]
pub(crate) enum CompileError {
    /// The component is none; the compiler's words.
    Refused(String),
    /// The time was up.
    Deadline,
    /// The process itself failed: what it did.
    Worker(String),
}

impl Worker {
    pub(crate) fn command(&self, job: &str) -> Command {
        let mut command = Command::new(&self.program);
        // What stands in the environment (a token, say) is nothing that a plugin's code should lie beside.
        command.env_clear().args(&self.args).arg(job);
        command
    }

    /// Compiles a component in a process that is killed at the deadline.
    pub(crate) fn compile(&self, component: &[u8], deadline: Duration) -> Result<Vec<u8>, CompileError> {
        let until = Instant::now() + deadline;
        let failed = |error: std::io::Error| {
            CompileError::Worker(format!("does not start from `{}`: {error}", self.program.display()))
        };
        let mut command = self.command("compile");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Ended(command.spawn().map_err(failed)?);
        let (stdin, stdout) = (process.0.stdin.take(), process.0.stdout.take());
        thread::scope(|scope| {
            // A process that is killed closes its ends, which ends both threads.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(component)));
            let code = scope.spawn(move || {
                let mut code = Vec::new();
                stdout.map(|stdout| stdout.take(CODE_BYTES_MAX).read_to_end(&mut code));
                code
            });
            let status = loop {
                match process.0.try_wait() {
                    Ok(Some(status)) => break Ok(status),
                    Ok(None) if code.is_finished() && Instant::now() < until => thread::sleep(LOOK / 5),
                    Ok(None) if Instant::now() < until => thread::sleep(LOOK),
                    Ok(None) => break Err(CompileError::Deadline),
                    Err(error) => break Err(CompileError::Worker(format!("is lost: {error}"))),
                }
            };
            process.end();
            let code = code.join().unwrap_or_default();
            let status = status?;
            match status.code() {
                Some(0) => Ok(code),
                Some(1) => Err(CompileError::Refused(String::from_utf8_lossy(&code).into_owned())),
                _ => Err(CompileError::Worker(format!("ended with {status}"))),
            }
        })
    }
}

/// A process that does not outlive its use.
struct Ended(Child);

impl Ended {
    fn end(&mut self) {
        // A process that has ended already is not there to be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.end();
    }
}

/// The job `native`: one call of a native plugin ([`crate::native`]), as the parent process asks on the socket that
/// is this process's stdout.
pub fn serve_native() -> ExitCode {
    crate::native::serve()
}

/// The job `compile`: a component on stdin to code on stdout, or to the reason why not and exit code 1.
pub fn serve_compile() -> ExitCode {
    crate::native::bound_memory(COMPILE_MEMORY_BYTES_MAX);
    let mut component = Vec::new();
    let read = std::io::stdin().lock().take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut component);
    if read.is_err() {
        return ExitCode::from(2);
    }
    let compiled =
        Engine::new(&crate::engine::config()).and_then(|engine| engine.precompile_component(&component));
    let (answer, code) = match compiled {
        Ok(code) => (code, ExitCode::SUCCESS),
        Err(error) => (scrub(&format!("{error:#}"), ERROR_BYTES_MAX).into_bytes(), ExitCode::from(REFUSED)),
    };
    match std::io::stdout().lock().write_all(&answer) {
        Ok(()) => code,
        // Nobody reads it any more.
        Err(_) => ExitCode::from(2),
    }
}
