//! `selkie edit check` and `selkie edit prompt`.

use std::process::ExitCode;

use selkie_edit::{Domain, Refused, SelfEdit, TrainingDefaults, Validator, parse, selkie_prompt, validate};
use selkie_engine::{PluginOptions, Runtime, model_files};
use selkie_learn::Compute;
use selkie_tools::ToolHost;
use serde_json::json;

use crate::args::{EditCheckArgs, EditCommand, EditPromptArgs, For};
use crate::error::CommandError;
use crate::settings;

/// Runs one of the two.
pub(crate) fn run(command: &EditCommand) -> Result<ExitCode, CommandError> {
    match command {
        EditCommand::Check(args) => check(args),
        EditCommand::Prompt(args) => prompt(args),
    }
}

fn check(args: &EditCheckArgs) -> Result<ExitCode, CommandError> {
    let text = settings::edit_text(&args.edit)?;
    let host = ToolHost::new(settings::host(&args.plugins))?;
    let validator =
        Validator::new(host.catalogue()).map_err(|error| CommandError::input(error.to_string()))?;
    let checked = match args.r#for {
        Some(For::Puzzle) => check_for(Domain::Puzzle, &text, &validator),
        Some(For::Passage) => check_for(Domain::Passage, &text, &validator),
        None => check_for_either(&text, &validator),
    };
    if args.json {
        let (domain, dialect, problems) = match &checked {
            Ok((domain, edit)) => (Some(domain), Some(edit.dialect), &[][..]),
            Err(Refused(problems)) => (None, None, &problems[..]),
        };
        let valid = checked.is_ok();
        let report = json!({ "valid": valid, "for": domain, "dialect": dialect, "problems": problems });
        super::print_json(&report)?;
        return Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(2) });
    }
    match checked {
        Ok((domain, edit)) => {
            let tools = edit.pipelines.len();
            let domain = match domain {
                Domain::Puzzle => "puzzle",
                Domain::Passage => "passage",
            };
            super::print(&format!(
                "valid for a {domain}: {tools} tool pipelines, {} documents, learning rate {}, {} epochs\n",
                edit.documents.len(),
                edit.training.learning_rate,
                edit.training.epochs
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(refused) => {
            Err(CommandError::input(refused.to_string())
                .hint("`selkie schema` prints what a self-edit may say"))
        }
    }
}

/// The edit, and the kind of context that accepts it.
fn check_for(domain: Domain, text: &str, validator: &Validator) -> Result<(Domain, SelfEdit), Refused> {
    let edit = validate(parse(text, domain)?, validator, domain, &TrainingDefaults::seal())?;
    Ok((domain, edit))
}

/// As for a puzzle, or else for a passage. Where neither accepts it, the problems are a puzzle's with JSON
/// and a passage's with free text.
fn check_for_either(text: &str, validator: &Validator) -> Result<(Domain, SelfEdit), Refused> {
    check_for(Domain::Puzzle, text, validator).or_else(|of_puzzle| {
        check_for(Domain::Passage, text, validator)
            .map_err(|of_passage| if text.contains('{') { of_puzzle } else { of_passage })
    })
}

fn prompt(args: &EditPromptArgs) -> Result<ExitCode, CommandError> {
    let context = settings::context(&args.context)?;
    if args.json {
        let host = ToolHost::new(settings::host(&args.plugins))?;
        super::print(&selkie_prompt(&context, host.catalogue()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let files = model_files(args.model.model.as_deref(), context.domain())?;
    let options = PluginOptions { host: settings::host(&args.plugins), grants: Vec::new() };
    let runtime = Runtime::open_on(&files, options, &Compute::cpu())?;
    let prompt = runtime.model.codec().edit_prompt(&context, runtime.host.catalogue())?;
    super::print(&(prompt.text + "\n"))?;
    Ok(ExitCode::SUCCESS)
}
