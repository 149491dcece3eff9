//! LoRA adapters in memory: which layers are adapted, their two matrices, and how they compose.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use regex::bytes::{Regex, RegexBuilder};
use selkie_edit::{Lora, Projection};

use crate::config::ModelConfig;
use crate::error::LearnError;

/// Largest rank of a layer: more than the widest layer of a 7B model, where an update has full rank long before.
pub const RANK_MAX: u32 = 1 << 14;

/// Most patterns of one setting. The largest published model has 882 layers that can be adapted; a settings file
/// with a million patterns would take minutes to compile.
const PATTERNS_MAX: usize = 1 << 12;

/// Memory of one compiled pattern. A pattern that lists every layer of a 70B model by number needs a tenth.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What a LoRA adapter is made of and how it is trained, in PEFT's terms.
///
/// A pattern gives the layers whose module path its key matches a rank (or alpha) of their own; the first key
/// that matches counts. As in PEFT a key is a regular expression that is to match the whole path, such as
/// `model.layers.0.self_attn.q_proj`, or its end from a dot on: `q_proj`, `layers.0.mlp.up_proj`,
/// `^model.layers.0.mlp.up_proj`, `layers\.(0|1)\..*`. Look-around and back-references are not supported.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of the update of a layer that no pattern names, 1 to [`RANK_MAX`]. It may exceed the layer's smaller
    /// side.
    pub rank: u32,
    /// The update is scaled by `alpha / rank`, with the layer's own rank.
    pub alpha: f64,
    /// Share of an adapted layer's inputs that training drops before A, from 0 to below 1.
    pub dropout: f64,
    /// The layers adapted in every block: at least one, each once.
    pub targets: Vec<Projection>,
    /// Ranks of some layers, by pattern.
    pub rank_pattern: Vec<(String, u32)>,
    /// Alphas of some layers, by pattern.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Rank-stabilised LoRA: the scale is `alpha / sqrt(rank)`.
    pub use_rslora: bool,
}

/// A linear layer of the decoder: its block and its name there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// Block, from 0.
    pub layer: usize,
    /// The layer in the block.
    pub projection: Projection,
}

/// The update of one linear layer: `y += scale * (x . A^T) . B^T`.
#[derive(Debug, Clone)]
pub struct LoraPair {
    /// `[rank, in]`.
    pub a: Tensor,
    /// `[out, rank]`.
    pub b: Tensor,
    /// `alpha / rank` (or `alpha / sqrt(rank)` for rank-stabilised LoRA).
    pub scale: f64,
}

/// A LoRA adapter: pairs by site, in a fixed order.
#[derive(Debug, Clone, Default)]
pub struct Adapter {
    pub(crate) pairs: BTreeMap<Site, LoraPair>,
}

impl Site {
    /// `(out, in)` of the layer's weight.
    pub(crate) fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let (query, key) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        match self.projection {
            Projection::QProj => (query, config.hidden_size),
            Projection::KProj | Projection::VProj => (key, config.hidden_size),
            Projection::OProj => (config.hidden_size, query),
            Projection::GateProj | Projection::UpProj => (config.intermediate_size, config.hidden_size),
            Projection::DownProj => (config.hidden_size, config.intermediate_size),
        }
    }

    /// The module's name in checkpoints, such as `model.layers.0.self_attn.q_proj`.
    pub(crate) fn module(self) -> String {
        let name = self.projection.as_str();
        let part = match self.projection {
            Projection::QProj | Projection::KProj | Projection::VProj | Projection::OProj => "self_attn",
            Projection::GateProj | Projection::UpProj | Projection::DownProj => "mlp",
        };
        format!("model.layers.{}.{part}.{name}", self.layer)
    }
}

