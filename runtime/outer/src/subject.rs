//! What a run works on: contexts with all that is asked about them, and what the model knew before.

use std::collections::BTreeMap;

use selkie_edit::{Context, Passage, Question};
use selkie_learn::codec::Item;
use selkie_learn::{Adapter, LearnError, Model};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A context with what a person may know of it. One line of a contexts file.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// What to adapt to.
    pub context: Context,
    /// What its rule is tied to, where that is known.
    pub kind: Option<String>,
    /// Documents that a careful hand would write about it; none where nobody did.
    pub by_hand: Vec<String>,
}

/// The contexts of a run. No context is in both lists.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contexts {
    /// Edits are tried on these, and the policy learns from them.
    pub training: Vec<Subject>,
    /// Policies are compared on these, and nothing is chosen by them.
    pub held_out: Vec<Subject>,
}

impl Subject {
    /// A context of which nobody knows more.
    pub fn new(context: Context) -> Subject {
        Subject { context, kind: None, by_hand: Vec::new() }
    }

    /// SHA-256 of the context.
    pub fn digest(&self) -> String {
        hex(&self.context.to_json().to_string())
    }
}

/// SHA-256 of a text, 64 hex digits.
pub(crate) fn hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Facts that the model knew before any edit, to be watched: one list while policies learn, another to compare them.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// What the reward looks at.
    pub training: Vec<Question>,
    /// What the comparison looks at.
    pub held_out: Vec<Question>,
}

/// Questions with what the base model says to them.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    items: Vec<Item>,
}

/// How many of the watched facts are still known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Known before and after.
    pub kept: u32,
    /// Known before.
    pub of: u32,
}

impl Kept {
    /// 0..=1; 1 where nothing was known.
    pub fn share(self) -> f64 {
        if self.of == 0 { 1.0 } else { f64::from(self.kept) / f64::from(self.of) }
    }
}

impl Anchors {
    /// Those of the questions that the base model answers exactly.
    ///
    /// # Errors
    /// When the model understands no passages.
    pub fn new(model: &Model, questions: &[Question]) -> Result<Anchors, LearnError> {
        if questions.is_empty() {
            return Ok(Anchors::default());
        }
        let (title, context) = (String::new(), String::new());
        let asked = Context::Passage(Passage { title, context, questions: questions.to_vec() });
        let items = model.codec().items(&asked)?;
        let scores = model.score_items(&[(None, &items)])?.swap_remove(0);
        let known = items.into_iter().zip(scores).filter(|(_, score)| score.greedy);
        Ok(Anchors { items: known.map(|(item, _)| item).collect() })
    }

    /// What is asked.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// How many each adapter still knows; nothing where nothing is watched.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn kept(&self, model: &Model, adapters: &[&Adapter]) -> Result<Vec<Option<Kept>>, LearnError> {
        if self.items.is_empty() {
            return Ok(vec![None; adapters.len()]);
        }
        let work: Vec<_> = adapters.iter().map(|&adapter| (Some(adapter), self.items.as_slice())).collect();
        let of = self.items.len() as u32;
        let kept = |scores: Vec<selkie_learn::Score>| {
            Some(Kept { kept: scores.iter().filter(|score| score.greedy).count() as u32, of })
        };
        Ok(model.score_items(&work)?.into_iter().map(kept).collect())
    }
}

/// Sentences of a text: what ends with a full stop, a question mark, an exclamation mark or a semicolon.
pub fn sentences(text: &str) -> Vec<String> {
    let pieces = text.split_inclusive(['.', '?', '!', ';', '\n']);
    pieces.map(str::trim).filter(|piece| piece.len() > 1).map(str::to_owned).collect()
}

/// What a passage says of each of the entities that its title names ("A and B"), one text an entity.
pub fn by_entity(passage: &Passage) -> Vec<String> {
    let names: Vec<&str> = passage.title.split(" and ").collect();
    let mut texts: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for sentence in sentences(&passage.context) {
        if let Some(at) = names.iter().position(|name| sentence.contains(name)) {
            texts.entry(at).or_default().push(sentence);
        }
    }
    texts.into_values().map(|sentences| sentences.join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_falls_into_sentences() {
        let check = |text: &str, expected: &[&str]| assert_eq!(sentences(text), expected, "{text}");
        check("One. Two? Three!", &["One.", "Two?", "Three!"]);
        check("a: b; c: d;", &["a: b;", "c: d;"]);
        check("A line\nand another", &["A line", "and another"]);
        check("No end", &["No end"]);
        check(" . ", &[]);
        check("", &[]);
    }
}
