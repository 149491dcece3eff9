//! Adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use selkie_edit::Projection;
use serde_json::{Map, Value, json};

use crate::config::ModelConfig;
use crate::error::LearnError;
use crate::lora::{Adapter, LoraConfig, LoraPair, Rules, Site};
use crate::mapped::Mapped;
use crate::weights::to_f32;

/// The settings file of a PEFT folder.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The weights of a PEFT folder.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// The weights of a PEFT folder in the older form, which runs code when it is opened.
const PICKLE_FILE: &str = "adapter_model.bin";

/// Settings of PEFT that make something else than LoRA of linear layers, when they are set.
const UNSUPPORTED: [&str; 13] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
];

/// What [`write()`] does about files that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// They are replaced.
    Replace,
}

/// An adapter as the two files of a PEFT folder, by name. The bytes depend on the adapter and the name alone.
/// The settings are read off the adapter; its dropout and its patterns, if it was trained with any, are not
/// known: see [`to_files_with`].
///
/// # Errors
/// Only the tensor library's.
pub fn to_files(adapter: &Adapter, base_model: &str) -> Result<Vec<(String, Vec<u8>)>, LearnError> {
    files(adapter, base_model, &described(adapter))
}

/// The same with the settings that the adapter was made with: dropout, patterns as they were written, rsLoRA.
///
/// # Errors
/// [`LearnError::Adapter`] when a rank or scale of the adapter is not what PEFT would make of the settings, and
/// the tensor library's.
pub fn to_files_with(
    adapter: &Adapter,
    base_model: &str,
    config: &LoraConfig,
) -> Result<Vec<(String, Vec<u8>)>, LearnError> {
    config.check_numbers()?;
    let rules = Rules::new(config)?;
    for (site, pair) in adapter.sites() {
        let (found, expected) = ((rank_of(pair), pair.scale), rules.of(site));
        if found != expected {
            return refuse(format!(
                "`{}` has rank {} and scale {}; by the settings to be written they are {} and {}",
                site.module(),
                found.0,
                found.1,
                expected.0,
                expected.1
            ));
        }
    }
    files(adapter, base_model, config)
}

fn files(
    adapter: &Adapter,
    base_model: &str,
    config: &LoraConfig,
) -> Result<Vec<(String, Vec<u8>)>, LearnError> {
    let config = serde_json::to_vec_pretty(&config_json(adapter, base_model, config))
        .map_err(|e| LearnError::Adapter(e.to_string()))?;
    let mut tensors = Vec::new();
    for (site, pair) in adapter.sites() {
        let name = format!("base_model.model.{}", site.module());
        tensors.push((format!("{name}.lora_A.weight"), pair.a.to_device(&Device::Cpu)?.contiguous()?));
        tensors.push((format!("{name}.lora_B.weight"), pair.b.to_device(&Device::Cpu)?.contiguous()?));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let weights = safetensors::serialize(tensors.iter().map(|(name, t)| (name, t)), Some(metadata))
        .map_err(|e| LearnError::Adapter(e.to_string()))?;
    Ok(vec![(CONFIG_FILE.to_owned(), config), (WEIGHTS_FILE.to_owned(), weights)])
}

fn rank_of(pair: &LoraPair) -> u32 {
    pair.b.dims().last().map_or(0, |&rank| rank as u32)
}

/// Settings of which PEFT makes the same ranks and scales.
fn described(adapter: &Adapter) -> LoraConfig {
    let rank = adapter.rank() as u32;
    let scale = adapter.pairs.values().next().map_or(1.0, |pair| pair.scale);
    let mut config = LoraConfig {
        rank,
        alpha: scale * f64::from(rank),
        dropout: 0.0,
        targets: Vec::new(),
        rank_pattern: Vec::new(),
        alpha_pattern: Vec::new(),
        use_rslora: false,
    };
    // Stacked adapters may have other ranks at some layers: PEFT reads those from the two patterns.
    for (site, pair) in adapter.sites() {
        let own = rank_of(pair);
        if own != rank {
            config.rank_pattern.push((site.module(), own));
        }
        if own != rank || pair.scale != scale {
            config.alpha_pattern.push((site.module(), pair.scale * f64::from(own)));
        }
    }
    config
}

fn config_json(adapter: &Adapter, base_model: &str, config: &LoraConfig) -> Value {
    let ranks: Map<String, Value> =
        config.rank_pattern.iter().map(|(key, rank)| (key.clone(), json!(rank))).collect();
    let alphas: Map<String, Value> =
        config.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), json!(alpha))).collect();
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": target_modules(adapter),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "use_rslora": config.use_rslora,
        "use_dora": false,
        "bias": "none",
        "fan_in_fan_out": false,
        "modules_to_save": null,
        "inference_mode": true,
        "init_lora_weights": true,
    })
}

