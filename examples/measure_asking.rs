//! What the habit of asking for a self-edit does to the bundled model of puzzles: when it asks, and what it still answers.
//!
//!     cargo run --example measure_asking -- 24
//!
//! Edits are the model's own (its policy writes them) and a person's. Each is trained on the base model and again on top of
//! the habit, as a session does. A second argument names the PEFT folder of another habit than the bundled one.

#![expect(clippy::print_stdout, reason = "a program that tells what it measured")]

use std::error::Error;
use std::path::Path;

use selkie_edit::{Context, Domain};
use selkie_engine::{Prepared, Runtime, model_files, prepare};
use selkie_learn::calls::Marker;
use selkie_learn::codec::Item;
use selkie_learn::{
    Adapter, Decoder, LearnError, PassOptions, RunSettings, Sequence, peft, score, train_many,
};
use selkie_outer::given::for_kind;
use selkie_outer::world;

/// Told pairs that are asked.
const TOLD: u64 = 400;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Items: how many there were, how many were answered right, and how many with the marker.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    items: usize,
    solved: usize,
    asked: usize,
}

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let count: usize = args.next().map_or(Ok(24), |count| count.parse())?;
    let runtime = Runtime::open(&model_files(None, Domain::Puzzle)?, None)?;
    let own = runtime.model.asks().ok_or("the bundled model has no habit")?;
    let given = args.next().map(|folder| peft::read(Path::new(&folder), runtime.model.decoder().config()));
    let given = given.transpose()?;
    let asks = given.as_ref().unwrap_or(own);
    println!("{:46} {:>14} {:>14}", "", "solved", "marker");
    for (name, items) in pairs(&runtime)? {
        row(&format!("{name}, base"), measure(&runtime, None, &items)?);
        row(&format!("{name}, with the habit"), measure(&runtime, Some(asks), &items)?);
    }
    let subjects = contexts(&runtime, count)?;
    after_edits(&runtime, asks, &subjects)
}

fn row(name: &str, tally: Tally) {
    let Tally { items, solved, asked } = tally;
    println!("{name:46} {:>14} {:>14}", format!("{solved}/{items}"), format!("{asked}/{items}"));
}

/// Greedy decoding, by one pass each: whether it says the answer, and whether it begins with the marker.
fn measure(runtime: &Runtime, adapter: Option<&Adapter>, items: &[Sequence]) -> Outcome<Tally> {
    let Marker::Token(marker) = runtime.model.codec().marker() else { return Err("it has no marker".into()) };
    let begun: Vec<Sequence> = items.iter().map(|item| begun(item, marker)).collect();
    let greedy = |items: &[Sequence]| -> Result<usize, LearnError> {
        Ok(score(runtime.model.decoder(), adapter, items)?.iter().filter(|score| score.greedy).count())
    };
    Ok(Tally { items: items.len(), solved: greedy(items)?, asked: greedy(&begun)? })
}

/// The prompt of an item with the marker as its answer.
fn begun(item: &Sequence, marker: u32) -> Sequence {
    let at = item.labelled.iter().position(|&labelled| labelled).unwrap_or(item.len() - 1);
    let mut begun = item.clone();
    begun.ids.truncate(at + 1);
    begun.positions.truncate(at + 1);
    begun.labelled.truncate(at + 1);
    begun.ids[at] = marker;
    begun
}

fn sequences(items: &[Item]) -> Vec<Sequence> {
    items.iter().map(|item| item.prompt.with(&item.answer)).collect()
}

fn pairs(runtime: &Runtime) -> Outcome<Vec<(&'static str, Vec<Sequence>)>> {
    let world = runtime.model.puzzle_world().ok_or("the bundled model has no world")?;
    let mut tests = Vec::new();
    for index in 0..100 {
        let puzzle = Context::Puzzle(world.held_out_puzzle(index, world::TESTS));
        tests.extend(sequences(&runtime.model.codec().items(&puzzle)?));
    }
    Ok(vec![
        ("rule told", (0..TOLD).map(|index| world.told_pair(index)).collect()),
        ("tests of 100 held-out puzzles", tests),
    ])
}

/// The contexts with an edit of a person for each.
fn contexts(runtime: &Runtime, count: usize) -> Outcome<Vec<(Context, String)>> {
    let world = runtime.model.puzzle_world().ok_or("the bundled model has no world")?;
    let one = |index| {
        let kind = world::kind_text(world.held_out_kind(index));
        (Context::Puzzle(world.held_out_puzzle(index, world::TESTS)), for_kind(&kind))
    };
    Ok(world::chosen().held_out.into_iter().take(count).map(one).collect())
}

fn after_edits(runtime: &Runtime, asks: &Adapter, contexts: &[(Context, String)]) -> Outcome<()> {
    let habit = runtime.model.decoder().merged(asks)?;
    let mut all = [[Tally::default(); 3]; 2];
    for (place, (context, by_hand)) in contexts.iter().enumerate() {
        let items = sequences(&runtime.model.codec().items(context)?);
        let others = &contexts[(place + 1) % contexts.len()].0;
        let others = sequences(&runtime.model.codec().items(others)?);
        let edits = [own(runtime, context, place as u64)?, accepted(runtime, context, by_hand)?];
        for (tallies, edit) in all.iter_mut().zip(edits) {
            let Some(edit) = edit else { continue };
            let plain = trained(runtime.model.decoder(), &edit)?;
            let upon = asks.stack(&trained(&habit, &edit)?)?;
            let measured = [(&plain, &items), (&upon, &items), (&upon, &others)];
            for (tally, (adapter, items)) in tallies.iter_mut().zip(measured) {
                tally.add(measure(runtime, Some(adapter), items)?);
            }
        }
        eprintln!("after {} contexts, the last {}: {all:?}", place + 1, context.name());
    }
    for (name, tallies) in ["own edit", "a person's edit"].iter().zip(all) {
        let what = ["on the base", "on the habit", "on the habit, another context"];
        what.iter().zip(tallies).for_each(|(what, tally)| row(&format!("{name} {what}"), tally));
    }
    Ok(())
}

fn trained(decoder: &Decoder, edit: &Prepared) -> Outcome<Adapter> {
    let job = [(edit.set.sequences(), RunSettings::new(&edit.plan.training, 1))];
    let mut trained = train_many(decoder, &job, PassOptions::default(), |_, _| ())?;
    Ok(trained.swap_remove(0)?.adapter)
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.items += other.items;
        self.solved += other.solved;
        self.asked += other.asked;
    }
}

/// The model's own edit; none where it was refused.
fn own(runtime: &Runtime, context: &Context, seed: u64) -> Outcome<Option<Prepared>> {
    let written =
        runtime.model.write_edit(runtime.model.policy(), context, runtime.host.catalogue(), seed)?;
    accepted(runtime, context, &written.text)
}

fn accepted(runtime: &Runtime, context: &Context, text: &str) -> Outcome<Option<Prepared>> {
    let Ok(edit) = runtime.accept(text, context.domain()) else { return Ok(None) };
    Ok(prepare(runtime, context, edit, 1).ok())
}
