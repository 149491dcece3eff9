//! Which colour becomes which: the exchange that SEAL makes.

use selkie_sdk::{Rng, Task};

/// A random exchange of the task's colours; never two of them to one.
///
/// As in SEAL: every colour of the task becomes one that the task does not use, as long as there are any; the
/// rest change places with each other. Colour 0 stays when `keep_background`.
pub(crate) fn color_map(task: &Task, keep_background: bool, rng: &mut Rng) -> [u8; 10] {
    let mut used = [false; 10];
    let examples = task.train.iter().chain([&task.test]);
    for cells in examples.flat_map(|example| [example.input.cells(), example.output.cells()]) {
        cells.iter().for_each(|&colour| used[usize::from(colour)] = true);
    }

    let lowest = u8::from(keep_background);
    let (colours, mut free): (Vec<u8>, Vec<u8>) = (lowest..10).partition(|&c| used[usize::from(c)]);
    rng.shuffle(&mut free);
    let mut map: [u8; 10] = std::array::from_fn(|colour| colour as u8);

    // Which colours get a free one is random too: SEAL takes them in the order of a Python set, which for
    // small numbers is ascending and would always leave the high ones to change places.
    let mut order = colours;
    rng.shuffle(&mut order);
    let moved = free.len().min(order.len());
    for (&colour, &new) in order.iter().zip(&free) {
        map[usize::from(colour)] = new;
    }

    let rest = &order[moved..];
    for (index, &colour) in rest.iter().enumerate() {
        // `order` is shuffled, so its neighbour is a random partner; one left alone stays.
        map[usize::from(colour)] = rest.get(index ^ 1).copied().unwrap_or(colour);
    }
    map
}
