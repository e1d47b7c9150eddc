//! The composition: one node as a value. Inputs in, effects out.

mod config;
mod seam;

pub use config::{Config, ConfigError, Genesis, Limits, TableConfig, Timing};
pub use seam::{Body, Effect, Effects, Ending, Event, Input, Message, Record};

use crate::base::{Instant, Now, RegisterId};
use alloc::string::String;
use core::fmt;

/// The engine.
#[derive(Debug)]
pub struct Node {}

/// Why a log cannot be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoverError {
    /// The configuration is impossible.
    Config(ConfigError),
    /// The log is empty: there is nothing to recover.
    Empty,
    /// The log was not written by this node of this cluster, or not in this order.
    Foreign {
        /// Which record, counted from 0.
        record: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// A broken invariant of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one: a number of `docs/INVARIANTS.md`.
    pub invariant: &'static str,
    /// What is wrong.
    pub message: String,
}

impl Node {
    /// A node whose storage has never been used.
    ///
    /// # Errors
    /// If the configuration is impossible.
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let _ = seed;
        Ok(Self {})
    }
    /// A node whose storage is known to have lost something: it will not vote, and says `why`.
    ///
    /// # Errors
    /// If the configuration is impossible.
    pub fn lost(config: Config, seed: u64, why: &str) -> Result<Self, ConfigError> {
        config.check()?;
        let _ = (seed, why);
        Ok(Self {})
    }
    /// A node that goes on from what it made durable.
    ///
    /// # Errors
    /// If that was not this node's doing.
    pub fn recover(
        config: Config,
        seed: u64,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<Self, RecoverError> {
        config.check().map_err(RecoverError::Config)?;
        let _ = (seed, records.into_iter().count());
        Ok(Self {})
    }
    /// One step.
    pub fn handle(&mut self, input: Input, now: Now, effects: &mut Effects) {
        let _ = (input, now, effects);
    }
    /// When the node next wants [`Input::Timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    /// Whether every invariant holds.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        Ok(())
    }
    /// The registers kept here, in order: promised ballot, accepted ballot, accepted cell.
    pub fn registers(
        &self,
    ) -> impl Iterator<
        Item = (
            &RegisterId,
            crate::Ballot,
            crate::Ballot,
            Option<&alloc::sync::Arc<crate::consensus::Cell>>,
        ),
    > {
        [].into_iter()
    }
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
