//! `selkie merge`.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::kill::{FACTS, PASSAGE};
use crate::support::{TestEnvironment, base_files, example, tree};

/// An environment with an adapter of the bundled model in `one`, a copy of that model in `base`.
fn environment() -> TestEnvironment {
    let env = TestEnvironment::new();
    env.run(&["adapt", &example(PASSAGE), "--self-edit", "-"], FACTS).succeeds();
    env.run(&["export", "g1", "one"], "").succeeds();
    std::fs::create_dir(env.path("base")).expect("a folder");
    for (path, bytes) in base_files() {
        let name = path.file_name().expect("a name").to_str().expect("a name in Unicode").to_owned();
        env.write(&format!("base/{name}"), bytes);
    }
    env
}

fn names(env: &TestEnvironment, folder: &str) -> Vec<String> {
    let paths = tree(&env.path(folder)).into_keys().skip(1);
    paths.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

/// The mean log-probability of the passage's answers, by the first measurement of a step that changes nothing.
fn score(env: &TestEnvironment, model: &str) -> Value {
    let home = format!("home-of-{model}");
    let args = ["adapt", &example(PASSAGE), "--self-edit", "-", "--model", model, "--home", &home, "--json"];
    env.run(&args, FACTS).json()["before"].clone()
}

#[test]
fn a_merged_model_knows_what_its_adapter_learned() {
    let env = environment();
    let merge = |more: &[&str]| env.run(&[&["merge", "--model", "base"], more].concat(), "");
    assert_snapshot!(merge(&["--adapter", "one", "--out", "merged"]), @r"
    exit code: 0
    ----- stdout
    a model in merged: 12 tensors changed, 1.9 MB of weights
    ");
    assert_eq!(names(&env, "merged"), ["config.json", "model.safetensors", "selkie.json", "tokenizer.json"]);
    for same in ["config.json", "selkie.json", "tokenizer.json"] {
        assert!(
            tree(&env.path("merged").join(same)).values().eq(tree(&env.path("base").join(same)).values())
        );
    }
    let (before, after) = (score(&env, "base"), score(&env, "merged"));
    assert_ne!(before, after);
    assert_eq!(
        env.run(&["show", "e1"], "").json()["record"]["after"]["items"][0]["solved"],
        after["items"][0]["solved"]
    );
    // Half and half is the whole; and what is added and taken away again is not there.
    assert_snapshot!(merge(&["--adapter", "one:0.5", "--adapter", "one:0.5", "--out", "halves"]), @r"
    exit code: 0
    ----- stdout
    a model in halves: 12 tensors changed, 1.9 MB of weights
    ");
    assert_eq!(score(&env, "halves")["items"][0]["prediction"], after["items"][0]["prediction"]);
    let none = merge(&["--adapter", "one:1", "--adapter", "one:-1", "--out", "none", "--json"]).json();
    assert_eq!(
        none["adapters"],
        json!([{"folder": "one", "weight": 1.0}, {"folder": "one", "weight": -1.0}])
    );
    assert_eq!(none["written"]["kind"], "model");
    assert_eq!(score(&env, "none")["items"][0]["prediction"], before["items"][0]["prediction"]);
}

#[test]
fn a_sum_is_an_adapter() {
    let env = environment();
    let merge = |more: &[&str]| env.run(&[&["merge", "--model", "base"], more].concat(), "");
    assert_snapshot!(merge(&["--adapter", "one:0.5", "--adapter", "one:2", "--as-adapter", "--out", "sum"]), @r"
    exit code: 0
    ----- stdout
    an adapter of rank 32 for 12 layers in sum
    ");
    assert_eq!(names(&env, "sum"), ["adapter_config.json", "adapter_model.safetensors"]);
    let document = merge(&["--adapter", "sum:0.4", "--as-adapter", "--out", "again", "--json"]).json();
    assert_snapshot!(serde_json::to_string_pretty(&document).expect("JSON"), @r#"
    {
      "model": "base",
      "adapters": [
        {
          "folder": "sum",
          "weight": 0.4
        }
      ],
      "out": "again",
      "rank": 32,
      "layers": 12,
      "written": {
        "kind": "adapter",
        "files": [
          "adapter_config.json",
          "adapter_model.safetensors"
        ]
      }
    }
    "#);
    merge(&["--adapter", "again", "--out", "merged"]).succeeds();
    let settings = std::fs::read_to_string(env.path("sum/adapter_config.json")).expect("a file");
    let settings: Value = serde_json::from_str(&settings).expect("JSON");
    assert_eq!(settings["base_model_name_or_path"], "base");
}

#[test]
fn what_cannot_be_merged() {
    let env = environment();
    env.write("notes.txt", "mine");
    let mut text = String::new();
    for args in [
        &["--adapter", "one:nan", "--out", "new"][..],
        &["--adapter", ":2", "--out", "new"],
        &["--adapter", "absent", "--out", "new"],
        &["--adapter", "one:two", "--out", "new"],
        &["--adapter", "base", "--out", "new"],
        &["--adapter", "one", "--out", "base"],
        &["--adapter", "one", "--out", "one", "--as-adapter"],
        &["--adapter", "one", "--out", "notes.txt"],
        &["--adapter", "one", "--out", ".."],
        &["--adapter", "one", "--out", "new", "--model", "one"],
    ] {
        let model: &[&str] = if args.contains(&"--model") { &[] } else { &["--model", "base"] };
        let before = tree(&env.path(""));
        let output = env.run(&[&["merge"], model, args].concat(), "");
        assert_eq!(output.code, Some(2), "{output}");
        assert!(before == tree(&env.path("")), "{args:?} left something");
        text += &format!("{}\n{output}", args.join(" "));
    }
    assert_snapshot!(text, @r"
    --adapter one:nan --out new
    exit code: 2
    ----- stderr
    error: invalid value 'one:nan' for '--adapter <DIR[:WEIGHT]>': the weight is NaN; expected a finite number

    For more information, try '--help'.
    --adapter :2 --out new
    exit code: 2
    ----- stderr
    error: invalid value ':2' for '--adapter <DIR[:WEIGHT]>': expected a folder

    For more information, try '--help'.
    --adapter absent --out new
    exit code: 2
    ----- stderr
    error: the adapter cannot be used: `absent`: there is no such folder; a PEFT folder has adapter_config.json and adapter_model.safetensors
    --adapter one:two --out new
    exit code: 2
    ----- stderr
    error: the adapter cannot be used: `one:two`: there is no such folder; a PEFT folder has adapter_config.json and adapter_model.safetensors
    --adapter base --out new
    exit code: 2
    ----- stderr
    error: the adapter cannot be used: `base`: there is no `adapter_config.json`
    --adapter one --out base
    exit code: 2
    ----- stderr
    error: cannot write `base`: the folder is not empty; choose a new one, or empty it
    --adapter one --out one --as-adapter
    exit code: 2
    ----- stderr
    error: cannot write `one/adapter_config.json`: it is there already; choose another folder
    --adapter one --out notes.txt
    exit code: 2
    ----- stderr
    error: cannot write `notes.txt`: Not a directory (os error 20)
    --adapter one --out ..
    exit code: 2
    ----- stderr
    error: cannot write `..`: expected the path of a new folder
    --adapter one --out new --model one
    exit code: 2
    ----- stderr
    error: cannot read `one/config.json`: No such file or directory (os error 2)
    hint: a model folder has config.json, tokenizer.json and model.safetensors (or shards with their index)
    ");
}
