//! Reads contexts from JSON, one or many: ARC's puzzles and challenges files, SQuAD's and SEAL's passages.
//!
//! By hand and not by derive, because whoever wrote the file needs to know which row of which grid is
//! ragged, and serde would name the first type that did not match.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::context::{Context, Passage, Puzzle, PuzzleTest, Question};
use crate::grid::{Example, Grid, GridError};
use crate::json;
use crate::limits::{
    COLOUR_MAX, CONTEXT_BYTES_MAX, CONTEXTS_MAX, DEMONSTRATIONS_MAX, JSON_DEPTH_MAX, PASSAGE_BYTES_MAX,
    PUZZLE_SIDE_MAX, QUESTION_BYTES_MAX, QUESTIONS_MAX, TESTS_MAX, TITLE_BYTES_MAX,
};
use crate::wording;

/// Why a file is not a context. `at` is where, such as `train[1].input`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// More bytes than [`CONTEXT_BYTES_MAX`].
    #[error("{bytes} bytes, where a context has at most {max}", max = CONTEXT_BYTES_MAX)]
    TooLarge {
        /// The size found.
        bytes: usize,
    },
    /// Deeper than [`JSON_DEPTH_MAX`].
    #[error("more than {max} arrays and objects inside each other", max = JSON_DEPTH_MAX)]
    TooDeep,
    /// Text that is not JSON, or not all of it.
    #[error("line {line}, column {column}: {message}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// JSON of another kind.
    #[error(
        "neither a puzzle (`train`, `test`) nor a passage (`title`, `context`, `questions`): found {found}"
    )]
    Unknown {
        /// What the JSON is.
        found: String,
    },
    /// A challenges file, where one puzzle was asked for.
    #[error("{count} puzzles in one file: name the task to take")]
    ManyPuzzles {
        /// Tasks in the file.
        count: usize,
    },
    /// More contexts than [`CONTEXTS_MAX`].
    #[error("{count} puzzles and passages in one file, where there may be {max}: split it", max = CONTEXTS_MAX)]
    TooManyContexts {
        /// How many the file has.
        count: usize,
    },
    /// A file of many contexts that has none.
    #[error("no puzzle and no passage with a question that has an answer")]
    NoContexts,
    /// A member that must be there.
    #[error("{at}: `{member}` is missing")]
    Missing {
        /// The object that lacks it.
        at: String,
        /// Its name.
        member: &'static str,
    },
    /// A value of another type.
    #[error("{at}: expected {expected}, found {found}")]
    WrongType {
        /// The value.
        at: String,
        /// The type asked for.
        expected: &'static str,
        /// What was there.
        found: String,
    },
    /// Rows that are not a grid.
    #[error("{at}: {source}")]
    Grid {
        /// The grid.
        at: String,
        /// What is wrong with it.
        source: GridError,
    },
    /// A cell that is not one of the ten colours.
    #[error("{at}: {found} at row {row}, column {column}: colours are whole numbers from 0 to {max}", max = COLOUR_MAX)]
    Colour {
        /// The grid.
        at: String,
        /// From 0.
        row: usize,
        /// From 0.
        column: usize,
        /// What was there.
        found: String,
    },
    /// A grid of more than 30 rows or columns.
    #[error("{at}: {height}x{width}, where a side is at most {max}", max = PUZZLE_SIDE_MAX)]
    Side {
        /// The grid.
        at: String,
        /// Rows.
        height: usize,
        /// Columns of its longest row.
        width: usize,
    },
    /// Too few or too many demonstrations, tests or questions.
    #[error("{at}: {found}, where there must be {min} to {max}")]
    Count {
        /// The list.
        at: String,
        /// How many there are.
        found: usize,
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A text with nothing in it.
    #[error("{at}: empty")]
    Blank {
        /// The text.
        at: String,
    },
    /// A text that is too long.
    #[error("{at}: {bytes} bytes, where there may be {max}")]
    TextTooLong {
        /// The text.
        at: String,
        /// Its size.
        bytes: usize,
        /// The most.
        max: usize,
    },
    /// A task that a challenges file does not have.
    #[error("no task `{task}` among {count}: {near}")]
    UnknownTask {
        /// The task asked for.
        task: String,
        /// How many tasks there are.
        count: usize,
        /// The names most like it.
        near: String,
    },
    /// A solutions file that does not fit its challenges file.
    #[error("solutions of `{task}`: {found} grids for {expected} tests")]
    Solutions {
        /// The task.
        task: String,
        /// Tests of the task.
        expected: usize,
        /// Solutions given.
        found: usize,
    },
}

