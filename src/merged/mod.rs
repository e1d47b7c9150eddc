//! Merged tables: every node reads and writes its own copy, also when it hears nobody, and copies
//! that meet again become equal without losing a write or bringing back what was removed.
//!
//! [`Table`] is one copy as a value; [`Replica`] is a copy and its dealings with the others. Both
//! are pure: time, messages and durability belong to whoever owns them. What is promised is in
//! `docs/MERGED.md`.
//!
//! Must never know: registers, quorums, who may vote.

mod exchange;
mod message;
mod schema;
mod stability;
mod table;
mod version;
mod view;

pub use exchange::{ExchangeEvent, Pace, Replica, Step, Totals};
pub use message::{Body, Chunk, Digest, Message, Pull, TableName};
pub use schema::{Agreement, Contest, Durability, Field, Kind, Replicas, Schema, Strategy};
pub use table::{Applied, Change, Mutation, Row, Table, Unfit};
pub use version::{Actor, Content, Dot, Origin, Stamp, Version, VersionVector};
