//! What clients ask, and what they may believe of the answers.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::base::{ClientId, Epoch, Key, NodeId, RequestId, SessionId, TableId, Value};
use crate::merged;
use crate::monitor::{Bind, Binding};
use crate::paxos::Ballot;
use crate::primary;

/// A client's numbered ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Who asks.
    pub client: ClientId,
    /// Its number for this; a repeat of the same number is the same operation.
    pub id: RequestId,
    /// Whether another node may have worked on it before.
    pub sent: Sent,
    /// How long the client will wait; then the answer is definite if it can be, else `Unknown`.
    pub patience: Duration,
    /// What to do while no quorum is in sight.
    pub on_no_quorum: OnNoQuorum,
    /// What is asked.
    pub command: Command,
}

/// Whether this is the first time that any node is given the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// It may have been given to a node before, which has answered `Unknown` or has crashed. Takes
    /// effect once at most all the same; where that cannot be told, the answer is `Unknown`.
    Again,
    /// No node has been given it.
    First,
}

/// P-07, P-08.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnNoQuorum {
    /// Keep trying for as long as the client is patient.
    Retry,
    /// Refuse at once.
    #[default]
    Return,
}

impl OnNoQuorum {
    /// Whether a caller who wants this has no more use for the operation.
    pub(crate) const fn gives_up(self, has_quorum: bool) -> bool {
        matches!(self, Self::Return) && !has_quorum
    }
}

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// End the client's own session, at the node that hosts it; what is bound to it is erased.
    CloseSession(SessionId),
    /// Put if the entry is as expected.
    CompareAndSet {
        /// Which table.
        table: TableId,
        /// Which key.
        key: Key,
        /// What must be there.
        expect: Expect,
        /// What to put.
        value: Value,
        /// What the entry's life is to depend on, replacing what it depended on.
        bindings: Vec<Bind>,
    },
    /// Write what is there again, so that nothing still in flight can take effect later.
    Fence {
        /// Which table.
        table: TableId,
        /// Which key.
        key: Key,
    },
    /// Read.
    Get {
        /// Which table.
        table: TableId,
        /// Which key.
        key: Key,
        /// How fresh.
        level: ReadLevel,
    },
    /// List keys in order, a page at a time. Not a snapshot: a key live during the whole call is
    /// listed, one dead during the whole call is not (P-23).
    Keys {
        /// Which table.
        table: TableId,
        /// Start behind this key.
        after: Option<Key>,
        /// How many at most, at least one; bounded by [`crate::Limits::page_max`].
        limit: u32,
    },
    /// Of a merged table.
    Merged {
        /// Which table.
        table: TableId,
        /// What.
        command: merged::Command,
    },
    /// Open a client session hosted by this node.
    OpenSession,
    /// Of a primary table.
    Primary {
        /// Which table.
        table: TableId,
        /// What.
        call: primary::Call,
    },
    /// Make a primary table, or learn of those that were made.
    PrimaryTable(primary::TableCommand),
    /// Overwrite, whatever is there.
    Put {
        /// Which table.
        table: TableId,
        /// Which key.
        key: Key,
        /// What to put.
        value: Value,
        /// What the entry's life is to depend on, replacing what it depended on.
        bindings: Vec<Bind>,
    },
    /// Put unless there is an entry; the answer is what is there afterwards (P-04, P-05).
    PutIfAbsent {
        /// Which table.
        table: TableId,
        /// Which key.
        key: Key,
        /// What to put.
        value: Value,
        /// What the entry's life is to depend on.
        bindings: Vec<Bind>,
    },
    /// Take the entry away (P-13).
    Remove {
        /// Which table.
        table: TableId,
        /// Which key.
        key: Key,
        /// Only that life of it, when given.
        generation: Option<Ballot>,
    },
    /// What this node knows of itself and its cluster (P-24).
    Status,
    /// Be told of events, until [`Command::Unsubscribe`].
    Subscribe(Topic),
    /// Make or change a merged table, or drop a table of either kind.
    Table(merged::TableCommand),
    /// Be told no more.
    Unsubscribe(Topic),
}

/// What events are about (P-25).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// The end of each life of one key.
    Key(TableId, Key),
    /// Merged tables: peers lost and back, merges, conflicts and disagreements.
    Merges,
    /// Quorum reached and lost, nodes reachable, this node's own standing.
    Quorum,
    /// Primary tables: what this node's replicas are, and who is primary.
    Roles,
}

