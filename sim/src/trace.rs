//! The trace hash: 128 bits over every event of a run, in order.
//!
//! Two runs of one plan must have equal hashes, on any machine, in any process, after any other
//! runs, in debug and release. It is a fingerprint, not a defence: nobody forges traces.
//!
//! Must never know: what the words mean.

use std::hash::Hasher;

/// A rolling hash of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceHash {
    low: u64,
    high: u64,
}

impl Default for TraceHash {
    fn default() -> Self {
        Self { low: 0x243f_6a88_85a3_08d3, high: 0x1319_8a2e_0370_7344 }
    }
}

impl TraceHash {
    /// Adds a word.
    #[inline]
    pub const fn word(&mut self, word: u64) {
        let mixed = (self.low ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.low = mixed ^ (mixed >> 29);
        self.high = (self.high.rotate_left(23) ^ self.low).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }

    /// The hash of what was added so far.
    #[must_use]
    pub const fn value(&self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }
}

/// So that anything that derives `Hash` can be added. Bytes are taken little-endian and `usize` as
/// 64 bits, so the hash is the same on every platform.
impl Hasher for TraceHash {
    fn finish(&self) -> u64 {
        self.low ^ self.high
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64);
    }

    #[inline]
    fn write_u8(&mut self, word: u8) {
        self.word(u64::from(word));
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.word(u64::from(word));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.word(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }

    #[inline]
    fn write_isize(&mut self, word: isize) {
        self.word(word as i64 as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_content_matter() {
        let hash = |words: &[u64]| {
            let mut hash = TraceHash::default();
            words.iter().for_each(|&word| hash.word(word));
            hash.value()
        };
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[1, 2]), hash(&[1, 2, 0]));
        assert_ne!(hash(&[0]), hash(&[]));
        assert_eq!(hash(&[]), 0x1319_8a2e_0370_7344_243f_6a88_85a3_08d3);
    }
}
