//! Every model folder under `$SELKIE_PARITY` against what PyTorch, Transformers and PEFT computed: logits,
//! greedy tokens, a training run step by step, the trained adapter, and the logits with it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it unwraps, and says what it skips"
)]

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use selkie_edit::Schedule;
use selkie_learn::optim::{ADAPTER_ADAMW, learning_rate_at};
use selkie_learn::{
    Adapter, Decoder, ModelFiles, SamplingSettings, Sequence, Trainer, generate, peft, score, token_logits,
};
use selkie_tests::{fixture_dir, read_json};

#[test]
fn parity_with_pytorch_transformers_and_peft() {
    let Some(root) = fixture_dir("SELKIE_PARITY", "fixtures/parity") else { return };
    let mut folders: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let mut checked = 0;
    for folder in folders.iter().filter(|folder| folder.join("model/config.json").is_file()) {
        match ModelFiles::read(&folder.join("model")).unwrap().decoder() {
            Ok(decoder) => check(folder, &decoder),
            Err(error @ selkie_learn::LearnError::Architecture { .. }) => {
                println!("skipped {}: {error}", folder.display());
                continue;
            }
            Err(error) => panic!("{}: {error}", folder.display()),
        }
        checked += 1;
    }
    assert!(checked > 0, "no model folder that this engine supports under {}", root.display());
    println!("{checked} of {} folders agree", folders.len());
}

fn check(folder: &Path, decoder: &Decoder) {
    let name = folder.file_name().unwrap().to_string_lossy();
    let expected = read_json(&folder.join("expected.json"));
    let forward = load(&folder.join("forward.safetensors"));
    compare_logits(
        &format!("{name}: logits"),
        decoder,
        None,
        &forward["input_ids"],
        &forward["logits"],
        1e-4,
    );
    compare_log_probs(&format!("{name}: log-probs"), decoder, &forward);

    let prompt = ids(&expected["prompt_ids"]);
    let greedy = ids(&expected["greedy_ids"]);
    let mut next = 0..;
    let position_of = |_| next.next().unwrap();
    let (found, _) =
        generate(decoder, None, &prompt, position_of, SamplingSettings::GREEDY, &[], greedy.len()).unwrap();
    assert_eq!(found, greedy, "{name}: greedy ids");

    let trained = compare_training(&name, folder, decoder, &expected["training"]);
    let after = load(&folder.join("after.safetensors"));
    compare_logits(
        &format!("{name}: after"),
        decoder,
        Some(&trained),
        &forward["input_ids"],
        &after["logits"],
        1e-3,
    );
}

fn compare_training(name: &str, folder: &Path, decoder: &Decoder, run: &serde_json::Value) -> Adapter {
    let read = |part: &str| peft::from_files(decoder.config(), &files(&folder.join(part))).unwrap();
    let lengths = ids(&run["lengths"]);
    let from = ids(&run["loss_from_token"]);
    let rows: Vec<Sequence> = run["sequences"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(row, sequence)| {
            let len = lengths[row] as usize;
            Sequence {
                ids: ids(sequence)[..len].to_vec(),
                positions: (0..len as u32).collect(),
                labelled: (0..len as u32).map(|t| t >= from[row]).collect(),
            }
        })
        .collect();
    let (losses, norms) = (&run["losses"], &run["grad_norms_before_clip"]);
    let schedule = &run["schedule"];
    let (warmup, steps) = (schedule["warmup_steps"].as_u64().unwrap(), schedule["steps"].as_u64().unwrap());
    let peak = run["optimizer"]["lr"].as_f64().unwrap();
    let mut trainer = Trainer::new(decoder, read("adapter_init"), ADAPTER_ADAMW).unwrap();
    for step in 0..steps as usize {
        let batch = [&rows[(2 * step) % rows.len()], &rows[(2 * step + 1) % rows.len()]];
        let rate = learning_rate_at(Schedule::Cosine, peak, warmup, steps, step as u64);
        let (loss, norm) = trainer.step(&batch, rate).unwrap();
        let (expected_loss, expected_norm) = (losses[step].as_f64().unwrap(), norms[step].as_f64().unwrap());
        let loss_error = (f64::from(loss) - expected_loss).abs();
        assert!(loss_error < 1e-4, "{name}: loss of step {step} is {loss}, expected {expected_loss}");
        let norm_error = (norm / expected_norm - 1.0).abs();
        assert!(
            norm_error < 1e-3,
            "{name}: gradient norm of step {step} is {norm}, expected {expected_norm}"
        );
    }
    let expected = read("adapter_trained");
    for ((site, ours), (_, theirs)) in trainer.adapter().sites().zip(expected.sites()) {
        for (half, ours, theirs) in [("A", &ours.a, &theirs.a), ("B", &ours.b, &theirs.b)] {
            let error = largest_difference(ours, theirs);
            assert!(error < 1e-3, "{name}: trained {half} of {site:?} is off by {error}");
        }
    }
    assert_eq!(trainer.adapter().sites().count(), expected.sites().count());
    trainer.into_adapter()
}

fn compare_logits(
    what: &str,
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    input: &Tensor,
    expected: &Tensor,
    tolerance: f32,
) {
    for (row, ids) in input.to_vec2::<i64>().unwrap().iter().enumerate() {
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let logits = token_logits(decoder, adapter, &ids, &positions).unwrap();
        let error = largest_difference(&logits, &expected.get(row).unwrap());
        assert!(error < tolerance, "{what}: row {row} is off by {error}");
    }
}

fn compare_log_probs(what: &str, decoder: &Decoder, forward: &HashMap<String, Tensor>) {
    let expected = forward["token_logprobs"].to_vec2::<f32>().unwrap();
    for (ids, expected) in forward["input_ids"].to_vec2::<i64>().unwrap().iter().zip(expected) {
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let (len, positions) = (ids.len(), (0..ids.len() as u32).collect());
        let scores = score(decoder, None, &[Sequence { ids, positions, labelled: vec![true; len] }]).unwrap();
        let total: f32 = expected.iter().sum();
        let error = (scores[0].log_prob as f32 - total).abs();
        assert!(error < 1e-3, "{what}: {} instead of {total}", scores[0].log_prob);
    }
}

fn largest_difference(ours: &Tensor, theirs: &Tensor) -> f32 {
    assert_eq!(ours.dims(), theirs.dims());
    (ours - theirs).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn load(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    [peft::CONFIG_FILE, peft::WEIGHTS_FILE]
        .map(|name| (name.to_owned(), std::fs::read(folder.join(name)).unwrap()))
        .to_vec()
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}
