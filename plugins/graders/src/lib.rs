//! Selkie's built-in graders, by rules and without a model: an ordinary plugin with no privilege.
//!
//! Graders of two sides do not care which is which: one of them may be a reference, and nothing says so.

mod answers;
mod grids;
mod normal;
mod numbers;
pub mod rubric;

use answers::{ContainedMatch, ExactMatch, Numeric, TokenF1};
use grids::GridMatch;
use rubric::Rubric;

selkie_sdk::register!(grader: ExactMatch, TokenF1, ContainedMatch, Numeric, GridMatch, Rubric);

/// Of graders of two sides.
const TWO_SIDED: selkie_sdk::Laws = selkie_sdk::Laws::DETERMINISTIC.symmetric().one_on_equal();

/// The schema of an object with these properties (`"name":{..}, ..`), none of them required.
fn object(properties: &str) -> String {
    format!(r#"{{"type":"object","properties":{{{properties}}},"additionalProperties":false}}"#)
}

#[cfg(test)]
mod tests;
