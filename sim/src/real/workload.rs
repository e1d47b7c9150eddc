//! Clients: each a thread with a connection, which asks what its seed says and notes what it is
//! told.
//!
//! Must never know: what is done to the cluster meanwhile.

mod orders;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::answers::{self, Told};
use super::client::{Connection, Lost, Reply};
use super::merged::{self, Deed, What};
use super::primary;
use super::record::{Book, Call, Glance, Nanos, Thing, ThingId, value_of};
use crate::chooser::{Seeded, weighted};
use crate::history::{Action, NEVER, Outcome};

/// How long a request may take by the node's word, and after how long the client gives it up.
const PATIENCE: &str = "1500";
const GIVE_UP: Duration = Duration::from_millis(2_500);
const DIAL: Duration = Duration::from_millis(500);

/// Keys that clients contend for at a time; some of them in the write-once table.
const SLOTS: usize = 24;
const ONCE_SLOTS: usize = 4;

/// A key is given up for a fresh one after so many questions, so that the judge has many small
/// problems and not a few large ones; the sooner, the more of them nobody knows the outcome of.
const USES_MAX: u32 = 250;
const USES_MAX_HEAVY: u32 = 60;

/// So many answers that make no sense are enough to look into.
const STRANGE_MAX: usize = 100;

/// A key that is in use.
#[derive(Clone, Debug)]
pub struct Slot {
    number: u32,
    name: String,
    uses: u32,
}

#[derive(Debug)]
struct Keys {
    names: Vec<String>,
    slots: Vec<Option<Slot>>,
}

impl Keys {
    fn new(slots: usize) -> Mutex<Self> {
        Mutex::new(Self { names: Vec::new(), slots: vec![None; slots] })
    }

    /// The key in use at a place, unless it has been used so often, or, with no place, a new one.
    fn slot(&mut self, prefix: &str, place: Option<usize>, uses_max: u32) -> Slot {
        let known = place.and_then(|place| self.slots[place].clone());
        let mut slot = known.filter(|slot| slot.uses < uses_max).unwrap_or_else(|| {
            let number = self.names.len() as u32;
            let name = format!("{prefix}{number}");
            self.names.push(name.clone());
            Slot { number, name, uses: 0 }
        });
        slot.uses += 1;
        if let Some(place) = place {
            self.slots[place] = Some(slot.clone());
        }
        slot
    }
}

/// Keys of the merged table that clients meet at; of so many in a hundred writes each has a key of
/// its own, of which nothing can be in doubt.
const COPIED_SLOTS: usize = 16;
const COPIED_USES_MAX: u32 = 40;
const COPIED_ALONE: u64 = 25;

/// Keys of the primary table that clients meet at.
const ORDERED_SLOTS: usize = 32;

/// What all clients share.
#[derive(Debug)]
pub struct Shared {
    begin: Instant,
    /// What the wall clock showed then, in milliseconds since 1970.
    wall: u64,
    /// Where nodes listen.
    pub addresses: BTreeMap<u16, SocketAddr>,
    seed: u64,
    /// Whether clients mostly write.
    heavy: bool,
    keys: Mutex<Keys>,
    /// Keys of the merged table, if there is one to be judged.
    copied: Option<Mutex<Keys>>,
    /// Keys of the primary table.
    ordered: Mutex<Keys>,
    /// When a write to it was first acknowledged in each reign.
    reigns: Mutex<BTreeMap<u64, Nanos>>,
    things: Mutex<Vec<Thing>>,
    /// Clients stop when it is set.
    pub over: AtomicBool,
    /// Questions answered, one way or the other.
    pub operations: AtomicU64,
    /// Of them, those that nobody knows the end of.
    pub unknown: AtomicU64,
    /// Sessions opened.
    pub sessions: AtomicU64,
    /// Keys that were written once, and the values that were acknowledged.
    ledger: Mutex<Vec<(String, u64)>>,
    /// Answers that make no sense.
    strange: Mutex<Vec<String>>,
}

