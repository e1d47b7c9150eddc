//! One key's part of a history, lowered to guards and effects on a small state.
//!
//! Lowering is where everything that can be known before any search is worked out: which values
//! have one writer, until when a value must be held, which writes of unknown outcome must have
//! happened, which can stand in for each other. It must never decide a verdict.

use super::hash::{FixedMap, ValueTable};
use crate::history::{
    Action, Binding, Binds, History, Key, MarkKind, NEVER, OpIndex, Operation, Outcome, Seen, Time,
    Value,
};

/// No step, state, class or value.
pub(super) const NONE: u32 = u32::MAX;
/// The value number of "absent".
pub(super) const ABSENT: u32 = 0;
/// The value number shared by all values nobody ever asked about: they are interchangeable.
pub(super) const JUNK: u32 = 1;

/// What must hold of the state for a step to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Guard {
    Any,
    Is(u32),
    /// Contradicts itself: can never be taken.
    Never,
    Not(u32),
    /// Live, but not this value.
    Other(u32),
}

/// What a step does to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    Append(u32),
    Keep,
    Set(u32),
}

/// What is demanded of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// It may be taken before its end, and then its entry must be gone by its end.
    GoneByEnd,
    /// It must be taken before its end.
    Must,
    /// It may be taken at any time from its call on: one of a class of interchangeable ones.
    May(u32),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) op: OpIndex,
    pub(super) call: Time,
    /// The moment it must be settled at: its return, or the first return that proves it happened.
    pub(super) end: Time,
    pub(super) guard: Guard,
    pub(super) effect: Effect,
    pub(super) duty: Duty,
}

/// What is known about a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Val {
    /// How many steps may write it; the initial value counts as one.
    writers: u32,
    /// The first call that asks for it to be written; 0 for the initial value.
    born: Time,
    /// The last of them.
    pub(super) writer: u32,
    /// The last call of an operation that certainly saw it.
    pub(super) lo: Time,
    /// The last call of an operation that mentions it at all.
    pub(super) lo_all: Time,
    /// The first end of an operation that certainly saw it.
    pub(super) hi: Time,
    /// The step that certainly replaced it, by compare-and-set or the like.
    pub(super) succ: u32,
    mentioned: bool,
    /// It is held during one interval only.
    pub(super) unique: bool,
    /// The first class whose guard asks for it.
    pub(super) class: u32,
    /// The first state with this value.
    state: u32,
}

impl Val {
    const fn new() -> Self {
        Self {
            writers: 0,
            born: NEVER,
            writer: NONE,
            lo: 0,
            lo_all: 0,
            hi: NEVER,
            succ: NONE,
            mentioned: false,
            unique: false,
            class: NONE,
            state: NONE,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) val: u32,
    pub(super) binds: Binds,
    /// The step whose entry must be told apart from others, see [`Duty::GoneByEnd`].
    pub(super) tag: u32,
    /// From when on it may vanish.
    pub(super) down: Time,
    /// The life it begins when it follows "absent", 0 for one nobody asks about.
    pub(super) life: u32,
    next: u32,
}

/// Steps of unknown outcome that can stand in for each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    pub(super) guard: Guard,
    pub(super) effect: Effect,
    /// Whether it matters how many were used.
    pub(super) counted: bool,
    /// The next class with the same value in its guard.
    pub(super) next: u32,
    /// The first step in it, see [`Case::next_member`].
    pub(super) first: u32,
    last: u32,
}

/// A moment at which something must not be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) time: Time,
    pub(super) binding: Binding,
    /// Instead of a binding: a life of this very key, by its number; see [`Lives`].
    pub(super) life: u32,
}

/// The lives of a key that other keys are bound to, and the moments they must have ended by.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives {
    /// The values that begin them; life `i + 1` is `births[i]`.
    pub(super) births: Vec<Value>,
    /// `(life, time)`: the life must have begun and ended by then.
    pub(super) over: Vec<(u32, Time)>,
}

