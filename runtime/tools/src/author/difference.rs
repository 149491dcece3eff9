//! Where two answers part.

use serde::Serialize;
use serde_json::Value;

/// Characters of a value that a report shows.
const VALUE_CHARS_MAX: usize = 400;

/// The first place where an answer is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The place, such as `made[0].test.output`; empty when the answer is no answer.
    pub at: String,
    /// What was expected there, as JSON; cut when it is long.
    pub expected: String,
    /// What came.
    pub came: String,
}

impl Difference {
    pub(super) fn of(at: &str, expected: &str, came: &str) -> Difference {
        Difference { at: at.into(), expected: cut(expected), came: cut(came) }
    }

    /// The first one inside two values, down to whole grids and single texts.
    pub(super) fn first(at: &str, expected: &Value, came: &Value) -> Option<Difference> {
        match (expected, came) {
            _ if expected == came => None,
            (Value::Array(wanted), Value::Array(made)) if !is_grid(expected) && !is_grid(came) => {
                let inside = wanted.iter().zip(made).enumerate();
                inside
                    .filter_map(|(index, (wanted, made))| {
                        Difference::first(&format!("{at}[{index}]"), wanted, made)
                    })
                    .next()
                    .or_else(|| {
                        let index = wanted.len().min(made.len());
                        let shown =
                            |items: &[Value]| items.get(index).map_or("nothing".into(), Value::to_string);
                        Some(Difference::of(&format!("{at}[{index}]"), &shown(wanted), &shown(made)))
                    })
            }
            (Value::Object(wanted), Value::Object(made))
                if wanted.keys().all(|key| made.contains_key(key)) =>
            {
                wanted
                    .iter()
                    .find_map(|(key, wanted)| Difference::first(&format!("{at}.{key}"), wanted, &made[key]))
                    .or_else(|| Some(Difference::of(at, &expected.to_string(), &came.to_string())))
            }
            _ => Some(Difference::of(at, &expected.to_string(), &came.to_string())),
        }
    }
}

/// Rows of numbers.
fn is_grid(value: &Value) -> bool {
    let rows = value.as_array().filter(|rows| !rows.is_empty());
    rows.is_some_and(|rows| {
        rows.iter().all(|row| row.as_array().is_some_and(|row| row.iter().all(Value::is_number)))
    })
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_a_whole_grid_a_text_or_a_missing_item() {
        let grid = |cell: u8| json!([[1, cell], [3, 4]]);
        let task = |cell: u8| json!({"train": [{"input": [[0]], "output": grid(cell)}], "test": {}});
        let rows = [
            (json!([task(2)]), json!([task(2)]), None),
            (
                json!([task(2)]),
                json!([task(9)]),
                Some(("made[0].train[0].output", "[[1,2],[3,4]]", "[[1,9],[3,4]]")),
            ),
            (json!([task(2)]), json!([]), Some(("made[0]", &*task(2).to_string(), "nothing"))),
            (json!([]), json!(["a"]), Some(("made[0]", "nothing", "\"a\""))),
            (json!([["a", "b"]]), json!([["a", "c"]]), Some(("made[0][1]", "\"b\"", "\"c\""))),
            (json!([0.5]), json!([{"value": 1}]), Some(("made[0]", "0.5", "{\"value\":1}"))),
        ];
        for (expected, came, found) in rows {
            let found = found.map(|(at, expected, came)| Difference::of(at, expected, came));
            assert_eq!(Difference::first("made", &expected, &came), found, "{expected} and {came}");
        }
    }
}
