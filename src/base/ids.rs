//! Who and which: newtypes, so that no two kinds of number can be mistaken for each other.

use core::fmt;

use bincode::{Decode, Encode};

use super::bytes::Key;

macro_rules! number {
    ($name:ident($inner:ty), $prefix:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number!(ClusterId(u64), "", "Which cluster: messages of another one are dropped unread.");
number!(NodeId(u16), "n", "One member, for as long as its name is in the configuration.");
number!(Epoch(u32), "e", "Which decided member list is in force; the first is 1.");
number!(
    Incarnation(u32),
    "i",
    "One process life of a node. Durable before the first ballot of that life, so no ballot is \
     ever used by two lives."
);
number!(
    Life(u64),
    "",
    "One storage life of a node, drawn at random when its storage is made. It survives restarts \
     and dies with the disk, which is how a node that lost its state is told from one that did not."
);
number!(TableId(u16), "t", "A table's place in the configuration's list, or [`TableId::ROSTERS`].");

impl TableId {
    /// The engine's own table, which no client can name: of each primary table, under its name, who
    /// is its primary and who counts.
    pub const ROSTERS: Self = Self(u16::MAX);
}

number!(
    RequestId(u64),
    "r",
    "A client's number for one request; never reused by that client for another."
);
number!(Ticket(u64), "#", "Names one durable write; given out in increasing order.");

/// A client, or a node acting on its own behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ClientId(u64);

impl ClientId {
    const INTERNAL: u64 = 1 << 63;

    /// The client numbered `number`; the top bit is the engine's own and is ignored.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number & !Self::INTERNAL)
    }

    /// The client that is one process life of a node. 16 bits of node, 32 of incarnation.
    pub(crate) const fn internal(node: NodeId, incarnation: Incarnation) -> Self {
        Self(Self::INTERNAL | (node.0 as u64) << 32 | incarnation.0 as u64)
    }

    /// Whether a node, not a client, is asking.
    #[must_use]
    pub const fn is_internal(self) -> bool {
        self.0 & Self::INTERNAL != 0
    }

    /// The number given to [`ClientId::new`].
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0 & !Self::INTERNAL
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_internal() {
            write!(f, "n{}i{}", (self.0 >> 32) as u16, self.0 as u32)
        } else {
            write!(f, "c{}", self.0)
        }
    }
}

/// One operation, whoever retries it: the unit of at-most-once (`PROTOCOL.md` 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct OpId {
    /// Who asked.
    pub client: ClientId,
    /// Which of its requests.
    pub request: RequestId,
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.client, self.request)
    }
}

/// A client's leased identity, hosted by one node for as long as that node's own session lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SessionId {
    /// The node that hosts it and answers for its life.
    pub host: NodeId,
    /// The host's node session it was opened in; when that is closed, so is this.
    pub node_session: u64,
    /// Its number within that node session.
    pub number: u64,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}.{}.{}", self.host.0, self.node_session, self.number)
    }
}

/// One register: a client's key in its table, or one of the engine's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum RegisterId {
    /// The session of a node: which of its membership lives is open.
    NodeSession(NodeId),
    /// A key of a table.
    Key(TableId, Key),
}

impl fmt::Display for RegisterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeSession(node) => write!(f, "$session/{}", node.0),
            Self::Key(TableId::ROSTERS, key) => write!(f, "$primary/{key}"),
            Self::Key(table, key) => write!(f, "{table}/{key}"),
        }
    }
}
