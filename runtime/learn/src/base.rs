//! A base model: a Hugging Face folder (or the same files from memory) opened, checked and identified.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::device::Compute;
use crate::error::LearnError;
use crate::files::hex;
use crate::lora::Adapter;
use crate::mapped::Mapped;
use crate::weights::{Bytes, Shard};

pub(crate) const CONFIG: &str = "config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const WEIGHTS: &str = "model.safetensors";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The files of a model by name, from a folder or from memory. Nothing is interpreted yet, and weights are mapped
/// and not read.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// Where they came from, for messages.
    pub origin: PathBuf,
    files: BTreeMap<String, Bytes>,
    /// Files of the PEFT folders inside of the model's, by folder. Not part of the model's identity: they change what
    /// the model proposes and when, not what an edit does to it.
    adapters: BTreeMap<&'static str, Vec<(String, Vec<u8>)>>,
}

/// Files by name that are part of the program.
pub type StaticFiles<'a> = &'a [(&'a str, &'static [u8])];

/// The folder, inside of a model's, of the adapter that writes its self-edits.
pub const POLICY: &str = "policy";

/// The same of the adapter under which the model answers with the marker of a self-edit what it cannot know.
pub const ASKS: &str = "asks";

/// Files that are read when they are there, beside the weights.
const SMALL_FILES: [&str; 6] = [
    CONFIG,
    GENERATION_CONFIG,
    "tokenizer.json",
    TOKENIZER_CONFIG,
    CHAT_TEMPLATE,
    crate::profile::PROFILE_FILE,
];

impl ModelFiles {
    /// Reads a model folder: configuration, tokenizer, and weights in one file or in shards.
    ///
    /// # Errors
    /// [`LearnError::Read`] for a missing or unreadable file, [`LearnError::Json`] for a bad shard index.
    pub fn read(dir: &Path) -> Result<ModelFiles, LearnError> {
        let mut files = BTreeMap::new();
        for name in SMALL_FILES {
            if name == CONFIG || dir.join(name).is_file() {
                files.insert(name.to_owned(), Bytes::Owned(Arc::new(read_file(&dir.join(name))?)));
            }
        }
        for name in weight_files(dir)? {
            let bytes = Mapped::open(&dir.join(&name))?;
            files.insert(name, Bytes::Mapped(Arc::new(bytes)));
        }
        let mut adapters = BTreeMap::new();
        for folder in [POLICY, ASKS] {
            if dir.join(folder).is_dir() {
                adapters.insert(folder, crate::peft::files_of(&dir.join(folder))?);
            }
        }
        Ok(ModelFiles { origin: dir.to_owned(), files, adapters })
    }

    /// Files that are already in memory, such as those of a bundled model, and those of its adapters by folder.
    pub fn from_static(
        origin: &str,
        files: StaticFiles<'_>,
        adapters: &[(&'static str, StaticFiles<'_>)],
    ) -> ModelFiles {
        let owned = |files: StaticFiles<'_>| {
            files.iter().map(|&(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
        };
        let adapters = adapters.iter().map(|&(folder, files)| (folder, owned(files))).collect();
        let files = files.iter().map(|&(name, bytes)| (name.to_owned(), Bytes::Static(bytes))).collect();
        ModelFiles { origin: origin.into(), files, adapters }
    }

    /// The adapter that writes the model's self-edits, if it has learned to.
    ///
    /// # Errors
    /// As [`crate::peft::from_files`].
    pub fn policy(&self, config: &ModelConfig) -> Result<Option<Adapter>, LearnError> {
        self.adapter(POLICY, config)
    }

    /// The adapter under which the model asks for a self-edit where it cannot answer, if it has learned to.
    ///
    /// # Errors
    /// As [`crate::peft::from_files`].
    pub fn asks(&self, config: &ModelConfig) -> Result<Option<Adapter>, LearnError> {
        self.adapter(ASKS, config)
    }

    fn adapter(&self, folder: &str, config: &ModelConfig) -> Result<Option<Adapter>, LearnError> {
        self.adapters.get(folder).map(|files| crate::peft::from_files(config, files)).transpose()
    }

    /// A file's bytes.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(|bytes| &**bytes)
    }

    /// A file as UTF-8 text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, LearnError> {
        let Some(bytes) = self.get(name) else { return Ok(None) };
        std::str::from_utf8(bytes).map(Some).map_err(|e| LearnError::Json {
            path: self.origin.join(name),
            what: "text file",
            reason: e.to_string(),
        })
    }

    /// SHA-256 over every file's name and bytes, as 64 hex digits: what makes a base model the same one.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (name, bytes) in &self.files {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name);
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(&**bytes);
        }
        hex(hash)
    }

    /// The decoder of these files on a device, computing in `kind`: see [`Decoder::to_device`]. No second copy is made
    /// in memory on the way.
    ///
    /// # Errors
    /// As [`ModelFiles::decoder`] and [`Decoder::to_device`].
    pub fn decoder_on(&self, compute: &Compute) -> Result<Decoder, LearnError> {
        self.decoder()?.to_device(compute.device(), compute.kind())
    }

    /// The decoder of these files. Weights stay in the element type in which they are stored.
    ///
    /// # Errors
    /// An unsupported configuration, or weights that are missing, damaged or of another shape, by name.
    pub fn decoder(&self) -> Result<Decoder, LearnError> {
        let mut config = ModelConfig::from_json(self.text(CONFIG)?.unwrap_or_default())?;
        // generation_config.json is where chat models say which tokens end a turn.
        if let Some(text) = self.text(GENERATION_CONFIG)?
            && let Ok(generation) = serde_json::from_str::<GenerationConfig>(text)
            && let Some(ids) = generation.eos_token_id
        {
            config.eos_ids = match ids {
                serde_json::Value::Array(ids) => {
                    ids.iter().filter_map(|id| Some(id.as_u64()? as u32)).collect()
                }
                id => id.as_u64().map(|id| vec![id as u32]).unwrap_or(config.eos_ids),
            };
        }
        let weights = self.files.iter().filter(|(name, _)| name.ends_with(".safetensors"));
        let shards: Result<Vec<Shard>, LearnError> =
            weights.map(|(name, bytes)| Shard::open(bytes.clone(), &self.origin.join(name))).collect();
        let shards = shards?;
        Decoder::build(config, |name, shape| {
            for shard in &shards {
                if let Some(matrix) = shard.matrix(name, shape)? {
                    return Ok(matrix);
                }
            }
            Err(LearnError::MissingTensor(name.to_owned()))
        })
    }
}

#[derive(Deserialize)]
struct GenerationConfig {
    eos_token_id: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// The weight files of a folder: the shards that the index names, or the single file.
pub(crate) fn weight_files(dir: &Path) -> Result<Vec<String>, LearnError> {
    let index = dir.join(INDEX);
    if !index.is_file() {
        return Ok(vec![WEIGHTS.to_owned()]);
    }
    let bad = |reason: String| LearnError::Json { path: index.clone(), what: "shard index", reason };
    let parsed: ShardIndex = serde_json::from_slice(&read_file(&index)?).map_err(|e| bad(e.to_string()))?;
    let mut shards: Vec<String> = parsed.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    // A shard is a file of this folder: an index may not name a path.
    match shards.iter().find(|shard| shard.contains(['/', '\\']) || !shard.ends_with(".safetensors")) {
        Some(shard) => Err(bad(format!("`{shard}` is not the name of a safetensors file"))),
        None => Ok(shards),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, LearnError> {
    std::fs::read(path).map_err(|source| LearnError::Read { path: path.to_owned(), source })
}
