//! The MCP tools from outside: what a client sees, and what it gets for wrong and hostile messages. The official client
//! drives them in the tests of the command.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use selkie_edit::Domain;
use selkie_engine::live::{Budget, Happened, Live, LiveOptions, Permission};
use selkie_engine::{PluginOptions, Runtime, model_files};
use selkie_learn::Compute;
use selkie_serve::mcp;
use selkie_tools::HostOptions;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};

/// The bundled model for passages in a home of its own, as an operator would start it.
fn live(permission: Permission) -> (TempDir, Live) {
    live_with(|options| options.permission = permission)
}

fn live_with(change: impl FnOnce(&mut LiveOptions)) -> (TempDir, Live) {
    let home = tempfile::tempdir().expect("a folder");
    let files = model_files(None, Domain::Passage).expect("the bundled model");
    // Compiled plugins are shared by all tests.
    let cache = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    let host = HostOptions { cache, ..HostOptions::new(None) };
    let runtime = Runtime::open_on(&files, PluginOptions { host, grants: Vec::new() }, &Compute::cpu());
    let mut options = LiveOptions {
        home: home.path().join("home"),
        streams: 2,
        waiting: 4,
        queue: 2,
        max_tokens: 64,
        budget: Budget::default(),
        permission: Permission::Allow,
        session_time_to_live: Duration::from_secs(60),
        approval_timeout: Duration::from_secs(60),
        training_threads: 1,
        clock: || 0,
    };
    change(&mut options);
    (home, Live::start(Arc::new(runtime.expect("a runtime")), options).expect("a live runtime"))
}

/// A client that writes and reads lines.
struct Client {
    read: BufReader<ReadHalf<DuplexStream>>,
    write: WriteHalf<DuplexStream>,
    asked: u64,
    live: Live,
    _home: TempDir,
}

impl Client {
    fn of((home, live): (TempDir, Live)) -> Client {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let ((read, write), (server_read, server_write)) = (tokio::io::split(ours), tokio::io::split(theirs));
        tokio::spawn(mcp::on(live.clone(), server_read, server_write));
        Client { read: BufReader::new(read), write, asked: 0, live, _home: home }
    }

    async fn initialized(permission: Permission) -> Client {
        Client::initialized_with(live(permission)).await
    }

    async fn initialized_with(served: (TempDir, Live)) -> Client {
        let mut client = Client::of(served);
        let hello = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "0" },
        });
        client.ask("initialize", hello).await;
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        client
    }

    async fn send(&mut self, line: &str) {
        self.write.write_all(line.as_bytes()).await.expect("written");
        self.write.write_all(b"\n").await.expect("written");
    }

    async fn line(&mut self) -> Value {
        let mut line = String::new();
        self.read.read_line(&mut line).await.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    /// The answer to a request: its result or its error.
    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string())
            .await;
        loop {
            let answer = self.line().await;
            if answer["id"] == id {
                return if answer["error"].is_null() {
                    answer["result"].clone()
                } else {
                    answer["error"].clone()
                };
            }
        }
    }

    async fn call(&mut self, name: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({ "name": name, "arguments": arguments })).await
    }

    /// What a tool says no with.
    async fn complaint(&mut self, name: &str, arguments: Value) -> String {
        let result = self.call(name, arguments).await;
        assert_eq!(result["isError"], true, "{result}");
        result["content"][0]["text"].as_str().expect("a text").to_owned()
    }
}

fn passage() -> Value {
    json!({ "title": "Vices", "context": "Dana has a vice.", "questions": [{ "question": "Who?", "answer": "Dana" }] })
}

