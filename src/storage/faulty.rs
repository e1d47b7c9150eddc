//! A disk in memory that fails in every way that a disk may, as a seed says. For tests.
//!
//! What is written lies in the cache until it is synced. When power fails, each write that was not
//! synced is kept, lost or torn, each on its own, and so is each name. A failed sync drops what it
//! should have written and forgets that it did, as real systems do.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::{Disk, DiskFile};
use crate::base::Random;

/// The disk. Clones are the same disk; it outlives the store on it.
#[derive(Clone, Debug)]
pub struct FaultyDisk(Arc<Mutex<State>>);

/// What is to happen at a certain operation. Operations that change the disk are counted, from 0:
/// write, sync, create, rename, remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies in the middle of it: from then on nothing works, until the disk is
    /// restarted.
    Crash,
    /// It fails, with this kind of error, and has no effect; what comes after it works. A sync that
    /// fails loses what it should have made durable.
    Fail(io::ErrorKind),
}

#[derive(Debug)]
struct State {
    random: Random,
    /// The files by their names, as processes see them and as they are durable.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Contents>,
    unsynced: Vec<(usize, Write)>,
    unsynced_names: Vec<Rename>,
    fault: Option<(u64, Fault)>,
    operations: u64,
    /// Handles of earlier processes do not work.
    process: u64,
    is_dead: bool,
    capacity: usize,
    delay: Duration,
    delay_max: Duration,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

/// One change of a name: what it names from then on.
type Rename = Vec<(String, Option<usize>)>;

/// An open file of a [`FaultyDisk`].
#[derive(Debug)]
pub struct FaultyFile {
    disk: FaultyDisk,
    file: usize,
    process: u64,
}

impl State {
    /// Counts an operation. `Ok(true)` if the process dies in the middle of it.
    fn count(&mut self) -> io::Result<bool> {
        if self.is_dead {
            return Err(io::Error::other("the process is dead"));
        }
        let now = self.operations;
        self.operations += 1;
        match self.fault {
            Some((at, Fault::Crash)) if at == now => {
                self.is_dead = true;
                Ok(true)
            }
            Some((at, Fault::Fail(kind))) if at == now => Err(kind.into()),
            _ => Ok(false),
        }
    }

    fn alive(&self, dies: bool) -> io::Result<()> {
        if dies { Err(io::Error::other("the process died")) } else { Ok(()) }
    }

    fn rename(&mut self, change: Rename) -> io::Result<()> {
        let dies = self.count()?;
        for (name, file) in &change {
            set(&mut self.names, name, *file);
        }
        self.unsynced_names.push(change);
        self.alive(dies)
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let dies = self.count()?;
        let offset = offset as usize;
        let used: usize = self.names.values().map(|file| self.files[*file].cached.len()).sum();
        let grown = (offset + bytes.len()).saturating_sub(self.files[file].cached.len());
        if used + grown > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let write = Write { offset, bytes: bytes.to_vec() };
        write.apply(&mut self.files[file].cached);
        self.unsynced.push((file, write));
        self.alive(dies)
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        self.wait();
        let done = self.count();
        let mut durable = Vec::new();
        self.unsynced.retain(|(of, write)| {
            if *of == file {
                durable.push(write.clone());
            }
            *of != file
        });
        if done? {
            self.unsynced.extend(durable.into_iter().map(|write| (file, write)));
            return self.alive(true);
        }
        durable.iter().for_each(|write| write.apply(&mut self.files[file].durable));
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.wait();
        let done = self.count();
        if matches!(done, Ok(true)) {
            return self.alive(true);
        }
        let changes = std::mem::take(&mut self.unsynced_names);
        done?;
        for (name, file) in changes.into_iter().flatten() {
            set(&mut self.durable_names, &name, file);
        }
        Ok(())
    }

    fn wait(&mut self) {
        let wait = self.random.up_to(self.delay_max);
        self.delay += wait;
    }

    /// One of so many.
    fn pick(&mut self, of: usize) -> usize {
        (self.random.number() % of as u64) as usize
    }

    /// What is left when power fails.
    fn lose_power(&mut self) {
        let mut writes = std::mem::take(&mut self.unsynced);
        // They reach the disk in any order.
        for place in (1..writes.len()).rev() {
            let other = self.pick(place + 1);
            writes.swap(place, other);
        }
        for (file, write) in writes {
            let Some(write) = self.tear(write) else { continue };
            write.apply(&mut self.files[file].durable);
        }
        for change in std::mem::take(&mut self.unsynced_names) {
            if self.pick(2) == 0 {
                // A rename is in the file system's own log: both of its names, or none.
                for (name, file) in change {
                    set(&mut self.durable_names, &name, file);
                }
            }
        }
        self.names = self.durable_names.clone();
        for file in &mut self.files {
            file.cached.clone_from(&file.durable);
        }
    }

