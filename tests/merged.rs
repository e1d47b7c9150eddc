//! Copies of merged tables among each other, in small worlds where anything may happen: messages
//! lost, doubled, late; islands, one-way links; copies that restart with or without their disk.
//!
//! What they show is held against a specification that knows the full causal history and shares
//! nothing with the engine: the writes that a copy has seen, less those that others of them knew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use synod::merged::{
    Actor, Answer, Body, Change, Chunk, Command, Content, Contest, Digest, Dot, Event, Field,
    Function, Journal, Keep, Kind, Message, Mutation, Origin, Pace, Pattern, Pull, Replica,
    Rewound, Role, Row, Schema, Stamp, Step, Strategy, Table, TableName, Unfit, Version,
    VersionVector, Writer,
};
use synod::{ClusterId, Epoch, Incarnation, Instant, Key, Life, NodeId, Now, Value, Wall, wire};

/// Numbers that are even enough, the same on every machine.
struct Lottery(u64);

impl Lottery {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

/// What the specification keeps of a write.
#[derive(Clone)]
struct Write {
    row: Row,
    value: Option<Value>,
    stamp: Stamp,
    origin: Origin,
    /// What is written down beside the value.
    field: Option<Value>,
    /// Every write to the row that its writer had seen.
    past: BTreeSet<Dot>,
    /// If it is another writing: of which write. What is known of that is known of this.
    first: Option<Dot>,
    /// What the writer of that had seen.
    knew: BTreeSet<Dot>,
}

struct Host {
    replica: Replica,
    log: Vec<Change>,
    /// What it said has lost.
    lost: Vec<(Row, Value)>,
    incarnation: u32,
    shift: i64,
}

struct World {
    schema: Schema,
    /// As what copies are begun.
    begun: Schema,
    durable: bool,
    /// How many rows are put in at a time, and how many bytes of versions asked for.
    rows: usize,
    chunk: u32,
    hosts: Vec<Host>,
    flying: Vec<(NodeId, NodeId, Message)>,
    cut: BTreeSet<(u16, u16)>,
    now: Instant,
    writes: BTreeMap<Dot, Write>,
    events: Vec<Event>,
    sent: usize,
}

fn key(number: u64) -> Key {
    Key::from(format!("k{number}").as_str())
}

fn actor(node: u16, incarnation: u32) -> Actor {
    let incarnation = Incarnation(incarnation);
    Actor { node: NodeId(node), life: Life(u64::from(node)), incarnation, anew: 0 }
}

const NAME: &str = "things";

impl World {
    fn new(nodes: u16, schema: Schema, durable: bool, shifts: &[i64]) -> Self {
        Self::at_pace(nodes, schema, durable, shifts, (1_000, 256 << 10))
    }

    fn at_pace(
        nodes: u16,
        schema: Schema,
        durable: bool,
        shifts: &[i64],
        (rows, chunk): (usize, u32),
    ) -> Self {
        let mut world = Self {
            rows,
            chunk,
            begun: schema.clone(),
            schema,
            durable,
            hosts: Vec::new(),
            flying: Vec::new(),
            cut: BTreeSet::new(),
            now: Instant(1_000_000_000),
            writes: BTreeMap::new(),
            events: Vec::new(),
            sent: 0,
        };
        for node in 1..=nodes {
            let replica = world.replica(node, nodes, 1, &[]);
            let shift = shifts.get(usize::from(node) - 1).copied().unwrap_or_default();
            world.hosts.push(Host {
                replica,
                log: Vec::new(),
                lost: Vec::new(),
                incarnation: 1,
                shift,
            });
        }
        world
    }

    fn replica(&self, node: u16, nodes: u16, incarnation: u32, log: &[Change]) -> Replica {
        let name = actor(node, if self.durable { 0 } else { incarnation });
        let mut table = Table::new(self.begun.agreement(), name, nodes == 1);
        for change in log {
            table.begin(change);
            table.work(self.rows);
        }
        let peers = (1..=nodes).filter(|peer| *peer != node).map(NodeId);
        let (round, debounce) = (Duration::from_millis(100), Duration::ZERO);
        let pace = Pace { round, debounce, rows: self.rows, chunk: self.chunk };
        let incarnation = Incarnation(incarnation);
        Replica::new(TableName::of(NAME), &self.schema, table, peers, incarnation, pace)
    }

    fn wall(&self, place: usize) -> Wall {
        let now = 4_000_000_000_000 + (self.now.0 / 1_000_000) as i64;
        Wall((now + self.hosts[place].shift) as u64)
    }

    fn now_at(&self, place: usize) -> Now {
        Now { instant: self.now, wall: self.wall(place) }
    }

    fn table(&self, place: usize) -> &Table {
        self.hosts[place].replica.table()
    }

    fn take(&mut self, place: usize, mut step: Step) {
        let from = NodeId(place as u16 + 1);
        for change in &step.changes {
            for (row, version) in &change.versions {
                // Whatever was written as late again keeps what the writer of it had seen.
                if version.dot.actor.node != from || self.writes.contains_key(&version.dot) {
                    continue;
                }
                let again = self.writes.iter().filter(|(_, write)| write.row == *row);
                let past = again.map(|(dot, _)| *dot).filter(|dot| version.past.contains(dot));
                let past = past.collect();
                self.record(row, version, past);
            }
        }
        self.hosts[place].log.append(&mut step.changes);
        self.hosts[place].lost.extend(step.applied.drain(..).flat_map(|applied| applied.lost));
        self.events.append(&mut step.events);
        self.sent += step.sends.len();
        for (to, message) in step.sends {
            self.flying.push((from, to, message));
        }
        self.table(place).check().expect("a sound copy");
    }

    fn record(&mut self, row: &Row, version: &Version, past: BTreeSet<Dot>) {
        let value = match &version.content {
            Content::Dead => None,
            Content::Live(value) => Some(value.clone()),
        };
        let (stamp, origin, field) = (version.stamp, version.origin, version.field.clone());
        let first = version.first.as_deref().copied();
        let knew = first.map_or_else(|| past.clone(), |first| self.writes[&first].past.clone());
        let write = Write { row: row.clone(), value, stamp, origin, field, past, first, knew };
        self.writes.insert(version.dot, write);
    }

    fn writer(&self, place: usize) -> Writer {
        let node = place as u16 + 1;
        let hears = |other: &u16| *other == node || !self.cut.contains(&(*other, node));
        let heard: Vec<u16> = (1..=self.hosts.len() as u16).filter(hears).collect();
        Writer { wall: self.wall(place), heard: heard.len() as u16, oldest: NodeId(heard[0]) }
    }

    fn write(&mut self, place: usize, mutations: &[Mutation]) {
        let whole = self.table(place).has_work().then(|| self.table(place).put_in());
        let whole = whole.as_ref().unwrap_or_else(|| self.table(place));
        let change = whole.write(mutations, self.writer(place)).expect("fitting");
        for (row, version) in &change.versions {
            let Writer { heard, oldest, .. } = self.writer(place);
            let islands = [(Strategy::LargestIsland, heard), (Strategy::OldestIsland, !oldest.0)];
            let island = islands.into_iter().find(|(of, _)| self.schema.strategy == *of);
            if let Some((_, island)) = island.filter(|_| version.value().is_some()) {
                assert_eq!(version.field, Some(Value::from(&island.to_be_bytes()[..])));
            }
            let seen = self.table(place).seen();
            let known = self.writes.iter().filter(|(dot, w)| w.row == *row && seen.contains(dot));
            let past = known.map(|(dot, _)| *dot).collect();
            self.record(row, version, past);
        }
        let mut step = Step::default();
        self.hosts[place].replica.write(change, |_| true, &mut step);
        self.take(place, step);
    }

    fn put(&mut self, place: usize, number: u64, value: &str) {
        self.write(place, &[Mutation::Put(key(number), Value::from(value))]);
    }

    fn remove(&mut self, place: usize, number: u64) {
        self.write(place, &[Mutation::Remove(key(number))]);
    }

    fn tick(&mut self, place: usize) {
        let (mut step, now) = (Step::default(), self.now_at(place));
        self.hosts[place].replica.on_tick(now, &mut step);
        self.take(place, step);
    }

    /// One copy does some of what it does little by little.
    fn pause(&mut self, place: usize) {
        let mut step = Step::default();
        if self.hosts[place].replica.has_work() {
            self.hosts[place].replica.on_pause(&mut step);
        }
        self.take(place, step);
    }

    /// All do all of it.
    fn finish(&mut self) {
        for place in 0..self.hosts.len() {
            while self.hosts[place].replica.has_work() {
                self.pause(place);
            }
        }
    }

    /// What clients are told is what they would be told if all were put in.
    fn ask_any(&mut self, place: usize, lottery: &mut Lottery) {
        let whole = self.table(place).put_in();
        let at = key(lottery.below(6));
        let found = self.ask(place, &Command::Get(at.clone())).expect("an answer");
        let limit = 1 + lottery.below(3) as u32;
        let Answer::Found { entries, more: None } = found else { panic!("more of one key") };
        let shown: Vec<_> = entries.iter().map(|it| it.row.clone()).collect();
        assert_eq!(shown, whole.get(&at).map(|(row, _)| row.clone()).collect::<Vec<_>>());
        let conflicts = lottery.below(2) == 0;
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let pattern = Pattern::default();
            let page = match conflicts {
                true => self.ask(place, &Command::Conflicts { after, limit }),
                false => self.ask(place, &Command::Scan { pattern, after, limit }),
            };
            let Answer::Found { entries, more } = page.expect("a page") else { panic!("no page") };
            rows.extend(entries.into_iter().map(|it| {
                let dots: Vec<Dot> = it.values.iter().map(|value| value.dot).collect();
                (it.row, dots)
            }));
            after = more;
            if after.is_none() {
                break;
            }
        }
        let wanted = whole.scan(None).filter(|(_, shown)| !conflicts || shown.len() > 1);
        let dots = |shown: Vec<&Version>| shown.iter().map(|version| version.dot).collect();
        let wanted: Vec<(Row, Vec<Dot>)> =
            wanted.map(|(row, shown)| (row.clone(), dots(shown))).collect();
        assert_eq!(rows, wanted);
    }

    fn deliver(&mut self, flying: usize) {
        let (from, to, message) = self.flying.swap_remove(flying);
        if self.cut.contains(&(from.0, to.0)) {
            return;
        }
        let place = usize::from(to.0) - 1;
        let (mut step, now) = (Step::default(), self.now_at(place));
        self.hosts[place].replica.on_message(from, message.body, now, &mut step);
        self.take(place, step);
    }

    fn restart(&mut self, place: usize) {
        let node = place as u16 + 1;
        let incarnation = self.hosts[place].incarnation + 1;
        if !self.durable {
            self.hosts[place].log.clear();
        }
        let log = std::mem::take(&mut self.hosts[place].log);
        let before = self.table(place).put_in();
        let replica = self.replica(node, self.hosts.len() as u16, incarnation, &log);
        if self.durable {
            let after = replica.table().put_in();
            assert_eq!(before.seen(), after.seen());
            // What is forgotten little by little may be there for longer.
            if self.rows == 1 {
                assert_eq!(contents(&before), contents(&after), "what recovers is what was");
            } else {
                let held = |table: &Table| -> Vec<(Row, Version)> {
                    table.versions().map(|(row, it)| (row.clone(), it.clone())).collect()
                };
                assert_eq!(held(&before), held(&after), "what recovers is what wrote the log");
            }
        }
        let shift = self.hosts[place].shift;
        self.hosts[place] = Host { replica, log, lost: Vec::new(), incarnation, shift };
    }

    /// Everything arrives, everybody ticks.
    fn round(&mut self) {
        self.now = self.now + Duration::from_millis(250);
        for place in 0..self.hosts.len() {
            self.tick(place);
        }
        while !self.flying.is_empty() {
            self.deliver(0);
        }
        self.finish();
    }

    /// Time goes by on links that carry so many bytes a second, and take so long, each way. Tells
    /// how many bytes were sent.
    fn crawl(&mut self, speed: u64, delay: Duration, time: Duration) -> u64 {
        let (mut links, mut late, mut bytes) = (BTreeMap::new(), Vec::new(), 0);
        for step in 0..time.as_millis() / 50 {
            self.now = self.now + Duration::from_millis(50);
            if step % 5 == 0 {
                (0..self.hosts.len()).for_each(|place| self.tick(place));
            }
            self.finish();
            for (from, to, message) in std::mem::take(&mut self.flying) {
                let mut frame = Vec::new();
                let whole = synod::Message {
                    cluster: ClusterId(1),
                    epoch: Epoch(1),
                    life: Life(1),
                    incarnation: Incarnation(1),
                    body: synod::Body::Merged(message.clone()),
                };
                wire::encode(&whole, &mut frame).expect("short");
                bytes += frame.len() as u64;
                let link = links.entry((from, to)).or_insert(self.now);
                let takes = Duration::from_micros(frame.len() as u64 * 1_000_000 / speed);
                *link = (*link).max(self.now) + takes;
                late.push((*link + delay, (from, to, message)));
            }
            let there = late.extract_if(.., |(when, _)| *when <= self.now);
            for (_, flight) in there.collect::<Vec<_>>() {
                self.flying.push(flight);
                self.deliver(self.flying.len() - 1);
            }
        }
        bytes
    }

