//! The grader of a self-edit before anything is trained on it: what can be counted without a model.
//!
//! Three parts say how much of the passage the documents carry; their weighted mean is the score. Three guards lower
//! it for what the parts would reward and nobody wants: a copy of the passage, one sentence again and again, next to
//! nothing. `measured/README.md` says how far that goes: not far.

use std::collections::HashSet;

use selkie_sdk::{Edit, Grader, Score, Takes, ToolError};
use serde::Deserialize;

use crate::object;

/// Words that say nothing of what a text is about.
const STOP_WORDS: [&str; 58] = [
    "a", "an", "the", "of", "in", "on", "at", "to", "for", "and", "or", "but", "is", "are", "was", "were",
    "be", "been", "by", "with", "as", "from", "that", "this", "these", "those", "it", "its", "he", "she",
    "they", "his", "her", "their", "which", "who", "whom", "not", "had", "has", "have", "than", "then",
    "also", "into", "during", "after", "before", "such", "when", "while", "where", "there", "about",
    "between", "over", "will", "can",
];

/// Below this share of new triples of words, documents are taken for a copy. Of the recorded self-edits one in 250 has
/// less.
const NOVELTY_ENOUGH: f64 = 0.2;

/// Below this share of distinct triples of words, documents are taken for repetition.
const DIVERSITY_ENOUGH: f64 = 0.5;

/// Below this many words for each word of the passage, documents are taken for next to nothing.
const LENGTH_ENOUGH: f64 = 0.2;

/// What is counted of a self-edit, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Share of the passage's words (without stop words) that the documents have.
    pub coverage: f64,
    /// Share of the passage's names and numbers that the documents have.
    pub names: f64,
    /// Share of the documents' words (without stop words) that the passage has.
    pub support: f64,
    /// Share of the documents' triples of words that the passage does not have.
    pub novelty: f64,
    /// Share of the documents' triples of words that are no repetition.
    pub diversity: f64,
    /// The documents' words for each word of the passage, at most 1.
    pub length: f64,
}

/// How much each part counts; at least 0, and one of them more.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Of [`Counts::coverage`].
    #[serde(default = "one")]
    pub coverage: f64,
    /// Of [`Counts::names`].
    #[serde(default = "one")]
    pub names: f64,
    /// Of [`Counts::support`].
    #[serde(default = "one")]
    pub support: f64,
}

fn one() -> f64 {
    1.0
}

/// Grades a self-edit by what can be counted.
pub(crate) struct Rubric;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RubricParams {
    #[serde(default)]
    weights: Weights,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights { coverage: 1.0, names: 1.0, support: 1.0 }
    }
}

impl Grader for Rubric {
    const NAME: &'static str = "grade.rubric";
    const SUMMARY: &'static str = "How much of a passage a self-edit carries: its words, names and numbers, without \
                                   copying, repetition and inventions.";
    const TAKES: Takes = Takes::Edit;
    type Params = RubricParams;

