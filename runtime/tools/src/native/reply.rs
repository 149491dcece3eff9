//! A reply's frames, read as what they should be. They come from the plugin's process and are hostile.

use selkie_edit::Score;

use super::process::Answer;
use super::wire::{DOCUMENT, DONE, FAULT, MANIFEST, REFUSAL, Reader, SCORE, TASK, Unreadable};
use super::{NativeError, NativeLimits, Refusal, Reply, abi};
use crate::error::{GuestErrorKind, scrub};
use crate::limits::{ERROR_BYTES_MAX, OUTPUT_DEMONSTRATIONS_MAX};
use crate::work::{Made, Work};

/// Why a library was not called; the first byte of a fault.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    NotALibrary = 0,
    Abi = 1,
    MissingSymbol = 2,
    Worker = 3,
}

/// The frames of an answer, up to its end.
struct Frames<'a> {
    reader: Reader<'a>,
    /// Bytes of memory that the rest of the answer may take.
    budget: usize,
    max: usize,
    log: &'a str,
}

impl<'a> Frames<'a> {
    fn of(answer: &'a Answer, limits: &NativeLimits) -> Frames<'a> {
        let max = limits.output_bytes;
        Frames { reader: Reader::new(&answer.bytes, max), budget: max, max, log: &answer.log }
    }

    /// The next frame, `None` after the last.
    fn next(&mut self) -> Result<Option<(u8, Reader<'a>)>, NativeError> {
        if self.reader.is_empty() {
            return Err(NativeError::Exited { code: 0, log: self.log.to_owned() });
        }
        let (tag, content) = self.reader.frame().map_err(|problem| self.refused("its end", problem))?;
        match tag {
            DONE => Ok(None),
            FAULT => Err(fault(content)),
            tag => Ok(Some((tag, Reader::new(content, self.budget)))),
        }
    }

    /// What a frame holds, and nothing more; its size in memory is taken from the budget.
    fn read<T>(
        &mut self,
        place: &str,
        mut content: Reader<'a>,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Unreadable>,
    ) -> Result<T, NativeError> {
        let value = read(&mut content).map_err(|problem| self.refused(place, problem))?;
        if !content.is_empty() {
            return Err(garbled());
        }
        self.budget = content.budget();
        Ok(value)
    }

    fn refused(&self, place: &str, problem: Unreadable) -> NativeError {
        match problem {
            Unreadable::Budget => self.too_large(self.max, "bytes"),
            Unreadable::Form(reason) => NativeError::BadOutput { reason: format!("{place}: {reason}") },
        }
    }

    fn too_large(&self, max: usize, unit: &'static str) -> NativeError {
        NativeError::OutputTooLarge { max, unit, log: self.log.to_owned() }
    }
}

fn garbled() -> NativeError {
    NativeError::BadOutput { reason: "it is not of the form that the interface writes".into() }
}

fn fault(content: &[u8]) -> NativeError {
    let mut reader = Reader::new(content, usize::MAX);
    let (Ok(kind), Ok(text)) = (reader.number(), reader.lossy()) else { return garbled() };
    let text = scrub(&text, ERROR_BYTES_MAX);
    match kind {
        kind if kind == Fault::NotALibrary as u32 => NativeError::NotALibrary { reason: text },
        kind if kind == Fault::Abi as u32 => match text.parse() {
            Ok(found) => NativeError::Abi { found, supported: abi::ABI_VERSION },
            Err(_) => garbled(),
        },
        kind if kind == Fault::MissingSymbol as u32 => NativeError::MissingSymbol { symbol: text },
        kind if kind == Fault::Worker as u32 => NativeError::Worker { reason: text },
        _ => garbled(),
    }
}

/// The manifest in the answer to `describe`.
pub(super) fn manifest(answer: &Answer, limits: &NativeLimits) -> Result<String, NativeError> {
    let mut frames = Frames::of(answer, limits);
    match frames.next()? {
        Some((MANIFEST, content)) => frames.read("its manifest", content, Reader::text),
        _ => Err(garbled()),
    }
}

/// The answer to a batch of this work.
pub(super) fn made(answer: Answer, work: Work<'_>, limits: &NativeLimits) -> Result<Reply, NativeError> {
    let mut frames = Frames::of(&answer, limits);
    let mut made = match work {
        Work::Tasks(_) => Made::Tasks(Vec::new()),
        Work::Sources(sources) => Made::Documents(vec![Vec::new(); sources.len()]),
        Work::Submissions(_) => Made::Scores(Vec::new()),
    };
    let mut refusal = None;
    let mut items = 0;
    while let Some((tag, content)) = frames.next()? {
        if tag == REFUSAL {
            let first = frames.read("a refusal", content, read_refusal)?;
            refusal.get_or_insert(first);
            continue;
        }
        items += 1;
        if items > limits.output_items {
            return Err(frames.too_large(limits.output_items, "items"));
        }
        add(&mut made, tag, content, &mut frames)?;
    }
    let made = refusal.map_or(Ok(made), Err);
    Ok(Reply { made, log: answer.log })
}

/// Adds a frame's item to what was made.
fn add<'a>(
    made: &mut Made,
    tag: u8,
    content: Reader<'a>,
    frames: &mut Frames<'a>,
) -> Result<(), NativeError> {
    match (made, tag) {
        (Made::Tasks(tasks), TASK) => {
            let task = frames.read(&format!("task {}", tasks.len()), content, Reader::task)?;
            let (at, count) = (tasks.len(), task.train.len());
            if count > OUTPUT_DEMONSTRATIONS_MAX {
                let most = OUTPUT_DEMONSTRATIONS_MAX;
                let reason = format!("task {at} has {count} examples, at most {most} are taken");
                return Err(NativeError::BadOutput { reason });
            }
            tasks.push(task);
        }
        (Made::Documents(sources), DOCUMENT) => {
            let read = |reader: &mut Reader<'_>| Ok((reader.number()?, reader.text()?));
            let (source, document) = frames.read("a document", content, read)?;
            let count = sources.len();
            let Some(documents) = sources.get_mut(source as usize) else {
                let reason = format!("a document of source {source}, where there are {count}");
                return Err(NativeError::BadOutput { reason });
            };
            documents.push(document);
        }
        (Made::Scores(scores), SCORE) => {
            let score: Score = frames.read(&format!("score {}", scores.len()), content, Reader::score)?;
            scores.push(score);
        }
        (Made::Tasks(_), _) => return Err(another_kind("tasks")),
        (Made::Documents(_), _) => return Err(another_kind("documents")),
        (Made::Scores(_), _) => return Err(another_kind("scores")),
    }
    Ok(())
}