    /// Heals all links; copies must be equal within a bound of rounds, and have nothing to forget.
    fn heal(&mut self) {
        self.cut.clear();
        for _ in 0..20 {
            self.round();
        }
        let first: Vec<_> = self.table(0).versions().collect();
        for place in 1..self.hosts.len() {
            let other: Vec<_> = self.table(place).versions().collect();
            assert_eq!(first, other, "copies 1 and {} are equal", place + 1);
            assert_eq!(self.table(0).seen(), self.table(place).seen());
            assert_eq!(self.table(0).conflicts(), self.table(place).conflicts(), "alarms too");
        }
        let table = self.table(0);
        assert_eq!(table.stable(), table.seen(), "all is stable in the end");
        assert!(table.versions().all(|(_, version)| version.content != Content::Dead));
    }

    /// The specification: what a copy shows of a row, by the writes it has seen alone.
    fn expected(&self, place: usize, row: &Row) -> Vec<Value> {
        self.expected_of(self.table(place).seen(), row)
    }

    fn expected_of(&self, seen: &VersionVector, row: &Row) -> Vec<Value> {
        let known: Vec<(&Dot, &Write)> =
            self.writes.iter().filter(|(d, w)| w.row == *row && seen.contains(d)).collect();
        let maximal: Vec<&(&Dot, &Write)> = known
            .iter()
            .filter(|(dot, _)| !known.iter().any(|(_, other)| other.past.contains(dot)))
            .filter(|(_, write)| {
                write
                    .first
                    .is_none_or(|it| !known.iter().any(|(_, other)| other.knew.contains(&it)))
            })
            .collect();
        let rank = |(dot, write): &(&Dot, &Write)| (write.stamp, **dot);
        let removed = maximal.iter().filter(|(_, w)| w.value.is_none());
        let removed = removed.filter(|(_, w)| w.origin != Origin::Late).map(|w| rank(w)).max();
        let mut live: Vec<&&(&Dot, &Write)> = maximal
            .iter()
            .filter(|(_, write)| write.value.is_some())
            .filter(|found| match (self.schema.contest, removed) {
                (_, None) | (Contest::UpdateWins, _) => true,
                (Contest::DeleteWins, _) => found.1.origin == Origin::Late,
                (Contest::LaterWins, Some(removed)) => {
                    found.1.origin == Origin::Late || rank(found) > removed
                }
            })
            .collect();
        live.sort_by_key(|found| std::cmp::Reverse(rank(found)));
        let mut found: Vec<(Value, &Option<Value>)> = Vec::new();
        for (_, write) in live {
            let value = write.value.clone().expect("live");
            if !found.iter().any(|(other, _)| *other == value) {
                found.push((value, &write.field));
            }
        }
        let most = found.iter().map(|(_, field)| *field).max();
        let largest = found.iter().find(|(_, field)| Some(*field) == most);
        let largest = largest.map(|(value, _)| value.clone());
        let mut values: Vec<Value> = found.into_iter().map(|(value, _)| value).collect();
        match &self.schema.strategy {
            Strategy::LargestIsland | Strategy::OldestIsland => {
                values = largest.into_iter().collect();
            }
            Strategy::LastModified => values.truncate(1),
            Strategy::LastVersion(field) => {
                let of = |value: &Value| field.of(value).map(|found| found.into_owned());
                let best = values.iter().map(of).max().flatten();
                values.retain(|value| of(value) == best);
                values.truncate(1);
            }
            Strategy::Custom | Strategy::Ignore | Strategy::Manual | Strategy::Siblings => {}
        }
        values
    }

    fn rows(&self) -> BTreeSet<Row> {
        self.writes.values().map(|write| write.row.clone()).collect()
    }

    /// C2, C3, C4, C6: each copy shows what the specification says, at every moment.
    fn check(&self) {
        for place in 0..self.hosts.len() {
            let whole = self.table(place).has_work().then(|| self.table(place).put_in());
            let whole = whole.as_ref().unwrap_or_else(|| self.table(place));
            whole.check().expect("a sound copy");
            for row in self.rows() {
                let (shown, expected) = (shown(whole, &row), self.expected(place, &row));
                assert_eq!(shown, expected, "row {row} of copy {}", place + 1);
            }
        }
    }

    /// The same for some rows, where there are many.
    fn check_few(&self) {
        for row in self.rows().iter().take(8) {
            for place in 0..self.hosts.len() {
                let shown = shown(self.table(place), row);
                assert_eq!(shown, self.expected(place, row), "row {row}");
            }
        }
    }

    fn get(&self, place: usize, number: u64) -> Vec<Value> {
        let key = key(number);
        let shown = self.table(place).get(&key).flat_map(|(_, shown)| shown);
        shown.filter_map(|version| version.value().cloned()).collect()
    }

    fn isolate(&mut self, islands: &[&[u16]]) {
        let island = |node: u16| islands.iter().position(|island| island.contains(&node));
        let count = self.hosts.len() as u16;
        let pairs = (1..=count).flat_map(|a| (1..=count).map(move |b| (a, b)));
        self.cut = pairs.filter(|(a, b)| island(*a) != island(*b)).collect();
    }
}

/// All that a copy shows.
fn contents(table: &Table) -> Vec<(Row, Vec<(Dot, Content)>)> {
    let of = |it: &&Version| (it.dot, it.content.clone());
    let rows = table.scan(None);
    rows.map(|(row, shown)| (row.clone(), shown.iter().map(of).collect())).collect()
}

fn shown(table: &Table, row: &Row) -> Vec<Value> {
    table.shown(row).into_iter().filter_map(|version| version.value().cloned()).collect()
}

fn values(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| Value::from(*text)).collect()
}

fn schema(strategy: Strategy, contest: Contest) -> Schema {
    Schema { strategy, contest, ..Schema::default() }
}

const FIELD: Field = Field::bytes(0, 1);

/// The same, found otherwise: values are digits, so they are JSON too.
fn first(value: &Value) -> Option<Vec<u8>> {
    value.as_bytes().first().map(|byte| vec![*byte])
}

fn any_schema(lottery: &mut Lottery) -> Schema {
    let strategies = [
        Strategy::Siblings,
        Strategy::LastModified,
        Strategy::LastVersion(FIELD),
        Strategy::Custom,
        Strategy::LastVersion(Field::Function(Function::new("first", first))),
        Strategy::LargestIsland,
        Strategy::OldestIsland,
    ];
    let contests = [Contest::LaterWins, Contest::DeleteWins, Contest::UpdateWins];
    let kinds = [
        Kind::Set,
        Kind::OrderedSet,
        Kind::Bag { secondary: None },
        Kind::Bag { secondary: Some(Field::bytes(1, 1)) },
    ];
    Schema {
        kind: kinds[lottery.below(4) as usize].clone(),
        strategy: strategies[lottery.below(6) as usize].clone(),
        contest: contests[lottery.below(3) as usize],
        ..Schema::default()
    }
}

fn any_mutation(lottery: &mut Lottery) -> Mutation {
    let key = key(lottery.below(3));
    let value = format!("{}{}{}", lottery.below(3), lottery.below(2), lottery.below(3));
    let value = Value::from(value.as_str());
    match lottery.below(6) {
        0 | 1 => Mutation::Remove(key),
        2 => Mutation::RemoveValue(key, value),
        _ => Mutation::Put(key, value),
    }
}

/// One step of a world in which anything may happen.
fn any_step(world: &mut World, lottery: &mut Lottery) {
    let nodes = world.hosts.len() as u64;
    let place = lottery.below(nodes) as usize;
    match lottery.below(20) {
        0..=4 => {
            let count = 1 + lottery.below(2);
            let mutations: Vec<Mutation> = (0..count).map(|_| any_mutation(lottery)).collect();
            world.write(place, &mutations);
        }
        5 | 6 => world.tick(place),
        7 => world.now = world.now + Duration::from_millis(lottery.below(400)),
        8 => world.restart(place),
        9 => {
            let pair = (1 + place as u16, 1 + lottery.below(nodes) as u16);
            if !world.cut.remove(&pair) {
                world.cut.insert(pair);
            }
        }
        10 if lottery.below(4) == 0 => world.cut.clear(),
        13 => world.pause(place),
        14 if lottery.below(2) == 0 => world.ask_any(place, lottery),
        11 if !world.flying.is_empty() => {
            let flying = lottery.below(world.flying.len() as u64) as usize;
            world.flying.swap_remove(flying);
        }
        12 if !world.flying.is_empty() => {
            let flying = lottery.below(world.flying.len() as u64) as usize;
            world.flying.push(world.flying[flying].clone());
        }
        _ if !world.flying.is_empty() => {
            // Mostly the eldest, so that conversations get somewhere.
            let flying = match lottery.below(3) {
                0 => lottery.below(world.flying.len() as u64) as usize,
                _ => 0,
            };
            world.deliver(flying);
        }
        _ => {}
    }
}

fn random_worlds(seeds: std::ops::Range<u64>, durable: bool) {
    for seed in seeds {
        let mut lottery = Lottery::new(seed);
        let nodes = 2 + lottery.below(3) as u16;
        let shifts: Vec<i64> =
            (0..nodes).map(|_| lottery.below(20_000_000) as i64 - 10_000_000).collect();
        // Half of them put in differences row by row, had in chunks of a version or two.
        let pace = if seed % 2 == 0 { (1_000, 256 << 10) } else { (1, 1 + seed as u32 % 200) };
        let schema = any_schema(&mut lottery);
        let mut world = World::at_pace(nodes, schema, durable, &shifts, pace);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..120 {
                any_step(&mut world, &mut lottery);
                world.check();
            }
            world.heal();
            world.check();
        }));
        if outcome.is_err() {
            panic!("seed {seed}: {nodes} copies, {:?}", world.schema);
        }
    }
}

/// C1-C4, L-25, L-31, L-32, L-34, L-35, L-37, L-38, M-10, M-34, M-37, U-04, U-06: whatever happens
/// between copies that keep their disks, each shows at every moment what the causal history says,
/// and when all links work again all are equal.
#[test]
fn copies_on_disk_show_what_history_says_and_become_equal() {
    random_worlds(0..500, true);
}

/// Z69: copies that lose everything when they restart use no name of a write twice.
#[test]
fn copies_in_memory_forget_and_become_equal() {
    random_worlds(0..500, false);
}

impl World {
    /// One more replica, of which nobody has heard yet but itself.
    fn add(&mut self) {
        let nodes = self.hosts.len() as u16 + 1;
        let replica = self.replica(nodes, nodes, 1, &[]);
        self.hosts.push(Host {
            replica,
            log: Vec::new(),
            lost: Vec::new(),
            incarnation: 1,
            shift: 0,
        });
    }

    /// Hears which replicas there are.
    fn meet(&mut self, place: usize) {
        let all = (1..=self.hosts.len() as u16).filter(|node| usize::from(*node) != place + 1);
        let all: Vec<NodeId> = all.map(NodeId).collect();
        self.hosts[place].replica.meet(all, self.now);
    }
}

/// One step of a world of islands: whoever hears each other comes to know all, and copies begin
/// anew, in between, before anybody has met everybody.
fn step_of_islands(world: &mut World, lottery: &mut Lottery) {
    let nodes = world.hosts.len() as u64;
    let place = lottery.below(nodes) as usize;
    match lottery.below(16) {
        0..=2 => {
            let value = format!("{}{}", lottery.below(3), lottery.below(9));
            world.put(place, 0, &value);
        }
        3 => world.remove(place, 0),
        4 => world.restart(place),
        5 => {
            // One link, in one direction.
            let pair = (1 + place as u16, 1 + lottery.below(nodes) as u16);
            if !world.cut.remove(&pair) {
                world.cut.insert(pair);
            }
        }
        6 | 7 => {
            let island: Vec<u64> = (0..nodes).map(|_| lottery.below(2)).collect();
            let of = |island: &[u64], side| {
                let nodes = (1..=nodes as u16).zip(island);
                nodes.filter(|(_, of)| **of == side).map(|(node, _)| node).collect::<Vec<_>>()
            };
            world.isolate(&[&of(&island, 0), &of(&island, 1)]);
        }
        8 => {
            let few = world.flying.len().min(1 + lottery.below(6) as usize);
            for _ in 0..few {
                world.deliver(lottery.below(world.flying.len().max(1) as u64) as usize);
            }
        }
        9 if nodes < 4 => world.add(),
        9 | 10 => world.meet(place),
        11 => world.tick(place),
        _ => world.round(),
    }
}

