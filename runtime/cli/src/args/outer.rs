//! What was typed for the outer loop: learning to edit, comparing, reporting.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use selkie_edit::Domain;

use super::{DeviceArg, GrantArgs};

/// `selkie rest-em ...` and `selkie eval ...`: for which kind of context.
#[derive(Debug, Subcommand)]
pub(crate) enum OuterCommand<T: Args> {
    /// Puzzles: few-shot adaptation, a self-edit in JSON for each
    Arc(T),
    /// Passages with questions: knowledge that is asked for without the passage
    Knowledge(T),
}

impl<T: Args> OuterCommand<T> {
    /// The kind of context, and the rest.
    pub(crate) fn parts(&self) -> (Domain, &T) {
        match self {
            OuterCommand::Arc(args) => (Domain::Puzzle, args),
            OuterCommand::Knowledge(args) => (Domain::Passage, args),
        }
    }
}

/// `selkie rest-em`.
#[derive(Debug, Args)]
pub(crate) struct RestEmArgs {
    #[command(flatten)]
    pub(crate) what: OuterArgs,
    #[command(flatten)]
    pub(crate) compare: CompareArgs,
    /// Rounds of drawing, trying and imitating [default: the preset's]
    #[arg(long)]
    pub(crate) rounds: Option<u32>,
    /// Contexts that policies learn from [default: the preset's]
    #[arg(long, value_name = "N")]
    pub(crate) contexts: Option<usize>,
    /// Self-edits that are drawn for each of them in a round [default: the preset's]
    #[arg(long, value_name = "N")]
    pub(crate) samples: Option<usize>,
    /// Trainings of each self-edit, with other seeds [default: the preset's]
    #[arg(long, value_name = "N")]
    pub(crate) repeats: Option<usize>,
    /// Asked before an edit is tried in full: `none`, `short` (a quarter of its training) or a grader's tool name
    #[arg(long, value_name = "PROXY", default_value = "none")]
    pub(crate) proxy: String,
    /// Share of the edits that are tried in full after the proxy
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub(crate) survivors: f64,
    /// What the reward loses when all watched facts are forgotten [default: 1 for pup, else 0]
    #[arg(long, value_name = "PRICE")]
    pub(crate) retention: Option<f64>,
}

/// `selkie eval`.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    pub(crate) what: OuterArgs,
    #[command(flatten)]
    pub(crate) compare: CompareArgs,
    /// Compare the self-edits of this policy too (a folder in RUN/policies)
    #[arg(long, value_name = "DIR")]
    pub(crate) policy: Option<PathBuf>,
}

/// Which model, which contexts, where to.
#[derive(Debug, Args)]
pub(crate) struct OuterArgs {
    /// A Hugging Face model folder, or `pup`, the bundled one [default: pup]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Settings to begin with: seal/arc-llama-3.2-1b, seal/knowledge-qwen2.5-7b, pup/arc or pup/knowledge [default:
    /// pup's]
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// Contexts: ARC challenges, SQuAD's or SEAL's JSON, JSON lines. The first are learned from, the others held out
    /// [default: the bundled model's own worlds]
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    /// The solutions of a challenges file
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(crate) solutions: Option<PathBuf>,
    /// Take only puzzles whose grids have no longer side
    #[arg(long, value_name = "CELLS", requires = "data")]
    pub(crate) max_side: Option<u8>,
    /// The folder of the run: its ledger, policies and metrics. A run that was killed goes on
    #[arg(long, value_name = "RUN")]
    pub(crate) out: PathBuf,
    /// Decides everything random; may be repeated for several independent runs in one folder
    #[arg(long = "seed", value_name = "SEED", default_values_t = [1])]
    pub(crate) seeds: Vec<u64>,
    #[command(flatten)]
    pub(crate) plugins: GrantArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// How policies are compared.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Contexts to compare policies on [default: the preset's]
    #[arg(long, value_name = "N")]
    pub(crate) held_out: Option<usize>,
    /// Self-edits that are drawn for each of them and each policy [default: the preset's]
    #[arg(long, value_name = "N")]
    pub(crate) held_out_samples: Option<usize>,
    /// Views of a puzzle's test that vote for its answer
    #[arg(long, value_name = "VIEWS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=72))]
    pub(crate) votes: u16,
    /// Let so many untrained self-edits of each held-out context vote: a comparison at the outer loop's own cost
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) matched: usize,
    /// Learn so many passages at once from one self-edit each, and ask for all of them
    #[arg(long, value_name = "PASSAGES", default_value_t = 1)]
    pub(crate) together: usize,
    /// Run greedy decoding beside every forward pass, and count where they disagree
    #[arg(long)]
    pub(crate) check_decoding: bool,
}

/// `selkie report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folders of runs that differ in their seeds alone
    #[arg(value_name = "RUN", required = true)]
    pub(crate) runs: Vec<PathBuf>,
    /// Write one HTML page here [default: report.html in the first run]
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}
