//! Adapters as values and as PEFT folders.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use safetensors::SafeTensors;
use selkie_edit::{Lora, Projection};
use serde_json::{Value, json};

use super::support::{FAMILIES, adapter, adapter_bits, config, decoder, distance, lora};
use crate::config::{Family, ModelConfig};
use crate::decoder::Decoder;
use crate::lora::Adapter;
use crate::peft::{CONFIG_FILE, WEIGHTS_FILE, from_files, to_files};
use crate::score::token_logits;

type Files = Vec<(String, Vec<u8>)>;

const LLAMA: (Family, bool) = (Family::Llama, false);

fn llama() -> ModelConfig {
    config(LLAMA.0, LLAMA.1)
}

fn logits(decoder: &Decoder, adapter: Option<&Adapter>) -> Tensor {
    token_logits(decoder, adapter, &[3, 1, 4, 1, 5, 9, 2, 6], &[0, 1, 2, 3, 40, 41, 42, 43]).unwrap()
}

fn small() -> Adapter {
    adapter(&llama(), &lora(2, &[Projection::QProj, Projection::DownProj]), 1)
}

fn settings(files: &Files) -> Value {
    serde_json::from_slice(&files.iter().find(|(name, _)| name == CONFIG_FILE).unwrap().1).unwrap()
}

/// The files of a small adapter after a change of its settings and its tensors.
fn changed(change: impl FnOnce(&mut Value, &mut BTreeMap<String, Tensor>)) -> Files {
    let files = to_files(&small(), "base").unwrap();
    let mut settings = settings(&files);
    let mut tensors = crate::weights::read(&files[1].1, "adapter".as_ref()).unwrap();
    change(&mut settings, &mut tensors);
    vec![
        (CONFIG_FILE.to_owned(), settings.to_string().into_bytes()),
        (WEIGHTS_FILE.to_owned(), safetensors::serialize(tensors.iter(), None).unwrap()),
    ]
}

fn refusal(files: &Files) -> String {
    from_files(&llama(), files).expect_err("must be refused").to_string()
}

fn check_round_trip(adapter: &Adapter) -> Files {
    let files = to_files(adapter, "some/base").unwrap();
    let back = from_files(&llama(), &files).unwrap();
    assert_eq!(adapter_bits(&back), adapter_bits(adapter));
    assert_eq!(to_files(&back, "some/base").unwrap(), files);
    files
}

#[test]
fn a_peft_folder_gives_back_every_bit() {
    let config = llama();
    for rank in 1..=9 {
        for alpha in [16.0, 1.0, 0.1, 179.0, 1e-2] {
            let files =
                check_round_trip(&adapter(&config, &Lora { alpha, ..lora(rank, &Projection::ALL) }, 2));
            assert_eq!(settings(&files)["lora_alpha"], json!(alpha));
            assert_eq!(settings(&files)["r"], json!(rank));
        }
    }
    // Where a quotient in binary is least exact: ranks that are no powers of two, to the largest one.
    for rank in [49, 98, 103, 107, 161, 187, 197, 256] {
        check_round_trip(&adapter(&config, &Lora { alpha: 1.0, ..lora(rank, &[Projection::KProj]) }, 2));
    }
    for projection in Projection::ALL {
        let files = check_round_trip(&adapter(&config, &lora(2, &[projection]), 2));
        assert_eq!(settings(&files)["target_modules"], json!([projection.as_str()]));
        let names = SafeTensors::deserialize(&files[1].1).unwrap();
        assert_eq!(names.len(), 2 * config.layers);
    }
}

