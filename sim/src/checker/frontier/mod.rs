//! The general search: every state one key can be in, moment by moment.
//!
//! A configuration is a state and which of the operations in flight have taken effect. Nothing is
//! done until an operation returns; then the shortest sequences of operations in flight that end
//! with it are tried (Lowe's just-in-time linearization). No configuration left: no legal order.
//! What keeps the number of configurations small, and why each shortcut loses nothing, is told in
//! `docs/CHECKER.md`; the names used there are the names used here. The search knows one key, and
//! nothing of other keys, of files, or of how a verdict is shown.

mod prune;
mod slots;
mod steps;
mod trail;

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use super::case::{ABSENT, Case, Duty, Effect, Guard, NONE, Settle, Step};
use super::hash::Fixed;
use crate::history::{Binds, History, Time};
use slots::Slots;
pub(super) use trail::{Node, Taken};
use trail::{Trail, Uses};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Config<const N: usize> {
    done: Slots<N>,
    /// Overwrites in flight that may be taken to have happened just before an earlier one, with
    /// everything that saw them.
    free: Slots<N>,
    state: u32,
    /// The life the state belongs to (low 8 bits) and the lives that ended (above).
    life: u32,
    /// How many of each class of unknown outcome were used: a number of [`Uses`].
    used: u32,
    /// The path here: a number of [`Trail`].
    trail: u32,
}

/// How many lives of one key can be followed at once.
pub(super) const LIVES_MAX: usize = 24;

#[derive(Clone, Copy, Default)]
struct Masks<const N: usize> {
    /// Reads in flight that saw the value.
    reads: Slots<N>,
    /// Writes in flight that need the value.
    writes: Slots<N>,
    /// Reads in flight that saw anything else.
    others: Slots<N>,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most configurations kept after a return; beyond it some are dropped.
    pub(super) width: usize,
    /// Give up instead of dropping configurations.
    pub(super) strict: bool,
    /// Let operations of unknown outcome be used any number of times once called: every legal
    /// history stays legal, so that a *no* is still a no.
    pub(super) relaxed: bool,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The budget ran out, or the frontier was too wide, at this of [`Case::settles`].
    GaveUp { at: u32, width: usize },
    /// A legal order: see [`Frontier::path`].
    Order,
    /// No configuration was left at this of [`Case::settles`]. With `pruned` set configurations had
    /// been dropped before, and it proves nothing.
    Stuck { at: u32, pruned: bool },
}

#[derive(Clone, Copy)]
enum Goal {
    Deadline(u32),
    /// The slot was taken, and this state, its own, is left.
    Left(u32, u32),
    Taken(u32),
}

/// The search for one key, with its tables; reused from key to key.
pub(super) struct Frontier<const N: usize> {
    configs: Vec<Config<N>>,
    next: Vec<Config<N>>,
    stack: Vec<Config<N>>,
    seen: HashSet<Config<N>, BuildHasherDefault<Fixed>>,
    masks: Vec<Masks<N>>,
    /// Reads that saw "anything but".
    others: Slots<N>,
    /// Writes that need the key to be live.
    present: Slots<N>,
    /// Overwrites and removes without condition.
    blind: Slots<N>,
    blind_removes: Slots<N>,
    appends: Slots<N>,
    reads: Slots<N>,
    /// Overwrites that can be marked free, with the reads that saw them.
    freeable: Slots<N>,
    /// Writes whose value somebody is still to see: once taken they cannot be passed.
    pinned: Slots<N>,
    /// Of those, the ones that are no use because they would not meet the goal at hand.
    futile: Slots<N>,
    /// Overwrites of a value held only once, with everything that saw it in flight.
    passing: Slots<N>,
    in_flight: Slots<N>,
    step_at: Vec<u32>,
    slot_of: Vec<u32>,
    available: Vec<u32>,
    uses: Uses,
    trail: Trail,
    time: Time,
    at: u32,
    /// The widest frontier so far.
    pub(super) widest: usize,
}

impl<const N: usize> Default for Frontier<N> {
    fn default() -> Self {
        Self {
            configs: Vec::new(),
            next: Vec::new(),
            stack: Vec::new(),
            seen: HashSet::default(),
            masks: Vec::new(),
            others: Slots::default(),
            present: Slots::default(),
            blind: Slots::default(),
            blind_removes: Slots::default(),
            appends: Slots::default(),
            reads: Slots::default(),
            freeable: Slots::default(),
            pinned: Slots::default(),
            futile: Slots::default(),
            passing: Slots::default(),
            in_flight: Slots::default(),
            step_at: Vec::new(),
            slot_of: Vec::new(),
            available: Vec::new(),
            uses: Uses::default(),
            trail: Trail::default(),
            time: 0,
            at: 0,
            widest: 0,
        }
    }
}

