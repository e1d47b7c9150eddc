//! Three nodes whose storage dies at every write and sync of a recorded run, for every store; what
//! clients were told is judged by the checker of histories.
//!
//! The log is struck in each of three ways at each boundary. The other stores are struck in one of
//! them, in turn; in all of them with
//! `SYNOD_EVERY_BLOW=1 cargo test --test storage_nodes -- --nocapture`.

#[path = "support/places.rs"]
mod places;
#[path = "support/records.rs"]
mod records;
mod support;

use std::io::ErrorKind;
use std::time::Duration;

use places::{LogPlace, MemoryPlace, Place, SqlitePlace};
use support::{Cluster, config, get, put, put_if_absent, remove};
use synod::storage::{Fault, Found, LogOptions, OpenError, Opened, Owner, Storage};
use synod::{ClientId, Input, NodeId, Outcome, Previous, RequestId};
use synod_sim::checker::{Options, Verdict, check};
use synod_sim::history::{self, Action, History, Model, NEVER, Operation, Seen};

/// Small, so that the run rotates and compacts.
const SMALL: LogOptions = LogOptions { ahead: 128, segment: 600, compact: 1_200 };
const NODES: u16 = 3;
const KEYS: u32 = 3;
const ROUNDS: u64 = 4;

/// What happens at the boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// Power fails everywhere at once: the worst that can happen to what only disks remember.
    PowerEverywhere,
    /// Power fails at one node, and the others go on.
    PowerAtOne,
    /// The disk says no, which ends the node's process; it is started again.
    Refusal,
}

const BLOWS: [Blow; 3] = [Blow::PowerEverywhere, Blow::PowerAtOne, Blow::Refusal];

/// A request that is not answered yet.
struct Asked {
    id: (ClientId, RequestId),
    node: u16,
    key: u32,
    call: u64,
    action: Action,
}

struct Rig {
    cluster: Cluster,
    places: Vec<Box<dyn Place>>,
    stores: Vec<Option<Box<dyn Storage>>>,
    blow: Blow,
    /// Nodes that are to be started again, and in how many steps.
    down: Vec<(u16, u64)>,
    /// How long a node stays down, in steps.
    rest: u64,
    blows: usize,
    open: Vec<Asked>,
    history: History,
    rank: u64,
    written: u64,
}

fn key(number: u32) -> String {
    format!("k{number}")
}

fn number(value: &str) -> u64 {
    value.parse().expect("a number was written")
}

impl Rig {
    fn new(places: Vec<Box<dyn Place>>, blow: Blow, rest: u64) -> Self {
        let mut cluster = Cluster::unstarted((1..=NODES).map(|node| config(node, NODES)));
        for node in 1..=NODES {
            cluster.machine(node).slow_disk = true;
        }
        let stores = places.iter().map(|_| None).collect();
        let (down, open) = (Vec::new(), Vec::new());
        let history = History::new(Model::Kv);
        Self {
            cluster,
            places,
            stores,
            blow,
            down,
            rest,
            blows: 0,
            open,
            history,
            rank: 0,
            written: 0,
        }
    }

    /// Starts a node from what its disk holds; it may die over that.
    fn start(&mut self, node: u16) {
        let place = usize::from(node) - 1;
        if self.stores[place].is_some() {
            // Started with the others, after another one died over it.
            return;
        }
        let owner = Owner::of(&self.cluster.machines[&NodeId(node)].config, "three");
        let Ok(Opened { storage, found }) = self.places[place].open(&owner) else {
            return self.strike(node);
        };
        self.cluster.machine(node).durable = match found {
            Found::New => Vec::new(),
            Found::Records(records) => records.into_iter().collect(),
            Found::Damaged(damage) => panic!("node {node}: {damage}"),
        };
        self.stores[place] = Some(storage);
        self.cluster.start(node);
    }

    /// A node's storage has failed.
    fn strike(&mut self, node: u16) {
        self.blows += 1;
        assert!(self.blows < 10, "a disk is planned to fail once");
        if self.blow == Blow::PowerEverywhere {
            return self.restart_all();
        }
        self.stop(node);
        self.down.push((node, self.rest));
    }

    fn stop(&mut self, node: u16) {
        let place = usize::from(node) - 1;
        self.cluster.crash(node);
        if self.blow == Blow::Refusal {
            self.places[place].kill();
        } else {
            self.places[place].cut_power();
        }
        self.stores[place] = None;
        for asked in self.open.extract_if(.., |asked| asked.node == node) {
            push(&mut self.history, &asked, NEVER, history::Outcome::Unknown);
        }
    }

    fn restart_all(&mut self) {
        self.cluster.flights.clear();
        self.down.clear();
        for node in 1..=NODES {
            self.stop(node);
        }
        for node in 1..=NODES {
            self.start(node);
        }
    }

