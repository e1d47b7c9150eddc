//! Witnesses: a claimed order of a history's operations, and its check.
//!
//! The check is the root of trust of every *linearizable*: it replays the order against the
//! sequential specification and knows nothing of how the order was found. It uses none of the
//! lowering the searches use.

use std::fmt;

use super::case::{ABSENT, Case, Downs, Effect, Guard, NONE, Settle};
use super::frontier::{Node, Taken};
use super::hash::FixedMap;
use crate::history::{
    Action, Binding, Binds, History, Key, MarkKind, NEVER, OpIndex, Outcome, Seen, Time, Value,
};

/// One step of a claimed order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The entry vanishes because one of its bindings is down.
    Erase,
    /// This operation takes effect.
    Op(OpIndex),
}

/// A claimed order, key by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Witness {
    /// Per key the order of its operations and erases.
    pub keys: Vec<(Key, Vec<Move>)>,
}

/// Why a claimed order is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessError {
    /// An entry is still there at a moment by which it must be gone.
    Held {
        /// The key.
        key: Key,
        /// The moment.
        time: Time,
    },
    /// An operation that took effect is not in the order.
    Missing(OpIndex),
    /// The entry cannot have vanished here.
    NotErasable {
        /// The key.
        key: Key,
        /// The place in the key's order.
        place: usize,
    },
    /// The operation comes twice, or is of another key.
    Repeated(OpIndex),
    /// The order puts the operation after its response.
    TooLate(OpIndex),
    /// What the operation was told is not what it would see here.
    Wrong(OpIndex),
}

impl fmt::Display for WitnessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { key, time } => {
                write!(f, "key {key} still holds an entry that must be gone by {time}")
            }
            Self::Missing(op) => write!(f, "operation {op} is missing"),
            Self::NotErasable { key, place } => {
                write!(f, "at place {place} of key {key} nothing can vanish")
            }
            Self::Repeated(op) => write!(f, "operation {op} does not belong here"),
            Self::TooLate(op) => write!(f, "operation {op} comes after its response"),
            Self::Wrong(op) => write!(f, "operation {op} was told something else"),
        }
    }
}

impl std::error::Error for WitnessError {}

/// The entry a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) binds: Binds,
    pub(super) writer: OpIndex,
    /// The value that began the life it belongs to.
    pub(super) birth: Value,
}

/// The sequential specification: what `op` does to `entry`, `None` if it would not have been told
/// what it was told.
pub(super) fn apply(
    history: &History,
    texts: &mut Vec<String>,
    entry: Option<Entry>,
    index: OpIndex,
) -> Option<Option<Entry>> {
    let op = &history.ops[index as usize];
    let held = entry.map(|entry| entry.value);
    let matches = |seen: Seen| match seen {
        Seen::Absent => held.is_none(),
        Seen::Nothing => true,
        Seen::Present => held.is_some(),
        Seen::Value(value) => held == Some(value),
    };
    let write = |value: Value| {
        let birth = entry.map_or(value, |entry| entry.birth);
        Some(Entry { value, binds: op.binds, writer: index, birth })
    };
    match (op.action, op.outcome) {
        (Action::Get, Outcome::Read(value)) => (held == value).then_some(entry),
        (Action::Exists, Outcome::Exists(live)) => (held.is_some() == live).then_some(entry),
        (Action::Get | Action::Exists, Outcome::Unknown) => Some(entry),
        (Action::Put { value }, Outcome::Done(seen)) => matches(seen).then(|| write(value)),
        (Action::Put { value }, Outcome::Unknown | Outcome::InvalidBinding) => Some(write(value)),
        (Action::PutIfAbsent { value }, Outcome::Done(seen)) => {
            (held.is_none() && matches(seen)).then(|| write(value))
        }
        (Action::PutIfAbsent { .. }, Outcome::Refused(seen)) => {
            (held.is_some() && matches(seen)).then_some(entry)
        }
        (Action::PutIfAbsent { value }, Outcome::Unknown | Outcome::InvalidBinding) => {
            Some(if held.is_none() { write(value) } else { entry })
        }
        (Action::CompareAndSet { expect, value }, Outcome::Done(seen)) => {
            (held == expect && matches(seen)).then(|| write(value))
        }
        (Action::CompareAndSet { expect, .. }, Outcome::Refused(seen)) => {
            (held != expect && matches(seen)).then_some(entry)
        }
        (Action::CompareAndSet { expect, value }, Outcome::Unknown | Outcome::InvalidBinding) => {
            Some(if held == expect { write(value) } else { entry })
        }
        (Action::Remove, Outcome::Done(seen)) => matches(seen).then_some(None),
        (Action::Remove, Outcome::Unknown) => Some(None),
        (Action::Append { value }, Outcome::Done(_) | Outcome::Unknown) => {
            let suffix = history.text(value)?;
            let text = match held {
                Some(held) => text_of(history, texts, held)? + suffix,
                None => suffix.to_owned(),
            };
            Some(write(value_of(history, texts, text)))
        }
        (
            Action::Append { .. }
            | Action::Exists
            | Action::Get
            | Action::Put { .. }
            | Action::Remove,
            _,
        )
        | (
            Action::PutIfAbsent { .. } | Action::CompareAndSet { .. },
            Outcome::Read(_) | Outcome::Exists(_),
        ) => None,
    }
}

