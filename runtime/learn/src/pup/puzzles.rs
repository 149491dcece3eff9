//! The puzzle world: grids, rules, and puzzles whose rules no pretraining sequence follows.
//!
//! A sequence is one to four pairs under one rule (in `rules`); mostly the rule is told in front, with
//! its colours, so that the model learns what a rule does before it can learn to guess one. Outputs have the
//! loss, inputs do not. As pretraining goes on, rules are told less often, pairs become more, compositions
//! more frequent and grids larger. A few sequences are edit prompts with a self-edit ([`super::edit_prior`]).

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use selkie_edit::{Example, Grid, Puzzle, PuzzleTest};
use tokenizers::Tokenizer;

use crate::sequence::Sequence;

use super::edit_prior::{draw_edit, draw_tools, fragment_ids, fragments};
use super::format::{BOS, EDIT, END, EOS, IN, OUT, PUZZLE_SPECIALS, TOOLS, TOOLS_END, row_marker};
use super::positions::{PositionIds, Positions, ROWS_MAX};
pub use super::rules::RuleKind;
use super::rules::{Cells, PRIMITIVES, Rule, Rules, Shape};
use super::vocabulary::{TextForm, Vocabulary};

/// No sequence of the puzzle world is longer, except pairs of large grids ([`LARGE_SIDE`]).
pub const PUZZLE_TOKENS_MAX: usize = 256;

/// The largest side of the few large grids late in pretraining.
pub const LARGE_SIDE: usize = 10;

/// The largest side of all other grids.
const SIDE: usize = 6;

/// Demonstrations of a held-out puzzle.
const DEMONSTRATIONS: std::ops::RangeInclusive<usize> = 3..=4;

/// Sides of a held-out puzzle's inputs: in thinner grids rules about edges are all alike.
const HELD_OUT_SIDES: std::ops::RangeInclusive<usize> = 3..=5;

/// The largest side of a held-out puzzle's outputs: exact match over more cells would measure patience.
const HELD_OUT_OUTPUT_SIDE: usize = 8;

/// For each held-out primitive of a kind, the chance that a puzzle of that kind follows a primitive and not a
/// composition, up to a half: no single rule should make up a kind.
const PRIMITIVE_CHANCE: f64 = 0.15;

/// Tries to find a grid that a rule can work on before another rule is drawn.
const TRIES: usize = 12;

#[derive(Clone, Copy)]
enum Stream {
    Pretraining,
    HeldOut,
    Told,
    Untold,
}

/// The generator of puzzle sequences. A pure function of its seed.
#[derive(Debug, Clone)]
pub struct PuzzleWorld {
    seed: u64,
    vocabulary: Vocabulary,
    pieces: Pieces,
    rules: Rules,
}

/// Ids of the pieces that sequences are put together with.
#[derive(Debug, Clone)]
struct Pieces {
    bos: u32,
    eos: u32,
    input: u32,
    output: u32,
    end: u32,
    tools: u32,
    tools_end: u32,
    edit: u32,
    space: u32,
    /// Of row 1; the others follow.
    first_row: u32,
    /// Of colour 0; the others follow.
    first_colour: u32,
    /// The rules' names, by index of the primitive.
    rules: Vec<u32>,
    positions: PositionIds,
}

/// The vocabulary of every puzzle world.
pub fn vocabulary() -> Vocabulary {
    let rows = (1..=ROWS_MAX as usize).map(row_marker);
    let colours = (0..=9).map(|colour: u8| colour.to_string());
    let rules = PRIMITIVES.iter().map(|primitive| format!(" {}", primitive.name));
    let fragments = fragments().into_iter().map(str::to_owned);
    let pieces = rows.chain(colours).chain([" ".to_owned()]).chain(rules).chain(fragments);
    Vocabulary::new(pieces, &PUZZLE_SPECIALS, TextForm::Verbatim)
}

/// What sequences are like at some point of pretraining.
struct Stage {
    side: usize,
    edits: f64,
    pairs_of_rules: f64,
    several: f64,
    told: f64,
    large: f64,
}

