//! The end of a server.

use selkie_engine::live::EditState;
use serde_json::json;

use super::support::{Room, exchange, passage, quick_edit};

/// A request as bytes.
fn post(path: &str, body: &serde_json::Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn the_first_word_lets_what_runs_finish() {
    let room = Room::new();
    let server = room.listen().await;
    let stopper = server.stopper.clone();
    let mut stream = server.connect().await;
    let mut trace = room.live.trace();
    let waiting = tokio::spawn(async move {
        let edit = json!({ "context": passage(), "edit": quick_edit(), "wait": true });
        exchange(&mut stream, &post("/v1/self_edits", &edit)).await
    });
    // It runs.
    while !trace.next().await.is_some_and(|event| event.to_line().contains("training_step")) {}
    stopper.stop();
    let answer = waiting.await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"state\":\"kept\""), "{answer}");
    server.ended().await;
    let status = room.live.edits().remove(0);
    assert_eq!((status.state, status.generation.as_deref()), (EditState::Kept, Some("g1")));
}

#[tokio::test]
async fn the_second_word_abandons_it_and_nothing_is_half_applied() {
    let room = Room::new();
    let server = room.listen().await;
    let stopper = server.stopper.clone();
    let mut trace = room.live.trace();
    // As long as an edit may be.
    let mut edit = quick_edit();
    edit["training"]["epochs"] = json!(50);
    let submit = json!({ "context": passage(), "edit": edit });
    assert_eq!(room.post("/v1/self_edits", &submit).await.status.as_u16(), 202);
    assert_eq!(room.post("/v1/self_edits", &submit).await.status.as_u16(), 202);
    while !trace.next().await.is_some_and(|event| event.to_line().contains("training_step")) {}
    stopper.stop();
    stopper.stop();
    server.ended().await;
    for status in room.live.edits() {
        assert_eq!((status.state, status.generation.as_deref()), (EditState::Refused, None), "{status:?}");
    }
    assert_eq!(room.live.active().expect("a name"), "base");
    let reader = selkie_store::Store::read_only(&room.live.options().home).expect("a store");
    assert_eq!(reader.generations().expect("generations"), []);
    assert_eq!(reader.actives().expect("actives"), []);
}

#[tokio::test]
async fn a_stream_without_an_end_ends_with_the_server() {
    let room = Room::new();
    let server = room.listen().await;
    let stopper = server.stopper.clone();
    let mut stream = server.connect().await;
    let request = b"GET /v1/events?tokens=false HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let following = tokio::spawn(async move { exchange(&mut stream, request).await });
    let ask = json!({ "prompt": "The gem of", "max_tokens": 4 });
    let mut trace = room.live.trace();
    // Until somebody follows, it would miss what happens.
    while !following.is_finished() && room.live.stats().requests < 3 {
        room.post("/v1/completions", &ask).await.ok();
    }
    while !trace.next().await.is_some_and(|event| event.to_line().contains("\"ended\"")) {}
    stopper.stop();
    let told = following.await.expect("an answer");
    server.ended().await;
    assert!(told.contains("[DONE]"), "{told}");
    assert!(!told.contains("\"event\":\"token\""), "{told}");
}
