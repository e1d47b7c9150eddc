//! What clients ask of a merged table, and what they are told.
//!
//! Must never know: who asks, and where the copy is that answers.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use bincode::{Decode, Encode};

use super::exchange::{Event, Rewound};
use super::schema::{Agreement, Durability};
use super::table::{Mutation, Row};
use super::version::{Dot, Stamp, VersionVector};
use crate::base::{Incarnation, Key, NodeId, Value, Wall};

/// How many writes one batch may hold, and how many guards.
pub const BATCH_MAX: usize = 1 << 16;

/// What a client can ask. A copy answers from what it holds (C8: before or after any step of a
/// merge, never in between).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Command {
    /// List the rows in conflict, in order.
    Conflicts {
        /// Start behind this row.
        after: Option<Row>,
        /// How many at most, at least one; bounded by [`crate::Limits::page_max`].
        limit: u32,
    },
    /// Read a key.
    Get(Key),
    /// What the copy is, and how it stands with the others (L-20, M-02).
    Info,
    /// Where the strategy is to leave copies apart that were both written to: merge them.
    Merge {
        /// What stays where values collide; nothing leaves them in conflict.
        keep: Option<Keep>,
    },
    /// End a conflict with an answer to exactly these versions; `None` removes the row.
    Resolve {
        /// Which row.
        row: Row,
        /// All versions that it held when the answer was found, as [`Entry::dots`] said.
        dots: Vec<Dot>,
        /// The answer.
        value: Option<Value>,
    },
    /// List what fits, in the order of keys, a page at a time. Each page is one moment of the copy.
    Scan {
        /// What to list.
        pattern: Pattern,
        /// Start behind this row.
        after: Option<Row>,
        /// How many at most, at least one; bounded by [`crate::Limits::page_max`].
        limit: u32,
    },
    /// Do all of it in one step, or nothing (L-08).
    Write {
        /// What to do, in order; of several writes to one row the last counts.
        mutations: Vec<Mutation>,
        /// What must still be so.
        guards: Vec<Guard>,
    },
}

/// Whose values stay when copies that were apart are told to merge (U-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Keep {
    /// Those of the side that is told.
    Here,
    /// Those of the other.
    There,
}

/// What a key must show for a write to be done: so that what was read, changed and written back is
/// not written over something else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Guard {
    /// Which key.
    pub key: Key,
    /// Exactly these versions, in any order; none, if it must show nothing.
    pub shows: Vec<Dot>,
}

/// Which rows a scan lists. A type of its own: no key and no value means anything special (L-14).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Pattern {
    /// Of which keys.
    pub key: Match,
    /// Of which values: one that the row shows has to fit.
    pub value: Match,
}

/// Which bytes fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Match {
    /// All.
    #[default]
    Any,
    /// These.
    Exactly(Vec<u8>),
    /// Those that begin with these.
    Prefix(Vec<u8>),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Answer {
    /// Of a write whose guards do not hold, and of an answer to a conflict that is another by now:
    /// nothing was changed.
    Changed,
    /// Of reads.
    Found {
        /// Rows that show something, in order.
        entries: Vec<Entry>,
        /// Whether there may be more behind the last row considered, which is this.
        more: Option<Row>,
    },
    /// Of `info`.
    Info(Info),
    /// Of writes. It is durable, if the table is.
    Written {
        /// What the rows that it changed had shown before; those that had shown nothing are left
        /// out, so nothing is left if all was new (L-08, L-10).
        previous: Vec<Entry>,
        /// Whether that is all of it. Answered by another node, it is as much as a message holds.
        complete: bool,
    },
}

/// Why something asked was not done. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Unfit {
    /// A value lacks a field that every value of the table must have.
    NoField {
        /// Whose value.
        key: Key,
    },
    /// The node that it was passed on to refuses it, and so does every other that was reached.
    Elsewhere {
        /// Which node, of several the last.
        node: NodeId,
        /// What it says.
        why: String,
    },
    /// The table is not one whose copies are left apart.
    NotManual,
    /// The copy is older than what it has told others, so its next write could be named as another
    /// one is: nothing is written until it has had all of its own back.
    Rewound,
}

