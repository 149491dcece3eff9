//! The laws that take further calls, held against a few items of a few batches while tools are in use.

use sha2::{Digest, Sha256};

use super::trial::{Run, Verdict, hold};
use super::{BrokenLaw, Law, compact};
use crate::manifest::Laws;
use crate::work::{Batch, Work};

/// Of so many batches one is sampled. With [`SAMPLED_RUNS_MAX`] a batch costs a fifth of a small call more on
/// average.
pub const SAMPLED_ONE_IN: u64 = 64;

/// Items of a sampled batch that are looked at, each by itself: the first and the last.
pub const SAMPLED_ITEMS_MAX: usize = 2;

/// Calls that a sample takes at most: for each item two with two seeds, two for an involution and two for an
/// inverse.
pub const SAMPLED_RUNS_MAX: usize = 6 * SAMPLED_ITEMS_MAX;

/// The laws that are sampled, if they are declared.
const SAMPLED: [Law; 5] =
    [Law::Deterministic, Law::Involution, Law::Inverse, Law::OneOnEqual, Law::Symmetric];

/// Whether a batch is one of those that are sampled: a function of what the tool is given, so that the same work
/// is done again when a result is reproduced. Of the batch its length and its beginning count.
pub(crate) fn is_sampled(batch: &Batch<'_>) -> bool {
    let length = match batch.work {
        Work::Tasks(tasks) => tasks.len(),
        Work::Sources(sources) => sources.len(),
        Work::Submissions(submissions) => submissions.len(),
    };
    let mut digest = Sha256::new();
    for text in [batch.tool, batch.params, &compact(batch.work)] {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text);
    }
    let digest = digest.chain_update(batch.seed.to_le_bytes()).chain_update((length as u64).to_le_bytes());
    let digest = digest.finalize();
    let number = digest.iter().take(8).fold(0, |number: u64, &byte| (number << 8) | u64::from(byte));
    number.is_multiple_of(SAMPLED_ONE_IN)
}

/// Holds the laws that take further calls against the first and the last item of a batch, by at most
/// [`SAMPLED_RUNS_MAX`] calls of `run`. The batch's seed is the one that the tool was shown.
///
/// # Errors
/// The first error of `run`; what to make of it is the host's to say.
pub(crate) fn sampled<E>(laws: &Laws, batch: &Batch<'_>, run: Run<'_, E>) -> Result<Option<BrokenLaw>, E> {
    let repeatable = (!laws.deterministic).then_some(Law::Repeatable);
    let held: Vec<Law> =
        repeatable.into_iter().chain(laws.declared().filter(|law| SAMPLED.contains(law))).collect();
    for work in ends(batch.work).into_iter().flatten() {
        let one = Batch { work, ..*batch };
        for &law in &held {
            if let Verdict::Broken(found) = hold(law, laws, &one, run)? {
                return Ok(Some(BrokenLaw::new(law, &one, &found)));
            }
        }
    }
    Ok(None)
}

/// The first and the last item of a batch, each as a batch.
fn ends(work: Work<'_>) -> [Option<Work<'_>>; SAMPLED_ITEMS_MAX] {
    fn of<T>(items: &[T]) -> [Option<&[T]>; SAMPLED_ITEMS_MAX] {
        let first = items.first().map(std::slice::from_ref);
        let last = items.last().filter(|_| items.len() > 1).map(std::slice::from_ref);
        [first, last]
    }
    match work {
        Work::Tasks(tasks) => of(tasks).map(|items| items.map(Work::Tasks)),
        Work::Sources(sources) => of(sources).map(|items| items.map(Work::Sources)),
        Work::Submissions(submissions) => of(submissions).map(|items| items.map(Work::Submissions)),
    }
}
