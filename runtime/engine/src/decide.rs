//! The rule that changes a model, alone and pure.

use selkie_edit::{Report, Verdict};

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
    fn a_log_probability_alone_keeps_nothing_even_when_it_is_not_a_number() {
        for log_prob in [0.0, f64::NAN, f64::INFINITY] {
            let decision = decide(&report(&[false], -9.0), &report(&[false], log_prob));
            assert_eq!(decision.verdict, Verdict::Discarded);
        }
        let reason = decide(&report(&[false, false], -4.0), &report(&[true, false], -1.5)).reason;
        assert_eq!(reason, "0 -> 1 of 2 solved, log-probability -4.00 -> -1.50");
    }
}
