//! What a campaign came to, for people, and as JSON for programs and for going on later.

use std::io::{self, Write};
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::style::{Ink, Style, bar, grouped, lasting, percent, rough};
use crate::campaign::{Found, Grade, Totals};
use crate::marks::Mark;
use crate::plan::NODES_MAX;
use crate::rig::Rig;

/// Everything that is known of a campaign: enough to show it, to go on with it, and to merge its
/// shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The version of this format.
    pub format: u32,
    /// What its plans were run on.
    #[serde(default)]
    pub rig: Rig,
    /// What `--scenario` was; none for all.
    pub scenario: Option<String>,
    /// What `--nodes` was.
    pub nodes: Option<u16>,
    /// The first seed of the campaign, or of this share of it.
    pub seeds_from: u64,
    /// The first seed behind it.
    pub seeds_to: u64,
    /// The share, as `k/n`.
    pub shard: String,
    /// How many seeds of it are done.
    pub done: u64,
    /// The sums.
    #[serde(flatten)]
    pub totals: Totals,
    /// Wall-clock seconds.
    pub wall_seconds: f64,
    /// Processor seconds.
    pub cpu_seconds: f64,
    /// Seeds by wall-clock second.
    pub seeds_per_second: f64,
    /// Messages delivered by wall-clock second.
    pub deliveries_per_second: f64,
    /// Messages delivered by processor second.
    pub deliveries_per_second_per_core: f64,
    /// Marks that no run has hit.
    pub marks_missed: Vec<String>,
    /// The failures, one for each signature.
    pub found: Vec<Found>,
}

/// The version of the JSON format.
pub const FORMAT: u32 = 1;

impl Summary {
    /// The seeds that have been run.
    #[must_use]
    pub const fn seeds_done(&self) -> Range<u64> {
        self.seeds_from..self.seeds_from.saturating_add(self.done)
    }

