//! A copy of a merged table amid peers that keep no rules: it never panics, keeps its invariants,
//! answers each request once at most, and shows what it has just been told to write.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use synod::merged::{
    self, Actor, Agreement, Chunk, Circle, Command, Content, Contest, Digest, Dot, Durability,
    Field, Guard, Keep, Kind, Mutation, Origin, Pattern, Pull, Row, Schema, Stamp, Stance,
    Strategy, Version, VersionVector,
};
use synod::{
    Body, ClientId, Config, Effect, Genesis, Incarnation, Input, Instant, Key, Life, Message, Node,
    NodeId, Now, OnNoQuorum, Outcome, Request, RequestId, Sent, TableConfig, TableId, TableName,
    Value, Wall,
};

const NAME: &str = "bins";

/// Behind the default table.
const TABLE: TableId = TableId(1);

/// Node and process life of a copy, and how many of its writes.
type Seen = Vec<(u8, u8)>;

#[derive(Arbitrary, Debug)]
enum Step {
    Ask(Ask),
    Link {
        peer: u8,
        up: bool,
    },
    /// A peer says something, of a life that this node takes it for.
    Say {
        from: u8,
        said: Said,
    },
    Wait(u16),
}

#[derive(Arbitrary, Debug)]
enum Ask {
    Conflicts(u8),
    Get(u8),
    Info,
    Merge(Option<bool>),
    Resolve { row: Place, dots: Seen, value: Option<u8> },
    Scan { after: Option<Place>, limit: u8 },
    Write { mutations: Vec<(u8, u8, u8)>, guard: Option<(u8, Seen)> },
}

#[derive(Arbitrary, Debug)]
enum Said {
    /// In answer to the latest question, or to another one.
    Chunk {
        session: Option<u8>,
        versions: Vec<Written>,
        upto: Seen,
        stable: Seen,
        complete: bool,
    },
    Digest {
        circle: Vec<u8>,
        seen: Seen,
        stable: Seen,
        heard: u8,
        stance: u8,
        compares: bool,
        yours: Option<(u8, u8)>,
    },
    Pull {
        by: u8,
        have: Seen,
        got: Seen,
        full: bool,
        most: u16,
    },
    Push(Vec<Written>),
    Resync(Option<u8>),
}

#[derive(Arbitrary, Debug)]
struct Place(u8, Option<u8>);

#[derive(Arbitrary, Debug)]
struct Written {
    row: Place,
    by: (u8, u8),
    past: Seen,
    wall: u8,
    origin: u8,
    value: Option<u8>,
}

/// The last number stands for the greatest there is.
fn number(byte: u8) -> u64 {
    if byte == u8::MAX { u64::MAX } else { u64::from(byte) }
}

fn key(number: u8) -> Key {
    Key::from(&[number % 4][..])
}

fn value(number: u8) -> Value {
    Value::from(&[number % 8, 0][..])
}

fn row(Place(name, element): &Place) -> Row {
    Row { key: key(*name), element: element.map(value) }
}

struct Bench {
    node: Node,
    now: Instant,
    /// The header of what it sends, which its peers use as well.
    header: Option<Message>,
    memory: bool,
    agreement: Agreement,
    /// The latest question it asked.
    session: u64,
    digests: u64,
    /// With whom its peers go on.
    circle: Circle,
    asked: BTreeSet<RequestId>,
    outcome: Option<Outcome>,
}

impl Bench {
    fn actor(&self, who: u8) -> Actor {
        let life = self.header.as_ref().map_or(Life(1), |header| header.life);
        let incarnation = Incarnation(if self.memory { u32::from(who / 4 % 3) + 1 } else { 0 });
        let node = NodeId(u16::from(who % 4) + 1);
        Actor { node, life, incarnation, anew: u16::from(who / 12 % 4) }
    }

    fn dot(&self, (who, which): (u8, u8)) -> Dot {
        Dot { actor: self.actor(who), number: number(which) }
    }

    fn seen(&self, seen: &Seen) -> VersionVector {
        seen.iter().map(|dot| self.dot(*dot)).collect()
    }

    fn versions(&self, versions: &[Written]) -> Vec<(Row, Version)> {
        let version = |written: &Written| {
            let version = Version {
                dot: self.dot(written.by),
                past: self.seen(&written.past),
                stamp: Stamp { wall: Wall(number(written.wall)), logical: 0 },
                origin: match written.origin % 3 {
                    0 => Origin::Late,
                    1 => Origin::Resolved,
                    _ => Origin::Written,
                },
                content: written.value.map_or(Content::Dead, |byte| Content::Live(value(byte))),
                field: None,
                first: None,
            };
            (row(&written.row), version)
        };
        versions.iter().map(version).collect()
    }

