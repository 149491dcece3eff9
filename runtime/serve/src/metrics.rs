//! Numbers for Prometheus: what the runtime has done, and what the server has answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::IntoResponse;
use selkie_engine::live::Stats;

use crate::app::App;

/// Upper bounds of the histogram, in seconds: a cached page, a short answer, an answer with a self-edit.
const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// What the server has answered.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    answers: Mutex<Answers>,
    connections: AtomicU64,
}

#[derive(Debug, Default)]
struct Answers {
    /// By method, route and status. Routes are those of the document, so there are not many.
    counts: BTreeMap<(String, String, u16), u64>,
    /// By route.
    times: BTreeMap<String, Times>,
}

#[derive(Debug, Default)]
struct Times {
    /// Answers up to each bound, and all.
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

/// A connection that is open; dropping it closes the account.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Metrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a connection until it is dropped.
    pub(crate) fn connection(self: &Arc<Metrics>) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    /// Counts an answer; the time is that until its head, so a streamed one counts with its first piece.
    pub(crate) fn answered(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        // What a request may call itself is not ours to bound; what is counted is.
        let method = match *method {
            Method::GET | Method::POST | Method::HEAD | Method::DELETE | Method::OPTIONS => method.as_str(),
            _ => "other",
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (method.to_owned(), route.to_owned(), status.as_u16());
        *answers.counts.entry(key).or_default() += 1;
        let times = answers.times.entry(route.to_owned()).or_default();
        let seconds = took.as_secs_f64();
        let reached = times.buckets.iter_mut().zip(BUCKETS).filter(|(_, bound)| seconds <= *bound);
        reached.for_each(|(count, _)| *count += 1);
        times.count += 1;
        times.seconds += seconds;
    }

    fn text(&self, stats: &Stats) -> String {
        let mut text = of_runtime(stats);
        let connections = self.connections.load(Ordering::Relaxed);
        gauge(&mut text, "selkie_http_connections", "Connections that are open.", connections as f64);
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        head(&mut text, "selkie_http_requests_total", "Requests that were answered.", "counter");
        for ((method, route, status), count) in &answers.counts {
            line(
                &mut text,
                "selkie_http_requests_total",
                &[("method", method), ("route", route), ("status", &status.to_string())],
                *count as f64,
            );
        }
        let name = "selkie_http_request_seconds";
        head(&mut text, name, "Time until the head of the answer.", "histogram");
        for (route, times) in &answers.times {
            for (bound, count) in BUCKETS.iter().zip(times.buckets) {
                let labels = [("route", route.as_str()), ("le", &bound.to_string())];
                line(&mut text, "selkie_http_request_seconds_bucket", &labels, count as f64);
            }
            let (route, count) = (route.as_str(), times.count as f64);
            line(&mut text, "selkie_http_request_seconds_bucket", &[("route", route), ("le", "+Inf")], count);
            line(&mut text, "selkie_http_request_seconds_sum", &[("route", route)], times.seconds);
            line(&mut text, "selkie_http_request_seconds_count", &[("route", route)], count);
        }
        text
    }
}

fn of_runtime(stats: &Stats) -> String {
    let mut text = String::new();
    let gauges = [
        ("selkie_streams", "Streams that are decoded.", stats.streams),
        ("selkie_requests_waiting", "Requests that wait for a stream.", stats.waiting),
        ("selkie_self_edits_queued", "Self-edits that wait for their turn.", stats.queued),
        ("selkie_training", "Whether a self-edit is under way.", usize::from(stats.training)),
    ];
    for (name, help, value) in gauges {
        gauge(&mut text, name, help, value as f64);
    }
    let counters = [
        ("selkie_requests_total", "Requests to generate.", stats.requests),
        ("selkie_requests_failed_total", "Requests to generate that failed.", stats.failed),
        ("selkie_prompt_tokens_total", "Tokens of prompts.", stats.prompt_tokens),
        ("selkie_generated_tokens_total", "Tokens that were generated.", stats.tokens),
        ("selkie_passes_total", "Passes of the model over one stream or several.", stats.passes),
        ("selkie_training_steps_total", "Optimiser steps.", stats.steps),
    ];
    for (name, help, value) in counters {
        head(&mut text, name, help, "counter");
        line(&mut text, name, &[], value as f64);
    }
    head(&mut text, "selkie_training_seconds_total", "Seconds of training.", "counter");
    line(&mut text, "selkie_training_seconds_total", &[], stats.training_seconds);
    let verdicts = [
        ("kept", stats.kept),
        ("discarded", stats.discarded),
        ("refused", stats.refused),
        ("failed", stats.edit_failures),
    ];
    head(&mut text, "selkie_self_edits_total", "Self-edits that have ended, by how.", "counter");
    for (verdict, count) in verdicts {
        line(&mut text, "selkie_self_edits_total", &[("verdict", verdict)], count as f64);
    }
    text
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a String cannot fail.
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    head(text, name, help, "gauge");
    line(text, name, &[], value);
}

/// Labels are names of ours: none has a character that would need escaping.
fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let _ = writeln!(text, "{name}{labels} {value}");
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let text = app.metrics().text(&app.live().stats());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_times_are_prometheus_text() {
        let metrics = Arc::new(Metrics::default());
        let open = metrics.connection();
        metrics.answered(&Method::GET, "/healthz", StatusCode::OK, Duration::from_millis(2));
        metrics.answered(&Method::GET, "/healthz", StatusCode::OK, Duration::from_secs(1000));
        let strange = Method::from_bytes(b"SURPRISE").expect("a method");
        metrics.answered(&strange, "other", StatusCode::NOT_FOUND, Duration::ZERO);
        let stats = Stats { kept: 2, training: true, training_seconds: 1.5, ..Stats::default() };
        let text = metrics.text(&stats);
        drop(open);
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        has("selkie_training 1");
        has("selkie_training_seconds_total 1.5");
        has("selkie_self_edits_total{verdict=\"kept\"} 2");
        has("selkie_http_connections 1");
        has("selkie_http_requests_total{method=\"GET\",route=\"/healthz\",status=\"200\"} 2");
        has("selkie_http_requests_total{method=\"other\",route=\"other\",status=\"404\"} 1");
        has("selkie_http_request_seconds_bucket{route=\"/healthz\",le=\"0.001\"} 0");
        has("selkie_http_request_seconds_bucket{route=\"/healthz\",le=\"0.0025\"} 1");
        has("selkie_http_request_seconds_bucket{route=\"/healthz\",le=\"+Inf\"} 2");
        has("selkie_http_request_seconds_sum{route=\"/healthz\"} 1000.002");
        assert!(metrics.text(&stats).contains("selkie_http_connections 0\n"));
    }
}
