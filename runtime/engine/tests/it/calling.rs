//! Models with a chat template call for a self-edit in their own form, in the middle of a text.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use selkie_edit::Domain;
use selkie_engine::Runtime;
use selkie_engine::live::{
    Budget, GenerateRequest, Happened, Live, Message, Permission, Piece, Prompt, Scope, SelfEditTerms,
};
use selkie_learn::calls::{CallFormat, HERMES, LLAMA, PLAIN};
use selkie_learn::pretrain::{PretrainSettings, Pretraining};
use selkie_learn::profile::RendererKind;
use selkie_learn::pup::facts::FactWorld;
use selkie_learn::{Codec, ModelConfig, ModelFiles};
use tempfile::TempDir;

use crate::support::{ask, options, pieces};

const QUESTION: &str = "Where is the home of Orva Lemdo?";

/// Documents of so many epochs.
fn edit(epochs: u32) -> String {
    format!(
        r#"{{"version":1,"data":{{"documents":["The home of Orva Lemdo is Oslo."]}},"training":{{"learning_rate":0.01,"epochs":{epochs}}}}}"#
    )
}

const CONFIG: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,
    "intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,
    "hidden_act":"silu","vocab_size":VOCAB,"max_position_embeddings":2048,"rms_norm_eps":1e-5,"rope_theta":10000.0,
    "tie_word_embeddings":true}"#;

/// Writes everything of a small model but its weights; its chat template speaks of this form of calls.
fn words(folder: &Path, format: &CallFormat) -> ModelConfig {
    let said = if format == &HERMES {
        "{# <tool_call> #}"
    } else if format == &LLAMA {
        "{# ipython #}"
    } else {
        ""
    };
    let template = format!(
        "{said}{{% for m in messages %}}{{{{ m.role }}}}: {{{{ m.content }}}}\n{{% endfor %}}assistant: "
    );
    let settings = serde_json::json!({"eos_token": "<eos>", "bos_token": "<bos>", "chat_template": template});
    let tokenizer = FactWorld::new(1).tokenizer();
    let config = CONFIG.replace("VOCAB", &tokenizer.get_vocab_size(true).to_string());
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), &config).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string(false).unwrap()).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), settings.to_string()).unwrap();
    std::fs::write(folder.join("model.safetensors"), "").unwrap();
    ModelConfig::from_json(&config).unwrap()
}

/// A small model that was taught, from nothing, to answer the question by a call with this edit.
fn caller(home: &TempDir, format: &'static CallFormat, edit: &str, operator: Budget) -> Live {
    taught(home, format, &["yes ", format.head, edit, format.tail], operator)
}

/// A small model that was taught, from nothing, to answer the question by these texts.
fn taught(home: &TempDir, format: &'static CallFormat, texts: &[&str], operator: Budget) -> Live {
    let folder = home.path().join("model");
    let config = words(&folder, format);
    let settings = PretrainSettings {
        seed: 1,
        steps: 120,
        tokens_per_step: 1,
        muon_lr: 0.02,
        adamw_lr: 3e-3,
        warmup: 5,
        decay: 0.3,
        cool_down: None,
    };
    let codec = Codec::open(RendererKind::Seal, &ModelFiles::read(&folder).unwrap(), &[]).unwrap();
    let prompt = codec.conversation(&[("user", QUESTION)], None).unwrap();
    let answer: Vec<u32> = texts.iter().flat_map(|text| codec.formatted(text).unwrap()).collect();
    let sequence = prompt.with(&answer);
    let mut taught = Pretraining::new(config, settings, move |_, _| sequence.clone()).unwrap();
    let mut loss = f32::NAN;
    while let Some(step) = taught.step().unwrap() {
        loss = step.loss;
    }
    assert!(loss < 0.05, "the model did not learn its call: loss {loss}");
    std::fs::write(folder.join("model.safetensors"), taught.export().unwrap()).unwrap();
    let runtime = Arc::new(Runtime::open(&ModelFiles::read(&folder).unwrap(), None).unwrap());
    let mut options = options(home);
    options.budget = operator;
    Live::start(runtime, options).unwrap()
}

fn question(permission: Permission) -> GenerateRequest {
    let message = Message { role: "user".to_owned(), content: QUESTION.to_owned() };
    GenerateRequest {
        max_tokens: Some(80),
        self_edit: SelfEditTerms { permission, scope: Scope::Request, ..SelfEditTerms::default() },
        ..ask(Prompt::Chat(vec![message]))
    }
}

fn text(pieces: &[Piece]) -> String {
    match pieces.last() {
        Some(Piece::End(end)) => end.text.clone(),
        other => panic!("{other:?}"),
    }
}

