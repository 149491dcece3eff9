//! Seeds from a seed, and a small generator: the same on every platform and in every version.
//!
//! A ledger row must be replayable for years, so neither the hash nor the generator is borrowed from a
//! library that may change its stream.

use sha2::{Digest, Sha256};

/// The seed of one use of randomness: the first 8 bytes, little-endian, of
/// SHA-256(`seed` as 8 little-endian bytes, then `path`). Uses with different paths are independent.
pub fn derive_seed(seed: u64, path: &str) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(path).finalize();
    digest.iter().take(8).rev().fold(0, |seed, &byte| (seed << 8) | u64::from(byte))
}

/// Steele, Lea and Flood's SplitMix64: 64 bits of state, one output a step.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The stream of a seed.
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, by the high half of a 128-bit product. Its bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// Fisher and Yates' shuffle, from the last item to the second.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_never_change() {
        let mut generator = SplitMix64::new(1_234_567);
        // The first outputs of the reference implementation for this seed.
        assert_eq!(
            [generator.next_u64(), generator.next_u64()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]
        );
        // Python: int.from_bytes(hashlib.sha256(bytes(8) + b"a").digest()[:8], "little").
        assert_eq!(derive_seed(0, "a"), 7_586_401_852_616_081_111);
        let mut items: Vec<u32> = (0..8).collect();
        SplitMix64::new(7).shuffle(&mut items);
        assert_eq!(items, [7, 4, 6, 1, 2, 5, 0, 3]);
    }
}
