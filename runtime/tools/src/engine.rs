//! The one wasmtime engine, and the clock that ends overlong calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wasmtime::{Config, Engine, Store};

use crate::error::ToolError;
use crate::limits::{STACK_BYTES, TICK_MS, TICK_STALE_MS};
use crate::state::State;

/// The configuration of every engine: what a process that compiles needs too.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        // What a result may depend on is the input and the seed alone.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        // Names of a guest's functions help nobody who does not have its source.
        .wasm_backtrace_max_frames(None);
    config
}

/// The engine with its clock.
///
/// Memory is allocated on demand and not from a pool: a pool would save 25 us a batch, which a batch of real
/// tasks takes a hundred times over, and reserves address space that small machines and containers refuse.
#[derive(Clone)]
pub(crate) struct Clocked {
    pub(crate) engine: Engine,
    /// When the clock ticked last, in milliseconds since `start`.
    ticked: Arc<AtomicU64>,
    start: Instant,
}

impl Clocked {
    pub(crate) fn new() -> Result<Clocked, ToolError> {
        let engine =
            Engine::new(&config()).map_err(|error| ToolError::Engine { reason: format!("{error:#}") })?;
        let clocked = Clocked { engine, ticked: Arc::default(), start: Instant::now() };
        clocked.start_clock()?;
        Ok(clocked)
    }

    /// Advances the engine's epoch every tick until the engine is gone.
    ///
    /// An OS thread of its own: a task of an async runtime does not run while the runtime's workers are in
    /// guests. It holds the engine weakly, so it ends with it.
    fn start_clock(&self) -> Result<(), ToolError> {
        let (weak, ticked, start) = (self.engine.weak(), self.ticked.clone(), self.start);
        let clock = move || {
            loop {
                std::thread::sleep(Duration::from_millis(TICK_MS));
                let Some(engine) = weak.upgrade() else { return };
                engine.increment_epoch();
                ticked.store(millis(start.elapsed()), Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().name("selkie-deadlines".into()).spawn(clock).map(drop).map_err(|error| {
            ToolError::Engine { reason: format!("the deadline thread does not start: {error}") }
        })
    }

    /// Whether deadlines are kept.
    ///
    /// # Errors
    /// When the clock has not ticked for so long that it must be taken for dead.
    fn check_clock(&self) -> Result<(), ToolError> {
        let late = millis(self.start.elapsed()).saturating_sub(self.ticked.load(Ordering::Relaxed));
        if late > TICK_STALE_MS {
            let reason = format!("the deadline thread has not run for {late} ms, so no plugin is called");
            return Err(ToolError::Engine { reason });
        }
        Ok(())
    }

    /// A fresh store with every limit set. The deadline is the store's own, so calls do not shorten each
    /// other's.
    pub(crate) fn store(
        &self,
        state: State,
        fuel: u64,
        deadline: Duration,
    ) -> Result<Store<State>, ToolError> {
        self.check_clock()?;
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limiter);
        // The current tick is partly over, so one more.
        let ticks = deadline.as_millis().div_ceil(u128::from(TICK_MS)) + 1;
        store.set_epoch_deadline(u64::try_from(ticks).unwrap_or(u64::MAX / 2));
        // Only an engine without fuel refuses this; then the store has none, and the first instruction traps.
        let _ = store.set_fuel(fuel);
        Ok(store)
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_still_ends_all_calls() {
        let mut clocked = Clocked::new().expect("an engine");
        clocked.check_clock().expect("it ticks");
        clocked.ticked = Arc::default();
        let past = Duration::from_millis(TICK_STALE_MS + 1);
        clocked.start = Instant::now().checked_sub(past).expect("a machine that runs for ten seconds");
        let refused = clocked.check_clock().expect_err("nobody ticks");
        assert!(refused.to_string().contains("no plugin is called"), "{refused}");
    }
}
