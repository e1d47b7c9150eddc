//! How fast a node asks for what others have of merged tables: as many bytes a second as it may,
//! over all tables. A copy that has much to learn leaves room on the links for everything else.
//!
//! A question under way takes up what its answer may hold. What was taken of an answer is paid for;
//! a question that is asked again, given up, or answered with less gives back the rest. So one that
//! is lost costs nothing but the time that its asker waits.
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
    /// What the answer to the question of a table that is under way may hold.
    reserved: BTreeMap<TableId, u32>,
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

    fn reserve(&mut self, table: TableId, bytes: u32) {
        self.release(table);
        self.left -= i64::from(bytes);
        self.reserved.insert(table, bytes);
    }

    /// No answer is waited for.
    fn release(&mut self, table: TableId) {
        if let Some(bytes) = self.reserved.remove(&table) {
            self.left += i64::from(bytes);
        }
    }

    /// What came of a question: so many bytes were taken of its answer, or it is not waited for
    /// any more.
    pub(super) fn settle(&mut self, table: TableId, taken: Option<usize>, waits: bool) {
        if taken.is_some() || !waits {
            self.release(table);
        }
        let taken = i64::try_from(taken.unwrap_or(0)).unwrap_or(i64::MAX);
        self.left = self.left.saturating_sub(taken);
    }

    /// There is no such table any more.
    pub(super) fn forget(&mut self, table: TableId) {
        self.release(table);
        self.waiting.retain(|(waiting, ..)| *waiting != table);
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
            // What is asked for at once comes within a second.
            chunk: limits.merge_chunk.min(limits.merge_rate),
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
            // One that it was asked before is lost, or will come too late.
            pulls.forget(table);
            if pulls.left < 0 || !pulls.waiting.is_empty() {
                pulls.waiting.push_back((table, to, message));
                self.timers.hasten(Timer::Pulls, pulls.due(rate));
                return self.copies.hold_pull(table);
            }
            pulls.reserve(table, pull.most);
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
            self.copies.pulls.reserve(table, pull.most);
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

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 16 << 10;

    const ONE: TableId = TableId(1);
    const OTHER: TableId = TableId(2);

    fn pulls() -> (Pulls, Instant) {
        let (mut pulls, now) = (Pulls::default(), Instant::ZERO + Duration::from_secs(60));
        pulls.refill(RATE, now);
        assert_eq!(pulls.left, i64::from(RATE) / 4, "a burst");
        (pulls, now)
    }

    #[test]
    fn a_question_that_is_lost_costs_nothing() {
        let (mut pulls, now) = pulls();
        let before = pulls.left;
        for _ in 0..7 {
            pulls.reserve(ONE, RATE);
        }
        assert_eq!(pulls.left, before - i64::from(RATE), "as often as it is asked again");
        assert!(pulls.due(RATE) > now, "others wait for its answer");
        pulls.settle(ONE, None, true);
        assert_eq!(pulls.left, before - i64::from(RATE), "it is still waited for");
        pulls.settle(ONE, None, false);
        assert_eq!(pulls.left, before, "it was given up");
        pulls.reserve(OTHER, 1);
        pulls.forget(OTHER);
        assert_eq!(pulls.left, before, "its table was dropped");
    }

    #[test]
    fn what_was_taken_is_paid_for() {
        let (mut pulls, now) = pulls();
        let before = pulls.left;
        pulls.reserve(ONE, RATE);
        pulls.reserve(OTHER, RATE);
        pulls.settle(ONE, Some(100), true);
        assert_eq!(pulls.left, before - 100 - i64::from(RATE));
        // A single version may be longer than what was asked for.
        pulls.settle(OTHER, Some(4 * RATE as usize), false);
        assert_eq!(pulls.left, before - 100 - 4 * i64::from(RATE));
        let due = pulls.due(RATE);
        assert!(due.since(now) > Duration::from_secs(3), "the bound holds");
        pulls.refill(RATE, due);
        assert!(pulls.left >= 0);
    }
}
