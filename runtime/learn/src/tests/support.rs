//! Tiny random models and data.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use selkie_edit::{Lora, Projection};

use crate::config::{Family, ModelConfig, Rope, RopeScaling};
use crate::decoder::Decoder;
use crate::lora::Adapter;
use crate::sequence::Sequence;
use crate::weights::Matrix;

/// A vocabulary that no other size of a tiny model equals, so that a mixed-up shape shows.
pub(super) const VOCAB: usize = 29;

/// Every family, with and without a head of its own.
pub(super) const FAMILIES: [(Family, bool); 6] = [
    (Family::Llama, false),
    (Family::Llama, true),
    (Family::Qwen2, false),
    (Family::Qwen2, true),
    (Family::Qwen3, false),
    (Family::Qwen3, true),
];

/// Two blocks, two query heads to a key head, and heads that do not add up to the hidden size.
pub(super) fn config(family: Family, tied: bool) -> ModelConfig {
    ModelConfig {
        family,
        hidden_size: 24,
        intermediate_size: 40,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 10,
        vocab_size: VOCAB,
        max_positions: 512,
        rms_norm_eps: 1e-5,
        tied,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::Default },
        eos_ids: vec![0],
    }
}

pub(super) fn normal(rng: &mut ChaCha8Rng, shape: &[usize], std: f32, mean: f32) -> Tensor {
    let draw =
        |_| -> f32 { mean + std * <StandardNormal as Distribution<f32>>::sample(&StandardNormal, rng) };
    let values: Vec<f32> = (0..shape.iter().product()).map(draw).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub(super) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Random weights at which every part of the model matters: norms and biases away from 1 and 0, and logits
/// that differ by several nats.
pub(super) fn decoder(config: &ModelConfig, seed: u64) -> Decoder {
    let mut rng = rng(seed);
    Decoder::build(config.clone(), |name, shape| {
        let (std, mean) = match shape {
            [_] if name.ends_with("bias") => (0.5, 0.0),
            [_] => (0.3, 1.0),
            [_, input] if name.ends_with("_proj.weight") => (1.0 / (*input as f32).sqrt(), 0.0),
            _ => (0.6, 0.0),
        };
        Ok::<Matrix, candle_core::Error>(Matrix::Tensor(normal(&mut rng, shape, std, mean)))
    })
    .unwrap()
}

/// Every weight by name.
pub(super) fn weights(decoder: &Decoder) -> BTreeMap<String, Tensor> {
    decoder.clone().weights_mut().unwrap().into_iter().map(|(name, weight)| (name, weight.clone())).collect()
}

pub(super) fn lora(rank: u32, targets: &[Projection]) -> Lora {
    Lora { rank, alpha: 1.5 * f64::from(rank), targets: targets.to_vec() }
}

/// An adapter whose update is not nothing.
pub(super) fn adapter(config: &ModelConfig, lora: &Lora, seed: u64) -> Adapter {
    let mut adapter = Adapter::init(config, lora, seed).unwrap();
    let mut rng = rng(seed ^ 0xada);
    for pair in adapter.pairs.values_mut() {
        pair.b = normal(&mut rng, pair.b.dims(), 0.15, 0.0);
    }
    adapter
}

/// `len` random tokens at positions that count on from a random one, the last `labelled` with a loss.
pub(super) fn sequence(rng: &mut ChaCha8Rng, len: usize, labelled: usize) -> Sequence {
    let first = rng.random_range(0..20);
    Sequence {
        ids: (0..len).map(|_| rng.random_range(0..VOCAB as u32)).collect(),
        positions: (first..first + len as u32).collect(),
        labelled: (0..len).map(|at| at >= len - labelled).collect(),
    }
}

/// The largest difference of two elements.
pub(super) fn distance(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.dims(), theirs.dims());
    largest(&(as_f64(ours) - as_f64(theirs)).unwrap())
}

/// The largest absolute element.
pub(super) fn largest(tensor: &Tensor) -> f64 {
    as_f64(tensor).abs().unwrap().flatten_all().unwrap().max_all().unwrap().to_scalar().unwrap()
}

pub(super) fn as_f64(tensor: &Tensor) -> Tensor {
    tensor.to_dtype(candle_core::DType::F64).unwrap()
}

/// Every bit of a tensor.
pub(super) fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|value| value.to_bits()).collect()
}

/// Every bit of an adapter.
pub(super) fn adapter_bits(adapter: &Adapter) -> Vec<(String, u64, Vec<u32>, Vec<u32>)> {
    adapter
        .sites()
        .map(|(site, pair)| (site.module(), pair.scale.to_bits(), bits(&pair.a), bits(&pair.b)))
        .collect()
}
