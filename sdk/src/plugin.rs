//! From tools to a plugin: the manifest, the dispatch, and the macro that exports both.

use std::fmt::Write;

use crate::convert::{self, WireError, WireTask};
use crate::grid::Task;
use crate::rng::Rng;
use crate::tool::{ErrorKind, Laws, Shape, Tool, ToolError};

/// A tool as data, so that the plugin's machinery exists once and not once a tool.
#[doc(hidden)]
pub struct Entry {
    name: &'static str,
    summary: &'static str,
    laws: Laws,
    params_schema: fn() -> String,
    run: Run,
}

/// A tool's work: parameters, seed and tasks to tasks.
type Run = fn(&str, u64, Vec<Task>) -> Result<Vec<Task>, ToolError>;

impl Entry {
    /// The entry of a tool.
    pub const fn of<T: Tool>() -> Entry {
        Entry {
            name: T::NAME,
            summary: T::SUMMARY,
            laws: T::LAWS,
            params_schema: T::params_schema,
            run: run::<T>,
        }
    }
}

/// Runs a tool as the host would, natively: for tests.
///
/// # Errors
/// What the tool refuses, and parameters that do not parse.
pub fn run<T: Tool>(params: &str, seed: u64, tasks: Vec<Task>) -> Result<Vec<Task>, ToolError> {
    let params = serde_json::from_str(params).map_err(params_refused)?;
    T::tasks(&params, tasks, &mut Rng::new(seed))
}

fn params_refused(error: serde_json::Error) -> ToolError {
    ToolError::invalid_params(error.to_string())
}

/// The manifest of a plugin with these tools.
#[doc(hidden)]
pub fn describe(name: &str, version: &str, tools: &[Entry]) -> String {
    let mut text = format!(r#"{{"manifest":1,"name":"{name}","version":"{version}","tools":["#);
    for (index, tool) in tools.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let (shape, growth) = match tool.laws.shape {
            None => ("", None),
            Some(Shape::Preserved) => (r#","shape":"preserved""#, None),
            Some(Shape::Swapped) => (r#","shape":"swapped""#, None),
            Some(Shape::Bounded(growth)) => (r#","shape":"bounded""#, Some(growth)),
        };
        let _ = write!(
            text,
            r#"{comma}{{"name":"{}","kind":"puzzle_augmenter","summary":{},"params":{},"laws":{{"deterministic":{}{shape}"#,
            tool.name,
            serde_json::to_string(tool.summary).unwrap_or_default(),
            (tool.params_schema)(),
            tool.laws.deterministic,
        );
        if let Some(growth) = growth {
            let _ = write!(text, r#","growth_max":{growth}"#);
        }
        text.push_str("}}");
    }
    text.push_str("]}");
    text
}

/// One call across the boundary.
#[doc(hidden)]
pub fn augment(
    tools: &[Entry],
    tool: &str,
    params: &str,
    seed: u64,
    tasks: Vec<WireTask>,
) -> Result<Vec<WireTask>, WireError> {
    let made = tools
        .iter()
        .find(|entry| entry.name == tool)
        .ok_or_else(|| ToolError { kind: ErrorKind::UnknownTool, message: tool.into() })
        .and_then(|entry| (entry.run)(params, seed, convert::tasks_in(tasks)?));
    made.map(convert::tasks_out).map_err(convert::error_out)
}

/// Makes the crate a plugin with these tools. Its name and version are the crate's.
///
/// Once a crate, at its root; the crate's type is `cdylib` (add `rlib` for native tests). The macro defines
/// `SelkiePlugin`; `SelkiePlugin::describe_json()` is the manifest, for native tests.
#[macro_export]
macro_rules! register {
    ($($tool:ty),+ $(,)?) => {
        #[doc(hidden)]
        pub struct SelkiePlugin;

        impl SelkiePlugin {
            const TOOLS: &[$crate::Entry] = &[$($crate::Entry::of::<$tool>()),+];

            /// The plugin's manifest.
            pub fn describe_json() -> String {
                $crate::describe(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), Self::TOOLS)
            }
        }

        impl $crate::bindings::exports::selkie::plugin::manifest::Guest for SelkiePlugin {
            fn describe() -> String {
                SelkiePlugin::describe_json()
            }
        }

        impl $crate::bindings::exports::selkie::plugin::puzzle_augmenter::Guest for SelkiePlugin {
            fn augment(
                tool: String,
                params: String,
                seed: u64,
                tasks: Vec<$crate::bindings::exports::selkie::plugin::puzzle_augmenter::Task>,
            ) -> Result<
                Vec<$crate::bindings::exports::selkie::plugin::puzzle_augmenter::Task>,
                $crate::bindings::exports::selkie::plugin::puzzle_augmenter::ToolError,
            > {
                $crate::augment(SelkiePlugin::TOOLS, &tool, &params, seed, tasks)
            }
        }

        #[cfg(target_family = "wasm")]
        $crate::bindings::export!(SelkiePlugin with_types_in $crate::bindings);
    };
}
