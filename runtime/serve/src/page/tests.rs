//! The page in a browser, with fixed answers behind it: what it shows, what it sends, and that text stays text.

mod api;
mod browser;

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use selkie_engine::live::Happened;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use self::api::{Api, HOSTILE, episode};
use self::browser::Page;
use super::{EXAMPLES, FILES, INDEX, POLICY, router};
use crate::tests::support::{Room, passage, quick_edit};

/// The servers of all tests run here.
static SERVERS: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("threads"));

/// An open page, and the server that it comes from; none without a browser.
fn opened(token: Option<&'static str>) -> Option<(Page, Api, String)> {
    let mut page = Page::open()?;
    let (api, address) = SERVERS.block_on(Api::start(token));
    page.go(&address);
    if token.is_none() {
        page.wait("document.querySelectorAll('#edits [role=option]').length === 3");
        page.wait("document.querySelectorAll('#adapters [role=treeitem]').length === 4");
        page.wait("document.querySelectorAll('#tools details').length === 1");
    }
    Some((page, api, address))
}

/// Nothing was complained of, nothing ran that was text, and nothing was asked of anybody else.
fn is_clean(page: &mut Page, address: &str) {
    assert_eq!(page.complaints(), Vec::<String>::new());
    assert_eq!(page.value("window.hacked ?? 'no'"), "no");
    assert_eq!(page.value("document.querySelectorAll('img, body script, iframe, object').length"), 0);
    let elsewhere = page.requested().into_iter().filter(|asked| !asked.starts_with(address));
    assert_eq!(elsewhere.collect::<Vec<_>>(), Vec::<String>::new());
}

/// Shows an edit of the list.
fn choose(page: &mut Page, id: &str) {
    page.click(&format!("#option-{id}"));
    page.wait(&format!("document.querySelector('#edit h2')?.textContent.startsWith('{id} ')"));
}

fn texts(page: &mut Page, selector: &str) -> Value {
    page.value(&format!("[...document.querySelectorAll({})].map(e => e.textContent)", json!(selector)))
}

#[test]
fn an_episode_is_told_as_it_happens() {
    let Some((mut page, api, address)) = opened(None) else { return };
    for (what, number) in episode().into_iter().zip(1000..) {
        let edit =
            !matches!(what, Happened::Started { .. } | Happened::Resumed { .. } | Happened::Ended { .. });
        api.tell(number, edit.then_some("edit-2"), what);
    }
    page.wait("document.querySelector('#timeline .ended')");
    assert_eq!(page.text("#timeline .episode h3"), "Request req-7");
    let told: Vec<String> = texts(&mut page, "#timeline .episode:first-child .words")
        .as_array()
        .into_iter()
        .flatten()
        .map(plain)
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r##"
    began with g2, 1,210 tokens of prompt
    triggered the model asked for it: The model asked. <img src=x onerror="window.hacked=1"><script>window.hacked=1</script>
    proposed {}
    queued next
    training set 48 sequences, 12,345 tokens an epoch, 5 steps to come
    training step 5 of 5, loss 0.250
    rolled back It did not help.
    resumed with g2 after 6.3 s; keys and values computed anew (310 tokens)
    ended stop, 34 tokens
    "##);
    is_clean(&mut page, &address);
}

