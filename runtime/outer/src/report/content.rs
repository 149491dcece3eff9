//! What the report says: the main result in sentences, and sections of tables and figures.

use super::words::{MISSING, count, counted, drawable, duration, percent, reward as reward_of, round_name};
use super::{Bars, Caption, Cell, Column, Interval, Intervals, Part, Rewards, Section, SeedLine, Table};
use crate::summary::{AccuracyRow, Choice, Cost, KindRow, RewardPoint, Summary};

/// The main result in a paragraph.
pub(super) fn main_result(summary: &Summary) -> String {
    let Some((round, last)) = last_round(&summary.rows) else {
        return format!("The run measured no trained policy on held-out {}.", summary.domain);
    };
    let after = counted(u64::from(round), "round");
    let items = if last.items == last.contexts { String::new() } else { format!(" ({} items)", last.items) };
    let on = format!("{} held-out {}{items}", last.contexts, summary.domain);
    let mut sentences = vec![format!("After {after} of ReST-EM the accuracy on {on} is {}.", measured(last))];
    let others = || summary.rows.iter().filter(|row| drawable(row.share).is_some());
    if let Some(untrained) = others().find(|row| row.condition == "untrained") {
        sentences.push(gain(last, untrained));
    }
    if let Some((earlier, best)) = better_before(&summary.rows, last) {
        sentences.push(format!(
            "It was higher after {}: {}.",
            counted(u64::from(earlier), "round"),
            measured(best)
        ));
    }
    if let Some(control) = others().filter(|row| is_control(row)).max_by(|a, b| a.share.total_cmp(&b.share)) {
        sentences.push(against(last, control));
    }
    if let Some(oracle) = others().find(|row| row.condition.starts_with("oracle")) {
        sentences.push(format!("The upper bound, \"{}\", is {}.", oracle.label, percent(oracle.share)));
    }
    if let Some(kept) = last.kept {
        sentences.push(format!("Of what the model knew before, {} is kept.", percent(kept)));
    }
    if summary.seeds.len() == 1 {
        sentences.push("This is one seed: it does not show how far another run would be from it.".to_owned());
    }
    if !summary.notes.is_empty() {
        sentences.push("The notes at the end say what to know before quoting a number.".to_owned());
    }
    sentences.join(" ")
}

/// What was run, in short.
pub(super) fn subject(summary: &Summary) -> Vec<(&'static str, String)> {
    let seeds: Vec<String> = summary.seeds.iter().map(u64::to_string).collect();
    let seeds = if seeds.is_empty() { "none".to_owned() } else { seeds.join(", ") };
    vec![
        ("Model", summary.model.clone()),
        ("Domain", summary.domain.clone()),
        ("Rounds", summary.rounds.to_string()),
        ("Seeds", seeds),
    ]
}

/// Everything after the main result, in order.
pub(super) fn sections(summary: &Summary) -> Vec<Section> {
    let section = |title: String, parts| Section { title, parts };
    vec![
        section("Reward by round".to_owned(), rewards(&summary.rewards)),
        section(format!("Accuracy on held-out {}", summary.domain), accuracy(&summary.rows, &summary.seeds)),
        section("What the policy chooses".to_owned(), choices(&summary.choices)),
        section(
            "Whether the choice depends on the context".to_owned(),
            by_kind(&summary.by_kind, &summary.choices),
        ),
        section("Cost".to_owned(), cost(&summary.cost)),
        section("Settings".to_owned(), settings(&summary.settings)),
        section("Notes".to_owned(), notes(&summary.notes)),
    ]
}

fn round_of(row: &AccuracyRow) -> Option<u32> {
    row.condition.strip_prefix("round_")?.parse().ok()
}

fn trained(rows: &[AccuracyRow]) -> impl Iterator<Item = (u32, &AccuracyRow)> {
    let measured = rows.iter().filter(|row| drawable(row.share).is_some());
    measured.filter_map(|row| Some((round_of(row)?, row)))
}

fn last_round(rows: &[AccuracyRow]) -> Option<(u32, &AccuracyRow)> {
    trained(rows).max_by_key(|(round, _)| *round)
}

/// The best round, if it is not the last one.
fn better_before<'a>(rows: &'a [AccuracyRow], last: &AccuracyRow) -> Option<(u32, &'a AccuracyRow)> {
    let better = trained(rows).filter(|(_, row)| row.share > last.share);
    better.max_by(|(_, one), (_, other)| one.share.total_cmp(&other.share))
}

fn is_control(row: &AccuracyRow) -> bool {
    row.condition != "untrained" && round_of(row).is_none() && !row.condition.starts_with("oracle")
}

