//! Fail-overs of the primary table, one after the other: its primary is killed, and started again
//! once a write was acknowledged without it.
//!
//! Must never know: what is written.

use std::thread;
use std::time::{Duration, Instant};

use super::super::cluster::Cluster;
use super::super::measure::Spread;
use super::super::primary;
use super::super::schedule::Trouble;
use super::super::{SETTLE, Watcher};
use super::Director;
use crate::chooser::Seeded;

/// How long a table may be without a primary, with a majority of nodes up and in touch.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so many it is said how it goes.
const BATCH: u64 = 50;

impl Director<'_> {
    /// Kills whoever is primary, as soon as everybody is in sync, as often as the options say.
    ///
    /// # Errors
    /// What a cluster that ought to do its work did not do.
    pub(in super::super) fn fail_over(
        &mut self,
        cluster: &mut Cluster,
        seed: u64,
        over: &dyn Fn() -> bool,
        watcher: &mut dyn Watcher,
    ) -> Result<(), String> {
        let begin = Instant::now();
        let mut draws = Seeded::new(seed);
        let wanted = self.options.kills.unwrap_or(1);
        while self.counts.kills < wanted && self.failures.is_empty() && !over() {
            let mut leader = None;
            let ready = self.wait(cluster, begin, SETTLE, over, watcher, |_, cluster| {
                leader = primary::leader(cluster);
                leader.is_some_and(|(_, _, in_sync)| in_sync == cluster.numbers().count())
            });
            let Some((node, reign, _)) = leader.filter(|_| ready) else {
                return self.ended(over, format!("not all in sync after {SETTLE:?}: {leader:?}"));
            };
            thread::sleep(Duration::from_millis(draws.below(200)));
            let killed = self.shared.now();
            self.begin(cluster, Trouble::Kill(vec![node]), Instant::now() + PATIENCE * 2);
            let again = self.wait(cluster, begin, PATIENCE, over, watcher, |director, _| {
                director.shared.acknowledged_after(reign).is_some()
            });
            let first = self.shared.acknowledged_after(reign);
            self.heal(cluster);
            let Some(first) = first.filter(|_| again) else {
                let why =
                    format!("no write acknowledged {PATIENCE:?} after the primary was killed");
                return self.ended(over, why);
            };
            self.takeovers.push(first.saturating_sub(killed));
            if self.counts.kills.is_multiple_of(BATCH) {
                watcher.say(&format!("{} fail-overs: {}", self.counts.kills, self.taken_over()));
            }
        }
        Ok(())
    }

    /// How long they took.
    pub(in super::super) fn taken_over(&self) -> Spread {
        Spread::of(self.takeovers.clone())
    }

    fn ended(&self, over: &dyn Fn() -> bool, why: String) -> Result<(), String> {
        let stopped = over() || !self.failures.is_empty();
        if stopped { Ok(()) } else { Err(why) }
    }

    /// Waits until something is so; whether it came to be in time.
    fn wait(
        &mut self,
        cluster: &mut Cluster,
        begin: Instant,
        within: Duration,
        over: &dyn Fn() -> bool,
        watcher: &mut dyn Watcher,
        mut is_so: impl FnMut(&Self, &Cluster) -> bool,
    ) -> bool {
        let until = Instant::now() + within;
        while !over() && self.failures.is_empty() && Instant::now() < until {
            if is_so(self, cluster) {
                return true;
            }
            self.look_after(cluster);
            watcher.tick(&self.progress(begin));
            thread::sleep(Duration::from_millis(5));
        }
        false
    }
}
