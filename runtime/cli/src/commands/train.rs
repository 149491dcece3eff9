//! `selkie train`: adapters from JSON lines, one a file, in shared passes; metrics, checkpoints, and going on.

mod folder;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use selkie_learn::optim::{ADAPTER_ADAMW, AdamWConfig};
use selkie_learn::run::advance;
use selkie_learn::{Adapter, LearnError, LoraConfig, PassOptions, Run, RunSettings, Sequence, Trained, peft};
use serde::Serialize;
use serde_json::{Value, json};

use self::folder::{Folder, Metrics};
use super::text::{Data, TextModel, plural};
use crate::args::TrainArgs;
use crate::error::CommandError;
use crate::progress;

/// Trains one adapter for each data file.
pub(crate) fn run(args: &TrainArgs) -> Result<ExitCode, CommandError> {
    let folders = folders(args)?;
    folder::check_out(&args.out, args.resume)?;
    let model = TextModel::open(&args.model)?;
    let data: Vec<Data> =
        (args.data.iter()).map(|path| Data::read(path, &model, &args.length)).collect::<Result<_, _>>()?;
    let sets: Vec<Vec<Sequence>> = data.iter().map(Data::sequences).collect();
    let settings = settings(args);
    let new_run = |set| Run::new(&model.decoder, set, settings.clone());
    let mut runs: Vec<Run<'_>> = sets.iter().map(|set| new_run(set)).collect::<Result<_, _>>()?;
    folder::prepare(&args.out, &folders, &about(args, &model), args.resume)?;
    let done = match args.resume {
        true => resume(&folders, &mut runs)?,
        false => 0,
    };
    let mut jobs = Vec::with_capacity(runs.len());
    for (run, folder) in runs.into_iter().zip(&folders) {
        let metrics = Metrics::open(folder, run.steps_done())?;
        jobs.push(Job { folder, metrics, run: Ok(run) });
    }
    train(args, &model, &mut jobs, done)?;
    finish(args, &model, jobs, &data)
}

/// One adapter in training.
struct Job<'a> {
    folder: &'a Folder,
    metrics: Metrics,
    /// An error once its loss was not finite.
    run: Result<Run<'a>, LearnError>,
}

/// Where each data file's adapter goes.
fn folders(args: &TrainArgs) -> Result<Vec<Folder>, CommandError> {
    if let [_] = args.data.as_slice() {
        return Ok(vec![Folder::new(args.out.clone())]);
    }
    let mut names: Vec<String> = Vec::with_capacity(args.data.len());
    for path in &args.data {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if names.contains(&name) {
            return Err(CommandError::input(format!(
                "two data files are named `{name}`, which is where an adapter goes; rename one of them"
            )));
        }
        names.push(name);
    }
    Ok(names.iter().map(|name| Folder::new(args.out.join(name))).collect())
}

fn settings(args: &TrainArgs) -> RunSettings {
    let (lora, optimiser) = (&args.lora, &args.optimiser);
    RunSettings {
        lora: LoraConfig {
            rank: lora.rank,
            alpha: lora.alpha,
            dropout: lora.dropout,
            targets: lora.targets.0.clone(),
            rank_pattern: lora.rank_pattern.clone(),
            alpha_pattern: lora.alpha_pattern.clone(),
            use_rslora: lora.rslora,
        },
        learning_rate: optimiser.lr,
        schedule: optimiser.schedule.into(),
        warmup_steps: optimiser.warmup_steps,
        epochs: optimiser.epochs,
        batch_size: optimiser.batch_size as usize * optimiser.accumulate as usize,
        adamw: AdamWConfig { weight_decay: optimiser.weight_decay, ..ADAPTER_ADAMW },
        max_grad_norm: optimiser.max_grad_norm,
        seed: args.seed,
    }
}

