//! Tools that turn one grid into one grid.

use selkie_sdk::{Grid, Inverse, Laws, NoParams, PuzzleAugmenter, Shape, ToolError};
use serde::Deserialize;

use crate::params::{AXIS, Axis, FACTOR_MAX, Factor, factor_schema, object};

/// Of every tool here: at most one task for one, and no new colour.
pub(crate) const fn laws(shape: Shape) -> Laws {
    Laws::DETERMINISTIC.shape(shape).palette_closed().items_max(1)
}

/// The grid itself; useful as a part of `grid.concat`.
pub(crate) struct Identity;

impl PuzzleAugmenter for Identity {
    const NAME: &'static str = "grid.identity";
    const SUMMARY: &'static str = "Keeps every grid as it is.";
    type Params = NoParams;

    const LAWS: Laws = laws(Shape::Preserved).involution();

    fn grid(_: &NoParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        Ok(Some(grid.clone()))
    }
}

/// A turn against the clock, as `numpy.rot90` has it.
pub(crate) struct Rotate;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateParams {
    degrees: Degrees,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u16")]
enum Degrees {
    Quarter,
    Half,
    ThreeQuarters,
}

impl TryFrom<u16> for Degrees {
    type Error = String;
    fn try_from(degrees: u16) -> Result<Degrees, String> {
        match degrees {
            90 => Ok(Degrees::Quarter),
            180 => Ok(Degrees::Half),
            270 => Ok(Degrees::ThreeQuarters),
            _ => Err(format!("{degrees} degrees is not 90, 180 or 270")),
        }
    }
}

const fn turn_back(params: &'static str, inverse_params: &'static str) -> Inverse {
    Inverse { params, tool: Rotate::NAME, inverse_params }
}

impl PuzzleAugmenter for Rotate {
    const NAME: &'static str = "grid.rotate";
    const SUMMARY: &'static str = "Rotates every grid counterclockwise by 90, 180 or 270 degrees.";
    type Params = RotateParams;

