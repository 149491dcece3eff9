//! Hostile plugins: each limit of the host is met by a guest that breaks it, gives its own typed error, and
//! leaves the host serving. `guests/ATTACKS.md` lists them.

use std::time::{Duration, Instant};

use insta::assert_snapshot;
use selkie_edit::{Example, Grid, PlannedCall, Task};
use selkie_tools::{HostOptions, Limit, Limits, ToolError, ToolHost};
use wit_component::StringEncoding;

const GRID: &[u8] = include_bytes!("../plugins/dist/grid.wasm");

/// A guest that does what it should, until it is changed.
#[derive(Clone)]
struct Guest {
    manifest: String,
    marks: Vec<(&'static str, String)>,
}

impl Guest {
    fn good() -> Guest {
        Guest { manifest: manifest("evil", r#""params":{"type":"object"}"#), marks: Vec::new() }
    }

    /// WebAssembly text at one of the marks of `guests/base.wat`.
    fn with(mut self, mark: &'static str, text: &str) -> Guest {
        self.marks.push((mark, text.into()));
        self
    }

    /// A good guest that runs this before it answers a call.
    fn augmenting(text: &str) -> Guest {
        Guest::good().with("AUGMENT", text)
    }

    fn describing(manifest: impl Into<String>) -> Guest {
        Guest { manifest: manifest.into(), marks: Vec::new() }
    }

    fn component(&self) -> Vec<u8> {
        let escaped: String = self.manifest.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let mut text = include_str!("guests/base.wat")
            .replace("MANIFEST_BYTES", &self.manifest.len().to_string())
            .replace("MANIFEST_TEXT", &escaped);
        for (mark, replacement) in &self.marks {
            let mark = format!(";;{mark}\n");
            assert!(text.contains(&mark), "no mark {mark}");
            text = text.replace(&mark, &format!("{replacement}\n"));
        }
        let mut core = wat::parse_str(&text).expect("the guest's text");
        let mut resolve = wit_parser::Resolve::default();
        let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/wit/since_v0.1.0");
        let (package, _) = resolve.push_dir(wit).expect("the interface");
        let world = resolve.select_world(&[package], Some("puzzle-plugin")).expect("the world");
        wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8, false)
            .expect("the world is embedded");
        selkie_tools::build::encode(&core).expect("a component")
    }

    /// The error of one call under these limits. Afterwards the host must still serve: the same guest (told by
    /// its own state only, which a fresh instance does not have) and the grid plugin beside it.
    fn call_error(&self, limits: Limits) -> ToolError {
        let component = self.component();
        let host = ToolHost::of_components([("evil", component.as_slice()), ("grid", GRID)], limits)
            .expect("the guest loads");
        let error = host.augment(&call(&host, "evil.tool"), &[task()]).expect_err("a refused call");
        assert_still_serving(&host);
        error
    }

    fn load_error(&self) -> ToolError {
        load_error(&self.component())
    }
}

fn manifest(name: &str, tool: &str) -> String {
    format!(
        r#"{{"manifest":1,"name":"{name}","version":"6.6.6","tools":[{{"name":"{name}.tool","kind":"puzzle_augmenter","summary":"Evil.",{tool}}}]}}"#
    )
}

fn load_error(component: &[u8]) -> ToolError {
    ToolHost::of_components([("evil.wasm", component)], Limits::default()).expect_err("a refused component")
}

/// Which limit ended a call, and its value.
fn limit_of(error: &ToolError) -> (Limit, u64) {
    let ToolError::Limit(exceeded) = error else { panic!("no limit: {error}") };
    assert!(exceeded.used >= exceeded.max, "{error}");
    (exceeded.limit, exceeded.max)
}

fn task() -> Task {
    let grid = Grid::from_rows(&[vec![1, 2, 3], vec![4, 5, 6]]).expect("a grid");
    let example = Example { input: grid.clone(), output: grid };
    Task { train: vec![example.clone()], test: example }
}

fn call(host: &ToolHost, tool: &str) -> PlannedCall {
    let plugin = host.catalogue().get(tool).expect(tool).plugin.clone();
    PlannedCall { tool: tool.into(), plugin, params: "{}".into(), seed: 1 }
}

fn assert_still_serving(host: &ToolHost) {
    let made = host.augment(&call(host, "grid.identity"), &[task()]).expect("the grid plugin still works");
    assert_eq!(made.made, [task()]);
}

#[test]
fn a_guest_that_behaves_is_served() {
    let component = Guest::good().component();
    let host =
        ToolHost::of_components([("evil", component.as_slice())], Limits::default()).expect("it loads");
    assert_eq!(host.augment(&call(&host, "evil.tool"), &[task()]).expect("an answer").made, [task()]);
}

#[test]
fn an_endless_loop_runs_out_of_fuel() {
    let error = Guest::augmenting("(loop $forever (br $forever))").call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit fuel: 2000000000 used, 2000000000 allowed");
}

#[test]
fn a_loop_that_fuel_does_not_see_meets_its_deadline() {
    let limits = Limits { call_fuel: 1 << 60, deadline: Duration::from_millis(100), ..Limits::default() };
    let start = Instant::now();
    let error = Guest::augmenting("(loop $forever (br $forever))").call_error(limits);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(limit_of(&error), (Limit::DeadlineMs, 100), "{error}");
}

#[test]
fn one_guests_deadline_is_not_anothers() {
    let slow = Guest::augmenting("(loop $forever (br $forever))").component();
    let limits = |ms| Limits { call_fuel: 1 << 60, deadline: Duration::from_millis(ms), ..Limits::default() };
    let host = ToolHost::of_components([("evil", slow.as_slice())], limits(400)).expect("it loads");
    let planned = call(&host, "evil.tool");
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4)
            .map(|index| {
                let (host, planned) = (&host, &planned);
                scope.spawn(move || {
                    std::thread::sleep(Duration::from_millis(50 * index));
                    let start = Instant::now();
                    let error = host.augment(planned, &[task()]).expect_err("a deadline");
                    assert_eq!(limit_of(&error), (Limit::DeadlineMs, 400), "{error}");
                    start.elapsed()
                })
            })
            .collect();
        for call in calls {
            let elapsed = call.join().expect("a thread");
            assert!(elapsed >= Duration::from_millis(390), "cut short after {elapsed:?}");
        }
    });
}

