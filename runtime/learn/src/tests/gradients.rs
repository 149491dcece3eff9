//! The hand-written backward pass against the tensor library's gradients of [`Reference`], against finite
//! differences, and against itself on packed and lone sequences.

use candle_core::Tensor;
use selkie_edit::Projection;

use super::reference::Reference;
use super::support::{FAMILIES, adapter, config, decoder, distance, largest, lora, rng, sequence, weights};
use crate::config::{Family, RopeScaling};
use crate::decoder::{Decoder, Gradients, Wanted};
use crate::lora::Adapter;
use crate::sequence::Sequence;
use crate::train::{Part, PassOptions, loss_and_gradients};

/// Three sequences of unequal lengths; the second stands at positions that jump, as a puzzle's do, and has a
/// hole in its labels.
fn batch() -> Vec<Sequence> {
    let mut rng = rng(7);
    let mut batch = [(9, 4), (6, 5), (2, 1)].map(|(len, labelled)| sequence(&mut rng, len, labelled));
    batch[1].positions = vec![0, 160, 173, 174, 173, 320];
    batch[1].labelled[3] = false;
    batch.to_vec()
}

fn ours(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    batch: &[Sequence],
    wanted: Wanted,
) -> (f32, Gradients) {
    let batch: Vec<&Sequence> = batch.iter().collect();
    let part = Part { adapter, batch: &batch, dropout: None };
    let (losses, gradients) = loss_and_gradients(decoder, &[part], wanted, PassOptions::default()).unwrap();
    (losses[0], gradients)
}

/// Every gradient by a name.
fn named(gradients: &Gradients) -> Vec<(String, Tensor)> {
    let pairs = gradients.lanes.iter().flatten().flat_map(|(site, (a, b))| {
        [(format!("{}.A", site.module()), a.clone()), (format!("{}.B", site.module()), b.clone())]
    });
    pairs.chain(gradients.weights.iter().map(|(name, gradient)| (name.clone(), gradient.clone()))).collect()
}

/// Every gradient is within `tolerance` of the expected one, relative to its largest element, and none is zero.
fn check(what: &str, found: &[(String, Tensor)], expected: &[(String, Tensor)], tolerance: f64) {
    let names = |all: &[(String, Tensor)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        let size = largest(expected);
        assert!(size > 1e-6, "{what}: the gradient of {name} is {size}: this test sees nothing of it");
        let error = distance(found, expected) / size;
        assert!(error < tolerance, "{what}: the gradient of {name} is off by {error:e}");
    }
}

/// Against the reference: the loss, the logits and every gradient.
fn check_reference(what: &str, decoder: &Decoder, adapter: Option<&Adapter>, wanted: Wanted) {
    let batch = batch();
    let (loss, gradients) = ours(decoder, adapter, &batch, wanted);
    let reference = Reference::new(decoder, adapter);
    for sequence in &batch {
        let logits =
            crate::score::token_logits(decoder, adapter, &sequence.ids, &sequence.positions).unwrap();
        let error = distance(&logits, &reference.logits(&sequence.ids, &sequence.positions));
        assert!(error < 1e-4, "{what}: logits are off by {error:e}");
    }
    let expected_loss = reference.loss(&batch.iter().collect::<Vec<_>>());
    let error = (f64::from(loss) - expected_loss.to_scalar::<f64>().unwrap()).abs();
    assert!(error < 1e-5, "{what}: the loss is off by {error:e}");
    let store = expected_loss.backward().unwrap();
    let gradient = |of: &Tensor| store.get(of).unwrap().clone();
    let expected = Gradients {
        lanes: match wanted {
            Wanted::Weights => Vec::new(),
            Wanted::Adapter => {
                let pairs = reference.pairs.iter();
                vec![pairs.map(|(site, (a, b, _))| (*site, (gradient(a), gradient(b)))).collect()]
            }
        },
        weights: match wanted {
            Wanted::Adapter => Default::default(),
            Wanted::Weights => {
                reference.weights.iter().map(|(name, weight)| (name.clone(), gradient(weight))).collect()
            }
        },
    };
    check(what, &named(&gradients), &named(&expected), 1e-4);
}

#[test]
fn gradients_of_every_lora_pair_are_the_tensor_librarys() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let config = config(family, tied);
        let decoder = decoder(&config, index as u64);
        let adapter = adapter(&config, &lora(3, &Projection::ALL), 5);
        check_reference(&format!("{family:?}, tied {tied}"), &decoder, Some(&adapter), Wanted::Adapter);
    }
}

