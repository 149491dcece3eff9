//! `selkie rest-em`, `eval` and `report`, as they are typed.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::TestEnvironment;

/// A run of seconds.
const TINY: [&str; 12] = [
    "rest-em",
    "knowledge",
    "--model",
    "pup",
    "--contexts",
    "2",
    "--samples",
    "2",
    "--rounds",
    "1",
    "--held-out",
    "1",
];

fn tiny<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&TINY[..], &["--held-out-samples", "1", "--out", out], more].concat()
}

/// What a run's ledger says, without the seconds.
fn digest(env: &TestEnvironment, run: &str) -> String {
    selkie_store::RunLedger::read_only(&env.path(run)).expect("a run").digest().expect("a digest")
}

#[cfg(unix)]
#[test]
#[expect(clippy::print_stdout, reason = "how the kills were spread is worth reading")]
fn a_run_that_is_killed_ten_times_ends_with_the_ledger_of_one_that_was_not() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    let env = TestEnvironment::new();
    let began = Instant::now();
    env.run(&tiny("whole", &["--json"]), "").succeeds();
    let mut rest = began.elapsed();
    let (mut kills, mut starts) = (0, 0);
    // Moments are drawn by a fixed rule; what is random is how far the process comes.
    for share in [0.02, 0.31, 0.17, 0.44, 0.08, 0.29, 0.12, 0.38, 0.21, 0.05].into_iter().cycle() {
        if kills == 10 || starts == 40 {
            break;
        }
        starts += 1;
        let mut command = env.command(&tiny("killed", &["--json"]));
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut run = quiet.spawn().expect("it starts");
        std::thread::sleep(rest.mul_f64(share));
        run.kill().expect("killed, or at its end");
        match run.wait().expect("it ends").success() {
            // It was done before it could be killed: the next ones are killed sooner.
            true => rest = rest.mul_f64(0.5).max(Duration::from_millis(50)),
            false => kills += 1,
        }
    }
    println!("{kills} kills in {starts} starts");
    assert!(kills >= 3, "{kills}");
    env.run(&tiny("killed", &["--json"]), "").succeeds();
    assert_eq!(digest(&env, "killed"), digest(&env, "whole"));
}

#[test]
fn a_run_leaves_a_ledger_policies_metrics_and_a_report() {
    let env = TestEnvironment::new();
    let printed = env.run(&tiny("run", &["--json"]), "").succeeds();
    let summary: Value = serde_json::from_str(&printed).expect("one JSON document");
    let conditions: Vec<&str> = summary["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row["condition"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        conditions,
        [
            "no_edit",
            "in_context",
            "raw",
            "raw_sentences",
            "raw_entities",
            "untrained",
            "round_1",
            "unfiltered",
            "fixed",
            "oracle"
        ]
    );
    let metrics = std::fs::read_to_string(env.path("run/metrics.jsonl")).expect("metrics");
    assert_eq!(metrics.lines().count(), 1 + conditions.len(), "a reward, then the table");
    let policy = env.path("run/policies/1-1-unfiltered/adapter_model.safetensors");
    assert!(policy.is_file(), "{}", policy.display());
    let text = env.run(&["report", "run"], "");
    assert!(text.stdout.starts_with("ReST-EM on passages\n"), "{text}");
    assert!(text.stdout.lines().all(|line| line.chars().count() <= 100), "{text}");
    let page = std::fs::read_to_string(env.path("run/report.html")).expect("a page");
    assert!(
        page.contains("<svg") && !page.contains("<script") && !page.contains("http://"),
        "{}",
        page.len()
    );
    // A policy is an adapter like any other.
    let more =
        ["eval", "knowledge", "--held-out", "1", "--held-out-samples", "1", "--out", "again", "--json"];
    let again = env.run(&[&more[..], &["--policy", "run/policies/1-1-unfiltered"]].concat(), "").succeeds();
    let again: Value = serde_json::from_str(&again).expect("one JSON document");
    let last = again["rows"].as_array().expect("rows").iter().rev().find(|row| row["condition"] == "policy");
    let same = summary["rows"].as_array().expect("rows").iter().find(|row| row["condition"] == "unfiltered");
    assert_eq!(last.expect("a row")["items"], same.expect("a row")["items"]);
}

#[test]
fn what_cannot_be_run_is_said() {
    let env = TestEnvironment::new();
    env.write(
        "one.json",
        r#"{"title": "T", "context": "C.", "questions": [{"question": "q?", "answer": "a"}]}"#,
    );
    let check = |args: &[&str]| env.run(args, "").to_string();
    assert_snapshot!(check(&["rest-em", "arc", "--preset", "seal/knowledge-qwen2.5-7b", "--out", "run"]), @r"
    exit code: 2
    ----- stderr
    error: there is no preset `seal/knowledge-qwen2.5-7b` here
    hint: use seal/arc-llama-3.2-1b or pup/arc
    ");
    assert_snapshot!(check(&["eval", "knowledge", "--data", "one.json", "--held-out", "0", "--out", "run"]), @r"
    exit code: 2
    ----- stderr
    error: there are 0 contexts and none to compare policies on
    hint: name a file with more of them (--data), or learn from fewer (--contexts)
    ");
    assert_snapshot!(check(&["report", "nowhere"]), @"
    exit code: 2
    ----- stderr
    error: there is no run at nowhere: nothing was begun there, or the path is another
    ");
    assert_snapshot!(check(&["rest-em", "knowledge", "--proxy", "grade.nothing", "--out", "run"]), @r"
    exit code: 2
    ----- stderr
    error: the proxy cannot be asked: no loaded plugin has `grade.nothing`; `selkie tool list` has those that do
    ");
}