/// When bindings went down, for lookups by binding.
#[derive(Clone, Debug, Default)]
pub(super) struct Downs {
    global: FixedMap<Binding, Time>,
    local: FixedMap<(Key, Binding), Time>,
    gone: Vec<(Option<Key>, Deadline)>,
}

impl Downs {
    pub(super) fn of(history: &History) -> Self {
        let mut downs = Self::default();
        for mark in &history.marks {
            match mark.kind {
                MarkKind::Down => downs.add(mark.key, mark.binding, mark.time),
                MarkKind::Gone => downs
                    .gone
                    .push((mark.key, Deadline { time: mark.time, binding: mark.binding, life: 0 })),
            }
        }
        downs
    }

    pub(super) fn add(&mut self, key: Option<Key>, binding: Binding, time: Time) {
        let earliest = match key {
            Some(key) => self.local.entry((key, binding)).or_insert(time),
            None => self.global.entry(binding).or_insert(time),
        };
        *earliest = time.min(*earliest);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.global.is_empty() && self.local.is_empty()
    }

    pub(super) fn at(&self, key: Key, binding: Binding) -> Time {
        let global = self.global.get(&binding).copied().unwrap_or(NEVER);
        let local = self.local.get(&(key, binding)).copied().unwrap_or(NEVER);
        global.min(local)
    }

    /// From when on an entry with these bindings may vanish.
    pub(super) fn first(&self, history: &History, key: Key, binds: Binds) -> Time {
        if binds == Binds::NONE || self.is_empty() {
            return NEVER;
        }
        let bindings = history.bindings(binds).iter();
        bindings.map(|binding| self.at(key, *binding)).min().unwrap_or(NEVER)
    }

    pub(super) fn deadlines(&self, key: Key) -> impl Iterator<Item = Deadline> + '_ {
        let applies = move |of: Option<Key>| of.is_none_or(|of| of == key);
        self.gone.iter().filter(move |(of, _)| applies(*of)).map(|(_, deadline)| *deadline)
    }
}

/// The moments of a key at which something must have been settled, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settle {
    Deadline(u32),
    Step(u32),
}

/// One key's part of a history; reused from key to key.
#[derive(Default)]
pub(super) struct Case {
    pub(super) key: Key,
    /// By call time.
    pub(super) steps: Vec<Step>,
    /// By time.
    pub(super) settles: Vec<(Time, Settle)>,
    pub(super) vals: Vec<Val>,
    pub(super) states: Vec<State>,
    pub(super) classes: Vec<Class>,
    /// The classes whose guard is [`Guard::Any`].
    pub(super) open_classes: Vec<u32>,
    pub(super) deadlines: Vec<Deadline>,
    pub(super) initial: u32,
    /// Some entry may vanish.
    pub(super) erasable: bool,
    /// Lives are followed; shortcuts that lose track of them are off.
    pub(super) tracked: bool,
    /// Appends are used; shortcuts for overwrites are off.
    pub(super) appends: bool,
    /// Some class of unknown outcome needs a certain value.
    pub(super) guarded_classes: bool,
    next_member: Vec<u32>,
    table: ValueTable,
    class_index: FixedMap<(Guard, Effect), u32>,
    strings: FixedMap<String, u32>,
    texts: Vec<String>,
    work: Vec<u32>,
    raw: Vec<Raw>,
}

#[derive(Clone, Copy)]
struct Raw {
    guard: Guard,
    write: u32,
    append: bool,
}

impl Case {
    fn val(&mut self, value: Value) -> u32 {
        let fresh = u32::try_from(self.vals.len()).expect("fewer than 2^32 values");
        let val = self.table.insert(value, fresh);
        if val == fresh {
            self.vals.push(Val::new());
        }
        val
    }

    fn maybe(&mut self, value: Option<Value>) -> u32 {
        value.map_or(ABSENT, |value| self.val(value))
    }

    fn seen(&mut self, seen: Seen) -> Guard {
        match seen {
            Seen::Absent => Guard::Is(ABSENT),
            Seen::Nothing => Guard::Any,
            Seen::Present => Guard::Not(ABSENT),
            Seen::Value(value) => Guard::Is(self.val(value)),
        }
    }

