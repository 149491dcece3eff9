//! Adapters that go between this engine and PEFT itself, both ways, by their folders: the logits are the same.
//! Needs a Python with torch, transformers and peft, which `$SELKIE_PYTHON` names.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails where it unwraps, and says what it skips"
)]

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use selkie_edit::{Lora, Projection};
use selkie_learn::optim::ADAPTER_ADAMW;
use selkie_learn::{Adapter, Decoder, ModelFiles, Sequence, Trainer, peft, token_logits};
use selkie_tests::fixture_dir;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What is trained on and looked at; below any vocabulary of the fixtures.
const IDS: [u32; 12] = [3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9, 32];

/// PyTorch sums in another order.
const TOLERANCE: f32 = 1e-4;

/// An adapter on a model, as the script is told of it.
struct Job {
    model: PathBuf,
    /// The PEFT folder.
    folder: TempDir,
    /// How PEFT is to make the adapter; null where the folder has one.
    make: Value,
}

#[test]
fn an_adapter_trained_here_opens_in_peft() {
    let Some((python, models)) = python_and_models() else { return };
    let (mut jobs, mut adapters) = (Vec::new(), Vec::new());
    for model in models {
        let decoder = ModelFiles::read(&model).unwrap().decoder().unwrap();
        let targets = vec![Projection::QProj, Projection::VProj, Projection::DownProj];
        let first = trained(&decoder, &Lora { rank: 4, alpha: 8.0, targets }, 1);
        let all = Lora { rank: 2, alpha: 6.0, targets: Projection::ALL.to_vec() };
        let second = trained(&decoder, &all, 2);
        // The sum has two ranks, which PEFT reads from the patterns.
        let sum = first.stack(&second).unwrap();
        for adapter in [first, second, sum] {
            let folder = tempfile::tempdir().unwrap();
            for (file, bytes) in peft::to_files(&adapter, "base").unwrap() {
                std::fs::write(folder.path().join(file), bytes).unwrap();
            }
            jobs.push(Job { model: model.clone(), folder, make: Value::Null });
            adapters.push(adapter);
        }
    }
    for ((job, adapter), theirs) in jobs.iter().zip(&adapters).zip(logits_of_peft(&python, &jobs)) {
        compare(job, adapter, &theirs);
    }
}

#[test]
fn an_adapter_of_peft_opens_here() {
    let Some((python, models)) = python_and_models() else { return };
    let settings = [
        json!({ "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "up_proj"], "use_rslora": true }),
        json!({
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "k_proj", "o_proj", "gate_proj"],
            "rank_pattern": { "k_proj": 2, "layers.1.self_attn.q_proj": 6, "layers\\.0\\.mlp.*": 3 },
            "alpha_pattern": { "o_proj": 20, "layers.0.self_attn.q_proj": 3, "layers\\.\\d\\.mlp\\.gate_proj": 7 },
            "use_rslora": true,
        }),
        json!({
            "r": 3,
            "lora_alpha": 5,
            "target_modules": ["v_proj", "up_proj", "down_proj"],
            "layers_to_transform": [1],
            "rank_pattern": { "^model.layers.1.mlp.up_proj": 5 },
            "alpha_pattern": { "v_proj": 9, "proj": 2 },
        }),
    ];
    let all = models.iter().flat_map(|model| settings.iter().map(move |make| (model, make)));
    let folder = || tempfile::tempdir().unwrap();
    let jobs: Vec<Job> =
        all.map(|(model, make)| Job { model: model.clone(), folder: folder(), make: make.clone() }).collect();
    for (job, theirs) in jobs.iter().zip(logits_of_peft(&python, &jobs)) {
        let files = [peft::CONFIG_FILE, peft::WEIGHTS_FILE]
            .map(|name| (name.to_owned(), std::fs::read(job.folder.path().join(name)).unwrap()));
        let decoder = ModelFiles::read(&job.model).unwrap().decoder().unwrap();
        let adapter = peft::from_files(decoder.config(), &files)
            .unwrap_or_else(|error| panic!("{} {}: {error}", job.model.display(), job.make));
        compare(job, &adapter, &theirs);
    }
}

/// The interpreter, and the fixtures' model folders.
fn python_and_models() -> Option<(OsString, Vec<PathBuf>)> {
    let Some(python) = std::env::var_os("SELKIE_PYTHON") else {
        println!("skipped: set SELKIE_PYTHON to a Python with torch, transformers and peft");
        return None;
    };
    let root = fixture_dir("SELKIE_PARITY", "fixtures/parity")?;
    let models: Vec<PathBuf> =
        ["llama", "qwen2", "qwen3"].map(|family| root.join(family).join("model")).to_vec();
    Some((python, models))
}

fn trained(decoder: &Decoder, lora: &Lora, seed: u64) -> Adapter {
    let adapter = Adapter::init(decoder.config(), lora, seed).unwrap();
    let mut trainer = Trainer::new(decoder, adapter, ADAPTER_ADAMW).unwrap();
    let sequence = Sequence {
        ids: IDS.to_vec(),
        positions: (0..IDS.len() as u32).collect(),
        labelled: vec![true; IDS.len()],
    };
    for _ in 0..3 {
        trainer.step(&[&sequence], 1e-2).unwrap();
    }
    trainer.into_adapter()
}

/// The logits of [`IDS`], a row a token, job by job.
fn logits_of_peft(python: &OsStr, jobs: &[Job]) -> Vec<Vec<Vec<f32>>> {
    let request: Vec<Value> = jobs
        .iter()
        .map(|Job { model, folder, make }| {
            json!({ "model": model, "adapter": folder.path(), "make": make, "ids": IDS })
        })
        .collect();
    let mut child = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("open_in_peft.py"))
        .env("HF_HUB_OFFLINE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(Value::from(request).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn compare(job: &Job, adapter: &Adapter, theirs: &[Vec<f32>]) {
    let what = format!("{} {} of rank {}", job.model.display(), job.make, adapter.rank());
    let decoder = ModelFiles::read(&job.model).unwrap().decoder().unwrap();
    let positions: Vec<u32> = (0..IDS.len() as u32).collect();
    let logits = |adapter| {
        token_logits(&decoder, adapter, &IDS, &positions).unwrap().to_vec2::<f32>().unwrap().concat()
    };
    let (ours, without, theirs) = (logits(Some(adapter)), logits(None), theirs.concat());
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let error = largest_difference(&ours, &theirs);
    assert!(error < TOLERANCE, "{what}: logits are off by {error}");
    // Else the comparison would say nothing of the adapter.
    assert!(largest_difference(&ours, &without) > 100.0 * TOLERANCE, "{what}: the adapter does nothing");
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |largest, next| match next.is_nan() {
        true => f32::INFINITY,
        false => largest.max(next),
    })
}
