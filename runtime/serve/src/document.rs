//! The OpenAPI document, made of the types that are read and written. Its file is `schemas/openapi.v1.json`.

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use selkie_engine::live::{AdapterCard, EditStatus, TraceEvent};
use serde_json::{Map, Value, json};

use crate::adapters::{AdapterList, LoadRequest, UnloadRequest};
use crate::api_error::ErrorBody;
use crate::app::Health;
use crate::events::EventsQuery;
use crate::ledger::{Ledger, LedgerQuery};
use crate::openai::{ChatAnswer, ChatChunk, ChatRequest, ModelCard, ModelList, TextAnswer, TextRequest};
use crate::self_edits::{
    ApproveRequest, CheckAnswer, CheckRequest, EditList, RollbackAnswer, RollbackRequest, SubmitRequest,
};
use crate::tools::ToolList;

/// What is said of the whole.
const DESCRIPTION: &str = "\
A language model that may edit itself, over HTTP. Completions and chat are OpenAI's, loading adapters is vLLM's; \
self-edits are Selkie's own. Where the server has a token, which it needs anywhere but on loopback, every request but \
`/`, `/page/*` and `/healthz` presents it; where it has none, the headers Host and Origin must name this machine and this \
server. Bodies are JSON and say so; every error has the form of `ErrorBody`. A self-edit \
that a model proposes in the middle of an answer runs, waits for `approve` or is refused as the operator said \
(`--self-edits`), and a request can only be stricter. One that a client submits runs at once, unless the operator \
said `deny` or the request says `ask`. Where the operator said `deny`, nothing is rolled back \
either. The page and the tools for other agents (`/mcp`) are not part of this document.";

/// Paths that the server has and the document does not describe.
const OTHER_PATHS: [&str; 3] = ["/", "/page/{file}", "/mcp"];

/// The OpenAPI document, and the paths in it.
#[derive(Debug)]
pub(crate) struct Document {
    json: Value,
    paths: Vec<String>,
}

/// The OpenAPI document of the server.
pub fn openapi() -> Value {
    Document::new().json
}

impl Document {
    pub(crate) fn new() -> Document {
        let mut paths = Paths::default();
        of_openai(&mut paths);
        of_adapters(&mut paths);
        of_self_edits(&mut paths);
        of_the_rest(&mut paths);
        let names: Vec<String> = paths.paths.keys().cloned().collect();
        Document { json: paths.document(), paths: names }
    }

    pub(crate) fn json(&self) -> &Value {
        &self.json
    }

    /// The documented paths.
    pub(crate) fn paths(&self) -> &[String] {
        &self.paths
    }

    /// The path of the document that this one is, or `other`: a name of which there are few.
    pub(crate) fn route_of(&self, path: &str) -> &str {
        let known = self.paths.iter().map(String::as_str).chain(OTHER_PATHS);
        let fits = |pattern: &&str| {
            let (mut parts, mut found) = (pattern.split('/'), path.split('/'));
            loop {
                match (parts.next(), found.next()) {
                    (None, None) => return true,
                    (Some(part), Some(text)) if part == text || part.starts_with('{') => {}
                    _ => return false,
                }
            }
        };
        let mut fitting: Vec<&str> = known.filter(fits).collect();
        // `/v1/self_edits/check` is no edit's id.
        fitting.sort_by_key(|pattern| pattern.matches('{').count());
        fitting.first().copied().unwrap_or("other")
    }
}

fn of_openai(paths: &mut Paths) {
    paths.get("/v1/models", "List the model and its adapters").answers::<ModelList>("200", "The cards.");
    paths.get("/v1/models/{id}", "Show one card").answers::<ModelCard>("200", "The card.").fails("404");
    let mut completions = paths.post::<TextRequest>("/v1/completions", "Continue text");
    completions.answers::<TextAnswer>("200", "The answer.").streams::<TextAnswer>();
    completions.generates();
    let mut chat = paths.post::<ChatRequest>("/v1/chat/completions", "Continue a conversation");
    chat.answers::<ChatAnswer>("200", "The answer.").streams::<ChatChunk>();
    chat.generates();
}

