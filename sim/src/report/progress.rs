//! What is shown while a campaign runs: a live picture on a terminal, a line now and then elsewhere.
//!
//! Must never know: how runs are made. It is looked at from outside, some ten times a second.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::style::{Ink, Style, bar, grouped, lasting, rough};
use crate::campaign::{Found, Totals, Watcher};
use crate::world::Report;

/// When to show progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// A live picture on a terminal, a line every ten seconds elsewhere
    #[default]
    Auto,
    /// A line every ten seconds
    Lines,
    /// Nothing
    Never,
}

/// How far a campaign is to go.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// So many seeds.
    Seeds(u64),
    /// For so long.
    Time(Duration),
}

/// Shows progress on standard error.
pub struct Progress {
    goal: Goal,
    kind: Kind,
    /// Notes each run's trace hash, when asked to.
    hashes: Option<Vec<(u64, u128)>>,
}

enum Kind {
    Lines { next: Duration },
    Live { bar: ProgressBar, next: Duration },
    Nothing,
}

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Between two pictures.
const PICTURE_EVERY: Duration = Duration::from_millis(100);

impl Progress {
    /// Shows progress towards `goal`.
    #[must_use]
    pub fn new(show: Show, goal: Goal) -> Self {
        let kind = match show {
            Show::Auto if io::stderr().is_terminal() => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                let style = ProgressStyle::with_template("{msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
                Kind::Live { bar, next: Duration::ZERO }
            }
            Show::Auto | Show::Lines => Kind::Lines { next: LINE_EVERY },
            Show::Never => Kind::Nothing,
        };
        Self { goal, kind, hashes: None }
    }

    /// Notes each run's trace hash, too.
    #[must_use]
    pub fn noting_hashes(self) -> Self {
        Self { hashes: Some(Vec::new()), ..self }
    }

    /// Takes the picture away; the trace hashes noted.
    #[must_use]
    pub fn finish(self) -> Vec<(u64, u128)> {
        if let Kind::Live { bar, .. } = &self.kind {
            bar.finish_and_clear();
        }
        self.hashes.unwrap_or_default()
    }

    /// How much of the goal is reached, in thousandths, and in words.
    fn reached(&self, totals: &Totals, elapsed: Duration) -> (u64, String) {
        match self.goal {
            Goal::Seeds(seeds) => {
                let thousandths = u128::from(totals.seeds) * 1_000 / u128::from(seeds.max(1));
                let words = format!("{} of {} seeds", grouped(totals.seeds), grouped(seeds));
                (thousandths as u64, words)
            }
            Goal::Time(time) => {
                let thousandths = elapsed.as_millis() * 1_000 / time.as_millis().max(1);
                let words = format!("{} of {}", lasting(elapsed), lasting(time));
                (thousandths.min(1_000) as u64, words)
            }
        }
    }

    fn picture(&self, totals: &Totals, found: &[Found], elapsed: Duration) -> String {
        let style = Style::of_stdout();
        let (thousandths, words) = self.reached(totals, elapsed);
        let seconds = elapsed.as_secs_f64().max(0.001);
        let simulated = Duration::from_micros(totals.simulated_micros);
        let hit = totals.marks.values().filter(|count| **count > 0).count();
        let mut faults: Vec<_> = totals.faults.iter().filter(|(_, count)| **count > 0).collect();
        faults.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let faults: Vec<String> = faults
            .iter()
            .take(5)
            .map(|(name, count)| format!("{name} {}", rough(**count as f64)))
            .collect();
        let mut text = format!(
            "{}  {words}\n  {} seeds/s   {} deliveries/s   {} simulated\n  {} operations   {}\n  \
             marks {hit} of {}",
            style.paint(Ink::Good, format!("▕{:<40}▏", bar(thousandths, 1_000, 40))),
            grouped((totals.seeds as f64 / seconds) as u64),
            rough(totals.deliveries as f64 / seconds),
            lasting(simulated),
            grouped(totals.operations),
            style.paint(Ink::Dim, faults.join("   ")),
            totals.marks.len(),
        );
        if let Some(first) = found.first() {
            let line = format!("\n  {} failing; first: {}", totals.failures, first.signature);
            text.push_str(&style.paint(Ink::Bad, line));
        }
        text
    }
}

impl Watcher for Progress {
    fn tick(&mut self, totals: &Totals, found: &[Found], elapsed: Duration) {
        match &self.kind {
            Kind::Live { bar, next } if elapsed >= *next => {
                bar.set_message(self.picture(totals, found, elapsed));
                bar.tick();
            }
            Kind::Lines { next } if elapsed >= *next => {
                let (_, words) = self.reached(totals, elapsed);
                let rate = totals.seeds as f64 / elapsed.as_secs_f64();
                let _ = writeln!(
                    io::stderr(),
                    "{words}; {} seeds, {} seeds/s, {} failing",
                    grouped(totals.seeds),
                    grouped(rate as u64),
                    totals.failures
                );
            }
            Kind::Lines { .. } | Kind::Live { .. } | Kind::Nothing => return,
        }
        match &mut self.kind {
            Kind::Live { next, .. } => *next = elapsed + PICTURE_EVERY,
            Kind::Lines { next } => *next = elapsed + LINE_EVERY,
            Kind::Nothing => {}
        }
    }

    fn run(&mut self, seed: u64, report: &Report) {
        if let Some(hashes) = &mut self.hashes {
            hashes.push((seed, report.trace_hash));
        }
    }
}
