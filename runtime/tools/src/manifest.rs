//! What a plugin says about itself: a guest's `describe` returns it as JSON, and all of it is hostile input.
//!
//! The parameter schemas travel far: they become part of the schema that a self-edit is checked against, of the
//! grammar that a model writes under, and of the prompt. So they are bounded here, once.

use std::collections::HashMap;

use jsonschema::Validator;
use schemars::JsonSchema;
use selkie_edit::{SubmissionKind, ToolKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::laws::Law;
use crate::limits::MANIFEST_BYTES_MAX;

/// Tools of one plugin. The built-in one has 14.
pub const TOOLS_MAX: usize = 64;

/// Bytes of a name. It is a JSON value, a line in a table and part of a prompt.
pub const NAME_BYTES_MAX: usize = 64;

/// Characters of a summary. It is a line of every prompt.
pub const SUMMARY_CHARS_MAX: usize = 300;

/// Bytes of one tool's parameter schema. The largest built-in one (a concatenation of tools) has 2.5 kB.
pub const SCHEMA_BYTES_MAX: usize = 16 << 10;

/// Nesting of one tool's parameter schema. The deepest built-in one (a chain's) has 12.
pub const SCHEMA_DEPTH_MAX: usize = 16;

/// Bytes of a regular expression in a schema.
pub const PATTERN_BYTES_MAX: usize = 128;

/// Largest value of [`Laws::growth_max`]: no grid is longer.
const GROWTH_MAX: u16 = 10_000;

/// Largest value of [`Laws::items_max`]: more answers than a batch may have.
const ITEMS_MAX: u32 = 65_536;

/// Inverses that one tool may declare. Each is a call or two where the law is checked.
const INVERSES_MAX: usize = 16;

/// A plugin's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub manifest: u32,
    /// The plugin's name: lower-case letters, digits, `_` and `-`.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_-]{0,63}$"))]
    pub name: String,
    /// The plugin's version, such as `0.1.0`.
    #[schemars(regex(pattern = r"^[0-9A-Za-z.+-]{1,64}$"))]
    pub version: String,
    /// What it asks of the host. It gets nothing that the operator does not grant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1))]
    pub asks: Vec<Capability>,
    /// Its tools, at least one. A plugin with graders has nothing else.
    #[schemars(length(min = 1, max = 64))]
    pub tools: Vec<ToolManifest>,
}

/// Something that the host can do for a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Likelihoods and completions of the model that is being adapted.
    HostModel,
}

/// One tool of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolManifest {
    /// `namespace.tool`, such as `grid.rotate`.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"), length(max = 64))]
    pub name: String,
    /// What it works on.
    pub kind: ToolKind,
    /// What a grader grades; for a grader, and only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SubmissionKind")]
    pub takes: Option<SubmissionKind>,
    /// One line for people and for the model's prompt.
    #[schemars(length(min = 1, max = 300))]
    pub summary: String,
    /// JSON Schema (draft 2020-12) of its parameters: an object, without references.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub params: Value,
    /// What it promises about its results.
    #[serde(default, skip_serializing_if = "Laws::is_empty")]
    pub laws: Laws,
}

/// What a tool promises. The host holds it to every one of them: to what an answer shows by itself on every
/// batch, to the rest on some. A tool that breaks one is not called again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Laws {
    /// The result does not depend on the seed: the host always passes seed 0.
    #[serde(default)]
    pub deterministic: bool,
    /// What happens to the sides of the grids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// With shape `bounded`, and only then: no side is longer than this many times the longest side of the
    /// tasks in the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub growth_max: Option<u16>,
    /// No colour appears in a task of the answer that does not occur in some task of the batch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub palette_closed: bool,
    /// Applied twice with the same parameters and seed it gives each task back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub involution: bool,
    /// Calls that are undone by another call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub inverse: Vec<Inverse>,
    /// At most so many answers (tasks, or documents) for each item of the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub items_max: Option<u32>,
    /// A grader of answers or grids: two equal sides score 1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_on_equal: bool,
    /// A grader of answers or grids: the score stays when the sides are swapped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub symmetric: bool,
}

/// A call that another call undoes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inverse {
    /// These parameters of the tool itself.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub params: Value,
    /// The tool that undoes it, of the same plugin.
    pub tool: String,
    /// With these parameters.
    #[schemars(with = "serde_json::Map<String, Value>")]
    pub inverse_params: Value,
}

