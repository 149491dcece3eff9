//! Model folders: configurations in both forms, weights in every form, and what is wrong with others.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{FAMILIES, bits, config, decoder, weights};
use crate::base::ModelFiles;
use crate::config::{Family, ModelConfig, Rope, RopeScaling};
use crate::error::LearnError;

fn parsed(value: &Value) -> Result<ModelConfig, LearnError> {
    ModelConfig::from_json(&value.to_string())
}

/// `config.json` of a tiny model, in the form of transformers 4.
pub(super) fn wire(config: &ModelConfig) -> Value {
    let name = match config.family {
        Family::Llama => "LlamaForCausalLM",
        Family::Qwen2 => "Qwen2ForCausalLM",
        Family::Qwen3 => "Qwen3ForCausalLM",
    };
    json!({
        "architectures": [name],
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        "attention_bias": false,
        "use_cache": true,
        "rope_theta": config.rope.theta,
        "rope_scaling": null,
        "eos_token_id": 0,
    })
}

fn plain() -> ModelConfig {
    config(Family::Llama, false)
}

fn with(changes: &Value) -> Value {
    let mut wire = wire(&plain());
    for (key, value) in changes.as_object().unwrap() {
        wire[key] = value.clone();
    }
    wire
}

#[test]
fn both_forms_of_a_configuration_are_one() {
    let llama3 =
        RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original: 8192.0 };
    let scaling = json!({"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let named = |key: &str, name: &str| {
        let mut scaling = scaling.clone();
        scaling[key] = json!(name);
        scaling
    };
    let mut both = named("type", "llama3");
    both["rope_type"] = json!("llama3");
    let mut five = named("rope_type", "llama3");
    five["rope_theta"] = json!(500_000.0);
    let check = |changes: Value, theta: f64, scaling: RopeScaling| {
        let expected = ModelConfig { rope: Rope { theta, scaling }, ..plain() };
        let mut wire = with(&changes);
        if changes.get("rope_parameters").is_some() {
            wire.as_object_mut().unwrap().retain(|key, _| key != "rope_theta" && key != "rope_scaling");
        }
        assert_eq!(parsed(&wire).unwrap(), expected, "{changes}");
    };
    check(json!({}), 10_000.0, RopeScaling::Default);
    check(json!({"rope_theta": null}), 10_000.0, RopeScaling::Default);
    check(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}), 1e6, RopeScaling::Default);
    check(json!({"rope_theta": 1e6}), 1e6, RopeScaling::Default);
    check(json!({"rope_theta": 5e5, "rope_scaling": named("rope_type", "llama3")}), 5e5, llama3.clone());
    check(json!({"rope_theta": 5e5, "rope_scaling": both}), 5e5, llama3.clone());
    check(json!({"rope_parameters": five}), 5e5, llama3);
    check(json!({"rope_scaling": {"type": "linear", "factor": 2}}), 1e4, RopeScaling::Linear { factor: 2.0 });
    check(
        json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000}}),
        1e4,
        RopeScaling::Linear { factor: 2.0 },
    );
}

#[test]
fn what_a_configuration_leaves_out_is_as_in_transformers() {
    let without = |keys: &[&str], model_type: &str| {
        let mut wire = wire(&plain());
        wire.as_object_mut().unwrap().retain(|key, _| !keys.contains(&key.as_str()));
        wire["model_type"] = json!(model_type);
        parsed(&wire).unwrap()
    };
    assert_eq!(without(&["num_key_value_heads"], "llama").kv_heads, 4);
    assert_eq!(without(&["head_dim"], "llama").head_dim, 6);
    assert!(without(&["eos_token_id"], "llama").eos_ids.is_empty());
    assert_eq!(parsed(&with(&json!({"eos_token_id": [5, 7]}))).unwrap().eos_ids, [5, 7]);
    for (model_type, family) in [("llama", Family::Llama), ("qwen2", Family::Qwen2), ("qwen3", Family::Qwen3)]
    {
        assert_eq!(without(&["architectures"], model_type).family, family);
    }
}

