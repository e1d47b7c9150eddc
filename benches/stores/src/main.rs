//! What a durable commit costs in synod's stores, and in engines that could keep its records.
//!
//! `cargo run --release --manifest-path benches/stores/Cargo.toml [RECORDS [DIRECTORY]]` prints, in
//! one table, commits a second with 1, 16 and 256 records to a sync, and what it takes to load so
//! many records (a million by default), keep them and read them back. Records are acceptances of
//! 100 bytes. Compare figures of one run only, on the disk that is meant.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use redb::{ReadableDatabase, ReadableTable};
use synod::storage::{Found, Owner, Storage, Store};
use synod::{ClusterId, Config, Life, NodeId, Record, Ticket, wire};
use synod_bench_stores::record;

/// Rates are measured in turns of this length, and the best turn counts: others use the disk too.
const TIME: Duration = Duration::from_millis(500);
const TURNS: usize = 5;
const BATCHES: [usize; 3] = [1, 16, 256];
const KEYS: u64 = 100_000;
/// Bytes of a value.
const SIZE: usize = 100;

/// One way to keep records.
trait Engine {
    /// Writes and syncs.
    fn commit(&mut self, records: &[Record]);
}

type Open = fn(&Path) -> (Box<dyn Engine>, usize);

struct Ours(Box<dyn Storage>, u64);

fn ours(store: Store, path: &Path) -> (Box<dyn Engine>, usize) {
    let config = Config { cluster: ClusterId(1), ..Config::new(NodeId(1)) };
    let owner = Owner::of(&config, "bench");
    let opened = store.open(path, &owner).expect("opens");
    let count = match &opened.found {
        Found::New => 0,
        Found::Records(records) => records.len(),
        Found::Damaged(damage) => panic!("{damage}"),
    };
    let mut engine = Ours(opened.storage, 0);
    if count == 0 {
        let born = Record::Born { cluster: ClusterId(1), node: NodeId(1), life: Life(1) };
        engine.commit(&[born]);
    }
    (Box::new(engine), count)
}

impl Engine for Ours {
    fn commit(&mut self, records: &[Record]) {
        self.1 += 1;
        self.0.append(Ticket(self.1), records).expect("appends");
        self.0.sync().expect("syncs");
    }
}

fn pair(record: &Record) -> (String, Vec<u8>) {
    let mut frame = Vec::new();
    wire::encode(record, &mut frame).expect("short");
    let Record::Accepted { register, .. } = record else { panic!("not of a register") };
    (register.to_string(), frame)
}

fn decoded(frame: &[u8]) -> usize {
    usize::from(wire::decode::<Record>(frame).is_ok())
}

struct Fjall(fjall::Database, fjall::Keyspace);

fn fjall(path: &Path) -> (Box<dyn Engine>, usize) {
    let database = fjall::Database::builder(path).open().expect("opens");
    let records =
        database.keyspace("records", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    let mut count = 0;
    for guard in records.iter() {
        let (_, frame) = guard.into_inner().expect("reads");
        count += decoded(&frame);
    }
    (Box::new(Fjall(database, records)), count)
}

impl Engine for Fjall {
    fn commit(&mut self, records: &[Record]) {
        let mut batch = self.0.batch();
        for record in records {
            let (key, frame) = pair(record);
            batch.insert(&self.1, key, frame);
        }
        batch.commit().expect("commits");
        self.0.persist(fjall::PersistMode::SyncData).expect("syncs");
    }
}

const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("records");

struct Redb(redb::Database);

fn redb(path: &Path) -> (Box<dyn Engine>, usize) {
    fs::create_dir_all(path).expect("a directory");
    let database = redb::Database::create(path.join("redb")).expect("opens");
    let mut count = 0;
    if let Ok(table) = database.begin_read().expect("reads").open_table(TABLE) {
        for row in table.iter().expect("reads") {
            count += decoded(row.expect("reads").1.value());
        }
    }
    (Box::new(Redb(database)), count)
}

impl Engine for Redb {
    fn commit(&mut self, records: &[Record]) {
        let write = self.0.begin_write().expect("begins");
        {
            let mut table = write.open_table(TABLE).expect("a table");
            for record in records {
                let (key, frame) = pair(record);
                table.insert(key.as_bytes(), &*frame).expect("inserts");
            }
        }
        write.commit().expect("commits");
    }
}

/// The floor: a write of about one record, and a sync, to a file that grows or is there already.
struct Floor(File, u64, bool);

fn floor(path: &Path, grows: bool) -> Floor {
    fs::create_dir_all(path).expect("a directory");
    let mut file = File::create(path.join("floor")).expect("creates");
    if !grows {
        file.write_all(&vec![0; 64 << 20]).expect("writes");
        file.sync_all().expect("syncs");
    }
    Floor(file, 0, grows)
}

impl Engine for Floor {
    fn commit(&mut self, records: &[Record]) {
        let length = 230 * records.len() as u64;
        if !self.2 && self.1 + length > 64 << 20 {
            self.1 = 0;
        }
        self.0.seek(SeekFrom::Start(self.1)).expect("seeks");
        self.0.write_all(&vec![7; length as usize]).expect("writes");
        self.0.sync_data().expect("syncs");
        self.1 += length;
    }
}

fn rate(engine: &mut dyn Engine, batch: usize, round: &mut u64) -> f64 {
    let mut commits = 0_u32;
    let start = Instant::now();
    while start.elapsed() < TIME {
        let records: Vec<Record> = (0..batch as u64)
            .map(|place| {
                record((*round + place).wrapping_mul(0x9e37_79b9) % KEYS, *round + place, SIZE)
            })
            .collect();
        *round += batch as u64;
        engine.commit(&records);
        commits += 1;
    }
    f64::from(commits) / start.elapsed().as_secs_f64()
}

fn bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).expect("a directory");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let data = entry.metadata().expect("metadata");
            if data.is_dir() { bytes(&entry.path()) } else { data.len() }
        })
        .sum()
}