    fn params_schema() -> String {
        object(r#""degrees":{"enum":[90,180,270]}"#, &["degrees"])
    }

    const LAWS: Laws = laws(Shape::Bounded(1)).inverse(&[
        turn_back(r#"{"degrees":90}"#, r#"{"degrees":270}"#),
        turn_back(r#"{"degrees":180}"#, r#"{"degrees":180}"#),
        turn_back(r#"{"degrees":270}"#, r#"{"degrees":90}"#),
    ]);

    fn grid(params: &RotateParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        let (height, width) = (grid.height(), grid.width());
        Ok(match params.degrees {
            Degrees::Quarter => Grid::build(width, height, |r, c| grid.at(c, width - 1 - r)),
            Degrees::Half => Grid::build(height, width, |r, c| grid.at(height - 1 - r, width - 1 - c)),
            Degrees::ThreeQuarters => Grid::build(width, height, |r, c| grid.at(height - 1 - c, r)),
        })
    }
}

/// Upside down, or left to right.
pub(crate) struct Flip;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlipParams {
    axis: Axis,
}

fn flip(grid: &Grid, axis: Axis) -> Option<Grid> {
    let (height, width) = (grid.height(), grid.width());
    match axis {
        Axis::Rows => Grid::build(height, width, |r, c| grid.at(height - 1 - r, c)),
        Axis::Columns => Grid::build(height, width, |r, c| grid.at(r, width - 1 - c)),
    }
}

impl PuzzleAugmenter for Flip {
    const NAME: &'static str = "grid.flip";
    const SUMMARY: &'static str =
        "Reverses the order of the rows (top to bottom) or of the columns (left to right).";
    type Params = FlipParams;

    fn params_schema() -> String {
        object(AXIS, &["axis"])
    }

    const LAWS: Laws = laws(Shape::Preserved).involution();

    fn grid(params: &FlipParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        Ok(flip(grid, params.axis))
    }
}

/// Rows become columns.
pub(crate) struct Transpose;

impl PuzzleAugmenter for Transpose {
    const NAME: &'static str = "grid.transpose";
    const SUMMARY: &'static str = "Swaps rows and columns (mirrors at the main diagonal).";
    type Params = NoParams;

    const LAWS: Laws = laws(Shape::Swapped).involution();

    fn grid(_: &NoParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        Ok(Grid::build(grid.width(), grid.height(), |r, c| grid.at(c, r)))
    }
}

/// The grid beside its mirror image.
pub(crate) struct Reflect;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReflectParams {
    axis: Axis,
    #[serde(default)]
    reverse: bool,
}

impl PuzzleAugmenter for Reflect {
    const NAME: &'static str = "grid.reflect";
    const SUMMARY: &'static str = "Puts the mirrored grid below (rows) or to the right (columns) of the grid; \
                                   with `reverse` above or to the left.";
    type Params = ReflectParams;

    fn params_schema() -> String {
        object(&format!(r#"{AXIS},"reverse":{{"type":"boolean","default":false}}"#), &["axis"])
    }

    const LAWS: Laws = laws(Shape::Bounded(2));

    fn grid(params: &ReflectParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        let Some(mirrored) = flip(grid, params.axis) else { return Ok(None) };
        let parts = if params.reverse { [&mirrored, grid] } else { [grid, &mirrored] };
        Ok(concat(&parts, params.axis))
    }
}

/// The grids one after the other; `None` when they do not fit together or exceed 255.
pub(crate) fn concat(parts: &[&Grid], axis: Axis) -> Option<Grid> {
    let first = parts.first()?;
    let (mut height, mut width) = (first.height(), first.width());
    for part in &parts[1..] {
        match axis {
            Axis::Rows if part.width() == width => height += part.height(),
            Axis::Columns if part.height() == height => width += part.width(),
            _ => return None,
        }
    }
    let mut cells = Vec::with_capacity(height * width);
    match axis {
        Axis::Rows => parts.iter().for_each(|part| cells.extend_from_slice(part.cells())),
        Axis::Columns => {
            let mut rows: Vec<_> = parts.iter().map(|part| part.rows()).collect();
            for _ in 0..height {
                rows.iter_mut().filter_map(Iterator::next).for_each(|row| cells.extend_from_slice(row));
            }
        }
    }
    Grid::new(u8::try_from(height).ok()?, u8::try_from(width).ok()?, cells)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScaleParams {
    factor: Factor,
}

/// Every cell becomes `rows` by `columns` cells.
fn scale(grid: &Grid, rows: usize, columns: usize) -> Option<Grid> {
    Grid::build(grid.height() * rows, grid.width() * columns, |r, c| grid.at(r / rows, c / columns))
}

fn scale_schema() -> String {
    object(&factor_schema("factor"), &["factor"])
}

/// Every cell becomes a square.
pub(crate) struct Upscale;

impl PuzzleAugmenter for Upscale {
    const NAME: &'static str = "grid.upscale";
    const SUMMARY: &'static str = "Enlarges every cell to a square of factor x factor cells.";
    type Params = ScaleParams;

    fn params_schema() -> String {
        scale_schema()
    }

    const LAWS: Laws = laws(Shape::Bounded(FACTOR_MAX as u16));

    fn grid(params: &ScaleParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        Ok(scale(grid, params.factor.0, params.factor.0))
    }
}

/// Every row several times.
pub(crate) struct IncreaseHeight;

impl PuzzleAugmenter for IncreaseHeight {
    const NAME: &'static str = "grid.increase_height";
    const SUMMARY: &'static str = "Repeats every row factor times in place.";
    type Params = ScaleParams;

    fn params_schema() -> String {
        scale_schema()
    }

    const LAWS: Laws = laws(Shape::Bounded(FACTOR_MAX as u16));

    fn grid(params: &ScaleParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        Ok(scale(grid, params.factor.0, 1))
    }
}

/// Every column several times.
pub(crate) struct IncreaseWidth;

impl PuzzleAugmenter for IncreaseWidth {
    const NAME: &'static str = "grid.increase_width";
    const SUMMARY: &'static str = "Repeats every column factor times in place.";
    type Params = ScaleParams;

    fn params_schema() -> String {
        scale_schema()
    }

    const LAWS: Laws = laws(Shape::Bounded(FACTOR_MAX as u16));

    fn grid(params: &ScaleParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        Ok(scale(grid, 1, params.factor.0))
    }
}

/// The whole grid several times.
pub(crate) struct Repeat;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepeatParams {
    axis: RepeatAxis,
    times: Factor,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RepeatAxis {
    Rows,
    Columns,
    Both,
}

impl PuzzleAugmenter for Repeat {
    const NAME: &'static str = "grid.repeat";
    const SUMMARY: &'static str =
        "Tiles the whole grid: stacked (rows), side by side (columns) or both ways.";
    type Params = RepeatParams;

    fn params_schema() -> String {
        let times = factor_schema("times");
        object(&format!(r#""axis":{{"enum":["rows","columns","both"]}},{times}"#), &["axis", "times"])
    }

    const LAWS: Laws = laws(Shape::Bounded(FACTOR_MAX as u16));

    fn grid(params: &RepeatParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        let (height, width) = (grid.height(), grid.width());
        let (down, across) = match params.axis {
            RepeatAxis::Rows => (params.times.0, 1),
            RepeatAxis::Columns => (1, params.times.0),
            RepeatAxis::Both => (params.times.0, params.times.0),
        };
        Ok(Grid::build(height * down, width * across, |r, c| grid.at(r % height, c % width)))
    }
}
