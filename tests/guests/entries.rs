//! The same attacks at every entry point: whatever runs a guest's code runs it within the limits.

use std::time::Instant;

use insta::assert_snapshot;
use selkie_tools::{Limits, ToolHost};

use crate::guest::{GOOD, Guest, Kind, assert_still_serving, report};

const AFTER_DESCRIBE: &str =
    r#"(func (export "cabi_post_selkie:plugin/manifest@0.2.0#describe") (param i32) "#;

const AFTER_AUGMENT: &str =
    r#"(func (export "cabi_post_selkie:plugin/puzzle-augmenter@0.2.0#augment") (param i32) "#;

/// Where a guest's code runs: the kind of guest, the mark in its source, and what the text at it is wrapped in.
const ENTRIES: [(&str, Kind, &str, [&str; 2]); 9] = [
    ("start", Kind::Puzzle, "FUNCTIONS", ["(start $main) (func $main ", ")"]),
    ("describe", Kind::Puzzle, "DESCRIBE", ["", ""]),
    ("cabi_realloc", Kind::Puzzle, "REALLOC", ["", ""]),
    ("post-return of describe", Kind::Puzzle, "FUNCTIONS", [AFTER_DESCRIBE, ")"]),
    ("post-return of augment", Kind::Puzzle, "FUNCTIONS", [AFTER_AUGMENT, ")"]),
    ("augment 0.1", Kind::Old, "CALL", ["", ""]),
    ("augment", Kind::Puzzle, "CALL", ["", ""]),
    ("write", Kind::Text, "CALL", ["", ""]),
    ("grade", Kind::Grader, "CALL", ["", ""]),
];

const DEEP: &str = "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";

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
    let error = match ToolHost::of_components([("evil", component.as_slice()), ("good", &GOOD)], limits) {
        Err(error) => {
            report(start, &error);
            error
        }
        Ok(host) => {
            let start = Instant::now();
            let error = guest.call(&host).expect_err("a refused call");
            report(start, &error);
            assert_still_serving(&host);
            error
        }
    };
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
    assert_snapshot!(outcomes.join("\n"), @r##"
    spin in start: plugin evil, `describe`: stopped by the limit fuel: 20000000 used, 20000000 allowed
    spin in describe: plugin evil, `describe`: stopped by the limit fuel: 20000000 used, 20000000 allowed
    spin in cabi_realloc: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit fuel: 20000000 used, 20000000 allowed
    spin in post-return of describe: plugin evil, `describe`: stopped by the limit fuel: 20000000 used, 20000000 allowed
    spin in post-return of augment: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit fuel: 20000000 used, 20000000 allowed
    spin in augment 0.1: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit fuel: 20000000 used, 20000000 allowed
    spin in augment: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit fuel: 20000000 used, 20000000 allowed
    spin in write: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit fuel: 20000000 used, 20000000 allowed
    spin in grade: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit fuel: 20000000 used, 20000000 allowed
    grow memory in start: plugin evil, `describe`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed
    grow memory in describe: plugin evil, `describe`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed
    grow memory in cabi_realloc: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed
    grow memory in post-return of describe: plugin evil, `describe`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed
    grow memory in post-return of augment: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed
    grow memory in augment 0.1: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed
    grow memory in augment: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed
    grow memory in write: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed
    grow memory in grade: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed
    grow table in start: plugin evil, `describe`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed
    grow table in describe: plugin evil, `describe`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed
    grow table in cabi_realloc: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed
    grow table in post-return of describe: plugin evil, `describe`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed
    grow table in post-return of augment: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed
    grow table in augment 0.1: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed
    grow table in augment: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed
    grow table in write: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed
    grow table in grade: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed
    recurse in start: plugin evil, `describe`: stopped by the limit stack_bytes: 524288 used, 524288 allowed
    recurse in describe: plugin evil, `describe`: stopped by the limit stack_bytes: 524288 used, 524288 allowed
    recurse in cabi_realloc: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit stack_bytes: 524288 used, 524288 allowed
    recurse in post-return of describe: plugin evil, `describe`: stopped by the limit stack_bytes: 524288 used, 524288 allowed
    recurse in post-return of augment: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit stack_bytes: 524288 used, 524288 allowed
    recurse in augment 0.1: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit stack_bytes: 524288 used, 524288 allowed
    recurse in augment: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit stack_bytes: 524288 used, 524288 allowed
    recurse in write: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit stack_bytes: 524288 used, 524288 allowed
    recurse in grade: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit stack_bytes: 524288 used, 524288 allowed
    trap in start: plugin evil, `describe`: it failed: wasm trap: wasm `unreachable` instruction executed
    trap in describe: plugin evil, `describe`: it failed: wasm trap: wasm `unreachable` instruction executed
    trap in cabi_realloc: plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed
    trap in post-return of describe: plugin evil, `describe`: it failed: wasm trap: wasm `unreachable` instruction executed
    trap in post-return of augment: plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed
    trap in augment 0.1: plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed
    trap in augment: plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed
    trap in write: plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed
    trap in grade: plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed
    flood the log in start: plugin evil, `describe`: it failed: wasm trap: uninitialized element
    flood the log in describe: plugin evil, `describe`: stopped by the limit log_bytes: 65551 used, 65536 allowed
    flood the log in cabi_realloc: plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: cannot leave component instance
    flood the log in post-return of describe: plugin evil, `describe`: it failed: wasm trap: cannot leave component instance
    flood the log in post-return of augment: plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: cannot leave component instance
    flood the log in augment: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit log_bytes: 65551 used, 65536 allowed
    flood the log in write: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit log_bytes: 65551 used, 65536 allowed
    flood the log in grade: plugin evil 6.6.6, tool `evil.tool`: stopped by the limit log_bytes: 65551 used, 65536 allowed
    "##);
}
