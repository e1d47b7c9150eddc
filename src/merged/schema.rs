//! What a merged table is told when it is made: what it holds, and what is to become of versions
//! that were written without knowledge of each other.
//!
//! Must never know: where versions come from.

use core::fmt;
use core::time::Duration;

use bincode::{Decode, Encode};

use super::field::Field;
use crate::base::Replicas;

/// A merged table's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    /// What a key holds. Default [`Kind::Set`].
    pub kind: Kind,
    /// What becomes of values written without knowledge of each other. Default
    /// [`Strategy::Siblings`].
    pub strategy: Strategy,
    /// What becomes of a value and a removal that did not know of each other. Default
    /// [`Contest::LaterWins`].
    pub contest: Contest,
    /// Who keeps a copy. Default [`Replicas::All`].
    pub replicas: Replicas,
    /// Whether copies outlive processes. Default [`Durability::Disk`].
    pub durability: Durability,
    /// For how long tombstones wait for a replica that is away; one that was away for longer takes
    /// a whole copy when it is back. Default one day.
    pub retention: Duration,
}

impl Default for Schema {
    fn default() -> Self {
        Self {
            kind: Kind::default(),
            strategy: Strategy::default(),
            contest: Contest::default(),
            replicas: Replicas::default(),
            durability: Durability::default(),
            retention: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// What a key holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Kind {
    /// Any number of elements, each there or not by itself. With a secondary field, elements of one
    /// key that agree in it are versions of one element (M-21); without, only equal ones are.
    Bag {
        /// Where an element's identity within its key is found.
        secondary: Option<Field>,
    },
    /// One value; scans are in the order of keys.
    OrderedSet,
    /// One value.
    #[default]
    Set,
}

/// What becomes of values written without knowledge of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Strategy {
    /// The host's resolver is asked. Until it has answered, and if it does not, as with siblings.
    Custom,
    /// The table is not exchanged at all: each replica is on its own (M-27).
    Ignore,
    /// The one stamped latest stays.
    LastModified,
    /// The one with the greatest field stays; of equal ones, the one stamped latest (M-18, M-19).
    LastVersion(Field),
    /// As with siblings; and copies that have both been written to while they could not hear each
    /// other stay apart until they are told to merge (U-01).
    Manual,
    /// All are kept and shown, and an alarm is up until somebody writes (M-15).
    #[default]
    Siblings,
    /// The one stays whose writer heard the most replicas of the table as it was written; of equal
    /// ones, the one stamped latest.
    LargestIsland,
    /// The one stays whose writer heard the oldest replica of the table as it was written, which is
    /// that of the lowest node; of those that heard the same one, the one stamped latest.
    OldestIsland,
}

/// What becomes of a value and a removal that did not know of each other (M-09).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Contest {
    /// The removal stays.
    DeleteWins,
    /// What is stamped later stays (M-05).
    #[default]
    LaterWins,
    /// The value stays.
    UpdateWins,
}

/// Whether copies outlive processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Durability {
    /// What is answered has been written down.
    #[default]
    Disk,
    /// Nothing is written; a node that starts again gets its copy from the others.
    Memory,
}

/// What replicas must agree on for their copies to be merged. Equal versions then look the same at
/// all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Agreement {
    /// What a key holds.
    pub kind: Kind,
    /// What becomes of concurrent values.
    pub strategy: Strategy,
    /// What becomes of a value and a concurrent removal.
    pub contest: Contest,
}

impl Schema {
    /// What the others must have likewise.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        let (kind, strategy) = (self.kind.clone(), self.strategy.clone());
        Agreement { kind, strategy, contest: self.contest }
    }
}

impl Agreement {
    /// The field that tells elements of a bag apart.
    const fn secondary(&self) -> Option<&Field> {
        match &self.kind {
            Kind::Bag { secondary } => secondary.as_ref(),
            Kind::OrderedSet | Kind::Set => None,
        }
    }

    /// The field that decides which value stays.
    pub(crate) const fn decisive(&self) -> Option<&Field> {
        match &self.strategy {
            Strategy::LastVersion(field) => Some(field),
            Strategy::Custom
            | Strategy::Ignore
            | Strategy::LargestIsland
            | Strategy::LastModified
            | Strategy::Manual
            | Strategy::OldestIsland
            | Strategy::Siblings => None,
        }
    }

    /// The fields that every value of the table must have.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.secondary().into_iter().chain(self.decisive())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bag { secondary: None } => write!(f, "bag"),
            Self::Bag { secondary: Some(field) } => write!(f, "bag by {field}"),
            Self::OrderedSet => write!(f, "ordered_set"),
            Self::Set => write!(f, "set"),
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom => write!(f, "custom"),
            Self::Ignore => write!(f, "ignore"),
            Self::LargestIsland => write!(f, "largest_island"),
            Self::LastModified => write!(f, "last_modified"),
            Self::LastVersion(field) => write!(f, "last_version by {field}"),
            Self::Manual => write!(f, "manual"),
            Self::OldestIsland => write!(f, "oldest_island"),
            Self::Siblings => write!(f, "siblings"),
        }
    }
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeleteWins => "delete_wins",
            Self::LaterWins => "later_wins",
            Self::UpdateWins => "update_wins",
        })
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "on disk",
            Self::Memory => "in memory",
        })
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.kind, self.strategy, self.contest)
    }
}
