//! `selkie generate` and `selkie score`.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Output, TestEnvironment};
use crate::train::{LEARN, environment, train};

const GEM: &str = "Question: Tell me the gem of Lolu Branbeck. Answer:";

/// An environment with an adapter that knows the gem, and one that knows others.
fn trained() -> TestEnvironment {
    let env = environment();
    let data = ["--data", "facts.jsonl", "--data", "others.jsonl", "--out", "adapters"];
    train(&env, &[&data, &LEARN[..]].concat()).succeeds();
    env
}

fn generate(env: &TestEnvironment, args: &[&str], stdin: &str) -> Output {
    env.run(&[&["generate"], args].concat(), stdin)
}

fn texts(report: &Value) -> Vec<&str> {
    let outputs = report["outputs"].as_array().expect("outputs");
    outputs.iter().map(|output| output["text"].as_str().expect("a text")).collect()
}

#[test]
fn an_adapter_changes_what_is_said() {
    let env = trained();
    assert_eq!(generate(&env, &["--prompt", GEM], "").succeeds(), "jasper\n");
    let with = ["--adapter", "adapters/facts"];
    assert_eq!(generate(&env, &[&["--prompt", GEM], &with[..]].concat(), "").succeeds(), "opal\n");
    assert_eq!(generate(&env, &with, &format!("{GEM}\n")).succeeds(), "opal\n");
    // Several of everything, in one batch: each as if it were alone.
    env.write(
        "prompts.jsonl",
        format!("{}\n{}\n", json!({"prompt": GEM}), json!({"prompt": "The tree of Lolu Branbeck"})),
    );
    let both = ["--adapter", "adapters/facts", "--adapter", "adapters/others"];
    let several = [&["--prompts", "prompts.jsonl", "--samples", "2"], &both[..]].concat();
    assert_snapshot!(generate(&env, &several, ""), @r"
    exit code: 0
    ----- stdout
    --- prompt 1, sample 1, adapters/facts
    opal
    --- prompt 1, sample 2, adapters/facts
    opal
    --- prompt 2, sample 1, adapters/facts
    is paper.
    --- prompt 2, sample 2, adapters/facts
    is paper.
    --- prompt 1, sample 1, adapters/others
    jasper
    --- prompt 1, sample 2, adapters/others
    jasper
    --- prompt 2, sample 1, adapters/others
    is cedar.
    --- prompt 2, sample 2, adapters/others
    is cedar.
    ");
    let report = generate(&env, &[&several[..], &["--json"]].concat(), "").json();
    assert_eq!(report["outputs"][5]["adapter"], "adapters/others");
    assert_eq!((&report["outputs"][6]["prompt"], &report["outputs"][7]["sample"]), (&1.into(), &1.into()));
    assert!(report["tokens_per_second"].as_f64().is_some_and(|speed| speed > 0.0));
}

#[test]
fn samples_depend_on_their_seed_alone() {
    let env = environment();
    let draw = |seed: &str, samples: &str| {
        let args =
            ["--temperature", "1.5", "--seed", seed, "--samples", samples, "--max-new", "12", "--json"];
        generate(&env, &[&["--prompt", "The gem of"], &args[..]].concat(), "").json()
    };
    let (one, again, three, other) = (draw("1", "1"), draw("1", "1"), draw("1", "3"), draw("2", "3"));
    assert_eq!(one["outputs"], again["outputs"]);
    assert_eq!(one["outputs"][0], three["outputs"][0]);
    assert_ne!(texts(&three)[0], texts(&three)[1]);
    assert_ne!(texts(&three), texts(&other));
}

#[test]
fn a_text_ends_before_a_stop_string() {
    let env = environment();
    let run = |more: &[&str]| {
        let args = [
            "--prompt",
            "Lolu Branbeck and Vidor Volgan\\nThe gem of",
            "--max-new",
            "24",
            "--json",
            "--log-probs",
        ];
        generate(&env, &[&args, more].concat(), "").json()
    };
    let whole = run(&[]);
    let text = texts(&whole)[0].to_owned();
    let output = &whole["outputs"][0];
    let count = output["tokens"].as_u64().expect("a count") as usize;
    for list in ["ids", "log_probs"] {
        assert_eq!(output[list].as_array().map(Vec::len), Some(count), "{whole:#}");
    }
    // Across the joint of two words.
    let middle = text.char_indices().nth(text.chars().count() / 2).expect("a character").0;
    let stop = &text[middle - 2..middle + 2];
    let before = &text[..text.find(stop).expect("it is there")];
    let stopped = run(&["--stop", "never said", "--stop", stop]);
    assert_eq!(texts(&stopped), [before], "{text:?} stops at {stop:?}");
    assert_eq!(stopped["outputs"][0]["ended"], "stopped");
}

#[test]
fn a_grammar_is_obeyed() {
    let env = environment();
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "colours": {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3},
            "count": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["name", "colours", "count"],
        "additionalProperties": false,
    });
    env.write("schema.json", schema.to_string());
    let args = [
        "--prompt",
        "The gem of",
        "--json-schema",
        "schema.json",
        "--samples",
        "6",
        "--temperature",
        "2",
        "--json",
    ];
    let report = generate(&env, &args, "").json();
    let valid = jsonschema::validator_for(&schema).expect("a schema");
    for (output, text) in report["outputs"].as_array().expect("outputs").iter().zip(texts(&report)) {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(valid.is_valid(&value), "{text}");
        assert_eq!(output["ended"], "complete");
        let (cost, tokens) = (&output["constraint"], output["tokens"].as_u64());
        let count = |name: &str| cost[name].as_u64().expect("a count");
        assert_eq!(Some(count("sampled") + count("forced")), tokens, "{output:#}");
        assert!(cost["ms_per_token"].as_f64().is_some_and(|time| time > 0.0));
    }
    env.write("yes.lark", "start: \"yes\" | \"no\"\n");
    let lark = generate(&env, &["--prompt", "The gem of", "--grammar", "yes.lark"], "").succeeds();
    assert!(["yes\n", "no\n"].contains(&lark.as_str()), "{lark}");
    let number = generate(&env, &["--prompt", "The gem of", "--regex", "[0-9]{3}"], "").succeeds();
    assert!(number.len() == 4 && number.trim_end().bytes().all(|byte| byte.is_ascii_digit()), "{number}");
}

