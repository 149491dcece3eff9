//! Matrix products for frozen weights and for the small products beside them.
//!
//! All rows are row-major f32; weights may be stored in half precision and are widened inside the kernels, so
//! a bf16 weight gives the bits that the same weight in f32 gives. The vector unit is chosen at run time.
//!
//! # What a result depends on
//! [`project`], [`project_back`], [`nt`] and [`nn`] compute a row in one of two ways: up to [`FEW_ROWS`] rows
//! the right side is streamed, above it both sides are blocked. Within one of the two, a row's bits depend on
//! neither the other rows, nor their number, nor the number of threads.
//! `tn` has no rows in that sense: every sum runs over all of them.

mod buffers;
mod few;
mod portable;
mod product;
mod simd;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use product::{Product, Weight};
use rayon::prelude::*;

/// Up to this many rows, the weight is streamed.
pub(crate) const FEW_ROWS: usize = few::MOST_ROWS;

/// Multiply-adds below which a product stays on its thread.
const SMALL: usize = 1 << 20;

/// Elements of a frozen weight as they are stored; half precision as bits.
#[derive(Clone, Copy)]
pub(crate) enum Elements<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
    F16(&'a [u16]),
}

/// A frozen weight `[out, input]`, row-major.
#[derive(Clone, Copy)]
pub(crate) struct Frozen<'a> {
    pub(crate) elements: Elements<'a>,
    pub(crate) out: usize,
    pub(crate) input: usize,
}

/// Rows of a matrix inside a slice: row `i` begins at `data[i * stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
}

/// An entry point: takes a product whose sides have the types and directions of the entry.
type Entry = unsafe fn(&Product);

/// The entry points of one vector unit; the arrays are by element type (f32, bf16, f16) of the weight.
struct Kernels {
    /// The unit, for people.
    name: &'static str,
    /// Weight on the left along `k`; f32 on the right along `k`.
    forward: [Entry; 3],
    /// f32 on the left along `k`; weight on the right across `k`.
    backward: [Entry; 3],
    /// f32 on both sides across `k`.
    across: Entry,
    /// Few rows of f32 on the left along `k`; weight on the right along `k`.
    dot: [Entry; 3],
    /// Few rows of f32 on the left along `k`; weight on the right across `k`.
    axpy: [Entry; 3],
}

/// The microkernel of the listed row counts, by rows, vectors and form.
macro_rules! pick_micro {
    ($rows:ident, $vectors:ident, $form:ident, [$($n:literal),*]) => {
        match ($rows, $vectors, $form) {
            $(($n, 1, ROWS) => micro::<$n, 1, ROWS>,
              ($n, 1, STEPS) => micro::<$n, 1, STEPS>,
              ($n, 1, ROWS_HERE) => micro::<$n, 1, ROWS_HERE>,
              ($n, 2, ROWS) => micro::<$n, 2, ROWS>,
              ($n, 2, STEPS) => micro::<$n, 2, STEPS>,
              ($n, 2, ROWS_HERE) => micro::<$n, 2, ROWS_HERE>,)*
            _ => unreachable!("BUG: no tile of this shape"),
        }
    };
}
use pick_micro;

