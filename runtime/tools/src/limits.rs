//! Every limit on a plugin, each with its reason, and the set of them that a host runs with.
//!
//! Fuel is the limit that decides: it counts instructions, so the same call meets it on every machine. The
//! deadline is the backstop for what fuel cannot see: one bulk-memory instruction that touches all memory, and
//! a host model that does not answer.

use std::time::Duration;

use selkie_edit::ToolLimits;

/// Fuel of one batch: WebAssembly instructions, nearly. A batch of 1,000 rotations of 30x30 uses about 45
/// million in Rust and ten times that in Python; two billion is one to two seconds of a core.
pub const CALL_FUEL: u64 = 2_000_000_000;

/// Fuel of `describe`. The built-in plugins' use under a million, a Python plugin's some ten.
pub const DESCRIBE_FUEL: u64 = 100_000_000;

/// Wall-clock time of one batch, calls of the host model included. Several times what [`CALL_FUEL`] takes on a
/// slow, busy machine, so that the reproducible limit is met first.
pub const DEADLINE_MS: u64 = 30_000;

/// How often deadlines are looked at. A guest overstays by one tick at most; 100 wake-ups a second cost nothing
/// that can be measured.
pub const TICK_MS: u64 = 10;

/// Age of the last tick at which no call is begun any more: deadlines would not be kept. A clock that merely
/// waits for its turn on a crowded machine is not that late.
pub const TICK_STALE_MS: u64 = 10_000;

/// Bytes of all memories and tables of a call together. A full batch and its largest answer need under half.
pub const MEMORY_BYTES_MAX: usize = 128 << 20;

/// Bytes that one table element is counted as: a pointer.
pub const TABLE_ELEMENT_BYTES: usize = 8;

/// Core instances of a call. A plugin made from Rust or C has two, one from JavaScript 13, one from Python 14.
pub const INSTANCES_MAX: usize = 32;

/// Memories of a call. Each reserves address space beside what it uses.
pub const MEMORIES_MAX: usize = 8;

/// Tables of a call.
pub const TABLES_MAX: usize = 16;

/// Bytes of a guest's stack on the host's thread: wasmtime's own default, a quarter of a test thread's stack.
pub const STACK_BYTES: usize = 512 << 10;

/// Tasks, sources or submissions that one batch sends to a plugin; more are sent in several batches.
pub const BATCH_ITEMS_MAX: usize = 1024;

/// Bytes that one batch sends: a cell of a grid is one, and so is one of a text. With [`OUTPUT_BYTES_MAX`] this
/// lets every built-in tool answer within its memory, unless it multiplies its input by more than thirty.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Tasks, documents or scores that one batch may answer: the largest number of copies that a built-in tool
/// makes, of a full batch.
pub const OUTPUT_ITEMS_MAX: usize = 64 * BATCH_ITEMS_MAX;

/// Bytes that one batch may answer, as the host's own data structures. Also wasmtime's "hostcall fuel".
pub const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// Demonstrations in one task of an answer. ARC's most is 10, a context's most is 32.
pub const OUTPUT_DEMONSTRATIONS_MAX: usize = 64;

/// Bytes of a guest's error message, or of one line about a score, that are kept. It is shown to people and
/// handed to a model.
pub const ERROR_BYTES_MAX: usize = 512;

/// Lines about one score that are kept.
pub const REASONS_MAX: usize = 16;

/// Bytes that a guest may log in one call, a Python traceback included. At the bound the call ends: a tool that
/// writes more is out of control, and dropping lines would drop the last ones, which say why.
pub const LOG_BYTES_MAX: usize = 64 << 10;

/// Bytes of the log's end that stand in an error.
pub const LAST_WORDS_BYTES_MAX: usize = 600;

/// Bytes of a manifest. The grid plugin's, with 14 tools, has 10 kB.
pub const MANIFEST_BYTES_MAX: usize = 256 << 10;

/// Bytes of a component. Rust guests have 60 to 200 kB and compile in 0.1 to 0.4 s, Python ones 18 MB and 18 s,
/// JavaScript ones 2 to 12 MB; nothing that a tool needs is larger.
pub const COMPONENT_BYTES_MAX: usize = 32 << 20;

