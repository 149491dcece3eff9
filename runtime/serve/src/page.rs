//! The web page: files that are part of the binary, and the headers that keep the page to itself. What it shows comes
//! from the HTTP interface alone, as any other client would get it; there is no logic here.

#[cfg(test)]
mod tests;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::get;
use sha2::{Digest, Sha256};

/// Everything from this server and nothing from elsewhere, no script in a document, and text that became markup by
/// mistake is an error (trusted types) instead of a page.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

/// A file of the page: its name below `/page/`, its content type, its text.
type File = (&'static str, &'static str, &'static str);

const INDEX: File = ("index.html", HTML, include_str!("page/index.html"));

/// The files under `/page/`. The two examples are the repository's.
const FILES: [File; 17] = [
    ("style.css", STYLE, include_str!("page/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("main.js", SCRIPT, include_str!("page/main.js")),
    ("adapters.js", SCRIPT, include_str!("page/adapters.js")),
    ("api.js", SCRIPT, include_str!("page/api.js")),
    ("apply.js", SCRIPT, include_str!("page/apply.js")),
    ("ask.js", SCRIPT, include_str!("page/ask.js")),
    ("chart.js", SCRIPT, include_str!("page/chart.js")),
    ("context.js", SCRIPT, include_str!("page/context.js")),
    ("detail.js", SCRIPT, include_str!("page/detail.js")),
    ("dom.js", SCRIPT, include_str!("page/dom.js")),
    ("edits.js", SCRIPT, include_str!("page/edits.js")),
    ("grid.js", SCRIPT, include_str!("page/grid.js")),
    ("store.js", SCRIPT, include_str!("page/store.js")),
    ("timeline.js", SCRIPT, include_str!("page/timeline.js")),
    ("tools.js", SCRIPT, include_str!("page/tools.js")),
    ("words.js", SCRIPT, include_str!("page/words.js")),
];
const EXAMPLES: [File; 2] = [
    ("puzzle.json", JSON, include_str!("../../../examples/puzzles/pup_0005.json")),
    ("passage.json", JSON, include_str!("../../../examples/passages/morgan_and_garmar.json")),
];

/// Serves `/` and `/page/*`. These files hold no secret, so they need no token: the page asks for one when the
/// interface does.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(|headers: HeaderMap| async move { answer(&INDEX, &headers) })).route(
        "/page/{name}",
        get(|Path(name): Path<String>, headers: HeaderMap| async move {
            match FILES.iter().chain(&EXAMPLES).find(|(known, _, _)| *known == name) {
                Some(file) => answer(file, &headers),
                None => with_headers(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "no such file\n"),
            }
        }),
    )
}

/// A file, or that the client has it already. Browsers ask each time, so that a page never is of two versions.
fn answer((_, kind, text): &File, headers: &HeaderMap) -> Response<Body> {
    let tag = tag(text);
    let is_known = headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(|known| {
        known.split(',').any(|each| each.trim().trim_start_matches("W/") == tag || each.trim() == "*")
    });
    let mut response = match is_known {
        true => with_headers(StatusCode::NOT_MODIFIED, kind, ""),
        false => with_headers(StatusCode::OK, kind, text),
    };
    if let Ok(tag) = tag.parse() {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// The first 16 bytes of the text's SHA-256, in quotes.
fn tag(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn with_headers(status: StatusCode, kind: &'static str, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}
