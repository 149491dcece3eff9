//! The operations put together from the tensor library's against those that the CPU has, both on the CPU.

use candle_core::{Device, Result, Tensor};

use super::support::{distance, normal, rng};
use crate::lora::LoraPair;
use crate::ops::{self, Dropout, Heads, Pattern, Update, portable};
use crate::weights::Matrix;

fn check(what: &str, found: Result<Tensor>, expected: Result<Tensor>) {
    let (found, expected) = (found.unwrap(), expected.unwrap());
    assert_eq!(found.dtype(), expected.dtype(), "{what}");
    let off = distance(&found, &expected);
    assert!(off < 1e-5, "{what} is off by {off:e}");
}

fn index(rows: &[u32]) -> Tensor {
    Tensor::new(rows, &Device::Cpu).unwrap()
}

#[test]
fn operations_on_rows() {
    let mut rng = rng(1);
    for (rows, width) in [(1, 1), (3, 8), (70, 5), (17, 130), (300, 64)] {
        let [x, d] = [0.0; 2].map(|mean| normal(&mut rng, &[rows, width], 1.0, mean));
        let weight = normal(&mut rng, &[width], 1.0, 0.5);
        let what = format!("{rows}x{width}");
        for eps in [1e-6, 0.3] {
            check(&what, portable::rms_norm(&x, &weight, eps), ops::rms_norm(&x, &weight, eps));
            let back = portable::rms_norm_backward(&x, &weight, &d, eps);
            let (found, expected) = (back.unwrap(), ops::rms_norm_backward(&x, &weight, &d, eps).unwrap());
            let size = super::support::largest(&expected).max(1.0);
            assert!(distance(&found, &expected) < 1e-5 * size, "{what}: norm's gradient");
        }
        let up = normal(&mut rng, &[rows, width], 1.0, 0.0);
        check(&what, portable::swiglu(&x, &up), ops::swiglu(&x, &up));
        let (found, expected) = (portable::swiglu_backward(&x, &up, &d), ops::swiglu_backward(&x, &up, &d));
        let ((gate, up), (expected_gate, expected_up)) = (found.unwrap(), expected.unwrap());
        check(&what, Ok(gate), Ok(expected_gate));
        check(&what, Ok(up), Ok(expected_up));
        let logits = x.affine(5.0, 0.0).unwrap();
        let targets: Vec<u32> = (0..rows).map(|row| (row * 7 % width) as u32).collect();
        let scales: Vec<f32> = (0..rows).map(|row| 1.0 / (1 + row % 5) as f32).collect();
        let (found, gradient) = portable::cross_entropy(&logits, &targets, &scales).unwrap();
        let (expected, expected_gradient) = ops::cross_entropy(logits, &targets, &scales).unwrap();
        check(&what, Ok(gradient), Ok(expected_gradient));
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{what}: {found} and {expected}");
        }
    }
}

#[test]
fn rotations() {
    let mut rng = rng(2);
    for (tokens, heads, dim) in [(1, 1, 2), (7, 3, 6), (130, 4, 64)] {
        let x = normal(&mut rng, &[tokens, heads * dim], 1.0, 0.0);
        let angles = normal(&mut rng, &[tokens, dim / 2], 2.0, 0.0);
        let table = Tensor::cat(&[angles.cos().unwrap(), angles.sin().unwrap()], 1).unwrap();
        for inverse in [false, true] {
            let what = format!("{tokens} tokens, {heads} heads of {dim}, inverse {inverse}");
            check(&what, portable::rotate(&x, &table, inverse), ops::rotate(&x, &table, inverse));
        }
    }
}

/// Whole sequences, sequences of which the last tokens ask, and some rows of either; of some sequences none.
fn patterns() -> Vec<Pattern> {
    let pattern = |sequences: &[(usize, usize)]| {
        let mut pattern = Pattern::default();
        sequences.iter().for_each(|&(queries, keys)| pattern.push(queries, keys));
        pattern
    };
    let whole = pattern(&[(5, 5), (1, 1), (130, 130), (9, 9)]);
    let later = pattern(&[(1, 8), (3, 70), (2, 2)]);
    let every_third: Vec<u32> = (0..145).step_by(3).collect();
    vec![
        pattern(&[(1, 1)]),
        pattern(&[(7, 7)]),
        whole.keep(&every_third),
        whole.keep(&[4, 70]),
        whole.keep(&[144]),
        whole,
        later.keep(&[0, 2, 5]),
        later,
    ]
}

