//! synod: a deterministic, simulation-tested consensus key-value engine.
//!
//! A [`Node`] is a value: [`Input`]s in, [`Effect`]s out. The whole of a host is this loop:
//!
//! ```text
//! let mut node = Node::new(config, seed)?;            // or Node::recover(config, seed, records)?
//! let mut effects = Effects::new();
//! let mut input = Input::Timeout;                     // starts it
//! loop {
//!     node.handle(input, now(), &mut effects);
//!     for effect in effects.drain(..) {
//!         match effect {
//!             Effect::Send { to, message } => /* to a peer; may be lost, late, doubled */,
//!             Effect::Persist { ticket, records } => /* write, sync, then Input::Persisted */,
//!             Effect::Reply { client, request, outcome } => /* the answer, once */,
//!             Effect::Notify { client, event } => /* what it subscribed to */,
//!             Effect::Monitor { session, .. } => /* when its client is gone, Input::Down */,
//!             Effect::Demonitor { session } => /* no more */,
//!         }
//!     }
//!     input = /* whatever happens first, no later than node.poll_timeout(): Input::Timeout */;
//! }
//! ```
//!
//! Start with [`Node`], [`Command`] and [`Outcome`]. The map of modules is `docs/ARCHITECTURE.md`,
//! the rules they keep `docs/PROTOCOL.md`.
//!
//! Without the feature `host`, which the default feature `server` needs, the crate needs no
//! standard library, only an allocator: what the engine must not do it cannot do.
#![cfg_attr(not(feature = "host"), no_std)]

extern crate alloc;

pub mod base;
#[cfg(all(feature = "server", not(madsim)))]
pub mod cli;
pub mod cluster;
pub mod consensus;
#[cfg(feature = "host")]
pub mod host;
pub mod merged;
pub mod monitor;
pub mod node;
pub mod paxos;
pub mod primary;
#[cfg(feature = "server")]
pub mod resp;
#[cfg(all(feature = "server", not(madsim)))]
pub mod server;
#[cfg(feature = "host")]
pub mod storage;
pub mod wire;

pub use base::*;
pub use consensus::{
    Command, Entry, Expect, OnNoQuorum, Outcome, Previous, ReadLevel, Readiness, Refusal, Request,
    Sent, Status, Topic,
};
#[cfg(all(feature = "host", not(madsim)))]
pub use host::embed::*;
pub use monitor::{Bind, Binding};
pub use node::{
    Body, Config, ConfigError, Discipline, Effect, Effects, Ending, Event, Foreign, Genesis,
    Impossible, Input, Limits, MergeEvent, Message, Node, Record, RecoverError, TableConfig,
    Timing, Violation,
};
pub use paxos::Ballot;

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
