//! Training: every variable learns, a seed decides everything, and what goes wrong is said.

use std::ops::ControlFlow;

use selkie_edit::{LossOn, Projection, Schedule, Training};

use super::support::{FAMILIES, VOCAB, adapter_bits, bits, config, decoder, lora, rng, sequence};
use crate::config::Family;
use crate::decoder::Decoder;
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::optim::ADAPTER_ADAMW;
use crate::run::{StepStats, Trained, train};
use crate::sequence::Sequence;
use crate::train::Trainer;

fn settings(learning_rate: f64, epochs: u32) -> Training {
    Training {
        loss_on: LossOn::AllTokens,
        learning_rate,
        epochs,
        batch_size: 3,
        lora: lora(4, &Projection::ALL),
        schedule: Schedule::Cosine,
        warmup_steps: 2,
    }
}

fn examples(count: usize) -> Vec<Sequence> {
    let mut rng = rng(21);
    (0..count).map(|index| sequence(&mut rng, 5 + index % 4, 4)).collect()
}

fn run(decoder: &Decoder, set: &[Sequence], training: &Training, seed: u64) -> Result<Trained, LearnError> {
    train(decoder, set, training, seed, |_| ControlFlow::Continue(()))
}

/// B learns in the first step, A (whose gradient is zero while B is) in the second; no element is left out.
fn check_every_variable_learns(family: Family, targets: &[Projection]) {
    let config = config(family, false);
    let decoder = decoder(&config, 6);
    let start = Adapter::init(&config, &lora(2, targets), 1).unwrap();
    let sites = config.layers * targets.len();
    assert_eq!(start.sites().count(), sites);
    let mut trainer = Trainer::new(&decoder, start.clone(), ADAPTER_ADAMW).unwrap();
    let set = examples(2);
    let batch: Vec<&Sequence> = set.iter().collect();
    let mut learned = 0;
    for step in 0..2 {
        trainer.step(&batch, 1e-2).unwrap();
        learned = 0;
        for ((site, now), (_, before)) in trainer.adapter().sites().zip(start.sites()) {
            let differing = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
            let (a, b) = (bits(&now.a), bits(&now.b));
            let (a_changed, b_changed) = (differing(&a, &bits(&before.a)), differing(&b, &bits(&before.b)));
            assert_eq!(b_changed, b.len(), "{family:?}, step {step}: B of {}", site.module());
            assert_eq!(
                a_changed,
                if step == 0 { 0 } else { a.len() },
                "{family:?}, step {step}: A of {}",
                site.module()
            );
            learned += 1;
        }
    }
    assert_eq!(learned, sites);
}

#[test]
fn every_lora_variable_gets_its_gradient() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        for projection in Projection::ALL {
            check_every_variable_learns(family, &[projection]);
        }
        check_every_variable_learns(family, &Projection::ALL);
    }
}

#[test]
fn an_untrained_adapter_changes_no_logit() {
    for (family, tied) in FAMILIES {
        let config = config(family, tied);
        let decoder = decoder(&config, 6);
        let adapter = Adapter::init(&config, &lora(3, &Projection::ALL), 9).unwrap();
        let logits = |adapter| crate::score::token_logits(&decoder, adapter, &[1, 2, 3], &[0, 1, 2]).unwrap();
        assert_eq!(bits(&logits(Some(&adapter))), bits(&logits(None)));
    }
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let decoder = decoder(&config(Family::Llama, false), 6);
    let set = examples(10);
    let trained = |seed| run(&decoder, &set, &settings(5e-3, 3), seed).unwrap();
    let (one, two, other) = (trained(1), trained(1), trained(2));
    assert_eq!(adapter_bits(&one.adapter), adapter_bits(&two.adapter));
    assert_eq!(one.steps, two.steps);
    assert_ne!(adapter_bits(&one.adapter), adapter_bits(&other.adapter));
    // The seed decides the order too, not only the initial adapter: batches of other lengths.
    let tokens = |trained: &Trained| trained.steps.iter().map(|step| step.tokens).collect::<Vec<_>>();
    assert_ne!(tokens(&one), tokens(&other));
}

#[test]
fn every_epoch_sees_every_sequence_once() {
    let decoder = decoder(&config(Family::Llama, false), 6);
    let set = examples(10);
    let mut seen: Vec<StepStats> = Vec::new();
    let trained = train(&decoder, &set, &settings(1e-3, 3), 1, |step| {
        seen.push(*step);
        ControlFlow::Continue(())
    });
    let trained = trained.unwrap();
    assert_eq!(seen, trained.steps);
    // Batches of three, three, three and one, three times.
    assert_eq!(
        seen.iter().map(|step| (step.step, step.steps)).collect::<Vec<_>>(),
        (0..12).map(|step| (step, 12)).collect::<Vec<_>>()
    );
    let tokens: usize = set.iter().map(Sequence::len).sum();
    for epoch in seen.chunks(4) {
        assert_eq!(epoch.iter().map(|step| step.tokens).sum::<usize>(), tokens);
    }
    assert_eq!(seen[0].learning_rate, 0.0);
    assert_eq!(seen[2].learning_rate, 1e-3);
    assert!(seen.windows(2).skip(2).all(|pair| pair[1].learning_rate < pair[0].learning_rate));
}

