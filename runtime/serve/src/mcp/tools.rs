//! What a client reads of each tool: name, description, schemas, hints.

use std::borrow::Cow;
use std::sync::Arc;

use rmcp::model::{JsonObject, ToolAnnotations};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{arguments, results};

/// The tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    SelfEditSchema,
    CheckSelfEdit,
    ApplySelfEdit,
    ListTools,
    Score,
    Generate,
    Log,
    Rollback,
}

/// All of them, in the order of use.
pub(super) const ALL: [Tool; 8] = [
    Tool::SelfEditSchema,
    Tool::CheckSelfEdit,
    Tool::ApplySelfEdit,
    Tool::ListTools,
    Tool::Score,
    Tool::Generate,
    Tool::Log,
    Tool::Rollback,
];

/// What a tool does to the world, as clients want it put.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    Reads,
    /// Something is added, and nothing is lost.
    Adds,
    /// What is active for everybody is another.
    Replaces,
}

/// A tool by its name.
pub(super) fn find(wanted: &str) -> Option<Tool> {
    ALL.into_iter().find(|tool| name(*tool) == wanted)
}

/// The name that a client calls it by.
pub(super) fn name(tool: Tool) -> &'static str {
    match tool {
        Tool::SelfEditSchema => "self_edit_schema",
        Tool::CheckSelfEdit => "check_self_edit",
        Tool::ApplySelfEdit => "apply_self_edit",
        Tool::ListTools => "list_tools",
        Tool::Score => "score",
        Tool::Generate => "generate",
        Tool::Log => "log",
        Tool::Rollback => "rollback",
    }
}

fn title(tool: Tool) -> &'static str {
    match tool {
        Tool::SelfEditSchema => "How a self-edit is written",
        Tool::CheckSelfEdit => "Check a self-edit",
        Tool::ApplySelfEdit => "Train by a self-edit",
        Tool::ListTools => "Tools that self-edits may use",
        Tool::Score => "Measure the model",
        Tool::Generate => "Ask the model",
        Tool::Log => "What was tried",
        Tool::Rollback => "Take a change back",
    }
}

fn description(tool: Tool) -> &'static str {
    match tool {
        Tool::SelfEditSchema => {
            "Says how a self-edit is written: its JSON Schema with every loaded tool, a short form in words, and the \
             operator's limits. Call it before you write one."
        }
        Tool::CheckSelfEdit => {
            "Checks a self-edit without running it. The answer says whether it is valid; if not, it lists every problem \
             at once, each with a JSON pointer, what was expected and what was found. Repair all of them and check again."
        }
        Tool::ApplySelfEdit => {
            "Trains the model on a puzzle or a passage by a self-edit, measures it before and after, and keeps the new \
             adapter only if it helped; otherwise nothing changes. Waits until the edit has ended, which may take \
             minutes. Without `edit` the model writes its own. A verdict `refused` comes with all problems of the edit; \
             `busy` says when to try again. A kept edit is a new generation, which `rollback` takes back."
        }
        Tool::ListTools => {
            "Lists the tools that a self-edit may name in `data.tools`, with the JSON Schema of their parameters, and the \
             limits under which they run."
        }
        Tool::Score => {
            "Measures the model without changing it: the log-probability of a completion after a prompt, or how it \
             answers the tests of a puzzle or the questions of a passage whose answers are given."
        }
        Tool::Generate => {
            "Asks the model: it continues a prompt, answers a conversation, or solves one test of a puzzle or answers one \
             question of a passage. Choose the adapter with `adapter` to compare the model before and after an edit."
        }
        Tool::Log => {
            "Lists what was tried, newest first: edits that were kept, discarded or refused, and rollbacks; with the \
             generation that is active and every adapter that may be named."
        }
        Tool::Rollback => {
            "Makes an earlier generation the active one for everybody: `parent` (one step back), `base` (the model as it \
             came) or a generation such as `g3`. Nothing is deleted, and the rollback stands in the log."
        }
    }
}

fn effect(tool: Tool) -> Effect {
    match tool {
        Tool::ApplySelfEdit => Effect::Adds,
        Tool::Rollback => Effect::Replaces,
        _ => Effect::Reads,
    }
}

/// A tool as a client lists it.
pub(super) fn described(tool: Tool) -> rmcp::model::Tool {
    let (input, output) = schemas(tool);
    let effect = effect(tool);
    let reads = effect == Effect::Reads;
    let hints = ToolAnnotations::from_raw(
        Some(title(tool).to_owned()),
        Some(reads),
        Some(effect == Effect::Replaces),
        Some(reads),
        Some(false),
    );
    rmcp::model::Tool::new_with_raw(name(tool), Some(Cow::Borrowed(description(tool))), input)
        .with_title(title(tool))
        .with_raw_output_schema(output)
        .with_annotations(hints)
}

fn schemas(tool: Tool) -> (Arc<JsonObject>, Arc<JsonObject>) {
    match tool {
        Tool::SelfEditSchema => both::<arguments::ForDomain, results::HowTo>(),
        Tool::CheckSelfEdit => both::<arguments::Check, results::Checked>(),
        Tool::ApplySelfEdit => both::<arguments::Apply, results::Applied>(),
        Tool::ListTools => both::<arguments::ForDomain, results::ToolList>(),
        Tool::Score => both::<arguments::Score, results::Scored>(),
        Tool::Generate => both::<arguments::Generate, results::Generated>(),
        Tool::Log => both::<arguments::Log, results::Log>(),
        Tool::Rollback => both::<arguments::Rollback, results::RolledBack>(),
    }
}

fn both<Input: JsonSchema, Output: JsonSchema>() -> (Arc<JsonObject>, Arc<JsonObject>) {
    (schema::<Input>(), schema::<Output>())
}

/// A type's schema without references, which not every client follows.
fn schema<T: JsonSchema>() -> Arc<JsonObject> {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    let mut members = match selkie_edit::schema::tidied(schema) {
        Value::Object(members) => members,
        _ => JsonObject::new(),
    };
    // The names and notes of our types are nothing to a client.
    for noise in ["$schema", "title", "description"] {
        members.shift_remove(noise);
    }
    Arc::new(members)
}
