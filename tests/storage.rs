//! What every store promises, asked of each of them.

#[path = "support/records.rs"]
mod records;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use records::{Model, Source, owner, scratch};
use support::{Cluster, config, fence, put, put_if_absent, remove};
use synod::storage::{
    Checkpoint, FaultyDisk, Found, Log, LogOptions, Memory, OpenError, Opened, Owner, Storage,
    StorageError, Store, Volatile,
};
use synod::{
    ClientId, Incarnation, Key, Life, Node, NodeId, OpId, Readiness, Record, RequestId, Ticket,
    Value, merged, primary,
};
use tempfile::TempDir;

/// A store that can be opened again and again: dropping what was opened ends its process.
type Reopen = Box<dyn FnMut() -> Opened<Box<dyn Storage>>>;

/// Every kind of store, empty, by its name.
fn stores() -> Vec<(&'static str, Reopen)> {
    let memory = Memory::default();
    let disk = FaultyDisk::new(1);
    let small = LogOptions { ahead: 4_096, segment: 20_000, compact: 50_000 };
    vec![
        ("memory", Box::new(move || memory.reopen().boxed())),
        ("log", in_directory(Store::Log)),
        ("sqlite", in_directory(Store::Sqlite)),
        (
            "small log",
            Box::new(move || {
                disk.kill();
                Log::open_on(disk.clone(), &owner(), small).expect("opens").boxed()
            }),
        ),
    ]
}

fn in_directory(store: Store) -> Reopen {
    let directory = TempDir::new().expect("a directory");
    Box::new(move || store.open(&directory.path().join("node"), &owner()).expect("opens"))
}

const ON_DISK: [Store; 2] = [Store::Log, Store::Sqlite];

/// Appends a batch of these records each, with a sync behind each.
fn fill(storage: &mut dyn Storage, batches: &[&[Record]]) {
    for (place, batch) in batches.iter().enumerate() {
        storage.append(Ticket(place as u64 + 1), batch).expect("appends");
        storage.sync().expect("syncs");
    }
}

#[test]
fn what_was_synced_is_read_back_after_every_batch() {
    for (name, mut reopen) in stores() {
        let mut source = Source::new(1);
        let mut model = Model::default();
        for life in 0..6 {
            let Opened { mut storage, found } = reopen();
            model.expect(&found, &format!("{name} life {life}"));
            let mut batches = vec![source.restart()];
            batches.extend((0..20).map(|count| source.take(count)));
            fill(&mut *storage, &batches.iter().map(Vec::as_slice).collect::<Vec<_>>());
            model.log.extend(batches.into_iter().flatten());
            model.synced();
            // Behind the last sync.
            let tail = source.take(5);
            storage.append(Ticket(100), &tail).expect("appends");
            model.log.extend(tail);
            if life == 3 {
                storage.compact().expect("compacts");
                model.synced();
            }
        }
        model.expect(&reopen().found, name);
    }
}

#[test]
fn a_store_of_which_nothing_was_synced_is_new() {
    for (name, mut reopen) in stores() {
        for _ in 0..3 {
            let Opened { mut storage, found } = reopen();
            assert_eq!(found, Found::New, "{name}");
            storage.sync().expect("nothing to sync");
            storage.compact().expect("nothing to compact");
            storage.append(Ticket(1), &Source::new(1).restart()).expect("appends");
        }
    }
}

#[test]
fn a_record_may_be_large_and_not_too_large() {
    for (name, mut reopen) in stores() {
        let Opened { mut storage, .. } = reopen();
        let mut model = Model { log: Source::new(1).restart(), synced: 0 };
        model.log.extend(Source::shaped(5, 3, 300_000).take(6));
        fill(&mut *storage, &[&model.log]);
        model.synced();
        drop(storage);
        let Opened { mut storage, found } = reopen();
        model.expect(&found, name);
        if name == "memory" {
            continue;
        }
        let huge = records::accepted(vec![0; 17 << 20]);
        let error = storage.append(Ticket(1), &[huge]).expect_err("too long");
        assert!(matches!(error, StorageError::TooLong { .. }), "{name}: {error}");
        assert!(matches!(storage.sync(), Err(StorageError::Stopped)), "{name}");
        drop(storage);
        model.expect(&reopen().found, name);
    }
}