/// C1, C4: copies that begin anew, and replicas that are added, amid forgetting: whatever some
/// have forgotten and others have not, all show the same at every moment, and are equal in the end.
#[test]
fn copies_that_begin_amid_forgetting_become_equal() {
    let (mut forgotten, mut late) = (0, 0);
    for seed in 0..4_000 {
        let mut lottery = Lottery::new(seed);
        let mut schema = any_schema(&mut lottery);
        schema.kind = Kind::Set;
        let nodes = 2 + lottery.below(2) as u16;
        let shifts: Vec<i64> = (0..nodes).map(|_| lottery.below(3) as i64 * 3_600_000).collect();
        let mut world = World::new(nodes, schema, lottery.below(4) == 0, &shifts);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..60 {
                step_of_islands(&mut world, &mut lottery);
                world.check();
            }
            (0..world.hosts.len()).for_each(|place| world.meet(place));
            forgotten += usize::from(
                (0..world.hosts.len()).any(|place| !world.table(place).stable().is_empty()),
            );
            late += world.writes.values().filter(|write| write.origin == Origin::Late).count();
            world.heal();
            world.check();
        }));
        if outcome.is_err() {
            panic!("seed {seed}: {nodes} copies, {:?}", world.schema);
        }
    }
    assert!(forgotten > 500 && late > 500, "{forgotten} worlds forgot, {late} writes were late");
}

/// C5: putting versions into a row in any order, any number of times, comes to the same. Every
/// history of up to four writes by three writers, each of whom has seen any of the earlier ones.
#[test]
fn every_order_of_every_small_history_comes_to_the_same() {
    let mut histories = 0;
    for count in 1..=4_usize {
        // For each write but the first, which of the earlier ones its writer had seen directly.
        let choices: usize = (1..count).map(|place| 1 << place).product();
        for choice in 0..choices {
            let versions = history(count, choice);
            let mut outcomes = BTreeSet::new();
            for order in orders(count) {
                let mut table = Table::new(Schema::default().agreement(), actor(9, 0), true);
                for place in order.iter().chain(&order) {
                    let row = Row { key: key(0), element: None };
                    let version = versions[*place].clone();
                    table.apply(&Change { versions: vec![(row, version)], ..Change::default() });
                }
                outcomes.insert(table.versions().map(|(_, v)| v.dot).collect::<Vec<_>>());
            }
            assert_eq!(outcomes.len(), 1, "{versions:?}");
            histories += 1;
        }
    }
    assert_eq!(histories, 1 + 2 + 8 + 64);
}

/// Writes of one row, each by a writer of its own; bits of `choice` say what each has seen.
fn history(count: usize, mut choice: usize) -> Vec<Version> {
    let mut versions: Vec<Version> = Vec::new();
    for place in 0..count {
        let mut past = VersionVector::EMPTY;
        for version in &versions {
            if choice & 1 == 1 {
                past.join(&version.past);
                past.insert(version.dot);
            }
            choice >>= 1;
        }
        versions.push(Version {
            dot: Dot { actor: actor(place as u16 + 1, 0), number: 1 },
            past,
            stamp: Stamp::default().next(Wall(100 - place as u64)),
            origin: Origin::Written,
            content: Content::Live(Value::from(format!("v{place}").as_str())),
            field: None,
            first: None,
        });
    }
    versions
}

fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for order in orders(count - 1) {
        for place in 0..count {
            let mut longer = order.clone();
            longer.insert(place, count - 1);
            all.push(longer);
        }
    }
    all
}

/// C12, M-06, M-41: the same run with other clocks. Where no clock is asked nothing differs; where
/// clocks break ties, only rows with concurrent versions do.
#[test]
fn other_clocks_change_nothing_but_ties() {
    let (mut rows, mut ties, mut writes) = (0, 0, 0);
    for seed in 0..400 {
        let run = |shifted: bool, clockless: bool| {
            let mut lottery = Lottery::new(seed);
            let mut schema = any_schema(&mut lottery);
            if clockless {
                (schema.strategy, schema.contest) = (Strategy::Siblings, Contest::UpdateWins);
            }
            let hours = 3_600_000;
            let shifts = if shifted { [5 * hours, -7 * hours, 365 * 24 * hours] } else { [0; 3] };
            let mut world = World::new(3, schema, true, &shifts);
            for _ in 0..100 {
                any_step(&mut world, &mut lottery);
            }
            world.heal();
            world
        };
        for clockless in [true, false] {
            let (one, other) = (run(false, clockless), run(true, clockless));
            writes += one.writes.len();
            for row in one.rows().union(&other.rows()) {
                rows += 1;
                let concurrent = |world: &World| {
                    let of_row = || world.writes.iter().filter(|(_, write)| write.row == *row);
                    of_row().any(|(dot, write)| {
                        of_row().any(|(before, earlier)| {
                            before != dot
                                && !write.past.contains(before)
                                && !earlier.past.contains(dot)
                        })
                    })
                };
                let mut shown = [shown(one.table(0), row), shown(other.table(0), row)];
                if clockless {
                    // The order of siblings is by clock; what they are is not.
                    shown.iter_mut().for_each(|values| values.sort());
                }
                if shown[0] != shown[1] {
                    assert!(!clockless && concurrent(&one), "seed {seed}, row {row}: {shown:?}");
                    ties += 1;
                }
            }
        }
    }
    println!("800 histories of {writes} writes: of {rows} rows {ties} differ, all by ties");
    assert!(ties > 20, "clocks broke only {ties} ties: the test sees too little");
}

/// M-13, M-14, U-05: both sides of a bag are united, without doubles, and C11: an element deleted
/// on one side and left alone on the other is gone.
#[test]
fn bags_are_united_and_deletions_stay() {
    let bag = Schema { kind: Kind::Bag { secondary: None }, ..Schema::default() };
    let mut world = World::new(2, bag, true, &[]);
    world.put(0, 1, "c");
    world.put(0, 1, "d");
    world.heal();
    world.isolate(&[&[1], &[2]]);
    world.put(0, 1, "a");
    world.put(1, 1, "b");
    world.write(1, &[Mutation::RemoveValue(key(1), Value::from("d"))]);
    world.heal();
    assert_eq!(world.get(0, 1), values(&["a", "b", "c"]));
}

/// M-21: elements that agree in a secondary field are versions of one element; the greater version
/// stays. Others are united.
#[test]
fn elements_with_one_secondary_key_are_versions_of_one() {
    let kind = Kind::Bag { secondary: Some(Field::bytes(1, 1)) };
    let schema = Schema { kind, strategy: Strategy::LastVersion(FIELD), ..Schema::default() };
    let mut world = World::new(2, schema, true, &[]);
    world.isolate(&[&[1], &[2]]);
    world.write(0, &["1a", "1b", "5c", "1d"].map(|v| Mutation::Put(key(1), Value::from(v))));
    world.write(1, &["0a", "2b", "5c", "1e"].map(|v| Mutation::Put(key(1), Value::from(v))));
    world.heal();
    assert_eq!(world.get(1, 1), values(&["1a", "2b", "5c", "1d", "1e"]));
}

/// D-11: what was written where more replicas could be heard stays, whatever the clocks say; what
/// was written with as many stays if it is later. Removals go by the contest.
#[test]
fn the_larger_island_stays_on_both_sides() {
    let strategy = Strategy::LargestIsland;
    let mut world = World::new(3, schema(strategy, Contest::default()), true, &[0, 0, 9_000_000]);
    for number in 1..=3 {
        world.put(0, number, "before");
    }
    world.heal();
    world.isolate(&[&[1, 2], &[3]]);
    world.put(2, 1, "small");
    world.put(0, 1, "large");
    world.put(2, 2, "alone");
    world.isolate(&[&[1], &[2], &[3]]);
    world.put(1, 3, "early");
    world.put(2, 3, "late");
    world.heal();
    for place in 0..3 {
        assert_eq!(world.get(place, 1), values(&["large"]));
        assert_eq!(world.get(place, 2), values(&["alone"]), "nothing is against it");
        assert_eq!(world.get(place, 3), values(&["late"]));
    }
}

/// D-11: what was written where an older replica could be heard stays, one of a lower node, however
/// few could be heard there and whatever the clocks say.
#[test]
fn the_oldest_island_stays_on_both_sides() {
    let strategy = Strategy::OldestIsland;
    let mut world = World::new(4, schema(strategy, Contest::default()), true, &[0, 9_000_000]);
    world.isolate(&[&[1], &[2, 3, 4]]);
    world.put(1, 1, "many");
    world.put(0, 1, "oldest");
    world.put(2, 2, "alone");
    world.isolate(&[&[1], &[2], &[3, 4]]);
    world.put(1, 3, "second");
    world.put(3, 3, "third");
    world.put(2, 4, "early");
    world.put(3, 4, "late");
    world.heal();
    for place in 0..4 {
        assert_eq!(world.get(place, 1), values(&["oldest"]));
        assert_eq!(world.get(place, 2), values(&["alone"]), "nothing is against it");
        assert_eq!(world.get(place, 3), values(&["second"]));
        assert_eq!(world.get(place, 4), values(&["late"]), "as old");
    }
}

/// What a strategy or a removal decides between values that did not know of each other is told
/// where both come together, once, with the value; what was replaced in knowledge has not lost.
#[test]
fn what_loses_is_told_with_its_value() {
    let mut world = World::new(2, schema(Strategy::LastModified, Contest::DeleteWins), true, &[]);
    for number in 1..=3 {
        world.put(0, number, "before");
    }
    world.heal();
    world.isolate(&[&[1], &[2]]);
    for (number, here, there) in [(1, "a", "b"), (4, "same", "same"), (5, "e", "f")] {
        world.put(0, number, here);
        world.put(1, number, there);
    }
    world.put(0, 5, "g");
    world.remove(0, 2);
    world.put(1, 2, "unseen");
    world.put(1, 3, "in knowledge");
    world.heal();
    let row = |number| Row { key: key(number), element: None };
    let mut lost: Vec<(Row, Value)> = world.hosts[0].lost.clone();
    assert_eq!(world.get(0, 5), values(&["g"]));
    lost.sort();
    let expected = [(1, "a"), (2, "unseen"), (5, "f")];
    let expected = expected.map(|(number, value)| (row(number), Value::from(value)));
    assert_eq!(lost, expected);
    let mut there: Vec<(Row, Value)> = world.hosts[1].lost.clone();
    there.sort();
    assert_eq!(there, expected);
}

/// M-18, M-19: the greater field stays, whichever side has it; of equal fields one stays, the same
/// on both sides. A value without the field is refused.
#[test]
fn the_greater_field_stays_on_both_sides() {
    let strategy = Strategy::LastVersion(FIELD);
    let mut world = World::new(2, schema(strategy, Contest::default()), true, &[9_000_000, 0]);
    world.isolate(&[&[1], &[2]]);
    for (number, here, there) in [(1, "1x", "2y"), (2, "2x", "1y"), (3, "3x", "3y")] {
        world.put(0, number, here);
        world.put(1, number, there);
    }
    world.heal();
    assert_eq!(world.get(0, 1), values(&["2y"]));
    assert_eq!(world.get(0, 2), values(&["2x"]));
    assert_eq!(world.get(0, 3).len(), 1);
    assert_eq!(world.get(0, 3), world.get(1, 3));
    let refused =
        world.table(0).write(&[Mutation::Put(key(4), Value::from(""))], Writer::default());
    assert_eq!(refused, Err(Unfit::NoField { key: key(4) }));
}

/// L-28, M-15, M-16, M-17, M-20: a conflict shows all values, on all copies alike, until a write
/// ends it everywhere.
#[test]
fn a_conflict_is_the_same_everywhere_until_somebody_writes() {
    let mut world = World::new(3, Schema::default(), true, &[]);
    world.isolate(&[&[1], &[2], &[3]]);
    world.put(0, 1, "a");
    world.put(1, 1, "b");
    world.put(2, 2, "c");
    world.heal();
    for place in 0..3 {
        let mut shown = world.get(place, 1);
        shown.sort();
        assert_eq!(shown, values(&["a", "b"]), "both are kept");
        assert_eq!(world.table(place).conflicts().len(), 1, "one alarm, not one for each peer");
    }
    world.put(2, 1, "settled");
    world.heal();
    for place in 0..3 {
        assert_eq!(world.get(place, 1), values(&["settled"]));
        assert!(world.table(place).conflicts().is_empty());
    }
}

