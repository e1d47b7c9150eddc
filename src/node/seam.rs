//! The seam: everything that goes into the engine, and everything that comes out.
//!
//! `Input` and `Effect` are exhaustive on purpose: a host must handle every one.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bincode::{Decode, Encode};

use crate::base::{
    ClientId, ClusterId, Epoch, Incarnation, Key, Life, NodeId, RegisterId, RequestId, SessionId,
    TableId, TableName, Ticket, Value,
};
use crate::cluster;
use crate::consensus::{self, Cell, Outcome, Readiness, Request};
use crate::merged;
use crate::monitor::{self, Binding};
use crate::paxos::Ballot;
use crate::primary;

/// What can happen to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A client session hosted here has ended, says the host that watches it.
    Down {
        /// Which.
        session: SessionId,
    },
    /// A hint from the transport that a link is up or down: never evidence, never safety.
    Link {
        /// To whom.
        peer: NodeId,
        /// Whether it is up.
        up: bool,
    },
    /// A message arrived. The transport vouches for who sent it.
    Message {
        /// From whom.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// Everything up to and including this ticket is durable: it survives a crash.
    Persisted {
        /// The ticket of an [`Effect::Persist`].
        ticket: Ticket,
    },
    /// A client asks.
    Request(Request),
    /// The instant of [`crate::Node::poll_timeout`] has come. Early, late and repeated ones are
    /// harmless.
    Timeout,
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Watch the client of this session no more.
    Demonitor {
        /// Which.
        session: SessionId,
    },
    /// Watch the client of this session: when it is gone, say [`Input::Down`].
    Monitor {
        /// Which.
        session: SessionId,
        /// Whose.
        client: ClientId,
    },
    /// Tell a client of an event it subscribed to, or of its session's.
    Notify {
        /// Whom.
        client: ClientId,
        /// What.
        event: Event,
    },
    /// Make these durable, behind all earlier ones, then say [`Input::Persisted`]. A crash before
    /// that may keep any prefix of what is outstanding.
    Persist {
        /// Names this write.
        ticket: Ticket,
        /// What to write.
        records: Vec<Record>,
    },
    /// Answer a client.
    Reply {
        /// Whom.
        client: ClientId,
        /// Which of its requests.
        request: RequestId,
        /// The answer.
        outcome: Outcome,
    },
    /// Send a message: safe to send now, to lose, to delay, to duplicate.
    Send {
        /// To whom; never the node itself.
        to: NodeId,
        /// What.
        message: Message,
    },
}

/// What a node puts its effects into: owned and reused by the caller.
pub type Effects = Vec<Effect>;

/// What clients can be told without asking again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A life of a watched key has ended; whoever puts next can win (P-16).
    Ended {
        /// Which table.
        table: TableId,
        /// Which key.
        key: Key,
        /// Which life.
        generation: Ballot,
        /// How.
        ending: Ending,
    },
    /// Of merged tables.
    Merge(MergeEvent),
    /// A quorum of members is no longer heard. Alternates strictly with
    /// [`Event::QuorumReached`]; each subscription starts with the present state (P-25).
    QuorumLost {
        /// The epoch.
        epoch: Epoch,
    },
    /// A quorum of members is heard and hears this node.
    QuorumReached {
        /// The epoch.
        epoch: Epoch,
    },
    /// The number of members heard, itself included, has changed (P-26).
    Reachable {
        /// How many.
        nodes: usize,
        /// Of how many seats.
        size: u16,
    },
    /// This node has begun or ceased to take part.
    Readiness(Readiness),
    /// What this node's replica of a primary table is now, and who its primary is. Each
    /// subscription starts with how it is.
    Role {
        /// Which table.
        table: TableId,
        /// What the replica is.
        role: primary::Role,
        /// The highest reign that it knows of.
        reign: primary::Reign,
        /// Whose, as far as it is known.
        primary: Option<NodeId>,
    },
    /// The session may have ended: do not act on holding its keys (M3).
    SessionSuspended(SessionId),
    /// It had not.
    SessionResumed(SessionId),
    /// It has; its keys are erased.
    SessionLost(SessionId),
}

