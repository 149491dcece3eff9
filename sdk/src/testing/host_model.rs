//! A stand-in for the host's model.

use std::cell::RefCell;

use crate::host_model::{Likelihood, Refusal};

/// What stands in for the host's model in native tests.
pub trait HostModel {
    /// As [`crate::host_model::log_likelihood`].
    ///
    /// # Errors
    /// What the test wants refused.
    fn log_likelihood(&mut self, prompt: &str, completion: &str) -> Result<Likelihood, Refusal>;

    /// As [`crate::host_model::complete`].
    ///
    /// # Errors
    /// What the test wants refused.
    fn complete(&mut self, prompt: &str, max_tokens: u32) -> Result<String, Refusal>;
}

thread_local! {
    static CURRENT: RefCell<Option<Box<dyn HostModel>>> = const { RefCell::new(None) };
}

/// Runs `test` with `model` as this thread's host model.
pub fn with_host_model<R>(model: impl HostModel + 'static, test: impl FnOnce() -> R) -> R {
    let before = CURRENT.with(|current| current.replace(Some(Box::new(model))));
    let result = test();
    CURRENT.with(|current| *current.borrow_mut() = before);
    result
}

/// What the stand-in answers, if there is one.
pub(crate) fn with_current<R>(ask: impl FnOnce(&mut dyn HostModel) -> R) -> Option<R> {
    // Taken out meanwhile, so that a stand-in that asks itself finds none instead of a borrowed one.
    let mut model = CURRENT.with(|current| current.take())?;
    let answer = ask(model.as_mut());
    CURRENT.with(|current| *current.borrow_mut() = Some(model));
    Some(answer)
}
