//! A read by quorum: what is chosen, found out without a ballot (R0-R5).

use super::ballot::Ballot;
use super::quorum::Tally;
use crate::base::Epoch;

/// Replies to one read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading<C> {
    tally: Tally,
    highest: Ballot,
    content: Option<C>,
    agreeing: u32,
    known_chosen: bool,
}

/// What the replies prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// R1 or R2: the highest is chosen.
    Chosen,
    /// R3: of this epoch but perhaps not chosen; completing it at its own ballot makes it so.
    Incomplete,
    /// R4: a copy from an earlier epoch, which is not a vote; needs a ballot of its own.
    Inherited,
    /// Too few replies.
    Pending,
}

impl<C> Default for Reading<C> {
    fn default() -> Self {
        Self {
            tally: Tally::default(),
            highest: Ballot::ZERO,
            content: None,
            agreeing: 0,
            known_chosen: false,
        }
    }
}

impl<C: Clone> Reading<C> {
    /// Counts a reply: what the acceptor has accepted, and whether it knows that to be chosen.
    pub fn on_reply(&mut self, acceptor: usize, ballot: Ballot, content: Option<&C>, known: bool) {
        if !self.tally.add(acceptor) {
            return;
        }
        if ballot > self.highest {
            self.highest = ballot;
            self.content = content.cloned();
            self.agreeing = 0;
            self.known_chosen = false;
        }
        if ballot == self.highest {
            self.agreeing += 1;
            self.known_chosen |= known;
        }
    }

    /// What the replies so far prove. "Nothing there" is a ballot like any other (R5): two
    /// different ones can have a live value between them.
    #[must_use]
    pub fn verdict(&self, quorum: u32, epoch: Epoch) -> Verdict {
        if self.tally.count() < quorum {
            Verdict::Pending
        } else if self.highest.epoch != epoch {
            Verdict::Inherited
        } else if self.agreeing >= quorum || self.known_chosen {
            Verdict::Chosen
        } else {
            Verdict::Incomplete
        }
    }

    /// The highest ballot replied.
    #[must_use]
    pub const fn ballot(&self) -> Ballot {
        self.highest
    }

    /// Its content; `None` is dead since the floor.
    #[must_use]
    pub const fn content(&self) -> Option<&C> {
        self.content.as_ref()
    }

    /// Who has replied.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }
}
