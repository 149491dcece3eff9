//! Every limit is obeyed at its value and enforced one below what a guest needs.

use std::time::Duration;

use selkie_tools::{Limit, Limits, ModelBudget, ToolError, Usage};

use crate::guest::{GRID, Guest, Kind, limit_of, planned, task, with_instances};
use crate::model::{Model, asking, granted};

/// A guest that uses some of everything: memory and a table grow, two lines are logged, three tasks answered.
fn frugal() -> Guest {
    Guest::calling(
        Kind::Puzzle,
        "(drop (memory.grow (i32.const 3)))
        (drop (table.grow $table (ref.null func) (i32.const 10)))
        (call $log (i32.const 0) (i32.const 100))
        (call $log (i32.const 0) (i32.const 27))",
    )
    .logging()
}

/// Loads the guest under these limits, and calls it with three tasks.
fn served(component: &[u8], limits: Limits) -> Result<Usage, ToolError> {
    let host = selkie_tools::ToolHost::of_components([("evil", component)], limits)?;
    let tasks = [task(), task(), task()];
    Ok(host.augment(&planned(&host, "evil.tool"), &tasks)?.peak)
}

/// The smallest value with which the guest is served.
fn need(most: u64, mut is_served: impl FnMut(u64) -> bool) -> u64 {
    assert!(is_served(most), "the guest needs more than {most}");
    let (mut refused, mut enough) = (0, most);
    while enough - refused > 1 {
        let middle = refused + (enough - refused) / 2;
        match is_served(middle) {
            true => enough = middle,
            false => refused = middle,
        }
    }
    enough
}

/// A limit: its name, how it is set, and what the guest is known to need of it.
type Case = (Limit, fn(&mut Limits, u64), fn(&Usage) -> Option<u64>);

const CASES: [Case; 11] = [
    (Limit::Fuel, |limits, value| limits.call_fuel = value, |usage| Some(usage.fuel)),
    (Limit::Fuel, |limits, value| limits.describe_fuel = value, |_| None),
    (
        Limit::MemoryBytes,
        |limits, value| limits.memory_bytes = value as usize,
        |usage| Some(usage.memory_bytes),
    ),
    (Limit::Instances, |limits, value| limits.instances = value as usize, |_| None),
    (Limit::Memories, |limits, value| limits.memories = value as usize, |_| None),
    (Limit::Tables, |limits, value| limits.tables = value as usize, |_| None),
    (
        Limit::OutputItems,
        |limits, value| limits.output_items = value as usize,
        |usage| Some(usage.output_items),
    ),
    (Limit::OutputBytes, |limits, value| limits.output_bytes = value as usize, |_| None),
    (Limit::LogBytes, |limits, value| limits.log_bytes = value as usize, |_| Some(129)),
    (Limit::ManifestBytes, |limits, value| limits.manifest_bytes = value as usize, |_| None),
    (Limit::ComponentBytes, |limits, value| limits.component_bytes = value as usize, |_| None),
];

#[test]
#[expect(clippy::print_stdout, reason = "what the guest needs is for people to read")]
fn every_limit_is_obeyed_at_its_value_and_enforced_one_below_the_need() {
    let component = frugal().component();
    let usage = served(&component, Limits::default()).expect("the usual limits are enough");
    for (limit, set, known) in CASES {
        let with = |value| {
            let mut limits = Limits::default();
            set(&mut limits, value);
            limits
        };
        let need = need(10 << 20, |value| served(&component, with(value)).is_ok());
        let enough = served(&component, with(need)).expect("enough");
        assert_eq!(Usage { fuel: usage.fuel, ..enough }, usage, "{limit}: the same work");
        let error = served(&component, with(need - 1)).expect_err("one too few");
        assert_eq!(limit_of(&error), (limit, need - 1), "{error}");
        if let Some(known) = known(&usage) {
            // Fuel is looked at where code branches back or begins: the last few instructions are counted only.
            let uncounted = if limit == Limit::Fuel { 20 } else { 0 };
            assert!((need..=need + uncounted).contains(&known), "{limit}: {need} needed, {known} reported");
        }
        println!("{limit}: {need} needed; with {}: {error}", need - 1);
    }
}

