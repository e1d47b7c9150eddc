//! The file that says whose a directory is, and which files in it count.
//!
//! It is text, so that whoever finds the directory knows what it is, and is only ever replaced as a
//! whole. Without a line `life` nothing was ever synced here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use super::block::Position;
use super::disk::{Disk, DiskFile, LOCK};
use super::{Damage, OpenError, Owner, StorageError};
use crate::base::{ClusterId, Life, NodeId};

pub(super) const MANIFEST: &str = "MANIFEST";
pub(super) const MARK: &str = "MARK";
const NEXT: &str = "MANIFEST.new";
const TITLE: &str = "synod state directory";
/// Raised with every change that an older version would misread.
const FORMAT: u32 = 4;
/// More than a manifest ever has; what is longer is none.
const LENGTH_MAX: u64 = 1 << 20;

/// A file of blocks that is complete: it has exactly these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) number: u64,
    /// Where it starts: the last block of the file before.
    pub(super) sequence: u64,
    pub(super) chain: u32,
    pub(super) end: Position,
}

/// The segment that is appended to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) sequence: u64,
    pub(super) chain: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) store: String,
    pub(super) owner: Owner,
    /// Since something was synced.
    pub(super) life: Option<Life>,
    pub(super) checkpoint: Option<Sealed>,
    pub(super) sealed: Vec<Sealed>,
    pub(super) open: Option<Open>,
}

/// What a directory turns out to be.
pub(super) enum Claim {
    New,
    Used(Manifest),
    Damaged(Damage),
}

impl Manifest {
    pub(super) fn new(store: &str, owner: &Owner) -> Self {
        Self {
            store: store.to_owned(),
            owner: owner.clone(),
            life: None,
            checkpoint: None,
            sealed: Vec::new(),
            open: None,
        }
    }

    fn encode(&self) -> String {
        let mut text = String::new();
        let Owner { cluster, name, node, tables } = &self.owner;
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("a string takes everything");
        };
        line(format_args!("{TITLE}"));
        line(format_args!("format {FORMAT}"));
        line(format_args!("store {}", self.store));
        line(format_args!("cluster {:016x} {name}", cluster.0));
        line(format_args!("node {}", node.0));
        for (place, table) in tables {
            line(format_args!("table {place} {table}"));
        }
        if let Some(life) = self.life {
            line(format_args!("life {:016x}", life.0));
        }
        for (kind, file) in self
            .checkpoint
            .iter()
            .map(|file| ("checkpoint", file))
            .chain(self.sealed.iter().map(|file| ("sealed", file)))
        {
            let Sealed { number, sequence, chain, end } = file;
            line(format_args!(
                "{kind} {number} {sequence} {chain:08x} {} {} {:08x}",
                end.offset, end.sequence, end.chain
            ));
        }
        if let Some(Open { number, sequence, chain }) = self.open {
            line(format_args!("open {number} {sequence} {chain:08x}"));
        }
        let checksum = crc32fast::hash(text.as_bytes());
        writeln!(text, "checksum {checksum:08x}").expect("a string takes everything");
        text
    }

    /// `body` is a manifest without its checksum.
    fn decode(body: &str) -> Option<Self> {
        let owner = Owner {
            cluster: ClusterId(0),
            name: String::new(),
            node: NodeId(0),
            tables: BTreeMap::new(),
        };
        let mut manifest = Self::new("", &owner);
        for line in body.lines().skip(2) {
            let (word, rest) = line.split_once(' ')?;
            let mut words = rest.split(' ');
            match word {
                "store" => rest.clone_into(&mut manifest.store),
                "cluster" => {
                    let (id, name) = rest.split_once(' ')?;
                    manifest.owner.cluster = ClusterId(u64::from_str_radix(id, 16).ok()?);
                    name.clone_into(&mut manifest.owner.name);
                }
                "node" => manifest.owner.node = NodeId(rest.parse().ok()?),
                "table" => {
                    let (place, table) = rest.split_once(' ')?;
                    manifest.owner.tables.insert(place.parse().ok()?, table.to_owned());
                }
                "life" => manifest.life = Some(Life(u64::from_str_radix(rest, 16).ok()?)),
                "checkpoint" => manifest.checkpoint = Some(sealed(&mut words)?),
                "sealed" => manifest.sealed.push(sealed(&mut words)?),
                "open" => manifest.open = Some(open(&mut words)?),
                _ => return None,
            }
        }
        Some(manifest)
    }

    /// Sees that all that is in the directory is still in the tables that it was written to, and
    /// notes those that are new before anything is written to them.
    fn keep_tables<D: Disk>(&mut self, owner: &Owner, disk: &mut D) -> Result<(), OpenError> {
        for (place, table) in &self.owner.tables {
            let wanted = owner.tables.get(place);
            if wanted != Some(table) {
                let (path, place, found) = (disk.path().to_owned(), *place, table.clone());
                return Err(OpenError::Tables { path, place, found, wanted: wanted.cloned() });
            }
        }
        if self.owner.tables != owner.tables {
            self.owner.tables.clone_from(&owner.tables);
            self.write(disk).map_err(refused)?;
        }
        Ok(())
    }

    /// Puts this manifest in the place of the one before: durably and at once, or not at all.
    pub(super) fn write<D: Disk>(&self, disk: &mut D) -> Result<(), StorageError> {
        let text = self.encode();
        let mut file = on(disk, "create", NEXT, |disk| disk.create(NEXT))?;
        on(disk, "write", NEXT, |_| file.write_at(0, text.as_bytes()))?;
        on(disk, "sync", NEXT, |_| file.sync())?;
        on(disk, "replace", MANIFEST, |disk| disk.rename(NEXT, MANIFEST))?;
        on(disk, "sync the directory of", MANIFEST, Disk::sync)
    }
}

