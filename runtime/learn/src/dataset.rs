//! The training set: rendered sequences within the caps, with a digest.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use selkie_edit::limits::{EXAMPLES_MAX, SEQUENCE_TOKENS_MAX, TOKENS_MAX};
use selkie_edit::{Code, Domain, Plan, Problem, ToolOutcomes};
use sha2::{Digest, Sha256};

use crate::codec::Codec;
use crate::error::LearnError;
use crate::files::hex;
use crate::sequence::Sequence;

/// What an adapter is trained on. At least one sequence, at least one labelled token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingSet {
    sequences: Vec<Sequence>,
    left_out: usize,
    digest: String,
}

/// Why there is no training set.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The edit asks for more than a cap allows, or for nothing.
    #[error("{0}")]
    Refused(Problem),
    /// Rendering failed.
    #[error(transparent)]
    Learn(#[from] LearnError),
}

impl TrainingSet {
    /// Renders a puzzle's tasks, then the plan's documents, then those that tools wrote, then those about what was
    /// known before.
    ///
    /// Equal documents are kept once; tasks are distinct, but where every pair is a sequence of its own a pair is
    /// there as often as tasks show it. A puzzle's tasks may then render to more sequences than [`EXAMPLES_MAX`], and
    /// the seed chooses among them, never among the documents. Sequences above [`SEQUENCE_TOKENS_MAX`] are left out, as SEAL does; [`TrainingSet::left_out`] says how many.
    ///
    /// # Errors
    /// When nothing is left, or more than [`TOKENS_MAX`] tokens are, or a puzzle's edit has documents and the
    /// model understands none.
    pub fn build(codec: &Codec, plan: &Plan, outcomes: &ToolOutcomes) -> Result<TrainingSet, DatasetError> {
        let reads_documents = codec.domains().contains(&Domain::Passage);
        if plan.puzzle.is_some() && !plan.documents.is_empty() && !reads_documents {
            let expected = "no documents: this model understands puzzles only";
            let found = format!("{} documents", plan.documents.len());
            return Err(DatasetError::Refused(Problem::new(
                Code::WrongKind,
                "/data/documents",
                expected,
                found,
            )));
        }
        let mut tasks = Vec::new();
        for task in &outcomes.tasks {
            tasks.extend(codec.task(task, plan.training.loss_on)?);
        }
        let texts = plan.documents.iter().chain(&outcomes.documents).chain(&outcomes.replayed);
        let documents: Result<Vec<Sequence>, LearnError> = texts.map(|text| codec.document(text)).collect();
        let documents = documents?;
        let rendered = tasks.len() + documents.iter().collect::<HashSet<_>>().len();
        let sequences = assemble(tasks, documents, plan.seed);
        let left_out = rendered.saturating_sub(sequences.len());
        let tokens: usize = sequences.iter().map(Sequence::len).sum();
        if tokens > TOKENS_MAX {
            let expected =
                format!("at most {TOKENS_MAX} training tokens: fewer or shorter documents, or fewer tools");
            return Err(DatasetError::Refused(Problem::new(
                Code::OverLimit,
                "/data",
                expected,
                format!("{tokens} tokens"),
            )));
        }
        if sequences.is_empty() {
            let found = format!("no sequence of at most {SEQUENCE_TOKENS_MAX} tokens with a labelled one");
            let expected = "something to learn from".to_owned();
            return Err(DatasetError::Refused(Problem::new(Code::NothingToLearn, "/data", expected, found)));
        }
        let digest = digest(&sequences);
        Ok(TrainingSet { sequences, left_out, digest })
    }

    /// The sequences.
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Sequences that were left out: too long, or above the cap.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Tokens of one epoch.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(Sequence::len).sum()
    }

    /// SHA-256 over ids, positions and labels, as 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// At most [`EXAMPLES_MAX`] sequences of tasks, then the documents. A document is learned from once; a pair as often as
/// tasks show it, where a model learns pairs one by one.
fn assemble(mut tasks: Vec<Sequence>, mut documents: Vec<Sequence>, seed: u64) -> Vec<Sequence> {
    tasks.retain(is_learnable);
    if tasks.len() > EXAMPLES_MAX {
        tasks.shuffle(&mut ChaCha8Rng::seed_from_u64(selkie_edit::derive_seed(seed, "dataset")));
        tasks.truncate(EXAMPLES_MAX);
    }
    let mut seen = HashSet::new();
    documents.retain(|document| is_learnable(document) && seen.insert(document.clone()));
    tasks.extend(documents);
    tasks
}

