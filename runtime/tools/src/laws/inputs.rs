//! Generated batches: small, varied, and able to shrink.

use proptest::prelude::{BoxedStrategy, Strategy};
use proptest::strategy::{Union, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use proptest::{collection, option, sample};
use selkie_edit::{Example, Grid, Submission, SubmissionKind, Task, TextSource, ToolKind};
use sha2::{Digest, Sha256};

use crate::work::Work;

/// Items of a generated batch.
const ITEMS_MAX: usize = 3;

/// Demonstrations of a generated task.
const DEMONSTRATIONS_MAX: usize = 4;

/// Colours of which a grid repeats a pattern: enough that no side of a puzzle fits it.
const PATTERN_MAX: usize = 37;

/// A batch that owns its items.
#[derive(Debug, Clone, PartialEq)]
pub enum Items {
    /// For a puzzle augmenter.
    Tasks(Vec<Task>),
    /// For a text augmenter.
    Sources(Vec<TextSource>),
    /// For a grader.
    Submissions(Vec<Submission>),
}

impl Items {
    /// A copy.
    pub(crate) fn of(work: Work<'_>) -> Items {
        match work {
            Work::Tasks(tasks) => Items::Tasks(tasks.to_vec()),
            Work::Sources(sources) => Items::Sources(sources.to_vec()),
            Work::Submissions(submissions) => Items::Submissions(submissions.to_vec()),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Items::Tasks(tasks) => tasks.len(),
            Items::Sources(sources) => sources.len(),
            Items::Submissions(submissions) => submissions.len(),
        }
    }

    /// As a tool is given it.
    pub fn work(&self) -> Work<'_> {
        match self {
            Items::Tasks(tasks) => Work::Tasks(tasks),
            Items::Sources(sources) => Work::Sources(sources),
            Items::Submissions(submissions) => Work::Submissions(submissions),
        }
    }
}

/// Draws that depend on the seed and on what they are for, and on nothing else.
pub(super) fn runner(seed: u64, path: &str) -> TestRunner {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(path).finalize();
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &digest))
}

/// `count` generated tasks, the same for the same seed: sides of 1 to 30, mostly small, few colours.
pub fn sample_tasks(count: usize, seed: u64) -> Vec<Task> {
    drawn(&of_looks(task), count, seed, "tasks")
}

/// `count` generated items for a tool of this kind, the same for the same seed. `takes` is what a grader grades.
pub fn sample_items(kind: ToolKind, takes: Option<SubmissionKind>, count: usize, seed: u64) -> Items {
    match kind {
        ToolKind::PuzzleAugmenter => Items::Tasks(sample_tasks(count, seed)),
        ToolKind::TextAugmenter => Items::Sources(drawn(&source(), count, seed, "sources")),
        ToolKind::Grader => Items::Submissions(drawn(&submission(takes), count, seed, "submissions")),
    }
}

fn drawn<T: std::fmt::Debug>(what: &BoxedStrategy<T>, count: usize, seed: u64, path: &str) -> Vec<T> {
    let mut runner = runner(seed, path);
    let draws = std::iter::repeat_with(|| Some(what.new_tree(&mut runner).ok()?.current()));
    draws.take(count).flatten().collect()
}

/// Batches for a tool of this kind.
pub(super) fn batches(kind: ToolKind, takes: Option<SubmissionKind>) -> BoxedStrategy<Items> {
    match (kind, takes) {
        (ToolKind::PuzzleAugmenter, _) => {
            let of = |side, colours| collection::vec(task(side, colours), 1..=ITEMS_MAX).boxed();
            of_looks(of).prop_map(Items::Tasks).boxed()
        }
        (ToolKind::TextAugmenter, _) => {
            collection::vec(source(), 1..=ITEMS_MAX).prop_map(Items::Sources).boxed()
        }
        (ToolKind::Grader, takes) => {
            collection::vec(submission(takes), 1..=ITEMS_MAX).prop_map(Items::Submissions).boxed()
        }
    }
}

fn submission(takes: Option<SubmissionKind>) -> BoxedStrategy<Submission> {
    match takes {
        Some(SubmissionKind::Grids) => two_grids(),
        Some(SubmissionKind::Edit) => edit(),
        Some(SubmissionKind::Answers) | None => two_answers(),
    }
}

/// How large the grids of a batch are at most and how many colours they have, with how often that is drawn. A
/// law about the largest side or about new colours is broken by batches that have few of them altogether.
const LOOKS: [(u32, u8, u8); 6] = [(1, 1, 2), (2, 2, 3), (4, 6, 4), (3, 6, 10), (2, 12, 3), (2, 30, 10)];

/// One of what is made for each look.
fn of_looks<T: std::fmt::Debug + 'static>(make: impl Fn(u8, u8) -> BoxedStrategy<T>) -> BoxedStrategy<T> {
    Union::new_weighted(LOOKS.iter().map(|&(weight, side, colours)| (weight, make(side, colours))).collect())
        .boxed()
}

fn task(side: u8, colours: u8) -> BoxedStrategy<Task> {
    let example = || example(side, colours);
    let train = collection::vec(example(), 1..=DEMONSTRATIONS_MAX);
    (train, example()).prop_map(|(train, test)| Task { train, test }).boxed()
}

