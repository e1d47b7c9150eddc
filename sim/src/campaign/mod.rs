//! Campaigns: many seeds, on all cores, until there is a failure, an end, or no time left.
//!
//! Each run shares nothing with any other. Results are folded in the order of the seeds, whatever
//! order the threads finish in, so a campaign over the same seeds comes to the same totals, the
//! same trace hash and the same first failure with one thread or with many. Threads and the wall
//! clock live here, and never inside a run.
//!
//! Must never know: what a run does, or how results are shown.

pub mod determinism;
mod failure;
pub mod panics;
mod pool;
mod reduce;
mod totals;

pub use failure::{Found, Grade, attempt, failure};
pub use pool::{Limits, Outcome, Stop, Watcher, campaign, cpu_seconds};
pub use reduce::reduce;
pub use totals::Totals;

use crate::plan::{Options, Plan};
use crate::scenario::Scenario;

/// Which plans seeds stand for.
#[derive(Clone, Debug)]
pub struct Source {
    /// The scenarios that seeds are spread over: seed `n` is of the scenario at `n` modulo their
    /// number.
    pub scenarios: Vec<&'static Scenario>,
    /// What the scenarios are overruled in.
    pub options: Options,
}

impl Source {
    /// The scenario of `seed`.
    #[must_use]
    pub fn scenario(&self, seed: u64) -> &'static Scenario {
        let count = self.scenarios.len() as u64;
        self.scenarios[(seed % count) as usize]
    }

    /// The plan of `seed`.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        Plan::generate(seed, self.scenario(seed), &self.options)
    }
}
