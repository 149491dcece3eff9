//! Edits that no policy wrote: the raw text, and what a person would choose.

use selkie_edit::Context;
use serde_json::json;

use crate::settings::{Condition, Given};
use crate::subject::{Subject, by_entity, sentences};

/// Documents that no policy wrote, to be learned as the run's settings say.
fn documents(documents: &[String], include_source: bool, replay: u32) -> String {
    json!({
        "version": 1,
        "data": { "documents": documents, "include_source": include_source, "replay": replay },
    })
    .to_string()
}

/// The one edit for puzzles that a person would choose: the pairs as they are, as often as tasks show them. It
/// contradicts no rule.
pub const FIXED_PUZZLE: &str = r#"{"version":1,"data":{"tools":[],"permute":{"copies":16,"colors":false}},"training":{"loss_on":"all_outputs","learning_rate":0.01,"epochs":4}}"#;

/// SEAL's oracle for puzzles, in SEAL's own form: the basic augmentations, two epochs at 1e-4.
pub const FIXED_SEAL: &str = r#"{"data_generation":{"use_basic_augmentations":true,"use_size_augmentations":false,"use_chain_augmentations":false,"use_repeat_augmentations":false},"training":{"strategy":"train_using_output_tokens","learning_rate":0.0001,"num_train_epochs":2}}"#;

/// Every turn and flip of the square but the one that changes nothing.
const TURNS: &str = r#"{"tool":"grid.rotate","params":{"degrees":90}},{"tool":"grid.rotate","params":{"degrees":180}},{"tool":"grid.rotate","params":{"degrees":270}},{"tool":"grid.flip","params":{"axis":"rows"}},{"tool":"grid.flip","params":{"axis":"columns"}},{"tool":"grid.transpose","params":{}}"#;

/// The edit for a kind of rule: what does not change the rule makes more of its examples.
pub fn for_kind(kind: &str) -> String {
    let (turns, colours) = (!kind.contains("turns change"), !kind.contains("colours change"));
    let tools = if turns { TURNS } else { "" };
    let copies = if colours { 64 } else { 16 };
    format!(
        r#"{{"version":1,"data":{{"tools":[{tools}],"permute":{{"copies":{copies},"colors":{colours}}}}},"training":{{"loss_on":"all_outputs","learning_rate":0.01,"epochs":4}}}}"#
    )
}

/// The edit of a condition that writes the same for everybody; `None` where a context has nothing to write from.
pub(crate) fn given(condition: Condition, subject: &Subject, settings: &Given) -> Option<String> {
    let replay = settings.replay;
    match (condition, &subject.context) {
        (Condition::Raw, Context::Passage(_)) => Some(documents(&[], true, replay)),
        (Condition::RawSentences, Context::Passage(passage)) => {
            Some(documents(&sentences(&passage.context), false, replay))
        }
        (Condition::RawEntities, Context::Passage(passage)) => {
            Some(documents(&by_entity(passage), false, replay))
        }
        (Condition::Fixed, Context::Passage(_)) if subject.by_hand.is_empty() => None,
        (Condition::Fixed, Context::Passage(_)) => Some(documents(&subject.by_hand, false, replay)),
        (Condition::Fixed, Context::Puzzle(_)) => Some(settings.puzzle.clone()),
        (Condition::ByKind, Context::Puzzle(_)) => Some(for_kind(subject.kind.as_deref()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use selkie_edit::{Domain, Passage, Question, parse};

    use super::*;

    #[test]
    fn every_edit_that_is_given_can_be_read() {
        for kind in ["turns keep it, colours keep it", "turns change it, colours change it"] {
            assert!(parse(&for_kind(kind), Domain::Puzzle).is_ok(), "{kind}");
        }
        for edit in [FIXED_PUZZLE, FIXED_SEAL] {
            assert!(parse(edit, Domain::Puzzle).is_ok(), "{edit}");
        }
    }

    #[test]
    fn the_raw_text_is_one_document_or_many() {
        let passage = Passage {
            title: "Ava Lund and Bo Rask".to_owned(),
            context: "Ledger. Ava Lund, home: Oslo; Bo Rask, home: Riga; Ava Lund, pet: goat;".to_owned(),
            questions: vec![Question { question: "q".to_owned(), answer: "a".to_owned() }],
        };
        let subject = Subject::new(Context::Passage(passage));
        let settings = Given { puzzle: String::new(), replay: 0 };
        let documents = |condition: Condition| {
            let text = given(condition, &subject, &settings).expect("it is a passage");
            let edit: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            (edit["data"]["documents"].clone(), edit["data"]["include_source"].clone())
        };
        assert_eq!(documents(Condition::Raw), (json!([]), json!(true)));
        let sentences =
            json!(["Ledger.", "Ava Lund, home: Oslo;", "Bo Rask, home: Riga;", "Ava Lund, pet: goat;"]);
        assert_eq!(documents(Condition::RawSentences), (sentences, json!(false)));
        let entities = json!(["Ava Lund, home: Oslo; Ava Lund, pet: goat;", "Bo Rask, home: Riga;"]);
        assert_eq!(documents(Condition::RawEntities), (entities, json!(false)));
        assert_eq!(given(Condition::Fixed, &subject, &settings), None, "nobody wrote about it");
    }
}
