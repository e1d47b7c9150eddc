//! Whose storage is known to be the one it was: how a node that lost its state is told from a new
//! one, so that no promise is ever forgotten by somebody who still votes (P-32).
//!
//! Every node durably takes note of each peer's storage life. A node with empty storage votes only
//! once `required` peers have taken note of it. Any two such sets of peers share more members than
//! can have lost their own notes while the cluster is within its limits, so a second storage life
//! of a node always meets somebody who remembers the first.

use alloc::vec;
use alloc::vec::Vec;

use crate::base::Life;
use crate::paxos::{Members, Tally};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Witnesses {
    lives: Vec<Option<Life>>,
    recorded_by: Tally,
}

impl Witnesses {
    pub(crate) fn new(members: usize) -> Self {
        Self { lives: vec![None; members], recorded_by: Tally::default() }
    }

    /// How many peers must have taken note. With N seats and quorums of Q, at most N - Q may have
    /// lost their storage, one of them the node itself: two sets of r among N - 1 peers share at
    /// least 2r - (N - 1), which must exceed N - Q - 1.
    ///
    /// More than there are peers, if seats are vacant: such a cluster cannot start by witnesses.
    pub(crate) const fn required(members: &Members) -> u32 {
        let size = members.size() as u32;
        let quorum = members.quorum();
        if size == 1 {
            return 0;
        }
        (2 * size - quorum - 2) / 2 + 1
    }

    /// What is on record of a member.
    pub(crate) fn life(&self, member: usize) -> Option<Life> {
        self.lives[member]
    }

    /// Puts on record.
    pub(crate) fn record(&mut self, member: usize, life: Life) {
        assert!(self.lives[member].is_none(), "a peer's storage life is never overwritten");
        self.lives[member] = Some(life);
    }

    /// A member has taken note of this node's storage; false if that was known.
    pub(crate) fn recorded_by(&mut self, member: usize) -> bool {
        self.recorded_by.add(member)
    }

    /// Those that have.
    pub(crate) const fn recorders(&self) -> Tally {
        self.recorded_by
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NodeId;

    /// P-32: whoever is wiped meets a witness whose own notes are not lost.
    #[test]
    fn two_sets_of_witnesses_share_one_that_remembers() {
        for size in 2..=9u16 {
            let members = Members::new((1..=size).map(NodeId).collect(), size).unwrap();
            let required = Witnesses::required(&members);
            let peers = u32::from(size) - 1;
            assert!(required <= peers, "{size} seats can start at all");
            let losses = u32::from(size) - members.quorum();
            if losses > 0 {
                assert!(2 * required - peers > losses - 1, "{size} seats");
            }
        }
    }
}