#[tokio::test]
async fn a_client_sees_these_tools() {
    let mut client = Client::initialized(Permission::Allow).await;
    let listed = client.ask("tools/list", json!({})).await;
    let mut text = String::new();
    for tool in listed["tools"].as_array().expect("tools") {
        let hint = |name: &str| tool["annotations"][name].as_bool().expect("a hint");
        let effect = match (hint("readOnlyHint"), hint("destructiveHint")) {
            (true, false) => "reads",
            (false, false) => "adds",
            (false, true) => "replaces",
            (true, true) => "contradicts itself",
        };
        let names = |schema: &str| {
            let properties = tool[schema]["properties"].as_object().expect("properties");
            properties.keys().cloned().collect::<Vec<_>>().join(", ")
        };
        text.push_str(&format!(
            "{} ({effect}): {}\n  takes {}\n  gives {}\n",
            tool["name"].as_str().expect("a name"),
            tool["description"].as_str().expect("a description"),
            names("inputSchema"),
            names("outputSchema")
        ));
        for schema in ["inputSchema", "outputSchema"] {
            assert_eq!(tool[schema]["type"], "object", "{tool}");
            assert!(!tool[schema].to_string().contains("$ref"), "{tool}");
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool}");
    }
    insta::assert_snapshot!(text, @r"
    self_edit_schema (reads): Says how a self-edit is written: its JSON Schema with every loaded tool, a short form in words, and the operator's limits. Call it before you write one.
      takes domain
      gives domain, schema, in_words, budget, self_edits
    check_self_edit (reads): Checks a self-edit without running it. The answer says whether it is valid; if not, it lists every problem at once, each with a JSON pointer, what was expected and what was found. Repair all of them and check again.
      takes edit, domain
      gives valid, problems, edit
    apply_self_edit (adds): Trains the model on a puzzle or a passage by a self-edit, measures it before and after, and keeps the new adapter only if it helped; otherwise nothing changes. Waits until the edit has ended, which may take minutes. Without `edit` the model writes its own. A verdict `refused` comes with all problems of the edit; `busy` says when to try again. A kept edit is a new generation, which `rollback` takes back.
      takes context, edit, seed, scope, session, fresh, budget
      gives verdict, reason, problems, retry_after_seconds, generation, active, entry, edit, steps, loss, before, after
    list_tools (reads): Lists the tools that a self-edit may name in `data.tools`, with the JSON Schema of their parameters, and the limits under which they run.
      takes domain
      gives tools, limits
    score (reads): Measures the model without changing it: the log-probability of a completion after a prompt, or how it answers the tests of a puzzle or the questions of a passage whose answers are given.
      takes prompt, completion, context, adapter, session
      gives adapter, completion, items
    generate (reads): Asks the model: it continues a prompt, answers a conversation, or solves one test of a puzzle or answers one question of a passage. Choose the adapter with `adapter` to compare the model before and after an edit.
      takes prompt, messages, context, item, adapter, session, max_tokens, temperature, top_p, seed, stop, json_schema
      gives text, finish_reason, adapter, prompt_tokens, tokens
    log (reads): Lists what was tried, newest first: edits that were kept, discarded or refused, and rollbacks; with the generation that is active and every adapter that may be named.
      takes limit
      gives active, entries, adapters
    rollback (replaces): Makes an earlier generation the active one for everybody: `parent` (one step back), `base` (the model as it came) or a generation such as `g3`. Nothing is deleted, and the rollback stands in the log.
      takes to
      gives was, active
    ");
}

#[tokio::test]
async fn what_cannot_be_a_call_is_an_error_of_the_protocol() {
    let mut client = Client::initialized(Permission::Allow).await;
    let long = "x".repeat(1000);
    for (method, params, code, message) in [
        (
            "tools/call",
            json!({ "name": "grant_permission" }),
            -32602,
            "there is no tool `grant_permission`; the tools are",
        ),
        ("tools/call", json!({ "name": long }), -32602, "there is no tool `xxx"),
        (
            "tools/call",
            json!({ "name": 5 }),
            -32602,
            "the parameters of `tools/call` do not have the protocol's form",
        ),
        (
            "tools/call",
            json!({ "name": "log", "arguments": "all" }),
            -32602,
            "the parameters of `tools/call`",
        ),
        ("server/discover", json!({}), -32601, "there is no method `server/discover`"),
    ] {
        let error = client.ask(method, params).await;
        assert_eq!(error["code"], code, "{error}");
        let said = error["message"].as_str().expect("a message");
        assert!(said.starts_with(message) && said.len() < 300, "{said}");
    }
}

#[tokio::test]
async fn wrong_arguments_are_told_in_words_that_name_them() {
    let mut client = Client::initialized(Permission::Allow).await;
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    for (tool, arguments, expected) in [
        (
            "log",
            json!({ "limit": "all" }),
            "are not valid at `limit`: invalid type: string \"all\", expected usize",
        ),
        ("log", json!({ "limit": -1 }), "at `limit`: invalid value: integer `-1`, expected usize"),
        ("rollback", json!({}), "missing field `to`"),
        ("rollback", json!({ "to": "g99" }), "g99"),
        ("check_self_edit", json!({ "edit": "{}", "domain": "song" }), "at `domain`: unknown variant `song`"),
        (
            "apply_self_edit",
            json!({ "context": passage(), "permission": "allow" }),
            "unknown field `permission`",
        ),
        (
            "apply_self_edit",
            json!({ "context": passage(), "self_edit": { "permission": "allow" } }),
            "unknown field `self_edit`",
        ),
        (
            "apply_self_edit",
            json!({ "context": passage(), "budget": { "edits": 9 } }),
            "at `budget.edits`: unknown field `edits`",
        ),
        (
            "apply_self_edit",
            json!({ "context": passage(), "scope": "request" }),
            "at `scope`: unknown variant `request`",
        ),
        ("apply_self_edit", json!({ "context": passage(), "session": "s" }), "`session` needs `scope`"),
        ("apply_self_edit", json!({ "context": passage(), "scope": "session" }), "no `session` is named"),
        (
            "apply_self_edit",
            json!({ "context": { "train": 5, "test": [] } }),
            "`context` is not valid: train: expected",
        ),
        ("apply_self_edit", json!({ "context": deep }), "`context` is not valid: more than 32 arrays"),
        ("score", json!({ "prompt": "a" }), "`score` takes `prompt` with `completion`, or `context`"),
        (
            "generate",
            json!({ "prompt": "a", "stop": ["b".repeat(1025)] }),
            "text 0 of `stop` has 1025 bytes; it may have 1024",
        ),
        ("generate", json!({}), "`generate` takes one of `prompt`, `messages` and `context`"),
        ("generate", json!({ "messages": [{ "role": "user", "content": 5 }] }), "at `messages[0].content`"),
    ] {
        let said = client.complaint(tool, arguments).await;
        assert!(said.contains(expected), "{tool}: {said}");
    }
}

#[tokio::test]
async fn a_client_may_ask_and_err_before_it_begins() {
    let mut client = Client::of(live(Permission::Allow));
    client.send("").await;
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    client.send("not json").await;
    assert_eq!(client.line().await["error"]["code"], -32700);
    assert_eq!(client.ask("server/discover", json!({})).await["code"], -32601);
    assert_eq!(client.ask("tools/list", json!({})).await["code"], -32600);
    assert_eq!(client.ask("initialize", json!({ "protocolVersion": 5 })).await["code"], -32602);
    let hello = json!({ "protocolVersion": "1999-01-01", "capabilities": {}, "clientInfo": { "name": "t", "version": "0" } });
    let info = client.ask("initialize", hello).await;
    assert_eq!(info["serverInfo"]["name"], "selkie");
    assert_eq!(info["protocolVersion"], "2025-11-25");
}

#[tokio::test]
async fn a_message_that_is_too_long_is_refused_and_the_next_one_answered() {
    let mut client = Client::initialized(Permission::Allow).await;
    let text = "x".repeat(mcp::MESSAGE_BYTES_MAX);
    client
        .send(
            &json!({ "jsonrpc": "2.0", "id": 9, "method": "ping", "params": { "_meta": { "x": text } } })
                .to_string(),
        )
        .await;
    let answer = client.line().await;
    assert_eq!(answer["error"]["code"], -32600);
    assert_eq!(answer["error"]["message"], "a message has at most 8388608 bytes");
    let edit = "y".repeat(2 << 20);
    let checked = client.call("check_self_edit", json!({ "edit": edit, "domain": "puzzle" })).await;
    assert_eq!(checked["structuredContent"]["problems"][0]["code"], "too_large");
}

#[tokio::test]
async fn an_edit_is_checked_with_all_problems_at_once() {
    let mut client = Client::initialized(Permission::Allow).await;
    let edit =
        json!({ "version": 1, "data": { "tools": [{ "tool": "text.none" }], "replay": -1 }, "grant": "all" });
    let result = client.call("check_self_edit", json!({ "edit": edit })).await;
    assert_eq!(result["isError"], false);
    let checked = &result["structuredContent"];
    assert_eq!(checked["valid"], false);
    let problems = checked["problems"].as_array().expect("problems");
    let codes: Vec<&str> = problems.iter().filter_map(|problem| problem["code"].as_str()).collect();
    insta::assert_debug_snapshot!(codes, @r#"
    [
        "out_of_range",
        "unknown_field",
        "unknown_tool",
    ]
    "#);
    let same_as_text = client.call("check_self_edit", json!({ "edit": edit.to_string() })).await;
    assert_eq!(same_as_text["structuredContent"], *checked);
    let valid = json!({ "version": 1, "data": { "documents": ["Dana has a vice."] } });
    let checked = client.call("check_self_edit", json!({ "edit": valid })).await;
    assert_eq!(checked["structuredContent"]["valid"], true, "{checked}");
}

#[tokio::test]
async fn where_edits_are_denied_nothing_changes_the_model() {
    let mut client = Client::initialized(Permission::Deny).await;
    let how = client.call("self_edit_schema", json!({})).await;
    assert_eq!(how["structuredContent"]["self_edits"], "deny");
    let edit = json!({ "version": 1, "data": { "documents": ["Dana has a vice."] } });
    let result = client.call("apply_self_edit", json!({ "context": passage(), "edit": edit })).await;
    assert_eq!(result["structuredContent"]["verdict"], "denied", "{result}");
    let said = client.complaint("rollback", json!({ "to": "base" })).await;
    assert_eq!(said, "self-edits are not allowed by the operator");
}

/// Two facts, in twenty steps.
fn quick_edit() -> Value {
    let facts = ["Dana has a vice.", "The vice is of Dana."];
    json!({
        "version": 1,
        "data": { "documents": facts, "include_source": false },
        "training": { "epochs": 20, "learning_rate": 0.01 },
    })
}

#[tokio::test]
async fn a_client_that_asks_for_progress_is_told_every_step_before_the_answer() {
    let mut client = Client::initialized(Permission::Allow).await;
    let arguments = json!({ "context": passage(), "edit": quick_edit() });
    let params =
        json!({ "name": "apply_self_edit", "arguments": arguments, "_meta": { "progressToken": "t" } });
    client
        .send(&json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": params }).to_string())
        .await;
    let mut told = Vec::new();
    let answer = loop {
        let message = client.line().await;
        if message["id"] == 9 {
            break message;
        }
        assert_eq!(message["method"], "notifications/progress", "{message}");
        let params = &message["params"];
        assert_eq!((&params["progressToken"], &params["total"]), (&json!("t"), &json!(20.0)), "{message}");
        told.push(params["progress"].as_f64().expect("a number"));
    };
    assert_eq!(told, (1..=20).map(f64::from).collect::<Vec<_>>());
    let applied = &answer["result"]["structuredContent"];
    assert_eq!((&applied["steps"], &applied["problems"]), (&json!(20), &json!([])), "{applied}");
    assert_eq!(applied["loss"].as_array().map(Vec::len), Some(2), "{applied}");
}

#[tokio::test]
async fn of_the_operators_budget_and_the_callers_the_smaller_number_holds() {
    let tight = live_with(|options| options.budget.steps = 10);
    let mut client = Client::initialized_with(tight).await;
    let arguments = json!({ "context": passage(), "edit": quick_edit(), "budget": { "steps": 1_000_000 } });
    let result = client.call("apply_self_edit", arguments).await;
    let applied = &result["structuredContent"];
    assert_eq!((&applied["verdict"], &applied["active"]), (&json!("refused"), &json!("base")), "{result}");
    let mut client = Client::initialized(Permission::Allow).await;
    let arguments = json!({ "context": passage(), "edit": quick_edit(), "budget": { "steps": 10 } });
    let result = client.call("apply_self_edit", arguments).await;
    assert_eq!(result["structuredContent"]["reason"], applied["reason"], "{result}");
    insta::assert_snapshot!(applied["reason"].as_str().expect("a reason"), @"the self-edit asks for 20 steps of training; the budget has 10 left: ask for fewer epochs, less data or a larger batch");
}

#[tokio::test]
async fn a_full_queue_says_when_to_try_again() {
    let mut client = Client::initialized_with(live_with(|options| options.queue = 0)).await;
    let result = client.call("apply_self_edit", json!({ "context": passage(), "edit": quick_edit() })).await;
    assert_eq!(result["isError"], false, "{result}");
    let applied = &result["structuredContent"];
    assert_eq!(
        (&applied["verdict"], &applied["retry_after_seconds"]),
        (&json!("busy"), &json!(1)),
        "{result}"
    );
}

#[tokio::test]
async fn where_the_operator_is_asked_a_call_waits_for_the_answer() {
    let mut client = Client::initialized(Permission::Ask).await;
    let live = client.live.clone();
    let operator = tokio::spawn(async move {
        let mut trace = live.trace();
        while let Some(event) = trace.next().await {
            if let (Happened::AwaitingApproval, Some(edit)) = (&event.what, &event.edit) {
                return live.approve(edit, false).expect("it waits");
            }
        }
    });
    // The operator listens before the call begins.
    tokio::task::yield_now().await;
    let result = client.call("apply_self_edit", json!({ "context": passage(), "edit": quick_edit() })).await;
    operator.await.expect("no panic");
    let applied = &result["structuredContent"];
    assert_eq!(
        (&applied["verdict"], &applied["reason"]),
        (&json!("refused"), &json!("it was not approved")),
        "{result}"
    );
}

/// Serves the tools over HTTP; gives the address.
async fn served(live: Live, hosts: &[String]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = mcp::router(live, hosts, Duration::from_secs(60));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/mcp")
}

/// The status line that a request gets; the body is so many spaces.
async fn status(url: &str, method: &str, host: &str, spaces: usize) -> String {
    let address = url.trim_start_matches("http://").trim_end_matches("/mcp");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "{method} /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {spaces}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    // The server may answer before it has read everything.
    drop(stream.write_all(&vec![b' '; spaces]).await);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.expect("a status");
    line.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_foreign_hosts_long_bodies_and_other_methods_are_refused() {
    let (_home, live) = live(Permission::Allow);
    let url = served(live.clone(), &["localhost".to_owned()]).await;
    for (method, host, spaces, expected) in [
        ("POST", "evil.example", 2, "HTTP/1.1 403 Forbidden"),
        ("POST", "localhost", 2, "HTTP/1.1 415 Unsupported Media Type"),
        ("POST", "localhost:8080", mcp::MESSAGE_BYTES_MAX + 1, "HTTP/1.1 413 Payload Too Large"),
        ("GET", "localhost", 0, "HTTP/1.1 405 Method Not Allowed"),
        ("DELETE", "localhost", 0, "HTTP/1.1 405 Method Not Allowed"),
    ] {
        assert_eq!(status(&url, method, host, spaces).await, expected, "{method} {host} {spaces}");
    }
    live.shutdown(false);
}
