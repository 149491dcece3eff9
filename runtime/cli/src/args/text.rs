//! What was typed for training, generating and scoring text.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use selkie_edit::{Projection, Schedule};

use super::DeviceArg;

/// Which model, for text.
#[derive(Debug, Args)]
pub(crate) struct TextModelArgs {
    /// A Hugging Face model folder [default: the bundled pup for passages]
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
}

/// `selkie train`.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(crate) model: TextModelArgs,
    /// JSON lines: {"prompt", "completion"}, {"text"} or {"messages"}; several files train an adapter each, in shared
    /// passes
    #[arg(long, value_name = "FILE.jsonl", required = true)]
    pub(crate) data: Vec<PathBuf>,
    /// The new folder: a PEFT folder and metrics.jsonl, or for several files one such folder each
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) lora: LoraArgs,
    #[command(flatten)]
    pub(crate) optimiser: OptimiserArgs,
    #[command(flatten)]
    pub(crate) length: LengthArgs,
    /// Compute activations again in the backward pass: less memory, about a third more time
    #[arg(long)]
    pub(crate) checkpointing: bool,
    /// Decides the first adapter, the order of the lines and the dropout
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Steps between checkpoints [default: none are written]
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) save_every: Option<u64>,
    /// Go on with the run in --out: from its checkpoint, or from the start if it has none
    #[arg(long)]
    pub(crate) resume: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// The adapter.
#[derive(Debug, Args)]
pub(crate) struct LoraArgs {
    /// Rank of the update of every layer
    #[arg(long, default_value_t = 16)]
    pub(crate) rank: u32,
    /// The update is scaled by alpha / rank
    #[arg(long, default_value_t = 32.0, allow_negative_numbers = true)]
    pub(crate) alpha: f64,
    /// Share of the inputs of an adapted layer that training drops
    #[arg(long, default_value_t = 0.0)]
    pub(crate) dropout: f64,
    /// The adapted layers: all, or some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj
    #[arg(long, default_value = "all", value_name = "NAME,..", value_parser = targets)]
    pub(crate) targets: Targets,
    /// Rank of the layers that match a pattern, as in PEFT
    #[arg(long, value_name = "PATTERN=RANK", value_parser = pattern::<u32>)]
    pub(crate) rank_pattern: Vec<(String, u32)>,
    /// Alpha of the layers that match a pattern, as in PEFT
    #[arg(long, value_name = "PATTERN=ALPHA", value_parser = pattern::<f64>)]
    pub(crate) alpha_pattern: Vec<(String, f64)>,
    /// Scale by alpha / sqrt(rank)
    #[arg(long)]
    pub(crate) rslora: bool,
}

/// Layers by name.
#[derive(Debug, Clone)]
pub(crate) struct Targets(pub(crate) Vec<Projection>);

/// How the adapter is trained.
#[derive(Debug, Args)]
pub(crate) struct OptimiserArgs {
    /// Peak learning rate
    #[arg(long, default_value_t = 1e-4, allow_negative_numbers = true, value_parser = not_negative)]
    pub(crate) lr: f64,
    /// What the learning rate does after the warm-up
    #[arg(long, value_enum, default_value = "linear")]
    pub(crate) schedule: ScheduleName,
    /// Steps over which the learning rate rises from 0
    #[arg(long, default_value_t = 0, value_name = "STEPS")]
    pub(crate) warmup_steps: u64,
    /// AdamW's decay of weights, times the learning rate
    #[arg(long, default_value_t = 0.0, value_parser = not_negative)]
    pub(crate) weight_decay: f64,
    /// Gradients are scaled down to this norm
    #[arg(long, default_value_t = 1.0, value_name = "NORM", value_parser = above_zero)]
    pub(crate) max_grad_norm: f64,
    /// Passes over the data
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) epochs: u32,
    /// Lines of one pass
    #[arg(long, default_value_t = 4, value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) batch_size: u32,
    /// Passes of one step, whose gradients are added up
    #[arg(long, default_value_t = 1, value_name = "PASSES", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) accumulate: u32,
}

/// What is done about long lines.
#[derive(Debug, Args)]
pub(crate) struct LengthArgs {
    /// Tokens of a line at most; the model's positions are a limit too
    #[arg(long, default_value_t = 2048, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) max_tokens: u32,
    /// Cut longer lines at their end instead of refusing them
    #[arg(long)]
    pub(crate) truncate: bool,
}

