//! `selkie mcp`: the tools for one MCP client on stdin and stdout.

use std::process::ExitCode;
use std::time::Duration;

use super::agent::{Needs, in_async, start};
use crate::args::McpArgs;
use crate::error::CommandError;

/// New tokens of one answer at most.
const MAX_TOKENS: usize = 4096;

/// Serves until the client closes its side. An edit that runs then is abandoned: what was active still is.
pub(crate) fn run(args: &McpArgs) -> Result<ExitCode, CommandError> {
    let permission = args.self_edits.into();
    let live = start(&args.live, Needs { permission, max_tokens: MAX_TOKENS, approval: Duration::ZERO })?;
    let served = in_async(async {
        let served = selkie_serve::mcp::stdio(live.clone()).await;
        served.map_err(|error| CommandError::input(error.to_string()))
    });
    live.shutdown(false);
    served.map(|()| ExitCode::SUCCESS)
}
