//! SEAL's free text for passages: a completion becomes the documents that are learned.
//!
//! Four shapes occur: one implication a line, blocks between lines of dashes, question-answer pairs, and
//! any of them after a line such as "Here are some implications:". List numbers stay, as in SEAL. Where
//! SEAL cuts a completion at 30 documents without a word, validation refuses one of more than
//! [`crate::limits::DOCUMENTS_MAX`].

/// The documents of a completion, in order, trimmed and not empty; without the title and without the
/// passage. None when nothing but separators and a preamble was written.
pub fn documents(completion: &str) -> Vec<String> {
    let lines: Vec<&str> = completion.lines().map(str::trim).collect();
    if is_self_qa(&lines) {
        return pairs(&lines);
    }
    let lines = without_preamble(&lines);
    if lines.iter().any(|line| is_separator(line)) {
        return lines.split(|line| is_separator(line)).filter_map(document).collect();
    }
    lines.iter().filter(|line| !line.is_empty()).map(|&line| line.to_owned()).collect()
}

fn is_separator(line: &str) -> bool {
    line.len() >= 3 && line.bytes().all(|byte| byte == b'-')
}

/// Lines as one document, when there is anything in them.
fn document(lines: &[&str]) -> Option<String> {
    let text = lines.join("\n");
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Without the first line if it introduces the list: it ends with a colon, or the list starts with "1."
/// right after it (SEAL's own rule).
fn without_preamble<'a>(lines: &'a [&'a str]) -> &'a [&'a str] {
    let mut written = lines.iter().enumerate().filter(|(_, line)| !line.is_empty());
    let Some((first, line)) = written.next() else { return lines };
    let list_follows = written.next().is_some_and(|(_, next)| next.starts_with("1."));
    if line.ends_with(':') || list_follows { lines.get(first + 1..).unwrap_or_default() } else { lines }
}

/// Whether a line starts a question: `Question:` or `Question 3:`.
fn starts_question(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("Question") else { return false };
    rest.trim_start().trim_start_matches(|digit: char| digit.is_ascii_digit()).trim_start().starts_with(':')
}

fn starts_answer(line: &str) -> bool {
    line.strip_prefix("Answer").is_some_and(|rest| rest.trim_start().starts_with(':'))
}

fn is_self_qa(lines: &[&str]) -> bool {
    lines.iter().any(|line| starts_question(line)) && lines.iter().any(|line| starts_answer(line))
}

/// One document a pair: a question, its answer and whatever follows until the next question.
fn pairs(lines: &[&str]) -> Vec<String> {
    let lines: Vec<&str> = lines.iter().copied().filter(|line| !is_separator(line)).collect();
    let first = lines.iter().position(|line| starts_question(line)).unwrap_or(0);
    let (before, rest) = lines.split_at(first);
    let mut documents = Vec::new();
    // SEAL's prompt for this case ends with "Question 1:", so a completion may start inside that question.
    if before.iter().any(|line| starts_answer(line)) {
        documents.extend(document(before).map(|text| format!("Question 1: {text}")));
    }
    let mut start = 0;
    for end in 1..=rest.len() {
        if rest.get(end).is_none_or(|line| starts_question(line)) {
            documents.extend(rest.get(start..end).and_then(document));
            start = end;
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(completion: &str, expected: &[&str]) {
        assert_eq!(documents(completion), expected, "{completion:?}");
    }

    #[test]
    fn one_document_a_line() {
        check("1. A.\n\n2. B.  \r\n   - C.", &["1. A.", "2. B.", "- C."]);
        check("  only one  ", &["only one"]);
        check("a -- b\n--\nc---d", &["a -- b", "--", "c---d"]);
        check("", &[]);
    }

    #[test]
    fn one_document_a_block() {
        check("A\nB\n---\nC\n\n-----\n\n---\nD", &["A\nB", "C", "D"]);
        check("---\n---", &[]);
    }

    #[test]
    fn a_preamble_is_dropped() {
        check("Here are some implications:\n1. A.\n2. B.", &["1. A.", "2. B."]);
        check("\nSure, here is a rewrite:\n\nA\n---\nB", &["A", "B"]);
        check("Some implications\n\n1. A.\n2. B.", &["1. A.", "2. B."]);
        check("A.\nB:\nC.", &["A.", "B:", "C."]);
        check("Here it is:", &[]);
    }

    #[test]
    fn one_document_a_question() {
        check(
            "Question 1: Who?\nAnswer: Me.\n\nQuestion 2: When?\nAnswer: Now.\nReally now.",
            &["Question 1: Who?\nAnswer: Me.", "Question 2: When?\nAnswer: Now.\nReally now."],
        );
        check("Question:\nWho?\nAnswer:\nMe.", &["Question:\nWho?\nAnswer:\nMe."]);
        check(
            "Who?\nAnswer: Me.\nQuestion 2: B?\nAnswer: C.",
            &["Question 1: Who?\nAnswer: Me.", "Question 2: B?\nAnswer: C."],
        );
        check(
            "Here you are:\nQuestion 1: A?\nAnswer: B.\n---\nQuestion 2: C?\nAnswer: D.",
            &["Question 1: A?\nAnswer: B.", "Question 2: C?\nAnswer: D."],
        );
        check("Questions remain.\nAnswers too.", &["Questions remain.", "Answers too."]);
    }
}
