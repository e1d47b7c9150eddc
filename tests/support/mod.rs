//! A cluster in one place, for tests that decide every delivery themselves.
//!
//! Messages lie in flight until the test delivers or drops them. Storage is a list of records; it
//! is durable at once unless the test holds it. Time stands still unless the test moves it.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use synod::{
    Ballot, Bind, Body, ClientId, Command, Config, Effect, Event, Expect, Genesis, Input, Instant,
    Key, Message, Node, NodeId, Now, OnNoQuorum, Outcome, ReadLevel, Readiness, Record, Refusal,
    RegisterId, Request, RequestId, Sent, SessionId, Status, TableId, Ticket, Topic, Value, Wall,
    consensus, wire,
};

pub(crate) const TABLE: TableId = TableId(0);

/// A message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

impl Flight {
    /// The first word of what it says: `Prepare`, `Accepted`, `Heartbeat`…
    pub(crate) fn kind(&self) -> String {
        let text = self.message.to_string();
        text.split(' ').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind() == kind
    }

    pub(crate) fn is_heartbeat(&self) -> bool {
        matches!(self.message.body, Body::Cluster(_))
    }

    /// Whether it is about this key of the first table.
    pub(crate) fn is_about(&self, key: &str) -> bool {
        let Body::Consensus(message) = &self.message.body else { return false };
        message.register() == Some(&register(key))
    }

    pub(crate) fn goes(&self, from: u16, to: u16) -> bool {
        self.from == NodeId(from) && self.to == NodeId(to)
    }

    /// The content, of a message about a register.
    pub(crate) const fn consensus(&self) -> Option<&consensus::Message> {
        match &self.message.body {
            Body::Consensus(message) => Some(message),
            Body::Cluster(_)
            | Body::Merged(_)
            | Body::Monitor(_)
            | Body::Passed(_)
            | Body::Primary(_)
            | Body::Remote(_) => None,
        }
    }
}

/// What becomes of a message that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Deliver,
    Lose,
    /// It waits in [`Cluster::parked`] until the test takes it out.
    Park,
}

type Rule = Box<dyn FnMut(&Flight) -> Fate>;

pub(crate) struct Machine {
    pub(crate) config: Config,
    pub(crate) node: Option<Node>,
    pub(crate) durable: Vec<Record>,
    pub(crate) writing: Vec<(Ticket, Vec<Record>)>,
    /// Whether writes stay un-synced until the test says so.
    pub(crate) slow_disk: bool,
    /// Added to the cluster's wall clock.
    pub(crate) wall_ahead: i64,
    /// How often a process was started here: no two draw the same numbers.
    starts: u64,
}

pub(crate) struct Cluster {
    pub(crate) machines: BTreeMap<NodeId, Machine>,
    pub(crate) flights: Vec<Flight>,
    pub(crate) replies: BTreeMap<(ClientId, RequestId), Outcome>,
    pub(crate) events: Vec<(ClientId, Event)>,
    pub(crate) sent: usize,
    pub(crate) now: Instant,
    pub(crate) log: Vec<String>,
    next_request: u64,
    /// Directed links that lose everything.
    pub(crate) cut: Vec<(NodeId, NodeId)>,
    /// Decides over every message when it is sent.
    rule: Option<Rule>,
    pub(crate) parked: Vec<Flight>,
    /// Sessions that the nodes want watched.
    pub(crate) monitored: BTreeSet<SessionId>,
    /// Requests given and not answered yet, and to whom.
    awaiting: BTreeSet<(NodeId, ClientId, RequestId)>,
}

/// So many cases, and no files of failures: a case that failed becomes a test of its own.
pub(crate) fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}

pub(crate) fn register(key: &str) -> RegisterId {
    RegisterId::Key(TABLE, Key::from(key))
}

pub(crate) fn config(node: u16, members: u16) -> Config {
    let mut config = Config::new(NodeId(node));
    config.members = (1..=members).map(NodeId).collect();
    config.cluster_size = members;
    config.genesis = Genesis::Vouched;
    config
}

pub(crate) fn put_if_absent(key: &str, value: &str, bindings: Vec<Bind>) -> Command {
    Command::PutIfAbsent { table: TABLE, key: Key::from(key), value: Value::from(value), bindings }
}

pub(crate) fn put(key: &str, value: &str, bindings: Vec<Bind>) -> Command {
    Command::Put { table: TABLE, key: Key::from(key), value: Value::from(value), bindings }
}

