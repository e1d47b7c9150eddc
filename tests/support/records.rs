//! Logs to store, made from a seed, and what must be found of them afterwards.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::path::Path;
use std::sync::Arc;

use synod::consensus::{Cell, Content, Live, State};
use synod::storage::{Checkpoint, Found, Owner};
use synod::{
    Ballot, ClientId, ClusterId, Epoch, Incarnation, Key, Life, NodeId, OpId, Record, RegisterId,
    RequestId, TableId, Value,
};
use tempfile::TempDir;

pub(crate) fn owner() -> Owner {
    Owner {
        cluster: ClusterId(7),
        name: "test cluster".to_owned(),
        node: NodeId(1),
        tables: [(0, "consensus default".to_owned())].into(),
    }
}

/// A directory, in memory where that is to be had: nothing depends on a device, and syncs are many.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    made.expect("a directory")
}

/// Makes the records of one node, one after the other.
#[derive(Clone)]
pub(crate) struct Source {
    state: u64,
    round: u64,
    lives: u32,
    made: u64,
    keys: u64,
    value: usize,
}

impl Source {
    pub(crate) fn new(seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { state, round: 0, lives: 0, made: 0, keys: 9, value: 40 }
    }

    /// Over so many keys, with values of up to so many bytes.
    pub(crate) fn shaped(seed: u64, keys: u64, value: usize) -> Self {
        Self { keys, value, ..Self::new(seed) }
    }

    /// From now on over so many keys.
    pub(crate) fn with_keys(&self, keys: u64) -> Self {
        Self { keys, ..self.clone() }
    }

    pub(crate) fn draw(&mut self, of: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % of
    }

    /// What a process writes first.
    pub(crate) fn restart(&mut self) -> Vec<Record> {
        let born = Record::Born { cluster: ClusterId(7), node: NodeId(1), life: Life(0xabcd) };
        self.lives += 1;
        let life = Record::Incarnation(Incarnation(self.lives));
        if self.lives > 1 {
            return vec![life];
        }
        let witnessed = Record::Witnessed { peer: NodeId(2), life: Life(5) };
        vec![born, life, witnessed, Record::Active { epoch: Epoch(1) }]
    }

    pub(crate) fn next(&mut self) -> Record {
        self.made += 1;
        self.round += 1;
        let key = self.draw(self.keys);
        let register = RegisterId::Key(TableId(0), Key::from(&*format!("key{key:06}")));
        let ballot = Ballot {
            epoch: Epoch(1),
            round: self.round,
            node: NodeId(1),
            incarnation: Incarnation(1),
            sequence: 0,
        };
        if self.draw(2) == 0 {
            return Record::Promised { register, ballot };
        }
        let length = self.draw(self.value as u64 + 1) as usize;
        let mut value = vec![0; length];
        value.fill_with(|| self.draw(256) as u8);
        Record::Accepted { register, ballot, cell: Arc::new(cell(Value::from(value), ballot)) }
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<Record> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// An acceptance of this value.
pub(crate) fn accepted(value: Vec<u8>) -> Record {
    let register = RegisterId::Key(TableId(0), Key::from("large"));
    let ballot = Ballot { round: 1, ..Ballot::genesis(Epoch(1)) };
    Record::Accepted { register, ballot, cell: Arc::new(cell(Value::from(value), ballot)) }
}

fn cell(value: Value, ballot: Ballot) -> Cell {
    let op = OpId { client: ClientId::new(3), request: RequestId(ballot.round) };
    let live = Live { generation: ballot, content: Content::Value(value), bindings: Vec::new() };
    Cell::absent(Ballot::genesis(Epoch(1))).changed(State::Live(live), op, ballot)
}

/// What has been given to a store, and how much of it must be there.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) log: Vec<Record>,
    pub(crate) synced: usize,
}

impl Model {
    pub(crate) fn synced(&mut self) {
        self.synced = self.log.len();
    }

    fn state(&self, length: usize) -> Checkpoint {
        let mut state = Checkpoint::default();
        state.extend(self.log[..length].iter().cloned());
        state
    }

    /// Whether a store that holds this has kept its promise: all that was synced, and of the rest
    /// any prefix. Goes on from what was kept.
    #[track_caller]
    pub(crate) fn expect(&mut self, found: &Found, what: &str) {
        let records: Vec<Record> = match found {
            Found::New => Vec::new(),
            Found::Records(records) => records.clone().into_iter().collect(),
            Found::Damaged(damage) => panic!("{what}: damaged: {damage}"),
        };
        let mut state = Checkpoint::default();
        state.extend(records.iter().cloned());
        let kept = (self.synced..=self.log.len()).find(|kept| self.state(*kept) == state);
        let Some(kept) = kept else {
            panic!("{what}: {} records are no log with {} synced", records.len(), self.synced)
        };
        assert_eq!(*found == Found::New, kept == 0, "{what}");
        self.log.truncate(kept);
        self.synced();
    }

    /// Whether a store that something was done to reports that, or still holds the same.
    pub(crate) fn expect_or_damage(&self, found: &Found, what: &str) -> bool {
        if matches!(found, Found::Damaged(_)) {
            return true;
        }
        self.clone().expect(found, what);
        false
    }
}
