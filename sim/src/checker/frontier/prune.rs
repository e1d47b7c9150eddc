//! Which configurations need not be kept, for another that is kept can do all that they can.
//!
//! Must never know: how configurations are found.

use super::{Config, Frontier};
use crate::checker::case::{ABSENT, Case, NONE};
use crate::history::Binds;

impl<const N: usize> Frontier<N> {
    /// Whether going to `state` lets anything in flight be taken that the present state does not.
    pub(super) fn helps(&self, case: &Case, config: &Config<N>, next: &Config<N>) -> bool {
        if case.tracked || case.appends {
            return true;
        }
        let from = case.states[config.state as usize].val;
        let to = case.states[next.state as usize];
        // A round trip: what it overwrote on the way may be taken to have happened.
        if (from == to.val || from == ABSENT && to.down <= self.time)
            && !next.free.minus(config.free).is_empty()
        {
            return true;
        }
        if self.opens(case, config, from, to.val) {
            return true;
        }
        // On the way to "absent" by way of an entry that may vanish.
        if to.down <= self.time
            && from != ABSENT
            && case.states[config.state as usize].down > self.time
            && self.opens(case, config, from, ABSENT)
        {
            return true;
        }
        // A live key lets writes that need one be taken after removes.
        to.val != ABSENT
            && !self.present.minus(config.done).is_empty()
            && !self.blind_removes.minus(config.done).minus(config.free).is_empty()
    }

    pub(super) fn opens(&self, case: &Case, config: &Config<N>, from: u32, to: u32) -> bool {
        let mask = &self.masks[to as usize];
        let others = self.others.minus(mask.others);
        let writes = mask.writes.minus(self.futile);
        if !mask.reads.or(writes).or(others).minus(config.done).is_empty() {
            return true;
        }
        if from == ABSENT && to != ABSENT && !self.present.minus(config.done).is_empty() {
            return true;
        }
        let mut class = case.vals[to as usize].class;
        while class != NONE {
            if self.available[class as usize] > 0 {
                return true;
            }
            class = case.classes[class as usize].next;
        }
        false
    }

    /// The state under which configurations are compared: one for all values that nobody will
    /// mention again.
    pub(super) fn rank(&self, case: &Case, config: &Config<N>) -> u32 {
        let state = &case.states[config.state as usize];
        let info = &case.vals[state.val as usize];
        if !info.unique
            || case.tracked
            || state.val == ABSENT
            || state.binds != Binds::NONE
            || state.tag != NONE
            || info.lo_all > self.time
            || info.class != NONE
        {
            return config.state;
        }
        let mask = &self.masks[state.val as usize];
        let mentions = mask.reads.or(mask.writes).or(mask.others);
        if mentions.minus(config.done).is_empty() { NONE } else { config.state }
    }

    /// Drops every configuration that another one can stand in for.
    pub(super) fn prune(&mut self, case: &Case) {
        let mut configs = std::mem::take(&mut self.configs);
        let mut ranked: Vec<(u32, Config<N>)> =
            configs.iter().map(|config| (self.rank(case, config), *config)).collect();
        // What can stand in for others comes first.
        ranked.sort_by_cached_key(|(rank, config)| {
            (
                *rank,
                config.life,
                self.uses.total(config.used),
                !config.free.len(),
                !config.done.len(),
            )
        });
        ranked.dedup_by(|(rank_a, a), (rank_b, b)| {
            let like = |c: &Config<N>| (c.done, c.free, c.life, c.used);
            rank_a == rank_b && like(a) == like(b)
        });
        configs.clear();
        let mut start = 0;
        let mut group = (NONE, 0, false);
        for (rank, config) in ranked {
            if (rank, config.life, true) != group {
                group = (rank, config.life, true);
                start = configs.len();
            }
            // Comparing each with each is worth it only while there are few.
            let window = &configs[start..configs.len().min(start + 512)];
            if !window.iter().any(|better| self.covers(better, &config)) {
                configs.push(config);
            }
        }
        self.configs = configs;
    }

    /// Whether whatever can follow `b` can follow `a`; both are in equivalent states.
    pub(super) fn covers(&self, a: &Config<N>, b: &Config<N>) -> bool {
        let reads_a = a.done.or(a.free).and(self.reads);
        let reads_b = b.done.or(b.free).and(self.reads);
        if !reads_b.within(reads_a) {
            return false;
        }
        let writes = self.in_flight.minus(self.reads);
        let chosen = writes.minus(a.free);
        let same = a.done.and(chosen) == b.done.and(chosen);
        same && b.free.and(writes).within(a.free) && self.uses.within(a.used, b.used)
    }

    pub(super) fn narrow(&mut self, width: usize) {
        let uses = &self.uses;
        self.configs.sort_by_cached_key(|config| {
            (uses.total(config.used), !config.free.len(), !config.done.len())
        });
        self.configs.truncate(width);
    }
}
