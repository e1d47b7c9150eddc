//! What clients ask of a primary table, and what they are told.
//!
//! Must never know: replicas, messages, how an answer is found.

use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bincode::{Decode, Encode};

use super::log::Place;
use super::replica::{Lag, Role};
use super::roster::{Acknowledge, Roster};
use crate::base::{Incarnation, Key, NodeId, OpId, TableName, Value};

/// What a client can ask of a node that has a primary table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// To be read or written.
    Ask {
        /// What.
        command: Command,
        /// The latest place that the client has been shown ([`Ask::seen`]).
        seen: u64,
        /// By which id replicas are to know it, if it may be asked again under that id, at another
        /// node; else by that of the client's request. Only writes have one. `seen` is then a place
        /// from before it was asked first, so that it can be told whether it may be forgotten.
        op: Option<OpId>,
        /// Whether this node is to see to it: a write, or a read that only a primary answers, is
        /// passed on to the primary, whoever that is, and asked again for as long as the client
        /// waits. Else it is answered here, within a second.
        follow: bool,
    },
    /// An operator makes this node's replica the primary although it did not count, because whoever
    /// did has lost its disk. What they had and this one has not is lost.
    Force,
    /// An operator has the primary, which must be this node's replica, hand over: to this node, or
    /// to whoever has everything first.
    HandOver(Option<NodeId>),
    /// What this node's replica is, and how the others stand.
    Info,
    /// Have this node's replica join, or leave until it is told to join, also when the node starts
    /// again.
    Join(bool),
    /// The same as `Info`, but of a primary, which this node must be, and as soon as so many others
    /// have on disk what was acknowledged at this place, or its client waits no longer.
    Wait {
        /// Where the client has written; or before everything.
        place: Place,
        /// How many.
        replicas: u64,
    },
}

impl Call {
    /// Reads or writes here.
    #[must_use]
    pub const fn ask(command: Command) -> Self {
        Self::Ask { command, seen: 0, op: None, follow: false }
    }

    /// Whether it may change what the table holds.
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self {
            Self::Ask { command, .. } => command.writes(),
            Self::Force | Self::HandOver(_) | Self::Info | Self::Join(_) | Self::Wait { .. } => {
                false
            }
        }
    }
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Of a write: everybody whose acknowledgement the table asks for has it on disk.
    Committed {
        /// Where. What the client has seen from now on.
        place: Place,
        /// Whether there was a value before it.
        existed: bool,
    },
    /// Of `force` and `hand_over`: another reign has begun. Of `join`: this node knows.
    Done,
    /// Of `get`.
    Found {
        /// What the key had.
        value: Option<Value>,
        /// As of where. What the client has seen from now on.
        place: Place,
    },
    /// Of `info` and `wait`.
    Info(Info),
    /// Of `scan`.
    Rows {
        /// In order of keys.
        rows: Vec<(Key, Value)>,
        /// Whether there may be more behind them.
        more: bool,
        /// As of where. What the client has seen from now on.
        place: Place,
    },
}

/// What a node knows of a primary table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Info {
    /// What its replica is.
    pub role: Role,
    /// Whether its replica wants to be one.
    pub wanted: bool,
    /// What the arbiter said last.
    pub roster: Option<Roster>,
    /// Up to where it knows the table to be committed.
    pub committed: Place,
    /// Where its log ends.
    pub last: Place,
    /// How many keys have a value.
    pub rows: u64,
    /// Requests that wait here for their answers.
    pub waiting: u64,
    /// How the others stand; nothing unless it is primary.
    pub lags: Vec<Lag>,
}

impl Info {
    /// How many others are known to have on disk what was acknowledged at this place. Only a
    /// primary knows any.
    #[must_use]
    pub fn holders(&self, place: Place) -> u64 {
        let Some(roster) = &self.roster else { return 0 };
        // What a primary alone has acknowledged, its successor may lack, and have something else.
        let kept = place.reign == roster.reign
            || place == Place::ZERO
            || roster.acknowledge != Acknowledge::Primary;
        let has = |lag: &&Lag| self.last.index.saturating_sub(lag.behind) >= place.index;
        if kept { self.lags.iter().filter(has).count() as u64 } else { 0 }
    }
}

/// A replica's word on its way between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Envelope {
    /// Of which table.
    pub table: TableName,
    /// To the replica with this disk.
    pub to: crate::base::Life,
    /// What it says.
    pub message: super::message::Message,
}

