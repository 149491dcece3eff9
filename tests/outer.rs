//! The outer loop as a whole: what it does again and what not, what it never looks at, and SEAL's settings on models of
//! random weights.

use std::collections::BTreeSet;
use std::path::Path;

use selkie_edit::{Context, Domain, Example, Grid, Passage, Puzzle, PuzzleTest, Question};
use selkie_engine::{Runtime, model_files};
use selkie_learn::ModelConfig;
use selkie_learn::pretrain::{PretrainSettings, Pretraining};
use selkie_learn::pup::facts::FactWorld;
use selkie_outer::presets::{Preset, preset};
use selkie_outer::settings::{Condition, Proxy};
use selkie_outer::{Contexts, Episode, Outcome, Settings, Subject, Watched, run, summarise, world};
use selkie_store::RunLedger;

/// pup on passages, as small as a run can be.
struct Small {
    runtime: Runtime,
    contexts: Contexts,
    watched: Watched,
    settings: Settings,
}

fn small() -> Small {
    let runtime =
        Runtime::open(&model_files(None, Domain::Passage).expect("bundled"), None).expect("it opens");
    let facts = runtime.model.fact_world().expect("pup has a world");
    let contexts = world::passages(&facts, 2, 2);
    let preset = preset("pup/knowledge").expect("a preset");
    let mut settings = Settings::of(&preset, &runtime, &contexts, vec![1]);
    (settings.rounds, settings.samples) = (1, 3);
    settings.evaluation.samples = 1;
    settings.evaluation.conditions =
        vec![Condition::NoEdit, Condition::Untrained, Condition::Rounds, Condition::Fixed];
    settings.cloning.epochs = 2;
    Small { runtime, contexts, watched: world::watched(&facts), settings }
}

impl Small {
    fn run(&self, folder: &Path) {
        run(&self.runtime, folder, &self.settings, &self.contexts, &self.watched, None, &mut |_| ())
            .expect("it runs");
    }
}

fn episodes(folder: &Path, prefix: &str) -> Vec<(String, Episode)> {
    let rows = RunLedger::read_only(folder).expect("a ledger").rows(prefix).expect("rows");
    let is_episode = |row: &selkie_store::RunRow| row.record.get("outcome").is_some();
    rows.into_iter()
        .filter(is_episode)
        .map(|row| (row.key, serde_json::from_value(row.record).expect("an episode")))
        .collect()
}

fn digest(folder: &Path) -> String {
    RunLedger::read_only(folder).expect("a ledger").digest().expect("a digest")
}

#[test]
fn a_run_done_twice_is_the_same_and_a_finished_one_is_not_done_again() {
    let small = small();
    let home = tempfile::tempdir().expect("a folder");
    let (one, other) = (home.path().join("one"), home.path().join("other"));
    small.run(&one);
    small.run(&other);
    assert_eq!(digest(&one), digest(&other));
    let seconds = |folder: &Path| -> Vec<f64> {
        let rows = RunLedger::read_only(folder).expect("a ledger").rows("").expect("rows");
        rows.iter().map(|row| row.seconds).collect()
    };
    // What was done keeps the seconds that it took; nothing takes new ones.
    let before = seconds(&one);
    small.run(&one);
    assert_eq!(seconds(&one), before);
}

#[test]
fn other_settings_do_not_go_on_with_a_run() {
    let mut small = small();
    let home = tempfile::tempdir().expect("a folder");
    small.settings.rounds = 0;
    small.settings.evaluation.conditions = vec![Condition::NoEdit];
    small.run(home.path());
    small.settings.samples = 4;
    let error =
        run(&small.runtime, home.path(), &small.settings, &small.contexts, &small.watched, None, &mut |_| ())
            .expect_err("other settings");
    let message = error.to_string();
    assert!(message.contains("/samples") && message.contains('3') && message.contains('4'), "{message}");
}

#[test]
fn a_context_cannot_be_learned_from_and_compared_on() {
    let mut small = small();
    small.contexts.held_out.push(small.contexts.training[0].clone());
    let home = tempfile::tempdir().expect("a folder");
    let error =
        run(&small.runtime, home.path(), &small.settings, &small.contexts, &small.watched, None, &mut |_| ())
            .expect_err("a context in both lists");
    let name = small.contexts.training[0].context.name();
    assert_eq!(
        error.to_string(),
        format!("`{name}` is both a training context and a held-out one; take it out of one of the lists")
    );
}

