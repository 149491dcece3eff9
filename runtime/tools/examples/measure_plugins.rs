//! What the sandbox costs: the same work through WASM, natively and with NumPy, in turns, in one run.
//!
//! `cargo run --release -p selkie-tools --example measure_plugins` prints a JSON object a line; with `SELKIE_PYTHON`
//! set to a Python that has NumPy, that side too. `measured/README.md` has a run.
#![expect(clippy::print_stdout, reason = "a program")]

use std::process::Command;
use std::time::Instant;

use grid::SelkiePlugin;
use selkie_edit::{Example, Grid, PlannedCall, Task};
use selkie_sdk::bindings::puzzle::exports::selkie::plugin::puzzle_augmenter::Guest;
use selkie_sdk::bindings::puzzle::selkie::plugin::types as wire;
use selkie_tools::{HostOptions, ToolHost};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store};

/// Rounds; in each every side runs once.
const ROUNDS: usize = 101;

/// NumPy at its best: one array for each grid, turned one by one, and made to bytes again.
const NUMPY: &str = "
import time, numpy as np
grids = [np.arange(900, dtype=np.uint8).reshape(30, 30) % 10 for _ in range(1000)]
def run():
    start = time.perf_counter()
    out = [np.rot90(grid).tobytes() for grid in grids]
    return time.perf_counter() - start
print(sorted(run() for _ in range(41))[20] * 1e6)
";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    rotations()?;
    warm_call()?;
    loading()?;
    metering()
}

/// 1,000 grids of 30x30 in 500 tasks: a task without demonstrations has two.
fn tasks() -> Result<Vec<Task>, Failure> {
    let cells = (0..900).map(|cell| (cell % 10) as u8).collect();
    let grid = Grid::new(30, 30, cells)?;
    Ok(vec![Task { train: vec![], test: Example { input: grid.clone(), output: grid } }; 500])
}

fn planned(host: &ToolHost, tool: &str, params: &str) -> Result<PlannedCall, Failure> {
    let plugin = host.catalogue().get(tool).ok_or("no such tool")?.plugin.clone();
    Ok(PlannedCall { tool: tool.into(), plugin, params: params.into(), seed: 0 })
}

fn rotations() -> Result<(), Failure> {
    let host = ToolHost::new(HostOptions::new(None))?;
    let call = planned(&host, "grid.rotate", r#"{"degrees":90}"#)?;
    let tasks = tasks()?;
    let (mut sandboxed, mut native) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        sandboxed.push(micros(|| host.augment(&call, &tasks).map(|made| made.made.len()))?);
        native.push(micros(|| natively(&call, &tasks))?);
    }
    let numpy = std::env::var_os("SELKIE_PYTHON").map(|python| -> Result<f64, Failure> {
        let printed = Command::new(python).args(["-c", NUMPY]).output()?;
        Ok(String::from_utf8(printed.stdout)?.trim().parse()?)
    });
    let (wasm_us, native_us) = (median(sandboxed), median(native));
    println!(
        "{}",
        serde_json::json!({
            "what": "1,000 rotations of 30x30", "wasm_us": wasm_us, "native_us": native_us,
            "wasm_to_native": wasm_us / native_us, "numpy_us": numpy.transpose()?,
        })
    );
    Ok(())
}

/// The plugin's own code, compiled for this machine, on copies of the tasks as the host's are.
fn natively(call: &PlannedCall, tasks: &[Task]) -> Result<usize, Failure> {
    let grid =
        |grid: &Grid| wire::Grid { height: grid.height(), width: grid.width(), cells: grid.cells().to_vec() };
    let example =
        |example: &Example| wire::Example { input: grid(&example.input), output: grid(&example.output) };
    let sent = tasks.iter().map(|task| wire::Task {
        train: task.train.iter().map(example).collect(),
        test: example(&task.test),
    });
    let made = SelkiePlugin::augment(call.tool.clone(), call.params.clone(), 0, sent.collect());
    let made = made.map_err(|refusal| refusal.message)?;
    let back = |grid: wire::Grid| Grid::new(grid.height, grid.width, grid.cells);
    let made: Result<Vec<_>, _> =
        made.into_iter().map(|task| back(task.test.input).and_then(|_| back(task.test.output))).collect();
    Ok(made?.len())
}

