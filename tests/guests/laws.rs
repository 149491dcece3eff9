//! Tools that break what they promise.

use std::path::Path;

use insta::assert_snapshot;
use selkie_tools::{HostOptions, Limits, ToolError, ToolHost};

use crate::guest::{GOOD, Guest, Kind, assert_still_serving, manifest, planned};

/// A tool that does nothing, and promises to swap heights and widths.
fn liar() -> Guest {
    let laws = r#""params":{"type":"object"},"laws":{"deterministic":true,"shape":"swapped"}"#;
    Guest::describing(Kind::Puzzle, manifest("evil", laws))
}

#[test]
fn a_law_that_is_broken_is_seen() {
    assert_snapshot!(liar().call_error(Limits::default()), @r#"plugin evil 6.6.6: tool `evil.tool` breaks its law `shape`: the shapes of task 0 are not swapped from any task of the batch; with params {}, seed 0 and input [{"train":[{"input":[[1,2,3],[4,5,6]],"output":[[1,2,3],[4,5,6]]}],"test":{"input":[[1,2,3],[4,5,6]],"output":[[1,2,3],[4,5,6]]}}]; it is not called again until the plugin is another one"#);
}

#[test]
fn a_tool_whose_answers_cannot_be_repeated_is_found_by_a_sample() {
    // It promises an involution, and gives every task twice.
    let laws = r#""params":{"type":"object"},"laws":{"deterministic":true,"involution":true}"#;
    let twice = "(local.set $tool (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 64)))
        (memory.copy (local.get $tool) (local.get $items) (i32.const 32))
        (memory.copy (i32.add (local.get $tool) (i32.const 32)) (local.get $items) (i32.const 32))
        (local.set $items (local.get $tool))
        (local.set $count (i32.const 2))";
    let guest = Guest::describing(Kind::Puzzle, manifest("evil", laws)).with("CALL", twice);
    assert_snapshot!(guest.call_error(Limits::default()), @r#"plugin evil 6.6.6: tool `evil.tool` breaks its law `involution`: `evil.tool` with {} does not give task 0 back: 1 items, and 2; with params {}, seed 0 and input [{"train":[{"input":[[1,2,3],[4,5,6]],"output":[[1,2,3],[4,5,6]]}],"test":{"input":[[1,2,3],[4,5,6]],"output":[[1,2,3],[4,5,6]]}}]; it is not called again until the plugin is another one"#);
}

#[test]
fn a_broken_law_ends_the_use_of_a_tool_and_of_nothing_else() {
    let host = liar().host(Limits::default());
    let error = liar().call(&host).expect_err("a broken law");
    assert!(matches!(error, ToolError::Quarantined { .. }), "{error}");
    assert_eq!(host.quarantined().len(), 1);
    // A square is the same on its side; it is not asked any more.
    let square = selkie_edit::Grid::from_rows(&[vec![1, 2], vec![3, 4]]).expect("a grid");
    let example = selkie_edit::Example { input: square.clone(), output: square };
    let task = selkie_edit::Task { train: Vec::new(), test: example };
    let again = host.augment(&planned(&host, "evil.tool"), &[task]).expect_err("still in quarantine");
    assert_eq!(again.to_string(), error.to_string());
    assert_still_serving(&host);
}

#[test]
fn a_quarantine_lasts_as_long_as_the_component() {
    let folder = tempfile::tempdir().expect("a folder");
    let (plugins, cache) = (folder.path().join("plugins"), folder.path().join("cache"));
    std::fs::create_dir(&plugins).expect("a folder");
    let put = |component: &[u8]| std::fs::write(plugins.join("evil.wasm"), component).expect("a file");
    std::fs::write(plugins.join("good.wasm"), &*GOOD).expect("a file");
    put(&liar().component());
    let host = |cache: Option<&Path>| {
        let options = HostOptions::new(Some(plugins.clone()));
        ToolHost::new(HostOptions { built_in: false, cache: cache.map(Into::into), ..options })
            .expect("a host")
    };
    let first = host(Some(&cache));
    liar().call(&first).expect_err("a broken law");
    // The same host, a new one with the same cache, and one that took the plugin over: all know.
    for host in [&first, &host(Some(&cache)), &first.reloaded().expect("the same plugins")] {
        assert_eq!(host.quarantined().len(), 1);
        let error = liar().call(host).expect_err("in quarantine");
        assert!(matches!(error, ToolError::Quarantined { .. }), "{error}");
        assert_still_serving(host);
    }
    // One that knows nothing finds it out by itself.
    assert_eq!(host(None).quarantined().len(), 0);
    liar().call(&host(None)).expect_err("a broken law");
    // Another build starts anew, in a reloaded host and in a new one.
    let honest = Guest::good(Kind::Puzzle);
    put(&honest.component());
    for host in [first.reloaded().expect("another plugin"), host(Some(&cache))] {
        assert_eq!(host.quarantined().len(), 0);
        honest.call(&host).expect("an answer");
    }
    // And the host of before still serves what it had.
    liar().call(&first).expect_err("in quarantine");
    assert_still_serving(&first);
}
