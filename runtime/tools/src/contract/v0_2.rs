//! Version 0.2: puzzle augmenters, text augmenters, graders, a log and the host model.

use wasmtime::Store;
use wasmtime::component::{HasSelf, Instance, InstancePre, Linker};

use self::bindings::exports::selkie::plugin::{grader, manifest, puzzle_augmenter, text_augmenter};
use self::bindings::selkie::plugin::{host_model, log};
use super::{DescribeError, Failure};
use crate::error::GuestErrorKind;
use crate::model::Refusal;
use crate::state::State;
use crate::work::{Batch, Made, Work};
use selkie_edit::{Score, Submission, TextSource};

mod bindings {
    //! The interface in `schemas/wit/since_v0.2.0`, as the host sees it. Generated.
    wasmtime::component::bindgen!({
        path: "../../schemas/wit/since_v0.2.0",
        world: "everything",
        imports: { default: trappable },
    });
}

use self::bindings::selkie::plugin::types as wire;

super::task_conversions!();

/// The name of the import that needs two keys, without its version's last number.
pub(super) const HOST_MODEL: &str = "selkie:plugin/host-model@0.2.";

/// What may be imported.
pub(super) const IMPORTS: [&str; 2] = ["selkie:plugin/log@0.2.", HOST_MODEL];

/// Where the exports are; a plugin has the interfaces of its tools.
pub(crate) struct Contract {
    manifest: manifest::GuestIndices,
    puzzle: Option<puzzle_augmenter::GuestIndices>,
    text: Option<text_augmenter::GuestIndices>,
    grader: Option<grader::GuestIndices>,
}

pub(super) fn add_imports(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    log::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    host_model::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

impl Contract {
    pub(super) fn find(pre: &InstancePre<State>) -> wasmtime::Result<Contract> {
        Ok(Contract {
            manifest: manifest::GuestIndices::new(pre)?,
            puzzle: puzzle_augmenter::GuestIndices::new(pre).ok(),
            text: text_augmenter::GuestIndices::new(pre).ok(),
            grader: grader::GuestIndices::new(pre).ok(),
        })
    }

    pub(super) fn describe(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> Result<String, DescribeError> {
        if let Some(puzzle) = &self.puzzle {
            puzzle.load(&mut *store, instance).map_err(DescribeError::Types)?;
        }
        if let Some(text) = &self.text {
            text.load(&mut *store, instance).map_err(DescribeError::Types)?;
        }
        if let Some(grader) = &self.grader {
            grader.load(&mut *store, instance).map_err(DescribeError::Types)?;
        }
        let manifest = self.manifest.load(&mut *store, instance).map_err(DescribeError::Types)?;
        manifest.call_describe(store).map_err(DescribeError::Call)
    }

    pub(super) fn call(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        batch: &Batch<'_>,
        items_max: usize,
    ) -> Result<Made, Failure> {
        let &Batch { tool, params, seed, work } = batch;
        let refused = |refusal: wire::ToolError| Failure::Refused(kind_in(refusal.kind), refusal.message);
        match work {
            Work::Tasks(tasks) => {
                let sent: Vec<wire::Task> = tasks.iter().map(task_out).collect();
                let guest = self.puzzle.as_ref().ok_or(Failure::NotExported)?.load(&mut *store, instance)?;
                let answer = guest.call_augment(store, tool, params, seed, &sent)?;
                tasks_in(answer.map_err(refused)?, items_max)
            }
            Work::Sources(sources) => {
                let sent: Vec<text_augmenter::Source> = sources.iter().map(source_out).collect();
                let guest = self.text.as_ref().ok_or(Failure::NotExported)?.load(&mut *store, instance)?;
                let answer = guest.call_augment(store, tool, params, seed, &sent)?;
                let documents = answer.map_err(refused)?;
                super::check_items(documents.iter().map(Vec::len).sum(), items_max)?;
                Ok(Made::Documents(documents))
            }
            Work::Submissions(submissions) => {
                let sent: Vec<grader::Submission> = submissions.iter().map(submission_out).collect();
                let guest = self.grader.as_ref().ok_or(Failure::NotExported)?.load(&mut *store, instance)?;
                let answer = guest.call_grade(store, tool, params, seed, &sent)?;
                let scores = answer.map_err(refused)?;
                super::check_items(scores.len(), items_max)?;
                let score = |score: grader::Score| Score { value: score.value, reasons: score.reasons };
                Ok(Made::Scores(scores.into_iter().map(score).collect()))
            }
        }
    }
}

impl log::Host for State {
    fn write(&mut self, message: String) -> wasmtime::Result<()> {
        self.log.add(&message)?;
        Ok(self.log.add("\n")?)
    }
}

impl host_model::Host for State {
    fn log_likelihood(
        &mut self,
        prompt: String,
        completion: String,
    ) -> wasmtime::Result<Result<host_model::Likelihood, host_model::Refusal>> {
        let asked = self.model.log_likelihood(prompt, completion)?;
        Ok(asked
            .map(|found| host_model::Likelihood { log_prob: found.log_prob, tokens: found.tokens })
            .map_err(refusal_out))
    }

    fn complete(
        &mut self,
        prompt: String,
        max_tokens: u32,
    ) -> wasmtime::Result<Result<String, host_model::Refusal>> {
        let asked = self.model.complete(prompt, max_tokens)?;
        Ok(asked.map(|completion| completion.text).map_err(refusal_out))
    }
}

fn refusal_out(refusal: Refusal) -> host_model::Refusal {
    use host_model::RefusalKind;
    let (kind, message) = match refusal {
        Refusal::NotGranted(message) => (RefusalKind::NotGranted, message),
        Refusal::Budget(message) => (RefusalKind::Budget, message),
        Refusal::UnsupportedText(message) => (RefusalKind::UnsupportedText, message),
        Refusal::Failed(message) => (RefusalKind::Failed, message),
    };
    host_model::Refusal { kind, message }
}

fn kind_in(kind: wire::ErrorKind) -> GuestErrorKind {
    match kind {
        wire::ErrorKind::InvalidParams => GuestErrorKind::InvalidParams,
        wire::ErrorKind::UnknownTool => GuestErrorKind::UnknownTool,
        wire::ErrorKind::UnsupportedInput => GuestErrorKind::UnsupportedInput,
        wire::ErrorKind::ModelUnavailable => GuestErrorKind::ModelUnavailable,
        wire::ErrorKind::Internal => GuestErrorKind::Internal,
    }
}

fn source_out(source: &TextSource) -> text_augmenter::Source {
    let TextSource { title, text, completions } = source.clone();
    text_augmenter::Source { title, text, completions }
}

fn submission_out(submission: &Submission) -> grader::Submission {
    match submission.clone() {
        Submission::Answers { left, right } => grader::Submission::Answers(grader::Answers { left, right }),
        Submission::Grids { left, right } => {
            grader::Submission::Grids(grader::Grids { left: grid_out(&left), right: grid_out(&right) })
        }
        Submission::Edit { title, passage, documents } => {
            grader::Submission::Edit(grader::Edit { title, passage, documents })
        }
    }
}
