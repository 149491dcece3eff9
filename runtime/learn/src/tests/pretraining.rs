//! A killed pretraining run goes on as if nothing had happened, or says why it does not.

use std::path::Path;

use super::support::{VOCAB, bits, config, rng, sequence, weights};
use crate::config::Family;
use crate::pretrain::{CoolDown, PretrainSettings, PretrainStep, Pretraining};
use crate::sequence::Sequence;

const STEPS: u64 = 6;

fn settings() -> PretrainSettings {
    PretrainSettings {
        seed: 3,
        steps: STEPS,
        tokens_per_step: 50,
        muon_lr: 0.02,
        adamw_lr: 0.01,
        warmup: 2,
        decay: 0.5,
        cool_down: None,
    }
}

/// The stream depends on the progress too, as a curriculum's does.
fn stream(index: u64, progress: f32) -> Sequence {
    let mut sequence = sequence(&mut rng(index), 8 + (progress * 6.0) as usize, 6);
    sequence.ids[0] = (progress * VOCAB as f32) as u32;
    sequence
}

fn fresh(settings: PretrainSettings) -> Pretraining<'static> {
    Pretraining::new(config(Family::Llama, false), settings, stream).unwrap()
}

fn advance(run: &mut Pretraining<'_>, steps: u64) -> Vec<PretrainStep> {
    (0..steps).map(|_| run.step().unwrap().unwrap()).collect()
}

fn weight_bits(run: &Pretraining<'_>) -> Vec<(String, Vec<u32>)> {
    weights(run.decoder()).into_iter().map(|(name, weight)| (name, bits(&weight))).collect()
}

fn refusal(settings: PretrainSettings, dir: &Path) -> String {
    fresh(settings)
        .resume(dir)
        .expect_err("must be refused")
        .to_string()
        .replace(&dir.display().to_string(), "DIR")
}

#[test]
fn a_resumed_run_is_the_run_that_was_not_killed() {
    let mut straight = fresh(settings());
    let steps = advance(&mut straight, STEPS);
    assert!(straight.step().unwrap().is_none());
    let expected = (weight_bits(&straight), straight.export().unwrap());
    for killed_at in 0..=STEPS {
        let dir = tempfile::tempdir().unwrap();
        let mut first = fresh(settings());
        let mut seen = advance(&mut first, killed_at);
        first.checkpoint(dir.path()).unwrap();
        // What it did after the checkpoint is lost.
        first.step().unwrap();
        let mut second = fresh(settings());
        assert!(second.resume(dir.path()).unwrap());
        assert_eq!(second.steps_done(), killed_at);
        seen.extend(advance(&mut second, STEPS - killed_at));
        assert_eq!(seen, steps, "killed at {killed_at}");
        assert!(second.step().unwrap().is_none());
        assert_eq!((weight_bits(&second), second.export().unwrap()), expected, "killed at {killed_at}");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the checkpoint is left: {left:?}");
    }
}

#[test]
fn a_run_that_is_given_an_earlier_end_is_the_run_that_had_it_from_the_start() {
    let short = PretrainSettings { cool_down: Some(CoolDown { at: 2, steps: 2 }), ..settings() };
    let mut straight = fresh(short.clone());
    assert_eq!(straight.last_step(), 4);
    let steps = advance(&mut straight, 4);
    assert!(straight.step().unwrap().is_none());
    let rates: Vec<f64> = steps.iter().map(|step| step.rate).collect();
    assert_eq!(rates, [0.5, 1.0, 1.0, 0.5]);
    let dir = tempfile::tempdir().unwrap();
    let mut long = fresh(settings());
    advance(&mut long, 2);
    long.checkpoint(dir.path()).unwrap();
    let mut given = fresh(short.clone());
    assert!(given.resume(dir.path()).unwrap());
    assert_eq!(advance(&mut given, 2), steps[2..]);
    assert_eq!(weight_bits(&given), weight_bits(&straight));
    // A run that is past it has gone another way.
    advance(&mut long, 1);
    long.checkpoint(dir.path()).unwrap();
    assert!(refusal(short, dir.path()).contains("it is of another run"), "the end is behind it");
}

