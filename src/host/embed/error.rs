//! What can become of a call that did not succeed. The two kinds never mix.
//!
//! Must never know: how calls are made.

use std::fmt;

use super::codec::Unreadable;
use crate::consensus::{Outcome, Refusal};
use crate::host::Stopped;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It took no effect and never will.
    Rejected(Rejection),
    /// It may have taken effect, may still, or may never. Read after [`super::Table::fence`] to
    /// find out.
    Unknown,
}

/// Why a call took no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The cluster says no.
    Refused(Refusal),
    /// The node has stopped.
    Stopped,
    /// What is there, or what was to be put, does not fit the table's types.
    Unreadable(Unreadable),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => write!(f, "{rejection}"),
            Self::Unknown => f.write_str("unknown: it may have taken effect, or may yet"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::Stopped => write!(f, "{Stopped}"),
            Self::Unreadable(unreadable) => write!(f, "{unreadable}"),
        }
    }
}

impl std::error::Error for Error {}
impl std::error::Error for Rejection {}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        Self::Rejected(Rejection::Stopped)
    }
}

impl From<Unreadable> for Error {
    fn from(unreadable: Unreadable) -> Self {
        Self::Rejected(Rejection::Unreadable(unreadable))
    }
}

impl Error {
    /// Of an outcome that is not among those that the command has.
    pub(super) fn from_outcome(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Refused(refusal) => Self::Rejected(Rejection::Refused(refusal)),
            // Nothing definite is said of what was not expected.
            Outcome::Chosen { .. }
            | Outcome::Done
            | Outcome::Found { .. }
            | Outcome::Keys { .. }
            | Outcome::Merged(_)
            | Outcome::Primary(_)
            | Outcome::Mismatch { .. }
            | Outcome::Removed { .. }
            | Outcome::Session(_)
            | Outcome::Status(_)
            | Outcome::Unknown
            | Outcome::Written { .. } => Self::Unknown,
        }
    }
}

/// The cluster was not configured with such a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchTable {
    /// The name asked for.
    pub name: String,
}

impl fmt::Display for NoSuchTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no table is named {:?}; name it to the builder, on every node, or make it",
            self.name
        )
    }
}

impl std::error::Error for NoSuchTable {}
