//! Figures as inline SVG. Colours, fonts and strokes come from the page's style sheet by class, so that a figure
//! follows the page into the dark and onto paper. Each has a title and a description. What cannot be placed is left
//! out; a figure with nothing in it is no figure.

use super::words::{cut, drawable, escape, percent, tick, width, wrapped};
use super::{Bars, Caption, Interval, Intervals, Rewards};

/// Width of every figure; its height follows from what is in it. The units are CSS pixels at full size.
const WIDTH: f64 = 720.0;

/// Columns of a row's name, in one line.
const LABEL_COLUMNS: usize = 28;

/// Width of a character of a label, on average.
const CHARACTER: f64 = 7.4;

/// Height of a line of a legend.
const LEGEND_LINE: f64 = 20.0;

/// Kinds of lines and markers before they repeat: five colours, four shapes.
const COLOURS: usize = 5;

/// Groups in a figure of bars, at most: beyond that nobody compares them.
const VALUES_DRAWN: usize = 12;

/// Bars in a group, at most.
const ROUNDS_DRAWN: usize = 6;

/// Values along an axis, and where on the paper they are.
struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let span = self.to - self.from;
        let part = if span > 0.0 { ((value - self.from) / span).clamp(0.0, 1.0) } else { 0.5 };
        self.start + part * (self.end - self.start)
    }
}

/// Reward by round: solid lines for the mean, dashed ones for the best edit.
pub(super) fn rewards(id: &str, figure: &Rewards) -> Option<String> {
    let points = || figure.seeds.iter().flat_map(|line| &line.points);
    let drawn = |&(round, mean, best): &(u32, f64, f64)| [mean, best].map(|value| (round, drawable(value)));
    let drawn = points().flat_map(drawn).filter_map(|(round, value)| Some((f64::from(round), value?)));
    let (rounds, values): (Vec<f64>, Vec<f64>) = drawn.unzip();
    let (first, last) = extent(&rounds)?;
    let (low, high) = extent(&values)?;
    let (low, high) = (low.min(0.0), high.max(0.0));
    let y_ticks = ticks(low, if high > low { high } else { 1.0 }, 5);
    let (legend, top) = reward_legend(figure);
    let x = Scale { from: first, to: last, start: 84.0, end: WIDTH - 28.0 };
    let (bottom, from, to) = (top + 230.0, y_ticks.first()?, y_ticks.last()?);
    let y = Scale { from: *from, to: *to, start: bottom, end: top };
    let mut body = legend;
    for value in &y_ticks {
        let at = y.at(*value);
        body += &line(64.0, at, WIDTH - 8.0, at, if *value == 0.0 { "axis" } else { "grid" });
        body += &label(56.0, at + 4.0, "end", &tick(*value));
    }
    let whole = ticks(first, last, (last - first).clamp(1.0, 12.0) as u32);
    for round in whole.into_iter().filter(|round| (first..=last).contains(round)) {
        body += &label(x.at(round), bottom + 20.0, "middle", &tick(round));
    }
    body += &label((64.0 + WIDTH) / 2.0, bottom + 40.0, "middle muted", "round");
    body += &label(64.0, top - 12.0, "muted", "reward");
    for (index, line) in figure.seeds.iter().enumerate() {
        body += &curve(&x, &y, line.points.iter().map(|(round, _, best)| (*round, *best)), index, true);
        body += &curve(&x, &y, line.points.iter().map(|(round, mean, _)| (*round, *mean)), index, false);
    }
    Some(svg(id, bottom + 48.0, &figure.caption, &body))
}

/// One line with its markers, broken where a value cannot be drawn.
fn curve(x: &Scale, y: &Scale, points: impl Iterator<Item = (u32, f64)>, index: usize, best: bool) -> String {
    let (mut path, mut markers, mut pen_down) = (String::new(), String::new(), false);
    for (round, value) in points {
        let Some(value) = drawable(value) else {
            pen_down = false;
            continue;
        };
        let (left, top) = (x.at(f64::from(round)), y.at(value));
        path += &format!("{}{left:.1} {top:.1}", if pen_down { "L" } else { "M" });
        markers += &marker(left, top, index, best);
        pen_down = true;
    }
    let dash = if best { " best" } else { "" };
    format!("<path class=\"line s{}{dash}\" d=\"{path}\"/>\n{markers}", index % COLOURS)
}

