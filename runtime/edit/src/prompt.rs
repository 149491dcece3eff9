//! What a model is told before it writes a self-edit: the context, the form, and the tools that are loaded.
//!
//! Plain text only; chat templates belong to the model.

use std::fmt::Write as _;

use serde_json::Value;

use crate::catalogue::{Catalogue, ToolSpec};
use crate::context::{Context, Domain, Passage, Puzzle};
use crate::grid::Grid;
use crate::wording;

/// Characters of one tool's line. Names and summaries come from plugins.
const TOOL_LINE_CHARS_MAX: usize = 240;

/// Tools that a prompt lists. A model does not choose well among more.
const TOOLS_LISTED_MAX: usize = 64;

/// One line a tool for this kind of context, `name {param: type}: summary`; an optional parameter has a
/// question mark. Empty when no tool suits.
pub fn tool_list(catalogue: &Catalogue, domain: Domain) -> String {
    let suited: Vec<&ToolSpec> = catalogue.iter().filter(|tool| tool.kind == domain.tool_kind()).collect();
    let mut list = String::new();
    for tool in suited.iter().take(TOOLS_LISTED_MAX) {
        let line = format!("{} {}: {}", tool.name, params(&tool.params_schema), tool.summary);
        list.push_str(&wording::cut(&line, TOOL_LINE_CHARS_MAX));
        list.push('\n');
    }
    match suited.len().saturating_sub(TOOLS_LISTED_MAX) {
        0 => list,
        more => list + &format!("and {more} more\n"),
    }
}

/// `{degrees: 90|180|270, reverse?: boolean}`.
fn params(schema: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return "{}".to_owned();
    };
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| {
        required.is_some_and(|names| names.iter().any(|required| required.as_str() == Some(name)))
    };
    let members: Vec<String> = properties
        .iter()
        .map(|(name, member)| {
            let mark = if is_required(name) { "" } else { "?" };
            format!("{name}{mark}: {}", short_type(schema, member))
        })
        .collect();
    format!("{{{}}}", members.join(", "))
}

fn short_type(root: &Value, schema: &Value) -> String {
    let schema = wording::resolve(root, schema);
    if let Some(value) = schema.get("const") {
        return wording::word(value);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().map(wording::word).collect::<Vec<_>>().join("|");
    }
    let name = schema.get("type").and_then(Value::as_str).unwrap_or("any");
    let bound = |name: &str| schema.get(name).filter(|bound| bound.is_number());
    match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => format!("{name} {low}..{high}"),
        (Some(low), None) => format!("{name} >= {low}"),
        (None, Some(high)) => format!("{name} <= {high}"),
        (None, None) => name.to_owned(),
    }
}

/// Selkie's form, short enough for a prompt.
pub fn selkie_form_help() -> &'static str {
    "Answer with one JSON object:\n\
     {\"version\": 1, \"reason\": TEXT,\n \
      \"data\": {\"tools\": [{\"tool\": NAME, \"params\": {...}}, {\"chain\": [TOOL, TOOL]}],\n          \
               \"permute\": {\"copies\": 1, \"colors\": true},\n          \
               \"documents\": [TEXT, ...], \"include_source\": true, \"replay\": 0},\n \
      \"training\": {\"loss_on\": \"final_output\"|\"all_outputs\"|\"all_tokens\", \"learning_rate\": 1e-4,\n              \
                   \"epochs\": 2, \"batch_size\": 2,\n              \
                   \"lora\": {\"rank\": 16, \"alpha\": 16, \"targets\": [\"q_proj\", \"v_proj\"]},\n              \
                   \"schedule\": \"cosine\"|\"linear\"|\"constant\", \"warmup_steps\": 0}}\n\
     Only version and data are required. permute is for puzzles; include_source and replay are for passages.\n\
     replay is how many texts about what you knew before are learned along, so that you do not forget it.\n"
}

/// The prompt for a self-edit: of a passage SEAL's own for implications, word for word; of a puzzle its
/// demonstrations, the loaded tools and Selkie's form. It never holds a puzzle's test output or a passage's
/// questions.
pub fn edit_prompt(context: &Context, catalogue: &Catalogue) -> String {
    match context {
        Context::Passage(passage) => passage_prompt(passage),
        Context::Puzzle(puzzle) => puzzle_prompt(puzzle, catalogue),
    }
}

/// The same with Selkie's form for both kinds of context: what a model is asked whose answer is JSON. Of a passage
/// it has the tools that write documents.
pub fn selkie_prompt(context: &Context, catalogue: &Catalogue) -> String {
    let Passage { title, context, .. } = match context {
        Context::Puzzle(puzzle) => return puzzle_prompt(puzzle, catalogue),
        Context::Passage(passage) => passage,
    };
    let tools = tool_list(catalogue, Domain::Passage);
    let tools = if tools.is_empty() { "none\n" } else { &tools };
    format!(
        "You will be asked about this passage without seeing it. Before that you are trained on the documents that \
         you write about it, on what tools make of it and of them, and on the passage itself.\n\n\
         Passage:\n{title}\n{context}\n\nTools:\n{tools}\n{}",
        selkie_form_help()
    )
}

fn passage_prompt(Passage { title, context, .. }: &Passage) -> String {
    format!(
        "Let's read the following passage and produce a list of implications derived directly or indirectly \
         from the content.\n\nPassage:\n{title}\n{context}\n\nImplications:\n"
    )
}

fn puzzle_prompt(puzzle: &Puzzle, catalogue: &Catalogue) -> String {
    let mut prompt = String::from(
        "A hidden rule turns each input grid into its output grid. You will be trained on these \
         demonstrations, with one left out at a time, and on what tools make of them. Choose tools that \
         keep the rule intact, and how to train.\n\n",
    );
    for (index, example) in puzzle.train.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            prompt,
            "Demonstration {}\nInput:\n{}Output:\n{}",
            index + 1,
            grid(&example.input),
            grid(&example.output)
        );
    }
    for test in &puzzle.tests {
        let _ = writeln!(prompt, "To solve\nInput:\n{}", grid(&test.input));
    }
    let tools = tool_list(catalogue, Domain::Puzzle);
    let tools = if tools.is_empty() { "none\n" } else { &tools };
    let _ = write!(prompt, "Tools:\n{tools}\n{}", selkie_form_help());
    prompt
}

/// Rows of digits, one line each.
fn grid(grid: &Grid) -> String {
    let row = |row: &[u8]| row.iter().map(u8::to_string).collect::<Vec<_>>().join(" ") + "\n";
    grid.rows().map(row).collect()
}
