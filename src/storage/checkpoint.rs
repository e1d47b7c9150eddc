//! What a log comes to: everything that later records have not replaced.

use std::collections::BTreeMap;

use crate::base::{Incarnation, NodeId, RegisterId, TableName};
use crate::merged::Journal;
use crate::node::Record;
use crate::primary::{self, REMEMBERED};

/// A log without what its later records have replaced.
///
/// Recovering a node from [`Checkpoint::records`] gives the same node as recovering it from all the
/// records that were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    born: Option<Record>,
    incarnation: Incarnation,
    witnessed: BTreeMap<NodeId, Record>,
    active: Option<Record>,
    copies: BTreeMap<TableName, Changes>,
    replicas: BTreeMap<TableName, Steps>,
    pub(super) registers: BTreeMap<RegisterId, Held>,
}

/// What is held of one copy of a merged table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Changes {
    records: Vec<Record>,
    /// How many there were when they were last folded.
    folded: usize,
}

/// Changes are folded when there are so many more than after the last time, and twice as many.
pub(super) const CHANGES_MAX: usize = 4096;

impl Changes {
    fn apply(&mut self, record: Record) {
        if matches!(record, Record::Begun { .. }) {
            *self = Self::default();
        }
        self.records.push(record);
        if self.records.len() >= self.folded * 2 + CHANGES_MAX {
            self.records = fold(&self.records);
            self.folded = self.records.len();
        }
    }
}

/// What is held of one replica of a primary table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Steps {
    records: Vec<Record>,
    /// About how many bytes they have, and had when they were last folded.
    bytes: usize,
    folded: usize,
}

/// Steps are folded when they have so many bytes more than after the last time, and twice as many.
pub(super) const STEPS_BYTES_MAX: usize = 1 << 20;

impl Steps {
    /// `whole` is whether these are all there are of the replica: what is left out depends on what
    /// was written before.
    fn apply(&mut self, record: Record, whole: bool) {
        self.bytes += record.size();
        self.records.push(record);
        if whole && self.bytes >= self.folded * 2 + STEPS_BYTES_MAX {
            self.records = fold_steps(&self.records);
            self.bytes = self.records.iter().map(Record::size).sum();
            self.folded = self.bytes;
        }
    }
}

/// The records of one replica, less what later ones have replaced. They are applied as recovery
/// does it. What recovery would refuse is left as it is, so that it will.
pub(super) fn fold_steps(records: &[Record]) -> Vec<Record> {
    let mut journal = primary::Journal::new(REMEMBERED);
    let mut name = None;
    for record in records {
        let Record::Replica { table, record } = record else {
            unreachable!("not of a replica: {record}")
        };
        name = Some(*table);
        if journal.add(record.clone()).is_err() {
            return records.to_vec();
        }
    }
    let Some(table) = name else { return Vec::new() };
    journal.records().map(|record| Record::Replica { table, record }).collect()
}

/// What is held of one register; the promise only if it is above what was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    accepted: Option<Record>,
    promised: Option<Record>,
}

impl Held {
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Accepted { .. } => {
                self.accepted = Some(record);
                self.promised = None;
            }
            Record::Promised { ballot, .. } => {
                let implied = matches!(
                    self.accepted,
                    Some(Record::Accepted { ballot: accepted, .. }) if accepted >= ballot
                );
                if !implied {
                    self.promised = Some(record);
                }
            }
            Record::Active { .. }
            | Record::Begun { .. }
            | Record::Born { .. }
            | Record::Changed { .. }
            | Record::Incarnation(_)
            | Record::Replica { .. }
            | Record::Witnessed { .. } => unreachable!("not of a register: {record}"),
        }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.accepted.iter().chain(&self.promised)
    }
}

