//! Logits against those of the models that come with the tensor library: written by other people, and from the same
//! `config.json`.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, qwen2, qwen3};
use serde_json::{Value, json};

use super::loading::wire;
use super::support::{FAMILIES, VOCAB, config, decoder, distance, weights};
use crate::config::{Family, ModelConfig};
use crate::score::token_logits;

/// The last token's logits by the library.
fn theirs(config: &ModelConfig, wire: Value, vars: VarBuilder<'_>, ids: &Tensor) -> Tensor {
    match config.family {
        Family::Llama => {
            let settings: llama::LlamaConfig = serde_json::from_value(wire).unwrap();
            let settings = settings.into_config(false);
            let mut cache = llama::Cache::new(false, DType::F32, &settings, &Device::Cpu).unwrap();
            llama::Llama::load(vars, &settings).unwrap().forward(ids, 0, &mut cache).unwrap()
        }
        Family::Qwen2 => {
            let settings: qwen2::Config = serde_json::from_value(wire).unwrap();
            qwen2::ModelForCausalLM::new(&settings, vars).unwrap().forward(ids, 0).unwrap()
        }
        Family::Qwen3 => {
            let settings: qwen3::Config = serde_json::from_value(wire).unwrap();
            qwen3::ModelForCausalLM::new(&settings, vars).unwrap().forward(ids, 0).unwrap()
        }
    }
}

#[test]
fn logits_are_those_of_the_tensor_librarys_models() {
    for (family, tied) in FAMILIES {
        // Its Llama and Qwen2 know heads that add up to the hidden size only.
        let head_dim = if family == Family::Qwen3 { 10 } else { 6 };
        let config = ModelConfig { head_dim, ..config(family, tied) };
        let decoder = decoder(&config, 3);
        let mut wire = wire(&config);
        for (key, value) in [
            ("sliding_window", json!(null)),
            ("max_window_layers", json!(config.layers)),
            ("use_sliding_window", json!(false)),
        ] {
            wire[key] = value;
        }
        if family == Family::Qwen2 {
            wire["sliding_window"] = json!(config.max_positions);
        }
        let tensors: HashMap<String, Tensor> = weights(&decoder).into_iter().collect();
        let vars = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let ids: Vec<u32> = (0..11).map(|at| (at * 7 + 3) % VOCAB as u32).collect();
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let batch = Tensor::new(ids.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let expected = theirs(&config, wire, vars, &batch);
        let ours = token_logits(&decoder, None, &ids, &positions).unwrap().get(ids.len() - 1).unwrap();
        let error = distance(&ours, &expected.flatten_all().unwrap());
        assert!(error < 1e-4, "{family:?}, tied {tied}: the last logits are off by {error:e}");
    }
}