#[test]
fn a_memory_bomb_is_told_what_it_asked_for() {
    let error = Guest::augmenting("(loop $more (drop (memory.grow (i32.const 256))) (br $more))")
        .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 134742024 used, 134217728 allowed");
}

#[test]
fn a_table_counts_as_memory() {
    let grow = "(loop $more (drop (table.grow $table (ref.null func) (i32.const 1000000))) (br $more))";
    let error = Guest::augmenting(grow).call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 136524296 used, 134217728 allowed");
}

#[test]
fn many_memories_are_summed() {
    let memories: String = (0..7).map(|index| format!("(memory $m{index} 320)")).collect();
    let error = Guest::good().with("GLOBALS", &memories).load_error();
    assert_snapshot!(error, @"plugin evil.wasm, `describe`: stopped by the limit memory_bytes: 147324928 used, 134217728 allowed");
}

#[test]
fn many_memories_are_counted() {
    let memories: String = (0..8).map(|index| format!("(memory $m{index} 0)")).collect();
    let error = Guest::good().with("GLOBALS", &memories).load_error();
    assert_snapshot!(error, @"plugin evil.wasm, `describe`: stopped by the limit memories: 9 used, 8 allowed");
}

#[test]
fn endless_recursion_meets_the_end_of_its_stack() {
    let error = Guest::augmenting("(drop (call $deep (i32.const 0)))")
        .with(
            "FUNCTIONS",
            "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))",
        )
        .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit stack_bytes: 524288 used, 524288 allowed");
}

/// An answer of so many tasks, all zero: no copy of anything is needed to make it.
fn flood(tasks: usize) -> Guest {
    let bytes = tasks * 32;
    Guest::augmenting(&format!(
        "(local.set $tasks (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const {bytes})))
         (local.set $count (i32.const {tasks}))"
    ))
}