#[test]
fn attention_of_every_pattern() {
    let mut rng = rng(3);
    for heads in [(1, 1, 2), (4, 2, 6), (6, 1, 16), (3, 3, 10)] {
        let heads = Heads { query: heads.0, key: heads.1, dim: heads.2 };
        for (place, pattern) in patterns().iter().enumerate() {
            let what = format!("{heads:?}, pattern {place}");
            let wide = |rng: &mut _, rows, heads_| normal(rng, &[rows, heads_ * heads.dim], 1.0, 0.0);
            let q = wide(&mut rng, pattern.queries(), heads.query);
            let [k, v] = [0; 2].map(|_| wide(&mut rng, pattern.keys(), heads.key));
            let out = ops::attention(&q, &k, &v, heads, pattern).unwrap();
            check(&what, portable::attention(&q, &k, &v, heads, pattern), Ok(out.clone()));
            let d = wide(&mut rng, pattern.queries(), heads.query);
            let found = portable::attention_backward([&q, &k, &v], &out, &d, heads, pattern).unwrap();
            let expected = ops::attention_backward([&q, &k, &v], &out, &d, heads, pattern).unwrap();
            for (of, (found, expected)) in ["q", "k", "v"].iter().zip(found.into_iter().zip(expected)) {
                check(&format!("{what}, gradient of {of}"), Ok(found), Ok(expected));
            }
        }
    }
}

#[test]
fn linear_layers_with_every_kind_of_update() {
    let mut rng = rng(4);
    let dropout = |share| Some(Dropout { share, key: 5, first: 3, first_asked: 0 });
    // Rows, rank (0: none) and dropout of each lane.
    let families: [&[(usize, usize, Option<Dropout>)]; 6] = [
        &[],
        &[(6, 0, None)],
        &[(6, 4, None)],
        &[(70, 3, dropout(0.3))],
        &[(2, 1, None), (5, 0, None), (0, 0, None), (130, 16, dropout(0.5)), (1, 7, None)],
        &[(3, 2, dropout(0.1)), (9, 5, dropout(0.9))],
    ];
    for (input, out) in [(1, 1), (24, 40), (65, 3)] {
        let weight = Matrix::Tensor(normal(&mut rng, &[out, input], 0.3, 0.0));
        let bias = normal(&mut rng, &[out], 1.0, 0.0);
        for (place, family) in families.iter().enumerate() {
            let pair = |&(_, rank, _): &(usize, usize, Option<Dropout>)| {
                let mut half = |shape: [usize; 2]| normal(&mut rng, &shape, 0.2, 0.0);
                (rank > 0).then(|| LoraPair { a: half([rank, input]), b: half([out, rank]), scale: 1.5 })
            };
            let pairs: Vec<Option<LoraPair>> = family.iter().map(pair).collect();
            let mut start = 0;
            let update = |(&(len, _, dropout), pair)| {
                start += len;
                let pair = Option::as_ref(pair);
                Update { start: start - len, len, pair, dropout }
            };
            let updates: Vec<Update<'_>> = family.iter().zip(&pairs).map(update).collect();
            let rows = if family.is_empty() { 4 } else { start };
            let [x, d] = [input, out].map(|width| normal(&mut rng, &[rows, width], 0.5, 0.0));
            for bias in [None, Some(&bias)] {
                let what = format!("{input} to {out}, family {place}, bias {}", bias.is_some());
                let (found, found_lows) = portable::linear(&x, &weight, bias, &updates).unwrap();
                let (expected, lows) = ops::linear(&x, &weight, bias, &updates).unwrap();
                check(&what, Ok(found), Ok(expected));
                for (found, expected) in found_lows.into_iter().zip(&lows) {
                    assert_eq!(found.is_some(), expected.is_some(), "{what}");
                    if let (Some(found), Some(expected)) = (found, expected) {
                        check(&what, Ok(found), Ok(expected.clone()));
                    }
                }
                for wants_input in [true, false] {
                    let found =
                        portable::linear_backward(&x, &d, &weight, &updates, &lows, wants_input).unwrap();
                    let expected =
                        ops::linear_backward(&x, &d, &weight, &updates, &lows, wants_input).unwrap();
                    assert_eq!(
                        (found.x.is_some(), expected.x.is_some()),
                        (wants_input, wants_input),
                        "{what}"
                    );
                    if let (Some(found), Some(expected)) = (found.x, expected.x) {
                        check(&what, Ok(found), Ok(expected));
                    }
                    assert_eq!((found.pairs.len(), expected.pairs.len()), (updates.len(), updates.len()));
                    for (found, expected) in found.pairs.into_iter().zip(expected.pairs) {
                        assert_eq!(found.is_some(), expected.is_some(), "{what}");
                        if let (Some(found), Some(expected)) = (found, expected) {
                            check(&format!("{what}, dA"), Ok(found.0), Ok(expected.0));
                            check(&format!("{what}, dB"), Ok(found.1), Ok(expected.1));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rows_that_are_kept_of_a_pattern_ask_as_they_asked() {
    let whole = patterns()[5].clone();
    let heads = Heads { query: 4, key: 2, dim: 6 };
    let mut rng = rng(5);
    let [q, k, v] = [4, 2, 2].map(|heads_: usize| normal(&mut rng, &[145, heads_ * heads.dim], 1.0, 0.0));
    let full = portable::attention(&q, &k, &v, heads, &whole).unwrap();
    for kept in [vec![0u32], vec![4, 5, 6, 144], (0..145).step_by(7).collect()] {
        let some = q.index_select(&index(&kept), 0).unwrap();
        let found = portable::attention(&some, &k, &v, heads, &whole.keep(&kept));
        check(&format!("{kept:?}"), found, full.index_select(&index(&kept), 0));
    }
}
