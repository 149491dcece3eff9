//! Bad input: each gives a clear error and exit code 2, and changes nothing.

use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::kill::{FACTS, PASSAGE};
use crate::support::{TestEnvironment, base_files, example, examples, filtered, repository, tree};

/// Runs `adapt` with these arguments on a home with a generation, and on one that is not there; gives the error.
fn refused(env: &TestEnvironment, name: &str, args: &[&str]) -> String {
    let before = tree(&env.path("home"));
    assert!(!before.is_empty(), "a home");
    let output = env.run(&[&["adapt"], args].concat(), "");
    assert_eq!(output.code, Some(2), "{name}: {output}");
    assert!(tree(&env.path("home")) == before, "{name}: the home changed");
    let elsewhere = env.run(&[&["adapt"], args, &["--home", "nowhere"]].concat(), "");
    assert_eq!(elsewhere.to_string(), output.to_string(), "{name}");
    assert!(!env.path("nowhere").exists(), "{name}: a home was made");
    // A long list of problems says no more than its beginning.
    let text = filtered(output.stderr.replace(&env.path("").display().to_string(), "[TEMP]/"));
    let lines: Vec<&str> = text.lines().collect();
    let more = if lines.len() > 5 { format!("  [{} more lines]\n", lines.len() - 5) } else { String::new() };
    let shown: String = lines.iter().take(5).map(|line| format!("  {line}\n")).collect();
    format!("{name}\n{shown}{more}")
}

/// An environment whose home has one generation.
fn environment() -> TestEnvironment {
    let env = TestEnvironment::new();
    env.run(&["adapt", &example(PASSAGE), "--self-edit", "-"], FACTS).succeeds();
    env
}

