//! What a register contains.

use alloc::vec::Vec;
use core::fmt;

use bincode::{Decode, Encode};

use crate::base::{OpId, RegisterId, Value};
use crate::monitor::{Binding, Cause, NodeSession};
use crate::paxos::Ballot;

/// How many of the last rounds that changed it a cell remembers. One is enough for safety; two let
/// a writer that was overtaken once still learn that it won.
pub const LINEAGE_MAX: usize = 2;

/// A register's whole content, replaced as one by every accepted proposal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Cell {
    /// What a reader sees.
    pub state: State,
    /// Which operations made it so, in the last [`LINEAGE_MAX`] rounds that did.
    pub lineage: Lineage,
    /// Rounds that changed the register at or below this ballot may be missing from `lineage`;
    /// above it, none is.
    pub truncated: Ballot,
}

/// Present or absent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum State {
    /// Absent, and why.
    Dead(Cause),
    /// Present.
    Live(Live),
}

/// One life of a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Live {
    /// The ballot of the proposal that gave birth to this life: unique for ever, needs no
    /// counter, and is the client's fencing token.
    pub generation: Ballot,
    /// What is kept.
    pub content: Content,
    /// What the life depends on; it ends when any of them does.
    pub bindings: Vec<Binding>,
}

/// A client's value, or the state of one of the engine's own registers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Content {
    /// Of a node's session register.
    NodeSession(NodeSession),
    /// Of a client's key.
    Value(Value),
}

/// The last operation of a round that changed the register, and the ballot at which it did. What
/// its round changed before, at ballots that this one follows, it stands for (P4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Change {
    /// Which operation.
    pub op: OpId,
    /// At which ballot.
    pub ballot: Ballot,
}

/// The last changes, newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Lineage([Option<Change>; LINEAGE_MAX]);

impl Lineage {
    /// The changes remembered, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.0.iter().flatten()
    }

    /// The last change.
    #[must_use]
    pub const fn last(&self) -> Option<&Change> {
        self.0[0].as_ref()
    }

    /// Whether `op` is among the changes remembered.
    #[must_use]
    pub fn contains(&self, op: OpId) -> bool {
        self.iter().any(|change| change.op == op)
    }

    /// Whether changes took effect that are not named, for others in the same rounds are.
    #[must_use]
    pub(crate) fn hides_any(&self) -> bool {
        self.iter().any(|change| change.ballot.sequence > 0)
    }

    /// Adds the newest change; returns the one that is forgotten for it.
    fn push(&mut self, change: Change) -> Option<Change> {
        if let Some(last) = &mut self.0[0]
            && change.ballot.follows(last.ballot)
        {
            *last = change;
            return None;
        }
        let forgotten = self.0[LINEAGE_MAX - 1];
        self.0.copy_within(..LINEAGE_MAX - 1, 1);
        self.0[0] = Some(change);
        forgotten
    }
}

impl Cell {
    /// A register nobody has changed since `floor`.
    #[must_use]
    pub fn absent(floor: Ballot) -> Self {
        Self { state: State::Dead(Cause::Never), lineage: Lineage::default(), truncated: floor }
    }

    /// The life in it, if any.
    #[must_use]
    pub const fn live(&self) -> Option<&Live> {
        match &self.state {
            State::Live(live) => Some(live),
            State::Dead(_) => None,
        }
    }

    /// The ballot of the last change; of the floor where there was none.
    #[must_use]
    pub fn version(&self) -> Ballot {
        self.lineage.last().map_or(self.truncated, |change| change.ballot)
    }

    /// Whether this can be the content of `register` accepted at `accepted`: its history lies in
    /// the past and in order, and its kind is the register's.
    pub(crate) fn fits(&self, register: &RegisterId, accepted: Ballot) -> bool {
        let mut later = None;
        let ordered = self.lineage.iter().all(|change| {
            let ordered = later.is_none_or(|later| change.ballot < later);
            later = Some(change.ballot);
            ordered && change.ballot > self.truncated && change.ballot <= accepted
        });
        let alike = self.live().is_none_or(|live| {
            live.generation <= accepted
                && matches!(
                    (register, &live.content),
                    (RegisterId::NodeSession(_), Content::NodeSession(_))
                        | (RegisterId::Key(..), Content::Value(_))
                )
        });
        ordered && alike && self.truncated <= accepted
    }

    /// The node session held, in a register of that kind.
    #[must_use]
    pub fn node_session(&self) -> Option<NodeSession> {
        match self.live()?.content {
            Content::NodeSession(session) => Some(session),
            Content::Value(_) => None,
        }
    }

    /// This cell after `op` put it into `state` at `ballot`.
    #[must_use]
    pub fn changed(&self, state: State, op: OpId, ballot: Ballot) -> Self {
        let mut lineage = self.lineage;
        let forgotten = lineage.push(Change { op, ballot });
        let truncated = forgotten.map_or(self.truncated, |change| change.ballot);
        assert!(truncated >= self.truncated, "changes have ascending ballots");
        Self { state, lineage, truncated }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Dead(cause) => write!(f, "-{cause}"),
            State::Live(live) => {
                match &live.content {
                    Content::NodeSession(session) => write!(f, "{session}")?,
                    Content::Value(value) => write!(f, "{value}")?,
                }
                live.bindings.iter().try_for_each(|binding| write!(f, " [{binding}]"))
            }
        }
    }
}
