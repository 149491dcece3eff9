//! What a ReST-EM run comes to: the numbers that a report shows and a results file keeps.
//!
//! As JSON a number that is not finite becomes `null` and does not read back, so whoever makes a [`Summary`] leaves
//! out what was not measured.

use serde::{Deserialize, Serialize};

/// A run, or several seeds of one, in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Heading: `ReST-EM on puzzles`.
    pub title: String,
    /// What the contexts are, in the plural: `puzzles` or `passages`.
    pub domain: String,
    /// Name and digest of the base model.
    pub model: String,
    /// Name and value of every setting that one needs to repeat the run, in the order to show them.
    pub settings: Vec<(String, String)>,
    /// Seeds of the runs.
    pub seeds: Vec<u64>,
    /// Rounds of sampling, selecting and training.
    pub rounds: u32,
    /// Rewards of the sampled edits, a point a seed and round.
    pub rewards: Vec<RewardPoint>,
    /// Accuracy on held-out contexts, in the order to show it.
    pub rows: Vec<AccuracyRow>,
    /// What the policy chooses, by round.
    pub choices: Vec<Choice>,
    /// What the policy chooses for each kind of context: the same for all, or not.
    pub by_kind: Vec<KindRow>,
    /// What the run cost.
    pub cost: Cost,
    /// What to know before quoting a number, a plain sentence each.
    pub notes: Vec<String>,
}

/// Rewards of the edits that one round of one seed sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewardPoint {
    /// Seed of the run.
    pub seed: u64,
    /// The round, from 1: its edits were written by the policy that the round before trained.
    pub round: u32,
    /// Mean reward of all edits.
    pub mean: f64,
    /// Mean, over contexts, of the reward of the context's best edit.
    pub best: f64,
    /// Edits sampled.
    pub edits: usize,
    /// Of these, refused by the validator.
    pub refused: usize,
    /// Of these, the same as another edit of their context.
    pub duplicates: usize,
}

/// Accuracy under one condition: a line of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccuracyRow {
    /// Stable id. The report's main result compares `untrained` with the highest of `round_1`, `round_2` and so on.
    /// Ids that start with `oracle` are upper bounds, all others are controls.
    pub condition: String,
    /// The condition for people.
    pub label: String,
    /// Share of items that are right, 0 to 1.
    pub share: f64,
    /// Lower end of the 95% interval.
    pub low: f64,
    /// Upper end of the 95% interval.
    pub high: f64,
    /// The share of each seed, in the order of [`Summary::seeds`].
    pub per_seed: Vec<f64>,
    /// Held-out contexts.
    pub contexts: usize,
    /// Items (test inputs or questions) of these contexts.
    pub items: usize,
    /// Share of the facts known before that are still known, 0 to 1; `None` where it was not measured.
    pub kept: Option<f64>,
    /// Wall-clock seconds of the measurement.
    pub seconds: f64,
}

/// How often the edits of each round choose what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// What is chosen: `learning_rate`, `copies`, `tools`, `style`.
    pub name: String,
    /// The values it can have, in the order to show them.
    pub values: Vec<String>,
    /// Share of edits by round and value, 0 to 1; round 0 is the untrained policy. An edit may choose several values
    /// (tools), so the shares of a round need not add up to 1.
    pub rounds: Vec<Vec<f64>>,
}

/// How often the edits for one kind of context choose what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindRow {
    /// The kind of context: a puzzle's type, say.
    pub kind: String,
    /// The round; 0 is the untrained policy.
    pub round: u32,
    /// What is chosen, as in [`Choice::name`].
    pub name: String,
    /// Value and share of edits, 0 to 1. A value that is not listed was not chosen.
    pub values: Vec<(String, f64)>,
}

/// What a run cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Wall-clock seconds in all.
    pub seconds: f64,
    /// Self-edits that were carried out: trained on and measured.
    pub inner_loops: u64,
    /// The same per minute of wall-clock time.
    pub inner_loops_per_minute: f64,
    /// Tokens trained on in inner loops.
    pub training_tokens: u64,
    /// Phase of the run and its seconds.
    pub by_phase: Vec<(String, f64)>,
}