    /// Writes and syncs what the nodes want written; false if there was nothing.
    fn persist(&mut self) -> bool {
        let mut any = false;
        for node in 1..=NODES {
            let writing = std::mem::take(&mut self.cluster.machine(node).writing);
            let Some(&(last, _)) = writing.last() else { continue };
            any = true;
            let store = self.stores[usize::from(node) - 1].as_mut().expect("open");
            let done =
                writing.iter().try_for_each(|(ticket, records)| store.append(*ticket, records));
            if done.and_then(|()| store.sync()).is_err() {
                self.strike(node);
                return true;
            }
            self.cluster.input(node, Input::Persisted { ticket: last });
        }
        any
    }

    fn settle(&mut self) {
        while self.persist() || !self.cluster.flights.is_empty() {
            self.cluster.deliver_all();
        }
        self.hear();
    }

    fn pass(&mut self, steps: usize) {
        for _ in 0..steps {
            let mut due = Vec::new();
            self.down.retain_mut(|(node, steps)| {
                *steps = steps.saturating_sub(1);
                due.extend((*steps == 0).then_some(*node));
                *steps > 0
            });
            due.into_iter().for_each(|node| self.start(node));
            self.cluster.step(Duration::from_millis(50));
            self.settle();
        }
    }

    fn tick(&mut self) -> u64 {
        self.rank += 1;
        self.rank
    }

    fn ask(&mut self, node: u16, number: u32, action: Action) {
        if self.stores[usize::from(node) - 1].is_none() {
            return;
        }
        let name = key(number);
        let command = match action {
            Action::Put { value } => put(&name, &value.to_string(), vec![]),
            Action::PutIfAbsent { value } => put_if_absent(&name, &value.to_string(), vec![]),
            Action::Remove => remove(&name),
            Action::Append { .. } | Action::CompareAndSet { .. } | Action::Exists | Action::Get => {
                get(&name)
            }
        };
        let call = self.tick();
        let id = self.cluster.ask(node, command);
        self.open.push(Asked { id, node, key: number, call, action });
    }

    /// Takes down what has been answered.
    fn hear(&mut self) {
        for asked in std::mem::take(&mut self.open) {
            let Some(outcome) = self.cluster.answered(asked.id).cloned() else {
                self.open.push(asked);
                continue;
            };
            let ret = self.tick();
            let seen = |entry: &Option<synod::Entry>| match entry {
                Some(entry) => Seen::Value(number(&entry.value.to_string())),
                None => Seen::Absent,
            };
            let told = match &outcome {
                Outcome::Chosen { won: true, .. } => history::Outcome::Done(Seen::Absent),
                Outcome::Chosen { entry, won: false } => {
                    history::Outcome::Refused(seen(&Some(entry.clone())))
                }
                Outcome::Found { entry, .. } => {
                    let value = entry.as_ref().map(|entry| number(&entry.value.to_string()));
                    history::Outcome::Read(value)
                }
                Outcome::Removed { previous, .. } | Outcome::Written { previous, .. } => {
                    history::Outcome::Done(match previous {
                        Previous::Known(entry) => seen(entry),
                        Previous::Unknown => Seen::Nothing,
                    })
                }
                Outcome::Refused(_) => continue,
                Outcome::Unknown => history::Outcome::Unknown,
                Outcome::Done
                | Outcome::Keys { .. }
                | Outcome::Merged(_)
                | Outcome::Primary(_)
                | Outcome::Mismatch { .. }
                | Outcome::Session(_)
                | Outcome::Status(_) => unreachable!("no answer to this: {outcome}"),
            };
            self.written += u64::from(matches!(told, history::Outcome::Done(_)));
            let ret = if told == history::Outcome::Unknown { NEVER } else { ret };
            push(&mut self.history, &asked, ret, told);
        }
    }

    /// Until everybody has an answer.
    fn finish(&mut self) {
        self.settle();
        for _ in 0..300 {
            if self.open.is_empty() {
                return;
            }
            self.pass(1);
        }
        panic!("no answer to {:?}", self.open.iter().map(|asked| asked.id).collect::<Vec<_>>());
    }

    fn run(&mut self) {
        for node in 1..=NODES {
            self.start(node);
        }
        self.pass(20);
        for round in 0..ROUNDS {
            // All at once: neighbours write to the same key.
            for node in 1..=NODES {
                let value = round * 10 + u64::from(node);
                let key = (round as u32 + u32::from(node) / 2) % KEYS;
                let action = match (round + u64::from(node)) % 4 {
                    0 => Action::PutIfAbsent { value },
                    1 if round > 1 => Action::Remove,
                    _ => Action::Put { value },
                };
                self.ask(node, key, action);
            }
            self.finish();
        }
    }

    /// Nothing is in any memory but the disks': what do they say?
    fn judge(&mut self, what: &str) -> Verdict {
        self.blow = Blow::PowerEverywhere;
        self.restart_all();
        self.pass(60);
        for key in 0..KEYS {
            for node in 1..=NODES {
                self.ask(node, key, Action::Get);
            }
        }
        self.finish();
        let last = &self.history.ops[self.history.ops.len() - 9..];
        let read = last.iter().filter(|op| matches!(op.outcome, history::Outcome::Read(_))).count();
        assert_eq!(read, 9, "{what}: not every node answers");
        check(&self.history, &Options::default())
    }