impl Stage {
    fn at(progress: f32) -> Stage {
        let ramp = |from: f32, to: f32| f64::from(((progress - from) / (to - from)).clamp(0.0, 1.0));
        Stage {
            side: if progress < 0.15 {
                SIDE - 2
            } else if progress < 0.3 {
                SIDE - 1
            } else {
                SIDE
            },
            edits: 0.02 + 0.04 * ramp(0.0, 0.3),
            pairs_of_rules: 0.05 + 0.40 * ramp(0.1, 0.6),
            several: 0.02 + 0.04 * ramp(0.4, 0.7),
            told: 0.90 - 0.15 * ramp(0.3, 0.7),
            large: 0.04 * ramp(0.5, 0.7),
        }
    }
}

impl PuzzleWorld {
    /// The world of a seed. The rules are the same in every world; the seed chooses grids and orders.
    pub fn new(seed: u64) -> PuzzleWorld {
        let vocabulary = vocabulary();
        let positions =
            PositionIds::from_tokenizer(&vocabulary.tokenizer()).expect("the world's own tokenizer has them");
        let pieces = Pieces {
            bos: vocabulary.id(BOS),
            eos: vocabulary.id(EOS),
            input: vocabulary.id(IN),
            output: vocabulary.id(OUT),
            end: vocabulary.id(END),
            tools: vocabulary.id(TOOLS),
            tools_end: vocabulary.id(TOOLS_END),
            edit: vocabulary.id(EDIT),
            space: vocabulary.id(" "),
            first_row: vocabulary.id(&row_marker(1)),
            first_colour: vocabulary.id("0"),
            rules: PRIMITIVES
                .iter()
                .map(|primitive| vocabulary.id(&format!(" {}", primitive.name)))
                .collect(),
            positions,
        };
        PuzzleWorld { seed, vocabulary, pieces, rules: Rules::new() }
    }

    /// The tokenizer of the puzzle model.
    pub fn tokenizer(&self) -> Tokenizer {
        self.vocabulary.tokenizer()
    }

    /// Number of token ids.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// What positions depend on.
    pub fn position_ids(&self) -> PositionIds {
        self.pieces.positions
    }

    /// Pretraining sequence number `index`, where `progress` (0..=1) is how far pretraining has come.
    pub fn sequence(&self, index: u64, progress: f32) -> Sequence {
        let mut rng = self.rng(Stream::Pretraining, index);
        let stage = Stage::at(progress);
        if rng.random_bool(stage.edits) {
            return self.edit_sequence(&mut rng);
        }
        let several = rng.random_bool(stage.several);
        let large = !several && rng.random_bool(stage.large);
        let side = if large { LARGE_SIDE } else { stage.side };
        let count = if several { rng.random_range(2..=4) } else { 1 };
        let (rule, pairs) = self.draw_pairs(&stage, 2..=side, count, &mut rng);
        let mut page = Page::default();
        page.put(self.pieces.bos, false);
        if rng.random_bool(stage.told) {
            self.tell(&rule, &mut page);
        }
        let told = page.ids.len();
        for pair in &pairs {
            if page.ids.len() == told || page.ids.len() + tokens_of(pair) <= PUZZLE_TOKENS_MAX {
                self.write_pair(pair, true, &mut page);
            }
        }
        page.into_sequence(self.pieces.positions)
    }

    /// A single pair of a trained rule that is told, with a loss on the output: whether the model knows its
    /// rules. Not part of pretraining.
    pub fn told_pair(&self, index: u64) -> Sequence {
        let mut rng = self.rng(Stream::Told, index);
        let stage = Stage { pairs_of_rules: 0.0, ..Stage::at(0.0) };
        let (rule, pairs) = self.draw_pairs(&stage, 2..=SIDE - 1, 1, &mut rng);
        let mut page = Page::default();
        page.put(self.pieces.bos, false);
        self.tell(&rule, &mut page);
        pairs.iter().for_each(|pair| self.write_pair(pair, true, &mut page));
        page.into_sequence(self.pieces.positions)
    }

