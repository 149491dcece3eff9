//! Episodes: the bundled model is asked a test of a puzzle that it cannot do, may edit itself in the middle of the answer,
//! and is asked the next test of the same puzzle.
//!
//!     RAYON_NUM_THREADS=1 cargo run --example episodes -- model 200..250 1 0 750 FOLDER
//!
//! The first argument is what asks for the edit: the model's own marker (`model`), `failed_grader` or `low_confidence`; the
//! last two from the base model without its habit of asking. The second names puzzles of the held-out stream: a range, or
//! `chosen` for those of the outer loop. The third is how many tests are asked at which it may edit itself, until an edit is
//! kept; then comes the next test. The fourth is how many more demonstrations there are than a puzzle's three or four, the
//! fifth how many optimiser steps an edit may have.
//!
//! FOLDER gets the counts, the trace of the first whole success, and the home that `keys_and_values` reads. Answers of the
//! tests are never the runtime's to see: edits learn from the demonstrations but the last, which is the gate's.

#![expect(clippy::print_stdout, reason = "a program that tells what it measured")]

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selkie_edit::{Context, Domain, Example, Puzzle};
use selkie_engine::live::{
    AdapterChoice, Budget, GenerateRequest, Happened, Live, LiveOptions, Permission, Prompt, Scope,
    SelfEditTerms, Trace, TraceEvent, Trigger, Triggers,
};
use selkie_engine::{Runtime, model_files};
use selkie_learn::SamplingSettings;
use selkie_learn::pup::puzzles::PuzzleWorld;
use selkie_outer::world;
use serde_json::{Value, json};

/// The mean log-probability (nats) of so many tokens in a row that is too low.
const LOW: (usize, f32) = (6, -0.2);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [trigger, puzzles, tries, more, steps, folder] = args.as_slice() else {
        return Err("usage: episodes TRIGGER FIRST..END|chosen TRIES MORE STEPS FOLDER".into());
    };
    let (tries, more): (usize, usize) = (tries.parse()?, more.parse()?);
    let budget = Budget { edits: 1, steps: steps.parse()?, seconds: 3600.0, ..Budget::default() };
    let trigger: Trigger = serde_json::from_value(json!(trigger))?;
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    let runtime = Arc::new(Runtime::open(&model_files(None, Domain::Puzzle)?, None)?);
    let world = runtime.model.puzzle_world().ok_or("the bundled model has no world")?;
    let live = Live::start(runtime, options(folder.join("home"), budget))?;
    let mut desk = Desk { trace: live.trace(), live, trigger, tries };
    let mut all = Vec::new();
    for index in indices(puzzles)? {
        let episode = desk.episode(index, family(&world, index, tries + 1, more))?;
        println!("{}", episode.line(index));
        let has_trace = all.iter().any(Episode::is_success);
        if episode.is_success() && !has_trace {
            let lines: Vec<String> = episode.events.iter().map(TraceEvent::to_line).collect();
            fs::write(folder.join("session.jsonl"), lines.join("\n") + "\n")?;
        }
        all.push(episode);
        fs::write(folder.join("episodes.txt"), table(trigger, &all))?;
    }
    println!("\n{}", table(trigger, &all));
    desk.live.shutdown(true);
    Ok(())
}

/// A puzzle with so many tests, and with so many more demonstrations than it comes with.
fn family(world: &PuzzleWorld, index: u64, tests: usize, more: usize) -> Puzzle {
    let mut puzzle = world.held_out_puzzle(index, tests + more);
    let shown = puzzle.tests.split_off(tests).into_iter();
    let shown = shown.filter_map(|test| Some(Example { input: test.input, output: test.output? }));
    puzzle.train.extend(shown);
    puzzle
}

fn indices(puzzles: &str) -> Outcome<Vec<u64>> {
    if puzzles == "chosen" {
        return Ok(world::chosen().held_out);
    }
    let (first, end) = puzzles.split_once("..").ok_or("expected puzzles such as 200..250, or `chosen`")?;
    Ok((first.parse()?..end.parse()?).collect())
}