/// What decides the adapters, beside the data: a run is continued with the same alone.
fn about(args: &TrainArgs, model: &TextModel) -> Value {
    let (lora, optimiser) = (&args.lora, &args.optimiser);
    let pattern = |pairs: Vec<String>| pairs.join(" ");
    json!({
        "model_sha256": model.files.digest(),
        "rank": lora.rank,
        "alpha": lora.alpha,
        "dropout": lora.dropout,
        "targets": lora.targets.0,
        "rank_pattern": pattern(lora.rank_pattern.iter().map(|(key, rank)| format!("{key}={rank}")).collect()),
        "alpha_pattern": pattern(lora.alpha_pattern.iter().map(|(key, alpha)| format!("{key}={alpha}")).collect()),
        "rslora": lora.rslora,
        "lr": optimiser.lr,
        "schedule": selkie_edit::Schedule::from(optimiser.schedule),
        "warmup_steps": optimiser.warmup_steps,
        "weight_decay": optimiser.weight_decay,
        "max_grad_norm": optimiser.max_grad_norm,
        "epochs": optimiser.epochs,
        "batch_size": optimiser.batch_size,
        "accumulate": optimiser.accumulate,
        "max_tokens": args.length.max_tokens,
        "truncate": args.length.truncate,
        "checkpointing": args.checkpointing,
        "seed": args.seed,
        "data_files": args.data.len(),
    })
}