#[test]
fn a_flood_of_tasks_is_cut_by_number() {
    assert_snapshot!(flood(100_000).call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_items: 100000 used, 65536 allowed");
}

#[test]
fn a_flood_of_bytes_is_cut_before_it_is_copied() {
    assert_snapshot!(flood(3_000_000).call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_bytes: 67108865 used, 67108864 allowed");
}

#[test]
fn an_answer_that_lies_outside_the_memory_is_a_trap() {
    let error = Guest::augmenting("(local.set $count (i32.const 0x7ffffff))").call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: it failed: list pointer/length out of bounds of memory");
}

/// A refusal of this kind whose message is a megabyte of one byte.
fn refusal(kind: u8, byte: u8) -> Guest {
    Guest::augmenting(&format!(
        "(local.set $tasks (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1048576)))
         (memory.fill (local.get $tasks) (i32.const {byte}) (i32.const 1048576))
         (i32.store8 (i32.const 2048) (i32.const 1))
         (i32.store8 (i32.const 2052) (i32.const {kind}))
         (i32.store (i32.const 2056) (local.get $tasks))
         (i32.store (i32.const 2060) (i32.const 1048576))
         (return (i32.const 2048))"
    ))
}

#[test]
fn a_huge_error_message_is_cut() {
    let error = refusal(3, b'A').call_error(Limits::default());
    let ToolError::Guest { message, .. } = &error else { panic!("{error}") };
    assert_eq!(message.len(), 515);
    assert_snapshot!(error.to_string().replace(&"A".repeat(512), "A*512"), @"plugin evil 6.6.6, tool `evil.tool`: internal error: A*512...");
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
    assert_snapshot!(Guest::augmenting("unreachable").call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: it failed: wasm trap: wasm `unreachable` instruction executed");
}

#[test]
fn a_grid_with_too_few_cells_is_refused() {
    let error = Guest::augmenting("(i32.store8 (i32.add (local.get $tasks) (i32.const 8)) (i32.const 9))")
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
    let error = Guest::augmenting(
        "(i32.store8 (i32.load (i32.add (local.get $tasks) (i32.const 12))) (i32.const 12))",
    )
    .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: its answer is refused: task 0: colour 12 at row 0, column 0: colours are 0 to 9");
}

#[test]
fn a_task_of_countless_examples_is_refused() {
    let error = Guest::augmenting(
        "(i32.store (local.get $tasks)
            (call $alloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 2400)))
         (i32.store (i32.add (local.get $tasks) (i32.const 4)) (i32.const 100))",
    )
    .call_error(Limits::default());
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: its answer is refused: task 0 has 100 examples, at most 64 are taken");
}

#[test]
fn a_law_that_is_broken_is_seen() {
    let law =
        manifest("evil", r#""params":{"type":"object"},"laws":{"deterministic":true,"shape":"swapped"}"#);
    assert_snapshot!(Guest::describing(law).call_error(Limits::default()), @"plugin evil 6.6.6, tool `evil.tool`: its answer is refused: task 0 breaks its law: shapes are swapped");
}

#[test]
fn a_guest_that_shows_its_seed_is_shown_none_when_it_says_that_seeds_do_not_matter() {
    // The first cell of the answer is the seed.
    let shows_seed = "(i32.store8 (i32.load (i32.add (local.get $tasks) (i32.const 12))) (i32.wrap_i64 (local.get $seed)))";
    for (deterministic, seed) in [(false, 1), (true, 0)] {
        let laws = format!(r#""params":{{"type":"object"}},"laws":{{"deterministic":{deterministic}}}"#);
        let guest = Guest::describing(manifest("evil", &laws)).with("AUGMENT", shows_seed);
        let component = guest.component();
        let host =
            ToolHost::of_components([("evil", component.as_slice())], Limits::default()).expect("it loads");
        let made = host.augment(&call(&host, "evil.tool"), &[task()]).expect("an answer").made;
        assert_eq!(made[0].test.input.cells()[0], seed);
    }
}

#[test]
fn state_does_not_survive_a_call() {
    let counts = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (if (i32.gt_u (global.get $calls) (i32.const 1)) (then unreachable))";
    let component =
        Guest::augmenting(counts).with("GLOBALS", "(global $calls (mut i32) (i32.const 0))").component();
    let host =
        ToolHost::of_components([("evil", component.as_slice())], Limits::default()).expect("it loads");
    for _ in 0..3 {
        host.augment(&call(&host, "evil.tool"), &[task()]).expect("each call is the first");
    }
}

#[test]
fn an_endless_describe_runs_out_of_fuel() {
    assert_snapshot!(Guest::good().with("DESCRIBE", "(loop $forever (br $forever))").load_error(), @"plugin evil.wasm, `describe`: stopped by the limit fuel: 100000000 used, 100000000 allowed");
}

#[test]
fn a_huge_manifest_is_not_read() {
    let huge = "(return (call $huge))";
    let function = "(func $huge (result i32)
        (i32.store (i32.const 1024)
            (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1048576)))
        (memory.fill (i32.load (i32.const 1024)) (i32.const 32) (i32.const 1048576))
        (i32.store (i32.const 1028) (i32.const 1048576))
        (i32.const 1024))";
    let error = Guest::good().with("DESCRIBE", huge).with("FUNCTIONS", function).load_error();
    assert_snapshot!(error, @"plugin evil.wasm, `describe`: stopped by the limit manifest_bytes: 262145 used, 262144 allowed");
}

#[test]
fn a_bad_manifest_is_refused_by_its_rule() {
    let errors = [
        "{".to_string(),
        "[".repeat(5000),
        r#"{"manifest":1,"name":"evil","version":"1","tools":[],"grant":"everything"}"#.into(),
        r#"{"manifest":2,"name":"evil","version":"1","tools":[]}"#.into(),
        r#"{"manifest":1,"name":"evil","version":"1","tools":[]}"#.into(),
        r#"{"manifest":1,"name":"../../etc","version":"1","tools":[]}"#.into(),
        manifest("evil", r#""params":{"type":"object"}"#).replace("evil.tool", "rotate"),
        manifest("evil", r#""params":{"type":"object"}"#).replace("Evil.", "Evil.\\u001b[2J"),
    ];
    let errors: Vec<String> =
        errors.iter().map(|text| Guest::describing(text.as_str()).load_error().to_string()).collect();
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil.wasm: its manifest is refused: not a manifest's JSON: EOF while parsing an object at line 1 column 1
    plugin evil.wasm: its manifest is refused: not a manifest's JSON: invalid type: sequence, expected u32 at line 1 column 1
    plugin evil.wasm: its manifest is refused: not a manifest's JSON: unknown field `grant`, expected one of `manifest`, `name`, `version`, `asks`, `tools` at line 1 column 60
    plugin evil.wasm: its manifest is refused: manifest version 2, this host reads version 1
    plugin evil.wasm: its manifest is refused: 0 tools, 1 to 64 are allowed
    plugin evil.wasm: its manifest is refused: `../../etc` is no plugin name or version
    plugin evil.wasm: its manifest is refused: `rotate` is no tool name: `namespace.tool` in lower case, at most 64 bytes
    plugin evil.wasm: its manifest is refused: tool `evil.tool`: its summary is not one line of 1 to 300 characters
    "##);
}

#[test]
fn a_hostile_parameter_schema_is_refused_by_its_rule() {
    let deep = format!("{}{}{}", r#"{"type":"object","not":"#.repeat(60), "{}", "}".repeat(60));
    let schemas = [
        deep.as_str(),
        r#"{"type":"object","properties":{"a":{"$ref":"https://example.com/schema"}}}"#,
        r##"{"type":"object","properties":{"a":{"$ref":"#"}}}"##,
        r#"{"type":"object","properties":{"a":{"pattern":"(a+)+\\1$"}}}"#,
        r#"{"type":"object","properties":{"a":{"pattern":"(((a{99}){99}){99}){99}"}}}"#,
        r#"{"type":"object","required":"all"}"#,
        r#"{"type":"string"}"#,
    ];
    let describe = |schema: &str| manifest("evil", &format!(r#""params":{schema}"#));
    let errors: Vec<String> =
        schemas.iter().map(|schema| Guest::describing(describe(schema)).load_error().to_string()).collect();
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil.wasm: its manifest is refused: tool `evil.tool`: its parameter schema is deeper than 16
    plugin evil.wasm: its manifest is refused: tool `evil.tool`: its parameter schema has the keyword `$ref`; references are not allowed
    plugin evil.wasm: its manifest is refused: tool `evil.tool`: its parameter schema has the keyword `$ref`; references are not allowed
    plugin evil.wasm: its manifest is refused: tool `evil.tool`: its parameter schema is not valid: "(a+)+\\1$" is not a "regex"
    plugin evil.wasm: its manifest is refused: tool `evil.tool`: its parameter schema is not valid: "(((a{99}){99}){99}){99}" is not a "regex"
    plugin evil.wasm: its manifest is refused: tool `evil.tool`: its parameter schema is not valid: "all" is not of type "array"
    plugin evil.wasm: its manifest is refused: tool `evil.tool`: its parameter schema does not say "type": "object"
    "##);
}

#[test]
fn a_tool_belongs_to_one_plugin() {
    let thief = Guest::describing(
        manifest("evil", r#""params":{"type":"object"}"#).replace("evil.tool", "grid.flip"),
    );
    let thief = thief.component();
    let error =
        ToolHost::of_components([("grid", GRID), ("thief.wasm", thief.as_slice())], Limits::default())
            .expect_err("two tools of one name");
    assert_snapshot!(error, @"the plugins grid 0.1.0 and evil 6.6.6 both have a tool `grid.flip`");
}

#[test]
fn another_build_of_a_planned_plugin_is_not_called() {
    let component = Guest::good().component();
    let host =
        ToolHost::of_components([("evil", component.as_slice())], Limits::default()).expect("it loads");
    let mut planned = call(&host, "evil.tool");
    planned.plugin.digest = "0".repeat(64);
    let error = host.augment(&planned, &[task()]).expect_err("another digest");
    assert!(matches!(error, ToolError::OtherPlugin { .. }), "{error}");
    planned.tool = "evil.other".into();
    assert_snapshot!(host.augment(&planned, &[task()]).expect_err("no such tool"), @"no loaded plugin has a tool `evil.other`");
}

#[test]
fn a_component_of_another_world_is_refused() {
    let other = r#"(component
        (core module $m (func (export "run")))
        (core instance $i (instantiate $m))
        (func $run (canon lift (core func $i "run")))
        (export "run" (func $run)))"#;
    let empty = "(component)";
    let wrong_type = r#"(component
        (core module $m (func (export "run")))
        (core instance $i (instantiate $m))
        (func $run (canon lift (core func $i "run")))
        (instance $manifest (export "describe" (func $run)))
        (instance $augmenter (export "augment" (func $run)))
        (export "selkie:plugin/manifest@0.1.0" (instance $manifest))
        (export "selkie:plugin/puzzle-augmenter@0.1.0" (instance $augmenter)))"#;
    let errors =
        [other, empty, wrong_type].map(|text| load_error(&wat::parse_str(text).expect(text)).to_string());
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil.wasm: not of the world selkie:plugin/puzzle-plugin, text-plugin or grader-plugin: it exports run
    plugin evil.wasm: not of the world selkie:plugin/puzzle-plugin, text-plugin or grader-plugin: it exports nothing
    plugin evil.wasm: not of the world selkie:plugin/puzzle-plugin, text-plugin or grader-plugin: failed to convert function to given type: type mismatch with parameters: expected 4-tuple, found 0-tuple
    "##);
}

#[test]
fn an_import_is_refused_by_name() {
    let asks = r#"(component
        (import "wasi:clocks/wall-clock@0.2.0" (instance (export "now" (func (result u64)))))
        (import "selkie:plugin/weights" (func)))"#;
    assert_snapshot!(load_error(&wat::parse_str(asks).expect(asks)), @"plugin evil.wasm: it imports selkie:plugin/weights, which no plugin is given");
}

#[test]
fn what_is_not_a_component_is_refused() {
    let core = wat::parse_str("(module)").expect("a module");
    let errors = [&core, &b"(component)"[..], &b""[..], &b"\x7fELF\x02\x01\x01\0"[..]]
        .map(|bytes| load_error(bytes).to_string());
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil.wasm: not a WebAssembly component: a core module; `selkie plugin build` makes a component of it
    plugin evil.wasm: not a WebAssembly component: it does not start like WebAssembly
    plugin evil.wasm: not a WebAssembly component: it does not start like WebAssembly
    plugin evil.wasm: not a WebAssembly component: it does not start like WebAssembly
    "##);
    // The last of these ends within the code; a prefix that ends between the trailing sections is a component.
    for length in (0..47).map(|part| GRID.len() * part / 47) {
        let error = load_error(&GRID[..length]);
        assert!(matches!(error, ToolError::NotAComponent { .. }), "{length} bytes: {error}");
    }
}

#[test]
fn an_oversize_component_is_not_compiled() {
    let component = Guest::good().component();
    let limits = Limits { component_bytes: component.len() - 1, ..Limits::default() };
    let error = ToolHost::of_components([("evil.wasm", component.as_slice())], limits.clone())
        .expect_err("too large");
    assert_eq!(limit_of(&error), (Limit::ComponentBytes, component.len() as u64 - 1), "{error}");
    let limits = Limits { component_bytes: component.len(), ..limits };
    ToolHost::of_components([("evil.wasm", component.as_slice())], limits).expect("exactly at the limit");
}

#[test]
fn no_mutation_of_a_component_harms_the_host() {
    // Small and quick to compile, and every section of it is hit often.
    let component = Guest::good().component();
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let limits = Limits {
        call_fuel: 1_000_000,
        describe_fuel: 1_000_000,
        deadline: Duration::from_millis(500),
        ..Limits::default()
    };
    let (mut refused, mut failed, mut served) = (0, 0, 0);
    for round in 0..2200 {
        // Most rounds mutate the small guest; some the real plugin, whose compilation takes longer.
        let mut bytes = if round % 11 == 0 { GRID.to_vec() } else { component.clone() };
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(3) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                _ => drop(bytes.drain(at..(at + random(8)).min(bytes.len()))),
            }
        }
        match ToolHost::of_components([("mutant", bytes.as_slice())], limits.clone()) {
            Err(_) => refused += 1,
            Ok(host) => {
                let tool = host.catalogue().iter().next().expect("a tool").name.clone();
                match host.augment(&call(&host, &tool), &[task()]) {
                    Ok(_) => served += 1,
                    Err(_) => failed += 1,
                }
            }
        }
    }
    // All three happen, so the mutants reach every stage.
    assert!(refused > 0 && failed > 0 && served > 0, "{refused} refused, {failed} failed, {served} served");
}

#[test]
fn a_folder_of_plugins_is_loaded_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || HostOptions::new(Some(folder.path().into()));
    std::fs::write(folder.path().join("b.wasm"), Guest::good().component()).expect("a file");
    std::fs::write(folder.path().join("notes.txt"), "not a plugin").expect("a file");
    let host = ToolHost::new(options()).expect("a host");
    assert_eq!(host.plugins().map(|plugin| plugin.name.as_str()).collect::<Vec<_>>(), ["grid", "evil"]);

    std::fs::write(folder.path().join("a.wasm"), b"junk").expect("a file");
    assert_snapshot!(ToolHost::new(options()).expect_err("junk"), @"plugin `a.wasm`: not a WebAssembly component: it does not start like WebAssembly");

    let nowhere = HostOptions::new(Some(folder.path().join("nowhere")));
    assert!(matches!(ToolHost::new(nowhere), Err(ToolError::Read { .. })));
}