impl<const N: usize> Frontier<N> {
    /// The path of the first configuration left, after [`Found::Order`].
    pub(super) fn path(&self, into: &mut Vec<Node>) {
        into.clear();
        into.extend_from_slice(&self.trail.common);
        if let Some(config) = self.configs.first() {
            self.trail.path(config.trail, into);
        }
    }

    fn reset(&mut self, case: &Case) {
        self.configs.clear();
        self.masks.clear();
        self.masks.resize(case.vals.len(), Masks::default());
        for mask in self.sets() {
            *mask = Slots::default();
        }
        self.step_at.resize(64 * N, NONE);
        self.slot_of.clear();
        self.slot_of.resize(case.steps.len(), NONE);
        self.available.clear();
        self.available.resize(case.classes.len(), 0);
        self.uses.reset();
        self.trail.nodes.clear();
        self.trail.common.clear();
        self.trail.compact_at = 256;
        self.widest = 1;
        self.configs.push(Config {
            done: Slots::default(),
            free: Slots::default(),
            state: case.initial,
            life: 0,
            used: 0,
            trail: NONE,
        });
    }

    /// Searches for a legal order of the case; `budget` counts down by configuration tried.
    pub(super) fn run(
        &mut self,
        history: &History,
        case: &mut Case,
        limits: Limits,
        budget: &mut u64,
    ) -> Found {
        self.reset(case);
        let mut call = 0;
        let mut pruned = false;
        for at in 0..case.settles.len() {
            let (time, what) = case.settles[at];
            while call < case.steps.len() && case.steps[call].call <= time {
                self.call(case, call as u32);
                call += 1;
            }
            self.time = time;
            self.at = at as u32;
            if !self.settle(history, case, what, limits, budget) {
                return Found::GaveUp { at: self.at, width: self.next.len() };
            }
            if self.configs.is_empty() {
                return Found::Stuck { at: self.at, pruned };
            }
            self.widest = self.widest.max(self.configs.len());
            if self.configs.len() > limits.width {
                if limits.strict {
                    return Found::GaveUp { at: self.at, width: self.configs.len() };
                }
                self.narrow(limits.width);
                pruned = true;
            }
            if self.trail.nodes.len() >= self.trail.compact_at {
                self.trail.compact(&mut self.configs);
            }
        }
        Found::Order
    }

    fn call(&mut self, case: &Case, number: u32) {
        let step = case.steps[number as usize];
        if let Duty::May(class) = step.duty {
            self.available[class as usize] += 1;
            return;
        }
        let slot = self.in_flight.lowest_unset().expect("the width was counted");
        let bit = Slots::bit(slot);
        self.in_flight = self.in_flight.or(bit);
        self.step_at[slot as usize] = number;
        self.slot_of[number as usize] = slot;
        if let Effect::Set(state) = step.effect {
            let info = &case.vals[case.states[state as usize].val as usize];
            if info.unique && info.lo > step.call {
                self.pinned = self.pinned.or(bit);
            }
        }
        match step.effect {
            Effect::Keep => self.call_read(case, step, bit),
            Effect::Append(_) => self.appends = self.appends.or(bit),
            Effect::Set(state) => match step.guard {
                Guard::Any => {
                    self.blind = self.blind.or(bit);
                    let val = case.states[state as usize].val;
                    if val == ABSENT {
                        self.blind_removes = self.blind_removes.or(bit);
                    }
                    if step.duty == Duty::Must {
                        self.free_when_seen(case, val, bit, step.call);
                    }
                }
                Guard::Is(val) => {
                    let mask = &mut self.masks[val as usize];
                    mask.writes = mask.writes.or(bit);
                    self.unpin(case, val, step.call);
                }
                Guard::Not(_) | Guard::Other(_) => self.present = self.present.or(bit),
                Guard::Never => {}
            },
        }
    }

    /// A write can be marked free when everything that saw its value has been called, so that it
    /// and they can all happen at one moment, and nothing depends on the value afterwards.
    fn free_when_seen(&mut self, case: &Case, val: u32, bit: Slots<N>, now: Time) {
        if case.tracked || case.appends {
            return;
        }
        let info = &case.vals[val as usize];
        if !info.unique {
            self.freeable = self.freeable.or(bit);
        } else if info.succ == NONE && info.lo <= now {
            self.freeable = self.freeable.or(bit).or(self.masks[val as usize].reads);
            self.passing = self.passing.or(bit);
        }
    }