#[test]
fn gradients_of_every_weight_are_the_tensor_librarys() {
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let decoder = decoder(&config(family, tied), index as u64);
        check_reference(&format!("{family:?}, tied {tied}"), &decoder, None, Wanted::Weights);
        assert_eq!(weights(&decoder).contains_key("lm_head.weight"), !tied);
    }
}

#[test]
fn gradients_of_some_layers_do_not_need_those_of_others() {
    let config = config(Family::Llama, false);
    let decoder = decoder(&config, 3);
    for projection in Projection::ALL {
        let whole = adapter(&config, &lora(2, &[projection]), 5);
        check_reference(projection.as_str(), &decoder, Some(&whole), Wanted::Adapter);
        // The backward pass stops below the lowest adapted block.
        let mut upper = whole.clone();
        upper.pairs.retain(|site, _| site.layer == 1);
        check_reference(&format!("{projection:?} above"), &decoder, Some(&upper), Wanted::Adapter);
        let mut lower = whole;
        lower.pairs.retain(|site, _| site.layer == 0);
        check_reference(&format!("{projection:?} below"), &decoder, Some(&lower), Wanted::Adapter);
    }
}

#[test]
fn gradients_of_a_pack_are_those_of_its_sequences() {
    for (family, tied) in FAMILIES {
        let config = config(family, tied);
        let decoder = decoder(&config, 11);
        let adapter = adapter(&config, &lora(2, &Projection::ALL), 5);
        for (adapter, wanted) in [(Some(&adapter), Wanted::Adapter), (None, Wanted::Weights)] {
            let batch = batch();
            let (loss, packed) = ours(&decoder, adapter, &batch, wanted);
            let labelled: usize = batch.iter().map(Sequence::labelled_count).sum();
            let mut total = 0.0;
            let mut sums: Vec<(String, Tensor)> = Vec::new();
            for sequence in &batch {
                let share = sequence.labelled_count() as f64 / labelled as f64;
                let (loss, lone) = ours(&decoder, adapter, std::slice::from_ref(sequence), wanted);
                total += share * f64::from(loss);
                for (at, (name, gradient)) in named(&lone).into_iter().enumerate() {
                    let gradient = gradient.affine(share, 0.0).unwrap();
                    match sums.get_mut(at) {
                        Some((_, sum)) => *sum = (&*sum + gradient).unwrap(),
                        None => sums.push((name, gradient)),
                    }
                }
            }
            assert!((f64::from(loss) - total).abs() < 5e-6);
            check(&format!("{family:?} {wanted:?}"), &named(&packed), &sums, 1e-5);
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    const STEP: f32 = 4e-3;
    let config = config(Family::Qwen3, false);
    let base = decoder(&config, 2);
    let batch = batch();
    let (_, gradients) = ours(&base, None, &batch, Wanted::Weights);
    let slope = |name: &str, at: usize| {
        let moved = |step: f32| {
            let mut moved = base.clone();
            for (_, weight) in moved.weights_mut().unwrap().into_iter().filter(|(own, _)| own == name) {
                let mut values = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                values[at] += step;
                *weight = Tensor::from_vec(values, weight.shape(), weight.device()).unwrap();
            }
            f64::from(ours(&moved, None, &batch, Wanted::Weights).0)
        };
        (moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP)
    };
    for (name, gradient) in &gradients.weights {
        let values = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (at, steepest) =
            values.iter().copied().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        let (found, expected) = (f64::from(steepest), slope(name, at));
        let error = (found - expected).abs();
        assert!(
            error < 0.02 * expected.abs() + 2e-4,
            "{name}[{at}]: {found}, but the loss rises by {expected}"
        );
    }
}

#[test]
fn gradients_hold_with_scaled_positions() {
    // The scaling is a matter of the frequencies alone: a linear factor of 2 is every position halved.
    let plain = config(Family::Llama, false);
    let mut scaled = plain.clone();
    scaled.rope.scaling = RopeScaling::Linear { factor: 2.0 };
    let (ids, even) = ([3, 1, 4, 1, 5], [0, 2, 8, 10, 40]);
    let logits = |config, positions: &[u32]| {
        crate::score::token_logits(&decoder(config, 1), None, &ids, positions).unwrap()
    };
    let halved = logits(&plain, &even.map(|position| position / 2));
    assert!(distance(&logits(&scaled, &even), &halved) < 1e-5);
    assert!(distance(&logits(&plain, &even), &halved) > 1e-2);
}
