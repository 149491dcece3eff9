//! What the user typed after `selkie plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use selkie_edit::ToolKind;
use selkie_tools::author::{LAW_CASES, Language};

/// `selkie plugin ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Begin a plugin: a folder that builds and whose test passes
    New(PluginNewArgs),
    /// Compile a plugin to a component
    Build(PluginBuildArgs),
    /// Load a component as selkie would, and hold its tools to what they promise with generated inputs
    Check(PluginCheckArgs),
    /// Run a plugin's cases in the sandbox
    Test(PluginTestArgs),
    /// Measure what each tool uses of each limit
    Bench(PluginBenchArgs),
    /// Run a tool of one component on what is on stdin (a grid, a task, a text, answers to grade)
    Run(PluginRunArgs),
    /// Show what a component is, also one that selkie refuses
    Inspect(PluginInspectArgs),
    /// Check and test a plugin, and write the component with a list of what is in it
    Pack(PluginPackArgs),
    /// Rebuild the committed built-in plugins (a dist folder) from source and compare
    Verify(PluginVerifyArgs),
}

/// `selkie plugin new`.
#[derive(Debug, Args)]
pub(crate) struct PluginNewArgs {
    /// Its name, and that of its folder: lower-case letters, digits, `_` and `-`
    pub(crate) name: String,
    /// What its tool does
    #[arg(long, value_enum, default_value = "puzzle")]
    pub(crate) kind: StarterKind,
    /// What it is written in; other languages than Rust begin with a tool for puzzles
    #[arg(long, value_enum, default_value = "rust")]
    pub(crate) language: StarterLanguage,
}

/// A kind of tool, as `selkie plugin new` is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StarterKind {
    /// Make training tasks of a puzzle
    Puzzle,
    /// Make training documents of a passage
    Text,
    /// Say how good something is
    Grader,
}

impl From<StarterKind> for ToolKind {
    fn from(kind: StarterKind) -> ToolKind {
        match kind {
            StarterKind::Puzzle => ToolKind::PuzzleAugmenter,
            StarterKind::Text => ToolKind::TextAugmenter,
            StarterKind::Grader => ToolKind::Grader,
        }
    }
}

/// A language, as `selkie plugin new` is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StarterLanguage {
    /// With the SDK
    Rust,
    /// With componentize-py
    Python,
    /// With componentize-qjs
    #[value(name = "javascript")]
    JavaScript,
    /// With wit-bindgen's C
    C,
}

impl From<StarterLanguage> for Language {
    fn from(language: StarterLanguage) -> Language {
        match language {
            StarterLanguage::Rust => Language::Rust,
            StarterLanguage::Python => Language::Python,
            StarterLanguage::JavaScript => Language::JavaScript,
            StarterLanguage::C => Language::C,
        }
    }
}

/// `selkie plugin build`.
#[derive(Debug, Args)]
pub(crate) struct PluginBuildArgs {
    /// The plugin's folder: a crate, or one with a build.sh, which is run
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where the component goes [default: in target/selkie]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Which plugin.
#[derive(Debug, Args)]
pub(crate) struct PluginArg {
    /// A component, or a plugin's folder, which is built first
    #[arg(value_name = "FILE|DIR")]
    pub(crate) plugin: PathBuf,
}

/// `selkie plugin check`.
#[derive(Debug, Args)]
pub(crate) struct PluginCheckArgs {
    #[command(flatten)]
    pub(crate) plugin: PluginArg,
    /// Generated cases for each law of each tool
    #[arg(long, value_name = "COUNT", default_value_t = LAW_CASES, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) cases: u32,
    /// Decides what is generated
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `selkie plugin test`.
#[derive(Debug, Args)]
pub(crate) struct PluginTestArgs {
    #[command(flatten)]
    pub(crate) plugin: PluginArg,
    /// The cases [default: cases.json in the plugin's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) cases: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `selkie plugin bench`.
#[derive(Debug, Args)]
pub(crate) struct PluginBenchArgs {
    #[command(flatten)]
    pub(crate) plugin: PluginArg,
    /// Measure on these cases [default: generated batches, as large as selkie's]
    #[arg(long, value_name = "FILE")]
    pub(crate) cases: Option<PathBuf>,
    /// Measurements of the time that a batch takes; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) repeats: u16,
    /// Decides what is generated
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// End with exit code 1 when more than so much of a limit is used, or a batch fails
    #[arg(long, value_name = "PERCENT")]
    pub(crate) fail_over: Option<f64>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `selkie plugin run`.
#[derive(Debug, Args)]
pub(crate) struct PluginRunArgs {
    #[command(flatten)]
    pub(crate) plugin: PluginArg,
    /// The tool's full name
    pub(crate) tool: String,
    /// Its parameters, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) params: String,
    /// The seed of a random tool
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print what the tool logs to stderr
    #[arg(long)]
    pub(crate) log: bool,
}

/// `selkie plugin inspect`.
#[derive(Debug, Args)]
pub(crate) struct PluginInspectArgs {
    /// The component
    #[arg(value_name = "FILE")]
    pub(crate) component: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `selkie plugin pack`.
#[derive(Debug, Args)]
pub(crate) struct PluginPackArgs {
    #[command(flatten)]
    pub(crate) plugin: PluginArg,
    /// The folder of NAME-VERSION.wasm and NAME-VERSION.json
    #[arg(short, long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The cases [default: cases.json in the plugin's folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) cases: Option<PathBuf>,
}

/// `selkie plugin verify`.
#[derive(Debug, Args)]
pub(crate) struct PluginVerifyArgs {
    /// The dist folder
    #[arg(value_name = "DIR", default_value = "plugins/dist")]
    pub(crate) dist: PathBuf,
}
