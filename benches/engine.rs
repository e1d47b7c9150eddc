//! What the engine itself costs: three nodes in one thread, no disk, no network, no oracles.
//!
//! `cargo bench --bench engine` prints decisions a second for several numbers of requests in
//! flight, reads a second, and the memory of an idle key. Compare figures of one run only.

use std::collections::VecDeque;
use std::time::{Duration, Instant as Stopwatch};

use synod::{
    ClientId, Command, Config, Effect, Genesis, Input, Instant, Key, Message, Node, NodeId, Now,
    OnNoQuorum, Outcome, ReadLevel, Request, RequestId, Sent, TableId, Value, Wall,
};

struct Cluster {
    nodes: Vec<Node>,
    flights: VecDeque<(NodeId, NodeId, Message)>,
    effects: Vec<Effect>,
    now: Instant,
    answered: u64,
    unexpected: u64,
    next: u64,
    deliveries: u64,
}

impl Cluster {
    fn new() -> Self {
        let nodes = (1..=3).map(|node| {
            let mut config = Config::new(NodeId(node));
            config.genesis = Genesis::Vouched;
            Node::new(config, u64::from(node)).expect("possible")
        });
        let mut cluster = Self {
            nodes: nodes.collect(),
            flights: VecDeque::new(),
            effects: Vec::new(),
            now: Instant::ZERO,
            answered: 0,
            unexpected: 0,
            next: 0,
            deliveries: 0,
        };
        for _ in 0..20 {
            cluster.tick(Duration::from_millis(100));
        }
        cluster
    }

    fn tick(&mut self, time: Duration) {
        self.now = self.now + time;
        for node in 0..self.nodes.len() {
            self.input(node, Input::Timeout);
        }
        self.drain();
    }

    fn input(&mut self, node: usize, input: Input) {
        let now = Now { instant: self.now, wall: Wall(self.now.0 / 1_000_000) };
        let mut effects = std::mem::take(&mut self.effects);
        self.nodes[node].handle(input, now, &mut effects);
        let mut ticket = None;
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, message } => {
                    self.flights.push_back((NodeId(node as u16 + 1), to, message));
                }
                Effect::Persist { ticket: written, .. } => ticket = Some(written),
                Effect::Reply { outcome, .. } => {
                    self.answered += 1;
                    let expected = matches!(
                        outcome,
                        Outcome::Chosen { .. } | Outcome::Written { .. } | Outcome::Found { .. }
                    );
                    self.unexpected += u64::from(!expected);
                }
                Effect::Demonitor { .. } | Effect::Monitor { .. } | Effect::Notify { .. } => {}
            }
        }
        self.effects = effects;
        if let Some(ticket) = ticket {
            self.input(node, Input::Persisted { ticket });
        }
    }

    fn drain(&mut self) {
        while let Some((from, to, message)) = self.flights.pop_front() {
            self.deliveries += 1;
            self.input(usize::from(to.0) - 1, Input::Message { from, message });
        }
    }

    /// Has `count` requests answered, `outstanding` at a time, spread over the nodes.
    fn run(
        &mut self,
        count: u64,
        outstanding: u64,
        mut command: impl FnMut(u64) -> Command,
    ) -> f64 {
        let (before, stopwatch) = (self.answered, Stopwatch::now());
        let mut asked = 0;
        while asked < count {
            for _ in 0..outstanding.min(count - asked) {
                self.next += 1;
                let request = Request {
                    client: ClientId::new(1),
                    id: RequestId(self.next),
                    sent: Sent::First,
                    patience: Duration::from_secs(5),
                    on_no_quorum: OnNoQuorum::Return,
                    command: command(self.next),
                };
                self.input((self.next % 3) as usize, Input::Request(request));
                asked += 1;
            }
            self.drain();
        }
        let seconds = stopwatch.elapsed().as_secs_f64();
        assert_eq!(self.answered - before, count, "every request is answered");
        assert_eq!(self.unexpected, 0, "and none is refused");
        count as f64 / seconds
    }
}

fn key(number: u64) -> Key {
    Key::from(format!("key-{number:012}").as_str())
}

fn put(number: u64) -> Command {
    let value = Value::from(&[number as u8; 64][..]);
    Command::Put { table: TableId(0), key: key(number), value, bindings: Vec::new() }
}

fn get(number: u64, level: ReadLevel) -> Command {
    Command::Get { table: TableId(0), key: key(number), level }
}

/// Resident memory, where the system tells.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn main() {
    println!("{:<44} {:>14}", "three nodes, one thread, in memory", "a second");
    for outstanding in [1, 16, 256] {
        let mut cluster = Cluster::new();
        let rate = cluster.run(200_000, outstanding, |number| put(number % 1_000));
        println!("{:<44} {rate:>14.0}", format!("puts decided, {outstanding} outstanding"));
    }
    let mut cluster = Cluster::new();
    cluster.run(1_000, 1, |number| put(number % 1_000));
    let (before, stopwatch) = (cluster.deliveries, Stopwatch::now());
    let rate = cluster.run(400_000, 16, |number| get(number % 1_000, ReadLevel::Linearizable));
    let deliveries = (cluster.deliveries - before) as f64 / stopwatch.elapsed().as_secs_f64();
    println!("{:<44} {rate:>14.0}", "linearizable gets, 16 outstanding");
    println!("{:<44} {deliveries:>14.0}", "messages delivered while doing so");
    let rate = cluster.run(2_000_000, 16, |number| get(number % 1_000, ReadLevel::Local));
    println!("{:<44} {rate:>14.0}", "local gets");

    let keys = 1_000_000;
    let mut cluster = Cluster::new();
    let before = resident();
    let rate = cluster.run(keys, 64, put);
    println!("{:<44} {rate:>14.0}", "first puts to 1,000,000 keys");
    match (before, resident()) {
        (Some(before), Some(after)) => {
            // Three nodes in one process share the bytes of keys and values: this is what each of
            // them has for itself, plus a third of what they share.
            let each = (after - before) as f64 / 3.0 / keys as f64;
            println!("{:<44} {each:>14.0}", "bytes of memory per idle key and node");
        }
        _ => println!("bytes of memory per idle key: SKIPPED, this system does not tell"),
    }
}
