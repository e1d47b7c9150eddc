//! The figures of a campaign, so that shares of it add up to the whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::failure::Grade;
use crate::marks::Mark;
use crate::plan::FaultKind;
use crate::world::{Outcomes, Report, Verdict};

/// Sums over runs. Adding is commutative and associative: shares can be merged in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Runs.
    pub seeds: u64,
    /// Runs that failed, however.
    pub failures: u64,
    /// Of these, how many violated a rule.
    pub violations: u64,
    /// Of these, how many made no progress.
    pub no_progress: u64,
    /// Of these, how many could not be judged.
    pub unknown: u64,
    /// Of these, how many crashed.
    pub crashes: u64,
    /// Messages delivered.
    pub deliveries: u64,
    /// Events of any kind.
    pub events: u64,
    /// Requests of clients.
    pub operations: u64,
    /// How these ended.
    pub outcomes: BTreeMap<String, u64>,
    /// Simulated time, in microseconds.
    pub simulated_micros: u64,
    /// How often faults acted, by kind; every kind is listed.
    pub faults: BTreeMap<String, u64>,
    /// How often marks were hit; every mark is listed.
    pub marks: BTreeMap<String, u64>,
    /// Runs by scenario.
    pub scenarios: BTreeMap<String, u64>,
    /// The sum of a mix of each seed with its trace hash: the same whatever the order.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub trace_hash: u128,
}

impl Totals {
    /// Of no run: every kind of fault and every mark is there, at zero.
    #[must_use]
    pub fn new() -> Self {
        let faults = FaultKind::ALL.iter().map(|kind| (kind.name().to_owned(), 0));
        let marks = Mark::ALL.iter().map(|mark| (mark.name().to_owned(), 0));
        Self { faults: faults.collect(), marks: marks.collect(), ..Self::default() }
    }

    /// Adds the run of `seed`.
    pub fn count(&mut self, seed: u64, scenario: &str, report: &Report) {
        self.seeds += 1;
        self.deliveries += report.deliveries;
        self.events += report.events;
        self.operations += report.operations;
        self.simulated_micros += report.simulated / 1_000;
        self.trace_hash = self.trace_hash.wrapping_add(mix(seed, report.trace_hash));
        add(&mut self.scenarios, scenario, 1);
        for (name, count) in outcomes(&report.outcomes) {
            add(&mut self.outcomes, name, count);
        }
        for (kind, count) in FaultKind::ALL.iter().zip(report.faults) {
            add(&mut self.faults, kind.name(), count);
        }
        for (mark, count) in report.marks.iter() {
            add(&mut self.marks, mark.name(), u64::from(count));
        }
        if let Verdict::Fail(failure) = &report.verdict {
            self.failures += 1;
            *match failure.kind.into() {
                Grade::Violation => &mut self.violations,
                Grade::Crash => &mut self.crashes,
                Grade::NoProgress => &mut self.no_progress,
                Grade::Unknown => &mut self.unknown,
            } += 1;
        }
    }

    /// Adds another share.
    pub fn merge(&mut self, other: &Self) {
        merge(&mut self.seeds, other.seeds);
        merge(&mut self.failures, other.failures);
        merge(&mut self.violations, other.violations);
        merge(&mut self.no_progress, other.no_progress);
        merge(&mut self.unknown, other.unknown);
        merge(&mut self.crashes, other.crashes);
        merge(&mut self.deliveries, other.deliveries);
        merge(&mut self.events, other.events);
        merge(&mut self.operations, other.operations);
        merge(&mut self.simulated_micros, other.simulated_micros);
        self.trace_hash = self.trace_hash.wrapping_add(other.trace_hash);
        for (mine, theirs) in [
            (&mut self.outcomes, &other.outcomes),
            (&mut self.faults, &other.faults),
            (&mut self.marks, &other.marks),
            (&mut self.scenarios, &other.scenarios),
        ] {
            theirs.iter().for_each(|(name, count)| add(mine, name, *count));
        }
    }
}

/// What is added may have been read from a file, so it may be anything.
const fn merge(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

fn add(counts: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    if let Some(sum) = counts.get_mut(name) {
        merge(sum, count);
    } else {
        counts.insert(name.to_owned(), count);
    }
}

const fn outcomes(outcomes: &Outcomes) -> [(&'static str, u64); 6] {
    [
        ("done", outcomes.done),
        ("lost", outcomes.lost),
        ("refused", outcomes.refused),
        ("no quorum", outcomes.no_quorum),
        ("unknown", outcomes.unknown),
        ("crashed", outcomes.crashed),
    ]
}

/// A run's share of the campaign's hash: depends on every bit of both.
const fn mix(seed: u64, hash: u128) -> u128 {
    const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    let x = (hash ^ (seed as u128).wrapping_mul(ODD)).wrapping_mul(ODD);
    (x ^ (x >> 67)).wrapping_mul(ODD)
}

fn to_hex<S: Serializer>(hash: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{hash:032x}"))
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    let text = String::deserialize(deserializer)?;
    u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_hashes_are_not_interchangeable() {
        assert_ne!(mix(1, 2).wrapping_add(mix(2, 1)), mix(1, 1).wrapping_add(mix(2, 2)));
    }

    #[test]
    fn totals_survive_json() {
        let totals = Totals { trace_hash: 7, seeds: 3, ..Totals::new() };
        let text = serde_json::to_string(&totals).unwrap();
        assert_eq!(serde_json::from_str::<Totals>(&text).unwrap(), totals);
    }
}
