//! What can go wrong with a plugin. Every variant is one condition, with its data and the plugin it is about.

use std::path::PathBuf;

use selkie_edit::PluginId;

use crate::manifest::ManifestError;

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
    /// A file that is larger than [`crate::limits::COMPONENT_BYTES_MAX`].
    #[error("plugin {plugin}: the component is larger than {max} bytes")]
    ComponentTooLarge {
        /// The plugin.
        plugin: String,
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
    /// A component that wants something from the host.
    #[error("plugin {plugin}: it imports {}, and nothing is granted to it", imports.join(", "))]
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
    /// The instruction budget is used up.
    #[error("plugin {plugin}, {call}: stopped after {fuel} units of fuel")]
    OutOfFuel {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// The budget.
        fuel: u64,
    },
    /// The deadline has passed.
    #[error("plugin {plugin}, {call}: stopped at its deadline of {deadline_ms} ms")]
    Deadline {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// The deadline.
        deadline_ms: u64,
    },
    /// More memory than allowed.
    #[error("plugin {plugin}, {call}: asked for {asked} bytes of memory in all, {max} are allowed")]
    Memory {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// All memories and tables, had it been granted.
        asked: usize,
        /// The limit.
        max: usize,
    },
    /// More memories, tables or instances than allowed.
    #[error("plugin {plugin}, {call}: {reason}")]
    TooManyParts {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// wasmtime's words: which, and the limit.
        reason: String,
    },
    /// Recursion deeper than the stack.
    #[error("plugin {plugin}, {call}: its stack exceeded {max} bytes")]
    Stack {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// The limit.
        max: usize,
    },
    /// Any other fault of the guest: a panic, an index out of bounds, a division by zero.
    #[error("plugin {plugin}, {call}: it failed: {reason}")]
    Trap {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// The engine's words.
        reason: String,
    },
    /// An answer beyond [`crate::limits::OUTPUT_TASKS_MAX`] or [`crate::limits::OUTPUT_BYTES_MAX`].
    #[error("plugin {plugin}, {call}: its answer exceeds {max} {unit}")]
    OutputTooLarge {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// The limit.
        max: usize,
        /// What is counted: `tasks` or `bytes`.
        unit: &'static str,
    },
    /// An answer that is not made of grids, or that breaks a law of the tool's manifest.
    #[error("plugin {plugin}, {call}: its answer is refused: {reason}")]
    BadOutput {
        /// The plugin.
        plugin: String,
        /// What was called.
        call: String,
        /// What is wrong, and where.
        reason: String,
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
    /// A fault of the plugin's own.
    Internal,
}

impl std::fmt::Display for GuestErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            GuestErrorKind::InvalidParams => "invalid parameters",
            GuestErrorKind::UnknownTool => "unknown tool",
            GuestErrorKind::UnsupportedInput => "unsupported input",
            GuestErrorKind::Internal => "internal error",
        })
    }
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
