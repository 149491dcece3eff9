//! Adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use selkie_edit::Projection;
use serde_json::{Value, json};

use crate::config::ModelConfig;
use crate::error::LearnError;
use crate::lora::{Adapter, LoraPair, Site};
use crate::weights::to_f32;

/// The settings file of a PEFT folder.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The weights of a PEFT folder.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";

/// An adapter as the two files of a PEFT folder, by name. The bytes depend on the adapter and the name alone.
///
/// # Errors
/// Only the tensor library's.
pub fn to_files(adapter: &Adapter, base_model: &str) -> Result<Vec<(String, Vec<u8>)>, LearnError> {
    let config = serde_json::to_vec_pretty(&config_json(adapter, base_model))
        .map_err(|e| LearnError::Adapter(e.to_string()))?;
    let mut tensors = Vec::new();
    for (site, pair) in adapter.sites() {
        let name = format!("base_model.model.{}", site.module());
        tensors.push((format!("{name}.lora_A.weight"), pair.a.contiguous()?));
        tensors.push((format!("{name}.lora_B.weight"), pair.b.contiguous()?));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let weights = safetensors::serialize(tensors.iter().map(|(name, t)| (name, t)), Some(metadata))
        .map_err(|e| LearnError::Adapter(e.to_string()))?;
    Ok(vec![(CONFIG_FILE.to_owned(), config), (WEIGHTS_FILE.to_owned(), weights)])
}

fn config_json(adapter: &Adapter, base_model: &str) -> Value {
    let rank = adapter.rank();
    let scale = adapter.pairs.values().next().map_or(1.0, |pair| pair.scale);
    let mut targets: Vec<&str> = adapter.pairs.keys().map(|site| site.projection.as_str()).collect();
    targets.sort_unstable();
    targets.dedup();
    // Stacked adapters may have other ranks at some layers: PEFT reads those from the two patterns.
    let mut ranks = serde_json::Map::new();
    let mut alphas = serde_json::Map::new();
    for (site, pair) in adapter.sites() {
        let own = pair.b.dims().last().copied().unwrap_or(rank);
        if own != rank {
            ranks.insert(site.module(), json!(own));
        }
        if own != rank || pair.scale != scale {
            alphas.insert(site.module(), json!(pair.scale * own as f64));
        }
    }
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": scale * rank as f64,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "use_rslora": false,
        "use_dora": false,
        "bias": "none",
        "fan_in_fan_out": false,
        "modules_to_save": null,
        "inference_mode": true,
        "init_lora_weights": true,
    })
}

/// An adapter from the files of a PEFT folder, checked against the model.
///
/// # Errors
/// [`LearnError::Adapter`] or [`LearnError::Weights`], saying what is missing, unsupported or misshapen.
pub fn from_files(config: &ModelConfig, files: &[(String, Vec<u8>)]) -> Result<Adapter, LearnError> {
    let find = |name: &str| {
        let found = files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice());
        found.ok_or_else(|| LearnError::Adapter(format!("there is no `{name}`")))
    };
    let settings: Value = serde_json::from_slice(find(CONFIG_FILE)?)
        .map_err(|e| LearnError::Adapter(format!("`{CONFIG_FILE}` is not valid JSON: {e}")))?;
    refuse_unsupported(&settings)?;
    let damaged = |reason: String| LearnError::Weights { path: WEIGHTS_FILE.into(), reason };
    let tensors = SafeTensors::deserialize(find(WEIGHTS_FILE)?).map_err(|e| damaged(e.to_string()))?;
    let mut halves: BTreeMap<Site, (Option<Tensor>, Option<Tensor>)> = BTreeMap::new();
    for (name, view) in tensors.iter() {
        let (site, is_a) = parse_name(name).ok_or_else(|| {
            LearnError::Adapter(format!("tensor `{name}` is of no layer that can be adapted"))
        })?;
        let tensor = to_f32(&view, &Device::Cpu)
            .map_err(|reason| LearnError::Adapter(format!("tensor `{name}`: {reason}")))?;
        let half = halves.entry(site).or_default();
        *(if is_a { &mut half.0 } else { &mut half.1 }) = Some(tensor);
    }
    let mut pairs = BTreeMap::new();
    for (site, half) in halves {
        let (Some(a), Some(b)) = half else {
            return Err(LearnError::Adapter(format!("`{}` has only one of its two matrices", site.module())));
        };
        let scale = scale_of(&settings, site, a.dims().first().copied().unwrap_or(0))?;
        pairs.insert(site, LoraPair { a, b, scale });
    }
    let adapter = Adapter { pairs };
    adapter.check(config)?;
    Ok(adapter)
}

/// What PEFT can do and this engine does not, named.
fn refuse_unsupported(settings: &Value) -> Result<(), LearnError> {
    let refuse = |what: &str| Err(LearnError::Adapter(format!("{what} is not supported")));
    if settings["peft_type"].as_str() != Some("LORA") {
        return Err(LearnError::Adapter(format!(
            "`peft_type` is {}; only LORA is supported",
            settings["peft_type"]
        )));
    }
    for flag in ["use_dora", "fan_in_fan_out", "lora_bias"] {
        if settings[flag].as_bool() == Some(true) {
            return refuse(flag);
        }
    }
    if settings["bias"].as_str().is_some_and(|bias| bias != "none") {
        return refuse("a trained bias");
    }
    if settings["modules_to_save"].as_array().is_some_and(|modules| !modules.is_empty()) {
        return refuse("`modules_to_save`");
    }
    Ok(())
}

fn scale_of(settings: &Value, site: Site, rank: usize) -> Result<f64, LearnError> {
    let module = site.module();
    // PEFT matches a pattern against the end of the module's path.
    let pattern = settings["alpha_pattern"].as_object().and_then(|patterns| {
        let fits = |key: &str| module == key || module.ends_with(&format!(".{key}"));
        patterns.iter().find(|(key, _)| fits(key)).and_then(|(_, alpha)| alpha.as_f64())
    });
    let alpha = pattern
        .or_else(|| settings["lora_alpha"].as_f64())
        .filter(|alpha| alpha.is_finite())
        .ok_or_else(|| LearnError::Adapter("`lora_alpha` is missing or not a number".to_owned()))?;
    let rank = rank.max(1) as f64;
    Ok(alpha / if settings["use_rslora"].as_bool() == Some(true) { rank.sqrt() } else { rank })
}

/// `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`: the site, and whether it is A.
fn parse_name(name: &str) -> Option<(Site, bool)> {
    let name = name.strip_prefix("base_model.model.model.layers.")?;
    let (layer, rest) = name.split_once('.')?;
    let (module, half) = rest.rsplit_once(".lora_")?;
    let (_, projection) = module.rsplit_once('.')?;
    let projection = *Projection::ALL.iter().find(|candidate| candidate.as_str() == projection)?;
    let site = Site { layer: layer.parse().ok()?, projection };
    if !site.module().ends_with(&format!(".{layer}.{module}")) {
        return None;
    }
    let is_a = match half {
        "A.weight" => true,
        "B.weight" => false,
        _ => return None,
    };
    Some((site, is_a))
}