fn warm_call() -> Result<(), Failure> {
    let host = ToolHost::new(HostOptions::new(None))?;
    let call = planned(&host, "grid.identity", "{}")?;
    let grid = Grid::new(1, 1, vec![1])?;
    let tasks = [Task { train: vec![], test: Example { input: grid.clone(), output: grid } }];
    let mut times = Vec::new();
    for _ in 0..1000 {
        times.push(micros(|| host.augment(&call, &tasks).map(drop))?);
    }
    let what = "one call with one grid of 1x1, in a fresh instance";
    println!("{}", serde_json::json!({ "what": what, "wasm_us": median(times) }));
    Ok(())
}

/// From nothing to the first answer of the built-in grid plugin.
fn loading() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let first = |cache: bool| -> Result<f64, Failure> {
        let cache = cache.then(|| folder.path().join("cache"));
        micros(|| -> Result<(), Failure> {
            let host = ToolHost::new(HostOptions { cache, ..HostOptions::new(None) })?;
            let call = planned(&host, "grid.identity", "{}")?;
            host.augment(&call, &tasks()?[..1])?;
            Ok(())
        })
    };
    first(true)?;
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        cold.push(first(false)?);
        cached.push(first(true)?);
    }
    let (compiled_us, cached_us) = (median(cold), median(cached));
    let ratio = compiled_us / cached_us;
    let what = "a new host and the first call of grid, compiled and from the cache";
    println!(
        "{}",
        serde_json::json!({ "what": what, "compiled_us": compiled_us, "cached_us": cached_us, "ratio": ratio })
    );
    Ok(())
}

mod bindings {
    wasmtime::component::bindgen!({ path: "../../schemas/wit/since_v0.2.0", world: "puzzle-plugin" });
}

struct NoLog;

impl bindings::selkie::plugin::log::Host for NoLog {
    fn write(&mut self, _: String) {}
}

/// The same component in engines that meter less.
fn metering() -> Result<(), Failure> {
    let sides =
        [("neither", false, false), ("epoch", false, true), ("fuel", true, false), ("both", true, true)];
    let engines = sides.map(|(_, fuel, epoch)| prepared(fuel, epoch));
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (engine, times) in engines.iter().zip(&mut times) {
            let (engine, pre) = engine.as_ref().map_err(ToString::to_string)?;
            times.push(rotated(engine, pre)?);
        }
    }
    let medians = times.map(median);
    for ((name, ..), us) in sides.iter().zip(medians) {
        let what = format!("1,000 rotations of 30x30 metered by {name}");
        println!("{}", serde_json::json!({ "what": what, "us": us, "to_neither": us / medians[0] }));
    }
    Ok(())
}

type Prepared = (Engine, bindings::PuzzlePluginPre<NoLog>);

fn prepared(fuel: bool, epoch: bool) -> Result<Prepared, Failure> {
    let mut config = Config::new();
    config.consume_fuel(fuel).epoch_interruption(epoch).cranelift_nan_canonicalization(true);
    let engine = Engine::new(&config)?;
    let component = Component::new(&engine, include_bytes!("../../../plugins/dist/grid.wasm"))?;
    let mut linker = Linker::new(&engine);
    bindings::selkie::plugin::log::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |s| s)?;
    let pre = bindings::PuzzlePluginPre::new(linker.instantiate_pre(&component)?)?;
    Ok((engine, pre))
}

fn rotated(engine: &Engine, pre: &bindings::PuzzlePluginPre<NoLog>) -> Result<f64, Failure> {
    use bindings::selkie::plugin::types::{Example, Grid, Task};
    let grid = || Grid { height: 30, width: 30, cells: vec![1; 900] };
    let tasks: Vec<Task> =
        (0..500).map(|_| Task { train: vec![], test: Example { input: grid(), output: grid() } }).collect();
    micros(|| -> Result<(), Failure> {
        let mut store = Store::new(engine, NoLog);
        let _ = store.set_fuel(u64::MAX / 2);
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = pre.instantiate(&mut store)?;
        let made = instance.selkie_plugin_puzzle_augmenter().call_augment(
            &mut store,
            "grid.rotate",
            r#"{"degrees":90}"#,
            0,
            &tasks,
        )?;
        made.map(drop).map_err(|refusal| refusal.message.into())
    })
}

fn micros<T, E: Into<Failure>>(work: impl FnOnce() -> Result<T, E>) -> Result<f64, Failure> {
    let start = Instant::now();
    work().map_err(Into::into)?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
