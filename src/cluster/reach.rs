//! Who hears whom, and whether that is a quorum.
//!
//! A member counts as reachable when it has answered one of this node's own heartbeats lately: that
//! proves both directions, so a one-way link counts as down (Z67).

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::base::{Incarnation, Instant};

/// How many heartbeats may be unanswered before their send times are forgotten. An answer to an
/// older one says nothing that matters.
const SENT_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(crate) struct Reach {
    me: usize,
    sent: VecDeque<(u64, Instant)>,
    sequence: u64,
    /// When the latest heartbeat that each member has answered was *sent*.
    acked: Vec<Option<Instant>>,
    quorum: u32,
    confirmed: Option<Instant>,
    /// Since when a quorum has been heard.
    since: Option<Instant>,
    reached: bool,
    reachable: usize,
}

/// What has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) reachable: Option<usize>,
    pub(crate) reached: Option<bool>,
}

impl Reach {
    pub(crate) fn new(members: usize, me: usize, quorum: u32) -> Self {
        Self {
            me,
            sent: VecDeque::new(),
            sequence: 0,
            acked: vec![None; members],
            quorum,
            confirmed: None,
            since: None,
            reached: false,
            reachable: 0,
        }
    }

    /// Numbers the heartbeats of a process life, so that no answer to an earlier one is taken for
    /// an answer to this.
    pub(crate) fn start(&mut self, incarnation: Incarnation) {
        self.sequence = u64::from(incarnation.0) << 32;
    }

    /// The number of the next heartbeat, sent now.
    pub(crate) fn send(&mut self, now: Instant) -> u64 {
        self.sequence += 1;
        if self.sent.len() == SENT_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.sequence, now));
        self.sequence
    }

    /// A member has answered. An answer to what was never sent, or long ago, is ignored.
    pub(crate) fn ack(&mut self, member: usize, sequence: u64) {
        // Almost always it is the latest.
        let mut latest = self.sent.iter().rev();
        let Some(&(_, sent)) = latest.find(|(number, _)| *number == sequence) else {
            return;
        };
        if self.acked[member] >= Some(sent) {
            return;
        }
        self.acked[member] = Some(sent);
        // This node hears itself; of the others, one less than a quorum is needed.
        let others = self.quorum as usize - 1;
        let heard = |since: &Instant| self.acked.iter().flatten().filter(|at| *at >= since).count();
        self.confirmed =
            self.acked.iter().flatten().filter(|at| heard(at) >= others).max().copied();
    }

    fn has(&self, member: usize, now: Instant, down: Duration) -> bool {
        member == self.me || self.acked[member].is_some_and(|sent| now.since(sent) < down)
    }

    /// The members heard, as places in the list.
    pub(crate) fn members(&self, now: Instant, down: Duration) -> impl Iterator<Item = usize> {
        (0..self.acked.len()).filter(move |&member| self.has(member, now, down))
    }

    /// The latest instant as of which a quorum is known to have heard this node.
    pub(crate) fn confirmed(&self, now: Instant) -> Option<Instant> {
        if self.quorum == 1 { Some(now) } else { self.confirmed }
    }

    /// Whether a quorum counts as reached.
    pub(crate) const fn has_quorum(&self) -> bool {
        self.reached
    }

    /// Looks again; says what is different.
    pub(crate) fn update(&mut self, now: Instant, down: Duration, up: Duration) -> Changes {
        let mut changes = Changes::default();
        let reachable = self.members(now, down).count();
        if reachable != self.reachable {
            self.reachable = reachable;
            changes.reachable = Some(reachable);
        }
        if reachable < self.quorum as usize {
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some(now);
        }
        let reached = self.since.is_some_and(|since| now.since(since) >= up);
        if reached != self.reached {
            self.reached = reached;
            changes.reached = Some(reached);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Duration = Duration::from_secs(2);

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    /// P-25: only an answer to our own heartbeat counts, and only for so long.
    #[test]
    fn quorum_needs_answers_and_is_lost_without_them() {
        let mut reach = Reach::new(3, 0, 2);
        let first = reach.send(at(1));
        assert_eq!(reach.update(at(1), DOWN, Duration::ZERO).reached, None);
        reach.ack(1, first + 7);
        assert_eq!(reach.update(at(1), DOWN, Duration::ZERO).reached, None, "never sent");
        reach.ack(1, first);
        assert_eq!(reach.update(at(2), DOWN, Duration::ZERO).reached, Some(true));
        assert_eq!(reach.confirmed(at(2)), Some(at(1)), "as of the sending, not the answer");
        assert_eq!(reach.update(at(3), DOWN, Duration::ZERO).reached, Some(false));
    }

    #[test]
    fn a_quorum_must_last_before_it_counts() {
        let mut reach = Reach::new(3, 0, 2);
        let up = Duration::from_secs(1);
        let first = reach.send(at(1));
        reach.ack(2, first);
        assert!(reach.update(at(1), DOWN, up).reached.is_none());
        assert_eq!(reach.update(at(2), DOWN, up).reached, Some(true));
    }
}
