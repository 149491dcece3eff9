//! A Python with a package in it, for tests that drive official clients.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The interpreter of an environment with this package (`mcp==2.3.0`), from a folder that is kept between runs. `None`,
/// with a printed reason, where it cannot be had.
#[expect(clippy::print_stdout, reason = "a skipped test says why")]
pub(crate) fn python_with(package: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(package);
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let module = format!("import {}", package.split("==").next().unwrap_or(package));
    let has_it = |python: &Path| ran(Command::new(python).args(["-c", &module]));
    if has_it(&python).is_ok() {
        return Some(python);
    }
    let made = ran(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .and_then(|()| ran(Command::new(&python).args(["-m", "pip", "install", "--quiet", package])))
        .and_then(|()| has_it(&python));
    match made {
        Ok(()) => Some(python),
        Err(error) => {
            println!("skipped: no Python with {package} can be had: {error}");
            None
        }
    }
}

fn ran(command: &mut Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}
