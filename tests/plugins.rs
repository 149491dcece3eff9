//! Plugins built from source: the committed ones again, and the example's, dropped in.
//!
//! Builds take a minute, so they run with `SELKIE_BUILD_PLUGINS=1` and where a compiler for WebAssembly is.

#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::path::{Path, PathBuf};

use selkie_edit::{Example, Grid, PlannedCall, Task};
use selkie_tools::build::{self, Verified};
use selkie_tools::{HostOptions, ToolHost};

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
