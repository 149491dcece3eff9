//! `selkie adapt`: the main job.

use std::cell::RefCell;
use std::process::ExitCode;

use indicatif::ProgressBar;
use selkie_edit::{Answer, Context, ItemReport, Report, Verdict};
use selkie_engine::{AdaptReport, EditSource, Event, Outcome, Request, Runtime, model_files, step};

use crate::args::AdaptArgs;
use crate::error::CommandError;
use crate::{picture, progress, settings};

/// Adapts and reports.
pub(crate) fn run(args: &AdaptArgs) -> Result<ExitCode, CommandError> {
    let context = settings::context(&args.context)?;
    let given = args.self_edit.as_deref().map(settings::edit_text).transpose()?;
    let home = settings::home(&args.home);
    let files = model_files(args.model.model.as_deref(), context.domain())?;
    let runtime = Runtime::open_on(&files, args.plugins.options(), &args.device.device.resolve()?)?;
    let edit = given.as_deref().map_or(EditSource::Model, EditSource::Given);
    let time_ms = settings::now_ms();
    let request = Request { context: &context, edit, seed: args.seed, fresh: args.fresh, time_ms };
    if !args.json {
        super::print(&heading(&context, &runtime))?;
    }
    let items = match &context {
        Context::Puzzle(_) => "tasks",
        Context::Passage(_) => "documents",
    };
    let narrator = Narrator { quiet: args.json, items, bar: RefCell::new(None) };
    let outcome = step(&runtime, &home, &request, &mut |event| narrator.tell(&event))?;
    match args.json {
        true => super::print_json(&AdaptReport::new(&runtime, &context, args.seed, &outcome))?,
        false => super::print(&closing(&outcome))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn heading(context: &Context, runtime: &Runtime) -> String {
    let what = match context {
        Context::Puzzle(puzzle) => {
            format!(
                "puzzle {}: {} demonstrations, {} to solve",
                puzzle.id,
                puzzle.train.len(),
                puzzle.tests.len()
            )
        }
        Context::Passage(passage) => {
            format!("passage \"{}\": {} questions", passage.title, passage.questions.len())
        }
    };
    let digest = &runtime.model.digest()[..12];
    format!("{what}\nmodel {} ({digest})\n", runtime.model.profile().name)
}

/// Tells what happens while it happens: facts to stdout, progress to stderr.
struct Narrator {
    quiet: bool,
    /// What tools make of this kind of context.
    items: &'static str,
    bar: RefCell<Option<ProgressBar>>,
}

impl Narrator {
    fn tell(&self, event: &Event<'_>) {
        if let Event::Dataset { steps, .. } = event {
            *self.bar.borrow_mut() = Some(progress::bar(*steps));
        }
        if let (Event::Step(stats), Some(bar)) = (event, &*self.bar.borrow()) {
            bar.set_position(stats.step + 1);
            bar.set_message(format!("loss {:.3}", stats.loss));
        }
        if let (Event::After(_), Some(bar)) = (event, &*self.bar.borrow()) {
            bar.finish_and_clear();
        }
        let text = self.text(event);
        if !self.quiet && !text.is_empty() {
            // A closed stdout is found out when the closing lines are printed.
            let _ = super::print(&text);
        }
    }

    fn text(&self, event: &Event<'_>) -> String {
        match event {
            Event::Written { edit, .. } => {
                format!("\nself-edit, as the model wrote it:\n{}\n", indented(edit.text.trim_end()))
            }
            Event::Refused { attempt, problems } => format!("try {attempt}: {problems}\n"),
            Event::Accepted { dialect } => format!("\naccepted ({})\n", words(dialect)),
            Event::Tools { runs, items } => {
                let width = runs.iter().map(|run| run.tool.len()).max().unwrap_or(0);
                let line = |run: &selkie_edit::ToolRun| {
                    format!(
                        "  {:width$}  {:>5} {} from {} calls, {:.1} M fuel  ({})\n",
                        run.tool,
                        run.items,
                        self.items,
                        run.calls,
                        run.fuel as f64 / 1e6,
                        run.plugin
                    )
                };
                let ran = if runs.is_empty() { String::new() } else { "tools:\n".to_owned() };
                let made = self.items;
                format!("{ran}{}{items} {made} to learn from\n", runs.iter().map(line).collect::<String>())
            }
            Event::Dataset { examples, left_out, tokens, steps } => {
                let left_out = if *left_out > 0 { format!(" ({left_out} left out)") } else { String::new() };
                format!("training: {examples} sequences{left_out}, {tokens} tokens an epoch, {steps} steps\n")
            }
            Event::Measuring | Event::Before(_) | Event::Step(_) | Event::After(_) => String::new(),
        }
    }
}

/// A name of the schema in plain words.
fn words(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().replace('_', " ")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn closing(outcome: &Outcome) -> String {
    let training = &outcome.training;
    let loss = match (training.losses.first(), training.losses.last()) {
        (Some(first), Some(last)) => {
            format!("loss {first:.3} -> {last:.3} in {} steps", training.losses.len())
        }
        _ => "no steps".to_owned(),
    };
    let verdict = match (outcome.decision.verdict, outcome.generation) {
        (Verdict::Kept, Some(generation)) => format!("kept as generation {generation}"),
        _ => "discarded".to_owned(),
    };
    format!(
        "{loss}, {:.1} s\n\n{}\n{verdict}: {}\n",
        training.seconds,
        comparison(&outcome.before, &outcome.after),
        outcome.decision.reason
    )
}

/// Every item with what the model said before and says now.
fn comparison(before: &Report, after: &Report) -> String {
    let colour = picture::has_colour();
    before.items.iter().zip(&after.items).map(|(before, after)| compared(before, after, colour)).collect()
}

/// One item with what the model said before and says now.
pub(super) fn compared(before: &ItemReport, after: &ItemReport, colour: bool) -> String {
    let mark = match (before.solved, after.solved) {
        (false, true) => "now right",
        (true, true) => "right before and after",
        (true, false) => "right before, now wrong",
        (false, false) => "wrong before and after",
    };
    match &before.expected {
        Answer::Grid(_) => {
            let columns = [
                ("before", &before.prediction),
                ("after", &after.prediction),
                ("expected", &before.expected),
            ];
            format!("{}: {mark}\n{}", before.item, picture::side_by_side(&columns, colour))
        }
        Answer::Text(expected) => {
            let said = |item: &ItemReport| match &item.prediction {
                Answer::Text(text) => text.trim().replace('\n', " "),
                Answer::Grid(_) => String::new(),
            };
            format!(
                "{}\n  before: {}\n  after:  {}\n  gold:   {expected}  ({mark})\n",
                before.item,
                said(before),
                said(after)
            )
        }
    }
}
