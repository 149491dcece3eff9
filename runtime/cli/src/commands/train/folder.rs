//! The folder of a run: what it is about, its metrics and its checkpoints.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use selkie_learn::{StepStats, peft};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::CommandError;
use crate::settings::read_text;

/// What decides the adapters.
const ABOUT: &str = "run.json";

/// One line a step.
const METRICS: &str = "metrics.jsonl";

/// Around the number of a checkpoint.
const CHECKPOINT: (&str, &str) = ("checkpoint-", ".safetensors");

/// Bytes of a file that a run left.
const FILE_BYTES_MAX: usize = 1 << 30;

/// Where one adapter goes.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Folder {
        Folder { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoint that was written after so many steps of the longest run.
    pub(super) fn checkpoint(&self, done: u64) -> PathBuf {
        self.path.join(format!("{}{done}{}", CHECKPOINT.0, CHECKPOINT.1))
    }

    /// Whether the adapter is there and nothing is left to do for it.
    pub(super) fn is_finished(&self) -> bool {
        let no_checkpoint = self.checkpoints().is_ok_and(|numbers| numbers.is_empty());
        no_checkpoint
            && [peft::CONFIG_FILE, peft::WEIGHTS_FILE].iter().all(|name| self.path.join(name).is_file())
    }

    /// Removes checkpoints, except one.
    pub(super) fn remove_checkpoints(&self, except: Option<u64>) -> Result<(), CommandError> {
        for number in self.checkpoints()?.into_iter().filter(|&number| Some(number) != except) {
            let path = self.checkpoint(number);
            fs::remove_file(&path).map_err(|error| cannot_write(&path, &error))?;
        }
        Ok(())
    }

    fn checkpoints(&self) -> Result<BTreeSet<u64>, CommandError> {
        let mut numbers = BTreeSet::new();
        for entry in fs::read_dir(&self.path).map_err(|error| CommandError::read(&self.path, &error))? {
            let name = entry.map_err(|error| CommandError::read(&self.path, &error))?.file_name();
            let name = name.to_string_lossy();
            let number = name.strip_prefix(CHECKPOINT.0).and_then(|name| name.strip_suffix(CHECKPOINT.1));
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        Ok(numbers)
    }
}

/// The newest checkpoint that all folders have.
pub(super) fn newest_common(folders: &[Folder]) -> Result<Option<u64>, CommandError> {
    let mut common: Option<BTreeSet<u64>> = None;
    for folder in folders {
        let numbers = folder.checkpoints()?;
        common = Some(match common {
            None => numbers,
            Some(common) => &common & &numbers,
        });
    }
    Ok(common.and_then(|common| common.last().copied()))
}

/// Refuses an output folder with files in it, unless they are to be gone on with.
pub(super) fn check_out(out: &Path, resume: bool) -> Result<(), CommandError> {
    let mut entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot_write(out, &error)),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) if !resume => Err(CommandError::input(format!(
            "cannot write `{}`: the folder is not empty; choose a new one, or go on with its run by --resume",
            out.display()
        ))),
        Some(_) if !out.join(ABOUT).is_file() => Err(CommandError::input(format!(
            "cannot go on with `{}`: it has files and no `{ABOUT}`, so it is of no training run",
            out.display()
        ))),
        Some(_) => Ok(()),
    }
}

/// Makes the folders and writes down what the run is about; a run that is continued must be about the same.
pub(super) fn prepare(
    out: &Path,
    folders: &[Folder],
    about: &Value,
    resume: bool,
) -> Result<(), CommandError> {
    for path in folders.iter().map(Folder::path).chain([out]) {
        fs::create_dir_all(path).map_err(|error| cannot_write(path, &error))?;
    }
    let path = out.join(ABOUT);
    if resume && path.is_file() {
        return same(&path, about);
    }
    fs::write(&path, format!("{about:#}\n")).map_err(|error| cannot_write(&path, &error))
}

fn same(path: &Path, about: &Value) -> Result<(), CommandError> {
    let text = read_text(path, FILE_BYTES_MAX)?;
    let read = |text: &str| {
        serde_json::from_str::<Value>(text)
            .map_err(|error| CommandError::input(format!("`{}` is not valid JSON: {error}", path.display())))
    };
    // Numbers may change in the last digit when they are read, so both are.
    let (before, about) = (read(&text)?, read(&about.to_string())?);
    let fields = about.as_object().into_iter().flatten();
    let differs = fields.filter(|&(name, value)| before[name] != *value);
    let differences: Vec<String> =
        differs.map(|(name, value)| format!("\n  {name} is {value}, was {}", before[name])).collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(CommandError::input(format!(
        "`{}` is of a run with other settings; use those, or another --out{}",
        path.display(),
        differences.concat()
    )))
}

/// A line of the metrics.
#[derive(Serialize, Deserialize)]
struct Metric {
    /// From 1.
    step: u64,
    steps: u64,
    loss: f32,
    grad_norm: f64,
    learning_rate: f64,
    tokens: usize,
    seconds: f64,
}

/// The metrics' file of one run, and what of it is told at the end.
pub(super) struct Metrics {
    path: PathBuf,
    file: File,
    pub(super) first_loss: Option<f32>,
    pub(super) last_loss: Option<f32>,
    /// Of all steps, without the time between an interruption and going on.
    pub(super) seconds: f64,
    /// Of the steps before an interruption.
    before: f64,
}

impl Metrics {
    /// Lines after the step that is gone on from are dropped: they will be made again.
    pub(super) fn open(folder: &Folder, steps_done: u64) -> Result<Metrics, CommandError> {
        let path = folder.path().join(METRICS);
        let old = if path.is_file() { read_text(&path, FILE_BYTES_MAX)? } else { String::new() };
        let mut kept = String::new();
        let (mut first_loss, mut last_loss, mut seconds) = (None, None, 0.0);
        for line in old.lines() {
            let metric = serde_json::from_str::<Metric>(line).ok();
            let Some(metric) = metric.filter(|metric| metric.step <= steps_done) else { continue };
            first_loss = first_loss.or(Some(metric.loss));
            (last_loss, seconds) = (Some(metric.loss), metric.seconds);
            kept += &format!("{line}\n");
        }
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(kept.as_bytes())?;
            Ok(file)
        };
        let file = write().map_err(|error| cannot_write(&path, &error))?;
        Ok(Metrics { path, file, first_loss, last_loss, seconds, before: seconds })
    }

    pub(super) fn add(&mut self, stats: &StepStats, elapsed: Duration) -> Result<(), CommandError> {
        self.seconds = self.before + elapsed.as_secs_f64();
        self.first_loss = self.first_loss.or(Some(stats.loss));
        self.last_loss = Some(stats.loss);
        let metric = Metric {
            step: stats.step + 1,
            steps: stats.steps,
            loss: stats.loss,
            grad_norm: stats.grad_norm,
            learning_rate: stats.learning_rate,
            tokens: stats.tokens,
            seconds: (self.seconds * 1e3).round() / 1e3,
        };
        let line =
            serde_json::to_string(&metric).map_err(|error| CommandError::internal(error.to_string()))?;
        self.file.write_all((line + "\n").as_bytes()).map_err(|error| cannot_write(&self.path, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> CommandError {
    CommandError::input(format!("cannot write `{}`: {error}", path.display()))
}