impl Context {
    /// Reads a puzzle in ARC's form (test outputs optional) or a passage with questions. `name` is a
    /// puzzle's id unless the JSON has one: the file's name without its ending.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn from_json(text: &str, name: &str) -> Result<Context, ContextError> {
        let value = parsed(text)?;
        let Value::Object(members) = &value else {
            return Err(ContextError::Unknown { found: wording::found(&value) });
        };
        let has = |name: &str| members.contains_key(name);
        if has("train") || has("test") {
            return puzzle(members, name, "").map(Context::Puzzle);
        }
        if has("context") || has("questions") || has("qas") {
            return passage(members, "").map(Context::Passage);
        }
        if !members.is_empty() && members.values().all(|member| member.get("train").is_some()) {
            return Err(ContextError::ManyPuzzles { count: members.len() });
        }
        Err(ContextError::Unknown { found: wording::found(&value) })
    }

    /// As [`Context::from_json`], but a passage may come without questions: it is to be learned, and nothing is asked.
    ///
    /// # Errors
    /// As [`Context::from_json`].
    pub fn to_learn_from_json(text: &str, name: &str) -> Result<Context, ContextError> {
        let mut value = parsed(text)?;
        let asks = |members: &Map<String, Value>| {
            let asked = ["questions", "qas"].into_iter().filter_map(|key| members.get(key));
            asked.into_iter().any(|asked| *asked != json!([]))
        };
        match value.as_object_mut() {
            Some(members) if members.contains_key("context") && !asks(members) => {
                let title = members.entry("title").or_insert_with(|| Value::from(name)).clone();
                let title = self::text(&title, "title", TITLE_BYTES_MAX)?;
                let context = self::text(member(members, "", "context")?, "context", PASSAGE_BYTES_MAX)?;
                Ok(Context::Passage(Passage { title, context, questions: Vec::new() }))
            }
            _ => Context::from_json(text, name),
        }
    }

    /// Reads every context of a file, in its order and each once: one puzzle or passage; a list of them, or
    /// one a line; SQuAD's `data`; SEAL's `articles`; ARC's challenges. Of several answers to a question the
    /// first counts. A puzzle without an id is named `stem`, with its number from 1 where the file has
    /// several.
    ///
    /// SQuAD's impossible questions are left out, and paragraphs that have no others. Its titles get spaces
    /// for underscores, as in SEAL's files.
    ///
    /// # Errors
    /// The first thing that is wrong, and where, such as `data[3].paragraphs[1].qas[0]`.
    pub fn many_from_json(text: &str, stem: &str) -> Result<Vec<Context>, ContextError> {
        let text = within_size(text)?;
        let contexts = if is_json_lines(text) { json_lines(text)? } else { whole_file(&parsed(text)?)? };
        let mut contexts = distinct(contexts);
        counted_contexts(contexts.len())?;
        let alone = contexts.len() == 1;
        for (index, context) in contexts.iter_mut().enumerate() {
            if let Context::Puzzle(puzzle) = context
                && puzzle.id.is_empty()
            {
                puzzle.id = if alone { stem.to_owned() } else { format!("{stem}-{}", index + 1) };
            }
        }
        Ok(contexts)
    }

    /// The context as JSON, in the form that [`Context::from_json`] reads back to an equal one.
    pub fn to_json(&self) -> Value {
        match self {
            Context::Puzzle(puzzle) => {
                let test = |test: &PuzzleTest| match &test.output {
                    Some(output) => json!({ "input": test.input, "output": output }),
                    None => json!({ "input": test.input }),
                };
                let tests: Vec<Value> = puzzle.tests.iter().map(test).collect();
                json!({ "id": puzzle.id, "train": puzzle.train, "test": tests })
            }
            Context::Passage(passage) => json!(passage),
        }
    }
}

