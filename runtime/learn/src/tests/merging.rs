//! Adapters merged into the files of a model.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use selkie_edit::Projection;
use serde_json::json;
use tempfile::TempDir;

use super::loading::wire;
use super::support::{FAMILIES, adapter, as_f64, config, decoder, distance, largest, lora, weights};
use crate::base::ModelFiles;
use crate::config::{Family, ModelConfig};
use crate::error::LearnError;
use crate::lora::{Adapter, LoraPair, Site};
use crate::merge::{Merged, merge};
use crate::score::token_logits;

type Weights = BTreeMap<String, Tensor>;

const SHARDS: [&str; 3] = [
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
];

fn plain() -> ModelConfig {
    config(Family::Llama, false)
}

fn some_adapter(config: &ModelConfig) -> Adapter {
    adapter(config, &lora(3, &[Projection::QProj, Projection::OProj, Projection::DownProj]), 2)
}

fn write_weights(path: &Path, tensors: &Weights) {
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    std::fs::write(path, safetensors::serialize(tensors.iter(), Some(metadata)).unwrap()).unwrap();
}

/// A folder with a model in `base`, in so many weight files.
fn folder(config: &ModelConfig, tensors: &Weights, shards: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    std::fs::create_dir(&base).unwrap();
    std::fs::write(base.join("config.json"), wire(config).to_string()).unwrap();
    if shards == 1 {
        write_weights(&base.join("model.safetensors"), tensors);
        return dir;
    }
    let mut parts = vec![Weights::new(); shards];
    let mut index = serde_json::Map::new();
    for (at, (name, tensor)) in tensors.iter().enumerate() {
        parts[at % shards].insert(name.clone(), tensor.clone());
        index.insert(name.clone(), json!(SHARDS[at % shards]));
    }
    for (name, part) in SHARDS.iter().zip(&parts) {
        write_weights(&base.join(name), part);
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": index}).to_string();
    std::fs::write(base.join("model.safetensors.index.json"), index).unwrap();
    dir
}

fn merged(dir: &TempDir, adapter: &Adapter) -> Result<Merged, LearnError> {
    merge(&dir.path().join("base"), adapter, &dir.path().join("out"), &mut |_, _| ())
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

/// Names in the folder of a test.
fn listed(dir: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Every tensor of a model folder as it is stored.
fn stored(folder: &Path) -> BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for (name, bytes) in files(folder) {
        if name.ends_with(".safetensors") {
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
                let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
                assert!(found.insert(name.to_owned(), tensor).is_none(), "{name} twice");
            }
        }
    }
    found
}

#[test]
fn a_merged_folder_says_what_base_and_adapter_say() {
    for (family, tied) in FAMILIES {
        let config = config(family, tied);
        let base = decoder(&config, 8);
        let adapter = some_adapter(&config);
        let (ids, positions): (Vec<u32>, Vec<u32>) = ((1..20).collect(), (0..19).collect());
        let expected = token_logits(&base, Some(&adapter), &ids, &positions).unwrap();
        let dirs = [1, 3].map(|shards| folder(&config, &weights(&base), shards));
        for dir in &dirs {
            let done = merged(dir, &adapter).unwrap();
            assert_eq!(done.changed, 6);
            assert_eq!(done.files, files(&dir.path().join("base")).into_keys().collect::<Vec<_>>());
            assert_eq!(listed(dir), ["base", "out"]);
            let opened = ModelFiles::read(&dir.path().join("out")).unwrap().decoder().unwrap();
            let found = token_logits(&opened, None, &ids, &positions).unwrap();
            assert!(distance(&found, &expected) < 1e-4, "{family:?}");
            let before = token_logits(&base, None, &ids, &positions).unwrap();
            assert!(distance(&found, &before) > 0.1, "{family:?}");
        }
        let [one, three] = dirs.map(|dir| stored(&dir.path().join("out")));
        assert_eq!(one, three, "{family:?}");
    }
}

#[test]
fn element_types_stay_and_sums_are_rounded_once() {
    let config = plain();
    let adapter = some_adapter(&config);
    for (dtype, half_step) in
        [(DType::F32, 2f64.powi(-24)), (DType::BF16, 2f64.powi(-9)), (DType::F16, 2f64.powi(-12))]
    {
        let base: Weights = weights(&decoder(&config, 8))
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap()))
            .collect();
        let dir = folder(&config, &base, 3);
        let done = merged(&dir, &adapter).unwrap();
        let (before, after) = (files(&dir.path().join("base")), files(&dir.path().join("out")));
        assert_eq!(done.bytes, SHARDS.iter().map(|name| before[*name].len() as u64).sum::<u64>());
        for name in SHARDS {
            let header = |bytes: &[u8]| {
                bytes[..8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize].to_vec()
            };
            assert_eq!(header(&before[name]), header(&after[name]), "{name}");
        }
        for name in before.keys().filter(|name| !name.ends_with(".safetensors")) {
            assert_eq!(before[name], after[name], "{name}");
        }
        let (before, after) = (stored(&dir.path().join("base")), stored(&dir.path().join("out")));
        let pairs: BTreeMap<String, &LoraPair> =
            adapter.sites().map(|(site, pair)| (site.module() + ".weight", pair)).collect();
        for (name, (_, shape, bytes)) in &after {
            let Some(pair) = pairs.get(name) else {
                assert_eq!(before[name].2, *bytes, "{name}");
                continue;
            };
            let found = as_f64(&Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu).unwrap());
            let update = as_f64(&pair.b).matmul(&as_f64(&pair.a)).unwrap().affine(pair.scale, 0.0).unwrap();
            let exact = (as_f64(&base[name]) + update).unwrap();
            // Half a step of the type at the largest weight, and what f32 loses before.
            let bound = half_step * 2.0 * largest(&exact) + 1e-6;
            assert!(distance(&found, &exact) <= bound, "{name} in {dtype:?}");
        }
    }
}

