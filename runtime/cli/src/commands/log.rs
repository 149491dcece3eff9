//! `selkie log`.

use std::process::ExitCode;

use selkie_store::{Entry, Error, Event, Outcome, Reader, Store};
use serde_json::{Value, json};

use crate::args::LogArgs;
use crate::error::CommandError;
use crate::settings;

/// Lists entries, newest first.
pub(crate) fn run(args: &LogArgs) -> Result<ExitCode, CommandError> {
    let home = settings::home(&args.home);
    let reader = match Store::read_only(&home) {
        Ok(reader) => reader,
        // A home where nothing was done yet has an empty log; that is an answer.
        Err(Error::NoStore { .. }) => {
            let empty = json!({ "active": [], "entries": [] });
            return if args.json {
                super::print_json(&empty)
            } else {
                super::print("nothing was tried yet\n")
            }
            .map(|()| ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    let entries = reader.log(args.limit)?;
    match args.json {
        true => super::print_json(&as_json(&reader, &entries)?)?,
        false => super::print(&as_text(&reader, &entries)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(reader: &Reader, entries: &[Entry]) -> Result<String, CommandError> {
    let mut text = String::new();
    for active in reader.actives()? {
        text.push_str(&format!(
            "active: {} (adapter {}) on base {}\n",
            active.id,
            active.adapter.short(),
            &active.base_digest[..12]
        ));
    }
    if text.is_empty() {
        text.push_str("active: the base models\n");
    }
    Ok(text + &listed(entries))
}

/// A line an entry.
pub(super) fn listed(entries: &[Entry]) -> String {
    let line =
        |entry: &Entry| format!("{:>5}  {}  {}\n", entry.id.to_string(), utc(entry.time_ms()), line(entry));
    entries.iter().map(line).collect()
}

fn line(entry: &Entry) -> String {
    match &entry.event {
        Event::Rollback(rollback) => {
            let name =
                |id: Option<selkie_store::GenerationId>| id.map_or("base".to_owned(), |id| id.to_string());
            format!("rollback {} -> {}", name(rollback.from), name(rollback.to))
        }
        Event::Episode(episode) => {
            let name = &episode.record.context.name;
            match &episode.outcome {
                Outcome::Kept { generation, trial, .. } => {
                    format!(
                        "kept {generation}  {name}  score {:.2} -> {:.2}",
                        trial.before.score, trial.after.score
                    )
                }
                Outcome::Discarded { trial, .. } => {
                    format!("discarded  {name}  score {:.2} -> {:.2}", trial.before.score, trial.after.score)
                }
                Outcome::Refused(refusal) => {
                    format!("refused  {name}  {}", refusal.reason.lines().next().unwrap_or_default())
                }
            }
        }
    }
}

fn as_json(reader: &Reader, entries: &[Entry]) -> Result<Value, CommandError> {
    let active: Vec<Value> = (reader.actives()?.iter())
        .map(|active| json!({ "base": active.base_digest, "generation": active.id.to_string(), "adapter": active.adapter.as_str() }))
        .collect();
    Ok(json!({ "active": active, "entries": entries.iter().map(entry_json).collect::<Vec<_>>() }))
}

/// An entry as JSON, in short.
fn entry_json(entry: &Entry) -> Value {
    let mut value =
        json!({ "id": entry.id.to_string(), "time_ms": entry.time_ms(), "base": entry.base_digest });
    match &entry.event {
        Event::Rollback(rollback) => {
            value["event"] = json!("rollback");
            value["from"] = json!(rollback.from.map(|id| id.to_string()));
            value["to"] = json!(rollback.to.map(|id| id.to_string()));
        }
        Event::Episode(episode) => {
            value["event"] = json!("episode");
            value["task"] = json!(episode.record.context.name);
            value["parent"] = json!(episode.parent.map(|id| id.to_string()));
            value["verdict"] = json!(episode.outcome.verdict());
            if let Outcome::Kept { generation, adapter, .. } = &episode.outcome {
                value["generation"] = json!(generation.to_string());
                value["adapter"] = json!(adapter.as_str());
            }
            if let Some(trial) = episode.outcome.trial() {
                value["before"] = json!(trial.before.score);
                value["after"] = json!(trial.after.score);
            }
        }
    }
    value
}

/// Milliseconds since 1970 as `2026-01-31 23:59:59`, UTC (civil-from-days, Howard Hinnant).
fn utc(time_ms: i64) -> String {
    let seconds = time_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_are_written_in_utc() {
        for (time_ms, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_827_696_789, "2000-02-29 12:34:56"),
            (1_767_225_599_999, "2025-12-31 23:59:59"),
            (-1, "1969-12-31 23:59:59"),
        ] {
            assert_eq!(utc(time_ms), expected);
        }
    }
}
