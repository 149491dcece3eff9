//! The text of a stream while its tokens come: pieces that are whole characters, and an end at stop strings.

use tokenizers::Tokenizer;

use crate::error::LearnError;

/// Tokens that may wait for the end of a character before a place to cut them is looked for. No character takes as
/// many; only bytes that are no text do.
const WAITING_MAX: usize = 32;

/// What a decoder writes for bytes that are not, or not yet, a character.
const REPLACEMENT: char = '\u{fffd}';

/// From tokens to their text.
type Decode<'a> = Box<dyn Fn(&[u32]) -> String + Send + 'a>;

/// Makes pieces of text from the tokens of one stream. A token that ends inside of a character waits for the rest.
///
/// All pieces and [`Detokenizer::finish`] together are the text of all tokens, for decoders whose text of more
/// tokens starts with that of fewer once the last character is whole. That is so of byte-level and of word
/// tokenizers; of byte fallback (as in SentencePiece) too, except around bytes that are no text.
pub struct Detokenizer<'a> {
    decode: Decode<'a>,
    /// The tokens that the next piece depends on: those of the piece before, and those that wait.
    ids: Vec<u32>,
    /// How many of `ids` are in pieces already.
    told: usize,
}

impl std::fmt::Debug for Detokenizer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Detokenizer")
            .field("ids", &self.ids)
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

impl<'a> Detokenizer<'a> {
    /// Over any function from tokens to their text.
    pub fn new(decode: impl Fn(&[u32]) -> String + Send + 'a) -> Detokenizer<'a> {
        Detokenizer { decode: Box::new(decode), ids: Vec::new(), told: 0 }
    }

    /// Over a tokenizer, special tokens left out.
    pub fn of(tokenizer: &'a Tokenizer) -> Detokenizer<'a> {
        Detokenizer::new(|ids| tokenizer.decode(ids, true).unwrap_or_default())
    }

    /// The text that this token completes, if any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        self.ids.push(id);
        let text = (self.decode)(&self.ids);
        if !text.ends_with(REPLACEMENT) {
            return self.tell(self.ids.len(), &text);
        }
        if self.ids.len() - self.told < WAITING_MAX {
            return None;
        }
        // A place where the text of both sides is that of the whole: what comes later changes the second side only.
        let cut = (self.told + 1..self.ids.len()).rev().find(|&cut| {
            let (before, after) = self.ids.split_at(cut);
            (self.decode)(before) + &(self.decode)(after) == text
        })?;
        let before = (self.decode)(&self.ids[..cut]);
        self.tell(cut, &before)
    }

    /// The text of what still waits. Bytes that never became a character are replacement characters.
    pub fn finish(mut self) -> Option<String> {
        let text = (self.decode)(&self.ids);
        self.tell(self.ids.len(), &text)
    }

    /// What `text`, that of the first `count` tokens, has more than was told of it.
    fn tell(&mut self, count: usize, text: &str) -> Option<String> {
        let known = (self.decode)(&self.ids[..self.told]);
        // The tokens of a decoder that says less of more tokens are waited for.
        let piece = text.strip_prefix(known.as_str()).filter(|piece| !piece.is_empty())?.to_owned();
        self.ids.drain(..self.told);
        self.told = count - self.told;
        Some(piece)
    }
}

/// Ends a text at the first of several strings, wherever they lie across its pieces.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    /// Text that may be the start of a stop string.
    held: String,
    met: Option<usize>,
}

/// What a piece of text became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Text that is not, and cannot become, part of a stop string.
    pub text: String,
    /// The stop string that was met, as an index into those that were given. The text before it has been released,
    /// and no more will be.
    pub stop: Option<usize>,
}

impl StopStrings {
    /// With any number of stop strings.
    ///
    /// # Errors
    /// [`LearnError::Sampling`] when one is empty.
    pub fn new(stops: Vec<String>) -> Result<StopStrings, LearnError> {
        if let Some(at) = stops.iter().position(String::is_empty) {
            let complaint = format!("stop string {at} is empty; it would end every text before it starts");
            return Err(LearnError::Sampling(complaint));
        }
        Ok(StopStrings { stops, held: String::new(), met: None })
    }