    fn check(&mut self, what: &str) {
        let verdict = self.judge(what);
        let good = matches!(verdict, Verdict::Linearizable(_));
        assert!(good, "{what}: {verdict:?}\n{:#?}", self.history.ops);
    }
}

fn push(history: &mut History, asked: &Asked, ret: u64, outcome: history::Outcome) {
    let Asked { id, key, call, action, .. } = *asked;
    if outcome == history::Outcome::Unknown && action.is_read() {
        return;
    }
    history.ops.push(Operation {
        id: id.1.0,
        client: i32::from(asked.node as u8),
        key,
        binds: history::Binds::NONE,
        call,
        ret,
        action,
        outcome,
    });
}

/// How much is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blows {
    /// Each boundary in every way.
    Every,
    /// Each boundary in one way, of each node in another, unless the environment asks for more.
    InTurn,
}

impl Blows {
    fn at(self, node: usize, boundary: u64) -> Vec<Blow> {
        if self == Self::Every || std::env::var_os("SYNOD_EVERY_BLOW").is_some() {
            return BLOWS.to_vec();
        }
        vec![BLOWS[(boundary as usize + node) % BLOWS.len()]]
    }
}

/// Strikes at every boundary of every node. Returns what files a run leaves where nothing strikes.
fn sweep(store: &str, blows: Blows, place: fn(u64) -> Box<dyn Place>) -> Vec<String> {
    let rig = |seed: u64, blow| {
        let places = (0..u64::from(NODES)).map(|node| place(seed * 8 + node)).collect();
        Rig::new(places, blow, 1 + seed % 40)
    };
    let mut recorded = rig(1, Blow::PowerEverywhere);
    recorded.run();
    let boundaries: Vec<u64> = recorded.places.iter().map(|place| place.boundaries()).collect();
    let names = recorded.places[0].names();
    recorded.check("recorded");
    let (mut runs, mut written) = (0, 0);
    for (node, &count) in boundaries.iter().enumerate() {
        for (boundary, blow) in
            (0..count).flat_map(|at| blows.at(node, at).into_iter().map(move |blow| (at, blow)))
        {
            let what = format!("{store}: node {} boundary {boundary} {blow:?}", node + 1);
            let mut rig = rig(boundary, blow);
            let fault = match blow {
                Blow::Refusal if boundary % 2 == 0 => Fault::Fail(ErrorKind::StorageFull),
                Blow::Refusal => Fault::Fail(ErrorKind::Other),
                Blow::PowerAtOne | Blow::PowerEverywhere => Fault::Crash,
            };
            rig.places[node].plan(boundary, fault);
            rig.run();
            assert!(rig.blows > 0, "{what}: it is not reached");
            rig.check(&what);
            (runs, written) = (runs + 1, written + rig.written);
        }
    }
    let total: u64 = boundaries.iter().sum();
    println!("{store}: {total} boundaries, {runs} runs, {written} acknowledged writes");
    assert!(total > 150 && written > 6 * runs, "{store}: {total} {written}");
    names
}

/// P-32's other half: at every write and sync of every node, nothing acknowledged is lost.
#[test]
fn the_log_keeps_what_was_acknowledged_at_every_boundary() {
    let names = sweep("log", Blows::Every, |seed| Box::new(LogPlace::new(seed, SMALL)));
    assert!(names.iter().any(|name| name.starts_with("checkpoint-")), "{names:?}");
}

#[test]
fn sqlite_keeps_what_was_acknowledged_at_every_boundary() {
    sweep("sqlite", Blows::InTurn, |seed| Box::new(SqlitePlace::new(seed)));
}

#[test]
fn memory_keeps_what_was_acknowledged_at_every_boundary() {
    sweep("memory", Blows::InTurn, |_| Box::<MemoryPlace>::default());
}

/// That everything above can fail: all that is synced is gone with the power.
struct Forgetful(MemoryPlace);

impl Place for Forgetful {
    fn open(&mut self, owner: &Owner) -> Result<Opened<Box<dyn Storage>>, OpenError> {
        self.0.open(owner)
    }

    fn boundaries(&self) -> u64 {
        self.0.boundaries()
    }

    fn plan(&self, boundary: u64, fault: Fault) {
        self.0.plan(boundary, fault);
    }

    fn kill(&mut self) {
        self.0.kill();
    }

    fn cut_power(&mut self) {
        self.0 = MemoryPlace::default();
    }
}

#[test]
fn a_store_that_forgets_is_found_out() {
    let place = || Box::new(Forgetful(MemoryPlace::default())) as Box<dyn Place>;
    let places = (0..NODES).map(|_| place()).collect();
    let mut rig = Rig::new(places, Blow::PowerEverywhere, 1);
    rig.run();
    let verdict = rig.judge("forgetful");
    assert!(matches!(verdict, Verdict::NotLinearizable { .. }), "{verdict:?}");
}
