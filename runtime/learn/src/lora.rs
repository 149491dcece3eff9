//! LoRA adapters in memory: which layers are adapted, their two matrices, and how they compose.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use selkie_edit::{Lora, Projection};

use crate::config::ModelConfig;
use crate::error::LearnError;

/// A linear layer of the decoder: its block and its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// Block, from 0.
    pub layer: usize,
    /// The layer in the block.
    pub projection: Projection,
}

/// The update of one linear layer: `y += scale * (x . A^T) . B^T`.
#[derive(Debug, Clone)]
pub struct LoraPair {
    /// `[rank, in]`.
    pub a: Tensor,
    /// `[out, rank]`.
    pub b: Tensor,
    /// `alpha / rank` (or `alpha / sqrt(rank)` for rank-stabilised LoRA).
    pub scale: f64,
}

/// A LoRA adapter: pairs by site, in a fixed order.
#[derive(Debug, Clone, Default)]
pub struct Adapter {
    pub(crate) pairs: BTreeMap<Site, LoraPair>,
}

impl Site {
    /// `(out, in)` of the layer's weight.
    pub(crate) fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        match self.projection {
            Projection::QProj => (query, config.hidden_size),
            Projection::KProj | Projection::VProj => (key, config.hidden_size),
            Projection::OProj => (config.hidden_size, query),
            Projection::GateProj | Projection::UpProj => (config.intermediate_size, config.hidden_size),
            Projection::DownProj => (config.hidden_size, config.intermediate_size),
        }
    }

    /// The module's name in checkpoints, such as `model.layers.0.self_attn.q_proj`.
    pub(crate) fn module(self) -> String {
        let name = self.projection.as_str();
        let part = match self.projection {
            Projection::QProj | Projection::KProj | Projection::VProj | Projection::OProj => "self_attn",
            Projection::GateProj | Projection::UpProj | Projection::DownProj => "mlp",
        };
        format!("model.layers.{}.{part}.{name}", self.layer)
    }
}

impl Adapter {
    /// A new adapter as PEFT starts one: A uniform in `+-1/sqrt(in)` (Kaiming with a = sqrt 5), B zero, so that
    /// it changes nothing. The seed decides A.
    pub fn init(config: &ModelConfig, lora: &Lora, seed: u64) -> Result<Adapter, LearnError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rank = lora.rank as usize;
        let mut pairs = BTreeMap::new();
        for layer in 0..config.layers {
            for &projection in &lora.targets {
                let site = Site { layer, projection };
                let (out, input) = site.shape(config);
                let bound = 1.0 / (input as f32).sqrt();
                let a: Vec<f32> = (0..rank * input).map(|_| rng.random_range(-bound..bound)).collect();
                let a = Tensor::from_vec(a, (rank, input), &Device::Cpu)?;
                let b = Tensor::zeros((out, rank), candle_core::DType::F32, &Device::Cpu)?;
                pairs.insert(site, LoraPair { a, b, scale: lora.alpha / f64::from(lora.rank) });
            }
        }
        Ok(Adapter { pairs })
    }

    /// The largest rank of a pair; 0 for an empty adapter.
    pub fn rank(&self) -> usize {
        self.pairs.values().filter_map(|pair| pair.a.dim(0).ok()).max().unwrap_or(0)
    }

    /// The adapted sites, in order.
    pub fn sites(&self) -> impl Iterator<Item = (Site, &LoraPair)> {
        self.pairs.iter().map(|(&site, pair)| (site, pair))
    }

    /// Trainable numbers.
    pub fn parameters(&self) -> usize {
        self.pairs.values().map(|pair| pair.a.elem_count() + pair.b.elem_count()).sum()
    }

    /// The adapter whose update is the sum of this one's and `later`'s, exactly: ranks are laid side by side,
    /// with each scale moved into B (so the result's scale is 1).
    pub fn stack(&self, later: &Adapter) -> Result<Adapter, LearnError> {
        let mut pairs = BTreeMap::new();
        for site in self.pairs.keys().chain(later.pairs.keys()) {
            let parts: Vec<&LoraPair> =
                [self, later].iter().filter_map(|adapter| adapter.pairs.get(site)).collect();
            let a = Tensor::cat(&parts.iter().map(|pair| &pair.a).collect::<Vec<_>>(), 0)?;
            let b = parts.iter().map(|pair| pair.b.affine(pair.scale, 0.0)).collect::<Result<Vec<_>, _>>()?;
            pairs.insert(*site, LoraPair { a, b: Tensor::cat(&b, 1)?, scale: 1.0 });
        }
        Ok(Adapter { pairs })
    }

    /// Whether every pair fits the model.
    ///
    /// # Errors
    /// [`LearnError::Adapter`] naming the layer.
    pub fn check(&self, config: &ModelConfig) -> Result<(), LearnError> {
        for (site, pair) in &self.pairs {
            if site.layer >= config.layers {
                let (module, blocks) = (site.module(), config.layers);
                return Err(LearnError::Adapter(format!(
                    "`{module}` is not in this model of {blocks} blocks"
                )));
            }
            let (out, input) = site.shape(config);
            let (a, b) = (pair.a.dims(), pair.b.dims());
            let fits = a.len() == 2 && b.len() == 2 && a[1] == input && b[0] == out;
            if !fits || a[0] != b[1] {
                return Err(LearnError::Adapter(format!(
                    "`{}` has A {a:?} and B {b:?} for a layer of {out}x{input}",
                    site.module()
                )));
            }
        }
        Ok(())
    }
}
