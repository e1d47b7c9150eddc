//! The log against a disk that fails: at every write and sync, at every byte, in every file.

#[path = "support/records.rs"]
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use proptest::prelude::*;
use records::{Model, Source, owner};
use synod::storage::{
    Fault, FaultyDisk, Found, Log, LogOptions, OpenError, Opened, Storage, StorageError,
};
use synod::{Record, Ticket};

/// So small that a short run rotates and compacts more than once.
const SMALL: LogOptions = LogOptions { ahead: 256, segment: 700, compact: 1_500 };

/// Batches in one process life.
const BATCHES: usize = 16;

fn open(disk: &FaultyDisk) -> Result<Opened<Log<FaultyDisk>>, OpenError> {
    Log::open_on(disk.clone(), &owner(), SMALL)
}

/// A process on a disk, and what it has been told to keep.
struct Run {
    disk: FaultyDisk,
    source: Source,
    model: Model,
    ticket: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let disk = FaultyDisk::new(seed);
        Self { disk, source: Source::new(seed), model: Model::default(), ticket: 0 }
    }

    /// Opens, checks what is there, and begins a process life.
    fn start(&mut self, what: &str) -> Result<Log<FaultyDisk>, OpenError> {
        let Opened { mut storage, found } = open(&self.disk)?;
        self.model.expect(&found, what);
        if self.model.log.is_empty() {
            self.source = Source::new(1);
        }
        self.ticket = 0;
        let records = self.source.restart();
        // What fails here fails again at the next append.
        let _ = self.give(&mut storage, records);
        Ok(storage)
    }

    fn give(&mut self, log: &mut impl Storage, records: Vec<Record>) -> Result<(), StorageError> {
        self.ticket += 1;
        let done = log.append(Ticket(self.ticket), &records);
        self.model.log.extend(records);
        done
    }

    fn sync(&mut self, log: &mut impl Storage) -> Result<(), StorageError> {
        log.sync()?;
        self.model.synced();
        Ok(())
    }

    /// Some work: batches of one or more appends to a sync, a compaction in between.
    fn work(&mut self, log: &mut impl Storage, batches: usize) -> Result<(), StorageError> {
        for batch in 0..batches {
            for _ in 0..=batch % 3 {
                let count = 1 + self.source.draw(4) as usize;
                let records = self.source.take(count);
                self.give(log, records)?;
            }
            self.sync(log)?;
            if batch == 7 {
                log.compact()?;
            }
        }
        Ok(())
    }
}

/// A run of two processes on a disk where nothing fails.
fn recorded(seed: u64) -> Run {
    let mut run = Run::new(seed);
    for _ in 0..2 {
        let mut log = run.start("a new life").expect("opens");
        run.work(&mut log, BATCHES).expect("works");
        run.disk.kill();
    }
    run
}

/// Every boundary: the process dies at it, or power fails, and what was synced is there. So it is
/// if that happens again while the log is opened.
#[test]
fn a_crash_at_any_write_or_sync_loses_nothing_that_was_synced() {
    let boundaries = recorded(1).disk.operations();
    assert!(boundaries > 150, "{boundaries}");
    for boundary in 0..boundaries {
        for mode in 0..3 {
            let mut run = Run { disk: FaultyDisk::new(mode * 1_000 + boundary), ..Run::new(1) };
            run.disk.plan(boundary, Fault::Crash);
            for life in 0..2 {
                let what = format!("boundary {boundary} mode {mode} life {life}");
                let Ok(mut log) = run.start(&what) else { break };
                if run.work(&mut log, BATCHES).is_err() {
                    break;
                }
                let planned = boundary >= run.disk.operations();
                run.disk.kill();
                if planned {
                    run.disk.plan(boundary, Fault::Crash);
                }
            }
            let restart =
                |disk: &FaultyDisk| if mode == 0 { disk.kill() } else { disk.cut_power() };
            restart(&run.disk);
            let what = format!("boundary {boundary} mode {mode}");
            // It dies once more where it recovers.
            run.disk.plan(run.disk.operations() + boundary % 24, Fault::Crash);
            if let Ok(mut log) = run.start(&what) {
                let _ = run.sync(&mut log);
            }
            restart(&run.disk);
            let mut log = run.start(&what).expect("opens");
            run.work(&mut log, 3).expect("works again");
            run.disk.cut_power();
            run.start(&what).expect("opens");
        }
    }
}