    /// Takes the next piece. The stop string that ends first counts, and of those that end together the longest, so
    /// that the result does not depend on where pieces end.
    pub fn push(&mut self, piece: &str) -> Released {
        if self.met.is_some() {
            return Released { text: String::new(), stop: self.met };
        }
        self.held.push_str(piece);
        let places = self.stops.iter().enumerate().filter_map(|(index, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, index))
        });
        if let Some((_, start, index)) = places.min() {
            self.met = Some(index);
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return Released { text, stop: self.met };
        }
        let keep = self.held.len() - self.longest_start();
        let kept = self.held.split_off(keep);
        Released { text: std::mem::replace(&mut self.held, kept), stop: None }
    }

    /// The same stop strings, for a text that begins anew.
    #[must_use]
    pub fn restarted(&self) -> StopStrings {
        StopStrings { stops: self.stops.clone(), held: String::new(), met: None }
    }

    /// Whether a stop string was met.
    pub fn has_met(&self) -> bool {
        self.met.is_some()
    }

    /// The text that was held back, when no more comes.
    pub fn finish(self) -> String {
        self.held
    }

    /// Bytes of the longest end of the held text that a stop string starts with.
    fn longest_start(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest.saturating_sub(1));
        let starts = |&at: &usize| {
            let end = self.held.get(at..);
            end.is_some_and(|end| self.stops.iter().any(|stop| stop.starts_with(end)))
        };
        (from..self.held.len()).find(starts).map_or(0, |at| self.held.len() - at)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use proptest::prelude::*;
    use serde_json::json;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    /// A byte-level tokenizer: bytes, some joints inside of characters, and a special token last.
    fn byte_level() -> Tokenizer {
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let merges = [("æ", "Ĺ"), ("¥", "æ"), ("Ġ", "t"), ("h", "e"), ("ðŁ", "¦"), ("Ł", "¦"), ("a", "Ã")];
        let mut pieces: Vec<String> = alphabet.iter().map(char::to_string).collect();
        pieces.push("ðŁ".to_owned());
        pieces.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
        let vocab: serde_json::Map<String, serde_json::Value> =
            pieces.iter().zip(0..).map(|(piece, id)| (piece.clone(), json!(id))).collect();
        let level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let merges: Vec<_> =
            [("ð", "Ł")].iter().chain(&merges).map(|(left, right)| json!([left, right])).collect();
        let written = json!({
            "version": "1.0", "truncation": null, "padding": null, "post_processor": null, "normalizer": null,
            "added_tokens": [{"id": pieces.len(), "content": "<end>", "single_word": false, "lstrip": false,
                              "rstrip": false, "normalized": false, "special": true}],
            "pre_tokenizer": level, "decoder": level, "model": {"type": "BPE", "vocab": vocab, "merges": merges},
        });
        Tokenizer::from_bytes(written.to_string()).unwrap()
    }

    /// A tokenizer as Llama 2's: words with their space, which is left out at the start, and bytes.
    fn byte_fallback() -> Tokenizer {
        let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
        let pieces = bytes.chain(["▁", "▁a", "▁b", "a", "b", "é"].map(str::to_owned));
        let vocab: serde_json::Map<String, serde_json::Value> =
            pieces.zip(0..).map(|(piece, id)| (piece, json!(id))).collect();
        let written = json!({
            "version": "1.0", "truncation": null, "padding": null, "post_processor": null, "normalizer": null,
            "added_tokens": [], "pre_tokenizer": null,
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ]},
            "model": {"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true},
        });
        Tokenizer::from_bytes(written.to_string()).unwrap()
    }

    fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<Option<String>> {
        let mut stream = Detokenizer::of(tokenizer);
        let mut pieces: Vec<Option<String>> = ids.iter().map(|&id| stream.push(id)).collect();
        pieces.push(stream.finish());
        pieces
    }

    fn ids_of(tokenizer: &Tokenizer, tokens: &[&str]) -> Vec<u32> {
        tokens.iter().map(|token| tokenizer.token_to_id(token).unwrap()).collect()
    }

    #[test]
    fn characters_of_several_tokens_come_whole() {
        let check = |tokenizer: &Tokenizer, tokens: &[&str], expected: &[&str]| {
            let pieces: Vec<String> = pieces(tokenizer, &ids_of(tokenizer, tokens))
                .into_iter()
                .map(Option::unwrap_or_default)
                .collect();
            assert_eq!(pieces, expected, "{tokens:?}");
        };
        let level = byte_level();
        check(&level, &["h", "e", "Ġt"], &["h", "e", " t", ""]);
        // A seal, in three tokens with the second across its middle.
        check(&level, &["ð", "Ł¦", "Ń", "!"], &["", "", "🦭", "!", ""]);
        // Two characters, the first of which ends in the token that begins the second.
        check(&level, &["æĹ", "¥æ", "ľ", "¬"], &["", "", "", "日本", ""]);
        check(&level, &["aÃ", "©"], &["", "aé", ""]);
        check(&level, &["h", "<end>", "e"], &["h", "", "e", ""]);
        // Cut off inside of a character, and bytes that are none.
        check(&level, &["h", "æĹ"], &["h", "", "\u{fffd}"]);
        check(&level, &["Ã", "h"], &["", "\u{fffd}h", ""]);
        let llama = byte_fallback();
        check(&llama, &["▁a", "▁b", "b", "▁", "▁a"], &["a", " b", "b", " ", " a", ""]);
        check(&llama, &["▁", "▁a"], &["", " a", ""]);
        check(&llama, &["▁a", "<0xE2>", "<0x82>", "<0xAC>", "▁b"], &["a", "", "", "€", " b", ""]);
    }

    proptest! {
        #[test]
        fn all_pieces_are_the_text_of_all_tokens(ids in prop::collection::vec(0_u32..265, 0..120)) {
            let tokenizer = byte_level();
            let joined: String = pieces(&tokenizer, &ids).into_iter().flatten().collect();
            prop_assert_eq!(joined, tokenizer.decode(&ids, true).unwrap());
        }

        #[test]
        fn text_comes_back_whatever_its_characters(text in "[ab \u{e9}\u{65e5}\u{672c}\u{1f9ad}\u{300}-\u{310}]{0,60}") {
            let level = byte_level();
            let ids = level.encode(text.as_str(), false).unwrap().get_ids().to_vec();
            let all: Vec<Option<String>> = pieces(&level, &ids);
            prop_assert!(all.iter().flatten().all(|piece| !piece.contains(REPLACEMENT)));
            prop_assert_eq!(all.into_iter().flatten().collect::<String>(), text);
        }

        #[test]
        fn byte_fallback_gives_its_text_too(ids in prop::collection::vec(256_u32..262, 0..60)) {
            let tokenizer = byte_fallback();
            let joined: String = pieces(&tokenizer, &ids).into_iter().flatten().collect();
            prop_assert_eq!(joined, tokenizer.decode(&ids, true).unwrap());
        }

        #[test]
        fn where_pieces_end_does_not_change_what_is_released(
            text in "[abc]{0,30}",
            stops in prop::collection::vec("[abc]{1,5}", 0..4),
            cuts in prop::collection::vec(0_usize..30, 0..6),
        ) {
            let run = |pieces: &[&str]| {
                let mut stream = StopStrings::new(stops.clone()).unwrap();
                let mut text = String::new();
                for piece in pieces {
                    let released = stream.push(piece);
                    text += &released.text;
                    if released.stop.is_some() {
                        return (text, released.stop);
                    }
                }
                (text + &stream.finish(), None)
            };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let whole = run(&[&text]);
            prop_assert_eq!(&run(&pieces), &whole);
            let earliest = (0..=text.len()).find(|&end| stops.iter().any(|stop| text[..end].ends_with(stop.as_str())));
            match (earliest, whole.1) {
                (None, None) => prop_assert_eq!(whole.0, text),
                (Some(end), Some(stop)) => prop_assert_eq!(whole.0 + &stops[stop], &text[..end]),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn many_bytes_that_are_no_text_do_not_pile_up() {
        let tokenizer = byte_level();
        let id = tokenizer.token_to_id("æ").unwrap();
        let mut stream = Detokenizer::of(&tokenizer);
        let mut text = String::new();
        for _ in 0..200 {
            text.extend(stream.push(id));
            assert!(stream.ids.len() <= 2 * WAITING_MAX, "{}", stream.ids.len());
        }
        text.extend(stream.finish());
        assert_eq!(text, tokenizer.decode(&[id; 200], true).unwrap());
    }

    #[test]
    fn stop_strings_end_a_text_across_pieces() {
        let check = |stops: &[&str], pieces: &[&str], expected: &[&str], stop: Option<usize>| {
            let mut stream = StopStrings::new(stops.iter().map(|stop| (*stop).to_owned()).collect()).unwrap();
            let released: Vec<Released> = pieces.iter().map(|piece| stream.push(piece)).collect();
            assert_eq!(released.iter().map(|released| released.text.as_str()).collect::<Vec<_>>(), expected);
            assert_eq!(released.last().unwrap().stop, stop, "{stops:?} {pieces:?}");
        };
        check(&["END"], &["a", "bEN", "D", "c"], &["a", "b", "", ""], Some(0));
        check(&["END"], &["E", "E", "NE", "NDx"], &["", "E", "EN", ""], Some(0));
        check(&["END"], &["xEN", "d"], &["x", "ENd"], None);
        // Overlapping: the one that ends first counts, the longest of those that end together.
        check(&["bcd", "c"], &["a", "b", "c", "d"], &["a", "", "b", ""], Some(1));
        check(&["bcd", "c"], &["abcd"], &["ab"], Some(1));
        check(&["c", "bc"], &["abc"], &["a"], Some(1));
        check(&["aab"], &["aaab"], &["a"], Some(0));
        check(&["é!"], &["aé", "?é", "!"], &["a", "é?", ""], Some(0));
        check(&[], &["a", ""], &["a", ""], None);
        let mut stream = StopStrings::new(vec!["END".to_owned()]).unwrap();
        stream.push("aEN");
        assert_eq!(stream.finish(), "EN");
    }

    #[test]
    fn an_empty_stop_string_is_refused() {
        let refusal = StopStrings::new(vec!["a".to_owned(), String::new()]).unwrap_err();
        insta::assert_snapshot!(refusal, @"generation: stop string 1 is empty; it would end every text before it starts");
    }
}
