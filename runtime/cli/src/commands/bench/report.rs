//! What both sides measured, side by side.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::request::{Answer, Work};

/// Losses of the two sides may differ by this much: they sum in different orders.
const LOSS_TOLERANCE: f64 = 1e-3;

/// The result of a benchmark.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// What was asked.
    pub(super) settings: serde_json::Value,
    /// What times are given for: `step`, `token` or `self-edit`.
    pub(super) per: &'static str,
    /// This program.
    pub(super) ours: Side,
    /// Python, where it was measured.
    pub(super) theirs: Option<Side>,
    /// Ours by theirs, the least of each.
    pub(super) ratio: Option<Measured>,
    /// The largest difference of the losses of a step, where both sides do the same steps and all losses are finite.
    pub(super) losses_differ_by: Option<f64>,
    /// Whether that is small enough; if not, the times are of different work and mean nothing.
    pub(super) losses_agree: Option<bool>,
    /// How many generated tokens are the same before the first that is not.
    pub(super) same_tokens: Option<usize>,
}

/// One side.
#[derive(Debug, Serialize)]
pub(super) struct Side {
    /// Every repeat, in order.
    repeats: Vec<Measured>,
    /// The least of the repeats, number by number.
    least: Measured,
    /// The losses of the first repeat.
    losses: Vec<Option<f64>>,
    /// The tokens of the first repeat.
    #[serde(skip)]
    tokens: Vec<u32>,
    /// What computed, by name.
    versions: BTreeMap<String, String>,
}

/// One of the numbers.
type Pick = fn(&Measured) -> Option<f64>;

/// Three numbers, or three ratios.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Measured {
    /// CPU time of the process.
    cpu_ms: Option<f64>,
    /// Wall time.
    wall_ms: Option<f64>,
    /// Peak memory of the process.
    peak_rss_mb: Option<f64>,
}

impl Measured {
    fn of(answer: &Answer, units: usize) -> Measured {
        let per = |ms: f64| ms / units.max(1) as f64;
        Measured {
            cpu_ms: answer.cpu_ms.map(per),
            wall_ms: Some(per(answer.wall_ms)),
            peak_rss_mb: answer.peak_rss_mb,
        }
    }

    /// The two, number by number; `None` where either is.
    fn zip(self, other: Measured, combine: impl Fn(f64, f64) -> f64) -> Measured {
        let both = |a: Option<f64>, b: Option<f64>| Some(combine(a?, b?));
        Measured {
            cpu_ms: both(self.cpu_ms, other.cpu_ms),
            wall_ms: both(self.wall_ms, other.wall_ms),
            peak_rss_mb: both(self.peak_rss_mb, other.peak_rss_mb),
        }
    }
}

impl Side {
    /// The repeats of a side, of which there is at least one.
    fn of(answers: Vec<Answer>, units: usize) -> Option<Side> {
        let repeats: Vec<Measured> = answers.iter().map(|answer| Measured::of(answer, units)).collect();
        let least = repeats.iter().copied().reduce(|a, b| a.zip(b, f64::min))?;
        let Answer { losses, tokens, versions, .. } = answers.into_iter().next()?;
        Some(Side { repeats, least, losses, tokens, versions })
    }
}

impl Report {
    /// Puts the answers together; `None` when our side has none.
    pub(super) fn of(
        settings: serde_json::Value,
        work: &Work,
        ours: Vec<Answer>,
        theirs: Vec<Answer>,
    ) -> Option<Report> {
        let ours = Side::of(ours, work.units())?;
        let theirs = Side::of(theirs, work.python_units());
        let mut report = Report {
            settings,
            per: match work {
                Work::Train { .. } => "step",
                Work::SealEdit { .. } => "self-edit",
                Work::Decode { .. } => "token",
            },
            ratio: theirs.as_ref().map(|theirs| ours.least.zip(theirs.least, |ours, theirs| ours / theirs)),
            losses_differ_by: None,
            losses_agree: None,
            same_tokens: None,
            ours,
            theirs,
        };
        report.compare(work);
        Some(report)
    }

    fn compare(&mut self, work: &Work) {
        let Some(theirs) = &self.theirs else { return };
        match work {
            Work::Train { .. } => {
                let difference = largest_difference(&self.ours.losses, &theirs.losses);
                self.losses_differ_by = difference;
                self.losses_agree = Some(difference.is_some_and(|difference| difference < LOSS_TOLERANCE));
            }
            Work::Decode { .. } => {
                let pairs = self.ours.tokens.iter().zip(&theirs.tokens);
                self.same_tokens = Some(pairs.take_while(|(ours, theirs)| ours == theirs).count());
            }
            // The pads are in their loss.
            Work::SealEdit { .. } => {}
        }
    }

    /// A short table.
    pub(super) fn table(&self) -> String {
        let mut text = format!("{:<22}{:>12}{:>12}{:>10}\n", "", "selkie", "python", "ratio");
        let rows: [(String, Pick); 3] = [
            (format!("CPU ms a {}", self.per), |measured| measured.cpu_ms),
            (format!("wall ms a {}", self.per), |measured| measured.wall_ms),
            ("peak memory, MB".to_owned(), |measured| measured.peak_rss_mb),
        ];
        // Writing to a String cannot fail.
        for (name, pick) in rows {
            let theirs = self.theirs.as_ref().and_then(|side| pick(&side.least));
            let cells = [show(pick(&self.ours.least), 1), show(theirs, 1)];
            let ratio = show(self.ratio.as_ref().and_then(pick), 2);
            let _ = writeln!(text, "{name:<22}{:>12}{:>12}{ratio:>10}", cells[0], cells[1]);
        }
        if self.per == "token" {
            let speed = |side: &Side| side.least.cpu_ms.map(|ms| 1e3 / ms);
            let (ours, theirs) = (speed(&self.ours), self.theirs.as_ref().and_then(speed));
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            let cells = [show(ours, 1), show(theirs, 1), show(ratio, 2)];
            let name = "tokens a CPU second";
            let _ = writeln!(text, "{name:<22}{:>12}{:>12}{:>10}", cells[0], cells[1], cells[2]);
        }
        if let Some(same) = self.same_tokens {
            let _ = writeln!(text, "the first {same} of {} tokens are the same", self.ours.tokens.len());
        }
        let difference = self.losses_differ_by.map(|by| format!("; they differ by at most {by:.1e}"));
        if let Some(agree) = self.losses_agree {
            let verdict = if agree { "agree" } else { "DO NOT AGREE: the times are of different work" };
            let _ = writeln!(text, "losses {verdict}{}", difference.unwrap_or_default());
        }
        text
    }
}

/// `None` where a loss is missing on a side.
fn largest_difference(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<f64> {
    if ours.len() != theirs.len() {
        return None;
    }
    let pairs = ours.iter().zip(theirs);
    pairs
        .map(|(ours, theirs)| Some(((*ours)? - (*theirs)?).abs()))
        .try_fold(0.0, |largest: f64, next| Some(largest.max(next?)))
}

fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}