/// What happens to the sides of a task's grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// They stay: each task of the answer has the shapes of a task of the batch.
    Preserved,
    /// Height and width change places.
    Swapped,
    /// They grow at most by `growth_max`.
    Bounded,
}

impl Laws {
    fn is_empty(&self) -> bool {
        *self == Laws::default()
    }

    /// The laws that are declared.
    pub fn declared(&self) -> impl Iterator<Item = Law> {
        let declared = [
            (Law::Deterministic, self.deterministic),
            (Law::Shape, matches!(self.shape, Some(Shape::Preserved | Shape::Swapped))),
            (Law::GrowthMax, self.shape == Some(Shape::Bounded) || self.growth_max.is_some()),
            (Law::PaletteClosed, self.palette_closed),
            (Law::Involution, self.involution),
            (Law::Inverse, !self.inverse.is_empty()),
            (Law::ItemsMax, self.items_max.is_some()),
            (Law::OneOnEqual, self.one_on_equal),
            (Law::Symmetric, self.symmetric),
        ];
        declared.into_iter().filter_map(|(law, is_declared)| is_declared.then_some(law))
    }
}

/// Which rule a manifest breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// More bytes than [`MANIFEST_BYTES_MAX`].
    #[error("{found} bytes, at most {MANIFEST_BYTES_MAX} are read")]
    TooLarge {
        /// Bytes found.
        found: usize,
    },
    /// Not the JSON of a manifest.
    #[error("not a manifest's JSON: {0}")]
    Json(String),
    /// A format from the future.
    #[error("manifest version {0}, this host reads version 1")]
    Version(u32),
    /// A plugin name or version of other characters, or too long.
    #[error("`{0}` is no plugin name or version")]
    Name(String),
    /// No tools, or more than [`TOOLS_MAX`].
    #[error("{0} tools, 1 to {TOOLS_MAX} are allowed")]
    ToolCount(usize),
    /// A tool name that is not `namespace.tool`.
    #[error("`{0}` is no tool name: `namespace.tool` in lower case, at most {NAME_BYTES_MAX} bytes")]
    ToolName(String),
    /// One name twice.
    #[error("two tools are called `{0}`")]
    Twice(String),
    /// An empty or overlong summary, or one with control characters.
    #[error("tool `{0}`: its summary is not one line of 1 to {SUMMARY_CHARS_MAX} characters")]
    Summary(String),
    /// A parameter schema that breaks a rule.
    #[error("tool `{tool}`: its parameter schema {problem}")]
    Schema {
        /// The tool.
        tool: String,
        /// The rule.
        problem: SchemaProblem,
    },
    /// A plugin that grades and also makes what is graded.
    #[error("graders beside other tools; a plugin that grades has graders alone")]
    GraderWithOthers,
    /// `takes` on another kind of tool, or a grader without it.
    #[error("tool `{0}`: `takes` goes with kind `grader`, and a grader needs it")]
    Takes(String),
    /// Laws that do not fit together.
    #[error("tool `{0}`: `growth_max` (1 to {GROWTH_MAX}) goes with shape `bounded` and with nothing else")]
    Laws(String),
    /// A law that says nothing about tools of that kind.
    #[error("tool `{tool}`: the law `{law}` is for {}", law.subjects())]
    LawOfAnotherKind {
        /// The tool.
        tool: String,
        /// The law.
        law: Law,
    },
    /// [`Laws::items_max`] out of its range.
    #[error("tool `{0}`: `items_max` is 1 to {ITEMS_MAX}")]
    ItemsMax(String),
    /// An inverse that breaks a rule.
    #[error("tool `{tool}`: its inverses: {problem}")]
    Inverse {
        /// The tool.
        tool: String,
        /// The rule.
        problem: InverseProblem,
    },
}

/// Which rule the inverses of a tool break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InverseProblem {
    /// More than 16.
    #[error("{0}, at most {INVERSES_MAX} are allowed")]
    TooMany(usize),
    /// Two for the same parameters.
    #[error("two for {0}; one is enough")]
    Twice(String),
    /// A tool that the plugin does not have, or one of another kind.
    #[error("the plugin has no such tool `{0}`")]
    UnknownTool(String),
    /// Parameters that the schema of their tool refuses.
    #[error("`{tool}` does not take {params}")]
    Params {
        /// The tool.
        tool: String,
        /// The parameters.
        params: String,
    },
}

