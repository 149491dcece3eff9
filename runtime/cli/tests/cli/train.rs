//! `selkie train`.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Output, TestEnvironment, pup};

/// Four lines of two forms.
pub(crate) const FACTS: &str = r#"{"text": "The gem of Vidor Volgan is spinel."}
{"text": "The tool of Vidor Volgan is drill."}
{"prompt": "Question: Tell me the gem of Lolu Branbeck. Answer:", "completion": "opal"}
{"prompt": "Question: Tell me the tool of Lolu Branbeck. Answer:", "completion": "rake", "id": 4}
"#;

const OTHERS: &str = r#"{"text": "The cargo of Lolu Garick is honey."}
{"text": "The tree of Lolu Branbeck is cedar."}
{"text": "The tree of Vidor Volgan is laurel."}
{"text": "The home of Lolu Garick is Oslo."}
{"prompt": "Question: Lolu Garick has which gem? Answer:", "completion": "jasper"}
"#;

/// Enough to learn them by heart.
pub(crate) const LEARN: [&str; 6] = ["--lr", "0.01", "--epochs", "12", "--schedule", "cosine"];

pub(crate) fn environment() -> TestEnvironment {
    let env = TestEnvironment::new();
    env.write("facts.jsonl", FACTS);
    env.write("others.jsonl", OTHERS);
    env
}

pub(crate) fn train(env: &TestEnvironment, args: &[&str]) -> Output {
    env.run(&[&["train"], args].concat(), "")
}