/// What happens to merged tables, and to the nodes that they are merged with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MergeEvent {
    /// A row that was in conflict is so no more: its alarm is down.
    Cleared {
        /// Which table.
        table: TableId,
        /// Which row.
        row: merged::Row,
    },
    /// A removal or another value came to stay instead of a value, though neither knew of the
    /// other: what the table's strategy or policy decided. Each copy tells it for itself, as it
    /// has both, and may tell it again after the process was restarted.
    Lost {
        /// Which table.
        table: TableId,
        /// Which row.
        row: merged::Row,
        /// The value that does not stay.
        value: Value,
    },
    /// A row has come into conflict: its alarm is up, here and on all copies, until somebody
    /// writes (M-15, M-17).
    Raised {
        /// Which table.
        table: TableId,
        /// Which row.
        row: merged::Row,
    },
    /// A member is heard, and hears this node: for the first time, or again.
    PeerBack(NodeId),
    /// A member is heard no more.
    PeerLost(NodeId),
    /// Of one table and one peer.
    Table {
        /// Which table.
        table: TableId,
        /// What.
        event: merged::Event,
    },
}

/// How a life of a key ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// What it was bound to had ended.
    Erased(Binding),
    /// A client removed it.
    Removed,
    /// It ended unseen by this node, which knows of a later life.
    Unseen,
}

/// What nodes send each other. The header lets a receiver drop what is not for it before it
/// looks at the content (A0).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Message {
    /// The sender's cluster.
    pub cluster: ClusterId,
    /// The sender's epoch. Never adopted from a message.
    pub epoch: Epoch,
    /// The sender's storage life.
    pub life: Life,
    /// The sender's process life.
    pub incarnation: Incarnation,
    /// The content.
    pub body: Body,
}

/// The content of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Body {
    /// Between members.
    Cluster(cluster::Message),
    /// About a register.
    Consensus(consensus::Message),
    /// Between copies of a merged table.
    Merged(merged::Message),
    /// About sessions.
    Monitor(monitor::Message),
    /// From a node to the primary of a table, and back.
    Passed(primary::Passed),
    /// Between replicas of a primary table.
    Primary(primary::Envelope),
    /// Between a node without a copy of a merged table and one with.
    Remote(merged::Remote),
}

/// What must survive a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Record {
    /// A ballot was accepted, and with it this content.
    Accepted {
        /// Which register.
        register: RegisterId,
        /// At which ballot.
        ballot: Ballot,
        /// What.
        cell: Arc<Cell>,
    },
    /// The node votes in this epoch.
    Active {
        /// Which.
        epoch: Epoch,
    },
    /// The storage was made: the first record of every log.
    Born {
        /// For which cluster.
        cluster: ClusterId,
        /// For which node.
        node: NodeId,
        /// Which storage life this is.
        life: Life,
    },
    /// A copy of a merged table was begun: whatever was written of an earlier one is void.
    Begun {
        /// Which table.
        table: TableName,
        /// Under which name the copy writes.
        actor: merged::Actor,
        /// As what it was begun.
        agreement: merged::Agreement,
    },
    /// A copy of a merged table was changed.
    Changed {
        /// Which table.
        table: TableName,
        /// In which process life.
        by: Incarnation,
        /// How; or a part of it.
        change: merged::Change,
        /// Whether it is there in whole with this: parts without a last one count for nothing.
        last: bool,
    },
    /// A process life has begun.
    Incarnation(Incarnation),
    /// A ballot was promised.
    Promised {
        /// Which register.
        register: RegisterId,
        /// Which ballot.
        ballot: Ballot,
    },
    /// A replica of a primary table was changed.
    Replica {
        /// Which table.
        table: TableName,
        /// How.
        record: primary::Record,
    },
    /// A peer's storage life was taken note of.
    Witnessed {
        /// Which peer.
        peer: NodeId,
        /// Its storage life.
        life: Life,
    },
}

impl Message {
    /// Whether it says no more than that a node is there, and hears another: a host that has no
    /// room for what goes on has some for this.
    #[must_use]
    pub const fn is_heartbeat(&self) -> bool {
        matches!(self.body, Body::Cluster(_))
    }

    /// Whether handling it may make records: a host whose disk is far behind had better lose it.
    #[must_use]
    pub const fn may_persist(&self) -> bool {
        match &self.body {
            // Few, and small.
            Body::Cluster(_) | Body::Monitor(_) => false,
            Body::Consensus(message) => matches!(
                message,
                consensus::Message::Accept { .. } | consensus::Message::Prepare { .. }
            ),
            Body::Merged(_) | Body::Remote(_) => true,
            Body::Passed(passed) => passed.writes(),
            Body::Primary(envelope) => envelope.message.may_persist(),
        }
    }
}

