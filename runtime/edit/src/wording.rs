//! Words for complaints: values cut to a readable length, lists with the likeliest entry first, schemas as
//! phrases.

use serde_json::Value;

/// Characters of a value that a complaint quotes.
const EXCERPT_CHARS: usize = 80;

/// Characters of what a complaint says would have been accepted.
const EXPECTED_CHARS: usize = 400;

/// Characters of a name that are compared when looking for a near miss. Edit distance is quadratic, and
/// the name comes from a model.
const COMPARED_CHARS: usize = 64;

/// Names that a list shows before it says how many more there are.
const LISTED_MAX: usize = 12;

/// `text` with control characters escaped, cut to about 80 characters.
pub(crate) fn excerpt(text: &str) -> String {
    cut(text, EXCERPT_CHARS)
}

/// `text` with control characters escaped, cut to the length of an `expected`.
pub(crate) fn expectation(text: &str) -> String {
    cut(text, EXPECTED_CHARS)
}

/// `text` with control characters escaped, cut to `max` characters; three dots say that it was cut.
pub(crate) fn cut(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut written = 0;
    for character in text.chars() {
        let escaped = character.is_control() || is_direction_control(character);
        let width = if escaped { character.escape_default().count() } else { 1 };
        if written + width > max {
            out.push_str("...");
            break;
        }
        written += width;
        if escaped {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// Unicode's controls of reading direction, and separators that terminals break lines at: they are not
/// "control characters", but they can make a complaint read as another.
fn is_direction_control(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A JSON value as a complaint quotes it.
pub(crate) fn found(value: &Value) -> String {
    match value {
        // Serialising a megabyte to show 80 characters would be waste.
        Value::String(text) => format!("\"{}\"", excerpt(text)),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(members) if members.is_empty() => "an empty object".to_owned(),
        Value::Object(members) => {
            format!("an object with {}", listed(members.keys().map(String::as_str), None))
        }
        other => excerpt(&other.to_string()),
    }
}

/// Names in a sentence; those nearest to `near` first, the rest in the order given.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>, near: Option<&str>) -> String {
    let mut names: Vec<&str> = names.into_iter().collect();
    if let Some(near) = near {
        names.sort_by_key(|name| distance(name, near));
    }
    let total = names.len();
    let shown: Vec<String> = names.iter().take(LISTED_MAX).map(|name| excerpt(name)).collect();
    match total.saturating_sub(LISTED_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Levenshtein distance of the first [`COMPARED_CHARS`] characters, without regard to case.
pub(crate) fn distance(left: &str, right: &str) -> usize {
    let characters = |text: &str| -> Vec<char> {
        text.chars().take(COMPARED_CHARS).flat_map(char::to_lowercase).collect()
    };
    let (left, right) = (characters(left), characters(right));
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (slot, b) in row.iter_mut().skip(1).zip(&right) {
            let substituted = diagonal + usize::from(a != b);
            diagonal = *slot;
            before = substituted.min(diagonal + 1).min(before + 1);
            *slot = before;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(left.len())
}

/// What a schema accepts, in a phrase: `a number from 1e-6 to 1`. `root` resolves local references.
pub(crate) fn accepted_by(root: &Value, schema: &Value) -> String {
    let schema = resolve(root, schema);
    let names = |values: &[Value]| {
        let words: Vec<String> = values.iter().map(word).collect();
        listed(words.iter().map(String::as_str), None)
    };
    if let Some(value) = schema.get("const") {
        return word(value);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return if values.len() == 1 { names(values) } else { format!("one of {}", names(values)) };
    }
    let limit = |name: &str| schema.get(name).filter(|limit| limit.is_number());
    let at_most = |name: &str, unit: &str| {
        limit(name).map_or(String::new(), |limit| format!(" of at most {limit} {unit}"))
    };
    match schema.get("type").and_then(Value::as_str) {
        Some("integer") => format!("a whole number{}", range(schema)),
        Some("number") => format!("a number{}", range(schema)),
        Some("string") => format!("a string{}", at_most("maxLength", "characters")),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => format!("a list{}", at_most("maxItems", "items")),
        Some("object") => "an object".to_owned(),
        Some("null") => "null".to_owned(),
        _ => "a value that its schema accepts".to_owned(),
    }
}

/// The bounds of a number's schema: ` from 1 to 50`, ` of at least 1`, or nothing.
fn range(schema: &Value) -> String {
    let bound = |name: &str| schema.get(name).filter(|bound| bound.is_number());
    let low = bound("minimum").map(|low| (low, "")).or(bound("exclusiveMinimum").map(|low| (low, "above ")));
    let high =
        bound("maximum").map(|high| (high, "")).or(bound("exclusiveMaximum").map(|high| (high, "below ")));
    match (low, high) {
        (Some((low, "")), Some((high, ""))) => format!(" from {low} to {high}"),
        (Some((low, above)), Some((high, below))) => format!(", {above}{low} to {below}{high}"),
        (Some((low, "")), None) => format!(" of at least {low}"),
        (Some((low, above)), None) => format!(" {above}{low}"),
        (None, Some((high, ""))) => format!(" of at most {high}"),
        (None, Some((high, below))) => format!(" {below}{high}"),
        (None, None) => String::new(),
    }
}

/// Follows local references, a few at most: a schema may refer to itself.
pub(crate) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..8 {
        let target =
            schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        match target.and_then(|pointer| root.pointer(pointer)) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

/// A value of a schema's list: a string without its quotes, anything else as JSON.
pub(crate) fn word(value: &Value) -> String {
    match value {
        Value::String(text) => excerpt(text),
        other => excerpt(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn excerpts_are_short_and_on_one_line() {
        assert_eq!(excerpt("a\nb\u{202e}c"), "a\\nb\\u{202e}c");
        assert_eq!(excerpt(&"x".repeat(80)), "x".repeat(80));
        assert_eq!(excerpt(&"x".repeat(81)), format!("{}...", "x".repeat(80)));
        assert_eq!(excerpt(&"\n".repeat(1_000_000)).len(), 83);
    }

    #[test]
    fn near_names_come_first() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("Rotate", "rotate"), 0);
        assert_eq!(listed(["flip", "rotate", "upscale"], Some("rotat")), "rotate, flip, upscale");
        let many: Vec<String> = (0..14).map(|n| n.to_string()).collect();
        assert_eq!(
            listed(many.iter().map(String::as_str), None),
            "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"
        );
    }

    #[test]
    fn schemas_read_as_phrases() {
        let check = |schema: Value, phrase: &str| assert_eq!(accepted_by(&schema, &schema), phrase);
        check(json!({"type": "number", "minimum": 1e-6, "maximum": 1}), "a number from 1e-6 to 1");
        check(json!({"type": "integer", "minimum": 1}), "a whole number of at least 1");
        check(json!({"type": "integer", "exclusiveMaximum": 9}), "a whole number below 9");
        check(json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1}), "a number, above 0 to 1");
        check(json!({"enum": ["rows", 2]}), "one of rows, 2");
        check(json!({"const": "x"}), "x");
        check(json!({"type": "array", "maxItems": 4}), "a list of at most 4 items");
        check(json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "boolean"}}}), "true or false");
        check(json!({"$ref": "#"}), "a value that its schema accepts");
    }
}
