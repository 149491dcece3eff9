//! `selkie doctor`: what is there, and what to do where it is not.

use std::process::Command;

use insta::assert_snapshot;
use regex::Regex;

use crate::support::TestEnvironment;

/// What depends on the machine and the build, by the line that it is in.
fn stable(text: &str) -> String {
    let lines = [
        (r"(?m)^(OK|NOTE)  *program .*(\n {16}.*)?", "[PROGRAM]"),
        (r"(?m)^(OK|NOTE)  *cpu .*(\n {16}.*)?", "[CPU]"),
        (r"(?m)^OK  *memory .*", "[MEMORY]"),
        (r"(?m)^(OK|NOTE)  *plugins .*(\n {16}.*)?", "[PLUGINS]"),
        (r"[0-9]+ tools of [^\n]*", "[TOOLS]"),
        (r"(?m)(^OK  *attack .*\n)+", "[ATTACKS]\n"),
    ];
    lines.iter().fold(text.to_owned(), |text, (pattern, name)| {
        Regex::new(pattern).expect("a pattern").replace_all(&text, *name).into_owned()
    })
}

#[test]
fn doctor_finds_everything_needed() {
    let place = TestEnvironment::new();
    let output = place.run(&["doctor", "--device", "cpu"], "");
    assert_snapshot!(stable(&output.to_string()), @"
    exit code: 0
    ----- stdout
    [PROGRAM]
    [CPU]
    [MEMORY]
    OK    gpu       not looked for, because of `--device cpu`
    OK    device    models are computed on cpu, f32
    OK    model     pup-facts ([DIGEST]) opens and computes
    OK    model     pup-puzzles ([DIGEST]) opens and computes
    OK    tools     [TOOLS]
    [ATTACKS]
    OK    home      [TEMP]/home: nothing kept yet, writable
    [PLUGINS]
    ");
    assert!(!place.path("home").exists(), "it changes nothing");
    let text = place.run(&["doctor"], "").succeeds();
    assert!(text.contains("gpu"), "{text}");
    let report = place.run(&["doctor", "--json"], "").json();
    assert_eq!(report["ok"], true);
    let lines = report["lines"].as_array().expect("lines");
    let mut names: Vec<&str> = lines.iter().map(|line| line["name"].as_str().expect("a name")).collect();
    names.dedup();
    let all = ["program", "cpu", "memory", "gpu", "device", "model", "tools", "attack", "home", "plugins"];
    assert_eq!(names, all);
    let attacks = lines.iter().filter(|line| line["name"] == "attack").map(|line| {
        let (how, after) = line["found"].as_str().expect("text").split_once(" after ").expect("a time");
        assert!(after.ends_with(" ms"), "{after}");
        how
    });
    assert_snapshot!(attacks.collect::<Vec<_>>().join("\n"), @r##"
    an endless loop: ended by fuel (2000000000)
    an endless loop that fuel does not see: ended by deadline_ms (200, shortened for this)
    an endless loop in `describe`: ended by fuel (100000000)
    waiting for a host model that does not answer: ended by deadline_ms (200, shortened for this)
    growing a memory: ended by memory_bytes (134217728)
    growing a table: ended by memory_bytes (134217728)
    many instances: ended by instances (32)
    many memories: ended by memories (8)
    many tables: ended by tables (16)
    endless recursion: ended by stack_bytes (524288)
    a flood of tasks: ended by output_items (65536)
    a flood of bytes: ended by output_bytes (67108864)
    a flood of log: ended by log_bytes (65536)
    a flood of manifest: ended by manifest_bytes (262144)
    an oversize component: ended by component_bytes (33554432)
    a component that takes long to compile: ended by compile_ms (500, shortened for this)
    "##);
}

#[test]
fn doctor_says_what_to_do() {
    let place = TestEnvironment::new();
    // No machine has so many GPUs; a build without CUDA has none.
    let output = place.run(&["doctor", "--device", "cuda:4000000"], "");
    assert_eq!(output.code, Some(1), "{output}");
    assert!(output.stdout.contains("FAULT gpu       `cuda:4000000` cannot be used: "), "{output}");
    place.write("plugins.txt", "");
    place.write("file", "");
    let output = place.run(&["doctor", "--device", "cpu", "--plugins", "plugins.txt", "--home", "file"], "");
    assert_snapshot!(stable(&output.to_string()), @"
    exit code: 1
    ----- stdout
    [PROGRAM]
    [CPU]
    [MEMORY]
    OK    gpu       not looked for, because of `--device cpu`
    OK    device    models are computed on cpu, f32
    OK    model     pup-facts ([DIGEST]) opens and computes
    OK    model     pup-puzzles ([DIGEST]) opens and computes
    FAULT tools     cannot read `plugins.txt`: Not a directory (os error 20)
                    look at the components of `plugins.txt` with `selkie plugin check`
    [ATTACKS]
    FAULT home      file is a file, and a store needs a folder there
                    name another folder with `--home`
    [PLUGINS]
    ");
    // Without a compiler there is still everything that adapting needs.
    let mut command: Command = place.command(&["doctor", "--device", "cpu"]);
    command.env("PATH", "");
    let output = place.finish(command, "");
    let text = output.to_string();
    assert_eq!(output.code, Some(0), "{text}");
    assert!(text.contains("NOTE  plugins   `selkie plugin build` cannot: "), "{text}");
}

#[test]
fn devices_that_are_not_there_are_refused_by_every_command() {
    let place = TestEnvironment::new();
    let output = place.run(&["doctor", "--device", "gpu"], "");
    assert_snapshot!(output, @"
    exit code: 2
    ----- stderr
    error: invalid value 'gpu' for '--device <DEVICE>': expected auto, cpu, cuda, or cuda:N with the number of a device

    For more information, try '--help'.
    ");
    let passage = r#"{"title": "T", "context": "A.", "questions": [{"question": "Q?", "answer": "A"}]}"#;
    place.write("passage.json", passage);
    let output = place.run(&["adapt", "passage.json", "--device", "cuda:4000000"], "");
    assert_eq!(output.code, Some(2), "{output}");
    assert!(output.stderr.starts_with("error: device: `cuda:4000000` cannot be used: "), "{output}");
}
