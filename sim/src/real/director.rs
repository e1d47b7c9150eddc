//! Does to a cluster what a schedule says, and undoes it.
//!
//! Must never know: what clients ask.

mod failovers;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::ledger;
use super::record::{Disturbances, Nanos};
use super::room;
use super::schedule::{Schedule, Trouble};
use super::workload::Shared;
use super::{Counts, Options, Progress, Watcher};

/// What is under way.
struct Active {
    until: Instant,
    since: Nanos,
    trouble: Trouble,
}

/// How long after a fault its consequences may still show: links have to be found dead and made
/// anew before nodes hear of each other.
const AFTERMATH: Nanos = 15_000_000_000;

/// After so many kills it is looked for what was acknowledged.
const BATCH: u64 = 50;

/// What was done to one cluster.
pub(super) struct Director<'a> {
    shared: &'a Shared,
    options: &'a Options,
    active: Vec<Active>,
    /// By how many faults each node is kept away, or stands still.
    away: BTreeMap<u16, u32>,
    still: BTreeMap<u16, u32>,
    full: BTreeMap<u16, u32>,
    /// How often what was done, over all rounds.
    pub(super) counts: Counts,
    /// When others may have given up whom.
    pub(super) disturbances: Disturbances,
    /// When processes were killed.
    pub(super) kill_times: Vec<Nanos>,
    /// When a node could not do anything, though its process was there.
    pub(super) still_times: Vec<(u16, Nanos, Nanos)>,
    /// From each kill of a primary to the first write that was acknowledged after it.
    takeovers: Vec<Nanos>,
    killed: Vec<u16>,
    /// When each fault began and ended.
    pub(super) times: Vec<(Nanos, Nanos)>,
    /// How often, after how many kills, and for how many writes it was looked for what was
    /// acknowledged.
    pub(super) searches: u64,
    searched_at: u64,
    searched: usize,
    /// What must not have happened.
    pub(super) failures: Vec<String>,
}

impl<'a> Director<'a> {
    pub(super) fn new(shared: &'a Shared, options: &'a Options, counts: Counts) -> Self {
        Self {
            shared,
            options,
            active: Vec::new(),
            away: BTreeMap::new(),
            still: BTreeMap::new(),
            full: BTreeMap::new(),
            counts,
            disturbances: Disturbances::default(),
            kill_times: Vec::new(),
            still_times: Vec::new(),
            takeovers: Vec::new(),
            killed: Vec::new(),
            times: Vec::new(),
            searches: 0,
            searched_at: counts.kills,
            searched: 0,
            failures: Vec::new(),
        }
    }

    /// The nodes that were killed, in order.
    pub(super) fn killed(&self) -> &[u16] {
        &self.killed
    }

    /// Follows the schedule for as long as the options say, or until something is wrong.
    pub(super) fn direct(
        &mut self,
        cluster: &mut Cluster,
        mut schedule: Schedule,
        over: &dyn Fn() -> bool,
        watcher: &mut dyn Watcher,
    ) {
        let begin = Instant::now();
        let mut next = schedule.next();
        let mut due = begin + next.as_ref().map_or(Duration::ZERO, |fault| fault.after);
        while !over() && self.failures.is_empty() && !self.is_done(begin) {
            let now = Instant::now();
            if now >= due
                && let Some(fault) = next.take()
            {
                self.begin(cluster, fault.trouble, now + fault.lasts);
                next = schedule.next();
                due = now + next.as_ref().map_or(Duration::ZERO, |fault| fault.after);
            }
            self.end_what_is_over(cluster, now);
            self.look_after(cluster);
            if self.is_time_to_search() {
                self.search(cluster, over, watcher);
                due = Instant::now() + Duration::from_millis(100);
            }
            watcher.tick(&self.progress(begin));
            thread::sleep(Duration::from_millis(5));
        }
        if self.options.kills.is_some() && self.memory() {
            // What follows the last kill is to be seen, too.
            thread::sleep(Duration::from_millis(300));
        }
    }

    const fn memory(&self) -> bool {
        matches!(self.options.store, super::Store::Memory)
    }

    fn is_done(&self, begin: Instant) -> bool {
        if self.memory() && !self.killed.is_empty() {
            // More than half are without a past now, and the cluster is at its end.
            let mut lost = self.killed.clone();
            lost.sort_unstable();
            lost.dedup();
            if lost.len() > usize::from(self.options.nodes) / 2 {
                return true;
            }
        }
        match self.options.kills {
            Some(kills) => self.counts.kills >= kills,
            None => begin.elapsed() >= self.options.time,
        }
    }

    fn is_time_to_search(&self) -> bool {
        let crashing = self.options.kills.is_some() && !self.memory();
        crashing && self.counts.kills >= self.searched_at + BATCH
    }

    /// Heals the cluster under way, and looks for every write that was acknowledged since it was
    /// last done, at every node. Clients go on.
    fn search(
        &mut self,
        cluster: &mut Cluster,
        over: &dyn Fn() -> bool,
        watcher: &mut dyn Watcher,
    ) {
        self.searched_at = self.counts.kills;
        self.heal(cluster);
        let written = self.shared.ledger(self.searched);
        let found = cluster.wait_ready(super::SETTLE, over).and_then(|()| {
            let nodes =
                cluster.numbers().map(|node| ledger::missing(cluster, node, &written, over));
            nodes.collect::<Result<Vec<_>, String>>()
        });
        match found {
            Ok(missing) => self.failures.extend(missing.into_iter().flatten()),
            Err(why) if over() => drop(why),
            Err(why) => self.failures.push(format!("after {} kills: {why}", self.counts.kills)),
        }
        self.searched += written.len();
        self.searches += 1;
        watcher.say(&format!(
            "{} kills: {} writes acknowledged since the last look, at every node {}",
            self.counts.kills,
            written.len(),
            if self.failures.is_empty() { "all there" } else { "NOT all there" },
        ));
    }

