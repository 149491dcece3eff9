//! A Python with a package in it, for tests that drive real clients. The tests of other crates include it by its
//! path.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of a virtual environment with this package, made in `folder` on the first call and kept.
/// `None`, with a printed reason, where it cannot be made.
#[expect(clippy::print_stdout, reason = "a skipped test says why")]
pub(crate) fn python_with(package: &str, folder: &Path) -> Option<PathBuf> {
    let environment = folder.join(format!("python-{package}"));
    let (python, ready) = (environment.join("bin/python"), environment.join("ready"));
    if ready.is_file() {
        return Some(python);
    }
    // What an earlier attempt left behind would be taken for the environment.
    drop(std::fs::remove_dir_all(&environment));
    let path = environment.display().to_string();
    let made = run("python3", &["-m", "venv", &path]).and_then(|()| {
        let program = python.display().to_string();
        run(&program, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package])
    });
    match made.and_then(|()| std::fs::write(&ready, package).map_err(|error| error.to_string())) {
        Ok(()) => Some(python),
        Err(reason) => {
            println!("skipped: no Python with `{package}`: {reason}");
            None
        }
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()),
    }
}
