//! Loops over slices, compiled for the processor that is found at run time, and the few functions of numbers
//! that they need.
//!
//! A reduction always has sixteen partial sums that are added in one order, so that every processor gives the
//! same bits here.

use pulp::Arch;

/// Partial results of a reduction.
const LANES: usize = 16;

/// Runs `work` compiled for the widest vectors of this processor. What it calls must be inlined into it.
#[inline(always)]
pub(crate) fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Work<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}

/// Folds a slice into sixteen partial results and those into one, in a fixed order.
#[inline(always)]
fn reduce(values: &[f32], start: f32, combine: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let mut lanes = [start; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = combine(*lane, value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = combine(*lane, value);
    }
    lanes.into_iter().reduce(combine).unwrap_or(start)
}

#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    reduce(values, 0.0, |x, y| x + y)
}

#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    reduce(values, f32::NEG_INFINITY, |x, y| if y > x { y } else { x })
}

/// Sum of products; of the shorter length.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (x_rest, y_rest) = (xs.remainder(), ys.remainder());
    for (x, y) in xs.zip(ys) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane += x * y;
    }
    lanes.into_iter().sum()
}

/// Sum of products of three; of the shortest length.
#[inline(always)]
pub(crate) fn dot3(x: &[f32], y: &[f32], z: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    for ((x, y), z) in x.chunks(LANES).zip(y.chunks(LANES)).zip(z.chunks(LANES)) {
        for (((lane, x), y), z) in lanes.iter_mut().zip(x).zip(y).zip(z) {
            *lane += x * y * z;
        }
    }
    lanes.into_iter().sum()
}

/// Softmax in place.
#[inline(always)]
pub(crate) fn softmax(values: &mut [f32]) {
    let max = max(values);
    values.iter_mut().for_each(|value| *value = exp(*value - max));
    let inverse = 1.0 / sum(values);
    values.iter_mut().for_each(|value| *value *= inverse);
}

/// `exp`, within 2 units in the last place for inputs up to 80.
///
/// Written so that the compiler turns it into vector instructions: the library's `exp` is a call an element,
/// and softmax and SiLU are where a small model spends its time outside matrix products. The range reduction
/// and the polynomial are Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer without a branch or a call.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // The integer stands in the low bits of the rounded number; a conversion would check its range.
    y * f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -8000..=8000 {
            let x = i as f32 / 100.0;
            let (ours, theirs) = (exp(x), (f64::from(x).exp()) as f32);
            let error = (ours - theirs).abs() / theirs;
            assert!(error < 2.4e-7, "exp({x}) = {ours}, expected {theirs}, relative error {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_of_any_length() {
        for len in [0, 1, 15, 16, 17, 100] {
            let values: Vec<f32> = (0..len).map(|i| ((i * 7) % 13) as f32 - 6.0).collect();
            let squares: f32 = values.iter().map(|x| x * x).sum();
            assert_eq!(sum(&values), values.iter().sum::<f32>(), "{len}");
            assert_eq!(dot(&values, &values), squares, "{len}");
            assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max), "{len}");
        }
        // Not a number is not hidden.
        assert!(sum(&[1.0, f32::NAN]).is_nan());
    }
}
