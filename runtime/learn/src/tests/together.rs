//! Adapters that train together, batches that are cut into passes, and dropout: each as if alone, and in one pass.

use std::collections::BTreeMap;

use candle_core::Tensor;
use selkie_edit::{Projection, Schedule};

use super::support::{
    FAMILIES, VOCAB, adapter, adapter_bits, config, decoder, distance, largest, lora, rng, sequence,
};
use crate::config::Family;
use crate::decoder::{Decoder, Gradients, Wanted};
use crate::error::LearnError;
use crate::lora::{Adapter, LoraConfig, LoraPair, Site};
use crate::ops::Dropout;
use crate::optim::{ADAPTER_ADAMW, MAX_GRAD_NORM};
use crate::run::{Run, RunSettings, Trained, advance, train_many};
use crate::score::{score, score_many};
use crate::sequence::Sequence;
use crate::train::{Part, PassOptions, StepOptions, Trainer, loss_and_gradients};

const ALL: [Projection; 7] = Projection::ALL;

fn passes(rows: usize, sequences: usize, checkpointing: bool) -> PassOptions {
    PassOptions { rows, sequences, checkpointing }
}

fn set(seed: u64, count: usize) -> Vec<Sequence> {
    let mut rng = rng(seed);
    (0..count).map(|index| sequence(&mut rng, 3 + (index * 5 + seed as usize) % 11, 2)).collect()
}

/// Eight jobs that differ in everything that a job has of its own.
fn jobs() -> Vec<(Vec<Sequence>, RunSettings)> {
    use Projection::{DownProj, GateProj, KProj, OProj, QProj, UpProj, VProj};
    let targets: [&[Projection]; 8] =
        [&ALL, &[QProj], &[KProj, VProj], &[OProj, DownProj], &[GateProj], &ALL, &[UpProj, QProj], &[VProj]];
    let schedules = [Schedule::Cosine, Schedule::Linear, Schedule::Constant];
    let job = |(index, targets): (usize, &[Projection])| {
        let rank = [1, 2, 3, 5, 8, 11, 16, 4][index];
        let lora = LoraConfig {
            alpha: [0.5, 3.0, 1.0, 16.0][index % 4] * f64::from(rank),
            use_rslora: index == 3,
            ..LoraConfig::from(&lora(rank, targets))
        };
        let settings = RunSettings {
            lora,
            learning_rate: [1e-3, 3e-3, 5e-4, 1e-2][index % 4],
            schedule: schedules[index % 3],
            warmup_steps: index as u64 % 3,
            epochs: 1 + index as u32 % 3,
            batch_size: 1 + index % 4,
            adamw: ADAPTER_ADAMW,
            max_grad_norm: if index == 6 { 0.1 } else { MAX_GRAD_NORM },
            seed: 40 + index as u64,
        };
        (set(index as u64, 3 + index % 3), settings)
    };
    targets.into_iter().enumerate().map(job).collect()
}

fn borrowed(jobs: &[(Vec<Sequence>, RunSettings)]) -> Vec<(&[Sequence], RunSettings)> {
    jobs.iter().map(|(set, settings)| (set.as_slice(), settings.clone())).collect()
}

fn alone(decoder: &Decoder, set: &[Sequence], settings: &RunSettings) -> Result<Trained, LearnError> {
    let mut run = Run::new(decoder, set, settings.clone())?;
    while !run.is_finished() {
        for (_, stats) in advance(decoder, &mut [&mut run], PassOptions::default())? {
            stats?;
        }
    }
    run.finish()
}

fn together(
    decoder: &Decoder,
    jobs: &[(Vec<Sequence>, RunSettings)],
    passes: PassOptions,
) -> Vec<Result<Trained, LearnError>> {
    train_many(decoder, &borrowed(jobs), passes, |_, _| ()).unwrap()
}

/// Equal within rounding. (Adam's first steps have the size of the learning rate whatever the gradient's, so where a
/// gradient is nothing but rounding, its sign decides: hence a share of the update and not of an element.)
fn check_trained(what: &str, found: &Trained, expected: &Trained) {
    check_adapter(what, &found.adapter, &expected.adapter);
    assert_eq!(found.steps.len(), expected.steps.len(), "{what}");
    for (found, expected) in found.steps.iter().zip(&expected.steps) {
        let place = (found.step, found.steps, found.tokens, found.learning_rate);
        assert_eq!(place, (expected.step, expected.steps, expected.tokens, expected.learning_rate), "{what}");
        assert!((found.loss - expected.loss).abs() < 1e-5, "{what}: {found:?}, {expected:?}");
        let off = (found.grad_norm - expected.grad_norm).abs() / expected.grad_norm;
        assert!(off < 1e-4, "{what}: {found:?}, {expected:?}");
    }
}

