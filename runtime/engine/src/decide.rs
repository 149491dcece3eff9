//! The rule that changes a model, alone and pure.

use selkie_edit::{Asked, Report, Verdict};

/// A verdict with its reason, in one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Kept or discarded.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
}

/// Keeps a candidate exactly when it solves more items than the model did before.
///
/// The log-probability is reported and decides nothing: it rises on almost any training, and a model that is
/// more certain of a wrong answer is not better. Equal scores are discarded, because every kept edit costs
/// something of what was known before.
pub fn decide(before: &Report, after: &Report) -> Decision {
    let solved = |report: &Report| report.items.iter().filter(|item| item.solved).count();
    let (was, is, all) = (solved(before), solved(after), after.items.len());
    let log_probs = format!("log-probability {:.2} -> {:.2}", before.log_prob(), after.log_prob());
    let (verdict, reason) = match is.cmp(&was) {
        std::cmp::Ordering::Greater => (Verdict::Kept, format!("{was} -> {is} of {all} solved, {log_probs}")),
        std::cmp::Ordering::Equal => (Verdict::Discarded, format!("still {is} of {all} solved, {log_probs}")),
        std::cmp::Ordering::Less => {
            (Verdict::Discarded, format!("{was} -> {is} of {all} solved, {log_probs}"))
        }
    };
    Decision { verdict, reason }
}

/// The share of what the model knew that an edit may cost. Edits of the bundled model cost a fifth on average.
const ANCHORS_LOST_MAX: f64 = 0.5;

/// What a text's mean log-probability (nats a token) must rise by.
const TEXT_GAIN_MIN: f64 = 0.05;

/// The rule for a candidate whose context may have come without answers. `anchors` are the shares of what the model
/// knew that it answers before and after.
///
/// A candidate whose numbers are not finite, or that has forgotten too much, is discarded whatever it solves. Answers
/// decide as in [`decide`]; where there is only a text, its log-probability does.
pub fn gate(asked: &Asked, (before, after): (&Report, &Report), anchors: Option<(f64, f64)>) -> Decision {
    let discarded = |reason| Decision { verdict: Verdict::Discarded, reason };
    if let Some((was, is)) = anchors.filter(|(was, is)| was - is > ANCHORS_LOST_MAX) {
        return discarded(format!("of what the model knew it answers {was:.2} -> {is:.2}: too much is lost"));
    }
    if !matches!(asked, Asked::Text(_)) {
        return decide(before, after);
    }
    let (was, is) = (before.log_prob(), after.log_prob());
    let reason = format!("log-probability of the text {was:.2} -> {is:.2}");
    // Not a number is no gain.
    match is.is_finite() && is - was >= TEXT_GAIN_MIN {
        true => Decision { verdict: Verdict::Kept, reason },
        false => discarded(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie_edit::{Answer, ItemReport};

    fn report(solved: &[bool], log_prob: f64) -> Report {
        let item = |&solved: &bool| ItemReport {
            item: "q".into(),
            solved,
            log_prob,
            prediction: Answer::Text("a".into()),
            expected: Answer::Text("a".into()),
        };
        Report { items: solved.iter().map(item).collect() }
    }

    #[test]
    fn only_more_solved_items_are_kept() {
        let cases = [
            (&[false, false][..], &[true, false][..], Verdict::Kept),
            (&[true, false], &[true, true], Verdict::Kept),
            (&[true, false], &[false, true], Verdict::Discarded),
            (&[false, false], &[false, false], Verdict::Discarded),
            (&[true, true], &[true, true], Verdict::Discarded),
            (&[true, true], &[true, false], Verdict::Discarded),
        ];
        for (before, after, expected) in cases {
            let decision = decide(&report(before, -3.0), &report(after, -0.1));
            assert_eq!(decision.verdict, expected, "{before:?} -> {after:?}: {}", decision.reason);
        }
    }

    #[test]
    fn a_text_is_kept_when_it_became_more_likely_and_not_too_much_was_forgotten() {
        let passage = selkie_edit::Passage { title: "t".into(), context: "c".into(), questions: Vec::new() };
        let text = Asked::Text(passage);
        let cases = [
            (-3.0, -2.0, None, Verdict::Kept, "log-probability of the text -3.00 -> -2.00"),
            (-3.0, -2.99, None, Verdict::Discarded, "log-probability of the text -3.00 -> -2.99"),
            (-3.0, f64::NAN, None, Verdict::Discarded, "log-probability of the text -3.00 -> NaN"),
            (-3.0, -1.0, Some((1.0, 0.6)), Verdict::Kept, "log-probability of the text -3.00 -> -1.00"),
            (
                -3.0,
                -1.0,
                Some((1.0, 0.4)),
                Verdict::Discarded,
                "of what the model knew it answers 1.00 -> 0.40: too much is lost",
            ),
        ];
        for (was, is, anchors, verdict, reason) in cases {
            let decision = gate(&text, (&report(&[false], was), &report(&[false], is)), anchors);
            assert_eq!(decision, Decision { verdict, reason: reason.to_owned() });
        }
    }

    #[test]
    fn a_log_probability_alone_keeps_nothing_even_when_it_is_not_a_number() {
        for log_prob in [0.0, f64::NAN, f64::INFINITY] {
            let decision = decide(&report(&[false], -9.0), &report(&[false], log_prob));
            assert_eq!(decision.verdict, Verdict::Discarded);
        }
        let reason = decide(&report(&[false, false], -4.0), &report(&[true, false], -1.5)).reason;
        assert_eq!(reason, "0 -> 1 of 2 solved, log-probability -4.00 -> -1.50");
    }
}