/// What a compare-and-set compares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expect {
    /// No entry.
    Absent,
    /// An entry with this value.
    Value(Value),
    /// The entry last changed at this ballot.
    Version(Ballot),
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadLevel {
    /// As fresh as any answer given before it was asked.
    #[default]
    Linearizable,
    /// What this node knows to be chosen: sends nothing, changes nothing, may be stale (P-11).
    Local,
}

/// An entry as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// What was put.
    pub value: Value,
    /// Which life of the key: a fencing token, higher for later lives.
    pub generation: Ballot,
    /// The last change.
    pub version: Ballot,
    /// What its life depends on (P-17).
    pub bindings: Vec<Binding>,
}

/// What a write replaced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Previous {
    /// This.
    Known(Option<Entry>),
    /// It took effect in an attempt whose circumstances this node did not see.
    Unknown,
}

/// The answer to a request: exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Of `put_if_absent`: the entry that is there, and whether this request put it.
    Chosen {
        /// What is there.
        entry: Entry,
        /// Whether it is ours.
        won: bool,
    },
    /// Done; there is nothing to tell.
    Done,
    /// Of `get` and `fence`: the entry or its absence, and the last change.
    Found {
        /// What is there.
        entry: Option<Entry>,
        /// The last change of the register, also where nothing is there.
        version: Ballot,
    },
    /// Of `keys`, ascending.
    Keys {
        /// The keys.
        keys: Vec<Key>,
        /// Whether there may be more behind the last one considered, which is this.
        more: Option<Key>,
    },
    /// Of a merged table.
    Merged(merged::Answer),
    /// Of `compare_and_set` and of `remove` of one generation: it is not as expected; nothing was
    /// or will be changed.
    Mismatch {
        /// What is there.
        entry: Option<Entry>,
        /// The last change.
        version: Ballot,
    },
    /// Of a primary table.
    Primary(primary::Answer),
    /// It did not and will not take effect.
    Refused(Refusal),
    /// Of `remove`: gone, and whether there was something to remove.
    Removed {
        /// What was there.
        previous: Previous,
        /// The change, or the last one before where there was nothing to remove.
        version: Ballot,
    },
    /// Of `open_session`.
    Session(SessionId),
    /// Of `status`.
    Status(Status),
    /// It may have taken effect, may still, or may never: read after a `fence` to find out, or
    /// send the same request [`Sent::Again`].
    Unknown,
    /// Of `put` and `compare_and_set`; and of a `put_if_absent` sent again that turns out to have
    /// won and to be overwritten since, so that what its entry was bound to is not known any more.
    Written {
        /// Which life of the key it belongs to; not known where the change was found to have taken
        /// effect only after that life had ended.
        generation: Option<Ballot>,
        /// The change.
        version: Ballot,
        /// What it replaced.
        previous: Previous,
    },
}

/// A "no" that changed nothing, and never will.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Too many requests are in flight here; send it again later.
    Busy,
    /// A binding's target had ended at an instant of the call, or cannot be bound to. The key is
    /// as if it had not been asked (P-09).
    InvalidBinding(Bind),
    /// The key, value, page or list of bindings is longer than the limit.
    LimitExceeded {
        /// What is too long.
        what: &'static str,
        /// How long.
        len: usize,
        /// The most allowed.
        max: usize,
    },
    /// A command of consensus tables to a merged one, or the other way round.
    Discipline(TableId),
    /// No quorum was reached, and no acceptor was asked to change anything.
    NoQuorum,
    /// The node keeps no copy of this merged table and none that does was reached; or what it was
    /// to show was not durable in time.
    NoReplica(TableId),
    /// The session is not hosted by this node, is another client's, or has ended.
    NoSuchSession(SessionId),
    /// The table is not in the configuration (P-22).
    NoSuchTable(TableId),
    /// The node does not vote, so it does not answer for the cluster (P-32, P-33).
    NotReady(Readiness),
    /// Of a primary table. Of a request that is asked again it speaks of this attempt alone.
    Primary(primary::Refusal),
    /// It does not fit the merged table.
    Unfit(merged::Unfit),
    /// The table was not made, changed or dropped.
    Unmade(merged::Unmade),
    /// The table is write-once: what is chosen stays.
    WriteOnce(TableId),
}

