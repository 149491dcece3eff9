//! What can go wrong with a plugin. Every variant is one condition, with its data and the plugin it is about.

use std::path::PathBuf;

use selkie_edit::PluginId;

use crate::laws::BrokenLaw;
use crate::limits::Limit;
use crate::manifest::ManifestError;
use crate::model::MissingKey;
use crate::native::NativeError;

/// Names in one error.
const NAMES_SHOWN_MAX: usize = 8;

/// A plugin that does not load, or a call that failed. `plugin` is its name and version, or the file's name as
/// long as the plugin has not said who it is.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The WebAssembly engine does not start here.
    #[error("the plugin engine does not start: {reason}")]
    Engine {
        /// wasmtime's words.
        reason: String,
    },
    /// A component or the folder of components cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// More components than [`crate::limits::PLUGINS_MAX`].
    #[error("`{}` has {found} plugins, at most {max} are loaded", path.display())]
    TooManyPlugins {
        /// The folder.
        path: PathBuf,
        /// Components in it.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// Bytes that are not a WebAssembly component.
    #[error("plugin {plugin}: not a WebAssembly component: {reason}")]
    NotAComponent {
        /// The plugin.
        plugin: String,
        /// What it is, or where it is broken.
        reason: String,
    },
    /// A component that wants what this host does not have.
    #[error("plugin {plugin}: it imports {}, which no plugin is given", some(imports))]
    Imports {
        /// The plugin.
        plugin: String,
        /// Every import, by name.
        imports: Vec<String>,
    },
    /// A component of another world.
    #[error("plugin {plugin}: not of the world {expected}: {found}")]
    WrongWorld {
        /// The plugin.
        plugin: String,
        /// The world that was expected.
        expected: &'static str,
        /// What is missing, and what is there instead.
        found: String,
    },
    /// A component made for another version of the interface.
    #[error(
        "plugin {plugin}: it is made for version {found} of the plugin interface, this host runs {supported}"
    )]
    UnsupportedContract {
        /// The plugin.
        plugin: String,
        /// Its version.
        found: String,
        /// The versions that this host runs.
        supported: &'static str,
    },
    /// A capability without one of its two keys.
    #[error("plugin {plugin}: the host model is not granted to it: {missing}")]
    NotGranted {
        /// The plugin.
        plugin: String,
        /// The key that is not there.
        missing: MissingKey,
    },
    /// A grant to a plugin that is not loaded.
    #[error(
        "the host model is granted to `{plugin}`, and no loaded plugin has that name; loaded are {loaded}"
    )]
    GrantToNobody {
        /// The name.
        plugin: String,
        /// The names that there are.
        loaded: String,
    },
    /// A manifest that breaks a rule.
    #[error("plugin {plugin}: its manifest is refused: {problem}")]
    Manifest {
        /// The plugin.
        plugin: String,
        /// The rule.
        problem: ManifestError,
    },
    /// Two plugins with a tool of one name.
    #[error("the plugins {first} and {second} both have a tool `{tool}`")]
    DuplicateTool {
        /// The tool.
        tool: String,
        /// The plugin that was loaded first.
        first: String,
        /// The plugin that was loaded second.
        second: String,
    },
    /// A tool that no loaded plugin has.
    #[error("no loaded plugin has a tool `{tool}`")]
    UnknownTool {
        /// The tool.
        tool: String,
    },
    /// A plan that was made with another build of the plugin.
    #[error(
        "tool `{tool}` was planned with {planned} ({}), loaded is {loaded} ({})",
        short(planned),
        short(loaded)
    )]
    OtherPlugin {
        /// The tool.
        tool: String,
        /// The plugin of the plan.
        planned: Box<PluginId>,
        /// The plugin that is loaded.
        loaded: Box<PluginId>,
    },
    /// A limit that was met. Every one of [`Limit`] ends a call in this way.
    #[error("{0}")]
    Limit(Box<Exceeded>),
    /// Any other fault of the guest: a panic, an index out of bounds, a division by zero.
    #[error("plugin {plugin}, {call}: it failed: {reason}{}", said(last_words))]
    Trap {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// The engine's words.
        reason: String,
        /// The end of the guest's log: its panic's message, its traceback.
        last_words: String,
    },
    /// A shared library that does not load, or whose process failed.
    #[error("plugin {plugin}, {call}: {source}")]
    Native {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// What happened.
        source: NativeError,
    },
    /// An answer that is none: grids that are not rectangles, a wrong number of scores, a broken law.
    #[error("plugin {plugin}, {call}: its answer is refused: {reason}")]
    BadOutput {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// A tool that broke one of its laws, now or before; it is not called any more.
    #[error("plugin {plugin}: {broken}; it is not called again until the plugin is another one")]
    Quarantined {
        /// The plugin.
        plugin: String,
        /// The law, and the call that shows it.
        broken: Box<BrokenLaw>,
    },
    /// A grader that cannot be believed.
    #[error("plugin {plugin}, tool `{tool}`: it cannot be believed: {fault}")]
    Grader {
        /// The plugin.
        plugin: String,
        /// The grader.
        tool: String,
        /// What was seen.
        fault: GraderFault,
    },
    /// A tool of another kind than the work.
    #[error("tool `{tool}` is {found}, and this is work for {asked}")]
    WrongKind {
        /// The tool.
        tool: String,
        /// Its kind.
        found: String,
        /// The kind that was asked for.
        asked: String,
    },
    /// The tool refused, as it may.
    #[error("plugin {plugin}, {call}: {kind}: {message}")]
    Guest {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// Its kind of refusal.
        kind: GuestErrorKind,
        /// Its words, without control characters, cut at [`crate::limits::ERROR_BYTES_MAX`].
        message: String,
    },
}

