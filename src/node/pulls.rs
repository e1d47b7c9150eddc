//! How fast a node asks for what others have of merged tables: as many bytes a second as it may,
//! over all tables. A copy that has much to learn leaves room on the links for everything else.
//!
//! A question costs what its answer may hold; what the answer did not hold is given back.
//!
//! Must never know: what is in an answer.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use super::{Body, Effects, Node, Timer};
use crate::base::{Instant, NodeId, TableId, TableName, Ticket};
use crate::merged::{self, CATALOGUE, Message, Pace};

/// What may be asked for at once after a while without questions, as time at the full rate.
const BURST: Duration = Duration::from_millis(250);

/// In nanoseconds.
const SECOND: u128 = 1_000_000_000;

/// Bytes that may be asked for, and the questions that wait for them.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    /// How many there are; below zero, a question waits.
    left: i64,
    /// When they were counted.
    at: Instant,
    /// In the order in which they came, one for each table at most.
    waiting: VecDeque<(TableId, NodeId, Message)>,
    /// What the latest question of a table has cost.
    paid: BTreeMap<TableId, u32>,
}

impl Pulls {
    fn refill(&mut self, rate: u32, now: Instant) {
        let rate = u128::from(rate.max(1));
        let more = now.since(self.at).as_nanos() * rate / SECOND;
        // What is less than a byte is left for the next time.
        let took = u64::try_from(more * SECOND / rate).unwrap_or(u64::MAX);
        self.at = self.at + Duration::from_nanos(took);
        let most = i64::try_from(rate * BURST.as_nanos() / SECOND).unwrap_or(i64::MAX);
        let more = i64::try_from(more).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(more).min(most);
    }

    /// When the next question may be asked, at this rate.
    fn due(&self, rate: u32) -> Instant {
        let missing = u64::try_from(-self.left).unwrap_or(0) + 1;
        let nanos = u128::from(missing) * SECOND / u128::from(rate.max(1)) + 1;
        self.at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn pay(&mut self, table: TableId, bytes: u32) {
        self.left -= i64::from(bytes);
        self.paid.insert(table, bytes);
    }

    /// Gives back what an answer did not hold of what it may have held.
    pub(super) fn on_answer(&mut self, table: TableId, body: &merged::Body) {
        if let merged::Body::Chunk(chunk) = body
            && let Some(paid) = self.paid.remove(&table)
        {
            self.left += i64::from(paid) - i64::try_from(chunk.size()).unwrap_or(i64::MAX / 2);
        }
    }
}

impl Node {
    /// How copies of a table deal with each other. The list of tables is read as a whole, so it is
    /// never there in part.
    pub(super) fn pace_of(&self, name: TableName) -> Pace {
        let limits = &self.config.limits;
        let is_list = name == TableName::of(CATALOGUE);
        let rows = if is_list { usize::MAX } else { limits.merge_rows as usize };
        Pace {
            round: self.config.timing.round,
            debounce: self.config.timing.debounce,
            rows,
            chunk: limits.merge_chunk,
        }
    }

    /// Sends what a copy says; a question when its turn has come.
    pub(super) fn send_merged(
        &mut self,
        table: TableId,
        to: NodeId,
        message: Message,
        after: Ticket,
        effects: &mut Effects,
    ) {
        let Some(member) = self.members.index(to) else { return };
        if let merged::Body::Pull(pull) = &message.body {
            let rate = self.config.limits.merge_rate;
            let pulls = &mut self.copies.pulls;
            pulls.refill(rate, self.now.instant);
            pulls.waiting.retain(|(waiting, ..)| *waiting != table);
            if pulls.left < 0 || !pulls.waiting.is_empty() {
                pulls.waiting.push_back((table, to, message));
                self.timers.hasten(Timer::Pulls, pulls.due(rate));
                return self.copies.hold_pull(table);
            }
            pulls.pay(table, pull.most);
        }
        self.send(member, Body::Merged(message), after, effects);
    }

    /// Asks what has waited for its turn.
    pub(super) fn on_pulls_timer(&mut self, effects: &mut Effects) {
        let (rate, now) = (self.config.limits.merge_rate, self.now.instant);
        self.copies.pulls.refill(rate, now);
        while self.copies.pulls.left >= 0
            && let Some((table, to, message)) = self.copies.pulls.waiting.pop_front()
        {
            let merged::Body::Pull(pull) = &message.body else { continue };
            if !self.copies.send_pull(table, pull, now) {
                continue;
            }
            self.copies.pulls.pay(table, pull.most);
            if let Some(member) = self.members.index(to) {
                let after = self.durable_with(table);
                self.send(member, Body::Merged(message), after, effects);
            }
        }
        let pulls = &self.copies.pulls;
        if !pulls.waiting.is_empty() {
            self.timers.set(Timer::Pulls, pulls.due(rate));
        }
    }
}
