//! Compaction, a little at a time: a checkpoint and the segments behind it become a new checkpoint.
//!
//! A checkpoint is in the order of registers. Segments are sorted in pieces that fit in a bounded
//! memory: each piece but the last is written to a file of its own, and then all are read as
//! streams, side by side with the old checkpoint. So it takes the same memory whatever is stored.

use std::collections::VecDeque;
use std::io;

use super::block::{Next, Position, Reader, Seal, Sink, Writer};
use super::checkpoint::{Checkpoint, Held};
use super::disk::DiskFile;
use super::manifest::Sealed;
use crate::base::{Life, RegisterId};
use crate::node::Record;
use crate::wire;

/// Blocks written here are about this long.
const BLOCK: usize = 64 << 10;

/// How much is written at most between two syncs, so that none takes long.
const SYNC: usize = 1 << 20;

/// Where a file of blocks is not what it was.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) offset: u64,
    pub(super) what: &'static str,
}

impl From<Flaw> for io::Error {
    fn from(flaw: Flaw) -> Self {
        let text = format!("damaged at byte {}: {}", flaw.offset, flaw.what);
        Self::new(io::ErrorKind::InvalidData, text)
    }
}

/// Reads a file of blocks that must be whole.
pub(super) struct Cursor<F> {
    reader: Reader<F>,
    end: Position,
}

impl<F: DiskFile> Cursor<F> {
    pub(super) const fn new(file: F, life: Life, sealed: Sealed) -> Self {
        let seal = Seal { life, number: sealed.number };
        let Sealed { sequence, chain, .. } = sealed;
        let reader = Reader::new(file, seal, Position { offset: 0, sequence, chain });
        Self { reader, end: sealed.end }
    }

    /// Adds the records of the next block; how many bytes it has, none at the end.
    pub(super) fn next(&mut self, records: &mut impl Sink) -> io::Result<Result<usize, Flaw>> {
        let before = self.reader.position;
        if before == self.end {
            return Ok(Ok(0));
        }
        let what = match self.reader.next(records)? {
            Next::Block if self.reader.position.offset <= self.end.offset => {
                return Ok(Ok((self.reader.position.offset - before.offset) as usize));
            }
            Next::Block => "it is not as long as it was",
            Next::Invalid(what) | Next::Wrong(what) => what,
        };
        Ok(Err(Flaw { offset: before.offset, what }))
    }
}

/// What a compaction needs a new file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A sorted piece, which nobody needs afterwards.
    Piece,
    /// The new checkpoint.
    Checkpoint,
}

/// Makes a file, and says which one it is.
pub(super) type Create<'a, F> = &'a mut dyn FnMut(Use) -> io::Result<(F, Seal)>;

/// A compaction under way.
pub(super) struct Merge<F> {
    /// How many segments go into it.
    pub(super) segments: usize,
    unread: VecDeque<Cursor<F>>,
    /// How many bytes of segments are sorted at a time.
    piece: u64,
    /// What has been read of the segments and is not in a sorted piece, and how many bytes it was.
    fresh: Checkpoint,
    read: u64,
    /// The old checkpoint and the sorted pieces, oldest first.
    sorted: Vec<Stream<F>>,
    stage: Stage<F>,
}

enum Stage<F> {
    /// Segments, into memory.
    Reading,
    /// What was read becomes a piece.
    Sorting(Output<F>, Preamble),
    /// What is not of a register comes to what it is, oldest first. What was read last is last.
    Folding(Box<Checkpoint>, Preamble),
    /// Everything becomes the new checkpoint.
    Writing(Output<F>, Preamble),
    Done,
}

/// What is not of a register and is yet to be dealt with, record by record.
type Preamble = Box<dyn Iterator<Item = Record> + Send>;

/// A sorted file, read from its beginning.
struct Stream<F> {
    cursor: Option<Cursor<F>>,
    records: VecDeque<Record>,
}

impl<F: DiskFile> Stream<F> {
    const fn new(cursor: Cursor<F>) -> Self {
        Self { cursor: Some(cursor), records: VecDeque::new() }
    }

    /// The next record.
    fn peek(&mut self) -> io::Result<Option<&Record>> {
        while self.records.is_empty()
            && let Some(cursor) = &mut self.cursor
        {
            let mut records = Vec::new();
            if cursor.next(&mut records)?? == 0 {
                self.cursor = None;
            }
            self.records.extend(records);
        }
        Ok(self.records.front())
    }

    /// Takes the next record if it is of this register, or of none.
    fn take(&mut self, of: Option<&RegisterId>) -> io::Result<Option<Record>> {
        let is_it = self.peek()?.is_some_and(|record| register(record) == of);
        Ok(if is_it { self.records.pop_front() } else { None })
    }
}

struct Output<F> {
    writer: Writer<F>,
    body: Vec<u8>,
    unsynced: usize,
}

impl<F: DiskFile> Output<F> {
    fn new((file, seal): (F, Seal)) -> Self {
        Self { writer: Writer::new(file, seal, 0, 0, 0), body: Vec::new(), unsynced: 0 }
    }

