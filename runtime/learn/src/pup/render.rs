//! From contexts and training data to pup's sequences and prompts, and from ids back to answers.
//!
//! Each codec is one world's vocabulary at work. Text that comes from outside is only ever text: a passage that
//! says `<eos>` is spelled out and ends nothing.

use selkie_edit::{Example, Grid, LossOn, Passage, Puzzle, Question, Task};
use tokenizers::Tokenizer;

use crate::sequence::Sequence;

use super::format::{
    BOS, EDIT, END, EOS, IN, OUT, TOOLS, TOOLS_END, grid_text, pair_text, question_text, row_marker,
    titled_text, tools_text,
};
use super::positions::{PositionIds, Positions, ROWS_MAX};
use super::vocabulary::Vocabulary;
use super::{facts, puzzles};

/// Where the tokens after a prompt stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Places {
    /// One after the other; the next position.
    Counted(u32),
    /// By rows and columns.
    Grids(Positions),
}

impl Places {
    /// The position of the token that is appended now.
    pub fn push(&mut self, id: u32) -> u32 {
        match self {
            Places::Counted(next) => {
                *next += 1;
                *next - 1
            }
            Places::Grids(positions) => positions.push(id),
        }
    }
}

/// What a model is asked to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The prompt for people; special tokens stand in it by name.
    pub text: String,
    /// The prompt for the model.
    pub ids: Vec<u32>,
    /// The position of each id.
    pub positions: Vec<u32>,
    /// Gives the positions of what follows.
    pub places: Places,
    /// The token that ends the continuation.
    pub end: u32,
}

impl Prompt {
    /// The position of every token, asked for in order, from the first of the prompt: what
    /// [`crate::Request::position_of`] wants.
    pub fn position_of(&self) -> impl FnMut(u32) -> u32 + use<> {
        let mut known = self.positions.clone().into_iter();
        let mut places = self.places.clone();
        move |id| known.next().unwrap_or_else(|| places.push(id))
    }

    /// The prompt with a continuation, which alone has a loss; for scoring it in one pass.
    pub fn with(&self, continuation: &[u32]) -> Sequence {
        let mut places = self.places.clone();
        let mut sequence = Sequence {
            ids: self.ids.clone(),
            positions: self.positions.clone(),
            labelled: vec![false; self.ids.len()],
        };
        for &id in continuation {
            sequence.ids.push(id);
            sequence.positions.push(places.push(id));
            sequence.labelled.push(true);
        }
        sequence
    }
}

/// Encodes text without ever reading a special token out of it.
fn plain_tokenizer(vocabulary: &Vocabulary) -> Tokenizer {
    let mut tokenizer = vocabulary.tokenizer();
    tokenizer.set_encode_special_tokens(true);
    tokenizer
}

fn encoded(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text, false).expect("a tokenizer with byte pieces encodes any text").get_ids().to_vec()
}

/// The text of ids up to the first that ends them.
fn decoded(tokenizer: &Tokenizer, ids: &[u32], end: u32) -> String {
    let ids = &ids[..ids.iter().position(|&id| id == end).unwrap_or(ids.len())];
    tokenizer.decode(ids, false).expect("the decoders of pup never fail")
}

/// The fact model's language.
#[derive(Debug, Clone)]
pub struct FactCodec {
    tokenizer: Tokenizer,
    bos: u32,
    eos: u32,
    edit: u32,
}

impl Default for FactCodec {
    fn default() -> FactCodec {
        FactCodec::new()
    }
}

impl FactCodec {
    /// The codec of every fact model: the vocabulary is a constant.
    pub fn new() -> FactCodec {
        let vocabulary = facts::vocabulary();
        FactCodec {
            tokenizer: plain_tokenizer(&vocabulary),
            bos: vocabulary.id(BOS),
            eos: vocabulary.id(EOS),
            edit: vocabulary.id(EDIT),
        }
    }

    /// A document (its title in the first line) as a training sequence with a loss on everything.
    pub fn document(&self, document: &str) -> Sequence {
        let mut ids = vec![self.bos];
        ids.extend(encoded(&self.tokenizer, document));
        ids.push(self.eos);
        let positions = (0..ids.len() as u32).collect();
        let mut labelled = vec![true; ids.len()];
        labelled[0] = false;
        Sequence { ids, positions, labelled }
    }

    /// A question without its passage.
    pub fn question_prompt(&self, question: &str) -> Prompt {
        self.text_prompt(&question_text(question))
    }

    /// A question behind its passage.
    pub fn prompt_in_context(&self, passage: &Passage, question: &str) -> Prompt {
        let text = titled_text(&passage.title, &passage.context);
        self.text_prompt(&format!("{text}\n{}", question_text(question)))
    }

