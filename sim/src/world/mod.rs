//! The World rig: one virtual clock, nodes with disks and clocks of their own, a network of
//! directed links, clients; driven by latencies or by choices.
//!
//! A run is single-threaded and shares nothing with any other. It reads no clock, draws nothing but
//! keyed draws and choices, and iterates over nothing whose order is not given. `docs/SIMULATION.md`
//! tells how a run goes.
//!
//! Must never know: how the engine works inside; it speaks to it through its seam.

mod client;
mod clock;
mod disk;
mod faults;
#[cfg_attr(madsim, allow(dead_code, reason = "hosts choose the order of steps themselves"))]
mod free;
mod liveness;
mod made;
mod merged;
mod network;
mod primary;
mod queue;
mod recorder;
mod report;
mod resolvers;
#[cfg(madsim)]
mod stack;

#[cfg(not(madsim))]
pub use free::run_free;
pub use report::{
    Blind, Event, EventKind, Failure, FailureKind, Observer, Outcomes, Report, Verdict,
};

use std::fmt;
use std::hash::Hash;

use synod::{
    Body, ClientId, Config, Effect, Effects, Input, Instant, Message, Node, NodeId, Now, Record,
    RecoverError, RequestId, SessionId,
};
use synod::{cluster, consensus};

use crate::marks::{Mark, Marks};
use crate::oracle::{Echo, Oracle, node_of, op};
#[cfg(not(madsim))]
use crate::plan::Mode;
use crate::plan::{FaultKind, Nanos, Plan};
use crate::random::{Site, below, chance, draw};
use crate::trace::TraceHash;
use client::Client;
pub(crate) use clock::Clock;
use disk::Disk;
use faults::Active;
use network::{Flight, Network};
use queue::{Queue, Task};
use recorder::Recorder;

/// The client that listens to each node's quorum events: this and the node's number.
const WATCHER: u64 = 1_000;
/// The client that probes at the end.
const PROBER: u64 = 2_000;
/// The first of the clients that resolve conflicts.
const RESOLVER: u64 = 3_000;

/// Of a million starts, how many find the records of replicas folded.
const FOLDED: u32 = 500_000;

/// How many events lie between two times that the oracles forget what is long past.
const FORGET_EVERY: u64 = 1 << 16;

/// Runs a plan.
///
/// Deterministic: the same plan gives the same report, whatever ran before and wherever.
pub fn run(plan: &Plan, observer: &mut dyn Observer) -> Report {
    if let Err(error) = plan.check() {
        return Report::of_impossible(&error, observer);
    }
    #[cfg(madsim)]
    return stack::run(plan, observer);
    #[cfg(not(madsim))]
    match plan.mode {
        Mode::Timed => World::new(plan, observer).run(),
        Mode::Free => {
            let mut chooser = crate::chooser::Recorded::new(&plan.choices);
            run_free(plan, &mut chooser, observer)
        }
    }
}

/// One life of a node: in this rig the node itself.
#[cfg(not(madsim))]
type Process = Node;
#[cfg(madsim)]
use crate::stack::Process;

/// One node and what it runs on.
struct Host {
    node: Option<Process>,
    config: Config,
    boots: u32,
    /// How many faults hold it down; it is restarted when the last one ends.
    held: u32,
    /// How many faults hold it still.
    paused: u32,
    /// Since when, on its monotonic clock.
    paused_at: Nanos,
    /// Whether it is down for the rest of the run.
    gone: bool,
    /// Whether its storage is found damaged when it starts next.
    rotten: bool,
    /// Whether its storage was ever destroyed.
    wiped: bool,
    /// What arrived while it stood still.
    inbox: Vec<(Input, Option<Echo>)>,
    disk: Disk,
    clock: Clock,
    /// When its timer task is due; `None` if there is none.
    timer: Option<Nanos>,
    /// The client sessions that it watches.
    monitored: Vec<(SessionId, ClientId)>,
    /// What applications do about conflicts, for each table that has a resolver.
    resolving: Vec<resolvers::Resolving>,
    /// Requests given to this process life and not answered.
    asked: Vec<(ClientId, RequestId)>,
    /// Whether the tail of its log was torn by the last crash.
    torn: bool,
    /// A crash that waits for the middle of a write: what its draws are keyed by.
    armed: Option<u64>,
}

