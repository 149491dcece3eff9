//! Results that are written once, in memory that is not zeroed first: on the large activations of a small model that
//! would be a tenth of the time.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// A block of a result that has not been written.
pub(super) struct Out<'a>(&'a mut [MaybeUninit<f32>]);

/// Proof that a block was written whole: how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) struct Written(usize);

impl<'a> Out<'a> {
    /// Writes the block. The values must be as many as its elements.
    #[inline(always)]
    pub(super) fn fill(self, values: impl Iterator<Item = f32>) -> Written {
        let mut count = 0;
        for (place, value) in self.0.iter_mut().zip(values) {
            place.write(value);
            count += 1;
        }
        Written(count)
    }

    /// Writes the block row by row: `write` is given the number of a row in this block and the row.
    #[inline(always)]
    pub(super) fn rows(self, width: usize, mut write: impl FnMut(usize, Out<'_>) -> Written) -> Written {
        let mut count = 0;
        for (row, place) in self.0.chunks_mut(width).enumerate() {
            count += write(row, Out(place)).0;
        }
        Written(count)
    }

    /// Both halves of a block.
    #[inline(always)]
    pub(super) fn halves(self) -> (Out<'a>, Out<'a>) {
        let middle = self.0.len() / 2;
        let (low, high) = self.0.split_at_mut(middle);
        (Out(low), Out(high))
    }
}

impl Written {
    #[inline(always)]
    pub(super) fn and(self, other: Written) -> Written {
        Written(self.0 + other.0)
    }
}

/// A vector of `len` elements, made in parallel in blocks of `task`: `write` is given the place of a block's first
/// element and the block.
///
/// # Panics
/// When a block was not written whole.
pub(super) fn made(len: usize, task: usize, write: impl Fn(usize, Out<'_>) -> Written + Sync) -> Vec<f32> {
    let mut places = unwritten(len);
    places.par_chunks_mut(task).enumerate().for_each(|(block, places)| {
        let len = places.len();
        assert_eq!(write(block * task, Out(places)), Written(len), "BUG: a block was not written whole");
    });
    finish(places)
}

/// Two vectors of one length, made together.
///
/// # Panics
/// When a block was not written whole.
pub(super) fn made_both(
    len: usize,
    task: usize,
    write: impl Fn(usize, Out<'_>, Out<'_>) -> (Written, Written) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let (mut ones, mut others) = (unwritten(len), unwritten(len));
    let blocks = ones.par_chunks_mut(task).zip(others.par_chunks_mut(task));
    blocks.enumerate().for_each(|(block, (ones, others))| {
        let whole = Written(ones.len());
        let written = write(block * task, Out(ones), Out(others));
        assert_eq!(written, (whole, whole), "BUG: a block was not written whole");
    });
    (finish(ones), finish(others))
}

/// A vector that `write` writes whole.
///
/// # Safety
/// `write` must have written every element when it returns.
#[expect(unsafe_code, reason = "that a matrix product writes all of its result is for its caller to know")]
pub(super) unsafe fn made_by(len: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Vec<f32> {
    let mut places = unwritten(len);
    write(&mut places);
    finish(places)
}

#[expect(unsafe_code, reason = "no element needs a value yet")]
fn unwritten(len: usize) -> Vec<MaybeUninit<f32>> {
    let mut places = Vec::with_capacity(len);
    // SAFETY: the capacity is there, and `MaybeUninit` holds anything.
    unsafe { places.set_len(len) };
    places
}

#[expect(unsafe_code, reason = "every element has been written")]
fn finish(places: Vec<MaybeUninit<f32>>) -> Vec<f32> {
    let mut places = std::mem::ManuallyDrop::new(places);
    let (at, len, capacity) = (places.as_mut_ptr().cast::<f32>(), places.len(), places.capacity());
    // SAFETY: the parts are those of a vector of elements of the same size and alignment, which is not dropped; and
    // the callers above have made sure that all of its elements were written.
    unsafe { Vec::from_raw_parts(at, len, capacity) }
}
