//! Plans: base tasks, pinned calls and seeds, documents, the step cap.

use std::collections::HashSet;

use selkie_edit::{
    Code, Context, Domain, LeaveOut, Plan, Refused, Training, TrainingDefaults, derive_seed, leave_out, plan,
    steps, task_digest,
};
use serde_json::{Value, json};

use crate::support::{catalogue, catalogue_without, codes, read, shared};

fn puzzle(demonstrations: u8) -> Context {
    let train: Vec<Value> = (0..demonstrations).map(|n| json!({ "input": [[n]], "output": [[n]] })).collect();
    let puzzle = json!({ "train": train, "test": [{ "input": [[0]] }] });
    Context::from_json(&puzzle.to_string(), "p").expect("a puzzle")
}

fn passage() -> Context {
    let passage =
        json!({ "title": "T", "context": " C\n", "questions": [{ "question": "Q", "answer": "A" }] });
    Context::from_json(&passage.to_string(), "p").expect("a passage")
}

fn planned(edit: &Value, context: &Context) -> Result<Plan, Refused> {
    plan(&read(&edit.to_string(), context.domain())?, &catalogue(), context, 7)
}

/// The numbers of a task's demonstrations and of its test.
fn numbers(task: &selkie_edit::Task) -> (Vec<u8>, u8) {
    (task.train.iter().map(|example| example.input.cells()[0]).collect(), task.test.input.cells()[0])
}

#[test]
fn base_tasks_leave_one_out_then_two() {
    let plan =
        planned(&json!({ "version": 1, "data": {} }), &puzzle(3)).expect("a plan").puzzle.expect("a puzzle");
    let rounds: Vec<Vec<(Vec<u8>, u8)>> =
        plan.rounds.iter().map(|round| round.iter().map(numbers).collect()).collect();
    assert_eq!(rounds[0], [(vec![1, 2], 0), (vec![0, 2], 1), (vec![0, 1], 2)]);
    assert_eq!(
        rounds[1],
        [(vec![2], 0), (vec![1], 0), (vec![2], 1), (vec![0], 1), (vec![1], 2), (vec![0], 2)]
    );
    assert_eq!(rounds.len(), 2);
    let two =
        planned(&json!({ "version": 1, "data": {} }), &puzzle(2)).expect("a plan").puzzle.expect("a puzzle");
    assert_eq!(two.rounds.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0]);
}

#[test]
fn base_tasks_are_seals() {
    let Some(cases) = shared("SELKIE_AUGMENT", "../shared/fixtures/augment", "leave_one_out.json") else {
        return;
    };
    let Some(challenges) = crate::support::data("arc/seal_train12_challenges.json") else { return };
    let cases: Vec<Value> = serde_json::from_str(&cases).expect("JSON");
    let mut checked = 0;
    for case in &cases {
        if case["flags"].as_object().expect("flags").values().any(|flag| flag == true) {
            continue;
        }
        let name = case["task"].as_str().expect("a task");
        let puzzle = selkie_edit::Puzzle::from_challenges(&challenges, None, name).expect(name);
        let left_out = if case["leave_n"] == 1 { LeaveOut::One } else { LeaveOut::Two };
        let mut digests: Vec<String> = leave_out(&puzzle.train, left_out).iter().map(task_digest).collect();
        digests.sort();
        assert_eq!(json!(digests), case["tasks_sha256_16"], "{name}");
        checked += 1;
    }
    assert_eq!(checked, 24);
}

