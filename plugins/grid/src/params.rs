//! Parameters that more than one tool has, and the bounds of each.

use serde::Deserialize;

/// Largest factor or count. Ten times a grid of 3x3 is the most that fits a puzzle's 30x30.
pub(crate) const FACTOR_MAX: u8 = 10;

/// Most copies that a random tool makes of one task.
pub(crate) const COPIES_MAX: u8 = 64;

/// How much larger, 2 to [`FACTOR_MAX`].
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u8")]
pub(crate) struct Factor(pub(crate) usize);

impl TryFrom<u8> for Factor {
    type Error = String;
    fn try_from(factor: u8) -> Result<Factor, String> {
        match factor {
            2..=FACTOR_MAX => Ok(Factor(factor.into())),
            _ => Err(format!("{factor} is not in 2 to {FACTOR_MAX}")),
        }
    }
}

/// How many copies of each task, 1 to [`COPIES_MAX`].
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u8")]
pub(crate) struct Copies(pub(crate) usize);

impl Default for Copies {
    fn default() -> Copies {
        Copies(1)
    }
}

impl TryFrom<u8> for Copies {
    type Error = String;
    fn try_from(copies: u8) -> Result<Copies, String> {
        match copies {
            1..=COPIES_MAX => Ok(Copies(copies.into())),
            _ => Err(format!("{copies} is not in 1 to {COPIES_MAX}")),
        }
    }
}

/// Along which axis something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Axis {
    /// From top to bottom: axis 0 of NumPy.
    Rows,
    /// From left to right: axis 1.
    Columns,
}

/// The schema of an object with these properties (`"name":{..}, ..`) and these required names.
pub(crate) fn object(properties: &str, required: &[&str]) -> String {
    let required: Vec<String> = required.iter().map(|name| format!("\"{name}\"")).collect();
    let required = required.join(",");
    format!(
        r#"{{"type":"object","properties":{{{properties}}},"required":[{required}],"additionalProperties":false}}"#
    )
}

pub(crate) const AXIS: &str = r#""axis":{"enum":["rows","columns"]}"#;

pub(crate) const COPIES: &str = r#""copies":{"type":"integer","minimum":1,"maximum":64,"default":1}"#;

/// The schema of a property that is a [`Factor`].
pub(crate) fn factor_schema(name: &str) -> String {
    format!(r#""{name}":{{"type":"integer","minimum":2,"maximum":{FACTOR_MAX}}}"#)
}
