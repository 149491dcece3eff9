//! The choice of one token from one row of logits: greedy, or a seeded draw after temperature, top-k and top-p in
//! Hugging Face's order.
//!
//! A [`Sampler`] belongs to one stream of a batch and takes one draw of its own generator a token, so what it
//! chooses depends on its logits and its seed and on nothing else in the batch. Every pass over the vocabulary is
//! linear and made of vector instructions; only what a filter has left is sorted.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::constraint::Constraint;
use crate::error::LearnError;
use crate::ops::exp;

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingSettings {
    /// Logits are divided by it; 0 is greedy: the most probable token, and of equal ones the lowest id.
    pub temperature: f64,
    /// Only the most probable tokens are drawn, this many and any that equal the last of them.
    pub top_k: Option<usize>,
    /// Only the smallest set of the most probable tokens that holds this share of the probability, at least one; of
    /// equal ones the lower ids. 1 is all.
    pub top_p: f64,
    /// Decides every draw.
    pub seed: u64,
}

impl SamplingSettings {
    /// The most probable token, always.
    pub const GREEDY: SamplingSettings =
        SamplingSettings { temperature: 0.0, top_k: None, top_p: 1.0, seed: 0 };

    /// Draws at temperature 1 from the whole vocabulary.
    pub fn seeded(seed: u64) -> SamplingSettings {
        SamplingSettings { temperature: 1.0, seed, ..SamplingSettings::GREEDY }
    }

    /// Whether the settings mean anything.
    ///
    /// # Errors
    /// [`LearnError::Sampling`] with the setting, what it was and what it may be.
    pub fn check(&self) -> Result<(), LearnError> {
        let complaint = if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            format!("temperature is {}; expected 0 (greedy) or a number above it", self.temperature)
        } else if self.top_k == Some(0) {
            "top_k is 0; expected at least 1, or nothing for all tokens".to_owned()
        } else if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            format!("top_p is {}; expected a number above 0 and at most 1 (all tokens)", self.top_p)
        } else {
            return Ok(());
        };
        Err(LearnError::Sampling(complaint))
    }
}

/// A token that was chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The token.
    pub id: u32,
    /// The model's own log-probability of it, in nats: the log-softmax of the logits as they came, before
    /// temperature, filters and any constraint.
    pub log_prob: f32,
}

/// Chooses the tokens of one stream.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: SamplingSettings,
    random: ChaCha8Rng,
    /// The ids that top-k has left, in order; not used without it.
    ids: Vec<u32>,
    /// Of every token that is left, its distance from the largest logit and then its weight.
    scaled: Vec<f32>,
    weights: Vec<f32>,
}

impl Sampler {
    /// A sampler at the start of its stream.
    ///
    /// # Errors
    /// Those of [`SamplingSettings::check`].
    pub fn new(settings: SamplingSettings) -> Result<Sampler, LearnError> {
        settings.check()?;
        let random = ChaCha8Rng::seed_from_u64(settings.seed);
        Ok(Sampler { settings, random, ids: Vec::new(), scaled: Vec::new(), weights: Vec::new() })
    }

    /// Chooses from the logits `[vocabulary]` of one position.
    ///
    /// # Errors
    /// [`LearnError::Sampling`] when a logit is not a number or infinitely large, or none is above minus infinity.
    pub fn next(&mut self, logits: &[f32]) -> Result<Choice, LearnError> {
        let largest = largest(logits);
        let normaliser = log_sum_exp(logits, largest)?;
        Ok(self.choose(logits, largest, normaliser))
    }

    /// Chooses from the tokens that a constraint allows, and tells it the choice. The logits of all others become
    /// minus infinity; the log-probability is still that of the model without the constraint.
    ///
    /// # Errors
    /// Those of [`Sampler::next`], [`Constraint::mask`] and [`Constraint::accept`].
    pub fn next_allowed(
        &mut self,
        logits: &mut [f32],
        constraint: &mut Constraint,
    ) -> Result<Choice, LearnError> {
        let normaliser = log_sum_exp(logits, largest(logits))?;
        constraint.mask(logits)?;
        let largest = largest(logits);
        if largest == f32::NEG_INFINITY {
            let complaint = "the model's logits exclude every token that the grammar allows";
            return Err(LearnError::Sampling(complaint.to_owned()));
        }
        let choice = self.choose(logits, largest, normaliser);
        constraint.accept(choice.id)?;
        Ok(choice)
    }

