//! The whole report: what it says, and that nothing in a summary breaks it.

use std::collections::BTreeSet;

use super::{html, text};
use crate::summary::{AccuracyRow, Choice, Cost, KindRow, RewardPoint, Summary};

const HOSTILE: &str =
    "</script></style></title>\"'><img src=x onerror=alert(1)>&amp;\u{1b}[31m\u{202e}\u{0}\r\nx";

fn row(condition: &str, label: &str, share: f64, half: f64) -> AccuracyRow {
    AccuracyRow {
        condition: condition.to_owned(),
        label: label.to_owned(),
        share,
        low: (share - half).max(0.0),
        high: (share + half).min(1.0),
        per_seed: vec![share - 0.02, share + 0.02],
        contexts: 50,
        items: 50,
        kept: (condition != "oracle").then_some(0.95),
        seconds: 75.0,
    }
}

fn reward(seed: u64, round: u32, mean: f64, best: f64) -> RewardPoint {
    RewardPoint { seed, round, mean, best, edits: 750, refused: 30, duplicates: 12 }
}

fn kind(kind: &str, values: &[(&str, f64)]) -> KindRow {
    let values = values.iter().map(|(value, share)| ((*value).to_owned(), *share)).collect();
    KindRow { kind: kind.to_owned(), round: 1, name: "learning_rate".to_owned(), values }
}

fn sample() -> Summary {
    Summary {
        title: "ReST-EM on puzzles".to_owned(),
        domain: "puzzles".to_owned(),
        model: "pup 4f1c9a77".to_owned(),
        settings: vec![("edits a context".to_owned(), "15".to_owned())],
        seeds: vec![1, 2],
        rounds: 1,
        rewards: vec![
            reward(1, 1, 0.25, 0.5),
            reward(1, 2, 0.5, 0.75),
            reward(2, 1, 0.2, 0.6),
            reward(2, 2, 0.45, 0.7),
        ],
        rows: vec![
            row("untrained", "Untrained self-edits", 0.2, 0.1),
            row("round_1", "After round 1", 0.625, 0.125),
            row("fixed", "A fixed edit, chosen by people", 0.55, 0.1),
            row("oracle", "Best of all sampled edits", 0.98, 0.03),
        ],
        choices: vec![Choice {
            name: "learning_rate".to_owned(),
            values: vec!["1e-3".to_owned(), "1e-2".to_owned()],
            rounds: vec![vec![0.6, 0.4], vec![0.125, 0.875]],
        }],
        by_kind: vec![kind("shift", &[("1e-2", 1.0)]), kind("recolour", &[("1e-2", 0.75), ("1e-3", 0.25)])],
        cost: Cost {
            seconds: 8130.0,
            inner_loops: 3000,
            inner_loops_per_minute: 22.14,
            training_tokens: 1_234_567,
            by_phase: vec![("sample".to_owned(), 130.0), ("inner loops".to_owned(), 8000.0)],
        },
        notes: vec!["The puzzles are generated.".to_owned()],
    }
}

fn empty() -> Summary {
    Summary {
        title: String::new(),
        domain: "puzzles".to_owned(),
        model: String::new(),
        settings: vec![],
        seeds: vec![],
        rounds: 0,
        rewards: vec![],
        rows: vec![],
        choices: vec![],
        by_kind: vec![],
        cost: Cost {
            seconds: 0.0,
            inner_loops: 0,
            inner_loops_per_minute: f64::NAN,
            training_tokens: 0,
            by_phase: vec![],
        },
        notes: vec![],
    }
}

/// The sample with every number replaced.
fn with_numbers(number: f64) -> Summary {
    let mut summary = sample();
    for point in &mut summary.rewards {
        (point.mean, point.best, point.round) = (number, number, u32::MAX);
    }
    for row in &mut summary.rows {
        (row.share, row.low, row.high, row.seconds) = (number, number, number, number);
        (row.per_seed, row.kept) = (vec![number; 3], Some(number));
    }
    summary.choices[0].rounds.iter_mut().flatten().for_each(|share| *share = number);
    summary.by_kind.iter_mut().flat_map(|row| &mut row.values).for_each(|(_, share)| *share = number);
    summary.cost.by_phase.iter_mut().for_each(|(_, seconds)| *seconds = number);
    (summary.cost.seconds, summary.cost.inner_loops_per_minute) = (number, number);
    summary
}

