//! Products with few rows: the weight is streamed once and not packed.
//!
//! Order of summation: [`dot`] keeps one chain per lane over the whole inner dimension, then sums the lanes;
//! [`axpy`] is one chain over the inner dimension that begins with what `dst` holds. Neither depends on which
//! rows, how many, or which columns are computed together.
#![expect(unsafe_code, reason = "streaming kernels work on pointers")]

use super::product::Product;
use super::simd::{Element, Simd};

/// Weight rows per tile of [`dot`].
const DOT_STREAMS: usize = 4;
/// Weight rows per pass of [`axpy`].
const AXPY_STREAMS: usize = 8;
/// The most rows of the two kernels.
pub(super) const MOST_ROWS: usize = 8;

/// `dst[m, n] = scale * left[m, k] . right[n, k]^T (+ dst)`, both sides with rows along `k`, `left` in f32.
///
/// # Safety
/// As for [`super::product::product`]; `p.transposed` is ignored.
#[inline(always)]
pub(super) unsafe fn dot<S: Simd, E: Element>(p: &Product) {
    let whole = p.n / DOT_STREAMS * DOT_STREAMS;
    for column in (0..whole).step_by(DOT_STREAMS) {
        // SAFETY: the columns are in the shape.
        unsafe { dot_rows::<S, E, DOT_STREAMS>(p, column) };
    }
    for column in whole..p.n {
        // SAFETY: as above.
        unsafe { dot_rows::<S, E, 1>(p, column) };
    }
}

/// All rows against `N` weight rows from `column` on.
#[inline(always)]
unsafe fn dot_rows<S: Simd, E: Element, const N: usize>(p: &Product, column: usize) {
    let mut row = 0;
    // SAFETY: the tiles below cover the rows of the shape.
    unsafe {
        let tiles = p.m.div_ceil(S::DOT_ROWS);
        for tile in 0..tiles {
            let rows = (tile + 1) * p.m / tiles - row;
            match rows {
                1 => dot_tile::<S, E, 1, N>(p, row, column),
                2 => dot_tile::<S, E, 2, N>(p, row, column),
                3 => dot_tile::<S, E, 3, N>(p, row, column),
                4 => dot_tile::<S, E, 4, N>(p, row, column),
                _ => {
                    dot_tile::<S, E, 2, N>(p, row, column);
                    for row in row + 2..row + rows {
                        dot_tile::<S, E, 1, N>(p, row, column);
                    }
                }
            }
            row += rows;
        }
    }
}

/// One tile of `M` rows by `N` weight rows.
#[inline(always)]
unsafe fn dot_tile<S: Simd, E: Element, const M: usize, const N: usize>(
    p: &Product,
    row: usize,
    column: usize,
) {
    // SAFETY: the tile is in the shape; prefetches may point anywhere.
    unsafe {
        let x = p.left.cast::<f32>().add(row * p.left_stride);
        let w = p.right.cast::<E>().add(column * p.right_stride);
        let next = w.wrapping_add(N * p.right_stride);
        let fetch = row == 0 && p.n > 2 * DOT_STREAMS;
        let mut acc = [[S::zero(); N]; M];
        let whole = p.k / S::LANES * S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            let (mut left, mut right) = ([S::zero(); M], [S::zero(); N]);
            for (i, slot) in left.iter_mut().enumerate() {
                *slot = S::load(x.add(i * p.left_stride + at));
            }
            for (j, slot) in right.iter_mut().enumerate() {
                *slot = E::load::<S>(w.add(j * p.right_stride + at));
                if fetch {
                    S::prefetch(next.wrapping_add(j * p.right_stride + at).cast());
                }
            }
            acc = dot_step::<S, M, N>(acc, left, right);
        }
        if whole < p.k {
            let (mut left, mut right) = ([S::zero(); M], [S::zero(); N]);
            for (i, slot) in left.iter_mut().enumerate() {
                *slot = S::load_first(x.add(i * p.left_stride + whole), p.k - whole);
            }
            for (j, slot) in right.iter_mut().enumerate() {
                *slot = E::load_first::<S>(w.add(j * p.right_stride + whole), p.k - whole);
            }
            acc = dot_step::<S, M, N>(acc, left, right);
        }
        for (i, acc) in acc.iter().enumerate() {
            let to = p.dst.add((row + i) * p.dst_stride + column);
            for (j, &sums) in acc.iter().enumerate() {
                let sum = p.scale * S::sum(sums);
                *to.add(j) = if p.add { *to.add(j) + sum } else { sum };
            }
        }
    }
}

