//! Whether runs are functions of their plans and of nothing else.
//!
//! The same seeds are run again in other processes, in the opposite order and with another number
//! of threads, and each run's 128-bit trace hash is compared. A difference is then looked for
//! event by event, so that the first one is named.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use super::failure::attempt;
use crate::plan::Plan;
use crate::report::recording::Lines;

/// How the other process is to run the seeds.
#[derive(Clone, Debug)]
pub struct Conditions<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its arguments that choose the source of plans.
    pub source: &'a [String],
    /// How many threads.
    pub jobs: usize,
    /// Whether from the last seed to the first.
    pub reverse: bool,
}

/// The first event at which two runs of one plan part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its number in the run, from 1.
    pub line: u64,
    /// The event here; none if the run was over.
    pub here: Option<String>,
    /// The event there; none if the run was over.
    pub there: Option<String>,
}

/// The trace hashes of these seeds as another process computes them.
///
/// # Errors
/// If that cannot be started, fails, or says something else.
pub fn hashes_elsewhere(
    conditions: &Conditions<'_>,
    seeds: &std::ops::Range<u64>,
) -> Result<Vec<(u64, u128)>, String> {
    let mut command = Command::new(conditions.program);
    command.arg("hashes").args(conditions.source);
    command.args(["--seeds", &format!("{}..{}", seeds.start, seeds.end)]);
    command.args(["--jobs", &conditions.jobs.to_string()]);
    if conditions.reverse {
        command.arg("--reverse");
    }
    let name = conditions.program.display();
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name}: {}", said.lines().last().unwrap_or("it failed")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let hash = |line: &str| {
        let (seed, hash) = line.split_once(' ')?;
        Some((seed.parse().ok()?, u128::from_str_radix(hash, 16).ok()?))
    };
    text.lines().map(|line| hash(line).ok_or_else(|| format!("{name}: it said {line:?}"))).collect()
}

/// The first difference between the run of `plan` here and of `seed` there; none if they read the
/// same.
///
/// # Errors
/// If the other process cannot be started or read.
pub fn first_difference(
    conditions: &Conditions<'_>,
    seed: u64,
    plan: &Plan,
) -> Result<Option<Difference>, String> {
    let mut here = Lines::default();
    let _ = attempt(plan, &mut here);
    let name = conditions.program.display();
    let failed = |error: std::io::Error| format!("{name}: {error}");
    let mut command = Command::new(conditions.program);
    command.arg("trace").args(conditions.source).args(["--seed", &seed.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let Some(stdout) = child.stdout.take() else {
        return Err(format!("{name}: it has no output"));
    };
    let mut there = BufReader::new(stdout).lines();
    let mut mine = here.lines.into_iter();
    let mut line = 0;
    let difference = loop {
        line += 1;
        let (one, other) = (mine.next(), there.next().transpose().map_err(failed)?);
        if one != other {
            break Some(Difference { line, here: one, there: other });
        }
        if one.is_none() {
            break None;
        }
    };
    let _ = child.kill();
    child.wait().map_err(failed)?;
    Ok(difference)
}
