//! What an edit is worth, and which edits are imitated: pure functions.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::presets::Winners;
use crate::subject::Kept;

/// What was measured of one inner loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// For each item whether greedy decoding gives exactly the expected answer.
    pub solved: Vec<bool>,
    /// Mean log-probability (nats a token) of the expected answers.
    pub log_prob: f64,
    /// What is left of the watched facts.
    pub kept: Option<Kept>,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Items on which greedy decoding and the forward pass disagree, where both were run.
    pub disagreements: Option<u32>,
}

impl Measured {
    /// Share of the items solved, 0..=1.
    pub fn share(&self) -> f64 {
        let solved = self.solved.iter().filter(|&&solved| solved).count();
        solved as f64 / self.solved.len().max(1) as f64
    }

    /// What one inner loop is worth: the share of items solved (0 or 1 for a puzzle of one test, as in SEAL), less
    /// the price of what was forgotten.
    pub fn reward(&self, retention: f64) -> f64 {
        self.share() - retention * self.kept.map_or(0.0, |kept| 1.0 - kept.share())
    }
}

/// An edit with its reward: the means over its inner loops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Graded {
    /// Which of the context's edits.
    pub sample: usize,
    /// Mean reward.
    pub reward: f64,
    /// Mean log-probability, which breaks ties.
    pub log_prob: f64,
}

/// The mean over inner loops of one edit; `None` without any.
pub fn grade(sample: usize, loops: &[Measured], retention: f64) -> Option<Graded> {
    if loops.is_empty() {
        return None;
    }
    let mean = |value: &dyn Fn(&Measured) -> f64| loops.iter().map(value).sum::<f64>() / loops.len() as f64;
    Some(Graded { sample, reward: mean(&|one| one.reward(retention)), log_prob: mean(&|one| one.log_prob) })
}

/// The edits of one context that are imitated, best first, at most `most`.
///
/// Of puzzles those that solved at least half of the tests; of passages the best, if it is better than the context's
/// mean: where nothing distinguishes the edits, there is nothing to learn.
pub fn winners(graded: &[Graded], rule: Winners, most: usize) -> Vec<Graded> {
    let mean = graded.iter().map(|edit| edit.reward).sum::<f64>() / graded.len().max(1) as f64;
    let helped = |edit: &&Graded| match rule {
        Winners::All => edit.reward >= 0.5,
        Winners::Best => edit.reward > mean,
    };
    let mut best: Vec<Graded> = graded.iter().filter(helped).copied().collect();
    best.sort_by(better_first);
    best.truncate(most);
    best
}

/// By reward, then by log-probability, then by number.
fn better_first(one: &Graded, other: &Graded) -> Ordering {
    other
        .reward
        .total_cmp(&one.reward)
        .then(other.log_prob.total_cmp(&one.log_prob))
        .then(one.sample.cmp(&other.sample))
}

/// The places of the best `share` of the scores, at least one, in order of place. A score that is not a number is
/// the worst.
pub fn survivors(scores: &[f64], share: f64) -> Vec<usize> {
    let count = ((scores.len() as f64 * share).ceil() as usize).clamp(1, scores.len().max(1));
    let worth = |at: &usize| if scores[*at].is_nan() { f64::NEG_INFINITY } else { scores[*at] };
    let mut places: Vec<usize> = (0..scores.len()).collect();
    places.sort_by(|one, other| worth(other).total_cmp(&worth(one)).then(one.cmp(other)));
    places.truncate(count);
    places.sort_unstable();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(solved: &[bool], log_prob: f64, kept: Option<(u32, u32)>) -> Measured {
        let kept = kept.map(|(kept, of)| Kept { kept, of });
        Measured { solved: solved.to_vec(), log_prob, kept, steps: 1, tokens: 1, disagreements: None }
    }

    #[test]
    fn a_reward_is_what_was_gained_less_what_was_lost() {
        let check = |solved: &[bool], kept, retention, expected: f64| {
            let found = measured(solved, -1.0, kept).reward(retention);
            assert!((found - expected).abs() < 1e-12, "{solved:?} {kept:?}: {found}");
        };
        check(&[true, true], None, 1.0, 1.0);
        check(&[true, false], None, 1.0, 0.5);
        check(&[], None, 1.0, 0.0);
        check(&[true, true], Some((3, 4)), 1.0, 0.75);
        check(&[true, true], Some((3, 4)), 2.0, 0.5);
        check(&[false], Some((0, 4)), 2.0, -2.0);
        check(&[true], Some((0, 0)), 2.0, 1.0);
    }

    fn edits(of: &[(f64, f64)]) -> Vec<Graded> {
        let graded = |(sample, &(reward, log_prob))| Graded { sample, reward, log_prob };
        of.iter().enumerate().map(graded).collect()
    }

    #[test]
    fn winners_are_the_best_first_and_ties_are_broken_by_the_log_probability() {
        let check = |of: &[(f64, f64)], rule, most, expected: &[usize]| {
            let found: Vec<usize> = winners(&edits(of), rule, most).iter().map(|edit| edit.sample).collect();
            assert_eq!(found, expected, "{of:?} {rule:?}");
        };
        check(&[(1.0, -2.0), (0.0, -1.0), (1.0, -1.0)], Winners::All, 9, &[2, 0]);
        check(&[(1.0, -2.0), (0.0, -1.0), (1.0, -1.0)], Winners::All, 1, &[2]);
        check(&[(0.0, -1.0), (0.4, -1.0), (0.5, -1.0)], Winners::All, 9, &[2]);
        check(&[(0.2, -1.0), (0.6, -1.0), (0.4, -1.0)], Winners::Best, 1, &[1]);
        check(&[(0.3, -1.0), (0.3, -2.0)], Winners::Best, 9, &[]);
        check(&[], Winners::Best, 9, &[]);
    }

    #[test]
    fn a_grade_is_the_mean_over_the_inner_loops() {
        let loops = [measured(&[true], -1.0, None), measured(&[false], -3.0, None)];
        assert_eq!(grade(4, &loops, 1.0), Some(Graded { sample: 4, reward: 0.5, log_prob: -2.0 }));
        assert_eq!(grade(4, &[], 1.0), None);
    }

    #[test]
    fn the_better_share_survives() {
        let check = |scores: &[f64], share, expected: &[usize]| {
            assert_eq!(survivors(scores, share), expected, "{scores:?} {share}");
        };
        check(&[1.0, 4.0, 3.0, 2.0], 0.5, &[1, 2]);
        check(&[1.0, 1.0, 1.0], 0.5, &[0, 1]);
        check(&[f64::NAN, -5.0], 0.5, &[1]);
        check(&[1.0, 2.0], 0.0, &[1]);
        check(&[1.0, 2.0], 1.0, &[0, 1]);
        check(&[], 0.5, &[]);
    }
}
