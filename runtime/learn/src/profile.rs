//! What Selkie knows of a base model beside its weights: how contexts are rendered for it, and how it wants
//! to be trained. A model without the file `selkie.json` is treated as SEAL treats its models.

use selkie_edit::TrainingDefaults;
use serde::{Deserialize, Serialize};

use crate::base::ModelFiles;
use crate::error::LearnError;

/// The profile's file in a model folder.
pub const PROFILE_FILE: &str = "selkie.json";

/// How contexts become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RendererKind {
    /// SEAL's chat text, for instruction models.
    Seal,
    /// pup's compact form for passages.
    PupFacts,
    /// pup's compact form for puzzles, with two-dimensional positions.
    PupPuzzles,
}

/// A model's profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The model's name in reports.
    pub name: String,
    /// How contexts become tokens.
    pub renderer: RendererKind,
    /// What an edit's training settings are when it does not say.
    pub training: TrainingDefaults,
    /// The seed of the generated world that the model was pretrained in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<u64>,
}

impl Profile {
    /// The profile of a model's files; SEAL's, by the folder's name, where they have none.
    ///
    /// # Errors
    /// [`LearnError::Json`] when it is there and not valid.
    pub fn of(files: &ModelFiles) -> Result<Profile, LearnError> {
        let Some(text) = files.text(PROFILE_FILE)? else {
            let name = files.origin.file_name();
            return Ok(Profile {
                name: name.map_or("model".into(), |name| name.to_string_lossy().into_owned()),
                renderer: RendererKind::Seal,
                training: TrainingDefaults::seal(),
                world: None,
            });
        };
        serde_json::from_str(text).map_err(|e| LearnError::Json {
            path: files.origin.join(PROFILE_FILE),
            what: "model profile",
            reason: e.to_string(),
        })
    }
}
