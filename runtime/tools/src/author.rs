//! What an author of plugins needs, from an empty folder to a file that can be handed on: the library behind
//! `selkie plugin new`, `check`, `test`, `bench`, `inspect` and `pack`.
//!
//! Everything runs in the real host with the production limits, and without a network.

mod bench;
mod cases;
mod difference;
mod inspect;
mod opened;
mod pack;
mod stand_in;
mod starter;

use std::path::PathBuf;

use selkie_edit::ToolKind;

pub use bench::{BenchReport, BudgetUse, Measured, ToolBench, WARN_PERCENT, bench, bench_cases};
pub use cases::{Case, CaseReport, read_cases, run_cases};
pub use difference::Difference;
pub use inspect::{Import, Inspection, inspect};
pub use opened::{Opened, open};
pub use pack::{PackList, Packed, pack};
pub use starter::{Language, NewPlugin};

use crate::build::BuildError;
use crate::error::ToolError;

/// Generated cases for each law of each tool, unless it is said otherwise. The grid plugin's 14 tools take some
/// seconds.
pub const LAW_CASES: u32 = 200;

/// Why an author's command did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    /// A name that no new plugin can have.
    #[error("`{name}` is no name for a new plugin: {reason}")]
    Name {
        /// The name.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The folder of a new plugin is there already.
    #[error("`{}` is there already; a new plugin gets a new folder", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A kind of tool for which a language has no starter.
    #[error("there is no starter for {kind} in {language}: only Rust has one for each kind")]
    NoStarter {
        /// The language.
        language: Language,
        /// The kind.
        kind: ToolKind,
    },
    /// A file that cannot be read or written.
    #[error("cannot access `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of cases that is none.
    #[error("`{}`: {reason}", path.display())]
    Cases {
        /// The file.
        path: PathBuf,
        /// Which case, and what is wrong with it.
        reason: String,
    },
    /// The plugin was not built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The component does not load.
    #[error(transparent)]
    Tool(#[from] ToolError),
}

impl AuthorError {
    fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> AuthorError {
        let path = path.into();
        |source| AuthorError::File { path, source }
    }
}
