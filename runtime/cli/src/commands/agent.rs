//! Starts the live runtime that `serve`, `mcp` and `chat` are the outside of.

use std::sync::Arc;
use std::time::Duration;

use selkie_engine::live::{Live, LiveOptions, Permission};
use selkie_engine::{Runtime, model_files};

use crate::args::AgentArgs;
use crate::error::CommandError;
use crate::settings;

/// What one user, or one client, needs beside the arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// What self-edits may do.
    pub(super) permission: Permission,
    /// New tokens of one answer at most.
    pub(super) max_tokens: usize,
    /// How long a question to a person stands.
    pub(super) approval: Duration,
}

/// Opens the model and starts the runtime.
pub(super) fn start(args: &AgentArgs, needs: Needs) -> Result<Live, CommandError> {
    let options = LiveOptions {
        streams: 4,
        waiting: 16,
        queue: 4,
        max_tokens: needs.max_tokens,
        permission: needs.permission,
        approval_timeout: needs.approval,
        ..options(args)
    };
    start_with(args, options)
}

/// What the arguments say; the rest as it is by default.
pub(super) fn options(args: &AgentArgs) -> LiveOptions {
    LiveOptions {
        budget: (&args.budget).into(),
        clock: settings::now_ms,
        ..LiveOptions::new(settings::home(&args.home))
    }
}

/// Opens the model and starts the runtime with these options.
pub(super) fn start_with(args: &AgentArgs, options: LiveOptions) -> Result<Live, CommandError> {
    let files = model_files(args.model.model.as_deref(), args.domain())?;
    let runtime = Runtime::open_on(&files, args.plugins.options(), &args.device.device.resolve()?)?;
    Ok(Live::start(Arc::new(runtime), options)?)
}

/// The async runtime that a command runs in.
pub(super) fn in_async<T>(work: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| CommandError::internal(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(work);
    // Whoever still waits for standard input is left behind.
    runtime.shutdown_background();
    result
}
