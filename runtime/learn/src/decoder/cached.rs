//! Growing sequences: keys and values of the tokens so far, and the pass that adds some.

use candle_core::{Result, Tensor};
use candle_nn::kv_cache::KvCache;

use super::{Decoder, Lane, Rows};
use crate::config::ModelConfig;
use crate::error::LearnError;
use crate::ops::{self, Pattern};

/// Keys and values of one sequence's tokens so far, one pair a block.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Vec<KvCache>,
    len: usize,
}

/// A sequence and the tokens by which it grows.
pub(crate) struct Extension<'a> {
    pub(crate) cache: &'a mut Cache,
    pub(crate) ids: &'a [u32],
    pub(crate) positions: &'a [u32],
}

impl Cache {
    /// Room for `capacity` tokens.
    pub(crate) fn new(config: &ModelConfig, capacity: usize) -> Cache {
        Cache { blocks: vec![KvCache::new(0, capacity); config.layers], len: 0 }
    }

    /// Tokens held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A copy with room of its own to grow. (A clone of the library's cache would share its buffers.)
    pub(crate) fn duplicate(&self, capacity: usize) -> Result<Cache> {
        self.head(self.len, capacity)
    }

    /// A copy of the first `len` tokens' keys and values; there must be as many.
    pub(crate) fn head(&self, len: usize, capacity: usize) -> Result<Cache> {
        let blocks = vec![KvCache::new(0, capacity); self.blocks.len()];
        let mut copy = Cache { blocks, len };
        for (from, to) in self.blocks.iter().zip(&mut copy.blocks) {
            if let (Some(k), Some(v)) = (from.k()?, from.v()?) {
                to.append(&k.narrow(0, 0, len)?.contiguous()?, &v.narrow(0, 0, len)?.contiguous()?)?;
            }
        }
        Ok(copy)
    }
}

impl Decoder {
    /// One pass by which sequences with caches grow; the lanes' rows are those of all extensions in order.
    /// Returns the residual stream of the last row of each, `[extensions, H]`.
    ///
    /// # Errors
    /// An extension without tokens or with another number of positions, and the tensor library's.
    pub(crate) fn extend(
        &self,
        extensions: &mut [Extension<'_>],
        lanes: &[Lane<'_>],
    ) -> std::result::Result<Tensor, LearnError> {
        ops::on_pool(|| self.extend_here(extensions, lanes))
    }

    fn extend_here(
        &self,
        extensions: &mut [Extension<'_>],
        lanes: &[Lane<'_>],
    ) -> std::result::Result<Tensor, LearnError> {
        let mut rows = Rows::default();
        let mut asked = Vec::with_capacity(extensions.len());
        for extension in &*extensions {
            if extension.ids.is_empty() {
                return Err(LearnError::Render("a sequence cannot grow by no token".to_owned()));
            }
            rows.push(extension.ids, extension.positions)?;
            asked.push(rows.ids.len() as u32 - 1);
        }
        let all = self.all(&rows, lanes)?;
        let asked = self.asked(&rows, &all, &asked)?;
        let mut x = self.embed(&rows.ids)?;
        for layer in 0..self.blocks.len() {
            let last = layer + 1 == self.blocks.len();
            let side = if last { &asked } else { &all };
            x = self
                .block(layer, &x, &all, side, lanes, &mut |q, k, v| {
                    Ok((self.attend_cached(layer, &q, &k, &v, extensions, last)?, k, v))
                })?
                .1;
        }
        for extension in extensions {
            extension.cache.len += extension.ids.len();
        }
        Ok(x)
    }

    /// Attention of each sequence over what it has cached, to which `k` and `v` are added first.
    fn attend_cached(
        &self,
        layer: usize,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        extensions: &mut [Extension<'_>],
        last_rows: bool,
    ) -> Result<Tensor> {
        let (mut parts, mut query, mut key) = (Vec::with_capacity(extensions.len()), 0, 0);
        for extension in extensions {
            let new = extension.ids.len();
            let queries = if last_rows { 1 } else { new };
            let cache = &mut extension.cache.blocks[layer];
            let (k, v) = cache.append(&k.narrow(0, key, new)?, &v.narrow(0, key, new)?)?;
            let mut pattern = Pattern::default();
            pattern.push(queries, k.dim(0)?);
            parts.push(ops::attention(&q.narrow(0, query, queries)?, &k, &v, self.heads(), &pattern)?);
            (query, key) = (query + queries, key + new);
        }
        match parts.len() {
            1 => Ok(parts.swap_remove(0)),
            _ => Tensor::cat(&parts, 0),
        }
    }
}
