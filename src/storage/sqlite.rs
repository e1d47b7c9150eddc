//! A store in an SQLite database: one row for each thing that a log comes to.
//!
//! SQLite's own checksums tell it where its write-ahead log ends, not whether something was lost
//! from it, and its pages have none. So each row is a frame with a checksum, a sum over all rows is
//! kept with every transaction, and the mark says which transaction was the last to be durable.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};

use super::checkpoint::{fold_copy, fold_replica};
use super::disk::{Directory, Disk};
use super::health::{FailStop, Health};
use super::manifest::{Claim, MARK, Manifest, Mark, claim, on, refused};
use super::memory::ascend;
use super::records::{Records, encode};
use super::{Damage, Found, OpenError, Opened, Owner, Storage, StorageError};
use crate::base::TableName;
use crate::base::{Life, Ticket};
use crate::node::Record;
use crate::wire;

/// The name of this store in a manifest.
pub(super) const STORE: &str = "sqlite";
const FILE: &str = "state.sqlite";

/// Changes of a copy are folded when there are so many.
const CHANGES_MAX: usize = 8192;

/// Records of a replica are folded when they have so many bytes more than after the last time, and
/// twice as many.
const STEPS_BYTES_MAX: usize = 1 << 20;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS records (name BLOB PRIMARY KEY, frame BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS total (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        sequence INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        sum INTEGER NOT NULL
    );
    INSERT OR IGNORE INTO total VALUES (1, 0, 0, 0);
";

/// A store in an SQLite database.
pub struct Sqlite {
    disk: Directory,
    connection: Option<Connection>,
    health: Health,
    ticket: Ticket,
    manifest: Manifest,
    total: Total,
    mark: Option<Mark<std::fs::File>>,
    in_transaction: bool,
    born: Option<Life>,
    changes: Changes,
}

/// What is kept of tables that are not made of registers: by what the names of its rows begin with,
/// and by table.
type Changes = BTreeMap<(u8, TableName), Kept>;

/// Rows that are kept one by one, and folded now and then.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    count: usize,
    /// The number of the next.
    next: u64,
    /// How many bytes they have, and had when they were last folded.
    bytes: usize,
    folded: usize,
}

/// What all rows together are, so that none can vanish or be an old one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    /// Counts the transactions.
    sequence: i64,
    rows: i64,
    /// The sum of the rows' hashes: it does not depend on their order.
    sum: i64,
}

fn hash(name: &[u8], frame: &[u8]) -> i64 {
    // Two checksums over different orders, as one alone would be the frame's own.
    let mut forth = crc32fast::Hasher::new();
    forth.update(name);
    forth.update(frame);
    let mut back = crc32fast::Hasher::new();
    back.update(frame);
    back.update(name);
    i64::from(forth.finalize()) << 32 | i64::from(back.finalize())
}

/// What the names of changes of merged tables begin with.
const CHANGED: u8 = 6;

/// What the names of changes of primary tables begin with.
const REPLICA: u8 = 7;

/// Where a record is kept: rows in the order of their names are what a node recovers from.
fn name(record: &Record) -> Vec<u8> {
    let mut name = Vec::new();
    match record {
        Record::Born { .. } => name.push(0),
        Record::Incarnation(_) => name.push(1),
        Record::Witnessed { peer, .. } => {
            name.push(2);
            name.extend(peer.0.to_be_bytes());
        }
        Record::Active { .. } => name.push(3),
        Record::Begun { table, .. } => {
            name.push(5);
            name.extend(table.0.to_be_bytes());
        }
        // Behind it stands the number of the change.
        Record::Changed { table, .. } => {
            name.push(CHANGED);
            name.extend(table.0.to_be_bytes());
        }
        Record::Replica { table, .. } => {
            name.push(REPLICA);
            name.extend(table.0.to_be_bytes());
        }
        Record::Accepted { register, .. } | Record::Promised { register, .. } => {
            name.push(4);
            match register {
                crate::base::RegisterId::NodeSession(node) => {
                    name.push(0);
                    name.extend(node.0.to_be_bytes());
                }
                crate::base::RegisterId::Key(table, key) => {
                    name.push(1);
                    name.extend(table.0.to_be_bytes());
                    name.extend(key.as_bytes());
                }
            }
        }
    }
    name
}

