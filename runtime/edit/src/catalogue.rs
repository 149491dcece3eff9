//! The tools that are loaded, as the rest of the runtime sees them: names, schemas and provenance.
//!
//! A catalogue is data. It drives four things at once: validation, the composed schema, the tool list in the
//! prompt and `selkie tool list`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::context::Domain;

/// What a tool works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// Batches of tasks of grids.
    PuzzleAugmenter,
    /// A passage and what a model wrote about it.
    TextAugmenter,
    /// Answers, grids and self-edits, which it scores. No part of a self-edit: a model does not choose who
    /// grades it.
    Grader,
}

impl std::fmt::Display for ToolKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ToolKind::PuzzleAugmenter => "a puzzle augmenter",
            ToolKind::TextAugmenter => "a text augmenter",
            ToolKind::Grader => "a grader",
        })
    }
}

/// Which component a tool comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PluginId {
    /// The plugin's name, as its manifest says it.
    pub name: String,
    /// The plugin's version, as its manifest says it.
    pub version: String,
    /// SHA-256 of the component's bytes, 64 hex digits.
    pub digest: String,
}

impl std::fmt::Display for PluginId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// One tool of a loaded plugin. Its parameter schema has been bounded by the host.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// Full name, such as `grid.rotate`.
    pub name: String,
    /// What it works on.
    pub kind: ToolKind,
    /// One line for people and for the model's prompt.
    pub summary: String,
    /// JSON Schema (draft 2020-12) of its parameters: an object.
    pub params_schema: serde_json::Value,
    /// Where it comes from.
    pub plugin: PluginId,
}

/// The loaded tools by name.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    tools: BTreeMap<String, ToolSpec>,
}

impl Catalogue {
    /// A catalogue of these tools.
    ///
    /// # Errors
    /// The two tools, when two have one name.
    pub fn new(tools: impl IntoIterator<Item = ToolSpec>) -> Result<Catalogue, Box<(ToolSpec, ToolSpec)>> {
        let mut catalogue = Catalogue::default();
        for tool in tools {
            if let Some(first) = catalogue.tools.remove(&tool.name) {
                return Err(Box::new((first, tool)));
            }
            catalogue.tools.insert(tool.name.clone(), tool);
        }
        Ok(catalogue)
    }

    /// The tool of that name.
    pub fn get(&self, name: &str) -> Option<&ToolSpec> {
        self.tools.get(name)
    }

    /// The tools that a self-edit for this kind of context may use.
    pub fn suited(&self, domain: Domain) -> Catalogue {
        let suited = self.tools.iter().filter(|(_, tool)| tool.kind == domain.tool_kind());
        Catalogue { tools: suited.map(|(name, tool)| (name.clone(), tool.clone())).collect() }
    }

    /// All tools, by name.
    pub fn iter(&self) -> impl Iterator<Item = &ToolSpec> {
        self.tools.values()
    }
}
