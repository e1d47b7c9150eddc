//! What was found in a store, as it was written: decoded only when somebody takes it.
//!
//! A node's state takes several times the memory of its encoding, so records are kept encoded until
//! the node takes them one by one, and are freed as it does.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use super::StorageError;
use super::block::{BLOCK_FULL, Sink};
use crate::base::Incarnation;
use crate::node::Record;
use crate::wire::{self, DecodeError};

/// Adds the frame of a record.
pub(super) fn encode(record: &Record, frames: &mut Vec<u8>) -> Result<(), StorageError> {
    wire::encode(record, frames).map_err(|error| match error {
        DecodeError::TooLong { len } => StorageError::TooLong { len },
        DecodeError::Body { .. }
        | DecodeError::Checksum { .. }
        | DecodeError::Incomplete { .. }
        | DecodeError::Trailing { .. } => unreachable!("encoding: {error}"),
    })
}

/// Records in their order, decoded as they are taken.
#[derive(Clone, Default)]
pub struct Records {
    pieces: VecDeque<Piece>,
    len: usize,
    packed: bool,
}

#[derive(Clone)]
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

    /// Adds frames of so many records, which have been decoded once.
    pub(super) fn push(&mut self, frames: &[u8], count: usize) {
        self.len += count;
        match self.pieces.back_mut() {
            Some(Piece::Frames { bytes, packed })
                if *packed == self.packed && bytes.len() + frames.len() <= bytes.capacity() =>
            {
                bytes.extend_from_slice(frames);
            }
            _ => {
                let mut bytes = Vec::with_capacity(frames.len().max(BLOCK_FULL));
                bytes.extend_from_slice(frames);
                self.pieces.push_back(Piece::Frames { bytes, packed: self.packed });
            }
        }
    }
}

/// Of the same records, however they are kept.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.clone().into_iter().eq(other.clone())
    }
}

impl Eq for Records {}

/// Takes records in their order.
#[derive(Debug)]
pub struct IntoIter {
    records: Records,
    /// Where the next frame of the first piece is.
    at: usize,
    /// Lives that one record stood for, less one.
    lives: Range<u32>,
}

impl IntoIterator for Records {
    type Item = Record;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter { records: self, at: 0, lives: Range::default() }
    }
}

impl Iterator for IntoIter {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if let Some(life) = self.lives.next() {
            return Some(Record::Incarnation(Incarnation(life + 1)));
        }
        loop {
            match self.records.pieces.front_mut()? {
                Piece::Frames { bytes, packed } if self.at < bytes.len() => {
                    let (record, used) =
                        wire::decode(&bytes[self.at..]).expect("it was decoded before");
                    self.at += used;
                    if *packed && let Record::Incarnation(last) = record {
                        self.lives = 0..last.0;
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
        self.push(body, count);
        Ok(())
    }
}
