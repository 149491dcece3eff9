//! What is typed for a model that edits itself while it is used: `chat` and `mcp`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use selkie_edit::Domain;
use selkie_engine::live::{Budget, Permission};

use super::{DeviceArg, For, GrantArgs, HomeArgs, ModelArgs};

/// The model, its tools, its home, and what its self-edits may use.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Which bundled model, where none is named
    #[arg(long, value_enum, default_value = "passage")]
    pub(crate) domain: For,
    #[command(flatten)]
    pub(crate) device: DeviceArg,
    #[command(flatten)]
    pub(crate) plugins: GrantArgs,
    #[command(flatten)]
    pub(crate) home: HomeArgs,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
}

/// What the self-edits of one answer or one call may use together.
#[derive(Debug, Args)]
pub(crate) struct BudgetArgs {
    /// Self-edits that may be trained for one answer
    #[arg(long, value_name = "EDITS", default_value_t = Budget::default().edits)]
    pub(crate) budget_edits: u32,
    /// Optimiser steps of these
    #[arg(long, value_name = "STEPS", default_value_t = Budget::default().steps)]
    pub(crate) budget_steps: u64,
    /// Tokens that their training processes, over all epochs
    #[arg(long, value_name = "TOKENS", default_value_t = Budget::default().tokens)]
    pub(crate) budget_tokens: u64,
    /// Seconds of their training
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) budget_seconds: u32,
}

/// `selkie mcp`.
#[derive(Debug, Args)]
pub(crate) struct McpArgs {
    #[command(flatten)]
    pub(crate) live: AgentArgs,
    /// Whether the tools may change the model; a client asks its user, and no tool changes this
    #[arg(long, value_enum, default_value = "allow")]
    pub(crate) self_edits: AllowOrDeny,
}

/// A permission where nobody is there to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AllowOrDeny {
    /// They run
    Allow,
    /// They are refused
    Deny,
}

/// `selkie chat`.
#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) live: AgentArgs,
    /// Whether self-edits run: at once, after you said yes to each, or not
    #[arg(long, value_enum, default_value = "ask")]
    pub(crate) self_edits: Permitted,
    /// New tokens of one answer at most
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    pub(crate) max_new: usize,
    /// Logits are divided by it; 0 takes the most probable token
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Decides everything random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the trace to this file, a line of JSON an event
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

/// [`Permission`] as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Permitted {
    /// They run
    Allow,
    /// You are asked about each
    Ask,
    /// They are refused
    Deny,
}

impl AgentArgs {
    /// The kind of context that the bundled model is for.
    pub(crate) fn domain(&self) -> Domain {
        match self.domain {
            For::Puzzle => Domain::Puzzle,
            For::Passage => Domain::Passage,
        }
    }
}

impl From<&BudgetArgs> for Budget {
    fn from(args: &BudgetArgs) -> Budget {
        Budget {
            edits: args.budget_edits,
            steps: args.budget_steps,
            tokens: args.budget_tokens,
            seconds: f64::from(args.budget_seconds),
        }
    }
}

impl From<AllowOrDeny> for Permission {
    fn from(permission: AllowOrDeny) -> Permission {
        match permission {
            AllowOrDeny::Allow => Permission::Allow,
            AllowOrDeny::Deny => Permission::Deny,
        }
    }
}

impl From<Permitted> for Permission {
    fn from(permission: Permitted) -> Permission {
        match permission {
            Permitted::Allow => Permission::Allow,
            Permitted::Ask => Permission::Ask,
            Permitted::Deny => Permission::Deny,
        }
    }
}