impl Puzzle {
    /// Reads one task of ARC's challenges file, with its solutions where there are any.
    ///
    /// # Errors
    /// The first thing that is wrong with either file or the task, and where; an unknown task names those
    /// like it.
    pub fn from_challenges(
        challenges: &str,
        solutions: Option<&str>,
        task: &str,
    ) -> Result<Puzzle, ContextError> {
        let challenges = parsed(challenges)?;
        let challenges = object(&challenges, "challenges")?;
        let chosen = challenges.get(task).ok_or_else(|| ContextError::UnknownTask {
            task: wording::excerpt(task),
            count: challenges.len(),
            near: wording::listed(challenges.keys().map(String::as_str), Some(task)),
        })?;
        let mut puzzle = task_puzzle(task, chosen)?;
        if let Some(solutions) = solutions {
            let solutions = parsed(solutions)?;
            solve(task, &mut puzzle, object(&solutions, "solutions")?)?;
        }
        Ok(puzzle)
    }

    /// Reads every task of ARC's challenges file, in its order, with solutions where the second file is
    /// given.
    ///
    /// # Errors
    /// The first thing that is wrong with either file, and where; a task that the solutions lack.
    pub fn many_from_challenges(
        challenges: &str,
        solutions: Option<&str>,
    ) -> Result<Vec<Puzzle>, ContextError> {
        let challenges = parsed(challenges)?;
        let challenges = object(&challenges, "challenges")?;
        let mut puzzles = tasks(challenges)?;
        counted_contexts(puzzles.len())?;
        if let Some(solutions) = solutions {
            let solutions = parsed(solutions)?;
            let solutions = object(&solutions, "solutions")?;
            for (task, puzzle) in challenges.keys().zip(&mut puzzles) {
                solve(task, puzzle, solutions)?;
            }
        }
        Ok(puzzles)
    }
}

fn tasks(challenges: &Map<String, Value>) -> Result<Vec<Puzzle>, ContextError> {
    challenges.iter().map(|(task, value)| task_puzzle(task, value)).collect()
}

fn task_puzzle(task: &str, value: &Value) -> Result<Puzzle, ContextError> {
    puzzle(object(value, task)?, task, &format!("{task}."))
}

/// Fills in the test outputs from a solutions file.
fn solve(task: &str, puzzle: &mut Puzzle, solutions: &Map<String, Value>) -> Result<(), ContextError> {
    let solved = match solutions.get(task) {
        Some(solved) => list(solved, &format!("solutions.{task}"))?.as_slice(),
        None => &[],
    };
    if solved.len() != puzzle.tests.len() {
        let (expected, found) = (puzzle.tests.len(), solved.len());
        return Err(ContextError::Solutions { task: task.to_owned(), expected, found });
    }
    for (index, (test, output)) in puzzle.tests.iter_mut().zip(solved).enumerate() {
        test.output = Some(grid(output, &format!("solutions.{task}[{index}]"))?);
    }
    Ok(())
}

/// Whether the first line with anything on it is an object by itself, and there are others.
fn is_json_lines(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let whole = json::End::Closed(first.len());
    first.starts_with('{') && json::end_of_value(first, JSON_DEPTH_MAX) == whole && lines.next().is_some()
}