impl Sqlite {
    /// Opens the database in a directory, which is made if there is none, and locks it.
    ///
    /// # Errors
    /// If it is somebody else's, or the operating system says no. Damage is no error: it is found.
    pub fn open(path: &Path, owner: &Owner) -> Result<Opened<Self>, OpenError> {
        let mut disk = Directory::lock(path)?;
        let is_ours = |name: &str| name.starts_with(FILE);
        let claim = claim(&mut disk, owner, STORE, is_ours)?;
        let mut store = Self {
            disk,
            connection: None,
            health: Health::Well,
            ticket: Ticket(0),
            manifest: Manifest::new(STORE, owner),
            total: Total::default(),
            mark: None,
            in_transaction: false,
            born: None,
            changes: BTreeMap::new(),
        };
        let found = match claim {
            Claim::New => {
                // What was never confirmed, if there is any.
                for name in store.disk.list().map_err(|error| store.io("list", error))? {
                    if is_ours(&name) {
                        store.disk.remove(&name).map_err(|error| store.io("clear", error))?;
                    }
                }
                Found::New
            }
            Claim::Damaged(damage) => Found::Damaged(damage),
            Claim::Used(manifest) => {
                store.manifest = manifest;
                store.recover()?
            }
        };
        if matches!(found, Found::Damaged(_)) {
            store.health = Health::Damaged;
            store.connection = None;
        }
        Ok(Opened { storage: store, found })
    }

    fn io(&self, doing: &'static str, error: std::io::Error) -> OpenError {
        OpenError::Io { doing, path: self.disk.path().to_owned(), error }
    }

    fn connect(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(self.disk.path().join(FILE), flags)?;
        // The directory is locked, so nobody else is there to be shared with.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // A store that failed or is damaged writes nothing more, not even when it is closed.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(connection)
    }

    fn damaged(&self, name: &str, what: String) -> Found {
        Found::Damaged(Damage { path: self.disk.path().join(name), offset: None, what })
    }

    fn recover(&mut self) -> Result<Found, OpenError> {
        let life = self.manifest.life.expect("it is used");
        for name in [FILE, MARK] {
            if let Err(error) = self.disk.open(name) {
                if error.kind() == std::io::ErrorKind::NotFound {
                    return Ok(self.damaged(name, "the file is missing".to_owned()));
                }
                return Err(self.io("open a file of", error));
            }
        }
        let file = self.disk.open(MARK).map_err(|error| self.io("open the mark of", error))?;
        let mut mark = Mark::new(file, life);
        let durable = mark.read().map_err(|error| self.io("read the mark of", error))?.max(1);
        let mut records = Records::default();
        let mut changes = BTreeMap::new();
        let read = self.connect(OpenFlags::empty()).and_then(|connection| {
            let total = read(&connection, &mut records, &mut changes)?;
            Ok((connection, total))
        });
        let (connection, total) = match read {
            Ok((connection, Ok(total))) => (connection, total),
            Ok((_, Err(what))) => return Ok(self.damaged(FILE, what)),
            Err(error) if is_trouble(&error) => {
                return Err(self.io("read", std::io::Error::other(error)));
            }
            Err(error) => return Ok(self.damaged(FILE, error.to_string())),
        };
        if (total.sequence as u64) < durable {
            let what = format!(
                "it ends with transaction {}, and {durable} had been synced",
                total.sequence
            );
            return Ok(self.damaged(FILE, what));
        }
        (self.connection, self.mark, self.total) = (Some(connection), Some(mark), total);
        self.changes = changes;
        // What was read may be in memory only, after a sync that failed or never was, and then no
        // later sync of that file writes it: this writes it again, in another.
        self.checkpoint().map_err(refused)?;
        Ok(Found::Records(records))
    }