/// P-32 begins here: a store that failed stops, and what it had confirmed is there. So is what the
/// next process finds, though that may have been in memory only when it was found.
#[test]
fn after_any_failure_everything_is_refused() {
    let boundaries = recorded(2).disk.operations();
    for boundary in 0..boundaries {
        for (kind, power) in [(ErrorKind::StorageFull, false), (ErrorKind::Other, true)] {
            let mut run = Run { disk: FaultyDisk::new(boundary), ..Run::new(2) };
            run.disk.plan(boundary, Fault::Fail(kind));
            let what = format!("boundary {boundary} {kind}");
            for _ in 0..2 {
                let Ok(mut log) = run.start(&what) else { break };
                if run.work(&mut log, BATCHES).is_err() {
                    assert!(matches!(log.sync(), Err(StorageError::Stopped)), "{what}");
                    assert!(matches!(log.compact(), Err(StorageError::Stopped)), "{what}");
                    let append = log.append(Ticket(1_000), &[]);
                    assert!(matches!(append, Err(StorageError::Stopped)), "{what}");
                    break;
                }
                let planned = boundary >= run.disk.operations();
                run.disk.kill();
                if planned {
                    run.disk.plan(boundary, Fault::Fail(kind));
                }
            }
            if power {
                run.disk.cut_power()
            } else {
                run.disk.kill()
            }
            let mut log = run.start(&what).expect("opens");
            run.disk.cut_power();
            drop(log);
            // What was found is kept, whatever became of what was appended since.
            log = run.start(&what).expect("opens");
            run.work(&mut log, 1).expect("works again");
        }
    }
}

#[test]
fn a_full_disk_stops_the_log_and_room_lets_it_go_on() {
    let mut run = recorded(3);
    run.disk.limit(20_000);
    let mut log = run.start("nearly full").expect("opens");
    // Nine keys fit for ever: compaction keeps the log short.
    for _ in 0..20 {
        run.work(&mut log, BATCHES).expect("there is room");
    }
    run.source = run.source.with_keys(1 << 40);
    let stopped = loop {
        if let Err(error) = run.work(&mut log, BATCHES) {
            break error;
        }
    };
    assert!(stopped.to_string().contains("no storage space"), "{stopped}");
    assert!(matches!(log.sync(), Err(StorageError::Stopped)));
    run.disk.kill();
    run.disk.limit(usize::MAX);
    let mut log = run.start("with room again").expect("opens");
    run.work(&mut log, BATCHES).expect("works");
}

/// What any flipped bit does to a log: it is reported, or it was of no account.
#[test]
fn a_flipped_bit_is_reported_or_harmless() {
    let mut run = recorded(4);
    let names = run.disk.names();
    let (mut reported, mut harmless) = (0, 0);
    for name in names {
        for byte in 0..run.disk.contents(&name).len() {
            let bit = run.source.draw(8);
            let disk = run.disk.copy();
            disk.rot(&name, |bytes| bytes[byte] ^= 1 << bit);
            let what = format!("{name} byte {byte} bit {bit}");
            let opened = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            if run.model.expect_or_damage(&opened.found, &what) {
                reported += 1;
            } else {
                harmless += 1;
                let is_log = name.starts_with("log-") || name == "MARK";
                assert!(is_log || name.starts_with("checkpoint-"), "{what}");
            }
        }
    }
    assert!(reported > 1_000 && harmless > 100, "{reported} {harmless}");
}

