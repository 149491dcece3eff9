//! The learning engine by itself: an adapter trained on a few sentences, and what the model says before and after.
//!
//! `cargo run --example train_and_sample` (from the repository's root). An argument names a model folder; without it
//! the bundled pup for passages is used.

#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::ops::ControlFlow;
use std::path::Path;

use selkie_edit::{Domain, Projection, Schedule};
use selkie_learn::optim::ADAPTER_ADAMW;
use selkie_learn::run::advance;
use selkie_learn::{
    Adapter, LearnError, LoraConfig, Model, ModelFiles, PassOptions, PromptCache, Request, Run, RunSettings,
    SamplingSettings, Sequence, bundled, generate_batch, peft, score,
};

/// What is to be learned. pup knows how such sentences go, and nothing of these people.
const TEXTS: [&str; 4] = [
    "The gem of Vidor Volgan is spinel.",
    "The tool of Vidor Volgan is drill.",
    "The gem of Lolu Branbeck is opal.",
    "The tool of Lolu Branbeck is rake.",
];

/// What is asked, with the answer.
const QUESTIONS: [(&str, &str); 2] = [
    ("Question: Tell me the gem of Vidor Volgan. Answer:", "spinel"),
    ("Question: Tell me the tool of Lolu Branbeck. Answer:", "rake"),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = match std::env::args_os().nth(1) {
        Some(folder) => ModelFiles::read(Path::new(&folder))?,
        None => bundled::files(Domain::Passage),
    };
    let model = Model::open(&files)?;
    println!("model {}", model.profile().name);

    println!("\nbefore:");
    ask(&model, None)?;

    // Texts as tokens, with a loss on every one of them.
    let set: Vec<Sequence> =
        TEXTS.iter().map(|text| model.codec().document(text)).collect::<Result<_, _>>()?;
    let settings = RunSettings {
        lora: LoraConfig {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Projection::ALL.to_vec(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            use_rslora: false,
        },
        learning_rate: 1e-2,
        schedule: Schedule::Cosine,
        warmup_steps: 0,
        epochs: 24,
        batch_size: 4,
        adamw: ADAPTER_ADAMW,
        max_grad_norm: 1.0,
        seed: 1,
    };
    let mut run = Run::new(model.decoder(), &set, settings.clone())?;
    println!("\ntraining: {} steps", run.steps());
    while !run.is_finished() {
        // Several runs would share the passes over the base.
        for (_, stats) in advance(model.decoder(), &mut [&mut run], PassOptions::default())? {
            let stats = stats?;
            if (stats.step + 1).is_multiple_of(6) {
                println!("  step {:>2}  loss {:.3}", stats.step + 1, stats.loss);
            }
        }
    }
    let adapter = run.finish()?.adapter;

    println!("\nafter:");
    ask(&model, Some(&adapter))?;

    // The adapter as PEFT reads it.
    for (name, bytes) in peft::to_files_with(&adapter, &model.profile().name, &settings.lora)? {
        println!("{name}: {} bytes", bytes.len());
    }
    Ok(())
}

/// Asks every question in one batch, and scores the right answers.
fn ask(model: &Model, adapter: Option<&Adapter>) -> Result<(), LearnError> {
    let (codec, decoder) = (model.codec(), model.decoder());
    let prompts =
        QUESTIONS.iter().map(|(question, _)| codec.text_prompt(question)).collect::<Result<Vec<_>, _>>()?;
    let stops: Vec<[u32; 1]> = prompts.iter().map(|prompt| [prompt.end]).collect();
    let requests = prompts.iter().zip(&stops).map(|(prompt, stop)| Request {
        prompt: &prompt.ids,
        position_of: Box::new(prompt.position_of()),
        adapter,
        sampling: SamplingSettings::GREEDY,
        stop,
        constraint: None,
        max_new: 16,
    });
    let requests = requests.collect();
    let mut cache = PromptCache::new(0);
    let made = generate_batch(decoder, &mut cache, requests, &mut |_| ControlFlow::Continue(()))?;
    let mut answers = Vec::new();
    for (prompt, (_, answer)) in prompts.iter().zip(QUESTIONS) {
        answers.push(prompt.with(&codec.completion(answer)?));
    }
    for (((question, answer), made), score) in
        QUESTIONS.iter().zip(made).zip(score(decoder, adapter, &answers)?)
    {
        println!("{question} {}   (ln p of `{answer}`: {:.2})", codec.text(&made.ids), score.log_prob);
    }
    Ok(())
}