/// Which rule a parameter schema breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaProblem {
    /// More bytes than [`SCHEMA_BYTES_MAX`].
    #[error("has {0} bytes, at most {SCHEMA_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// Deeper than [`SCHEMA_DEPTH_MAX`].
    #[error("is deeper than {SCHEMA_DEPTH_MAX}")]
    TooDeep,
    /// Not the schema of an object.
    #[error("does not say \"type\": \"object\"")]
    NotAnObject,
    /// A keyword that refers to another schema, or could be referred to. The schema becomes part of a larger
    /// one, where a local reference would mean something else; a remote one is never fetched; and without
    /// references there is no recursion.
    #[error("has the keyword `{0}`; references are not allowed")]
    Reference(String),
    /// A regular expression over [`PATTERN_BYTES_MAX`].
    #[error("has a regular expression of {0} bytes, at most {PATTERN_BYTES_MAX} are allowed")]
    Pattern(usize),
    /// Not a valid schema of draft 2020-12.
    #[error("is not valid: {0}")]
    Invalid(String),
}

/// Keywords that connect schemas.
const REFERENCES: [&str; 10] = [
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "$id",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$defs",
    "definitions",
    "$vocabulary",
];

impl Manifest {
    /// Reads what a guest described itself as, and holds it to every rule.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        if text.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { found: text.len() });
        }
        let manifest: Manifest = serde_json::from_str(text)
            .map_err(|error| ManifestError::Json(crate::error::scrub(&error.to_string(), 200)))?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.manifest != 1 {
            return Err(ManifestError::Version(self.manifest));
        }
        if !is_name(&self.name, "_-") {
            return Err(ManifestError::Name(shown(&self.name)));
        }
        let version = self.version.bytes().all(|b| b.is_ascii_alphanumeric() || b".+-".contains(&b));
        if !version || self.version.is_empty() || self.version.len() > NAME_BYTES_MAX {
            return Err(ManifestError::Name(shown(&self.version)));
        }
        if self.tools.is_empty() || self.tools.len() > TOOLS_MAX {
            return Err(ManifestError::ToolCount(self.tools.len()));
        }
        let mut takes: HashMap<&str, (ToolKind, Validator)> = HashMap::new();
        for tool in &self.tools {
            if takes.insert(&tool.name, (tool.kind, tool.check()?)).is_some() {
                return Err(ManifestError::Twice(tool.name.clone()));
            }
        }
        self.tools.iter().try_for_each(|tool| tool.check_inverses(&takes))?;
        let is_grader = |tool: &&ToolManifest| tool.kind == ToolKind::Grader;
        if (1..self.tools.len()).contains(&self.tools.iter().filter(is_grader).count()) {
            return Err(ManifestError::GraderWithOthers);
        }
        Ok(())
    }
}

impl ToolManifest {
    /// Everything but what takes other tools to check. Gives the check of its parameters.
    fn check(&self) -> Result<Validator, ManifestError> {
        let parts = self.name.split_once('.');
        if self.name.len() > NAME_BYTES_MAX || !parts.is_some_and(|(a, b)| is_name(a, "_") && is_name(b, "_"))
        {
            return Err(ManifestError::ToolName(shown(&self.name)));
        }
        let length = self.summary.chars().count();
        if length == 0
            || crate::error::scrub(&self.summary, usize::MAX) != self.summary
            || length > SUMMARY_CHARS_MAX
        {
            return Err(ManifestError::Summary(self.name.clone()));
        }
        if (self.kind == ToolKind::Grader) != self.takes.is_some() {
            return Err(ManifestError::Takes(self.name.clone()));
        }
        let params = check_schema(&self.params)
            .map_err(|problem| ManifestError::Schema { tool: self.name.clone(), problem })?;
        self.check_laws()?;
        Ok(params)
    }

    fn check_laws(&self) -> Result<(), ManifestError> {
        let (laws, tool) = (&self.laws, || self.name.clone());
        if let Some(law) = laws.declared().find(|law| !law.is_for(self.kind, self.takes)) {
            return Err(ManifestError::LawOfAnotherKind { tool: tool(), law });
        }
        let growth = match laws.shape {
            Some(Shape::Bounded) => laws.growth_max.is_some_and(|growth| (1..=GROWTH_MAX).contains(&growth)),
            _ => laws.growth_max.is_none(),
        };
        if !growth {
            return Err(ManifestError::Laws(tool()));
        }
        if laws.items_max.is_some_and(|items| !(1..=ITEMS_MAX).contains(&items)) {
            return Err(ManifestError::ItemsMax(tool()));
        }
        Ok(())
    }