/// A message that a node has given away: to whose place, about which register of the plan.
struct Sent {
    target: usize,
    slot: Option<usize>,
    number: u64,
}

/// A run.
struct World<'a> {
    plan: &'a Plan,
    observer: &'a mut dyn Observer,
    watching: bool,
    now: Nanos,
    step: u64,
    queue: Queue,
    network: Network,
    hosts: Vec<Host>,
    clients: Vec<Client>,
    active: Active,
    oracle: Oracle,
    recorder: Recorder,
    trace: TraceHash,
    marks: Marks,
    acted: [u64; FaultKind::ALL.len()],
    outcomes: Outcomes,
    operations: u64,
    deliveries: u64,
    messages: u64,
    /// Messages sent on each link about each register: the counters of their draws.
    counters: Vec<u32>,
    /// Buffers of effects; one for each handling under way.
    effects: Vec<Effects>,
    failure: Option<Failure>,
    liveness: liveness::Liveness,
    /// How often nodes were told to merge.
    orders: u64,
    /// In free mode, what could happen next instead of a queue.
    free: Option<free::Pool>,
    /// What hosts share with the World.
    #[cfg(madsim)]
    stack: stack::Stack,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, observer: &'a mut dyn Observer) -> Self {
        let nodes = usize::from(plan.cluster.nodes);
        let oracle = Oracle::new(plan);
        let links = nodes * nodes * (oracle.slots() + 1);
        let watching = observer.is_watching();
        let hosts = (0..nodes).map(|place| Host::new(plan, place)).collect();
        Self {
            plan,
            observer,
            watching,
            now: 0,
            step: 0,
            queue: Queue::default(),
            network: Network::new(nodes),
            hosts,
            clients: Client::all(plan),
            active: Active::new(plan),
            oracle,
            recorder: Recorder::new(plan),
            trace: TraceHash::default(),
            marks: Marks::default(),
            acted: [0; FaultKind::ALL.len()],
            outcomes: Outcomes::default(),
            operations: 0,
            deliveries: 0,
            messages: 0,
            counters: vec![0; links],
            effects: Vec::new(),
            failure: None,
            liveness: liveness::Liveness::default(),
            orders: 0,
            free: None,
            #[cfg(madsim)]
            stack: stack::Stack::new(plan),
        }
    }

    /// Starts every node and client, and schedules every fault.
    fn begin(&mut self) {
        for place in 0..self.hosts.len() {
            self.start(place);
        }
        for place in 0..self.clients.len() {
            self.schedule_client(place);
        }
        self.schedule_faults();
        if self.free.is_none() {
            self.queue.push(self.plan.safety, Task::SafetyEnds);
        }
    }

    #[cfg(not(madsim))]
    fn run(mut self) -> Report {
        self.begin();
        self.run_on()
    }

    /// Goes on in time, to the end.
    fn run_on(mut self) -> Report {
        while self.failure.is_none() {
            let Some((at, task)) = self.queue.pop() else { break };
            debug_assert!(at >= self.now, "time goes forward");
            self.now = at;
            self.perform(task);
            if self.liveness.is_over() {
                break;
            }
        }
        self.finish()
    }

    fn perform(&mut self, task: Task) {
        match task {
            Task::Arrive(flight) => self.arrive(flight),
            Task::Timer(place) => self.on_timer(place as usize),
            Task::Written(place, boots) => self.on_written(place as usize, boots),
            Task::Client(place, turn) => self.on_client_turn(place as usize, turn),
            Task::FaultBegins(place) => self.begin_fault(place as usize),
            Task::FaultEnds(place) => self.end_fault(place as usize),
            Task::Flap(place) => self.flap(place as usize),
            Task::Resolver(place, slot, turn) => {
                self.on_resolver_turn(place as usize, slot as usize, turn);
            }
            Task::SafetyEnds => self.begin_liveness(),
            Task::Settle => self.settle(),
            #[cfg(madsim)]
            Task::Segment(number) => self.on_segment(number),
            #[cfg(madsim)]
            Task::Stranger(number) => self.on_stranger(number),
            Task::Down(place, session) => {
                self.on_session_down(place as usize, self.queue.session(session));
            }
        }
    }

    // ---- events ---------------------------------------------------------------------------

    /// Counts an event, and puts it into the trace.
    #[inline]
    fn event(&mut self, word: u64) {
        self.step += 1;
        self.oracle.at(self.step);
        if self.step.is_multiple_of(FORGET_EVERY) {
            self.oracle.forget();
        }
        self.trace.word(word ^ self.now.rotate_left(20));
    }

    #[inline]
    fn tell(&mut self, node: Option<usize>, kind: EventKind, text: fmt::Arguments<'_>) {
        if self.watching {
            let (at, step) = (self.now, self.step);
            let node = node.map(node_of);
            self.observer.event(&Event { at, step, node, kind, text });
        }
    }

    #[cold]
    fn fail(&mut self, kind: FailureKind, rule: &'static str, shape: &str, message: String) {
        if self.failure.is_some() {
            return;
        }
        self.tell(None, EventKind::Fail, format_args!("{rule}: {message}"));
        self.failure = Some(Failure {
            kind,
            rule,
            signature: format!("{rule} {shape}"),
            message,
            at: self.now,
            step: self.step,
        });
    }

    fn check_oracle(&mut self) {
        if let Some(breach) = self.oracle.breach() {
            self.fail(FailureKind::Violation, breach.rule, breach.shape, breach.message);
        }
    }

    const fn acted(&mut self, kind: FaultKind) {
        self.acted[kind as usize] += 1;
    }

    // ---- nodes ----------------------------------------------------------------------------

    /// Starts a node's process on what its disk holds.
    fn start(&mut self, place: usize) {
        if self.hosts[place].gone {
            return;
        }
        let seed =
            draw(self.plan.seed, Site::Node, place as u64, u64::from(self.hosts[place].boots));
        let host = &mut self.hosts[place];
        host.boots += 1;
        let mono = 1_000 * below(draw(seed, Site::Clock, 0, 0), 1 << 32);
        host.clock.reboot(self.now, mono);
        host.disk.compact();
        let is_primary = |table: &crate::plan::Table| table.primary().is_some();
        let folds =
            self.plan.tables.iter().any(is_primary) && chance(draw(seed, Site::Disk, 0, 0), FOLDED);
        if folds && host.disk.fold_replicas() {
            self.marks.hit(Mark::ReplicaFolded);
        }
        let host = &self.hosts[place];
        let fresh = host.disk.durable.is_empty();
        let made = self.boot(place, seed);
        let host = &mut self.hosts[place];
        let (rotten, torn, boots) = (host.rotten, std::mem::take(&mut host.torn), host.boots);
        let how = match (rotten, fresh) {
            (true, _) => "with damaged storage",
            (_, true) => "with empty storage",
            (false, false) => "from its log",
        };
        self.event(0x57A7 ^ (place as u64) << 16);
        self.tell(Some(place), EventKind::Start, format_args!("starts {how}, life {boots}"));
        match made {
            Ok(node) => self.hosts[place].node = Some(node),
            // Not the log's fault, and not the engine's: `Plan::check` should have refused it.
            Err(RecoverError::Config(error)) => {
                let text = format!("n{} cannot be configured: {error}", place + 1);
                return self.fail(FailureKind::Unknown, "PLAN", "impossible plan", text);
            }
            Err(error) => {
                let text = format!("n{} does not recover from its own log: {error}", place + 1);
                return self.fail(FailureKind::Violation, "W4", "log not recovered", text);
            }
        }
        if torn && !fresh {
            self.marks.hit(Mark::TornTail);
        }
        if self.says_lost(place) {
            self.marks.hit(Mark::StateLost);
        }
        let mono = self.hosts[place].clock.mono(self.now);
        self.oracle.on_start(place, &self.hosts[place].disk.durable, mono);
        if !rotten {
            self.oracle.on_votes(place, &self.hosts[place].disk.durable, &mut self.marks);
        }
        self.start_copies(place);
        self.check_oracle();
        self.input(place, Input::Timeout);
        self.watch_quorum(place);
        self.watch_merges(place);
        self.start_resolvers(place);
    }

    /// A node as its disk has it.
    #[cfg(not(madsim))]
    fn boot(&self, place: usize, seed: u64) -> Result<Process, RecoverError> {
        self.hosts[place].recover(seed)
    }

    /// Stops a node's process, as a crash does.
    fn stop(&mut self, place: usize) {
        let host = &mut self.hosts[place];
        host.node = None;
        host.timer = None;
        host.inbox.clear();
        host.resolving.clear();
        let sessions = std::mem::take(&mut host.monitored);
        for (session, _) in &sessions {
            self.oracle.on_session_end(*session);
        }
        self.forget_sessions(place);
        let asked = std::mem::take(&mut self.hosts[place].asked);
        for (client, request) in asked {
            self.on_node_gone(client, request);
        }
    }

    /// Gives a node an input now; one that stands still gets it when it goes on.
    #[inline]
    fn input(&mut self, place: usize, input: Input) {
        let host = &mut self.hosts[place];
        if host.node.is_none() {
            return;
        }
        if host.paused > 0 {
            // A timer that goes off while nobody runs goes off once.
            if input != Input::Timeout {
                host.inbox.push((input, None));
            }
            return;
        }
        self.handle(place, input);
    }

    /// One step of a node, and all that comes of it.
    fn handle(&mut self, place: usize, input: Input) {
        let host = &self.hosts[place];
        let now = host.clock.read(self.now);
        if host.node.is_none() {
            return;
        }
        let mut effects = self.effects.pop().unwrap_or_default();
        self.oracle.on_clock(place, now.wall);
        if let Input::Request(request) = &input {
            self.oracle.on_given(place, request, now.instant.0);
        }
        let is_woken = input == Input::Timeout;
        let cause = merged::cause(&input);
        if !cfg!(madsim) {
            // A node in a host takes it up later.
            self.before_copies(place, &input);
        }
        let Some(node) = &mut self.hosts[place].node else { return };
        node.handle(input, now, &mut effects);
        self.look_at_copies(place, cause);
        #[cfg(not(madsim))]
        self.look_at_replicas(place);
        for effect in effects.drain(..) {
            // The last answer ends the time for faults, and with it whoever is not to be healed.
            if self.hosts[place].node.is_none() {
                break;
            }
            self.carry_out(place, effect, now);
        }
        self.look_at_alarms(place);
        if is_woken {
            self.oracle.check_calls(place, now.instant.0);
        }
        #[cfg(not(madsim))]
        if let Some(wake) = self.hosts[place].node.as_ref().map(Process::poll_timeout) {
            self.oracle.check_wake(place, wake.map_or(u64::MAX, |wake| wake.0));
        }
        self.effects.push(effects);
        self.recorder.on_downs(self.oracle.downs().len());
        self.schedule_timer(place);
        self.check_oracle();
        self.spring(place);
    }

    #[inline]
    fn carry_out(&mut self, place: usize, effect: Effect, now: Now) {
        self.event(0x0EFF ^ (place as u64) << 16);
        effect.hash(&mut self.trace);
        match effect {
            Effect::Send { to, message } => self.send(place, to, message, now),
            Effect::Persist { ticket, records } => self.persist(place, ticket, records, now),
            Effect::Reply { client, request, outcome } => {
                let is_ready = self.is_ready(place);
                let id = op(client, request);
                self.oracle.on_reply(place, id, &outcome, now.instant.0, is_ready);
                self.on_reply(place, client, request, outcome);
            }
            Effect::Monitor { session, client } => {
                self.on_monitor(place, session, client);
            }
            Effect::Demonitor { session } => {
                let is_host_lost = self.hosts[place].wiped || self.hosts[place].rotten;
                self.oracle.on_session_lost(session, is_host_lost);
                self.hosts[place].monitored.retain(|(known, _)| *known != session);
            }
            Effect::Notify { client, event } => {
                self.on_notify(place, client, &event);
            }
        }
    }

    /// Sees to it that the node is woken when it wants to be.
    #[inline]
    fn schedule_timer(&mut self, place: usize) {
        let host = &mut self.hosts[place];
        let Some(wanted) = host.node.as_ref().and_then(Process::poll_timeout) else { return };
        let at = host.clock.when(wanted).max(self.now);
        if host.timer.is_none_or(|timer| at < timer) && self.free.is_none() {
            host.timer = Some(at);
            self.queue.push(at, Task::Timer(place as u16));
        }
    }

    fn on_timer(&mut self, place: usize) {
        let host = &mut self.hosts[place];
        if host.timer != Some(self.now) {
            // Another one is due earlier, and will see to what this one was for.
            return;
        }
        host.timer = None;
        if host.paused > 0 {
            return;
        }
        let wanted = host.node.as_ref().and_then(Process::poll_timeout);
        if wanted.is_some_and(|wanted| wanted <= Instant(host.clock.mono(self.now))) {
            self.event(0x7170 ^ (place as u64) << 16);
            self.tell(Some(place), EventKind::Timeout, format_args!("timeout"));
            self.handle(place, Input::Timeout);
        } else {
            self.schedule_timer(place);
        }
    }

    // ---- messages -------------------------------------------------------------------------

    /// A node has given a message away, to somebody if it keeps to the seam.
    #[inline]
    fn on_sent(&mut self, place: usize, to: NodeId, message: &Message) -> Option<Sent> {
        let target = usize::from(to.0).wrapping_sub(1);
        if target >= self.hosts.len() || target == place {
            let text = format!("n{} sends to {to}: {message}", place + 1);
            self.fail(FailureKind::Violation, "SEAM", "sent to nobody", text);
            return None;
        }
        let slot = match &message.body {
            Body::Consensus(about) => {
                about.register().and_then(|register| self.oracle.slot(register))
            }
            Body::Cluster(_)
            | Body::Merged(_)
            | Body::Monitor(_)
            | Body::Passed(_)
            | Body::Primary(_)
            | Body::Remote(_) => None,
        };
        self.messages += 1;
        let number = self.messages;
        self.oracle.on_send(place, target, message, slot, &mut self.marks);
        self.tell(
            Some(place),
            EventKind::Send { message: number, to },
            format_args!("to {to}: {message}"),
        );
        Some(Sent { target, slot, number })
    }

    #[inline]
    fn send(&mut self, place: usize, to: NodeId, message: Message, now: Now) {
        let Some(Sent { target, slot, number }) = self.on_sent(place, to, &message) else {
            return;
        };
        let link = self.network.link(place as u16, target as u16);
        let state = self.network.links[link];
        if state.queue > 0 && state.in_flight >= u32::from(state.queue) {
            self.acted(FaultKind::Queue);
            self.tell(
                Some(target),
                EventKind::Drop { message: number, from: node_of(place) },
                format_args!("lost, the queue is full: {message}"),
            );
            return;
        }
        let entity = (link * (self.oracle.slots() + 1) + slot.map_or(0, |slot| slot + 1)) as u64;
        let counter = &mut self.counters[entity as usize];
        *counter += 1;
        let counter = u64::from(*counter);
        let flight = Flight {
            from: place as u16,
            to: target as u16,
            number,
            sent: self.now,
            echo: self.oracle.depart(place, target, now.instant.0),
            boots: (self.hosts[place].boots, self.hosts[target].boots),
            entity,
            counter,
            copy: false,
            delayed: false,
            reordered: false,
        };
        let flight = self.network.launch(flight, message);
        if let Some(pool) = &mut self.free {
            pool.flights.push(flight);
            return;
        }
        let at = self.now + self.latency(entity, counter);
        self.queue.push(at, Task::Arrive(flight));
    }

    #[inline]
    fn latency(&self, entity: u64, counter: u64) -> Nanos {
        let network = &self.plan.network;
        let drawn = draw(self.plan.seed, Site::Latency, entity, counter);
        network.latency + below(drawn, network.jitter + 1)
    }

    /// A message would be delivered now; faults have their way with it first.
    fn arrive(&mut self, place: u32) {
        let seed = self.plan.seed;
        let Some(&mut flight) = self.network.flight(place) else { return };
        let (entity, counter) = (flight.entity, flight.counter);
        let link = usize::from(flight.from) * self.hosts.len() + usize::from(flight.to);
        let state = self.network.links[link];
        if !self.network.calm {
            if let Some(kind) = state.cut {
                self.acted(kind);
                return self.lose(place, "the network is cut");
            }
            if state.clogged {
                self.acted(FaultKind::Clog);
                self.network.held.push(place);
                return;
            }
            let Some(flight) = self.network.flight(place) else { return };
            if state.delay > 0 && !flight.delayed {
                flight.delayed = true;
                self.acted(FaultKind::Delay);
                return self.queue.push(self.now.saturating_add(state.delay), Task::Arrive(place));
            }
            if state.reorder > 0 && !flight.reordered {
                flight.reordered = true;
                self.acted(FaultKind::Reorder);
                let drawn = draw(seed, Site::Reorder, entity, counter);
                let at = self.now + below(drawn, state.reorder + 1);
                return self.queue.push(at, Task::Arrive(place));
            }
        }
        let loss = state.loss.max(self.plan.network.loss);
        if loss > 0
            && self.liveness.is_safety()
            && chance(draw(seed, Site::Loss, entity, counter), loss)
        {
            self.acted(FaultKind::Loss);
            return self.lose(place, "lost");
        }
        let duplicate = state.duplicate.max(self.plan.network.duplicate);
        if duplicate > 0 && self.liveness.is_safety() {
            let drawn = draw(seed, Site::Duplicate, entity, counter);
            if !flight.copy && chance(drawn, duplicate) {
                let Some(again) = self.network.copy(place) else { return };
                self.acted(FaultKind::Duplicate);
                // Mostly soon, sometimes after everything has changed.
                let far = if drawn & 7 == 0 { 200 } else { 4 };
                let span = (self.plan.network.latency + self.plan.network.jitter) * far;
                let at = self.now + below(drawn.rotate_left(17), span + 1);
                self.queue.push(at, Task::Arrive(again));
            }
        }
        self.deliver(place);
    }

    fn lose(&mut self, place: u32, why: &str) {
        let Some(&mut flight) = self.network.flight(place) else { return };
        let Some(message) = self.network.land(place) else { return };
        self.event(0x1057 ^ flight.number << 16);
        let from = node_of(usize::from(flight.from));
        self.tell(
            Some(usize::from(flight.to)),
            EventKind::Drop { message: flight.number, from },
            format_args!("{why}: {message}"),
        );
    }

    /// A message is handed to its node.
    fn deliver(&mut self, place: u32) {
        let Some(&mut flight) = self.network.flight(place) else { return };
        let (from, to) = (usize::from(flight.from), usize::from(flight.to));
        let Some(message) = self.network.land(place) else { return };
        let sender = node_of(from);
        if self.hosts[to].node.is_none() {
            self.event(0x0DEA ^ flight.number << 16);
            self.tell(
                Some(to),
                EventKind::Drop { message: flight.number, from: sender },
                format_args!("nobody is there: {message}"),
            );
            return;
        }
        self.event(0xDE11 ^ flight.number << 16 ^ (to as u64) << 56);
        if flight.copy {
            self.marks.hit(Mark::DuplicateDelivered);
        }
        if flight.boots != (self.hosts[from].boots, self.hosts[to].boots) {
            self.marks.hit(Mark::LateMessage);
            if flight.boots.1 != self.hosts[to].boots && is_answer(&message) {
                self.marks.hit(Mark::LateAnswer);
            }
        }
        self.tell(
            Some(to),
            EventKind::Deliver { message: flight.number, from: sender, sent: flight.sent },
            format_args!("from {sender}: {message}"),
        );
        self.deliveries += 1;
        let wire = self.plan.network.wire;
        let mut message = message;
        if wire > 0 && chance(draw(self.plan.seed, Site::Wire, flight.entity, flight.counter), wire)
        {
            message = self.through_wire(message);
        }
        let input = Input::Message { from: sender, message };
        if self.hosts[to].paused > 0 {
            self.hosts[to].inbox.push((input, Some(flight.echo)));
        } else {
            self.hear(to, input, flight.echo);
        }
    }

    /// A node handles a message.
    fn hear(&mut self, place: usize, input: Input, echo: Echo) {
        let Input::Message { from, message } = &input else { return };
        let (from, said) = (usize::from(from.0 - 1), said_of_storage(message));
        self.oracle.arrive(from, place, echo);
        self.input(place, input);
        let mono = self.hosts[place].clock.mono(self.now);
        self.oracle.on_heard(place, from, said, mono);
    }

    /// Some messages make the round trip through bytes that all of them make between processes.
    fn through_wire(&mut self, original: Message) -> Message {
        match recorder::through_wire(&original) {
            Ok(message) if message == original => message,
            Ok(message) => {
                let text = format!("{original} came out as {message}");
                self.fail(FailureKind::Violation, "WIRE", "not what went in", text);
                message
            }
            Err(error) => {
                let text = format!("{original}: {error}");
                self.fail(FailureKind::Violation, "WIRE", "own bytes refused", text);
                original
            }
        }
    }

    // ---- disks ----------------------------------------------------------------------------

    fn persist(&mut self, place: usize, ticket: synod::Ticket, records: Vec<Record>, now: Now) {
        if self.watching {
            for record in &records {
                self.tell(
                    Some(place),
                    EventKind::Persist,
                    format_args!("writes {ticket} {record}"),
                );
            }
        }
        self.oracle.on_persist(place, &records, now.instant.0, &mut self.marks);
        let plan = self.plan;
        let host = &mut self.hosts[place];
        host.disk.writes += 1;
        let drawn = draw(plan.seed, Site::Disk, place as u64, host.disk.writes);
        let took = plan.disk.latency + below(drawn, plan.disk.jitter + 1);
        if host.disk.slow > 0 {
            self.acted[FaultKind::SlowDisk as usize] += 1;
        }
        let done = (self.now + took).saturating_add(host.disk.slow);
        let done = host.disk.write(ticket, records, done);
        match &mut self.free {
            Some(pool) => pool.writes.push(place as u16),
            None => self.queue.push(done, Task::Written(place as u16, host.boots)),
        }
    }

    fn on_written(&mut self, place: usize, boots: u32) {
        let host = &mut self.hosts[place];
        // A host syncs when it likes.
        if cfg!(madsim) || host.boots != boots || host.node.is_none() {
            return;
        }
        if host.disk.fails || host.disk.full > 0 {
            return self.fail_write(place);
        }
        let Some(write) = host.disk.pending.pop_front() else { return };
        self.event(0xD0E5 ^ write.ticket.0 << 16 ^ (place as u64) << 56);
        self.tell(Some(place), EventKind::Persisted, format_args!("durable {}", write.ticket));
        self.oracle.on_durable(place, &write.records);
        if self.hosts[place].paused == 0 {
            self.oracle.on_votes(place, &write.records, &mut self.marks);
        }
        self.hosts[place].disk.durable.extend(write.records);
        self.check_oracle();
        self.input(place, Input::Persisted { ticket: write.ticket });
    }

    // ---- the end --------------------------------------------------------------------------

    fn finish(mut self) -> Report {
        self.check_nodes();
        let history = self.recorder.finish(&self.oracle);
        if self.failure.is_none()
            && let Err((kind, shape, text)) = recorder::judge(&history)
        {
            self.fail(kind, "LIN", shape, text);
        }
        let verdict = self.failure.take().map_or(Verdict::Pass, Verdict::Fail);
        self.trace.word(self.step);
        self.trace.word(self.now);
        Report {
            verdict,
            trace_hash: self.trace.value(),
            deliveries: self.deliveries,
            events: self.step,
            operations: self.operations,
            outcomes: self.outcomes,
            simulated: self.now,
            faults: self.acted,
            marks: self.marks,
            progress_due: self.liveness.due,
            history,
        }
    }

    /// The engine's own invariants, and its registers into the trace.
    fn check_nodes(&mut self) {
        for place in 0..self.hosts.len() {
            let Some(node) = &self.hosts[place].node else { continue };
            node.registers().for_each(|register| register.hash(&mut self.trace));
            if let Err(violation) = node.check_invariants() {
                let text =
                    format!("n{}: {}: {}", place + 1, violation.invariant, violation.message);
                let shape = violation.invariant;
                self.fail(FailureKind::Violation, "INV", shape, text);
            }
        }
    }
}

