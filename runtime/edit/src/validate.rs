//! From a draft to a self-edit that obeys every rule, or to all of its problems at once.
//!
//! The schema says what it can; the rules here are the ones that a schema cannot say: which tools suit the
//! context, bytes, and that there is something to learn.

use serde_json::Value;

use crate::completion;
use crate::context::Domain;
use crate::draft::{DataDraft, Draft, EditDraft, PipelineDraft, ToolDraft, TrainingDraft};
use crate::json;
use crate::limits::{
    CHAIN_DEPTH_MAX, DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, PARAMS_BYTES_MAX, PIPELINES_MAX, TOOL_NAME_CHARS_MAX,
};
use crate::problem::{Code, Problem, Problems, Refused};
use crate::seal::{FlagPipelines, SealArcDraft};
use crate::self_edit::{
    Dialect, Lora, LossOn, Permute, Projection, SelfEdit, ToolCall, ToolLimits, Training, TrainingDefaults,
};
use crate::validator::{CompiledTool, Validator};
use crate::wording;

/// Checks a draft against the form, the loaded tools and the kind of context, and fills in `defaults`.
///
/// # Errors
/// Every problem, up to [`crate::limits::PROBLEMS_MAX`]. Pointers are into the edit as it was written.
pub fn validate(
    draft: Draft,
    validator: &Validator,
    domain: Domain,
    defaults: &TrainingDefaults,
) -> Result<SelfEdit, Refused> {
    let defaults = match domain {
        Domain::Puzzle => &defaults.puzzle,
        Domain::Passage => &defaults.passage,
    };
    match draft {
        Draft::Selkie(value) => selkie(value, validator, domain, defaults),
        Draft::SealArc(value) => seal_arc(value, validator, domain, defaults),
        Draft::SealCompletion(text) => seal_completion(&text, domain, defaults),
    }
}

fn selkie(
    value: Value,
    validator: &Validator,
    domain: Domain,
    defaults: &Training,
) -> Result<SelfEdit, Refused> {
    let value = json::with_whole_numbers(value);
    let mut problems = Problems::default();
    validator.form.complain(&value, "", None, &mut problems);
    if let Some(pipelines) = value.pointer("/data/tools").and_then(Value::as_array) {
        for (index, pipeline) in pipelines.iter().take(PIPELINES_MAX).enumerate() {
            check_pipeline(pipeline, &format!("/data/tools/{index}"), validator, domain, &mut problems);
        }
    }
    check_documents(&value, domain, &mut problems);
    if domain == Domain::Passage && value.pointer("/data/permute").is_some() {
        let expected = "no permutation, as a passage has no grids";
        problems.push(Problem::new(Code::WrongKind, "/data/permute", expected, "permute"));
    }
    problems.into_result()?;

    let EditDraft { version: _, reason, data, training } = typed(value)?;
    let DataDraft { tools, permute, documents, include_source, replay, limits } = data;
    let pipelines: Vec<Vec<ToolCall>> = tools.into_iter().map(calls).collect();
    let permute = match domain {
        Domain::Puzzle => Permute {
            copies: permute.copies.unwrap_or(1),
            colors: permute.colors.unwrap_or(!pipelines.is_empty()),
        },
        Domain::Passage => NO_PERMUTATION,
    };
    Ok(SelfEdit {
        dialect: Dialect::Selkie,
        pipelines,
        permute,
        documents: documents.iter().map(|document| document.trim().to_owned()).collect(),
        include_source: domain == Domain::Passage && include_source.unwrap_or(true),
        replay: if domain == Domain::Passage { replay.unwrap_or(0) } else { 0 },
        limits: ToolLimits { fuel: limits.fuel, items: limits.items, model_calls: limits.model_calls },
        training: settings(training, domain, defaults),
        reason,
    })
}

const NO_PERMUTATION: Permute = Permute { copies: 0, colors: false };

/// The value as its wire type. The schema is generated from that type, so this fails only where the two
/// have drifted apart; then serde's words are better than none.
fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, Refused> {
    serde_json::from_value(value)
        .map_err(|error| Problem::new(Code::WrongType, "", "a self-edit", error.to_string()).into())
}

fn calls(pipeline: PipelineDraft) -> Vec<ToolCall> {
    let call = |ToolDraft { tool, params }| ToolCall { tool, params: Value::Object(params) };
    match pipeline {
        PipelineDraft::One(tool) => vec![call(tool)],
        PipelineDraft::Chain(tools) => tools.chain.into_iter().map(call).collect(),
    }
}

fn check_pipeline(value: &Value, at: &str, validator: &Validator, domain: Domain, problems: &mut Problems) {
    // The form has complained about anything that is not an object.
    let Value::Object(members) = value else { return };
    if !members.contains_key("chain") {
        check_call(value, at, validator, Some(domain), problems);
        return;
    }
    validator.chain.complain(value, at, None, problems);
    if let Some(calls) = members.get("chain").and_then(Value::as_array) {
        for (index, call) in calls.iter().take(CHAIN_DEPTH_MAX).enumerate() {
            check_call(call, &format!("{at}/chain/{index}"), validator, Some(domain), problems);
        }
    }
}