/// Whether a sequence has a loss and is not too long.
fn is_learnable(sequence: &Sequence) -> bool {
    sequence.len() <= SEQUENCE_TOKENS_MAX && sequence.labelled_count() > 0
}

pub(crate) fn digest(sequences: &[Sequence]) -> String {
    let mut hash = Sha256::new();
    for sequence in sequences {
        hash.update((sequence.len() as u64).to_le_bytes());
        for ((id, position), labelled) in sequence.ids.iter().zip(&sequence.positions).zip(&sequence.labelled)
        {
            hash.update(id.to_le_bytes());
            hash.update(position.to_le_bytes());
            hash.update([u8::from(*labelled)]);
        }
    }
    hex(hash)
}

#[cfg(test)]
mod tests {
    use selkie_edit::{
        Example, Grid, LossOn, Permute, PuzzlePlan, Task, ToolLimits, Training, TrainingDefaults,
    };

    use super::*;

    /// A pair of one row each; every number below 1000 makes another.
    fn pair(number: usize) -> Example {
        let cells = [number / 100, number / 10 % 10, number % 10].map(|digit| digit as u8).to_vec();
        let grid = |row: Vec<u8>| Grid::from_rows(&[row]).expect("a grid");
        Example { input: grid(cells), output: grid(vec![0]) }
    }

    fn task(train: &[usize], test: usize) -> Task {
        Task { train: train.iter().map(|&number| pair(number)).collect(), test: pair(test) }
    }

    fn puzzle_plan(loss_on: LossOn, documents: Vec<String>, seed: u64) -> Plan {
        let permute = Permute { copies: 0, colors: false };
        let (rounds, pipelines, permute_calls) = (Vec::new(), Vec::new(), Vec::new());
        let puzzle = Some(PuzzlePlan { rounds, pipelines, permute, permute_calls });
        let training = Training { loss_on, ..TrainingDefaults::seal().puzzle };
        Plan { puzzle, text: None, limits: ToolLimits::default(), documents, replay: 0, training, seed }
    }

    fn puzzle_set(loss_on: LossOn, tasks: Vec<Task>, seed: u64) -> Result<TrainingSet, DatasetError> {
        let outcomes = ToolOutcomes { tasks, ..ToolOutcomes::default() };
        TrainingSet::build(
            &Codec::Puzzles(Box::default()),
            &puzzle_plan(loss_on, Vec::new(), seed),
            &outcomes,
        )
    }

