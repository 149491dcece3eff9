//! `selkie chat`: a conversation in which self-edits are seen, allowed and taken back.
//!
//! What a self-edit is and whether it is kept is the engine's; here are the commands, the order of what is shown
//! (`story`), and where lines come from (`input`).

mod input;
mod story;
mod typed;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use selkie_edit::limits::CONTEXT_BYTES_MAX;
use selkie_edit::{Answer, Context, Passage, Puzzle};
use selkie_engine::live::{
    AdapterCard, EditRequest, EditState, EditText, End, EndReason, GenerateRequest, Happened, Live, Message,
    Permission, Piece, Prompt, Scope, SelfEditTerms, Trace, TraceEvent, Trigger, Triggers,
};
use selkie_learn::SamplingSettings;
use tokio::task::{JoinHandle, block_in_place};

use self::input::Input;
use self::story::Story;
use self::typed::{HELP, Typed};
use super::agent::{Needs, in_async, start};
use crate::args::ChatArgs;
use crate::error::CommandError;
use crate::{picture, settings};

/// How long a question stands. A person who went away finds it as it was.
const APPROVAL: Duration = Duration::from_secs(24 * 3600);

/// Entries that `/log` shows.
const LOGGED: usize = 10;

/// Talks until the input ends or somebody leaves. An edit that runs then is abandoned: what was active still is.
pub(crate) fn run(args: &ChatArgs) -> Result<ExitCode, CommandError> {
    let permission = Permission::from(args.self_edits);
    let live = start(&args.live, Needs { permission, max_tokens: args.max_new, approval: APPROVAL })?;
    in_async(async {
        let mut chat = Chat {
            sampling: SamplingSettings {
                temperature: args.temperature,
                ..SamplingSettings::seeded(args.seed)
            },
            live: live.clone(),
            permission,
            input: Input::stdin(),
            context: None,
            said: Vec::new(),
            traced: None,
        };
        let ended = chat.converse(args.trace.as_deref()).await;
        block_in_place(|| live.shutdown(false));
        chat.stop_trace().await;
        ended
    })
    .map(|()| ExitCode::SUCCESS)
}

/// A conversation.
struct Chat {
    live: Live,
    permission: Permission,
    sampling: SamplingSettings,
    input: Input,
    /// What was read last.
    context: Option<Context>,
    said: Vec<Message>,
    /// Writes the trace.
    traced: Option<JoinHandle<()>>,
}

/// Whether the conversation goes on.
#[derive(PartialEq, Eq)]
enum Next {
    Line,
    Leave,
}

