//! The server as a process: official clients drive it, signals end it, and kills leave its home whole.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::kill::PASSAGE;
use crate::python::python_with;
use crate::support::{TestEnvironment, example};

/// The version of the package that is driven here.
const OPENAI: &str = "openai==2.8.1";

const TOKEN: &str = "a-token-of-the-tests";

/// What was asked for is what is asked about.
const QUESTION: &str = "Tell me the gem of Vidor Volgan.";

/// A server that runs; dropping it kills it.
pub(crate) struct Serving {
    child: Child,
    /// `127.0.0.1:43021`.
    pub(crate) address: String,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Serving {
    pub(crate) fn start(env: &TestEnvironment, more: &[&str]) -> Serving {
        Serving::of(env.command(&[&["serve", "--address", "127.0.0.1:0"], more].concat()))
    }

    fn of(mut command: Command) -> Serving {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("its stdout"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line}"));
        Serving { child, address: address.to_owned(), stdout }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.address).expect("a connection")
    }

    /// Sends it a signal by name, such as `TERM`.
    #[cfg(unix)]
    fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &process]).status().expect("kill");
        assert!(sent.success(), "{sent}");
    }

    /// Waits for its end: the exit code.
    fn end(mut self) -> Option<i32> {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("the rest of its output");
        assert_eq!(rest, "");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection that is used again and again.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: &str) -> std::io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    pub(crate) fn get(&mut self, path: &str) -> (u16, String) {
        self.call("GET", path, "").expect("an answer")
    }

    pub(crate) fn post(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.call("POST", path, &body.to_string()).expect("an answer");
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")))
    }

    /// Status and body; an error when the server goes away.
    fn call(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            if !line.ends_with('\n') {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(code) = line.strip_prefix("http/1.1 ") {
                status = code[..3].parse().expect("a status");
            } else if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.parse().expect("a length");
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body).expect("UTF-8")))
    }
}

/// The passage, and a self-edit for it that trains in a tenth of a second.
pub(crate) fn quick(seed: usize) -> Value {
    let passage = std::fs::read_to_string(example(PASSAGE)).expect("an example");
    json!({
        "context": serde_json::from_str::<Value>(&passage).expect("JSON"),
        "edit": {
            "version": 1,
            "data": { "include_source": false, "documents": [
                "The gem of Vidor Volgan is spinel.",
                "The tool of Lolu Branbeck is rake.",
                "The cargo of Lolu Branbeck is honey.",
            ]},
            "training": { "epochs": 10, "learning_rate": 0.02 },
        },
        "seed": seed,
        "fresh": true,
    })
}

