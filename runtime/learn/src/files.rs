//! What files need: their digest as text, and being replaced as a whole.

use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::LearnError;

/// A digest as 64 hex digits.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a file so that a crash leaves either the old or the new one: written beside it, synced, renamed.
///
/// # Errors
/// [`LearnError::Write`].
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), LearnError> {
    let failed = |source| LearnError::Write { path: path.to_owned(), source };
    let mut temporary = PathBuf::from(path);
    temporary.set_extension("tmp");
    let mut file = std::fs::File::create(&temporary).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)
}
