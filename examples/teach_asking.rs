//! Teaches the bundled model of puzzles when to ask for a self-edit: the adapter `runtime/learn/pup/puzzles/asks`.
//!
//!     RAYON_NUM_THREADS=1 cargo run --example teach_asking -- FOLDER
//!
//! Half of the pairs that it is shown are of rules that nobody told: it cannot know their outputs. There the marker of a
//! self-edit is the answer, and nothing else has a loss. The rules of the other half are told, and their outputs are to be
//! said as before. One untold pair in [`ANSWERED`] is answered all the same, so that the marker is likely and never
//! certain: an edit that teaches a rule then unlearns the marker in a few steps.

#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::error::Error;
use std::path::Path;

use selkie_edit::{Domain, Projection, Schedule};
use selkie_learn::calls::Marker;
use selkie_learn::optim::ADAPTER_ADAMW;
use selkie_learn::peft::{self, Existing};
use selkie_learn::{LoraConfig, Model, PassOptions, RunSettings, Sequence, bundled, train_many};

/// Pairs of each half.
const SHOWN: u64 = 2000;

/// Told pairs before this one are for measuring.
const TOLD_FROM: u64 = 1000;

/// One untold pair in so many is answered.
const ANSWERED: u64 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: teach_asking FOLDER")?;
    let model = Model::open(&bundled::files(Domain::Puzzle))?;
    let world = model.puzzle_world().ok_or("the bundled model has no world")?;
    let Marker::Token(marker) = model.codec().marker() else { return Err("the model has no marker".into()) };
    let shown = (0..SHOWN).flat_map(|index| {
        let untold = asked(world.untold_pair(index), (index % ANSWERED > 0).then_some(marker));
        [untold, world.told_pair(TOLD_FROM + index)]
    });
    let set: Vec<Sequence> = shown.collect();
    let settings = settings();
    let jobs = [(set.as_slice(), settings.clone())];
    let mut trained = train_many(model.decoder(), &jobs, PassOptions::default(), |_, stats| {
        if (stats.step + 1).is_multiple_of(25) {
            println!("step {:>3} of {}  loss {:.3}", stats.step + 1, stats.steps, stats.loss);
        }
    })?;
    let adapter = trained.swap_remove(0)?.adapter;
    let files = peft::to_files_with(&adapter, &model.profile().name, &settings.lora)?;
    peft::write(Path::new(&folder), &files, Existing::Replace)?;
    println!("{folder}: an adapter of {} numbers", adapter.parameters());
    Ok(())
}

/// A pair up to the first token of its output, which alone has a loss: the one that is given, or its own.
fn asked(mut pair: Sequence, answer: Option<u32>) -> Sequence {
    let first = pair.labelled.iter().position(|&labelled| labelled).unwrap_or(0);
    pair.ids.truncate(first + 1);
    pair.positions.truncate(first + 1);
    pair.labelled.truncate(first + 1);
    if let Some(answer) = answer {
        pair.ids[first] = answer;
    }
    pair
}

/// Few numbers and one pass: a habit, and no knowledge.
fn settings() -> RunSettings {
    RunSettings {
        lora: LoraConfig {
            rank: 4,
            alpha: 4.0,
            dropout: 0.0,
            targets: Projection::ALL.to_vec(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            use_rslora: false,
        },
        learning_rate: 3e-3,
        schedule: Schedule::Cosine,
        warmup_steps: 0,
        epochs: 1,
        batch_size: 32,
        adamw: ADAPTER_ADAMW,
        max_grad_norm: 1.0,
        seed: 1,
    }
}
