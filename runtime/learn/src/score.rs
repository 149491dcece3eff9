//! Scoring by one teacher-forced pass: no decoding, all items packed together.
//!
//! An answer is what greedy decoding would give exactly when every one of its tokens is the arg-max given the
//! tokens before it, so one forward pass decides exact match.

use crate::decoder::Decoder;
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::ops;
use crate::sequence::Sequence;
use crate::train::pack;

/// How well a model predicts the labelled tokens of one sequence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Whether greedy decoding from before the first labelled token gives exactly the labelled tokens.
    pub greedy: bool,
    /// Sum of their log-probabilities (nats).
    pub log_prob: f64,
    /// Labelled tokens.
    pub tokens: usize,
}

/// Rows of one pass: bounds memory at a few hundred MB for small models.
const ROWS_MAX: usize = 8192;

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
    let mut scores = Vec::with_capacity(items.len());
    let mut rest = items;
    while !rest.is_empty() {
        let mut rows = 0;
        let fit = rest.iter().take_while(|item| {
            rows += item.len();
            rows <= ROWS_MAX
        });
        let (pass, later) = rest.split_at(fit.count().max(1));
        scores.extend(score_pass(decoder, adapter, pass)?);
        rest = later;
    }
    Ok(scores)
}

fn score_pass(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    items: &[Sequence],
) -> Result<Vec<Score>, LearnError> {
    let (rows, targets) = pack(decoder, &items.iter().collect::<Vec<_>>())?;
    let mut scored = Vec::new();
    if !targets.is_empty() {
        let (last, _) = decoder.forward(&rows, adapter)?;
        let (at, ids): (Vec<u32>, Vec<u32>) = targets.into_iter().unzip();
        scored = ops::token_log_probs(&decoder.logits(&last, &at)?, &ids)?.to_vec2::<f32>()?;
    }
    let mut scored = scored.into_iter();
    let scores = items.iter().map(|item| {
        let mut score = Score { greedy: true, log_prob: 0.0, tokens: item.labelled_count() };
        for row in scored.by_ref().take(score.tokens) {
            score.log_prob += f64::from(row[0]);
            score.greedy &= row[1] == 1.0;
        }
        score
    });
    Ok(scores.collect())
}

/// Logits `[tokens, vocabulary]` of every token of one sequence.
///
/// # Errors
/// Ids outside the vocabulary, and the tensor library's.
pub fn token_logits(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    ids: &[u32],
    positions: &[u32],
) -> Result<candle_core::Tensor, LearnError> {
    let sequence =
        Sequence { ids: ids.to_vec(), positions: positions.to_vec(), labelled: vec![false; ids.len()] };
    let (rows, _) = pack(decoder, &[&sequence])?;
    let (last, _) = decoder.forward(&rows, adapter)?;
    Ok(decoder.logits(&last, &(0..ids.len() as u32).collect::<Vec<_>>())?)
}