/// Without a domain any kind of tool is right.
fn check_call(
    value: &Value,
    at: &str,
    validator: &Validator,
    domain: Option<Domain>,
    problems: &mut Problems,
) {
    let Value::Object(members) = value else { return };
    if problems.is_full() {
        return;
    }
    validator.call.complain(value, at, None, problems);
    let Some(name) = members.get("tool").and_then(Value::as_str) else { return };
    if name.is_empty() || name.chars().nth(TOOL_NAME_CHARS_MAX).is_some() {
        // The complaint about its length is enough.
        return;
    }
    let Some(tool) = validator.tools.get(name) else {
        problems.push(unknown_tool(name, at, validator, domain));
        return;
    };
    if let Some(domain) = domain.filter(|domain| domain.tool_kind() != tool.kind) {
        let found = format!("`{name}`, {}", tool.kind);
        problems.push(Problem::new(Code::WrongKind, format!("{at}/tool"), tools_for(domain), found));
        return;
    }
    let no_params = Value::Object(serde_json::Map::new());
    let params = members.get("params").unwrap_or(&no_params);
    if params.is_object() {
        check_params(params, &format!("{at}/params"), tool, members.contains_key("params"), problems);
    }
}

/// Checks one call of any kind of tool, `{"tool": name, "params": {..}}`, outside of any edit.
///
/// # Errors
/// Every problem; pointers are into the call.
pub fn validate_call(call: &Value, validator: &Validator) -> Result<(), Refused> {
    let mut problems = Problems::default();
    if !call.is_object() {
        let expected = "an object with a tool and its parameters";
        problems.push(Problem::new(Code::WrongType, "", expected, wording::found(call)));
    }
    check_call(call, "", validator, None, &mut problems);
    problems.into_result()
}

/// Parameters against the tool's schema and the cap on their size. Where the edit has none, the complaint is
/// about the call: there is no object to point into.
fn check_params(params: &Value, at: &str, tool: &CompiledTool, are_written: bool, problems: &mut Problems) {
    if !are_written {
        if !tool.params.accepts(params) {
            problems.push(Problem::new(
                Code::BadParams,
                at,
                "an object with the tool's parameters",
                "nothing",
            ));
        }
        return;
    }
    let bytes = params.to_string().len();
    if bytes > PARAMS_BYTES_MAX {
        let expected = format!("parameters of at most {PARAMS_BYTES_MAX} bytes");
        problems.push(Problem::new(Code::OverLimit, at, expected, format!("{bytes} bytes")));
        return;
    }
    tool.params.complain(params, at, Some(Code::BadParams), problems);
}

fn unknown_tool(name: &str, at: &str, validator: &Validator, domain: Option<Domain>) -> Problem {
    let kind = domain.map(Domain::tool_kind);
    let suited = validator.tools.iter().filter(|(_, tool)| kind.is_none_or(|kind| tool.kind == kind));
    let names = wording::listed(suited.map(|(name, _)| name.as_str()), Some(name));
    let expected = match domain {
        _ if !names.is_empty() => format!("one of {names}"),
        Some(domain) => tools_for(domain).to_owned(),
        None => "a loaded tool".to_owned(),
    };
    Problem::new(Code::UnknownTool, format!("{at}/tool"), expected, wording::found(&Value::from(name)))
}

fn tools_for(domain: Domain) -> &'static str {
    match domain {
        Domain::Puzzle => "a tool that works on puzzles",
        Domain::Passage => "a tool that works on passages",
    }
}

