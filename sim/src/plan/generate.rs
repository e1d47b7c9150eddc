//! Plans from seeds.
//!
//! Must never know: how a run goes.

use super::{Nanos, Plan};
use crate::scenario::Scenario;

/// What the caller of [`Plan::generate`] wants otherwise than the scenario would have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How many nodes.
    pub nodes: Option<u16>,
    /// How many clients.
    pub clients: Option<u16>,
    /// How many operations.
    pub operations: Option<u32>,
    /// How long the safety phase lasts.
    pub safety: Option<Nanos>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn generate(seed: u64, scenario: &Scenario, options: &Options) -> Self {
        let _ = (seed, scenario, options);
        Self::default()
    }
}
