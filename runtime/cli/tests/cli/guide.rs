//! `sdk/GUIDE.md`, executed as it is written: its files are written, its commands run, its outputs compared.
//!
//! It compiles, so it runs with `SELKIE_BUILD_PLUGINS=1` and where a compiler for WebAssembly is. With
//! `SELKIE_UPDATE=1` the outputs in the guide are written anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

use crate::support::{TestEnvironment, can_build_plugins, filtered, repository};

/// What depends on the compiler or on the moment, beside what [`filtered`] knows.
const VARYING: [(&str, &str); 6] = [
    (r"[0-9]+ bytes", "[COUNT] bytes"),
    (r"built by .*", "built by [TOOLCHAIN]"),
    (r"in [0-9.]+ ms", "in [TIME] ms"),
    (r"finished in [0-9.]+s", "finished in [TIME]"),
    (r"most fuel with .*", "most fuel with [PARAMS]"),
    (r"(?m)^(  [a-z_]+) +[0-9]+ of +([0-9]+) +[0-9.]+%", "$1 [COUNT] of $2 [PERCENT]"),
];

/// The guide from its top: text and file blocks as they are, commands with their outputs.
struct Walk<'a> {
    env: &'a TestEnvironment,
    folder: PathBuf,
    /// The guide with the outputs that came.
    seen: String,
    differences: Vec<String>,
}

impl Walk<'_> {
    fn run(&mut self, command: &str, expected: &str) {
        self.seen += &format!("$ {command}\n");
        if let Some(folder) = command.strip_prefix("cd ") {
            self.folder = self.folder.join(folder).canonicalize().expect("the folder of a `cd`");
            return;
        }
        let came = self.output(command);
        let varying = |text: &str| {
            // Before the digests: a number of eight digits looks like one.
            let text = VARYING.iter().fold(text.to_owned(), |text, (pattern, name)| {
                Regex::new(pattern).expect("a pattern").replace_all(&text, *name).into_owned()
            });
            filtered(text)
        };
        if varying(&came) == varying(expected) {
            self.seen += expected;
        } else {
            self.differences.push(format!("$ {command}\n{came}"));
            self.seen += &came;
        }
    }

    /// What is printed; of stderr, to which cargo writes too, what selkie says of errors.
    fn output(&self, command: &str) -> String {
        let binary = Path::new(env!("CARGO_BIN_EXE_selkie"));
        let own = binary.parent().expect("a folder").to_path_buf();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([own].into_iter().chain(std::env::split_paths(&path)));
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(&self.folder).env_clear();
        for variable in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            shell.envs(std::env::var_os(variable).map(|value| (variable, value)));
        }
        shell.env("PATH", path.expect("a path")).env("NO_COLOR", "1").env("LC_ALL", "C");
        shell.env("SELKIE_CACHE", self.env.path("cache"));
        // Kept between runs: what is built for this machine need not be built again.
        shell.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide"));
        let output = shell.output().expect("a shell");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let said = |line: &&str| ["error:", "hint:", "no:", "  "].iter().any(|start| line.starts_with(start));
        let errors = stderr.lines().skip_while(|line| !line.starts_with("error:")).filter(said);
        stdout.into_owned() + &errors.map(|line| format!("{line}\n")).collect::<String>()
    }

    /// One fenced block, without its fences.
    fn block(&mut self, before: &str, language: &str, body: &str) {
        if language != "console" {
            let named = Regex::new(r"`([^`]+)`:$").expect("a pattern");
            let name = &named.captures(before).unwrap_or_else(|| panic!("no file is named in {before:?}"))[1];
            self.env.write(name, body);
            self.seen += body;
            return;
        }
        for command in body.split("$ ").filter(|command| !command.is_empty()) {
            let (command, expected) = command.split_once('\n').expect("a command is a line");
            self.run(command, expected);
        }
    }
}

#[test]
fn the_guide_works_as_it_is_written() {
    if !can_build_plugins() {
        return;
    }
    let path = repository().join("sdk/GUIDE.md");
    let guide = std::fs::read_to_string(&path).expect("the guide");
    let env = TestEnvironment::new();
    let mut walk = Walk { folder: env.path(""), env: &env, seen: String::new(), differences: Vec::new() };
    for (index, part) in guide.split("```").enumerate() {
        match index % 2 {
            0 => walk.seen += part,
            _ => {
                let (language, body) = part.split_once('\n').expect("a fence is a line");
                let before = walk.seen.trim_end().lines().last().unwrap_or_default().to_owned();
                walk.seen += &format!("```{language}\n");
                walk.block(&before, language, body);
                walk.seen += "```";
            }
        }
    }
    if std::env::var_os("SELKIE_UPDATE").is_some() {
        std::fs::write(&path, &walk.seen).expect("the guide");
        return;
    }
    assert!(
        walk.differences.is_empty(),
        "the guide says something else than:\n{}",
        walk.differences.join("\n")
    );
}
