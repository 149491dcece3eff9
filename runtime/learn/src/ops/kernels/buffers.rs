//! Packing buffers that a thread keeps for its next product.

use std::cell::Cell;

/// One cache line, for the alignment.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _floats: [f32; 16],
}

/// Room for f32 at a cache line's alignment. What it holds is unspecified until written.
#[derive(Default)]
pub(super) struct Buffer(Vec<Line>);

impl Buffer {
    /// The start of the room.
    pub(super) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

thread_local! {
    static KEPT: Cell<Buffer> = const { Cell::new(Buffer(Vec::new())) };
}

/// A buffer with room for `floats`: the one that this thread gave back, when it is large enough.
pub(super) fn take(floats: usize) -> Buffer {
    let Buffer(mut lines) = KEPT.take();
    lines.reserve_exact(floats.div_ceil(16));
    Buffer(lines)
}

/// Keeps a buffer for the next product on this thread.
pub(super) fn give(buffer: Buffer) {
    KEPT.set(buffer);
}
