//! The judge: key by key, from the cheapest way to the dearest, until one is sure.
//!
//! It must never call a history linearizable without an order that was replayed, nor call it not
//! linearizable when configurations had been dropped before the last one died.

use super::bound::{Bound, Component, Ties};
use super::case::{Case, Downs, Lives};
use super::frontier::{Found, Frontier, Limits, Node};
use super::witness::{Move, Replay, Witness, order_of, settled_op};
use super::zones::{Zoned, Zones};
use crate::history::{History, Key, NEVER, OpIndex, Time};

/// What to do, and how far to go.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many configurations may be tried for the whole history.
    pub budget: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { budget: 20_000_000 }
    }
}

/// The judgement of a history. `Unknown` is never a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order; it was replayed.
    Linearizable(Witness),
    /// There is none.
    NotLinearizable {
        /// The key whose operations have no order.
        key: Key,
        /// The operation whose response no order can explain, if it is one.
        op: Option<OpIndex>,
        /// The moment of it.
        time: Time,
    },
    /// The budget ran out first.
    Unknown {
        /// The key that was too hard.
        key: Key,
        /// From the last moment nothing was in flight to the moment of giving up.
        window: (Time, Time),
        /// How many configurations were left then.
        frontier: usize,
        /// The budget given.
        budget: u64,
    },
}

/// The operation that has no place in any order, and when that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) op: Option<OpIndex>,
    pub(super) time: Time,
}

/// How one key was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    GaveUp { at: u32, width: usize },
    Illegal(Flag),
    Legal,
}

/// The searches for all widths; unused ones hold nothing.
#[derive(Default)]
struct Searches {
    narrow: Frontier<1>,
    double: Frontier<2>,
    quadruple: Frontier<4>,
    wide: Frontier<32>,
}

/// A judge that keeps its tables from history to history.
#[derive(Default)]
pub struct Judge {
    pub(super) case: Case,
    searches: Searches,
    zones: Zones,
    path: Vec<Node>,
    pub(super) order: Vec<Move>,
    grouped: Vec<OpIndex>,
    starts: Vec<(Key, usize)>,
}

/// A handful of configurations is all a legal history needs, most of the time.
const HOPEFUL: Limits = Limits { width: 24, strict: false, relaxed: false };
const OPTIMISTIC: Limits = Limits { width: 256, strict: false, relaxed: false };
const RELAXED: Limits = Limits { width: 1 << 13, strict: true, relaxed: true };
const COMPLETE: Limits = Limits { width: 1 << 17, strict: true, relaxed: false };

impl Judge {
    /// A judge with empty tables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges a whole history.
    pub fn check(&mut self, history: &History, options: &Options) -> Verdict {
        let downs = Downs::of(history);
        let ties = Ties::of(history);
        let mut replay = Replay::new(history);
        let mut witness = Witness::default();
        let mut budget = options.budget;
        self.group(history);
        let grouped = std::mem::take(&mut self.grouped);
        let starts = std::mem::take(&mut self.starts);
        let mut verdict = None;
        for (place, &(key, start)) in starts.iter().enumerate() {
            let end = starts.get(place + 1).map_or(grouped.len(), |next| next.1);
            let indices = &grouped[start..end];
            if ties.has(key) {
                continue;
            }
            self.case.load(history, &downs, key, indices, &Lives::default());
            let ruling = self.rule(history, Some(&mut replay), key, &mut budget);
            match ruling {
                Ruling::Legal => witness.keys.push((key, self.order.clone())),
                Ruling::Illegal(Flag { op, time }) => {
                    verdict = Some(Verdict::NotLinearizable { key, op, time });
                    break;
                }
                Ruling::GaveUp { at, width } => {
                    // A violation of another key still settles the matter.
                    let window = self.window(at);
                    verdict.get_or_insert(Verdict::Unknown {
                        key,
                        window,
                        frontier: width,
                        budget: options.budget,
                    });
                }
            }
        }
        let settled =
            |verdict: &Option<Verdict>| matches!(verdict, Some(Verdict::NotLinearizable { .. }));
        let indices = |key: Key| -> &[OpIndex] {
            let Ok(place) = starts.binary_search_by_key(&key, |(key, _)| *key) else { return &[] };
            let end = starts.get(place + 1).map_or(grouped.len(), |next| next.1);
            &grouped[starts[place].1..end]
        };
        for keys in &ties.components {
            if settled(&verdict) {
                break;
            }
            match Bound::new(history, &downs, &indices).check(self, keys, &mut budget) {
                Component::Legal(orders) => {
                    let orders = orders.into_iter().filter(|(_, order)| !order.is_empty());
                    witness.keys.extend(orders);
                }
                Component::Illegal { key, op, time } => {
                    verdict = Some(Verdict::NotLinearizable { key, op, time });
                }
                Component::GaveUp { key, window, width } => {
                    verdict.get_or_insert(Verdict::Unknown {
                        key,
                        window,
                        frontier: width,
                        budget: options.budget,
                    });
                }
            }
        }
        self.grouped = grouped;
        self.starts = starts;
        verdict.unwrap_or(Verdict::Linearizable(witness))
    }

    /// The keys that must be looked at together with this one, in order.
    pub(super) fn keys_with(history: &History, key: Key) -> Vec<Key> {
        let ties = Ties::of(history);
        let component = ties.components.iter().find(|keys| keys.contains(&key));
        component.map_or_else(|| vec![key], Clone::clone)
    }