    /// A single pair of a trained rule that is not told, with a loss on the output: nobody can know it. Not part of
    /// pretraining.
    pub fn untold_pair(&self, index: u64) -> Sequence {
        let mut rng = self.rng(Stream::Untold, index);
        let (_, pairs) = self.draw_pairs(&Stage::at(1.0), 2..=SIDE, 1, &mut rng);
        let mut page = Page::default();
        page.put(self.pieces.bos, false);
        pairs.iter().for_each(|pair| self.write_pair(pair, true, &mut page));
        page.into_sequence(self.pieces.positions)
    }

    /// The kind of rule of a held-out puzzle: the four kinds take turns.
    pub fn held_out_kind(&self, index: u64) -> RuleKind {
        self.rules.held_out[(index % 4) as usize].0
    }

    /// The rule of a held-out puzzle, for people.
    pub fn held_out_rule(&self, index: u64) -> String {
        self.held_out(index, 0).0.name()
    }

    /// A puzzle whose rule (a held-out primitive or composition) no pretraining sequence follows, and whose
    /// demonstrations no rule of pretraining explains, with this many tests.
    pub fn held_out_puzzle(&self, index: u64, tests: usize) -> Puzzle {
        let (_, mut pairs) = self.held_out(index, tests);
        let tests = pairs.split_off(pairs.len() - tests);
        let example = |(input, output): (Cells, Cells)| Example { input: grid(input), output: grid(output) };
        Puzzle {
            id: format!("pup_{index:04}"),
            train: pairs.into_iter().map(example).collect(),
            tests: tests
                .into_iter()
                .map(example)
                .map(|Example { input, output }| PuzzleTest { input, output: Some(output) })
                .collect(),
        }
    }

    /// The rule, and the pairs of the demonstrations and then of the tests. The tests come last from the random
    /// stream, so their number changes nothing else.
    fn held_out(&self, index: u64, tests: usize) -> (Rule, Vec<(Cells, Cells)>) {
        let mut rng = self.rng(Stream::HeldOut, index);
        let (_, ones, twos) = &self.rules.held_out[(index % 4) as usize];
        loop {
            let primitive = (PRIMITIVE_CHANCE * ones.len() as f64).min(0.5);
            let shapes = if rng.random_bool(primitive) { ones } else { twos };
            let shape = *shapes.choose(&mut rng).expect("every kind has held-out compositions");
            let rule = Rule::draw(shape, &mut rng);
            let mut pairs = Vec::new();
            let demonstrations = rng.random_range(DEMONSTRATIONS);
            let drawn =
                draw_held_out_pairs(&rule, demonstrations, TRIES * demonstrations, &mut pairs, &mut rng);
            if drawn && !self.rules.explain(&pairs) {
                let all =
                    draw_held_out_pairs(&rule, demonstrations + tests, usize::MAX, &mut pairs, &mut rng);
                assert!(all, "there is no end to the tries");
                return (rule, pairs);
            }
        }
    }

    fn rng(&self, stream: Stream, index: u64) -> ChaCha8Rng {
        // One generator a stream, one ChaCha stream an index: no two sequences share random numbers.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_mul(4).wrapping_add(stream as u64));
        rng.set_stream(index);
        rng
    }

    /// A trained rule and pairs that follow it.
    fn draw_pairs(
        &self,
        stage: &Stage,
        sides: std::ops::RangeInclusive<usize>,
        count: usize,
        rng: &mut ChaCha8Rng,
    ) -> (Rule, Vec<(Cells, Cells)>) {
        loop {
            let shapes = if rng.random_bool(stage.pairs_of_rules) {
                &self.rules.trained_pairs
            } else {
                &self.rules.trained_primitives
            };
            let shape: Shape = *shapes.choose(rng).expect("there are trained rules");
            let rule = Rule::draw(shape, rng);
            let mut pairs = Vec::with_capacity(count);
            for attempt in 0..TRIES * count {
                let input = draw_grid(&rule, sides.clone(), rng);
                // Late tries take what the rule leaves unchanged: that, too, is what the rule does.
                let Some(output) = rule.apply(&input) else { continue };
                if output != input || attempt >= TRIES * count / 2 {
                    pairs.push((input, output));
                }
                if pairs.len() == count {
                    return (rule, pairs);
                }
            }
        }
    }