    /// What the operation requires and writes. `NONE` as the value written: it writes nothing.
    fn lower(&mut self, op: &Operation) -> Option<Raw> {
        let read = |guard| Raw { guard, write: NONE, append: false };
        Some(match (op.action, op.outcome) {
            (Action::Get, Outcome::Read(value)) => {
                let val = self.maybe(value);
                read(Guard::Is(val))
            }
            (Action::Exists, Outcome::Exists(true)) => read(Guard::Not(ABSENT)),
            (Action::Exists, Outcome::Exists(false)) => read(Guard::Is(ABSENT)),
            (Action::Exists | Action::Get, _) => return None,
            (Action::CompareAndSet { expect, .. }, Outcome::Refused(seen)) => {
                let expect = self.maybe(expect);
                read(match self.seen(seen) {
                    Guard::Any => Guard::Not(expect),
                    Guard::Is(val) if val == expect => Guard::Never,
                    Guard::Not(_) if expect != ABSENT => Guard::Other(expect),
                    told @ (Guard::Is(_) | Guard::Never | Guard::Not(_) | Guard::Other(_)) => told,
                })
            }
            (Action::PutIfAbsent { .. }, Outcome::Refused(seen)) => match self.seen(seen) {
                Guard::Any => read(Guard::Not(ABSENT)),
                Guard::Is(ABSENT) => read(Guard::Never),
                told @ (Guard::Is(_) | Guard::Never | Guard::Not(_) | Guard::Other(_)) => {
                    read(told)
                }
            },
            (_, Outcome::Refused(_) | Outcome::Read(_) | Outcome::Exists(_)) => read(Guard::Never),
            // Nothing was written that could have been bound: no effect, nothing told.
            (Action::Append { .. } | Action::Remove, Outcome::InvalidBinding) => return None,
            (action, Outcome::Done(_) | Outcome::InvalidBinding | Outcome::Unknown) => {
                let told =
                    if let Outcome::Done(seen) = op.outcome { self.seen(seen) } else { Guard::Any };
                let write = action.value().map_or(ABSENT, |value| self.val(value));
                let needs = match action {
                    Action::CompareAndSet { expect, .. } => Guard::Is(self.maybe(expect)),
                    Action::PutIfAbsent { .. } => Guard::Is(ABSENT),
                    Action::Append { .. }
                    | Action::Exists
                    | Action::Get
                    | Action::Put { .. }
                    | Action::Remove => Guard::Any,
                };
                let guard = match (needs, told) {
                    (guard, Guard::Any) | (Guard::Any, guard) => guard,
                    (Guard::Is(a), Guard::Is(b)) if a == b => Guard::Is(a),
                    (Guard::Is(a), Guard::Not(ABSENT)) if a != ABSENT => Guard::Is(a),
                    _ => Guard::Never,
                };
                let append = matches!(action, Action::Append { .. });
                let absent_to_absent = guard == Guard::Is(ABSENT) && write == ABSENT;
                let write = if absent_to_absent { NONE } else { write };
                Raw { guard, write, append }
            }
        })
    }

    fn state(&mut self, val: u32, binds: Binds, tag: u32, down: Time, life: u32) -> u32 {
        let mut at = self.vals[val as usize].state;
        while at != NONE {
            let state = &self.states[at as usize];
            if state.binds == binds && state.tag == tag {
                return at;
            }
            at = state.next;
        }
        let number = u32::try_from(self.states.len()).expect("fewer than 2^32 states");
        let next = self.vals[val as usize].state;
        self.states.push(State { val, binds, tag, down, life, next });
        self.vals[val as usize].state = number;
        self.erasable |= down != NEVER;
        number
    }

