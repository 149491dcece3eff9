//! The decoder: a fixed graph whose forward and backward passes are written out by hand.
//!
//! Why not the tensor library's own gradients: they compute and keep a gradient for every frozen weight, and
//! its fused norm, softmax and rotary operations silently cut the graph. Here the backward pass makes exactly
//! the gradients that are asked for (LoRA pairs, or every weight when pretraining) and stops at the lowest
//! adapted block.
//!
//! Sequences of one pass are packed: rows of all sequences follow each other, and attention alone knows where
//! one ends. No padding, no masks. Rows of several adapters ([`Lane`]) share a pass over the frozen weights. Of the
//! last block only those rows are computed whose result is asked for (the labelled ones, or the last of a prompt),
//! beside the keys and values of all. `N` is rows, `M` those asked for, `H` the hidden size, `V` the vocabulary.

mod backward;
mod cached;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use selkie_edit::Projection;

use crate::config::{Family, ModelConfig};
use crate::error::LearnError;
use crate::lora::{Adapter, Site};
use crate::ops::{self, Dropout, Heads, Pattern, Update};
use crate::weights::Matrix;

pub(crate) use backward::{Gradients, Wanted};
pub(crate) use cached::{Cache, Extension};

/// The element type of everything that is trained, and of everything that is computed on the CPU.
pub(crate) const COMPUTE: DType = DType::F32;

/// Logits that exist at one time, about: 16 MB of them.
const LOGITS: usize = 1 << 22;

/// Rows of logits that are made together at least.
const LOGIT_ROWS_MIN: usize = 64;

/// Weights of a decoder and the passes over them. Weights are frozen except in pretraining.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: ModelConfig,
    device: Device,
    /// What is computed in: f32 on the CPU, also where weights are stored in bf16.
    kind: DType,
    embedding: Matrix,
    blocks: Vec<Block>,
    norm: Tensor,
    /// `None` when the embedding is the head.
    head: Option<Matrix>,
    inverse_frequencies: Vec<f32>,
}

#[derive(Debug, Clone)]
struct Block {
    input_norm: Tensor,
    post_attention_norm: Tensor,
    /// Norms on each query and key head (Qwen3).
    head_norms: Option<(Tensor, Tensor)>,
    /// By [`Projection`], in the order of [`Projection::ALL`].
    linears: [Linear; 7],
}

#[derive(Debug, Clone)]
struct Linear {
    /// `[out, in]`.
    weight: Matrix,
    bias: Option<Tensor>,
}

/// Packed rows: what the decoder is run on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) ids: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) pattern: Pattern,
}

/// The next rows of a pass that go through one adapter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane<'a> {
    pub(crate) rows: usize,
    pub(crate) adapter: Option<&'a Adapter>,
    /// Set while training with dropout; the key is that of the step.
    pub(crate) dropout: Option<Dropout>,
}

/// How much of a pass is kept for its backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing: there will be none.
    Nothing,
    /// The input of each block, from which the rest is computed again: less memory, a second forward pass.
    Inputs,
    /// What cannot be had by a pass over rows alone.
    All,
}

/// What one pass kept.
pub(crate) struct Tape {
    all: Side,
    asked: Side,
    layers: Vec<LayerTape>,
    /// The residual stream of the rows that were asked for, before the final norm, `[M, H]`.
    pub(crate) last: Tensor,
}

/// Some rows of a pass and where they are: all of them, or those that are asked for.
struct Side {
    pattern: Pattern,
    /// Cosines then sines of every row.
    rope: Tensor,
    /// First row and rows of each lane.
    lanes: Vec<(usize, usize)>,
    /// The indices of these rows among all; `None` when they are all.
    among_all: Option<Tensor>,
    /// Whether these are the rows that are asked for, which are counted apart.
    is_asked: bool,
}

struct LayerTape {
    /// `[N, H]`.
    x: Tensor,
    inner: Option<Inner>,
}

/// Keys and values are of all rows, the rest of those that are asked for.
struct Inner {
    /// Queries and keys before the head norms (Qwen3 only).
    before_head_norm: Option<(Tensor, Tensor)>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attended: Tensor,
    middle: Tensor,
    gate: Tensor,
    up: Tensor,
    /// `x . A^T` of each adapted layer, by lane.
    lows: BTreeMap<Projection, Vec<Option<Tensor>>>,
}

