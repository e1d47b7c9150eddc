//! Makes histories that are linearizable by construction, or have one violation planted in them.
//!
//! A store that takes every operation at one moment between its call and its return is simulated,
//! and what its clients see is written down as it happens: nothing but the operations in flight is
//! kept, so a million operations cost no memory. A planted violation is one no order can explain,
//! by an argument that needs only what was returned before the planted operation was called.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::jsonl::{write_mark, write_operation};
use super::{
    Action, Binding, Binds, History, Key, Mark, MarkKind, Model, NEVER, Operation, Outcome, Seen,
    Time, Value,
};

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everything: keys bound to each other, answers with previous values, refused bindings.
    Bound,
    /// Registers with compare-and-set, distinct values.
    Casu,
    /// Keys with bindings that go down.
    Erase,
    /// Keys with every command but bindings.
    Kv,
    /// Put-if-absent and get only.
    Once,
    /// Registers with compare-and-set over five values.
    Regs,
    /// Registers, distinct values.
    Regu,
}

impl Kind {
    /// All kinds with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("bound", Self::Bound),
        ("casu", Self::Casu),
        ("erase", Self::Erase),
        ("kv", Self::Kv),
        ("once", Self::Once),
        ("regs", Self::Regs),
        ("regu", Self::Regu),
    ];

    const fn model(self) -> Model {
        match self {
            Self::Bound | Self::Erase | Self::Kv | Self::Once => Model::Kv,
            Self::Casu | Self::Regs | Self::Regu => Model::Register,
        }
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| *name)
    }

    const fn binds(self) -> bool {
        matches!(self, Self::Bound | Self::Erase)
    }
}

/// A violation to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// `get` finds nothing although the value cannot have gone.
    Absent,
    /// `get` returns a value whose `put` is called only later.
    FutureRead,
    /// Two compare-and-sets from the same value succeed.
    LostUpdate,
    /// `get` returns a value after the key was seen absent.
    Resurrected,
    /// `get` returns a value after a later one was seen.
    StaleRead,
    /// Two put-if-absents of a key that nothing removes both win.
    TwoWinners,
    /// `get` returns a value nobody wrote.
    Unwritten,
}

impl Plant {
    /// All plants with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("absent", Self::Absent),
        ("future-read", Self::FutureRead),
        ("lost-update", Self::LostUpdate),
        ("resurrected", Self::Resurrected),
        ("stale-read", Self::StaleRead),
        ("two-winners", Self::TwoWinners),
        ("unwritten", Self::Unwritten),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, plant)| *plant == self).map_or("", |(name, _)| *name)
    }

    /// Whether histories of this kind can have it.
    pub const fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Absent | Self::TwoWinners => matches!(kind, Kind::Once),
            Self::FutureRead => !matches!(kind, Kind::Regs | Kind::Once),
            Self::LostUpdate => matches!(kind, Kind::Casu | Kind::Erase | Kind::Kv | Kind::Bound),
            Self::Resurrected => matches!(kind, Kind::Kv | Kind::Erase | Kind::Bound),
            Self::StaleRead => !matches!(kind, Kind::Regs | Kind::Once),
            Self::Unwritten => true,
        }
    }
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// What the clients do.
    pub kind: Kind,
    /// How many operations.
    pub ops: u64,
    /// How many clients at once.
    pub clients: u32,
    /// How many keys.
    pub keys: u32,
    /// The share of operations whose outcome stays unknown, 0 to 1.
    pub unknown: f64,
    /// The violation to plant, in the last part of the history.
    pub plant: Option<Plant>,
    /// Everything drawn is drawn from this.
    pub seed: u64,
}

/// Random numbers from a seed: `splitmix64`.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Numbers drawn from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// True in `share` of the cases.
    pub fn chance(&mut self, share: f64) -> bool {
        ((self.next() >> 11) as f64) < share * (1_u64 << 53) as f64
    }
}

