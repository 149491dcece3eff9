//! Every unit, form and element type against sums in f64, and what a result may depend on.

use super::*;

/// Numbers in -1..1, the same for the same seed.
fn numbers(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        })
        .collect()
}

/// A weight in the three stored forms, with the same values in f32.
struct Weight {
    f32: Vec<f32>,
    bf16: Vec<u16>,
    bf16_as_f32: Vec<f32>,
    f16: Vec<u16>,
    f16_as_f32: Vec<f32>,
}

/// The f32 of a half-precision number, by its definition.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from((bits >> 10) & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

impl Weight {
    fn new(seed: u64, n: usize) -> Weight {
        let f32 = numbers(seed, n);
        let bf16: Vec<u16> = f32.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
        // Some sign, an exponent from subnormal to 1.
        let f16: Vec<u16> = f32.iter().map(|x| ((x.to_bits() >> 7) as u16) & 0xbbff).collect();
        Weight {
            bf16_as_f32: bf16.iter().map(|&bits| f32::from_bits(u32::from(bits) << 16)).collect(),
            f16_as_f32: f16.iter().map(|&bits| half(bits)).collect(),
            f32,
            bf16,
            f16,
        }
    }

    /// Each stored form and its values.
    fn forms(&self) -> [(Elements<'_>, &[f32]); 3] {
        [
            (Elements::F32(&self.f32), &self.f32),
            (Elements::Bf16(&self.bf16), &self.bf16_as_f32),
            (Elements::F16(&self.f16), &self.f16_as_f32),
        ]
    }
}

/// A matrix by its elements, for the reference.
type At<'a> = &'a dyn Fn(usize, usize) -> f32;

/// Asserts `got(i, j) == scale * sum(left(i, s) * right(s, j)) + old(i, j)` up to rounding.
fn check(
    what: &str,
    (m, n, k): (usize, usize, usize),
    got: At<'_>,
    left: At<'_>,
    right: At<'_>,
    scale: f32,
    old: At<'_>,
) {
    for i in 0..m {
        for j in 0..n {
            let (mut sum, mut size) = (0.0f64, 0.0f64);
            for s in 0..k {
                let term = f64::from(left(i, s)) * f64::from(right(s, j));
                (sum, size) = (sum + term, size + term.abs());
            }
            let (scale, old) = (f64::from(scale), f64::from(old(i, j)));
            let (want, size) = (scale * sum + old, scale.abs() * size + old.abs());
            let bound = 1e-6 + size * 6e-8 * (4.0 + (k as f64).sqrt());
            let got = f64::from(got(i, j));
            assert!((got - want).abs() <= bound, "{what} {m}x{n}x{k} at {i},{j}: {got}, expected {want}");
        }
    }
}

/// Shapes around the sizes of tiles, vectors and blocks.
fn shapes() -> Vec<(usize, usize, usize)> {
    let mut shapes =
        vec![(1, 1, 1), (70, 70, 70), (300, 33, 40), (9, 530, 17), (33, 40, 1030), (8, 260, 515)];
    let sizes = numbers(99, 120);
    let size = |x: f32| 1 + ((x + 1.0) * 34.99) as usize;
    shapes.extend(sizes.chunks_exact(3).map(|s| (size(s[0]), size(s[1]), size(s[2]))));
    shapes.extend((1..=26).map(|m| (m, 2 * m + 7, 19)));
    shapes
}

#[test]
fn projections_match_a_sum_in_f64() {
    for unit in units() {
        for (m, out, input) in shapes() {
            let (x, dy) = (numbers(1, m * input), numbers(2, m * out));
            let weight = Weight::new(3, out * input);
            for (kind, (elements, values)) in weight.forms().into_iter().enumerate() {
                let w = Frozen { elements, out, input };
                let mut y = vec![f32::NAN; m * out];
                project_on(unit, &x, w, as_unwritten(&mut y));
                check(
                    &format!("{} project {kind}", unit.name),
                    (m, out, input),
                    &|i, j| y[i * out + j],
                    &|i, s| x[i * input + s],
                    &|s, j| values[j * input + s],
                    1.0,
                    &|_, _| 0.0,
                );
                for add in [false, true] {
                    let before = if add { numbers(4, m * input) } else { vec![f32::NAN; m * input] };
                    let mut dx = before.clone();
                    project_back_on(unit, &dy, w, as_unwritten(&mut dx), add);
                    check(
                        &format!("{} back {kind} {add}", unit.name),
                        (m, input, out),
                        &|i, j| dx[i * input + j],
                        &|i, s| dy[i * out + s],
                        &|s, j| values[s * input + j],
                        1.0,
                        &|i, j| if add { before[i * input + j] } else { 0.0 },
                    );
                }
            }
        }
    }
}

#[test]
fn strided_products_match_a_sum_in_f64_and_leave_the_gaps_alone() {
    for unit in units() {
        for (m, n, k) in shapes() {
            for form in [Form::Nt, Form::Nn, Form::Tn] {
                for (add, scale) in [(false, 1.0), (true, -0.3)] {
                    let (ls, rs, ds) = (
                        if form == Form::Tn { m } else { k } + 3,
                        if form == Form::Nt { k } else { n } + 5,
                        n + 2,
                    );
                    let (left, right) = (numbers(5, (m + k) * ls), numbers(6, (n + k) * rs));
                    let before = numbers(7, m * ds);
                    let mut dst = before.clone();
                    if !add {
                        (0..m).for_each(|i| dst[i * ds..][..n].fill(f32::NAN));
                    }
                    let sides = (Rows { data: &left, stride: ls }, Rows { data: &right, stride: rs });
                    strided(unit, form, (m, n, k), (&mut dst, ds), sides, scale, add);
                    check(
                        &format!("{} {form:?} {add}", unit.name),
                        (m, n, k),
                        &|i, j| dst[i * ds + j],
                        &|i, s| if form == Form::Tn { left[s * ls + i] } else { left[i * ls + s] },
                        &|s, j| if form == Form::Nt { right[j * rs + s] } else { right[s * rs + j] },
                        scale,
                        &|i, j| if add { before[i * ds + j] } else { 0.0 },
                    );
                    for i in 0..m {
                        assert_eq!(
                            dst[i * ds + n..][..2],
                            before[i * ds + n..][..2],
                            "{form:?}: wrote between rows"
                        );
                    }
                }
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn half_precision_weights_give_the_bits_of_the_same_weights_in_f32() {
    for unit in units() {
        for (m, out, input) in [(1, 37, 70), (8, 70, 300), (20, 70, 530), (70, 45, 1100)] {
            let (x, dy) = (numbers(1, m * input), numbers(2, m * out));
            let weight = Weight::new(3, out * input);
            for (elements, values) in weight.forms() {
                let both = [elements, Elements::F32(values)].map(|elements| {
                    let w = Frozen { elements, out, input };
                    let (mut y, mut dx) = (vec![0.0; m * out], vec![0.0; m * input]);
                    project_on(unit, &x, w, as_unwritten(&mut y));
                    project_back_on(unit, &dy, w, as_unwritten(&mut dx), false);
                    (bits(&y), bits(&dx))
                });
                assert!(both[0] == both[1], "{} {m}x{out}x{input}", unit.name);
            }
        }
    }
}

/// Both projections of rows `from..to`.
fn rows_of(
    unit: &Kernels,
    x: &[f32],
    dy: &[f32],
    w: Frozen<'_>,
    (from, to): (usize, usize),
) -> (Vec<u32>, Vec<u32>) {
    let (mut y, mut dx) = (vec![0.0; (to - from) * w.out], vec![0.0; (to - from) * w.input]);
    project_on(unit, &x[from * w.input..to * w.input], w, as_unwritten(&mut y));
    project_back_on(unit, &dy[from * w.out..to * w.out], w, as_unwritten(&mut dx), false);
    (bits(&y), bits(&dx))
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let (out, input) = (1030, 1100);
    let weight = numbers(3, out * input);
    let w = Frozen { elements: Elements::F32(&weight), out, input };
    let (x, dy) = (numbers(1, 300 * input), numbers(2, 300 * out));
    for unit in units() {
        let cases = [
            ((0, 7), vec![(0, 1), (3, 4), (2, 7), (5, 8)]),
            ((0, 300), vec![(0, 100), (37, 46), (250, 300), (90, 210)]),
        ];
        for ((from, to), parts) in cases {
            let (y, dx) = rows_of(unit, &x, &dy, w, (from, to.max(8)));
            for (from, to) in parts {
                let (y_part, dx_part) = rows_of(unit, &x, &dy, w, (from, to));
                assert!(y[from * out..to * out] == y_part, "{} y {from}..{to}", unit.name);
                assert!(dx[from * input..to * input] == dx_part, "{} dx {from}..{to}", unit.name);
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let (out, input) = (1100, 1030);
    let weight = numbers(3, out * input);
    let w = Frozen { elements: Elements::F32(&weight), out, input };
    for m in [1, 5, 8, 9, 50] {
        let (x, dy) = (numbers(1, m * input), numbers(2, m * out));
        let mut results = [1, 2, 3].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| rows_of(best(), &x, &dy, w, (0, m)))
        });
        let first = std::mem::take(&mut results[0]);
        assert!(results[1..].iter().all(|other| *other == first), "m = {m}");
    }
}

#[test]
fn strided_rows_do_not_depend_on_their_number_either() {
    let (n, k) = (40, 700);
    let (left, right) = (numbers(1, 60 * k), numbers(2, n * k));
    for unit in units() {
        for (form, stride) in [(Form::Nt, k), (Form::Nn, n)] {
            let rows = |from: usize, to: usize| {
                let mut dst = vec![0.0; (to - from) * n];
                let sides = (Rows { data: &left[from * k..], stride: k }, Rows { data: &right, stride });
                strided(unit, form, (to - from, n, k), (&mut dst, n), sides, 0.5, false);
                bits(&dst)
            };
            assert!(rows(0, 8)[3 * n..4 * n] == rows(3, 4), "{} {form:?}", unit.name);
            assert!(rows(0, 60)[20 * n..40 * n] == rows(20, 40), "{} {form:?}", unit.name);
        }
    }
}

#[test]
fn nothing_times_anything() {
    let w = |elements, out, input| Frozen { elements, out, input };
    let mut y = [1.0; 6];
    project(&[], w(Elements::F32(&[]), 3, 0), as_unwritten(&mut y));
    assert_eq!(y, [0.0; 6]);
    project(&[], w(Elements::F32(&[]), 0, 0), &mut []);
    project(&[], w(Elements::Bf16(&[0; 6]), 2, 3), &mut []);
    let mut dx = [1.0; 6];
    project_back_on(best(), &[], w(Elements::F16(&[]), 0, 3), as_unwritten(&mut dx), true);
    assert_eq!(dx, [1.0; 6]);
    project_back(&[], w(Elements::F16(&[]), 0, 3), as_unwritten(&mut dx));
    assert_eq!(dx, [0.0; 6]);
    let none = Rows { data: &[], stride: 0 };
    let mut dst = [1.0; 6];
    tn((0, 3, 4), &mut dst, 3, none, none, 1.0, false);
    nn((2, 3, 0), &mut dst, 3, none, none, 1.0, true);
    assert_eq!(dst, [1.0; 6]);
    nt((2, 3, 0), &mut dst, 3, none, none, 1.0, false);
    assert_eq!(dst, [0.0; 6]);
}

#[test]
fn every_half_precision_number_widens_exactly() {
    let all: Vec<u16> = (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00).collect();
    for unit in units() {
        let mut dx = vec![0.0; all.len()];
        project_back_on(
            unit,
            &[1.0],
            Frozen { elements: Elements::F16(&all), out: 1, input: all.len() },
            as_unwritten(&mut dx),
            false,
        );
        for (&bits, &got) in all.iter().zip(&dx) {
            assert_eq!(got, half(bits), "{}: {bits:#06x}", unit.name);
        }
    }
}

#[test]
#[should_panic(expected = "BUG: weight shorter than its shape")]
fn a_weight_that_is_too_short_is_refused() {
    project(
        &[0.0; 3],
        Frozen { elements: Elements::F32(&[0.0; 5]), out: 2, input: 3 },
        as_unwritten(&mut [0.0; 2]),
    );
}

#[test]
#[should_panic(expected = "BUG: rhs too short")]
fn a_view_that_is_too_short_is_refused() {
    let lhs = Rows { data: &[0.0; 4], stride: 2 };
    nt((2, 2, 2), &mut [0.0; 4], 2, lhs, Rows { data: &[0.0; 4], stride: 3 }, 1.0, false);
}