/// Whether a node takes part, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Readiness {
    /// It votes and serves.
    Ready,
    /// It has started and waits for its own storage.
    Starting,
    /// Its storage does not hold what peers know it held, so it must not vote: a promise it forgot
    /// could let a second value be chosen. It stays out until its seat is given to its new storage.
    StateLost(String),
    /// It is new, and too few peers have taken note of its storage yet.
    Unwitnessed,
}

/// A node's view of itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// Which node this is.
    pub node: NodeId,
    /// The epoch in force.
    pub epoch: Epoch,
    /// The configured number of seats.
    pub cluster_size: u16,
    /// How many are a quorum.
    pub quorum_size: u32,
    /// Members heard, and known to hear this node; itself included.
    pub reachable: Vec<NodeId>,
    /// Whether those are a quorum.
    pub has_quorum: bool,
    /// Whether this node takes part.
    pub readiness: Readiness,
    /// This node's own session, while it is open.
    pub node_session: Option<u64>,
    /// Client sessions hosted here.
    pub sessions: usize,
    /// Requests in flight here.
    pub requests: usize,
    /// Registers kept here, live or dead.
    pub registers: usize,
}

impl Outcome {
    /// Whether the request surely took no effect and never will; or, refused for a binding, had its
    /// entry erased again before this answer.
    #[must_use]
    pub const fn is_rejected(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Mismatch { .. })
    }

    /// The entry that the answer shows, if it shows one.
    #[must_use]
    pub const fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Chosen { entry, .. } => Some(entry),
            Self::Found { entry, .. } | Self::Mismatch { entry, .. } => entry.as_ref(),
            Self::Done
            | Self::Keys { .. }
            | Self::Merged(_)
            | Self::Primary(_)
            | Self::Refused(_)
            | Self::Removed { .. }
            | Self::Session(_)
            | Self::Status(_)
            | Self::Unknown
            | Self::Written { .. } => None,
        }
    }
}

impl Command {
    /// Whether carrying it out may make records as large as what it holds.
    #[must_use]
    pub const fn may_persist(&self) -> bool {
        match self {
            Self::CompareAndSet { .. }
            | Self::Fence { .. }
            | Self::Put { .. }
            | Self::PutIfAbsent { .. }
            | Self::Remove { .. } => true,
            Self::Merged { command, .. } => command.changes(),
            Self::Table(_) => true,
            Self::Primary { call, .. } => call.writes(),
            Self::PrimaryTable(command) => command.changes(),
            Self::CloseSession(_)
            | Self::Get { .. }
            | Self::Keys { .. }
            | Self::OpenSession
            | Self::Status
            | Self::Subscribe(_)
            | Self::Unsubscribe(_) => false,
        }
    }

    /// The register asked about, for commands that are about one.
    #[must_use]
    pub const fn address(&self) -> Option<(TableId, &Key)> {
        match self {
            Self::CompareAndSet { table, key, .. }
            | Self::Fence { table, key }
            | Self::Get { table, key, .. }
            | Self::Put { table, key, .. }
            | Self::PutIfAbsent { table, key, .. }
            | Self::Remove { table, key, .. } => Some((*table, key)),
            Self::CloseSession(_)
            | Self::Keys { .. }
            | Self::Merged { .. }
            | Self::OpenSession
            | Self::Primary { .. }
            | Self::PrimaryTable(_)
            | Self::Status
            | Self::Subscribe(_)
            | Self::Table(_)
            | Self::Unsubscribe(_) => None,
        }
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    items.iter().try_for_each(|item| write!(f, " [{item}]"))
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CloseSession(session) => write!(f, "close_session {session}"),
            Self::CompareAndSet { table, key, expect, value, bindings } => {
                write!(f, "compare_and_set {table}/{key} {expect} -> {value}")?;
                list(f, bindings)
            }
            Self::Fence { table, key } => write!(f, "fence {table}/{key}"),
            Self::Get { table, key, level } => match level {
                ReadLevel::Linearizable => write!(f, "get {table}/{key}"),
                ReadLevel::Local => write!(f, "get_local {table}/{key}"),
            },
            Self::Keys { table, after, limit } => {
                write!(f, "keys {table}")?;
                if let Some(after) = after {
                    write!(f, " after {after}")?;
                }
                write!(f, " limit {limit}")
            }
            Self::Merged { table, command } => write!(f, "{table}: {command}"),
            Self::OpenSession => write!(f, "open_session"),
            Self::Primary { table, call } => write!(f, "{table}: {call}"),
            Self::PrimaryTable(command) => write!(f, "{command}"),
            Self::Put { table, key, value, bindings } => {
                write!(f, "put {table}/{key} {value}")?;
                list(f, bindings)
            }
            Self::PutIfAbsent { table, key, value, bindings } => {
                write!(f, "put_if_absent {table}/{key} {value}")?;
                list(f, bindings)
            }
            Self::Remove { table, key, generation } => {
                write!(f, "remove {table}/{key}")?;
                generation.map_or(Ok(()), |generation| write!(f, " @{generation}"))
            }
            Self::Status => write!(f, "status"),
            Self::Subscribe(topic) => write!(f, "subscribe {topic}"),
            Self::Table(command) => write!(f, "{command}"),
            Self::Unsubscribe(topic) => write!(f, "unsubscribe {topic}"),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(table, key) => write!(f, "{table}/{key}"),
            Self::Merges => write!(f, "merges"),
            Self::Quorum => write!(f, "quorum"),
            Self::Roles => write!(f, "roles"),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "absent"),
            Self::Value(value) => write!(f, "{value}"),
            Self::Version(version) => write!(f, "@{version}"),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} @{}", self.value, self.generation)?;
        list(f, &self.bindings)
    }
}