    /// The last operation that saw the value may just have been called.
    fn unpin(&mut self, case: &Case, val: u32, now: Time) {
        let info = &case.vals[val as usize];
        if info.unique && info.lo <= now && info.writer != NONE {
            let slot = self.slot_of[info.writer as usize];
            if slot != NONE {
                self.pinned = self.pinned.minus(Slots::bit(slot));
            }
        }
    }

    fn call_read(&mut self, case: &Case, step: Step, bit: Slots<N>) {
        self.reads = self.reads.or(bit);
        match step.guard {
            Guard::Any => self.others = self.others.or(bit),
            Guard::Never => {}
            Guard::Is(val) => {
                let mask = &mut self.masks[val as usize];
                mask.reads = mask.reads.or(bit);
                self.unpin(case, val, step.call);
                let info = &case.vals[val as usize];
                if info.unique && info.lo <= step.call && info.writer != NONE {
                    let slot = self.slot_of[info.writer as usize];
                    let writer = case.steps[info.writer as usize];
                    if slot != NONE && writer.guard == Guard::Any && writer.duty == Duty::Must {
                        self.free_when_seen(case, val, Slots::bit(slot), step.call);
                    }
                }
            }
            Guard::Not(val) | Guard::Other(val) => {
                self.others = self.others.or(bit);
                let mask = &mut self.masks[val as usize];
                mask.others = mask.others.or(bit);
                if let Guard::Other(_) = step.guard {
                    let mask = &mut self.masks[ABSENT as usize];
                    mask.others = mask.others.or(bit);
                }
            }
        }
        for config in &mut self.configs {
            let val = case.states[config.state as usize].val;
            if Case::allows(step.guard, val) {
                config.done = config.done.or(bit);
            }
        }
    }

    /// The reads in flight that a value satisfies.
    fn satisfied(&self, val: u32) -> Slots<N> {
        let mask = &self.masks[val as usize];
        mask.reads.or(self.others.minus(mask.others))
    }

    fn is_met(&self, history: &History, case: &Case, goal: Goal, config: &Config<N>) -> bool {
        match goal {
            Goal::Taken(slot) => config.done.has(slot),
            Goal::Left(slot, state) => config.done.has(slot) && config.state != state,
            Goal::Deadline(number) => {
                let deadline = case.deadlines[number as usize];
                if deadline.life != 0 {
                    return config.life >> 8 & 1 << (deadline.life - 1) != 0;
                }
                let binds = case.states[config.state as usize].binds;
                binds == Binds::NONE || !history.bindings(binds).contains(&deadline.binding)
            }
        }
    }

    /// Advances past one return or deadline; false: the budget is spent.
    fn settle(
        &mut self,
        history: &History,
        case: &mut Case,
        what: Settle,
        limits: Limits,
        budget: &mut u64,
    ) -> bool {
        let mut slot = NONE;
        let mut gone = false;
        let goal = match what {
            Settle::Deadline(number) => Goal::Deadline(number),
            Settle::Step(number) => {
                let step = case.steps[number as usize];
                slot = self.slot_of[number as usize];
                gone = step.duty == Duty::GoneByEnd;
                match step.effect {
                    Effect::Set(state) if gone => Goal::Left(slot, state),
                    Effect::Append(_) | Effect::Keep | Effect::Set(_) => Goal::Taken(slot),
                }
            }
        };
        self.next.clear();
        let mut expanded = false;
        let configs = std::mem::take(&mut self.configs);
        for config in &configs {
            let met = self.is_met(history, case, goal, config);
            // An operation answered "a binding is down" may not have happened at all.
            if met || gone && !config.done.has(slot) {
                self.next.push(*config);
            }
            if !met {
                expanded = true;
                if !self.expand(history, case, *config, goal, limits, budget) {
                    self.configs = configs;
                    return false;
                }
            }
        }
        self.configs = configs;
        std::mem::swap(&mut self.configs, &mut self.next);
        if slot != NONE {
            self.release(case, what, slot);
        }
        if self.configs.len() > 1 && (expanded || self.configs.len() > 8) {
            self.prune(case);
        }
        true
    }

    /// The sets of slots that a slot can be in.
    fn sets(&mut self) -> [&mut Slots<N>; 10] {
        [
            &mut self.others,
            &mut self.present,
            &mut self.blind,
            &mut self.blind_removes,
            &mut self.appends,
            &mut self.reads,
            &mut self.freeable,
            &mut self.pinned,
            &mut self.passing,
            &mut self.in_flight,
        ]
    }

