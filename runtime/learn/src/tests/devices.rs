//! The way of other devices, taken on the CPU: the tensor library's operations against our own kernels, in f32; and
//! half precision, which the CPU has only that way.

use candle_core::{DType, Device, Tensor};
use selkie_edit::{LossOn, Projection, Schedule, Training};

use super::support::{
    FAMILIES, adapter, adapter_bits, config, decoder, distance, largest, lora, rng, sequence,
};
use crate::config::Family;
use crate::decoder::{Decoder, Gradients, Wanted};
use crate::device::Compute;
use crate::error::LearnError;
use crate::lora::{Adapter, LoraConfig};
use crate::ops::{Dropout, forced::portable};
use crate::run::{Run, RunSettings, advance, train_many};
use crate::sample::generate;
use crate::sampler::SamplingSettings;
use crate::score::{score_many, token_logits};
use crate::sequence::Sequence;
use crate::train::{Part, PassOptions, loss_and_gradients};

/// Lengths that fall into several batches of attention, one sequence without a label, one label in a middle.
fn batch(seed: u64) -> Vec<Sequence> {
    let mut rng = rng(seed);
    let shapes = [(9, 4), (6, 5), (2, 1), (7, 0), (8, 3), (17, 2), (1, 0)];
    let mut batch = shapes.map(|(len, labelled)| sequence(&mut rng, len, labelled)).to_vec();
    batch[0].labelled[3] = true;
    batch
}

fn named(gradients: &Gradients) -> Vec<(String, Tensor)> {
    let lanes = gradients.lanes.iter().enumerate().flat_map(|(lane, pairs)| {
        pairs.iter().flat_map(move |(site, (a, b))| {
            let name = format!("{lane}.{}", site.module());
            [(format!("{name}.A"), a.clone()), (format!("{name}.B"), b.clone())]
        })
    });
    lanes.chain(gradients.weights.iter().map(|(name, gradient)| (name.clone(), gradient.clone()))).collect()
}

fn check_gradients(what: &str, found: &(Vec<f32>, Gradients), expected: &(Vec<f32>, Gradients), within: f64) {
    for (found, expected) in found.0.iter().zip(&expected.0) {
        let error = f64::from((found - expected).abs());
        assert!(error < within * f64::from(expected.abs().max(1.0)), "{what}: the loss is off by {error:e}");
    }
    let (found, expected) = (named(&found.1), named(&expected.1));
    assert_eq!(found.len(), expected.len(), "{what}");
    assert!(!found.is_empty(), "{what}");
    for ((name, found), (other, expected)) in found.iter().zip(&expected) {
        assert_eq!((name, found.dtype()), (other, DType::F32), "{what}");
        let error = distance(found, expected) / largest(expected).max(1e-6);
        assert!(error < within, "{what}: the gradient of {name} is off by {error:e}");
    }
}

#[test]
fn gradients_of_the_portable_way_are_those_of_the_kernels() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let decoder = decoder(&config, index as u64);
        let adapter = adapter(&config, &lora(3, &Projection::ALL), 5);
        let batch = batch(7);
        let batch: Vec<&Sequence> = batch.iter().collect();
        for (adapter, wanted) in [(Some(&adapter), Wanted::Adapter), (None, Wanted::Weights)] {
            let part = || [Part { adapter, batch: &batch, dropout: None }];
            let made = || loss_and_gradients(&decoder, &part(), wanted, PassOptions::default()).unwrap();
            check_gradients(&format!("{family:?} {tied} {wanted:?}"), &portable(made), &made(), 1e-5);
        }
    }
}

#[test]
fn lanes_dropout_checkpointing_and_cut_batches_take_the_portable_way() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let config = config(family, true);
        let decoder = decoder(&config, 3);
        let adapters = [
            adapter(&config, &lora(3, &Projection::ALL), 5),
            adapter(&config, &lora(1, &[Projection::VProj]), 6),
            adapter(&config, &lora(5, &[Projection::DownProj, Projection::QProj]), 7),
        ];
        let sets = [batch(1), batch(2), batch(3)];
        let batches: Vec<Vec<&Sequence>> = sets.iter().map(|set| set.iter().collect()).collect();
        for (rows, sequences, checkpointing) in
            [(8192, usize::MAX, false), (8192, usize::MAX, true), (20, usize::MAX, false), (8192, 1, true)]
        {
            let options = PassOptions { rows, sequences, checkpointing };
            let made = || {
                let each = adapters.iter().zip(&batches).enumerate();
                let parts: Vec<Part<'_>> = each
                    .map(|(index, (adapter, batch))| Part {
                        adapter: Some(adapter),
                        batch,
                        dropout: (index < 2).then_some(Dropout {
                            share: 0.3,
                            key: index as u64,
                            first: 0,
                            first_asked: 0,
                        }),
                    })
                    .collect();
                loss_and_gradients(&decoder, &parts, Wanted::Adapter, options).unwrap()
            };
            check_gradients(&format!("{family:?} {options:?}"), &portable(made), &made(), 1e-5);
        }
    }
}

