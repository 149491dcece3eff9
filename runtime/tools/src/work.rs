//! A batch of work and what came of it, whichever the kind of tool and however it runs.

use selkie_edit::{Score, Submission, Task, TextSource, ToolKind};

/// What a tool is given.
#[derive(Debug, Clone, Copy)]
pub enum Work<'a> {
    /// For a puzzle augmenter.
    Tasks(&'a [Task]),
    /// For a text augmenter.
    Sources(&'a [TextSource]),
    /// For a grader.
    Submissions(&'a [Submission]),
}

impl Work<'_> {
    /// The kind of tool that it is for.
    pub fn kind(&self) -> ToolKind {
        match self {
            Work::Tasks(_) => ToolKind::PuzzleAugmenter,
            Work::Sources(_) => ToolKind::TextAugmenter,
            Work::Submissions(_) => ToolKind::Grader,
        }
    }
}

/// What a tool made.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    /// A puzzle augmenter's tasks; any number.
    Tasks(Vec<Task>),
    /// A text augmenter's documents: for each source, in order, its own.
    Documents(Vec<Vec<String>>),
    /// A grader's scores: one a submission, in order.
    Scores(Vec<Score>),
}

/// One batch for one tool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch<'a> {
    /// The tool's full name.
    pub(crate) tool: &'a str,
    /// A JSON object's text, which the tool's schema accepts.
    pub(crate) params: &'a str,
    /// The only randomness there is.
    pub(crate) seed: u64,
    /// What to work on.
    pub(crate) work: Work<'a>,
}
