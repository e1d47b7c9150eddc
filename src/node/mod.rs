//! The composition: one node as a value. Inputs in, effects out.
//!
//! [`Node::handle`] is total: it never fails and never panics, whatever it is given. What is wrong
//! with bytes is found at the wire, what is wrong with a request is an answer, and what is wrong
//! with us is an assertion.
//!
//! Must never know: sockets, files, clocks, threads, bytes.

mod acceptors;
mod agreed;
mod burials;
mod catalogue;
mod config;
mod copies;
mod inquiries;
mod invariants;
mod learner;
mod listings;
mod membership;
mod monitors;
mod operations;
mod pulls;
mod reads;
mod recovery;
mod replicas;
mod requests;
mod resolving;
mod seam;
mod timers;
mod turns;
mod writes;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use config::{
    Config, ConfigError, Discipline, Genesis, Impossible, Limits, TableConfig, Timing,
};
pub use invariants::Violation;
pub use recovery::{Foreign, RecoverError};
pub use seam::{Body, Effect, Effects, Ending, Event, Input, MergeEvent, Message, Record};

use crate::base::{
    ClientId, Epoch, Incarnation, Instant, Life, NodeId, Now, OpId, Random, RegisterId, RequestId,
    SessionId, Ticket,
};
use crate::cluster::{self, Reach, Witnesses};
use crate::consensus::{self, Cell, Operation, Outcome, Readiness, Registers, Tag, Topic};
use crate::monitor::{Index, Sessions, Silence, Target};
use crate::paxos::{Ballot, Members};
use agreed::Agreed;
use catalogue::Catalogue;
use copies::Copies;
use replicas::Replicas;
use timers::{Timer, Timers};
use turns::Turns;

/// One member of a cluster.
///
/// Its methods come in three classes:
///
/// - **make**: [`Node::new`] for storage never used, [`Node::recover`] for storage that holds
///   records, [`Node::lost`] for storage known to have lost some;
/// - **step**: [`Node::handle`], then carry out the effects *in order*, then
///   [`Node::poll_timeout`] and wake the node with [`Input::Timeout`] no later than that;
/// - **look**: everything else. Looking changes nothing.
///
/// A made node does nothing until its first input; give it [`Input::Timeout`] to start.
///
/// Every [`Effect::Send`] and [`Effect::Reply`] is safe to carry out at once: what must be durable
/// first is withheld here until [`Input::Persisted`] says so. A host without a disk answers
/// [`Effect::Persist`] at once.
///
/// The node is deterministic: the same configuration, seed, records and inputs give the same
/// effects, on every machine.
#[derive(Debug)]
pub struct Node {
    config: Config,
    members: Members,
    /// Where this node stands in the list of members.
    me: usize,
    epoch: Epoch,
    life: Life,
    incarnation: Incarnation,
    readiness: Readiness,
    random: Random,
    now: Now,
    started: bool,
    timers: Timers,

    registers: Registers,
    /// Which registers are bound to what, of everything accepted here.
    index: Index,
    reach: Reach,
    witnesses: Witnesses,
    silence: Silence,
    sessions: Sessions,

    operations: BTreeMap<u64, Operation>,
    operation_next: u64,
    requests: BTreeMap<OpId, u64>,
    /// Proposing operations of this node by register: two of one node need not race each other.
    proposing: BTreeMap<RegisterId, Turns>,
    round: u64,

    /// Who inquires into which remote session.
    inquiries: BTreeSet<(SessionId, u64)>,
    monitors: Monitors,
    subscriptions: BTreeSet<(Topic, ClientId)>,

    /// Records of the step in progress.
    records: Vec<Record>,
    /// The ticket that they will have.
    ticket: Ticket,
    persisted: Ticket,
    /// Nothing leaves the node before this: the record of its incarnation.
    started_ticket: Ticket,
    /// Before this is durable, this node has not taken note of whom it says it has.
    witnessed_ticket: Ticket,
    /// When the record that this node votes is on its way: its ticket.
    activating: Option<Ticket>,
    outbox: BTreeMap<Ticket, Vec<Held>>,
    /// How many messages are in the outbox.
    held: usize,
    /// Messages from this node's roles to each other: they never leave it.
    local: VecDeque<consensus::Message>,
    /// This node's copies of merged tables.
    copies: Copies,
    /// Those made while it runs.
    catalogue: Catalogue,
    /// This node's replicas of primary tables.
    replicas: Replicas,
    /// The list of those made while nodes run.
    agreed: Agreed,
}

