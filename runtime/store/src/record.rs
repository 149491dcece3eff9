//! What the ledger remembers of an episode: enough to understand it, and to do it again.
//!
//! [`Record`], [`Trial`] and [`Refusal`] are the ledger's wire form (JSON columns), separate from the types of
//! `selkie_edit` that they are made from. A field that is added later needs `#[serde(default)]`.

use selkie_edit::{Answer, Dialect, Domain, PluginId, Problem, Report, ToolRun, Training, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{ContentId, EntryId, GenerationId};

/// What was attempted: known before anything is trained. The base model's digest and the parent come from
/// the transaction, the adapter from the candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When, in milliseconds since 1970. The store has no clock of its own.
    pub time_ms: i64,
    /// The base model's name, for people.
    pub model: String,
    /// What the model adapts to.
    pub context: ContextRecord,
    /// The self-edit.
    pub edit: EditRecord,
    /// The seed of everything random.
    pub seed: u64,
    /// What else a replay needs, in the caller's own form.
    pub options: Value,
}

/// A context, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextRecord {
    /// Puzzle or passage.
    pub domain: Domain,
    /// The puzzle's id or the passage's title.
    pub name: String,
    /// All of it, in the form that it is read from.
    pub content: Value,
}

/// A self-edit as it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EditRecord {
    /// The text, before any parsing.
    pub text: String,
    /// The form that it was recognised as, if any.
    pub dialect: Option<Dialect>,
}

/// What came of an accepted edit: everything between the plan and the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The plugins that were loaded for it.
    pub plugins: Vec<PluginId>,
    /// What the tools did, in order of first use.
    pub tools: Vec<ToolRecord>,
    /// Digest of the training set, as trained on.
    pub data_digest: String,
    /// How it was trained.
    pub training: TrainingRecord,
    /// The parent on this context.
    pub before: Scores,
    /// The candidate on this context.
    pub after: Scores,
}

/// What one tool did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRecord {
    /// The tool's full name.
    pub tool: String,
    /// The component that ran.
    pub plugin: PluginId,
    /// Batches it was called with.
    pub calls: u64,
    /// Items it returned.
    pub items: u64,
    /// Fuel it used.
    pub fuel: u64,
}

/// The settings of a training and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// The settings, defaults filled in.
    pub settings: Training,
    /// Sequences in the training set.
    pub examples: u64,
    /// Tokens processed, over all epochs.
    pub tokens: u64,
    /// The loss of every optimiser step, so that a replay can name the first that differs.
    #[serde(with = "number::list")]
    pub losses: Vec<f64>,
    /// Wall-clock seconds. The only field that a replay does not compare.
    #[serde(with = "number")]
    pub seconds: f64,
}

/// How a model did on a context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The share of items solved, 0..=1.
    #[serde(with = "number")]
    pub score: f64,
    /// Whether every item is solved.
    pub solved: bool,
    /// Mean log-probability of the expected answers. Not finite where a training diverged.
    #[serde(with = "number")]
    pub log_prob: f64,
    /// One entry a test grid or question.
    pub items: Vec<Item>,
}

/// How a model did on one item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The question, or `test 0` of a puzzle.
    pub item: String,
    /// Whether the prediction is exactly what was expected.
    pub solved: bool,
    /// Mean log-probability of the expected answer.
    #[serde(with = "number")]
    pub log_prob: f64,
    /// What greedy decoding gives.
    pub prediction: Answer,
    /// What was expected.
    pub expected: Answer,
}

/// Why an edit came to nothing before an adapter existed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// In one sentence.
    pub reason: String,
    /// What is wrong with the edit, if it is the edit.
    pub problems: Vec<Problem>,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// Digest of the base model that it is about.
    pub base_digest: String,
    /// What happened.
    pub event: Event,
}

/// What a row of the ledger says.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A self-edit was tried.
    Episode(Box<Episode>),
    /// The active pointer was moved by hand.
    Rollback(Rollback),
}