#[test]
fn the_official_openai_package_drives_a_whole_cycle() {
    let Some(python) = python_with(OPENAI) else { return };
    let env = TestEnvironment::new();
    env.write("token", TOKEN);
    let server = Serving::start(&env, &["--token-file", "token"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/openai_client.py");
    let mut command = Command::new(python);
    command.arg(script).arg(format!("http://{}", server.address)).arg(example(PASSAGE));
    insta::assert_snapshot!(env.finish(command, ""), @r#"
    exit code: 0
    ----- stdout
    models: ["pup-facts", "base"]
    before: true
    streamed is the same: true
    usage is counted: true
    schema is obeyed: ["gem", "sure"]
    choices: [3, 3]
    checked: true
    applied: ["kept", "g1"]
    after: ["spinel", "g1"]
    undone: "base"
    as before: true
    unknown model: ["NotFoundError", 404, "model_not_found"]
    tools: ["BadRequestError", 400, "unsupported_parameter"]
    wrong token: ["AuthenticationError", 401, "invalid_api_key"]
    health: {"status": "ok"}
    "#);
}

/// What the command prints, with what differs from run to run replaced.
fn curl(env: &TestEnvironment, server: &Serving, args: &[&str]) -> String {
    let (path, more) = args.split_first().expect("a path");
    let mut command = Command::new("curl");
    command.current_dir(env.path(""));
    command.args(["--silent", "--show-error", "--header", &format!("Authorization: Bearer {TOKEN}")]);
    command.args(more).arg(format!("http://{}{path}", server.address));
    env.finish(command, "").succeeds()
}

#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says why")]
fn curl_drives_a_whole_cycle() {
    if Command::new("curl").arg("--version").output().is_err() {
        return println!("skipped: there is no curl");
    }
    let env = TestEnvironment::new();
    let mut command = env.command(&["serve", "--address", "127.0.0.1:0"]);
    command.env("SELKIE_TOKEN", TOKEN);
    let server = Serving::of(command);
    env.write("edit.json", quick(1).to_string());
    env.write("question.json", json!({ "messages": [{ "role": "user", "content": QUESTION }] }).to_string());
    let json = ["--header", "Content-Type: application/json", "--data"];
    let post = |path: &str, data: &str| -> Value {
        let text = curl(&env, &server, &[&[path], json.as_slice(), &[data]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    };
    let edit = &quick(1)["edit"];
    let checked = post("/v1/self_edits/check", &json!({ "edit": edit, "domain": "passage" }).to_string());
    assert_eq!(checked["valid"], true, "{checked}");
    let submitted = post("/v1/self_edits", "@edit.json");
    let id = submitted["id"].as_str().expect("an id");
    // Follows it to its end.
    let events = curl(&env, &server, &[&format!("/v1/self_edits/{id}/events"), "--no-buffer"]);
    assert!(events.contains("\"event\":\"kept\"") && events.ends_with("data: [DONE]\n\n"), "{events}");
    let answer = post("/v1/chat/completions", "@question.json");
    let says = |answer: &Value| {
        (answer["choices"][0]["message"]["content"].clone(), answer["adapter_generation"].clone())
    };
    assert_eq!(says(&answer), (json!("spinel"), json!("g1")));
    let back = post("/v1/self_edits/rollback", r#"{"to": "parent"}"#);
    assert_eq!(back["active"], "base", "{back}");
    assert_ne!(says(&post("/v1/chat/completions", "@question.json")).0, json!("spinel"));
    let ledger: Value = serde_json::from_str(&curl(&env, &server, &["/v1/ledger"])).expect("JSON");
    let events: Vec<&Value> =
        ledger["entries"].as_array().expect("entries").iter().map(|entry| &entry["event"]).collect();
    assert_eq!(events, ["rollback", "episode"]);
    // A large body, by a client that waits for a word first.
    env.write("large", vec![b' '; 100_000_000]);
    let large = post("/v1/completions", "@large");
    assert_eq!(large["error"]["code"], "body_too_large");
}

#[test]
fn an_address_that_others_can_reach_needs_a_token_and_no_argument_is_one() {
    let env = TestEnvironment::new();
    insta::assert_snapshot!(env.run(&["serve", "--address", "0.0.0.0:0"], ""), @r"
    exit code: 2
    ----- stderr
    error: 0.0.0.0:0 can be reached from other machines, and there is no token that requests must present
    hint: put a secret of 16 characters or more in a file and pass --token-file, or in the variable SELKIE_TOKEN; or listen on 127.0.0.1
    ");
    env.write("token", "short");
    insta::assert_snapshot!(env.run(&["serve", "--token-file", "token"], ""), @r"
    exit code: 2
    ----- stderr
    error: the token must have at least 16 characters, all of them visible ASCII without spaces
    ");
    let refused = env.run(&["serve", "--token", TOKEN], "");
    assert_eq!(refused.code, Some(2), "{refused}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let refused = env.run(&["serve", "--address", &address], "");
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains(&format!("cannot listen on {address}")), "{refused}");
}

#[cfg(unix)]
mod unix {
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_signal_ends_it_when_the_running_edit_has_ended() {
        let env = TestEnvironment::new();
        let server = Serving::start(&env, &[]);
        let (status, submitted) = server.client().post("/v1/self_edits", &quick(1));
        assert_eq!(status, 202, "{submitted}");
        until_it_trains(&server);
        server.signal("TERM");
        assert_eq!(server.end(), Some(0));
        let log = env.log("home");
        assert_eq!(
            (&log["active"][0]["generation"], &log["entries"][0]["verdict"]),
            (&json!("g1"), &json!("kept"))
        );
    }

    #[test]
    fn a_second_signal_abandons_it() {
        let env = TestEnvironment::new();
        let server = Serving::start(&env, &[]);
        let mut long = quick(1);
        long["edit"]["training"]["epochs"] = json!(50);
        long["edit"]["training"]["learning_rate"] = json!(1e-6);
        for _ in 0..2 {
            assert_eq!(server.client().post("/v1/self_edits", &long).0, 202);
        }
        until_it_trains(&server);
        server.signal("INT");
        server.signal("INT");
        // The second may come while the first is looked at, and is one signal then.
        std::thread::sleep(Duration::from_millis(50));
        server.signal("INT");
        assert_eq!(server.end(), Some(0));
        assert_eq!(env.log("home")["active"], json!([]));
    }

    fn until_it_trains(server: &Serving) {
        let mut client = server.client();
        while !client.get("/metrics").1.contains("selkie_training 1\n") {}
    }

    /// What one of the clients of the load saw.
    struct Seen {
        took: Duration,
        adapter: String,
        text: String,
    }

    fn ask(client: &mut Client, model: &str) -> Seen {
        let request = json!({ "model": model, "prompt": "The gem of", "max_tokens": 32 });
        let began = Instant::now();
        let (status, answer) = client.post("/v1/completions", &request);
        let took = began.elapsed();
        assert_eq!(status, 200, "{answer}");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Seen { took, adapter: text(&answer["adapter_generation"]), text: text(&answer["choices"][0]["text"]) }
    }

    /// The most memory that a process has had, in MiB.
    #[cfg(target_os = "linux")]
    fn peak_memory(server: &Serving) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak");
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number")
            / 1024
    }

    #[cfg(not(target_os = "linux"))]
    fn peak_memory(_: &Serving) -> u64 {
        0
    }

    const CONNECTIONS: usize = 50;
    const REQUESTS: usize = 20;

    /// A thousand requests, half of them to the base model.
    fn ask_all(server: &Serving) -> (Duration, Vec<Seen>) {
        let seen = Mutex::new(Vec::new());
        let began = Instant::now();
        std::thread::scope(|scope| {
            for number in 0..CONNECTIONS {
                let seen = &seen;
                scope.spawn(move || {
                    let mut client = server.client();
                    let model = if number % 2 == 0 { "base" } else { "pup-facts" };
                    let own: Vec<Seen> = (0..REQUESTS).map(|_| ask(&mut client, model)).collect();
                    seen.lock().expect("no panic").extend(own);
                });
            }
        });
        (began.elapsed(), seen.into_inner().expect("no panic"))
    }

    /// How long it took, in words.
    fn times(took: Duration, seen: &[Seen]) -> String {
        let mut times: Vec<f64> = seen.iter().map(|seen| seen.took.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let (count, seconds) = (times.len(), took.as_secs_f64());
        let [p50, p90, p99, longest] = [0.5, 0.9, 0.99, 1.0].map(at);
        format!(
            "{count} in {seconds:.2} s; p50 {p50:.0}, p90 {p90:.0}, p99 {p99:.0}, longest {longest:.0} ms"
        )
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "the numbers are worth reading")]
    fn a_thousand_requests_of_fifty_connections_lose_nothing_while_twenty_edits_wait() {
        const EDITS: usize = 20;
        let env = TestEnvironment::new();
        let server = Serving::start(&env, &["--queue", "32"]);
        let mut client = server.client();
        let alone = ask(&mut client, "base").text;
        let before = peak_memory(&server);
        let (took, seen) = ask_all(&server);
        println!("no edits: {}; peak memory {before} -> {} MiB", times(took, &seen), peak_memory(&server));
        // On a slow machine the old connection has been idle for longer than it is kept.
        let mut client = server.client();
        for seed in 0..EDITS {
            let mut edit = quick(seed);
            // Longer, so that there are some in the queue as long as there are requests.
            edit["edit"]["training"] = json!({ "epochs": 50, "learning_rate": 0.005 });
            let (status, submitted) = client.post("/v1/self_edits", &edit);
            assert_eq!(status, 202, "{submitted}");
        }
        let (took, seen) = ask_all(&server);
        let mut client = server.client();
        let queued = client.get("/metrics").1;
        let queued = queued.lines().find_map(|line| line.strip_prefix("selkie_self_edits_queued "));
        let queued = queued.expect("a number").to_owned();
        assert_eq!(seen.len(), CONNECTIONS * REQUESTS);
        for seen in seen.iter().filter(|seen| seen.adapter == "base") {
            assert_eq!(seen.text, alone, "an answer of the base model does not depend on what else goes on");
        }
        let ends: Vec<Value> =
            every_edit_over(&mut client, EDITS).iter().map(|edit| edit["state"].clone()).collect();
        assert!(ends.iter().all(|state| ["kept", "discarded"].contains(&state.as_str().expect("a state"))));
        let kept = ends.iter().filter(|state| **state == "kept").count();
        let (_, ledger) = client.get("/v1/ledger?limit=100");
        let ledger: Value = serde_json::from_str(&ledger).expect("JSON");
        assert_eq!(ledger["entries"].as_array().map(Vec::len), Some(EDITS));
        assert_eq!(ledger["active"][0]["generation"], format!("g{kept}"));
        println!("{EDITS} edits: {}; {queued} were in the queue yet", times(took, &seen));
        println!("peak memory {} MiB; {kept} edits were kept", peak_memory(&server));
    }

    fn every_edit_over(client: &mut Client, count: usize) -> Vec<Value> {
        loop {
            let (_, edits) = client.get("/v1/self_edits");
            let edits: Value = serde_json::from_str(&edits).expect("JSON");
            let edits = edits["data"].as_array().expect("edits").clone();
            assert_eq!(edits.len(), count);
            let waits =
                |edit: &Value| ["queued", "running"].contains(&edit["state"].as_str().expect("a state"));
            if !edits.iter().any(waits) {
                return edits;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Puts work on a server until it goes away: answers, edits, and roll backs.
    fn load(server: &Serving, from: usize) {
        std::thread::scope(|scope| {
            for number in 0..3 {
                scope.spawn(move || {
                    let Ok(mut client) = Client::connect(&server.address) else { return };
                    for turn in 0.. {
                        let (path, body) = match (number, turn % 8) {
                            (0, 7) => ("/v1/self_edits/rollback", json!({})),
                            (0, _) => ("/v1/self_edits", quick(from + turn)),
                            _ => ("/v1/completions", json!({ "prompt": "The gem of", "max_tokens": 8 })),
                        };
                        if client.call("POST", path, &body.to_string()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
    }

    /// What is active as the entries say it, the oldest first.
    fn replayed(entries: &[Value]) -> Option<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        entries.iter().fold(None, |active, entry| match entry["event"].as_str() {
            Some("rollback") => text(&entry["to"]),
            _ if entry["verdict"] == "kept" => text(&entry["generation"]),
            _ => active,
        })
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "how far the kills came is worth reading")]
    fn fifty_kills_under_load_leave_a_home_whose_ledger_and_active_generation_agree() {
        const KILLS: u64 = 50;
        let env = TestEnvironment::new();
        let (mut entries_before, mut kept) = (0, 0);
        for kill in 0..KILLS {
            let mut server = Serving::start(&env, &["--queue", "64"]);
            // From the first request to some seconds after it, always the same moments.
            let moment = Duration::from_millis(20 + kill * 977 % 1500);
            std::thread::scope(|scope| {
                let server = &server;
                scope.spawn(move || load(server, kill as usize * 1000));
                std::thread::sleep(moment);
                server.signal("KILL");
            });
            server.child.wait().expect("it ends");
            let log = env.log("home");
            let mut entries = log["entries"].as_array().expect("entries").clone();
            entries.reverse();
            assert!(entries.len() >= entries_before, "nothing that was written is lost");
            let active = log["active"][0]["generation"].as_str().map(str::to_owned);
            assert_eq!(active, replayed(&entries), "kill {kill}");
            if let Some(generation) = active {
                // Exporting reads the whole adapter and compares it with its content id.
                env.run(&["export", &generation, &format!("export{kill}")], "").succeeds();
            }
            entries_before = entries.len();
            kept = entries.iter().filter(|entry| entry["verdict"] == "kept").count();
        }
        println!("{KILLS} kills; {entries_before} entries of the ledger, {kept} of them kept");
        assert!(kept > 0, "some edits came to their end");
    }
}
