//! Operations that treat every row (token) alone: norm, rotary embedding, SwiGLU, cross-entropy.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, InplaceOp1, Layout, Result, Shape, Tensor,
};
use rayon::prelude::*;

use super::{exp, exp_in_place, f32_slice};

/// Rows that one parallel task takes; below this the hand-over costs more than the work.
const ROWS_A_TASK: usize = 64;

/// `x / rms(x) * weight` for `x [.., width]`, `weight [width]`; the root mean square over the last dimension.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op2_no_bwd(weight, &RmsNorm { eps: eps as f32 })
}

/// Gradient of [`rms_norm`] for `x`.
pub(crate) fn rms_norm_backward(x: &Tensor, weight: &Tensor, d_out: &Tensor, eps: f64) -> Result<Tensor> {
    x.apply_op3_no_bwd(weight, d_out, &RmsNormBackward { eps: eps as f32 })
}

/// Gradient of [`rms_norm`] for its weight: `[width]`, summed over all rows.
pub(crate) fn rms_norm_weight_gradient(x: &Tensor, d_out: &Tensor, eps: f64) -> Result<Tensor> {
    let ones = Tensor::ones(x.dim(D::Minus1)?, x.dtype(), x.device())?;
    let width = x.dim(D::Minus1)?;
    (rms_norm(x, &ones, eps)? * d_out)?.reshape(((), width))?.sum(0)
}

struct RmsNorm {
    eps: f32,
}

fn inverse_rms(x: &[f32], eps: f32) -> f32 {
    let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    1.0 / (mean + eps).sqrt()
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "selkie-rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (f32_slice(x, xl)?, f32_slice(weight, wl)?);
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        out.par_chunks_mut(width * ROWS_A_TASK).zip(x.par_chunks(width * ROWS_A_TASK)).for_each(
            |(out, x)| {
                for (out, x) in out.chunks_mut(width).zip(x.chunks(width)) {
                    let inverse = inverse_rms(x, self.eps);
                    out.iter_mut().zip(x).zip(weight).for_each(|((out, x), w)| *out = x * inverse * w);
                }
            },
        );
        Ok((CpuStorage::F32(out), xl.shape().clone()))
    }
}

struct RmsNormBackward {
    eps: f32,
}

impl CustomOp3 for RmsNormBackward {
    fn name(&self) -> &'static str {
        "selkie-rms-norm-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        weight: &CpuStorage,
        wl: &Layout,
        d_out: &CpuStorage,
        dl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight, d_out) = (f32_slice(x, xl)?, f32_slice(weight, wl)?, f32_slice(d_out, dl)?);
        let width = weight.len();
        let mut out = vec![0f32; x.len()];
        let task = width * ROWS_A_TASK;
        out.par_chunks_mut(task).zip(x.par_chunks(task)).zip(d_out.par_chunks(task)).for_each(
            |((out, x), d)| {
                for ((out, x), d) in out.chunks_mut(width).zip(x.chunks(width)).zip(d.chunks(width)) {
                    let inverse = inverse_rms(x, self.eps);
                    let dot: f32 = x.iter().zip(d).zip(weight).map(|((x, d), w)| x * d * w).sum();
                    let shift = dot * inverse * inverse * inverse / width as f32;
                    for (((out, x), d), w) in out.iter_mut().zip(x).zip(d).zip(weight) {
                        *out = d * w * inverse - x * shift;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(out), xl.shape().clone()))
    }
}

/// Rotary embedding of `[N, heads * dim]` by a table `[N, dim]` of each token's cosines then sines.
///
/// `INVERSE` turns the other way, which is also the gradient: a rotation's transpose.
pub(crate) struct Rope {
    pub(crate) inverse: bool,
}

impl Rope {
    pub(crate) fn apply(x: &Tensor, table: &Tensor, inverse: bool) -> Result<Tensor> {
        x.apply_op2_no_bwd(table, &Rope { inverse })
    }
}