fn check_adapter(what: &str, found: &Adapter, expected: &Adapter) {
    assert!(found.sites().map(|(site, _)| site).eq(expected.sites().map(|(site, _)| site)), "{what}");
    for ((site, found), (_, expected)) in found.sites().zip(expected.sites()) {
        assert_eq!(found.scale, expected.scale);
        for (found, expected) in [(&found.a, &expected.a), (&found.b, &expected.b)] {
            let off = distance(found, expected);
            assert!(off < 1e-5, "{what}: {} is off by {off:e}", site.module());
        }
    }
}

#[test]
fn eight_adapters_together_are_each_as_if_alone() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let decoder = decoder(&config(family, tied), index as u64);
        let jobs = jobs();
        let cut = [PassOptions::default(), passes(20, usize::MAX, false), passes(usize::MAX, 3, true)];
        let found = together(&decoder, &jobs, cut[index % 3]);
        for (place, ((set, settings), found)) in jobs.iter().zip(found).enumerate() {
            let expected = alone(&decoder, set, settings).unwrap();
            check_trained(&format!("{family:?}, job {place}"), &found.unwrap(), &expected);
        }
    }
}

#[test]
fn progress_tells_every_step_of_every_job_in_its_order() {
    let decoder = decoder(&config(Family::Llama, true), 1);
    let jobs = jobs();
    let mut told: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    let trained = train_many(&decoder, &borrowed(&jobs), PassOptions::default(), |job, step| {
        told.entry(job).or_default().push(*step);
    });
    for (place, trained) in trained.unwrap().into_iter().enumerate() {
        assert_eq!(told[&place], trained.unwrap().steps, "job {place}");
    }
    assert!(train_many(&decoder, &[], PassOptions::default(), |_, _| ()).unwrap().is_empty());
}

#[test]
fn a_job_that_diverges_does_not_touch_the_others() {
    let decoder = decoder(&config(Family::Qwen3, false), 3);
    let whole = jobs();
    for (bad, learning_rate) in [(0, f64::NAN), (3, 1e200), (7, f64::INFINITY)] {
        let mut jobs = whole.clone();
        (jobs[bad].1.learning_rate, jobs[bad].1.warmup_steps, jobs[bad].1.epochs) = (learning_rate, 0, 3);
        for (place, found) in together(&decoder, &jobs, PassOptions::default()).into_iter().enumerate() {
            if place == bad {
                assert!(matches!(found, Err(LearnError::Diverged { .. })), "{learning_rate}: {found:?}");
                continue;
            }
            let expected = alone(&decoder, &jobs[place].0, &jobs[place].1).unwrap();
            check_trained(&format!("job {place} beside {learning_rate}"), &found.unwrap(), &expected);
        }
    }
}

/// Gradients of one part, by site.
type OfLane = BTreeMap<Site, (Tensor, Tensor)>;

fn gradients(
    decoder: &Decoder,
    parts: &[(Option<&Adapter>, &[Sequence], Option<Dropout>)],
    passes: PassOptions,
) -> (Vec<f32>, Gradients) {
    let batches: Vec<Vec<&Sequence>> = parts.iter().map(|(_, batch, _)| batch.iter().collect()).collect();
    let parts: Vec<Part<'_>> = parts
        .iter()
        .zip(&batches)
        .map(|(&(adapter, _, dropout), batch)| Part { adapter, batch, dropout })
        .collect();
    loss_and_gradients(decoder, &parts, Wanted::Adapter, passes).unwrap()
}

/// Within `tolerance` of the largest element; bit for bit when it is 0.
fn check_lane(what: &str, found: &OfLane, expected: &OfLane, tolerance: f64) {
    assert!(found.keys().eq(expected.keys()), "{what}");
    for (site, (a, b)) in expected {
        for (half, found, expected) in [("A", &found[site].0, a), ("B", &found[site].1, b)] {
            let (size, off) = (largest(expected), distance(found, expected));
            assert!(size > 1e-7, "{what}: the gradient of {half} of {} is {size}", site.module());
            assert!(
                off <= tolerance * size,
                "{what}: {half} of {} is off by {off:e} of {size}",
                site.module()
            );
        }
    }
}

