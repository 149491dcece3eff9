//! An interface with fixed answers for the page, made of the runtime's own types: a field that is renamed there is
//! missed here.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use selkie_edit::{Domain, Problem};
use selkie_engine::live::{
    AdapterCard, Answered, EditState, EditStatus, GateScores, Happened, Kv, Scope, TraceEvent, Trigger, When,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Text that would run if it ever became markup.
pub(super) const HOSTILE: &str = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>";

/// 2026-11-21T12:00:00Z, in milliseconds.
const NOON: i64 = 1_795_262_400_000;

pub(super) const LOSSES: [Option<f32>; 5] = [Some(2.5), Some(1.25), None, Some(0.5), Some(0.25)];

/// A server with the page and the fixed answers, on a free port.
#[derive(Clone)]
pub(super) struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    /// What every request must bring, if anything.
    token: Option<&'static str>,
    state: Mutex<Shared>,
}

struct Shared {
    edits: Vec<EditStatus>,
    active: String,
    /// Every request that is not a GET: its path and its body.
    posted: Vec<(String, Value)>,
    listeners: Vec<UnboundedSender<String>>,
}

/// A stream of texts as a body.
struct Texts(UnboundedReceiver<String>);

impl futures_core::Stream for Texts {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|text| text.map(|text| Ok(Bytes::from(text))))
    }
}

impl Api {
    /// Starts; the answer has the address to open.
    pub(super) async fn start(token: Option<&'static str>) -> (Api, String) {
        let shared =
            Shared { edits: edits(), active: "g2".to_owned(), posted: Vec::new(), listeners: Vec::new() };
        let api = Api { inner: Arc::new(Inner { token, state: Mutex::new(shared) }) };
        let routes = Router::new().fallback(answer).with_state(api.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, crate::page::router().merge(routes)).await });
        (api, address)
    }

    /// Something happens now.
    pub(super) fn tell(&self, number: u64, edit: Option<&str>, what: Happened) {
        let event = TraceEvent { request: Some("req-7".to_owned()), ..event(number, edit, what) };
        let mut shared = self.inner.state.lock().unwrap();
        shared.listeners.retain(|listener| listener.send(format!("data: {}\n\n", event.to_line())).is_ok());
    }

    /// Ends the streams of events.
    pub(super) fn hang_up(&self) {
        self.inner.state.lock().unwrap().listeners.clear();
    }

    /// How many follow the events.
    pub(super) fn listeners(&self) -> usize {
        self.inner.state.lock().unwrap().listeners.len()
    }

    pub(super) fn posted(&self) -> Vec<(String, Value)> {
        self.inner.state.lock().unwrap().posted.clone()
    }

    fn update(&self, id: &str, change: impl FnOnce(&mut EditStatus)) -> Value {
        let mut shared = self.inner.state.lock().unwrap();
        let edit = shared.edits.iter_mut().find(|edit| edit.id == id).unwrap();
        change(edit);
        json!(edit)
    }
}

fn body(status: StatusCode, kind: &str, text: String) -> Response<Body> {
    Response::builder().status(status).header("content-type", kind).body(Body::from(text)).unwrap()
}

fn found(value: Value) -> Response<Body> {
    body(StatusCode::OK, "application/json", value.to_string())
}

fn list(rows: Value) -> Response<Body> {
    found(json!({ "object": "list", "data": rows }))
}

fn streamed(texts: UnboundedReceiver<String>) -> Response<Body> {
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(Texts(texts)))
        .unwrap()
}

fn is_let_in(api: &Api, headers: &HeaderMap) -> bool {
    let sent = headers.get("authorization").and_then(|value| value.to_str().ok());
    api.inner.token.is_none_or(|token| sent == Some(format!("Bearer {token}").as_str()))
}

async fn answer(State(api): State<Api>, request: Request) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if !is_let_in(&api, request.headers()) {
        let error = json!({ "error": { "message": "no token", "type": "invalid_request_error" } });
        return body(StatusCode::UNAUTHORIZED, "application/json", error.to_string());
    }
    if method == Method::POST {
        let sent = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        let sent: Value = serde_json::from_slice(&sent).unwrap();
        api.inner.state.lock().unwrap().posted.push((path.clone(), sent.clone()));
        return posted(&api, &path, &sent);
    }
    looked_at(&api, &path)
}

