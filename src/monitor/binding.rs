//! Bindings as a client names them, and as they are kept once resolved.

use core::fmt;

use bincode::{Decode, Encode};

use crate::base::{Key, NodeId, RegisterId, SessionId, TableId, Wall};
use crate::paxos::Ballot;

/// What a client asks a key's life to be bound to (P-14, P-18..P-21). Several are a conjunction:
/// the key lives while all of them do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Bind {
    /// While another key lives its present life.
    Key {
        /// The table of the other key.
        table: TableId,
        /// The other key.
        key: Key,
    },
    /// While a node's present membership life lasts.
    Node(NodeId),
    /// While a client's session lasts.
    Session(SessionId),
    /// Until a wall-clock moment.
    Until(Wall),
}

/// A binding of an entry: it names one life of its target, so a later life of the same name is
/// never mistaken for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Binding {
    /// While the register lives the life born at `generation`.
    Key {
        /// The other register.
        register: RegisterId,
        /// The ballot that gave birth to the life meant.
        generation: Ballot,
    },
    /// While the node's session numbered `session` is open.
    Node {
        /// The node.
        node: NodeId,
        /// Which of its sessions.
        session: u64,
    },
    /// While a client's session lasts.
    Session(SessionId),
    /// Until a quorum of wall clocks has reached a moment.
    Until(Wall),
}

/// Why a register holds nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Cause {
    /// A binding of the entry ended.
    Erased(Binding),
    /// Nothing was ever put, or what was is forgotten.
    Never,
    /// A client removed it.
    Removed,
}

/// The content of a node's session register: the number of its last session, and whether that
/// is still open. Numbers only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct NodeSession {
    /// Counts the membership lives of the node; the first is 1.
    pub number: u64,
    /// Whether that life goes on.
    pub open: bool,
}

impl NodeSession {
    /// Whether session `number` has ended, given that this is *chosen*. Once true, always true.
    #[must_use]
    pub const fn has_ended(&self, number: u64) -> bool {
        self.number > number || (self.number == number && !self.open)
    }
}

/// What is known of a binding's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// It had not ended at an instant of the inquiry.
    Alive,
    /// It has ended: decided, or certified by the node that owns it. Never changes again.
    Ended,
    /// Not found out.
    Unknown,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { table, key } => write!(f, "key:{table}/{key}"),
            Self::Node(node) => write!(f, "node:{node}"),
            Self::Session(session) => write!(f, "session:{session}"),
            Self::Until(wall) => write!(f, "until:{wall}"),
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { register, generation } => write!(f, "key:{register}@{generation}"),
            Self::Node { node, session } => write!(f, "node:{node}.{session}"),
            Self::Session(session) => write!(f, "session:{session}"),
            Self::Until(wall) => write!(f, "until:{wall}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Erased(binding) => write!(f, "erased({binding})"),
            Self::Never => write!(f, "never"),
            Self::Removed => write!(f, "removed"),
        }
    }
}

impl fmt::Display for NodeSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, if self.open { "open" } else { "closed" })
    }
}