/// Adapters that differ in rank and targets, some only in the upper or the lower block, and none.
fn lanes(config: &crate::config::ModelConfig) -> Vec<Option<Adapter>> {
    use Projection::{DownProj, KProj, OProj, QProj, VProj};
    let layer = |mut adapter: Adapter, layer| {
        adapter.pairs.retain(|site, _| site.layer == layer);
        adapter
    };
    vec![
        Some(adapter(config, &lora(3, &ALL), 1)),
        None,
        Some(layer(adapter(config, &lora(16, &ALL), 2), 1)),
        Some(layer(adapter(config, &lora(1, &[QProj, DownProj]), 3), 0)),
        Some(adapter(config, &lora(5, &[VProj]), 4)),
        Some(layer(adapter(config, &lora(2, &[KProj, OProj]), 5), 1)),
        None,
        Some(Adapter::default()),
    ]
}

#[test]
fn gradients_of_lanes_are_those_of_each_alone() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let decoder = decoder(&config, index as u64);
        let lanes = lanes(&config);
        let sets: Vec<Vec<Sequence>> =
            (0..lanes.len() as u64).map(|seed| set(seed, 1 + seed as usize % 4)).collect();
        let parts: Vec<_> =
            lanes.iter().zip(&sets).map(|(adapter, set)| (adapter.as_ref(), set.as_slice(), None)).collect();
        for cut in [PassOptions::default(), passes(17, usize::MAX, false), passes(usize::MAX, 1, true)] {
            let (losses, found) = gradients(&decoder, &parts, cut);
            for (place, part) in parts.iter().enumerate() {
                let what = format!("{family:?}, tied {tied}, lane {place}, {cut:?}");
                let (loss, lone) = gradients(&decoder, &[*part], PassOptions::default());
                assert!((losses[place] - loss[0]).abs() < 1e-5, "{what}: {} and {}", losses[place], loss[0]);
                check_lane(&what, &found.lanes[place], &lone.lanes[0], 1e-5);
            }
        }
    }
}

#[test]
fn scores_of_many_adapters_are_those_of_each() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let decoder = decoder(&config, index as u64);
        let lanes = lanes(&config);
        // One lane has nothing to score, another nothing that counts.
        let mut sets: Vec<Vec<Sequence>> = (0..lanes.len() as u64).map(|seed| set(seed, 3)).collect();
        sets[4].clear();
        sets[5].iter_mut().for_each(|item| item.labelled.fill(false));
        let work: Vec<_> =
            lanes.iter().zip(&sets).map(|(lane, set)| (lane.as_ref(), set.as_slice())).collect();
        let found = score_many(&decoder, &work).unwrap();
        assert_eq!(found.len(), work.len());
        for ((adapter, set), found) in work.iter().zip(&found) {
            let expected = score(&decoder, *adapter, set).unwrap();
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!((found.greedy, found.tokens), (expected.greedy, expected.tokens));
                assert!((found.log_prob - expected.log_prob).abs() < 1e-4, "{found:?}, {expected:?}");
            }
        }
    }
    assert!(score_many(&decoder(&config(Family::Llama, false), 1), &[]).unwrap().is_empty());
}

