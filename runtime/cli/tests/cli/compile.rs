//! Compilation in a process that can be killed: the limit that takes a program to test.

use std::process::Command;
use std::time::Duration;

use insta::assert_snapshot;
use selkie_edit::{Example, Grid, PlannedCall, Task};
use selkie_tools::{HostOptions, Limit, Limits, ToolError, ToolHost, Worker};

use crate::support::{TestEnvironment, repository};

/// This program as the worker.
fn selkie() -> Worker {
    Worker { program: env!("CARGO_BIN_EXE_selkie").into(), args: vec!["worker".into()] }
}

/// A shell's command as the worker.
fn shell(command: &str) -> Worker {
    Worker { program: "/bin/sh".into(), args: vec!["-c".into(), command.into()] }
}

/// A host of one component, alone in a folder.
fn host_of(
    place: &TestEnvironment,
    file: &str,
    worker: Worker,
    compile: Duration,
) -> Result<ToolHost, ToolError> {
    let folder = place.path("plugins");
    std::fs::create_dir_all(&folder).expect("a folder");
    let source = repository().join(file);
    std::fs::copy(&source, folder.join(source.file_name().expect("a name"))).expect("a copy");
    let limits = Limits { compile, ..Limits::default() };
    let options = HostOptions::new(Some(folder));
    ToolHost::new(HostOptions { built_in: false, worker: Some(worker), limits, ..options })
}

fn host(place: &TestEnvironment, worker: Worker, compile: Duration) -> Result<ToolHost, ToolError> {
    host_of(place, "plugins/dist/grid.wasm", worker, compile)
}

fn task() -> Task {
    let grid = Grid::from_rows(&[vec![1, 2, 3]]).expect("a grid");
    Task { train: Vec::new(), test: Example { input: grid.clone(), output: grid } }
}

#[test]
fn a_component_is_compiled_by_another_process() {
    let place = TestEnvironment::new();
    let host = host(&place, selkie(), Duration::from_secs(120)).expect("it compiles");
    let plugin = host.plugins().next().expect("a plugin").clone();
    let call = PlannedCall { tool: "grid.identity".into(), plugin, params: "{}".into(), seed: 0 };
    assert_eq!(host.augment(&call, &[task()]).expect("an answer").made, [task()]);
}

#[test]
fn a_compiler_that_does_not_end_is_killed_at_its_deadline() {
    let place = TestEnvironment::new();
    let pid = place.path("pid");
    // It would take a minute, and leaves its number.
    let sleeps = shell(&format!("echo $$ > '{}'; exec sleep 60", pid.display()));
    let error = host(&place, sleeps, Duration::from_secs(2)).expect_err("a deadline");
    let ToolError::Limit(exceeded) = &error else { panic!("{error}") };
    assert_eq!((exceeded.limit, exceeded.max), (Limit::CompileMs, 2000));
    assert_snapshot!(error, @"plugin `grid.wasm`, compilation: stopped by the limit compile_ms: 2000 used, 2000 allowed");
    let pid = std::fs::read_to_string(pid).expect("the shell ran");
    let kill = Command::new("/bin/sh").args(["-c", &format!("kill -0 {pid}")]).output().expect("a shell");
    assert!(!kill.status.success(), "process {pid} is still there");
}

#[test]
fn a_component_that_takes_long_to_compile_is_given_up() {
    let place = TestEnvironment::new();
    // 30 kB, and some seconds of the compiler.
    let second = Duration::from_secs(1);
    let error = host_of(&place, "runtime/tools/hostile/slow_to_compile.wasm", selkie(), second);
    assert_snapshot!(error.expect_err("a deadline"), @"plugin `slow_to_compile.wasm`, compilation: stopped by the limit compile_ms: 1000 used, 1000 allowed");
}

#[test]
fn a_compiler_that_fails_or_lies_is_an_error() {
    let place = TestEnvironment::new();
    let errors = ["exit 3", "kill -9 $$", "echo nonsense", "printf 'not today'; exit 1", ":"]
        .map(|command| host(&place, shell(command), Duration::from_secs(60)).expect_err(command).to_string());
    assert_snapshot!(errors.join("\n"), @r##"
    the plugin engine does not start: the process that compiles ended with exit status: 3
    the plugin engine does not start: the process that compiles ended with signal: 9 (SIGKILL)
    plugin `grid.wasm`: not a WebAssembly component: what was compiled does not load
    plugin `grid.wasm`: not a WebAssembly component: not today
    plugin `grid.wasm`: not a WebAssembly component: what was compiled does not load
    "##);
    let nowhere = Worker { program: "/nowhere/selkie".into(), args: Vec::new() };
    let error = host(&place, nowhere, Duration::from_secs(60)).expect_err("no program");
    assert_snapshot!(error, @"the plugin engine does not start: the process that compiles does not start from `/nowhere/selkie`: No such file or directory (os error 2)");
}
