//! The operations put together from the tensor library's own, for devices other than the CPU. They are slower there
//! than kernels of our own would be, and are tested on the CPU against the ones that we have.
//!
//! Inputs may be of bf16: sums that need it are made in f32.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Result, Tensor};

use super::attention::{Heads, Pattern, Segment};
use super::linear::{LinearGradients, Update};
use crate::weights::Matrix;

/// As [`super::rms_norm`].
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let inverse = inverse_rms(&wide, eps)?;
    wide.broadcast_mul(&inverse)?.broadcast_mul(&weight.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
}

/// As [`super::rms_norm_backward`].
pub(crate) fn rms_norm_backward(x: &Tensor, weight: &Tensor, d_out: &Tensor, eps: f64) -> Result<Tensor> {
    let (wide, d_out) = (x.to_dtype(DType::F32)?, d_out.to_dtype(DType::F32)?);
    let inverse = inverse_rms(&wide, eps)?;
    let d_normed = d_out.broadcast_mul(&weight.to_dtype(DType::F32)?)?;
    let shift = ((&wide * &d_normed)?.mean_keepdim(D::Minus1)? * inverse.powf(3.0)?)?;
    (d_normed.broadcast_mul(&inverse)? - wide.broadcast_mul(&shift)?)?.to_dtype(x.dtype())
}

fn inverse_rms(x: &Tensor, eps: f64) -> Result<Tensor> {
    (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()
}

/// As [`super::rotate`].
pub(crate) fn rotate(x: &Tensor, table: &Tensor, inverse: bool) -> Result<Tensor> {
    let ((tokens, dim), shape) = (table.dims2()?, x.shape());
    let half = dim / 2;
    let heads = x.to_dtype(DType::F32)?.reshape((tokens, (), dim))?;
    let (low, high) = (heads.narrow(2, 0, half)?, heads.narrow(2, half, half)?);
    let cos = table.narrow(1, 0, half)?.unsqueeze(1)?;
    let sin = table.narrow(1, half, half)?.unsqueeze(1)?.affine(if inverse { -1.0 } else { 1.0 }, 0.0)?;
    let turned_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
    let turned_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
    Tensor::cat(&[turned_low, turned_high], 2)?.reshape(shape)?.to_dtype(x.dtype())
}

/// As [`super::swiglu`].
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()? * up
}

/// As [`super::swiglu_backward`].
pub(crate) fn swiglu_backward(gate: &Tensor, up: &Tensor, d_out: &Tensor) -> Result<(Tensor, Tensor)> {
    let kind = gate.dtype();
    let (gate, up, d_out) =
        (gate.to_dtype(DType::F32)?, up.to_dtype(DType::F32)?, d_out.to_dtype(DType::F32)?);
    let sigmoid = (gate.neg()?.exp()? + 1.0)?.recip()?;
    let silu = (gate * &sigmoid)?;
    let slope = (&sigmoid + (&silu * sigmoid.affine(-1.0, 1.0)?)?)?;
    Ok((((&d_out * up)? * slope)?.to_dtype(kind)?, (d_out * silu)?.to_dtype(kind)?))
}

/// As [`super::cross_entropy`].
pub(crate) fn cross_entropy(logits: &Tensor, targets: &[u32], scales: &[f32]) -> Result<(Vec<f32>, Tensor)> {
    let (device, kind) = (logits.device(), logits.dtype());
    let logits = logits.to_dtype(DType::F32)?;
    let max = logits.max_keepdim(D::Minus1)?;
    let terms = logits.broadcast_sub(&max)?.exp()?;
    let total = terms.sum_keepdim(D::Minus1)?;
    let targets = Tensor::new(targets, device)?.unsqueeze(1)?;
    let chosen = logits.gather(&targets, 1)?;
    let log_probs = ((chosen - max)? - total.log()?)?.flatten_all()?.to_vec1::<f32>()?;
    let scales = Tensor::new(scales, device)?.unsqueeze(1)?;
    let shares = terms.broadcast_mul(&(&scales / &total)?)?;
    let gradient = shares.scatter_add(&targets, &scales.neg()?, 1)?;
    Ok((log_probs, gradient.to_dtype(kind)?))
}