#[test]
fn a_hundred_thousand_records_are_kept_in_bounded_space() {
    for store in ON_DISK {
        let directory = TempDir::new().expect("a directory");
        let mut model = Model::default();
        let mut source = Source::shaped(2, 1_000, 100);
        let mut storage = store.open(directory.path(), &owner()).expect("opens").storage;
        model.log = source.restart();
        model.log.extend(source.take(100_000));
        let batches: Vec<&[Record]> = model.log.chunks(2_000).collect();
        fill(&mut *storage, &batches);
        storage.compact().expect("compacts");
        model.synced();
        drop(storage);
        let used: u64 = files(directory.path()).values().map(|bytes| bytes.len() as u64).sum();
        assert!(used < 3 << 20, "{store:?}: a thousand registers in {used} bytes");
        let Opened { mut storage, found } = store.open(directory.path(), &owner()).expect("opens");
        model.expect(&found, "100,000 records");
        storage.append(Ticket(1), &source.restart()).expect("goes on");
        storage.sync().expect("syncs");
    }
}

/// The records of a table: its first, and each of the others by its number.
type Table = (&'static str, Record, Box<dyn Fn(u64) -> Record>);

/// Records of a table each: so many rows of so many bytes, then steps that change one row.
fn large_tables(rows: u64, bytes: usize) -> [Table; 2] {
    let table = merged::TableName::of("things");
    let actor =
        merged::Actor { node: NodeId(1), life: Life(0), incarnation: Incarnation(1), anew: 0 };
    let agreement = merged::Schema::default().agreement();
    let key = move |number: u64| Key::from(&*format!("key{:06}", number % rows));
    let value = move || Value::from(vec![0; bytes]);
    let changed = move |number: u64| {
        let dot = merged::Dot { actor, number };
        let past = number.checked_sub(rows).filter(|past| *past > 0);
        let past = past.map(|number| merged::Dot { actor, number });
        let version = merged::Version {
            dot,
            past: past.into_iter().collect(),
            stamp: merged::Stamp::default(),
            origin: merged::Origin::Written,
            content: merged::Content::Live(value()),
            field: None,
            first: None,
        };
        let row = merged::Row { key: key(number), element: None };
        let (versions, seen) = (vec![(row, version)], [dot].into_iter().collect());
        let change = merged::Change { versions, seen, ..merged::Change::default() };
        Record::Changed { table, by: Incarnation(1), change, last: true }
    };
    let appended = move |index: u64| {
        let place = primary::Place { reign: primary::Reign(1), index };
        let op = OpId { client: ClientId::new(1), request: RequestId(index) };
        let entry = primary::Entry { place, what: primary::What::Put(op, key(index), value()) };
        Record::Replica { table, record: primary::Record::Appended(vec![entry]) }
    };
    let entered = primary::Record::Entered { reign: primary::Reign(1), sworn_off: false };
    [
        ("merged", Record::Begun { table, actor, agreement }, Box::new(changed)),
        ("primary", Record::Replica { table, record: entered }, Box::new(appended)),
    ]
}

/// However large a table is, no write waits for all of it to be compacted.
#[test]
fn a_large_table_is_compacted_a_little_at_a_time() {
    let (rows, bytes) = (30, 500_000);
    for (name, first, next) in large_tables(rows, bytes) {
        let disk = FaultyDisk::new(1);
        let options = LogOptions { ahead: 0, segment: 4 << 20, compact: 8 << 20 };
        let open = || {
            disk.kill();
            Log::open_on(disk.clone(), &owner(), options).expect("opens")
        };
        let mut storage = open().storage;
        let mut model = Model { log: Source::new(1).restart(), synced: 0 };
        model.log.push(first);
        let (mut most, mut checkpoints) = (0, BTreeSet::new());
        for number in 1..=rows * 4 {
            model.log.push(next(number));
            let last = model.log.last().cloned();
            let records = if number == 1 { model.log.clone() } else { last.into_iter().collect() };
            let before = disk.operations();
            storage.append(Ticket(number), &records).expect("appends");
            storage.sync().expect("syncs");
            most = most.max(disk.operations() - before);
            checkpoints
                .extend(disk.names().into_iter().filter(|name| name.starts_with("checkpoint")));
        }
        assert!(checkpoints.len() > 2, "{name}: {checkpoints:?}");
        assert!(most < rows, "{name}: {most} operations for one write");
        model.synced();
        drop(storage);
        model.expect(&open().found, name);
    }
}

#[test]
#[should_panic(expected = "behind")]
fn tickets_ascend() {
    let mut storage = Volatile::default();
    storage.append(Ticket(2), &[]).expect("takes everything");
    storage.append(Ticket(1), &[]).expect("panics");
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a directory");
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("an entry");
        let bytes = fs::read(entry.path()).expect("a file");
        (entry.file_name().into_string().expect("a name"), bytes)
    };
    entries.map(read).collect()
}