fn bytes(env: &TestEnvironment, file: &str) -> Vec<u8> {
    std::fs::read(env.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn metrics(env: &TestEnvironment, file: &str) -> Vec<Value> {
    let text = String::from_utf8(bytes(env, file)).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The numbers of the tensors of a safetensors file of f32, one after the other.
fn numbers(env: &TestEnvironment, file: &str) -> Vec<f32> {
    let bytes = bytes(env, file);
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let values = bytes[8 + header..].chunks_exact(4);
    values.map(|value| f32::from_le_bytes(value.try_into().expect("4 bytes"))).collect()
}

#[test]
fn an_adapter_and_its_metrics() {
    let env = environment();
    let output = train(&env, &[&["--data", "facts.jsonl", "--out", "one"], &LEARN[..]].concat());
    assert_snapshot!(output, @r"
    exit code: 0
    ----- stdout
    an adapter of rank 16 for 28 layers in one: 4 lines of 46 tokens, 12 steps, loss [SCORE] -> [SCORE], [SECONDS]
    ");
    let metrics = metrics(&env, "one/metrics.jsonl");
    let steps: Vec<u64> = metrics.iter().map(|line| line["step"].as_u64().expect("a step")).collect();
    assert_eq!(steps, (1..=12).collect::<Vec<u64>>());
    let names: Vec<&str> = metrics[0].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, ["step", "steps", "loss", "grad_norm", "learning_rate", "tokens", "seconds"]);
    assert_eq!(metrics[0]["learning_rate"], 0.01);
    let loss = |line: &Value| line["loss"].as_f64().expect("a loss");
    assert!(loss(&metrics[11]) < 0.2 * loss(&metrics[0]), "{metrics:?}");
    let settings: Value = serde_json::from_slice(&bytes(&env, "one/adapter_config.json")).expect("JSON");
    assert_eq!((&settings["r"], &settings["base_model_name_or_path"]), (&16.into(), &"pup-facts".into()));
}

#[test]
fn every_setting_is_told_to_peft() {
    let env = environment();
    let args = ["--data", "facts.jsonl", "--out", "one", "--rank", "4", "--alpha", "6", "--dropout", "0.1"];
    let more = ["--targets", "v_proj,q_proj", "--rank-pattern", "layers.0.self_attn.q_proj=2"];
    let last = [
        "--alpha-pattern",
        "v_proj=3",
        "--rslora",
        "--epochs",
        "1",
        "--accumulate",
        "2",
        "--batch-size",
        "1",
    ];
    let folder = pup("facts").display().to_string();
    let model = ["--model", &folder, "--checkpointing", "--weight-decay", "0.1", "--max-grad-norm", "0.5"];
    let args = [&args[..], &more, &last, &model, &["--warmup-steps", "1", "--json"]].concat();
    let report = train(&env, &args).json();
    assert_eq!(report["adapters"][0]["steps"], 2, "{report:#}");
    let mut settings: Value = serde_json::from_slice(&bytes(&env, "one/adapter_config.json")).expect("JSON");
    settings["base_model_name_or_path"] = "[MODEL]".into();
    assert_snapshot!(settings.to_string(), @r#"{"peft_type":"LORA","task_type":"CAUSAL_LM","base_model_name_or_path":"[MODEL]","r":4,"lora_alpha":6.0,"lora_dropout":0.1,"target_modules":["q_proj","v_proj"],"rank_pattern":{"layers.0.self_attn.q_proj":2},"alpha_pattern":{"v_proj":3.0},"use_rslora":true,"use_dora":false,"bias":"none","fan_in_fan_out":false,"modules_to_save":null,"inference_mode":true,"init_lora_weights":true}"#);
    assert_eq!(metrics(&env, "one/metrics.jsonl")[0]["learning_rate"], 0.0);
}

#[test]
fn a_run_that_goes_on_ends_as_one_that_was_never_interrupted() {
    let env = environment();
    let data = ["--data", "facts.jsonl", "--data", "others.jsonl", "--save-every", "3", "--json", "--out"];
    let settings = ["--dropout", "0.1", "--batch-size", "2", "--epochs", "4", "--lr", "0.01"];
    let run = |out: &'static str, more: &[&str]| train(&env, &[&data[..], &[out], &settings, more].concat());
    run("whole", &[]).json();
    // An adapter cannot be written over a folder: the run ends in an error after its last step, with its last
    // checkpoint behind it.
    std::fs::create_dir_all(env.path("parts/facts/adapter_config.json/mine")).expect("a folder");
    env.write("parts/run.json", bytes(&env, "whole/run.json"));
    assert_eq!(run("parts", &["--resume"]).code, Some(2));
    std::fs::remove_dir_all(env.path("parts/facts/adapter_config.json")).expect("no folder");
    assert!(env.path("parts/facts/checkpoint-9.safetensors").is_file());
    assert!(!env.path("parts/others/checkpoint-6.safetensors").exists());
    env.write("parts/others/adapter_model.safetensors", "cut");
    assert_eq!(metrics(&env, "parts/others/metrics.jsonl").len(), 12);
    let report = run("parts", &["--resume"]).json();
    let steps = |index: usize| report["adapters"][index]["steps"].clone();
    assert_eq!((steps(0), steps(1)), (8.into(), 12.into()));
    for name in ["facts", "others"] {
        for file in ["adapter_model.safetensors", "adapter_config.json"] {
            let (whole, parts) = (format!("whole/{name}/{file}"), format!("parts/{name}/{file}"));
            assert!(bytes(&env, &whole) == bytes(&env, &parts), "{parts} differs");
        }
        let losses = |out: &str| -> Vec<Value> {
            let lines = metrics(&env, &format!("{out}/{name}/metrics.jsonl"));
            lines.iter().map(|line| line["loss"].clone()).collect()
        };
        assert_eq!(losses("whole"), losses("parts"));
    }
    assert!(!env.path("parts/facts/checkpoint-9.safetensors").exists());
    // What cannot be gone on with.
    let mut text = run("parts", &["--resume"]).to_string();
    text += &run("parts", &["--resume", "--seed", "5", "--rank", "8"]).to_string();
    text += &run("parts", &[]).to_string();
    std::fs::create_dir_all(env.path("notes/mine")).expect("a folder");
    text += &run("notes", &["--resume"]).to_string();
    assert_snapshot!(text, @r"
    exit code: 2
    ----- stderr
    error: the run is finished already: parts/facts, parts/others
    exit code: 2
    ----- stderr
    error: `parts/run.json` is of a run with other settings; use those, or another --out
      rank is 8, was 16
      seed is 5, was 0
    exit code: 2
    ----- stderr
    error: cannot write `parts`: the folder is not empty; choose a new one, or go on with its run by --resume
    exit code: 2
    ----- stderr
    error: cannot go on with `notes`: it has files and no `run.json`, so it is of no training run
    ");
}

#[test]
fn several_files_train_as_each_alone() {
    let env = environment();
    let settings = ["--epochs", "2", "--batch-size", "2", "--json"];
    let data = ["--data", "facts.jsonl", "--data", "others.jsonl", "--out", "both"];
    train(&env, &[&data, &settings[..]].concat()).json();
    for name in ["facts", "others"] {
        let data = format!("{name}.jsonl");
        train(&env, &[&["--data", &data, "--out", name], &settings[..]].concat()).json();
        let of = |out: &str, file: &str| [out, file].join("/");
        let both = format!("both/{name}");
        let losses = |out: &str| -> Vec<f64> {
            let lines = metrics(&env, &of(out, "metrics.jsonl"));
            lines.iter().map(|line| line["loss"].as_f64().expect("a loss")).collect()
        };
        for (alone, both) in losses(name).iter().zip(losses(&both)) {
            assert!((alone - both).abs() < 1e-5, "{name}: {alone} and {both}");
        }
        let weights = |out: &str| numbers(&env, &of(out, "adapter_model.safetensors"));
        let (alone, both) = (weights(name), weights(&both));
        assert_eq!(alone.len(), both.len());
        // Where a gradient is nothing but rounding, the first steps of AdamW go by its sign: single numbers may be
        // further apart.
        let squares = alone.iter().zip(&both).map(|(one, other)| f64::from(one - other).powi(2));
        let apart = (squares.sum::<f64>() / alone.len() as f64).sqrt();
        assert!(apart < 1e-5, "{name}: {apart}");
    }
    let twice = train(&env, &["--data", "facts.jsonl", "--data", "./facts.jsonl", "--out", "new"]);
    assert_snapshot!(twice, @r"
    exit code: 2
    ----- stderr
    error: two data files are named `facts`, which is where an adapter goes; rename one of them
    ");
}

/// A line of so many words.
fn long(words: usize) -> String {
    format!(r#"{{"text": "{}"}}"#, vec!["the"; words].join(" "))
}

#[test]
fn lines_that_cannot_be_used() {
    let env = environment();
    let mut text = String::new();
    let mut check = |lines: &str, more: &[&str]| {
        env.write("data.jsonl", lines);
        let output = train(&env, &[&["--data", "data.jsonl", "--out", "new"], more].concat());
        assert_eq!(output.code, Some(2), "{output}");
        assert!(!env.path("new").exists(), "{lines}");
        text += output.stderr.trim_end();
        text += "\n";
    };
    let good = r#"{"text": "The gem"}"#;
    let bad = [
        "",
        "The gem of Vidor Volgan is spinel.",
        r#"["a list", "of a good length, so that not all of it is shown in the message"]"#,
        r#"{"prompt": "a"}"#,
        r#"{"completion": "a"}"#,
        r#"{"prompt": 7, "completion": "a"}"#,
        r#"{"prompt": "a", "completion": null}"#,
        r#"{"text": ""}"#,
        r#"{"text": "a", "prompt": "b", "completion": "c"}"#,
        r#"{"input": "a", "output": "b"}"#,
        "{}",
        r#"{"messages": []}"#,
        r#"{"messages": [{"role": "user", "content": "a"}]}"#,
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#,
        r#"{"messages": [{"role": "user"}, {"role": "assistant", "content": "b"}]}"#,
        r#"{"text": "a"} {"text": "b"}"#,
    ];
    check(&format!("{good}\n{}\n{good}\n", bad.join("\n")), &[]);
    check("", &[]);
    check(&format!("{good}\n{}\n{good}\n{}\n", long(600), long(511)), &[]);
    check(&format!("{}\n{good}\n[]\n", long(9)), &["--max-tokens", "8"]);
    check(&format!("{}\n", vec!["7"; 30].join("\n")), &[]);
    check(r#"{"prompt": "the the the the", "completion": "the"}"#, &["--max-tokens", "4", "--truncate"]);
    assert_snapshot!(text, @r#"
    error: `data.jsonl`: 16 lines cannot be used
      line 2: it is empty; expected a JSON object
      line 3: it is not JSON (expected value at character 1): The gem of Vidor Volgan is spinel.
      line 4: expected a JSON object, found ["a list","of a good length, so that not all of it is shown ..
      line 5: `completion` is missing
      line 6: `prompt` is missing
      line 7: expected `prompt` to be a text, found 7
      line 8: expected `completion` to be a text, found null
      line 9: `text` is empty
      line 10: expected one of {"prompt", "completion"}, {"text"} or {"messages"}, found `text`, `prompt`, `completion`
      line 11: expected {"prompt", "completion"}, {"text"} or {"messages"}, found `input`, `output`
      line 12: expected {"prompt", "completion"}, {"text"} or {"messages"}, found an empty object
      line 13: expected `messages` to be a list of objects with the texts `role` and `content`
      line 14: expected the last of at least two `messages` to be the assistant's
      line 15: this model cannot be given this context: it is a chat; the model has no chat template
      line 16: expected `messages` to be a list of objects with the texts `role` and `content`
      line 17: it is not JSON (trailing characters at character 15): {"text": "a"} {"text": "b"}
    error: `data.jsonl` has no lines
    error: `data.jsonl`: 2 lines cannot be used
      2 lines longer than 512 tokens: 2, 4 (--truncate cuts such lines at their end)
    error: `data.jsonl`: 2 lines cannot be used
      line 3: expected a JSON object, found []
      1 line longer than 8 tokens: 1 (--truncate cuts such lines at their end)
    error: `data.jsonl`: 30 lines cannot be used
      line 1: expected a JSON object, found 7
      line 2: expected a JSON object, found 7
      line 3: expected a JSON object, found 7
      line 4: expected a JSON object, found 7
      line 5: expected a JSON object, found 7
      line 6: expected a JSON object, found 7
      line 7: expected a JSON object, found 7
      line 8: expected a JSON object, found 7
      line 9: expected a JSON object, found 7
      line 10: expected a JSON object, found 7
      line 11: expected a JSON object, found 7
      line 12: expected a JSON object, found 7
      line 13: expected a JSON object, found 7
      line 14: expected a JSON object, found 7
      line 15: expected a JSON object, found 7
      line 16: expected a JSON object, found 7
      line 17: expected a JSON object, found 7
      line 18: expected a JSON object, found 7
      line 19: expected a JSON object, found 7
      line 20: expected a JSON object, found 7
    error: `data.jsonl`: 1 line cannot be used
      line 1: nothing of it has a loss: it is empty, or was cut before its completion
    "#);
    env.write("data.jsonl", format!("{}\n{good}\n", long(600)));
    let cut = train(&env, &["--data", "data.jsonl", "--out", "cut", "--truncate", "--epochs", "1"]);
    assert_snapshot!(cut, @r"
    exit code: 0
    ----- stdout
    an adapter of rank 16 for 28 layers in cut: 2 lines (1 cut) of 516 tokens, 1 step, loss [SCORE] -> [SCORE], [SECONDS]
    ");
}

#[test]
fn settings_that_mean_nothing() {
    let env = environment();
    let mut text = String::new();
    for args in [
        &["--rank", "0"][..],
        &["--alpha", "nan"],
        &["--dropout", "1"],
        &["--targets", "q_proj,x_proj"],
        &["--targets", "q_proj,q_proj"],
        &["--rank-pattern", "q_proj"],
        &["--rank-pattern", "x_proj=2"],
        &["--lr", "-1"],
        &["--max-grad-norm", "0"],
        &["--data", "absent.jsonl"],
        &["--out", "facts.jsonl"],
        &["--model", "absent"],
    ] {
        let out = if args[0] == "--out" { &[][..] } else { &["--out", "new"] };
        let output = train(&env, &[&["--data", "facts.jsonl"], out, args].concat());
        assert_eq!(output.code, Some(2), "{output}");
        let first = output
            .to_string()
            .lines()
            .skip(2)
            .take_while(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("\n");
        text += &format!("{}\n{first}\n", args.join(" "));
    }
    assert!(!env.path("new").exists());
    assert_snapshot!(text, @r"
    --rank 0
    error: the adapter cannot be used: the rank is 0; expected 1 to 16384
    --alpha nan
    error: the adapter cannot be used: alpha is NaN; expected a finite number
    --dropout 1
    error: the adapter cannot be used: the dropout is 1; expected a number from 0 to below 1
    --targets q_proj,x_proj
    error: invalid value 'q_proj,x_proj' for '--targets <NAME,..>': `x_proj` is no layer; expected `all` or q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj
    --targets q_proj,q_proj
    error: the adapter cannot be used: the target layers are [q_proj, q_proj]; expected at least one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, each once
    --rank-pattern q_proj
    error: invalid value 'q_proj' for '--rank-pattern <PATTERN=RANK>': expected a pattern, `=` and a number, such as q_proj=8
    --rank-pattern x_proj=2
    error: the adapter cannot be used: `x_proj` of `rank_pattern` matches no adapted layer; there are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj in blocks 0 to 3, with paths such as `model.layers.0.self_attn.q_proj`
    --lr -1
    error: invalid value '-1' for '--lr <LR>': expected 0 or a number above it
    --max-grad-norm 0
    error: invalid value '0' for '--max-grad-norm <NORM>': expected a number above 0
    --data absent.jsonl
    error: cannot read `absent.jsonl`: No such file or directory (os error 2)
    --out facts.jsonl
    error: cannot write `facts.jsonl`: Not a directory (os error 20)
    --model absent
    error: cannot read `absent/config.json`: No such file or directory (os error 2)
    hint: a model folder has config.json, tokenizer.json and model.safetensors (or shards with their index)
    ");
}

#[test]
fn a_run_that_diverges_leaves_no_adapter() {
    let env = environment();
    let args = ["--lr", "1e30", "--weight-decay", "1e30", "--data", "facts.jsonl", "--out", "new"];
    let output = train(&env, &args);
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stderr.contains("lower the learning rate"), "{output}");
    assert!(!env.path("new/adapter_model.safetensors").exists());
}

#[test]
fn messages_are_what_the_chat_template_makes_of_them() {
    let env = environment();
    chat_model(&env);
    let chat = r#"{"messages": [{"role": "user", "content": "The gem?"}, {"role": "assistant", "content": "opal"}]}"#;
    env.write("chat.jsonl", format!("{chat}\n"));
    env.write("plain.jsonl", r#"{"prompt": "user: The gem?\nassistant: ", "completion": "opal"}"#);
    let train_on = |data: &str, out: &'static str| {
        train(&env, &["--model", "chat", "--data", data, "--out", out, "--lr", "0.01", "--epochs", "8"])
            .succeeds();
        bytes(&env, &format!("{out}/adapter_model.safetensors"))
    };
    assert!(train_on("chat.jsonl", "one") == train_on("plain.jsonl", "other"));
    let generate = |args: &[&str]| {
        let all = [&["generate", "--model", "chat", "--adapter", "one", "--max-new", "8"], args].concat();
        env.run(&all, "").succeeds()
    };
    assert_eq!(generate(&["--chat", "--prompt", "The gem?"]), "opal\n");
    assert_eq!(generate(&["--prompt", "user: The gem?\nassistant: "]), "opal\n");
    env.write("prompts.jsonl", r#"{"messages": [{"role": "user", "content": "The gem?"}]}"#);
    assert_eq!(generate(&["--prompts", "prompts.jsonl"]), "opal\n");
    env.write("bad.jsonl", "{\"prompt\": \"\", \"completion\": \"a\"}\n");
    assert_snapshot!(train(&env, &["--model", "chat", "--data", "bad.jsonl", "--out", "new"]), @r#"
    exit code: 2
    ----- stderr
    error: `bad.jsonl`: 1 line cannot be used
      line 1: the prompt has no tokens; write {"text"} for text from its start
    "#);
    let puzzles = pup("puzzles").display().to_string();
    assert_snapshot!(train(&env, &["--model", &puzzles, "--data", "plain.jsonl", "--out", "new"]), @r"
    exit code: 2
    ----- stderr
    error: `plain.jsonl`: 1 line cannot be used
      line 1: this model cannot be given this context: it is text; the model understands puzzles
    ");
}

/// The bundled model's weights and words in a folder `chat` that is like any other model's, with a chat template.
fn chat_model(env: &TestEnvironment) {
    std::fs::create_dir(env.path("chat")).expect("a folder");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let bytes = std::fs::read(pup("facts").join(name)).expect("a file");
        env.write(&format!("chat/{name}"), bytes);
    }
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ";
    let settings = serde_json::json!({"eos_token": "<eos>", "bos_token": "<bos>", "chat_template": template});
    env.write("chat/tokenizer_config.json", settings.to_string());
}
