//! A plugin that is dropped in: built from `examples/write_a_tool` by the command, and used with no rebuild.

use serde_json::Value;

use crate::support::{TestEnvironment, example, examples};

#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says why")]
fn a_dropped_in_tool_is_in_the_schema_the_prompt_and_an_edit() {
    if let Err(error) = selkie_tools::build::toolchain() {
        println!("skipped: {error}");
        return;
    }
    let env = TestEnvironment::new();
    std::fs::create_dir(env.path("tools")).expect("a folder");
    let mut build = env.command(&["plugin", "build", &example("write_a_tool"), "--out", "tools/mirror.wasm"]);
    // Where cargo and its registry are.
    for variable in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        build.envs(std::env::var_os(variable).map(|value| (variable, value)));
    }
    env.finish(build, "").succeeds();

    let tool = "mirror.quadrants";
    let with =
        |args: &[&str], stdin: &str| env.run(&[args, &["--plugins", "tools"]].concat(), stdin).succeeds();
    let puzzle = examples("puzzles").remove(0);
    assert!(with(&["tool", "list"], "").contains(tool));
    assert!(with(&["schema"], "").contains(tool));
    assert!(with(&["edit", "prompt", &puzzle], "").contains(tool));
    let params = ["--params", r#"{"corner":"top_left"}"#];
    let made = with(&[&["tool", "run", tool], &params[..]].concat(), "[[1,2]]");
    assert_eq!(made, "[[1,2,2,1],[1,2,2,1]]\n");

    let edit = r#"{"version": 1, "training": {"epochs": 1},
        "data": {"tools": [{"tool": "mirror.quadrants", "params": {"corner": "bottom_right"}}]}}"#;
    let report: Value =
        serde_json::from_str(&with(&["adapt", &puzzle, "--self-edit", "-", "--json"], edit)).expect("JSON");
    let run = &report["tools"][0];
    assert_eq!((&run["tool"], &run["plugin"]), (&tool.into(), &"mirror 0.1.0".into()), "{report:#}");
    assert!(run["items"].as_u64() > Some(0), "{report:#}");
    // Without its folder it is unknown, to a new edit and to a replay.
    assert_eq!(env.run(&["adapt", &puzzle, "--self-edit", "-"], edit).code, Some(2));
    assert_eq!(env.run(&["replay", "e1"], "").code, Some(2));
    assert!(with(&["replay", "e1"], "").starts_with("e1: the same"));
}
