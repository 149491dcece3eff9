//! The same decoder written a second time, plainly, in f64, out of the tensor library's differentiable
//! operations: its own gradients are the oracle of the hand-written ones.

use std::collections::BTreeMap;

use candle_core::{D, Device, Tensor, Var};

use super::support::as_f64;
use crate::config::{Family, ModelConfig};
use crate::decoder::Decoder;
use crate::lora::{Adapter, Site};
use crate::sequence::Sequence;
use selkie_edit::Projection::{self, DownProj, GateProj, KProj, OProj, QProj, UpProj, VProj};

pub(super) struct Reference {
    config: ModelConfig,
    pub(super) weights: BTreeMap<String, Var>,
    /// A, B and scale.
    pub(super) pairs: BTreeMap<Site, (Var, Var, f64)>,
}

impl Reference {
    pub(super) fn new(decoder: &Decoder, adapter: Option<&Adapter>) -> Reference {
        let var = |tensor: &Tensor| Var::from_tensor(&as_f64(tensor)).unwrap();
        let weights = super::support::weights(decoder);
        Reference {
            config: decoder.config().clone(),
            weights: weights.iter().map(|(name, weight)| (name.clone(), var(weight))).collect(),
            pairs: adapter
                .into_iter()
                .flat_map(Adapter::sites)
                .map(|(site, pair)| (site, (var(&pair.a), var(&pair.b), pair.scale)))
                .collect(),
        }
    }

    /// Mean cross-entropy over the labelled tokens of a batch.
    pub(super) fn loss(&self, batch: &[&Sequence]) -> Tensor {
        let mut total = Tensor::new(0f64, &Device::Cpu).unwrap();
        let mut count = 0;
        for sequence in batch {
            let logits = self.logits(&sequence.ids, &sequence.positions);
            for at in (1..sequence.len()).filter(|&at| sequence.labelled[at]) {
                let row = logits.get(at - 1).unwrap();
                let log_total = row.exp().unwrap().sum_all().unwrap().log().unwrap();
                total = (total + (log_total - row.get(sequence.ids[at] as usize).unwrap()).unwrap()).unwrap();
                count += 1;
            }
        }
        total.affine(1.0 / f64::from(count), 0.0).unwrap()
    }

    /// Logits of every token of one sequence.
    pub(super) fn logits(&self, ids: &[u32], positions: &[u32]) -> Tensor {
        let ids = Tensor::new(ids, &Device::Cpu).unwrap();
        let mut x = self.weight("model.embed_tokens").index_select(&ids, 0).unwrap();
        for layer in 0..self.config.layers {
            x = self.block(layer, x, positions);
        }
        let head = if self.config.tied { "model.embed_tokens" } else { "lm_head" };
        norm(&x, self.weight("model.norm"), self.config.rms_norm_eps)
            .matmul(&self.weight(head).t().unwrap())
            .unwrap()
    }

    fn weight(&self, name: &str) -> &Tensor {
        &self.weights[&format!("{name}.weight")]
    }

    fn linear(&self, layer: usize, projection: Projection, x: &Tensor) -> Tensor {
        let site = Site { layer, projection };
        let module = site.module();
        let mut y = x.matmul(&self.weight(&module).t().unwrap()).unwrap();
        if let Some(bias) = self.weights.get(&format!("{module}.bias")) {
            y = y.broadcast_add(bias).unwrap();
        }
        if let Some((a, b, scale)) = self.pairs.get(&site) {
            let update = x.matmul(&a.t().unwrap()).unwrap().matmul(&b.t().unwrap()).unwrap();
            y = (y + update.affine(*scale, 0.0).unwrap()).unwrap();
        }
        y
    }

    fn block(&self, layer: usize, x: Tensor, positions: &[u32]) -> Tensor {
        let (config, prefix) = (&self.config, format!("model.layers.{layer}"));
        let eps = config.rms_norm_eps;
        let normed = norm(&x, self.weight(&format!("{prefix}.input_layernorm")), eps);
        let (q, k) = (self.linear(layer, QProj, &normed), self.linear(layer, KProj, &normed));
        let v = self.linear(layer, VProj, &normed);
        let head = |x: &Tensor, head: usize| x.narrow(1, head * config.head_dim, config.head_dim).unwrap();
        let placed = |x: &Tensor, at: usize, name: &str| {
            let mut x = head(x, at);
            if config.family == Family::Qwen3 {
                x = norm(&x, self.weight(&format!("{prefix}.self_attn.{name}")), eps);
            }
            rotate(&x, positions, config.rope.theta)
        };
        let mut heads = Vec::new();
        for query in 0..config.heads {
            let key = query / (config.heads / config.kv_heads);
            let (q, k) = (placed(&q, query, "q_norm"), placed(&k, key, "k_norm"));
            let scale = 1.0 / (config.head_dim as f64).sqrt();
            let scores = q.matmul(&k.t().unwrap()).unwrap().affine(scale, 0.0).unwrap();
            heads.push(causal_softmax(&scores).matmul(&head(&v, key)).unwrap());
        }
        let attended = Tensor::cat(&heads, 1).unwrap();
        let x = (x + self.linear(layer, OProj, &attended)).unwrap();
        let normed = norm(&x, self.weight(&format!("{prefix}.post_attention_layernorm")), eps);
        let gate = self.linear(layer, GateProj, &normed);
        let silu = (&gate / (gate.neg().unwrap().exp().unwrap() + 1.0).unwrap()).unwrap();
        let activated = (silu * self.linear(layer, UpProj, &normed)).unwrap();
        (x + self.linear(layer, DownProj, &activated)).unwrap()
    }
}

fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    let mean = x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
    let root = (mean + eps).unwrap().sqrt().unwrap();
    x.broadcast_div(&root).unwrap().broadcast_mul(weight).unwrap()
}

fn causal_softmax(scores: &Tensor) -> Tensor {
    let len = scores.dim(0).unwrap();
    let hidden = |at: usize| if at % len > at / len { -1e9 } else { 0.0 };
    let mask = Tensor::from_vec((0..len * len).map(hidden).collect(), (len, len), &Device::Cpu).unwrap();
    let terms = (scores + mask).unwrap().exp().unwrap();
    let total = terms.sum_keepdim(1).unwrap();
    terms.broadcast_div(&total).unwrap()
}

/// The two halves of a head are the two coordinates that turn.
fn rotate(x: &Tensor, positions: &[u32], theta: f64) -> Tensor {
    let dim = x.dim(1).unwrap();
    let angle =
        |position: u32, i: usize| f64::from(position) / theta.powf((2 * (i % (dim / 2))) as f64 / dim as f64);
    let table = |of: fn(f64) -> f64| {
        let values: Vec<f64> =
            positions.iter().flat_map(|&p| (0..dim).map(move |i| of(angle(p, i)))).collect();
        Tensor::from_vec(values, (positions.len(), dim), &Device::Cpu).unwrap()
    };
    let (low, high) = (x.narrow(1, 0, dim / 2).unwrap(), x.narrow(1, dim / 2, dim / 2).unwrap());
    let turned = Tensor::cat(&[&high.neg().unwrap(), &low], 1).unwrap();
    ((x * table(f64::cos)).unwrap() + (turned * table(f64::sin)).unwrap()).unwrap()
}
