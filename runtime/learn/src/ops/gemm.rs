//! One safe door to the `gemm` crate: strided f32 matrix products over slices.
//!
//! The tensor library multiplies whole tensors; attention needs products of strided blocks inside one buffer
//! (one head of one sequence), without a copy.

use gemm::Parallelism;

/// A strided view of a matrix inside a slice; element (i, j) is `data[i * row + j * column]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

impl<'a> View<'a> {
    /// A row-major view with the given distance between rows.
    pub(crate) fn rows(data: &'a [f32], row: usize) -> View<'a> {
        View { data, row, column: 1 }
    }

    /// The transposed view.
    pub(crate) fn t(self) -> View<'a> {
        View { data: self.data, row: self.column, column: self.row }
    }
}

/// `dst = lhs . rhs` (or `dst += ...` when `add`), with `lhs` of `m`x`k`, `rhs` of `k`x`n` and `dst` row-major
/// with `dst_row` between rows. Single-threaded: callers are parallel over sequences.
///
/// # Panics
/// When a view is shorter than its shape needs: a mistake of the caller, never of data.
#[expect(unsafe_code, reason = "the gemm crate takes pointers")]
pub(crate) fn matmul(
    (m, n, k): (usize, usize, usize),
    dst: &mut [f32],
    dst_row: usize,
    lhs: View<'_>,
    rhs: View<'_>,
    scale: f32,
    add: bool,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    let last =
        |rows: usize, columns: usize, row: usize, column: usize| (rows - 1) * row + (columns - 1) * column;
    assert!(last(m, n, dst_row, 1) < dst.len(), "BUG: dst too short");
    assert!(last(m, k, lhs.row, lhs.column) < lhs.data.len(), "BUG: lhs too short");
    assert!(last(k, n, rhs.row, rhs.column) < rhs.data.len(), "BUG: rhs too short");
    // SAFETY: the three asserts above bound every element that the product of these shapes and strides
    // touches; `dst` is a unique borrow, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            dst_row as isize,
            add,
            lhs.data.as_ptr(),
            lhs.column as isize,
            lhs.row as isize,
            rhs.data.as_ptr(),
            rhs.column as isize,
            rhs.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
