//! `selkie chat` by scripts on its standard input.

#[cfg(unix)]
use std::io::Write;
#[cfg(unix)]
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{TestEnvironment, example};

/// A self-edit of the passage that is quick and helps.
const EDIT: &str =
    r#"{"version":1,"data":{"include_source":true},"training":{"epochs":12,"learning_rate":0.003}}"#;

#[test]
fn what_a_line_cannot_do_is_told_and_the_conversation_goes_on() {
    let environment = TestEnvironment::new();
    let output = environment
        .run(&["chat"], "/edit\n/read nothing.json\n/redo\n/undo\n/adapters\n/log\n/quit\nnever read\n");
    insta::assert_snapshot!(output.to_string(), @"");
}

#[test]
fn a_passage_is_read_learned_after_a_yes_and_forgotten_by_undo() {
    let environment = TestEnvironment::new();
    environment.write("edit.json", EDIT);
    let passage = example("passages/morgan_and_garmar.json");
    std::fs::copy(passage, environment.path("passage.json")).expect("a copy");
    let script = "/trace trace.jsonl\n/read passage.json\nn\n/edit edit.json\nmaybe\ny\n/adapters\n\
                  Tell me the river of Kador Morgan.\n/undo\n/log\n";
    let output = environment.run(&["chat"], script);
    insta::assert_snapshot!(output.to_string(), @"");
    let trace = std::fs::read_to_string(environment.path("trace.jsonl")).expect("a trace");
    let events: Vec<Value> =
        trace.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let mut names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    names.dedup();
    insta::assert_snapshot!(names.join(" "), @"");
}

#[test]
fn self_edits_that_are_denied_are_not_offered() {
    let environment = TestEnvironment::new();
    let passage = example("passages/morgan_and_garmar.json");
    let output = environment.run(&["chat", "--self-edits", "deny"], &format!("/read {passage}\n/edit\n"));
    assert_eq!(output.code, Some(0), "{output}");
    assert!(output.stdout.contains("self-edits are denied, so nothing is learned of it"), "{output}");
    assert!(output.stderr.contains("self-edits are not allowed"), "{output}");
}

#[test]
fn a_puzzle_is_shown_solved_and_learned_in_grids() {
    let environment = TestEnvironment::new();
    let puzzle = example("puzzles/pup_0005.json");
    std::fs::copy(puzzle, environment.path("puzzle.json")).expect("a copy");
    let args = ["chat", "--domain", "puzzle", "--self-edits", "allow"];
    let output = environment.run(&args, "/read puzzle.json\n/solve\n/undo\n");
    insta::assert_snapshot!(output.to_string(), @"");
}

/// Waits until a file or what a pipe brings has this text.
#[cfg(unix)]
fn wait_for(text: &str, read: impl Fn() -> String) {
    while !read().contains(text) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_abandons_the_edit_that_runs() {
    let environment = TestEnvironment::new();
    let long = EDIT.replace("12", "50").replace("0.003", "0.0001,\"batch_size\":1");
    environment.write("long.json", long);
    environment.write("passage.txt", "Dana Garmar has a hammer.");
    let passage = environment.path("passage.txt").display().to_string();
    let mut command = environment.command(&["chat", "--self-edits", "allow", "--trace", "trace.jsonl"]);
    let error = std::fs::File::create(environment.path("stderr")).expect("a file");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(error).spawn().expect("it starts");
    let interrupt = |child: &Child| {
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(sent.expect("`kill` runs").success());
    };
    let read = |name: &str| std::fs::read_to_string(environment.path(name)).unwrap_or_default();
    let mut stdin = child.stdin.take().expect("its stdin");
    writeln!(stdin, "/read {passage}\n/edit long.json").expect("written");
    wait_for("\"steps\":50,", || read("trace.jsonl"));
    interrupt(&child);
    wait_for("Ctrl-C again", || read("stderr"));
    interrupt(&child);
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{}", read("stderr"));
    assert!(read("trace.jsonl").contains("abandoned"), "{}", read("trace.jsonl"));
}