impl Shared {
    /// Nobody has asked anything yet. `heavy`: clients mostly write; `merges`: they write to the
    /// merged table, too.
    #[must_use]
    pub fn new(seed: u64, addresses: BTreeMap<u16, SocketAddr>, heavy: bool, merges: bool) -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            begin: Instant::now(),
            wall: wall as u64,
            addresses,
            seed,
            heavy,
            keys: Keys::new(SLOTS),
            copied: merges.then(|| Keys::new(COPIED_SLOTS)),
            ordered: Keys::new(ORDERED_SLOTS),
            reigns: Mutex::default(),
            things: Mutex::default(),
            over: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            ledger: Mutex::default(),
            strange: Mutex::default(),
        }
    }

    /// Nanoseconds since the rig began.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.begin.elapsed().as_nanos() as u64
    }

    /// Whether clients are to stop.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn slot(&self, place: usize) -> Slot {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let uses_max = if self.heavy { USES_MAX_HEAVY } else { USES_MAX };
        keys.slot(if place < ONCE_SLOTS { "once" } else { "k" }, Some(place), uses_max)
    }

    /// A key of the merged table: one at which clients meet, or, with no place, a new one.
    fn copied_slot(&self, place: Option<usize>) -> Option<Slot> {
        let mut keys = self.copied.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(keys.slot("c", place, COPIED_USES_MAX))
    }

    /// Likewise of the primary table.
    fn ordered_slot(&self, place: Option<usize>) -> Slot {
        let mut keys = self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
        keys.slot("o", place, u32::MAX)
    }

    /// All keys of the merged table so far; none if it is not written to.
    #[must_use]
    pub fn copied_names(&self) -> Option<Vec<String>> {
        let keys = self.copied.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(keys.names.clone())
    }

    /// All keys of the primary table so far.
    #[must_use]
    pub fn ordered_names(&self) -> Vec<String> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner).names.clone()
    }

    /// A write to the primary table was acknowledged in this reign.
    fn acknowledged(&self, reign: u64, time: Nanos) {
        let mut reigns = self.reigns.lock().unwrap_or_else(PoisonError::into_inner);
        reigns.entry(reign).and_modify(|first| *first = time.min(*first)).or_insert(time);
    }

    /// When a write to the primary table was first acknowledged in a reign after this one.
    #[must_use]
    pub fn acknowledged_after(&self, reign: u64) -> Option<Nanos> {
        let reigns = self.reigns.lock().unwrap_or_else(PoisonError::into_inner);
        reigns.range(reign + 1..).map(|(_, time)| *time).min()
    }

    fn add(&self, thing: Thing) -> ThingId {
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        things.push(thing);
        things.len() - 1
    }

    fn update(&self, thing: ThingId, update: impl FnOnce(&mut Nanos, &mut Option<Nanos>)) {
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        if let Thing::Hosted { proven, closed, .. } = &mut things[thing] {
            update(proven, closed);
        }
    }

    /// A write that is bound to it was done, and had been asked for then.
    fn proven(&self, thing: ThingId, time: Nanos) {
        self.update(thing, |proven, _| *proven = (*proven).max(time));
    }

    fn closed(&self, thing: ThingId, time: Nanos) {
        self.update(thing, |_, closed| *closed = Some(closed.map_or(time, |it| it.min(time))));
    }

    fn complain(&self, what: String) {
        let mut strange = self.strange.lock().unwrap_or_else(PoisonError::into_inner);
        if strange.len() < STRANGE_MAX {
            strange.push(what);
        }
    }

    fn enter(&self, key: String, value: u64) {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).push((key, value));
    }

    /// Keys that were written once and acknowledged, from one place on.
    #[must_use]
    pub fn ledger(&self, from: usize) -> Vec<(String, u64)> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)[from..].to_vec()
    }

    /// All names of keys so far.
    #[must_use]
    pub fn key_names(&self) -> Vec<String> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).names.clone()
    }

    /// What is to be judged, from what clients noted; and answers that made no sense.
    pub fn close(&self, notes: &mut [Notes]) -> (Book, Vec<String>) {
        let mut book = Book { keys: self.key_names(), ..Book::default() };
        book.things = self.things.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = wall.saturating_sub(Duration::from_millis(self.wall));
        // By how much the wall clock has run ahead of the rig's: deadlines came so much earlier.
        let ahead = wall.saturating_sub(self.begin.elapsed()).as_nanos() as u64;
        for thing in &mut book.things {
            if let Thing::Deadline(time) = thing {
                *time = time.saturating_sub(ahead);
            }
        }
        for note in notes {
            book.calls.append(&mut note.calls);
            book.glances.append(&mut note.glances);
        }
        (book, self.strange.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// What one client noted.
#[derive(Debug, Default)]
pub struct Notes {
    /// Questions and answers.
    pub calls: Vec<Call>,
    /// Local reads.
    pub glances: Vec<Glance>,
    /// When writes were acknowledged, and by which node.
    pub done: Vec<(Nanos, u16)>,
    /// What was asked of the merged table.
    pub deeds: Vec<Deed>,
    /// What was asked of the primary table.
    pub orders: primary::Noted,
}

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    CompareAndSet,
    Copied,
    Get,
    GetLocal,
    Ledger,
    Put,
    PutIfAbsent,
    PutIfAbsentNode,
    PutUntil,
    Remove,
}

const ACTS: [(Act, u64, u64); 10] = [
    // What; how often; how often when clients mostly write.
    (Act::CompareAndSet, 14, 12),
    (Act::Copied, 30, 20),
    (Act::Get, 24, 8),
    (Act::GetLocal, 8, 4),
    (Act::Ledger, 10, 36),
    (Act::Put, 18, 22),
    (Act::PutIfAbsent, 10, 8),
    (Act::PutIfAbsentNode, 2, 1),
    (Act::PutUntil, 5, 2),
    (Act::Remove, 9, 7),
];

/// One client.
#[derive(Debug)]
pub struct Client<'a> {
    shared: &'a Shared,
    id: u32,
    draws: Seeded,
    next: u64,
    /// The node that it turns to.
    node: u16,
    connection: Option<Connection>,
    /// What it last knew of keys.
    seen: HashMap<u32, Option<u64>>,
    /// The latest place of the primary table that it was shown, over its connection and ever.
    shown: u64,
    carried: u64,
    notes: Notes,
}