fn json_lines(text: &str) -> Result<Vec<Context>, ContextError> {
    let mut contexts = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value = parsed(line).map_err(|error| match error {
            ContextError::Json { column, message, .. } => {
                ContextError::Json { line: index + 1, column, message }
            }
            other => other,
        })?;
        contexts.extend(entry(&value, &format!("line {}: ", index + 1))?);
    }
    Ok(contexts)
}

/// What a file of one JSON value has, whichever form it is in.
fn whole_file(value: &Value) -> Result<Vec<Context>, ContextError> {
    let many = |name: &str, entries: &[Value]| {
        let mut contexts = Vec::new();
        for (index, value) in entries.iter().enumerate() {
            contexts.extend(entry(value, &format!("{name}[{index}]."))?);
        }
        Ok(contexts)
    };
    match value {
        Value::Array(entries) => many("", entries),
        Value::Object(members) if !is_context(members) => {
            let listed = ["data", "articles"].into_iter().find_map(|name| Some((name, members.get(name)?)));
            match listed {
                Some((name, entries)) => many(name, list(entries, name)?),
                None if members.values().any(|task| task.get("train").is_some()) => {
                    Ok(tasks(members)?.into_iter().map(Context::Puzzle).collect())
                }
                None => entry(value, ""),
            }
        }
        _ => entry(value, ""),
    }
}

fn is_context(members: &Map<String, Value>) -> bool {
    ["train", "test", "context", "questions", "qas", "paragraphs"]
        .iter()
        .any(|name| members.contains_key(*name))
}

/// One entry of a list: a puzzle, a passage, or one of SQuAD's articles, which has a passage a paragraph.
/// `prefix` is where it is, and a separator.
fn entry(value: &Value, prefix: &str) -> Result<Vec<Context>, ContextError> {
    match value {
        Value::Object(members) if members.contains_key("paragraphs") => article(members, prefix),
        Value::Object(members) if members.contains_key("train") || members.contains_key("test") => {
            puzzle(members, "", prefix).map(|puzzle| vec![Context::Puzzle(puzzle)])
        }
        Value::Object(members) if is_context(members) => {
            passage(members, prefix).map(|passage| vec![Context::Passage(passage)])
        }
        _ => Err(wrong_type(value, place(prefix), "a puzzle (`train`, `test`) or a passage with questions")),
    }
}

/// Without those that came before. A copy that is in training and in evaluation would be a leak.
fn distinct(mut contexts: Vec<Context>) -> Vec<Context> {
    let mut seen = HashSet::new();
    contexts.retain(|context| seen.insert(Sha256::digest(context.to_json().to_string())));
    contexts
}

fn counted_contexts(count: usize) -> Result<(), ContextError> {
    match count {
        0 => Err(ContextError::NoContexts),
        _ if count > CONTEXTS_MAX => Err(ContextError::TooManyContexts { count }),
        _ => Ok(()),
    }
}

/// The text without a byte order mark.
fn within_size(text: &str) -> Result<&str, ContextError> {
    if text.len() > CONTEXT_BYTES_MAX {
        return Err(ContextError::TooLarge { bytes: text.len() });
    }
    Ok(text.trim_start_matches('\u{feff}'))
}

/// JSON within the caps. Depth is checked first, by a scanner that cannot run out of stack.
fn parsed(text: &str) -> Result<Value, ContextError> {
    let text = within_size(text)?;
    if !json::is_within_depth(text, JSON_DEPTH_MAX) {
        return Err(ContextError::TooDeep);
    }
    serde_json::from_str(text).map_err(|error| ContextError::Json {
        line: error.line(),
        column: error.column(),
        message: json::complaint(&error),
    })
}

fn wrong_type(value: &Value, at: &str, expected: &'static str) -> ContextError {
    ContextError::WrongType { at: at.to_owned(), expected, found: wording::found(value) }
}

fn object<'a>(value: &'a Value, at: &str) -> Result<&'a Map<String, Value>, ContextError> {
    value.as_object().ok_or_else(|| wrong_type(value, at, "an object"))
}

