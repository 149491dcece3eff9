//! Positions of a puzzle's tokens: two-dimensional, and a causal function of the ids alone.
//!
//! A token of a grid stands at `160 * grid + 13 * row + column`: a row's marker in column 0, cells from column
//! 1, rows by the number of their marker (from 1), grids in order. The cell above is always 13 away and the
//! same cell of the previous grid 160, so a rule about places is a rule about distances; the model stays an
//! ordinary Llama. Tokens before the first grid, and those after `<edit>`, simply count on.
//!
//! The strides fit grids up to 12 x 12, the largest that pup is trained on. Larger ones work, but their cells
//! share positions with other rows or with the next grid.

use tokenizers::Tokenizer;

use super::format::{EDIT, IN, OUT, row_marker};

/// From a grid to the next.
pub const GRID_STRIDE: u32 = 160;

/// From a row to the next.
pub const ROW_STRIDE: u32 = 13;

/// Rows that have a marker; ARC's largest grid has as many.
pub const ROWS_MAX: u32 = 30;

/// Every position is below this.
pub const POSITIONS_MAX: u32 = 4096;

/// Grids that have positions of their own: 11 pairs; further ones stand where the last one does.
const GRIDS_MAX: u32 = 22;

const _: () = assert!(GRIDS_MAX * GRID_STRIDE + ROWS_MAX * (ROW_STRIDE + 1) < POSITIONS_MAX);

/// The ids that positions depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PositionIds {
    /// The marker of row 1; those of the other rows follow it.
    first_row: u32,
    input: u32,
    output: u32,
    edit: u32,
}

impl PositionIds {
    /// The ids of a tokenizer; `None` when it is not one of the puzzle world.
    pub fn from_tokenizer(tokenizer: &Tokenizer) -> Option<PositionIds> {
        let first_row = tokenizer.token_to_id(&row_marker(1))?;
        let consecutive = (0..ROWS_MAX)
            .all(|row| tokenizer.token_to_id(&row_marker(row as usize + 1)) == Some(first_row + row));
        consecutive.then_some(PositionIds {
            first_row,
            input: tokenizer.token_to_id(IN)?,
            output: tokenizer.token_to_id(OUT)?,
            edit: tokenizer.token_to_id(EDIT)?,
        })
    }
}

/// The positions of a sequence that grows token by token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Positions {
    ids: PositionIds,
    grid: u32,
    next: u32,
    in_grid: bool,
}

impl Positions {
    /// Of an empty sequence.
    pub fn new(ids: PositionIds) -> Positions {
        Positions { ids, grid: 0, next: 0, in_grid: false }
    }

    /// The position of the token that is appended now.
    pub fn push(&mut self, id: u32) -> u32 {
        let base = |grid: u32| grid * GRID_STRIDE;
        if id == self.ids.input || id == self.ids.output || id == self.ids.edit {
            self.grid = (self.grid + 1).min(GRIDS_MAX);
            self.next = base(self.grid);
            self.in_grid = id != self.ids.edit;
        } else if self.in_grid && (self.ids.first_row..self.ids.first_row + ROWS_MAX).contains(&id) {
            self.next = base(self.grid) + ROW_STRIDE * (id - self.ids.first_row + 1);
        }
        let position = self.next.min(POSITIONS_MAX - 1);
        self.next = position + 1;
        position
    }

    /// The positions of a whole sequence.
    pub fn of(ids: PositionIds, sequence: &[u32]) -> Vec<u32> {
        let mut positions = Positions::new(ids);
        sequence.iter().map(|&id| positions.push(id)).collect()
    }
}