#[test]
fn every_call_has_its_own_seed() {
    let edit = json!({ "version": 1, "data": {
        "tools": [{ "tool": "grid.rotate", "params": { "degrees": 90 } },
                  { "chain": [{ "tool": "grid.transpose" }, { "tool": "grid.upscale", "params": { "factor": 2.0 } }] }],
        "permute": { "copies": 3 } } });
    let first = planned(&edit, &puzzle(3)).expect("a plan");
    assert_eq!(first, planned(&edit, &puzzle(3)).expect("a plan"));
    let puzzle = first.puzzle.expect("a puzzle");
    let calls: Vec<_> = puzzle.pipelines.iter().chain(&puzzle.permute_calls).flatten().collect();
    assert_eq!(calls.len(), 3 + 3 * 2);
    assert_eq!(calls.iter().map(|call| call.seed).collect::<HashSet<_>>().len(), calls.len());
    assert_eq!(calls[0].seed, derive_seed(7, "pipeline/0/0"));
    assert_eq!((calls[1].params.as_str(), calls[2].params.as_str()), ("{}", r#"{"factor":2}"#));
    let tools: Vec<&str> = puzzle.permute_calls[2].iter().map(|call| call.tool.as_str()).collect();
    assert_eq!(tools, ["grid.permute_colors", "grid.permute_examples"]);
}

#[test]
fn colours_are_permuted_when_asked_or_when_there_are_tools() {
    let check = |data: Value, colours: bool, copies: usize| {
        let plan = planned(&json!({ "version": 1, "data": data }), &puzzle(3))
            .expect("a plan")
            .puzzle
            .expect("a puzzle");
        assert_eq!(plan.permute_calls.len(), copies);
        assert!(plan.permute_calls.iter().all(|calls| calls.len() == 1 + usize::from(colours)));
    };
    let tools = json!([{ "tool": "grid.transpose" }]);
    check(json!({}), false, 1);
    check(json!({ "tools": tools }), true, 1);
    check(json!({ "tools": tools, "permute": { "colors": false } }), false, 1);
    check(json!({ "permute": { "colors": true, "copies": 2 } }), true, 2);
    check(json!({ "permute": { "copies": 0 } }), false, 0);
}

#[test]
fn a_missing_tool_is_not_the_models_fault() {
    let edit = read(r#"{"version": 1, "data": {"tools": [{"tool": "grid.transpose"}]}}"#, Domain::Puzzle)
        .expect("valid");
    let check = |missing: &[&str], pointers: &[&str]| {
        let refused = plan(&edit, &catalogue_without(missing), &puzzle(3), 0).expect_err("refused");
        let expected: Vec<_> = pointers.iter().map(|&pointer| (Code::UnknownTool, pointer)).collect();
        assert_eq!(codes(&refused), expected);
        assert!(!refused.is_retryable());
    };
    check(&["grid.permute_colors", "grid.permute_examples"], &["/data/permute", "/data/permute"]);
    check(&["grid.transpose"], &["/data/tools/0"]);
}

#[test]
fn documents_have_their_title_and_the_passage_is_last() {
    let check = |data: Value, documents: &[&str]| {
        let plan = planned(&json!({ "version": 1, "data": data }), &passage()).expect("a plan");
        assert_eq!(plan.documents, documents);
        assert_eq!(plan.puzzle, None);
    };
    check(json!({ "documents": ["a", "b"] }), &["T\na", "T\nb", "T\nC"]);
    check(json!({ "documents": ["a"], "include_source": false }), &["T\na"]);
    check(json!({ "documents": [" a ", "\n b\tc\n"], "include_source": false }), &["T\na", "T\nb\tc"]);
    check(json!({}), &["T\nC"]);
}

#[test]
fn a_puzzles_documents_are_as_they_were_written() {
    let check = |data: Value, pipelines: usize| {
        let plan = planned(&json!({ "version": 1, "data": data }), &puzzle(3)).expect("a plan");
        assert_eq!(plan.documents, ["a", "b"]);
        assert_eq!(plan.puzzle.expect("a puzzle").pipelines.len(), pipelines);
    };
    let (documents, tools) = (json!([" a\n", "b"]), json!([{ "tool": "grid.transpose" }]));
    check(json!({ "documents": documents }), 0);
    for include_source in [false, true] {
        check(json!({ "documents": documents, "tools": tools, "include_source": include_source }), 1);
    }
    // Its steps are counted when its tasks exist too.
    let many = json!({ "version": 1, "data": { "documents": vec!["a"; 256] }, "training": { "epochs": 50 } });
    assert_eq!(planned(&many, &puzzle(3)).expect("a plan").documents.len(), 256);
}

#[test]
fn replayed_documents_are_a_count_and_take_steps() {
    let check = |data: Value, context: &Context, replay: u32| {
        assert_eq!(planned(&json!({ "version": 1, "data": data }), context).expect("a plan").replay, replay);
    };
    check(json!({ "replay": 16 }), &passage(), 16);
    check(json!({}), &passage(), 0);
    check(json!({ "replay": 16 }), &puzzle(3), 0);
    // Ten epochs, one at a time: 37 documents are 370 steps.
    let of = |replay: u32| {
        planned(&json!({ "version": 1, "data": { "documents": ["a"], "replay": replay } }), &passage())
    };
    assert_eq!(of(35).expect("370 steps").documents.len(), 2);
    assert_eq!(codes(&of(36).expect_err("380 steps")), [(Code::TooManySteps, "/training/epochs")]);
}

#[test]
fn an_edit_for_the_other_kind_of_context_is_refused() {
    let check = |edit: &str, made_for: Domain, context: &Context| {
        let edit = read(edit, made_for).expect("valid");
        let refused = plan(&edit, &catalogue(), context, 0).expect_err("refused");
        assert_eq!(codes(&refused), [(Code::WrongKind, "")]);
        assert!(!refused.is_retryable());
    };
    check(r#"{"version": 1, "data": {"documents": ["a"]}}"#, Domain::Passage, &puzzle(3));
    check(r#"{"version": 1, "data": {"tools": [{"tool": "grid.transpose"}]}}"#, Domain::Puzzle, &passage());
}

#[test]
fn steps_are_counted_and_capped() {
    let training =
        |batch_size: u32, epochs: u32| Training { batch_size, epochs, ..TrainingDefaults::seal().puzzle };
    assert_eq!(steps(250, &training(2, 3)), Ok(375));
    assert_eq!(steps(7, &training(2, 3)), Ok(12));
    assert_eq!(steps(0, &training(2, 3)), Ok(0));
    let problem = steps(251, &training(2, 3)).expect_err("too many");
    assert_eq!((problem.code, problem.retryable), (Code::TooManySteps, true));
    insta::assert_snapshot!(problem, @"too_many_steps at /training/epochs: expected at most 375 optimiser steps (SEAL drops a longer edit without a word; lower epochs, raise batch_size, or ask for fewer tools or documents), found 378 steps: 251 examples in batches of 2, 3 epochs");
    let problem = steps(usize::MAX, &training(1, 50)).expect_err("no overflow");
    assert_eq!(problem.code, Code::TooManySteps);
    // A passage's documents are counted at once: 38 lines, ten epochs, one at a time.
    let lines = |count: usize| (0..count).map(|n| format!("Fact {n}.\n")).collect::<String>();
    let plan_of =
        |text: String| plan(&read(&text, Domain::Passage).expect("valid"), &catalogue(), &passage(), 0);
    assert_eq!(plan_of(lines(36)).expect("370 steps").documents.len(), 37);
    assert_eq!(codes(&plan_of(lines(37)).expect_err("380 steps")), [(Code::TooManySteps, "")]);
}
