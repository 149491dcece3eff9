//! Token sequences: the one thing that rendering makes and that training and scoring take.

/// Tokens with their positions and the places where the loss is taken.
///
/// The three lists have one length. The model sees `ids[..t]` and predicts `ids[t]`; where `labelled[t]` is
/// set that prediction counts. `labelled[0]` is never used: nothing predicts the first token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Sequence {
    /// Token ids, below the vocabulary size.
    pub ids: Vec<u32>,
    /// Rotary position of each token, below the model's maximum.
    pub positions: Vec<u32>,
    /// Whether the prediction of this token has a loss.
    pub labelled: Vec<bool>,
}

impl Sequence {
    /// Tokens of the sequence.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Tokens with a loss.
    pub fn labelled_count(&self) -> usize {
        self.labelled.iter().skip(1).filter(|&&labelled| labelled).count()
    }
}
