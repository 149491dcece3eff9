//! What every request is answered with, and which function answers which path.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware;
use axum::routing::{get, post};
use axum::{Json, Router};
use schemars::JsonSchema;
use selkie_edit::derive_seed;
use selkie_engine::live::Live;
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api_error::ApiError;
use crate::document::Document;
use crate::metrics::{Metrics, metrics};
use crate::options::{ServeError, ServeOptions};
use crate::server::Stopper;
use crate::{adapters, events, guard, ledger, mcp, openai, page, self_edits, tools};

/// What requests share. Clones are the same one.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    live: Live,
    options: ServeOptions,
    /// The operator's folder of adapters, resolved.
    adapters: Option<PathBuf>,
    metrics: Arc<Metrics>,
    document: Document,
    stopper: Stopper,
    /// Requests so far that did not say a seed.
    unseeded: AtomicU64,
    started_ms: i64,
}

impl App {
    pub(crate) fn new(live: Live, options: ServeOptions, stopper: Stopper) -> Result<App, ServeError> {
        let resolved = |folder: &PathBuf| {
            let folder = folder.clone();
            folder.canonicalize().map_err(|source| ServeError::Adapters { folder, source })
        };
        let adapters = options.adapters.as_ref().map(resolved).transpose()?;
        let started_ms = (live.options().clock)();
        let (metrics, document) = (Arc::default(), Document::new());
        let unseeded = AtomicU64::new(0);
        Ok(App(Arc::new(Shared {
            live,
            options,
            adapters,
            metrics,
            document,
            stopper,
            unseeded,
            started_ms,
        })))
    }

    pub(crate) fn live(&self) -> &Live {
        &self.0.live
    }

    pub(crate) fn options(&self) -> &ServeOptions {
        &self.0.options
    }

    pub(crate) fn adapters_folder(&self) -> Option<&Path> {
        self.0.adapters.as_deref()
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    pub(crate) fn document(&self) -> &Document {
        &self.0.document
    }

    /// Cancelled when the server is told to stop.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        self.0.stopper.stopping()
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        (self.live().options().clock)() / 1000
    }

    /// When the server was made, in seconds since 1970.
    pub(crate) fn started(&self) -> i64 {
        self.0.started_ms / 1000
    }

    /// A seed for a request that says none: another one each time.
    pub(crate) fn fresh_seed(&self) -> u64 {
        let number = self.0.unseeded.fetch_add(1, Ordering::Relaxed);
        derive_seed(self.0.started_ms as u64, &format!("request/{number}"))
    }

    /// The base model's name.
    pub(crate) fn model(&self) -> &str {
        &self.live().runtime().model.profile().name
    }

    /// Runs what may block (the store, a tokenizer, a grammar) where it does no harm.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&App) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let app = self.clone();
        match tokio::task::spawn_blocking(move || work(&app)).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::internal("the request was dropped")),
        }
    }

    /// Every path, behind the guard.
    pub(crate) fn router(&self) -> Router {
        let edits = Router::new()
            .route("/check", post(self_edits::check))
            .route("/rollback", post(self_edits::rollback))
            .route("/{id}", get(self_edits::show))
            .route("/{id}/events", get(events::of_edit))
            .route("/{id}/approve", post(self_edits::approve));
        Router::new()
            .route("/healthz", get(health))
            .route("/metrics", get(metrics))
            .route("/openapi.json", get(openapi))
            .route("/v1/models", get(openai::models))
            .route("/v1/models/{id}", get(openai::model))
            .route("/v1/completions", post(openai::completions))
            .route("/v1/chat/completions", post(openai::chat))
            .route("/v1/load_lora_adapter", post(adapters::load))
            .route("/v1/unload_lora_adapter", post(adapters::unload))
            .route("/v1/adapters", get(adapters::list))
            .route("/v1/self_edits", get(self_edits::list).post(self_edits::submit))
            .nest("/v1/self_edits", edits)
            .route("/v1/ledger", get(ledger::ledger))
            .route("/v1/tools", get(tools::list))
            .route("/v1/events", get(events::all))
            .merge(page::router())
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method)
            .with_state(self.clone())
            // Which hosts may ask is the guard's to say.
            .merge(mcp::router(self.live().clone(), &[], self.options().limits.request))
            // The guard has read and bounded every body; axum's own bound is lower.
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(self.clone(), guard::guard))
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("options", &self.0.options).finish_non_exhaustive()
    }
}

/// What `/healthz` says. It says nothing that needs a token.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Health {
    /// `ok`, or `stopping`.
    status: &'static str,
}

async fn health(State(app): State<App>) -> Json<Health> {
    Json(Health { status: if app.stopping().is_cancelled() { "stopping" } else { "ok" } })
}

async fn openapi(State(app): State<App>) -> Json<Value> {
    Json(app.document().json().clone())
}

async fn no_such_path(State(app): State<App>, request: axum::extract::Request) -> ApiError {
    let known = app.document().paths().join(", ");
    ApiError::not_found(format!("there is no `{}` here; there are {known}", request.uri().path()))
}

async fn no_such_method(request: axum::extract::Request) -> ApiError {
    ApiError::method(format!(
        "`{}` does not take {}; `/openapi.json` says what it takes",
        request.uri().path(),
        request.method()
    ))
}
