//! What the user typed.

mod agent;
mod outer;
mod plugin;
mod serve;
mod text;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use selkie_engine::PluginOptions;
use selkie_learn::DeviceChoice;
use serde::{Deserialize, Serialize};

use crate::settings;

pub(crate) use self::agent::{AgentArgs, ChatArgs, McpArgs};
pub(crate) use self::outer::{CompareArgs, EvalArgs, OuterArgs, OuterCommand, ReportArgs, RestEmArgs};
pub(crate) use self::plugin::{
    PluginBenchArgs, PluginBuildArgs, PluginCheckArgs, PluginCommand, PluginInspectArgs, PluginNewArgs,
    PluginPackArgs, PluginRunArgs, PluginTestArgs, PluginVerifyArgs, StarterLanguage,
};
pub(crate) use self::serve::ServeArgs;
pub(crate) use self::text::{GenerateArgs, GrammarArgs, LengthArgs, ScoreArgs, TextModelArgs, TrainArgs};

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
    /// Write a plugin: begin, build, check, test, measure and pack it
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Learn to write better self-edits: draw, try, imitate what helped (ReST-EM)
    #[command(subcommand)]
    RestEm(OuterCommand<RestEmArgs>),
    /// Compare self-edits with other ways to adapt, without learning
    #[command(subcommand)]
    Eval(OuterCommand<EvalArgs>),
    /// Tell what runs of rest-em or eval came to, as text and as one HTML page
    Report(ReportArgs),
    /// Train a small base model from one of the generated worlds
    Pretrain(PretrainArgs),
    /// Look at what selkie needs here: processor, GPU, models, tools, home; and say what to do about it
    Doctor(DoctorArgs),
    /// Measure training or generation, also against PyTorch where there is one
    #[command(subcommand)]
    Bench(BenchCommand),
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
    /// Train an adapter on prompts and completions, or on text
    Train(TrainArgs),
    /// Continue prompts, also under several adapters at once or held to a grammar
    Generate(GenerateArgs),
    /// Tell how probable completions or texts are
    Score(ScoreArgs),
    /// Merge an adapter, or several by weight, into the files of a model
    Merge(MergeArgs),
    /// Serve a model that may edit itself: OpenAI's API, self-edits, tools for other agents, and a page
    Serve(ServeArgs),
    /// Talk with a model that may edit itself, and watch it
    Chat(ChatArgs),
    /// Offer self-edits to another model as MCP tools, on stdin and stdout
    Mcp(McpArgs),
    /// Be a process that selkie can kill
    #[command(subcommand, hide = true)]
    Worker(WorkerCommand),
}

/// `selkie worker ...`: what selkie starts itself for.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Call a native plugin once
    Native,
    /// Compile a component
    Compile,
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
    /// Run the shared library of that folder (*.so) which has this SHA-256; may be repeated. It is not sandboxed
    #[arg(long = "allow-native", value_name = "SHA256")]
    pub(crate) native: Vec<String>,
}

/// Which plugins, and what they may ask.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
    /// Let this plugin ask the model, if its manifest asks for that; may be repeated
    #[arg(long = "grant", value_name = "PLUGIN")]
    pub(crate) grants: Vec<String>,
}

impl GrantArgs {
    /// What the engine needs of it.
    pub(crate) fn options(&self) -> PluginOptions {
        PluginOptions { host: settings::host(&self.plugins), grants: self.grants.clone() }
    }
}

/// Which model.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A Hugging Face model folder [default: the bundled pup for the kind of context]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
}

/// Where the model is computed.
#[derive(Debug, Args)]
pub(crate) struct DeviceArg {
    /// `cpu` (f32), `cuda` or `cuda:N` (bf16), or `auto`: the first GPU if this selkie was built with the feature
    /// `cuda` and one can be used, else the CPU
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
}

/// `selkie doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) plugins: PluginsArgs,
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `selkie adapt`.
#[derive(Debug, Args)]
pub(crate) struct AdaptArgs {
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// Use this self-edit (- for stdin) instead of asking the model
    #[arg(long, value_name = "FILE")]
    pub(crate) self_edit: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plugins: GrantArgs,
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
    /// Ask for Selkie's JSON whatever the model, with the tools that are loaded
    #[arg(long)]
    pub(crate) json: bool,
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
    /// Run a tool on what is on stdin (a grid, a task, a text, answers to grade) and print the result
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
    pub(crate) plugins: GrantArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
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
    /// End earlier: from this step on the learning rate falls to 0 in a line. A run that has not come there yet can be
    /// given it when it goes on
    #[arg(long, value_name = "STEP")]
    pub(crate) cool_down_at: Option<u64>,
    /// Steps of the earlier end
    #[arg(long, value_name = "STEPS", default_value_t = 800, requires = "cool_down_at")]
    pub(crate) cool_down: u64,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 100)]
    pub(crate) checkpoint_every: u64,
}