fn another_kind(expected: &str) -> NativeError {
    NativeError::BadOutput { reason: format!("something else than the {expected} of this kind of tool") }
}

fn read_refusal(reader: &mut Reader<'_>) -> Result<Refusal, Unreadable> {
    let kind = match reader.number()? {
        0 => GuestErrorKind::InvalidParams,
        1 => GuestErrorKind::UnknownTool,
        2 => GuestErrorKind::UnsupportedInput,
        3 => GuestErrorKind::ModelUnavailable,
        4 => GuestErrorKind::Internal,
        other => return Err(Unreadable::Form(format!("{other} is no kind of refusal"))),
    };
    Ok(Refusal { kind, message: scrub(&reader.lossy()?, ERROR_BYTES_MAX) })
}

#[cfg(test)]
mod tests {
    use selkie_edit::{SplitMix64, Submission, TextSource};

    use super::super::wire::{put_bytes, put_grid, put_number};
    use super::*;

    fn frame(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
        out.push(tag);
        put_bytes(out, content);
    }

    fn read(bytes: &[u8], work: Work<'_>, limits: &NativeLimits) -> Result<Reply, NativeError> {
        made(Answer { bytes: bytes.to_vec(), log: String::new() }, work, limits)
    }

    /// A task of one example beside its test, all grids alike.
    fn task_reply() -> Vec<u8> {
        let (mut content, mut out) = (Vec::new(), Vec::new());
        let example = |content: &mut Vec<u8>| (0..2).for_each(|_| put_grid(content, 1, 2, &[3, 4]));
        example(&mut content);
        put_number(&mut content, 1);
        example(&mut content);
        frame(&mut out, TASK, &content);
        frame(&mut out, DONE, &[]);
        out
    }

