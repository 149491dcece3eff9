//! Attacks by a tool that is called: what it runs, and what it answers.

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use selkie_tools::{Limit, Limits, ToolError, ToolHost};

use crate::floods::flood;
use crate::guest::{Guest, Kind, limit_of, manifest, planned, task};

#[test]
fn a_guest_that_behaves_is_served() {
    let component = Guest::good(Kind::Puzzle).component();
    let host =
        ToolHost::of_components([("evil", component.as_slice())], Limits::default()).expect("it loads");
    assert_eq!(host.augment(&planned(&host, "evil.tool"), &[task()]).expect("an answer").made, [task()]);
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let error = Guest::calling(Kind::Puzzle, "(loop $forever (br $forever))").call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit fuel: 2000000000 used, 2000000000 allowed");
}

#[test]
fn a_loop_that_fuel_does_not_see_meets_its_deadline() {
    let limits = Limits { call_fuel: 1 << 60, deadline: Duration::from_millis(100), ..Limits::default() };
    let start = Instant::now();
    let error = Guest::calling(Kind::Puzzle, "(loop $forever (br $forever))").call_error(limits);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(limit_of(&error), (Limit::DeadlineMs, 100), "{error}");
}

#[test]
fn a_memory_bomb_is_told_what_it_asked_for() {
    let error = Guest::calling(Kind::Puzzle, "(loop $more (drop (memory.grow (i32.const 256))) (br $more))")
        .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed");
}

#[test]
fn a_table_counts_as_memory() {
    let grow = "(loop $more (drop (table.grow $table (ref.null func) (i32.const 1000000))) (br $more))";
    let error = Guest::calling(Kind::Puzzle, grow).call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed");
}

#[test]
fn endless_recursion_meets_the_end_of_its_stack() {
    let error = Guest::calling(Kind::Puzzle, "(drop (call $deep (i32.const 0)))")
        .with(
            "FUNCTIONS",
            "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))",
        )
        .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit stack_bytes: 524288 used, 524288 allowed");
}

#[test]
fn an_answer_that_lies_outside_the_memory_is_a_trap() {
    let error = Guest::calling(Kind::Puzzle, "(local.set $count (i32.const 0x7ffffff))")
        .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: it failed: list pointer/length out of bounds of memory");
}

/// A refusal of this kind whose message is a megabyte of one byte.
fn refusal(kind: u8, byte: u8) -> Guest {
    Guest::calling(
        Kind::Puzzle,
        &format!(
            "(local.set $items (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1048576)))
         (memory.fill (local.get $items) (i32.const {byte}) (i32.const 1048576))
         (i32.store8 (i32.const 2048) (i32.const 1))
         (i32.store8 (i32.const 2052) (i32.const {kind}))
         (i32.store (i32.const 2056) (local.get $items))
         (i32.store (i32.const 2060) (i32.const 1048576))
         (return (i32.const 2048))"
        ),
    )
}

#[test]
fn a_huge_error_message_is_cut() {
    let error = refusal(3, b'A').call_error(Limits::default());
    let ToolError::Guest { message, .. } = &error else { panic!("{error}") };
    assert_eq!(message.len(), 515);
    assert_snapshot!(error.to_string().replace(&"A".repeat(512), "A*512"), @"plugin evil 6.6.6, tool `evil.tool`: model unavailable: A*512...");
}

#[test]
fn an_error_message_cannot_drive_a_terminal() {
    let error = refusal(0, 0x1b).call_error(Limits::default());
    assert!(!error.to_string().contains('\u{1b}'));
}

#[test]
fn an_error_message_that_is_not_text_is_a_trap() {
    assert_snapshot!(refusal(1, 0xff).call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: it failed: invalid utf-8 sequence of 1 bytes from index 0");
}

#[test]
fn an_error_kind_that_does_not_exist_is_a_trap() {
    assert_snapshot!(refusal(77, b'A').call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: it failed: unexpected discriminant: 77");
}

#[test]
fn a_panic_is_a_trap() {
    assert_snapshot!(Guest::calling(Kind::Puzzle, "unreachable").call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed");
}

#[test]
fn a_grid_with_too_few_cells_is_refused() {
    let error =
        Guest::calling(Kind::Puzzle, "(i32.store8 (i32.add (local.get $items) (i32.const 8)) (i32.const 9))")
            .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: its answer is refused: task 0: 6 cells for a grid of 9x3");
}

#[test]
fn a_grid_of_no_size_is_refused() {
    let error = flood(1).call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: its answer is refused: task 0: a grid has at least one row and one column, found none");
}

#[test]
fn colour_12_is_refused() {
    let error = Guest::calling(
        Kind::Puzzle,
        "(i32.store8 (i32.load (i32.add (local.get $items) (i32.const 12))) (i32.const 12))",
    )
    .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: its answer is refused: task 0: colour 12 at row 0, column 0: colours are 0 to 9");
}

#[test]
fn a_task_of_countless_examples_is_refused() {
    let error = Guest::calling(
        Kind::Puzzle,
        "(i32.store (local.get $items)
            (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 2400)))
         (i32.store (i32.add (local.get $items) (i32.const 4)) (i32.const 100))",
    )
    .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: its answer is refused: task 0 has 100 examples, at most 64 are taken");
}

#[test]
fn a_guest_that_shows_its_seed_is_shown_none_when_it_says_that_seeds_do_not_matter() {
    // The first cell of the answer is the seed.
    let shows_seed = "(i32.store8 (i32.load (i32.add (local.get $items) (i32.const 12))) (i32.wrap_i64 (local.get $seed)))";
    for (deterministic, seed) in [(false, 1), (true, 0)] {
        let laws = format!(r#""params":{{"type":"object"}},"laws":{{"deterministic":{deterministic}}}"#);
        let guest = Guest::describing(Kind::Puzzle, manifest("evil", &laws)).with("CALL", shows_seed);
        let component = guest.component();
        let host =
            ToolHost::of_components([("evil", component.as_slice())], Limits::default()).expect("it loads");
        let made = host.augment(&planned(&host, "evil.tool"), &[task()]).expect("an answer").made;
        assert_eq!(made[0].test.input.cells()[0], seed);
    }
}

#[test]
fn state_does_not_survive_a_call() {
    let counts = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (if (i32.gt_u (global.get $calls) (i32.const 1)) (then unreachable))";
    let component = Guest::calling(Kind::Puzzle, counts)
        .with("GLOBALS", "(global $calls (mut i32) (i32.const 0))")
        .component();
    let host =
        ToolHost::of_components([("evil", component.as_slice())], Limits::default()).expect("it loads");
    for _ in 0..3 {
        host.augment(&planned(&host, "evil.tool"), &[task()]).expect("each call is the first");
    }
}
