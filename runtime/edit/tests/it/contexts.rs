//! Contexts from JSON: every condition of `ContextError`, and the way back.

use selkie_edit::{Context, Puzzle, limits};
use serde_json::{Value, json};

use crate::support::data;

const PUZZLE: &str = r#"{"train": [{"input": [[1, 2]], "output": [[2, 1]]}, {"input": [[3]], "output": [[4]]}],
                        "test": [{"input": [[5]]}, {"input": [[6]], "output": [[7]]}]}"#;

fn refused(text: &str) -> String {
    Context::from_json(text, "name").expect_err(text).to_string()
}

/// The puzzle with one value replaced.
fn with(pointer: &str, value: Value) -> String {
    let mut puzzle: Value = serde_json::from_str(PUZZLE).expect("JSON");
    *puzzle.pointer_mut(pointer).expect(pointer) = value;
    puzzle.to_string()
}

fn check(text: &str, expected: &str) {
    assert_eq!(refused(text), expected, "{}", &text[..text.len().min(200)]);
}

#[test]
fn a_bad_puzzle_says_where() {
    let example = json!({ "input": [[1]], "output": [[1]] });
    check(
        &with("/train/1/input", json!([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3]])),
        "train[1].input: row 2 has 3 cells where row 0 has 4",
    );
    check(
        &with("/train/0/input/0/1", json!(12)),
        "train[0].input: 12 at row 0, column 1: colours are whole numbers from 0 to 9",
    );
    check(
        &with("/train/0/input/0/1", json!(-1)),
        "train[0].input: -1 at row 0, column 1: colours are whole numbers from 0 to 9",
    );
    check(
        &with("/train/0/input/0/1", json!(3.5)),
        "train[0].input: 3.5 at row 0, column 1: colours are whole numbers from 0 to 9",
    );
    check(
        &with("/test/1/output/0/0", json!("a")),
        "test[1].output: \"a\" at row 0, column 0: colours are whole numbers from 0 to 9",
    );
    check(
        &with("/train/0/output", json!([])),
        "train[0].output: a grid has at least one row and one column, found none",
    );
    check(
        &with("/train/0/output", json!([[]])),
        "train[0].output: a grid has at least one row and one column, found none",
    );
    check(
        &with("/train/0/output", json!([vec![0; 31]])),
        "train[0].output: 1x31, where a side is at most 30",
    );
    check(
        &with("/train/0/output", json!(vec![[0]; 31])),
        "train[0].output: 31x1, where a side is at most 30",
    );
    check(&with("/train/0/output", json!("1 2")), "train[0].output: expected a list, found \"1 2\"");
    check(&with("/train/0/output/0", json!(7)), "train[0].output[0]: expected a list, found 7");
    check(&with("/train/0", json!({ "input": [[1]] })), "train[0]: `output` is missing");
    check(&with("/train", json!([example])), "train: 1, where there must be 2 to 32");
    check(&with("/train", json!(vec![&example; 33])), "train: 33, where there must be 2 to 32");
    check(&with("/test", json!([])), "test: 0, where there must be 1 to 32");
    check(r#"{"train": []}"#, "the top level: `test` is missing");
}

#[test]
fn a_bad_passage_says_where() {
    let check = |change: Value, expected: &str| {
        let mut passage =
            json!({ "title": "T", "context": "C", "questions": [{ "question": "Q", "answer": "A" }] });
        for (name, value) in change.as_object().expect("object") {
            passage[name] = value.clone();
        }
        check(&passage.to_string(), expected);
    };
    check(json!({ "title": " " }), "title: empty");
    check(json!({ "context": "\n" }), "context: empty");
    check(json!({ "title": 3 }), "title: expected a text, found 3");
    check(json!({ "title": "x".repeat(2000) }), "title: 2000 bytes, where there may be 1024");
    check(json!({ "questions": [] }), "questions: 0, where there must be 1 to 512");
    check(json!({ "questions": [{ "question": "Q" }] }), "questions[0]: `answer` is missing");
    check(json!({ "questions": [{ "question": "Q", "answers": [] }] }), "questions[0].answers: empty");
    check(json!({ "questions": [{ "question": "Q", "answer": " " }] }), "questions[0].answer: empty");
    check(json!({ "questions": ["Q"] }), "questions[0]: expected an object, found \"Q\"");
}