    fn choose(&mut self, logits: &[f32], largest: f32, normaliser: f64) -> Choice {
        let id = match self.settings.temperature == 0.0 {
            true => logits.iter().position(|&logit| logit == largest).unwrap_or(0) as u32,
            false => self.draw(logits, largest),
        };
        Choice { id, log_prob: (f64::from(logits[id as usize]) - normaliser) as f32 }
    }

    /// One draw, whatever is left to draw from: the next token's draw must not depend on it.
    fn draw(&mut self, logits: &[f32], largest: f32) -> u32 {
        let uniform = uniform(&mut self.random);
        // Within f32's range: infinity times 0 is not a number.
        let inverse = 1.0 / self.settings.temperature;
        let scale = inverse.clamp(f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)) as f32;
        let scaled = |logit: f32| (logit - largest) * scale;
        self.scaled.clear();
        let top_k = self.settings.top_k.filter(|&k| k < logits.len());
        if let Some(k) = top_k {
            let least = kth_largest(logits, k, &mut self.weights);
            self.ids.clear();
            self.ids.extend(logits.iter().zip(0..).filter(|(logit, _)| **logit >= least).map(|(_, id)| id));
            self.scaled.extend(self.ids.iter().map(|&id| scaled(logits[id as usize])));
        } else {
            self.scaled.extend(logits.iter().map(|&logit| scaled(logit)));
        }
        self.weights.clear();
        // Distances below this are minus infinity: tokens that were excluded.
        self.weights
            .extend(self.scaled.iter().map(|&scaled| if scaled < f32::MIN { 0.0 } else { exp(scaled) }));
        if self.settings.top_p < 1.0 {
            keep_top_p(&self.scaled, &mut self.weights, self.settings.top_p);
        }
        let place = pick(&self.weights, uniform);
        if top_k.is_some() { self.ids[place] } else { place as u32 }
    }
}

/// The next number in 0..1, of 53 bits.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Values that are looked at together: the compiler keeps that many in vector registers.
const LANES: usize = 16;

/// Values whose sum f32 holds well enough.
const BLOCK: usize = 64 * LANES;