/// Where a made history goes.
pub trait Sink {
    /// Takes an operation; operations come by call time.
    ///
    /// # Errors
    /// Whatever writing reports.
    fn operation(&mut self, names: &History, op: &Operation, planted: bool) -> io::Result<()>;
    /// Takes a mark.
    ///
    /// # Errors
    /// Whatever writing reports.
    fn mark(&mut self, names: &History, mark: &Mark) -> io::Result<()>;
}

/// Collects in memory.
impl Sink for Vec<Operation> {
    fn operation(&mut self, _: &History, op: &Operation, _: bool) -> io::Result<()> {
        self.push(*op);
        Ok(())
    }

    fn mark(&mut self, _: &History, _: &Mark) -> io::Result<()> {
        Ok(())
    }
}

struct Lines<'a> {
    out: &'a mut dyn Write,
}

impl Sink for Lines<'_> {
    fn operation(&mut self, names: &History, op: &Operation, planted: bool) -> io::Result<()> {
        if planted {
            self.out.write_all(b"{\"bad\":true,")?;
            let mut line = Vec::new();
            write_operation(&mut line, names, op)?;
            return self.out.write_all(&line[1..]);
        }
        write_operation(self.out, names, op)
    }

    fn mark(&mut self, names: &History, mark: &Mark) -> io::Result<()> {
        write_mark(self.out, names, mark)
    }
}

/// Writes a made history as JSON lines; false: the violation found no place.
///
/// # Errors
/// Whatever `out` reports.
pub fn write(recipe: &Recipe, out: &mut dyn Write) -> io::Result<bool> {
    let expect = if recipe.plant.is_some() { "illegal" } else { "ok" };
    writeln!(
        out,
        "{{\"h\":1,\"kind\":\"{}\",\"ops\":{},\"clients\":{},\"keys\":{},\"pending_p\":{},\
         \"seed\":{},\"expect\":\"{expect}\",\"planted\":\"{}\"}}",
        recipe.kind.name(),
        recipe.ops,
        recipe.clients,
        recipe.keys,
        recipe.unknown,
        recipe.seed,
        recipe.plant.map_or("none", Plant::name),
    )?;
    Store::new(*recipe).run(&mut Lines { out })
}

/// Makes a history in memory; `None`: the violation found no place.
pub fn make(recipe: &Recipe) -> Option<History> {
    let mut store = Store::new(*recipe);
    let mut ops = Vec::new();
    let planted = store.run(&mut ops).expect("memory takes everything");
    let mut history = store.names;
    history.ops = ops;
    history.marks = store.marks;
    history.expect = Some(recipe.plant.is_none());
    planted.then_some(history)
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    value: Value,
    binds: Binds,
    birth: Value,
    writer: u64,
}

/// What has been proved about a key by returns so far.
#[derive(Clone, Copy, Debug, Default)]
struct Proved {
    /// The last value seen by an operation that returned, `Some(None)` for absent, and when.
    seen: Option<(Option<Value>, Time)>,
    /// A value that a later one is known to have followed, and when that was known.
    old: Option<(Value, Time)>,
    /// The same, and the key was seen absent in between.
    removed: Option<(Value, Time)>,
    /// A value some returned compare-and-set replaced.
    replaced: Option<Value>,
    /// When some value was first known to have been there.
    live: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Applied,
    Called,
    Idle,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    number: i32,
    phase: Phase,
    /// Counted from the first operation ever.
    op: u64,
}

struct Store {
    recipe: Recipe,
    dice: Dice,
    names: History,
    marks: Vec<Mark>,
    keys: Vec<Option<Entry>>,
    proved: Vec<Proved>,
    clients: Vec<Client>,
    /// Operations not handed on yet, by call; the first is number `base`.
    window: VecDeque<(Operation, bool, bool)>,
    base: u64,
    called: u64,
    now: Time,
    next_value: Value,
    next_client: i32,
    /// Unknown operations that may still take effect.
    limbo: Vec<Operation>,
    /// Things keys are bound to now; each goes down some day.
    things: Vec<u32>,
    down: Vec<u32>,
    is_down: Vec<bool>,
    next_thing: u32,
    bound: Vec<Key>,
    planted: bool,
}

