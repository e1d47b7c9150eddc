//! Plans from seeds.
//!
//! Swarm testing: which kinds of fault a seed uses, how often and how strongly is itself drawn, for
//! features compete for room and hide each other. A random subset of kinds is dropped; the others
//! have weights from 1 to 100. The same goes for what clients ask.
//!
//! Must never know: how a run goes.

use std::time::Duration;

use synod::NodeId;
use synod::merged::{Contest, Durability, Field, Kind as Holds, Replicas, Schema, Strategy};
use synod::primary::{self, Acknowledge};

use super::{
    Act, Address, Cluster, Cut, Discipline, Disk, Fault, Guess, HISTORY_MAX, Keep, Links,
    MERGE_ROWS, MICRO, MILLI, Mode, Nanos, Network, Nodes, Operation, Plan, ROW_MAX, Resolvers,
    SECOND, Table, Tie, Trouble,
};
use crate::chooser::{Chooser, Seeded, weighted};
use crate::scenario::Scenario;

/// What the caller of [`Plan::generate`] wants otherwise than the scenario would have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How many nodes.
    pub nodes: Option<u16>,
    /// How many clients.
    pub clients: Option<u16>,
    /// How many operations.
    pub operations: Option<u32>,
    /// How long the safety phase lasts.
    pub safety: Option<Nanos>,
}

/// What a fault may be, before where and how long is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bridge,
    Clog,
    Client,
    Crash,
    Delay,
    DiskFull,
    Drift,
    Duplicate,
    Freeze,
    Graph,
    Hint,
    Islands,
    Jump,
    Loss,
    OneWay,
    Pause,
    PowerCut,
    Queue,
    Reorder,
    Ring,
    Rot,
    Skew,
    SlowDisk,
    Storm,
    Wipe,
    WriteError,
}

const STORAGE: &[Kind] = &[
    Kind::Crash,
    Kind::Crash,
    Kind::DiskFull,
    Kind::PowerCut,
    Kind::Rot,
    Kind::SlowDisk,
    Kind::Storm,
    Kind::Wipe,
    Kind::WriteError,
];
const PARTITIONS: &[Kind] =
    &[Kind::Bridge, Kind::Graph, Kind::Islands, Kind::Islands, Kind::OneWay, Kind::Ring];
const CLOCKS: &[Kind] = &[Kind::Drift, Kind::Freeze, Kind::Jump, Kind::Skew];
const REGISTER: &[Kind] = &[
    Kind::Crash,
    Kind::Delay,
    Kind::Duplicate,
    Kind::Islands,
    Kind::Loss,
    Kind::OneWay,
    Kind::Reorder,
    Kind::Storm,
];
const ERASE: &[Kind] = &[
    Kind::Client,
    Kind::Client,
    Kind::Clog,
    Kind::Crash,
    Kind::Islands,
    Kind::OneWay,
    Kind::Pause,
    Kind::Reorder,
    Kind::Storm,
];
const EVERY: &[Kind] = &[
    Kind::Bridge,
    Kind::Clog,
    Kind::Client,
    Kind::Crash,
    Kind::Delay,
    Kind::DiskFull,
    Kind::Drift,
    Kind::Duplicate,
    Kind::Freeze,
    Kind::Graph,
    Kind::Hint,
    Kind::Islands,
    Kind::Jump,
    Kind::Loss,
    Kind::OneWay,
    Kind::Pause,
    Kind::PowerCut,
    Kind::Queue,
    Kind::Reorder,
    Kind::Ring,
    Kind::Rot,
    Kind::Skew,
    Kind::SlowDisk,
    Kind::Storm,
    Kind::Wipe,
    Kind::WriteError,
];

/// What copies of merged tables suffer besides everything else: they are apart, and come back as
/// somebody else.
const APART: &[Kind] = &[Kind::Crash, Kind::Islands, Kind::Islands, Kind::OneWay];

/// Disks that fail and are slow, besides everything else.
const FLAKY: &[Kind] = &[Kind::SlowDisk, Kind::SlowDisk, Kind::WriteError, Kind::WriteError];

/// What a plan's seed is altered by to draw who drops what is made: the rest is as it were without.
const DROPPING: u64 = 0x6472_6f70;

/// Has clients drop the primary table that they have made, or want it made as another.
fn drop_and_make_again(plan: &mut Plan) {
    let mut draws = Seeded::new(plan.seed ^ DROPPING);
    if !draws.percent(60) {
        return;
    }
    let (drops, others) = (draws.within(1, 4), draws.within(0, 4));
    let mut left = super::DROPS_MAX;
    for operation in &mut plan.operations {
        match draws.below(100) {
            lot if lot < drops && left > 0 => {
                left -= 1;
                operation.act = Act::CloseSession;
            }
            lot if lot < drops + others => operation.act = Act::OpenSession,
            _ => {}
        }
    }
}

