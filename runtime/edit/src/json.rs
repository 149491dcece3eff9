//! Looking at text before it is parsed as JSON: depth, where an object ends, numbers that JSON lacks.
//!
//! serde_json recurses and stops at 128 levels. These scanners use one counter each, so ten thousand
//! brackets cost ten thousand steps and no stack.

use serde_json::Value;

/// Where a scan that starts at a bracket ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The bracket that closes the first one ends before this byte.
    Closed(usize),
    /// The text ended first.
    Open,
    /// More brackets were open at once than allowed.
    TooDeep,
}

/// Scans from the bracket that `text` starts with to the one that closes it. Brackets in strings do not
/// count, and a kind of bracket closes any other: telling them apart is the parser's work.
pub(crate) fn end_of_value(text: &str, depth_max: usize) -> End {
    let mut depth = 0_usize;
    for (at, byte) in structure(text) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return End::TooDeep;
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return End::Closed(at + 1);
                }
            }
            _ => {}
        }
    }
    End::Open
}

/// Whether no more than `depth_max` brackets are ever open at once in a whole JSON text.
pub(crate) fn is_within_depth(text: &str, depth_max: usize) -> bool {
    let mut depth = 0_usize;
    structure(text).all(|(_, byte)| {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth <= depth_max
    })
}

/// The bytes outside of strings, with their offsets.
fn structure(text: &str) -> impl Iterator<Item = (usize, u8)> {
    let mut in_string = false;
    let mut escaped = false;
    text.bytes().enumerate().filter(move |&(_, byte)| {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            return false;
        }
        in_string = byte == b'"';
        !in_string
    })
}

/// Marks where [`without_non_finite`] took a number out. No model writes a NUL.
const MARK: &str = "\u{0}not finite: ";

/// `text` with every `NaN`, `Infinity` and number beyond f64 replaced by a marked string, so that the rest
/// can be parsed and [`non_finite`] can say where they were. `None` when there is none.
pub(crate) fn without_non_finite(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    let mut token_start = None;
    let mut visit_token = |start: usize, end: usize| {
        let Some(token) = text.get(start..end) else { return };
        // Rust reads `NaN`, `inf` and `Infinity` as numbers too, which is exactly what is wanted here.
        if token.parse::<f64>().is_ok_and(|number| !number.is_finite()) {
            out.push_str(text.get(copied..start).unwrap_or_default());
            out.push_str("\"\\u0000not finite: ");
            out.extend(token.chars().take(40));
            out.push('"');
            copied = end;
        }
    };
    let mut previous = None;
    for (at, byte) in structure(text) {
        let in_token = byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        // A string between two tokens is not in `structure`, so a gap ends a token as well.
        if let Some(start) = token_start
            && (!in_token || previous != Some(at.wrapping_sub(1)))
        {
            visit_token(start, previous.map_or(at, |last: usize| last + 1));
            token_start = None;
        }
        if in_token && token_start.is_none() {
            token_start = Some(at);
        }
        previous = Some(at);
    }
    if let (Some(start), Some(last)) = (token_start, previous) {
        visit_token(start, last + 1);
    }
    if copied == 0 {
        return None;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Some(out)
}

/// Pointers and spellings of the numbers that [`without_non_finite`] took out.
pub(crate) fn non_finite(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect_non_finite(value, &mut String::new(), &mut found);
    found
}

/// Recurses at most as deep as the text that was scanned before.
fn collect_non_finite(value: &Value, pointer: &mut String, found: &mut Vec<(String, String)>) {
    let length = pointer.len();
    match value {
        Value::String(text) => {
            if let Some(spelling) = text.strip_prefix(MARK) {
                found.push((pointer.clone(), spelling.to_owned()));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                push_segment(pointer, &index.to_string());
                collect_non_finite(item, pointer, found);
                pointer.truncate(length);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                push_segment(pointer, name);
                collect_non_finite(member, pointer, found);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// Appends one segment to a JSON pointer, escaped as RFC 6901 says.
pub(crate) fn push_segment(pointer: &mut String, segment: &str) {
    pointer.push('/');
    pointer.push_str(&segment.replace('~', "~0").replace('/', "~1"));
}

/// `pointer` with one more segment.
pub(crate) fn join(pointer: &str, segment: &str) -> String {
    let mut joined = pointer.to_owned();
    push_segment(&mut joined, segment);
    joined
}

/// Whole numbers written with a fraction (`2.0`) as whole numbers. JSON Schema calls them integers; serde,
/// here and in plugins, does not.
pub(crate) fn with_whole_numbers(value: Value) -> Value {
    /// Above 2^53 an f64 no longer names one integer.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() <= EXACT_MAX => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(with_whole_numbers).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, member)| (name, with_whole_numbers(member))).collect()
        }
        other => other,
    }
}

/// Line and column, both from 1, of a byte of a text. Columns count characters.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// serde_json's complaint without its position, which is reported apart.
pub(crate) fn complaint(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_end_where_their_bracket_closes() {
        let check = |text: &str, end: End| assert_eq!(end_of_value(text, 4), end, "{text}");
        check("{} tail }", End::Closed(2));
        check(r#"{"a": "}\"}", "b": [1, {}]} x"#, End::Closed(27));
        check("{[{[]}]}", End::Closed(8));
        check("{[{[[]]}]}", End::TooDeep);
        check(r#"{"a": [1, 2"#, End::Open);
        check(r#"{"a": "never closed }"#, End::Open);
        assert_eq!(end_of_value(&"[".repeat(1_000_000), 32), End::TooDeep);
    }

    #[test]
    fn non_finite_numbers_are_found_with_their_place() {
        let check = |text: &str, expected: &[(&str, &str)]| {
            let patched = without_non_finite(text).expect("has one");
            let value: Value = serde_json::from_str(&patched).expect(&patched);
            let found = non_finite(&value);
            let found: Vec<(&str, &str)> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(found, expected);
        };
        check(r#"{"a": NaN}"#, &[("/a", "NaN")]);
        check(
            r#"{"a": [1, -Infinity], "b/c": 1e999, "d": "NaN"}"#,
            &[("/a/1", "-Infinity"), ("/b~1c", "1e999")],
        );
        check("NaN", &[("", "NaN")]);
        assert_eq!(without_non_finite(r#"{"NaN": "NaN", "x": 1e308, "y": nah}"#), None);
    }

    #[test]
    fn whole_numbers_lose_their_fraction() {
        assert_eq!(
            with_whole_numbers(json!([2.0, {"a": -0.0}, 2.5, 1e300, "2.0"])).to_string(),
            r#"[2,{"a":0},2.5,1e+300,"2.0"]"#
        );
    }
}
