//! The rules of the house: which room may know which, and what every file owes its reader. Each test collects all
//! violations of its rule and prints them together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The crates of `runtime`, and which of our own crates each may depend on. A new room is a line here, a section
/// of ARCHITECTURE.md, and a decision.
const ROOMS: [(&str, &[&str]); 8] = [
    ("selkie-edit", &[]),
    ("selkie-tools", &["selkie-edit"]),
    ("selkie-learn", &["selkie-edit"]),
    ("selkie-store", &["selkie-edit"]),
    ("selkie-engine", &["selkie-edit", "selkie-tools", "selkie-learn", "selkie-store"]),
    ("selkie-outer", &["selkie-edit", "selkie-tools", "selkie-learn", "selkie-store", "selkie-engine"]),
    ("selkie-serve", &["selkie-edit", "selkie-tools", "selkie-learn", "selkie-store", "selkie-engine"]),
    (
        "selkie",
        &[
            "selkie-edit",
            "selkie-tools",
            "selkie-learn",
            "selkie-store",
            "selkie-engine",
            "selkie-outer",
            "selkie-serve",
        ],
    ),
];

/// Dependencies, by the beginning of their names, that these rooms alone may know.
const FENCED: [(&str, &[&str]); 19] = [
    ("wasmtime", &["selkie-tools"]),
    ("wit-", &["selkie-tools"]),
    ("candle", &["selkie-learn"]),
    ("tokenizers", &["selkie-learn"]),
    ("llguidance", &["selkie-learn"]),
    ("memmap2", &["selkie-learn"]),
    ("safetensors", &["selkie-learn"]),
    ("minijinja", &["selkie-learn"]),
    ("rand", &["selkie-learn"]),
    ("rusqlite", &["selkie-store"]),
    ("ureq", &["selkie-outer"]),
    ("clap", &["selkie"]),
    ("indicatif", &["selkie"]),
    ("tokio", &["selkie-engine", "selkie-serve", "selkie"]),
    ("axum", &["selkie-serve"]),
    ("hyper", &["selkie-serve"]),
    ("tower", &["selkie-serve"]),
    ("rmcp", &["selkie-serve"]),
    ("libloading", &["selkie-tools"]),
];

/// Every generated file in `schemas`, and the test source that regenerates and compares it.
const GENERATED: [(&str, &str); 5] = [
    ("schemas/self-edit.v1.json", "runtime/edit/tests/it/schemas.rs"),
    ("schemas/plugin-manifest.v1.json", "runtime/tools/src/manifest.rs"),
    ("schemas/adapt-report.v1.json", "runtime/engine/src/report.rs"),
    ("schemas/trace-event.v1.json", "runtime/engine/src/live/trace.rs"),
    ("schemas/openapi.v1.json", "runtime/serve/src/document.rs"),
];

/// Folders whose Rust code the rules are about.
const CODE: [&str; 5] = ["runtime", "sdk", "plugins", "tests", "examples"];

/// The file of the limits on self-edits, and that of the limits on plugins.
const LIMITS: [&str; 2] = ["runtime/edit/src/limits.rs", "runtime/tools/src/limits.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with every violation.
fn none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}; {} violations:\n  {}", violations.len(), violations.join("\n  "));
}

/// Paths of all files under a folder, relative to the repository, sorted. Build output is not looked at.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name in Unicode");
            match path.is_dir() {
                true if matches!(name, "target" | ".git") => {}
                true => folders.push(path),
                false => found.push(relative(&path)),
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    let path =
        path.strip_prefix(root()).unwrap_or(path).to_str().expect("a path in Unicode").replace('\\', "/");
    path.trim_start_matches("./").to_owned()
}

fn rust_files() -> Vec<String> {
    let all = CODE.iter().flat_map(|folder| files(folder));
    all.filter(|path| path.ends_with(".rs")).collect()
}

fn is_test_source(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// The numbered lines of a Rust file that are code: no comments, and nothing from the test module at its end on.
fn production(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let opens_tests = |pair: &[&str]| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].trim_end().ends_with('{')
    };
    let end = lines.windows(2).position(opens_tests).unwrap_or(lines.len());
    code(lines.into_iter().take(end))
}

fn code<'a>(lines: impl Iterator<Item = &'a str>) -> impl Iterator<Item = (usize, &'a str)> {
    lines
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line))
}

/// What cargo knows of the workspace's packages.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(args).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata");
    metadata["packages"].as_array().expect("packages").clone()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {value}"))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().unwrap_or_else(|| panic!("no `{field}` in {value}"))
}

