//! A plugin as a file to hand on, with a list of what is in it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{AuthorError, CaseReport, Import, Opened};
use crate::laws::LawReport;
use crate::manifest::{Capability, ToolManifest};

/// What stands beside a packed component.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackList {
    /// The plugin's name.
    pub name: String,
    /// The plugin's version.
    pub version: String,
    /// The version of the plugin interface that it was made for.
    pub contract: &'static str,
    /// SHA-256 of the component.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// What it asks of the host.
    pub asks: Vec<Capability>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Its tools, with their laws.
    pub tools: Vec<ToolManifest>,
}

/// A plugin that was packed.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    /// The component.
    pub component: PathBuf,
    /// The list.
    pub list: PathBuf,
}

/// Writes `NAME-VERSION.wasm`, the component as it is, and `NAME-VERSION.json`, a [`PackList`], into a folder. The
/// same component gives the same bytes. `Ok(None)`, and nothing is written, if a law is broken or a case differs.
///
/// # Errors
/// When the files cannot be written.
pub fn pack(
    opened: &Opened,
    laws: &LawReport,
    cases: &[CaseReport],
    folder: &Path,
) -> Result<Option<Packed>, AuthorError> {
    if laws.broken().next().is_some() || cases.iter().any(|case| case.differs.is_some()) {
        return Ok(None);
    }
    let Opened { plugin, manifest, contract, imports, bytes, .. } = opened;
    let list = PackList {
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        contract,
        sha256: plugin.digest.clone(),
        bytes: *bytes,
        asks: manifest.asks.clone(),
        imports: imports.clone(),
        tools: manifest.tools.clone(),
    };
    let file = |extension: &str| folder.join(format!("{}-{}.{extension}", plugin.name, plugin.version));
    let packed = Packed { component: file("wasm"), list: file("json") };
    std::fs::create_dir_all(folder).map_err(AuthorError::file(folder))?;
    // Read before it is written: the two may be one file.
    let component = std::fs::read(&opened.path).map_err(AuthorError::file(&opened.path))?;
    std::fs::write(&packed.component, component).map_err(AuthorError::file(&packed.component))?;
    let text = serde_json::to_string_pretty(&list).map_err(std::io::Error::from);
    let written = text.and_then(|text| std::fs::write(&packed.list, text + "\n"));
    written.map_err(AuthorError::file(&packed.list))?;
    Ok(Some(packed))
}
