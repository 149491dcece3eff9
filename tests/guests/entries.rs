//! The same attacks at every entry point: whatever runs a guest's code runs it within the limits.

use std::time::Instant;

use insta::assert_snapshot;
use selkie_tools::{Limits, ToolHost};

use crate::guest::{GRID, Guest, Kind, assert_still_serving, report};

/// Where a guest's code runs: the kind of guest, the mark in its source, and what the text at it is wrapped in.
const ENTRIES: [(&str, Kind, &str, [&str; 2]); 7] = [
    ("start", Kind::Puzzle, "FUNCTIONS", ["(start $main) (func $main ", ")"]),
    ("describe", Kind::Puzzle, "DESCRIBE", ["", ""]),
    ("cabi_realloc", Kind::Puzzle, "REALLOC", ["", ""]),
    ("augment 0.1", Kind::Old, "CALL", ["", ""]),
    ("augment", Kind::Puzzle, "CALL", ["", ""]),
    ("write", Kind::Text, "CALL", ["", ""]),
    ("grade", Kind::Grader, "CALL", ["", ""]),
];

const DEEP: &str =
    "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";

/// What the guest runs there.
const ATTACKS: [(&str, &str); 6] = [
    ("spin", "(loop $forever (br $forever))"),
    ("grow memory", "(loop $more (drop (memory.grow (i32.const 256))) (br $more))"),
    ("grow table", "(loop $more (drop (table.grow $table (ref.null func) (i32.const 1000000))) (br $more))"),
    ("recurse", "(drop (call $deep (i32.const 0)))"),
    ("trap", "unreachable"),
    ("flood the log", "(loop $more (call $log (i32.const 0) (i32.const 4096)) (br $more))"),
];

/// How an attack at an entry point ends.
fn outcome(attack: &str, text: &str, kind: Kind, mark: &'static str, [before, after]: [&str; 2]) -> String {
    let mut guest = Guest::good(kind).with("FUNCTIONS", DEEP).with(mark, &format!("{before}{text}{after}"));
    if attack == "flood the log" {
        guest = guest.logging();
    }
    let component = guest.component();
    let limits = Limits { call_fuel: 20_000_000, describe_fuel: 20_000_000, ..Limits::default() };
    let start = Instant::now();
    let error = match ToolHost::of_components([("evil", component.as_slice()), ("grid", GRID)], limits) {
        Err(error) => error,
        Ok(host) => {
            let error = guest.call(&host).expect_err("a refused call");
            assert_still_serving(&host);
            error
        }
    };
    report(start, &error);
    error.to_string()
}

#[test]
fn no_entry_point_is_outside_the_limits() {
    let mut outcomes = Vec::new();
    for (attack, text) in ATTACKS {
        for (entry, kind, mark, around) in ENTRIES {
            if attack == "flood the log" && kind == Kind::Old {
                continue;
            }
            let outcome = outcome(attack, text, kind, mark, around);
            outcomes.push(format!("{attack} in {entry}: {outcome}"));
        }
    }
    assert_snapshot!(outcomes.join("\n"), @"");
}
