//! `selkie show`.

use std::process::ExitCode;

use selkie_store::{Entry, Event, Outcome, Reader, Store};
use serde_json::{Value, json};

use crate::args::ShowArgs;
use crate::error::CommandError;
use crate::settings;

/// Prints an entry, whole, as JSON.
pub(crate) fn run(args: &ShowArgs) -> Result<ExitCode, CommandError> {
    let reader = Store::read_only(settings::home(&args.home))?;
    let entry = find_entry(&reader, &args.id)?;
    super::print_json(&whole(&entry))?;
    Ok(ExitCode::SUCCESS)
}

/// The entry of that name, or the one that made the generation of that name.
pub(crate) fn find_entry(reader: &Reader, id: &str) -> Result<Entry, CommandError> {
    match id.starts_with('e') && id[1..].bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(reader.find_entry(id)?),
        false => Ok(reader.entry(reader.find_generation(id)?.entry)?),
    }
}

fn whole(entry: &Entry) -> Value {
    let head = json!({ "id": entry.id.to_string(), "base": entry.base_digest });
    let body = match &entry.event {
        Event::Rollback(rollback) => json!({
            "event": "rollback",
            "time_ms": rollback.time_ms,
            "from": rollback.from.map(|id| id.to_string()),
            "to": rollback.to.map(|id| id.to_string()),
        }),
        Event::Episode(episode) => {
            let outcome = match &episode.outcome {
                Outcome::Kept { generation, adapter, trial } => json!({
                    "verdict": "kept",
                    "generation": generation.to_string(),
                    "adapter": adapter.as_str(),
                    "trial": trial,
                }),
                Outcome::Discarded { adapter, trial } => {
                    json!({ "verdict": "discarded", "adapter": adapter.as_str(), "trial": trial })
                }
                Outcome::Refused(refusal) => json!({ "verdict": "refused", "refusal": refusal }),
            };
            json!({
                "event": "episode",
                "parent": episode.parent.map(|id| id.to_string()),
                "record": episode.record,
                "outcome": outcome,
            })
        }
    };
    let mut value = head;
    if let (Some(value), Value::Object(body)) = (value.as_object_mut(), body) {
        value.extend(body);
    }
    value
}