    fn passage_set(documents: Vec<String>) -> Result<TrainingSet, DatasetError> {
        let plan = Plan {
            puzzle: None,
            text: None,
            limits: ToolLimits::default(),
            documents,
            replay: 0,
            training: TrainingDefaults::seal().passage,
            seed: 1,
        };
        TrainingSet::build(&Codec::Facts(Box::default()), &plan, &ToolOutcomes::default())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn refused(set: Result<TrainingSet, DatasetError>) -> Problem {
        match set {
            Err(DatasetError::Refused(problem)) => problem,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// A sequence of its own for every number.
    fn sequence(number: u32) -> Sequence {
        Sequence { ids: vec![0, number], positions: vec![0, 1], labelled: vec![false, true] }
    }

    #[test]
    fn a_pair_is_learned_as_often_as_tasks_show_it_and_a_document_once() {
        let tasks = vec![task(&[1, 2], 3), task(&[2, 3], 4)];
        let set = puzzle_set(LossOn::AllOutputs, tasks, 1).expect("a set");
        let pairs = puzzle_set(LossOn::AllOutputs, vec![task(&[1, 2, 3, 2, 3], 4)], 1).expect("a set");
        assert_eq!(set, pairs);
        assert_eq!((set.sequences().len(), set.tokens()), (6, 6 * set.sequences()[0].len()));

        let set = passage_set(texts(&["T\na", "T\nb", "T\na"])).expect("a set");
        assert_eq!(set, passage_set(texts(&["T\na", "T\nb"])).expect("a set"));
        assert_eq!(set.sequences().len(), 2);
    }

    #[test]
    fn the_seed_chooses_among_too_many_pairs() {
        let tasks: Vec<Task> = (0..EXAMPLES_MAX + 50).map(|number| task(&[], number)).collect();
        let set = |seed| puzzle_set(LossOn::FinalOutput, tasks.clone(), seed).expect("a set");
        assert_eq!(set(1).sequences().len(), EXAMPLES_MAX);
        assert_eq!(set(1), set(1));
        assert_ne!(set(1).digest(), set(2).digest());
        // As many as are allowed keep their order, whatever the seed.
        let fitting =
            |seed| puzzle_set(LossOn::FinalOutput, tasks[..EXAMPLES_MAX].to_vec(), seed).expect("a set");
        assert_eq!(fitting(1), fitting(2));
    }

    #[test]
    fn documents_follow_the_tasks_and_are_never_cut() {
        let (tasks, documents): (Vec<_>, Vec<_>) =
            ((0..300).map(sequence).collect(), (300..600).map(sequence).collect());
        let sequences = assemble(tasks, documents.clone(), 1);
        assert_eq!(sequences.len(), EXAMPLES_MAX + 300);
        assert_eq!(sequences[EXAMPLES_MAX..], documents);
        assert!(sequences[..EXAMPLES_MAX].iter().all(|sequence| sequence.ids[1] < 300));
        assert_eq!(
            assemble(vec![sequence(1)], vec![sequence(2), sequence(1), sequence(2)], 1),
            [sequence(1), sequence(2), sequence(1)]
        );
    }

    #[test]
    fn a_puzzles_documents_need_a_model_that_reads() {
        let plan = puzzle_plan(LossOn::FinalOutput, texts(&["Turn it.", "Turn it twice."]), 1);
        let outcomes = ToolOutcomes { tasks: vec![task(&[1], 2)], ..ToolOutcomes::default() };
        let problem = refused(TrainingSet::build(&Codec::Puzzles(Box::default()), &plan, &outcomes));
        assert_eq!((problem.code, problem.pointer.as_str()), (Code::WrongKind, "/data/documents"));
        assert_eq!(problem.expected, "no documents: this model understands puzzles only");
        assert_eq!((problem.found.as_str(), problem.retryable), ("2 documents", true));
        // pup-facts reads, and is given no task here, as it knows none.
        let set = TrainingSet::build(&Codec::Facts(Box::default()), &plan, &ToolOutcomes::default())
            .expect("a set");
        assert_eq!(set.sequences(), passage_set(plan.documents).expect("a set").sequences());
    }

    #[test]
    fn any_change_is_another_digest() {
        let base = [sequence(1), sequence(2)];
        let mut digests = vec![digest(&base), digest(&base[..1]), digest(&[sequence(2), sequence(1)])];
        for change in [
            |sequence: &mut Sequence| sequence.ids[0] = 9,
            |sequence: &mut Sequence| sequence.positions[1] = 9,
            |sequence: &mut Sequence| sequence.labelled[0] = true,
        ] {
            let mut changed = base.clone();
            change(&mut changed[1]);
            digests.push(digest(&changed));
        }
        // The same tokens in one sequence instead of two.
        let [mut joined, second] = base.clone();
        joined.ids.extend(second.ids);
        joined.positions.extend(second.positions);
        joined.labelled.extend(second.labelled);
        digests.push(digest(&[joined]));
        assert!(digests.iter().all(|digest| digest.len() == 64));
        assert_eq!(digests.iter().collect::<HashSet<_>>().len(), digests.len());
        assert_eq!(digest(&base), digests[0]);
    }

    #[test]
    fn an_empty_set_is_refused() {
        let check = |set| assert_eq!(refused(set).code, Code::NothingToLearn);
        check(puzzle_set(LossOn::AllTokens, Vec::new(), 1));
        check(passage_set(Vec::new()));
        // Above the longest sequence, by a byte a token.
        check(passage_set(vec!["q".repeat(SEQUENCE_TOKENS_MAX)]));
    }

    #[test]
    fn too_many_tokens_are_refused() {
        // Not words of pup's: a byte a token, and so of one length.
        let document = |number: usize| format!("q{number:03}{}", "q".repeat(8000));
        let tokens = Codec::Facts(Box::default()).document(&document(0)).expect("a document").len();
        let most = TOKENS_MAX / tokens;
        assert!(most < 1000 && tokens <= SEQUENCE_TOKENS_MAX);
        let set = passage_set((0..most).map(document).collect()).expect("a set");
        assert_eq!((set.sequences().len(), set.tokens()), (most, most * tokens));
        let problem = refused(passage_set((0..=most).map(document).collect()));
        assert_eq!((problem.code, problem.pointer.as_str()), (Code::OverLimit, "/data"));
        assert_eq!(problem.found, format!("{} tokens", (most + 1) * tokens));
    }
}
