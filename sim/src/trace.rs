//! The trace hash: 128 bits over every event of a run, in order.
//!
//! Two runs of one plan must have equal hashes, on any machine, in any process, after any other
//! runs, in debug and release. It is a fingerprint, not a defence: nobody forges traces.
//!
//! Must never know: what the words mean.

use std::hash::Hasher;

/// A rolling hash of words: the even ones go into one half, the odd ones into the other, so that
/// neither has to wait for the multiplication of the word before.
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
        // Each step can be undone, so a difference once there stays.
        let mixed = (self.low ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.low = self.high;
        self.high = mixed ^ (mixed >> 29);
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
    use std::hash::Hash;

    use synod::{
        Ballot, ClientId, ClusterId, Effect, Ending, Epoch, Event, Key, Life, NodeId, Outcome,
        Record, RegisterId, RequestId, TableId, Ticket,
    };

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

    /// What is said, answered, told and written is in the hash to the last field.
    #[test]
    fn every_field_of_an_effect_matters() {
        let hash = |effect: &Effect| {
            let mut hash = TraceHash::default();
            effect.hash(&mut hash);
            hash.value()
        };
        let (client, request) = (ClientId::new(1), RequestId(1));
        let reply = |outcome| hash(&Effect::Reply { client, request, outcome });
        let version = |round| Ballot { round, ..Ballot::genesis(Epoch(1)) };
        let found = |round| reply(Outcome::Found { entry: None, version: version(round) });
        assert_ne!(reply(Outcome::Done), reply(Outcome::Unknown));
        assert_ne!(found(1), found(2));
        let notify = |event| hash(&Effect::Notify { client, event });
        let reachable = |nodes| notify(Event::Reachable { nodes, size: 3 });
        assert_ne!(reachable(1), reachable(2));
        let ended = |ending| {
            let (table, key, generation) = (TableId(0), Key::from("k"), version(1));
            notify(Event::Ended { table, key, generation, ending })
        };
        assert_ne!(ended(Ending::Removed), ended(Ending::Unseen));
        let register = |key| RegisterId::Key(TableId(0), Key::from(key));
        let records = |records| hash(&Effect::Persist { ticket: Ticket(1), records });
        let promised =
            |key| records(vec![Record::Promised { register: register(key), ballot: version(1) }]);
        assert_ne!(promised("k"), promised("l"));
        let born = |life| {
            let (cluster, node) = (ClusterId(1), NodeId(1));
            records(vec![Record::Born { cluster, node, life: Life(life) }])
        };
        assert_ne!(born(1), born(2));
    }
}