fn plain(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_loss_curve_grows_with_the_steps() {
    let Some((mut page, api, address)) = opened(None) else { return };
    choose(&mut page, "edit-3");
    assert_eq!(page.value("document.querySelector('.loss').hidden"), true);
    let steps = episode().into_iter().filter(|what| matches!(what, Happened::TrainingStep { .. }));
    for (what, number) in steps.zip(2000..) {
        api.tell(number, Some("edit-3"), what);
    }
    page.wait("document.querySelectorAll('.chart .point').length === 4");
    // Five steps, of which the third was not finite: two lines, and a mark.
    let path = page.value("document.querySelector('.chart .line').getAttribute('d')");
    assert_eq!(plain(&path).matches('M').count(), 2, "{path}");
    assert_eq!(page.value("document.querySelectorAll('.chart .gap').length"), 1);
    assert_eq!(texts(&mut page, ".chart .label"), json!(["optimiser step", "loss (nats a token)"]));
    let label = page.value("document.querySelector('.chart').getAttribute('aria-label')");
    insta::assert_snapshot!(plain(&label), @"Loss curve. Loss 2.500 at first, 0.250 now, lowest 0.250 nats a token; 5 of 5 steps, 1 not finite.");
    page.click(".loss summary");
    page.wait("document.querySelectorAll('.loss tbody tr').length === 5");
    let rows = texts(&mut page, ".loss tbody td");
    let expected = ["1", "2.5000", "2", "1.2500", "3", "not finite", "4", "0.5000", "5", "0.2500"];
    assert_eq!(rows, json!(expected));
    is_clean(&mut page, &address);
}

#[test]
fn grids_have_arcs_colours_and_say_what_differs() {
    let Some((mut page, _api, address)) = opened(None) else { return };
    choose(&mut page, "edit-2");
    page.wait("document.querySelectorAll('.item .cells').length === 4");
    let captions = texts(&mut page, ".item figcaption");
    assert_eq!(captions, json!(["Input", "Expected", "Before 1 cell wrong", "After exact"]));
    let fills = page.value(
        "[...document.querySelectorAll('.item .grid:nth-child(2) rect')].map(e => getComputedStyle(e).fill)",
    );
    let colours = [
        "rgb(0, 0, 0)",
        "rgb(0, 116, 217)",
        "rgb(255, 65, 54)",
        "rgb(46, 204, 64)",
        "rgb(255, 220, 0)",
        "rgb(170, 170, 170)",
        "rgb(240, 18, 190)",
        "rgb(255, 133, 27)",
        "rgb(127, 219, 255)",
        "rgb(135, 12, 37)",
    ];
    assert_eq!(fills, json!(colours));
    let labels =
        page.value("[...document.querySelectorAll('.item .cells')].map(e => e.getAttribute('aria-label'))");
    insta::assert_snapshot!(labels.as_array().into_iter().flatten().map(plain).collect::<Vec<_>>().join("\n"), @r##"
    Input: 2 by 2. 9 8; 7 6
    Expected: 2 by 5. 0 1 2 3 4; 5 6 7 8 9
    Before, 1 cell wrong: 2 by 5. 0 1 2 3 4; 5 6 7 8 0
    After, exact: 2 by 5. 0 1 2 3 4; 5 6 7 8 9
    "##);
    assert_eq!(page.value("document.querySelectorAll('.item .cells .wrong').length"), 1);
    assert_eq!(texts(&mut page, ".tools-part tbody tr"), json!(["grid.rotate2241,834,222"]));
    is_clean(&mut page, &address);
}

#[test]
fn questions_and_everything_hostile_stay_text() {
    let Some((mut page, api, address)) = opened(None) else { return };
    choose(&mut page, "edit-1");
    let table = texts(&mut page, ".answers tbody tr > *");
    let question = format!("Where does Mira live? {HOSTILE}");
    assert_eq!(table, json!([question, "Oslo", "Bern wrong", "Oslo exact"]));
    api.tell(3000, Some("edit-1"), Happened::Failed { message: HOSTILE.to_owned() });
    api.tell(3001, None, Happened::Moved { to: HOSTILE.to_owned() });
    page.wait("document.querySelector('#timeline .moved')");
    let shown = page.text("body");
    assert!(shown.matches(HOSTILE).count() >= 8, "{shown}");
    is_clean(&mut page, &address);
}

/// Where the keyboard is: what it is called, and whether one can see that it is there.
const FOCUS: &str = "(() => { const e = document.activeElement, s = getComputedStyle(e);
    return [e.dataset.adapter || e.dataset.edit || e.id || e.textContent.trim() || e.tagName,
            s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1]; })()";