    fn body(&mut self, from: u8, said: &Said) -> merged::Body {
        let session = |given: &Option<u8>| given.map_or(self.session, number);
        match said {
            Said::Chunk { session: given, versions, upto, stable, complete } => {
                merged::Body::Chunk(Chunk {
                    session: session(given),
                    actor: self.actor(from),
                    after: VersionVector::EMPTY,
                    versions: self.versions(versions),
                    upto: self.seen(upto),
                    complete: *complete,
                    stable: self.seen(stable),
                    circle: self.circle.clone(),
                })
            }
            Said::Digest { circle, seen, stable, heard, stance, compares, yours } => {
                self.digests += 1;
                self.circle = circle.iter().fold(Circle::default(), |before, by| {
                    before.next(self.actor(*by), vec![self.actor(*by), self.actor(0)])
                });
                merged::Body::Digest(Digest {
                    agreement: self.agreement.clone(),
                    actor: self.actor(from),
                    seen: self.seen(seen),
                    stable: self.seen(stable),
                    number: self.digests,
                    heard: number(*heard),
                    circle: Box::new(self.circle.clone()),
                    missed: vec![NodeId(3)],
                    counting: (0..3).map(|of| (NodeId(of + 1), None)).collect(),
                    wall: Wall(self.now.0 / 1_000_000),
                    stance: match stance % 3 {
                        0 => Stance::Apart,
                        1 => Stance::Told,
                        _ => Stance::Merged,
                    },
                    compares: *compares,
                    yours: yours.map(|dot| (self.dot(dot), Stamp::default())),
                })
            }
            Said::Pull { by, have, got, full, most } => merged::Body::Pull(Pull {
                session: 1,
                by: self.actor(*by),
                have: self.seen(have),
                got: self.seen(got),
                full: *full,
                most: u32::from(*most),
            }),
            Said::Push(versions) => merged::Body::Push(self.versions(versions)),
            Said::Resync(given) => merged::Body::Resync { session: session(given) },
        }
    }

