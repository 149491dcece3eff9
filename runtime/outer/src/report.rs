//! A [`Summary`](crate::summary::Summary) for people: [`html`] makes one page that needs nothing else, [`text`] the
//! same for a terminal.
//!
//! `content` decides what the report says, as sections of paragraphs, tables and figures; the two renderings decide
//! how it looks. So both say the same, and every number of a figure is in a table. Names of models, tools and kinds
//! come from outside: `content` passes them on as they are, and each rendering lets nothing out uncleaned.

mod content;
mod html;
mod plot;
mod text;
mod words;

pub use html::html;
pub use text::text;

/// A part of the report under its own heading.
struct Section {
    title: String,
    parts: Vec<Part>,
}

enum Part {
    Paragraph(String),
    List(Vec<String>),
    Table(Table),
    Rewards(Rewards),
    Intervals(Intervals),
    Bars(Bars),
}

/// The first cell of a row names the row.
struct Table {
    caption: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

struct Column {
    name: String,
    numeric: bool,
}

struct Cell {
    text: String,
    /// How strongly the cell is shaded where a rendering can, 0 to 1.
    shade: Option<f64>,
}

/// What a figure is called, and what one sees in it, for those who do not.
struct Caption {
    title: String,
    about: String,
}

/// Mean and best reward by round, a line a seed.
struct Rewards {
    caption: Caption,
    seeds: Vec<SeedLine>,
}

struct SeedLine {
    name: String,
    /// Round, mean and best reward, by round.
    points: Vec<(u32, f64, f64)>,
}

/// Shares with their intervals, a row each.
struct Intervals {
    caption: Caption,
    rows: Vec<Interval>,
}

struct Interval {
    label: String,
    share: f64,
    low: f64,
    high: f64,
    per_seed: Vec<f64>,
    /// Whether this is what the run made, and not what it is compared with.
    trained: bool,
}

/// Shares as bars: a group a value, in it a bar a round.
struct Bars {
    caption: Caption,
    rounds: Vec<String>,
    groups: Vec<(String, Vec<f64>)>,
}

impl Cell {
    fn plain(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), shade: None }
    }

    fn share(share: f64) -> Cell {
        Cell { text: words::percent(share), shade: words::drawable(share) }
    }
}

impl Column {
    fn words(name: &str) -> Column {
        Column { name: name.to_owned(), numeric: false }
    }

    fn numbers(name: &str) -> Column {
        Column { name: name.to_owned(), numeric: true }
    }
}

#[cfg(test)]
mod tests;
