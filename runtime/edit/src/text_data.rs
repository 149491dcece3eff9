//! A passage's documents that tools write: a pure function of the plan and whatever runs the tools.

use std::collections::HashSet;

use crate::limits::{DOCUMENT_BYTES_MAX, EXAMPLES_MAX};
use crate::plan::{PlannedCall, TextPlan};
use crate::problem::{Code, Problem};
use crate::puzzle_data::ExpandError;
use crate::tool_data::TextSource;

/// What the pipelines make of the passage and of the edit's documents, pipeline by pipeline, each document once
/// and none that is blank. In a chain every tool but the first works on the documents of the one before it, each
/// as a passage of its own.
///
/// # Errors
/// The first error of `run`; or a problem when there are more than [`EXAMPLES_MAX`] documents, or one of more
/// than [`DOCUMENT_BYTES_MAX`] bytes.
pub fn expand_texts<E>(
    plan: &TextPlan,
    mut run: impl FnMut(&PlannedCall, &TextSource) -> Result<Vec<String>, E>,
) -> Result<Vec<String>, ExpandError<E>> {
    let mut documents = Vec::new();
    for (index, pipeline) in plan.pipelines.iter().enumerate() {
        let at = format!("/data/tools/{index}");
        let mut sources = vec![plan.source.clone()];
        for call in pipeline {
            let mut made = Vec::new();
            for source in &sources {
                made.extend(run(call, source).map_err(ExpandError::Run)?);
                within_caps(&made, documents.len(), &at)?;
            }
            let source =
                |text| TextSource { title: plan.source.title.clone(), text, completions: Vec::new() };
            sources = made.into_iter().map(source).collect();
        }
        documents.extend(sources.into_iter().map(|source| source.text));
    }
    let mut seen = HashSet::new();
    documents.retain(|document| !document.trim().is_empty() && seen.insert(document.clone()));
    Ok(documents)
}

fn within_caps<E>(made: &[String], before: usize, at: &str) -> Result<(), ExpandError<E>> {
    let count = before + made.len();
    if count > EXAMPLES_MAX {
        let expected = format!("at most {EXAMPLES_MAX} documents of all tools: fewer tools or copies");
        let problem = Problem::new(Code::OverLimit, at, expected, format!("{count} documents"));
        return Err(ExpandError::Refused(problem));
    }
    if let Some(long) = made.iter().find(|document| document.len() > DOCUMENT_BYTES_MAX) {
        let expected = format!("documents of at most {DOCUMENT_BYTES_MAX} bytes");
        let problem = Problem::new(Code::OverLimit, at, expected, format!("{} bytes", long.len()));
        return Err(ExpandError::Refused(problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::PluginId;

    fn plan(pipelines: &[&[&str]]) -> TextPlan {
        let plugin = PluginId { name: "t".into(), version: "1".into(), digest: "0".repeat(64) };
        let call = |tool: &&str| PlannedCall {
            tool: (*tool).into(),
            plugin: plugin.clone(),
            params: "{}".into(),
            seed: 0,
        };
        TextPlan {
            source: TextSource { title: "T".into(), text: "a b".into(), completions: vec!["c".into()] },
            pipelines: pipelines.iter().map(|calls| calls.iter().map(call).collect()).collect(),
        }
    }

    /// `words` splits, `twice` repeats in one document, `many` floods, `blank` writes nothing worth it.
    fn run(call: &PlannedCall, source: &TextSource) -> Result<Vec<String>, String> {
        match call.tool.as_str() {
            "words" => Ok(source
                .text
                .split(' ')
                .chain(source.completions.iter().map(String::as_str))
                .map(String::from)
                .collect()),
            "twice" => Ok(vec![format!("{0} {0}", source.text)]),
            "many" => Ok((0..EXAMPLES_MAX + 1).map(|n| n.to_string()).collect()),
            "blank" => Ok(vec![" ".into(), String::new()]),
            other => Err(other.into()),
        }
    }

    #[test]
    fn pipelines_add_up_and_chains_feed_forward() {
        assert_eq!(
            expand_texts(&plan(&[&["words", "twice"], &["words"], &["blank"], &["words"]]), run),
            Ok(["a a", "b b", "c c", "a", "b", "c"].map(String::from).to_vec())
        );
        assert_eq!(expand_texts(&plan(&[]), run), Ok(vec![]));
    }

    #[test]
    fn a_flood_and_a_failure_are_told_apart() {
        let flood = expand_texts(&plan(&[&["words"], &["many"]]), run);
        assert!(matches!(flood, Err(ExpandError::Refused(problem)) if problem.pointer == "/data/tools/1"));
        assert_eq!(expand_texts(&plan(&[&["gone"]]), run), Err(ExpandError::Run("gone".into())));
    }
}
