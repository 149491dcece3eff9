//! Causal attention over packed sequences, forward and backward.
//!
//! Queries, keys and values of all sequences lie in one buffer each, row by token, heads side by side. A
//! [`Pattern`] says which query rows see which key rows, so packing needs no mask and no padding, and one
//! operation serves training (as many queries as keys), decoding with a cache (fewer, the last ones) and a last
//! block of which only some rows matter (fewer, anywhere).
//!
//! Scores exist for one block of queries at a time, and only for the keys that the block sees. The backward pass
//! computes the probabilities again instead of keeping them: they are the only thing of an attention layer that
//! grows with the square of the length.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::kernels::{self, Rows};
use super::values::Values;
use super::vector::{dot, softmax, vectorised};

/// Query rows whose scores exist at one time.
const BLOCK: usize = 64;

/// One sequence: its rows among the queries and among the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) query_start: usize,
    pub(super) query_len: usize,
    pub(super) key_start: usize,
    pub(super) key_len: usize,
}

/// Which query rows see which key rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
    /// For each query row, how many of its segment's first keys it sees. Never falls within a segment.
    seen: Vec<u32>,
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

impl Pattern {
    /// Adds a sequence of `keys` tokens of which the last `queries` ask.
    pub(crate) fn push(&mut self, queries: usize, keys: usize) {
        debug_assert!(queries <= keys);
        let last = self.segments.last();
        let key_start = last.map_or(0, |last| last.key_start + last.key_len);
        let query_start = self.seen.len();
        self.segments.push(Segment { query_start, query_len: queries, key_start, key_len: keys });
        self.seen.extend((keys - queries + 1..=keys).map(|seen| seen as u32));
    }

    /// Query rows.
    pub(crate) fn queries(&self) -> usize {
        self.seen.len()
    }

    /// Key rows.
    pub(crate) fn keys(&self) -> usize {
        self.segments.last().map_or(0, |last| last.key_start + last.key_len)
    }

    /// The same keys asked by these query rows alone, which must rise.
    pub(crate) fn keep(&self, rows: &[u32]) -> Pattern {
        let mut kept = Pattern::default();
        let mut rest = rows;
        for segment in &self.segments {
            let end = segment.query_start + segment.query_len;
            let (own, later) = rest.split_at(rest.partition_point(|&row| (row as usize) < end));
            let query_start = kept.seen.len();
            kept.seen.extend(own.iter().map(|&row| self.seen[row as usize]));
            kept.segments.push(Segment { query_start, query_len: own.len(), ..*segment });
            rest = later;
        }
        kept
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (Segment, &[u32])> {
        self.segments.iter().map(|&segment| {
            (segment, &self.seen[segment.query_start..segment.query_start + segment.query_len])
        })
    }
}

impl Heads {
    fn group(self) -> usize {
        self.query / self.key
    }

    fn query_row(self) -> usize {
        self.query * self.dim
    }

    fn key_row(self) -> usize {
        self.key * self.dim
    }