/// The focus comes to be there.
fn is_on(page: &mut Page, wanted: &str) {
    page.wait(&format!("{FOCUS}[0] === {}", json!(wanted)));
}

/// Presses a key until the focus is on something; fails after a whole round.
fn reach(page: &mut Page, key: &str, wanted: &str) {
    let mut passed = Vec::new();
    for _ in 0..60 {
        page.press(&[key]);
        let focus = page.value(FOCUS);
        assert_eq!(focus[1], true, "nobody sees that the focus is on {}", focus[0]);
        if focus[0] == wanted {
            return;
        }
        passed.push(plain(&focus[0]));
    }
    panic!("{key} does not reach `{wanted}`, only {passed:?}");
}

#[test]
fn an_adapter_is_rolled_back_by_keyboard_alone() {
    let Some((mut page, api, address)) = opened(None) else { return };
    page.wait("document.querySelector('[data-adapter=g2]') && document.querySelector('[data-edit=edit-3]')");
    reach(&mut page, "Tab", "theme");
    reach(&mut page, "Tab", "edit-3");
    page.press(&["ArrowDown"]);
    page.wait("document.querySelector('#edit h2').textContent.startsWith('edit-2 ')");
    page.press(&["End"]);
    page.wait("document.querySelector('#edit h2').textContent.startsWith('edit-1 ')");
    reach(&mut page, "Tab", "g2");
    page.press(&["ArrowLeft"]);
    is_on(&mut page, "g1");
    reach(&mut page, "Tab", "Roll back to g1");
    page.press(&["Enter"]);
    page.wait("document.querySelector('#confirm').open");
    // Escape is a way out, and the safe answer has the focus.
    page.press(&["Escape"]);
    page.wait("!document.querySelector('#confirm').open");
    assert_eq!(api.posted(), []);
    is_on(&mut page, "Roll back to g1");
    page.press(&["Enter"]);
    page.wait("document.querySelector('#confirm').open");
    is_on(&mut page, "Cancel");
    page.press(&["Tab"]);
    is_on(&mut page, "confirm-yes");
    page.press(&["Enter"]);
    page.wait("document.querySelector('#active').textContent === 'g1'");
    assert_eq!(api.posted(), [("/v1/self_edits/rollback".to_owned(), json!({ "to": "g1" }))]);
    page.wait("document.querySelector('[data-adapter=g1] .state')?.textContent === 'active'");
    is_clean(&mut page, &address);
}

#[test]
fn every_tab_is_reached_by_arrow_keys_and_every_control_by_tab() {
    let Some((mut page, _api, address)) = opened(None) else { return };
    reach(&mut page, "Tab", "tab-edit");
    page.press(&["ArrowRight"]);
    assert_eq!(page.value("document.querySelector('#panel-ask').hidden"), false);
    for wanted in ["ask-text", "ask-adapter", "ask-permission", "ask-scope", "ask-seed", "ask-send"] {
        reach(&mut page, "Tab", wanted);
    }
    reach(&mut page, "Tab", "with-tokens");
    reach(&mut page, "Tab", "timeline");
    reach(&mut page, "Shift+Tab", "tab-ask");
    page.press(&["End"]);
    assert_eq!(page.value("document.querySelector('#panel-apply').hidden"), false);
    for wanted in ["apply-context", "apply-file", "apply-edit", "apply-fresh", "apply-check"] {
        reach(&mut page, "Tab", wanted);
    }
    is_clean(&mut page, &address);
}

#[test]
fn an_edit_that_waits_is_approved() {
    let Some((mut page, api, address)) = opened(None) else { return };
    choose(&mut page, "edit-3");
    assert_eq!(texts(&mut page, ".approval button"), json!(["Approve", "Deny"]));
    page.click(".approval .strong");
    page.wait("document.querySelector('#option-edit-3 .state').textContent === 'queued'");
    assert_eq!(texts(&mut page, ".approval button"), json!([]));
    assert_eq!(api.posted(), [("/v1/self_edits/edit-3/approve".to_owned(), json!({ "allow": true }))]);
    is_clean(&mut page, &address);
}