/// Entries in limbo are few; more would make the history easier, not harder.
const LIMBO_MAX: usize = 64;
const THINGS: usize = 6;

impl Store {
    fn new(recipe: Recipe) -> Self {
        let mut names = History::new(recipe.kind.model());
        let initial = names.initial().map(|value| Entry {
            value,
            binds: Binds::NONE,
            birth: value,
            writer: u64::MAX,
        });
        names.expect = Some(recipe.plant.is_none());
        Self {
            dice: Dice::new(recipe.seed),
            names,
            marks: Vec::new(),
            keys: vec![initial; recipe.keys as usize],
            proved: vec![Proved::default(); recipe.keys as usize],
            clients: (0..recipe.clients)
                .map(|number| Client { number: number as i32, phase: Phase::Idle, op: 0 })
                .collect(),
            window: VecDeque::new(),
            base: 0,
            called: 0,
            now: 0,
            next_value: 101,
            next_client: recipe.clients as i32,
            limbo: Vec::new(),
            things: (0..THINGS as u32).collect(),
            down: Vec::new(),
            is_down: vec![false; THINGS],
            next_thing: THINGS as u32,
            bound: Vec::new(),
            planted: recipe.plant.is_none(),
            recipe,
        }
    }

    fn run(&mut self, sink: &mut dyn Sink) -> io::Result<bool> {
        let mut open = 0_usize;
        loop {
            if self.called == self.recipe.ops && open == 0 {
                break;
            }
            let index = self.dice.below(self.clients.len() as u64) as usize;
            match self.clients[index].phase {
                Phase::Idle if self.called < self.recipe.ops => {
                    if self.call(index) {
                        open += 1;
                    }
                }
                Phase::Idle => {}
                Phase::Called => self.take_effect(index),
                Phase::Applied => {
                    self.give_back(index);
                    open -= 1;
                }
            }
            if self.recipe.kind.binds() {
                self.environment(sink)?;
            }
            if !self.limbo.is_empty() && self.dice.below(64) == 0 {
                let at = self.dice.below(self.limbo.len() as u64) as usize;
                let op = self.limbo.swap_remove(at);
                self.apply(&op, u64::MAX);
            }
            while let Some((op, planted, true)) = self.window.front().copied() {
                sink.operation(&self.names, &op, planted)?;
                self.window.pop_front();
                self.base += 1;
            }
        }
        Ok(self.planted)
    }

    const fn tick(&mut self) -> Time {
        self.now += 1;
        self.now
    }

    const fn fresh(&mut self) -> Value {
        let value = self.next_value;
        self.next_value += 1;
        value
    }

    /// Things go down, entries bound to them vanish.
    fn environment(&mut self, sink: &mut dyn Sink) -> io::Result<()> {
        let pace = (self.recipe.ops / 4).clamp(16, 3000);
        if self.dice.below(pace) == 0 {
            let at = self.dice.below(self.things.len() as u64) as usize;
            let thing = std::mem::replace(&mut self.things[at], self.next_thing);
            self.next_thing += 1;
            self.is_down[thing as usize] = true;
            self.is_down.push(false);
            self.down.push(thing);
            let time = self.tick();
            let binding = Binding::Thing(thing);
            self.add_mark(Mark { time, key: None, binding, kind: MarkKind::Down }, sink)?;
        }
        if !self.bound.is_empty() && self.dice.below(4) == 0 {
            let at = self.dice.below(self.bound.len() as u64) as usize;
            let key = self.bound[at];
            match self.keys[key as usize] {
                Some(entry) if entry.binds != Binds::NONE => {
                    if self.is_doomed(entry.binds) {
                        self.keys[key as usize] = None;
                        self.bound.swap_remove(at);
                    }
                }
                _ => {
                    self.bound.swap_remove(at);
                }
            }
        }
        if self.recipe.kind == Kind::Bound && !self.down.is_empty() && self.dice.below(pace) == 0 {
            let at = self.dice.below(self.down.len() as u64) as usize;
            let binding = Binding::Thing(self.down[at]);
            let held = self
                .keys
                .iter()
                .flatten()
                .any(|entry| self.names.bindings(entry.binds).contains(&binding));
            if !held {
                let time = self.tick();
                self.add_mark(Mark { time, key: None, binding, kind: MarkKind::Gone }, sink)?;
            }
        }
        Ok(())
    }