/// Strings that were never asked about get numbers from here on.
const OWN_BASE: Value = 1 << 63;

fn text_of(history: &History, texts: &[String], value: Value) -> Option<String> {
    match value.checked_sub(OWN_BASE) {
        Some(index) => texts.get(usize::try_from(index).ok()?).cloned(),
        None => history.text(value).map(str::to_owned),
    }
}

fn value_of(history: &History, texts: &mut Vec<String>, text: String) -> Value {
    if let Some(value) = history.find(&text) {
        return value;
    }
    let known = texts.iter().position(|other| *other == text);
    let index = known.unwrap_or_else(|| {
        texts.push(text);
        texts.len() - 1
    });
    OWN_BASE + index as Value
}

/// Checks a claimed order: in real time, complete, and every answer as told.
///
/// # Errors
/// The first thing found wrong with it.
pub fn check_witness(history: &History, witness: &Witness) -> Result<(), WitnessError> {
    let mut replay = Replay::new(history);
    replay.keys(&witness.keys)?;
    for (index, op) in history.ops.iter().enumerate() {
        let optional = match op.outcome {
            Outcome::InvalidBinding | Outcome::Unknown => true,
            Outcome::Done(_) | Outcome::Exists(_) | Outcome::Read(_) | Outcome::Refused(_) => false,
        };
        if !optional && !replay.seen[index] {
            return Err(WitnessError::Missing(index as OpIndex));
        }
    }
    Ok(())
}

/// The replay of one key after the other.
pub(super) struct Replay<'a> {
    history: &'a History,
    downs: Downs,
    /// Operations already replayed.
    pub(super) seen: Vec<bool>,
    /// When the lives other keys are bound to ended.
    ends: FixedMap<(Key, Value), Time>,
    life_keys: Vec<Key>,
    ends_changed: bool,
    waits: Option<(Key, usize)>,
    spans: Vec<Span>,
    not_before: FixedMap<usize, Time>,
}

/// How long an entry was held.
struct Span {
    binds: Binds,
    place: usize,
    start: Time,
    end: Time,
}

