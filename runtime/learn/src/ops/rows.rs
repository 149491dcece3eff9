//! Operations that treat every row (token) alone: norm, rotary embedding, SwiGLU, cross-entropy.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, D, Device, InplaceOp1, Layout, Result, Tensor};
use rayon::prelude::*;

use super::fresh::{made, made_both};
use super::portable;
use super::values::Values;
use super::vector::{dot, dot3, exp, max, sum, vectorised};

/// Elements that one parallel task takes, about; below this the hand-over costs more than the work.
const TASK: usize = 1 << 14;

/// Rows of a task over rows of this width.
fn rows_a_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// `x / rms(x) * weight` for `x [.., width]`, `weight [width]`; the root mean square over the last dimension.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    if !super::has_kernels(x) {
        return portable::rms_norm(x, weight, eps);
    }
    let shape = x.shape();
    let (x, weight) = (Values::of(x)?, Values::of(weight)?);
    let width = weight.len();
    let out = made(x.len(), width * rows_a_task(width), |start, out| {
        vectorised(
            #[inline(always)]
            || {
                out.rows(
                    width,
                    #[inline(always)]
                    |row, out| {
                        let x = &x[start + row * width..][..width];
                        let inverse = inverse_rms(x, eps as f32);
                        out.fill(x.iter().zip(&*weight).map(|(x, w)| x * inverse * w))
                    },
                )
            },
        )
    });
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// Gradient of [`rms_norm`] for `x`.
pub(crate) fn rms_norm_backward(x: &Tensor, weight: &Tensor, d_out: &Tensor, eps: f64) -> Result<Tensor> {
    if !super::has_kernels(x) {
        return portable::rms_norm_backward(x, weight, d_out, eps);
    }
    let shape = x.shape();
    let (x, weight, d_out) = (Values::of(x)?, Values::of(weight)?, Values::of(d_out)?);
    let width = weight.len();
    let out = made(x.len(), width * rows_a_task(width), |start, out| {
        vectorised(
            #[inline(always)]
            || {
                out.rows(
                    width,
                    #[inline(always)]
                    |row, out| {
                        let at = start + row * width..start + (row + 1) * width;
                        let (x, d) = (&x[at.clone()], &d_out[at]);
                        let inverse = inverse_rms(x, eps as f32);
                        let shift = dot3(x, d, &weight) * inverse * inverse * inverse / width as f32;
                        let each = x.iter().zip(d).zip(&*weight);
                        out.fill(each.map(|((x, d), w)| d * w * inverse - x * shift))
                    },
                )
            },
        )
    });
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// Gradient of [`rms_norm`] for its weight: `[width]`, summed over all rows.
pub(crate) fn rms_norm_weight_gradient(x: &Tensor, d_out: &Tensor, eps: f64) -> Result<Tensor> {
    let ones = Tensor::ones(x.dim(D::Minus1)?, x.dtype(), x.device())?;
    let width = x.dim(D::Minus1)?;
    (rms_norm(x, &ones, eps)? * d_out)?.reshape(((), width))?.sum(0)
}

#[inline(always)]
fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt()
}

/// Rotary embedding of `[N, heads * dim]` by a table `[N, dim]` of each token's cosines then sines.
///
/// `inverse` turns the other way, which is also the gradient: a rotation's transpose.
pub(crate) fn rotate(x: &Tensor, table: &Tensor, inverse: bool) -> Result<Tensor> {
    if !super::has_kernels(x) {
        return portable::rotate(x, table, inverse);
    }
    let ((tokens, dim), shape) = (table.dims2()?, x.shape());
    let (x, table) = (Values::of(x)?, Values::of(table)?);
    if tokens == 0 || !x.len().is_multiple_of(tokens * dim) {
        candle_core::bail!("BUG: a rotary table of {tokens} tokens for {} values", x.len());
    }
    let (width, half) = (x.len() / tokens, dim / 2);
    let sign = if inverse { -1.0 } else { 1.0 };
    let out = made(x.len(), width * rows_a_task(width), |start, out| {
        vectorised(
            #[inline(always)]
            || {
                out.rows(
                    dim,
                    #[inline(always)]
                    |head, out| {
                        let at = start + head * dim;
                        let (x_low, x_high) = x[at..at + dim].split_at(half);
                        let (cos, sin) = table[at / width * dim..][..dim].split_at(half);
                        let (low, high) = out.halves();
                        let each = || x_low.iter().zip(x_high).zip(cos.iter().zip(sin));
                        let low = low.fill(each().map(|((x, y), (cos, sin))| x * cos - y * (sin * sign)));
                        low.and(high.fill(each().map(|((x, y), (cos, sin))| y * cos + x * (sin * sign))))
                    },
                )
            },
        )
    });
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// `x + y` of one shape.
///
/// Not the tensor library's: from 64K elements on that one uses a pool of threads that spin while they wait, which
/// on a machine with other work costs many times the addition.
pub(crate) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !super::has_kernels(x) {
        return x + y;
    }
    if x.shape() != y.shape() {
        candle_core::bail!("BUG: adding {:?} to {:?}", y.shape(), x.shape());
    }
    let shape = x.shape();
    let (x, y) = (Values::of(x)?, Values::of(y)?);
    let sum = made(x.len(), TASK, |start, out| {
        vectorised(
            #[inline(always)]
            || out.fill(x[start..].iter().zip(&y[start..]).map(|(x, y)| x + y)),
        )
    });
    Tensor::from_vec(sum, shape, &Device::Cpu)
}

