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
    let listed: Vec<&Value> =
        tools["tools"].as_array().expect("a list").iter().map(|tool| &tool["name"]).collect();
    assert_eq!(in_schema, listed);
    assert_snapshot!(env.run(&["tool", "list"], ""), @r"
    exit code: 0
    ----- stdout
    grid.chain             Applies one to four grid tools one after the other.  (grid 0.1.0, [DIGEST])
    grid.concat            Joins what one to four grid tools make of a grid: stacked (rows) or side by side (columns). Tasks whose parts do not fit together are left out.  (grid 0.1.0, [DIGEST])
    grid.flip              Reverses the order of the rows (top to bottom) or of the columns (left to right).  (grid 0.1.0, [DIGEST])
    grid.identity          Keeps every grid as it is.  (grid 0.1.0, [DIGEST])
    grid.increase_height   Repeats every row factor times in place.  (grid 0.1.0, [DIGEST])
    grid.increase_width    Repeats every column factor times in place.  (grid 0.1.0, [DIGEST])
    grid.permute_colors    Random copies with other colors, the same exchange in all grids of a task; color 0 stays unless keep_background is false.  (grid 0.1.0, [DIGEST])
    grid.permute_examples  Random copies with the demonstrations in another order.  (grid 0.1.0, [DIGEST])
    grid.reflect           Puts the mirrored grid below (rows) or to the right (columns) of the grid; with `reverse` above or to the left.  (grid 0.1.0, [DIGEST])
    grid.repeat            Tiles the whole grid: stacked (rows), side by side (columns) or both ways.  (grid 0.1.0, [DIGEST])
    grid.rotate            Rotates every grid counterclockwise by 90, 180 or 270 degrees.  (grid 0.1.0, [DIGEST])
    grid.translate         Random copies whose grids are shifted down and right with wrap-around.  (grid 0.1.0, [DIGEST])
    grid.transpose         Swaps rows and columns (mirrors at the main diagonal).  (grid 0.1.0, [DIGEST])
    grid.upscale           Enlarges every cell to a square of factor x factor cells.  (grid 0.1.0, [DIGEST])
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
      unknown_tool at /tool: expected one of grid.rotate, grid.concat, grid.repeat, grid.chain, grid.flip, grid.reflect, grid.identity, grid.translate, grid.upscale, grid.transpose, grid.increase_width, grid.permute_colors and 2 more, found "grid.rotat"
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
