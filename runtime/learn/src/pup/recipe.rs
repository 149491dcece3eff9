//! How the bundled models are made: shape, settings and files, one recipe a world.

use selkie_edit::{Domain, Lora, LossOn, Projection, Schedule, Training, TrainingDefaults};
use serde_json::json;

use crate::config::ModelConfig;
use crate::error::LearnError;
use crate::pretrain::{CoolDown, PretrainSettings, Pretraining};
use crate::profile::{PROFILE_FILE, Profile, RendererKind};

use super::edit_prior::EDIT_BATCH_SIZE;
use super::facts::FactWorld;
use super::puzzles::PuzzleWorld;

/// A pretraining run that is ready to start, and the files that make its weights a model folder.
pub struct Recipe {
    /// The run.
    pub run: Pretraining<'static>,
    /// `config.json`, `selkie.json` and `tokenizer.json`.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Tokens of one step: 14 rows of 192, the second pup study's batch.
const TOKENS_PER_STEP: usize = 2688;

/// The recipe for a kind of context.
///
/// # Errors
/// Only the tensor library's.
pub fn recipe(
    domain: Domain,
    seed: u64,
    steps: u64,
    cool_down: Option<CoolDown>,
) -> Result<Recipe, LearnError> {
    let settings = PretrainSettings {
        seed,
        steps,
        tokens_per_step: TOKENS_PER_STEP,
        muon_lr: 0.02,
        adamw_lr: 3e-3,
        warmup: 100,
        decay: 0.5,
        cool_down,
    };
    match domain {
        Domain::Passage => {
            let world = FactWorld::new(seed);
            let config = config_json(world.vocabulary_size(), 512, 500.0);
            let tokenizer = world.tokenizer();
            let stream = move |index, progress| world.sequence(index, progress);
            let run = Pretraining::new(ModelConfig::from_json(&config)?, settings, stream)?;
            Ok(Recipe { run, files: files("pup-facts", RendererKind::PupFacts, seed, config, &tokenizer)? })
        }
        Domain::Puzzle => {
            let world = PuzzleWorld::new(seed);
            let config = config_json(world.vocabulary_size(), 4096, 1000.0);
            let tokenizer = world.tokenizer();
            let stream = move |index, progress| world.sequence(index, progress);
            let run = Pretraining::new(ModelConfig::from_json(&config)?, settings, stream)?;
            Ok(Recipe {
                run,
                files: files("pup-puzzles", RendererKind::PupPuzzles, seed, config, &tokenizer)?,
            })
        }
    }
}

/// An ordinary small Llama, as transformers 4 and 5 both read it.
fn config_json(vocab_size: usize, max_positions: usize, rope_theta: f64) -> String {
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "hidden_act": "silu",
        "vocab_size": vocab_size,
        "max_position_embeddings": max_positions,
        "rms_norm_eps": 1e-6,
        "rope_theta": rope_theta,
        "rope_parameters": { "rope_type": "default", "rope_theta": rope_theta },
        "tie_word_embeddings": true,
        "dtype": "bfloat16",
    });
    format!("{config:#}\n")
}

fn files(
    name: &str,
    renderer: RendererKind,
    seed: u64,
    config: String,
    tokenizer: &tokenizers::Tokenizer,
) -> Result<Vec<(String, Vec<u8>)>, LearnError> {
    let profile =
        Profile { name: name.to_owned(), renderer, training: training_defaults(), world: Some(seed) };
    let profile =
        serde_json::to_string_pretty(&profile).map_err(|e| LearnError::Config(e.to_string()))? + "\n";
    let tokenizer = tokenizer.to_string(false).map_err(|e| LearnError::Tokenizer(e.to_string()))?;
    Ok(vec![
        ("config.json".to_owned(), config.into_bytes()),
        (PROFILE_FILE.to_owned(), profile.into_bytes()),
        ("tokenizer.json".to_owned(), tokenizer.into_bytes()),
    ])
}

/// What an edit's training is when it does not say. A model of a million parameters wants rates near 1e-2, a
/// hundred times those of SEAL's models. On passages the MLPs alone learn as much as all layers and forget less.
fn training_defaults() -> TrainingDefaults {
    use Projection::{DownProj, GateProj, UpProj};
    let training = |loss_on, epochs, batch_size, lora| Training {
        loss_on,
        learning_rate: 1e-2,
        epochs,
        batch_size,
        lora,
        schedule: Schedule::Cosine,
        warmup_steps: 0,
    };
    let all = Lora { rank: 16, alpha: 32.0, targets: Projection::ALL.to_vec() };
    let mlp = Lora { rank: 16, alpha: 16.0, targets: vec![GateProj, UpProj, DownProj] };
    TrainingDefaults {
        puzzle: training(LossOn::AllOutputs, 4, EDIT_BATCH_SIZE, all),
        passage: training(LossOn::AllTokens, 16, 8, mlp),
    }
}
