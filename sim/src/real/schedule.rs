//! What goes wrong, and when: drawn from a seed, as data.
//!
//! The same seed gives the same faults in the same order; what they meet is up to the machine.
//! Must never know: how a fault is brought about.

use std::fmt;
use std::time::Duration;

use super::links::Way;
use crate::chooser::{Chooser, Seeded};

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing passes these ways; nothing is lost either.
    Cut(Vec<Way>),
    /// Everything takes longer on these ways.
    Delay(Vec<Way>, Duration),
    /// There is no room on the disk of this node.
    Full(u16),
    /// `kill -9`, and a start at the end.
    Kill(Vec<u16>),
    /// `SIGSTOP`, and `SIGCONT` at the end.
    Pause(Vec<u16>),
    /// Connections of these ways are reset, and new ones refused.
    Reset(Vec<Way>),
}

impl Trouble {
    /// The nodes that others may lose sight of through it.
    #[must_use]
    pub fn nodes(&self) -> Vec<u16> {
        match self {
            Self::Cut(ways) | Self::Delay(ways, _) | Self::Reset(ways) => {
                ways.iter().flat_map(|(from, to)| [*from, *to]).collect()
            }
            Self::Full(node) => vec![*node],
            Self::Kill(nodes) | Self::Pause(nodes) => nodes.clone(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, ways: &[Way]| {
            let ways: Vec<String> = ways.iter().map(|(from, to)| format!("{from}>{to}")).collect();
            write!(f, "{}", ways.join(","))
        };
        match self {
            Self::Cut(ways) => write!(f, "cut ").and_then(|()| list(f, ways)),
            Self::Delay(ways, by) => {
                write!(f, "delay {} ms ", by.as_millis()).and_then(|()| list(f, ways))
            }
            Self::Full(node) => write!(f, "disk full {node}"),
            Self::Kill(nodes) => write!(f, "kill {nodes:?}"),
            Self::Pause(nodes) => write!(f, "pause {nodes:?}"),
            Self::Reset(ways) => write!(f, "reset ").and_then(|()| list(f, ways)),
        }
    }
}

/// One fault of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How long after the beginning of the one before it.
    pub after: Duration,
    /// For how long.
    pub lasts: Duration,
    /// What.
    pub trouble: Trouble,
}

/// What a cluster can suffer here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Means {
    /// The nodes, numbered from 1.
    pub nodes: u16,
    /// Nodes whose disk can be filled.
    pub fillable: Vec<u16>,
    /// Whether only one node may be killed at a time: who forgets everything must not be alone.
    pub singly: bool,
    /// Whether links can be delayed and reset, or only cut.
    pub relayed: bool,
}

/// Faults; without end, unless what goes wrong depends on the cluster.
#[derive(Clone, Debug)]
pub struct Schedule {
    draws: Seeded,
    means: Means,
    course: Course,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Nothing but `kill -9`, in quick succession.
    Crash,
    /// Nothing but `kill -9` of whoever is primary, once it is known.
    Failover,
    /// One `kill -9` at a time, with quiet before and after it.
    Measure,
    /// Everything.
    Mixed,
}

