//! Graders that cannot be believed. A grader decides what a model learns.

use insta::assert_snapshot;
use selkie_tools::{GraderFault, Limits, ToolError};

use crate::guest::{Guest, Kind, assert_still_serving, edit, manifest_of, pair, planned};

fn scoring(text: &str) -> Guest {
    Guest::good(Kind::Grader).with("SCORE", text)
}

#[test]
fn a_score_that_is_none_is_refused() {
    let errors = ["nan", "-1", "2", "inf", "-inf", "1.0000000000000002", "-0x1p-1074"].map(|value| {
        let error = scoring(&format!("(return (f64.const {value}))")).call_error(Limits::default());
        assert!(matches!(error, ToolError::Grader { fault: GraderFault::OutOfRange { .. }, .. }), "{error}");
        error.to_string()
    });
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: score 0 is NaN, not a number from 0 to 1
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: score 0 is -1.0, not a number from 0 to 1
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: score 0 is 2.0, not a number from 0 to 1
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: score 0 is inf, not a number from 0 to 1
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: score 0 is -inf, not a number from 0 to 1
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: score 0 is 1.0000000000000002, not a number from 0 to 1
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: score 0 is -5e-324, not a number from 0 to 1
    "##);
}

#[test]
fn a_grader_that_does_not_look_is_found_by_the_canaries() {
    let errors = ["1", "0", "0.5"].map(|value| {
        let error = scoring(&format!("(return (f64.const {value}))")).call_error(Limits::default());
        assert!(matches!(error, ToolError::Grader { fault: GraderFault::Canary { .. }, .. }), "{error}");
        error.to_string()
    });
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: a pair that has nothing in common got 1, and it should have got less than 1
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: a pair that is equal got 0, and it should have got 1
    plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: a pair that is equal got 0.5, and it should have got 1
    "##);
}

/// The longer side is the left one, or both are as long.
const FAVOURS_LEFT: &str = "(return (f64.convert_i32_u
    (i32.ge_u (i32.load offset=8 (local.get $submission)) (i32.load offset=16 (local.get $submission)))))";

#[test]
fn a_grader_that_favours_a_side_is_found() {
    let symmetric =
        manifest_of(Kind::Grader, "evil", r#""params":{"type":"object"},"laws":{"symmetric":true}"#);
    let sworn = Guest::describing(Kind::Grader, symmetric).with("SCORE", FAVOURS_LEFT);
    let host = sworn.host(Limits::default());
    let error = host.compare(&planned(&host, "evil.tool"), &[pair("a", "bb")]).expect_err("a broken law");
    assert_still_serving(&host);
    let ToolError::Quarantined { broken, .. } = &error else { panic!("{error}") };
    assert_eq!(broken.law.name(), "symmetric");
    // One that promised nothing meets a canary: the left side of the pair that has nothing in common is longer.
    assert_snapshot!(scoring(FAVOURS_LEFT).call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: a pair that has nothing in common got 1, and it should have got less than 1");
}

#[test]
fn an_edit_that_teaches_nothing_is_not_the_best_one() {
    let takes_edits = manifest_of(Kind::Grader, "evil", r#""params":{"type":"object"}"#)
        .replace(r#""answers""#, r#""edit""#);
    let good = Guest::describing(Kind::Grader, takes_edits);
    let host = good.host(Limits::default());
    let edits = [edit(&["Seals swim in the sea."]), edit(&[])];
    let graded = host.grade_edits(&planned(&host, "evil.tool"), &edits).expect("scores").made;
    assert_eq!(graded.iter().map(|score| score.value).collect::<Vec<_>>(), [1.0, 0.0]);

    let host = good.with("SCORE", "(return (f64.const 0.7))").host(Limits::default());
    let error = host.grade_edits(&planned(&host, "evil.tool"), &edits).expect_err("a constant");
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: it cannot be believed: an edit without documents got 0.7, and it should have got less than the best of the others");
    assert_still_serving(&host);
}

#[test]
fn what_a_grader_says_is_cut() {
    // 100 reasons, each the guest's whole first kilobyte of manifest.
    let reasons = "(local.set $at (i32.const 0))
        (local.set $tool (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 800)))
        (i32.store offset=8 (local.get $items) (local.get $tool))
        (i32.store offset=12 (local.get $items) (i32.const 100))
        (loop $next
            (i32.store (i32.add (local.get $tool) (i32.mul (local.get $at) (i32.const 8))) (i32.const 3072))
            (i32.store offset=4 (i32.add (local.get $tool) (i32.mul (local.get $at) (i32.const 8))) (i32.const 1000))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $at) (i32.const 100))))
        (memory.fill (i32.const 3072) (i32.const 0x1b) (i32.const 1000))";
    let takes_edits = manifest_of(Kind::Grader, "evil", r#""params":{"type":"object"}"#)
        .replace(r#""answers""#, r#""edit""#);
    let host = Guest::describing(Kind::Grader, takes_edits).with("CALL", reasons).host(Limits::default());
    let graded =
        host.grade_edits(&planned(&host, "evil.tool"), &[edit(&["Seals swim."])]).expect("scores").made;
    assert_eq!(graded[0].reasons, vec![format!("{}...", " ".repeat(512)); 16]);
    // Of a comparison with a reference no word comes out: `compare` gives numbers.
}

#[test]
fn a_grader_beside_other_tools_is_refused() {
    let manifest = manifest_of(Kind::Grader, "evil", r#""params":{"type":"object"}"#);
    let other =
        r#"{"name":"evil.other","kind":"puzzle_augmenter","summary":"Evil.","params":{"type":"object"}},"#;
    let manifest = manifest.replace(r#""tools":["#, &format!(r#""tools":[{other}"#));
    assert_snapshot!(Guest::describing(Kind::Grader, manifest).load_error(), @"plugin evil.wasm: its manifest is refused: graders beside other tools; a plugin that grades has graders alone");
}

#[test]
fn a_plugin_without_the_interface_of_its_tool_is_refused_when_it_is_called() {
    let says = manifest_of(Kind::Puzzle, "evil", r#""params":{"type":"object"}"#);
    let host = Guest::describing(Kind::Grader, says).host(Limits::default());
    let task = crate::guest::task();
    let error = host.augment(&planned(&host, "evil.tool"), &[task]).expect_err("no such interface");
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: its answer is refused: the manifest says that it is a puzzle augmenter, and the plugin has no interface for that");
    assert_still_serving(&host);
}
