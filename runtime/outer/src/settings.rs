//! Everything that decides what a run does: written to its ledger, and compared when it goes on.

use selkie_edit::{Domain, Training};
use selkie_engine::Runtime;
use serde::{Deserialize, Serialize};

use crate::given::{FIXED_PUZZLE, FIXED_SEAL};
use crate::presets::{Cloning, Preset, Winners};
use crate::subject::{Contexts, Subject};

/// The settings of a run. Two runs with the same settings do the same, to the byte on one kind of processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Puzzles or passages.
    pub domain: Domain,
    /// What the base model is called.
    pub model_name: String,
    /// SHA-256 of the base model's files.
    pub model: String,
    /// SHA-256 of every loaded plugin.
    pub plugins: Vec<String>,
    /// SHA-256 of every context that edits are tried on and learned from, in order.
    pub training_contexts: Vec<String>,
    /// SHA-256 of every context that no selection touches.
    pub held_out: Vec<String>,
    /// What their rules are tied to, one a held-out context; empty where nobody knows.
    pub kinds: Vec<String>,
    /// SHA-256 of a policy that was given to be compared too.
    pub policy: Option<String>,
    /// Each is a whole run of its own: draws, inner loops and policies.
    pub seeds: Vec<u64>,
    /// Rounds of drawing, trying and imitating.
    pub rounds: u32,
    /// Self-edits that are drawn for each context in a round.
    pub samples: usize,
    /// Trainings of each self-edit, which differ in their seed.
    pub repeats: usize,
    /// How self-edits are drawn.
    pub drawing: Drawing,
    /// What an edit's training settings are when it does not say.
    pub training: Training,
    /// How the policy imitates the edits that helped.
    pub cloning: Cloning,
    /// Which edits it imitates.
    pub winners: Winners,
    /// Of one context at most so many.
    pub winners_per_context: usize,
    /// What is asked before an edit is tried in full.
    pub proxy: Proxy,
    /// The share of the edits that are tried in full, where there is a proxy.
    pub survivors: f64,
    /// What a person would choose, for the conditions whose edits no policy writes.
    pub given: Given,
    /// What a lost fact costs: the reward is the share of items solved minus this times the share of known facts
    /// that were forgotten.
    pub retention: f64,
    /// Adapters that train together.
    pub lanes: usize,
    /// How policies are compared.
    pub evaluation: Evaluation,
}

/// What a person would choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The self-edit for every puzzle.
    pub puzzle: String,
    /// Documents of what was known that a passage's edit replays.
    pub replay: u32,
}

/// How self-edits are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drawing {
    /// Logits are divided by it.
    pub temperature: f64,
    /// Share of the probability that the tokens to choose from have.
    pub top_p: f64,
    /// New tokens at most.
    pub tokens: usize,
}

/// What stands in for the reward at first: successive halving.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proxy {
    /// Nothing: every edit is tried in full.
    None,
    /// A quarter of the epochs with one seed, judged by the log-probability of the answers.
    Short,
    /// A grader of self-edits, by its tool's name. For passages.
    Grader(String),
}

/// How policies are compared on the held-out contexts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// What is measured, in the order of the table.
    pub conditions: Vec<Condition>,
    /// Self-edits that are drawn for each context and policy.
    pub samples: usize,
    /// Trainings of each of them.
    pub repeats: usize,
    /// Views of a puzzle's test that vote for its answer; 1 is one prediction.
    pub votes: usize,
    /// Untrained self-edits whose answers vote in [`Condition::Matched`].
    pub matched: usize,
    /// Passages that are learned at once, from one self-edit each, and asked about together; 1 is one at a time.
    pub together: usize,
    /// Whether greedy decoding is run on every item beside the forward pass, and disagreements are counted.
    pub check_decoding: bool,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The base model, asked as it is asked after an edit.
    NoEdit,
    /// The base model with the demonstrations or the passage in front of it.
    InContext,
    /// The passage as one document.
    Raw,
    /// The passage sentence by sentence.
    RawSentences,
    /// What the passage says of each of its entities, one document an entity.
    RawEntities,
    /// Self-edits of the base model.
    Untrained,
    /// Self-edits of the policy after each round.
    Rounds,
    /// Self-edits of a policy that imitated every edit of the first round, good or bad.
    Unfiltered,
    /// One edit that a person chose, for every context.
    Fixed,
    /// One edit for each kind of rule, chosen by a person who knows the kind.
    ByKind,
    /// As many untrained self-edits as fit the cost of the outer loop, and their answers' majority.
    Matched,
}

