//! A plugin as its author names it: a folder, which is built, or a component.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use selkie_edit::PluginId;

use super::stand_in::StandIn;
use super::{AuthorError, Import};
use crate::build;
use crate::error::ToolError;
use crate::host::{HostOptions, ToolHost};
use crate::laws::LawReport;
use crate::manifest::{Capability, Manifest};
use crate::model::{Grants, ModelBudget};

/// A plugin alone in a host.
#[derive(Debug)]
pub struct Opened {
    /// The host, with nothing else in it.
    pub host: ToolHost,
    /// The plugin.
    pub plugin: PluginId,
    /// What it says of itself.
    pub manifest: Manifest,
    /// The component.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The folder it was built from, if it was.
    pub folder: Option<PathBuf>,
    /// The version of the plugin interface that it was made for.
    pub contract: &'static str,
    /// What it imports.
    pub imports: Vec<Import>,
}

/// Opens a component, or the plugin of a folder: builds it, and loads it alone. Of the options, `built_in` and
/// `plugins` do not count.
///
/// # Errors
/// When it does not build or does not load.
pub fn open(path: &Path, options: HostOptions) -> Result<Opened, AuthorError> {
    let folder = path.is_dir().then(|| path.to_path_buf());
    let path = match &folder {
        Some(folder) => build::component(folder, None)?.path,
        None => path.to_path_buf(),
    };
    let host = ToolHost::of_file(&path, options)?;
    let loaded = host.plugins().next().cloned().zip(host.manifests().next().cloned());
    let nothing = || ToolError::Engine { reason: "a component that loaded is not there".into() };
    let (plugin, manifest) = loaded.ok_or_else(nothing)?;
    let bytes = std::fs::metadata(&path).map_err(AuthorError::file(&path))?.len();
    let contract = host.contract(&plugin)?.ok_or_else(nothing)?;
    let imports = host.imports(&plugin)?.into_iter().map(Import::of).collect();
    Ok(Opened { host, plugin, manifest, path, bytes, folder, contract, imports })
}

impl Opened {
    /// The file of cases that belongs to it: the one that was named, else `cases.json` in its folder, if it is there.
    pub fn cases(&self, named: Option<&Path>) -> Option<PathBuf> {
        let own =
            || self.folder.as_ref().map(|folder| folder.join("cases.json")).filter(|path| path.is_file());
        named.map(Path::to_path_buf).or_else(own)
    }

    /// Whether it asks for the host model; [`Opened::with_stand_in`] answers it.
    pub fn asks_for_model(&self) -> bool {
        self.manifest.asks.contains(&Capability::HostModel)
    }

    /// The same with a stand-in for the host model granted, if it asks for one: no model, but answers of the right
    /// form, the same for the same question.
    ///
    /// # Errors
    /// None that the host does not have.
    pub fn with_stand_in(self) -> Result<Opened, AuthorError> {
        if !self.asks_for_model() {
            return Ok(self);
        }
        let grants = Grants::of(Arc::new(StandIn)).with(&self.plugin.name, ModelBudget::default());
        Ok(Opened { host: self.host.with_grants(grants)?, ..self })
    }

    /// As [`ToolHost::check_laws`].
    pub fn check_laws(&self, cases: u32, seed: u64) -> LawReport {
        let none = || LawReport {
            plugin: self.plugin.name.clone(),
            version: self.plugin.version.clone(),
            tools: Vec::new(),
        };
        self.host.check_laws(&self.plugin, cases, seed).unwrap_or_else(none)
    }
}
