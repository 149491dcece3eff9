//! `selkie serve`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use selkie_engine::live::{Live, LiveOptions};
use selkie_serve::{Limits, ServeError, ServeOptions, Server, Stopper, Token};

use super::agent;
use crate::args::ServeArgs;
use crate::error::CommandError;
use crate::settings;

/// Bytes of a file with a token at most.
const TOKEN_FILE_BYTES_MAX: usize = 4096;

/// Threads that handle connections: they wait more than they compute.
const SERVER_THREADS: usize = 2;

/// Serves until it is told to stop.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, CommandError> {
    let options = options(args)?;
    // Before the model is opened, which takes longer.
    options.check()?;
    let live = agent::start_with(&args.agent, live_options(args))?;
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(SERVER_THREADS)
        .enable_all()
        .build()
        .map_err(|error| CommandError::internal(format!("cannot start: {error}")))?;
    let served = tokio.block_on(serve(live, options));
    // What nobody waits for any more is left behind.
    tokio.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}

async fn serve(live: Live, options: ServeOptions) -> Result<(), CommandError> {
    let model = live.runtime().model.profile().name.clone();
    let active = live.active()?;
    let server = Server::bind(live, options).await?;
    let address = server.address().map_err(|error| CommandError::internal(error.to_string()))?;
    // Also told to whoever started this with port 0, and reads it.
    super::print(&format!("listening on http://{address}\n"))?;
    eprintln!("{model} answers ({active} is active); Ctrl-C ends when what runs has ended, twice at once");
    tokio::spawn(stop_on_signals(server.stopper()));
    server.run().await;
    eprintln!("stopped");
    Ok(())
}

fn options(args: &ServeArgs) -> Result<ServeOptions, CommandError> {
    Ok(ServeOptions {
        address: args.address,
        token: token(args.token_file.as_deref())?,
        adapters: args.adapters.clone(),
        limits: Limits {
            body_bytes: args.client.body_bytes,
            request: Duration::from_secs(args.client.request_seconds.into()),
            connections: args.client.connections as usize,
            ..Limits::default()
        },
    })
}

/// The token: of the file, else of the environment. It is never an argument, which others on the machine could read.
fn token(file: Option<&Path>) -> Result<Option<Token>, CommandError> {
    let text = match file {
        Some(path) => Some(settings::read_text(path, TOKEN_FILE_BYTES_MAX)?),
        None => match std::env::var("SELKIE_TOKEN") {
            Ok(token) => Some(token).filter(|token| !token.is_empty()),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => return Err(ServeError::BadToken.into()),
        },
    };
    Ok(text.map(|text| Token::new(&text)).transpose()?)
}

fn live_options(args: &ServeArgs) -> LiveOptions {
    let live = &args.live;
    LiveOptions {
        streams: live.streams.into(),
        waiting: live.waiting,
        queue: live.queue,
        max_tokens: live.max_tokens,
        permission: live.self_edits.into(),
        session_time_to_live: Duration::from_secs(live.session_seconds.into()),
        approval_timeout: Duration::from_secs(live.approval_seconds.into()),
        training_threads: live.training_threads.into(),
        ..agent::options(&args.agent)
    }
}

#[cfg(unix)]
async fn stop_on_signals(stopper: Stopper) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupted), Ok(mut terminated)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        eprintln!("stopping; once more abandons what runs");
        stopper.stop();
    }
}

#[cfg(not(unix))]
async fn stop_on_signals(stopper: Stopper) {
    while tokio::signal::ctrl_c().await.is_ok() {
        eprintln!("stopping; once more abandons what runs");
        stopper.stop();
    }
}
