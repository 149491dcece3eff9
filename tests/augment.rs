//! The grid plugin against results of SEAL's own augmenters, through the WASM host.
//!
//! `SELKIE_AUGMENT` is the folder of recorded results (default `../shared/fixtures/augment` beside this
//! repository), `SELKIE_DATA` the data (default `../shared/data`). `SELKIE_AUGMENT_PLUGINS` is a folder of
//! components to test instead of the built-in ones. Tests whose files are absent say so and pass.

#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use selkie_edit::seal::SealFlags;
use selkie_edit::{
    Example, Grid, LeaveOut, PlannedCall, Task, ToolLimits, expand_round, leave_out, task_digest,
};
use selkie_tools::{HostOptions, Limits, ToolHost};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The file of a folder that an environment variable names, if it is there.
fn read<T: DeserializeOwned>(variable: &str, default: &str, file: &str) -> Option<T> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(default);
    let path = std::env::var_os(variable).map_or(beside, PathBuf::from).join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is not there (set {variable})", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn host() -> ToolHost {
    let options = match std::env::var_os("SELKIE_AUGMENT_PLUGINS") {
        Some(folder) => HostOptions { built_in: false, ..HostOptions::new(Some(folder.into())) },
        None => HostOptions::new(None),
    };
    ToolHost::new(options).expect("the built-in plugins load")
}

fn planned(host: &ToolHost, tool: &str, params: &Value, seed: u64) -> PlannedCall {
    let plugin = host.catalogue().get(tool).expect(tool).plugin.clone();
    PlannedCall { tool: tool.into(), plugin, params: params.to_string(), seed }
}

fn task_of(grid: Grid) -> Task {
    let example = Example { input: grid.clone(), output: grid };
    Task { train: vec![], test: example }
}

/// A tool and its parameters from SEAL's name of an augmenter, such as `Reflect(0, reverse=True)`.
fn augmenter(name: &str) -> (&'static str, Value) {
    let (kind, rest) = name.split_once('(').expect(name);
    let arguments = rest.strip_suffix(')').expect(name);
    let axis = |text: &str| ["rows", "columns", "both"][text.parse::<usize>().expect(name)];
    let number = |text: &str| text.parse::<u32>().expect(name);
    let step = |name: &str| {
        let (tool, params) = augmenter(name);
        json!({ "tool": tool, "params": params })
    };
    match kind {
        "IdentityAugmenter" => ("grid.identity", json!({})),
        "Rotate" => ("grid.rotate", json!({ "degrees": number(arguments) })),
        "Flip" => ("grid.flip", json!({ "axis": axis(arguments) })),
        "Transpose" => ("grid.transpose", json!({})),
        "Reflect" => {
            let (at, reverse) = arguments.split_once(", reverse=").expect(name);
            ("grid.reflect", json!({ "axis": axis(at), "reverse": reverse == "True" }))
        }
        "IncreaseResolution" => ("grid.upscale", json!({ "factor": number(arguments) })),
        "IncreaseHeight" => ("grid.increase_height", json!({ "factor": number(arguments) })),
        "IncreaseWidth" => ("grid.increase_width", json!({ "factor": number(arguments) })),
        "Repeat" => {
            let (at, times) = arguments.split_once(", ").expect(name);
            ("grid.repeat", json!({ "axis": axis(at), "times": number(times) }))
        }
        "Chain" => {
            let steps = arguments.strip_prefix('[').and_then(|text| text.strip_suffix(']')).expect(name);
            let steps: Vec<Value> = steps.split(", ").map(step).collect();
            ("grid.chain", json!({ "steps": steps }))
        }
        "Concat" => {
            let (parts, at) = arguments.split_once("), axis=").expect(name);
            let parts = parts.strip_prefix('(').expect(name);
            let parts: Vec<Value> = parts.split(", ").map(step).collect();
            ("grid.concat", json!({ "axis": axis(at), "parts": parts }))
        }
        _ => panic!("an augmenter without a tool: {name}"),
    }
}

#[derive(Deserialize)]
struct GridRow {
    task: String,
    augmenter: String,
    input: Grid,
    output: Grid,
}

#[test]
fn augment_gives_what_seals_augmenters_gave() {
    let Some(rows) = read::<Vec<GridRow>>("SELKIE_AUGMENT", "fixtures/augment", "grids.json") else { return };
    let host = host();
    let mut batches: BTreeMap<&str, Vec<&GridRow>> = BTreeMap::new();
    for row in &rows {
        batches.entry(&row.augmenter).or_default().push(row);
    }
    let mut compared = 0;
    for (name, rows) in batches {
        let (tool, params) = augmenter(name);
        let sent: Vec<Task> = rows.iter().map(|row| task_of(row.input.clone())).collect();
        let made = host.augment(&planned(&host, tool, &params, 0), &sent).expect(name).made;
        assert_eq!(made.len(), rows.len(), "{name}");
        for (row, made) in rows.iter().zip(made) {
            assert_eq!(made, task_of(row.output.clone()), "{name} of {}", row.task);
            compared += 1;
        }
    }
    assert_eq!(compared, rows.len());
    println!("{compared} grids equal");
}