fn entry_or_absent(f: &mut fmt::Formatter<'_>, entry: Option<&Entry>) -> fmt::Result {
    match entry {
        Some(entry) => write!(f, "{entry}"),
        None => f.write_str("absent"),
    }
}

impl fmt::Display for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(entry) => entry_or_absent(f, entry.as_ref()),
            Self::Unknown => write!(f, "?"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen { entry, won } => {
                write!(f, "chosen {entry}{}", if *won { " (won)" } else { "" })
            }
            Self::Done => write!(f, "done"),
            Self::Found { entry, .. } => entry_or_absent(f, entry.as_ref()),
            Self::Keys { keys, more } => {
                write!(f, "keys")?;
                keys.iter().try_for_each(|key| write!(f, " {key}"))?;
                more.as_ref().map_or(Ok(()), |_| write!(f, " …"))
            }
            Self::Merged(answer) => write!(f, "{answer}"),
            Self::Mismatch { entry, .. } => {
                write!(f, "mismatch ")?;
                entry_or_absent(f, entry.as_ref())
            }
            Self::Primary(answer) => write!(f, "{answer}"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
            Self::Removed { previous, .. } => write!(f, "removed {previous}"),
            Self::Session(session) => write!(f, "session {session}"),
            Self::Status(status) => write!(
                f,
                "status {} of {} reachable, quorum {}",
                status.reachable.len(),
                status.cluster_size,
                if status.has_quorum { "yes" } else { "no" }
            ),
            Self::Unknown => write!(f, "unknown"),
            Self::Written { version, previous, .. } => {
                write!(f, "written @{version} over {previous}")
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => write!(f, "busy: too many requests in flight; send it again later"),
            Self::InvalidBinding(bind) => write!(f, "invalid binding: {bind} has ended"),
            Self::LimitExceeded { what, len, max } => {
                write!(f, "{what} of length {len} exceeds the limit of {max}")
            }
            Self::Discipline(table) => {
                write!(f, "table {table} is of another discipline: it has other commands")
            }
            Self::NoReplica(table) => {
                write!(f, "no copy of table {table} could be read in time")
            }
            Self::NoQuorum => write!(f, "no quorum: nothing was changed; safe to retry"),
            Self::NoSuchSession(session) => {
                write!(f, "no such session of this client here: {session}")
            }
            Self::NoSuchTable(table) => write!(f, "no such table: {table}"),
            Self::NotReady(readiness) => write!(f, "not ready: {readiness}"),
            Self::Primary(refusal) => write!(f, "{refusal}"),
            Self::Unfit(unfit) => write!(f, "{unfit}"),
            Self::Unmade(unmade) => write!(f, "{unmade}"),
            Self::WriteOnce(table) => write!(f, "table {table} is write-once"),
        }
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(f, "ready"),
            Self::Starting => write!(f, "starting"),
            Self::StateLost(why) => write!(f, "state lost: {why}"),
            Self::Unwitnessed => {
                write!(f, "first start: waits for nodes that its log names; start them")
            }
        }
    }
}

impl core::error::Error for Refusal {}
