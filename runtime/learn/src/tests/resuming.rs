//! Checkpoints of adapter runs: a run that is interrupted anywhere ends as if it had not been, and what is no
//! checkpoint of a run is refused.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use selkie_edit::{Projection, Schedule};

use super::support::{FAMILIES, adapter_bits, config, decoder, lora, rng, sequence};
use crate::config::Family;
use crate::decoder::Decoder;
use crate::error::LearnError;
use crate::lora::LoraConfig;
use crate::optim::{ADAPTER_ADAMW, MAX_GRAD_NORM};
use crate::run::{Run, RunSettings, advance};
use crate::sequence::Sequence;
use crate::train::PassOptions;

fn settings() -> RunSettings {
    let dropout = 0.2;
    RunSettings {
        lora: LoraConfig {
            dropout,
            ..LoraConfig::from(&lora(3, &[Projection::QProj, Projection::DownProj]))
        },
        learning_rate: 7e-3,
        schedule: Schedule::Cosine,
        warmup_steps: 2,
        epochs: 3,
        batch_size: 2,
        adamw: ADAPTER_ADAMW,
        max_grad_norm: MAX_GRAD_NORM,
        seed: 11,
    }
}

fn set() -> Vec<Sequence> {
    let mut rng = rng(31);
    (0..5).map(|index| sequence(&mut rng, 4 + index, 3)).collect()
}

fn steps(decoder: &Decoder, run: &mut Run<'_>, count: u64) {
    for _ in 0..count {
        for (_, stats) in advance(decoder, &mut [run], PassOptions::default()).unwrap() {
            stats.unwrap();
        }
    }
}

#[test]
fn a_run_that_is_interrupted_anywhere_ends_in_the_same_bits() {
    let set = set();
    for (index, (family, tied)) in FAMILIES.into_iter().enumerate() {
        let decoder = decoder(&config(family, tied), index as u64);
        let fresh = || Run::new(&decoder, &set, settings()).unwrap();
        let mut straight = fresh();
        let total = straight.steps();
        assert_eq!(total, 9);
        steps(&decoder, &mut straight, total);
        let expected = straight.finish().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.safetensors");
        for killed_at in 0..=total {
            let mut first = fresh();
            steps(&decoder, &mut first, killed_at);
            first.checkpoint(&path).unwrap();
            // What was done after the checkpoint is lost, and done again.
            steps(&decoder, &mut first, (total - killed_at).min(1));
            let mut second = fresh();
            second.resume(&path).unwrap();
            assert_eq!((second.steps_done(), second.is_finished()), (killed_at, killed_at == total));
            steps(&decoder, &mut second, total - killed_at);
            let found = second.finish().unwrap();
            assert_eq!(
                adapter_bits(&found.adapter),
                adapter_bits(&expected.adapter),
                "{family:?}, {killed_at}"
            );
            assert_eq!(found.steps, expected.steps, "{family:?}, {killed_at}");
        }
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing is left beside the checkpoint"
        );
    }
}

fn refused(decoder: &Decoder, set: &[Sequence], settings: RunSettings, path: &Path) -> String {
    let mut run = Run::new(decoder, set, settings).unwrap();
    let before = adapter_bits(run.adapter());
    let message = run.resume(path).unwrap_err().to_string();
    assert_eq!((adapter_bits(run.adapter()), run.steps_done()), (before, 0), "{message}");
    // It can still be run from the start.
    steps(decoder, &mut run, 1);
    message.replace(&path.parent().unwrap().display().to_string(), "DIR")
}

#[test]
fn checkpoints_of_other_runs_are_refused() {
    let decoder = decoder(&config(Family::Llama, false), 2);
    let set = set();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.safetensors");
    let mut run = Run::new(&decoder, &set, settings()).unwrap();
    steps(&decoder, &mut run, 4);
    run.checkpoint(&path).unwrap();
    let other = "checkpoint `DIR/run.safetensors`: it is of other settings or other data; use them, or another output folder";
    let changes: [fn(&mut RunSettings); 10] = [
        |s| s.seed = 12,
        |s| s.learning_rate = 7.000001e-3,
        |s| s.schedule = Schedule::Linear,
        |s| s.warmup_steps = 3,
        |s| s.epochs = 4,
        |s| s.batch_size = 3,
        |s| s.max_grad_norm = 2.0,
        |s| s.adamw.weight_decay = 0.1,
        |s| s.lora.dropout = 0.1,
        |s| s.lora.rank = 4,
    ];
    for change in changes {
        let mut changed = settings();
        change(&mut changed);
        assert_eq!(refused(&decoder, &set, changed.clone(), &path), other, "{changed:?}");
    }
    let mut data = set.clone();
    data[2].ids[1] ^= 1;
    assert_eq!(refused(&decoder, &data, settings(), &path), other);
    data = set.clone();
    data.swap(0, 1);
    assert_eq!(refused(&decoder, &data, settings(), &path), other);
    insta::assert_snapshot!(
        run.resume(&path).unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR"),
        @"checkpoint `DIR/run.safetensors`: only a run that has not begun can go on from it"
    );
    let missing = refused(&decoder, &set, settings(), &dir.path().join("missing"));
    assert!(missing.starts_with("cannot read `DIR/missing`: "), "{missing}");
    let unwritten = run.checkpoint(&dir.path().join("no/folder")).unwrap_err();
    assert!(matches!(unwritten, LearnError::Write { .. }), "{unwritten}");
}

