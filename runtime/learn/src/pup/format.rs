//! Every prompt and document form of pup, as text with special tokens. What a model was trained on, what the
//! runtime shows it, and what a person reads are these strings.
//!
//! # Facts
//! - document: `<bos>` title, newline, text `<eos>`
//! - edit: `<bos>` title, newline, passage `<edit>` a self-edit in JSON `<eos>`; its documents are statements, questions
//!   with their answers, or entries of the ledger
//! - question: `<bos>Question: ... Answer:` then the answer `<eos>`
//! - copy (pretraining only): `<bos>` words `<copy>` the same words `<eos>`
//!
//! # Puzzles
//! - grid: every row behind its number, `\n01 003` `\n02 010`
//! - pair: `<in>` grid `<out>` grid `<end>`
//! - sequence: `<bos>` the rule where it is told, then pairs; nothing follows the last `<end>`, and nothing is
//!   learned about what follows an `<end>`, so a pair ends in the same way wherever it stands
//! - edit: `<bos><tools>` names `</tools>` pairs `<edit>` a self-edit in JSON `<eos>`

use selkie_edit::{Example, Grid};

/// Padding; never seen by a model.
pub const PAD: &str = "<pad>";
/// Begins every sequence.
pub const BOS: &str = "<bos>";
/// Ends a document, an answer and an edit.
pub const EOS: &str = "<eos>";
/// Asks for a self-edit of what stands before it.
pub const EDIT: &str = "<edit>";
/// Asks for what stands before it, word by word.
pub const COPY: &str = "<copy>";
/// Begins an input grid.
pub const IN: &str = "<in>";
/// Begins an output grid.
pub const OUT: &str = "<out>";
/// Ends a pair.
pub const END: &str = "<end>";
/// Begins the names of the tools.
pub const TOOLS: &str = "<tools>";
/// Ends the names of the tools.
pub const TOOLS_END: &str = "</tools>";

/// The special tokens of the fact world, in order of id.
pub const FACT_SPECIALS: [&str; 5] = [PAD, BOS, EOS, EDIT, COPY];

/// The special tokens of the puzzle world, in order of id.
pub const PUZZLE_SPECIALS: [&str; 9] = [PAD, BOS, EOS, IN, OUT, END, TOOLS, TOOLS_END, EDIT];

/// Before a question.
pub const QUESTION: &str = "Question:";

/// Between a question and its answer.
pub const ANSWER: &str = "Answer:";

/// A question up to where its answer begins.
pub fn question_text(question: &str) -> String {
    format!("{QUESTION} {question} {ANSWER}")
}

/// A question with its answer: a line of an edit.
pub fn question_line(question: &str, answer: &str) -> String {
    format!("{QUESTION} {question} {ANSWER} {answer}")
}

/// A text behind its title.
pub fn titled_text(title: &str, text: &str) -> String {
    format!("{title}\n{text}")
}

/// The name of row `row` (from 1): a piece of its own.
pub fn row_marker(row: usize) -> String {
    format!("\n{row:02} ")
}

/// The text of a grid.
pub fn grid_text(grid: &Grid) -> String {
    let mut text = String::new();
    for (row, cells) in grid.rows().enumerate() {
        text.push_str(&row_marker(row + 1));
        text.extend(cells.iter().map(|&colour| char::from(b'0' + colour)));
    }
    text
}

/// The text of a pair.
pub fn pair_text(pair: &Example) -> String {
    format!("{IN}{}{OUT}{}{END}", grid_text(&pair.input), grid_text(&pair.output))
}

/// The names of the tools, as the edit prompt lists them.
pub fn tools_text<'a>(tools: impl IntoIterator<Item = &'a str>) -> String {
    format!("{TOOLS}{}{TOOLS_END}", tools.into_iter().collect::<Vec<_>>().join(" "))
}