/// L-33: equal values written apart are one value: no conflict then or later.
#[test]
fn equal_values_written_apart_are_no_conflict() {
    let mut world = World::new(3, Schema::default(), true, &[]);
    world.put(2, 1, "old");
    world.heal();
    world.isolate(&[&[1], &[2], &[3]]);
    world.put(0, 1, "same");
    world.put(1, 1, "same");
    world.heal();
    assert_eq!(world.get(2, 1), values(&["same"]));
    assert!(world.table(2).conflicts().is_empty());
}

/// M-05, M-09: a removal against an update that did not know of it, by each policy, whichever side
/// merges, whatever the clocks. L-32: what was removed and written again on one side knows of both.
#[test]
fn removals_against_updates_go_by_the_policy() {
    let cases = [
        (Contest::DeleteWins, [0, 9_000_000], &[][..]),
        (Contest::DeleteWins, [9_000_000, 0], &[][..]),
        (Contest::UpdateWins, [0, 9_000_000], &["new"][..]),
        (Contest::UpdateWins, [9_000_000, 0], &["new"][..]),
        (Contest::LaterWins, [0, 9_000_000], &["new"][..]),
        (Contest::LaterWins, [9_000_000, 0], &[][..]),
    ];
    for (contest, shifts, expected) in cases {
        let mut world = World::new(2, schema(Strategy::Siblings, contest), true, &shifts);
        world.put(0, 1, "old");
        world.put(0, 2, "old");
        world.heal();
        world.isolate(&[&[1], &[2]]);
        world.remove(0, 1);
        world.put(1, 1, "new");
        world.remove(0, 2);
        world.put(0, 2, "again");
        world.heal();
        assert_eq!(world.get(0, 1), values(expected), "{contest} {shifts:?}");
        assert_eq!(world.get(1, 2), values(&["again"]));
    }
}

/// L-31, M-08: what was removed on one side while the other left it alone stays removed, and in the
/// end no tombstone is left (`heal` asserts it).
#[test]
fn a_removal_is_not_undone_by_healing() {
    let mut world = World::new(3, Schema::default(), true, &[0, 5_000_000, -5_000_000]);
    world.put(0, 1, "a");
    world.heal();
    world.isolate(&[&[1, 2], &[3]]);
    world.remove(1, 1);
    world.round();
    world.restart(2);
    world.heal();
    assert_eq!(world.get(2, 1), values(&[]));
}

/// L-08, L-09, L-10, L-42: batches, the last of two writes to a row, no write if nothing changes.
#[test]
fn batches_are_one_step_and_what_changes_nothing_is_no_write() {
    let mut world = World::new(2, Schema::default(), true, &[]);
    let value = |text: &str| Value::from(text);
    world.write(0, &[Mutation::Put(key(1), value("a")), Mutation::Put(key(1), value("b"))]);
    assert_eq!(world.get(0, 1), values(&["b"]));
    let seen = world.table(0).seen().clone();
    world.put(0, 1, "b");
    world.remove(0, 2);
    world.write(0, &[Mutation::RemoveValue(key(1), value("a"))]);
    world.write(0, &[]);
    assert_eq!(*world.table(0).seen(), seen, "nothing was written");
    world.write(0, &[Mutation::RemoveValue(key(1), value("b")), Mutation::Put(key(2), value("c"))]);
    assert!(world.get(0, 1).is_empty());
    world.heal();
    assert_eq!(world.get(1, 2), values(&["c"]));
}

/// L-14: any bytes are a key: none of them means anything.
#[test]
fn no_key_is_special() {
    let mut world = World::new(2, Schema::default(), true, &[]);
    for text in ["_", "$1", "", "*", "\0"] {
        world.write(0, &[Mutation::Put(Key::from(text), Value::from(text))]);
    }
    world.write(0, &[Mutation::Remove(Key::from("_"))]);
    world.heal();
    let keys: Vec<&Key> = world.table(1).scan(None).map(|(row, _)| &row.key).collect();
    assert_eq!(keys, ["", "\0", "$1", "*"].map(Key::from).iter().collect::<Vec<_>>());
    let behind: Vec<&Key> =
        world.table(1).scan(Some(&Key::from("$1"))).map(|(row, _)| &row.key).collect();
    assert_eq!(behind, [&Key::from("*")]);
}

/// M-35, U-09, C7: copies that differ in little send little, though nobody noticed a split.
#[test]
fn the_cost_is_that_of_the_difference() {
    let mut world = World::new(2, Schema::default(), true, &[]);
    let filling: Vec<Mutation> =
        (0..20_000).map(|n| Mutation::Put(key(n), Value::from("some value"))).collect();
    world.write(0, &filling);
    world.heal();
    world.put(0, 7, "changed");
    world.flying.clear(); // A message is lost, and that is all that happens.
    world.round();
    let mut carried = 0;
    world.tick(0);
    while let Some((_, _, message)) = world.flying.first() {
        if let Body::Chunk(chunk) = &message.body {
            carried += chunk.versions.len();
        }
        world.deliver(0);
    }
    assert!(carried <= 1, "{carried} versions were sent for one that differed");
    world.heal();
    assert_eq!(world.get(1, 7), values(&["changed"]));
}

/// C8, M-34, M-36, L-35, L-36: a large difference comes in chunks; what is written meanwhile on
/// both sides, and chunks that are lost, change nothing in the end.
/// C7: a slow link, or a long one, is a matter of time: what came is not asked for again.
#[test]
fn a_slow_link_is_crossed() {
    for (keys, size, speed, delay) in
        [(40, 25_000, 150_000, 0), (40, 25_000, 30_000, 0), (3, 10, 150_000, 1_500)]
    {
        let mut world = World::new(2, Schema::default(), true, &[]);
        (0..4).for_each(|_| world.round());
        world.isolate(&[&[1], &[2]]);
        for number in 0..keys {
            world.put(0, number, &"v".repeat(size));
        }
        world.flying.clear();
        world.cut.clear();
        let bytes = keys * size as u64;
        let time = Duration::from_secs(20 + bytes * 3 / speed);
        let sent = world.crawl(speed, Duration::from_millis(delay), time);
        assert_eq!(world.table(1).seen(), world.table(0).seen(), "{speed} B/s, {delay} ms");
        assert!(sent < bytes * 2 + 200_000, "{sent} bytes for {bytes} at {speed} B/s");
    }
}

#[test]
fn writes_between_chunks_are_not_lost() {
    let mut world = World::new(2, Schema::default(), true, &[]);
    world.isolate(&[&[1], &[2]]);
    let value = Value::from(vec![7; 1_000]);
    let filling: Vec<Mutation> = (0..1_500).map(|n| Mutation::Put(key(n), value.clone())).collect();
    world.write(0, &filling);
    world.cut.clear();
    world.tick(0);
    world.tick(1);
    let (mut chunks, mut lost) = (0, 0);
    for round in 0..400 {
        let Some((_, _, message)) = world.flying.first() else {
            world.now = world.now + Duration::from_millis(250);
            world.tick(0);
            world.tick(1);
            continue;
        };
        if matches!(message.body, Body::Chunk(_)) {
            chunks += 1;
            world.put(0, 2_000 + round, "here");
            world.put(1, 3_000 + round, "there");
            world.remove(1, round);
            if chunks % 5 == 3 {
                lost += 1;
                world.flying.swap_remove(0);
                continue;
            }
        }
        world.deliver(0);
        world.check_few();
    }
    assert!(chunks > 5 && lost > 0, "{chunks} chunks, {lost} lost");
    world.heal();
    world.check();
}

impl World {
    /// A page from a key on is what it would be if all were put in.
    fn ask_for_page(&mut self, place: usize, number: u64, conflicts: bool) {
        let after = Some(Row { key: key(number), element: None });
        let pattern = Pattern::default();
        let command = match conflicts {
            true => Command::Conflicts { after: after.clone(), limit: 20 },
            false => Command::Scan { pattern, after: after.clone(), limit: 20 },
        };
        let whole = self.table(place).put_in();
        let Ok(Answer::Found { entries, more }) = self.ask(place, &command) else {
            panic!("no page")
        };
        let wanted = whole.scan(None).filter(|(row, shown)| {
            Some(*row) > after.as_ref()
                && more.as_ref().is_none_or(|more| *row <= more)
                && (!conflicts || shown.len() > 1)
        });
        let rows: Vec<&Row> = entries.iter().map(|it| &it.row).collect();
        assert_eq!(rows, wanted.map(|(row, _)| row).collect::<Vec<_>>());
    }

    /// The third copy asks the second one, which is putting in what it has of the first.
    fn answer_a_third(&mut self) {
        self.flying.clear();
        self.cut = BTreeSet::from([(1, 3), (3, 1)]);
        (1..3).for_each(|place| self.tick(place));
        for _ in 0..40 {
            if let Some(to) = self.flying.iter().position(|(_, to, _)| *to == NodeId(3)) {
                self.deliver(to);
            }
            if let Some(to) = self.flying.iter().position(|(from, ..)| *from == NodeId(3)) {
                self.deliver(to);
            }
        }
        let copy = self.table(2);
        assert!(copy.aside() > 30 || copy.len() > 30, "{} aside", copy.aside());
    }

    /// Whatever a crash leaves of the log, and however far it is put in when it is folded.
    fn crash_around_the_stroke(&self, place: usize) {
        let log = self.hosts[place].log.clone();
        let stroke = log.iter().position(|change| matches!(change.role, Role::Stroke { .. }));
        let stroke = stroke.expect("one");
        for kept in (stroke.saturating_sub(3)..=stroke + 4).chain([log.len()]) {
            let mut journal = Journal::new(self.schema.agreement(), actor(2, 0));
            for change in &log[..kept] {
                for (change, last) in change.clone().split() {
                    journal.add(Incarnation(1), change, last);
                }
            }
            let mut again = Journal::new(self.schema.agreement(), actor(2, 0));
            journal
                .clone()
                .into_records()
                .for_each(|(by, change, last)| again.add(by, change, last));
            for journal in [journal, again] {
                let copy = journal.into_table(self.schema.agreement(), false);
                let whole = copy.put_in();
                whole.check().expect("a sound copy");
                assert_eq!(copy.seen().last(&actor(1, 0)) > 0, kept > stroke);
                assert_eq!(copy.aside() > 0, kept <= stroke, "what came is kept");
                for row in self.rows().iter().step_by(7) {
                    assert_eq!(shown(&whole, row), self.expected_of(copy.seen(), row));
                }
            }
        }
    }
}

/// L-35: what is had of a large difference counts at one moment and is put in little by little; who
/// asks, writes, pushes or pulls meanwhile cannot tell. Whatever was written down by then, who
/// recovers has all of the difference or nothing.
#[test]
fn a_difference_is_put_in_little_by_little_and_nobody_can_tell() {
    let (many, rows) = (900, 15);
    let mut world = World::at_pace(3, Schema::default(), true, &[], (rows, 1_200));
    (0..4).for_each(|_| world.round());
    world.isolate(&[&[1], &[2], &[3]]);
    let put = |number, text| Mutation::Put(key(number), Value::from(text));
    world.write(0, &(0..many).map(|number| put(number, "there")).collect::<Vec<_>>());
    world.write(1, &(0..many).step_by(3).map(|number| put(number, "here")).collect::<Vec<_>>());
    world.flying.clear();
    world.cut.retain(|(from, to)| *from == 3 || *to == 3);
    world.now = world.now + Duration::from_millis(250);
    (0..2).for_each(|place| world.tick(place));
    while !world.table(1).is_putting_in() {
        let first = (world.flying.iter()).position(|(_, to, _)| *to == NodeId(2));
        world.deliver(first.unwrap_or_default());
    }
    // All of it counts, and hardly any of it is there.
    assert_eq!(world.table(1).seen().last(&actor(1, 0)), many);
    assert!(world.table(1).len() < 360, "{} versions", world.table(1).len());
    let mut steps = 0;
    while world.table(1).is_putting_in() {
        steps += 1;
        let before = world.table(1).len();
        world.pause(1);
        assert!(world.table(1).len() - before <= rows, "a bounded number at a time");
        let number = 37 * steps % many;
        match steps % 5 {
            0 => world.put(1, number, "meanwhile"),
            1 => world.remove(1, number),
            // The other side writes, too, and pushes it.
            2 => world.put(0, number, "pushed"),
            3 => {
                let found = world.ask(1, &Command::Get(key(number))).expect("an answer");
                let Answer::Found { entries, .. } = found else { panic!("no answer") };
                let found = entries.iter().flat_map(|it| &it.values).map(|it| it.value.clone());
                let row = Row { key: key(number), element: None };
                assert_eq!(found.collect::<Vec<_>>(), world.expected(1, &row));
            }
            _ => world.ask_for_page(1, number, steps % 2 == 0),
        }
        if let Some(push) = world.flying.iter().position(|(_, to, _)| *to == NodeId(2)) {
            world.deliver(push);
        }
        if steps == 10 {
            world.answer_a_third();
        }
        if steps % 8 == 0 {
            world.check();
        }
    }
    assert!(steps > 20, "{steps} steps");
    world.check();
    world.crash_around_the_stroke(1);
    world.heal();
    world.check();
}