/// A self-edit that was tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// What was active; `None` is the base model itself. The training started from it, unless the options say
    /// `fresh`.
    pub parent: Option<GenerationId>,
    /// What was attempted.
    pub record: Record,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an episode.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It became a generation, and the active one.
    Kept {
        /// The generation.
        generation: GenerationId,
        /// Its adapter.
        adapter: ContentId,
        /// How it went.
        trial: Trial,
    },
    /// It was dropped.
    Discarded {
        /// The adapter that was trained and is gone: a replay must arrive at it again.
        adapter: ContentId,
        /// How it went.
        trial: Trial,
    },
    /// No adapter was trained.
    Refused(Refusal),
}

/// A move of the active pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// What was active; `None` is the base model itself.
    pub from: Option<GenerationId>,
    /// What is active since.
    pub to: Option<GenerationId>,
}

/// A kept adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its name.
    pub id: GenerationId,
    /// The ledger row that made it.
    pub entry: EntryId,
    /// Digest of the base model that it adapts.
    pub base_digest: String,
    /// What was active when it was made; `None` is the base model itself.
    pub parent: Option<GenerationId>,
    /// Its adapter.
    pub adapter: ContentId,
}

impl Entry {
    /// When it happened, in milliseconds since 1970.
    pub fn time_ms(&self) -> i64 {
        match &self.event {
            Event::Episode(episode) => episode.record.time_ms,
            Event::Rollback(rollback) => rollback.time_ms,
        }
    }

    /// The episode, where it is one.
    pub fn episode(&self) -> Option<&Episode> {
        match &self.event {
            Event::Episode(episode) => Some(episode),
            Event::Rollback(_) => None,
        }
    }
}

impl Outcome {
    /// The verdict, where there was something to judge.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Outcome::Kept { .. } => Some(Verdict::Kept),
            Outcome::Discarded { .. } => Some(Verdict::Discarded),
            Outcome::Refused(_) => None,
        }
    }

    /// How the training went, where there was one.
    pub fn trial(&self) -> Option<&Trial> {
        match self {
            Outcome::Kept { trial, .. } | Outcome::Discarded { trial, .. } => Some(trial),
            Outcome::Refused(_) => None,
        }
    }
}

impl From<&ToolRun> for ToolRecord {
    fn from(run: &ToolRun) -> ToolRecord {
        let ToolRun { tool, plugin, calls, items, fuel } = run.clone();
        ToolRecord { tool, plugin, calls, items, fuel }
    }
}

impl From<&Report> for Scores {
    fn from(report: &Report) -> Scores {
        let items = report.items.iter().map(|item| Item {
            item: item.item.clone(),
            solved: item.solved,
            log_prob: item.log_prob,
            prediction: item.prediction.clone(),
            expected: item.expected.clone(),
        });
        Scores {
            score: report.score(),
            solved: report.solved(),
            log_prob: report.log_prob(),
            items: items.collect(),
        }
    }
}

/// Numbers that may not be finite. JSON has none, and serde_json writes `null`, which does not read back as a
/// number: one diverged training would make the ledger unreadable. Here they are the words `NaN`, `inf`, `-inf`.
mod number {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f64),
        Word(String),
    }

    impl From<f64> for Number {
        fn from(value: f64) -> Number {
            if value.is_finite() { Number::Finite(value) } else { Number::Word(value.to_string()) }
        }
    }

    impl Number {
        fn value<E: de::Error>(self) -> Result<f64, E> {
            match self {
                Number::Finite(value) => Ok(value),
                Number::Word(word) => match word.as_str() {
                    "NaN" => Ok(f64::NAN),
                    "inf" => Ok(f64::INFINITY),
                    "-inf" => Ok(f64::NEG_INFINITY),
                    _ => Err(E::invalid_value(de::Unexpected::Str(&word), &"a number, NaN, inf or -inf")),
                },
            }
        }
    }

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Number::from(*value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Number::deserialize(deserializer)?.value()
    }

    pub(super) mod list {
        use super::{Deserialize, Deserializer, Number, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            values: &[f64],
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(values.iter().map(|value| Number::from(*value)))
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<f64>, D::Error> {
            Vec::<Number>::deserialize(deserializer)?.into_iter().map(Number::value).collect()
        }
    }
}