pub(crate) fn get(key: &str) -> Command {
    Command::Get { table: TABLE, key: Key::from(key), level: ReadLevel::Linearizable }
}

pub(crate) fn get_local(key: &str) -> Command {
    Command::Get { table: TABLE, key: Key::from(key), level: ReadLevel::Local }
}

pub(crate) fn remove(key: &str) -> Command {
    Command::Remove { table: TABLE, key: Key::from(key), generation: None }
}

pub(crate) fn fence(key: &str) -> Command {
    Command::Fence { table: TABLE, key: Key::from(key) }
}

pub(crate) fn compare_and_set(key: &str, expect: Expect, value: &str) -> Command {
    Command::CompareAndSet {
        table: TABLE,
        key: Key::from(key),
        expect,
        value: Value::from(value),
        bindings: vec![],
    }
}

pub(crate) fn keys(after: Option<&str>, limit: u32) -> Command {
    Command::Keys { table: TABLE, after: after.map(Key::from), limit }
}

pub(crate) fn bound_to_key(key: &str) -> Bind {
    Bind::Key { table: TABLE, key: Key::from(key) }
}

pub(crate) fn topic(key: &str) -> Topic {
    Topic::Key(TABLE, Key::from(key))
}

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) const fn won(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Chosen { won: true, .. })
}

pub(crate) const fn lost(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Chosen { won: false, .. })
}

pub(crate) const fn is_invalid_binding(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal::InvalidBinding(_)))
}

pub(crate) const NO_QUORUM: Outcome = Outcome::Refused(Refusal::NoQuorum);

/// The life and the last change of what an answer shows.
pub(crate) fn lives(outcome: &Outcome) -> Option<(Ballot, Ballot)> {
    outcome.entry().map(|entry| (entry.generation, entry.version))
}

/// The value that an answer shows, if it shows one.
pub(crate) fn value(outcome: &Outcome) -> Option<String> {
    let entry = outcome.entry()?;
    Some(entry.value.to_string())
}

impl Cluster {
    /// A cluster of new nodes that trust each other's storage, all started and settled.
    pub(crate) fn new(members: u16) -> Self {
        let mut cluster = Self::unstarted((1..=members).map(|node| config(node, members)));
        for node in 1..=members {
            cluster.start(node);
        }
        cluster.run(Duration::from_secs(2));
        cluster
    }

    /// The same, with a configuration that the test has its say in.
    pub(crate) fn with(members: u16, change: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self::unstarted((1..=members).map(|node| {
            let mut config = config(node, members);
            change(&mut config);
            config
        }));
        for node in 1..=members {
            cluster.start(node);
        }
        cluster.run(Duration::from_secs(2));
        cluster
    }

    pub(crate) fn unstarted(configs: impl IntoIterator<Item = Config>) -> Self {
        let machines = configs.into_iter().map(|config| {
            let machine = Machine {
                config: config.clone(),
                node: None,
                durable: Vec::new(),
                writing: Vec::new(),
                slow_disk: false,
                wall_ahead: 0,
                starts: 0,
            };
            (config.node, machine)
        });
        Self {
            machines: machines.collect(),
            flights: Vec::new(),
            replies: BTreeMap::new(),
            events: Vec::new(),
            sent: 0,
            now: Instant(1_000_000_000),
            log: Vec::new(),
            next_request: 0,
            cut: Vec::new(),
            rule: None,
            parked: Vec::new(),
            monitored: BTreeSet::new(),
            awaiting: BTreeSet::new(),
        }
    }

    pub(crate) fn machine(&mut self, node: u16) -> &mut Machine {
        self.machines.get_mut(&NodeId(node)).expect("a member")
    }

    pub(crate) fn node(&self, node: u16) -> &Node {
        self.machines[&NodeId(node)].node.as_ref().expect("running")
    }

    /// Starts a node from what its disk holds.
    pub(crate) fn start(&mut self, node: u16) {
        let machine = self.machine(node);
        let (config, records) = (machine.config.clone(), machine.durable.clone());
        machine.starts += 1;
        let seed = u64::from(node) + machine.starts * 1_000;
        machine.node = Some(if records.is_empty() {
            Node::new(config, seed).expect("possible")
        } else {
            Node::recover(config, seed, records).expect("its own log")
        });
        self.input(node, Input::Timeout);
    }