impl From<&Lora> for LoraConfig {
    fn from(lora: &Lora) -> LoraConfig {
        LoraConfig {
            rank: lora.rank,
            alpha: lora.alpha,
            dropout: 0.0,
            targets: lora.targets.clone(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            use_rslora: false,
        }
    }
}

impl From<&LoraConfig> for LoraConfig {
    fn from(config: &LoraConfig) -> LoraConfig {
        config.clone()
    }
}

impl LoraConfig {
    /// Whether an adapter of the model can be made like this.
    ///
    /// # Errors
    /// [`LearnError::Adapter`] naming the setting, what it is and what was expected. A pattern that matches none
    /// of the adapted layers is one of them.
    pub fn check(&self, config: &ModelConfig) -> Result<(), LearnError> {
        self.check_numbers()?;
        let mut targets = self.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() || targets.len() != self.targets.len() {
            return refuse(format!(
                "the target layers are [{}]; expected at least one of {}, each once",
                names(&self.targets),
                names(&Projection::ALL)
            ));
        }
        let rules = Rules::new(self)?;
        let modules: Vec<String> = self.sites(config).map(Site::module).collect();
        let patterns = [("rank_pattern", &rules.ranks), ("alpha_pattern", &rules.alphas)];
        for (field, key, regex) in patterns
            .iter()
            .flat_map(|(field, patterns)| patterns.iter().map(move |(key, regex)| (field, key, regex)))
        {
            if !modules.iter().any(|module| regex.is_match(module.as_bytes())) {
                return refuse(format!(
                    "`{key}` of `{field}` matches no adapted layer; there are {} in blocks 0 to {}, with paths \
                     such as `{}`",
                    names(&self.targets),
                    config.layers.saturating_sub(1),
                    modules.first().map_or("", String::as_str)
                ));
            }
        }
        Ok(())
    }

    /// What can be said without a model.
    pub(crate) fn check_numbers(&self) -> Result<(), LearnError> {
        let ranks = self.rank_pattern.iter().map(|(key, rank)| (format!("the rank of `{key}`"), *rank));
        for (name, rank) in [("the rank".to_owned(), self.rank)].into_iter().chain(ranks) {
            if rank == 0 || rank > RANK_MAX {
                return refuse(format!("{name} is {rank}; expected 1 to {RANK_MAX}"));
            }
        }
        let alphas = self.alpha_pattern.iter().map(|(key, alpha)| (format!("alpha of `{key}`"), *alpha));
        for (name, alpha) in [("alpha".to_owned(), self.alpha)].into_iter().chain(alphas) {
            if !alpha.is_finite() {
                return refuse(format!("{name} is {alpha}; expected a finite number"));
            }
        }
        check_dropout(self.dropout)
    }