/// The entry points of a vector unit: the generic kernels compiled with its features.
macro_rules! entry_points {
    ($unit:ident $(, $features:literal)?) => {
        use super::product::{ACROSS, ALONG, Micro, Product, ROWS, ROWS_HERE, STEPS};
        use super::simd::{Bf16, Element, F16};

        /// The microkernel, with the contract of [`super::product::micro`].
        $(#[target_feature(enable = $features)])?
        unsafe fn micro<const N: usize, const VECTORS: usize, const FORM: u8>(call: &Micro) {
            // SAFETY: the contract is the same.
            unsafe { super::product::micro::<$unit, N, VECTORS, FORM>(call) }
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn product<L: Element, R: Element, const LEFT: bool, const RIGHT: bool>(p: &Product) {
            // SAFETY: the contract is the same.
            unsafe { super::product::product::<$unit, L, R, LEFT, RIGHT>(p) }
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn dot<E: Element>(p: &Product) {
            // SAFETY: the contract is the same.
            unsafe { super::few::dot::<$unit, E>(p) }
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn axpy<E: Element>(p: &Product) {
            // SAFETY: the contract is the same.
            unsafe { super::few::axpy::<$unit, E>(p) }
        }

        /// The entry points of this unit.
        pub(super) static KERNELS: super::Kernels = super::Kernels {
            name: stringify!($unit),
            forward: [
                product::<f32, f32, ALONG, ALONG>,
                product::<Bf16, f32, ALONG, ALONG>,
                product::<F16, f32, ALONG, ALONG>,
            ],
            backward: [
                product::<f32, f32, ALONG, ACROSS>,
                product::<f32, Bf16, ALONG, ACROSS>,
                product::<f32, F16, ALONG, ACROSS>,
            ],
            across: product::<f32, f32, ACROSS, ACROSS>,
            dot: [dot::<f32>, dot::<Bf16>, dot::<F16>],
            axpy: [axpy::<f32>, axpy::<Bf16>, axpy::<F16>],
        };
    };
}
use entry_points;

/// The kernels of every vector unit that this CPU has, best first.
fn units() -> Vec<&'static Kernels> {
    let mut units = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            units.push(&avx512::KERNELS);
        }
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            units.push(&avx2::KERNELS);
        }
    }
    units.push(&portable::KERNELS);
    units
}

/// The kernels of the best vector unit.
fn best() -> &'static Kernels {
    static BEST: std::sync::LazyLock<&'static Kernels> = std::sync::LazyLock::new(|| units()[0]);
    *BEST
}

/// The name of the best vector unit.
pub(crate) fn best_name() -> &'static str {
    best().name
}

/// The elements that `rows` rows of `columns` span at a distance of `stride`.
fn span(rows: usize, columns: usize, stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1).saturating_mul(stride).saturating_add(columns) }
}

impl<'a> Frozen<'a> {
    /// The index of the element type, the address of the first element and the size of an element.
    fn parts(&self) -> (usize, *const u8, usize) {
        let (kind, at, len, size) = match self.elements {
            Elements::F32(data) => (0, data.as_ptr().cast(), data.len(), 4),
            Elements::Bf16(data) => (1, data.as_ptr().cast(), data.len(), 2),
            Elements::F16(data) => (2, data.as_ptr().cast(), data.len(), 2),
        };
        assert!(
            self.out.checked_mul(self.input).is_some_and(|n| n <= len),
            "BUG: weight shorter than its shape"
        );
        (kind, at, size)
    }
}

/// `y[m, out] = x[m, input] . W^T`, of which every element is written. Parallel over the rows of `W`.
///
/// # Panics
/// When a slice does not have the length of its shape: a mistake of the caller, never of data.
pub(crate) fn project(x: &[f32], w: Frozen<'_>, y: &mut [MaybeUninit<f32>]) {
    project_on(best(), x, w, y);
}

/// `dx[m, input] = dy[m, out] . W`, of which every element is written. Parallel over the columns of `W`.
///
/// # Panics
/// When a slice does not have the length of its shape: a mistake of the caller, never of data.
pub(crate) fn project_back(dy: &[f32], w: Frozen<'_>, dx: &mut [MaybeUninit<f32>]) {
    project_back_on(best(), dy, w, dx, false);
}

#[cfg(test)]
/// The same elements, of which it is forgotten that they have values. Nothing but values is written to them here.
fn as_unwritten(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    let (at, len) = (values.as_mut_ptr().cast(), values.len());
    #[expect(unsafe_code, reason = "there is no safe cast of a slice")]
    // SAFETY: the layout is the same, and the products below write numbers only.
    unsafe {
        std::slice::from_raw_parts_mut(at, len)
    }
}

