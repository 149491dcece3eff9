//! What `cases.json` cannot say: randomness, sizes and bounds.

use std::collections::HashSet;

use selkie_sdk::{ErrorKind, Example, Grid, Task, run_puzzle as run};

use crate::*;

fn grid(rows: &[&[u8]]) -> Grid {
    Grid::new(rows.len() as u8, rows[0].len() as u8, rows.concat()).expect("a grid")
}

fn task(grid: Grid) -> Task {
    let example = Example { input: grid.clone(), output: grid };
    Task { train: vec![example.clone()], test: example }
}

#[test]
fn a_task_that_would_grow_beyond_255_or_does_not_fit_together_is_left_out() {
    let wide = task(Grid::build(1, 30, |_, _| 1).expect("a grid"));
    assert_eq!(run::<IncreaseWidth>(r#"{"factor":9}"#, 0, vec![wide.clone()]), Ok(vec![]));
    assert_eq!(run::<IncreaseWidth>(r#"{"factor":8}"#, 0, vec![wide.clone()]).map(|made| made.len()), Ok(1));
    let parts = r#"{"axis":"rows","parts":[{"tool":"grid.identity","params":{}},{"tool":"grid.transpose","params":{}}]}"#;
    assert_eq!(run::<Concat>(parts, 0, vec![wide]), Ok(vec![]));
}

#[test]
fn parameters_outside_their_range_are_refused_by_kind() {
    let refused = |made: Result<Vec<Task>, selkie_sdk::ToolError>| made.expect_err("a refusal");
    for error in [
        refused(run::<Rotate>(r#"{"degrees":45}"#, 0, vec![])),
        refused(run::<Upscale>(r#"{"factor":11}"#, 0, vec![])),
        refused(run::<Upscale>(r#"{"factor":2,"more":1}"#, 0, vec![])),
        refused(run::<Translate>(r#"{"copies":65}"#, 0, vec![])),
        refused(run::<Translate>(r#"{"copies":0}"#, 0, vec![])),
        refused(run::<Chain>(r#"{"steps":[]}"#, 0, vec![])),
        refused(run::<Chain>(r#"{"steps":[{"tool":"grid.translate","params":{}}]}"#, 0, vec![])),
        refused(run::<Identity>("[", 0, vec![])),
    ] {
        assert_eq!(error.kind, ErrorKind::InvalidParams, "{}", error.message);
    }
}

#[test]
fn a_shift_wraps_around_and_moves_grids_of_one_shape_alike() {
    let original = task(grid(&[&[1, 2, 3], &[4, 5, 6]]));
    let made = run::<Translate>(r#"{"copies":40}"#, 3, vec![original.clone()]).expect("copies");
    assert_eq!(made.len(), 40);
    let distinct: HashSet<_> = made.iter().map(|task| task.test.input.cells().to_vec()).collect();
    assert_eq!(distinct.len(), 6, "every shift of a 2x3 grid occurs");
    for task in &made {
        assert_eq!(task.test.input, task.test.output);
        assert_eq!(task.test.input, task.train[0].input);
    }
    assert_eq!(run::<Translate>(r#"{"copies":40}"#, 3, vec![original]), Ok(made));
}

#[test]
fn colours_are_exchanged_one_to_one_and_colour_0_stays() {
    let few = task(grid(&[&[0, 1, 2, 3]]));
    let all = task(grid(&[&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]));
    for seed in 0..50 {
        for (original, background) in [(&few, true), (&few, false), (&all, true), (&all, false)] {
            let params = format!(r#"{{"keep_background":{background}}}"#);
            let made = run::<PermuteColors>(&params, seed, vec![original.clone()]).expect("a copy");
            let cells = made[0].test.input.cells();
            assert_eq!(cells.iter().collect::<HashSet<_>>().len(), cells.len(), "one to one");
            assert_eq!(made[0].test.input, made[0].train[0].output, "one exchange a task");
            if background {
                assert_eq!(cells[0], 0);
            }
        }
        // Six colours are free, so none of the three keeps its own or takes another's.
        let made = run::<PermuteColors>("{}", seed, vec![few.clone()]).expect("a copy");
        assert!(made[0].test.input.cells()[1..].iter().all(|&colour| colour > 3));
    }
}

#[test]
fn a_permutation_of_examples_keeps_them_all_and_the_test() {
    let example = |colour| {
        let grid = Grid::build(1, 1, |_, _| colour).expect("a grid");
        Example { input: grid.clone(), output: grid }
    };
    let original = Task { train: (0..6).map(example).collect(), test: example(9) };
    let made = run::<PermuteExamples>(r#"{"copies":5}"#, 1, vec![original.clone()]).expect("copies");
    assert_eq!(made.len(), 5);
    for task in &made {
        assert_eq!(task.test, original.test);
        assert_eq!(task.train.iter().collect::<HashSet<_>>(), original.train.iter().collect());
    }
    assert!(made.iter().any(|task| task.train != original.train));
}

#[test]
fn the_manifest_is_json_and_its_bounds_are_the_parsers() {
    let text = SelkiePlugin::PLUGIN.describe();
    let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let tools = manifest["tools"].as_array().expect("tools");
    assert_eq!(tools.len(), 14);
    for tool in tools {
        let properties = &tool["params"]["properties"];
        if !properties["copies"].is_null() {
            assert_eq!(properties["copies"]["maximum"], params::COPIES_MAX);
        }
    }
}