#[test]
fn rollouts_never_see_a_held_out_context_and_forward_passes_say_what_decoding_says() {
    let mut small = small();
    small.settings.evaluation.check_decoding = true;
    let home = tempfile::tempdir().expect("a folder");
    small.run(home.path());
    let names = |subjects: &[Subject]| -> Vec<String> {
        subjects
            .iter()
            .flat_map(|subject| subject.context.name().split(" and ").map(str::to_owned).collect::<Vec<_>>())
            .collect()
    };
    let (training, held_out) = (names(&small.contexts.training), names(&small.contexts.held_out));
    let rollouts = episodes(home.path(), "1/1-rollout/");
    assert!(rollouts.len() >= 6, "{}", rollouts.len());
    for (key, episode) in &rollouts {
        assert!(!held_out.iter().any(|name| episode.edit.contains(name)), "{key}: {}", episode.edit);
    }
    assert!(rollouts.iter().any(|(_, one)| training.iter().any(|name| one.edit.contains(name))));
    let mut items = 0;
    for stage in ["1/no_edit/", "1/untrained/", "1/round_1/", "1/fixed/"] {
        for (key, episode) in episodes(home.path(), stage) {
            if let Some(measured) = episode.measured() {
                assert_eq!(measured.disagreements, Some(0), "{key}");
                items += measured.solved.len();
            }
        }
    }
    assert!(items >= 32, "{items}");
    let summary = summarise(&[RunLedger::read_only(home.path()).expect("a ledger")]).expect("a summary");
    let rows: Vec<&str> = summary.rows.iter().map(|row| row.condition.as_str()).collect();
    assert_eq!(rows, ["no_edit", "untrained", "round_1", "fixed", "oracle"]);
    let note =
        format!("Greedy decoding was run beside the forward pass on {items} items: 0 verdicts differ.");
    assert!(summary.notes.contains(&note), "{:?}", summary.notes);
}

#[test]
fn a_proxy_drops_edits_before_they_are_tried_in_full() {
    for proxy in [Proxy::Short, Proxy::Grader("grade.rubric".to_owned())] {
        let mut small = small();
        small.settings.proxy = proxy.clone();
        small.settings.samples = 4;
        small.settings.evaluation.conditions.clear();
        let home = tempfile::tempdir().expect("a folder");
        small.run(home.path());
        let rollouts = episodes(home.path(), "1/1-rollout/");
        let count =
            |is: &dyn Fn(&Outcome) -> bool| rollouts.iter().filter(|(_, one)| is(&one.outcome)).count();
        let dropped = count(&|outcome| matches!(outcome, Outcome::Dropped { .. }));
        let measured = count(&|outcome| matches!(outcome, Outcome::Measured(_)));
        assert_eq!(rollouts.len(), 8, "{proxy:?}");
        assert!(dropped >= 2 && measured <= 4 && measured > 0, "{proxy:?}: {dropped} {measured}");
    }
}

#[test]
fn passages_are_learned_together_by_one_adapter() {
    let mut small = small();
    small.settings.rounds = 0;
    small.settings.evaluation.together = 2;
    small.settings.evaluation.conditions = vec![Condition::Raw, Condition::Fixed];
    let home = tempfile::tempdir().expect("a folder");
    small.run(home.path());
    let fixed = episodes(home.path(), "1/fixed/");
    let steps: BTreeSet<u64> = fixed.iter().filter_map(|(_, one)| Some(one.measured()?.steps)).collect();
    // Two passages of sixteen documents and 48 that are replayed for each, in batches of eight: sixteen epochs.
    assert_eq!((fixed.len(), steps), (2, BTreeSet::from([256])));
}

/// A model of random weights with a chat template, as a folder.
fn random_model(config: &str, folder: &Path) {
    let tokenizer = FactWorld::new(1).tokenizer();
    let size = tokenizer.get_vocab_size(true);
    let config = config.replace("VOCAB", &size.to_string());
    let settings = PretrainSettings {
        seed: 1,
        steps: 1,
        tokens_per_step: 1,
        muon_lr: 0.0,
        adamw_lr: 0.0,
        warmup: 0,
        decay: 0.0,
        cool_down: None,
    };
    let parsed = ModelConfig::from_json(&config).expect("a configuration");
    let world = FactWorld::new(1);
    let mut fresh =
        Pretraining::new(parsed, settings, move |index, progress| world.sequence(index, progress))
            .expect("weights");
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ";
    let tokens = serde_json::json!({ "eos_token": "<eos>", "chat_template": template }).to_string();
    for (name, bytes) in [
        ("config.json", config.into_bytes()),
        ("tokenizer.json", tokenizer.to_string(false).expect("JSON").into_bytes()),
        ("tokenizer_config.json", tokens.into_bytes()),
        ("model.safetensors", fresh.export().expect("weights")),
    ] {
        std::fs::write(folder.join(name), bytes).expect("a file");
    }
}

