//! Question-answer pairs out of what a model wrote.

use selkie_sdk::{Rng, Source, TextAugmenter, ToolError};

use crate::params::{TITLE, object, titled};
use crate::tools::TitleParams;

/// SEAL's self-QA documents.
pub(crate) struct SelfQa;

impl TextAugmenter for SelfQa {
    const NAME: &'static str = "text.self_qa";
    const SUMMARY: &'static str = "Every labelled question of the completions becomes a document with its answer; \
                                   questions without one are left out.";
    type Params = TitleParams;

    fn params_schema() -> String {
        object(TITLE)
    }

    fn documents(params: &TitleParams, source: &Source, _: &mut Rng) -> Result<Vec<String>, ToolError> {
        let mut documents: Vec<String> = Vec::new();
        for pair in source.completions.iter().flat_map(|text| pairs(text)) {
            if !documents.contains(&pair) {
                documents.push(pair);
            }
        }
        Ok(titled(documents, &source.title, params.title))
    }
}

/// What a line is part of.
enum Part {
    Question,
    Answer,
}

/// Each question with its answer, as `Question: ..` and `Answer: ..`.
///
/// What stands before the first label is a question if an answer follows: SEAL's prompt ends with "Question 1:".
fn pairs(completion: &str) -> Vec<String> {
    let (mut question, mut answer, mut made) = (String::new(), String::new(), Vec::new());
    let mut answered = false;
    for line in completion.lines() {
        let (part, text) = labelled(line);
        match part {
            Some(Part::Question) => {
                made.extend(document(&question, &answer));
                (question, answer, answered) = (String::new(), String::new(), false);
            }
            // A second answer to a question: the first is kept.
            Some(Part::Answer) if answered => {
                made.extend(document(&question, &answer));
                (question, answer) = (String::new(), String::new());
            }
            Some(Part::Answer) => answered = true,
            None => {}
        }
        append(if answered { &mut answer } else { &mut question }, text);
    }
    made.extend(document(&question, &answer));
    made
}

fn document(question: &str, answer: &str) -> Option<String> {
    (!question.is_empty() && !answer.is_empty()).then(|| format!("Question: {question}\nAnswer: {answer}"))
}

/// Lines become one; lines of dashes are no text.
fn append(text: &mut String, line: &str) {
    if line.is_empty() || line.bytes().all(|byte| byte == b'-') {
        return;
    }
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(line);
}

/// A line's label, and the text after it: `Question 3: ..`, `Q: ..`, `**Answer:** ..`, `A3. ..` and the like.
fn labelled(line: &str) -> (Option<Part>, &str) {
    let line = line.trim();
    let bare = line.trim_start_matches(['*', '#', '-', ' ']);
    for (label, part) in
        [("Question", Part::Question), ("Answer", Part::Answer), ("Q", Part::Question), ("A", Part::Answer)]
    {
        if let Some(text) = bare.strip_prefix(label).and_then(after_label) {
            return (Some(part), text);
        }
    }
    (None, line)
}

/// What follows a label's number and colon.
fn after_label(rest: &str) -> Option<&str> {
    let rest = rest.trim_start().trim_start_matches(|digit: char| digit.is_ascii_digit());
    let rest = rest.trim_start_matches('*').trim_start();
    rest.strip_prefix(':').map(|text| text.trim_start_matches('*').trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(completion: &str, expected: &[&str]) {
        assert_eq!(pairs(completion), expected, "{completion:?}");
    }

    #[test]
    fn labels_of_several_styles_are_read() {
        let both = ["Question: Who?\nAnswer: Me.", "Question: When?\nAnswer: Now. Really now."];
        check("Question 1: Who?\nAnswer: Me.\n\nQuestion 2: When?\nAnswer: Now.\nReally now.", &both);
        check("Q1: Who?\nA1: Me.\n---\nQ2: When?\nA2: Now.\nReally now.", &both);
        check(
            "**Question:** Who?\n**Answer:** Me.\n- **Question 2**: When?\n- **Answer**: Now. Really now.",
            &both,
        );
        check("Question:\nWho?\nAnswer:\nMe.", &both[..1]);
    }

    #[test]
    fn a_completion_may_start_inside_the_first_question() {
        check(
            "Who?\nAnswer: Me.\nQuestion 2: B?\nAnswer: C.",
            &["Question: Who?\nAnswer: Me.", "Question: B?\nAnswer: C."],
        );
    }

    #[test]
    fn what_has_no_answer_is_left_out() {
        check("Question: Who?\nQuestion: When?\nAnswer: Now.", &["Question: When?\nAnswer: Now."]);
        check("Question: Who?\nAnswer:", &[]);
        check("Answer: Me.\nAnswer: You.", &[]);
        check("A plain sentence.\nQuite plain: indeed.", &[]);
        check("", &[]);
    }
}
