//! The report of a step as one JSON document: the wire twin of [`Outcome`]. Its schema is
//! `schemas/adapt-report.v1.json`.

use schemars::JsonSchema;
use selkie_edit::{Answer, Context, Dialect, Report, ToolRun, Verdict};
use serde::Serialize;

use crate::runtime::Runtime;
use crate::step::Outcome;

/// What `selkie adapt --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "Selkie adapt report, version 1")]
pub struct AdaptReport {
    /// Version of this form: 1.
    pub version: u32,
    /// The puzzle's id or the passage's title.
    pub task: String,
    /// The base model's name.
    pub model: String,
    /// SHA-256 of the base model's files.
    pub model_digest: String,
    /// The seed.
    pub seed: u64,
    /// The self-edit as written.
    pub self_edit: String,
    /// The form it was written in.
    pub dialect: Dialect,
    /// The tools that ran, in order of first use; empty for a passage.
    pub tools: Vec<ToolReport>,
    /// How training went.
    pub training: TrainingReport,
    /// The model before.
    pub before: ScoreReport,
    /// The candidate.
    pub after: ScoreReport,
    /// Whether the candidate is active now.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub reason: String,
    /// The new generation; null when the candidate was discarded.
    pub generation: Option<String>,
}

/// What one tool did.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ToolReport {
    /// Full name.
    pub tool: String,
    /// Plugin and version.
    pub plugin: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// Batches it was called with.
    pub calls: u64,
    /// Tasks it returned.
    pub items: u64,
    /// Fuel it used; the same for the same input and seed.
    pub fuel: u64,
}

/// How training went.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TrainingReport {
    /// Sequences in the training set.
    pub examples: u64,
    /// Tokens processed, over all epochs.
    pub tokens: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Mean loss (nats a token) of the first step.
    pub loss_first: Option<f64>,
    /// Mean loss of the last step.
    pub loss_last: Option<f64>,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// SHA-256 of the training set.
    pub data_digest: String,
}

/// How a model did.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ScoreReport {
    /// Whether every item is solved: score is 1.
    pub solved: bool,
    /// The share of items solved, 0 to 1.
    pub score: f64,
    /// Mean log-probability (nats a token) of the expected answers; null when it is not finite.
    pub log_prob: Option<f64>,
    /// What the model answers, one entry an item: rows of a grid, or text.
    #[schemars(with = "Vec<AnswerSchema>")]
    pub prediction: Vec<Answer>,
}

/// A grid as rows of colours, or text.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum AnswerSchema {
    Grid(Vec<Vec<u8>>),
    Text(String),
}

impl AdaptReport {
    /// The report of a step.
    pub fn new(runtime: &Runtime, context: &Context, seed: u64, outcome: &Outcome) -> AdaptReport {
        let training = &outcome.training;
        AdaptReport {
            version: 1,
            task: context.name().to_owned(),
            model: runtime.model.profile().name.clone(),
            model_digest: runtime.model.digest().to_owned(),
            seed,
            self_edit: outcome.edit_text.clone(),
            dialect: outcome.edit.dialect,
            tools: outcome.tools.runs.iter().map(ToolReport::from).collect(),
            training: TrainingReport {
                examples: training.examples,
                tokens: training.tokens,
                steps: training.losses.len() as u64,
                loss_first: training.losses.first().copied().filter(|loss| loss.is_finite()),
                loss_last: training.losses.last().copied().filter(|loss| loss.is_finite()),
                seconds: training.seconds,
                data_digest: outcome.data_digest.clone(),
            },
            before: ScoreReport::from(&outcome.before),
            after: ScoreReport::from(&outcome.after),
            verdict: outcome.decision.verdict,
            reason: outcome.decision.reason.clone(),
            generation: outcome.generation.map(|generation| generation.to_string()),
        }
    }
}

impl From<&ToolRun> for ToolReport {
    fn from(run: &ToolRun) -> ToolReport {
        ToolReport {
            tool: run.tool.clone(),
            plugin: run.plugin.to_string(),
            digest: run.plugin.digest.clone(),
            calls: run.calls,
            items: run.items,
            fuel: run.fuel,
        }
    }
}

impl From<&Report> for ScoreReport {
    fn from(report: &Report) -> ScoreReport {
        ScoreReport {
            solved: report.solved(),
            score: report.score(),
            log_prob: Some(report.log_prob()).filter(|log_prob| log_prob.is_finite()),
            prediction: report.items.iter().map(|item| item.prediction.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/adapt-report.v1.json");
        let schema = schemars::schema_for!(AdaptReport);
        let text = serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
        if std::env::var_os("SELKIE_UPDATE").is_some() {
            std::fs::write(path, &text).expect("the schema file");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == text, "{path} is not what the types say; run the tests with SELKIE_UPDATE=1");
    }
}
