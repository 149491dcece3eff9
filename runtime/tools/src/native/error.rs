//! What can go wrong with a native plugin.

use std::path::PathBuf;

use crate::error::scrub;
use crate::limits::ERROR_BYTES_MAX;

/// A library that does not load, or a call that failed. `log` is the end of what the process logged and printed.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// Another system than Linux.
    #[error("native plugins are not supported on this platform; build it as WebAssembly")]
    Unsupported,
    /// The library cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file larger than [`super::limits::LIBRARY_BYTES_MAX`].
    #[error("`{}` is larger than {max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// A library that the operator has not listed.
    #[error(
        "`{}` is native code, and its SHA-256 is not listed: {digest}; if you trust it, allow it with {option} {digest}",
        path.display(),
        option = super::ALLOW_OPTION
    )]
    NotAllowed {
        /// The file.
        path: PathBuf,
        /// Its SHA-256, 64 hex digits.
        digest: String,
    },
    /// The process does not start, or does not get as far as the library.
    #[error("its process {reason}")]
    Worker {
        /// What happened.
        reason: String,
    },
    /// Not a shared library for this machine.
    #[error("not a shared library that loads here: {reason}")]
    NotALibrary {
        /// The loader's words.
        reason: String,
    },
    /// A library for another version of the interface.
    #[error("it is for version {found} of the native interface, this host has version {supported}")]
    Abi {
        /// The library's.
        found: u32,
        /// The host's.
        supported: u32,
    },
    /// A library without something that it must define.
    #[error("it does not define `{symbol}`")]
    MissingSymbol {
        /// Its name.
        symbol: String,
    },
    /// A signal ended the process.
    #[error("its process died of {signal}{}", last_words(log))]
    Crashed {
        /// Its name, such as `SIGSEGV`.
        signal: String,
        /// The end of what it said.
        log: String,
    },
    /// The library ended the process.
    #[error("it ended its process with exit code {code} before it answered{}", last_words(log))]
    Exited {
        /// The exit code.
        code: i32,
        /// The end of what it said.
        log: String,
    },
    /// The deadline has passed.
    #[error("stopped at its deadline of {deadline_ms} ms{}", last_words(log))]
    Deadline {
        /// The limit.
        deadline_ms: u64,
        /// The end of what it said.
        log: String,
    },
    /// The CPU time is used up.
    #[error("stopped after {seconds} s of CPU time{}", last_words(log))]
    CpuTime {
        /// The limit.
        seconds: u64,
        /// The end of what it said.
        log: String,
    },
    /// An answer beyond a limit.
    #[error("its answer exceeds {max} {unit}{}", last_words(log))]
    OutputTooLarge {
        /// The limit.
        max: usize,
        /// What is counted: `bytes` or `items`.
        unit: &'static str,
        /// The end of what it said.
        log: String,
    },
    /// An answer that is not made of grids and texts.
    #[error("its answer is refused: {reason}")]
    BadOutput {
        /// What is wrong, and where.
        reason: String,
    },
}

/// The end of a log as one line, to follow an error.
fn last_words(log: &str) -> String {
    let log = log.trim();
    let start = log.ceil_char_boundary(log.len().saturating_sub(ERROR_BYTES_MAX));
    match &log[start..] {
        "" => String::new(),
        words => format!("; its last words: {}", scrub(words, ERROR_BYTES_MAX)),
    }
}