    /// Stops a node where it stands; what was not synced is lost.
    pub(crate) fn crash(&mut self, node: u16) {
        let machine = self.machine(node);
        machine.node = None;
        machine.writing.clear();
        self.awaiting.retain(|(asked, ..)| *asked != NodeId(node));
    }

    pub(crate) fn restart(&mut self, node: u16) {
        self.crash(node);
        self.start(node);
    }

    /// Loses a node's disk.
    pub(crate) fn wipe(&mut self, node: u16) {
        self.crash(node);
        self.machine(node).durable.clear();
    }

    pub(crate) fn input(&mut self, node: u16, input: Input) {
        let id = NodeId(node);
        let instant = self.now;
        let machine = self.machines.get_mut(&id).expect("a member");
        let Some(engine) = machine.node.as_mut() else {
            return;
        };
        let wall = 1_000_000 + (instant.0 / 1_000_000) as i64 + machine.wall_ahead;
        let now = Now { instant, wall: Wall(u64::try_from(wall).expect("after 1970")) };
        let mut effects = Vec::new();
        engine.handle(input, now, &mut effects);
        engine.check_invariants().expect("invariants");
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, node: NodeId, effect: Effect) {
        match effect {
            Effect::Send { to, message } => {
                self.sent += 1;
                self.log.push(format!("{}->{} {message}", node.0, to.0));
                if self.cut.contains(&(node, to)) {
                    return;
                }
                let flight = Flight { from: node, to, message };
                match self.rule.as_mut().map_or(Fate::Deliver, |rule| rule(&flight)) {
                    Fate::Deliver => self.flights.push(flight),
                    Fate::Lose => {}
                    Fate::Park => self.parked.push(flight),
                }
            }
            Effect::Persist { ticket, records } => {
                let machine = self.machine(node.0);
                machine.writing.push((ticket, records));
                if !machine.slow_disk {
                    self.sync(node.0);
                }
            }
            Effect::Reply { client, request, outcome } => {
                self.log.push(format!("{}: {client}.{request} {outcome}", node.0));
                let awaited = self.awaiting.remove(&(node, client, request));
                assert!(awaited, "A-16: one answer to one request: {client}.{request} {outcome}");
                self.replies.insert((client, request), outcome);
            }
            Effect::Notify { client, event } => {
                self.log.push(format!("{}: {client} told {event}", node.0));
                self.events.push((client, event));
            }
            Effect::Monitor { session, .. } => {
                assert!(self.monitored.insert(session), "{session} is watched once");
            }
            Effect::Demonitor { session } => {
                self.monitored.remove(&session);
            }
        }
    }

    /// Makes durable what the node has written so far.
    pub(crate) fn sync(&mut self, node: u16) {
        let machine = self.machine(node);
        let Some(&(ticket, _)) = machine.writing.last() else {
            return;
        };
        for (_, records) in std::mem::take(&mut machine.writing) {
            machine.durable.extend(records);
        }
        self.input(node, Input::Persisted { ticket });
    }

    /// Gives a client's request to a node; the answer comes to [`Self::replies`].
    pub(crate) fn ask_as(
        &mut self,
        node: u16,
        client: u64,
        request: u64,
        sent: Sent,
        command: Command,
    ) -> (ClientId, RequestId) {
        let (client, id) = (ClientId::new(client), RequestId(request));
        self.give(node, client, id, sent, OnNoQuorum::Return, Duration::from_secs(5), command);
        (client, id)
    }

    #[expect(clippy::too_many_arguments, reason = "a request has that many parts")]
    pub(crate) fn give(
        &mut self,
        node: u16,
        client: ClientId,
        id: RequestId,
        sent: Sent,
        on_no_quorum: OnNoQuorum,
        patience: Duration,
        command: Command,
    ) {
        let request = Request { client, id, sent, patience, on_no_quorum, command };
        self.replies.remove(&(client, id));
        self.awaiting.insert((NodeId(node), client, id));
        self.input(node, Input::Request(request));
    }

    /// The same as a client of its own.
    pub(crate) fn ask(&mut self, node: u16, command: Command) -> (ClientId, RequestId) {
        self.next_request += 1;
        self.ask_as(node, 100, 1_000 + self.next_request, Sent::First, command)
    }

    /// The same with a patience and a wish of its own about quorums.
    pub(crate) fn ask_with(
        &mut self,
        node: u16,
        on_no_quorum: OnNoQuorum,
        patience: Duration,
        command: Command,
    ) -> (ClientId, RequestId) {
        self.next_request += 1;
        let (client, id) = (ClientId::new(100), RequestId(1_000 + self.next_request));
        self.give(node, client, id, Sent::First, on_no_quorum, patience, command);
        (client, id)
    }

