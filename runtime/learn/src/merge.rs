//! An adapter merged into the files of its base model: a folder like the base's that needs no adapter any more.
//!
//! Weights are read and written block by block, so that a model of any size takes some tens of megabytes of memory
//! beside the adapter.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors, View};

use crate::base::{CONFIG, INDEX, weight_files};
use crate::config::ModelConfig;
use crate::error::LearnError;
use crate::lora::{Adapter, LoraPair, Site};
use crate::mapped::Mapped;

/// Elements of a weight that are computed, and bytes of one that are copied, at once: 16 MB in f32. Tests have
/// tiny weights and are to have several blocks too.
const BLOCK: usize = if cfg!(test) { 1 << 8 } else { 1 << 22 };

/// Endings of files that belong to a model beside its weights: settings, tokenizers, chat templates.
const SMALL_ENDINGS: [&str; 5] = [".json", ".jinja", ".txt", ".model", ".tiktoken"];

/// Beginnings of files that go where the weights go.
const TERMS: [&str; 3] = ["LICENSE", "NOTICE", "USE_POLICY"];

/// What a merge wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Files of the new folder, sorted.
    pub files: Vec<String>,
    /// Tensors that differ from the base model's.
    pub changed: usize,
    /// Bytes of the weight files.
    pub bytes: u64,
}

/// The configuration of a model folder, without its weights.
///
/// # Errors
/// When there is none, or the engine does not run it.
pub fn model_config(model: &Path) -> Result<ModelConfig, LearnError> {
    let path = model.join(CONFIG);
    let text = fs::read_to_string(&path).map_err(|source| LearnError::Read { path, source })?;
    ModelConfig::from_json(&text)
}

/// Writes the Hugging Face folder `out`: the model in `model` with the adapter's update added to its weights.
/// Names of files and tensors, shards and element types are the base's; sums are computed in f32 and rounded to
/// nearest, ties to even. Settings, tokenizer and chat template are copied. `progress` is told the bytes of
/// weights that are written, and all of them.
///
/// `out` appears whole or not at all: everything is written to a hidden folder beside it, synced and renamed.
/// The base's files must not be written to meanwhile.
///
/// # Errors
/// [`LearnError::Write`] for an `out` that has files in it or cannot be written; [`LearnError::Adapter`] for an
/// adapter that does not fit, or an update that the element type cannot hold; and those of reading the base.
pub fn merge(
    model: &Path,
    adapter: &Adapter,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Merged, LearnError> {
    let config = model_config(model)?;
    adapter.check(&config)?;
    let updates: Updates =
        adapter.sites().map(|(site, pair)| (format!("{}.weight", site.module()), (site, pair))).collect();
    let names = weight_files(model)?;
    let shards = names.iter().map(|name| Shard::open(model, name)).collect::<Result<Vec<_>, _>>()?;
    check_weights(&config, &shards, &updates)?;
    let partial = Partial::create(out)?;
    let mut files = copy_small_files(model, &partial.path)?;
    let total = shards.iter().map(|shard| shard.bytes).sum();
    let mut done = 0;
    for shard in &shards {
        shard.write(&partial.path, &updates, &mut |bytes| {
            done += bytes as u64;
            progress(done, total);
        })?;
    }
    partial.finish(out)?;
    files.extend(names);
    files.sort();
    Ok(Merged { files, changed: updates.len(), bytes: total })
}

/// Updates by the name of the weight.
type Updates<'a> = BTreeMap<String, (Site, &'a LoraPair)>;

fn write_error(path: &Path) -> impl Fn(io::Error) -> LearnError {
    move |source| LearnError::Write { path: path.to_owned(), source }
}