impl Rows {
    /// Adds a sequence that sees only itself.
    ///
    /// # Errors
    /// [`LearnError::Render`] without one position a token.
    pub(crate) fn push(&mut self, ids: &[u32], positions: &[u32]) -> std::result::Result<(), LearnError> {
        let (tokens, places) = (ids.len(), positions.len());
        if tokens != places {
            let reason =
                format!("a sequence of {tokens} tokens has {places} positions; expected one a token");
            return Err(LearnError::Render(reason));
        }
        self.pattern.push(ids.len(), ids.len());
        self.ids.extend_from_slice(ids);
        self.positions.extend_from_slice(positions);
        Ok(())
    }

    /// All rows through one adapter or none.
    pub(crate) fn lane<'a>(&self, adapter: Option<&'a Adapter>) -> Lane<'a> {
        Lane { rows: self.ids.len(), adapter, dropout: None }
    }
}

impl Decoder {
    /// A decoder whose weights come from `take(name, shape)`, which is asked for every tensor by its
    /// checkpoint name.
    pub(crate) fn build<E: From<candle_core::Error>>(
        config: ModelConfig,
        mut take: impl FnMut(&str, &[usize]) -> std::result::Result<Matrix, E>,
    ) -> std::result::Result<Decoder, E> {
        let hidden = config.hidden_size;
        let embedding = take("model.embed_tokens.weight", &[config.vocab_size, hidden])?;
        let mut blocks = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            blocks.push(Block::build(&config, layer, &mut take)?);
        }
        let norm = vector(take("model.norm.weight", &[hidden])?)?;
        let head = match config.tied {
            true => None,
            false => Some(take("lm_head.weight", &[config.vocab_size, hidden])?),
        };
        let inverse_frequencies = config.rope.inverse_frequencies(config.head_dim);
        let (device, kind) = (Device::Cpu, COMPUTE);
        Ok(Decoder { config, device, kind, embedding, blocks, norm, head, inverse_frequencies })
    }

    /// Shapes and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where this decoder computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What this decoder computes in.
    pub fn kind(&self) -> DType {
        self.kind
    }

    /// This decoder on a device, with weights and activations of `kind` (f32, bf16 or f16); norms, biases, rotary
    /// tables and sums stay f32. Weights are copied one by one, so that nothing is there twice; f32 on the CPU
    /// shares what is there. bf16 is for GPUs: on the CPU the tensor library multiplies f32 and f16 only.
    ///
    /// # Errors
    /// [`LearnError::Device`] for another element type, and the tensor library's, such as too little memory there.
    pub fn to_device(&self, device: &Device, kind: DType) -> std::result::Result<Decoder, LearnError> {
        if !matches!(kind, DType::F32 | DType::BF16 | DType::F16) {
            return Err(LearnError::Device(format!("models compute in f32, bf16 or f16, not in {kind:?}")));
        }
        let blocks = self.blocks.iter().map(|block| block.to_device(device, kind)).collect::<Result<_>>()?;
        Ok(Decoder {
            config: self.config.clone(),
            device: device.clone(),
            kind,
            embedding: self.embedding.to_device(device, kind)?,
            blocks,
            norm: self.norm.to_device(device)?,
            head: self.head.as_ref().map(|head| head.to_device(device, kind)).transpose()?,
            inverse_frequencies: self.inverse_frequencies.clone(),
        })
    }

    /// An adapter that fits, on this decoder's device.
    pub fn adopt(&self, adapter: Option<&Adapter>) -> std::result::Result<Option<Adapter>, LearnError> {
        let Some(adapter) = adapter else { return Ok(None) };
        adapter.check(&self.config)?;
        adapter.to_device(&self.device).map(Some)
    }

    /// Every weight by its checkpoint name, in a fixed order, as tensors that can be changed.
    pub(crate) fn weights_mut(&mut self) -> Result<Vec<(String, &mut Tensor)>> {
        let mut all = vec![("model.embed_tokens.weight".to_owned(), self.embedding.thaw()?)];
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            all.extend(block.weights_mut(layer)?);
        }
        all.push(("model.norm.weight".to_owned(), &mut self.norm));
        if let Some(head) = &mut self.head {
            all.push(("lm_head.weight".to_owned(), head.thaw()?));
        }
        Ok(all)
    }

    /// This decoder with an adapter's update added to its weights; untouched weights are shared.
    ///
    /// # Errors
    /// When the adapter does not fit, and the tensor library's.
    pub fn merged(&self, adapter: &Adapter) -> std::result::Result<Decoder, LearnError> {
        adapter.check(&self.config)?;
        let adapter = adapter.to_device(&self.device)?;
        let mut merged = self.clone();
        for (site, pair) in adapter.sites() {
            let update = pair.b.matmul(&pair.a)?.affine(pair.scale, 0.0)?;
            let weight = &mut merged.blocks[site.layer].linears[site.projection as usize].weight;
            *weight = Matrix::Tensor((weight.tensor(COMPUTE, &self.device)? + update)?.to_dtype(self.kind)?);
        }
        Ok(merged)
    }

    /// One pass over packed rows, for the residual stream of the rows `asked`, which must rise.
    pub(crate) fn forward(&self, rows: &Rows, lanes: &[Lane<'_>], asked: &[u32], keep: Keep) -> Result<Tape> {
        debug_assert_eq!(rows.ids.len(), lanes.iter().map(|lane| lane.rows).sum::<usize>());
        let all = self.all(rows, lanes)?;
        let asked = self.asked(rows, &all, asked)?;
        let mut x = self.embed(&rows.ids)?;
        let mut layers = Vec::with_capacity(self.blocks.len());
        for layer in 0..self.blocks.len() {
            let side = if layer + 1 == self.blocks.len() { &asked } else { &all };
            let (inner, out) = self.own_block(layer, &x, &all, side, lanes)?;
            match keep {
                Keep::Nothing => {}
                Keep::Inputs => layers.push(LayerTape { x, inner: None }),
                Keep::All => layers.push(LayerTape { x, inner: Some(inner) }),
            }
            x = out;
        }
        Ok(Tape { all, asked, layers, last: x })
    }

    /// Logits `[M, V]` of rows of the residual stream `[M, H]`, in f32.
    pub(crate) fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let x = ops::rms_norm(x, &self.norm, self.config.rms_norm_eps)?;
        ops::linear(&x, self.head_weight(), None, &[])?.0.to_dtype(COMPUTE)
    }

    /// Rows of logits that are made together.
    pub(crate) fn logit_rows(&self) -> usize {
        (LOGITS / self.config.vocab_size).max(LOGIT_ROWS_MIN)
    }

    fn head_weight(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.embedding.rows(ids)
    }

    fn all(&self, rows: &Rows, lanes: &[Lane<'_>]) -> Result<Side> {
        let (pattern, rope) = (rows.pattern.clone(), self.rope_table(&rows.positions)?);
        let mut bounds = Vec::with_capacity(lanes.len());
        let mut start = 0;
        for lane in lanes {
            bounds.push((start, lane.rows));
            start += lane.rows;
        }
        Ok(Side { pattern, rope, lanes: bounds, among_all: None, is_asked: false })
    }

    fn asked(&self, rows: &Rows, all: &Side, asked: &[u32]) -> Result<Side> {
        debug_assert!(asked.is_sorted());
        let positions: Vec<u32> = asked.iter().map(|&row| rows.positions[row as usize]).collect();
        let before = |row: usize| asked.partition_point(|&asked| (asked as usize) < row);
        let bounds = |&(start, len): &(usize, usize)| (before(start), before(start + len) - before(start));
        Ok(Side {
            pattern: all.pattern.keep(asked),
            rope: self.rope_table(&positions)?,
            lanes: all.lanes.iter().map(bounds).collect(),
            among_all: match asked.len() == rows.ids.len() {
                true => None,
                false => Some(Tensor::new(asked, &self.device)?),
            },
            is_asked: true,
        })
    }

    /// Cosines then sines of every position, `[N, dim]`.
    fn rope_table(&self, positions: &[u32]) -> Result<Tensor> {
        let half = self.inverse_frequencies.len();
        let mut table = vec![0f32; positions.len() * half * 2];
        for (row, &position) in table.chunks_mut(half * 2).zip(positions) {
            let (cos, sin) = row.split_at_mut(half);
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(&self.inverse_frequencies) {
                let (s, c) = (position as f32 * frequency).sin_cos();
                (*cos, *sin) = (c, s);
            }
        }
        Tensor::from_vec(table, (positions.len(), half * 2), &self.device)
    }

    fn heads(&self) -> Heads {
        Heads { query: self.config.heads, key: self.config.kv_heads, dim: self.config.head_dim }
    }

    /// One block of a pass whose queries see the keys of the pass itself.
    fn own_block(
        &self,
        layer: usize,
        x: &Tensor,
        all: &Side,
        side: &Side,
        lanes: &[Lane<'_>],
    ) -> Result<(Inner, Tensor)> {
        self.block(layer, x, all, side, lanes, &mut |q, k, v| {
            Ok((ops::attention(&q, &k, &v, self.heads(), &side.pattern)?, k, v))
        })
    }

    /// One block for the rows of `side`, whose queries see keys of `all`. `attend` is given queries, keys and
    /// values, and gives back the result with the keys and values.
    fn block(
        &self,
        layer: usize,
        x: &Tensor,
        all: &Side,
        side: &Side,
        lanes: &[Lane<'_>],
        attend: &mut dyn FnMut(Tensor, Tensor, Tensor) -> Result<(Tensor, Tensor, Tensor)>,
    ) -> Result<(Inner, Tensor)> {
        let (block, eps) = (&self.blocks[layer], self.config.rms_norm_eps);
        let mut lows = BTreeMap::new();
        let mut linear = |projection: Projection, x: &Tensor, side: &Side| {
            let linear = &block.linears[projection as usize];
            let updates = side.updates(lanes, Site { layer, projection });
            let (y, low) = ops::linear(x, &linear.weight, linear.bias.as_ref(), &updates)?;
            lows.insert(projection, low);
            Ok::<Tensor, candle_core::Error>(y)
        };
        let normed = ops::rms_norm(x, &block.input_norm, eps)?;
        let mut q = linear(Projection::QProj, &side.select(&normed)?, side)?;
        let mut k = linear(Projection::KProj, &normed, all)?;
        let v = linear(Projection::VProj, &normed, all)?;
        let before_head_norm = block.head_norms.is_some().then(|| (q.clone(), k.clone()));
        if let Some((q_norm, k_norm)) = &block.head_norms {
            (q, k) = (self.head_norm(&q, q_norm)?, self.head_norm(&k, k_norm)?);
        }
        let (q, k) = (ops::rotate(&q, &side.rope, false)?, ops::rotate(&k, &all.rope, false)?);
        let (attended, k, v) = attend(q.clone(), k, v)?;
        let middle = ops::add(&side.select(x)?, &linear(Projection::OProj, &attended, side)?)?;
        let middle_normed = ops::rms_norm(&middle, &block.post_attention_norm, eps)?;
        let gate = linear(Projection::GateProj, &middle_normed, side)?;
        let up = linear(Projection::UpProj, &middle_normed, side)?;
        let activated = ops::swiglu(&gate, &up)?;
        let out = ops::add(&middle, &linear(Projection::DownProj, &activated, side)?)?;
        Ok((Inner { before_head_norm, q, k, v, attended, middle, gate, up, lows }, out))
    }

    /// Norm of each head of `[N, heads * dim]`.
    fn head_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let heads = x.reshape(((), self.config.head_dim))?;
        ops::rms_norm(&heads, weight, self.config.rms_norm_eps)?.reshape(x.shape())
    }
}

impl Side {
    /// These rows of `[N, ..]`.
    fn select(&self, x: &Tensor) -> Result<Tensor> {
        match &self.among_all {
            None => Ok(x.clone()),
            Some(rows) => x.index_select(rows, 0),
        }
    }

    /// `onto [N, ..]` with rows of these added in their places.
    fn add_to(&self, onto: &Tensor, rows: &Tensor) -> Result<Tensor> {
        match &self.among_all {
            None => ops::add(onto, rows),
            Some(index) => onto.index_add(index, rows, 0),
        }
    }

    /// What every lane does to a layer.
    fn updates<'a>(&self, lanes: &[Lane<'a>], site: Site) -> Vec<Update<'a>> {
        let update = |(lane, &(start, len)): (&Lane<'a>, &(usize, usize))| {
            let pair = lane.adapter.and_then(|adapter| adapter.pairs.get(&site)).filter(|_| len > 0);
            let key = |dropout: Dropout| {
                let key = selkie_edit::derive_seed(dropout.key, &site.module());
                let first = if self.is_asked { dropout.first_asked } else { dropout.first };
                Dropout { key, first, ..dropout }
            };
            Update { start, len, pair, dropout: lane.dropout.map(key) }
        };
        lanes.iter().zip(&self.lanes).map(update).collect()
    }
}

