//! What a self-edit does for the bundled models, on contexts that they never saw: the numbers of the README.
//!
//!     cargo run --example measure_pup -- facts 40
//!     cargo run --example measure_pup -- puzzles 40

#![expect(clippy::print_stdout, reason = "a program that tells what it measured")]

use std::error::Error;
use std::path::Path;

use selkie_edit::{Context, Domain};
use selkie_engine::{EditSource, Request, Runtime, StepError, model_files, step};
use selkie_learn::pup::facts::FactWorld;
use selkie_learn::pup::puzzles::PuzzleWorld;

/// The seed of the worlds that the bundled models were pretrained in.
const WORLD: u64 = 1;

/// The passage itself as the one document.
const RAW: &str = r#"{"version": 1, "data": {"documents": [], "include_source": true}}"#;

/// A fixed edit for puzzles: sixteen colour permutations of every task and nothing else.
const COLOURS: &str = r#"{"version": 1, "data": {"tools": [], "permute": {"copies": 16, "colors": true}},
    "training": {"loss_on": "all_outputs", "learning_rate": 0.01, "epochs": 4}}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let world = args.next().unwrap_or_default();
    let count: u64 = args.next().and_then(|count| count.parse().ok()).unwrap_or(20);
    let (domain, contexts, fixed): (_, Vec<Context>, _) = match world.as_str() {
        "facts" => {
            let world = FactWorld::new(WORLD);
            let contexts = (0..count).map(|index| Context::Passage(world.held_out_passage(index)));
            (Domain::Passage, contexts.collect(), ("the passage alone", RAW))
        }
        "puzzles" => {
            let world = PuzzleWorld::new(WORLD);
            let contexts = (0..count).map(|index| Context::Puzzle(world.held_out_puzzle(index, 1)));
            (Domain::Puzzle, contexts.collect(), ("16 colour permutations", COLOURS))
        }
        _ => return Err("usage: measure_pup facts|puzzles COUNT".into()),
    };
    let runtime = Runtime::open(&model_files(None, domain)?, None)?;
    let home = std::env::temp_dir().join(format!("selkie-measure-{}", std::process::id()));
    let own = measure(&runtime, &home, &contexts, EditSource::Model)?;
    let fixed_edit = measure(&runtime, &home, &contexts, EditSource::Given(fixed.1))?;
    std::fs::remove_dir_all(&home)?;
    println!("{count} contexts of the world of {world}, each from the base model, seed 1");
    row("no edit", own.before, own.items);
    row(fixed.0, fixed_edit.after, fixed_edit.items);
    row("the model's own self-edit", own.after, own.items);
    println!("contexts without a valid edit in four tries: {}", own.refused);
    Ok(())
}

/// Items solved over all contexts.
#[derive(Default)]
struct Totals {
    before: usize,
    after: usize,
    items: usize,
    refused: usize,
}

fn measure(
    runtime: &Runtime,
    home: &Path,
    contexts: &[Context],
    edit: EditSource<'_>,
) -> Result<Totals, Box<dyn Error>> {
    let mut totals = Totals::default();
    for context in contexts {
        let request = Request { context, edit, seed: 1, fresh: true, time_ms: 0 };
        let solved = |report: &selkie_edit::Report| report.items.iter().filter(|item| item.solved).count();
        match step(runtime, home, &request, &mut |_| ()) {
            Ok(outcome) => {
                totals.items += outcome.before.items.len();
                totals.before += solved(&outcome.before);
                totals.after += solved(&outcome.after);
            }
            // No edit, no change: it counts as before.
            Err(StepError::NoValidEdit { .. }) => {
                let before = runtime.model.evaluate(None, context)?;
                totals.items += before.items.len();
                totals.before += solved(&before);
                totals.after += solved(&before);
                totals.refused += 1;
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(totals)
}

/// A share with its 95% half-width (normal approximation).
fn row(name: &str, solved: usize, items: usize) {
    let share = solved as f64 / items.max(1) as f64;
    let half = 1.96 * (share * (1.0 - share) / items.max(1) as f64).sqrt();
    println!("{name:28} {solved:4} of {items:4}  {:5.1}% +- {:.1}", share * 100.0, half * 100.0);
}
