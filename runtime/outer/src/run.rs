//! A run, in order: read [`run`] first. Every other file is a detail of one of its lines.

use std::path::Path;

use selkie_edit::{Domain, ToolKind, derive_seed};
use selkie_engine::Runtime;
use selkie_learn::Adapter;
use selkie_store::RunLedger;
use serde::{Deserialize, Serialize};

use crate::error::OuterError;
use crate::inner::Measure;
use crate::policy::Imitated;
use crate::reward::{Graded, Measured, grade, winners};
use crate::settings::{Condition, Proxy, Settings};
use crate::subject::{Anchors, Contexts, Subject, Watched};
use crate::trial::{Trial, row};

/// What a run tells while it works.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A stage of a seed begins: `1/round 2, drawing and trying self-edits`.
    Stage(String),
    /// Self-edits (times repeats) that are done, of all that there will be.
    Progress {
        /// Done.
        done: usize,
        /// In all.
        of: usize,
    },
    /// What came of a stage, in one line.
    Result(String),
}

/// A run at work.
pub(crate) struct Outer<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) settings: &'a Settings,
    pub(crate) contexts: &'a Contexts,
    pub(crate) folder: &'a Path,
    pub(crate) ledger: RunLedger,
    training_anchors: Anchors,
    pub(crate) held_out_anchors: Anchors,
    tell: &'a mut dyn FnMut(Event),
    done: usize,
    of: usize,
}

/// Self-edits as they were drawn for one context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drawn {
    pub(crate) texts: Vec<String>,
    pub(crate) ids: Vec<Vec<u32>>,
}

/// The condition of a policy that was given.
pub(crate) const GIVEN: &str = "policy";

/// Runs ReST-EM, or goes on with it: what `folder` has of the same settings is not done again.
///
/// For each seed: the conditions that need no policy are measured; then in each round self-edits are drawn for every
/// training context and tried, the next policy imitates those that helped, and is measured on the held-out contexts.
/// With 0 rounds only the conditions are measured; `given` is a policy to measure beside them.
///
/// # Errors
/// Settings other than the folder's, and whatever stops an inner loop for another reason than its edit. Nothing that
/// was finished is lost.
pub fn run(
    runtime: &Runtime,
    folder: &Path,
    settings: &Settings,
    contexts: &Contexts,
    watched: &Watched,
    given: Option<&Adapter>,
    tell: &mut dyn FnMut(Event),
) -> Result<(), OuterError> {
    let mut outer = Outer::open(runtime, folder, settings, contexts, watched, tell)?;
    for &seed in &settings.seeds {
        outer.compare_without_policy(seed)?;
        if given.is_some() {
            outer.compare(seed, GIVEN, given)?;
        }
        let mut policy = None;
        let mut first = Vec::new();
        for round in 1..=settings.rounds {
            let rollouts = outer.rollouts(seed, round, policy.as_ref())?;
            let imitated = outer.winners(&rollouts);
            if round == 1 {
                first = rollouts;
            }
            policy = outer.imitate(&format!("{seed}/{round}-policy"), seed, &imitated)?;
            outer.compare(seed, &format!("round_{round}"), policy.as_ref())?;
        }
        if settings.evaluation.conditions.contains(&Condition::Unfiltered) && settings.rounds > 0 {
            let everything = everything(&first);
            let policy = outer.imitate(&format!("{seed}/1-unfiltered"), seed, &everything)?;
            outer.compare(seed, Condition::Unfiltered.id(), policy.as_ref())?;
        }
    }
    Ok(())
}

/// The edits of one training context with what they were worth.
pub(crate) struct Rollout {
    place: usize,
    drawn: Drawn,
    graded: Vec<Graded>,
}

/// Every edit that was drawn, good or bad.
fn everything(rollouts: &[Rollout]) -> Vec<Imitated> {
    rollouts
        .iter()
        .flat_map(|rollout| {
            rollout.drawn.ids.iter().map(|ids| Imitated { place: rollout.place, ids: ids.clone() })
        })
        .collect()
}