    #[test]
    fn a_reply_cut_anywhere_is_refused_and_a_changed_one_is_read_or_refused() {
        let (reply, limits) = (task_reply(), NativeLimits::default());
        let Ok(Reply { made: Ok(Made::Tasks(tasks)), .. }) = read(&reply, Work::Tasks(&[]), &limits) else {
            panic!("a good reply")
        };
        assert_eq!((tasks.len(), tasks[0].train.len()), (1, 1));
        for end in 0..reply.len() {
            read(&reply[..end], Work::Tasks(&[]), &limits).expect_err("its end is missing");
        }
        let random = &mut SplitMix64::new(1);
        for _ in 0..10_000 {
            let mut changed = reply.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(changed.len());
                changed[at] = random.next_u64() as u8;
            }
            // Whatever it is, it is no panic.
            for work in [Work::Tasks(&[]), Work::Sources(&[]), Work::Submissions(&[])] {
                drop(read(&changed, work, &limits));
            }
        }
    }

    #[test]
    fn what_is_small_on_the_wire_and_large_in_memory_is_charged_as_it_is_in_memory() {
        let (mut content, mut out) = (0.5_f64.to_bits().to_le_bytes().to_vec(), Vec::new());
        put_number(&mut content, 100);
        (0..100).for_each(|_| put_bytes(&mut content, b""));
        frame(&mut out, SCORE, &content);
        frame(&mut out, DONE, &[]);
        let submissions: [Submission; 0] = [];
        let size = size_of::<Score>() + 100 * size_of::<String>();
        let within = |bytes| NativeLimits { output_bytes: bytes, ..NativeLimits::default() };
        read(&out, Work::Submissions(&submissions), &within(size)).expect("just enough");
        let error = read(&out, Work::Submissions(&submissions), &within(size - 1)).expect_err("one less");
        assert_eq!(error.to_string(), format!("its answer exceeds {} bytes", size - 1));
    }

    #[test]
    fn as_many_items_as_allowed_are_taken_and_no_more() {
        let within = |items| NativeLimits { output_items: items, ..NativeLimits::default() };
        read(&task_reply(), Work::Tasks(&[]), &within(1)).expect("one task");
        let error = read(&task_reply(), Work::Tasks(&[]), &within(0)).expect_err("one more");
        assert_eq!(error.to_string(), "its answer exceeds 0 items");
    }

    #[test]
    fn a_document_of_no_source_is_refused() {
        let (mut content, mut out) = (Vec::new(), Vec::new());
        put_number(&mut content, 1);
        put_bytes(&mut content, b"text");
        frame(&mut out, DOCUMENT, &content);
        frame(&mut out, DONE, &[]);
        let source = TextSource { title: String::new(), text: String::new(), completions: Vec::new() };
        let limits = NativeLimits::default();
        let error = read(&out, Work::Sources(std::slice::from_ref(&source)), &limits).expect_err("refused");
        assert_eq!(error.to_string(), "its answer is refused: a document of source 1, where there are 1");
        let Ok(Reply { made: Ok(made), .. }) = read(&out, Work::Sources(&[source.clone(), source]), &limits)
        else {
            panic!("a good reply")
        };
        assert_eq!(made, Made::Documents(vec![vec![], vec!["text".into()]]));
    }
}
