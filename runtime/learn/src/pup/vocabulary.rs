//! A vocabulary of whole pieces, and the Hugging Face tokenizer that reads text by it.
//!
//! The pieces are a world constant, so ids are too: `<unk>`, the world's pieces, the characters that the names
//! of byte pieces are made of, 256 byte pieces, then the special tokens. The generators write ids through
//! [`Vocabulary::id`] and never tokenise; a test holds them to what the tokenizer makes of the same text.

use std::collections::BTreeMap;

use tokenizers::decoders::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Sequence as NormalizerSequence};
use tokenizers::{AddedToken, Tokenizer};

/// Every piece of the world has this score, so the segmentation with the fewest pieces wins.
const PIECE_SCORE: f64 = -1.0;

/// Byte pieces score so low that the text `<0x41>` is read as six characters and never as byte 65.
const BYTE_SCORE: f64 = -100.0;

/// The characters of byte pieces' names; each is a piece of its own, for the same reason.
const BYTE_NAME_CHARACTERS: &str = "<0123456789ABCDEFx>";

/// How text meets the pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextForm {
    /// Pieces are exactly what they look like.
    Verbatim,
    /// Words carry their leading space, as in Llama: a space is put in front of the text and of every line,
    /// and is taken away on decoding, so that a word is one piece wherever it stands.
    SpacedWords,
}

/// Pieces and their ids.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// Every piece with its score, in order of id.
    pieces: Vec<(String, f64)>,
    /// The special tokens, whose ids follow the pieces'.
    specials: Vec<&'static str>,
    /// Only looked up, never iterated for output.
    ids: BTreeMap<String, u32>,
    form: TextForm,
}

impl Vocabulary {
    /// A vocabulary of these pieces; their ids begin at 1, in this order. Pieces must differ.
    pub(super) fn new(
        world: impl IntoIterator<Item = String>,
        specials: &[&'static str],
        form: TextForm,
    ) -> Vocabulary {
        let mut vocabulary =
            Vocabulary { pieces: Vec::new(), specials: specials.to_vec(), ids: BTreeMap::new(), form };
        vocabulary.push("<unk>".to_owned(), BYTE_SCORE);
        for piece in world {
            assert!(!vocabulary.ids.contains_key(&piece), "the world has the piece {piece:?} twice");
            vocabulary.push(piece, PIECE_SCORE);
        }
        for character in BYTE_NAME_CHARACTERS.chars().map(String::from) {
            if !vocabulary.ids.contains_key(&character) {
                vocabulary.push(character, PIECE_SCORE);
            }
        }
        for byte in 0..=u8::MAX {
            vocabulary.push(format!("<0x{byte:02X}>"), BYTE_SCORE);
        }
        for (id, special) in (vocabulary.pieces.len() as u32..).zip(specials) {
            vocabulary.ids.insert((*special).to_owned(), id);
        }
        vocabulary
    }

    fn push(&mut self, piece: String, score: f64) {
        self.ids.insert(piece.clone(), self.pieces.len() as u32);
        self.pieces.push((piece, score));
    }

    /// Number of ids, special tokens included.
    pub fn len(&self) -> usize {
        self.pieces.len() + self.specials.len()
    }

    /// Never: `<unk>` is always there.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The id of a piece or special token of the world.
    ///
    /// # Panics
    /// When there is none: worlds ask only for pieces that they put in.
    pub fn id(&self, piece: &str) -> u32 {
        *self.ids.get(piece).unwrap_or_else(|| panic!("the world has no piece {piece:?}"))
    }

    /// The tokenizer that reads any text into these ids and back, without loss.
    pub fn tokenizer(&self) -> Tokenizer {
        let model = Unigram::from(self.pieces.clone(), Some(0), true).expect("`<unk>` is piece 0");
        let mut tokenizer = Tokenizer::new(model);
        let mut decoders =
            vec![DecoderWrapper::ByteFallback(ByteFallback::default()), DecoderWrapper::Fuse(Fuse::new())];
        if self.form == TextForm::SpacedWords {
            let replace =
                |from: &str, to: &str| Replace::new(from, to).expect("a literal is a valid pattern");
            let normalizer = NormalizerSequence::new(vec![
                NormalizerWrapper::Prepend(Prepend::new(" ".to_owned())),
                NormalizerWrapper::Replace(replace("\n", "\n ")),
            ]);
            tokenizer.with_normalizer(Some(normalizer)).expect("no special token is changed by it");
            decoders.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
            decoders.push(DecoderWrapper::Replace(replace("\n ", "\n")));
        }
        tokenizer.with_decoder(Some(DecoderSequence::new(decoders)));
        tokenizer
            .add_special_tokens(self.specials.iter().map(|special| AddedToken::from(*special, true)))
            .expect("special tokens are not empty and differ");
        tokenizer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(form: TextForm, text: &str) {
        let world = [" Mira", " Volan", "\n", ".", " the", "7"].map(String::from);
        let tokenizer = Vocabulary::new(world, &["<bos>", "<eos>"], form).tokenizer();
        let encoding = tokenizer.encode(text, false).expect("any text encodes");
        assert_eq!(tokenizer.decode(encoding.get_ids(), false).expect("its ids decode"), text);
    }

    #[test]
    fn any_text_survives_a_round_trip() {
        for form in [TextForm::Verbatim, TextForm::SpacedWords] {
            for text in [
                "",
                " ",
                "\n",
                "\n \n  \n",
                "Mira Volan.\nMira  the",
                "  two spaces  ",
                "tab\there \u{0}",
                "<0x41><unk> <0xZZ>",
                "naïve 日本語 🦭 é",
                "777",
                "\u{2581}meta",
            ] {
                check(form, text);
            }
        }
    }

    #[test]
    fn ids_are_those_of_the_tokenizer() {
        let world = ["a", "bc", " d"].map(String::from);
        let vocabulary = Vocabulary::new(world, &["<bos>", "<eos>"], TextForm::Verbatim);
        let tokenizer = vocabulary.tokenizer();
        assert_eq!(tokenizer.get_vocab_size(true), vocabulary.len());
        for piece in ["a", "bc", " d", "<0x00>", "<bos>", "<eos>"] {
            assert_eq!(tokenizer.token_to_id(piece), Some(vocabulary.id(piece)), "{piece:?}");
        }
    }
}