/// The largest number; minus infinity when there is none.
fn largest(values: &[f32]) -> f32 {
    let (groups, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for group in groups {
        for (lane, &value) in lanes.iter_mut().zip(group) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// The sum of a function of at most a block of values.
#[inline(always)]
fn sum_of(block: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    let (groups, rest) = block.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for group in groups {
        for (lane, &value) in lanes.iter_mut().zip(group) {
            *lane += term(value);
        }
    }
    lanes.iter().copied().chain(rest.iter().map(|&value| term(value))).map(f64::from).sum()
}

/// The logarithm of the sum of the exponentials of logits, in nats.
fn log_sum_exp(logits: &[f32], largest: f32) -> Result<f64, LearnError> {
    if largest == f32::NEG_INFINITY && !logits.iter().any(|logit| logit.is_nan()) {
        return Err(LearnError::Sampling(format!("none of {} logits is above -inf", logits.len())));
    }
    let sum: f64 = logits.chunks(BLOCK).map(|block| sum_of(block, |logit| exp(logit - largest))).sum();
    if sum.is_nan() {
        // A logit that is not a number makes the sum one, and so does infinity, by its distance from itself.
        let at = logits.iter().position(|&logit| logit.is_nan() || logit == f32::INFINITY).unwrap_or(0);
        let (found, count) = (logits[at], logits.len());
        return Err(LearnError::Sampling(format!(
            "logit {at} of {count} is {found}; the model's numbers are out of range"
        )));
    }
    Ok(f64::from(largest) + sum.ln())
}

/// The `k`-th largest of more than `k` values. One pass; what can still be among the largest is in `buffer`.
fn kth_largest(values: &[f32], k: usize, buffer: &mut Vec<f32>) -> f32 {
    let descending = |a: &f32, b: &f32| b.total_cmp(a);
    let room = (2 * k).max(BLOCK);
    let mut floor = f32::NEG_INFINITY;
    buffer.clear();
    for &value in values {
        if value > floor || buffer.len() < k {
            buffer.push(value);
            if buffer.len() == room {
                floor = *buffer.select_nth_unstable_by(k - 1, descending).1;
                buffer.truncate(k);
            }
        }
    }
    *buffer.select_nth_unstable_by(k - 1, descending).1
}

/// Sets the weights of all but the tokens of top-p to 0. `scaled` are their logarithms, at most 0.
///
/// A histogram over the logarithms says in which interval the cut falls, and only that is sorted.
fn keep_top_p(scaled: &[f32], weights: &mut [f32], top_p: f64) {
    /// Beyond this many nats a token's probability is below 1e-13 of the largest one's.
    const RANGE: f32 = 30.0;
    const BINS: usize = 1024;
    // Adding 2^23 rounds to a whole number, which is then in the lowest bits: a cast would not be a vector instruction.
    let place = |value: f32| (value * (BINS as f32 / -RANGE)).min((BINS - 1) as f32) + 8_388_608.0;
    let bin = |value: f32| place(value).to_bits() as usize % BINS;
    let mut mass = [0.0_f64; BINS];
    for (&value, &weight) in scaled.iter().zip(&*weights) {
        mass[bin(value)] += f64::from(weight);
    }
    let goal = top_p * mass.iter().sum::<f64>();
    let mut held = 0.0;
    let mut cut = 0;
    while cut < BINS - 1 && held + mass[cut] < goal {
        held += mass[cut];
        cut += 1;
    }
    let mut inside: Vec<usize> = (0..scaled.len()).filter(|&at| bin(scaled[at]) == cut).collect();
    inside.sort_unstable_by(|&a, &b| scaled[b].total_cmp(&scaled[a]).then(a.cmp(&b)));
    let mut kept = inside.iter().position(|&at| {
        held += f64::from(weights[at]);
        held >= goal
    });
    kept = kept.or(inside.len().checked_sub(1));
    inside.iter().skip(kept.map_or(0, |last| last + 1)).for_each(|&at| weights[at] = 0.0);
    for (&value, weight) in scaled.iter().zip(weights) {
        *weight = if bin(value) > cut { 0.0 } else { *weight };
    }
}

/// The place at which the running sum of the weights passes this share of the whole.
fn pick(weights: &[f32], share: f64) -> usize {
    let sums: Vec<f64> = weights.chunks(BLOCK).map(|block| sum_of(block, |weight| weight)).collect();
    let mut left = share * sums.iter().sum::<f64>();
    let mut block = 0;
    while block + 1 < sums.len() && left >= sums[block] {
        left -= sums[block];
        block += 1;
    }
    let start = block * BLOCK;
    let end = weights.len().min(start + BLOCK);
    for (at, &weight) in weights.iter().enumerate().take(end).skip(start) {
        left -= f64::from(weight);
        if left < 0.0 {
            return at;
        }
    }
    // Only by rounding, at the very end of the block.
    weights[..end].iter().rposition(|&weight| weight > 0.0).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use proptest::prelude::*;

    use super::*;

    fn settings(temperature: f64, top_k: Option<usize>, top_p: f64, seed: u64) -> SamplingSettings {
        SamplingSettings { temperature, top_k, top_p, seed }
    }

    /// The tokens that may be drawn and their probabilities, as Hugging Face filters them: in f64, by full sorts.
    /// Nothing where rounding decides about a token of top-p.
    fn reference(logits: &[f32], settings: SamplingSettings) -> Option<Vec<(u32, f64)>> {
        let mut kept: Vec<(u32, f64)> =
            logits.iter().zip(0..).map(|(&logit, id)| (id, f64::from(logit))).collect();
        kept.retain(|(_, logit)| *logit > f64::NEG_INFINITY);
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let least =
            settings.top_k.and_then(|k| kept.get(k.min(kept.len()) - 1)).map_or(f64::NEG_INFINITY, |k| k.1);
        kept.retain(|(_, logit)| *logit >= least);
        let largest = kept[0].1;
        kept.iter_mut().for_each(|(_, logit)| *logit = ((*logit - largest) / settings.temperature).exp());
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let mut held = 0.0;
        let mut count = kept.len();
        for (at, (_, weight)) in kept.iter().enumerate().filter(|_| settings.top_p < 1.0) {
            held += weight / total;
            if (held - settings.top_p).abs() < 1e-5 {
                return None;
            }
            if held >= settings.top_p {
                count = at + 1;
                break;
            }
        }
        kept.truncate(count);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        kept.sort_by_key(|(id, _)| *id);
        kept.iter_mut().for_each(|(_, weight)| *weight /= total);
        Some(kept)
    }

    fn logits() -> impl Strategy<Value = Vec<f32>> {
        // Few values, so that many are equal; and a masked token now and then.
        let coarse =
            prop_oneof![9 => (-20..20_i32).prop_map(|n| n as f32 / 4.0), 1 => Just(f32::NEG_INFINITY)];
        let fine = prop_oneof![9 => -30.0..30.0_f32, 1 => Just(f32::NEG_INFINITY)];
        let any = prop_oneof![prop::collection::vec(coarse, 1..200), prop::collection::vec(fine, 1..3000)];
        any.prop_filter("a token is left", |logits| largest(logits) > f32::NEG_INFINITY)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn draws_are_those_of_a_slow_reference(
            logits in logits(),
            temperature in prop_oneof![Just(1.0), 0.05..4.0],
            top_k in prop::option::of(1_usize..300),
            top_p in prop_oneof![Just(1.0), 0.01..1.0],
            seed: u64,
        ) {
            let settings = settings(temperature, top_k, top_p, seed);
            let Some(expected) = reference(&logits, settings) else { return Ok(()) };
            let mut sampler = Sampler::new(settings).unwrap();
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            for _ in 0..20 {
                let choice = sampler.next(&logits).unwrap();
                let uniform = uniform(&mut random);
                let mut held = 0.0;
                let (low, high) = expected
                    .iter()
                    .map(|(id, weight)| {
                        held += weight;
                        (*id, held)
                    })
                    .fold((None, None), |(low, high), (id, held)| {
                        (low.or((held > uniform - 1e-5).then_some(id)), high.or((held > uniform + 1e-5).then_some(id)))
                    });
                let high = high.or(expected.last().map(|(id, _)| *id));
                prop_assert!(low <= Some(choice.id) && Some(choice.id) <= high, "{choice:?}: {low:?} to {high:?}");
                prop_assert!(expected.iter().any(|(id, _)| *id == choice.id));
                let log_prob = f64::from(logits[choice.id as usize]) - sum.ln();
                prop_assert!((f64::from(choice.log_prob) - log_prob).abs() < 1e-5 * log_prob.abs().max(1.0));
            }
        }

        #[test]
        fn greedy_is_the_first_of_the_largest(logits in logits()) {
            let choice = Sampler::new(SamplingSettings::GREEDY).unwrap().next(&logits).unwrap();
            let first = logits.iter().position(|&logit| logit == largest(&logits));
            prop_assert_eq!(Some(choice.id as usize), first);
        }

        #[test]
        fn the_kth_largest_is_that_of_a_sort(values in prop::collection::vec(-5.0..5.0_f32, 2..4000), k in 1_usize..1500) {
            prop_assume!(k < values.len());
            let mut sorted = values.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(kth_largest(&values, k, &mut Vec::new()), sorted[k - 1]);
        }
    }

    #[test]
    fn counts_follow_the_probabilities() {
        let logits = [0.5_f32.ln(), 0.25_f32.ln(), f32::NEG_INFINITY, 0.125_f32.ln(), 0.125_f32.ln()];
        let check = |settings: SamplingSettings, expected: [f64; 5]| {
            const DRAWS: usize = 20_000;
            let mut sampler = Sampler::new(settings).unwrap();
            let mut counts = [0_usize; 5];
            (0..DRAWS).for_each(|_| counts[sampler.next(&logits).unwrap().id as usize] += 1);
            for (&count, &probability) in counts.iter().zip(&expected) {
                let deviation = (DRAWS as f64 * probability * (1.0 - probability)).sqrt();
                let off = (count as f64 - DRAWS as f64 * probability).abs();
                assert!(off <= 4.0 * deviation, "{settings:?}: {counts:?}, expected {expected:?}");
            }
        };
        let third = 1.0 / 3.0;
        check(settings(1.0, None, 1.0, 1), [0.5, 0.25, 0.0, 0.125, 0.125]);
        check(settings(0.5, None, 1.0, 2), [16.0 / 22.0, 4.0 / 22.0, 0.0, 1.0 / 22.0, 1.0 / 22.0]);
        check(settings(1.0, Some(2), 1.0, 3), [2.0 * third, third, 0.0, 0.0, 0.0]);
        // Both that equal the third largest.
        check(settings(1.0, Some(3), 1.0, 4), [0.5, 0.25, 0.0, 0.125, 0.125]);
        check(settings(1.0, None, 0.4, 5), [1.0, 0.0, 0.0, 0.0, 0.0]);
        check(settings(1.0, None, 0.6, 6), [2.0 * third, third, 0.0, 0.0, 0.0]);
        check(settings(1.0, None, 0.8, 7), [4.0 / 7.0, 2.0 / 7.0, 0.0, 1.0 / 7.0, 0.0]);
        // Top-p counts what top-k has left: 0.5 of 0.75 is enough.
        check(settings(1.0, Some(2), 0.6, 8), [1.0, 0.0, 0.0, 0.0, 0.0]);
        check(settings(1e-300, None, 1.0, 9), [1.0, 0.0, 0.0, 0.0, 0.0]);
        check(settings(1e300, None, 1.0, 10), [0.25, 0.25, 0.0, 0.25, 0.25]);
    }

    #[test]
    fn a_seed_decides_and_every_token_takes_one_draw() {
        let flat = vec![0.0; 1000];
        let drawn = |seed: u64| -> Vec<u32> {
            let mut sampler = Sampler::new(SamplingSettings::seeded(seed)).unwrap();
            (0..8).map(|_| sampler.next(&flat).unwrap().id).collect()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        // Pinned: a replay depends on the draws of a seed.
        assert_eq!(drawn(7)[..4], [157, 167, 704, 726]);
        // What was drawn from before does not matter.
        let mut sampler = Sampler::new(SamplingSettings::seeded(7)).unwrap();
        sampler.next(&[0.0]).unwrap();
        sampler.next(&[0.0, 1.0, 2.0]).unwrap();
        assert_eq!(sampler.next(&flat).unwrap().id, drawn(7)[2]);
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        let refusal = |settings: SamplingSettings| Sampler::new(settings).unwrap_err().to_string();
        insta::assert_snapshot!(refusal(settings(-1.0, None, 1.0, 0)), @"generation: temperature is -1; expected 0 (greedy) or a number above it");
        insta::assert_snapshot!(refusal(settings(f64::NAN, None, 1.0, 0)), @"generation: temperature is NaN; expected 0 (greedy) or a number above it");
        insta::assert_snapshot!(refusal(settings(f64::INFINITY, None, 1.0, 0)), @"generation: temperature is inf; expected 0 (greedy) or a number above it");
        insta::assert_snapshot!(refusal(settings(1.0, Some(0), 1.0, 0)), @"generation: top_k is 0; expected at least 1, or nothing for all tokens");
        insta::assert_snapshot!(refusal(settings(1.0, None, 0.0, 0)), @"generation: top_p is 0; expected a number above 0 and at most 1 (all tokens)");
        insta::assert_snapshot!(refusal(settings(1.0, None, 1.5, 0)), @"generation: top_p is 1.5; expected a number above 0 and at most 1 (all tokens)");
        insta::assert_snapshot!(refusal(settings(1.0, None, f64::NAN, 0)), @"generation: top_p is NaN; expected a number above 0 and at most 1 (all tokens)");
        settings(0.7, Some(1_000_000), 1.0, 0).check().expect("settings that mean something");
    }

    #[test]
    fn logits_that_say_nothing_are_refused() {
        let refusal = |logits: &[f32], settings: SamplingSettings| {
            Sampler::new(settings).unwrap().next(logits).unwrap_err().to_string()
        };
        for settings in [SamplingSettings::GREEDY, SamplingSettings::seeded(1)] {
            assert_eq!(refusal(&[], settings), "generation: none of 0 logits is above -inf");
            assert_eq!(
                refusal(&[f32::NEG_INFINITY; 3], settings),
                "generation: none of 3 logits is above -inf"
            );
            let numbers = "the model's numbers are out of range";
            assert_eq!(
                refusal(&[0.0, f32::NAN], settings),
                format!("generation: logit 1 of 2 is NaN; {numbers}")
            );
            assert_eq!(
                refusal(&[f32::INFINITY, 0.0], settings),
                format!("generation: logit 0 of 2 is inf; {numbers}")
            );
        }
    }
}