/// What waits for a ticket.
#[derive(Debug)]
enum Held {
    Reply(OpId, Outcome),
    Send(NodeId, Message),
    Local(consensus::Message),
}

/// What the sweep keeps between two rounds.
#[derive(Debug, Default)]
struct Monitors {
    /// Where the sweep goes on.
    cursor: Option<Target>,
    /// Registers whose entry may have to be erased, and since when that is known: others may do it
    /// before this node has to.
    suspects: BTreeMap<RegisterId, Instant>,
    /// Burials of this node's own under way.
    burials: BTreeSet<RegisterId>,
    /// Node sessions that this node is trying to close.
    closings: BTreeSet<NodeId>,
    /// Remote sessions that their host has said have ended, while anything is bound to them here.
    ended: BTreeSet<SessionId>,
    /// When keys that something is bound to or that are watched were last looked at, where that
    /// goes on among each, and which came first.
    looked: Instant,
    parent: Option<Target>,
    watched: Option<(Topic, ClientId)>,
    watched_first: bool,
    /// Registers that this node is looking at for itself.
    lookings: BTreeSet<RegisterId>,
    /// Whether an operation on this node's own session is under way.
    session_operation: bool,
    /// Numbers this node's own operations.
    requests: u64,
}

/// How many messages may wait for the disk. Answers to clients are not counted among them: they
/// are bounded by [`Limits::requests_max`], and must not be lost.
const HELD_MAX: usize = 1 << 16;

/// How often, relative to a round of messages, ranks take their turn.
const TURN_ROUNDS: u32 = 3;

impl Node {
    /// The node's storage life (`A0`): drawn when its storage was made.
    #[must_use]
    pub const fn life(&self) -> Life {
        self.life
    }

    /// The node's process life.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The configuration it was made with; behind its tables those made since. One that was dropped
    /// keeps its place, without a name.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the node votes and serves, and if not, why (P-33).
    #[must_use]
    pub const fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The registers kept here in order: what is promised, what is accepted, and what that is.
    pub fn registers(
        &self,
    ) -> impl Iterator<Item = (&RegisterId, Ballot, Ballot, Option<&Arc<Cell>>)> {
        self.registers.iter().map(|(register, record)| {
            let floor = self.registers.floor(register);
            let acceptor = record.acceptor();
            let (promised, accepted) =
                (acceptor.promised(&floor), acceptor.accepted_ballot(&floor));
            (register, promised, accepted, acceptor.content())
        })
    }