/// What clients may do, before where is drawn.
const ACTS: usize = 13;

/// What a plan's seed is altered by, for what has to do with tables made while nodes run.
const LISTING: u64 = 0x6c69_7374_6564;

/// Has clients drop what they have made, more or less often, and make it again.
fn make_and_drop(draws: &mut Seeded, plan: &mut Plan) {
    let drops = if draws.percent(70) { draws.within(1, 12) } else { 0 };
    let tables = &plan.tables;
    for operation in &mut plan.operations {
        let Some(at) = operation.act.address() else { continue };
        if tables[usize::from(at.table)].is_listed() {
            match draws.below(100) {
                lot if lot < drops => operation.act = Act::Unwatch(at),
                95.. => operation.act = Act::Watch(at),
                _ => {}
            }
        }
    }
}

struct Maker {
    draws: Seeded,
    nodes: u16,
    quorum: u16,
    /// The node that most clients are near, and trouble, too.
    home: Option<u16>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn generate(seed: u64, scenario: &Scenario, options: &Options) -> Self {
        let mut draws = Seeded::new(seed);
        let nodes = options.nodes.unwrap_or_else(|| match scenario.name {
            "free" => 3,
            _ => *draws.one(&[5, 5, 5, 5, 5, 5, 5, 5, 3, 3, 3, 3, 1, 2, 4, 6, 7]),
        });
        let nodes = nodes.clamp(1, super::NODES_MAX);
        let home = draws.percent(30).then(|| draws.within(1, u64::from(nodes)) as u16);
        let mut maker = Maker { draws, nodes, quorum: nodes / 2 + 1, home };
        maker.plan(seed, scenario, options)
    }
}

fn consensus_tables(count: u64) -> Vec<Table> {
    let table = |place| match place {
        1 => Table { name: "once".to_owned(), discipline: Discipline::WriteOnce },
        _ => Table { name: format!("table{place}"), discipline: Discipline::Consensus },
    };
    (0..count).map(table).collect()
}

/// Merged tables of all kinds; sometimes beside one that is not.
fn merged_tables(
    draws: &mut Seeded,
    scenario: &Scenario,
    nodes: u16,
    heartbeat: Nanos,
) -> Vec<Table> {
    let mut tables = consensus_tables(u64::from(draws.percent(20)));
    for place in 0..draws.within(1, 2) {
        let mut schema = schema(draws, nodes, heartbeat);
        if scenario.name == "resolvers" {
            schema.strategy = Strategy::Custom;
            schema.retention = Schema::default().retention;
        }
        let discipline = Discipline::Merged(schema);
        tables.push(Table { name: format!("merged{place}"), discipline });
    }
    tables
}

/// A merged table that clients make and drop. It is drawn by itself, so that plans without are what
/// they would be if there were none.
fn listed_table(draws: &mut Seeded, nodes: u16, heartbeat: Nanos) -> Table {
    let mut schema = schema(draws, nodes, heartbeat);
    if matches!(schema.strategy, Strategy::Custom | Strategy::Ignore | Strategy::Manual) {
        schema.strategy = Strategy::Siblings;
    }
    Table { name: "listed0".to_owned(), discipline: Discipline::Listed(schema) }
}

/// A table with a primary; sometimes beside one of consensus.
fn primary_tables(draws: &mut Seeded, nodes: u16, heartbeat: Nanos) -> Vec<Table> {
    let mut tables = consensus_tables(u64::from(draws.percent(20)));
    let acknowledge = *draws.one(&[Acknowledge::All, Acknowledge::All, Acknowledge::Quorum]);
    let span = |beats| Duration::from_millis((heartbeat * beats) / MILLI);
    let schema = primary::Schema {
        acknowledge,
        answer_within: span(draws.within(4, 20)),
        patience: span(draws.within(8, 40)),
        replicas: replicas(draws, nodes),
    };
    // Agreed upon by those who use it first.
    let is_made = draws.percent(40);
    let discipline = if is_made { Discipline::Made(schema) } else { Discipline::Primary(schema) };
    tables.push(Table { name: "primary0".to_owned(), discipline });
    tables
}

