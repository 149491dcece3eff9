//! A grader of self-edits that asks the model which is being adapted: does a document follow from the passage, and
//! is it news to the model?
//!
//! A document is faithful when the model finds it likely after the passage, and informative when the model does not
//! find it likely after the title alone. A copy of the passage is both: use `grade.rubric` beside this.

use selkie_sdk::{Edit, Grader, Score, Takes, ToolError, host_model};
use serde::Deserialize;

selkie_sdk::register!(grader: LikelihoodJudge; asks: host_model);

/// Most documents that are read: two calls of the model each.
const DOCUMENTS_MAX: usize = 32;

/// The score is the mean over documents of (probability after the passage) times (1 - probability after the title),
/// each the geometric mean over the document's tokens.
struct LikelihoodJudge;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default)]
    documents_max: DocumentsMax,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "usize")]
struct DocumentsMax(usize);

impl Default for DocumentsMax {
    fn default() -> DocumentsMax {
        DocumentsMax(8)
    }
}

impl TryFrom<usize> for DocumentsMax {
    type Error = String;
    fn try_from(documents: usize) -> Result<DocumentsMax, String> {
        match documents {
            1..=DOCUMENTS_MAX => Ok(DocumentsMax(documents)),
            _ => Err(format!("{documents} is not in 1 to {DOCUMENTS_MAX}")),
        }
    }
}

impl Grader for LikelihoodJudge {
    const NAME: &'static str = "judge.likelihood";
    const SUMMARY: &'static str = "How likely the model finds a self-edit's documents after the passage, and how \
                                   unlikely after its title alone.";
    const TAKES: Takes = Takes::Edit;
    type Params = Params;

    fn params_schema() -> String {
        let documents = format!(r#"{{"type":"integer","minimum":1,"maximum":{DOCUMENTS_MAX},"default":8}}"#);
        format!(
            r#"{{"type":"object","properties":{{"documents_max":{documents}}},"additionalProperties":false}}"#
        )
    }

    fn edit(params: &Params, edit: &Edit) -> Result<Score, ToolError> {
        let written: Vec<&str> =
            edit.documents.iter().map(|document| document.trim()).filter(|text| !text.is_empty()).collect();
        if written.is_empty() {
            return Ok(Score { value: 0.0, reasons: vec!["no document has text".into()] });
        }
        let read = spread(&written, params.documents_max.0);
        let title = format!("{}\n", edit.title);
        let passage = format!("{title}{}\n", edit.passage);
        let (mut after_passage, mut after_title, mut value) = (0.0, 0.0, 0.0);
        for document in &read {
            let (faithful, known) = (probability(&passage, document)?, probability(&title, document)?);
            after_passage += faithful;
            after_title += known;
            value += faithful * (1.0 - known);
        }
        let mean = |sum: f64| sum / read.len() as f64;
        let reasons = vec![
            format!("the model read {} of {} documents", read.len(), written.len()),
            format!("after the passage a token has a probability of {:.3}", mean(after_passage)),
            format!("after the title alone {:.3}", mean(after_title)),
        ];
        Ok(Score { value: mean(value), reasons })
    }
}

/// At most so many documents, from all over the list.
fn spread<'a>(documents: &[&'a str], most: usize) -> Vec<&'a str> {
    let count = documents.len().min(most);
    (0..count).map(|index| documents[index * documents.len() / count]).collect()
}

/// The geometric mean of the probabilities of the document's tokens after the prompt.
fn probability(prompt: &str, document: &str) -> Result<f64, ToolError> {
    let likelihood = host_model::log_likelihood(prompt, document)?;
    Ok((likelihood.log_prob / f64::from(likelihood.tokens.max(1))).exp().clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
