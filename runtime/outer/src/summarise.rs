//! From a run's ledger, or those of several runs with the same settings but for their seeds, to its [`Summary`].
//!
//! Intervals treat a context as the unit: its share is the mean over seeds, edits and inner loops, and the interval is
//! Wilson's with as many trials as would give the spread between contexts that was seen. More edits of one context
//! do not make an interval narrower than that.

use std::collections::{BTreeMap, BTreeSet};

use selkie_edit::Domain;
use selkie_store::{RunLedger, RunRow};

use crate::episode::{Episode, Outcome};
use crate::error::OuterError;
use crate::reward::grade;
use crate::run::GIVEN;
use crate::settings::{Condition, Settings};
use crate::summary::{AccuracyRow, Choice, Cost, KindRow, RewardPoint, Summary};
use crate::trial::episode;

/// A row of a ledger, taken apart.
struct Piece {
    seed: u64,
    stage: String,
    place: usize,
    sample: usize,
    seconds: f64,
    episode: Episode,
}

/// Everything that ledgers say.
struct Pieces {
    pieces: Vec<Piece>,
    /// Seconds by phase, of rows that are no episodes too.
    phases: BTreeMap<&'static str, f64>,
}

/// The settings that a run's folder was begun with.
///
/// # Errors
/// When there are none, or they are of another version.
pub fn settings_of(ledger: &RunLedger) -> Result<Settings, OuterError> {
    let found = ledger.settings()?.unwrap_or_default();
    serde_json::from_value(found)
        .map_err(|error| OuterError::Settings(format!("the run's settings cannot be read: {error}")))
}

/// What came of runs that differ in their seeds alone.
///
/// # Errors
/// Ledgers of different settings, or rows that cannot be read.
pub fn summarise(ledgers: &[RunLedger]) -> Result<Summary, OuterError> {
    let mut all = Vec::new();
    for ledger in ledgers {
        all.push(settings_of(ledger)?);
    }
    let Some(settings) = all.first().cloned() else {
        return Err(OuterError::Settings("there is no run to report on".to_owned()));
    };
    let mut seeds: Vec<u64> = Vec::new();
    for other in &all {
        if (Settings { seeds: settings.seeds.clone(), ..other.clone() }) != settings {
            let reason =
                "the runs have different settings; only runs that differ in their seeds go into one report";
            return Err(OuterError::Settings(reason.to_owned()));
        }
        seeds.extend(&other.seeds);
    }
    let pieces = read(ledgers)?;
    // A run that is under way, or was stopped, has not compared every round.
    let compared = (0..=settings.rounds)
        .filter(|&round| pieces.of(&stage_of(round)).next().is_some())
        .max()
        .unwrap_or(0);
    let names = conditions(&settings);
    let mut rows: Vec<AccuracyRow> =
        names.iter().filter_map(|(id, label)| accuracy(id, label, &pieces, &seeds)).collect();
    rows.extend(oracle(&pieces, &names, &seeds));
    Ok(Summary {
        title: match settings.domain {
            Domain::Puzzle => "ReST-EM on puzzles".to_owned(),
            Domain::Passage => "ReST-EM on passages".to_owned(),
        },
        domain: match settings.domain {
            Domain::Puzzle => "puzzles".to_owned(),
            Domain::Passage => "passages".to_owned(),
        },
        model: format!("{} ({})", settings.model_name, settings.model.get(..12).unwrap_or(&settings.model)),
        settings: shown(&settings),
        rewards: rewards(&pieces, &settings, &seeds),
        rows,
        choices: learned(&pieces, compared),
        by_kind: by_kind(&pieces, &settings, compared),
        cost: cost(&pieces),
        notes: notes(&pieces, &settings),
        rounds: settings.rounds,
        seeds,
    })
}