/// Applications that resolve what is in conflict: some as they should, some hardly ever.
fn resolvers(draws: &mut Seeded, heartbeat: Nanos) -> Resolvers {
    let mut share = |most| if draws.percent(50) { draws.magnitude(10_000, most) as u32 } else { 0 };
    let (failing, panicking, stalling) = (share(600_000), share(300_000), share(600_000));
    Resolvers {
        patience: heartbeat * draws.within(2, 20),
        failing,
        panicking,
        stalling,
        stall: draws.magnitude(MILLI, heartbeat * 40) / MICRO * MICRO,
    }
}

/// Mostly everybody.
fn replicas(draws: &mut Seeded, nodes: u16) -> Replicas {
    let mut some = Vec::new();
    if draws.percent(20) {
        some.extend((1..=nodes).filter(|_| draws.percent(60)).map(NodeId));
    }
    if some.is_empty() { Replicas::All } else { Replicas::Only(some) }
}

fn schema(draws: &mut Seeded, nodes: u16, heartbeat: Nanos) -> Schema {
    // Values are `CLIENT.ID`: the first byte tells who wrote, and three are always there.
    let (writer, start) = (Field::bytes(0, 1), Field::bytes(0, 3));
    let siblings = Strategy::Siblings;
    let kinds = [
        Holds::Set,
        Holds::Set,
        Holds::OrderedSet,
        Holds::Bag { secondary: None },
        Holds::Bag { secondary: Some(writer) },
    ];
    let mut schema = Schema {
        kind: draws.one(&kinds).clone(),
        contest: *draws.one(&[Contest::LaterWins, Contest::UpdateWins, Contest::DeleteWins]),
        ..Schema::default()
    };
    schema.strategy = match draws.below(22) {
        0..9 => siblings.clone(),
        9..12 => Strategy::LastModified,
        12..15 if schema.kind != (Holds::Bag { secondary: None }) => Strategy::LastVersion(start),
        15..19 => Strategy::Custom,
        19 => Strategy::Ignore,
        20 => draws.one(&[Strategy::LargestIsland, Strategy::OldestIsland]).clone(),
        21 => Strategy::Manual,
        _ => siblings.clone(),
    };
    if draws.percent(30) {
        schema.durability = Durability::Memory;
    }
    schema.replicas = replicas(draws, nodes);
    // Whoever is away for longer begins anew. Then what was removed elsewhere may have been
    // forgotten, so that history says what must be shown only where nothing loses. Elsewhere copies
    // must be equal.
    let exact = schema.strategy == siblings && schema.contest == Contest::UpdateWins;
    if draws.percent(if exact { 50 } else { 25 }) {
        schema.retention = Duration::from_nanos(heartbeat * draws.within(10, 16));
    }
    schema
}