impl CustomOp2 for Rope {
    fn name(&self) -> &'static str {
        "selkie-rope"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        table: &CpuStorage,
        tl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, table) = (f32_slice(x, xl)?, f32_slice(table, tl)?);
        let (tokens, dim) = tl.shape().dims2()?;
        if tokens == 0 || !x.len().is_multiple_of(tokens * dim) {
            candle_core::bail!("BUG: a rotary table of {tokens} tokens for {} values", x.len());
        }
        let (width, half) = (x.len() / tokens, dim / 2);
        let sign = if self.inverse { -1.0 } else { 1.0 };
        let mut out = vec![0f32; x.len()];
        out.par_chunks_mut(width)
            .zip(x.par_chunks(width))
            .zip(table.par_chunks(dim))
            .with_min_len(ROWS_A_TASK)
            .for_each(|((out, x), table)| {
                let (cos, sin) = table.split_at(half);
                for (out, x) in out.chunks_mut(dim).zip(x.chunks(dim)) {
                    let ((low, high), (x_low, x_high)) = (out.split_at_mut(half), x.split_at(half));
                    for i in 0..half {
                        let sin = sin[i] * sign;
                        low[i] = x_low[i] * cos[i] - x_high[i] * sin;
                        high[i] = x_high[i] * cos[i] + x_low[i] * sin;
                    }
                }
            });
        Ok((CpuStorage::F32(out), xl.shape().clone()))
    }
}

/// `x + y` of one shape.
///
/// Not the tensor library's: from 64K elements on that one uses a pool of threads that spin while they wait, which
/// on a machine with other work costs many times the addition.
pub(crate) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.apply_op2_no_bwd(y, &Add)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "selkie-add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        y: &CpuStorage,
        yl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, y) = (f32_slice(x, xl)?, f32_slice(y, yl)?);
        if xl.shape() != yl.shape() {
            candle_core::bail!("BUG: adding {:?} to {:?}", yl.shape(), xl.shape());
        }
        Ok((CpuStorage::F32(x.iter().zip(y).map(|(x, y)| x + y).collect()), xl.shape().clone()))
    }
}

/// `silu(gate) * up`, element by element.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2_no_bwd(up, &Swiglu)
}

/// Gradients of [`swiglu`] for `gate` and `up`.
pub(crate) fn swiglu_backward(gate: &Tensor, up: &Tensor, d_out: &Tensor) -> Result<(Tensor, Tensor)> {
    let both = gate.apply_op3_no_bwd(up, d_out, &SwigluBackward)?;
    Ok((both.get(0)?.reshape(gate.shape())?, both.get(1)?.reshape(gate.shape())?))
}

struct Swiglu;

impl CustomOp2 for Swiglu {
    fn name(&self) -> &'static str {
        "selkie-swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gl: &Layout,
        up: &CpuStorage,
        ul: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (f32_slice(gate, gl)?, f32_slice(up, ul)?);
        let mut out = vec![0f32; gate.len()];
        let task = 1 << 14;
        out.par_chunks_mut(task).zip(gate.par_chunks(task)).zip(up.par_chunks(task)).for_each(
            |((out, gate), up)| {
                for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                    *out = gate / (1.0 + exp(-gate)) * up;
                }
            },
        );
        Ok((CpuStorage::F32(out), gl.shape().clone()))
    }
}

struct SwigluBackward;

