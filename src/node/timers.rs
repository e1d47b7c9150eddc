//! When the node next wants to be woken, and for what.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::base::{Instant, OpId, TableId};

/// What a timer is for. Each has one instant at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Answer(OpId),
    Ask(u64),
    Copies,
    Pulls,
    Heartbeat,
    Sweep,
    Operation(u64),
    Errand(u64),
    Replica(TableId),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    instants: BTreeMap<Timer, Instant>,
    queue: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, instant: Instant) {
        if let Some(before) = self.instants.insert(timer, instant) {
            if before == instant {
                return;
            }
            self.queue.remove(&(before, timer));
        }
        self.queue.insert((instant, timer));
    }

    /// Sets it unless it is due earlier already.
    pub(super) fn hasten(&mut self, timer: Timer, instant: Instant) {
        if self.instants.get(&timer).is_none_or(|&before| before > instant) {
            self.set(timer, instant);
        }
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        if let Some(before) = self.instants.remove(&timer) {
            self.queue.remove(&(before, timer));
        }
    }

    pub(super) fn has(&self, timer: Timer) -> bool {
        self.instants.contains_key(&timer)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(instant, _)| *instant)
    }

    /// Takes one timer that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let &(instant, timer) = self.queue.first()?;
        if instant > now {
            return None;
        }
        self.queue.pop_first();
        self.instants.remove(&timer);
        Some(timer)
    }
}
