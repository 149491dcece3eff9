//! Where there are no native plugins.

use std::process::ExitCode;

use super::{NativeError, NativeLimits, Reply};
use crate::work::Batch;
use crate::worker::Worker;

/// There is none.
#[derive(Debug)]
pub(super) enum Library {}

impl Library {
    pub(super) fn new(_: &[u8]) -> Result<Library, NativeError> {
        Err(NativeError::Unsupported)
    }

    pub(super) fn describe(&self, _: &Worker, _: &NativeLimits) -> Result<String, NativeError> {
        match *self {}
    }

    pub(super) fn apply(&self, _: &Worker, _: &Batch<'_>, _: &NativeLimits) -> Result<Reply, NativeError> {
        match *self {}
    }
}

/// Says so.
pub(crate) fn serve() -> ExitCode {
    eprintln!("{}", NativeError::Unsupported);
    ExitCode::from(2)
}