    /// Kept, lost, cut off, or with a piece in the middle as it was before or as zeros.
    fn tear(&mut self, write: Write) -> Option<Write> {
        let Write { offset, mut bytes } = write;
        let length = bytes.len();
        match self.pick(5) {
            0 => return None,
            1 => bytes.truncate(self.pick(length + 1)),
            2 => {
                let at = self.pick(length + 1);
                return Some(Write { offset: offset + at, bytes: bytes.split_off(at) });
            }
            3 => {
                let (start, end) = (self.pick(length + 1), self.pick(length + 1));
                bytes[start.min(end)..start.max(end)].fill(0);
            }
            _ => {}
        }
        Some(Write { offset, bytes })
    }
}

impl Write {
    fn apply(&self, contents: &mut Vec<u8>) {
        let end = self.offset + self.bytes.len();
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents[self.offset..end].copy_from_slice(&self.bytes);
    }
}

fn set(names: &mut BTreeMap<String, usize>, name: &str, file: Option<usize>) {
    match file {
        Some(file) => names.insert(name.to_owned(), file),
        None => names.remove(name),
    };
}

impl FaultyDisk {
    /// An empty disk; the seed says what becomes of what was not synced.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            files: Vec::new(),
            unsynced: Vec::new(),
            unsynced_names: Vec::new(),
            fault: None,
            operations: 0,
            process: 0,
            is_dead: false,
            capacity: usize::MAX,
            delay: Duration::ZERO,
            delay_max: Duration::ZERO,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A disk of its own, with the same on it and the same to come.
    #[must_use]
    pub fn copy(&self) -> Self {
        let state = self.state();
        let copy = Self::new(0);
        *copy.state() = State {
            random: state.random.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            files: state.files.clone(),
            unsynced: state.unsynced.clone(),
            unsynced_names: state.unsynced_names.clone(),
            fault: state.fault,
            operations: state.operations,
            process: state.process,
            is_dead: state.is_dead,
            capacity: state.capacity,
            delay: state.delay,
            delay_max: state.delay_max,
        };
        copy
    }

    /// How many operations have changed, or tried to change, the disk.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// What is to happen at that operation; replaces what was to happen before.
    pub fn plan(&self, operation: u64, fault: Fault) {
        self.state().fault = Some((operation, fault));
    }

    /// From now on there is room for so many bytes.
    pub fn limit(&self, bytes: usize) {
        self.state().capacity = bytes;
    }

    /// From now on each sync takes up to so long, as [`FaultyDisk::take_delay`] tells.
    pub fn slow(&self, delay_max: Duration) {
        self.state().delay_max = delay_max;
    }

    /// How long the syncs since the last call have taken. Nothing here waits: whoever has the clock
    /// does.
    #[must_use]
    pub fn take_delay(&self) -> Duration {
        std::mem::take(&mut self.state().delay)
    }

    /// Ends the process and starts the next: what it wrote is there, synced or not.
    pub fn kill(&self) {
        let mut state = self.state();
        state.process += 1;
        state.is_dead = false;
        state.fault = None;
    }

    /// Cuts the power and starts again: what was not synced is there, or not, or in pieces.
    pub fn cut_power(&self) {
        self.kill();
        self.state().lose_power();
    }

    /// The names of all files.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// What is in a file; nothing if there is none.
    #[must_use]
    pub fn contents(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.names.get(name).map_or_else(Vec::new, |file| state.files[*file].cached.clone())
    }

    /// Changes what is in a file behind the store's back: rot. Makes the file if there is none.
    pub fn rot(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let next = state.files.len();
        let file = *state.names.entry(name.to_owned()).or_insert(next);
        if file == next {
            state.files.push(Contents::default());
            state.durable_names.insert(name.to_owned(), file);
        }
        let contents = &mut state.files[file];
        change(&mut contents.cached);
        contents.durable.clone_from(&contents.cached);
        state.unsynced.retain(|(of, _)| *of != file);
    }

    /// Removes a file behind the store's back.
    pub fn delete(&self, name: &str) {
        let mut state = self.state();
        state.names.remove(name);
        state.durable_names.remove(name);
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;

    fn path(&self) -> &Path {
        Path::new("faulty")
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let state = self.state();
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(FaultyFile { disk: self.clone(), file, process: state.process })
    }

    fn create(&mut self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(Contents::default());
        state.rename(vec![(name.to_owned(), Some(file))])?;
        Ok(FaultyFile { disk: self.clone(), file, process: state.process })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.rename(vec![(from.to_owned(), None), (to.to_owned(), Some(file))])
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename(vec![(name.to_owned(), None)])
    }

    fn sync(&mut self) -> io::Result<()> {
        self.state().sync_names()
    }
}

impl FaultyFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.process == self.process {
            Ok(state)
        } else {
            Err(io::Error::other("a file of a process that ended"))
        }
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.file].cached.len() as u64)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        let rest = state.files[self.file].cached.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.file;
        self.state()?.write(file, offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let file = self.file;
        self.state()?.sync(file)
    }
}
