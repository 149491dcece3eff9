//! What the user typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Self-editing language models: adapt a model to a puzzle or a passage by a self-edit it writes itself
///
/// Exit codes: 0 done, 1 the answer is no, 2 bad usage or input, 3 a fault of selkie.
#[derive(Debug, Parser)]
#[command(name = "selkie", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Adapt a model to a puzzle or a passage, and keep the change if it helped
    Adapt(AdaptArgs),
    /// Check a self-edit, or see what a model is asked
    #[command(subcommand)]
    Edit(EditCommand),
    /// Print the JSON Schema of self-edits, composed from the loaded tools
    Schema(SchemaArgs),
    /// List the loaded tools, or run one
    #[command(subcommand)]
    Tool(ToolCommand),
    /// Build and check plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Train a small base model from one of the generated worlds
    Pretrain(PretrainArgs),
    /// List what was tried, newest first
    Log(LogArgs),
    /// Show one entry of the log, whole
    Show(ShowArgs),
    /// Make an earlier generation active again
    Rollback(RollbackArgs),
    /// Do an entry of the log again and name the first difference
    Replay(ReplayArgs),
    /// Copy a generation's adapter (a PEFT folder) out of the home
    Export(ExportArgs),
}

/// Where the state is.
#[derive(Debug, Args)]
pub(crate) struct HomeArgs {
    /// The folder of the ledger and the adapters [default: $SELKIE_HOME, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
}

/// Which context.
#[derive(Debug, Args)]
pub(crate) struct ContextArgs {
    /// A puzzle in ARC's format, a challenges file (with --task), or a passage with questions
    #[arg(value_name = "CONTEXT.json")]
    pub(crate) context: PathBuf,
    /// The task of a challenges file
    #[arg(long, value_name = "ID")]
    pub(crate) task: Option<String>,
    /// The solutions file that belongs to a challenges file
    #[arg(long, value_name = "FILE", requires = "task")]
    pub(crate) solutions: Option<PathBuf>,
}

/// Which plugins, beside the built-in ones.
#[derive(Debug, Args)]
pub(crate) struct PluginsArgs {
    /// A folder whose *.wasm components are loaded too
    #[arg(long, value_name = "DIR")]
    pub(crate) plugins: Option<PathBuf>,
}

/// Which model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A Hugging Face model folder [default: the bundled pup for the kind of context]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

/// `selkie adapt`.
#[derive(Debug, Args)]
pub(crate) struct AdaptArgs {
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Use this self-edit (- for stdin) instead of asking the model
    #[arg(long, value_name = "FILE")]
    pub(crate) self_edit: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Decides everything random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Start from the base model instead of the active generation
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Print one JSON document (its schema is in schemas/) instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// `selkie edit ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum EditCommand {
    /// Check a self-edit (- for stdin) and report every problem
    Check(EditCheckArgs),
    /// Print what a model is asked when it is to write a self-edit
    Prompt(EditPromptArgs),
}

/// `selkie edit check`.
#[derive(Debug, Args)]
pub(crate) struct EditCheckArgs {
    /// The self-edit
    #[arg(value_name = "FILE")]
    pub(crate) edit: PathBuf,
    /// What it is for [default: a puzzle, or else a passage]
    #[arg(long, value_enum)]
    pub(crate) r#for: Option<For>,
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// A kind of context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum For {
    /// A puzzle
    Puzzle,
    /// A passage
    Passage,
}

/// `selkie edit prompt`.
#[derive(Debug, Args)]
pub(crate) struct EditPromptArgs {
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
}

/// `selkie schema`.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
    /// Print the schema of SEAL's form for ARC instead
    #[arg(long)]
    pub(crate) seal_arc: bool,
}

/// `selkie tool ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolCommand {
    /// List the loaded tools
    List(ToolListArgs),
    /// Run a tool on a grid or a task (JSON on stdin) and print the result
    Run(ToolRunArgs),
}

/// `selkie tool list`.
#[derive(Debug, Args)]
pub(crate) struct ToolListArgs {
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `selkie tool run`.
#[derive(Debug, Args)]
pub(crate) struct ToolRunArgs {
    /// The tool's full name
    pub(crate) name: String,
    /// Its parameters, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) params: String,
    /// The seed of a random tool
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
}

/// `selkie plugin ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Compile a plugin to a component
    Build(PluginBuildArgs),
    /// Load a component as selkie would and list its tools
    Check(PluginCheckArgs),
    /// Rebuild the committed built-in plugins (a dist folder) from source and compare
    Verify(PluginVerifyArgs),
}

/// `selkie plugin build`.
#[derive(Debug, Args)]
pub(crate) struct PluginBuildArgs {
    /// The plugin's crate
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where the component goes [default: NAME.wasm beside the crate's manifest]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `selkie plugin check`.
#[derive(Debug, Args)]
pub(crate) struct PluginCheckArgs {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    pub(crate) component: PathBuf,
}

/// `selkie plugin verify`.
#[derive(Debug, Args)]
pub(crate) struct PluginVerifyArgs {
    /// The dist folder
    #[arg(value_name = "DIR", default_value = "plugins/dist")]
    pub(crate) dist: PathBuf,
}

/// A generated world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum World {
    /// Invented people and machines, and what is known of them
    Facts,
    /// Grids with hidden rules
    Puzzles,
}

/// `selkie pretrain`.
#[derive(Debug, Args)]
pub(crate) struct PretrainArgs {
    /// The world
    #[arg(value_enum)]
    pub(crate) world: World,
    /// The folder of the checkpoint, the loss curve and, at the end, the model
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Optimiser steps
    #[arg(long, default_value_t = 2600)]
    pub(crate) steps: u64,
    /// Decides the world and the first weights
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 100)]
    pub(crate) checkpoint_every: u64,
}

/// `selkie log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// At most so many entries
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `selkie show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// An entry (e3) or a generation (g2)
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) home: HomeArgs,
}

/// `selkie rollback`.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// A generation, or `base` for the base model [default: the parent of the active one]
    pub(crate) to: Option<String>,
    /// Of which base model, by the beginning of its digest, where the home has several
    #[arg(long, value_name = "DIGEST")]
    pub(crate) base: Option<String>,
    #[command(flatten)]
    pub(crate) home: HomeArgs,
}

/// `selkie replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// An entry (e3) or a generation (g2)
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
    #[command(flatten)]
    pub(crate) home: HomeArgs,
}

/// `selkie export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// A generation (g2)
    pub(crate) generation: String,
    /// The new folder
    #[arg(value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) home: HomeArgs,
}