#[test]
fn a_file_cut_short_or_missing_is_reported() {
    let run = recorded(5);
    let names = run.disk.names();
    assert!(names.iter().any(|name| name.starts_with("checkpoint-")), "{names:?}");
    for name in names {
        let length = run.disk.contents(&name).len();
        let disk = run.disk.copy();
        disk.delete(&name);
        let found = open(&disk).expect("opens").found;
        let Found::Damaged(damage) = found else { panic!("without {name}: {found:?}") };
        assert!(damage.to_string().contains(&*name), "without {name}: {damage}");
        for cut in 0..length {
            let disk = run.disk.copy();
            disk.rot(&name, |bytes| bytes.truncate(cut));
            let what = format!("{name} cut to {cut} of {length}");
            let found = open(&disk).expect(&what).found;
            run.model.expect_or_damage(&found, &what);
            if name == "MANIFEST" {
                assert!(matches!(found, Found::Damaged(_)), "{what}");
            }
        }
    }
}

/// A file as it was at any earlier time, or another one in its place, is reported or of no account.
#[test]
fn an_old_or_another_file_is_reported_or_harmless() {
    let mut run = Run::new(10);
    let mut versions: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for life in 0..2 {
        let mut log = run.start("a new life").expect("opens");
        for _ in 0..BATCHES {
            for name in run.disk.names() {
                let contents = run.disk.contents(&name);
                versions.entry(name).or_default().insert(contents);
            }
            run.work(&mut log, 1).expect("works");
        }
        if life == 0 {
            log.compact().expect("compacts");
        }
        run.disk.kill();
    }
    let names = run.disk.names();
    let kinds = ["MANIFEST", "MARK", "checkpoint-", "log-"];
    assert!(kinds.iter().all(|kind| names.iter().any(|name| name.starts_with(kind))), "{names:?}");
    let mut reported = BTreeMap::new();
    let mut put = |name: &str, contents: &[u8], what: &str| {
        let disk = run.disk.copy();
        disk.rot(name, |bytes| *bytes = contents.to_vec());
        let opened = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        let damaged = run.model.expect_or_damage(&opened.found, what);
        let kind = name.split('-').next().unwrap_or_default().to_owned();
        *reported.entry(kind).or_insert(0) += usize::from(damaged);
    };
    for name in &names {
        for (age, contents) in versions.get(name).into_iter().flatten().enumerate() {
            put(name, contents, &format!("{name} as it was, {age}"));
        }
        for other in names.iter().filter(|other| *other != name) {
            put(name, &run.disk.contents(other), &format!("{other} in place of {name}"));
        }
    }
    for kind in ["MANIFEST", "checkpoint", "log"] {
        assert!(reported[kind] > 2, "{kind}: {reported:?}");
    }
}

/// One block: where it begins, where what it carries ends, and where the next would begin.
struct Block {
    start: usize,
    end: usize,
    next: usize,
}

fn blocks(bytes: &[u8]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    loop {
        let start = blocks.last().map_or(0, |block| block.next);
        let Some(length) = bytes.get(start + 4..start + 8) else { return blocks };
        let length = u32::from_le_bytes(length.try_into().expect("four")) as usize;
        if length == 0 {
            return blocks;
        }
        let end = start + 32 + length;
        blocks.push(Block { start, end, next: end.next_multiple_of(8) });
    }
}

/// Where the next block would begin.
fn end(bytes: &[u8]) -> usize {
    blocks(bytes).last().map_or(0, |block| block.next)
}

fn last_segment(disk: &FaultyDisk) -> String {
    let names = disk.names();
    names.iter().rfind(|name| name.starts_with("log-")).expect("a segment").clone()
}

/// A log with something synced, and an append behind it that was written but not synced.
fn with_tail(seed: u64) -> (Run, String, usize) {
    let mut run = Run::new(seed);
    let mut log = run.start("new").expect("opens");
    run.work(&mut log, 5).expect("works");
    let name = last_segment(&run.disk);
    let synced = end(&run.disk.contents(&name));
    let records = run.source.take(6);
    run.give(&mut log, records).expect("appends");
    // It is written with the sync, which does not come to its end.
    run.disk.plan(run.disk.operations() + 1, Fault::Crash);
    log.sync().expect_err("dies");
    run.disk.kill();
    (run, name, synced)
}

