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

impl<'a> Work<'a> {
    /// Cut by the number and the bytes of its items: a function of the work alone, so that the same work always
    /// travels in the same batches. A single item is a batch however large it is.
    pub(crate) fn batches(self, items_max: usize, bytes_max: usize) -> Vec<Work<'a>> {
        match self {
            Work::Tasks(tasks) => {
                let cells = |task: &Task| task.grids().map(|grid| grid.cells().len()).sum();
                cut(tasks, items_max, bytes_max, cells).into_iter().map(Work::Tasks).collect()
            }
            Work::Sources(sources) => {
                let bytes = |source: &TextSource| {
                    source.title.len()
                        + source.text.len()
                        + source.completions.iter().map(String::len).sum::<usize>()
                };
                cut(sources, items_max, bytes_max, bytes).into_iter().map(Work::Sources).collect()
            }
            Work::Submissions(submissions) => cut(submissions, items_max, bytes_max, submission_bytes)
                .into_iter()
                .map(Work::Submissions)
                .collect(),
        }
    }

    /// The kind of tool that it is for.
    pub fn kind(&self) -> ToolKind {
        match self {
            Work::Tasks(_) => ToolKind::PuzzleAugmenter,
            Work::Sources(_) => ToolKind::TextAugmenter,
            Work::Submissions(_) => ToolKind::Grader,
        }
    }
}

fn submission_bytes(submission: &Submission) -> usize {
    match submission {
        Submission::Answers { left, right } => left.len() + right.len(),
        Submission::Grids { left, right } => left.cells().len() + right.cells().len(),
        Submission::Edit { title, passage, documents } => {
            title.len() + passage.len() + documents.iter().map(String::len).sum::<usize>()
        }
    }
}

fn cut<T>(items: &[T], items_max: usize, bytes_max: usize, bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut batches = Vec::new();
    let (mut start, mut total) = (0, 0);
    for (index, item) in items.iter().enumerate() {
        let more = bytes(item);
        if index > start && (index - start >= items_max || total + more > bytes_max) {
            batches.push(&items[start..index]);
            (start, total) = (index, 0);
        }
        total += more;
    }
    if start < items.len() {
        batches.push(&items[start..]);
    }
    batches
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

impl Made {
    /// Tasks, documents or scores.
    pub fn items(&self) -> usize {
        match self {
            Made::Tasks(tasks) => tasks.len(),
            Made::Documents(documents) => documents.iter().map(Vec::len).sum(),
            Made::Scores(scores) => scores.len(),
        }
    }
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
