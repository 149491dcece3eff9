//! The operations one by one: against their formulas in f64, and against each other.

use candle_core::{Device, Tensor};

use super::support::{distance, normal, rng};
use crate::ops::{self, Heads, Pattern};

const HEADS: Heads = Heads { query: 4, key: 2, dim: 6 };

/// Sequences of these lengths that see only themselves.
fn own(lengths: &[usize]) -> Pattern {
    let mut pattern = Pattern::default();
    lengths.iter().for_each(|&len| pattern.push(len, len));
    pattern
}

fn rows(tensor: &Tensor, start: usize, len: usize) -> Tensor {
    tensor.narrow(0, start, len).unwrap().contiguous().unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

fn check(what: &str, found: &Tensor, expected: &[f64], tolerance: f64) {
    let found = floats(found);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < tolerance, "{what}: element {at} is {found}, expected {expected}");
    }
}

#[test]
fn attention_by_its_formula() {
    let (len, mut rng) = (7, rng(1));
    let [q, k, v] = [4, 2, 2].map(|heads| normal(&mut rng, &[len, heads * HEADS.dim], 1.0, 0.0));
    let out = ops::attention(&q, &k, &v, HEADS, &own(&[len])).unwrap();
    let (q, k, v) = (floats(&q), floats(&k), floats(&v));
    let mut expected = Vec::new();
    for row in 0..len {
        for head in 0..4 {
            let key = |at: usize, i: usize| at * 12 + head / 2 * 6 + i;
            let score = |at: usize| (0..6).map(|i| q[row * 24 + head * 6 + i] * k[key(at, i)]).sum::<f64>();
            let terms: Vec<f64> = (0..=row).map(|at| (score(at) / 6f64.sqrt()).exp()).collect();
            let total: f64 = terms.iter().sum();
            for i in 0..6 {
                expected.push((0..=row).map(|at| terms[at] / total * v[key(at, i)]).sum::<f64>());
            }
        }
    }
    check("attention", &out, &expected, 1e-5);
}

#[test]
fn attention_over_a_cache_is_attention_over_the_whole() {
    let (len, mut rng) = (9, rng(2));
    let [q, k, v] = [4, 2, 2].map(|heads| normal(&mut rng, &[len, heads * HEADS.dim], 1.0, 0.0));
    let full = ops::attention(&q, &k, &v, HEADS, &own(&[len])).unwrap();
    for cached in 0..len {
        let mut pattern = Pattern::default();
        pattern.push(len - cached, len);
        let later = ops::attention(&rows(&q, cached, len - cached), &k, &v, HEADS, &pattern).unwrap();
        assert!(distance(&later, &rows(&full, cached, len - cached)) < 1e-6, "{cached} cached");
    }
    // Packed behind another sequence whose keys nobody else sees.
    let packed = ops::attention(&q, &k, &v, HEADS, &own(&[4, 5])).unwrap();
    assert!(distance(&rows(&packed, 0, 4), &rows(&full, 0, 4)) < 1e-6);
    let [q, k, v] = [q, k, v].map(|x| rows(&x, 4, 5));
    let lone = ops::attention(&q, &k, &v, HEADS, &own(&[5])).unwrap();
    assert!(distance(&rows(&packed, 4, 5), &lone) < 1e-6);
    assert!(distance(&rows(&packed, 4, 5), &rows(&full, 4, 5)) > 1e-2);
}

#[test]
fn attention_of_some_rows_is_that_of_all() {
    let (lengths, mut rng) = ([150, 1, 70], rng(12));
    let total: usize = lengths.iter().sum();
    let [q, k, v] = [4, 2, 2].map(|heads| normal(&mut rng, &[total, heads * HEADS.dim], 1.0, 0.0));
    let all = own(&lengths);
    let full = ops::attention(&q, &k, &v, HEADS, &all).unwrap();
    for kept in [vec![], vec![0], vec![149, 150], vec![3, 64, 65, 149, 151, 220], (0..221).collect()] {
        let kept: Vec<u32> = kept;
        if kept.is_empty() {
            assert_eq!(all.keep(&kept).queries(), 0);
            continue;
        }
        let index = Tensor::new(kept.as_slice(), &Device::Cpu).unwrap();
        let some = ops::attention(&q.index_select(&index, 0).unwrap(), &k, &v, HEADS, &all.keep(&kept));
        assert!(distance(&some.unwrap(), &full.index_select(&index, 0).unwrap()) < 1e-5, "{kept:?}");
    }
    assert_eq!(all.keep(&(0..221).collect::<Vec<_>>()), all);
}

