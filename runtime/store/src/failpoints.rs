//! Named places where a write can be stopped, so that tests can die at each of them.
//!
//! In a shipped binary [`reach`] is empty. In tests, and in other crates' tests through the feature
//! `failpoints`, a thread arms one step: the store then fails there with `Error::Injected`, either as a disk
//! would (the process goes on and cleans up) or as a kill would (nothing is cleaned up until the next open).

use crate::error::Error;

/// A step of a write, in the order in which they happen. Reached just before the step's own effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The ledger of a new home is complete under `staging/`, and is about to be renamed into place.
    PublishLedger,
    /// A folder under `staging/` is about to be created.
    CreateFolder,
    /// Half of a file's bytes are written.
    WriteFile,
    /// A file is written and about to be synced.
    SyncFile,
    /// All files are synced; the folder that lists them is not.
    SyncFolder,
    /// The folder is about to be renamed to its content id.
    PublishAdapter,
    /// It is renamed; the rename is not synced.
    SyncAdapters,
    /// The ledger transaction is open.
    InsertEntry,
    /// The entry is written, the adapter's manifest is not.
    InsertFiles,
    /// The manifest is written, the generation is not.
    InsertGeneration,
    /// The generation is written, the active pointer is where it was.
    MovePointer,
    /// Everything is written and nothing is committed.
    Commit,
    /// The ledger transaction is committed.
    Committed,
    /// A folder that nothing refers to is about to be removed.
    RemoveFolder,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 14] = [
        Step::PublishLedger,
        Step::CreateFolder,
        Step::WriteFile,
        Step::SyncFile,
        Step::SyncFolder,
        Step::PublishAdapter,
        Step::SyncAdapters,
        Step::InsertEntry,
        Step::InsertFiles,
        Step::InsertGeneration,
        Step::MovePointer,
        Step::Commit,
        Step::Committed,
        Step::RemoveFolder,
    ];
}

/// Passes a step, unless a test wants it to fail.
#[cfg(not(any(test, feature = "failpoints")))]
#[expect(clippy::unnecessary_wraps, reason = "the armed twin below fails")]
#[inline(always)]
pub(crate) fn reach(_step: Step) -> Result<(), Error> {
    Ok(())
}

/// Whether this process is to be taken for dead, so that nothing is cleaned up.
#[cfg(not(any(test, feature = "failpoints")))]
#[inline(always)]
pub(crate) fn is_dead() -> bool {
    false
}

#[cfg(any(test, feature = "failpoints"))]
pub use armed::{Armed, Failure, arm};
#[cfg(any(test, feature = "failpoints"))]
pub(crate) use armed::{is_dead, reach};

#[cfg(any(test, feature = "failpoints"))]
mod armed {
    use std::cell::RefCell;

    use super::{Error, Step};

    /// What happens at an armed step.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Failure {
        /// The step fails as on a full disk: the error is returned and clean-up runs.
        Fault,
        /// The process is taken for dead: every later step fails too and no clean-up runs, until the guard is
        /// dropped.
        Crash,
    }

    struct Plan {
        step: Step,
        passes_left: u32,
        failure: Failure,
        dead: bool,
        fired: bool,
    }

    thread_local! {
        static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
    }

    /// Keeps a step of this thread armed until it is dropped.
    #[must_use]
    pub struct Armed(());

    /// Makes this thread fail when it reaches `step` for the time after `passes` others.
    pub fn arm(step: Step, passes: u32, failure: Failure) -> Armed {
        let plan = Plan { step, passes_left: passes, failure, dead: false, fired: false };
        PLAN.with_borrow_mut(|slot| *slot = Some(plan));
        Armed(())
    }

    impl Armed {
        /// Whether the step was reached.
        pub fn fired(&self) -> bool {
            PLAN.with_borrow(|slot| slot.as_ref().is_some_and(|plan| plan.fired))
        }
    }

    impl Drop for Armed {
        fn drop(&mut self) {
            PLAN.with_borrow_mut(|slot| *slot = None);
        }
    }

    pub(crate) fn reach(step: Step) -> Result<(), Error> {
        PLAN.with_borrow_mut(|slot| {
            let Some(plan) = slot else { return Ok(()) };
            if plan.dead {
                return Err(Error::Injected { step });
            }
            if plan.fired || plan.step != step {
                return Ok(());
            }
            if plan.passes_left > 0 {
                plan.passes_left -= 1;
                return Ok(());
            }
            plan.fired = true;
            plan.dead = plan.failure == Failure::Crash;
            Err(Error::Injected { step })
        })
    }

    pub(crate) fn is_dead() -> bool {
        PLAN.with_borrow(|slot| slot.as_ref().is_some_and(|plan| plan.dead))
    }
}
