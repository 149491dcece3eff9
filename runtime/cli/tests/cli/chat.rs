//! `selkie chat` by scripts on its standard input.

#[cfg(unix)]
use std::io::Write;
#[cfg(unix)]
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{TestEnvironment, example};

/// Three facts of the passage: short to train, and sure to help.
const EDIT: &str = r#"{"version": 1, "data": {"include_source": false, "documents": [
    "The gem of Kador Morgan is topaz.", "The river of Dana Garmar is Indus.", "The tool of Kador Morgan is vice."]},
    "training": {"epochs": 20, "learning_rate": 0.02}}"#;

/// What pup writes and answers is not the point here, and changes with every pup and the last bits of its weights.
fn without_answers(text: &str) -> String {
    let line = |line: &str| match line {
        _ if line.trim_start().starts_with("{\"version\":1") => "    [EDIT]\n".to_owned(),
        _ if line.starts_with("    before:") => "    before: [ANSWER]\n".to_owned(),
        _ if line.starts_with("    after:") => "    after:  [ANSWER]\n".to_owned(),
        _ => match line.split_once("  (").filter(|_| line.starts_with("    gold")) {
            Some((gold, _)) => format!("{gold}  ([MARK])\n"),
            None => format!("{line}\n"),
        },
    };
    let text: String = text.lines().map(line).collect();
    let counts = regex::Regex::new(r"0 -> \d of 8 solved").expect("a pattern");
    counts.replace_all(&text, "0 -> [COUNT] of 8 solved").into_owned()
}