impl Host {
    /// A node as the disk has it.
    fn recover(&self, seed: u64) -> Result<Node, RecoverError> {
        let config = self.config.clone();
        let records = self.disk.durable.clone();
        if self.rotten {
            Node::lost(config, seed, "a checksum does not fit").map_err(RecoverError::Config)
        } else if records.is_empty() {
            Node::new(config, seed).map_err(RecoverError::Config)
        } else {
            Node::recover(config, seed, records)
        }
    }

    fn new(plan: &Plan, place: usize) -> Self {
        let spread = plan.cluster.wall_spread;
        let drawn = draw(plan.seed, Site::Clock, place as u64, 1);
        let wall = below(drawn, 2 * spread + 1) as i64 - spread as i64;
        Self {
            node: None,
            config: plan.config(node_of(place)),
            boots: 0,
            held: 0,
            paused: 0,
            paused_at: 0,
            gone: false,
            rotten: false,
            wiped: false,
            inbox: Vec::new(),
            disk: Disk::default(),
            clock: Clock::new(0, wall),
            timer: None,
            monitored: Vec::new(),
            resolving: Vec::new(),
            asked: Vec::new(),
            torn: false,
            armed: None,
        }
    }
}

/// Whether a message answers what a proposer or a reader has asked.
const fn is_answer(message: &Message) -> bool {
    use consensus::Message::{Accepted, Listing, Promise, ReadReply, Reject};
    matches!(
        &message.body,
        Body::Consensus(
            Accepted { .. } | Listing { .. } | Promise { .. } | ReadReply { .. } | Reject { .. }
        )
    )
}

/// The storage life of a sender, and whether it says of that one that it is not what it is known
/// by, if it says anything of that.
fn said_of_storage(message: &Message) -> (u64, Option<bool>) {
    let lost = match &message.body {
        Body::Cluster(cluster::Message::Heartbeat { lost, .. }) => Some(*lost),
        Body::Cluster(cluster::Message::HeartbeatAck { .. })
        | Body::Consensus(_)
        | Body::Merged(_)
        | Body::Monitor(_)
        | Body::Passed(_)
        | Body::Primary(_)
        | Body::Remote(_) => None,
    };
    (message.life.0, lost)
}
