//! Keys bound to each other's lives: what a key may do depends on when another key's life ended.
//!
//! First every key is judged as if no life ever ended. A key that is illegal then may still be
//! legal because a life it was bound to ended in time, so the earliest possible end of that life
//! is found, alone: letting everything vanish from that moment on allows too much, never too
//! little, so a *no* stands. For a *yes* all orders are replayed together. When the earliest ends
//! of several lives cannot all be had at once, the whole component is searched jointly.

use std::collections::BTreeMap;

use super::case::{Downs, Lives};
use super::frontier::LIVES_MAX;
use super::hash::FixedMap;
use super::joint;
use super::judge::{Flag, Judge, Ruling};
use super::witness::{Entry, Move, Replay, apply};
use crate::history::{Binding, Binds, History, Key, NEVER, OpIndex, Time, Value};

/// Later than any event, but not never.
const LAST: Time = NEVER - 1;

/// How a component of keys was judged.
pub(super) enum Component {
    GaveUp { key: Key, window: (Time, Time), width: usize },
    Illegal { key: Key, op: Option<OpIndex>, time: Time },
    Legal(Vec<(Key, Vec<Move>)>),
}

/// The lives any key is bound to, by the key they are of.
#[derive(Default)]
pub(super) struct Ties {
    lives: FixedMap<Key, Vec<Value>>,
    /// Which component a key is in; keys of none are on their own.
    component: FixedMap<Key, usize>,
    /// The keys of each component, in order.
    pub(super) components: Vec<Vec<Key>>,
}

impl Ties {
    /// Reads them off the operations; nothing is allocated if there are none.
    pub(super) fn of(history: &History) -> Self {
        let mut ties = Self::default();
        let mut sets = 1..=history.binds_len() as u32;
        let is_life = |binding: &Binding| matches!(binding, Binding::Life { .. });
        if !sets.any(|set| history.bindings(Binds(set)).iter().any(is_life)) {
            return ties;
        }
        let mut edges: Vec<(Key, Key)> = Vec::new();
        for op in &history.ops {
            for binding in history.bindings(op.binds) {
                if let Binding::Life { key, birth } = *binding {
                    let births = ties.lives.entry(key).or_default();
                    if !births.contains(&birth) {
                        births.push(birth);
                    }
                    edges.push((op.key, key));
                }
            }
        }
        let mut leader: FixedMap<Key, Key> = FixedMap::default();
        fn find(leader: &FixedMap<Key, Key>, mut key: Key) -> Key {
            while let Some(&up) = leader.get(&key) {
                if up == key {
                    break;
                }
                key = up;
            }
            key
        }
        for &(a, b) in &edges {
            let (a, b) = (find(&leader, a), find(&leader, b));
            leader.insert(a.max(b), a.min(b));
            leader.entry(a.min(b)).or_insert_with(|| a.min(b));
        }
        let mut keys: Vec<Key> = edges.iter().flat_map(|&(a, b)| [a, b]).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut number: FixedMap<Key, usize> = FixedMap::default();
        for key in keys {
            let fresh = ties.components.len();
            let index = *number.entry(find(&leader, key)).or_insert(fresh);
            if index == fresh {
                ties.components.push(Vec::new());
            }
            ties.components[index].push(key);
            ties.component.insert(key, index);
        }
        ties
    }

    /// Whether the key is in a component.
    pub(super) fn has(&self, key: Key) -> bool {
        self.component.contains_key(&key)
    }
}

/// The judging of one component.
pub(super) struct Bound<'a> {
    pub(super) history: &'a History,
    pub(super) downs: &'a Downs,
    /// The operations of each key, by call.
    pub(super) indices: &'a dyn Fn(Key) -> &'a [OpIndex],
    ends: FixedMap<(Key, Value), Time>,
}

impl<'a> Bound<'a> {
    pub(super) fn new(
        history: &'a History,
        downs: &'a Downs,
        indices: &'a dyn Fn(Key) -> &'a [OpIndex],
    ) -> Self {
        Self { history, downs, indices, ends: FixedMap::default() }
    }

