//! AdamW, gradient clipping and learning-rate schedules, with the formulas of PyTorch and Hugging Face.

use candle_core::{Device, Result, Tensor};
use selkie_edit::Schedule;

use crate::ops::{Values, dot, has_kernels, vectorised};

/// Settings of AdamW; the defaults of PyTorch where SEAL says nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the squares' mean.
    pub eps: f64,
    /// Decoupled decay of weights, times the learning rate.
    pub weight_decay: f64,
}

/// SEAL's and PEFT's usual settings for adapters: no decay.
pub const ADAPTER_ADAMW: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };

/// Gradients are scaled down to this global norm; Hugging Face's `max_grad_norm`.
pub const MAX_GRAD_NORM: f64 = 1.0;

/// State of AdamW for a fixed list of tensors.
#[derive(Debug, Clone)]
pub(crate) struct AdamW {
    pub(crate) config: AdamWConfig,
    pub(crate) step: u64,
    /// Means and squared means, by tensor; empty before the first step.
    pub(crate) moments: Vec<(Tensor, Tensor)>,
}

impl AdamW {
    pub(crate) fn new(config: AdamWConfig) -> AdamW {
        AdamW { config, step: 0, moments: Vec::new() }
    }

    /// Takes one step on `factor` times the gradients that stand beside the parameters, which come in the same order
    /// at every call.
    pub(crate) fn step(
        &mut self,
        parameters: &mut [(&mut Tensor, &Tensor)],
        factor: f64,
        learning_rate: f64,
    ) -> Result<()> {
        if self.moments.is_empty() {
            for (parameter, _) in &*parameters {
                self.moments.push((parameter.zeros_like()?, parameter.zeros_like()?));
            }
        }
        self.step += 1;
        let change = Change::new(self.config, self.step, factor, learning_rate);
        for ((parameter, gradient), moments) in parameters.iter_mut().zip(&mut self.moments) {
            let all = [&**parameter, *gradient, &moments.0, &moments.1];
            let [updated, mean, square] = match has_kernels(parameter) {
                true => change.apply(all)?,
                false => change.apply_portable(all)?,
            };
            *moments = (mean, square);
            **parameter = updated;
        }
        Ok(())
    }
}

/// The numbers of one step.
struct Change {
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// What is left of a parameter.
    kept: f64,
    /// The learning rate over the mean's correction.
    rate: f64,
    /// The correction of the root of the squares' mean.
    correction: f64,
    /// Of every gradient.
    factor: f64,
}

impl Change {
    fn new(config: AdamWConfig, step: u64, factor: f64, learning_rate: f64) -> Change {
        let AdamWConfig { beta1, beta2, eps, weight_decay } = config;
        let power = |beta: f64| 1.0 - beta.powf(step as f64);
        Change {
            beta1,
            beta2,
            eps,
            kept: 1.0 - learning_rate * weight_decay,
            rate: learning_rate / power(beta1),
            correction: 1.0 / power(beta2).sqrt(),
            factor,
        }
    }

