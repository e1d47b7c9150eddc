//! Stores that die at every boundary: each in a place that remembers what outlives its process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use synod::storage::{
    Fault, FaultyDisk, Log, LogOptions, Memory, OpenError, Opened, Owner, Sqlite, Storage,
    StorageError,
};
use synod::{Record, Ticket};
use tempfile::TempDir;

use super::records::{Source, scratch};

/// What a store is opened in. Its boundaries are counted from 0: moments at which a process may die
/// or the disk may fail.
pub(crate) trait Place {
    fn open(&mut self, owner: &Owner) -> Result<Opened<Box<dyn Storage>>, OpenError>;
    fn boundaries(&self) -> u64;
    fn plan(&self, boundary: u64, fault: Fault);
    /// The names of its files, if it has any.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
    /// Ends the process: what it wrote stays. The store must be dropped after this, not before.
    fn kill(&mut self);
    /// Ends the process and the power: of what was not synced anything may stay.
    fn cut_power(&mut self);
}

/// The log, on a disk whose every write, sync, creation, renaming and removal is a boundary.
pub(crate) struct LogPlace(FaultyDisk, LogOptions);

impl LogPlace {
    pub(crate) fn new(seed: u64, options: LogOptions) -> Self {
        Self(FaultyDisk::new(seed), options)
    }
}

impl Place for LogPlace {
    fn open(&mut self, owner: &Owner) -> Result<Opened<Box<dyn Storage>>, OpenError> {
        Ok(Log::open_on(self.0.clone(), owner, self.1)?.boxed())
    }

    fn boundaries(&self) -> u64 {
        self.0.operations()
    }

    fn plan(&self, boundary: u64, fault: Fault) {
        self.0.plan(boundary, fault);
    }

    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn cut_power(&mut self) {
        self.0.cut_power();
    }
}

/// A store with boundaries around its calls: before and behind each append, and before, in and
/// behind each sync.
struct Counted<S> {
    storage: S,
    calls: Arc<Mutex<Calls>>,
    directory: Option<PathBuf>,
}

#[derive(Default)]
struct Calls {
    count: u64,
    plan: Option<(u64, Fault)>,
    failed: bool,
    /// What was there before the last sync, as long as that has not returned.
    syncing: Option<Before>,
}

/// A database before a sync: how long its log was, and its small files.
struct Before {
    length: usize,
    small: BTreeMap<String, Vec<u8>>,
}

fn lock(calls: &Arc<Mutex<Calls>>) -> MutexGuard<'_, Calls> {
    calls.lock().expect("no panic was caught")
}

impl Calls {
    fn boundary(&mut self) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Stopped);
        }
        self.count += 1;
        let fault = match self.plan {
            Some((at, fault)) if at + 1 == self.count => fault,
            _ => return Ok(()),
        };
        self.failed = true;
        let error = match fault {
            Fault::Crash => io::Error::other("the process died"),
            Fault::Fail(kind) => kind.into(),
        };
        Err(StorageError::Io { doing: "reach", path: PathBuf::new(), error })
    }

    fn restart(&mut self) {
        (self.plan, self.failed, self.syncing) = (None, false, None);
    }
}

impl<S: Storage> Storage for Counted<S> {
    fn append(&mut self, ticket: Ticket, records: &[Record]) -> Result<(), StorageError> {
        lock(&self.calls).boundary()?;
        self.storage.append(ticket, records)?;
        lock(&self.calls).boundary()
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        lock(&self.calls).boundary()?;
        lock(&self.calls).syncing = self.directory.as_deref().map(before);
        self.storage.sync()?;
        lock(&self.calls).boundary()?;
        lock(&self.calls).syncing = None;
        lock(&self.calls).boundary()
    }

    fn compact(&mut self) -> Result<(), StorageError> {
        lock(&self.calls).boundary()?;
        self.storage.compact()?;
        lock(&self.calls).boundary()
    }
}

/// The store in memory: it outlives its node, whatever happens to that.
#[derive(Default)]
pub(crate) struct MemoryPlace(Memory, Arc<Mutex<Calls>>);

impl Place for MemoryPlace {
    fn open(&mut self, _: &Owner) -> Result<Opened<Box<dyn Storage>>, OpenError> {
        let Opened { storage, found } = self.0.reopen();
        let calls = self.1.clone();
        Ok(Opened { storage: Counted { storage, calls, directory: None }, found }.boxed())
    }

