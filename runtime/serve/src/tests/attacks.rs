//! What clients do that mean no good, or do not know better.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Room, exchange, until};
use crate::options::{Limits, Token};

const TOKEN: &str = "correct-horse-battery";

#[tokio::test]
async fn without_the_token_nothing_is_said_but_that_one_is_needed() {
    let mut room = Room::new();
    room.options.token = Some(Token::new(TOKEN).expect("a token"));
    room.options.address = ([0, 0, 0, 0], 8377).into();
    let status = async |path: &str, authorization: Option<&str>| {
        let request = Request::get(path).header("host", "models.example");
        let request = match authorization {
            Some(presented) => request.header("authorization", presented),
            None => request,
        };
        room.call(request, Body::empty()).await.status.as_u16()
    };
    let bearer = format!("Bearer {TOKEN}");
    for path in
        ["/v1/models", "/v1/self_edits", "/v1/events", "/metrics", "/openapi.json", "/nothing", "/mcp"]
    {
        for presented in
            [None, Some("Bearer wrong"), Some("Bearer "), Some(TOKEN), Some("Basic Y29ycmVjdA==")]
        {
            assert_eq!(status(path, presented).await, 401, "{path} {presented:?}");
        }
    }
    for (path, presented, expected) in [
        ("/healthz", None, 200),
        ("/v1/models", Some(bearer.as_str()), 200),
        ("/v1/models", Some(&*bearer.replace("Bearer", "bearer")), 200),
        ("/nothing", Some(&bearer), 404),
    ] {
        assert_eq!(status(path, presented).await, expected, "{path} {presented:?}");
    }
    let answer = room.call(Request::get("/v1/models"), Body::empty()).await;
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    assert_eq!(answer.error(), (401, "invalid_api_key".to_owned()));
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing_from_a_server_on_loopback() {
    let room = Room::new();
    for (host, origin, expected) in [
        ("127.0.0.1:8377", None, 200),
        ("localhost:8377", Some("http://localhost:8377"), 200),
        ("attacker.example:8377", None, 403),
        ("127.0.0.1:8377", Some("http://attacker.example"), 403),
        ("127.0.0.1:8377", Some("null"), 403),
    ] {
        let request = Request::get("/v1/models").header("host", host);
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        let answer = room.call(request, Body::empty()).await;
        assert_eq!(answer.status.as_u16(), expected, "{host} {origin:?}");
    }
    // What a form can send without asking first.
    let form = Request::post("/v1/self_edits/rollback").header("content-type", "text/plain");
    let answer = room.call(form, Body::from(r#"{"to": "base"}"#)).await;
    assert_eq!(answer.status.as_u16(), 415, "{}", answer.text);
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused_and_never_held() {
    const HUNDRED_MEGABYTES: usize = 100_000_000;
    let room = Room::new();
    let server = room.listen().await;
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Connection: close\r\n";
    // It is said beforehand, and sent all the same.
    let mut stream = server.connect().await;
    let mut announced = format!("{head}Content-Length: {HUNDRED_MEGABYTES}\r\n\r\n").into_bytes();
    announced.resize(announced.len() + HUNDRED_MEGABYTES, b'x');
    let answer = exchange(&mut stream, &announced).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("body_too_large"), "{answer}");
    // The client waits for a word before it sends.
    let mut stream = server.connect().await;
    let expecting = format!("{head}Expect: 100-continue\r\nContent-Length: {HUNDRED_MEGABYTES}\r\n\r\n");
    let answer = exchange(&mut stream, expecting.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // It is not said how much comes.
    let mut stream = server.connect().await;
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    (0..HUNDRED_MEGABYTES / 0x10000).for_each(|_| chunked.extend(&chunk));
    chunked.extend(b"0\r\n\r\n");
    let answer = exchange(&mut stream, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn bodies_up_to_the_limit_are_read() {
    let room = Room::new();
    let limit = room.options.limits.body_bytes;
    assert_eq!(limit, 4 << 20);
    let around = json!({ "edit": "", "domain": "passage" }).to_string().len();
    for (bytes, status, word) in
        [(3 << 20, 200, "too_large"), (limit, 200, "too_large"), (limit + 1, 413, "body_too_large")]
    {
        let edit = "x".repeat(bytes - around);
        let answer = room.post("/v1/self_edits/check", &json!({ "edit": edit, "domain": "passage" })).await;
        assert_eq!(answer.status.as_u16(), status, "{bytes} bytes: {}", answer.text);
        assert!(answer.text.contains(&format!("\"code\":\"{word}\"")), "{bytes} bytes: {}", answer.text);
    }
}

#[tokio::test]
async fn slow_clients_are_not_waited_for() {
    let mut room = Room::new();
    room.options.limits =
        Limits { head: Duration::from_millis(100), body: Duration::from_millis(100), ..Limits::default() };
    let server = room.listen().await;
    // Half a head, for ever.
    let mut stream = server.connect().await;
    assert_eq!(exchange(&mut stream, b"GET /healthz HTTP/1.1\r\nHo").await, "");
    // Nothing at all.
    let mut stream = server.connect().await;
    assert_eq!(exchange(&mut stream, b"").await, "");
    // A body that never comes.
    let mut stream = server.connect().await;
    let half = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    let answer = exchange(&mut stream, half).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // All others are served.
    let mut stream = server.connect().await;
    let answer =
        exchange(&mut stream, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_one_to_end() {
    let mut room = Room::new();
    room.options.limits = Limits { connections: 1, head: Duration::from_millis(200), ..Limits::default() };
    let server = room.listen().await;
    let mut first = server.connect().await;
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("written");
    let mut byte = [0];
    first.read_exact(&mut byte).await.expect("an answer");
    // The first is idle now, and ends when its time is over.
    let mut second = server.connect().await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = exchange(&mut second, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn paths_lead_nowhere_but_into_the_operators_folder() {
    let mut room = Room::new();
    let load = async |room: &Room, path: &str| {
        room.post("/v1/load_lora_adapter", &json!({ "lora_name": "mine", "lora_path": path })).await.error()
    };
    assert_eq!(load(&room, "poetry").await, (403, "no_adapters_folder".to_owned()));
    let folder = room.home.path().join("adapters");
    std::fs::create_dir_all(folder.join("poetry")).expect("a folder");
    room.options.adapters = Some(folder);
    for path in ["..", "../home", "poetry/../../home", "/etc", "/", "", "none", "%2e%2e"] {
        assert_eq!(load(&room, path).await, (400, "no_such_folder".to_owned()), "{path}");
    }
    for path in
        ["/v1/self_edits/..%2f..%2fledger", "/v1/models/..%2F..%2Fetc%2Fpasswd", "/page/..%2f..%2fCargo.toml"]
    {
        assert_eq!(room.get(path).await.status.as_u16(), 404, "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_a_word_about_it() {
    let room = Room::new();
    let stops = json!({ "prompt": "x", "stop": vec!["y"; 17] }).to_string();
    for (path, body, complaint) in [
        ("/v1/completions", "", "the body is not what is expected here"),
        ("/v1/completions", "{\"prompt\": ", "EOF while parsing"),
        ("/v1/completions", "[]", "the body is not what is expected here"),
        ("/v1/completions", r#"{"prompt": [1, 2]}"#, "token ids are not taken"),
        ("/v1/completions", r#"{"prompt": "x", "n": 0}"#, "there may be 1 to 32"),
        ("/v1/completions", r#"{"prompt": "x", "n": 18446744073709551615}"#, "there may be 1 to 32"),
        ("/v1/completions", r#"{"prompt": "x", "max_tokens": -1}"#, "the body is not what is expected here"),
        ("/v1/completions", r#"{"prompt": "x", "self_edit": {"budget": {"seconds": -1}}}"#, "budget.seconds"),
        ("/v1/completions", r#"{"prompt": "x", "self_edit": {"grant": "all"}}"#, "unknown field `grant`"),
        ("/v1/completions", r#"{"prompt": "x", "self_edit": {"scope": "session"}}"#, "no `session` is named"),
        ("/v1/completions", &stops, "`stop` has 17 texts; there may be 16"),
        ("/v1/self_edits", r#"{"context": {}}"#, "neither a puzzle"),
        ("/v1/self_edits", r#"{"context": {"train": []}}"#, "`test` is missing"),
        ("/v1/self_edits", r#"{"context": {}, "scope": "session"}"#, "`session` goes with"),
        (
            "/v1/self_edits/check",
            r#"{"edit": 3, "domain": "passage"}"#,
            "a self-edit: text, or a JSON object",
        ),
        ("/v1/self_edits/check", r#"{"edit": "", "domain": "poem"}"#, "unknown variant `poem`"),
    ] {
        let request = Request::post(path).header("content-type", "application/json");
        let answer = room.call(request, Body::from(body.to_owned())).await;
        assert_eq!(answer.status.as_u16(), 400, "{path} {body}: {}", answer.text);
        assert!(answer.text.contains(complaint), "{path} {body}: {}", answer.text);
    }
    let deep = "[".repeat(100_000);
    let request = Request::post("/v1/self_edits/check").header("content-type", "application/json");
    assert_eq!(room.call(request, Body::from(deep)).await.status.as_u16(), 400);
    assert_eq!(room.get("/v1/nothing").await.status.as_u16(), 404);
    assert_eq!(room.get("/v1/completions").await.status.as_u16(), 405);
    assert_eq!(room.get("/v1/ledger?limit=many").await.status.as_u16(), 400);
}

#[tokio::test]
async fn a_list_is_no_object_and_a_grammar_without_end_is_the_clients_fault() {
    let room = Room::new();
    for (path, body) in [
        ("/v1/self_edits/rollback", json!([])),
        ("/v1/self_edits/rollback", json!(["base"])),
        ("/v1/self_edits/check", json!(["text", "passage"])),
        ("/v1/completions", json!("a")),
    ] {
        let answer = room.post(path, &body).await;
        assert_eq!(answer.status.as_u16(), 400, "{path} {body}: {}", answer.text);
        let message = &answer.json()["error"]["message"];
        assert_eq!(message, "the body is not what is expected here: expected a JSON object", "{path} {body}");
    }
    let endless = json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"});
    for schema in [endless, json!({"type": "integer", "multipleOf": 999_999})] {
        let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
        let body = json!({"prompt": "a", "max_tokens": 2, "response_format": format});
        let answer = room.post("/v1/completions", &body).await;
        assert_eq!(answer.status.as_u16(), 400, "{body}: {}", answer.text);
    }
    let session = "s".repeat(257);
    let answer = room.post("/v1/completions", &json!({"prompt": "a", "session": session})).await;
    assert_eq!(answer.json()["error"]["message"], "a session's name has 1 to 256 characters");
}

#[tokio::test]
async fn every_error_has_the_same_form() {
    let room = Room::new();
    let id = "%FF";
    for (method, path, status) in [
        ("GET", "/v1/nothing".to_owned(), 404),
        ("GET", "/v1/models/".to_owned(), 404),
        ("GET", "/v1/self_edits/".to_owned(), 404),
        ("GET", "/v1/self_edits/a/b".to_owned(), 404),
        ("GET", "/v1/models/none".to_owned(), 404),
        ("GET", "/v1/self_edits/none".to_owned(), 404),
        ("GET", "/v1/self_edits/none/events".to_owned(), 404),
        ("GET", format!("/v1/models/{id}"), 400),
        ("GET", format!("/v1/self_edits/{id}"), 400),
        ("GET", format!("/v1/self_edits/{id}/events"), 400),
        ("POST", format!("/v1/self_edits/{id}/approve"), 400),
        ("GET", "/v1/ledger?limit=%FF".to_owned(), 400),
        ("GET", "/v1/events?tokens=perhaps".to_owned(), 400),
        ("POST", "/".to_owned(), 405),
        ("POST", "/page/main.js".to_owned(), 405),
        ("DELETE", "/v1/models".to_owned(), 405),
        ("PUT", "/v1/self_edits/none".to_owned(), 405),
        ("GET", "/v1/chat/completions".to_owned(), 405),
        ("POST", "/v1/completions".to_owned(), 415),
    ] {
        let request = Request::builder().method(method).uri(&path);
        let answer = room.call(request, Body::empty()).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.text);
        let told = answer.json();
        let kind = if status == 404 { "not_found_error" } else { "invalid_request_error" };
        assert_eq!(told["error"]["type"], kind, "{method} {path}: {told}");
        let message = told["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{method} {path}: {told}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_connection() {
    let mut room = Room::new();
    room.options.limits = Limits { write: Duration::from_millis(200), ..Limits::default() };
    let server = room.listen().await;
    // Requests without end, and no answer is read: both directions fill up, and then nothing is taken any more.
    let mut stream = server.connect().await;
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let cut = async { while stream.write_all(&request).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), cut).await.expect("the server lets go");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_ended_and_said_to_be() {
    let mut room = Room::new();
    room.options.limits = Limits { request: Duration::ZERO, ..Limits::default() };
    let ask = json!({ "prompt": "The gem of", "max_tokens": 64 });
    assert_eq!(room.post("/v1/completions", &ask).await.error(), (504, "request_timeout".to_owned()));
    let stream = json!({ "prompt": "The gem of", "max_tokens": 64, "stream": true });
    let told = room.post("/v1/completions", &stream).await.text;
    assert!(told.contains("request_timeout") && told.ends_with("data: [DONE]\n\n"), "{told}");
    let request = Request::post("/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    let told = room.call(request, Body::from(generate_by_mcp(64).to_string())).await.text;
    assert!(told.contains("\"isError\":true") && told.contains("did not end within 0 s"), "{told}");
}

/// A call of the tool `generate`.
fn generate_by_mcp(max_tokens: usize) -> serde_json::Value {
    let arguments = json!({ "prompt": "The gem of", "max_tokens": max_tokens });
    let params = json!({ "name": "generate", "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_answer_and_leaves_nothing_behind() {
    let room = Room::with(|options| options.max_tokens = 400);
    let server = room.listen().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let alone = tasks();
    let mut trace = room.live.trace();
    let whole = json!({ "prompt": "The gem of", "max_tokens": 400 });
    let stream = json!({ "prompt": "The gem of", "max_tokens": 400, "stream": true });
    let by_mcp = generate_by_mcp(400);
    for (path, body) in
        [("/v1/completions", whole), ("/v1/completions", stream), ("/mcp", by_mcp.clone()), ("/mcp", by_mcp)]
    {
        let body = body.to_string();
        let mut client = server.connect().await;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write_all(request.as_bytes()).await.expect("written");
        while !trace.next().await.is_some_and(|event| event.to_line().contains("\"token\"")) {}
        drop(client);
        let end = loop {
            let line = trace.next().await.expect("an end").to_line();
            if line.contains("\"ended\"") {
                break line;
            }
        };
        assert!(end.contains("\"cancelled\""), "{path}: {end}");
    }
    // What serves a client holds the runtime, and ends with the client.
    until(|| tasks() == alone && room.live.stats().streams == 0).await;
}
