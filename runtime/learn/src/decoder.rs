//! The decoder: a fixed graph whose forward and backward passes are written out by hand.
//!
//! Why not the tensor library's own gradients: they compute and keep a gradient for every frozen weight, and
//! its fused norm, softmax and rotary operations silently cut the graph. Here the backward pass makes exactly
//! the gradients that are asked for (LoRA pairs, or every weight when pretraining) and stops below the lowest
//! adapted block.
//!
//! Sequences of one pass are packed: rows of all sequences follow each other, and attention alone knows where
//! one ends. No padding, no masks. `N` is rows, `H` the hidden size, `V` the vocabulary.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::kv_cache::KvCache;
use selkie_edit::Projection;

use crate::config::ModelConfig;
use crate::error::LearnError;
use crate::lora::{Adapter, LoraPair, Site};
use crate::ops::{self, Heads, Rope, Segment};

/// Weights of a decoder and the passes over them. Weights are frozen except in pretraining.
#[derive(Debug, Clone)]
pub struct Decoder {
    config: ModelConfig,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    /// `None` when the embedding is the head.
    head: Option<Tensor>,
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
    weight: Tensor,
    bias: Option<Tensor>,
}

/// Packed rows: what the decoder is run on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows {
    pub(crate) ids: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) segments: Vec<Segment>,
}

/// What one pass kept for its backward pass.
pub(crate) struct Tape {
    rope_table: Tensor,
    layers: Vec<LayerTape>,
    /// The residual stream before the final norm, `[N, H]`.
    last: Tensor,
}

struct LayerTape {
    x: Tensor,
    normed: Tensor,
    /// Queries and keys after the head norms' input (Qwen3 only).
    before_head_norm: Option<(Tensor, Tensor)>,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attended: Tensor,
    middle: Tensor,
    middle_normed: Tensor,
    gate: Tensor,
    up: Tensor,
    activated: Tensor,
    /// `x . A^T` of each adapted layer.
    low: BTreeMap<Projection, Tensor>,
}

/// Which gradients a backward pass makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Those of the adapter's pairs.
    Adapter,
    /// Those of every weight.
    Weights,
}

/// Gradients by site or by weight name.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    pub(crate) pairs: BTreeMap<Site, (Tensor, Tensor)>,
    pub(crate) weights: BTreeMap<String, Tensor>,
}

/// Keys and values of the tokens so far, one pair a block.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    blocks: Vec<KvCache>,
    len: usize,
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
}

impl Rows {
    /// Adds a sequence that sees only itself.
    pub(crate) fn push(&mut self, ids: &[u32], positions: &[u32]) {
        debug_assert_eq!(ids.len(), positions.len());
        self.segments.push(Segment::own(self.ids.len(), ids.len()));
        self.ids.extend_from_slice(ids);
        self.positions.extend_from_slice(positions);
    }
}

impl Decoder {
    /// A decoder whose weights come from `take(name, shape)`, which is asked for every tensor by its
    /// checkpoint name.
    pub(crate) fn build<E>(
        config: ModelConfig,
        mut take: impl FnMut(&str, &[usize]) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Decoder, E> {
        let hidden = config.hidden_size;
        let embedding = take("model.embed_tokens.weight", &[config.vocab_size, hidden])?;
        let mut blocks = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            blocks.push(Block::build(&config, layer, &mut take)?);
        }
        let norm = take("model.norm.weight", &[hidden])?;
        let head = match config.tied {
            true => None,
            false => Some(take("lm_head.weight", &[config.vocab_size, hidden])?),
        };
        let inverse_frequencies = config.rope.inverse_frequencies(config.head_dim);
        Ok(Decoder { config, embedding, blocks, norm, head, inverse_frequencies })
    }

