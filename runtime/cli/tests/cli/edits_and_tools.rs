//! `selkie edit`, `schema` and `tool`.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{TestEnvironment, examples};

#[test]
fn valid_edits_are_summed_up() {
    let env = TestEnvironment::new();
    let puzzle = r#"Sure! ```json
        {"version": 1, "data": {"tools": [{"tool": "grid.transpose"}]}, "training": {"epochs": 3}}
        ```"#;
    assert_snapshot!(env.run(&["edit", "check", "-"], puzzle), @r"
    exit code: 0
    ----- stdout
    valid for a puzzle: 1 tool pipelines, 0 documents, learning rate 0.0001, 3 epochs
    ");
    assert_snapshot!(env.run(&["edit", "check", "-"], "A first fact.\nA second one."), @r"
    exit code: 0
    ----- stdout
    valid for a passage: 0 tool pipelines, 2 documents, learning rate 0.001, 10 epochs
    ");
    let checked = env.run(&["edit", "check", "-", "--json"], puzzle).json();
    assert_eq!(checked, json!({ "valid": true, "for": "puzzle", "dialect": "selkie", "problems": [] }));
}

#[test]
fn every_problem_of_an_edit_is_listed() {
    let env = TestEnvironment::new();
    let edit = r#"{"version": 1, "data": {"tools": [{"tool": "grid.rotat", "params": {"degrees": 90}},
        {"tool": "grid.rotate", "params": {"degrees": 91}}]}, "training": {"epochs": 500, "rank": 3}}"#;
    assert_snapshot!(env.run(&["edit", "check", "-"], edit), @r#"
    exit code: 2
    ----- stderr
    error: the self-edit was refused for 4 problems
      out_of_range at /training/epochs: expected a whole number from 1 to 50, found 500
      unknown_field at /training/rank: expected one of lora, epochs, loss_on, schedule, batch_size, learning_rate, warmup_steps, found `rank`
      unknown_tool at /data/tools/0/tool: expected one of grid.rotate, grid.concat, grid.repeat, grid.chain, grid.flip, grid.reflect, grid.identity, grid.translate, grid.upscale, grid.transpose, grid.increase_width, grid.permute_colors and 2 more, found "grid.rotat"
      bad_params at /data/tools/1/params/degrees: expected one of 90, 180, 270, found 91
    hint: `selkie schema` prints what a self-edit may say
    "#);
    let checked = env.run(&["edit", "check", "-", "--json"], edit);
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(2), ""), "{checked}");
    let checked: Value = serde_json::from_str(&checked.stdout).expect("JSON");
    assert_eq!(checked["valid"], false);
    assert_eq!(checked["problems"].as_array().map(Vec::len), Some(4), "{checked:#}");
}

#[test]
fn an_edit_is_checked_for_what_it_is_for() {
    let env = TestEnvironment::new();
    let edit = r#"{"version": 1, "data": {"tools": [{"tool": "grid.transpose"}]}}"#;
    assert_eq!(env.run(&["edit", "check", "-", "--for", "puzzle"], edit).code, Some(0));
    assert_snapshot!(env.run(&["edit", "check", "-", "--for", "passage"], edit), @r"
    exit code: 2
    ----- stderr
    error: the self-edit was refused for 1 problem
      wrong_kind at /data/tools/0/tool: expected a tool that works on passages, found `grid.transpose`, a puzzle augmenter
    hint: `selkie schema` prints what a self-edit may say
    ");
}

#[test]
fn the_schema_has_the_tools_that_are_listed() {
    let env = TestEnvironment::new();
    let schema = env.run(&["schema"], "").json();
    let branches = schema.pointer("/$defs/tool/anyOf").and_then(Value::as_array).expect("branches");
    let in_schema: Vec<&Value> =
        branches.iter().map(|branch| &branch["properties"]["tool"]["const"]).collect();
    let tools = env.run(&["tool", "list", "--json"], "").json();
    // A model does not choose who grades it.
    let usable = tools["tools"].as_array().expect("a list").iter().filter(|tool| tool["kind"] != "grader");
    let listed: Vec<&Value> = usable.map(|tool| &tool["name"]).collect();
    assert_eq!(in_schema, listed);
    assert_snapshot!(env.run(&["tool", "list"], ""), @r"
    exit code: 0
    ----- stdout
    grade.contained_match   1 when one answer's words stand in the other in one piece, after SQuAD's normalisation, with at most extra_words others.  (graders 0.1.0, [DIGEST])
    grade.exact_match       1 when two answers are equal, after SQuAD's normalisation (case, punctuation, articles, spaces) unless normalise is false.  (graders 0.1.0, [DIGEST])
    grade.grid_match        1 when two grids are equal; with partial the share of equal cells, 0 when the shapes differ.  (graders 0.1.0, [DIGEST])
    grade.numeric           1 when the numbers in two answers agree in order, within a relative or an absolute tolerance; without numbers when the answers are equal.  (graders 0.1.0, [DIGEST])
    grade.rubric            How much of a passage a self-edit carries: its words, names and numbers, without copying, repetition and inventions.  (graders 0.1.0, [DIGEST])
    grade.token_f1          SQuAD's F1: how many words two answers share after normalisation.  (graders 0.1.0, [DIGEST])
    grid.chain              Applies one to four grid tools one after the other.  (grid 0.1.0, [DIGEST])
    grid.concat             Joins what one to four grid tools make of a grid: stacked (rows) or side by side (columns). Tasks whose parts do not fit together are left out.  (grid 0.1.0, [DIGEST])
    grid.flip               Reverses the order of the rows (top to bottom) or of the columns (left to right).  (grid 0.1.0, [DIGEST])
    grid.identity           Keeps every grid as it is.  (grid 0.1.0, [DIGEST])
    grid.increase_height    Repeats every row factor times in place.  (grid 0.1.0, [DIGEST])
    grid.increase_width     Repeats every column factor times in place.  (grid 0.1.0, [DIGEST])
    grid.permute_colors     Random copies with other colors, the same exchange in all grids of a task; color 0 stays unless keep_background is false.  (grid 0.1.0, [DIGEST])
    grid.permute_examples   Random copies with the demonstrations in another order.  (grid 0.1.0, [DIGEST])
    grid.reflect            Puts the mirrored grid below (rows) or to the right (columns) of the grid; with `reverse` above or to the left.  (grid 0.1.0, [DIGEST])
    grid.repeat             Tiles the whole grid: stacked (rows), side by side (columns) or both ways.  (grid 0.1.0, [DIGEST])
    grid.rotate             Rotates every grid counterclockwise by 90, 180 or 270 degrees.  (grid 0.1.0, [DIGEST])
    grid.translate          Random copies whose grids are shifted down and right with wrap-around.  (grid 0.1.0, [DIGEST])
    grid.transpose          Swaps rows and columns (mirrors at the main diagonal).  (grid 0.1.0, [DIGEST])
    grid.upscale            Enlarges every cell to a square of factor x factor cells.  (grid 0.1.0, [DIGEST])
    judge.likelihood        How likely the model finds a self-edit's documents after the passage, and how unlikely after its title alone.  (judge 0.1.0, [DIGEST])
    text.rewrite_facts      Says simple sentences of the passage, and of the completions unless that is false, in another order or as question and answer; leaves out the others.  (text 0.1.0, [DIGEST])
    text.self_qa            Every labelled question of the completions becomes a document with its answer; questions without one are left out.  (text 0.1.0, [DIGEST])
    text.sentences          Every sentence of the passage becomes a document.  (text 0.1.0, [DIGEST])
    text.shuffle_sentences  Random copies of the passage with its sentences in another order.  (text 0.1.0, [DIGEST])
    text.split              SEAL's splitting: every line, block or question of the completions becomes a document; the passage is the last unless source is false.  (text 0.1.0, [DIGEST])
    ");
    let seal = env.run(&["schema", "--seal-arc"], "").json();
    assert!(seal["properties"].as_object().is_some_and(|properties| !properties.is_empty()), "{seal:#}");
}

#[test]
fn a_model_is_asked_with_its_context() {
    let env = TestEnvironment::new();
    let passage = examples("passages").remove(0);
    let context: Value =
        serde_json::from_str(&std::fs::read_to_string(&passage).expect("a file")).expect("JSON");
    let prompt = env.run(&["edit", "prompt", &passage], "").succeeds();
    let words =
        |text: &str| text.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
    let said = words(&prompt);
    let left_out: Vec<String> = words(context["context"].as_str().expect("a text"))
        .into_iter()
        .filter(|word| !said.contains(word))
        .collect();
    assert!(left_out.is_empty(), "{left_out:?} not in {prompt}");
}

#[test]
fn a_tool_runs_on_a_grid_or_a_task() {
    let env = TestEnvironment::new();
    let run = |args: &[&str], stdin: &str| env.run(&[&["tool", "run"], args].concat(), stdin);
    let rotate = ["grid.rotate", "--params", r#"{"degrees":90}"#];
    assert_snapshot!(run(&rotate, "[[1,2,3],[4,5,6]]"), @r"
    exit code: 0
    ----- stdout
    [[3,6],[2,5],[1,4]]
    ");
    let task = r#"{"train": [{"input": [[1,2]], "output": [[3]]}], "test": {"input": [[4],[5]], "output": [[6,7]]}}"#;
    assert_snapshot!(run(&rotate, task), @r#"
    exit code: 0
    ----- stdout
    {"train":[{"input":[[2],[1]],"output":[[3]]}],"test":{"input":[[4,5]],"output":[[7],[6]]}}
    "#);
    // A random tool gives the same for the same seed.
    let colours = |seed| run(&["grid.permute_colors", "--seed", seed], task).to_string();
    assert_eq!(colours("5"), colours("5"));
    assert_ne!(colours("5"), colours("6"));
}

#[test]
fn a_call_that_is_not_one_is_refused() {
    let env = TestEnvironment::new();
    let run = |args: &[&str], stdin: &str| env.run(&[&["tool", "run"], args].concat(), stdin);
    assert_snapshot!(run(&["grid.rotat"], "[[1]]"), @r#"
    exit code: 2
    ----- stderr
    error: this tool call is not valid
      unknown_tool at /tool: expected one of grid.rotate, grid.concat, grid.repeat, grid.chain, grid.flip, grid.reflect, grid.identity, grid.translate, grid.upscale, grade.rubric, grid.transpose, text.split and 14 more, found "grid.rotat"
    hint: `selkie tool list --json` prints every tool's parameters
    "#);
    assert_snapshot!(run(&["grid.rotate"], "[[1]]"), @r"
    exit code: 2
    ----- stderr
    error: this tool call is not valid
      bad_params at /params/degrees: expected one of 90, 180, 270, found nothing
    hint: `selkie tool list --json` prints every tool's parameters
    ");
    assert_snapshot!(run(&["grid.rotate", "--params", r#"{"degrees": 91}"#], "[[1]]"), @r"
    exit code: 2
    ----- stderr
    error: this tool call is not valid
      bad_params at /params/degrees: expected one of 90, 180, 270, found 91
    hint: `selkie tool list --json` prints every tool's parameters
    ");
    assert_snapshot!(run(&["grid.rotate", "--params", "{degrees: 90}"], "[[1]]"), @r"
    exit code: 2
    ----- stderr
    error: --params is not JSON: key must be a string at line 1 column 2
    ");
    assert_snapshot!(run(&["grid.transpose"], "[[1,2],[3]]"), @r#"
    exit code: 2
    ----- stderr
    error: stdin is neither a grid nor a task: row 1 has 1 cells where row 0 has 2
    hint: a grid is rows of colours, [[0,1],[2,3]]; a task is {"train": [{"input": .., "output": ..}], "test": {..}}
    "#);
    assert_snapshot!(run(&["grid.transpose"], "[[12]]"), @r#"
    exit code: 2
    ----- stderr
    error: stdin is neither a grid nor a task: colour 12 at row 0, column 0: colours are 0 to 9
    hint: a grid is rows of colours, [[0,1],[2,3]]; a task is {"train": [{"input": .., "output": ..}], "test": {..}}
    "#);
    assert_snapshot!(run(&["grid.transpose"], ""), @r#"
    exit code: 2
    ----- stderr
    error: stdin is neither a grid nor a task: EOF while parsing a value at line 1 column 0
    hint: a grid is rows of colours, [[0,1],[2,3]]; a task is {"train": [{"input": .., "output": ..}], "test": {..}}
    "#);
    assert_snapshot!(run(&["grid.transpose"], r#"{"train": []}"#), @r#"
    exit code: 2
    ----- stderr
    error: stdin is neither a grid nor a task: missing field `test`
    hint: a grid is rows of colours, [[0,1],[2,3]]; a task is {"train": [{"input": .., "output": ..}], "test": {..}}
    "#);
}

#[test]
fn wrong_usage_is_told_with_the_usage() {
    let env = TestEnvironment::new();
    assert_snapshot!(env.run(&["adapt"], ""), @r"
    exit code: 2
    ----- stderr
    error: the following required arguments were not provided:
      <CONTEXT.json>

    Usage: selkie adapt <CONTEXT.json>

    For more information, try '--help'.
    ");
    assert_snapshot!(env.run(&["rotate"], ""), @r"
    exit code: 2
    ----- stderr
    error: unrecognized subcommand 'rotate'

    Usage: selkie <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(env.run(&["--version"], ""), @r"
    exit code: 0
    ----- stdout
    selkie 0.1.0
    ");
}

#[test]
fn a_passage_is_learned_with_text_tools() {
    let env = TestEnvironment::new();
    env.write(
        "town.json",
        r#"{"title": "Volgan", "context": "Volgan was founded in 1203. It lies on the Ost. Its mayor is Lu.",
            "questions": [{"question": "Who is the mayor of Volgan?", "answer": "Lu"}]}"#,
    );
    let adapt = |tools: &str| {
        let text = format!(r#"{{"version": 1, "data": {{{tools}, "include_source": false}}}}"#);
        env.write("edit.json", &text);
        env.run(&["adapt", "town.json", "--self-edit", "edit.json", "--fresh"], "")
    };
    let told = adapt(
        r#""tools": [{"tool": "text.sentences"}, {"chain": [{"tool": "text.shuffle_sentences",
           "params": {"copies": 2, "title": false}}, {"tool": "text.sentences", "params": {"title": false}}]}]"#,
    );
    let told: Vec<String> =
        told.succeeds().lines().filter(|line| line.contains("documents")).map(str::to_owned).collect();
    assert_snapshot!(told.join("\n"), @"
      text.sentences              9 documents from 3 calls, 0.1 M fuel  (text 0.1.0)
      text.shuffle_sentences      2 documents from 1 calls, 0.0 M fuel  (text 0.1.0)
    6 documents to learn from
    ");
    // An edit's own limits take away from the host's.
    assert_snapshot!(adapt(r#""tools": [{"tool": "text.sentences"}], "limits": {"items": 2}"#), @r##"
    exit code: 2
    ----- stdout
    passage "Volgan": 1 questions
    model pup-facts ([DIGEST])
    ----- stderr
    error: plugin text 0.1.0, tool `text.sentences`: stopped by the limit output_items: 3 used, 2 allowed
    "##);
    assert_snapshot!(adapt(r#""tools": [{"tool": "text.sentences"}], "limits": {"fuel": 100}"#), @r##"
    exit code: 2
    ----- stdout
    passage "Volgan": 1 questions
    model pup-facts ([DIGEST])
    ----- stderr
    error: plugin text 0.1.0, tool `text.sentences`: stopped by the limit fuel: 100 used, 100 allowed
    "##);
    assert_snapshot!(adapt(r#""tools": [{"tool": "grade.rubric"}]"#), @r##"
    exit code: 2
    ----- stdout
    passage "Volgan": 1 questions
    model pup-facts ([DIGEST])
    ----- stderr
    error: the self-edit was refused for 1 problem
      wrong_kind at /data/tools/0/tool: expected a tool that works on passages, found `grade.rubric`, a grader
    hint: `selkie schema` prints what a self-edit may say
    "##);
}

#[test]
fn texts_and_answers_go_through_tools() {
    let env = TestEnvironment::new();
    let run = |tool: &[&str], input: &str| env.run(&[&["tool", "run"], tool].concat(), input);
    let edit = r#"{"passage": "Volgan was founded in 1203.", "documents": ["Volgan is from 1203."]}"#;
    let answers = r#"{"answer": "the Louvre, Paris", "reference": "Louvre"}"#;
    let runs = [
        run(&["text.sentences"], "Dr. Lu is 3.5 m tall. Is he?"),
        run(&["text.split"], r#"{"title": "T", "text": "A.", "completions": ["Here:\n1. B.\n2. C."]}"#),
        run(&["grade.exact_match"], answers),
        run(&["grade.token_f1"], answers),
        run(
            &["grade.grid_match", "--params", r#"{"partial": true}"#],
            r#"{"answer": [[1, 2]], "reference": [[1, 3]]}"#,
        ),
        run(&["grade.numeric"], r#"{"answer": [[1, 2]], "reference": [[1, 3]]}"#),
        run(&["grade.rubric"], edit),
        run(&["judge.likelihood"], edit),
        run(&["judge.likelihood", "--grant", "grid"], edit),
        run(&["judge.likelihood", "--grant", "jugde"], edit),
        run(&["grade.rubric"], "[1]"),
        run(&["text.sentences"], "{"),
    ];
    assert_snapshot!(runs.map(|run| run.to_string()).join(""), @r##"
    exit code: 0
    ----- stdout
    ["Dr. Lu is 3.5 m tall.","Is he?"]
    exit code: 0
    ----- stdout
    ["T\n1. B.","T\n2. C.","T\nA."]
    exit code: 0
    ----- stdout
    {"value":0.0}
    exit code: 0
    ----- stdout
    {"value":0.6666666666666666}
    exit code: 0
    ----- stdout
    {"value":0.5}
    exit code: 2
    ----- stderr
    error: plugin graders 0.1.0, tool `grade.numeric`: unsupported input: given two grids; this grader takes `answers`
    exit code: 0
    ----- stdout
    {"value":0.8888888888888888,"reasons":["67% of the passage's words are in the documents","100% of its names and numbers are","100% of the documents' words are in the passage"]}
    exit code: 2
    ----- stderr
    error: plugin judge 0.1.0: the host model is not granted to it: the operator has not granted it (`--grant PLUGIN`)
    exit code: 2
    ----- stderr
    error: plugin grid 0.1.0: the host model is not granted to it: its manifest does not ask for it ("asks": ["host_model"])
    exit code: 2
    ----- stderr
    error: the host model is granted to `jugde`, and no loaded plugin has that name; loaded are grid, text, graders, judge
    exit code: 2
    ----- stderr
    error: stdin is nothing to grade
    hint: write {"answer": .., "reference": ..} with two texts or two grids, or {"title": .., "passage": .., "documents": [..]}
    exit code: 2
    ----- stderr
    error: stdin is no text source: EOF while parsing an object at line 1 column 1
    hint: a source is {"title": .., "text": .., "completions": [..]}; anything else is the text itself
    "##);
    let judged = run(&["judge.likelihood", "--grant", "judge"], edit).json();
    assert!(judged["value"].as_f64().is_some_and(|value| value > 0.0 && value < 1.0), "{judged}");
}

#[test]
fn a_prompt_for_json_has_the_tools_of_the_context() {
    let env = TestEnvironment::new();
    env.write("town.json", r#"{"title": "Volgan", "context": "It lies on the Ost.", "questions": [{"question": "Where?", "answer": "Ost"}]}"#);
    let prompt = env.run(&["edit", "prompt", "town.json", "--json"], "").succeeds();
    assert_snapshot!(prompt.split("Answer with").next().unwrap_or_default(), @"
    You will be asked about this passage without seeing it. Before that you are trained on the documents that you write about it, on what tools make of it and of them, and on the passage itself.

    Passage:
    Volgan
    It lies on the Ost.

    Tools:
    text.rewrite_facts {title?: boolean, completions?: boolean}: Says simple sentences of the passage, and of the completions unless that is false, in another order or as question and answer; leaves out the others.
    text.self_qa {title?: boolean}: Every labelled question of the completions becomes a document with its answer; questions without one are left out.
    text.sentences {title?: boolean}: Every sentence of the passage becomes a document.
    text.shuffle_sentences {title?: boolean, copies?: integer 1..16}: Random copies of the passage with its sentences in another order.
    text.split {title?: boolean, source?: boolean}: SEAL's splitting: every line, block or question of the completions becomes a document; the passage is the last unless source is false.
    ");
}
