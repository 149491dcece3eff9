//! What a model reads before it writes an edit.

use selkie_edit::{Catalogue, Context, Domain, edit_prompt, selkie_form_help, tool_list};
use serde_json::json;

use crate::support::{catalogue, read, tool};

#[test]
fn the_tool_list() {
    insta::assert_snapshot!(tool_list(&catalogue(), Domain::Puzzle), @r#"
    grid.flip {axis: rows|columns}: Mirrors every grid.
    grid.increase_height {factor: integer 2..8}: Repeats every row.
    grid.increase_width {factor: integer 2..8}: Repeats every column.
    grid.note {note?: string}: Changes nothing.
    grid.permute_colors {copies: integer 1..64}: Renames colours.
    grid.permute_examples {copies: integer 1..64}: Shuffles demonstrations.
    grid.reflect {axis: rows|columns, reverse: boolean}: Adds the mirror image.
    grid.repeat {axis: rows|columns|both, times: integer 2..8}: Tiles every grid.
    grid.rotate {degrees: 90|180|270}: Turns every grid.
    grid.translate {copies: integer 1..64}: Moves every grid.
    grid.transpose {}: Swaps rows and columns.
    grid.upscale {factor: integer 2..8}: Enlarges every cell.
    "#);
    let texts = "text.note {}: Writes the passage's title.\n";
    assert_eq!(tool_list(&catalogue(), Domain::Passage), texts);
}

#[test]
fn a_plugin_cannot_flood_the_prompt() {
    let loud = tool(
        "loud.tool",
        &"shout\n".repeat(1000),
        json!({ "properties": { "a": {}, "b": { "maximum": 3 } } }),
    );
    let list = tool_list(&Catalogue::new([loud]).expect("distinct"), Domain::Puzzle);
    assert!(list.starts_with("loud.tool {a?: any, b?: any <= 3}: shout\\nshout"), "{list}");
    assert_eq!((list.lines().count(), list.chars().count()), (1, 244));
    let many = (0..100).map(|n| tool(&format!("many.{n}"), "", json!({})));
    let list = tool_list(&Catalogue::new(many).expect("distinct"), Domain::Puzzle);
    assert_eq!(list.lines().last(), Some("and 36 more"));
}

#[test]
fn a_puzzles_prompt() {
    let puzzle = r#"{"train": [{"input": [[1, 2]], "output": [[2, 1]]}, {"input": [[3]], "output": [[4]]}],
                     "test": [{"input": [[5], [6]], "output": [[9]]}]}"#;
    let context = Context::from_json(puzzle, "p").expect("a puzzle");
    insta::assert_snapshot!(edit_prompt(&context, &catalogue()), @r#"
    A hidden rule turns each input grid into its output grid. You will be trained on these demonstrations, with one left out at a time, and on what tools make of them. Choose tools that keep the rule intact, and how to train.

    Demonstration 1
    Input:
    1 2
    Output:
    2 1

    Demonstration 2
    Input:
    3
    Output:
    4

    To solve
    Input:
    5
    6

    Tools:
    grid.flip {axis: rows|columns}: Mirrors every grid.
    grid.increase_height {factor: integer 2..8}: Repeats every row.
    grid.increase_width {factor: integer 2..8}: Repeats every column.
    grid.note {note?: string}: Changes nothing.
    grid.permute_colors {copies: integer 1..64}: Renames colours.
    grid.permute_examples {copies: integer 1..64}: Shuffles demonstrations.
    grid.reflect {axis: rows|columns, reverse: boolean}: Adds the mirror image.
    grid.repeat {axis: rows|columns|both, times: integer 2..8}: Tiles every grid.
    grid.rotate {degrees: 90|180|270}: Turns every grid.
    grid.translate {copies: integer 1..64}: Moves every grid.
    grid.transpose {}: Swaps rows and columns.
    grid.upscale {factor: integer 2..8}: Enlarges every cell.

    Answer with one JSON object:
    {"version": 1, "reason": TEXT,
     "data": {"tools": [{"tool": NAME, "params": {...}}, {"chain": [TOOL, TOOL]}],
              "permute": {"copies": 1, "colors": true},
              "documents": [TEXT, ...], "include_source": true, "replay": 0},
     "training": {"loss_on": "final_output"|"all_outputs"|"all_tokens", "learning_rate": 1e-4,
                  "epochs": 2, "batch_size": 2,
                  "lora": {"rank": 16, "alpha": 16, "targets": ["q_proj", "v_proj"]},
                  "schedule": "cosine"|"linear"|"constant", "warmup_steps": 0}}
    Only version and data are required. permute is for puzzles; include_source and replay are for passages.
    replay is how many texts about what you knew before are learned along, so that you do not forget it.
    "#);
    assert!(edit_prompt(&context, &Catalogue::default()).contains("Tools:\nnone\n"));
}

#[test]
fn the_form_in_the_prompt_is_valid() {
    let form = selkie_form_help().split_once(":\n").expect("a form").1;
    let (form, _) = form.split_once("\nOnly").expect("a note");
    let edit = form
        .replace("[TOOL, TOOL]", r#"[{"tool": "grid.transpose"}]"#)
        .replace("NAME, \"params\": {...}", "\"grid.transpose\", \"params\": {}")
        .replace("TEXT, ...", "\"a text\"")
        .replace("TEXT", "\"why\"")
        .replace("|\"all_outputs\"|\"all_tokens\"", "")
        .replace("|\"linear\"|\"constant\"", "");
    read(&edit, Domain::Puzzle).expect(&edit);
}
