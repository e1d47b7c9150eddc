//! Arbitrary inputs to one node, from peers that keep no rules: it never panics, keeps its
//! invariants, answers each request once at most, and wants to be woken.
#![no_main]

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use synod::primary::{self, Call, Entry, Envelope, Place, Reign, Schema, What};
use synod::{
    Bind, Body, ClientId, Command, Config, Effect, Expect, Genesis, Input, Instant, Key, Message,
    Node, NodeId, Now, OnNoQuorum, ReadLevel, Request, RequestId, Sent, SessionId, TableConfig,
    TableId, TableName, Ticket, Topic, Value, Wall, wire,
};

/// One step, in a form that bytes turn into readily.
#[derive(Arbitrary, Debug)]
enum Step {
    /// A message of anybody's, as its body on the wire.
    Message {
        from: u8,
        body: Vec<u8>,
    },
    /// A message that this node sent, come back with another sender and perhaps a byte changed.
    Echo {
        from: u8,
        which: u8,
        at: u8,
        with: u8,
    },
    /// What another replica of the primary table says.
    Replica {
        from: u8,
        reign: u8,
        said: Said,
    },
    Request {
        client: u8,
        id: u8,
        again: bool,
        retry: bool,
        patience: u16,
        command: Ask,
    },
    Persisted(u8),
    Down {
        host: u8,
        node_session: u8,
        number: u8,
    },
    Link {
        peer: u8,
        up: bool,
    },
    Timeout,
    Wait(u16),
}

#[derive(Arbitrary, Debug)]
enum Ask {
    CloseSession(u8, u8, u8),
    CompareAndSet(u8, u8, Option<u8>, Vec<To>),
    Fence(u8, u8),
    Get(u8, u8, bool),
    Keys(u8, Option<u8>, u8),
    OpenSession,
    Primary(u8, u8),
    Put(u8, u8, Vec<To>),
    PutIfAbsent(u8, u8, Vec<To>),
    Remove(u8, u8),
    Status,
    Subscribe(Option<(u8, u8)>),
    Unsubscribe(Option<(u8, u8)>),
}

#[derive(Arbitrary, Debug)]
enum Said {
    Ack(u8, u8),
    Append { prev: (u8, u8), reigns: Vec<u8>, committed: u8 },
    Hello(u8, Vec<(u8, u8)>),
    Leave,
    SwearOff,
    Sworn(u8, u8),
}

#[derive(Arbitrary, Debug)]
enum To {
    Key(u8, u8),
    Node(u8),
    Session(u8, u8, u8),
    Until(u16),
}

fn key(number: u8) -> Key {
    Key::from(&[number % 4][..])
}

fn table(number: u8) -> TableId {
    TableId(u16::from(number % 4))
}

fn session(host: u8, node_session: u8, number: u8) -> SessionId {
    SessionId {
        host: NodeId(u16::from(host % 5)),
        node_session: u64::from(node_session % 4),
        number: u64::from(number % 4),
    }
}

fn binds(to: &[To]) -> Vec<Bind> {
    let bind = |to: &To| match *to {
        To::Key(place, name) => Bind::Key { table: table(place), key: key(name) },
        To::Node(node) => Bind::Node(NodeId(u16::from(node % 5))),
        To::Session(host, node_session, number) => {
            Bind::Session(session(host, node_session, number))
        }
        To::Until(wall) => Bind::Until(Wall(u64::from(wall))),
    };
    to.iter().map(bind).collect()
}

fn topic(of: Option<(u8, u8)>) -> Topic {
    of.map_or(Topic::Quorum, |(place, name)| Topic::Key(table(place), key(name)))
}

/// Behind the default table and the one of values written once.
const THINGS: TableId = TableId(2);

fn call(what: u8, name: u8) -> Call {
    let ask = |command| {
        let follow = what >= 128;
        Call::Ask { command, seen: u64::from(name / 4), op: None, follow }
    };
    match what % 8 {
        0 => ask(primary::Command::Get(key(name), primary::ReadLevel::Linearizable)),
        1 => ask(primary::Command::Get(key(name), primary::ReadLevel::Committed)),
        2 => ask(primary::Command::Resolve),
        3 => Call::HandOver(Some(NodeId(u16::from(name % 5)))),
        4 => Call::Force,
        5 => Call::Join(name % 2 == 0),
        _ => ask(primary::Command::Put(key(name), Value::from("v"))),
    }
}

/// The last number stands for the greatest there is.
fn number(byte: u8) -> u64 {
    if byte == u8::MAX { u64::MAX } else { u64::from(byte) }
}

fn place((reign, index): (u8, u8)) -> Place {
    Place { reign: Reign(number(reign)), index: number(index) }
}

fn said(said: Said) -> primary::Body {
    match said {
        Said::Ack(index, round) => {
            primary::Body::Ack { index: number(index), round: number(round) }
        }
        Said::Append { prev, reigns, committed } => {
            let prev = place(prev);
            let behind = (prev.index..u64::MAX).map(|index| index + 1);
            let entry = |(index, reign)| Entry {
                place: Place { reign: Reign(number(reign)), index },
                what: What::Begin,
            };
            let entries = behind.zip(reigns).map(entry).collect();
            primary::Body::Append { prev, entries, committed: number(committed), round: 0 }
        }
        Said::Hello(greeting, ends) => primary::Body::Hello {
            greeting: number(greeting),
            ends: ends.into_iter().map(place).collect(),
        },
        Said::Leave => primary::Body::Leave,
        Said::SwearOff => primary::Body::SwearOff,
        Said::Sworn(reign, index) => primary::Body::Sworn(place((reign, index))),
    }
}

