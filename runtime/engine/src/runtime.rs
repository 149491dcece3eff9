//! What every step needs, opened once: a model, the tools and the rules for edits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use selkie_edit::{Domain, Refused, SelfEdit, TrainingDefaults, Validator, parse, validate};
use selkie_learn::pup::facts::{FactWorld, Known, WATCHED_FACTS};
use selkie_learn::{Compute, Model, ModelFiles};
use selkie_tools::{Grants, HostOptions, ModelBudget, ToolHost};

use crate::error::StepError;
use crate::host_model::AskedModel;

/// A model with its tools. Holds no state that changes: state is in the home folder.
#[derive(Debug)]
pub struct Runtime {
    /// The base model.
    pub model: Arc<Model>,
    /// The loaded plugins.
    pub host: ToolHost,
    /// The rules for self-edits, composed from the loaded tools.
    pub validator: Validator,
    /// Documents about what the model knows, which edits may replay so that it is not forgotten. Those of its world
    /// for the bundled model; none for others, until whoever opened the runtime puts some here.
    pub known: Vec<String>,
}

/// Which plugins are loaded and how, and to which of them the model is granted.
#[derive(Debug, Clone)]
pub struct PluginOptions {
    /// What is loaded; its grants are replaced by those that follow from the model.
    pub host: HostOptions,
    /// Names of plugins that may ask the model, if their manifests ask for it too.
    pub grants: Vec<String>,
}

impl Runtime {
    /// Opens the model and loads the plugins: the built-in ones and those of a folder.
    ///
    /// # Errors
    /// Whatever does not load, by name.
    pub fn open(model: &ModelFiles, plugins: Option<PathBuf>) -> Result<Runtime, StepError> {
        Runtime::open_on(
            model,
            PluginOptions { host: HostOptions::new(plugins), grants: Vec::new() },
            &Compute::cpu(),
        )
    }

    /// The same with the model on a device.
    ///
    /// # Errors
    /// As [`Runtime::open`], and when the device cannot hold the model.
    pub fn open_on(
        model: &ModelFiles,
        plugins: PluginOptions,
        compute: &Compute,
    ) -> Result<Runtime, StepError> {
        let model = Arc::new(Model::open_on(model, compute)?);
        let grants = Grants::of(Arc::new(AskedModel(model.clone())));
        let grants = plugins
            .grants
            .into_iter()
            .fold(grants, |grants, plugin| grants.with(plugin, ModelBudget::default()));
        let host = ToolHost::new(HostOptions { grants, ..plugins.host })?;
        let validator = Validator::new(host.catalogue())?;
        let of_world = |world: FactWorld| world.known_documents(Known::Asked, WATCHED_FACTS);
        let known = model.fact_world().map(of_world).unwrap_or_default();
        Ok(Runtime { model, host, validator, known })
    }

    /// Reads the folder of plugins again: new and changed components are usable at once. The exclusive access is
    /// the pin: no edit is under way meanwhile.
    ///
    /// # Errors
    /// The plugin that does not load; then everything stays as it was.
    pub fn reload_plugins(&mut self) -> Result<(), StepError> {
        let host = self.host.reloaded()?;
        self.validator = Validator::new(host.catalogue())?;
        self.host = host;
        Ok(())
    }

    /// Parses and validates a self-edit for a kind of context, with this model's defaults.
    ///
    /// # Errors
    /// Every problem of the edit.
    pub fn accept(&self, text: &str, domain: Domain) -> Result<SelfEdit, Refused> {
        self.accept_with(text, domain, &self.model.profile().training)
    }

    /// The same with other defaults.
    ///
    /// # Errors
    /// Every problem of the edit.
    pub fn accept_with(
        &self,
        text: &str,
        domain: Domain,
        defaults: &TrainingDefaults,
    ) -> Result<SelfEdit, Refused> {
        validate(parse(text, domain)?, &self.validator, domain, defaults)
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