    /// Shapes and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Every weight by its checkpoint name, in a fixed order.
    pub(crate) fn weights_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let mut all = vec![("model.embed_tokens.weight".to_owned(), &mut self.embedding)];
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            all.extend(block.weights_mut(layer));
        }
        all.push(("model.norm.weight".to_owned(), &mut self.norm));
        all.extend(self.head.as_mut().map(|head| ("lm_head.weight".to_owned(), head)));
        all
    }

    /// This decoder with an adapter's update added to its weights; untouched weights are shared.
    ///
    /// # Errors
    /// When the adapter does not fit, and the tensor library's.
    pub fn merged(&self, adapter: &Adapter) -> std::result::Result<Decoder, LearnError> {
        adapter.check(&self.config)?;
        let mut merged = self.clone();
        for (site, pair) in adapter.sites() {
            let update = pair.b.matmul(&pair.a)?.affine(pair.scale, 0.0)?;
            let linear = &mut merged.blocks[site.layer].linears[site.projection as usize];
            linear.weight = (&linear.weight + update)?;
        }
        Ok(merged)
    }

    /// The residual stream after the last block, `[N, H]`; what the backward pass needs goes to the tape.
    pub(crate) fn forward(&self, rows: &Rows, adapter: Option<&Adapter>) -> Result<(Tensor, Tape)> {
        let rope_table = self.rope_table(&rows.positions)?;
        let mut x = self.embed(&rows.ids)?;
        let mut layers = Vec::with_capacity(self.blocks.len());
        for layer in 0..self.blocks.len() {
            let tape = self.block(layer, x, &rope_table, adapter, &rows.segments, None)?;
            x = tape.1;
            layers.push(tape.0);
        }
        Ok((x.clone(), Tape { rope_table, layers, last: x }))
    }

    /// One pass with a cache: `ids` continue the cached tokens. Returns the residual stream, `[N, H]`.
    pub(crate) fn extend(
        &self,
        ids: &[u32],
        positions: &[u32],
        adapter: Option<&Adapter>,
        cache: &mut Cache,
    ) -> Result<Tensor> {
        let rope_table = self.rope_table(positions)?;
        let (query_len, key_len) = (ids.len(), cache.len + ids.len());
        let segments = [Segment { query_start: 0, query_len, key_start: 0, key_len }];
        let mut x = self.embed(ids)?;
        for (layer, cache) in cache.blocks.iter_mut().enumerate() {
            x = self.block(layer, x, &rope_table, adapter, &segments, Some(cache))?.1;
        }
        cache.len += ids.len();
        Ok(x)
    }

    /// Logits `[M, V]` of these rows of the residual stream `[N, H]`.
    pub(crate) fn logits(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let rows = Tensor::new(rows, x.device())?;
        let x = ops::rms_norm(&x.index_select(&rows, 0)?, &self.norm, self.config.rms_norm_eps)?;
        x.matmul(&self.head_weight().t()?)
    }

    fn head_weight(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.embedding.index_select(&Tensor::new(ids, self.embedding.device())?, 0)
    }

    /// Cosines then sines of every token, `[N, dim]`.
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
        Tensor::from_vec(table, (positions.len(), half * 2), &Device::Cpu)
    }

    fn heads(&self) -> Heads {
        Heads { query: self.config.heads, key: self.config.kv_heads, dim: self.config.head_dim }
    }

    fn block(
        &self,
        layer: usize,
        x: Tensor,
        rope_table: &Tensor,
        adapter: Option<&Adapter>,
        segments: &[Segment],
        cache: Option<&mut KvCache>,
    ) -> Result<(LayerTape, Tensor)> {
        let (block, eps) = (&self.blocks[layer], self.config.rms_norm_eps);
        let mut low = BTreeMap::new();
        let mut linear = |projection: Projection, x: &Tensor| {
            let pair = adapter.and_then(|adapter| adapter.pairs.get(&Site { layer, projection }));
            let (y, x_low) = block.linears[projection as usize].forward(x, pair)?;
            low.extend(x_low.map(|x_low| (projection, x_low)));
            Ok::<Tensor, candle_core::Error>(y)
        };
        let normed = ops::rms_norm(&x, &block.input_norm, eps)?;
        let (mut q, mut k) = (linear(Projection::QProj, &normed)?, linear(Projection::KProj, &normed)?);
        let v = linear(Projection::VProj, &normed)?;
        let before_head_norm = block.head_norms.is_some().then(|| (q.clone(), k.clone()));
        if let Some((q_norm, k_norm)) = &block.head_norms {
            (q, k) = (self.head_norm(&q, q_norm)?, self.head_norm(&k, k_norm)?);
        }
        let (q, mut k) = (Rope::apply(&q, rope_table, false)?, Rope::apply(&k, rope_table, false)?);
        let mut v = v;
        if let Some(cache) = cache {
            (k, v) = cache.append(&k, &v)?;
        }
        let attended = ops::attention(&q, &k, &v, self.heads(), segments)?;
        let middle = ops::add(&x, &linear(Projection::OProj, &attended)?)?;
        let middle_normed = ops::rms_norm(&middle, &block.post_attention_norm, eps)?;
        let gate = linear(Projection::GateProj, &middle_normed)?;
        let up = linear(Projection::UpProj, &middle_normed)?;
        let activated = ops::swiglu(&gate, &up)?;
        let out = ops::add(&middle, &linear(Projection::DownProj, &activated)?)?;
        let tape = LayerTape {
            x,
            normed,
            before_head_norm,
            q,
            k,
            v,
            attended,
            middle,
            middle_normed,
            gate,
            up,
            activated,
            low,
        };
        Ok((tape, out))
    }

    /// Norm of each head of `[N, heads * dim]`.
    fn head_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let heads = x.reshape(((), self.config.head_dim))?;
        ops::rms_norm(&heads, weight, self.config.rms_norm_eps)?.reshape(x.shape())
    }

    /// Gradients, given the gradient of the loss for the logits of some rows.
    ///
    /// `logit_gradients` are chunks of (rows, `[M, V]`) that together hold every row with a loss; `N` is the
    /// number of rows of the pass.
    pub(crate) fn backward(
        &self,
        rows: &Rows,
        tape: &Tape,
        logit_gradients: &[(Vec<u32>, Tensor)],
        adapter: Option<&Adapter>,
        wanted: Wanted,
    ) -> Result<Gradients> {
        let mut gradients = Gradients::default();
        let mut d = self.head_backward(tape, logit_gradients, wanted, &mut gradients)?;
        let lowest = match (wanted, adapter.and_then(|adapter| adapter.pairs.keys().next())) {
            (Wanted::Weights, _) => 0,
            (Wanted::Adapter, Some(site)) => site.layer,
            (Wanted::Adapter, None) => return Ok(gradients),
        };
        for layer in (lowest..self.blocks.len()).rev() {
            let mut pass =
                BlockBackward { decoder: self, layer, tape, adapter, wanted, gradients: &mut gradients };
            d = pass.run(&d, &rows.segments)?;
        }
        if wanted == Wanted::Weights {
            let ids = Tensor::new(rows.ids.as_slice(), d.device())?;
            let name = "model.embed_tokens.weight".to_owned();
            let start = match gradients.weights.remove(&name) {
                Some(from_head) => from_head,
                None => self.embedding.zeros_like()?,
            };
            gradients.weights.insert(name, start.index_add(&ids, &d, 0)?);
        }
        Ok(gradients)
    }

    /// Through head and final norm: the gradient of the residual stream, `[N, H]`.
    fn head_backward(
        &self,
        tape: &Tape,
        logit_gradients: &[(Vec<u32>, Tensor)],
        wanted: Wanted,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let (eps, head) = (self.config.rms_norm_eps, self.head_weight());
        let mut d_last = tape.last.zeros_like()?;
        for (rows, d_logits) in logit_gradients {
            let rows = Tensor::new(rows.as_slice(), d_last.device())?;
            let x = tape.last.index_select(&rows, 0)?;
            let d_normed = d_logits.matmul(head)?;
            d_last = d_last.index_add(&rows, &ops::rms_norm_backward(&x, &self.norm, &d_normed, eps)?, 0)?;
            if wanted == Wanted::Weights {
                let normed = ops::rms_norm(&x, &self.norm, eps)?;
                let head_name =
                    if self.head.is_some() { "lm_head.weight" } else { "model.embed_tokens.weight" };
                gradients.add_weight(head_name, d_logits.t()?.matmul(&normed)?)?;
                gradients
                    .add_weight("model.norm.weight", ops::rms_norm_weight_gradient(&x, &d_normed, eps)?)?;
            }
        }
        Ok(d_last)
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
}

