//! Compilation of components.

use wasmtime::component::Component;

use crate::engine::Clocked;
use crate::error::{ToolError, scrub};
use crate::limits::ERROR_BYTES_MAX;

/// Compiles components for one engine.
#[derive(Clone)]
pub(crate) struct Compiler {
    pub(crate) clocked: Clocked,
}

impl Compiler {
    /// The component, as code for this machine.
    pub(crate) fn component(&self, origin: &str, bytes: &[u8]) -> Result<Component, ToolError> {
        Component::new(&self.clocked.engine, bytes).map_err(|error| ToolError::NotAComponent {
            plugin: origin.into(),
            reason: scrub(&format!("{error:#}"), ERROR_BYTES_MAX),
        })
    }
}
