//! Primary tables: one replica puts all writes in order, the others follow it and can be read; a
//! client is told that a write is done once whoever counts has it on disk, and the primary may die.
//!
//! [`Replica`] is one copy and its part in the table, as a value: [`Input`]s in, [`Effect`]s out.
//! Who is primary and whose acknowledgement counts is a [`Roster`], which a consensus register (the
//! *arbiter*) holds; a replica is shown it and asks to have it changed, never changes it itself.
//! What is promised is in `docs/PRIMARY.md`.
//!
//! Must never know: registers and ballots beyond their order, clocks, disks, sockets.

mod asks;
mod catalogue;
mod command;
mod follow;
mod journal;
mod lead;
mod log;
mod message;
mod replica;
mod roster;
mod schema;
mod snapshot;
mod succession;
#[cfg(test)]
mod tests;
mod writer;

pub use catalogue::TableCommand;
pub(crate) use catalogue::{Catalogue, LIST, LIST_BYTES_MAX, Made};
pub use command::{
    Answer, Ask, Attempt, Call, Command, Envelope, Info, Outcome, Passed, Passing, ReadLevel,
    Refusal,
};
pub use journal::{Foreign, Journal, Record};
pub use log::{Entry, Fate, Place, Remembered, What};
pub use message::{Body, Message};
pub use replica::{Effect, Input, Lag, Limits, REMEMBERED, Replica, Role, Settings};
pub use roster::{Acknowledge, Illegible, Member, Reign, Roster};
pub use schema::Schema;
pub use snapshot::{Cursor, Mark, Piece};