    fn edit_sequence(&self, rng: &mut ChaCha8Rng) -> Sequence {
        let tools = draw_tools(rng);
        let count = rng.random_range(3..=4);
        let stage = Stage { pairs_of_rules: 0.5, ..Stage::at(1.0) };
        let (rule, pairs) = self.draw_pairs(&stage, HELD_OUT_SIDES, count, rng);
        let edit = draw_edit(self.rules.trained_kinds[&rule.shape], &tools, rng);
        let mut page = Page::default();
        page.put(self.pieces.bos, false);
        page.put(self.pieces.tools, false);
        for (place, tool) in tools.iter().enumerate() {
            if place > 0 {
                page.put(self.pieces.space, false);
            }
            page.put(self.vocabulary.id(tool), false);
        }
        page.put(self.pieces.tools_end, false);
        for (place, pair) in pairs.iter().enumerate() {
            if place == 0 || page.ids.len() + tokens_of(pair) + EDIT_TOKENS <= EDIT_SEQUENCE_TOKENS_MAX {
                // What the first pair shows, the others follow: the loss there is what teaches to look back.
                self.write_pair(pair, place > 0, &mut page);
            }
        }
        page.put(self.pieces.edit, false);
        fragment_ids(&self.vocabulary, &edit).for_each(|id| page.put(id, true));
        page.put(self.pieces.eos, true);
        page.into_sequence(self.pieces.positions)
    }

    fn tell(&self, rule: &Rule, page: &mut Page) {
        let shapes = match rule.shape {
            Shape::One(only) => [Some(only), None],
            Shape::Two(first, second) => [Some(first), Some(second)],
        };
        for ((primitive, colours), at) in rule.steps().zip(shapes.into_iter().flatten()) {
            page.put(self.pieces.rules[at], false);
            for &colour in &colours[..primitive.colours] {
                page.put(self.pieces.first_colour + u32::from(colour), false);
            }
        }
    }

    fn write_pair(&self, (input, output): &(Cells, Cells), loss: bool, page: &mut Page) {
        page.put(self.pieces.input, false);
        self.write_grid(input, false, page);
        page.put(self.pieces.output, false);
        self.write_grid(output, loss, page);
        page.put(self.pieces.end, loss);
    }

    fn write_grid(&self, cells: &Cells, loss: bool, page: &mut Page) {
        for (row, colours) in cells.colours.chunks(cells.width).enumerate() {
            page.put(self.pieces.first_row + row as u32, loss);
            for &colour in colours {
                page.put(self.pieces.first_colour + u32::from(colour), loss);
            }
        }
    }
}

/// Adds different pairs of a rule until there are `count`: outputs that differ from their inputs, have more than
/// one colour, and are not too large. Whether that came about within `tries`.
fn draw_held_out_pairs(
    rule: &Rule,
    count: usize,
    tries: usize,
    pairs: &mut Vec<(Cells, Cells)>,
    rng: &mut ChaCha8Rng,
) -> bool {
    for _ in 0..tries {
        if pairs.len() == count {
            break;
        }
        let input = draw_grid(rule, HELD_OUT_SIDES, rng);
        let Some(output) = rule.apply(&input) else { continue };
        let is_new = pairs.iter().all(|(other, _)| *other != input);
        let is_plain = output.colours.iter().all(|&colour| colour == output.colours[0]);
        let fits = output.height.max(output.width) <= HELD_OUT_OUTPUT_SIDE;
        if is_new && output != input && !is_plain && fits {
            pairs.push((input, output));
        }
    }
    pairs.len() == count
}

/// No edit prompt with its edit is longer, unless its first pair is.
const EDIT_SEQUENCE_TOKENS_MAX: usize = 320;

/// Tokens that an edit of the prior takes at most, `<edit>` and `<eos>` included.
const EDIT_TOKENS: usize = 22;

/// Tokens of a pair.
fn tokens_of((input, output): &(Cells, Cells)) -> usize {
    3 + input.height * (input.width + 1) + output.height * (output.width + 1)
}

