//! The limits on one process of a native plugin, each with its reason. They confine accidents; a library that wants
//! to do harm is kept out by its digest.

use std::time::Duration;

use crate::limits::{MEMORY_BYTES_MAX, OUTPUT_BYTES_MAX, OUTPUT_ITEMS_MAX};

/// Wall-clock time of a process, from its start to its answer: that of a batch of a WebAssembly plugin.
pub const DEADLINE_MS: u64 = crate::limits::DEADLINE_MS;

/// CPU seconds of a process. Several times a WebAssembly plugin's fuel, since it is for heavy work that a library is
/// native; under the deadline, so that on an idle machine this limit is met first.
pub const CPU_SECONDS_MAX: u64 = 10;

/// Open files of a process while a library is in it. Loading one opens those it depends on, one at a time.
pub const OPEN_FILES_MAX: u64 = 16;

/// Bytes of a library. It stays in memory as long as its host. A Rust one with debug symbols has 4 MB.
pub const LIBRARY_BYTES_MAX: usize = 64 << 20;

/// Bytes that are kept of what a process logs and prints, the last ones.
pub const LOG_BYTES_MAX: usize = 16 << 10;

/// The limits that a host runs native plugins with. [`NativeLimits::default`] has the constants of this module, and
/// for memory and answers those of WebAssembly plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeLimits {
    /// See [`DEADLINE_MS`].
    pub deadline: Duration,
    /// See [`CPU_SECONDS_MAX`].
    pub cpu_seconds: u64,
    /// Address space, beside what the process has before it loads the library.
    pub memory_bytes: usize,
    /// Bytes of an answer, as it is sent and as the host's own data structures.
    pub output_bytes: usize,
    /// Tasks, documents or scores of an answer.
    pub output_items: usize,
    /// See [`LOG_BYTES_MAX`].
    pub log_bytes: usize,
}

impl Default for NativeLimits {
    fn default() -> NativeLimits {
        NativeLimits {
            deadline: Duration::from_millis(DEADLINE_MS),
            cpu_seconds: CPU_SECONDS_MAX,
            memory_bytes: MEMORY_BYTES_MAX,
            output_bytes: OUTPUT_BYTES_MAX,
            output_items: OUTPUT_ITEMS_MAX,
            log_bytes: LOG_BYTES_MAX,
        }
    }
}