    /// Lowers the operations `indices` of `history`, all of one key and by call time.
    ///
    /// `dropped` operations are left out; `weakened` ones keep their effect but what they
    /// observed and when they returned is forgotten.
    pub(super) fn load(
        &mut self,
        history: &History,
        downs: &Downs,
        key: Key,
        indices: &[OpIndex],
        lives: &Lives,
    ) {
        self.key = key;
        self.steps.clear();
        self.settles.clear();
        self.vals.clear();
        self.states.clear();
        self.classes.clear();
        self.open_classes.clear();
        self.deadlines.clear();
        self.next_member.clear();
        self.class_index.clear();
        self.raw.clear();
        self.erasable = false;
        self.tracked = !lives.births.is_empty();
        self.appends = false;
        self.guarded_classes = false;
        self.table.reset(indices.len());
        // "Absent" and "junk" come first; neither has a number in the table.
        self.vals.push(Val::new());
        self.vals.push(Val::new());
        self.vals[JUNK as usize].writers = 2;
        for &index in indices {
            let op = &history.ops[index as usize];
            let Some(raw) = self.lower(op) else { continue };
            let may = op.outcome == Outcome::Unknown;
            if may && raw.write == NONE {
                continue;
            }
            let step = u32::try_from(self.steps.len()).expect("fewer than 2^32 operations");
            if raw.write != NONE {
                let val = &mut self.vals[raw.write as usize];
                val.writers += 1;
                val.born = val.born.min(op.call);
                val.writer = step;
            }
            self.appends |= raw.append;
            let duty = match op.outcome {
                Outcome::InvalidBinding => Duty::GoneByEnd,
                Outcome::Unknown => Duty::May(NONE),
                Outcome::Done(_) | Outcome::Exists(_) | Outcome::Read(_) | Outcome::Refused(_) => {
                    Duty::Must
                }
            };
            self.raw.push(raw);
            self.steps.push(Step {
                op: index,
                call: op.call,
                end: if may { NEVER } else { op.ret },
                guard: raw.guard,
                effect: Effect::Keep,
                duty,
            });
        }
        let initial = self.maybe(history.initial());
        self.vals[initial as usize].writers += 1;
        self.vals[initial as usize].born = 0;
        if !self.appends {
            self.promote();
        }
        self.mention(lives, initial);
        self.name_states(history, downs, lives, initial);
        self.find_unique(initial);
        self.find_classes();
        for deadline in downs.deadlines(key) {
            self.deadlines.push(deadline);
        }
        let over = lives.over.iter().map(|&(life, time)| Deadline {
            time,
            binding: Binding::Thing(NONE),
            life,
        });
        self.deadlines.extend(over);
        if self.appends {
            self.prepare_texts(history, indices);
        }
    }

    /// The operation that first saw, for certain, a value that nobody had asked to write by then:
    /// no order explains it, and no search is needed to know.
    pub(super) fn unborn(&self) -> Option<OpIndex> {
        if self.appends {
            return None;
        }
        let is_unborn = |step: &&Step| {
            let Guard::Is(val) = step.guard else { return false };
            val > JUNK && step.duty == Duty::Must && step.end < self.vals[val as usize].born
        };
        let first = self.steps.iter().filter(is_unborn).min_by_key(|step| step.end);
        first.map(|step| step.op)
    }

    /// Puts the moments at which something must be settled in order, for a search.
    pub(super) fn arrange(&mut self) {
        for (number, step) in self.steps.iter().enumerate() {
            if step.end != NEVER {
                self.settles.push((step.end, Settle::Step(number as u32)));
            }
        }
        for (number, deadline) in self.deadlines.iter().enumerate() {
            self.settles.push((deadline.time, Settle::Deadline(number as u32)));
        }
        self.settles.sort_by_key(|(time, _)| *time);
    }

    /// A write of unknown outcome whose value was seen, and that nothing else can have written,
    /// did happen, and before the first return that saw it. It is then itself proof of what its
    /// guard asked for.
    fn promote(&mut self) {
        self.work.clear();
        for number in 0..self.steps.len() {
            let step = self.steps[number];
            if step.duty == Duty::Must
                && let Guard::Is(val) = step.guard
            {
                self.saw(val, step.end);
            }
        }
        while let Some(number) = self.work.pop() {
            let step = self.steps[number as usize];
            let write = self.raw[number as usize].write;
            let hi = self.vals[write as usize].hi;
            // Seen before it was even asked for: left alone, so that the search says so.
            if hi < step.call || step.duty == Duty::Must && hi >= step.end {
                continue;
            }
            self.steps[number as usize].end = hi;
            self.steps[number as usize].duty = Duty::Must;
            if let Guard::Is(val) = step.guard {
                self.saw(val, hi);
            }
        }
    }