#[test]
fn values_that_do_not_fit_the_pattern_are_refused() {
    let mut rng = rng(3);
    let [q, k, v] = [4, 2, 2].map(|heads| normal(&mut rng, &[4, heads * HEADS.dim], 1.0, 0.0));
    for lengths in [&[3][..], &[5], &[2, 1]] {
        let error = ops::attention(&q, &k, &v, HEADS, &own(lengths)).unwrap_err();
        assert!(error.to_string().contains("BUG: attention over"), "{error}");
    }
}

#[test]
fn a_rotation_turned_back_is_nothing() {
    let (tokens, dim, mut rng) = (70, 6, rng(4));
    let x = normal(&mut rng, &[tokens, 3 * dim], 1.0, 0.0);
    let angles = normal(&mut rng, &[tokens, dim / 2], 2.0, 0.0);
    let table = Tensor::cat(&[angles.cos().unwrap(), angles.sin().unwrap()], 1).unwrap();
    let there = ops::rotate(&x, &table, false).unwrap();
    assert!(distance(&there, &x) > 0.5);
    assert!(distance(&ops::rotate(&there, &table, true).unwrap(), &x) < 1e-6);
    // The first coordinate of a quarter turn is minus what the second was.
    let quarter = Tensor::new(&[[0f32, 1.0]], &Device::Cpu).unwrap();
    let turned = ops::rotate(&Tensor::new(&[[3f32, 5.0]], &Device::Cpu).unwrap(), &quarter, false).unwrap();
    assert_eq!(turned.to_vec2::<f32>().unwrap(), [[-5.0, 3.0]]);
}

#[test]
fn rms_norm_by_its_formula() {
    let mut rng = rng(5);
    let (x, weight) = (normal(&mut rng, &[130, 5], 2.0, 0.3), normal(&mut rng, &[5], 1.0, 0.0));
    let eps = 0.37;
    let (values, weights) = (floats(&x), floats(&weight));
    let expected: Vec<f64> = values
        .chunks(5)
        .flat_map(|row| {
            let rms = (row.iter().map(|x| x * x).sum::<f64>() / 5.0 + eps).sqrt();
            row.iter().zip(&weights).map(move |(x, w)| x / rms * w).collect::<Vec<_>>()
        })
        .collect();
    check("norm", &ops::rms_norm(&x, &weight, eps).unwrap(), &expected, 1e-5);
    // A row of zeros stays finite, forward and backward.
    let zeros = x.zeros_like().unwrap();
    check("zeros", &ops::rms_norm(&zeros, &weight, 1e-6).unwrap(), &vec![0.0; 650], 1e-9);
    let back = ops::rms_norm_backward(&zeros, &weight, &x, 1e-6).unwrap();
    assert!(floats(&back).iter().all(|value| value.is_finite()));
}

#[test]
fn swiglu_and_its_gradient_by_their_formulas() {
    let mut rng = rng(6);
    // More elements than one parallel task takes.
    let shape = [101, 331];
    let [gate, up, d] = [0.0; 3].map(|mean| normal(&mut rng, &shape, 3.0, mean));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let (g, u, e) = (floats(&gate), floats(&up), floats(&d));
    let each = |of: &dyn Fn(f64, f64, f64) -> f64| -> Vec<f64> {
        g.iter().zip(&u).zip(&e).map(|((&g, &u), &e)| of(g, u, e)).collect()
    };
    check("forward", &ops::swiglu(&gate, &up).unwrap(), &each(&|g, u, _| g * sigmoid(g) * u), 1e-4);
    let (d_gate, d_up) = ops::swiglu_backward(&gate, &up, &d).unwrap();
    assert_eq!((d_gate.dims(), d_up.dims()), (&shape[..], &shape[..]));
    check("d up", &d_up, &each(&|g, _, e| e * g * sigmoid(g)), 1e-4);
    let slope = |g: f64| sigmoid(g) * (1.0 + g * (1.0 - sigmoid(g)));
    check("d gate", &d_gate, &each(&|g, u, e| e * u * slope(g)), 1e-4);
}