/// A random grid for a rule: a few colours or many, zeros or none, the rule's colours among them.
fn draw_grid(rule: &Rule, sides: std::ops::RangeInclusive<usize>, rng: &mut ChaCha8Rng) -> Cells {
    let mut palette: Vec<u8> = (1..=9).collect();
    palette.shuffle(rng);
    palette.truncate(rng.random_range(2..=9));
    for colour in rule.palette() {
        if !palette.contains(&colour) {
            palette.push(colour);
        }
    }
    let zeros = [0, 64, 128][rng.random_range(0..3)];
    let (height, width) = (rng.random_range(sides.clone()), rng.random_range(sides));
    // One random number a cell: its low byte decides about zero, the rest chooses the colour.
    Cells::build(height, width, |_, _| {
        let word: u32 = rng.random();
        if word & 255 < zeros { 0 } else { palette[(word >> 8) as usize % palette.len()] }
    })
}

fn grid(cells: Cells) -> Grid {
    Grid::new(cells.height as u8, cells.width as u8, cells.colours).expect("rules make grids of colours")
}

/// A sequence being written.
#[derive(Default)]
struct Page {
    ids: Vec<u32>,
    labelled: Vec<bool>,
}

impl Page {
    fn put(&mut self, id: u32, loss: bool) {
        self.ids.push(id);
        self.labelled.push(loss);
    }

