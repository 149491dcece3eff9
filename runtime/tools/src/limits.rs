//! Every limit on a plugin, each with its reason, and the set of them that a host runs with.
//!
//! Fuel is the limit that decides: it counts instructions, so the same call meets it on every machine. The
//! deadline is the backstop for what fuel cannot see (one bulk-memory instruction that touches all memory).

use std::time::Duration;

/// Fuel of one batch: WebAssembly instructions, nearly. A batch of 1,000 rotations of 30x30 uses about 45
/// million; two billion is one to two seconds of a core.
pub const CALL_FUEL: u64 = 2_000_000_000;

/// Fuel of `describe`. The built-in plugin's uses under a million.
pub const DESCRIBE_FUEL: u64 = 100_000_000;

/// Wall-clock time of one batch. Several times what [`CALL_FUEL`] takes on a slow, busy machine, so that the
/// reproducible limit is met first.
pub const DEADLINE_MS: u64 = 30_000;

/// How often deadlines are looked at. A guest overstays by one tick at most; 100 wake-ups a second cost nothing
/// that can be measured.
pub const TICK_MS: u64 = 10;

/// Bytes of all memories and tables of a call together. A full batch and its largest answer need under half.
pub const MEMORY_BYTES_MAX: usize = 128 << 20;

/// Bytes that one table element is counted as: a pointer.
pub const TABLE_ELEMENT_BYTES: usize = 8;

/// Core instances in a component. One made from Rust, C or JavaScript has one to four.
pub const INSTANCES_MAX: usize = 16;

/// Memories of a call. Each reserves address space beside what it uses.
pub const MEMORIES_MAX: usize = 8;

/// Tables of a call.
pub const TABLES_MAX: usize = 16;

/// Bytes of a guest's stack on the host's thread: wasmtime's own default, a quarter of a test thread's stack.
pub const STACK_BYTES: usize = 512 << 10;

/// Tasks that one batch sends to a plugin; more are sent in several batches.
pub const BATCH_TASKS_MAX: usize = 1024;

/// Cells that one batch sends. With [`OUTPUT_BYTES_MAX`] this lets every tool of the grid plugin answer within
/// its memory, unless it multiplies its input by more than thirty.
pub const BATCH_CELLS_MAX: usize = 1 << 20;

/// Tasks that one batch may answer: the largest number of copies that a built-in tool makes, of a full batch.
pub const OUTPUT_TASKS_MAX: usize = 64 * BATCH_TASKS_MAX;

/// Bytes that one batch may answer, as the host's own data structures. Also wasmtime's "hostcall fuel".
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// Demonstrations in one task of an answer. ARC's most is 10, a context's most is 32.
pub const OUTPUT_DEMONSTRATIONS_MAX: usize = 64;

/// Bytes of a guest's error message that are kept. It is shown to people and handed to a model.
pub const ERROR_BYTES_MAX: usize = 512;

/// Bytes of a manifest. The built-in plugin's, with 14 tools, has 9 kB.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;

/// Bytes of a component. Rust guests have 60 to 200 kB and compile in 0.1 to 0.4 s; a Python one has 18 MB, which takes 18 s to compile and
/// waits for a compile cache.
pub const COMPONENT_BYTES_MAX: usize = 4 << 20;

/// Components in a `--plugins` folder. Each costs its compile time at every start.
pub const PLUGINS_MAX: usize = 64;

/// The limits that a host runs with. [`Limits::default`] has the constants of this module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`CALL_FUEL`].
    pub call_fuel: u64,
    /// See [`DESCRIBE_FUEL`].
    pub describe_fuel: u64,
    /// See [`DEADLINE_MS`].
    pub deadline: Duration,
    /// See [`MEMORY_BYTES_MAX`].
    pub memory_bytes: usize,
    /// See [`BATCH_TASKS_MAX`].
    pub batch_tasks: usize,
    /// See [`OUTPUT_TASKS_MAX`].
    pub output_tasks: usize,
    /// See [`OUTPUT_BYTES_MAX`].
    pub output_bytes: usize,
    /// See [`COMPONENT_BYTES_MAX`].
    pub component_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            call_fuel: CALL_FUEL,
            describe_fuel: DESCRIBE_FUEL,
            deadline: Duration::from_millis(DEADLINE_MS),
            memory_bytes: MEMORY_BYTES_MAX,
            batch_tasks: BATCH_TASKS_MAX,
            output_tasks: OUTPUT_TASKS_MAX,
            output_bytes: OUTPUT_BYTES_MAX,
            component_bytes: COMPONENT_BYTES_MAX,
        }
    }
}
