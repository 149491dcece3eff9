//! What the commands on text have in common: the model with its language, adapters, and files of JSON lines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use selkie_edit::Domain;
use selkie_engine::model_files;
use selkie_learn::profile::Profile;
use selkie_learn::pup::render::Prompt;
use selkie_learn::{Adapter, Codec, Decoder, ModelFiles, Sequence, lines, peft};

use crate::args::{LengthArgs, TextModelArgs};
use crate::error::CommandError;
use crate::settings::{open_decoder, read_text};

/// Bytes of a data file.
const DATA_BYTES_MAX: usize = 1 << 30;

/// Problems of a data file that are told one by one.
const PROBLEMS_MAX: usize = 20;

/// A model that reads and writes text.
pub(super) struct TextModel {
    pub(super) files: ModelFiles,
    /// The name of its profile, else of its folder.
    pub(super) name: String,
    pub(super) decoder: Decoder,
    pub(super) codec: Codec,
}

impl TextModel {
    pub(super) fn open(args: &TextModelArgs) -> Result<TextModel, CommandError> {
        let files = model_files(args.model.as_deref(), Domain::Passage)?;
        let profile = Profile::of(&files)?;
        let decoder = open_decoder(&files, args.device.device)?;
        let codec = Codec::open(profile.renderer, &files, &decoder.config().eos_ids)?;
        Ok(TextModel { files, name: profile.name, decoder, codec })
    }

    /// The folder as it was typed, or the bundled model's name: what an adapter says that it belongs to.
    pub(super) fn reference(&self) -> String {
        self.files.origin.to_string_lossy().into_owned()
    }

    /// The tokens that end a text after this prompt.
    pub(super) fn stops(&self, prompt: &Prompt) -> Vec<u32> {
        let mut stops = self.decoder.config().eos_ids.clone();
        stops.push(prompt.end);
        stops
    }

    /// The adapters of these folders; without any, the base alone.
    pub(super) fn adapters(&self, folders: &[PathBuf]) -> Result<Vec<NamedAdapter>, CommandError> {
        if folders.is_empty() {
            return Ok(vec![NamedAdapter { folder: None, adapter: None }]);
        }
        let read = |folder: &PathBuf| {
            let adapter = peft::read(folder, self.decoder.config())?;
            Ok(NamedAdapter { folder: Some(folder.display().to_string()), adapter: Some(adapter) })
        };
        folders.iter().map(read).collect()
    }
}

/// An adapter and where it came from; both are `None` for the base alone.
pub(super) struct NamedAdapter {
    pub(super) folder: Option<String>,
    pub(super) adapter: Option<Adapter>,
}

/// A line of a data file, ready to train on or to score.
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    pub(super) sequence: Sequence,
}

/// Lines of a file, as tokens. Every line counts, or the file is refused.
pub(super) struct Data {
    pub(super) lines: Vec<Line>,
    /// Lines that were cut.
    pub(super) cut: usize,
}

impl Data {
    /// Reads a file for a model.
    ///
    /// # Errors
    /// A file that cannot be read, and every line that cannot be used.
    pub(super) fn read(path: &Path, model: &TextModel, length: &LengthArgs) -> Result<Data, CommandError> {
        let limit = model.decoder.config().max_positions.min(length.max_tokens as usize);
        let mut problems = Problems::of(path);
        let (mut lines, mut cut, mut long) = (Vec::new(), 0, Vec::new());
        for (number, line) in numbered(&read_text(path, DATA_BYTES_MAX)?) {
            let sequence = match lines::sequence(&model.codec, line) {
                Ok(sequence) => sequence,
                Err(reason) => {
                    problems.add(number, &reason);
                    continue;
                }
            };
            let (sequence, is_long) = shortened(sequence, limit);
            match is_long {
                true if !length.truncate => long.push(number),
                _ if sequence.labelled_count() == 0 => {
                    problems.add(
                        number,
                        "nothing of it has a loss: it is empty, or was cut before its completion",
                    );
                }
                _ => {
                    cut += usize::from(is_long);
                    lines.push(Line { number, sequence });
                }
            }
        }
        if !long.is_empty() {
            problems.add_long(&long, limit);
        }
        if lines.is_empty() && problems.is_none() {
            return Err(CommandError::input(format!("`{}` has no lines", path.display())));
        }
        problems.none()?;
        Ok(Data { lines, cut })
    }

    pub(super) fn sequences(&self) -> Vec<Sequence> {
        self.lines.iter().map(|line| line.sequence.clone()).collect()
    }
}

/// Reads a file of prompts.
///
/// # Errors
/// A file that cannot be read, and every line that cannot be used.
pub(super) fn prompts(path: &Path, model: &TextModel, as_chat: bool) -> Result<Vec<Prompt>, CommandError> {
    let mut problems = Problems::of(path);
    let mut prompts = Vec::new();
    for (number, line) in numbered(&read_text(path, DATA_BYTES_MAX)?) {
        match lines::prompt(&model.codec, line, as_chat) {
            Ok(prompt) => prompts.push(prompt),
            Err(reason) => problems.add(number, &reason),
        }
    }
    if prompts.is_empty() && problems.is_none() {
        return Err(CommandError::input(format!("`{}` has no lines", path.display())));
    }
    problems.none()?;
    Ok(prompts)
}

/// What is wrong with a file, line by line.
struct Problems {
    path: PathBuf,
    count: usize,
    text: String,
}

impl Problems {
    fn of(path: &Path) -> Problems {
        Problems { path: path.to_owned(), count: 0, text: String::new() }
    }

    fn is_none(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, line: usize, reason: &str) {
        self.count += 1;
        if self.count <= PROBLEMS_MAX {
            // Writing to a String cannot fail.
            let _ = write!(self.text, "\n  line {line}: {reason}");
        }
    }

    fn add_long(&mut self, lines: &[usize], limit: usize) {
        let shown: Vec<String> = lines.iter().take(PROBLEMS_MAX).map(usize::to_string).collect();
        let more = if lines.len() > PROBLEMS_MAX { ", .." } else { "" };
        self.count += lines.len();
        let _ = write!(
            self.text,
            "\n  {} longer than {limit} tokens: {}{more} (--truncate cuts such lines at their end)",
            plural(lines.len(), "line"),
            shown.join(", ")
        );
    }

    fn none(self) -> Result<(), CommandError> {
        match self.count {
            0 => Ok(()),
            count => Err(CommandError::input(format!(
                "`{}`: {} cannot be used{}",
                self.path.display(),
                plural(count, "line"),
                self.text
            ))),
        }
    }
}

/// `1 line`, `2 lines`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Lines with their numbers from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

/// A sequence of at most `limit` tokens, and whether it was longer.
fn shortened(mut sequence: Sequence, limit: usize) -> (Sequence, bool) {
    let is_long = sequence.len() > limit;
    sequence.ids.truncate(limit);
    sequence.positions.truncate(limit);
    sequence.labelled.truncate(limit);
    (sequence, is_long)
}
