//! SEAL's recorded data: completions become documents, its prompt is ours, its dialect is its sets.

use selkie_edit::{Catalogue, Context, Dialect, Domain, LossOn, Passage, Question, completion, edit_prompt};
use serde_json::{Value, json};

use crate::support::{data, read};

#[test]
fn recorded_completions_become_documents() {
    let Some(recorded) = data("seal/recorded_self_edits.json") else { return };
    let recorded: Value = serde_json::from_str(&recorded).expect("JSON");
    let mut completions = 0;
    for article in recorded["articles"].as_array().expect("articles") {
        for item in article["completions"].as_array().expect("completions") {
            let text = item["text"].as_str().expect("text");
            let lines = text.split('\n').filter(|line| !line.trim().is_empty());
            let blocks = text
                .split('\n')
                .filter(|line| line.trim().len() > 2 && line.trim().chars().all(|c| c == '-'));
            assert_eq!(blocks.count(), 0, "no recorded completion has blocks; if one does, count them here");
            let edit = read(text, Domain::Passage).expect(text);
            assert_eq!(edit.dialect, Dialect::SealCompletion);
            assert!(edit.include_source);
            assert_eq!(edit.documents.len(), lines.count(), "{text}");
            assert_eq!(edit.documents, completion::documents(text));
            completions += 1;
        }
    }
    assert_eq!(completions, 250);
}

#[test]
fn recorded_prompts_are_ours() {
    let Some(recorded) = data("seal/recorded_self_edits.json") else { return };
    let recorded: Value = serde_json::from_str(&recorded).expect("JSON");
    for article in recorded["articles"].as_array().expect("articles") {
        let text = |name: &str| article[name].as_str().expect(name).to_owned();
        let questions = vec![Question { question: "Q".to_owned(), answer: "A".to_owned() }];
        let passage = Passage { title: text("title"), context: text("context"), questions };
        assert_eq!(edit_prompt(&Context::Passage(passage), &Catalogue::default()), text("prompt"));
    }
}

#[test]
fn flags_are_seals_sets_in_its_order() {
    let flags = |basic: bool, size: bool, chain: bool, repeat: bool| {
        let edit = json!({
            "data_generation": {
                "use_basic_augmentations": basic, "use_size_augmentations": size,
                "use_chain_augmentations": chain, "use_repeat_augmentations": repeat,
            },
            "training": { "strategy": "train_using_output_tokens", "learning_rate": 1e-4, "num_train_epochs": 2 },
        });
        read(&edit.to_string(), Domain::Puzzle).expect("valid")
    };
    let counts = |edit: &selkie_edit::SelfEdit| (edit.pipelines.len(), edit.permute.colors);
    assert_eq!(counts(&flags(false, false, false, false)), (0, false));
    assert_eq!(counts(&flags(true, false, false, false)), (11, true));
    assert_eq!(counts(&flags(false, true, false, false)), (3, true));
    assert_eq!(counts(&flags(false, false, true, false)), (6, true));
    assert_eq!(counts(&flags(false, false, false, true)), (3, true));
    let all = flags(true, true, true, true);
    assert_eq!(all.training.loss_on, LossOn::FinalOutput);
    assert_eq!((all.training.lora.rank, all.training.batch_size, all.permute.copies), (128, 2, 1));
    let written: Vec<String> = all
        .pipelines
        .iter()
        .map(|calls| {
            calls.iter().map(|call| format!("{} {}", call.tool, call.params)).collect::<Vec<_>>().join(" > ")
        })
        .collect();
    insta::assert_snapshot!(written.join("\n"), @r#"
    grid.rotate {"degrees":90}
    grid.rotate {"degrees":270}
    grid.rotate {"degrees":180}
    grid.flip {"axis":"rows"}
    grid.flip {"axis":"columns"}
    grid.reflect {"axis":"rows","reverse":true}
    grid.reflect {"axis":"columns","reverse":true}
    grid.reflect {"axis":"rows","reverse":false}
    grid.reflect {"axis":"columns","reverse":false}
    grid.translate {"copies":1}
    grid.transpose {}
    grid.upscale {"factor":2}
    grid.increase_height {"factor":2}
    grid.increase_width {"factor":2}
    grid.rotate {"degrees":90} > grid.upscale {"factor":2}
    grid.rotate {"degrees":270} > grid.upscale {"factor":2}
    grid.rotate {"degrees":180} > grid.upscale {"factor":2}
    grid.flip {"axis":"rows"} > grid.upscale {"factor":2}
    grid.flip {"axis":"columns"} > grid.upscale {"factor":2}
    grid.transpose {} > grid.upscale {"factor":2}
    grid.repeat {"axis":"rows","times":2}
    grid.repeat {"axis":"columns","times":2}
    grid.repeat {"axis":"both","times":2}
    "#);
}