    fn into_sequence(self, ids: PositionIds) -> Sequence {
        let positions = Positions::of(ids, &self.ids);
        Sequence { ids: self.ids, positions, labelled: self.labelled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs of a sequence, read back from its ids, and where they begin.
    fn pairs(world: &PuzzleWorld, sequence: &Sequence) -> Vec<(Cells, Cells)> {
        let pieces = &world.pieces;
        let grid = |ids: &[u32]| {
            let rows: Vec<&[u32]> = ids
                .split(|id| (pieces.first_row..pieces.first_row + ROWS_MAX).contains(id))
                .skip(1)
                .collect();
            Cells::build(rows.len(), rows[0].len(), |r, c| (rows[r][c] - pieces.first_colour) as u8)
        };
        sequence
            .ids
            .split(|&id| id == pieces.input)
            .skip(1)
            .map(|pair| {
                let output = pair.iter().position(|&id| id == pieces.output).expect("a pair has an output");
                let end = pair.iter().position(|&id| id == pieces.end).expect("a pair ends");
                (grid(&pair[..output]), grid(&pair[output + 1..end]))
            })
            .collect()
    }

    #[test]
    fn every_sequence_follows_a_trained_rule_and_only_outputs_have_a_loss() {
        let world = PuzzleWorld::new(3);
        let (mut told, mut edits) = (0, 0);
        for index in 0..1500 {
            let progress = index as f32 / 1500.0;
            let sequence = world.sequence(index, progress);
            assert_eq!(sequence, world.sequence(index, progress), "the same index gives the same sequence");
            assert_eq!(sequence.positions, Positions::of(world.position_ids(), &sequence.ids));
            assert!(
                sequence.positions.iter().all(|&position| position < super::super::positions::POSITIONS_MAX)
            );
            let is_edit = sequence.ids.contains(&world.pieces.edit);
            edits += usize::from(is_edit);
            let (mut output, mut edit, mut ended) = (false, false, 0);
            for (&id, &labelled) in sequence.ids.iter().zip(&sequence.labelled) {
                let foretold = output && (!is_edit || ended > 0);
                assert_eq!(labelled, edit || foretold, "sequence {index}");
                output = (output || id == world.pieces.output) && id != world.pieces.end;
                ended += usize::from(id == world.pieces.end);
                edit |= id == world.pieces.edit;
            }
            let pairs = pairs(&world, &sequence);
            assert!(world.rules.explain(&pairs), "sequence {index}");
            if !is_edit && sequence.ids[1] != world.pieces.input {
                told += 1;
                assert_eq!(*sequence.ids.last().expect("not empty"), world.pieces.end);
            }
        }
        assert!((900..1400).contains(&told) && edits > 40, "{told} {edits}");
    }

    #[test]
    fn no_trained_rule_explains_a_held_out_puzzle() {
        let world = PuzzleWorld::new(3);
        for index in 0..200 {
            let puzzle = world.held_out_puzzle(index, 2);
            assert_eq!(puzzle.train, world.held_out_puzzle(index, 1).train);
            assert_eq!(puzzle.tests[..1], world.held_out_puzzle(index, 1).tests);
            assert!((3..=4).contains(&puzzle.train.len()) && puzzle.tests.len() == 2);
            let cells = |grid: &Grid| {
                let (height, width) = (usize::from(grid.height()), usize::from(grid.width()));
                Cells { height, width, colours: grid.cells().to_vec() }
            };
            let pairs: Vec<_> =
                puzzle.train.iter().map(|pair| (cells(&pair.input), cells(&pair.output))).collect();
            assert!(!world.rules.explain(&pairs), "{}", world.held_out_rule(index));
        }
    }

    #[test]
    fn text_and_ids_are_one() {
        let world = PuzzleWorld::new(5);
        let tokenizer = world.tokenizer();
        for index in 0..600 {
            let sequence = world.sequence(index, 0.9);
            let text = tokenizer.decode(&sequence.ids, false).expect("ids decode");
            let encoding = tokenizer.encode(text.as_str(), false).expect("any text encodes");
            assert_eq!(encoding.get_ids(), sequence.ids, "{text}");
        }
    }

    #[test]
    fn every_edit_is_json_with_allowed_values_and_listed_tools() {
        let world = PuzzleWorld::new(5);
        let tokenizer = world.tokenizer();
        let mut seen = 0;
        for index in 0..4000 {
            let sequence = world.sequence(index, 0.5);
            let Some(at) = sequence.ids.iter().position(|&id| id == world.pieces.edit) else { continue };
            seen += 1;
            assert!(sequence.len() - at <= EDIT_TOKENS);
            let text = tokenizer.decode(&sequence.ids[at + 1..], true).expect("ids decode");
            let edit: serde_json::Value = serde_json::from_str(&text).expect(&text);
            let end =
                sequence.ids.iter().position(|&id| id == world.pieces.tools_end).expect("a list of tools");
            let listed = tokenizer.decode(&sequence.ids[2..end], true).expect("ids decode");
            let listed: Vec<&str> = listed.split(' ').collect();
            let data = &edit["data"];
            assert!([1, 4, 16, 64].contains(&data["permute"]["copies"].as_u64().expect("a number")));
            assert!(data["permute"]["colors"].is_boolean());
            for entry in data["tools"].as_array().expect("a list") {
                let calls = entry["chain"].as_array().cloned().unwrap_or_else(|| vec![entry.clone()]);
                for call in calls {
                    assert!(listed.contains(&call["tool"].as_str().expect("a name")), "{text}");
                    assert!(call["params"].is_object());
                }
            }
            let training = &edit["training"];
            assert!(
                ["all_outputs", "final_output", "all_tokens"]
                    .contains(&training["loss_on"].as_str().expect("a name"))
            );
            assert!(
                [0.0003, 0.001, 0.003, 0.01, 0.02]
                    .contains(&training["learning_rate"].as_f64().expect("a number"))
            );
            assert!([1, 2, 4].contains(&training["epochs"].as_u64().expect("a number")));
        }
        assert!(seen > 100);
    }

    #[test]
    fn positions_count_grids_rows_and_columns() {
        let world = PuzzleWorld::new(1);
        let tokenizer = world.tokenizer();
        let text = "<bos> swap12<in>\n01 12\n02 34<out>\n01 21<end><edit>{\"chain\":[]}<eos>";
        let encoding = tokenizer.encode(text, false).expect("any text encodes");
        assert_eq!(
            Positions::of(world.position_ids(), encoding.get_ids()),
            [0, 1, 2, 3, 160, 173, 174, 175, 186, 187, 188, 320, 333, 334, 335, 336, 480, 481, 482, 483]
        );
    }
}
