//! `selkie rest-em` and `selkie eval`: the outer loop, and its comparisons alone.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::ProgressBar;
use selkie_edit::limits::CONTEXT_BYTES_MAX;
use selkie_edit::{Context, Domain, Puzzle};
use selkie_engine::{Runtime, model_files};
use selkie_learn::{Adapter, peft};
use selkie_outer::presets::{self, Preset};
use selkie_outer::settings::{Condition, Proxy};
use selkie_outer::{Contexts, Event, Settings, Subject, Watched, run, summarise, world};
use selkie_store::RunLedger;

use crate::args::{CompareArgs, EvalArgs, OuterArgs, OuterCommand, RestEmArgs};
use crate::error::CommandError;
use crate::{progress, settings};

/// What is under `--out` beside the ledger.
const METRICS: &str = "metrics.jsonl";

/// Learns to edit.
pub(crate) fn rest_em(command: &OuterCommand<RestEmArgs>) -> Result<ExitCode, CommandError> {
    let (domain, args) = command.parts();
    let mut preset = preset(domain, &args.what)?;
    preset.rounds = args.rounds.unwrap_or(preset.rounds);
    preset.contexts = args.contexts.unwrap_or(preset.contexts);
    preset.samples = args.samples.unwrap_or(preset.samples);
    preset.repeats = args.repeats.unwrap_or(preset.repeats);
    let opened = Opened::new(domain, preset, &args.what, &args.compare)?;
    let mut settings = opened.settings(&args.what, &args.compare);
    settings.proxy = match args.proxy.as_str() {
        "none" => Proxy::None,
        "short" => Proxy::Short,
        tool => Proxy::Grader(tool.to_owned()),
    };
    settings.survivors = args.survivors;
    settings.retention = args.retention.unwrap_or(settings.retention);
    opened.run(&settings, &args.what, None)
}

/// Compares without learning.
pub(crate) fn eval(command: &OuterCommand<EvalArgs>) -> Result<ExitCode, CommandError> {
    let (domain, args) = command.parts();
    let mut preset = preset(domain, &args.what)?;
    (preset.rounds, preset.contexts) = (0, 0);
    let opened = Opened::new(domain, preset, &args.what, &args.compare)?;
    let mut settings = opened.settings(&args.what, &args.compare);
    let needs_rounds = |condition: &Condition| matches!(condition, Condition::Rounds | Condition::Unfiltered);
    settings.evaluation.conditions.retain(|condition| !needs_rounds(condition));
    let config = opened.runtime.model.decoder().config();
    let policy = args.policy.as_deref().map(|folder| peft::read(folder, config)).transpose()?;
    settings.policy = policy.as_ref().map(selkie_outer::policy_digest).transpose()?;
    opened.run(&settings, &args.what, policy.as_ref())
}

fn preset(domain: Domain, args: &OuterArgs) -> Result<Preset, CommandError> {
    let pup = match domain {
        Domain::Puzzle => "pup/arc",
        Domain::Passage => "pup/knowledge",
    };
    let name = args.preset.as_deref().unwrap_or(pup);
    let known = || {
        let names: Vec<&str> = presets::NAMES
            .into_iter()
            .filter(|name| presets::preset(name).is_some_and(|preset| preset.domain == domain))
            .collect();
        CommandError::input(format!("there is no preset `{name}` here"))
            .hint(format!("use {}", names.join(" or ")))
    };
    presets::preset(name).filter(|preset| preset.domain == domain).ok_or_else(known)
}

/// A model with the contexts of a run.
struct Opened {
    preset: Preset,
    runtime: Runtime,
    contexts: Contexts,
    watched: Watched,
}

impl Opened {
    fn new(
        domain: Domain,
        preset: Preset,
        args: &OuterArgs,
        compare: &CompareArgs,
    ) -> Result<Opened, CommandError> {
        let named = args.model.as_deref().filter(|model| *model != Path::new("pup") || model.is_dir());
        let files = model_files(named, domain)?;
        let runtime = Runtime::open_on(&files, args.plugins.options(), &args.device.device.resolve()?)?;
        let held_out = compare.held_out.unwrap_or(preset.evaluation_contexts);
        let contexts = match &args.data {
            Some(path) => read(domain, path, args, preset.contexts, held_out)?,
            None => generated(domain, &runtime, preset.contexts, held_out)?,
        };
        if contexts.held_out.is_empty() {
            let found = contexts.training.len();
            return Err(CommandError::input(format!(
                "there are {found} contexts and none to compare policies on"
            ))
            .hint("name a file with more of them (--data), or learn from fewer (--contexts)"));
        }
        let watched = match (&args.data, runtime.model.fact_world()) {
            (None, Some(facts)) => world::watched(&facts),
            _ => Watched::default(),
        };
        Ok(Opened { preset, runtime, contexts, watched })
    }

