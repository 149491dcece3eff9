//! `selkie bench`: what training and generation cost here, and what they cost with PyTorch. Each measurement is a
//! process of its own, so that CPU time and peak memory are those of one side.

mod model;
mod report;
mod request;
mod seal_edit;
mod side;
mod sides;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use selkie_edit::{Lora, Projection};
use selkie_learn::DeviceChoice;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::model::Model;
use self::report::Report;
use self::request::{Request, Row, Work};
use self::sides::Python;
use crate::args::{BenchArgs, BenchCommand, BenchDecodeArgs, BenchTrainArgs};
use crate::error::CommandError;
use crate::progress;

/// Steps before the clock starts: the first ones allocate.
const WARMUP_STEPS: usize = 2;

/// SEAL's rate for knowledge, which is also PEFT's usual one.
const LEARNING_RATE: f64 = 1e-3;

/// SEAL's settings for a knowledge self-edit.
const SEAL_EPOCHS: usize = 10;
const SEAL_TOKENS_MAX: usize = 2048;
const SEAL_RANK: u32 = 32;
const SEAL_TARGETS: [Projection; 2] = [Projection::QProj, Projection::VProj];

/// Runs one of them.
pub(crate) fn run(command: BenchCommand) -> Result<ExitCode, CommandError> {
    match command {
        BenchCommand::Train(args) => train(&args),
        BenchCommand::Decode(args) => decode(&args),
        BenchCommand::Side => side::run(),
    }
}

fn train(args: &BenchTrainArgs) -> Result<ExitCode, CommandError> {
    let bench = Bench::prepare(&args.bench)?;
    if let Some(recorded) = &args.seal_edit {
        return bench.run(seal_work(&bench, recorded, args.pad_to)?, Some(SEAL_RANK));
    }
    let (batch, tokens) = bench.model.batch;
    let (batch, tokens) = (args.batch.unwrap_or(batch), args.tokens.unwrap_or(tokens) as usize);
    bench.model.check_length(tokens)?;
    let row =
        |row| Row { ids: bench.model.random_ids(&format!("row/{row}"), tokens), labelled_from: tokens / 2 };
    let work = Work::Train {
        adapter: bench.adapter(args.rank, &Projection::ALL)?,
        batch: (0..batch).map(row).collect(),
        adapters: args.adapters.into(),
        warmup: WARMUP_STEPS,
        steps: args.steps as usize,
        learning_rate: LEARNING_RATE,
    };
    bench.run(work, Some(args.rank))
}

fn seal_work(bench: &Bench<'_>, recorded: &Path, pad_to: Option<u16>) -> Result<Work, CommandError> {
    bench.model.check_length(SEAL_TOKENS_MAX)?;
    Ok(Work::SealEdit {
        adapter: bench.adapter(SEAL_RANK, &SEAL_TARGETS)?,
        batch: seal_edit::rows(recorded, bench.model.config.vocab_size, SEAL_TOKENS_MAX)?,
        epochs: SEAL_EPOCHS,
        pad_to: pad_to.map_or(SEAL_TOKENS_MAX, usize::from),
        learning_rate: LEARNING_RATE,
    })
}

fn decode(args: &BenchDecodeArgs) -> Result<ExitCode, CommandError> {
    let bench = Bench::prepare(&args.bench)?;
    bench.model.check_length((args.tokens + args.new_tokens) as usize)?;
    let prompt = bench.model.random_ids("prompt", args.tokens as usize);
    let dtype = args.python_dtype.unwrap_or(args.bench.dtype);
    bench.run(Work::Decode { prompt, new_tokens: args.new_tokens as usize, dtype }, None)
}

/// Everything that both sides need, in a folder that goes away with it.
struct Bench<'a> {
    args: &'a BenchArgs,
    /// The device that was found, for both sides.
    device: DeviceChoice,
    python: Option<Python>,
    model: Model,
    scratch: TempDir,
}

impl Bench<'_> {
    fn prepare(args: &BenchArgs) -> Result<Bench<'_>, CommandError> {
        let scratch = tempfile::tempdir()
            .map_err(|error| CommandError::input(format!("cannot make a temporary folder: {error}")))?;
        // First what may be refused, then what takes long.
        let device = args.device.device.resolve()?.choice();
        let python = args.python.as_ref().map(|path| Python::check(path, scratch.path())).transpose()?;
        let model = Model::of(&args.shape, args.dtype, scratch.path())?;
        Ok(Bench { args, device, python, model, scratch })
    }

    fn adapter(&self, rank: u32, targets: &[Projection]) -> Result<PathBuf, CommandError> {
        let lora = Lora { rank, alpha: 2.0 * f64::from(rank), targets: targets.to_vec() };
        self.model.write_adapter(&lora, self.scratch.path())
    }

    /// Measures both sides in turn, and prints.
    fn run(&self, work: Work, rank: Option<u32>) -> Result<ExitCode, CommandError> {
        let BenchArgs { threads, repeats, .. } = *self.args;
        let (model, device) = (self.model.folder.clone(), self.device);
        let request = Request { model, device, threads: threads.into(), work };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let bar = progress::bar(repeats.into());
        for _ in 0..repeats {
            ours.push(sides::ours(&request)?);
            if let Some(python) = &self.python {
                theirs.push(python.run(&request)?);
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let report = Report::of(self.settings(&request.work, rank), &request.work, ours, theirs)
            .ok_or_else(|| CommandError::internal("a benchmark without a measurement"))?;
        match self.args.json {
            true => super::print_json(&report)?,
            false => super::print(&report.table())?,
        }
        Ok(if report.losses_agree == Some(false) { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }

    fn settings(&self, work: &Work, rank: Option<u32>) -> Value {
        let BenchArgs { shape, dtype, threads, .. } = self.args;
        let config = &self.model.config;
        let more = match work {
            Work::Train { batch, adapters, steps, warmup, .. } => json!({
                "adapters": adapters,
                "batch": batch.len(),
                "tokens": batch.first().map(|row| row.ids.len()),
                "steps": steps,
                "warmup": warmup,
            }),
            Work::SealEdit { batch, epochs, pad_to, .. } => json!({
                "sequences": batch.len(),
                "tokens": batch.iter().map(|row| row.ids.len()).sum::<usize>(),
                "epochs": epochs,
                "pad_to": pad_to,
            }),
            Work::Decode { prompt, new_tokens, dtype } => {
                json!({ "prompt": prompt.len(), "new_tokens": new_tokens, "python_dtype": dtype })
            }
        };
        json!({
            "shape": shape,
            "hidden_size": config.hidden_size,
            "layers": config.layers,
            "vocab_size": config.vocab_size,
            "dtype": dtype,
            "device": self.device,
            "rank": rank,
            "threads": threads,
            "work": more,
        })
    }
}