/// A request that a node passes on to the primary, or what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Passed {
    /// Of which table.
    pub table: TableName,
    /// Tells it from all others of the node that passes it on.
    pub attempt: Attempt,
    /// Which.
    pub content: Passing,
}

/// In which process life a request is passed on, and the how manieth it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Attempt {
    /// The process life.
    pub incarnation: Incarnation,
    /// The number.
    pub number: u64,
}

/// One or the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Passing {
    /// What came of it.
    Answer(Outcome),
    /// The request. It may come again.
    Ask(Ask),
}

/// One thing asked of a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Ask {
    /// Who asks, by which number: ids of different clients never collide. One request is
    /// answered once for each time that it is asked after its answer, and done at most once.
    pub op: OpId,
    /// The latest place that the client has been shown: it is never shown an earlier state. Of a
    /// request that is asked again, the one from before it was asked first.
    pub seen: u64,
    /// Whether it may have been asked before, here or elsewhere.
    pub again: bool,
    /// How long its client waits, if that is less than the table allows.
    pub within: Duration,
    /// What is asked.
    pub command: Command,
}

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Command {
    /// Read a key.
    Get(Key, ReadLevel),
    /// Set a key's value, whatever it was.
    Put(Key, Value),
    /// Remove a key, also one that is not there.
    Remove(Key),
    /// Say what became of an earlier write with this very id, and if nothing has, see to it that
    /// nothing will.
    Resolve,
    /// Read what is committed, in order of keys, a page at a time.
    Scan {
        /// Begin behind this key.
        after: Option<Key>,
        /// How many rows at most.
        limit: u32,
    },
}

impl Command {
    /// Whether it may change what the table holds.
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self {
            Self::Put(..) | Self::Remove(_) | Self::Resolve => true,
            Self::Get(..) | Self::Scan { .. } => false,
        }
    }
}

/// Which state a read may show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ReadLevel {
    /// What this replica knows to be committed, not before what the client has seen. Any replica
    /// answers.
    #[default]
    Committed,
    /// The latest that this replica has heard of, which may never be committed.
    Dirty,
    /// What is committed at a moment of the call. Only a primary answers, once it has proved that
    /// it still is.
    Linearizable,
}

/// The one answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Outcome {
    /// Of a write: everybody whose acknowledgement the table asks for has it on disk.
    Committed {
        /// Where. What the client has seen from now on.
        place: Place,
        /// Whether there was a value before it.
        existed: bool,
    },
    /// Of a read.
    Found {
        /// What the key had.
        value: Option<Value>,
        /// As of where. What the client has seen from now on.
        place: Place,
    },
    /// This attempt has had no effect and will have none.
    Rejected(Refusal),
    /// Of a scan.
    Rows {
        /// In order of keys.
        rows: Vec<(Key, Value)>,
        /// Whether there may be more behind them.
        more: bool,
        /// As of where. What the client has seen from now on.
        place: Place,
    },
    /// Of a write: not confirmed in time. It may have been done, may yet be, or may never be;
    /// `Resolve` tells.
    Unknown,
}

/// Why something was not done. Of a request that is asked again it speaks of this attempt alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Refusal {
    /// There is more to do than may wait here. Come back after about this time.
    Busy(Duration),
    /// A replica that counts may still have its disk: it is this node's.
    NotGone(NodeId),
    /// What the client has seen elsewhere has not come here in time, or a primary could not prove
    /// that it still is one.
    NotInTime,
    /// Only the primary does this. It is this node, if that is known.
    NotPrimary(Option<NodeId>),
    /// This node holds no copy of the table now. The primary is this node, if that is known.
    NotReplica(Option<NodeId>),
    /// This replica has not learned in time what it is to be.
    NotReady,
    /// Nobody else counts who could take over, or not that one.
    NoSuccessor,
    /// Its client has had it resolved before it was done.
    Resolved,
    /// Key and value are longer than the table takes.
    TooLarge,
}