impl<'a> Replay<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        let mut life_keys = Vec::new();
        for number in 1..=history.binds_len() {
            for binding in history.bindings(Binds(number as u32)) {
                if let Binding::Life { key, .. } = binding {
                    life_keys.push(*key);
                }
            }
        }
        life_keys.sort_unstable();
        life_keys.dedup();
        Self {
            history,
            downs: Downs::of(history),
            seen: vec![false; history.ops.len()],
            ends: FixedMap::default(),
            life_keys,
            ends_changed: false,
            waits: None,
            spans: Vec::new(),
            not_before: FixedMap::default(),
        }
    }

    /// Replays the orders of several keys.
    pub(super) fn keys(&mut self, keys: &[(Key, Vec<Move>)]) -> Result<(), WitnessError> {
        // Lives other keys are bound to must be known before those keys. Repeating in any order
        // finds them, and for keys bound in a circle rightly nothing.
        for _ in 0..=keys.len() {
            self.ends_changed = false;
            self.waits = None;
            for (key, order) in keys {
                self.key(*key, order)?;
            }
            if !self.ends_changed {
                break;
            }
            for (_, order) in keys {
                self.forget(order);
            }
        }
        // Some erase was let through in the hope of an end that never came.
        match (self.waits, self.ends_changed) {
            (Some((key, place)), _) => Err(WitnessError::NotErasable { key, place }),
            (None, true) => Err(WitnessError::NotErasable { key: 0, place: 0 }),
            (None, false) => Ok(()),
        }
    }

    fn may_vanish_from(&self, key: Key, binds: Binds) -> Time {
        let mut from = self.downs.first(self.history, key, binds);
        if !self.life_keys.is_empty() {
            for binding in self.history.bindings(binds) {
                if let Binding::Life { key, birth } = binding {
                    let end = self.ends.get(&(*key, *birth)).copied().unwrap_or(NEVER);
                    from = from.min(end);
                }
            }
        }
        from
    }

    /// Makes room for another order of the same operations.
    pub(super) fn forget(&mut self, order: &[Move]) {
        for step in order {
            if let Move::Op(index) = *step {
                self.seen[index as usize] = false;
            }
        }
    }

    /// Replays one key's order.
    pub(super) fn key(&mut self, key: Key, order: &[Move]) -> Result<(), WitnessError> {
        for step in order {
            if let Move::Op(index) = *step {
                let fits = self.history.ops.get(index as usize).is_some_and(|op| op.key == key);
                if !fits || std::mem::replace(&mut self.seen[index as usize], true) {
                    return Err(WitnessError::Repeated(index));
                }
            }
        }
        self.not_before.clear();
        let gone = |kind| kind == MarkKind::Gone;
        let marks = self.history.marks.iter();
        let deadlines: Vec<_> = marks
            .filter(|mark| gone(mark.kind) && mark.key.is_none_or(|of| of == key))
            .copied()
            .collect();
        loop {
            self.pass(key, order, !deadlines.is_empty())?;
            let mut delayed = false;
            for mark in &deadlines {
                // Consecutive entries with the binding hold it without a gap.
                let mut run: Option<(usize, Time, Time)> = None;
                let mut found = None;
                for span in &self.spans {
                    let holds = self.history.bindings(span.binds).contains(&mark.binding);
                    run = match run {
                        Some((place, start, _)) if holds => Some((place, start, span.end)),
                        _ if holds => Some((span.place, span.start, span.end)),
                        _ => None,
                    };
                    if let Some((place, start, end)) = run
                        && start < mark.time
                        && mark.time < end
                    {
                        found = Some(place);
                        break;
                    }
                }
                if let Some(place) = found {
                    let Some(Move::Op(index)) = order.get(place) else {
                        return Err(WitnessError::Held { key, time: mark.time });
                    };
                    if self.history.ops[*index as usize].ret < mark.time {
                        return Err(WitnessError::Held { key, time: mark.time });
                    }
                    self.not_before.insert(place, mark.time);
                    delayed = true;
                    break;
                }
            }
            if !delayed {
                return Ok(());
            }
        }
    }

    /// Gives every step the earliest moment it can have happened at.
    fn pass(&mut self, key: Key, order: &[Move], spans: bool) -> Result<(), WitnessError> {
        let history = self.history;
        let mut texts = Vec::new();
        let initial = Entry { value: 0, binds: Binds::NONE, writer: NONE, birth: 0 };
        let mut entry = history.initial().map(|value| Entry { value, ..initial });
        let mut now: Time = 0;
        let followed = self.life_keys.binary_search(&key).is_ok();
        self.spans.clear();
        for (place, step) in order.iter().enumerate() {
            if spans && let Some(&time) = self.not_before.get(&place) {
                now = now.max(time);
            }
            let next = match *step {
                Move::Erase => {
                    let held = entry.ok_or(WitnessError::NotErasable { key, place })?;
                    let from = self.may_vanish_from(key, held.binds);
                    if from == NEVER {
                        let lives = history.bindings(held.binds).iter();
                        if !lives.into_iter().any(|b| matches!(b, Binding::Life { .. })) {
                            return Err(WitnessError::NotErasable { key, place });
                        }
                        self.waits = Some((key, place));
                    } else {
                        now = now.max(from);
                    }
                    None
                }
                Move::Op(index) => {
                    let op = &history.ops[index as usize];
                    now = now.max(op.call);
                    if now > op.ret {
                        return Err(WitnessError::TooLate(index));
                    }
                    apply(history, &mut texts, entry, index).ok_or(WitnessError::Wrong(index))?
                }
            };
            if next == entry {
                continue;
            }
            if let Some(held) = entry {
                self.leave(key, held, next, now, followed)?;
            }
            if spans {
                if let Some(last) = self.spans.last_mut() {
                    last.end = last.end.min(now);
                }
                let binds = next.map_or(Binds::NONE, |entry| entry.binds);
                self.spans.push(Span { binds, place, start: now, end: NEVER });
            }
            entry = next;
        }
        if let Some(held) = entry
            && self.gone_by(held) != NEVER
        {
            return Err(WitnessError::Held { key, time: self.gone_by(held) });
        }
        Ok(())
    }

    fn gone_by(&self, entry: Entry) -> Time {
        match self.history.ops.get(entry.writer as usize) {
            Some(op) if op.outcome == Outcome::InvalidBinding => op.ret,
            _ => NEVER,
        }
    }

    fn leave(
        &mut self,
        key: Key,
        held: Entry,
        next: Option<Entry>,
        now: Time,
        followed: bool,
    ) -> Result<(), WitnessError> {
        let by = self.gone_by(held);
        if now > by {
            return Err(WitnessError::Held { key, time: by });
        }
        if followed && next.is_none() {
            let fresh = self.ends.insert((key, held.birth), now) != Some(now);
            self.ends_changed |= fresh;
        }
        Ok(())
    }
}