fn read(ledgers: &[RunLedger]) -> Result<Pieces, OuterError> {
    let mut all = Pieces { pieces: Vec::new(), phases: BTreeMap::new() };
    for row in ledgers.iter().map(|ledger| ledger.rows("")).collect::<Result<Vec<_>, _>>()?.iter().flatten() {
        let mut parts = row.key.split('/');
        let (Some(seed), Some(stage)) = (parts.next().and_then(|seed| seed.parse().ok()), parts.next())
        else {
            continue;
        };
        *all.phases.entry(phase(stage)).or_default() += row.seconds;
        if let Some(piece) = piece(seed, stage, parts, row)? {
            all.pieces.push(piece);
        }
    }
    Ok(all)
}

fn piece<'a>(
    seed: u64,
    stage: &str,
    mut parts: impl Iterator<Item = &'a str>,
    row: &RunRow,
) -> Result<Option<Piece>, OuterError> {
    let place = parts.next().and_then(|place| place.parse().ok());
    let sample = parts.next().and_then(|sample| sample.parse().ok());
    let (Some(place), Some(sample), true) = (place, sample, row.record.get("outcome").is_some()) else {
        return Ok(None);
    };
    let (stage, seconds) = (stage.to_owned(), row.seconds);
    Ok(Some(Piece { seed, stage, place, sample, seconds, episode: episode(row)? }))
}

fn phase(stage: &str) -> &'static str {
    match stage {
        stage if stage.ends_with("-rollout") => "drawing and trying self-edits",
        stage if stage.ends_with("-policy") || stage.ends_with("-unfiltered") => "imitating",
        _ => "comparing on held-out contexts",
    }
}

/// Ids and labels of the table's rows, in order.
fn conditions(settings: &Settings) -> Vec<(String, String)> {
    let rounds = |_: &Condition| {
        (1..=settings.rounds)
            .map(|round| (format!("round_{round}"), format!("self-edits after round {round}")))
            .collect()
    };
    let of = settings.evaluation.conditions.iter().flat_map(|condition| match condition {
        Condition::Rounds => rounds(condition),
        other => vec![(other.id().to_owned(), other.label().to_owned())],
    });
    of.chain([(GIVEN.to_owned(), "self-edits of the policy that was given".to_owned())]).collect()
}

impl Pieces {
    fn of<'a>(&'a self, stage: &'a str) -> impl Iterator<Item = &'a Piece> {
        self.pieces.iter().filter(move |piece| piece.stage == stage)
    }

    /// The share solved by each edit of a stage, by seed, place and sample; an edit's is the mean of its loops.
    fn shares(&self, stage: &str) -> BTreeMap<(u64, usize, usize), f64> {
        let mut episodes: BTreeMap<(u64, usize), BTreeMap<usize, Vec<Episode>>> = BTreeMap::new();
        for piece in self.of(stage) {
            let edits = episodes.entry((piece.seed, piece.place)).or_default();
            edits.entry(piece.sample).or_default().push(piece.episode.clone());
        }
        let mut shares = BTreeMap::new();
        for ((seed, place), edits) in episodes {
            let samples: Vec<usize> = edits.keys().copied().collect();
            let all: Vec<Vec<Episode>> = edits.into_values().collect();
            for (sample, share) in samples.into_iter().zip(crate::run::shares(&all)) {
                shares.insert((seed, place, sample), share);
            }
        }
        shares
    }
}

fn accuracy(id: &str, label: &str, pieces: &Pieces, seeds: &[u64]) -> Option<AccuracyRow> {
    let shares = pieces.shares(id);
    if shares.is_empty() {
        return None;
    }
    let kept: Vec<f64> =
        pieces.of(id).filter_map(|piece| Some(piece.episode.measured()?.kept?.share())).collect();
    let items = pieces.of(id).filter_map(|piece| Some(piece.episode.measured()?.solved.len())).sum();
    let seconds = pieces.of(id).map(|piece| piece.seconds).sum();
    let kept = (!kept.is_empty()).then(|| mean(&kept));
    Some(accuracy_row(id, label, &shares, seeds, items, kept, seconds))
}

