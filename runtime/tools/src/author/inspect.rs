//! What a component shows, also one that the host refuses.

use std::path::Path;

use serde::Serialize;

use crate::compile::Compiler;
use crate::component::{digest, read};
use crate::contract::{Needs, needs};
use crate::error::ToolError;
use crate::host::{HostOptions, ToolHost, origin, read_bounded};
use crate::manifest::Manifest;

/// Something that a component imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Its name, with its version; any text.
    pub name: String,
    /// What it takes to be there.
    pub needs: Needs,
}

/// What is known of a component.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes; none for a file over the limit, which is not read to its end.
    pub sha256: Option<String>,
    /// The version of the plugin interface that it was made for, if it is a plugin.
    pub contract: Option<String>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Why the host refuses it, if it does. Nothing of it was run then, but perhaps `describe`.
    pub refused: Option<String>,
    /// What it says of itself; none of one that is refused.
    pub manifest: Option<Manifest>,
}

impl Import {
    pub(super) fn of(name: String) -> Import {
        Import { needs: needs(&name), name }
    }
}

/// Looks at a component: first without running it, then as the host would load it.
///
/// # Errors
/// When the file cannot be read, or the engine does not start.
pub fn inspect(path: &Path, options: HostOptions) -> Result<Inspection, ToolError> {
    let unreadable = |source| ToolError::Read { path: path.into(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    let bytes = read_bounded(path, options.limits.component_bytes)?;
    let is_whole = bytes.len() <= options.limits.component_bytes;
    let mut found = Inspection {
        bytes: size,
        sha256: is_whole.then(|| digest(&bytes)),
        contract: None,
        imports: Vec::new(),
        refused: None,
        manifest: None,
    };
    if is_whole {
        // What is wrong with one that cannot be read is said when it is loaded.
        if let Ok((imports, contract)) = read(&Compiler::new(&options)?, &origin(path), &bytes) {
            found.imports = imports.into_iter().map(Import::of).collect();
            found.contract = contract;
        }
    }
    match ToolHost::of_file(path, options) {
        Ok(host) => found.manifest = host.manifests().next().cloned(),
        Err(error @ ToolError::Engine { .. }) => return Err(error),
        Err(error) => found.refused = Some(error.to_string()),
    }
    Ok(found)
}
