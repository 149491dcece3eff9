//! Grids for a terminal: two blocks of colour a cell, or digits where there is no colour.

use std::io::IsTerminal;

use selkie_edit::{Answer, Grid};

/// ARC's ten colours as 256-colour codes.
const COLOURS: [u8; 10] = [16, 27, 196, 40, 226, 245, 201, 208, 45, 88];

/// Whether stdout takes colours.
pub(crate) fn has_colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Answers side by side, each under its heading.
pub(crate) fn side_by_side(columns: &[(&str, &Answer)], colour: bool) -> String {
    let blocks: Vec<Vec<(String, usize)>> =
        columns.iter().map(|(heading, answer)| block(heading, answer, colour)).collect();
    let width = |block: &[(String, usize)]| block.iter().map(|(_, width)| *width).max().unwrap_or(0);
    let rows = blocks.iter().map(Vec::len).max().unwrap_or(0);
    let mut text = String::new();
    for row in 0..rows {
        let mut line = String::new();
        for block in &blocks {
            let (cell, used) = block.get(row).cloned().unwrap_or_default();
            line.push_str(&cell);
            line.push_str(&" ".repeat(width(block) - used + 4));
        }
        text.push_str("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lines of one answer with the columns each takes.
fn block(heading: &str, answer: &Answer, colour: bool) -> Vec<(String, usize)> {
    let mut lines = vec![(heading.to_owned(), heading.len())];
    match answer {
        Answer::Grid(grid) => lines.extend(grid_lines(grid, colour)),
        Answer::Text(text) => {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(40).collect();
            let text = format!("no grid: `{}`", text.trim());
            lines.push((text.clone(), text.chars().count()));
        }
    }
    lines
}

fn grid_lines(grid: &Grid, colour: bool) -> impl Iterator<Item = (String, usize)> {
    grid.rows().map(move |row| match colour {
        true => {
            let cells = row.iter().map(|&cell| format!("\x1b[48;5;{}m  ", COLOURS[usize::from(cell) % 10]));
            (cells.collect::<String>() + "\x1b[0m", row.len() * 2)
        }
        false => (row.iter().map(u8::to_string).collect::<Vec<_>>().join(" "), row.len() * 2 - 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stand_side_by_side() {
        let grid = |rows: &[Vec<u8>]| Answer::Grid(Grid::from_rows(rows).expect("a grid"));
        let (one, two) = (grid(&[vec![1, 2, 3], vec![4, 5, 6]]), grid(&[vec![7]]));
        let text = side_by_side(&[("before", &one), ("expected", &two)], false);
        insta::assert_snapshot!(text, @r"
          before    expected
          1 2 3     7
          4 5 6
        ");
        let garbled = Answer::Text("\x1b[31m01 2\n".into());
        insta::assert_snapshot!(side_by_side(&[("before", &garbled)], false), @r"
          before
          no grid: `[31m01 2`
        ");
        assert_eq!(side_by_side(&[("x", &two)], true), "  x\n  \x1b[48;5;208m  \x1b[0m\n");
    }
}
