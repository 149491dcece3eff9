//! The self-edits of one context, tried: refused ones noted, equal ones joined, weak ones dropped by the proxy, the
//! others trained together in chunks. A chunk is one transaction of the ledger, and how edits are cut into chunks
//! does not depend on what is there already; so a run that is killed loses at most a chunk, and ends as if it had
//! not been.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use selkie_edit::{Context, PlannedCall, Submission, derive_seed};
use selkie_engine::Prepared;
use selkie_store::RunRow;
use serde_json::json;

use crate::episode::{Episode, Outcome, choices};
use crate::error::OuterError;
use crate::inner::{Accepted, Job, Measure, measure, prepare};
use crate::reward::survivors;
use crate::run::Outer;
use crate::settings::Proxy;
use crate::subject::Subject;

/// The edits of one context and what is done with them.
pub(crate) struct Trial<'a> {
    /// The beginning of every key: the seed and the stage.
    pub(crate) stage: &'a str,
    /// The run's seed.
    pub(crate) seed: u64,
    /// Which of the stage's contexts.
    pub(crate) place: usize,
    pub(crate) subject: &'a Subject,
    pub(crate) edits: &'a [String],
    pub(crate) repeats: usize,
    pub(crate) proxy: &'a Proxy,
    pub(crate) measure: Measure<'a>,
}

/// What happens to an edit.
#[derive(Clone)]
enum Fate {
    Try,
    Instead(Outcome),
}

impl Trial<'_> {
    fn key(&self, sample: usize, repeat: usize) -> String {
        format!("{}/{:04}/{sample:03}/{repeat:02}", self.stage, self.place)
    }

    fn proxy_key(&self, sample: usize) -> String {
        format!("{}/{:04}/{sample:03}/proxy", self.stage, self.place)
    }

    fn job<'a>(&'a self, prepared: &'a Prepared, repeat: usize, shortened: u32) -> Job<'a> {
        let seed = derive_seed(prepared.plan.seed, &format!("repeat/{repeat}"));
        Job { prepared, context: &self.subject.context, seed, shortened }
    }
}