impl Maker {
    fn plan(&mut self, seed: u64, scenario: &Scenario, options: &Options) -> Plan {
        let draws = &mut self.draws;
        let narrow = matches!(scenario.name, "register" | "free");
        let heartbeat = *draws.one(&[25 * MILLI, 50 * MILLI, 50 * MILLI, 100 * MILLI]);
        let tables = match (scenario.family, narrow) {
            ("merged", _) => merged_tables(draws, scenario, self.nodes, heartbeat),
            ("primary", _) => primary_tables(draws, self.nodes, heartbeat),
            (_, true) => consensus_tables(1),
            (_, false) => consensus_tables(draws.within(1, 3)),
        };
        // Registers are young once: where the crowd moves on from key to key, they are all young.
        let wanders = scenario.name != "free" && draws.percent(25);
        let keys = match (wanders, narrow) {
            (true, _) => draws.within(6, 16) as u16,
            (false, true) => 1,
            (false, false) => draws.within(1, 4) as u16,
        };
        let clients = match scenario.name {
            "free" => 2,
            _ => *draws.one(&[3, 3, 3, 3, 3, 1, 2, 5]),
        };
        let clients = options.clients.unwrap_or(clients).clamp(1, super::CLIENTS_MAX);
        let operations = options.operations.unwrap_or(match scenario.name {
            "free" => 8,
            _ => 100,
        });
        let mut plan = Plan {
            scenario: scenario.name.to_owned(),
            seed,
            mode: if scenario.name == "free" { Mode::Free } else { Mode::Timed },
            cluster: Cluster {
                nodes: self.nodes,
                size: self.nodes,
                witnessed: true,
                heartbeat,
                down: heartbeat * draws.within(4, 8),
                up: if draws.percent(20) { heartbeat * 2 } else { 0 },
                sweep: heartbeat * draws.within(1, 4),
                // Set below, from how long messages and writes take.
                round: MILLI,
                backoff: draws.within(1, 5) * MILLI,
                backoff_max: draws.within(20, 200) * MILLI,
                requests_max: if draws.percent(5) { 2 } else { 4096 },
                row_max: ROW_MAX,
                history_max: HISTORY_MAX,
                merge_rows: MERGE_ROWS,
                wall_spread: if draws.percent(50) { draws.magnitude(1, 10_000) * MILLI } else { 0 },
            },
            tables,
            keys,
            clients,
            network: Network {
                latency: draws.magnitude(20, 2_000) * MICRO,
                jitter: draws.magnitude(20, 4_000) * MICRO,
                loss: 0,
                duplicate: if draws.percent(30) { draws.magnitude(100, 50_000) as u32 } else { 0 },
                wire: if draws.percent(25) { 20_000 } else { 0 },
            },
            disk: match draws.below(4) {
                0 => Disk { latency: 0, jitter: 0 },
                _ => Disk {
                    latency: draws.magnitude(10, 500) * MICRO,
                    jitter: draws.magnitude(10, 3_000) * MICRO,
                },
            },
            resolvers: None,
            safety: options.safety.unwrap_or(heartbeat * 45),
            liveness: 20 * SECOND,
            operations: Vec::new(),
            faults: Vec::new(),
            choices: Vec::new(),
        };
        // From barely enough for one round of messages to plenty: where it is short, whatever delays
        // a message makes a proposer try again while its first try is still on its way.
        let trip = 2 * (plan.network.latency + plan.network.jitter)
            + 2 * (plan.disk.latency + plan.disk.jitter);
        let percent = *self.draws.one(&[120, 150, 200, 400, 1_000]);
        plan.cluster.round = (trip * percent / 100).clamp(2 * MILLI, 60 * MILLI) / MICRO * MICRO;
        let kinds: Vec<Kind> = match scenario.name {
            "calm" => Vec::new(),
            "register" => REGISTER.to_vec(),
            "erase" => ERASE.to_vec(),
            "clocks" => CLOCKS.to_vec(),
            "storage" => STORAGE.to_vec(),
            "partitions" | "splits" => PARTITIONS.to_vec(),
            "free" => vec![Kind::Crash, Kind::Crash, Kind::Pause, Kind::Client, Kind::Islands],
            "lies" => [CLOCKS, APART].concat(),
            "merged" | "resolvers" => [EVERY, APART].concat(),
            "primary" => [EVERY, APART, FLAKY].concat(),
            _ => EVERY.to_vec(),
        };
        if scenario.family == "merged" && (scenario.name == "lies" || self.draws.percent(50)) {
            // Clocks that are wrong by seconds or by hours, and stay so.
            plan.cluster.wall_spread = self.draws.magnitude(1, 20_000) * SECOND;
        }
        let custom =
            |table: &Table| table.schema().is_some_and(|it| it.strategy == Strategy::Custom);
        if plan.tables.iter().any(custom)
            && (scenario.name == "resolvers" || self.draws.percent(70))
        {
            plan.resolvers = Some(resolvers(&mut self.draws, heartbeat));
        }
        if scenario.family == "primary" && self.draws.percent(70) {
            // A copy then comes in many pieces. The keys of the registers of a table that is made
            // are longer than its own.
            let least = if plan.tables.iter().any(Table::is_made) { 32 } else { 16 };
            plan.cluster.row_max = self.draws.within(least, 200) as u32;
        }
        if scenario.family == "primary" && self.draws.percent(60) {
            // Who was away for longer takes a copy.
            plan.cluster.history_max = self.draws.below(8) as u32;
        }
        if scenario.family == "merged" && self.draws.percent(60) {
            // A difference then comes in several chunks, and is put in by several steps.
            plan.cluster.merge_rows = self.draws.within(1, 3) as u32;
        }
        if scenario.name == "calm" {
            plan.network.duplicate = 0;
            plan.cluster.wall_spread = 0;
        }
        let mut listing = Seeded::new(seed ^ LISTING);
        let lists = scenario.name == "merged" && listing.percent(25);
        if lists {
            plan.tables.push(listed_table(&mut listing, self.nodes, heartbeat));
        }
        self.operations(&mut plan, scenario, operations, wanders);
        if lists {
            make_and_drop(&mut listing, &mut plan);
        }
        if plan.tables.iter().any(Table::is_made) {
            drop_and_make_again(&mut plan);
        }
        self.faults(&mut plan, scenario, &kinds, options.safety.is_some());
        if scenario.name != "free" && options.safety.is_none() && self.draws.percent(15) {
            // The end comes in the midst of it: whoever knows most may be gone for good.
            plan.safety = plan.safety * self.draws.within(20, 80) / 100 / MICRO * MICRO;
        }
        if plan.lost().is_empty() {
            self.genesis(&mut plan);
        }
        if plan.mode == Mode::Free {
            let length = self.draws.within(100, 600);
            plan.choices = (0..length)
                .map(|_| {
                    // Mostly one of the oldest; sometimes anything.
                    let most = *self.draws.one(&[1, 2, 4, 8, 32, 64]);
                    self.draws.below(most) as u32
                })
                .collect();
        }
        plan
    }

