//! The oracle the checker is tested against: tries everything.
//!
//! It shares nothing with the checker but the history: its own specification, all keys at once,
//! event by event. Small histories only; its only virtue is that it can be read in one sitting.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::history::{
    Action, Binding, Binds, History, Key, MarkKind, NEVER, Outcome, Seen, Time, Value,
};

/// What can happen next in the recorded order of events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Call(usize),
    Down(usize),
    Return(usize),
    Gone(usize),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Cell {
    text: String,
    binds: Binds,
    writer: usize,
    birth: Value,
}

#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct World {
    next: usize,
    open: BTreeSet<usize>,
    cells: BTreeMap<Key, Cell>,
    ended: BTreeSet<(Key, Value)>,
    down: BTreeSet<usize>,
}

/// Whether the history is linearizable; `None`: more than `worlds_max` situations.
pub fn is_linearizable(history: &History, worlds_max: usize) -> Option<bool> {
    let mut events: Vec<(Time, Event)> = Vec::new();
    for (number, op) in history.ops.iter().enumerate() {
        events.push((op.call, Event::Call(number)));
        if op.ret != NEVER {
            events.push((op.ret, Event::Return(number)));
        }
    }
    for (number, mark) in history.marks.iter().enumerate() {
        let event = match mark.kind {
            MarkKind::Down => Event::Down(number),
            MarkKind::Gone => Event::Gone(number),
        };
        events.push((mark.time, event));
    }
    // At one time calls come first: both ends of an operation belong to it.
    events.sort_unstable();
    let mut start = World::default();
    if let Some(value) = history.initial() {
        for op in &history.ops {
            let cell = Cell {
                text: show(history, value),
                binds: Binds::NONE,
                writer: usize::MAX,
                birth: 0,
            };
            start.cells.insert(op.key, cell);
        }
    }
    let mut seen = HashSet::new();
    let mut stack = vec![start];
    while let Some(world) = stack.pop() {
        if world.next == events.len() {
            return Some(true);
        }
        if seen.len() > worlds_max {
            return None;
        }
        if !seen.insert(world.clone()) {
            continue;
        }
        for &number in &world.open {
            if let Some(mut next) = take(history, &world, number) {
                next.open.remove(&number);
                stack.push(next);
            }
        }
        for (&key, cell) in &world.cells {
            let vanishes = history.bindings(cell.binds).iter().any(|binding| {
                let dead = match *binding {
                    Binding::Life { key, birth } => world.ended.contains(&(key, birth)),
                    Binding::Thing(_) => false,
                };
                dead || world.down.iter().any(|&mark| {
                    let mark = history.marks[mark];
                    mark.binding == *binding && mark.key.is_none_or(|of| of == key)
                })
            });
            if vanishes {
                let mut next = world.clone();
                end(&mut next, key);
                stack.push(next);
            }
        }
        stack.extend(advance(history, &world, events[world.next].1));
    }
    Some(false)
}

fn end(world: &mut World, key: Key) {
    if let Some(cell) = world.cells.remove(&key) {
        world.ended.insert((key, cell.birth));
    }
}

fn advance(history: &History, world: &World, event: Event) -> Option<World> {
    let mut next = world.clone();
    next.next += 1;
    match event {
        Event::Call(number) => {
            next.open.insert(number);
        }
        Event::Down(mark) => {
            next.down.insert(mark);
        }
        Event::Return(number) => {
            let op = &history.ops[number];
            if op.outcome == Outcome::InvalidBinding {
                next.open.remove(&number);
                if next.cells.get(&op.key).is_some_and(|cell| cell.writer == number) {
                    return None;
                }
            } else if next.open.contains(&number) {
                return None;
            }
        }
        Event::Gone(number) => {
            let mark = history.marks[number];
            for (&key, cell) in &next.cells {
                let held = history.bindings(cell.binds).contains(&mark.binding);
                if held && mark.key.is_none_or(|of| of == key) {
                    return None;
                }
            }
        }
    }
    Some(next)
}

fn show(history: &History, value: Value) -> String {
    history.text(value).map_or_else(|| value.to_string(), str::to_owned)
}

/// The operation happens now, if what it was told agrees.
fn take(history: &History, world: &World, number: usize) -> Option<World> {
    let op = &history.ops[number];
    let cell = world.cells.get(&op.key);
    let held = cell.map(|cell| cell.text.clone());
    let show = |value: Value| show(history, value);
    let agrees = |seen: Seen| match seen {
        Seen::Nothing => true,
        Seen::Absent => held.is_none(),
        Seen::Present => held.is_some(),
        Seen::Value(value) => held == Some(show(value)),
    };
    let open_ended = matches!(op.outcome, Outcome::Unknown | Outcome::InvalidBinding);
    let done = matches!(op.outcome, Outcome::Done(seen) if agrees(seen)) || open_ended;
    let refused = matches!(op.outcome, Outcome::Refused(seen) if agrees(seen)) || open_ended;
    let mut next = world.clone();
    let mut write = |text: String, value: Value| {
        let birth = cell.map_or(value, |cell| cell.birth);
        next.cells.insert(op.key, Cell { text, binds: op.binds, writer: number, birth });
    };
    let ok = match op.action {
        Action::Get => {
            matches!(op.outcome, Outcome::Read(value) if value.map(show) == held)
                || op.outcome == Outcome::Unknown
        }
        Action::Exists => {
            op.outcome == Outcome::Exists(held.is_some()) || op.outcome == Outcome::Unknown
        }
        Action::Put { value } => {
            write(show(value), value);
            done
        }
        Action::PutIfAbsent { value } if held.is_none() => {
            write(show(value), value);
            done
        }
        Action::PutIfAbsent { .. } => refused,
        Action::CompareAndSet { expect, value } if expect.map(show) == held => {
            write(show(value), value);
            done
        }
        Action::CompareAndSet { .. } => refused,
        Action::Append { value } => {
            write(held.unwrap_or_default() + &show(value), value);
            done
        }
        Action::Remove => {
            end(&mut next, op.key);
            done
        }
    };
    ok.then_some(next)
}
