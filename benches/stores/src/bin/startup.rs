//! What many small keys cost a node: to load, to keep, to start with, and to compact.
//!
//! `cargo run --release --manifest-path benches/stores/Cargo.toml --bin startup [KEYS [DIRECTORY]]`
//! fills the log of one node with so many keys (a million by default) of 16 bytes with values of 64
//! bytes, opens it again and recovers the node from it, and then writes every key once more, timing
//! each commit. Each part is a process of its own, so that its memory is its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use synod::storage::{Log, Opened, Owner, Storage};
use synod::{Config, Epoch, Genesis, Incarnation, Life, NodeId, Record, Ticket};
use synod_bench_stores::record;

/// Records to a sync: what sixty-four clients make of group commit.
const BATCH: u64 = 64;
/// Bytes of a value.
const SIZE: usize = 64;

fn config() -> Config {
    let mut config = Config::new(NodeId(1));
    config.members = (1..=3).map(NodeId).collect();
    config.cluster_size = 3;
    config.genesis = Genesis::Vouched;
    config
}

fn open(path: &Path) -> Opened<Log<synod::storage::Directory>> {
    Log::open(path, &Owner::of(&config(), "bench")).expect("opens")
}

/// Kibibytes, by the name that the kernel has for them.
fn memory(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// User and system time of this thread's process, in seconds.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |place: usize| fields[place].parse::<f64>().unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

fn report(what: &str, start: Instant) {
    println!(
        "{what:<9} {:>7.2} s {:>7.2} s CPU {:>7.0} MB now {:>7.0} MB at most",
        start.elapsed().as_secs_f64(),
        cpu(),
        memory("VmRSS") / 1e3,
        memory("VmHWM") / 1e3
    );
}

/// Writes every key once, a commit at a time; the slowest commits are told.
fn write(storage: &mut dyn Storage, keys: u64, ticket: &mut u64, round: u64) {
    let mut times = Vec::new();
    for first in (0..keys).step_by(BATCH as usize) {
        // Spread over all keys, as clients' writes are.
        let batch = (first..keys.min(first + BATCH)).map(|n| n.wrapping_mul(0x9e37_79b1) % keys);
        let records: Vec<Record> = batch.map(|key| record(key, round + first, SIZE)).collect();
        let begin = Instant::now();
        *ticket += 1;
        storage.append(Ticket(*ticket), &records).expect("appends");
        storage.sync().expect("syncs");
        times.push(begin.elapsed());
    }
    times.sort();
    let at = |part: f64| {
        let place = ((times.len() - 1) as f64 * part) as usize;
        times.get(place).unwrap_or(&Duration::ZERO).as_secs_f64() * 1e3
    };
    println!(
        "          commits of {BATCH}, in ms: {:.2} median, {:.2} 99%, {:.2} 99.9%, {:.2} longest",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

fn load(path: &Path, keys: u64) {
    let mut storage = open(path).storage;
    let born = Record::Born { cluster: config().cluster, node: NodeId(1), life: Life(1) };
    let records = [born, Record::Incarnation(Incarnation(1)), Record::Active { epoch: Epoch(1) }];
    storage.append(Ticket(1), &records).expect("appends");
    storage.sync().expect("syncs");
    write(&mut storage, keys, &mut 1, 1);
}

fn start(path: &Path, keys: u64) {
    let begin = Instant::now();
    let Opened { storage, found } = open(path);
    report("  opened", begin);
    let node = found.into_node(config(), 1).expect("possible");
    assert_eq!(node.registers().count() as u64, keys, "{}", node.readiness());
    report("  node", begin);
    drop(storage);
}

fn bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).expect("a directory");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).map_or(0, |data| data.len())).sum()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let keys = arguments.next().map_or(1_000_000, |keys| keys.parse().expect("a number"));
    let path = arguments.next().unwrap_or_else(|| ".".to_owned());
    if let Some(part) = arguments.next() {
        let path = Path::new(&path);
        let begin = Instant::now();
        match &*part {
            "load" => load(path, keys),
            "start" => start(path, keys),
            _ => {
                let mut storage = open(path).storage;
                write(&mut storage, keys, &mut 0, 1 << 40);
            }
        }
        report(&part, begin);
        println!("          {:.0} MB on disk", bytes(path) as f64 / 1e6);
        return;
    }
    let directory = tempfile::tempdir_in(path).expect("a directory");
    for part in ["load", "start", "rewrite", "start"] {
        let program = std::env::current_exe().expect("a name");
        let mut command = Command::new(program);
        command.arg(keys.to_string()).arg(directory.path()).arg(part);
        assert!(command.status().expect("runs").success(), "{part}");
    }
}