/// The backward pass of one block.
struct BlockBackward<'a> {
    decoder: &'a Decoder,
    layer: usize,
    tape: &'a Tape,
    adapter: Option<&'a Adapter>,
    wanted: Wanted,
    gradients: &'a mut Gradients,
}

impl BlockBackward<'_> {
    /// From the gradient of the block's output to that of its input, both `[N, H]`.
    fn run(&mut self, d_out: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        use Projection::{DownProj, GateProj, KProj, OProj, QProj, UpProj, VProj};
        let (decoder, tape) = (self.decoder, &self.tape.layers[self.layer]);
        let (block, config) = (&decoder.blocks[self.layer], &decoder.config);

        let d_activated = self.linear(DownProj, &tape.activated, d_out)?;
        let (d_gate, d_up) = ops::swiglu_backward(&tape.gate, &tape.up, &d_activated)?;
        let d_from_gate = self.linear(GateProj, &tape.middle_normed, &d_gate)?;
        let d_normed = ops::add(&d_from_gate, &self.linear(UpProj, &tape.middle_normed, &d_up)?)?;
        let d_norm =
            self.norm("post_attention_layernorm", &tape.middle, &block.post_attention_norm, &d_normed)?;
        let d_middle = ops::add(d_out, &d_norm)?;

        let d_attended = self.linear(OProj, &tape.attended, &d_middle)?;
        let heads = decoder.heads();
        let all = ops::attention_backward(&tape.q, &tape.k, &tape.v, &d_attended, heads, segments)?;
        let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let part = |start: usize, len: usize| all.narrow(D::Minus1, start, len)?.contiguous();
        let unrotate = |d: Tensor| Rope::apply(&d, &self.tape.rope_table, true);
        let (mut d_q, mut d_k) = (unrotate(part(0, query)?)?, unrotate(part(query, key)?)?);
        let d_v = part(query + key, key)?;
        if let (Some((q_norm, k_norm)), Some((q, k))) = (&block.head_norms, &tape.before_head_norm) {
            d_q = self.head_norm("q_norm", q, q_norm, &d_q)?;
            d_k = self.head_norm("k_norm", k, k_norm, &d_k)?;
        }
        let d_from_q = self.linear(QProj, &tape.normed, &d_q)?;
        let d_normed = ops::add(&d_from_q, &self.linear(KProj, &tape.normed, &d_k)?)?;
        let d_normed = ops::add(&d_normed, &self.linear(VProj, &tape.normed, &d_v)?)?;
        let d_norm = self.norm("input_layernorm", &tape.x, &block.input_norm, &d_normed)?;
        ops::add(&d_middle, &d_norm)
    }

    /// Gradient of a linear layer's input `[N, in]`, given its input and the gradient of its output.
    fn linear(&mut self, projection: Projection, x: &Tensor, d_out: &Tensor) -> Result<Tensor> {
        let site = Site { layer: self.layer, projection };
        let linear = &self.decoder.blocks[self.layer].linears[projection as usize];
        let mut d_x = d_out.matmul(&linear.weight)?;
        if self.wanted == Wanted::Weights {
            let name = site.module();
            self.gradients.add_weight(&format!("{name}.weight"), d_out.t()?.matmul(x)?)?;
            if linear.bias.is_some() {
                self.gradients.add_weight(&format!("{name}.bias"), d_out.sum(0)?)?;
            }
        }
        let pair = self.adapter.and_then(|adapter| adapter.pairs.get(&site));
        let low = self.tape.layers[self.layer].low.get(&projection);
        if let (Some(pair), Some(low)) = (pair, low) {
            let d_low = d_out.matmul(&pair.b)?.affine(pair.scale, 0.0)?;
            d_x = ops::add(&d_x, &d_low.matmul(&pair.a)?)?;
            if self.wanted == Wanted::Adapter {
                let d_a = d_low.t()?.matmul(x)?;
                let d_b = d_out.t()?.matmul(low)?.affine(pair.scale, 0.0)?;
                self.gradients.pairs.insert(site, (d_a, d_b));
            }
        }
        Ok(d_x)
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

impl Linear {
    /// `x . W^T + b`, plus the adapter's update; also `x . A^T` where there is an adapter.
    fn forward(&self, x: &Tensor, pair: Option<&LoraPair>) -> Result<(Tensor, Option<Tensor>)> {
        let mut y = x.matmul(&self.weight.t()?)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        let Some(pair) = pair else { return Ok((y, None)) };
        let low = x.matmul(&pair.a.t()?)?;
        let y = ops::add(&y, &low.affine(pair.scale, 0.0)?.matmul(&pair.b.t()?)?)?;
        Ok((y, Some(low)))
    }
}

impl Block {
    fn build<E>(
        config: &ModelConfig,
        layer: usize,
        take: &mut impl FnMut(&str, &[usize]) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Block, E> {
        use crate::config::Family;
        let prefix = format!("model.layers.{layer}");
        let mut linears = Vec::with_capacity(7);
        for projection in Projection::ALL {
            let site = Site { layer, projection };
            let (out, input) = site.shape(config);
            let name = site.module();
            let weight = take(&format!("{name}.weight"), &[out, input])?;
            let biased = config.family == Family::Qwen2
                && matches!(projection, Projection::QProj | Projection::KProj | Projection::VProj);
            let bias = if biased { Some(take(&format!("{name}.bias"), &[out])?) } else { None };
            linears.push(Linear { weight, bias });
        }
        let head_norms = match config.family {
            Family::Qwen3 => Some((
                take(&format!("{prefix}.self_attn.q_norm.weight"), &[config.head_dim])?,
                take(&format!("{prefix}.self_attn.k_norm.weight"), &[config.head_dim])?,
            )),
            Family::Llama | Family::Qwen2 => None,
        };
        Ok(Block {
            input_norm: take(&format!("{prefix}.input_layernorm.weight"), &[config.hidden_size])?,
            post_attention_norm: take(
                &format!("{prefix}.post_attention_layernorm.weight"),
                &[config.hidden_size],
            )?,
            head_norms,
            linears: linears.try_into().expect("seven projections"),
        })
    }

    fn weights_mut(&mut self, layer: usize) -> Vec<(String, &mut Tensor)> {
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
            all.push((format!("{name}.weight"), &mut linear.weight));
            all.extend(linear.bias.as_mut().map(|bias| (format!("{name}.bias"), bias)));
        }
        all
    }
}

/// The element type of everything that is trained or computed.
pub(crate) const COMPUTE: DType = DType::F32;
