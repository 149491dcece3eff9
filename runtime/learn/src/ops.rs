//! The operations of a decoder that a tensor library lacks or makes without a gradient, as custom operations
//! on candle tensors: one code path for every device, each with a hand-written backward where training needs
//! one.
//!
//! Here is the arithmetic and nothing else: no parameter names, no graph. Rows are tokens. Results depend on
//! neither the number of threads nor how sequences are packed beside each other, except through the order in
//! which a matrix product sums.

mod attention;
mod gemm;
mod rows;

pub(crate) use attention::{Heads, Segment, attention, attention_backward};
pub(crate) use rows::{
    Rope, add, arg_max, cross_entropy_gradient, rms_norm, rms_norm_backward, rms_norm_weight_gradient,
    swiglu, swiglu_backward, token_log_probs,
};

use candle_core::{CpuStorage, Layout, Result};

/// The elements of a contiguous f32 tensor.
fn f32_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(data) = storage else { candle_core::bail!("expected f32 data") };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => candle_core::bail!("expected contiguous data"),
    }
}

/// `exp` of every element, within 2 units in the last place for inputs up to 80.
///
/// Written so that the compiler turns it into vector instructions: the library's `exp` is a call an element,
/// and softmax and SiLU are where a small model spends its time outside matrix products. The range reduction
/// and the polynomial are Cephes' `expf`.
fn exp_in_place(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = exp(*value));
}

#[inline(always)]
fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer without a branch or a call.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * LOG2_E + ROUND) - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    y * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::exp;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -8000..=8000 {
            let x = i as f32 / 100.0;
            let (ours, theirs) = (exp(x), (f64::from(x).exp()) as f32);
            let error = (ours - theirs).abs() / theirs;
            assert!(error < 2.4e-7, "exp({x}) = {ours}, expected {theirs}, relative error {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 1e-37);
    }
}
