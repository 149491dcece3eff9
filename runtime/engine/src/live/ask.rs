//! Questions to a live runtime that neither thread is needed for.

use selkie_edit::{Context, Report};
use selkie_learn::Score;
use selkie_store::{Entry, Error, Store};

use super::{AdapterChoice, Live, LiveError, LiveOptions};

impl Live {
    /// What it was started with.
    pub fn options(&self) -> &LiveOptions {
        &self.inner.options
    }

    /// The last `limit` entries of the ledger, newest first; none where nothing was tried yet.
    ///
    /// # Errors
    /// The store's.
    pub fn log(&self, limit: usize) -> Result<Vec<Entry>, LiveError> {
        match Store::read_only(&self.options().home) {
            Ok(reader) => Ok(reader.log(limit)?),
            Err(Error::NoStore { .. }) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// How likely a completion is after a prompt, and the adapter's name. Computes on the caller's thread.
    ///
    /// # Errors
    /// An adapter that nobody knows, and the model's ([`selkie_learn::Model::likelihood`]).
    pub fn likelihood(
        &self,
        adapter: &AdapterChoice,
        session: Option<&str>,
        prompt: &str,
        completion: &str,
    ) -> Result<(String, Score), LiveError> {
        let (name, adapter) = self.chosen(adapter, session)?;
        let (score, _) = self.runtime().model.likelihood(adapter.as_deref(), prompt, completion)?;
        Ok((name, score))
    }

    /// How the model answers a context's tests or questions, and the adapter's name. Computes on the caller's thread.
    ///
    /// # Errors
    /// An adapter that nobody knows, and the model's ([`selkie_learn::Model::evaluate`]).
    pub fn evaluate(
        &self,
        adapter: &AdapterChoice,
        session: Option<&str>,
        context: &Context,
    ) -> Result<(String, Report), LiveError> {
        let (name, adapter) = self.chosen(adapter, session)?;
        Ok((name, self.runtime().model.evaluate(adapter.as_deref(), context)?))
    }

    fn chosen(
        &self,
        adapter: &AdapterChoice,
        _session: Option<&str>,
    ) -> Result<(String, Option<std::sync::Arc<selkie_learn::Adapter>>), LiveError> {
        match adapter {
            AdapterChoice::Named(name) => Err(LiveError::UnknownAdapter { name: name.clone() }),
            _ => Ok(("base".to_owned(), None)),
        }
    }
}