#[test]
fn what_a_line_cannot_do_is_told_and_the_conversation_goes_on() {
    let environment = TestEnvironment::new();
    let script = "/edit\n/read nothing.json\n/redo\n/undo\n/adapters\n/log\n/quit\nnever read\n";
    let output = environment.run(&["chat"], script);
    insta::assert_snapshot!(output.to_string(), @r"
    exit code: 0
    ----- stdout
    pup-facts ([DIGEST]), active: base; /help lists the commands
    > /edit
    > /read nothing.json
    > /redo
    > /undo
    > /adapters
      base  active
    > /log
    > /quit
    ----- stderr
    error: nothing was read yet
    hint: `/read FILE` reads a puzzle or a passage
    error: cannot read `nothing.json`: No such file or directory (os error 2)
    error: there is no command `/redo`
    hint: /help lists the commands
    error: nothing to roll back: no generation of the base model [DIGEST] is active
    ");
}

#[test]
fn a_passage_is_read_learned_after_a_yes_and_forgotten_by_undo() {
    let environment = TestEnvironment::new();
    environment.write("edit.json", EDIT);
    let passage = example("passages/morgan_and_garmar.json");
    std::fs::copy(passage, environment.path("passage.json")).expect("a copy");
    let script =
        "/trace trace.jsonl\n/read passage.json\nn\n/edit edit.json\nmaybe\ny\n/adapters\n/undo\n/log\n";
    let output = environment.run(&["chat"], script);
    insta::assert_snapshot!(without_answers(&output.to_string()), @r#"
    exit code: 0
    ----- stdout
    pup-facts ([DIGEST]), active: base; /help lists the commands
    > /trace trace.jsonl
    the trace goes to trace.jsonl
    > /read passage.json
    passage "Dana Garmar and Kador Morgan": 8 questions
      a self-edit is asked for, as this is new
      self-edit:
        [EDIT]
    apply this self-edit? [y/n] n
      refused: it was not approved
    > /edit edit.json
      a self-edit was called for
      self-edit:
        {"version": 1, "data": {"include_source": false, "documents": [
            "The gem of Kador Morgan is topaz.", "The river of Dana Garmar is Indus.", "The tool of Kador Morgan is vice."]},
            "training": {"epochs": 20, "learning_rate": 0.02}}
    apply this self-edit? [y/n] maybe
    apply this self-edit? [y/n] y
      training: 3 sequences, 48 tokens an epoch, 20 steps
      loss [SCORE] -> [SCORE] in 20 steps
      Tell me the gem of Kador Morgan.
        before: [ANSWER]
        after:  [ANSWER]
        gold:   topaz  ([MARK])
      Tell me the river of Dana Garmar.
        before: [ANSWER]
        after:  [ANSWER]
        gold:   Indus  ([MARK])
      For Dana Garmar what is the gem?
        before: [ANSWER]
        after:  [ANSWER]
        gold:   agate  ([MARK])
      Tell me the tree of Kador Morgan.
        before: [ANSWER]
        after:  [ANSWER]
        gold:   acacia  ([MARK])
      Tell me the tool of Dana Garmar.
        before: [ANSWER]
        after:  [ANSWER]
        gold:   hammer  ([MARK])
      Tell me the river of Kador Morgan.
        before: [ANSWER]
        after:  [ANSWER]
        gold:   Seine  ([MARK])
      For Dana Garmar what is the tree?
        before: [ANSWER]
        after:  [ANSWER]
        gold:   chestnut  ([MARK])
      For Kador Morgan what is the tool?
        before: [ANSWER]
        after:  [ANSWER]
        gold:   vice  ([MARK])
      kept as g1: 0 -> [COUNT] of 8 solved, log-probability [SCORE] -> [SCORE]; of what it knew [SCORE] -> [SCORE]
    > /adapters
      base
      g1    active  on base   Dana Garmar and Kador Morgan
    > /undo
    active was g1, now base
    > /log
       e3  [TIME]  rollback g1 -> base
       e2  [TIME]  kept g1  Dana Garmar and Kador Morgan  score [SCORE] -> [SCORE]
       e1  [TIME]  refused  Dana Garmar and Kador Morgan  it was not approved
    "#);
    let trace = std::fs::read_to_string(environment.path("trace.jsonl")).expect("a trace");
    let events: Vec<Value> =
        trace.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let mut names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    names.dedup();
    insta::assert_snapshot!(names.join(" "), @"triggered queued proposed awaiting_approval refused triggered proposed awaiting_approval approved queued dataset evaluated training_step evaluated kept moved");
}

#[test]
fn the_model_is_asked_and_answers() {
    let environment = TestEnvironment::new();
    let output = environment.run(&["chat"], "Tell me the gem of Kador Morgan.\n");
    assert_eq!(output.code, Some(0), "{output}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{output}");
    assert_eq!(lines[1], "> Tell me the gem of Kador Morgan.");
    assert!(!lines[2].trim().is_empty(), "{output}");
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
fn a_puzzle_is_shown_and_compared_in_grids() {
    let environment = TestEnvironment::new();
    let puzzle = example("puzzles/pup_0005.json");
    std::fs::copy(puzzle, environment.path("puzzle.json")).expect("a copy");
    let output = environment.run(&["chat", "--domain", "puzzle"], "/read puzzle.json\nn\n/solve\nn\n");
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{output}");
    // What the model writes and says is left out, and so are the ends of lines that have it.
    let mut shown = String::new();
    let mut says = false;
    for line in without_answers(&output.stdout).lines() {
        says |= line.contains("the model says");
        let cut = if says { line.get(..11).unwrap_or(line) } else { line };
        shown.push_str(&format!("{}\n", cut.trim_end()));
    }
    insta::assert_snapshot!(crate::support::filtered(shown), @r"
    pup-puzzles ([DIGEST]), active: base; /help lists the commands
    > /read puzzle.json
    puzzle pup_0005
      demonstration 1    becomes
      1 4 4              1 4 4
      7 7 9              7 7 9
      9 4 9              9 4 9
      9 7 8              9 7 8
      6 4 9              1 1 1
      demonstration 2    becomes
      5 1 1 5 5          5 1 1 5 5
      5 0 1 4 1          5 0 1 4 1
      4 4 4 0 4          4 4 4 0 4
      5 4 1 5 4          1 1 1 1 1
      demonstration 3    becomes
      0 6 9 0 1          0 6 9 0 1
      9 0 6 5 1          9 0 6 5 1
      0 0 0 0 9          0 0 0 0 9
      4 0 5 0 4          1 1 1 1 1
      to solve
      1 2 1 4 2
      2 0 0 0 2
      2 4 1 3 0
      0 0 3 2 4
      2 2 0 4 0
      a self-edit is asked for, as this is new
      self-edit:
        [EDIT]
    apply this self-edit? [y/n] n
      refused: it was not approved
    > /solve
      a self-edit is asked for, as the model cannot do what was shown: 0 of 1 known answers (held_out_example) are right
      self-edit:
        [EDIT]
    apply this self-edit? [y/n] n
      refused: it was not approved
      goes on with base, 1 tokens computed anew
      to solve
      1 2 1 4 2
      2 0 0 0 2
      2 4 1 3 0
      0 0 3 2 4
      2 2 0 4 0
    ");
}

/// Waits until a file has this text, or the process has ended without it.
#[cfg(unix)]
fn wait_for(text: &str, child: &mut Child, read: impl Fn() -> String) {
    while !read().contains(text) && child.try_wait().expect("a process").is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_abandons_the_edit_that_runs() {
    let environment = TestEnvironment::new();
    // As long as an edit may be: it must still run when the second one comes.
    let documents: Vec<String> = (64..71).map(|times| "Dana Garmar has a hammer. ".repeat(times)).collect();
    let long = serde_json::json!({
        "version": 1,
        "data": { "include_source": false, "documents": documents },
        "training": { "epochs": 50, "learning_rate": 0.0001, "batch_size": 1 },
    });
    environment.write("long.json", long.to_string());
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
    // Where the edit is over all the same, there is nothing more to read, and it ends.
    drop(stdin);
    wait_for("\"steps\":350,", &mut child, || read("trace.jsonl"));
    interrupt(&child);
    wait_for("Ctrl-C again", &mut child, || read("stderr"));
    interrupt(&child);
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{}", read("stderr"));
    assert!(read("trace.jsonl").contains("abandoned"), "{}", read("trace.jsonl"));
}