    fn boundaries(&self) -> u64 {
        lock(&self.1).count
    }

    fn plan(&self, boundary: u64, fault: Fault) {
        lock(&self.1).plan = Some((boundary, fault));
    }

    fn kill(&mut self) {
        lock(&self.1).restart();
    }

    fn cut_power(&mut self) {
        self.kill();
    }
}

/// A database in a directory. When its process ends its files are copied as they lie. What a sync
/// that died was writing is torn: the end of SQLite's log, and the mark. What one that failed was
/// writing is there until power fails.
pub(crate) struct SqlitePlace {
    directory: TempDir,
    calls: Arc<Mutex<Calls>>,
    source: Source,
    /// What a sync that failed should have written to SQLite's log, and where: it can be read until
    /// power fails, unless it is written again.
    doubtful: Option<(usize, Vec<u8>)>,
}

const WAL: &str = "state.sqlite-wal";

impl SqlitePlace {
    pub(crate) fn new(seed: u64) -> Self {
        let (directory, source) = (scratch(), Source::new(seed + 1));
        Self { directory, calls: Arc::default(), source, doubtful: None }
    }

    fn copy(&mut self, change: impl FnOnce(&mut Source, &mut BTreeMap<String, Vec<u8>>)) {
        let mut files = read(self.directory.path(), |name| name != "LOCK");
        change(&mut self.source, &mut files);
        let copy = scratch();
        for (name, bytes) in files {
            fs::write(copy.path().join(name), bytes).expect("writes");
        }
        self.directory = copy;
        lock(&self.calls).restart();
    }
}

fn read(directory: &Path, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.into_string().expect("a name")).filter(|name| wanted(name));
    names.map(|name| (name.clone(), fs::read(directory.join(name)).expect("a file"))).collect()
}

fn before(directory: &Path) -> Before {
    let length = fs::metadata(directory.join(WAL)).map_or(0, |data| data.len() as usize);
    Before { length, small: read(directory, |name| ["MANIFEST", "MARK"].contains(&name)) }
}

/// As it may lie after a power cut in the middle of the sync before which it was like that.
fn tear(source: &mut Source, files: &mut BTreeMap<String, Vec<u8>>, before: Before) {
    // The small files are not written before the log is durable.
    files.extend(before.small);
    let Some(wal) = files.get_mut(WAL) else { return };
    assert!(wal.len() >= before.length, "a run is too short for SQLite to begin its log anew");
    let fresh = wal.len() - before.length;
    let cut = before.length + source.draw(fresh as u64 + 1) as usize;
    match source.draw(4) {
        0 => wal.truncate(cut),
        1 => wal[cut..].fill(0),
        // Writes reach the disk in any order.
        2 => wal[before.length..cut].fill(0),
        _ => {}
    }
}

impl Place for SqlitePlace {
    fn open(&mut self, owner: &Owner) -> Result<Opened<Box<dyn Storage>>, OpenError> {
        let Opened { storage, found } = Sqlite::open(self.directory.path(), owner)?;
        let (calls, directory) = (self.calls.clone(), Some(self.directory.path().to_owned()));
        Ok(Opened { storage: Counted { storage, calls, directory }, found }.boxed())
    }

    fn boundaries(&self) -> u64 {
        lock(&self.calls).count
    }

    fn plan(&self, boundary: u64, fault: Fault) {
        lock(&self.calls).plan = Some((boundary, fault));
    }

    fn kill(&mut self) {
        let failed = lock(&self.calls).syncing.take();
        let mut doubtful = self.doubtful.take();
        self.copy(|_, files| {
            let Some(before) = failed else { return };
            files.extend(before.small);
            doubtful = files.get(WAL).map(|wal| (before.length, wal[before.length..].to_vec()));
        });
        self.doubtful = doubtful;
    }

    fn cut_power(&mut self) {
        let syncing = lock(&self.calls).syncing.take();
        let doubtful = self.doubtful.take();
        self.copy(|source, files| {
            if let Some(before) = syncing {
                tear(source, files, before);
            }
            if let (Some(wal), Some((start, bytes))) = (files.get_mut(WAL), doubtful)
                && let Some(range) = wal.get_mut(start..start + bytes.len())
                && *range == *bytes
            {
                range.fill(0);
            }
        });
    }
}