    pub(super) fn check(
        &mut self,
        judge: &mut Judge,
        keys: &'a [Key],
        budget: &mut u64,
    ) -> Component {
        let mut orders: Vec<(Key, Vec<Move>)> = Vec::new();
        let mut gave_up = None;
        let mut tied = false;
        for &key in keys {
            let mut ruling = self.rule(judge, key, self.downs, &Lives::default(), budget);
            if matches!(ruling, Ruling::Illegal(_)) && self.has_lives(key) {
                tied = true;
                let downs = self.with_lives(judge, key, &mut vec![key], budget);
                ruling = self.rule(judge, key, &downs, &Lives::default(), budget);
            }
            match ruling {
                Ruling::Legal => orders.push((key, judge.order.clone())),
                Ruling::Illegal(Flag { op, time }) => {
                    return Component::Illegal { key, op, time };
                }
                Ruling::GaveUp { at, width } => {
                    let window = judge.window(at);
                    gave_up.get_or_insert(Component::GaveUp { key, window, width });
                }
            }
        }
        if let Some(gave_up) = gave_up {
            return gave_up;
        }
        if !tied {
            return Component::Legal(orders);
        }
        self.reconcile(judge, &mut orders, budget);
        if Replay::new(self.history).keys(&orders).is_ok() {
            return Component::Legal(orders);
        }
        joint::search(self.history, self.downs, keys, self.indices, budget)
    }

    /// Makes each key end its lives by the moments the orders of other keys count on.
    fn reconcile(&mut self, judge: &mut Judge, orders: &mut [(Key, Vec<Move>)], budget: &mut u64) {
        let mut needed: BTreeMap<Key, BTreeMap<Value, Time>> = BTreeMap::new();
        let mut dirty: Vec<Key> = Vec::new();
        for (key, order) in orders.iter() {
            self.note_needs(*key, order, &mut needed, &mut dirty);
        }
        let mut rounds = orders.len() * 4;
        while let Some(key) = dirty.pop() {
            if rounds == 0 {
                return;
            }
            rounds -= 1;
            let Some(place) = orders.iter().position(|(of, _)| *of == key) else { continue };
            let mut tight: Vec<(Value, Time)> = needed
                .get(&key)
                .map(|lives| lives.iter().map(|(birth, time)| (*birth, *time)).collect())
                .unwrap_or_default();
            // Those with the least room matter most.
            tight.sort_by_key(|(birth, time)| {
                time.saturating_sub(self.ends.get(&(key, *birth)).copied().unwrap_or(0))
            });
            tight.truncate(LIVES_MAX);
            let numbered = tight.iter().enumerate();
            let lives = Lives {
                births: tight.iter().map(|(birth, _)| *birth).collect(),
                over: numbered.map(|(index, (_, time))| (index as u32 + 1, *time)).collect(),
            };
            // Without the ends of other lives if that will do: they might not be had.
            let mut ruling = self.rule(judge, key, self.downs, &lives, budget);
            if ruling != Ruling::Legal && self.has_lives(key) {
                let downs = self.with_lives(judge, key, &mut vec![key], budget);
                ruling = self.rule(judge, key, &downs, &lives, budget);
            }
            if ruling == Ruling::Legal {
                orders[place].1.clone_from(&judge.order);
                self.note_needs(key, &judge.order, &mut needed, &mut dirty);
            }
        }
    }