#[test]
fn the_loss_falls_and_the_answers_become_right() {
    for (family, tied) in FAMILIES {
        let decoder = decoder(&config(family, tied), 6);
        let mut set = examples(10);
        // Ten different questions (the first token) with an answer each.
        for (index, sequence) in set.iter_mut().enumerate() {
            sequence.ids[0] = index as u32;
        }
        let trained = run(&decoder, &set, &settings(3e-2, 30), 1).unwrap();
        let (first, last) = (trained.steps[0].loss, trained.steps.last().unwrap().loss);
        assert!(last < 0.3 * first, "{family:?}: {first} to {last}");
        let right = |adapter| {
            let scores = crate::score::score(&decoder, adapter, &set).unwrap();
            scores.iter().filter(|score| score.greedy).count()
        };
        assert_eq!(right(None), 0);
        assert!(right(Some(&trained.adapter)) >= 5, "{family:?}: {} of 10", right(Some(&trained.adapter)));
    }
}

#[test]
fn training_can_be_stopped() {
    let decoder = decoder(&config(Family::Llama, false), 6);
    let set = examples(10);
    let stop_after = |count: usize| {
        let mut steps = 0;
        train(&decoder, &set, &settings(1e-2, 3), 1, |_| {
            steps += 1;
            if steps == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap()
    };
    let (five, again, six) = (stop_after(5), stop_after(5), stop_after(6));
    assert_eq!((five.steps.len(), six.steps.len()), (5, 6));
    assert_eq!(five.steps[..], six.steps[..5]);
    assert_eq!(adapter_bits(&five.adapter), adapter_bits(&again.adapter));
    assert_ne!(adapter_bits(&five.adapter), adapter_bits(&six.adapter));
}

#[test]
fn a_learning_rate_that_breaks_the_model_is_said() {
    let decoder = decoder(&config(Family::Llama, false), 6);
    let set = examples(10);
    let mut diverged = 0;
    for learning_rate in [1.0, 1e3, 1e10, 1e20, 1e38, 1e200, 1e308, f64::INFINITY, f64::NAN] {
        for (epochs, warmup_steps) in [(1, 0), (4, 0), (4, 2)] {
            let training = Training { warmup_steps, ..settings(learning_rate, epochs) };
            match run(&decoder, &set, &training, 1) {
                Ok(trained) => {
                    let finite = |bits: &u32| f32::from_bits(*bits).is_finite();
                    for (module, _, a, b) in adapter_bits(&trained.adapter) {
                        assert!(a.iter().chain(&b).all(finite), "{learning_rate:e}: {module} is not finite");
                    }
                    assert!(trained.steps.iter().all(|step| step.loss.is_finite()));
                }
                Err(LearnError::Diverged { learning_rate: said, .. }) => {
                    assert_eq!(said.to_bits(), learning_rate.to_bits());
                    diverged += 1;
                }
                Err(other) => panic!("{learning_rate:e}: {other}"),
            }
        }
    }
    assert!(diverged > 8, "{diverged} of 27");
    // The update of the only step breaks the adapter: there is no later loss to show it.
    let training = Training { batch_size: 64, warmup_steps: 0, ..settings(1e200, 1) };
    let error = run(&decoder, &set, &training, 1).unwrap_err();
    assert!(matches!(error, LearnError::Diverged { step: 0, .. }), "{error}");
}

#[test]
fn sets_that_cannot_be_learned_are_refused() {
    let decoder = decoder(&config(Family::Llama, false), 6);
    let refused =
        |set: &[Sequence], epochs| run(&decoder, set, &settings(1e-2, epochs), 1).unwrap_err().to_string();
    let unlabelled = sequence(&mut rng(1), 5, 0);
    let only_the_first = Sequence { labelled: vec![true, false], ids: vec![1, 2], positions: vec![0, 1] };
    insta::assert_snapshot!(refused(&[], 1), @"nothing to learn: no token of the training set has a loss");
    for set in [vec![unlabelled], vec![only_the_first], vec![Sequence::default()]] {
        assert_eq!(refused(&set, 1), refused(&[], 1));
    }
    assert_eq!(refused(&examples(2), 0), refused(&[], 1));
    let foreign = Sequence { ids: vec![1, VOCAB as u32], ..sequence(&mut rng(1), 2, 1) };
    insta::assert_snapshot!(refused(&[foreign], 1), @"token id 29 is outside the vocabulary of 29");
    let other = Adapter::init(&config(Family::Llama, false), &lora(2, &[Projection::QProj]), 1).unwrap();
    let smaller = crate::config::ModelConfig { hidden_size: 16, ..config(Family::Llama, false) };
    let decoder = super::support::decoder(&smaller, 1);
    insta::assert_snapshot!(
        Trainer::new(&decoder, other, ADAPTER_ADAMW).unwrap_err(),
        @"the adapter cannot be used: `model.layers.0.self_attn.q_proj` has A [2, 24] and B [40, 2] for a layer of 40x16"
    );
}
