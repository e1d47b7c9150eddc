//! The proposer of one ballot on one register: gathers promises, then acceptances.
//!
//! One value is one attempt. A new attempt is a new value with a higher ballot, so a promise or an
//! acceptance for an earlier attempt finds nobody to count it (I2).

use super::ballot::Ballot;
use super::quorum::Tally;

/// What a quorum of promises said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promises<C> {
    tally: Tally,
    highest: Ballot,
    content: Option<C>,
    /// Promises that reported exactly `highest`.
    agreeing: u32,
    /// Whether some promise knows `highest` to be chosen.
    known_chosen: bool,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proposer<C> {
    /// Phase 1: nobody has been asked to accept anything at this ballot.
    Preparing {
        /// What has been promised so far.
        promises: Promises<C>,
    },
    /// Phase 2: every acceptor is asked for the same content.
    Accepting {
        /// What everybody is asked to accept; never changes (I1).
        content: C,
        /// Who has.
        tally: Tally,
    },
}

impl<C: Clone> Promises<C> {
    /// The content of the highest-numbered proposal reported; `None` is dead since the floor.
    #[must_use]
    pub const fn content(&self) -> Option<&C> {
        self.content.as_ref()
    }

    /// The ballot of [`Self::content`].
    #[must_use]
    pub const fn ballot(&self) -> Ballot {
        self.highest
    }

    /// Whether what the promises report is *known* to be chosen without another round: a quorum
    /// of them voted for exactly it, or one of them knows. A copy from an earlier epoch is not a
    /// vote, so its ballot's epoch must be `ballot`'s (I7).
    #[must_use]
    pub fn is_chosen(&self, quorum: u32, ballot: Ballot) -> bool {
        self.highest.epoch == ballot.epoch && (self.known_chosen || self.agreeing >= quorum)
    }
}

impl<C: Clone> Default for Proposer<C> {
    fn default() -> Self {
        let promises = Promises {
            tally: Tally::default(),
            highest: Ballot::ZERO,
            content: None,
            agreeing: 0,
            known_chosen: false,
        };
        Self::Preparing { promises }
    }
}

impl<C: Clone> Proposer<C> {
    /// Counts a promise for `ballot`; says what the promises report when they first reach
    /// `quorum`, and nothing before or after.
    ///
    /// *Paxos Made Simple* 2.2, phase 2(a): the value "is the value of the highest-numbered
    /// proposal among the responses".
    ///
    /// # Panics
    /// If the acceptor reports an acceptance at or above `ballot`: nobody has been asked for one,
    /// so a ballot was used twice, and two values could be chosen.
    pub fn on_promise(
        &mut self,
        quorum: u32,
        ballot: Ballot,
        acceptor: usize,
        accepted: (Ballot, Option<&C>),
        known_chosen: bool,
    ) -> Option<&Promises<C>> {
        let Self::Preparing { promises } = self else {
            return None;
        };
        assert!(accepted.0 < ballot, "I1: accepted {} at or above {ballot}", accepted.0);
        if promises.tally.count() >= quorum || !promises.tally.add(acceptor) {
            return None;
        }
        if accepted.0 > promises.highest {
            promises.highest = accepted.0;
            promises.content = accepted.1.cloned();
            promises.agreeing = 0;
            promises.known_chosen = false;
        }
        if accepted.0 == promises.highest {
            promises.agreeing += 1;
            promises.known_chosen |= known_chosen;
        }
        (promises.tally.count() >= quorum).then_some(&*promises)
    }

    /// Starts phase 2 with `content`.
    ///
    /// # Panics
    /// If phase 2 has begun: one ballot never carries two contents.
    pub fn propose(&mut self, content: C) {
        assert!(matches!(self, Self::Preparing { .. }), "I1: one content for one ballot");
        *self = Self::Accepting { content, tally: Tally::default() };
    }

    /// Counts an acceptance; true when a quorum is first reached: the content is chosen.
    pub fn on_accepted(&mut self, quorum: u32, acceptor: usize) -> bool {
        let Self::Accepting { tally, .. } = self else {
            return false;
        };
        tally.add(acceptor) && tally.count() == quorum
    }
}
