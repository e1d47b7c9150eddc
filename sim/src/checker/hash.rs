//! A hasher without a seed, so that nothing the checker does depends on where a table puts things.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Multiply and rotate, as the Rust compiler does: fast for the small integer keys used here.
#[derive(Default)]
pub(super) struct Fixed(u64);

const FACTOR: u64 = 0x51_7c_c1_b7_27_22_0a_95;

impl Fixed {
    const fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Fixed {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.add(u64::from(byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.add(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }
}

/// A map with the hasher without a seed.
pub(super) type FixedMap<K, V> = HashMap<K, V, BuildHasherDefault<Fixed>>;

/// A map from 64-bit values to small numbers that is emptied in constant time, for many keys in
/// turn.
#[derive(Default)]
pub(super) struct ValueTable {
    slots: Vec<(u64, u32, u32)>,
    epoch: u32,
    len: usize,
}

impl ValueTable {
    /// Empties the table and makes room for `capacity` values.
    pub(super) fn reset(&mut self, capacity: usize) {
        let want = (capacity.max(8) * 2).next_power_of_two();
        self.len = 0;
        if self.slots.len() < want || self.epoch == u32::MAX {
            self.slots.clear();
            self.slots.resize(want, (0, 0, 0));
            self.epoch = 0;
        }
        self.epoch += 1;
    }

    fn start(&self, value: u64) -> usize {
        let hash = value.wrapping_mul(FACTOR);
        // The length is a power of two, and the upper bits are the mixed ones.
        (hash >> 32) as usize & (self.slots.len() - 1)
    }

    /// The number of `value`, which is `fresh` if the value is new.
    pub(super) fn insert(&mut self, value: u64, fresh: u32) -> u32 {
        if self.len * 2 >= self.slots.len() {
            self.grow();
        }
        let mut at = self.start(value);
        loop {
            let slot = &mut self.slots[at];
            if slot.1 != self.epoch {
                *slot = (value, self.epoch, fresh);
                self.len += 1;
                return fresh;
            }
            if slot.0 == value {
                return slot.2;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// The number of `value`, if it has one.
    pub(super) fn get(&self, value: u64) -> Option<u32> {
        let mut at = self.start(value);
        loop {
            let slot = self.slots[at];
            if slot.1 != self.epoch {
                return None;
            }
            if slot.0 == value {
                return Some(slot.2);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        let epoch = self.epoch;
        self.slots.resize(old.len() * 2, (0, 0, 0));
        self.epoch = 1;
        self.len = 0;
        for (value, then, number) in old {
            if then == epoch {
                self.insert(value, number);
            }
        }
    }
}