#[test]
fn an_answer_streams_with_the_edits_that_happen_in_it() {
    let Some((mut page, api, address)) = opened(None) else { return };
    page.click("#tab-ask");
    page.value("document.querySelector('#ask-session').value = 's1'");
    page.value("document.querySelector('#ask-text').focus()");
    page.type_text("What is it?");
    page.click("#ask-send");
    page.wait("document.querySelector('.turn .grid')");
    let turn = texts(&mut page, ".turn.assistant > :is(p, figure)");
    let expected = [
        "I have not seen this. ",
        "awaits approval somebody must say whether it may runApproveDenyedit-3",
        "approved ",
        "[[0,1],[2,3]]",
        "The answer as a grid0123",
        "answered with g2",
    ];
    assert_eq!(turn, json!(expected));
    let posted = api.posted();
    insta::assert_snapshot!(format!("{} {}", posted[0].0, posted[0].1), @r#"/v1/chat/completions {"model":"pup-puzzles","messages":[{"role":"user","content":"What is it?"}],"stream":true,"adapter_generation":"active","temperature":0,"seed":0,"self_edit":{"permission":"ask","scope":"request","triggers":{"failed_grader":false,"document":false}},"session":"s1"}"#);
    is_clean(&mut page, &address);
}

#[test]
fn a_context_is_checked_before_it_is_sent_and_an_edit_by_the_server() {
    let Some((mut page, api, address)) = opened(None) else { return };
    page.click("#tab-apply");
    page.value("document.querySelector('#apply-context').focus()");
    page.type_text(r#"{"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1, 2], [3]]}]}"#);
    page.click("#panel-apply .strong");
    insta::assert_snapshot!(texts(&mut page, "#apply-look li"), @r#"["train expected a list of at least 2","test[0].input expected a grid: rows of one length, of colours 0 to 9, 30 by 30 at most"]"#);
    assert_eq!(api.posted(), []);
    page.click("[data-example=puzzle]");
    page.wait("document.querySelectorAll('#apply-look .cells').length === 8");
    page.value("document.querySelector('#apply-edit').focus()");
    page.type_text("{}");
    page.click("#apply-check");
    page.wait("document.querySelector('#apply-result .problems')");
    insta::assert_snapshot!(texts(&mut page, "#apply-result > *"), @r#"["Not a valid self-edit for a puzzle.","/ expected a JSON object in Selkie's form (`version`, `data`) or SEAL's (`data_generation`, `training`), found \"no edit\" (no json)"]"#);
    assert_eq!(api.posted()[0].0, "/v1/self_edits/check");
    assert_eq!(api.posted()[0].1, json!({ "edit": "{}", "domain": "puzzle" }));
    // The browser itself notes an answer of 422, so what it notes is looked at before.
    is_clean(&mut page, &address);
    page.click("#panel-apply .strong");
    page.wait("document.querySelector('#apply-result')?.textContent.includes('refused for 1 problem')");
    assert_eq!(api.posted()[1].1["context"]["id"], "pup_0005");
}

#[test]
fn text_and_controls_stand_out_in_light_and_dark() {
    let Some((mut page, api, address)) = opened(None) else { return };
    for (what, number) in episode().into_iter().zip(1000..) {
        api.tell(number, Some("edit-2"), what);
    }
    page.wait("document.querySelector('#timeline .ended')");
    page.click("#tools summary");
    for (system, clicks, background) in [
        ("light", 0, "rgb(251, 251, 249)"),
        ("dark", 0, "rgb(19, 22, 26)"),
        // The button goes over the system's wish: first to light, then to dark.
        ("dark", 1, "rgb(251, 251, 249)"),
        ("light", 1, "rgb(19, 22, 26)"),
    ] {
        page.prefers(&[("prefers-reduced-motion", "reduce"), ("prefers-color-scheme", system)]);
        for _ in 0..clicks {
            page.click("#theme");
        }
        assert_eq!(page.value("getComputedStyle(document.body).backgroundColor"), background);
        for show in ["#option-edit-1", "#option-edit-2", "#option-edit-3", "#tab-ask", "#tab-apply"] {
            page.click(show);
            page.value("new Promise(requestAnimationFrame)");
            let result = page.value(include_str!("tests/contrast.js"));
            assert_eq!(result["found"], json!([]), "{system}, {show}");
            assert!(result["looked"].as_u64() > Some(60), "only {} were looked at", result["looked"]);
        }
    }
    is_clean(&mut page, &address);
}

#[test]
fn a_narrow_window_scrolls_in_one_direction() {
    let Some((mut page, _api, address)) = opened(None) else { return };
    for width in [320, 768, 1024] {
        page.window(width, 700);
        for show in ["#option-edit-1", "#option-edit-2", "#tab-ask", "#tab-apply"] {
            page.click(show);
            page.value("new Promise(requestAnimationFrame)");
            let over = page.value("document.documentElement.scrollWidth - innerWidth");
            assert!(over.as_i64() <= Some(0), "{show} at {width}: {over} pixels too wide");
        }
    }
    is_clean(&mut page, &address);
}

#[test]
fn a_token_is_asked_for_once_and_kept_in_the_tab() {
    let Some((mut page, api, _)) = opened(Some("right")) else { return };
    page.wait("document.querySelector('#ask-token').open");
    assert_eq!(page.value(FOCUS)[0], "token-text");
    page.type_text("wrong");
    page.press(&["Enter"]);
    page.wait("document.querySelector('#token-title').textContent === 'This token was not accepted'");
    page.wait("document.querySelector('#ask-token').open");
    // Who says no is left alone, until the button is pressed.
    page.press(&["Escape"]);
    page.wait("document.querySelector('#banner').textContent === 'no token'");
    assert_eq!(page.value("document.querySelector('#ask-token').open"), false);
    page.click("#token");
    page.type_text("right");
    page.press(&["Enter"]);
    page.wait("document.querySelectorAll('#edits [role=option]').length === 3");
    assert_eq!(page.value("Object.values(sessionStorage)"), json!(["right"]));
    assert_eq!(page.value("Object.values(localStorage)"), json!([]));
    assert_eq!(page.value("document.querySelector('#token-text').value"), "");
    assert_eq!(api.listeners(), 1);
}

#[test]
fn the_page_goes_on_when_the_events_break_off() {
    let Some((mut page, api, address)) = opened(None) else { return };
    page.wait("document.querySelector('#link').dataset.state === 'on'");
    api.hang_up();
    page.wait("document.querySelector('#link').dataset.state === 'off'");
    page.wait("document.querySelector('#link').dataset.state === 'on'");
    api.tell(1000, None, Happened::Started { adapter: "base".to_owned(), prompt_tokens: 1 });
    page.wait("document.querySelector('#timeline .started')");
    is_clean(&mut page, &address);
}

#[test]
fn an_event_that_comes_for_ever_takes_no_more_room() {
    let Some((mut page, api, address)) = opened(None) else { return };
    for number in 0..3000 {
        let text = "a word ".to_owned();
        api.tell(10_000 + number, None, Happened::Token { id: 1, text, log_prob: Some(-0.5) });
        let what = Happened::Queued { ahead: 1 };
        api.tell(20_000 + number, Some(&format!("many-{}", number % 500)), what);
    }
    api.tell(30_000, None, Happened::Ended { reason: "stop".to_owned(), tokens: 3000 });
    page.wait("document.querySelector('#timeline .ended')");
    assert!(page.value("document.querySelectorAll('#edits [role=option]').length").as_u64() <= Some(200));
    assert!(page.value("document.querySelectorAll('#timeline .event').length").as_u64() <= Some(100));
    assert_eq!(page.value("document.querySelector('#banner').hidden"), true);
    is_clean(&mut page, &address);
}

#[test]
fn before_the_real_server_an_edit_is_applied_and_rolled_back() {
    let Some(mut page) = Page::open() else { return };
    let (_room, server) = SERVERS.block_on(async {
        let room = Room::new();
        let server = room.listen().await;
        (room, server)
    });
    let address = format!("http://{}", server.address);
    page.go(&address);
    page.wait("document.querySelector('#active').textContent === 'base'");
    page.click("#tab-apply");
    for (field, value) in [("apply-context", passage()), ("apply-edit", quick_edit())] {
        page.value(&format!("document.getElementById('{field}').focus()"));
        page.type_text(&value.to_string());
    }
    page.click("#panel-apply .strong");
    page.wait("document.querySelector('#active').textContent === 'g1'");
    page.wait("document.querySelector('#timeline .kept')");
    let told = texts(&mut page, "#timeline .episode:first-child .event b");
    insta::assert_snapshot!(told, @r##"["triggered","proposed","queued","training set","measured before","training","measured after","kept"]"##);
    choose(&mut page, "edit-1");
    page.wait("document.querySelectorAll('.chart .point').length > 1");
    page.click("#adapter .strong");
    page.wait("document.querySelector('#confirm').open");
    page.click("#confirm-yes");
    page.wait("document.querySelector('#active').textContent === 'base'");
    page.wait("document.querySelector('#timeline .moved')");
    is_clean(&mut page, &address);
}

async fn fetch(path: &str, known: Option<&str>) -> (StatusCode, axum::http::HeaderMap, String) {
    let mut request = Request::get(path);
    if let Some(tag) = known {
        request = request.header("if-none-match", tag);
    }
    let response =
        router::<()>().oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (status, headers, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn files_come_with_their_type_their_policy_and_a_tag() {
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
        ("/page/puzzle.json", "application/json"),
    ] {
        let (status, headers, body) = fetch(path, None).await;
        assert_eq!(
            (status, &headers["content-type"]),
            (StatusCode::OK, &kind.parse().expect("a value")),
            "{path}"
        );
        assert_eq!(headers["content-security-policy"], POLICY, "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["cache-control"], "no-cache", "{path}");
        assert!(!body.is_empty(), "{path}");
        let tag = headers["etag"].to_str().expect("text").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            let (status, _, body) = fetch(path, Some(&known)).await;
            assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path} {known}");
        }
        assert_eq!(fetch(path, Some("\"other\"")).await.0, StatusCode::OK, "{path}");
    }
    for path in ["/page/", "/page/nothing.js", "/page/..%2Flib.rs", "/page/%2e%2e/Cargo.toml"] {
        assert_eq!(fetch(path, None).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[test]
fn files_name_only_each_other_and_write_no_markup() {
    let mut violations = Vec::new();
    for (name, _, text) in FILES.iter().chain([&INDEX]) {
        let markup = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style=\""];
        violations
            .extend(markup.iter().filter(|word| text.contains(*word)).map(|word| format!("{name}: {word}")));
        let addresses =
            text.match_indices("://").map(|(at, _)| text[at..].chars().take(30).collect::<String>());
        violations.extend(
            addresses
                .filter(|address| !address.starts_with("://www.w3.org/"))
                .map(|it| format!("{name}: {it}")),
        );
        for used in text.split("\"./").skip(1).chain(text.split("\"/page/").skip(1)) {
            let used = used.split('"').next().unwrap_or_default();
            if !FILES.iter().chain(&EXAMPLES).any(|(file, _, _)| *file == used) {
                violations.push(format!("{name}: there is no {used}"));
            }
        }
    }
    assert_eq!(violations, Vec::<String>::new());
}
