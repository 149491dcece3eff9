//! Files of many contexts: every published form, every refusal with its place, and the recorded data.

use selkie_edit::{Context, ContextError, Passage, Puzzle, limits};
use serde_json::{Value, json};

use crate::support::data;

const PUZZLE: &str =
    r#"{"train":[{"input":[[1]],"output":[[2]]},{"input":[[3]],"output":[[4]]}],"test":[{"input":[[5]]}]}"#;

/// SQuAD 2 as published, cut to what shows its forms.
const SQUAD: &str = r#"{"version": "v2.0", "data": [
  {"title": "Grey_seal_(animal)", "paragraphs": [
    {"context": "Grey seals live in the Atlantic.", "qas": [
      {"question": "Where do grey seals live?", "id": "1", "is_impossible": false,
       "answers": [{"text": "the Atlantic", "answer_start": 19}, {"text": "Atlantic", "answer_start": 23}]},
      {"question": "When do they fly?", "id": "2", "is_impossible": true, "answers": [],
       "plausible_answers": [{"text": "the Atlantic", "answer_start": 19}]}]},
    {"context": "Nothing is asked here.", "qas": []},
    {"context": "Nothing can be answered here.", "qas": [
      {"question": "What?", "id": "3", "answers": [], "is_impossible": true}]}]},
  {"title": "Selkie", "paragraphs": [
    {"context": "A selkie sheds its skin.", "qas": [
      {"question": "What does a selkie shed?", "id": "4", "answers": [{"text": "its skin", "answer_start": 15}]}]}]}]}"#;

fn many(text: &str) -> Result<Vec<Context>, ContextError> {
    Context::many_from_json(text, "file")
}