/// A shape that tells a seed from its neighbours without colour; hollow for the best edit.
fn marker(x: f64, y: f64, index: usize, hollow: bool) -> String {
    let shape = match index % 4 {
        0 => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
        1 => "m-3.6-3.6h7.2v7.2h-7.2z",
        2 => "m0-4.8 4.6 8h-9.2z",
        _ => "m0-5 5 5-5 5-5-5z",
    };
    let fill = if hollow { "hollow" } else { "full" };
    format!("<path class=\"mark {fill} s{}\" d=\"M{x:.1} {y:.1}{shape}\"/>\n", index % COLOURS)
}

/// The legend, and where the figure below it begins.
fn reward_legend(figure: &Rewards) -> (String, f64) {
    let (mut text, mut left, mut top) = (String::new(), 64.0, 14.0);
    let seeds = figure.seeds.iter().enumerate().map(|(index, line)| (Some(index), line.name.as_str()));
    for (index, name) in seeds.chain([(None, "mean of all edits"), (None, "best edit of a context")]) {
        let room = 34.0 + width(name) as f64 * CHARACTER + 12.0;
        if left + room > WIDTH {
            (left, top) = (64.0, top + LEGEND_LINE);
        }
        text += &match index {
            Some(index) => marker(left + 17.0, top - 4.0, index, false),
            None => {
                let class = if name.starts_with("best") { "line best" } else { "line" };
                line(left, top - 4.0, left + 26.0, top - 4.0, class)
            }
        };
        text += &label(left + 32.0, top, "start", name);
        left += room;
    }
    (text, top + 36.0)
}

/// Accuracies with their intervals, a row each.
pub(super) fn intervals(id: &str, figure: &Intervals) -> Option<String> {
    figure.rows.iter().find_map(|row| drawable(row.share))?;
    let pitch = 38.0;
    let left = gutter(figure.rows.iter().map(|row| row.label.as_str()));
    let x = Scale { from: 0.0, to: 1.0, start: left, end: WIDTH - 64.0 };
    let bottom = 8.0 + pitch * figure.rows.len() as f64;
    let mut body = percent_axis(&x, 4.0, bottom);
    for (index, row) in figure.rows.iter().enumerate() {
        let y = 8.0 + pitch * (index as f64 + 0.5);
        body += &name(left - 12.0, y, &row.label);
        body += &label(WIDTH - 8.0, y + 4.0, "end value", &percent(row.share));
        body += &interval(&x, y, row);
    }
    Some(svg(id, bottom + 28.0, &figure.caption, &body))
}

fn interval(x: &Scale, y: f64, row: &Interval) -> String {
    let tone = if row.trained { "trained" } else { "other" };
    let mut marks = String::new();
    if let (Some(low), Some(high)) = (drawable(row.low), drawable(row.high)) {
        let (low, high) = (x.at(low), x.at(high));
        marks += &line(low, y, high, y, &format!("interval {tone}"));
        marks += &line(low, y - 5.0, low, y + 5.0, &format!("interval {tone}"));
        marks += &line(high, y - 5.0, high, y + 5.0, &format!("interval {tone}"));
    }
    for share in row.per_seed.iter().filter_map(|share| drawable(*share)) {
        marks += &format!(
            "<circle class=\"seed {tone}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/>\n",
            x.at(share),
            y + 11.0
        );
    }
    if let Some(share) = drawable(row.share) {
        marks += &format!("<circle class=\"dot {tone}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\"/>\n", x.at(share));
    }
    marks
}