fn project_on(unit: &Kernels, x: &[f32], w: Frozen<'_>, y: &mut [MaybeUninit<f32>]) {
    let (kind, at, size) = w.parts();
    if w.out == 0 || y.is_empty() {
        return;
    }
    let m = y.len() / w.out;
    assert_eq!(y.len(), m * w.out, "BUG: y is not rows of out");
    assert_eq!(Some(x.len()), m.checked_mul(w.input), "BUG: x is not as many rows as y");
    if w.input == 0 {
        y.fill(MaybeUninit::new(0.0));
        return;
    }
    let weight = Side { at, stride: w.input };
    let rows = Side { at: x.as_ptr().cast(), stride: w.input };
    let few = m <= FEW_ROWS;
    let (left, right) = if few { (rows, weight) } else { (weight, rows) };
    let whole = Product {
        m: if few { m } else { w.out },
        n: if few { w.out } else { m },
        k: w.input,
        left: left.at,
        left_stride: left.stride,
        right: right.at,
        right_stride: right.stride,
        dst: y.as_mut_ptr().cast(),
        dst_stride: w.out,
        transposed: !few,
        scale: 1.0,
        add: false,
        weight: Weight::Left,
    };
    let entry = if few { unit.dot[kind] } else { unit.forward[kind] };
    in_columns(entry, whole, (w.out, w.input, m), |part, from, to| {
        part.dst = part.dst.wrapping_add(from);
        let skip = from * part.k * size;
        if few {
            (part.n, part.right) = (to - from, part.right.wrapping_add(skip));
        } else {
            (part.m, part.left) = (to - from, part.left.wrapping_add(skip));
        }
    });
}

fn project_back_on(unit: &Kernels, dy: &[f32], w: Frozen<'_>, dx: &mut [MaybeUninit<f32>], add: bool) {
    let (kind, at, size) = w.parts();
    if w.input == 0 || dx.is_empty() {
        return;
    }
    let m = dx.len() / w.input;
    assert_eq!(dx.len(), m * w.input, "BUG: dx is not rows of input");
    assert_eq!(Some(dy.len()), m.checked_mul(w.out), "BUG: dy is not as many rows as dx");
    let whole = Product {
        m,
        n: w.input,
        k: w.out,
        left: dy.as_ptr().cast(),
        left_stride: w.out,
        right: at,
        right_stride: w.input,
        dst: dx.as_mut_ptr().cast(),
        dst_stride: w.input,
        transposed: false,
        scale: 1.0,
        add,
        weight: Weight::Right,
    };
    if w.out == 0 {
        if !add {
            dx.fill(MaybeUninit::new(0.0));
        }
        return;
    }
    let entry = if m <= FEW_ROWS { unit.axpy[kind] } else { unit.backward[kind] };
    in_columns(entry, whole, (w.input, w.out, m), |part, from, to| {
        part.dst = part.dst.wrapping_add(from);
        part.right = part.right.wrapping_add(from * size);
        part.n = to - from;
    });
}

/// Where a side begins and the distance of its rows.
#[derive(Clone, Copy)]
struct Side {
    at: *const u8,
    stride: usize,
}

/// A product that may be computed on another thread.
struct Shared(Product);

impl Shared {
    fn product(&self) -> Product {
        self.0
    }
}

#[expect(unsafe_code, reason = "raw pointers are not shared by themselves")]
// SAFETY: the doors below hold the borrows behind the pointers until every task is done, and no two tasks
// write the same columns.
unsafe impl Sync for Shared {}

/// Runs `entry` over blocks of columns of the result, in parallel when it is worth it; `cut` reduces the whole
/// product to a range of columns. `(columns, k, m)` is the shape.
#[expect(unsafe_code, reason = "entry points take pointers")]
fn in_columns(
    entry: Entry,
    whole: Product,
    (columns, k, m): (usize, usize, usize),
    cut: impl Fn(&mut Product, usize, usize) + Sync,
) {
    let threads = rayon::current_num_threads();
    // A row costs little beside reading the weight while rows are few.
    let tasks = if columns.saturating_mul(k).saturating_mul(m + 3) < SMALL { 1 } else { threads };
    let block = columns.div_ceil(tasks).clamp(64, 1024).next_multiple_of(64);
    let tasks = if tasks == 1 { 1 } else { columns.div_ceil(block) };
    let whole = Shared(whole);
    let run = |task: usize| {
        let mut part = whole.product();
        let (from, to) =
            if tasks == 1 { (0, columns) } else { (task * block, columns.min((task + 1) * block)) };
        cut(&mut part, from, to);
        // SAFETY: the doors checked the lengths against the shape, and `best` the features of the CPU; a part
        // stays within the whole; parts write different columns of `dst`, which the door borrows alone.
        unsafe { entry(&part) }
    };
    if tasks == 1 {
        run(0);
    } else {
        (0..tasks).into_par_iter().for_each(run);
    }
}

