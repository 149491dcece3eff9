//! The bytes of every token of a model, as constrained decoding walks through them.

use std::collections::HashMap;
use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::toktrie::{InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use serde_json::Value;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use crate::error::LearnError;

/// Bytes of the longest token that constrained text may have. Longer ones of real models are runs of spaces; the
/// trie of tokens has ten bits for its depth.
const TOKEN_BYTES_MAX: usize = 255;

/// Bytes of all tokens together. The trie counts its nodes, fewer than these, in 22 bits; a vocabulary of 250,000
/// has 2 million.
const VOCABULARY_BYTES_MAX: usize = (1 << 22) - 2;

/// The tokens of one model by their bytes. Cheap to clone, shared between threads; making one takes some
/// milliseconds to a second, by the size of the vocabulary.
#[derive(Clone)]
pub struct Vocabulary {
    factory: Arc<ParserFactory>,
    ends: Arc<[u32]>,
    size: usize,
    takes_first_space: bool,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary")
            .field("size", &self.size)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Vocabulary {
    /// The tokens of a tokenizer for a model whose logits are `[size]`: ids of the model that the tokenizer does
    /// not have are never allowed. `ends` are the tokens that end a text.
    ///
    /// # Errors
    /// [`LearnError::Constraint`] when the tokenizer's tokens are not bytes (its decoder does more than join them),
    /// there is no end token, or one is outside of the vocabulary.
    pub fn new(tokenizer: &Tokenizer, size: usize, ends: &[u32]) -> Result<Vocabulary, LearnError> {
        Vocabulary::build(tokenizer, size, ends, true)
    }

    /// The same for a tokenizer with tokens that are longer than what is ever certain to come: no token is forced, as
    /// forced ones would be parts of those. Masks allow all that the grammar does.
    ///
    /// # Errors
    /// As [`Vocabulary::new`].
    pub fn unforced(tokenizer: &Tokenizer, size: usize, ends: &[u32]) -> Result<Vocabulary, LearnError> {
        Vocabulary::build(tokenizer, size, ends, false)
    }

    fn build(
        tokenizer: &Tokenizer,
        size: usize,
        ends: &[u32],
        forces: bool,
    ) -> Result<Vocabulary, LearnError> {
        let Some(&end) = ends.first() else {
            return Err(LearnError::Constraint(
                "the model has no end token, so no text could end".to_owned(),
            ));
        };
        if let Some(&id) = ends.iter().find(|&&id| id as usize >= size) {
            return Err(LearnError::TokenId { id, vocab: size });
        }
        let decoder = written_decoder(tokenizer)?;
        let words = token_bytes(tokenizer, &decoder, size, ends)?;
        let bytes: usize = words.iter().map(Vec::len).sum();
        if bytes > VOCABULARY_BYTES_MAX || size > VOCABULARY_BYTES_MAX {
            let limit = format!("at most {VOCABULARY_BYTES_MAX} of either can be constrained");
            return Err(LearnError::Constraint(format!("{size} tokens of {bytes} bytes in all; {limit}")));
        }
        let trie = TokTrie::from(&TokRxInfo::new(size as u32, end), &words).with_eos_tokens(ends);
        let tokenizer = without_prefix(tokenizer)?;
        let environment: TokEnv = Arc::new(Environment { trie, tokenizer, forces });
        let capabilities = InferenceCapabilities { ff_tokens: forces, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&environment, capabilities, &slices)
            .map_err(|error| LearnError::Constraint(format!("the vocabulary cannot be used: {error}")))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        let takes_first_space = takes_first_space(&decoder);
        Ok(Vocabulary { factory: Arc::new(factory), ends: ends.into(), size, takes_first_space })
    }

    /// Logits that a mask is for.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether the text of some tokens lacks the space that the first of them begins with.
    pub(super) fn takes_first_space(&self) -> bool {
        self.takes_first_space
    }

    pub(super) fn factory(&self) -> &ParserFactory {
        &self.factory
    }

    pub(super) fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }
}

struct Environment {
    trie: TokTrie,
    tokenizer: Tokenizer,
    forces: bool,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let in_vocabulary = |ids: &[u32]| ids.iter().all(|&id| !self.trie.token(id).is_empty());
        self.trie.tokenize_with_greedy_fallback(bytes, |text| match self.tokenizer.encode(text, false) {
            Ok(encoding) if in_vocabulary(encoding.get_ids()) => encoding.get_ids().to_vec(),
            _ => self.trie.greedy_tokenize(text.as_bytes()),
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.forces
    }
}

/// What a decoder does to a token's text; all that a decoder may do for its tokens to be bytes.
enum Step {
    /// Characters stand for bytes, as in GPT-2.
    ByteLevel(HashMap<char, u8>),
    /// `<0x0A>` is a byte.
    ByteFallback,
    Replace(String, String),
}

fn written_decoder(tokenizer: &Tokenizer) -> Result<Value, LearnError> {
    match tokenizer.get_decoder() {
        None => Ok(Value::Null),
        Some(decoder) => serde_json::to_value(decoder).map_err(|e| LearnError::Tokenizer(e.to_string())),
    }
}

/// The bytes of every token below `size`; none for ids that are no token, and for tokens that are too long. Special
/// tokens and end tokens begin with a byte that no text has.
fn token_bytes(
    tokenizer: &Tokenizer,
    decoder: &Value,
    size: usize,
    ends: &[u32],
) -> Result<Vec<Vec<u8>>, LearnError> {
    let mut steps = Vec::new();
    read_steps(decoder, &mut steps)?;
    let added = tokenizer.get_added_tokens_decoder();
    let mut words = vec![Vec::new(); size];
    for (token, id) in tokenizer.get_vocab(true) {
        let Some(word) = words.get_mut(id as usize) else { continue };
        let is_special = ends.contains(&id) || added.get(&id).is_some_and(|token| token.special);
        if token.len() >= TOKEN_BYTES_MAX {
            continue;
        }
        *word = if is_special {
            [&[TokTrie::SPECIAL_TOKEN_MARKER], token.as_bytes()].concat()
        } else if added.contains_key(&id) {
            token.into_bytes()
        } else {
            bytes_of(token, &steps)
        };
    }
    Ok(words)
}

fn read_steps(decoder: &Value, steps: &mut Vec<Step>) -> Result<(), LearnError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match decoder["type"].as_str().unwrap_or("none") {
        "Sequence" => {
            let parts = decoder["decoders"].as_array().map(Vec::as_slice).unwrap_or_default();
            return parts.iter().try_for_each(|part| read_steps(part, steps));
        }
        "ByteLevel" => steps.push(Step::ByteLevel(byte_level_alphabet())),
        "ByteFallback" => steps.push(Step::ByteFallback),
        "Replace" if decoder["pattern"]["String"].is_string() => {
            steps.push(Step::Replace(text(&decoder["pattern"]["String"]), text(&decoder["content"])));
        }
        "Metaspace" => steps.push(Step::Replace(text(&decoder["replacement"]), " ".to_owned())),
        // Joins; and takes the first space off a whole text, which a constraint allows for.
        "Fuse" | "Strip" => {}
        other => {
            return Err(LearnError::Constraint(format!(
                "the tokenizer's decoder is `{other}`, whose tokens are not bytes; byte-level tokenizers and \
                 SentencePiece's work"
            )));
        }
    }
    Ok(())
}

/// Whether a decoder takes a space off the beginning of a text.
fn takes_first_space(decoder: &Value) -> bool {
    match decoder["type"].as_str() {
        Some("Sequence") => {
            decoder["decoders"].as_array().is_some_and(|parts| parts.iter().any(takes_first_space))
        }
        Some("Strip") => decoder["content"] == " " && decoder["start"] != 0,
        Some("Metaspace") => decoder["prepend_scheme"] != "never",
        _ => false,
    }
}

fn bytes_of(mut token: String, steps: &[Step]) -> Vec<u8> {
    for step in steps {
        match step {
            Step::Replace(from, to) => token = token.replace(from, to),
            Step::ByteFallback => {
                let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                let byte =
                    digits.filter(|digits| digits.len() == 2).map(|digits| u8::from_str_radix(digits, 16));
                if let Some(Ok(byte)) = byte {
                    return vec![byte];
                }
            }
            Step::ByteLevel(alphabet) => {
                let bytes: Option<Vec<u8>> =
                    token.chars().map(|letter| alphabet.get(&letter).copied()).collect();
                return bytes.unwrap_or_else(|| token.into_bytes());
            }
        }
    }
    token.into_bytes()
}

/// GPT-2's characters for bytes: printable ones stand for themselves, the others for those from U+0100 on.
fn byte_level_alphabet() -> HashMap<char, u8> {
    let stands_for_itself = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let (printable, others): (Vec<u8>, Vec<u8>) = (0..=u8::MAX).partition(stands_for_itself);
    let moved = others.into_iter().zip('\u{100}'..).map(|(byte, letter)| (letter, byte));
    printable.into_iter().map(|byte| (char::from(byte), byte)).chain(moved).collect()
}

/// The tokenizer without what it puts in front of a text: forced tokens go on with one.
fn without_prefix(tokenizer: &Tokenizer) -> Result<Tokenizer, LearnError> {
    let bad = |e: serde_json::Error| LearnError::Tokenizer(e.to_string());
    let mut tokenizer = tokenizer.clone();
    if let Some(normalizer) = tokenizer.get_normalizer() {
        let mut written = serde_json::to_value(normalizer).map_err(bad)?;
        let kept = match remove_prefix(&mut written) {
            true => Some(serde_json::from_value::<NormalizerWrapper>(written).map_err(bad)?),
            false => None,
        };
        tokenizer.with_normalizer(kept).map_err(|e| LearnError::Tokenizer(e.to_string()))?;
    }
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        let mut written = serde_json::to_value(pre_tokenizer).map_err(bad)?;
        remove_prefix(&mut written);
        tokenizer
            .with_pre_tokenizer(Some(serde_json::from_value::<PreTokenizerWrapper>(written).map_err(bad)?));
    }
    Ok(tokenizer)
}

/// Takes prefixes out of a written normalizer or pre-tokenizer; false when nothing else was in it.
fn remove_prefix(part: &mut Value) -> bool {
    for list in ["normalizers", "pretokenizers"] {
        if let Some(parts) = part.get_mut(list).and_then(Value::as_array_mut) {
            parts.retain_mut(remove_prefix);
        }
    }
    let switches = [("prepend_scheme", Value::from("never")), ("add_prefix_space", Value::from(false))];
    for (name, off) in switches {
        if let Some(switch) = part.get_mut(name) {
            *switch = off;
        }
    }
    part["type"] != "Prepend"
}
