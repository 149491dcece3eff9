//! Tests of the store through its public face, and what they share: sample records and the invariants.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod concurrent;
mod crash;
mod full_disk;
mod kill;
mod model;
mod opening;
mod queries;
mod records;
mod run;
mod stages;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use selkie_edit::{Answer, Dialect, Domain, Lora, LossOn, PluginId, Projection, Schedule, Training};
use serde_json::json;

use crate::*;

const BASE: &str = "ba5eba5eba5eba5eba5eba5eba5eba5eba5eba5eba5eba5eba5eba5eba5eba5e";
const OTHER: &str = "07e407e407e407e407e407e407e407e407e407e407e407e407e407e407e407e4";

/// An adapter that differs from those with another `tag`.
fn files(tag: u32) -> AdapterFiles {
    vec![
        ("adapter_config.json".to_owned(), format!("{{\"tag\": {tag}}}").into_bytes()),
        ("adapter_model.safetensors".to_owned(), tag.to_le_bytes().repeat(64)),
    ]
}

fn record(time_ms: i64) -> Record {
    Record {
        time_ms,
        model: "pup".to_owned(),
        context: ContextRecord {
            domain: Domain::Passage,
            name: "The lighthouse".to_owned(),
            content: json!({"title": "The lighthouse", "questions": []}),
        },
        edit: EditRecord { text: "one implication".to_owned(), dialect: Some(Dialect::SealCompletion) },
        seed: u64::MAX,
        options: json!({"fresh": true}),
    }
}

fn scores(score: f64) -> Scores {
    let item = Item {
        item: "Who kept it?".to_owned(),
        solved: score == 1.0,
        log_prob: -0.25,
        prediction: Answer::Text("Ada".to_owned()),
        expected: Answer::Text("Ada".to_owned()),
    };
    Scores { score, solved: score == 1.0, log_prob: -0.25, items: vec![item] }
}

fn trial() -> Trial {
    let plugin = PluginId { name: "grid".to_owned(), version: "0.1.0".to_owned(), digest: "d".repeat(64) };
    let tool =
        ToolRecord { tool: "grid.rotate".to_owned(), plugin: plugin.clone(), calls: 2, items: 8, fuel: 99 };
    let settings = Training {
        loss_on: LossOn::AllTokens,
        learning_rate: 1e-3,
        epochs: 10,
        batch_size: 1,
        lora: Lora { rank: 4, alpha: 8.0, targets: vec![Projection::QProj] },
        schedule: Schedule::Linear,
        warmup_steps: 0,
    };
    let losses = vec![2.5, 0.1 + 0.2];
    Trial {
        plugins: vec![plugin],
        tools: vec![tool],
        data_digest: "da7a".repeat(16),
        training: TrainingRecord { settings, examples: 3, tokens: 120, losses, seconds: 1.5 },
        before: scores(0.0),
        after: scores(1.0),
    }
}

fn keep(store: &mut Store, base: &str, tag: u32) -> Result<Generation, Error> {
    store.begin(base)?.stage(&files(tag))?.keep(&record(i64::from(tag)), &trial())
}

fn discard(store: &mut Store, base: &str, tag: u32) -> Result<EntryId, Error> {
    store.begin(base)?.stage(&files(tag))?.discard(&record(i64::from(tag)), &trial())
}

/// The whole state that a reader sees.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    entries: usize,
    generations: Vec<Generation>,
    active: BTreeMap<String, GenerationId>,
}

/// What must hold of a home at any moment, also while it is written and after a kill: the ledger reads back
/// whole, the pointers are where its entries put them, and every generation's adapter is intact.
fn check_readable(home: &Path) -> Seen {
    let reader = Store::read_only(home).unwrap();
    let seen = check_ledger(&reader);
    for generation in &seen.generations {
        reader.adapter_files(&generation.adapter).unwrap();
    }
    seen
}

/// The part of [`check_readable`] that costs nothing.
fn check_ledger(reader: &Reader) -> Seen {
    let mut log = reader.log(usize::MAX).unwrap();
    log.reverse();
    let mut active = BTreeMap::new();
    let mut made = Vec::new();
    for (at, entry) in log.iter().enumerate() {
        assert_eq!(entry.id, EntryId(at as i64 + 1), "the ledger has no gaps");
        let before: Option<GenerationId> = active.get(&entry.base_digest).copied();
        let after = match &entry.event {
            Event::Rollback(rollback) => {
                assert_eq!(rollback.from, before);
                rollback.to
            }
            Event::Episode(episode) => {
                assert_eq!(episode.parent, before);
                match &episode.outcome {
                    Outcome::Kept { generation: id, adapter, .. } => {
                        assert_eq!(*id, GenerationId(made.len() as i64 + 1), "generations have no gaps");
                        let (entry, base_digest) = (entry.id, entry.base_digest.clone());
                        let adapter = adapter.clone();
                        made.push(Generation { id: *id, entry, base_digest, parent: before, adapter });
                        Some(*id)
                    }
                    Outcome::Discarded { .. } | Outcome::Refused(_) => before,
                }
            }
        };
        match after {
            Some(id) => active.insert(entry.base_digest.clone(), id),
            None => active.remove(&entry.base_digest),
        };
    }
    // The reader is no snapshot: a writer may have gone on since the log. Only what the log says is compared.
    let mut generations = reader.generations().unwrap();
    generations.reverse();
    generations.truncate(made.len());
    assert_eq!(generations, made);
    Seen { entries: log.len(), generations, active }
}

/// What must hold once a writer has opened a home and nobody writes: the pointers are exactly where the ledger
/// puts them and nothing lies about that no generation has.
fn check_settled(home: &Path) -> Seen {
    let seen = check_readable(home);
    let actives = Store::read_only(home).unwrap().actives().unwrap();
    let active: BTreeMap<_, _> = actives.into_iter().map(|found| (found.base_digest, found.id)).collect();
    assert_eq!(active, seen.active);
    assert_eq!(names(&home.join("staging")), BTreeSet::new());
    let used = seen.generations.iter().map(|generation| generation.adapter.to_string()).collect();
    assert_eq!(names(&home.join("adapters")), used);
    seen
}

fn names(folder: &Path) -> BTreeSet<String> {
    crate::disk::names(folder).unwrap().into_iter().collect()
}

/// An error with its causes, with the temporary folder's path filtered.
fn told(error: &Error, home: &Path) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.replace(home.to_str().unwrap(), "[home]")
}