/// `dst = scale * lhs . rhs^T (+ dst when add)`: `lhs` is `[m, k]`, `rhs` is `[n, k]`. Single-threaded.
///
/// # Panics
/// When a slice is too short for its shape: a mistake of the caller, never of data.
pub(crate) fn nt(
    (m, n, k): (usize, usize, usize),
    dst: &mut [f32],
    dst_stride: usize,
    lhs: Rows<'_>,
    rhs: Rows<'_>,
    scale: f32,
    add: bool,
) {
    strided(best(), Form::Nt, (m, n, k), (dst, dst_stride), (lhs, rhs), scale, add);
}

/// `dst = scale * lhs . rhs (+ dst when add)`: `lhs` is `[m, k]`, `rhs` is `[k, n]`. Single-threaded.
///
/// # Panics
/// When a slice is too short for its shape: a mistake of the caller, never of data.
pub(crate) fn nn(
    (m, n, k): (usize, usize, usize),
    dst: &mut [f32],
    dst_stride: usize,
    lhs: Rows<'_>,
    rhs: Rows<'_>,
    scale: f32,
    add: bool,
) {
    strided(best(), Form::Nn, (m, n, k), (dst, dst_stride), (lhs, rhs), scale, add);
}

/// `dst = scale * lhs^T . rhs (+ dst when add)`: `lhs` is `[k, m]`, `rhs` is `[k, n]`. Single-threaded.
///
/// # Panics
/// When a slice is too short for its shape: a mistake of the caller, never of data.
pub(crate) fn tn(
    (m, n, k): (usize, usize, usize),
    dst: &mut [f32],
    dst_stride: usize,
    lhs: Rows<'_>,
    rhs: Rows<'_>,
    scale: f32,
    add: bool,
) {
    strided(best(), Form::Tn, (m, n, k), (dst, dst_stride), (lhs, rhs), scale, add);
}

/// Which of the sides of a strided product is transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Nt,
    Nn,
    Tn,
}

#[expect(unsafe_code, reason = "entry points take pointers")]
fn strided(
    unit: &Kernels,
    form: Form,
    (m, n, k): (usize, usize, usize),
    (dst, dst_stride): (&mut [f32], usize),
    (lhs, rhs): (Rows<'_>, Rows<'_>),
    scale: f32,
    add: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    let (lhs_rows, lhs_columns) = if form == Form::Tn { (k, m) } else { (m, k) };
    let (rhs_rows, rhs_columns) = if form == Form::Nt { (n, k) } else { (k, n) };
    assert!(m == 1 || dst_stride >= n, "BUG: rows of dst overlap");
    assert!(span(m, n, dst_stride) <= dst.len(), "BUG: dst too short");
    assert!(span(lhs_rows, lhs_columns, lhs.stride) <= lhs.data.len(), "BUG: lhs too short");
    assert!(span(rhs_rows, rhs_columns, rhs.stride) <= rhs.data.len(), "BUG: rhs too short");
    if k == 0 {
        if !add {
            (0..m).for_each(|row| dst[row * dst_stride..][..n].fill(0.0));
        }
        return;
    }
    let (mut left, mut right, mut sizes) = (lhs, rhs, (m, n));
    // A tall and narrow result: the long side belongs on the right, where it is read in whole vectors.
    let transposed = form == Form::Tn && n < m && n <= 128 && (n <= 16 || k >= 256);
    if transposed {
        (left, right, sizes) = (rhs, lhs, (n, m));
    }
    let product = Product {
        m: sizes.0,
        n: sizes.1,
        k,
        left: left.data.as_ptr().cast(),
        left_stride: left.stride,
        right: right.data.as_ptr().cast(),
        right_stride: right.stride,
        dst: dst.as_mut_ptr(),
        dst_stride,
        transposed,
        scale,
        add,
        weight: Weight::Neither,
    };
    let entry = match (form, m <= FEW_ROWS) {
        (Form::Nt, true) => unit.dot[0],
        (Form::Nt, false) => unit.forward[0],
        (Form::Nn, true) => unit.axpy[0],
        (Form::Nn, false) => unit.backward[0],
        (Form::Tn, _) => unit.across,
    };
    // SAFETY: the asserts above bound what these shapes and strides touch, `best` checked the features of the
    // CPU, and `dst` is a unique borrow, so it overlaps neither side.
    unsafe { entry(&product) }
}
