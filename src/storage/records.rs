//! What was found in a store, as it was written: decoded only when somebody takes it.
//!
//! A node's state takes several times the memory of its encoding, so records are kept encoded until
//! the node takes them one by one, and are freed as it does.

use std::collections::VecDeque;
use std::fmt;
use std::ops::RangeInclusive;

use super::block::{BLOCK_FULL, Sink};
use crate::base::Incarnation;
use crate::node::Record;
use crate::wire::{self, DecodeError};

/// Records in their order, decoded as they are taken.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Records {
    pieces: VecDeque<Piece>,
    len: usize,
    packed: bool,
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    /// Frames, of which each has been decoded once; of a checkpoint, one life stands for all.
    Frames {
        bytes: Vec<u8>,
        packed: bool,
    },
    Plain(VecDeque<Record>),
}

impl Records {
    /// How many records there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is added from now on is of a checkpoint, or not.
    pub(super) const fn pack(&mut self, packed: bool) {
        self.packed = packed;
    }
}

/// Takes records in their order.
#[derive(Debug)]
pub struct IntoIter {
    records: Records,
    /// Where the next frame of the first piece is.
    at: usize,
    /// Lives that one record stood for.
    lives: RangeInclusive<u32>,
}

impl IntoIterator for Records {
    type Item = Record;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter { records: self, at: 0, lives: 1..=0 }
    }
}

impl Iterator for IntoIter {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if let Some(life) = self.lives.next() {
            return Some(Record::Incarnation(Incarnation(life)));
        }
        loop {
            match self.records.pieces.front_mut()? {
                Piece::Frames { bytes, packed } if self.at < bytes.len() => {
                    let (record, used) =
                        wire::decode(&bytes[self.at..]).expect("it was decoded before");
                    self.at += used;
                    if *packed && let Record::Incarnation(last) = record {
                        self.lives = 1..=last.0;
                        return self.next();
                    }
                    return Some(record);
                }
                Piece::Plain(records) if !records.is_empty() => return records.pop_front(),
                Piece::Frames { .. } | Piece::Plain(_) => {
                    self.records.pieces.pop_front();
                    self.at = 0;
                }
            }
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.len)
    }
}

impl From<Vec<Record>> for Records {
    fn from(records: Vec<Record>) -> Self {
        let len = records.len();
        Self { pieces: VecDeque::from([Piece::Plain(records.into())]), len, packed: false }
    }
}

impl Sink for Records {
    fn take(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let (mut rest, mut count) = (body, 0);
        while !rest.is_empty() {
            let (_, used) = wire::decode::<Record>(rest)?;
            rest = &rest[used..];
            count += 1;
        }
        self.len += count;
        match self.pieces.back_mut() {
            Some(Piece::Frames { bytes, packed })
                if *packed == self.packed && bytes.len() + body.len() <= bytes.capacity() =>
            {
                bytes.extend_from_slice(body);
            }
            _ => {
                let mut bytes = Vec::with_capacity(body.len().max(BLOCK_FULL));
                bytes.extend_from_slice(body);
                self.pieces.push_back(Piece::Frames { bytes, packed: self.packed });
            }
        }
        Ok(())
    }
}