/// Turns the path of a search into an order with the reads in it. `None`: the path used something
/// more often than there is.
pub(super) fn order_of(case: &Case, path: &[Node], into: &mut Vec<Move>) -> Option<()> {
    let placed = place_free(case, path)?;
    into.clear();
    let mut reads = Reads::new(case);
    let mut members: Vec<u32> = case.classes.iter().map(|class| class.first).collect();
    let mut val = case.states[case.initial as usize].val;
    for entry in &placed {
        reads.arrive(case, val, case.settles[entry.at as usize].0, into);
        into.push(match entry.taken {
            Taken::Erase => Move::Erase,
            Taken::Step(number) | Taken::Free(number) => Move::Op(case.steps[number as usize].op),
            Taken::Class(class) => {
                let member = members[class as usize];
                if member == NONE {
                    return None;
                }
                members[class as usize] = case.next_member(member);
                Move::Op(case.steps[member as usize].op)
            }
        });
        val = entry.val;
        reads.satisfy(case, val, into);
    }
    reads.arrive(case, val, NEVER, into);
    Some(())
}

#[derive(Clone, Copy)]
struct Placed {
    taken: Taken,
    at: u32,
    val: u32,
}

/// Puts the writes that were taken to have happened earlier where they happened.
fn place_free(case: &Case, path: &[Node]) -> Option<Vec<Placed>> {
    let mut placed: Vec<Placed> = Vec::with_capacity(path.len());
    let mut states: Vec<u32> = vec![case.initial];
    let guard = |taken: Taken| match taken {
        Taken::Step(number) | Taken::Free(number) => case.steps[number as usize].guard,
        Taken::Class(class) => case.classes[class as usize].guard,
        Taken::Erase => Guard::Never,
    };
    for node in path {
        let effect = match node.taken {
            Taken::Erase => Effect::Set(0),
            Taken::Step(number) | Taken::Free(number) => case.steps[number as usize].effect,
            Taken::Class(class) => case.classes[class as usize].effect,
        };
        let before = *states.last()?;
        let state = match effect {
            Effect::Keep => return None,
            Effect::Set(state) => state,
            Effect::Append(suffix) => case.appended(before, suffix)?,
        };
        let val = case.states[state as usize].val;
        let Taken::Free(number) = node.taken else {
            placed.push(Placed { taken: node.taken, at: node.at, val });
            states.push(state);
            continue;
        };
        let step = case.steps[number as usize];
        let info = &case.vals[val as usize];
        let ready = step.call.max(if info.unique { info.lo } else { 0 });
        let vanishes = case.states[state as usize].down.max(ready);
        let mut index = placed.len();
        let mut at = node.at;
        loop {
            // At the place before `index`, where moments up to that of `at` fit.
            let time = case.settles[at as usize].0;
            let absent = case.states[states[index] as usize].val == ABSENT;
            if absent && vanishes != NEVER && time >= vanishes {
                placed.insert(index, Placed { taken: Taken::Erase, at, val: ABSENT });
                states.insert(index + 1, 0);
                placed.insert(index, Placed { taken: node.taken, at, val });
                states.insert(index + 1, state);
                break;
            }
            if index == 0 || time < ready {
                return None;
            }
            index -= 1;
            let entry = placed[index];
            at = entry.at;
            let fits = match guard(entry.taken) {
                Guard::Any => true,
                Guard::Not(_) => val != ABSENT,
                Guard::Is(_) | Guard::Never | Guard::Other(_) => false,
            };
            if fits && case.settles[at as usize].0 >= ready {
                placed.insert(index, Placed { taken: node.taken, at, val });
                states.insert(index + 1, state);
                break;
            }
        }
    }
    Some(placed)
}