    /// Asks as a numbered client's numbered request, and runs the cluster until it is answered.
    pub(crate) fn call_as(
        &mut self,
        node: u16,
        client: u64,
        request: u64,
        sent: Sent,
        command: Command,
    ) -> Outcome {
        let asked = self.ask_as(node, client, request, sent, command);
        self.answer(asked)
    }

    /// What has been answered so far.
    pub(crate) fn answered(&self, asked: (ClientId, RequestId)) -> Option<&Outcome> {
        self.replies.get(&asked)
    }

    /// Asks what needs nobody else; the answer must be there at once.
    pub(crate) fn at_once(&mut self, node: u16, command: Command) -> Outcome {
        let what = command.to_string();
        let asked = self.ask(node, command);
        self.replies.get(&asked).unwrap_or_else(|| panic!("{what}: no answer at once")).clone()
    }

    pub(crate) fn status(&mut self, node: u16) -> Status {
        let answer = self.at_once(node, Command::Status);
        let Outcome::Status(status) = answer else { panic!("no status: {answer}") };
        status
    }

    pub(crate) fn readiness(&self, node: u16) -> Readiness {
        self.node(node).readiness().clone()
    }

    /// Subscribes a numbered client; what it is told is found by [`Self::told`].
    pub(crate) fn subscribe(&mut self, node: u16, client: u64, topic: Topic) {
        self.next_request += 1;
        let request = 1_000 + self.next_request;
        let asked = self.ask_as(node, client, request, Sent::First, Command::Subscribe(topic));
        assert_eq!(self.replies[&asked], Outcome::Done);
    }

    pub(crate) fn unsubscribe(&mut self, node: u16, client: u64, topic: Topic) {
        self.next_request += 1;
        let request = 1_000 + self.next_request;
        let asked = self.ask_as(node, client, request, Sent::First, Command::Unsubscribe(topic));
        assert_eq!(self.replies[&asked], Outcome::Done);
    }

    /// What a client has been told, in order.
    pub(crate) fn told(&self, client: u64) -> Vec<Event> {
        let mine = self.events.iter().filter(|(whom, _)| *whom == ClientId::new(client));
        mine.map(|(_, event)| event.clone()).collect()
    }

    /// Decides over every message from now on when it is sent.
    pub(crate) fn rule(&mut self, rule: impl FnMut(&Flight) -> Fate + 'static) {
        self.rule = Some(Box::new(rule));
    }

    pub(crate) fn no_rule(&mut self) {
        self.rule = None;
    }

    /// Puts what was parked into flight again, behind everything else.
    pub(crate) fn unpark(&mut self) {
        let parked = std::mem::take(&mut self.parked);
        self.flights.extend(parked);
    }

    /// Loses what satisfies `wanted` of what is in flight now.
    pub(crate) fn lose(&mut self, mut wanted: impl FnMut(&Flight) -> bool) -> usize {
        let before = self.flights.len();
        self.flights.retain(|flight| !wanted(flight));
        before - self.flights.len()
    }

    /// What a true wall clock shows, in milliseconds.
    pub(crate) const fn wall(&self) -> u64 {
        1_000_000 + self.now.0 / 1_000_000
    }

    /// What a node holds of a key: promised, accepted, and what that is.
    pub(crate) fn held(&self, node: u16, key: &str) -> Option<(Ballot, Ballot, Option<String>)> {
        let id = register(key);
        let mut registers = self.node(node).registers();
        let (_, promised, accepted, cell) = registers.find(|(register, ..)| **register == id)?;
        Some((promised, accepted, cell.map(ToString::to_string)))
    }

    /// Everything a node's acceptors hold, as text.
    pub(crate) fn holdings(&self, node: u16) -> Vec<String> {
        let registers = self.node(node).registers();
        registers
            .map(|(register, promised, accepted, cell)| {
                let cell = cell.map(ToString::to_string).unwrap_or_default();
                format!("{register} {promised} {accepted} {cell}")
            })
            .collect()
    }

    /// The lines of the conversation about one key, without heartbeats.
    pub(crate) fn lines_about(&self, key: &str) -> Vec<&String> {
        let name = format!(" {TABLE}/{key} ");
        self.log.iter().filter(|line| format!("{line} ").contains(&name)).collect()
    }

