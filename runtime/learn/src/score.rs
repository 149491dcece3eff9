//! Scoring by one teacher-forced pass: no decoding, all items packed together.
//!
//! An answer is what greedy decoding would give exactly when every one of its tokens is the arg-max given the
//! tokens before it, so one forward pass decides exact match.

use candle_core::{Device, Tensor};

use crate::decoder::{Decoder, Keep, Rows};
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::ops;
use crate::sequence::Sequence;
use crate::train::{Part, PassOptions, pack, passes};

/// How well a model predicts the labelled tokens of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Whether greedy decoding from before the first labelled token gives exactly the labelled tokens.
    pub greedy: bool,
    /// Sum of their log-probabilities (nats).
    pub log_prob: f64,
    /// The log-probability (nats) of each labelled token, in order.
    pub token_log_probs: Vec<f32>,
    /// Labelled tokens.
    pub tokens: usize,
}

impl Score {
    /// Mean log-probability (nats) of a labelled token; 0 without any.
    pub fn mean_log_prob(&self) -> f64 {
        self.log_prob / self.tokens.max(1) as f64
    }
}

/// Scores every sequence's labelled tokens. The labelled tokens of a sequence must be its last ones for
/// `greedy` to speak of decoding.
///
/// # Errors
/// Ids outside the vocabulary, and the tensor library's.
pub fn score(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    items: &[Sequence],
) -> Result<Vec<Score>, LearnError> {
    Ok(score_many(decoder, &[(adapter, items)])?.swap_remove(0))
}

/// Scores sequences under several adapters (or none) in shared passes over the base: the result of [`score`] for
/// each, within rounding.
///
/// # Errors
/// Ids outside the vocabulary, an adapter that does not fit, and the tensor library's.
pub fn score_many(
    decoder: &Decoder,
    work: &[(Option<&Adapter>, &[Sequence])],
) -> Result<Vec<Vec<Score>>, LearnError> {
    let batches: Vec<Vec<&Sequence>> = work.iter().map(|(_, items)| items.iter().collect()).collect();
    let adapters: Vec<Option<Adapter>> =
        work.iter().map(|(adapter, _)| decoder.adopt(*adapter)).collect::<Result<_, _>>()?;
    let each = adapters.iter().zip(&batches);
    let parts: Vec<Part<'_>> =
        each.map(|(adapter, batch)| Part { adapter: adapter.as_ref(), batch, dropout: None }).collect();
    let tokens = ops::on_pool(|| token_scores(decoder, &parts))?;
    let each = work.iter().zip(tokens);
    Ok(each.map(|((_, items), tokens)| by_item(items, &mut tokens.into_iter())).collect())
}

/// Log-probability, and whether it is the most probable one, of every labelled token of each part.
fn token_scores(decoder: &Decoder, parts: &[Part<'_>]) -> Result<Vec<Vec<(f32, bool)>>, LearnError> {
    let mut tokens: Vec<Vec<(f32, bool)>> = vec![Vec::new(); parts.len()];
    for pass in passes(parts, PassOptions::default()) {
        let packed = pack(decoder, parts, &pass)?;
        if packed.asked.is_empty() {
            continue;
        }
        let last = decoder.forward(&packed.rows, &packed.lanes, &packed.asked, Keep::Nothing)?.last;
        let chunk = decoder.logit_rows();
        for (index, targets) in packed.targets.chunks(chunk).enumerate() {
            let logits = decoder.logits(&last.narrow(0, index * chunk, targets.len())?)?;
            let scored = ops::token_log_probs(&logits, targets)?;
            for (scored, &part) in scored.into_iter().zip(&packed.owners[index * chunk..]) {
                tokens[part].push(scored);
            }
        }
    }
    Ok(tokens)
}

fn by_item(items: &[Sequence], tokens: &mut dyn Iterator<Item = (f32, bool)>) -> Vec<Score> {
    let one = |item: &Sequence| {
        let (log_probs, greedy): (Vec<f32>, Vec<bool>) = tokens.take(item.labelled_count()).unzip();
        Score {
            greedy: !greedy.contains(&false),
            log_prob: log_probs.iter().map(|&log_prob| f64::from(log_prob)).sum(),
            tokens: log_probs.len(),
            token_log_probs: log_probs,
        }
    };
    items.iter().map(one).collect()
}

/// Logits `[tokens, vocabulary]` of every token of one sequence, f32 on the CPU.
///
/// # Errors
/// An empty sequence or one without a position a token, ids outside the vocabulary, an adapter that does not fit, and
/// the tensor library's.
pub fn token_logits(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    ids: &[u32],
    positions: &[u32],
) -> Result<Tensor, LearnError> {
    let vocab = decoder.config().vocab_size;
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab) {
        return Err(LearnError::TokenId { id, vocab });
    }
    if ids.is_empty() {
        return Err(LearnError::Render("the sequence is empty".to_owned()));
    }
    adapter.map(|adapter| adapter.check(decoder.config())).transpose()?;
    let mut rows = Rows::default();
    rows.push(ids, positions)?;
    let asked: Vec<u32> = (0..ids.len() as u32).collect();
    let adapter = decoder.adopt(adapter)?;
    let last = decoder.forward(&rows, &[rows.lane(adapter.as_ref())], &asked, Keep::Nothing)?.last;
    Ok(decoder.logits(&last)?.to_device(&Device::Cpu)?)
}
