//! A headless Chromium, driven by its DevTools protocol over two pipes: no driver, no port, no package.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it unwraps, and says what it skips"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Names that Chromium goes by; `$SELKIE_CHROMIUM` is asked first.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// How often a condition is looked at, 25 ms apart, before a test gives up on it.
const LOOKS: usize = 2400;

/// Chromium takes its commands from file 3 and answers on file 4.
const START: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";

/// Two browsers at a time would only be slower.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A page in a browser of its own.
pub(super) struct Page {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// What the browser told without being asked.
    events: Vec<Value>,
    _profile: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Page {
    fn drop(&mut self) {
        // The browser may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SELKIE_CHROMIUM") {
        return Some(PathBuf::from(named));
    }
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|file| file.is_file())
}

impl Page {
    /// An empty page; none, with a printed reason, where there is no Chromium that starts.
    pub(super) fn open() -> Option<Page> {
        let Some(program) = chromium().filter(|_| cfg!(unix)) else {
            println!("skipped: no Chromium (install one, or name it in SELKIE_CHROMIUM)");
            return None;
        };
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let profile = tempfile::tempdir().unwrap();
        // Without its sandbox, which does not start in most containers: the pages are ours.
        let mut child = Command::new("sh")
            .args(["-c", START])
            .arg(&program)
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut page = Page {
            child,
            commands,
            messages,
            session: None,
            last: 0,
            events: Vec::new(),
            _profile: profile,
            _turn: turn,
        };
        if page.attach().is_none() {
            println!("skipped: `{}` does not start", program.display());
            return None;
        }
        Some(page)
    }

    fn attach(&mut self) -> Option<()> {
        let target = self.try_call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        self.session =
            Some(self.try_call("Target.attachToTarget", target)?["sessionId"].as_str()?.to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        self.window(1400, 900);
        self.prefers(&[("prefers-reduced-motion", "reduce")]);
        Some(())
    }

    /// Sends a command and waits for its answer; none when the browser has ended.
    fn try_call(&mut self, method: &str, params: Value) -> Option<Value> {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).ok()?;
        loop {
            let mut message = self.messages.recv().ok()?;
            if message["id"] != self.last {
                self.events.push(message);
                continue;
            }
            assert!(message["error"].is_null(), "{method}: {}", message["error"]);
            return Some(message["result"].take());
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.try_call(method, params).expect("the browser lives")
    }

    /// The size of the window, in CSS pixels.
    pub(super) fn window(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// What media queries say.
    pub(super) fn prefers(&mut self, features: &[(&str, &str)]) {
        let features: Vec<Value> =
            features.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    pub(super) fn go(&mut self, address: &str) {
        self.call("Page.navigate", json!({ "url": address }));
        self.wait("document.readyState === 'complete' && location.protocol === 'http:'");
    }

    /// The value of an expression.
    pub(super) fn value(&mut self, expression: &str) -> Value {
        let wanted = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", wanted);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// The text of the first element that a selector finds.
    pub(super) fn text(&mut self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({})?.textContent", json!(selector)));
        found.as_str().unwrap_or_else(|| panic!("nothing is {selector}")).to_owned()
    }

    /// Waits until an expression is true.
    pub(super) fn wait(&mut self, expression: &str) {
        for _ in 0..LOOKS {
            if self.value(&format!("Boolean({expression})")) == json!(true) {
                return;
            }
            sleep(Duration::from_millis(25));
        }
        let shown = self.value("document.body.innerText");
        panic!("never true: {expression}; the page shows:\n{}", shown.as_str().unwrap_or_default());
    }

    pub(super) fn click(&mut self, selector: &str) {
        self.wait(&format!("document.querySelector({})", json!(selector)));
        self.value(&format!("document.querySelector({}).click()", json!(selector)));
    }

    /// Presses keys as a person does: names such as `Tab` and `Enter`, with `Shift+` before, or one character each.
    pub(super) fn press(&mut self, keys: &[&str]) {
        for key in keys {
            let (modifiers, name) = key.strip_prefix("Shift+").map_or((0, *key), |name| (8, name));
            let code: BTreeMap<&str, u32> = [
                ("Tab", 9),
                ("Enter", 13),
                ("Escape", 27),
                (" ", 32),
                ("End", 35),
                ("Home", 36),
                ("ArrowLeft", 37),
                ("ArrowUp", 38),
                ("ArrowRight", 39),
                ("ArrowDown", 40),
            ]
            .into();
            let code = code.get(name).copied().unwrap_or_default();
            let mut event = json!({ "type": "keyDown", "key": name, "code": name, "modifiers": modifiers,
                "windowsVirtualKeyCode": code });
            match name {
                "Enter" => event["text"] = json!("\r"),
                one if one.chars().count() == 1 => event["text"] = json!(one),
                _ => {}
            }
            self.call("Input.dispatchKeyEvent", event.clone());
            event["type"] = json!("keyUp");
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Types into what has the focus.
    pub(super) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Addresses of everything that was asked for so far.
    pub(super) fn requested(&mut self) -> Vec<String> {
        self.value("0");
        let sent = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// Everything that the console, the log and uncaught exceptions said so far.
    pub(super) fn complaints(&mut self) -> Vec<String> {
        self.value("0");
        let kinds = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
        let said =
            self.events.iter().filter(|event| kinds.contains(&event["method"].as_str().unwrap_or_default()));
        said.map(|event| event["params"].to_string()).collect()
    }
}
