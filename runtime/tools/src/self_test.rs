//! What the limits are worth on this machine: hostile guests, each run into the limit that it is made for.
//!
//! The guests are in `hostile/`, three kilobytes each but for one; `tests/guests/doctor.rs` has their source.

use std::sync::Arc;
use std::time::{Duration, Instant};

use selkie_edit::{PlannedCall, TextSource, ToolKind};

use crate::compile::Compiler;
use crate::error::ToolError;
use crate::host::{HostOptions, ToolHost};
use crate::laws::sample_tasks;
use crate::limits::{Limit, Limits};
use crate::model::{Completion, Grants, HostModel, Likelihood, ModelBudget, ModelError};
use crate::worker::Worker;

/// The deadline of the guests that are to meet it. With the usual one nobody would wait for the result.
const DEADLINE: Duration = Duration::from_millis(200);

/// The time that the compiler gets for [`SLOW`], in place of the usual one.
const COMPILE: Duration = Duration::from_millis(500);

/// Compiles for some seconds: a thousand loops in one another, and a thousand variables.
const SLOW: &[u8] = include_bytes!("../hostile/slow_to_compile.wasm");

/// An attack, and how it ended.
#[derive(Debug)]
pub struct Death {
    /// What the guest does, in a few words.
    pub attack: &'static str,
    /// The limit that must end it.
    pub limit: Limit,
    /// What ended it; nothing, when it was served.
    pub ended: Option<ToolError>,
    /// How long it lived.
    pub after: Duration,
}

impl Death {
    /// Whether the limit ended it that must.
    pub fn is_by_its_limit(&self) -> bool {
        matches!(&self.ended, Some(ToolError::Limit(exceeded)) if exceeded.limit == self.limit)
    }
}

struct Attack {
    name: &'static str,
    guest: &'static [u8],
    limit: Limit,
}

macro_rules! attack {
    ($name:literal, $guest:literal, $limit:ident) => {
        Attack {
            name: $name,
            guest: include_bytes!(concat!("../hostile/", $guest, ".wasm")),
            limit: Limit::$limit,
        }
    };
}

const ATTACKS: [Attack; 14] = [
    attack!("an endless loop", "spin", Fuel),
    attack!("an endless loop that fuel does not see", "spin", DeadlineMs),
    attack!("an endless loop in `describe`", "describe_spin", Fuel),
    attack!("waiting for a host model that does not answer", "ask", DeadlineMs),
    attack!("growing a memory", "grow_memory", MemoryBytes),
    attack!("growing a table", "grow_table", MemoryBytes),
    attack!("many instances", "instances", Instances),
    attack!("many memories", "memories", Memories),
    attack!("many tables", "tables", Tables),
    attack!("endless recursion", "recurse", StackBytes),
    attack!("a flood of tasks", "flood_tasks", OutputItems),
    attack!("a flood of bytes", "flood_bytes", OutputBytes),
    attack!("a flood of log", "flood_log", LogBytes),
    attack!("a flood of manifest", "describe_flood", ManifestBytes),
];

/// Runs the hostile guests against these limits, in about two seconds. The deadlines alone are shorter than these;
/// the one of the compiler is tried where there is a worker. A guest that is not ended by its limit is a fault of the
/// host or of the machine.
pub fn self_test(limits: &Limits, worker: Option<&Worker>) -> Vec<Death> {
    let mut deaths: Vec<Death> = ATTACKS.iter().map(|attack| attack.run(limits)).collect();
    deaths.push(oversize(limits));
    deaths.extend(worker.map(|worker| slow_to_compile(limits, worker)));
    deaths
}

impl Attack {
    fn run(&self, limits: &Limits) -> Death {
        let limits = match self.limit {
            Limit::DeadlineMs => Limits { call_fuel: u64::MAX >> 4, deadline: DEADLINE, ..limits.clone() },
            _ => limits.clone(),
        };
        let (mut start, mut ended) = (Instant::now(), None);
        match ToolHost::of_components([(self.name, self.guest)], limits).and_then(granted) {
            Err(error) => ended = Some(error),
            Ok(host) => {
                start = Instant::now();
                for tool in host.catalogue().iter() {
                    let (name, plugin) = (tool.name.clone(), tool.plugin.clone());
                    let call = PlannedCall { tool: name, plugin, params: "{}".into(), seed: 0 };
                    ended = call_error(&host, &call, tool.kind);
                }
            }
        }
        Death { attack: self.name, limit: self.limit, ended, after: start.elapsed() }
    }
}

/// The host model for the guest that asks for it.
fn granted(host: ToolHost) -> Result<ToolHost, ToolError> {
    let asks = host.manifests().find(|manifest| !manifest.asks.is_empty()).map(|asks| asks.name.clone());
    let grants = Grants::of(Arc::new(Silent));
    match asks {
        Some(name) => host.with_grants(grants.with(name, ModelBudget::default())),
        None => Ok(host),
    }
}

fn call_error(host: &ToolHost, call: &PlannedCall, kind: ToolKind) -> Option<ToolError> {
    match kind {
        ToolKind::TextAugmenter => {
            let source = TextSource { title: String::new(), text: String::new(), completions: Vec::new() };
            host.write(call, &[source]).err()
        }
        ToolKind::PuzzleAugmenter | ToolKind::Grader => host.augment(call, &sample_tasks(1, 0)).err(),
    }
}

/// Bytes that nobody looks at, one more than a component may have.
fn oversize(limits: &Limits) -> Death {
    let bytes = vec![0; limits.component_bytes.saturating_add(1)];
    let start = Instant::now();
    let ended = ToolHost::of_components([("oversize", bytes.as_slice())], limits.clone()).err();
    Death { attack: "an oversize component", limit: Limit::ComponentBytes, ended, after: start.elapsed() }
}

/// Small, valid, and more than the compiler can do in the time.
fn slow_to_compile(limits: &Limits, worker: &Worker) -> Death {
    let options = HostOptions {
        worker: Some(worker.clone()),
        limits: Limits { compile: COMPILE, ..limits.clone() },
        ..HostOptions::new(None)
    };
    let start = Instant::now();
    let attack = "a component that takes long to compile";
    let ended = Compiler::new(&options).and_then(|compiler| compiler.component(attack, SLOW)).err();
    Death { attack, limit: Limit::CompileMs, ended, after: start.elapsed() }
}

/// A host model that does not answer in time.
struct Silent;

impl Silent {
    fn wait<T>(until: Instant) -> Result<T, ModelError> {
        let left = until.saturating_duration_since(Instant::now());
        std::thread::sleep(left + DEADLINE);
        Err(ModelError::Failed("nobody listens any more".into()))
    }
}

impl HostModel for Silent {
    fn log_likelihood(&self, _: &str, _: &str, until: Instant) -> Result<Likelihood, ModelError> {
        Silent::wait(until)
    }

    fn complete(&self, _: &str, _: u32, until: Instant) -> Result<Completion, ModelError> {
        Silent::wait(until)
    }
}