#[test]
fn a_torn_tail_is_cut_at_every_byte() {
    let (run, name, synced) = with_tail(6);
    let whole = end(&run.disk.contents(&name));
    assert!(whole > synced + 100);
    for cut in synced..=whole {
        for zeros in [false, true] {
            let disk = run.disk.copy();
            disk.rot(&name, |bytes| {
                let length = bytes.len();
                bytes.truncate(cut);
                bytes.resize(if zeros { length } else { cut }, 0);
            });
            run.model.clone().expect(&open(&disk).expect("opens").found, &format!("cut at {cut}"));
        }
    }
    for byte in synced..whole {
        let disk = run.disk.copy();
        disk.rot(&name, |bytes| bytes[byte] ^= 1);
        run.model.clone().expect(&open(&disk).expect("opens").found, &format!("torn at {byte}"));
    }
}

/// The mark is what tells the last block from a torn one; everything before it is told by the log
/// itself.
#[test]
fn a_hole_in_front_of_what_was_synced_later_is_damage_without_the_mark_too() {
    let mut run = Run::new(7);
    let mut log = run.start("new").expect("opens");
    run.sync(&mut log).expect("syncs");
    let name = last_segment(&run.disk);
    for _ in 0..4 {
        let records = run.source.take(2);
        run.give(&mut log, records).expect("appends");
        run.sync(&mut log).expect("syncs");
    }
    run.disk.kill();
    let blocks = blocks(&run.disk.contents(&name));
    assert_eq!(blocks.len(), 5);
    let found = |byte: usize, with_mark: bool| {
        let disk = run.disk.copy();
        disk.rot(&name, |bytes| bytes[byte] ^= 4);
        if !with_mark {
            disk.rot("MARK", |bytes| bytes.fill(0));
        }
        open(&disk).expect("opens").found
    };
    for (place, block) in blocks.iter().enumerate() {
        for byte in block.start..block.end {
            let what = format!("byte {byte} of block {place}");
            assert!(matches!(found(byte, true), Found::Damaged(_)), "{what}");
            // The last block but one was synced when the last was written.
            let damaged = matches!(found(byte, false), Found::Damaged(_));
            assert_eq!(damaged, place < 4, "{what} without the mark");
        }
        for byte in block.end..block.next {
            run.model.clone().expect(&found(byte, true), "padding");
        }
    }
}

/// Nothing that a client can write is taken for a block, not even a copy of one.
#[test]
fn blocks_in_a_value_prove_nothing() {
    let mut run = Run::new(11);
    let mut log = run.start("new").expect("opens");
    run.sync(&mut log).expect("syncs");
    let records = run.source.take(3);
    run.give(&mut log, records).expect("appends");
    run.sync(&mut log).expect("syncs");
    let name = last_segment(&run.disk);
    let bytes = run.disk.contents(&name);
    let synced = end(&bytes);
    let mut copies = Vec::new();
    // At every distance from where blocks begin.
    for shift in 0..8 {
        copies.resize(copies.len() + shift, 0);
        copies.extend_from_slice(&bytes[..synced]);
    }
    run.give(&mut log, vec![records::accepted(copies)]).expect("appends");
    run.disk.plan(run.disk.operations() + 1, Fault::Crash);
    log.sync().expect_err("dies");
    run.disk.kill();
    // Torn where its block begins; all that the value holds is there.
    run.disk.rot(&name, |bytes| bytes[synced] ^= 1);
    run.model.log.truncate(run.model.synced);
    run.model.expect(&open(&run.disk).expect("opens").found, "a value of blocks");
}