impl<'a> Outer<'a> {
    fn open(
        runtime: &'a Runtime,
        folder: &'a Path,
        settings: &'a Settings,
        contexts: &'a Contexts,
        watched: &Watched,
        tell: &'a mut dyn FnMut(Event),
    ) -> Result<Outer<'a>, OuterError> {
        check(contexts)?;
        check_proxy(runtime, settings)?;
        let mut ledger = RunLedger::open(folder)?;
        let json = serde_json::to_value(settings)
            .map_err(|error| OuterError::Settings(format!("the settings cannot be written: {error}")))?;
        ledger.begin(&json)?;
        let training_anchors = Anchors::new(&runtime.model, &watched.training)?;
        let held_out_anchors = Anchors::new(&runtime.model, &watched.held_out)?;
        let of = work(settings, contexts);
        Ok(Outer {
            runtime,
            settings,
            contexts,
            folder,
            ledger,
            training_anchors,
            held_out_anchors,
            tell,
            done: 0,
            of,
        })
    }

    pub(crate) fn stage(&mut self, name: String) {
        (self.tell)(Event::Stage(name));
    }

    pub(crate) fn result(&mut self, line: String) {
        (self.tell)(Event::Result(line));
    }

    /// So many more self-edits are done.
    pub(crate) fn done(&mut self, count: usize) {
        self.done += count;
        (self.tell)(Event::Progress { done: self.done, of: self.of.max(self.done) });
    }

    /// Draws self-edits of a policy for a context; what was drawn before is not drawn again.
    pub(crate) fn draw(
        &mut self,
        stage: &str,
        seed: u64,
        (place, subject): (usize, &Subject),
        count: usize,
        policy: Option<&Adapter>,
    ) -> Result<Drawn, OuterError> {
        let key = format!("{stage}/{place:04}/drawn");
        if let Some(row) = self.ledger.get(&key)? {
            return serde_json::from_value(row.record)
                .map_err(|error| OuterError::Row { key, reason: error.to_string() });
        }
        let start = std::time::Instant::now();
        let seeds: Vec<u64> = (0..count)
            .map(|sample| derive_seed(seed, &format!("{stage}/{}/{sample}", subject.digest())))
            .collect();
        let drawing = self.settings.drawing;
        let drawing = selkie_learn::Drawing {
            temperature: drawing.temperature,
            top_p: drawing.top_p,
            tokens: drawing.tokens,
        };
        let catalogue = self.runtime.host.catalogue();
        let written = self.runtime.model.write_edits(policy, &subject.context, catalogue, drawing, &seeds)?;
        let (texts, ids) = written.into_iter().map(|edit| (edit.text, edit.ids)).unzip();
        let drawn = Drawn { texts, ids };
        self.ledger.add(&[row(key, &drawn, start.elapsed().as_secs_f64())?])?;
        Ok(drawn)
    }

    /// Draws and tries self-edits for every training context.
    fn rollouts(
        &mut self,
        seed: u64,
        round: u32,
        policy: Option<&Adapter>,
    ) -> Result<Vec<Rollout>, OuterError> {
        let stage = format!("{seed}/{round}-rollout");
        self.stage(format!("seed {seed}, round {round}: drawing and trying self-edits"));
        let contexts: &'a Contexts = self.contexts;
        let (settings, anchors) = (self.settings, self.training_anchors.clone());
        let mut rollouts = Vec::with_capacity(contexts.training.len());
        for (place, subject) in contexts.training.iter().enumerate() {
            let drawn = self.draw(&stage, seed, (place, subject), settings.samples, policy)?;
            let measure = Measure { anchors: &anchors, votes: 1, check_decoding: false };
            let episodes = self.try_edits(&Trial {
                stage: &stage,
                seed,
                place,
                subject,
                edits: &drawn.texts,
                repeats: settings.repeats,
                proxy: &settings.proxy,
                measure,
            })?;
            let graded = episodes
                .iter()
                .enumerate()
                .filter_map(|(sample, episodes)| {
                    let loops: Vec<Measured> =
                        episodes.iter().filter_map(|one| one.measured().cloned()).collect();
                    grade(sample, &loops, settings.retention)
                })
                .collect();
            rollouts.push(Rollout { place, drawn, graded });
        }
        let rewards: Vec<f64> =
            rollouts.iter().flat_map(|rollout| rollout.graded.iter().map(|edit| edit.reward)).collect();
        let mean = rewards.iter().sum::<f64>() / rewards.len().max(1) as f64;
        self.result(format!("{} self-edits tried, mean reward {mean:.3}", rewards.len()));
        Ok(rollouts)
    }

    fn winners(&self, rollouts: &[Rollout]) -> Vec<Imitated> {
        let settings = self.settings;
        let of = |rollout: &Rollout| {
            let best = winners(&rollout.graded, settings.winners, settings.winners_per_context);
            best.into_iter()
                .map(|edit| Imitated { place: rollout.place, ids: rollout.drawn.ids[edit.sample].clone() })
                .collect::<Vec<_>>()
        };
        rollouts.iter().flat_map(of).collect()
    }

    /// Measures a policy's self-edits on every held-out context.
    pub(crate) fn compare(
        &mut self,
        seed: u64,
        condition: &str,
        policy: Option<&Adapter>,
    ) -> Result<(), OuterError> {
        let stage = format!("{seed}/{condition}");
        self.stage(format!("seed {seed}: {condition} on the held-out contexts"));
        let contexts: &'a Contexts = self.contexts;
        let mut edits = Vec::with_capacity(contexts.held_out.len());
        for (place, subject) in contexts.held_out.iter().enumerate() {
            let samples = self.settings.evaluation.samples;
            edits.push(self.draw(&stage, seed, (place, subject), samples, policy)?.texts);
        }
        self.compare_all(&stage, seed, condition, &edits)
    }

    /// Tries the edits of every held-out context, one context at a time or several passages together.
    pub(crate) fn compare_all(
        &mut self,
        stage: &str,
        seed: u64,
        condition: &str,
        edits: &[Vec<String>],
    ) -> Result<(), OuterError> {
        let together = self.settings.evaluation.together;
        let contexts: &'a Contexts = self.contexts;
        let mut shares = Vec::new();
        if together > 1 {
            for first in (0..edits.len()).step_by(together) {
                let group = first..(first + together).min(edits.len());
                shares.extend(self.compare_together(stage, seed, group, edits)?);
            }
        } else {
            for (place, subject) in contexts.held_out.iter().enumerate() {
                shares.extend(self.compare_edits(stage, seed, (place, subject), &edits[place])?);
            }
        }
        self.tell_share(condition, &shares);
        Ok(())
    }

    /// Tries edits on a held-out context: the shares solved, 0 for a refused one.
    fn compare_edits(
        &mut self,
        stage: &str,
        seed: u64,
        (place, subject): (usize, &Subject),
        edits: &[String],
    ) -> Result<Vec<f64>, OuterError> {
        let (settings, anchors) = (self.settings, self.held_out_anchors.clone());
        let evaluation = &settings.evaluation;
        let (votes, check_decoding) = (evaluation.votes, evaluation.check_decoding);
        let measure = Measure { anchors: &anchors, votes, check_decoding };
        let repeats = evaluation.repeats;
        let proxy = &Proxy::None;
        let trial = Trial { stage, seed, place, subject, edits, repeats, proxy, measure };
        let episodes = self.try_edits(&trial)?;
        Ok(shares(&episodes))
    }

    pub(crate) fn tell_share(&mut self, condition: &str, shares: &[f64]) {
        let mean = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        self.result(format!("{condition}: {:.1}% solved", mean * 100.0));
    }
}

