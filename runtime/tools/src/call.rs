//! One call: a fresh store and instance, every limit set, every answer checked.

use std::time::Instant;

use selkie_edit::Score;
use wasmtime::{Store, Trap};

use crate::component::Linked;
use crate::contract::{DescribeError, Failure};
use crate::engine::{Clocked, millis};
use crate::error::{GraderFault, GuestErrorKind, ToolError, scrub};
use crate::limiter::MemoryExceeded;
use crate::limits::{ERROR_BYTES_MAX, Limit, Limits, REASONS_MAX, STACK_BYTES};
use crate::model::ModelAccess;
use crate::native::{NativeError, NativePlugin};
use crate::state::{DeadlinePassed, LogExceeded, State};
use crate::work::{Batch, Made, Work};

/// A loaded component, for as long as it is called.
pub(crate) struct Callee<'a> {
    pub(crate) clocked: &'a Clocked,
    pub(crate) linked: &'a Linked,
    /// The plugin as errors name it.
    pub(crate) plugin: &'a str,
    pub(crate) limits: &'a Limits,
}

/// What one batch gave, and what it took.
pub(crate) struct Done {
    pub(crate) made: Made,
    pub(crate) usage: Usage,
    pub(crate) log: String,
}

/// What a call used of its budgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Units of fuel.
    pub fuel: u64,
    /// Bytes of all memories and tables.
    pub memory_bytes: u64,
    /// Items of the answer: tasks, documents or scores.
    pub output_items: u64,
    /// Bytes logged.
    pub log_bytes: u64,
    /// Calls of the host model.
    pub model_calls: u64,
    /// Tokens that it computed.
    pub model_tokens: u64,
}

impl Usage {
    /// The larger of each.
    pub(crate) fn max(self, other: Usage) -> Usage {
        Usage {
            fuel: self.fuel.max(other.fuel),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            output_items: self.output_items.max(other.output_items),
            log_bytes: self.log_bytes.max(other.log_bytes),
            model_calls: self.model_calls.max(other.model_calls),
            model_tokens: self.model_tokens.max(other.model_tokens),
        }
    }
}

/// What a failed call was, and under which budgets.
struct Attempt<'a> {
    call: &'a str,
    fuel: u64,
    output: (Limit, usize),
    start: Instant,
}

