//! `/v1/self_edits`: check, submit, list, show, approve, roll back.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use selkie_edit::{Dialect, Domain, Problem, SelfEdit, ToolCall};
use selkie_engine::live::{EditRequest, EditStatus, EditText, Permission, Scope, Trigger};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api_error::{ApiError, Body, Name};
use crate::app::App;
use crate::terms::{BudgetFields, context, may_roll_back, seconds};

/// A self-edit as text, or as the JSON object itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a self-edit: text, or a JSON object")]
pub(crate) enum EditField {
    /// As a model writes it.
    Text(String),
    /// Selkie's own form, or SEAL's for puzzles.
    Object(serde_json::Map<String, Value>),
}

impl EditField {
    fn text(self) -> String {
        match self {
            EditField::Text(text) => text,
            EditField::Object(object) => Value::Object(object).to_string(),
        }
    }
}

/// A self-edit to look at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckRequest {
    /// The self-edit.
    edit: EditField,
    /// What it is for.
    domain: Domain,
}

/// Whether a self-edit may be trained, or everything that is wrong with it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckAnswer {
    /// Whether it may.
    valid: bool,
    /// What it asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    edit: Option<CheckedEdit>,
    /// Every problem of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
}

/// What a valid self-edit asks for, in short.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckedEdit {
    /// The form it is written in.
    dialect: Dialect,
    /// The names of its tools: of each pipeline, in order.
    pipelines: Vec<Vec<String>>,
    /// How many texts it brings to learn from.
    documents: usize,
    /// Passes over the data.
    epochs: u32,
    /// Peak learning rate.
    learning_rate: f64,
    /// Rank of the adapter.
    rank: u32,
}

/// A self-edit to be carried out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubmitRequest {
    /// What is adapted to: a puzzle in ARC's form, or a passage with questions.
    #[schemars(with = "serde_json::Map<String, Value>")]
    context: Value,
    /// The self-edit; without it the model writes one.
    #[serde(default)]
    edit: Option<EditField>,
    /// Decides everything random.
    #[serde(default)]
    seed: u64,
    /// For whom what is learned is active; everybody by default.
    #[serde(default)]
    scope: Scope,
    /// The session, for that scope.
    #[serde(default)]
    session: Option<String>,
    /// How long a session's adapter lives after its last use.
    #[serde(default)]
    time_to_live_seconds: Option<f64>,
    /// What it may use.
    #[serde(default)]
    budget: BudgetFields,
    /// Whether it runs at once (the default), waits for approval, or is refused. An operator's `deny` holds.
    #[serde(default)]
    permission: Option<Permission>,
    /// Whether to start from the base model instead of what is active.
    #[serde(default)]
    fresh: bool,
    /// Whether the answer comes when the edit has ended, rather than at once.
    #[serde(default)]
    wait: bool,
}

/// The self-edits of this runtime.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EditList {
    /// `list`.
    object: &'static str,
    /// Newest first.
    data: Vec<EditStatus>,
}

/// Whether an edit that waits may run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApproveRequest {
    /// Whether it may.
    allow: bool,
}

/// What is to be active.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// `parent` (the default), `base`, or a generation such as `g3`.
    #[serde(default = "parent")]
    to: String,
}

fn parent() -> String {
    "parent".to_owned()
}

/// What is active now.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RollbackAnswer {
    /// `base` or a generation.
    active: String,
    /// The same, under the name that requests use.
    adapter_generation: String,
}

impl From<&SelfEdit> for CheckedEdit {
    fn from(edit: &SelfEdit) -> CheckedEdit {
        let training = &edit.training;
        let names = |pipeline: &Vec<ToolCall>| pipeline.iter().map(|call| call.tool.clone()).collect();
        CheckedEdit {
            dialect: edit.dialect,
            pipelines: edit.pipelines.iter().map(names).collect(),
            documents: edit.documents.len(),
            epochs: training.epochs,
            learning_rate: training.learning_rate,
            rank: training.lora.rank,
        }
    }
}

/// `POST /v1/self_edits/check`.
pub(crate) async fn check(
    State(app): State<App>,
    Body(request): Body<CheckRequest>,
) -> Result<Json<CheckAnswer>, ApiError> {
    let CheckRequest { edit, domain } = request;
    app.blocking(move |app| {
        Ok(Json(match app.live().check(&edit.text(), domain) {
            Ok(edit) => CheckAnswer { valid: true, edit: Some((&edit).into()), problems: Vec::new() },
            Err(refused) => CheckAnswer { valid: false, edit: None, problems: refused.0 },
        }))
    })
    .await
}

/// `POST /v1/self_edits`.
pub(crate) async fn submit(
    State(app): State<App>,
    Body(request): Body<SubmitRequest>,
) -> Result<Response, ApiError> {
    let wait = request.wait;
    let id = app.blocking(move |app| Ok(app.live().submit(request.edit_request()?)?)).await?;
    if wait {
        let limit = app.options().limits.request;
        if let Ok(finished) = tokio::time::timeout(limit, app.live().finished(&id)).await {
            return Ok(Json(finished?).into_response());
        }
    }
    Ok((StatusCode::ACCEPTED, Json(app.live().edit(&id)?)).into_response())
}

impl SubmitRequest {
    fn edit_request(self) -> Result<EditRequest, ApiError> {
        if (self.scope == Scope::Session) != self.session.is_some() {
            return Err(ApiError::field(
                "session",
                "`session` goes with the scope `session`, and only with it",
            ));
        }
        Ok(EditRequest {
            context: context(&self.context)?,
            edit: self.edit.map_or(EditText::Model, |edit| EditText::Given(edit.text())),
            seed: self.seed,
            budget: self.budget.budget()?,
            scope: self.scope,
            session: self.session,
            time_to_live: seconds("time_to_live_seconds", self.time_to_live_seconds)?,
            permission: self.permission.unwrap_or(Permission::Allow),
            trigger: Trigger::Call,
            fresh: self.fresh,
        })
    }
}

/// `GET /v1/self_edits`.
pub(crate) async fn list(State(app): State<App>) -> Json<EditList> {
    Json(EditList { object: "list", data: app.live().edits() })
}

/// `GET /v1/self_edits/{id}`.
pub(crate) async fn show(State(app): State<App>, Name(id): Name) -> Result<Json<EditStatus>, ApiError> {
    Ok(Json(app.live().edit(&id)?))
}

/// `POST /v1/self_edits/{id}/approve`.
pub(crate) async fn approve(
    State(app): State<App>,
    Name(id): Name,
    Body(request): Body<ApproveRequest>,
) -> Result<Json<EditStatus>, ApiError> {
    app.live().approve(&id, request.allow)?;
    Ok(Json(app.live().edit(&id)?))
}

/// `POST /v1/self_edits/rollback`.
pub(crate) async fn rollback(
    State(app): State<App>,
    Body(request): Body<RollbackRequest>,
) -> Result<Json<RollbackAnswer>, ApiError> {
    may_roll_back(app.live())?;
    let active = app.blocking(move |app| Ok(app.live().rollback_to(&request.to)?)).await?;
    Ok(Json(RollbackAnswer { adapter_generation: active.clone(), active }))
}
