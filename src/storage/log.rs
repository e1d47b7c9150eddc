//! The default store: a log in segments, written ahead of everything, and a checkpoint behind it.
//!
//! ```text
//! MANIFEST   whose it is, and which of these files count (see `manifest`)
//! MARK       how far the log is known to have been durable
//! checkpoint-N   what everything before the segments comes to
//! sorted-N       a piece of the next checkpoint, of no account
//! log-N      segments; the last one is appended to
//! ```
//!
//! A sync writes one block and syncs one file; blocks are written over zeros that were written
//! ahead, which saves most syncs from waiting for the file system's own log. A process always
//! begins a segment of its own, so nothing is ever written behind a torn tail. Compaction runs in
//! small steps in front of appends, without a thread.

use std::io;
use std::path::Path;

use tracing::info;

use super::block::{BLOCK_FULL, Body, Next, Position, Reader, Seal, Writer};
use super::disk::{Directory, Disk, DiskFile};
use super::health::{FailStop, Health};
use super::manifest::{self, Claim, MARK, Manifest, Mark, Open, Sealed, claim, on};
use super::memory::ascend;
use super::merge::{Cursor, Merge, Use};
use super::records::{Records, encode};
use super::{Damage, Found, OpenError, Opened, Owner, Storage, StorageError};
use crate::base::{Life, Ticket};
use crate::node::Record;

/// The name of this store in a manifest.
pub(super) const STORE: &str = "log";

/// How a log uses its disk. The defaults are good; tests have smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of zeros that are written ahead at a time. Default 1 MiB; 0 for none.
    pub ahead: u64,
    /// Bytes after which a segment is full, and of segments that are sorted in memory when they are
    /// compacted. Default 16 MiB.
    pub segment: u64,
    /// Bytes of full segments that are compacted, if they are at least half of the checkpoint.
    /// Default 32 MiB.
    pub compact: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { ahead: 1 << 20, segment: 16 << 20, compact: 32 << 20 }
    }
}

/// As many segments are compacted even if they are short: every start of a process begins one.
const SEGMENTS_MAX: usize = 32;

/// What a compaction does before each append, in bytes: so much, and so many times what was
/// appended, so that it ends before the next is due.
const STEP: usize = 16 << 10;
const STEP_RATIO: usize = 6;

/// A log on a disk.
pub struct Log<D: Disk> {
    disk: D,
    options: LogOptions,
    health: Health,
    ticket: Ticket,
    manifest: Manifest,
    /// The number of the next file.
    number: u64,
    /// Frames that are not in a block yet.
    body: Vec<u8>,
    /// The segment that is appended to, and the mark; none before the first append.
    tail: Option<Tail<D::File>>,
    /// The last block that is durable.
    synced: u64,
    /// Bytes appended since the last step of a compaction.
    appended: usize,
    merge: Option<Merge<D::File>>,
}

struct Tail<F> {
    writer: Writer<F>,
    mark: Mark<F>,
}

fn log_name(number: u64) -> String {
    format!("log-{number:08}")
}

fn checkpoint_name(number: u64) -> String {
    format!("checkpoint-{number:08}")
}

/// A piece of a compaction under way; whoever finds one after a crash removes it.
fn piece_name(number: u64) -> String {
    format!("sorted-{number:08}")
}

fn is_ours(name: &str) -> bool {
    let number = ["log-", "checkpoint-", "sorted-"].iter().find_map(|kind| name.strip_prefix(kind));
    number.is_some_and(|number| number.len() >= 8 && number.bytes().all(|b| b.is_ascii_digit()))
}

impl Log<Directory> {
    /// Opens the log in a directory, which is made if there is none, and locks it.
    ///
    /// # Errors
    /// If it is somebody else's, or the operating system says no. Damage is no error: it is found.
    pub fn open(path: &Path, owner: &Owner) -> Result<Opened<Self>, OpenError> {
        Self::open_on(Directory::lock(path)?, owner, LogOptions::default())
    }
}

