//! The twelve tasks of ARC that SEAL trained on: each comes to a verdict.

use std::path::Path;

use crate::support::{TestEnvironment, repository};

/// Small, so that twelve of them are a minute; what pup makes of ARC is the benchmarks' subject.
const EDIT: &str = r#"{"version": 1, "data": {"tools": [{"tool": "grid.rotate", "params": {"degrees": 90}},
    {"tool": "grid.flip", "params": {"axis": "rows"}}]}, "training": {"epochs": 1}}"#;

#[test]
#[expect(
    clippy::print_stdout,
    reason = "how many are solved is a number to read, and a skipped test says why"
)]
fn arc_twelve_come_to_a_verdict() {
    let beside = repository().join("../shared/data");
    let folder = std::env::var_os("SELKIE_DATA").map_or(beside, Into::into).join("arc");
    let file = |name: &str| folder.join(format!("seal_train12_{name}.json")).display().to_string();
    let (challenges, solutions) = (file("challenges"), file("solutions"));
    if !Path::new(&challenges).is_file() {
        println!("skipped: {challenges} is not there (set SELKIE_DATA to where the data is)");
        return;
    }
    let text = std::fs::read_to_string(&challenges).expect("the challenges");
    let tasks: serde_json::Map<_, _> = serde_json::from_str(&text).expect("JSON");
    let env = TestEnvironment::new();
    env.write("edit.json", EDIT);
    let (mut before, mut after) = (0, 0);
    for task in tasks.keys() {
        // Each from the base model: a rank that grows twelve times is another test's subject.
        let more = ["--solutions", &solutions, "--task", task, "--self-edit", "edit.json", "--fresh"];
        let report = env.adapt(&challenges, &more);
        assert_eq!(report["task"], task.as_str());
        assert!(report["verdict"] == "kept" || report["verdict"] == "discarded", "{report:#}");
        before += u32::from(report["before"]["solved"] == true);
        after += u32::from(report["after"]["solved"] == true);
        println!("{task}: {}", report["reason"].as_str().expect("a reason"));
    }
    assert_eq!(tasks.len(), 12);
    println!("solved before: {before} of 12, after: {after} of 12");
}