/// The reads in flight during the making of an order.
struct Reads {
    next_call: usize,
    head: Vec<u32>,
    next: Vec<u32>,
    others: Vec<u32>,
}

impl Reads {
    fn new(case: &Case) -> Self {
        Self {
            next_call: 0,
            head: vec![NONE; case.vals.len()],
            next: vec![NONE; case.steps.len()],
            others: Vec::new(),
        }
    }

    /// Calls up to `time` arrive while the key holds `val`.
    fn arrive(&mut self, case: &Case, val: u32, time: Time, into: &mut Vec<Move>) {
        while self.next_call < case.steps.len() && case.steps[self.next_call].call <= time {
            let number = self.next_call as u32;
            let step = case.steps[self.next_call];
            self.next_call += 1;
            if step.effect != Effect::Keep {
                continue;
            }
            if Case::allows(step.guard, val) {
                into.push(Move::Op(step.op));
                continue;
            }
            match step.guard {
                Guard::Is(val) => {
                    self.next[number as usize] = self.head[val as usize];
                    self.head[val as usize] = number;
                }
                Guard::Any | Guard::Never | Guard::Not(_) | Guard::Other(_) => {
                    self.others.push(number);
                }
            }
        }
    }

    fn satisfy(&mut self, case: &Case, val: u32, into: &mut Vec<Move>) {
        let mut at = std::mem::replace(&mut self.head[val as usize], NONE);
        while at != NONE {
            into.push(Move::Op(case.steps[at as usize].op));
            at = self.next[at as usize];
        }
        self.others.retain(|&number| {
            let step = case.steps[number as usize];
            let met = Case::allows(step.guard, val);
            if met {
                into.push(Move::Op(step.op));
            }
            !met
        });
    }
}

/// The operation settled at a place of the case, if it is one.
pub(super) fn settled_op(case: &Case, at: u32) -> Option<OpIndex> {
    match case.settles.get(at as usize)?.1 {
        Settle::Step(number) => Some(case.steps[number as usize].op),
        Settle::Deadline(_) => None,
    }
}