const LLAMA: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":16,
    "intermediate_size":32,"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,"head_dim":8,
    "hidden_act":"silu","vocab_size":VOCAB,"max_position_embeddings":16384,"rms_norm_eps":1e-5,"rope_theta":10000.0,
    "tie_word_embeddings":true}"#;

const QWEN2: &str = r#"{"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","hidden_size":16,
    "intermediate_size":32,"num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,
    "hidden_act":"silu","vocab_size":VOCAB,"max_position_embeddings":16384,"rms_norm_eps":1e-5,"rope_theta":10000.0,
    "tie_word_embeddings":true}"#;

/// A preset's own training, cut to two steps by the data: everything else is as it is.
fn try_preset(preset: Preset, config: &str, contexts: Contexts) -> Vec<(String, Episode)> {
    let home = tempfile::tempdir().expect("a folder");
    let model = home.path().join("model");
    std::fs::create_dir(&model).expect("a folder");
    random_model(config, &model);
    let files = model_files(Some(&model), preset.domain).expect("a model folder");
    let runtime = Runtime::open(&files, None).expect("it opens");
    let mut settings = Settings::of(&preset, &runtime, &contexts, vec![1]);
    (settings.samples, settings.repeats, settings.evaluation.samples) = (1, 1, 1);
    settings.rounds = 1;
    settings.drawing.tokens = 48;
    settings.training.epochs = 1;
    settings.cloning.epochs = 1;
    let folder = home.path().join("run");
    run(&runtime, &folder, &settings, &contexts, &Watched::default(), None, &mut |_| ()).expect("it runs");
    episodes(&folder, "1/")
}

fn steps_of(episodes: &[(String, Episode)], stage: &str) -> Vec<u64> {
    let own = episodes.iter().filter(|(key, _)| key.starts_with(stage));
    own.filter_map(|(_, one)| Some(one.measured()?.steps)).collect()
}

#[test]
fn seals_settings_for_puzzles_run_on_a_model_of_the_family() {
    let grid = |colour| Grid::from_rows(&[vec![colour]]).expect("a grid");
    let pair = |colour| Example { input: grid(colour), output: grid(0) };
    let puzzle = |id: &str, colour| {
        Subject::new(Context::Puzzle(Puzzle {
            id: id.to_owned(),
            train: vec![pair(colour), pair(colour + 1)],
            tests: vec![PuzzleTest { input: grid(colour + 2), output: Some(grid(0)) }],
        }))
    };
    let contexts = Contexts { training: vec![puzzle("a", 1)], held_out: vec![puzzle("b", 4)] };
    let preset = preset("seal/arc-llama-3.2-1b").expect("a preset");
    let episodes = try_preset(preset, LLAMA, contexts);
    let fixed = steps_of(&episodes, "1/fixed/");
    assert!(fixed.len() == 1 && fixed[0] >= 2, "{fixed:?}");
    let untrained: Vec<&Episode> =
        episodes.iter().filter(|(key, _)| key.starts_with("1/untrained/")).map(|(_, one)| one).collect();
    // Random weights seldom end a list, but what they begin is JSON.
    assert!(untrained.iter().all(|one| one.edit.starts_with(r#"{"version":1"#)), "{untrained:?}");
}

#[test]
fn seals_settings_for_passages_run_on_a_model_of_the_family() {
    let passage = |title: &str| {
        Subject::new(Context::Passage(Passage {
            title: title.to_owned(),
            context: "The home of Mira Volan is Oslo. The trade of Mira Volan is baker.".to_owned(),
            questions: vec![Question {
                question: "What is the home of Mira Volan?".to_owned(),
                answer: "Oslo".to_owned(),
            }],
        }))
    };
    let contexts = Contexts { training: vec![passage("A")], held_out: vec![passage("B")] };
    let preset = preset("seal/knowledge-qwen2.5-7b").expect("a preset");
    let episodes = try_preset(preset, QWEN2, contexts);
    assert_eq!(steps_of(&episodes, "1/raw/").len(), 1);
    assert_eq!(steps_of(&episodes, "1/raw_sentences/"), [2], "two documents, one epoch of batches of one");
    let tried = episodes.iter().filter(|(key, _)| key.starts_with("1/1-rollout/")).count();
    assert_eq!(tried, 1);
}