/// Before anything is written: every weight to be changed is there, of its shape and of a type that can be.
fn check_weights(config: &ModelConfig, shards: &[Shard], updates: &Updates<'_>) -> Result<(), LearnError> {
    for (name, (site, _)) in updates {
        let mut found = shards.iter().flat_map(|shard| &shard.tensors).filter(|(other, _)| other == name);
        let (_, info) = found.next().ok_or_else(|| LearnError::MissingTensor(name.clone()))?;
        let (out, input) = site.shape(config);
        if info.shape != [out, input] {
            let (expected, found) = (vec![out, input], info.shape.clone());
            return Err(LearnError::Shape { name: name.clone(), expected, found });
        }
        supported(name, info.dtype)?;
        if found.next().is_some() {
            return Err(LearnError::Adapter(format!("`{name}` is in two files of the model")));
        }
    }
    Ok(())
}

/// The element type of a weight that an update can be added to.
fn supported(name: &str, dtype: Dtype) -> Result<DType, LearnError> {
    match dtype {
        Dtype::F32 => Ok(DType::F32),
        Dtype::BF16 => Ok(DType::BF16),
        Dtype::F16 => Ok(DType::F16),
        other => Err(LearnError::Adapter(format!(
            "it cannot be merged into `{name}` of element type {other:?}; supported: F32, BF16, F16"
        ))),
    }
}

/// A weight file of the base.
struct Shard {
    name: String,
    path: PathBuf,
    /// Everything before the tensors.
    header: Vec<u8>,
    /// In the order of the file, which has no gaps.
    tensors: Vec<(String, TensorInfo)>,
    /// Of the file.
    bytes: u64,
}

impl Shard {
    fn open(model: &Path, name: &str) -> Result<Shard, LearnError> {
        let path = model.join(name);
        let bytes = Mapped::open(&path)?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| LearnError::Weights { path: path.clone(), reason: e.to_string() })?;
        let keys = metadata.offset_keys().into_iter();
        Ok(Shard {
            name: name.to_owned(),
            path,
            header: bytes[..size_of::<u64>() + header].to_vec(),
            tensors: keys.filter_map(|key| metadata.info(&key).cloned().map(|info| (key, info))).collect(),
            bytes: bytes.len() as u64,
        })
    }

    /// The file again in the folder `to`, with the updates. Shapes and types stay, so the header does. Plain reads:
    /// a mapping's pages would count as memory of this process until the system wants them.
    fn write(
        &self,
        to: &Path,
        updates: &Updates<'_>,
        written: &mut dyn FnMut(usize),
    ) -> Result<(), LearnError> {
        let unreadable = |source| LearnError::Read { path: self.path.clone(), source };
        let mut base = File::open(&self.path).map_err(unreadable)?;
        base.seek(SeekFrom::Start(self.header.len() as u64)).map_err(unreadable)?;
        let path = to.join(&self.name);
        let mut file = File::create(&path).map_err(write_error(&path))?;
        let mut put = |bytes: &[u8]| {
            file.write_all(bytes).map_err(write_error(&path))?;
            written(bytes.len());
            Ok::<(), LearnError>(())
        };
        put(&self.header)?;
        let mut buffer = Vec::new();
        for (name, info) in &self.tensors {
            let mut update = updates.get(name).map(|(_, pair)| Update { name, info, pair, row: 0 });
            let block = update.as_ref().map_or(BLOCK, Update::block);
            let mut left = info.data_offsets.1 - info.data_offsets.0;
            while left > 0 {
                buffer.resize(block.min(left), 0);
                base.read_exact(&mut buffer).map_err(unreadable)?;
                left -= buffer.len();
                match &mut update {
                    Some(update) => put(&update.add(&buffer)?)?,
                    None => put(&buffer)?,
                }
            }
        }
        file.sync_all().map_err(write_error(&path))
    }
}

/// The update of one weight `[out, in]`, from its first row on.
struct Update<'a> {
    name: &'a str,
    info: &'a TensorInfo,
    pair: &'a LoraPair,
    /// The next row.
    row: usize,
}

