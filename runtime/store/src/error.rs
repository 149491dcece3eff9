//! What can go wrong in a store: one variant a condition, with what a person needs to act on it.

use std::io;
use std::path::{Path, PathBuf};

use crate::id::{ContentId, EntryId, GenerationId};
use crate::record::Generation;

/// A store that could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading a home that does not exist. (Writing creates it.)
    #[error("there is no store at {}: nothing was ever kept there, or the path is another", home.display())]
    NoStore {
        /// The folder that was asked for.
        home: PathBuf,
    },
    /// A file where a folder is needed.
    #[error("{} is a file, and a store needs a folder there", path.display())]
    NotAFolder {
        /// The file.
        path: PathBuf,
    },
    /// A folder with other things in it. A store removes leftovers in its folders, so it takes none over.
    #[error("{} is not a store: it has `{found}` in it and no ledger; choose a new or empty folder", home.display())]
    ForeignFolder {
        /// The folder.
        home: PathBuf,
        /// Something in it that no store puts there.
        found: String,
    },
    /// A home with adapters but no ledger. A new ledger would make all of them leftovers.
    #[error(
        "{} has adapters but no ledger.sqlite: put the ledger back, or move the folder away and start anew",
        home.display()
    )]
    LedgerMissing {
        /// The home.
        home: PathBuf,
    },
    /// Another process (or another `Store` in this one) writes to the home.
    #[error(
        "the store at {} is being written by another process: wait until it ends, or use another home folder",
        home.display()
    )]
    Locked {
        /// The home.
        home: PathBuf,
    },
    /// `ledger.sqlite` or `run.sqlite` is no SQLite database, or one of another program.
    #[error("{} is not {expected}", path.display())]
    NotALedger {
        /// The file.
        path: PathBuf,
        /// What it should be: `a ledger of selkie`, or `a run of selkie`.
        expected: &'static str,
    },
    /// The ledger was written by a later version of selkie. It was not touched.
    #[error(
        "{} has format {found}, and this selkie knows up to {known}: use the version that wrote it",
        path.display()
    )]
    NewerLedger {
        /// The ledger.
        path: PathBuf,
        /// Its format version.
        found: i64,
        /// The newest that this code reads.
        known: i64,
    },
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("cannot use the ledger {}", path.display())]
    Ledger {
        /// The ledger.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// SQLite finds that the file is not what it wrote.
    #[error("{} is damaged: put a copy of it there, or use another folder", path.display())]
    DamagedLedger {
        /// The ledger.
        path: PathBuf,
        /// What it found.
        source: rusqlite::Error,
    },
    /// A record that could be written but not read again (deeper JSON than the parser takes). Not written.
    #[error("the record cannot go into the ledger, because it could not be read again")]
    UnwritableRecord {
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A ledger row whose JSON or ids are not what this code writes.
    #[error("the ledger's entry {entry} is damaged")]
    UnreadableEntry {
        /// The row.
        entry: EntryId,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// An adapter without files.
    #[error("an adapter needs at least one file")]
    NoFiles,
    /// A file name that could leave the folder or would need escaping.
    #[error(
        "`{name}` cannot be a file of an adapter: letters, digits, `.`, `_` and `-` only, not starting with `.` or `-`"
    )]
    BadFileName {
        /// The name.
        name: String,
    },
    /// Two files of one name.
    #[error("the adapter has two files named `{name}`")]
    DuplicateFile {
        /// The name.
        name: String,
    },
    /// No generation has this adapter.
    #[error("no generation has the adapter {adapter}")]
    UnknownAdapter {
        /// The adapter.
        adapter: ContentId,
    },
    /// An adapter's folder is not what was kept.
    #[error("the adapter {} is damaged: its file {file} {damage}", adapter.short())]
    DamagedAdapter {
        /// The adapter.
        adapter: ContentId,
        /// The first file that is wrong.
        file: String,
        /// What is wrong with it.
        damage: Damage,
    },
    /// A name that no generation has.
    #[error("there is no generation `{name}`; {}", existing(newest))]
    UnknownGeneration {
        /// The name that was asked for.
        name: String,
        /// Some that exist, newest first.
        newest: Vec<Generation>,
    },
    /// A prefix of several content ids, or of one that several generations share.
    #[error("`{name}` could be {}: use the g-number", names(matches))]
    AmbiguousGeneration {
        /// The name that was asked for.
        name: String,
        /// The generations that it fits, newest first.
        matches: Vec<Generation>,
    },
    /// A name that no ledger entry has.
    #[error("there is no entry `{name}`; {}", match newest {
        Some(newest) => format!("the ledger goes from e1 to {newest}"),
        None => "the ledger is empty".to_owned(),
    })]
    UnknownEntry {
        /// The name that was asked for.
        name: String,
        /// The last one that exists.
        newest: Option<EntryId>,
    },
    /// A generation was asked for as the active one of a base model that it does not belong to.
    #[error("{generation} belongs to the base model {}, not to {}", short(of), short(asked))]
    OtherBase {
        /// The generation.
        generation: GenerationId,
        /// Digest of its base model.
        of: String,
        /// Digest of the base model that was asked for.
        asked: String,
    },
    /// A roll-back to the parent where the base model itself is active.
    #[error("nothing to roll back: no generation of the base model {} is active", short(base_digest))]
    NothingToRollBack {
        /// Digest of the base model.
        base_digest: String,
    },
    /// A roll-back to what is active already.
    #[error("{} is active already", name(*generation))]
    AlreadyActive {
        /// The generation; `None` for the base model itself.
        generation: Option<GenerationId>,
    },
    /// Something else moved the active pointer during the transaction: the lock file was removed or does not
    /// work on this file system. Nothing was written.
    #[error(
        "the active generation changed from {} to {} during the transaction: is another process writing here?",
        name(*expected),
        name(*found)
    )]
    ActiveMoved {
        /// What was active at [`crate::Store::begin`].
        expected: Option<GenerationId>,
        /// What is active now.
        found: Option<GenerationId>,
    },
    /// An export to a place that has something in it.
    #[error("{} is not a new or empty folder; an export does not write over files", path.display())]
    ExportTarget {
        /// The place.
        path: PathBuf,
    },
    /// Reading a run's folder without a run. (Writing begins one.)
    #[error("there is no run at {}: nothing was begun there, or the path is another", folder.display())]
    NoRun {
        /// The folder that was asked for.
        folder: PathBuf,
    },
    /// Another process (or another `RunLedger` in this one) writes to the run.
    #[error(
        "the run at {} is being written by another process: wait until it ends, or use another folder",
        folder.display()
    )]
    RunLocked {
        /// The run's folder.
        folder: PathBuf,
    },
    /// A run's folder with SQLite's log and no ledger. The log would be replayed into a new one.
    #[error("{} has `{log}` but no run.sqlite: put the file back, or use another folder", folder.display())]
    RunMissing {
        /// The run's folder.
        folder: PathBuf,
        /// The log's file.
        log: String,
    },
    /// A run that is there was begun with other settings.
    #[error(
        "the run at {} was begun with other settings: {difference}; use another folder, or the same settings",
        folder.display()
    )]
    OtherSettings {
        /// The run's folder.
        folder: PathBuf,
        /// The first that differs.
        difference: Box<Difference>,
    },
    /// A piece of work that was done again came out otherwise. Nothing was written.
    #[error(
        "the run at {} has another record of `{key}`: {difference}; what is finished does not change, \
         use another folder",
        folder.display()
    )]
    OtherRow {
        /// The run's folder.
        folder: PathBuf,
        /// The row's key.
        key: String,
        /// The first value that differs.
        difference: Box<Difference>,
    },
    /// A row of a run whose JSON is not what this code writes.
    #[error("`{key}` is damaged in the run at {}: use a copy of the run, or another folder", folder.display())]
    UnreadableRow {
        /// The run's folder.
        folder: PathBuf,
        /// The row's key; `settings` for those.
        key: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A failpoint that a test armed.
    #[cfg(any(test, feature = "failpoints"))]
    #[error("stopped by a test at {step:?}")]
    Injected {
        /// Where.
        step: crate::failpoints::Step,
    },
}