/// The adapted layers by name where every block from the first has the same ones, else by path.
fn target_modules(adapter: &Adapter) -> BTreeSet<String> {
    let projections: BTreeSet<Projection> = adapter.pairs.keys().map(|site| site.projection).collect();
    let blocks = adapter.pairs.keys().map(|site| site.layer + 1).max().unwrap_or(0);
    if adapter.pairs.len() == blocks * projections.len() {
        projections.iter().map(|projection| projection.as_str().to_owned()).collect()
    } else {
        adapter.pairs.keys().map(|site| site.module()).collect()
    }
}

/// Writes the files of an adapter to a folder, which is made if it is not there. Each file is whole or not there
/// (it is written under another name, synced and renamed); a process that dies between the two leaves one.
///
/// # Errors
/// [`LearnError::Write`] with the path, also for a file that exists and is not to be replaced.
pub fn write(dir: &Path, files: &[(String, Vec<u8>)], existing: Existing) -> Result<(), LearnError> {
    let error = |path: &Path, source| LearnError::Write { path: path.to_owned(), source };
    fs::create_dir_all(dir).map_err(|source| error(dir, source))?;
    let paths: Vec<(PathBuf, PathBuf, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (dir.join(format!(".{name}.partial")), dir.join(name), bytes.as_slice()))
        .collect();
    if existing == Existing::Refuse
        && let Some((_, path, _)) = paths.iter().find(|(_, path, _)| path.symlink_metadata().is_ok())
    {
        let reason = "it is there already; choose another folder";
        return Err(error(path, io::Error::new(io::ErrorKind::AlreadyExists, reason)));
    }
    let written = paths.iter().try_for_each(|(partial, _, bytes)| {
        let write = || {
            let mut file = File::create(partial)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|source| error(partial, source))
    });
    let renamed = written.and_then(|()| {
        paths.iter().try_for_each(|(partial, path, _)| {
            fs::rename(partial, path).map_err(|source| error(path, source))
        })
    });
    if renamed.is_err() {
        for (partial, ..) in &paths {
            // The first error is the one to tell.
            let _ = fs::remove_file(partial);
        }
    }
    renamed
}

/// An adapter from a PEFT folder, checked against the model. The weights are mapped while they are read.
///
/// # Errors
/// Those of [`from_files`], naming the folder or the file in it.
pub fn read(dir: &Path, config: &ModelConfig) -> Result<Adapter, LearnError> {
    let refuse = |reason: String| refuse(format!("`{}`: {reason}", dir.display()));
    if !dir.is_dir() {
        return refuse(format!(
            "there is no such folder; a PEFT folder has {CONFIG_FILE} and {WEIGHTS_FILE}"
        ));
    }
    for name in [CONFIG_FILE, WEIGHTS_FILE] {
        if !dir.join(name).is_file() {
            return match name == WEIGHTS_FILE && dir.join(PICKLE_FILE).is_file() {
                true => refuse(format!(
                    "`{PICKLE_FILE}` is not opened, since it may run code; save the adapter as `{WEIGHTS_FILE}` \
                     (in PEFT, `save_pretrained(.., safe_serialization=True)`)"
                )),
                false => refuse(format!("there is no `{name}`")),
            };
        }
    }
    let settings = dir.join(CONFIG_FILE);
    let settings =
        fs::read(&settings).map_err(|source| LearnError::Read { path: settings.clone(), source })?;
    let weights = Mapped::open(&dir.join(WEIGHTS_FILE))?;
    match parse(config, &settings, &weights) {
        Err(LearnError::Adapter(reason)) => refuse(reason),
        Err(LearnError::Weights { path, reason }) => {
            Err(LearnError::Weights { path: dir.join(path), reason })
        }
        other => other,
    }
}

/// The files of a PEFT folder as they are, for [`from_files`].
///
/// # Errors
/// [`LearnError::Read`] for the first that cannot be read.
pub fn files_of(dir: &Path) -> Result<Vec<(String, Vec<u8>)>, LearnError> {
    let read = |name: &str| {
        let path = dir.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok((name.to_owned(), bytes)),
            Err(source) => Err(LearnError::Read { path, source }),
        }
    };
    [CONFIG_FILE, WEIGHTS_FILE].into_iter().map(read).collect()
}

/// An adapter from the files of a PEFT folder, checked against the model. The tensors decide which layers are
/// adapted; `target_modules` and the like are not looked at.
///
/// # Errors
/// [`LearnError::Adapter`] or [`LearnError::Weights`], saying what is missing, unsupported or misshapen.
pub fn from_files(config: &ModelConfig, files: &[(String, Vec<u8>)]) -> Result<Adapter, LearnError> {
    let find = |name: &str| {
        let found = files.iter().find(|(file, _)| file == name).map(|(_, bytes)| bytes.as_slice());
        found.ok_or_else(|| LearnError::Adapter(format!("there is no `{name}`")))
    };
    parse(config, find(CONFIG_FILE)?, find(WEIGHTS_FILE)?)
}

