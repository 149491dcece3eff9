//! OpenAI's API: models, completions and chat. What it has no field for (adapters, self-edits) are further fields,
//! which its clients pass through.

mod answer;
mod chat;
mod job;
mod models;
mod request;
mod text;

pub(crate) use chat::{ChatAnswer, ChatChunk, ChatRequest, chat};
pub(crate) use models::{ModelCard, ModelList, model, models};
pub(crate) use text::{TextAnswer, TextRequest, completions};
