//! Guests that import WASI: it links, and reaches nothing.

use insta::assert_snapshot;
use selkie_tools::Limits;

use crate::guest::{Guest, Kind};

/// As much of WASI as these guests import.
const PACKAGES: &str = "
    package wasi:clocks@0.2.0 { interface monotonic-clock {
        now: func() -> u64; subscribe-duration: func(when: u64) -> u32; } }
    package wasi:sockets@0.2.0 { interface tcp-create-socket { create-tcp-socket: func(family: u32) -> u32; } }
    package wasi:random@0.2.0 { interface random {
        get-random-u64: func() -> u64; get-random-bytes: func(len: u64) -> list<u8>; } }
    package wasi:cli@0.2.0 {
        interface exit { exit: func(status: result); }
        interface stdout { use wasi:io/streams@0.2.0.{output-stream}; get-stdout: func() -> output-stream; } }
    package wasi:io@0.2.0 { interface streams { resource output-stream {
        blocking-write-and-flush: func(contents: list<u8>) -> result; } } }";

const IMPORTS: &str = "import wasi:clocks/monotonic-clock@0.2.0; import wasi:sockets/tcp-create-socket@0.2.0;
    import wasi:random/random@0.2.0; import wasi:cli/exit@0.2.0; import wasi:cli/stdout@0.2.0;
    import wasi:io/streams@0.2.0;";

const CORE: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $sleep (param i64) (result i32)))
    (import "wasi:sockets/tcp-create-socket@0.2.0" "create-tcp-socket" (func $socket (param i32) (result i32)))
    (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))
    (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random_bytes (param i64 i32)))
    (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
    (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
    (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
        (func $print (param i32 i32 i32) (result i32)))"#;

fn guest(text: &str) -> Guest {
    Guest::calling(Kind::Puzzle, text).with("IMPORTS", CORE).importing(PACKAGES, IMPORTS)
}

#[test]
fn what_wasi_would_reach_ends_the_call_by_its_name() {
    let errors = [
        "(drop (call $sleep (i64.const 60000000000)))",
        "(drop (call $socket (i32.const 0)))",
        "(call $exit (i32.const 0))",
        "(call $random_bytes (i64.const 0x100000000) (i32.const 3072))",
        r#"(drop (call $print (call $stdout) (i32.const 3072) (i32.const 9))) unreachable"#,
        "(loop $more (drop (call $print (call $stdout) (i32.const 3072) (i32.const 4096))) (br $more))",
    ]
    .map(|text| {
        let guest = guest(text).with("FUNCTIONS", r#"(data (i32.const 3072) "I\1b[2J fail")"#);
        guest.call_error(Limits::default()).to_string()
    });
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil 6.6.6, tool `evil.tool`: it failed: `wasi:clocks/monotonic-clock#subscribe-duration` is not there: plugins reach nothing
    plugin evil 6.6.6, tool `evil.tool`: it failed: `wasi:sockets/tcp-create-socket#create-tcp-socket` is not there: plugins reach nothing
    plugin evil 6.6.6, tool `evil.tool`: it failed: the plugin ended itself (`exit`)
    plugin evil 6.6.6, tool `evil.tool`: it failed: 4294967296 random bytes asked for, at most 4096 are given
    plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed; its last words: I [2J fai
    plugin evil 6.6.6, tool `evil.tool`: stopped by the limit log_bytes: 69632 used, 65536 allowed
    "##);
}

#[test]
fn the_clock_stands_still_and_randomness_is_the_seed() {
    // The first cells of the answer: the time, then the random numbers of the seed.
    let text = "(i32.store8 (i32.load offset=12 (local.get $items)) (i32.wrap_i64 (call $now)))
        (i32.store8 offset=1 (i32.load offset=12 (local.get $items))
            (i32.wrap_i64 (i64.rem_u (call $random) (i64.const 10))))
        (i32.store8 offset=2 (i32.load offset=12 (local.get $items))
            (i32.wrap_i64 (i64.rem_u (call $random) (i64.const 10))))";
    let host = guest(text).host(Limits::default());
    let cells = |seed| {
        let call = selkie_edit::PlannedCall { seed, ..crate::guest::planned(&host, "evil.tool") };
        let made = host.augment(&call, &[crate::guest::task()]).expect("an answer").made;
        made[0].test.input.cells()[..3].to_vec()
    };
    assert_eq!(cells(1)[0], 0);
    assert_eq!(cells(1), cells(1));
    assert_ne!(cells(1), cells(2));
}

#[test]
fn a_flood_of_handles_ends_the_call() {
    let error = guest("(loop $more (drop (call $stdout)) (br $more))").call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: it failed: cannot allocate another handle: store handle limit exceeded");
}