impl Outer<'_> {
    /// Tries every edit: its episodes, one a repeat, or one that says what came of it instead.
    pub(crate) fn try_edits(&mut self, trial: &Trial<'_>) -> Result<Vec<Vec<Episode>>, OuterError> {
        let known = self.episodes(&format!("{}/{:04}/", trial.stage, trial.place))?;
        let seed = derive_seed(trial.seed, &format!("context/{}", trial.subject.digest()));
        let context = &trial.subject.context;
        let accepted: Vec<Accepted> = trial
            .edits
            .iter()
            .map(|text| prepare(self.runtime, self.settings, context, text, seed))
            .collect::<Result<_, _>>()?;
        let mut fates = fates(&accepted);
        self.drop_weak(trial, &accepted, &mut fates)?;
        let tried: Vec<(usize, usize)> = (0..fates.len())
            .filter(|&sample| matches!(fates[sample], Fate::Try))
            .flat_map(|sample| (0..trial.repeats).map(move |repeat| (sample, repeat)))
            .collect();
        let mut episodes: Vec<Vec<Episode>> = vec![Vec::new(); trial.edits.len()];
        for chunk in tried.chunks(self.settings.lanes.max(1)) {
            let found: Option<Vec<Episode>> = chunk
                .iter()
                .map(|&(sample, repeat)| known.get(&trial.key(sample, repeat)).cloned())
                .collect();
            let made = match found {
                Some(found) => found,
                None => self.run_chunk(trial, &accepted, chunk)?,
            };
            chunk.iter().zip(made).for_each(|(&(sample, _), made)| episodes[sample].push(made));
        }
        let mut rows = Vec::new();
        for (sample, fate) in fates.into_iter().enumerate() {
            if let Fate::Instead(outcome) = fate {
                let chosen = accepted[sample].as_ref().map(|ok| choices(&ok.edit, self.settings.domain));
                let choices = chosen.unwrap_or_default();
                let episode = Episode { edit: trial.edits[sample].clone(), choices, outcome };
                rows.push(row(trial.key(sample, 0), &episode, 0.0)?);
                episodes[sample].push(episode);
            }
        }
        self.ledger.add(&rows)?;
        self.done(trial.edits.len() * trial.repeats);
        Ok(episodes)
    }

    fn run_chunk(
        &mut self,
        trial: &Trial<'_>,
        accepted: &[Accepted],
        chunk: &[(usize, usize)],
    ) -> Result<Vec<Episode>, OuterError> {
        let start = Instant::now();
        let jobs: Vec<Job<'_>> = chunk
            .iter()
            .filter_map(|&(sample, repeat)| Some(trial.job(accepted[sample].as_ref().ok()?, repeat, 1)))
            .collect();
        let measured = measure(self.runtime, &jobs, &trial.measure)?;
        let seconds = start.elapsed().as_secs_f64() / chunk.len().max(1) as f64;
        let (mut made, mut rows) = (Vec::new(), Vec::new());
        for ((&(sample, repeat), job), measured) in chunk.iter().zip(&jobs).zip(measured) {
            let outcome = match measured {
                Ok(measured) => Outcome::Measured(measured),
                Err(reason) => Outcome::Refused { reason },
            };
            let choices = choices(&job.prepared.edit, self.settings.domain);
            let episode = Episode { edit: trial.edits[sample].clone(), choices, outcome };
            rows.push(row(trial.key(sample, repeat), &episode, seconds)?);
            made.push(episode);
        }
        self.ledger.add(&rows)?;
        Ok(made)
    }

    /// Asks the proxy about every edit that would be tried, and keeps the best share of them.
    fn drop_weak(
        &mut self,
        trial: &Trial<'_>,
        accepted: &[Accepted],
        fates: &mut [Fate],
    ) -> Result<(), OuterError> {
        let asked: Vec<usize> =
            (0..fates.len()).filter(|&sample| matches!(fates[sample], Fate::Try)).collect();
        let scores = match trial.proxy {
            Proxy::None => return Ok(()),
            _ if asked.is_empty() => return Ok(()),
            Proxy::Short => self.short_trainings(trial, accepted, &asked)?,
            Proxy::Grader(tool) => self.grades(trial, accepted, &asked, tool)?,
        };
        let keep = survivors(&scores, self.settings.survivors);
        for (at, (&sample, &proxy)) in asked.iter().zip(&scores).enumerate() {
            if !keep.contains(&at) {
                fates[sample] = Fate::Instead(Outcome::Dropped { proxy });
            }
        }
        Ok(())
    }

    fn short_trainings(
        &mut self,
        trial: &Trial<'_>,
        accepted: &[Accepted],
        asked: &[usize],
    ) -> Result<Vec<f64>, OuterError> {
        const SHORTENED: u32 = 4;
        let mut scores = Vec::with_capacity(asked.len());
        for chunk in asked.chunks(self.settings.lanes.max(1)) {
            let known: Option<Vec<f64>> = chunk
                .iter()
                .map(|&sample| {
                    Ok(self.ledger.get(&trial.proxy_key(sample))?.and_then(|row| row.record.as_f64()))
                })
                .collect::<Result<_, OuterError>>()?;
            if let Some(known) = known {
                scores.extend(known);
                continue;
            }
            let start = Instant::now();
            let jobs: Vec<Job<'_>> = chunk
                .iter()
                .filter_map(|&sample| Some(trial.job(accepted[sample].as_ref().ok()?, 0, SHORTENED)))
                .collect();
            // Nothing but the log-probability counts here.
            let quick = Measure { anchors: &Default::default(), votes: 1, check_decoding: false };
            let measured = measure(self.runtime, &jobs, &quick)?;
            let seconds = start.elapsed().as_secs_f64() / chunk.len().max(1) as f64;
            // A training that diverged is the worst; JSON has no infinity.
            let values: Vec<f64> =
                measured.into_iter().map(|one| one.map_or(f64::from(f32::MIN), |one| one.log_prob)).collect();
            let rows: Vec<RunRow> = chunk
                .iter()
                .zip(&values)
                .map(|(&sample, value)| RunRow {
                    key: trial.proxy_key(sample),
                    record: json!(value),
                    seconds,
                })
                .collect();
            self.ledger.add(&rows)?;
            scores.extend(values);
        }
        Ok(scores)
    }

    fn grades(
        &self,
        trial: &Trial<'_>,
        accepted: &[Accepted],
        asked: &[usize],
        tool: &str,
    ) -> Result<Vec<f64>, OuterError> {
        // Both were checked before the run began.
        let (Some(spec), Context::Passage(passage)) =
            (self.runtime.host.catalogue().get(tool), &trial.subject.context)
        else {
            return Err(OuterError::Settings(format!("the proxy `{tool}` cannot be asked")));
        };
        let submission = |&sample: &usize| Submission::Edit {
            title: passage.title.clone(),
            passage: passage.context.clone(),
            documents: accepted[sample].as_ref().map(|ok| ok.edit.documents.clone()).unwrap_or_default(),
        };
        let submissions: Vec<Submission> = asked.iter().map(submission).collect();
        let call = PlannedCall {
            tool: tool.to_owned(),
            plugin: spec.plugin.clone(),
            params: "{}".to_owned(),
            seed: trial.seed,
        };
        let graded =
            self.runtime.host.grade_edits(&call, &submissions).map_err(selkie_engine::StepError::from)?;
        Ok(graded.made.iter().map(|score| score.value).collect())
    }
}

/// Refused edits, and edits that make the same training as an earlier one, are not tried.
fn fates(accepted: &[Accepted]) -> Vec<Fate> {
    let mut first: HashMap<(String, String), usize> = HashMap::new();
    let fate = |(sample, one): (usize, &Accepted)| match one {
        Err(reason) => Fate::Instead(Outcome::Refused { reason: reason.clone() }),
        Ok(prepared) => {
            let same = (prepared.set.digest().to_owned(), format!("{:?}", prepared.plan.training));
            match *first.entry(same).or_insert(sample) {
                of if of != sample => Fate::Instead(Outcome::Duplicate { of }),
                _ => Fate::Try,
            }
        }
    };
    accepted.iter().enumerate().map(fate).collect()
}

pub(crate) fn row(key: String, record: &impl serde::Serialize, seconds: f64) -> Result<RunRow, OuterError> {
    match serde_json::to_value(record) {
        Ok(record) => Ok(RunRow { key, record, seconds }),
        Err(error) => Err(OuterError::Row { key, reason: error.to_string() }),
    }
}

pub(crate) fn episode(row: &RunRow) -> Result<Episode, OuterError> {
    serde_json::from_value(row.record.clone())
        .map_err(|error| OuterError::Row { key: row.key.clone(), reason: error.to_string() })
}

impl Outer<'_> {
    /// The episodes whose keys begin so.
    pub(crate) fn episodes(&self, prefix: &str) -> Result<BTreeMap<String, Episode>, OuterError> {
        let rows = self.ledger.rows(prefix)?;
        let is_episode = |row: &&RunRow| row.record.get("outcome").is_some();
        rows.iter().filter(is_episode).map(|row| Ok((row.key.clone(), episode(row)?))).collect()
    }
}