impl Record {
    /// About how many bytes it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        /// What everything takes besides keys and values.
        const REST: usize = 128;
        let content = match self {
            Self::Accepted { cell, .. } => match cell.live().map(|live| &live.content) {
                Some(consensus::Content::Value(value)) => value.len(),
                Some(consensus::Content::NodeSession(_)) | None => 0,
            },
            Self::Changed { change, .. } => {
                let versions = change.versions.iter().map(|(row, version)| {
                    let element = row.element.as_ref().map_or(0, Value::len);
                    row.key.len() + element + version.value().map_or(0, Value::len) + REST
                });
                versions.sum()
            }
            Self::Replica { record, .. } => record.size(),
            Self::Active { .. }
            | Self::Begun { .. }
            | Self::Born { .. }
            | Self::Incarnation(_)
            | Self::Promised { .. }
            | Self::Witnessed { .. } => 0,
        };
        content + REST
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.body {
            Body::Cluster(message) => write!(f, "{message}"),
            Body::Consensus(message) => write!(f, "{message}"),
            Body::Merged(message) => write!(f, "{message}"),
            Body::Monitor(message) => write!(f, "{message}"),
            Body::Passed(passed) => write!(f, "{passed}"),
            Body::Primary(envelope) => write!(f, "{envelope}"),
            Body::Remote(remote) => write!(f, "{remote}"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { register, ballot, cell } => {
                write!(f, "accepted {register} b={ballot} {cell}")
            }
            Self::Active { epoch } => write!(f, "active {epoch}"),
            Self::Begun { actor, agreement, .. } => write!(f, "begun {actor}: {agreement}"),
            Self::Born { life, .. } => write!(f, "born {:04x}", life.0 & 0xffff),
            Self::Changed { change, last, .. } => {
                write!(f, "changed {change}{}", if *last { "" } else { " …" })
            }
            Self::Incarnation(incarnation) => write!(f, "incarnation {}", incarnation.0),
            Self::Promised { register, ballot } => write!(f, "promised {register} b={ballot}"),
            Self::Replica { record, .. } => write!(f, "replica {record}"),
            Self::Witnessed { peer, life } => {
                write!(f, "witnessed {peer} {:04x}", life.0 & 0xffff)
            }
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down { session } => write!(f, "down {session}"),
            Self::Link { peer, up } => write!(f, "link {peer} {}", if *up { "up" } else { "down" }),
            Self::Message { from, message } => write!(f, "from {from}: {message}"),
            Self::Persisted { ticket } => write!(f, "persisted {ticket}"),
            Self::Request(request) => {
                write!(f, "{}.{} {}", request.client, request.id, request.command)
            }
            Self::Timeout => write!(f, "timeout"),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demonitor { session } => write!(f, "demonitor {session}"),
            Self::Monitor { session, client } => write!(f, "monitor {session} of {client}"),
            Self::Notify { client, event } => write!(f, "notify {client} {event}"),
            Self::Persist { ticket, records } => {
                write!(f, "persist {ticket}:")?;
                for (place, record) in records.iter().enumerate() {
                    write!(f, "{} {record}", if place == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::Reply { client, request, outcome } => {
                write!(f, "reply {client}.{request} {outcome}")
            }
            Self::Send { to, message } => write!(f, "to {to}: {message}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { table, key, generation, ending } => {
                write!(f, "ended {table}/{key} @{generation} ")?;
                match ending {
                    Ending::Erased(binding) => write!(f, "erased({binding})"),
                    Ending::Removed => write!(f, "removed"),
                    Ending::Unseen => write!(f, "unseen"),
                }
            }
            Self::Merge(event) => write!(f, "{event}"),
            Self::QuorumLost { epoch } => write!(f, "quorum lost in {epoch}"),
            Self::QuorumReached { epoch } => write!(f, "quorum reached in {epoch}"),
            Self::Reachable { nodes, size } => write!(f, "reachable {nodes}/{size}"),
            Self::Readiness(readiness) => write!(f, "readiness: {readiness}"),
            Self::Role { table, role, reign, primary } => {
                write!(f, "{table}: {role} in {reign}")?;
                primary.map_or(Ok(()), |primary| write!(f, " of {primary}"))
            }
            Self::SessionSuspended(session) => write!(f, "session suspended {session}"),
            Self::SessionResumed(session) => write!(f, "session resumed {session}"),
            Self::SessionLost(session) => write!(f, "session lost {session}"),
        }
    }
}

impl fmt::Display for MergeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cleared { table, row } => write!(f, "conflict cleared {table}/{row}"),
            Self::Lost { table, row, value } => write!(f, "value lost {table}/{row}={value}"),
            Self::PeerBack(peer) => write!(f, "peer back {peer}"),
            Self::PeerLost(peer) => write!(f, "peer lost {peer}"),
            Self::Raised { table, row } => write!(f, "conflict raised {table}/{row}"),
            Self::Table { table, event } => write!(f, "{table}: {event}"),
        }
    }
}
