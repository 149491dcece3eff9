//! The model that is measured: a folder that the user has, or one of two shapes with random weights, written as
//! Hugging Face writes a model so that both sides open the same files.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use selkie_edit::{Lora, SplitMix64, derive_seed};
use selkie_learn::{Adapter, ModelConfig, peft};
use serde_json::{Map, Value, json};

use crate::args::Dtype;
use crate::error::CommandError;
use crate::settings::read_text;

/// Decides weights, tokens and adapters.
pub(super) const SEED: u64 = 1;

/// Standard deviation of random weights, as Transformers starts them: logits stay near 0.
const WEIGHT_STD: f64 = 0.02;

/// Bytes of a `config.json`.
const CONFIG_BYTES_MAX: usize = 1 << 20;

/// A model folder, and what is known of it.
#[derive(Debug)]
pub(super) struct Model {
    /// The folder.
    pub(super) folder: PathBuf,
    /// Its configuration.
    pub(super) config: ModelConfig,
    /// The batch that belongs to the shape: sequences and tokens of each.
    pub(super) batch: (u16, u32),
}

/// Sizes of a Llama.
struct Shape {
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    ffn: usize,
    vocab: usize,
}

const MINI: Shape = Shape { hidden: 256, layers: 6, heads: 4, kv_heads: 4, ffn: 768, vocab: 512 };
const SLICE: Shape = Shape { hidden: 2048, layers: 4, heads: 32, kv_heads: 8, ffn: 8192, vocab: 32_000 };

impl Model {
    /// The model of a shape's name or of a folder; random weights go under `scratch`.
    pub(super) fn of(shape: &str, dtype: Dtype, scratch: &Path) -> Result<Model, CommandError> {
        let folder = scratch.join("model");
        match shape {
            "mini" => {
                MINI.write(dtype, &folder)?;
                Model::open(folder, (4, 512))
            }
            "slice" => {
                SLICE.write(dtype, &folder)?;
                Model::open(folder, (2, 256))
            }
            other if Path::new(other).is_dir() => Model::open(other.into(), (2, 256)),
            other => Err(CommandError::input(format!(
                "--shape is `{other}`; expected `mini`, `slice` or a model folder"
            ))),
        }
    }

    fn open(folder: PathBuf, batch: (u16, u32)) -> Result<Model, CommandError> {
        let text = read_text(&folder.join("config.json"), CONFIG_BYTES_MAX)?;
        Ok(Model { config: ModelConfig::from_json(&text)?, folder, batch })
    }

    /// Refuses sequences that are longer than the model's positions.
    pub(super) fn check_length(&self, tokens: usize) -> Result<(), CommandError> {
        let limit = self.config.max_positions;
        if tokens <= limit {
            return Ok(());
        }
        Err(CommandError::input(format!("{tokens} tokens; the model has {limit} positions")))
    }

    /// Random token ids, the same at every call with the same name.
    pub(super) fn random_ids(&self, name: &str, count: usize) -> Vec<u32> {
        let mut generator = SplitMix64::new(derive_seed(SEED, name));
        (0..count).map(|_| generator.below(self.config.vocab_size) as u32).collect()
    }

    /// A new adapter as a PEFT folder under `scratch`, from which both sides start.
    pub(super) fn write_adapter(&self, lora: &Lora, scratch: &Path) -> Result<PathBuf, CommandError> {
        let folder = scratch.join("adapter");
        let adapter = Adapter::init(&self.config, lora, SEED)?;
        let write = |files: Vec<(String, Vec<u8>)>| {
            std::fs::create_dir_all(&folder)?;
            files.iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
        };
        write(peft::to_files(&adapter, "base")?).map_err(|error| cannot_write(&folder, &error))?;
        Ok(folder)
    }
}

fn cannot_write(folder: &Path, error: &io::Error) -> CommandError {
    CommandError::input(format!("cannot write in `{}`: {error}", folder.display()))
}

impl Shape {
    fn write(&self, dtype: Dtype, folder: &Path) -> Result<(), CommandError> {
        let write = || {
            std::fs::create_dir_all(folder)?;
            std::fs::write(folder.join("config.json"), self.config(dtype).to_string())?;
            self.write_weights(dtype, &folder.join("model.safetensors"))
        };
        write().map_err(|error| cannot_write(folder, &error))
    }

    fn config(&self, dtype: Dtype) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.ffn,
            "vocab_size": self.vocab,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10_000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": false,
            "bos_token_id": null,
            "eos_token_id": null,
            "torch_dtype": dtype.torch_name(),
        })
    }

    /// Names and shapes of all tensors. The one-dimensional ones are norms.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Shape { hidden, ffn, vocab, .. } = *self;
        let key = hidden / self.heads * self.kv_heads;
        let matrices = [
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", key, hidden),
            ("self_attn.v_proj", key, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", ffn, hidden),
            ("mlp.up_proj", ffn, hidden),
            ("mlp.down_proj", hidden, ffn),
        ];
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
        for layer in 0..self.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            tensors.extend(matrices.iter().map(|(part, out, input)| (name(part), vec![*out, *input])));
            tensors.push((name("input_layernorm"), vec![hidden]));
            tensors.push((name("post_attention_layernorm"), vec![hidden]));
        }
        tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
        tensors.push(("lm_head.weight".to_owned(), vec![vocab, hidden]));
        tensors
    }

    /// A safetensors file, written as it is made: the length of the header, the header, the numbers.
    fn write_weights(&self, dtype: Dtype, path: &Path) -> io::Result<()> {
        let tensors = self.tensors();
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
        let mut end = 0;
        for (name, shape) in &tensors {
            let begin = end;
            end += shape.iter().product::<usize>() * dtype.bytes();
            let entry =
                json!({ "dtype": dtype.safetensors_name(), "shape": shape, "data_offsets": [begin, end] });
            header.insert(name.clone(), entry);
        }
        let mut header = Value::Object(header).to_string();
        // The numbers begin at a multiple of 8.
        header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
        let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        let mut generator = SplitMix64::new(derive_seed(SEED, "weights"));
        for (_, shape) in &tensors {
            match shape.as_slice() {
                [norm] => (0..*norm).try_for_each(|_| dtype.write(1.0, &mut out))?,
                _ => write_uniform(shape.iter().product(), dtype, &mut generator, &mut out)?,
            }
        }
        out.flush()
    }
}

/// Numbers with the standard deviation of random weights, two from each draw.
fn write_uniform(
    count: usize,
    dtype: Dtype,
    generator: &mut SplitMix64,
    out: &mut impl Write,
) -> io::Result<()> {
    // A uniform variable in +-h has the standard deviation h / sqrt 3.
    let scale = (WEIGHT_STD * 3f64.sqrt() / f64::from(1u32 << 31)) as f32;
    for at in (0..count).step_by(2) {
        let bits = generator.next_u64();
        dtype.write(bits as i32 as f32 * scale, out)?;
        if at + 1 < count {
            dtype.write((bits >> 32) as i32 as f32 * scale, out)?;
        }
    }
    Ok(())
}

impl Dtype {
    fn torch_name(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::Bf16 => "bfloat16",
        }
    }

    fn safetensors_name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::Bf16 => "BF16",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::Bf16 => 2,
        }
    }

    fn write(self, value: f32, out: &mut impl Write) -> io::Result<()> {
        match self {
            Dtype::F32 => out.write_all(&value.to_le_bytes()),
            // The upper half of the bits, rounded half up: the numbers are random anyway.
            Dtype::Bf16 => out.write_all(&(((value.to_bits() + 0x8000) >> 16) as u16).to_le_bytes()),
        }
    }
}
