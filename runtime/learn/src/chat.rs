//! SEAL's text for real models: puzzles as chat messages, passages as plain documents, questions and requests
//! for a self-edit as SEAL asks them. The model's own chat template joins messages where it has one.
//!
//! Puzzles: a system message with every demonstration as `input -> output#` (grids as NumPy prints them), a
//! user message with the input to solve, and the output followed by `#` as the answer.

use std::ops::Range;
use std::sync::OnceLock;

use minijinja::{Environment, context};
use selkie_edit::{Example, Grid, LossOn, Passage, Puzzle, Question, Task};
use tokenizers::{Encoding, Tokenizer};

use crate::base::{CHAT_TEMPLATE, ModelFiles, TOKENIZER_CONFIG};
use crate::constraint::Vocabulary;
use crate::error::LearnError;
use crate::pup::render::{Places, Prompt};
use crate::sequence::Sequence;

/// The request that SEAL puts before a puzzle's demonstrations.
const PUZZLE_SYSTEM: &str = "Figure out the underlying transformation in the following examples and apply it to \
                             the test case. Here are some examples from this transformation, your answer must \
                             follow the format.\nThe input-output grids are provided as python arrays:\n";

/// Where no end token is configured, a generation ends at its length limit and answers end with a newline.
const FALLBACK_END: &str = "\n";

/// A real model's language.
pub struct ChatCodec {
    tokenizer: Tokenizer,
    template: Option<String>,
    bos: String,
    eos: String,
    end: u32,
    vocabulary: OnceLock<Vocabulary>,
}

impl std::fmt::Debug for ChatCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatCodec").field("end", &self.end).finish_non_exhaustive()
    }
}