    fn begin(&mut self, first: &Record) -> Result<(), StorageError> {
        let Record::Born { life, .. } = *first else {
            panic!("a store begins with whose it is, not with {first}");
        };
        self.born = Some(life);
        let file = on(&mut self.disk, "create", MARK, |disk| disk.create(MARK))?;
        self.mark = Some(Mark::new(file, life));
        let made = self.connect(OpenFlags::SQLITE_OPEN_CREATE).and_then(|connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        });
        self.connection = Some(made.map_err(|error| self.failed("create", error))?);
        Ok(())
    }

    fn failed(&self, doing: &'static str, error: rusqlite::Error) -> StorageError {
        let path = self.disk.path().join(FILE);
        StorageError::Io { doing, path, error: std::io::Error::other(error) }
    }

    fn add(&mut self, records: &[Record]) -> Result<(), StorageError> {
        let Some(first) = records.first() else { return Ok(()) };
        if self.connection.is_none() {
            self.begin(first)?;
        }
        let connection = self.connection.as_ref().expect("it was opened");
        if !self.in_transaction {
            let begun = connection.execute_batch("BEGIN IMMEDIATE");
            begun.map_err(|error| self.failed("write", error))?;
            self.in_transaction = true;
        }
        let connection = self.connection.as_ref().expect("it was opened");
        for record in records {
            let mut frame = Vec::new();
            encode(record, &mut frame)?;
            let put = place(connection, &mut self.total, &mut self.changes, record, frame);
            put.map_err(|error| self.failed("write", error))?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        if !self.in_transaction {
            return Ok(());
        }
        self.total.sequence += 1;
        let Total { sequence, rows, sum } = self.total;
        let connection = self.connection.as_ref().expect("there is a transaction");
        let done = connection
            .prepare_cached("UPDATE total SET sequence = ?1, rows = ?2, sum = ?3")
            .and_then(|mut update| update.execute(params![sequence, rows, sum]))
            .and_then(|_| connection.execute_batch("COMMIT"));
        done.map_err(|error| self.failed("commit", error))?;
        self.in_transaction = false;
        let mark = self.mark.as_mut().expect("there is a mark");
        if self.manifest.life.is_none() {
            on(&mut self.disk, "write", MARK, |_| mark.write(0).and_then(|()| mark.sync()))?;
            self.manifest.life = self.born;
            on(&mut self.disk, "sync the directory of", FILE, Disk::sync)?;
            self.manifest.write(&mut self.disk)?;
        }
        on(&mut self.disk, "write", MARK, |_| mark.write(sequence as u64))
    }

    fn checkpoint(&mut self) -> Result<(), StorageError> {
        self.commit()?;
        let Some(connection) = &self.connection else { return Ok(()) };
        let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        done.map_err(|error| self.failed("compact", error))
    }
}

/// Whether an error is of the moment, and says nothing about what is stored.
fn is_trouble(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied, ReadOnly,
    };
    error.sqlite_error_code().is_some_and(|code| {
        [
            CannotOpen,
            DatabaseBusy,
            DatabaseLocked,
            DiskFull,
            OutOfMemory,
            PermissionDenied,
            ReadOnly,
        ]
        .contains(&code)
    })
}

/// Puts a record where it belongs. Changes of a copy of a merged table are kept one by one, and
/// folded now and then.
fn place(
    connection: &Connection,
    total: &mut Total,
    changes: &mut Changes,
    record: &Record,
    frame: Vec<u8>,
) -> rusqlite::Result<()> {
    let name = name(record);
    match record {
        Record::Begun { table, .. } => {
            let of = (CHANGED, *table);
            take_changes(connection, total, of)?;
            changes.entry(of).or_default().count = 0;
        }
        Record::Changed { table, .. } => {
            let of = (CHANGED, *table);
            add_change(connection, total, changes, of, record, frame)?;
            if changes[&of].count >= CHANGES_MAX {
                fold_changes(connection, total, changes, *table)?;
            }
            return Ok(());
        }
        Record::Replica { table, record: crate::primary::Record::Void } => {
            let of = (REPLICA, *table);
            take_changes(connection, total, of)?;
            changes.remove(&of);
            return Ok(());
        }
        Record::Replica { table, .. } => {
            let of = (REPLICA, *table);
            add_change(connection, total, changes, of, record, frame)?;
            let Kept { bytes, folded, .. } = changes[&of];
            if bytes >= folded * 2 + STEPS_BYTES_MAX {
                let steps = take_changes(connection, total, of)?;
                put_changes(connection, total, changes, of, fold_replica(*table, steps))?;
            }
            return Ok(());
        }
        Record::Accepted { .. }
        | Record::Active { .. }
        | Record::Born { .. }
        | Record::Incarnation(_)
        | Record::Promised { .. }
        | Record::Witnessed { .. } => {}
    }
    put(connection, total, &name, record, frame)
}