    fn input(&mut self, input: Input) {
        let mut todo = vec![input];
        while let Some(input) = todo.pop() {
            let wall = Wall(self.now.0 / 1_000_000);
            let mut effects = Vec::new();
            self.node.handle(input, Now { instant: self.now, wall }, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Send { message, .. } => {
                        if let Body::Merged(merged::Message {
                            body: merged::Body::Pull(pull),
                            ..
                        }) = &message.body
                        {
                            self.session = pull.session;
                        }
                        self.header = Some(message);
                    }
                    Effect::Reply { request, outcome, .. } => {
                        assert!(self.asked.remove(&request), "one answer to one request");
                        self.outcome = Some(outcome);
                    }
                    Effect::Persist { ticket, .. } => todo.push(Input::Persisted { ticket }),
                    Effect::Demonitor { .. } | Effect::Monitor { .. } | Effect::Notify { .. } => {}
                }
            }
        }
        self.node.check_invariants().expect("invariants");
        assert!(self.node.poll_timeout().is_some(), "a node always wants to be woken");
    }

    /// Asks, and says what was answered at once.
    fn ask(&mut self, id: u64, command: Command) -> Option<Outcome> {
        self.outcome = None;
        self.asked.insert(RequestId(id));
        self.input(Input::Request(Request {
            client: ClientId::new(1),
            id: RequestId(id),
            sent: Sent::First,
            patience: Duration::from_secs(1),
            on_no_quorum: OnNoQuorum::Return,
            command: synod::Command::Merged { table: TABLE, command },
        }));
        self.outcome.take()
    }

    fn command(&self, ask: &Ask) -> Command {
        match ask {
            Ask::Conflicts(limit) => Command::Conflicts { after: None, limit: u32::from(*limit) },
            Ask::Get(name) => Command::Get(key(*name)),
            Ask::Info => Command::Info,
            Ask::Merge(keep) => Command::Merge {
                keep: keep.map(|here| if here { Keep::Here } else { Keep::There }),
            },
            Ask::Resolve { row: place, dots, value: answer } => Command::Resolve {
                row: row(place),
                dots: dots.iter().map(|dot| self.dot(*dot)).collect(),
                value: answer.map(value),
            },
            Ask::Scan { after, limit } => Command::Scan {
                pattern: Pattern::default(),
                after: after.as_ref().map(row),
                limit: u32::from(*limit),
            },
            Ask::Write { mutations, guard } => {
                let mutation = |(name, with, what): &(u8, u8, u8)| match what % 4 {
                    0 => Mutation::Remove(key(*name)),
                    1 => Mutation::RemoveValue(key(*name), value(*with)),
                    _ => Mutation::Put(key(*name), value(*with)),
                };
                let guard = guard.iter().map(|(name, shows)| Guard {
                    key: key(*name),
                    shows: shows.iter().map(|dot| self.dot(*dot)).collect(),
                });
                Command::Write {
                    mutations: mutations.iter().map(mutation).collect(),
                    guards: guard.collect(),
                }
            }
        }
    }

    /// A put that is acknowledged is shown, alone or with others, unless the policy is another.
    fn check_put(&mut self, id: u64, mutations: &[(u8, u8, u8)], guarded: bool) {
        let [(name, with, 2..=3)] = mutations else { return };
        if guarded {
            return;
        }
        let found = self.ask(id, Command::Get(key(*name)));
        if let Some(Outcome::Merged(merged::Answer::Found { entries, .. })) = found {
            let wanted = value(*with);
            let is_shown =
                entries.iter().any(|entry| entry.values.iter().any(|shown| shown.value == wanted));
            assert!(is_shown, "what was put is there");
        }
    }

    fn step(&mut self, at: u64, step: &Step) {
        match step {
            Step::Ask(ask) => {
                let command = self.command(ask);
                let outcome = self.ask(2 * at, command);
                if let (
                    Ask::Write { mutations, guard },
                    Some(Outcome::Merged(merged::Answer::Written { .. })),
                ) = (ask, outcome)
                {
                    self.check_put(2 * at + 1, mutations, guard.is_some());
                }
            }
            Step::Link { peer, up } => {
                self.input(Input::Link { peer: NodeId(u16::from(peer % 4) + 1), up: *up });
            }
            Step::Say { from, said } => {
                let Some(header) = self.header.clone() else { return };
                let body = self.body(*from, said);
                let body = Body::Merged(merged::Message { table: TableName::of(NAME), body });
                let from = NodeId(u16::from(from % 4) + 1);
                self.input(Input::Message { from, message: Message { body, ..header } });
            }
            Step::Wait(millis) => {
                self.now = self.now + Duration::from_millis(u64::from(*millis));
                self.input(Input::Timeout);
            }
        }
    }
}

fn schema(memory: bool, which: u8) -> Schema {
    Schema {
        kind: match which / 8 % 3 {
            0 => Kind::Set,
            1 => Kind::Bag { secondary: None },
            _ => Kind::Bag { secondary: Some(Field::bytes(0, 1)) },
        },
        strategy: match which % 8 {
            0 => Strategy::Custom,
            1 => Strategy::Ignore,
            2 => Strategy::LastModified,
            3 => Strategy::LastVersion(Field::bytes(0, 1)),
            4 => Strategy::Manual,
            5 => Strategy::LargestIsland,
            _ => Strategy::Siblings,
        },
        contest: match which / 24 % 3 {
            0 => Contest::LaterWins,
            1 => Contest::UpdateWins,
            _ => Contest::DeleteWins,
        },
        durability: if memory { Durability::Memory } else { Durability::Disk },
        ..Schema::default()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Unstructured::new(bytes);
    let memory = bytes.ratio(1u8, 2u8).unwrap_or(false);
    let which = bytes.arbitrary().unwrap_or(0);
    let mut config = Config::new(NodeId(1));
    config.genesis = Genesis::Vouched;
    let schema = schema(memory, which);
    let agreement = schema.agreement();
    config.tables.push(TableConfig::merged(NAME, schema));
    // Not every strategy goes with every kind.
    let Ok(node) = Node::new(config, 1) else { return };
    let mut bench = Bench {
        node,
        now: Instant(1),
        header: None,
        memory,
        agreement,
        session: 0,
        digests: 0,
        circle: Circle::default(),
        asked: BTreeSet::new(),
        outcome: None,
    };
    bench.input(Input::Timeout);
    let mut at = 0;
    while let Ok(step) = bytes.arbitrary::<Step>() {
        at += 1;
        bench.step(at, &step);
        if bytes.is_empty() {
            break;
        }
    }
});