#[test]
fn rooms_depend_only_on_what_they_may_know() {
    let own: BTreeSet<&str> =
        ROOMS.iter().map(|(room, _)| *room).chain(["selkie-tests", "selkie-examples"]).collect();
    let mut violations = Vec::new();
    let packages = packages();
    let in_runtime = packages.iter().filter(|package| text(package, "manifest_path").contains("/runtime/"));
    for package in in_runtime {
        let name = text(package, "name");
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == name) else {
            violations.push(format!("{name} is a room that this test does not know"));
            continue;
        };
        for dependency in list(package, "dependencies").iter().map(|dependency| text(dependency, "name")) {
            if own.contains(dependency) && !allowed.contains(&dependency) {
                violations.push(format!("{name} depends on {dependency}"));
            }
            let fence = FENCED.iter().find(|(beginning, _)| dependency.starts_with(beginning));
            if let Some((_, rooms)) = fence.filter(|(_, rooms)| !rooms.contains(&name)) {
                let owners = rooms.join(" and ");
                violations.push(format!("{name} depends on {dependency}, which belongs to {owners}"));
            }
        }
    }
    // Guests know the interface and nothing of the runtime.
    let guests = files("").into_iter().filter(|path| path.ends_with("Cargo.toml"));
    let guests = guests.filter(|path| ["sdk/", "plugins/"].iter().any(|room| path.starts_with(room)));
    let knows_the_runtime = guests.filter(|path| read(path).contains("runtime/"));
    violations.extend(knows_the_runtime.map(|path| format!("{path} names a crate of the runtime")));
    none("crate edges (ARCHITECTURE.md has the picture)", &violations);
}

#[test]
fn fenced_libraries_are_not_named_in_other_rooms() {
    let packages = packages();
    let mut violations = Vec::new();
    for package in packages.iter().filter(|package| text(package, "manifest_path").contains("/runtime/")) {
        let manifest = PathBuf::from(text(package, "manifest_path"));
        let folder = relative(manifest.parent().expect("a folder"));
        let fenced = FENCED.iter().filter(|(_, rooms)| !rooms.contains(&text(package, "name")));
        let words: Vec<String> = fenced.map(|(word, _)| word.replace('-', "_")).collect();
        for path in files(&folder).iter().filter(|path| path.ends_with(".rs")) {
            for (line, code) in code(read(path).lines()) {
                let imported = code.trim_start().trim_start_matches("pub ").strip_prefix("use ");
                if let Some(word) =
                    words.iter().find(|word| imported.is_some_and(|used| used.starts_with(word.as_str())))
                {
                    violations.push(format!("{path}:{line}: uses {word}"));
                }
            }
        }
    }
    none("a library that belongs to another room", &violations);
}

#[test]
fn every_module_says_what_it_is() {
    let undocumented = rust_files().into_iter().filter(|path| !read(path).starts_with("//! "));
    none("every .rs file starts with a `//!` line", &undocumented.collect::<Vec<_>>());
}

#[test]
fn every_schema_has_a_test_that_compares_it() {
    let mut violations = Vec::new();
    for path in files("schemas").iter().filter(|path| !path.starts_with("schemas/wit/")) {
        if !GENERATED.iter().any(|(known, _)| known == path) {
            violations.push(format!("{path} is in no list: who generates it?"));
        }
    }
    for (path, source) in GENERATED {
        if !root().join(path).is_file() {
            violations.push(format!("{path} is missing"));
        }
        let name = path.rsplit('/').next().expect("a name");
        let test = std::fs::read_to_string(root().join(source)).unwrap_or_default();
        if !(test.contains(name) && test.contains("SELKIE_UPDATE")) {
            violations.push(format!("{source} does not compare {path}"));
        }
    }
    // The interface is not generated: host and SDK are generated from it.
    for side in
        ["runtime/tools/src/contract/v0_1.rs", "runtime/tools/src/contract/v0_2.rs", "sdk/src/bindings.rs"]
    {
        if !read(side).contains("schemas/wit/since_v") {
            violations.push(format!("{side} is not made from schemas/wit"));
        }
    }
    none("files in schemas/ are compared with what generates them", &violations);
}

#[test]
fn every_fixture_is_used() {
    let sources: String =
        rust_files().iter().filter(|path| is_test_source(path)).map(|path| read(path)).collect();
    let mut unused = BTreeSet::new();
    for path in files("tests/fixtures") {
        let folders = Path::new(&path).ancestors().skip(1).map(relative);
        for folder in folders.take_while(|folder| folder != "tests/fixtures") {
            let name = folder.rsplit('/').next().expect("a name");
            let mentioned = ["\"", "/"].iter().any(|before| {
                ["\"", "/"].iter().any(|after| sources.contains(&format!("{before}{name}{after}")))
            });
            if !mentioned {
                unused.insert(folder);
            }
        }
    }
    let guests = files("tests/guests").into_iter().filter(|path| !path.ends_with(".rs"));
    unused.extend(guests.filter(|path| !sources.contains(path.rsplit('/').next().expect("a name"))));
    none("fixtures that no test names", &unused.into_iter().collect::<Vec<_>>());
}