/// Ticks of user and system time that this process has used, of which a second has 100.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |place: usize| fields[place].parse::<f64>().unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments.next().map_or(1_000_000, |count| count.parse().expect("a number"));
    let directory = match arguments.next() {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    }
    .expect("a directory");
    let engines: [(&str, Open); 6] = [
        ("append", |path| (Box::new(floor(path, true)), 0)),
        ("rewrite", |path| (Box::new(floor(path, false)), 0)),
        ("log", |path| ours(Store::Log, path)),
        ("sqlite", |path| ours(Store::Sqlite, path)),
        ("fjall", fjall),
        ("redb", redb),
    ];
    println!("{:<8} {:>9} {:>9} {:>9}   commits a second", "store", "1", "16", "256");
    let mut rates = [[0_f64; BATCHES.len()]; 6];
    for (column, batch) in BATCHES.into_iter().enumerate() {
        let folder = directory.path().join(batch.to_string());
        let mut open = engines.map(|(name, open)| (open(&folder.join(name)).0, 1_u64));
        for _ in 0..TURNS {
            for (row, (engine, round)) in open.iter_mut().enumerate() {
                let rate = rate(&mut **engine, batch, round);
                rates[row][column] = rates[row][column].max(rate);
            }
        }
        drop(open);
        fs::remove_dir_all(folder).expect("removes");
    }
    for ((name, _), [one, some, many]) in engines.iter().zip(rates) {
        println!("{name:<8} {one:>9.0} {some:>9.0} {many:>9.0}");
    }
    println!(
        "\n{:<8} {:>9} {:>9} {:>9} {:>9} {:>9}   {count} records",
        "store", "load s", "cpu s", "MB", "open s", "cpu s"
    );
    for (name, open) in engines.into_iter().skip(2) {
        let load = directory.path().join(name);
        let (start, used) = (Instant::now(), cpu());
        let (mut engine, _) = open(&load);
        for first in (0..count).step_by(256) {
            let last = count.min(first + 256);
            let records: Vec<Record> =
                (first..last).map(|key| record(key, key + 1, SIZE)).collect();
            engine.commit(&records);
        }
        let loaded = (start.elapsed().as_secs_f64(), cpu() - used);
        drop(engine);
        let size = bytes(&load) as f64 / 1e6;
        let (start, used) = (Instant::now(), cpu());
        let (engine, found) = open(&load);
        let opened = (start.elapsed().as_secs_f64(), cpu() - used);
        assert!(found as u64 >= count, "{name}: {found} of {count} records");
        drop(engine);
        println!(
            "{name:<8} {:>9.2} {:>9.2} {size:>9.1} {:>9.2} {:>9.2}",
            loaded.0, loaded.1, opened.0, opened.1
        );
        fs::remove_dir_all(load).expect("removes");
    }
}