fn check_documents(edit: &Value, domain: Domain, problems: &mut Problems) {
    let written =
        edit.pointer("/data/documents").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let has_source = edit.pointer("/data/include_source") != Some(&Value::Bool(false));
    // A puzzle has its demonstrations to learn from.
    let has_tools =
        edit.pointer("/data/tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
    if domain == Domain::Passage && written.is_empty() && !has_source && !has_tools {
        let found = "no documents, no tools, and include_source false";
        let expected = "documents, tools or the passage itself";
        problems.push(Problem::new(Code::NothingToLearn, "/data", expected, found));
    }
    for (index, document) in written.iter().take(DOCUMENTS_MAX).enumerate() {
        let Value::String(text) = document else { continue };
        let at = format!("/data/documents/{index}");
        if text.len() > DOCUMENT_BYTES_MAX && text.chars().nth(DOCUMENT_BYTES_MAX).is_none() {
            // More characters than that is the schema's complaint; bytes are ours.
            problems.push(too_long(at, text));
        } else if !text.is_empty() && text.trim().is_empty() {
            problems.push(Problem::new(Code::OutOfRange, at, "a text", "only white space"));
        }
    }
}

fn too_long(at: String, text: &str) -> Problem {
    let expected = format!("a document of at most {DOCUMENT_BYTES_MAX} bytes");
    Problem::new(Code::OverLimit, at, expected, format!("{} bytes", text.len()))
}

/// What the edit says, and the model's defaults for the rest.
fn settings(draft: TrainingDraft, domain: Domain, defaults: &Training) -> Training {
    let TrainingDraft { loss_on, learning_rate, epochs, batch_size, lora, schedule, warmup_steps } = draft;
    Training {
        loss_on: match domain {
            Domain::Puzzle => loss_on.unwrap_or(defaults.loss_on),
            // A document has no output apart from itself.
            Domain::Passage => LossOn::AllTokens,
        },
        learning_rate: learning_rate.unwrap_or(defaults.learning_rate),
        epochs: epochs.unwrap_or(defaults.epochs),
        batch_size: batch_size.unwrap_or(defaults.batch_size),
        lora: Lora {
            rank: lora.rank.unwrap_or(defaults.lora.rank),
            alpha: lora.alpha.unwrap_or(defaults.lora.alpha),
            targets: lora.targets.map_or_else(|| defaults.lora.targets.clone(), distinct),
        },
        schedule: schedule.unwrap_or(defaults.schedule),
        warmup_steps: warmup_steps.unwrap_or(defaults.warmup_steps),
    }
}

fn distinct(mut targets: Vec<Projection>) -> Vec<Projection> {
    targets.sort_unstable();
    targets.dedup();
    targets
}

fn seal_arc(
    value: Value,
    validator: &Validator,
    domain: Domain,
    defaults: &Training,
) -> Result<SelfEdit, Refused> {
    if domain == Domain::Passage {
        let expected = "free text or Selkie's form, as a passage has no grids to augment";
        return Err(Problem::new(Code::WrongKind, "", expected, "SEAL's form for puzzles").into());
    }
    let value = json::with_whole_numbers(value);
    let mut problems = Problems::default();
    validator.seal_arc.complain(&value, "", None, &mut problems);
    problems.into_result()?;

    let SealArcDraft { data_generation, training } = typed(value)?;
    let flags = data_generation.pipelines();
    let mut problems = Problems::default();
    flags.iter().for_each(|flag| check_flag(flag, validator, &mut problems));
    problems.into_result()?;
    Ok(SelfEdit {
        dialect: Dialect::SealArc,
        pipelines: flags.into_iter().flat_map(|(_, pipelines)| pipelines).collect(),
        permute: Permute { copies: 1, colors: data_generation.any() },
        documents: Vec::new(),
        include_source: false,
        replay: 0,
        limits: ToolLimits::default(),
        training: Training {
            loss_on: training.strategy.loss_on(),
            learning_rate: training.learning_rate,
            epochs: training.num_train_epochs,
            ..defaults.clone()
        },
        reason: None,
    })
}

/// Whether the tools behind a flag are loaded and take the parameters that SEAL's sets have.
fn check_flag((flag, pipelines): &FlagPipelines, validator: &Validator, problems: &mut Problems) {
    let is_usable = |call: &&ToolCall| {
        validator
            .tools
            .get(&call.tool)
            .is_some_and(|tool| tool.kind == Domain::Puzzle.tool_kind() && tool.params.accepts(&call.params))
    };
    let mut missing: Vec<&str> =
        pipelines.iter().flatten().filter(|call| !is_usable(call)).map(|call| call.tool.as_str()).collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        let expected = format!("false, or a plugin with SEAL's {}", wording::listed(missing, None));
        problems.push(Problem::new(Code::UnknownTool, format!("/data_generation/{flag}"), expected, "true"));
    }
}

fn seal_completion(text: &str, domain: Domain, defaults: &Training) -> Result<SelfEdit, Refused> {
    if domain == Domain::Puzzle {
        let found = format!("\"{}\"", wording::excerpt(text));
        return Err(Problem::new(
            Code::NoJson,
            "",
            "a JSON object, as a puzzle is learned with tools",
            found,
        )
        .into());
    }
    let documents = completion::documents(text);
    let mut problems = Problems::default();
    if documents.is_empty() {
        let found = format!("\"{}\"", wording::excerpt(text));
        problems.push(Problem::new(
            Code::NothingToLearn,
            "",
            "at least one sentence about the passage",
            found,
        ));
    }
    if documents.len() > DOCUMENTS_MAX {
        let expected = format!("at most {DOCUMENTS_MAX} documents");
        problems.push(Problem::new(Code::OverLimit, "", expected, documents.len().to_string()));
    }
    for document in documents.iter().filter(|document| document.len() > DOCUMENT_BYTES_MAX) {
        problems.push(too_long(String::new(), document));
    }
    problems.into_result()?;
    Ok(SelfEdit {
        dialect: Dialect::SealCompletion,
        pipelines: Vec::new(),
        permute: NO_PERMUTATION,
        documents,
        include_source: true,
        replay: 0,
        limits: ToolLimits::default(),
        training: settings(TrainingDraft::default(), domain, defaults),
        reason: None,
    })
}
