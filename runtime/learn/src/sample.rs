//! Generation: greedy or sampled, one token at a time over a cache of keys and values.
//!
//! The adapter is an argument, so nobody samples from stale weights; positions come from a function of the
//! tokens so far, so that a model with positions of its own kind is decoded like any other.

use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};

use crate::decoder::{Cache, Decoder};
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::ops;

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampling {
    /// The most probable token; ties go to the lower id.
    Greedy,
    /// A draw from the softmax at this temperature, from the smallest set of tokens that holds `top_p` of the
    /// probability.
    TopP {
        /// Above 0.
        temperature: f64,
        /// In 0..=1; 1 is the whole vocabulary.
        top_p: f64,
        /// Decides every draw.
        seed: u64,
    },
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// A stop token was chosen (it is not part of the result).
    StopToken,
    /// The limit on new tokens was reached.
    Length,
}

/// Continues `prompt` by at most `max_new` tokens, until one of `stop`. `position_of` is told every token in
/// order, from the first of the prompt, and gives its position.
///
/// # Errors
/// An empty prompt or ids outside the vocabulary, and the tensor library's.
pub fn generate(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    prompt: &[u32],
    mut position_of: impl FnMut(u32) -> u32,
    sampling: Sampling,
    stop: &[u32],
    max_new: usize,
) -> Result<(Vec<u32>, StopReason), LearnError> {
    let config = decoder.config();
    if let Some(&id) = prompt.iter().find(|&&id| id as usize >= config.vocab_size) {
        return Err(LearnError::TokenId { id, vocab: config.vocab_size });
    }
    if prompt.is_empty() {
        return Err(LearnError::Render("the prompt is empty".to_owned()));
    }
    let mut processor = match sampling {
        Sampling::Greedy => None,
        Sampling::TopP { temperature, top_p, seed } => {
            Some(LogitsProcessor::from_sampling(seed, CandleSampling::TopP { p: top_p, temperature }))
        }
    };
    let mut cache = Cache::new(config, prompt.len() + max_new);
    let positions: Vec<u32> = prompt.iter().map(|&id| position_of(id)).collect();
    let mut x = decoder.extend(prompt, &positions, adapter, &mut cache)?;
    let mut generated = Vec::new();
    while generated.len() < max_new {
        let logits = decoder.logits(&x, &[x.dim(0)? as u32 - 1])?.squeeze(0)?;
        let id = match &mut processor {
            None => ops::arg_max(&logits.to_vec1::<f32>()?).0 as u32,
            Some(processor) => processor.sample(&logits)?,
        };
        if stop.contains(&id) {
            return Ok((generated, StopReason::StopToken));
        }
        generated.push(id);
        debug_assert_eq!(cache.len(), prompt.len() + generated.len() - 1);
        if generated.len() < max_new {
            x = decoder.extend(&[id], &[position_of(id)], adapter, &mut cache)?;
        }
    }
    Ok((generated, StopReason::Length))
}
