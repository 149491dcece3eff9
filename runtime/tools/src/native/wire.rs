//! What the two processes say to each other, as bytes. Binary, because a batch of 1,000 tasks is megabytes and as
//! JSON costs more than the work on it. Numbers are little-endian, lists and texts begin with their length.
//!
//! The request is one message. The reply is frames: a tag, a length, and that many bytes. The child is no more
//! trusted than what runs in it, so the parent reads a reply as any hostile input.

use selkie_edit::{Example, Grid, Score, Submission, Task, TextSource};

use crate::work::{Batch, Work};

/// Tags of frames. A reply ends with [`DONE`] or [`FAULT`].
pub(super) const DONE: u8 = 0;
pub(super) const FAULT: u8 = 1;
pub(super) const MANIFEST: u8 = 2;
pub(super) const TASK: u8 = 3;
pub(super) const DOCUMENT: u8 = 4;
pub(super) const SCORE: u8 = 5;
pub(super) const REFUSAL: u8 = 6;

/// Why bytes are not what they should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// More than the budget.
    Budget,
    /// Something else, in words.
    Form(String),
}

fn form<T>(reason: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable::Form(reason.into()))
}

/// Bytes that are read from front to back. What is made of them is charged to a budget, at the size that it has in
/// memory, before it is made.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    budget: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], budget: usize) -> Reader<'a> {
        Reader { rest: bytes, budget }
    }

    /// What is left of it.
    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Unreadable> {
        self.budget = self.budget.checked_sub(bytes).ok_or(Unreadable::Budget)?;
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else { return form("it ends too early") };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn number(&mut self) -> Result<u32, Unreadable> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn wide(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let count = self.number()? as usize;
        self.take(count)
    }

    pub(super) fn text(&mut self) -> Result<String, Unreadable> {
        let bytes = self.bytes()?;
        self.charge(size_of::<String>() + bytes.len())?;
        match str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => form(format!("a text is not UTF-8: {error}")),
        }
    }

    /// For the host's or a plugin's prose.
    pub(super) fn lossy(&mut self) -> Result<String, Unreadable> {
        let bytes = self.bytes()?;
        self.charge(3 * bytes.len())?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(super) fn list<T>(
        &mut self,
        item: impl Fn(&mut Reader<'a>) -> Result<T, Unreadable>,
    ) -> Result<Vec<T>, Unreadable> {
        let count = self.number()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn grid(&mut self) -> Result<Grid, Unreadable> {
        let (height, width) = (self.byte()?, self.byte()?);
        let cells = self.bytes()?;
        self.charge(size_of::<Grid>() + cells.len())?;
        Grid::new(height, width, cells.to_vec()).map_err(|error| Unreadable::Form(error.to_string()))
    }

    fn example(&mut self) -> Result<Example, Unreadable> {
        Ok(Example { input: self.grid()?, output: self.grid()? })
    }

    pub(super) fn task(&mut self) -> Result<Task, Unreadable> {
        self.charge(size_of::<Vec<Example>>())?;
        Ok(Task { test: self.example()?, train: self.list(Reader::example)? })
    }

    pub(super) fn score(&mut self) -> Result<Score, Unreadable> {
        self.charge(size_of::<Score>())?;
        Ok(Score { value: f64::from_bits(self.wide()?), reasons: self.list(Reader::text)? })
    }

    fn source(&mut self) -> Result<TextSource, Unreadable> {
        Ok(TextSource { title: self.text()?, text: self.text()?, completions: self.list(Reader::text)? })
    }

    fn submission(&mut self) -> Result<Submission, Unreadable> {
        Ok(match self.byte()? {
            0 => Submission::Answers { left: self.text()?, right: self.text()? },
            1 => Submission::Grids { left: self.grid()?, right: self.grid()? },
            _ => Submission::Edit {
                title: self.text()?,
                passage: self.text()?,
                documents: self.list(Reader::text)?,
            },
        })
    }

    fn work(&mut self) -> Result<Owned, Unreadable> {
        Ok(match self.byte()? {
            0 => Owned::Tasks(self.list(Reader::task)?),
            1 => Owned::Sources(self.list(Reader::source)?),
            _ => Owned::Submissions(self.list(Reader::submission)?),
        })
    }

    /// The next frame's tag and content.
    pub(super) fn frame(&mut self) -> Result<(u8, &'a [u8]), Unreadable> {
        Ok((self.byte()?, self.bytes()?))
    }
}

/// A length or an index; what does not fit in 32 bits is far beyond every limit and becomes the largest.
pub(super) fn put_number(out: &mut Vec<u8>, number: usize) {
    out.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend(bytes);
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    put_number(out, texts.len());
    texts.iter().for_each(|text| put_bytes(out, text.as_bytes()));
}

pub(super) fn put_grid(out: &mut Vec<u8>, height: u8, width: u8, cells: &[u8]) {
    out.extend([height, width]);
    put_bytes(out, cells);
}

fn put_grids(out: &mut Vec<u8>, grids: [&Grid; 2]) {
    grids.iter().for_each(|grid| put_grid(out, grid.height(), grid.width(), grid.cells()));
}

fn put_task(out: &mut Vec<u8>, task: &Task) {
    put_grids(out, [&task.test.input, &task.test.output]);
    put_number(out, task.train.len());
    task.train.iter().for_each(|example| put_grids(out, [&example.input, &example.output]));
}

fn put_source(out: &mut Vec<u8>, source: &TextSource) {
    put_bytes(out, source.title.as_bytes());
    put_bytes(out, source.text.as_bytes());
    put_texts(out, &source.completions);
}

fn put_submission(out: &mut Vec<u8>, submission: &Submission) {
    match submission {
        Submission::Answers { left, right } => {
            out.push(0);
            [left, right].iter().for_each(|text| put_bytes(out, text.as_bytes()));
        }
        Submission::Grids { left, right } => {
            out.push(1);
            put_grids(out, [left, right]);
        }
        Submission::Edit { title, passage, documents } => {
            out.push(2);
            [title, passage].iter().for_each(|text| put_bytes(out, text.as_bytes()));
            put_texts(out, documents);
        }
    }
}

fn put_list<T>(out: &mut Vec<u8>, tag: u8, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    out.push(tag);
    put_number(out, items.len());
    items.iter().for_each(|item| put(out, item));
}

/// What a process is asked to do.
#[derive(Clone, Copy)]
pub(super) enum Ask<'a> {
    Describe,
    Apply(Batch<'a>),
}

/// The request for one process: its length, its limits, and what to do.
pub(super) fn request(memory_bytes: u64, cpu_seconds: u64, ask: Ask<'_>) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(memory_bytes.to_le_bytes());
    out.extend(cpu_seconds.to_le_bytes());
    match ask {
        Ask::Describe => out.push(0),
        Ask::Apply(batch) => {
            out.push(1);
            put_bytes(&mut out, batch.tool.as_bytes());
            put_bytes(&mut out, batch.params.as_bytes());
            out.extend(batch.seed.to_le_bytes());
            match batch.work {
                Work::Tasks(tasks) => put_list(&mut out, 0, tasks, put_task),
                Work::Sources(sources) => put_list(&mut out, 1, sources, put_source),
                Work::Submissions(submissions) => put_list(&mut out, 2, submissions, put_submission),
            }
        }
    }
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

/// A request as its reader has it, after the length.
pub(super) struct Request {
    pub(super) memory_bytes: u64,
    pub(super) cpu_seconds: u64,
    /// `None`: describe.
    pub(super) apply: Option<Apply>,
}

/// Work as its reader has it.
pub(super) enum Owned {
    Tasks(Vec<Task>),
    Sources(Vec<TextSource>),
    Submissions(Vec<Submission>),
}

/// A batch as its reader has it.
pub(super) struct Apply {
    pub(super) tool: String,
    pub(super) params: String,
    pub(super) seed: u64,
    pub(super) work: Owned,
}

impl Request {
    pub(super) fn read(bytes: &[u8]) -> Result<Request, Unreadable> {
        let mut reader = Reader::new(bytes, usize::MAX);
        let (memory_bytes, cpu_seconds) = (reader.wide()?, reader.wide()?);
        let apply = match reader.byte()? {
            0 => None,
            _ => Some(Apply {
                tool: reader.text()?,
                params: reader.text()?,
                seed: reader.wide()?,
                work: reader.work()?,
            }),
        };
        Ok(Request { memory_bytes, cpu_seconds, apply })
    }
}