fn of_adapters(paths: &mut Paths) {
    paths.get("/v1/adapters", "List the adapters").answers::<AdapterList>("200", "The adapters.");
    let mut load = paths.post::<LoadRequest>("/v1/load_lora_adapter", "Load a PEFT folder");
    load.answers::<AdapterCard>("200", "It is loaded.").fails("400").fails("403");
    let mut unload = paths.post::<UnloadRequest>("/v1/unload_lora_adapter", "Forget a loaded adapter");
    unload.answers::<AdapterList>("200", "What is left.").fails("404");
}

fn of_self_edits(paths: &mut Paths) {
    let mut check = paths.post::<CheckRequest>("/v1/self_edits/check", "Check a self-edit; nothing is run");
    check.answers::<CheckAnswer>("200", "Whether it is valid, or every problem of it.").fails("400");
    let mut submit = paths.post::<SubmitRequest>("/v1/self_edits", "Carry out a self-edit");
    submit.answers::<EditStatus>("202", "It waits, or runs.").answers::<EditStatus>("200", "It has ended.");
    submit.fails("400").fails("403").fails("422").fails("429").fails("503");
    paths.get("/v1/self_edits", "List the self-edits").answers::<EditList>("200", "Newest first.");
    let mut show = paths.get("/v1/self_edits/{id}", "Show a self-edit");
    show.answers::<EditStatus>("200", "The self-edit.").fails("404");
    let mut events = paths.get("/v1/self_edits/{id}/events", "Follow a self-edit until it ends");
    events.streams::<TraceEvent>().lines::<TraceEvent>().fails("404");
    let mut approve = paths.post::<ApproveRequest>(
        "/v1/self_edits/{id}/approve",
        "Say whether a self-edit that waits for approval may run",
    );
    approve.answers::<EditStatus>("200", "The self-edit.").fails("404").fails("409");
    let mut rollback =
        paths.post::<RollbackRequest>("/v1/self_edits/rollback", "Make another generation active");
    rollback.answers::<RollbackAnswer>("200", "What is active now.").fails("403").fails("404").fails("409");
}

fn of_the_rest(paths: &mut Paths) {
    let mut ledger = paths.get("/v1/ledger", "List what was tried");
    ledger.query::<LedgerQuery>().answers::<Ledger>("200", "Newest first.").fails("400");
    paths
        .get("/v1/tools", "List the tools that self-edits can call")
        .answers::<ToolList>("200", "The tools.");
    let mut events = paths.get("/v1/events", "Follow everything that happens");
    events.query::<EventsQuery>().streams::<TraceEvent>().lines::<TraceEvent>().fails("400");
    paths.get("/healthz", "Whether the server is up").answers::<Health>("200", "It is.");
    paths.get("/metrics", "Numbers for Prometheus").content("200", "The numbers.", "text/plain", json!({}));
    paths.get("/openapi.json", "This document").content(
        "200",
        "The document.",
        "application/json",
        json!({}),
    );
}

/// The document as it grows.
struct Paths {
    schemas: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Default for Paths {
    fn default() -> Paths {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Paths { schemas: settings.into_generator(), paths: Map::new() }
    }
}

impl Paths {
    fn get(&mut self, path: &str, summary: &str) -> Operation<'_> {
        self.operation("get", path, summary)
    }