/// The sample with every text replaced.
fn with_texts(text: &str) -> Summary {
    let mut summary = sample();
    let texts = [&mut summary.title, &mut summary.domain, &mut summary.model].into_iter();
    let texts = texts.chain(summary.settings.iter_mut().flat_map(|(name, value)| [name, value]));
    let texts = texts.chain(summary.rows.iter_mut().map(|row| &mut row.label));
    let texts =
        texts.chain(&mut summary.notes).chain(summary.cost.by_phase.iter_mut().map(|(phase, _)| phase));
    texts.for_each(|old| *old = text.to_owned());
    for choice in &mut summary.choices {
        choice.name = text.to_owned();
        choice.values.iter_mut().for_each(|value| *value = text.to_owned());
    }
    for row in &mut summary.by_kind {
        (row.kind, row.name) = (text.to_owned(), text.to_owned());
        row.values.iter_mut().for_each(|(value, _)| *value = text.to_owned());
    }
    summary
}

/// Many of everything.
fn crowded() -> Summary {
    let mut summary = sample();
    let many = |name: &str| (0..40).map(|n| format!("{name}_{n}")).collect::<Vec<_>>();
    summary.seeds = (0..30).collect();
    summary.rewards =
        (0..30).flat_map(|seed| (1..40).map(move |round| reward(seed, round, -0.5, 2.0))).collect();
    summary.rows.iter_mut().for_each(|row| row.per_seed = vec![0.5; 30]);
    summary.choices[0].values = many("value");
    summary.choices[0].rounds = vec![vec![0.1; 40]; 20];
    summary.by_kind = many("kind").iter().map(|name| kind(name, &[("1e-2", 0.5)])).collect();
    summary.by_kind[0].values = many("value").into_iter().map(|value| (value, 0.1)).collect();
    summary
}

/// One seed of which only a single round is recorded, and uneven lists.
fn sparse() -> Summary {
    let mut summary = sample();
    summary.seeds = vec![1];
    summary.rewards = vec![reward(1, 0, f64::NAN, 0.0)];
    summary.rows.truncate(1);
    summary.rows[0].per_seed.clear();
    summary.rounds = 0;
    summary.choices[0].rounds = vec![vec![], vec![0.5, 0.5, 0.5]];
    summary.by_kind.truncate(1);
    summary.by_kind[0].values.clear();
    summary
}

fn summaries() -> Vec<(&'static str, Summary)> {
    vec![
        ("a sample", sample()),
        ("nothing", empty()),
        ("one seed and no rounds", sparse()),
        ("many of everything", crowded()),
        ("not a number", with_numbers(f64::NAN)),
        ("infinite", with_numbers(f64::INFINITY)),
        ("minus infinite", with_numbers(f64::NEG_INFINITY)),
        ("huge", with_numbers(f64::MAX)),
        ("tiny", with_numbers(f64::MIN_POSITIVE)),
        ("negative", with_numbers(-1.5)),
        ("hostile texts", with_texts(HOSTILE)),
        ("empty texts", with_texts("")),
        ("long texts", with_texts(&"long".repeat(500))),
        ("wide texts", with_texts(&"\u{6f22}\u{5b57}".repeat(100))),
    ]
}

/// The start tags of a page, after a check that elements are closed in the order they were opened and that every
/// attribute is quoted.
fn tags(page: &str) -> Vec<(String, Vec<(String, String)>)> {
    let (mut open, mut found): (Vec<String>, Vec<_>) = (Vec::new(), Vec::new());
    let body = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    for piece in body.split('<').skip(1) {
        let (tag, content) = piece.split_once('>').expect("a tag that ends");
        let in_style = open.last().is_some_and(|name| name == "style") || tag == "style";
        assert!(in_style || !content.contains('>'), "a bare > in {content:?}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed before {content:?}");
            continue;
        }
        let (name, rest) = tag.split_once(' ').unwrap_or((tag, ""));
        let attributes = attributes(rest.trim_end_matches('/'));
        if !(name == "meta" || tag.ends_with('/')) {
            open.push(name.to_owned());
        }
        found.push((name.to_owned(), attributes));
    }
    assert_eq!(open, Vec::<String>::new(), "left open");
    found
}