/// Shares as bars, a group a value and in it a bar a round.
pub(super) fn bars(id: &str, figure: &Bars) -> Option<String> {
    let rounds = rounds_drawn(figure.rounds.len());
    let groups = groups_drawn(figure);
    groups.iter().flat_map(|(_, shares)| shares.iter()).find_map(|share| drawable(*share))?;
    let left = gutter(groups.iter().map(|(value, _)| value.as_str()));
    let x = Scale { from: 0.0, to: 1.0, start: left + 70.0, end: WIDTH - 64.0 };
    let (pitch, gap) = (16.0, 12.0);
    let group_height = pitch * rounds.len() as f64 + gap;
    let bottom = 4.0 + group_height * groups.len() as f64;
    let mut body = percent_axis(&x, 4.0, bottom);
    for (index, (value, shares)) in groups.iter().enumerate() {
        let top = 4.0 + gap / 2.0 + group_height * index as f64;
        let middle = top + pitch * rounds.len() as f64 / 2.0;
        body += &name(left - 12.0, middle, value);
        for (place, round) in rounds.iter().enumerate() {
            let y = top + pitch * place as f64;
            let name = figure.rounds.get(*round).map_or("", String::as_str);
            body += &label(left + 62.0, y + 12.0, "end small muted", name);
            let tone = match place {
                0 => "first",
                _ if place + 1 == rounds.len() => "last",
                _ => "between",
            };
            body += &bar(&x, y, shares.get(*round).copied().unwrap_or(f64::NAN), tone);
        }
    }
    Some(svg(id, bottom + 28.0, &figure.caption, &body))
}

fn bar(x: &Scale, y: f64, share: f64, tone: &str) -> String {
    let length = drawable(share).map_or(0.0, |share| x.at(share) - x.start);
    let (start, end) = (x.start, x.start + length + 6.0);
    let value = label(end, y + 12.0, "small", &percent(share));
    let top = y + 2.0;
    format!(
        "<rect class=\"bar {tone}\" x=\"{start:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"12\"/>\n{value}"
    )
}

/// The values that are chosen most, in the order given.
pub(super) fn groups_drawn(figure: &Bars) -> Vec<&(String, Vec<f64>)> {
    let most = |at: &usize| {
        let shares = figure.groups.get(*at).map_or(&[][..], |(_, shares)| shares.as_slice());
        shares.iter().filter_map(|share| drawable(*share)).fold(0.0, f64::max)
    };
    let mut order: Vec<usize> = (0..figure.groups.len()).collect();
    order.sort_by(|a, b| most(b).total_cmp(&most(a)));
    order.truncate(VALUES_DRAWN);
    order.sort_unstable();
    order.into_iter().filter_map(|at| figure.groups.get(at)).collect()
}

/// All rounds, or the first, the last and some between.
pub(super) fn rounds_drawn(rounds: usize) -> Vec<usize> {
    match rounds {
        0..=ROUNDS_DRAWN => (0..rounds).collect(),
        _ => (0..ROUNDS_DRAWN).map(|place| place * (rounds - 1) / (ROUNDS_DRAWN - 1)).collect(),
    }
}

/// What the table has and the figure has not.
pub(super) fn left_out(figure: &Bars) -> Option<String> {
    let (values, rounds) = (figure.groups.len(), figure.rounds.len());
    let limits = [(values, VALUES_DRAWN, "values, those chosen most"), (rounds, ROUNDS_DRAWN, "rounds")];
    let over = limits.iter().filter(|(there, drawn, _)| there > drawn);
    let said: Vec<String> = over.map(|(there, drawn, what)| format!("{drawn} of {there} {what}")).collect();
    (!said.is_empty()).then(|| format!("Shown: {}.", said.join("; ")))
}

/// The lines of a row's name: two at most.
fn name_lines(name: &str) -> Vec<String> {
    let mut lines = wrapped(name, LABEL_COLUMNS);
    if lines.len() > 2 {
        let rest = lines.drain(1..).collect::<Vec<_>>().join(" ");
        lines.push(cut(&rest, LABEL_COLUMNS));
    }
    lines
}

/// A row's name, ending at `x` with its middle at `y`.
fn name(x: f64, y: f64, text: &str) -> String {
    let lines = name_lines(text);
    let first = y + 4.5 - 7.5 * (lines.len() as f64 - 1.0);
    lines.iter().enumerate().map(|(at, line)| label(x, first + 15.0 * at as f64, "end", line)).collect()
}

