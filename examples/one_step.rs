//! The runtime inside another program: one self-edit through all stages, with everything that happens told.
//!
//! `cargo run --example one_step` (from the repository's root). An argument names a model folder; without it the
//! bundled pup is used, which writes its own self-edit.

#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use selkie_edit::Context;
use selkie_engine::{EditSource, Event, Request, Runtime, model_files, step};
use selkie_store::Store;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What to adapt to: a passage with questions that are asked without it.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("passages/volgan_and_branbeck.json");
    let context = Context::from_json(&std::fs::read_to_string(file)?, "volgan_and_branbeck")?;
    println!("{}", context.name());

    // A model, the built-in tools and the rules for self-edits. Nothing in it changes from step to step.
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let runtime = Runtime::open(&model_files(folder.as_deref(), context.domain())?, None)?;
    println!("model {} with {} tools", runtime.model.profile().name, runtime.host.catalogue().iter().count());

    // The state: a ledger and the adapters that were kept. A program that goes on keeps its home.
    let home = tempfile::tempdir()?;
    let time_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let request = Request { context: &context, edit: EditSource::Model, seed: 1, fresh: false, time_ms };

    let outcome = step(&runtime, home.path(), &request, &mut |event| match event {
        Event::Written { edit, .. } => println!("\nthe model writes:\n{}", edit.text.trim_end()),
        Event::Refused { problems, .. } => println!("refused, another try: {problems}"),
        Event::Accepted { dialect } => println!("\naccepted as {dialect:?}"),
        Event::Tools { runs, items } => println!("{} tools ran; {items} texts or tasks to learn", runs.len()),
        Event::Dataset { examples, tokens, steps, .. } => {
            println!("{examples} sequences of {tokens} tokens in all, {steps} steps")
        }
        Event::Step(stats) if (stats.step + 1).is_multiple_of(8) => {
            println!("  step {:>3}  loss {:.3}", stats.step + 1, stats.loss)
        }
        Event::Step(_) | Event::Measuring => {}
        Event::Before(report) => println!("before: {:.2} of the questions are answered", report.score()),
        Event::After(report) => println!("after:  {:.2}", report.score()),
    })?;

    for (before, after) in outcome.before.items.iter().zip(&outcome.after.items) {
        println!("{} {:?} -> {:?}", after.item, before.prediction, after.prediction);
    }

    // What was kept is a generation: a PEFT folder that is now active for this base model.
    println!("\n{:?}: {}", outcome.decision.verdict, outcome.decision.reason);
    if let Some(generation) = outcome.generation {
        let store = Store::read_only(home.path())?;
        let kept = store.generation(generation)?;
        println!("{} is adapter {}", kept.id, kept.adapter);
        for (name, bytes) in store.adapter_files(&kept.adapter)? {
            println!("  {name}: {} bytes", bytes.len());
        }
    }
    Ok(())
}
