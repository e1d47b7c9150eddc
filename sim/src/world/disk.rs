//! A node's disk: what is durable, what is on its way, and what a crash leaves of that.
//!
//! Must never know: what records mean, but for whether they are promises or acceptances.

use std::collections::{BTreeMap, VecDeque};

use synod::primary::{Journal, REMEMBERED};
use synod::{Record, RegisterId, TableName, Ticket};

use crate::plan::{Keep, Nanos};

/// One write on its way.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) ticket: Ticket,
    pub(super) records: Vec<Record>,
    pub(super) done: Nanos,
}

/// What a crash did to the writes on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) promises: usize,
    pub(super) acceptances: usize,
    /// Acceptances that became durable without anybody being told.
    pub(super) unsaid: usize,
    /// Records of replicas that were lost.
    pub(super) replicas: usize,
    /// Whether a record was cut in the middle.
    pub(super) torn: bool,
}

/// A disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) durable: Vec<Record>,
    pub(super) pending: VecDeque<Write>,
    /// How many faults fill it at present.
    pub(super) full: u32,
    /// Whether the next write fails.
    pub(super) fails: bool,
    /// How much slower than usual it is.
    pub(super) slow: Nanos,
    /// How many writes were made; the counter of its draws.
    pub(super) writes: u64,
    /// The length of `durable` after which it is worth compacting.
    compact_at: usize,
}

impl Disk {
    /// Takes a write that will be durable at `done`, or as soon after that as those before it.
    pub(super) fn write(&mut self, ticket: Ticket, records: Vec<Record>, done: Nanos) -> Nanos {
        let done = self.pending.back().map_or(done, |last| done.max(last.done));
        self.pending.push_back(Write { ticket, records, done });
        done
    }

    /// What a crash leaves: of all records on their way, the first `kept`.
    pub(super) fn crash(&mut self, keep: Keep, kept: impl FnOnce(u64) -> u64) -> Loss {
        let total: usize = self.pending.iter().map(|write| write.records.len()).sum();
        let mut left = match keep {
            Keep::All => total,
            Keep::None => 0,
            Keep::Mid | Keep::Torn => kept(total as u64 + 1) as usize,
        };
        // The record behind the last one kept is there in part: a tail that recovery cuts off.
        let torn = matches!(keep, Keep::Mid | Keep::Torn) && left < total;
        let mut loss = Loss { torn, ..Loss::default() };
        for write in self.pending.drain(..) {
            for record in write.records {
                let survives = left > 0;
                left = left.saturating_sub(1);
                if matches!(record, Record::Accepted { .. }) {
                    loss.unsaid += usize::from(survives);
                    loss.acceptances += usize::from(!survives);
                } else if matches!(record, Record::Promised { .. }) {
                    loss.promises += usize::from(!survives);
                } else if matches!(record, Record::Replica { .. }) {
                    loss.replicas += usize::from(!survives);
                }
                if survives {
                    self.durable.push(record);
                }
            }
        }
        loss
    }

    /// Loses everything.
    pub(super) fn wipe(&mut self) {
        self.durable.clear();
        self.pending.clear();
        self.compact_at = 0;
    }

    /// Has what is written of replicas be what it comes to, as a storage may any time, unless
    /// recovery refuses it. Says whether there is any.
    pub(super) fn fold_replicas(&mut self) -> bool {
        let mut journals: BTreeMap<TableName, Journal> = BTreeMap::new();
        for record in &self.durable {
            let Record::Replica { table, record } = record else { continue };
            let journal = journals.entry(*table).or_insert_with(|| Journal::new(REMEMBERED));
            if journal.add(record.clone()).is_err() {
                return false;
            }
        }
        let is_any = !journals.is_empty();
        self.durable.retain(|record| !matches!(record, Record::Replica { .. }));
        for (table, journal) in journals {
            let folded = journal.into_records();
            self.durable.extend(folded.map(|record| Record::Replica { table, record }));
        }
        is_any
    }

    /// Drops records that later ones make void, as a storage may: in a run of a year the log would
    /// be all that there is.
    pub(super) fn compact(&mut self) {
        if self.durable.len() < self.compact_at.max(1024) {
            return;
        }
        let mut kept = Vec::with_capacity(self.durable.len() / 4);
        let mut seen: std::collections::BTreeSet<(RegisterId, bool)> =
            std::collections::BTreeSet::new();
        for record in self.durable.drain(..).rev() {
            let keep = match &record {
                // A promise below a later acceptance says nothing; one above it does.
                Record::Promised { register, .. } => {
                    !seen.contains(&(register.clone(), true))
                        && seen.insert((register.clone(), false))
                }
                Record::Accepted { register, .. } => seen.insert((register.clone(), true)),
                Record::Active { .. }
                | Record::Begun { .. }
                | Record::Born { .. }
                | Record::Changed { .. }
                | Record::Incarnation(_)
                | Record::Replica { .. }
                | Record::Witnessed { .. } => true,
            };
            if keep {
                kept.push(record);
            }
        }
        kept.reverse();
        self.durable = kept;
        self.compact_at = self.durable.len() * 2;
    }
}