impl<D: Disk> Log<D> {
    /// Opens the log on a disk.
    ///
    /// # Errors
    /// As for [`Log::open`].
    pub fn open_on(
        mut disk: D,
        owner: &Owner,
        options: LogOptions,
    ) -> Result<Opened<Self>, OpenError> {
        let claim = claim(&mut disk, owner, STORE, is_ours)?;
        let mut log = Self {
            disk,
            options,
            health: Health::Well,
            ticket: Ticket(0),
            manifest: Manifest::new(STORE, owner),
            number: 1,
            body: Vec::new(),
            tail: None,
            synced: 0,
            appended: 0,
            merge: None,
        };
        let found = match claim {
            Claim::New => {
                log.clear().map_err(manifest::refused)?;
                Found::New
            }
            Claim::Damaged(damage) => Found::Damaged(damage),
            Claim::Used(manifest) => {
                log.manifest = manifest;
                log.recover()?
            }
        };
        if matches!(found, Found::Damaged(_)) {
            log.health = Health::Damaged;
        }
        Ok(Opened { storage: log, found })
    }

    /// Reads everything back, and begins a new segment.
    fn recover(&mut self) -> Result<Found, OpenError> {
        let mut records = Records::default();
        let tail = match self.read(&mut records) {
            Ok(tail) => tail,
            Err(Unread::Damage(damage)) => return Ok(Found::Damaged(damage)),
            Err(Unread::Io(error)) => return Err(error),
        };
        self.resume(&tail).map_err(manifest::refused)?;
        Ok(Found::Records(records))
    }

    fn read(&self, records: &mut Records) -> Result<Read, Unread> {
        let (Some(life), Some(open)) = (self.manifest.life, self.manifest.open) else {
            return Err(self.damage(manifest::MANIFEST, None, "it names no log"));
        };
        if let Some(checkpoint) = self.manifest.checkpoint {
            let name = checkpoint_name(checkpoint.number);
            records.pack(true);
            self.read_sealed(&name, life, checkpoint, records)?;
            records.pack(false);
        }
        for &sealed in &self.manifest.sealed {
            self.read_sealed(&log_name(sealed.number), life, sealed, records)?;
        }
        self.read_open(life, open, records)
    }

    fn read_sealed(
        &self,
        name: &str,
        life: Life,
        sealed: Sealed,
        records: &mut Records,
    ) -> Result<(), Unread> {
        let mut cursor = Cursor::new(self.open_file(name)?, life, sealed);
        loop {
            match cursor.next(records).map_err(|error| self.unread("read", name, error))? {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(flaw) => return Err(self.damage(name, Some(flaw.offset), flaw.what)),
            }
        }
    }

    /// Reads the segment that was appended to: it ends where no block is, unless anything says that
    /// there was one.
    fn read_open(&self, life: Life, open: Open, records: &mut Records) -> Result<Read, Unread> {
        let name = &log_name(open.number);
        let seal = Seal { life, number: open.number };
        let mut mark = Mark::new(self.open_file(MARK)?, life);
        // There is a manifest with a life since the first block was durable.
        let durable = mark.read().map_err(|error| self.unread("read", MARK, error))?.max(1);
        let start = Position { offset: 0, sequence: open.sequence, chain: open.chain };
        let mut reader = Reader::new(self.open_file(name)?, seal, start);
        let unread = |error| self.unread("read", name, error);
        let mut known = start;
        let why = loop {
            match reader.next(records).map_err(unread)? {
                Next::Block if reader.position.sequence <= durable => known = reader.position,
                Next::Block => {}
                Next::Invalid(why) => break why,
                Next::Wrong(why) => {
                    return Err(self.damage(name, Some(reader.position.offset), why));
                }
            }
        };
        let end = reader.position;
        if durable > end.sequence || reader.was_durable().map_err(unread)? {
            let what = format!("{why}, and what was here had been synced");
            return Err(self.damage(name, Some(end.offset), &what));
        }
        let unsure = end.offset - known.offset;
        info!("{name} ends at byte {}: {why}; {unsure} bytes are written again", end.offset);
        Ok(Read { known, end })
    }