    /// Whether it can be what a campaign came to, as far as anything relies on it.
    ///
    /// # Errors
    /// What cannot be.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!(
                "its format is {}, this program's is {FORMAT}; run the campaign again",
                self.format
            ));
        }
        if self.seeds_from > self.seeds_to || self.done > self.seeds_to - self.seeds_from {
            return Err(format!(
                "{} seeds done of {}..{} cannot be; run the campaign again",
                self.done, self.seeds_from, self.seeds_to
            ));
        }
        if self.totals.failures > self.totals.seeds {
            return Err("more failures than seeds cannot be; run the campaign again".to_owned());
        }
        // A million years are beyond every campaign, and within what a duration can say.
        let plausible = |seconds: f64| (0.0..3e13).contains(&seconds);
        if !plausible(self.wall_seconds) || !plausible(self.cpu_seconds) {
            return Err("its seconds cannot be; run the campaign again".to_owned());
        }
        match self.nodes {
            Some(nodes) if nodes == 0 || nodes > NODES_MAX => {
                Err(format!("nodes: {nodes} is not within 1..={NODES_MAX}"))
            }
            _ => Ok(()),
        }
    }

    /// Adds more work to it: of this campaign's later seeds, or of another share.
    pub fn add(&mut self, totals: &Totals, found: &[Found], wall: Duration, cpu_seconds: f64) {
        self.totals.merge(totals);
        for found in found {
            let known = |other: &&mut Found| other.signature == found.signature;
            if let Some(known) = self.found.iter_mut().find(known) {
                let count = known.count.saturating_add(found.count);
                if found.seed < known.seed {
                    *known = found.clone();
                }
                known.count = count;
            } else {
                self.found.push(found.clone());
            }
        }
        self.found.sort_by_key(|found| found.seed);
        self.wall_seconds += wall.as_secs_f64();
        self.cpu_seconds += cpu_seconds;
        self.rate();
    }

    fn rate(&mut self) {
        let by = |count: u64, seconds: f64| {
            if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
        };
        let totals = &self.totals;
        self.seeds_per_second = by(totals.seeds, self.wall_seconds);
        self.deliveries_per_second = by(totals.deliveries, self.wall_seconds);
        self.deliveries_per_second_per_core = by(totals.deliveries, self.cpu_seconds);
        let beyond = self.out_of_reach();
        let missed = totals.marks.iter();
        let missed = missed.filter(|(name, count)| **count == 0 && !beyond.contains(&&***name));
        self.marks_missed = missed.map(|(name, _)| name.clone()).collect();
    }

    fn out_of_reach(&self) -> Vec<&'static str> {
        let scenario = self.scenario.as_deref().unwrap_or_default();
        let beyond = Mark::ALL.iter().filter(|it| it.is_out_of_reach(self.rig, scenario));
        beyond.map(|mark| mark.name()).collect()
    }

    /// The gravest kind of failure found.
    #[must_use]
    pub fn worst(&self) -> Option<Grade> {
        self.found.iter().map(|found| found.kind).min()
    }

    /// Shows it.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn show(&self, style: Style, out: &mut dyn Write) -> io::Result<()> {
        let totals = &self.totals;
        let simulated = Duration::from_micros(totals.simulated_micros);
        let wall = Duration::from_secs_f64(self.wall_seconds);
        let compression = simulated.as_secs_f64() / self.wall_seconds.max(0.001);
        let passed = totals.seeds - totals.failures;
        let verdict = if totals.failures == 0 {
            let seeds = grouped(totals.seeds);
            let asked = self.seeds_to - self.seeds_from;
            let text = if self.seeds_to == u64::MAX || self.done == asked {
                format!("all {seeds} seeds passed")
            } else {
                format!("all {seeds} seeds run passed, of {} asked for,", grouped(asked))
            };
            style.paint(Ink::Good, text)
        } else {
            let failing = format!("{} of {} seeds failed", totals.failures, grouped(totals.seeds));
            style.paint(Ink::Bad, failing)
        };
        writeln!(out, "{verdict} in {}", lasting(wall))?;
        writeln!(out)?;
        let mut row = |name: &str, text: String| {
            writeln!(out, "  {}  {text}", style.paint(Ink::Dim, format!("{name:<12}")))
        };
        row(
            "verdicts",
            format!(
                "{} passed, {} violations, {} without progress, {} unknown, {} crashed",
                grouped(passed),
                totals.violations,
                totals.no_progress,
                totals.unknown,
                totals.crashes
            ),
        )?;
        row(
            "speed",
            format!(
                "{} seeds/s, {} deliveries/s per core",
                grouped(self.seeds_per_second as u64),
                rough(self.deliveries_per_second_per_core)
            ),
        )?;
        row(
            "time",
            format!(
                "{} of cluster life simulated, {} times faster than real",
                lasting(simulated),
                grouped(compression as u64)
            ),
        )?;
        row(
            "messages",
            format!(
                "{} delivered, {} events in all",
                grouped(totals.deliveries),
                grouped(totals.events)
            ),
        )?;
        row("trace hash", format!("{:032x}", totals.trace_hash))?;
        writeln!(out)?;
        let operations = format!("operations  {}", grouped(totals.operations));
        writeln!(out, "{}", style.paint(Ink::Strong, operations))?;
        chart(&totals.outcomes, totals.operations, style, out)?;
        let faults: u64 = totals.faults.values().sum();
        let heading = format!("faults  {}", grouped(faults));
        writeln!(out, "{}", style.paint(Ink::Strong, heading))?;
        chart(&totals.faults, faults, style, out)?;
        self.show_marks(style, out)
    }

    fn show_marks(&self, style: Style, out: &mut dyn Write) -> io::Result<()> {
        let all = self.totals.marks.len() - self.out_of_reach().len();
        let hit = all - self.marks_missed.len();
        let heading = format!("marks  {hit} of {all} hit");
        writeln!(out, "{}", style.paint(Ink::Strong, heading))?;
        let beyond = self.out_of_reach();
        let there = self.totals.marks.iter();
        let there = there.filter(|(name, count)| **count > 0 && !beyond.contains(&&***name));
        let mut rarest: Vec<_> = there.collect();
        rarest.sort_by_key(|(_, count)| **count);
        let few = all <= MARKS_SHOWN_MAX;
        let counts: Vec<String> = rarest
            .iter()
            .take(if few { MARKS_SHOWN_MAX } else { 5 })
            .map(|(name, count)| format!("{name} {}", grouped(**count)))
            .collect();
        if !counts.is_empty() {
            let counts = format!("{}{}", if few { "" } else { "rarest: " }, counts.join(", "));
            for line in wrapped(&counts, 96) {
                writeln!(out, "  {line}")?;
            }
        }
        if !self.marks_missed.is_empty() {
            let missed = format!("not hit: {}", self.marks_missed.join(", "));
            for line in wrapped(&missed, 96) {
                writeln!(out, "  {}", style.paint(Ink::Warn, line))?;
            }
        }
        Ok(())
    }
}

/// So many marks are all shown with their counts, the rarest first; of more only the rarest.
const MARKS_SHOWN_MAX: usize = 24;

/// Counts as bars, the largest first; what is zero is left out.
fn chart(
    counts: &std::collections::BTreeMap<String, u64>,
    whole: u64,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut counts: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let most = counts.first().map_or(0, |(_, count)| **count);
    for (name, count) in counts {
        writeln!(
            out,
            "  {name:<12} {:>13}  {:>7}  {}",
            grouped(*count),
            percent(*count, whole),
            style.paint(Ink::Good, bar(*count, most, 30))
        )?;
    }
    writeln!(out)
}

/// `text` in lines of at most `width` characters, broken at blanks.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrapped("aa bb cc", 5), ["aa bb", "cc"]);
    }
}
