//! Whose turn it is to propose on a register, of one node's operations, and behind which proposal.
//!
//! Must never know: messages, acceptors, what a content means.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use crate::consensus::Cell;
use crate::paxos::Ballot;

/// The operations of this node that propose on one register, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    queue: VecDeque<u64>,
    /// The last proposal of the round under way, behind which another may follow (P4).
    tip: Option<(Ballot, Arc<Cell>)>,
}

impl Turns {
    /// Joins the queue; false if it is in it already.
    pub(super) fn join(&mut self, number: u64) -> bool {
        let is_new = !self.queue.contains(&number);
        if is_new {
            self.queue.push_back(number);
        }
        is_new
    }

    /// Leaves the queue; whether it was the first.
    pub(super) fn leave(&mut self, number: u64) -> bool {
        let was_first = self.first() == Some(number);
        if was_first {
            self.queue.pop_front();
        } else {
            self.queue.retain(|&waiting| waiting != number);
        }
        was_first
    }

    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<u64> {
        self.queue.front().copied()
    }

    /// The one before the last.
    pub(super) fn before_last(&self) -> Option<u64> {
        self.queue.len().checked_sub(2).map(|place| self.queue[place])
    }

    /// Everybody, in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.queue.iter().copied()
    }

    /// The ballot behind the last proposal of this round, and what it builds on; `None` if there is
    /// no round that can be gone on with.
    pub(super) fn next(&self) -> Option<(Ballot, &Arc<Cell>)> {
        let (ballot, cell) = self.tip.as_ref()?;
        let sequence = ballot.sequence.checked_add(1)?;
        Some((Ballot { sequence, ..*ballot }, cell))
    }

    /// Notes what is proposed in this round.
    ///
    /// # Panics
    /// If the ballot is not behind all that was proposed before: it could carry two contents.
    pub(super) fn extend(&mut self, ballot: Ballot, cell: Arc<Cell>) {
        let behind = self.tip.as_ref().is_none_or(|(tip, _)| ballot > *tip);
        assert!(behind, "I1: {ballot} is proposed behind a later one");
        self.tip = Some((ballot, cell));
    }

    /// Ends the round: nobody follows any more.
    pub(super) fn cut(&mut self) {
        self.tip = None;
    }
}
