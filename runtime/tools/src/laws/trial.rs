//! One law held against one batch, by as many calls as it takes.

use selkie_edit::{Submission, Task};
use serde_json::Value;

use super::{Law, answer};
use crate::manifest::Laws;
use crate::work::{Batch, Made, Work};

/// How far two scores that should be equal may be apart: what a sum in another order costs, and no more.
const SCORE_TOLERANCE: f64 = 1e-9;

/// Runs a tool: its name, parameters (a JSON object's text), seed and batch.
pub type Run<'a, E> = &'a mut dyn FnMut(&str, &str, u64, Work<'_>) -> Result<Made, E>;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The law holds for this batch.
    Held,
    /// This batch does not say: the law is about other parameters, or every task was left out.
    Silent,
    /// What is wrong with the answer.
    Broken(String),
}

impl Verdict {
    fn of(found: Option<String>) -> Verdict {
        found.map_or(Verdict::Held, Verdict::Broken)
    }
}

/// Holds a law against a batch. The seed is shown to the tool as it is.
pub(super) fn hold<E>(law: Law, laws: &Laws, batch: &Batch<'_>, run: Run<'_, E>) -> Result<Verdict, E> {
    let &Batch { tool, params, seed, work } = batch;
    Ok(match (law, work) {
        (Law::Schema, _) => run(tool, params, seed, work).map(|_| Verdict::Held)?,
        (Law::Repeatable | Law::Deterministic, _) => {
            let (other, which) = if law == Law::Repeatable { (seed, "the same") } else { (!seed, "another") };
            let made = run(tool, params, seed, work)?;
            let again = run(tool, params, other, work)?;
            Verdict::of(
                difference(&made, &again).map(|at| format!("{which} seed gives another answer: {at}")),
            )
        }
        (Law::Involution, Work::Tasks(tasks)) => undone(batch, tasks, tool, params, run)?,
        (Law::Inverse, Work::Tasks(tasks)) => {
            let params: Option<Value> = serde_json::from_str(params).ok();
            match laws.inverse.iter().find(|inverse| Some(&inverse.params) == params.as_ref()) {
                None => Verdict::Silent,
                Some(inverse) => {
                    undone(batch, tasks, &inverse.tool, &inverse.inverse_params.to_string(), run)?
                }
            }
        }
        (Law::OneOnEqual, Work::Submissions(submissions)) => one_on_equal(batch, submissions, run)?,
        (Law::Symmetric, Work::Submissions(submissions)) => symmetric(batch, submissions, run)?,
        _ => {
            let made = run(tool, params, seed, work)?;
            let is_silent = matches!(&made, Made::Tasks(made) if made.is_empty());
            match answer::found(law, laws, work, &made) {
                None if is_silent => Verdict::Silent,
                found => Verdict::of(found),
            }
        }
    })
}

/// Whether a second call gives each task back, one task at a time: a batch does not say which one was left out.
fn undone<E>(
    batch: &Batch<'_>,
    tasks: &[Task],
    second: &str,
    second_params: &str,
    run: Run<'_, E>,
) -> Result<Verdict, E> {
    let mut verdict = Verdict::Silent;
    for (at, task) in tasks.iter().enumerate() {
        let sent = std::slice::from_ref(task);
        let made = run(batch.tool, batch.params, batch.seed, Work::Tasks(sent))?;
        let Made::Tasks(made) = &made else { continue };
        if made.is_empty() {
            continue;
        }
        let back = run(second, second_params, batch.seed, Work::Tasks(made))?;
        if let Some(difference) = difference(&Made::Tasks(sent.into()), &back) {
            let found = format!("`{second}` with {second_params} does not give task {at} back: {difference}");
            return Ok(Verdict::Broken(found));
        }
        verdict = Verdict::Held;
    }
    Ok(verdict)
}

fn one_on_equal<E>(batch: &Batch<'_>, submissions: &[Submission], run: Run<'_, E>) -> Result<Verdict, E> {
    let equal: Vec<Submission> = submissions.iter().map(equal_sides).collect();
    let made = run(batch.tool, batch.params, batch.seed, Work::Submissions(&equal))?;
    Ok(Verdict::of(scores(&made).find_map(|(at, score)| {
        let is_one = (score - 1.0).abs() <= SCORE_TOLERANCE;
        (!is_one).then(|| format!("submission {at} scores {score} with its left side on both, not 1"))
    })))
}

fn symmetric<E>(batch: &Batch<'_>, submissions: &[Submission], run: Run<'_, E>) -> Result<Verdict, E> {
    let made = run(batch.tool, batch.params, batch.seed, batch.work)?;
    let swapped: Vec<Submission> = submissions.iter().map(swapped_sides).collect();
    let other = run(batch.tool, batch.params, batch.seed, Work::Submissions(&swapped))?;
    Ok(Verdict::of(scores(&made).zip(scores(&other)).find_map(|((at, one), (_, two))| {
        let is_equal = (one - two).abs() <= SCORE_TOLERANCE;
        (!is_equal).then(|| format!("submission {at} scores {one}, and {two} with its sides swapped"))
    })))
}

/// Where two answers differ, in words.
fn difference(one: &Made, two: &Made) -> Option<String> {
    fn lists<T: PartialEq>(one: &[T], two: &[T]) -> Option<String> {
        let at = one.iter().zip(two).position(|(a, b)| a != b);
        match at {
            _ if one.len() != two.len() => Some(format!("{} items, and {}", one.len(), two.len())),
            at => at.map(|at| format!("item {at} differs")),
        }
    }
    match (one, two) {
        (Made::Tasks(one), Made::Tasks(two)) => lists(one, two),
        (Made::Documents(one), Made::Documents(two)) => lists(one, two),
        (Made::Scores(one), Made::Scores(two)) => lists(one, two),
        _ => Some("answers of two kinds".into()),
    }
}

fn scores(made: &Made) -> impl Iterator<Item = (usize, f64)> {
    let scores: &[_] = if let Made::Scores(scores) = made { scores } else { &[] };
    scores.iter().map(|score| score.value).enumerate()
}

fn equal_sides(submission: &Submission) -> Submission {
    let mut submission = submission.clone();
    match &mut submission {
        Submission::Answers { left, right } => right.clone_from(left),
        Submission::Grids { left, right } => right.clone_from(left),
        Submission::Edit { .. } => {}
    }
    submission
}

fn swapped_sides(submission: &Submission) -> Submission {
    let mut submission = submission.clone();
    match &mut submission {
        Submission::Answers { left, right } => std::mem::swap(left, right),
        Submission::Grids { left, right } => std::mem::swap(left, right),
        Submission::Edit { .. } => {}
    }
    submission
}
