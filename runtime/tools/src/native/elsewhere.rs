//! Where there are no native plugins.

use std::process::ExitCode;

use super::{Answer, Ask, NativeError, NativeLimits};
use crate::worker::Worker;

/// There is none.
#[derive(Debug)]
pub(super) enum Library {}

impl Library {
    pub(super) fn new(_: &[u8]) -> Result<Library, NativeError> {
        Err(NativeError::Unsupported)
    }

    pub(super) fn ask(&self, _: &Worker, _: Ask<'_>, _: &NativeLimits) -> Result<Answer, NativeError> {
        match *self {}
    }
}

/// Says so.
pub(crate) fn serve() -> ExitCode {
    eprintln!("{}", NativeError::Unsupported);
    ExitCode::from(2)
}
