//! `selkie merge`.

use std::process::ExitCode;

use selkie_learn::{Adapter, ModelConfig, merge, peft};
use serde_json::{Value, json};

use crate::args::MergeArgs;
use crate::error::CommandError;
use crate::progress;

/// Bytes of a megabyte, the unit of the bar.
const MEGABYTE: u64 = 1_000_000;

/// Adds the adapters up and writes the model that they make of the base, or the sum as an adapter.
pub(crate) fn run(args: &MergeArgs) -> Result<ExitCode, CommandError> {
    let config = merge::model_config(&args.model)?;
    let sum = sum(args, &config)?;
    let (done, text) = match args.as_adapter {
        true => write_adapter(args, &sum)?,
        false => write_model(args, &sum)?,
    };
    let adapters = args
        .adapters
        .iter()
        .map(|part| json!({"folder": part.folder.to_string_lossy(), "weight": part.weight}));
    let mut document = json!({
        "model": args.model.to_string_lossy(),
        "adapters": adapters.collect::<Vec<_>>(),
        "out": args.out.to_string_lossy(),
        "rank": sum.rank(),
        "layers": sum.sites().count(),
    });
    document["written"] = done;
    if args.json {
        super::print_json(&document)?
    } else {
        super::print(&text)?
    }
    Ok(ExitCode::SUCCESS)
}

fn sum(args: &MergeArgs, config: &ModelConfig) -> Result<Adapter, CommandError> {
    let read: Vec<Adapter> =
        args.adapters.iter().map(|part| peft::read(&part.folder, config)).collect::<Result<_, _>>()?;
    let parts: Vec<(f64, &Adapter)> = args.adapters.iter().map(|part| part.weight).zip(&read).collect();
    Ok(Adapter::combine(&parts)?)
}

fn write_adapter(args: &MergeArgs, sum: &Adapter) -> Result<(Value, String), CommandError> {
    let files = peft::to_files(sum, &args.model.to_string_lossy())?;
    peft::write(&args.out, &files, peft::Existing::Refuse)?;
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let (rank, layers) = (sum.rank(), sum.sites().count());
    let text = format!("an adapter of rank {rank} for {layers} layers in {}\n", args.out.display());
    Ok((json!({"kind": "adapter", "files": names}), text))
}

fn write_model(args: &MergeArgs, sum: &Adapter) -> Result<(Value, String), CommandError> {
    let bar = progress::bar(0);
    bar.set_message("MB");
    let merged = merge::merge(&args.model, sum, &args.out, &mut |done, total| {
        bar.set_length(total / MEGABYTE);
        bar.set_position(done / MEGABYTE);
    });
    bar.finish_and_clear();
    let merged = merged?;
    let text = format!(
        "a model in {}: {} tensors changed, {:.1} MB of weights\n",
        args.out.display(),
        merged.changed,
        merged.bytes as f64 / MEGABYTE as f64
    );
    let document = json!({
        "kind": "model",
        "files": merged.files,
        "tensors_changed": merged.changed,
        "weight_bytes": merged.bytes,
    });
    Ok((document, text))
}
