//! `/v1/tools`: what self-edits can call.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use selkie_edit::{ToolKind, ToolSpec};
use selkie_tools::Limits;
use serde::Serialize;
use serde_json::Value;

use crate::app::App;

/// The loaded tools.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ToolList {
    /// `list`.
    object: &'static str,
    /// By name.
    data: Vec<ToolCard>,
}

/// A tool.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ToolCard {
    /// Its full name, such as `grid.rotate`.
    name: String,
    /// The plugin that it comes from.
    plugin: String,
    /// The plugin's version.
    version: String,
    /// SHA-256 of the plugin.
    digest: String,
    /// What it works on.
    kind: ToolKind,
    /// One line.
    description: String,
    /// JSON Schema of its parameters.
    parameters: Value,
    /// What one batch of calls may use.
    limits: ToolLimits,
}

/// What one batch of calls may use. A self-edit can ask for less and never for more.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(crate) struct ToolLimits {
    /// WebAssembly instructions, nearly.
    fuel: u64,
    /// Bytes of memory.
    memory_bytes: usize,
    /// Wall-clock seconds.
    seconds: f64,
    /// Items that it may return.
    items: usize,
    /// Bytes that it may return.
    bytes: usize,
}

impl From<&Limits> for ToolLimits {
    fn from(limits: &Limits) -> ToolLimits {
        ToolLimits {
            fuel: limits.call_fuel,
            memory_bytes: limits.memory_bytes,
            seconds: limits.deadline.as_secs_f64(),
            items: limits.output_items,
            bytes: limits.output_bytes,
        }
    }
}

impl ToolCard {
    fn new(tool: &ToolSpec, limits: ToolLimits) -> ToolCard {
        ToolCard {
            name: tool.name.clone(),
            plugin: tool.plugin.name.clone(),
            version: tool.plugin.version.clone(),
            digest: tool.plugin.digest.clone(),
            kind: tool.kind,
            description: tool.summary.clone(),
            parameters: tool.params_schema.clone(),
            limits,
        }
    }
}

/// `GET /v1/tools`.
pub(crate) async fn list(State(app): State<App>) -> Json<ToolList> {
    let host = &app.live().runtime().host;
    let limits = ToolLimits::from(host.limits());
    let data = host.catalogue().iter().map(|tool| ToolCard::new(tool, limits)).collect();
    Json(ToolList { object: "list", data })
}
