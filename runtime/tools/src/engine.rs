//! The one wasmtime engine, and the clock that ends overlong calls.

use std::time::Duration;

use wasmtime::{Config, Engine, Store};

use crate::error::ToolError;
use crate::limiter::Limiter;
use crate::limits::{STACK_BYTES, TICK_MS};

/// Makes the engine and starts its clock.
///
/// Memory is allocated on demand and not from a pool: a pool would save 25 us a batch, which a batch of real
/// tasks takes a hundred times over, and reserves address space that small machines and containers refuse.
pub(crate) fn engine() -> Result<Engine, ToolError> {
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
    let engine = Engine::new(&config).map_err(|error| ToolError::Engine { reason: format!("{error:#}") })?;
    start_clock(&engine)?;
    Ok(engine)
}

/// Advances the engine's epoch every tick until the engine is gone.
///
/// An OS thread of its own: a task of an async runtime does not run while the runtime's workers are in guests.
/// It holds the engine weakly, so it ends with it.
fn start_clock(engine: &Engine) -> Result<(), ToolError> {
    let weak = engine.weak();
    let clock = move || {
        loop {
            std::thread::sleep(Duration::from_millis(TICK_MS));
            match weak.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    };
    std::thread::Builder::new()
        .name("selkie-deadlines".into())
        .spawn(clock)
        .map(drop)
        .map_err(|error| ToolError::Engine { reason: format!("the deadline thread does not start: {error}") })
}

/// A fresh store with every limit set. The deadline is the store's own, so calls do not shorten each other's.
pub(crate) fn store(engine: &Engine, fuel: u64, deadline: Duration, memory: usize) -> Store<Limiter> {
    let mut store = Store::new(engine, Limiter::new(memory));
    store.limiter(|limiter| limiter);
    // The current tick is partly over, so one more.
    let ticks = deadline.as_millis().div_ceil(u128::from(TICK_MS)) + 1;
    store.set_epoch_deadline(u64::try_from(ticks).unwrap_or(u64::MAX / 2));
    // Only an engine without fuel refuses this; then the store has none, and the first instruction traps.
    let _ = store.set_fuel(fuel);
    store
}