/// `silu(gate) * up`, element by element.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if !super::has_kernels(gate) {
        return portable::swiglu(gate, up);
    }
    let shape = gate.shape();
    let (gate, up) = (Values::of(gate)?, Values::of(up)?);
    let out = made(gate.len(), TASK, |start, out| {
        vectorised(
            #[inline(always)]
            || {
                let each = gate[start..].iter().zip(&up[start..]);
                out.fill(each.map(|(gate, up)| gate / (1.0 + exp(-gate)) * up))
            },
        )
    });
    Tensor::from_vec(out, shape, &Device::Cpu)
}

/// Gradients of [`swiglu`] for `gate` and `up`.
pub(crate) fn swiglu_backward(gate: &Tensor, up: &Tensor, d_out: &Tensor) -> Result<(Tensor, Tensor)> {
    if !super::has_kernels(gate) {
        return portable::swiglu_backward(gate, up, d_out);
    }
    let shape = gate.shape();
    let (gate, up, d) = (Values::of(gate)?, Values::of(up)?, Values::of(d_out)?);
    let (d_gate, d_up) = made_both(gate.len(), TASK, |start, d_gate, d_up| {
        vectorised(
            #[inline(always)]
            || {
                let each = || gate[start..].iter().zip(&up[start..]).zip(&d[start..]);
                let slope = |((gate, up), d): ((&f32, &f32), &f32)| {
                    let sigmoid = 1.0 / (1.0 + exp(-gate));
                    d * up * (sigmoid + gate * sigmoid * (1.0 - sigmoid))
                };
                let silu = |((gate, _), d): ((&f32, &f32), &f32)| d * (gate / (1.0 + exp(-gate)));
                (d_gate.fill(each().map(slope)), d_up.fill(each().map(silu)))
            },
        )
    });
    Ok((Tensor::from_vec(d_gate, shape, &Device::Cpu)?, Tensor::from_vec(d_up, shape, &Device::Cpu)?))
}

/// For each row of `logits [M, V]`: the log-probability of its target, and whether the target is the arg-max.
/// Ties go to the lower id, as greedy decoding breaks them.
pub(crate) fn token_log_probs(logits: &Tensor, targets: &[u32]) -> Result<Vec<(f32, bool)>> {
    let (rows, vocab) = logits.dims2()?;
    check_targets(targets, rows, vocab)?;
    if !super::has_kernels(logits) {
        return portable::token_log_probs(logits, targets);
    }
    let logits = Values::of(logits)?;
    let rows = logits.par_chunks(vocab).zip(targets);
    Ok(rows
        .map(|(logits, &target)| {
            let (best, max) = arg_max(logits);
            let total = vectorised(
                #[inline(always)]
                || {
                    let terms: Vec<f32> = logits.iter().map(|logit| exp(logit - max)).collect();
                    sum(&terms)
                },
            );
            (logits[target as usize] - max - total.ln(), best == target as usize)
        })
        .collect())
}

/// The first largest value and its index.
pub(crate) fn arg_max(values: &[f32]) -> (usize, f32) {
    let best = vectorised(
        #[inline(always)]
        || max(values),
    );
    (values.iter().position(|&value| value == best).unwrap_or(0), best)
}

/// For each row of `logits [M, V]` and its target: the log-probability of the target, and the gradient of
/// `scale * cross-entropy` for the logits, `scale * (softmax - one_hot(target))`, `[M, V]`. It may take the logits'
/// own memory, so nobody else may hold them.
pub(crate) fn cross_entropy(logits: Tensor, targets: &[u32], scales: &[f32]) -> Result<(Vec<f32>, Tensor)> {
    let (rows, vocab) = logits.dims2()?;
    check_targets(targets, rows, vocab)?;
    check_targets(targets, scales.len(), vocab)?;
    if !super::has_kernels(&logits) {
        return portable::cross_entropy(&logits, targets, scales);
    }
    let gradient = CrossEntropy { targets, scales, log_probs: Mutex::new(Vec::new()) };
    logits.inplace_op1(&gradient)?;
    let log_probs = gradient.log_probs.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((log_probs, logits))
}

/// Turns logits into their gradient, in their own memory: they are the largest thing of a small batch.
struct CrossEntropy<'a> {
    targets: &'a [u32],
    scales: &'a [f32],
    log_probs: Mutex<Vec<f32>>,
}

impl InplaceOp1 for CrossEntropy<'_> {
    fn name(&self) -> &'static str {
        "selkie-cross-entropy"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (_, vocab) = layout.shape().dims2()?;
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("BUG: expected contiguous f32 logits")
        };
        let tasks = values[start..end].par_chunks_mut(vocab).zip(self.targets).zip(self.scales);
        let log_probs = tasks.map(|((row, &target), scale)| {
            vectorised(
                #[inline(always)]
                || {
                    let max = max(row);
                    let chosen = row[target as usize] - max;
                    row.iter_mut().for_each(|logit| *logit = exp(*logit - max));
                    let total = sum(row);
                    let factor = scale / total;
                    row.iter_mut().for_each(|term| *term *= factor);
                    row[target as usize] -= scale;
                    chosen - total.ln()
                },
            )
        });
        *self.log_probs.lock().unwrap_or_else(PoisonError::into_inner) = log_probs.collect();
        Ok(())
    }
}

fn check_targets(targets: &[u32], rows: usize, vocab: usize) -> Result<()> {
    if targets.len() != rows || targets.iter().any(|&target| target as usize >= vocab) {
        candle_core::bail!("BUG: {} targets for {rows} rows of {vocab} logits", targets.len());
    }
    Ok(())
}