impl Condition {
    /// The name in keys and tables.
    pub fn id(self) -> &'static str {
        match self {
            Condition::NoEdit => "no_edit",
            Condition::InContext => "in_context",
            Condition::Raw => "raw",
            Condition::RawSentences => "raw_sentences",
            Condition::RawEntities => "raw_entities",
            Condition::Untrained => "untrained",
            Condition::Rounds => "rounds",
            Condition::Unfiltered => "unfiltered",
            Condition::Fixed => "fixed",
            Condition::ByKind => "by_kind",
            Condition::Matched => "matched",
        }
    }

    /// What it is, for people.
    pub fn label(self) -> &'static str {
        match self {
            Condition::NoEdit => "no edit",
            Condition::InContext => "in context, no training",
            Condition::Raw => "raw passage, one document",
            Condition::RawSentences => "raw passage by sentence",
            Condition::RawEntities => "raw passage by entity",
            Condition::Untrained => "untrained self-edits",
            Condition::Rounds => "self-edits after the round",
            Condition::Unfiltered => "imitated all edits unfiltered",
            Condition::Fixed => "fixed human edit",
            Condition::ByKind => "human edit for each kind of rule",
            Condition::Matched => "untrained, majority at equal cost",
        }
    }
}

impl Settings {
    /// The settings of a preset for a model and contexts. Presets of real models compare fewer things: nobody knows
    /// their facts or their rules' kinds.
    pub fn of(preset: &Preset, runtime: &Runtime, contexts: &Contexts, seeds: Vec<u64>) -> Settings {
        let is_pup = preset.name.starts_with("pup/");
        Settings {
            domain: preset.domain,
            model_name: runtime.model.profile().name.clone(),
            model: runtime.model.digest().to_owned(),
            plugins: runtime.host.plugins().map(|plugin| plugin.digest.clone()).collect(),
            training_contexts: contexts.training.iter().map(Subject::digest).collect(),
            held_out: contexts.held_out.iter().map(Subject::digest).collect(),
            kinds: contexts.held_out.iter().filter_map(|subject| subject.kind.clone()).collect(),
            policy: None,
            seeds,
            rounds: preset.rounds,
            samples: preset.samples,
            repeats: preset.repeats,
            drawing: Drawing {
                temperature: preset.temperature,
                top_p: preset.top_p,
                tokens: preset.edit_tokens,
            },
            training: preset.training.clone(),
            cloning: preset.clone.clone(),
            winners: preset.winners,
            winners_per_context: if is_pup { 2 } else { usize::MAX },
            proxy: Proxy::None,
            survivors: 0.5,
            given: Given {
                puzzle: if is_pup { FIXED_PUZZLE } else { FIXED_SEAL }.to_owned(),
                replay: if is_pup { 48 } else { 0 },
            },
            retention: if is_pup { 1.5 } else { 0.0 },
            lanes: LANES,
            evaluation: Evaluation {
                conditions: conditions(preset.domain, is_pup),
                samples: preset.evaluation_samples,
                repeats: 1,
                votes: 1,
                matched: 0,
                together: 1,
                check_decoding: false,
            },
        }
    }
}

/// Adapters that train together: on two cores more gain nothing.
const LANES: usize = 4;

fn conditions(domain: Domain, is_pup: bool) -> Vec<Condition> {
    use Condition::{
        ByKind, Fixed, InContext, NoEdit, Raw, RawEntities, RawSentences, Rounds, Unfiltered, Untrained,
    };
    match (domain, is_pup) {
        (Domain::Puzzle, true) => vec![NoEdit, InContext, Untrained, Rounds, Unfiltered, Fixed, ByKind],
        (Domain::Puzzle, false) => vec![InContext, Untrained, Rounds, Unfiltered, Fixed],
        (Domain::Passage, true) => {
            vec![NoEdit, InContext, Raw, RawSentences, RawEntities, Untrained, Rounds, Unfiltered, Fixed]
        }
        (Domain::Passage, false) => vec![NoEdit, Raw, RawSentences, Untrained, Rounds, Unfiltered],
    }
}
