//! The hostile guests that are in the binary, for `selkie doctor`: `SELKIE_UPDATE=1` writes them.

use std::collections::BTreeMap;
use std::path::Path;

use selkie_tools::{Limit, Limits, self_test};

use crate::floods::flood;
use crate::guest::{Guest, Kind, manifest_of, with_instances};
use crate::loading::HUGE_MANIFEST;

const SPIN: &str = "(loop $forever (br $forever))";

/// A function of 25 kB for which the compiler needs seconds: its time grows with the product of loops and variables.
fn slow() -> String {
    const LOOPS: usize = 1000;
    let get = |variable: usize| format!("(local.get {})", variable % LOOPS);
    let loops: String = (0..LOOPS)
        .map(|at| {
            let sum = format!("(i32.add {} {})", get(at * 7), get(at * 13));
            format!("(loop $l{at} (local.set {at} {sum}) (br_if $l{at} {})", get(at * 3))
        })
        .collect();
    let (variables, ends) = ("i32 ".repeat(LOOPS), ")".repeat(LOOPS));
    format!("(module (func (export \"slow\") (param {variables}) {loops} {ends}))")
}

/// Every guest, by its name in `runtime/tools/hostile`.
fn guests() -> BTreeMap<&'static str, Vec<u8>> {
    let good = || Guest::good(Kind::Puzzle);
    let calling = |text| good().with("CALL", text);
    let asks = manifest_of(Kind::Text, "asks", r#""params":{"type":"object"}"#);
    let ask = "(call $complete (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 3072))";
    let deep = "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let grow_table = "(loop $more (drop (table.grow $table (ref.null func) (i32.const 100000))) (br $more))";
    let log = "(loop $more (call $log (i32.const 4096) (i32.const 100)) (br $more))";
    let many = |module| with_instances(&good().component(), module, 40);
    BTreeMap::from([
        ("slow_to_compile", with_instances(&good().component(), &slow(), 1)),
        ("spin", calling(SPIN).component()),
        ("describe_spin", good().with("DESCRIBE", SPIN).component()),
        ("ask", Guest::describing(Kind::Text, asks).asking().with("CALL", ask).component()),
        ("grow_memory", calling("(loop $more (drop (memory.grow (i32.const 256))) (br $more))").component()),
        ("grow_table", calling(grow_table).component()),
        ("instances", many("(module)")),
        ("memories", many("(module (memory 0))")),
        ("tables", many("(module (table 0 funcref))")),
        ("recurse", calling("(drop (call $deep (i32.const 0)))").with("FUNCTIONS", deep).component()),
        ("flood_tasks", flood(100_000).component()),
        ("flood_bytes", flood(3_000_000).component()),
        ("flood_log", calling(log).logging().component()),
        (
            "describe_flood",
            good().with("DESCRIBE", "(return (call $huge))").with("FUNCTIONS", HUGE_MANIFEST).component(),
        ),
    ])
}

#[test]
fn the_guests_in_the_binary_are_made_from_their_source() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/tools/hostile");
    let guests = guests();
    if std::env::var_os("SELKIE_UPDATE").is_some() {
        std::fs::create_dir_all(&folder).expect("a folder");
        for (name, bytes) in &guests {
            std::fs::write(folder.join(format!("{name}.wasm")), bytes).expect("a file");
        }
    }
    let mut committed: Vec<String> = std::fs::read_dir(&folder)
        .expect("the guests")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    committed.sort();
    let names: Vec<String> = guests.keys().map(|name| format!("{name}.wasm")).collect();
    assert_eq!(committed, names);
    for (name, bytes) in guests {
        let kept = std::fs::read(folder.join(format!("{name}.wasm"))).expect(name);
        assert!(kept == bytes, "{name}.wasm is not what its source makes: set SELKIE_UPDATE=1");
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "the times to death are for people to read")]
fn the_self_test_ends_every_guest_by_its_limit() {
    let deaths = self_test(&Limits::default(), None);
    for death in &deaths {
        println!("{}: {} after {:.1?}", death.attack, death.limit, death.after);
        assert!(death.is_by_its_limit(), "{death:?}");
    }
    for limit in [
        Limit::Fuel,
        Limit::DeadlineMs,
        Limit::MemoryBytes,
        Limit::Instances,
        Limit::Memories,
        Limit::Tables,
        Limit::StackBytes,
        Limit::OutputItems,
        Limit::OutputBytes,
        Limit::LogBytes,
        Limit::ManifestBytes,
        Limit::ComponentBytes,
    ] {
        assert!(deaths.iter().any(|death| death.limit == limit), "{limit}");
    }
}

/// A limit that the guests do not meet is said so, and not passed over.
#[test]
fn a_guest_that_no_limit_ends_is_told() {
    let limits = Limits { log_bytes: usize::MAX, call_fuel: 1_000_000, ..Limits::default() };
    let deaths = self_test(&limits, None);
    let of = |limit| deaths.iter().find(|death| death.limit == limit).expect("an attack");
    assert!(of(Limit::Fuel).is_by_its_limit());
    assert!(!of(Limit::LogBytes).is_by_its_limit(), "fuel ended it: {:?}", of(Limit::LogBytes));
}