/// The same without the file that anybody may write who opens the directory.
fn left(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = files(directory);
    files.remove("LOCK");
    files
}

/// A directory with some records, of which the first segment holds more than one block.
fn used(store: Store) -> (TempDir, Model) {
    let directory = scratch();
    let mut source = Source::new(3);
    let mut model = Model { log: source.restart(), synced: 0 };
    model.log.extend(source.take(60));
    let mut storage = store.open(directory.path(), &owner()).expect("opens").storage;
    fill(&mut *storage, &model.log.chunks(10).collect::<Vec<_>>());
    model.synced();
    (directory, model)
}

#[test]
fn a_directory_is_used_by_one_process_at_a_time() {
    for store in ON_DISK {
        let (directory, _) = used(store);
        let first = store.open(directory.path(), &owner()).expect("opens");
        let error = store.open(directory.path(), &owner()).map(|_| ()).expect_err("is locked");
        assert!(matches!(error, OpenError::Locked { .. }));
        let expected = format!(
            "state directory {} is in use by process {}",
            directory.path().display(),
            std::process::id()
        );
        assert_eq!(error.to_string(), expected);
        drop(first);
        store.open(directory.path(), &owner()).expect("opens again");
    }
}

#[test]
fn a_directory_of_somebody_else_is_refused_and_left_alone() {
    for store in ON_DISK {
        let (directory, model) = used(store);
        let before = files(directory.path());
        let refused = |owner: &Owner, store: Store| {
            let error = store.open(directory.path(), owner).map(|_| ()).expect_err("refuses");
            let line = error.to_string();
            assert!(!line.contains('\n') && line.contains("state directory"), "{line}");
            error
        };
        let cluster = Owner { cluster: synod::ClusterId(8), name: "another".into(), ..owner() };
        let error = refused(&cluster, store);
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("belongs to node 1 of cluster \"test cluster\""));
        let node = Owner { node: NodeId(2), ..owner() };
        assert!(matches!(refused(&node, store), OpenError::Foreign { .. }));
        let other = if store == Store::Log { Store::Sqlite } else { Store::Log };
        assert!(matches!(refused(&owner(), other), OpenError::Store { .. }));
        assert_eq!(files(directory.path()), before);
        model.clone().expect(&store.open(directory.path(), &owner()).expect("opens").found, "own");
    }
}

/// A key belongs to a table by the table's place, and may have been written once there for ever: a
/// directory keeps its tables, and takes new ones behind them.
#[test]
fn tables_stay_what_they_were() {
    let tables = |tables: &[(usize, &str)]| {
        let tables = tables.iter().map(|(place, table)| (*place, (*table).to_owned()));
        Owner { tables: tables.collect(), ..owner() }
    };
    for store in ON_DISK {
        let (directory, model) = used(store);
        let open = |owner: &Owner| store.open(directory.path(), owner);
        let refused = |owner: &Owner| {
            let before = files(directory.path());
            let error = open(owner).map(|_| ()).expect_err("refuses");
            assert!(matches!(error, OpenError::Tables { .. }), "{error}");
            assert_eq!(files(directory.path()), before);
            error.to_string()
        };
        let text = refused(&tables(&[(0, "write-once default")]));
        assert!(text.contains("is \"consensus default\", not \"write-once default\""), "{text}");
        refused(&tables(&[(0, "consensus first"), (1, "consensus default")]));
        let text = refused(&tables(&[]));
        assert!(text.contains("no consensus table now"), "{text}");
        let more = tables(&[(0, "consensus default"), (2, "write-once locks")]);
        model.clone().expect(&open(&more).expect("takes a new one").found, "with one more");
        let text = refused(&owner());
        assert!(text.contains("table 2") && text.contains("write-once locks"), "{text}");
        model.clone().expect(&open(&more).expect("opens").found, "again");
    }
}

