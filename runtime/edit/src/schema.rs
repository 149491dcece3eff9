//! The JSON Schemas of self-edits (draft 2020-12), generated from the wire types and composed with the tools
//! that are loaded.
//!
//! The same composition is what a model's decoding is constrained to, what `selkie schema` prints and what
//! validation goes by, so a tool that is dropped in is usable at once.

use serde_json::{Map, Value, json};

use crate::catalogue::{Catalogue, ToolKind, ToolSpec};
use crate::draft::EditDraft;
use crate::json;
use crate::seal::SealArcDraft;

const SELF_EDIT_ID: &str = "urn:selkie:schema:self-edit:1";
const SEAL_ARC_ID: &str = "urn:selkie:schema:seal-arc:1";

/// Where the definition of a tool call is in a composed schema.
const TOOL: &str = "/$defs/tool";

/// The schema of Selkie's form with one branch a loaded tool under `$defs/tool`: its name and its own
/// parameter schema. With an empty catalogue any name and any parameters are accepted.
pub fn compose(catalogue: &Catalogue) -> Value {
    let mut schema = generated::<EditDraft>(SELF_EDIT_ID);
    // Graders are not for the model to choose.
    let tools = catalogue.iter().filter(|tool| tool.kind != ToolKind::Grader);
    let branches: Vec<Value> = tools.enumerate().map(|(index, tool)| branch(tool, index)).collect();
    if !branches.is_empty()
        && let Some(definition) = schema.pointer_mut(TOOL)
    {
        *definition = json!({ "description": "A loaded tool and its parameters.", "anyOf": branches });
    }
    schema
}

/// The schema of SEAL's form for puzzles.
pub fn seal_arc_schema() -> Value {
    generated::<SealArcDraft>(SEAL_ARC_ID)
}

/// One tool as a branch of `$defs/tool`.
fn branch(tool: &ToolSpec, index: usize) -> Value {
    let mut params = tool.params_schema.clone();
    if let Value::Object(members) = &mut params {
        // The composed schema says both for all of its parts.
        members.remove("$schema");
        members.remove("$id");
    }
    move_references(&mut params, &format!("#{TOOL}/anyOf/{index}/properties/params"));
    let required = match params.get("required").and_then(Value::as_array) {
        Some(names) if !names.is_empty() => json!(["tool", "params"]),
        _ => json!(["tool"]),
    };
    json!({
        "description": tool.summary,
        "type": "object",
        "properties": { "tool": { "const": tool.name }, "params": params },
        "required": required,
        "additionalProperties": false,
    })
}

/// Local references of a schema that now lies at `base` of another one. Values that are data and not
/// schemas are left alone. Recurses as deep as the schema, which the host bounds.
fn move_references(schema: &mut Value, base: &str) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, base)),
        Value::Object(members) => {
            for (keyword, member) in members.iter_mut() {
                match (keyword.as_str(), member) {
                    ("const" | "enum" | "default" | "examples", _) => {}
                    ("$ref", Value::String(reference)) => {
                        if let Some(rest) = reference.strip_prefix('#') {
                            *reference = format!("{base}{rest}");
                        }
                    }
                    (_, member) => move_references(member, base),
                }
            }
        }
        _ => {}
    }
}

/// What schemars generates, in the shape that this project's schemas have.
fn generated<T: schemars::JsonSchema>(id: &str) -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let mut schema = tidied(settings.into_generator().into_root_schema_for::<T>().to_value());
    if let Value::Object(members) = &mut schema {
        members.shift_insert(0, "$id".to_owned(), Value::from(id));
    }
    json::with_whole_numbers(schema)
}

/// Without `format: uint32` and its like, which no draft knows and some grammars refuse; and with a list of
/// constants (how schemars writes a documented enum) as `enum`, for the same reason. Descriptions are on one
/// line: where a comment was wrapped is no part of it.
pub fn tidied(schema: Value) -> Value {
    match schema {
        Value::Array(items) => items.into_iter().map(tidied).collect(),
        Value::Object(members) => {
            let members: Map<String, Value> = members
                .into_iter()
                .filter(|(keyword, member)| !(keyword == "format" && member.is_string()))
                .map(|(keyword, member)| match member {
                    Value::String(text) if keyword == "description" => {
                        (keyword, text.replace('\n', " ").into())
                    }
                    member => (keyword, tidied(member)),
                })
                .collect();
            Value::Object(constants_as_enum(members))
        }
        other => other,
    }
}

fn constants_as_enum(mut members: Map<String, Value>) -> Map<String, Value> {
    let constant = |branch: &Value| branch.get("const").cloned();
    let constants: Option<Vec<Value>> = members
        .get("oneOf")
        .and_then(Value::as_array)
        .and_then(|branches| branches.iter().map(constant).collect());
    if let Some(constants) = constants {
        members.remove("oneOf");
        members.insert("type".to_owned(), Value::from("string"));
        members.insert("enum".to_owned(), Value::Array(constants));
    }
    members
}
