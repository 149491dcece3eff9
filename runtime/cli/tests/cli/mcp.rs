//! `selkie mcp` under the official Python client, and what it writes where.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::python::python_with;
use crate::serve::Serving;
use crate::support::{TestEnvironment, repository};

/// The version of the package that is driven here.
const MCP: &str = "mcp==2.3.0";

/// What the official client saw of a whole cycle over a transport: an address, or a command.
fn cycle(python: &Path, transport: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/mcp_client.py");
    let mut command = Command::new(python);
    command.arg(script).arg(repository().join("examples")).args(transport);
    let output = command.stdin(Stdio::null()).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut seen: Value = serde_json::from_slice(&output.stdout).expect("a document");
    // How many notifications a client tells of before it reads the answer is its own affair.
    let told = seen.as_object_mut().and_then(|seen| seen.shift_remove("progress")).expect("a number");
    assert!(told.as_u64() > Some(0), "{told}");
    seen
}

#[test]
fn the_official_python_client_goes_through_a_whole_cycle_over_both_transports() {
    let Some(python) = python_with(MCP) else { return };
    let environment = TestEnvironment::new();
    // The client starts the server with few of its own variables, so the arguments say where things are.
    let home = environment.path("home").display().to_string();
    let seen = cycle(&python, &[env!("CARGO_BIN_EXE_selkie"), "mcp", "--home", &home]);
    insta::assert_snapshot!(seen.to_string(), @r#"{"tools":["self_edit_schema","check_self_edit","apply_self_edit","list_tools","score","generate","log","rollback"],"schema_has":["data","reason","training","version"],"problems":[["unknown_field","/more"],["unknown_tool","/data/tools/0/tool"]],"refused":["refused",true],"valid":true,"applied":{"verdict":"kept","generation":"g1","active":"g1","entry":"e1","steps":20},"has_learned":true,"said":["base","stop"],"has_tools":true,"back":["g1","base"],"log":["rollback","kept"],"active":"base"}"#);
    let log = environment.log(&home);
    assert_eq!(log["active"], json!([]));
    assert_eq!(log["entries"].as_array().map(Vec::len), Some(2));

    let environment = TestEnvironment::new();
    let server = Serving::start(&environment, &["--self-edits", "allow"]);
    let over_http = cycle(&python, &[&format!("http://{}/mcp", server.address)]);
    assert_eq!(over_http, seen);
}

#[test]
fn stdout_has_the_protocol_and_nothing_else() {
    let environment = TestEnvironment::new();
    let hello = json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": { "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" } },
    });
    let output = environment.run(&["mcp"], &format!("{hello}\nno JSON\n\n"));
    let answers: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("a message")).collect();
    let mut methods: Vec<&Value> = answers.iter().map(|answer| &answer["id"]).collect();
    methods.sort_by_key(|id| id.is_null());
    assert_eq!(methods, [&json!(1), &json!(null)]);
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
}

#[test]
fn nobody_can_be_asked_behind_a_protocol() {
    let environment = TestEnvironment::new();
    let output = environment.run(&["mcp", "--self-edits", "ask"], "");
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("[possible values: allow, deny]"), "{}", output.stderr);
}
