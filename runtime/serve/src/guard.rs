//! What every request passes before anything looks at it: where it comes from, who sends it, how large it is and how
//! long it takes to arrive.

use std::pin::Pin;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::api_error::ApiError;
use crate::app::App;

/// Bytes of a body that is too large which are read and dropped, so that a client that only listens once it has sent
/// everything hears why. What is more is cut off.
const DRAINED_BYTES_MAX: usize = 256 << 20;

/// Lets a request through, or says why not; and counts it.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = app.document().route_of(request.uri().path());
    let mut response = match admitted(&app, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    app.metrics().answered(&method, route, response.status(), began.elapsed());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn admitted(app: &App, request: Request) -> Result<Request, ApiError> {
    match &app.options().token {
        // Loopback, then: everything else needs a token.
        None => check_origin(request.headers())?,
        Some(_) if is_open(request.uri().path()) => {}
        Some(token) if bearer(request.headers()).is_some_and(|presented| token.is(presented)) => {}
        Some(_) => return Err(ApiError::unauthorised()),
    }
    with_body(app, request).await
}

/// What has nothing to hide: a probe, and the files of the page, which are the same everywhere.
fn is_open(path: &str) -> bool {
    path == "/" || path == "/healthz" || path.starts_with("/page/")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Where nobody is asked for a token, a browser must not be talked into asking for somebody else: a name that
/// was made to point here (DNS rebinding) stands in `Host`, and the page that asks in `Origin`.
fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = authority(headers, &HOST).and_then(|host| host.parse::<Authority>().ok());
    let Some(host) = host.filter(|host| is_loopback_name(host.host())) else {
        let message = "the header Host does not name this machine; without a token it must be localhost, 127.0.0.1 or [::1]";
        return Err(ApiError::forbidden(message).code("foreign_host"));
    };
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match origin.is_some_and(|(_, of)| of.eq_ignore_ascii_case(host.as_str())) {
        true => Ok(()),
        false => {
            let message = "the page that sends this is not this server's own (header Origin)";
            Err(ApiError::forbidden(message).code("foreign_origin"))
        }
    }
}

fn authority<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

fn is_loopback_name(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The request with its body in memory.
async fn with_body(app: &App, request: Request) -> Result<Request, ApiError> {
    let limits = &app.options().limits;
    let max = limits.body_bytes;
    let too_large =
        || ApiError::too_large(format!("the body is larger than {max} bytes, the most that is read"));
    let (parts, mut body) = request.into_parts();
    let length =
        parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let is_announced = length.is_some_and(|length| length > max as u64);
    // This client waits for a word before it sends anything.
    if is_announced && parts.headers.contains_key(EXPECT) {
        return Err(too_large());
    }
    let read = read(&mut body, if is_announced { 0 } else { max });
    match tokio::time::timeout(limits.body, read).await {
        Ok(Ok(Some(bytes))) => Ok(Request::from_parts(parts, Body::from(bytes))),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::invalid(format!("the body did not arrive: {error}"))),
        Err(_) if is_announced => Err(too_large()),
        Err(_) => {
            let seconds = limits.body.as_secs();
            Err(ApiError::too_slow(format!("the body did not arrive within {seconds} s")))
        }
    }
}

/// A body, if it has at most so many bytes. Memory stays within them whatever comes.
async fn read(body: &mut Body, max: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let (mut bytes, mut arrived) = (Vec::new(), 0);
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else { continue };
        arrived += data.len();
        if arrived <= max {
            bytes.extend_from_slice(&data);
        } else {
            bytes = Vec::new();
        }
        if arrived > DRAINED_BYTES_MAX {
            break;
        }
    }
    Ok((arrived <= max).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_only_this_machines_names_and_own_pages_are_served() {
        for (host, origin, passes) in [
            ("localhost:8377", None, true),
            ("127.0.0.1:8377", None, true),
            ("127.0.0.1", None, true),
            ("[::1]:8377", None, true),
            ("LOCALHOST:8377", Some("http://localhost:8377"), true),
            ("127.0.0.1:8377", Some("http://127.0.0.1:8377"), true),
            ("127.0.0.1:8377", Some("http://127.0.0.1:3000"), false),
            ("127.0.0.1:8377", Some("http://localhost:8377"), false),
            ("127.0.0.1:8377", Some("https://attacker.example"), false),
            ("127.0.0.1:8377", Some("null"), false),
            ("attacker.example:8377", None, false),
            ("attacker.example", Some("http://attacker.example"), false),
            ("127.0.0.1.attacker.example", None, false),
            ("localhost.attacker.example", None, false),
            ("10.0.0.1:8377", None, false),
            ("user@127.0.0.1", None, true),
            ("", None, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(check_origin(&headers).is_ok(), passes, "{host} {origin:?}");
        }
        let code = |headers: &HeaderMap| check_origin(headers).expect_err("refused").body().error.code;
        assert_eq!(code(&HeaderMap::new()), Some("foreign_host"), "no host");
        let mut twice = HeaderMap::new();
        twice.append(HOST, HeaderValue::from_static("127.0.0.1"));
        twice.append(HOST, HeaderValue::from_static("attacker.example"));
        assert_eq!(code(&twice), Some("foreign_host"), "two hosts");
    }
}