    fn release(&mut self, case: &Case, what: Settle, slot: u32) {
        let bit = Slots::bit(slot);
        for config in &mut self.configs {
            config.done = config.done.minus(bit);
            config.free = config.free.minus(bit);
        }
        for mask in self.sets() {
            *mask = mask.minus(bit);
        }
        let Settle::Step(number) = what else { return };
        self.slot_of[number as usize] = NONE;
        match case.steps[number as usize].guard {
            Guard::Any | Guard::Never => {}
            Guard::Is(val) | Guard::Not(val) | Guard::Other(val) => {
                for val in [val, ABSENT] {
                    let mask = &mut self.masks[val as usize];
                    mask.reads = mask.reads.minus(bit);
                    mask.writes = mask.writes.minus(bit);
                    mask.others = mask.others.minus(bit);
                }
            }
        }
    }

    /// The slots that become done when a free write is taken to have happened.
    fn cluster(&self, case: &Case, slot: u32) -> Option<(u32, Slots<N>)> {
        let number = self.step_at[slot as usize];
        let step = case.steps[number as usize];
        match (step.effect, step.guard) {
            (Effect::Set(state), _) => {
                let val = case.states[state as usize].val;
                let own = Slots::bit(slot);
                let unique = case.vals[val as usize].unique;
                let reads = self.masks[val as usize].reads;
                Some((number, if unique { own.or(reads) } else { own }))
            }
            (Effect::Keep, Guard::Is(val)) => {
                let writer = case.vals[val as usize].writer;
                let slot = self.slot_of[writer as usize];
                (slot != NONE)
                    .then(|| (writer, Slots::bit(slot).or(self.masks[val as usize].reads)))
            }
            (Effect::Append(_) | Effect::Keep, _) => None,
        }
    }

    fn expand(
        &mut self,
        history: &History,
        case: &mut Case,
        root: Config<N>,
        goal: Goal,
        limits: Limits,
        budget: &mut u64,
    ) -> bool {
        let mut root = root;
        self.free_at_absent(case, &mut root);
        if let Goal::Taken(slot) = goal
            && root.free.has(slot)
            && let Some((writer, cluster)) = self.cluster(case, slot)
        {
            let trail = self.trail.push(Taken::Free(writer), self.at, root.trail);
            let done = root.done.or(cluster);
            let free = root.free.minus(cluster);
            self.next.push(Config { done, free, trail, ..root });
        }
        self.futile = self.pinned.minus(self.finishing(case, goal));
        self.stack.clear();
        self.seen.clear();
        self.stack.push(root);
        while let Some(mut config) = self.stack.pop() {
            self.free_at_absent(case, &mut config);
            let val = case.states[config.state as usize].val;
            let mask = self.masks[val as usize];
            let mut forced = mask.writes.or(self.appends);
            if val != ABSENT {
                forced = forced.or(self.present);
            }
            let blind = self.worth_trying(case, &config, goal);
            let mut choices = forced.or(blind).minus(config.done).minus(self.futile);
            while let Some(slot) = choices.pop() {
                let number = self.step_at[slot as usize];
                let step = case.steps[number as usize];
                let own = matches!(goal, Goal::Taken(of) | Goal::Left(of, _) if of == slot);
                if !own && self.has_twin(case, &config, slot, step, val) {
                    continue;
                }
                if *budget == 0 {
                    return false;
                }
                *budget -= 1;
                let wanted = own || forced.has(slot);
                self.try_step(history, case, &config, (number, step), slot, goal, wanted);
            }
            let mut class = case.vals[val as usize].class;
            while class != NONE {
                let info = case.classes[class as usize];
                if *budget == 0 {
                    return false;
                }
                *budget -= 1;
                self.try_class(history, case, &config, class, info, goal, limits);
                class = info.next;
            }
            for index in 0..case.open_classes.len() {
                let class = case.open_classes[index];
                let info = case.classes[class as usize];
                if Case::allows(info.guard, val) {
                    if *budget == 0 {
                        return false;
                    }
                    *budget -= 1;
                    self.try_class(history, case, &config, class, info, goal, limits);
                }
            }
            let down = case.states[config.state as usize].down;
            if down <= self.time && self.may_leave(case, val, NONE) {
                self.consider(history, case, &config, Taken::Erase, 0, None, goal, false);
            }
        }
        true
    }
}

/// The life after going to a state with value `val` that would begin `begins`.
pub(super) const fn follow(life: u32, val: u32, begins: u32) -> u32 {
    let (current, ended) = (life & 0xff, life >> 8);
    if val == ABSENT {
        let ended =
            if current == 0 || current == 0xff { ended } else { ended | 1 << (current - 1) };
        return ended << 8;
    }
    // A live key keeps the life it has: 255 stands for one nobody asks about.
    match (current, begins) {
        (0, 0) => ended << 8 | 0xff,
        (0, begins) => ended << 8 | begins,
        (_, _) => life,
    }
}