/// M-36: an answer that is broken off is gone on with, after whatever time, and also by another
/// process; what was had is not sent again.
#[test]
fn an_answer_that_is_broken_off_is_gone_on_with() {
    for restarts in [false, true] {
        let many = 1_500;
        let mut world = World::at_pace(2, Schema::default(), true, &[], (100, 1_000));
        (0..4).for_each(|_| world.round());
        world.isolate(&[&[1], &[2]]);
        let puts = (0..many).map(|number| Mutation::Put(key(number), Value::from("value")));
        world.write(0, &puts.collect::<Vec<_>>());
        world.flying.clear();
        let mut sent = 0;
        for _ in 0..5 {
            world.cut.clear();
            (0..2).for_each(|place| world.tick(place));
            for _ in 0..20 {
                let Some((_, _, message)) = world.flying.first() else { break };
                if let Body::Chunk(chunk) = &message.body {
                    sent += chunk.versions.len();
                }
                world.deliver(0);
            }
            world.flying.clear();
            world.isolate(&[&[1], &[2]]);
            if restarts {
                world.restart(1);
            }
            for _ in 0..120 {
                world.now = world.now + Duration::from_millis(250);
                (0..2).for_each(|place| world.tick(place));
                world.flying.clear();
            }
        }
        assert_eq!(world.table(1).seen().last(&actor(1, 0)), 0, "none of it counts");
        assert!(world.table(1).aside() > 100, "{} aside", world.table(1).aside());
        world.cut.clear();
        world.round();
        world.finish();
        let before = sent;
        for _ in 0..20 {
            world.now = world.now + Duration::from_millis(250);
            (0..2).for_each(|place| world.tick(place));
            while let Some((_, _, message)) = world.flying.first() {
                if let Body::Chunk(chunk) = &message.body {
                    sent += chunk.versions.len();
                }
                world.deliver(0);
            }
            world.finish();
        }
        assert_eq!(world.table(1).len() as u64, many);
        assert!(sent < many as usize + 100, "{before}, then {sent} of {many}");
        world.heal();
        world.check();
    }
}

/// M-11, M-12, L-31: a copy that was away for longer than tombstones wait brings nothing back and
/// loses nothing that was written there.
#[test]
fn a_copy_away_for_too_long_brings_nothing_back_and_loses_nothing() {
    let retention = Duration::from_secs(60);
    let mut world = World::new(3, Schema { retention, ..Schema::default() }, true, &[]);
    for number in 1..=4 {
        world.put(0, number, "old");
    }
    world.heal();
    world.isolate(&[&[1, 2], &[3]]);
    world.put(2, 5, "new there");
    world.put(2, 3, "changed there");
    for number in [1, 2, 3] {
        world.remove(0, number);
    }
    world.put(1, 2, "again");
    for _ in 0..400 {
        world.round();
    }
    assert!(world.table(0).versions().all(|(_, v)| v.content != Content::Dead), "did not wait");
    world.heal();
    assert!(world.get(2, 1).is_empty(), "it is not back");
    assert_eq!(world.get(2, 2), values(&["again"]));
    assert_eq!(world.get(0, 3), values(&["changed there"]), "nobody can tell when it was removed");
    assert_eq!(world.get(0, 4), values(&["old"]));
    assert_eq!(world.get(0, 5), values(&["new there"]));
}

/// C1: what a copy that hears, and is not heard for longer than tombstones wait, writes meanwhile
/// is not taken as any other write, but once more, as late: nobody remembers the removal.
#[test]
fn a_copy_that_hears_and_is_not_heard_begins_anew() {
    let retention = Duration::from_secs(60);
    for durable in [true, false] {
        for contest in [Contest::LaterWins, Contest::DeleteWins] {
            let schema = Schema { retention, contest, ..Schema::default() };
            let mut world = World::new(3, schema, durable, &[0, 3_600_000, 0]);
            world.put(1, 1, "old");
            world.put(1, 2, "old");
            world.heal();
            world.cut = BTreeSet::from([(1, 2), (1, 3)]);
            world.put(0, 1, "unheard");
            world.put(0, 2, "unheard");
            world.remove(1, 1);
            for round in 0..400 {
                world.round();
                assert!(round > 240 || world.holds_tombstones(1), "it waits");
            }
            assert!(!world.holds_tombstones(1), "it waits no longer");
            assert_eq!(world.get(0, 2), values(&["unheard"]), "local writes go on");
            world.put(0, 3, "unheard");
            world.heal();
            let begun = |event: &Event| matches!(event, Event::BegunAnew { .. });
            assert_eq!(world.count(begun), 1);
            assert_eq!(world.count(|event| matches!(event, Event::GivenUp { .. })), 1);
            for place in 0..3 {
                for number in 1..=3 {
                    assert_eq!(world.get(place, number), values(&["unheard"]), "{number}");
                }
            }
            world.check();
            // It goes on so: also over a restart, and what it writes is an ordinary write.
            world.restart(0);
            (0..8).for_each(|_| world.round());
            assert!(world.table(0).is_settled());
            world.put(0, 1, "new");
            world.heal();
            assert_eq!(world.get(2, 1), values(&["new"]));
        }
    }
}

/// C1: a copy that comes back in the moment in which the others forget, having written over half
/// of what they forget, brings nothing up again in some of them only.
#[test]
fn a_copy_that_comes_back_amid_forgetting_exposes_nothing() {
    for (knows, first) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let retention = Duration::from_secs(60);
        let schema = Schema { retention, contest: Contest::DeleteWins, ..Schema::default() };
        let mut world = World::new(3, schema, true, &[]);
        world.put(0, 1, "old");
        world.heal();
        world.isolate(&[&[1], &[2], &[3]]);
        world.put(0, 1, "hidden");
        world.remove(1, 1);
        if knows {
            world.isolate(&[&[1], &[2, 3]]);
            (0..4).for_each(|_| world.round());
        }
        world.isolate(&[&[1, 2], &[3]]);
        world.put(2, 1, "back");
        let forgot = |world: &World| [0, 1].map(|place| !world.holds_tombstones(place));
        // The second hears the first more seldom, so it forgets later.
        for round in 0..1_000 {
            world.round_but(|from, _, body| {
                from == 1 && round % 3 > 0 && matches!(body, Body::Digest(_))
            });
            if forgot(&world) != [false, false] {
                break;
            }
        }
        assert_eq!(forgot(&world), [true, false]);
        let island: [&[u16]; 2] = if first == 0 { [&[1, 3], &[2]] } else { [&[2, 3], &[1]] };
        world.isolate(&island);
        (0..4).for_each(|_| world.round());
        world.heal();
        for place in 0..3 {
            assert_eq!(world.get(place, 1), values(&["back"]), "copy {}", place + 1);
        }
    }
}

/// C3: what was removed or replaced in knowledge stays so, whoever of two that were away returns
/// first. 3 and 4 know a value, 4 removes it alone, all are away for longer than the retention; 3
/// returns first and writes the value once more, for nobody there has heard of its removal.
#[test]
fn a_value_written_again_is_over_for_who_knew_it() {
    for (first, removes) in [(3_u16, true), (3, false), (4, true), (4, false)] {
        for contest in [Contest::LaterWins, Contest::UpdateWins] {
            let retention = Duration::from_secs(60);
            let schema = Schema { retention, contest, ..Schema::default() };
            let mut world = World::new(4, schema, true, &[]);
            world.heal();
            world.isolate(&[&[1, 2], &[3, 4]]);
            world.put(2, 1, "old");
            (0..4).for_each(|_| world.round());
            assert_eq!(world.get(3, 1), values(&["old"]));
            world.isolate(&[&[1, 2], &[3], &[4]]);
            if removes {
                world.remove(3, 1)
            } else {
                world.put(3, 1, "new")
            }
            let wanted = values(if removes { &[] } else { &["new"] });
            (0..300).for_each(|_| world.round());
            world.isolate(&[&[1, 2, first], &[7 - first]]);
            for _ in 0..20 {
                world.round();
                world.check();
            }
            if first == 3 {
                assert_eq!(world.get(0, 1), values(&["old"]), "nobody there knows better");
            }
            world.cut.clear();
            for _ in 0..20 {
                world.round();
                world.check();
                assert_eq!(world.get(3, 1), wanted, "it is not back");
            }
            world.heal();
            (0..4).for_each(|place| assert_eq!(world.get(place, 1), wanted));
        }
    }
}

/// C3: the same where who removed it has forgotten its removal, and begins anew from a copy that
/// has not heard yet that the value was written again: it knows that it is over, and says so.
#[test]
fn a_value_written_again_is_over_for_who_forgot_its_removal() {
    for second in [1_u16, 2] {
        let retention = Duration::from_secs(60);
        let mut world = World::new(5, Schema { retention, ..Schema::default() }, true, &[]);
        world.heal();
        world.isolate(&[&[1, 2], &[3, 4, 5]]);
        world.put(2, 1, "old");
        (0..4).for_each(|_| world.round());
        world.isolate(&[&[1, 2], &[3], &[4, 5]]);
        world.remove(3, 1);
        (0..300).for_each(|_| world.round());
        assert!(!world.holds_tombstones(3), "it is forgotten there");
        // The third returns to the first alone.
        world.isolate(&[&[1, 3], &[2], &[4, 5]]);
        (0..8).for_each(|_| world.round());
        assert_eq!(world.get(0, 1), values(&["old"]));
        let island: [&[u16]; 2] =
            if second == 1 { [&[1, 3, 4, 5], &[2]] } else { [&[1, 3], &[2, 4, 5]] };
        world.isolate(&island);
        for _ in 0..8 {
            world.round();
            world.check();
        }
        world.cut.clear();
        for _ in 0..20 {
            world.round();
            world.check();
            assert!(world.get(3, 1).is_empty() && world.get(4, 1).is_empty(), "it is not back");
        }
        world.heal();
        assert!(world.get(0, 1).is_empty());
    }
}

/// C1, C3: islands that have given each other up, and that each have forgotten what they removed.
#[test]
fn islands_that_gave_each_other_up_become_one() {
    let retention = Duration::from_secs(60);
    let mut world = World::new(5, Schema { retention, ..Schema::default() }, true, &[]);
    for number in 1..=4 {
        world.put(0, number, "old");
    }
    world.heal();
    world.isolate(&[&[1, 2], &[3, 4, 5]]);
    world.remove(0, 1);
    world.remove(3, 2);
    world.put(1, 3, "here");
    world.put(4, 3, "there");
    world.put(1, 5, "here");
    world.put(4, 6, "there");
    (0..400).for_each(|_| world.round());
    assert!((0..5).all(|place| !world.holds_tombstones(place)), "each has forgotten");
    world.heal();
    assert_eq!(world.count(|event| matches!(event, Event::BegunAnew { .. })), 2, "the fewer");
    for place in 0..5 {
        assert!(world.get(place, 1).is_empty() && world.get(place, 2).is_empty(), "not back");
        let mut shown = world.get(place, 3);
        shown.sort();
        assert_eq!(shown, values(&["here", "there"]));
        assert_eq!(world.get(place, 4), values(&["old"]));
        assert_eq!(world.get(place, 5), values(&["here"]));
        assert_eq!(world.get(place, 6), values(&["there"]));
    }
}

/// C1: whoever gives up whom, comes back when, and begins anew from whom: all come to the same, and
/// where no value can lose each copy shows what the causal history says.
#[test]
fn copies_given_up_and_back_become_equal() {
    let (mut given_up, mut anew) = (0, 0);
    for seed in 0..500 {
        let mut lottery = Lottery::new(seed);
        let mut schema = any_schema(&mut lottery);
        schema.retention = Duration::from_millis(250 * (2 + lottery.below(6)));
        if lottery.below(2) == 0 {
            (schema.strategy, schema.contest) = (Strategy::Siblings, Contest::UpdateWins);
        }
        let exact = schema.strategy == Strategy::Siblings && schema.contest == Contest::UpdateWins;
        let nodes = 2 + lottery.below(3) as u16;
        let shifts: Vec<i64> = (0..nodes).map(|_| lottery.below(3) as i64 * 3_600_000).collect();
        let mut world = World::new(nodes, schema, lottery.below(4) > 0, &shifts);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..120 {
                step_of_islands(&mut world, &mut lottery);
                if exact {
                    world.check();
                }
            }
            (0..world.hosts.len()).for_each(|place| world.meet(place));
            world.cut.clear();
            (0..40).for_each(|_| world.round());
            world.heal();
            if exact {
                world.check();
            }
        }));
        given_up += world.count(|event| matches!(event, Event::GivenUp { .. }));
        anew += world.count(|event| matches!(event, Event::BegunAnew { .. }));
        if outcome.is_err() {
            panic!("seed {seed}: {nodes} copies, {:?}", world.schema);
        }
    }
    assert!(given_up > 500 && anew > 200, "{given_up} were given up, {anew} begun anew");
}