fn accuracy_row(
    id: &str,
    label: &str,
    shares: &BTreeMap<(u64, usize, usize), f64>,
    seeds: &[u64],
    items: usize,
    kept: Option<f64>,
    seconds: f64,
) -> AccuracyRow {
    let mut by_place: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    shares.iter().for_each(|(&(_, place, _), &share)| by_place.entry(place).or_default().push(share));
    let contexts: Vec<f64> = by_place.values().map(|shares| mean(shares)).collect();
    let (low, high) = interval(&contexts);
    let of_seed = |&seed: &u64| {
        let own: Vec<f64> =
            shares.iter().filter(|((s, ..), _)| *s == seed).map(|(_, &share)| share).collect();
        mean(&own)
    };
    AccuracyRow {
        condition: id.to_owned(),
        label: label.to_owned(),
        share: mean(&contexts),
        low,
        high,
        per_seed: seeds.iter().map(of_seed).collect(),
        contexts: contexts.len(),
        items,
        kept,
        seconds,
    }
}

/// The best edit of every context among all that were tried on it, whoever wrote it.
fn oracle(pieces: &Pieces, names: &[(String, String)], seeds: &[u64]) -> Option<AccuracyRow> {
    let mut best: BTreeMap<(u64, usize, usize), f64> = BTreeMap::new();
    let tried = |id: &str| !["no_edit", "in_context", "matched"].contains(&id);
    for (id, _) in names.iter().filter(|(id, _)| tried(id)) {
        for ((seed, place, _), share) in pieces.shares(id) {
            let entry = best.entry((seed, place, 0)).or_default();
            *entry = entry.max(share);
        }
    }
    (!best.is_empty())
        .then(|| accuracy_row("oracle", "oracle: the best edit that was tried", &best, seeds, 0, None, 0.0))
}

/// 95%, of the mean of shares.
fn interval(shares: &[f64]) -> (f64, f64) {
    const Z: f64 = 1.96;
    let n = shares.len() as f64;
    if shares.is_empty() {
        return (0.0, 1.0);
    }
    let p = mean(shares);
    let variance = shares.iter().map(|share| (share - p).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n;
    // Trials of yes and no that would be as uncertain; at least one a context.
    let trials = if variance > 0.0 { (p * (1.0 - p) / variance).max(n) } else { n };
    let centre = (p + Z * Z / (2.0 * trials)) / (1.0 + Z * Z / trials);
    let half = Z / (1.0 + Z * Z / trials) * (p * (1.0 - p) / trials + Z * Z / (4.0 * trials * trials)).sqrt();
    ((centre - half).max(0.0), (centre + half).min(1.0))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn rewards(pieces: &Pieces, settings: &Settings, seeds: &[u64]) -> Vec<RewardPoint> {
    let point = |(seed, round): (u64, u32)| {
        let stage = format!("{round}-rollout");
        let own: Vec<&Piece> = pieces.of(&stage).filter(|piece| piece.seed == seed).collect();
        let mut loops: BTreeMap<(usize, usize), Vec<crate::reward::Measured>> = BTreeMap::new();
        for piece in &own {
            if let Some(measured) = piece.episode.measured() {
                loops.entry((piece.place, piece.sample)).or_default().push(measured.clone());
            }
        }
        let mut by_place: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for ((place, sample), loops) in &loops {
            if let Some(graded) = grade(*sample, loops, settings.retention) {
                by_place.entry(*place).or_default().push(graded.reward);
            }
        }
        let best: Vec<f64> = by_place
            .values()
            .map(|rewards| rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max))
            .collect();
        let all: Vec<f64> = by_place.into_values().flatten().collect();
        let count =
            |is: &dyn Fn(&Outcome) -> bool| own.iter().filter(|piece| is(&piece.episode.outcome)).count();
        (!own.is_empty()).then(|| RewardPoint {
            seed,
            round,
            mean: mean(&all),
            best: mean(&best),
            edits: all.len(),
            refused: count(&|outcome| matches!(outcome, Outcome::Refused { .. })),
            duplicates: count(&|outcome| matches!(outcome, Outcome::Duplicate { .. })),
        })
    };
    let points = seeds.iter().flat_map(|&seed| (1..=settings.rounds).map(move |round| (seed, round)));
    points.filter_map(point).collect()
}

/// The stage in which a round's policy was compared; round 0 is the base model.
fn stage_of(round: u32) -> String {
    if round == 0 { Condition::Untrained.id().to_owned() } else { format!("round_{round}") }
}

/// Shares of the values of one choice among pieces, in the order of `values`.
fn distribution<'a>(pieces: impl Iterator<Item = &'a Piece>, name: &str, values: &[String]) -> Vec<f64> {
    let mut counts = vec![0.0; values.len()];
    let mut seen = BTreeSet::new();
    for piece in pieces {
        let chosen = piece.episode.choices.get(name);
        let at = chosen.and_then(|chosen| values.iter().position(|value| value == chosen));
        // An edit counts once, however often it was trained.
        if let Some(at) = at.filter(|_| seen.insert((piece.seed, piece.place, piece.sample))) {
            counts[at] += 1.0;
        }
    }
    let total: f64 = counts.iter().sum();
    counts.into_iter().map(|count| if total > 0.0 { count / total } else { 0.0 }).collect()
}