#[test]
fn every_source_file_is_compiled() {
    let packages = packages();
    let targets = packages.iter().flat_map(|package| list(package, "targets"));
    let mut roots: BTreeSet<String> =
        targets.map(|target| relative(Path::new(text(target, "src_path")))).collect();
    // Workspaces of their own.
    let guest_target = |path: &String| {
        let folder = Path::new(path).parent().expect("a folder");
        let guest = folder.parent().expect("a folder");
        let target = folder.ends_with("tests") || folder.ends_with("examples");
        target
            && !path.starts_with("runtime/")
            && guest != Path::new("")
            && root().join(guest).join("Cargo.toml").is_file()
    };
    roots.extend(rust_files().into_iter().filter(|path| path.ends_with("/src/lib.rs") || guest_target(path)));
    let flat = |path: &&String| {
        ["tests", "examples"].iter().any(|folder| Path::new(path).parent() == Some(Path::new(folder)))
    };
    let mut violations: Vec<String> = (rust_files().iter().filter(flat))
        .filter(|path| !roots.contains(*path))
        .map(|path| format!("{path} is no [[test]] or [[example]]"))
        .collect();
    let sources: Vec<(String, String)> =
        rust_files().into_iter().map(|path| (read(&path), path)).map(|(text, path)| (path, text)).collect();
    for (path, _) in sources.iter().filter(|(path, _)| !roots.contains(path) && !flat(&path)) {
        let mut ancestors = Path::new(path).ancestors().skip(1);
        let file = Path::new(path).file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let parent = ancestors.next().map(relative).expect("a folder");
        let module = if file == "mod" { parent.rsplit('/').next().expect("a name") } else { file };
        let (declared, attributed) = (format!("mod {module};"), format!("\"{file}.rs\""));
        // A module is declared in its folder or beside it.
        let near = ancestors.next().map(relative).unwrap_or_default();
        let declares = |(other, text): &&(String, String)| {
            other != path
                && other.starts_with(&near)
                && (text.contains(&declared) || text.contains(&attributed))
        };
        if !sources.iter().any(|source| declares(&source)) {
            violations.push(format!("{path} is declared nowhere"));
        }
    }
    none("source files that nothing compiles", &violations);
}

#[test]
fn code_has_no_loose_ends() {
    // In pieces, so that this file does not match itself.
    let anywhere = [
        concat!("#[", "ignore"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("db", "g!("),
    ];
    let allow = concat!("[al", "low(");
    let expect = concat!("[ex", "pect(");
    let mut violations = Vec::new();
    for path in rust_files() {
        let source = read(&path);
        for (line, code) in code(source.lines()) {
            for word in anywhere.iter().filter(|word| code.contains(**word)) {
                violations.push(format!("{path}:{line}: {word}"));
            }
            if code.contains(allow) {
                violations.push(format!("{path}:{line}: `expect` with a reason, not `allow`"));
            }
            if code.contains(expect) {
                let rest: String = source.lines().skip(line - 1).take(6).collect();
                if !rest.split(")]").next().is_some_and(|attribute| attribute.contains("reason =")) {
                    violations.push(format!("{path}:{line}: no reason"));
                }
            }
        }
        let shipped = ["runtime/", "sdk/", "plugins/"].iter().any(|room| path.starts_with(room));
        if shipped && !is_test_source(&path) {
            let unwrap = concat!(".un", "wrap()");
            let found = production(&source).filter(|(_, code)| code.contains(unwrap));
            violations.extend(found.map(|(line, _)| format!("{path}:{line}: {unwrap} outside tests")));
        }
    }
    none("unfinished or unexplained code", &violations);
}

#[test]
fn files_say_nothing_of_the_machine_that_made_them() {
    let folders = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/wo", "rk/"),
        concat!("/tm", "p/"),
        concat!("/Us", "ers/"),
    ];
    let addresses = [concat!("192.", "168."), concat!(".local", "domain"), concat!(".internal", "/")];
    let mut violations = Vec::new();
    for path in files("").into_iter().filter(|path| !is_test_source(path)) {
        // As bytes: a component keeps the paths of its compiler too.
        let bytes = std::fs::read(root().join(&path)).expect("a file");
        for word in folders {
            let starts_a_path = |at: usize| {
                let before = at.checked_sub(1).and_then(|before| bytes.get(before));
                !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"._-}".contains(byte))
            };
            if places(&bytes, word).any(starts_a_path) {
                violations.push(format!("{path}: {word}"));
            }
        }
        let named = addresses.iter().filter(|word| places(&bytes, word).next().is_some());
        violations.extend(named.map(|word| format!("{path}: {word}")));
    }
    none("paths and names of one machine", &violations);
}

