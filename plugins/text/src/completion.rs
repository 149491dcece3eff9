//! SEAL's free text for passages: a completion becomes documents.
//!
//! Four shapes occur: one implication a line, blocks between lines of dashes, question-answer pairs, and any of them
//! after a line such as "Here are some implications:". List numbers stay, as in SEAL. The runtime splits a
//! completion that is itself a self-edit by the same rules; `cases.json` has its test cases.

/// The documents of a completion, in order, trimmed and not empty; without the title and without the
/// passage. None when nothing but separators and a preamble was written.
pub(crate) fn documents(completion: &str) -> Vec<String> {
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
pub(crate) fn starts_question(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("Question") else { return false };
    rest.trim_start().trim_start_matches(|digit: char| digit.is_ascii_digit()).trim_start().starts_with(':')
}

pub(crate) fn starts_answer(line: &str) -> bool {
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