fn looked_at(api: &Api, path: &str) -> Response<Body> {
    let mut shared = api.inner.state.lock().unwrap();
    match path.trim_start_matches("/v1/").split('/').collect::<Vec<_>>()[..] {
        ["models"] => list(json!([{ "id": "pup-puzzles", "parent": null }])),
        ["adapters"] => list(json!(adapters(&shared.active))),
        ["tools"] => list(tools()),
        ["self_edits"] => list(json!(shared.edits)),
        ["self_edits", id] => {
            let known = shared.edits.iter().find(|edit| edit.id == id).cloned();
            let unknown = || EditStatus { id: id.to_owned(), ..edit(0, EditState::Queued, "") };
            found(json!(known.unwrap_or_else(unknown)))
        }
        ["self_edits", id, "events"] => {
            let lines: Vec<String> = events(id).iter().map(|event| event.to_line() + "\n").collect();
            body(StatusCode::OK, "application/x-ndjson", lines.concat())
        }
        ["events"] => {
            let (sender, receiver) = unbounded_channel();
            sender.send(": hello\n\n".to_owned()).unwrap();
            shared.listeners.push(sender);
            streamed(receiver)
        }
        _ => body(StatusCode::NOT_FOUND, "text/plain", format!("nothing is at {path}")),
    }
}

fn posted(api: &Api, path: &str, sent: &Value) -> Response<Body> {
    match path {
        "/v1/self_edits/rollback" => {
            let to = sent["to"].as_str().unwrap();
            let to = if to == "parent" { "g1" } else { to };
            api.inner.state.lock().unwrap().active = to.to_owned();
            found(json!({ "active": to, "adapter_generation": to }))
        }
        "/v1/self_edits/edit-3/approve" => found(api.update("edit-3", |edit| edit.state = EditState::Queued)),
        "/v1/self_edits/check" => found(json!({ "valid": false, "problems": problems() })),
        "/v1/self_edits" => {
            let message = "the self-edit was refused for 1 problem";
            let error = json!({ "error": { "message": message }, "problems": problems() });
            body(StatusCode::UNPROCESSABLE_ENTITY, "application/json", error.to_string())
        }
        "/v1/chat/completions" => conversation(),
        _ => body(StatusCode::NOT_FOUND, "text/plain", format!("nothing is at {path}")),
    }
}

/// An answer that begins, is interrupted by a self-edit, and ends as a grid.
fn conversation() -> Response<Body> {
    let (sender, receiver) = unbounded_channel();
    let chunk =
        |text: &str| json!({ "choices": [{ "delta": { "content": text } }], "adapter_generation": "g2" });
    let event = |number, what| json!({ "choices": [], "selkie_event": event(number, Some("edit-3"), what) });
    let chunks = [
        chunk("I have not seen this. "),
        event(300, Happened::AwaitingApproval),
        event(301, Happened::Approved),
        chunk("[[0,1],"),
        chunk("[2,3]]"),
    ];
    for chunk in chunks {
        sender.send(format!("data: {chunk}\r\n\r\n")).unwrap();
    }
    sender.send("data: [DONE]\n\n".to_owned()).unwrap();
    streamed(receiver)
}

pub(super) fn event(number: u64, edit: Option<&str>, what: Happened) -> TraceEvent {
    let time_ms = NOON + 10 * i64::try_from(number).unwrap();
    TraceEvent { number, time_ms, request: None, edit: edit.map(str::to_owned), what }
}

/// What is said of a text without an edit in it.
fn problems() -> Vec<Problem> {
    selkie_edit::parse("no edit", Domain::Puzzle).unwrap_err().0
}

