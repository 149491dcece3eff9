//! A plugin for puzzles with one tool: two colors change places.

use selkie_sdk::{Grid, Laws, PuzzleAugmenter, Shape, ToolError};
use serde::Deserialize;

struct SwapColors;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    first: u8,
    second: u8,
}

impl PuzzleAugmenter for SwapColors {
    const NAME: &'static str = "starter_puzzle.swap_colors";
    const SUMMARY: &'static str = "Exchanges two colors in every grid of a task.";
    // What the tool promises: the host refuses an answer that breaks it.
    const LAWS: Laws = Laws::DETERMINISTIC.shape(Shape::Preserved).involution().items_max(1);
    type Params = Params;

    fn params_schema() -> String {
        r#"{
            "type": "object",
            "properties": {
                "first": { "type": "integer", "minimum": 0, "maximum": 9 },
                "second": { "type": "integer", "minimum": 0, "maximum": 9 }
            },
            "required": ["first", "second"],
            "additionalProperties": false
        }"#
        .into()
    }

    fn grid(params: &Params, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        let &Params { first, second } = params;
        if first > 9 || second > 9 {
            return Err(ToolError::invalid_params("colors are 0 to 9"));
        }
        Ok(Some(grid.map(|color| match color {
            color if color == first => second,
            color if color == second => first,
            color => color,
        })))
    }
}

selkie_sdk::register!(SwapColors);