impl Chat {
    async fn converse(&mut self, trace: Option<&Path>) -> Result<(), CommandError> {
        if let Some(file) = trace {
            self.trace(file).await?;
        }
        let model = &self.live.runtime().model;
        super::print(&format!(
            "{} ({}), active: {}; /help lists the commands\n",
            model.profile().name,
            &model.digest()[..12],
            self.live.active()?
        ))?;
        while let Some(line) = self.input.command().await? {
            match self.carry_out(Typed::of(&line)).await {
                Ok(Next::Line) => {}
                Ok(Next::Leave) => break,
                // What one line did wrong is no reason to leave.
                Err(error) => drop(error.report()),
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, typed: Typed) -> Result<Next, CommandError> {
        match typed {
            Typed::Nothing => {}
            Typed::Say(text) => self.say(text).await?,
            Typed::Read(file) => return self.read(&file).await,
            Typed::Solve => self.solve().await?,
            Typed::Edit(file) => return self.edit_by_call(file.as_deref()).await,
            Typed::Undo => self.undo()?,
            Typed::Adapters => super::print(&adapters(&self.live.adapters()?))?,
            Typed::Log => super::print(&super::log::listed(&self.live.log(LOGGED)?))?,
            Typed::Trace(file) => self.trace(&file).await?,
            Typed::Help => super::print(HELP)?,
            Typed::Quit => return Ok(Next::Leave),
            Typed::Wrong(problem) => {
                return Err(CommandError::input(problem).hint("/help lists the commands"));
            }
        }
        Ok(Next::Line)
    }

    async fn say(&mut self, text: String) -> Result<(), CommandError> {
        self.said.push(Message { role: "user".to_owned(), content: text });
        match self.answer(Prompt::Chat(self.said.clone()), true).await {
            Ok(Some(end)) => {
                super::print("\n")?;
                self.said.push(Message { role: "assistant".to_owned(), content: end.text });
                Ok(())
            }
            other => {
                self.said.pop();
                other.map(|_| ())
            }
        }
    }

    /// Streams an answer with what happens on the way; none when it was cancelled.
    async fn answer(&mut self, prompt: Prompt, show: bool) -> Result<Option<End>, CommandError> {
        let mut reply = self.live.generate(self.request(prompt))?;
        let (mut story, mut edit) = (Story::new(), None::<String>);
        loop {
            let piece = tokio::select! {
                piece = reply.next() => piece,
                () = self.input.interrupted() => {
                    drop(reply);
                    super::print("\ncancelled\n")?;
                    if edit.is_some_and(|edit| goes_on(&self.live, &edit)) {
                        eprintln!("the self-edit goes on; /log says how it ends, /quit abandons it");
                    }
                    return Ok(None);
                }
            };
            match piece {
                Some(Piece::Text { text, .. }) if show => {
                    story.shown(&text);
                    super::print(&text)?;
                }
                Some(Piece::Text { .. }) => {}
                Some(Piece::Event(event)) => {
                    self.tell(&mut story, &event).await?;
                    edit = event.edit;
                }
                Some(Piece::End(end)) => return ended(end, show),
                None => return Err(CommandError::no("the answer ended early")),
            }
        }
    }

    fn request(&self, prompt: Prompt) -> GenerateRequest {
        let failed_grader = matches!(self.context, Some(Context::Puzzle(_)));
        GenerateRequest {
            prompt,
            adapter: Default::default(),
            session: None,
            sampling: self.sampling,
            max_tokens: None,
            stop: Vec::new(),
            grammar: None,
            self_edit: SelfEditTerms {
                permission: self.permission,
                budget: self.live.options().budget,
                triggers: Triggers { failed_grader, ..Triggers::default() },
                // Known answers are for the person to compare with, and not for the model to choose by.
                context: self.context.as_ref().map(Context::without_answers),
                ..SelfEditTerms::default()
            },
        }
    }

    /// Shows an event of a self-edit, and asks where somebody must be asked.
    async fn tell(&mut self, story: &mut Story, event: &TraceEvent) -> Result<(), CommandError> {
        super::print(&story.told(event))?;
        if let (Happened::AwaitingApproval, Some(edit)) = (&event.what, &event.edit) {
            let allow = self.input.yes_or_no("apply this self-edit? [y/n] ").await?;
            self.live.approve(edit, allow)?;
        }
        Ok(())
    }

    async fn read(&mut self, file: &Path) -> Result<Next, CommandError> {
        let context = context_in(file)?;
        super::print(&shown(&context))?;
        self.context = Some(context);
        if self.permission == Permission::Deny {
            super::print("self-edits are denied, so nothing is learned of it\n")?;
            return Ok(Next::Line);
        }
        self.edit(EditText::Model, Trigger::Document).await
    }

    async fn edit_by_call(&mut self, file: Option<&Path>) -> Result<Next, CommandError> {
        let text = match file {
            Some(file) => EditText::Given(settings::edit_text(file)?),
            None => EditText::Model,
        };
        self.edit(text, Trigger::Call).await
    }

    /// Asks for a self-edit of what was read last, and shows it to its end.
    async fn edit(&mut self, edit: EditText, trigger: Trigger) -> Result<Next, CommandError> {
        let context = self.read_before()?;
        let trace = self.live.trace();
        let edit = self.live.submit(EditRequest {
            context,
            edit,
            seed: self.sampling.seed,
            budget: self.live.options().budget,
            scope: Scope::Global,
            session: None,
            time_to_live: None,
            permission: self.permission,
            trigger,
            fresh: false,
        })?;
        self.follow(&edit, trace).await
    }

    /// Shows a self-edit to its end.
    async fn follow(&mut self, edit: &str, mut trace: Trace) -> Result<Next, CommandError> {
        let live = self.live.clone();
        let over = live.finished(edit);
        tokio::pin!(over);
        let (mut story, mut last, mut warned) = (Story::new(), 0, false);
        loop {
            tokio::select! {
                biased;
                () = self.input.interrupted() => {
                    if warned {
                        return Ok(Next::Leave);
                    }
                    warned = true;
                    eprintln!("the self-edit goes on; Ctrl-C again abandons it and leaves");
                }
                Some(event) = trace.next() => {
                    if event.edit.as_deref() == Some(edit) {
                        last = event.number;
                        self.tell(&mut story, &event).await?;
                    }
                }
                status = &mut over => {
                    status?;
                    break;
                }
            }
        }
        // What the trace had not brought yet.
        for event in self.live.edit_events(edit)?.iter().filter(|event| event.number > last) {
            super::print(&story.told(event))?;
        }
        Ok(Next::Line)
    }

    /// Answers the tests or questions of what was read last.
    async fn solve(&mut self) -> Result<(), CommandError> {
        let context = self.read_before()?;
        let items = match &context {
            Context::Puzzle(puzzle) => puzzle.tests.len(),
            Context::Passage(passage) => passage.questions.len(),
        };
        for item in 0..items {
            let Some(end) = self.answer(Prompt::Item(context.clone(), item), false).await? else { break };
            super::print(&compared(&context, item, &end.text))?;
        }
        Ok(())
    }

    fn read_before(&self) -> Result<Context, CommandError> {
        let nothing =
            || CommandError::input("nothing was read yet").hint("`/read FILE` reads a puzzle or a passage");
        self.context.clone().ok_or_else(nothing)
    }

    fn undo(&self) -> Result<(), CommandError> {
        let was = self.live.active()?;
        let active = block_in_place(|| self.live.rollback_to("parent"))?;
        super::print(&format!("active was {was}, now {active}\n"))
    }

    /// Writes everything that happens from now on into a file, in place of an earlier one.
    async fn trace(&mut self, file: &Path) -> Result<(), CommandError> {
        let mut out = std::fs::File::create(file).map_err(|error| super::write_error(file, &error))?;
        if let Some(earlier) = self.traced.take() {
            earlier.abort();
        }
        let (mut trace, file) = (self.live.trace(), file.to_owned());
        super::print(&format!("the trace goes to {}\n", file.display()))?;
        self.traced = Some(tokio::spawn(async move {
            while let Some(event) = trace.next().await {
                if let Err(error) = out.write_all((event.to_line() + "\n").as_bytes()) {
                    eprintln!("cannot write `{}`: {error}", file.display());
                    return;
                }
            }
        }));
        Ok(())
    }

    /// Lets the trace come to its end, which the end of the runtime is.
    async fn stop_trace(&mut self) {
        if let Some(traced) = self.traced.take() {
            // It can only fail by a panic, which was told.
            let _ = traced.await;
        }
    }
}

/// Whether the self-edit of an answer that was cancelled goes on. Where it waits for a word that nobody is asked for any
/// more, the word is no.
fn goes_on(live: &Live, edit: &str) -> bool {
    let was_waiting = live.approve(edit, false).is_ok();
    let is_waiting = |state| state == EditState::Queued && live.options().permission == Permission::Ask;
    // One that is still to be asked about is denied at its turn.
    !was_waiting && live.edit(edit).is_ok_and(|status| !status.state.is_over() && !is_waiting(status.state))
}

/// The end of an answer: what was held back is shown, a failure is an error.
fn ended(end: End, show: bool) -> Result<Option<End>, CommandError> {
    if show {
        super::print(&end.rest)?;
    }
    match &end.reason {
        EndReason::Stop | EndReason::Length => Ok(Some(end)),
        EndReason::Cancelled => {
            super::print("\ncancelled\n")?;
            Ok(None)
        }
        EndReason::Failed(message) => Err(CommandError::no(message.clone())),
    }
}

/// A puzzle or passage in JSON, or any text as a passage without questions.
fn context_in(file: &Path) -> Result<Context, CommandError> {
    let text = settings::read_text(file, CONTEXT_BYTES_MAX)?;
    let name = file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    if file.extension().is_some_and(|extension| extension == "json") {
        return Context::to_learn_from_json(&text, &name).map_err(|error| CommandError::context(file, error));
    }
    Ok(Context::Passage(Passage { title: name, context: text.trim().to_owned(), questions: Vec::new() }))
}

/// What was read, as a person looks at it.
fn shown(context: &Context) -> String {
    match context {
        Context::Passage(passage) => {
            format!("passage \"{}\": {} questions\n", passage.title, passage.questions.len())
        }
        Context::Puzzle(puzzle) => shown_puzzle(puzzle),
    }
}

fn shown_puzzle(puzzle: &Puzzle) -> String {
    let colour = picture::has_colour();
    let mut text = format!("puzzle {}\n", puzzle.id);
    for (index, pair) in puzzle.train.iter().enumerate() {
        let heading = format!("demonstration {}", index + 1);
        let (input, output) = (Answer::Grid(pair.input.clone()), Answer::Grid(pair.output.clone()));
        text.push_str(&picture::side_by_side(&[(&heading, &input), ("becomes", &output)], colour));
    }
    for test in &puzzle.tests {
        text.push_str(&picture::side_by_side(&[("to solve", &Answer::Grid(test.input.clone()))], colour));
    }
    text
}

/// What the model said to an item, beside what was expected.
fn compared(context: &Context, item: usize, said: &str) -> String {
    match context {
        Context::Puzzle(puzzle) => {
            let Some(test) = puzzle.tests.get(item) else { return String::new() };
            let grid = serde_json::from_str(said).map(Answer::Grid);
            let said = grid.unwrap_or_else(|_| Answer::Text(said.to_owned()));
            let input = Answer::Grid(test.input.clone());
            let expected = test.output.clone().map(Answer::Grid);
            let mut columns = vec![("to solve", &input), ("the model says", &said)];
            columns.extend(expected.iter().map(|expected| ("expected", expected)));
            picture::side_by_side(&columns, picture::has_colour())
        }
        Context::Passage(passage) => {
            let Some(asked) = passage.questions.get(item) else { return String::new() };
            let said = said.trim();
            let mark = if said == asked.answer { "right" } else { "wrong" };
            format!("{}\n  {said}  ({mark}, expected {})\n", asked.question, asked.answer)
        }
    }
}

/// The adapters, a line each.
fn adapters(cards: &[AdapterCard]) -> String {
    let width = cards.iter().map(|card| card.name.len()).max().unwrap_or(0);
    let line = |card: &AdapterCard| {
        let active = if card.active { "active" } else { "" };
        let parent = card.parent.as_ref().map(|parent| format!("on {parent}")).unwrap_or_default();
        let context = card.context.as_deref().unwrap_or_default();
        let line = format!("  {:width$}  {active:6}  {parent:8}  {context}", card.name);
        line.trim_end().to_owned() + "\n"
    };
    cards.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use selkie_edit::Domain;
    use selkie_engine::live::LiveOptions;
    use selkie_engine::{Runtime, model_files};

    use super::*;

    #[test]
    fn of_an_answer_that_is_cancelled_a_question_is_answered_no_and_what_runs_goes_on() {
        let home = tempfile::tempdir().expect("a folder");
        let files = model_files(None, Domain::Passage).expect("the bundled model");
        let runtime = Runtime::open(&files, None).expect("it opens");
        let options =
            LiveOptions { permission: Permission::Allow, ..LiveOptions::new(home.path().join("home")) };
        let live = Live::start(Arc::new(runtime), options).expect("it starts");
        // Long enough that it still runs when it is looked at.
        let documents: Vec<String> = (80..87).map(|times| "Dana has a vice. ".repeat(times)).collect();
        let text = serde_json::json!({
            "version": 1,
            "data": { "include_source": false, "documents": documents },
            "training": { "epochs": 50, "batch_size": 1 },
        })
        .to_string();
        let submit = |permission: Permission| {
            let passage = Passage {
                title: "Vices".to_owned(),
                context: "Dana has a vice.".to_owned(),
                questions: Vec::new(),
            };
            let submitted = live.submit(EditRequest {
                context: Context::Passage(passage),
                edit: EditText::Given(text.clone()),
                seed: 0,
                budget: live.options().budget,
                scope: Scope::Global,
                session: None,
                time_to_live: None,
                permission,
                trigger: Trigger::Call,
                fresh: false,
            });
            submitted.expect("it is taken")
        };
        let waiting = submit(Permission::Ask);
        // The second one has its turn after the first.
        let (_, running) = (submit(Permission::Allow), submit(Permission::Allow));
        assert_eq!([&waiting, &running].map(|edit| goes_on(&live, edit)), [false, true]);
        assert_eq!(live.edit(&waiting).expect("known").state, EditState::Refused);
        live.shutdown(false);
        assert!(!goes_on(&live, &running));
    }
}
