//! A file in memory without a copy: pages are read when they are touched, and the system may drop them again.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use crate::error::LearnError;

/// A file's bytes, mapped read-only.
///
/// Nobody may truncate the file or write to it while it is open: the bytes would change under the reader, and
/// touching a page that is gone ends the process. Weight files are replaced by renaming, never written in place.
#[derive(Debug)]
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// Maps a file.
    ///
    /// # Errors
    /// [`LearnError::Read`] with the path.
    #[expect(unsafe_code, reason = "a mapping is only as constant as its file")]
    pub(crate) fn open(path: &Path) -> Result<Mapped, LearnError> {
        let unreadable = |source| LearnError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: the mapping is read-only and lives as long as the value that lends its bytes. That the file
        // stays as it is while open is asked of the user, as in every program that maps weights.
        unsafe { Mmap::map(&file) }.map(Mapped).map_err(unreadable)
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
