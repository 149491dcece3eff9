//! A frozen linear layer with a LoRA pair for each run of rows, forward and backward.
//!
//! `y = x . W^T + b`, and for the rows of each lane `y += scale * low . B^T` with `low = x . A^T`. With dropout `low`
//! is taken from `x` with some elements zeroed; which ones depends on a key, the row within its lane and the
//! column, so that nothing has to be kept for the backward pass.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::fresh::made_by;
use super::kernels::{self, Rows};
use super::values::Values;
use super::vector::vectorised;
use crate::lora::LoraPair;
use crate::weights::Matrix;

/// Rows of one parallel task over a LoRA's small products.
const TASK_ROWS: usize = 64;

/// The rows of one adapter in a pass, for one layer.
#[derive(Clone, Copy)]
pub(crate) struct Update<'a> {
    /// First row.
    pub(crate) start: usize,
    /// Rows.
    pub(crate) len: usize,
    /// `None` where the adapter leaves this layer alone.
    pub(crate) pair: Option<&'a LoraPair>,
    /// Set while training with dropout.
    pub(crate) dropout: Option<Dropout>,
}

/// Which elements of a LoRA's input are zeroed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dropout {
    /// Share of the elements, in 0..1.
    pub(crate) share: f64,
    /// Decides which.
    pub(crate) key: u64,
    /// The number of the first row in the adapter's whole batch.
    pub(crate) first: usize,
    /// The same among the rows that are asked for.
    pub(crate) first_asked: usize,
}

/// What a layer's backward pass makes.
pub(crate) struct LinearGradients {
    /// For the input, if it was asked for.
    pub(crate) x: Option<Tensor>,
    /// `(dA, dB)` by update; `None` where there is no pair.
    pub(crate) pairs: Vec<Option<(Tensor, Tensor)>>,
}

