//! Attacks before any call: `describe`, the manifest, its schemas, and the component itself.

use std::time::Duration;

use insta::assert_snapshot;
use selkie_tools::{HostOptions, Limit, Limits, ToolError, ToolHost};

use crate::guest::{
    GRID, Guest, Kind, call_tool, leb, limit_of, load_error, manifest, planned, section, sections_of, task,
    with_instances,
};

/// A function that describes the plugin by a megabyte of spaces.
pub(crate) const HUGE_MANIFEST: &str = "(func $huge (result i32)
    (i32.store (i32.const 1024)
        (call $alloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1048576)))
    (memory.fill (i32.load (i32.const 1024)) (i32.const 32) (i32.const 1048576))
    (i32.store (i32.const 1028) (i32.const 1048576))
    (i32.const 1024))";

#[test]
fn many_memories_are_summed() {
    let memories: String = (0..7).map(|index| format!("(memory $m{index} 320)")).collect();
    let error = Guest::good(Kind::Puzzle).with("GLOBALS", &memories).load_error();
    assert_snapshot!(error, @"plugin evil.wasm, `describe`: stopped by the limit memory_bytes: 147324928 used, 134217728 allowed");
}

#[test]
fn many_memories_are_counted() {
    let memories: String = (0..8).map(|index| format!("(memory $m{index} 0)")).collect();
    let error = Guest::good(Kind::Puzzle).with("GLOBALS", &memories).load_error();
    assert_snapshot!(error, @"plugin evil.wasm, `describe`: stopped by the limit memories: 9 used, 8 allowed");
}

#[test]
fn an_endless_describe_runs_out_of_fuel() {
    assert_snapshot!(Guest::good(Kind::Puzzle).with("DESCRIBE", "(loop $forever (br $forever))").load_error(), @"plugin evil.wasm, `describe`: stopped by the limit fuel: 100000000 used, 100000000 allowed");
}

#[test]
fn a_huge_manifest_is_not_read() {
    let huge = "(return (call $huge))";
    let error =
        Guest::good(Kind::Puzzle).with("DESCRIBE", huge).with("FUNCTIONS", HUGE_MANIFEST).load_error();
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
    let errors: Vec<String> = errors
        .iter()
        .map(|text| Guest::describing(Kind::Puzzle, text.as_str()).load_error().to_string())
        .collect();
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
    let errors: Vec<String> = schemas
        .iter()
        .map(|schema| Guest::describing(Kind::Puzzle, describe(schema)).load_error().to_string())
        .collect();
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
        Kind::Puzzle,
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
    let component = Guest::good(Kind::Puzzle).component();
    let host =
        ToolHost::of_components([("evil", component.as_slice())], Limits::default()).expect("it loads");
    let mut planned = planned(&host, "evil.tool");
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
    let component = Guest::good(Kind::Puzzle).component();
    let limits = Limits { component_bytes: component.len() - 1, ..Limits::default() };
    let error = ToolHost::of_components([("evil.wasm", component.as_slice())], limits.clone())
        .expect_err("too large");
    assert_eq!(limit_of(&error), (Limit::ComponentBytes, component.len() as u64 - 1), "{error}");
    let limits = Limits { component_bytes: component.len(), ..limits };
    ToolHost::of_components([("evil.wasm", component.as_slice())], limits).expect("exactly at the limit");
}

#[test]
#[expect(clippy::print_stdout, reason = "how many mutants came how far is for people to read")]
fn no_mutation_of_a_component_harms_the_host() {
    // Small and quick to compile, and every section of them is hit often.
    let guests = [
        Guest::good(Kind::Old),
        Guest::good(Kind::Puzzle).logging(),
        Guest::good(Kind::Text).asking(),
        Guest::good(Kind::Grader).logging(),
    ];
    let components = guests.map(|guest| guest.component());
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
        // Some rounds mutate the real plugin, whose compilation takes longer.
        let mut bytes = if round % 11 == 0 { GRID.to_vec() } else { components[round % 4].clone() };
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
                let tool = host.catalogue().iter().next().expect("a tool");
                match call_tool(&host, &tool.name, tool.kind) {
                    Ok(_) => served += 1,
                    Err(_) => failed += 1,
                }
            }
        }
    }
    println!("{refused} refused, {failed} failed, {served} served");
    // All three happen, so the mutants reach every stage.
    assert!(refused > 0 && failed > 0 && served > 0, "{refused} refused, {failed} failed, {served} served");
}

#[test]
fn a_folder_of_plugins_is_loaded_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = || HostOptions::new(Some(folder.path().into()));
    std::fs::write(folder.path().join("b.wasm"), Guest::good(Kind::Puzzle).component()).expect("a file");
    std::fs::write(folder.path().join("notes.txt"), "not a plugin").expect("a file");
    let host = ToolHost::new(options()).expect("a host");
    assert_eq!(
        host.plugins().map(|plugin| plugin.name.as_str()).collect::<Vec<_>>(),
        ["grid", "text", "graders", "judge", "evil"]
    );

    std::fs::write(folder.path().join("a.wasm"), b"junk").expect("a file");
    assert_snapshot!(ToolHost::new(options()).expect_err("junk"), @"plugin `a.wasm`: not a WebAssembly component: it does not start like WebAssembly");

    let nowhere = HostOptions::new(Some(folder.path().join("nowhere")));
    assert!(matches!(ToolHost::new(nowhere), Err(ToolError::Read { .. })));
}

/// A component of the same bytes with another version of the interface in its names.
fn of_version(component: &[u8], version: &str) -> Vec<u8> {
    let mut bytes = component.to_vec();
    let places: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"@0.2.0")).collect();
    for at in places {
        bytes[at + 1..at + 6].copy_from_slice(version.as_bytes());
    }
    bytes
}

