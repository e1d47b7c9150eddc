//! Log lines that strangers can provoke, at a bounded rate.
//!
//! Must never know: what the lines say.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// So many lines in each period.
const LINES: u32 = 20;
const PERIOD: Duration = Duration::from_secs(10);

/// How long the same is not said again.
const REMIND: Duration = Duration::from_secs(60);

/// So many reasons are told apart.
const REASONS: usize = 64;

/// Says what goes on for the same reason once, and then once a minute.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    /// When each was last said, and how often not since.
    said: RefCell<BTreeMap<String, (Instant, u64)>>,
    /// Of too many reasons.
    quiet: Quiet,
}

impl Reasons {
    /// Has the line said, with what to append to it, unless that was done for this reason.
    pub(crate) fn say(&self, why: &str, line: impl FnOnce(&str)) {
        let now = Instant::now();
        let mut said = self.said.borrow_mut();
        match said.get_mut(why) {
            Some((last, kept)) if now - *last < REMIND => *kept += 1,
            Some((last, kept)) => {
                let more = match std::mem::take(kept) {
                    0 => String::new(),
                    kept => format!(" (and {kept} times more since it was last said)"),
                };
                *last = now;
                line(&more);
            }
            None => {
                if said.len() >= REASONS {
                    said.retain(|_, (last, _)| now - *last < REMIND);
                }
                if said.len() < REASONS {
                    said.insert(why.to_owned(), (now, 0));
                }
                self.quiet.say(line);
            }
        }
    }

    /// Whatever was, is over: the next time is the first.
    pub(crate) fn forget(&self) {
        self.said.borrow_mut().clear();
    }
}

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
