//! The report for a terminal: at most [`COLUMNS`] columns, tables aligned, figures in ASCII. Everything that comes
//! from the run goes through `clean`, so that no name moves the cursor.

use super::content::{main_result, sections, subject};
use super::words::{MISSING, clean, cut, drawable, percent, reward, width, wrapped};
use super::{Bars, Caption, Column, Intervals, Part, Rewards, Section, Table, plot};
use crate::summary::Summary;

/// Columns of a line, at most.
const COLUMNS: usize = 100;

/// Columns of the first column of a table, at most: it names the rows, and is repeated when a table is cut in parts.
const NAME_COLUMNS: usize = 34;

/// Columns of any other column of a table, at most.
const CELL_COLUMNS: usize = COLUMNS - NAME_COLUMNS - GAP;

/// Columns between two columns of a table.
const GAP: usize = 2;

/// Columns that a bar or an interval is drawn in.
const DRAWN: usize = 50;

/// The report as text for a terminal, at most 100 columns wide.
pub fn text(summary: &Summary) -> String {
    let mut out = heading(&summary.title, '=');
    for (name, value) in subject(summary) {
        out += &indented(&format!("{name:<8}"), &value);
    }
    out += &format!("\n{}", indented("", &main_result(summary)));
    for section in sections(summary) {
        out += &format!("\n{}", section_text(&section));
    }
    out
}

fn heading(title: &str, rule: char) -> String {
    let title = cut(title, COLUMNS);
    let title = title.trim_end();
    format!("{title}\n{}\n", rule.to_string().repeat(width(title)))
}

fn section_text(section: &Section) -> String {
    let parts: Vec<String> = section.parts.iter().map(part_text).filter(|part| !part.is_empty()).collect();
    heading(&section.title, '-') + &parts.join("\n")
}

fn part_text(part: &Part) -> String {
    match part {
        Part::Paragraph(text) => indented("", text),
        Part::List(items) => items.iter().map(|item| indented("- ", item)).collect(),
        Part::Table(table) => table_text(table),
        Part::Rewards(figure) => rewards(figure),
        Part::Intervals(figure) => intervals(figure),
        Part::Bars(figure) => bars(figure),
    }
}

/// A paragraph, its first line after `mark`, the others below its beginning.
fn indented(mark: &str, text: &str) -> String {
    let room = COLUMNS - mark.len();
    let lines = wrapped(text, room).into_iter().enumerate();
    let line = |(at, line): (usize, String)| {
        let before = if at == 0 { mark.to_owned() } else { " ".repeat(mark.len()) };
        format!("{before}{line}").trim_end().to_owned() + "\n"
    };
    lines.map(line).collect()
}

/// A cell in `room` columns.
fn padded(text: &str, room: usize, right: bool) -> String {
    let space = " ".repeat(room.saturating_sub(width(text)));
    if right { space + text } else { text.to_owned() + &space }
}

/// The table; where it is too wide, in parts below each other, each with the first column.
fn table_text(table: &Table) -> String {
    let widths: Vec<usize> = (0..table.columns.len()).map(|at| column_width(table, at)).collect();
    let Some(first) = widths.first() else {
        return String::new();
    };
    let mut parts: Vec<Vec<usize>> = vec![vec![0]];
    let mut used = *first;
    for (at, column) in widths.iter().enumerate().skip(1) {
        if used + GAP + column > COLUMNS {
            parts.push(vec![0]);
            used = *first;
        }
        used += GAP + column;
        if let Some(part) = parts.last_mut() {
            part.push(at);
        }
    }
    let parts: Vec<String> = parts.iter().map(|part| table_part(table, part, &widths)).collect();
    indented("", &format!("{}:", table.caption)) + &parts.join("\n")
}

fn column_width(table: &Table, at: usize) -> usize {
    let name = table.columns.get(at).map_or(0, |column| width(&clean(&column.name)));
    let cells = table.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(&clean(&cell.text)));
    let most = if at == 0 { NAME_COLUMNS } else { CELL_COLUMNS };
    cells.fold(name, usize::max).min(most)
}

/// The columns in `part`, with their heads and a rule.
fn table_part(table: &Table, part: &[usize], widths: &[usize]) -> String {
    let names = table.columns.iter().map(|column| column.name.clone()).collect();
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect();
    let rows = table.rows.iter().map(|row| row.iter().map(|cell| cell.text.clone()).collect());
    let all = [names, rule].into_iter().chain(rows);
    all.map(|cells: Vec<String>| row_text(&table.columns, part, widths, &cells)).collect()
}