fn options(home: PathBuf, budget: Budget) -> LiveOptions {
    LiveOptions {
        home,
        streams: 1,
        waiting: 1,
        queue: 1,
        max_tokens: 1000,
        budget,
        permission: Permission::Allow,
        session_time_to_live: Duration::from_secs(86_400),
        approval_timeout: Duration::ZERO,
        training_threads: 1,
        clock: now_ms,
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

struct Desk {
    live: Live,
    trace: Trace,
    trigger: Trigger,
    /// Tests that may be edited at before the next one.
    tries: usize,
}

/// What came of one request.
struct Answered {
    solved: bool,
    text: String,
    events: Vec<TraceEvent>,
}

impl Answered {
    fn is_kept(&self) -> bool {
        self.events.iter().any(|event| matches!(event.what, Happened::Kept { .. }))
    }
}

impl Desk {
    /// Asks a test, greedily; the seed is that of the edit.
    fn ask(
        &mut self,
        puzzle: &Puzzle,
        place: usize,
        (adapter, session, seed): (AdapterChoice, Option<&str>, u64),
        self_edit: SelfEditTerms,
    ) -> Outcome<Answered> {
        let reply = self.live.generate(GenerateRequest {
            prompt: Prompt::Item(Context::Puzzle(puzzle.clone()), place),
            adapter,
            session: session.map(str::to_owned),
            sampling: SamplingSettings { seed, ..SamplingSettings::GREEDY },
            max_tokens: None,
            stop: Vec::new(),
            grammar: None,
            self_edit,
        })?;
        let id = reply.request().to_owned();
        let end = reply.end_blocking()?;
        let mut events = Vec::new();
        while let Some(event) = self.trace.next_blocking() {
            let is_last = event.request.as_ref() == Some(&id) && matches!(event.what, Happened::Ended { .. });
            events.push(event);
            if is_last {
                break;
            }
        }
        let said: Option<Value> = serde_json::from_str(&end.text).ok();
        let solved = said.is_some() && said == puzzle.tests.get(place).map(|test| json!(test.output));
        Ok(Answered { solved, text: end.text, events })
    }

    /// What a request that may edit itself says, and from which adapter it begins.
    fn terms(&self) -> (AdapterChoice, SelfEditTerms) {
        let triggers = Triggers {
            failed_grader: self.trigger == Trigger::FailedGrader,
            low_confidence: (self.trigger == Trigger::LowConfidence).then_some(LOW),
            document: false,
        };
        let adapter = match self.trigger {
            Trigger::Model => AdapterChoice::Active,
            _ => AdapterChoice::Base,
        };
        let (permission, scope) = (Permission::Allow, Scope::Session);
        (adapter, SelfEditTerms { permission, scope, triggers, ..SelfEditTerms::default() })
    }

    fn episode(&mut self, index: u64, puzzle: Puzzle) -> Outcome<Episode> {
        let without = (AdapterChoice::Base, None, index);
        let without = self.ask(&puzzle, self.tries, without, SelfEditTerms::default())?;
        let (adapter, terms) = self.terms();
        let session = Some(puzzle.id.as_str());
        let mut first = self.ask(&puzzle, 0, (adapter.clone(), session, index), terms.clone())?;
        let mut place = 0;
        while place + 1 < self.tries && !first.is_kept() {
            place += 1;
            let seed = index + ((place as u64) << 32);
            first = self.ask(&puzzle, place, (adapter.clone(), session, seed), terms.clone())?;
        }
        // The next test is asked in the same session. Nothing is trained any more, but it shows whether it would be.
        let spent = SelfEditTerms { budget: Budget { edits: 0, ..Budget::default() }, ..terms };
        let next = self.ask(&puzzle, self.tries, (AdapterChoice::Active, session, index), spent)?;
        let mut episode = Episode::of(without, first, next);
        if let Some(name) = episode.generation.clone() {
            let fresh = (AdapterChoice::Named(name), None, index);
            let fresh = self.ask(&puzzle, place, fresh, SelfEditTerms::default())?;
            episode.exact = Some(fresh.text == episode.first_text);
        }
        Ok(episode)
    }
}

/// One episode, as it is counted.
struct Episode {
    /// The next test without any edit.
    without: bool,
    asked: bool,
    generation: Option<String>,
    /// Why there is no generation, if something asked for one.
    refused: Option<String>,
    first: bool,
    next: bool,
    /// Whether an edit was asked for at the next test too.
    again: bool,
    paused_seconds: f64,
    first_text: String,
    /// Whether the answer after the edit is that of a fresh run.
    exact: Option<bool>,
    events: Vec<TraceEvent>,
}

impl Episode {
    fn of(without: Answered, first: Answered, next: Answered) -> Episode {
        let is_asked = |event: &TraceEvent| matches!(event.what, Happened::Triggered { .. });
        let (mut generation, mut refused, mut paused) = (None, None, 0.0);
        for event in &first.events {
            match &event.what {
                Happened::Kept { generation: name, .. } => generation = Some(name.clone()),
                Happened::RolledBack { reason } => refused = Some(reason.clone()),
                Happened::Refused { message, .. } | Happened::Failed { message } => {
                    refused = Some(message.clone());
                }
                Happened::Resumed { paused_seconds, .. } => paused = *paused_seconds,
                _ => {}
            }
        }
        Episode {
            without: without.solved,
            asked: first.events.iter().any(is_asked),
            refused: refused.filter(|_| generation.is_none()),
            generation,
            first: first.solved,
            next: next.solved,
            again: next.events.iter().any(is_asked),
            paused_seconds: paused,
            first_text: first.text,
            exact: None,
            events: first.events.into_iter().chain(next.events).collect(),
        }
    }

    fn is_success(&self) -> bool {
        self.generation.is_some() && self.first && self.next
    }

    fn line(&self, index: u64) -> String {
        json!({
            "puzzle": index, "without": self.without, "asked": self.asked, "kept": self.generation.is_some(),
            "refused": self.refused, "first": self.first, "next": self.next, "again": self.again,
            "exact": self.exact, "paused_seconds": self.paused_seconds,
        })
        .to_string()
    }
}

/// Shares over all episodes.
fn table(trigger: Trigger, all: &[Episode]) -> String {
    let count = |is: &dyn Fn(&Episode) -> bool| all.iter().filter(|&episode| is(episode)).count();
    let exact = |episode: &Episode| episode.exact == Some(true);
    let refused = |episode: &Episode| episode.refused.as_ref().is_some_and(|why| !why.contains("solved"));
    let paused: f64 = all.iter().map(|episode| episode.paused_seconds).sum();
    let asked = count(&|episode| episode.asked);
    let rows = [
        ("an edit was asked for", asked),
        ("it was kept", count(&|episode| episode.generation.is_some())),
        ("it was refused or failed", count(&refused)),
        ("the test in the middle of which it happened is solved", count(&|episode| episode.first)),
        ("the next test is solved", count(&|episode| episode.next)),
        ("the next test is solved without self-edits", count(&|episode| episode.without)),
        ("kept, and both tests are solved", count(&Episode::is_success)),
        ("kept, and an edit is asked for again", count(&|one| one.generation.is_some() && one.again)),
        ("kept, and the answer is that of a fresh run", count(&exact)),
    ];
    let mut text = format!("{} puzzles, asked by {}\n", all.len(), json!(trigger));
    for (name, count) in rows {
        text.push_str(&format!("{name:56} {count:4}\n"));
    }
    text + &format!("mean seconds of an edit {:.1}\n", paused / asked.max(1) as f64)
}