fn attributes(mut rest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while !rest.trim().is_empty() {
        let (name, value) = rest.split_once("=\"").expect("a quoted attribute");
        let (value, after) = value.split_once('"').expect("an attribute that ends");
        assert!(name.trim().chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "attribute {name:?}");
        found.push((name.trim().to_owned(), value.to_owned()));
        rest = after;
    }
    found
}

#[test]
fn a_page_is_well_formed_whatever_the_summary_holds() {
    for (name, summary) in summaries() {
        let page = html(&summary);
        let tags = tags(&page);
        let values = |wanted: &str| -> Vec<String> {
            let all = tags.iter().flat_map(|(_, attributes)| attributes);
            all.filter(|(name, _)| name == wanted).map(|(_, value)| value.clone()).collect()
        };
        let ids: BTreeSet<String> = values("id").into_iter().collect();
        assert_eq!(ids.len(), values("id").len(), "{name}: an id twice");
        let labels = values("aria-labelledby");
        let named = labels.iter().flat_map(|label| label.split(' '));
        assert_eq!(named.filter(|id| !ids.contains(*id)).count(), 0, "{name}: a label that names nothing");
        let figures = tags.iter().filter(|(tag, _)| tag == "svg").count();
        assert_eq!(page.matches("role=\"img\"").count(), figures, "{name}");
        assert_eq!(page.matches("<desc").count(), figures, "{name}");
    }
}

