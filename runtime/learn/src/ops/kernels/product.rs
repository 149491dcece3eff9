//! The blocked product: one algorithm for every vector unit, element type and orientation.
//!
//! `dst[m, n] = left . right`, where an element of the left side is broadcast and meets vectors of the right
//! side. Both sides are packed, block by block, into buffers of the thread:
//! - the right side into panels of two vectors by `k` steps (transposed on the way when its rows run along `k`),
//! - the left side either as rows along `k` ("row form": a plain copy, also of half-precision weights) or as
//!   `TILE_ROWS` elements per step ("column form", when its rows run across `k`).
//!
//! So neither orientation of a frozen weight needs a transpose: `x . W^T` is computed as `(W . x^T)^T` with
//! the weight on the left, and `dy . W` with the weight on the right.
//!
//! Order of summation: `k` is cut into equal blocks that depend on `k` alone; in a block, one chain of fused
//! multiply-adds in the order of `k`; blocks are added in order. The shape of a tile never changes it.
#![expect(unsafe_code, reason = "packing and register tiles work on pointers")]

use super::buffers;
use super::simd::{Element, MOST_LANES, Simd};

/// Rows of the left side that are packed at a time.
const LEFT_ROWS: usize = 256;
/// Columns of the right side that are packed at a time.
const RIGHT_COLUMNS: usize = 512;
/// Steps between two rounds of prefetches.
const ROUND: usize = 16;

/// How the rows of a side lie.
pub(super) const ALONG: bool = false;
/// The rows of the side run across `k`: element (step, index) is at `step * stride + index`.
pub(super) const ACROSS: bool = true;

/// A product of two sides; sizes in elements. The element types and the directions of the sides are those of
/// the instance of [`product`] that takes it.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) left: *const u8,
    pub(super) left_stride: usize,
    pub(super) right: *const u8,
    pub(super) right_stride: usize,
    pub(super) dst: *mut f32,
    pub(super) dst_stride: usize,
    /// Element (i, j) of the product goes to `dst[j * dst_stride + i]`.
    pub(super) transposed: bool,
    pub(super) scale: f32,
    pub(super) add: bool,
    /// Which side is a large weight.
    pub(super) weight: Weight,
}

/// Which side is a large weight: the left one is fetched ahead of its use; for the right one, whose rows are
/// long runs already, that was measured to cost more than it gives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Neither,
    Left,
    Right,
}

/// Lines to prefetch: in every round, `count` lines at a distance of
/// `stride` bytes, then `step` bytes on.
#[derive(Clone, Copy)]
pub(super) struct Fetch {
    at: *const u8,
    count: usize,
    stride: usize,
    step: usize,
}

const NO_FETCH: Fetch = Fetch { at: std::ptr::null(), count: 0, stride: 0, step: 0 };

/// The left side of a tile is packed in row form.
pub(super) const ROWS: u8 = 0;
/// The left side of a tile is in column form, packed or where it lies.
pub(super) const STEPS: u8 = 1;
/// The left side of a tile is in row form where it lies.
pub(super) const ROWS_HERE: u8 = 2;

/// One register tile: `c[rows, columns] = scale * a . b (+ c)` over `k` steps.
pub(super) struct Micro {
    k: usize,
    a: *const f32,
    /// The distance between rows ([`ROWS_HERE`]) or steps ([`STEPS`]) of the left side.
    a_stride: usize,
    b: *const f32,
    /// The distance between steps of the right side.
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
    columns: usize,
    scale: f32,
    add: bool,
    fetch: Fetch,
}

