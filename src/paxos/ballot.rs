//! Ballots: totally ordered, and never used twice for different contents.

use core::fmt;

use bincode::{Decode, Encode};

use crate::base::{Epoch, Incarnation, NodeId};

/// The number of one proposal, compared from the first field to the last.
///
/// `(node, incarnation)` is one process life, so two lives never share a ballot; within a life the
/// proposer never uses a ballot for two contents (I1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Ballot {
    /// The configuration the proposal was made in.
    pub epoch: Epoch,
    /// Raised above every round seen at each new attempt.
    pub round: u64,
    /// Who proposes.
    pub node: NodeId,
    /// In which of its lives.
    pub incarnation: Incarnation,
    /// Position in the round: 0 is prepared, what follows builds on the one before it (P4).
    pub sequence: u32,
}

impl Ballot {
    /// Below every ballot of every epoch.
    pub const ZERO: Self = Self::genesis(Epoch(0));

    /// What an untouched register of `epoch` has promised and accepted: nothing.
    #[must_use]
    pub const fn genesis(epoch: Epoch) -> Self {
        Self { epoch, round: 0, node: NodeId(0), incarnation: Incarnation(0), sequence: 0 }
    }

    /// Whether this is `earlier` or follows it in the same round: a content proposed here has in it
    /// what was proposed there (P4).
    #[must_use]
    pub fn follows(&self, earlier: Self) -> bool {
        Self { sequence: earlier.sequence, ..*self } == earlier && self.sequence >= earlier.sequence
    }

    /// Whether this is the floor of an epoch rather than somebody's proposal.
    #[must_use]
    pub const fn is_genesis(&self) -> bool {
        self.round == 0
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_genesis() {
            return write!(f, "{}:0", self.epoch.0);
        }
        write!(f, "{}:{}.{}.{}", self.epoch.0, self.round, self.node.0, self.incarnation.0)?;
        if self.sequence > 0 {
            write!(f, "+{}", self.sequence)?;
        }
        Ok(())
    }
}
