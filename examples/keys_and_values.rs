//! What becomes of keys and values when the weights change in the middle of an answer: the three ways, beside a fresh run
//! over the same tokens.
//!
//!     RAYON_NUM_THREADS=1 cargo run --example keys_and_values -- HOME
//!
//! HOME is what `episodes` left: every generation in it is an edit that was kept. Its puzzle is asked eight tests. Each answer
//! changes its weights twice: before its first token, as behind pup's marker; and midway, where the base model has said a
//! quarter of the answer before the edit began, and another quarter until it ended.

#![expect(clippy::print_stdout, reason = "a program that tells what it measured")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use selkie_edit::{Context, Domain};
use selkie_engine::live::Kv;
use selkie_learn::codec::Item;
use selkie_learn::pup::render::Prompt;
use selkie_learn::{
    Adapter, LearnError, Model, Resumption, SamplingSettings, StreamEvent, StreamSettings, Streams, bundled,
    peft,
};
use selkie_store::Store;

/// Tests of a puzzle.
const TESTS: usize = 8;

/// More than any answer to them has.
const TOKENS_MAX: usize = 160;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// One way at one place, over all answers.
#[derive(Default)]
struct Tally {
    answers: usize,
    /// Answers that are the fresh run's from beginning to end.
    identical: usize,
    solved: usize,
    /// Tokens that are the fresh run's at their place, of so many.
    same: usize,
    tokens: usize,
    /// Tokens that were computed to go on.
    computed: usize,
    seconds: Vec<f64>,
}

fn main() -> Outcome<()> {
    let home = std::env::args().nth(1).ok_or("usage: keys_and_values HOME")?;
    let model = Model::open(&bundled::files(Domain::Puzzle))?;
    let world = model.puzzle_world().ok_or("the bundled model has no world")?;
    let store = Store::read_only(Path::new(&home))?;
    let ways = [Kv::Recompute, Kv::Keep, Kv::FromMarker];
    let mut tallies: [[Tally; 3]; 2] = Default::default();
    let generations = store.generations()?;
    for generation in &generations {
        let files = store.adapter_files(&generation.adapter)?;
        let learned = Arc::new(peft::from_files(model.decoder().config(), &files)?);
        let entry = store.entry(generation.entry)?;
        let name = entry.episode().map(|episode| episode.record.context.name.as_str());
        let index =
            name.and_then(|name| name.strip_prefix("pup_")).ok_or("it is of no puzzle of the world")?;
        let puzzle = Context::Puzzle(world.held_out_puzzle(index.parse()?, TESTS));
        for item in model.codec().items(&puzzle)? {
            for (midway, tallies) in tallies.iter_mut().enumerate() {
                for (tally, kv) in tallies.iter_mut().zip(ways) {
                    tally.add(&model, &learned, &item, (midway == 1, kv))?;
                }
            }
        }
    }
    println!("{} edits, {TESTS} tests each", generations.len());
    for (place, tallies) in ["before the first token", "midway"].iter().zip(&tallies) {
        for (way, tally) in ways.iter().zip(tallies) {
            println!("{place:24} {:12} {}", serde_json::to_string(way)?, tally.text());
        }
    }
    Ok(())
}

impl Tally {
    /// One answer that goes on in this way.
    fn add(
        &mut self,
        model: &Model,
        learned: &Arc<Adapter>,
        item: &Item,
        (midway, kv): (bool, Kv),
    ) -> Outcome<()> {
        let (old, said) = match midway {
            true => (None, item.answer.len() / 2),
            false => (model.asks().cloned().map(Arc::new), 0),
        };
        let mut streams = Streams::new(0);
        streams.open(model.decoder(), 0, settings(model, &item.prompt, old))?;
        let begun = run(model, &mut streams, said)?;
        streams.pause(0);
        let fresh = fresh(model, learned, &item.prompt, &begun)?;
        let resumption = Resumption {
            kept: begun.len(),
            inserted: Vec::new(),
            adapter: Some(learned.clone()),
            reused: match kv {
                Kv::Recompute => 0,
                Kv::Keep => usize::MAX,
                Kv::FromMarker => item.prompt.ids.len() + said / 2,
            },
            draws_anew: true,
            banned: Vec::new(),
            constraint: None,
            max_new: TOKENS_MAX,
        };
        let began = Instant::now();
        self.computed += streams.resume(model.decoder(), 0, resumption)?;
        self.seconds.push(began.elapsed().as_secs_f64());
        let made = run(model, &mut streams, TOKENS_MAX)?;
        let whole: Vec<u32> = begun.iter().chain(&made).copied().collect();
        self.answers += 1;
        self.identical += usize::from(made == fresh);
        self.solved += usize::from(model.codec().read_answer(&item.expected, &whole) == item.expected);
        self.same += made.iter().zip(&fresh).filter(|(one, other)| one == other).count();
        self.tokens += made.len().max(fresh.len());
        Ok(())
    }

    fn text(&self) -> String {
        let Tally { answers, identical, solved, same, tokens, computed, .. } = self;
        let mut seconds = self.seconds.clone();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
        format!(
            "answers as a fresh run's {identical}/{answers}  tokens {same}/{tokens}  solved {solved}  computed {:.1} \
             tokens, median {:.2} ms",
            *computed as f64 / (*answers).max(1) as f64,
            median * 1e3
        )
    }
}

fn settings(model: &Model, prompt: &Prompt, adapter: Option<Arc<Adapter>>) -> StreamSettings {
    StreamSettings {
        prompt: prompt.clone(),
        adapter,
        sampling: SamplingSettings::GREEDY,
        stop: model.stops(prompt.end),
        banned: Vec::new(),
        constraint: None,
        max_new: TOKENS_MAX,
    }
}

/// What the adapter says behind these tokens, as if it had been there from the start.
fn fresh(model: &Model, learned: &Arc<Adapter>, prompt: &Prompt, begun: &[u32]) -> Outcome<Vec<u32>> {
    let mut longer = prompt.clone();
    for &id in begun {
        longer.ids.push(id);
        longer.positions.push(longer.places.push(id));
    }
    let mut streams = Streams::new(0);
    streams.open(model.decoder(), 0, settings(model, &longer, Some(learned.clone())))?;
    Ok(run(model, &mut streams, TOKENS_MAX)?)
}

/// The next tokens of the one stream that runs, at most so many.
fn run(model: &Model, streams: &mut Streams, tokens: usize) -> Result<Vec<u32>, LearnError> {
    let mut made = Vec::new();
    while made.len() < tokens && streams.is_running() {
        for (_, event) in streams.advance(model.decoder()) {
            match event {
                StreamEvent::Token(id, _) => made.push(id),
                StreamEvent::Ended(_) => {}
                StreamEvent::Failed(error) => return Err(error),
            }
        }
    }
    Ok(made)
}
