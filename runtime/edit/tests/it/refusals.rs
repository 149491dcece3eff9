//! Refusals as a model reads them, and the hostile edits that must be refused at once.

use std::time::{Duration, Instant};

use selkie_edit::{Code, Dialect, Domain, validate_call};
use serde_json::{Value, json};

use crate::support::{codes, read, validator};

fn refusal(text: &str, domain: Domain) -> String {
    read(text, domain).expect_err("refused").to_string()
}

#[test]
fn what_a_model_reads() {
    insta::assert_snapshot!(refusal(r#"{"version": 2, "data": {"tool": []}, "training": {"learning_rate": 1e308, "epochs": 0.5, "loss_on": "all", "lora": {"targets": ["q"], "rank": 0}}}"#, Domain::Puzzle), @r#"
    the self-edit was refused for 7 problems
      out_of_range at /version: expected 1, found 2
      unknown_field at /data/tool: expected one of tools, replay, limits, permute, documents, include_source, found `tool`
      out_of_range at /training/learning_rate: expected a number from 1e-6 to 1, found 1e+308
      wrong_type at /training/epochs: expected a whole number from 1 to 50, found 0.5
      out_of_range at /training/loss_on: expected one of final_output, all_outputs, all_tokens, found "all"
      out_of_range at /training/lora/targets/0: expected one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, found "q"
      out_of_range at /training/lora/rank: expected a whole number from 1 to 256, found 0
    "#);
    insta::assert_snapshot!(refusal(r#"{"version": 1, "data": {"tools": [
        {"tool": "grid.rotat", "params": {"degrees": 90}},
        {"tool": "grid.rotate", "params": {"degrees": 45, "clockwise": true}},
        {"tool": "grid.rotate"},
        {"chain": []},
        {"chain": [{"tool": "grid.upscale", "params": {"factor": 100}}, {"name": "grid.flip"}]},
        "grid.flip"]}}"#, Domain::Puzzle), @r#"
    the self-edit was refused for 9 problems
      wrong_type at /data/tools/5: expected an object, found "grid.flip"
      unknown_tool at /data/tools/0/tool: expected one of grid.rotate, grid.note, grid.repeat, grid.flip, grid.reflect, grid.translate, grid.upscale, grid.transpose, grid.increase_width, grid.permute_colors, grid.increase_height, grid.permute_examples, found "grid.rotat"
      bad_params at /data/tools/1/params/degrees: expected one of 90, 180, 270, found 45
      bad_params at /data/tools/1/params/clockwise: expected one of degrees, found `clockwise`
      bad_params at /data/tools/2/params: expected an object with the tool's parameters, found nothing
      out_of_range at /data/tools/3/chain: expected a list of 1 or more, found an empty list
      bad_params at /data/tools/4/chain/0/params/factor: expected a whole number from 2 to 8, found 100
      unknown_field at /data/tools/4/chain/1/name: expected one of tool, params, found `name`
      missing_field at /data/tools/4/chain/1/tool: expected a string of at most 128 characters, found nothing
    "#);
    insta::assert_snapshot!(refusal(r#"{"data_generation": {"use_basic_augmentations": 1, "use_size_augmentations": true, "use_chain_augmentations": false}, "training": {"strategy": "train_using_everything", "learning_rate": 0.0001, "epochs": 2}}"#, Domain::Puzzle), @r#"
    the self-edit was refused for 5 problems
      missing_field at /data_generation/use_repeat_augmentations: expected true or false, found nothing
      wrong_type at /data_generation/use_basic_augmentations: expected true or false, found 1
      missing_field at /training/num_train_epochs: expected a whole number from 1 to 50, found nothing
      out_of_range at /training/strategy: expected one of train_using_all_tokens, train_using_output_tokens, found "train_using_everything"
      unknown_field at /training/epochs: expected one of strategy, num_train_epochs, learning_rate, found `epochs`
    "#);
    insta::assert_snapshot!(refusal("Sure!\n```json\n{\"version\": 1,\n \"data\": {\"tools\": [],}}\n```", Domain::Puzzle), @r#"
    the self-edit was refused for 1 problem
      bad_json at /: expected valid JSON, found trailing comma at line 4, column 23
    "#);
    insta::assert_snapshot!(refusal("{\"version\": 1, \"data\": {\"tools\": [{\"tool\": \"grid.ro", Domain::Puzzle), @r#"
    the self-edit was refused for 1 problem
      bad_json at /: expected a complete JSON object, found the end of the text inside the object that opens at line 1, column 1
    "#);
    insta::assert_snapshot!(refusal(r#"{"version": 1, "data": {}, "training": {"learning_rate": NaN, "lora": {"alpha": -Infinity}}}"#, Domain::Puzzle), @r#"
    the self-edit was refused for 2 problems
      not_finite at /training/learning_rate: expected a finite number, found NaN
      not_finite at /training/lora/alpha: expected a finite number, found -Infinity
    "#);
    insta::assert_snapshot!(refusal("I would rotate the grids.\nAnd train for long.", Domain::Puzzle), @r#"
    the self-edit was refused for 1 problem
      no_json at /: expected a JSON object in Selkie's form (`version`, `data`) or SEAL's (`data_generation`, `training`), found "I would rotate the grids.\nAnd train for long."
    "#);
    insta::assert_snapshot!(refusal(r#"{"edit": {"version": 1}}"#, Domain::Puzzle), @r#"
    the self-edit was refused for 1 problem
      unknown_form at /: expected Selkie's form (`version`, `data`) or SEAL's (`data_generation`, `training`), found an object with edit
    "#);
    insta::assert_snapshot!(refusal(r#"{"version": 1, "data": {"tools": [{"tool": "grid.flip", "params": {"axis": "rows"}}], "documents": [" "], "permute": {}, "include_source": false}}"#, Domain::Passage), @r#"
    the self-edit was refused for 3 problems
      wrong_kind at /data/tools/0/tool: expected a tool that works on passages, found `grid.flip`, a puzzle augmenter
      out_of_range at /data/documents/0: expected a text, found only white space
      wrong_kind at /data/permute: expected no permutation, as a passage has no grids, found permute
    "#);
    insta::assert_snapshot!(refusal("{\"version\": 1, \"data\": {}, \"a\\nb\": \"\\u0000\"}", Domain::Puzzle), @r#"
    the self-edit was refused for 1 problem
      unknown_field at /a\nb: expected one of data, reason, version, training, found `a\nb`
    "#);
    insta::assert_snapshot!(refusal("", Domain::Passage), @r#"
    the self-edit was refused for 1 problem
      empty at /: expected a self-edit, found no text
    "#);
}

#[test]
fn a_call_outside_an_edit_is_checked() {
    let validator = validator();
    let call = |call: Value| validate_call(&call, &validator);
    let rotate = |degrees: u32| json!({ "tool": "grid.rotate", "params": { "degrees": degrees } });
    call(rotate(90)).expect("valid");
    call(json!({ "tool": "grid.transpose" })).expect("valid");
    let check = |value: Value, code: Code, pointer: &str| {
        assert_eq!(codes(&call(value).expect_err("refused")), [(code, pointer)]);
    };
    check(json!({ "tool": "grid.rotat" }), Code::UnknownTool, "/tool");
    check(rotate(45), Code::BadParams, "/params/degrees");
    check(json!({ "tool": "grid.rotate" }), Code::BadParams, "/params");
    check(json!({ "params": {} }), Code::MissingField, "/tool");
    check(json!("grid.rotate"), Code::WrongType, "");
}

/// Refused for one reason, and quickly: nothing here may be quadratic.
fn check_hostile(text: &str, domain: Domain, code: Code) {
    let start = Instant::now();
    let refused = read(text, domain).expect_err("refused");
    assert_eq!(codes(&refused)[0].0, code, "{refused}");
    assert!(refused.to_string().len() < 20_000, "{} bytes", refused.to_string().len());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn hostile_edits_are_refused_at_once() {
    let n = 500_000;
    check_hostile(&"x".repeat(10 << 20), Domain::Puzzle, Code::TooLarge);
    check_hostile(&"[".repeat(10_000), Domain::Puzzle, Code::TooDeep);
    check_hostile(&"[".repeat(10_000), Domain::Passage, Code::TooDeep);
    check_hostile(&format!("```json\n{}", "[".repeat(10_000)), Domain::Passage, Code::TooDeep);
    check_hostile(
        &format!(r#"{{"version": 1, "data": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000)),
        Domain::Puzzle,
        Code::TooDeep,
    );
    check_hostile(&r#"{"a":"#.repeat(10_000), Domain::Puzzle, Code::TooDeep);
    check_hostile(&"{".repeat(n), Domain::Puzzle, Code::BadJson);
    check_hostile(&"{\"".repeat(n), Domain::Puzzle, Code::TooDeep);
    check_hostile(&"{}".repeat(n), Domain::Puzzle, Code::UnknownForm);
    check_hostile(&"{ ".repeat(n), Domain::Puzzle, Code::BadJson);
    check_hostile(
        &format!(r#"{{"version": 1, "data": {{}}, "{}": 1}}"#, "k".repeat(n)),
        Domain::Puzzle,
        Code::UnknownField,
    );
    let keys: String = (0..50_000).map(|key| format!(r#", "{key}": 1"#)).collect();
    check_hostile(&format!(r#"{{"version": 1, "data": {{}}{keys}}}"#), Domain::Puzzle, Code::UnknownField);
    let tools = r#"{"tool": "x"},"#.repeat(30_000);
    check_hostile(
        &format!(r#"{{"version": 1, "data": {{"tools": [{tools}1]}}}}"#),
        Domain::Puzzle,
        Code::OverLimit,
    );
    let numbers = "NaN,".repeat(100_000);
    check_hostile(&format!(r#"{{"version": 1, "data": [{numbers}1]}}"#), Domain::Puzzle, Code::NotFinite);
    check_hostile(&"a\n".repeat(n), Domain::Passage, Code::OverLimit);
    check_hostile(&"\n".repeat(n), Domain::Passage, Code::Empty);
}

#[test]
fn the_edit_is_found_among_other_text() {
    let edit = r#"{"version": 1, "data": {}}"#;
    let check = |text: &str, domain: Domain, dialect: Dialect| {
        assert_eq!(read(text, domain).expect(text).dialect, dialect, "{text}");
    };
    for domain in [Domain::Puzzle, Domain::Passage] {
        check(&format!("\u{feff}  {edit}  trailing }}"), domain, Dialect::Selkie);
        check(&format!("Here you are:\r\n```json\r\n{edit}\r\n```\r\nGood luck"), domain, Dialect::Selkie);
        check(
            &format!(r#"Given {{"input": [[1]]}} and {{set}} I write {edit} and {{"version": 9}}"#),
            domain,
            Dialect::Selkie,
        );
        check(&format!("[{edit}]"), domain, Dialect::Selkie);
        check(&format!("an open {{\"brace {edit}"), domain, Dialect::Selkie);
    }
    check("The set {1, 2} is {\"finite\"}.\n[1] A source.", Domain::Passage, Dialect::SealCompletion);
    check("Some code:\n```\nx = {\"a\": 1}\n```", Domain::Passage, Dialect::SealCompletion);
}

#[test]
fn a_broken_edit_for_a_passage_is_not_a_completion() {
    let check = |text: &str, code: Code| {
        assert_eq!(codes(&read(text, Domain::Passage).expect_err(text)), [(code, "")])
    };
    check(r#"{"version": 1, "data": {"documents": ["a"#, Code::BadJson);
    check("```json\n{\"documents\": [\"a\"", Code::BadJson);
    check("My edit:\n{\"version\": 1, \"data\": {", Code::BadJson);
    check(r#"{"facts": ["a"]}"#, Code::UnknownForm);
    check(r#"["a", "b"]"#, Code::UnknownForm);
}
