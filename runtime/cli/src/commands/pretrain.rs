//! `selkie pretrain`: the models that are bundled are made by this command.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use selkie_learn::pretrain::{CoolDown, PretrainStep};
use selkie_learn::pup::recipe::{Recipe, recipe};

use crate::args::{PretrainArgs, World};
use crate::error::CommandError;
use crate::progress;

/// The loss curve, one JSON object a line.
const CURVE: &str = "loss.jsonl";

/// Steps between two lines of the loss curve.
const CURVE_EVERY: u64 = 10;

/// Trains until done, resuming where a killed run stopped.
pub(crate) fn run(args: &PretrainArgs) -> Result<ExitCode, CommandError> {
    let kind = match args.world {
        World::Facts => selkie_edit::Domain::Passage,
        World::Puzzles => selkie_edit::Domain::Puzzle,
    };
    std::fs::create_dir_all(&args.out).map_err(|error| super::write_error(&args.out, &error))?;
    let cool_down = args.cool_down_at.map(|at| CoolDown { at, steps: args.cool_down });
    let Recipe { mut run, files } = recipe(kind, args.seed, args.steps, cool_down)?;
    let last = run.last_step();
    if run.resume(&args.out)? {
        eprintln!("resumed at step {} of {last}", run.steps_done());
    }
    let curve_path = args.out.join(CURVE);
    let mut curve = Curve::resume(&curve_path, run.steps_done())
        .map_err(|error| super::write_error(&curve_path, &error))?;
    let bar = progress::bar(last);
    while let Some(step) = run.step()? {
        bar.set_position(step.step);
        bar.set_message(format!("loss {:.3}, {:.1} M tokens", step.loss, step.tokens as f64 / 1e6));
        curve.add(&step).map_err(|error| super::write_error(&curve_path, &error))?;
        if step.step % args.checkpoint_every.max(1) == 0 || step.step == last {
            run.checkpoint(&args.out)?;
        }
    }
    bar.finish_and_clear();
    for (name, bytes) in files.into_iter().chain([("model.safetensors".to_owned(), run.export()?)]) {
        let path = args.out.join(name);
        std::fs::write(&path, bytes).map_err(|error| super::write_error(&path, &error))?;
    }
    let digest = selkie_learn::ModelFiles::read(&args.out)?.digest();
    super::print(&format!("{}\nsha256 of the model's files {digest}\n", args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The loss curve's file. Lines after the step that is resumed from are dropped: they will be made again.
struct Curve {
    file: std::fs::File,
    sum: f64,
    steps: u64,
}

impl Curve {
    fn resume(path: &Path, steps_done: u64) -> std::io::Result<Curve> {
        let old = if path.is_file() { std::fs::read_to_string(path)? } else { String::new() };
        let is_before = |line: &&str| {
            serde_json::from_str::<PretrainStep>(line).is_ok_and(|step| step.step <= steps_done)
        };
        let kept: String = old.lines().filter(is_before).map(|line| format!("{line}\n")).collect();
        let mut file = std::fs::File::create(path)?;
        file.write_all(kept.as_bytes())?;
        Ok(Curve { file, sum: 0.0, steps: 0 })
    }

    /// Adds a step; every tenth writes the mean of the last ten.
    fn add(&mut self, step: &PretrainStep) -> std::io::Result<()> {
        self.sum += f64::from(step.loss);
        self.steps += 1;
        if !step.step.is_multiple_of(CURVE_EVERY) {
            return Ok(());
        }
        let mean = PretrainStep { loss: (self.sum / self.steps as f64) as f32, ..*step };
        (self.sum, self.steps) = (0.0, 0);
        serde_json::to_writer(&mut self.file, &mean)?;
        self.file.write_all(b"\n")
    }
}