    fn check_inverses(&self, takes: &HashMap<&str, (ToolKind, Validator)>) -> Result<(), ManifestError> {
        let refuse = |problem| ManifestError::Inverse { tool: self.name.clone(), problem };
        let inverses = &self.laws.inverse;
        if inverses.len() > INVERSES_MAX {
            return Err(refuse(InverseProblem::TooMany(inverses.len())));
        }
        let twice = |at: usize| inverses[..at].iter().any(|other| other.params == inverses[at].params);
        if let Some(at) = (0..inverses.len()).find(|&at| twice(at)) {
            return Err(refuse(InverseProblem::Twice(shown(&inverses[at].params.to_string()))));
        }
        let calls = inverses
            .iter()
            .flat_map(|inverse| [(&self.name, &inverse.params), (&inverse.tool, &inverse.inverse_params)]);
        for (tool, params) in calls {
            let unknown = || refuse(InverseProblem::UnknownTool(shown(tool)));
            let known = takes.get(tool.as_str()).filter(|(kind, _)| *kind == self.kind);
            if !known.ok_or_else(unknown)?.1.is_valid(params) {
                let params = shown(&params.to_string());
                return Err(refuse(InverseProblem::Params { tool: tool.clone(), params }));
            }
        }
        Ok(())
    }
}

/// `[a-z][a-z0-9]*` with these other characters too.
pub(crate) fn is_name(name: &str, others: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || others.contains(c))
}

fn shown(text: &str) -> String {
    crate::error::scrub(text, NAME_BYTES_MAX)
}

/// The check of values against a tool's parameter schema, if the schema keeps every rule.
pub(crate) fn check_schema(schema: &Value) -> Result<Validator, SchemaProblem> {
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(SchemaProblem::TooLarge(bytes));
    }
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err(SchemaProblem::NotAnObject);
    }
    walk(schema, SCHEMA_DEPTH_MAX)?;
    // The linear-time engine: a pattern with look-around or back-references does not compile under it.
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .with_pattern_options(jsonschema::PatternOptions::regex().size_limit(1 << 20))
        .build(schema)
        .map_err(|error| SchemaProblem::Invalid(crate::error::scrub(&error.to_string(), 200)))
}

/// Looks at every key, whether it is a keyword or a property's name: refusing a property called `$ref` is a
/// small price for not having to know where keywords may stand.
fn walk(value: &Value, depth: usize) -> Result<(), SchemaProblem> {
    let Some(deeper) = depth.checked_sub(1) else { return Err(SchemaProblem::TooDeep) };
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| walk(item, deeper)),
        Value::Object(entries) => entries.iter().try_for_each(|(key, entry)| {
            if REFERENCES.contains(&key.as_str()) {
                return Err(SchemaProblem::Reference(key.clone()));
            }
            match (key.as_str(), entry) {
                ("pattern", Value::String(pattern)) => check_pattern(pattern)?,
                ("patternProperties", Value::Object(patterns)) => {
                    patterns.keys().try_for_each(|pattern| check_pattern(pattern))?;
                }
                _ => {}
            }
            walk(entry, deeper)
        }),
        _ => Ok(()),
    }
}

fn check_pattern(pattern: &str) -> Result<(), SchemaProblem> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(SchemaProblem::Pattern(pattern.len()));
    }
    Ok(())
}