fn gain(last: &AccuracyRow, untrained: &AccuracyRow) -> String {
    let points = (last.share - untrained.share) * 100.0;
    let change = if points < 0.0 { "loses" } else { "adds" };
    let intervals = match overlap(last, untrained) {
        Some(true) => ", and the intervals overlap",
        Some(false) => ", and the intervals do not overlap",
        None => "",
    };
    let before = measured(untrained);
    format!("Before training it is {before}: training {change} {:.1} points{intervals}.", points.abs())
}

fn against(last: &AccuracyRow, control: &AccuracyRow) -> String {
    let verdict = match overlap(last, control) {
        _ if control.share >= last.share => "; the trained policy does not beat it",
        Some(true) => "; its interval overlaps with that of the trained policy",
        Some(false) => "; its interval is below that of the trained policy",
        None => "",
    };
    format!("The best control, \"{}\", reaches {}{verdict}.", control.label, measured(control))
}

fn overlap(one: &AccuracyRow, other: &AccuracyRow) -> Option<bool> {
    let known = [one.low, one.high, other.low, other.high].iter().all(|end| end.is_finite());
    known.then_some(one.low <= other.high && other.low <= one.high)
}

fn measured(row: &AccuracyRow) -> String {
    match ends(row) {
        Some(ends) => format!("{} (95% interval {ends})", percent(row.share)),
        None => percent(row.share),
    }
}

fn ends(row: &AccuracyRow) -> Option<String> {
    let known = drawable(row.low).is_some() && drawable(row.high).is_some();
    known.then(|| format!("{} to {}", percent(row.low), percent(row.high)))
}

fn nothing(what: &str) -> Vec<Part> {
    vec![Part::Paragraph(format!("The run has no {what}."))]
}

fn rewards(points: &[RewardPoint]) -> Vec<Part> {
    if points.is_empty() {
        return nothing("rewards");
    }
    let intro = "Rewards of the edits that the policy sampled for training. Best is the reward of a context's best \
                 edit, as a mean over contexts.";
    let numbers = ["Round", "Mean", "Best", "Edits", "Refused", "Duplicates"];
    let columns = std::iter::once(Column::words("Seed")).chain(numbers.map(Column::numbers));
    let table = Table {
        caption: "Rewards of the sampled edits".to_owned(),
        columns: columns.collect(),
        rows: points.iter().map(reward_cells).collect(),
    };
    vec![Part::Paragraph(intro.to_owned()), Part::Rewards(reward_figure(points)), Part::Table(table)]
}

fn reward_cells(point: &RewardPoint) -> Vec<Cell> {
    let counts = [point.edits, point.refused, point.duplicates].map(|number| count(number as u64));
    let cells =
        [point.seed.to_string(), point.round.to_string(), reward_of(point.mean), reward_of(point.best)];
    cells.into_iter().chain(counts).map(Cell::plain).collect()
}

fn reward_figure(points: &[RewardPoint]) -> Rewards {
    let mut seeds: Vec<(u64, SeedLine)> = Vec::new();
    for point in points {
        let at = seeds.iter().position(|(seed, _)| *seed == point.seed).unwrap_or_else(|| {
            seeds.push((point.seed, SeedLine { name: format!("seed {}", point.seed), points: Vec::new() }));
            seeds.len() - 1
        });
        if let Some((_, line)) = seeds.get_mut(at) {
            line.points.push((point.round, point.mean, point.best));
        }
    }
    let mut seeds: Vec<SeedLine> = seeds.into_iter().map(|(_, line)| line).collect();
    seeds.iter_mut().for_each(|line| line.points.sort_by_key(|(round, ..)| *round));
    let about = "Rounds from left to right, reward upwards. Each seed has two lines: solid for the mean of all edits, \
                 dashed for the best edit of each context. The table after the figure has the numbers.";
    let caption = Caption { title: "Mean and best reward".to_owned(), about: about.to_owned() };
    Rewards { caption, seeds }
}

fn accuracy(rows: &[AccuracyRow], seeds: &[u64]) -> Vec<Part> {
    if rows.is_empty() {
        return nothing("measurements on held-out contexts");
    }
    let about = "A row a condition, accuracy from 0% to 100% from left to right. The dot is the accuracy, the line \
                 through it the 95% interval, the small rings are the seeds. The table has the numbers.";
    let caption = Caption { title: "Accuracy with 95% intervals".to_owned(), about: about.to_owned() };
    let rows_of_figure = rows.iter().map(|row| Interval {
        label: row.label.clone(),
        share: row.share,
        low: row.low,
        high: row.high,
        per_seed: row.per_seed.clone(),
        trained: round_of(row).is_some(),
    });
    let figure = Intervals { caption, rows: rows_of_figure.collect() };
    let by_seed = rows.iter().any(|row| !row.per_seed.is_empty()).then(|| Part::Table(by_seed(rows, seeds)));
    let parts = [Part::Table(accuracy_table(rows)), Part::Intervals(figure)];
    parts.into_iter().chain(by_seed).collect()
}