#[test]
fn log_probabilities_of_all_targets_sum_to_one() {
    let (vocab, mut rng) = (11, rng(8));
    let row = normal(&mut rng, &[1, vocab], 4.0, 50.0);
    let logits = row.broadcast_as((vocab, vocab)).unwrap().contiguous().unwrap();
    let targets: Vec<u32> = (0..vocab as u32).collect();
    let scored = ops::token_log_probs(&logits, &targets).unwrap();
    let total: f64 = scored.iter().map(|row| f64::from(row.0).exp()).sum();
    assert!((total - 1.0).abs() < 1e-5, "{total}");
    let best = ops::arg_max(&row.flatten_all().unwrap().to_vec1::<f32>().unwrap()).0;
    for (target, row) in scored.iter().enumerate() {
        assert_eq!(row.1, target == best);
    }
    for (targets, logits) in [(&targets[..3], &logits), (&[0, 11][..], &rows(&logits, 0, 2))] {
        let scales = vec![1.0; targets.len()];
        for error in [
            ops::token_log_probs(logits, targets).unwrap_err(),
            ops::cross_entropy(logits.clone(), targets, &scales).unwrap_err(),
        ] {
            let expected = format!("BUG: {} targets for {} rows", targets.len(), logits.dims()[0]);
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}

#[test]
fn the_gradient_of_cross_entropy_by_its_formula() {
    let mut rng = rng(9);
    let (count, vocab, scale) = (70, 5, 0.25);
    let logits = normal(&mut rng, &[count, vocab], 3.0, 0.0);
    let targets: Vec<u32> = (0..count as u32).map(|row| row % 5).collect();
    let mut expected = Vec::new();
    for (row, &target) in floats(&logits).chunks(vocab).zip(&targets) {
        let total: f64 = row.iter().map(|logit| logit.exp()).sum();
        expected.extend(
            (0..vocab).map(|at| scale * (row[at].exp() / total - f64::from(u8::from(at == target as usize)))),
        );
    }
    let scales = vec![scale as f32; count];
    let (log_probs, gradient) = ops::cross_entropy(logits.copy().unwrap(), &targets, &scales).unwrap();
    check("gradient", &gradient, &expected, 1e-6);
    let scored = ops::token_log_probs(&logits, &targets).unwrap();
    for (log_prob, (expected, _)) in log_probs.into_iter().zip(scored) {
        assert!((log_prob - expected).abs() < 1e-6);
    }
}

#[test]
fn ties_go_to_the_lower_id_in_decoding_and_in_scoring() {
    for (logits, best) in [
        (vec![1f32, 3.0, 3.0, 2.0], 1),
        (vec![0.0, 0.0], 0),
        (vec![-1.0, -2.0, -1.0], 0),
        (vec![f32::NEG_INFINITY, -1e30, -1e30], 1),
        (vec![-0.0, 0.0], 0),
    ] {
        assert_eq!(ops::arg_max(&logits).0, best, "{logits:?}");
        let vocab = logits.len();
        let rows = Tensor::new(logits, &Device::Cpu).unwrap();
        let rows = rows.broadcast_as((vocab, vocab)).unwrap().contiguous().unwrap();
        let scored = ops::token_log_probs(&rows, &(0..vocab as u32).collect::<Vec<_>>()).unwrap();
        let greedy: Vec<usize> = (0..vocab).filter(|&id| scored[id].1).collect();
        assert_eq!(greedy, [best]);
    }
}