/// As [`super::token_log_probs`]; only these are fetched, and not the logits.
pub(crate) fn token_log_probs(logits: &Tensor, targets: &[u32]) -> Result<Vec<(f32, bool)>> {
    let vocab = logits.dim(1)?;
    let logits = logits.to_dtype(DType::F32)?;
    let max = logits.max_keepdim(D::Minus1)?;
    let total = logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?;
    let index = Tensor::new(targets, logits.device())?.unsqueeze(1)?;
    let log_probs = ((logits.gather(&index, 1)? - &max)? - total.log()?)?.flatten_all()?.to_vec1::<f32>()?;
    // The first of equals, as a library's arg-max does not promise: the highest of numbers that fall from id to id.
    let falling: Vec<f32> = (0..vocab).map(|id| (vocab - id) as f32).collect();
    let falling = Tensor::from_vec(falling, (1, vocab), logits.device())?;
    let is_best = logits.broadcast_eq(&max)?.to_dtype(DType::F32)?;
    let highest = is_best.broadcast_mul(&falling)?.max(D::Minus1)?.to_vec1::<f32>()?;
    let is_target = |(highest, &target): (f32, &u32)| vocab as f32 - highest == target as f32;
    Ok(log_probs.into_iter().zip(highest.into_iter().zip(targets).map(is_target)).collect())
}