/// C1, C3: the table becomes something else on one node after the other, amid splits, removals and
/// copies that are given up: each copy shows at every moment what history says.
#[test]
fn copies_that_become_something_else_show_what_history_says() {
    let (mut again, mut anew) = (0, 0);
    for seed in 0..500 {
        let mut lottery = Lottery::new(seed);
        let mut schema = schema(Strategy::Siblings, Contest::UpdateWins);
        if lottery.below(2) == 0 {
            schema.retention = Duration::from_millis(250 * (2 + lottery.below(6)));
        }
        let other = Schema { kind: Kind::OrderedSet, ..schema.clone() };
        let nodes = 2 + lottery.below(3) as u16;
        let mut world = World::new(nodes, schema, true, &[]);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let change = |world: &mut World, place: usize| {
                let becomes = Some(other.agreement());
                if world.table(place).agreement() != &other.agreement() {
                    world.hosts[place].log.push(Change { becomes, ..Change::default() });
                    world.restart(place);
                }
            };
            for _ in 0..120 {
                step_of_islands(&mut world, &mut lottery);
                if lottery.below(20) == 0 {
                    let place = lottery.below(world.hosts.len() as u64) as usize;
                    change(&mut world, place);
                }
                world.check();
            }
            for place in 0..world.hosts.len() {
                world.meet(place);
                change(&mut world, place);
            }
            world.cut.clear();
            for _ in 0..40 {
                world.round();
                world.check();
            }
            world.heal();
            world.check();
        }));
        again += world.writes.values().filter(|write| write.first.is_some()).count();
        anew += world.count(|event| matches!(event, Event::BegunAnew { .. }));
        if outcome.is_err() {
            panic!("seed {seed}: {nodes} copies, {:?}", world.schema);
        }
    }
    assert!(again > 200 && anew > 50, "{again} were written again, {anew} begun anew");
}

/// L-27: copies that differ in what the table is are not merged; both keep all and say so.
#[test]
fn copies_that_disagree_are_left_apart() {
    let mut world = World::new(2, Schema::default(), true, &[]);
    world.isolate(&[&[1], &[2]]);
    world.put(0, 1, "a");
    world.put(1, 1, "b");
    world.schema.strategy = Strategy::LastModified;
    world.begun = world.schema.clone();
    world.restart(1);
    world.cut.clear();
    for _ in 0..4 {
        world.round();
    }
    assert_eq!((world.get(0, 1), world.get(1, 1)), (values(&["a"]), values(&["b"])));
    let told = |event: &&Event| matches!(event, Event::Disagreed { .. });
    assert_eq!(world.events.iter().filter(told).count(), 2, "each says so, once");
}

/// M-27: ignored tables are not exchanged at all.
#[test]
fn ignored_tables_send_nothing() {
    let mut world = World::new(2, schema(Strategy::Ignore, Contest::default()), true, &[]);
    world.put(0, 1, "a");
    for _ in 0..3 {
        world.round();
    }
    assert_eq!(world.sent, 0);
    assert!(world.get(1, 1).is_empty());
}

/// L-26, L-34, C8: a resolver's answer replaces exactly what it was asked about. A write that came
/// in between wins over the answer; two answers that differ settle without asking again.
#[test]
fn an_answer_of_a_resolver_replaces_what_it_was_asked_about() {
    let mut world = World::new(3, schema(Strategy::Custom, Contest::default()), true, &[]);
    world.isolate(&[&[1], &[2], &[3]]);
    world.put(0, 1, "a");
    world.put(1, 1, "b");
    world.heal();
    let row = Row { key: key(1), element: None };
    let dots: Vec<Dot> = world.table(0).row(&row).iter().map(|version| version.dot).collect();
    let late = world.table(2).resolve(&row, &dots, Some(&Value::from("late")), world.writer(2));
    for (place, answer) in [(0, "one"), (1, "two")] {
        let value = Value::from(answer);
        let change = world
            .table(place)
            .resolve(&row, &dots, Some(&value), world.writer(place))
            .expect("fits");
        let (_, version) = &change.versions[0];
        world.record(&row, version, dots.iter().copied().collect());
        let mut step = Step::default();
        world.hosts[place].replica.write(change, |_| false, &mut step);
        world.take(place, step);
    }
    assert!(late.is_some());
    world.heal();
    assert_eq!(world.get(0, 1).len(), 1, "no conflict any more");
    assert!(world.table(0).conflicts().is_empty());
    let moved = world.table(2).resolve(&row, &dots, Some(&Value::from("late")), world.writer(2));
    assert_eq!(moved, None, "it was asked about something else");
}

impl World {
    /// As [`World::round`], but messages of which `lose` says so are lost.
    fn round_but(&mut self, lose: impl Fn(u16, u16, &Body) -> bool) {
        self.now = self.now + Duration::from_millis(250);
        for place in 0..self.hosts.len() {
            self.tick(place);
        }
        while let Some((from, to, message)) = self.flying.first() {
            if lose(from.0, to.0, &message.body) {
                self.flying.swap_remove(0);
            } else {
                self.deliver(0);
            }
        }
    }

    fn holds_tombstones(&self, place: usize) -> bool {
        self.table(place).versions().any(|(_, version)| version.content == Content::Dead)
    }

    /// Cuts islands off from each other, and has everybody notice.
    fn split(&mut self, islands: &[&[u16]]) {
        self.isolate(islands);
        for (from, to) in self.cut.clone() {
            self.hosts[usize::from(to) - 1].replica.on_lost(NodeId(from));
        }
    }

    fn ask(&mut self, place: usize, command: &Command) -> Result<Answer, Unfit> {
        let (mut step, now) = (Step::default(), self.now_at(place));
        let answer = self.hosts[place].replica.serve(command, now, |_| false, &mut step);
        self.take(place, step);
        answer
    }

    fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(event)).count()
    }
}

/// What a copy writes that has just begun is taken away by no removal that it did not know of: some
/// copies may have forgotten that removal, and others not.
#[test]
fn what_a_new_copy_writes_shows_the_same_everywhere() {
    let hour = 3_600_000;
    let mut world = World::new(3, Schema::default(), false, &[0, 0, -hour]);
    // The second hears the third no more, so it forgets nothing.
    let deaf = |from: u16, to: u16, _: &Body| (from, to) == (3, 2);
    for _ in 0..4 {
        world.round();
    }
    world.put(0, 1, "old");
    world.round_but(deaf);
    world.remove(0, 1);
    for _ in 0..8 {
        world.round_but(deaf);
    }
    assert!(!world.holds_tombstones(0) && world.holds_tombstones(1), "one has forgotten");
    // The third begins anew, and meets first who has not forgotten.
    world.restart(2);
    world.put(2, 1, "new");
    world.flying.clear();
    for _ in 0..4 {
        world.round_but(|from, to, _| from == 1 || to == 1);
    }
    world.heal();
    for place in 0..3 {
        assert_eq!(world.get(place, 1), values(&["new"]), "copy {}", place + 1);
    }
}

/// C3: a removal is not forgotten while something is on its way that was written without knowledge
/// of it, though every copy has seen the removal.
#[test]
fn a_removal_is_kept_for_what_is_still_on_its_way() {
    let hour = 3_600_000;
    let mut world = World::new(3, Schema::default(), true, &[0, -hour, 0]);
    world.put(0, 1, "old");
    world.heal();
    world.put(1, 1, "on its way");
    world.flying.clear();
    world.remove(0, 1);
    for _ in 0..8 {
        // The second is heard to have seen the removal; what it has written does not come.
        world
            .round_but(|from, to, body| from == 2 && (to == 3 || !matches!(body, Body::Digest(_))));
    }
    assert!(world.table(1).seen().covers(world.table(0).seen()), "all have seen the removal");
    assert!(world.holds_tombstones(0), "somebody may yet bring what it removes");
    world.heal();
    for place in 0..3 {
        assert!(world.get(place, 1).is_empty(), "copy {}", place + 1);
    }
}

/// L-31, Z69: what a copy has seen that is gone counts for nothing: the one that has begun in its
/// place has not seen it.
#[test]
fn a_copy_that_begins_anew_is_waited_for() {
    let mut world = World::new(3, Schema::default(), false, &[]);
    world.put(0, 1, "old");
    world.heal();
    world.remove(0, 1);
    // The third is heard to have seen the removal, the second is not.
    for _ in 0..4 {
        world.round_but(|from, _, _| from == 2);
    }
    assert!(world.holds_tombstones(0));
    world.restart(2);
    for _ in 0..8 {
        world.round_but(|_, to, _| to == 3);
    }
    assert_eq!(world.table(2).seen(), &VersionVector::EMPTY);
    assert!(world.holds_tombstones(0), "the new copy has not seen it");
    world.heal();
}

/// C1, L-31: a copy that has begun in the place of another, and writes over a removal without
/// knowing what that took away, does not bring it back where it was not forgotten yet: nobody
/// forgets while there is a copy that knows half of it.
#[test]
fn a_copy_that_begins_anew_exposes_nothing() {
    let hour = 3_600_000;
    let mut world = World::new(3, Schema::default(), false, &[0, hour, 2 * hour]);
    world.put(0, 1, "old");
    world.heal();
    world.isolate(&[&[1], &[2, 3]]);
    world.put(0, 1, "hidden");
    world.remove(1, 1);
    (0..2).for_each(|_| world.round());
    // The third and the first know of both, and of each other.
    world.isolate(&[&[1, 3], &[2]]);
    (0..4).for_each(|_| world.round());
    assert!(world.get(0, 1).is_empty() && world.get(2, 1).is_empty());
    world.restart(2);
    world.isolate(&[&[1], &[2, 3]]);
    (0..4).for_each(|_| world.round());
    world.isolate(&[&[1], &[2], &[3]]);
    world.put(2, 1, "new");
    assert_eq!(world.table(2).row(&Row { key: key(1), element: None }).len(), 1);
    world.isolate(&[&[1, 2], &[3]]);
    (0..8).for_each(|_| world.round());
    assert!(world.holds_tombstones(1), "the third has not seen it all");
    world.check();
    world.heal();
    world.check();
}

/// The same for a replica that is added: a copy that has not heard of it forgets nothing.
#[test]
fn a_replica_that_is_added_exposes_nothing() {
    let hour = 3_600_000;
    let mut world = World::new(2, Schema::default(), true, &[0, hour]);
    world.put(0, 1, "old");
    world.heal();
    world.isolate(&[&[1], &[2]]);
    world.put(0, 1, "hidden");
    world.remove(1, 1);
    world.add();
    world.meet(1);
    // Who is new learns of the removal, and not of what that takes away.
    world.isolate(&[&[1], &[2, 3]]);
    (0..4).for_each(|_| world.round());
    world.isolate(&[&[1], &[2], &[3]]);
    world.put(2, 1, "new");
    world.isolate(&[&[1, 2], &[3]]);
    (0..8).for_each(|_| world.round());
    assert!(world.holds_tombstones(0), "the second knows of a third");
    world.check();
    world.meet(0);
    world.heal();
    world.check();
}

/// What was pushed to the copy that was there before is not taken by the one that has begun in its
/// place: it learns what there is at one stroke.
#[test]
fn a_copy_that_begins_anew_asks_before_it_takes() {
    let mut world = World::new(2, Schema::default(), false, &[]);
    (0..4).for_each(|_| world.round());
    world.put(0, 1, "pushed");
    let pushed = world.flying.pop().expect("a push");
    assert!(world.flying.is_empty() && matches!(pushed.2.body, Body::Push(_)));
    world.restart(1);
    // With a digest the new copy knows whose push it is.
    world.tick(0);
    world.deliver(0);
    world.flying = vec![pushed];
    world.deliver(0);
    assert!(world.table(1).seen().is_empty(), "it took what it did not ask for");
    world.heal();
}

