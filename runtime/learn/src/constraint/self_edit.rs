//! The grammar of self-edits: their schema, narrowed to what can be enforced while it is written.
//!
//! Two things are taken away from the schema. Rules that validation has and a schema cannot say (what suits a
//! passage, bytes, something to learn) are made unnecessary: the grammar leaves out what they would refuse. And
//! keywords that constrained decoding does not know are replaced by narrower ones; where there is none, they are
//! dropped, and validation has the last word.

use selkie_edit::Domain;
use selkie_edit::limits::{DOCUMENT_BYTES_MAX, PARAMS_BYTES_MAX};
use serde_json::{Map, Value, json};

use super::{Grammar, compact};

/// Documents of a constrained edit. With the other limits here an edit stays below the limit on its bytes, and a
/// model that has nothing more to say ends sooner.
const DOCUMENTS_MAX: u64 = 32;

/// Characters of a document: none takes more than four bytes.
const DOCUMENT_CHARS_MAX: usize = DOCUMENT_BYTES_MAX / 4;

/// Characters of a tool's string without a limit of its own. Every one may be an escape of six bytes.
const STRING_CHARS_MAX: u64 = PARAMS_BYTES_MAX as u64 / 64;

/// Items of a tool's list without a limit of its own.
const ITEMS_MAX: u64 = 16;

/// Learning rate of a constrained edit; below 1, see [`suit_training`].
const LEARNING_RATE_MAX: f64 = 0.5;

/// Numbers to choose from where a schema gives a range of fractions: digits would run on.
const STEPS: [f64; 4] = [1.0, 2.0, 3.0, 5.0];

/// Keywords without which a schema allows more, and that constrained decoding does not know. Validation enforces
/// them.
const UNKNOWN: [&str; 8] = [
    "not",
    "else",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "dependentSchemas",
    "minContains",
    "maxContains",
];

/// Formats that constrained decoding knows; JSON Schema does not enforce any.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

/// The grammar of self-edits for one kind of context, from their schema as
/// [`compose`](selkie_edit::schema::compose) makes it for the loaded tools.
///
/// A text of it passes validation, unless a tool's own schema says more than decoding can enforce (`not`, `else`,
/// `propertyNames` and the like). A plan may still refuse it, for too many steps or tokens.
pub fn self_edit_grammar(schema: &Value, domain: Domain) -> Grammar {
    let mut schema = schema.clone();
    suit(&mut schema, domain);
    narrow(&mut schema);
    if let Value::Object(members) = &mut schema {
        let mut settings = compact();
        // The branches of a tool's `oneOf` may overlap; validation says when they do.
        settings["coerce_one_of"] = Value::from(true);
        members.insert("x-guidance".to_owned(), settings);
    }
    Grammar::JsonSchema(schema)
}

/// Leaves out what validation would refuse for this kind of context, and what a model is led into by a spelling.
fn suit(schema: &mut Value, domain: Domain) {
    suit_training(schema);
    let has_tools = schema.pointer("/$defs/tool/anyOf").is_some();
    let Some(data) = schema.pointer_mut("/$defs/data").and_then(Value::as_object_mut) else { return };
    if domain == Domain::Passage {
        // Otherwise `include_source` alone could leave nothing to learn.
        data.insert("required".to_owned(), json!(["documents"]));
    }
    let Some(fields) = data.get_mut("properties").and_then(Value::as_object_mut) else { return };
    if !has_tools && let Some(tools) = fields.get_mut("tools") {
        *tools = json!({ "const": [] });
    }
    // A model has nothing to gain by them.
    fields.shift_remove("limits");
    let foreign: &[&str] = match domain {
        Domain::Puzzle => &["include_source", "replay"],
        Domain::Passage if has_tools => &["permute"],
        Domain::Passage => &["permute", "tools"],
    };
    for name in foreign {
        fields.shift_remove(*name);
    }
    if let Some(documents) = fields.get_mut("documents") {
        documents["minItems"] = Value::from(1);
        lower(documents, "maxItems", DOCUMENTS_MAX);
        documents["items"] = document();
    }
}

/// A text that is not only white space, perhaps after a space: words of some models begin with one. Its length is part
/// of the pattern: masks for a pattern beside a limit on the length cost thirty times as much.
fn document() -> Value {
    json!({ "type": "string", "pattern": format!(r"^ ?\S(?s:.{{0,{}}})$", DOCUMENT_CHARS_MAX - 2) })
}

/// Numbers are written without exponents. A model that begins `1e-4` must not be left with a rate of 1 when the `e`
/// is not allowed, and alpha is a whole number in practice.
fn suit_training(schema: &mut Value) {
    if let Some(rate) = schema.pointer_mut("/$defs/training/properties/learning_rate") {
        rate["maximum"] = Value::from(rate["maximum"].as_f64().unwrap_or(1.0).min(LEARNING_RATE_MAX));
    }
    if let Some(alpha) = schema.pointer_mut("/$defs/lora/properties/alpha") {
        alpha["type"] = Value::from("integer");
        alpha["minimum"] = Value::from(1);
    }
}

fn lower(schema: &mut Value, keyword: &str, limit: u64) {
    let limit = schema[keyword].as_u64().map_or(limit, |other| other.min(limit));
    schema[keyword] = Value::from(limit);
}

/// Narrows every part of a schema. Values that are data and not schemas are left alone.
fn narrow(schema: &mut Value) {
    match schema {
        Value::Array(parts) => parts.iter_mut().for_each(narrow),
        Value::Object(members) => {
            narrow_keywords(members);
            for (keyword, part) in members.iter_mut() {
                match keyword.as_str() {
                    "const" | "enum" | "default" | "examples" | "required" | "type" => {}
                    "properties" | "patternProperties" => {
                        part.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(narrow_value);
                    }
                    "$defs" | "definitions" => {
                        part.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(narrow);
                    }
                    "items" | "additionalProperties" => narrow_value(part),
                    _ => narrow(part),
                }
            }
        }
        _ => {}
    }
}

