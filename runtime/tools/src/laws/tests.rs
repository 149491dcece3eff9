//! Every law with a tool that keeps it and one that breaks it.

use std::cell::Cell;

use selkie_edit::{Example, Grid, Score, Submission, Task, TextSource};
use serde_json::{Value, json};

use super::answer::broken;
use super::sample::{is_sampled, sampled};
use super::*;
use crate::error::{GuestErrorKind, ToolError};
use crate::manifest::{self, Manifest};
use crate::work::Made;

/// A tool for a test.
type Tool = fn(&str, &str, u64, Work<'_>) -> Made;

fn manifest_of(kind: &str, takes: Option<&str>, laws: Value, params: Value) -> Manifest {
    let mut tool =
        json!({"name": "demo.tool", "kind": kind, "summary": "S.", "params": params, "laws": laws});
    if let Some(takes) = takes {
        tool["takes"] = json!(takes);
    }
    let mut back = tool.clone();
    back["name"] = json!("demo.back");
    back["laws"] = json!({});
    let manifest = json!({"manifest": 1, "name": "demo", "version": "0.1.0", "tools": [tool, back]});
    Manifest::parse(&manifest.to_string()).expect("a manifest")
}

fn any_object() -> Value {
    json!({"type": "object"})
}

/// The report on a tool, and what one law came to.
fn outcome(manifest: &Manifest, law: Law, tool: Tool) -> Outcome {
    let mut run = |name: &str, params: &str, seed: u64, work: Work<'_>| Ok(tool(name, params, seed, work));
    check_laws(manifest, &mut run, 64, 7).tools[0].laws[&law].clone()
}

fn map_grids(work: Work<'_>, change: impl Fn(&Grid) -> Grid) -> Made {
    let Work::Tasks(tasks) = work else { panic!("{work:?}") };
    let example = |e: &Example| Example { input: change(&e.input), output: change(&e.output) };
    let task = |t: &Task| Task { train: t.train.iter().map(example).collect(), test: example(&t.test) };
    Made::Tasks(tasks.iter().map(task).collect())
}

fn grid(height: u8, width: u8, mut cell: impl FnMut(u8, u8) -> u8) -> Grid {
    let cells = (0..height).flat_map(|r| (0..width).map(move |c| (r, c)));
    Grid::new(height, width, cells.map(|(r, c)| cell(r, c)).collect()).expect("a grid")
}

fn at(grid: &Grid, row: u8, column: u8) -> u8 {
    grid.cells()[usize::from(row) * usize::from(grid.width()) + usize::from(column)]
}

fn flip(g: &Grid) -> Grid {
    grid(g.height(), g.width(), |r, c| at(g, r, g.width() - 1 - c))
}

fn transpose(g: &Grid) -> Grid {
    grid(g.width(), g.height(), |r, c| at(g, c, r))
}

fn quarter_turn(g: &Grid) -> Grid {
    grid(g.width(), g.height(), |r, c| at(g, c, g.width() - 1 - r))
}

/// The first column twice.
fn wider(g: &Grid) -> Grid {
    grid(g.height(), g.width() + 1, |r, c| at(g, r, c.saturating_sub(1)))
}

fn paint(g: &Grid, colour: u8) -> Grid {
    grid(g.height(), g.width(), |r, c| if (r, c) == (0, 0) { colour } else { at(g, r, c) })
}

fn documents(work: Work<'_>, of: impl Fn(&TextSource) -> Vec<String>) -> Made {
    let Work::Sources(sources) = work else { panic!("{work:?}") };
    Made::Documents(sources.iter().map(of).collect())
}

fn grades(work: Work<'_>, of: impl Fn(&str, &str) -> f64) -> Made {
    let Work::Submissions(submissions) = work else { panic!("{work:?}") };
    let grade = |submission: &Submission| {
        let value = match submission {
            Submission::Answers { left, right } => of(left, right),
            Submission::Grids { left, right } => of(&format!("{left:?}"), &format!("{right:?}")),
            Submission::Edit { passage, .. } => of(passage, passage),
        };
        Score { value, reasons: vec![] }
    };
    Made::Scores(submissions.iter().map(grade).collect())
}

/// A law, how it is declared, a tool that keeps it and one that breaks it.
struct Row(Law, &'static str, Option<&'static str>, Value, Tool, Tool);

const PUZZLE: &str = "puzzle_augmenter";
const TEXT: &str = "text_augmenter";

fn rows() -> Vec<Row> {
    thread_local!(static CALLS: Cell<u64> = const { Cell::new(0) });
    let turns = json!({"inverse": [
        {"params": {"by": 90}, "tool": "demo.back", "inverse_params": {}},
    ]});
    let row = Row;
    vec![
        row(
            Law::Repeatable,
            PUZZLE,
            None,
            json!({}),
            |_, _, seed, work| map_grids(work, |g| paint(g, (seed % 9) as u8)),
            |_, _, _, work| {
                CALLS.set(CALLS.get() + 1);
                map_grids(work, |g| paint(g, (CALLS.get() % 10) as u8))
            },
        ),
        row(
            Law::Deterministic,
            PUZZLE,
            None,
            json!({"deterministic": true}),
            |_, _, _, work| map_grids(work, flip),
            |_, _, seed, work| map_grids(work, |g| paint(g, (seed % 2) as u8)),
        ),
        row(
            Law::Deterministic,
            TEXT,
            None,
            json!({"deterministic": true}),
            |_, _, _, work| documents(work, |s| vec![s.text.clone()]),
            |_, _, seed, work| documents(work, |s| vec![format!("{}{}", s.text, seed % 5)]),
        ),
        row(
            Law::Shape,
            PUZZLE,
            None,
            json!({"shape": "preserved"}),
            |_, _, _, work| map_grids(work, flip),
            |_, _, _, work| map_grids(work, transpose),
        ),
        row(
            Law::Shape,
            PUZZLE,
            None,
            json!({"shape": "swapped"}),
            |_, _, _, work| map_grids(work, transpose),
            |_, _, _, work| map_grids(work, flip),
        ),
        row(
            Law::GrowthMax,
            PUZZLE,
            None,
            json!({"shape": "bounded", "growth_max": 2}),
            |_, _, _, work| map_grids(work, wider),
            |_, _, _, work| map_grids(work, |g| grid(g.height(), 3 * g.width(), |r, c| at(g, r, c / 3))),
        ),
        row(
            Law::PaletteClosed,
            PUZZLE,
            None,
            json!({"palette_closed": true}),
            |_, _, _, work| map_grids(work, wider),
            |_, _, _, work| map_grids(work, |g| paint(g, 5)),
        ),
        row(
            Law::Involution,
            PUZZLE,
            None,
            json!({"involution": true}),
            |_, _, _, work| map_grids(work, transpose),
            |_, _, _, work| map_grids(work, quarter_turn),
        ),
        row(
            Law::Inverse,
            PUZZLE,
            None,
            turns,
            |tool, _, _, work| match tool {
                "demo.tool" => map_grids(work, quarter_turn),
                _ => map_grids(work, |g| quarter_turn(&quarter_turn(&quarter_turn(g)))),
            },
            |_, _, _, work| map_grids(work, quarter_turn),
        ),
        row(
            Law::ItemsMax,
            PUZZLE,
            None,
            json!({"items_max": 2}),
            |_, _, _, work| match (map_grids(work, flip), map_grids(work, transpose)) {
                (Made::Tasks(one), Made::Tasks(two)) => Made::Tasks([one, two].concat()),
                other => panic!("{other:?}"),
            },
            |_, _, _, work| match map_grids(work, flip) {
                Made::Tasks(tasks) => Made::Tasks([tasks.clone(), tasks.clone(), tasks].concat()),
                other => panic!("{other:?}"),
            },
        ),
        row(
            Law::ItemsMax,
            TEXT,
            None,
            json!({"items_max": 3}),
            |_, _, _, work| documents(work, |s| s.completions.clone()),
            |_, _, _, work| documents(work, |s| s.text.split(' ').map(String::from).collect()),
        ),
        row(
            Law::OneOnEqual,
            "grader",
            Some("answers"),
            json!({"one_on_equal": true}),
            |_, _, _, work| grades(work, |a, b| f64::from(a == b)),
            |_, _, _, work| {
                // As one gets it wrong: nothing in common, for an empty answer.
                grades(work, |a, b| if a.trim().is_empty() { 0.0 } else { f64::from(a == b) })
            },
        ),
        row(
            Law::Symmetric,
            "grader",
            Some("grids"),
            json!({"symmetric": true}),
            |_, _, _, work| grades(work, |a, b| f64::from(a == b)),
            |_, _, _, work| grades(work, |a, b| f64::from(a.len() >= b.len())),
        ),
        row(
            Law::Symmetric,
            "grader",
            Some("answers"),
            json!({"symmetric": true}),
            |_, _, _, work| grades(work, |_, _| 0.5),
            |_, _, _, work| grades(work, |a, b| f64::from(b.starts_with(a))),
        ),
    ]
}

fn turn_params() -> Value {
    json!({"type": "object", "properties": {"by": {"enum": [90]}}, "additionalProperties": false})
}

#[test]
fn a_tool_that_keeps_a_law_passes_and_one_that_breaks_it_is_shown_to() {
    for Row(law, kind, takes, laws, keeps, breaks) in rows() {
        let manifest = manifest_of(kind, takes, laws, turn_params());
        match outcome(&manifest, law, keeps) {
            Outcome::Held { cases } => {
                assert!(cases > 30, "{law} of {kind}: only {cases} cases say something")
            }
            other => panic!("{law} of {kind}: {other:?}"),
        }
        match outcome(&manifest, law, breaks) {
            Outcome::Broken { counter_example } => assert_eq!(counter_example.law, law),
            other => panic!("{law} of {kind}: {other:?}"),
        }
    }
}

#[test]
fn a_broken_law_is_seen_while_the_tool_is_in_use() {
    for Row(law, kind, takes, laws, keeps, breaks) in rows() {
        let manifest = manifest_of(kind, takes, laws, turn_params());
        let laws = &manifest.tools[0].laws;
        let batches: Vec<_> = inputs_of(kind, takes);
        let seen = |tool: Tool| {
            batches.iter().find_map(|items| {
                let batch = Batch { tool: "demo.tool", params: r#"{"by":90}"#, seed: 3, work: items.work() };
                let runs = Cell::new(0);
                let mut run = |name: &str, params: &str, seed: u64, work: Work<'_>| -> Result<Made, ()> {
                    runs.set(runs.get() + 1);
                    Ok(tool(name, params, seed, work))
                };
                let made = tool(batch.tool, batch.params, batch.seed, batch.work);
                let found =
                    broken(laws, &batch, &made).or(sampled(laws, &batch, &mut run).expect("no error"));
                assert!(runs.get() <= SAMPLED_RUNS_MAX);
                found
            })
        };
        assert_eq!(seen(keeps), None, "{law} of {kind}");
        assert_eq!(seen(breaks).map(|broken| broken.law), Some(law), "{kind}");
    }
}

fn inputs_of(kind: &str, takes: Option<&str>) -> Vec<inputs::Items> {
    use proptest::prelude::Strategy;
    use proptest::strategy::ValueTree;
    let kind = serde_json::from_value(json!(kind)).expect("a kind");
    let batches =
        inputs::batches(kind, takes.map(|takes| serde_json::from_value(json!(takes)).expect("a kind")));
    let mut runner = inputs::runner(1, "test");
    (0..40).map(|_| batches.new_tree(&mut runner).expect("a batch").current()).collect()
}

#[test]
fn a_sample_takes_no_more_calls_than_it_says() {
    let laws = json!({
        "involution": true, "inverse": [{"params": {"by": 90}, "tool": "demo.back", "inverse_params": {}}],
    });
    let manifest = manifest_of(PUZZLE, None, laws, turn_params());
    let tasks = sample_tasks(5, 0);
    let batch = Batch { tool: "demo.tool", params: r#"{"by":90}"#, seed: 0, work: Work::Tasks(&tasks) };
    let mut runs = 0;
    let mut run = |_: &str, _: &str, _: u64, work: Work<'_>| -> Result<Made, ()> {
        runs += 1;
        Ok(map_grids(work, flip))
    };
    assert_eq!(sampled(&manifest.tools[0].laws, &batch, &mut run), Ok(None));
    assert_eq!(runs, SAMPLED_RUNS_MAX);
    let mut refuse = |_: &str, _: &str, _: u64, _: Work<'_>| Err("refused");
    assert_eq!(sampled(&manifest.tools[0].laws, &batch, &mut refuse), Err("refused"));
}

#[test]
fn which_batches_are_sampled_is_a_function_of_what_the_tool_is_given() {
    let tasks = sample_tasks(3, 0);
    let chosen = |params: &str, tasks: &[Task]| -> Vec<u64> {
        let work = Work::Tasks(tasks);
        (0..6400).filter(|&seed| is_sampled(&Batch { tool: "demo.tool", params, seed, work })).collect()
    };
    let seeds = chosen("{}", &tasks);
    assert!((70..130).contains(&seeds.len()), "{} of 6400 where 100 are to be expected", seeds.len());
    assert_eq!(seeds, chosen("{}", &tasks.clone()));
    assert_ne!(seeds, chosen("{ }", &tasks));
    assert_ne!(seeds, chosen("{}", &tasks[..2]));
    assert_ne!(seeds, chosen("{}", &sample_tasks(3, 1)));
}

/// A plugin whose tool breaks laws in ways that take some looking for.
fn faulty_manifest() -> Manifest {
    let schema = json!({"type": "object", "properties": {
        "by": {"type": "integer", "minimum": 1, "maximum": 50},
        "how": {"enum": ["plain", "loud"]},
    }, "required": ["by"]});
    let laws = json!({"deterministic": true, "palette_closed": true, "involution": true, "items_max": 1});
    let mut manifest = manifest_of(PUZZLE, None, laws, schema);
    manifest.tools.truncate(1);
    manifest
}

fn faulty(_: &str, params: &str, _: u64, work: Work<'_>) -> Result<Made, ToolError> {
    let params: Value = serde_json::from_str(params).expect("JSON");
    if params["by"].as_u64().expect("an integer") > 40 {
        let (plugin, call) = ("demo 0.1.0".into(), "tool `demo.tool`".into());
        let (kind, message) = (GuestErrorKind::InvalidParams, "`by` is at most 40".into());
        return Err(ToolError::Guest { plugin, call, kind, message });
    }
    // A new colour in grids that are wide, if the tool is loud.
    Ok(map_grids(work, |g| if g.width() > 3 && params["how"] == "loud" { paint(g, 9) } else { flip(g) }))
}

#[test]
fn a_counter_example_shrinks_to_what_matters() {
    let manifest = faulty_manifest();
    let report = check_laws(&manifest, &mut faulty, 100, 0);
    insta::assert_snapshot!(report, @r#"
    demo 0.1.0: 3 faults
    demo.tool
      schema         BROKEN: it refuses parameters that its schema accepts: `by` is at most 40
                     params {"by":41}, seed 0
                     input [{"train":[{"input":[[0]],"output":[[0]]}],"test":{"input":[[0]],"output":[[0]]}}]
      repeatable     held in 68 cases
      deterministic  held in 68 cases
      palette_closed BROKEN: task 0 has the colour 9, which no task of the batch has
                     params {"by":1,"how":"loud"}, seed 0
                     input [{"train":[{"input":[[0]],"output":[[0]]}],"test":{"input":[[0]],"output":[[0,0,0,0]]}}]
      involution     BROKEN: `demo.tool` with {"by":1,"how":"loud"} does not give task 0 back: item 0 differs
                     params {"by":1,"how":"loud"}, seed 0
                     input [{"train":[{"input":[[0]],"output":[[0]]}],"test":{"input":[[0]],"output":[[0,0,0,0]]}}]
      items_max      held in 72 cases
      not declared: shape, growth_max, inverse, one_on_equal, symmetric
    "#);
    assert_eq!(report, check_laws(&manifest, &mut faulty, 100, 0), "the same seed, the same report");
    let found: Vec<Law> = report.broken().map(|broken| broken.law).collect();
    assert_eq!(found, [Law::Schema, Law::PaletteClosed, Law::Involution]);
    let written = serde_json::to_value(&report.tools[0].laws[&Law::ItemsMax]).expect("JSON");
    assert_eq!(written["outcome"], "held");
    insta::assert_snapshot!(report.broken().next().expect("a broken law"), @r#"tool `demo.tool` breaks its law `schema`: it refuses parameters that its schema accepts: `by` is at most 40; with params {"by":41}, seed 0 and input [{"train":[{"input":[[0]],"output":[[0]]}],"test":{"input":[[0]],"output":[[0]]}}]"#);
}

#[test]
fn a_tool_that_cannot_be_tested_is_reported_as_such() {
    let unmet = json!({"type": "object", "properties": {"a": {"not": {}}}, "required": ["a"]});
    let manifest = manifest_of(PUZZLE, None, json!({}), unmet);
    assert_eq!(outcome(&manifest, Law::Schema, |_, _, _, work| map_grids(work, flip)), Outcome::NoParams);

    let manifest = manifest_of(PUZZLE, None, json!({"palette_closed": true}), any_object());
    assert_eq!(
        outcome(&manifest, Law::PaletteClosed, |_, _, _, _| Made::Tasks(vec![])),
        Outcome::Untested { cases: 64 }
    );
    let mut refuse = |_: &str, _: &str, _: u64, _: Work<'_>| {
        let (plugin, call) = ("demo".into(), "tool".into());
        Err(ToolError::Guest { plugin, call, kind: GuestErrorKind::UnsupportedInput, message: "no".into() })
    };
    let laws = &check_laws(&manifest, &mut refuse, 8, 0).tools[0].laws;
    assert_eq!(laws[&Law::Schema], Outcome::Untested { cases: 8 });
    let mut trap = |_: &str, _: &str, _: u64, _: Work<'_>| {
        let (plugin, call, reason) = ("demo".into(), "tool".into(), "unreachable".into());
        Err(ToolError::Trap { plugin, call, reason, last_words: String::new() })
    };
    let laws = &check_laws(&manifest, &mut trap, 8, 0).tools[0].laws;
    assert!(matches!(laws[&Law::Schema], Outcome::Broken { .. }));
    assert_eq!(laws[&Law::PaletteClosed], Outcome::Untested { cases: 8 });
}

#[test]
fn generated_parameters_are_what_the_schema_says() {
    let property = |schema: Value| json!({"type": "object", "properties": {"p": schema}, "required": ["p"]});
    let built_in = include_str!("../../../../plugins/dist/grid.manifest.json");
    let built_in = Manifest::parse(built_in).expect("a manifest").tools.into_iter().map(|tool| tool.params);
    // With how many distinct values there must at least be.
    let schemas = [
        (json!({"const": 3}), 1),
        (json!({"enum": ["a", 1, null]}), 3),
        (json!({"type": "boolean"}), 2),
        (json!({"type": "integer", "minimum": -3, "exclusiveMaximum": 3}), 6),
        (json!({"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 30}), 4),
        (json!({"type": "integer"}), 20),
        (json!({"type": "integer", "minimum": i64::MIN, "maximum": u64::MAX}), 20),
        (json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1}), 20),
        (json!({"type": "number", "multipleOf": 0.1, "minimum": 0, "maximum": 1}), 8),
        (json!({"type": "number", "minimum": -1e308, "maximum": 1e308}), 20),
        (json!({"type": "string", "minLength": 2, "maxLength": 3}), 20),
        (json!({"type": "string", "pattern": "^[a-c]{2,5}-[0-9]$"}), 20),
        (json!({"type": "string", "pattern": "^(a|b)+(c+)$", "default": "abc"}), 1),
        (json!({"type": "array", "items": {"type": "integer"}, "minItems": 2, "uniqueItems": true}), 20),
        (
            json!({"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": false, "maxItems": 2}),
            3,
        ),
        (json!({"type": ["null", "boolean"]}), 3),
        (json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}), 20),
        (json!({"oneOf": [{"const": 1}, {"const": 2}]}), 2),
        (json!({"allOf": [{"minimum": 5}, {"maximum": 9}], "type": "integer"}), 5),
        (json!({"minimum": 5, "maximum": 6, "type": "number", "not": {"const": 5}}), 10),
        (json!({"type": "object", "required": ["a"], "properties": {"b": {"type": "boolean"}}}), 6),
        (
            json!({"type": "object", "oneOf": [
                {"properties": {"k": {"const": "x"}, "n": {"type": "integer"}}, "required": ["k", "n"]},
                {"properties": {"k": {"const": "y"}}, "required": ["k"]},
            ]}),
            3,
        ),
        (json!({}), 5),
        (json!(true), 5),
    ];
    let schemas = schemas.map(|(schema, distinct)| (property(schema), distinct));
    let schemas = schemas.into_iter().chain(built_in.map(|schema| (schema, 1)));
    for (schema, distinct) in schemas {
        let values = sample_params(&schema, 200, 3);
        assert_eq!(values.len(), 200, "{schema}");
        let validator = manifest::check_schema(&schema).expect("a schema");
        assert!(values.iter().all(|value| validator.is_valid(value)), "{schema}");
        let texts: std::collections::HashSet<String> = values.iter().map(Value::to_string).collect();
        assert!(texts.len() >= distinct, "{schema}: {texts:?}");
        assert_eq!(values, sample_params(&schema, 200, 3));
    }
}