/// Room that the names of rows need to their left.
fn gutter<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let longest = names.flat_map(name_lines).map(|line| width(&line)).max().unwrap_or(0);
    (longest as f64 * CHARACTER + 20.0).max(70.0)
}

fn percent_axis(x: &Scale, top: f64, bottom: f64) -> String {
    let tick = |share: f64| {
        let (at, class) = (x.at(share), if share == 0.0 { "axis" } else { "grid" });
        let name = label(at, bottom + 18.0, "middle small muted", &format!("{:.0}%", share * 100.0));
        line(at, top, at, bottom, class) + &name
    };
    [0.0, 0.25, 0.5, 0.75, 1.0].map(tick).concat()
}

/// Round numbers from below `low` to above `high`, about `wanted` of them.
fn ticks(low: f64, high: f64, wanted: u32) -> Vec<f64> {
    if high <= low {
        return vec![low];
    }
    let raw = (high - low) / f64::from(wanted);
    let magnitude = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= raw);
    let step = step.unwrap_or(10.0 * magnitude);
    let (first, last) = ((low / step).floor(), (high / step).ceil());
    let all = (0..=wanted + 2).map(|n| first + f64::from(n));
    all.take_while(|number| *number <= last).map(|number| number * step).collect()
}

fn extent(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().reduce(f64::min)?;
    Some((low, values.iter().copied().reduce(f64::max)?))
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, class: &str) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n")
}

fn label(x: f64, y: f64, class: &str, text: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape(text))
}

