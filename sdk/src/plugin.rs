//! From tools to a plugin: the manifest, the dispatch, and the macro that exports both.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::convert::{self, WireError, WireScore, WireSource, WireSubmission, WireTask};
use crate::error::ToolError;
use crate::grader::{Grader, Score, Submission, Takes};
use crate::grid::Task;
use crate::guest::report_panics;
use crate::laws::Laws;
use crate::puzzle::PuzzleAugmenter;
use crate::rng::Rng;
use crate::text::{Source, TextAugmenter};

/// The parameters of a tool that has none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// A tool as data, so that the plugin's machinery exists once and not once a tool.
#[doc(hidden)]
pub struct Entry<Batch, Made> {
    about: About,
    run: fn(&str, u64, Batch) -> Result<Made, ToolError>,
}

pub type PuzzleEntry = Entry<Vec<Task>, Vec<Task>>;
pub type TextEntry = Entry<Vec<Source>, Vec<Vec<String>>>;
pub type GraderEntry = Entry<Vec<Submission>, Vec<Score>>;

/// What the manifest says of a tool.
struct About {
    name: &'static str,
    summary: &'static str,
    kind: &'static str,
    takes: Option<Takes>,
    laws: Laws,
    params_schema: fn() -> String,
}

impl PuzzleEntry {
    /// The entry of a puzzle augmenter.
    pub const fn of<T: PuzzleAugmenter>() -> PuzzleEntry {
        let about = About {
            name: T::NAME,
            summary: T::SUMMARY,
            kind: "puzzle_augmenter",
            takes: None,
            laws: T::LAWS,
            params_schema: T::params_schema,
        };
        Entry { about, run: run_puzzle::<T> }
    }
}

impl TextEntry {
    /// The entry of a text augmenter.
    pub const fn of<T: TextAugmenter>() -> TextEntry {
        let about = About {
            name: T::NAME,
            summary: T::SUMMARY,
            kind: "text_augmenter",
            takes: None,
            laws: T::LAWS,
            params_schema: T::params_schema,
        };
        Entry { about, run: run_text::<T> }
    }
}

impl GraderEntry {
    /// The entry of a grader.
    pub const fn of<T: Grader>() -> GraderEntry {
        let about = About {
            name: T::NAME,
            summary: T::SUMMARY,
            kind: "grader",
            takes: Some(T::TAKES),
            laws: T::LAWS,
            params_schema: T::params_schema,
        };
        Entry { about, run: |params, _, submissions| run_grader::<T>(params, submissions) }
    }
}

/// Runs a puzzle augmenter as the host would, natively: for tests.
///
/// # Errors
/// What the tool refuses, and parameters that do not parse.
pub fn run_puzzle<T: PuzzleAugmenter>(
    params: &str,
    seed: u64,
    tasks: Vec<Task>,
) -> Result<Vec<Task>, ToolError> {
    T::tasks(&parse(params)?, tasks, &mut Rng::new(seed))
}

/// Runs a text augmenter as the host would, natively: for tests.
///
/// # Errors
/// What the tool refuses, and parameters that do not parse.
pub fn run_text<T: TextAugmenter>(
    params: &str,
    seed: u64,
    sources: Vec<Source>,
) -> Result<Vec<Vec<String>>, ToolError> {
    T::batch(&parse(params)?, &sources, &Rng::new(seed))
}

/// Runs a grader as the host would, natively: for tests.
///
/// # Errors
/// What the grader refuses, and parameters that do not parse.
pub fn run_grader<T: Grader>(params: &str, submissions: Vec<Submission>) -> Result<Vec<Score>, ToolError> {
    let params = parse(params)?;
    submissions.iter().map(|submission| T::submission(&params, submission)).collect()
}

fn parse<P: DeserializeOwned>(params: &str) -> Result<P, ToolError> {
    serde_json::from_str(params).map_err(params_refused)
}

/// Not generic: each instance would be more component.
fn params_refused(error: serde_json::Error) -> ToolError {
    ToolError::invalid_params(error.to_string())
}

