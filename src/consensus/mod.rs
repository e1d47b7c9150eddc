//! Consensus tables: one Paxos register per key, no leader.
//!
//! Must never know: who is connected, when to retry, how bytes are stored. It holds what a
//! register contains, what commands do to it, and how an operation drives it to an answer.

mod cell;
mod change;
mod command;
mod message;
mod operation;
mod registers;

pub use cell::{Cell, Change, Content, LINEAGE_MAX, Lineage, Live, State};
pub(crate) use change::{Goal, Mode, Quorum};
pub use command::{
    Command, Entry, Expect, OnNoQuorum, Outcome, Previous, ReadLevel, Readiness, Refusal, Request,
    Sent, Status, Topic,
};
pub use message::{Listed, Message, Tag, Testimony};
pub(crate) use operation::{
    AfterBurial, Asker, Burial, Content as Accepting, Effect, Finding, Listing, Operation, Stage,
};
pub(crate) use registers::Registers;