fn svg(id: &str, height: f64, caption: &Caption, body: &str) -> String {
    let (title, about) = (escape(&caption.title), escape(&caption.about));
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-labelledby=\"{id}-title {id}-about\">\n\
         <title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-about\">{about}</desc>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::super::SeedLine;
    use super::*;

    fn caption() -> Caption {
        Caption { title: "A <title>".to_owned(), about: "What one sees.".to_owned() }
    }

    #[test]
    fn a_line_is_broken_where_a_reward_is_missing() {
        let points = vec![(1, 0.5, 0.75), (2, f64::NAN, 1.0), (3, 0.25, 1.0)];
        let figure =
            Rewards { caption: caption(), seeds: vec![SeedLine { name: "seed 7".to_owned(), points }] };
        insta::assert_snapshot!(rewards("f1", &figure).expect("a figure"), @r##"
        <svg viewBox="0 0 720 328" role="img" aria-labelledby="f1-title f1-about">
        <title id="f1-title">A &lt;title&gt;</title>
        <desc id="f1-about">What one sees.</desc>
        <path class="mark full s0" d="M81.0 10.0m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"/>
        <text class="start" x="96.0" y="14.0">seed 7</text>
        <line class="line" x1="154.4" y1="10.0" x2="180.4" y2="10.0"/>
        <text class="start" x="186.4" y="14.0">mean of all edits</text>
        <line class="line best" x1="326.2" y1="10.0" x2="352.2" y2="10.0"/>
        <text class="start" x="358.2" y="14.0">best edit of a context</text>
        <line class="axis" x1="64.0" y1="280.0" x2="712.0" y2="280.0"/>
        <text class="end" x="56.0" y="284.0">0</text>
        <line class="grid" x1="64.0" y1="234.0" x2="712.0" y2="234.0"/>
        <text class="end" x="56.0" y="238.0">0.2</text>
        <line class="grid" x1="64.0" y1="188.0" x2="712.0" y2="188.0"/>
        <text class="end" x="56.0" y="192.0">0.4</text>
        <line class="grid" x1="64.0" y1="142.0" x2="712.0" y2="142.0"/>
        <text class="end" x="56.0" y="146.0">0.6</text>
        <line class="grid" x1="64.0" y1="96.0" x2="712.0" y2="96.0"/>
        <text class="end" x="56.0" y="100.0">0.8</text>
        <line class="grid" x1="64.0" y1="50.0" x2="712.0" y2="50.0"/>
        <text class="end" x="56.0" y="54.0">1</text>
        <text class="middle" x="84.0" y="300.0">1</text>
        <text class="middle" x="388.0" y="300.0">2</text>
        <text class="middle" x="692.0" y="300.0">3</text>
        <text class="middle muted" x="392.0" y="320.0">round</text>
        <text class="muted" x="64.0" y="38.0">reward</text>
        <path class="line s0 best" d="M84.0 107.5L388.0 50.0L692.0 50.0"/>
        <path class="mark hollow s0" d="M84.0 107.5m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"/>
        <path class="mark hollow s0" d="M388.0 50.0m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"/>
        <path class="mark hollow s0" d="M692.0 50.0m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"/>
        <path class="line s0" d="M84.0 165.0M692.0 222.5"/>
        <path class="mark full s0" d="M84.0 165.0m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"/>
        <path class="mark full s0" d="M692.0 222.5m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"/>
        </svg>
        "##);
    }

    #[test]
    fn an_interval_is_a_dot_on_a_line_with_rings_below() {
        let row = |label: &str, share, low, per_seed: &[f64], trained| Interval {
            label: label.to_owned(),
            share,
            low,
            high: 0.75,
            per_seed: per_seed.to_vec(),
            trained,
        };
        let rows = vec![
            row("After round 1", 0.5, 0.25, &[0.4, f64::INFINITY, 0.6], true),
            row(
                "A long name of a control that takes two lines and then some more",
                2.0,
                f64::NAN,
                &[],
                false,
            ),
        ];
        insta::assert_snapshot!(intervals("f2", &Intervals { caption: caption(), rows }).expect("a figure"), @r##"
        <svg viewBox="0 0 720 112" role="img" aria-labelledby="f2-title f2-about">
        <title id="f2-title">A &lt;title&gt;</title>
        <desc id="f2-about">What one sees.</desc>
        <line class="axis" x1="227.2" y1="4.0" x2="227.2" y2="84.0"/>
        <text class="middle small muted" x="227.2" y="102.0">0%</text>
        <line class="grid" x1="334.4" y1="4.0" x2="334.4" y2="84.0"/>
        <text class="middle small muted" x="334.4" y="102.0">25%</text>
        <line class="grid" x1="441.6" y1="4.0" x2="441.6" y2="84.0"/>
        <text class="middle small muted" x="441.6" y="102.0">50%</text>
        <line class="grid" x1="548.8" y1="4.0" x2="548.8" y2="84.0"/>
        <text class="middle small muted" x="548.8" y="102.0">75%</text>
        <line class="grid" x1="656.0" y1="4.0" x2="656.0" y2="84.0"/>
        <text class="middle small muted" x="656.0" y="102.0">100%</text>
        <text class="end" x="215.2" y="31.5">After round 1</text>
        <text class="end value" x="712.0" y="31.0">50.0%</text>
        <line class="interval trained" x1="334.4" y1="27.0" x2="548.8" y2="27.0"/>
        <line class="interval trained" x1="334.4" y1="22.0" x2="334.4" y2="32.0"/>
        <line class="interval trained" x1="548.8" y1="22.0" x2="548.8" y2="32.0"/>
        <circle class="seed trained" cx="398.7" cy="38.0" r="2.5"/>
        <circle class="seed trained" cx="484.5" cy="38.0" r="2.5"/>
        <circle class="dot trained" cx="441.6" cy="27.0" r="5"/>
        <text class="end" x="215.2" y="62.0">A long name of a control</text>
        <text class="end" x="215.2" y="77.0">that takes two lines and ...</text>
        <text class="end value" x="712.0" y="69.0">200.0%</text>
        <circle class="dot other" cx="656.0" cy="65.0" r="5"/>
        </svg>
        "##);
    }

    #[test]
    fn a_group_of_bars_has_a_bar_a_round() {
        let rounds = ["untrained", "round 1", "round 2"].map(str::to_owned).to_vec();
        let groups = vec![("1e-3".to_owned(), vec![0.5, f64::NAN])];
        insta::assert_snapshot!(bars("f3", &Bars { caption: caption(), rounds, groups }).expect("a figure"), @r##"
        <svg viewBox="0 0 720 92" role="img" aria-labelledby="f3-title f3-about">
        <title id="f3-title">A &lt;title&gt;</title>
        <desc id="f3-about">What one sees.</desc>
        <line class="axis" x1="140.0" y1="4.0" x2="140.0" y2="64.0"/>
        <text class="middle small muted" x="140.0" y="82.0">0%</text>
        <line class="grid" x1="269.0" y1="4.0" x2="269.0" y2="64.0"/>
        <text class="middle small muted" x="269.0" y="82.0">25%</text>
        <line class="grid" x1="398.0" y1="4.0" x2="398.0" y2="64.0"/>
        <text class="middle small muted" x="398.0" y="82.0">50%</text>
        <line class="grid" x1="527.0" y1="4.0" x2="527.0" y2="64.0"/>
        <text class="middle small muted" x="527.0" y="82.0">75%</text>
        <line class="grid" x1="656.0" y1="4.0" x2="656.0" y2="64.0"/>
        <text class="middle small muted" x="656.0" y="82.0">100%</text>
        <text class="end" x="58.0" y="38.5">1e-3</text>
        <text class="end small muted" x="132.0" y="22.0">untrained</text>
        <rect class="bar first" x="140.0" y="12.0" width="258.0" height="12"/>
        <text class="small" x="404.0" y="22.0">50.0%</text>
        <text class="end small muted" x="132.0" y="38.0">round 1</text>
        <rect class="bar between" x="140.0" y="28.0" width="0.0" height="12"/>
        <text class="small" x="146.0" y="38.0">n/a</text>
        <text class="end small muted" x="132.0" y="54.0">round 2</text>
        <rect class="bar last" x="140.0" y="44.0" width="0.0" height="12"/>
        <text class="small" x="146.0" y="54.0">n/a</text>
        </svg>
        "##);
    }

    #[test]
    fn a_figure_with_nothing_to_see_is_left_out() {
        let nan = f64::NAN;
        let seeds = vec![SeedLine { name: "seed 1".to_owned(), points: vec![(1, nan, f64::INFINITY)] }];
        assert_eq!(rewards("f", &Rewards { caption: caption(), seeds }), None);
        assert_eq!(intervals("f", &Intervals { caption: caption(), rows: vec![] }), None);
        let groups = vec![("value".to_owned(), vec![nan])];
        assert_eq!(
            bars("f", &Bars { caption: caption(), rounds: vec!["untrained".to_owned()], groups }),
            None
        );
    }

    #[test]
    fn a_crowded_figure_shows_what_is_chosen_most_and_says_so() {
        let groups = (0..14).map(|n| (format!("v{n}"), vec![f64::from(n % 7) / 10.0; 9])).collect();
        let figure = Bars { caption: caption(), rounds: vec![String::new(); 9], groups };
        let drawn: Vec<&str> = groups_drawn(&figure).iter().map(|(value, _)| value.as_str()).collect();
        assert_eq!(drawn.join(" "), "v1 v2 v3 v4 v5 v6 v8 v9 v10 v11 v12 v13");
        assert_eq!(rounds_drawn(9), [0, 1, 3, 4, 6, 8]);
        let said = "Shown: 12 of 14 values, those chosen most; 6 of 9 rounds.";
        assert_eq!(left_out(&figure).as_deref(), Some(said));
    }

    #[test]
    fn ticks_are_round_numbers_around_what_is_drawn() {
        let cases: [(f64, f64, u32, &str); 7] = [
            (0.0, 1.0, 5, "0 0.2 0.4 0.6 0.8 1"),
            (-0.31, 0.83, 5, "-0.5 0 0.5 1"),
            (1.0, 3.0, 2, "1 2 3"),
            (1.0, 40.0, 12, "0 5 10 15 20 25 30 35 40"),
            (0.0, 0.004, 5, "0 0.001 0.002 0.003 0.004"),
            (-1e12, 1e12, 5, "-1e12 -5e11 0 5e11 1e12"),
            (4.0, 4.0, 5, "4"),
        ];
        for (low, high, wanted, expected) in cases {
            let found: Vec<String> = ticks(low, high, wanted).into_iter().map(tick).collect();
            assert_eq!(found.join(" "), expected, "{low} to {high}");
        }
    }
}