    fn saw(&mut self, val: u32, end: Time) {
        let info = &mut self.vals[val as usize];
        if end < info.hi {
            info.hi = end;
            if val > JUNK && info.writers == 1 && info.writer != NONE {
                let writer = self.steps[info.writer as usize];
                if writer.duty == Duty::May(NONE) {
                    self.work.push(info.writer);
                }
            }
        }
    }

    fn mention(&mut self, lives: &Lives, initial: u32) {
        for number in 0..self.steps.len() {
            let step = self.steps[number];
            let must = step.duty == Duty::Must;
            match step.guard {
                Guard::Any | Guard::Never => {}
                Guard::Is(val) => {
                    let info = &mut self.vals[val as usize];
                    info.mentioned = true;
                    info.lo_all = info.lo_all.max(step.call);
                    if must {
                        info.lo = info.lo.max(step.call);
                        if self.raw[number].write != NONE && info.succ == NONE {
                            info.succ = number as u32;
                        }
                    }
                }
                Guard::Not(val) | Guard::Other(val) => {
                    let info = &mut self.vals[val as usize];
                    info.mentioned = true;
                    info.lo_all = info.lo_all.max(step.call);
                }
            }
        }
        self.vals[ABSENT as usize].mentioned = true;
        self.vals[initial as usize].mentioned = true;
        for &birth in &lives.births {
            if let Some(val) = self.table.get(birth) {
                self.vals[val as usize].mentioned = true;
            }
        }
    }

    fn name_states(&mut self, history: &History, downs: &Downs, lives: &Lives, initial: u32) {
        let absent = self.state(ABSENT, Binds::NONE, NONE, NEVER, 0);
        self.initial = match initial {
            ABSENT => absent,
            val => self.state(val, Binds::NONE, NONE, NEVER, 0),
        };
        for number in 0..self.steps.len() {
            let raw = self.raw[number];
            if raw.write == NONE {
                continue;
            }
            if raw.append {
                self.steps[number].effect = Effect::Append(raw.write);
                continue;
            }
            if raw.write == ABSENT {
                self.steps[number].effect = Effect::Set(absent);
                continue;
            }
            let step = self.steps[number];
            let tag = if step.duty == Duty::GoneByEnd { number as u32 } else { NONE };
            let plain = !self.vals[raw.write as usize].mentioned && tag == NONE && !self.appends;
            let val = if plain { JUNK } else { raw.write };
            let op = &history.ops[step.op as usize];
            let down = downs.first(history, self.key, op.binds);
            // Bindings nothing is known about do not tell states apart, except before a deadline.
            let matters = down != NEVER || downs.deadlines(self.key).next().is_some();
            let binds = if matters { op.binds } else { Binds::NONE };
            let life = op.action.value().map_or(0, |value| {
                let found = lives.births.iter().position(|birth| *birth == value);
                found.map_or(0, |index| index as u32 + 1)
            });
            let state = self.state(val, binds, tag, down, life);
            self.steps[number].effect = Effect::Set(state);
        }
    }

    fn find_unique(&mut self, initial: u32) {
        let absent = ABSENT as usize;
        for (number, val) in self.vals.iter_mut().enumerate() {
            val.unique = val.writers <= 1 && number != JUNK as usize;
        }
        // "Absent" comes back by every erase.
        if self.erasable || initial as usize != absent || self.appends {
            self.vals[absent].unique = false;
        }
        if self.appends {
            for val in &mut self.vals {
                val.unique = false;
            }
        }
    }