fn accuracy_table(rows: &[AccuracyRow]) -> Table {
    let kept = rows.iter().any(|row| row.kept.is_some());
    let mut columns = vec![Column::words("Condition")];
    columns.extend(["Accuracy", "95% interval", "Contexts", "Items"].map(Column::numbers));
    columns.extend(kept.then(|| Column::numbers("Kept")));
    columns.push(Column::numbers("Time"));
    let cells = |row: &AccuracyRow| {
        let mut cells = vec![
            row.label.clone(),
            percent(row.share),
            ends(row).unwrap_or_else(|| MISSING.to_owned()),
            count(row.contexts as u64),
            count(row.items as u64),
        ];
        cells.extend(kept.then(|| row.kept.map_or_else(|| MISSING.to_owned(), percent)));
        cells.push(duration(row.seconds));
        cells.into_iter().map(Cell::plain).collect()
    };
    Table { caption: "Accuracy by condition".to_owned(), columns, rows: rows.iter().map(cells).collect() }
}

fn by_seed(rows: &[AccuracyRow], seeds: &[u64]) -> Table {
    let most = rows.iter().map(|row| row.per_seed.len()).max().unwrap_or(0);
    let name = |at: usize| seeds.get(at).map_or_else(|| "other".to_owned(), |seed| format!("seed {seed}"));
    let share = |row: &AccuracyRow, at: usize| row.per_seed.get(at).copied().unwrap_or(f64::NAN);
    let cells = |row: &AccuracyRow| {
        let shares = (0..most).map(|at| Cell::share(share(row, at)));
        std::iter::once(Cell::plain(&row.label)).chain(shares).collect()
    };
    let columns = (0..most).map(|at| Column::numbers(&name(at)));
    Table {
        caption: "Accuracy by seed".to_owned(),
        columns: std::iter::once(Column::words("Condition")).chain(columns).collect(),
        rows: rows.iter().map(cells).collect(),
    }
}

fn choices(choices: &[Choice]) -> Vec<Part> {
    if choices.is_empty() {
        return nothing("record of what was chosen");
    }
    let intro =
        "Share of the sampled edits that choose each value, by the round that the policy has behind it.";
    let parts = choices.iter().flat_map(|choice| [Part::Bars(choice_figure(choice)), choice_table(choice)]);
    std::iter::once(Part::Paragraph(intro.to_owned())).chain(parts).collect()
}

fn round_names(choice: &Choice) -> Vec<String> {
    (0..choice.rounds.len() as u64).map(round_name).collect()
}

/// Value and its share in every round; not a number where a round does not say.
fn shares(choice: &Choice) -> impl Iterator<Item = (&String, Vec<f64>)> {
    let share = |round: &Vec<f64>, at: usize| round.get(at).copied().unwrap_or(f64::NAN);
    let of = move |at: usize| choice.rounds.iter().map(|round| share(round, at)).collect();
    choice.values.iter().enumerate().map(move |(at, value)| (value, of(at)))
}

fn choice_figure(choice: &Choice) -> Bars {
    let about = "A group of bars a value, in it a bar a round, from 0% to 100% of the edits. The table after the \
                 figure has the numbers.";
    let caption = Caption { title: format!("{} by round", choice.name), about: about.to_owned() };
    let groups = shares(choice).map(|(value, shares)| (value.clone(), shares)).collect();
    Bars { caption, rounds: round_names(choice), groups }
}

fn choice_table(choice: &Choice) -> Part {
    let rounds = round_names(choice);
    let columns = std::iter::once(Column::words(&choice.name));
    let cells = |(value, shares): (&String, Vec<f64>)| {
        std::iter::once(Cell::plain(value)).chain(shares.into_iter().map(Cell::share)).collect()
    };
    Part::Table(Table {
        caption: format!("{}: share of edits", choice.name),
        columns: columns.chain(rounds.iter().map(|round| Column::numbers(round))).collect(),
        rows: shares(choice).map(cells).collect(),
    })
}

fn by_kind(rows: &[KindRow], choices: &[Choice]) -> Vec<Part> {
    if rows.is_empty() {
        return nothing("record of what was chosen for which kind of context");
    }
    let mut groups: Vec<Vec<&KindRow>> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|group| {
            group.first().is_some_and(|first| first.name == row.name && first.round == row.round)
        }) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    let parts = |group: &Vec<&KindRow>| {
        let values = values_of(group, choices);
        largest_difference(group, &values).into_iter().chain([kind_table(group, &values)])
    };
    groups.iter().flat_map(parts).collect()
}

