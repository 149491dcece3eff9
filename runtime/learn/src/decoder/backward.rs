//! The backward pass: exactly the gradients that are asked for, block by block, down to the lowest adapted one.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use selkie_edit::Projection;

use super::{COMPUTE, Decoder, Inner, Lane, LayerTape, Rows, Side, Tape};
use crate::lora::Site;
use crate::ops;

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

impl Decoder {
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
                again = decoder.own_block(self.layer, &tape.x, all, side, self.lanes)?.0;
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
