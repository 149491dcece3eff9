//! How well `grade.rubric` predicts what training on a self-edit brings: on recorded self-edits of passages, each with
//! the accuracy of an adapter that was trained on it. `measured/README.md` has the results.
//!
//! `cargo run --release --example rubric_study -- FILE`, where FILE is `seal/recorded_self_edits.json` of SELKIE_DATA.

use std::process::ExitCode;

use graders::rubric::{Counts, Weights};
use selkie_sdk::Rng;
use serde_json::Value;

const RESAMPLES: usize = 10_000;
const FOLDS: usize = 10;
const SHUFFLES: usize = 20;

/// SD between three training runs of one self-edit that differ in the seed alone, and runs a recorded accuracy is
/// the mean of. Both are the recording's.
const SEED_SD: f64 = 0.159;
const SEEDS: f64 = 3.0;

/// One passage's self-edits.
struct Passage {
    counts: Vec<Counts>,
    words: Vec<f64>,
    accuracy: Vec<f64>,
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("usage: rubric_study FILE");
        return ExitCode::FAILURE;
    };
    let text = std::fs::read_to_string(&path).expect("the file");
    let passages = read(&serde_json::from_str(&text).expect("JSON"));
    let edits: usize = passages.iter().map(|passage| passage.accuracy.len()).sum();
    println!("{} passages, {edits} self-edits", passages.len());

    let scored = |score: &dyn Fn(&Passage, usize) -> f64| -> Vec<Vec<f64>> {
        let of = |passage: &Passage| (0..passage.accuracy.len()).map(|edit| score(passage, edit)).collect();
        passages.iter().map(of).collect()
    };
    println!("\n| score | Spearman | 95% | best of 5 better / same / worse | gain | 95% |");
    println!("| --- | --- | --- | --- | --- | --- |");
    row(
        "rubric, as it is",
        &passages,
        &scored(&|passage, edit| passage.counts[edit].score(Weights::default())),
    );
    row("length in words", &passages, &scored(&|passage, edit| passage.words[edit]));
    row("coverage alone", &passages, &scored(&|passage, edit| passage.counts[edit].coverage));
    row("names alone", &passages, &scored(&|passage, edit| passage.counts[edit].names));
    row("support alone", &passages, &scored(&|passage, edit| passage.counts[edit].support));
    row("novelty alone", &passages, &scored(&|passage, edit| passage.counts[edit].novelty));
    row("diversity alone", &passages, &scored(&|passage, edit| passage.counts[edit].diversity));
    cross_validate(&passages);
    random(&passages);
    ceiling(&passages);
    ExitCode::SUCCESS
}

fn read(recorded: &Value) -> Vec<Passage> {
    let articles = recorded["articles"].as_array().expect("articles");
    articles.iter().map(passage).collect()
}

fn passage(article: &Value) -> Passage {
    let context = article["context"].as_str().expect("a passage");
    let completions = article["completions"].as_array().expect("completions");
    let documents: Vec<Vec<String>> = completions
        .iter()
        .map(|completion| {
            let lines = completion["text"].as_str().expect("a text").lines().map(str::trim);
            lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
        })
        .collect();
    let count =
        |documents: &Vec<String>| documents.iter().flat_map(|text| text.split_whitespace()).count() as f64;
    let accuracy =
        completions.iter().map(|completion| completion["adapter_mean_accuracy"].as_f64().expect("a number"));
    Passage {
        counts: documents.iter().map(|documents| Counts::of(context, documents)).collect(),
        words: documents.iter().map(count).collect(),
        accuracy: accuracy.collect(),
    }
}

/// One line of the table.
fn row(name: &str, passages: &[Passage], scores: &[Vec<f64>]) {
    let pairs = || passages.iter().zip(scores);
    let correlations: Vec<f64> =
        pairs().map(|(passage, scores)| spearman(scores, &passage.accuracy)).collect();
    let gains: Vec<f64> = pairs().map(|(passage, scores)| gain(scores, &passage.accuracy)).collect();
    let count = |fits: &dyn Fn(f64) -> bool| gains.iter().filter(|gain| fits(**gain)).count();
    let (better, worse) = (count(&|gain| gain > 1e-9), count(&|gain| gain < -1e-9));
    let same = gains.len() - better - worse;
    let (low, high) = interval(&correlations);
    let (gain_low, gain_high) = interval(&gains);
    println!(
        "| {name} | {:+.3} | {low:+.3} to {high:+.3} | {better} / {same} / {worse} | {:+.4} | {gain_low:+.4} to {gain_high:+.4} |",
        mean(&correlations),
        mean(&gains),
    );
}

/// Accuracy of the self-edit with the highest score (several share evenly) above the passage's mean.
fn gain(scores: &[f64], accuracy: &[f64]) -> f64 {
    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
    let best: Vec<f64> = scores
        .iter()
        .zip(accuracy)
        .filter(|(score, _)| **score == highest)
        .map(|(_, accuracy)| *accuracy)
        .collect();
    mean(&best) - mean(accuracy)
}