#[test]
fn ties_go_to_the_even_number() {
    let config = plain();
    let site = Site { layer: 1, projection: Projection::VProj };
    let (out, input) = site.shape(&config);
    let name = site.module() + ".weight";
    let table = |dtype: DType, rows: &[(f32, f32, f32)]| {
        let mut base: Weights = weights(&decoder(&config, 8))
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap()))
            .collect();
        let column = |pick: fn(&(f32, f32, f32)) -> f32| {
            let mut values = vec![0.0f32; out * input];
            rows.iter().enumerate().for_each(|(row, case)| values[row * input] = pick(case));
            values
        };
        let weight = Tensor::from_vec(column(|case| case.0), (out, input), &Device::Cpu).unwrap();
        base.insert(name.clone(), weight.to_dtype(dtype).unwrap());
        // A picks the first input; B has the updates.
        let mut first = vec![0.0f32; input];
        first[0] = 1.0;
        let mut updates = vec![0.0f32; out];
        rows.iter().enumerate().for_each(|(row, case)| updates[row] = case.1 / 2.0);
        let pair = LoraPair {
            a: Tensor::from_vec(first, (1, input), &Device::Cpu).unwrap(),
            b: Tensor::from_vec(updates, (out, 1), &Device::Cpu).unwrap(),
            scale: 2.0,
        };
        let dir = folder(&config, &base, 1);
        merged(&dir, &Adapter { pairs: [(site, pair)].into() }).unwrap();
        let (_, shape, bytes) = stored(&dir.path().join("out")).remove(&name).unwrap();
        let found = Tensor::from_raw_buffer(&bytes, dtype, &shape, &Device::Cpu).unwrap();
        let found = found.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(found, column(|case| case.2), "{dtype:?}");
    };
    let step = |power: i32| 2f32.powi(power);
    // Steps at 1 are 2^-7 in bf16 and 2^-10 in f16: sum, then the nearest.
    for (dtype, ulp) in [(DType::BF16, -7), (DType::F16, -10)] {
        let (whole, half) = (step(ulp), step(ulp - 1));
        table(
            dtype,
            &[
                (1.0, half, 1.0),
                (1.0 + whole, half, 1.0 + 2.0 * whole),
                (1.0 + whole, -half, 1.0),
                (1.0, half + step(ulp - 8), 1.0 + whole),
                (1.0, half - step(ulp - 8), 1.0),
                (-1.0, -half, -1.0),
                (-1.0 - whole, -half, -1.0 - 2.0 * whole),
                (1.0, -1.0, 0.0),
            ],
        );
    }
}

#[test]
fn what_belongs_to_a_model_is_copied_and_nothing_else() {
    let config = plain();
    let dir = folder(&config, &weights(&decoder(&config, 8)), 1);
    let base = dir.path().join("base");
    let kept = [
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "chat_template.jinja",
        "selkie.json",
        "LICENSE",
        "USE_POLICY.md",
    ];
    let left = [
        "README.md",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "loss.jsonl",
        ".gitattributes",
        "model.gguf",
    ];
    for name in kept.iter().chain(&left) {
        std::fs::write(base.join(name), name).unwrap();
    }
    std::fs::create_dir(base.join("folder.json")).unwrap();
    // An empty folder is there already; the way to the next one is not.
    std::fs::create_dir(dir.path().join("out")).unwrap();
    let done = merged(&dir, &some_adapter(&config)).unwrap();
    let mut expected: Vec<&str> = kept.into_iter().chain(["config.json", "model.safetensors"]).collect();
    expected.sort_unstable();
    assert_eq!(done.files, expected);
    let found = files(&dir.path().join("out"));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected);
    for name in kept {
        assert_eq!(found[name], name.as_bytes());
    }
    let mut told = Vec::new();
    let deep = dir.path().join("a/b");
    merge(&base, &some_adapter(&config), &deep, &mut |done, total| told.push((done, total))).unwrap();
    assert_eq!(files(&deep), found);
    let size = std::fs::metadata(base.join("model.safetensors")).unwrap().len();
    assert!(told.is_sorted());
    assert_eq!(told.last(), Some(&(size, size)));
}

