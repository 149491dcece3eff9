//! What tools use of each budget, and how long a batch takes.

use std::collections::HashSet;
use std::time::Instant;

use selkie_edit::derive_seed;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{AuthorError, Case, Opened};
use crate::call::{Done, Usage};
use crate::error::ToolError;
use crate::laws::{Items, sample_items, sample_params};
use crate::limits::{BATCH_BYTES_MAX, Limit, Limits, MODEL_CALLS_MAX, MODEL_TOKENS_MAX};
use crate::work::Batch;

/// Percent of a budget above which an author should look: twice the work would not fit.
pub const WARN_PERCENT: f64 = 50.0;

/// Sets of parameters that are drawn for each tool. Defaults come often.
const PARAMS_DRAWN: usize = 64;

/// How many different ones of them are tried.
const PARAMS_TRIED: usize = 8;

/// What the tools of a plugin use.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// Its tools, in the manifest's order.
    pub tools: Vec<ToolBench>,
}

/// What one tool uses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolBench {
    /// Its full name.
    pub tool: String,
    /// Its most expensive batch; none when no batch came to an answer.
    pub measured: Option<Measured>,
    /// Batches that failed. If all did, they were tried again with half of their items, until one came to an answer.
    pub failed: usize,
    /// The first failure: how many items there were, and why.
    pub error: Option<String>,
}

/// A batch, measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Tasks, sources or submissions in it.
    pub items: usize,
    /// The parameters, a JSON object's text.
    pub params: String,
    /// What it used of each budget, the most of all batches.
    pub budgets: Vec<BudgetUse>,
    /// Milliseconds of wall time that the batch takes: the median.
    pub milliseconds: f64,
    /// How often that was measured.
    pub repeats: u16,
}

/// A budget, and what was used of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetUse {
    /// Which.
    pub limit: Limit,
    /// Used.
    pub used: u64,
    /// Allowed.
    pub max: u64,
    /// The share that was used.
    pub percent: f64,
}

impl BenchReport {
    /// Budgets of which more than so many percent were used, by tool. A tool that met a limit is over any.
    pub fn over(&self, percent: f64) -> impl Iterator<Item = (&str, Option<&BudgetUse>)> {
        self.tools.iter().flat_map(move |tool| {
            let budgets = tool.measured.iter().flat_map(|measured| &measured.budgets);
            let over = budgets.filter(move |budget| budget.percent > percent).map(Some);
            let failed = (tool.error.is_some()).then_some(None);
            over.chain(failed).map(|budget| (tool.tool.as_str(), budget))
        })
    }
}

/// One batch that is to be measured.
struct Trial {
    params: String,
    seed: u64,
    items: Items,
}

/// Measures every tool on generated batches as large as the host's, with generated parameters. The same seed makes
/// the same batches.
///
/// # Errors
/// None that [`Opened::with_stand_in`] does not have: a batch that fails is part of the report.
pub fn bench(opened: Opened, repeats: u16, seed: u64) -> Result<BenchReport, AuthorError> {
    let opened = opened.with_stand_in()?;
    let (items, tools) = (opened.host.limits().batch_items, opened.manifest.tools.clone());
    let trials = tools.iter().map(|tool| {
        let seed = derive_seed(seed, &tool.name);
        let work = first_batch(&sample_items(tool.kind, tool.takes, items, seed), items);
        let mut params = sample_params(&tool.params, PARAMS_DRAWN, seed);
        let mut known = HashSet::new();
        params.retain(|params| known.insert(params.to_string()));
        params.truncate(PARAMS_TRIED);
        if params.is_empty() {
            params.push(Value::Object(Map::new()));
        }
        let trial = |params: Value| Trial { params: params.to_string(), seed, items: work.clone() };
        (tool.name.clone(), params.into_iter().map(trial).collect())
    });
    Ok(report(&opened, trials.collect(), repeats))
}

