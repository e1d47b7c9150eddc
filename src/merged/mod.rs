//! Merged tables: every node reads and writes its own copy, also when it hears nobody, and copies
//! that meet again become equal without losing a write or bringing back what was removed.
//!
//! [`Table`] is one copy as a value; [`Replica`] is a copy and its dealings with the others. Both
//! are pure: time, messages and durability belong to whoever owns them. What is promised is in
//! `docs/MERGED.md`.
//!
//! Must never know: registers, quorums, who may vote.

mod answers;
mod catalogue;
mod circle;
mod command;
mod exchange;
mod field;
mod journal;
mod message;
mod resolver;
mod rounds;
mod schema;
mod stability;
mod staging;
mod table;
mod version;
mod view;
mod words;

pub use crate::base::{Replicas, TableName};
pub(crate) use catalogue::Listed;
pub use catalogue::{CATALOGUE, TableCommand, Unmade, is_table_name};
pub use circle::Circle;
pub use command::{
    Answer, BATCH_MAX, Command, Content as RemoteContent, Declined, Entry, Guard, Info, Keep,
    Match, Pattern, PeerInfo, Remote, Shown, Unfit,
};
pub use exchange::{Event, Pace, Replica, Rewound, Step, Totals};
pub use field::{Field, Function};
pub use journal::Journal;
pub use message::{Body, Chunk, Digest, Message, Pull, Stance};
pub use resolver::{Action, Conflict, MergeContext, Resolver, Verdict, turn};
pub use rounds::{Round, Rounds};
pub use schema::{Agreement, Contest, Durability, Kind, Schema, Strategy};
pub use staging::{Progress, Role};
pub use table::{Applied, Change, Mutation, Row, Table, Writer};
pub use version::{Actor, Content, Dot, Origin, Stamp, Version, VersionVector};