#[test]
fn another_version_of_the_interface_is_refused_and_both_are_named() {
    let errors = Kind::NEW.map(|kind| {
        let component = Guest::good(kind).component();
        ["0.3.0", "1.0.0", "0.0.2"].map(|version| {
            let error = load_error(&of_version(&component, version));
            assert!(matches!(error, ToolError::UnsupportedContract { .. }), "{error}");
            error.to_string()
        })
    });
    assert_eq!(errors[0], errors[1]);
    assert_eq!(errors[0], errors[2]);
    assert_snapshot!(errors[0].join("\n"), @r##"
    plugin evil.wasm: it is made for version 0.3.0 of the plugin interface, this host runs 0.1, 0.2
    plugin evil.wasm: it is made for version 1.0.0 of the plugin interface, this host runs 0.1, 0.2
    plugin evil.wasm: it is made for version 0.0.2 of the plugin interface, this host runs 0.1, 0.2
    "##);
    // A later one of the same line is compatible by its number.
    let component = of_version(&Guest::good(Kind::Text).logging().component(), "0.2.7");
    ToolHost::of_components([("evil.wasm", component.as_slice())], Limits::default()).expect("it loads");
}

#[test]
fn many_instances_and_tables_are_counted() {
    let component = Guest::good(Kind::Puzzle).component();
    let modules = ["(module)", "(module (memory 0))", "(module (table 0 funcref))"];
    let errors = modules.map(|module| load_error(&with_instances(&component, module, 50)).to_string());
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil.wasm, `describe`: stopped by the limit instances: 33 used, 32 allowed
    plugin evil.wasm, `describe`: stopped by the limit memories: 9 used, 8 allowed
    plugin evil.wasm, `describe`: stopped by the limit tables: 17 used, 16 allowed
    "##);
}

#[test]
fn a_memory_that_starts_too_large_is_refused_when_it_is_made() {
    let errors = ["(module (memory 65536))", "(module (table 0xffffffff funcref))"].map(|module| {
        load_error(&with_instances(&Guest::good(Kind::Puzzle).component(), module, 1)).to_string()
    });
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil.wasm, `describe`: stopped by the limit memory_bytes: 4295491592 used, 134217728 allowed
    plugin evil.wasm, `describe`: stopped by the limit memory_bytes: 34360262656 used, 134217728 allowed
    "##);
}

#[test]
fn a_truncated_component_is_refused_or_has_all_its_code() {
    for kind in Kind::NEW {
        let component = Guest::good(kind).logging().component();
        for length in 0..component.len() {
            let bytes = &component[..length];
            let loaded = ToolHost::of_components([("evil.wasm", bytes)], Limits::default());
            let is_named = match loaded {
                // What ends between the trailing sections is a component, and may lack nothing.
                Ok(host) => host.plugins().count() == 1,
                Err(ToolError::NotAComponent { .. } | ToolError::WrongWorld { .. }) => true,
                Err(error) => panic!("{length} bytes: {error}"),
            };
            assert!(is_named);
        }
    }
}

/// A component with another one in it, which is instantiated with it.
fn with_inner(component: &[u8], inner: &str) -> Vec<u8> {
    let inner = wat::parse_str(inner).expect("a component");
    let index = sections_of(component, 4);
    let instance = [vec![1, 0], leb(index), vec![0]].concat();
    [component.to_vec(), section(4, &inner), section(5, &instance)].concat()
}

/// Handles are the host's memory, and no memory of the guest's.
#[test]
fn a_flood_of_handles_of_its_own_is_refused() {
    let flood = r#"(component
        (type $handle (resource (rep i32)))
        (core func $new (canon resource.new $handle))
        (core module $m
            (import "host" "new" (func $new (param i32) (result i32)))
            (func $main (loop $more (drop (call $new (i32.const 0))) (br $more)))
            (start $main))
        (core instance (instantiate $m (with "host" (instance (export "new" (func $new)))))))"#;
    let component = with_inner(&Guest::good(Kind::Puzzle).component(), flood);
    assert_snapshot!(load_error(&component), @"plugin evil.wasm: not of the world selkie:plugin/puzzle-plugin, text-plugin or grader-plugin: cannot allocate another handle: store handle limit exceeded");
}

#[test]
fn types_that_double_and_names_without_number_are_refused_in_short() {
    // Each type is two of the one before it: 2^64 in the end.
    let mut doubling = String::from("(component (type $t0 (tuple u8 u8))");
    for index in 1..64 {
        let before = index - 1;
        doubling += &format!("(type $t{index} (tuple $t{before} $t{before}))");
    }
    doubling += "(import \"f\" (func (param \"a\" $t63))))";
    let imports: String =
        (0..5000).map(|index| format!("(import \"a{index}-{}\" (func))", "b".repeat(400))).collect();
    let many = format!("(component {imports})");
    let errors = [doubling, many].map(|text| {
        let error = load_error(&wat::parse_str(&text).expect("a component")).to_string();
        error.replace(&"b".repeat(400), "b*400")
    });
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil.wasm: not a WebAssembly component: failed to parse WebAssembly module: effective type size exceeds the limit of 1000000 (at offset 0x54)
    plugin evil.wasm: it imports a0-b*400, a1-b*400, a2-b*400, a3-b*400, a4-b*400, a5-b*400, a6-b*400, a7-b*400 and 4992 more, which no plugin is given
    "##);
}

#[test]
fn countless_instances_are_counted_and_not_made() {
    let good = Guest::good(Kind::Puzzle).component();
    assert_snapshot!(load_error(&with_instances(&good, "(module)", 1_000_000)), @"plugin evil.wasm: not a WebAssembly component: failed to parse WebAssembly module: instances count exceeds limit of 1000 (at offset 0xb46)");
}
