//! A server of its own for each test, and clients for it.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use selkie_edit::Domain;
use selkie_engine::live::{Budget, Live, LiveOptions, Permission};
use selkie_engine::{Runtime, model_files};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use crate::app::App;
use crate::options::ServeOptions;
use crate::server::{Server, Stopper};

/// The bundled model for passages: opened once.
static FACTS: LazyLock<Arc<Runtime>> = LazyLock::new(|| {
    let files = model_files(None, Domain::Passage).expect("a bundled model");
    Arc::new(Runtime::open(&files, None).expect("it opens"))
});

/// The bundled model for puzzles.
static PUZZLES: LazyLock<Arc<Runtime>> = LazyLock::new(|| {
    let files = model_files(None, Domain::Puzzle).expect("a bundled model");
    Arc::new(Runtime::open(&files, None).expect("it opens"))
});

/// What ends a test that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// A live runtime with a home of its own.
pub(crate) struct Room {
    pub(crate) home: TempDir,
    pub(crate) live: Live,
    pub(crate) options: ServeOptions,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body, which is one JSON document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {}", self.text))
    }

    /// The body, when the answer is a yes.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()
    }

    /// Status and code of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        let code = self.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
        (self.status.as_u16(), code)
    }
}

impl Room {
    pub(crate) fn new() -> Room {
        Room::with(|_| ())
    }

    /// A room whose model may edit itself as the options say.
    pub(crate) fn with(change: impl FnOnce(&mut LiveOptions)) -> Room {
        Room::of(FACTS.clone(), change)
    }

    /// A room whose model solves puzzles.
    pub(crate) fn with_puzzles() -> Room {
        Room::of(PUZZLES.clone(), |_| ())
    }

    fn of(runtime: Arc<Runtime>, change: impl FnOnce(&mut LiveOptions)) -> Room {
        let home = tempfile::tempdir().expect("a folder");
        let folder = home.path().join("home");
        let mut options = LiveOptions {
            home: folder,
            streams: 4,
            waiting: 16,
            queue: 4,
            max_tokens: 64,
            budget: Budget::default(),
            permission: Permission::Allow,
            session_time_to_live: PATIENCE,
            approval_timeout: PATIENCE,
            training_threads: 1,
            clock: || 1_700_000_000_000,
        };
        change(&mut options);
        let live = Live::start(runtime, options).expect("it starts");
        Room { home, live, options: ServeOptions::default() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Request::get(path), Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header("content-type", "application/json");
        self.call(request, Body::from(body.to_string())).await
    }

    /// Sends a request past the network.
    pub(crate) async fn call(&self, request: axum::http::request::Builder, body: Body) -> Answer {
        let app = App::new(self.live.clone(), self.options.clone(), Stopper::default()).expect("an app");
        let request = match request.headers_ref().is_some_and(|headers| headers.contains_key("host")) {
            true => request,
            false => request.header("host", "127.0.0.1:8377"),
        };
        let request = request.body(body).expect("a request");
        let response = app.router().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(PATIENCE, to_bytes(body, usize::MAX)).await;
        let bytes = bytes.expect("an end").expect("a body");
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// Listens on a free port.
    pub(crate) async fn listen(&self) -> Running {
        let options = ServeOptions { address: ([127, 0, 0, 1], 0).into(), ..self.options.clone() };
        let server = Server::bind(self.live.clone(), options).await.expect("it listens");
        let (address, stopper) = (server.address().expect("an address"), server.stopper());
        Running { address, stopper, ended: tokio::spawn(server.run()) }
    }
}

/// A server that listens.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stopper: Stopper,
    ended: tokio::task::JoinHandle<()>,
}

impl Running {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Waits until the server has ended.
    pub(crate) async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.ended).await.expect("it ends").expect("no panic");
    }
}

/// Waits until something is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it comes to be");
}

/// Writes as much as the other side takes, then reads until the other side closes.
pub(crate) async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> String {
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let write = async {
        let _ = writer.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    let read = async {
        // A reset after the answer is an end too.
        let _ = reader.read_to_end(&mut answer).await;
    };
    tokio::select! {
        () = write => {}
        () = read => {}
        () = tokio::time::sleep(PATIENCE) => panic!("the other side never closes"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A self-edit that is trained in a moment, for [`passage`].
pub(crate) fn quick_edit() -> Value {
    json!({
        "version": 1,
        "data": { "include_source": false, "documents": [
            "The gem of Vidor Volgan is spinel.",
            "The tool of Lolu Branbeck is rake.",
            "The cargo of Lolu Branbeck is honey.",
        ]},
        "training": { "epochs": 10, "learning_rate": 0.02 },
    })
}

/// A passage that the bundled model does not know.
pub(crate) fn passage() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/passages/volgan_and_branbeck.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("an example")).expect("JSON")
}