    fn add_mark(&mut self, mark: Mark, sink: &mut dyn Sink) -> io::Result<()> {
        // Few enough to be kept also when everything else streams by.
        self.marks.push(mark);
        sink.mark(&self.names, &mark)
    }

    fn is_doomed(&self, binds: Binds) -> bool {
        self.names.bindings(binds).iter().any(|binding| match *binding {
            Binding::Thing(thing) => self.is_down[thing as usize],
            Binding::Life { key, birth } => {
                self.keys[key as usize].is_none_or(|entry| entry.birth != birth)
            }
        })
    }

    fn draw_binds(&mut self, key: Key) -> Binds {
        if !self.recipe.kind.binds() || self.dice.below(3) != 0 {
            return Binds::NONE;
        }
        let thing = Binding::Thing(self.things[self.dice.below(THINGS as u64) as usize]);
        if self.recipe.kind == Kind::Erase {
            return self.names.bind(&[thing]);
        }
        let mut bindings = Vec::new();
        if key > 0 && self.dice.below(2) == 0 {
            let other = self.dice.below(u64::from(key)) as Key;
            if let Some(entry) = self.keys[other as usize] {
                bindings.push(Binding::Life { key: other, birth: entry.birth });
            }
        }
        if bindings.is_empty() || self.dice.below(4) == 0 {
            bindings.push(thing);
        }
        self.names.bind(&bindings)
    }

    fn draw_action(&mut self, key: Key) -> Action {
        let held = self.keys[key as usize].map(|entry| entry.value);
        let roll = self.dice.below(100);
        match self.recipe.kind {
            Kind::Once if roll < 40 => Action::PutIfAbsent { value: self.fresh() },
            Kind::Regu if roll < 50 => Action::Put { value: self.fresh() },
            Kind::Once | Kind::Regu => Action::Get,
            Kind::Regs => {
                let value = self.dice.below(5);
                match roll {
                    0..33 => Action::Put { value },
                    33..66 => {
                        let expect = Some(self.dice.below(5));
                        Action::CompareAndSet { expect, value }
                    }
                    _ => Action::Get,
                }
            }
            Kind::Casu => match roll {
                0..15 => Action::Put { value: self.fresh() },
                15..60 => {
                    let stale = self.dice.below(3) == 0 && self.next_value > 110;
                    let near = self.next_value.saturating_sub(1 + self.dice.below(8));
                    let expect = if stale { Some(near) } else { held };
                    Action::CompareAndSet { expect, value: self.fresh() }
                }
                _ => Action::Get,
            },
            Kind::Kv | Kind::Erase | Kind::Bound => match roll {
                0..18 => Action::Put { value: self.fresh() },
                18..36 => Action::PutIfAbsent { value: self.fresh() },
                36..48 => {
                    let expect = if self.dice.below(4) == 0 { Some(1) } else { held };
                    Action::CompareAndSet { expect, value: self.fresh() }
                }
                48..60 if self.recipe.kind != Kind::Erase => Action::Remove,
                60..66 if self.recipe.kind == Kind::Bound => Action::Exists,
                _ => Action::Get,
            },
        }
    }