/// A norm's weight or a bias.
fn vector<E: From<candle_core::Error>>(matrix: Matrix) -> std::result::Result<Tensor, E> {
    matrix.tensor(COMPUTE, &Device::Cpu).map_err(E::from)
}

impl Block {
    fn build<E: From<candle_core::Error>>(
        config: &ModelConfig,
        layer: usize,
        take: &mut impl FnMut(&str, &[usize]) -> std::result::Result<Matrix, E>,
    ) -> std::result::Result<Block, E> {
        let prefix = format!("model.layers.{layer}");
        let mut linears = Vec::with_capacity(7);
        for projection in Projection::ALL {
            let site = Site { layer, projection };
            let (out, input) = site.shape(config);
            let name = site.module();
            let weight = take(&format!("{name}.weight"), &[out, input])?;
            let biased = config.family == Family::Qwen2
                && matches!(projection, Projection::QProj | Projection::KProj | Projection::VProj);
            let bias = if biased { Some(vector(take(&format!("{name}.bias"), &[out])?)?) } else { None };
            linears.push(Linear { weight, bias });
        }
        let mut norm = |name: &str, width: usize| -> std::result::Result<Tensor, E> {
            vector(take(&format!("{prefix}.{name}.weight"), &[width])?)
        };
        let head_norms = match config.family {
            Family::Qwen3 => {
                Some((norm("self_attn.q_norm", config.head_dim)?, norm("self_attn.k_norm", config.head_dim)?))
            }
            Family::Llama | Family::Qwen2 => None,
        };
        Ok(Block {
            input_norm: norm("input_layernorm", config.hidden_size)?,
            post_attention_norm: norm("post_attention_layernorm", config.hidden_size)?,
            head_norms,
            linears: linears.try_into().expect("seven projections"),
        })
    }

