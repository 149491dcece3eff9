//! Compiled schemas: the form of an edit, and one for each tool's parameters.
//!
//! A tool is picked by name before its parameters are checked, because the complaint of an `anyOf` over all
//! tools does not say which branch was meant.

use std::collections::BTreeMap;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{Draft as SchemaDraft, PatternOptions, ValidationError};
use serde_json::{Value, json};

use crate::catalogue::{Catalogue, ToolKind};
use crate::json;
use crate::limits::PROBLEMS_MAX;
use crate::problem::{Code, Problem, Problems};
use crate::schema;
use crate::wording;

/// Everything that [`crate::validate`] checks an edit against. Compiled once, used for every edit.
#[derive(Debug)]
pub struct Validator {
    /// Selkie's form, with tools as any objects.
    pub(crate) form: Compiled,
    /// A chain, with tools as any objects.
    pub(crate) chain: Compiled,
    /// A tool call, with any name and parameters.
    pub(crate) call: Compiled,
    /// SEAL's form for puzzles.
    pub(crate) seal_arc: Compiled,
    /// The loaded tools by name.
    pub(crate) tools: BTreeMap<String, CompiledTool>,
}

/// A tool's kind and its parameter schema.
#[derive(Debug)]
pub(crate) struct CompiledTool {
    pub(crate) kind: ToolKind,
    pub(crate) params: Compiled,
}

/// A schema that no edit can be checked against.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A schema of this crate. Only a fault in this crate makes one.
    #[error("the schema of self-edits does not compile: {0}")]
    Own(String),
    /// The parameter schema of a tool: not a valid schema, or it refers to something outside itself, or it
    /// has a pattern that cannot be matched in linear time.
    #[error("the parameter schema of `{tool}` does not compile: {message}")]
    Tool {
        /// The tool's full name.
        tool: String,
        /// What is wrong with its schema.
        message: String,
    },
}

impl Validator {
    /// Compiles the schema of self-edits and those of the loaded tools.
    ///
    /// # Errors
    /// When a tool's parameter schema does not compile.
    pub fn new(catalogue: &Catalogue) -> Result<Validator, SchemaError> {
        let any_object = json!({ "type": "object" });
        let base = schema::compose(&Catalogue::default());
        let own = |schema: Value| Compiled::new(schema).map_err(SchemaError::Own);
        let part = |pointer: &str| base.pointer(pointer).cloned().unwrap_or_default();
        let mut chain = part("/$defs/chain");
        replace(&mut chain, "/properties/chain/items", any_object.clone());
        let call = part("/$defs/tool");
        let mut form = base.clone();
        replace(&mut form, "/$defs/data/properties/tools/items", any_object);

        let mut tools = BTreeMap::new();
        for tool in catalogue.iter() {
            let error = |message| SchemaError::Tool { tool: tool.name.clone(), message };
            let params = Compiled::new(tool.params_schema.clone()).map_err(error)?;
            tools.insert(tool.name.clone(), CompiledTool { kind: tool.kind, params });
        }
        Ok(Validator {
            form: own(form)?,
            chain: own(chain)?,
            call: own(call)?,
            seal_arc: own(schema::seal_arc_schema())?,
            tools,
        })
    }
}

fn replace(schema: &mut Value, pointer: &str, with: Value) {
    if let Some(part) = schema.pointer_mut(pointer) {
        *part = with;
    }
}

/// A schema, and the same compiled.
#[derive(Debug)]
pub(crate) struct Compiled {
    schema: Value,
    validator: jsonschema::Validator,
}

impl Compiled {
    fn new(schema: Value) -> Result<Compiled, String> {
        let options = jsonschema::options()
            .with_draft(SchemaDraft::Draft202012)
            // Linear time: a plugin's pattern meets a model's text.
            .with_pattern_options(PatternOptions::regex());
        let validator = options.build(&schema).map_err(|error| wording::expectation(&error.to_string()))?;
        Ok(Compiled { schema, validator })
    }

    /// Whether a value obeys the schema.
    pub(crate) fn accepts(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Every complaint about a value that lies at `at` of the edit. With `code`, all are of that kind.
    pub(crate) fn complain(&self, value: &Value, at: &str, code: Option<Code>, problems: &mut Problems) {
        for error in self.validator.iter_errors(value).take(PROBLEMS_MAX) {
            let pointer = format!("{at}{}", error.instance_path().as_str());
            for mut problem in self.problems_of(&error, pointer) {
                problem.code = code.unwrap_or(problem.code);
                problems.push(problem);
            }
        }
    }

    fn problems_of(&self, error: &ValidationError<'_>, pointer: String) -> Vec<Problem> {
        let path = error.schema_path().as_str();
        let node = path.rfind('/').and_then(|end| self.schema.pointer(&path[..end])).unwrap_or(&Value::Null);
        let one = |code: Code, expected: String| {
            vec![Problem::new(code, pointer.as_str(), expected, wording::found(error.instance()))]
        };
        let accepted = || wording::accepted_by(&self.schema, node);
        match error.kind() {
            Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
                unexpected.iter().take(PROBLEMS_MAX).map(|name| unknown_field(node, &pointer, name)).collect()
            }
            Kind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let member = node.get("properties").and_then(|properties| properties.get(name));
                let expected =
                    member.map_or("a value".to_owned(), |member| wording::accepted_by(&self.schema, member));
                vec![Problem::new(Code::MissingField, json::join(&pointer, name), expected, "nothing")]
            }
            Kind::Type { .. } => one(Code::WrongType, accepted()),
            Kind::Enum { .. }
            | Kind::Constant { .. }
            | Kind::Minimum { .. }
            | Kind::Maximum { .. }
            | Kind::ExclusiveMinimum { .. }
            | Kind::ExclusiveMaximum { .. } => one(Code::OutOfRange, accepted()),
            Kind::MaxItems { limit } => one(Code::OverLimit, format!("at most {limit} items")),
            Kind::MinItems { limit } => one(Code::OutOfRange, format!("a list of {limit} or more")),
            Kind::MaxLength { limit } => one(Code::OverLimit, format!("at most {limit} characters")),
            Kind::MinLength { limit } => {
                one(Code::OutOfRange, format!("a string of {limit} or more characters"))
            }
            // Rarer keywords, which only tools' schemas use: jsonschema's own words, without the value.
            _ => one(Code::OutOfRange, error.masked_with("the value").to_string()),
        }
    }
}

/// A key that an object of this schema does not have. The pointer is to the key, or to the object where the
/// key is too long to repeat.
fn unknown_field(node: &Value, pointer: &str, name: &str) -> Problem {
    const KEY_BYTES_MAX: usize = 80;
    let known = node.get("properties").and_then(Value::as_object);
    let expected = match known {
        Some(known) if !known.is_empty() => {
            format!("one of {}", wording::listed(known.keys().map(String::as_str), Some(name)))
        }
        _ => "no member".to_owned(),
    };
    let at = if name.len() <= KEY_BYTES_MAX { json::join(pointer, name) } else { pointer.to_owned() };
    Problem::new(Code::UnknownField, at, expected, format!("`{}`", wording::excerpt(name)))
}