    /// Parameter, mean and square after the step, in one pass over the numbers.
    fn apply(&self, [parameter, gradient, mean, square]: [&Tensor; 4]) -> Result<[Tensor; 3]> {
        let shape = parameter.shape();
        let (p, g) = (Values::of(parameter)?, Values::of(gradient)?);
        let (m, s) = (Values::of(mean)?, Values::of(square)?);
        let mut after = [vec![0f32; p.len()], vec![0f32; p.len()], vec![0f32; p.len()]];
        let [new_p, new_m, new_s] = &mut after;
        let (beta1, beta2, eps) = (self.beta1 as f32, self.beta2 as f32, self.eps as f32);
        let (rest1, rest2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        let (kept, rate, correction) = (self.kept as f32, self.rate as f32, self.correction as f32);
        let factor = self.factor as f32;
        vectorised(
            #[inline(always)]
            || {
                let out = new_p.iter_mut().zip(new_m).zip(new_s);
                for (((new_p, new_m), new_s), (((p, g), m), s)) in
                    out.zip(p.iter().zip(&*g).zip(&*m).zip(&*s))
                {
                    let g = g * factor;
                    *new_m = beta1 * m + rest1 * g;
                    *new_s = beta2 * s + rest2 * g * g;
                    *new_p = kept * p - rate * *new_m / (new_s.sqrt() * correction + eps);
                }
            },
        );
        let [p, m, s] = after.map(|values| Tensor::from_vec(values, shape, &Device::Cpu));
        Ok([p?, m?, s?])
    }

    /// The same by the tensor library.
    fn apply_portable(&self, [parameter, gradient, mean, square]: [&Tensor; 4]) -> Result<[Tensor; 3]> {
        let gradient = gradient.affine(self.factor, 0.0)?;
        let mean = (mean.affine(self.beta1, 0.0)? + gradient.affine(1.0 - self.beta1, 0.0)?)?;
        let square = (square.affine(self.beta2, 0.0)? + gradient.sqr()?.affine(1.0 - self.beta2, 0.0)?)?;
        let change = (&mean / square.sqrt()?.affine(self.correction, self.eps)?)?.affine(self.rate, 0.0)?;
        Ok([(parameter.affine(self.kept, 0.0)? - change)?, mean, square])
    }
}

/// The global norm of all gradients, and the factor that brings it down to `max_norm` (PyTorch's
/// `clip_grad_norm_`).
pub(crate) fn clip_factor(gradients: &[&Tensor], max_norm: f64) -> Result<(f64, f64)> {
    let mut sum = 0f64;
    let mut elsewhere = Vec::new();
    for gradient in gradients {
        if !has_kernels(gradient) {
            elsewhere.push(gradient.sqr()?.sum_all()?);
            continue;
        }
        let values = Values::of(gradient)?;
        sum += f64::from(vectorised(
            #[inline(always)]
            || dot(&values, &values),
        ));
    }
    if !elsewhere.is_empty() {
        // Fetched at once: every fetch waits for the device.
        sum += Tensor::stack(&elsewhere, 0)?.to_vec1::<f32>()?.into_iter().map(f64::from).sum::<f64>();
    }
    let norm = sum.sqrt();
    Ok((norm, (max_norm / (norm + 1e-6)).min(1.0)))
}

/// The learning rate of step `step` (from 0) of `steps`: a line up over `warmup` steps, then the schedule, as in
/// Hugging Face's `get_cosine_schedule_with_warmup` and its siblings.
pub fn learning_rate_at(schedule: Schedule, peak: f64, warmup: u64, steps: u64, step: u64) -> f64 {
    if step < warmup {
        return peak * step as f64 / warmup.max(1) as f64;
    }
    let progress = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
    match schedule {
        Schedule::Constant => peak,
        Schedule::Linear => peak * (1.0 - progress).max(0.0),
        Schedule::Cosine => peak * (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).expect("a tensor")
    }

    fn check_schedule(schedule: Schedule, warmup: u64, steps: u64, expected: &[f64]) {
        for (step, expected) in expected.iter().enumerate() {
            let found = learning_rate_at(schedule, 2.0, warmup, steps, step as u64);
            assert!(
                (found - expected).abs() < 1e-12,
                "{schedule:?} step {step}: {found}, expected {expected}"
            );
        }
    }

    #[test]
    fn schedules_are_those_of_hugging_face() {
        use Schedule::{Constant, Cosine, Linear};
        // By hand from `get_*_schedule_with_warmup`, at a peak of 2 (roots are of cosines of multiples of 60
        // and 45 degrees).
        let (r2, r3) = (2f64.sqrt(), 3f64.sqrt());
        check_schedule(Linear, 0, 4, &[2.0, 1.5, 1.0, 0.5, 0.0, 0.0]);
        check_schedule(Linear, 2, 6, &[0.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.0]);
        check_schedule(Linear, 3, 4, &[0.0, 2.0 / 3.0, 4.0 / 3.0, 2.0, 0.0]);
        check_schedule(Cosine, 0, 4, &[2.0, 1.0 + r2 / 2.0, 1.0, 1.0 - r2 / 2.0, 0.0]);
        check_schedule(Cosine, 2, 8, &[0.0, 1.0, 2.0, 1.0 + r3 / 2.0, 1.5, 1.0, 0.5, 1.0 - r3 / 2.0, 0.0]);
        check_schedule(Constant, 0, 3, &[2.0, 2.0, 2.0]);
        check_schedule(Constant, 4, 6, &[0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0]);
        // A warm-up longer than the run never reaches its end.
        check_schedule(Cosine, 10, 4, &[0.0, 0.2, 0.4, 0.6]);
        check_schedule(Linear, 4, 4, &[0.0, 0.5, 1.0, 1.5]);
        for schedule in [Constant, Linear, Cosine] {
            check_schedule(schedule, 0, 1, &[2.0]);
            assert!(learning_rate_at(schedule, 2.0, u64::MAX, u64::MAX, u64::MAX - 1).is_finite());
            assert!(learning_rate_at(schedule, 2.0, 0, 0, 0).is_finite());
        }
    }

    #[test]
    fn adamw_takes_the_steps_of_pytorch() {
        let config = AdamWConfig { beta1: 0.9, beta2: 0.99, eps: 0.1, weight_decay: 0.5 };
        let mut adamw = AdamW::new(config);
        let (mut parameter, gradients) = (tensor(&[1.0, -2.0]), [[0.5f32, -4.0], [-0.25, -4.0]]);
        // Step 1: the corrected means are the gradient g and g^2, so the change is lr * g / (|g| + eps), after
        // the decay by lr * 0.5. Element 0: 0.95 - 0.1 * 0.5 / 0.6; element 1: -1.9 + 0.1 * 4 / 4.1.
        let first = [0.95 - 0.05 / 0.6, -1.9 + 0.4 / 4.1];
        // Step 2, element 0: mean (0.9 * 0.05 - 0.025) / 0.19 = 0.02 / 0.19; square (0.99 * 0.0025 + 0.000625) /
        // 0.0199 = 0.0031 / 0.0199. Element 1 keeps its gradient, and so its change.
        let second = [
            first[0] * 0.95 - 0.1 * (0.02 / 0.19) / ((0.0031f64 / 0.0199).sqrt() + 0.1),
            first[1] * 0.95 + 0.4 / 4.1,
        ];
        for (gradient, expected) in gradients.iter().zip([first, second]) {
            adamw.step(&mut [(&mut parameter, &tensor(gradient))], 1.0, 0.1).expect("a step");
            for (found, expected) in parameter.to_vec1::<f32>().expect("values").iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{found}, expected {expected}");
            }
        }
        // A rate of 0 changes nothing but still counts.
        let mut same = parameter.clone();
        adamw.step(&mut [(&mut same, &tensor(&[9.0, 9.0]))], 1.0, 0.0).expect("a step");
        assert_eq!(same.to_vec1::<f32>().expect("values"), parameter.to_vec1::<f32>().expect("values"));
        assert_eq!(adamw.step, 3);
    }

    #[test]
    fn gradients_are_clipped_as_pytorch_clips_them() {
        let check = |gradients: &[&[f32]], max: f64, norm: f64, factor: f64| {
            let tensors: Vec<Tensor> = gradients.iter().map(|values| tensor(values)).collect();
            let found = clip_factor(&tensors.iter().collect::<Vec<_>>(), max).expect("finite");
            assert!(
                (found.0 - norm).abs() < 1e-6 && (found.1 - factor).abs() < 1e-9,
                "{gradients:?}: {found:?}"
            );
        };
        check(&[&[3.0, 0.0], &[0.0, -4.0]], 1.0, 5.0, 1.0 / 5.000001);
        check(&[&[3.0, -4.0]], 2.5, 5.0, 2.5 / 5.000001);
        check(&[&[0.3, 0.4]], 1.0, 0.5, 1.0);
        check(&[&[0.0], &[0.0]], 1.0, 0.0, 1.0);
        // Just at the limit the 1e-6 of PyTorch still scales a little.
        check(&[&[1.0]], 1.0, 1.0, 1.0 / 1.000001);
        check(&[], 1.0, 0.0, 1.0);
    }
}
