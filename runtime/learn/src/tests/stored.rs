//! Weights that stay where they are stored: the same bits as the same weights widened first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use selkie_edit::Projection;
use serde_json::json;
use tempfile::TempDir;

use super::loading::wire;
use super::support::{FAMILIES, adapter, adapter_bits, bits, config, decoder, lora, rng, sequence, weights};
use crate::base::ModelFiles;
use crate::config::{Family, ModelConfig};
use crate::decoder::Decoder;
use crate::lora::Adapter;
use crate::mapped::Mapped;
use crate::ops::{Elements, Frozen};
use crate::optim::ADAPTER_ADAMW;
use crate::score::token_logits;
use crate::sequence::Sequence;
use crate::train::Trainer;
use crate::weights::{Bytes, Matrix, Shard};

const KINDS: [(DType, &str); 3] = [(DType::F32, "F32"), (DType::BF16, "BF16"), (DType::F16, "F16")];

fn bytes(tensor: &Tensor, kind: DType) -> Vec<u8> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let one = |value: f32| match kind {
        DType::F32 => value.to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
        _ => half::f16::from_f32(value).to_le_bytes().to_vec(),
    };
    values.into_iter().flat_map(one).collect()
}

/// A safetensors file by hand, whose data begins `shift` bytes after a multiple of 8, with a tensor that no model
/// asks for and of a type that the engine does not know.
fn safetensors(tensors: &BTreeMap<String, Tensor>, kind: (DType, &str), shift: usize) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let start = data.len();
        data.extend(bytes(tensor, kind.0));
        let entry = json!({"dtype": kind.1, "shape": tensor.dims(), "data_offsets": [start, data.len()]});
        header.insert(name.clone(), entry);
    }
    let start = data.len();
    data.extend([0u8; 16]);
    header.insert(
        "position_ids".to_owned(),
        json!({"dtype": "I64", "shape": [2], "data_offsets": [start, data.len()]}),
    );
    let mut header = serde_json::Value::Object(header).to_string();
    while (header.len() + 8) % 8 != shift {
        header.push(' ');
    }
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// The weights of a decoder as they are after they were stored.
fn widened(of: &Decoder, kind: DType) -> BTreeMap<String, Tensor> {
    let narrow = |tensor: Tensor| tensor.to_dtype(kind).unwrap().to_dtype(DType::F32).unwrap();
    weights(of).into_iter().map(|(name, tensor)| (name, narrow(tensor))).collect()
}

fn folder(config: &ModelConfig, files: &[(&str, Vec<u8>)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), wire(config).to_string()).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// Logits, a training step and a merge: everything that reads weights.
fn check_same(what: &str, found: &Decoder, expected: &Decoder) {
    let config = expected.config().clone();
    let adapter = adapter(&config, &lora(3, &Projection::ALL), 4);
    // Few rows and many go different ways.
    for len in [1, 5, 30] {
        let Sequence { ids, positions, .. } = sequence(&mut rng(len as u64), len, 0);
        let logits = |decoder: &Decoder, adapter: Option<&Adapter>| {
            bits(&token_logits(decoder, adapter, &ids, &positions).unwrap())
        };
        assert!(logits(found, None) == logits(expected, None), "{what}, {len} rows");
        assert!(
            logits(found, Some(&adapter)) == logits(expected, Some(&adapter)),
            "{what}, {len} rows, adapted"
        );
        let merged = |decoder: &Decoder| logits(&decoder.merged(&adapter).unwrap(), None);
        assert!(merged(found) == merged(expected), "{what}, {len} rows, merged");
    }
    let set = [4, 25].map(|len| sequence(&mut rng(len as u64), len, 3));
    let trained = |decoder: &Decoder| {
        let mut trainer = Trainer::new(decoder, adapter.clone(), ADAPTER_ADAMW).unwrap();
        trainer.step(&set.iter().collect::<Vec<_>>(), 1e-2).unwrap();
        adapter_bits(trainer.adapter())
    };
    assert!(trained(found) == trained(expected), "{what}, trained");
}

#[test]
fn stored_weights_compute_as_the_same_weights_widened() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let original = decoder(&config, index as u64);
        for kind in KINDS {
            let widened = widened(&original, kind.0);
            let expected = Decoder::build(config.clone(), |name, shape| {
                assert_eq!(widened[name].dims(), shape);
                Ok::<Matrix, candle_core::Error>(Matrix::Tensor(widened[name].clone()))
            });
            let expected = expected.unwrap();
            let all = weights(&original);
            let mut lower = all.clone();
            let upper = lower.split_off("model.layers.1");
            let map = lower.keys().map(|name| (name, "a.safetensors"));
            let map: BTreeMap<_, _> = map.chain(upper.keys().map(|name| (name, "b.safetensors"))).collect();
            let index = json!({"weight_map": map}).to_string().into_bytes();
            let folders = [
                ("one file", folder(&config, &[("model.safetensors", safetensors(&all, kind, 0))])),
                ("off by one", folder(&config, &[("model.safetensors", safetensors(&all, kind, 1))])),
                ("off by two", folder(&config, &[("model.safetensors", safetensors(&all, kind, 2))])),
                (
                    "shards",
                    folder(
                        &config,
                        &[
                            ("a.safetensors", safetensors(&lower, kind, 0)),
                            ("b.safetensors", safetensors(&upper, kind, 6)),
                            ("model.safetensors.index.json", index),
                        ],
                    ),
                ),
            ];
            for (form, dir) in folders {
                let found = ModelFiles::read(dir.path()).unwrap().decoder().unwrap();
                check_same(&format!("{family:?}, tied {tied}, {}, {form}", kind.1), &found, &expected);
            }
        }
    }
}