fn training(lora_rank: u32) -> Training {
    Training {
        loss_on: LossOn::AllTokens,
        learning_rate: 5e-3,
        epochs: 5,
        batch_size: 16,
        lora: lora(lora_rank, &Projection::ALL),
        schedule: Schedule::Cosine,
        warmup_steps: 0,
    }
}

fn adapter_distance(one: &Adapter, other: &Adapter) -> f64 {
    let each = one.sites().zip(other.sites());
    each.map(|((_, one), (_, other))| distance(&one.a, &other.a).max(distance(&one.b, &other.b)))
        .fold(0.0, f64::max)
}

#[test]
fn five_steps_of_the_portable_way_are_those_of_the_kernels() {
    for (family, tied) in FAMILIES {
        let decoder = decoder(&config(family, tied), 6);
        let sets = [batch(1), batch(2)];
        let run = || {
            let jobs: Vec<(&[Sequence], RunSettings)> = sets
                .iter()
                .zip([2, 4])
                .map(|(set, rank)| {
                    let mut settings = RunSettings::new(&training(rank), 1);
                    settings.adamw.weight_decay = 0.1;
                    settings.lora = LoraConfig { dropout: 0.1, ..settings.lora };
                    (set.as_slice(), settings)
                })
                .collect();
            let trained = train_many(&decoder, &jobs, PassOptions::default(), |_, _| {}).unwrap();
            trained.into_iter().map(Result::unwrap).collect::<Vec<_>>()
        };
        for (found, expected) in portable(run).iter().zip(run()) {
            assert_eq!(found.steps.len(), 5);
            let error = adapter_distance(&found.adapter, &expected.adapter);
            assert!(error < 1e-4, "{family:?}: adapters differ by {error:e}");
            for (found, expected) in found.steps.iter().zip(&expected.steps) {
                assert!((found.loss - expected.loss).abs() < 1e-4, "{family:?}: {found:?}, {expected:?}");
                assert!((found.grad_norm - expected.grad_norm).abs() < 1e-3 * expected.grad_norm);
            }
        }
    }
}

#[test]
fn scores_and_continuations_of_the_portable_way_are_those_of_the_kernels() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let decoder = decoder(&config, index as u64);
        let adapter = adapter(&config, &lora(3, &Projection::ALL), 5);
        let items = batch(9);
        let scores = || score_many(&decoder, &[(Some(&adapter), &items), (None, &items)]).unwrap();
        for (found, expected) in portable(scores).iter().flatten().zip(scores().iter().flatten()) {
            assert_eq!((found.greedy, found.tokens), (expected.greedy, expected.tokens));
            assert!((found.log_prob - expected.log_prob).abs() < 1e-4, "{found:?}, expected {expected:?}");
        }
        let prompt = [3, 1, 4, 1, 5];
        let said = || {
            let mut positions = 0..;
            let place = move |_| positions.next().unwrap();
            generate(&decoder, Some(&adapter), &prompt, place, SamplingSettings::GREEDY, &[], 20).unwrap()
        };
        assert_eq!(portable(said), said());
        let merged = decoder.merged(&adapter).unwrap();
        let logits = || token_logits(&merged, None, &prompt, &[0, 1, 2, 3, 4]).unwrap();
        assert!(distance(&portable(logits), &logits()) < 1e-4);
    }
}

/// bf16 is what a GPU computes in; of the two halves the CPU's library multiplies only f16, by the same code.
fn in_half(decoder: &Decoder) -> Decoder {
    decoder.to_device(&Device::Cpu, DType::F16).unwrap()
}

