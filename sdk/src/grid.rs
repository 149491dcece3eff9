//! Grids and tasks: the guest's twins of the interface's records, always well formed.

use crate::error::ToolError;

/// A rectangle of colours. Sides are 1 to 255, colours 0 to 9.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grid {
    height: u8,
    width: u8,
    cells: Vec<u8>,
}

/// A grid before and after the puzzle's rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Example {
    /// Before.
    pub input: Grid,
    /// After.
    pub output: Grid,
}

/// What may happen to a grid: another one, none, or a refusal.
pub type GridChange<'a> = &'a mut dyn FnMut(&Grid) -> Result<Option<Grid>, ToolError>;

/// Demonstrations and one example to solve, whose answer is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Task {
    /// The demonstrations, in order.
    pub train: Vec<Example>,
    /// The example to solve.
    pub test: Example,
}

impl Grid {
    /// A grid from its cells, row by row; `None` unless there are `height * width` colours of 0 to 9.
    pub fn new(height: u8, width: u8, cells: Vec<u8>) -> Option<Grid> {
        let whole = height > 0 && width > 0 && cells.len() == usize::from(height) * usize::from(width);
        (whole && are_colours(&cells)).then_some(Grid { height, width, cells })
    }

    /// A grid of `height` rows of `width` whose cells are given by `colour(row, column)`, cut to 0 to 9;
    /// `None` when a side is 0 or above 255. The natural way to write a transformation.
    pub fn build(height: usize, width: usize, mut colour: impl FnMut(usize, usize) -> u8) -> Option<Grid> {
        let (h, w) = (u8::try_from(height).ok()?, u8::try_from(width).ok()?);
        if h == 0 || w == 0 {
            return None;
        }
        let mut cells = Vec::with_capacity(height * width);
        for row in 0..height {
            // `extend` and not `push`: one check of the capacity a row.
            cells.extend((0..width).map(|column| colour(row, column)));
        }
        if !are_colours(&cells) {
            cells.iter_mut().for_each(|colour| *colour = (*colour).min(9));
        }
        Some(Grid { height: h, width: w, cells })
    }

    /// Rows.
    pub fn height(&self) -> usize {
        usize::from(self.height)
    }

    /// Columns.
    pub fn width(&self) -> usize {
        usize::from(self.width)
    }

    /// The colour at a row and a column, both from 0 and inside the grid.
    pub fn at(&self, row: usize, column: usize) -> u8 {
        self.cells[row * usize::from(self.width) + column]
    }

    /// The cells row by row.
    pub fn cells(&self) -> &[u8] {
        &self.cells
    }

    /// The rows from top to bottom.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.cells.chunks(usize::from(self.width))
    }

    /// The same shape with every colour replaced; results above 9 become 9.
    pub fn map(&self, mut colour: impl FnMut(u8) -> u8) -> Grid {
        let cells = self.cells.iter().map(|&cell| colour(cell).min(9)).collect();
        Grid { height: self.height, width: self.width, cells }
    }

    pub(crate) fn into_parts(self) -> (u8, u8, Vec<u8>) {
        (self.height, self.width, self.cells)
    }
}

/// Whether every byte is 0 to 9. Eight at a time: in a sandbox that counts instructions, a look at each byte is a
/// third of the work on a grid.
fn are_colours(cells: &[u8]) -> bool {
    let (words, rest) = cells.as_chunks::<8>();
    // A byte above 9 and below 128 reaches its highest bit when 118 is added; the others have it already.
    let high = words.iter().fold(0, |high, &word| {
        let word = u64::from_le_bytes(word);
        high | word | ((word & 0x7f7f_7f7f_7f7f_7f7f) + 0x7676_7676_7676_7676)
    });
    high & 0x8080_8080_8080_8080 == 0 && rest.iter().all(|&colour| colour <= 9)
}

impl Task {
    /// The task with `change` applied to every grid of every example. `Ok(None)` as soon as `change` says so:
    /// the task is then to be left out.
    ///
    /// # Errors
    /// What `change` refuses.
    pub fn map_grids(&self, change: GridChange<'_>) -> Result<Option<Task>, ToolError> {
        let mut train = Vec::with_capacity(self.train.len());
        for example in &self.train {
            let Some(example) = example.map_grids(change)? else { return Ok(None) };
            train.push(example);
        }
        Ok(self.test.map_grids(change)?.map(|test| Task { train, test }))
    }
}

impl Example {
    fn map_grids(&self, change: GridChange<'_>) -> Result<Option<Example>, ToolError> {
        let Some(input) = change(&self.input)? else { return Ok(None) };
        Ok(change(&self.output)?.map(|output| Example { input, output }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rectangles_of_ten_colours_are_grids() {
        assert_eq!(Grid::new(1, 2, vec![0, 9]).map(|grid| grid.cells), Some(vec![0, 9]));
        assert!(Grid::new(1, 2, vec![0]).is_none());
        assert!(Grid::new(1, 1, vec![10]).is_none());
        assert!(Grid::new(0, 0, vec![]).is_none());
        for bad in [10, 99, 127, 128, 137, 255] {
            for at in 0..20 {
                let mut cells = vec![9; 20];
                assert_eq!(Grid::new(4, 5, cells.clone()).expect("a grid").cells(), cells);
                cells[at] = bad;
                assert!(Grid::new(4, 5, cells).is_none(), "{bad} at {at}");
            }
        }
        assert!(Grid::build(256, 1, |_, _| 0).is_none());
        assert_eq!(
            Grid::build(1, 3, |_, column| column as u8).map(|g| g.cells().to_vec()),
            Some(vec![0, 1, 2])
        );
    }

    #[test]
    fn one_grid_that_cannot_change_leaves_the_whole_task_out() {
        let small = Grid::build(1, 1, |_, _| 3).expect("a grid");
        let large = Grid::build(2, 2, |_, _| 3).expect("a grid");
        let task = Task {
            train: vec![Example { input: small.clone(), output: small.clone() }],
            test: Example { input: small, output: large },
        };
        assert_eq!(task.map_grids(&mut |g| Ok((g.height() < 2).then(|| g.clone()))), Ok(None));
        assert_eq!(task.map_grids(&mut |g| Ok(Some(g.clone()))), Ok(Some(task)));
    }
}