impl ChatCodec {
    /// From `tokenizer.json` and `tokenizer_config.json`.
    ///
    /// # Errors
    /// When there is no tokenizer or it does not load.
    pub fn open(files: &ModelFiles, eos_ids: &[u32]) -> Result<ChatCodec, LearnError> {
        let Some(bytes) = files.get("tokenizer.json") else {
            let reason = format!("there is no `tokenizer.json` in `{}`", files.origin.display());
            return Err(LearnError::Tokenizer(reason));
        };
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| LearnError::Tokenizer(e.to_string()))?;
        let config: serde_json::Value = match files.text(TOKENIZER_CONFIG)? {
            None => serde_json::Value::Null,
            Some(text) => serde_json::from_str(text).map_err(|e| LearnError::Json {
                path: files.origin.join(TOKENIZER_CONFIG),
                what: "tokenizer configuration",
                reason: e.to_string(),
            })?,
        };
        // A token is written as text or as an object that holds it.
        let token = |key: &str| {
            let value = &config[key];
            value.as_str().or(value["content"].as_str()).unwrap_or_default().to_owned()
        };
        let fallback =
            || tokenizer.encode(FALLBACK_END, false).ok().and_then(|e| e.get_ids().last().copied());
        // Of several end tokens, the tokenizer's own is the one that ends a turn: Llama 3's instruction models
        // list `<|end_of_text|>` first and end every turn with `<|eot_id|>`.
        let own_end = tokenizer.token_to_id(&token("eos_token"));
        let end = own_end.or_else(|| eos_ids.first().copied()).or_else(fallback);
        // In a file of its own since transformers 4.50; before that in the configuration, alone or in a list.
        let named_default = |templates: &Vec<serde_json::Value>| {
            templates.iter().find(|template| template["name"] == "default")?["template"]
                .as_str()
                .map(str::to_owned)
        };
        let configured = &config["chat_template"];
        let in_config =
            configured.as_str().map(str::to_owned).or_else(|| configured.as_array().and_then(named_default));
        Ok(ChatCodec {
            template: files.text(CHAT_TEMPLATE)?.map(str::to_owned).or(in_config),
            bos: token("bos_token"),
            eos: token("eos_token"),
            end: end.ok_or_else(|| LearnError::Tokenizer("the model has no end token".to_owned()))?,
            tokenizer,
            vocabulary: OnceLock::new(),
        })
    }

    /// The tokens and texts of the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The tokens by their bytes, for a model of `size` logits that ends a text by one of `eos_ids` or its turn's
    /// end. Made once.
    ///
    /// # Errors
    /// When decoding with this tokenizer cannot be constrained.
    pub fn vocabulary(&self, size: usize, eos_ids: &[u32]) -> Result<&Vocabulary, LearnError> {
        if let Some(vocabulary) = self.vocabulary.get() {
            return Ok(vocabulary);
        }
        let mut ends = vec![self.end];
        ends.extend(eos_ids.iter().filter(|&&id| id != self.end));
        let vocabulary = Vocabulary::new(&self.tokenizer, size, &ends)?;
        Ok(self.vocabulary.get_or_init(|| vocabulary))
    }

    /// A document with a loss on every token, as SEAL trains passages.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn document(&self, document: &str) -> Result<Sequence, LearnError> {
        let mut ids = self.encode(document, true)?;
        ids.push(self.end);
        Ok(all_labelled(ids))
    }

    /// SEAL's no-context question.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn question_prompt(&self, title: &str, question: &str) -> Result<Prompt, LearnError> {
        let text = format!(
            "Let's answer a question directly and concisely.\nQuestion: Topic: {title}\n{question}\nAnswer:\n"
        );
        self.prompt(text)
    }

    /// The same question with the passage in front.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn question_in_context(&self, passage: &Passage, question: &str) -> Result<Prompt, LearnError> {
        let Passage { title, context, .. } = passage;
        let text = format!(
            "Let's answer a question directly and concisely.\nPassage:\n{title}\n{context}\n\n\
             Question: Topic: {title}\n{question}\nAnswer:\n"
        );
        self.prompt(text)
    }

    /// The ids of an answer with its end.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn answer(&self, question: &Question) -> Result<Vec<u32>, LearnError> {
        self.ended(&question.answer)
    }

    /// The request for a self-edit, as one user message (a passage's is plain text, for base models).
    ///
    /// # Errors
    /// When the tokenizer or the chat template fails.
    pub fn edit_prompt(&self, text: &str, as_chat: bool) -> Result<Prompt, LearnError> {
        match as_chat {
            true => self.prompt(self.chat(&[("user", text)], true)?),
            false => self.prompt(text.to_owned()),
        }
    }

    /// A task as one training sequence. The loss is on the final output, on the demonstrations' outputs too, or
    /// on everything.
    ///
    /// # Errors
    /// When the tokenizer or the chat template fails.
    pub fn task(&self, task: &Task, loss_on: LossOn) -> Result<Sequence, LearnError> {
        let asked = self.puzzle_text(&task.train, &task.test.input)?;
        let whole = 0..asked.len();
        let with_loss = match loss_on {
            LossOn::FinalOutput => Vec::new(),
            LossOn::AllTokens => vec![whole],
            LossOn::AllOutputs => output_ranges(&asked, &task.train),
        };
        // The tokens are those of the prompt and its answer, whatever is labelled: the text is encoded once and
        // not in pieces, whose tokens would be others at every joint.
        let encoding = self.encoding(&asked, !self.starts_with_bos(&asked))?;
        let mut ids = encoding.get_ids().to_vec();
        let mut labelled = overlapping(encoding.get_offsets(), &with_loss);
        let answer = self.grid_answer(&task.test.output)?;
        labelled.resize(ids.len() + answer.len(), true);
        ids.extend(answer);
        Ok(Sequence { positions: (0..ids.len() as u32).collect(), ids, labelled })
    }

    /// A test input behind the puzzle's demonstrations.
    ///
    /// # Errors
    /// When the tokenizer or the chat template fails.
    pub fn test_prompt(&self, puzzle: &Puzzle, input: &Grid) -> Result<Prompt, LearnError> {
        self.prompt(self.puzzle_text(&puzzle.train, input)?)
    }

    fn puzzle_text(&self, demonstrations: &[Example], input: &Grid) -> Result<String, LearnError> {
        self.chat(&[("system", &system_text(demonstrations)), ("user", &pair_query(input))], true)
    }

    /// The ids of an output grid with its end.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn grid_answer(&self, output: &Grid) -> Result<Vec<u32>, LearnError> {
        self.ended(&pair_answer(output))
    }

    /// Any text, to be continued.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn text_prompt(&self, text: &str) -> Result<Prompt, LearnError> {
        self.prompt(text.to_owned())
    }

    /// Messages (role and content, in order) by the model's chat template, up to where the assistant answers; with the
    /// tools that the model may call, where the template knows of any.
    ///
    /// # Errors
    /// [`LearnError::Render`] when the model has no chat template or it refuses the messages, and the tokenizer's.
    pub fn chat_prompt(
        &self,
        messages: &[(&str, &str)],
        tools: Option<&serde_json::Value>,
    ) -> Result<Prompt, LearnError> {
        if self.template.is_none() {
            return Err(LearnError::Render("it is a chat; the model has no chat template".to_owned()));
        }
        self.prompt(self.chat_with(messages, tools, true)?)
    }

    /// The model's chat template, if it has one.
    pub fn template(&self) -> Option<&str> {
        self.template.as_deref()
    }

    /// The ids of text in the model's own format: special tokens in it are read as such.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn formatted(&self, text: &str) -> Result<Vec<u32>, LearnError> {
        self.encode(text, false)
    }

    /// The ids of what follows a prompt, with its end.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn completion(&self, text: &str) -> Result<Vec<u32>, LearnError> {
        self.ended(text)
    }

    /// The text of a continuation, up to its end token.
    pub fn text(&self, continuation: &[u32]) -> String {
        let end = continuation.iter().position(|&id| id == self.end).unwrap_or(continuation.len());
        self.tokenizer.decode(&continuation[..end], true).unwrap_or_default()
    }

    /// The grid that a continuation spells, if it spells one.
    pub fn grid(&self, continuation: &[u32]) -> Option<Grid> {
        grid_of_text(&self.text(continuation))
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, LearnError> {
        Ok(self.encoding(text, special)?.get_ids().to_vec())
    }

    fn encoding(&self, text: &str, special: bool) -> Result<Encoding, LearnError> {
        self.tokenizer.encode(text, special).map_err(|e| LearnError::Tokenizer(e.to_string()))
    }

    fn ended(&self, text: &str) -> Result<Vec<u32>, LearnError> {
        let mut ids = self.encode(text, false)?;
        ids.push(self.end);
        Ok(ids)
    }

    fn prompt(&self, text: String) -> Result<Prompt, LearnError> {
        let ids = self.encode(&text, !self.starts_with_bos(&text))?;
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        Ok(Prompt { text, places: Places::Counted(ids.len() as u32), ids, positions, end: self.end })
    }

    /// Chat templates write the first token themselves; it must not be there twice.
    fn starts_with_bos(&self, text: &str) -> bool {
        !self.bos.is_empty() && text.starts_with(&self.bos)
    }

    /// Messages joined by the model's template; without one, by newlines.
    fn chat(&self, messages: &[(&str, &str)], generate: bool) -> Result<String, LearnError> {
        self.chat_with(messages, None, generate)
    }

    fn chat_with(
        &self,
        messages: &[(&str, &str)],
        tools: Option<&serde_json::Value>,
        generate: bool,
    ) -> Result<String, LearnError> {
        let Some(template) = &self.template else {
            return Ok(messages.iter().map(|(_, text)| format!("{text}\n")).collect());
        };
        let bad = |e: minijinja::Error| LearnError::Render(format!("the model's chat template fails: {e}"));
        let mut environment = Environment::new();
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        // As transformers sets its environment up: templates are written for it.
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_function("raise_exception", |reason: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, reason))
        });
        // Llama 3's template writes today's date; a fixed one keeps runs repeatable.
        environment.add_function("strftime_now", |_: String| "26 Jul 2024");
        environment.add_template("chat", template).map_err(bad)?;
        let messages: Vec<_> = messages.iter().map(|(role, content)| context!(role, content)).collect();
        let (bos_token, eos_token) = (&self.bos, &self.eos);
        let template = environment.get_template("chat").map_err(bad)?;
        template
            .render(context!(messages, tools, bos_token, eos_token, add_generation_prompt => generate))
            .map_err(bad)
    }
}