fn events(pieces: &[Piece]) -> HashMap<String, serde_json::Value> {
    let event = |piece: &Piece| match piece {
        Piece::Event(event) => {
            let value = serde_json::to_value(&event.what).unwrap();
            Some((value["event"].as_str().unwrap().to_owned(), value))
        }
        _ => None,
    };
    pieces.iter().filter_map(event).collect()
}

#[test]
fn a_call_is_an_edit_and_no_part_of_the_answer() {
    for format in [&PLAIN, &HERMES, &LLAMA] {
        let home = TempDir::new().unwrap();
        let live = caller(&home, format, &edit(10), Budget::default());
        let told = pieces(&live, question(Permission::Allow));
        let events = events(&told);
        // The grammar writes its own tokens where there is no choice, so the words need not be those of the lesson.
        let proposed = events["proposed"]["text"].as_str().unwrap();
        assert!(live.check(proposed, Domain::Passage).is_ok(), "{proposed}");
        assert_eq!(events["evaluated"]["scores"]["measured"], "text");
        let verdict = events.contains_key("kept") || events.contains_key("rolled_back");
        assert!(verdict && events.contains_key("resumed"), "{events:?}");
        let before: String = told
            .iter()
            .map_while(|piece| match piece {
                Piece::Text { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(before.trim(), "yes");
        assert!(text(&told).starts_with(&before));
        let edits = live.edits();
        assert_eq!(edits.len(), 1);
        assert_eq!(edits[0].text.as_deref(), Some(proposed));
    }
}

#[test]
fn a_call_above_its_budget_is_refused_and_the_model_goes_on() {
    let home = TempDir::new().unwrap();
    let operator = Budget { steps: 4, ..Budget::default() };
    let live = caller(&home, &PLAIN, &edit(10), operator);
    let told = pieces(&live, question(Permission::Allow));
    let events = events(&told);
    insta::assert_snapshot!(
        events["refused"]["message"].as_str().unwrap(),
        @"the self-edit asks for 20 steps of training; the budget has 4 left: ask for fewer epochs, less data or a larger batch"
    );
    assert!(events.contains_key("resumed") && !events.contains_key("training_step"), "{events:?}");
    // What a model asked for is written down, also when it was refused.
    let entries = live.log(10).unwrap();
    let refused = entries.iter().filter(|entry| {
        matches!(entry.episode().map(|episode| &episode.outcome), Some(selkie_store::Outcome::Refused(_)))
    });
    assert_eq!(refused.count(), 1);
}

#[test]
fn a_model_that_calls_although_it_was_told_that_it_cannot_is_no_longer_heard() {
    let home = TempDir::new().unwrap();
    let edit = edit(10);
    let refused = "refused: the budget of self-edits of this request is used up; go on without";
    let result = PLAIN.answer(refused);
    let texts = ["yes ", PLAIN.head, &edit, &result, PLAIN.head, &edit, PLAIN.tail];
    let live = taught(&home, &PLAIN, &texts, Budget { edits: 0, ..Budget::default() });
    let told = pieces(&live, question(Permission::Allow));
    let message = &events(&told)["refused"]["message"];
    assert_eq!(refused, format!("refused: {}", message.as_str().unwrap()));
    let is_call = |piece: &&Piece| match piece {
        Piece::Event(event) => matches!(event.what, Happened::Triggered { .. }),
        _ => false,
    };
    assert_eq!(told.iter().filter(is_call).count(), 1);
    let said: String = text(&told).split_whitespace().collect();
    assert!(said.starts_with("yes<self_edit>{"), "{said:?}");
    assert_eq!(live.edits(), []);
}

#[test]
fn where_edits_are_denied_a_call_is_text_like_any_other() {
    let home = TempDir::new().unwrap();
    let live = caller(&home, &PLAIN, &edit(10), Budget::default());
    let told = pieces(&live, question(Permission::Deny));
    let said = text(&told);
    assert!(said.contains(PLAIN.head) && said.contains(&edit(10)[..20]), "{said:?}");
    assert_eq!(live.edits(), []);
}

#[test]
fn an_edit_that_waits_for_approval_holds_its_request_and_no_other() {
    let home = TempDir::new().unwrap();
    let live = caller(&home, &PLAIN, &edit(10), Budget::default());
    let mut reply = live.generate(question(Permission::Ask)).unwrap();
    let mut told = Vec::new();
    let edit = loop {
        let piece = reply.next_blocking().unwrap();
        told.push(piece.clone());
        if let Piece::Event(event) = piece
            && event.what == Happened::AwaitingApproval
        {
            break event.edit.unwrap();
        }
    };
    let other = pieces(&live, question(Permission::Deny));
    assert!(matches!(other.last(), Some(Piece::End(_))));
    live.approve(&edit, false).unwrap();
    told.extend(std::iter::from_fn(|| reply.next_blocking()));
    let events = events(&told);
    assert_eq!(events["refused"]["message"], "it was not approved");
    assert!(events.contains_key("resumed"));
}
