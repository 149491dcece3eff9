//! Our side of a benchmark, in a process of its own: the request on stdin, the answer on stdout.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use cpu_time::ProcessTime;
use selkie_edit::Schedule;
use selkie_learn::optim::{ADAPTER_ADAMW, learning_rate_at};
use selkie_learn::{Adapter, Decoder, ModelFiles, SamplingSettings, Sequence, Trainer, generate, peft};

use super::request::{Answer, Request, Row, Work};
use crate::error::CommandError;
use crate::settings;

/// New tokens before the clock starts.
const WARMUP_TOKENS: usize = 2;

/// Does what stdin asks and prints what it took.
pub(crate) fn run() -> Result<ExitCode, CommandError> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .read_to_string(&mut text)
        .map_err(|error| CommandError::input(format!("cannot read stdin: {error}")))?;
    let request: Request = serde_json::from_str(&text)
        .map_err(|error| CommandError::input(format!("stdin is not a request: {error}")))?;
    let decoder = settings::open_decoder(&ModelFiles::read(&request.model)?, request.device)?;
    let answer = match &request.work {
        Work::Train { adapter, batch, adapters, warmup, steps, learning_rate } => {
            train(&decoder, adapter, batch, *adapters, *warmup, *steps, *learning_rate)?
        }
        Work::SealEdit { adapter, batch, epochs, learning_rate, .. } => {
            seal_edit(&decoder, adapter, batch, *epochs, *learning_rate)?
        }
        Work::Decode { prompt, new_tokens, .. } => decode(&decoder, prompt, *new_tokens)?,
    };
    super::super::print_json(&answer)?;
    Ok(ExitCode::SUCCESS)
}

fn train(
    decoder: &Decoder,
    adapter: &Path,
    batch: &[Row],
    adapters: usize,
    warmup: usize,
    steps: usize,
    learning_rate: f64,
) -> Result<Answer, CommandError> {
    let vocab = decoder.config().vocab_size as u32;
    let sets: Vec<Vec<Sequence>> = (0..adapters as u32)
        .map(|shift| batch.iter().map(|row| shifted(row, shift, vocab)).collect())
        .collect();
    let batches: Vec<Vec<&Sequence>> = sets.iter().map(|set| set.iter().collect()).collect();
    let start = read_adapter(decoder, adapter)?;
    let mut trainers = Vec::with_capacity(adapters);
    for _ in 0..adapters {
        trainers.push(Trainer::new(decoder, start.clone(), ADAPTER_ADAMW)?);
    }
    // Or its matrices would stay beside the trained ones.
    drop(start);
    let rates = vec![learning_rate; adapters];
    let mut losses = Vec::with_capacity(warmup + steps);
    let mut step = || Trainer::step_together(&mut trainers, &batches, &rates).map(|seen| seen[0].loss);
    for _ in 0..warmup {
        losses.push(step()?);
    }
    let clock = Clock::start();
    for _ in 0..steps {
        losses.push(step()?);
    }
    Ok(clock.answer(losses, Vec::new()))
}

fn seal_edit(
    decoder: &Decoder,
    adapter: &Path,
    batch: &[Row],
    epochs: usize,
    learning_rate: f64,
) -> Result<Answer, CommandError> {
    let sequences: Vec<Sequence> = batch.iter().map(sequence).collect();
    let mut trainer = Trainer::new(decoder, read_adapter(decoder, adapter)?, ADAPTER_ADAMW)?;
    let steps = sequences.len() * epochs;
    let clock = Clock::start();
    let mut losses = Vec::with_capacity(steps);
    for (step, sequence) in sequences.iter().cycle().take(steps).enumerate() {
        let rate = learning_rate_at(Schedule::Linear, learning_rate, 0, steps as u64, step as u64);
        losses.push(trainer.step(&[sequence], rate)?.0);
    }
    Ok(clock.answer(losses, Vec::new()))
}

fn decode(decoder: &Decoder, prompt: &[u32], new_tokens: usize) -> Result<Answer, CommandError> {
    let make = |count| {
        let mut positions = 0..;
        let position_of = move |_| positions.next().unwrap_or_default();
        generate(decoder, None, prompt, position_of, SamplingSettings::GREEDY, &[], count)
    };
    make(WARMUP_TOKENS)?;
    let clock = Clock::start();
    let (tokens, _) = make(new_tokens)?;
    Ok(clock.answer(Vec::new(), tokens))
}

/// A row of other tokens for each adapter but the first.
fn shifted(row: &Row, shift: u32, vocab: u32) -> Sequence {
    let mut sequence = sequence(row);
    sequence.ids.iter_mut().for_each(|id| *id = (*id + shift) % vocab);
    sequence
}

fn sequence(row: &Row) -> Sequence {
    let len = row.ids.len();
    Sequence {
        ids: row.ids.clone(),
        positions: (0..len as u32).collect(),
        labelled: (0..len).map(|at| at >= row.labelled_from).collect(),
    }
}

fn read_adapter(decoder: &Decoder, folder: &Path) -> Result<Adapter, CommandError> {
    let mut files = Vec::new();
    for name in [peft::CONFIG_FILE, peft::WEIGHTS_FILE] {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).map_err(|error| CommandError::read(&path, &error))?;
        files.push((name.to_owned(), bytes));
    }
    Ok(peft::from_files(decoder.config(), &files)?)
}

/// Time of the process and of the day since it was started.
struct Clock {
    cpu: Option<ProcessTime>,
    wall: Instant,
}

impl Clock {
    fn start() -> Clock {
        Clock { cpu: ProcessTime::try_now().ok(), wall: Instant::now() }
    }

    fn answer(self, losses: Vec<f32>, tokens: Vec<u32>) -> Answer {
        let cpu = self.cpu.and_then(|start| start.try_elapsed().ok());
        Answer {
            cpu_ms: cpu.map(|cpu| cpu.as_secs_f64() * 1e3),
            wall_ms: self.wall.elapsed().as_secs_f64() * 1e3,
            peak_rss_mb: peak_rss_mb(),
            losses: losses.into_iter().map(|loss| loss.is_finite().then_some(loss.into())).collect(),
            tokens,
            versions: [("selkie".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        }
    }
}

/// Linux keeps the most memory that a process had as `VmHWM`, in units of 1024 bytes.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0 / 1e6)
}