fn all_labelled(ids: Vec<u32>) -> Sequence {
    Sequence { positions: (0..ids.len() as u32).collect(), labelled: vec![true; ids.len()], ids }
}

/// A grid as NumPy prints it: `[[1 2]\n [3 4]]`.
fn grid_text(grid: &Grid) -> String {
    let row = |row: &[u8]| format!("[{}]", row.iter().map(u8::to_string).collect::<Vec<_>>().join(" "));
    format!("[{}]", grid.rows().map(row).collect::<Vec<_>>().join("\n "))
}

fn grid_of_text(text: &str) -> Option<Grid> {
    let text = text.trim().trim_end_matches('#').trim();
    let inner = text.strip_prefix("[[")?.strip_suffix("]]")?;
    let row = |row: &str| {
        let cells = row.trim().trim_start_matches('[').split_whitespace();
        cells.map(|cell| cell.parse().ok()).collect::<Option<Vec<u8>>>()
    };
    let rows: Option<Vec<Vec<u8>>> = inner.split(']').map(row).collect();
    Grid::from_rows(&rows?).ok()
}

fn pair_query(input: &Grid) -> String {
    format!("{} -> ", grid_text(input))
}

fn pair_answer(output: &Grid) -> String {
    format!("{}#", grid_text(output))
}

