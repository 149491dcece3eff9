//! Augmented voting: a puzzle's test is asked in several views, each answer is turned back, and the answer that most
//! views give is the one that counts. Of equal ones the first view's, which is the puzzle as it is.

use selkie_edit::{Answer, Context, Example, Grid, Puzzle, PuzzleTest};
use selkie_learn::{Adapter, LearnError, Model};

/// A way to look at a grid that can be undone: a symmetry of the square, then colours renamed in a circle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct View {
    /// Transposed first.
    transposed: bool,
    /// Then rows in the other order.
    rows_flipped: bool,
    /// Then columns in the other order.
    columns_flipped: bool,
    /// Colours 1 to 9 move on by so many; 0 stays.
    colours: u8,
}

/// Views in the order in which they are used: the grid as it is, its colours renamed, then turned.
fn views(count: usize) -> impl Iterator<Item = View> {
    let turns = (0..8_u8).map(|bits| (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0));
    turns
        .flat_map(|(transposed, rows_flipped, columns_flipped)| {
            (0..9).map(move |colours| View { transposed, rows_flipped, columns_flipped, colours })
        })
        .take(count)
}

impl View {
    fn of(self, grid: &Grid) -> Option<Grid> {
        let mut rows = as_rows(grid);
        if self.transposed {
            rows = transposed(&rows);
        }
        self.flip(&mut rows);
        shift(&mut rows, self.colours);
        Grid::from_rows(&rows).ok()
    }

    /// The grid of which this is the view.
    fn undone(self, grid: &Grid) -> Option<Grid> {
        let mut rows = as_rows(grid);
        shift(&mut rows, (9 - self.colours) % 9);
        self.flip(&mut rows);
        if self.transposed {
            rows = transposed(&rows);
        }
        Grid::from_rows(&rows).ok()
    }

    fn flip(self, rows: &mut [Vec<u8>]) {
        if self.rows_flipped {
            rows.reverse();
        }
        if self.columns_flipped {
            rows.iter_mut().for_each(|row| row.reverse());
        }
    }

    fn of_puzzle(self, puzzle: &Puzzle) -> Option<Puzzle> {
        let pair =
            |pair: &Example| Some(Example { input: self.of(&pair.input)?, output: self.of(&pair.output)? });
        let test = |test: &PuzzleTest| {
            let output = match &test.output {
                Some(output) => Some(self.of(output)?),
                None => None,
            };
            Some(PuzzleTest { input: self.of(&test.input)?, output })
        };
        Some(Puzzle {
            id: puzzle.id.clone(),
            train: puzzle.train.iter().map(pair).collect::<Option<_>>()?,
            tests: puzzle.tests.iter().map(test).collect::<Option<_>>()?,
        })
    }
}

fn as_rows(grid: &Grid) -> Vec<Vec<u8>> {
    grid.rows().map(<[u8]>::to_vec).collect()
}

fn transposed(rows: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let width = rows.first().map_or(0, Vec::len);
    (0..width).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}

fn shift(rows: &mut [Vec<u8>], by: u8) {
    for colour in rows.iter_mut().flatten().filter(|colour| **colour > 0) {
        *colour = (*colour - 1 + by) % 9 + 1;
    }
}

/// For each test with a known output, whether most of `count` views give it.
///
/// # Errors
/// As [`Model::answer`].
pub(crate) fn solved(
    model: &Model,
    adapter: Option<&Adapter>,
    puzzle: &Puzzle,
    count: usize,
) -> Result<Vec<bool>, LearnError> {
    let expected: Vec<&Grid> = puzzle.tests.iter().filter_map(|test| test.output.as_ref()).collect();
    let mut answers: Vec<Vec<Grid>> = vec![Vec::new(); expected.len()];
    for view in views(count) {
        let Some(seen) = view.of_puzzle(puzzle) else { continue };
        for (item, answers) in model.codec().items(&Context::Puzzle(seen))?.iter().zip(&mut answers) {
            if let Answer::Grid(grid) = model.answer(adapter, item)?
                && let Some(grid) = view.undone(&grid)
            {
                answers.push(grid);
            }
        }
    }
    Ok(answers.iter().zip(expected).map(|(answers, expected)| majority(answers) == Some(expected)).collect())
}

/// What most say; of equal ones what was said first.
pub(crate) fn majority<T: PartialEq>(answers: &[T]) -> Option<&T> {
    let count = |answer: &T| answers.iter().filter(|other| *other == answer).count();
    // The last maximum would win, so the order is turned around.
    answers.iter().rev().max_by_key(|answer| count(answer))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_view_is_another_and_can_be_undone() {
        let grid = Grid::from_rows(&[vec![0, 1, 2], vec![9, 4, 5]]).expect("a grid");
        let mut seen = BTreeSet::new();
        for view in views(usize::MAX) {
            let made = view.of(&grid).expect("a grid");
            assert_eq!(view.undone(&made).as_ref(), Some(&grid), "{view:?}");
            assert!(seen.insert(as_rows(&made)), "{view:?} is another's");
        }
        assert_eq!(seen.len(), 72);
        assert_eq!(views(1).next().and_then(|view| view.of(&grid)), Some(grid));
    }

    #[test]
    fn the_first_of_the_most_frequent_answers_counts() {
        let check = |answers: &[u8], expected: Option<u8>| {
            assert_eq!(majority(answers).copied(), expected, "{answers:?}");
        };
        check(&[], None);
        check(&[3], Some(3));
        check(&[1, 2], Some(1));
        check(&[2, 1, 1], Some(1));
        check(&[2, 1, 1, 2], Some(2));
    }
}