/// One vector of steps of a tile.
#[inline(always)]
unsafe fn dot_step<S: Simd, const M: usize, const N: usize>(
    mut acc: [[S::V; N]; M],
    left: [S::V; M],
    right: [S::V; N],
) -> [[S::V; N]; M] {
    for i in 0..M {
        for j in 0..N {
            // SAFETY: the caller has the features of `S`.
            acc[i][j] = unsafe { S::mul_add(left[i], right[j], acc[i][j]) };
        }
    }
    acc
}

/// `dst[m, n] = scale * left[m, k] . right[k, n] (+ dst)`: `left` in f32 along `k`, `right` across `k`, at most
/// [`MOST_ROWS`] rows.
///
/// # Safety
/// As for [`super::product::product`]; `p.transposed` is ignored.
#[inline(always)]
pub(super) unsafe fn axpy<S: Simd, E: Element>(p: &Product) {
    // SAFETY: all parts are in the shape.
    unsafe {
        if !p.add {
            for row in 0..p.m {
                p.dst.add(row * p.dst_stride).write_bytes(0, p.n);
            }
        }
        for step in (0..p.k).step_by(AXPY_STREAMS) {
            let steps = AXPY_STREAMS.min(p.k - step);
            let mut left = [[0.0; AXPY_STREAMS]; MOST_ROWS];
            for (i, left) in left.iter_mut().enumerate().take(p.m) {
                for (j, slot) in left.iter_mut().enumerate().take(steps) {
                    *slot = p.scale * *p.left.cast::<f32>().add(i * p.left_stride + step + j);
                }
            }
            let mut row = 0;
            while row < p.m {
                let rows = S::AXPY_ROWS.min(p.m - row);
                match rows {
                    8.. => axpy_rows::<S, E, 8>(p, &left, step, steps, row),
                    4.. => axpy_rows::<S, E, 4>(p, &left, step, steps, row),
                    2.. => axpy_rows::<S, E, 2>(p, &left, step, steps, row),
                    _ => axpy_rows::<S, E, 1>(p, &left, step, steps, row),
                }
                row += if rows >= 8 {
                    8
                } else if rows >= 4 {
                    4
                } else if rows >= 2 {
                    2
                } else {
                    1
                };
            }
        }
    }
}

/// Adds `steps` steps of the inner dimension to `M` rows of `dst`.
#[inline(always)]
unsafe fn axpy_rows<S: Simd, E: Element, const M: usize>(
    p: &Product,
    left: &[[f32; AXPY_STREAMS]; MOST_ROWS],
    step: usize,
    steps: usize,
    row: usize,
) {
    // SAFETY: rows, steps and columns are in the shape; prefetches may point anywhere.
    unsafe {
        let w = p.right.cast::<E>().add(step * p.right_stride);
        let ahead = if row == 0 { AXPY_STREAMS * p.right_stride } else { 0 };
        let dst = p.dst.add(row * p.dst_stride);
        let pair = 2 * S::LANES;
        let whole = p.n / pair * pair;
        for column in (0..whole).step_by(pair) {
            let mut acc = [[S::zero(); 2]; M];
            for (i, acc) in acc.iter_mut().enumerate() {
                let from = dst.add(i * p.dst_stride + column);
                *acc = [S::load(from), S::load(from.add(S::LANES))];
            }
            for j in 0..steps {
                let from = w.add(j * p.right_stride + column);
                let right = [E::load::<S>(from), E::load::<S>(from.add(S::LANES))];
                if ahead > 0 {
                    S::prefetch(from.wrapping_add(ahead).cast());
                    if pair * size_of::<E>() > 64 {
                        S::prefetch(from.wrapping_add(ahead + S::LANES).cast());
                    }
                }
                for (i, acc) in acc.iter_mut().enumerate() {
                    let left = S::splat(left[row + i][j]);
                    *acc = [S::mul_add(left, right[0], acc[0]), S::mul_add(left, right[1], acc[1])];
                }
            }
            for (i, acc) in acc.iter().enumerate() {
                let to = dst.add(i * p.dst_stride + column);
                S::store(to, acc[0]);
                S::store(to.add(S::LANES), acc[1]);
            }
        }
        for column in (whole..p.n).step_by(S::LANES) {
            let some = S::LANES.min(p.n - column);
            for i in 0..M {
                let to = dst.add(i * p.dst_stride + column);
                let mut acc = S::load_first(to, some);
                for (j, &left) in left[row + i].iter().enumerate().take(steps) {
                    let right = E::load_first::<S>(w.add(j * p.right_stride + column), some);
                    acc = S::mul_add(S::splat(left), right, acc);
                }
                S::store_first(to, acc, some);
            }
        }
    }
}