/// Repeats the body for `$i` in `0..$n`, with `$n <= 16` known when compiled. The compiler gives up unrolling
/// a loop of that size early enough, and would keep the tile in memory.
macro_rules! unrolled {
    ($i:ident < $n:expr, $body:block) => {
        unrolled!($i < $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($i:ident < $n:expr, $body:block, $($at:literal)*) => {
        $(if $at < $n {
            let $i = $at;
            $body
        })*
    };
}

/// The microkernel of `N` rows by `VECTORS` vectors.
///
/// # Safety
/// `a` is a left side of `N` rows and `k` steps in `FORM`, `b` a right side of `VECTORS` vectors and `k` steps,
/// `c` is writable over the tile; the CPU has the features of `S`.
#[inline(always)]
pub(super) unsafe fn micro<S: Simd, const N: usize, const VECTORS: usize, const FORM: u8>(call: &Micro) {
    // SAFETY: every offset below stays within the tile, the packed row or the packed panel.
    unsafe {
        let (row, step) = match FORM {
            ROWS => (S::LEFT_STRIDE, 1),
            STEPS => (1, call.a_stride),
            _ => (call.a_stride, 1),
        };
        let mut acc = [[S::zero(); VECTORS]; N];
        let (mut a, mut b) = (call.a, call.b);
        let width = call.b_stride;
        let mut fetch = call.fetch;
        for _ in 0..call.k / ROUND {
            let mut at = fetch.at;
            for _ in 0..fetch.count {
                S::prefetch(at);
                at = at.wrapping_add(fetch.stride);
            }
            fetch.at = fetch.at.wrapping_add(fetch.step);
            for _ in 0..ROUND / 4 {
                micro_step::<S, N, VECTORS>(&mut acc, a, b, row);
                micro_step::<S, N, VECTORS>(&mut acc, a.add(step), b.add(width), row);
                micro_step::<S, N, VECTORS>(&mut acc, a.add(2 * step), b.add(2 * width), row);
                micro_step::<S, N, VECTORS>(&mut acc, a.add(3 * step), b.add(3 * width), row);
                a = a.add(4 * step);
                b = b.add(4 * width);
            }
        }
        for _ in 0..call.k % ROUND {
            micro_step::<S, N, VECTORS>(&mut acc, a, b, row);
            a = a.add(step);
            b = b.add(width);
        }
        let scale = S::splat(call.scale);
        let skip = S::LANES.min(call.columns);
        unrolled!(i < N, {
            let c = call.c.add(i * call.c_stride);
            put::<S>(c, acc[i][0], call.columns, scale, call.add);
            if VECTORS > 1 {
                put::<S>(c.add(skip), acc[i][1], call.columns - skip, scale, call.add);
            }
        });
    }
}

/// One step of a tile: a column of the left side by a row of the right side. (Not a closure: those do not take
/// on the CPU features of the function around them.)
#[inline(always)]
unsafe fn micro_step<S: Simd, const N: usize, const VECTORS: usize>(
    acc: &mut [[S::V; VECTORS]; N],
    a: *const f32,
    b: *const f32,
    row: usize,
) {
    // SAFETY: the caller stays within both packed sides.
    unsafe {
        let first = S::load(b);
        let second = if VECTORS > 1 { S::load(b.add(S::LANES)) } else { first };
        unrolled!(i < N, {
            let left = S::splat(*a.add(i * row));
            acc[i][0] = S::mul_add(left, first, acc[i][0]);
            if VECTORS > 1 {
                acc[i][1] = S::mul_add(left, second, acc[i][1]);
            }
        });
    }
}

/// Writes the first `n` (or all) lanes of `scale * v (+ what is there)`.
#[inline(always)]
unsafe fn put<S: Simd>(to: *mut f32, v: S::V, n: usize, scale: S::V, add: bool) {
    // SAFETY: the caller promises `min(n, LANES)` writable elements.
    unsafe {
        if n >= S::LANES {
            let v = if add { S::mul_add(v, scale, S::load(to)) } else { S::mul(v, scale) };
            S::store(to, v);
        } else if n > 0 {
            let v = if add { S::mul_add(v, scale, S::load_first(to, n)) } else { S::mul(v, scale) };
            S::store_first(to, v, n);
        }
    }
}

/// The range `part` of `parts` nearly equal ranges of `0..whole`.
#[inline(always)]
fn share(whole: usize, part: usize, parts: usize) -> (usize, usize) {
    (part * whole / parts, (part + 1) * whole / parts)
}

/// Steps per block of the inner dimension: equal blocks of at most `most`, multiples of 16.
pub(super) fn block_k(k: usize, most: usize) -> usize {
    k.div_ceil(k.div_ceil(most).max(1)).next_multiple_of(16).min(most)
}

/// The blocked product of this module.
///
/// # Safety
/// The pointers of `p` cover its shape and strides with elements of the given types, nothing else accesses the
/// elements of `dst` meanwhile, and the CPU has the features of `S`.
#[inline(always)]
pub(super) unsafe fn product<S: Simd, L: Element, R: Element, const LEFT: bool, const RIGHT: bool>(
    p: &Product,
) {
    let block = block_k(p.k, S::BLOCK_K);
    let right_columns = RIGHT_COLUMNS.min(p.n.next_multiple_of(S::PANEL));
    let left_rows = LEFT_ROWS.min(p.m);
    let (panels, tiles) = (p.n.div_ceil(S::PANEL), p.m.div_ceil(S::TILE_ROWS));
    // What is read only a few times is multiplied where it lies.
    let once = if p.weight == Weight::Left { p.n <= S::LANES } else { panels <= 2 };
    let left_here = L::PLAIN && (once || LEFT == ACROSS && p.left_stride <= 64);
    let short = tiles == 1 || p.right_stride <= 64 || tiles <= 6 && p.k <= 128;
    let right_here =
        R::PLAIN && RIGHT == ACROSS && p.weight == Weight::Neither && p.n.is_multiple_of(S::LANES) && short;
    let left_size = if left_here {
        0
    } else if LEFT == ACROSS {
        left_rows.div_ceil(S::TILE_ROWS) * S::LEFT_STEP * block
    } else {
        left_rows * S::LEFT_STRIDE
    };
    let mut buffer = {
        let right_size = if right_here { 0 } else { right_columns * block };
        buffers::take(left_size + right_size + 2 * MOST_LANES)
    };
    let left_at = buffer.as_mut_ptr();
    // SAFETY: the buffer was taken with room for both sides; the blocks below stay within the shape of `p`.
    unsafe {
        let right_at = left_at.add(left_size.next_multiple_of(MOST_LANES));
        for n0 in (0..p.n).step_by(right_columns) {
            let columns = right_columns.min(p.n - n0);
            for k0 in (0..p.k).step_by(block) {
                let k = block.min(p.k - k0);
                let right = offset::<R>(p.right, p.right_stride, n0, k0, RIGHT);
                if !right_here {
                    pack_right::<S, R, RIGHT>(right, p.right_stride, columns, k, right_at);
                }
                for m0 in (0..p.m).step_by(left_rows) {
                    let rows = left_rows.min(p.m - m0);
                    let left = offset::<L>(p.left, p.left_stride, m0, k0, LEFT);
                    if !left_here {
                        pack_left::<S, L, LEFT>(left, p.left_stride, rows, k, left_at);
                    }
                    let now = Block {
                        m0,
                        rows,
                        n0,
                        columns,
                        k0,
                        k,
                        left: if left_here { left.cast() } else { left_at },
                        left_here,
                        right: if right_here { right.cast() } else { right_at },
                        right_here,
                    };
                    block_product::<S, L, LEFT>(p, now, (left_rows, block));
                }
            }
        }
    }
    buffers::give(buffer);
}

/// A part of a product, and its sides: packed or where they lie.
#[derive(Clone, Copy)]
struct Block {
    m0: usize,
    rows: usize,
    n0: usize,
    columns: usize,
    k0: usize,
    k: usize,
    left: *const f32,
    left_here: bool,
    right: *const f32,
    right_here: bool,
}

/// The first element of a side at `index` (row of the left, column of the right side) and `step`.
#[inline(always)]
unsafe fn offset<E>(base: *const u8, stride: usize, index: usize, step: usize, across: bool) -> *const E {
    let (row, column) = if across { (step, index) } else { (index, step) };
    // SAFETY: the caller stays within the side.
    unsafe { base.cast::<E>().add(row * stride + column) }
}

/// A tile on its way to a transposed result.
#[repr(align(64))]
struct Scratch([f32; 16 * 2 * MOST_LANES]);

/// Multiplies the packed sides of one block, tile by tile.
#[inline(always)]
unsafe fn block_product<S: Simd, L, const LEFT: bool>(
    p: &Product,
    now: Block,
    (left_rows, block): (usize, usize),
) {
    let tiles = now.rows.div_ceil(S::TILE_ROWS);
    let panels = now.columns.div_ceil(S::PANEL);
    let add = p.add || now.k0 > 0;
    let mut scratch = Scratch([0.0; 16 * 2 * MOST_LANES]);
    // The result is walked along its rows.
    let (outer, inner) = if p.transposed { (panels, tiles) } else { (tiles, panels) };
    for outer in 0..outer {
        for inner in 0..inner {
            let (panel, tile) = if p.transposed { (outer, inner) } else { (inner, outer) };
            let column = panel * S::PANEL;
            let columns = S::PANEL.min(now.columns - column);
            let vectors = columns.div_ceil(S::LANES);
            let (from, to) = share(now.rows, tile, tiles);
            let rows = to - from;
            let (skip, a_stride, form) = match (LEFT == ACROSS, now.left_here) {
                (true, true) => (from, p.left_stride, STEPS),
                (true, false) => (tile * S::LEFT_STEP * now.k, S::LEFT_STEP, STEPS),
                (false, true) => (from * p.left_stride, p.left_stride, ROWS_HERE),
                (false, false) => (from * S::LEFT_STRIDE, S::LEFT_STRIDE, ROWS),
            };
            let (column_skip, b_stride) =
                if now.right_here { (column, p.right_stride) } else { (column * now.k, vectors * S::LANES) };
            let kernel = S::micro(rows, vectors, form);
            let fetch = match p.weight {
                Weight::Neither | Weight::Right => NO_FETCH,
                Weight::Left => {
                    ahead_left::<L>(p, now, (panel * tiles + tile, panels * tiles), left_rows, block)
                }
            };
            // SAFETY: the tile lies in the block; packed sides have the layout that the kernel expects.
            unsafe {
                let (a, b) = (now.left.add(skip), now.right.add(column_skip));
                let (i, j) = (now.m0 + from, now.n0 + column);
                let mut call = Micro {
                    k: now.k,
                    a,
                    a_stride,
                    b,
                    b_stride,
                    c: p.dst,
                    c_stride: p.dst_stride,
                    columns,
                    scale: p.scale,
                    add,
                    fetch,
                };
                if p.transposed {
                    let c = p.dst.add(j * p.dst_stride + i);
                    for row in 0..columns {
                        let line = c.add(row * p.dst_stride);
                        S::prefetch(line.cast());
                        S::prefetch(line.add(rows - 1).cast());
                    }
                    call = Micro {
                        c: scratch.0.as_mut_ptr(),
                        c_stride: S::PANEL,
                        columns: vectors * S::LANES,
                        scale: 1.0,
                        add: false,
                        ..call
                    };
                    kernel(&call);
                    put_transposed::<S>(&scratch.0, (rows, columns), c, p.dst_stride, p.scale, add);
                } else {
                    call.c = p.dst.add(i * p.dst_stride + j);
                    for row in 0..rows {
                        let line = call.c.add(row * p.dst_stride);
                        S::prefetch(line.cast());
                        S::prefetch(line.wrapping_add(S::LANES).cast());
                    }
                    kernel(&call);
                }
            }
        }
    }
}

/// The share of tile `call` in fetching the next block of a left side that runs along `k`.
#[inline(always)]
fn ahead_left<L>(p: &Product, now: Block, call: (usize, usize), left_rows: usize, block: usize) -> Fetch {
    let (mut m0, mut k0) = (now.m0 + left_rows, now.k0);
    if m0 >= p.m {
        (m0, k0) = (0, now.k0 + block);
        if k0 >= p.k {
            return NO_FETCH;
        }
    }
    let (from, to) = share(left_rows.min(p.m - m0), call.0, call.1);
    let size = size_of::<L>();
    Fetch {
        at: p.left.wrapping_add(((m0 + from) * p.left_stride + k0) * size),
        count: to - from,
        stride: p.left_stride * size,
        step: ROUND * size,
    }
}

/// Writes a tile of `rows` by `columns`, stored with `PANEL` between rows, as columns of `dst`.
#[inline(always)]
unsafe fn put_transposed<S: Simd>(
    tile: &[f32],
    (rows, columns): (usize, usize),
    dst: *mut f32,
    stride: usize,
    scale: f32,
    add: bool,
) {
    // SAFETY: the tile holds `TILE_ROWS` rows of `PANEL`; `dst` is writable over `columns` rows of `rows`.
    unsafe {
        let scale = S::splat(scale);
        for row in (0..rows).step_by(S::LANES) {
            let some = S::LANES.min(rows - row);
            for column in (0..columns).step_by(S::LANES) {
                let mut square = [S::zero(); MOST_LANES];
                for (i, slot) in square.iter_mut().enumerate().take(some) {
                    *slot = S::load(tile.as_ptr().add((row + i) * S::PANEL + column));
                }
                S::transpose(&mut square);
                for (i, &v) in square.iter().enumerate().take(S::LANES.min(columns - column)) {
                    put::<S>(dst.add((column + i) * stride + row), v, some, scale, add);
                }
            }
        }
    }
}

/// Packs `rows` by `k` of the left side.
#[inline(always)]
unsafe fn pack_left<S: Simd, E: Element, const ACROSS_K: bool>(
    from: *const E,
    stride: usize,
    rows: usize,
    k: usize,
    to: *mut f32,
) {
    // SAFETY: reads stay within `rows` by `k`, writes within the size that `product` reserved.
    unsafe {
        if !ACROSS_K {
            for row in 0..rows {
                let (from, to) = (from.add(row * stride), to.add(row * S::LEFT_STRIDE));
                copy::<S, E>(from, to, k);
            }
            return;
        }
        let tiles = rows.div_ceil(S::TILE_ROWS);
        for tile in 0..tiles {
            let (first, last) = share(rows, tile, tiles);
            let some = last - first;
            let to = to.add(tile * S::LEFT_STEP * k);
            for step in 0..k {
                let (from, to) = (from.add(step * stride + first), to.add(step * S::LEFT_STEP));
                for at in (0..some).step_by(S::LANES) {
                    S::store(to.add(at), E::load_first::<S>(from.add(at), S::LANES.min(some - at)));
                }
            }
        }
    }
}

/// Copies `n` elements, widened.
#[inline(always)]
unsafe fn copy<S: Simd, E: Element>(from: *const E, to: *mut f32, n: usize) {
    // SAFETY: the caller promises `n` readable and `n` writable elements.
    unsafe {
        let whole = n / S::LANES * S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            S::store(to.add(at), E::load::<S>(from.add(at)));
        }
        if whole < n {
            S::store_first(to.add(whole), E::load_first::<S>(from.add(whole), n - whole), n - whole);
        }
    }
}

/// Packs `columns` by `k` of the right side into panels; the last panel has one vector when that is enough.
#[inline(always)]
unsafe fn pack_right<S: Simd, E: Element, const ACROSS_K: bool>(
    from: *const E,
    stride: usize,
    columns: usize,
    k: usize,
    to: *mut f32,
) {
    let panels = columns.div_ceil(S::PANEL);
    // SAFETY: reads stay within `columns` by `k`, writes within the size that `product` reserved.
    unsafe {
        if ACROSS_K {
            // A few rows at a time: reads in long runs, and writes that fill a panel's lines in order.
            for first in (0..k).step_by(8) {
                for panel in 0..panels {
                    let column = panel * S::PANEL;
                    let some = S::PANEL.min(columns - column);
                    let width = some.next_multiple_of(S::LANES);
                    for step in first..k.min(first + 8) {
                        let from = from.add(step * stride + column);
                        let to = to.add(column * k + step * width);
                        if some == S::PANEL {
                            S::store(to, E::load::<S>(from));
                            S::store(to.add(S::LANES), E::load::<S>(from.add(S::LANES)));
                        } else {
                            for at in (0..some).step_by(S::LANES) {
                                let v = E::load_first::<S>(from.add(at), S::LANES.min(some - at));
                                S::store(to.add(at), v);
                            }
                        }
                    }
                }
            }
            return;
        }
        for panel in 0..panels {
            let column = panel * S::PANEL;
            let some = S::PANEL.min(columns - column);
            let width = some.next_multiple_of(S::LANES);
            for at in (0..some).step_by(S::LANES) {
                let from = from.add((column + at) * stride);
                let to = to.add(column * k + at);
                pack_transposed::<S, E>(from, stride, S::LANES.min(some - at), k, to, width);
            }
        }
    }
}

/// Packs `some` rows along `k` as one column of vectors, `width` apart.
#[inline(always)]
unsafe fn pack_transposed<S: Simd, E: Element>(
    from: *const E,
    stride: usize,
    some: usize,
    k: usize,
    to: *mut f32,
    width: usize,
) {
    // SAFETY: reads stay within `some` rows of `k`, writes within `k` steps of `width`.
    unsafe {
        for step in (0..k).step_by(S::LANES) {
            let steps = S::LANES.min(k - step);
            let mut square = [S::zero(); MOST_LANES];
            if some == S::LANES && steps == S::LANES {
                for (i, slot) in square.iter_mut().enumerate().take(S::LANES) {
                    *slot = E::load::<S>(from.add(i * stride + step));
                }
                S::transpose(&mut square);
                for (i, &v) in square.iter().enumerate().take(S::LANES) {
                    S::store(to.add((step + i) * width), v);
                }
            } else {
                for (i, slot) in square.iter_mut().enumerate().take(some) {
                    *slot = E::load_first::<S>(from.add(i * stride + step), steps);
                }
                S::transpose(&mut square);
                for (i, &v) in square.iter().enumerate().take(steps) {
                    S::store(to.add((step + i) * width), v);
                }
            }
        }
    }
}
