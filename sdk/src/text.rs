//! The trait of a tool that makes training documents out of a passage and of what a model wrote about it.

use serde::de::DeserializeOwned;

use crate::error::ToolError;
use crate::laws::Laws;
use crate::rng::Rng;

/// What there is to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The passage's title; may be empty.
    pub title: String,
    /// The passage.
    pub text: String,
    /// What a model wrote about it, as it wrote it; may be empty.
    pub completions: Vec<String>,
}

/// A tool that makes documents of passages. The documents are learned as they are: a title that should stand
/// before each is written by the tool.
pub trait TextAugmenter {
    /// Full name, `namespace.tool` in lower case, such as `demo.sentences`.
    const NAME: &'static str;
    /// One line for people and for the model's prompt.
    const SUMMARY: &'static str;
    /// The parameters. Use `#[serde(deny_unknown_fields)]`.
    type Params: DeserializeOwned;

    /// What the tool promises; the host holds it to it. By default: nothing but that the seed does not matter.
    const LAWS: Laws = Laws::DETERMINISTIC;

    /// JSON Schema (draft 2020-12) of the parameters as text, without `$ref`. By default: no parameters.
    fn params_schema() -> String {
        crate::NO_PARAMS_SCHEMA.into()
    }

    /// The documents made of one source, in order; may be none.
    ///
    /// # Errors
    /// When the parameters are wrong or the tool cannot work on such a source at all.
    fn documents(params: &Self::Params, source: &Source, rng: &mut Rng) -> Result<Vec<String>, ToolError> {
        let _ = (params, source, rng);
        Err(ToolError::internal("the tool implements neither `documents` nor `batch`"))
    }

    /// The documents of each source of a batch, in order. By default [`TextAugmenter::documents`] of each, with
    /// a generator of the batch's seed for each, so that a source's documents do not depend on its neighbours.
    ///
    /// # Errors
    /// As [`TextAugmenter::documents`].
    fn batch(params: &Self::Params, sources: &[Source], rng: &Rng) -> Result<Vec<Vec<String>>, ToolError> {
        sources.iter().map(|source| Self::documents(params, source, &mut rng.clone())).collect()
    }
}
