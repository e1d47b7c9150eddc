//! The general search: every state one key can be in, moment by moment.
//!
//! A configuration is a state and which of the operations in flight have taken effect. Nothing is
//! done until an operation returns; then the shortest sequences of operations in flight that end
//! with it are tried (Lowe's just-in-time linearization). No configuration left: no legal order.
//! What keeps the number of configurations small, and why each shortcut loses nothing, is told in
//! `docs/CHECKER.md`; the names used there are the names used here. The search knows one key, and
//! nothing of other keys, of files, or of how a verdict is shown.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use super::case::{ABSENT, Case, Class, Duty, Effect, Guard, NONE, Settle, Step};
use super::hash::{Fixed, FixedMap};
use crate::history::{Binds, History, Time};

/// Which of the operations in flight, by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Slots<const N: usize>([u64; N]);

impl<const N: usize> Default for Slots<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Slots<N> {
    fn bit(slot: u32) -> Self {
        let mut slots = Self::default();
        slots.0[slot as usize / 64] = 1 << (slot % 64);
        slots
    }

    fn has(&self, slot: u32) -> bool {
        self.0[slot as usize / 64] & (1 << (slot % 64)) != 0
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    fn minus(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & !other.0[at]))
    }

    fn within(self, other: Self) -> bool {
        self.minus(other).is_empty()
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Takes the lowest slot out.
    fn pop(&mut self) -> Option<u32> {
        for (at, word) in self.0.iter_mut().enumerate() {
            if *word != 0 {
                let bit = word.trailing_zeros();
                *word &= *word - 1;
                return Some(at as u32 * 64 + bit);
            }
        }
        None
    }

    fn lowest_unset(&self) -> Option<u32> {
        let at = self.0.iter().position(|word| *word != u64::MAX)?;
        Some(at as u32 * 64 + self.0[at].trailing_ones())
    }
}

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

/// What a path took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Class(u32),
    Erase,
    /// The step happened just before an earlier overwrite.
    Free(u32),
    Step(u32),
}

/// One step of a path: what was taken, and at which of [`Case::settles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) taken: Taken,
    pub(super) at: u32,
    parent: u32,
}

/// The paths of all configurations, as a forest; the part common to all is cut off and kept.
#[derive(Default)]
struct Trail {
    nodes: Vec<Node>,
    common: Vec<Node>,
    compact_at: usize,
}

impl Trail {
    fn push(&mut self, taken: Taken, at: u32, parent: u32) -> u32 {
        self.nodes.push(Node { taken, at, parent });
        self.nodes.len() as u32 - 1
    }

    fn path(&self, mut at: u32, into: &mut Vec<Node>) {
        let start = into.len();
        while at != NONE {
            let node = self.nodes[at as usize];
            into.push(node);
            at = node.parent;
        }
        into[start..].reverse();
    }

    fn compact<const N: usize>(&mut self, frontier: &mut [Config<N>]) {
        if let [config] = frontier {
            let mut common = std::mem::take(&mut self.common);
            self.path(config.trail, &mut common);
            self.common = common;
            self.nodes.clear();
            config.trail = NONE;
            self.compact_at = 256;
            return;
        }
        // Parents come before children, so one backward and one forward pass do.
        let mut live = vec![false; self.nodes.len()];
        for config in frontier.iter() {
            let mut at = config.trail;
            while at != NONE && !live[at as usize] {
                live[at as usize] = true;
                at = self.nodes[at as usize].parent;
            }
        }
        let mut moved = vec![NONE; self.nodes.len()];
        let mut kept = 0;
        for at in 0..self.nodes.len() {
            if live[at] {
                let mut node = self.nodes[at];
                if node.parent != NONE {
                    node.parent = moved[node.parent as usize];
                }
                self.nodes[kept] = node;
                moved[at] = kept as u32;
                kept += 1;
            }
        }
        self.nodes.truncate(kept);
        for config in frontier.iter_mut() {
            if config.trail != NONE {
                config.trail = moved[config.trail as usize];
            }
        }
        self.compact_at = (kept * 2).max(1 << 12);
    }
}

/// How often each class was used, interned, sparse.
#[derive(Default)]
struct Uses {
    lists: Vec<Box<[(u32, u32)]>>,
    index: FixedMap<Box<[(u32, u32)]>, u32>,
}

impl Uses {
    fn reset(&mut self) {
        if self.lists.len() != 1 {
            self.lists.clear();
            self.index.clear();
            self.lists.push(Box::new([]));
            self.index.insert(Box::new([]), 0);
        }
    }

    fn count(&self, used: u32, class: u32) -> u32 {
        let list = &self.lists[used as usize];
        list.iter().find(|(of, _)| *of == class).map_or(0, |(_, count)| *count)
    }