#[test]
fn the_settings_say_what_peft_expects() {
    let files = to_files(&small(), "some/base").unwrap();
    insta::assert_snapshot!(String::from_utf8(files[0].1.clone()).unwrap(), @r#"
    {
      "peft_type": "LORA",
      "task_type": "CAUSAL_LM",
      "base_model_name_or_path": "some/base",
      "r": 2,
      "lora_alpha": 3.0,
      "lora_dropout": 0.0,
      "target_modules": [
        "down_proj",
        "q_proj"
      ],
      "rank_pattern": {},
      "alpha_pattern": {},
      "use_rslora": false,
      "use_dora": false,
      "bias": "none",
      "fan_in_fan_out": false,
      "modules_to_save": null,
      "inference_mode": true,
      "init_lora_weights": true
    }
    "#);
}

#[test]
fn stacked_adapters_of_unequal_ranks_go_through_a_folder() {
    let config = llama();
    let parent = adapter(&config, &lora(4, &[Projection::QProj, Projection::VProj]), 2);
    let new = adapter(&config, &Lora { alpha: 7.0, ..lora(3, &[Projection::VProj, Projection::UpProj]) }, 3);
    let stacked = parent.stack(&new).unwrap();
    let settings = settings(&check_round_trip(&stacked));
    assert_eq!((stacked.rank(), &settings["r"]), (7, &json!(7)));
    let patterns = |name: &str| settings[name].as_object().unwrap().clone();
    let expected = |q: f64, up: f64| -> BTreeMap<String, f64> {
        let layers = [0, 1].into_iter();
        let modules = layers.flat_map(|layer| {
            [
                (format!("model.layers.{layer}.self_attn.q_proj"), q),
                (format!("model.layers.{layer}.mlp.up_proj"), up),
            ]
        });
        modules.collect()
    };
    for name in ["rank_pattern", "alpha_pattern"] {
        let found: BTreeMap<_, _> =
            patterns(name).into_iter().map(|(key, value)| (key, value.as_f64().unwrap())).collect();
        assert_eq!(found, expected(4.0, 3.0), "{name}");
    }
    // Pairs that differ in scale alone.
    let mut mixed = small();
    for (site, pair) in &mut mixed.pairs {
        pair.scale = 0.3 * (1 + site.layer) as f64;
    }
    check_round_trip(&mixed);
    check_round_trip(&stacked.stack(&mixed).unwrap());
}

#[test]
fn the_scale_is_read_as_peft_computes_it() {
    let check = |change: fn(&mut Value), expected: [f64; 2]| {
        let files = changed(|settings, _| change(settings));
        let adapter = from_files(&llama(), &files).unwrap();
        for (site, pair) in adapter.sites() {
            let expected = expected[usize::from(site.projection == Projection::DownProj)];
            assert!((pair.scale - expected).abs() < 1e-12, "{}: {}", site.module(), pair.scale);
        }
    };
    check(|_| (), [1.5, 1.5]);
    check(|settings| settings["lora_alpha"] = json!(16), [8.0, 8.0]);
    let root = 2f64.sqrt();
    check(|settings| settings["use_rslora"] = json!(true), [3.0 / root, 3.0 / root]);
    check(|settings| settings["alpha_pattern"] = json!({"down_proj": 5}), [1.5, 2.5]);
    check(|settings| settings["alpha_pattern"] = json!({"self_attn.q_proj": 1, "own_proj": 7}), [0.5, 1.5]);
}

#[test]
fn what_is_not_supported_is_named() {
    let with = |key: &'static str, value: Value| refusal(&changed(|settings, _| settings[key] = value));
    insta::assert_snapshot!(with("use_dora", json!(true)), @"the adapter cannot be used: use_dora is not supported");
    insta::assert_snapshot!(with("bias", json!("lora_only")), @"the adapter cannot be used: a trained bias is not supported");
    insta::assert_snapshot!(with("lora_bias", json!(true)), @"the adapter cannot be used: lora_bias is not supported");
    insta::assert_snapshot!(with("fan_in_fan_out", json!(true)), @"the adapter cannot be used: fan_in_fan_out is not supported");
    insta::assert_snapshot!(with("modules_to_save", json!(["lm_head"])), @"the adapter cannot be used: `modules_to_save` is not supported");
    insta::assert_snapshot!(with("peft_type", json!("IA3")), @r#"the adapter cannot be used: `peft_type` is "IA3"; only LORA is supported"#);
    insta::assert_snapshot!(with("peft_type", Value::Null), @"the adapter cannot be used: `peft_type` is null; only LORA is supported");
    insta::assert_snapshot!(with("lora_alpha", json!("16")), @"the adapter cannot be used: `lora_alpha` is missing or not a number");
}

#[test]
fn damaged_folders_are_refused_by_what_is_wrong() {
    let files = to_files(&small(), "base").unwrap();
    for (missing, message) in [
        (0, "the adapter cannot be used: there is no `adapter_config.json`"),
        (1, "the adapter cannot be used: there is no `adapter_model.safetensors`"),
    ] {
        let mut files = files.clone();
        files.remove(missing);
        assert_eq!(refusal(&files), message);
    }
    // Cut anywhere, neither file is read.
    let len = files[1].1.len();
    for kept in [0, 7, 8, 100, len / 2, len - 1] {
        let mut files = files.clone();
        files[1].1.truncate(kept);
        let message = refusal(&files);
        assert!(
            message.starts_with("`adapter_model.safetensors` is not a readable safetensors file: "),
            "{message}"
        );
    }
    for kept in [0, 1, files[0].1.len() / 2, files[0].1.len() - 1] {
        let mut files = files.clone();
        files[0].1.truncate(kept);
        let message = refusal(&files);
        assert!(
            message.starts_with("the adapter cannot be used: `adapter_config.json` is not valid JSON: "),
            "{message}"
        );
    }
    let with = |change: fn(&mut BTreeMap<String, Tensor>)| refusal(&changed(|_, tensors| change(tensors)));
    const Q_A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    fn rename(tensors: &mut BTreeMap<String, Tensor>, name: &str) {
        let tensor = tensors.remove(Q_A).unwrap();
        tensors.insert(name.to_owned(), tensor);
    }
    insta::assert_snapshot!(with(|tensors| drop(tensors.remove(Q_A))), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has only one of its two matrices");
    insta::assert_snapshot!(with(|tensors| {
        tensors.insert(Q_A.to_owned(), tensors[Q_A].narrow(1, 0, 23).unwrap().contiguous().unwrap());
    }), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has A [2, 23] and B [40, 2] for a layer of 40x24");
    insta::assert_snapshot!(with(|tensors| {
        tensors.insert(Q_A.to_owned(), tensors[Q_A].narrow(0, 0, 1).unwrap().contiguous().unwrap());
    }), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has A [1, 24] and B [40, 2] for a layer of 40x24");
    insta::assert_snapshot!(with(|tensors| {
        tensors.insert(Q_A.to_owned(), tensors[Q_A].sum_all().unwrap());
    }), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has A [] and B [40, 2] for a layer of 40x24");
    insta::assert_snapshot!(with(|tensors| {
        tensors.insert(Q_A.to_owned(), tensors[Q_A].to_dtype(DType::F64).unwrap());
    }), @"the adapter cannot be used: tensor `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: element type F64; supported: F32, BF16, F16");
    insta::assert_snapshot!(with(|tensors| rename(tensors, "base_model.model.lm_head.lora_A.weight")), @"the adapter cannot be used: tensor `base_model.model.lm_head.lora_A.weight` is of no layer that can be adapted");
    insta::assert_snapshot!(with(|tensors| rename(tensors, "base_model.model.model.layers.0.mlp.q_proj.lora_A.weight")), @"the adapter cannot be used: tensor `base_model.model.model.layers.0.mlp.q_proj.lora_A.weight` is of no layer that can be adapted");
    insta::assert_snapshot!(with(|tensors| {
        for half in ["A", "B"] {
            let module = |layer| format!("base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{half}.weight");
            let tensor = tensors.remove(&module(1)).unwrap();
            tensors.insert(module(7), tensor);
        }
    }), @"the adapter cannot be used: `model.layers.7.self_attn.q_proj` is not in this model of 2 blocks");
}

#[test]
fn half_precision_adapters_load() {
    for dtype in [DType::BF16, DType::F16] {
        let half = changed(|_, tensors| {
            tensors.values_mut().for_each(|tensor| *tensor = tensor.to_dtype(dtype).unwrap());
        });
        let mut rounded = small();
        for pair in rounded.pairs.values_mut() {
            for half in [&mut pair.a, &mut pair.b] {
                *half = half.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
            }
        }
        assert_eq!(adapter_bits(&from_files(&llama(), &half).unwrap()), adapter_bits(&rounded));
    }
}

#[test]
fn a_merged_adapter_says_what_the_adapter_says() {
    for (family, tied) in FAMILIES {
        let config = config(family, tied);
        let base = decoder(&config, 4);
        let adapter = adapter(&config, &lora(3, &Projection::ALL), 2);
        let expected = logits(&base, Some(&adapter));
        assert!(distance(&logits(&base, None), &expected) > 0.1);
        assert!(distance(&logits(&base.merged(&adapter).unwrap(), None), &expected) < 2e-5, "{family:?}");
    }
    let wide = ModelConfig { hidden_size: 32, ..llama() };
    let refused = decoder(&wide, 1).merged(&small()).expect_err("another width");
    assert!(matches!(refused, crate::LearnError::Adapter(_)), "{refused}");
}

#[test]
fn a_stacked_adapter_is_the_new_one_over_the_merged_old_one() {
    for (family, tied) in FAMILIES {
        let config = config(family, tied);
        let base = decoder(&config, 4);
        let parent =
            adapter(&config, &lora(3, &[Projection::QProj, Projection::GateProj, Projection::DownProj]), 2);
        let new =
            adapter(&config, &Lora { alpha: 5.0, ..lora(2, &[Projection::QProj, Projection::OProj]) }, 3);
        let expected = logits(&base.merged(&parent).unwrap(), Some(&new));
        let stacked = parent.stack(&new).unwrap();
        assert!(distance(&logits(&base, Some(&stacked)), &expected) < 2e-5, "{family:?}");
        for one in [&parent, &new] {
            assert!(distance(&logits(&base, Some(one)), &expected) > 0.05);
        }
        assert_eq!(stacked.parameters(), parent.parameters() + new.parameters());
        // Over nothing, and nothing over it.
        for same in [Adapter::default().stack(&parent).unwrap(), parent.stack(&Adapter::default()).unwrap()] {
            assert!(distance(&logits(&base, Some(&same)), &logits(&base, Some(&parent))) < 1e-5);
        }
    }
}