    /// Notes which lives this order counts on, and the latest moments they may end at for it.
    fn note_needs(
        &self,
        key: Key,
        order: &[Move],
        needed: &mut BTreeMap<Key, BTreeMap<Value, Time>>,
        dirty: &mut Vec<Key>,
    ) {
        let history = self.history;
        let mut latest = vec![NEVER; order.len() + 1];
        for (place, step) in order.iter().enumerate().rev() {
            let own = match *step {
                Move::Op(op) => history.ops[op as usize].ret,
                Move::Erase => NEVER,
            };
            latest[place] = latest[place + 1].min(own);
        }
        let mut texts = Vec::new();
        let mut entry = None;
        for (place, step) in order.iter().enumerate() {
            let Move::Op(op) = *step else {
                let binds = entry.map_or(Binds::NONE, |held: Entry| held.binds);
                entry = None;
                if self.downs.first(history, key, binds) <= latest[place] {
                    continue;
                }
                let lives = history.bindings(binds).iter().filter_map(|binding| match *binding {
                    Binding::Life { key, birth } => Some((key, birth)),
                    Binding::Thing(_) => None,
                });
                let end = |life: &(Key, Value)| self.ends.get(life).copied().unwrap_or(NEVER);
                let Some((of, birth)) = lives.min_by_key(end) else { continue };
                let by = needed.entry(of).or_default().entry(birth).or_insert(NEVER);
                if latest[place] < *by || *by == NEVER {
                    // A life that must have ended some day must have ended by the last event.
                    *by = latest[place].min(LAST);
                    if !dirty.contains(&of) {
                        dirty.push(of);
                    }
                }
                continue;
            };
            match apply(history, &mut texts, entry, op) {
                Some(next) => entry = next,
                None => return,
            }
        }
    }

    fn rule(
        &self,
        judge: &mut Judge,
        key: Key,
        downs: &Downs,
        lives: &Lives,
        budget: &mut u64,
    ) -> Ruling {
        judge.case.load(self.history, downs, key, (self.indices)(key), lives);
        judge.rule(self.history, None, key, budget)
    }

    fn lives_of(&self, key: Key) -> Vec<(Key, Value)> {
        let mut lives = Vec::new();
        for &index in (self.indices)(key) {
            for binding in self.history.bindings(self.history.ops[index as usize].binds) {
                if let Binding::Life { key, birth } = *binding {
                    lives.push((key, birth));
                }
            }
        }
        lives.sort_unstable();
        lives.dedup();
        lives
    }

    fn has_lives(&self, key: Key) -> bool {
        !self.lives_of(key).is_empty()
    }

    /// The moments bindings go down for this key, lives included.
    fn with_lives(
        &mut self,
        judge: &mut Judge,
        key: Key,
        path: &mut Vec<Key>,
        budget: &mut u64,
    ) -> Downs {
        let mut downs = self.downs.clone();
        for (of, birth) in self.lives_of(key) {
            let end = self.earliest_end(judge, of, birth, path, budget);
            if end != NEVER {
                downs.add(Some(key), Binding::Life { key: of, birth }, end);
            }
        }
        downs
    }

    /// The earliest moment at which the life can have ended, or an earlier one.
    fn earliest_end(
        &mut self,
        judge: &mut Judge,
        key: Key,
        birth: Value,
        path: &mut Vec<Key>,
        budget: &mut u64,
    ) -> Time {
        if let Some(&end) = self.ends.get(&(key, birth)) {
            return end;
        }
        if path.contains(&key) {
            // Bound in a circle: no order to find them in.
            return 0;
        }
        path.push(key);
        let downs = self.with_lives(judge, key, path, budget);
        path.pop();
        let mut times: Vec<Time> = Vec::new();
        for &index in (self.indices)(key) {
            let op = &self.history.ops[index as usize];
            times.push(op.call);
            times.push(downs.first(self.history, key, op.binds));
        }
        times.retain(|time| *time != NEVER);
        times.sort_unstable();
        times.dedup();
        // The first moment at which it is possible; ever later ones are possible too.
        let (mut low, mut high) = (0, times.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            let lives = Lives { births: vec![birth], over: vec![(1, times[middle])] };
            match self.rule(judge, key, &downs, &lives, budget) {
                Ruling::Illegal(_) => low = middle + 1,
                Ruling::GaveUp { .. } | Ruling::Legal => high = middle,
            }
        }
        let end = times.get(low).copied().unwrap_or(NEVER);
        self.ends.insert((key, birth), end);
        end
    }
}