/// `selkie bench ...`.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure optimiser steps of a LoRA, or one whole self-edit
    Train(BenchTrainArgs),
    /// Measure greedy generation
    Decode(BenchDecodeArgs),
    /// Be one measured process: JSON on stdin, JSON on stdout
    #[command(hide = true)]
    Side,
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dtype {
    /// 32 bits a number
    F32,
    /// 16 bits a number, with the exponent of 32
    Bf16,
}

/// What is measured, and how often.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// `mini` (6 blocks of 256), `slice` (4 blocks of a model of 10^9 parameters), both with random weights, or a
    /// model folder
    #[arg(long, default_value = "mini", value_name = "SHAPE")]
    pub(crate) shape: String,
    /// How the weights of a random model are stored
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) dtype: Dtype,
    /// Threads of each side
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// Measurements of each side, which take turns; the least counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) repeats: u16,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    /// A Python with torch, transformers and peft, to be measured too [default: only selkie is]
    #[arg(long, value_name = "INTERPRETER")]
    pub(crate) python: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `selkie bench train`.
#[derive(Debug, Args)]
pub(crate) struct BenchTrainArgs {
    #[command(flatten)]
    pub(crate) bench: BenchArgs,
    /// Sequences of a step [default: 4 for mini, else 2]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) batch: Option<u16>,
    /// Tokens of a sequence; the second half of them has a loss [default: 512 for mini, else 256]
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    pub(crate) tokens: Option<u32>,
    /// Rank of the adapter; alpha is twice that
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) rank: u32,
    /// Adapters that selkie trains together, each on a batch of its own; times are for one. Python trains one
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) adapters: u16,
    /// Steps on the clock, after two without
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) steps: u32,
    /// Instead of one batch, a recorded self-edit of SEAL, trained whole: Python pads as SEAL does
    #[arg(long, value_name = "RECORDED.json", conflicts_with_all = ["batch", "tokens", "rank", "steps", "adapters"])]
    pub(crate) seal_edit: Option<PathBuf>,
    /// Tokens that Python pads every sequence of the self-edit to; 0 for no pads [default: 2048]
    #[arg(long, requires = "seal_edit", value_parser = clap::value_parser!(u16).range(..=2048))]
    pub(crate) pad_to: Option<u16>,
}

/// `selkie bench decode`.
#[derive(Debug, Args)]
pub(crate) struct BenchDecodeArgs {
    #[command(flatten)]
    pub(crate) bench: BenchArgs,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) tokens: u32,
    /// Tokens to make
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) new_tokens: u32,
    /// How Python holds the weights [default: as they are stored, by --dtype]
    #[arg(long, value_enum)]
    pub(crate) python_dtype: Option<Dtype>,
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
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) plugins: GrantArgs,
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

/// `selkie merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The Hugging Face folder of the base model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// A PEFT folder, with :WEIGHT to multiply its update (1 if left out; may be negative); several are added up
    #[arg(long = "adapter", value_name = "DIR[:WEIGHT]", required = true)]
    pub(crate) adapters: Vec<WeightedFolder>,
    /// The new folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Write the sum as an adapter (a PEFT folder) instead of a whole model
    #[arg(long)]
    pub(crate) as_adapter: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// `DIR` or `DIR:WEIGHT`. What follows the last colon is a weight if it is a number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeightedFolder {
    pub(crate) folder: PathBuf,
    pub(crate) weight: f64,
}

impl FromStr for WeightedFolder {
    type Err = String;

    fn from_str(text: &str) -> Result<WeightedFolder, String> {
        let parts = text.rsplit_once(':').and_then(|(dir, weight)| Some((dir, weight.parse::<f64>().ok()?)));
        let (folder, weight) = parts.unwrap_or((text, 1.0));
        if folder.is_empty() {
            return Err("expected a folder".to_owned());
        }
        if !weight.is_finite() {
            return Err(format!("the weight is {weight}; expected a finite number"));
        }
        Ok(WeightedFolder { folder: folder.into(), weight })
    }
}
