//! What tools promise, and whether they keep it.
//!
//! A law is checked at three prices. What an answer shows by itself is looked at in every batch (`answer`). What takes
//! further calls is looked at in one batch of [`SAMPLED_ONE_IN`], for few items (`sample`). And [`check_laws`] puts tools to the test with generated parameters and inputs, and shrinks what it finds.
//!
//! Laws find mistakes and not malice: a tool could tell a sampled batch from another one, because the choice is a
//! function of what the tool is given. It must be, so that a result can be reproduced.

pub(crate) mod answer;
mod check;
mod inputs;
mod params;
mod quarantine;
mod report;
pub(crate) mod sample;
#[cfg(test)]
mod tests;
mod trial;

use std::io::Write;

use selkie_edit::{SubmissionKind, ToolKind};
use serde::{Deserialize, Serialize};

pub use check::check_laws;
pub use inputs::{Items, sample_items, sample_tasks};
pub use params::sample_params;
pub use quarantine::Quarantine;
pub use report::{LawReport, Outcome, ToolReport};
pub use sample::{SAMPLED_ITEMS_MAX, SAMPLED_ONE_IN, SAMPLED_RUNS_MAX};
pub use trial::Run;

use crate::error::scrub;
use crate::work::{Batch, Work};

/// Bytes of a counter-example's parameters and of its input that are kept. A small puzzle is whole.
const EXAMPLE_BYTES_MAX: usize = 2048;

/// Bytes of each that are shown in a line.
const SHOWN_BYTES_MAX: usize = 256;

/// Everything that is checked of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Law {
    /// It takes the parameters that its schema accepts, and does not fail. Not declared: every tool must.
    Schema,
    /// The same seed gives the same answer. Not declared: every tool must.
    Repeatable,
    /// The seed does not matter.
    Deterministic,
    /// The sides of grids are preserved or swapped.
    Shape,
    /// Grids grow at most so many times.
    GrowthMax,
    /// No new colours.
    PaletteClosed,
    /// Twice is nothing.
    Involution,
    /// Another call undoes it.
    Inverse,
    /// At most so many answers an item.
    ItemsMax,
    /// Two equal sides score 1.
    OneOnEqual,
    /// The order of the sides does not matter.
    Symmetric,
}

impl Law {
    /// All of them.
    const ALL: [Law; 11] = [
        Law::Schema,
        Law::Repeatable,
        Law::Deterministic,
        Law::Shape,
        Law::GrowthMax,
        Law::PaletteClosed,
        Law::Involution,
        Law::Inverse,
        Law::ItemsMax,
        Law::OneOnEqual,
        Law::Symmetric,
    ];

    /// The tools that it says something about, in words.
    pub(crate) fn subjects(self) -> &'static str {
        match self {
            Law::Schema | Law::Repeatable | Law::Deterministic => "all tools",
            Law::Shape | Law::GrowthMax | Law::PaletteClosed | Law::Involution | Law::Inverse => {
                "puzzle augmenters"
            }
            Law::ItemsMax => "augmenters",
            Law::OneOnEqual | Law::Symmetric => "graders of answers or grids",
        }
    }

    /// Whether it says something about such a tool.
    pub(crate) fn is_for(self, kind: ToolKind, takes: Option<SubmissionKind>) -> bool {
        match self {
            Law::Schema | Law::Repeatable | Law::Deterministic => true,
            Law::Shape | Law::GrowthMax | Law::PaletteClosed | Law::Involution | Law::Inverse => {
                kind == ToolKind::PuzzleAugmenter
            }
            Law::ItemsMax => kind != ToolKind::Grader,
            Law::OneOnEqual | Law::Symmetric => {
                matches!(takes, Some(SubmissionKind::Answers | SubmissionKind::Grids))
            }
        }
    }

    /// As the manifest calls it.
    pub fn name(self) -> &'static str {
        match self {
            Law::Schema => "schema",
            Law::Repeatable => "repeatable",
            Law::Deterministic => "deterministic",
            Law::Shape => "shape",
            Law::GrowthMax => "growth_max",
            Law::PaletteClosed => "palette_closed",
            Law::Involution => "involution",
            Law::Inverse => "inverse",
            Law::ItemsMax => "items_max",
            Law::OneOnEqual => "one_on_equal",
            Law::Symmetric => "symmetric",
        }
    }
}

impl std::fmt::Display for Law {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A law that a tool broke, with the call that shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokenLaw {
    /// The law.
    pub law: Law,
    /// The tool's full name.
    pub tool: String,
    /// Its parameters, a JSON object's text; cut when they are long.
    pub params: String,
    /// The seed.
    pub seed: u64,
    /// The batch as compact JSON; cut when it is long.
    pub input: String,
    /// What is wrong with the answer, in one line.
    pub found: String,
}

impl BrokenLaw {
    fn new(law: Law, batch: &Batch<'_>, found: &str) -> BrokenLaw {
        BrokenLaw {
            law,
            tool: batch.tool.into(),
            params: scrub(batch.params, EXAMPLE_BYTES_MAX),
            seed: batch.seed,
            input: compact(batch.work),
            found: scrub(found, SHOWN_BYTES_MAX),
        }
    }
}

impl std::fmt::Display for BrokenLaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [tool, params, input, found] =
            [&self.tool, &self.params, &self.input, &self.found].map(|text| scrub(text, SHOWN_BYTES_MAX));
        write!(
            f,
            "tool `{tool}` breaks its law `{}`: {found}; with params {params}, seed {} and input {input}",
            self.law, self.seed
        )
    }
}

/// A batch as compact JSON, cut at [`EXAMPLE_BYTES_MAX`]; what lies beyond is not even written.
fn compact(work: Work<'_>) -> String {
    struct Cut(Vec<u8>);
    impl Write for Cut {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend_from_slice(bytes);
            if self.0.len() > EXAMPLE_BYTES_MAX {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut cut = Cut(Vec::new());
    // An error is the cut.
    let _ = match work {
        Work::Tasks(tasks) => serde_json::to_writer(&mut cut, tasks),
        Work::Sources(sources) => serde_json::to_writer(&mut cut, sources),
        Work::Submissions(submissions) => serde_json::to_writer(&mut cut, submissions),
    };
    scrub(&String::from_utf8_lossy(&cut.0), EXAMPLE_BYTES_MAX)
}