    fn take(&mut self, used: u32, class: u32) -> u32 {
        let mut list = self.lists[used as usize].to_vec();
        match list.binary_search_by_key(&class, |(of, _)| *of) {
            Ok(at) => list[at].1 += 1,
            Err(at) => list.insert(at, (class, 1)),
        }
        let list: Box<[(u32, u32)]> = list.into();
        if let Some(&number) = self.index.get(&list) {
            return number;
        }
        let number = self.lists.len() as u32;
        self.lists.push(list.clone());
        self.index.insert(list, number);
        number
    }

    /// Whether `a` used no more of anything than `b`.
    fn within(&self, a: u32, b: u32) -> bool {
        a == b
            || a == 0
            || self.lists[a as usize].iter().all(|(class, count)| *count <= self.count(b, *class))
    }

    fn total(&self, used: u32) -> u32 {
        self.lists[used as usize].iter().map(|(_, count)| *count).sum()
    }
}

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
        for mask in [
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
        ] {
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

    fn release(&mut self, case: &Case, what: Settle, slot: u32) {
        let bit = Slots::bit(slot);
        for config in &mut self.configs {
            config.done = config.done.minus(bit);
            config.free = config.free.minus(bit);
        }
        for mask in [
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
        ] {
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

    /// The writes that may meet the goal themselves.
    fn finishing(&self, case: &Case, goal: Goal) -> Slots<N> {
        let Goal::Taken(slot) = goal else { return self.pinned };
        let own = Slots::bit(slot);
        let step = case.steps[self.step_at[slot as usize] as usize];
        match (step.effect, step.guard) {
            (Effect::Append(_) | Effect::Set(_), _) => own,
            (Effect::Keep, Guard::Is(val)) => {
                let info = &case.vals[val as usize];
                if !info.unique || info.writer == NONE {
                    return self.pinned;
                }
                match self.slot_of[info.writer as usize] {
                    NONE => own,
                    writer => Slots::bit(writer),
                }
            }
            (Effect::Keep, Guard::Any | Guard::Never | Guard::Not(_) | Guard::Other(_)) => {
                self.pinned
            }
        }
    }

    /// The overwrites that can be of use before the goal is met.
    ///
    /// One whose value is still to be seen cannot be left again. One that everything saw already
    /// is marked free by the next overwrite, which is as good as taking it first, unless something
    /// other than an overwrite follows it.
    fn worth_trying(&self, case: &Case, config: &Config<N>, goal: Goal) -> Slots<N> {
        let Goal::Taken(slot) = goal else { return self.blind };
        if case.tracked || case.appends {
            return self.blind;
        }
        let step = case.steps[self.step_at[slot as usize] as usize];
        let mut own = Slots::bit(slot);
        if step.effect == Effect::Keep {
            match step.guard {
                Guard::Is(val) => {
                    let info = &case.vals[val as usize];
                    if !info.unique || info.writer == NONE {
                        return self.blind.minus(self.pinned);
                    }
                    let writer = self.slot_of[info.writer as usize];
                    if writer != NONE {
                        own = own.or(Slots::bit(writer));
                    }
                }
                Guard::Any | Guard::Never | Guard::Not(_) | Guard::Other(_) => return self.blind,
            }
        }
        let val = case.states[config.state as usize].val;
        let present = !self.present.minus(config.done).is_empty();
        let followed = case.erasable
            || case.guarded_classes
            || present && (val == ABSENT || !self.blind_removes.is_empty())
            || !case.vals[val as usize].unique && !self.others.minus(config.done).is_empty();
        let pinned = self.blind.minus(self.pinned);
        let some = if followed { pinned } else { pinned.minus(self.passing) };
        some.or(own.and(self.blind))
    }

    /// Whether another step in flight does the same and ends earlier: then this one can wait.
    fn has_twin(&self, case: &Case, config: &Config<N>, slot: u32, step: Step, val: u32) -> bool {
        let Effect::Set(state) = step.effect else { return false };
        if case.vals[case.states[state as usize].val as usize].unique
            || step.duty == Duty::GoneByEnd
        {
            return false;
        }
        let like = match step.guard {
            Guard::Any => self.blind,
            Guard::Is(_) => self.masks[val as usize].writes,
            Guard::Not(_) | Guard::Other(_) => self.present,
            Guard::Never => return false,
        };
        let mut like = like.minus(config.done);
        while let Some(other) = like.pop() {
            let twin = case.steps[self.step_at[other as usize] as usize];
            // A free one is better kept for later.
            if other != slot
                && twin.effect == step.effect
                && twin.guard == step.guard
                && twin.duty == step.duty
                && config.free.has(other) == config.free.has(slot)
                && (twin.end, other) < (step.end, slot)
            {
                return true;
            }
        }
        false
    }

    /// With the key absent, an overwrite whose entry may vanish at once can happen unnoticed.
    fn free_at_absent(&self, case: &Case, config: &mut Config<N>) {
        let absent = case.states[config.state as usize].val == ABSENT;
        if !case.erasable || !absent || case.tracked || case.appends {
            return;
        }
        let mut blind = self.blind.and(self.freeable).minus(config.done).minus(config.free);
        while let Some(slot) = blind.pop() {
            let number = self.step_at[slot as usize];
            if let Effect::Set(state) = case.steps[number as usize].effect
                && case.states[state as usize].down <= self.time
                && let Some((_, cluster)) = self.cluster(case, slot)
            {
                config.free = config.free.or(cluster).minus(config.done);
            }
        }
    }

    /// Whether the value may be left: nobody is still to see it, and its certain successor is the
    /// one that leaves it.
    fn may_leave(&self, case: &Case, val: u32, by: u32) -> bool {
        let info = &case.vals[val as usize];
        !info.unique || info.lo <= self.time && (info.succ == NONE || info.succ == by)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the innermost loop; a struct would be built per call"
    )]
    fn try_step(
        &mut self,
        history: &History,
        case: &mut Case,
        config: &Config<N>,
        (number, step): (u32, Step),
        slot: u32,
        goal: Goal,
        wanted: bool,
    ) {
        let val = case.states[config.state as usize].val;
        if !self.may_leave(case, val, number) {
            return;
        }
        let state = match step.effect {
            Effect::Keep => return,
            Effect::Set(state) => state,
            Effect::Append(suffix) => self.append(case, config.state, suffix),
        };
        self.consider(
            history,
            case,
            config,
            Taken::Step(number),
            state,
            Some((slot, step.guard)),
            goal,
            wanted,
        );
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the innermost loop; a struct would be built per call"
    )]
    fn try_class(
        &mut self,
        history: &History,
        case: &mut Case,
        config: &Config<N>,
        class: u32,
        info: Class,
        goal: Goal,
        limits: Limits,
    ) {
        let available = self.available[class as usize];
        let counted = info.counted && !limits.relaxed;
        let used = if counted { self.uses.count(config.used, class) } else { 0 };
        if available <= used {
            return;
        }
        let val = case.states[config.state as usize].val;
        if !self.may_leave(case, val, NONE) {
            return;
        }
        let state = match info.effect {
            Effect::Keep => return,
            Effect::Set(state) => state,
            Effect::Append(suffix) => self.append(case, config.state, suffix),
        };
        let mut config = *config;
        if counted {
            config.used = self.uses.take(config.used, class);
        }
        self.consider(history, case, &config, Taken::Class(class), state, None, goal, false);
    }

    fn append(&mut self, case: &mut Case, state: u32, suffix: u32) -> u32 {
        let state = case.append(state, suffix);
        self.masks.resize(case.vals.len(), Masks::default());
        state
    }

    /// Takes something that leads to `state`, and keeps the result if it meets the goal or helps.
    #[expect(
        clippy::too_many_arguments,
        reason = "the innermost loop; a struct would be built per call"
    )]
    fn consider(
        &mut self,
        history: &History,
        case: &Case,
        config: &Config<N>,
        taken: Taken,
        state: u32,
        step: Option<(u32, Guard)>,
        goal: Goal,
        wanted: bool,
    ) {
        let mut next = *config;
        next.state = state;
        let to = case.states[state as usize];
        if case.tracked {
            next.life = follow(config.life, to.val, to.life);
        }
        let guard = match (taken, step) {
            (_, Some((_, guard))) => guard,
            (Taken::Class(class), None) => case.classes[class as usize].guard,
            (Taken::Erase | Taken::Free(_) | Taken::Step(_), None) => Guard::Never,
        };
        if let Some((slot, _)) = step {
            next.done = next.done.or(Slots::bit(slot));
        }
        next.done = next.done.or(self.satisfied(to.val));
        match guard {
            Guard::Any => next.free = next.free.or(self.freeable),
            // Just before a write that needs a live key there is room for other overwrites, but
            // not for removes.
            Guard::Not(_) => next.free = next.free.or(self.freeable.minus(self.blind_removes)),
            Guard::Is(_) | Guard::Never | Guard::Other(_) => {}
        }
        next.free = next.free.minus(next.done);
        let met = self.is_met(history, case, goal, &next);
        if !met && !wanted && !self.helps(case, config, &next) {
            return;
        }
        if !met {
            let key = Config { trail: 0, ..next };
            if !self.seen.insert(key) {
                return;
            }
        }
        next.trail = self.trail.push(taken, self.at, config.trail);
        if met {
            self.next.push(next);
        } else {
            self.stack.push(next);
        }
    }

    /// Whether going to `state` lets anything in flight be taken that the present state does not.
    fn helps(&self, case: &Case, config: &Config<N>, next: &Config<N>) -> bool {
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

    fn opens(&self, case: &Case, config: &Config<N>, from: u32, to: u32) -> bool {
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
    fn rank(&self, case: &Case, config: &Config<N>) -> u32 {
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
    fn prune(&mut self, case: &Case) {
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
    fn covers(&self, a: &Config<N>, b: &Config<N>) -> bool {
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

    fn narrow(&mut self, width: usize) {
        let uses = &self.uses;
        self.configs.sort_by_cached_key(|config| {
            (uses.total(config.used), !config.free.len(), !config.done.len())
        });
        self.configs.truncate(width);
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
