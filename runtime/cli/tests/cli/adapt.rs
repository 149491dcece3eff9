//! `selkie adapt` with the bundled models, on contexts that they never saw.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{TestEnvironment, example, examples, filtered, repository};

/// The report as the schema has it, and as the command promises beyond the schema.
fn assert_well_formed(report: &Value) {
    let text =
        std::fs::read_to_string(repository().join("schemas/adapt-report.v1.json")).expect("the schema");
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let problems: Vec<String> = validator.iter_errors(report).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?} in {report:#}");
    let mut surplus = report.clone();
    surplus.as_object_mut().expect("an object").retain(|name, _| schema["properties"].get(name).is_none());
    assert_eq!(surplus, json!({}), "members that the schema does not name");
    assert_eq!(report["verdict"] == "kept", report["generation"].is_string(), "{report:#}");
}

fn score(report: &Value, when: &str) -> f64 {
    report[when]["score"].as_f64().expect("a score")
}

#[test]
fn a_passage_is_learned_by_the_models_own_edit() {
    for passage in examples("passages") {
        let env = TestEnvironment::new();
        let report = env.adapt(&passage, &[]);
        assert_well_formed(&report);
        assert!(score(&report, "after") > score(&report, "before"), "{report:#}");
        assert_eq!((&report["verdict"], &report["generation"]), (&json!("kept"), &json!("g1")), "{report:#}");
        assert_eq!(report["tools"], json!([]));
        assert_ne!(report["before"]["prediction"], report["after"]["prediction"]);
    }
}

#[test]
fn a_puzzle_is_solved_by_the_models_own_edit() {
    for puzzle in examples("puzzles") {
        let env = TestEnvironment::new();
        // Its edits ignore the puzzle; this seed draws one that helps with both.
        let report = env.adapt(&puzzle, &["--seed", "5"]);
        assert_well_formed(&report);
        assert_eq!((score(&report, "before"), score(&report, "after")), (0.0, 1.0), "{report:#}");
        assert_eq!((&report["verdict"], &report["generation"]), (&json!("kept"), &json!("g1")), "{report:#}");
        let tools = report["tools"].as_array().expect("a list");
        assert!(!tools.is_empty(), "{report:#}");
        for tool in tools {
            assert!(tool["fuel"].as_u64() > Some(0) && tool["items"].as_u64() > Some(0), "{tool}");
        }
    }
}

/// Learns next to nothing.
const TIMID: &str = r#"{"version": 1, "data": {"documents": ["Water is wet."]}, "training": {"epochs": 1, "learning_rate": 1e-6}}"#;

#[test]
fn an_edit_that_does_not_help_is_discarded_and_written_down() {
    let env = TestEnvironment::new();
    env.write("timid.json", TIMID);
    let report = env.adapt(&examples("passages")[0], &["--self-edit", "timid.json"]);
    assert_well_formed(&report);
    assert_eq!((&report["verdict"], &report["generation"]), (&json!("discarded"), &Value::Null));
    let log = env.log("home");
    assert_eq!((&log["active"], &log["entries"][0]["verdict"]), (&json!([]), &json!("discarded")));
    assert_eq!(std::fs::read_dir(env.path("home/adapters")).expect("a folder").count(), 0);
}

#[test]
fn the_same_seed_makes_the_same_adapter_and_another_seed_another() {
    let env = TestEnvironment::new();
    env.write("edit.txt", crate::kill::FACTS);
    let adapter = |home: &str, seed: &str, edit: &str, stdin: &str| {
        let passage = example(crate::kill::PASSAGE);
        let args = ["adapt", &passage, "--self-edit", edit, "--seed", seed, "--home", home];
        env.run(&args, stdin).succeeds();
        env.log(home)["active"][0]["adapter"].clone()
    };
    let first = adapter("one", "7", "edit.txt", "");
    assert!(first.is_string());
    // From stdin it is the same edit.
    assert_eq!(adapter("two", "7", "-", crate::kill::FACTS), first);
    assert_ne!(adapter("three", "8", "edit.txt", ""), first);
}