#[test]
fn trainers_that_step_together_are_each_as_if_alone() {
    let config = config(Family::Qwen2, false);
    let base = decoder(&config, 5);
    let jobs = jobs();
    let start = |(place, (_, settings)): (usize, &(Vec<Sequence>, RunSettings))| {
        let adapter = Adapter::init(&config, &settings.lora, place as u64).unwrap();
        Trainer::new(&base, adapter, ADAPTER_ADAMW).unwrap()
    };
    let trainers: Vec<Trainer<'_>> = jobs.iter().enumerate().map(start).collect();
    let (mut one, mut many) = (trainers.clone(), trainers);
    let batches: Vec<Vec<&Sequence>> = jobs.iter().map(|(set, _)| set.iter().collect()).collect();
    let rates: Vec<f64> = (1..=jobs.len()).map(|place| place as f64 * 1e-3).collect();
    for _ in 0..3 {
        let seen = Trainer::step_together(&mut many, &batches, &rates).unwrap();
        for (place, seen) in seen.iter().enumerate() {
            let (loss, norm) = one[place].step(&batches[place], rates[place]).unwrap();
            assert!((seen.loss - loss).abs() < 1e-5 && (seen.grad_norm - norm).abs() < 1e-4 * norm);
        }
    }
    for (place, (one, many)) in one.iter().zip(&many).enumerate() {
        check_adapter(&format!("trainer {place}"), many.adapter(), one.adapter());
    }
    assert!(Trainer::step_together(&mut [], &[], &[]).unwrap().is_empty());

    // What cannot be done leaves everybody as they were.
    let before: Vec<_> = many.iter().map(|trainer| adapter_bits(trainer.adapter())).collect();
    insta::assert_snapshot!(
        Trainer::step_together(&mut many, &batches[1..], &rates).unwrap_err(),
        @"the adapter cannot be used: 8 trainers that step together have 7 batches and 8 learning rates; expected one of each for every trainer"
    );
    let mut empty = batches.clone();
    empty[3].clear();
    insta::assert_snapshot!(
        Trainer::step_together(&mut many, &empty, &rates).unwrap_err(),
        @"nothing to learn: no token of the training set has a loss"
    );
    let foreign = Sequence { ids: vec![1, VOCAB as u32], positions: vec![0, 1], labelled: vec![false, true] };
    empty[3] = vec![&foreign];
    assert!(matches!(Trainer::step_together(&mut many, &empty, &rates), Err(LearnError::TokenId { .. })));
    assert!(many.iter().map(|trainer| adapter_bits(trainer.adapter())).eq(before));
    let other = decoder(&config, 5);
    let stranger = Trainer::new(&other, many[0].adapter().clone(), ADAPTER_ADAMW).unwrap();
    insta::assert_snapshot!(
        Trainer::step_together(&mut [many[0].clone(), stranger], &batches[..2], &rates[..2]).unwrap_err(),
        @"the adapter cannot be used: trainers that step together must be over one base model"
    );
}

#[test]
fn cutting_a_batch_into_passes_changes_rounding_only() {
    let cuts = [(1, usize::MAX), (8, usize::MAX), (25, 2), (usize::MAX, 1), (usize::MAX, 3), (0, 0)];
    for (family, tied) in FAMILIES {
        let config = config(family, tied);
        let decoder = decoder(&config, 4);
        let adapter = adapter(&config, &lora(4, &ALL), 2);
        // Among the sequences are an empty one and one without a label, which get passes of their own.
        let mut set = set(9, 7);
        set.insert(2, Sequence::default());
        set[4].labelled.fill(false);
        for share in [0.0, 0.3] {
            let dropout = (share > 0.0).then_some(Dropout { share, key: 77, first: 0, first_asked: 0 });
            let parts = [(Some(&adapter), set.as_slice(), dropout)];
            let (loss, whole) = gradients(&decoder, &parts, PassOptions::default());
            for (rows, sequences) in cuts {
                let what = format!("{family:?}, {rows} rows, {sequences} sequences, dropout {share}");
                let kept = gradients(&decoder, &parts, passes(rows, sequences, false));
                assert!((kept.0[0] - loss[0]).abs() < 1e-5, "{what}");
                check_lane(&what, &kept.1.lanes[0], &whole.lanes[0], 1e-5);
                // Computing again what was not kept gives the same bits.
                let again = gradients(&decoder, &parts, passes(rows, sequences, true));
                assert_eq!(again.0[0].to_bits(), kept.0[0].to_bits(), "{what}");
                check_lane(&what, &again.1.lanes[0], &kept.1.lanes[0], 0.0);
            }
        }
    }
}

/// The mean loss and gradients of one batch under dropout.
fn dropped(decoder: &Decoder, adapter: &Adapter, set: &[Sequence], key: u64) -> (f64, OfLane) {
    let dropout = Dropout { share: 0.3, key, first: 0, first_asked: 0 };
    let (loss, mut gradients) =
        gradients(decoder, &[(Some(adapter), set, Some(dropout))], PassOptions::default());
    (f64::from(loss[0]), gradients.lanes.swap_remove(0))
}