#[test]
fn half_precision_is_near() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let whole = decoder(&config, index as u64);
        let half = in_half(&whole);
        assert_eq!((half.kind(), whole.kind()), (DType::F16, DType::F32));
        let adapter = adapter(&config, &lora(3, &Projection::ALL), 5);
        let (ids, positions) = ([3, 1, 4, 1, 5, 9, 2, 6], [0, 1, 2, 3, 4, 5, 6, 7]);
        let logits = |decoder| token_logits(decoder, Some(&adapter), &ids, &positions).unwrap();
        let (found, expected) = (logits(&half), logits(&whole));
        assert_eq!(found.dtype(), DType::F32);
        let error = distance(&found, &expected) / largest(&expected);
        assert!(error < 1e-2, "{family:?}: logits are off by {error:e}");
        let batch = batch(7);
        let batch: Vec<&Sequence> = batch.iter().collect();
        let made = |decoder| {
            let part = Part { adapter: Some(&adapter), batch: &batch, dropout: None };
            loss_and_gradients(decoder, &[part], Wanted::Adapter, PassOptions::default()).unwrap()
        };
        check_gradients(&format!("{family:?} in half"), &made(&half), &made(&whole), 5e-2);
        // And back: weights that have been rounded, in f32.
        let back = half.to_device(&Device::Cpu, DType::F32).unwrap();
        assert!(distance(&logits(&back), &expected) / largest(&expected) < 1e-2);
        let merged = half.merged(&adapter).unwrap();
        assert_eq!(merged.kind(), DType::F16);
        let merged = token_logits(&merged, None, &ids, &positions).unwrap();
        assert!(distance(&merged, &expected) / largest(&expected) < 1e-2, "{family:?}, merged");
    }
}

#[test]
fn half_precision_learns_keeps_adapters_whole_and_goes_on_from_a_checkpoint() {
    let config = config(Family::Qwen2, false);
    let half = in_half(&decoder(&config, 6));
    let set = batch(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.safetensors");
    let settings = RunSettings { epochs: 20, ..RunSettings::new(&training(4), 1) };
    let mut run = Run::new(&half, &set, settings.clone()).unwrap();
    for step in 0..20 {
        advance(&half, &mut [&mut run], PassOptions::default()).unwrap().remove(0).1.unwrap();
        if step == 9 {
            run.checkpoint(&path).unwrap();
        }
    }
    let trained = run.finish().unwrap();
    let (first, last) = (trained.steps[0].loss, trained.steps[19].loss);
    assert!(last < 0.9 * first, "{first} to {last}");
    assert!(trained.adapter.sites().all(|(_, pair)| pair.a.dtype() == DType::F32));
    let mut resumed = Run::new(&half, &set, settings).unwrap();
    resumed.resume(&path).unwrap();
    while !resumed.is_finished() {
        advance(&half, &mut [&mut resumed], PassOptions::default()).unwrap();
    }
    assert_eq!(adapter_bits(&resumed.finish().unwrap().adapter), adapter_bits(&trained.adapter));
}

#[test]
fn half_precision_continues_and_other_types_are_refused() {
    let config = config(Family::Llama, true);
    let whole = decoder(&config, 2);
    let adapter = adapter(&config, &lora(3, &Projection::ALL), 5);
    let mut positions = 0..;
    let place = move |_| positions.next().unwrap();
    let greedy = SamplingSettings::GREEDY;
    let (ids, _) = generate(&in_half(&whole), Some(&adapter), &[1, 2], place, greedy, &[], 9).unwrap();
    assert_eq!(ids.len(), 9);
    let refused = whole.to_device(&Device::Cpu, DType::I64).unwrap_err();
    assert!(matches!(&refused, LearnError::Device(_)), "{refused}");
    assert_eq!(Compute::cpu().with_kind(DType::F16).to_string(), "cpu, f16");
}

#[test]
fn weights_of_a_file_stay_there_for_the_cpu_and_become_tensors_elsewhere() {
    let files = crate::bundled::files(selkie_edit::Domain::Passage);
    let (ids, positions) = ([3, 1, 4, 1, 5], [0, 1, 2, 3, 4]);
    let logits = |decoder: &Decoder| token_logits(decoder, None, &ids, &positions).unwrap();
    let stored = files.decoder().unwrap();
    let expected = logits(&stored);
    assert_eq!(distance(&logits(&files.decoder_on(&Compute::cpu()).unwrap()), &expected), 0.0);
    let half = files.decoder_on(&Compute::cpu().with_kind(DType::F16)).unwrap();
    let error = distance(&logits(&half), &expected) / largest(&expected);
    assert!(error > 0.0 && error < 2e-2, "{error:e}");
    assert!(distance(&portable(|| logits(&stored)), &expected) < 1e-3);
}
