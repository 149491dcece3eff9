//! Tools that make random copies of tasks: shifted, recoloured, or with the examples in another order.

use selkie_sdk::{Grid, Laws, PuzzleAugmenter, Rng, Shape, Task, ToolError};
use serde::Deserialize;

use crate::colors::color_map;
use crate::params::{COPIES, COPIES_MAX, Copies, object};

/// Random copies whose grids keep their shapes.
const RANDOM: Laws = Laws::SEEDED.shape(Shape::Preserved).items_max(COPIES_MAX as u32);

/// `count` copies of each task, all copies of a task together, each made by `change`.
fn copies(
    tasks: &[Task],
    Copies(count): Copies,
    change: &mut dyn FnMut(&Task) -> Result<Option<Task>, ToolError>,
) -> Result<Vec<Task>, ToolError> {
    let each = tasks.iter().flat_map(|task| std::iter::repeat_n(task, count));
    each.filter_map(|task| change(task).transpose()).collect()
}

/// A shift of the whole task; what leaves at one side comes back at the other.
///
/// As SEAL's `RandomTranslateXY`: both shifts are from 0 to 3 (and below the side). SEAL draws anew for each
/// grid of a pair; here one draw serves the whole copy, so that grids of one shape move alike and the rule
/// between input and output survives.
pub(crate) struct Translate;

/// SEAL draws the shift from 0 to 3.
const SHIFT_DEFAULT: u8 = 3;

/// A puzzle's side is at most 30, and a shift by the whole side is none.
const SHIFT_MAX: u8 = 29;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TranslateParams {
    #[serde(default)]
    copies: Copies,
    #[serde(default)]
    max_shift: MaxShift,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u8")]
struct MaxShift(usize);

impl Default for MaxShift {
    fn default() -> MaxShift {
        MaxShift(SHIFT_DEFAULT.into())
    }
}

impl TryFrom<u8> for MaxShift {
    type Error = String;
    fn try_from(shift: u8) -> Result<MaxShift, String> {
        match shift {
            1..=SHIFT_MAX => Ok(MaxShift(shift.into())),
            _ => Err(format!("{shift} is not in 1 to {SHIFT_MAX}")),
        }
    }
}

impl PuzzleAugmenter for Translate {
    const NAME: &'static str = "grid.translate";
    const SUMMARY: &'static str = "Random copies whose grids are shifted down and right with wrap-around.";
    type Params = TranslateParams;

    fn params_schema() -> String {
        let (most, usual) = (SHIFT_MAX, SHIFT_DEFAULT);
        let shift = format!(r#"{{"type":"integer","minimum":1,"maximum":{most},"default":{usual}}}"#);
        object(&format!(r#"{COPIES},"max_shift":{shift}"#), &[])
    }

    const LAWS: Laws = RANDOM.palette_closed();

    fn tasks(params: &TranslateParams, tasks: Vec<Task>, rng: &mut Rng) -> Result<Vec<Task>, ToolError> {
        copies(&tasks, params.copies, &mut |task| {
            let (down, right) = (rng.next_u64(), rng.next_u64());
            task.map_grids(&mut |grid| Ok(shift(grid, params.max_shift.0, down, right)))
        })
    }
}

/// The grid shifted by `down` and `right`, each first brought below `max + 1` and the grid's side.
fn shift(grid: &Grid, max: usize, down: u64, right: u64) -> Option<Grid> {
    let (height, width) = (grid.height(), grid.width());
    let below = |draw: u64, side: usize| (draw % (max + 1).min(side) as u64) as usize;
    let (down, right) = (below(down, height), below(right, width));
    Grid::build(height, width, |r, c| grid.at((r + height - down) % height, (c + width - right) % width))
}

/// Other colours, the same ones in the whole task.
pub(crate) struct PermuteColors;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PermuteColorsParams {
    #[serde(default)]
    copies: Copies,
    #[serde(default = "keep_background")]
    keep_background: bool,
}

/// SEAL keeps colour 0.
fn keep_background() -> bool {
    true
}

impl PuzzleAugmenter for PermuteColors {
    const NAME: &'static str = "grid.permute_colors";
    const SUMMARY: &'static str = "Random copies with other colors, the same exchange in all grids of a task; \
                                   color 0 stays unless keep_background is false.";
    type Params = PermuteColorsParams;

    fn params_schema() -> String {
        object(&format!(r#"{COPIES},"keep_background":{{"type":"boolean","default":true}}"#), &[])
    }

    const LAWS: Laws = RANDOM;

    fn tasks(params: &PermuteColorsParams, tasks: Vec<Task>, rng: &mut Rng) -> Result<Vec<Task>, ToolError> {
        copies(&tasks, params.copies, &mut |task| {
            let map = color_map(task, params.keep_background, rng);
            task.map_grids(&mut |grid| Ok(Some(grid.map(|colour| map[usize::from(colour)]))))
        })
    }
}

/// The demonstrations in another order.
pub(crate) struct PermuteExamples;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PermuteExamplesParams {
    #[serde(default)]
    copies: Copies,
}

impl PuzzleAugmenter for PermuteExamples {
    const NAME: &'static str = "grid.permute_examples";
    const SUMMARY: &'static str = "Random copies with the demonstrations in another order.";
    type Params = PermuteExamplesParams;

    fn params_schema() -> String {
        object(COPIES, &[])
    }

    const LAWS: Laws = RANDOM.palette_closed();

    fn tasks(
        params: &PermuteExamplesParams,
        tasks: Vec<Task>,
        rng: &mut Rng,
    ) -> Result<Vec<Task>, ToolError> {
        copies(&tasks, params.copies, &mut |task| {
            let mut task = task.clone();
            rng.shuffle(&mut task.train);
            Ok(Some(task))
        })
    }
}
