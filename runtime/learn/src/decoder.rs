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

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::kv_cache::KvCache;
use selkie_edit::Projection;

use crate::config::{Family, ModelConfig};
use crate::error::LearnError;
use crate::lora::{Adapter, Site};
use crate::ops::{self, Dropout, Heads, Pattern, Update};
use crate::weights::Matrix;

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

/// Which gradients a backward pass makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those of the adapters' pairs.
    Adapter,
    /// Those of every weight.
    Weights,
}

/// Gradients by site, for each lane, or by weight name.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    pub(crate) lanes: Vec<BTreeMap<Site, (Tensor, Tensor)>>,
    pub(crate) weights: BTreeMap<String, Tensor>,
}

/// Keys and values of one sequence's tokens so far, one pair a block.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Vec<KvCache>,
    len: usize,
}

/// A sequence and the tokens by which it grows.
pub(crate) struct Extension<'a> {
    pub(crate) cache: &'a mut Cache,
    pub(crate) ids: &'a [u32],
    pub(crate) positions: &'a [u32],
}

impl Cache {
    /// Room for `capacity` tokens.
    pub(crate) fn new(config: &ModelConfig, capacity: usize) -> Cache {
        Cache { blocks: vec![KvCache::new(0, capacity); config.layers], len: 0 }
    }