/// [`Schedule`] as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScheduleName {
    /// A line to 0
    Linear,
    /// Half a cosine to 0
    Cosine,
    /// No fall
    Constant,
}

impl From<ScheduleName> for Schedule {
    fn from(name: ScheduleName) -> Schedule {
        match name {
            ScheduleName::Linear => Schedule::Linear,
            ScheduleName::Cosine => Schedule::Cosine,
            ScheduleName::Constant => Schedule::Constant,
        }
    }
}

/// `selkie generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    pub(crate) model: TextModelArgs,
    /// A PEFT folder; of several, each continues every prompt
    #[arg(long = "adapter", value_name = "DIR")]
    pub(crate) adapters: Vec<PathBuf>,
    /// The text to continue [default: stdin]
    #[arg(long, value_name = "TEXT", conflicts_with = "prompts")]
    pub(crate) prompt: Option<String>,
    /// JSON lines, each {"prompt"} or {"messages"}
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) prompts: Option<PathBuf>,
    /// The text is a user's message: put it through the model's chat template
    #[arg(long)]
    pub(crate) chat: bool,
    /// New tokens at most
    #[arg(long, default_value_t = 256, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_new: u32,
    /// Logits are divided by it; 0 takes the most probable token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Draw from the smallest set of tokens that has this share of the probability
    #[arg(long, default_value_t = 1.0)]
    pub(crate) top_p: f64,
    /// Draw from so many of the most probable tokens [default: all]
    #[arg(long, value_name = "TOKENS")]
    pub(crate) top_k: Option<usize>,
    /// Decides every draw
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// End before this text; may be given several times
    #[arg(long, value_name = "STRING")]
    pub(crate) stop: Vec<String>,
    /// Continuations of each prompt
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) samples: u32,
    #[command(flatten)]
    pub(crate) grammar: GrammarArgs,
    /// Tell each token's id and log-probability (with --json)
    #[arg(long, requires = "json")]
    pub(crate) log_probs: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the text must obey.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct GrammarArgs {
    /// Only JSON that obeys this schema
    #[arg(long, value_name = "FILE")]
    pub(crate) json_schema: Option<PathBuf>,
    /// Only text that matches this regular expression as a whole
    #[arg(long, value_name = "RE")]
    pub(crate) regex: Option<String>,
    /// Only text of this grammar (llguidance's Lark, with a rule `start`)
    #[arg(long, value_name = "FILE.lark")]
    pub(crate) grammar: Option<PathBuf>,
}

/// `selkie score`.
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    pub(crate) model: TextModelArgs,
    /// A PEFT folder; of several, each scores every line
    #[arg(long = "adapter", value_name = "DIR")]
    pub(crate) adapters: Vec<PathBuf>,
    /// JSON lines: {"prompt", "completion"}, {"text"} or {"messages"}
    #[arg(long, value_name = "FILE.jsonl")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) length: LengthArgs,
    /// Tell each token's id and log-probability
    #[arg(long)]
    pub(crate) tokens: bool,
    /// Print one JSON document instead of a line each
    #[arg(long)]
    pub(crate) json: bool,
}

fn targets(text: &str) -> Result<Targets, String> {
    if text == "all" {
        return Ok(Targets(Projection::ALL.to_vec()));
    }
    let known = |name: &str| Projection::ALL.into_iter().find(|projection| projection.as_str() == name);
    let names = text.split(',').map(str::trim);
    let found: Result<Vec<Projection>, String> = names
        .map(|name| {
            known(name).ok_or_else(|| format!("`{name}` is no layer; expected `all` or {}", all_names()))
        })
        .collect();
    let mut found = found?;
    found.sort_unstable();
    Ok(Targets(found))
}

fn all_names() -> String {
    Projection::ALL.map(Projection::as_str).join(", ")
}

fn pattern<T: std::str::FromStr>(text: &str) -> Result<(String, T), String> {
    let parts = text.rsplit_once('=').and_then(|(key, value)| Some((key, value.parse().ok()?)));
    match parts {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value)),
        _ => Err("expected a pattern, `=` and a number, such as q_proj=8".to_owned()),
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |number| number >= 0.0, "0 or a number above it")
}

fn above_zero(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0, "a number above 0")
}

fn number(text: &str, fits: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number: &f64| number.is_finite() && fits(number));
    number.ok_or_else(|| format!("expected {expected}"))
}
