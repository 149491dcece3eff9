//! `/v1/models`: the model, and its adapters as cards, as vLLM has them.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use selkie_engine::live::AdapterCard;
use serde::Serialize;

use crate::api_error::{ApiError, Name};
use crate::app::App;

/// What requests may name as their model.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelList {
    /// `list`.
    object: &'static str,
    /// The model with what is active, then its adapters.
    data: Vec<ModelCard>,
}

/// A model, or an adapter of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelCard {
    /// Its name.
    id: String,
    /// `model`.
    object: &'static str,
    /// When the server began to have it, in seconds since 1970.
    created: i64,
    /// `selkie`.
    owned_by: &'static str,
    /// The base model.
    root: String,
    /// What it was trained on top of; null for the model itself.
    parent: Option<String>,
    /// Whether it is active for everybody.
    active: bool,
    /// `active` (the model with whatever is active), `base`, `generation`, `loaded` or `session`.
    origin: String,
    /// The context of the self-edit that made it, where there was one.
    context: Option<String>,
}

fn cards(app: &App) -> Result<Vec<ModelCard>, ApiError> {
    let of = |id: String, parent: Option<String>, origin: String| ModelCard {
        id,
        object: "model",
        created: app.started(),
        owned_by: "selkie",
        root: app.model().to_owned(),
        parent,
        active: false,
        origin,
        context: None,
    };
    let alias = ModelCard { active: true, ..of(app.model().to_owned(), None, "active".to_owned()) };
    let adapter = |card: AdapterCard| {
        // Clients that know vLLM's cards look for the model as the parent of what was loaded.
        let parent = card.parent.or_else(|| (card.origin == "loaded").then(|| app.model().to_owned()));
        ModelCard { active: card.active, context: card.context, ..of(card.name, parent, card.origin) }
    };
    Ok(std::iter::once(alias).chain(app.live().adapters()?.into_iter().map(adapter)).collect())
}

/// `GET /v1/models`.
pub(crate) async fn models(State(app): State<App>) -> Result<Json<ModelList>, ApiError> {
    app.blocking(|app| Ok(Json(ModelList { object: "list", data: cards(app)? }))).await
}

/// `GET /v1/models/{id}`.
pub(crate) async fn model(State(app): State<App>, Name(id): Name) -> Result<Json<ModelCard>, ApiError> {
    app.blocking(move |app| {
        let card = cards(app)?.into_iter().find(|card| card.id == id);
        let unknown =
            || ApiError::not_found(format!("there is no model or adapter `{id}`; `/v1/models` lists them"));
        card.map(Json).ok_or_else(|| unknown().code("model_not_found"))
    })
    .await
}