#[derive(Deserialize)]
struct LeaveOutRow {
    task: String,
    flags: Flags,
    leave_n: u32,
    count: usize,
    tasks_sha256_16: Vec<String>,
}

#[derive(Deserialize)]
struct Flags {
    basic: bool,
    size: bool,
    chain: bool,
    repeat: bool,
}

#[derive(Deserialize)]
struct Challenge {
    train: Vec<Example>,
}

#[test]
fn augment_makes_seals_leave_n_out_sets() {
    let rows: Option<Vec<LeaveOutRow>> = read("SELKIE_AUGMENT", "fixtures/augment", "leave_one_out.json");
    let puzzles: Option<BTreeMap<String, Challenge>> =
        read("SELKIE_DATA", "data", "arc/seal_train12_challenges.json");
    let (Some(rows), Some(puzzles)) = (rows, puzzles) else { return };
    let host = host();
    let mut session = host.session(ToolLimits::default());
    let mut tasks_compared = 0;
    for row in &rows {
        let flags = SealFlags {
            use_basic_augmentations: row.flags.basic,
            use_size_augmentations: row.flags.size,
            use_chain_augmentations: row.flags.chain,
            use_repeat_augmentations: row.flags.repeat,
        };
        // The recorded sets are without SEAL's one random augmentation.
        let pipelines: Vec<Vec<PlannedCall>> = flags
            .pipelines()
            .into_iter()
            .flat_map(|(_, pipelines)| pipelines)
            .filter(|pipeline| pipeline.iter().all(|call| call.tool != "grid.translate"))
            .map(|pipeline| pipeline.iter().map(|call| planned(&host, &call.tool, &call.params, 0)).collect())
            .collect();
        let left_out = if row.leave_n == 1 { LeaveOut::One } else { LeaveOut::Two };
        let base = leave_out(&puzzles[&row.task].train, left_out);
        let made = expand_round(&base, &pipelines, |call, tasks| session.augment(call, tasks))
            .unwrap_or_else(|error| panic!("{}: {error}", row.task));
        let mut digests: Vec<String> = made.iter().map(task_digest).collect();
        digests.sort();
        let mut expected = row.tasks_sha256_16.clone();
        expected.sort();
        assert_eq!(made.len(), row.count, "{} leaving {} out", row.task, row.leave_n);
        assert_eq!(digests, expected, "{} leaving {} out", row.task, row.leave_n);
        tasks_compared += made.len();
    }
    println!("{} sets equal, {tasks_compared} tasks", rows.len());
}

#[test]
fn augment_is_the_same_for_a_seed_however_it_is_cut_into_batches() {
    let grid = Grid::from_rows(&[vec![0, 1, 2], vec![3, 4, 5]]).expect("a grid");
    let tasks = vec![task_of(grid); 10];
    let cut = |batch_items| {
        let limits = Limits { batch_items, ..Limits::default() };
        ToolHost::new(HostOptions { limits, ..HostOptions::new(None) }).expect("a host")
    };
    let (whole, thirds) = (cut(1024), cut(4));
    let call = planned(&whole, "grid.permute_colors", &json!({ "copies": 3 }), 7);
    let first = whole.augment(&call, &tasks).expect("a call");
    assert_eq!(first, whole.augment(&call, &tasks).expect("a call"), "tasks and fuel");
    assert_eq!(first.made.len(), 30);
    assert_eq!(first.calls, 1);
    assert_ne!(first.made[..15], first.made[15..], "copies differ");

    let pieces = thirds.augment(&call, &tasks).expect("a call");
    assert_eq!(pieces.calls, 3);
    assert_eq!(pieces, thirds.augment(&call, &tasks).expect("a call"));
    assert_eq!(pieces.made[..12], first.made[..12], "the first batch has the call's own seed");
    assert_ne!(pieces.made[..12], pieces.made[12..24], "the second batch has another");

    let turn = planned(&whole, "grid.rotate", &json!({ "degrees": 90 }), 7);
    let (turned, in_pieces) = (whole.augment(&turn, &tasks), thirds.augment(&turn, &tasks));
    assert_eq!(turned.expect("a call").made, in_pieces.expect("a call").made);
}