    pub(super) fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    fn check(self, q: usize, k: usize, v: usize, pattern: &Pattern) -> Result<()> {
        let (queries, keys) = (pattern.queries() * self.query_row(), pattern.keys() * self.key_row());
        if q != queries || k != keys || v != keys {
            candle_core::bail!(
                "BUG: attention over {q}, {k} and {v} values; the pattern has {queries} and {keys}"
            );
        }
        Ok(())
    }
}

/// Attention of `q [Nq, query*dim]` over `k, v [Nk, key*dim]` to `[Nq, query*dim]`.
pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: Heads,
    pattern: &Pattern,
) -> Result<Tensor> {
    if !super::has_kernels(q) {
        return super::portable::attention(q, k, v, heads, pattern);
    }
    let shape = q.shape();
    let (q, k, v) = (Values::of(q)?, Values::of(k)?, Values::of(v)?);
    heads.check(q.len(), k.len(), v.len(), pattern)?;
    let one = |(segment, seen, key_head)| -> Vec<f32> {
        Part::new(&q, &k, &v, heads, segment, seen, key_head).forward()
    };
    let parts: Vec<Vec<f32>> = tasks(heads, pattern).into_par_iter().map(one).collect();
    let mut out = vec![0f32; q.len()];
    let columns = heads.group() * heads.dim;
    for ((segment, _, key_head), part) in tasks(heads, pattern).into_iter().zip(&parts) {
        place(&mut out, heads.query_row(), segment.query_start, key_head * columns, part, columns);
    }
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// Gradients of [`attention`] for `q`, `k` and `v`, given its result and the gradient of that.
pub(crate) fn attention_backward(
    [q, k, v]: [&Tensor; 3],
    out: &Tensor,
    d_out: &Tensor,
    heads: Heads,
    pattern: &Pattern,
) -> Result<[Tensor; 3]> {
    if !super::has_kernels(q) {
        return super::portable::attention_backward([q, k, v], out, d_out, heads, pattern);
    }
    let (q_shape, k_shape) = (q.shape(), k.shape());
    let (q, k, v) = (Values::of(q)?, Values::of(k)?, Values::of(v)?);
    let (out, d_out) = (Values::of(out)?, Values::of(d_out)?);
    heads.check(q.len(), k.len(), v.len(), pattern)?;
    heads.check(out.len(), k.len(), v.len(), pattern)?;
    heads.check(d_out.len(), k.len(), v.len(), pattern)?;
    let one = |(segment, seen, key_head)| {
        Part::new(&q, &k, &v, heads, segment, seen, key_head).backward(&out, &d_out)
    };
    let parts: Vec<[Vec<f32>; 3]> = tasks(heads, pattern).into_par_iter().map(one).collect();
    let (mut d_q, mut d_k, mut d_v) = (vec![0f32; q.len()], vec![0f32; k.len()], vec![0f32; v.len()]);
    let columns = heads.group() * heads.dim;
    for ((segment, _, key_head), [part_q, part_k, part_v]) in tasks(heads, pattern).into_iter().zip(&parts) {
        place(&mut d_q, heads.query_row(), segment.query_start, key_head * columns, part_q, columns);
        let column = key_head * heads.dim;
        place(&mut d_k, heads.key_row(), segment.key_start, column, part_k, heads.dim);
        place(&mut d_v, heads.key_row(), segment.key_start, column, part_v, heads.dim);
    }
    Ok([
        Tensor::from_vec(d_q, q_shape, &Device::Cpu)?,
        Tensor::from_vec(d_k, k_shape, &Device::Cpu)?,
        Tensor::from_vec(d_v, k_shape, &Device::Cpu)?,
    ])
}

/// What can be done apart: each key head of each sequence, with the query heads that share it.
fn tasks(heads: Heads, pattern: &Pattern) -> Vec<(Segment, &[u32], usize)> {
    let asked = pattern.parts().filter(|(segment, _)| segment.query_len > 0);
    asked.flat_map(|(segment, seen)| (0..heads.key).map(move |head| (segment, seen, head))).collect()
}

/// Copies a part's rows to their place in the whole.
fn place(whole: &mut [f32], row: usize, first: usize, column: usize, part: &[f32], columns: usize) {
    for (whole, part) in whole.chunks_mut(row).skip(first).zip(part.chunks(columns)) {
        whole[column..column + columns].copy_from_slice(part);
    }
}

/// One key head of one sequence.
struct Part<'a> {
    /// From the first query row and head of this part on; as are the others.
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    heads: Heads,
    segment: Segment,
    seen: &'a [u32],
    key_head: usize,
}