/// The kinds of refusal that a tool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestErrorKind {
    /// The parameters do not parse, or a value is outside its range.
    InvalidParams,
    /// The plugin does not know its own tool.
    UnknownTool,
    /// The tool cannot work on these tasks.
    UnsupportedInput,
    /// The tool needs the host model, which did not answer.
    ModelUnavailable,
    /// A fault of the plugin's own.
    Internal,
}

impl std::fmt::Display for GuestErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            GuestErrorKind::InvalidParams => "invalid parameters",
            GuestErrorKind::UnknownTool => "unknown tool",
            GuestErrorKind::UnsupportedInput => "unsupported input",
            GuestErrorKind::ModelUnavailable => "model unavailable",
            GuestErrorKind::Internal => "internal error",
        })
    }
}

/// A limit, how much of it there is, and how much was used or asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// The plugin.
    pub plugin: String,
    /// What was called.
    pub call: String,
    /// Which limit.
    pub limit: Limit,
    /// Its value.
    pub max: u64,
    /// What was used or asked for, as far as it was counted: the host stops counting at the limit.
    pub used: u64,
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Exceeded { plugin, call, limit, max, used } = self;
        write!(f, "plugin {plugin}, {call}: stopped by the limit {limit}: {used} used, {max} allowed")
    }
}

/// Why a grader's scores mean nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GraderFault {
    /// NaN, an infinity, or a number outside 0 to 1.
    #[error("score {index} is {value:?}, not a number from 0 to 1")]
    OutOfRange {
        /// Which submission, from 0.
        index: usize,
        /// The score.
        value: f64,
    },
    /// A submission of the host's own, among the others, with a score that it cannot have.
    #[error("{canary} got {found}, and it should have got {expected}")]
    Canary {
        /// What was submitted.
        canary: &'static str,
        /// Its score.
        found: f64,
        /// What is known about it.
        expected: &'static str,
    },
}

impl ToolError {
    pub(crate) fn bad_output(plugin: &str, tool: &str, reason: String) -> ToolError {
        ToolError::BadOutput { plugin: plugin.into(), call: format!("tool `{tool}`"), reason }
    }

    pub(crate) fn limit(plugin: &str, call: &str, limit: Limit, max: u64, used: u64) -> ToolError {
        ToolError::Limit(Box::new(Exceeded { plugin: plugin.into(), call: call.into(), limit, max, used }))
    }
}

fn said(last_words: &str) -> String {
    if last_words.is_empty() { String::new() } else { format!("; its last words: {last_words}") }
}

/// The first of the names: a component may have very many.
fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN_MAX);
    let shown = names.iter().take(NAMES_SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn short(plugin: &PluginId) -> &str {
    plugin.digest.get(..12).unwrap_or(&plugin.digest)
}

/// A guest's or an engine's text made fit to show: one line, no control characters, at most `max` bytes.
pub(crate) fn scrub(text: &str, max: usize) -> String {
    let mut clean = String::new();
    for character in text.chars() {
        let character = if character.is_control() || is_invisible(character) { ' ' } else { character };
        if clean.len() + character.len_utf8() > max {
            clean.push_str("...");
            break;
        }
        clean.push(character);
    }
    clean
}

/// Characters that reorder or hide text on a terminal.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrubbed_text_has_no_controls_and_is_cut_between_characters() {
        assert_eq!(scrub("a\u{1b}[31m\nb\u{202e}c", 100), "a [31m b c");
        assert_eq!(scrub("ääää", 5), "ää...");
        assert_eq!(scrub("abc", 3), "abc");
    }
}