/// Every value that a choice has had, numbers in order of size.
fn values_of(pieces: &Pieces, rounds: u32, name: &str) -> Vec<String> {
    let stages: Vec<String> = (0..=rounds).map(stage_of).collect();
    let found: BTreeSet<String> = stages
        .iter()
        .flat_map(|stage| pieces.of(stage))
        .filter_map(|piece| piece.episode.choices.get(name).cloned())
        .collect();
    let mut values: Vec<String> = found.into_iter().collect();
    let number = |value: &String| value.parse::<f64>().unwrap_or(f64::INFINITY);
    values.sort_by(|one, other| number(one).total_cmp(&number(other)).then(one.cmp(other)));
    values
}

fn choice_names(pieces: &Pieces) -> BTreeSet<String> {
    pieces.pieces.iter().flat_map(|piece| piece.episode.choices.keys().cloned()).collect()
}

fn learned(pieces: &Pieces, rounds: u32) -> Vec<Choice> {
    let choice = |name: String| {
        let values = values_of(pieces, rounds, &name);
        let rounds =
            (0..=rounds).map(|round| distribution(pieces.of(&stage_of(round)), &name, &values)).collect();
        Choice { name, values, rounds }
    };
    choice_names(pieces).into_iter().map(choice).filter(|choice| !choice.values.is_empty()).collect()
}

/// What is chosen for each kind of context, before and after.
fn by_kind(pieces: &Pieces, settings: &Settings, compared: u32) -> Vec<KindRow> {
    let kind_of = |place: usize| settings.kinds.get(place);
    let kinds: BTreeSet<&String> = settings.kinds.iter().collect();
    let mut rows = Vec::new();
    for name in ["colors", "copies", "tools"] {
        let values = values_of(pieces, compared, name);
        for (kind, round) in kinds.iter().flat_map(|kind| [0, compared].map(|round| (kind, round))) {
            let stage = stage_of(round);
            let own = pieces.of(&stage).filter(|piece| kind_of(piece.place) == Some(*kind));
            let shares = distribution(own, name, &values);
            let values = values.iter().cloned().zip(shares).collect();
            rows.push(KindRow { kind: (*kind).clone(), round, name: name.to_owned(), values });
        }
    }
    rows
}

fn cost(pieces: &Pieces) -> Cost {
    let measured: Vec<&Piece> = pieces
        .pieces
        .iter()
        .filter(|piece| piece.episode.measured().is_some_and(|one| one.steps > 0))
        .collect();
    let seconds: f64 = pieces.phases.values().sum();
    let loops = measured.len() as u64;
    let training: f64 = measured.iter().map(|piece| piece.seconds).sum();
    Cost {
        seconds,
        inner_loops: loops,
        inner_loops_per_minute: if training > 0.0 { loops as f64 / training * 60.0 } else { 0.0 },
        training_tokens: measured.iter().filter_map(|piece| Some(piece.episode.measured()?.tokens)).sum(),
        by_phase: pieces.phases.iter().map(|(name, seconds)| ((*name).to_owned(), *seconds)).collect(),
    }
}