    /// The adapted layers, block by block.
    fn sites(&self, config: &ModelConfig) -> impl Iterator<Item = Site> {
        (0..config.layers)
            .flat_map(|layer| self.targets.iter().map(move |&projection| Site { layer, projection }))
    }
}

/// Whether this share of a LoRA's input can be dropped.
pub(crate) fn check_dropout(share: f64) -> Result<(), LearnError> {
    if (0.0..1.0).contains(&share) {
        return Ok(());
    }
    refuse(format!("the dropout is {share}; expected a number from 0 to below 1"))
}

fn refuse<T>(reason: String) -> Result<T, LearnError> {
    Err(LearnError::Adapter(reason))
}

fn names(projections: &[Projection]) -> String {
    projections.iter().map(|projection| projection.as_str()).collect::<Vec<_>>().join(", ")
}

/// The patterns of a [`LoraConfig`], ready to match.
pub(crate) struct Rules<'a> {
    config: &'a LoraConfig,
    ranks: Vec<(&'a str, Regex)>,
    alphas: Vec<(&'a str, Regex)>,
}

impl<'a> Rules<'a> {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// [`LearnError::Adapter`] naming a key that is not a supported regular expression.
    pub(crate) fn new(config: &'a LoraConfig) -> Result<Rules<'a>, LearnError> {
        let ranks = config.rank_pattern.iter().map(|(key, _)| key.as_str());
        let alphas = config.alpha_pattern.iter().map(|(key, _)| key.as_str());
        Ok(Rules {
            config,
            ranks: compiled("rank_pattern", ranks)?,
            alphas: compiled("alpha_pattern", alphas)?,
        })
    }

    /// Rank and scale of a layer, as PEFT computes them.
    pub(crate) fn of(&self, site: Site) -> (u32, f64) {
        let module = site.module();
        let first = |patterns: &[(&str, Regex)]| {
            patterns.iter().position(|(_, regex)| regex.is_match(module.as_bytes()))
        };
        let rank = first(&self.ranks).map_or(self.config.rank, |at| self.config.rank_pattern[at].1);
        let alpha = first(&self.alphas).map_or(self.config.alpha, |at| self.config.alpha_pattern[at].1);
        let divisor = if self.config.use_rslora { f64::from(rank).sqrt() } else { f64::from(rank) };
        (rank, alpha / divisor)
    }
}

/// Keys as PEFT's `get_pattern_key` matches them. Paths are ASCII, so classes mean their ASCII part.
fn compiled<'a>(
    field: &str,
    keys: impl ExactSizeIterator<Item = &'a str>,
) -> Result<Vec<(&'a str, Regex)>, LearnError> {
    if keys.len() > PATTERNS_MAX {
        return refuse(format!("`{field}` has {} patterns; the limit is {PATTERNS_MAX}", keys.len()));
    }
    let mut seen = BTreeSet::new();
    let mut patterns = Vec::with_capacity(keys.len());
    for key in keys {
        if !seen.insert(key) {
            return refuse(format!("`{field}` has `{key}` twice"));
        }
        let regex = RegexBuilder::new(&format!(r"\A(?:(.*\.)?({key})$)"))
            .unicode(false)
            .size_limit(PATTERN_BYTES_MAX)
            .build();
        // The library's message repeats the expression in several lines; the last says what is wrong.
        let regex = regex.map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            LearnError::Adapter(format!("`{key}` of `{field}` is no pattern that can be used: {reason}"))
        })?;
        patterns.push((key, regex));
    }
    Ok(patterns)
}

/// One layer of [`Adapter::combine`], of at least one part.
fn side_by_side(site: Site, parts: &[(f64, &LoraPair)]) -> Result<LoraPair, LearnError> {
    let shape = |pair: &LoraPair| (pair.b.dims().first().copied(), pair.a.dims().get(1).copied());
    if let Some((_, other)) = parts.iter().find(|(_, pair)| shape(pair) != shape(parts[0].1)) {
        let (one, module) = (parts[0].1, site.module());
        return refuse(format!(
            "adapters of different models cannot be combined: `{module}` has A {:?} and B {:?} in one, A {:?} and \
             B {:?} in another",
            one.a.dims(),
            one.b.dims(),
            other.a.dims(),
            other.b.dims()
        ));
    }
    let mut scaled = Vec::with_capacity(parts.len());
    for (weight, pair) in parts {
        let factor = weight * pair.scale;
        if !(factor as f32).is_finite() {
            return refuse(format!("{weight:?} is no weight to combine it with; expected a finite number"));
        }
        scaled.push(pair.b.affine(factor, 0.0)?);
    }
    let a: Vec<&Tensor> = parts.iter().map(|(_, pair)| &pair.a).collect();
    Ok(LoraPair { a: Tensor::cat(&a, 0)?, b: Tensor::cat(&scaled, 1)?, scale: 1.0 })
}

impl Adapter {
    /// A new adapter as PEFT starts one: A uniform in `+-1/sqrt(in)` (Kaiming with a = sqrt 5), B zero, so that
    /// it changes nothing. The seed decides A. Settings are a [`LoraConfig`] or what an edit asks for.
    ///
    /// # Errors
    /// See [`LoraConfig::check`].
    pub fn init(config: &ModelConfig, lora: impl Into<LoraConfig>, seed: u64) -> Result<Adapter, LearnError> {
        let lora = lora.into();
        lora.check(config)?;
        let rules = Rules::new(&lora)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut pairs = BTreeMap::new();
        for site in lora.sites(config) {
            let ((rank, scale), (out, input)) = (rules.of(site), site.shape(config));
            let rank = rank as usize;
            let bound = 1.0 / (input as f32).sqrt();
            let a: Vec<f32> = (0..rank * input).map(|_| rng.random_range(-bound..bound)).collect();
            let a = Tensor::from_vec(a, (rank, input), &Device::Cpu)?;
            let b = Tensor::zeros((out, rank), candle_core::DType::F32, &Device::Cpu)?;
            pairs.insert(site, LoraPair { a, b, scale });
        }
        Ok(Adapter { pairs })
    }