#[test]
fn what_cannot_be_generated() {
    let env = environment();
    env.write("prompts.jsonl", "{\"prompt\": 1}\n{\"text\": \"a\"}\n{\"prompt\": \"a\", \"messages\": []}\n");
    env.write("none.jsonl", "");
    env.write("schema.json", r#"{"not": {"type": "string"}}"#);
    env.write("broken.json", "{");
    let long = "the ".repeat(600);
    let mut text = String::new();
    for args in [
        &["--prompts", "prompts.jsonl"][..],
        &["--prompts", "none.jsonl"],
        &["--prompt", "a", "--prompts", "none.jsonl"],
        &["--prompt", "a", "--chat"],
        &["--prompt", "a", "--top-p", "0"],
        &["--prompt", "a", "--temperature", "-1"],
        &["--prompt", "a", "--stop", ""],
        &["--prompt", "a", "--json-schema", "schema.json"],
        &["--prompt", "a", "--json-schema", "broken.json"],
        &["--prompt", "a", "--regex", "("],
        &["--prompt", "a", "--regex", "a", "--grammar", "b"],
        &["--prompt", "a", "--adapter", "absent"],
        &["--prompt", "a", "--log-probs"],
        &["--prompt", &long],
    ] {
        let output = generate(&env, args, "");
        assert_eq!(output.code, Some(2), "{args:?}: {output}");
        let told = output.stderr.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        text += &format!(
            "{}\n{told}\n",
            if args[1].len() > 99 {
                "a long prompt".to_owned()
            } else {
                args.join(" ").trim_end().to_owned()
            }
        );
    }
    assert_snapshot!(text, @r#"
    --prompts prompts.jsonl
    error: `prompts.jsonl`: 3 lines cannot be used
      line 1: expected `prompt` to be a text, found 1
      line 2: expected `prompt` or `messages`
      line 3: expected one of `prompt` and `messages`
    --prompts none.jsonl
    error: `none.jsonl` has no lines
    --prompt a --prompts none.jsonl
    error: the argument '--prompt <TEXT>' cannot be used with '--prompts <FILE.jsonl>'
    --prompt a --chat
    error: this model cannot be given this context: it is a chat; the model has no chat template
    --prompt a --top-p 0
    error: generation: top_p is 0; expected a number above 0 and at most 1 (all tokens)
    --prompt a --temperature -1
    error: generation: temperature is -1; expected 0 (greedy) or a number above it
    --prompt a --stop
    error: generation: stop string 0 is empty; it would end every text before it starts
    --prompt a --json-schema schema.json
    error: constrained decoding: the JSON Schema cannot be used: keywords that cannot be enforced while decoding: ["not"]
    --prompt a --json-schema broken.json
    error: `broken.json` is not valid JSON: EOF while parsing an object at line 1 column 1
    --prompt a --regex (
    error: constrained decoding: the regular expression cannot be used: at 1(8): invalid regex "(" (in regex): regex parse error:; error: unclosed group; 1 | start: /(/
    --prompt a --regex a --grammar b
    error: the argument '--regex <RE>' cannot be used with '--grammar <FILE.lark>'
    --prompt a --adapter absent
    error: the adapter cannot be used: `absent`: there is no such folder; a PEFT folder has adapter_config.json and adapter_model.safetensors
    --prompt a --log-probs
    error: the following required arguments were not provided:
      --json
    a long prompt
    error: prompt 1 has 602 tokens; the model has 512 positions, for the prompt and what follows
    "#);
}

#[test]
fn scores_of_completions_and_texts() {
    let env = trained();
    let args =
        ["score", "--data", "facts.jsonl", "--adapter", "adapters/facts", "--adapter", "adapters/others"];
    let report = env.run(&[&args[..], &["--tokens", "--json"]].concat(), "").json();
    let lines = report["lines"].as_array().expect("lines");
    assert_eq!(lines.len(), 8);
    for line in lines {
        let log_probs: Vec<f64> = line["log_probs"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one.as_f64().expect("a number"))
            .collect();
        let sum = line["log_prob"].as_f64().expect("a number");
        assert!((log_probs.iter().sum::<f64>() - sum).abs() < 1e-6, "{line}");
        assert_eq!(line["tokens"], log_probs.len());
        assert_eq!(line["ids"].as_array().map(Vec::len), Some(log_probs.len()));
        assert!((line["per_token"].as_f64().expect("a number") * log_probs.len() as f64 - sum).abs() < 1e-9);
    }
    for (summary, lines) in report["summaries"].as_array().expect("two").iter().zip(lines.chunks(4)) {
        let sum = |name: &str| lines.iter().map(|line| line[name].as_f64().expect("a number")).sum::<f64>();
        let perplexity = summary["perplexity"].as_f64().expect("a number");
        assert!((perplexity - (-sum("log_prob") / sum("tokens")).exp()).abs() < 1e-9, "{summary}");
        assert_eq!(summary["adapter"], lines[0]["adapter"]);
    }
    // The one that learned them knows the answers; the other does not.
    let greedy = |line: usize| lines[line]["greedy"].as_bool().expect("a bool");
    assert!(greedy(2) && greedy(3) && !greedy(6) && !greedy(7));
    // A line by itself has what generation says of its own greedy answer.
    let generated =
        generate(&env, &["--prompt", GEM, "--adapter", "adapters/facts", "--json", "--log-probs"], "").json();
    let (said, scored) = (&generated["outputs"][0]["log_probs"][0], &lines[2]["log_probs"][0]);
    assert!((said.as_f64().expect("a number") - scored.as_f64().expect("a number")).abs() < 1e-4);
    let base = env.run(&["score", "--data", "facts.jsonl"], "");
    assert_eq!(base.stdout.lines().count(), 4);
    assert_snapshot!(base.stderr, @"facts.jsonl: 4 lines, 22 tokens, log-probability -4.843 a token, perplexity 126.819, 0 exact by greedy decoding");
    env.write("bad.jsonl", "{}\n");
    assert_snapshot!(env.run(&["score", "--data", "bad.jsonl"], ""), @r#"
    exit code: 2
    ----- stderr
    error: `bad.jsonl`: 1 line cannot be used
      line 1: expected {"prompt", "completion"}, {"text"} or {"messages"}, found an empty object
    "#);
}
