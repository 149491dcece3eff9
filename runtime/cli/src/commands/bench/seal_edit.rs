//! A recorded knowledge self-edit of SEAL as token ids: each document under its title, the passage last.

use std::path::Path;

use selkie_edit::completion;
use serde::Deserialize;

use super::request::Row;
use crate::error::CommandError;
use crate::settings::read_text;

/// Bytes of a file of recorded self-edits; SEAL's own is 400 kB.
const RECORDED_BYTES_MAX: usize = 64 << 20;

/// Characters of a token. With it English text has about as many tokens a word as with the tokenizers of large
/// models.
const TOKEN_CHARS: usize = 6;

/// SEAL's recorded self-edits, as far as they are needed.
#[derive(Deserialize)]
struct Recorded {
    articles: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    title: String,
    context: String,
    completions: Vec<Completion>,
}

#[derive(Deserialize)]
struct Completion {
    text: String,
}

/// The sequences of the first self-edit of a file, each cut at `tokens_max`; every token has a loss.
pub(super) fn rows(path: &Path, vocab: usize, tokens_max: usize) -> Result<Vec<Row>, CommandError> {
    let text = read_text(path, RECORDED_BYTES_MAX)?;
    let not_recorded = |reason: String| {
        CommandError::input(format!("`{}` is not a file of recorded self-edits: {reason}", path.display()))
    };
    let recorded: Recorded = serde_json::from_str(&text).map_err(|error| not_recorded(error.to_string()))?;
    let article = recorded.articles.first().ok_or_else(|| not_recorded("it has no article".to_owned()))?;
    let completion = article
        .completions
        .first()
        .ok_or_else(|| not_recorded("its first article has no completion".to_owned()))?;
    let texts = completion::documents(&completion.text).into_iter().chain([article.context.clone()]);
    let row = |text: String| {
        let mut ids = tokenize(&format!("{}\n{text}", article.title), vocab);
        ids.truncate(tokens_max);
        Row { ids, labelled_from: 1 }
    };
    Ok(texts.map(row).collect())
}

/// Pieces of words, and every other visible character by itself, hashed to ids from 1; 0 is left for pads.
fn tokenize(text: &str, vocab: usize) -> Vec<u32> {
    let mut pieces: Vec<String> = Vec::new();
    let mut grows = false;
    for character in text.chars() {
        let in_word = character.is_alphanumeric();
        match pieces.last_mut().filter(|piece| grows && in_word && piece.chars().count() < TOKEN_CHARS) {
            Some(piece) => piece.push(character),
            None if character.is_whitespace() => {}
            None => pieces.push(character.to_string()),
        }
        grows = in_word;
    }
    let id = |piece: &String| 1 + (fnv1a(piece) % (vocab as u64 - 1).max(1)) as u32;
    pieces.iter().map(id).collect()
}

/// Fowler, Noll and Vo's hash.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, same: &[&str]) {
        let pieces: Vec<u32> = same.iter().flat_map(|piece| tokenize(piece, 512)).collect();
        assert_eq!(tokenize(text, 512), pieces, "{text:?}");
        assert_eq!(pieces.len(), same.len(), "{text:?}");
    }

    #[test]
    fn words_are_cut_into_pieces() {
        check("The selkie's\n skin.", &["The", "selkie", "'", "s", "skin", "."]);
        check("Estonians", &["Estoni", "ans"]);
        check("  ", &[]);
    }

    #[test]
    fn ids_leave_out_the_pad() {
        let ids = tokenize(&(0..2000).map(|number| format!("{number} ")).collect::<String>(), 512);
        assert!(ids.iter().all(|&id| (1..512).contains(&id)), "{ids:?}");
    }
}