/// Whoever adds a limit is led here.
#[test]
fn no_limit_is_forgotten() {
    let Limits {
        call_fuel: _,
        describe_fuel: _,
        // Below: by its order of magnitude, since time is not exact.
        deadline: _,
        memory_bytes: _,
        instances: _,
        memories: _,
        tables: _,
        // Below: it cuts work and ends nothing.
        batch_items: _,
        output_items: _,
        output_bytes: _,
        log_bytes: _,
        manifest_bytes: _,
        component_bytes: _,
        // In `runtime/cli/tests/cli/compile.rs`: it takes a process that can be killed.
        compile: _,
    } = Limits::default();
}

#[test]
fn parts_are_counted_exactly() {
    let component = Guest::good(Kind::Puzzle).component();
    let limits = Limits { instances: 20, memories: 6, tables: 9, ..Limits::default() };
    let cases = [
        ("(module)", Limit::Instances, 20),
        ("(module (memory 0))", Limit::Memories, 6),
        ("(module (table 0 funcref))", Limit::Tables, 9),
    ];
    for (module, limit, max) in cases {
        let copies = |count| served(&with_instances(&component, module, count as usize), limits.clone());
        let too_many = need(max, |count| copies(count).is_err());
        copies(too_many - 1).expect("exactly at the limit");
        let error = copies(too_many).expect_err("one too many");
        assert_eq!(limit_of(&error), (limit, max), "{error}");
    }
}

#[test]
fn a_batch_has_as_many_items_as_it_may() {
    for (items, batches) in [(5, 1), (4, 2), (1, 5)] {
        let host = Guest::good(Kind::Puzzle).host(Limits { batch_items: items, ..Limits::default() });
        let result = host.augment(&planned(&host, "evil.tool"), &vec![task(); 5]).expect("an answer");
        assert_eq!((result.calls, result.made.len()), (batches, 5));
    }
}

#[test]
fn a_deadline_is_enough_for_what_takes_less() {
    let limits = |ms| Limits { call_fuel: 1 << 60, deadline: Duration::from_millis(ms), ..Limits::default() };
    let guest = Guest::calling(Kind::Puzzle, "(loop $forever (br $forever))");
    assert_eq!(limit_of(&guest.call_error(limits(1))), (Limit::DeadlineMs, 1));
    assert_eq!(limit_of(&guest.call_error(limits(0))), (Limit::DeadlineMs, 0));
    served(&frugal().component(), limits(60_000)).expect("well within");
}

#[test]
fn the_budget_of_the_model_is_exact() {
    let plenty = ModelBudget { calls: 64, tokens: 1 << 20 };
    // A call computes ten tokens, and one that begins within the budget is finished.
    let cases = [
        (ModelBudget { calls: 3, ..plenty }, true),
        (ModelBudget { calls: 2, ..plenty }, false),
        (ModelBudget { tokens: 21, ..plenty }, true),
        (ModelBudget { tokens: 20, ..plenty }, false),
    ];
    let guest = asking(3, 1);
    for (budget, is_enough) in cases {
        let host = guest.host_with(Limits::default(), granted(Model::Answers, budget));
        let answer = guest.call(&host);
        assert_eq!(answer.is_ok(), is_enough, "{budget:?}: {answer:?}");
        if let Ok(usage) = answer {
            assert_eq!((usage.model_calls, usage.model_tokens), (3, 30));
        }
    }
}

/// The component of the grid plugin is larger than any of these guests, and needs more of everything.
#[test]
fn a_real_plugin_is_held_to_the_same_limits() {
    let tight = [
        (Limit::Fuel, Limits { describe_fuel: 1000, ..Limits::default() }),
        (Limit::MemoryBytes, Limits { memory_bytes: 1 << 16, ..Limits::default() }),
        (Limit::ManifestBytes, Limits { manifest_bytes: 1000, ..Limits::default() }),
        (Limit::ComponentBytes, Limits { component_bytes: GRID.len() - 1, ..Limits::default() }),
    ];
    for (limit, limits) in tight {
        let error = selkie_tools::ToolHost::of_components([("grid", GRID)], limits).expect_err("too tight");
        assert_eq!(limit_of(&error).0, limit, "{error}");
    }
}