/// What pup answers is not the point here, and changes with every pup: `[ANSWER]`.
fn without_answers(text: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((said @ ("  before" | "  after"), _)) => format!("{said}: [ANSWER]\n"),
        _ if line.ends_with(')') && line.starts_with("  gold") => {
            format!("{} ([MARK])\n", &line[..line.rfind("  (").expect("a mark")])
        }
        // How many it learned depends on the last bits of its weights, and so on the processor.
        _ => match line.split_once(": 0 -> ").zip(line.split_once(" of 8 solved")) {
            Some(((said, _), (_, rest))) => format!("{said}: 0 -> [COUNT] of 8 solved{rest}\n"),
            None => format!("{line}\n"),
        },
    };
    text.lines().map(line).collect()
}

#[test]
fn a_person_sees_every_stage() {
    let env = TestEnvironment::new();
    env.write("edit.txt", crate::kill::FACTS);
    let output = env.run(&["adapt", &example(crate::kill::PASSAGE), "--self-edit", "edit.txt"], "");
    assert_snapshot!(without_answers(&output.to_string()), @r#"
    exit code: 0
    ----- stdout
    passage "Lolu Branbeck and Vidor Volgan": 8 questions
    model pup-facts ([DIGEST])

    accepted (seal completion)
    4 documents to learn from
    training: 4 sequences, 114 tokens an epoch, 16 steps
    loss [SCORE] -> [SCORE] in 16 steps, [SECONDS]

    Tell me the gem of Vidor Volgan.
      before: [ANSWER]
      after: [ANSWER]
      gold:   spinel ([MARK])
    For Lolu Branbeck what is the tool?
      before: [ANSWER]
      after: [ANSWER]
      gold:   rake ([MARK])
    Tell me the cargo of Lolu Branbeck.
      before: [ANSWER]
      after: [ANSWER]
      gold:   honey ([MARK])
    Lolu Branbeck has which tree?
      before: [ANSWER]
      after: [ANSWER]
      gold:   cedar ([MARK])
    Vidor Volgan has which tool?
      before: [ANSWER]
      after: [ANSWER]
      gold:   drill ([MARK])
    Tell me the gem of Lolu Branbeck.
      before: [ANSWER]
      after: [ANSWER]
      gold:   opal ([MARK])
    For Vidor Volgan what is the cargo?
      before: [ANSWER]
      after: [ANSWER]
      gold:   leather ([MARK])
    Vidor Volgan has which tree?
      before: [ANSWER]
      after: [ANSWER]
      gold:   laurel ([MARK])

    kept as generation g1: 0 -> [COUNT] of 8 solved, log-probability [SCORE] -> [SCORE]
    "#);

    let puzzle = examples("puzzles").remove(0);
    let edit = r#"{"version": 1, "data": {"tools": [{"tool": "grid.rotate", "params": {"degrees": 90}}]},
        "training": {"epochs": 1}}"#;
    let text = env.run(&["adapt", &puzzle, "--self-edit", "-"], edit).succeeds();
    let tools: Vec<&str> = text.lines().skip_while(|line| *line != "tools:").take(3).collect();
    assert_snapshot!(filtered(tools.join("\n")), @r"
    tools:
      grid.rotate                9 tasks from 2 calls, 0.1 M fuel  (grid 0.1.0)
      grid.permute_colors       18 tasks from 2 calls, 0.3 M fuel  (grid 0.1.0)
    ");
    let columns = text.lines().find(|line| line.starts_with("  before")).expect("a picture");
    assert_eq!(columns.split_whitespace().collect::<Vec<_>>(), ["before", "after", "expected"]);
    assert!(!text.contains('\x1b'), "NO_COLOR is respected:\n{text}");
}

#[test]
fn the_model_is_asked_when_no_edit_is_given() {
    let env = TestEnvironment::new();
    let text = env.run(&["adapt", &examples("passages")[0]], "").succeeds();
    let report = env.adapt(&examples("passages")[0], &["--home", "other"]);
    let written = report["self_edit"].as_str().expect("its text").lines().next().expect("a line");
    assert!(text.contains(&format!("self-edit, as the model wrote it:\n  {written}\n")), "{text}");
    assert!(text.contains("\nkept as generation g1: "), "{text}");
}
