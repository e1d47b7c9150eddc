//! The search over several keys at once, for keys bound to each other's lives.
//!
//! Plain just-in-time linearization with no shortcut but taking reads at once; a last resort, for
//! the few operations of a component that could not be judged key by key.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use super::bound::Component;
use super::case::Downs;
use super::hash::Fixed;
use super::witness::{Entry, Move, Replay, apply};
use crate::history::{
    Action, Binding, Binds, History, Key, MarkKind, NEVER, OpIndex, Outcome, Seen, Time, Value,
};

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    cells: Vec<Option<Entry>>,
    /// Operations called that did not happen yet, sorted.
    open: Vec<OpIndex>,
    ended: Vec<(Key, Value)>,
}

struct Search<'a> {
    history: &'a History,
    downs: &'a Downs,
    keys: &'a [Key],
    lives: Vec<(Key, Value)>,
    texts: Vec<String>,
    nodes: Vec<(Key, Move, usize)>,
    now: Time,
}

const ROOT: usize = usize::MAX;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Call(OpIndex),
    Return(OpIndex),
    Gone(usize),
}

/// Searches the component of `keys`.
pub(super) fn search<'a>(
    history: &'a History,
    downs: &'a Downs,
    keys: &'a [Key],
    indices: &dyn Fn(Key) -> &'a [OpIndex],
    budget: &mut u64,
) -> Component {
    let mut events = Vec::new();
    let mut lives = Vec::new();
    for &key in keys {
        for &index in indices(key) {
            let op = &history.ops[index as usize];
            if op.outcome == Outcome::Unknown && op.action.is_read() {
                continue;
            }
            events.push((op.call, Event::Call(index)));
            if op.ret != NEVER {
                events.push((op.ret, Event::Return(index)));
            }
            for binding in history.bindings(op.binds) {
                if let Binding::Life { key, birth } = *binding {
                    lives.push((key, birth));
                }
            }
        }
    }
    for (number, mark) in history.marks.iter().enumerate() {
        if mark.kind == MarkKind::Gone && mark.key.is_none_or(|key| keys.contains(&key)) {
            events.push((mark.time, Event::Gone(number)));
        }
    }
    events.sort_unstable();
    lives.sort_unstable();
    lives.dedup();
    let initial = history.initial().map(|value| Entry {
        value,
        binds: Binds::NONE,
        writer: OpIndex::MAX,
        birth: value,
    });
    let mut search =
        Search { history, downs, keys, lives, texts: Vec::new(), nodes: Vec::new(), now: 0 };
    let start = World { cells: vec![initial; keys.len()], open: Vec::new(), ended: Vec::new() };
    let mut worlds = vec![(start, ROOT)];
    for &(time, event) in &events {
        search.now = time;
        let mut next: Vec<(World, usize)> = Vec::new();
        let mut seen: HashSet<World, BuildHasherDefault<Fixed>> = HashSet::default();
        let mut stack = worlds;
        while let Some((mut world, mut node)) = stack.pop() {
            if *budget == 0 {
                let key = keys[0];
                return Component::GaveUp { key, window: (0, time), width: stack.len() };
            }
            *budget -= 1;
            if let Event::Call(index) = event
                && !world.open.contains(&index)
            {
                world.open.push(index);
                world.open.sort_unstable();
            }
            search.take_reads(&mut world, &mut node);
            if !seen.insert(world.clone()) {
                continue;
            }
            if search.allows(&world, event) {
                let mut world = world.clone();
                if let Event::Return(index) = event {
                    world.open.retain(|open| *open != index);
                }
                next.push((world, node));
            }
            // Nothing is done before something must be; the answer that a binding is down is the
            // exception that may be true in two ways.
            if search.must_try(&world, event) {
                search.moves(&world, node, &mut stack);
            }
        }
        if next.is_empty() {
            let (key, op) = match event {
                Event::Call(index) | Event::Return(index) => {
                    (history.ops[index as usize].key, Some(index))
                }
                Event::Gone(number) => (history.marks[number].key.unwrap_or(keys[0]), None),
            };
            return Component::Illegal { key, op, time };
        }
        let mut kept = HashSet::<World, BuildHasherDefault<Fixed>>::default();
        next.retain(|(world, _)| kept.insert(world.clone()));
        worlds = next;
    }
    let orders = search.orders(worlds[0].1);
    match Replay::new(history).keys(&orders) {
        Ok(()) => Component::Legal(orders),
        Err(_) => Component::GaveUp { key: keys[0], window: (0, search.now), width: worlds.len() },
    }
}

