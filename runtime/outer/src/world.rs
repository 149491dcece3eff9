//! Contexts of the bundled worlds: made by index, so that what policies learn from and what they are compared on are
//! different indices of the same stream.

use selkie_edit::Context;
use selkie_learn::pup::facts::{FactWorld, Known, WATCHED_FACTS};
use selkie_learn::pup::puzzles::{PuzzleWorld, RuleKind};
use serde::{Deserialize, Serialize};

use crate::subject::{Contexts, Subject, Watched};

/// Passages with smaller numbers are for policies to learn from. No two of the first thousand share an entity.
const HELD_OUT_PASSAGES: u64 = 500;

/// Tests of a puzzle that are asked.
pub const TESTS: usize = 2;

/// Puzzles by their index in the world's held-out stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// For policies to learn from.
    pub training: Vec<u64>,
    /// To compare them on.
    pub held_out: Vec<u64>,
}

/// The puzzles that were chosen for the bundled model: those that some edit of a small set solves, as SEAL chooses its
/// own. `examples/choose_puzzles.rs` chose them, by other tests than those that are asked here.
pub fn chosen() -> Chosen {
    serde_json::from_str(include_str!("../contexts/puzzles.json"))
        .unwrap_or(Chosen { training: Vec::new(), held_out: Vec::new() })
}

/// Puzzles of a world.
pub fn puzzles(world: &PuzzleWorld, chosen: &Chosen, training: usize, held_out: usize) -> Contexts {
    let subject = |&index: &u64| Subject {
        kind: Some(kind_text(world.held_out_kind(index))),
        ..Subject::new(Context::Puzzle(world.held_out_puzzle(index, TESTS)))
    };
    Contexts {
        training: chosen.training.iter().take(training).map(subject).collect(),
        held_out: chosen.held_out.iter().take(held_out).map(subject).collect(),
    }
}

/// What a rule is tied to, in words.
pub fn kind_text(kind: RuleKind) -> String {
    let said = |bound: bool| if bound { "change" } else { "keep" };
    format!("turns {} it, colours {} it", said(kind.orientation_bound), said(kind.colour_bound))
}

/// Passages of a world.
pub fn passages(world: &FactWorld, training: usize, held_out: usize) -> Contexts {
    let subject = |index: u64| Subject {
        by_hand: world.held_out_lines(index),
        ..Subject::new(Context::Passage(world.held_out_passage(index)))
    };
    Contexts {
        training: (0..training as u64).map(subject).collect(),
        held_out: (0..held_out as u64).map(|index| subject(HELD_OUT_PASSAGES + index)).collect(),
    }
}

/// Facts of a world that the model knows, half of them for the reward. What edits replay is about other facts.
pub fn watched(world: &FactWorld) -> Watched {
    let mut training = world.known_questions(Known::Asked, WATCHED_FACTS);
    let held_out = training.split_off(WATCHED_FACTS / 2);
    Watched { training, held_out }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_learned_from_that_is_compared_on() {
        let facts = passages(&FactWorld::new(1), 40, 60);
        let names = |subjects: &[Subject]| -> BTreeSet<String> {
            let names = subjects.iter().map(|subject| subject.context.name());
            names.flat_map(|title| title.split(" and ")).map(str::to_owned).collect()
        };
        let (training, held_out) = (names(&facts.training), names(&facts.held_out));
        assert_eq!((training.len(), held_out.len()), (80, 120), "every entity once");
        assert!(training.is_disjoint(&held_out));

        let chosen = chosen();
        let training: BTreeSet<u64> = chosen.training.iter().copied().collect();
        let held_out: BTreeSet<u64> = chosen.held_out.iter().copied().collect();
        assert_eq!((training.len(), held_out.len()), (chosen.training.len(), chosen.held_out.len()));
        assert!(training.is_disjoint(&held_out));
    }

    #[test]
    fn the_chosen_puzzles_have_equal_shares_of_the_four_kinds() {
        let world = PuzzleWorld::new(1);
        let chosen = chosen();
        for indices in [&chosen.training, &chosen.held_out] {
            let mut shares = std::collections::BTreeMap::new();
            for &index in indices {
                *shares.entry(kind_text(world.held_out_kind(index))).or_insert(0) += 1;
            }
            assert_eq!(shares.values().collect::<BTreeSet<_>>().len(), 1, "{shares:?}");
            assert_eq!(shares.len(), 4, "{shares:?}");
        }
    }

    #[test]
    fn what_is_watched_is_never_replayed_and_never_both() {
        let world = FactWorld::new(1);
        let watched = watched(&world);
        // A fact by its noun, its name and its value, however it is asked.
        let key = |question: &str, answer: &str| {
            let words: BTreeSet<String> = question
                .split([' ', '?', '.'])
                .filter(|word| word.chars().next().is_some_and(char::is_uppercase) || world_noun(word))
                .map(str::to_owned)
                .filter(|word| {
                    !["What", "Which", "Name", "For", "Tell", "Question:", "Answer:"].contains(&word.as_str())
                })
                .collect();
            (words, answer.to_owned())
        };
        let facts = |questions: &[selkie_edit::Question]| -> BTreeSet<_> {
            questions.iter().map(|asked| key(&asked.question, &asked.answer)).collect()
        };
        let (training, held_out) = (facts(&watched.training), facts(&watched.held_out));
        assert_eq!((training.len(), held_out.len()), (WATCHED_FACTS / 2, WATCHED_FACTS / 2));
        assert!(training.is_disjoint(&held_out));
        let documents = world.known_documents(Known::Asked, WATCHED_FACTS);
        assert!(documents.len() > 500, "{}", documents.len());
        for document in &documents {
            let (question, answer) = document.split_once(" Answer: ").expect("a question with its answer");
            let fact = key(question, answer);
            assert!(!training.contains(&fact) && !held_out.contains(&fact), "{document}");
        }
    }

    fn world_noun(word: &str) -> bool {
        const NOUNS: [&str; 12] = [
            "home",
            "trade",
            "instrument",
            "colour",
            "pet",
            "meal",
            "metal",
            "gem",
            "cargo",
            "tool",
            "tree",
            "river",
        ];
        NOUNS.contains(&word)
    }
}
