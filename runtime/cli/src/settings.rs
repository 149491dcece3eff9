//! What was typed, resolved: files read, defaults filled in.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use selkie_edit::limits::{CONTEXT_BYTES_MAX, EDIT_BYTES_MAX};
use selkie_edit::{Context, Puzzle};
use selkie_learn::{Decoder, DeviceChoice, ModelFiles};
use selkie_tools::{HostOptions, Worker};

use crate::args::{ContextArgs, HomeArgs, PluginsArgs};
use crate::error::CommandError;

/// The home folder: as typed, else the environment's, else the user's data folder.
pub(crate) fn home(args: &HomeArgs) -> PathBuf {
    let data = || {
        let base = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
        base.map(|base| base.join("selkie"))
    };
    args.home
        .clone()
        .or_else(|| variable("SELKIE_HOME"))
        .or_else(data)
        .unwrap_or_else(|| PathBuf::from(".selkie"))
}

/// How plugins are loaded.
pub(crate) fn host(args: &PluginsArgs) -> HostOptions {
    HostOptions { native: args.native.clone(), plugins: args.plugins.clone(), ..plain_host() }
}

/// The built-in plugins alone; with compiled code kept in the user's cache folder ($SELKIE_CACHE, else that of the
/// desktop), and this program as the worker.
pub(crate) fn plain_host() -> HostOptions {
    let cache = variable("SELKIE_CACHE").or_else(|| {
        let base = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        base.map(|base| base.join("selkie"))
    });
    let worker = std::env::current_exe().ok().map(|program| Worker { program, args: vec!["worker".into()] });
    HostOptions { cache, worker, ..HostOptions::new(None) }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The context that was named.
pub(crate) fn context(args: &ContextArgs) -> Result<Context, CommandError> {
    let text = read_text(&args.context, CONTEXT_BYTES_MAX)?;
    let named = |error| CommandError::context(&args.context, error);
    let Some(task) = &args.task else {
        let stem =
            args.context.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        return Context::from_json(&text, &stem).map_err(named);
    };
    let solutions = args.solutions.as_deref().map(|path| read_text(path, CONTEXT_BYTES_MAX)).transpose()?;
    let puzzle = Puzzle::from_challenges(&text, solutions.as_deref(), task).map_err(named)?;
    Ok(Context::Puzzle(puzzle))
}

/// A model's weights on a device.
pub(crate) fn open_decoder(files: &ModelFiles, device: DeviceChoice) -> Result<Decoder, CommandError> {
    Ok(files.decoder_on(&device.resolve()?)?)
}

/// A self-edit's text, from a file or stdin. One byte more than an edit may have is read, so that the edit's own
/// rules say that it is too large.
pub(crate) fn edit_text(path: &Path) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let limit = EDIT_BYTES_MAX as u64 + 1;
    let read = match path.to_str() {
        Some("-") => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
        _ => std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(|error| CommandError::read(path, &error))?;
    if bytes.len() > EDIT_BYTES_MAX {
        // A cut in the middle of a character is no reason for another error than the size.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| CommandError::not_text(path, &error))
}

/// A text file of at most so many bytes.
pub(crate) fn read_text(path: &Path, bytes_max: usize) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| CommandError::read(path, &error))?;
    file.take(bytes_max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| CommandError::read(path, &error))?;
    if bytes.len() > bytes_max {
        return Err(CommandError::input(format!("`{}` is larger than {bytes_max} bytes", path.display())));
    }
    String::from_utf8(bytes).map_err(|error| CommandError::not_text(path, &error))
}

/// Now, in milliseconds since 1970: the one clock of the program.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