    /// Any text, to be continued.
    pub fn text_prompt(&self, text: &str) -> Prompt {
        let mut ids = vec![self.bos];
        ids.extend(encoded(&self.tokenizer, text));
        self.prompt(format!("{BOS}{text}"), ids)
    }

    /// The ids of text alone.
    pub fn formatted(&self, text: &str) -> Vec<u32> {
        encoded(&self.tokenizer, text)
    }

    /// The ids of what follows a prompt, the end token included.
    pub fn completion(&self, text: &str) -> Vec<u32> {
        let mut ids = encoded(&self.tokenizer, text);
        ids.push(self.eos);
        ids
    }

    /// The ids of a question's answer, the end token included.
    pub fn answer(&self, question: &Question) -> Vec<u32> {
        self.completion(&question.answer)
    }

    /// The tokens and texts of the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// A passage with the request for a self-edit.
    pub fn edit_prompt(&self, passage: &Passage) -> Prompt {
        let text = titled_text(&passage.title, &passage.context);
        let mut ids = vec![self.bos];
        ids.extend(encoded(&self.tokenizer, &text));
        ids.push(self.edit);
        self.prompt(format!("{BOS}{text}{EDIT}"), ids)
    }

    /// The token that asks for a self-edit.
    pub fn marker(&self) -> u32 {
        self.edit
    }

    /// The token that ends every text.
    pub fn end(&self) -> u32 {
        self.eos
    }

    /// The text of a continuation: an answer or a self-edit.
    pub fn text(&self, continuation: &[u32]) -> String {
        decoded(&self.tokenizer, continuation, self.eos)
    }

    fn prompt(&self, text: String, ids: Vec<u32>) -> Prompt {
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        Prompt { text, places: Places::Counted(ids.len() as u32), ids, positions, end: self.eos }
    }
}

/// Tokens of a puzzle's edit prompt, beyond which no further demonstration is shown. Pretraining shows at most
/// [`puzzles::PUZZLE_TOKENS_MAX`].
pub const EDIT_PROMPT_TOKENS: usize = 512;

/// The puzzle model's language. Grids must fit a puzzle ([`Grid::fits_puzzle`]).
#[derive(Debug, Clone)]
pub struct PuzzleCodec {
    tokenizer: Tokenizer,
    positions: PositionIds,
    bos: u32,
    eos: u32,
    input: u32,
    output: u32,
    end: u32,
    tools: u32,
    tools_end: u32,
    edit: u32,
    first_row: u32,
    first_colour: u32,
}

impl Default for PuzzleCodec {
    fn default() -> PuzzleCodec {
        PuzzleCodec::new()
    }
}

impl PuzzleCodec {
    /// The codec of every puzzle model: the vocabulary is a constant.
    pub fn new() -> PuzzleCodec {
        let vocabulary = puzzles::vocabulary();
        let tokenizer = plain_tokenizer(&vocabulary);
        PuzzleCodec {
            positions: PositionIds::from_tokenizer(&tokenizer).expect("the world's own tokenizer has them"),
            tokenizer,
            bos: vocabulary.id(BOS),
            eos: vocabulary.id(EOS),
            input: vocabulary.id(IN),
            output: vocabulary.id(OUT),
            end: vocabulary.id(END),
            tools: vocabulary.id(TOOLS),
            tools_end: vocabulary.id(TOOLS_END),
            edit: vocabulary.id(EDIT),
            first_row: vocabulary.id(&row_marker(1)),
            first_colour: vocabulary.id("0"),
        }
    }

    /// A task as training sequences: every pair on its own, without the others in sight, since that is how
    /// the test will be asked. With a loss on the final output alone, only the pair to solve is learned.
    pub fn task(&self, task: &Task, loss_on: LossOn) -> Vec<Sequence> {
        match loss_on {
            LossOn::FinalOutput => vec![self.pair(&task.test, false)],
            LossOn::AllOutputs => self.pairs_of(task, false),
            LossOn::AllTokens => self.pairs_of(task, true),
        }
    }

    /// The tokens and texts of the model.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The token that ends a self-edit.
    pub fn edit_end(&self) -> u32 {
        self.eos
    }

    /// The token that asks for a self-edit.
    pub fn marker(&self) -> u32 {
        self.edit
    }

    /// What the tokens of a grid are so far, as JSON rows that are not closed: `[[1,2],[3`.
    pub fn rows_so_far(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut first_cell = true;
        for &id in ids {
            if id.checked_sub(self.first_row).is_some_and(|row| row < ROWS_MAX) {
                text.push_str(if text.is_empty() { "[[" } else { "],[" });
                first_cell = true;
            } else if let Some(colour) = id.checked_sub(self.first_colour).filter(|&colour| colour <= 9) {
                text.push_str(if first_cell { "" } else { "," });
                text.push_str(&colour.to_string());
                first_cell = false;
            } else {
                text.push_str(&self.text(&[id]));
            }
        }
        text
    }