    /// Asks, and runs the cluster until the answer is there.
    pub(crate) fn call(&mut self, node: u16, command: Command) -> Outcome {
        let asked = self.ask(node, command);
        self.answer(asked)
    }

    pub(crate) fn answer(&mut self, asked: (ClientId, RequestId)) -> Outcome {
        for _ in 0..2_000 {
            if let Some(outcome) = self.replies.get(&asked) {
                return outcome.clone();
            }
            self.step(Duration::from_millis(10));
        }
        panic!("no answer to {}.{}:\n{}", asked.0, asked.1, self.log.join("\n"));
    }

    /// Leaves a write accepted by `holders` only, and its proposer crashed: it had been promised a
    /// quorum, and nobody was told how it ended.
    pub(crate) fn leave_unfinished(&mut self, proposer: u16, holders: &[u16], command: Command) {
        let wanted: Vec<NodeId> = holders.iter().map(|holder| NodeId(*holder)).collect();
        self.rule(move |flight| {
            let lost = flight.is("Accepted") || flight.is("Accept") && !wanted.contains(&flight.to);
            if lost { Fate::Lose } else { Fate::Deliver }
        });
        // What the proposer has accepted itself is lost with what it has not synced.
        self.machine(proposer).slow_disk = !holders.contains(&proposer);
        let asked = self.ask(proposer, command);
        self.deliver_all();
        assert_eq!(self.answered(asked), None, "unfinished");
        self.crash(proposer);
        self.machine(proposer).slow_disk = false;
        self.no_rule();
    }

    pub(crate) fn open_session(&mut self, node: u16) -> SessionId {
        let outcome = self.call(node, Command::OpenSession);
        let Outcome::Session(session) = outcome else { panic!("no session: {outcome}") };
        session
    }

    /// Delivers everything in flight, and what that causes, until nothing is.
    pub(crate) fn deliver_all(&mut self) {
        let begun = self.sent;
        while !self.flights.is_empty() {
            let last = &self.log[self.log.len().saturating_sub(40)..];
            assert!(self.sent < begun + 100_000, "no end of talk:\n{}", last.join("\n"));
            let Flight { from, to, message } = self.flights.remove(0);
            if !self.cut.contains(&(from, to)) {
                self.input(to.0, Input::Message { from, message });
            }
        }
    }

    /// Delivers everything by way of bytes, as a wire does.
    pub(crate) fn deliver_encoded(&mut self) {
        while !self.flights.is_empty() {
            let Flight { from, to, message } = self.flights.remove(0);
            let mut bytes = Vec::new();
            wire::encode(&message, &mut bytes).expect("fits a frame");
            let (decoded, used) = wire::decode::<Message>(&bytes).expect("a frame");
            assert_eq!((&decoded, used), (&message, bytes.len()));
            self.input(to.0, Input::Message { from, message: decoded });
        }
    }

    /// Delivers what satisfies `wanted` of what is in flight now; the rest stays.
    pub(crate) fn deliver(&mut self, mut wanted: impl FnMut(&Flight) -> bool) -> usize {
        let (now, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flights).into_iter().partition(|flight| wanted(flight));
        self.flights = later;
        let count = now.len();
        for Flight { from, to, message } in now {
            self.input(to.0, Input::Message { from, message });
        }
        count
    }

    /// Moves time on by `wait`, waking whoever wants to be woken, then delivers everything.
    pub(crate) fn step(&mut self, wait: Duration) {
        self.now = self.now + wait;
        self.fire_timers();
        self.deliver_all();
    }

    pub(crate) fn fire_timers(&mut self) {
        let nodes: Vec<u16> = self.machines.keys().map(|node| node.0).collect();
        for node in nodes {
            let due = |cluster: &Self| {
                let engine = cluster.machines[&NodeId(node)].node.as_ref();
                engine.and_then(Node::poll_timeout).is_some_and(|at| at <= cluster.now)
            };
            for _ in 0..100 {
                if !due(self) {
                    break;
                }
                self.input(node, Input::Timeout);
            }
            assert!(!due(self), "node {node} wants to be woken for ever");
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(Duration::from_millis(10));
        }
    }

    /// Cuts every link between the two sides, both ways, also for what is in flight.
    pub(crate) fn split(&mut self, one: &[u16], other: &[u16]) {
        for &a in one {
            for &b in other {
                self.cut.push((NodeId(a), NodeId(b)));
                self.cut.push((NodeId(b), NodeId(a)));
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }
}