    /// Where no storage is lost, it may be vouched for; and there may be vacant seats.
    fn genesis(&mut self, plan: &mut Plan) {
        plan.cluster.witnessed = !self.draws.percent(25);
        let vacant = plan.cluster.nodes >= 3 && self.draws.percent(8);
        let size = plan.cluster.size + 1;
        // Among fewer nodes than witnesses needed nobody would ever vote.
        let required = (2 * size - (size / 2 + 1) - 2) / 2 + 1;
        if vacant && plan.cluster.nodes > size / 2 && plan.cluster.nodes > required {
            plan.cluster.size = size;
            self.quorum = size / 2 + 1;
        }
    }

    // ---- operations -----------------------------------------------------------------------

    fn operations(&mut self, plan: &mut Plan, scenario: &Scenario, count: u32, wanders: bool) {
        let weights = self.act_weights(scenario);
        let mut hot = (wanders || self.draws.percent(40)).then(|| self.address(plan));
        let stays = u64::from(count / u32::from(plan.keys)).max(1);
        // Who gives up soon leaves what it proposed behind, and asks somebody else.
        let hasty = self.draws.percent(30);
        let bursty = self.draws.percent(40);
        let binding = match scenario.name {
            "register" | "free" => 0,
            _ if scenario.family != "consensus" => 0,
            "erase" | "clocks" => 80,
            _ => *self.draws.one(&[0, 20, 50, 80]),
        };
        // The operations fill most of the safety phase, whatever its length.
        let each = plan.safety * u64::from(plan.clients) / u64::from(count.max(1)) / 2;
        let steady = self.draws.magnitude(MILLI, each.max(2 * MILLI));
        let first = u32::from(plan.clients);
        for id in 0..count {
            let client = if id < first {
                id as u16 + 1
            } else {
                self.draws.within(1, u64::from(plan.clients)) as u16
            };
            let pause = match (bursty, self.draws.below(10)) {
                (true, 0) => self.draws.within(steady, steady * 8),
                (true, _) => self.draws.below(MILLI),
                (false, _) => self.draws.below(steady * 2),
            };
            // The cluster has to come up first, mostly.
            let settle = plan.cluster.heartbeat * 3;
            let after = if id < first && self.draws.percent(80) { settle + pause } else { pause };
            if wanders && self.draws.below(stays) == 0 {
                hot = Some(self.address(plan));
            }
            let at = match hot {
                Some(hot) if self.draws.percent(70) => hot,
                _ => self.address(plan),
            };
            let place = weighted(&mut self.draws, &weights);
            let act = self.act(plan, place, at, binding);
            let operation = Operation {
                id,
                client,
                after,
                node: self.node(),
                patience: if hasty {
                    self.draws.magnitude(plan.cluster.round, plan.cluster.round * 8) / MICRO * MICRO
                } else {
                    self.draws.magnitude(20, 1_000) * MILLI
                },
                again: *self.draws.one(&[0, 0, 1, 3]),
                persistent: self.draws.percent(60),
                act,
            };
            plan.operations.push(operation);
        }
    }

    fn act_weights(&mut self, scenario: &Scenario) -> [u64; ACTS] {
        let mut weights = [0; ACTS];
        match (scenario.family, scenario.name) {
            (_, "register" | "free") => {
                weights[..5].copy_from_slice(&[40, 30, 20, 20, 10]);
                weights[5] = 10;
            }
            // Who wants to be a replica, and who is primary, changes every few operations.
            ("primary", _) => {
                for (place, weight) in [
                    (0, 25),
                    (1, 60),
                    (2, 4),
                    (3, 10),
                    (4, 20),
                    (5, 12),
                    (6, 4),
                    (8, 6),
                    (11, 8),
                    (12, 6),
                ] {
                    weights[place] = 1 + self.draws.below(2 * weight);
                }
            }
            ("merged", _) => {
                for (place, weight) in
                    [(0, 20), (1, 60), (2, 15), (3, 25), (4, 40), (5, 15), (8, 8)]
                {
                    weights[place] = 1 + self.draws.below(2 * weight);
                }
            }
            _ => {
                for weight in &mut weights {
                    *weight = if self.draws.percent(70) { self.draws.within(1, 100) } else { 0 };
                }
                // There is no scenario without writes and reads.
                weights[0] += 20;
                weights[1] += 20;
                weights[2] += 20;
                if scenario.name == "erase" {
                    weights[7] += 60;
                }
                // These tell little each.
                weights[6] /= 3;
                weights[9] /= 2;
                weights[10] /= 4;
                weights[11] /= 2;
                weights[12] /= 4;
            }
        }
        weights
    }