impl Callee<'_> {
    /// The plugin's manifest, as text. `wrong_world` says that its functions have other types: wasmtime looks at
    /// those when it instantiates.
    pub(crate) fn describe(
        &self,
        model: ModelAccess,
        wrong_world: impl FnOnce(String) -> ToolError,
    ) -> Result<String, ToolError> {
        let attempt = Attempt {
            call: "`describe`",
            fuel: self.limits.describe_fuel,
            output: (Limit::ManifestBytes, self.limits.manifest_bytes),
            start: Instant::now(),
        };
        let mut store = self.store(&attempt, model, 0)?;
        let described = self.linked.contract.describe(&mut store, &self.linked.pre);
        described.map_err(|error| match error {
            DescribeError::Call(error) => self.failure(&attempt, store.data(), error),
            DescribeError::Types(error) => wrong_world(scrub(&format!("{error:#}"), ERROR_BYTES_MAX)),
            DescribeError::Instantiate(error) => {
                let is_trap = error.is::<Trap>();
                match self.failure(&attempt, store.data(), error) {
                    ToolError::Trap { reason, .. } if !is_trap => wrong_world(reason),
                    error => error,
                }
            }
        })
    }

    /// A tool applied to one batch.
    pub(crate) fn run(&self, batch: &Batch<'_>, model: ModelAccess) -> Result<Done, ToolError> {
        let call = format!("tool `{}`", batch.tool);
        let attempt = Attempt {
            call: &call,
            fuel: self.limits.call_fuel,
            output: (Limit::OutputBytes, self.limits.output_bytes),
            start: Instant::now(),
        };
        let mut store = self.store(&attempt, model, batch.seed)?;
        let made =
            match self.linked.contract.call(&mut store, &self.linked.pre, batch, self.limits.output_items) {
                Ok(made) => made,
                Err(Failure::Ended(error)) => return Err(self.failure(&attempt, store.data(), error)),
                Err(Failure::TooManyItems(items)) => {
                    let max = self.limits.output_items as u64;
                    return Err(ToolError::limit(self.plugin, &call, Limit::OutputItems, max, items as u64));
                }
                Err(Failure::NotExported) => {
                    return Err(ToolError::bad_output(self.plugin, batch.tool, not_exported(batch)));
                }
                Err(Failure::Malformed(reason)) => {
                    return Err(ToolError::bad_output(self.plugin, batch.tool, reason));
                }
                Err(Failure::Refused(kind, message)) => {
                    return Err(self.refused(call, kind, &message, store.data()));
                }
            };
        let made = Answered { plugin: self.plugin, batch }.checked(made)?;
        let usage = usage(&attempt, &store, &made);
        Ok(Done { made, usage, log: store.data().log.text().to_owned() })
    }

    fn store(&self, attempt: &Attempt<'_>, model: ModelAccess, seed: u64) -> Result<Store<State>, ToolError> {
        let state = State::new(self.limits, model, seed);
        let mut store = self.clocked.store(state, attempt.fuel, self.limits.deadline)?;
        store.set_hostcall_fuel(attempt.output.1);
        Ok(store)
    }

    fn refused(&self, call: String, kind: GuestErrorKind, message: &str, state: &State) -> ToolError {
        if let Some(missing) = state.model.refused_for() {
            return ToolError::NotGranted { plugin: self.plugin.into(), missing };
        }
        let message = scrub(message, ERROR_BYTES_MAX);
        ToolError::Guest { plugin: self.plugin.into(), call, kind, message }
    }

    /// The typed error of what wasmtime reports.
    fn failure(&self, attempt: &Attempt<'_>, state: &State, error: wasmtime::Error) -> ToolError {
        let limit = |limit, max, used| ToolError::limit(self.plugin, attempt.call, limit, max, used);
        if let Some(&MemoryExceeded { asked, max }) = error.downcast_ref() {
            return limit(Limit::MemoryBytes, max as u64, asked as u64);
        }
        if let Some(&LogExceeded { used, max }) = error.downcast_ref() {
            return limit(Limit::LogBytes, max as u64, used as u64);
        }
        let deadline = millis(self.limits.deadline);
        let elapsed = || millis(attempt.start.elapsed()).max(deadline);
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => return limit(Limit::Fuel, attempt.fuel, attempt.fuel),
            Some(Trap::Interrupt) => return limit(Limit::DeadlineMs, deadline, elapsed()),
            Some(Trap::StackOverflow) => {
                return limit(Limit::StackBytes, STACK_BYTES as u64, STACK_BYTES as u64);
            }
            _ => {}
        }
        if error.is::<DeadlinePassed>() {
            return limit(Limit::DeadlineMs, deadline, elapsed());
        }
        let reason = scrub(&error.root_cause().to_string(), ERROR_BYTES_MAX);
        // wasmtime has no type for these two; tests/guests notices when it words them anew.
        if reason.contains("fuel allocated for hostcalls has been exhausted") {
            let (name, max) = attempt.output;
            return limit(name, max as u64, max as u64 + 1);
        }
        if let Some((name, used)) = counted(&reason) {
            let max = match name {
                Limit::Memories => self.limits.memories,
                Limit::Tables => self.limits.tables,
                _ => self.limits.instances,
            };
            return limit(name, max as u64, used);
        }
        let (plugin, call) = (self.plugin.to_string(), attempt.call.to_string());
        ToolError::Trap { plugin, call, reason, last_words: state.log.last_words() }
    }
}

/// A batch of a native plugin: the same checks, and errors of the same names.
pub(crate) fn run_native(
    native: &NativePlugin,
    plugin: &str,
    limits: &Limits,
    batch: &Batch<'_>,
) -> Result<Done, ToolError> {
    let call = format!("tool `{}`", batch.tool);
    let reply = native.call(batch).map_err(|error| native_error(plugin, &call, error))?;
    let made = reply.made.map_err(|refusal| ToolError::Guest {
        plugin: plugin.into(),
        call: call.clone(),
        kind: refusal.kind,
        message: refusal.message,
    })?;
    let (items, max) = (made.items(), limits.output_items);
    if items > max {
        return Err(ToolError::limit(plugin, &call, Limit::OutputItems, max as u64, items as u64));
    }
    let made = Answered { plugin, batch }.checked(made)?;
    let usage =
        Usage { output_items: made.items() as u64, log_bytes: reply.log.len() as u64, ..Usage::default() };
    Ok(Done { made, usage, log: reply.log })
}