    fn progress(&self, begin: Instant) -> Progress {
        let thousandths = match self.options.kills {
            Some(kills) => self.counts.kills * 1_000 / kills.max(1),
            None => {
                let time = self.options.time.as_millis().max(1);
                (begin.elapsed().as_millis() * 1_000 / time) as u64
            }
        };
        Progress {
            thousandths: thousandths.min(1_000),
            elapsed: begin.elapsed(),
            operations: self.shared.operations.load(Ordering::Relaxed),
            unknown: self.shared.unknown.load(Ordering::Relaxed),
            counts: self.counts,
            troubles: self.active.iter().map(|active| active.trouble.to_string()).collect(),
        }
    }

    fn begin(&mut self, cluster: &mut Cluster, trouble: Trouble, until: Instant) {
        cluster.remark(&trouble.to_string());
        let since = self.shared.now();
        match &trouble {
            Trouble::Cut(ways) => {
                self.counts.cuts += 1;
                let cut = cluster.network().cut(ways, true);
                self.failures.extend(cut.err().map(|error| format!("{trouble}: {error}")));
            }
            Trouble::Delay(ways, by) => {
                self.counts.delays += 1;
                cluster.network().delay(ways, *by);
            }
            Trouble::Full(node) => {
                self.counts.fulls += 1;
                *self.full.entry(*node).or_default() += 1;
                room::fill(cluster.data(*node));
            }
            Trouble::Kill(nodes) => {
                for node in nodes {
                    *self.away.entry(*node).or_default() += 1;
                    if cluster.kill(*node) {
                        self.counts.kills += 1;
                        self.kill_times.push(self.shared.now());
                        self.killed.push(*node);
                    }
                }
            }
            Trouble::Pause(nodes) => {
                for node in nodes {
                    *self.still.entry(*node).or_default() += 1;
                    self.counts.pauses += u64::from(cluster.is_running(*node));
                    cluster.pause(*node, true);
                }
            }
            Trouble::Reset(ways) => {
                self.counts.resets += 1;
                cluster.network().refuse(ways, true);
            }
        }
        self.active.push(Active { until, since, trouble });
    }

    fn end_what_is_over(&mut self, cluster: &mut Cluster, now: Instant) {
        let (over, active) =
            std::mem::take(&mut self.active).into_iter().partition(|active| active.until <= now);
        self.active = active;
        for active in over {
            self.end(cluster, active);
        }
    }

    fn end(&mut self, cluster: &mut Cluster, active: Active) {
        let lift = |counts: &mut BTreeMap<u16, u32>, node: u16| {
            let count = counts.entry(node).or_default();
            *count = count.saturating_sub(1);
            *count == 0
        };
        match &active.trouble {
            Trouble::Cut(ways) => {
                let healed = cluster.network().cut(ways, false);
                let failed =
                    healed.err().map(|error| format!("healing {}: {error}", active.trouble));
                self.failures.extend(failed);
            }
            Trouble::Delay(ways, _) => cluster.network().delay(ways, Duration::ZERO),
            Trouble::Full(node) => {
                if lift(&mut self.full, *node) {
                    room::free(cluster.data(*node));
                    self.restart(cluster, *node);
                }
            }
            Trouble::Kill(nodes) => {
                for node in nodes {
                    if lift(&mut self.away, *node) {
                        self.restart(cluster, *node);
                    }
                }
            }
            Trouble::Pause(nodes) => {
                for node in nodes {
                    if lift(&mut self.still, *node) {
                        cluster.pause(*node, false);
                    }
                }
            }
            Trouble::Reset(ways) => cluster.network().refuse(ways, false),
        }
        cluster.remark(&format!("end of {}", active.trouble));
        let now = self.shared.now();
        self.times.push((active.since, now));
        let mut hit = active.trouble.nodes();
        if matches!(active.trouble, Trouble::Full(_) | Trouble::Pause(_)) {
            self.still_times.extend(hit.iter().map(|node| (*node, active.since, now)));
        }
        hit.sort_unstable();
        hit.dedup();
        // Where most are hit, the others are alone.
        if hit.len() * 2 > usize::from(self.options.nodes) {
            hit = cluster.numbers().collect();
        }
        for node in hit {
            self.disturbances.note(node, active.since, now + AFTERMATH);
        }
    }

    fn restart(&mut self, cluster: &mut Cluster, node: u16) {
        let kept = |counts: &BTreeMap<u16, u32>| counts.get(&node).is_some_and(|count| *count > 0);
        if kept(&self.away) || kept(&self.full) {
            return;
        }
        if let Err(error) = cluster.start(node) {
            self.failures.push(format!("node {node} cannot be started again: {error}"));
        } else if kept(&self.still) {
            // Whoever stands still does so as another process, too.
            cluster.pause(node, true);
        }
    }

    /// No node ends by itself, but when its disk is full.
    fn look_after(&mut self, cluster: &mut Cluster) {
        for (node, status) in cluster.ended() {
            let words = cluster.last_words(node);
            let full = self.full.get(&node).is_some_and(|count| *count > 0);
            if full && status.code() == Some(2) {
                self.counts.full_stops += 1;
            } else {
                self.failures.push(format!("node {node} has ended by itself, {status}: {words}"));
            }
        }
    }

    /// Ends every fault, and starts every node that does not run.
    pub(super) fn heal(&mut self, cluster: &mut Cluster) {
        self.look_after(cluster);
        for active in std::mem::take(&mut self.active) {
            self.end(cluster, active);
        }
        for node in cluster.numbers() {
            cluster.pause(node, false);
            self.restart(cluster, node);
        }
    }
}
