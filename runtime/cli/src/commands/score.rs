//! `selkie score`: how probable completions are.

use std::path::Path;
use std::process::ExitCode;

use selkie_learn::{Adapter, Score, Sequence, score_many};
use serde::Serialize;
use serde_json::json;

use super::text::{Data, Line, NamedAdapter, TextModel, plural};
use crate::args::ScoreArgs;
use crate::error::CommandError;

/// Scores every line under every adapter.
pub(crate) fn run(args: &ScoreArgs) -> Result<ExitCode, CommandError> {
    let model = TextModel::open(&args.model)?;
    let adapters = model.adapters(&args.adapters)?;
    let data = Data::read(&args.data, &model, &args.length)?;
    let sequences = data.sequences();
    let work: Vec<(Option<&Adapter>, &[Sequence])> =
        adapters.iter().map(|named| (named.adapter.as_ref(), sequences.as_slice())).collect();
    let scores = score_many(&model.decoder, &work)?;
    let mut lines = Vec::with_capacity(adapters.len() * sequences.len());
    let mut summaries = Vec::with_capacity(adapters.len());
    for (adapter, scores) in adapters.iter().zip(scores) {
        summaries.push(Summary::of(adapter, &scores));
        let scored = data.lines.iter().zip(scores);
        lines.extend(scored.map(|(line, score)| Scored::of(adapter, line, score, args.tokens)));
    }
    if args.json {
        let cut = data.cut;
        super::print_json(
            &json!({"model": model.name, "lines": lines, "lines_cut": cut, "summaries": summaries}),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in &lines {
        let line = serde_json::to_string(line).map_err(|error| CommandError::internal(error.to_string()))?;
        super::print(&(line + "\n"))?;
    }
    for summary in &summaries {
        eprintln!("{}", summary.text(&args.data, data.cut));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line and what the model makes of it.
#[derive(Serialize)]
struct Scored {
    adapter: Option<String>,
    /// From 1.
    line: usize,
    /// Nats.
    log_prob: f64,
    tokens: usize,
    per_token: f64,
    /// Whether greedy decoding gives exactly this.
    greedy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_probs: Option<Vec<f32>>,
}

impl Scored {
    fn of(adapter: &NamedAdapter, line: &Line, score: Score, tokens: bool) -> Scored {
        let Sequence { ids, labelled, .. } = &line.sequence;
        let labelled = ids.iter().zip(labelled).skip(1).filter(|(_, labelled)| **labelled);
        Scored {
            adapter: adapter.folder.clone(),
            line: line.number,
            log_prob: score.log_prob,
            tokens: score.tokens,
            per_token: score.log_prob / score.tokens.max(1) as f64,
            greedy: score.greedy,
            ids: tokens.then(|| labelled.map(|(id, _)| *id).collect()),
            log_probs: tokens.then_some(score.token_log_probs),
        }
    }
}

/// A whole file under one adapter.
#[derive(Serialize)]
struct Summary {
    adapter: Option<String>,
    lines: usize,
    /// Lines that greedy decoding gives exactly.
    greedy: usize,
    tokens: usize,
    log_prob: f64,
    per_token: f64,
    perplexity: f64,
}

impl Summary {
    fn of(adapter: &NamedAdapter, scores: &[Score]) -> Summary {
        let tokens: usize = scores.iter().map(|score| score.tokens).sum();
        let log_prob: f64 = scores.iter().map(|score| score.log_prob).sum();
        let per_token = log_prob / tokens.max(1) as f64;
        Summary {
            adapter: adapter.folder.clone(),
            lines: scores.len(),
            greedy: scores.iter().filter(|score| score.greedy).count(),
            tokens,
            log_prob,
            per_token,
            perplexity: (-per_token).exp(),
        }
    }

    fn text(&self, data: &Path, cut: usize) -> String {
        let of = self.adapter.as_ref().map(|folder| format!(" with {folder}")).unwrap_or_default();
        let cut = if cut > 0 { format!(" ({cut} cut)") } else { String::new() };
        format!(
            "{}{of}: {}{cut}, {}, log-probability {:.3} a token, perplexity {:.3}, {} exact by greedy decoding",
            data.display(),
            plural(self.lines, "line"),
            plural(self.tokens, "token"),
            self.per_token,
            self.perplexity,
            self.greedy,
        )
    }
}
