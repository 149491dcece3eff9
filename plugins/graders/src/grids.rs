//! The grader of two grids.

use selkie_sdk::{Grader, Grid, Laws, Score, Takes, ToolError};
use serde::Deserialize;

use crate::{TWO_SIDED, object};

/// Whether two grids are the same.
pub(crate) struct GridMatch;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GridParams {
    #[serde(default)]
    partial: bool,
}

impl Grader for GridMatch {
    const NAME: &'static str = "grade.grid_match";
    const SUMMARY: &'static str = "1 when two grids are equal; with partial the share of equal cells, 0 when the \
                                   shapes differ.";
    const TAKES: Takes = Takes::Grids;
    type Params = GridParams;

    const LAWS: Laws = TWO_SIDED;

    fn params_schema() -> String {
        object(r#""partial":{"type":"boolean","default":false}"#)
    }

    fn grids(params: &GridParams, left: &Grid, right: &Grid) -> Result<Score, ToolError> {
        let one_shape = (left.height(), left.width()) == (right.height(), right.width());
        if !params.partial || !one_shape {
            return Ok(Score::right(left == right));
        }
        let equal = left.cells().iter().zip(right.cells()).filter(|(a, b)| a == b).count();
        Ok(Score::new(equal as f64 / left.cells().len() as f64))
    }
}