    fn act(&mut self, plan: &Plan, place: usize, at: Address, binding: u64) -> Act {
        let once = plan.tables[usize::from(at.table)].is_write_once();
        match place {
            0 => Act::Get(at),
            // What a write-once table refuses is asked for now and then.
            1 | 3 | 4 if once && !self.draws.percent(3) => {
                Act::PutIfAbsent(at, self.ties(plan, at, binding))
            }
            1 => Act::Put(at, self.ties(plan, at, binding)),
            2 => Act::PutIfAbsent(at, self.ties(plan, at, binding)),
            3 => {
                let guess = *self.draws.one(&[Guess::Absent, Guess::Seen, Guess::Version]);
                Act::CompareAndSet(at, guess, self.ties(plan, at, binding))
            }
            4 => Act::Remove(at, self.draws.percent(40)),
            5 => Act::Fence(at),
            6 => Act::GetLocal(at),
            7 => Act::OpenSession,
            8 => Act::Keys(at.table, *self.draws.one(&[1, 2, 100])),
            9 => Act::CloseSession,
            10 => Act::Status,
            11 => Act::Watch(at),
            _ => Act::Unwatch(at),
        }
    }

    fn ties(&mut self, plan: &Plan, of: Address, percent: u64) -> Vec<Tie> {
        let mut ties = Vec::new();
        while self.draws.percent(percent) && ties.len() < 3 {
            ties.push(match self.draws.below(10) {
                0..4 => Tie::Session,
                4..6 => Tie::Node(self.draws.within(1, u64::from(self.nodes)) as u16),
                6..8 => {
                    let at = self.address(plan);
                    if at == of && !self.draws.percent(5) {
                        continue;
                    }
                    Tie::Key(at)
                }
                8 => Tie::Until((self.draws.magnitude(10, 2_000) * MILLI) as i64),
                _ => {
                    Tie::Until(self.draws.within(0, 400) as i64 * MILLI as i64 - 100 * MILLI as i64)
                }
            });
        }
        ties
    }

    fn address(&mut self, plan: &Plan) -> Address {
        Address {
            table: self.draws.below(plan.tables.len() as u64) as u16,
            key: self.draws.below(u64::from(plan.keys)) as u16,
        }
    }

    // ---- faults ---------------------------------------------------------------------------

    fn faults(&mut self, plan: &mut Plan, scenario: &Scenario, kinds: &[Kind], long: bool) {
        if kinds.is_empty() {
            return;
        }
        // Swarm: a random subset, weighted.
        let keep = self.draws.within(30, 90);
        let mut weights: Vec<u64> = kinds
            .iter()
            .map(|_| if self.draws.percent(keep) { self.draws.within(1, 100) } else { 0 })
            .collect();
        if weights.iter().all(|&weight| weight == 0) {
            weights[0] = 1;
        }
        let count = match scenario.name {
            "free" => self.draws.within(0, 4),
            _ => self.draws.within(4, 40),
        };
        // A long run is not a denser one.
        let count = if long { count.max(plan.safety / (60 * SECOND)) } else { count };
        // How long faults last, by the length of what can happen meanwhile.
        let span = self.draws.magnitude(plan.cluster.heartbeat, plan.cluster.down * 3);
        for _ in 0..count {
            let kind = kinds[weighted(&mut self.draws, &weights)];
            let lasts = self.draws.magnitude(span / 8 + 1, span);
            let at = self.draws.below(plan.safety);
            // In the beginning everything is new; that is for some seeds to spoil.
            let early = self.draws.percent(90);
            let at = if early { at.max(plan.cluster.heartbeat * 2) } else { at };
            let Some(trouble) = self.trouble(plan, kind) else { continue };
            match (kind, &trouble) {
                (Kind::Storm, &Trouble::Crash(node, _)) => {
                    self.storm(plan, scenario, at, node, &trouble);
                }
                // A process that is back at once meets what its former life asked for.
                (_, Trouble::Crash(..)) if self.draws.percent(50) => {
                    let lasts = self.draws.magnitude(100 * MICRO, 8 * MILLI);
                    self.strike(plan, (at, lasts), trouble);
                }
                (_, &Trouble::Pause(node)) => self.pauses(plan, (at, lasts), node),
                // As long as it takes to be given up, and hardly longer: who comes back finds
                // everything being decided.
                (_, Trouble::Partition(..)) if self.draws.percent(25) => {
                    let down = plan.cluster.down;
                    let lasts = self.draws.within(down, down * 2);
                    self.strike(plan, (at, lasts), trouble);
                }
                _ => self.strike(plan, (at, lasts), trouble),
            }
        }
        plan.faults.sort_by_key(|fault| (fault.at, fault.id));
    }

