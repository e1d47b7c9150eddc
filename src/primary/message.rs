//! What replicas of a table say to each other.
//!
//! Every message names the reign that its sender is in. What is said of a log holds for as long as
//! that reign, so messages may be lost, doubled, late and out of order.
//!
//! Must never know: what is done about them.

use alloc::vec::Vec;
use core::fmt;

use bincode::{Decode, Encode};

use super::log::{Entry, Place};
use super::roster::Reign;
use super::snapshot::{Cursor, Piece};

/// What a replica says, and in which reign it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Message {
    /// Which reign the sender is in.
    pub reign: Reign,
    /// What it says.
    pub body: Body,
}

/// What a replica says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Body {
    /// To the primary: up to `index` I have what you have, on disk; and I followed you when
    /// you began this round.
    Ack {
        /// Up to where.
        index: u64,
        /// The latest round heard of.
        round: u64,
    },
    /// From the primary: put this behind that. Without entries, a sign of life.
    Append {
        /// Where the entry before them is.
        prev: Place,
        /// What comes behind it.
        entries: Vec<Entry>,
        /// Up to where it is committed.
        committed: u64,
        /// Counts the times that the primary has asked whether it still is one.
        round: u64,
    },
    /// From the primary: what you lack is not kept as entries; pull a copy. If one is in the making
    /// as far as this, it is too old to be finished.
    Behind {
        /// Of the hello that it answers.
        greeting: u64,
        /// How far the copy in the making is.
        cursor: Option<Cursor>,
    },
    /// To the primary: I am in your reign, and this is what I have.
    Hello {
        /// Tells it from every other hello of this replica.
        greeting: u64,
        /// Up to where the log is committed, and where each reign ends behind that.
        ends: Vec<Place>,
    },
    /// To the primary: count me no more.
    Leave,
    /// From the primary: more of the copy.
    Piece {
        /// Of the hello that it began with.
        greeting: u64,
        /// What.
        piece: Piece,
    },
    /// To the primary: more of the copy, please.
    Pull {
        /// Of the hello that it began with.
        greeting: u64,
        /// How far the copy is.
        after: Option<Cursor>,
    },
    /// The primary's session is closed: take nothing more of this reign, and tell what you have.
    SwearOff,
    /// I take nothing more of this reign, and will never have more of it than this.
    Sworn(Place),
}

impl Message {
    /// Whether taking it may have much written.
    #[must_use]
    pub const fn may_persist(&self) -> bool {
        match &self.body {
            Body::Append { entries, .. } => !entries.is_empty(),
            Body::Piece { .. } => true,
            Body::Ack { .. }
            | Body::Behind { .. }
            | Body::Hello { .. }
            | Body::Leave
            | Body::Pull { .. }
            | Body::SwearOff
            | Body::Sworn(_) => false,
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.reign)?;
        match &self.body {
            Body::Ack { index, round } => write!(f, "Ack {index} round {round}"),
            Body::Append { prev, entries, committed, round } => {
                write!(f, "Append after {prev} committed {committed} round {round}")?;
                entries.iter().try_for_each(|entry| write!(f, " {entry}"))
            }
            Body::Behind { greeting, .. } => write!(f, "Behind greeting {greeting}"),
            Body::Hello { greeting, ends } => {
                write!(f, "Hello greeting {greeting}")?;
                ends.iter().try_for_each(|end| write!(f, " {end}"))
            }
            Body::Leave => f.write_str("Leave"),
            Body::Piece { greeting, piece } => {
                let (rows, entries) = (piece.rows.len(), piece.entries.len());
                let place = piece.upto.place;
                write!(f, "Piece greeting {greeting} to {place} rows {rows} entries {entries}")
            }
            Body::Pull { greeting, after } => {
                write!(f, "Pull greeting {greeting}")?;
                after.as_ref().map_or(Ok(()), |cursor| write!(f, " behind {}", cursor.place))
            }
            Body::SwearOff => f.write_str("SwearOff"),
            Body::Sworn(last) => write!(f, "Sworn {last}"),
        }
    }
}