    fn settings(&self, args: &OuterArgs, compare: &CompareArgs) -> Settings {
        let mut settings = Settings::of(&self.preset, &self.runtime, &self.contexts, args.seeds.clone());
        let evaluation = &mut settings.evaluation;
        evaluation.samples = compare.held_out_samples.unwrap_or(evaluation.samples);
        evaluation.votes = usize::from(compare.votes);
        evaluation.check_decoding = compare.check_decoding;
        evaluation.together = compare.together;
        if compare.matched > 0 {
            evaluation.matched = compare.matched;
            evaluation.conditions.push(Condition::Matched);
        }
        settings
    }

    fn run(
        &self,
        settings: &Settings,
        args: &OuterArgs,
        policy: Option<&Adapter>,
    ) -> Result<ExitCode, CommandError> {
        let narrator = Narrator { bar: RefCell::new(None) };
        run(&self.runtime, &args.out, settings, &self.contexts, &self.watched, policy, &mut |event| {
            narrator.tell(event);
        })?;
        narrator.end();
        let ledger = RunLedger::read_only(&args.out)?;
        let summary = summarise(&[ledger])?;
        let metrics = selkie_outer::metrics(&summary)?;
        let path = args.out.join(METRICS);
        std::fs::write(&path, metrics).map_err(|error| super::write_error(&path, &error))?;
        match args.json {
            true => super::print_json(&summary)?,
            false => super::print(&selkie_outer::report::text(&summary))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Contexts of the bundled model's world.
fn generated(
    domain: Domain,
    runtime: &Runtime,
    training: usize,
    held_out: usize,
) -> Result<Contexts, CommandError> {
    let contexts = match domain {
        Domain::Passage => {
            runtime.model.fact_world().map(|facts| world::passages(&facts, training, held_out))
        }
        Domain::Puzzle => runtime
            .model
            .puzzle_world()
            .map(|puzzles| world::puzzles(&puzzles, &world::chosen(), training, held_out)),
    };
    contexts.ok_or_else(|| {
        CommandError::input("this model has no world of its own to take contexts from")
            .hint("name a file of contexts with --data")
    })
}

/// Contexts of a file: the first are learned from, those behind them are held out.
fn read(
    domain: Domain,
    path: &Path,
    args: &OuterArgs,
    training: usize,
    held_out: usize,
) -> Result<Contexts, CommandError> {
    let text = settings::read_text(path, FILE_BYTES_MAX)?;
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let named = |error| CommandError::context(path, error);
    let solutions: Option<PathBuf> = args.solutions.clone();
    let contexts: Vec<Context> = match (domain, solutions) {
        (Domain::Puzzle, Some(solutions)) => {
            let solutions = settings::read_text(&solutions, FILE_BYTES_MAX)?;
            let puzzles = Puzzle::many_from_challenges(&text, Some(&solutions)).map_err(named)?;
            puzzles.into_iter().map(Context::Puzzle).collect()
        }
        _ => Context::many_from_json(&text, &stem).map_err(named)?,
    };
    let fits = |context: &Context| match (context, args.max_side) {
        (Context::Puzzle(puzzle), Some(side)) => puzzle.largest_side() <= side,
        _ => true,
    };
    let mut subjects =
        contexts.into_iter().filter(|context| context.domain() == domain && fits(context)).map(Subject::new);
    let training = subjects.by_ref().take(training).collect();
    Ok(Contexts { training, held_out: subjects.take(held_out).collect() })
}

/// SQuAD's training file has 30 MB.
const FILE_BYTES_MAX: usize = 16 * CONTEXT_BYTES_MAX;

/// Tells what happens while it happens, on stderr.
struct Narrator {
    bar: RefCell<Option<ProgressBar>>,
}

impl Narrator {
    fn tell(&self, event: Event) {
        let mut bar = self.bar.borrow_mut();
        match event {
            Event::Stage(name) => match &*bar {
                Some(bar) if !bar.is_hidden() => bar.set_message(name),
                _ => eprintln!("{name}"),
            },
            Event::Result(line) => match &*bar {
                Some(bar) if !bar.is_hidden() => bar.println(line),
                _ => eprintln!("  {line}"),
            },
            Event::Progress { done, of } => {
                let bar = bar.get_or_insert_with(|| progress::bar(of as u64));
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            }
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
