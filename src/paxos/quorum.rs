//! Who votes, and how many of them are enough.

use alloc::vec::Vec;
use core::fmt;

use crate::base::NodeId;

/// The voting members of one epoch. Quorums are majorities of the *configured* size, which may
/// exceed the list: vacant seats count as down, and nobody outside the list ever counts (P-02).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Members {
    nodes: Vec<NodeId>,
    size: u16,
}

/// Why a list of members cannot be a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembersError {
    /// The same node twice.
    Duplicate(NodeId),
    /// No node at all.
    Empty,
    /// More than [`Members::SIZE_MAX`] seats.
    TooMany,
    /// The configured size is below the number of nodes listed.
    TooSmall {
        /// The configured size.
        size: u16,
        /// Nodes listed.
        listed: usize,
    },
}

impl fmt::Display for MembersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(node) => write!(f, "members: node {} is listed twice", node.0),
            Self::Empty => write!(f, "members: at least one node is needed"),
            Self::TooMany => write!(f, "members: at most {} seats", Members::SIZE_MAX),
            Self::TooSmall { size, listed } => write!(
                f,
                "cluster_size: {size} is fewer than the {listed} members listed; a quorum of it \
                 could be two disjoint sets"
            ),
        }
    }
}

impl core::error::Error for MembersError {}

impl Members {
    /// The most seats a configuration can have: a tally is one machine word.
    pub const SIZE_MAX: u16 = 64;

    /// The members `nodes` of a cluster of `size` seats.
    ///
    /// # Errors
    /// If there is no node, a node is named twice, or `size` is below the list or above
    /// [`Self::SIZE_MAX`].
    pub fn new(mut nodes: Vec<NodeId>, size: u16) -> Result<Self, MembersError> {
        nodes.sort_unstable();
        if let Some(pair) = nodes.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(MembersError::Duplicate(pair[0]));
        }
        if nodes.is_empty() {
            return Err(MembersError::Empty);
        }
        if size > Self::SIZE_MAX || nodes.len() > usize::from(Self::SIZE_MAX) {
            return Err(MembersError::TooMany);
        }
        if usize::from(size) < nodes.len() {
            return Err(MembersError::TooSmall { size, listed: nodes.len() });
        }
        Ok(Self { nodes, size })
    }

    /// The configured number of seats.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// How many distinct members are enough; any two such sets share one.
    #[must_use]
    pub const fn quorum(&self) -> u32 {
        self.size as u32 / 2 + 1
    }

    /// The members in ascending order.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Whether `node` votes.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.index(node).is_some()
    }

    /// The place of `node` in [`Self::nodes`].
    #[must_use]
    pub fn index(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|&member| member == node)
    }
}

/// Distinct members that have said something; a duplicate changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally(u64);

impl Tally {
    /// Counts the member at `index`; false if it had been counted.
    pub fn add(&mut self, index: usize) -> bool {
        assert!(index < usize::from(Members::SIZE_MAX));
        let bit = 1 << index;
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh
    }

    /// Whether the member at `index` has been counted.
    #[must_use]
    pub const fn has(&self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    /// How many members have been counted.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.0.count_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn members(listed: u16, size: u16) -> Result<Members, MembersError> {
        Members::new((1..=listed).map(NodeId).collect(), size)
    }

    /// P-02: more than half of the configured size, whatever is listed.
    #[test]
    fn quorum_is_a_majority_of_the_configured_size() {
        for (size, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
            assert_eq!(members(1, size).unwrap().quorum(), quorum);
            assert!(2 * quorum > u32::from(size), "two quorums of {size} always meet");
        }
    }

    #[test]
    fn impossible_configurations_are_named() {
        assert_eq!(members(0, 3), Err(MembersError::Empty));
        assert_eq!(members(3, 2), Err(MembersError::TooSmall { size: 2, listed: 3 }));
        assert_eq!(members(65, 65), Err(MembersError::TooMany));
        let twice = vec![NodeId(1), NodeId(2), NodeId(1)];
        assert_eq!(Members::new(twice, 3), Err(MembersError::Duplicate(NodeId(1))));
    }

    #[test]
    fn a_duplicate_vote_is_one_vote() {
        let mut tally = Tally::default();
        assert!(tally.add(3) && !tally.add(3));
        assert!(tally.has(3) && !tally.has(0));
        assert_eq!(tally.count(), 1);
    }
}