    /// Adds a fault.
    fn strike(&self, plan: &mut Plan, (at, lasts): (Nanos, Nanos), trouble: Trouble) {
        let round = |nanos: Nanos| nanos / 1_000 * 1_000;
        let id = u32::try_from(plan.faults.len()).unwrap_or(u32::MAX);
        let (at, lasts) = (round(at), round(lasts).max(1_000));
        plan.faults.push(Fault { id, at, lasts, trouble });
    }

    /// A process dies young over and over and asks the same again each time. Where its links are
    /// bad as well, what its lives are answered comes late, and to another life.
    fn storm(
        &mut self,
        plan: &mut Plan,
        scenario: &Scenario,
        at: Nanos,
        node: u16,
        trouble: &Trouble,
    ) {
        let lives = self.draws.within(2, 5);
        let lasts = self.draws.magnitude(100 * MICRO, 8 * MILLI);
        let apart = lasts + self.draws.magnitude(MILLI, plan.cluster.round * 4);
        for life in 0..lives {
            self.strike(plan, (at + apart * life, lasts), trouble.clone());
        }
        if scenario.name == "storage" || self.draws.percent(25) {
            return;
        }
        let over = apart * lives;
        let before = self.draws.below(over).min(at);
        let lasts = before + over + self.draws.below(over);
        let links = self.links_of(node);
        let trouble = match self.draws.below(4) {
            0 => {
                let most = plan.cluster.down.min(lasts) / MICRO;
                Trouble::Delay(links, self.draws.magnitude(1_000, most) * MICRO)
            }
            1 => Trouble::Partition(Cut::OneWay(links), 0),
            _ => Trouble::Clog(links),
        };
        self.strike(plan, (at - before, lasts), trouble);
    }

    /// Machines that share a host, or a laptop's lid, stand still together.
    fn pauses(&mut self, plan: &mut Plan, (at, lasts): (Nanos, Nanos), node: u16) {
        let together = self.draws.percent(25);
        for other in 1..=self.nodes {
            if other == node || together && self.draws.percent(75) {
                let spread = plan.cluster.heartbeat / 2;
                let at = if together { at + self.draws.below(spread) } else { at };
                self.strike(plan, (at, lasts), Trouble::Pause(other));
            }
        }
    }