    /// An idle client calls; false: the operation's outcome will stay unknown.
    fn call(&mut self, index: usize) -> bool {
        let key = self.dice.below(u64::from(self.recipe.keys)) as Key;
        let action = self.draw_action(key);
        let mut binds = Binds::NONE;
        if action.value().is_some() {
            binds = self.draw_binds(key);
        }
        let mut outcome = Outcome::Unknown;
        let refusable = self.recipe.kind == Kind::Bound && action.value().is_some();
        if refusable && !self.down.is_empty() && self.dice.below(12) == 0 {
            let at = self.dice.below(self.down.len() as u64) as usize;
            binds = self.names.bind(&[Binding::Thing(self.down[at])]);
            outcome = Outcome::InvalidBinding;
        }
        let call = self.tick();
        let op = Operation {
            id: self.called,
            client: self.clients[index].number,
            key,
            binds,
            call,
            ret: NEVER,
            action,
            outcome,
        };
        let number = self.called;
        self.called += 1;
        if self.dice.chance(self.recipe.unknown) {
            let op = Operation { outcome: Outcome::Unknown, ..op };
            self.window.push_back((op, false, true));
            // A third happens soon, a third late, a third never.
            match self.dice.below(3) {
                0 => {
                    self.apply(&op, number);
                }
                1 if self.limbo.len() < LIMBO_MAX => self.limbo.push(op),
                _ => {}
            }
            self.clients[index].number = self.next_client;
            self.next_client += 1;
            return false;
        }
        self.window.push_back((op, false, false));
        self.clients[index].phase = Phase::Called;
        self.clients[index].op = number;
        true
    }

    /// The operation happens, and what it sees is returned.
    fn apply(&mut self, op: &Operation, number: u64) -> Outcome {
        let entry = self.keys[op.key as usize];
        let held = entry.map(|entry| entry.value);
        let write = |store: &mut Self, value: Value| {
            let birth = entry.map_or(value, |entry| entry.birth);
            let next = Entry { value, binds: op.binds, birth, writer: number };
            store.keys[op.key as usize] = Some(next);
            if op.binds != Binds::NONE {
                store.bound.push(op.key);
            }
        };
        let told = self.recipe.kind == Kind::Bound && self.dice.below(2) == 0;
        let seen = match (told, held) {
            (false, _) => Seen::Nothing,
            (true, None) => Seen::Absent,
            (true, Some(_)) if self.dice.below(3) == 0 => Seen::Present,
            (true, Some(value)) => Seen::Value(value),
        };
        match op.action {
            Action::Get => Outcome::Read(held),
            Action::Exists => Outcome::Exists(held.is_some()),
            Action::Put { value } | Action::Append { value } => {
                write(self, value);
                Outcome::Done(seen)
            }
            Action::PutIfAbsent { value } => match held {
                None => {
                    write(self, value);
                    Outcome::Done(Seen::Nothing)
                }
                Some(_) => Outcome::Refused(seen),
            },
            Action::CompareAndSet { expect, value } => {
                if held == expect {
                    write(self, value);
                    Outcome::Done(Seen::Nothing)
                } else {
                    Outcome::Refused(seen)
                }
            }
            Action::Remove => {
                self.keys[op.key as usize] = None;
                let plain = self.recipe.kind != Kind::Bound || self.dice.below(3) != 0;
                Outcome::Done(match (seen, held) {
                    (Seen::Nothing, None) if plain => Seen::Absent,
                    (Seen::Nothing, Some(_)) if plain => Seen::Present,
                    (seen, _) => seen,
                })
            }
        }
    }

    fn slot(&mut self, number: u64) -> &mut (Operation, bool, bool) {
        let index = usize::try_from(number - self.base).expect("fits in memory");
        &mut self.window[index]
    }

    fn take_effect(&mut self, index: usize) {
        let number = self.clients[index].op;
        let op = self.slot(number).0;
        self.clients[index].phase = Phase::Applied;
        if op.outcome == Outcome::InvalidBinding {
            // Refused outright, or taken and erased before the response.
            if self.dice.below(2) == 0 {
                self.apply(&op, number);
            }
            return;
        }
        let outcome = self.apply(&op, number);
        self.slot(number).0.outcome = outcome;
    }