impl<'a> Part<'a> {
    fn new(
        q: &'a [f32],
        k: &'a [f32],
        v: &'a [f32],
        heads: Heads,
        segment: Segment,
        seen: &'a [u32],
        key_head: usize,
    ) -> Part<'a> {
        let key = segment.key_start * heads.key_row() + key_head * heads.dim;
        let query = Part::query_at(heads, segment, key_head);
        Part { q: &q[query..], k: &k[key..], v: &v[key..], heads, segment, seen, key_head }
    }

    fn query_at(heads: Heads, segment: Segment, key_head: usize) -> usize {
        segment.query_start * heads.query_row() + key_head * heads.group() * heads.dim
    }

    fn keys(&self) -> Rows<'a> {
        Rows { data: self.k, stride: self.heads.key_row() }
    }

    fn values(&self) -> Rows<'a> {
        Rows { data: self.v, stride: self.heads.key_row() }
    }

    /// The blocks of query rows: the first row, how many, and the keys that the block sees.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..self.segment.query_len).step_by(BLOCK).map(|first| {
            let rows = BLOCK.min(self.segment.query_len - first);
            (first, rows, self.seen[first + rows - 1] as usize)
        })
    }

    /// `[query_len, group * dim]`.
    fn forward(&self) -> Vec<f32> {
        let (heads, columns) = (self.heads, self.heads.group() * self.heads.dim);
        let mut out = vec![0f32; self.segment.query_len * columns];
        let mut scores = vec![0f32; BLOCK.min(self.segment.query_len) * self.segment.key_len];
        for head in 0..heads.group() {
            for (first, rows, visible) in self.blocks() {
                self.probabilities(&mut scores, head, first, rows, visible);
                let out = &mut out[first * columns + head * heads.dim..];
                let scores = Rows { data: &scores, stride: visible };
                kernels::nn((rows, heads.dim, visible), out, columns, scores, self.values(), 1.0, false);
            }
        }
        out
    }

    /// Softmax of the scaled scores of a block of one head, `[rows, visible]`, zero beyond what a query sees.
    fn probabilities(&self, scores: &mut [f32], head: usize, first: usize, rows: usize, visible: usize) {
        let heads = self.heads;
        let q =
            Rows { data: &self.q[first * heads.query_row() + head * heads.dim..], stride: heads.query_row() };
        kernels::nt((rows, visible, heads.dim), scores, visible, q, self.keys(), heads.scale(), false);
        vectorised(
            #[inline(always)]
            || {
                for (scores, &seen) in scores.chunks_mut(visible).zip(&self.seen[first..first + rows]) {
                    let (seen, hidden) = scores.split_at_mut(seen as usize);
                    softmax(seen);
                    hidden.fill(0.0);
                }
            },
        );
    }

    /// Gradients of the part's queries `[query_len, group * dim]`, keys and values `[key_len, dim]`.
    fn backward(&self, out: &[f32], d_out: &[f32]) -> [Vec<f32>; 3] {
        let (heads, dim) = (self.heads, self.heads.dim);
        let (query_row, columns) = (heads.query_row(), heads.group() * dim);
        let start = Part::query_at(heads, self.segment, self.key_head);
        let (out, d_out) = (&out[start..], &d_out[start..]);
        let mut d_q = vec![0f32; self.segment.query_len * columns];
        let mut d_k = vec![0f32; self.segment.key_len * dim];
        let mut d_v = vec![0f32; self.segment.key_len * dim];
        let block = BLOCK.min(self.segment.query_len) * self.segment.key_len;
        let (mut scores, mut d_scores) = (vec![0f32; block], vec![0f32; block]);
        for head in 0..heads.group() {
            for (first, rows, visible) in self.blocks() {
                self.probabilities(&mut scores, head, first, rows, visible);
                let at = first * query_row + head * dim;
                let d_rows = Rows { data: &d_out[at..], stride: query_row };
                let q = Rows { data: &self.q[at..], stride: query_row };
                // dV += P^T . dOut, dP = dOut . V^T
                let probabilities = Rows { data: &scores, stride: visible };
                kernels::tn((visible, dim, rows), &mut d_v, dim, probabilities, d_rows, 1.0, true);
                kernels::nt((rows, visible, dim), &mut d_scores, visible, d_rows, self.values(), 1.0, false);
                // dS = P * (dP - sum(P * dP)), where the sum is that of Out * dOut
                vectorised(
                    #[inline(always)]
                    || {
                        let pairs = scores.chunks(visible).zip(d_scores.chunks_mut(visible));
                        for (row, (p, d)) in pairs.take(rows).enumerate() {
                            let at = at + row * query_row;
                            let shift = dot(&out[at..at + dim], &d_out[at..at + dim]);
                            d.iter_mut().zip(p).for_each(|(d, p)| *d = p * (*d - shift));
                        }
                    },
                );
                // dQ = dS . K, dK += dS^T . Q, both scaled
                let (scale, d_s) = (heads.scale(), Rows { data: &d_scores, stride: visible });
                let d_q = &mut d_q[first * columns + head * dim..];
                kernels::nn((rows, dim, visible), d_q, columns, d_s, self.keys(), scale, false);
                kernels::tn((visible, dim, rows), &mut d_k, dim, d_s, q, scale, true);
            }
        }
        [d_q, d_k, d_v]
    }
}