#[test]
fn edits() {
    let env = environment();
    let with = |training: &str| {
        format!(
            r#"{{"version": 1, "data": {{"tools": [{{"tool": "grid.transpose"}}]}}, "training": {training}}}"#
        )
    };
    let call = |call: &str| format!(r#"{{"version": 1, "data": {{"tools": [{call}]}}}}"#);
    let rows = [
        ("truncated JSON", r#"{"version": 1, "data": {"tools": [{"tool": "grid.rot"#.to_owned()),
        ("unknown tool", call(r#"{"tool": "grid.rotat"}"#)),
        ("wrong parameter", call(r#"{"tool": "grid.rotate", "params": {"degrees": 45}}"#)),
        ("a 10 MB edit", format!(r#"{{"version": 1, "data": {{}}, "reason": "{}"}}"#, "x".repeat(10 << 20))),
        ("10,000 nested arrays", "[".repeat(10_000) + &"]".repeat(10_000)),
        ("10,000 nested arrays in a parameter", {
            let nested = "[".repeat(10_000) + &"]".repeat(10_000);
            call(&format!(r#"{{"tool": "grid.rotate", "params": {{"degrees": {nested}}}}}"#))
        }),
        ("learning rate NaN", with(r#"{"learning_rate": NaN}"#)),
        ("learning rate 1e308", with(r#"{"learning_rate": 1e308}"#)),
        ("learning rate 1e999", with(r#"{"learning_rate": 1e999}"#)),
        ("not JSON at all", "Rotate the grids, please.".to_owned()),
        ("nothing", String::new()),
    ];
    let puzzle = examples("puzzles").remove(0);
    let mut text = String::new();
    for (name, edit) in rows {
        env.write("edit.json", &edit);
        text += &refused(&env, name, &[&puzzle, "--self-edit", "edit.json"]);
    }
    env.write("edit.json", [b'{', 0xff, 0xfe]);
    text += &refused(&env, "not UTF-8", &[&puzzle, "--self-edit", "edit.json"]);
    text += &refused(&env, "no such edit", &[&puzzle, "--self-edit", "absent.json"]);
    let documents: Vec<String> = (0..200).map(|at| format!("Fact {at} is a fact.")).collect();
    let many = json!({ "version": 1, "data": { "documents": documents }, "training": { "epochs": 2, "batch_size": 1 } });
    env.write("edit.json", many.to_string());
    text += &refused(&env, "more than 375 steps", &[&example(PASSAGE), "--self-edit", "edit.json"]);
    assert_snapshot!(text, @r#"
    truncated JSON
      error: the self-edit was refused for 1 problem
        bad_json at /: expected a complete JSON object, found the end of the text inside the object that opens at line 1, column 1
      hint: `selkie schema` prints what a self-edit may say
    unknown tool
      error: the self-edit was refused for 1 problem
        unknown_tool at /data/tools/0/tool: expected one of grid.rotate, grid.concat, grid.repeat, grid.chain, grid.flip, grid.reflect, grid.identity, grid.translate, grid.upscale, grid.transpose, grid.increase_width, grid.permute_colors and 2 more, found "grid.rotat"
      hint: `selkie schema` prints what a self-edit may say
    wrong parameter
      error: the self-edit was refused for 1 problem
        bad_params at /data/tools/0/params/degrees: expected one of 90, 180, 270, found 45
      hint: `selkie schema` prints what a self-edit may say
    a 10 MB edit
      error: the self-edit was refused for 1 problem
        too_large at /: expected at most 1048576 bytes, found 1048577 bytes
      hint: `selkie schema` prints what a self-edit may say
    10,000 nested arrays
      error: the self-edit was refused for 1 problem
        too_deep at /: expected at most 32 arrays and objects inside each other, found more
      hint: `selkie schema` prints what a self-edit may say
    10,000 nested arrays in a parameter
      error: the self-edit was refused for 1 problem
        too_deep at /: expected at most 32 arrays and objects inside each other, found more
      hint: `selkie schema` prints what a self-edit may say
    learning rate NaN
      error: the self-edit was refused for 1 problem
        not_finite at /training/learning_rate: expected a finite number, found NaN
      hint: `selkie schema` prints what a self-edit may say
    learning rate 1e308
      error: the self-edit was refused for 1 problem
        out_of_range at /training/learning_rate: expected a number from 1e-6 to 1, found 1e+308
      hint: `selkie schema` prints what a self-edit may say
    learning rate 1e999
      error: the self-edit was refused for 1 problem
        not_finite at /training/learning_rate: expected a finite number, found 1e999
      hint: `selkie schema` prints what a self-edit may say
    not JSON at all
      error: the self-edit was refused for 1 problem
        no_json at /: expected a JSON object in Selkie's form (`version`, `data`) or SEAL's (`data_generation`, `training`), found "Rotate the grids, please."
      hint: `selkie schema` prints what a self-edit may say
    nothing
      error: the self-edit was refused for 1 problem
        empty at /: expected a self-edit, found no text
      hint: `selkie schema` prints what a self-edit may say
    not UTF-8
      error: `edit.json` is not UTF-8 text: invalid utf-8 sequence of 1 bytes from index 1
    no such edit
      error: cannot read `absent.json`: No such file or directory (os error 2)
    more than 375 steps
      error: the self-edit was refused for 1 problem
        too_many_steps at /training/epochs: expected at most 375 optimiser steps (SEAL drops a longer edit without a word; lower epochs, raise batch_size, or ask for fewer tools or documents), found 402 steps: 201 examples in batches of 1, 2 epochs
      hint: `selkie schema` prints what a self-edit may say
    "#);
}

#[test]
fn contexts() {
    let env = environment();
    let puzzle = |grid: &str| {
        let pair = r#"{"input": [[1, 2]], "output": [[2, 1]]}"#;
        format!(r#"{{"train": [{pair}, {{"input": {grid}, "output": [[1]]}}], "test": [{pair}]}}"#)
    };
    let rows = [
        ("truncated JSON", r#"{"title": "T", "context": "#.to_owned()),
        ("10,000 nested arrays", "[".repeat(10_000) + &"]".repeat(10_000)),
        ("ragged rows", puzzle("[[1, 2, 3], [4, 5]]")),
        ("colour 12", puzzle("[[1, 12]]")),
        ("a negative colour", puzzle("[[1, -1]]")),
        ("no rows", puzzle("[]")),
        ("31 columns", puzzle(&format!("[[{}0]]", "0,".repeat(30)))),
        (
            "one demonstration",
            r#"{"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]}"#.into(),
        ),
        ("no questions", r#"{"title": "T", "context": "A text.", "questions": []}"#.to_owned()),
        ("neither puzzle nor passage", r#"{"name": "x"}"#.to_owned()),
        ("nothing", String::new()),
    ];
    let mut text = String::new();
    for (name, context) in rows {
        env.write("context.json", &context);
        text += &refused(&env, name, &["context.json"]);
    }
    text += &refused(&env, "no such file", &["absent.json"]);
    text += &refused(&env, "a folder", &["."]);
    let pair = json!([{ "input": [[1]], "output": [[1]] }, { "input": [[2]], "output": [[2]] }]);
    env.write(
        "challenges.json",
        json!({ "a1": { "train": pair, "test": [{ "input": [[3]] }] } }).to_string(),
    );
    text += &refused(&env, "a challenges file without --task", &["challenges.json"]);
    text += &refused(&env, "a task that is not in it", &["challenges.json", "--task", "b2"]);
    assert_snapshot!(text, @r"
    truncated JSON
      error: `context.json`: line 1, column 26: EOF while parsing a value
    10,000 nested arrays
      error: `context.json`: more than 32 arrays and objects inside each other
    ragged rows
      error: `context.json`: train[1].input: row 1 has 2 cells where row 0 has 3
    colour 12
      error: `context.json`: train[1].input: 12 at row 0, column 1: colours are whole numbers from 0 to 9
    a negative colour
      error: `context.json`: train[1].input: -1 at row 0, column 1: colours are whole numbers from 0 to 9
    no rows
      error: `context.json`: train[1].input: a grid has at least one row and one column, found none
    31 columns
      error: `context.json`: train[1].input: 1x31, where a side is at most 30
    one demonstration
      error: `context.json`: train: 1, where there must be 2 to 32
    no questions
      error: `context.json`: questions: 0, where there must be 1 to 512
    neither puzzle nor passage
      error: `context.json`: neither a puzzle (`train`, `test`) nor a passage (`title`, `context`, `questions`): found an object with name
    nothing
      error: `context.json`: line 1, column 0: EOF while parsing a value
    no such file
      error: cannot read `absent.json`: No such file or directory (os error 2)
    a folder
      error: cannot read `.`: Is a directory (os error 21)
    a challenges file without --task
      error: `challenges.json`: 1 puzzles in one file: name the task to take
    a task that is not in it
      error: `challenges.json`: no task `b2` among 1: a1
    ");
}

/// A copy of the bundled facts model, with a change to each of its files; `None` leaves the file out.
fn model(env: &TestEnvironment, name: &str, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) {
    std::fs::create_dir(env.path(name)).expect("a folder");
    for (path, bytes) in base_files() {
        let file = path.file_name().and_then(|name| name.to_str()).expect("a name");
        if let Some(bytes) = change(file, bytes) {
            env.write(&format!("{name}/{file}"), bytes);
        }
    }
}

#[test]
fn models() {
    let env = environment();
    let without = |absent: &'static [&str]| {
        move |file: &str, bytes: Vec<u8>| if absent.contains(&file) { None } else { Some(bytes) }
    };
    // The first bytes of a file: so many of a hundred.
    let cut = |changed: &'static str, percent: usize| {
        move |file: &str, bytes: Vec<u8>| {
            let length = if file == changed { bytes.len() * percent / 100 } else { bytes.len() };
            Some(bytes[..length].to_vec())
        }
    };
    let replaced = |from: &'static str, to: &'static str| {
        move |file: &str, bytes: Vec<u8>| match file {
            "config.json" => Some(String::from_utf8(bytes).expect("text").replace(from, to).into_bytes()),
            _ => Some(bytes),
        }
    };
    model(&env, "no config.json", without(&["config.json"]));
    model(&env, "no weights", without(&["model.safetensors"]));
    // pup brings its own words; any other model has them in this file.
    model(&env, "not pup and no tokenizer.json", without(&["selkie.json", "tokenizer.json"]));
    model(&env, "truncated weights", cut("model.safetensors", 50));
    model(&env, "weights cut to nothing", cut("model.safetensors", 0));
    model(&env, "weights cut in their header", |file, bytes| match file {
        "model.safetensors" => Some(bytes[..20].to_vec()),
        _ => Some(bytes),
    });
    model(&env, "truncated config.json", cut("config.json", 50));
    model(&env, "truncated selkie.json", cut("selkie.json", 50));
    model(&env, "a model of another family", replaced("LlamaFor", "MambaFor"));
    model(&env, "a model of another size", replaced("\"hidden_size\": 128", "\"hidden_size\": 256"));
    let mut names: Vec<String> = (std::fs::read_dir(env.path("")).expect("a folder"))
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name != "home")
        .collect();
    names.extend(["no such folder".to_owned()]);
    names.sort();
    assert_eq!(names.len(), 11);
    let passage = example(PASSAGE);
    let text: String = names.iter().map(|name| refused(&env, name, &[&passage, "--model", name])).collect();
    assert_snapshot!(text, @r"
    a model of another family
      error: the model's architecture is `MambaForCausalLM`; supported: LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM
    a model of another size
      error: tensor `model.embed_tokens.weight` has shape [830, 128], expected [830, 256]
    no config.json
      error: cannot read `no config.json/config.json`: No such file or directory (os error 2)
      hint: a model folder has config.json, tokenizer.json and model.safetensors (or shards with their index)
    no such folder
      error: cannot read `no such folder/config.json`: No such file or directory (os error 2)
      hint: a model folder has config.json, tokenizer.json and model.safetensors (or shards with their index)
    no weights
      error: cannot read `no weights/model.safetensors`: No such file or directory (os error 2)
      hint: a model folder has config.json, tokenizer.json and model.safetensors (or shards with their index)
    not pup and no tokenizer.json
      error: tokenizer: there is no `tokenizer.json` in `not pup and no tokenizer.json`
    truncated config.json
      error: `config.json`: EOF while parsing a string at line 12 column 17
    truncated selkie.json
      error: `truncated selkie.json/selkie.json` is not a valid model profile: EOF while parsing an object at line 22 column 3
    truncated weights
      error: `truncated weights/model.safetensors` is not a readable safetensors file: incomplete metadata, file not fully covered
    weights cut in their header
      error: `weights cut in their header/model.safetensors` is not a readable safetensors file: invalid header length
    weights cut to nothing
      error: `weights cut to nothing/model.safetensors` is not a readable safetensors file: header too small
    ");
}

#[test]
fn plugins() {
    let env = environment();
    let other_world = r#"(component (instance $empty) (export "other:world/tools@1.0.0" (instance $empty)))"#;
    let grid = std::fs::read(repository().join("plugins/dist/grid.wasm")).expect("the plugin");
    // One whose bytes do not change.
    let old = std::fs::read(repository().join("tests/guests/since_v0.1.0/grid.wasm")).expect("the plugin");
    let rows: [(&str, Vec<u8>); 6] = [
        ("a component of another world", wat::parse_str(other_world).expect("a component")),
        ("a core module", wat::parse_str("(module)").expect("a module")),
        ("a truncated component", old[..old.len() / 2].to_vec()),
        ("no WebAssembly", b"#!/bin/sh\n".to_vec()),
        ("an empty file", Vec::new()),
        ("the built-in plugin again", grid),
    ];
    let mut text = String::new();
    for (name, component) in rows {
        std::fs::create_dir(env.path(name)).expect("a folder");
        env.write(&format!("{name}/evil.wasm"), component);
        text += &refused(&env, name, &[&examples("puzzles")[0], "--plugins", name]);
    }
    text += &refused(&env, "no such folder", &[&examples("puzzles")[0], "--plugins", "absent"]);
    assert_snapshot!(text, @r"
    a component of another world
      error: plugin `evil.wasm`: not of the world selkie:plugin/puzzle-plugin, text-plugin or grader-plugin: it exports other:world/tools@1.0.0
    a core module
      error: plugin `evil.wasm`: not a WebAssembly component: a core module; `selkie plugin build` makes a component of it
    a truncated component
      error: plugin `evil.wasm`: not a WebAssembly component: failed to parse WebAssembly module: wasm component contains an invalid module section: section range 256..180356 is out of bounds (bound = 91256)
    no WebAssembly
      error: plugin `evil.wasm`: not a WebAssembly component: it does not start like WebAssembly
    an empty file
      error: plugin `evil.wasm`: not a WebAssembly component: it does not start like WebAssembly
    the built-in plugin again
      error: the plugins grid 0.1.0 and grid 0.1.0 both have a tool `grid.identity`
    no such folder
      error: cannot read `absent`: No such file or directory (os error 2)
    ");
}

#[test]
fn homes() {
    let env = TestEnvironment::new();
    let passage = example(PASSAGE);
    env.write("file", "not a home");
    std::fs::create_dir(env.path("folder")).expect("a folder");
    env.write("folder/letter.txt", "Dear all");
    std::fs::create_dir_all(env.path("damaged/adapters")).expect("a folder");
    env.write("damaged/lock", "");
    env.write("damaged/ledger.sqlite", "no database");
    env.write("edit.txt", FACTS);
    let mut text = String::new();
    for home in ["file", "folder", "damaged", "file/below"] {
        let before = tree(Path::new(&env.path(home)));
        for command in [&["adapt", &passage, "--self-edit", "edit.txt"][..], &["log"], &["rollback", "g1"]] {
            let output = env.run(&[command, &["--home", home]].concat(), "");
            let code = if home == "file/below" && command[0] == "log" { 0 } else { 2 };
            assert_eq!(output.code, Some(code), "{home}: {output}");
            text += &format!("{} --home {home}\n{}", command[0], output.stderr);
        }
        assert!(tree(Path::new(&env.path(home))) == before, "{home} changed");
    }
    assert_snapshot!(text.replace(&env.path("").display().to_string(), "[TEMP]/"), @r"
    adapt --home file
    error: file is a file, and a store needs a folder there
    log --home file
    error: file is a file, and a store needs a folder there
    rollback --home file
    error: file is a file, and a store needs a folder there
    adapt --home folder
    error: folder is not a store: it has `letter.txt` in it and no ledger; choose a new or empty folder
    log --home folder
    error: folder is not a store: it has `letter.txt` in it and no ledger; choose a new or empty folder
    rollback --home folder
    error: folder is not a store: it has `letter.txt` in it and no ledger; choose a new or empty folder
    adapt --home damaged
    error: damaged/ledger.sqlite is not a ledger of selkie
    log --home damaged
    error: damaged/ledger.sqlite is not a ledger of selkie
    rollback --home damaged
    error: damaged/ledger.sqlite is not a ledger of selkie
    adapt --home file/below
    error: file is a file, and a store needs a folder there
    log --home file/below
    rollback --home file/below
    error: there is no store at file/below: nothing was ever kept there, or the path is another
    ");
}

#[test]
fn a_ledger_of_a_later_version_is_left_as_it_is() {
    let env = environment();
    let mut bytes = std::fs::read(env.path("home/ledger.sqlite")).expect("the ledger");
    // SQLite's user version, big-endian at byte 60 of the header.
    bytes[60..64].copy_from_slice(&9_u32.to_be_bytes());
    env.write("home/ledger.sqlite", bytes);
    let before = std::fs::read(env.path("home/ledger.sqlite")).expect("the ledger");
    let log = env.run(&["log"], "");
    assert_eq!(log.code, Some(2), "{log}");
    assert_snapshot!(log, @r"
    exit code: 2
    ----- stderr
    error: [TEMP]/home/ledger.sqlite has format 9, and this selkie knows up to 1: use the version that wrote it
    ");
    assert_eq!(std::fs::read(env.path("home/ledger.sqlite")).expect("the ledger"), before);
    let _: Value = env.run(&["log", "--home", "another", "--json"], "").json();
}