/// Time in which a component is compiled, by a process that is ended at the deadline: compilers do not bound
/// it. Five times what the largest guest that we know takes on one core.
pub const COMPILE_MS: u64 = 120_000;

/// Bytes of address space of the process that compiles, where the system bounds it. The Python guest takes under
/// one gigabyte.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 4 << 30;

/// Components in a folder of plugins. Each costs its compile time at the first start.
pub const PLUGINS_MAX: usize = 64;

/// Calls of the host model in one batch, where they are granted: two a document of an edit of SEAL's size.
pub const MODEL_CALLS_MAX: u32 = 64;

/// Tokens in one batch that the host model scores or writes, prompts included.
pub const MODEL_TOKENS_MAX: u32 = 65_536;

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
    /// See [`INSTANCES_MAX`].
    pub instances: usize,
    /// See [`MEMORIES_MAX`].
    pub memories: usize,
    /// See [`TABLES_MAX`].
    pub tables: usize,
    /// See [`BATCH_ITEMS_MAX`].
    pub batch_items: usize,
    /// See [`OUTPUT_ITEMS_MAX`].
    pub output_items: usize,
    /// See [`OUTPUT_BYTES_MAX`].
    pub output_bytes: usize,
    /// See [`LOG_BYTES_MAX`].
    pub log_bytes: usize,
    /// See [`MANIFEST_BYTES_MAX`].
    pub manifest_bytes: usize,
    /// See [`COMPONENT_BYTES_MAX`].
    pub component_bytes: usize,
    /// See [`COMPILE_MS`].
    pub compile: Duration,
}

impl Limits {
    /// The smaller of each: an edit cannot widen a limit.
    pub(crate) fn narrowed(&self, by: ToolLimits) -> Limits {
        let items = by.items.map_or(usize::MAX, |items| items as usize);
        Limits {
            call_fuel: self.call_fuel.min(by.fuel.unwrap_or(u64::MAX)),
            output_items: self.output_items.min(items),
            ..self.clone()
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            call_fuel: CALL_FUEL,
            describe_fuel: DESCRIBE_FUEL,
            deadline: Duration::from_millis(DEADLINE_MS),
            memory_bytes: MEMORY_BYTES_MAX,
            instances: INSTANCES_MAX,
            memories: MEMORIES_MAX,
            tables: TABLES_MAX,
            batch_items: BATCH_ITEMS_MAX,
            output_items: OUTPUT_ITEMS_MAX,
            output_bytes: OUTPUT_BYTES_MAX,
            log_bytes: LOG_BYTES_MAX,
            manifest_bytes: MANIFEST_BYTES_MAX,
            component_bytes: COMPONENT_BYTES_MAX,
            compile: Duration::from_millis(COMPILE_MS),
        }
    }
}

/// A limit by name, as errors and reports call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields of `Limits` and the constants say what they are")]
pub enum Limit {
    Fuel,
    DeadlineMs,
    MemoryBytes,
    Instances,
    Memories,
    Tables,
    StackBytes,
    OutputItems,
    OutputBytes,
    LogBytes,
    ManifestBytes,
    ComponentBytes,
    CompileMs,
    ModelCalls,
    ModelTokens,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Limit::Fuel => "fuel",
            Limit::DeadlineMs => "deadline_ms",
            Limit::MemoryBytes => "memory_bytes",
            Limit::Instances => "instances",
            Limit::Memories => "memories",
            Limit::Tables => "tables",
            Limit::StackBytes => "stack_bytes",
            Limit::OutputItems => "output_items",
            Limit::OutputBytes => "output_bytes",
            Limit::LogBytes => "log_bytes",
            Limit::ManifestBytes => "manifest_bytes",
            Limit::ComponentBytes => "component_bytes",
            Limit::CompileMs => "compile_ms",
            Limit::ModelCalls => "model_calls",
            Limit::ModelTokens => "model_tokens",
        })
    }
}
