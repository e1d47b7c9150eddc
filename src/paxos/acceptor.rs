//! The acceptor of one register: what it has promised, what it has accepted.
//!
//! An acceptor knows no clock and no other register. It answers at once; that its answer must be
//! durable before anybody hears it is kept by the node (`docs/PROTOCOL.md`, durability).

use super::ballot::Ballot;

/// What every register of a slice has promised and accepted at least. A register nobody touched
/// has no record: it *is* its slice's floor, dead since `accepted` (I8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Floor {
    /// No ballot below this is accepted in the slice.
    pub promised: Ballot,
    /// As of this ballot every register without a record was accepted as dead.
    pub accepted: Ballot,
}

impl Floor {
    /// The floor of a slice on which no slice ballot has run.
    #[must_use]
    pub const fn genesis(epoch: crate::base::Epoch) -> Self {
        Self { promised: Ballot::genesis(epoch), accepted: Ballot::genesis(epoch) }
    }
}

/// One register's record at one acceptor. `C` is the register's content, opaque here.
///
/// Invariant: `accepted <= promised`, and neither ever decreases (I4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acceptor<C> {
    promised: Ballot,
    accepted: Option<(Ballot, C)>,
}

impl<C> Acceptor<C> {
    /// An acceptor that has promised and accepted nothing.
    pub const EMPTY: Self = Self { promised: Ballot::ZERO, accepted: None };
}

impl<C> Default for Acceptor<C> {
    fn default() -> Self {
        Self { promised: Ballot::ZERO, accepted: None }
    }
}

impl<C: Clone> Acceptor<C> {
    /// P(k): the lowest ballot that may still be accepted.
    #[must_use]
    pub fn promised(&self, floor: &Floor) -> Ballot {
        self.promised.max(floor.promised).max(self.accepted_ballot(floor))
    }

    /// A(k): the ballot of what counts as accepted. Never the promise: a promise is not a vote.
    #[must_use]
    pub fn accepted_ballot(&self, floor: &Floor) -> Ballot {
        self.accepted.as_ref().map_or(floor.accepted, |(ballot, _)| (*ballot).max(floor.accepted))
    }

    /// A(k): what counts as accepted; `None` is dead since the floor.
    #[must_use]
    pub const fn content(&self) -> Option<&C> {
        match &self.accepted {
            Some((_, content)) => Some(content),
            None => None,
        }
    }

    /// A1. A promise not to accept below `ballot`.
    ///
    /// *Paxos Made Simple* 2.2, phase 1(b): it "responds to the request with a promise not to
    /// accept any more proposals numbered less than n".
    ///
    /// # Errors
    /// The ballot already promised, when `ballot` is not above it.
    pub fn prepare(&mut self, floor: &Floor, ballot: Ballot) -> Result<(), Ballot> {
        let promised = self.promised(floor);
        if ballot <= promised {
            return Err(promised);
        }
        self.promised = ballot;
        Ok(())
    }

    /// A2. Accepts unless a higher ballot was promised.
    ///
    /// *Paxos Made Simple* 2.2, phase 2(b): it "accepts the proposal unless it has already
    /// responded to a prepare request having a number greater than n".
    ///
    /// # Errors
    /// The ballot promised, when `ballot` is below it. It carries no content: what a rejection
    /// says is not a promise.
    pub fn accept(&mut self, floor: &Floor, ballot: Ballot, content: C) -> Result<(), Ballot> {
        let promised = self.promised(floor);
        if ballot < promised {
            return Err(promised);
        }
        self.promised = ballot;
        self.accepted = Some((ballot, content));
        Ok(())
    }

    /// Puts back a durable promise.
    ///
    /// # Errors
    /// If the record would lower the promise: the log is not one that this acceptor wrote.
    pub fn recover_promise(&mut self, ballot: Ballot) -> Result<(), Ballot> {
        if ballot < self.promised {
            return Err(self.promised);
        }
        self.promised = ballot;
        Ok(())
    }

    /// Puts back a durable acceptance.
    ///
    /// # Errors
    /// If the record is below the promise: the log is not one that this acceptor wrote.
    pub fn recover_accepted(&mut self, ballot: Ballot, content: C) -> Result<(), Ballot> {
        self.recover_promise(ballot)?;
        self.accepted = Some((ballot, content));
        Ok(())
    }
}
