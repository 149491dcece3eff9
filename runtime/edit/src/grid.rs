//! Grids of colours and the tasks made of them, as ARC writes them.
//!
//! A [`Grid`] is always rectangular with colours 0..=9; there is no way to hold another one. Its sides
//! may exceed what a puzzle may have ([`crate::limits::PUZZLE_SIDE_MAX`]), because a tool may enlarge a
//! grid before the dataset filters it.

use serde::{Deserialize, Serialize};

use crate::limits::{COLOUR_MAX, PUZZLE_SIDE_MAX};

/// A rectangle of colours, row by row. Sides 1..=255, colours 0..=9.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<Vec<u8>>", into = "Vec<Vec<u8>>")]
pub struct Grid {
    height: u8,
    width: u8,
    cells: Vec<u8>,
}

/// Why rows or bytes are not a grid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// No rows, or rows without cells.
    #[error("a grid has at least one row and one column, found none")]
    Empty,
    /// More than 255 rows or columns.
    #[error("a grid side is at most 255, found {0}")]
    TooLarge(usize),
    /// Rows of different lengths.
    #[error("row {row} has {found} cells where row 0 has {expected}")]
    Ragged {
        /// The first row that differs, from 0.
        row: usize,
        /// Cells in row 0.
        expected: usize,
        /// Cells in that row.
        found: usize,
    },
    /// A colour above 9.
    #[error("colour {found} at row {row}, column {column}: colours are 0 to 9")]
    Colour {
        /// From 0.
        row: usize,
        /// From 0.
        column: usize,
        /// The value found.
        found: u8,
    },
    /// A byte count that is not height times width.
    #[error("{found} cells for a grid of {height}x{width}")]
    CellCount {
        /// Rows.
        height: u8,
        /// Columns.
        width: u8,
        /// Cells given.
        found: usize,
    },
}

impl Grid {
    /// A grid from its cells, row by row.
    ///
    /// # Errors
    /// When a side is 0, the count is not `height * width`, or a colour is above 9.
    pub fn new(height: u8, width: u8, cells: Vec<u8>) -> Result<Grid, GridError> {
        if height == 0 || width == 0 {
            return Err(GridError::Empty);
        }
        if cells.len() != usize::from(height) * usize::from(width) {
            return Err(GridError::CellCount { height, width, found: cells.len() });
        }
        // The largest first: that loop has no exit, so it is done many cells at a time.
        let largest = cells.iter().fold(0, |largest, &colour| colour.max(largest));
        if largest > COLOUR_MAX
            && let Some(at) = cells.iter().position(|&colour| colour > COLOUR_MAX)
        {
            let width = usize::from(width);
            return Err(GridError::Colour { row: at / width, column: at % width, found: cells[at] });
        }
        Ok(Grid { height, width, cells })
    }

    /// A grid from rows, as ARC's JSON has it.
    ///
    /// # Errors
    /// When there are no cells, rows differ in length, a side is above 255 or a colour above 9.
    pub fn from_rows(rows: &[Vec<u8>]) -> Result<Grid, GridError> {
        let width = rows.first().map_or(0, Vec::len);
        if let Some(row) = rows.iter().position(|row| row.len() != width) {
            return Err(GridError::Ragged { row, expected: width, found: rows[row].len() });
        }
        let side = |n: usize| u8::try_from(n).map_err(|_| GridError::TooLarge(n));
        Grid::new(side(rows.len())?, side(width)?, rows.concat())
    }

    /// Rows, 1..=255.
    pub fn height(&self) -> u8 {
        self.height
    }

    /// Columns, 1..=255.
    pub fn width(&self) -> u8 {
        self.width
    }

    /// The colours row by row, `height * width` of them.
    pub fn cells(&self) -> &[u8] {
        &self.cells
    }

    /// The rows from top to bottom.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.cells.chunks(usize::from(self.width))
    }

    /// Whether both sides are within what a puzzle may have (30).
    pub fn fits_puzzle(&self) -> bool {
        self.height <= PUZZLE_SIDE_MAX && self.width <= PUZZLE_SIDE_MAX
    }
}

impl TryFrom<Vec<Vec<u8>>> for Grid {
    type Error = GridError;
    fn try_from(rows: Vec<Vec<u8>>) -> Result<Grid, GridError> {
        Grid::from_rows(&rows)
    }
}

impl From<Grid> for Vec<Vec<u8>> {
    fn from(grid: Grid) -> Vec<Vec<u8>> {
        grid.rows().map(<[u8]>::to_vec).collect()
    }
}

impl std::fmt::Debug for Grid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.height, self.width)?;
        f.debug_list().entries(self.rows()).finish()
    }
}

/// One demonstration: an input grid and the output it becomes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Example {
    /// Before the rule.
    pub input: Grid,
    /// After the rule.
    pub output: Grid,
}

/// Demonstrations and one example to solve whose answer is known: what a puzzle is trained on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Task {
    /// The demonstrations, in the order they are shown.
    pub train: Vec<Example>,
    /// The example to solve.
    pub test: Example,
}

impl Task {
    /// Every grid of the task.
    pub fn grids(&self) -> impl Iterator<Item = &Grid> {
        self.train.iter().chain([&self.test]).flat_map(|example| [&example.input, &example.output])
    }

    /// Whether every grid is within what a puzzle may have.
    pub fn fits_puzzle(&self) -> bool {
        self.grids().all(Grid::fits_puzzle)
    }
}