    /// An input whose output is asked for, without demonstrations.
    pub fn test_prompt(&self, input: &Grid) -> Prompt {
        let mut ids = vec![self.bos, self.input];
        self.put_grid(input, &mut ids);
        ids.push(self.output);
        self.prompt(format!("{BOS}{IN}{}{OUT}", grid_text(input)), ids, self.end)
    }

    /// The same behind the puzzle's demonstrations.
    pub fn prompt_in_context(&self, puzzle: &Puzzle, input: &Grid) -> Prompt {
        let mut ids = vec![self.bos];
        puzzle.train.iter().for_each(|pair| self.put_pair(pair, &mut ids));
        ids.push(self.input);
        self.put_grid(input, &mut ids);
        ids.push(self.output);
        let shown: String = puzzle.train.iter().map(pair_text).collect();
        self.prompt(format!("{BOS}{shown}{IN}{}{OUT}", grid_text(input)), ids, self.end)
    }

    /// The ids of an output, the end token included.
    pub fn answer(&self, output: &Grid) -> Vec<u32> {
        let mut ids = Vec::new();
        self.put_grid(output, &mut ids);
        ids.push(self.end);
        ids
    }

    /// A puzzle's demonstrations behind the names of the tools, with the request for a self-edit. Large
    /// puzzles show as many demonstrations as [`EDIT_PROMPT_TOKENS`] allows, at least one.
    pub fn edit_prompt<'a>(&self, puzzle: &Puzzle, tools: impl IntoIterator<Item = &'a str>) -> Prompt {
        let listed = tools_text(tools);
        let names = listed.trim_start_matches(TOOLS).trim_end_matches(TOOLS_END);
        let mut ids = vec![self.bos, self.tools];
        ids.extend(encoded(&self.tokenizer, names));
        ids.push(self.tools_end);
        let mut text = format!("{BOS}{listed}");
        for (place, pair) in puzzle.train.iter().enumerate() {
            let before = ids.len();
            self.put_pair(pair, &mut ids);
            if place > 0 && ids.len() >= EDIT_PROMPT_TOKENS {
                ids.truncate(before);
                break;
            }
            text.push_str(&pair_text(pair));
        }
        ids.push(self.edit);
        text.push_str(EDIT);
        self.prompt(text, ids, self.eos)
    }

    /// The grid that a continuation of [`PuzzleCodec::test_prompt`] spells: numbered rows of one width up to
    /// the end token (or the end of the ids). `None` when it spells none.
    pub fn grid(&self, continuation: &[u32]) -> Option<Grid> {
        let ids = continuation.strip_suffix(&[self.end]).unwrap_or(continuation);
        let mut rows: Vec<Vec<u8>> = Vec::new();
        for &id in ids {
            if id.checked_sub(self.first_row).is_some_and(|row| row < ROWS_MAX) {
                if (id - self.first_row) as usize != rows.len() {
                    return None;
                }
                rows.push(Vec::new());
            } else {
                let colour = id.checked_sub(self.first_colour).filter(|&colour| colour <= 9)?;
                rows.last_mut()?.push(colour as u8);
            }
        }
        Grid::from_rows(&rows).ok()
    }

    /// The text of a continuation: a self-edit, or what stands where a grid should.
    pub fn text(&self, continuation: &[u32]) -> String {
        decoded(&self.tokenizer, continuation, self.eos)
    }

    fn pairs_of(&self, task: &Task, loss_everywhere: bool) -> Vec<Sequence> {
        task.train.iter().chain([&task.test]).map(|pair| self.pair(pair, loss_everywhere)).collect()
    }

    fn pair(&self, pair: &Example, loss_everywhere: bool) -> Sequence {
        let mut ids = vec![self.bos];
        self.put_pair(pair, &mut ids);
        let output = ids.iter().position(|&id| id == self.output).expect("a pair has an output");
        let labelled = (0..ids.len()).map(|at| at > if loss_everywhere { 0 } else { output }).collect();
        Sequence { positions: Positions::of(self.positions, &ids), ids, labelled }
    }

    fn put_pair(&self, pair: &Example, ids: &mut Vec<u32>) {
        ids.push(self.input);
        self.put_grid(&pair.input, ids);
        ids.push(self.output);
        self.put_grid(&pair.output, ids);
        ids.push(self.end);
    }

    fn put_grid(&self, grid: &Grid, ids: &mut Vec<u32>) {
        debug_assert!(grid.fits_puzzle());
        for (row, cells) in grid.rows().enumerate() {
            ids.push(self.first_row + (row as u32).min(ROWS_MAX - 1));
            ids.extend(cells.iter().map(|&colour| self.first_colour + u32::from(colour)));
        }
    }

    fn prompt(&self, text: String, ids: Vec<u32>, end: u32) -> Prompt {
        let mut places = Positions::new(self.positions);
        let positions = ids.iter().map(|&id| places.push(id)).collect();
        Prompt { text, ids, positions, places: Places::Grids(places), end }
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::FactWorld;
    use super::super::puzzles::PuzzleWorld;
    use super::*;

    #[test]
    fn a_prompt_is_its_text() {
        let world = FactWorld::new(1);
        let (codec, tokenizer) = (FactCodec::new(), world.tokenizer());
        let ids = |text: &str| tokenizer.encode(text, false).expect("any text encodes").get_ids().to_vec();
        let passage = world.held_out_passage(0);
        let asked = codec.question_prompt(&passage.questions[0].question);
        assert_eq!(ids(&asked.text), asked.ids);
        let edit = codec.edit_prompt(&passage);
        assert_eq!(ids(&edit.text), edit.ids);
        let document = codec.document("Mira Volan and Teso Brandale\nThe home of Mira Volan is Oslo.");
        let text = "<bos>Mira Volan and Teso Brandale\nThe home of Mira Volan is Oslo.<eos>";
        assert_eq!(ids(text), document.ids);
        assert_eq!(document.len(), 16);
        assert_eq!(codec.text(&codec.answer(&passage.questions[0])), passage.questions[0].answer);

        let world = PuzzleWorld::new(1);
        let (codec, tokenizer) = (PuzzleCodec::new(), world.tokenizer());
        let ids = |text: &str| tokenizer.encode(text, false).expect("any text encodes").get_ids().to_vec();
        let puzzle = world.held_out_puzzle(0, 1);
        let test = codec.test_prompt(&puzzle.tests[0].input);
        assert_eq!(ids(&test.text), test.ids);
        let edit = codec.edit_prompt(&puzzle, ["grid.flip", "grid.rotate", "weave.knit"]);
        assert_eq!(ids(&edit.text), edit.ids);
    }

    #[test]
    fn text_from_outside_holds_no_special_tokens() {
        let codec = FactCodec::new();
        let document = codec.document("<eos><bos><edit>\n<eos>");
        assert_eq!(document.ids.iter().filter(|&&id| id == codec.eos).count(), 1);
        assert_eq!(codec.text(&document.ids[1..]), "<eos><bos><edit>\n<eos>");
    }

    #[test]
    fn an_answer_is_a_grid_and_nothing_else_is() {
        let codec = PuzzleCodec::new();
        let grid = Grid::from_rows(&[vec![1, 2, 3], vec![4, 5, 6]]).expect("a grid");
        let answer = codec.answer(&grid);
        assert_eq!(codec.grid(&answer), Some(grid.clone()));
        assert_eq!(codec.grid(&answer[..answer.len() - 1]), Some(grid));
        let row = codec.first_row;
        let cell = codec.first_colour;
        for ids in [
            &[][..],
            &[codec.end],
            &[row],
            &[row, codec.end],
            &[cell],
            &[row + 1, cell],
            &[row, cell, row],
            &[row, cell, row + 1],
            &[row, cell, row + 1, cell, cell],
            &[row, cell, codec.eos],
            &[row, codec.end, cell],
            &[row, cell, codec.end, codec.end],
            &[u32::MAX],
            &[0],
        ] {
            assert_eq!(codec.grid(ids), None, "{ids:?}");
        }
    }

    #[test]
    fn losses_are_where_the_edit_says() {
        let codec = PuzzleCodec::new();
        let pair = |colour| Example {
            input: Grid::from_rows(&[vec![colour]]).expect("a grid"),
            output: Grid::from_rows(&[vec![colour, 0]]).expect("a grid"),
        };
        let task = Task { train: vec![pair(1), pair(2)], test: pair(3) };
        // <bos> <in> row cell <out> row cell cell <end>
        let labels = |loss_on| -> Vec<Vec<bool>> {
            codec.task(&task, loss_on).into_iter().map(|sequence| sequence.labelled).collect()
        };
        let output = [false, false, false, false, false, true, true, true, true];
        assert_eq!(labels(LossOn::FinalOutput), [output]);
        assert_eq!(labels(LossOn::AllOutputs), [output; 3]);
        assert_eq!(labels(LossOn::AllTokens), [[false, true, true, true, true, true, true, true, true]; 3]);
        assert_eq!(codec.task(&task, LossOn::FinalOutput)[0], codec.task(&task, LossOn::AllOutputs)[2]);
        let prompt = codec.test_prompt(&task.test.input);
        let scored = prompt.with(&codec.answer(&task.test.output));
        assert_eq!(scored, codec.task(&task, LossOn::FinalOutput)[0]);
    }
}