#[test]
fn a_bad_file_says_where() {
    check(
        "[1]",
        "neither a puzzle (`train`, `test`) nor a passage (`title`, `context`, `questions`): found a list of 1",
    );
    check(
        r#"{"a": 1}"#,
        "neither a puzzle (`train`, `test`) nor a passage (`title`, `context`, `questions`): found an object with a",
    );
    check(&format!(r#"{{"a": {PUZZLE}, "b": {PUZZLE}}}"#), "2 puzzles in one file: name the task to take");
    check("{\"train\": [\n  {\"input\": [[1,", "line 2, column 16: EOF while parsing a value");
    check("", "line 1, column 0: EOF while parsing a value");
    check(&"[".repeat(10_000), "more than 32 arrays and objects inside each other");
    let large = " ".repeat(limits::CONTEXT_BYTES_MAX + 1);
    assert_eq!(refused(&large), "67108865 bytes, where a context has at most 67108864");
}

#[test]
fn json_and_back() {
    let check = |text: &str| {
        let context = Context::from_json(text, "name").expect(text);
        let json = context.to_json().to_string();
        assert_eq!(Context::from_json(&json, "other").expect(&json), context);
        context
    };
    assert_eq!(check(PUZZLE).name(), "name");
    assert_eq!(check(&PUZZLE.replacen('{', r#"{"id": "named", "#, 1)).name(), "named");
    assert_eq!(check(&format!("\u{feff}{PUZZLE}")).name(), "name");
    for question in [
        r#""questions": [{"question": "Q", "answer": "A"}]"#,
        r#""questions": [{"question": "Q", "answer": ["A", "B"]}]"#,
        r#""qas": [{"question": "Q", "id": "1", "answers": [{"text": "A", "answer_start": 3}]}]"#,
        r#""qas": [{"question": "Q", "answers": {"text": ["A"], "answer_start": [3]}}]"#,
    ] {
        let Context::Passage(passage) = check(&format!(r#"{{"title": "T", "context": "C", {question}}}"#))
        else {
            panic!("a passage");
        };
        assert_eq!(
            (passage.questions[0].question.as_str(), passage.questions[0].answer.as_str()),
            ("Q", "A")
        );
    }
}

#[test]
fn a_task_of_a_challenges_file() {
    let challenges = format!(r#"{{"aa11": {PUZZLE}, "bb22": {PUZZLE}}}"#);
    let take = |solutions: Option<&str>, task: &str| Puzzle::from_challenges(&challenges, solutions, task);
    let error = |solutions: Option<&str>, task: &str| take(solutions, task).expect_err(task).to_string();
    let puzzle = take(Some(r#"{"aa11": [[[8]], [[9]]]}"#), "aa11").expect("a task");
    assert_eq!(puzzle.id, "aa11");
    let outputs: Vec<&[u8]> =
        puzzle.tests.iter().map(|test| test.output.as_ref().expect("solved").cells()).collect();
    assert_eq!(outputs, [[8], [9]]);
    assert_eq!(take(None, "bb22").expect("a task").tests[0].output, None);
    assert_eq!(error(None, "bb23"), "no task `bb23` among 2: bb22, aa11");
    assert_eq!(error(Some("{}"), "aa11"), "solutions of `aa11`: 0 grids for 2 tests");
    assert_eq!(
        error(Some(r#"{"aa11": [[[8]], [[10]]]}"#), "aa11"),
        "solutions.aa11[1]: 10 at row 0, column 0: colours are whole numbers from 0 to 9"
    );
}

#[test]
fn every_recorded_context_reads() {
    if let (Some(challenges), Some(solutions)) =
        (data("arc/training_challenges.json"), data("arc/training_solutions.json"))
    {
        let tasks: Value = serde_json::from_str(&challenges).expect("JSON");
        for task in tasks.as_object().expect("tasks").keys().step_by(20) {
            let puzzle = Puzzle::from_challenges(&challenges, Some(&solutions), task).expect(task);
            let context = Context::Puzzle(puzzle);
            assert_eq!(Context::from_json(&context.to_json().to_string(), "x").as_ref(), Ok(&context));
        }
    }
    if let Some(passages) = data("squad/passages.json") {
        let passages: Vec<Value> = serde_json::from_str(&passages).expect("JSON");
        for passage in passages {
            Context::from_json(&passage.to_string(), "x").expect("a passage");
        }
    }
}