fn list<'a>(value: &'a Value, at: &str) -> Result<&'a Vec<Value>, ContextError> {
    value.as_array().ok_or_else(|| wrong_type(value, at, "a list"))
}

fn member<'a>(
    members: &'a Map<String, Value>,
    at: &str,
    member: &'static str,
) -> Result<&'a Value, ContextError> {
    members.get(member).ok_or_else(|| ContextError::Missing { at: place(at).to_owned(), member })
}

/// A prefix without its separator, as the name of a place.
fn place(prefix: &str) -> &str {
    match prefix.trim_end_matches(['.', ':', ' ']) {
        "" => "the top level",
        place => place,
    }
}

fn counted(at: &str, found: usize, min: usize, max: usize) -> Result<(), ContextError> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(ContextError::Count { at: at.to_owned(), found, min, max })
}

/// `prefix` is where the puzzle is in its file: empty, or a place and a separator.
fn puzzle(members: &Map<String, Value>, name: &str, prefix: &str) -> Result<Puzzle, ContextError> {
    let demonstrations = list(member(members, prefix, "train")?, &format!("{prefix}train"))?;
    let tests = list(member(members, prefix, "test")?, &format!("{prefix}test"))?;
    counted(&format!("{prefix}train"), demonstrations.len(), 2, DEMONSTRATIONS_MAX)?;
    counted(&format!("{prefix}test"), tests.len(), 1, TESTS_MAX)?;
    let side = |example: &Value, at: &str, side: &'static str| {
        grid(member(object(example, at)?, at, side)?, &format!("{at}.{side}"))
    };
    let mut train = Vec::new();
    for (index, example) in demonstrations.iter().enumerate() {
        let at = format!("{prefix}train[{index}]");
        train.push(Example { input: side(example, &at, "input")?, output: side(example, &at, "output")? });
    }
    let mut puzzle_tests = Vec::new();
    for (index, test) in tests.iter().enumerate() {
        let at = format!("{prefix}test[{index}]");
        let output = match object(test, &at)?.get("output") {
            None | Some(Value::Null) => None,
            Some(output) => Some(grid(output, &format!("{at}.output"))?),
        };
        puzzle_tests.push(PuzzleTest { input: side(test, &at, "input")?, output });
    }
    let id = members.get("id").and_then(Value::as_str).unwrap_or(name);
    Ok(Puzzle { id: id.to_owned(), train, tests: puzzle_tests })
}

fn grid(value: &Value, at: &str) -> Result<Grid, ContextError> {
    let side_max = usize::from(PUZZLE_SIDE_MAX);
    let rows = list(value, at)?;
    let mut colours: Vec<Vec<u8>> = Vec::new();
    let mut longest = 0;
    for (row, cells) in rows.iter().enumerate().take(side_max) {
        let cells = list(cells, &format!("{at}[{row}]"))?;
        longest = longest.max(cells.len());
        let colour = |(column, cell): (usize, &Value)| {
            let known = cell.as_u64().and_then(|colour| u8::try_from(colour).ok());
            known.filter(|&colour| colour <= COLOUR_MAX).ok_or_else(|| ContextError::Colour {
                at: at.to_owned(),
                row,
                column,
                found: wording::found(cell),
            })
        };
        colours.push(cells.iter().enumerate().take(side_max + 1).map(colour).collect::<Result<_, _>>()?);
    }
    if rows.len() > side_max || longest > side_max {
        return Err(ContextError::Side { at: at.to_owned(), height: rows.len(), width: longest });
    }
    Grid::from_rows(&colours).map_err(|source| ContextError::Grid { at: at.to_owned(), source })
}

