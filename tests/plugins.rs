//! Plugins built from source: the committed ones again, and the example's, dropped in.
//!
//! Builds take a minute, so they run with `SELKIE_BUILD_PLUGINS=1` and where a compiler for WebAssembly is.

#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::path::{Path, PathBuf};

use selkie_edit::{Example, Grid, PlannedCall, Submission, Task};
use selkie_tools::build::{self, Verified};
use selkie_tools::grading::Pair;
use selkie_tools::{HostOptions, ToolError, ToolHost};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn can_build() -> bool {
    if std::env::var_os("SELKIE_BUILD_PLUGINS").is_none() {
        println!("skipped: set SELKIE_BUILD_PLUGINS=1 to build plugins from source");
        return false;
    }
    match build::toolchain() {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

#[test]
fn the_list_of_committed_plugins_fits_their_bytes() {
    let entries = build::read_dist(&root().join("plugins/dist")).expect("the list");
    assert_eq!(
        entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(),
        ["grid", "text", "graders", "judge"]
    );
}

#[test]
fn the_committed_plugins_are_their_sources() {
    if !can_build() {
        return;
    }
    for verified in build::verify_dist(&root().join("plugins/dist")).expect("a build") {
        match verified {
            Verified::Same(report) => println!("{} is its source, bit for bit", report.plugin),
            Verified::OtherToolchain { built, recorded } => println!(
                "built with {}, recorded is {recorded}: run `cargo test augment` with SELKIE_AUGMENT_PLUGINS={}",
                built.toolchain,
                built.path.parent().unwrap_or(&built.path).display(),
            ),
        }
    }
}

#[test]
fn the_example_plugin_is_built_and_dropped_in() {
    if !can_build() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("mirror.wasm");
    let report = build::build(&root().join("examples/write_a_tool"), Some(&out)).expect("a build");
    assert_eq!(report.plugin, build::check(&out).expect("a component").plugin);

    let host = ToolHost::new(HostOptions::new(Some(folder.path().into()))).expect("it loads");
    let plugin = host.catalogue().get("mirror.quadrants").expect("its tool").plugin.clone();
    let grid = |rows: &[Vec<u8>]| Grid::from_rows(rows).expect("a grid");
    let task = |grid: Grid| Task { train: vec![], test: Example { input: grid.clone(), output: grid } };
    let call = PlannedCall {
        tool: "mirror.quadrants".into(),
        plugin,
        params: r#"{"corner":"top_left"}"#.into(),
        seed: 0,
    };
    let made = host.augment(&call, &[task(grid(&[vec![1, 2]]))]).expect("an answer").made;
    assert_eq!(made, [task(grid(&[vec![1, 2, 2, 1], vec![1, 2, 2, 1]]))]);
}

fn task() -> Task {
    let grid = Grid::from_rows(&[vec![1, 2]]).expect("a grid");
    Task { train: vec![], test: Example { input: grid.clone(), output: grid } }
}

fn call(host: &ToolHost, tool: &str) -> PlannedCall {
    let plugin = host.catalogue().get(tool).expect(tool).plugin.clone();
    PlannedCall { tool: tool.into(), plugin, params: "{}".into(), seed: 1 }
}

#[test]
fn plugins_are_exchanged_between_edits_and_a_refused_exchange_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("grid.wasm");
    let put = |bytes: &[u8]| std::fs::write(&file, bytes).expect("a file");
    put(include_bytes!("guests/since_v0.1.0/grid.wasm"));
    let options = HostOptions { built_in: false, ..HostOptions::new(Some(folder.path().into())) };
    let old = ToolHost::new(options).expect("it loads");
    let planned = call(&old, "grid.transpose");

    put(include_bytes!("../plugins/dist/grid.wasm"));
    let new = old.reloaded().expect("it loads again");
    let refused = new.augment(&planned, &[task()]).expect_err("a plan is for one build");
    assert!(matches!(refused, ToolError::OtherPlugin { .. }), "{refused}");
    let of_new = new.augment(&call(&new, "grid.transpose"), &[task()]).expect("an answer").made;
    assert_eq!(old.augment(&planned, &[task()]).expect("the old one serves").made, of_new);

    put(b"junk");
    assert!(matches!(new.reloaded(), Err(ToolError::NotAComponent { .. })));
    assert_eq!(new.augment(&call(&new, "grid.transpose"), &[task()]).expect("it still serves").made, of_new);

    std::fs::remove_file(&file).expect("a removed file");
    assert_eq!(new.reloaded().expect("an empty folder").plugins().count(), 0);
}

/// Of pairs, whichever side the host shows first; and of edits, with reasons.
#[test]
fn answers_are_compared_blindly_and_edits_with_reasons() {
    let host = ToolHost::new(HostOptions::new(None)).expect("the built-in plugins load");
    let pair =
        |answer: &str, reference: &str| Pair::Answers { answer: answer.into(), reference: reference.into() };
    let pairs = [pair("The Louvre!", "louvre"), pair("in Paris, France", "Paris"), pair("Rome", "Paris")];
    for seed in 0..8 {
        let of = |tool: &str| {
            let call = PlannedCall { seed, ..call(&host, tool) };
            host.compare(&call, &pairs).expect("scores").made
        };
        assert_eq!(of("grade.exact_match"), [1.0, 0.0, 0.0]);
        assert_eq!(of("grade.token_f1"), [1.0, 0.5, 0.0]);
    }
    let grid = |rows: &[Vec<u8>]| Grid::from_rows(rows).expect("a grid");
    let halves = Pair::Grids { answer: grid(&[vec![1, 2]]), reference: grid(&[vec![1, 3]]) };
    let partial = PlannedCall { params: r#"{"partial": true}"#.into(), ..call(&host, "grade.grid_match") };
    assert_eq!(host.compare(&partial, &[halves]).expect("a score").made, [0.5]);

    let edit = |documents: &[&str]| Submission::Edit {
        title: "Volgan".into(),
        passage: "Volgan was founded in 1203 by the duke of Ost. It lies on the Marn.".into(),
        documents: documents.iter().map(ToString::to_string).collect(),
    };
    let edits = [
        edit(&["The duke of Ost founded Volgan in 1203.", "The Marn flows past Volgan."]),
        edit(&["A town is a town.", "A town is a town."]),
    ];
    let graded = host.grade_edits(&call(&host, "grade.rubric"), &edits).expect("grades").made;
    assert!(graded[0].value > graded[1].value, "{graded:?}");
    assert!(graded.iter().all(|score| !score.reasons.is_empty()), "{graded:?}");
    let wrong = host.write(&call(&host, "grade.rubric"), &[]).expect_err("a grader writes nothing");
    assert_eq!(wrong.to_string(), "tool `grade.rubric` is a grader, and this is work for a text augmenter");
}
