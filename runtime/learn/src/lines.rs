//! Lines of JSON as training sequences and prompts: `{"prompt", "completion"}`, `{"text"}`, `{"messages"}`.
//!
//! Prompt and completion are encoded apart, so that a completion's tokens are those that generation would choose
//! from. Other members of a line are left alone; a line of two forms at once is refused.

use serde_json::{Map, Value};

use crate::codec::Codec;
use crate::error::LearnError;
use crate::pup::render::Prompt;
use crate::sequence::Sequence;

/// Characters of a wrong line that are shown.
const SHOWN_MAX: usize = 60;

fn object(line: &str) -> Result<Map<String, Value>, String> {
    if line.trim().is_empty() {
        return Err("it is empty; expected a JSON object".to_owned());
    }
    match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("expected a JSON object, found {}", shown(&other.to_string()))),
        Err(error) => Err(format!("it is not JSON ({}): {}", at_column(&error), shown(line))),
    }
}

/// The parser's complaint without its line, which is always 1.
fn at_column(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at character ")
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

/// The tokens of a line and where the loss is: on a completion and its end, on a whole text, or on the last message,
/// which must be the assistant's.
///
/// # Errors
/// What was expected and what was found, in words.
pub fn sequence(codec: &Codec, line: &str) -> Result<Sequence, String> {
    let line = &object(line)?;
    let forms = "{\"prompt\", \"completion\"}, {\"text\"} or {\"messages\"}";
    let has = |name: &str| line.contains_key(name);
    let found = || line.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    match (has("prompt") || has("completion"), has("text"), has("messages")) {
        (true, false, false) => {
            let prompt = codec.text_prompt(text(line, "prompt")?).map_err(told)?;
            with_completion(&prompt, text(line, "completion")?, codec)
        }
        (false, true, false) => match text(line, "text")? {
            "" => Err("`text` is empty".to_owned()),
            text => codec.document(text).map_err(told),
        },
        (false, false, true) => {
            let messages = messages(line)?;
            match messages.split_last() {
                Some((&("assistant", answer), before)) if !before.is_empty() => {
                    with_completion(&codec.chat_prompt(before).map_err(told)?, answer, codec)
                }
                _ => Err("expected the last of at least two `messages` to be the assistant's".to_owned()),
            }
        }
        (false, false, false) => Err(match line.is_empty() {
            true => format!("expected {forms}, found an empty object"),
            false => format!("expected {forms}, found {}", found()),
        }),
        _ => Err(format!("expected one of {forms}, found {}", found())),
    }
}

fn with_completion(prompt: &Prompt, completion: &str, codec: &Codec) -> Result<Sequence, String> {
    if prompt.ids.is_empty() {
        return Err("the prompt has no tokens; write {\"text\"} for text from its start".to_owned());
    }
    Ok(prompt.with(&codec.completion(completion).map_err(told)?))
}

/// A line's prompt, or its messages up to where the assistant answers.
///
/// # Errors
/// What was expected and what was found, in words.
pub fn prompt(codec: &Codec, line: &str, as_chat: bool) -> Result<Prompt, String> {
    let line = &object(line)?;
    match (line.contains_key("prompt"), line.contains_key("messages")) {
        (true, false) => text_prompt(codec, text(line, "prompt")?, as_chat),
        (false, true) => codec.chat_prompt(&messages(line)?).map_err(told),
        (true, true) => Err("expected one of `prompt` and `messages`".to_owned()),
        (false, false) => Err("expected `prompt` or `messages`".to_owned()),
    }
}

/// One prompt, as it is or as a user's message.
///
/// # Errors
/// When the model cannot read it, or nothing of it is a token.
pub fn text_prompt(codec: &Codec, text: &str, as_chat: bool) -> Result<Prompt, String> {
    let prompt = match as_chat {
        true => codec.chat_prompt(&[("user", text)]),
        false => codec.text_prompt(text),
    };
    let prompt = prompt.map_err(told)?;
    if prompt.ids.is_empty() { Err("the prompt has no tokens".to_owned()) } else { Ok(prompt) }
}

fn messages(line: &Map<String, Value>) -> Result<Vec<(&str, &str)>, String> {
    let expected = "expected `messages` to be a list of objects with the texts `role` and `content`";
    let list = line["messages"].as_array().filter(|list| !list.is_empty());
    list.and_then(|list| {
        list.iter().map(|one| Some((one["role"].as_str()?, one["content"].as_str()?))).collect()
    })
    .ok_or_else(|| expected.to_owned())
}

fn text<'a>(line: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match line.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("expected `{name}` to be a text, found {}", shown(&other.to_string()))),
        None => Err(format!("`{name}` is missing")),
    }
}

fn told(error: LearnError) -> String {
    error.to_string()
}