impl Update<'_> {
    fn row_bytes(&self) -> usize {
        self.info.shape[1] * self.info.dtype.bitsize() / 8
    }

    /// Bytes to be handed to [`Update::add`]: whole rows.
    fn block(&self) -> usize {
        (BLOCK / self.info.shape[1]).max(1) * self.row_bytes()
    }

    /// The next rows of the weight plus the update, as the file has them.
    fn add(&mut self, bytes: &[u8]) -> Result<Vec<u8>, LearnError> {
        let dtype = supported(self.name, self.info.dtype)?;
        let rows = bytes.len() / self.row_bytes();
        let weight = Tensor::from_raw_buffer(bytes, dtype, &[rows, self.info.shape[1]], &Device::Cpu)?;
        let b = self.pair.b.narrow(0, self.row, rows)?.contiguous()?;
        let update = b.matmul(&self.pair.a)?.affine(self.pair.scale, 0.0)?;
        let sum = (weight.to_dtype(DType::F32)? + update)?.to_dtype(dtype)?;
        let values = sum.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(LearnError::Adapter(format!(
                "merged into `{}`, values become infinite or no numbers in {}",
                self.name,
                dtype.as_str()
            )));
        }
        self.row += rows;
        Ok(sum.data().into_owned())
    }
}

/// Copies what belongs to the model beside its weights; gives the names.
fn copy_small_files(model: &Path, to: &Path) -> Result<Vec<String>, LearnError> {
    let unreadable = |source| LearnError::Read { path: model.to_owned(), source };
    let mut copied = Vec::new();
    for entry in fs::read_dir(model).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_small_file(&name) && entry.path().is_file() {
            let bytes =
                fs::read(entry.path()).map_err(|source| LearnError::Read { path: entry.path(), source })?;
            let path = to.join(&name);
            let write = || {
                let mut file = File::create(&path)?;
                file.write_all(&bytes)?;
                file.sync_all()
            };
            write().map_err(write_error(&path))?;
            copied.push(name);
        }
    }
    Ok(copied)
}

/// Not the settings of an adapter, which Transformers would load on top, nor the index of other weight files.
fn is_small_file(name: &str) -> bool {
    let foreign = name == crate::peft::CONFIG_FILE || (name.ends_with(".index.json") && name != INDEX);
    let small = SMALL_ENDINGS.iter().any(|ending| name.ends_with(ending))
        || TERMS.iter().any(|start| name.starts_with(start));
    small && !foreign && !name.starts_with('.')
}

/// The folder in which the result is made; removed when dropped.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn create(out: &Path) -> Result<Partial, LearnError> {
        let refuse = |path: &Path, kind, reason: &str| Err(write_error(path)(io::Error::new(kind, reason)));
        let Some(name) = out.file_name() else {
            return refuse(out, io::ErrorKind::InvalidInput, "expected the path of a new folder");
        };
        let has_files = match fs::read_dir(out) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(write_error(out)(error)),
        };
        if has_files {
            let reason = "the folder is not empty; choose a new one, or empty it";
            return refuse(out, io::ErrorKind::AlreadyExists, reason);
        }
        let path = out.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(write_error(parent))?;
        }
        match fs::create_dir(&path) {
            Ok(()) => Ok(Partial { path }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let reason =
                    "another merge is writing there, or one was stopped; if none is, remove the folder";
                refuse(&path, io::ErrorKind::AlreadyExists, reason)
            }
            Err(error) => Err(write_error(&path)(error)),
        }
    }

    /// Gives the folder its name. An empty folder of that name is replaced.
    fn finish(self, out: &Path) -> Result<(), LearnError> {
        if out.is_dir() {
            fs::remove_dir(out).map_err(write_error(out))?;
        }
        fs::rename(&self.path, out).map_err(write_error(out))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was renamed; else there is an error to tell, and it is not this one.
        let _ = fs::remove_dir_all(&self.path);
    }
}
