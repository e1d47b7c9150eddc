//! Files of blocks: what a log and its checkpoints are written in.
//!
//! A block is what one write adds: a header and frames of records, filled up to eight bytes.
//!
//! ```text
//! check u32 | length u32 | sequence u64 | synced u64 | previous u32 | checksum u32 | frames…
//! ```
//!
//! `check` is a checksum of the header alone, by which a block is known to begin. A search for
//! blocks takes no longer for values made to look like one: who made them knew no storage life.
//! `sequence` counts the blocks, across files. `synced` is the last block known to be durable when
//! this one was written: a hole at or below the `synced` of a block behind it was durable once, so
//! it is damage; any other is a tail that was cut off. `previous` is the checksum of the block
//! before, and both checksums cover the storage life and the file's number too, so that neither an
//! older nor another file's block can stand in for the one that is missing.

use std::io;

use super::disk::DiskFile;
use crate::base::Life;
use crate::node::Record;
use crate::wire::{self, DecodeError, FRAME_MAX};

const HEADER: usize = 32;
const ALIGNMENT: usize = 8;

/// A block is written at the latest when its frames come to this much; one more record may fit.
pub(super) const BLOCK_FULL: usize = 1 << 20;

/// The most that the length of a block can be.
const BODY_MAX: usize = BLOCK_FULL + wire::HEADER + FRAME_MAX;

/// How much is read at once.
const READ: usize = 256 << 10;

/// A place between two blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// In bytes from the start of the file.
    pub(super) offset: u64,
    /// The sequence number of the block before it.
    pub(super) sequence: u64,
    /// The checksum of that.
    pub(super) chain: u32,
}

/// Which file this is; part of every checksum in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) life: Life,
    pub(super) number: u64,
}

impl Seal {
    fn checksum(self, parts: &[&[u8]]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.life.0.to_le_bytes());
        hasher.update(&self.number.to_le_bytes());
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize()
    }
}

struct Header {
    length: usize,
    sequence: u64,
    synced: u64,
    previous: u32,
}

impl Header {
    /// The header of a block of these frames, and the block's checksum.
    fn encode(&self, seal: Seal, frames: &[u8]) -> (u32, [u8; HEADER]) {
        let mut bytes = [0; HEADER];
        bytes[4..8].copy_from_slice(&(self.length as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.synced.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.previous.to_le_bytes());
        let checksum = seal.checksum(&[&bytes[4..28], frames]);
        bytes[28..].copy_from_slice(&checksum.to_le_bytes());
        let check = seal.checksum(&[&bytes[4..]]);
        bytes[..4].copy_from_slice(&check.to_le_bytes());
        (checksum, bytes)
    }

    /// The header, and the block's checksum.
    fn decode(seal: Seal, bytes: &[u8; HEADER]) -> Result<(Self, u32), &'static str> {
        let short = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        if short(0) != seal.checksum(&[&bytes[4..]]) {
            return Err("no block where one should begin");
        }
        let length = short(4) as usize;
        if length > BODY_MAX {
            return Err("a block of impossible length");
        }
        let (sequence, synced) = (long(8), long(16));
        Ok((Self { length, sequence, synced, previous: short(24) }, short(28)))
    }
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

/// Appends blocks to a file.
pub(super) struct Writer<F> {
    pub(super) file: F,
    pub(super) seal: Seal,
    pub(super) position: Position,
    /// Zeros are written ahead in pieces of this size, so that most syncs find their blocks
    /// allocated and write nothing but data. Zero for none.
    ahead: u64,
    allocated: u64,
    block: Vec<u8>,
}

impl<F: DiskFile> Writer<F> {
    pub(super) fn new(file: F, seal: Seal, sequence: u64, chain: u32, ahead: u64) -> Self {
        let position = Position { offset: 0, sequence, chain };
        Self { file, seal, position, ahead, allocated: 0, block: Vec::new() }
    }

    /// Writes zeros to be written over.
    pub(super) fn allocate(&mut self, end: u64) -> io::Result<()> {
        if self.ahead == 0 || end <= self.allocated {
            return Ok(());
        }
        let end = end.next_multiple_of(self.ahead);
        let start = self.allocated.max(self.position.offset);
        let zeros = vec![0; (end - start) as usize];
        self.file.write_at(start, &zeros)?;
        self.allocated = end;
        Ok(())
    }

