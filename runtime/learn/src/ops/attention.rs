//! Causal attention over packed sequences, forward and backward.
//!
//! Queries, keys and values of all sequences lie in one buffer, row by token, heads side by side. A
//! [`Segment`] says which query rows see which key rows, so packing needs no mask and no padding, and one
//! operation serves training (as many keys as queries) and decoding with a cache (more keys than queries).
//!
//! The backward pass computes the probabilities again instead of keeping them: they are the only thing of an
//! attention layer that grows with the square of the length.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;

use super::gemm::{View, matmul};
use super::{exp_in_place, f32_slice};

/// One sequence: its rows among the queries and among the keys. The last query sees every key; the one
/// before it sees one fewer, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) query_start: usize,
    pub(crate) query_len: usize,
    pub(crate) key_start: usize,
    pub(crate) key_len: usize,
}

impl Segment {
    /// A sequence that sees only itself.
    pub(crate) fn own(start: usize, len: usize) -> Segment {
        Segment { query_start: start, query_len: len, key_start: start, key_len: len }
    }
}

/// Shapes of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) query: usize,
    /// Key and value heads; divides `query`.
    pub(crate) key: usize,
    /// Size of one head.
    pub(crate) dim: usize,
}

impl Heads {
    fn group(self) -> usize {
        self.query / self.key
    }

    fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}

/// Attention of `q [Nq, query*dim]` over `k, v [Nk, key*dim]` to `[Nq, query*dim]`. The segments' query rows
/// must follow each other without gaps and cover all of `q`.
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    segments: &[Segment],
) -> Result<Tensor> {
    q.apply_op3_no_bwd(k, v, &Forward { heads, segments })
}

/// Gradients of [`attention`] for segments that see only themselves: `dq`, `dk`, `dv` side by side, as
/// `[N, (query + 2*key) * dim]`.
pub(crate) fn attention_backward(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    d_out: &Tensor,
    heads: Heads,
    segments: &[Segment],
) -> Result<Tensor> {
    q.apply_op3_no_bwd(k, v, &Backward { heads, segments, d_out })
}

struct Forward<'a> {
    heads: Heads,
    segments: &'a [Segment],
}

impl CustomOp3 for Forward<'_> {
    fn name(&self) -> &'static str {
        "selkie-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (f32_slice(q, q_layout)?, f32_slice(k, k_layout)?, f32_slice(v, v_layout)?);
        let heads = self.heads;
        let query_row = heads.query * heads.dim;
        let mut out = vec![0f32; q.len()];
        split_rows(&mut out, query_row, self.segments)?.into_par_iter().for_each(|(segment, out)| {
            let mut scores = vec![0f32; segment.query_len * segment.key_len];
            for head in 0..heads.query {
                probabilities(&mut scores, q, k, heads, segment, head);
                let key_row = heads.key * heads.dim;
                let v = &v[segment.key_start * key_row + (head / heads.group()) * heads.dim..];
                matmul(
                    (segment.query_len, heads.dim, segment.key_len),
                    &mut out[head * heads.dim..],
                    query_row,
                    View::rows(&scores, segment.key_len),
                    View::rows(v, key_row),
                    1.0,
                    false,
                );
            }
        });
        Ok((CpuStorage::F32(out), q_layout.shape().clone()))
    }
}

/// An operation takes at most three tensors; the fourth is carried.
struct Backward<'a> {
    heads: Heads,
    segments: &'a [Segment],
    d_out: &'a Tensor,
}

impl CustomOp3 for Backward<'_> {
    fn name(&self) -> &'static str {
        "selkie-attention-backward"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (f32_slice(q, q_layout)?, f32_slice(k, k_layout)?, f32_slice(v, v_layout)?);
        let (d_out, d_layout) = self.d_out.storage_and_layout();
        let Storage::Cpu(d_out) = &*d_out else {
            candle_core::bail!("attention gradients are on one device")
        };
        let d_out = f32_slice(d_out, d_layout)?;
        let columns = (self.heads.query + 2 * self.heads.key) * self.heads.dim;
        let tokens = q_layout.shape().dims()[0];
        let mut gradient = vec![0f32; tokens * columns];
        split_rows(&mut gradient, columns, self.segments)?
            .into_par_iter()
            .for_each(|(segment, gradient)| backward_segment(gradient, q, k, v, d_out, self.heads, segment));
        Ok((CpuStorage::F32(gradient), Shape::from((tokens, columns))))
    }
}

