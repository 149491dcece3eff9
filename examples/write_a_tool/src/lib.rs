//! A plugin with one tool: every grid becomes four, mirrored around its corner.

use selkie_sdk::{Grid, Laws, PuzzleAugmenter, Shape, ToolError};
use serde::Deserialize;

struct Quadrants;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    /// Where the original goes.
    corner: Corner,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Corner {
    TopLeft,
    BottomRight,
}

impl PuzzleAugmenter for Quadrants {
    const NAME: &'static str = "mirror.quadrants";
    const SUMMARY: &'static str =
        "Mirrors every grid at two of its sides, which makes a symmetric one of twice its size.";
    const LAWS: Laws = Laws::DETERMINISTIC.shape(Shape::Bounded(2)).palette_closed().items_max(1);
    type Params = Params;

    fn params_schema() -> String {
        r#"{
            "type": "object",
            "properties": { "corner": { "enum": ["top_left", "bottom_right"] } },
            "required": ["corner"],
            "additionalProperties": false
        }"#
        .into()
    }

    fn grid(params: &Params, grid: &Grid) -> Result<Option<Grid>, ToolError> {
        let (height, width) = (grid.height(), grid.width());
        let mirrored = |at: usize, side: usize| match params.corner {
            Corner::TopLeft => at.min(2 * side - 1 - at),
            Corner::BottomRight => at.max(2 * side - 1 - at) - side,
        };
        Ok(Grid::build(2 * height, 2 * width, |row, column| {
            grid.at(mirrored(row, height), mirrored(column, width))
        }))
    }
}

selkie_sdk::register!(Quadrants);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_original_is_in_its_corner() {
        let grid = Grid::new(1, 2, vec![1, 2]).expect("a grid");
        let quadrants = |corner| Quadrants::grid(&Params { corner }, &grid).expect("a grid").expect("a grid");
        assert_eq!(quadrants(Corner::TopLeft).cells(), [1, 2, 2, 1, 1, 2, 2, 1]);
        assert_eq!(quadrants(Corner::BottomRight).cells(), [2, 1, 1, 2, 2, 1, 1, 2]);
    }
}