    /// Tokens held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A copy with room of its own to grow. (A clone of the library's cache would share its buffers.)
    pub(crate) fn duplicate(&self, capacity: usize) -> Result<Cache> {
        let blocks = vec![KvCache::new(0, capacity); self.blocks.len()];
        let mut copy = Cache { blocks, len: self.len };
        for (from, to) in self.blocks.iter().zip(&mut copy.blocks) {
            if let (Some(k), Some(v)) = (from.k()?, from.v()?) {
                to.append(&k.contiguous()?, &v.contiguous()?)?;
            }
        }
        Ok(copy)
    }
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
    pub(crate) fn adopt(
        &self,
        adapter: Option<&Adapter>,
    ) -> std::result::Result<Option<Adapter>, LearnError> {
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
            let (inner, out) = self.block(layer, &x, &all, side, lanes, &mut |q, k, v| {
                Ok((ops::attention(&q, &k, &v, self.heads(), &side.pattern)?, k, v))
            })?;
            match keep {
                Keep::Nothing => {}
                Keep::Inputs => layers.push(LayerTape { x, inner: None }),
                Keep::All => layers.push(LayerTape { x, inner: Some(inner) }),
            }
            x = out;
        }
        Ok(Tape { all, asked, layers, last: x })
    }

    /// One pass by which sequences with caches grow; the lanes' rows are those of all extensions in order.
    /// Returns the residual stream of the last row of each, `[extensions, H]`.
    ///
    /// # Errors
    /// An extension without tokens or with another number of positions, and the tensor library's.
    pub(crate) fn extend(
        &self,
        extensions: &mut [Extension<'_>],
        lanes: &[Lane<'_>],
    ) -> std::result::Result<Tensor, LearnError> {
        ops::on_pool(|| self.extend_here(extensions, lanes))
    }

    fn extend_here(
        &self,
        extensions: &mut [Extension<'_>],
        lanes: &[Lane<'_>],
    ) -> std::result::Result<Tensor, LearnError> {
        let mut rows = Rows::default();
        let mut asked = Vec::with_capacity(extensions.len());
        for extension in &*extensions {
            if extension.ids.is_empty() {
                return Err(LearnError::Render("a sequence cannot grow by no token".to_owned()));
            }
            rows.push(extension.ids, extension.positions)?;
            asked.push(rows.ids.len() as u32 - 1);
        }
        let all = self.all(&rows, lanes)?;
        let asked = self.asked(&rows, &all, &asked)?;
        let mut x = self.embed(&rows.ids)?;
        for layer in 0..self.blocks.len() {
            let last = layer + 1 == self.blocks.len();
            let side = if last { &asked } else { &all };
            x = self
                .block(layer, &x, &all, side, lanes, &mut |q, k, v| {
                    Ok((self.attend_cached(layer, &q, &k, &v, extensions, last)?, k, v))
                })?
                .1;
        }
        for extension in extensions {
            extension.cache.len += extension.ids.len();
        }
        Ok(x)
    }

    /// Attention of each sequence over what it has cached, to which `k` and `v` are added first.
    fn attend_cached(
        &self,
        layer: usize,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        extensions: &mut [Extension<'_>],
        last_rows: bool,
    ) -> Result<Tensor> {
        let (mut parts, mut query, mut key) = (Vec::with_capacity(extensions.len()), 0, 0);
        for extension in extensions {
            let new = extension.ids.len();
            let queries = if last_rows { 1 } else { new };
            let cache = &mut extension.cache.blocks[layer];
            let (k, v) = cache.append(&k.narrow(0, key, new)?, &v.narrow(0, key, new)?)?;
            let mut pattern = Pattern::default();
            pattern.push(queries, k.dim(0)?);
            parts.push(ops::attention(&q.narrow(0, query, queries)?, &k, &v, self.heads(), &pattern)?);
            (query, key) = (query + queries, key + new);
        }
        match parts.len() {
            1 => Ok(parts.swap_remove(0)),
            _ => Tensor::cat(&parts, 0),
        }
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

    /// Cross-entropy of the rows that were asked for and its gradients: the log-probability of each row's target,
    /// and the gradients of the sum of `scales * cross-entropy`.
    pub(crate) fn backward(
        &self,
        rows: &Rows,
        tape: Tape,
        lanes: &[Lane<'_>],
        targets: &[u32],
        scales: &[f32],
        wanted: Wanted,
    ) -> Result<(Vec<f32>, Gradients)> {
        let mut gradients = Gradients { lanes: vec![BTreeMap::new(); lanes.len()], weights: BTreeMap::new() };
        let Tape { all, asked, mut layers, last } = tape;
        let (log_probs, mut d) = self.head_backward(&last, targets, scales, wanted, &mut gradients)?;
        let sites = lanes.iter().filter_map(|lane| lane.adapter?.pairs.keys().next());
        let lowest = match (wanted, sites.map(|site| site.layer).min()) {
            (Wanted::Weights, _) => 0,
            (Wanted::Adapter, Some(layer)) => layer,
            (Wanted::Adapter, None) => return Ok((log_probs, gradients)),
        };
        for layer in (lowest..self.blocks.len()).rev() {
            let wants_input = layer > lowest || wanted == Wanted::Weights;
            let side = if layer + 1 == self.blocks.len() { &asked } else { &all };
            // What a block kept is not needed after it.
            let Some(kept) = layers.pop() else { candle_core::bail!("BUG: a pass that kept no blocks") };
            let mut pass = BlockBackward {
                decoder: self,
                layer,
                all: &all,
                side,
                lanes,
                wanted,
                gradients: &mut gradients,
            };
            d = pass.run(&kept, &d, wants_input)?;
        }
        if wanted == Wanted::Weights {
            let ids = Tensor::new(rows.ids.as_slice(), d.device())?;
            let name = "model.embed_tokens.weight".to_owned();
            let start = match gradients.weights.remove(&name) {
                Some(from_head) => from_head,
                None => self.embedding.tensor(COMPUTE, &self.device)?.zeros_like()?,
            };
            gradients.weights.insert(name, start.index_add(&ids, &d, 0)?);
        }
        Ok((log_probs, gradients))
    }

    /// Through head and final norm, a few rows of logits at a time: log-probabilities, and the gradient of the
    /// residual stream, `[M, H]`.
    fn head_backward(
        &self,
        last: &Tensor,
        targets: &[u32],
        scales: &[f32],
        wanted: Wanted,
        gradients: &mut Gradients,
    ) -> Result<(Vec<f32>, Tensor)> {
        let (eps, head, chunk) = (self.config.rms_norm_eps, self.head_weight(), self.logit_rows());
        let (mut log_probs, mut parts) = (Vec::with_capacity(targets.len()), Vec::new());
        for (index, (targets, scales)) in targets.chunks(chunk).zip(scales.chunks(chunk)).enumerate() {
            let x = last.narrow(0, index * chunk, targets.len())?;
            let normed = ops::rms_norm(&x, &self.norm, eps)?;
            let logits = ops::linear(&normed, head, None, &[])?.0;
            let (scored, d_logits) = ops::cross_entropy(logits, targets, scales)?;
            log_probs.extend(scored);
            let d_normed = ops::linear_backward(&normed, &d_logits, head, &[], &[], true)?.x;
            let Some(d_normed) = d_normed else { candle_core::bail!("BUG: the head's input has a gradient") };
            parts.push(ops::rms_norm_backward(&x, &self.norm, &d_normed, eps)?);
            if wanted == Wanted::Weights {
                let name = if self.head.is_some() { "lm_head.weight" } else { "model.embed_tokens.weight" };
                gradients.add_weight(name, d_logits.t()?.matmul(&normed)?)?;
                let d_norm = ops::rms_norm_weight_gradient(&x, &d_normed, eps)?;
                gradients.add_weight("model.norm.weight", d_norm)?;
            }
        }
        Ok((log_probs, Tensor::cat(&parts, 0)?))
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

impl Gradients {
    fn add_weight(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        let sum = match self.weights.remove(name) {
            Some(earlier) => (earlier + gradient)?,
            None => gradient,
        };
        self.weights.insert(name.to_owned(), sum);
        Ok(())
    }

    /// Adds those of another pass of the same lanes.
    pub(crate) fn add(&mut self, other: Gradients) -> Result<()> {
        for (name, gradient) in other.weights {
            self.add_weight(&name, gradient)?;
        }
        for (own, other) in self.lanes.iter_mut().zip(other.lanes) {
            for (site, (a, b)) in other {
                let sum = match own.remove(&site) {
                    Some((own_a, own_b)) => (ops::add(&own_a, &a)?, ops::add(&own_b, &b)?),
                    None => (a, b),
                };
                own.insert(site, sum);
            }
        }
        Ok(())
    }
}

/// The backward pass of one block.
struct BlockBackward<'a> {
    decoder: &'a Decoder,
    layer: usize,
    all: &'a Side,
    side: &'a Side,
    lanes: &'a [Lane<'a>],
    wanted: Wanted,
    gradients: &'a mut Gradients,
}

impl BlockBackward<'_> {
    /// From the gradient of the block's output `[M, H]` to that of its input `[N, H]`; when nobody wants the latter
    /// it is not made, and what is returned has no meaning.
    fn run(&mut self, tape: &LayerTape, d_out: &Tensor, wants_input: bool) -> Result<Tensor> {
        use Projection::{DownProj, GateProj, OProj, UpProj};
        let (decoder, all, side) = (self.decoder, self.all, self.side);
        let block = &decoder.blocks[self.layer];
        let again;
        let inner = match &tape.inner {
            Some(inner) => inner,
            None => {
                again = decoder
                    .block(self.layer, &tape.x, all, side, self.lanes, &mut |q, k, v| {
                        Ok((ops::attention(&q, &k, &v, decoder.heads(), &side.pattern)?, k, v))
                    })?
                    .0;
                &again
            }
        };
        // Norms and products that need their rows alone are computed again and not kept.
        let activated = ops::swiglu(&inner.gate, &inner.up)?;
        let d_activated = self.linear(DownProj, inner, &activated, d_out, side)?;
        let (d_gate, d_up) = ops::swiglu_backward(&inner.gate, &inner.up, &d_activated)?;
        let normed = ops::rms_norm(&inner.middle, &block.post_attention_norm, decoder.config.rms_norm_eps)?;
        let d_from_gate = self.linear(GateProj, inner, &normed, &d_gate, side)?;
        let d_normed = ops::add(&d_from_gate, &self.linear(UpProj, inner, &normed, &d_up, side)?)?;
        let norm = &block.post_attention_norm;
        let d_norm = self.norm("post_attention_layernorm", &inner.middle, norm, &d_normed)?;
        let d_middle = ops::add(d_out, &d_norm)?;
        let d_attended = self.linear(OProj, inner, &inner.attended, &d_middle, side)?;
        let Some(d_normed) = self.attention(inner, &tape.x, &d_attended, wants_input)? else {
            return Ok(d_middle);
        };
        let d_norm = self.norm("input_layernorm", &tape.x, &block.input_norm, &d_normed)?;
        side.add_to(&d_norm, &d_middle)
    }

    /// From the gradient of what was attended `[M, heads * dim]` to that of the normed input `[N, H]`.
    fn attention(
        &mut self,
        inner: &Inner,
        x: &Tensor,
        d_attended: &Tensor,
        wants_input: bool,
    ) -> Result<Option<Tensor>> {
        use Projection::{KProj, QProj, VProj};
        let (decoder, all, side) = (self.decoder, self.all, self.side);
        let block = &decoder.blocks[self.layer];
        let kept = [&inner.q, &inner.k, &inner.v];
        let (heads, out) = (decoder.heads(), &inner.attended);
        let [d_q, d_k, d_v] = ops::attention_backward(kept, out, d_attended, heads, &side.pattern)?;
        let mut d_q = ops::rotate(&d_q, &side.rope, true)?;
        let mut d_k = ops::rotate(&d_k, &all.rope, true)?;
        if let (Some((q_norm, k_norm)), Some((q, k))) = (&block.head_norms, &inner.before_head_norm) {
            d_q = self.head_norm("q_norm", q, q_norm, &d_q)?;
            d_k = self.head_norm("k_norm", k, k_norm, &d_k)?;
        }
        let normed = ops::rms_norm(x, &block.input_norm, decoder.config.rms_norm_eps)?;
        let from_q = self.input_linear(QProj, inner, &side.select(&normed)?, &d_q, side, wants_input)?;
        let from_k = self.input_linear(KProj, inner, &normed, &d_k, all, wants_input)?;
        let from_v = self.input_linear(VProj, inner, &normed, &d_v, all, wants_input)?;
        match (from_q, from_k, from_v) {
            (Some(q), Some(k), Some(v)) => Ok(Some(side.add_to(&ops::add(&k, &v)?, &q)?)),
            _ => Ok(None),
        }
    }

    /// Gradient of a linear layer's input, given that input and the gradient of its output.
    fn linear(
        &mut self,
        projection: Projection,
        inner: &Inner,
        x: &Tensor,
        d_out: &Tensor,
        side: &Side,
    ) -> Result<Tensor> {
        match self.input_linear(projection, inner, x, d_out, side, true)? {
            Some(d_x) => Ok(d_x),
            None => candle_core::bail!("BUG: the gradient of an input was asked for"),
        }
    }

    fn input_linear(
        &mut self,
        projection: Projection,
        inner: &Inner,
        x: &Tensor,
        d_out: &Tensor,
        side: &Side,
        wants_input: bool,
    ) -> Result<Option<Tensor>> {
        let site = Site { layer: self.layer, projection };
        let linear = &self.decoder.blocks[self.layer].linears[projection as usize];
        if self.wanted == Wanted::Weights {
            let name = site.module();
            self.gradients.add_weight(&format!("{name}.weight"), d_out.t()?.matmul(x)?)?;
            if linear.bias.is_some() {
                self.gradients.add_weight(&format!("{name}.bias"), d_out.sum(0)?)?;
            }
        }
        let updates = side.updates(self.lanes, site);
        let none = Vec::new();
        let lows = inner.lows.get(&projection).unwrap_or(&none);
        let made = ops::linear_backward(x, d_out, &linear.weight, &updates, lows, wants_input)?;
        if self.wanted == Wanted::Adapter {
            for (lane, pair) in self.gradients.lanes.iter_mut().zip(made.pairs) {
                lane.extend(pair.map(|pair| (site, pair)));
            }
        }
        Ok(made.x)
    }

    fn norm(&mut self, name: &str, x: &Tensor, weight: &Tensor, d_out: &Tensor) -> Result<Tensor> {
        let eps = self.decoder.config.rms_norm_eps;
        if self.wanted == Wanted::Weights {
            let name = format!("model.layers.{}.{name}.weight", self.layer);
            self.gradients.add_weight(&name, ops::rms_norm_weight_gradient(x, d_out, eps)?)?;
        }
        ops::rms_norm_backward(x, weight, d_out, eps)
    }

    fn head_norm(&mut self, name: &str, x: &Tensor, weight: &Tensor, d_out: &Tensor) -> Result<Tensor> {
        let dim = self.decoder.config.head_dim;
        let (heads, d_heads) = (x.reshape(((), dim))?, d_out.reshape(((), dim))?);
        self.norm(&format!("self_attn.{name}"), &heads, weight, &d_heads)?.reshape(x.shape())
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
