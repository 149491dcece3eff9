//! One call: a fresh store and instance, every limit set, every answer checked.

use std::time::Duration;

use selkie_edit::{Example, Grid, Task};
use wasmtime::{Engine, Store, Trap};

use crate::bindings::PuzzlePluginPre;
use crate::bindings::selkie::plugin::types as wire;
use crate::engine;
use crate::error::{GuestErrorKind, ToolError, scrub};
use crate::limiter::{Limiter, MemoryExceeded};
use crate::limits::{ERROR_BYTES_MAX, Limits, MANIFEST_BYTES_MAX, OUTPUT_DEMONSTRATIONS_MAX, STACK_BYTES};

/// A loaded component, for as long as it is called.
pub(crate) struct Callee<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) pre: &'a PuzzlePluginPre<Limiter>,
    /// The plugin as errors name it.
    pub(crate) plugin: &'a str,
    pub(crate) limits: &'a Limits,
}

/// What one batch gave.
pub(crate) struct Batch {
    pub(crate) tasks: Vec<Task>,
    pub(crate) fuel: u64,
}

impl Callee<'_> {
    /// The plugin's manifest, as text. `wrong_world` says that its functions have other types: wasmtime looks at
    /// those when it instantiates.
    pub(crate) fn describe(
        &self,
        wrong_world: impl FnOnce(String) -> ToolError,
    ) -> Result<String, ToolError> {
        let fuel = self.limits.describe_fuel;
        let mut store = self.store(fuel, MANIFEST_BYTES_MAX);
        let fail = |error: wasmtime::Error| self.failure("`describe`", fuel, MANIFEST_BYTES_MAX, error);
        let instance = self.pre.instantiate(&mut store).map_err(|error| {
            let is_trap = error.is::<Trap>();
            match fail(error) {
                ToolError::Trap { reason, .. } if !is_trap => wrong_world(reason),
                error => error,
            }
        })?;
        instance.selkie_plugin_manifest().call_describe(&mut store).map_err(fail)
    }

    /// A tool applied to one batch.
    pub(crate) fn augment(
        &self,
        tool: &str,
        params: &str,
        seed: u64,
        tasks: &[Task],
    ) -> Result<Batch, ToolError> {
        let fuel = self.limits.call_fuel;
        let mut store = self.store(fuel, self.limits.output_bytes);
        let call = format!("tool `{tool}`");
        let fail = |error| self.failure(&call, fuel, self.limits.output_bytes, error);
        let instance = self.pre.instantiate(&mut store).map_err(fail)?;
        let sent: Vec<wire::Task> = tasks.iter().map(task_out).collect();
        let answer = instance
            .selkie_plugin_puzzle_augmenter()
            .call_augment(&mut store, tool, params, seed, &sent)
            .map_err(fail)?;
        let made = answer.map_err(|refusal| ToolError::Guest {
            plugin: self.plugin.into(),
            call: call.clone(),
            kind: kind_in(refusal.kind),
            message: scrub(&refusal.message, ERROR_BYTES_MAX),
        })?;
        if made.len() > self.limits.output_tasks {
            let max = self.limits.output_tasks;
            return Err(ToolError::OutputTooLarge { plugin: self.plugin.into(), call, max, unit: "tasks" });
        }
        let tasks = made.into_iter().enumerate().map(|(index, task)| task_in(index, task));
        let tasks =
            tasks.collect::<Result<Vec<Task>, String>>().map_err(|reason| self.bad_output(tool, reason))?;
        let left = store.get_fuel().unwrap_or(0);
        Ok(Batch { tasks, fuel: fuel.saturating_sub(left) })
    }

    pub(crate) fn bad_output(&self, tool: &str, reason: String) -> ToolError {
        ToolError::BadOutput { plugin: self.plugin.into(), call: format!("tool `{tool}`"), reason }
    }

    fn store(&self, fuel: u64, output_bytes: usize) -> Store<Limiter> {
        let limits = self.limits;
        let mut store = engine::store(self.engine, fuel, limits.deadline, limits.memory_bytes);
        store.set_hostcall_fuel(output_bytes);
        store
    }

    /// The typed error of what wasmtime reports.
    fn failure(&self, call: &str, fuel: u64, output_bytes: usize, error: wasmtime::Error) -> ToolError {
        let (plugin, call) = (self.plugin.to_string(), call.to_string());
        if let Some(&MemoryExceeded { asked, max }) = error.downcast_ref() {
            return ToolError::Memory { plugin, call, asked, max };
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => return ToolError::OutOfFuel { plugin, call, fuel },
            Some(Trap::Interrupt) => {
                return ToolError::Deadline { plugin, call, deadline_ms: millis(self.limits.deadline) };
            }
            Some(Trap::StackOverflow) => return ToolError::Stack { plugin, call, max: STACK_BYTES },
            _ => {}
        }
        let reason = scrub(&error.root_cause().to_string(), ERROR_BYTES_MAX);
        // wasmtime has no type for these two; tests/guests.rs notices when it words them anew.
        if reason.contains("fuel allocated for hostcalls has been exhausted") {
            return ToolError::OutputTooLarge { plugin, call, max: output_bytes, unit: "bytes" };
        }
        if reason.contains("resource limit exceeded") {
            return ToolError::TooManyParts { plugin, call, reason };
        }
        ToolError::Trap { plugin, call, reason }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn kind_in(kind: wire::ErrorKind) -> GuestErrorKind {
    match kind {
        wire::ErrorKind::InvalidParams => GuestErrorKind::InvalidParams,
        wire::ErrorKind::UnknownTool => GuestErrorKind::UnknownTool,
        wire::ErrorKind::UnsupportedInput => GuestErrorKind::UnsupportedInput,
        wire::ErrorKind::Internal => GuestErrorKind::Internal,
    }
}

fn task_out(task: &Task) -> wire::Task {
    wire::Task { train: task.train.iter().map(example_out).collect(), test: example_out(&task.test) }
}

fn example_out(example: &Example) -> wire::Example {
    wire::Example { input: grid_out(&example.input), output: grid_out(&example.output) }
}

fn grid_out(grid: &Grid) -> wire::Grid {
    wire::Grid { height: grid.height(), width: grid.width(), cells: grid.cells().to_vec() }
}

fn task_in(index: usize, task: wire::Task) -> Result<Task, String> {
    let count = task.train.len();
    if count > OUTPUT_DEMONSTRATIONS_MAX {
        return Err(format!(
            "task {index} has {count} examples, at most {OUTPUT_DEMONSTRATIONS_MAX} are taken"
        ));
    }
    let train = task.train.into_iter().map(|example| example_in(index, example)).collect::<Result<_, _>>()?;
    Ok(Task { train, test: example_in(index, task.test)? })
}

fn example_in(task: usize, example: wire::Example) -> Result<Example, String> {
    let grid = |grid: wire::Grid| {
        Grid::new(grid.height, grid.width, grid.cells).map_err(|error| format!("task {task}: {error}"))
    };
    Ok(Example { input: grid(example.input)?, output: grid(example.output)? })
}