#[test]
fn gradients_under_dropout_are_the_slopes_of_the_loss_with_one_mask() {
    const STEP: f32 = 1e-2;
    let config = config(Family::Qwen3, false);
    let decoder = decoder(&config, 2);
    let set = set(3, 4);
    let start = adapter(&config, &lora(3, &ALL), 8);
    let (_, gradients) = dropped(&decoder, &start, &set, 5);
    for (site, (d_a, d_b)) in &gradients {
        for (is_b, gradient) in [(false, d_a), (true, d_b)] {
            let values = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let steepest = values.iter().copied().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
            let (at, found) = steepest.unwrap();
            let moved = |step: f32| {
                let mut moved = start.clone();
                let pair = moved.pairs.get_mut(site).unwrap();
                let half = if is_b { &mut pair.b } else { &mut pair.a };
                let mut values = half.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values[at] += step;
                *half = Tensor::from_vec(values, half.shape(), half.device()).unwrap();
                dropped(&decoder, &moved, &set, 5).0
            };
            let expected = (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP);
            let off = (f64::from(found) - expected).abs();
            let what = format!("{}, B {is_b}", site.module());
            assert!(off < 0.02 * expected.abs() + 2e-4, "{what}: {found}, but the loss rises by {expected}");
        }
    }
}

#[test]
fn dropout_keeps_what_is_expected_and_drops_its_share() {
    let dropout = |key| Dropout { share: 0.3, key, first: 0, first_asked: 0 };
    let (rows, width) = (40, 24);
    let mut sums = vec![0f64; rows * width];
    const SEEDS: u64 = 3000;
    for key in 0..SEEDS {
        let factors = dropout(key.wrapping_mul(0x9e37_79b9)).factors(rows, width);
        assert!(factors.iter().all(|&f| f == 0.0 || (f - 1.0 / 0.7).abs() < 1e-6));
        sums.iter_mut().zip(&factors).for_each(|(sum, &f)| *sum += f64::from(f));
    }
    // A mean of 1 with a standard deviation of 0.012.
    for (at, sum) in sums.iter().enumerate() {
        let mean = sum / SEEDS as f64;
        assert!((mean - 1.0).abs() < 0.07, "element {at}: {mean}");
    }
    let all: f64 = sums.iter().sum::<f64>() / (SEEDS as usize * rows * width) as f64;
    assert!((all - 1.0).abs() < 2e-3, "{all}");
    // Rows further on are those of a longer batch.
    let later = Dropout { first: 7, ..dropout(4) };
    assert_eq!(later.factors(5, width), dropout(4).factors(rows, width)[7 * width..12 * width]);
}

fn with_dropout(mut jobs: Vec<(Vec<Sequence>, RunSettings)>) -> Vec<(Vec<Sequence>, RunSettings)> {
    for (index, (_, settings)) in jobs.iter_mut().enumerate() {
        settings.lora.dropout = [0.3, 0.0, 0.1, 0.5][index % 4];
    }
    jobs
}

#[test]
fn runs_with_dropout_are_each_as_if_alone_however_they_are_cut() {
    let decoder = decoder(&config(Family::Qwen2, true), 5);
    let jobs = with_dropout(jobs());
    for cut in [PassOptions::default(), passes(15, usize::MAX, true), passes(usize::MAX, 1, false)] {
        for ((place, (set, settings)), found) in jobs.iter().enumerate().zip(together(&decoder, &jobs, cut)) {
            let expected = alone(&decoder, set, settings).unwrap();
            check_trained(&format!("job {place}, {cut:?}"), &found.unwrap(), &expected);
        }
    }
}

#[test]
fn a_seed_decides_the_dropout() {
    let config = config(Family::Llama, false);
    let decoder = decoder(&config, 5);
    let set = set(1, 5);
    let batch: Vec<&Sequence> = set.iter().collect();
    let trained = |dropout, seed| {
        let options = StepOptions { dropout, seed, ..StepOptions::new(ADAPTER_ADAMW) };
        let start = Adapter::init(&config, &lora(4, &ALL), 1).unwrap();
        let mut trainer = Trainer::with_options(&decoder, start, options, PassOptions::default()).unwrap();
        let seen: Vec<_> = (0..3).map(|_| trainer.step(&batch, 1e-2).unwrap()).collect();
        (adapter_bits(trainer.adapter()), seen.last().unwrap().0.to_bits())
    };
    assert_eq!(trained(0.3, 1), trained(0.3, 1));
    assert_ne!(trained(0.3, 1).0, trained(0.3, 2).0);
    assert_ne!(trained(0.3, 1).0, trained(0.0, 1).0);
    assert_eq!(trained(0.0, 1), trained(0.0, 2));
    for dropout in [1.0, -0.1, f64::NAN] {
        let options = StepOptions { dropout, ..StepOptions::new(ADAPTER_ADAMW) };
        let refused = Trainer::with_options(&decoder, Adapter::default(), options, PassOptions::default());
        let message = refused.unwrap_err().to_string();
        assert!(message.ends_with("expected a number from 0 to below 1"), "{message}");
    }
}