/// The text without its checksum, if that is right.
fn verified(text: &str) -> Option<&str> {
    let (body, last) = text.split_at(text.rfind("checksum ")?);
    let expected = format!("checksum {:08x}\n", crc32fast::hash(body.as_bytes()));
    (last == expected).then_some(body)
}

/// Does something with a disk; what goes wrong says where.
pub(super) fn on<D: Disk, T>(
    disk: &mut D,
    doing: &'static str,
    name: &str,
    what: impl FnOnce(&mut D) -> io::Result<T>,
) -> Result<T, StorageError> {
    let done = what(disk);
    done.map_err(|error| StorageError::Io { doing, path: disk.path().join(name), error })
}

/// More than any store counts to; what is greater was made up.
const COUNT_MAX: u64 = 1 << 48;

fn count<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<u64> {
    words.next()?.parse().ok().filter(|count| *count <= COUNT_MAX)
}

fn open<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Open> {
    Some(Open {
        number: count(words)?,
        sequence: count(words)?,
        chain: u32::from_str_radix(words.next()?, 16).ok()?,
    })
}

fn sealed<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Sealed> {
    let Open { number, sequence, chain } = open(words)?;
    let end = Position {
        offset: count(words)?,
        sequence: count(words)?,
        chain: u32::from_str_radix(words.next()?, 16).ok()?,
    };
    Some(Sealed { number, sequence, chain, end })
}

