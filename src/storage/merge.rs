//! Compaction, a little at a time: a checkpoint and the segments behind it become a new checkpoint.
//!
//! A checkpoint is in the order of registers, so it is read and written as a stream; only what the
//! segments hold is in memory, and they are at most about as long as the checkpoint.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::block::{Next, Position, Reader, Seal, Writer};
use super::checkpoint::{Checkpoint, Held};
use super::disk::DiskFile;
use super::manifest::Sealed;
use crate::base::RegisterId;
use crate::node::Record;
use crate::wire;

/// A checkpoint's blocks are about this long.
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
    pub(super) const fn new(file: F, life: crate::base::Life, sealed: Sealed) -> Self {
        let seal = Seal { life, number: sealed.number };
        let reader = Reader::new(file, seal, sealed.sequence, sealed.chain);
        Self { reader, end: sealed.end }
    }

    /// Adds the records of the next block; how many bytes it has, none at the end.
    pub(super) fn next(&mut self, records: &mut Vec<Record>) -> io::Result<Result<usize, Flaw>> {
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

/// A compaction under way.
pub(super) struct Merge<F> {
    /// How many segments go into it.
    pub(super) segments: usize,
    stage: Stage<F>,
}

enum Stage<F> {
    Reading {
        segments: VecDeque<Cursor<F>>,
        fresh: Box<Checkpoint>,
        old: Old<F>,
        output: Output<F>,
    },
    Writing {
        fresh: BTreeMap<RegisterId, Held>,
        old: Old<F>,
        output: Output<F>,
    },
    Done,
}

/// The checkpoint that is replaced.
struct Old<F> {
    cursor: Option<Cursor<F>>,
    records: VecDeque<Record>,
}

impl<F: DiskFile> Old<F> {
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
}

struct Output<F> {
    writer: Writer<F>,
    body: Vec<u8>,
    unsynced: usize,
}

impl<F: DiskFile> Output<F> {
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
}

fn register(record: &Record) -> Option<&RegisterId> {
    match record {
        Record::Accepted { register, .. } | Record::Promised { register, .. } => Some(register),
        Record::Active { .. }
        | Record::Begun { .. }
        | Record::Born { .. }
        | Record::Changed { .. }
        | Record::Incarnation(_)
        | Record::Witnessed { .. } => None,
    }
}

impl<F: DiskFile> Merge<F> {
    pub(super) fn new(old: Option<Cursor<F>>, segments: Vec<Cursor<F>>, writer: Writer<F>) -> Self {
        let old = Old { cursor: old, records: VecDeque::new() };
        let output = Output { writer, body: Vec::new(), unsynced: 0 };
        let count = segments.len();
        let (segments, fresh) = (VecDeque::from(segments), Box::default());
        Self { segments: count, stage: Stage::Reading { segments, fresh, old, output } }
    }

    /// Reads or writes about `budget` bytes. Returns the new checkpoint when it is durable; its
    /// name is not yet.
    pub(super) fn step(&mut self, mut budget: usize) -> io::Result<Option<Sealed>> {
        while budget > 0 {
            match &mut self.stage {
                Stage::Reading { segments, fresh, .. } => {
                    let Some(cursor) = segments.front_mut() else {
                        self.turn()?;
                        continue;
                    };
                    let mut records = Vec::new();
                    let read = cursor.next(&mut records)??;
                    fresh.extend(records);
                    if read == 0 {
                        segments.pop_front();
                    }
                    budget = budget.saturating_sub(read);
                }
                Stage::Writing { fresh, old, output } => match write_one(fresh, old, output)? {
                    0 => return self.finish().map(Some),
                    written => budget = budget.saturating_sub(written),
                },
                Stage::Done => unreachable!("a compaction is finished once"),
            }
        }
        Ok(None)
    }

    /// All segments are read: writes what is not of a register, and goes on to those.
    fn turn(&mut self) -> io::Result<()> {
        let Stage::Reading { fresh, mut old, mut output, .. } =
            std::mem::replace(&mut self.stage, Stage::Done)
        else {
            unreachable!("it turns once");
        };
        let mut both = Checkpoint::default();
        while old.peek()?.is_some_and(|record| register(record).is_none()) {
            both.extend(old.records.pop_front());
        }
        both.extend(fresh.preamble());
        for record in both.folded() {
            output.put(&record)?;
        }
        self.stage = Stage::Writing { fresh: fresh.registers, old, output };
        Ok(())
    }

    fn finish(&mut self) -> io::Result<Sealed> {
        let Stage::Writing { mut output, .. } = std::mem::replace(&mut self.stage, Stage::Done)
        else {
            unreachable!("only what is written can be finished");
        };
        output.flush()?;
        output.writer.file.sync()?;
        let Writer { seal, position, .. } = output.writer;
        Ok(Sealed { number: seal.number, sequence: 0, chain: 0, end: position })
    }
}

/// Writes the next register; returns how many bytes that were, none if there is no more.
fn write_one<F: DiskFile>(
    fresh: &mut BTreeMap<RegisterId, Held>,
    old: &mut Old<F>,
    output: &mut Output<F>,
) -> io::Result<usize> {
    let in_old = old.peek()?.and_then(register);
    let in_fresh = fresh.keys().next();
    let Some(next) = in_old.into_iter().chain(in_fresh).min().cloned() else { return Ok(0) };
    let mut held = Held::default();
    while old.peek()?.is_some_and(|record| register(record) == Some(&next)) {
        held.apply(old.records.pop_front().expect("just seen"));
    }
    if let Some(newer) = fresh.remove(&next) {
        newer.records().for_each(|record| held.apply(record.clone()));
    }
    let mut written = 0;
    for record in held.records() {
        written += output.put(record)?;
    }
    Ok(written)
}
