//! Where sentences end.

/// Words before a full stop that ends no sentence, in lower case.
const ABBREVIATIONS: [&str; 48] = [
    "adm", "approx", "apr", "aug", "ave", "brig", "c", "ca", "capt", "cf", "col", "dec", "dept", "dr", "ed",
    "feb", "fig", "fr", "ft", "gen", "gov", "hon", "jan", "lt", "maj", "messrs", "mr", "mrs", "ms", "mt",
    "no", "nov", "oct", "op", "pp", "prof", "rep", "rev", "sen", "sep", "sept", "sgt", "st", "ste", "vol",
    "v", "vs", "viz",
];

/// Words before a full stop that may end a sentence as well: only before a word that often begins one.
const MAYBE: [&str; 9] = ["bros", "co", "corp", "etc", "inc", "jr", "ltd", "sr", "al"];

/// Words that often begin a sentence and seldom a name.
const STARTERS: [&str; 34] = [
    "A", "After", "Although", "An", "And", "As", "At", "Before", "But", "By", "During", "For", "From", "He",
    "His", "However", "In", "It", "Its", "Many", "On", "One", "She", "Since", "Some", "The", "Their",
    "There", "These", "They", "This", "Those", "When", "While",
];

/// The sentences of a text, trimmed, with inner white space as single spaces. A line break ends a sentence, unless
/// the next line goes on in lower case or with a number (SQuAD's "O\n2" is oxygen).
pub(crate) fn sentences(text: &str) -> Vec<String> {
    let mut lines: Vec<Vec<&str>> = vec![Vec::new()];
    for line in text.lines() {
        let words = line.split_whitespace();
        match lines.last_mut() {
            Some(last) if goes_on(line) => last.extend(words),
            _ => lines.push(words.collect()),
        }
    }
    lines.iter().flat_map(|words| of_line(words)).collect()
}

fn goes_on(line: &str) -> bool {
    let is_item = line.split_whitespace().next().is_some_and(|first| first.ends_with(['.', ')']));
    line.starts_with(char::is_lowercase) || (line.starts_with(|c: char| c.is_ascii_digit()) && !is_item)
}

fn of_line(words: &[&str]) -> Vec<String> {
    let (mut sentences, mut start) = (Vec::new(), 0);
    for end in 1..=words.len() {
        // "1." alone is a list's number.
        let has_words = words[start..end].iter().any(|word| word.contains(char::is_alphabetic));
        if words.get(end).is_none_or(|next| has_words && ends_sentence(words[end - 1], next)) {
            sentences.push(words[start..end].join(" "));
            start = end;
        }
    }
    sentences
}

/// Whether a sentence ends between two words.
fn ends_sentence(word: &str, next: &str) -> bool {
    let word = word.trim_end_matches(is_closing);
    let next = next.trim_start_matches(is_opening);
    if !next.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()) {
        return false;
    }
    if word.ends_with(['!', '?']) {
        return true;
    }
    let Some(stem) = word.strip_suffix('.') else { return word.ends_with('…') };
    let stem = stem.trim_start_matches(is_opening);
    let lower = stem.to_lowercase();
    let is_number = next.starts_with(|c: char| c.is_ascii_digit());
    if lower == "no" {
        // "No. 5", but "He said no. Then".
        return !is_number;
    }
    if ABBREVIATIONS.contains(&lower.as_str()) {
        return false;
    }
    let is_initial = stem.chars().count() == 1 && stem.chars().all(char::is_uppercase);
    let is_dotted = stem.contains('.') && stem.split('.').all(|part| part.chars().count() == 1);
    if is_initial || is_dotted || MAYBE.contains(&lower.as_str()) {
        let next = next.trim_end_matches(|c: char| !c.is_alphanumeric());
        return STARTERS.contains(&next);
    }
    true
}

fn is_closing(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | ')' | ']' | '»')
}

fn is_opening(c: char) -> bool {
    matches!(c, '"' | '\'' | '“' | '‘' | '(' | '[' | '«')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected: &[&str]) {
        assert_eq!(sentences(&expected.join(" ")), expected);
    }

    #[test]
    fn sentences_end_where_a_reader_would_end_them() {
        check(&["It rained.", "Nobody came!", "Why?", "20 people stayed."]);
        check(&["Dr. J. R. Smith met Mrs. Jones on St. Mary's Street at 3.30 p.m. sharp.", "She left."]);
        check(&["It grew by 3.5 percent to $1.2 million.", "In 1900 it fell."]);
        check(&["He lived in the U.S. Virgin Islands.", "He died in the U.S.", "The end."]);
        check(&["\"Stop!\" he cried.", "\"Why?\"", "(He knew.)", "Then he went."]);
        check(&["Acme Inc. Boston sold ropes, nets, etc.", "They were good."]);
        check(&["It is No. 5 of c. 1800.", "The answer was no.", "Then silence."]);
        check(&["He paused ... and went on.", "Nicholas II. abdicated"]);
        check(&["iPods e.g. were sold."]);
    }

    #[test]
    fn lines_and_spaces_are_no_part_of_a_sentence() {
        assert_eq!(
            sentences("  A heading\n\nOne  sentence.\tAnother one"),
            ["A heading", "One sentence.", "Another one"]
        );
        assert_eq!(
            sentences("Two atoms of O\n2 are\nthere.\n1. A list\n2. goes on"),
            ["Two atoms of O 2 are there.", "1. A list", "2. goes on"]
        );
        assert!(sentences(" \n ").is_empty());
    }
}
