//! What every step needs, opened once: a model, the tools and the rules for edits.

use std::path::{Path, PathBuf};

use selkie_edit::{Domain, Refused, SelfEdit, Validator, parse, validate};
use selkie_learn::{Compute, Model, ModelFiles};
use selkie_tools::{HostOptions, ToolHost};

use crate::error::StepError;

/// A model with its tools. Holds no state that changes: state is in the home folder.
#[derive(Debug)]
pub struct Runtime {
    /// The base model.
    pub model: Model,
    /// The loaded plugins.
    pub host: ToolHost,
    /// The rules for self-edits, composed from the loaded tools.
    pub validator: Validator,
}

impl Runtime {
    /// Opens the model and loads the plugins: the built-in ones and those of a folder.
    ///
    /// # Errors
    /// Whatever does not load, by name.
    pub fn open(model: &ModelFiles, plugins: Option<PathBuf>) -> Result<Runtime, StepError> {
        Runtime::open_on(model, plugins, &Compute::cpu())
    }

    /// The same with the model on a device.
    ///
    /// # Errors
    /// As [`Runtime::open`], and when the device cannot hold the model.
    pub fn open_on(
        model: &ModelFiles,
        plugins: Option<PathBuf>,
        compute: &Compute,
    ) -> Result<Runtime, StepError> {
        let host = ToolHost::new(HostOptions::new(plugins))?;
        let validator = Validator::new(host.catalogue())?;
        Ok(Runtime { model: Model::open_on(model, compute)?, host, validator })
    }

    /// Parses and validates a self-edit for a kind of context, with this model's defaults.
    ///
    /// # Errors
    /// Every problem of the edit.
    pub fn accept(&self, text: &str, domain: Domain) -> Result<SelfEdit, Refused> {
        validate(parse(text, domain)?, &self.validator, domain, &self.model.profile().training)
    }
}

/// The files of a model folder, or of the bundled model for a kind of context.
///
/// # Errors
/// What cannot be read.
pub fn model_files(folder: Option<&Path>, domain: Domain) -> Result<ModelFiles, StepError> {
    match folder {
        Some(folder) => Ok(ModelFiles::read(folder)?),
        None => Ok(selkie_learn::bundled::files(domain)),
    }
}
