//! `selkie bench`: what it prints and what it refuses. What it measures depends on the machine and is not tested.

#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{Output, TestEnvironment, pup};

/// The smallest run of a command on one side.
const SMALL: [&str; 3] = ["--repeats", "2", "--json"];

fn bench(env: &TestEnvironment, args: &[&str]) -> Output {
    env.run(&[&["bench"], args].concat(), "")
}

fn check_side(side: &Value, repeats: usize) {
    assert_eq!(side["repeats"].as_array().map(Vec::len), Some(repeats), "{side:#}");
    for name in ["cpu_ms", "wall_ms", "peak_rss_mb"] {
        let least = side["least"][name].as_f64();
        // Where the platform does not tell the memory, it is null.
        assert!(least.is_none_or(|least| least > 0.0), "{name}: {side:#}");
        for repeat in side["repeats"].as_array().expect("a list") {
            assert!(repeat[name].as_f64() >= least, "{name}: {side:#}");
        }
    }
    assert!(side["least"]["wall_ms"].is_f64(), "{side:#}");
}

#[cfg(unix)]
fn write_executable(env: &TestEnvironment, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;

    env.write(name, text);
    std::fs::set_permissions(env.path(name), PermissionsExt::from_mode(0o755)).expect("an executable");
}

#[test]
fn training_is_measured_without_a_python() {
    let env = TestEnvironment::new();
    let args = ["train", "--batch", "2", "--tokens", "16", "--steps", "1", "--rank", "2"];
    for dtype in ["f32", "bf16"] {
        let report = bench(&env, &[&args, &SMALL[..], &["--dtype", dtype]].concat()).json();
        assert_eq!((&report["per"], &report["settings"]["rank"]), (&"step".into(), &2.into()), "{report:#}");
        assert_eq!(report["settings"]["work"]["tokens"], 16, "{report:#}");
        assert!(report["theirs"].is_null() && report["ratio"].is_null(), "{report:#}");
        check_side(&report["ours"], 2);
        // Two steps before the clock and one on it; random weights know nothing of 512 tokens.
        let losses = report["ours"]["losses"].as_array().expect("losses");
        assert_eq!(losses.len(), 3, "{report:#}");
        assert!((losses[0].as_f64().expect("a loss") - 512f64.ln()).abs() < 0.5, "{report:#}");
    }
}

#[test]
fn generation_is_measured_on_a_folder() {
    let env = TestEnvironment::new();
    let folder = pup("facts").display().to_string();
    let args = ["decode", "--tokens", "3", "--new-tokens", "4", "--threads", "2", "--shape", &folder];
    let report = bench(&env, &[&args, &SMALL[..]].concat()).json();
    assert_eq!((&report["per"], &report["settings"]["threads"]), (&"token".into(), &2.into()), "{report:#}");
    check_side(&report["ours"], 2);
    let table = bench(&env, &[&args, &["--repeats", "1"][..]].concat()).succeeds();
    let names: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split("  ").next()).collect();
    assert_eq!(
        names,
        ["CPU ms a token", "wall ms a token", "peak memory, MB", "tokens a CPU second"],
        "{table}"
    );
}