#[test]
fn damaged_checkpoints_are_refused() {
    let decoder = decoder(&config(Family::Llama, false), 2);
    let set = set();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.safetensors");
    let mut run = Run::new(&decoder, &set, settings()).unwrap();
    steps(&decoder, &mut run, 4);
    run.checkpoint(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let check = |bytes: &[u8], what: String| {
        std::fs::write(&path, bytes).unwrap();
        let message = refused(&decoder, &set, settings(), &path);
        assert!(message.starts_with("checkpoint `DIR/run.safetensors`: "), "{what}: {message}");
    };
    for kept in [0, 1, 7, 8, 9, header / 2, header - 1, header, header + 1, whole.len() / 2, whole.len() - 1]
    {
        check(&whole[..kept], format!("{kept} bytes"));
    }
    // A bit of a number is as wrong as a letter of the header.
    for at in (header..whole.len()).step_by(997).chain([whole.len() - 1]) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        check(&damaged, format!("bit of byte {at}"));
    }
    check(&[whole.as_slice(), b"more"].concat(), "longer".to_owned());
    check(&u64::MAX.to_le_bytes(), "a header as long as memory".to_owned());

    let written = |tensors: &BTreeMap<String, Tensor>, metadata: &[(&str, &str)]| {
        let metadata = metadata.iter().map(|(key, text)| (key.to_string(), text.to_string())).collect();
        safetensors::serialize(tensors.iter(), Some(metadata)).unwrap()
    };
    for metadata in
        [&[][..], &[("selkie", "")], &[("selkie", "{}")], &[("selkie", "[1]")], &[("other", "{}")]]
    {
        check(&written(&BTreeMap::new(), metadata), format!("{metadata:?}"));
    }
    // The whole goes on.
    std::fs::write(&path, &whole).unwrap();
    Run::new(&decoder, &set, settings()).unwrap().resume(&path).unwrap();
}

#[test]
fn a_run_that_diverged_leaves_no_checkpoint() {
    let decoder = decoder(&config(Family::Llama, false), 2);
    let (set, dir) = (set(), tempfile::tempdir().unwrap());
    let path = dir.path().join("run.safetensors");
    let settings = RunSettings { learning_rate: f64::NAN, warmup_steps: 0, ..settings() };
    let mut run = Run::new(&decoder, &set, settings).unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let step = advance(&decoder, &mut [&mut run], PassOptions::default()).unwrap();
        seen.extend(step.into_iter().map(|(_, stats)| stats.is_ok()));
    }
    assert_eq!(seen, [true, false, false]);
    let error = run.checkpoint(&path).unwrap_err();
    assert!(matches!(error, LearnError::Diverged { step: 1, .. }), "{error}");
    assert!(!path.exists());
    assert!(matches!(run.finish(), Err(LearnError::Diverged { .. })));
}

#[test]
fn a_step_that_fails_moves_no_run_on() {
    let decoder = decoder(&config(Family::Llama, false), 2);
    let set = set();
    let foreign = vec![Sequence { ids: vec![1, 999], positions: vec![0, 1], labelled: vec![false, true] }];
    let fresh = || Run::new(&decoder, &set, settings()).unwrap();
    let mut straight = fresh();
    steps(&decoder, &mut straight, 9);
    let mut run = fresh();
    for _ in 0..9 {
        let mut broken = Run::new(&decoder, &foreign, settings()).unwrap();
        let both = &mut [&mut broken, &mut run];
        assert!(matches!(advance(&decoder, both, PassOptions::default()), Err(LearnError::TokenId { .. })));
        steps(&decoder, &mut run, 1);
    }
    assert_eq!(adapter_bits(run.adapter()), adapter_bits(straight.adapter()));
    assert_eq!(run.finish().unwrap().steps, straight.finish().unwrap().steps);
}