impl CustomOp3 for SwigluBackward {
    fn name(&self) -> &'static str {
        "selkie-swiglu-backward"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        gl: &Layout,
        up: &CpuStorage,
        ul: &Layout,
        d: &CpuStorage,
        dl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up, d) = (f32_slice(gate, gl)?, f32_slice(up, ul)?, f32_slice(d, dl)?);
        let mut both = vec![0f32; 2 * gate.len()];
        let (d_gate, d_up) = both.split_at_mut(gate.len());
        let task = 1 << 14;
        d_gate
            .par_chunks_mut(task)
            .zip(d_up.par_chunks_mut(task))
            .zip(gate.par_chunks(task))
            .zip(up.par_chunks(task))
            .zip(d.par_chunks(task))
            .for_each(|((((d_gate, d_up), gate), up), d)| {
                for i in 0..d.len() {
                    let sigmoid = 1.0 / (1.0 + exp(-gate[i]));
                    let silu = gate[i] * sigmoid;
                    d_up[i] = d[i] * silu;
                    d_gate[i] = d[i] * up[i] * (sigmoid + silu * (1.0 - sigmoid));
                }
            });
        Ok((CpuStorage::F32(both), Shape::from((2, gate.len()))))
    }
}

/// For each row of `logits [M, V]`: the log-probability of its target, and 1 where the target is the arg-max
/// (else 0): `[M, 2]`. Ties go to the lower id, as greedy decoding breaks them.
pub(crate) fn token_log_probs(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    logits.apply_op1_no_bwd(&TokenLogProbs { targets })
}

struct TokenLogProbs<'a> {
    targets: &'a [u32],
}

impl CustomOp1 for TokenLogProbs<'_> {
    fn name(&self) -> &'static str {
        "selkie-token-log-probs"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = f32_slice(logits, layout)?;
        let (rows, vocab) = layout.shape().dims2()?;
        check_targets(self.targets, rows, vocab)?;
        let mut out = vec![0f32; rows * 2];
        out.par_chunks_mut(2)
            .zip(logits.par_chunks(vocab))
            .zip(self.targets)
            .with_min_len(ROWS_A_TASK)
            .for_each(|((out, logits), &target)| {
                let (best, max) = arg_max(logits);
                let mut terms: Vec<f32> = logits.iter().map(|logit| logit - max).collect();
                exp_in_place(&mut terms);
                let total: f32 = terms.iter().sum();
                out[0] = logits[target as usize] - max - total.ln();
                out[1] = f32::from(u8::from(best == target as usize));
            });
        Ok((CpuStorage::F32(out), Shape::from((rows, 2))))
    }
}

/// The first largest value and its index.
pub(crate) fn arg_max(values: &[f32]) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (index, &value) in values.iter().enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best
}

/// Turns `logits [M, V]` in place into the gradient of `scale * sum(cross-entropy)`:
/// `scale * (softmax - one_hot(target))`.
pub(crate) fn cross_entropy_gradient(logits: &Tensor, targets: &[u32], scale: f32) -> Result<()> {
    logits.inplace_op1(&CrossEntropyGradient { targets, scale })
}

struct CrossEntropyGradient<'a> {
    targets: &'a [u32],
    scale: f32,
}

impl InplaceOp1 for CrossEntropyGradient<'_> {
    fn name(&self) -> &'static str {
        "selkie-cross-entropy-gradient"
    }

    fn cpu_fwd(&self, logits: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (rows, vocab) = layout.shape().dims2()?;
        check_targets(self.targets, rows, vocab)?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("logits must be contiguous")
        };
        let CpuStorage::F32(logits) = logits else { candle_core::bail!("logits are f32") };
        logits[start..end].par_chunks_mut(vocab).zip(self.targets).with_min_len(ROWS_A_TASK).for_each(
            |(logits, &target)| {
                let (_, max) = arg_max(logits);
                logits.iter_mut().for_each(|logit| *logit -= max);
                exp_in_place(logits);
                let factor = self.scale / logits.iter().sum::<f32>();
                logits.iter_mut().for_each(|logit| *logit *= factor);
                logits[target as usize] -= self.scale;
            },
        );
        Ok(())
    }
}

fn check_targets(targets: &[u32], rows: usize, vocab: usize) -> Result<()> {
    if targets.len() != rows || targets.iter().any(|&target| target as usize >= vocab) {
        candle_core::bail!("BUG: {} targets for {rows} rows of {vocab} logits", targets.len());
    }
    Ok(())
}
