//! Published versions of the interface: a plugin that was built for one loads for as long as its folder is there.

use std::path::Path;

use selkie_edit::{PlannedCall, Submission, Task, TextSource};
use selkie_tools::grading::Pair;
use selkie_tools::laws::{sample_params, sample_tasks};
use selkie_tools::{HostOptions, Limits, ToolHost};
use serde_json::json;

use crate::guest::{GRID, edit, source, task};

/// The grid plugin as it was built for version 0.1.0 of the interface.
const OLD_GRID: &[u8] = include_bytes!("since_v0.1.0/grid.wasm");

fn host_of(component: &[u8]) -> ToolHost {
    ToolHost::of_components([("grid", component)], Limits::default()).expect("the plugin loads")
}

fn planned(host: &ToolHost, tool: &str, params: &serde_json::Value) -> PlannedCall {
    PlannedCall { params: params.to_string(), ..crate::guest::planned(host, tool) }
}

#[test]
fn a_plugin_of_the_first_version_answers_as_todays_does() {
    let (old, new) = (host_of(OLD_GRID), host_of(GRID));
    let tasks: Vec<Task> = sample_tasks(40, 7);
    let step = json!({"tool": "grid.rotate", "params": {"degrees": 90}});
    let flip = json!({"tool": "grid.flip", "params": {"axis": "columns"}});
    let calls = [
        ("grid.identity", json!({})),
        ("grid.rotate", json!({"degrees": 90})),
        ("grid.rotate", json!({"degrees": 270})),
        ("grid.flip", json!({"axis": "rows"})),
        ("grid.transpose", json!({})),
        ("grid.reflect", json!({"axis": "columns", "reverse": true})),
        ("grid.upscale", json!({"factor": 2})),
        ("grid.repeat", json!({"axis": "both", "times": 2})),
        ("grid.chain", json!({"steps": [step, flip]})),
        ("grid.concat", json!({"axis": "rows", "parts": [step, flip]})),
    ];
    for (tool, params) in calls {
        let answer = |host: &ToolHost| host.augment(&planned(host, tool, &params), &tasks).expect(tool).made;
        assert_eq!(answer(&old), answer(&new), "{tool} {params}");
    }
}

#[test]
fn every_published_version_has_a_plugin_that_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut versions: Vec<String> = std::fs::read_dir(root.join("schemas/wit"))
        .expect("the interface")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("since_v"))
        .collect();
    versions.sort();
    let newest = versions.pop().expect("a version");
    let dist = |name: &str| root.join(format!("plugins/dist/{name}.wasm"));
    let corpus = versions.iter().map(|version| (version, root.join("tests/guests").join(version)));
    for (version, folder) in corpus {
        let files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        assert!(!files.is_empty(), "{version} has no plugin");
        for file in files {
            check_version(&file, version);
        }
    }
    for name in ["grid", "text", "graders", "judge"] {
        check_version(&dist(name), &newest);
    }
}

/// Whether a component loads, and is of the version whose folder is `since_vX`.
fn check_version(file: &Path, folder: &str) {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let export = format!("selkie:plugin/manifest@{}", folder.trim_start_matches("since_v"));
    let is_of_it = bytes.windows(export.len()).any(|window| window == export.as_bytes());
    assert!(is_of_it, "{} does not export {export}", file.display());
    host_of(&bytes);
}

/// What every built-in tool makes of one input with one seed, and the fuel that it takes.
fn all_answers(host: &ToolHost) -> Vec<String> {
    let pairs = [("Paris", "paris"), ("12", "12.0"), ("a seal", "the sea")]
        .map(|(answer, reference)| crate::guest::pair(answer, reference));
    let grids = [Pair::Grids { answer: task().test.input, reference: task().test.output }];
    let sources: [TextSource; 2] = [source(), source()];
    let edits: [Submission; 2] = [edit(&["Seals swim in the sea.", "They eat fish."]), edit(&["No."])];
    let mut answers = Vec::new();
    for spec in host.catalogue().iter() {
        let params = sample_params(&spec.params_schema, 1, 11).pop().expect("parameters");
        let call = PlannedCall { seed: 9, ..planned(host, &spec.name, &params) };
        let shown = |answer: String| format!("{} {}: {answer}", call.tool, call.params);
        answers.push(shown(match spec.kind {
            selkie_edit::ToolKind::PuzzleAugmenter => {
                format!("{:?}", host.augment(&call, &sample_tasks(9, 3)))
            }
            selkie_edit::ToolKind::TextAugmenter => format!("{:?}", host.write(&call, &sources)),
            selkie_edit::ToolKind::Grader => [
                format!("{:?}", host.compare(&call, &pairs)),
                format!("{:?}", host.compare(&call, &grids)),
                format!("{:?}", host.grade_edits(&call, &edits)),
            ]
            .join("; "),
        }));
    }
    answers
}

#[test]
fn the_same_call_gives_the_same_answer_and_the_same_fuel_in_every_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let cached = || HostOptions { cache: Some(folder.path().join("cache")), ..HostOptions::new(None) };
    let host = |options| ToolHost::new(options).expect("the built-in plugins load");
    let first = host(HostOptions::new(None));
    let answers = all_answers(&first);
    assert!(answers.iter().filter(|answer| answer.contains("fuel: ")).count() > 20, "{answers:#?}");
    // The same host again, another one, one that compiles and keeps, and one that takes what was kept.
    for other in [first, host(HostOptions::new(None)), host(cached()), host(cached())] {
        assert_eq!(all_answers(&other), answers);
    }
}