impl Dropout {
    /// 0 or `1 / (1 - share)` for every element of `[rows, width]`.
    pub(crate) fn factors(self, rows: usize, width: usize) -> Vec<f32> {
        let keep = (1.0 / (1.0 - self.share)) as f32;
        let threshold = (self.share * f64::from(u32::MAX)) as u32;
        let factor = |at: usize| {
            let mut z = self.key.wrapping_add((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            if ((z >> 32) as u32) < threshold { 0.0 } else { keep }
        };
        (self.first * width..(self.first + rows) * width).map(factor).collect()
    }
}

/// `[N, out]`, and `x . A^T` (`[len, rank]`) of every update that has a pair.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Matrix,
    bias: Option<&Tensor>,
    updates: &[Update<'_>],
) -> Result<(Tensor, Vec<Option<Tensor>>)> {
    if !super::has_kernels(x) {
        return super::portable::linear(x, weight, bias, updates);
    }
    let (rows, input) = x.dims2()?;
    let (x, out) = (Values::of(x)?, weight.out());
    let mut y = weight.with(|frozen| {
        #[expect(unsafe_code, reason = "the product writes its whole result")]
        // SAFETY: it does.
        unsafe {
            made_by(rows * out, |y| kernels::project(&x, frozen, y))
        }
    })?;
    if let Some(bias) = bias {
        let bias = Values::of(bias)?;
        y.par_chunks_mut(out).with_min_len(TASK_ROWS).for_each(|row| {
            row.iter_mut().zip(&*bias).for_each(|(y, b)| *y += b);
        });
    }
    let mut lows = Vec::with_capacity(updates.len());
    for update in updates {
        let Some(pair) = update.pair else {
            lows.push(None);
            continue;
        };
        let rank = pair.a.dim(0)?;
        let (a, b) = (Values::of(&pair.a)?, Values::of(&pair.b)?);
        let x = &x[update.start * input..(update.start + update.len) * input];
        let dropped = update.dropout.map(|dropout| dropped(x, dropout, input));
        let x = dropped.as_deref().unwrap_or(x);
        let y = &mut y[update.start * out..(update.start + update.len) * out];
        let mut low = vec![0f32; update.len * rank];
        let tasks = x.par_chunks(TASK_ROWS * input).zip(low.par_chunks_mut(TASK_ROWS * rank));
        tasks.zip(y.par_chunks_mut(TASK_ROWS * out)).for_each(|((x, low), y)| {
            let rows = x.len() / input;
            let (x, a, b) = (by(x, input), by(&a, input), by(&b, rank));
            kernels::nt((rows, rank, input), low, rank, x, a, 1.0, false);
            kernels::nt((rows, out, rank), y, out, by(low, rank), b, pair.scale as f32, true);
        });
        lows.push(Some(Tensor::from_vec(low, (update.len, rank), &Device::Cpu)?));
    }
    Ok((Tensor::from_vec(y, (rows, out), &Device::Cpu)?, lows))
}

/// Gradients of [`linear`] for its input and pairs, given what it returned as `lows`.
pub(crate) fn linear_backward(
    x: &Tensor,
    d_out: &Tensor,
    weight: &Matrix,
    updates: &[Update<'_>],
    lows: &[Option<Tensor>],
    wants_input: bool,
) -> Result<LinearGradients> {
    if !super::has_kernels(x) {
        return super::portable::linear_backward(x, d_out, weight, updates, lows, wants_input);
    }
    let ((rows, input), out) = (x.dims2()?, weight.out());
    let (x, d_out) = (Values::of(x)?, Values::of(d_out)?);
    let mut d_x = match wants_input {
        false => Vec::new(),
        true => weight.with(|frozen| {
            #[expect(unsafe_code, reason = "the product writes its whole result")]
            // SAFETY: it does.
            unsafe {
                made_by(rows * input, |d_x| kernels::project_back(&d_out, frozen, d_x))
            }
        })?,
    };
    let mut pairs = Vec::with_capacity(updates.len());
    for (update, low) in updates.iter().zip(lows) {
        let (Some(pair), Some(low)) = (update.pair, low) else {
            pairs.push(None);
            continue;
        };
        let span = |width: usize| update.start * width..(update.start + update.len) * width;
        let d_x = wants_input.then(|| &mut d_x[span(input)]);
        pairs.push(Some(update_backward(
            &x[span(input)],
            &d_out[span(out)],
            pair,
            &Values::of(low)?,
            update.dropout,
            d_x,
        )?));
    }
    let x = match wants_input {
        true => Some(Tensor::from_vec(d_x, (rows, input), &Device::Cpu)?),
        false => None,
    };
    Ok(LinearGradients { x, pairs })
}

/// Gradients of one pair over the rows of its lane, and what it adds to the input's.
fn update_backward(
    x: &[f32],
    d_out: &[f32],
    pair: &LoraPair,
    low: &[f32],
    dropout: Option<Dropout>,
    d_x: Option<&mut [f32]>,
) -> Result<(Tensor, Tensor)> {
    let ((rank, input), out) = (pair.a.dims2()?, pair.b.dim(0)?);
    let (rows, scale) = (x.len() / input, pair.scale as f32);
    let (a, b) = (Values::of(&pair.a)?, Values::of(&pair.b)?);
    let mut d_low = vec![0f32; rows * rank];
    let tasks = d_out.par_chunks(TASK_ROWS * out).zip(d_low.par_chunks_mut(TASK_ROWS * rank));
    tasks.for_each(|(d_out, d_low)| {
        let rows = d_out.len() / out;
        kernels::nn((rows, rank, out), d_low, rank, by(d_out, out), by(&b, rank), scale, false);
    });
    let factors = dropout.map(|dropout| dropout.factors(rows, input));
    if let Some(d_x) = d_x {
        let tasks = d_x.par_chunks_mut(TASK_ROWS * input).zip(d_low.par_chunks(TASK_ROWS * rank));
        tasks.enumerate().for_each(|(task, (d_x, d_low))| {
            let (rows, d_low) = (d_x.len() / input, by(d_low, rank));
            let Some(factors) = &factors else {
                return kernels::nn((rows, input, rank), d_x, input, d_low, by(&a, input), 1.0, true);
            };
            let mut change = vec![0f32; d_x.len()];
            kernels::nn((rows, input, rank), &mut change, input, d_low, by(&a, input), 1.0, false);
            let factors = &factors[task * TASK_ROWS * input..];
            d_x.iter_mut().zip(&change).zip(factors).for_each(|((d_x, change), f)| *d_x += change * f);
        });
    }
    let dropped = factors.map(|factors| product(x, &factors));
    let x = dropped.as_deref().unwrap_or(x);
    // Both are made with the long side as rows, so that tasks have rows of their own; dA is turned afterwards.
    let d_a = long_product(x, input, &d_low, rank, rows, 1.0);
    let d_b = long_product(d_out, out, low, rank, rows, scale);
    let d_a = Tensor::from_vec(transposed(&d_a, rank), (rank, input), &Device::Cpu)?;
    Ok((d_a, Tensor::from_vec(d_b, (out, rank), &Device::Cpu)?))
}

/// `scale * long^T . short`, `[width, rank]`, of `long [rows, width]` and `short [rows, rank]`.
fn long_product(long: &[f32], width: usize, short: &[f32], rank: usize, rows: usize, scale: f32) -> Vec<f32> {
    const TASK_COLUMNS: usize = 256;
    let mut product = vec![0f32; width * rank];
    product.par_chunks_mut(TASK_COLUMNS * rank).enumerate().for_each(|(task, product)| {
        let columns = product.len() / rank;
        let long = Rows { data: &long[task * TASK_COLUMNS..], stride: width };
        kernels::tn((columns, rank, rows), product, rank, long, by(short, rank), scale, false);
    });
    product
}

fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    let mut turned = vec![0f32; values.len()];
    for (row, values) in values.chunks(columns).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            turned[column * rows + row] = value;
        }
    }
    turned
}

fn dropped(x: &[f32], dropout: Dropout, width: usize) -> Vec<f32> {
    product(x, &dropout.factors(x.len() / width, width))
}

fn product(x: &[f32], y: &[f32]) -> Vec<f32> {
    vectorised(
        #[inline(always)]
        || x.iter().zip(y).map(|(x, y)| x * y).collect(),
    )
}

fn by(data: &[f32], stride: usize) -> Rows<'_> {
    Rows { data, stride }
}