/// A question about a key, ready to be asked.
struct Question {
    key: u32,
    action: Action,
    bound_to: Option<ThingId>,
    words: Vec<String>,
    /// Whether it has a name, under which it may be asked again.
    named: bool,
}

impl<'a> Client<'a> {
    /// The client of this number.
    #[must_use]
    pub fn new(shared: &'a Shared, id: u32) -> Self {
        let seed = shared.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(id));
        let count = shared.addresses.len() as u32;
        Self {
            shared,
            id,
            draws: Seeded::new(seed),
            next: 0,
            node: 1 + (id % count) as u16,
            connection: None,
            seen: HashMap::new(),
            shown: 0,
            carried: 0,
            notes: Notes::default(),
        }
    }

    /// Asks until it is to stop; what it noted.
    #[must_use]
    pub fn run(mut self) -> Notes {
        while !self.shared.is_over() {
            self.step();
            let think = self.draws.magnitude(0, 4);
            std::thread::sleep(Duration::from_millis(think));
        }
        self.notes
    }

    /// Opens sessions, binds keys to them, and closes them or dies, until it is to stop.
    #[must_use]
    pub fn own(mut self) -> Notes {
        while !self.shared.is_over() {
            self.lead_a_session();
            std::thread::sleep(Duration::from_millis(self.draws.magnitude(1, 300)));
        }
        self.notes
    }

    fn connect(&mut self) -> bool {
        if self.connection.is_some() {
            return true;
        }
        let address = self.shared.addresses[&self.node];
        let dialled = Connection::dial(address, DIAL).and_then(|mut connection| {
            connection.call(&["SYNOD.DEFAULTS", "PATIENCE", PATIENCE], DIAL).map(|_| connection)
        });
        self.connection = dialled.ok();
        self.shown = 0;
        if self.connection.is_none() {
            self.turn();
            std::thread::sleep(Duration::from_millis(10));
        }
        self.connection.is_some()
    }

    /// Turns to the next node.
    fn turn(&mut self) {
        self.connection = None;
        self.node = 1 + self.node % self.shared.addresses.len() as u16;
    }

    fn call(&mut self, words: &[String]) -> Result<Reply, Lost> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let connection = self.connection.as_mut().ok_or(Lost::Late)?;
        connection.call(&words, GIVE_UP)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn step(&mut self) {
        if !self.connect() {
            return;
        }
        let heavy = self.shared.heavy;
        let weights = ACTS.map(|(_, light, heavily)| if heavy { heavily } else { light });
        let act = ACTS[weighted(&mut self.draws, &weights)].0;
        if act == Act::Ledger {
            return self.add_to_ledger();
        }
        if act == Act::Copied {
            return self.ask_a_copy();
        }
        let place = self.draws.below(SLOTS as u64) as usize;
        let slot = self.shared.slot(place);
        let once = place < ONCE_SLOTS;
        let fits = !once || matches!(act, Act::Get | Act::GetLocal);
        let act = if fits { act } else { Act::PutIfAbsent };
        let number = self.number();
        if let Some(question) = self.question(act, &slot, once, number) {
            if act == Act::GetLocal {
                self.glance(&question);
            } else {
                self.ask(question, number);
            }
        }
    }

    fn question(&mut self, act: Act, slot: &Slot, once: bool, number: u64) -> Option<Question> {
        let value = value_of(self.id, number);
        let text = answers::text_of(value);
        let expect = self.seen.get(&slot.number).copied();
        let key = slot.name.clone();
        let mut bound_to = None;
        let (action, mut words) = match act {
            Act::CompareAndSet => {
                // What it never heard of is taken to be absent.
                let expect = expect.flatten();
                let mut words = vec!["SYNOD.CAS".to_owned(), key, text];
                match expect {
                    None => words.push("ABSENT".to_owned()),
                    Some(value) => words.extend(["IF".to_owned(), answers::text_of(value)]),
                }
                (Action::CompareAndSet { expect, value }, words)
            }
            Act::Get => (Action::Get, vec!["SYNOD.GET".to_owned(), key]),
            Act::GetLocal => (Action::Get, vec!["SYNOD.GET".to_owned(), key, "LOCAL".to_owned()]),
            Act::Put => (Action::Put { value }, vec!["SYNOD.PUT".to_owned(), key, text]),
            Act::PutIfAbsent => {
                (Action::PutIfAbsent { value }, vec!["SYNOD.PUTIFABSENT".to_owned(), key, text])
            }
            Act::PutIfAbsentNode => {
                let node = self.node;
                let life = self.node_life()?;
                let proven = self.shared.now();
                let thing = Thing::Hosted { host: node, life, proven, closed: None };
                bound_to = Some(self.shared.add(thing));
                let words = ["SYNOD.PUTIFABSENT", &key, &text, "NODE", &node.to_string()];
                (Action::PutIfAbsent { value }, words.map(str::to_owned).to_vec())
            }
            Act::PutUntil => {
                let after = self.draws.magnitude(50, 3_000);
                let wall =
                    self.shared.wall + self.shared.begin.elapsed().as_millis() as u64 + after;
                // Clocks tick in milliseconds; and the wall clock may be set right a little.
                let since = (wall - self.shared.wall) * 1_000_000;
                bound_to = Some(self.shared.add(Thing::Deadline(since.saturating_sub(20_000_000))));
                let words = ["SYNOD.PUT", &key, &text, "UNTIL", &wall.to_string()];
                (Action::Put { value }, words.map(str::to_owned).to_vec())
            }
            Act::Remove => (Action::Remove, vec!["SYNOD.REMOVE".to_owned(), key]),
            Act::Copied | Act::Ledger => return None,
        };
        if once {
            words.extend(["TABLE", "once"].map(str::to_owned));
        }
        // As Redis would ask it, at times: without a name, so it is not asked again.
        let local = act == Act::GetLocal;
        let plain = !once && !local && bound_to.is_none() && self.draws.percent(25);
        let named = !plain && !action.is_read();
        if plain {
            words = answers::as_redis(action, &words).unwrap_or(words);
        }
        Some(Question { key: slot.number, action, bound_to, words, named })
    }

    /// The number of the session of the node that it is connected to.
    fn node_life(&mut self) -> Option<Option<u64>> {
        match self.call(&["SYNOD.STATUS".to_owned()]) {
            Ok(reply) => Some(match reply.field("node_session") {
                Some(Reply::Number(number)) => u64::try_from(*number).ok(),
                _ => None,
            }),
            Err(_) => {
                self.turn();
                None
            }
        }
    }

    /// Asks, again elsewhere if the outcome is not known, and notes what it is told.
    fn ask(&mut self, question: Question, number: u64) {
        let call = self.shared.now();
        let mut words = question.words.clone();
        if question.named {
            // Nobody else's: no two runs begin in the same millisecond on one cluster.
            let client = self.shared.wall << 16 | u64::from(self.id);
            words.extend(["REQUEST".to_owned(), client.to_string(), number.to_string()]);
        }
        let mut told = self.try_once(&question, &words);
        if question.named {
            words.push("AGAIN".to_owned());
            for _ in 0..6 {
                if told != Told::Unknown || self.draws.percent(10) || self.shared.is_over() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(self.draws.magnitude(1, 200)));
                self.turn();
                if self.connect() {
                    // That it was refused now says nothing of what became of it before.
                    told = self.try_once(&question, &words);
                    if told == Told::NoEffect {
                        told = Told::Unknown;
                    }
                }
            }
        }
        self.note(&question, number, call, told);
    }

    fn try_once(&mut self, question: &Question, words: &[String]) -> Told {
        match self.call(words) {
            Ok(reply) => {
                let told = answers::read(question.action, &reply);
                if let Told::Strange(why) = &told {
                    self.shared.complain(format!("{} at node {}: {why}", words[0], self.node));
                }
                if told == Told::NoEffect {
                    self.turn();
                }
                told
            }
            Err(Lost::Garbled(what)) => {
                self.shared.complain(format!("{} at node {}: {what}", words[0], self.node));
                self.turn();
                Told::Unknown
            }
            Err(Lost::Closed(_) | Lost::Late) => {
                self.turn();
                Told::Unknown
            }
        }
    }

    fn note(&mut self, question: &Question, number: u64, call: Nanos, told: Told) {
        let ret = self.shared.now();
        self.shared.operations.fetch_add(1, Ordering::Relaxed);
        let outcome = match told {
            Told::Outcome(outcome) => outcome,
            Told::NoEffect => return,
            Told::Strange(_) | Told::Unknown => {
                self.shared.unknown.fetch_add(1, Ordering::Relaxed);
                if question.action.is_read() {
                    return;
                }
                Outcome::Unknown
            }
        };
        if let Some(known) = answers::known_after(question.action, outcome) {
            self.seen.insert(question.key, known);
        }
        if matches!(outcome, Outcome::Done(_)) {
            self.notes.done.push((ret, self.node));
            if let Some(thing) = question.bound_to {
                self.shared.proven(thing, call);
            }
        }
        self.notes.calls.push(Call {
            client: self.id,
            number,
            key: question.key,
            action: question.action,
            bound_to: question.bound_to,
            call,
            ret: if outcome == Outcome::Unknown { NEVER } else { ret },
            outcome,
        });
    }

    fn glance(&mut self, question: &Question) {
        let reply = self.call(&question.words);
        let ret = self.shared.now();
        self.shared.operations.fetch_add(1, Ordering::Relaxed);
        match reply.as_ref().map(|reply| answers::read(Action::Get, reply)) {
            Ok(Told::Outcome(Outcome::Read(Some(value)))) => {
                self.notes.glances.push(Glance { key: question.key, node: self.node, value, ret });
            }
            Ok(Told::Strange(why)) => self.shared.complain(format!("a local read: {why}")),
            Ok(_) => {}
            Err(_) => self.turn(),
        }
    }

    /// Writes a key of its own, once: it must be there at the end if that was acknowledged.
    fn add_to_ledger(&mut self) {
        let number = self.number();
        let value = value_of(self.id, number);
        let key = format!("own-{}-{number}", self.id);
        let words = ["SET".to_owned(), key.clone(), answers::text_of(value)];
        let told = self.call(&words);
        self.shared.operations.fetch_add(1, Ordering::Relaxed);
        match told {
            Ok(Reply::Text(text)) if text == "OK" => {
                self.notes.done.push((self.shared.now(), self.node));
                self.shared.enter(key, value);
            }
            Ok(reply) => match answers::read(Action::Put { value }, &reply) {
                Told::Strange(why) => self.shared.complain(format!("SET {key}: {why}")),
                Told::Unknown => {
                    self.shared.unknown.fetch_add(1, Ordering::Relaxed);
                }
                Told::NoEffect | Told::Outcome(_) => self.turn(),
            },
            Err(_) => {
                self.shared.unknown.fetch_add(1, Ordering::Relaxed);
                self.turn();
            }
        }
    }

    /// Reads, writes or removes a key of the merged table: its node answers alone.
    fn ask_a_copy(&mut self) {
        let alone = self.draws.percent(COPIED_ALONE);
        let place = (!alone).then(|| self.draws.below(COPIED_SLOTS as u64) as usize);
        let Some(Slot { number: key, name, .. }) = self.shared.copied_slot(place) else { return };
        let number = self.number();
        let value = value_of(self.id, number);
        // What is alone is written.
        let kind = if alone { 9 } else { self.draws.below(10) };
        let (value, words) = match kind {
            0..4 => {
                (None, ["SYNOD.GET", &name, "TABLE", merged::TABLE].map(str::to_owned).to_vec())
            }
            4 => {
                let words = ["SYNOD.BATCH", "1", "REMOVE", &name, "TABLE", merged::TABLE];
                (None, words.map(str::to_owned).to_vec())
            }
            _ => {
                let text = answers::text_of(value);
                let words = ["SYNOD.PUT", &name, &text, "TABLE", merged::TABLE];
                (Some(value), words.map(str::to_owned).to_vec())
            }
        };
        let (node, call) = (self.node, self.shared.now());
        let reply = self.call(&words);
        let ret = self.shared.now();
        self.shared.operations.fetch_add(1, Ordering::Relaxed);
        let reads = kind < 4;
        let unknown = (!reads).then_some(What::Unknown(value));
        let what = match reply {
            Ok(Reply::Error(code, why)) => match code.as_str() {
                "BUSY" | "NOREPLICA" | "NOTREADY" => None,
                "UNKNOWN" => unknown,
                _ => {
                    self.shared.complain(format!("{} at node {node}: {code} {why}", words[0]));
                    unknown
                }
            },
            Ok(reply) => match merged::values_of(&reply) {
                Ok(values) if reads => Some(What::Read(values)),
                Ok(values) => Some(What::Written(value, values)),
                Err(why) => {
                    self.shared.complain(format!("{} at node {node}: {why}", words[0]));
                    unknown
                }
            },
            Err(_) => {
                self.turn();
                unknown
            }
        };
        if matches!(what, Some(What::Unknown(_))) {
            self.shared.unknown.fetch_add(1, Ordering::Relaxed);
        }
        self.notes.deeds.extend(what.map(|what| Deed { key, node, call, ret, what }));
    }

    /// One session from its opening to its end.
    fn lead_a_session(&mut self) {
        if !self.connect() {
            return;
        }
        let host = self.node;
        let grace = self.draws.magnitude(100, 1_500).to_string();
        let open = ["SYNOD.SESSION", "OPEN", "GRACE", &grace].map(str::to_owned);
        let begin = self.shared.now();
        let Ok(reply) = self.call(&open) else { return self.turn() };
        let Some(session) = reply.text("session").map(str::to_owned) else {
            return self.turn();
        };
        self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        let life = session.split('.').nth(1).and_then(|life| life.parse().ok());
        let thing = Thing::Hosted { host, life, proven: begin, closed: None };
        let thing = self.shared.add(thing);
        let mut alive = begin;
        for _ in 0..self.draws.within(1, 8) {
            if self.connection.is_none() || self.node != host || self.shared.is_over() {
                break;
            }
            alive = self.shared.now();
            self.bind(&session, thing);
            std::thread::sleep(Duration::from_millis(self.draws.magnitude(1, 500)));
        }
        if self.node != host || self.connection.is_none() {
            // The connection broke after the last answer over it: the session ends, or has.
            return self.shared.closed(thing, alive);
        }
        self.shared.closed(thing, self.shared.now());
        if self.draws.percent(50) {
            let close = ["SYNOD.SESSION", "CLOSE", &session].map(str::to_owned);
            if self.call(&close).is_err() {
                self.turn();
            }
        } else {
            // What is left of an owner that dies: a connection that ends.
            self.connection = None;
        }
    }

    fn bind(&mut self, session: &str, thing: ThingId) {
        let place = ONCE_SLOTS + self.draws.below((SLOTS - ONCE_SLOTS) as u64) as usize;
        let slot = self.shared.slot(place);
        let number = self.number();
        let value = value_of(self.id, number);
        let text = answers::text_of(value);
        let (action, verb) = if self.draws.percent(60) {
            (Action::PutIfAbsent { value }, "SYNOD.PUTIFABSENT")
        } else {
            (Action::Put { value }, "SYNOD.PUT")
        };
        let words = [verb, &slot.name, &text, "SESSION", session].map(str::to_owned).to_vec();
        let key = slot.number;
        // Not named, so never asked again elsewhere: the session is on this connection.
        let question = Question { key, action, bound_to: Some(thing), words, named: false };
        self.ask(question, number);
    }
}