/// Name, number of questions or demonstrations, and the first answer.
fn shown(contexts: &[Context]) -> String {
    let line = |context: &Context| match context {
        Context::Puzzle(puzzle) => format!("{}: {} demonstrations", puzzle.id, puzzle.train.len()),
        Context::Passage(Passage { title, context, questions }) => {
            format!("{title}: {context} {} asked, first {}", questions.len(), questions[0].answer)
        }
    };
    contexts.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn passage(title: &str, context: &str) -> Value {
    json!({ "title": title, "context": context, "questions": [{ "question": "Q", "answer": "A" }] })
}

#[test]
fn squad_as_published_gives_its_answerable_questions() {
    insta::assert_snapshot!(shown(&many(SQUAD).expect("SQuAD")), @r##"
    Grey seal (animal): Grey seals live in the Atlantic. 1 asked, first the Atlantic
    Selkie: A selkie sheds its skin. 1 asked, first its skin
    "##);
}

#[test]
fn one_context_and_its_list_and_its_lines_are_the_same() {
    let passages = [passage("T", "C"), passage("T", "D"), passage("U", "C")];
    let lines = passages.each_ref().map(Value::to_string);
    let list = many(&json!(passages).to_string()).expect("a list");
    assert_eq!(list.iter().map(Context::name).collect::<Vec<_>>(), ["T", "T", "U"]);
    for text in [
        lines.join("\n"),
        format!("\u{feff}\n{}\r\n\n", lines.join("\r\n")),
        json!({ "data": passages }).to_string(),
        json!({ "model": "Qwen2.5-7B", "k": 5, "articles": passages }).to_string(),
    ] {
        assert_eq!(many(&text).as_ref(), Ok(&list), "{text}");
    }
    let mut named_data = passages[0].clone();
    named_data["data"] = json!(["of another kind"]);
    for text in
        [lines[0].clone(), format!("{}\n", lines[0]), format!("[{}]", lines[0]), named_data.to_string()]
    {
        assert_eq!(many(&text).as_deref(), Ok(&list[..1]), "{text}");
    }
}

#[test]
fn a_puzzle_without_an_id_is_named_after_its_file() {
    let other = PUZZLE.replace('5', "6");
    let named = other.replacen('{', r#"{"id":"b0b0","#, 1);
    let names = |text: &str| {
        let contexts = many(text).expect(text);
        contexts.iter().map(|context| context.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(PUZZLE), ["file"]);
    assert_eq!(names(&format!("[{PUZZLE}, {named}, {other}]")), ["file-1", "b0b0", "file-3"]);
    assert_eq!(names(&format!("{PUZZLE}\n{other}")), ["file-1", "file-2"]);
    assert_eq!(names(&format!(r#"{{"bb22": {PUZZLE}, "aa11": {PUZZLE}}}"#)), ["bb22", "aa11"]);
}

#[test]
fn what_occurs_twice_is_there_once() {
    let (first, second) = (passage("T", "C"), passage("T", "D"));
    let contexts = many(&json!([first, second, first]).to_string()).expect("a list");
    assert_eq!(shown(&contexts), "T: C 1 asked, first A\nT: D 1 asked, first A");
    assert_eq!(many(&format!("{PUZZLE}\n{PUZZLE}")).expect("lines").len(), 1);
}

#[test]
fn a_bad_file_of_many_says_where() {
    let without = |pointer: &str, member: &str| {
        let mut squad: Value = serde_json::from_str(SQUAD).expect("JSON");
        squad.pointer_mut(pointer).and_then(Value::as_object_mut).expect(pointer).shift_remove(member);
        squad.to_string()
    };
    let good = passage("T", "C");
    let blank = passage("T", " ");
    let colour = PUZZLE.replace('5', "12");
    let only_impossible = SQUAD.replace(r#""answers": [{"#, r#""is_impossible": true, "answers": [{"#);
    let mut refused = Vec::new();
    for text in [
        "",
        "[]",
        "{}",
        "7",
        r#"{"data": []}"#,
        r#"{"data": {}}"#,
        "[1]",
        &json!([good, [good]]).to_string(),
        &json!([good, blank]).to_string(),
        &json!({ "articles": [good, { "title": "T", "context": "C" }] }).to_string(),
        &json!({ "data": [good, { "title": "T" }] }).to_string(),
        &format!("[{PUZZLE}, {colour}]"),
        &format!("{PUZZLE}\n\n{colour}"),
        &format!("{good}\n{good}\n{{\"title\": }}"),
        &format!("{good}\n{{\"title\": \"T\"}}"),
        &format!("{good}\n[{good}]"),
        &format!("{good} {good}"),
        &format!(r#"{{"aa11": {PUZZLE}, "bb22": {colour}}}"#),
        &format!(r#"{{"aa11": {PUZZLE}, "bb22": {{"test": []}}}}"#),
        &format!(r#"{{"aa11": {PUZZLE}, "bb22": 7}}"#),
        &only_impossible,
        &without("/data/1", "title"),
        &without("/data/1", "paragraphs"),
        &without("/data/0/paragraphs/1", "context"),
        &without("/data/0/paragraphs/1", "qas"),
        &without("/data/1/paragraphs/0/qas/0", "answers"),
        &without("/data/0/paragraphs/0/qas/0", "question"),
        &SQUAD.replace("\"its skin\"", "\"\""),
        &SQUAD.replace("\"its skin\"", "3"),
        &"[".repeat(10_000),
    ] {
        refused.push(many(text).expect_err(text).to_string());
    }
    insta::assert_snapshot!(refused.join("\n"), @r##"
    line 1, column 0: EOF while parsing a value
    no puzzle and no passage with a question that has an answer
    the top level: expected a puzzle (`train`, `test`) or a passage with questions, found an empty object
    the top level: expected a puzzle (`train`, `test`) or a passage with questions, found 7
    no puzzle and no passage with a question that has an answer
    data: expected a list, found an empty object
    [0]: expected a puzzle (`train`, `test`) or a passage with questions, found 1
    [1]: expected a puzzle (`train`, `test`) or a passage with questions, found a list of 1
    [1].context: empty
    articles[1]: `questions` is missing
    data[1]: expected a puzzle (`train`, `test`) or a passage with questions, found an object with title
    [1].test[0].input: 12 at row 0, column 0: colours are whole numbers from 0 to 9
    line 3: test[0].input: 12 at row 0, column 0: colours are whole numbers from 0 to 9
    line 3, column 11: expected value
    line 2: expected a puzzle (`train`, `test`) or a passage with questions, found an object with title
    line 2: expected a puzzle (`train`, `test`) or a passage with questions, found a list of 1
    line 1, column 73: trailing characters
    bb22.test[0].input: 12 at row 0, column 0: colours are whole numbers from 0 to 9
    bb22: `train` is missing
    bb22: expected an object, found 7
    no puzzle and no passage with a question that has an answer
    data[1]: `title` is missing
    data[1]: expected a puzzle (`train`, `test`) or a passage with questions, found an object with title
    data[0].paragraphs[1]: `context` is missing
    data[0].paragraphs[1]: `qas` is missing
    data[1].paragraphs[0].qas[0]: `answer` is missing
    data[0].paragraphs[0].qas[0]: `question` is missing
    data[1].paragraphs[0].qas[0].answers: empty
    data[1].paragraphs[0].qas[0].answers: expected a text, found 3
    more than 32 arrays and objects inside each other
    "##);
}

#[test]
fn a_file_has_a_size_and_a_number_of_contexts() {
    let numbered = |count: usize| {
        let lines = (0..count).map(|n| {
            format!(r#"{{"title":"T","context":"{n}","questions":[{{"question":"Q","answer":"A"}}]}}"#)
        });
        many(&lines.collect::<Vec<_>>().join("\n"))
    };
    assert_eq!(numbered(limits::CONTEXTS_MAX).map(|contexts| contexts.len()), Ok(65_536));
    let refused = numbered(limits::CONTEXTS_MAX + 1).expect_err("one above").to_string();
    assert_eq!(refused, "65537 puzzles and passages in one file, where there may be 65536: split it");
    let refused = many(&" ".repeat(limits::CONTEXT_BYTES_MAX + 1)).expect_err("one byte above").to_string();
    assert_eq!(refused, "67108865 bytes, where a context has at most 67108864");
}

#[test]
fn every_task_of_a_challenges_file() {
    let challenges = format!(r#"{{"bb22": {PUZZLE}, "aa11": {PUZZLE}}}"#);
    let all = |solutions: Option<&str>| Puzzle::many_from_challenges(&challenges, solutions);
    let solved = |puzzles: Vec<Puzzle>| {
        let cell = |puzzle: &Puzzle| puzzle.tests[0].output.as_ref().map(|output| output.cells()[0]);
        puzzles.iter().map(|puzzle| (puzzle.id.clone(), cell(puzzle))).collect::<Vec<_>>()
    };
    let expected = |first, second| Ok(vec![("bb22".to_owned(), first), ("aa11".to_owned(), second)]);
    assert_eq!(all(None).map(solved), expected(None, None));
    let solutions = r#"{"aa11": [[[8]]], "bb22": [[[9]]], "cc33": []}"#;
    assert_eq!(all(Some(solutions)).map(solved), expected(Some(9), Some(8)));

    let refused = |challenges: &str, solutions: Option<&str>| {
        Puzzle::many_from_challenges(challenges, solutions).expect_err(challenges).to_string()
    };
    let refused = [
        refused("[]", None),
        refused("{}", None),
        refused(r#"{"aa11": 7}"#, None),
        refused(&challenges.replacen('1', "x", 1), None),
        refused(&challenges.replacen("[[1]]", "[[11]]", 1), None),
        refused(&challenges, Some(r#"{"bb22": [[[9]]]}"#)),
        refused(&challenges, Some(r#"{"bb22": [[[9]]], "aa11": [[[8]], [[8]]]}"#)),
        refused(&challenges, Some(r#"{"bb22": [[[9]]], "aa11": [[[80]]]}"#)),
        refused(&challenges, Some(r#"{"bb22": 9}"#)),
        refused(&challenges, Some("[]")),
    ];
    insta::assert_snapshot!(refused.join("\n"), @r##"
    challenges: expected an object, found an empty list
    no puzzle and no passage with a question that has an answer
    aa11: expected an object, found 7
    line 1, column 31: expected value
    bb22.train[0].input: 11 at row 0, column 0: colours are whole numbers from 0 to 9
    solutions of `aa11`: 0 grids for 1 tests
    solutions of `aa11`: 2 grids for 1 tests
    solutions.aa11[0]: 80 at row 0, column 0: colours are whole numbers from 0 to 9
    solutions.bb22: expected a list, found 9
    solutions: expected an object, found an empty list
    "##);
}

#[test]
fn the_recorded_passages_are_read_completely() {
    let Some(text) = data("squad/passages.json") else { return };
    let contexts = many(&text).expect("passages");
    let passages: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    assert_eq!(contexts.len(), 1200);
    assert_eq!(contexts.iter().map(Context::to_json).collect::<Vec<_>>(), passages);

    // The same as SQuAD's file would have it.
    let article = |passage: &Value| {
        let asked = passage["questions"].as_array().expect("questions").iter();
        let qas = asked.map(|item| {
            let answers = json!([{ "text": item["answer"], "answer_start": 0 }]);
            json!({ "question": item["question"], "id": "0", "answers": answers, "is_impossible": false })
        });
        let paragraph = json!({ "context": passage["context"], "qas": qas.collect::<Vec<_>>() });
        let title = passage["title"].as_str().expect("title").replace(' ', "_");
        json!({ "title": title, "paragraphs": [paragraph] })
    };
    let squad = json!({ "version": "1.1", "data": passages.iter().map(article).collect::<Vec<_>>() });
    assert_eq!(many(&squad.to_string()), Ok(contexts));
}

#[test]
fn seals_recorded_results_are_read_as_contexts() {
    let Some(text) = data("seal/recorded_self_edits.json") else { return };
    let contexts = many(&text).expect("results");
    let recorded: Value = serde_json::from_str(&text).expect("JSON");
    let of_articles = |article: &Value| json!({ "title": article["title"], "context": article["context"], "questions": article["questions"] });
    let expected: Vec<Value> =
        recorded["articles"].as_array().expect("articles").iter().map(of_articles).collect();
    assert_eq!(contexts.len(), 50);
    assert_eq!(contexts.iter().map(Context::to_json).collect::<Vec<_>>(), expected);
}

#[test]
fn the_recorded_challenges_are_read_completely() {
    for (name, tasks, tests) in [("training", 400, 416), ("seal_train12", 12, 13)] {
        let (Some(challenges), Some(solutions)) =
            (data(&format!("arc/{name}_challenges.json")), data(&format!("arc/{name}_solutions.json")))
        else {
            return;
        };
        let puzzles = Puzzle::many_from_challenges(&challenges, Some(&solutions)).expect(name);
        let outputs = puzzles.iter().flat_map(|puzzle| &puzzle.tests).filter(|test| test.output.is_some());
        assert_eq!((puzzles.len(), outputs.count()), (tasks, tests), "{name}");
        let contexts = many(&challenges).expect(name);
        assert_eq!(contexts.len(), tasks);
        let first = Puzzle::from_challenges(&challenges, None, contexts[0].name()).expect(name);
        assert_eq!(contexts[0], Context::Puzzle(first));
    }
}