/// Whose the directory is; a new one is taken. Nothing else is changed.
pub(super) fn claim<D: Disk>(
    disk: &mut D,
    owner: &Owner,
    store: &'static str,
    is_ours: impl Fn(&str) -> bool,
) -> Result<Claim, OpenError> {
    let path = disk.path().to_owned();
    for text in [&owner.name].into_iter().chain(owner.tables.values()) {
        if text.contains(char::is_control) {
            return Err(OpenError::Name(text.clone()));
        }
    }
    let io = |doing, error| OpenError::Io { doing, path: path.clone(), error };
    let names = disk.list().map_err(|error| io("list", error))?;
    if !names.iter().any(|name| name == MANIFEST) {
        for name in names {
            if is_ours(&name) || name == MARK {
                let what = format!("there is {name}, but no {MANIFEST}");
                return Ok(Claim::Damaged(Damage { path, offset: None, what }));
            }
            if ![LOCK, NEXT, "lost+found"].contains(&&*name) {
                return Err(OpenError::Occupied { path, by: name });
            }
        }
        Manifest::new(store, owner).write(disk).map_err(refused)?;
        return Ok(Claim::New);
    }
    let damaged = |what: &str| {
        let path = path.join(MANIFEST);
        Ok(Claim::Damaged(Damage { path, offset: None, what: what.to_owned() }))
    };
    let mut file = disk.open(MANIFEST).map_err(|error| io("open the manifest of", error))?;
    let length = file.length().map_err(|error| io("read the manifest of", error))?;
    let mut bytes = vec![0; length.min(LENGTH_MAX) as usize];
    let got = file.read_at(0, &mut bytes).map_err(|error| io("read the manifest of", error))?;
    bytes.truncate(got);
    let Ok(text) = String::from_utf8(bytes) else { return damaged("it is not text") };
    let Some(body) = verified(&text) else { return damaged("it is not what was written") };
    // Of another format nothing but the first two lines and the checksum is sure to be as here.
    let found = body.lines().nth(1).and_then(|line| line.strip_prefix("format "));
    if found != Some(&*FORMAT.to_string()) {
        let found = found.unwrap_or("without a number").to_owned();
        return Err(OpenError::Version { path, found, supported: FORMAT });
    }
    let Some(mut manifest) = Manifest::decode(body) else { return damaged("it makes no sense") };
    if (manifest.owner.cluster, manifest.owner.node) != (owner.cluster, owner.node) {
        let (found, wanted) = (Box::new(manifest.owner), Box::new(owner.clone()));
        return Err(OpenError::Foreign { path, found, wanted });
    }
    if manifest.store != store {
        return Err(OpenError::Store { path, found: manifest.store, wanted: store });
    }
    if manifest.life.is_some() {
        manifest.keep_tables(owner, disk)?;
        return Ok(Claim::Used(manifest));
    }
    if names.iter().any(|name| name == MARK) {
        let mut mark = disk.open(MARK).map_err(|error| io("open the mark of", error))?;
        let slots = slots(&mut mark).map_err(|error| io("read the mark of", error))?;
        if slots.iter().any(|(_, sequence)| *sequence > 0) {
            return damaged("it is an old one: something had been synced here");
        }
    }
    manifest.owner.tables.clone_from(&owner.tables);
    // Its name may be in memory only, after a sync that failed; other names must not outlive it.
    manifest.write(disk).map_err(refused)?;
    Ok(Claim::New)
}

/// A store that cannot be written when it is opened cannot be opened.
pub(super) fn refused(error: StorageError) -> OpenError {
    match error {
        StorageError::Io { doing, path, error } => OpenError::Io { doing, path, error },
        StorageError::Stopped | StorageError::Damaged | StorageError::TooLong { .. } => {
            unreachable!("opening appends nothing: {error}")
        }
    }
}

/// How far the log is known to have been durable, kept beside it and never waited for.
///
/// The last block of a log cannot be told from a torn one by the log itself. The mark is written
/// when a sync has returned, so a log that ends before it has lost something. It is written
/// whenever the system finds time; an older one proves less, and never anything false.
pub(super) struct Mark<F> {
    file: F,
    turn: u64,
    life: Life,
}

/// Two slots in turn, each in a sector of its own: a torn write leaves the other.
const SLOT: u64 = 512;

/// What the slots of a mark say, as far as they are whole: whose life, and a sequence number.
fn slots<F: DiskFile>(file: &mut F) -> io::Result<Vec<(Life, u64)>> {
    let mut slots = Vec::new();
    for slot in 0..2 {
        let mut bytes = [0; 20];
        if file.read_at(slot * SLOT, &mut bytes)? < bytes.len() {
            continue;
        }
        let (content, checksum) = bytes.split_at(16);
        if crc32fast::hash(content).to_le_bytes() == checksum {
            let number = |at: usize| content[at..at + 8].try_into().expect("eight bytes");
            slots.push((Life(u64::from_le_bytes(number(0))), u64::from_le_bytes(number(8))));
        }
    }
    Ok(slots)
}

impl<F: DiskFile> Mark<F> {
    pub(super) const fn new(file: F, life: Life) -> Self {
        Self { file, turn: 0, life }
    }

    /// The highest sequence number that is known to have been durable.
    pub(super) fn read(&mut self) -> io::Result<u64> {
        let slots = slots(&mut self.file)?.into_iter();
        let mine = slots.filter(|(life, _)| *life == self.life);
        Ok(mine.map(|(_, sequence)| sequence).max().unwrap_or(0))
    }

    pub(super) fn write(&mut self, sequence: u64) -> io::Result<()> {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.life.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        self.turn += 1;
        self.file.write_at(self.turn % 2 * SLOT, &bytes)
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }
}
