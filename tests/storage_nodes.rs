//! Three nodes on disks of which the power fails at every write and sync of a recorded run.

#[path = "support/records.rs"]
mod records;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::{Cluster, config, get, put, put_if_absent, value};
use synod::storage::{Fault, FaultyDisk, Found, Log, LogOptions, Opened, Owner, Storage};
use synod::{ClientId, Input, NodeId, Outcome, RequestId};

/// Small, so that the run rotates and compacts.
const SMALL: LogOptions = LogOptions { ahead: 128, segment: 600, compact: 1_200 };
const NODES: u16 = 3;

struct Rig {
    cluster: Cluster,
    disks: Vec<FaultyDisk>,
    logs: Vec<Option<Log<FaultyDisk>>>,
    /// What each key may hold: what was last acknowledged, and what was tried since.
    possible: BTreeMap<String, Vec<Option<String>>>,
    crashes: usize,
}

impl Rig {
    fn new(seed: u64) -> Self {
        let mut cluster = Cluster::unstarted((1..=NODES).map(|node| config(node, NODES)));
        for node in 1..=NODES {
            cluster.machine(node).slow_disk = true;
        }
        let disks = (0..NODES).map(|node| FaultyDisk::new(seed * 8 + u64::from(node))).collect();
        let logs = (0..NODES).map(|_| None).collect();
        Self { cluster, disks, logs, possible: BTreeMap::new(), crashes: 0 }
    }

    /// Starts a node from what its disk holds; it may die over that.
    fn start(&mut self, node: u16) {
        let place = usize::from(node) - 1;
        if self.logs[place].is_some() {
            // Started with the others, after another one died over it.
            return;
        }
        let machine = &self.cluster.machines[&NodeId(node)];
        let cluster = machine.config.cluster;
        let owner = Owner { cluster, name: "three".into(), node: NodeId(node) };
        let opened = Log::open_on(self.disks[place].clone(), &owner, SMALL);
        let Ok(Opened { storage, found }) = opened else { return self.crash_all() };
        self.cluster.machine(node).durable = match found {
            Found::New => Vec::new(),
            Found::Records(records) => records,
            Found::Damaged(damage) => panic!("node {node}: {damage}"),
        };
        self.logs[place] = Some(storage);
        self.cluster.start(node);
    }

    /// Power fails everywhere at once: the worst that can happen to what only disks remember.
    fn crash_all(&mut self) {
        self.crashes += 1;
        assert!(self.crashes < 10, "a disk is planned to fail once");
        self.cluster.flights.clear();
        for node in 1..=NODES {
            self.cluster.crash(node);
            self.logs[usize::from(node) - 1] = None;
            self.disks[usize::from(node) - 1].cut_power();
        }
        for node in 1..=NODES {
            self.start(node);
        }
    }

    /// Writes and syncs what the nodes want written; false if there was nothing.
    fn persist(&mut self) -> bool {
        let mut any = false;
        for node in 1..=NODES {
            let writing = std::mem::take(&mut self.cluster.machine(node).writing);
            let Some(&(last, _)) = writing.last() else { continue };
            any = true;
            let log = self.logs[usize::from(node) - 1].as_mut().expect("open");
            let done =
                writing.iter().try_for_each(|(ticket, records)| log.append(*ticket, records));
            if done.and_then(|()| log.sync()).is_err() {
                self.crash_all();
                return true;
            }
            self.cluster.input(node, Input::Persisted { ticket: last });
        }
        any
    }

    fn settle(&mut self) {
        while self.persist() || !self.cluster.flights.is_empty() {
            self.cluster.deliver_all();
        }
    }

    fn pass(&mut self, steps: usize) {
        for _ in 0..steps {
            self.cluster.step(Duration::from_millis(50));
            self.settle();
        }
    }

    fn answer(&mut self, asked: (ClientId, RequestId)) -> Option<Outcome> {
        let crashes = self.crashes;
        for _ in 0..200 {
            self.settle();
            if let Some(outcome) = self.cluster.answered(asked) {
                return Some(outcome.clone());
            }
            if self.crashes != crashes {
                return None;
            }
            self.pass(1);
        }
        panic!("no answer");
    }

    fn run(&mut self) {
        for node in 1..=NODES {
            self.start(node);
        }
        self.pass(20);
        for step in 0..10_u16 {
            let (key, content) = (format!("k{}", step % 4), format!("v{step}"));
            let command = if step % 2 == 0 {
                put(&key, &content, vec![])
            } else {
                put_if_absent(&key, &content, vec![])
            };
            let possible = self.possible.entry(key.clone()).or_insert_with(|| vec![None]);
            possible.push(Some(content.clone()));
            let asked = self.cluster.ask(1 + step % NODES, command);
            let acknowledged = match self.answer(asked) {
                Some(Outcome::Written { .. }) => content,
                Some(Outcome::Chosen { entry, .. }) => entry.value.to_string(),
                _ => continue,
            };
            self.possible.insert(key, vec![Some(acknowledged)]);
        }
    }

    fn check(&mut self, what: &str) {
        // The last of it: nothing is in any memory.
        self.crash_all();
        self.pass(60);
        for (key, possible) in self.possible.clone() {
            let asked = self.cluster.ask(2, get(&key));
            let outcome = self.answer(asked).expect("no more crashes");
            assert!(matches!(outcome, Outcome::Found { .. }), "{what}: {key}: {outcome}");
            let found = value(&outcome);
            assert!(possible.contains(&found), "{what}: {key} is {found:?}, not of {possible:?}");
        }
    }
}

/// P-32's other half: at every write and sync of every node, nothing acknowledged is lost.
#[test]
fn every_acknowledged_write_survives_a_power_cut_at_every_boundary() {
    let mut recorded = Rig::new(1);
    recorded.run();
    recorded.check("recorded");
    let mut boundaries = 0;
    let mut certain = 0;
    for node in 0..usize::from(NODES) {
        for boundary in 0..recorded.disks[node].operations() {
            let mut rig = Rig::new(boundary);
            rig.disks[node].plan(boundary, Fault::Crash);
            rig.run();
            rig.check(&format!("node {} boundary {boundary}", node + 1));
            certain += rig.possible.values().filter(|possible| possible.len() == 1).count();
            boundaries += 1;
        }
    }
    assert!(boundaries > 300 && certain > 3 * boundaries, "{boundaries} {certain}");
}
