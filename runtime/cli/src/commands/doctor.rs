//! `selkie doctor`: what selkie needs and finds on this machine, and what to do where something is missing. It changes
//! nothing and asks no network.

use std::path::Path;
use std::process::ExitCode;

use selkie_edit::Domain;
use selkie_learn::{
    Compute, DeviceChoice, LearnError, ModelFiles, NoCuda, Sequence, bundled, cpu_kernels, cpu_threads, score,
};
use selkie_store::{Error, Store};
use selkie_tools::{Death, Limit, ToolError, ToolHost, build, self_test};
use serde::Serialize;

use crate::args::{DoctorArgs, PluginsArgs};
use crate::error::{CommandError, chain};
use crate::settings;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// Something that nothing needs is missing.
    Note,
    /// Something needed does not work.
    Fault,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    state: State,
    found: String,
    /// What to do, unless it is as it should be.
    advice: Option<String>,
}

#[derive(Serialize)]
struct Report {
    /// Whether everything needed works.
    ok: bool,
    version: &'static str,
    lines: Vec<Line>,
}

impl Line {
    fn ok(name: &'static str, found: impl Into<String>) -> Line {
        Line { name, state: State::Ok, found: found.into(), advice: None }
    }

    fn note(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Line {
        Line { name, state: State::Note, found: found.into(), advice: Some(advice.into()) }
    }

    fn fault(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Line {
        Line { name, state: State::Fault, found: found.into(), advice: Some(advice.into()) }
    }

    fn text(&self) -> String {
        let state = match self.state {
            State::Ok => "OK",
            State::Note => "NOTE",
            State::Fault => "FAULT",
        };
        let advice = self.advice.as_ref().map(|advice| format!("\n{:16}{advice}", "")).unwrap_or_default();
        format!("{state:<6}{:<10}{}{advice}\n", self.name, self.found)
    }
}

/// Looks at everything. Exit code 1 when something needed does not work.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, CommandError> {
    let (gpu, compute) = device(args.device.device);
    let mut lines = vec![program(), cpu(), memory(), gpu];
    if let Some(compute) = compute {
        lines.push(Line::ok("device", format!("models are computed on {compute}")));
        lines.push(model("pup-facts", Domain::Passage, &compute));
        lines.push(model("pup-puzzles", Domain::Puzzle, &compute));
    }
    lines.push(tools(&args.plugins));
    lines.extend(attacks(&args.plugins));
    lines.push(home(&settings::home(&args.home)));
    lines.push(plugin_build());
    let ok = lines.iter().all(|line| line.state != State::Fault);
    let report = Report { ok, version: env!("CARGO_PKG_VERSION"), lines };
    match args.json {
        true => super::print_json(&report)?,
        false => super::print(&report.lines.iter().map(Line::text).collect::<String>())?,
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn program() -> Line {
    let cuda = if cfg!(feature = "cuda") { "with" } else { "without" };
    let found = format!("selkie {}, built {cuda} the feature `cuda`", env!("CARGO_PKG_VERSION"));
    match cfg!(debug_assertions) {
        false => Line::ok("program", found),
        true => Line::note(
            "program",
            found + ", unoptimised",
            "build with `--release` for the speed that is measured",
        ),
    }
}

fn cpu() -> Line {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = field(&info, "model name").unwrap_or("of unknown name");
    let cores = std::thread::available_parallelism().map_or_else(|_| "?".to_owned(), |n| n.to_string());
    let found =
        format!("{name}; {cores} logical cores, {} threads, {} kernels", cpu_threads(), cpu_kernels());
    match cpu_kernels() {
        "portable" if cfg!(target_arch = "x86_64") => Line::note(
            "cpu",
            found,
            "this processor has no AVX2 with FMA and F16C: training takes several times as long",
        ),
        _ => Line::ok("cpu", found),
    }
}

fn memory() -> Line {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let gigabytes = |name| -> Option<f64> {
        let kibibytes: f64 = field(&info, name)?.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024.0 / 1e9)
    };
    match (gigabytes("MemTotal"), gigabytes("MemAvailable")) {
        (Some(total), Some(free)) => Line::ok("memory", format!("{free:.1} GB available of {total:.1} GB")),
        _ => Line::ok("memory", "not known on this platform"),
    }
}

/// What follows `name :` in a file of such lines.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// The line about GPUs, and the device that models get; none when the one that was asked for cannot be had.
fn device(choice: DeviceChoice) -> (Line, Option<Compute>) {
    let number = match choice {
        DeviceChoice::Cpu => {
            return (Line::ok("gpu", "not looked for, because of `--device cpu`"), Some(Compute::cpu()));
        }
        DeviceChoice::Auto => 0,
        DeviceChoice::Cuda(number) => number,
    };
    match Compute::cuda(number) {
        Ok(compute) => (Line::ok("gpu", format!("CUDA device {number} computes")), Some(compute)),
        Err(why) => {
            let (found, advice) = no_gpu(&why);
            match choice {
                DeviceChoice::Auto => (Line::note("gpu", found, advice), Some(Compute::cpu())),
                _ => (Line::fault("gpu", format!("`{choice}` cannot be used: {found}"), advice), None),
            }
        }
    }
}

/// What is found and what to do, apart.
fn no_gpu(why: &NoCuda) -> (String, String) {
    let text = why.to_string();
    let (found, advice) = text.split_once(": ").unwrap_or((&text, "ask with `nvidia-smi` what is there"));
    (found.to_owned(), advice.to_owned())
}

/// Opens a bundled model and scores one token.
fn model(name: &'static str, domain: Domain, compute: &Compute) -> Line {
    let files = bundled::files(domain);
    let advice = "try `--device cpu`; if that fails too, the binary is damaged: install it again";
    match first_score(&files, compute) {
        Ok(score) if score.is_finite() => {
            let digest = files.digest();
            Line::ok("model", format!("{name} ({}) opens and computes", digest.get(..12).unwrap_or(&digest)))
        }
        Ok(score) => {
            Line::fault("model", format!("{name} computes {score}, which is no probability"), advice)
        }
        Err(error) => Line::fault("model", format!("{name}: {}", chain(&error)), advice),
    }
}

fn first_score(files: &ModelFiles, compute: &Compute) -> Result<f64, LearnError> {
    let sequence = Sequence { ids: vec![0, 0], positions: vec![0, 1], labelled: vec![false, true] };
    let scores = score(&files.decoder_on(compute)?, None, &[sequence])?;
    Ok(scores.iter().map(|score| score.log_prob).sum())
}

fn tools(args: &PluginsArgs) -> Line {
    match ToolHost::new(settings::host(args)) {
        Ok(host) => {
            let ids: Vec<String> = host.plugins().map(ToString::to_string).collect();
            let tools: usize = host.manifests().map(|manifest| manifest.tools.len()).sum();
            Line::ok("tools", format!("{tools} tools of {}", ids.join(", ")))
        }
        Err(error) => Line::fault(
            "tools",
            chain(&error),
            match &args.plugins {
                Some(folder) => {
                    format!("look at the components of `{}` with `selkie plugin check`", folder.display())
                }
                None => "the binary is damaged: install it again".to_owned(),
            },
        ),
    }
}

/// How long hostile guests live here, one line each.
fn attacks(args: &PluginsArgs) -> Vec<Line> {
    let options = settings::host(args);
    self_test(&options.limits, options.worker.as_ref()).iter().map(attack).collect()
}

fn attack(death: &Death) -> Line {
    let Death { attack, limit, ended, after } = death;
    match ended {
        Some(ToolError::Limit(exceeded)) if exceeded.limit == *limit => {
            let is_shortened = matches!(limit, Limit::DeadlineMs | Limit::CompileMs);
            let max = exceeded.max.to_string() + if is_shortened { ", shortened for this" } else { "" };
            let after = after.as_secs_f64() * 1e3;
            Line::ok("attack", format!("{attack}: ended by {limit} ({max}) after {after:.1} ms"))
        }
        other => {
            let instead = other.as_ref().map_or("it was served".to_owned(), |error| chain(error));
            Line::fault(
                "attack",
                format!("{attack}: the limit {limit} did not end it: {instead}"),
                "use no plugins that you do not trust, and report this with the version and the platform",
            )
        }
    }
}

fn home(folder: &Path) -> Line {
    let shown = folder.display();
    let kept = match Store::read_only(folder) {
        Ok(reader) => match reader.generations() {
            Ok(generations) => format!("{} generations", generations.len()),
            Err(error) => {
                return Line::fault(
                    "home",
                    chain(&error),
                    "restore the folder, or name another with `--home`",
                );
            }
        },
        Err(Error::NoStore { .. }) => "nothing kept yet".to_owned(),
        Err(error) => return Line::fault("home", chain(&error), "name another folder with `--home`"),
    };
    // The nearest folder that exists is where the home would be made. The file has no name, and is gone at once.
    let nearest = folder.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("."));
    match tempfile::tempfile_in(nearest) {
        Ok(_) => Line::ok("home", format!("{shown}: {kept}, writable")),
        Err(error) => Line::fault(
            "home",
            format!("{shown}: {kept}, not writable ({error})"),
            "change its permissions, or name another folder with `--home` or SELKIE_HOME",
        ),
    }
}

fn plugin_build() -> Line {
    match build::toolchain() {
        Ok(toolchain) => Line::ok("plugins", format!("`selkie plugin build` has {toolchain}")),
        Err(error) => {
            let text = chain(&error);
            let (found, advice) =
                text.split_once(": ").unwrap_or((&text, "install Rust from https://rustup.rs"));
            Line::note("plugins", format!("`selkie plugin build` cannot: {found}"), advice)
        }
    }
}