    fn trouble(&mut self, plan: &Plan, kind: Kind) -> Option<Trouble> {
        let node = self.node();
        let down = plan.cluster.down;
        Some(match kind {
            Kind::Bridge if self.nodes >= 3 => {
                let via = node;
                let (mut left, mut right) = (Nodes::default(), Nodes::default());
                for other in 1..=self.nodes {
                    if other == via || self.draws.percent(50) {
                        left.add(other);
                    }
                    if other == via || !left.has(other) {
                        right.add(other);
                    }
                }
                Trouble::Partition(Cut::Bridge(left, right), self.flap(plan))
            }
            Kind::Clog => Trouble::Clog(self.links()),
            Kind::Client => Trouble::Client(self.draws.within(1, u64::from(plan.clients)) as u16),
            Kind::Crash | Kind::Storm => Trouble::Crash(node, self.keep()),
            Kind::Delay => {
                Trouble::Delay(self.links(), self.draws.magnitude(100, down / 1_000) * MICRO)
            }
            Kind::DiskFull => Trouble::DiskFull(node),
            Kind::Drift => {
                let ppm = self.draws.magnitude(1_000, 800_000) as i32;
                Trouble::Drift(node, if self.draws.percent(50) { ppm } else { -ppm })
            }
            Kind::Duplicate => {
                Trouble::Duplicate(self.links(), self.draws.magnitude(10_000, 500_000) as u32)
            }
            Kind::Freeze => Trouble::Freeze(node),
            Kind::Graph if self.nodes >= 2 => {
                let density = self.draws.within(20, 95);
                let sets = (1..=self.nodes).map(|_| {
                    let mut set = Nodes::default();
                    for to in 1..=self.nodes {
                        if self.draws.percent(density) {
                            set.add(to);
                        }
                    }
                    set
                });
                let sets = sets.collect();
                Trouble::Partition(Cut::Graph(sets), self.flap(plan))
            }
            Kind::Hint if self.nodes >= 2 => {
                let peer = node % self.nodes + 1;
                Trouble::Hint(node, peer)
            }
            Kind::Islands if self.nodes >= 2 => {
                // Mostly two; at times as many as there are nodes.
                let count = match self.draws.below(100) {
                    0..8 => usize::from(self.nodes),
                    8..30 if self.nodes >= 3 => 3,
                    _ => 2,
                };
                let mut islands = vec![Nodes::default(); count];
                for node in 1..=self.nodes {
                    islands[self.draws.choose(count)].add(node);
                }
                islands.retain(|island| !island.is_empty());
                Trouble::Partition(Cut::Islands(islands), self.flap(plan))
            }
            Kind::Jump => Trouble::Jump(node, self.skew()),
            Kind::Loss => Trouble::Loss(self.links(), self.draws.magnitude(10_000, 600_000) as u32),
            Kind::OneWay if self.nodes >= 2 => {
                Trouble::Partition(Cut::OneWay(self.links()), self.flap(plan))
            }
            Kind::Pause => Trouble::Pause(node),
            Kind::PowerCut => Trouble::PowerCut(self.keep()),
            Kind::Queue => Trouble::Queue(self.links(), self.draws.magnitude(1, 8) as u16),
            Kind::Reorder => {
                Trouble::Reorder(self.links(), self.draws.magnitude(500, down / 1_000) * MICRO)
            }
            Kind::Ring if self.nodes >= 4 => {
                let mut order: Vec<u16> = (1..=self.nodes).collect();
                for place in (1..order.len()).rev() {
                    order.swap(place, self.draws.choose(place + 1));
                }
                Trouble::Partition(Cut::Ring(order), self.flap(plan))
            }
            Kind::Rot | Kind::Wipe => {
                let mut lost = plan.lost();
                lost.add(node);
                if lost.len() > u32::from(self.nodes - self.quorum) {
                    return None;
                }
                if kind == Kind::Rot { Trouble::Rot(node) } else { Trouble::Wipe(node) }
            }
            Kind::Skew => Trouble::Skew(node, self.skew()),
            Kind::SlowDisk => {
                Trouble::SlowDisk(node, self.draws.magnitude(1, down / MILLI) * MILLI)
            }
            Kind::WriteError => Trouble::WriteError(node),
            Kind::Bridge | Kind::Graph | Kind::Hint | Kind::Islands | Kind::OneWay | Kind::Ring => {
                return None;
            }
        })
    }

    fn node(&mut self) -> u16 {
        if let Some(home) = self.home
            && self.draws.percent(50)
        {
            return home;
        }
        self.draws.within(1, u64::from(self.nodes)) as u16
    }

    fn keep(&mut self) -> Keep {
        *self.draws.one(&[Keep::All, Keep::Mid, Keep::Mid, Keep::Mid, Keep::None, Keep::Torn])
    }

    fn flap(&mut self, plan: &Plan) -> Nanos {
        if self.draws.percent(15) {
            self.draws.magnitude(MILLI, plan.cluster.down) / MICRO * MICRO
        } else {
            0
        }
    }

    /// From milliseconds to ten years, either way.
    fn skew(&mut self) -> i64 {
        let by = self.draws.magnitude(10, 315_000_000_000) * MILLI;
        let by = i64::try_from(by).unwrap_or(i64::MAX);
        if self.draws.percent(50) { by } else { -by }
    }

    /// All links, those of one node, or a few.
    fn links(&mut self) -> Links {
        if self.draws.percent(20) {
            return Links { from: Nodes::ALL, to: Nodes::ALL };
        }
        let node = self.node();
        self.links_of(node)
    }

    /// All links of a node in one direction, or a few.
    fn links_of(&mut self, node: u16) -> Links {
        let all = Nodes::ALL;
        let mut one = Nodes::default();
        one.add(node);
        match self.draws.below(4) {
            0 => Links { from: one, to: all },
            1 => Links { from: all, to: one },
            _ => {
                let (mut from, mut to) = (one, Nodes::default());
                for node in 1..=self.nodes {
                    if self.draws.percent(40) {
                        from.add(node);
                    }
                    if self.draws.percent(50) {
                        to.add(node);
                    }
                }
                Links { from, to }
            }
        }
    }
}