/// U-01: copies that were both written to while apart stay so, also over a restart, and say so;
/// told to merge, all do, and what collides stays in conflict, or as one side has it.
#[test]
fn manual_copies_stay_apart_until_told_to_merge() {
    for keep in [None, Some(Keep::Here), Some(Keep::There)] {
        let mut world = World::new(4, schema(Strategy::Manual, Contest::default()), true, &[]);
        world.put(0, 1, "old");
        world.heal();
        world.split(&[&[1, 2], &[3, 4]]);
        for (place, number, value) in [(0, 1, "here"), (2, 1, "there"), (2, 2, "new"), (1, 3, "x")]
        {
            world.put(place, number, value);
        }
        for _ in 0..4 {
            world.round();
        }
        world.cut.clear();
        for round in 0..20 {
            if round == 10 {
                world.restart(3);
            }
            world.put(0, 4, &round.to_string());
            world.put(3, 5, &round.to_string());
            world.round();
        }
        for (places, one, two) in [([0, 1], &["here"], &[][..]), ([2, 3], &["there"], &["new"])] {
            for place in places {
                assert_eq!(world.get(place, 1), values(one));
                assert_eq!(world.get(place, 2), values(two));
            }
        }
        assert_eq!(world.count(|event| matches!(event, Event::Apart { .. })), 10, "8, and again");
        let apart = world.hosts[0].replica.info(world.now_at(0)).peers;
        assert_eq!(apart.iter().filter(|peer| peer.apart).count(), 2);
        world.ask(0, &Command::Merge { keep }).expect("it is manual");
        for round in 0..4 {
            // It goes on although nobody pauses for it.
            world.put(1, 6, &round.to_string());
            world.put(2, 7, &round.to_string());
            world.round();
        }
        world.heal();
        let mut expected = match keep {
            None => vec!["here", "there"],
            Some(Keep::Here) => vec!["here"],
            Some(Keep::There) => vec!["there"],
        };
        let mut shown = world.get(3, 1);
        shown.sort();
        expected.sort_unstable();
        assert_eq!(shown, values(&expected), "{keep:?}");
        assert_eq!(world.get(0, 2), values(&["new"]));
        let apart = world.hosts[3].replica.info(world.now_at(3)).peers;
        assert!(apart.iter().all(|peer| !peer.apart));
    }
}

/// U-01: what is told for one merge decides that one, also if others bring what the peer had: what
/// collides later is in conflict.
#[test]
fn what_is_kept_in_one_merge_is_not_in_the_next() {
    let mut world = World::new(3, schema(Strategy::Manual, Contest::default()), true, &[]);
    world.put(0, 1, "old");
    world.heal();
    world.split(&[&[1, 2], &[3]]);
    world.put(0, 1, "here");
    world.put(2, 1, "there");
    (0..4).for_each(|_| world.round());
    world.cut.clear();
    (0..4).for_each(|_| world.round());
    assert_eq!(world.get(1, 1), values(&["here"]), "apart");
    // The first is told, and does not hear the third; the second brings what that one has.
    world.cut = BTreeSet::from([(1, 3), (3, 1)]);
    world.ask(0, &Command::Merge { keep: Some(Keep::Here) }).expect("it is manual");
    world.ask(1, &Command::Merge { keep: None }).expect("it is manual");
    (0..8).for_each(|_| world.round());
    assert_eq!(world.table(0).seen(), world.table(2).seen(), "the second has brought it");
    world.heal();
    // A cut that nobody notices is none.
    world.isolate(&[&[1], &[2], &[3]]);
    world.put(0, 2, "here");
    world.put(2, 2, "there");
    world.flying.clear();
    world.cut = BTreeSet::from([(2, 1)]);
    (0..4).for_each(|_| world.round());
    assert_eq!(world.table(0).seen(), world.table(2).seen(), "had from the third itself");
    world.heal();
    for place in 0..3 {
        assert_eq!(world.get(place, 2).len(), 2, "nobody said which to keep");
    }
}

/// U-01: who was away and was not written to takes what it missed without being told.
#[test]
fn manual_copies_that_are_only_behind_catch_up() {
    let mut world = World::new(3, schema(Strategy::Manual, Contest::default()), true, &[]);
    world.put(0, 1, "old");
    world.heal();
    world.split(&[&[1, 2], &[3]]);
    world.put(0, 1, "new");
    world.round();
    world.heal();
    assert_eq!(world.get(2, 1), values(&["new"]));
    assert_eq!(world.count(|event| matches!(event, Event::Apart { .. })), 0);
    let mut other = World::new(2, Schema::default(), true, &[]);
    assert_eq!(other.ask(0, &Command::Merge { keep: None }), Err(Unfit::NotManual));
}

/// M-06: a clock that is ahead of most others by more than a minute stamps as if it were ahead by a
/// minute, and says so; one that is not is believed, whatever a minority shows.
#[test]
fn a_clock_of_another_year_wins_no_longer_than_a_minute() {
    let year = 365 * 24 * 3_600_000;
    let stamped = |shifts: &[i64; 3], place: usize| {
        let mut world = World::new(3, Schema::default(), true, shifts);
        for _ in 0..3 {
            world.round();
        }
        let put = Command::write(Mutation::Put(key(1), Value::from("v")));
        world.ask(place, &put).expect("it fits");
        let row = Row { key: key(1), element: None };
        let stamp = world.table(place).row(&row)[0].stamp;
        let ahead = stamp.wall.0 as i64 - (world.wall(place).0 as i64 - shifts[place]);
        let told = world.count(|event| matches!(event, Event::ClockAhead { .. }));
        let info = world.hosts[place].replica.info(world.now_at(place));
        assert_eq!(info.clock_ahead.is_some(), ahead != shifts[place]);
        world.hosts[place].shift = 0;
        world.round();
        let over = world.count(|event| matches!(event, Event::ClockSteady));
        (ahead, told, over)
    };
    assert_eq!(stamped(&[0, year, 0], 1), (60_000, 1, 1));
    assert_eq!(stamped(&[-year, 59_000, 0], 1), (59_000, 0, 0), "within a minute of one");
    assert_eq!(stamped(&[0, -year, 0], 0), (0, 0, 0), "one that is behind is no reason");
    assert_eq!(stamped(&[year, year, 0], 1), (year, 0, 0), "nor is being right with a majority");
}

/// M-36: a peer that is heard and whose writes do not come is an alarm, until they do.
#[test]
fn a_merge_that_stalls_is_told() {
    let mut world = World::new(2, Schema::default(), true, &[]);
    world.heal();
    world.put(0, 1, "a");
    world.flying.clear();
    let (stalled, resumed) = (
        |event: &Event| matches!(event, Event::Stalled { peer: NodeId(1) }),
        |event: &Event| matches!(event, Event::Resumed { peer: NodeId(1) }),
    );
    for round in 0..60 {
        world.round_but(|_, _, body| matches!(body, Body::Chunk(_)));
        assert_eq!(world.count(stalled), usize::from(round >= 40), "round {round}");
    }
    assert!(world.hosts[1].replica.info(world.now_at(1)).peers[0].stalled);
    assert_eq!(world.count(resumed), 0);
    world.heal();
    assert_eq!(world.count(resumed), 1);
    assert!(!world.hosts[1].replica.info(world.now_at(1)).peers[0].stalled);
}

