//! One run with its panics caught, and the record of a failing one.

use std::hash::Hash as _;

use serde::{Deserialize, Serialize};

use super::panics;
use crate::plan::Plan;
use crate::trace::TraceHash;
use crate::world::{self, Failure, FailureKind, Observer, Report, Verdict};

/// How bad a failure is, and its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// A rule was violated.
    Violation,
    /// The engine panicked.
    Crash,
    /// What had to come did not.
    NoProgress,
    /// It could not be judged.
    Unknown,
}

impl From<FailureKind> for Grade {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Crash => Self::Crash,
            FailureKind::NoProgress => Self::NoProgress,
            FailureKind::Unknown => Self::Unknown,
            FailureKind::Violation => Self::Violation,
        }
    }
}

impl Grade {
    /// How it is called in a sentence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::NoProgress => "no progress",
            Self::Unknown => "unknown",
            Self::Violation => "violation",
        }
    }
}

/// A failure that a campaign found, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The lowest seed that fails so.
    pub seed: u64,
    /// The scenario of that seed.
    pub scenario: String,
    /// Of which kind it is.
    pub kind: Grade,
    /// The rule that does not hold.
    pub rule: String,
    /// The failure without its numbers: what makes two failures the same.
    pub signature: String,
    /// What happened.
    pub message: String,
    /// How many seeds fail so.
    pub count: u64,
    /// Items of the shrunk plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub items: Option<u64>,
    /// Messages delivered in the run of the shrunk plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub deliveries: Option<u64>,
    /// Where the shrunk plan is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<String>,
}

impl Found {
    /// The record of `failure` of the plan of `seed`.
    #[must_use]
    pub fn new(seed: u64, scenario: &str, failure: &Failure) -> Self {
        Self {
            seed,
            scenario: scenario.to_owned(),
            kind: failure.kind.into(),
            rule: failure.rule.to_owned(),
            signature: failure.signature.clone(),
            message: failure.message.clone(),
            count: 1,
            items: None,
            deliveries: None,
            plan: None,
        }
    }
}

/// What failed in a run, if anything did.
#[must_use]
pub const fn failure(report: &Report) -> Option<&Failure> {
    match &report.verdict {
        Verdict::Fail(failure) => Some(failure),
        Verdict::Pass => None,
    }
}

/// Runs `plan`; a panic is a failure like any other, and its report has no figures.
pub fn attempt(plan: &Plan, observer: &mut dyn Observer) -> Report {
    panics::catch(|| world::run(plan, observer)).unwrap_or_else(|panic| {
        crashed(Failure {
            kind: FailureKind::Crash,
            rule: "panic",
            signature: format!("panic: {}", without_numbers(&panic.message)),
            message: format!("panicked at {}: {}", panic.place, panic.message),
            at: 0,
            step: 0,
        })
    })
}

/// The report of a run of which nothing but its end is known.
fn crashed(failure: Failure) -> Report {
    let mut hash = TraceHash::default();
    failure.message.hash(&mut hash);
    Report::of_failure(failure, hash.value())
}

/// `text` with each number as `#`, so that the same failure with other numbers reads the same.
fn without_numbers(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '0'..='9' if result.ends_with('#') => {}
            '0'..='9' => result.push('#'),
            _ => result.push(letter),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_tell_failures_apart() {
        assert_eq!(without_numbers("accepted 1:23.4 at 1:5"), "accepted #:#.# at #:#");
    }
}
