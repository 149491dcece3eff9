//! A no, in the form that OpenAI's clients read.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use selkie_edit::{ContextError, Problem, Refused};
use selkie_engine::StepError;
use selkie_engine::live::LiveError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The body of every error.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ErrorBody {
    /// What is wrong.
    pub(crate) error: ErrorFields,
}

/// What is wrong.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ErrorFields {
    /// For people: what was found, what was expected, what to do.
    pub(crate) message: String,
    /// `invalid_request_error`, `authentication_error`, `permission_error`, `not_found_error`, `rate_limit_error` or
    /// `server_error`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The field that it is about.
    pub(crate) param: Option<String>,
    /// A stable name.
    pub(crate) code: Option<&'static str>,
    /// Every problem of a self-edit that was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub(crate) problems: Vec<Problem>,
}

/// An error with its status.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    fields: Box<ErrorFields>,
    /// Seconds.
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> ApiError {
        let message = message.into();
        let fields = ErrorFields { message, kind, param: None, code: None, problems: Vec::new() };
        ApiError { status, fields: Box::new(fields), retry_after: None }
    }

    /// A request that means nothing.
    pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field of a request that means nothing.
    pub(crate) fn field(name: &str, message: impl Into<String>) -> ApiError {
        let mut error = ApiError::invalid(message);
        error.fields.param = Some(name.to_owned());
        error
    }

    pub(crate) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    pub(crate) fn method(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
    }

    pub(crate) fn unauthorised() -> ApiError {
        let message = "this server needs its token, as `Authorization: Bearer TOKEN`";
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", message).code("invalid_api_key")
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message).code("body_too_large")
    }

    pub(crate) fn too_slow(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message).code("body_too_slow")
    }

    pub(crate) fn not_json(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message)
    }

    /// An answer that took longer than it may.
    pub(crate) fn timed_out(seconds: u64) -> ApiError {
        let message =
            format!("the answer was not complete after {seconds} s, the most a request may take here");
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message).code("request_timeout")
    }

    /// The runtime is about to end.
    pub(crate) fn stopping() -> ApiError {
        let message = "the server is shutting down; the answer was not finished";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).code("shutting_down")
    }

    pub(crate) fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(crate) fn code(mut self, code: &'static str) -> ApiError {
        self.fields.code = Some(code);
        self
    }

    /// The body.
    pub(crate) fn body(self) -> ErrorBody {
        ErrorBody { error: *self.fields }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status, self.retry_after);
        let mut response = (status, Json(self.body())).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What an error says, and its causes say beyond that.
fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            // Writing to a String cannot fail.
            let _ = write!(message, ": {text}");
        }
        source = cause.source();
    }
    message
}

impl From<LiveError> for ApiError {
    fn from(error: LiveError) -> ApiError {
        let message = chain(&error);
        match error {
            LiveError::Closed => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message).code("shutting_down")
            }
            LiveError::Busy { retry_after, .. } => {
                let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
                ApiError { retry_after: Some(retry_after.as_secs().max(1)), ..error.code("queue_full") }
            }
            LiveError::Refused(refused) => refused.into(),
            LiveError::Denied { .. } => ApiError::forbidden(message).code("self_edit_denied"),
            LiveError::UnknownEdit { .. } => ApiError::not_found(message).code("self_edit_not_found"),
            LiveError::NotWaiting { .. } => conflict(message).code("not_waiting"),
            LiveError::UnknownAdapter { .. } => {
                let mut error = ApiError::not_found(message).code("model_not_found");
                error.fields.param = Some("model".to_owned());
                error
            }
            LiveError::Request(_) => ApiError::invalid(message),
            LiveError::AdapterName { .. } => ApiError::field("lora_name", message),
            LiveError::NotAnAdapter { .. } => ApiError::field("lora_path", message),
            LiveError::Thread(_) => ApiError::internal(message),
            LiveError::Step(step) => of_step(step, message),
        }
    }
}

fn conflict(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "invalid_request_error", message)
}

fn of_step(error: StepError, message: String) -> ApiError {
    match error {
        StepError::Refused(refused) => refused.into(),
        StepError::NoValidEdit { last, .. } => refusal(message, last),
        StepError::Context(_) => ApiError::field("context", message),
        StepError::StackTooHigh { .. } => conflict(message).code("stack_too_high"),
        StepError::OverBudget { .. } => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error", message)
                .code("over_budget")
        }
        StepError::Abandoned => ApiError::stopping(),
        StepError::Store(error) => match error {
            selkie_store::Error::NothingToRollBack { .. }
            | selkie_store::Error::AlreadyActive { .. }
            | selkie_store::Error::ActiveMoved { .. } => conflict(message).code("not_rolled_back"),
            selkie_store::Error::UnknownGeneration { .. }
            | selkie_store::Error::AmbiguousGeneration { .. }
            | selkie_store::Error::OtherBase { .. } => {
                ApiError::not_found(message).code("generation_not_found")
            }
            _ => ApiError::internal(message),
        },
        StepError::Learn(_) | StepError::Tool(_) | StepError::Schema(_) | StepError::NotReplayable { .. } => {
            ApiError::internal(message)
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        refusal(chain(&refused), refused)
    }
}

fn refusal(message: String, refused: Refused) -> ApiError {
    let mut error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request_error", message)
        .code("self_edit_refused");
    error.fields.problems = refused.0;
    error.fields.param = Some("edit".to_owned());
    error
}

impl From<ContextError> for ApiError {
    fn from(error: ContextError) -> ApiError {
        ApiError::field("context", format!("the context cannot be read: {error}"))
    }
}

/// A body of JSON, or an error that says what is wrong with it.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Body<T>, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        // What a form of another site's page can send is not taken, whatever it says.
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::not_json(format!(
                "the content type is `{kind}`; send JSON with `Content-Type: application/json`"
            )));
        }
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|error| ApiError::invalid(format!("the body cannot be read: {error}")))?;
        // A struct would be read from a list too.
        if bytes.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
            return Err(ApiError::invalid("the body is not what is expected here: expected a JSON object"));
        }
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::invalid(format!("the body is not what is expected here: {error}")))?;
        Ok(Body(value))
    }
}

/// The name that a path has in it.
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, ApiError> {
        let name = Path::from_request_parts(parts, state).await.map_err(|error| rejected(&error))?;
        Ok(Name(name.0))
    }
}

/// A path's or a query's parameters that mean nothing.
pub(crate) fn rejected(error: &dyn std::error::Error) -> ApiError {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    ApiError::invalid(format!("{error}{cause}"))
}