    fn put(&mut self, record: &Record) -> io::Result<usize> {
        let before = self.body.len();
        wire::encode(record, &mut self.body).expect("it was written before");
        let written = self.body.len() - before;
        if self.body.len() >= BLOCK {
            self.flush()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        self.writer.put(&self.body, 0)?;
        self.unsynced += self.body.len();
        self.body.clear();
        if self.unsynced >= SYNC {
            self.unsynced = 0;
            self.writer.file.sync()?;
        }
        Ok(())
    }

    /// Writes the rest; which file it was, and the file.
    fn finish(mut self) -> io::Result<(F, Sealed)> {
        self.flush()?;
        let Writer { file, seal, position, .. } = self.writer;
        Ok((file, Sealed { number: seal.number, sequence: 0, chain: 0, end: position }))
    }
}

fn register(record: &Record) -> Option<&RegisterId> {
    match record {
        Record::Accepted { register, .. } | Record::Promised { register, .. } => Some(register),
        Record::Active { .. }
        | Record::Begun { .. }
        | Record::Born { .. }
        | Record::Changed { .. }
        | Record::Incarnation(_)
        | Record::Replica { .. }
        | Record::Witnessed { .. } => None,
    }
}

impl<F: DiskFile> Merge<F> {
    /// Of the old checkpoint and the segments behind it. So many bytes of segments are sorted at a
    /// time.
    pub(super) fn new(old: Option<Cursor<F>>, segments: Vec<Cursor<F>>, piece: u64) -> Self {
        Self {
            segments: segments.len(),
            unread: VecDeque::from(segments),
            piece,
            fresh: Checkpoint::default(),
            read: 0,
            sorted: old.into_iter().map(Stream::new).collect(),
            stage: Stage::Reading,
        }
    }

    /// Reads or writes about `budget` bytes. Returns the new checkpoint when it is durable; its
    /// name is not yet.
    pub(super) fn step(
        &mut self,
        mut budget: usize,
        create: Create<'_, F>,
    ) -> io::Result<Option<Sealed>> {
        while budget > 0 {
            let done = match std::mem::replace(&mut self.stage, Stage::Done) {
                Stage::Reading => self.read(create)?,
                Stage::Sorting(output, preamble) => self.sort(output, preamble)?,
                Stage::Folding(all, fresh) => self.fold(all, fresh, create)?,
                Stage::Writing(mut output, mut preamble) => {
                    let written = match preamble.next() {
                        Some(record) => output.put(&record)?,
                        None => self.write_one(&mut output)?,
                    };
                    if written == 0 {
                        let (mut file, sealed) = output.finish()?;
                        file.sync()?;
                        return Ok(Some(sealed));
                    }
                    self.stage = Stage::Writing(output, preamble);
                    written
                }
                Stage::Done => unreachable!("a compaction is finished once"),
            };
            budget = budget.saturating_sub(done);
        }
        Ok(None)
    }

    /// Reads the next block of the segments, or goes on to what comes after them.
    fn read(&mut self, create: Create<'_, F>) -> io::Result<usize> {
        let Some(cursor) = self.unread.front_mut() else {
            let fresh = Box::new(self.fresh.take_preamble());
            self.stage = Stage::Folding(Box::default(), fresh);
            return Ok(0);
        };
        let mut records = Vec::new();
        let read = cursor.next(&mut records)??;
        self.fresh.extend(records);
        self.read += read as u64;
        if read == 0 {
            self.unread.pop_front();
        }
        // The last piece stays in memory.
        self.stage = if self.read >= self.piece && !self.unread.is_empty() {
            self.read = 0;
            let preamble = Box::new(self.fresh.take_preamble());
            Stage::Sorting(Output::new(create(Use::Piece)?), preamble)
        } else {
            Stage::Reading
        };
        Ok(read)
    }

    /// Writes the next of what was read to a piece.
    fn sort(&mut self, mut output: Output<F>, mut preamble: Preamble) -> io::Result<usize> {
        if let Some(record) = preamble.next() {
            let written = output.put(&record)?;
            self.stage = Stage::Sorting(output, preamble);
            return Ok(written);
        }
        let Some((_, held)) = self.fresh.registers.pop_first() else {
            let life = output.writer.seal.life;
            let (file, sealed) = output.finish()?;
            self.sorted.push(Stream::new(Cursor::new(file, life, sealed)));
            self.fresh = Checkpoint::default();
            self.stage = Stage::Reading;
            return Ok(0);
        };
        let mut written = 0;
        for record in held.into_records() {
            written += output.put(&record)?;
        }
        self.stage = Stage::Sorting(output, preamble);
        Ok(written)
    }

    /// Takes the next record that is not of a register; returns its size.
    fn fold(
        &mut self,
        mut all: Box<Checkpoint>,
        mut fresh: Preamble,
        create: Create<'_, F>,
    ) -> io::Result<usize> {
        let mut next = None;
        for stream in &mut self.sorted {
            next = stream.take(None)?;
            if next.is_some() {
                break;
            }
        }
        let Some(record) = next.or_else(|| fresh.next()) else {
            let output = Output::new(create(Use::Checkpoint)?);
            self.stage = Stage::Writing(output, Box::new(all.take_preamble()));
            return Ok(0);
        };
        let size = record.size();
        all.apply(record);
        self.stage = Stage::Folding(all, fresh);
        Ok(size)
    }

    /// Writes the next register; returns how many bytes that were, none if there is no more.
    fn write_one(&mut self, output: &mut Output<F>) -> io::Result<usize> {
        let mut next = self.fresh.registers.keys().next().cloned();
        for stream in &mut self.sorted {
            let Some(found) = stream.peek()?.and_then(register) else { continue };
            if next.as_ref().is_none_or(|next| found < next) {
                next = Some(found.clone());
            }
        }
        let Some(next) = next else { return Ok(0) };
        let mut held = Held::default();
        for stream in &mut self.sorted {
            while let Some(record) = stream.take(Some(&next))? {
                held.apply(record);
            }
        }
        if let Some(newer) = self.fresh.registers.remove(&next) {
            newer.into_records().for_each(|record| held.apply(record));
        }
        let mut written = 0;
        for record in held.into_records() {
            written += output.put(&record)?;
        }
        Ok(written)
    }
}
