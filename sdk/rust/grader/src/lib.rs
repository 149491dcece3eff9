//! A plugin with one grader: how many words two answers share.

use std::collections::BTreeSet;

use selkie_sdk::{Grader, Laws, NoParams, Score, Takes, ToolError};

struct SharedWords;

impl Grader for SharedWords {
    const NAME: &'static str = "starter_grader.shared_words";
    const SUMMARY: &'static str =
        "The share of the words of two answers that both have, whatever their case.";
    const TAKES: Takes = Takes::Answers;
    // What the grader promises: the host refuses scores that break it.
    const LAWS: Laws = Laws::DETERMINISTIC.one_on_equal().symmetric();
    type Params = NoParams;

    fn answers(_: &NoParams, left: &str, right: &str) -> Result<Score, ToolError> {
        let (left, right) = (words(left), words(right));
        let all = left.union(&right).count();
        let shared = left.intersection(&right).count();
        Ok(if all == 0 { Score::right(true) } else { Score::new(shared as f64 / all as f64) })
    }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

selkie_sdk::register!(grader: SharedWords);