#[test]
fn frequencies_are_those_of_hugging_face() {
    // Computed with transformers' formulas in Python for theta 500000 and a head of 8: 1, 37.6.., and so on.
    let rope = |scaling| Rope { theta: 500_000.0, scaling }.inverse_frequencies(8);
    let check = |found: Vec<f32>, expected: [f64; 4]| {
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) / expected - 1.0).abs() < 1e-5, "{found:?}, expected {expected:?}");
        }
    };
    let base = [0, 1, 2, 3].map(|i| 500_000f64.powf(-f64::from(i) / 4.0));
    check(rope(RopeScaling::Default), base);
    check(rope(RopeScaling::Linear { factor: 4.0 }), base.map(|f| f / 4.0));
    // Wavelengths are 6.3, 167, 4443 and 118143: two are kept, one is on the ramp, one is divided.
    let smooth = (8192.0 * base[2] / std::f64::consts::TAU - 1.0) / 3.0;
    let ramp = (1.0 - smooth) * base[2] / 32.0 + smooth * base[2];
    assert!(smooth > 0.0 && smooth < 1.0);
    let llama3 =
        RopeScaling::Llama3 { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original: 8192.0 };
    check(rope(llama3), [base[0], base[1], ramp, base[3] / 32.0]);
}

#[test]
fn configurations_that_cannot_be_run_are_refused() {
    let refusal = |changes: Value| parsed(&with(&changes)).expect_err("must be refused").to_string();
    insta::assert_snapshot!(refusal(json!({"architectures": ["MambaForCausalLM"]})), @"the model's architecture is `MambaForCausalLM`; supported: LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM");
    insta::assert_snapshot!(refusal(json!({"architectures": null})), @"the model's architecture is `(none named)`; supported: LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM");
    insta::assert_snapshot!(refusal(json!({"hidden_act": "gelu"})), @"`config.json`: `hidden_act` is `gelu`; only `silu` is supported");
    insta::assert_snapshot!(refusal(json!({"num_key_value_heads": 3})), @"`config.json`: 4 query heads cannot share 3 key heads");
    insta::assert_snapshot!(refusal(json!({"head_dim": 7})), @"`config.json`: `head_dim` is 7; rotary embedding needs an even one");
    insta::assert_snapshot!(refusal(json!({"head_dim": null, "num_attention_heads": 5})), @"`config.json`: 24 is not a multiple of 5 heads");
    insta::assert_snapshot!(refusal(json!({"rope_theta": -1.0})), @"`config.json`: `rope_theta` is -1; expected a positive number");
    insta::assert_snapshot!(refusal(json!({"rms_norm_eps": -1.0})), @"`config.json`: `rms_norm_eps` is -1; expected a number from 0");
    insta::assert_snapshot!(refusal(json!({"rope_scaling": {"type": "yarn", "factor": 4.0}})), @"`config.json`: rotary scaling `yarn`; supported: default, linear, llama3");
    insta::assert_snapshot!(refusal(json!({"rope_scaling": {"type": "linear", "factor": -4.0}})), @"`config.json`: rotary scaling needs a positive `factor`");
    insta::assert_snapshot!(refusal(json!({"rope_scaling": {"type": "linear"}})), @"`config.json`: rotary scaling needs a positive `factor`");
    insta::assert_snapshot!(refusal(json!({"mlp_bias": true})), @"`config.json`: attention or MLP biases and sliding windows are not supported");
    for key in ["attention_bias", "use_sliding_window"] {
        assert_eq!(refusal(json!({key: true})), refusal(json!({"mlp_bias": true})));
    }
    let flat = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
        "original_max_position_embeddings": 8192});
    insta::assert_snapshot!(refusal(json!({"rope_scaling": flat})), @"`config.json`: `low_freq_factor` is 4; expected less than `high_freq_factor`, 4");
    let sizes = [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
    ];
    for key in sizes {
        for size in [0, (1 << 24) + 1, u64::MAX] {
            let message = refusal(json!({key: size}));
            assert!(message.contains(&format!("`{key}` is {size}; expected 1 to 16777216")), "{message}");
        }
        for value in [json!(-1), json!("24"), json!(1.5)] {
            assert!(refusal(json!({key: value})).starts_with("`config.json`: "), "{key}: {value}");
        }
    }
    for text in ["", "{", "[]", "null", "7", r#"{"architectures": ["LlamaForCausalLM"]}"#] {
        ModelConfig::from_json(text).expect_err(text);
    }
    let whole = wire(&plain()).to_string();
    for number in ["NaN", "Infinity", "1e999"] {
        let text = whole.replace("\"rope_theta\":10000.0", &format!("\"rope_theta\":{number}"));
        assert_ne!(text, whole);
        ModelConfig::from_json(&text).expect_err(number);
    }
}