impl Search<'_> {
    fn place(&self, key: Key) -> usize {
        self.keys.binary_search(&key).expect("a key of the component")
    }

    fn holds(&self, world: &World, index: OpIndex) -> bool {
        let cell = world.cells[self.place(self.history.ops[index as usize].key)];
        cell.is_some_and(|entry| entry.writer == index)
    }

    fn allows(&self, world: &World, event: Event) -> bool {
        match event {
            Event::Call(_) => true,
            Event::Return(index) => {
                if self.history.ops[index as usize].outcome == Outcome::InvalidBinding {
                    !self.holds(world, index)
                } else {
                    !world.open.contains(&index)
                }
            }
            Event::Gone(number) => {
                let mark = self.history.marks[number];
                !self.keys.iter().zip(&world.cells).any(|(key, cell)| {
                    let held = cell.is_some_and(|entry| {
                        self.history.bindings(entry.binds).contains(&mark.binding)
                    });
                    held && mark.key.is_none_or(|of| of == *key)
                })
            }
        }
    }

    fn must_try(&self, world: &World, event: Event) -> bool {
        match event {
            Event::Call(_) => false,
            Event::Return(index) => {
                !self.allows(world, event)
                    || self.history.ops[index as usize].outcome == Outcome::InvalidBinding
            }
            Event::Gone(_) => !self.allows(world, event),
        }
    }

    fn take_reads(&mut self, world: &mut World, node: &mut usize) {
        let mut at = 0;
        while at < world.open.len() {
            let index = world.open[at];
            let op = &self.history.ops[index as usize];
            let reads = match op.outcome {
                Outcome::Read(_) | Outcome::Exists(_) | Outcome::Refused(_) => true,
                Outcome::Done(seen) => op.action == Action::Remove && seen == Seen::Absent,
                Outcome::InvalidBinding | Outcome::Unknown => false,
            };
            let cell = world.cells[self.place(op.key)];
            if reads && apply(self.history, &mut self.texts, cell, index) == Some(cell) {
                world.open.remove(at);
                self.nodes.push((op.key, Move::Op(index), *node));
                *node = self.nodes.len() - 1;
            } else {
                at += 1;
            }
        }
    }

    fn change(&self, world: &World, key: Key, next: Option<Entry>) -> World {
        let mut changed = world.clone();
        let place = self.place(key);
        if let (Some(entry), None) = (world.cells[place], next) {
            let life = (key, entry.birth);
            if self.lives.binary_search(&life).is_ok() && !changed.ended.contains(&life) {
                changed.ended.push(life);
                changed.ended.sort_unstable();
            }
        }
        changed.cells[place] = next;
        changed
    }

    fn moves(&mut self, world: &World, node: usize, stack: &mut Vec<(World, usize)>) {
        for (place, &key) in self.keys.iter().enumerate() {
            let Some(entry) = world.cells[place] else { continue };
            let ended = |binding: &Binding| match *binding {
                Binding::Life { key, birth } => world.ended.contains(&(key, birth)),
                Binding::Thing(_) => false,
            };
            let down = self.downs.first(self.history, key, entry.binds) <= self.now;
            if down || self.history.bindings(entry.binds).iter().any(ended) {
                let next = self.change(world, key, None);
                self.nodes.push((key, Move::Erase, node));
                stack.push((next, self.nodes.len() - 1));
            }
        }
        for &index in &world.open {
            let key = self.history.ops[index as usize].key;
            let cell = world.cells[self.place(key)];
            let Some(after) = apply(self.history, &mut self.texts, cell, index) else { continue };
            let told = matches!(self.history.ops[index as usize].outcome, Outcome::Done(_));
            if after == cell && !told {
                continue;
            }
            let mut next = self.change(world, key, after);
            next.open.retain(|open| *open != index);
            self.nodes.push((key, Move::Op(index), node));
            stack.push((next, self.nodes.len() - 1));
        }
    }

    fn orders(&self, mut node: usize) -> Vec<(Key, Vec<Move>)> {
        let mut orders: Vec<(Key, Vec<Move>)> =
            self.keys.iter().map(|key| (*key, Vec::new())).collect();
        while node != ROOT {
            let (key, step, parent) = self.nodes[node];
            orders[self.place(key)].1.push(step);
            node = parent;
        }
        for (_, order) in &mut orders {
            order.reverse();
        }
        orders
    }
}
