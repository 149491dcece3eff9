//! Grading: what the host does so that a grader's scores can be believed.
//!
//! A grader decides what a model learns, so it is what an attacker would want. It runs in an instance of its own;
//! of a reference answer it never learns which side it is; among the submissions are some of the host's own whose
//! scores are known; and of a comparison with a reference only the number leaves the sandbox.

use selkie_edit::{Grid, PlannedCall, Score, SplitMix64, Submission, SubmissionKind, derive_seed};

use crate::error::{GraderFault, ToolError};
use crate::host::{CallResult, ToolHost};

/// An answer and what it is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair {
    /// Texts.
    Answers {
        /// What a model said.
        answer: String,
        /// What it should have said.
        reference: String,
    },
    /// Grids.
    Grids {
        /// What a model drew.
        answer: Grid,
        /// What it should have drawn.
        reference: Grid,
    },
}

/// A canary: its name, the submission, and what is known about its score.
type Canary = (&'static str, Submission, Known);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    /// Two equal sides: nothing is better.
    Best,
    /// Two sides that have nothing in common: worse than [`Known::Best`].
    Worse,
}

impl ToolHost {
    /// Compares answers with their references: one score from 0 to 1 each, and no words.
    ///
    /// The sides are in an order that the seed draws, and two canaries travel with every call: a pair that is
    /// equal and a pair that has nothing in common.
    ///
    /// # Errors
    /// As [`ToolHost::augment`], and [`ToolError::Grader`] when the scores cannot be believed.
    pub fn compare(&self, call: &PlannedCall, pairs: &[Pair]) -> Result<CallResult<Vec<f64>>, ToolError> {
        let mut sides = SplitMix64::new(derive_seed(call.seed, "sides"));
        let mut submissions: Vec<Submission> =
            pairs.iter().map(|pair| blind(pair, sides.next_u64().is_multiple_of(2))).collect();
        let kind = pairs.first().map_or(SubmissionKind::Answers, Pair::kind);
        // Somewhere among the others, so that their place does not tell what they are.
        let canaries: Vec<(usize, Canary)> = canaries(kind)
            .into_iter()
            .map(|canary| {
                let at = sides.below(submissions.len() + 1);
                submissions.insert(at, canary.1.clone());
                (at, canary)
            })
            .collect();
        let mut result = self.scores(call, &submissions)?;
        for (at, canary) in canaries.into_iter().rev() {
            let score = result.made.remove(at);
            check(&canary, score.value).map_err(|fault| fault_of(call, fault))?;
        }
        let values = result.made.iter().map(|score| score.value).collect();
        Ok(result.with(values))
    }

    /// Grades self-edits of passages, with reasons. No reference is involved.
    ///
    /// An edit that teaches nothing travels with every call; a grader that finds it as good as the best of the
    /// others does not look at what it is given.
    ///
    /// # Errors
    /// As [`ToolHost::compare`].
    pub fn grade_edits(
        &self,
        call: &PlannedCall,
        edits: &[Submission],
    ) -> Result<CallResult<Vec<Score>>, ToolError> {
        if let Some(other) = edits.iter().find(|edit| edit.kind() != SubmissionKind::Edit) {
            let (found, asked) = (format!("{:?}", other.kind()), "edits".to_owned());
            return Err(ToolError::WrongKind { tool: call.tool.clone(), found, asked });
        }
        let mut submissions = edits.to_vec();
        let passage = edits.first().map_or_else(String::new, |edit| match edit {
            Submission::Edit { passage, .. } => passage.clone(),
            _ => String::new(),
        });
        submissions.push(Submission::Edit { title: String::new(), passage, documents: Vec::new() });
        let mut result = self.scores(call, &submissions)?;
        let nothing = result.made.pop().map_or(0.0, |score| score.value);
        let best = result.made.iter().map(|score| score.value).fold(0.0, f64::max);
        if nothing > 0.0 && nothing >= best {
            let canary = "an edit without documents";
            let fault =
                GraderFault::Canary { canary, found: nothing, expected: "less than the best of the others" };
            return Err(fault_of(call, fault));
        }
        Ok(result)
    }
}

fn fault_of(call: &PlannedCall, fault: GraderFault) -> ToolError {
    ToolError::Grader { plugin: call.plugin.to_string(), tool: call.tool.clone(), fault }
}

fn check((name, _, known): &Canary, found: f64) -> Result<(), GraderFault> {
    let fault = |expected| Err(GraderFault::Canary { canary: name, found, expected });
    match known {
        Known::Best if found < 1.0 => fault("1"),
        Known::Worse if found >= 1.0 => fault("less than 1"),
        _ => Ok(()),
    }
}

impl Pair {
    fn kind(&self) -> SubmissionKind {
        match self {
            Pair::Answers { .. } => SubmissionKind::Answers,
            Pair::Grids { .. } => SubmissionKind::Grids,
        }
    }
}

fn blind(pair: &Pair, answer_first: bool) -> Submission {
    fn sides<T: Clone>(answer: &T, reference: &T, answer_first: bool) -> (T, T) {
        if answer_first { (answer.clone(), reference.clone()) } else { (reference.clone(), answer.clone()) }
    }
    match pair {
        Pair::Answers { answer, reference } => {
            let (left, right) = sides(answer, reference, answer_first);
            Submission::Answers { left, right }
        }
        Pair::Grids { answer, reference } => {
            let (left, right) = sides(answer, reference, answer_first);
            Submission::Grids { left, right }
        }
    }
}

/// Pairs of the host's own. Numbers, so that a numeric grader knows them too.
fn canaries(kind: SubmissionKind) -> Vec<Canary> {
    let equal = "a pair that is equal";
    let apart = "a pair that has nothing in common";
    match kind {
        SubmissionKind::Answers => {
            let answers =
                |left: &str, right: &str| Submission::Answers { left: left.into(), right: right.into() };
            vec![(equal, answers("1789", "1789"), Known::Best), (apart, answers("1789", "42"), Known::Worse)]
        }
        SubmissionKind::Grids => {
            let grids = |left: Vec<u8>, right: Vec<u8>| {
                let grid = |cells: Vec<u8>| Grid::new(1, 3, cells).ok();
                Some(Submission::Grids { left: grid(left)?, right: grid(right)? })
            };
            let equal = grids(vec![1, 2, 3], vec![1, 2, 3]).map(|pair| (equal, pair, Known::Best));
            let apart = grids(vec![1, 2, 3], vec![4, 5, 6]).map(|pair| (apart, pair, Known::Worse));
            equal.into_iter().chain(apart).collect()
        }
        SubmissionKind::Edit => Vec::new(),
    }
}