impl Checkpoint {
    /// Adds the next record of the log.
    pub fn apply(&mut self, record: Record) {
        match &record {
            Record::Begun { table, .. } | Record::Changed { table, .. } => {
                self.copies.entry(*table).or_default().apply(record);
            }
            Record::Born { .. } => self.born = Some(record),
            Record::Replica { table, .. } => {
                let whole = self.born.is_some();
                self.replicas.entry(*table).or_default().apply(record, whole);
            }
            Record::Incarnation(incarnation) => self.incarnation = *incarnation,
            Record::Witnessed { peer, .. } => {
                self.witnessed.insert(*peer, record);
            }
            Record::Active { .. } => self.active = Some(record),
            Record::Promised { register, .. } | Record::Accepted { register, .. } => {
                // Two searches for a register that is new; none is cloned for one that is not.
                if let Some(held) = self.registers.get_mut(register) {
                    held.apply(record);
                } else {
                    let mut held = Held::default();
                    let register = register.clone();
                    held.apply(record);
                    self.registers.insert(register, held);
                }
            }
        }
    }

    /// How many registers are held.
    #[must_use]
    pub fn registers(&self) -> usize {
        self.registers.len()
    }

    /// Everything held, in an order in which a node can recover: whose it is, its lives, whom it
    /// took note of, whether it votes, and then its registers in their order.
    ///
    /// Incarnations are counted, not kept: one record stands for each of the lives up to the last.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let registers = self.registers.values().flat_map(Held::records).cloned();
        self.folded().flat_map(expand).chain(registers)
    }

    /// What is not of a register, and copies of other tables as little as says what they hold.
    /// Only of a whole log: what is left out depends on what was written before.
    pub(super) fn folded(&self) -> impl Iterator<Item = Record> + '_ {
        let copies = self.copies.values().flat_map(|changes| fold(&changes.records));
        let replicas = self.replicas.values().flat_map(|steps| fold_steps(&steps.records));
        self.others().chain(copies).chain(replicas)
    }

    /// What is not of a register, the lives as the last one.
    pub(super) fn preamble(&self) -> impl Iterator<Item = Record> + '_ {
        let copies = self.copies.values().flat_map(|changes| &changes.records);
        let replicas = self.replicas.values().flat_map(|steps| &steps.records);
        self.others().chain(copies.chain(replicas).cloned())
    }

    fn others(&self) -> impl Iterator<Item = Record> + '_ {
        let lives = (self.incarnation.0 > 0).then_some(Record::Incarnation(self.incarnation));
        let others = self.witnessed.values().chain(&self.active).cloned();
        self.born.iter().cloned().chain(lives).chain(others)
    }
}

/// The records of one copy of a merged table, less what later ones have replaced. They are applied
/// as recovery does it, so what a change replaces is known in one place.
pub(super) fn fold(records: &[Record]) -> Vec<Record> {
    let mut begun = None;
    let mut journal: Option<Journal> = None;
    for record in records {
        match record {
            Record::Begun { actor, agreement, .. } => {
                begun = Some(record.clone());
                journal = Some(Journal::new(agreement.clone(), *actor));
            }
            Record::Changed { by, change, last, .. } => {
                if let Some(journal) = &mut journal {
                    journal.add(*by, change.clone(), *last);
                }
            }
            Record::Accepted { .. }
            | Record::Active { .. }
            | Record::Born { .. }
            | Record::Incarnation(_)
            | Record::Promised { .. }
            | Record::Replica { .. }
            | Record::Witnessed { .. } => unreachable!("not of a copy: {record}"),
        }
    }
    // Without its beginning nothing can be left out, and the node will refuse it.
    let (Some(begun), Some(journal)) = (begun, journal) else { return records.to_vec() };
    let Record::Begun { table, .. } = begun else { unreachable!("that is what it was") };
    let changes = journal.records();
    let changes = changes.map(|(by, change, last)| Record::Changed { table, by, change, last });
    core::iter::once(begun).chain(changes).collect()
}

/// What a record of a checkpoint stands for: a life, for all lives up to it.
pub(super) fn expand(record: Record) -> impl Iterator<Item = Record> {
    let last = if let Record::Incarnation(last) = record { last.0 } else { 0 };
    let itself = (last == 0).then_some(record);
    (1..=last).map(|life| Record::Incarnation(Incarnation(life))).chain(itself)
}

impl Extend<Record> for Checkpoint {
    fn extend<T: IntoIterator<Item = Record>>(&mut self, records: T) {
        for record in records {
            self.apply(record);
        }
    }
}