/// Often of two like grids: most puzzles keep the shape.
fn example(side: u8, colours: u8) -> BoxedStrategy<Example> {
    let of = |(input, output): (Grid, Option<Grid>)| Example {
        output: output.unwrap_or_else(|| input.clone()),
        input,
    };
    (grid(side, colours), option::of(grid(side, colours))).prop_map(of).boxed()
}

/// A pattern of colours, row by row over the whole grid. Sides and pattern shrink each for itself.
fn grid(side: u8, colours: u8) -> BoxedStrategy<Grid> {
    let pattern = collection::vec(0..colours, 0..=PATTERN_MAX);
    let of = |(height, width, pattern): (u8, u8, Vec<u8>)| {
        let cells = usize::from(height) * usize::from(width);
        let cells = pattern.iter().copied().cycle().chain(std::iter::repeat(0)).take(cells).collect();
        Grid::new(height, width, cells).ok()
    };
    (1..=side, 1..=side, pattern).prop_filter_map("a grid", of).boxed()
}

/// Pieces of passages and of what models write, as they occur and as they should not.
const PIECES: [&str; 26] = [
    "The harbour of Selby was rebuilt in 1987.",
    "It cost 3.5 million pounds; nobody was paid twice.",
    "Dr. Ada Moore, of St. Ives, agreed.",
    "Élodie wrote: \u{201c}naïve façades\u{201d}.",
    "東京は日本の首都です。",
    "مرحبا بالعالم",
    "e\u{301}\u{200d}\u{1f469}\u{200d}\u{1f680}",
    "1. The bridge is old.",
    "2) It has two arches.",
    "- a point\n- another point",
    "---",
    "-----",
    "Here are the implications:",
    "Question: Who built it?\nAnswer: The town.",
    "Question: When?",
    "Answer:",
    "A",
    "   ",
    "\t",
    "...",
    "!?",
    "<|endoftext|>",
    "{\"edits\": []}",
    "\\n",
    "word word word word",
    "a\u{a0}b",
];

fn text() -> BoxedStrategy<String> {
    let joint = sample::select(vec!["\n", " ", "\n\n", "\n---\n", "\r\n", ""]);
    let pieces = collection::vec(sample::select(PIECES.to_vec()), 0..=8);
    (pieces, joint).prop_map(|(pieces, joint)| pieces.join(joint)).boxed()
}

fn title() -> BoxedStrategy<String> {
    sample::select(vec!["", "Selby", "Bridge: a history", "東京", " "]).prop_map(String::from).boxed()
}

fn source() -> BoxedStrategy<TextSource> {
    let completions = collection::vec(text(), 0..=3);
    let of = |(title, text, completions)| TextSource { title, text, completions };
    (title(), text(), completions).prop_map(of).boxed()
}

fn edit() -> BoxedStrategy<Submission> {
    let of = |(title, passage, documents)| Submission::Edit { title, passage, documents };
    (title(), text(), collection::vec(text(), 0..=4)).prop_map(of).boxed()
}

fn two_grids() -> BoxedStrategy<Submission> {
    of_looks(|side, colours| {
        let near =
            (grid(side, colours), 0..900usize, 0..10u8).prop_filter_map("a grid", |(left, at, colour)| {
                let mut cells = left.cells().to_vec();
                let at = at % cells.len();
                cells[at] = colour;
                let right = Grid::new(left.height(), left.width(), cells).ok()?;
                Some(Submission::Grids { left, right })
            });
        let far = (grid(side, colours), grid(side, colours));
        let far = far.prop_map(|(left, right)| Submission::Grids { left, right });
        Union::new([near.boxed(), far.boxed()]).boxed()
    })
}

/// Answers, and ways to change one a little.
fn two_answers() -> BoxedStrategy<Submission> {
    const ANSWERS: [&str; 18] = [
        "1987",
        "the town",
        "two",
        "3.5 million",
        "3.50",
        "1,000",
        "-7",
        "1e3",
        "0",
        "",
        "The Selby Bridge",
        "Élodie",
        "東京",
        "yes",
        "a",
        "an an",
        "50%",
        " padded  answer ",
    ];
    const CHANGES: [fn(&str) -> String; 8] = [
        |answer| answer.to_owned(),
        |answer| answer.to_uppercase(),
        |answer| format!("The {answer}."),
        |answer| format!("  {answer}\n"),
        |answer| answer.split_whitespace().skip(1).collect::<Vec<_>>().join(" "),
        |answer| answer.split_whitespace().rev().collect::<Vec<_>>().join(" "),
        |answer| format!("{answer} {answer}"),
        |answer| answer.replace(|c: char| c.is_ascii_punctuation(), ""),
    ];
    let answer = || {
        let piece = sample::select(PIECES.to_vec()).prop_map(String::from);
        Union::new([sample::select(ANSWERS.to_vec()).prop_map(String::from).boxed(), piece.boxed(), text()])
    };
    let near = (answer(), 0..CHANGES.len()).prop_map(|(left, change)| {
        let right = CHANGES[change](&left);
        Submission::Answers { left, right }
    });
    let far = (answer(), answer()).prop_map(|(left, right)| Submission::Answers { left, right });
    Union::new([near.boxed(), far.boxed()]).boxed()
}