    fn post<T: JsonSchema>(&mut self, path: &str, summary: &str) -> Operation<'_> {
        let schema = self.schemas.subschema_for::<T>();
        let mut operation = self.operation("post", path, summary);
        operation.set(
            "requestBody",
            json!({
                "required": true,
                "content": { "application/json": { "schema": schema } },
            }),
        );
        operation
    }

    fn operation(&mut self, method: &str, path: &str, summary: &str) -> Operation<'_> {
        let parameters: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        let methods = self.paths.entry(path).or_insert_with(|| json!({}));
        // Before anybody asks what it is about, a request can be refused in ways that are the same everywhere.
        let responses = json!({ "default": { "$ref": "#/components/responses/Error" } });
        methods[method] = json!({ "summary": summary, "parameters": parameters, "responses": responses });
        Operation { schemas: &mut self.schemas, operation: &mut methods[method] }
    }

    fn document(mut self) -> Value {
        let error = self.schemas.subschema_for::<ErrorBody>();
        let schemas = self.schemas.take_definitions(true);
        json!({
            "openapi": "3.1.0",
            "info": { "title": "Selkie", "version": "1", "description": DESCRIPTION },
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "responses": {
                    "Error": {
                        "description": "A no, and why.",
                        "content": { "application/json": { "schema": error } },
                    },
                },
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            },
            "security": [{}, { "token": [] }],
        })
    }
}

/// What one path answers to one method.
struct Operation<'a> {
    schemas: &'a mut SchemaGenerator,
    operation: &'a mut Value,
}

impl Operation<'_> {
    fn set(&mut self, name: &str, value: Value) {
        self.operation[name] = value;
    }

    fn content(&mut self, status: &str, description: &str, kind: &str, schema: Value) -> &mut Self {
        let response = &mut self.operation["responses"][status];
        if response.is_null() {
            *response = json!({ "description": description, "content": {} });
        }
        response["content"][kind] = json!({ "schema": schema });
        self
    }

    fn answers<T: JsonSchema>(&mut self, status: &str, description: &str) -> &mut Self {
        let schema = self.schemas.subschema_for::<T>().to_value();
        self.content(status, description, "application/json", schema)
    }

    /// Server-sent events; each one's data is such a value, and the last one's `[DONE]`.
    fn streams<T: JsonSchema>(&mut self) -> &mut Self {
        let schema = self.schemas.subschema_for::<T>().to_value();
        self.content("200", "As it happens; the last event is `[DONE]`.", "text/event-stream", schema)
    }

    fn lines<T: JsonSchema>(&mut self) -> &mut Self {
        let schema = self.schemas.subschema_for::<T>().to_value();
        self.content("200", "As it happens.", "application/x-ndjson", schema)
    }

    fn fails(&mut self, status: &str) -> &mut Self {
        self.operation["responses"][status] = json!({ "$ref": "#/components/responses/Error" });
        self
    }

    /// The ways in which a request to generate fails.
    fn generates(&mut self) {
        for status in ["400", "404", "429", "500", "503", "504"] {
            self.fails(status);
        }
    }

    fn query<T: JsonSchema>(&mut self) -> &mut Self {
        let schema = self.schemas.root_schema_for::<T>().to_value();
        let members = schema["properties"].as_object().into_iter().flatten();
        for (name, schema) in members {
            let parameter = json!({ "name": name, "in": "query", "required": false, "schema": schema });
            if let Some(parameters) = self.operation["parameters"].as_array_mut() {
                parameters.push(parameter);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_document_is_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/openapi.v1.json");
        let text = serde_json::to_string_pretty(&openapi()).expect("JSON") + "\n";
        if std::env::var_os("SELKIE_UPDATE").is_some() {
            std::fs::write(path, &text).expect("the document's file");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == text, "{path} is not what the types say; run the tests with SELKIE_UPDATE=1");
    }

    #[test]
    fn every_reference_is_defined() {
        let document = openapi();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }

    #[test]
    fn a_path_has_a_route_of_which_there_are_few() {
        let document = Document::new();
        for (path, route) in [
            ("/v1/models", "/v1/models"),
            ("/v1/models/g3", "/v1/models/{id}"),
            ("/v1/self_edits/check", "/v1/self_edits/check"),
            ("/v1/self_edits/edit-7", "/v1/self_edits/{id}"),
            ("/v1/self_edits/edit-7/events", "/v1/self_edits/{id}/events"),
            ("/", "/"),
            ("/page/app.js", "/page/{file}"),
            ("/v1/modelsx", "other"),
            ("/../../etc/passwd", "other"),
        ] {
            assert_eq!(document.route_of(path), route, "{path}");
        }
    }
}