/// What a row shows (L-21).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Entry {
    /// Which row.
    pub row: Row,
    /// One value; or several that are in conflict, the latest first.
    pub values: Vec<Shown>,
    /// All versions held of the row, also those that are not shown: what [`Command::Resolve`] has
    /// to name.
    pub dots: Vec<Dot>,
}

/// A value, and how it came to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Shown {
    /// The value.
    pub value: Value,
    /// Which write.
    pub dot: Dot,
    /// When it was written, as far as the writer's clock can be trusted.
    pub modified: Stamp,
}

/// What a copy is, and how it stands with the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Info {
    /// What the copies have to agree on.
    pub agreement: Agreement,
    /// By how much the clock here is ahead of most of the others', if by more than a minute. An
    /// alarm is up while it is.
    pub clock_ahead: Option<Duration>,
    /// Whether the copy outlives the process.
    pub durability: Durability,
    /// Which node's copy this is.
    pub node: NodeId,
    /// Whether it was found to be older than what it has told others, and if so, which of the two
    /// it is. An alarm is up while it is so, and clients' writes are refused.
    pub rewound: Option<Rewound>,
    /// Versions held, tombstones too.
    pub versions: u64,
    /// Tombstones that wait for others to have seen them.
    pub tombstones: u64,
    /// Rows in conflict: alarms that are up.
    pub conflicts: u64,
    /// Whether every other copy has been met since this one was begun, and this one then had all
    /// that it had. Of tables in memory the next node should not be restarted before.
    pub settled: bool,
    /// What it has seen.
    pub seen: VersionVector,
    /// What all copies have seen, as far as it knows.
    pub stable: VersionVector,
    /// The other replicas.
    pub peers: Vec<PeerInfo>,
    /// Its latest merges and disagreements since its process began, the oldest first, and when.
    pub history: Vec<(Wall, Event)>,
}

/// What a copy knows of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct PeerInfo {
    /// Whose copy.
    pub node: NodeId,
    /// Whether both agree on what the table is; nothing while it has not been heard. An alarm is
    /// up while they do not.
    pub agrees: Option<bool>,
    /// How many writes seen here it is not known to have seen.
    pub behind: u64,
    /// Whether what it has is being compared after it came back.
    pub merging: bool,
    /// Whether this copy has had, since it was begun, all that the peer had when it first counted
    /// this copy. A copy that is not settled waits for those of which that is not so.
    pub met: bool,
    /// Whether it has what does not come. An alarm is up while it is so.
    pub stalled: bool,
    /// Whether both copies were written to and are left apart. An alarm is up while they are.
    pub apart: bool,
}

/// A question to a node that keeps a copy from one that keeps none, and its answer (L-05).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Remote {
    /// Which table.
    pub table: super::TableName,
    /// Which process of the asker's asks.
    pub by: Incarnation,
    /// That one's number for it, which it uses once.
    pub number: u64,
    /// Question or answer.
    pub content: Content,
}

/// A question or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Content {
    /// What is asked, and of which process life: one that has ended may have done it already.
    Ask(Incarnation, Command),
    /// The answer.
    Answer(Result<Answer, Unfit>),
    /// It was not done, nor will be, whatever comes of it twice or late: another copy may do it.
    Declined(Declined),
}

/// Why a node does not do what it was asked for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Declined {
    /// Too many requests are in flight there.
    Busy,
    /// It keeps no copy of the table, or does not know it yet.
    NoCopy,
    /// Its configuration forbids it, and how.
    Refused(String),
}

impl Command {
    /// Whether it may change the table.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::Merge { .. } | Self::Resolve { .. } | Self::Write { .. } => true,
            Self::Conflicts { .. } | Self::Get(_) | Self::Info | Self::Scan { .. } => false,
        }
    }

    /// A write of one thing, whatever is there.
    #[must_use]
    pub fn write(mutation: Mutation) -> Self {
        Self::Write { mutations: alloc::vec![mutation], guards: Vec::new() }
    }
}