    /// The adapter with its matrices, f32 as ever, on a device; one that is there already is shared.
    ///
    /// # Errors
    /// The tensor library's, such as too little memory there.
    pub fn to_device(&self, device: &Device) -> Result<Adapter, LearnError> {
        let mut moved = self.clone();
        for pair in moved.pairs.values_mut() {
            (pair.a, pair.b) = (pair.a.to_device(device)?, pair.b.to_device(device)?);
        }
        Ok(moved)
    }

    /// The largest rank of a pair; 0 for an empty adapter.
    pub fn rank(&self) -> usize {
        self.pairs.values().filter_map(|pair| pair.a.dim(0).ok()).max().unwrap_or(0)
    }

    /// The adapted sites, in order.
    pub fn sites(&self) -> impl Iterator<Item = (Site, &LoraPair)> {
        self.pairs.iter().map(|(&site, pair)| (site, pair))
    }

    /// Trainable numbers.
    pub fn parameters(&self) -> usize {
        self.pairs.values().map(|pair| pair.a.elem_count() + pair.b.elem_count()).sum()
    }

    /// The adapter whose update is the sum of this one's and `later`'s, exactly: see [`Adapter::combine`].
    ///
    /// # Errors
    /// When the two are of models of different shapes.
    pub fn stack(&self, later: &Adapter) -> Result<Adapter, LearnError> {
        Adapter::combine(&[(1.0, self), (1.0, later)])
    }

    /// The adapter whose update of every layer is `sum of weight * update` over the parts, up to rounding: ranks
    /// are laid side by side, with weights and scales moved into B (so the result's scale is 1). A layer that
    /// only some parts adapt is adapted by those. Weights may be negative; a weight of 0 keeps its part's rank.
    ///
    /// # Errors
    /// [`LearnError::Adapter`] for a weight that is not finite, and when the parts are of models of different
    /// shapes.
    pub fn combine(parts: &[(f64, &Adapter)]) -> Result<Adapter, LearnError> {
        let mut pairs: BTreeMap<Site, LoraPair> = BTreeMap::new();
        for site in parts.iter().flat_map(|(_, adapter)| adapter.pairs.keys()) {
            if !pairs.contains_key(site) {
                let parts: Vec<(f64, &LoraPair)> = parts
                    .iter()
                    .filter_map(|(weight, adapter)| Some((*weight, adapter.pairs.get(site)?)))
                    .collect();
                pairs.insert(*site, side_by_side(*site, &parts)?);
            }
        }
        Ok(Adapter { pairs })
    }

    /// Whether every pair fits the model.
    ///
    /// # Errors
    /// [`LearnError::Adapter`] naming the layer.
    pub fn check(&self, config: &ModelConfig) -> Result<(), LearnError> {
        for (site, pair) in &self.pairs {
            if site.layer >= config.layers {
                let (module, blocks) = (site.module(), config.layers);
                return Err(LearnError::Adapter(format!(
                    "`{module}` is not in this model of {blocks} blocks"
                )));
            }
            let (out, input) = site.shape(config);
            let (a, b) = (pair.a.dims(), pair.b.dims());
            let fits = a.len() == 2 && b.len() == 2 && a[1] == input && b[0] == out;
            if !fits || a[0] != b[1] || a[0] == 0 {
                return Err(LearnError::Adapter(format!(
                    "`{}` has A {a:?} and B {b:?} for a layer of {out}x{input}",
                    site.module()
                )));
            }
        }
        Ok(())
    }
}