/// `prefix` as for a puzzle.
fn passage(members: &Map<String, Value>, prefix: &str) -> Result<Passage, ContextError> {
    let title = text(member(members, prefix, "title")?, &format!("{prefix}title"), TITLE_BYTES_MAX)?;
    let context = text(member(members, prefix, "context")?, &format!("{prefix}context"), PASSAGE_BYTES_MAX)?;
    let name =
        if members.contains_key("questions") || !members.contains_key("qas") { "questions" } else { "qas" };
    let at = format!("{prefix}{name}");
    let asked: Vec<(usize, &Value)> = list(member(members, prefix, name)?, &at)?.iter().enumerate().collect();
    Ok(Passage { title, context, questions: questions(&asked, &at)? })
}

/// The passages of one of SQuAD's articles.
fn article(members: &Map<String, Value>, prefix: &str) -> Result<Vec<Context>, ContextError> {
    let title = text(member(members, prefix, "title")?, &format!("{prefix}title"), TITLE_BYTES_MAX)?;
    let title = title.replace('_', " ");
    let at = format!("{prefix}paragraphs");
    let mut passages = Vec::new();
    for (index, paragraph) in list(member(members, prefix, "paragraphs")?, &at)?.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let paragraph = object(paragraph, &at)?;
        let context = text(member(paragraph, &at, "context")?, &format!("{at}.context"), PASSAGE_BYTES_MAX)?;
        let asked = member(paragraph, &at, "qas")?;
        let at = format!("{at}.qas");
        let asked: Vec<(usize, &Value)> =
            list(asked, &at)?.iter().enumerate().filter(|(_, item)| is_answerable(item)).collect();
        if !asked.is_empty() {
            let questions = questions(&asked, &at)?;
            passages.push(Context::Passage(Passage { title: title.clone(), context, questions }));
        }
    }
    Ok(passages)
}

/// SQuAD 2 marks what its passage does not answer, and gives no answers there.
fn is_answerable(item: &Value) -> bool {
    item.get("is_impossible") != Some(&Value::Bool(true)) && item.get("answers") != Some(&json!([]))
}

/// Questions with their answers; each comes with its index in the list at `at`.
fn questions(asked: &[(usize, &Value)], at: &str) -> Result<Vec<Question>, ContextError> {
    counted(at, asked.len(), 1, QUESTIONS_MAX)?;
    let mut questions = Vec::new();
    for (index, item) in asked {
        let at = format!("{at}[{index}]");
        let item = object(item, &at)?;
        let question = member(item, &at, "question")?;
        let question = text(question, &format!("{at}.question"), QUESTION_BYTES_MAX)?;
        questions.push(Question { question, answer: answer(item, &at)? });
    }
    Ok(questions)
}

/// The gold answer: `answer`, or the first of several as SQuAD's files have them.
fn answer(item: &Map<String, Value>, at: &str) -> Result<String, ContextError> {
    let (name, mut value) = match item.get("answers") {
        Some(answers) if !item.contains_key("answer") => ("answers", answers),
        _ => ("answer", member(item, at, "answer")?),
    };
    let at = format!("{at}.{name}");
    // `[{"text": "a"}]`, `{"text": ["a"]}` and `["a"]` all occur; each step goes one level in.
    for _ in 0..3 {
        match value {
            Value::Array(several) => {
                value = several.first().ok_or_else(|| ContextError::Blank { at: at.clone() })?;
            }
            Value::Object(members) => value = member(members, &at, "text")?,
            _ => break,
        }
    }
    text(value, &at, QUESTION_BYTES_MAX)
}

/// A string with something in it.
fn text(value: &Value, at: &str, bytes_max: usize) -> Result<String, ContextError> {
    let text = value.as_str().ok_or_else(|| wrong_type(value, at, "a text"))?;
    if text.trim().is_empty() {
        return Err(ContextError::Blank { at: at.to_owned() });
    }
    if text.len() > bytes_max {
        return Err(ContextError::TextTooLong { at: at.to_owned(), bytes: text.len(), max: bytes_max });
    }
    Ok(text.to_owned())
}