#[test]
fn a_page_has_the_elements_of_a_report_and_fetches_nothing() {
    const KNOWN: &str = "body caption circle dd desc div dl dt figcaption figure h1 h2 head html li line main meta p \
                         path rect section span style svg table tbody td text th thead title tr ul";
    let known: BTreeSet<&str> = KNOWN.split(' ').collect();
    for (name, summary) in summaries() {
        let page = html(&summary);
        for (tag, attributes) in tags(&page) {
            assert!(known.contains(tag.as_str()), "{name}: <{tag}>");
            for (attribute, value) in attributes {
                assert!(
                    !attribute.starts_with("on") && !["src", "href"].contains(&attribute.as_str()),
                    "{name}"
                );
                let place = ["x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "d", "viewBox"];
                let placed = place.contains(&attribute.as_str());
                assert!(
                    !(placed && (value.contains("NaN") || value.contains("inf"))),
                    "{name}: {tag} {value}"
                );
            }
        }
        for outside in ["http:", "https:", "url(", "@import", "<script"] {
            assert!(!page.contains(outside), "{name}: {outside}");
        }
    }
}

#[test]
fn marks_stay_inside_their_figure() {
    for (name, summary) in summaries() {
        for (tag, attributes) in tags(&html(&summary)) {
            let number = |wanted: &str| {
                let value = attributes.iter().find(|(attribute, _)| attribute == wanted);
                value.map(|(_, value)| value.parse::<f64>().expect("a number"))
            };
            let ends = ["x", "x1", "x2", "cx"].into_iter().filter_map(number);
            let wide = if tag == "rect" {
                number("x").zip(number("width")).map(|(x, width)| x + width)
            } else {
                None
            };
            for x in ends.chain(wide).filter(|_| tag != "svg") {
                assert!((0.0..=720.0).contains(&x), "{name}: <{tag}> at {x}");
            }
        }
    }
}

#[test]
fn names_cannot_leave_their_place() {
    let page = html(&with_texts(HOSTILE));
    assert!(!page.contains("<img"));
    assert!(
        page.contains("<h1>&lt;/script&gt;&lt;/style&gt;&lt;/title&gt;&quot;&#39;&gt;&lt;img src=x onerror=")
    );
    let visible = r"&amp;amp;\u{1b}[31m\u{202e}\u{0}  x</h1>";
    assert!(page.contains(visible), "controls are written out");
    let text = text(&with_texts(HOSTILE));
    let moves = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert_eq!(text.chars().filter(|c| moves(*c)).count(), 0);
}

#[test]
fn lines_of_the_text_have_at_most_a_hundred_columns() {
    for (name, summary) in summaries() {
        let text = text(&summary);
        for line in text.lines() {
            assert!(super::words::width(line) <= 100, "{name}: {line:?}");
            assert_eq!(line, line.trim_end(), "{name}");
        }
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
    }
}

#[test]
fn every_number_of_a_figure_is_in_a_table() {
    let (summary, page) = (sample(), html(&sample()));
    let shares = summary.rows.iter().flat_map(|row| row.per_seed.iter().copied().chain([row.share]));
    let shares = shares.chain(summary.choices[0].rounds.iter().flatten().copied());
    let cells = shares.map(super::words::percent);
    let rewards = summary.rewards.iter().flat_map(|point| [point.mean, point.best]).map(super::words::reward);
    let missing: Vec<String> =
        cells.chain(rewards).filter(|cell| !page.contains(&format!(">{cell}</td>"))).collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn a_summary_reads_back() {
    let written = serde_json::to_string(&sample()).expect("JSON");
    assert_eq!(serde_json::from_str::<Summary>(&written).expect("a summary"), sample());
}

#[test]
fn the_main_result_says_what_was_compared_and_how_it_came_out() {
    type Change = fn(&mut Summary);
    let result = |change: Change| {
        let mut summary = sample();
        summary.notes.clear();
        change(&mut summary);
        super::content::main_result(&summary)
    };
    let cases: [(&str, Change); 8] = [
        ("as it is", |_| {}),
        ("worse than untrained", |summary| summary.rows[1] = row("round_1", "After round 1", 0.15, 0.1)),
        ("clearly better than the control", |summary| {
            summary.rows[2] = row("fixed", "A fixed edit", 0.3, 0.1)
        }),
        ("two rounds, out of order", |summary| {
            summary.rows.insert(0, row("round_2", "After round 2", 0.7, 0.1))
        }),
        ("the first round was better", |summary| summary.rows[2] = row("round_2", "After round 2", 0.5, 0.1)),
        ("one seed, several items, not all kept", |summary| {
            summary.seeds.truncate(1);
            summary.rows.drain(2..);
            (summary.rows[1].items, summary.rows[1].kept) = (150, Some(0.5));
        }),
        ("no interval, nothing to compare with", |summary| {
            summary.rows = vec![AccuracyRow { low: f64::NAN, kept: None, ..row("round_1", "", 0.5, 0.1) }];
        }),
        ("no trained policy", |summary| summary.rows.truncate(1)),
    ];
    let all: Vec<String> = cases.map(|(name, change)| format!("{name}: {}", result(change))).into();
    insta::assert_snapshot!(all.join("\n\n"), @r##"
    as it is: After 1 round of ReST-EM the accuracy on 50 held-out puzzles is 62.5% (95% interval 50.0% to 75.0%). Before training it is 20.0% (95% interval 10.0% to 30.0%): training adds 42.5 points, and the intervals do not overlap. The best control, "A fixed edit, chosen by people", reaches 55.0% (95% interval 45.0% to 65.0%); its interval overlaps with that of the trained policy. The upper bound, "Best of all sampled edits", is 98.0%. Of what the model knew before, 95.0% is kept.

    worse than untrained: After 1 round of ReST-EM the accuracy on 50 held-out puzzles is 15.0% (95% interval 5.0% to 25.0%). Before training it is 20.0% (95% interval 10.0% to 30.0%): training loses 5.0 points, and the intervals overlap. The best control, "A fixed edit, chosen by people", reaches 55.0% (95% interval 45.0% to 65.0%); the trained policy does not beat it. The upper bound, "Best of all sampled edits", is 98.0%. Of what the model knew before, 95.0% is kept.

    clearly better than the control: After 1 round of ReST-EM the accuracy on 50 held-out puzzles is 62.5% (95% interval 50.0% to 75.0%). Before training it is 20.0% (95% interval 10.0% to 30.0%): training adds 42.5 points, and the intervals do not overlap. The best control, "A fixed edit", reaches 30.0% (95% interval 20.0% to 40.0%); its interval is below that of the trained policy. The upper bound, "Best of all sampled edits", is 98.0%. Of what the model knew before, 95.0% is kept.

    two rounds, out of order: After 2 rounds of ReST-EM the accuracy on 50 held-out puzzles is 70.0% (95% interval 60.0% to 80.0%). Before training it is 20.0% (95% interval 10.0% to 30.0%): training adds 50.0 points, and the intervals do not overlap. The best control, "A fixed edit, chosen by people", reaches 55.0% (95% interval 45.0% to 65.0%); its interval overlaps with that of the trained policy. The upper bound, "Best of all sampled edits", is 98.0%. Of what the model knew before, 95.0% is kept.

    the first round was better: After 2 rounds of ReST-EM the accuracy on 50 held-out puzzles is 50.0% (95% interval 40.0% to 60.0%). Before training it is 20.0% (95% interval 10.0% to 30.0%): training adds 30.0 points, and the intervals do not overlap. It was higher after 1 round: 62.5% (95% interval 50.0% to 75.0%). The upper bound, "Best of all sampled edits", is 98.0%. Of what the model knew before, 95.0% is kept.

    one seed, several items, not all kept: After 1 round of ReST-EM the accuracy on 50 held-out puzzles (150 items) is 62.5% (95% interval 50.0% to 75.0%). Before training it is 20.0% (95% interval 10.0% to 30.0%): training adds 42.5 points, and the intervals do not overlap. Of what the model knew before, 50.0% is kept. This is one seed: it does not show how far another run would be from it.

    no interval, nothing to compare with: After 1 round of ReST-EM the accuracy on 50 held-out puzzles is 50.0%.

    no trained policy: The run measured no trained policy on held-out puzzles.
    "##);
}

#[test]
fn the_text_reads_like_this() {
    insta::assert_snapshot!(text(&sample()), @r##"
    ReST-EM on puzzles
    ==================
    Model   pup 4f1c9a77
    Domain  puzzles
    Rounds  1
    Seeds   1, 2

    After 1 round of ReST-EM the accuracy on 50 held-out puzzles is 62.5% (95% interval 50.0% to 75.0%).
    Before training it is 20.0% (95% interval 10.0% to 30.0%): training adds 42.5 points, and the
    intervals do not overlap. The best control, "A fixed edit, chosen by people", reaches 55.0% (95%
    interval 45.0% to 65.0%); its interval overlaps with that of the trained policy. The upper bound,
    "Best of all sampled edits", is 98.0%. Of what the model knew before, 95.0% is kept. The notes at
    the end say what to know before quoting a number.

    Reward by round
    ---------------
    Rewards of the edits that the policy sampled for training. Best is the reward of a context's best
    edit, as a mean over contexts.

    Mean and best reward: o mean, x best, from 0.000 to 0.750
    seed 1, round 1           |                o                x                |
    seed 1, round 2           |                                 o               x|
    seed 2, round 1           |             o                         x          |
    seed 2, round 2           |                             o                x   |

    Rewards of the sampled edits:
    Seed  Round   Mean   Best  Edits  Refused  Duplicates
    ----  -----  -----  -----  -----  -------  ----------
    1         1  0.250  0.500    750       30          12
    1         2  0.500  0.750    750       30          12
    2         1  0.200  0.600    750       30          12
    2         2  0.450  0.700    750       30          12

    Accuracy on held-out puzzles
    ----------------------------
    Accuracy by condition:
    Condition                       Accuracy     95% interval  Contexts  Items   Kept        Time
    ------------------------------  --------  ---------------  --------  -----  -----  ----------
    Untrained self-edits               20.0%   10.0% to 30.0%        50     50  95.0%  1 min 15 s
    After round 1                      62.5%   50.0% to 75.0%        50     50  95.0%  1 min 15 s
    A fixed edit, chosen by people     55.0%   45.0% to 65.0%        50     50  95.0%  1 min 15 s
    Best of all sampled edits          98.0%  95.0% to 100.0%        50     50    n/a  1 min 15 s

    Accuracy with 95% intervals: from 0% to 100%
    Untrained self-edits            |     -----o-----                                  |  20.0%
    After round 1                   |                         ------o------            |  62.5%
    A fixed edit, chosen by people  |                      -----o-----                 |  55.0%
    Best of all sampled edits       |                                               -o-|  98.0%

    Accuracy by seed:
    Condition                       seed 1  seed 2
    ------------------------------  ------  ------
    Untrained self-edits             18.0%   22.0%
    After round 1                    60.5%   64.5%
    A fixed edit, chosen by people   53.0%   57.0%
    Best of all sampled edits        96.0%  100.0%

    What the policy chooses
    -----------------------
    Share of the sampled edits that choose each value, by the round that the policy has behind it.

    learning_rate by round: from 0% to 100% of the edits
    1e-3  untrained    |##############################                    |  60.0%
          round 1      |######                                            |  12.5%
    1e-2  untrained    |####################                              |  40.0%
          round 1      |############################################      |  87.5%

    learning_rate: share of edits:
    learning_rate  untrained  round 1
    -------------  ---------  -------
    1e-3               60.0%    12.5%
    1e-2               40.0%    87.5%

    Whether the choice depends on the context
    -----------------------------------------
    learning_rate, round 1: the kinds differ most in 1e-2, which 100.0% of the edits for shift choose
    and 75.0% of those for recolour.

    learning_rate, round 1: share of the edits for each kind:
    Kind       1e-3    1e-2
    --------  -----  ------
    shift      0.0%  100.0%
    recolour  25.0%   75.0%

    Cost
    ----
    In all:
    What                                How much
    --------------------------------  ----------
    Time                              2 h 15 min
    Inner loops                            3,000
    Inner loops a minute                    22.1
    Tokens trained on in inner loops   1,234,567

    Time by phase:
    Phase              Time  Share
    -----------  ----------  -----
    sample       2 min 10 s   1.6%
    inner loops  2 h 13 min  98.4%

    Settings
    --------
    Settings of the run:
    Setting          Value
    ---------------  -----
    edits a context  15

    Notes
    -----
    - The puzzles are generated.
    "##);
    insta::assert_snapshot!(text(&empty()), @r##"
    Model
    Domain  puzzles
    Rounds  0
    Seeds   none

    The run measured no trained policy on held-out puzzles.

    Reward by round
    ---------------
    The run has no rewards.

    Accuracy on held-out puzzles
    ----------------------------
    The run has no measurements on held-out contexts.

    What the policy chooses
    -----------------------
    The run has no record of what was chosen.

    Whether the choice depends on the context
    -----------------------------------------
    The run has no record of what was chosen for which kind of context.

    Cost
    ----
    In all:
    What                              How much
    --------------------------------  --------
    Time                                 0.0 s
    Inner loops                              0
    Inner loops a minute                   n/a
    Tokens trained on in inner loops         0

    Settings
    --------
    The run has no recorded settings.

    Notes
    -----
    The run has no notes.
    "##);
}

#[test]
fn tables_that_are_too_wide_go_on_below() {
    let mut summary = empty();
    let values = (0..9).map(|n| (format!("tool_number_{n}"), f64::from(n) / 10.0)).collect();
    summary.by_kind = vec![KindRow { kind: "shift".into(), round: 0, name: "tools".into(), values }];
    let text = text(&summary);
    let (_, table) = text.split_once("the context\n").expect("the section");
    insta::assert_snapshot!(table.split_once("\nCost").expect("the next section").0, @r##"
    -----------------------------------------
    tools, untrained: share of the edits for each kind:
    Kind   tool_number_0  tool_number_1  tool_number_2  tool_number_3  tool_number_4  tool_number_5
    -----  -------------  -------------  -------------  -------------  -------------  -------------
    shift           0.0%          10.0%          20.0%          30.0%          40.0%          50.0%

    Kind   tool_number_6  tool_number_7  tool_number_8
    -----  -------------  -------------  -------------
    shift          60.0%          70.0%          80.0%
    "##);
}
