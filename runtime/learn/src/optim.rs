//! AdamW, gradient clipping and learning-rate schedules, with the formulas of PyTorch and Hugging Face.

use candle_core::{Result, Tensor};
use selkie_edit::Schedule;

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

    /// The parameters after one step, in the same order as before at every call.
    pub(crate) fn step(&mut self, parameters: &[(&Tensor, &Tensor)], learning_rate: f64) -> Result<Vec<Tensor>> {
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        if self.moments.is_empty() {
            for (parameter, _) in parameters {
                self.moments.push((parameter.zeros_like()?, parameter.zeros_like()?));
            }
        }
        self.step += 1;
        let correction1 = 1.0 - beta1.powi(self.step as i32);
        let correction2 = (1.0 - beta2.powi(self.step as i32)).sqrt();
        let mut updated = Vec::with_capacity(parameters.len());
        for ((parameter, gradient), (mean, square)) in parameters.iter().zip(&mut self.moments) {
            *mean = (mean.affine(beta1, 0.0)? + gradient.affine(1.0 - beta1, 0.0)?)?;
            *square = (square.affine(beta2, 0.0)? + gradient.sqr()?.affine(1.0 - beta2, 0.0)?)?;
            let denominator = square.sqrt()?.affine(1.0 / correction2, eps)?;
            let change = (&*mean / denominator)?.affine(learning_rate / correction1, 0.0)?;
            updated.push((parameter.affine(1.0 - learning_rate * weight_decay, 0.0)? - change)?);
        }
        Ok(updated)
    }
}

/// The global norm of all gradients, and the factor that brings it down to `max_norm` (PyTorch's
/// `clip_grad_norm_`).
pub(crate) fn clip_factor(gradients: &[&Tensor], max_norm: f64) -> Result<(f64, f64)> {
    let mut sum = 0f64;
    for gradient in gradients {
        sum += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
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