/// Puts one more change behind the others.
fn add_change(
    connection: &Connection,
    total: &mut Total,
    changes: &mut Changes,
    (kind, table): (u8, TableName),
    record: &Record,
    frame: Vec<u8>,
) -> rusqlite::Result<()> {
    let kept = changes.entry((kind, table)).or_default();
    let name = [&[kind][..], &table.0.to_be_bytes(), &kept.next.to_be_bytes()].concat();
    kept.count += 1;
    kept.next += 1;
    kept.bytes += frame.len();
    put(connection, total, &name, record, frame)
}

/// Puts changes where there are none any more.
fn put_changes(
    connection: &Connection,
    total: &mut Total,
    changes: &mut Changes,
    of: (u8, TableName),
    records: impl Iterator<Item = Record>,
) -> rusqlite::Result<()> {
    let kept = changes.entry(of).or_default();
    (kept.count, kept.bytes) = (0, 0);
    for record in records {
        let mut frame = Vec::new();
        wire::encode(&record, &mut frame).expect("parts of what was written before");
        add_change(connection, total, changes, of, &record, frame)?;
    }
    let kept = changes.entry(of).or_default();
    kept.folded = kept.bytes;
    Ok(())
}

/// Takes out all changes of a copy, in order.
fn take_changes(
    connection: &Connection,
    total: &mut Total,
    (kind, table): (u8, TableName),
) -> rusqlite::Result<Vec<Record>> {
    let first = [&[kind][..], &table.0.to_be_bytes()].concat();
    let last = [&first[..], &[0xff; 9]].concat();
    let mut records = Vec::new();
    let mut select = connection.prepare_cached(
        "SELECT name, frame FROM records WHERE name BETWEEN ?1 AND ?2 ORDER BY name",
    )?;
    let mut rows = select.query([&first, &last])?;
    while let Some(row) = rows.next()? {
        let (key, frame) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        total.rows -= 1;
        total.sum = total.sum.wrapping_sub(hash(key, frame));
        records.extend(wire::decode::<Record>(frame).map(|(record, _)| record));
    }
    drop(rows);
    let mut remove =
        connection.prepare_cached("DELETE FROM records WHERE name BETWEEN ?1 AND ?2")?;
    remove.execute([&first, &last])?;
    Ok(records)
}

fn fold_changes(
    connection: &Connection,
    total: &mut Total,
    changes: &mut Changes,
    table: TableName,
) -> rusqlite::Result<()> {
    let name = [&[5][..], &table.0.to_be_bytes()].concat();
    let begun: Vec<u8> =
        connection
            .query_row("SELECT frame FROM records WHERE name = ?1", [&name], |row| row.get(0))?;
    let Ok((begun, _)) = wire::decode::<Record>(&begun) else { return Ok(()) };
    let of = (CHANGED, table);
    let taken = take_changes(connection, total, of)?;
    put_changes(connection, total, changes, of, fold_copy(begun, taken).skip(1))
}

