//! The runtime inside of another async program, with a trigger of that program's own:
//!
//!     cargo run --example embed
//!
//! A help desk answers questions. Whenever an answer is not the one in its files, it hands the runtime the page that
//! has the right one, lets the model edit itself on it, and asks again. Other questions are answered meanwhile.

#![expect(clippy::print_stdout, reason = "a program that prints what happens")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selkie_engine::embed::{
    Budget, Context, Domain, EditRequest, EditState, EditText, GenerateRequest, Happened, Live, LiveOptions,
    Passage, Prompt, Question, Runtime, Trigger, model_files,
};

/// The program's own trigger: the answer is not the one in the files.
struct HelpDesk {
    live: Live,
    page: Passage,
}

impl HelpDesk {
    async fn answer(&self, question: &Question) -> Result<String, Box<dyn Error>> {
        let said = self.ask(question).await?;
        if said == question.answer {
            return Ok(said);
        }
        println!("  wrong answer `{said}` to `{}`: learning the page", question.question);
        // Of the page's questions none is learned from; they decide whether what was learned is kept.
        let edit = self.live.submit(EditRequest {
            seed: 2,
            budget: Budget { steps: 200, ..Budget::default() },
            trigger: Trigger::FailedGrader,
            ..EditRequest::new(Context::Passage(self.page.clone()), EditText::Model)
        })?;
        let status = self.live.finished(&edit).await?;
        println!("  {:?}: {}", status.state, status.reason.unwrap_or_default());
        match status.state {
            EditState::Kept => self.ask(question).await,
            _ => Ok(said),
        }
    }

    async fn ask(&self, question: &Question) -> Result<String, Box<dyn Error>> {
        let place = self.page.questions.iter().position(|known| known == question).unwrap_or(0);
        let prompt = Prompt::Item(Context::Passage(self.page.clone()), place);
        let reply = self.live.generate(GenerateRequest::new(prompt))?;
        Ok(reply.end().await?.text)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Arc::new(Runtime::open(&model_files(None, Domain::Passage)?, None)?);
    let page = runtime.model.fact_world().ok_or("the bundled model has a world")?.held_out_passage(11);
    let home = tempfile::tempdir()?;
    let live = Live::start(runtime, options(home.path().join("home")))?;
    let mut trace = live.trace();
    let desk = HelpDesk { live: live.clone(), page };
    for question in desk.page.questions.clone().iter().take(3) {
        println!("{} -> {}", question.question, desk.answer(question).await?);
    }
    tokio::task::spawn_blocking(move || live.shutdown(true)).await?;
    let (mut tokens, mut steps) = (0, 0);
    while let Some(event) = trace.next().await {
        match event.what {
            Happened::Token { .. } => tokens += 1,
            Happened::TrainingStep { .. } => steps += 1,
            _ => {}
        }
    }
    println!("{tokens} tokens and {steps} training steps in the trace");
    Ok(())
}

fn options(home: std::path::PathBuf) -> LiveOptions {
    LiveOptions { queue: 4, clock: now_ms, ..LiveOptions::new(home) }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
