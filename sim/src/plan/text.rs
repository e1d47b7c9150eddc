//! Plans as text files: line oriented, commented, stable to diff.
//!
//! Must never know: how a run goes.

use std::fmt;
use std::str::FromStr;

use super::{Cluster, Disk, MICRO, MILLI, Mode, Network, Plan, PlanError, SECOND, Table};

impl Default for Plan {
    fn default() -> Self {
        Self {
            scenario: "swarm".to_owned(),
            seed: 0,
            mode: Mode::Timed,
            cluster: Cluster {
                nodes: 3,
                size: 3,
                witnessed: true,
                heartbeat: 50 * MILLI,
                down: 250 * MILLI,
                up: 0,
                sweep: 100 * MILLI,
                round: 30 * MILLI,
                backoff: 2 * MILLI,
                backoff_max: 100 * MILLI,
                requests_max: 4096,
                wall_spread: 0,
            },
            tables: vec![Table {
                name: "default".to_owned(),
                write_once: false,
            }],
            keys: 4,
            clients: 3,
            network: Network {
                latency: 200 * MICRO,
                jitter: 800 * MICRO,
                loss: 0,
                duplicate: 0,
                wire: 0,
            },
            disk: Disk {
                latency: 50 * MICRO,
                jitter: 150 * MICRO,
            },
            safety: 5 * SECOND,
            liveness: 10 * SECOND,
            operations: Vec::new(),
            faults: Vec::new(),
            choices: Vec::new(),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)
    }
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(_: &str) -> Result<Self, PlanError> {
        Err(PlanError {
            line: 0,
            message: "the reader of plans is being written".to_owned(),
        })
    }
}
