//! The edits under `tests/fixtures/edits`: one rule a file, checked by the validator and by the schema.

use std::collections::BTreeSet;

use selkie_edit::schema::{compose, seal_arc_schema};
use selkie_edit::{Code, Domain, Draft, parse};
use serde_json::Value;

use crate::support::{catalogue, codes, read, repository};

/// Rules that the schema cannot say: the validator refuses these files and the schema accepts them.
const BEYOND_THE_SCHEMA: [&str; 8] = [
    "nothing_to_learn.no_documents_and_no_source.passage.json",
    "out_of_range.blank_document.passage.json",
    "out_of_range.blank_document.puzzle.json",
    "over_limit.document_bytes.passage.json",
    "over_limit.params_bytes.puzzle.json",
    "wrong_kind.permute_for_a_passage.passage.json",
    "wrong_kind.seal_arc_for_a_passage.passage.json",
    "wrong_kind.tool_for_a_passage.passage.json",
];

/// `code.rule.domain.json` or `rule.domain.txt`, for a puzzle where it names none: name, text, kind of context.
fn files(folder: &str) -> Vec<(String, String, Domain)> {
    let folder = repository().join("tests/fixtures/edits").join(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("fixtures") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let domain = match name.split('.').collect::<Vec<_>>()[..] {
            [_, _] | [.., "puzzle", _] => Domain::Puzzle,
            [.., "passage", _] => Domain::Passage,
            _ => panic!("{name}: for a puzzle or a passage"),
        };
        files.push((name, std::fs::read_to_string(&path).expect("text"), domain));
    }
    files.sort_by(|left, right| left.0.cmp(&right.0));
    files
}

/// What the schema alone says of a file whose form is JSON.
fn schema_accepts(text: &str, domain: Domain) -> Option<bool> {
    let (schema, value): (Value, Value) = match parse(text, domain) {
        Ok(Draft::Selkie(value)) => (compose(&catalogue()), value),
        Ok(Draft::SealArc(value)) => (seal_arc_schema(), value),
        Ok(Draft::SealCompletion(_)) | Err(_) => return None,
    };
    Some(jsonschema::validator_for(&schema).expect("compiles").is_valid(&value))
}

#[test]
fn valid_edits_are_accepted() {
    let files = files("valid");
    for (name, text, domain) in &files {
        read(text, *domain).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_ne!(schema_accepts(text, *domain), Some(false), "{name}: the schema refuses it");
    }
    assert!(files.len() >= 12, "{} files", files.len());
}

#[test]
fn invalid_edits_are_refused_for_their_reason() {
    let files = files("invalid");
    let mut seen = BTreeSet::new();
    for (name, text, domain) in &files {
        let refused = read(text, *domain).err().unwrap_or_else(|| panic!("{name}: accepted"));
        let code = name.split('.').next().unwrap_or_default();
        let found: Vec<&str> = refused.0.iter().map(|problem| problem.code.as_str()).collect();
        assert_eq!(found, [code], "{name}: {refused}");
        assert!(refused.is_retryable(), "{name}");
        let beyond = BEYOND_THE_SCHEMA.contains(&name.as_str());
        assert_ne!(schema_accepts(text, *domain), Some(!beyond), "{name}: the schema says otherwise");
        seen.insert(codes(&refused)[0].0);
    }
    assert!(files.len() >= 25, "{} files", files.len());
    // These need more bytes than a fixture should have, or a plan.
    let elsewhere = [Code::TooLarge, Code::TooDeep, Code::TooManySteps];
    let all = [
        Code::Empty,
        Code::TooLarge,
        Code::TooDeep,
        Code::NoJson,
        Code::BadJson,
        Code::UnknownForm,
        Code::UnknownField,
        Code::MissingField,
        Code::WrongType,
        Code::OutOfRange,
        Code::NotFinite,
        Code::UnknownTool,
        Code::WrongKind,
        Code::BadParams,
        Code::NothingToLearn,
        Code::OverLimit,
        Code::TooManySteps,
    ];
    let missing: Vec<Code> =
        all.into_iter().filter(|code| !seen.contains(code) && !elsewhere.contains(code)).collect();
    assert!(missing.is_empty(), "no fixture for {missing:?}");
    assert!(BEYOND_THE_SCHEMA.iter().all(|beyond| files.iter().any(|(name, ..)| name == beyond)));
}