fn edit(number: i64, state: EditState, context: &str) -> EditStatus {
    EditStatus {
        id: format!("edit-{number}"),
        state,
        time_ms: NOON + 1000 * number,
        request: None,
        trigger: Trigger::Call,
        scope: Scope::Global,
        context: context.to_owned(),
        text: Some(r#"{"version":1,"data":{"permute":{"copies":2}}}"#.to_owned()),
        steps: (5, 5),
        losses: LOSSES.to_vec(),
        before: None,
        after: None,
        reason: None,
        generation: None,
        entry: None,
    }
}

fn scores(measured: &str, answer: Answered) -> GateScores {
    let solved = usize::from(answer.solved);
    GateScores {
        measured: measured.to_owned(),
        solved,
        items: 1,
        log_prob: Some(-0.5),
        answers: vec![answer],
    }
}

fn on_a_puzzle(prediction: Value, solved: bool) -> GateScores {
    let expected = json!([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]);
    let input = Some(json!([[9, 8], [7, 6]]));
    scores("tests", Answered { item: "test 0".to_owned(), solved, prediction, expected, input })
}

fn on_a_passage(prediction: &str, solved: bool) -> GateScores {
    let item = format!("Where does Mira live? {HOSTILE}");
    let (prediction, expected) = (json!(prediction), json!("Oslo"));
    scores("questions", Answered { item, solved, prediction, expected, input: None })
}

/// A passage that was learned, a puzzle that was solved, and an edit that waits for approval.
fn edits() -> Vec<EditStatus> {
    let passage = EditStatus {
        before: Some(on_a_passage("Bern", false)),
        after: Some(on_a_passage("Oslo", true)),
        reason: Some(format!("One question more. {HOSTILE}")),
        generation: Some("g1".to_owned()),
        ..edit(1, EditState::Kept, &format!("Mira {HOSTILE}"))
    };
    let puzzle = EditStatus {
        before: Some(on_a_puzzle(json!([[0, 1, 2, 3, 4], [5, 6, 7, 8, 0]]), false)),
        after: Some(on_a_puzzle(json!([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]), true)),
        reason: Some("The test is solved now.".to_owned()),
        generation: Some("g2".to_owned()),
        ..edit(2, EditState::Kept, "pup_0005")
    };
    let waits =
        EditStatus { steps: (0, 0), losses: Vec::new(), ..edit(3, EditState::AwaitingApproval, "pup_0011") };
    vec![waits, puzzle, passage]
}

fn events(id: &str) -> Vec<TraceEvent> {
    let of = |number, what| event(number, Some(id), what);
    let text = format!("not JSON {HOSTILE}");
    let proposed = Happened::Proposed { text, attempt: 1 };
    let ran = Happened::ToolRan { tool: "grid.rotate".to_owned(), calls: 2, items: 24, fuel: 1_834_222 };
    let measured = Happened::Evaluated { when: When::Before, scores: on_a_puzzle(json!(null), false) };
    match id {
        "edit-1" => vec![of(11, proposed)],
        "edit-2" => vec![of(21, Happened::Queued { ahead: 0 }), of(22, ran), of(23, measured)],
        _ => vec![of(31, Happened::AwaitingApproval)],
    }
}

/// What is told of an edit from its beginning to its end, the steps among it.
pub(super) fn episode() -> Vec<Happened> {
    let (adapter, why) = ("g2".to_owned(), format!("The model asked. {HOSTILE}"));
    let mut all = vec![
        Happened::Started { adapter: adapter.clone(), prompt_tokens: 1210 },
        Happened::Triggered { trigger: Trigger::Model, why },
        Happened::Proposed { text: "{}".to_owned(), attempt: 1 },
        Happened::Queued { ahead: 0 },
        Happened::Dataset { examples: 48, tokens: 12_345, steps: 5 },
    ];
    all.extend(LOSSES.iter().zip(0..).map(|(loss, step)| Happened::TrainingStep {
        step,
        steps: 5,
        loss: *loss,
        learning_rate: 0.003,
    }));
    let resumed = Happened::Resumed { adapter, kv: Kv::Recompute, recomputed: 310, paused_seconds: 6.25 };
    all.extend([
        Happened::RolledBack { reason: "It did not help.".to_owned() },
        resumed,
        Happened::Ended { reason: "stop".to_owned(), tokens: 34 },
    ]);
    all
}

fn adapters(active: &str) -> Vec<AdapterCard> {
    let card = |name: &str, parent: Option<&str>, origin: &str, edit: Option<&str>| AdapterCard {
        name: name.to_owned(),
        parent: parent.map(str::to_owned),
        active: name == active,
        content: parent.map(|_| "0123456789abcdef".repeat(2)),
        origin: origin.to_owned(),
        context: edit.map(|_| HOSTILE.to_owned()),
        edit: edit.map(str::to_owned),
    };
    vec![
        card("base", None, "base", None),
        card("g2", Some("g1"), "generation", Some("edit-2")),
        card("g1", Some("base"), "generation", Some("edit-1")),
        card("mine", None, "loaded", None),
    ]
}

fn tools() -> Value {
    json!([{
        "name": "grid.rotate",
        "plugin": "grid",
        "version": "0.2.0",
        "kind": "puzzle_augmenter",
        "description": format!("Turns grids. {HOSTILE}"),
        "parameters": { "type": "object" },
        "limits": { "call_fuel": 2_000_000_000_u64, "deadline_ms": 30_000, "memory_bytes": 134_217_728 },
    }])
}