    fn find_classes(&mut self) {
        for number in 0..self.steps.len() {
            self.next_member.push(NONE);
            let step = self.steps[number];
            if !matches!(step.duty, Duty::May(_)) {
                continue;
            }
            let fresh = u32::try_from(self.classes.len()).expect("fewer than 2^32 classes");
            let class = *self.class_index.entry((step.guard, step.effect)).or_insert(fresh);
            let member = number as u32;
            if class == fresh {
                let mut next = NONE;
                let mut counted = true;
                match step.guard {
                    Guard::Is(val) => {
                        let info = &mut self.vals[val as usize];
                        next = std::mem::replace(&mut info.class, class);
                        self.guarded_classes |= val != ABSENT;
                        // A value held only once is left only once.
                        counted = !info.unique;
                    }
                    Guard::Any | Guard::Never | Guard::Not(_) | Guard::Other(_) => {
                        self.open_classes.push(class);
                    }
                }
                self.classes.push(Class {
                    guard: step.guard,
                    effect: step.effect,
                    counted,
                    next,
                    first: member,
                    last: member,
                });
            } else {
                let info = &mut self.classes[class as usize];
                self.next_member[info.last as usize] = member;
                info.last = member;
            }
            self.steps[number].duty = Duty::May(class);
        }
    }

    /// The step of the same class called after this one.
    pub(super) fn next_member(&self, step: u32) -> u32 {
        self.next_member[step as usize]
    }

    fn prepare_texts(&mut self, history: &History, indices: &[OpIndex]) {
        self.strings.clear();
        self.texts.clear();
        self.texts.resize(self.vals.len(), String::new());
        let mut named = Vec::new();
        for &index in indices {
            let op = &history.ops[index as usize];
            named.extend(op.action.value());
            if let Outcome::Read(Some(value)) = op.outcome {
                named.push(value);
            }
        }
        named.extend(history.initial());
        for value in named {
            let Some(val) = self.table.get(value) else { continue };
            let text = history.text(value).map_or_else(|| value.to_string(), str::to_owned);
            self.texts[val as usize].clone_from(&text);
            self.strings.insert(text, val);
        }
    }

    /// The state after appending the string `suffix` in `state`.
    pub(super) fn append(&mut self, state: u32, suffix: u32) -> u32 {
        let val = self.states[state as usize].val;
        let text = format!("{}{}", self.texts[val as usize], self.texts[suffix as usize]);
        let fresh = u32::try_from(self.vals.len()).expect("fewer than 2^32 values");
        let val = *self.strings.entry(text.clone()).or_insert(fresh);
        if val == fresh {
            self.vals.push(Val::new());
            self.texts.push(text);
        }
        self.state(val, Binds::NONE, NONE, NEVER, 0)
    }

    /// The state after appending, if the search has been there.
    pub(super) fn appended(&self, state: u32, suffix: u32) -> Option<u32> {
        let val = self.states[state as usize].val;
        let text = format!("{}{}", self.texts[val as usize], self.texts[suffix as usize]);
        let val = *self.strings.get(&text)?;
        let state = self.vals[val as usize].state;
        (state != NONE).then_some(state)
    }

    /// Whether a state with this value satisfies the guard.
    pub(super) const fn allows(guard: Guard, val: u32) -> bool {
        match guard {
            Guard::Any => true,
            Guard::Is(wanted) => val == wanted,
            Guard::Never => false,
            Guard::Not(other) => val != other,
            Guard::Other(other) => val != other && val != ABSENT,
        }
    }

    /// The largest number of steps in flight at once, those of unknown outcome not counted.
    pub(super) fn width(&self) -> usize {
        let mut settled = self.settles.iter().filter(|(_, what)| matches!(what, Settle::Step(_)));
        let mut next = settled.next();
        let (mut now, mut most) = (0_usize, 0);
        for step in &self.steps {
            if step.end == NEVER {
                continue;
            }
            while let Some((time, _)) = next {
                if *time >= step.call {
                    break;
                }
                now -= 1;
                next = settled.next();
            }
            now += 1;
            most = most.max(now);
        }
        most
    }
}