/// Narrows the schema of a whole value. An object has no members but the known ones, unless something beside them
/// says more about it: a free member could be anything, however deep.
fn narrow_value(schema: &mut Value) {
    narrow(schema);
    let Value::Object(members) = schema else { return };
    let is_open = !members.get("additionalProperties").is_some_and(Value::is_object);
    let says_more = ["allOf", "anyOf", "oneOf", "$ref", "const", "enum", "patternProperties"];
    if members.get("type") == Some(&Value::from("object"))
        && is_open
        && !says_more.iter().any(|keyword| members.contains_key(*keyword))
    {
        members.insert("additionalProperties".to_owned(), Value::from(false));
    }
}

/// Narrows the keywords of one schema.
fn narrow_keywords(members: &mut Map<String, Value>) {
    narrow_conditions(members);
    members.retain(|keyword, _| !UNKNOWN.contains(&keyword.as_str()));
    if members.get("format").and_then(Value::as_str).is_some_and(|format| !FORMATS.contains(&format)) {
        members.remove("format");
    }
    if members.remove("uniqueItems") == Some(Value::from(true)) {
        members.insert("maxItems".to_owned(), json!(1));
    }
    let is_fixed = ["const", "enum"].iter().any(|keyword| members.contains_key(*keyword));
    let Some(kind) = members.get("type").and_then(Value::as_str).filter(|_| !is_fixed) else { return };
    match kind {
        // A pattern may bound the length itself.
        "string" if members.contains_key("pattern") => {}
        "string" => limit(members, "maxLength", "minLength", STRING_CHARS_MAX),
        "array" => limit(members, "maxItems", "minItems", ITEMS_MAX),
        "integer" => with_inclusive_bounds(members, 1.0),
        "number" => {
            with_inclusive_bounds(members, 1e-6);
            with_steps(members);
        }
        _ => {}
    }
}

/// `if` with `then`: both at once. `dependentRequired`: all that any member asks for. `contains`: every item.
fn narrow_conditions(members: &mut Map<String, Value>) {
    let mut all: Vec<Value> = [members.remove("if"), members.remove("then")].into_iter().flatten().collect();
    if let Some(Value::Object(dependents)) = members.remove("dependentRequired") {
        let names: Vec<Value> =
            dependents.into_iter().flat_map(|(_, names)| names.as_array().cloned()).flatten().collect();
        all.push(json!({ "required": names }));
    }
    if let Some(item) = members.remove("contains") {
        let fewest = members.get("minItems").and_then(Value::as_u64).unwrap_or(0).max(1);
        members.insert("minItems".to_owned(), fewest.into());
        all.push(json!({ "items": item }));
    }
    if !all.is_empty() {
        let written = members.remove("allOf").and_then(|parts| parts.as_array().cloned()).unwrap_or_default();
        members.insert("allOf".to_owned(), written.into_iter().chain(all).collect());
    }
}

/// A limit where there is none, unless more is asked for.
fn limit(members: &mut Map<String, Value>, most: &str, least: &str, limit: u64) {
    let asked = members.get(least).and_then(Value::as_u64).unwrap_or(0);
    members.entry(most).or_insert_with(|| limit.max(asked).into());
}

/// Exclusive bounds as inclusive ones, a little inside.
fn with_inclusive_bounds(members: &mut Map<String, Value>, step: f64) {
    let bounds = [("exclusiveMinimum", "minimum", 1.0), ("exclusiveMaximum", "maximum", -1.0)];
    for (exclusive, inclusive, direction) in bounds {
        let Some(bound) = members.remove(exclusive).and_then(|bound| bound.as_f64()) else { continue };
        // Of a whole number's bound with a fraction, the next whole number.
        let inside = match direction > 0.0 {
            true if step == 1.0 => bound.floor() + 1.0,
            false if step == 1.0 => bound.ceil() - 1.0,
            _ => bound + direction * step * bound.abs().max(1.0),
        };
        let other = members.get(inclusive).and_then(Value::as_f64).unwrap_or(inside);
        let tighter = if direction > 0.0 { inside.max(other) } else { inside.min(other) };
        members.insert(inclusive.to_owned(), number(tighter));
    }
}

/// A range of fractions as numbers to choose from, both bounds among them.
fn with_steps(members: &mut Map<String, Value>) {
    let bound = |name: &str| members.get(name).and_then(Value::as_f64);
    let (Some(low), Some(high)) = (bound("minimum"), bound("maximum")) else { return };
    if members.contains_key("multipleOf") || low > high {
        return;
    }
    let powers = (-9..=9).map(|power| 10_f64.powi(power));
    let sizes: Vec<f64> = powers.flat_map(|power| STEPS.map(|step| step * power)).collect();
    let signed = sizes.iter().map(|size| -size).rev().chain([0.0]).chain(sizes.iter().copied());
    let mut choices = vec![low];
    choices.extend(signed.filter(|&choice| low < choice && choice < high));
    if high > low {
        choices.push(high);
    }
    members.retain(|keyword, _| !["minimum", "maximum", "type"].contains(&keyword.as_str()));
    members.insert("enum".to_owned(), choices.into_iter().map(number).collect());
}

/// Whole numbers without a fraction, and no digits that only binary fractions have.
fn number(value: f64) -> Value {
    let value: f64 = format!("{value:.12e}").parse().unwrap_or(value);
    if value.fract() == 0.0 && value.abs() < 1e15 { Value::from(value as i64) } else { Value::from(value) }
}