/// A row, in as many lines as its longest cell needs.
fn row_text(columns: &[Column], part: &[usize], widths: &[usize], cells: &[String]) -> String {
    let shown = part.iter().filter_map(|&at| Some((columns.get(at)?, *widths.get(at)?, cells.get(at)?)));
    let shown: Vec<(bool, usize, Vec<String>)> =
        shown.map(|(column, width, cell)| (column.numeric, width, wrapped(cell, width.max(1)))).collect();
    let height = shown.iter().map(|(_, _, lines)| lines.len()).max().unwrap_or(0);
    let line = |at: usize| {
        let cells = shown.iter().map(|(numeric, width, lines)| {
            padded(lines.get(at).map_or("", String::as_str), *width, *numeric)
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned() + "\n"
    };
    (0..height).map(line).collect()
}

/// Marks at their places between `from` and `to`, the later over the earlier.
fn track(from: f64, to: f64, marks: &[(f64, char)]) -> String {
    let mut cells = vec![' '; DRAWN];
    for (value, mark) in marks {
        if let Some(cell) = drawable(*value).and_then(|value| cells.get_mut(place(from, to, value))) {
            *cell = *mark;
        }
    }
    format!("|{}|", cells.into_iter().collect::<String>())
}

fn place(from: f64, to: f64, value: f64) -> usize {
    let part = if to > from { ((value - from) / (to - from)).clamp(0.0, 1.0) } else { 0.5 };
    (part * (DRAWN - 1) as f64).round() as usize
}

/// What stands above the tracks: the figure's name and how to read it.
fn figure_head(caption: &Caption, how: &str) -> String {
    indented("", &format!("{}: {how}", caption.title))
}

fn rewards(figure: &Rewards) -> String {
    let points =
        || figure.seeds.iter().flat_map(|seed| seed.points.iter().map(move |point| (&seed.name, point)));
    let values = points().flat_map(|(_, (_, mean, best))| [*mean, *best]).filter_map(drawable);
    let values: Vec<f64> = values.collect();
    if values.is_empty() {
        return String::new();
    }
    let (from, to) = values.iter().fold((0.0, 0.0), |(from, to), value| (value.min(from), value.max(to)));
    let how = format!("o mean, x best, from {} to {}", reward(from), reward(to));
    let lines = points().map(|(seed, (round, mean, best))| {
        let name = padded(&format!("{}, round {round}", cut(seed, 24)), 24, false);
        format!("{name}  {}\n", track(from, to, &[(*best, 'x'), (*mean, 'o')]))
    });
    figure_head(&figure.caption, &how) + &lines.collect::<String>()
}

fn intervals(figure: &Intervals) -> String {
    if figure.rows.iter().all(|row| drawable(row.share).is_none()) {
        return String::new();
    }
    let names: Vec<String> = figure.rows.iter().map(|row| cut(&row.label, NAME_COLUMNS)).collect();
    let room = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let lines = figure.rows.iter().zip(&names).map(|(row, name)| {
        let ends = drawable(row.low).zip(drawable(row.high)).map(|ends| place_of(ends.0)..=place_of(ends.1));
        let line = ends.into_iter().flatten().map(|at| (at as f64 / (DRAWN - 1) as f64, '-'));
        let marks: Vec<(f64, char)> = line.chain([(row.share, 'o')]).collect();
        format!("{}  {} {:>6}\n", padded(name, room, false), track(0.0, 1.0, &marks), percent(row.share))
    });
    figure_head(&figure.caption, "from 0% to 100%") + &lines.collect::<String>()
}

fn place_of(share: f64) -> usize {
    place(0.0, 1.0, share)
}

fn bars(figure: &Bars) -> String {
    let groups = plot::groups_drawn(figure);
    if groups.iter().flat_map(|(_, shares)| shares.iter()).all(|share| drawable(*share).is_none()) {
        return String::new();
    }
    let rounds = plot::rounds_drawn(figure.rounds.len());
    let names: Vec<String> = groups.iter().map(|(value, _)| cut(value, 24)).collect();
    let room = names.iter().map(|name| width(name)).max().unwrap_or(0);
    let mut lines = String::new();
    for ((_, shares), name) in groups.iter().zip(&names) {
        for (at, round) in rounds.iter().enumerate() {
            let name = padded(if at == 0 { name } else { "" }, room, false);
            let round_name = figure.rounds.get(*round).map_or("", String::as_str);
            let share = shares.get(*round).copied().and_then(drawable);
            let length = share.map_or(0, |share| (share.clamp(0.0, 1.0) * DRAWN as f64).round() as usize);
            let (bar, value) = ("#".repeat(length), share.map_or(MISSING.to_owned(), percent));
            lines += &format!("{name}  {round_name:<12} |{bar:<DRAWN$}| {value:>6}\n");
        }
    }
    let how = plot::left_out(figure).map_or_else(String::new, |remark| format!(". {remark}"));
    figure_head(&figure.caption, &format!("from 0% to 100% of the edits{how}")) + &lines
}