impl Schedule {
    /// The faults of a seed.
    #[must_use]
    pub fn new(seed: u64, course: Course, means: Means) -> Self {
        Self { draws: Seeded::new(seed), means, course }
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.draws.magnitude(low, high))
    }

    fn node(&mut self) -> u16 {
        1 + self.draws.choose(usize::from(self.means.nodes)) as u16
    }

    /// Mostly one, sometimes several, seldom all.
    fn victims(&mut self) -> Vec<u16> {
        let count = match self.draws.below(20) {
            _ if self.means.singly => 1,
            0 => self.means.nodes,
            1..=3 => 1 + self.draws.below(u64::from(self.means.nodes)) as u16,
            _ => 1,
        };
        let first = self.node();
        (0..count).map(|place| 1 + (first - 1 + place) % self.means.nodes).collect()
    }

    fn kill(&mut self) -> Fault {
        // A cluster that forgets does not come back: it should have something to forget.
        let after =
            if self.means.singly { self.millis(800, 3_000) } else { self.millis(200, 1_200) };
        let lasts = self.millis(1, 200);
        Fault { after, lasts, trouble: Trouble::Kill(self.victims()) }
    }

    fn single(&mut self) -> Fault {
        let after = Duration::from_millis(self.draws.within(6_500, 7_500));
        let lasts = Duration::from_secs(2);
        Fault { after, lasts, trouble: Trouble::Kill(vec![self.node()]) }
    }

    /// One way, one link, or the links between two groups.
    fn ways(&mut self) -> Vec<Way> {
        let one = self.node();
        let other = 1
            + (one - 1 + 1 + self.draws.below(u64::from(self.means.nodes) - 1) as u16)
                % self.means.nodes;
        match self.draws.below(4) {
            0 => vec![(one, other)],
            1 => vec![(one, other), (other, one)],
            // All that one node says, or hears, or both.
            way => {
                let others = (1..=self.means.nodes).filter(|node| *node != one);
                let both = self.draws.percent(60);
                let says = way == 2;
                others
                    .flat_map(|other| [(one, other), (other, one)])
                    .filter(|(from, _)| both || (*from == one) == says)
                    .collect()
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = Fault;

    fn next(&mut self) -> Option<Fault> {
        match self.course {
            Course::Crash => return Some(self.kill()),
            Course::Failover => return None,
            Course::Measure => return Some(self.single()),
            Course::Mixed => {}
        }
        let alone = self.means.nodes < 2;
        let after = self.millis(50, 3_000);
        // Long enough, at times, for nodes to be given up and their sessions to be closed.
        let lasts = self.millis(20, 6_000);
        let trouble = match self.draws.below(20) {
            0..=4 => Trouble::Kill(self.victims()),
            5..=7 => Trouble::Pause(self.victims()),
            8 | 9 if !self.means.fillable.is_empty() => {
                // What room a store had already taken for itself has to be used up first.
                let lasts = Duration::from_millis(self.draws.within(2_000, 10_000));
                let trouble = Trouble::Full(*self.draws.one(&self.means.fillable));
                return Some(Fault { after, lasts, trouble });
            }
            _ if alone => Trouble::Kill(self.victims()),
            10 | 11 if self.means.relayed => Trouble::Reset(self.ways()),
            12 | 13 if self.means.relayed => {
                let by = self.millis(1, 300);
                Trouble::Delay(self.ways(), by)
            }
            _ => Trouble::Cut(self.ways()),
        };
        Some(Fault { after, lasts, trouble })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(nodes: u16) -> Means {
        Means { nodes, fillable: vec![1], singly: false, relayed: true }
    }

    #[test]
    fn a_seed_is_a_schedule() {
        let first: Vec<Fault> = Schedule::new(7, Course::Mixed, means(3)).take(500).collect();
        let second: Vec<Fault> = Schedule::new(7, Course::Mixed, means(3)).take(500).collect();
        assert_eq!(first, second);
        assert_ne!(first, Schedule::new(8, Course::Mixed, means(3)).take(500).collect::<Vec<_>>());
    }

    #[test]
    fn all_kinds_occur_and_name_nodes_that_there_are() {
        for nodes in [1, 3, 5] {
            let mut kinds = std::collections::BTreeSet::new();
            for fault in Schedule::new(1, Course::Mixed, means(nodes)).take(2_000) {
                let text = fault.trouble.to_string();
                kinds.insert(text.split(' ').next().unwrap_or_default().to_owned());
                let named = fault.trouble.nodes();
                assert!(!named.is_empty(), "{text} hits nobody");
                assert!(named.iter().all(|node| (1..=nodes).contains(node)), "{text}");
                if let Trouble::Cut(ways) | Trouble::Reset(ways) = &fault.trouble {
                    assert!(ways.iter().all(|(from, to)| from != to), "{text}");
                }
            }
            let expected = if nodes == 1 { 3 } else { 6 };
            assert_eq!(kinds.len(), expected, "{kinds:?}");
        }
    }
}