/// A plugin: what `register!` makes of a crate.
pub struct Plugin {
    #[doc(hidden)]
    pub name: &'static str,
    #[doc(hidden)]
    pub version: &'static str,
    #[doc(hidden)]
    pub asks: &'static [&'static str],
    #[doc(hidden)]
    pub tools: Tools,
}

/// The tools of a plugin, all of one kind.
#[doc(hidden)]
pub enum Tools {
    Puzzle(&'static [PuzzleEntry]),
    Text(&'static [TextEntry]),
    Grader(&'static [GraderEntry]),
}

impl Plugin {
    /// The manifest, JSON as in `schemas/plugin-manifest.v1.json`.
    pub fn describe(&self) -> String {
        let mut text = format!(r#"{{"manifest":1,"name":"{}","version":"{}""#, self.name, self.version);
        if !self.asks.is_empty() {
            text.push_str(&format!(r#","asks":["{}"]"#, self.asks.join("\",\"")));
        }
        let tools: Vec<String> = match self.tools {
            Tools::Puzzle(tools) => tools.iter().map(|tool| tool.about.to_json()).collect(),
            Tools::Text(tools) => tools.iter().map(|tool| tool.about.to_json()).collect(),
            Tools::Grader(tools) => tools.iter().map(|tool| tool.about.to_json()).collect(),
        };
        text.push_str(&format!(r#","tools":[{}]}}"#, tools.join(",")));
        text
    }
}

impl About {
    fn to_json(&self) -> String {
        let takes = self.takes.map_or_else(String::new, |takes| format!(r#""takes":"{}","#, takes.as_str()));
        format!(
            r#"{{"name":"{}","kind":"{}",{takes}"summary":{},"params":{},"laws":{}}}"#,
            self.name,
            self.kind,
            serde_json::to_string(self.summary).unwrap_or_default(),
            (self.params_schema)(),
            self.laws.to_json(),
        )
    }
}

/// One call, whichever the kind of the tools.
pub(crate) fn call<Batch, Made>(
    tools: &[Entry<Batch, Made>],
    tool: &str,
    params: &str,
    seed: u64,
    batch: Batch,
) -> Result<Made, ToolError> {
    let entry = tools.iter().find(|entry| entry.about.name == tool);
    (entry.ok_or_else(|| ToolError::unknown_tool(tool))?.run)(params, seed, batch)
}

/// A manifest across the boundary.
#[doc(hidden)]
pub fn guest_describe(plugin: &Plugin) -> String {
    report_panics();
    plugin.describe()
}

/// A batch of tasks across the boundary.
#[doc(hidden)]
pub fn guest_tasks(
    tools: &[PuzzleEntry],
    tool: &str,
    params: &str,
    seed: u64,
    tasks: Vec<WireTask>,
) -> Result<Vec<WireTask>, WireError> {
    report_panics();
    let made = convert::tasks_in(tasks).and_then(|tasks| call(tools, tool, params, seed, tasks));
    made.map(convert::tasks_out).map_err(convert::error_out)
}

/// A batch of sources across the boundary.
#[doc(hidden)]
pub fn guest_sources(
    tools: &[TextEntry],
    tool: &str,
    params: &str,
    seed: u64,
    sources: Vec<WireSource>,
) -> Result<Vec<Vec<String>>, WireError> {
    report_panics();
    call(tools, tool, params, seed, convert::sources_in(sources)).map_err(convert::error_out)
}

/// A batch of submissions across the boundary.
#[doc(hidden)]
pub fn guest_submissions(
    tools: &[GraderEntry],
    tool: &str,
    params: &str,
    seed: u64,
    submissions: Vec<WireSubmission>,
) -> Result<Vec<WireScore>, WireError> {
    report_panics();
    let made = convert::submissions_in(submissions).and_then(|given| call(tools, tool, params, seed, given));
    made.map(convert::scores_out).map_err(convert::error_out)
}

/// Makes the crate a plugin with these tools, all of one kind. Its name and version are the crate's.
///
/// ```text
/// register!(A, B);                             puzzle augmenters
/// register!(text: A, B);                       text augmenters
/// register!(grader: A);                        graders
/// register!(grader: A, B; asks: host_model);   graders that use the host's model; also with `text:`
/// ```
///
/// Once a crate, at its root; the crate's type is `cdylib` (add `rlib` for native tests). The macro defines
/// `SelkiePlugin`; `SelkiePlugin::PLUGIN` is the plugin as native tests see it.
#[macro_export]
macro_rules! register {
    (puzzle: $($tool:ty),+ $(,)?) => {
        $crate::register!(@plugin Puzzle, PuzzleEntry, [], $($tool),+);

        impl $crate::bindings::puzzle::exports::selkie::plugin::puzzle_augmenter::Guest for SelkiePlugin {
            fn augment(
                tool: String,
                params: String,
                seed: u64,
                tasks: Vec<$crate::WireTask>,
            ) -> Result<Vec<$crate::WireTask>, $crate::WireError> {
                $crate::guest_tasks(SelkiePlugin::TOOLS, &tool, &params, seed, tasks)
            }
        }

        $crate::register!(@export puzzle);
    };
    (text: $($tool:ty),+ $(,)?) => {
        $crate::register!(@text [], $($tool),+);
    };
    (text: $($tool:ty),+ $(,)?; asks: host_model) => {
        $crate::register!(@text ["host_model"], $($tool),+);
    };
    (grader: $($tool:ty),+ $(,)?) => {
        $crate::register!(@grader [], $($tool),+);
    };
    (grader: $($tool:ty),+ $(,)?; asks: host_model) => {
        $crate::register!(@grader ["host_model"], $($tool),+);
    };
    (@text $asks:tt, $($tool:ty),+) => {
        $crate::register!(@plugin Text, TextEntry, $asks, $($tool),+);

        impl $crate::bindings::text::exports::selkie::plugin::text_augmenter::Guest for SelkiePlugin {
            fn augment(
                tool: String,
                params: String,
                seed: u64,
                sources: Vec<$crate::WireSource>,
            ) -> Result<Vec<Vec<String>>, $crate::WireError> {
                $crate::guest_sources(SelkiePlugin::TOOLS, &tool, &params, seed, sources)
            }
        }

        $crate::register!(@export text);
    };
    (@grader $asks:tt, $($tool:ty),+) => {
        $crate::register!(@plugin Grader, GraderEntry, $asks, $($tool),+);

        impl $crate::bindings::grader::exports::selkie::plugin::grader::Guest for SelkiePlugin {
            fn grade(
                tool: String,
                params: String,
                seed: u64,
                submissions: Vec<$crate::WireSubmission>,
            ) -> Result<Vec<$crate::WireScore>, $crate::WireError> {
                $crate::guest_submissions(SelkiePlugin::TOOLS, &tool, &params, seed, submissions)
            }
        }

        $crate::register!(@export grader);
    };
    (@plugin $kind:ident, $entry:ident, $asks:tt, $($tool:ty),+) => {
        #[doc(hidden)]
        pub struct SelkiePlugin;

        impl SelkiePlugin {
            const TOOLS: &[$crate::$entry] = &[$($crate::$entry::of::<$tool>()),+];

            /// The plugin, for native tests.
            pub const PLUGIN: $crate::Plugin = $crate::Plugin {
                name: env!("CARGO_PKG_NAME"),
                version: env!("CARGO_PKG_VERSION"),
                asks: &$asks,
                tools: $crate::Tools::$kind(Self::TOOLS),
            };
        }
    };
    (@export $world:ident) => {
        impl $crate::bindings::$world::exports::selkie::plugin::manifest::Guest for SelkiePlugin {
            fn describe() -> String {
                $crate::guest_describe(&SelkiePlugin::PLUGIN)
            }
        }

        #[cfg(target_family = "wasm")]
        $crate::bindings::$world::export!(SelkiePlugin with_types_in $crate::bindings::$world);
    };
    ($($tool:ty),+ $(,)?) => {
        $crate::register!(puzzle: $($tool),+);
    };
}
