//! `config.json` of a Hugging Face model folder, in the forms that transformers 4 and 5 write, checked and
//! reduced to what the decoder needs.

use serde::Deserialize;

use crate::error::LearnError;

/// The families that run, as refusals list them.
pub const SUPPORTED: &str = "LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM";

/// Largest count or size in a configuration. Above any published model, and small enough that products of
/// two do not overflow.
const SIZE_MAX: usize = 1 << 24;

/// A decoder family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 2, 3 and 3.x.
    Llama,
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: norms on each query and key head.
    Qwen3,
}

/// Shapes and constants of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Size of one head, even.
    pub head_dim: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// Positions.
    pub max_positions: usize,
    /// Added under the root of every norm.
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Rotary embedding.
    pub rope: Rope,
    /// Ids that end a generation.
    pub eos_ids: Vec<u32>,
}

/// Rotary embedding: base and scaling.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base, `rope_theta`.
    pub theta: f64,
    /// How frequencies are scaled.
    pub scaling: RopeScaling,
}

/// Scaling of rotary frequencies, as Hugging Face names it.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// Every frequency divided by the factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Positions before scaling.
        original: f64,
    },
}

/// The file as it is written; fields that no supported model needs are ignored.
#[derive(Deserialize)]
struct Wire {
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    #[serde(default = "default_positions")]
    max_position_embeddings: usize,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    rope_theta: Option<f64>,
    rope_scaling: Option<WireRope>,
    rope_parameters: Option<WireRope>,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
struct WireRope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    /// The older name of `rope_type`; transformers 4 wrote both when it saved a model again.
    #[serde(rename = "type")]
    old_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

fn default_positions() -> usize {
    2048
}

fn default_eps() -> f64 {
    1e-6
}

impl ModelConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`LearnError::Architecture`] for another family, [`LearnError::Config`] for anything else.
    pub fn from_json(text: &str) -> Result<ModelConfig, LearnError> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|e| LearnError::Config(e.to_string()))?;
        let family = family(&value)?;
        let wire: Wire = serde_json::from_value(value).map_err(|e| LearnError::Config(e.to_string()))?;
        let config = reduce(family, wire)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), LearnError> {
        let refuse = |reason: String| Err(LearnError::Config(reason));
        for (name, size) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_positions),
        ] {
            if size == 0 || size > SIZE_MAX {
                return refuse(format!("`{name}` is {size}; expected 1 to {SIZE_MAX}"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return refuse(format!("{} query heads cannot share {} key heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return refuse(format!("`head_dim` is {}; rotary embedding needs an even one", self.head_dim));
        }
        if !(self.rope.theta.is_finite() && self.rope.theta > 0.0) {
            return refuse(format!("`rope_theta` is {}; expected a positive number", self.rope.theta));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return refuse(format!("`rms_norm_eps` is {}; expected a number from 0", self.rms_norm_eps));
        }
        if let RopeScaling::Llama3 { low_freq_factor, high_freq_factor, .. } = self.rope.scaling
            && low_freq_factor >= high_freq_factor
        {
            return refuse(format!(
                "`low_freq_factor` is {low_freq_factor}; expected less than `high_freq_factor`, {high_freq_factor}"
            ));
        }
        Ok(())
    }
}

fn family(value: &serde_json::Value) -> Result<Family, LearnError> {
    let name = value["architectures"][0].as_str().or(value["model_type"].as_str()).unwrap_or("(none named)");
    match name {
        "LlamaForCausalLM" | "llama" => Ok(Family::Llama),
        "Qwen2ForCausalLM" | "qwen2" => Ok(Family::Qwen2),
        "Qwen3ForCausalLM" | "qwen3" => Ok(Family::Qwen3),
        other => Err(LearnError::Architecture { found: other.to_owned(), supported: SUPPORTED }),
    }
}

fn reduce(family: Family, wire: Wire) -> Result<ModelConfig, LearnError> {
    let _ = (wire.architectures, wire.model_type);
    if let Some(act) = wire.hidden_act.filter(|act| act != "silu") {
        return Err(LearnError::Config(format!("`hidden_act` is `{act}`; only `silu` is supported")));
    }
    if wire.mlp_bias || wire.use_sliding_window || (wire.attention_bias && family != Family::Qwen2) {
        return Err(LearnError::Config(
            "attention or MLP biases and sliding windows are not supported".into(),
        ));
    }
    let heads = wire.num_attention_heads;
    let head_dim = match wire.head_dim {
        Some(dim) => dim,
        None if heads > 0 && wire.hidden_size.is_multiple_of(heads) => wire.hidden_size / heads,
        None => {
            return Err(LearnError::Config(format!(
                "{} is not a multiple of {heads} heads",
                wire.hidden_size
            )));
        }
    };
    Ok(ModelConfig {
        family,
        hidden_size: wire.hidden_size,
        intermediate_size: wire.intermediate_size,
        layers: wire.num_hidden_layers,
        heads,
        kv_heads: wire.num_key_value_heads.unwrap_or(heads),
        head_dim,
        vocab_size: wire.vocab_size,
        max_positions: wire.max_position_embeddings,
        rms_norm_eps: wire.rms_norm_eps,
        tied: wire.tie_word_embeddings,
        rope: rope(wire.rope_theta, wire.rope_parameters.or(wire.rope_scaling))?,
        eos_ids: match wire.eos_token_id {
            None => Vec::new(),
            Some(OneOrMany::One(id)) => vec![id],
            Some(OneOrMany::Many(ids)) => ids,
        },
    })
}

/// transformers 4 writes `rope_theta` beside `rope_scaling`; transformers 5 puts both in `rope_parameters`.
fn rope(theta: Option<f64>, wire: Option<WireRope>) -> Result<Rope, LearnError> {
    const DEFAULT_THETA: f64 = 10_000.0;
    let Some(wire) = wire else {
        return Ok(Rope { theta: theta.unwrap_or(DEFAULT_THETA), scaling: RopeScaling::Default });
    };
    let need = |value: Option<f64>, name: &str| {
        value
            .filter(|value| value.is_finite() && *value > 0.0)
            .ok_or_else(|| LearnError::Config(format!("rotary scaling needs a positive `{name}`")))
    };
    let scaling = match wire.rope_type.or(wire.old_type).as_deref() {
        None | Some("default") => RopeScaling::Default,
        Some("linear") => RopeScaling::Linear { factor: need(wire.factor, "factor")? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: need(wire.factor, "factor")?,
            low_freq_factor: need(wire.low_freq_factor, "low_freq_factor")?,
            high_freq_factor: need(wire.high_freq_factor, "high_freq_factor")?,
            original: need(wire.original_max_position_embeddings, "original_max_position_embeddings")?,
        },
        Some(other) => {
            let reason = format!("rotary scaling `{other}`; supported: default, linear, llama3");
            return Err(LearnError::Config(reason));
        }
    };
    Ok(Rope { theta: wire.rope_theta.or(theta).unwrap_or(DEFAULT_THETA), scaling })
}

impl Rope {
    /// Angle a position of each of the `dim / 2` frequencies, in f32 as Hugging Face computes them.
    pub(crate) fn inverse_frequencies(&self, dim: usize) -> Vec<f32> {
        let base = (0..dim / 2).map(|i| 1.0 / (self.theta as f32).powf((2 * i) as f32 / dim as f32));
        match self.scaling {
            RopeScaling::Default => base.collect(),
            RopeScaling::Linear { factor } => base.map(|frequency| frequency / factor as f32).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => base
                .map(|frequency| {
                    let wavelength = 2.0 * std::f64::consts::PI / f64::from(frequency);
                    if wavelength > original / low_freq_factor {
                        frequency / factor as f32
                    } else if wavelength < original / high_freq_factor {
                        frequency
                    } else {
                        let smooth =
                            (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        let frequency = f64::from(frequency);
                        ((1.0 - smooth) * frequency / factor + smooth * frequency) as f32
                    }
                })
                .collect(),
        }
    }
}