#[test]
fn the_seed_decides_the_weights() {
    let trained = |seed| {
        let mut run = fresh(PretrainSettings { seed, ..settings() });
        advance(&mut run, STEPS);
        run.export().unwrap()
    };
    assert_eq!(trained(3), trained(3));
    assert_ne!(trained(3), trained(4));
}

#[test]
fn the_loss_falls_and_every_weight_moves() {
    let settings = PretrainSettings { steps: 60, ..settings() };
    let few = |index: u64, _| stream(index % 4, 0.0);
    let mut run = Pretraining::new(config(Family::Qwen3, false), settings, few).unwrap();
    let before = weight_bits(&run);
    let steps = advance(&mut run, 60);
    assert!(steps[59].loss < 0.5 * steps[0].loss, "{} to {}", steps[0].loss, steps[59].loss);
    assert!(steps.windows(2).all(|pair| pair[1].tokens >= pair[0].tokens + 50));
    for ((name, after), (_, before)) in weight_bits(&run).iter().zip(&before) {
        assert_ne!(after, before, "{name}");
    }
    // Up over two steps, level, and down over the second half, but never to nothing.
    let rates: Vec<f64> = steps.iter().map(|step| step.rate).collect();
    assert_eq!((rates[0], rates[1], rates[29], rates[30]), (0.5, 1.0, 1.0, 1.0));
    assert!(rates[30..].windows(2).all(|pair| pair[1] < pair[0]) && rates[59] > 0.0);
}

#[test]
fn an_exported_model_loads_as_what_was_measured() {
    let mut run = fresh(settings());
    advance(&mut run, 2);
    let bytes = run.export().unwrap();
    let loaded = crate::weights::read(&bytes, "model".as_ref()).unwrap();
    let ours = weights(run.decoder());
    assert_eq!(loaded.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (name, weight) in &ours {
        let shipped =
            weight.to_dtype(candle_core::DType::BF16).unwrap().to_dtype(candle_core::DType::F32).unwrap();
        assert_eq!(bits(&loaded[name]), bits(&shipped), "{name}");
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!fresh(settings()).resume(dir.path()).unwrap());
    let mut run = fresh(settings());
    advance(&mut run, 3);
    run.checkpoint(dir.path()).unwrap();
    let others = [
        PretrainSettings { seed: 4, ..settings() },
        PretrainSettings { steps: 7, ..settings() },
        PretrainSettings { tokens_per_step: 51, ..settings() },
        PretrainSettings { muon_lr: 0.03, ..settings() },
        PretrainSettings { adamw_lr: 0.03, ..settings() },
        PretrainSettings { warmup: 3, ..settings() },
        PretrainSettings { decay: 0.4, ..settings() },
    ];
    for other in others {
        let message = refusal(other, dir.path());
        assert!(
            message.starts_with("checkpoint `DIR/checkpoint.safetensors`: it is of another run"),
            "{message}"
        );
    }
    let mut other = Pretraining::new(config(Family::Llama, true), settings(), stream).unwrap();
    assert!(other.resume(dir.path()).is_err(), "moments of a head that this model does not have");
    let mut other = Pretraining::new(config(Family::Qwen3, false), settings(), stream).unwrap();
    assert!(other.resume(dir.path()).is_err(), "no head norms");
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = fresh(settings());
    advance(&mut run, 3);
    run.checkpoint(dir.path()).unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    for kept in [0, 7, 8, 300, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..kept]).unwrap();
        let message = refusal(settings(), dir.path());
        assert!(message.starts_with("checkpoint `DIR/checkpoint.safetensors`: "), "{kept} bytes: {message}");
    }
    std::fs::write(&path, run.export().unwrap()).unwrap();
    insta::assert_snapshot!(
        refusal(settings(), dir.path()),
        @"checkpoint `DIR/checkpoint.safetensors`: it is not of a pretraining run"
    );
    std::fs::write(&path, &bytes).unwrap();
    assert!(fresh(settings()).resume(dir.path()).unwrap());
    let unwritten = run.checkpoint(&dir.path().join("missing")).expect_err("no such folder");
    assert!(matches!(unwritten, crate::LearnError::Write { .. }), "{unwritten}");
}