    fn open_file(&self, name: &str) -> Result<D::File, Unread> {
        self.disk.open(name).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                return self.damage(name, None, "the file is missing");
            }
            self.unread("open", name, error)
        })
    }

    fn damage(&self, name: &str, offset: Option<u64>, what: &str) -> Unread {
        let path = self.disk.path().join(name);
        Unread::Damage(Damage { path, offset, what: what.to_owned() })
    }

    fn unread(&self, doing: &'static str, name: &str, error: io::Error) -> Unread {
        Unread::Io(OpenError::Io { doing, path: self.disk.path().join(name), error })
    }

    /// Goes on behind what was read, in a segment of its own.
    ///
    /// What is not known to have been durable is written again: it may have been read from memory,
    /// after a sync that failed or never was, and then no later sync of that file writes it.
    fn resume(&mut self, read: &Read) -> Result<(), StorageError> {
        let life = self.manifest.life.expect("it was read");
        let files = self.manifest.sealed.iter().chain(&self.manifest.checkpoint);
        let open = self.manifest.open.expect("it was read");
        self.number = files.map(|file| file.number).fold(open.number, u64::max) + 1;
        let mark = on(&mut self.disk, "open", MARK, |disk| disk.open(MARK))?;
        let mut writer = self.create(life, read.known)?;
        if read.known != read.end {
            let name = log_name(open.number);
            let seal = Seal { life, number: open.number };
            on(&mut self.disk, "copy the end of", &name, |disk| {
                let mut reader = Reader::new(disk.open(&name)?, seal, read.known);
                copy(&mut reader, read.end, &mut writer)?;
                writer.file.sync()
            })?;
        }
        self.seal(open, read.known);
        self.manifest.open = Some(self.opened(&writer, read.known));
        self.synced = writer.position.sequence;
        let mut mark = Mark::new(mark, life);
        self.commit()?;
        on(&mut self.disk, "write", MARK, |_| mark.write(self.synced).and_then(|()| mark.sync()))?;
        self.tail = Some(Tail { writer, mark });
        self.clear()
    }

    /// A new segment behind `end`, durable but not in the manifest.
    fn create(&mut self, life: Life, end: Position) -> Result<Writer<D::File>, StorageError> {
        let seal = Seal { life, number: self.number };
        self.number += 1;
        let name = log_name(seal.number);
        let file = on(&mut self.disk, "create", &name, |disk| disk.create(&name))?;
        let mut writer = Writer::new(file, seal, end.sequence, end.chain, self.options.ahead);
        on(&mut self.disk, "write", &name, |_| writer.allocate(1))?;
        on(&mut self.disk, "sync", &name, |_| writer.file.sync())?;
        Ok(writer)
    }

    const fn opened(&self, writer: &Writer<D::File>, end: Position) -> Open {
        Open { number: writer.seal.number, sequence: end.sequence, chain: end.chain }
    }

    fn seal(&mut self, open: Open, end: Position) {
        if end.sequence > open.sequence {
            let Open { number, sequence, chain } = open;
            self.manifest.sealed.push(Sealed { number, sequence, chain, end });
        }
    }

    /// Makes the names of new files durable, and then the manifest that tells of them.
    fn commit(&mut self) -> Result<(), StorageError> {
        on(&mut self.disk, "sync the directory of", manifest::MANIFEST, Disk::sync)?;
        self.manifest.write(&mut self.disk)
    }

    /// Removes the files that do not count.
    fn clear(&mut self) -> Result<(), StorageError> {
        let sealed = self.manifest.sealed.iter().map(|sealed| sealed.number);
        let open = self.manifest.open.iter().map(|open| open.number);
        let mut keep: Vec<String> = sealed.chain(open).map(log_name).collect();
        keep.extend(self.manifest.checkpoint.map(|file| checkpoint_name(file.number)));
        for name in on(&mut self.disk, "list", "", |disk| disk.list())? {
            if is_ours(&name) && !keep.contains(&name) {
                on(&mut self.disk, "remove", &name, |disk| disk.remove(&name))?;
            }
        }
        Ok(())
    }

    /// The first append: whose life this is is in its first record.
    fn begin(&mut self, first: &Record) -> Result<(), StorageError> {
        let Record::Born { life, .. } = *first else {
            panic!("a log begins with whose it is, not with {first}");
        };
        let mark = on(&mut self.disk, "create", MARK, |disk| disk.create(MARK))?;
        let mark = Mark::new(mark, life);
        let writer = self.create(life, Position { offset: 0, sequence: 0, chain: 0 })?;
        self.tail = Some(Tail { writer, mark });
        Ok(())
    }

    fn add(&mut self, records: &[Record]) -> Result<(), StorageError> {
        self.tend()?;
        let Some(first) = records.first() else { return Ok(()) };
        if self.tail.is_none() {
            self.begin(first)?;
        }
        for record in records {
            encode(record, &mut self.body)?;
            if self.body.len() >= BLOCK_FULL {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what waits as a block.
    fn flush(&mut self) -> Result<(), StorageError> {
        let Some(tail) = self.tail.as_mut().filter(|_| !self.body.is_empty()) else {
            return Ok(());
        };
        let (body, synced) = (&self.body, self.synced);
        let name = log_name(tail.writer.seal.number);
        on(&mut self.disk, "write", &name, |_| tail.writer.put(body, synced))?;
        self.appended += body.len();
        self.body.clear();
        self.body.shrink_to(BLOCK_FULL * 2);
        Ok(())
    }

    fn flush_and_sync(&mut self) -> Result<(), StorageError> {
        self.flush()?;
        let Some(tail) = &mut self.tail else { return Ok(()) };
        let last = tail.writer.position.sequence;
        if last == self.synced {
            return Ok(());
        }
        let name = log_name(tail.writer.seal.number);
        on(&mut self.disk, "sync", &name, |_| tail.writer.file.sync())?;
        if self.manifest.life.is_none() {
            on(&mut self.disk, "sync", MARK, |_| tail.mark.sync())?;
            let Seal { life, number } = tail.writer.seal;
            self.manifest.life = Some(life);
            self.manifest.open = Some(Open { number, sequence: 0, chain: 0 });
            self.commit()?;
        }
        self.synced = last;
        let tail = self.tail.as_mut().expect("just seen");
        on(&mut self.disk, "write", MARK, |_| tail.mark.write(last))
    }

    /// Housekeeping, in front of an append so that no sync waits for it.
    fn tend(&mut self) -> Result<(), StorageError> {
        let Some(tail) = &self.tail else { return Ok(()) };
        // Only between a sync and the next append: a segment is sealed when all of it is durable.
        if tail.writer.position.sequence != self.synced || !self.body.is_empty() {
            return Ok(());
        }
        if tail.writer.position.offset >= self.options.segment {
            self.rotate()?;
        }
        let budget = STEP + STEP_RATIO * std::mem::take(&mut self.appended);
        if self.merge.is_some() {
            self.step(budget)
        } else if self.is_due() {
            self.start_merge()
        } else {
            Ok(())
        }
    }

    fn rotate(&mut self) -> Result<(), StorageError> {
        let Some(tail) = &self.tail else { return Ok(()) };
        let (seal, end) = (tail.writer.seal, tail.writer.position);
        if end.offset == 0 {
            return Ok(());
        }
        let writer = self.create(seal.life, end)?;
        self.seal(self.manifest.open.expect("there is a segment"), end);
        self.manifest.open = Some(self.opened(&writer, end));
        self.commit()?;
        self.tail.as_mut().expect("just seen").writer = writer;
        Ok(())
    }

    fn is_due(&self) -> bool {
        let sealed: u64 = self.manifest.sealed.iter().map(|sealed| sealed.end.offset).sum();
        let checkpoint = self.manifest.checkpoint.map_or(0, |file| file.end.offset);
        sealed >= self.options.compact.max(checkpoint / 2)
            || self.manifest.sealed.len() >= SEGMENTS_MAX
    }

    fn start_merge(&mut self) -> Result<(), StorageError> {
        let life = self.manifest.life.expect("there are segments");
        let old = match self.manifest.checkpoint {
            Some(sealed) => {
                let name = checkpoint_name(sealed.number);
                let file = on(&mut self.disk, "open", &name, |disk| disk.open(&name))?;
                Some(Cursor::new(file, life, sealed))
            }
            None => None,
        };
        let mut segments = Vec::new();
        for &sealed in &self.manifest.sealed {
            let name = log_name(sealed.number);
            let file = on(&mut self.disk, "open", &name, |disk| disk.open(&name))?;
            segments.push(Cursor::new(file, life, sealed));
        }
        info!("compaction of {} segments begins", segments.len());
        self.merge = Some(Merge::new(old, segments, self.options.segment));
        Ok(())
    }

    fn step(&mut self, budget: usize) -> Result<(), StorageError> {
        let Some(merge) = &mut self.merge else { return Ok(()) };
        let life = self.manifest.life.expect("there are segments");
        let number = &mut self.number;
        let done = on(&mut self.disk, "compact", "", |disk| {
            merge.step(budget, &mut |what| {
                let seal = Seal { life, number: *number };
                *number += 1;
                let file = disk.create(&match what {
                    Use::Piece => piece_name(seal.number),
                    Use::Checkpoint => checkpoint_name(seal.number),
                })?;
                Ok((file, seal))
            })
        })?;
        let Some(checkpoint) = done else { return Ok(()) };
        info!("compaction ends with a checkpoint of {} bytes", checkpoint.end.offset);
        self.manifest.sealed.drain(..merge.segments);
        self.manifest.checkpoint = Some(checkpoint);
        self.merge = None;
        self.commit()?;
        self.clear()
    }

    fn compact_all(&mut self) -> Result<(), StorageError> {
        self.flush_and_sync()?;
        self.step(usize::MAX)?;
        self.rotate()?;
        if self.manifest.sealed.is_empty() {
            return Ok(());
        }
        self.start_merge()?;
        self.step(usize::MAX)
    }
}

/// How far a log was read.
struct Read {
    /// Up to here the segment that was appended to is known to have been durable.
    known: Position,
    /// Here it ends.
    end: Position,
}

/// Writes the blocks up to `end` again, as blocks of another file.
fn copy<F: DiskFile>(reader: &mut Reader<F>, end: Position, to: &mut Writer<F>) -> io::Result<()> {
    let (synced, mut body) = (reader.position.sequence, Body::default());
    while reader.position != end {
        let Next::Block = reader.next(&mut body)? else {
            return Err(io::Error::other("it is not what it was a moment ago"));
        };
        to.put(&body.0, synced)?;
    }
    Ok(())
}

/// Why a log cannot be read.
enum Unread {
    Damage(Damage),
    Io(OpenError),
}

impl<D: Disk> FailStop for Log<D> {
    fn health(&mut self) -> &mut Health {
        &mut self.health
    }
}

impl<D: Disk> Storage for Log<D> {
    fn append(&mut self, ticket: Ticket, records: &[Record]) -> Result<(), StorageError> {
        ascend(&mut self.ticket, ticket);
        self.attempt(|log| log.add(records))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.attempt(Self::flush_and_sync)
    }

    fn compact(&mut self) -> Result<(), StorageError> {
        self.attempt(Self::compact_all)
    }
}
