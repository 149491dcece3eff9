//! The trace, as it happens.

use std::pin::pin;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use schemars::JsonSchema;
use selkie_engine::live::{Happened, Live, LiveError, Trace, TraceEvent};
use serde::Deserialize;

use crate::api_error::{ApiError, Name, rejected};
use crate::app::App;
use crate::sse::{Form, Pieces, answer};

/// Which events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// Whether every token is an event too; they are, unless this is false.
    #[serde(default = "yes")]
    tokens: bool,
}

fn yes() -> bool {
    true
}

/// `GET /v1/events`: everything from now on, until the server stops.
pub(crate) async fn all(
    State(app): State<App>,
    query: Result<Query<EventsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| rejected(&error))?;
    let (mut trace, stopping) = (app.live().trace(), app.stopping().clone());
    Ok(answer(form(&headers), async move |pieces: Pieces| {
        loop {
            let event = tokio::select! {
                event = trace.next() => event,
                () = stopping.cancelled() => None,
                () = pieces.closed() => None,
            };
            let Some(event) = event else { break };
            let is_wanted = query.tokens || !matches!(event.what, Happened::Token { .. });
            if is_wanted && !pieces.send_numbered(event.number, &event).await {
                break;
            }
        }
        pieces.done().await;
    }))
}

/// `GET /v1/self_edits/{id}/events`: what has happened to an edit, and what happens until it ends.
pub(crate) async fn of_edit(
    State(app): State<App>,
    Name(id): Name,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    // Listens before it looks, so that nothing falls between the two.
    let trace = app.live().trace();
    app.live().edit(&id)?;
    let after = headers.get("last-event-id").and_then(|number| number.to_str().ok()?.parse().ok());
    let follower = Follower { live: app.live().clone(), edit: id, last: after.unwrap_or(0), heard: 0 };
    let stopping = app.stopping().clone();
    Ok(answer(form(&headers), async move |pieces: Pieces| {
        tokio::select! {
            _ = follower.follow(trace, &pieces) => {}
            () = stopping.cancelled() => {}
            () = pieces.closed() => {}
        }
        pieces.done().await;
    }))
}

/// Lines for those who ask for them, events for all others.
fn form(headers: &HeaderMap) -> Form {
    let accepted = headers.get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok());
    match accepted.is_some_and(|accepted| accepted.contains("application/x-ndjson")) {
        true => Form::Lines,
        false => Form::Events,
    }
}

/// Tells of one edit.
struct Follower {
    live: Live,
    edit: String,
    /// The number of the last event that was told.
    last: u64,
    /// The number of the last event of the trace, whomever it was about.
    heard: u64,
}

impl Follower {
    async fn follow(mut self, mut trace: Trace, pieces: &Pieces) -> Result<(), LiveError> {
        self.catch_up(pieces).await?;
        let (live, edit) = (self.live.clone(), self.edit.clone());
        let mut finished = pin!(live.finished(&edit));
        loop {
            tokio::select! {
                event = trace.next() => match event {
                    Some(event) => self.hear(&event, pieces).await?,
                    None => break,
                },
                _ = finished.as_mut() => break,
            }
        }
        self.catch_up(pieces).await
    }

    /// An event of the trace. Where it is not the next one, some were missed, and an edit's own list has them.
    async fn hear(&mut self, event: &TraceEvent, pieces: &Pieces) -> Result<(), LiveError> {
        if event.number != self.heard + 1 {
            self.catch_up(pieces).await?;
        }
        self.heard = event.number;
        self.tell(event, pieces).await;
        Ok(())
    }

    async fn catch_up(&mut self, pieces: &Pieces) -> Result<(), LiveError> {
        for event in self.live.edit_events(&self.edit)? {
            self.tell(&event, pieces).await;
        }
        Ok(())
    }

    async fn tell(&mut self, event: &TraceEvent, pieces: &Pieces) {
        let is_news = event.number > self.last && event.edit.as_deref() == Some(self.edit.as_str());
        if is_news && !matches!(event.what, Happened::Token { .. }) {
            self.last = event.number;
            pieces.send_numbered(event.number, event).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;
    use crate::tests::support::{Room, passage, quick_edit};

    #[tokio::test]
    async fn a_follower_that_falls_behind_is_told_what_it_missed_and_nothing_twice() {
        let room = Room::new();
        let edit = serde_json::json!({ "context": passage(), "edit": quick_edit(), "wait": true });
        let edit = room.post("/v1/self_edits", &edit).await.ok()["id"].as_str().expect("an id").to_owned();
        let events = room.live.edit_events(&edit).expect("events");
        let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
        let before = numbers[0] - 1;
        let mut follower = Follower { live: room.live.clone(), edit, last: before, heard: before };
        let told = answer(Form::Lines, async move |pieces: Pieces| {
            // The trace brings the first two, and then, late, the one before the last.
            for event in [&events[0], &events[1], &events[events.len() - 2]] {
                follower.hear(event, &pieces).await.expect("known");
            }
        });
        let told = to_bytes(told.into_body(), usize::MAX).await.expect("a body");
        let told = String::from_utf8(told.to_vec()).expect("UTF-8");
        let number = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["number"]
                .as_u64()
                .expect("a number")
        };
        assert_eq!(told.lines().map(number).collect::<Vec<u64>>(), numbers);
    }
}
