//! Properties that hold for any text: no panic, pointers that lead somewhere, limits that are kept.

use proptest::prelude::*;
use selkie_edit::limits::{
    CHAIN_DEPTH_MAX, EPOCHS_MAX, EXAMPLES_MAX, LEARNING_RATE_MAX, LEARNING_RATE_MIN, PIPELINES_MAX,
    PROBLEMS_MAX,
};
use selkie_edit::{
    Context, Domain, Draft, Refused, SelfEdit, TrainingDefaults, Validator, expand, parse, plan, validate,
};
use serde_json::{Value, json};
use std::sync::LazyLock;

use crate::support::{catalogue, run};

static VALIDATOR: LazyLock<Validator> = LazyLock::new(crate::support::validator);

fn domains() -> impl Strategy<Value = Domain> {
    prop_oneof![Just(Domain::Puzzle), Just(Domain::Passage)]
}

/// A value in an edit's vocabulary, often of the wrong type or out of range.
fn leaves() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..400).prop_map(Value::from),
        prop_oneof![Just(1e-4), Just(0.0), Just(2.0), Just(1e308), any::<f64>()].prop_map(|n| json!(n)),
        prop_oneof![
            Just("grid.rotate"),
            Just("grid.flip"),
            Just("rows"),
            Just("all_tokens"),
            Just("q_proj"),
            Just("cosine"),
            Just("train_using_all_tokens"),
            Just(""),
            Just("~/\n\u{0}")
        ]
        .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ]
}

fn keys() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "version", "data", "training", "reason", "tools", "tool", "params", "chain", "permute", "copies", "colors",
            "documents", "include_source", "replay", "loss_on", "learning_rate", "epochs", "batch_size", "lora", "rank", "alpha",
            "targets", "schedule", "warmup_steps", "data_generation", "use_basic_augmentations", "strategy",
            "num_train_epochs", "degrees", "axis",
        ])
        .prop_map(str::to_owned),
        1 => "[a-z~/]{0,4}",
    ]
}

fn values() -> impl Strategy<Value = Value> {
    leaves().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((keys(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A valid edit, of which a mutation is usually almost valid.
fn valid_edit() -> Value {
    json!({
        "version": 1,
        "data": {
            "tools": [{ "tool": "grid.rotate", "params": { "degrees": 90 } },
                      { "chain": [{ "tool": "grid.flip", "params": { "axis": "rows" } }, { "tool": "grid.transpose" }] }],
            "permute": { "copies": 2, "colors": true }
        },
        "training": { "loss_on": "final_output", "learning_rate": 1e-4, "epochs": 2, "batch_size": 2,
                      "lora": { "rank": 16, "alpha": 16, "targets": ["q_proj", "v_proj"] },
                      "schedule": "linear", "warmup_steps": 3 },
        "reason": "why"
    })
}

fn pointers_of(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            pointers_of(member, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), all);
        }),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| pointers_of(item, format!("{at}/{index}"), all));
        }
        _ => {}
    }
    all.push(at);
}

fn checked(draft: Draft, domain: Domain) -> Result<SelfEdit, Refused> {
    validate(draft, &VALIDATOR, domain, &TrainingDefaults::seal())
}

/// Every problem's pointer resolves, or lacks only its last member of an object that is there.
fn pointers_lead_somewhere(value: &Value, refused: &Refused) -> Result<(), TestCaseError> {
    prop_assert!((1..=PROBLEMS_MAX).contains(&refused.0.len()));
    for problem in &refused.0 {
        let parent = problem.pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
        let leads =
            value.pointer(&problem.pointer).is_some() || value.pointer(parent).is_some_and(Value::is_object);
        prop_assert!(leads, "{problem} of {value}");
        prop_assert!(problem.expected.len() < 2000 && problem.found.len() < 2000);
    }
    Ok(())
}

fn within_limits(edit: &SelfEdit) -> Result<(), TestCaseError> {
    prop_assert!(edit.pipelines.len() <= PIPELINES_MAX);
    prop_assert!(edit.pipelines.iter().all(|calls| (1..=CHAIN_DEPTH_MAX).contains(&calls.len())));
    prop_assert!((LEARNING_RATE_MIN..=LEARNING_RATE_MAX).contains(&edit.training.learning_rate));
    prop_assert!((1..=EPOCHS_MAX).contains(&edit.training.epochs));
    prop_assert!(
        edit.training.batch_size > 0 && edit.training.lora.rank > 0 && edit.training.lora.alpha > 0.0
    );
    prop_assert!(!edit.training.lora.targets.is_empty() && edit.training.lora.targets.is_sorted());
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|[{}\\[\\]\":,\\\\\n`0-9eN-]){0,200}", domain in domains()) {
        if let Ok(draft) = parse(&text, domain) {
            let _ = checked(draft, domain);
        }
        let _ = Context::from_json(&text, "name");
    }

    #[test]
    fn any_value_is_read_or_refused(value in values(), domain in domains()) {
        for draft in [Draft::Selkie(value.clone()), Draft::SealArc(value.clone())] {
            match checked(draft, domain) {
                Ok(edit) => within_limits(&edit)?,
                Err(refused) => pointers_lead_somewhere(&value, &refused)?,
            }
        }
        let _ = Context::from_json(&value.to_string(), "name");
    }

    #[test]
    fn a_mutated_edit_is_read_or_refused(
        place in any::<prop::sample::Index>(), value in values(), cut in any::<prop::sample::Index>(), domain in domains()
    ) {
        let mut edit = valid_edit();
        let mut pointers = Vec::new();
        pointers_of(&edit, String::new(), &mut pointers);
        let pointer: &String = place.get(&pointers);
        *edit.pointer_mut(pointer).expect("it was listed") = value;
        match checked(Draft::Selkie(edit.clone()), domain) {
            Ok(valid) => within_limits(&valid)?,
            Err(refused) => pointers_lead_somewhere(&edit, &refused)?,
        }
        let text = edit.to_string();
        let end = (0..=text.len()).rev().find(|&end| end <= cut.index(text.len() + 1) && text.is_char_boundary(end));
        let _ = parse(&text[..end.unwrap_or(0)], domain);
    }

    #[test]
    fn tasks_are_the_same_for_a_seed_and_within_the_cap(
        seed in any::<u64>(), copies in 0_u32..9, demonstrations in 2_u8..7
    ) {
        let train: Vec<Value> = (0..demonstrations).map(|n| json!({ "input": [[n, 1]], "output": [[n], [2]] })).collect();
        let puzzle = json!({ "train": train, "test": [{ "input": [[0]] }] });
        let context = Context::from_json(&puzzle.to_string(), "p").expect("a puzzle");
        let mut edit = valid_edit();
        edit["data"]["permute"]["copies"] = json!(copies);
        let edit = checked(Draft::Selkie(edit), Domain::Puzzle).expect("valid");
        let plan = plan(&edit, &catalogue(), &context, seed).expect("a plan").puzzle.expect("a puzzle");
        let tasks = expand(&plan, seed, run).expect("tasks");
        prop_assert!(!tasks.is_empty() && tasks.len() <= EXAMPLES_MAX);
        prop_assert_eq!(&expand(&plan, seed, run).expect("tasks"), &tasks);
    }
}