/// Each value that is chosen once: first those that the choice lists, in its order.
fn values_of<'a>(group: &[&'a KindRow], choices: &'a [Choice]) -> Vec<&'a str> {
    let chosen: Vec<&str> =
        group.iter().flat_map(|row| &row.values).map(|(value, _)| value.as_str()).collect();
    let name = group.first().map(|row| row.name.as_str());
    let listed = choices.iter().filter(|choice| Some(choice.name.as_str()) == name);
    let listed = listed.flat_map(|choice| &choice.values).map(String::as_str);
    let mut values: Vec<&str> = Vec::new();
    for value in listed.filter(|value| chosen.contains(value)).chain(chosen.iter().copied()) {
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

fn share_of(row: &KindRow, value: &str) -> f64 {
    row.values.iter().find(|(listed, _)| listed == value).map_or(0.0, |(_, share)| *share)
}

fn kind_table(group: &[&KindRow], values: &[&str]) -> Part {
    let what = group.first().map_or_else(String::new, |row| {
        format!("{}, {}: share of the edits for each kind", row.name, round_name(u64::from(row.round)))
    });
    let cells = |row: &&KindRow| {
        let shares = values.iter().map(|value| Cell::share(share_of(row, value)));
        std::iter::once(Cell::plain(&row.kind)).chain(shares).collect()
    };
    Part::Table(Table {
        caption: what,
        columns: std::iter::once(Column::words("Kind"))
            .chain(values.iter().map(|value| Column::numbers(value)))
            .collect(),
        rows: group.iter().map(cells).collect(),
    })
}

/// The value whose shares are furthest apart, and the two kinds that differ.
fn largest_difference(group: &[&KindRow], values: &[&str]) -> Option<Part> {
    if group.len() < 2 {
        return None;
    }
    let spread = |value: &str| {
        let shares = group.iter().filter_map(|row| Some((drawable(share_of(row, value))?, *row)));
        let mut shares: Vec<(f64, &KindRow)> = shares.collect();
        shares.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Some((*shares.first()?, *shares.last()?))
    };
    let spreads = values.iter().filter_map(|value| Some((value, spread(value)?)));
    let (value, ((low, least), (high, most))) =
        spreads.max_by(|(_, one), (_, other)| (one.1.0 - one.0.0).total_cmp(&(other.1.0 - other.0.0)))?;
    let (low, high, round) = (percent(low), percent(high), round_name(u64::from(most.round)));
    Some(Part::Paragraph(format!(
        "{}, {round}: the kinds differ most in {value}, which {high} of the edits for {} choose and {low} of those \
         for {}.",
        most.name, most.kind, least.kind
    )))
}

fn cost(cost: &Cost) -> Vec<Part> {
    let totals = [
        ("Time", duration(cost.seconds)),
        ("Inner loops", count(cost.inner_loops)),
        ("Inner loops a minute", per_minute(cost.inner_loops_per_minute)),
        ("Tokens trained on in inner loops", count(cost.training_tokens)),
    ];
    let rows = totals.map(|(name, value)| vec![Cell::plain(name), Cell::plain(value)]);
    let totals = Table {
        caption: "In all".to_owned(),
        columns: vec![Column::words("What"), Column::numbers("How much")],
        rows: rows.into(),
    };
    let phases = (!cost.by_phase.is_empty()).then(|| Part::Table(phases(&cost.by_phase)));
    std::iter::once(Part::Table(totals)).chain(phases).collect()
}

fn per_minute(rate: f64) -> String {
    drawable(rate).map_or_else(|| MISSING.to_owned(), |rate| format!("{rate:.1}"))
}

fn phases(phases: &[(String, f64)]) -> Table {
    let total: f64 = phases.iter().filter_map(|(_, seconds)| drawable(*seconds)).sum();
    let row = |(phase, seconds): &(String, f64)| {
        vec![Cell::plain(phase), Cell::plain(duration(*seconds)), Cell::share(*seconds / total)]
    };
    Table {
        caption: "Time by phase".to_owned(),
        columns: vec![Column::words("Phase"), Column::numbers("Time"), Column::numbers("Share")],
        rows: phases.iter().map(row).collect(),
    }
}

fn settings(settings: &[(String, String)]) -> Vec<Part> {
    if settings.is_empty() {
        return nothing("recorded settings");
    }
    let rows = settings.iter().map(|(name, value)| vec![Cell::plain(name), Cell::plain(value)]);
    vec![Part::Table(Table {
        caption: "Settings of the run".to_owned(),
        columns: vec![Column::words("Setting"), Column::words("Value")],
        rows: rows.collect(),
    })]
}

fn notes(notes: &[String]) -> Vec<Part> {
    if notes.is_empty() {
        return nothing("notes");
    }
    vec![Part::List(notes.to_vec())]
}