/// How a file of an adapter differs from what was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It is not there.
    Missing,
    /// Its bytes have another digest.
    Changed,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Damage::Missing => "is missing",
            Damage::Changed => "is not what was kept",
        })
    }
}

/// The first place where two JSON documents differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The place, as a JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// What the ledger has there, as JSON; cut when it is long.
    pub there: String,
    /// What was given now.
    pub here: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = if self.pointer.is_empty() { "the whole" } else { &self.pointer };
        write!(f, "{at} is {} there and {} here", self.there, self.here)
    }
}

impl Error {
    /// For `map_err` on a call of the operating system.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }
}

/// The start of a digest: enough to recognise a base model.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn name(generation: Option<GenerationId>) -> String {
    generation.map_or_else(|| "the base model".to_owned(), |id| id.to_string())
}

fn names(generations: &[Generation]) -> String {
    let name = |generation: &Generation| format!("{} ({})", generation.id, generation.adapter.short());
    generations.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn existing(newest: &[Generation]) -> String {
    // Generations are numbered without gaps, so the oldest one listed tells how many are not.
    match newest.last().map(|oldest| oldest.id.0 - 1) {
        None => "nothing has been kept yet".to_owned(),
        Some(0) => format!("there are {}", names(newest)),
        Some(older) => format!("there are {} and {older} older", names(newest)),
    }
}
