//! Each built-in augmentation natively and through the WASM host: the same source, compiled for two machines.

use grid::SelkiePlugin;
use selkie_edit::{Example, Grid, PlannedCall, Task, TextSource};
use selkie_sdk::bindings::puzzle::exports::selkie::plugin::puzzle_augmenter::Guest;
use selkie_sdk::bindings::puzzle::selkie::plugin::types as wire;
use selkie_tests::{fixture_dir, read_json};
use selkie_tools::laws::{Law, Outcome, check_laws, sample_params, sample_tasks};
use selkie_tools::manifest::Manifest;
use selkie_tools::{GuestErrorKind, HostOptions, Made, ToolError, ToolHost, Work};

/// Grids of answers that are compared of each tool, at least.
const GRIDS: usize = 10_000;

/// Parameters that each tool is given, each with tasks and a seed of its own.
const ROUNDS: u64 = 20;

/// A tool that leaves out most of what it is given gets more rounds, up to so many.
const ROUNDS_MAX: u64 = 200;

fn out(task: &Task) -> wire::Task {
    let grid =
        |grid: &Grid| wire::Grid { height: grid.height(), width: grid.width(), cells: grid.cells().to_vec() };
    let example =
        |example: &Example| wire::Example { input: grid(&example.input), output: grid(&example.output) };
    wire::Task { train: task.train.iter().map(example).collect(), test: example(&task.test) }
}

fn back(task: wire::Task) -> Task {
    let grid = |grid: wire::Grid| Grid::new(grid.height, grid.width, grid.cells).expect("a grid");
    let example =
        |example: wire::Example| Example { input: grid(example.input), output: grid(example.output) };
    Task { train: task.train.into_iter().map(example).collect(), test: example(task.test) }
}

fn native(tool: &str, params: &str, seed: u64, tasks: &[Task]) -> Result<Vec<Task>, wire::ToolError> {
    let sent = tasks.iter().map(out).collect();
    let made = SelkiePlugin::augment(tool.into(), params.into(), seed, sent)?;
    Ok(made.into_iter().map(back).collect())
}

#[test]
fn each_built_in_augmentation_is_the_same_natively_and_in_the_sandbox() {
    let host = ToolHost::new(HostOptions::new(None)).expect("the built-in plugins load");
    let manifest = host.manifests().find(|manifest| manifest.name == "grid").expect("the grid plugin");
    for tool in &manifest.tools {
        let all_params = sample_params(&tool.params, ROUNDS_MAX as usize, 1);
        let mut compared = 0;
        for round in 0.. {
            if compared >= GRIDS && round >= ROUNDS {
                break;
            }
            assert!(round < ROUNDS_MAX, "{}: {compared} grids in {round} rounds", tool.name);
            let params = all_params[round as usize % all_params.len()].to_string();
            let tasks = sample_tasks(GRIDS / ROUNDS as usize / 6, round);
            let seed = if tool.laws.deterministic { 0 } else { round };
            let plugin = host.catalogue().get(&tool.name).expect("a tool").plugin.clone();
            let call = PlannedCall { tool: tool.name.clone(), plugin, params: params.clone(), seed };
            let sandboxed = host.augment(&call, &tasks).expect(&params).made;
            let native = native(&tool.name, &params, seed, &tasks).expect(&params);
            assert!(native == sandboxed, "{} {params}, round {round}", tool.name);
            compared += native.iter().flat_map(Task::grids).count();
        }
    }
}

#[test]
fn the_built_in_augmentations_keep_their_laws_and_take_what_their_schemas_say() {
    let manifest = Manifest::parse(&SelkiePlugin::PLUGIN.describe()).expect("a manifest");
    let mut run = |tool: &str, params: &str, seed: u64, work: Work<'_>| {
        let Work::Tasks(tasks) = work else { panic!("{work:?}") };
        native(tool, params, seed, tasks).map(Made::Tasks).map_err(|refusal| {
            let kind = match refusal.kind {
                wire::ErrorKind::UnsupportedInput => GuestErrorKind::UnsupportedInput,
                _ => GuestErrorKind::InvalidParams,
            };
            ToolError::Guest { plugin: "grid".into(), call: tool.into(), kind, message: refusal.message }
        })
    };
    let report = check_laws(&manifest, &mut run, 200, 0);
    assert_eq!(report.broken().count(), 0, "{report}");
    let is_tested = |outcome: &Outcome| !matches!(outcome, Outcome::NoParams | Outcome::Untested { .. });
    assert!(report.tools.iter().all(|tool| tool.laws.values().all(is_tested)), "{report}");
    assert!(report.tools.iter().all(|tool| matches!(tool.laws[&Law::Schema], Outcome::Held { cases: 200 })));
}

#[test]
fn every_built_in_tool_keeps_its_laws_in_the_sandbox() {
    let host = ToolHost::new(HostOptions::new(None)).expect("the built-in plugins load");
    for plugin in host.plugins() {
        let Some(report) = host.check_laws(plugin, 64, 0) else { continue };
        assert_eq!(report.broken().count(), 0, "{report}");
    }
}

/// `text.split` as SEAL's own recorded completions are split by the runtime, which reads them as self-edits.
#[test]
fn seals_completions_are_split_alike_in_the_sandbox_and_in_the_runtime() {
    let Some(folder) = fixture_dir("SELKIE_DATA", "data") else { return };
    let recorded = read_json(&folder.join("seal/recorded_self_edits.json"));
    let host = ToolHost::new(HostOptions::new(None)).expect("the built-in plugins load");
    let plugin = host.catalogue().get("text.split").expect("the tool").plugin.clone();
    let params = r#"{"title": false, "source": false}"#.into();
    let call = PlannedCall { tool: "text.split".into(), plugin, params, seed: 0 };
    let articles = recorded["articles"].as_array().expect("articles").iter();
    let recorded = articles.flat_map(|article| article["completions"].as_array().expect("completions"));
    let mut completions: Vec<String> =
        recorded.map(|completion| completion["text"].as_str().expect("a text").into()).collect();
    assert_eq!(completions.len(), 250);
    // Shapes that the recording does not have.
    completions.extend([
        "Here it is:\nA\nB\n---\nC".into(),
        "Who?\nAnswer: Me.\n\nQuestion 2: When?\nAnswer: Now.\nReally.".into(),
        "---\n\n".into(),
    ]);
    let sources: Vec<TextSource> = completions
        .iter()
        .map(|completion| TextSource {
            title: "T".into(),
            text: "P.".into(),
            completions: vec![completion.clone()],
        })
        .collect();
    let made = host.write(&call, &sources).expect("documents").made;
    for (completion, made) in completions.iter().zip(made) {
        assert_eq!(made, selkie_edit::completion::documents(completion), "{completion}");
    }
}