/// The share solved by each edit: its loops' mean, that of its twin, or 0.
pub(crate) fn shares(episodes: &[Vec<crate::episode::Episode>]) -> Vec<f64> {
    use crate::episode::Outcome;
    let own = |episodes: &Vec<crate::episode::Episode>| {
        let shares: Vec<f64> = episodes.iter().filter_map(|one| Some(one.measured()?.share())).collect();
        shares.iter().sum::<f64>() / episodes.len().max(1) as f64
    };
    let share = |of: &Vec<crate::episode::Episode>| match of.first().map(|first| &first.outcome) {
        Some(Outcome::Duplicate { of }) => episodes.get(*of).map_or(0.0, own),
        _ => own(of),
    };
    episodes.iter().map(share).collect()
}

/// Self-edits (times repeats) that a run will draw or be given.
fn work(settings: &Settings, contexts: &Contexts) -> usize {
    let evaluation = &settings.evaluation;
    let drawn = contexts.held_out.len() * evaluation.samples * evaluation.repeats;
    let given = contexts.held_out.len() * evaluation.repeats;
    let conditions: usize = evaluation
        .conditions
        .iter()
        .map(|condition| match condition {
            Condition::NoEdit | Condition::InContext => 0,
            Condition::Raw
            | Condition::RawSentences
            | Condition::RawEntities
            | Condition::Fixed
            | Condition::ByKind => given,
            Condition::Untrained | Condition::Unfiltered => drawn,
            Condition::Rounds => drawn * settings.rounds as usize,
            Condition::Matched => contexts.held_out.len() * evaluation.matched,
        })
        .sum();
    let rollouts = settings.rounds as usize * contexts.training.len() * settings.samples * settings.repeats;
    settings.seeds.len() * (conditions + rollouts)
}

/// A proxy that cannot be asked is said before anything runs.
fn check_proxy(runtime: &Runtime, settings: &Settings) -> Result<(), OuterError> {
    let Proxy::Grader(tool) = &settings.proxy else { return Ok(()) };
    let kind = runtime.host.catalogue().get(tool).map(|spec| spec.kind);
    let reason = match (settings.domain, kind) {
        (Domain::Passage, Some(ToolKind::Grader)) => return Ok(()),
        (Domain::Puzzle, _) => "graders grade edits of passages, not of puzzles; use `short`".to_owned(),
        (_, Some(_)) => format!("`{tool}` is no grader; `selkie tool list` has those that are loaded"),
        (_, None) => format!("no loaded plugin has `{tool}`; `selkie tool list` has those that do"),
    };
    Err(OuterError::Settings(format!("the proxy cannot be asked: {reason}")))
}

fn check(contexts: &Contexts) -> Result<(), OuterError> {
    let training: std::collections::BTreeSet<String> =
        contexts.training.iter().map(Subject::digest).collect();
    if let Some(both) = contexts.held_out.iter().find(|subject| training.contains(&subject.digest())) {
        let name = both.context.name();
        return Err(OuterError::Settings(format!(
            "`{name}` is both a training context and a held-out one; take it out of one of the lists"
        )));
    }
    Ok(())
}
