//! What a step tells while it runs.

use selkie_edit::{Dialect, Refused, Report, ToolRun};
use selkie_learn::{StepStats, WrittenEdit};

/// One thing that happened, in order.
#[derive(Debug)]
pub enum Event<'a> {
    /// The model wrote a self-edit.
    Written {
        /// Which try, from 1.
        attempt: u32,
        /// The edit and its prompt.
        edit: &'a WrittenEdit,
    },
    /// What the model wrote was refused; another try may follow.
    Refused {
        /// Which try, from 1.
        attempt: u32,
        /// Every problem.
        problems: &'a Refused,
    },
    /// An edit was accepted.
    Accepted {
        /// Its form.
        dialect: Dialect,
    },
    /// All tools ran.
    Tools {
        /// One entry a tool; empty for a passage.
        runs: &'a [ToolRun],
        /// Tasks that they made and that were kept (puzzles), or documents (passages).
        items: usize,
    },
    /// The training set stands.
    Dataset {
        /// Sequences.
        examples: usize,
        /// Sequences that were left out: too long, or above the cap.
        left_out: usize,
        /// Tokens of one epoch.
        tokens: usize,
        /// Optimiser steps to come.
        steps: u64,
    },
    /// One more item is about to be measured.
    Measuring,
    /// The model was measured before training.
    Before(&'a Report),
    /// One optimiser step.
    Step(&'a StepStats),
    /// The candidate was measured.
    After(&'a Report),
}