/// Weights of all six counts, chosen on the passages outside a fold and tried on those inside.
fn cross_validate(passages: &[Passage]) {
    let all: Vec<[f64; 6]> = (1..3_usize.pow(6))
        .map(|number| std::array::from_fn(|place| (number / 3_usize.pow(place as u32) % 3) as f64))
        .collect();
    let correlations: Vec<Vec<f64>> = all
        .iter()
        .map(|weights| {
            let of = |counts: &Counts| weighted(counts, weights);
            let scored = |passage: &Passage| passage.counts.iter().map(of).collect::<Vec<f64>>();
            passages.iter().map(|passage| spearman(&scored(passage), &passage.accuracy)).collect()
        })
        .collect();
    let (mut rng, mut order) = (Rng::new(0), (0..passages.len()).collect::<Vec<_>>());
    let (mut held_out, mut seen) = (vec![0.0; passages.len()], Vec::new());
    for _ in 0..SHUFFLES {
        rng.shuffle(&mut order);
        for fold in 0..FOLDS {
            let (inside, outside): (Vec<_>, Vec<_>) =
                order.iter().enumerate().partition(|(place, _)| place % FOLDS == fold);
            let fit = |weights: &Vec<f64>| outside.iter().map(|(_, passage)| weights[**passage]).sum::<f64>();
            let best = correlations.iter().max_by(|a, b| fit(a).total_cmp(&fit(b))).expect("weights");
            seen.push(fit(best) / outside.len() as f64);
            inside.iter().for_each(|(_, passage)| held_out[**passage] += best[**passage] / SHUFFLES as f64);
        }
    }
    let (low, high) = interval(&held_out);
    println!(
        "\nweights 0 to 2 of six counts, chosen by {FOLDS}-fold cross-validation over passages, {SHUFFLES} times:"
    );
    println!(
        "Spearman {:+.3} ({low:+.3} to {high:+.3}) on passages not chosen on; {:+.3} on those chosen on",
        mean(&held_out),
        mean(&seen)
    );
}

fn weighted(counts: &Counts, weights: &[f64; 6]) -> f64 {
    let Counts { coverage, names, support, novelty, diversity, length } = *counts;
    [coverage, names, support, novelty, diversity, length]
        .iter()
        .zip(weights)
        .map(|(count, weight)| count * weight)
        .sum()
}

/// What scores without any information give.
fn random(passages: &[Passage]) {
    let mut rng = Rng::new(1);
    let (mut means, mut better) = (Vec::new(), Vec::new());
    for _ in 0..1000 {
        let scores: Vec<Vec<f64>> = passages
            .iter()
            .map(|passage| passage.accuracy.iter().map(|_| rng.next_u64() as f64).collect())
            .collect();
        let pairs = || passages.iter().zip(&scores);
        means.push(mean(&pairs().map(|(p, scores)| spearman(scores, &p.accuracy)).collect::<Vec<_>>()));
        better.push(pairs().filter(|(p, scores)| gain(scores, &p.accuracy) > 1e-9).count() as f64);
    }
    means.sort_by(f64::total_cmp);
    println!(
        "\nrandom scores, 1,000 times: Spearman {:+.3} (95% of them {:+.3} to {:+.3}); best of 5 better for {:.1} passages",
        mean(&means),
        means[25],
        means[974],
        mean(&better)
    );
}

/// How far the seeds' noise lets any score come, simulated: true accuracies with the variance that is left when the
/// noise's is taken away, noise added, and the true ones as the score.
fn ceiling(passages: &[Passage]) {
    let variances: Vec<f64> = passages.iter().map(|passage| variance(&passage.accuracy)).collect();
    let observed = mean(&variances);
    println!(
        "\nSD between the self-edits of a passage {:.3}; oracle's gain {:+.4}",
        observed.sqrt(),
        mean(&passages.iter().map(|passage| gain(&passage.accuracy, &passage.accuracy)).collect::<Vec<_>>())
    );
    for (reading, seed_variance) in
        [("sample", SEED_SD * SEED_SD), ("population", SEED_SD * SEED_SD * SEEDS / (SEEDS - 1.0))]
    {
        let noise = seed_variance / SEEDS;
        let real = (observed - noise).max(0.0);
        let mut rng = Rng::new(2);
        let (mut reached, mut gains) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            let truth: Vec<f64> = (0..5).map(|_| normal(&mut rng) * real.sqrt()).collect();
            let recorded: Vec<f64> =
                truth.iter().map(|value| value + normal(&mut rng) * noise.sqrt()).collect();
            reached.push(spearman(&truth, &recorded));
            gains.push(gain(&truth, &recorded));
        }
        println!(
            "{SEED_SD} read as a {reading} SD: {:.0}% of that variance is no noise; a perfect score would reach Spearman {:.2}, gain {:+.3}",
            100.0 * real / observed,
            mean(&reached),
            mean(&gains)
        );
    }
}

/// A draw of the standard normal distribution (Box and Muller).
fn normal(rng: &mut Rng) -> f64 {
    let mut uniform = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
}

/// 95% bootstrap interval of the mean over passages.
fn interval(values: &[f64]) -> (f64, f64) {
    let mut rng = Rng::new(3);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            (0..values.len()).map(|_| values[rng.below(values.len())]).sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    (means[RESAMPLES / 40], means[RESAMPLES - 1 - RESAMPLES / 40])
}

/// Rank correlation, ties by their mean rank; 0 when one side is all ties.
fn spearman(left: &[f64], right: &[f64]) -> f64 {
    let (left, right) = (ranks(left), ranks(right));
    let (a, b) = (mean(&left), mean(&right));
    let covariance: f64 = left.iter().zip(&right).map(|(l, r)| (l - a) * (r - b)).sum();
    let spread = |ranks: &[f64], mean: f64| ranks.iter().map(|rank| (rank - mean).powi(2)).sum::<f64>();
    let scale = (spread(&left, a) * spread(&right, b)).sqrt();
    if scale > 0.0 { covariance / scale } else { 0.0 }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let below = |value: f64| values.iter().filter(|other| **other < value - 1e-12).count() as f64;
    let same = |value: f64| values.iter().filter(|other| (**other - value).abs() <= 1e-12).count() as f64;
    values.iter().map(|value| below(*value) + (same(*value) + 1.0) / 2.0).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let centre = mean(values);
    values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}
