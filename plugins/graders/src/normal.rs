//! SQuAD's normal form of an answer: lower case, no ASCII punctuation, no articles, single spaces.

/// The normal form.
pub(crate) fn normal(text: &str) -> String {
    let bare: String =
        text.to_lowercase().chars().filter(|character| !character.is_ascii_punctuation()).collect();
    let mut kept = String::with_capacity(bare.len());
    let mut rest = bare.as_str();
    // Runs of letters and digits in turn with runs of everything else, as `\b` has it.
    while let Some(first) = rest.chars().next() {
        let in_word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != in_word).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        kept.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = after;
    }
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
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
            ("", ""),
        ] {
            assert_eq!(normal(text), expected, "{text}");
        }
    }
}
