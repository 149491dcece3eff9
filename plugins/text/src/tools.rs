//! The tools that turn a passage or its completions into documents.

use selkie_sdk::{Laws, Rng, Source, TextAugmenter, ToolError};
use serde::Deserialize;

use crate::completion;
use crate::facts;
use crate::params::{TITLE, object, titled, yes};
use crate::sentence::sentences;

/// Most copies of a passage.
const COPIES_MAX: u8 = 16;

/// SEAL's splitting.
pub(crate) struct Split;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitParams {
    #[serde(default = "yes")]
    title: bool,
    #[serde(default = "yes")]
    source: bool,
}

impl TextAugmenter for Split {
    const NAME: &'static str = "text.split";
    const SUMMARY: &'static str = "SEAL's splitting: every line, block or question of the completions becomes a \
                                   document; the passage is the last unless source is false.";
    type Params = SplitParams;

    fn params_schema() -> String {
        object(&format!(r#"{TITLE},"source":{{"type":"boolean","default":true}}"#))
    }

    fn documents(params: &SplitParams, source: &Source, _: &mut Rng) -> Result<Vec<String>, ToolError> {
        let mut documents: Vec<String> =
            source.completions.iter().flat_map(|text| completion::documents(text)).collect();
        documents.extend(params.source.then(|| source.text.trim().to_owned()));
        Ok(titled(documents, &source.title, params.title))
    }
}

/// One document a sentence.
pub(crate) struct Sentences;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TitleParams {
    #[serde(default = "yes")]
    pub(crate) title: bool,
}

impl TextAugmenter for Sentences {
    const NAME: &'static str = "text.sentences";
    const SUMMARY: &'static str = "Every sentence of the passage becomes a document.";
    type Params = TitleParams;

    fn params_schema() -> String {
        object(TITLE)
    }

    fn documents(params: &TitleParams, source: &Source, _: &mut Rng) -> Result<Vec<String>, ToolError> {
        Ok(titled(sentences(&source.text), &source.title, params.title))
    }
}

/// The passage with its sentences in another order.
pub(crate) struct ShuffleSentences;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShuffleParams {
    #[serde(default = "yes")]
    title: bool,
    #[serde(default)]
    copies: Copies,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u8")]
struct Copies(u8);

impl Default for Copies {
    fn default() -> Copies {
        Copies(1)
    }
}

impl TryFrom<u8> for Copies {
    type Error = String;
    fn try_from(copies: u8) -> Result<Copies, String> {
        match copies {
            1..=COPIES_MAX => Ok(Copies(copies)),
            _ => Err(format!("{copies} is not in 1 to {COPIES_MAX}")),
        }
    }
}

impl TextAugmenter for ShuffleSentences {
    const NAME: &'static str = "text.shuffle_sentences";
    const SUMMARY: &'static str = "Random copies of the passage with its sentences in another order.";
    type Params = ShuffleParams;

    const LAWS: Laws = Laws::SEEDED.items_max(COPIES_MAX as u32);

    fn params_schema() -> String {
        let copies = format!(r#"{{"type":"integer","minimum":1,"maximum":{COPIES_MAX},"default":1}}"#);
        object(&format!(r#"{TITLE},"copies":{copies}"#))
    }

    fn documents(params: &ShuffleParams, source: &Source, rng: &mut Rng) -> Result<Vec<String>, ToolError> {
        let mut sentences = sentences(&source.text);
        if sentences.is_empty() {
            return Ok(Vec::new());
        }
        let copy = |_| {
            rng.shuffle(&mut sentences);
            sentences.join(" ")
        };
        Ok(titled((0..params.copies.0).map(copy).collect(), &source.title, params.title))
    }
}

/// Facts said in other words.
pub(crate) struct RewriteFacts;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RewriteParams {
    #[serde(default = "yes")]
    title: bool,
    #[serde(default = "yes")]
    completions: bool,
}

impl TextAugmenter for RewriteFacts {
    const NAME: &'static str = "text.rewrite_facts";
    const SUMMARY: &'static str = "Says simple sentences of the passage, and of the completions unless that is \
                                   false, in another order or as question and answer; leaves out the others.";
    type Params = RewriteParams;

    fn params_schema() -> String {
        object(&format!(r#"{TITLE},"completions":{{"type":"boolean","default":true}}"#))
    }

    fn documents(params: &RewriteParams, source: &Source, _: &mut Rng) -> Result<Vec<String>, ToolError> {
        let mut facts = sentences(&source.text);
        for text in source.completions.iter().filter(|_| params.completions) {
            let written = completion::documents(text);
            facts.extend(written.iter().flat_map(|line| sentences(without_list_mark(line))));
        }
        let mut documents: Vec<String> = Vec::new();
        for rewritten in facts.iter().flat_map(|fact| facts::rewrite(fact)) {
            if !documents.contains(&rewritten) {
                documents.push(rewritten);
            }
        }
        Ok(titled(documents, &source.title, params.title))
    }
}

/// A line without its `12.`, `12)`, `-` or `*`.
fn without_list_mark(line: &str) -> &str {
    let numbered = line.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let unmarked = match numbered.strip_prefix(['.', ')']) {
        Some(rest) if numbered.len() < line.len() => Some(rest),
        _ => line.strip_prefix(['-', '*']),
    };
    unmarked.filter(|rest| rest.starts_with(' ')).map_or(line, str::trim_start)
}
