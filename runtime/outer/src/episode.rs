//! What the ledger keeps of one self-edit that was tried.

use std::collections::BTreeMap;

use selkie_edit::{Domain, LossOn, SelfEdit};
use serde::{Deserialize, Serialize};

use crate::reward::Measured;

/// One inner loop, or what came of an edit instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The self-edit as it was written.
    pub edit: String,
    /// What it chose, by the name of the choice; nothing of an edit that was refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub choices: BTreeMap<String, String>,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a self-edit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was trained on and measured.
    Measured(Measured),
    /// It was refused, or its training diverged: worth nothing.
    Refused {
        /// Why.
        reason: String,
    },
    /// It makes the same training as an earlier edit of the context, whose reward is its own.
    Duplicate {
        /// That edit.
        of: usize,
    },
    /// The proxy put it behind the others; it was not tried in full.
    Dropped {
        /// What the proxy said.
        proxy: f64,
    },
}

impl Episode {
    /// The measurement, where there is one.
    pub fn measured(&self) -> Option<&Measured> {
        match &self.outcome {
            Outcome::Measured(measured) => Some(measured),
            _ => None,
        }
    }
}

/// What an edit chose, in few words: for tables of what a policy has learned.
pub(crate) fn choices(edit: &SelfEdit, domain: Domain) -> BTreeMap<String, String> {
    let training = &edit.training;
    let mut chosen = BTreeMap::from([
        ("learning_rate".to_owned(), training.learning_rate.to_string()),
        ("epochs".to_owned(), training.epochs.to_string()),
    ]);
    let mut put = |name: &str, value: String| chosen.insert(name.to_owned(), value);
    match domain {
        Domain::Puzzle => {
            put("tools", tools(edit));
            put("copies", edit.permute.copies.to_string());
            put("colors", edit.permute.colors.to_string());
            let loss_on = match training.loss_on {
                LossOn::FinalOutput => "final_output",
                LossOn::AllOutputs => "all_outputs",
                LossOn::AllTokens => "all_tokens",
            };
            put("loss_on", loss_on.to_owned());
        }
        Domain::Passage => {
            put("documents", documents(&edit.documents));
            put("include_source", edit.include_source.to_string());
            put("replay", edit.replay.to_string());
        }
    }
    chosen
}

/// None, turns and flips alone, or others too.
fn tools(edit: &SelfEdit) -> String {
    const TURNS: [&str; 3] = ["grid.rotate", "grid.flip", "grid.transpose"];
    let called: Vec<&str> = edit.pipelines.iter().flatten().map(|call| call.tool.as_str()).collect();
    let name = match called.as_slice() {
        [] => "none",
        called if called.iter().all(|tool| TURNS.contains(tool)) => "turns and flips",
        _ => "others",
    };
    name.to_owned()
}

/// What most of the documents are.
fn documents(documents: &[String]) -> String {
    let kind = |text: &String| match text {
        text if text.contains("Answer:") => "questions",
        text if text.ends_with(';') => "ledger entries",
        text if text.matches('.').count() > 1 => "rewrites",
        _ => "statements",
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    documents.iter().for_each(|text| *counts.entry(kind(text)).or_default() += 1);
    let most = counts.iter().max_by_key(|(_, count)| **count);
    match (most, counts.len()) {
        (None, _) => "none".to_owned(),
        (Some((kind, _)), 1) => (*kind).to_owned(),
        (Some(_), _) => "mixed".to_owned(),
    }
}