fn system_text(demonstrations: &[Example]) -> String {
    let pair = |pair: &Example| format!("{}{}\n", pair_query(&pair.input), pair_answer(&pair.output));
    format!("{PUZZLE_SYSTEM}{}", demonstrations.iter().map(pair).collect::<String>())
}

/// Where the demonstrations' outputs stand in a text, as ranges of bytes.
fn output_ranges(text: &str, demonstrations: &[Example]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut from = 0;
    for pair in demonstrations {
        let (query, output) = (pair_query(&pair.input), pair_answer(&pair.output));
        let Some(at) = text[from..].find(&format!("{query}{output}")) else { continue };
        let start = from + at + query.len();
        from = start + output.len();
        ranges.push(start..from);
    }
    ranges
}

/// Which of the tokens at these offsets have a part in one of the ranges.
///
/// A byte-level tokenizer may leave white space out of its offsets, so a token counts from the end of the one
/// before it.
fn overlapping(offsets: &[(usize, usize)], ranges: &[Range<usize>]) -> Vec<bool> {
    let mut covered = 0;
    let overlaps = |&(start, end): &(usize, usize)| {
        // Tokens of one character that takes several share their offsets.
        let start = if covered < end { covered } else { start };
        covered = covered.max(end);
        ranges.iter().any(|range| start < range.end && range.start < end)
    };
    offsets.iter().map(overlaps).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn grids_are_written_as_numpy_prints_them_and_read_back() {
        let grid = Grid::from_rows(&[vec![9, 9, 7], vec![3, 3, 4]]).unwrap();
        assert_eq!(pair_answer(&grid), "[[9 9 7]\n [3 3 4]]#");
        assert_eq!(grid_of_text("[[9 9 7]\n [3 3 4]]#"), Some(grid));
        for bad in ["", "[[1 2]\n [3]]#", "[[1 12]]", "[[a]]", "[1 2]", "[[]]", "]]", "[["] {
            assert_eq!(grid_of_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_outputs_of_demonstrations_are_found_in_their_text() {
        let grid = |colour| Grid::from_rows(&[vec![colour]]).unwrap();
        let pairs =
            [Example { input: grid(1), output: grid(2) }, Example { input: grid(1), output: grid(2) }];
        let text = system_text(&pairs);
        let ranges = output_ranges(&text, &pairs);
        assert_eq!(ranges.iter().map(|range| &text[range.clone()]).collect::<Vec<_>>(), ["[[2]]#", "[[2]]#"]);
        assert!(ranges[0].end < ranges[1].start);
    }

    #[test]
    fn a_token_overlaps_a_range_when_any_of_its_text_does() {
        let range = 3..6;
        let check = |offsets: &[(usize, usize)], expected: &[bool]| {
            assert_eq!(overlapping(offsets, std::slice::from_ref(&range)), expected, "{offsets:?}");
        };
        check(&[(0, 2), (2, 4), (4, 6), (6, 8)], &[false, true, true, false]);
        // White space left out of the offsets: in front of a token, and a token of nothing else.
        check(&[(0, 3), (4, 6), (7, 8)], &[false, true, false]);
        check(&[(0, 3), (4, 4), (4, 6), (6, 7)], &[false, true, true, false]);
        check(&[(0, 3), (3, 5), (6, 6), (7, 8)], &[false, true, true, false]);
        // A token that the tokenizer adds, and three that spell one character.
        check(&[(0, 0), (0, 3), (3, 6), (3, 6), (3, 6), (6, 6)], &[false, false, true, true, true, false]);
    }
}