#[test]
fn what_cannot_be_merged_leaves_nothing() {
    let config = plain();
    let tensors = weights(&decoder(&config, 8));
    let refused = |tensors: &Weights, change: &dyn Fn(&Path), adapter: &Adapter| {
        let dir = folder(&config, tensors, 1);
        change(&dir.path().join("base"));
        let before = listed(&dir);
        let error = merged(&dir, adapter).expect_err("must be refused").to_string();
        assert_eq!(listed(&dir), before);
        error.replace(dir.path().to_str().unwrap(), "[TEMP]")
    };
    const Q: &str = "model.layers.0.self_attn.q_proj.weight";
    let adapter = some_adapter(&config);
    let with = |change: &dyn Fn(&mut Weights)| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        refused(&tensors, &|_| (), &adapter)
    };
    insta::assert_snapshot!(with(&|tensors| drop(tensors.remove(Q))), @"the model has no tensor `model.layers.0.self_attn.q_proj.weight`");
    insta::assert_snapshot!(with(&|tensors| {
        tensors.insert(Q.to_owned(), tensors[Q].t().unwrap().contiguous().unwrap());
    }), @"tensor `model.layers.0.self_attn.q_proj.weight` has shape [24, 40], expected [40, 24]");
    insta::assert_snapshot!(with(&|tensors| {
        tensors.insert(Q.to_owned(), tensors[Q].to_dtype(DType::U8).unwrap());
    }), @"the adapter cannot be used: it cannot be merged into `model.layers.0.self_attn.q_proj.weight` of element type U8; supported: F32, BF16, F16");
    insta::assert_snapshot!(with(&|tensors| {
        tensors.insert(Q.to_owned(), tensors[Q].affine(0.0, 65504.0).unwrap().to_dtype(DType::F16).unwrap());
        tensors.insert(Q.to_owned(), tensors[Q].affine(1.0, 65504.0).unwrap());
    }), @"the adapter cannot be used: merged into `model.layers.0.self_attn.q_proj.weight`, values become infinite or no numbers in f16");
    let in_files = |change: &dyn Fn(&Path)| refused(&tensors, change, &adapter);
    let cut = |base: &Path, len: usize| {
        let path = base.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..len.min(bytes.len() - 1)]).unwrap();
    };
    for len in [0, 7, 8, 300, usize::MAX] {
        let message = in_files(&|base| cut(base, len));
        assert!(
            message.starts_with("`[TEMP]/base/model.safetensors` is not a readable safetensors file: "),
            "{message}"
        );
    }
    insta::assert_snapshot!(in_files(&|base| std::fs::remove_file(base.join("model.safetensors")).unwrap()), @"cannot read `[TEMP]/base/model.safetensors`: No such file or directory (os error 2)");
    insta::assert_snapshot!(in_files(&|base| std::fs::remove_file(base.join("config.json")).unwrap()), @"cannot read `[TEMP]/base/config.json`: No such file or directory (os error 2)");
    insta::assert_snapshot!(in_files(&|base| {
        std::fs::create_dir(base.join("../out")).unwrap();
        std::fs::write(base.join("../out/notes.txt"), "mine").unwrap();
    }), @"cannot write `[TEMP]/out`: the folder is not empty; choose a new one, or empty it");
    insta::assert_snapshot!(in_files(&|base| std::fs::write(base.join("../out"), "mine").unwrap()), @"cannot write `[TEMP]/out`: Not a directory (os error 20)");
    insta::assert_snapshot!(in_files(&|base| std::fs::create_dir(base.join("../.out.partial")).unwrap()), @"cannot write `[TEMP]/.out.partial`: another merge is writing there, or one was stopped; if none is, remove the folder");
    let deeper = some_adapter(&ModelConfig { layers: 3, ..plain() });
    insta::assert_snapshot!(refused(&tensors, &|_| (), &deeper), @"the adapter cannot be used: `model.layers.2.self_attn.q_proj` is not in this model of 2 blocks");
}