/// Gradients of one sequence, into rows of `dq | dk | dv` that start at zero.
fn backward_segment(
    gradient: &mut [f32],
    q: &[f32],
    k: &[f32],
    v: &[f32],
    d_out: &[f32],
    heads: Heads,
    segment: Segment,
) {
    let (len, dim) = (segment.query_len, heads.dim);
    let (query_row, key_row) = (heads.query * dim, heads.key * dim);
    let columns = query_row + 2 * key_row;
    let mut scores = vec![0f32; len * len];
    let mut d_scores = vec![0f32; len * len];
    for head in 0..heads.query {
        let key_head = (head / heads.group()) * dim;
        let q = &q[segment.query_start * query_row + head * dim..];
        let k_head = &k[segment.key_start * key_row + key_head..];
        let v_head = &v[segment.key_start * key_row + key_head..];
        let d_out = &d_out[segment.query_start * query_row + head * dim..];
        probabilities_of(&mut scores, q, query_row, k_head, key_row, heads, segment);
        // dV += P^T . dOut
        matmul(
            (len, dim, len),
            &mut gradient[query_row + key_row + key_head..],
            columns,
            View::rows(&scores, len).t(),
            View::rows(d_out, query_row),
            1.0,
            true,
        );
        // dP = dOut . V^T, then dS = P * (dP - sum(P * dP))
        matmul(
            (len, len, dim),
            &mut d_scores,
            len,
            View::rows(d_out, query_row),
            View::rows(v_head, key_row).t(),
            1.0,
            false,
        );
        for (row, (p, d)) in scores.chunks(len).zip(d_scores.chunks_mut(len)).enumerate() {
            let (p, seen) = (&p[..=row], row + 1);
            let dot: f32 = p.iter().zip(&d[..seen]).map(|(p, d)| p * d).sum();
            d[..seen].iter_mut().zip(p).for_each(|(d, p)| *d = p * (*d - dot));
            d[seen..].fill(0.0);
        }
        // dQ = dS . K, dK += dS^T . Q, both scaled
        let scale = heads.scale();
        matmul(
            (len, dim, len),
            &mut gradient[head * dim..],
            columns,
            View::rows(&d_scores, len),
            View::rows(k_head, key_row),
            scale,
            false,
        );
        matmul(
            (len, dim, len),
            &mut gradient[query_row + key_head..],
            columns,
            View::rows(&d_scores, len).t(),
            View::rows(q, query_row),
            scale,
            true,
        );
    }
}

fn probabilities(scores: &mut [f32], q: &[f32], k: &[f32], heads: Heads, segment: Segment, head: usize) {
    let (query_row, key_row) = (heads.query * heads.dim, heads.key * heads.dim);
    let q = &q[segment.query_start * query_row + head * heads.dim..];
    let k = &k[segment.key_start * key_row + (head / heads.group()) * heads.dim..];
    probabilities_of(scores, q, query_row, k, key_row, heads, segment);
}

/// Softmax of the scaled scores of one head of one sequence, zero beyond what each query sees.
fn probabilities_of(
    scores: &mut [f32],
    q: &[f32],
    query_row: usize,
    k: &[f32],
    key_row: usize,
    heads: Heads,
    segment: Segment,
) {
    let (queries, keys) = (segment.query_len, segment.key_len);
    let (lhs, rhs) = (View::rows(q, query_row), View::rows(k, key_row).t());
    matmul((queries, keys, heads.dim), scores, keys, lhs, rhs, heads.scale(), false);
    for (row, scores) in scores.chunks_mut(keys).enumerate() {
        let (seen, hidden) = scores.split_at_mut(keys - queries + row + 1);
        let max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        seen.iter_mut().for_each(|score| *score -= max);
        exp_in_place(seen);
        let inverse = 1.0 / seen.iter().sum::<f32>();
        seen.iter_mut().for_each(|score| *score *= inverse);
        hidden.fill(0.0);
    }
}

/// The rows of each segment's queries as disjoint slices.
fn split_rows<'a>(
    mut rows: &'a mut [f32],
    columns: usize,
    segments: &[Segment],
) -> Result<Vec<(Segment, &'a mut [f32])>> {
    let mut parts = Vec::with_capacity(segments.len());
    let mut next = 0;
    for &segment in segments {
        let size = segment.query_len * columns;
        if segment.query_start != next || size > rows.len() || segment.query_len > segment.key_len {
            candle_core::bail!("BUG: segments must cover the rows in order, at {segment:?}");
        }
        let (part, rest) = rows.split_at_mut(size);
        parts.push((segment, part));
        rows = rest;
        next += segment.query_len;
    }
    Ok(parts)
}
