//! The scenarios: what a campaign can be asked to stress.
//!
//! Must never know: how plans are run.

/// One way of making plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// How it is named on the command line and in plans.
    pub name: &'static str,
    /// Which discipline of tables it is about.
    pub family: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What it is there to break.
    pub stresses: &'static str,
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "swarm",
        family: "consensus",
        summary: "5 nodes mostly, every command, a random subset of all faults",
        stresses: "everything; the unit of campaigns",
    },
    Scenario {
        name: "calm",
        family: "consensus",
        summary: "every command, no faults",
        stresses: "the checks themselves: they must not cry wolf; and liveness of duels",
    },
    Scenario {
        name: "register",
        family: "consensus",
        summary: "one key at a time, puts and gets, loss, duplicates, reordering, crashes",
        stresses: "ballots, quorums, lineage, at-most-once, durability",
    },
    Scenario {
        name: "erase",
        family: "consensus",
        summary: "bound keys, sessions and clients that die, partitions and pauses",
        stresses: "monitors, justified erasure, cascades, no orphans",
    },
    Scenario {
        name: "clocks",
        family: "consensus",
        summary: "deadlines, and clocks that jump, drift, freeze and disagree",
        stresses: "until bindings; independence of safety from clocks",
    },
    Scenario {
        name: "storage",
        family: "consensus",
        summary: "crashes, torn tails, power cuts, failing, full, slow and lost disks",
        stresses: "durability before replies, recovery, lost storage that must not vote",
    },
    Scenario {
        name: "partitions",
        family: "consensus",
        summary: "islands, one-way, bridge, ring, random graphs, flapping",
        stresses: "quorums, quorum events, sessions, progress after healing",
    },
    Scenario {
        name: "free",
        family: "consensus",
        summary: "3 nodes, 1 key, no latencies: any possible event may be next",
        stresses: "orders that no latency would make",
    },
    Scenario {
        name: "merged",
        family: "merged",
        summary: "copies that answer alone; islands, one-way cuts, wrong clocks, lost disks",
        stresses: "causality, conflicts, removals, forgetting, convergence",
    },
    Scenario {
        name: "primary",
        family: "primary",
        summary: "primaries that die or hand over, replicas that join and leave, flaky disks",
        stresses: "order, acknowledgements on disk, succession, copies in the making",
    },
    Scenario {
        name: "splits",
        family: "merged",
        summary: "copies that are cut apart in every shape, over and over, and nothing else",
        stresses: "two, three and more islands, one-way and flapping cuts, merges of merges",
    },
    Scenario {
        name: "lies",
        family: "merged",
        summary: "copies whose clocks are wrong by seconds, hours and years, and cut apart",
        stresses: "that clocks decide ties and nothing else",
    },
    Scenario {
        name: "resolvers",
        family: "merged",
        summary: "applications that settle conflicts: late, twice, with errors and panics",
        stresses: "that each collision ends, at few calls, and failures stay with their keys",
    },
];

/// Every scenario; the first is the default.
#[must_use]
pub const fn scenarios() -> &'static [Scenario] {
    SCENARIOS
}

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    scenarios().iter().find(|scenario| scenario.name == name)
}