/// Puts a record in its row. A row of a register has one or two frames: what was accepted, and
/// the promise behind it.
fn put(
    connection: &Connection,
    total: &mut Total,
    name: &[u8],
    record: &Record,
    mut frame: Vec<u8>,
) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached("SELECT frame FROM records WHERE name = ?1")?;
    let mut rows = select.query([name])?;
    if let Some(row) = rows.next()? {
        let old = row.get_ref(0)?.as_blob()?;
        total.rows -= 1;
        total.sum = total.sum.wrapping_sub(hash(name, old));
        if matches!(record, Record::Promised { .. })
            && let Ok((accepted @ Record::Accepted { .. }, used)) = wire::decode::<Record>(old)
        {
            let implied = matches!(
                (&accepted, record),
                (Record::Accepted { ballot: accepted, .. }, Record::Promised { ballot, .. })
                    if accepted >= ballot
            );
            let promise = if implied { Vec::new() } else { frame };
            frame = [&old[..used], &promise[..]].concat();
        }
    }
    drop(rows);
    total.rows += 1;
    total.sum = total.sum.wrapping_add(hash(name, &frame));
    let mut write = connection.prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2)")?;
    write.execute(params![name, frame])?;
    Ok(())
}

fn is_named(record: &Record, key: &[u8]) -> bool {
    let name = name(record);
    match record {
        Record::Changed { .. } | Record::Replica { .. } => {
            key.len() == name.len() + 8 && key.starts_with(&name)
        }
        Record::Accepted { .. }
        | Record::Active { .. }
        | Record::Begun { .. }
        | Record::Born { .. }
        | Record::Incarnation(_)
        | Record::Promised { .. }
        | Record::Witnessed { .. } => name == key,
    }
}

/// Reads all rows; the inner error is what is wrong with them.
fn read(
    connection: &Connection,
    records: &mut Records,
    changes: &mut Changes,
) -> rusqlite::Result<Result<Total, String>> {
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if mode != "wal" {
        return Ok(Err(format!("its journal mode is {mode}, and was wal")));
    }
    let expected = connection.query_row("SELECT sequence, rows, sum FROM total", [], |row| {
        Ok(Total { sequence: row.get(0)?, rows: row.get(1)?, sum: row.get(2)? })
    })?;
    let mut found = Total { sequence: expected.sequence, ..Total::default() };
    records.pack(true);
    let mut select = connection.prepare("SELECT name, frame FROM records ORDER BY name")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (key, frames) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        found.rows += 1;
        found.sum = found.sum.wrapping_add(hash(key, frames));
        let (mut rest, mut count) = (frames, 0);
        while !rest.is_empty() {
            match wire::decode::<Record>(rest) {
                Ok((record, used)) if is_named(&record, key) => {
                    let of = match &record {
                        Record::Changed { table, .. } => Some((CHANGED, *table)),
                        Record::Replica { table, .. } => Some((REPLICA, *table)),
                        Record::Accepted { .. }
                        | Record::Active { .. }
                        | Record::Begun { .. }
                        | Record::Born { .. }
                        | Record::Incarnation(_)
                        | Record::Promised { .. }
                        | Record::Witnessed { .. } => None,
                    };
                    if let (Some(of), Some(number)) = (of, key.last_chunk()) {
                        let kept = changes.entry(of).or_default();
                        kept.count += 1;
                        kept.next = u64::from_be_bytes(*number) + 1;
                        kept.bytes += used;
                    }
                    rest = &rest[used..];
                    count += 1;
                }
                Ok((record, _)) => return Ok(Err(format!("a row that is not of {record}"))),
                Err(error) => return Ok(Err(format!("a row is no record: {error}"))),
            }
        }
        records.push(frames, count);
    }
    for kept in changes.values_mut() {
        kept.folded = kept.bytes;
    }
    if found != expected {
        let what = format!("{} rows where {} were written", found.rows, expected.rows);
        let what =
            if found.rows == expected.rows { "rows are not as written".into() } else { what };
        return Ok(Err(what));
    }
    Ok(Ok(found))
}

impl FailStop for Sqlite {
    fn health(&mut self) -> &mut Health {
        &mut self.health
    }
}

impl Storage for Sqlite {
    fn append(&mut self, ticket: Ticket, records: &[Record]) -> Result<(), StorageError> {
        ascend(&mut self.ticket, ticket);
        self.attempt(|store| store.add(records))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.attempt(Self::commit)
    }

    fn compact(&mut self) -> Result<(), StorageError> {
        self.attempt(Self::checkpoint)
    }
}
