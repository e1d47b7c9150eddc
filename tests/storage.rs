//! What every store promises, asked of each of them.

mod support;

use support::{Cluster, config, fence, put, put_if_absent, remove};
use synod::storage::{Checkpoint, Found, Memory, Storage};
use synod::{Node, Record, Ticket};

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
    cluster.machines[&synod::NodeId(1)].durable.clone()
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
fn memory_keeps_what_was_synced() {
    let log = log();
    let mut memory = Memory::default();
    assert_eq!(memory.reopen().found, Found::New);
    memory.append(Ticket(1), &log[..4]).expect("appends");
    memory.sync().expect("syncs");
    memory.append(Ticket(2), &log[4..]).expect("appends");
    let mut synced = Checkpoint::default();
    synced.extend(log[..4].to_vec());
    assert_eq!(memory.reopen().found, Found::Records(synced.records().collect()));
}
