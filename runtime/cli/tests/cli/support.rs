//! A hermetic place to run the command in.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

/// What differs from run to run, by name. The folder of the test is `[TEMP]`.
const FILTERS: [(&str, &str); 6] = [
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", "[TIME]"),
    (r#""time_ms": [0-9]+"#, r#""time_ms": [TIME]"#),
    (r"\b[0-9]+\.[0-9]+ s\b", "[SECONDS]"),
    (r#""seconds": [0-9.]+"#, r#""seconds": [SECONDS]"#),
    (r"\b([0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{12}|[0-9a-f]{8})\b", "[DIGEST]"),
    (r"-?\b[0-9]+\.[0-9]+ -> -?[0-9]+\.[0-9]+\b", "[SCORE] -> [SCORE]"),
];

/// A folder of its own, with the home of the command in it, and none of the user's environment.
pub(crate) struct TestEnvironment {
    folder: TempDir,
}

impl TestEnvironment {
    pub(crate) fn new() -> TestEnvironment {
        TestEnvironment { folder: tempfile::tempdir().expect("a folder") }
    }

    /// A path in the folder, which is also where the command runs: there, relative paths do.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), contents).expect("a written file");
    }

    /// The command, ready to start.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_selkie"));
        command.args(args).current_dir(self.folder.path()).env_clear();
        // Windows starts nothing without the second.
        for variable in ["PATH", "SystemRoot"] {
            command.envs(std::env::var_os(variable).map(|value| (variable, value)));
        }
        // Compiled plugins are shared by all tests.
        command.env("SELKIE_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
        command.env("HOME", self.folder.path()).env("SELKIE_HOME", self.path("home")).env("NO_COLOR", "1");
        command
    }

    pub(crate) fn run(&self, args: &[&str], stdin: &str) -> Output {
        self.finish(self.command(args), stdin)
    }

    /// Runs a command that [`Self::command`] made.
    pub(crate) fn finish(&self, mut command: Command, stdin: &str) -> Output {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        // From another thread, because the command may answer before it has read everything. That it may also
        // end before, and break the pipe, is no error.
        let (mut pipe, stdin) = (child.stdin.take().expect("its stdin"), stdin.to_owned());
        let writer = std::thread::spawn(move || pipe.write_all(stdin.as_bytes()));
        let output = child.wait_with_output().expect("it ends");
        drop(writer.join().expect("no panic"));
        Output {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
            folder: self.folder.path().display().to_string(),
        }
    }

    /// Adapts and gives the report.
    pub(crate) fn adapt(&self, context: &str, more: &[&str]) -> Value {
        self.run(&[&["adapt", context, "--json"], more].concat(), "").json()
    }

    /// `selkie log --json` of a home.
    pub(crate) fn log(&self, home: &str) -> Value {
        self.run(&["log", "--home", home, "--limit", "1000", "--json"], "").json()
    }
}

/// What a run of the command left. Its text has everything, with the filters applied.
#[must_use = "compare it with a snapshot, or say that it succeeds"]
pub(crate) struct Output {
    /// `None` when it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    folder: String,
}

impl Output {
    /// What it printed; a failure fails the test.
    pub(crate) fn succeeds(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        self.stdout
    }

    /// The one JSON document that it printed, with nothing beside it.
    pub(crate) fn json(self) -> Value {
        assert_eq!(self.stderr, "", "{self}");
        let text = self.succeeds();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }
}

impl Display for Output {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("none".to_owned(), |code| code.to_string());
        let mut text = format!("exit code: {code}\n");
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                text.push_str(&format!("----- {name}\n{stream}"));
            }
        }
        f.write_str(&filtered(text.replace(&self.folder, "[TEMP]")))
    }
}

/// A text with the filters applied.
pub(crate) fn filtered(text: String) -> String {
    FILTERS.iter().fold(text, |text, (pattern, name)| {
        Regex::new(pattern).expect("a pattern").replace_all(&text, *name).into_owned()
    })
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of a bundled model, `facts` or `puzzles`.
pub(crate) fn pup(world: &str) -> PathBuf {
    repository().join("runtime/learn/pup").join(world)
}

/// A file under `examples/`, as an argument.
pub(crate) fn example(name: &str) -> String {
    repository().join("examples").join(name).display().to_string()
}

/// The files of a folder under `examples/`, as arguments, sorted.
pub(crate) fn examples(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(repository().join("examples").join(folder)).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").path().display().to_string()).collect();
    names.sort();
    names
}

/// Every file under a folder (or the one file) with its bytes; empty where there is nothing.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut paths = vec![root.to_owned()];
    while let Some(path) = paths.pop() {
        if let Ok(entries) = std::fs::read_dir(&path) {
            paths.extend(entries.map(|entry| entry.expect("an entry").path()));
            found.insert(path, Vec::new());
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.insert(path, bytes);
        }
    }
    found
}

/// Whether plugins are to be built here, and can be.
#[expect(clippy::print_stdout, reason = "a skipped test says why")]
pub(crate) fn can_build_plugins() -> bool {
    if std::env::var_os("SELKIE_BUILD_PLUGINS").is_none() {
        println!("skipped: set SELKIE_BUILD_PLUGINS=1 to build plugins from source");
        return false;
    }
    selkie_tools::build::toolchain().map_err(|error| println!("skipped: {error}")).is_ok()
}

/// The files of the bundled model for passages, without its policy.
pub(crate) fn base_files() -> Vec<(PathBuf, Vec<u8>)> {
    let of_model = |path: &Path| !path.components().any(|part| part.as_os_str() == "policy");
    tree(&pup("facts")).into_iter().skip(1).filter(|(path, _)| of_model(path)).collect()
}
