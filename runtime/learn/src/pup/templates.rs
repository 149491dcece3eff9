//! Templates: a line of text with slots for a name, a noun and a value, as text and as ids at once.
//!
//! There is one source, the text in [`super::words`]; ids are made from it once, and a test proves that the
//! tokenizer reads every filled text into exactly those ids.

use super::vocabulary::Vocabulary;
use super::words::{PUNCTUATION, WORLD, first_names, second_names};

/// One fact with everything that a template can ask for. Indices into the word lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fact {
    pub(super) name: Name,
    pub(super) kind: u8,
    pub(super) attribute: u8,
    pub(super) value: u8,
}

/// An entity's name: indices of its first and second word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) first: u8,
    pub(super) second: u8,
}

/// The ids of all words, by index.
#[derive(Debug, Clone)]
pub(super) struct WordIds {
    first: Vec<u32>,
    second: Vec<u32>,
    nouns: Vec<Vec<u32>>,
    values: Vec<Vec<Vec<u32>>>,
}

impl WordIds {
    pub(super) fn new(vocabulary: &Vocabulary) -> WordIds {
        let id = |word: &str| vocabulary.id(&format!(" {word}"));
        WordIds {
            first: first_names().iter().map(|word| id(word)).collect(),
            second: second_names().iter().map(|word| id(word)).collect(),
            nouns: WORLD.iter().map(|kind| kind.iter().map(|of| id(of.noun)).collect()).collect(),
            values: WORLD
                .iter()
                .map(|kind| kind.iter().map(|of| of.values.iter().map(|word| id(word)).collect()).collect())
                .collect(),
        }
    }

    /// The first words of names, and the second ones.
    #[cfg(test)]
    pub(super) fn names(&self) -> (&[u32], &[u32]) {
        (&self.first, &self.second)
    }

    pub(super) fn name(&self, name: Name) -> [u32; 2] {
        [self.first[usize::from(name.first)], self.second[usize::from(name.second)]]
    }

    pub(super) fn noun(&self, fact: Fact) -> u32 {
        self.nouns[usize::from(fact.kind)][usize::from(fact.attribute)]
    }

    pub(super) fn value(&self, fact: Fact) -> u32 {
        self.values[usize::from(fact.kind)][usize::from(fact.attribute)][usize::from(fact.value)]
    }
}

/// The text of a name.
pub(super) fn name_text(name: Name) -> String {
    format!("{} {}", first_names()[usize::from(name.first)], second_names()[usize::from(name.second)])
}

/// The text of a fact's value.
pub(super) fn value_text(fact: Fact) -> &'static str {
    WORLD[usize::from(fact.kind)][usize::from(fact.attribute)].values[usize::from(fact.value)]
}

/// The text of a template with a fact in its slots.
pub(super) fn filled_text(template: &str, fact: Fact) -> String {
    let noun = WORLD[usize::from(fact.kind)][usize::from(fact.attribute)].noun;
    words_of(template)
        .map(|(word, punctuation)| {
            let word = match word {
                "N" => &name_text(fact.name),
                "A" => noun,
                "V" => value_text(fact),
                other => other,
            };
            format!("{word}{punctuation}")
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Words of a template, each with the punctuation that follows it.
fn words_of(template: &str) -> impl Iterator<Item = (&str, &str)> {
    template.split(' ').map(|word| {
        let end = word.find(|character: char| PUNCTUATION.contains(&character.to_string().as_str()));
        word.split_at(end.unwrap_or(word.len()))
    })
}

/// The plain words of a template, for the vocabulary.
pub(super) fn plain_words(template: &str) -> impl Iterator<Item = &str> {
    words_of(template).map(|(word, _)| word).filter(|word| !["N", "A", "V"].contains(word))
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Piece(u32),
    Name,
    Noun,
    Value,
}

/// A template as ids.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Slot>);

impl Template {
    pub(super) fn new(vocabulary: &Vocabulary, template: &str) -> Template {
        let mut slots = Vec::new();
        for (word, punctuation) in words_of(template) {
            slots.push(match word {
                "N" => Slot::Name,
                "A" => Slot::Noun,
                "V" => Slot::Value,
                other => Slot::Piece(vocabulary.id(&format!(" {other}"))),
            });
            slots.extend(punctuation.chars().map(|mark| Slot::Piece(vocabulary.id(&mark.to_string()))));
        }
        Template(slots)
    }

    /// Appends the template with a fact in its slots.
    pub(super) fn fill(&self, words: &WordIds, fact: Fact, ids: &mut Vec<u32>) {
        for slot in &self.0 {
            match *slot {
                Slot::Piece(id) => ids.push(id),
                Slot::Name => ids.extend(words.name(fact.name)),
                Slot::Noun => ids.push(words.noun(fact)),
                Slot::Value => ids.push(words.value(fact)),
            }
        }
    }
}