    fn params_schema() -> String {
        let weight = r#"{"type":"number","minimum":0,"maximum":1000,"default":1}"#;
        let weights = object(&format!(r#""coverage":{weight},"names":{weight},"support":{weight}"#));
        object(&format!(r#""weights":{weights}"#))
    }

    fn edit(params: &RubricParams, edit: &Edit) -> Result<Score, ToolError> {
        let Weights { coverage, names, support } = params.weights;
        let fits = [coverage, names, support].iter().all(|weight| (0.0..=1000.0).contains(weight));
        if !fits || coverage + names + support <= 0.0 {
            return Err(ToolError::invalid_params("weights are 0 to 1000, and one of them is more than 0"));
        }
        let counts = Counts::of(&edit.passage, &edit.documents);
        Ok(Score { value: counts.score(params.weights), reasons: counts.reasons() })
    }
}

impl Counts {
    /// Counts what the documents have of the passage.
    pub fn of(passage: &str, documents: &[String]) -> Counts {
        let documents: Vec<&str> = documents.iter().map(|document| without_list_number(document)).collect();
        let in_passage = words(passage);
        let in_documents: Vec<Vec<String>> = documents.iter().map(|document| words(document)).collect();
        let written: usize = in_documents.iter().map(Vec::len).sum();

        let about = content(&in_passage);
        let about_set: HashSet<&str> = about.iter().copied().collect();
        let said: Vec<&str> = in_documents.iter().flat_map(|words| content(words)).collect();
        let said_set: HashSet<&str> = said.iter().copied().collect();
        let names = names(passage);

        let old: HashSet<&[String]> = in_passage.windows(3).collect();
        let triples: Vec<&[String]> = in_documents.iter().flat_map(|words| words.windows(3)).collect();
        let distinct: HashSet<&[String]> = triples.iter().copied().collect();
        Counts {
            coverage: share(about_set.intersection(&said_set).count(), about_set.len()),
            names: share(names.iter().filter(|name| said_set.contains(name.as_str())).count(), names.len()),
            support: share(said.iter().filter(|word| about_set.contains(*word)).count(), said.len()),
            novelty: share(triples.iter().filter(|triple| !old.contains(*triple)).count(), triples.len()),
            diversity: share(distinct.len(), triples.len()),
            length: share(written, in_passage.len()).min(1.0),
        }
    }

    /// The weighted mean of the parts, lowered by the guards; 0 to 1.
    pub fn score(&self, weights: Weights) -> f64 {
        let Weights { coverage, names, support } = weights;
        let parts = self.coverage * coverage + self.names * names + self.support * support;
        let guards =
            [self.novelty / NOVELTY_ENOUGH, self.diversity / DIVERSITY_ENOUGH, self.length / LENGTH_ENOUGH];
        let lowered = guards.iter().fold(1.0, |product, guard| product * guard.min(1.0));
        (parts / (coverage + names + support) * lowered).clamp(0.0, 1.0)
    }

    fn reasons(&self) -> Vec<String> {
        let percent = |share: f64| (share * 100.0).round();
        let mut reasons = vec![
            format!("{}% of the passage's words are in the documents", percent(self.coverage)),
            format!("{}% of its names and numbers are", percent(self.names)),
            format!("{}% of the documents' words are in the passage", percent(self.support)),
        ];
        if self.diversity == 0.0 {
            reasons.push("no document has three words".into());
            return reasons;
        }
        if self.length < LENGTH_ENOUGH {
            reasons.push(format!("too short: {}% of the passage's length", percent(self.length)));
        }
        if self.novelty < NOVELTY_ENOUGH {
            reasons.push(format!("a copy: {}% is in the passage's own words", percent(1.0 - self.novelty)));
        }
        if self.diversity < DIVERSITY_ENOUGH {
            reasons.push(format!("repetition: {}% was said before", percent(1.0 - self.diversity)));
        }
        reasons
    }
}

/// A share of what there is; 0 when there is nothing.
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// A document without the "12." of a list.
fn without_list_number(document: &str) -> &str {
    let rest = document.trim_start_matches(|digit: char| digit.is_ascii_digit());
    match rest.strip_prefix(['.', ')']) {
        Some(text) if rest.len() < document.len() && text.starts_with(' ') => text,
        _ => document,
    }
}

/// Runs of letters and digits, in lower case.
fn words(text: &str) -> Vec<String> {
    let runs = text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty());
    runs.map(str::to_lowercase).collect()
}

fn content(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).filter(|word| !STOP_WORDS.contains(word)).collect()
}

/// Words with a digit, and words with a capital inside a sentence; in lower case.
fn names(passage: &str) -> HashSet<String> {
    let (mut names, mut starts) = (HashSet::new(), true);
    for piece in passage.split_whitespace() {
        for run in piece.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()) {
            let is_name = run.starts_with(char::is_uppercase) && !starts;
            if is_name || run.contains(|c: char| c.is_ascii_digit()) {
                names.insert(run.to_lowercase());
            }
            starts = false;
        }
        starts |= piece.trim_end_matches(['"', '\'', ')']).ends_with(['.', '!', '?']);
    }
    names.retain(|name| !STOP_WORDS.contains(&name.as_str()));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSAGE: &str =
        "The tower was built in 1887. It stands in Paris, near the river Seine. Many visit it.";

    fn check(documents: &[&str], score: f64, reasons: &[&str]) {
        let documents = documents.iter().map(|document| document.to_string()).collect();
        let edit = Edit { title: String::new(), passage: PASSAGE.into(), documents };
        let graded = Rubric::edit(&RubricParams { weights: Weights::default() }, &edit).expect("a score");
        assert_eq!((graded.value * 1000.0).round() / 1000.0, score, "{edit:?}");
        assert_eq!(graded.reasons, reasons);
    }

    #[test]
    fn what_carries_the_passage_in_other_words_scores_high() {
        // Of tower, built, 1887, stands, Paris, near, river, Seine, many and visit: five.
        check(
            &["1. In 1887 someone built a tower.", "2. Close to the Seine, Paris has a tower."],
            0.75,
            &[
                "50% of the passage's words are in the documents",
                "100% of its names and numbers are",
                "75% of the documents' words are in the passage",
            ],
        );
    }

    #[test]
    fn a_copy_repetition_and_next_to_nothing_score_low() {
        let all = "100% of the passage's words are in the documents";
        let names = "100% of its names and numbers are";
        let supported = "100% of the documents' words are in the passage";
        let copy = "a copy: 100% is in the passage's own words";
        check(&[PASSAGE], 0.0, &[all, names, supported, copy]);
        let some = "40% of the passage's words are in the documents";
        let two_names = "67% of its names and numbers are";
        let again = "repetition: 88% was said before";
        // A quarter of the mean of 2/5, 2/3 and 1.
        check(&["Tower Paris built 1887"; 8], 0.172, &[some, two_names, supported, again]);
        let none = "0% of the passage's words are in the documents";
        let no_names = "0% of its names and numbers are";
        let unsupported = "0% of the documents' words are in the passage";
        check(&[], 0.0, &[none, no_names, unsupported, "no document has three words"]);
    }
}