/// Brings all runs to their newest common checkpoint, and gives its number; 0 where there is none.
fn resume(folders: &[Folder], runs: &mut [Run<'_>]) -> Result<u64, CommandError> {
    if folders.iter().all(Folder::is_finished) {
        let names: Vec<String> = folders.iter().map(|folder| folder.path().display().to_string()).collect();
        return Err(CommandError::input(format!("the run is finished already: {}", names.join(", "))));
    }
    let Some(done) = folder::newest_common(folders)? else { return Ok(0) };
    for (folder, run) in folders.iter().zip(runs) {
        run.resume(&folder.checkpoint(done))?;
    }
    Ok(done)
}

/// Steps until every run is finished or has failed. `done` is how many were made of the longest run.
fn train(
    args: &TrainArgs,
    model: &TextModel,
    jobs: &mut [Job<'_>],
    mut done: u64,
) -> Result<(), CommandError> {
    let passes = PassOptions {
        sequences: args.optimiser.batch_size as usize * jobs.len(),
        checkpointing: args.checkpointing,
        ..PassOptions::default()
    };
    let steps = jobs.iter().filter_map(|job| job.run.as_ref().ok()).map(Run::steps).max();
    let bar = progress::bar(steps.unwrap_or(0));
    let started = Instant::now();
    while step(model, jobs, passes, started, &bar)? {
        done += 1;
        bar.set_position(done);
        let is_over = jobs.iter().all(|job| job.run.as_ref().map_or(true, Run::is_finished));
        if args.save_every.is_some_and(|every| done.is_multiple_of(every)) && !is_over {
            checkpoint(jobs, done)?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// One step of all runs that go on; false when none does.
fn step(
    model: &TextModel,
    jobs: &mut [Job<'_>],
    passes: PassOptions,
    started: Instant,
    bar: &indicatif::ProgressBar,
) -> Result<bool, CommandError> {
    let (mut places, mut active) = (Vec::new(), Vec::new());
    for (place, job) in jobs.iter_mut().enumerate() {
        if let Ok(run) = &mut job.run
            && !run.is_finished()
        {
            places.push(place);
            active.push(run);
        }
    }
    if active.is_empty() {
        return Ok(false);
    }
    let seen = advance(&model.decoder, &mut active, passes)?;
    let mut losses = Vec::with_capacity(seen.len());
    for (index, stats) in seen {
        let job = &mut jobs[places[index]];
        match stats {
            Ok(stats) => {
                job.metrics.add(&stats, started.elapsed())?;
                losses.push(format!("{:.3}", stats.loss));
            }
            Err(error) => job.run = Err(error),
        }
    }
    bar.set_message(format!("loss {}", losses.join(", ")));
    Ok(true)
}

/// Writes everybody's state, then takes the older ones away: there is always a number that all folders have.
fn checkpoint(jobs: &[Job<'_>], done: u64) -> Result<(), CommandError> {
    let running = || jobs.iter().filter_map(|job| Some((job.folder, job.run.as_ref().ok()?)));
    for (folder, run) in running() {
        run.checkpoint(&folder.checkpoint(done))?;
    }
    running().try_for_each(|(folder, _)| folder.remove_checkpoints(Some(done)))
}

/// A job whose run is over.
struct Finished<'a> {
    folder: &'a Folder,
    metrics: Metrics,
    steps: u64,
}

/// What became of one data file.
#[derive(Serialize)]
struct Report {
    data: String,
    out: String,
    lines: usize,
    lines_cut: usize,
    tokens_an_epoch: usize,
    steps: u64,
    first_loss: Option<f32>,
    last_loss: Option<f32>,
    rank: usize,
    layers: usize,
    seconds: f64,
}

impl Report {
    fn of(path: &Path, job: &Finished<'_>, data: &Data, adapter: &Adapter) -> Report {
        Report {
            data: path.display().to_string(),
            out: job.folder.path().display().to_string(),
            lines: data.lines.len(),
            lines_cut: data.cut,
            tokens_an_epoch: data.lines.iter().map(|line| line.sequence.len()).sum(),
            steps: job.steps,
            first_loss: job.metrics.first_loss,
            last_loss: job.metrics.last_loss,
            rank: adapter.rank(),
            layers: adapter.sites().count(),
            seconds: job.metrics.seconds,
        }
    }

    fn text(&self) -> String {
        let loss = |loss: Option<f32>| loss.map_or("?".to_owned(), |loss| format!("{loss:.3}"));
        let cut = if self.lines_cut > 0 { format!(" ({} cut)", self.lines_cut) } else { String::new() };
        format!(
            "an adapter of rank {} for {} layers in {}: {}{cut} of {} tokens, {}, loss {} -> {}, {:.1} s\n",
            self.rank,
            self.layers,
            self.out,
            plural(self.lines, "line"),
            self.tokens_an_epoch,
            plural(self.steps as usize, "step"),
            loss(self.first_loss),
            loss(self.last_loss),
            self.seconds,
        )
    }
}

/// Writes the adapters and says what was done. Those whose training failed have none.
fn finish(
    args: &TrainArgs,
    model: &TextModel,
    jobs: Vec<Job<'_>>,
    data: &[Data],
) -> Result<ExitCode, CommandError> {
    let (mut reports, mut failures) = (Vec::new(), Vec::new());
    let lora = settings(args).lora;
    let folders: Vec<&Folder> = jobs.iter().map(|job| job.folder).collect();
    for ((job, path), data) in jobs.into_iter().zip(&args.data).zip(data) {
        let steps = job.run.as_ref().map_or(0, Run::steps);
        let done = Finished { folder: job.folder, metrics: job.metrics, steps };
        match job.run.and_then(Run::finish) {
            Err(error) => failures.push((path, error)),
            Ok(Trained { adapter, .. }) => {
                let files = peft::to_files_with(&adapter, &model.reference(), &lora)?;
                peft::write(done.folder.path(), &files, peft::Existing::Replace)?;
                reports.push(Report::of(path, &done, data, &adapter));
            }
        }
    }
    folders.into_iter().try_for_each(|folder| folder.remove_checkpoints(None))?;
    match args.json {
        true => super::print_json(&json!({"model": model.name, "adapters": reports}))?,
        false => super::print(&reports.iter().map(Report::text).collect::<String>())?,
    }
    let mut code = ExitCode::SUCCESS;
    for (path, error) in failures {
        code = CommandError::from(error).about(path).report();
    }
    Ok(code)
}
