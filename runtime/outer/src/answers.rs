//! Whether an answer is the gold answer, as SQuAD's evaluation script sees it.
//!
//! The plugin `graders` has the same rules for self-edits that ask for a grader; a guest and the runtime
//! share no code.

use std::collections::HashMap;

/// SQuAD's normal form: lower case, without punctuation and the articles `a`, `an` and `the`, single spaces.
pub fn normal(text: &str) -> String {
    let bare: String =
        text.to_lowercase().chars().filter(|character| !character.is_ascii_punctuation()).collect();
    let mut kept = String::with_capacity(bare.len());
    let mut rest = bare.as_str();
    // Runs of letters and digits in turn with runs of everything else, as the script's `\b` has it.
    while let Some(first) = rest.chars().next() {
        let in_word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != in_word).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        kept.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = after;
    }
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether two answers have the same normal form.
pub fn exact(left: &str, right: &str) -> bool {
    normal(left) == normal(right)
}

/// The harmonic mean of precision and recall over the words of the normal forms, from 0 to 1. As in the
/// script of SQuAD 2, two answers without words are equal, and one without has nothing in common with one
/// that has some.
pub fn f1(left: &str, right: &str) -> f64 {
    let (left, right) = (normal(left), normal(right));
    if left == right {
        return 1.0;
    }
    let mut unmatched: HashMap<&str, usize> = HashMap::new();
    left.split_whitespace().for_each(|word| *unmatched.entry(word).or_default() += 1);
    let take = |word: &&str| match unmatched.get_mut(*word) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    };
    let shared = right.split_whitespace().filter(take).count();
    let words = left.split_whitespace().count() + right.split_whitespace().count();
    // 2 * precision * recall / (precision + recall)
    2.0 * shared as f64 / words as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the official script gives.
    #[test]
    fn the_normal_form_is_squads() {
        for (text, expected) in [
            ("The  Cat's \t mat.", "cats mat"),
            ("an a the", ""),
            ("A.B. the-and", "ab theand"),
            ("Theatre, Anna", "theatre anna"),
            ("£5 — a – b", "£5 — – b"),
            ("the–end", "–end"),
            ("Émile's the Übung", "émiles übung"),
            ("a_b the_", "ab"),
            ("1,000,000", "1000000"),
            ("Saint\u{a0}Bernadette\n", "saint bernadette"),
            ("", ""),
        ] {
            assert_eq!(normal(text), expected, "{text}");
        }
    }

    #[test]
    fn answers_are_compared_as_squad_does() {
        for (gold, answer, same, overlap) in [
            ("Denver Broncos", "The Denver Broncos.", true, 1.0),
            ("Denver Broncos", "Broncos", false, 2.0 / 3.0),
            ("Denver Broncos", "Carolina Panthers", false, 0.0),
            ("Santa Clara, California", "Levi's Stadium in Santa Clara, California", false, 2.0 / 3.0),
            ("gold", "gold gold gold", false, 0.5),
            ("a b b c", "b b b", false, 2.0 / 3.0),
            ("late 14th-century", "Late 14th century", false, 0.4),
            ("the", "a", true, 1.0),
            ("the", "cat", false, 0.0),
            ("cat", "", false, 0.0),
            ("", "", true, 1.0),
        ] {
            assert_eq!(exact(gold, answer), same, "{gold} / {answer}");
            for (left, right) in [(gold, answer), (answer, gold)] {
                assert!((f1(left, right) - overlap).abs() < 1e-12, "{left} / {right}: {}", f1(left, right));
            }
        }
    }
}