#[test]
fn another_format_is_refused() {
    for store in ON_DISK {
        let (directory, _) = used(store);
        for format in ["0", "1", "3", "5", "later"] {
            let path = directory.path().join("MANIFEST");
            let body = format!("synod state directory\nformat {format}\nanything else\n");
            let sum = crc32fast::hash(body.as_bytes());
            fs::write(path, format!("{body}checksum {sum:08x}\n")).expect("writes");
            let error = store.open(directory.path(), &owner()).map(|_| ()).expect_err("refuses");
            assert!(matches!(error, OpenError::Version { .. }), "{error}");
            assert!(error.to_string().contains(&format!("has format {format}")), "{error}");
        }
    }
}

#[test]
fn a_directory_with_other_things_in_it_is_refused() {
    for store in ON_DISK {
        let directory = TempDir::new().expect("a directory");
        fs::write(directory.path().join("thesis.txt"), "two years of work").expect("writes");
        let before = files(directory.path());
        let error = store.open(directory.path(), &owner()).map(|_| ()).expect_err("refuses");
        assert!(matches!(error, OpenError::Occupied { .. }), "{error}");
        assert_eq!(left(directory.path()), before);
        let name = Owner { name: "two\nlines".into(), ..owner() };
        let error = store.open(&directory.path().join("new"), &name).map(|_| ());
        assert!(matches!(error, Err(OpenError::Name(_))));
    }
}

/// P-32: a directory that lost any of its files is not a new one, and its node does not vote.
#[test]
fn without_any_of_its_files_a_node_does_not_vote() {
    for store in ON_DISK {
        let (directory, _) = used(store);
        let files = files(directory.path());
        for name in files.keys().filter(|name| *name != "LOCK" && !name.ends_with("-shm")) {
            let copy = scratch();
            for (other, bytes) in files.iter().filter(|(other, _)| *other != name) {
                fs::write(copy.path().join(other), bytes).expect("writes");
            }
            let found = store.open(copy.path(), &owner()).expect("opens").found;
            assert!(matches!(found, Found::Damaged(_)), "{store:?} without {name}: {found:?}");
            let node = found.into_node(config(1, 3), 1).expect("possible");
            let Readiness::StateLost(why) = node.readiness() else { panic!("it votes") };
            assert!(why.contains(&*copy.path().to_string_lossy()), "{why}");
        }
    }
}

/// Of SQLite too: whatever one bit does, it is reported or of no account. Every byte of the log is
/// tried in `storage_faults`.
#[test]
fn a_flipped_bit_is_never_believed() {
    for store in ON_DISK {
        let (directory, model) = used(store);
        let files = files(directory.path());
        let mut source = Source::new(4);
        let mut reported = 0;
        let copy = scratch();
        for (name, bytes) in files.iter().filter(|(name, _)| *name != "LOCK") {
            for _ in 0..60 {
                let byte = source.draw(bytes.len().clamp(1, 40_000) as u64) as usize;
                let Some(old) = bytes.get(byte) else { continue };
                for (other, bytes) in &files {
                    fs::write(copy.path().join(other), bytes).expect("writes");
                }
                let mut flipped = bytes.clone();
                flipped[byte] = old ^ 1 << source.draw(8);
                fs::write(copy.path().join(name), flipped).expect("writes");
                let rotten = left(copy.path());
                let what = format!("{store:?}: {name} byte {byte}");
                let opened = store.open(copy.path(), &owner());
                let found = opened.unwrap_or_else(|error| panic!("{what}: {error}")).found;
                if model.expect_or_damage(&found, &what) {
                    reported += 1;
                    // It can be examined.
                    assert_eq!(left(copy.path()), rotten, "{what}");
                }
                fs::remove_dir_all(copy.path()).expect("removes");
                fs::create_dir(copy.path()).expect("creates");
            }
        }
        assert!(reported > 50, "{store:?}: {reported}");
    }
}

