//! Graders of two answers.

use std::collections::HashMap;

use selkie_sdk::{Grader, Laws, NoParams, Score, Takes, ToolError};
use serde::Deserialize;

use crate::normal::normal;
use crate::numbers::numbers;
use crate::{TWO_SIDED, object};

/// Whether two answers are the same.
pub(crate) struct ExactMatch;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExactParams {
    #[serde(default = "yes")]
    normalise: bool,
}

fn yes() -> bool {
    true
}

impl Grader for ExactMatch {
    const NAME: &'static str = "grade.exact_match";
    const SUMMARY: &'static str = "1 when two answers are equal, after SQuAD's normalisation (case, punctuation, \
                                   articles, spaces) unless normalise is false.";
    const TAKES: Takes = Takes::Answers;
    type Params = ExactParams;

    const LAWS: Laws = TWO_SIDED;

    fn params_schema() -> String {
        object(r#""normalise":{"type":"boolean","default":true}"#)
    }

    fn answers(params: &ExactParams, left: &str, right: &str) -> Result<Score, ToolError> {
        Ok(Score::right(if params.normalise { normal(left) == normal(right) } else { left == right }))
    }
}

/// SQuAD's F1.
pub(crate) struct TokenF1;

impl Grader for TokenF1 {
    const NAME: &'static str = "grade.token_f1";
    const SUMMARY: &'static str = "SQuAD's F1: how many words two answers share after normalisation.";
    const TAKES: Takes = Takes::Answers;
    type Params = NoParams;

    const LAWS: Laws = TWO_SIDED;

    fn answers(_: &NoParams, left: &str, right: &str) -> Result<Score, ToolError> {
        Ok(Score::new(token_f1(&normal(left), &normal(right))))
    }
}

fn token_f1(left: &str, right: &str) -> f64 {
    let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
    if left == right {
        return 1.0;
    }
    let mut unmatched: HashMap<&str, usize> = HashMap::new();
    // An empty text splits into one empty word, which is no word.
    left.iter().filter(|word| !word.is_empty()).for_each(|word| *unmatched.entry(word).or_default() += 1);
    let take = |word: &&&str| match unmatched.get_mut(**word) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    let shared = right.iter().filter(take).count();
    // 2 * precision * recall / (precision + recall)
    2.0 * shared as f64 / (left.len() + right.len()) as f64
}

/// One answer inside the other.
pub(crate) struct ContainedMatch;

/// Most words that one answer may have beside the other. Without a bound, an answer that lists everything is right.
const EXTRA_WORDS_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContainedParams {
    #[serde(default)]
    extra_words: ExtraWords,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "usize")]
struct ExtraWords(usize);

impl Default for ExtraWords {
    fn default() -> ExtraWords {
        ExtraWords(5)
    }
}

impl TryFrom<usize> for ExtraWords {
    type Error = String;
    fn try_from(words: usize) -> Result<ExtraWords, String> {
        match words {
            0..=EXTRA_WORDS_MAX => Ok(ExtraWords(words)),
            _ => Err(format!("{words} is not in 0 to {EXTRA_WORDS_MAX}")),
        }
    }
}

impl Grader for ContainedMatch {
    const NAME: &'static str = "grade.contained_match";
    const SUMMARY: &'static str = "1 when one answer's words stand in the other in one piece, after SQuAD's \
                                   normalisation, with at most extra_words others.";
    const TAKES: Takes = Takes::Answers;
    type Params = ContainedParams;

    const LAWS: Laws = TWO_SIDED;

    fn params_schema() -> String {
        let words = format!(r#"{{"type":"integer","minimum":0,"maximum":{EXTRA_WORDS_MAX},"default":5}}"#);
        object(&format!(r#""extra_words":{words}"#))
    }

    fn answers(params: &ContainedParams, left: &str, right: &str) -> Result<Score, ToolError> {
        let (left, right) = (normal(left), normal(right));
        let (left, right): (Vec<&str>, Vec<&str>) = (left.split(' ').collect(), right.split(' ').collect());
        let (short, long) = if left.len() <= right.len() { (left, right) } else { (right, left) };
        let contained = long.windows(short.len()).any(|words| words == short);
        Ok(Score::right(contained && long.len() - short.len() <= params.extra_words.0))
    }
}

/// Numbers that agree.
pub(crate) struct Numeric;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NumericParams {
    #[serde(default = "rounding")]
    relative: f64,
    #[serde(default)]
    absolute: f64,
}

/// What writing a number in decimals may cost.
fn rounding() -> f64 {
    1e-6
}

impl Grader for Numeric {
    const NAME: &'static str = "grade.numeric";
    const SUMMARY: &'static str = "1 when the numbers in two answers agree in order, within a relative or an \
                                   absolute tolerance; without numbers when the answers are equal.";
    const TAKES: Takes = Takes::Answers;
    type Params = NumericParams;

    const LAWS: Laws = TWO_SIDED;

    fn params_schema() -> String {
        object(
            r#""relative":{"type":"number","minimum":0,"maximum":1,"default":1e-6},"absolute":{"type":"number","minimum":0,"default":0}"#,
        )
    }

    fn answers(params: &NumericParams, left: &str, right: &str) -> Result<Score, ToolError> {
        if !(0.0..=1.0).contains(&params.relative) || params.absolute < 0.0 {
            return Err(ToolError::invalid_params(
                "tolerances are at least 0, and the relative one at most 1",
            ));
        }
        if normal(left) == normal(right) && numbers(left) == numbers(right) {
            return Ok(Score::right(true));
        }
        let (left, right) = (numbers(left), numbers(right));
        let close = |(a, b): (&f64, &f64)| {
            let slack = params.absolute.max(params.relative * a.abs().max(b.abs()));
            a == b || (a - b).abs() <= slack
        };
        let agree = !left.is_empty() && left.len() == right.len() && left.iter().zip(&right).all(close);
        Ok(Score::right(agree))
    }
}
