//! The starters of `sdk/` that are not in Rust, through the host: grids turn as SEAL turned them, and every answer
//! is what the starter's own cases say.
//!
//! `bash sdk/build_guests.sh` builds them into `target/guests`; `SELKIE_GUESTS` names another folder. A starter that
//! is not there is skipped, and so are the grids without `SELKIE_AUGMENT` (see `augment.rs`).

#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use selkie_edit::{Example, Grid, PlannedCall, Task};
use selkie_tests::{fixture_dir, read_json};
use selkie_tools::{GuestErrorKind, HostOptions, ToolError, ToolHost};
use serde::Deserialize;
use serde_json::{Value, json};

/// Folders of `sdk`, and the tool of each.
const STARTERS: [(&str, &str); 3] =
    [("python", "py.rotate"), ("javascript", "js.rotate"), ("c-guest", "c.rotate")];

/// A starter that is built.
struct Starter {
    folder: &'static str,
    tool: &'static str,
    host: &'static ToolHost,
}

/// One for all tests: to load Python's starter is to compile Python.
static HOST: LazyLock<Option<ToolHost>> = LazyLock::new(|| {
    let folder = std::env::var_os("SELKIE_GUESTS").map_or(root().join("target/guests"), PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: no folder `{}` (sdk/build_guests.sh makes it)", folder.display());
        return None;
    }
    let cache = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    let options = HostOptions { built_in: false, cache, ..HostOptions::new(Some(folder)) };
    Some(ToolHost::new(options).expect("the starters load"))
});

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn starters() -> impl Iterator<Item = Starter> {
    HOST.iter().flat_map(|host| {
        STARTERS.into_iter().filter_map(move |(folder, tool)| {
            if host.catalogue().get(tool).is_none() {
                println!("skipped: sdk/{folder} is not built (sdk/build_guests.sh builds it)");
                return None;
            }
            Some(Starter { folder, tool, host })
        })
    })
}

impl Starter {
    fn augment(&self, params: &Value, seed: u64, tasks: &[Task]) -> Result<Vec<Task>, ToolError> {
        let plugin = self.host.catalogue().get(self.tool).expect(self.tool).plugin.clone();
        let call = PlannedCall { tool: self.tool.into(), plugin, params: params.to_string(), seed };
        self.host.augment(&call, tasks).map(|result| result.made)
    }
}

fn task_of(grid: &Grid) -> Task {
    Task { train: vec![], test: Example { input: grid.clone(), output: grid.clone() } }
}

#[derive(Deserialize)]
struct Turned {
    augmenter: String,
    input: Grid,
    output: Grid,
}

#[test]
fn every_language_turns_grids_as_seal_does() {
    let Some(vectors) = fixture_dir("SELKIE_AUGMENT", "fixtures/augment") else { return };
    let rows: Vec<Turned> =
        serde_json::from_value(read_json(&vectors.join("grids.json"))).expect("rows of grids");
    for starter in starters() {
        let mut compared = 0;
        for degrees in [90, 180, 270] {
            let augmenter = format!("Rotate({degrees})");
            let (sent, expected): (Vec<Task>, Vec<Task>) = rows
                .iter()
                .filter(|row| row.augmenter == augmenter)
                .map(|row| (task_of(&row.input), task_of(&row.output)))
                .unzip();
            let made = starter.augment(&json!({ "degrees": degrees }), 0, &sent).expect(starter.tool);
            assert_eq!(made, expected, "{} by {degrees}", starter.tool);
            compared += made.len();
        }
        assert!(compared > 0, "no rotations among the vectors");
        println!("sdk/{}: {compared} grids equal", starter.folder);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    tool: String,
    params: Value,
    seed: u64,
    tasks: Vec<Task>,
    made: Option<Vec<Task>>,
    error: Option<String>,
}

#[test]
fn every_starter_does_what_its_cases_say() {
    for starter in starters() {
        let path = root().join("sdk").join(starter.folder).join("cases.json");
        let cases: Vec<Case> = serde_json::from_value(read_json(&path)).expect("cases");
        for case in cases {
            let name = format!("sdk/{}: {}", starter.folder, case.name);
            assert_eq!(case.tool, starter.tool, "{name}");
            match starter.augment(&case.params, case.seed, &case.tasks) {
                Ok(made) => assert_eq!(Some(made), case.made, "{name}"),
                Err(ToolError::Guest { kind: GuestErrorKind::InvalidParams, .. }) => {
                    assert_eq!(case.error.as_deref(), Some("invalid_params"), "{name}");
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
}
