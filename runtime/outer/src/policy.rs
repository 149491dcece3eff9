//! Policies: adapters that imitate the self-edits that helped (behaviour cloning). A policy writes edits; inner loops
//! start from the base model, so what an edit does never depends on who wrote it.

use std::path::PathBuf;
use std::time::Instant;

use selkie_edit::{Lora, Schedule, Training, derive_seed};
use selkie_learn::{Adapter, peft, train};
use serde::{Deserialize, Serialize};

use crate::error::OuterError;
use crate::run::Outer;
use crate::subject::hex;
use crate::trial::row;

/// An edit to imitate: of which training context, and its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Imitated {
    pub(crate) place: usize,
    pub(crate) ids: Vec<u32>,
}

/// What the ledger keeps of a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// Edits that were imitated; 0 leaves the base model as it was.
    pub examples: usize,
    /// Training contexts that had any.
    pub contexts: usize,
    /// Mean loss (nats a token) of the first and of the last step.
    pub losses: Option<(f32, f32)>,
    /// SHA-256 of the adapter's files.
    pub digest: Option<String>,
}

impl Outer<'_> {
    /// The policy that imitates these edits: a LoRA on the base model, kept as a PEFT folder. `None` where there is
    /// nothing to imitate.
    pub(crate) fn imitate(
        &mut self,
        key: &str,
        seed: u64,
        edits: &[Imitated],
    ) -> Result<Option<Adapter>, OuterError> {
        if edits.is_empty() {
            let record = PolicyRecord { examples: 0, contexts: 0, losses: None, digest: None };
            self.ledger.add(&[row(key.to_owned(), &record, 0.0)?])?;
            self.result("no edit helped: the policy is the base model".to_owned());
            return Ok(None);
        }
        let folder = self.policy_folder(key);
        if let Some(adapter) = self.finished_policy(key)? {
            return Ok(Some(adapter));
        }
        let start = Instant::now();
        let catalogue = self.runtime.host.catalogue();
        let sequences = edits
            .iter()
            .map(|edit| {
                let context = &self.contexts.training[edit.place].context;
                self.runtime.model.imitation(context, catalogue, &edit.ids)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let cloning = &self.settings.cloning;
        let training = Training {
            learning_rate: cloning.learning_rate,
            epochs: cloning.epochs,
            batch_size: cloning.batch_size,
            lora: Lora { rank: cloning.rank, alpha: cloning.alpha, targets: cloning.targets.clone() },
            schedule: Schedule::Cosine,
            warmup_steps: 0,
            ..self.settings.training.clone()
        };
        let go_on = |_: &_| std::ops::ControlFlow::Continue(());
        let seed = derive_seed(seed, key);
        let trained = train(self.runtime.model.decoder(), &sequences, &training, seed, go_on)?;
        let files = peft::to_files(&trained.adapter, &self.runtime.model.profile().name)?;
        peft::write(&folder, &files, peft::Existing::Replace)?;
        let contexts = edits.iter().map(|edit| edit.place).collect::<std::collections::BTreeSet<_>>().len();
        let (first, last) = (trained.steps.first(), trained.steps.last());
        let losses = first.zip(last).map(|(first, last)| (first.loss, last.loss));
        let record = PolicyRecord { examples: edits.len(), contexts, losses, digest: Some(digest(&files)) };
        self.ledger.add(&[row(key.to_owned(), &record, start.elapsed().as_secs_f64())?])?;
        let (first, last) = losses.unwrap_or_default();
        let examples = edits.len();
        self.result(format!(
            "the policy imitates {examples} edits of {contexts} contexts: loss {first:.3} to {last:.3}"
        ));
        // What is read back is what a later start of the run would read.
        Ok(Some(peft::from_files(self.runtime.model.decoder().config(), &files)?))
    }

    /// The policy of an earlier start of the run, if it was finished and its files are whole.
    fn finished_policy(&self, key: &str) -> Result<Option<Adapter>, OuterError> {
        let Some(row) = self.ledger.get(key)? else { return Ok(None) };
        let record: PolicyRecord = serde_json::from_value(row.record)
            .map_err(|error| OuterError::Row { key: key.to_owned(), reason: error.to_string() })?;
        let folder = self.policy_folder(key);
        let Ok(files) = read_folder(&folder) else { return Ok(None) };
        if record.digest.as_deref() != Some(digest(&files).as_str()) {
            return Ok(None);
        }
        Ok(Some(peft::from_files(self.runtime.model.decoder().config(), &files)?))
    }

    fn policy_folder(&self, key: &str) -> PathBuf {
        self.folder.join("policies").join(key.replace('/', "-"))
    }
}

/// SHA-256 of an adapter as it would be written.
///
/// # Errors
/// The tensor library's.
pub fn policy_digest(adapter: &Adapter) -> Result<String, OuterError> {
    Ok(digest(&peft::to_files(adapter, "")?))
}

fn read_folder(folder: &std::path::Path) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let names = ["adapter_config.json", "adapter_model.safetensors"];
    names.into_iter().map(|name| Ok((name.to_owned(), std::fs::read(folder.join(name))?))).collect()
}

/// SHA-256 over names and bytes, in order of name.
fn digest(files: &[(String, Vec<u8>)]) -> String {
    use sha2::Digest;
    let mut files: Vec<&(String, Vec<u8>)> = files.iter().collect();
    files.sort();
    let lines: Vec<String> = files
        .into_iter()
        .map(|(name, bytes)| {
            let hash: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name} {hash}")
        })
        .collect();
    hex(&lines.join("\n"))
}