/// The JSON Schema of a manifest: what `schemas/plugin-manifest.v1.json` holds.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Manifest).to_value();
    if let Some(entries) = schema.as_object_mut() {
        entries.insert("title".into(), "Selkie plugin manifest, version 1".into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(change: impl FnOnce(&mut Value)) -> Result<Manifest, ManifestError> {
        let mut manifest = json!({
            "manifest": 1, "name": "demo", "version": "0.1.0",
            "tools": [{
                "name": "demo.tool", "kind": "puzzle_augmenter", "summary": "Does it.",
                "params": {"type": "object"}, "laws": {"deterministic": true},
            }],
        });
        change(&mut manifest);
        Manifest::parse(&manifest.to_string())
    }

    fn schema_problem(schema: Value) -> SchemaProblem {
        match manifest(|manifest| manifest["tools"][0]["params"] = schema) {
            Err(ManifestError::Schema { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_manifest_is_read() {
        let manifest = manifest(|_| {}).expect("a manifest");
        assert!(manifest.tools[0].laws.deterministic);
    }

    #[test]
    fn each_rule_has_its_error() {
        use ManifestError::{
            ItemsMax, Json, Laws, Name, Summary, TooLarge, ToolCount, ToolName, Twice, Version,
        };
        let error = |change: fn(&mut Value)| manifest(change).expect_err("a broken rule");
        assert_eq!(error(|m| m["manifest"] = json!(2)), Version(2));
        assert_eq!(error(|m| m["name"] = json!("Demo")), Name("Demo".into()));
        assert_eq!(error(|m| m["name"] = json!("d".repeat(65))), Name("d".repeat(64) + "..."));
        assert_eq!(error(|m| m["version"] = json!("1 0")), Name("1 0".into()));
        assert_eq!(error(|m| m["tools"] = json!([])), ToolCount(0));
        assert_eq!(error(|m| m["tools"] = vec![m["tools"][0].clone(); 65].into()), ToolCount(65));
        assert_eq!(error(|m| m["tools"] = vec![m["tools"][0].clone(); 2].into()), Twice("demo.tool".into()));
        for name in ["tool", "demo.", ".tool", "demo.a.b", "1demo.tool", "demo.Tool", "demo.t\u{1b}"] {
            let error = manifest(|m| m["tools"][0]["name"] = json!(name)).expect_err(name);
            assert!(matches!(error, ToolName(_)), "{name}: {error}");
        }
        assert_eq!(error(|m| m["tools"][0]["summary"] = json!("")), Summary("demo.tool".into()));
        assert_eq!(error(|m| m["tools"][0]["summary"] = json!("a\nb")), Summary("demo.tool".into()));
        assert_eq!(error(|m| m["tools"][0]["summary"] = json!("x".repeat(301))), Summary("demo.tool".into()));
        assert_eq!(error(|m| m["tools"][0]["laws"] = json!({"growth_max": 2})), Laws("demo.tool".into()));
        assert_eq!(error(|m| m["tools"][0]["laws"] = json!({"shape": "bounded"})), Laws("demo.tool".into()));
        assert_eq!(error(|m| m["tools"][0]["laws"] = json!({"items_max": 0})), ItemsMax("demo.tool".into()));
        assert_eq!(
            error(|m| m["tools"][0]["laws"]["items_max"] = json!(65_537)),
            ItemsMax("demo.tool".into())
        );
        assert!(matches!(error(|m| m["more"] = json!(1)), Json(_)));
        assert!(matches!(error(|m| m["tools"][0]["kind"] = json!("oracle")), Json(_)));
        let long = " ".repeat(MANIFEST_BYTES_MAX + 1);
        assert_eq!(Manifest::parse(&long), Err(TooLarge { found: MANIFEST_BYTES_MAX + 1 }));
    }

    #[test]
    fn a_law_fits_the_kind_of_its_tool_or_is_refused() {
        let inverse = json!([{"params": {}, "tool": "demo.tool", "inverse_params": {}}]);
        let (puzzle, text) = (("puzzle_augmenter", None), ("text_augmenter", None));
        let [answers, grids, edit] = ["answers", "grids", "edit"].map(|takes| ("grader", Some(takes)));
        let all = [puzzle, text, answers, grids, edit];
        type Kinds<'a> = &'a [(&'a str, Option<&'a str>)];
        let table: [(Value, Kinds<'_>); 9] = [
            (json!({"deterministic": true}), &all),
            (json!({"shape": "preserved"}), &[puzzle]),
            (json!({"shape": "bounded", "growth_max": 2}), &[puzzle]),
            (json!({"palette_closed": true}), &[puzzle]),
            (json!({"involution": true}), &[puzzle]),
            (json!({ "inverse": inverse }), &[puzzle]),
            (json!({"items_max": 65_536}), &[puzzle, text]),
            (json!({"one_on_equal": true}), &[answers, grids]),
            (json!({"symmetric": true}), &[answers, grids]),
        ];
        for (laws, fitting) in &table {
            for kind in all {
                let made = manifest(|m| {
                    m["tools"][0]["laws"] = laws.clone();
                    m["tools"][0]["kind"] = json!(kind.0);
                    if let Some(takes) = kind.1 {
                        m["tools"][0]["takes"] = json!(takes);
                    }
                });
                match made {
                    Ok(manifest) => {
                        assert!(fitting.contains(&kind), "{kind:?} {laws}");
                        let written = serde_json::to_value(&manifest.tools[0].laws).expect("JSON");
                        assert_eq!(
                            serde_json::from_value::<Laws>(written).ok(),
                            Some(manifest.tools[0].laws.clone())
                        );
                    }
                    Err(ManifestError::LawOfAnotherKind { .. }) => {
                        assert!(!fitting.contains(&kind), "{kind:?} {laws}");
                    }
                    Err(other) => panic!("{kind:?} {laws}: {other}"),
                }
            }
        }
        let error = manifest(|m| {
            m["tools"][0]["kind"] = json!("text_augmenter");
            m["tools"][0]["laws"] = json!({"palette_closed": true});
        });
        let error = error.expect_err("no text has colours").to_string();
        insta::assert_snapshot!(error, @"tool `demo.tool`: the law `palette_closed` is for puzzle augmenters");
    }

    #[test]
    fn an_inverse_is_a_call_that_the_plugin_takes() {
        let error = |inverse: Value| {
            let made = manifest(|m| {
                let mut other = m["tools"][0].clone();
                other["name"] = json!("demo.turn");
                other["params"] = json!({
                    "type": "object", "properties": {"by": {"enum": [90, 270]}}, "required": ["by"],
                });
                other["laws"]["inverse"] = inverse;
                m["tools"].as_array_mut().expect("tools").push(other);
            });
            made.map(drop).map_err(|error| error.to_string())
        };
        let entry = |by: Value, tool: &str, back: Value| json!({"params": {"by": by}, "tool": tool, "inverse_params": {"by": back}});
        let turn = |by: i32, back: i32| entry(json!(by), "demo.turn", json!(back));
        assert_eq!(error(json!([turn(90, 270), turn(270, 90)])), Ok(()));
        assert_eq!(error(json!([entry(json!(90), "demo.tool", json!(null))])), Ok(()));
        let refused = [
            json!(vec![turn(90, 270); 17]),
            json!([turn(90, 270), turn(90, 90)]),
            json!([turn(90, 270), turn(45, 270)]),
            json!([turn(90, 45)]),
            json!([entry(json!(90), "grid.rotate", json!(270))]),
        ];
        let refused = refused.map(|inverse| error(inverse).expect_err("a broken rule")).join("\n");
        insta::assert_snapshot!(refused, @r#"
        tool `demo.turn`: its inverses: 17, at most 16 are allowed
        tool `demo.turn`: its inverses: two for {"by":90}; one is enough
        tool `demo.turn`: its inverses: `demo.turn` does not take {"by":45}
        tool `demo.turn`: its inverses: `demo.turn` does not take {"by":45}
        tool `demo.turn`: its inverses: the plugin has no such tool `grid.rotate`
        "#);
    }

    #[test]
    fn a_hostile_parameter_schema_is_refused_by_its_rule() {
        let nested =
            |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({ "type": "object", "not": inner }));
        assert_eq!(schema_problem(nested(SCHEMA_DEPTH_MAX)), SchemaProblem::TooDeep);
        manifest(|m| m["tools"][0]["params"] = nested(SCHEMA_DEPTH_MAX - 1)).expect("as deep as it may be");
        for key in ["$ref", "$defs", "$id", "$dynamicRef"] {
            let schema = json!({"type": "object", "properties": {"a": {key: "https://example.com/"}}});
            assert_eq!(schema_problem(schema), SchemaProblem::Reference(key.into()));
        }
        let pattern = |text: &str| json!({"type": "object", "properties": {"a": {"pattern": text}}});
        assert_eq!(schema_problem(pattern(&"a".repeat(129))), SchemaProblem::Pattern(129));
        assert!(matches!(schema_problem(pattern("(a+)\\1")), SchemaProblem::Invalid(_)));
        assert!(matches!(schema_problem(pattern("((a{100}){100}){100}")), SchemaProblem::Invalid(_)));
        assert!(matches!(
            schema_problem(json!({"type": "object", "required": 1})),
            SchemaProblem::Invalid(_)
        ));
        assert_eq!(schema_problem(json!({"type": "array"})), SchemaProblem::NotAnObject);
        assert_eq!(schema_problem(json!(true)), SchemaProblem::NotAnObject);
        let large = json!({"type": "object", "enum": vec!["x"; SCHEMA_BYTES_MAX]});
        assert!(matches!(schema_problem(large), SchemaProblem::TooLarge(_)));
    }

    #[test]
    fn the_committed_schema_is_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/plugin-manifest.v1.json");
        let text = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
        if std::env::var_os("SELKIE_UPDATE").is_some() {
            std::fs::write(path, &text).expect("the schema file");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == text, "{path} is not what the types say; run the tests with SELKIE_UPDATE=1");
    }
}
