//! Starting the measured processes: ours, which is this program again, and Python with the scripts beside this file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use super::request::{Answer, Request};
use crate::error::CommandError;

/// The scripts by name. The others import the first, which alone says whether everything is there.
const SCRIPTS: [(&str, &str); 4] = [
    ("common.py", include_str!("common.py")),
    ("train.py", include_str!("train.py")),
    ("decode.py", include_str!("decode.py")),
    ("seal_edit.py", include_str!("seal_edit.py")),
];

/// Lines of a failed process's stderr that are shown: the end of a Python traceback says what happened.
const STDERR_LINES: usize = 8;

/// An interpreter that has what the scripts import.
#[derive(Debug)]
pub(super) struct Python {
    interpreter: PathBuf,
    scripts: PathBuf,
}

/// What `common.py` prints when it is run alone or cannot import something.
#[derive(Deserialize)]
struct Imports {
    missing: Option<String>,
    reason: Option<String>,
}

impl Python {
    /// Writes the scripts into a folder and sees whether the interpreter can run them.
    pub(super) fn check(interpreter: &Path, scripts: &Path) -> Result<Python, CommandError> {
        for (name, text) in SCRIPTS {
            let path = scripts.join(name);
            std::fs::write(&path, text).map_err(|error| {
                CommandError::input(format!("cannot write `{}`: {error}", path.display()))
            })?;
        }
        let python = Python { interpreter: interpreter.to_owned(), scripts: scripts.to_owned() };
        let output = finish(python.command("common.py", 1), &python.name(), "")?;
        let imports: Imports = serde_json::from_slice(&output.stdout).map_err(|error| {
            CommandError::input(format!("{} did not answer as a Python does: {error}", python.name()))
        })?;
        let Some(missing) = imports.missing else { return Ok(python) };
        let reason = imports.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Err(CommandError::input(format!("{} cannot import `{missing}`{reason}", python.name())).hint(
            format!(
                "`{} -m pip install torch transformers peft` installs what is needed",
                interpreter.display()
            ),
        ))
    }

    /// Measures their side.
    pub(super) fn run(&self, request: &Request) -> Result<Answer, CommandError> {
        ask(self.command(request.work.script(), request.threads), &self.name(), request)
    }

    fn name(&self) -> String {
        format!("the Python interpreter `{}`", self.interpreter.display())
    }

    fn command(&self, script: &str, threads: usize) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.arg(self.scripts.join(script)).env("HF_HUB_OFFLINE", "1").env("PYTHONDONTWRITEBYTECODE", "1");
        for pool in ["OMP_NUM_THREADS", "MKL_NUM_THREADS"] {
            command.env(pool, threads.to_string());
        }
        command
    }
}

/// Measures our side.
pub(super) fn ours(request: &Request) -> Result<Answer, CommandError> {
    let program = std::env::current_exe()
        .map_err(|error| CommandError::internal(format!("cannot find this program: {error}")))?;
    let mut command = Command::new(program);
    command.args(["bench", "side"]).env("RAYON_NUM_THREADS", request.threads.to_string());
    ask(command, "our side", request)
}

fn ask(command: Command, name: &str, request: &Request) -> Result<Answer, CommandError> {
    let text = serde_json::to_string(request).map_err(|error| CommandError::internal(error.to_string()))?;
    let output = finish(command, name, &text)?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| CommandError::input(format!("{name} did not answer with a measurement: {error}")))
}

fn finish(mut command: Command, name: &str, stdin: &str) -> Result<Output, CommandError> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| CommandError::input(format!("cannot start {name}: {error}")))?;
    let pipe = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // From another thread, since the child may fill stderr before it reads. That it may end before it has
        // read everything is no error by itself.
        scope.spawn(|| pipe.map(|mut pipe| pipe.write_all(stdin.as_bytes())));
        child.wait_with_output()
    });
    let output =
        output.map_err(|error| CommandError::internal(format!("cannot wait for {name}: {error}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().collect();
    let end = lines.get(lines.len().saturating_sub(STDERR_LINES)..).unwrap_or_default();
    let text: String = end.iter().map(|line| format!("\n  {line}")).collect();
    Err(CommandError::input(format!("{name} failed ({}){text}", output.status)))
}