#[test]
fn training_gives_the_same_bits_on_any_number_of_threads() {
    let decoder = decoder(&config(Family::Qwen3, true), 5);
    let jobs = with_dropout(jobs());
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let trained = together(&decoder, &jobs, PassOptions::default());
            trained.into_iter().map(|job| adapter_bits(&job.unwrap().adapter)).collect::<Vec<_>>()
        })
    };
    assert!(on(1) == on(2));
}

#[test]
fn a_wide_model_trains_to_the_same_bits_on_any_number_of_threads() {
    // Wide and long enough that products and attention are cut into tasks.
    let config = crate::config::ModelConfig {
        hidden_size: 128,
        intermediate_size: 320,
        head_dim: 32,
        ..config(Family::Llama, false)
    };
    let decoder = decoder(&config, 5);
    let mut rng = rng(3);
    let set: Vec<Sequence> = [150, 90, 30].map(|len| sequence(&mut rng, len, len / 2)).to_vec();
    let batch: Vec<&Sequence> = set.iter().collect();
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let start = adapter(&config, &lora(8, &ALL), 1);
            let mut trainer = Trainer::new(&decoder, start, ADAPTER_ADAMW).unwrap();
            let seen: Vec<_> = (0..2).map(|_| trainer.step(&batch, 1e-2).unwrap()).collect();
            (adapter_bits(trainer.adapter()), seen)
        })
    };
    let (one, two) = (on(1), on(2));
    assert_eq!(one.1, two.1);
    assert!(one.0 == two.0);
}

#[test]
fn batches_that_do_not_add_up_are_refused() {
    let config = config(Family::Llama, false);
    let decoder = decoder(&config, 1);
    let start = Adapter::init(&config, &lora(2, &ALL), 1).unwrap();
    let mut trainer = Trainer::new(&decoder, start, ADAPTER_ADAMW).unwrap();
    let refused = |trainer: &mut Trainer<'_>, sequence: Sequence| {
        trainer.step(&[&sequence], 1e-3).unwrap_err().to_string()
    };
    let whole = Sequence { ids: vec![1, 2], positions: vec![0, 1], labelled: vec![true, true] };
    let (mut short, mut unlabelled) = (whole.clone(), whole.clone());
    short.positions.pop();
    unlabelled.labelled.push(true);
    insta::assert_snapshot!(refused(&mut trainer, short), @"this model cannot be given this context: a sequence of 2 tokens has 1 positions; expected one a token");
    insta::assert_snapshot!(refused(&mut trainer, unlabelled), @"this model cannot be given this context: a sequence of 2 tokens has 3 labels; expected one a token");
    let far = Sequence { positions: vec![u32::MAX - 1, u32::MAX], ..whole };
    assert!(trainer.step(&[&far], 1e-3).unwrap().0.is_finite());
}

#[test]
fn an_empty_adapter_trains_to_nothing() {
    let decoder = decoder(&config(Family::Llama, false), 1);
    let set = set(2, 2);
    let mut trainer = Trainer::new(&decoder, Adapter::default(), ADAPTER_ADAMW).unwrap();
    let (loss, norm) = trainer.step(&set.iter().collect::<Vec<_>>(), 1e-2).unwrap();
    assert!(loss > 0.0 && norm == 0.0);
    let zero = LoraPair {
        a: Tensor::zeros((0, 24), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap(),
        b: Tensor::zeros((40, 0), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap(),
        scale: 1.0,
    };
    let mut bad = Adapter::default();
    bad.pairs.insert(Site { layer: 0, projection: Projection::QProj }, zero);
    insta::assert_snapshot!(Trainer::new(&decoder, bad, ADAPTER_ADAMW).unwrap_err(), @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has A [0, 24] and B [40, 0] for a layer of 40x24");
}