/// What a native plugin's failure is called, wherever a component has a name for the same.
pub(crate) fn native_error(plugin: &str, call: &str, error: NativeError) -> ToolError {
    let limit = |limit, max: u64, used| ToolError::limit(plugin, call, limit, max, used);
    let (owned_plugin, owned_call) = (plugin.to_owned(), call.to_owned());
    match error {
        NativeError::Deadline { deadline_ms, .. } => limit(Limit::DeadlineMs, deadline_ms, deadline_ms),
        NativeError::OutputTooLarge { max, unit: "bytes", .. } => {
            limit(Limit::OutputBytes, max as u64, max as u64 + 1)
        }
        NativeError::OutputTooLarge { max, .. } => limit(Limit::OutputItems, max as u64, max as u64 + 1),
        NativeError::BadOutput { reason } => {
            ToolError::BadOutput { plugin: owned_plugin, call: owned_call, reason }
        }
        other => ToolError::Native { plugin: owned_plugin, call: owned_call, source: other },
    }
}

/// An answer, on its way to be believed.
struct Answered<'a> {
    plugin: &'a str,
    batch: &'a Batch<'a>,
}

impl Answered<'_> {
    /// What every answer is held to, whatever its tool promises.
    fn checked(&self, made: Made) -> Result<Made, ToolError> {
        let (plugin, batch) = (self.plugin, self.batch);
        match (batch.work, made) {
            (Work::Tasks(_), made @ Made::Tasks(_)) => Ok(made),
            (Work::Sources(sources), Made::Documents(documents)) => {
                self.same_count(batch.tool, "lists of documents", sources.len(), documents.len())?;
                Ok(Made::Documents(documents))
            }
            (Work::Submissions(submissions), Made::Scores(scores)) => {
                self.same_count(batch.tool, "scores", submissions.len(), scores.len())?;
                self.scores(batch.tool, scores).map(Made::Scores)
            }
            _ => Err(ToolError::bad_output(plugin, batch.tool, "an answer of another kind of tool".into())),
        }
    }

    fn same_count(&self, tool: &str, what: &str, sent: usize, made: usize) -> Result<(), ToolError> {
        if sent == made {
            return Ok(());
        }
        Err(ToolError::bad_output(self.plugin, tool, format!("{made} {what} for {sent} items")))
    }

    fn scores(&self, tool: &str, scores: Vec<Score>) -> Result<Vec<Score>, ToolError> {
        let checked = scores.into_iter().enumerate().map(|(index, score)| {
            if !(0.0..=1.0).contains(&score.value) {
                let value = score.value;
                let fault = GraderFault::OutOfRange { index, value };
                return Err(ToolError::Grader { plugin: self.plugin.into(), tool: tool.into(), fault });
            }
            let reasons = score.reasons.iter().take(REASONS_MAX);
            let reasons = reasons.map(|reason| scrub(reason, ERROR_BYTES_MAX)).collect();
            Ok(Score { value: score.value, reasons })
        });
        checked.collect()
    }
}

fn usage(attempt: &Attempt<'_>, store: &Store<State>, made: &Made) -> Usage {
    let state = store.data();
    Usage {
        fuel: attempt.fuel.saturating_sub(store.get_fuel().unwrap_or(0)),
        memory_bytes: state.limiter.used() as u64,
        output_items: made.items() as u64,
        log_bytes: state.log.text().len() as u64,
        model_calls: state.model.used().calls.into(),
        model_tokens: state.model.used().tokens.into(),
    }
}

fn not_exported(batch: &Batch<'_>) -> String {
    format!("the manifest says that it is {}, and the plugin has no interface for that", batch.work.kind())
}

/// What wasmtime counted, from "resource limit exceeded: memory count too high at 9".
fn counted(reason: &str) -> Option<(Limit, u64)> {
    let (what, count) =
        reason.strip_prefix("resource limit exceeded: ")?.split_once(" count too high at ")?;
    let limit = match what {
        "memory" => Limit::Memories,
        "table" => Limit::Tables,
        _ => Limit::Instances,
    };
    Some((limit, count.parse().ok()?))
}