fn command(ask: Ask) -> Command {
    let value = Value::from("v");
    match ask {
        Ask::CloseSession(host, node_session, number) => {
            Command::CloseSession(session(host, node_session, number))
        }
        Ask::CompareAndSet(place, name, expect, to) => Command::CompareAndSet {
            table: table(place),
            key: key(name),
            expect: expect.map_or(Expect::Absent, |byte| Expect::Value(Value::from(&[byte][..]))),
            value,
            bindings: binds(&to),
        },
        Ask::Fence(place, name) => Command::Fence { table: table(place), key: key(name) },
        Ask::Get(place, name, local) => Command::Get {
            table: table(place),
            key: key(name),
            level: if local { ReadLevel::Local } else { ReadLevel::Linearizable },
        },
        Ask::Keys(place, after, limit) => {
            Command::Keys { table: table(place), after: after.map(key), limit: u32::from(limit) }
        }
        Ask::OpenSession => Command::OpenSession,
        Ask::Primary(what, name) => Command::Primary { table: THINGS, call: call(what, name) },
        Ask::Put(place, name, to) => {
            Command::Put { table: table(place), key: key(name), value, bindings: binds(&to) }
        }
        Ask::PutIfAbsent(place, name, to) => Command::PutIfAbsent {
            table: table(place),
            key: key(name),
            value,
            bindings: binds(&to),
        },
        Ask::Remove(place, name) => {
            Command::Remove { table: table(place), key: key(name), generation: None }
        }
        Ask::Status => Command::Status,
        Ask::Subscribe(of) => Command::Subscribe(topic(of)),
        Ask::Unsubscribe(of) => Command::Unsubscribe(topic(of)),
    }
}

struct Bench {
    node: Node,
    now: Instant,
    sent: Vec<Message>,
    asked: BTreeSet<(ClientId, RequestId)>,
}

impl Bench {
    fn input(&mut self, input: Input) {
        let wall = Wall(self.now.0 / 1_000_000);
        let mut effects = Vec::new();
        self.node.handle(input, Now { instant: self.now, wall }, &mut effects);
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    assert_ne!(to, NodeId(1), "nothing is sent to oneself");
                    self.sent.push(message);
                }
                Effect::Reply { client, request, .. } => {
                    assert!(self.asked.remove(&(client, request)), "one answer to one request");
                }
                Effect::Persist { records, .. } => assert!(!records.is_empty()),
                Effect::Demonitor { .. } | Effect::Monitor { .. } | Effect::Notify { .. } => {}
            }
        }
        self.node.check_invariants().expect("invariants");
        assert!(self.node.poll_timeout().is_some(), "a node always wants to be woken");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Message { from, body } => {
                if let Ok(message) = wire::decode_body(&body) {
                    self.input(Input::Message { from: NodeId(u16::from(from % 5)), message });
                }
            }
            Step::Echo { from, which, at, with } => {
                let Some(message) = self.sent.get(usize::from(which)) else { return };
                let mut frame = Vec::new();
                wire::encode(message, &mut frame).expect("it was sent");
                let body = &mut frame[wire::HEADER..];
                let at = usize::from(at) % body.len();
                body[at] = with;
                if let Ok(message) = wire::decode_body(body) {
                    self.input(Input::Message { from: NodeId(u16::from(from % 5)), message });
                }
            }
            Step::Replica { from, reign, said: what } => {
                // In the name of whoever this node takes its peers for.
                let Some(sent) = self.sent.last() else { return };
                let message = primary::Message { reign: Reign(number(reign)), body: said(what) };
                let (table, to) = (TableName::of("things"), sent.life);
                let body = Body::Primary(Envelope { table, to, message });
                let message = Message { body, ..sent.clone() };
                self.input(Input::Message { from: NodeId(u16::from(from % 5)), message });
            }
            Step::Request { client, id, again, retry, patience, command: ask } => {
                let client = ClientId::new(u64::from(client % 3));
                let id = RequestId(u64::from(id));
                self.asked.insert((client, id));
                self.input(Input::Request(Request {
                    client,
                    id,
                    sent: if again { Sent::Again } else { Sent::First },
                    patience: Duration::from_millis(u64::from(patience)),
                    on_no_quorum: if retry { OnNoQuorum::Retry } else { OnNoQuorum::Return },
                    command: command(ask),
                }));
            }
            Step::Persisted(ticket) => {
                self.input(Input::Persisted { ticket: Ticket(u64::from(ticket)) });
            }
            Step::Down { host, node_session, number } => {
                self.input(Input::Down { session: session(host, node_session, number) });
            }
            Step::Link { peer, up } => {
                self.input(Input::Link { peer: NodeId(u16::from(peer % 5)), up });
            }
            Step::Timeout => self.input(Input::Timeout),
            Step::Wait(millis) => {
                self.now = self.now + Duration::from_millis(u64::from(millis));
                self.input(Input::Timeout);
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = Unstructured::new(bytes);
    let alone = bytes.ratio(1u8, 4u8).unwrap_or(false);
    let mut config = Config::new(NodeId(1));
    if alone {
        config.members = vec![NodeId(1)];
        config.cluster_size = 1;
    }
    config.genesis = Genesis::Vouched;
    config.tables.push(TableConfig::write_once("once"));
    config.tables.push(TableConfig::primary_table("things", Schema::default()));
    let mut bench = Bench {
        node: Node::new(config, 1).expect("possible"),
        now: Instant(1),
        sent: Vec::new(),
        asked: BTreeSet::new(),
    };
    bench.input(Input::Timeout);
    bench.input(Input::Persisted { ticket: Ticket(1) });
    while let Ok(step) = bytes.arbitrary() {
        bench.step(step);
        if bytes.is_empty() {
            break;
        }
    }
});