    fn to_device(&self, device: &Device, kind: DType) -> Result<Block> {
        let mut moved = self.clone();
        for norm in [&mut moved.input_norm, &mut moved.post_attention_norm] {
            *norm = norm.to_device(device)?;
        }
        if let Some((q_norm, k_norm)) = &mut moved.head_norms {
            (*q_norm, *k_norm) = (q_norm.to_device(device)?, k_norm.to_device(device)?);
        }
        for linear in &mut moved.linears {
            linear.weight = linear.weight.to_device(device, kind)?;
            linear.bias = linear.bias.as_ref().map(|bias| bias.to_device(device)).transpose()?;
        }
        Ok(moved)
    }

    fn weights_mut(&mut self, layer: usize) -> Result<Vec<(String, &mut Tensor)>> {
        let prefix = format!("model.layers.{layer}");
        let mut all = vec![
            (format!("{prefix}.input_layernorm.weight"), &mut self.input_norm),
            (format!("{prefix}.post_attention_layernorm.weight"), &mut self.post_attention_norm),
        ];
        if let Some((q_norm, k_norm)) = &mut self.head_norms {
            all.push((format!("{prefix}.self_attn.q_norm.weight"), q_norm));
            all.push((format!("{prefix}.self_attn.k_norm.weight"), k_norm));
        }
        for (projection, linear) in Projection::ALL.into_iter().zip(&mut self.linears) {
            let name = Site { layer, projection }.module();
            all.push((format!("{name}.weight"), linear.weight.thaw()?));
            all.extend(linear.bias.as_mut().map(|bias| (format!("{name}.bias"), bias)));
        }
        Ok(all)
    }
}
