//! What a run came to, for people and for programs.
//!
//! Must never know: how it was brought about.

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::measure::{Endings, Gaps, Spread};
use super::{Counts, Options, merged, primary};
use crate::report::style::{Ink, Style, grouped, lasting, percent};

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Stopped by whoever started it, and nothing wrong until then.
    Interrupted,
    /// Every answer can be explained, and everything acknowledged is there.
    Linearizable,
    /// A healed cluster did not do its work.
    NoProgress,
    /// The judge could not tell.
    Unknown,
    /// Something was answered, lost or ended that must not have been.
    Violation,
}

/// Everything that is known of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What clients asked and what went wrong.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u16,
    /// How many clients.
    pub clients: u32,
    /// Where they kept their state.
    pub store: &'static str,
    /// How they reached each other.
    pub network: &'static str,
    /// How many clusters, one after the other.
    pub rounds: u64,
    /// Questions answered.
    pub operations: u64,
    /// Of them, changes with an outcome that nobody knows.
    pub unknown: u64,
    /// Answers that were judged.
    pub judged: u64,
    /// Local reads that were checked.
    pub local_reads: u64,
    /// What was found of the merged table.
    pub merged: merged::Found,
    /// What was found of the primary table.
    pub primary: primary::Found,
    /// How long the primary table took to go on, after each kill of its primary.
    pub failovers: Option<Spread>,
    /// Sessions opened.
    pub sessions: u64,
    /// Writes of keys of their own that were acknowledged, and looked for at the end.
    pub acknowledged: u64,
    /// Times that a cluster was healed and searched for what was acknowledged, while it went on.
    pub searches: u64,
    /// How long after the end keys were still bound to something that had ended.
    pub ends_ms: u64,
    /// What was done.
    pub counts: Counts,
    /// What kills cost.
    pub gaps: Option<Gaps>,
    /// How long keys outlive what they are bound to.
    pub endings: Option<Endings>,
    /// What must not have happened.
    pub failures: Vec<String>,
    /// What a healed cluster did not do.
    pub stuck: Vec<String>,
    /// What the judge could not tell.
    pub undecided: Vec<String>,
    /// Whether it was stopped early.
    pub interrupted: bool,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            seed: options.seed,
            nodes: options.nodes,
            clients: options.clients,
            store: options.store.name(),
            network: "",
            rounds: 0,
            operations: 0,
            unknown: 0,
            judged: 0,
            local_reads: 0,
            merged: merged::Found::default(),
            primary: primary::Found::default(),
            failovers: None,
            sessions: 0,
            acknowledged: 0,
            searches: 0,
            ends_ms: 0,
            counts: Counts::default(),
            gaps: None,
            endings: None,
            failures: Vec::new(),
            stuck: Vec::new(),
            undecided: Vec::new(),
            interrupted: false,
            seconds: 0.0,
        }
    }

    pub(super) fn crashed(&mut self, why: String) {
        self.failures.push(why);
    }

    pub(super) fn stuck(&mut self, why: String) {
        self.stuck.push(why);
    }

    /// Whether nothing is wrong so far.
    #[must_use]
    pub const fn is_fine(&self) -> bool {
        self.failures.is_empty() && self.stuck.is_empty() && self.undecided.is_empty()
    }

    /// How it went: the worst first.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        if !self.failures.is_empty() {
            Verdict::Violation
        } else if !self.stuck.is_empty() {
            Verdict::NoProgress
        } else if !self.undecided.is_empty() {
            Verdict::Unknown
        } else if self.interrupted {
            Verdict::Interrupted
        } else {
            Verdict::Linearizable
        }
    }

    /// Shows it.
    ///
    /// # Errors
    /// Whatever `out` reports.
    pub fn show(&self, style: Style, out: &mut dyn Write) -> io::Result<()> {
        let (ink, words) = match self.verdict() {
            Verdict::Interrupted => (Ink::Warn, "STOPPED, nothing wrong until then"),
            Verdict::Linearizable => (Ink::Good, "LINEARIZABLE"),
            Verdict::NoProgress => (Ink::Bad, "NO PROGRESS"),
            Verdict::Unknown => (Ink::Bad, "UNKNOWN"),
            Verdict::Violation => (Ink::Bad, "VIOLATION"),
        };
        writeln!(
            out,
            "{}  {} processes on {}, store {}, {} clients, seed {}, {}",
            style.paint(ink, words),
            self.nodes,
            self.network,
            self.store,
            self.clients,
            self.seed,
            lasting(Duration::from_secs_f64(self.seconds)),
        )?;
        let row = |out: &mut dyn Write, name: &str, text: String| {
            writeln!(out, "  {}  {text}", style.paint(Ink::Dim, format!("{name:<12}")))
        };
        row(out, "asked", self.asked())?;
        row(out, "done to them", self.done())?;
        row(out, "judged", self.found())?;
        if self.merged.writes > 0 {
            row(out, "merged", self.found_of_copies())?;
        }
        if self.primary.writes > 0 {
            row(out, "primary", self.found_of_orders())?;
        }
        if let Some(failovers) = &self.failovers {
            row(out, "fail-overs", format!("{failovers}, from kill -9 to an acknowledged write"))?;
        }
        if let Some(gaps) = &self.gaps {
            let (after, before) = (&gaps.after_a_kill, &gaps.before_a_kill);
            row(out, "no put for", format!("{after} after a kill -9"))?;
            row(out, "", format!("{before} in as long before it"))?;
        }
        if let Some(endings) = &self.endings {
            let Endings { session_closed, client_died, node_died } = endings;
            row(out, "key gone", format!("{session_closed} after its session was closed"))?;
            row(out, "", format!("{client_died} after its owner died, without grace time"))?;
            row(out, "", format!("{node_died} after the host of its session was killed -9"))?;
        }
        for (ink, lines) in
            [(Ink::Bad, &self.failures), (Ink::Bad, &self.stuck), (Ink::Warn, &self.undecided)]
        {
            for line in lines.iter().take(LINES_MAX) {
                writeln!(out, "  {}", style.paint(ink, line))?;
            }
            if lines.len() > LINES_MAX {
                writeln!(out, "  … and {} more", lines.len() - LINES_MAX)?;
            }
        }
        Ok(())
    }

    fn asked(&self) -> String {
        let rate = self.operations as f64 / self.seconds.max(0.001);
        format!(
            "{} operations, {} a second; {} changes ({}) of unknown outcome; {} sessions",
            grouped(self.operations),
            grouped(rate as u64),
            grouped(self.unknown),
            percent(self.unknown, self.operations),
            grouped(self.sessions),
        )
    }

    fn done(&self) -> String {
        let counts = &self.counts;
        let all = [
            (counts.kills, "killed -9"),
            (counts.pauses, "stopped and let go on"),
            (counts.cuts, "cuts"),
            (counts.resets, "resets"),
            (counts.delays, "delays"),
            (counts.fulls, "full disks"),
            (counts.full_stops, "stops for want of room"),
        ];
        let said: Vec<String> = all
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", grouped(*count)))
            .collect();
        if said.is_empty() { String::from("nothing") } else { said.join(", ") }
    }

    fn found(&self) -> String {
        if self.store == "memory" {
            return format!(
                "{} answers and {} local reads, of {} clusters one after the other; whoever was \
                 killed had forgotten everything, said so and took no part",
                grouped(self.judged),
                grouped(self.local_reads),
                grouped(self.rounds),
            );
        }
        format!(
            "{} answers and {} local reads; {} acknowledged writes of once-written keys looked for \
             at every node at the end{}",
            grouped(self.judged),
            grouped(self.local_reads),
            grouped(self.acknowledged),
            if self.searches > 0 {
                format!(", and {} times on the way", self.searches)
            } else {
                String::new()
            },
        )
    }

    fn found_of_orders(&self) -> String {
        let primary::Found { writes, refused, unknown, reads, linearizable, .. } = self.primary;
        let primary::Found { repeated, reigns, longest_ms, .. } = self.primary;
        format!(
            "{} writes in one order over {} reigns, {} without effect, {} of unknown outcome, {} \
             asked again once answered; {} reads show its states, {} of them linearizable; the \
             longest answer took {longest_ms:.0} ms",
            grouped(writes),
            grouped(reigns),
            grouped(refused),
            grouped(unknown),
            grouped(repeated),
            grouped(reads),
            grouped(linearizable),
        )
    }

    fn found_of_copies(&self) -> String {
        let merged::Found { writes, excused, reads, conflicts, equal_ms } = self.merged;
        format!(
            "{} acknowledged writes ({} beside one of unknown outcome) and {} answers judged; all \
             copies equal {} ms after healing, {} keys in conflict",
            grouped(writes),
            percent(excused, writes),
            grouped(reads),
            grouped(equal_ms),
            grouped(conflicts),
        )
    }
}

const LINES_MAX: usize = 10;
