//! The conditions that need no policy: the base model alone, edits that were given, and the base model's own
//! untrained edits.

use selkie_edit::{Answer, Context, derive_seed};

use crate::episode::{Episode, Outcome};
use crate::error::OuterError;
use crate::given::given;
use crate::inner::{Job, measure_base, measure_together, prepare, train};
use crate::reward::Measured;
use crate::run::Outer;
use crate::settings::Condition;
use crate::subject::{Contexts, Subject};
use crate::trial::row;
use crate::vote::majority;

impl Outer<'_> {
    /// Measures every condition of the settings that needs no policy.
    pub(crate) fn compare_without_policy(&mut self, seed: u64) -> Result<(), OuterError> {
        for &condition in &self.settings.evaluation.conditions {
            match condition {
                Condition::NoEdit | Condition::InContext => self.compare_base(seed, condition)?,
                Condition::Untrained => self.compare(seed, condition.id(), None)?,
                Condition::Matched => self.compare_matched(seed)?,
                Condition::Rounds | Condition::Unfiltered => {}
                _ => self.compare_given(seed, condition)?,
            }
        }
        Ok(())
    }

    fn compare_base(&mut self, seed: u64, condition: Condition) -> Result<(), OuterError> {
        let contexts: &Contexts = self.contexts;
        let check_decoding = self.settings.evaluation.check_decoding;
        let mut rows = Vec::new();
        let mut shares = Vec::new();
        for (place, subject) in contexts.held_out.iter().enumerate() {
            let in_context = condition == Condition::InContext;
            let start = std::time::Instant::now();
            let measured = measure_base(self.runtime, &subject.context, in_context, check_decoding)?;
            shares.push(measured.share());
            let key = format!("{seed}/{}/{place:04}/000/00", condition.id());
            rows.push(row(key, &base_episode(measured), start.elapsed().as_secs_f64())?);
        }
        self.ledger.add(&rows)?;
        self.tell_share(condition.id(), &shares);
        Ok(())
    }

    fn compare_given(&mut self, seed: u64, condition: Condition) -> Result<(), OuterError> {
        let stage = format!("{seed}/{}", condition.id());
        self.stage(format!("seed {seed}: {}", condition.label()));
        let contexts: &Contexts = self.contexts;
        let settings = &self.settings.given;
        let of = |subject: &Subject| given(condition, subject, settings).into_iter().collect();
        let edits: Vec<Vec<String>> = contexts.held_out.iter().map(of).collect();
        self.compare_all(&stage, seed, condition.id(), &edits)
    }

    /// Learns several passages at once, from the first valid edit of each, with the run's own training settings; asks
    /// about all of them.
    pub(crate) fn compare_together(
        &mut self,
        stage: &str,
        seed: u64,
        group: std::ops::Range<usize>,
        edits: &[Vec<String>],
    ) -> Result<Vec<f64>, OuterError> {
        let contexts: &Contexts = self.contexts;
        let keys: Vec<String> = group.clone().map(|place| format!("{stage}/{place:04}/000/00")).collect();
        if let Some(row) = self.ledger.get(&keys[0])? {
            let mut known = vec![crate::trial::episode(&row)?];
            for key in &keys[1..] {
                known.extend(self.ledger.get(key)?.map(|row| crate::trial::episode(&row)).transpose()?);
            }
            self.done(keys.len());
            return Ok(known.iter().map(|one| one.measured().map_or(0.0, Measured::share)).collect());
        }
        let start = std::time::Instant::now();
        let mut sequences = Vec::new();
        for place in group.clone() {
            let subject = &contexts.held_out[place];
            let plan_seed = derive_seed(seed, &format!("context/{}", subject.digest()));
            for text in &edits[place] {
                if let Ok(prepared) = prepare(self.runtime, self.settings, &subject.context, text, plan_seed)?
                {
                    sequences.extend(prepared.set.sequences().iter().cloned());
                    break;
                }
            }
        }
        let members: Vec<&Context> = group.clone().map(|place| &contexts.held_out[place].context).collect();
        let anchors = self.held_out_anchors.clone();
        let measured = measure_together(self.runtime, self.settings, &members, &sequences, seed, &anchors)?;
        let seconds = start.elapsed().as_secs_f64() / keys.len() as f64;
        let shares = measured.iter().map(Measured::share).collect();
        let rows = keys.into_iter().zip(measured);
        let rows: Vec<_> =
            rows.map(|(key, one)| row(key, &base_episode(one), seconds)).collect::<Result<_, _>>()?;
        self.ledger.add(&rows)?;
        self.done(group.len());
        Ok(shares)
    }

    /// Spends on each held-out context what the outer loop would have spent on it: untrained self-edits, and the
    /// majority of their answers.
    fn compare_matched(&mut self, seed: u64) -> Result<(), OuterError> {
        let stage = format!("{seed}/{}", Condition::Matched.id());
        self.stage(format!("seed {seed}: {}", Condition::Matched.label()));
        let contexts: &Contexts = self.contexts;
        let mut shares = Vec::new();
        for (place, subject) in contexts.held_out.iter().enumerate() {
            let key = format!("{stage}/{place:04}/000/00");
            let count = self.settings.evaluation.matched;
            let known = self.ledger.get(&key)?.map(|row| crate::trial::episode(&row)).transpose()?;
            let episode = match known {
                Some(known) => known,
                None => self.vote_of_untrained(&stage, seed, (place, subject), count, &key)?,
            };
            shares.push(episode.measured().map_or(0.0, Measured::share));
            self.done(count);
        }
        self.tell_share(Condition::Matched.id(), &shares);
        Ok(())
    }

    fn vote_of_untrained(
        &mut self,
        stage: &str,
        seed: u64,
        (place, subject): (usize, &Subject),
        count: usize,
        key: &str,
    ) -> Result<Episode, OuterError> {
        let start = std::time::Instant::now();
        let context = &subject.context;
        let drawn = self.draw(stage, seed, (place, subject), count, None)?;
        let plan_seed = derive_seed(seed, &format!("context/{}", subject.digest()));
        let items = self.runtime.model.codec().items(context)?;
        let mut answers: Vec<Vec<Answer>> = vec![Vec::new(); items.len()];
        let (mut steps, mut tokens) = (0, 0);
        for text in &drawn.texts {
            let Ok(prepared) = prepare(self.runtime, self.settings, context, text, plan_seed)? else {
                continue;
            };
            let seed = derive_seed(plan_seed, "repeat/0");
            let job = Job { prepared: &prepared, context, seed, shortened: 1 };
            let Ok(trained) = train(self.runtime, &[job])?.swap_remove(0) else { continue };
            steps += trained.steps.len() as u64;
            tokens += trained.steps.iter().map(|step| step.tokens as u64).sum::<u64>();
            for (item, answers) in items.iter().zip(&mut answers) {
                answers.push(self.runtime.model.answer(Some(&trained.adapter), item)?);
            }
        }
        let voted = answers.iter().zip(&items);
        let solved = voted.map(|(answers, item)| majority(answers) == Some(&item.expected)).collect();
        let measured = Measured { solved, log_prob: 0.0, kept: None, steps, tokens, disagreements: None };
        let episode = base_episode(measured);
        self.ledger.add(&[row(key.to_owned(), &episode, start.elapsed().as_secs_f64())?])?;
        Ok(episode)
    }
}

/// An episode without an edit of its own.
fn base_episode(measured: Measured) -> Episode {
    Episode { edit: String::new(), choices: Default::default(), outcome: Outcome::Measured(measured) }
}