    /// Writes a block of these frames; it is durable with the next sync of the file.
    pub(super) fn put(&mut self, frames: &[u8], synced: u64) -> io::Result<()> {
        let header = Header {
            length: frames.len(),
            sequence: self.position.sequence + 1,
            synced,
            previous: self.position.chain,
        };
        let (checksum, bytes) = header.encode(self.seal, frames);
        self.block.clear();
        self.block.extend_from_slice(&bytes);
        self.block.extend_from_slice(frames);
        self.block.resize(HEADER + padded(frames.len()), 0);
        let end = self.position.offset + self.block.len() as u64;
        self.allocate(end)?;
        self.file.write_at(self.position.offset, &self.block)?;
        // A record of the greatest length must not hold its memory for ever.
        self.block.shrink_to(BLOCK_FULL * 2);
        self.position = Position { offset: end, sequence: header.sequence, chain: checksum };
        Ok(())
    }
}

/// Reads the blocks of a file, from a place between two on.
pub(super) struct Reader<F> {
    file: F,
    seal: Seal,
    pub(super) position: Position,
    /// What has been read ahead, and where it begins.
    buffer: Vec<u8>,
    start: u64,
}

/// What comes next in a file.
pub(super) enum Next {
    /// A block, whose records were added.
    Block,
    /// No whole block, and why: a torn tail, or damage.
    Invalid(&'static str),
    /// A whole block that cannot have been written here: never a torn tail.
    Wrong(&'static str),
}

impl<F: DiskFile> Reader<F> {
    pub(super) const fn new(file: F, seal: Seal, position: Position) -> Self {
        Self { file, seal, position, buffer: Vec::new(), start: position.offset }
    }

    /// The bytes from the position on, fewer only where the file ends.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        let from = (self.position.offset - self.start) as usize;
        if self.buffer.len() < from + count {
            self.buffer.drain(..from.min(self.buffer.len()));
            self.start = self.position.offset;
            let have = self.buffer.len();
            let at = self.start + have as u64;
            let rest = self.file.length()?.saturating_sub(at);
            let wanted = rest.min((count.max(READ) - have) as u64) as usize;
            self.buffer.resize(have + wanted, 0);
            let got = self.file.read_at(at, &mut self.buffer[have..])?;
            self.buffer.truncate(have + got);
        }
        let from = (self.position.offset - self.start) as usize;
        let end = self.buffer.len().min(from + count);
        Ok(&self.buffer[from.min(end)..end])
    }

    /// Adds the records of the next block to `records`.
    pub(super) fn next(&mut self, records: &mut impl Sink) -> io::Result<Next> {
        let (before, seal) = (self.position, self.seal);
        let Some(&bytes) = self.peek(HEADER)?.first_chunk() else {
            return Ok(Next::Invalid("the file ends where a block should begin"));
        };
        let (header, checksum) = match Header::decode(seal, &bytes) {
            Ok(decoded) => decoded,
            Err(why) => return Ok(Next::Invalid(why)),
        };
        let Some(body) = self.peek(HEADER + header.length)?.get(HEADER..HEADER + header.length)
        else {
            return Ok(Next::Invalid("the file ends within a block"));
        };
        if seal.checksum(&[&bytes[4..28], body]) != checksum {
            return Ok(Next::Invalid("a block's checksum is wrong"));
        }
        if header.sequence != before.sequence + 1 || header.previous != before.chain {
            return Ok(Next::Wrong("a block that belongs elsewhere"));
        }
        if records.take(body).is_err() {
            return Ok(Next::Wrong("a block holds no records that this version can read"));
        }
        self.position = Position {
            offset: before.offset + (HEADER + padded(header.length)) as u64,
            sequence: header.sequence,
            chain: checksum,
        };
        Ok(Next::Block)
    }

    /// Whether anything behind the position proves that the block which should be here was
    /// durable: a later block written when it was.
    pub(super) fn was_durable(&mut self) -> io::Result<bool> {
        let missing = self.position.sequence + 1;
        let length = self.file.length()?.saturating_sub(self.position.offset);
        let mut rest = vec![0; length as usize];
        let got = self.file.read_at(self.position.offset, &mut rest)?;
        rest.truncate(got);
        for at in (0..rest.len()).step_by(ALIGNMENT) {
            let Some(bytes) = rest[at..].first_chunk() else { break };
            let Ok((header, checksum)) = Header::decode(self.seal, bytes) else { continue };
            // One of the past, copied into a value, says nothing.
            if header.sequence < missing || header.synced < missing {
                continue;
            }
            let Some(body) = rest.get(at + HEADER..at + HEADER + header.length) else { continue };
            if self.seal.checksum(&[&bytes[4..28], body]) == checksum {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Takes what blocks carry.
pub(super) trait Sink {
    /// Takes the frames of a block: all, or none if one of them is no record.
    fn take(&mut self, body: &[u8]) -> Result<(), DecodeError>;
}

impl Sink for Vec<Record> {
    fn take(&mut self, mut body: &[u8]) -> Result<(), DecodeError> {
        let before = self.len();
        while !body.is_empty() {
            match wire::decode(body) {
                Ok((record, used)) => {
                    self.push(record);
                    body = &body[used..];
                }
                Err(error) => {
                    self.truncate(before);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// The frames of the last block, as they are.
#[derive(Default)]
pub(super) struct Body(pub(super) Vec<u8>);

impl Sink for Body {
    fn take(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        self.0.clear();
        self.0.extend_from_slice(body);
        Ok(())
    }
}