    /// Sorts the operations by key, then call.
    fn group(&mut self, history: &History) {
        let ops = &history.ops;
        self.grouped.clear();
        self.starts.clear();
        let top = ops.iter().map(|op| op.key).max().map_or(0, |key| key as usize + 1);
        if top <= ops.len() * 2 + 16 {
            let mut counts = vec![0_u32; top + 1];
            for op in ops {
                counts[op.key as usize + 1] += 1;
            }
            let mut total = 0;
            for (key, count) in counts.iter_mut().enumerate().skip(1) {
                if *count > 0 {
                    self.starts.push((key as Key - 1, total as usize));
                }
                total += *count;
                *count = total - *count;
            }
            self.grouped.resize(ops.len(), 0);
            for (index, op) in ops.iter().enumerate() {
                let slot = &mut counts[op.key as usize + 1];
                self.grouped[*slot as usize] = index as OpIndex;
                *slot += 1;
            }
        } else {
            self.grouped.extend(0..ops.len() as OpIndex);
            self.grouped.sort_by_key(|&index| ops[index as usize].key);
            for (place, &index) in self.grouped.iter().enumerate() {
                let key = ops[index as usize].key;
                if self.starts.last().is_none_or(|(last, _)| *last != key) {
                    self.starts.push((key, place));
                }
            }
        }
        for place in 0..self.starts.len() {
            let start = self.starts[place].1;
            let end = self.starts.get(place + 1).map_or(self.grouped.len(), |next| next.1);
            let part = &mut self.grouped[start..end];
            if !part.is_sorted_by_key(|&index| ops[index as usize].call) {
                part.sort_by_key(|&index| ops[index as usize].call);
            }
        }
    }

    /// Judges the loaded case; a legal order is left in `self.order`.
    pub(super) fn rule(
        &mut self,
        history: &History,
        mut replay: Option<&mut Replay<'_>>,
        key: Key,
        budget: &mut u64,
    ) -> Ruling {
        if let Some(op) = self.case.unborn() {
            return Ruling::Illegal(self.flag(history, op));
        }
        match self.zones.judge(&self.case, &mut self.order) {
            Zoned::Legal if self.replayed(&mut replay, key) => return Ruling::Legal,
            Zoned::Illegal(op) => return Ruling::Illegal(self.flag(history, op)),
            Zoned::Legal | Zoned::NotMine => {}
        }
        self.case.arrange();
        // A part of the budget for each of the cheaper ways, so that the last one has its share.
        for limits in [HOPEFUL, OPTIMISTIC, RELAXED] {
            let part = *budget / 8;
            let mut left = part;
            let found = self.search(history, limits, &mut left);
            *budget -= part - left;
            match found {
                Found::Order if self.replays(&mut replay, key) => return Ruling::Legal,
                Found::Stuck { at, pruned: false } => return Ruling::Illegal(self.settled(at)),
                Found::GaveUp { .. } | Found::Order | Found::Stuck { .. } => {}
            }
        }
        match self.search(history, COMPLETE, budget) {
            Found::Order => {
                assert!(self.replays(&mut replay, key), "the complete search found a wrong order");
                Ruling::Legal
            }
            Found::Stuck { at, .. } => Ruling::Illegal(self.settled(at)),
            Found::GaveUp { at, width } => Ruling::GaveUp { at, width },
        }
    }

    fn search(&mut self, history: &History, limits: Limits, budget: &mut u64) -> Found {
        let Self { case, searches, path, .. } = self;
        match case.width() {
            0..=64 => drive(&mut searches.narrow, history, case, limits, budget, path),
            65..=128 => drive(&mut searches.double, history, case, limits, budget, path),
            129..=256 => drive(&mut searches.quadruple, history, case, limits, budget, path),
            257..=2048 => drive(&mut searches.wide, history, case, limits, budget, path),
            width => Found::GaveUp { at: 0, width },
        }
    }

    /// Without a replay the order is only made: whoever asked replays it with those of other keys.
    fn replays(&mut self, replay: &mut Option<&mut Replay<'_>>, key: Key) -> bool {
        order_of(&self.case, &self.path, &mut self.order).is_some() && self.replayed(replay, key)
    }

    fn replayed(&self, replay: &mut Option<&mut Replay<'_>>, key: Key) -> bool {
        let Some(replay) = replay else { return true };
        let legal = replay.key(key, &self.order).is_ok();
        if !legal {
            replay.forget(&self.order);
        }
        legal
    }

    fn settled(&self, at: u32) -> Flag {
        let time = self.case.settles[at as usize].0;
        Flag { op: settled_op(&self.case, at), time }
    }

    fn flag(&self, history: &History, op: OpIndex) -> Flag {
        let ret = history.ops[op as usize].ret;
        let proof = || self.case.steps.iter().find(|step| step.op == op).map_or(0, |step| step.end);
        Flag { op: Some(op), time: if ret == NEVER { proof() } else { ret } }
    }

    /// From the last moment before `at` at which nothing was in flight.
    pub(super) fn window(&self, at: u32) -> (Time, Time) {
        let Some(&(end, _)) = self.case.settles.get(at as usize) else { return (0, 0) };
        let mut start = end;
        for step in self.case.steps.iter().rev() {
            if step.call <= start && step.end >= start {
                start = step.call;
            }
        }
        (start, end)
    }
}

fn drive<const N: usize>(
    search: &mut Frontier<N>,
    history: &History,
    case: &mut Case,
    limits: Limits,
    budget: &mut u64,
    path: &mut Vec<Node>,
) -> Found {
    let found = search.run(history, case, limits, budget);
    if found == Found::Order {
        search.path(path);
    }
    found
}

/// Judges a history.
pub fn check(history: &History, options: &Options) -> Verdict {
    Judge::new().check(history, options)
}
