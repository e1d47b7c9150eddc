//! What it costs two copies of a merged table to become equal, and what an index by dots costs.
//!
//! `cargo bench --bench merged` prints the memory of a key in a table of a million, and how much of
//! it is the index by dots; both first, while the heap is fresh. Then it has two copies of such a
//! table differ in 10 keys and in 100,000, and prints for each: messages, bytes as encoded on a
//! wire, rounds, and processor time of both copies until they are equal. Last it has an empty copy
//! take 400,000 and 1,000,000 keys, put in all at once and little by little, and prints the longest
//! step that either copy took: for so long a node does nothing else. No disk and no network.

use std::collections::BTreeMap;
use std::time::Duration;

use synod::merged::{
    Actor, Dot, Message, Mutation, Pace, Replica, Row, Schema, Step, Table, TableName,
    VersionVector, Writer,
};
use synod::{
    Body, ClusterId, Epoch, Incarnation, Instant, Key, Life, NodeId, Now, Value, Wall, wire,
};

fn main() {
    let keys: u64 = 1_000_000;
    println!("{keys} keys of 16 bytes with values of 16 bytes\n");
    memory(keys);
    for differences in [10, 100_000] {
        converge(keys, differences);
    }
    println!();
    for keys in [400_000, 1_000_000] {
        for rows in [usize::MAX, 1_000] {
            heal(keys, rows);
        }
    }
}

const NAME: &str = "things";

struct Pair {
    replicas: [Replica; 2],
    now: Instant,
    messages: u64,
    bytes: u64,
    /// The longest step, and how many there were.
    longest: Duration,
    steps: u64,
}

fn key(number: u64) -> Key {
    Key::from(format!("key{number:013}").as_str())
}

fn put(number: u64, text: &str) -> Mutation {
    Mutation::Put(key(number), Value::from(format!("{text}{number:08}").as_str()))
}

impl Pair {
    fn new(rows: usize) -> Self {
        let schema = Schema::default();
        let replica = |node: u16| {
            let life = Life(u64::from(node));
            let actor = Actor { node: NodeId(node), life, incarnation: Incarnation(1), anew: 0 };
            let table = Table::new(schema.agreement(), actor, false);
            let peers = [NodeId(3 - node)];
            let (round, debounce) = (Duration::from_millis(100), Duration::ZERO);
            let pace = Pace { round, debounce, rows, chunk: 256 << 10 };
            Replica::new(TableName::of(NAME), &schema, table, peers, Incarnation(1), pace)
        };
        Self {
            replicas: [replica(1), replica(2)],
            now: Instant(0),
            messages: 0,
            bytes: 0,
            longest: Duration::ZERO,
            steps: 0,
        }
    }

    /// One whose first copy has so many keys, and the second none.
    fn filled(keys: u64, rows: usize) -> Self {
        let mut pair = Self::new(rows);
        for start in (0..keys).step_by(1_000) {
            let some = start..start + 1_000;
            let puts: Vec<Mutation> = some.map(|number| put(number, "old")).collect();
            pair.write(0, &puts);
        }
        pair
    }

    fn carry(&mut self, from: usize, step: Step) {
        let mut flying: Vec<(usize, Message)> =
            step.sends.into_iter().map(|(_, message)| (1 - from, message)).collect();
        flying.reverse();
        while let Some((to, message)) = flying.pop() {
            self.messages += 1;
            self.bytes += encoded(&message);
            let mut step = Step::default();
            let (from, now) = (NodeId(2 - to as u16), self.now());
            self.timed(|pair| pair.replicas[to].on_message(from, message.body, now, &mut step));
            flying.extend(step.sends.into_iter().rev().map(|(_, message)| (1 - to, message)));
        }
    }

    fn round(&mut self) {
        self.now = self.now + Duration::from_millis(250);
        for place in 0..2 {
            let (mut step, now) = (Step::default(), self.now());
            self.timed(|pair| pair.replicas[place].on_tick(now, &mut step));
            self.carry(place, step);
        }
        for place in 0..2 {
            while self.replicas[place].has_work() {
                let mut step = Step::default();
                self.timed(|pair| pair.replicas[place].on_pause(&mut step));
                self.carry(place, step);
            }
        }
    }

    /// Has a copy take a step, and notes how long that took of the processor.
    fn timed(&mut self, step: impl FnOnce(&mut Self)) {
        let begun = processor();
        step(self);
        let took = begun.zip(processor()).map(|(begun, ended)| ended.saturating_sub(begun));
        self.longest = self.longest.max(took.unwrap_or_default());
        self.steps += 1;
    }

