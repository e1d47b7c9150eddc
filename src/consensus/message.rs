//! What proposers and acceptors of registers say to each other.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use bincode::{Decode, Encode};

use super::cell::Cell;
use crate::base::{Incarnation, Key, RegisterId, TableId, Wall};
use crate::paxos::Ballot;

/// Whom a reply is for: one operation of one process life. A reply to an earlier life, or to an
/// operation that has been answered, finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Tag {
    /// The asker's process life.
    pub incarnation: Incarnation,
    /// Its number for the operation.
    pub operation: u64,
    /// Which try of that operation.
    pub attempt: u32,
}

/// What an acceptor knows at first hand that no register holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Testimony {
    /// Its wall clock.
    pub wall: Wall,
    /// For a node's session register: for how many milliseconds that node has been silent here.
    pub silent: u64,
}

/// A message about one register, or a listing of a table's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Message {
    /// Phase 2a: accept this.
    Accept {
        /// Whom to answer.
        tag: Tag,
        /// Which register.
        register: RegisterId,
        /// At which ballot.
        ballot: Ballot,
        /// What.
        cell: Arc<Cell>,
    },
    /// Phase 2b: accepted, durably.
    Accepted {
        /// Whom this answers.
        tag: Tag,
        /// Which register.
        register: RegisterId,
        /// At which ballot.
        ballot: Ballot,
        /// Whether this acceptor has accepted that a binding of the content has ended.
        suspect: bool,
    },
    /// What was accepted at this ballot is chosen. Never needed for safety.
    Commit {
        /// Which register.
        register: RegisterId,
        /// At which ballot.
        ballot: Ballot,
    },
    /// List a page of a table.
    List {
        /// Whom to answer.
        tag: Tag,
        /// Which table.
        table: TableId,
        /// Start behind this key.
        after: Option<Key>,
        /// How many at most.
        limit: u32,
    },
    /// A page of a table as accepted here, durably.
    Listing {
        /// Whom this answers.
        tag: Tag,
        /// Ascending; dead ones too.
        items: Vec<Listed>,
        /// Whether there are more.
        more: bool,
    },
    /// Phase 1a.
    Prepare {
        /// Whom to answer.
        tag: Tag,
        /// Which register.
        register: RegisterId,
        /// The ballot.
        ballot: Ballot,
    },
    /// Phase 1b: promised, durably.
    Promise {
        /// Whom this answers.
        tag: Tag,
        /// Which register.
        register: RegisterId,
        /// The ballot promised.
        ballot: Ballot,
        /// The ballot of what is accepted here.
        accepted: Ballot,
        /// What is accepted here; `None` is dead since the floor.
        cell: Option<Arc<Cell>>,
        /// Whether that is known to be chosen.
        chosen: bool,
        /// Whether this acceptor has accepted that a binding of it has ended.
        suspect: bool,
        /// What else this acceptor knows.
        testimony: Testimony,
    },
    /// What is accepted? Changes nothing.
    Read {
        /// Whom to answer.
        tag: Tag,
        /// Which register.
        register: RegisterId,
    },
    /// What is accepted here, durably.
    ReadReply {
        /// Whom this answers.
        tag: Tag,
        /// Which register.
        register: RegisterId,
        /// The ballot of what is accepted here.
        accepted: Ballot,
        /// What is accepted here; `None` is dead since the floor.
        cell: Option<Arc<Cell>>,
        /// Whether that is known to be chosen.
        chosen: bool,
        /// Whether this acceptor has accepted that a binding of it has ended.
        suspect: bool,
        /// What else this acceptor knows.
        testimony: Testimony,
    },
    /// No: a higher ballot was promised. It carries no content.
    Reject {
        /// Whom this answers.
        tag: Tag,
        /// Which register.
        register: RegisterId,
        /// The ballot asked for.
        ballot: Ballot,
        /// The ballot promised.
        promised: Ballot,
    },
}

/// One register in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Listed {
    /// Its key.
    pub key: Key,
    /// The ballot of what is accepted.
    pub accepted: Ballot,
    /// Whether that is present rather than absent.
    pub live: bool,
    /// Whether that is known to be chosen.
    pub chosen: bool,
    /// Whether something it is bound to has or may have ended.
    pub suspect: bool,
}

impl Message {
    /// The register this is about; none for listings.
    #[must_use]
    pub const fn register(&self) -> Option<&RegisterId> {
        match self {
            Self::Accept { register, .. }
            | Self::Accepted { register, .. }
            | Self::Commit { register, .. }
            | Self::Prepare { register, .. }
            | Self::Promise { register, .. }
            | Self::Read { register, .. }
            | Self::ReadReply { register, .. }
            | Self::Reject { register, .. } => Some(register),
            Self::List { .. } | Self::Listing { .. } => None,
        }
    }
}

impl Message {
    /// The content carried and the ballot it is accepted at, if there is one.
    pub(crate) fn content(&self) -> Option<(Ballot, &Cell)> {
        match self {
            Self::Accept { ballot, cell, .. } => Some((*ballot, cell)),
            Self::Promise { accepted, cell, .. } | Self::ReadReply { accepted, cell, .. } => {
                Some((*accepted, cell.as_deref()?))
            }
            Self::Accepted { .. }
            | Self::Commit { .. }
            | Self::List { .. }
            | Self::Listing { .. }
            | Self::Prepare { .. }
            | Self::Read { .. }
            | Self::Reject { .. } => None,
        }
    }
}

struct Cells<'a>(&'a Option<Arc<Cell>>);

impl fmt::Display for Cells<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(cell) => write!(f, "{cell}"),
            None => f.write_str("-"),
        }
    }
}

const fn flag(set: bool, name: &'static str) -> &'static str {
    if set { name } else { "" }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept { register, ballot, cell, .. } => {
                write!(f, "Accept {register} b={ballot} {cell}")
            }
            Self::Accepted { register, ballot, suspect, .. } => {
                write!(f, "Accepted {register} b={ballot}{}", flag(*suspect, " suspect"))
            }
            Self::Commit { register, ballot } => write!(f, "Commit {register} b={ballot}"),
            Self::List { table, after, limit, .. } => {
                write!(f, "List {table} limit={limit}")?;
                after.as_ref().map_or(Ok(()), |after| write!(f, " after={after}"))
            }
            Self::Listing { items, more, .. } => {
                write!(f, "Listing")?;
                for item in items {
                    let sign = if item.live { "+" } else { "-" };
                    write!(f, " {sign}{}@{}", item.key, item.accepted)?;
                }
                f.write_str(flag(*more, " …"))
            }
            Self::Prepare { register, ballot, .. } => write!(f, "Prepare {register} b={ballot}"),
            Self::Promise { register, ballot, accepted, cell, chosen, suspect, .. } => write!(
                f,
                "Promise {register} b={ballot} accepted=({accepted} {}){}{}",
                Cells(cell),
                flag(*chosen, " chosen"),
                flag(*suspect, " suspect")
            ),
            Self::Read { register, .. } => write!(f, "Read {register}"),
            Self::ReadReply { register, accepted, cell, chosen, suspect, .. } => write!(
                f,
                "ReadReply {register} accepted=({accepted} {}){}{}",
                Cells(cell),
                flag(*chosen, " chosen"),
                flag(*suspect, " suspect")
            ),
            Self::Reject { register, ballot, promised, .. } => {
                write!(f, "Reject {register} b={ballot} promised={promised}")
            }
        }
    }
}