/// M-18, M-21: fields found by a JSON pointer, or by a function, decide as those at an offset do.
#[test]
fn fields_are_found_by_pointer_and_by_function() {
    let version = Field::Json("/meta/version".into());
    let mut world =
        World::new(2, schema(Strategy::LastVersion(version), Contest::LaterWins), true, &[]);
    let json = |version: &str| format!("{{\"meta\":{{\"version\":{version}}}}}");
    world.isolate(&[&[1], &[2]]);
    for (number, here, there) in [(1, "9", "10"), (2, "2.5", "2"), (3, "7", "\"7\"")] {
        world.put(0, number, &json(here));
        world.put(1, number, &json(there));
    }
    world.heal();
    for (number, expected) in [(1, "10"), (2, "2.5"), (3, "\"7\"")] {
        assert_eq!(world.get(0, number), values(&[&json(expected)]));
    }
    for unfit in ["", "{}", "9", r#"{"meta":{"version":null}}"#] {
        let put = [Mutation::Put(key(4), Value::from(unfit))];
        assert_eq!(
            world.table(0).write(&put, Writer::default()),
            Err(Unfit::NoField { key: key(4) })
        );
    }
    let kind = Kind::Bag { secondary: Some(Field::Json("/sku".into())) };
    let backwards = |value: &Value| value.as_bytes().last().map(|byte| vec![255 - byte]);
    let strategy = Strategy::LastVersion(Field::Function(Function::new("backwards", backwards)));
    let mut world = World::new(2, Schema { kind, strategy, ..Schema::default() }, true, &[]);
    world.isolate(&[&[1], &[2]]);
    for (place, value) in [(0, r#"{"sku":7,"n":1}"#), (1, r#"{"sku":7,"n":2}"#)] {
        world.put(place, 1, value);
    }
    world.put(1, 1, r#"{"sku":"7","n":1}"#);
    world.heal();
    assert_eq!(world.get(0, 1).len(), 2, "7 and \"7\" are two");
}

/// M-03: a copy that forgot a loser, and one that still holds it, come to the same when the table
/// becomes one where nothing loses.
#[test]
fn what_was_lost_under_another_strategy_stays_lost() {
    let before = schema(Strategy::LastModified, Contest::LaterWins);
    let mut world = World::new(2, before, true, &[0, 3_600_000]);
    world.isolate(&[&[1], &[2]]);
    world.put(0, 1, "loser");
    world.put(1, 1, "winner");
    world.cut.clear();
    let row = Row { key: key(1), element: None };
    let held = |world: &World| [0, 1].map(|place| world.table(place).row(&row).len());
    while held(&world) != [2, 2] {
        world.round_but(|_, _, _| false);
    }
    // The second hears the first more seldom than the first hears it, so it forgets later.
    for round in 0.. {
        world.round_but(|from, _, body| {
            from == 1 && round % 3 > 0 && matches!(body, Body::Digest(_))
        });
        if held(&world) != [2, 2] {
            break;
        }
    }
    assert_eq!(held(&world), [1, 2]);
    let becomes = Some(Schema::default().agreement());
    for place in 0..2 {
        let change = Change { becomes: becomes.clone(), ..Change::default() };
        world.hosts[place].log.push(change);
    }
    world.schema = Schema::default();
    world.begun = schema(Strategy::LastModified, Contest::LaterWins);
    for place in 0..2 {
        world.restart(place);
    }
    assert_eq!(world.get(1, 1).len(), 2, "it is one of siblings there");
    // A log that is folded says the same.
    let begun = || Journal::new(world.begun.agreement(), actor(2, 0));
    let (mut whole, mut folded) = (begun(), begun());
    for change in &world.hosts[1].log {
        whole.add(Incarnation(1), change.clone(), true);
    }
    whole.clone().into_records().for_each(|(by, change, last)| folded.add(by, change, last));
    for table in [whole.table(), folded.table()] {
        assert!(table.is_changed() && !table.is_settled());
        assert!(table.versions().eq(world.table(1).versions()));
        assert_eq!(table.agreement(), &world.schema.agreement());
    }
    world.heal();
    assert_eq!((world.get(0, 1), world.get(1, 1)), (values(&["winner"]), values(&["winner"])));
}

/// M-03: what was set aside of a table that is another now was sent with what decided then, and is
/// dropped.
#[test]
fn what_is_aside_is_dropped_when_the_table_becomes_another() {
    let before = schema(Strategy::LargestIsland, Contest::LaterWins);
    let mut world = World::at_pace(2, before.clone(), true, &[], (100, 1_000));
    (0..4).for_each(|_| world.round());
    world.isolate(&[&[1], &[2]]);
    world.put(1, 1_000, "there");
    let puts = (0..300).map(|number| Mutation::Put(key(number), Value::from("value")));
    world.write(0, &puts.collect::<Vec<_>>());
    world.flying.clear();
    world.cut.clear();
    (0..2).for_each(|place| world.tick(place));
    while world.table(1).aside() < 20 {
        world.deliver(0);
    }
    world.flying.clear();
    world.begun = before;
    world.schema = Schema::default();
    for place in 0..2 {
        let becomes = Some(world.schema.agreement());
        let mut log = std::mem::take(&mut world.hosts[place].log);
        log.push(Change { becomes, ..Change::default() });
        let replica = world.replica(place as u16 + 1, 2, 2, &log);
        let host = &mut world.hosts[place];
        (host.replica, host.log, host.incarnation) = (replica, log, 2);
    }
    assert!(world.table(1).progress().is_none() && world.table(1).aside() == 0);
    world.heal();
    assert_eq!(world.table(1).len(), 301);
    let mut held = world.table(1).versions();
    assert!(held.all(|(_, version)| version.field.is_none()), "nothing decides now");
}

/// A table is compared in full after its strategy was changed, however long that takes, while
/// clients go on writing: what a copy answers from stays as it is, as far as that is needed.
#[test]
fn a_full_comparison_ends_on_a_table_that_is_written_to() {
    let before = schema(Strategy::LastModified, Contest::LaterWins);
    let mut world = World::at_pace(3, before, true, &[], (1_000, 4_096));
    let value = Value::from(vec![7; 1_000]);
    let filling: Vec<Mutation> = (0..200).map(|n| Mutation::Put(key(n), value.clone())).collect();
    world.write(0, &filling);
    (0..10).for_each(|_| world.round());
    let becomes = Some(Schema::default().agreement());
    world.begun = std::mem::take(&mut world.schema);
    for place in 0..3 {
        let becomes = becomes.clone();
        world.hosts[place].log.push(Change { becomes, ..Change::default() });
        world.restart(place);
    }
    // The first two compare themselves with the third before they hear each other.
    world.cut = BTreeSet::from([(1, 2), (2, 1)]);
    (0..10).for_each(|_| world.round());
    world.cut.clear();
    let met = |world: &mut World, place: usize, peer: u16| {
        let Ok(Answer::Info(info)) = world.ask(place, &Command::Info) else { panic!("no info") };
        info.peers.iter().any(|it| it.node == NodeId(peer) && it.met)
    };
    assert!(met(&mut world, 0, 3) && met(&mut world, 1, 3) && !met(&mut world, 0, 2));
    let (mut chunks, mut steps) = (0, 0);
    while !(met(&mut world, 0, 2) && met(&mut world, 1, 1)) {
        steps += 1;
        assert!(steps < 500, "not compared after {chunks} chunks");
        world.now = world.now + Duration::from_millis(50);
        if steps % 5 == 0 {
            (0..3).for_each(|place| world.tick(place));
        }
        if steps % 4 == 0 {
            world.put(2, 0, &format!("{steps}"));
        }
        let flying = std::mem::take(&mut world.flying);
        for flight in flying {
            chunks += usize::from(matches!(flight.2.body, Body::Chunk(_)));
            world.flying.push(flight);
            world.deliver(world.flying.len() - 1);
        }
        world.finish();
    }
    assert!((100..150).contains(&chunks), "{chunks} chunks");
    world.heal();
    world.check();
}

/// C3: while the strategy is changed on one node after the other, what was removed or replaced on
/// one whose answer is on its way to the other does not come back as the other writes it once more.
#[test]
fn a_value_written_again_amid_a_change_of_strategy_is_over_for_who_knew_it() {
    for removes in [true, false] {
        let before = schema(Strategy::LastModified, Contest::LaterWins);
        let mut world = World::new(2, before.clone(), true, &[]);
        world.heal();
        let becomes = Some(Schema::default().agreement());
        let change = || Change { becomes: becomes.clone(), ..Change::default() };
        world.begun = before.clone();
        world.schema = Schema::default();
        world.hosts[0].log.push(change());
        world.restart(0);
        world.schema = before;
        world.put(1, 1, "old");
        (0..4).for_each(|_| world.round());
        assert!(world.get(0, 1).is_empty(), "they disagree");
        world.schema = Schema::default();
        world.hosts[1].log.push(change());
        world.restart(1);
        world.flying.clear();
        world.now = world.now + Duration::from_millis(250);
        (0..2).for_each(|place| world.tick(place));
        let deliver = |world: &mut World, to: u16, is_it: fn(&Body) -> bool| {
            let it =
                |(_, at, message): &(NodeId, NodeId, Message)| at.0 == to && is_it(&message.body);
            let place = world.flying.iter().position(it).expect("it is on its way");
            world.deliver(place);
        };
        let pull: fn(&Body) -> bool = |body| matches!(body, Body::Pull(_));
        let chunk: fn(&Body) -> bool = |body| matches!(body, Body::Chunk(_));
        let digest: fn(&Body) -> bool = |body| matches!(body, Body::Digest(_));
        [1, 2].into_iter().for_each(|to| deliver(&mut world, to, digest));
        // Both ask for all, and what the first answers takes its time.
        [1, 2].into_iter().for_each(|to| deliver(&mut world, to, pull));
        deliver(&mut world, 1, chunk);
        assert_eq!(world.get(0, 1), values(&["old"]));
        if removes {
            world.remove(0, 1)
        } else {
            world.put(0, 1, "new")
        }
        deliver(&mut world, 2, chunk);
        world.finish();
        let wanted = values(if removes { &[] } else { &["new"] });
        for _ in 0..20 {
            world.round();
            world.check();
            assert_eq!(world.get(0, 1), wanted, "it is not back");
        }
        world.heal();
        assert_eq!(world.get(1, 1), wanted);
    }
}

impl World {
    /// All stop; one begins again from an earlier state of its storage, the others from theirs.
    fn put_back(&mut self, place: usize, log: Vec<Change>) {
        self.flying.clear();
        for other in (0..self.hosts.len()).filter(|other| *other != place) {
            self.restart(other);
        }
        let (node, nodes) = (place as u16 + 1, self.hosts.len() as u16);
        let incarnation = self.hosts[place].incarnation + 1;
        let replica = self.replica(node, nodes, incarnation, &log);
        let shift = self.hosts[place].shift;
        self.hosts[place] = Host { replica, log, lost: Vec::new(), incarnation, shift };
    }

    fn try_put(&mut self, place: usize, number: u64, value: &str) -> Result<Answer, Unfit> {
        self.ask(place, &Command::write(Mutation::Put(key(number), Value::from(value))))
    }
}

/// A copy that is put back to an earlier state, and written to only then, says so, and takes no
/// write before it has had back what any of the others knows of its own: so no name is given twice.
#[test]
fn a_copy_put_back_takes_no_write_before_it_has_its_own_back() {
    let mut world = World::new(3, schema(Strategy::Siblings, Contest::LaterWins), true, &[]);
    world.put(2, 1, "a");
    world.round();
    let backup = world.hosts[2].log.clone();
    world.put(2, 2, "b");
    (0..3).for_each(|_| world.round());
    world.isolate(&[&[1], &[2], &[3]]);
    world.put_back(2, backup);
    let own = world.table(2).seen().last(&actor(3, 0));
    world.isolate(&[&[1, 3], &[2]]);
    world.tick(0);
    while !world.flying.is_empty() && !world.hosts[2].replica.is_rewound() {
        world.deliver(0);
    }
    let behind = Event::Rewound { peer: NodeId(1), state: Rewound::Behind };
    assert_eq!(world.count(|event| *event == behind), 1);
    assert_eq!(world.try_put(2, 3, "c"), Err(Unfit::Rewound));
    let Ok(Answer::Info(info)) = world.ask(2, &Command::Info) else { panic!("no info") };
    assert_eq!(info.rewound, Some(Rewound::Behind));
    (0..3).for_each(|_| world.round());
    assert!(world.table(2).seen().last(&actor(3, 0)) > own, "it is had back");
    assert_eq!(world.try_put(2, 3, "c"), Err(Unfit::Rewound), "2 may know more");
    world.isolate(&[&[1, 2, 3]]);
    (0..3).for_each(|_| world.round());
    assert_eq!(world.count(|event| *event == Event::Regained), 1);
    world.put(2, 3, "c");
    world.heal();
    for (number, value) in [(1, "a"), (2, "b"), (3, "c")] {
        (0..3).for_each(|place| assert_eq!(world.get(place, number), values(&[value])));
    }
}

/// One that is put back and written to before it hears anybody has named two writes the same. That
/// cannot be merged: it is said, and nothing more is written there.
#[test]
fn a_copy_put_back_and_written_to_says_so() {
    let mut world = World::new(3, schema(Strategy::Siblings, Contest::LaterWins), true, &[]);
    world.put(2, 1, "a");
    world.round();
    let backup = world.hosts[2].log.clone();
    world.put(2, 2, "b");
    (0..3).for_each(|_| world.round());
    world.put_back(2, backup);
    world.now = world.now + Duration::from_secs(1);
    let mut step = Step::default();
    let write = Command::write(Mutation::Put(key(3), Value::from("c")));
    let now = world.now_at(2);
    world.hosts[2].replica.serve(&write, now, |_| false, &mut step).expect("it knows nothing yet");
    (0..3).for_each(|_| world.round());
    let forked = |event: &Event| matches!(event, Event::Rewound { state: Rewound::Forked, .. });
    assert_eq!(world.count(forked), 1, "once, whoever tells");
    assert_eq!(world.try_put(2, 4, "d"), Err(Unfit::Rewound));
    assert_eq!(world.get(2, 3), values(&["c"]), "what is there can be read");
}

fn any_number(lottery: &mut Lottery) -> u64 {
    [0, 1, 2, 3, 9, 1 << 62, (1 << 62) + 1, u64::MAX - 1, u64::MAX][lottery.below(9) as usize]
}

fn any_dots(lottery: &mut Lottery) -> VersionVector {
    let dots = (0..lottery.below(4)).map(|_| any_dot(lottery)).collect::<Vec<_>>();
    VersionVector::from_iter(dots)
}

fn any_dot(lottery: &mut Lottery) -> Dot {
    Dot { actor: actor(lottery.below(3) as u16 + 1, 0), number: any_number(lottery) }
}

fn any_versions(lottery: &mut Lottery) -> Vec<(Row, Version)> {
    let version = |lottery: &mut Lottery| {
        let value = Content::Live(Value::from("x"));
        let content = if lottery.below(3) == 0 { Content::Dead } else { value };
        let (dot, past) = (any_dot(lottery), any_dots(lottery));
        let (stamp, origin) = (Stamp::default(), Origin::Written);
        let row = Row { key: key(lottery.below(3)), element: None };
        let first = (lottery.below(4) == 0).then(|| Box::new(any_dot(lottery)));
        (row, Version { dot, past, stamp, origin, content, field: None, first })
    };
    (0..lottery.below(3)).map(|_| version(lottery)).collect()
}

/// What a peer may say that keeps no rule, in answer to what it was asked last.
fn any_body(lottery: &mut Lottery, asked: Option<&Pull>, digest: &Digest) -> Body {
    let session = asked.map_or(0, |pull| pull.session);
    match lottery.below(5) {
        0 => Body::Push(any_versions(lottery)),
        1 => Body::Resync { session },
        2 => Body::Pull(Pull {
            session,
            by: actor(2, lottery.below(3) as u32),
            have: any_dots(lottery),
            got: any_dots(lottery),
            full: lottery.below(2) == 0,
            most: lottery.below(1 << 20) as u32,
        }),
        3 => Body::Chunk(Chunk {
            session,
            actor: digest.actor,
            after: asked.map_or_else(|| any_dots(lottery), |pull| pull.got.clone()),
            versions: any_versions(lottery),
            upto: any_dots(lottery),
            complete: lottery.below(2) == 0,
            stable: any_dots(lottery),
            circle: (*digest.circle).clone(),
        }),
        _ => Body::Digest(Digest {
            seen: any_dots(lottery),
            stable: any_dots(lottery),
            number: digest.number + lottery.below(1 << 20),
            ..digest.clone()
        }),
    }
}

/// A peer that says anything at all neither stops a copy, nor leaves it without a number for the
/// next write: what is answered is there.
#[test]
fn a_peer_that_keeps_no_rule_breaks_no_copy() {
    for seed in 0..300 {
        let mut lottery = Lottery::new(seed);
        let mut world = World::new(2, schema(Strategy::Siblings, Contest::LaterWins), true, &[]);
        world.put(1, 9, "peer");
        world.tick(1);
        let mut digests = world.flying.iter().filter_map(|(_, _, message)| match &message.body {
            Body::Digest(digest) => Some(digest.clone()),
            Body::Chunk(_) | Body::Pull(_) | Body::Push(_) | Body::Resync { .. } => None,
        });
        let mut digest = digests.next().expect("one is said with each tick");
        for round in 0..40 {
            let pulls =
                world.flying.iter().rev().filter_map(|(_, _, message)| match &message.body {
                    Body::Pull(pull) => Some(pull.clone()),
                    Body::Chunk(_) | Body::Digest(_) | Body::Push(_) | Body::Resync { .. } => None,
                });
            let asked = pulls.take(1).next();
            let body = any_body(&mut lottery, asked.as_ref(), &digest);
            digest.number += 1 << 20;
            let (mut step, now) = (Step::default(), world.now_at(0));
            world.hosts[0].replica.on_message(NodeId(2), body, now, &mut step);
            world.take_any(step);
            let text = format!("{round}");
            let write = Command::write(Mutation::Put(key(1), Value::from(text.as_str())));
            let mut step = Step::default();
            let answer = world.hosts[0].replica.serve(&write, now, |_| false, &mut step);
            world.take_any(step);
            if answer.is_ok() {
                assert!(world.get(0, 1).contains(&Value::from(text.as_str())), "seed {seed}");
            }
        }
    }
}

impl World {
    /// As [`World::take`], of what nobody who keeps the rules has written.
    fn take_any(&mut self, step: Step) {
        self.flying.extend(step.sends.into_iter().map(|(to, message)| (NodeId(1), to, message)));
    }
}
