//! Which training settings an edit ends up with: its own, or the model's defaults for the rest.

use selkie_edit::{Domain, Lora, LossOn, Projection, Schedule, Training, TrainingDefaults};
use serde_json::{Value, json};

use crate::support::read;

fn check(edit: &Value, domain: Domain, expected: Training) {
    assert_eq!(read(&edit.to_string(), domain).expect("valid").training, expected, "{edit}");
}

fn selkie(training: Value) -> Value {
    json!({ "version": 1, "data": {}, "training": training })
}

#[test]
fn an_edits_own_settings_win() {
    let all = json!({ "loss_on": "all_tokens", "learning_rate": 1, "epochs": 3, "batch_size": 4, "schedule": "constant",
        "warmup_steps": 5, "lora": { "rank": 6, "alpha": 7, "targets": ["v_proj", "q_proj", "v_proj"] } });
    let own = Training {
        loss_on: LossOn::AllTokens,
        learning_rate: 1.0,
        epochs: 3,
        batch_size: 4,
        lora: Lora { rank: 6, alpha: 7.0, targets: vec![Projection::QProj, Projection::VProj] },
        schedule: Schedule::Constant,
        warmup_steps: 5,
    };
    check(&selkie(all), Domain::Puzzle, own);
}

#[test]
fn the_rest_are_the_models_defaults() {
    let TrainingDefaults { puzzle, passage } = TrainingDefaults::seal();
    check(&selkie(json!({})), Domain::Puzzle, puzzle.clone());
    check(&selkie(json!({})), Domain::Passage, passage.clone());
    check(&selkie(json!({ "epochs": 4 })), Domain::Puzzle, Training { epochs: 4, ..puzzle.clone() });
    let lora = Lora { rank: 8, ..passage.lora.clone() };
    check(&selkie(json!({ "lora": { "rank": 8 } })), Domain::Passage, Training { lora, ..passage.clone() });
    // A document is learned whole, whatever the edit says.
    check(&selkie(json!({ "loss_on": "final_output" })), Domain::Passage, passage);
}

#[test]
fn seals_strategies() {
    let strategy = |strategy: &str, loss_on: LossOn| {
        let edit = json!({
            "data_generation": { "use_basic_augmentations": false, "use_size_augmentations": false,
                                 "use_chain_augmentations": false, "use_repeat_augmentations": false },
            "training": { "strategy": strategy, "learning_rate": 5e-4, "num_train_epochs": 7 },
        });
        let defaults = TrainingDefaults::seal().puzzle;
        check(&edit, Domain::Puzzle, Training { loss_on, learning_rate: 5e-4, epochs: 7, ..defaults });
    };
    strategy("train_using_all_tokens", LossOn::AllTokens);
    strategy("train_using_output_tokens", LossOn::FinalOutput);
}
