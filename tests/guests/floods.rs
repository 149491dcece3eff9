//! Floods: more tasks, documents, scores, bytes or log than anybody wants.

use insta::assert_snapshot;
use selkie_tools::Limits;

use crate::guest::{Guest, Kind};

/// An answer of so many tasks, all zero: no copy of anything is needed to make it.
pub(crate) fn flood(tasks: usize) -> Guest {
    let bytes = tasks * 32;
    Guest::calling(
        Kind::Puzzle,
        &format!(
            "(local.set $items (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const {bytes})))
         (local.set $count (i32.const {tasks}))"
        ),
    )
}

#[test]
fn a_flood_of_tasks_is_cut_by_number() {
    assert_snapshot!(flood(100_000).call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_items: 100000 used, 65536 allowed");
}

#[test]
fn a_flood_of_bytes_is_cut_before_it_is_copied() {
    assert_snapshot!(flood(3_000_000).call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_bytes: 67108865 used, 67108864 allowed");
}

/// One grid or one text, named by each of many items.
#[test]
fn an_answer_that_names_one_place_many_times_is_cut_before_it_is_copied() {
    // 2,000 tasks of one grid of 255x255.
    let tasks = "(local.set $items (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 64000)))
        (local.set $count (i32.const 0))
        (loop $next
            (i32.store16 offset=8 (i32.add (local.get $items) (i32.mul (local.get $count) (i32.const 32))) (i32.const 0xffff))
            (i32.store offset=16 (i32.add (local.get $items) (i32.mul (local.get $count) (i32.const 32))) (i32.const 65025))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $count) (i32.const 2000))))";
    // 1,000 documents of the same 131,072 zeros.
    let documents = "(local.set $list (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 8000)))
        (i32.store (local.get $items) (local.get $list))
        (i32.store offset=4 (local.get $items) (i32.const 1000))
        (loop $next
            (i32.store (i32.add (local.get $list) (i32.mul (local.get $at) (i32.const 8))) (i32.const 131072))
            (i32.store offset=4 (i32.add (local.get $list) (i32.mul (local.get $at) (i32.const 8))) (i32.const 131072))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 1000))))";
    let reasons = documents.replace("$items", "$submissions").replace("$list", "$more");
    let grader = Guest::calling(
        Kind::Grader,
        &format!(
            "(local.set $at (i32.const 0))
            (local.set $submissions (i32.add (local.get $items) (i32.const 8)))
            {}",
            reasons.replace("$more", "$tool")
        ),
    );
    let guests = [
        Guest::calling(Kind::Puzzle, tasks),
        Guest::calling(Kind::Text, &format!("(local.set $at (i32.const 0)) {documents}")),
        grader,
    ];
    let errors = guests.map(|guest| guest.call_error(Limits::default()).to_string());
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_bytes: 67108865 used, 67108864 allowed
    plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_bytes: 67108865 used, 67108864 allowed
    plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_bytes: 67108865 used, 67108864 allowed
    "##);
}

#[test]
fn a_flood_of_documents_is_cut_by_number() {
    let guest = Guest::calling(
        Kind::Text,
        "(i32.store (local.get $items)
            (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 800000)))
        (i32.store offset=4 (local.get $items) (i32.const 100000))",
    );
    assert_snapshot!(guest.call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_items: 100000 used, 65536 allowed");
}

/// Lists of documents, or scores, of zeros: so many whatever was sent.
fn miscounted(kind: Kind, count: usize) -> Guest {
    Guest::calling(
        kind,
        &format!(
            "(local.set $items (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const {})))
            (local.set $count (i32.const {count}))",
            count * 16
        ),
    )
}

#[test]
fn a_wrong_number_of_lists_or_scores_is_refused() {
    let errors = [
        (Kind::Text, 0),
        (Kind::Text, 2),
        (Kind::Text, 100_000),
        (Kind::Grader, 0),
        (Kind::Grader, 2),
        (Kind::Grader, 100_000),
    ]
    .map(|(kind, count)| miscounted(kind, count).call_error(Limits::default()).to_string());
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil 6.6.6, tool `evil.tool`: its answer is refused: 0 lists of documents for 1 items
    plugin evil 6.6.6, tool `evil.tool`: its answer is refused: 2 lists of documents for 1 items
    plugin evil 6.6.6, tool `evil.tool`: its answer is refused: 100000 lists of documents for 1 items
    plugin evil 6.6.6, tool `evil.tool`: its answer is refused: 0 scores for 3 items
    plugin evil 6.6.6, tool `evil.tool`: its answer is refused: 2 scores for 3 items
    plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_items: 100000 used, 65536 allowed
    "##);
}

#[test]
fn a_text_that_is_not_utf_8_is_a_trap() {
    let text = "(i32.store8 (i32.load (i32.load (local.get $items))) (i32.const 0xff))";
    assert_snapshot!(Guest::calling(Kind::Text, text).call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: it failed: invalid utf-8 sequence of 1 bytes from index 0");
}

#[test]
fn a_flood_of_log_ends_the_call() {
    let flood = "(loop $more (call $log (i32.const 4096) (i32.const 100)) (br $more))";
    let one = "(drop (memory.grow (i32.const 1536))) (call $log (i32.const 0) (i32.const 0x5000000))";
    let errors = [flood, one]
        .map(|text| Guest::calling(Kind::Puzzle, text).logging().call_error(Limits::default()).to_string());
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil 6.6.6, tool `evil.tool`: stopped by the limit log_bytes: 65548 used, 65536 allowed
    plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_bytes: 67108865 used, 67108864 allowed
    "##);
}

#[test]
fn a_guests_last_words_stand_in_the_error_and_cannot_drive_a_terminal() {
    let words = |text: &str| {
        let guest = Guest::calling(
            Kind::Puzzle,
            &format!("(call $log (i32.const 3072) (i32.const {})) unreachable", text.len()),
        );
        let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let data = format!("(data (i32.const 3072) \"{escaped}\")");
        guest.with("FUNCTIONS", &data).logging().call_error(Limits::default()).to_string()
    };
    assert_snapshot!(words("assertion failed: the seal is \u{1b}[2J asleep\nat src/lib.rs:7"), @"plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed; its last words: assertion failed: the seal is  [2J asleep at src/lib.rs:7");
    assert!(words(&"A".repeat(1000)).ends_with(&format!("last words: {}", "A".repeat(600))));
}
