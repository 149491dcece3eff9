//! From what a model wrote to a draft: finds the edit in prose or code fences and says which form it is in.
//!
//! Every pass over the text is linear, and the number of passes is bounded: a model's output is hostile
//! until it has been read.

use serde_json::{Map, Value};

use crate::context::Domain;
use crate::draft::Draft;
use crate::json::{self, End};
use crate::limits::{EDIT_BYTES_MAX, JSON_DEPTH_MAX, PROBLEMS_MAX};
use crate::problem::{Code, Problem, Refused};
use crate::wording;

/// Objects that are looked at before the search ends. Prose with this many brackets holds no edit, and an
/// unclosed bracket costs a scan to the end of the text.
const CANDIDATES_MAX: usize = 64;

const FORMS: &str = "Selkie's form (`version`, `data`) or SEAL's (`data_generation`, `training`)";

/// Reads an edit: JSON on its own, in a code fence or among prose, in Selkie's form or SEAL's; for a
/// passage also free text. The first object in a known form counts; what surrounds it is ignored.
///
/// # Errors
/// One problem about the text as a whole, or every number that is not finite.
pub fn parse(text: &str, domain: Domain) -> Result<Draft, Refused> {
    if text.len() > EDIT_BYTES_MAX {
        let expected = format!("at most {EDIT_BYTES_MAX} bytes");
        return Err(Problem::new(Code::TooLarge, "", expected, format!("{} bytes", text.len())).into());
    }
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(Problem::new(Code::Empty, "", "a self-edit", "no text").into());
    }
    if inside_fence(text).starts_with('[') && !json::is_within_depth(inside_fence(text), JSON_DEPTH_MAX) {
        return Err(too_deep().into());
    }

    let mut complaints = Complaints::default();
    let mut from = 0;
    for _ in 0..CANDIDATES_MAX {
        let Some(start) = next_object(text, from) else { break };
        let Some(rest) = text.get(start..) else { break };
        let (object, next) = match json::end_of_value(rest, JSON_DEPTH_MAX) {
            End::Closed(end) => (read(text, start, start + end), start + end),
            End::Open => (Err(cut_off(text, start)), start + 1),
            End::TooDeep => (Err(too_deep().into()), start + 1),
        };
        match object {
            Ok(draft) => return Ok(draft),
            Err(refused) => complaints.note(refused, is_meant_as_edit(text, start)),
        }
        from = next;
    }
    if let Some(refused) = complaints.meant {
        return Err(refused);
    }
    if inside_fence(text).starts_with('[')
        && let Ok(list @ Value::Array(_)) = serde_json::from_str(without_fence(text))
    {
        let found = wording::found(&list);
        return Err(Problem::new(Code::UnknownForm, "", format!("an object in {FORMS}"), found).into());
    }
    match domain {
        Domain::Passage => Ok(Draft::SealCompletion(text.to_owned())),
        Domain::Puzzle => Err(complaints.any.unwrap_or_else(|| {
            Problem::new(Code::NoJson, "", format!("a JSON object in {FORMS}"), quoted(text)).into()
        })),
    }
}

/// The first complaint about something that was meant as an edit, and the first about anything.
#[derive(Default)]
struct Complaints {
    meant: Option<Refused>,
    any: Option<Refused>,
}

impl Complaints {
    fn note(&mut self, refused: Refused, is_meant_as_edit: bool) {
        if is_meant_as_edit && self.meant.is_none() {
            self.meant = Some(refused);
        } else if self.any.is_none() {
            self.any = Some(refused);
        }
    }
}

/// The offset of the next bracket that may open a JSON object: a quote or a closing bracket follows.
fn next_object(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut from = from;
    loop {
        let start = from + bytes.get(from..)?.iter().position(|&byte| byte == b'{')?;
        let inside = bytes.get(start + 1..)?;
        match inside.iter().position(|byte| !byte.is_ascii_whitespace()) {
            Some(skipped) if matches!(inside.get(skipped), Some(b'"' | b'}')) => return Some(start),
            // A bracket at the very end is a truncated object.
            None => return Some(start),
            Some(_) => from = start + 1,
        }
    }
}