/// Bad input: a manifest that is whole and says what cannot be.
#[test]
fn an_impossible_manifest_is_reported() {
    let run = recorded(12);
    let text = String::from_utf8(run.disk.contents("MANIFEST")).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    let mut reported = 0;
    for (place, line) in lines.iter().enumerate().take(lines.len() - 1).skip(4) {
        let words = line.split(' ').count();
        for word in 1..words {
            for wrong in ["18446744073709551615", "ffffffff", "0", "-1", "", "x"] {
                let mut words: Vec<&str> = line.split(' ').collect();
                words[word] = wrong;
                let line = words.join(" ");
                let mut lines = lines.clone();
                lines[place] = &line;
                let body = format!("{}\n", lines[..lines.len() - 1].join("\n"));
                let sum = crc32fast::hash(body.as_bytes());
                let disk = run.disk.copy();
                let whole = format!("{body}checksum {sum:08x}\n");
                disk.rot("MANIFEST", |bytes| *bytes = whole.into_bytes());
                let Ok(opened) = open(&disk) else {
                    assert!(line.starts_with("node ") || line.starts_with("table "), "{line}");
                    continue;
                };
                reported += usize::from(run.model.expect_or_damage(&opened.found, &line));
            }
        }
    }
    assert!(reported > 30, "{reported}");
}

/// What was written between two syncs may reach the disk in any order: a hole in it is a tail.
#[test]
fn a_hole_in_what_was_never_synced_is_cut() {
    let mut run = Run::new(8);
    let mut log = run.start("new").expect("opens");
    run.sync(&mut log).expect("syncs");
    let name = last_segment(&run.disk);
    let synced = end(&run.disk.contents(&name));
    // Two blocks at least: one is written as soon as it is full.
    let records = Source::shaped(3, 1 << 40, 100_000).take(100);
    run.give(&mut log, records).expect("appends");
    run.disk.plan(run.disk.operations() + 2, Fault::Crash);
    log.sync().expect_err("dies");
    run.disk.kill();
    run.disk.rot(&name, |bytes| bytes[synced + 50] ^= 1);
    run.model.log.truncate(run.model.synced);
    run.model.expect(&open(&run.disk).expect("opens").found, "a hole");
}

#[test]
fn damage_changes_nothing_and_takes_nothing() {
    let mut run = recorded(9);
    let name = last_segment(&run.disk);
    let before: Vec<Vec<u8>> = run.disk.names().iter().map(|n| run.disk.contents(n)).collect();
    run.disk.rot(&name, |bytes| bytes[40] ^= 1);
    let mut damaged = open(&run.disk).expect("opens");
    assert!(matches!(damaged.found, Found::Damaged(_)));
    let records = run.source.take(1);
    let append = damaged.storage.append(Ticket(1), &records);
    assert!(matches!(append, Err(StorageError::Damaged)), "{append:?}");
    assert!(matches!(damaged.storage.sync(), Err(StorageError::Damaged)));
    assert!(matches!(damaged.storage.compact(), Err(StorageError::Damaged)));
    run.disk.rot(&name, |bytes| bytes[40] ^= 1);
    let after: Vec<Vec<u8>> = run.disk.names().iter().map(|n| run.disk.contents(n)).collect();
    assert_eq!(after, before);
    run.model.expect(&open(&run.disk).expect("opens").found, "mended");
}

/// Any course of things, against the model.
#[derive(Clone, Copy, Debug)]
enum Step {
    Append(usize),
    Sync,
    Compact,
    Kill,
    CutPower,
    CrashIn(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..20_usize).prop_map(Step::Append),
        8 => Just(Step::Sync),
        1 => Just(Step::Compact),
        1 => Just(Step::Kill),
        1 => Just(Step::CutPower),
        2 => (0..30_u64).prop_map(Step::CrashIn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_course_of_things_keeps_the_promise(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut run = Run::new(seed);
        let mut log = run.start("new").expect("opens");
        for step in steps {
            let done = match step {
                Step::Append(count) => {
                    let records = run.source.take(count);
                    run.give(&mut log, records)
                }
                Step::Sync => run.sync(&mut log),
                Step::Compact => log.compact().map(|()| run.model.synced()),
                Step::CrashIn(later) => {
                    run.disk.plan(run.disk.operations() + later, Fault::Crash);
                    Ok(())
                }
                Step::Kill | Step::CutPower => Err(StorageError::Stopped),
            };
            if done.is_err() {
                if matches!(step, Step::Kill) { run.disk.kill() } else { run.disk.cut_power() }
                log = run.start("after a crash").expect("opens");
            }
        }
    }
}