impl Refusal {
    /// Whether asking again, here or elsewhere, changes nothing.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Resolved | Self::TooLarge => true,
            Self::Busy(_)
            | Self::NotGone(_)
            | Self::NotInTime
            | Self::NotPrimary(_)
            | Self::NotReady
            | Self::NotReplica(_)
            | Self::NoSuccessor => false,
        }
    }

    /// Whom to ask instead.
    #[must_use]
    pub const fn hint(&self) -> Option<NodeId> {
        match self {
            Self::NotPrimary(primary) | Self::NotReplica(primary) => *primary,
            Self::Busy(_)
            | Self::NotGone(_)
            | Self::NotInTime
            | Self::NotReady
            | Self::NoSuccessor
            | Self::Resolved
            | Self::TooLarge => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |f: &mut fmt::Formatter<'_>, primary: &Option<NodeId>| match primary {
            None => f.write_str("; the primary is not known"),
            Some(node) => write!(f, "; the primary is {node}"),
        };
        match self {
            Self::Busy(after) => write!(f, "busy; try again after {} ms", after.as_millis()),
            Self::NotGone(node) => {
                write!(f, "{node} is in sync and not known to be gone: it can take over")
            }
            Self::NoSuccessor => f.write_str("no such replica is in sync and well"),
            Self::NotInTime => f.write_str("not confirmed in time; ask again, or another replica"),
            Self::NotPrimary(primary) => {
                f.write_str("not the primary")?;
                at(f, primary)
            }
            Self::NotReplica(primary) => {
                f.write_str("no copy of the table here")?;
                at(f, primary)
            }
            Self::NotReady => f.write_str("the arbiter has not said in time what this replica is"),
            Self::Resolved => f.write_str("resolved as not done before it arrived"),
            Self::TooLarge => f.write_str("key and value are too long for this table"),
        }
    }
}

impl Passed {
    /// Whether it may change what the table holds.
    #[must_use]
    pub const fn writes(&self) -> bool {
        match &self.content {
            Passing::Answer(_) => false,
            Passing::Ask(ask) => ask.command.writes(),
        }
    }
}

impl fmt::Display for ReadLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Committed => "committed",
            Self::Dirty => "dirty",
            Self::Linearizable => "linearizable",
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(key, level) => write!(f, "get {key} {level}"),
            Self::Put(key, value) => write!(f, "put {key} {value}"),
            Self::Remove(key) => write!(f, "remove {key}"),
            Self::Resolve => f.write_str("resolve"),
            Self::Scan { after, limit } => {
                f.write_str("scan")?;
                after.as_ref().map_or(Ok(()), |after| write!(f, " after {after}"))?;
                write!(f, " limit {limit}")
            }
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask { command, seen, op, follow } => {
                write!(f, "{command} seen {seen}")?;
                op.as_ref().map_or(Ok(()), |op| write!(f, " as {op}"))?;
                f.write_str(if *follow { " (follow)" } else { "" })
            }
            Self::Force => f.write_str("force"),
            Self::HandOver(None) => f.write_str("hand_over"),
            Self::HandOver(Some(to)) => write!(f, "hand_over to {to}"),
            Self::Info => f.write_str("info"),
            Self::Join(true) => f.write_str("join"),
            Self::Join(false) => f.write_str("leave"),
            Self::Wait { place, replicas } => write!(f, "wait for {replicas} to have {place}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed { place, existed } => {
                Answer::Committed { place: *place, existed: *existed }.fmt(f)
            }
            Self::Found { value, place } => write_found(f, value.as_ref(), *place),
            Self::Rejected(refusal) => write!(f, "rejected: {refusal}"),
            Self::Rows { rows, more, place } => write_rows(f, rows, *more, *place),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed { place, existed } => {
                write!(f, "committed {place}{}", if *existed { " over a value" } else { "" })
            }
            Self::Done => f.write_str("done"),
            Self::Found { value, place } => write_found(f, value.as_ref(), *place),
            Self::Info(info) => write!(f, "{info}"),
            Self::Rows { rows, more, place } => write_rows(f, rows, *more, *place),
        }
    }
}

fn write_found(f: &mut fmt::Formatter<'_>, value: Option<&Value>, place: Place) -> fmt::Result {
    match value {
        Some(value) => write!(f, "{value} as of {place}"),
        None => write!(f, "absent as of {place}"),
    }
}

fn write_rows(
    f: &mut fmt::Formatter<'_>,
    rows: &[(Key, Value)],
    more: bool,
    place: Place,
) -> fmt::Result {
    f.write_str("rows")?;
    rows.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))?;
    write!(f, "{} as of {place}", if more { " …" } else { "" })
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} committed {} last {} rows {}",
            self.role, self.committed, self.last, self.rows
        )?;
        self.roster.as_ref().map_or(Ok(()), |roster| write!(f, ", {roster}"))
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Passing::Answer(outcome) => write!(f, "Answered {} {outcome}", self.attempt),
            Passing::Ask(ask) => write!(f, "Passed {} {} {}", self.attempt, ask.op, ask.command),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.incarnation, self.number)
    }
}