/// A folder with a tiny model, written by `write`.
fn folder(config: &ModelConfig, write: impl FnOnce(&Path, BTreeMap<String, Tensor>)) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), wire(config).to_string()).unwrap();
    write(dir.path(), weights(&decoder(config, 8)));
    dir
}

fn write_weights(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    std::fs::write(path, safetensors::serialize(tensors.iter(), None).unwrap()).unwrap();
}

fn opened(dir: &TempDir) -> Result<BTreeMap<String, Vec<u32>>, LearnError> {
    let decoder = ModelFiles::read(dir.path())?.decoder()?;
    Ok(weights(&decoder).into_iter().map(|(name, weight)| (name, bits(&weight))).collect())
}

fn refusal(dir: &TempDir) -> String {
    let message = opened(dir).expect_err("must be refused").to_string();
    message.replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn weights_load_in_one_file_or_in_shards_and_in_any_precision() {
    for (family, tied) in FAMILIES {
        let config = config(family, tied);
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let stored = |tensors: BTreeMap<String, Tensor>| -> BTreeMap<String, Tensor> {
                tensors.into_iter().map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap())).collect()
            };
            let expected: BTreeMap<String, Vec<u32>> = stored(weights(&decoder(&config, 8)))
                .into_iter()
                .map(|(name, tensor)| (name, bits(&tensor.to_dtype(DType::F32).unwrap())))
                .collect();
            let single = folder(&config, |dir, tensors| {
                write_weights(&dir.join("model.safetensors"), &stored(tensors))
            });
            assert_eq!(opened(&single).unwrap(), expected, "{family:?} {dtype:?}");
            let sharded = folder(&config, |dir, tensors| {
                let mut tensors = stored(tensors);
                let mut index = BTreeMap::new();
                let upper = tensors.split_off("model.layers.1");
                for (file, shard) in [
                    ("model-00001-of-00002.safetensors", tensors),
                    ("model-00002-of-00002.safetensors", upper),
                ] {
                    write_weights(&dir.join(file), &shard);
                    index.extend(shard.into_keys().map(|name| (name, file)));
                }
                let index = json!({"metadata": {"total_size": 1}, "weight_map": index});
                std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
            });
            assert_eq!(opened(&sharded).unwrap(), expected, "{family:?} {dtype:?} in shards");
        }
    }
}

#[test]
fn weights_that_cannot_be_used_are_refused_by_name() {
    let with = |change: fn(&mut BTreeMap<String, Tensor>)| {
        refusal(&folder(&plain(), |dir, mut tensors| {
            change(&mut tensors);
            write_weights(&dir.join("model.safetensors"), &tensors);
        }))
    };
    insta::assert_snapshot!(with(|tensors| drop(tensors.remove("lm_head.weight"))), @"the model has no tensor `lm_head.weight`");
    insta::assert_snapshot!(with(|tensors| drop(tensors.remove("model.layers.1.mlp.up_proj.weight"))), @"the model has no tensor `model.layers.1.mlp.up_proj.weight`");
    insta::assert_snapshot!(with(|tensors| {
        let norm = tensors["model.norm.weight"].narrow(0, 0, 23).unwrap().contiguous().unwrap();
        tensors.insert("model.norm.weight".to_owned(), norm);
    }), @"tensor `model.norm.weight` has shape [23], expected [24]");
    insta::assert_snapshot!(with(|tensors| {
        let transposed = tensors["model.layers.0.self_attn.k_proj.weight"].t().unwrap().contiguous().unwrap();
        tensors.insert("model.layers.0.self_attn.k_proj.weight".to_owned(), transposed);
    }), @"tensor `model.layers.0.self_attn.k_proj.weight` has shape [24, 20], expected [20, 24]");
    insta::assert_snapshot!(with(|tensors| {
        let wide = tensors["lm_head.weight"].to_dtype(DType::F64).unwrap();
        tensors.insert("lm_head.weight".to_owned(), wide);
    }), @"`DIR/model.safetensors` is not a readable safetensors file: tensor `lm_head.weight`: element type F64; supported: F32, BF16, F16");
}