fn parse(config: &ModelConfig, settings: &[u8], weights: &[u8]) -> Result<Adapter, LearnError> {
    let settings: Value = serde_json::from_slice(settings)
        .map_err(|e| LearnError::Adapter(format!("`{CONFIG_FILE}` is not valid JSON: {e}")))?;
    refuse_unsupported(&settings)?;
    let settings = settings_of(&settings)?;
    let rules = Rules::new(&settings)?;
    let mut pairs = BTreeMap::new();
    for (site, half) in halves(weights)? {
        let (Some(a), Some(b)) = half else {
            return refuse(format!("`{}` has only one of its two matrices", site.module()));
        };
        pairs.insert(site, LoraPair { a, b, scale: rules.of(site).1 });
    }
    let adapter = Adapter { pairs };
    if adapter.pairs.is_empty() {
        return refuse(format!("`{WEIGHTS_FILE}` has no tensors"));
    }
    adapter.check(config)?;
    for (site, pair) in adapter.sites() {
        let (found, expected) = (rank_of(pair), rules.of(site).0);
        if found != expected {
            let module = site.module();
            return refuse(format!(
                "`{module}` has rank {found} in `{WEIGHTS_FILE}` and {expected} by `{CONFIG_FILE}`"
            ));
        }
    }
    Ok(adapter)
}

/// A and B of every layer in the file.
type Halves = BTreeMap<Site, (Option<Tensor>, Option<Tensor>)>;

fn halves(weights: &[u8]) -> Result<Halves, LearnError> {
    let damaged = |reason: String| LearnError::Weights { path: WEIGHTS_FILE.into(), reason };
    let tensors = SafeTensors::deserialize(weights).map_err(|e| damaged(e.to_string()))?;
    let mut halves = Halves::new();
    for (name, view) in tensors.iter() {
        let Some((site, is_a)) = parse_name(name) else {
            return refuse(format!("tensor `{name}` is of no layer that can be adapted"));
        };
        let tensor = to_f32(&view, &Device::Cpu)
            .map_err(|reason| LearnError::Adapter(format!("tensor `{name}`: {reason}")))?;
        if !tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| value.is_finite()) {
            return refuse(format!("tensor `{name}` has values that are infinite or no numbers"));
        }
        let half = halves.entry(site).or_default();
        if (if is_a { &mut half.0 } else { &mut half.1 }).replace(tensor).is_some() {
            let half = if is_a { "A" } else { "B" };
            return refuse(format!("`{}` has two matrices {half}", site.module()));
        }
    }
    Ok(halves)
}

fn refuse<T>(reason: String) -> Result<T, LearnError> {
    Err(LearnError::Adapter(reason))
}

/// What PEFT can do and this engine does not, named.
fn refuse_unsupported(settings: &Value) -> Result<(), LearnError> {
    if settings["peft_type"].as_str() != Some("LORA") {
        return refuse(format!("`peft_type` is {}; only LORA is supported", settings["peft_type"]));
    }
    let is_set = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    if let Some(name) = UNSUPPORTED.iter().find(|name| is_set(&settings[**name])) {
        return refuse(format!("`{name}` is set; only plain LoRA of linear layers is supported"));
    }
    match &settings["bias"] {
        bias if is_set(bias) && bias != "none" => {
            refuse(format!("`bias` is {bias}; only \"none\" is supported"))
        }
        _ => Ok(()),
    }
}

/// The settings that ranks and scales follow from.
fn settings_of(settings: &Value) -> Result<LoraConfig, LearnError> {
    let bad = |name: String, what: &str| LearnError::Adapter(format!("{name} is missing or not {what}"));
    let rank = |value: &Value, name: String| {
        let rank = value.as_u64().and_then(|rank| u32::try_from(rank).ok());
        rank.ok_or_else(|| bad(name, "a whole number"))
    };
    let alpha = |value: &Value, name: String| value.as_f64().ok_or_else(|| bad(name, "a number"));
    let none = Map::new();
    let pattern = |name: &str| match &settings[name] {
        Value::Null => Ok(&none),
        value => value.as_object().ok_or_else(|| bad(format!("`{name}`"), "an object")),
    };
    let config = LoraConfig {
        rank: rank(&settings["r"], "`r`".to_owned())?,
        alpha: alpha(&settings["lora_alpha"], "`lora_alpha`".to_owned())?,
        dropout: 0.0,
        targets: Vec::new(),
        rank_pattern: pattern("rank_pattern")?
            .iter()
            .map(|(key, value)| Ok((key.clone(), rank(value, format!("`{key}` of `rank_pattern`"))?)))
            .collect::<Result<_, LearnError>>()?,
        alpha_pattern: pattern("alpha_pattern")?
            .iter()
            .map(|(key, value)| Ok((key.clone(), alpha(value, format!("`{key}` of `alpha_pattern`"))?)))
            .collect::<Result<_, LearnError>>()?,
        use_rslora: settings["use_rslora"].as_bool() == Some(true),
    };
    config.check_numbers()?;
    Ok(config)
}

/// `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`: the site, and whether it is A. A state dictionary
/// that was saved without PEFT's help has the adapter's name too: `lora_A.default.weight`.
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
        "A.weight" | "A.default.weight" => true,
        "B.weight" | "B.default.weight" => false,
        _ => return None,
    };
    Some((site, is_a))
}