    /// When the node next wants [`Input::Timeout`]. Never `None` once started.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.started { self.timers.next() } else { Some(self.now.instant) }
    }

    /// Takes one step: the only way in.
    ///
    /// `now` must come from this node's own clocks; an `instant` that goes backwards is taken for
    /// the latest one seen. Effects are appended to `effects` in the order in which they must be
    /// carried out.
    pub fn handle(&mut self, input: Input, now: Now, effects: &mut Effects) {
        self.advance(now, effects);
        match input {
            Input::Down { session } => self.on_down(session, effects),
            Input::Link { peer, up } => self.on_link(peer, up, effects),
            Input::Message { from, message } => self.on_message(from, message, effects),
            Input::Persisted { ticket } => self.on_persisted(ticket, effects),
            Input::Request(request) => self.on_request(request, effects),
            Input::Timeout => self.on_timeout(effects),
        }
        while let Some(message) = self.local.pop_front() {
            self.on_consensus(self.me, message, effects);
        }
        self.persist(effects);
    }

    /// Moves this node's idea of now, and sees to what depends on its having moved.
    fn advance(&mut self, now: Now, effects: &mut Effects) {
        let before = self.now.instant;
        self.now = Now { instant: now.instant.max(before), wall: now.wall };
        if !self.started {
            self.started = true;
            self.start(effects);
        } else if self.now.instant.since(before) > self.config.timing.down / 2 {
            // We were not running. Silence that we slept through accuses nobody (M1).
            self.silence.reset(self.now.instant);
        }
        self.watch_own_session(effects);
    }

    /// Begins the life that the constructor prepared.
    fn start(&mut self, effects: &mut Effects) {
        let now = self.now.instant;
        self.silence.reset(now);
        self.reach.start(self.incarnation);
        self.started_ticket = self.ticket;
        self.timers.set(Timer::Heartbeat, now);
        self.timers.set(Timer::Sweep, now + self.config.timing.sweep);
        self.start_replicas();
        self.update_reach(effects);
        self.tell_whom_it_awaits();
        self.read_catalogue(effects);
    }

    fn on_timeout(&mut self, effects: &mut Effects) {
        let now = self.now.instant;
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Answer(op) => {
                    self.on_answer_timer(op, effects);
                    self.on_change_timer(op, effects);
                    self.on_wish_timer(op, effects);
                }
                Timer::Ask(number) => self.on_ask_timer(number, effects),
                Timer::Copies => self.on_copies_timer(effects),
                Timer::Pulls => self.on_pulls_timer(effects),
                Timer::Heartbeat => self.on_heartbeat_timer(effects),
                Timer::Sweep => self.on_sweep_timer(effects),
                Timer::Operation(number) => self.on_operation_timer(number, effects),
                Timer::Errand(number) => self.on_errand_timer(number, effects),
                Timer::Replica(table) => self.on_replica_timer(table, effects),
            }
        }
    }

    fn on_persisted(&mut self, ticket: Ticket, effects: &mut Effects) {
        // A ticket not given out yet cannot be durable: a host's mistake must not release it.
        let ticket = ticket.min(Ticket(self.ticket.0 - 1));
        if ticket <= self.persisted {
            return;
        }
        self.persisted = ticket;
        if self.activating.is_some_and(|activating| activating <= ticket) {
            self.activating = None;
            self.activate(effects);
        }
        while self.outbox.first_key_value().is_some_and(|(first, _)| *first <= ticket) {
            let Some((ticket, held)) = self.outbox.pop_first() else {
                break;
            };
            self.held -= held.len();
            for held in held {
                match held {
                    Held::Reply(op, outcome) => self.release(op, outcome, ticket, effects),
                    Held::Send(to, message) => effects.push(Effect::Send { to, message }),
                    Held::Local(message) => self.local.push_back(message),
                }
            }
        }
        self.on_replicas_persisted(effects);
    }

    /// Hands the step's records to the host.
    fn persist(&mut self, effects: &mut Effects) {
        if self.records.is_empty() {
            return;
        }
        let records = core::mem::take(&mut self.records);
        effects.push(Effect::Persist { ticket: self.ticket, records });
        self.ticket.0 += 1;
    }

    /// Adds a record to the step's; returns the ticket that will make it durable.
    fn log(&mut self, record: Record) -> Ticket {
        self.records.push(record);
        self.ticket
    }

    #[inline]
    fn envelope(&self, body: Body) -> Message {
        Message {
            cluster: self.config.cluster,
            epoch: self.epoch,
            life: self.life,
            incarnation: self.incarnation,
            body,
        }
    }

    /// Sends once everything up to `after` is durable.
    ///
    /// What waits is bounded: while a disk stands still, peers keep repeating themselves. What is
    /// dropped then is like a message lost.
    #[inline]
    fn send(&mut self, to: usize, body: Body, after: Ticket, effects: &mut Effects) {
        debug_assert_ne!(to, self.me);
        let message = self.envelope(body);
        let to = self.members.nodes()[to];
        let after = after.max(self.started_ticket);
        if after <= self.persisted {
            effects.push(Effect::Send { to, message });
        } else {
            self.hold(after, Held::Send(to, message));
        }
    }

    fn hold(&mut self, after: Ticket, held: Held) {
        if self.held < HELD_MAX {
            self.held += 1;
            self.outbox.entry(after).or_default().push(held);
        }
    }

    /// Sends about a register, to a peer or to this node's own roles.
    fn tell(
        &mut self,
        to: usize,
        message: consensus::Message,
        after: Ticket,
        effects: &mut Effects,
    ) {
        if to != self.me {
            return self.send(to, Body::Consensus(message), after, effects);
        }
        let after = after.max(self.started_ticket);
        if after <= self.persisted {
            self.local.push_back(message);
        } else {
            self.hold(after, Held::Local(message));
        }
    }

    /// Tells every member, this node included.
    fn tell_all(&mut self, message: consensus::Message, effects: &mut Effects) {
        let last = self.members.nodes().len() - 1;
        for member in 0..last {
            self.tell(member, message.clone(), Ticket(0), effects);
        }
        self.tell(last, message, Ticket(0), effects);
    }

    /// A0: what is not for this node, or not from whom it says, changes nothing.
    fn on_message(&mut self, from: NodeId, message: Message, effects: &mut Effects) {
        let Some(sender) = self.members.index(from) else {
            return;
        };
        if sender == self.me
            || message.cluster != self.config.cluster
            || message.epoch != self.epoch
        {
            return;
        }
        let known = self.witnesses.life(sender);
        if known.is_some_and(|known| known != message.life) {
            // The sender's storage is not the one that this cluster knows: it has lost what it
            // promised. It is told so, and nothing it says counts.
            if let Body::Cluster(heartbeat) = message.body {
                self.answer_heartbeat(sender, message.life, &heartbeat, effects);
            }
            return;
        }
        if let Body::Cluster(cluster::Message::Heartbeat { lost, .. }) = message.body {
            self.silence.set_lost(sender, lost);
        }
        if known.is_some() {
            self.silence.hear(sender, self.now.instant);
            self.hear_life(sender, message.incarnation);
        }
        match message.body {
            Body::Cluster(cluster) => self.on_cluster(sender, message.life, cluster, effects),
            Body::Consensus(message) => self.on_consensus(sender, message, effects),
            Body::Merged(merged) => self.on_merged(sender, message.life, merged, effects),
            Body::Monitor(message) => self.on_monitor(sender, message, effects),
            Body::Passed(passed) => self.on_passed(sender, message.life, passed, effects),
            Body::Primary(envelope) => self.on_primary(sender, message.life, envelope, effects),
            Body::Remote(remote) => self.on_remote(sender, remote, effects),
        }
    }

    /// The operation that waits here for the answer to a message with this tag.
    fn asker(&mut self, tag: Tag) -> Option<&mut Operation> {
        if tag.incarnation != self.incarnation {
            return None;
        }
        let operation = self.operations.get_mut(&tag.operation)?;
        (operation.attempt == tag.attempt).then_some(operation)
    }

    /// The same, if it is `register` that it asked about.
    fn asker_about(&mut self, tag: Tag, register: &RegisterId) -> Option<&mut Operation> {
        self.asker(tag).filter(|operation| operation.register == *register)
    }

    /// The number of a new operation of this node's own.
    fn own_op(&mut self) -> OpId {
        self.monitors.requests += 1;
        OpId {
            client: ClientId::internal(self.members.nodes()[self.me], self.incarnation),
            request: RequestId(self.monitors.requests),
        }
    }

    /// The places of all members but this node.
    fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.me;
        (0..self.members.nodes().len()).filter(move |&member| member != me)
    }

    const fn quorum(&self) -> u32 {
        self.members.quorum()
    }

    fn is_ready(&self) -> bool {
        self.readiness == Readiness::Ready
    }

    /// This node's turn among the members for work that one of them must do: 0 is first.
    fn rank(&self, key: u64) -> u32 {
        let count = self.members.nodes().len();
        let first = (key % count as u64) as usize;
        ((self.me + count - first) % count) as u32
    }

    fn notify(&self, topic: &Topic, event: &Event, effects: &mut Effects) {
        for client in self.subscribers(topic) {
            effects.push(Effect::Notify { client, event: event.clone() });
        }
    }

    fn subscribers(&self, topic: &Topic) -> impl Iterator<Item = ClientId> {
        let first = (topic.clone(), ClientId::new(0));
        let of_topic = self.subscriptions.range(first..).take_while(move |(of, _)| of == topic);
        of_topic.map(|(_, client)| *client)
    }
}