fn places<'a>(bytes: &'a [u8], word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let word = word.as_bytes();
    // The first byte by itself: a model has millions of them, and tests are not optimised.
    let candidates = bytes.iter().enumerate().filter(|(_, byte)| **byte == word[0]);
    candidates.map(|(at, _)| at).filter(|at| bytes[*at..].starts_with(word))
}

#[test]
fn text_has_no_stray_white_space() {
    let written_by_hand = |path: &String| {
        let extension = path.rsplit('.').next().unwrap_or_default();
        let known = ["rs", "md", "toml", "wit", "wat", "sql", "py", "sh"].contains(&extension)
            || path.starts_with(".ci/");
        known && !path.starts_with("tests/fixtures/")
    };
    let mut violations = Vec::new();
    for path in files("").into_iter().filter(written_by_hand) {
        let source = read(&path);
        for (at, line) in source.lines().enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                violations.push(format!("{path}:{}: white space at the end", at + 1));
            }
            if path.ends_with(".rs") && line.contains('\t') {
                violations.push(format!("{path}:{}: a tab", at + 1));
            }
        }
        if !source.is_empty() && (!source.ends_with('\n') || source.ends_with("\n\n")) {
            violations.push(format!("{path}: does not end with one newline"));
        }
    }
    none("stray white space", &violations);
}

#[test]
fn the_architecture_names_every_room_and_its_invariant() {
    let document = read("ARCHITECTURE.md");
    let rooms = std::fs::read_dir(root().join("runtime"))
        .expect("runtime")
        .map(|entry| entry.expect("an entry").path());
    let rooms = rooms.filter(|path| path.is_dir()).map(|path| relative(&path));
    let mut violations = Vec::new();
    for room in rooms.chain(["plugins", "schemas", "sdk", "tests", "examples"].map(str::to_owned)) {
        let heading = format!("`{room}`");
        let sections = || document.split("\n#").skip(1);
        match sections().find(|section| section.lines().next().is_some_and(|line| line.contains(&heading))) {
            None => violations.push(format!("{room} has no section")),
            Some(section) if !section.contains("**Invariant:**") => {
                violations.push(format!("{room} has no invariant"))
            }
            Some(_) => {}
        }
    }
    none("ARCHITECTURE.md", &violations);
}

#[test]
fn every_limit_has_a_reason_and_is_applied() {
    let mut violations = Vec::new();
    let sources: String =
        rust_files().iter().filter(|path| !LIMITS.contains(&path.as_str())).map(|path| read(path)).collect();
    for path in LIMITS {
        let text = read(path);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = line.strip_prefix("pub const ").and_then(|rest| rest.split(':').next()) else {
                continue;
            };
            if !at.checked_sub(1).is_some_and(|above| lines[above].starts_with("///")) {
                violations.push(format!("{path}: {name} has no reason"));
            }
            // The set of limits beside the constants is where the plugin host reads them from.
            let in_the_set = lines.iter().any(|line| line.starts_with("            ") && line.contains(name));
            if !in_the_set && !sources.contains(name) {
                violations.push(format!("{path}: {name} limits nothing"));
            }
        }
    }
    none("limits", &violations);
}

#[test]
fn committed_components_are_the_listed_ones() {
    let entries: Value = serde_json::from_str(&read("plugins/dist/plugins.json")).expect("JSON");
    let entries = entries.as_array().expect("a list");
    let mut violations = Vec::new();
    for path in files("plugins/dist").iter().filter(|path| path.ends_with(".wasm")) {
        let bytes = std::fs::read(root().join(path)).expect("a component");
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let entry =
            entries.iter().find(|entry| *path == format!("plugins/dist/{}.wasm", text(entry, "name")));
        match entry {
            None => violations.push(format!("{path} is not listed")),
            Some(entry) if text(entry, "sha256") != digest => violations.push(format!("{path} is {digest}")),
            Some(entry) if entry["bytes"] != bytes.len() => {
                violations.push(format!("{path} has {} bytes", bytes.len()))
            }
            Some(_) => {}
        }
    }
    let listed = entries.iter().map(|entry| format!("plugins/dist/{}.wasm", text(entry, "name")));
    violations
        .extend(listed.filter(|path| !root().join(path).is_file()).map(|path| format!("{path} is missing")));
    none("plugins/dist", &violations);
}
