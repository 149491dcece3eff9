//! `selkie plugin`, with the built-in components: no compiler is needed.

use std::path::Path;

use insta::assert_snapshot;
use regex::Regex;
use serde_json::{Value, json};

use crate::support::{Output, TestEnvironment, can_build_plugins, repository, tree};

/// A file of `plugins`, as an argument.
fn plugins(name: &str) -> String {
    repository().join("plugins").join(name).display().to_string()
}

/// A snapshot of what was printed; sizes are those of the compiler of the day.
fn shown(output: &Output) -> String {
    let text = output.to_string().replace(&plugins(""), "plugins/");
    Regex::new("[0-9]+ bytes").expect("a pattern").replace_all(&text, "[COUNT] bytes").into_owned()
}

#[test]
fn new_plugins_of_every_kind_and_language_are_whole() {
    let env = TestEnvironment::new();
    let rows = [
        (vec!["rusty"], "src/lib.rs", "rusty.swap_colors"),
        (vec!["rusty-text", "--kind", "text"], "src/lib.rs", "rusty_text.windows"),
        (vec!["judge2", "--kind", "grader"], "src/lib.rs", "judge2.shared_words"),
        (vec!["snake", "--language", "python"], "snake.py", "snake.rotate"),
        (vec!["script-y", "--language", "javascript"], "script_y.js", "script_y.rotate"),
        (vec!["sea", "--language", "c"], "sea.c", "sea.rotate"),
    ];
    for (args, main, tool) in rows {
        let said = env.run(&[&["plugin", "new"], &args[..]].concat(), "").succeeds();
        assert!(said.starts_with(args[0]), "{said}");
        let read = |name: &str| std::fs::read_to_string(env.path(args[0]).join(name)).expect("a file");
        for name in [main, "cases.json"] {
            assert!(read(name).contains(tool), "{tool} is not in {name}");
        }
        assert!(read("README.md").contains(args[0]) && read(".gitignore").contains("target"));
        assert!(env.path(args[0]).join("schemas/wit/since_v0.2.0/worlds.wit").is_file());
        for (path, bytes) in tree(&env.path(args[0])) {
            let text = String::from_utf8(bytes).expect("text");
            let is_left = text.contains("starter_") || text.contains("grid_") && path.ends_with("build.sh");
            assert!(!is_left, "{}", path.display());
        }
    }
    assert_snapshot!(shown(&env.run(&["plugin", "new", "rusty"], "")), @r"
    exit code: 2
    ----- stderr
    error: `rusty` is there already; a new plugin gets a new folder
    ");
    assert_snapshot!(shown(&env.run(&["plugin", "new", "Rusty/../x"], "")), @r"
    exit code: 2
    ----- stderr
    error: `Rusty/../x` is no name for a new plugin: it is lower-case letters, digits, `_` and `-`, and begins with a letter
    ");
    assert_snapshot!(shown(&env.run(&["plugin", "new", "while"], "")), @r"
    exit code: 2
    ----- stderr
    error: `while` is no name for a new plugin: it is a word of a programming language or a package that plugins use
    ");
    assert_snapshot!(shown(&env.run(&["plugin", "new", "sea2", "--language", "c", "--kind", "text"], "")), @r"
    exit code: 2
    ----- stderr
    error: there is no starter for a text augmenter in C: only Rust has one for each kind
    ");
    assert!(!env.path("sea2").exists() && !env.path("while").exists());
}

#[test]
fn new_plugins_in_rust_build_and_keep_their_word() {
    if !can_build_plugins() {
        return;
    }
    let env = TestEnvironment::new();
    for kind in ["puzzle", "text", "grader"] {
        let name = format!("new-{kind}");
        env.run(&["plugin", "new", &name, "--kind", kind], "").succeeds();
        let mut pack = env.command(&["plugin", "pack", &name, "--out", "dist"]);
        for variable in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            pack.envs(std::env::var_os(variable).map(|value| (variable, value)));
        }
        // Kept between runs: what is built for this machine need not be built again.
        pack.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("guide"));
        let packed = env.finish(pack, "").succeeds();
        assert!(packed.contains("laws checked") && !packed.contains(" 0 cases"), "{packed}");
    }
}

#[test]
fn check_says_what_a_plugin_is_and_which_laws_hold() {
    let env = TestEnvironment::new();
    let check = |name: &str| env.run(&["plugin", "check", &plugins(name), "--cases", "20"], "");
    assert_snapshot!(shown(&check("dist/judge.wasm")), @r#"
    exit code: 0
    ----- stdout
    judge 0.1.0: sha256 [DIGEST], [COUNT] bytes
      made for version 0.2 of the plugin interface
      imports selkie:plugin/log@0.2.0: given to every plugin
      imports selkie:plugin/host-model@0.2.0: needs "asks": ["host_model"] in its manifest, and `--grant PLUGIN`
      a stand-in answers for the host model here
    judge.likelihood
      schema         held in 20 cases
      repeatable     held in 20 cases
      deterministic  held in 20 cases
      not declared: shape, growth_max, palette_closed, involution, inverse, items_max, one_on_equal, symmetric
    every law that was tested held
    "#);
    let graders = ["plugin", "check", &plugins("dist/graders.wasm"), "--cases", "20", "--json"];
    let graders = env.run(&graders, "").json();
    assert_eq!((&graders["kept"], &graders["contract"]), (&json!(true), &json!("0.2")), "{graders:#}");
    let f1 = &graders["tools"][1];
    assert_eq!(f1["laws"]["symmetric"], json!({ "outcome": "held", "cases": 20 }), "{f1:#}");
    assert_snapshot!(shown(&check("text/cases.json")), @r"
    exit code: 2
    ----- stderr
    error: plugin `cases.json`: not a WebAssembly component: it does not start like WebAssembly
    hint: `selkie plugin inspect FILE` shows what can be read of a file that does not load
    ");
}

#[test]
fn cases_run_in_the_sandbox_and_the_first_difference_is_shown() {
    let env = TestEnvironment::new();
    let test = |plugin: &str, cases: &str| {
        env.run(&["plugin", "test", &plugins(&format!("dist/{plugin}.wasm")), "--cases", cases], "")
    };
    for plugin in ["grid", "text", "graders", "judge"] {
        assert!(
            test(plugin, &plugins(&format!("{plugin}/cases.json"))).succeeds().contains("all as expected")
        );
    }
    let cases = json!([
        { "name": "a wrong cell", "tool": "grid.transpose",
          "tasks": [{ "train": [{ "input": [[1, 2]], "output": [[3]] }], "test": [{ "input": [[4]], "output": [[5]] }] }],
          "made": [{ "train": [{ "input": [[1], [7]], "output": [[3]] }], "test": [{ "input": [[4]], "output": [[5]] }] }] },
        { "name": "another error", "tool": "grid.rotate", "params": { "degrees": 45 },
          "tasks": [], "error": "unsupported_input" },
        { "name": "no such tool", "tool": "grid.rotat", "tasks": [], "error": "unknown_tool" },
    ]);
    env.write("cases.json", cases.to_string());
    assert_snapshot!(shown(&test("grid", "cases.json")), @r"
    exit code: 1
    ----- stdout
    DIFFERS  a wrong cell (grid.transpose)
      at       made[0].train[0].input
      expected [[1],[7]]
      came     [[1],[2]]
    DIFFERS  another error (grid.rotate)
      at       error
      expected unsupported_input
      came     plugin grid 0.1.0, tool `grid.rotate`: invalid parameters: 45 degrees is not 90, 180 or 270 at line 1 column 14
    ok       no such tool (grid.rotat)
    3 cases, 2 not as expected
    ");
    env.write("cases.json", json!([{ "tool": "grid.rotate", "tasks": [], "mode": [] }]).to_string());
    assert_snapshot!(shown(&test("grid", "cases.json")), @r"
    exit code: 2
    ----- stderr
    error: `cases.json`: case `number 0`: unknown field `mode`, expected one of `tool`, `params`, `seed`, `tasks`, `sources`, `submissions`, `made`, `error`
    ");
    assert_snapshot!(shown(&env.run(&["plugin", "test", &plugins("dist/grid.wasm")], "")), @r"
    exit code: 2
    ----- stderr
    error: there are no cases for `plugins/dist/grid.wasm`: name a file with --cases
    ");
}

#[test]
fn bench_shows_what_is_used_of_each_limit() {
    let env = TestEnvironment::new();
    let bench = |more: &[&str]| env.run(&[&["plugin", "bench"], more].concat(), "");
    let (graders, judge) = (plugins("dist/graders.wasm"), plugins("dist/judge.wasm"));
    let report = bench(&[&graders, "--repeats", "1", "--json"]).json();
    for tool in report["tools"].as_array().expect("tools") {
        assert_eq!((&tool["failed"], &tool["measured"]["items"]), (&json!(0), &json!(1024)), "{tool:#}");
        let fuel = &tool["measured"]["budgets"][0];
        assert!(fuel["limit"] == "fuel" && fuel["used"].as_u64() > Some(0), "{tool:#}");
    }
    // A batch as large as the host's asks the model more than it may: the largest half of it that fits is measured.
    let report = bench(&[&judge, "--repeats", "1", "--json"]).json();
    let tool = &report["tools"][0];
    assert!(tool["error"].as_str().is_some_and(|error| error.contains("model_calls")), "{tool:#}");
    assert!(tool["measured"]["budgets"][4]["used"].as_u64() > Some(0), "{tool:#}");
    let (grid, cases) = (plugins("dist/grid.wasm"), plugins("grid/cases.json"));
    let over = bench(&[&grid, "--cases", &cases, "--repeats", "1", "--fail-over", "0.8"]);
    assert_eq!(over.code, Some(1), "{over}");
    assert!(
        over.stderr.starts_with("no: over 0.8%: ") && over.stderr.contains("grid.rotate memory_bytes 0."),
        "{over}"
    );
    assert_eq!(bench(&[&grid, "--cases", &cases, "--repeats", "1", "--fail-over", "60"]).code, Some(0));
}

#[test]
fn a_tool_of_one_component_runs_and_its_log_is_shown() {
    let env = TestEnvironment::new();
    let grid = plugins("dist/grid.wasm");
    let run = |args: &[&str]| env.run(&[&["plugin", "run", &grid], args].concat(), "[[1,2,3]]");
    assert_snapshot!(shown(&run(&["grid.rotate", "--params", r#"{"degrees":90}"#, "--log"])), @r"
    exit code: 0
    ----- stdout
    [[3],[2],[1]]
    ");
    assert_snapshot!(shown(&run(&["text.split"])), @r#"
    exit code: 2
    ----- stderr
    error: this tool call is not valid
      unknown_tool at /tool: expected one of grid.flip, grid.chain, grid.repeat, grid.concat, grid.reflect, grid.rotate, grid.identity, grid.upscale, grid.translate, grid.transpose, grid.increase_width, grid.increase_height and 2 more, found "text.split"
    hint: `selkie tool list --json` prints every tool's parameters
    "#);
}

#[test]
fn a_component_is_inspected_even_if_it_is_refused() {
    let env = TestEnvironment::new();
    let inspect = |file: &str| env.run(&["plugin", "inspect", file], "");
    assert_snapshot!(shown(&inspect(&plugins("dist/judge.wasm"))), @r#"
    exit code: 0
    ----- stdout
    plugins/dist/judge.wasm: [COUNT] bytes, sha256 [DIGEST]
      made for version 0.2 of the plugin interface
      imports selkie:plugin/log@0.2.0: given to every plugin
      imports selkie:plugin/host-model@0.2.0: needs "asks": ["host_model"] in its manifest, and `--grant PLUGIN`
      plugin judge 0.1.0, asks for host_model
    judge.likelihood: a grader of edit
      How likely the model finds a self-edit's documents after the passage, and how unlikely after its title alone.
      params {"type":"object","properties":{"documents_max":{"type":"integer","minimum":1,"maximum":32,"default":8}},"additionalProperties":false}
      laws deterministic
    "#);
    let wat = r#"(component
        (import "wasi:clocks/wall-clock@0.2.0" (instance (export "now" (func))))
        (import "evil:network/sockets" (instance (export "open" (func)))))"#;
    env.write("greedy.wasm", wat::parse_str(wat).expect("a component"));
    env.write(
        "future.wasm",
        wat::parse_str(r#"(component (instance $i) (export "selkie:plugin/manifest@0.9.1" (instance $i)))"#)
            .expect("a component"),
    );
    env.write("text.wasm", "not WebAssembly");
    assert_snapshot!(shown(&inspect("greedy.wasm")), @r"
    exit code: 1
    ----- stdout
    greedy.wasm: [COUNT] bytes, sha256 [DIGEST]
      refused: plugin `greedy.wasm`: it imports evil:network/sockets, which no plugin is given
      not a plugin: it exports no manifest
      imports wasi:clocks/wall-clock@0.2.0: links, and reaches nothing
      imports evil:network/sockets: given to no plugin
    ");
    assert_snapshot!(shown(&inspect("future.wasm")), @r"
    exit code: 1
    ----- stdout
    future.wasm: [COUNT] bytes, sha256 [DIGEST]
      refused: plugin `future.wasm`: it is made for version 0.9.1 of the plugin interface, this host runs 0.1, 0.2
      made for version 0.9.1 of the plugin interface
      imports nothing
    ");
    assert_snapshot!(shown(&inspect("text.wasm")), @r"
    exit code: 1
    ----- stdout
    text.wasm: [COUNT] bytes, sha256 [DIGEST]
      refused: plugin `text.wasm`: not a WebAssembly component: it does not start like WebAssembly
    ");
    let json = env.run(&["plugin", "inspect", "greedy.wasm", "--json"], "");
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["imports"][1], json!({ "name": "evil:network/sockets", "needs": "refused" }));
}

#[test]
fn a_plugin_is_packed_if_it_keeps_its_word() {
    let env = TestEnvironment::new();
    let (graders, cases) = (plugins("dist/graders.wasm"), plugins("graders/cases.json"));
    let pack =
        |cases: &str, out: &str| env.run(&["plugin", "pack", &graders, "--cases", cases, "--out", out], "");
    assert_snapshot!(shown(&pack(&cases, "one")), @r"
    exit code: 0
    ----- stdout
    one/graders-0.1.0.wasm: graders 0.1.0, sha256 [DIGEST]
    one/graders-0.1.0.json: what is in it
      laws checked, 13 cases as expected
    ");
    pack(&cases, "two").succeeds();
    let files = |folder: &str| tree(&env.path(folder)).into_values().collect::<Vec<_>>();
    assert!(files("one") == files("two"), "the same plugin, other files");
    let list = std::fs::read_to_string(env.path("one/graders-0.1.0.json")).expect("the list");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["sha256"].as_str().map(str::len), Some(64));
    assert_eq!(
        std::fs::read(env.path("one/graders-0.1.0.wasm")).expect("a copy"),
        std::fs::read(&graders).expect("it")
    );
    env.write("cases.json", r#"[{"tool": "grade.token_f1", "submissions": [{"answers": {"left": "a b", "right": "b"}}], "made": [0.5]}]"#);
    assert_snapshot!(shown(&pack("cases.json", "three")), @r"
    exit code: 1
    ----- stderr
    no: graders 0.1.0 is not packed
    DIFFERS  number 0 (grade.token_f1)
      at       made[0]
      expected 0.5
      came     1.0
    1 cases, 1 not as expected
    ");
    assert!(!env.path("three").exists());
}
