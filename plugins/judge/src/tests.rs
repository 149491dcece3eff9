//! The judge with a stand-in for the host's model.

use selkie_sdk::host_model::{Likelihood, Refusal, RefusalKind};
use selkie_sdk::testing::{HostModel, with_host_model};
use selkie_sdk::{ErrorKind, Submission, run_grader};

use super::*;

/// Two tokens a document; each token is likely (0.5) after a prompt that has the document, else unlikely (0.125).
/// Refuses after so many calls.
struct Finds {
    calls_left: usize,
}

impl HostModel for Finds {
    fn log_likelihood(&mut self, prompt: &str, completion: &str) -> Result<Likelihood, Refusal> {
        let left = self.calls_left.checked_sub(1);
        self.calls_left = left.ok_or(Refusal { kind: RefusalKind::Budget, message: "used up".into() })?;
        let each: f64 = if prompt.contains(completion) { 0.5 } else { 0.125 };
        Ok(Likelihood { log_prob: 2.0 * each.ln(), tokens: 2 })
    }

    fn complete(&mut self, _: &str, _: u32) -> Result<String, Refusal> {
        Err(Refusal { kind: RefusalKind::Failed, message: "not asked".into() })
    }
}

fn grade(documents: &[&str], calls_left: usize, params: &str) -> Result<Score, ToolError> {
    let edit = Edit {
        title: "Known".into(),
        passage: "The tower is high.".into(),
        documents: documents.iter().map(|document| document.to_string()).collect(),
    };
    let graded = with_host_model(Finds { calls_left }, || {
        run_grader::<LikelihoodJudge>(params, vec![Submission::Edit(edit)])
    });
    graded.map(|mut scores| scores.remove(0))
}

#[test]
fn what_follows_from_the_passage_and_is_news_scores_high() {
    let check = |document, value: f64| {
        let score = grade(&[document], 2, "{}").expect("a score");
        assert!((score.value - value).abs() < 1e-12, "{document}: {score:?}");
    };
    check("tower", 0.5 * 0.875);
    // Of the title, so known before.
    check("Known", 0.5 * 0.5);
    // From nowhere.
    check("a lion", 0.125 * 0.875);
    let score = grade(&["tower", "a lion"], 4, "{}").expect("a score");
    assert!((score.value - 0.875 * 0.3125).abs() < 1e-12);
    assert_eq!(
        score.reasons,
        [
            "the model read 2 of 2 documents",
            "after the passage a token has a probability of 0.312",
            "after the title alone 0.125",
        ]
    );
}

#[test]
fn no_more_documents_are_read_than_allowed() {
    assert_eq!(spread(&["a", "b", "c", "d", "e"], 2), ["a", "c"]);
    assert_eq!(spread(&["a", "b"], 8), ["a", "b"]);
    assert!(grade(&["tower"; 40], 16, "{}").is_ok());
    assert!(grade(&["tower"; 40], 4, r#"{"documents_max":2}"#).is_ok());
}

#[test]
fn without_the_model_there_is_no_grade() {
    let refused = grade(&["tower"], 1, "{}").expect_err("a refusal");
    assert_eq!((refused.kind, refused.message.as_str()), (ErrorKind::ModelUnavailable, "used up"));
}