    fn give_back(&mut self, index: usize) {
        let number = self.clients[index].op;
        self.clients[index].phase = Phase::Idle;
        let mut op = self.slot(number).0;
        if op.outcome == Outcome::InvalidBinding
            && self.keys[op.key as usize].is_some_and(|entry| entry.writer == number)
        {
            self.keys[op.key as usize] = None;
        }
        op.ret = self.tick();
        let late = number >= self.recipe.ops * 9 / 10;
        let planted = !self.planted && late && self.plant(&mut op);
        self.planted |= planted;
        if !planted {
            self.learn(&op);
        }
        *self.slot(number) = (op, planted, true);
    }

    /// What the return proves about the key from now on.
    fn learn(&mut self, op: &Operation) {
        let value = match (op.action, op.outcome) {
            (_, Outcome::Read(value)) => value,
            (Action::Remove, Outcome::Done(_)) | (_, Outcome::Exists(false)) => None,
            (action, Outcome::Done(_)) => action.value(),
            (_, Outcome::Refused(Seen::Value(value))) => Some(value),
            (_, Outcome::Refused(Seen::Absent)) => None,
            (
                _,
                Outcome::Exists(true)
                | Outcome::InvalidBinding
                | Outcome::Refused(_)
                | Outcome::Unknown,
            ) => return,
        };
        let proved = &mut self.proved[op.key as usize];
        if value.is_some() && proved.live.is_none() {
            proved.live = Some(op.ret);
        }
        if let (Action::CompareAndSet { expect, .. }, Outcome::Done(_)) = (op.action, op.outcome) {
            proved.replaced = expect.or(proved.replaced);
        }
        match proved.seen {
            Some((before, _)) if before == value => {}
            Some((before, returned)) if returned < op.call => {
                if let Some(before) = before {
                    proved.old = Some((before, op.ret));
                    if value.is_none() {
                        proved.removed = Some((before, op.ret));
                    }
                }
                proved.seen = Some((value, op.ret));
            }
            Some(_) | None => proved.seen = Some((value, op.ret)),
        }
    }

    /// Turns the answer into one no order explains, if it can be.
    fn plant(&self, op: &mut Operation) -> bool {
        let proved = self.proved[op.key as usize];
        let before = |known: Option<(Value, Time)>| {
            known.filter(|(_, time)| *time < op.call).map(|(value, _)| value)
        };
        let get = op.action == Action::Get;
        let stale = match self.recipe.plant {
            None => return false,
            Some(Plant::Absent) => {
                let known = proved.live.is_some_and(|time| time < op.call);
                if get && known {
                    op.outcome = Outcome::Read(None);
                }
                return get && known;
            }
            Some(Plant::FutureRead) if get => {
                // The next value drawn will be written after this read returned, if at all.
                Some(self.next_value)
            }
            Some(Plant::LostUpdate) => {
                // The value was replaced by a compare-and-set that succeeded already.
                let (Action::CompareAndSet { value, .. }, Some(expect)) =
                    (op.action, proved.replaced)
                else {
                    return false;
                };
                if !matches!(op.outcome, Outcome::Refused(_)) {
                    return false;
                }
                op.action = Action::CompareAndSet { expect: Some(expect), value };
                op.outcome = Outcome::Done(Seen::Nothing);
                return true;
            }
            Some(Plant::Resurrected) if get => before(proved.removed),
            Some(Plant::StaleRead) if get => before(proved.old),
            Some(Plant::TwoWinners) => {
                // Only where somebody else's value was there already.
                let refused = matches!(op.outcome, Outcome::Refused(_));
                let known = proved.live.is_some();
                if refused && known {
                    op.outcome = Outcome::Done(Seen::Nothing);
                }
                return refused && known;
            }
            Some(Plant::Unwritten) if get => Some(7),
            Some(Plant::FutureRead | Plant::Resurrected | Plant::StaleRead | Plant::Unwritten) => {
                None
            }
        };
        if stale.is_none() {
            return false;
        }
        op.outcome = Outcome::Read(stale);
        true
    }
}
