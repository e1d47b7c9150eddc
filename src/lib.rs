//! synod: a deterministic, simulation-tested consensus key-value engine.
#![cfg_attr(not(feature = "host"), no_std)]

extern crate alloc;

pub mod base;
pub mod cluster;
pub mod consensus;
pub mod monitor;
pub mod node;
pub mod paxos;
pub mod wire;

pub use base::*;
pub use consensus::{
    Command, Entry, Expect, OnNoQuorum, Outcome, Previous, ReadLevel, Readiness, Refusal, Request,
    Sent, Status, Topic,
};
pub use monitor::{Bind, Binding};
pub use node::{
    Body, Config, ConfigError, Effect, Effects, Ending, Event, Foreign, Genesis, Input, Limits,
    Message, Node, Record, RecoverError, TableConfig, Timing, Violation,
};
pub use paxos::Ballot;