#[test]
fn folders_that_cannot_be_used_are_refused_by_file() {
    let missing = folder(&plain(), |_, _| ());
    insta::assert_snapshot!(refusal(&missing), @"cannot read `DIR/model.safetensors`: No such file or directory (os error 2)");
    std::fs::remove_file(missing.path().join("config.json")).unwrap();
    insta::assert_snapshot!(refusal(&missing), @"cannot read `DIR/config.json`: No such file or directory (os error 2)");

    let whole = folder(&plain(), |dir, tensors| write_weights(&dir.join("model.safetensors"), &tensors));
    let path = whole.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for kept in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..kept]).unwrap();
        let message = refusal(&whole);
        assert!(
            message.starts_with("`DIR/model.safetensors` is not a readable safetensors file: "),
            "{message}"
        );
    }
    // A header that claims to be longer than memory.
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(refusal(&whole).starts_with("`DIR/model.safetensors` is not a readable"));

    let index = |text: &str| {
        refusal(&folder(&plain(), |dir, tensors| {
            write_weights(&dir.join("model.safetensors"), &tensors);
            std::fs::write(dir.join("model.safetensors.index.json"), text).unwrap();
        }))
    };
    insta::assert_snapshot!(index(r#"{"weight_map": {"a": "../model.safetensors"}}"#), @"`DIR/model.safetensors.index.json` is not a valid shard index: `../model.safetensors` is not the name of a safetensors file");
    insta::assert_snapshot!(index(r#"{"weight_map": {"a": "/etc/passwd"}}"#), @"`DIR/model.safetensors.index.json` is not a valid shard index: `/etc/passwd` is not the name of a safetensors file");
    insta::assert_snapshot!(index(r#"{"weight_map": {"a": "config.json"}}"#), @"`DIR/model.safetensors.index.json` is not a valid shard index: `config.json` is not the name of a safetensors file");
    insta::assert_snapshot!(index(r#"{"weight_map": {"a": "lost.safetensors"}}"#), @"cannot read `DIR/lost.safetensors`: No such file or directory (os error 2)");
    insta::assert_snapshot!(index("{"), @"`DIR/model.safetensors.index.json` is not a valid shard index: EOF while parsing an object at line 1 column 1");
    insta::assert_snapshot!(index(r#"{"weight_map": {}}"#), @"the model has no tensor `model.embed_tokens.weight`");
}

#[test]
fn end_tokens_come_from_the_generation_configuration() {
    let dir = folder(&plain(), |dir, tensors| write_weights(&dir.join("model.safetensors"), &tensors));
    let ids = |generation: &str| {
        std::fs::write(dir.path().join("generation_config.json"), generation).unwrap();
        ModelFiles::read(dir.path()).unwrap().decoder().unwrap().config().eos_ids.clone()
    };
    assert_eq!(ids(r#"{"eos_token_id": [5, 6]}"#), [5, 6]);
    assert_eq!(ids(r#"{"eos_token_id": 7}"#), [7]);
    assert_eq!(ids(r#"{"eos_token_id": null}"#), [0]);
    assert_eq!(ids("{}"), [0]);
}

#[test]
fn any_change_of_a_file_is_another_digest() {
    let dir = folder(&plain(), |dir, tensors| write_weights(&dir.join("model.safetensors"), &tensors));
    let digest = || ModelFiles::read(dir.path()).unwrap().digest();
    let first = digest();
    assert_eq!((first.len(), &digest()), (64, &first));
    let mut seen = vec![first];
    let path = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    seen.push(digest());
    std::fs::write(dir.path().join("config.json"), wire(&plain()).to_string() + "\n").unwrap();
    seen.push(digest());
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "selkie.json"] {
        std::fs::write(dir.path().join(name), "x").unwrap();
        seen.push(digest());
    }
    std::fs::write(dir.path().join("README.md"), "not of the model").unwrap();
    assert_eq!(digest(), *seen.last().unwrap());
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 7);
}