/// A mapped file, where it lies in memory, and its tensors.
fn mapped(file: &[u8]) -> (TempDir, Range<usize>, Shard) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights");
    std::fs::write(&path, file).unwrap();
    let bytes = Bytes::Mapped(Arc::new(Mapped::open(&path).unwrap()));
    let start = bytes.as_ptr() as usize;
    let shard = Shard::open(bytes, Path::new("weights")).unwrap_or_else(|e| panic!("{e}"));
    (dir, start..start + file.len(), shard)
}

/// Where the kernels read a matrix.
fn address(matrix: &Matrix) -> usize {
    let of = |frozen: Frozen<'_>| match frozen.elements {
        Elements::F32(all) => all.as_ptr() as usize,
        Elements::Bf16(all) | Elements::F16(all) => all.as_ptr() as usize,
    };
    matrix.with(of).unwrap()
}

#[test]
fn matrices_stay_in_the_file_and_vectors_are_widened() {
    let config = config(Family::Qwen2, false);
    let all = weights(&decoder(&config, 1));
    for kind in KINDS {
        for shift in [0, 1, 2, 4] {
            let (_dir, place, shard) = mapped(&safetensors(&all, kind, shift));
            for (name, tensor) in &all {
                let matrix = shard.matrix(name, tensor.dims()).unwrap().unwrap();
                let stays = tensor.dims().len() == 2 && shift % kind.0.size_in_bytes() == 0;
                assert_eq!(matches!(matrix, Matrix::Stored(_)), stays, "{name}, {}, shift {shift}", kind.1);
                if tensor.dims().len() == 2 {
                    assert_eq!(place.contains(&address(&matrix)), stays, "{name}: nothing is copied");
                }
                let expected = tensor.to_dtype(kind.0).unwrap().to_dtype(DType::F32).unwrap();
                let copy = matrix.tensor(DType::F32, &Device::Cpu).unwrap();
                assert_eq!(copy.dtype(), DType::F32);
                assert_eq!(bits(&copy), bits(&expected), "{name}, {}, shift {shift}", kind.1);
            }
            assert!(shard.matrix("model.layers.9.mlp.up_proj.weight", &[1, 1]).unwrap().is_none());
            // A type that the engine does not know matters to who asks for the tensor alone.
            let refusal = shard.matrix("position_ids", &[2]).unwrap_err().to_string();
            assert_eq!(
                refusal,
                "`weights` is not a readable safetensors file: tensor `position_ids`: element type I64; \
                 supported: F32, BF16, F16"
            );
        }
    }
}

#[test]
fn rows_of_a_stored_embedding_are_widened_in_the_order_asked_for() {
    let config = config(Family::Llama, true);
    let all = weights(&decoder(&config, 1));
    let name = "model.embed_tokens.weight";
    for kind in KINDS {
        let (_dir, _, shard) = mapped(&safetensors(&all, kind, 0));
        let mut matrix = shard.matrix(name, all[name].dims()).unwrap().unwrap();
        let widened = matrix.tensor(DType::F32, &Device::Cpu).unwrap();
        for ids in [&[0u32][..], &[28, 0, 28, 5], &[]] {
            let found = matrix.rows(ids).unwrap();
            assert_eq!(found.dims(), [ids.len(), 24]);
            let expected: Vec<u32> =
                ids.iter().flat_map(|&id| bits(&widened.narrow(0, id as usize, 1).unwrap())).collect();
            assert_eq!(bits(&found), expected);
            assert_eq!(bits(&Matrix::Tensor(widened.clone()).rows(ids).unwrap()), expected);
        }
        assert_eq!(bits(matrix.thaw().unwrap()), bits(&widened));
        assert!(matches!(matrix, Matrix::Tensor(_)));
    }
}

#[test]
fn a_model_of_the_program_itself_is_read_in_place_or_copied() {
    let config = config(Family::Llama, true);
    let original = decoder(&config, 6);
    let wire: &'static [u8] = wire(&config).to_string().into_bytes().leak();
    for shift in 0..4 {
        let file: &'static [u8] = safetensors(&weights(&original), KINDS[0], shift).leak();
        let files =
            ModelFiles::from_static("memory", &[("config.json", wire), ("model.safetensors", file)], &[]);
        check_same(&format!("shift {shift}"), &files.decoder().unwrap(), &original);
    }
}
