//! What a log comes to: everything that later records have not replaced.

use std::collections::BTreeMap;

use crate::base::{Incarnation, NodeId, RegisterId, TableName};
use crate::merged;
use crate::node::Record;
use crate::primary::{self, REMEMBERED};

/// A log without what its later records have replaced.
///
/// Recovering a node from [`Checkpoint::records`] gives the same node as recovering it from all the
/// records that were applied.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    born: Option<Record>,
    incarnation: Incarnation,
    witnessed: BTreeMap<NodeId, Record>,
    active: Option<Record>,
    copies: BTreeMap<TableName, Story<Copy>>,
    replicas: BTreeMap<TableName, Story<Replica>>,
    pub(super) registers: BTreeMap<RegisterId, Held>,
}

/// What takes the records of a table one by one, and comes to fewer.
trait Fold {
    /// Whether the record can stand there. If not, it is as if it had not been taken.
    fn add(&mut self, record: &Record) -> bool;

    /// What it comes to, little by little.
    fn into_records(self) -> impl Iterator<Item = Record> + Send;
}

/// What is held of one table. Never is anything done to all of it at once: a table may be large,
/// and while something is done to it nothing else is written.
#[derive(Clone, Debug)]
struct Story<F> {
    /// What its beginning comes to; nothing if its beginning is not here, since what is left out
    /// depends on what was written before.
    folded: Option<F>,
    /// The rest, as it was written: what recovery would refuse stays, so that it will.
    rest: Vec<Record>,
}

impl<F: Fold> Story<F> {
    const fn new(folded: Option<F>) -> Self {
        Self { folded, rest: Vec::new() }
    }

    fn apply(&mut self, record: Record) {
        let folds = self.rest.is_empty() && self.folded.as_mut().is_some_and(|it| it.add(&record));
        if !folds {
            self.rest.push(record);
        }
    }

    fn into_records(self) -> impl Iterator<Item = Record> + Send
    where
        F: Send,
    {
        self.folded.into_iter().flat_map(Fold::into_records).chain(self.rest)
    }
}

/// A copy of a merged table.
#[derive(Clone, Debug)]
struct Copy {
    table: TableName,
    begun: Record,
    journal: merged::Journal,
}

impl Copy {
    /// Nothing if the record is no beginning.
    fn begin(begun: Record) -> Option<Self> {
        let Record::Begun { table, actor, agreement } = &begun else { return None };
        let journal = merged::Journal::new(agreement.clone(), *actor);
        Some(Self { table: *table, begun, journal })
    }
}

impl Fold for Copy {
    fn add(&mut self, record: &Record) -> bool {
        let Record::Changed { by, change, last, .. } = record else { return false };
        self.journal.add(*by, change.clone(), *last);
        true
    }

    fn into_records(self) -> impl Iterator<Item = Record> + Send {
        let Self { table, begun, journal } = self;
        let changes = journal.into_records();
        let changes =
            changes.map(move |(by, change, last)| Record::Changed { table, by, change, last });
        core::iter::once(begun).chain(changes)
    }
}

/// A replica of a primary table.
#[derive(Clone, Debug)]
struct Replica {
    table: TableName,
    journal: primary::Journal,
}

impl Replica {
    const fn new(table: TableName) -> Self {
        Self { table, journal: primary::Journal::new(REMEMBERED) }
    }
}

impl Fold for Replica {
    fn add(&mut self, record: &Record) -> bool {
        let Record::Replica { record, .. } = record else { return false };
        self.journal.add(record.clone()).is_ok()
    }

    fn into_records(self) -> impl Iterator<Item = Record> + Send {
        let Self { table, journal } = self;
        journal.into_records().map(move |record| Record::Replica { table, record })
    }
}

/// The records of one replica, from its first on, less what later ones have replaced.
#[cfg(feature = "sqlite")]
pub(super) fn fold_replica(table: TableName, records: Vec<Record>) -> impl Iterator<Item = Record> {
    let mut story = Story::new(Some(Replica::new(table)));
    records.into_iter().for_each(|record| story.apply(record));
    story.into_records()
}

/// The records of one copy, from its beginning on, less what later ones have replaced.
#[cfg(feature = "sqlite")]
pub(super) fn fold_copy(begun: Record, changes: Vec<Record>) -> impl Iterator<Item = Record> {
    let mut story = Story::new(Copy::begin(begun));
    changes.into_iter().for_each(|record| story.apply(record));
    story.into_records()
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

    pub(super) fn into_records(self) -> impl Iterator<Item = Record> {
        self.accepted.into_iter().chain(self.promised)
    }
}

impl Checkpoint {
    /// Adds the next record of the log.
    pub fn apply(&mut self, record: Record) {
        match &record {
            Record::Begun { table, .. } => {
                self.copies.insert(*table, Story::new(Copy::begin(record)));
            }
            Record::Changed { table, .. } => {
                self.copies.entry(*table).or_insert_with(|| Story::new(None)).apply(record);
            }
            Record::Born { .. } => self.born = Some(record),
            Record::Replica { table, record: primary::Record::Void } => {
                self.replicas.remove(table);
                if self.born.is_none() {
                    let mut story = Story::new(Some(Replica::new(*table)));
                    let table = *table;
                    story.apply(record);
                    self.replicas.insert(table, story);
                }
            }
            Record::Replica { table, .. } => {
                // From the log's beginning on, it is from the replica's on.
                let begun = self.born.is_some().then(|| Replica::new(*table));
                self.replicas.entry(*table).or_insert_with(|| Story::new(begun)).apply(record);
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
    /// took note of, whether it votes, copies and replicas, and then its registers in their order.
    ///
    /// Incarnations are counted, not kept: one record stands for each of the lives up to the last.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let mut all = self.clone();
        let preamble = all.take_preamble().flat_map(expand);
        preamble.chain(all.registers.into_values().flat_map(Held::into_records))
    }

    /// Takes out what is not of a register, little by little, the lives as the last one.
    pub(super) fn take_preamble(&mut self) -> impl Iterator<Item = Record> + Send + use<> {
        let registers = core::mem::take(&mut self.registers);
        let all = core::mem::replace(self, Self { registers, ..Self::default() });
        let Self { born, incarnation, witnessed, active, copies, replicas, .. } = all;
        let lives = (incarnation.0 > 0).then_some(Record::Incarnation(incarnation));
        let others = born.into_iter().chain(lives).chain(witnessed.into_values()).chain(active);
        let copies = copies.into_values().flat_map(Story::into_records);
        others.chain(copies).chain(replicas.into_values().flat_map(Story::into_records))
    }
}

impl PartialEq for Checkpoint {
    fn eq(&self, other: &Self) -> bool {
        self.registers == other.registers && self.records().eq(other.records())
    }
}

impl Eq for Checkpoint {}

/// What a record of a checkpoint stands for: a life, for all lives up to it.
fn expand(record: Record) -> impl Iterator<Item = Record> {
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
