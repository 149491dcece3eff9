//! Chooses the puzzles that `selkie rest-em arc` works on by default, and measures the gate before it:
//!
//!     cargo run --example choose_puzzles -- 24 32 > runtime/outer/contexts/puzzles.json
//!
//! As SEAL keeps the tasks that test-time training with the right settings solves, this keeps the puzzles that one of
//! two edits of a person solves: many colour permutations, or the edit for the rule's kind. They are judged by other tests than
//! those that are asked later. The four kinds have equal shares.

#![expect(clippy::print_stdout, reason = "a program that prints a file")]

use std::error::Error;

use selkie_edit::{Context, Domain, Puzzle};
use selkie_engine::{Runtime, model_files, prepare};
use selkie_learn::run::{RunSettings, train_many};
use selkie_learn::{Adapter, PassOptions};
use selkie_outer::given::for_kind;
use selkie_outer::world::{Chosen, TESTS, kind_text};

/// Sixty-four colour permutations and nothing else.
const COLOURS: &str = r#"{"version":1,"data":{"tools":[],"permute":{"copies":64,"colors":true}},"training":{"loss_on":"all_outputs","learning_rate":0.01,"epochs":4}}"#;

/// Tests behind those that are asked later.
const JUDGED: usize = 2;

/// What came of one kind of rule.
#[derive(Default, Clone, Copy)]
struct Tally {
    tried: usize,
    colours: usize,
    by_kind: usize,
    training: usize,
    held_out: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let (training, held_out) = match (args.next(), args.next()) {
        (Some(Ok(training)), Some(Ok(held_out))) => (training / 4, held_out / 4),
        _ => return Err("usage: choose_puzzles TRAINING HELD_OUT".into()),
    };
    let runtime = Runtime::open(&model_files(None, Domain::Puzzle)?, None)?;
    let world = runtime.model.puzzle_world().ok_or("the bundled model has no world")?;
    let mut chosen = Chosen { training: Vec::new(), held_out: Vec::new() };
    let mut tallies = [Tally::default(); 4];
    for index in 0.. {
        let tally = &mut tallies[(index % 4) as usize];
        if tally.training >= training && tally.held_out >= held_out {
            if tallies.iter().all(|one| one.training >= training && one.held_out >= held_out) {
                break;
            }
            continue;
        }
        let mut puzzle = world.held_out_puzzle(index, TESTS + JUDGED);
        puzzle.tests.drain(..TESTS);
        let kind = kind_text(world.held_out_kind(index));
        let solved = solved(&runtime, puzzle, &[COLOURS.to_owned(), for_kind(&kind)])?;
        tally.tried += 1;
        tally.colours += usize::from(solved[0]);
        tally.by_kind += usize::from(solved[1]);
        if solved.contains(&true) {
            // In turns, so that neither list has the easier ones.
            if tally.training < training && (tally.training <= tally.held_out || tally.held_out >= held_out) {
                tally.training += 1;
                chosen.training.push(index);
            } else {
                tally.held_out += 1;
                chosen.held_out.push(index);
            }
        }
        let Tally { tried, colours, by_kind, .. } = *tally;
        eprintln!(
            "{index} {}: {kind}: of {tried} colours solve {colours}, the kind's edit {by_kind}",
            world.held_out_rule(index)
        );
    }
    chosen.training = in_turns(&chosen.training);
    chosen.held_out = in_turns(&chosen.held_out);
    println!("{}", serde_json::to_string(&chosen)?);
    Ok(())
}

/// The same with the kinds taking turns, so that the first few of a list have equal shares too.
fn in_turns(indices: &[u64]) -> Vec<u64> {
    let of = |kind: u64| indices.iter().copied().filter(move |index| index % 4 == kind);
    let most = (0..4).map(|kind| of(kind).count()).max().unwrap_or(0);
    (0..most).flat_map(|place| (0..4).filter_map(move |kind| of(kind).nth(place))).collect()
}

/// Whether each edit solves every test of the puzzle.
fn solved(runtime: &Runtime, puzzle: Puzzle, edits: &[String]) -> Result<Vec<bool>, Box<dyn Error>> {
    let context = Context::Puzzle(puzzle);
    let prepared = edits
        .iter()
        .map(|text| prepare(runtime, &context, runtime.accept(text, Domain::Puzzle)?, 1))
        .collect::<Result<Vec<_>, _>>()?;
    let jobs: Vec<_> =
        prepared.iter().map(|one| (one.set.sequences(), RunSettings::new(&one.plan.training, 1))).collect();
    let trained = train_many(runtime.model.decoder(), &jobs, PassOptions::default(), |_, _| ())?;
    let adapters: Vec<Adapter> =
        trained.into_iter().map(|one| Ok(one?.adapter)).collect::<Result<_, selkie_learn::LearnError>>()?;
    let items = runtime.model.codec().items(&context)?;
    let work: Vec<_> = adapters.iter().map(|adapter| (Some(adapter), items.as_slice())).collect();
    let scores = runtime.model.score_items(&work)?;
    Ok(scores.iter().map(|scores| scores.iter().all(|score| score.greedy)).collect())
}
