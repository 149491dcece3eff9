//! What was typed for a server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use selkie_engine::live::Permission;

use super::AgentArgs;

/// `selkie serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// Where to listen; port 0 is any that is free. Any address but loopback needs a token
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8377")]
    pub(crate) address: SocketAddr,
    /// A file with the token that requests must present [default: $SELKIE_TOKEN, else none is needed on loopback]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The folder whose PEFT folders clients may load [default: none may be loaded]
    #[arg(long, value_name = "DIR")]
    pub(crate) adapters: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) live: LiveArgs,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// How much work there may be at once.
#[derive(Debug, Args)]
pub(crate) struct LiveArgs {
    /// Answers that are generated at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) streams: u16,
    /// Requests that may wait for that; more are told to come back
    #[arg(long, default_value_t = 256)]
    pub(crate) waiting: usize,
    /// Self-edits that may wait for their turn; more are told to come back
    #[arg(long, default_value_t = 32)]
    pub(crate) queue: usize,
    /// New tokens of one answer at most
    #[arg(long, default_value_t = 4096, value_name = "TOKENS")]
    pub(crate) max_tokens: usize,
    /// What becomes of self-edits that the model proposes while it answers. Those that a client submits run at once,
    /// but for `deny`, which is for all
    #[arg(long, value_enum, default_value = "ask")]
    pub(crate) self_edits: SelfEdits,
    /// How long what a session has learned lives after its last use
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) session_seconds: u32,
    /// How long a self-edit waits for approval
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) approval_seconds: u32,
    /// Threads that training uses; 0 is one a core
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1024))]
    pub(crate) training_threads: u16,
}

/// How much one client may take.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Connections at the same time; more wait
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) connections: u32,
    /// How long one answer may take, self-edits on the way included
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) request_seconds: u32,
    /// Bytes of a request at most
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20)]
    pub(crate) body_bytes: usize,
}

/// What becomes of self-edits that the model proposes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SelfEdits {
    /// They run, where the request says so too
    Allow,
    /// They wait until somebody approves them
    Ask,
    /// They are refused, and so are those that a client submits, and roll backs
    Deny,
}

impl From<SelfEdits> for Permission {
    fn from(word: SelfEdits) -> Permission {
        match word {
            SelfEdits::Allow => Permission::Allow,
            SelfEdits::Ask => Permission::Ask,
            SelfEdits::Deny => Permission::Deny,
        }
    }
}