/// Whether the object at `start` is the edit and not a set of braces in a text: it is the first thing in the
/// text or in the fence that the text starts with, or its first key is one of an edit's.
fn is_meant_as_edit(text: &str, start: usize) -> bool {
    const KEYS: [&str; 5] = ["\"version\"", "\"data\"", "\"training\"", "\"reason\"", "\"data_generation\""];
    let inside = text.get(start + 1..).unwrap_or_default().trim_start();
    start == text.len() - inside_fence(text).len() || KEYS.iter().any(|key| inside.starts_with(key))
}

/// The text after an opening code fence, or the text.
fn inside_fence(text: &str) -> &str {
    match text.strip_prefix("```").and_then(|fenced| fenced.split_once('\n')) {
        Some((_, body)) => body.trim_start(),
        None => text,
    }
}

/// The text between code fences, or the text.
fn without_fence(text: &str) -> &str {
    let inside = inside_fence(text);
    inside.strip_suffix("```").unwrap_or(inside).trim_end()
}

/// Reads the balanced object `text[start..end]`.
fn read(text: &str, start: usize, end: usize) -> Result<Draft, Refused> {
    let object = text.get(start..end).unwrap_or_default();
    let error = match serde_json::from_str::<Value>(object) {
        Ok(value) => return recognise(value),
        Err(error) => error,
    };
    // A number that JSON cannot write makes the whole text unreadable; say so about the number.
    if let Some(patched) = json::without_non_finite(object)
        && let Ok(value) = serde_json::from_str::<Value>(&patched)
    {
        let numbers = json::non_finite(&value);
        recognise(value)?;
        let problems = numbers.into_iter().take(PROBLEMS_MAX);
        let problem = |(pointer, found)| Problem::new(Code::NotFinite, pointer, "a finite number", found);
        return Err(Refused(problems.map(problem).collect()));
    }
    let (line, column) = position(text, start, &error);
    let found = format!("{} at line {line}, column {column}", json::complaint(&error));
    Err(Problem::new(Code::BadJson, "", "valid JSON", found).into())
}

/// Line and column in the whole text of a complaint about the object at `start`.
fn position(text: &str, start: usize, error: &serde_json::Error) -> (usize, usize) {
    let (line, column) = json::line_and_column(text, start);
    let column = if error.line() <= 1 { column + error.column().saturating_sub(1) } else { error.column() };
    (line + error.line().saturating_sub(1), column)
}

/// Which form an object is in, by the keys that only that form has.
fn recognise(value: Value) -> Result<Draft, Refused> {
    let Value::Object(members) = &value else {
        return Err(unknown_form(wording::found(&value)));
    };
    let has = |name: &str| members.contains_key(name);
    let training_has = |name: &str| {
        members.get("training").and_then(Value::as_object).is_some_and(|training| training.contains_key(name))
    };
    if has("data_generation")
        || (!has("data") && (training_has("strategy") || training_has("num_train_epochs")))
    {
        return Ok(Draft::SealArc(value));
    }
    if has("version") || has("data") || has("training") || has("tools") || has("documents") {
        return Ok(Draft::Selkie(value));
    }
    Err(unknown_form(keys(members)))
}

fn keys(members: &Map<String, Value>) -> String {
    if members.is_empty() {
        return "an empty object".to_owned();
    }
    format!("an object with {}", wording::listed(members.keys().map(String::as_str), None))
}

fn unknown_form(found: String) -> Refused {
    Problem::new(Code::UnknownForm, "", FORMS, found).into()
}

fn too_deep() -> Problem {
    let expected = format!("at most {JSON_DEPTH_MAX} arrays and objects inside each other");
    Problem::new(Code::TooDeep, "", expected, "more")
}

fn cut_off(text: &str, start: usize) -> Refused {
    let (line, column) = json::line_and_column(text, start);
    let found = format!("the end of the text inside the object that opens at line {line}, column {column}");
    Problem::new(Code::BadJson, "", "a complete JSON object", found).into()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", wording::excerpt(text))
}