/// As [`super::linear`].
pub(crate) fn linear(
    x: &Tensor,
    weight: &Matrix,
    bias: Option<&Tensor>,
    updates: &[Update<'_>],
) -> Result<(Tensor, Vec<Option<Tensor>>)> {
    let (kind, device) = (x.dtype(), x.device());
    let mut y = x.matmul(&weight.tensor(kind, device)?.t()?)?;
    if let Some(bias) = bias {
        y = y.broadcast_add(&bias.to_dtype(kind)?)?;
    }
    let (mut lows, mut parts) = (Vec::with_capacity(updates.len()), Vec::with_capacity(updates.len()));
    for update in updates {
        let rows = y.narrow(0, update.start, update.len)?;
        let Some(pair) = update.pair else {
            // Devices refuse to copy nothing.
            parts.extend((update.len > 0).then_some(rows));
            lows.push(None);
            continue;
        };
        let x = dropped(&x.narrow(0, update.start, update.len)?, update)?;
        let low = x.matmul(&pair.a.to_dtype(kind)?.t()?)?;
        let change = low.matmul(&pair.b.to_dtype(kind)?.t()?)?.affine(pair.scale, 0.0)?;
        parts.push((rows + change)?);
        lows.push(Some(low));
    }
    let y = if updates.iter().any(|update| update.pair.is_some()) { Tensor::cat(&parts, 0)? } else { y };
    Ok((y, lows))
}

/// As [`super::linear_backward`]; gradients of pairs are of f32.
pub(crate) fn linear_backward(
    x: &Tensor,
    d_out: &Tensor,
    weight: &Matrix,
    updates: &[Update<'_>],
    lows: &[Option<Tensor>],
    wants_input: bool,
) -> Result<LinearGradients> {
    let (kind, device) = (x.dtype(), x.device());
    let mut d_x = if wants_input { Some(d_out.matmul(&weight.tensor(kind, device)?)?) } else { None };
    let mut parts = Vec::with_capacity(updates.len());
    let mut pairs = Vec::with_capacity(updates.len());
    for (update, low) in updates.iter().zip(lows) {
        let rows = |of: &Tensor| of.narrow(0, update.start, update.len)?.contiguous();
        let own = d_x.as_ref().filter(|_| update.len > 0).map(rows).transpose()?;
        let (Some(pair), Some(low)) = (update.pair, low) else {
            parts.extend(own);
            pairs.push(None);
            continue;
        };
        let d_out = rows(d_out)?;
        let d_low = d_out.matmul(&pair.b.to_dtype(kind)?)?.affine(pair.scale, 0.0)?;
        if let Some(own) = own {
            parts.push((own + dropped(&d_low.matmul(&pair.a.to_dtype(kind)?)?, update)?)?);
        }
        let x = dropped(&rows(x)?, update)?;
        let d_a = d_low.t()?.matmul(&x)?.to_dtype(DType::F32)?;
        let d_b = d_out.t()?.matmul(low)?.affine(pair.scale, 0.0)?.to_dtype(DType::F32)?;
        pairs.push(Some((d_a, d_b)));
    }
    if d_x.is_some() && updates.iter().any(|update| update.pair.is_some()) {
        d_x = Some(Tensor::cat(&parts, 0)?);
    }
    Ok(LinearGradients { x: d_x, pairs })
}

/// `x` of an update's rows with its dropout applied.
fn dropped(x: &Tensor, update: &Update<'_>) -> Result<Tensor> {
    let Some(dropout) = update.dropout else { return Ok(x.clone()) };
    let (rows, width) = x.dims2()?;
    let factors = Tensor::from_vec(dropout.factors(rows, width), (rows, width), x.device())?;
    x * factors.to_dtype(x.dtype())?
}

/// As [`super::attention`].
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    pattern: &Pattern,
) -> Result<Tensor> {
    let padded = Padded::of(heads, pattern, q.device())?;
    let mut parts = Vec::with_capacity(padded.batches.len());
    for batch in &padded.batches {
        let (q, k, v) = (batch.queries(q, heads)?, batch.keys(k, heads)?, batch.keys(v, heads)?);
        parts.push(batch.query_rows(&batch.probabilities(&q, &k, heads)?.matmul(&v)?, heads)?);
    }
    gathered(&parts, padded.query_places.as_ref())?.to_dtype(q.dtype())
}

/// As [`super::attention_backward`].
pub(crate) fn attention_backward(
    [q, k, v]: [&Tensor; 3],
    out: &Tensor,
    d_out: &Tensor,
    heads: Heads,
    pattern: &Pattern,
) -> Result<[Tensor; 3]> {
    let kind = q.dtype();
    let padded = Padded::of(heads, pattern, q.device())?;
    let (mut d_q, mut d_k, mut d_v) = (Vec::new(), Vec::new(), Vec::new());
    for batch in &padded.batches {
        let (q, k, v) = (batch.queries(q, heads)?, batch.keys(k, heads)?, batch.keys(v, heads)?);
        let (out, d_out) = (batch.queries(out, heads)?, batch.real_queries(d_out, heads)?);
        let p = batch.probabilities(&q, &k, heads)?;
        let shift = (&out * &d_out)?.sum_keepdim(D::Minus1)?;
        let d_p = d_out.matmul(&v.transpose(1, 2)?)?;
        let d_s = (&p * d_p.broadcast_sub(&shift)?)?.affine(f64::from(heads.scale()), 0.0)?;
        d_q.push(batch.query_rows(&d_s.matmul(&k)?, heads)?);
        d_k.push(batch.key_rows(&d_s.transpose(1, 2)?.matmul(&q)?, heads)?);
        d_v.push(batch.key_rows(&p.transpose(1, 2)?.matmul(&d_out)?, heads)?);
    }
    Ok([
        gathered(&d_q, padded.query_places.as_ref())?.to_dtype(kind)?,
        gathered(&d_k, padded.key_places.as_ref())?.to_dtype(kind)?,
        gathered(&d_v, padded.key_places.as_ref())?.to_dtype(kind)?,
    ])
}

/// The rows of all batches, or those at these places among them.
fn gathered(parts: &[Tensor], places: Option<&Tensor>) -> Result<Tensor> {
    let all = Tensor::cat(parts, 0)?;
    places.map_or(Ok(all.clone()), |places| all.index_select(places, 0))
}

/// Scores that exist at one time, about: 256 MB of them.
const SCORES: usize = 1 << 26;

/// The segments of a pattern in few batches: a device takes one large product sooner than many small ones.
struct Padded {
    batches: Vec<Batch>,
    /// Where each query row stands among those of all batches; `None` where they are the same rows.
    query_places: Option<Tensor>,
    key_places: Option<Tensor>,
}

/// Segments of about one length, padded to the longest.
struct Batch {
    segments: usize,
    queries: usize,
    keys: usize,
    /// The rows that are the queries, `[segments * queries]`; any where there is none. `None` for all rows.
    query_rows: Option<Tensor>,
    key_rows: Option<Tensor>,
    /// 1 for a query that is one and 0 for a pad, `[segments * queries, 1]`; `None` without pads.
    is_real: Option<Tensor>,
    /// What is added to the scores, `[segments, 1, queries, keys]`.
    mask: Tensor,
}

impl Padded {
    fn of(heads: Heads, pattern: &Pattern, device: &Device) -> Result<Padded> {
        let parts: Vec<(Segment, &[u32])> =
            pattern.parts().filter(|(segment, _)| segment.key_len > 0).collect();
        if let [(segment, seen)] = parts[..]
            && segment.query_len > 0
        {
            let batch = Batch {
                segments: 1,
                queries: segment.query_len,
                keys: segment.key_len,
                query_rows: None,
                key_rows: None,
                is_real: None,
                mask: mask(seen, (1, segment.query_len, segment.key_len), device)?,
            };
            return Ok(Padded { batches: vec![batch], query_places: None, key_places: None });
        }
        // Within a factor of two of each other's lengths.
        let mut alike: BTreeMap<usize, Vec<(Segment, &[u32])>> = BTreeMap::new();
        for part in parts {
            alike.entry(part.0.key_len.next_power_of_two()).or_default().push(part);
        }
        let mut batches = Vec::new();
        let mut query_places = vec![0u32; pattern.queries()];
        let mut key_places = vec![0u32; pattern.keys()];
        let (mut queries, mut keys) = (0, 0);
        for parts in alike.values() {
            let longest = parts.iter().map(|(segment, _)| segment.key_len).max().unwrap_or(1);
            let scores = heads.query * longest * longest;
            for parts in parts.chunks((SCORES / scores.max(1)).max(1)) {
                let batch = Batch::of(parts, device)?;
                for (index, (segment, _)) in parts.iter().enumerate() {
                    let (query, key) = (queries + index * batch.queries, keys + index * batch.keys);
                    count_from(&mut query_places[segment.query_start..][..segment.query_len], query);
                    count_from(&mut key_places[segment.key_start..][..segment.key_len], key);
                }
                (queries, keys) = (queries + parts.len() * batch.queries, keys + parts.len() * batch.keys);
                batches.push(batch);
            }
        }
        Ok(Padded {
            batches,
            query_places: Some(Tensor::new(query_places, device)?),
            key_places: Some(Tensor::new(key_places, device)?),
        })
    }
}

impl Batch {
    fn of(parts: &[(Segment, &[u32])], device: &Device) -> Result<Batch> {
        let longest = |len: fn(&Segment) -> usize| parts.iter().map(|(segment, _)| len(segment)).max();
        let queries = longest(|segment| segment.query_len).unwrap_or(0).max(1);
        let keys = longest(|segment| segment.key_len).unwrap_or(0);
        let segments = parts.len();
        let mut query_rows = vec![0u32; segments * queries];
        let mut key_rows = vec![0u32; segments * keys];
        let mut is_real = vec![0f32; segments * queries];
        // A pad sees one key, because nobody can see none.
        let mut all_seen = vec![1u32; segments * queries];
        for (index, (segment, seen)) in parts.iter().enumerate() {
            let own = index * queries..index * queries + segment.query_len;
            count_from(&mut query_rows[own.clone()], segment.query_start);
            count_from(&mut key_rows[index * keys..][..segment.key_len], segment.key_start);
            is_real[own.clone()].fill(1.0);
            all_seen[own].copy_from_slice(seen);
        }
        let is_padded = is_real.contains(&0.0);
        let is_real = Tensor::from_vec(is_real, (segments * queries, 1), device)?;
        Ok(Batch {
            segments,
            queries,
            keys,
            query_rows: Some(Tensor::new(query_rows, device)?),
            key_rows: Some(Tensor::new(key_rows, device)?),
            is_real: is_padded.then_some(is_real),
            mask: mask(&all_seen, (segments, queries, keys), device)?,
        })
    }

    /// Rows of `x` as `[segments * key heads, group * queries, dim]`: the query heads that share a key head follow
    /// each other.
    fn queries(&self, x: &Tensor, heads: Heads) -> Result<Tensor> {
        let rows = selected(x, self.query_rows.as_ref())?;
        let by_head = by_head(&rows, (self.segments, self.queries, heads.query, heads.dim))?;
        by_head.reshape((self.segments * heads.key, heads.query / heads.key * self.queries, heads.dim))
    }

    /// The same with zeros for pads.
    fn real_queries(&self, x: &Tensor, heads: Heads) -> Result<Tensor> {
        let Some(is_real) = &self.is_real else { return self.queries(x, heads) };
        let rows = selected(x, self.query_rows.as_ref())?.to_dtype(DType::F32)?.broadcast_mul(is_real)?;
        let by_head = by_head(&rows, (self.segments, self.queries, heads.query, heads.dim))?;
        by_head.reshape((self.segments * heads.key, heads.query / heads.key * self.queries, heads.dim))
    }

    /// Rows of `x` as `[segments * key heads, keys, dim]`.
    fn keys(&self, x: &Tensor, heads: Heads) -> Result<Tensor> {
        let rows = selected(x, self.key_rows.as_ref())?;
        let by_head = by_head(&rows, (self.segments, self.keys, heads.key, heads.dim))?;
        by_head.reshape((self.segments * heads.key, self.keys, heads.dim))
    }

    /// What [`Batch::queries`] made, as rows.
    fn query_rows(&self, x: &Tensor, heads: Heads) -> Result<Tensor> {
        by_row(&x.reshape((self.segments, heads.query, self.queries, heads.dim))?)
    }

    /// What [`Batch::keys`] made, as rows.
    fn key_rows(&self, x: &Tensor, heads: Heads) -> Result<Tensor> {
        by_row(&x.reshape((self.segments, heads.key, self.keys, heads.dim))?)
    }

    /// Softmax of scaled scores `[segments * key heads, group * queries, keys]`, zero beyond what each query sees.
    fn probabilities(&self, q: &Tensor, k: &Tensor, heads: Heads) -> Result<Tensor> {
        let scores = q.matmul(&k.transpose(1, 2)?)?.affine(f64::from(heads.scale()), 0.0)?;
        let shape = scores.shape().clone();
        let scores = scores.reshape((self.segments, heads.query, self.queries, self.keys))?;
        let scores = scores.broadcast_add(&self.mask)?;
        let terms = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        terms.broadcast_div(&terms.sum_keepdim(D::Minus1)?)?.reshape(shape)
    }
}

/// 0 for the keys that a query sees and -10^30 for those it does not, `[segments, 1, queries, keys]`. Made where
/// it is used: it is larger than what it is made of.
fn mask(seen: &[u32], (segments, queries, keys): (usize, usize, usize), device: &Device) -> Result<Tensor> {
    let seen: Vec<f32> = seen.iter().map(|&seen| seen as f32).collect();
    let seen = Tensor::from_vec(seen, (segments, 1, queries, 1), device)?;
    let keys = Tensor::from_vec((0..keys).map(|key| key as f32).collect(), (1, 1, 1, keys), device)?;
    keys.broadcast_ge(&seen)?.to_dtype(DType::F32)?.affine(-1e30, 0.0)
}

fn count_from(places: &mut [u32], first: usize) {
    places.iter_mut().zip(first as u32..).for_each(|(place, row)| *place = row);
}

fn selected(x: &Tensor, rows: Option<&Tensor>) -> Result<Tensor> {
    rows.map_or(Ok(x.clone()), |rows| x.index_select(rows, 0))
}

/// `[segments * rows, heads * dim]` as `[segments, heads, rows, dim]` in f32.
fn by_head(x: &Tensor, (segments, rows, heads, dim): (usize, usize, usize, usize)) -> Result<Tensor> {
    x.to_dtype(DType::F32)?.reshape((segments, rows, heads, dim))?.transpose(1, 2)?.contiguous()
}

/// `[segments, heads, rows, dim]` as `[segments * rows, heads * dim]`.
fn by_row(x: &Tensor) -> Result<Tensor> {
    let (segments, heads, rows, dim) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((segments * rows, heads * dim))
}
