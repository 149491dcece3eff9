//! `ATTACKS.md` lists every test of this folder, and nothing that is not there.

use std::path::{Path, PathBuf};

/// Rust sources below a folder, as one text.
fn sources(folder: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).expect("a source")).collect()
}

/// The names of a source's tests.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    source
        .split("#[test]\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("fn ")?.1.split_once('('))
        .map(|(name, _)| name)
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn the_list_of_attacks_is_the_tests() {
    let list = include_str!("ATTACKS.md");
    let guests = sources("tests/guests");
    let all = [guests.clone(), sources("runtime/cli/tests/cli")].concat();
    let errors = [sources("runtime/tools/src"), sources("runtime/tools/src/native")].concat();
    let mut wrong = Vec::new();
    for row in list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let [_, named, outcome] = cells[..] else { continue };
        wrong.extend(
            quoted(named)
                .filter(|name| {
                    !["fn {}(", "    {}:"].iter().any(|form| all.contains(&form.replace("{}", name)))
                })
                .map(|name| format!("`{name}` is no test")),
        );
        wrong.extend(
            quoted(outcome)
                .filter(|word| !errors.contains(*word))
                .map(|word| format!("`{word}` is nothing that the host says")),
        );
    }
    wrong.extend(
        tests(&guests)
            .filter(|name| !list.contains(&format!("`{name}`")))
            .map(|name| format!("`{name}` is not in ATTACKS.md")),
    );
    assert!(wrong.is_empty(), "{} faults in ATTACKS.md:\n  {}", wrong.len(), wrong.join("\n  "));
}
