//! Adapters as values and as PEFT folders.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use proptest::prelude::*;
use safetensors::SafeTensors;
use selkie_edit::{Lora, Projection};
use serde_json::{Value, json};

use super::support::{FAMILIES, adapter, adapter_bits, bits, config, decoder, distance, lora, normal, rng};
use crate::config::{Family, ModelConfig};
use crate::decoder::Decoder;
use crate::lora::{Adapter, LoraConfig, LoraPair, Site};
use crate::peft::{self, CONFIG_FILE, Existing, WEIGHTS_FILE, from_files, to_files, to_files_with};
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
    for (key, value) in [
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("use_qalora", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("target_parameters", json!(["mlp.experts.down_proj"])),
        ("trainable_token_indices", json!({"embed_tokens": [1]})),
        ("layer_replication", json!([[0, 1], [0, 2]])),
        ("alora_invocation_tokens", json!([1, 2])),
        ("kasa_config", json!({"beta": 1e-4})),
    ] {
        assert_eq!(
            with(key, value),
            format!(
                "the adapter cannot be used: `{key}` is set; only plain LoRA of linear layers is supported"
            )
        );
    }
    insta::assert_snapshot!(with("bias", json!("lora_only")), @r#"the adapter cannot be used: `bias` is "lora_only"; only "none" is supported"#);
    insta::assert_snapshot!(with("peft_type", json!("IA3")), @r#"the adapter cannot be used: `peft_type` is "IA3"; only LORA is supported"#);
    insta::assert_snapshot!(with("peft_type", Value::Null), @"the adapter cannot be used: `peft_type` is null; only LORA is supported");
    insta::assert_snapshot!(with("lora_alpha", json!("16")), @"the adapter cannot be used: `lora_alpha` is missing or not a number");
    insta::assert_snapshot!(with("r", Value::Null), @"the adapter cannot be used: `r` is missing or not a whole number");
    insta::assert_snapshot!(with("r", json!(-1)), @"the adapter cannot be used: `r` is missing or not a whole number");
    insta::assert_snapshot!(with("r", json!(0)), @"the adapter cannot be used: the rank is 0; expected 1 to 16384");
    insta::assert_snapshot!(with("r", json!(3)), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has rank 2 in `adapter_model.safetensors` and 3 by `adapter_config.json`");
    insta::assert_snapshot!(with("rank_pattern", json!([2])), @"the adapter cannot be used: `rank_pattern` is missing or not an object");
    insta::assert_snapshot!(with("rank_pattern", json!({"q_proj": 2.5})), @"the adapter cannot be used: `q_proj` of `rank_pattern` is missing or not a whole number");
    insta::assert_snapshot!(with("rank_pattern", json!({"down_proj": 4})), @"the adapter cannot be used: `model.layers.0.mlp.down_proj` has rank 2 in `adapter_model.safetensors` and 4 by `adapter_config.json`");
    insta::assert_snapshot!(with("alpha_pattern", json!({"q_proj": "8"})), @"the adapter cannot be used: `q_proj` of `alpha_pattern` is missing or not a number");
    insta::assert_snapshot!(with("alpha_pattern", json!({"(?=q)q_proj": 8})), @"the adapter cannot be used: `(?=q)q_proj` of `alpha_pattern` is no pattern that can be used: look-around, including look-ahead and look-behind, is not supported");
    let many: serde_json::Map<String, Value> = (0..5000).map(|at| (format!("p{at}"), json!(1))).collect();
    insta::assert_snapshot!(with("alpha_pattern", Value::Object(many)), @"the adapter cannot be used: `alpha_pattern` has 5000 patterns; the limit is 4096");
}

#[test]
fn what_does_not_change_the_update_is_not_looked_at() {
    for (key, value) in [
        ("target_modules", json!(["q_proj"])),
        ("target_modules", json!(r".*\.(q|down)_proj")),
        ("target_modules", json!("all-linear")),
        ("exclude_modules", json!(["lm_head"])),
        ("layers_to_transform", json!([0, 1])),
        ("layers_pattern", json!("layers")),
        ("lora_dropout", json!(0.1)),
        ("modules_to_save", json!([])),
        ("init_lora_weights", json!("pissa")),
        ("auto_mapping", json!({"base_model_class": "LlamaForCausalLM"})),
        ("rank_pattern", json!({"lm_head": 7})),
        ("alpha_pattern", Value::Null),
    ] {
        let files = changed(|settings, _| settings[key] = value);
        assert_eq!(adapter_bits(&from_files(&llama(), &files).unwrap()), adapter_bits(&small()), "{key}");
    }
    // The names of a state dictionary that was saved as it is.
    let files = changed(|_, tensors| {
        *tensors = std::mem::take(tensors)
            .into_iter()
            .map(|(name, tensor)| (name.replace(".weight", ".default.weight"), tensor))
            .collect();
    });
    assert_eq!(adapter_bits(&from_files(&llama(), &files).unwrap()), adapter_bits(&small()));
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
    for value in [f32::NAN, f32::INFINITY] {
        let refused = refusal(&changed(|_, tensors| {
            let bad = tensors[Q_A].affine(1.0, f64::from(value)).unwrap();
            tensors.insert(Q_A.to_owned(), bad);
        }));
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused, @"the adapter cannot be used: tensor `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` has values that are infinite or no numbers");
        }
    }
    insta::assert_snapshot!(with(|tensors| {
        tensors.insert(Q_A.replace(".weight", ".default.weight"), tensors[Q_A].clone());
    }), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has two matrices A");
    insta::assert_snapshot!(with(BTreeMap::clear), @"the adapter cannot be used: `adapter_model.safetensors` has no tensors");
    insta::assert_snapshot!(with(|tensors| {
        for (half, dim) in [("A", 0), ("B", 1)] {
            let name = Q_A.replace("lora_A", &format!("lora_{half}"));
            let empty = Tensor::zeros(if dim == 0 { (0, 24) } else { (40, 0) }, DType::F32, tensors[&name].device());
            tensors.insert(name, empty.unwrap());
        }
    }), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has A [0, 24] and B [40, 0] for a layer of 40x24");
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

/// What a plain adapter of q and down of rank 2 and alpha 3 becomes with these settings.
fn configured(change: impl FnOnce(&mut LoraConfig)) -> LoraConfig {
    let mut config = LoraConfig::from(&lora(2, &[Projection::QProj, Projection::DownProj]));
    change(&mut config);
    config
}

#[test]
fn ranks_and_scales_are_those_of_peft() {
    // Rank and scale of q and down in block 0, then 1. From peft 0.21 with a model of the same module names.
    let check = |change: fn(&mut LoraConfig), expected: [(u32, f64); 4]| {
        let config = configured(change);
        let adapter = Adapter::init(&llama(), &config, 1).unwrap();
        let found: Vec<(u32, f64)> =
            adapter.sites().map(|(_, pair)| (pair.a.dim(0).unwrap() as u32, pair.scale)).collect();
        assert_eq!(found, expected, "{config:?}");
        for (_, pair) in adapter.sites() {
            assert_eq!(pair.a.dims()[0], pair.b.dims()[1]);
        }
        // And through a folder, in which the settings are what they were.
        let files = to_files_with(&adapter, "base", &config).unwrap();
        assert_eq!(adapter_bits(&from_files(&llama(), &files).unwrap()), adapter_bits(&adapter));
        let written = settings(&files);
        assert_eq!(written["r"], json!(config.rank));
        assert_eq!(written["lora_alpha"], json!(config.alpha));
        assert_eq!(written["lora_dropout"], json!(config.dropout));
        assert_eq!(written["use_rslora"], json!(config.use_rslora));
        let ranks: Vec<_> = written["rank_pattern"].as_object().unwrap().iter().collect();
        let given = config.rank_pattern.iter().map(|(key, rank)| (key.clone(), json!(rank)));
        assert!(ranks.into_iter().map(|(key, rank)| (key.clone(), rank.clone())).eq(given));
    };
    check(|_| (), [(2, 1.5); 4]);
    check(|c| c.dropout = 0.25, [(2, 1.5); 4]);
    check(|c| c.alpha = -1.0, [(2, -0.5); 4]);
    check(|c| c.rank = 60, [(60, 0.05); 4]);
    check(|c| (c.rank, c.alpha, c.use_rslora) = (4, 3.0, true), [(4, 1.5); 4]);
    let (two, four) = ((2, 1.5), (4, 0.75));
    check(|c| c.rank_pattern = vec![("q_proj".into(), 4)], [four, two, four, two]);
    check(|c| c.rank_pattern = vec![("self_attn.q_proj".into(), 4)], [four, two, four, two]);
    check(|c| c.rank_pattern = vec![("layers.1.mlp.down_proj".into(), 4)], [two, two, two, four]);
    check(|c| c.rank_pattern = vec![("^model.layers.1.mlp.down_proj".into(), 4)], [two, two, two, four]);
    check(|c| c.rank_pattern = vec![(r"layers\.(1|5)\..*".into(), 4)], [two, two, four, four]);
    check(|c| c.rank_pattern = vec![(r"model\.layers\.\d\.mlp\.\w+".into(), 4)], [two, four, two, four]);
    check(|c| c.rank_pattern = vec![("q_proj|down_proj".into(), 4)], [four; 4]);
    // The first key that matches counts.
    check(
        |c| c.rank_pattern = vec![("layers.0.self_attn.q_proj".into(), 4), ("q_proj".into(), 3)],
        [four, two, (3, 1.0), two],
    );
    check(|c| c.alpha_pattern = vec![("q_proj".into(), 5.0)], [(2, 2.5), two, (2, 2.5), two]);
    check(
        |c| {
            c.rank_pattern = vec![("q_proj".into(), 9)];
            c.alpha_pattern = vec![("layers.0.*".into(), 6.0)];
            c.use_rslora = true;
            c.rank = 4;
        },
        [(9, 2.0), (4, 3.0), (9, 1.0), (4, 1.5)],
    );
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let refused = |change: fn(&mut LoraConfig)| {
        configured(change).check(&llama()).expect_err("must be refused").to_string()
    };
    insta::assert_snapshot!(refused(|c| c.rank = 0), @"the adapter cannot be used: the rank is 0; expected 1 to 16384");
    insta::assert_snapshot!(refused(|c| c.rank = 16385), @"the adapter cannot be used: the rank is 16385; expected 1 to 16384");
    insta::assert_snapshot!(refused(|c| c.alpha = f64::NAN), @"the adapter cannot be used: alpha is NaN; expected a finite number");
    insta::assert_snapshot!(refused(|c| c.dropout = 1.0), @"the adapter cannot be used: the dropout is 1; expected a number from 0 to below 1");
    insta::assert_snapshot!(refused(|c| c.dropout = f64::NAN), @"the adapter cannot be used: the dropout is NaN; expected a number from 0 to below 1");
    insta::assert_snapshot!(refused(|c| c.targets.clear()), @"the adapter cannot be used: the target layers are []; expected at least one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, each once");
    insta::assert_snapshot!(refused(|c| c.targets.push(Projection::QProj)), @"the adapter cannot be used: the target layers are [q_proj, down_proj, q_proj]; expected at least one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, each once");
    insta::assert_snapshot!(refused(|c| c.rank_pattern = vec![("q_proj".into(), 0)]), @"the adapter cannot be used: the rank of `q_proj` is 0; expected 1 to 16384");
    insta::assert_snapshot!(refused(|c| c.alpha_pattern = vec![("q_proj".into(), f64::INFINITY)]), @"the adapter cannot be used: alpha of `q_proj` is inf; expected a finite number");
    insta::assert_snapshot!(refused(|c| c.rank_pattern = vec![("proj".into(), 4)]), @"the adapter cannot be used: `proj` of `rank_pattern` matches no adapted layer; there are q_proj, down_proj in blocks 0 to 1, with paths such as `model.layers.0.self_attn.q_proj`");
    insta::assert_snapshot!(refused(|c| c.alpha_pattern = vec![("v_proj".into(), 4.0)]), @"the adapter cannot be used: `v_proj` of `alpha_pattern` matches no adapted layer; there are q_proj, down_proj in blocks 0 to 1, with paths such as `model.layers.0.self_attn.q_proj`");
    insta::assert_snapshot!(refused(|c| c.alpha_pattern = vec![("q_(proj".into(), 4.0)]), @"the adapter cannot be used: `q_(proj` of `alpha_pattern` is no pattern that can be used: unclosed group");
    insta::assert_snapshot!(refused(|c| c.alpha_pattern = vec![(".{1,1000}{1,1000}".into(), 4.0)]), @"the adapter cannot be used: `.{1,1000}{1,1000}` of `alpha_pattern` is no pattern that can be used: Compiled regex exceeds size limit of 1048576 bytes.");
    insta::assert_snapshot!(refused(|c| c.rank_pattern = vec![("q_proj".into(), 4), ("q_proj".into(), 4)]), @"the adapter cannot be used: `rank_pattern` has `q_proj` twice");
    let other = configured(|c| c.alpha = 4.0);
    insta::assert_snapshot!(to_files_with(&small(), "base", &other).unwrap_err(), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has rank 2 and scale 1.5; by the settings to be written they are 2 and 2");
}

#[test]
fn an_edit_s_settings_and_the_same_in_full_give_the_same_adapter() {
    let edit = lora(3, &Projection::ALL);
    let full = LoraConfig::from(&edit);
    let (one, two) = (Adapter::init(&llama(), &edit, 5).unwrap(), Adapter::init(&llama(), &full, 5).unwrap());
    assert_eq!(adapter_bits(&one), adapter_bits(&two));
    assert_eq!(to_files(&one, "b").unwrap(), to_files_with(&two, "b", &full).unwrap());
    // The generations of a home were started from these numbers.
    let a = bits(&one.sites().next().unwrap().1.a);
    assert_eq!(a[..4], [3_186_865_300, 3_187_263_600, 3_183_110_160, 1_035_200_810]);
}

#[test]
fn an_adapter_of_some_layers_names_them() {
    let mut some = small();
    some.pairs.remove(&Site { layer: 0, projection: Projection::DownProj });
    let files = check_round_trip(&some);
    assert_eq!(
        settings(&files)["target_modules"],
        json!([
            "model.layers.0.self_attn.q_proj",
            "model.layers.1.mlp.down_proj",
            "model.layers.1.self_attn.q_proj"
        ])
    );
}

#[test]
fn folders_are_written_once_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/adapter");
    let shown = |error: crate::LearnError| error.to_string().replace(dir.path().to_str().unwrap(), "[TEMP]");
    let (files, other) = (to_files(&small(), "base").unwrap(), to_files(&small(), "other").unwrap());
    peft::write(&folder, &files, Existing::Refuse).unwrap();
    let again = peft::write(&folder, &other, Existing::Refuse).unwrap_err();
    insta::assert_snapshot!(shown(again), @"cannot write `[TEMP]/new/adapter/adapter_config.json`: it is there already; choose another folder");
    let listed = || -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
            .collect()
    };
    assert_eq!(listed(), files.iter().cloned().collect());
    assert_eq!(adapter_bits(&peft::read(&folder, &llama()).unwrap()), adapter_bits(&small()));
    peft::write(&folder, &other, Existing::Replace).unwrap();
    assert_eq!(listed(), other.iter().cloned().collect());
    // What is wrong is said with the path.
    let refused = |folder: &std::path::Path| shown(peft::read(folder, &llama()).unwrap_err());
    insta::assert_snapshot!(refused(&dir.path().join("absent")), @"the adapter cannot be used: `[TEMP]/absent`: there is no such folder; a PEFT folder has adapter_config.json and adapter_model.safetensors");
    let weights = folder.join(WEIGHTS_FILE);
    std::fs::write(&weights, &files[1].1[..100]).unwrap();
    insta::assert_snapshot!(refused(&folder), @"`[TEMP]/new/adapter/adapter_model.safetensors` is not a readable safetensors file: invalid header length");
    std::fs::write(&weights, b"").unwrap();
    insta::assert_snapshot!(refused(&folder), @"`[TEMP]/new/adapter/adapter_model.safetensors` is not a readable safetensors file: header too small");
    std::fs::rename(&weights, folder.join("adapter_model.bin")).unwrap();
    insta::assert_snapshot!(refused(&folder), @"the adapter cannot be used: `[TEMP]/new/adapter`: `adapter_model.bin` is not opened, since it may run code; save the adapter as `adapter_model.safetensors` (in PEFT, `save_pretrained(.., safe_serialization=True)`)");
    std::fs::remove_file(folder.join("adapter_model.bin")).unwrap();
    insta::assert_snapshot!(refused(&folder), @"the adapter cannot be used: `[TEMP]/new/adapter`: there is no `adapter_model.safetensors`");
    std::fs::write(&weights, &files[1].1).unwrap();
    std::fs::write(folder.join(CONFIG_FILE), "{}").unwrap();
    insta::assert_snapshot!(refused(&folder), @"the adapter cannot be used: `[TEMP]/new/adapter`: `peft_type` is null; only LORA is supported");
}

/// `x . update^T` of a pair.
fn update(x: &Tensor, pair: &LoraPair) -> Tensor {
    let low = x.matmul(&pair.a.t().unwrap()).unwrap();
    low.matmul(&pair.b.t().unwrap()).unwrap().affine(pair.scale, 0.0).unwrap()
}

#[test]
fn parts_that_cannot_be_combined_are_refused() {
    let wide = adapter(&ModelConfig { hidden_size: 32, ..llama() }, &lora(2, &[Projection::QProj]), 1);
    let refused = |parts: &[(f64, &Adapter)]| Adapter::combine(parts).unwrap_err().to_string();
    insta::assert_snapshot!(refused(&[(1.0, &small()), (1.0, &wide)]), @"the adapter cannot be used: adapters of different models cannot be combined: `model.layers.0.self_attn.q_proj` has A [2, 24] and B [40, 2] in one, A [2, 32] and B [40, 2] in another");
    insta::assert_snapshot!(refused(&[(f64::NAN, &small())]), @"the adapter cannot be used: NaN is no weight to combine it with; expected a finite number");
    insta::assert_snapshot!(refused(&[(1e200, &small())]), @"the adapter cannot be used: 1e200 is no weight to combine it with; expected a finite number");
    assert_eq!(Adapter::combine(&[]).unwrap().sites().count(), 0);
}

/// An adapter for combining: rank, alpha, targets, seed.
fn part() -> impl Strategy<Value = (f64, u32, f64, Vec<Projection>, u64)> {
    let targets = proptest::sample::subsequence(Projection::ALL.to_vec(), 1..=7);
    (-2.0..2.0f64, 1..5u32, 0.1..8.0f64, targets, any::<u64>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_combination_is_the_sum_of_the_updates(parts in prop::collection::vec(part(), 1..4), seed: u64) {
        let config = llama();
        let adapters: Vec<Adapter> = parts
            .iter()
            .map(|(_, rank, alpha, targets, seed)| {
                adapter(&config, &Lora { rank: *rank, alpha: *alpha, targets: targets.clone() }, *seed)
            })
            .collect();
        let weighted: Vec<(f64, &Adapter)> = parts.iter().map(|part| part.0).zip(&adapters).collect();
        let combined = Adapter::combine(&weighted).unwrap();
        combined.check(&config).unwrap();
        let mut rng = rng(seed);
        for layer in 0..config.layers {
            for projection in Projection::ALL {
                let site = Site { layer, projection };
                let (out, input) = site.shape(&config);
                let x = normal(&mut rng, &[3, input], 1.0, 0.0);
                let mut expected = Tensor::zeros((3, out), DType::F32, x.device()).unwrap();
                for (weight, adapter) in &weighted {
                    if let Some(pair) = adapter.pairs.get(&site) {
                        expected = (expected + update(&x, pair).affine(*weight, 0.0).unwrap()).unwrap();
                    }
                }
                match combined.pairs.get(&site) {
                    Some(pair) => {
                        let size = 1.0 + super::support::largest(&expected);
                        prop_assert!(distance(&update(&x, pair), &expected) < 1e-5 * size);
                    }
                    None => prop_assert!(adapters.iter().all(|adapter| !adapter.pairs.contains_key(&site))),
                }
            }
        }
    }

    #[test]
    fn no_damage_of_a_folder_panics(at in 0..4000usize, to: u8, file in 0..2usize) {
        let mut files = to_files(&small(), "base").unwrap();
        let len = files[file].1.len();
        files[file].1[at % len] = to;
        // Most damage is an error, some is another number.
        let _ = from_files(&llama(), &files);
    }
}