#[test]
fn a_recorded_self_edit_is_trained_whole() {
    let env = TestEnvironment::new();
    let recorded = r#"{"articles": [{"title": "Selkies", "context": "Seals that become people.",
        "completions": [{"text": "1. They have skins.\n2. They sing."}]}]}"#;
    env.write("recorded.json", recorded);
    let args = ["train", "--seal-edit", "recorded.json", "--repeats", "1", "--json"];
    let report = bench(&env, &args).json();
    assert_eq!(report["per"], "self-edit");
    let work = &report["settings"]["work"];
    // Two implications and the passage, each under the title; "Selkies" is two tokens, "become" one.
    assert_eq!((&work["sequences"], &work["tokens"]), (&3.into(), &22.into()), "{report:#}");
    let losses = report["ours"]["losses"].as_array().expect("losses");
    assert_eq!(losses.len(), 30, "{report:#}");
    assert!(losses[29].as_f64() < losses[2].as_f64(), "{report:#}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let env = TestEnvironment::new();
    env.write("recorded.json", r#"{"articles": []}"#);
    std::fs::create_dir(env.path("empty")).expect("a folder");
    let rows: [&[&str]; 7] = [
        &["train", "--shape", "huge"],
        &["train", "--shape", "empty"],
        &["train", "--tokens", "2049"],
        &["decode", "--tokens", "2000", "--new-tokens", "49"],
        &["train", "--seal-edit", "absent.json"],
        &["train", "--seal-edit", "recorded.json"],
        &["train", "--python", "no-such-python"],
    ];
    let mut text = String::new();
    for args in rows {
        let output = bench(&env, args);
        assert_eq!(output.code, Some(2), "{output}");
        text += &format!(
            "{}\n{}",
            args.join(" "),
            output.to_string().replace("exit code: 2\n----- stderr\n", "")
        );
    }
    assert_snapshot!(text, @"
    train --shape huge
    error: --shape is `huge`; expected `mini`, `slice` or a model folder
    train --shape empty
    error: cannot read `empty/config.json`: No such file or directory (os error 2)
    train --tokens 2049
    error: 2049 tokens; the model has 2048 positions
    decode --tokens 2000 --new-tokens 49
    error: 2049 tokens; the model has 2048 positions
    train --seal-edit absent.json
    error: cannot read `absent.json`: No such file or directory (os error 2)
    train --seal-edit recorded.json
    error: `recorded.json` is not a file of recorded self-edits: it has no article
    train --python no-such-python
    error: cannot start the Python interpreter `no-such-python`: No such file or directory (os error 2)
    ");
}

#[cfg(unix)]
#[test]
fn a_python_that_cannot_do_it_is_named() {
    let env = TestEnvironment::new();
    let rows = [
        ("without-torch", r#"echo '{"missing": "torch", "reason": "No module named torch"}'"#),
        ("broken", "echo 'Traceback' >&2; echo 'Error: broken' >&2; exit 1"),
        ("no-python", "echo hello"),
        // Imports everything, then fails at the work.
        ("fails-later", r#"case "$1" in *common.py) echo '{}';; *) echo 'out of memory' >&2; exit 3;; esac"#),
    ];
    let mut text = String::new();
    for (name, script) in rows {
        write_executable(&env, name, &format!("#!/bin/sh\n{script}\n"));
        let python = format!("./{name}");
        let output = bench(&env, &["train", "--tokens", "4", "--steps", "1", "--python", &python]);
        text += &output.to_string();
    }
    assert_snapshot!(text, @"
    exit code: 2
    ----- stderr
    error: the Python interpreter `./without-torch` cannot import `torch`: No module named torch
    hint: `./without-torch -m pip install torch transformers peft` installs what is needed
    exit code: 2
    ----- stderr
    error: the Python interpreter `./broken` failed (exit status: 1)
      Traceback
      Error: broken
    exit code: 2
    ----- stderr
    error: the Python interpreter `./no-python` did not answer as a Python does: expected value at line 1 column 1
    exit code: 2
    ----- stderr
    error: the Python interpreter `./fails-later` failed (exit status: 3)
      out of memory
    ");
}

#[cfg(unix)]
#[test]
fn losses_that_differ_are_no_comparison() {
    let env = TestEnvironment::new();
    let answer = |losses: &str| {
        format!(
            r#"{{"cpu_ms": 1.0, "wall_ms": 1.0, "peak_rss_mb": 1.0, "losses": {losses}, "versions": {{}}}}"#
        )
    };
    // None of them are the losses of these three steps, and the last are too few.
    for losses in ["[1, 2, 3]", "[null, 2, 3]", "[]"] {
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in *common.py) echo '{{}}';; *) cat > sent; echo '{}';; esac\n",
            answer(losses)
        );
        write_executable(&env, "python", &script);
        let args = ["train", "--tokens", "4", "--steps", "1", "--repeats", "1", "--python", "./python"];
        let output = bench(&env, &args);
        assert_eq!(output.code, Some(1), "{losses}: {output}");
        assert!(output.stdout.contains("losses DO NOT AGREE"), "{losses}: {output}");
        let sent: Value =
            serde_json::from_slice(&std::fs::read(env.path("sent")).expect("a request")).expect("JSON");
        assert_eq!(sent["batch"][3]["labelled_from"], 2, "{sent:#}");
    }
}

#[test]
fn pytorch_does_the_same_work() {
    let Some(python) = std::env::var_os("SELKIE_PYTHON") else {
        println!("skipped: set SELKIE_PYTHON to a Python with torch, transformers and peft");
        return;
    };
    let env = TestEnvironment::new();
    let python = python.to_str().expect("a path in Unicode");
    let small = ["--repeats", "1", "--json", "--python", python];
    let args = ["train", "--batch", "2", "--tokens", "32", "--steps", "2", "--dtype", "bf16"];
    let report = bench(&env, &[&args, &small[..]].concat()).json();
    assert_eq!(report["losses_agree"], true, "{report:#}");
    check_side(&report["theirs"], 1);
    assert!(report["ratio"]["wall_ms"].as_f64() > Some(0.0), "{report:#}");
    let report = bench(&env, &[&["decode", "--new-tokens", "8"], &small[..]].concat()).json();
    assert_eq!(report["same_tokens"], 8, "{report:#}");
}