/// Of SQLite too: a file as it was at any earlier time is reported, or holds the same.
#[test]
fn an_old_file_is_never_believed() {
    for store in ON_DISK {
        let directory = scratch();
        let mut source = Source::new(6);
        let mut model = Model { log: source.restart(), synced: 0 };
        model.log.extend(source.take(60));
        let mut storage = store.open(directory.path(), &owner()).expect("opens").storage;
        let mut ages = vec![left(directory.path())];
        for (ticket, batch) in model.log.chunks(10).enumerate() {
            storage.append(Ticket(ticket as u64 + 1), batch).expect("appends");
            storage.sync().expect("syncs");
            if ticket == 3 {
                storage.compact().expect("compacts");
            }
            ages.push(left(directory.path()));
        }
        model.synced();
        drop(storage);
        let now = left(directory.path());
        let mut reported = 0;
        for (age, old) in ages.iter().enumerate() {
            for (name, bytes) in old.iter().filter(|(name, bytes)| now.get(*name) != Some(bytes)) {
                let copy = scratch();
                for (other, bytes) in &now {
                    fs::write(copy.path().join(other), bytes).expect("writes");
                }
                fs::write(copy.path().join(name), bytes).expect("writes");
                let what = format!("{store:?}: {name} as it was after batch {age}");
                let found = store.open(copy.path(), &owner()).expect(&what).found;
                reported += usize::from(model.expect_or_damage(&found, &what));
            }
        }
        assert!(reported > 5, "{store:?}: {reported}");
    }
}

proptest! {
    #![proptest_config(support::cases(12))]

    /// Against the model: any batches, syncs, compactions and restarts.
    #[test]
    fn every_store_agrees_with_the_model(
        seed in any::<u64>(),
        steps in prop::collection::vec((0..10_u8, 0..30_usize), 1..40),
    ) {
        for (name, mut reopen) in stores() {
            let mut source = Source::new(seed);
            let mut model = Model::default();
            let mut storage = None;
            let mut ticket = 0;
            for &(kind, count) in &steps {
                let records = if storage.is_none() || kind == 0 {
                    drop(storage.take());
                    let opened = reopen();
                    model.expect(&opened.found, name);
                    if model.log.is_empty() {
                        source = Source::new(seed);
                    }
                    storage = Some(opened.storage);
                    ticket = 0;
                    source.restart()
                } else {
                    source.take(count)
                };
                let storage = storage.as_mut().expect("open");
                ticket += 1;
                storage.append(Ticket(ticket), &records).expect("appends");
                model.log.extend(records);
                match kind {
                    1 => storage.compact().expect("compacts"),
                    2..=6 => storage.sync().expect("syncs"),
                    _ => continue,
                }
                model.synced();
            }
        }
    }
}

/// The log of a node that has promised, accepted, restarted and taken note of others.
fn log() -> Vec<Record> {
    let mut cluster = Cluster::new(3);
    for round in 0..3 {
        for key in ["a", "b", "c"] {
            cluster.call(1, put_if_absent(key, "first", vec![]));
            cluster.call(2, put(key, &round.to_string(), vec![]));
        }
        cluster.call(1, remove("b"));
        cluster.call(3, fence("c"));
        cluster.restart(1);
        cluster.run(std::time::Duration::from_secs(3));
    }
    cluster.machines[&NodeId(1)].durable.clone()
}

fn holdings(records: &[Record]) -> Vec<String> {
    let node = Node::recover(config(1, 3), 1, records.to_vec()).expect("a log of node 1");
    let registers = node.registers();
    registers
        .map(|(register, promised, accepted, cell)| {
            format!("{register} {promised} {accepted} {cell:?}")
        })
        .collect()
}

#[test]
fn a_checkpoint_recovers_what_its_log_does_at_every_length() {
    let log = log();
    let mut checkpoint = Checkpoint::default();
    for (place, record) in log.iter().enumerate() {
        checkpoint.apply(record.clone());
        let records: Vec<Record> = checkpoint.records().collect();
        assert_eq!(holdings(&records), holdings(&log[..=place]), "record {place}");
    }
    let records: Vec<Record> = checkpoint.records().collect();
    assert!(records.len() * 2 < log.len(), "{} of {}", records.len(), log.len());
    let mut again = Checkpoint::default();
    again.extend(records);
    assert_eq!(again, checkpoint);
}

#[test]
fn a_node_goes_on_from_what_every_store_found() {
    let log = log();
    for (name, mut reopen) in stores() {
        let mut opened = reopen();
        assert_eq!(opened.found, Found::New);
        fill(&mut *opened.storage, &log.chunks(7).collect::<Vec<_>>());
        opened.storage.compact().expect("compacts");
        drop(opened);
        let node = reopen().found.into_node(config(1, 3), 1).expect("possible");
        assert_eq!(*node.readiness(), Readiness::Starting, "{name}");
        assert_eq!(node.registers().count(), holdings(&log).len(), "{name}");
    }
    let node = Found::Records(log.into()).into_node(config(2, 3), 1).expect("possible");
    assert!(matches!(node.readiness(), Readiness::StateLost(_)), "another node's records");
}
