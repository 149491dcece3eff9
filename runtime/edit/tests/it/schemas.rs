//! The generated schemas: the committed file, the branch a tool gets, and what the two of them accept.

use selkie_edit::schema::{compose, seal_arc_schema};
use selkie_edit::{Catalogue, SchemaError, ToolKind, Validator};
use serde_json::{Value, json};

use crate::support::{catalogue, repository, tool};

#[test]
fn the_committed_schema_is_current() {
    let path = repository().join("schemas/self-edit.v1.json");
    let schema = serde_json::to_string_pretty(&compose(&Catalogue::default())).expect("JSON") + "\n";
    if std::env::var_os("SELKIE_UPDATE").is_some() {
        std::fs::write(&path, &schema).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == schema, "{} is not current: run the test with SELKIE_UPDATE=1", path.display());
}

#[test]
fn each_tool_is_a_branch() {
    let schema = compose(&catalogue());
    let branches = schema.pointer("/$defs/tool/anyOf").and_then(Value::as_array).expect("branches");
    // A grader is not for the model to choose.
    let usable = catalogue().iter().filter(|tool| tool.kind != ToolKind::Grader).count();
    assert_eq!((branches.len(), usable + 1), (usable, catalogue().iter().count()));
    let rotate = branches.iter().find(|branch| branch["properties"]["tool"]["const"] == "grid.rotate");
    assert_eq!(
        rotate.expect("a branch")["properties"]["params"]["properties"]["degrees"]["enum"],
        json!([90, 180, 270])
    );
}

#[test]
fn references_of_a_tool_follow_it() {
    let params = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:x", "type": "object",
        "properties": { "n": { "$ref": "#/$defs/n" }, "word": { "const": { "$ref": "#/nowhere" } } },
        "$defs": { "n": { "type": "integer", "maximum": 3 } }
    });
    let tools = [tool("a.a", "", json!({ "type": "object" })), tool("a.b", "", params)];
    let schema = compose(&Catalogue::new(tools).expect("distinct"));
    let validator = jsonschema::validator_for(&schema).expect("compiles");
    let accepts = |params: Value| {
        validator
            .is_valid(&json!({ "version": 1, "data": { "tools": [{ "tool": "a.b", "params": params }] } }))
    };
    assert!(accepts(json!({ "n": 3 })));
    assert!(!accepts(json!({ "n": 4 })));
    assert!(accepts(json!({ "word": { "$ref": "#/nowhere" } })));
}

#[test]
fn every_number_and_list_is_bounded() {
    fn check(schema: &Value, at: &str) {
        if let Value::Object(members) = schema {
            let has = |name: &str| members.contains_key(name);
            match members.get("type").and_then(Value::as_str) {
                Some("integer" | "number") => {
                    assert!(has("const") || (has("minimum") && has("maximum")), "{at}: {schema}");
                }
                Some("array") => assert!(has("maxItems"), "{at}: {schema}"),
                Some("string") => assert!(has("enum") || has("maxLength"), "{at}: {schema}"),
                _ => {}
            }
            // What some grammars cannot do, and what no draft knows.
            assert!(!has("oneOf") && !has("format"), "{at}: {schema}");
            members.iter().for_each(|(name, member)| check(member, &format!("{at}/{name}")));
        }
        if let Value::Array(items) = schema {
            items.iter().for_each(|item| check(item, at));
        }
    }
    check(&compose(&Catalogue::default()), "");
    check(&seal_arc_schema(), "");
}

#[test]
fn a_bad_tool_schema_is_named() {
    let check = |params: Value, expected: &str| {
        let tools = Catalogue::new([tool("bad.tool", "", params)]).expect("distinct");
        let error = Validator::new(&tools).expect_err("refused");
        assert!(matches!(&error, SchemaError::Tool { tool, .. } if tool == "bad.tool"), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(json!({ "type": "grid" }), "grid");
    check(json!({ "$ref": "https://example.com/schema.json" }), "example.com");
    check(json!({ "$ref": "#/$defs/none" }), "none");
    // Matching this takes exponential time with backtracking.
    check(json!({ "properties": { "a": { "pattern": "^(?=(a+)+$)" } } }), "regex");
}