impl Match {
    /// Whether these bytes fit.
    #[must_use]
    pub fn fits(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(exactly) => bytes == exactly,
            Self::Prefix(prefix) => bytes.starts_with(prefix),
        }
    }

    /// The bytes that all that fits begins with.
    pub(crate) fn start(&self) -> &[u8] {
        match self {
            Self::Any => &[],
            Self::Exactly(bytes) | Self::Prefix(bytes) => bytes,
        }
    }
}

impl Entry {
    /// The writes that it shows.
    #[must_use]
    pub fn writes(&self) -> Vec<Dot> {
        self.values.iter().map(|shown| shown.dot).collect()
    }

    /// About how many bytes it takes on the wire.
    pub(crate) fn size(&self) -> usize {
        let element = self.row.element.as_ref().map_or(0, Value::len);
        let values = self.values.iter().map(|shown| shown.value.len() + 64);
        self.row.key.len() + element + values.sum::<usize>() + self.dots.len() * 24
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflicts { limit, .. } => write!(f, "conflicts limit {limit}"),
            Self::Get(key) => write!(f, "get {key}"),
            Self::Info => write!(f, "info"),
            Self::Merge { keep: None } => write!(f, "merge"),
            Self::Merge { keep: Some(Keep::Here) } => write!(f, "merge keeping these"),
            Self::Merge { keep: Some(Keep::There) } => write!(f, "merge keeping those"),
            Self::Resolve { row, value, .. } => match value {
                Some(value) => write!(f, "resolve {row} {value}"),
                None => write!(f, "resolve {row} by removal"),
            },
            Self::Scan { limit, .. } => write!(f, "scan limit {limit}"),
            Self::Write { mutations, guards } => {
                for (place, mutation) in mutations.iter().enumerate() {
                    write!(f, "{}{mutation}", if place == 0 { "" } else { ", " })?;
                }
                guards.iter().try_for_each(|guard| {
                    write!(f, " if {} shows", guard.key)?;
                    guard.shows.iter().try_for_each(|dot| write!(f, " {dot}"))
                })
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => write!(f, "changed meanwhile"),
            Self::Found { entries, more } => {
                write!(f, "found")?;
                entries.iter().try_for_each(|entry| write!(f, " {entry}"))?;
                more.as_ref().map_or(Ok(()), |_| write!(f, " …"))
            }
            Self::Info(info) => write!(
                f,
                "{}: {} versions, {} tombstones, {} conflicts",
                info.agreement, info.versions, info.tombstones, info.conflicts
            ),
            Self::Written { previous, complete } => {
                write!(f, "written over")?;
                previous.iter().try_for_each(|entry| write!(f, " {entry}"))?;
                if *complete { Ok(()) } else { write!(f, " and more") }
            }
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.row)?;
        for (place, shown) in self.values.iter().enumerate() {
            write!(f, "{}{}", if place == 0 { "" } else { "|" }, shown.value)?;
        }
        Ok(())
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoField { key } => write!(
                f,
                "the value of {key} lacks a field that every value of the table must have"
            ),
            Self::Elsewhere { node, why } => {
                write!(f, "{node}, which keeps a copy, refuses: {why}")
            }
            Self::NotManual => {
                write!(f, "the table is not 'manual': its copies merge without being told")
            }
            Self::Rewound => write!(
                f,
                "this node's copy is older than what it told others (its storage was put back to \
                 an earlier state): write at another node, and see 'synod merged' here"
            ),
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Ask(_, command) => write!(f, "Ask {command}"),
            Content::Answer(Ok(answer)) => write!(f, "Answer {answer}"),
            Content::Answer(Err(unfit)) => write!(f, "Answer {unfit}"),
            Content::Declined(Declined::Busy) => write!(f, "Declined busy"),
            Content::Declined(Declined::NoCopy) => write!(f, "Declined no copy"),
            Content::Declined(Declined::Refused(why)) => write!(f, "Declined {why}"),
        }
    }
}