fn notes(pieces: &Pieces, settings: &Settings) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Policies learn from {} contexts and are compared on {} others.",
            settings.training_contexts.len(),
            settings.held_out.len()
        ),
        "Intervals are 95% with the context as the unit.".to_owned(),
        "The oracle chooses among all edits by the answers themselves: an upper bound, not a method."
            .to_owned(),
    ];
    let checked: Vec<u32> =
        pieces.pieces.iter().filter_map(|piece| piece.episode.measured()?.disagreements).collect();
    if !checked.is_empty() {
        let items: usize = pieces
            .pieces
            .iter()
            .filter_map(|piece| piece.episode.measured())
            .filter(|measured| measured.disagreements.is_some())
            .map(|measured| measured.solved.len())
            .sum();
        let differing: u32 = checked.iter().sum();
        notes.push(format!(
            "Greedy decoding was run beside the forward pass on {items} items: {differing} verdicts differ."
        ));
    }
    notes
}

/// Settings as a table for people.
fn shown(settings: &Settings) -> Vec<(String, String)> {
    let cloning = &settings.cloning;
    let evaluation = &settings.evaluation;
    let text = |name: &str, value: String| (name.to_owned(), value);
    vec![
        text("training contexts", settings.training_contexts.len().to_string()),
        text("held-out contexts", settings.held_out.len().to_string()),
        text("rounds", settings.rounds.to_string()),
        text("self-edits a context and round", settings.samples.to_string()),
        text("trainings of each self-edit", settings.repeats.to_string()),
        text(
            "drawn at",
            format!("temperature {}, top-p {}", settings.drawing.temperature, settings.drawing.top_p),
        ),
        text("proxy", format!("{:?}, {:.0}% tried in full", settings.proxy, settings.survivors * 100.0)),
        text("price of forgetting", settings.retention.to_string()),
        text(
            "imitation",
            format!(
                "{:?} (at most {} a context), LoRA rank {} alpha {}, learning rate {}, {} epochs of batches of {}",
                settings.winners,
                settings.winners_per_context,
                cloning.rank,
                cloning.alpha,
                cloning.learning_rate,
                cloning.epochs,
                cloning.batch_size
            ),
        ),
        text(
            "comparison",
            format!(
                "{} self-edits a context, {} trainings each, {} votes",
                evaluation.samples, evaluation.repeats, evaluation.votes
            ),
        ),
    ]
}

/// The main numbers as JSON lines, as training programs write them: the reward of every round, then the rows of the
/// table.
///
/// # Errors
/// A number that JSON cannot hold.
pub fn metrics(summary: &Summary) -> Result<String, OuterError> {
    let failed =
        |error: serde_json::Error| OuterError::Settings(format!("metrics cannot be written: {error}"));
    let rewards = summary.rewards.iter().map(|point| serde_json::to_string(point).map_err(failed));
    let rows = summary.rows.iter().map(|row| serde_json::to_string(row).map_err(failed));
    rewards.chain(rows).map(|line| Ok(line? + "\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_as_wide_as_the_contexts_differ() {
        let check = |shares: &[f64], low: f64, high: f64| {
            let (found_low, found_high) = interval(shares);
            let near = |one: f64, other: f64| (one - other).abs() < 5e-4;
            assert!(near(found_low, low) && near(found_high, high), "{shares:?}: {found_low} {found_high}");
        };
        // Wilson's for 5 of 10.
        check(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 0.2366, 0.7634);
        // No spread says nothing of the next context: Wilson's for 0 and for 10 of 10.
        check(&[0.0; 10], 0.0, 0.2775);
        check(&[1.0; 10], 0.7225, 1.0);
        // Contexts that agree are worth more than yes and no.
        check(&[0.5, 0.6, 0.4, 0.5, 0.6, 0.4, 0.5, 0.6, 0.4, 0.5], 0.4500, 0.5500);
        check(&[], 0.0, 1.0);
    }
}
