//! `selkie log`, `show`, `rollback`, `replay` and `export`.

use insta::assert_snapshot;
use serde_json::json;

use crate::kill::{FACTS, PASSAGE};
use crate::support::{Output, TestEnvironment, example, tree};

fn adapted(env: &TestEnvironment, more: &[&str]) -> Output {
    let passage = example(PASSAGE);
    env.run(&[&["adapt", &passage, "--self-edit", "-"], more].concat(), FACTS)
}

#[test]
fn a_kept_generation_goes_all_the_way_round() {
    let env = TestEnvironment::new();
    adapted(&env, &[]).succeeds();

    assert_snapshot!(env.run(&["log"], ""), @r"
    exit code: 0
    ----- stdout
    active: g1 (adapter [DIGEST]) on base [DIGEST]
       e1  [TIME]  kept g1  Lolu Branbeck and Vidor Volgan  score [SCORE] -> [SCORE]
    ");
    let entry = env.run(&["show", "g1"], "").json();
    assert_eq!(entry, env.run(&["show", "e1"], "").json());
    assert_eq!(entry["record"]["edit"], json!({ "text": FACTS, "dialect": "seal_completion" }));
    assert_eq!(entry["outcome"]["generation"], "g1");
    assert_snapshot!(env.run(&["replay", "g1"], ""), @r"
    exit code: 0
    ----- stdout
    e1: the same, adapter [DIGEST] byte for byte
    ");

    assert_snapshot!(env.run(&["export", "g1", "out/adapter"], ""), @r"
    exit code: 0
    ----- stdout
    g1 (adapter [DIGEST]) in out/adapter
    ");
    let files: Vec<String> =
        tree(&env.path("out/adapter")).keys().skip(1).map(|path| path.display().to_string()).collect();
    let names: Vec<&str> = files.iter().filter_map(|path| path.rsplit('/').next()).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);
    assert_snapshot!(env.run(&["export", "g1", "out/adapter"], ""), @r"
    exit code: 2
    ----- stderr
    error: out/adapter is not a new or empty folder; an export does not write over files
    ");

    let active = env.log("home")["active"].clone();
    assert_snapshot!(env.run(&["rollback"], ""), @r"
    exit code: 0
    ----- stdout
    e2: active was g1, now the base model
    ");
    assert_eq!(env.log("home")["active"], json!([]));
    assert_snapshot!(env.run(&["rollback"], ""), @r"
    exit code: 2
    ----- stderr
    error: no generation is active, so there is nothing to roll back
    ");
    assert_snapshot!(env.run(&["rollback", "g1"], ""), @r"
    exit code: 0
    ----- stdout
    e3: active was the base model, now g1
    ");
    assert_eq!(env.log("home")["active"], active);
    assert_snapshot!(env.run(&["rollback", "base"], ""), @r"
    exit code: 0
    ----- stdout
    e4: active was g1, now the base model
    ");
    assert_snapshot!(env.run(&["log"], ""), @r"
    exit code: 0
    ----- stdout
    active: the base models
       e4  [TIME]  rollback g1 -> base
       e3  [TIME]  rollback base -> g1
       e2  [TIME]  rollback g1 -> base
       e1  [TIME]  kept g1  Lolu Branbeck and Vidor Volgan  score [SCORE] -> [SCORE]
    ");
    // A rollback is no reason to forget.
    assert_eq!(env.run(&["replay", "e1"], "").code, Some(0));
}

#[test]
fn what_stands_on_another_generation_or_was_discarded_replays_too() {
    let env = TestEnvironment::new();
    adapted(&env, &[]).succeeds();
    adapted(&env, &["--seed", "2"]).succeeds();
    adapted(&env, &["--seed", "3", "--fresh"]).succeeds();
    let log = env.log("home");
    assert_eq!(log["entries"][1]["parent"], "g1");
    for entry in ["e2", "e3"] {
        let replayed = env.run(&["replay", entry], "").succeeds();
        assert!(replayed.starts_with(&format!("{entry}: the same, adapter ")), "{replayed}");
    }
}

#[test]
fn a_replay_with_another_model_says_so() {
    let env = TestEnvironment::new();
    adapted(&env, &[]).succeeds();
    let puzzles = crate::support::pup("puzzles").display().to_string();
    assert_snapshot!(env.run(&["replay", "e1", "--model", &puzzles], ""), @r"
    exit code: 2
    ----- stderr
    error: e1 cannot be replayed: it is of base model [DIGEST], and this is [DIGEST]; name it with --model
    ");
}

#[test]
fn a_home_where_nothing_was_done_is_empty_and_stays_so() {
    let env = TestEnvironment::new();
    assert_snapshot!(env.run(&["log"], ""), @r"
    exit code: 0
    ----- stdout
    nothing was tried yet
    ");
    assert_eq!(env.log("home"), json!({ "active": [], "entries": [] }));
    assert_snapshot!(env.run(&["show", "g1"], ""), @r"
    exit code: 2
    ----- stderr
    error: there is no store at [TEMP]/home: nothing was ever kept there, or the path is another
    ");
    assert_snapshot!(env.run(&["rollback"], ""), @r"
    exit code: 2
    ----- stderr
    error: there is no store at [TEMP]/home: nothing was ever kept there, or the path is another
    ");
    assert!(!env.path("home").exists());
}

#[test]
fn names_that_nothing_has() {
    let env = TestEnvironment::new();
    adapted(&env, &[]).succeeds();
    assert_snapshot!(env.run(&["show", "g7"], ""), @r"
    exit code: 2
    ----- stderr
    error: there is no generation `g7`; there are g1 ([DIGEST])
    ");
    assert_snapshot!(env.run(&["show", "e7"], ""), @r"
    exit code: 2
    ----- stderr
    error: there is no entry `e7`; the ledger goes from e1 to e1
    ");
    assert_snapshot!(env.run(&["show", "nonsense"], ""), @r"
    exit code: 2
    ----- stderr
    error: there is no generation `nonsense`; there are g1 ([DIGEST])
    ");
    assert_snapshot!(env.run(&["rollback", "g7"], ""), @r"
    exit code: 2
    ----- stderr
    error: there is no generation `g7`; there are g1 ([DIGEST])
    ");
    assert_snapshot!(env.run(&["rollback", "--base", "0000"], ""), @r"
    exit code: 2
    ----- stderr
    error: no generation is active, so there is nothing to roll back
    ");
}