    fn write(&mut self, place: usize, mutations: &[Mutation]) {
        let wall = Wall(1_700_000_000_000 + self.now.0 / 1_000_000);
        let writer = Writer { wall, ..Writer::default() };
        let change = self.replicas[place].table().write(mutations, writer).expect("it fits");
        let mut step = Step::default();
        self.replicas[place].write(change, |_| false, &mut step);
    }

    const fn now(&self) -> Now {
        Now { instant: self.now, wall: Wall(1_700_000_000_000 + self.now.0 / 1_000_000) }
    }

    fn seen(&self, place: usize) -> &VersionVector {
        self.replicas[place].table().seen()
    }

    fn are_equal(&self) -> bool {
        self.seen(0) == self.seen(1)
    }
}

fn encoded(message: &Message) -> u64 {
    let message = synod::Message {
        cluster: ClusterId(1),
        epoch: Epoch(1),
        life: Life(1),
        incarnation: Incarnation(1),
        body: Body::Merged(message.clone()),
    };
    let mut frame = Vec::new();
    wire::encode(&message, &mut frame).expect("within a frame");
    frame.len() as u64
}

fn converge(keys: u64, differences: u64) {
    let mut pair = Pair::filled(keys, 1_000);
    while !pair.are_equal() {
        pair.round();
    }
    for _ in 0..6 {
        pair.round();
    }
    // Half on each side, spread over the table, none known to the other.
    for place in 0..differences {
        let number = place * (keys / differences);
        pair.write((place % 2) as usize, &[put(number, "new")]);
    }
    (pair.messages, pair.bytes) = (0, 0);
    let begun = processor();
    let mut rounds = 0;
    while !pair.are_equal() {
        pair.round();
        rounds += 1;
    }
    let took = begun.zip(processor()).map(|(begun, ended)| ended.saturating_sub(begun));
    let counts = [0, 1].map(|place| pair.replicas[place].table().len());
    assert_eq!(counts, [keys as usize; 2]);
    let took = took.map_or_else(
        || "processor time SKIPPED".to_owned(),
        |took| format!("{:.1} ms of processor time", took.as_secs_f64() * 1e3),
    );
    println!(
        "{differences:>7} differences: {:>5} messages, {:>9} bytes ({:.0} for each), \
         {rounds} rounds, {took}",
        pair.messages,
        pair.bytes,
        pair.bytes as f64 / differences as f64,
    );
    for _ in 0..6 {
        pair.round();
    }
    pair.bytes = 0;
    pair.round();
    println!("        between equal copies: {} bytes a round", pair.bytes);
}

/// An empty copy takes all of another, and then both forget what there is to forget.
fn heal(keys: u64, rows: usize) {
    let mut pair = Pair::filled(keys, rows);
    (pair.longest, pair.steps) = (Duration::ZERO, 0);
    let begun = processor();
    for _ in 0..8 {
        pair.round();
    }
    assert!(pair.are_equal(), "copies are equal");
    assert_eq!(pair.replicas[1].table().len() as u64, keys);
    let took = begun.zip(processor()).map(|(begun, ended)| ended.saturating_sub(begun));
    let how = if rows == usize::MAX { "all at once" } else { "little by little" };
    match took {
        Some(took) => println!(
            "{keys:>9} keys, {how:<16}: longest step {:>7.1} ms of {:>5} steps, {:>7.1} ms in all",
            pair.longest.as_secs_f64() * 1e3,
            pair.steps,
            took.as_secs_f64() * 1e3,
        ),
        None => println!("{keys:>9} keys, {how}: SKIPPED, this system does not tell"),
    }
}

fn memory(keys: u64) {
    let before = resident();
    let pair = Pair::filled(keys, 1_000);
    println!("a copy: {} bytes a key, with 32 of key and value", grown(before, keys));
    println!("its index, a map of as many dots: {} bytes a key\n", index(keys));
    drop(pair);
}

/// What an index of as many dots takes: a map from dot to a key that is shared with its row.
fn index(keys: u64) -> String {
    let shared: Vec<Key> = (0..keys).map(key).collect();
    let actor = Actor { node: NodeId(1), life: Life(1), incarnation: Incarnation(1), anew: 0 };
    let before = resident();
    let mut index = BTreeMap::new();
    for (number, key) in shared.iter().enumerate() {
        let dot = Dot { actor, number: number as u64 + 1 };
        index.insert(dot, Row { key: key.clone(), element: None });
    }
    let grown = grown(before, keys);
    assert_eq!(index.len() as u64, keys);
    grown
}

/// Resident memory, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Processor time of this thread, where the system tells: others may use the machine.
fn processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// How much more memory something takes, for each key.
fn grown(before: Option<u64>, keys: u64) -> String {
    let both = before.zip(resident());
    both.map_or_else(
        || "(SKIPPED, this system does not tell)".to_owned(),
        |(before, after)| (after.saturating_sub(before) / keys).to_string(),
    )
}
