//! Native plugins: shared libraries with the interface of `sdk/c/selkie_plugin.h`, each call in a process of its own.
//!
//! A process is not a sandbox. What a library does, it does with the rights of whoever runs this program, and its
//! code runs as soon as it is loaded. So none is loaded whose SHA-256 the operator has not listed. What the process
//! is for is accidents: it is killed at its deadline, its resources are limited, its environment is empty, and its
//! crash costs one call.
//!
//! A file is read once. The digest is that of the bytes in memory; those bytes are what every process loads, by a
//! sealed file without a name. Nobody can exchange the file after the check.

#[cfg(target_os = "linux")]
mod abi;
#[cfg(target_os = "linux")]
mod child;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod error;
pub mod limits;
#[cfg(target_os = "linux")]
mod os;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod reply;
#[cfg(target_os = "linux")]
mod wire;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

#[cfg(target_os = "linux")]
pub(crate) use self::child::serve;
#[cfg(not(target_os = "linux"))]
use self::elsewhere::Library;
#[cfg(not(target_os = "linux"))]
pub(crate) use self::elsewhere::serve;
pub use self::error::NativeError;
pub use self::limits::NativeLimits;
#[cfg(target_os = "linux")]
use self::process::Library;
use crate::error::GuestErrorKind;
use crate::limits::MANIFEST_BYTES_MAX;
use crate::work::{Batch, Made, Work};
use crate::worker::Worker;

/// The option by which an operator lists a digest, as errors name it.
pub const ALLOW_OPTION: &str = "--allow-native";

/// A library that may be called. None of its code runs in this process.
#[derive(Debug)]
pub struct NativePlugin {
    library: Library,
    digest: String,
    worker: Worker,
    limits: NativeLimits,
}

/// Bounds the address space of this process, where that can be done; a process that compiles hostile input needs it.
pub(crate) fn bound_memory(bytes: u64) {
    #[cfg(target_os = "linux")]
    let _ = os::limit(libc::RLIMIT_AS, bytes, bytes);
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The answer, or the tool's refusal.
    pub made: Result<Made, Refusal>,
    /// The end of what it logged and printed.
    pub log: String,
}

/// A tool's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its kind.
    pub kind: GuestErrorKind,
    /// Its words, without control characters, cut at [`crate::limits::ERROR_BYTES_MAX`].
    pub message: String,
}

impl NativePlugin {
    /// Reads a library and compares its digest with those that the operator lists (64 hex digits each). Runs nothing.
    ///
    /// # Errors
    /// When it cannot be read, is larger than [`limits::LIBRARY_BYTES_MAX`], or is not listed.
    pub fn load(
        path: &Path,
        allowed: &[String],
        worker: &Worker,
        limits: &NativeLimits,
    ) -> Result<NativePlugin, NativeError> {
        let unreadable = |source| NativeError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(limits::LIBRARY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > limits::LIBRARY_BYTES_MAX {
            return Err(NativeError::TooLarge { path: path.to_owned(), max: limits::LIBRARY_BYTES_MAX });
        }
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if !allowed.iter().any(|listed| listed.eq_ignore_ascii_case(&digest)) {
            return Err(NativeError::NotAllowed { path: path.to_owned(), digest });
        }
        let library = Library::new(&bytes)?;
        Ok(NativePlugin { library, digest, worker: worker.clone(), limits: limits.clone() })
    }

    /// SHA-256 of the library, 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What the library says about itself: text that is yet to be read as a manifest.
    ///
    /// # Errors
    /// When the library does not load or its process fails.
    pub fn describe(&self) -> Result<String, NativeError> {
        let limits = NativeLimits { output_bytes: MANIFEST_BYTES_MAX, ..self.limits.clone() };
        self.library.describe(&self.worker, &limits)
    }

    /// A tool applied to one batch, in a fresh process. `params` is a JSON object's text.
    ///
    /// # Errors
    /// When the library does not load, its process fails, or the answer is not made of well-formed grids and texts.
    /// Numbers and counts are not checked here.
    pub fn apply(&self, tool: &str, params: &str, seed: u64, work: Work<'_>) -> Result<Reply, NativeError> {
        self.call(&Batch { tool, params, seed, work })
    }

    /// As [`NativePlugin::apply`].
    pub(crate) fn call(&self, batch: &Batch<'_>) -> Result<Reply, NativeError> {
        self.library.apply(&self.worker, batch, &self.limits)
    }
}