/// Measures every tool on the cases that are about it.
///
/// # Errors
/// As [`bench`].
pub fn bench_cases(opened: Opened, cases: &[Case], repeats: u16) -> Result<BenchReport, AuthorError> {
    let opened = opened.with_stand_in()?;
    let trials = opened.manifest.tools.iter().map(|tool| {
        // A refusal is no work.
        let own = cases.iter().filter(|case| case.tool == tool.name && case.expects_answer());
        let trial =
            |case: &Case| Trial { params: case.params.clone(), seed: case.seed, items: case.items.clone() };
        (tool.name.clone(), own.map(trial).collect())
    });
    Ok(report(&opened, trials.collect(), repeats))
}

/// What the host would send at once.
fn first_batch(items: &Items, items_max: usize) -> Items {
    let batches = items.work().batches(items_max, BATCH_BYTES_MAX);
    batches.first().map_or_else(|| items.clone(), |work| Items::of(*work))
}

fn report(opened: &Opened, trials: Vec<(String, Vec<Trial>)>, repeats: u16) -> BenchReport {
    let tools = trials.into_iter().map(|(tool, trials)| measure(opened, tool, trials, repeats)).collect();
    BenchReport { plugin: opened.plugin.name.clone(), version: opened.plugin.version.clone(), tools }
}

/// All trials; and where none comes to an answer, again with half of their items.
fn measure(opened: &Opened, tool: String, mut trials: Vec<Trial>, repeats: u16) -> ToolBench {
    let (mut failed, mut error) = (0, None);
    loop {
        let (mut peak, mut worst) = (Usage::default(), None);
        for trial in &trials {
            match trial.run(opened, &tool) {
                Ok(Done { usage, .. }) => {
                    peak = peak.max(usage);
                    worst = worst.filter(|(fuel, _)| *fuel >= usage.fuel).or(Some((usage.fuel, trial)));
                }
                Err(failure) => {
                    failed += 1;
                    error.get_or_insert(format!("{} items: {failure}", trial.items.len()));
                }
            }
        }
        let measured = worst.map(|(_, trial)| Measured {
            items: trial.items.len(),
            params: trial.params.clone(),
            budgets: budgets(&peak, opened.host.limits()),
            milliseconds: trial.milliseconds(opened, &tool, repeats),
            repeats,
        });
        let more = trials.iter().map(|trial| trial.items.len()).max().unwrap_or(0);
        if measured.is_some() || more <= 1 {
            return ToolBench { tool, measured, failed, error };
        }
        for trial in &mut trials {
            trial.items = first_batch(&trial.items, trial.items.len().div_ceil(2));
        }
    }
}

impl Trial {
    fn run(&self, opened: &Opened, tool: &str) -> Result<Done, ToolError> {
        let Trial { params, seed, items } = self;
        opened.host.once(&opened.plugin, &Batch { tool, params, seed: *seed, work: items.work() })
    }

    /// The median of so many runs of a trial that comes to an answer.
    fn milliseconds(&self, opened: &Opened, tool: &str, repeats: u16) -> f64 {
        let time = |_| {
            let start = Instant::now();
            let _ = self.run(opened, tool);
            start.elapsed().as_secs_f64() * 1000.0
        };
        let mut times: Vec<f64> = (0..repeats).map(time).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn budgets(used: &Usage, limits: &Limits) -> Vec<BudgetUse> {
    let all = [
        (Limit::Fuel, used.fuel, limits.call_fuel),
        (Limit::MemoryBytes, used.memory_bytes, limits.memory_bytes as u64),
        (Limit::OutputItems, used.output_items, limits.output_items as u64),
        (Limit::LogBytes, used.log_bytes, limits.log_bytes as u64),
        (Limit::ModelCalls, used.model_calls, MODEL_CALLS_MAX.into()),
        (Limit::ModelTokens, used.model_tokens, MODEL_TOKENS_MAX.into()),
    ];
    let percent = |used: u64, max: u64| used as f64 * 100.0 / max.max(1) as f64;
    all.map(|(limit, used, max)| BudgetUse { limit, used, max, percent: percent(used, max) }).into()
}
