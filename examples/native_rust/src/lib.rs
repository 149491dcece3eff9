//! A native plugin in Rust: the same tool as `grid.rotate`.
//!
//! `cargo build --release` makes `target/release/librotate_native.so`; or, with nothing but the compiler,
//! `rustc --edition 2024 --crate-type cdylib -O -o rotate.so src/lib.rs`.

mod abi;

use abi::{Call, Example, Grid, Host, Task, Text};

const MANIFEST: &str = r#"{
    "manifest": 1, "name": "rotate_rust", "version": "0.1.0",
    "tools": [{
        "name": "rotate_rust.rotate", "kind": "puzzle_augmenter",
        "summary": "Rotates every grid counterclockwise by 90, 180 or 270 degrees.",
        "params": {
            "type": "object", "properties": {"degrees": {"enum": [90, 180, 270]}},
            "required": ["degrees"], "additionalProperties": false
        },
        "laws": {"deterministic": true, "shape": "bounded", "growth_max": 1}
    }]
}"#;

// SAFETY: the names are those of the interface, and nothing else here has them.
#[unsafe(no_mangle)]
pub static selkie_abi_version: u32 = abi::ABI_VERSION;

/// The manifest.
#[unsafe(no_mangle)]
pub extern "C" fn selkie_describe() -> Text {
    Text::of(MANIFEST)
}

/// Rotates a batch. A panic ends the process, which costs this call.
///
/// # Safety
/// As in the header: the pointers are good until it returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn selkie_augment_puzzles(
    host: *const Host,
    call: *const Call,
    tasks: *const Task,
    tasks_len: usize,
) {
    // SAFETY: the host's pointers are good until this function returns.
    let (host, params, tasks) = unsafe { (&*host, (*call).params.get(), abi::slice(tasks, tasks_len)) };
    // The host has checked the form against the schema.
    let digits: String = params.chars().filter(char::is_ascii_digit).collect();
    let Ok(degrees @ (90 | 180 | 270)) = digits.parse::<u16>() else {
        let message = format!("`degrees` is not 90, 180 or 270: {params}");
        // SAFETY: the message is copied before the host's function returns.
        return unsafe { (host.refuse)(host, abi::INVALID_PARAMS, Text::of(&message)) };
    };
    for task in tasks {
        // SAFETY: as above.
        let train = unsafe { abi::slice(task.train, task.train_len) };
        let rotated: Vec<Rotated> =
            train.iter().chain([&task.test]).map(|e| Rotated::of(e, degrees)).collect();
        let examples: Vec<Example> = rotated.iter().map(Rotated::example).collect();
        if let Some((&test, train)) = examples.split_last() {
            let made = Task { train: train.as_ptr(), train_len: train.len(), test };
            // SAFETY: the task is copied before the host's function returns.
            unsafe { (host.task)(host, &made) };
        }
    }
}

/// An example's two grids: sides and cells.
struct Rotated([(u8, u8, Vec<u8>); 2]);

impl Rotated {
    fn of(example: &Example, degrees: u16) -> Rotated {
        Rotated([example.input, example.output].map(|grid| rotate(grid, degrees)))
    }

    /// As the interface has it, as long as `self` lives.
    fn example(&self) -> Example {
        let [input, output] = &self.0;
        let grid = |(height, width, cells): &(u8, u8, Vec<u8>)| Grid {
            cells: cells.as_ptr(),
            height: *height,
            width: *width,
        };
        Example { input: grid(input), output: grid(output) }
    }
}

fn rotate(grid: Grid, degrees: u16) -> (u8, u8, Vec<u8>) {
    let (height, width) = (usize::from(grid.height), usize::from(grid.width));
    // SAFETY: a grid of the host's has that many cells.
    let cells = unsafe { abi::slice(grid.cells, height * width) };
    let at = |row: usize, column: usize| cells[row * width + column];
    let build = |rows: usize, columns: usize, cell: &dyn Fn(usize, usize) -> u8| {
        (0..rows * columns).map(|index| cell(index / columns, index % columns)).collect()
    };
    match degrees {
        90 => (grid.width, grid.height, build(width, height, &|r, c| at(c, width - 1 - r))),
        180 => (grid.height, grid.width, build(height, width, &|r, c| at(height - 1 - r, width - 1 - c))),
        _ => (grid.width, grid.height, build(width, height, &|r, c| at(height - 1 - c, r))),
    }
}
