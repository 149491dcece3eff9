//! `sdk/c/selkie_plugin.h` in Rust: what a puzzle augmenter needs of it. Copy this file into a plugin of yours.

use std::ffi::c_void;

/// The version of the header.
pub const ABI_VERSION: u32 = 1;

/// The parameters do not parse, or a value is outside its range.
pub const INVALID_PARAMS: u32 = 0;

/// UTF-8, not terminated; null where it is empty.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    pub bytes: *const u8,
    pub len: usize,
}

/// A rectangle of colours, row by row.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Grid {
    pub cells: *const u8,
    pub height: u8,
    pub width: u8,
}

/// A grid before and after the puzzle's rule.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Example {
    pub input: Grid,
    pub output: Grid,
}

/// Demonstrations and one example to solve.
#[repr(C)]
pub struct Task {
    pub train: *const Example,
    pub train_len: usize,
    pub test: Example,
}

/// What is asked.
#[repr(C)]
pub struct Call {
    pub tool: Text,
    pub params: Text,
    pub seed: u64,
}

/// How a plugin answers.
#[repr(C)]
pub struct Host {
    pub state: *mut c_void,
    pub task: unsafe extern "C" fn(host: *const Host, task: *const Task),
    pub document: unsafe extern "C" fn(host: *const Host, source: usize, document: Text),
    pub score: unsafe extern "C" fn(host: *const Host, value: f64, reasons: *const Text, reasons_len: usize),
    pub refuse: unsafe extern "C" fn(host: *const Host, kind: u32, message: Text),
    pub log: unsafe extern "C" fn(host: *const Host, line: Text),
}

impl Text {
    /// The text as the interface has it, as long as `text` lives.
    pub const fn of(text: &str) -> Text {
        Text { bytes: text.as_ptr(), len: text.len() }
    }

    /// The text.
    ///
    /// # Safety
    /// It must come from the host, and the call must not have ended.
    pub unsafe fn get<'a>(self) -> &'a str {
        // SAFETY: the host gives UTF-8 that stays until the call ends.
        unsafe { std::str::from_utf8_unchecked(slice(self.bytes, self.len)) }
    }
}

/// What a pointer and a length say.
///
/// # Safety
/// Both must come from the host, and the call must not have ended.
pub unsafe fn slice<'a, T>(first: *const T, len: usize) -> &'a [T] {
    match len {
        0 => &[],
        // SAFETY: the host's pointers are good for as many items as it says, until the call ends.
        _ => unsafe { std::slice::from_raw_parts(first, len) },
    }
}
