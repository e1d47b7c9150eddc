//! Log lines that strangers can provoke, at a bounded rate.
//!
//! Must never know: what the lines say.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// So many lines in each period.
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// Lets some lines through, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    since: Cell<Option<Instant>>,
    said: Cell<u32>,
    kept: Cell<u64>,
}

impl Quiet {
    /// Has the line said, with what to append to it, unless too many were.
    pub(crate) fn say(&self, line: impl FnOnce(&str)) {
        let now = Instant::now();
        if self.since.get().is_none_or(|since| now - since >= PERIOD) {
            self.since.set(Some(now));
            self.said.set(0);
        }
        if self.said.get() >= LINES {
            return self.kept.set(self.kept.get() + 1);
        }
        self.said.set(self.said.get() + 1);
        match self.kept.replace(0) {
            0 => line(""),
            kept => line(&format!(" (and {kept} such lines before it were left out)")),
        }
    }
}