#[test]
fn a_schema_cannot_make_the_generator_grow() {
    let list = |items: Value, least: u64| json!({"type": "array", "items": items, "minItems": least});
    let nested = (0..6).fold(json!({"type": "string", "minLength": 50}), |inner, _| list(inner, 40));
    let patterns = json!({"type": "string", "pattern": "^((((((a*)*)*)*)*)*)*$"});
    let branches = json!({"anyOf": vec![json!({}); 300], "oneOf": vec![json!({}); 300]});
    let odd = [
        json!({"type": "number", "multipleOf": 1e-300}),
        json!({"type": "integer", "multipleOf": 1e300}),
        json!({"type": "integer", "minimum": 9, "maximum": -9}),
        json!({"type": "number", "minimum": 9, "maximum": -9}),
        json!({"type": "array", "minItems": 3, "maxItems": 1}),
        json!({"type": "string", "pattern": "a**"}),
        json!({"type": "string", "pattern": "[a-z]{1000}[a-z]{1000}"}),
    ];
    let huge =
        [list(json!({}), u64::MAX), json!({"type": "string", "minLength": 1e18}), nested, patterns, branches];
    for schema in huge.into_iter().chain(odd) {
        let schema = json!({"type": "object", "properties": {"p": schema}, "required": ["p"]});
        assert!(
            sample_params(&schema, 3, 0).iter().all(|value| value.to_string().len() < 1 << 20),
            "{schema}"
        );
    }
}

#[test]
fn a_quarantined_tool_is_remembered_with_its_first_counter_example() {
    let quarantine = Quarantine::default();
    assert_eq!(quarantine.of("demo.tool"), None);
    let tasks = sample_tasks(50, 0);
    let batch = Batch { tool: "demo.tool", params: "{}", seed: u64::MAX, work: Work::Tasks(&tasks) };
    let first = BrokenLaw::new(Law::PaletteClosed, &batch, "a\u{1b}[31m\ncolour");
    assert!(first.input.len() <= EXAMPLE_BYTES_MAX + 3 && first.input.ends_with("..."));
    assert!(first.to_string().len() < 5 * SHOWN_BYTES_MAX && !first.to_string().contains(char::is_control));
    quarantine.put("demo.tool", first.clone());
    quarantine.put("demo.tool", BrokenLaw { law: Law::Shape, ..first.clone() });
    assert_eq!(quarantine.of("demo.tool"), Some(first.clone()));
    assert_eq!(quarantine.all(), vec![first.clone()]);
    let kept = serde_json::to_string(&first).expect("JSON");
    assert_eq!(serde_json::from_str::<BrokenLaw>(&kept).ok(), Some(first.clone()));
}
