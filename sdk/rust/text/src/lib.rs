//! A plugin for passages with one tool: overlapping pieces of so many words.

use selkie_sdk::{Laws, Rng, Source, TextAugmenter, ToolError};
use serde::Deserialize;

struct Windows;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default = "usual_words")]
    words: usize,
}

fn usual_words() -> usize {
    40
}

impl TextAugmenter for Windows {
    const NAME: &'static str = "starter_text.windows";
    const SUMMARY: &'static str =
        "Cuts the passage into pieces of so many words; half of each piece is also in the next one.";
    // What the tool promises: the host refuses an answer that breaks it.
    const LAWS: Laws = Laws::DETERMINISTIC;
    type Params = Params;

    fn params_schema() -> String {
        r#"{
            "type": "object",
            "properties": { "words": { "type": "integer", "minimum": 4, "maximum": 400, "default": 40 } },
            "additionalProperties": false
        }"#
        .into()
    }

    fn documents(params: &Params, source: &Source, _: &mut Rng) -> Result<Vec<String>, ToolError> {
        if !(4..=400).contains(&params.words) {
            return Err(ToolError::invalid_params("`words` is 4 to 400"));
        }
        let words: Vec<&str> = source.text.split_whitespace().collect();
        let step = params.words / 2;
        let starts =
            (0..words.len()).step_by(step).take_while(|&start| start == 0 || start + step < words.len());
        Ok(starts.map(|start| words[start..words.len().min(start + params.words)].join(" ")).collect())
    }
}

selkie_sdk::register!(text: Windows);
