//! Clients: they ask one thing at a time, wait, and send again only as the contract allows.
//!
//! A client is as close to its nodes as can be: what it asks is handed over, and what it is
//! answered is seen, at once. Anything slower would allow the engine more.
//!
//! Must never know: whether an answer is right.

use std::hash::Hash;

use synod::{
    Ballot, Bind, ClientId, Command, Event, Expect, Input, Key, OnNoQuorum, Outcome, Previous,
    ReadLevel, Refusal, Request, RequestId, Sent, SessionId, TableId, Topic, Value, Wall,
};

use super::clock::{millis, true_wall};
use super::queue::Task;
use super::resolvers::is_resolver;
use super::{EventKind, FailureKind, PROBER, WATCHER, World};
use crate::marks::Mark;
use crate::oracle::{node_of, op};
use crate::plan::{Act, Address, Guess, Operation, Plan, Tie};
use crate::random::{Site, below, chance, draw};

/// How many of a million requests are handed over twice.
const TWICE: u32 = 50_000;

/// What a client last saw of a key.
#[derive(Clone, Debug, Default)]
struct Seen {
    value: Option<Value>,
    version: Option<Ballot>,
    generation: Option<Ballot>,
}

/// A request under way.
#[derive(Clone, Debug)]
struct Waiting {
    request: RequestId,
    command: Command,
    /// The place of the node that has it; none while no node could be given it.
    at: Option<usize>,
    /// How often it may still be sent again.
    left: u8,
    /// How often it has been given to a node.
    sent: u32,
    /// Whether its outcome was unknown before, or its node crashed.
    unknown: bool,
    crashed: bool,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    /// Its operations: places in the plan.
    operations: Vec<u32>,
    next: usize,
    waiting: Option<Waiting>,
    /// Which of its turns counts; earlier ones are void.
    turn: u32,
    /// How many faults hold it dead.
    dead: u32,
    /// The session it uses.
    pub(super) session: Option<SessionId>,
    /// The sessions that this life of it was given.
    own: Vec<SessionId>,
    /// Its sessions that it was told may have ended, and not yet more.
    pub(super) suspended: Vec<SessionId>,
    seen: Vec<Seen>,
    pub(super) merged: Vec<super::merged::Seen>,
    /// Whether it takes each table that is made while nodes run for being there.
    pub(super) merged_made: Vec<bool>,
    /// What it knows of each table that has a primary.
    pub(super) passed: Vec<super::primary::Passed>,
}

impl Client {
    pub(super) fn all(plan: &Plan) -> Vec<Self> {
        let keys = plan.tables.len() * usize::from(plan.keys);
        let mut clients: Vec<Self> = (1..=plan.clients)
            .map(|number| Self {
                id: ClientId::new(u64::from(number)),
                operations: Vec::new(),
                next: 0,
                waiting: None,
                turn: 0,
                dead: 0,
                session: None,
                own: Vec::new(),
                suspended: Vec::new(),
                seen: vec![Seen::default(); keys],
                merged: vec![super::merged::Seen::default(); keys],
                merged_made: vec![false; plan.tables.len()],
                passed: vec![super::primary::Passed::default(); plan.tables.len()],
            })
            .collect();
        for (place, operation) in plan.operations.iter().enumerate() {
            if let Some(client) = clients.get_mut(usize::from(operation.client).wrapping_sub(1)) {
                client.operations.push(place as u32);
            }
        }
        clients
    }

    /// Whether it has nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_none() && self.next >= self.operations.len()
    }

    pub(super) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    pub(super) const fn is_dead(&self) -> bool {
        self.dead > 0
    }

    /// It will begin nothing new.
    pub(super) fn retire(&mut self) {
        self.next = self.operations.len();
    }
}

/// Whether it is one that listens to what a node tells of itself.
pub(super) fn is_watcher(client: ClientId) -> bool {
    (WATCHER..PROBER).contains(&client.number())
}

pub(super) fn key_of(number: u16) -> Key {
    Key::from(format!("k{number}").as_str())
}

/// The value that an operation writes: no two of a run are equal.
pub(super) fn value_of(client: u64, id: u64) -> Value {
    Value::from(format!("{client}.{id}").as_str())
}

impl World<'_> {
    pub(super) fn schedule_client(&mut self, place: usize) {
        let client = &mut self.clients[place];
        let Some(&operation) = client.operations.get(client.next) else {
            return self.check_all_done();
        };
        client.turn += 1;
        let at = self.now.saturating_add(self.plan.operations[operation as usize].after);
        let turn = client.turn;
        self.arrange_turn(place, at, turn);
    }

    fn arrange_turn(&mut self, place: usize, at: u64, turn: u32) {
        match &mut self.free {
            Some(pool) => pool.turns.push((place as u16, turn)),
            None => self.queue.push(at, Task::Client(place as u16, turn)),
        }
    }

    /// The safety phase ends early when there is nothing left to happen in it.
    pub(super) fn check_all_done(&mut self) {
        if self.free.is_none()
            && self.liveness.is_safety()
            && self.active.is_over()
            && self.clients.iter().all(|client| client.is_done())
        {
            self.begin_liveness();
        }
    }

    pub(super) fn on_client_turn(&mut self, place: usize, turn: u32) {
        let client = &self.clients[place];
        if client.turn != turn || client.is_dead() {
            return;
        }
        if client.waiting.is_none() {
            let Some(&number) = client.operations.get(client.next) else { return };
            let plan = self.plan;
            let operation = &plan.operations[number as usize];
            let merged = self.merged_command(place, operation);
            let other = merged.or_else(|| self.primary_command(place, operation));
            let command = other.unwrap_or_else(|| self.command(place, operation));
            let client = &mut self.clients[place];
            client.next += 1;
            client.waiting = Some(Waiting {
                request: RequestId(u64::from(operation.id) + 1),
                command,
                at: None,
                left: operation.again,
                sent: 0,
                unknown: false,
                crashed: false,
            });
            self.operations += 1;
        }
        self.ask(place);
    }

    /// The operation a client is at.
    fn current(&self, place: usize) -> &'_ Operation {
        let client = &self.clients[place];
        let number = client.operations[client.next.saturating_sub(1)];
        &self.plan.operations[number as usize]
    }

    fn command(&self, place: usize, operation: &Operation) -> Command {
        let client = &self.clients[place];
        let table = |at: Address| TableId(at.table);
        let seen = |at: Address| {
            &client.seen[usize::from(at.table) * usize::from(self.plan.keys) + usize::from(at.key)]
        };
        let value = value_of(client.id.number(), u64::from(operation.id));
        match &operation.act {
            Act::CloseSession => {
                self.to_close(place, operation).map_or(Command::Status, Command::CloseSession)
            }
            Act::CompareAndSet(at, guess, ties) => Command::CompareAndSet {
                table: table(*at),
                key: key_of(at.key),
                expect: match guess {
                    Guess::Absent => Expect::Absent,
                    Guess::Seen => seen(*at).value.clone().map_or(Expect::Absent, Expect::Value),
                    Guess::Version => match (&seen(*at).value, seen(*at).version) {
                        (Some(_), Some(version)) => Expect::Version(version),
                        _ => Expect::Absent,
                    },
                },
                value,
                bindings: self.binds(place, ties),
            },
            Act::Fence(at) => Command::Fence { table: table(*at), key: key_of(at.key) },
            Act::Get(at) | Act::GetLocal(at) => Command::Get {
                table: table(*at),
                key: key_of(at.key),
                level: if matches!(operation.act, Act::Get(_)) {
                    ReadLevel::Linearizable
                } else {
                    ReadLevel::Local
                },
            },
            Act::Keys(number, limit) => {
                Command::Keys { table: TableId(*number), after: None, limit: *limit }
            }
            Act::OpenSession => Command::OpenSession,
            Act::Put(at, ties) => Command::Put {
                table: table(*at),
                key: key_of(at.key),
                value,
                bindings: self.binds(place, ties),
            },
            Act::PutIfAbsent(at, ties) => Command::PutIfAbsent {
                table: table(*at),
                key: key_of(at.key),
                value,
                bindings: self.binds(place, ties),
            },
            Act::Remove(at, only_seen) => Command::Remove {
                table: table(*at),
                key: key_of(at.key),
                generation: seen(*at).generation.filter(|_| *only_seen),
            },
            Act::Status => Command::Status,
            Act::Watch(at) => Command::Subscribe(Topic::Key(table(*at), key_of(at.key))),
            Act::Unwatch(at) => Command::Unsubscribe(Topic::Key(table(*at), key_of(at.key))),
        }
    }

    /// The value that a client last saw of the key that a command is about.
    fn seen_of(&self, place: usize, command: &Command) -> Option<Value> {
        let (table, key) = command.address()?;
        let slot = self.oracle.key_slot(table, key)? - self.hosts.len();
        self.clients[place].seen[slot].value.clone()
    }

    /// Its own session; now and then another client's, which it must not be able to end.
    fn to_close(&self, place: usize, operation: &Operation) -> Option<SessionId> {
        let count = self.clients.len();
        let others = (1..count).map(|step| &self.clients[(place + step) % count]);
        let strange = others.filter(|_| operation.id % 8 == 3).find_map(|other| other.session);
        strange.or(self.clients[place].session)
    }

    fn binds(&self, place: usize, ties: &[Tie]) -> Vec<Bind> {
        let mut binds = Vec::with_capacity(ties.len());
        for tie in ties {
            match *tie {
                Tie::Key(at) => {
                    binds.push(Bind::Key { table: TableId(at.table), key: key_of(at.key) });
                }
                Tie::Node(node) => binds.push(Bind::Node(synod::NodeId(node))),
                Tie::Session => binds.extend(self.clients[place].session.map(Bind::Session)),
                Tie::Until(after) => {
                    let wall = true_wall(self.now).saturating_add(after);
                    binds.push(Bind::Until(Wall(millis(wall))));
                }
            }
        }
        binds
    }

    /// Gives the request to a node: the one wanted at first, then others; one that is up.
    fn ask(&mut self, place: usize) {
        let nodes = self.hosts.len();
        let (wanted, patience, persistent, id) = {
            let operation = self.current(place);
            let waiting = self.clients[place].waiting.as_ref();
            let wanted = match waiting.map(|waiting| &waiting.command) {
                // A session is closed at its host; sometimes somebody else is asked.
                Some(Command::CloseSession(session)) if !operation.id.is_multiple_of(8) => {
                    session.host.0
                }
                _ => operation.node,
            };
            let wanted = usize::from(wanted - 1);
            (wanted, operation.patience, operation.persistent, operation.id)
        };
        let Some(waiting) = &self.clients[place].waiting else { return };
        let shift = if waiting.sent == 0 {
            0
        } else {
            let drawn = draw(self.plan.seed, Site::Client, u64::from(id), u64::from(waiting.sent));
            below(drawn, nodes as u64) as usize
        };
        let target = (0..nodes)
            .map(|step| (wanted + shift + step) % nodes)
            .find(|&target| self.hosts[target].node.is_some());
        let Some(target) = target else {
            // Nobody is up. In the liveness phase somebody is.
            self.clients[place].turn += 1;
            let turn = self.clients[place].turn;
            return self.arrange_turn(place, self.now + self.plan.cluster.round, turn);
        };
        let client = &mut self.clients[place];
        let id = client.id;
        let Some(waiting) = &mut client.waiting else { return };
        waiting.at = Some(target);
        let first = waiting.sent == 0;
        waiting.sent += 1;
        let (request, command) = (waiting.request, waiting.command.clone());
        if first {
            self.oracle.on_request(op(id, request), &command);
            let seen = self.seen_of(place, &command);
            self.recorder.on_request(op(id, request), &command, seen.as_ref());
        } else {
            self.oracle.on_request_again(op(id, request));
        }
        let put = self.address_made(place, target, &command);
        self.note_primary((place, request), target, (&command, &put));
        if let (Some(waiting), Command::Primary { table, .. }) =
            (&mut self.clients[place].waiting, &command)
            && let Command::Primary { call, .. } = &put
        {
            // If it is asked again, then with what it was asked with.
            waiting.command = Command::Primary { table: *table, call: call.clone() };
        }
        let command = self.as_known(target, put);
        let request = Request {
            client: id,
            id: request,
            sent: if first { Sent::First } else { Sent::Again },
            patience: std::time::Duration::from_nanos(patience),
            on_no_quorum: if persistent { OnNoQuorum::Retry } else { OnNoQuorum::Return },
            command,
        };
        self.give(target, request);
    }

    /// Hands a request to a node.
    pub(super) fn give(&mut self, target: usize, request: Request) {
        let (client, id) = (request.client, request.id);
        self.event(0xA5C0 ^ (target as u64) << 16);
        request.hash(&mut self.trace);
        if self.watching {
            let again = if request.sent == Sent::Again { " again" } else { "" };
            let text = format!("{client}.{id} asks{again}: {}", request.command);
            self.tell(Some(target), EventKind::Request, format_args!("{text}"));
        }
        if let Command::CloseSession(session) = request.command
            && session.host == node_of(target)
            && self.oracle.owner(session) == Some(client)
        {
            // From here on its host may end it; nobody else may.
            self.oracle.on_session_end(session);
        }
        self.hosts[target].asked.push((client, id));
        // Now and then it comes twice: the second is the same operation, and gets no answer of its
        // own. A client that is answered at once has no reason to repeat itself.
        let drawn = draw(self.plan.seed, Site::Client, id.0, 1 << 32);
        // Whether a host has answered it by now is not known at its door.
        let again = (!cfg!(madsim) && chance(drawn, TWICE)).then(|| request.clone());
        self.input(target, Input::Request(request));
        if let Some(request) = again
            && self.hosts[target].paused == 0
            && self.hosts[target].asked.contains(&(client, id))
        {
            self.input(target, Input::Request(request));
        }
    }

    /// A node answers a client.
    pub(super) fn on_reply(
        &mut self,
        place: usize,
        client: ClientId,
        request: RequestId,
        outcome: Outcome,
    ) {
        self.recorder.on_downs(self.oracle.downs().len());
        self.tell(
            Some(place),
            EventKind::Reply,
            format_args!("answers {client}.{request}: {outcome}"),
        );
        let asked = &mut self.hosts[place].asked;
        let Some(at) = asked.iter().position(|&known| known == (client, request)) else {
            let text = format!(
                "n{} answers {client}.{request}, which it was not asked or has answered: {outcome}",
                place + 1
            );
            return self.fail(FailureKind::Violation, "REPLY", "answered twice", text);
        };
        asked.swap_remove(at);
        if self.oracle.is_lost(place)
            && !matches!(
                outcome,
                // A copy that begins anew needs nothing of what was lost.
                Outcome::Done
                    | Outcome::Merged(_)
                    | Outcome::Primary(_)
                    | Outcome::Refused(_)
                    | Outcome::Status(_)
                    | Outcome::Unknown
            )
        {
            let text = format!("n{} has lost its storage and answers {outcome}", place + 1);
            return self.fail(FailureKind::Violation, "W6", "serves without its state", text);
        }
        let number = client.number();
        if is_resolver(client) {
            return self.on_resolver_answer(place, client, request, outcome);
        }
        if number >= PROBER {
            return self.on_probe_answer(place, client, request, &outcome);
        }
        if is_watcher(client) {
            // Of a node in a host it is known from its step.
            if !cfg!(madsim) {
                self.on_watched(place, request);
            }
            return;
        }
        let who = (number - 1) as usize;
        if self.clients[who].waiting.as_ref().is_none_or(|waiting| waiting.request != request) {
            // The client has died since. Nobody hears this.
            return;
        }
        self.oracle.on_answer(op(client, request), place, &outcome, &mut self.marks);
        self.check_oracle();
        self.on_outcome(who, outcome);
    }

    fn on_outcome(&mut self, who: usize, outcome: Outcome) {
        let client = &mut self.clients[who];
        let Some(waiting) = &mut client.waiting else { return };
        if outcome == Outcome::Unknown {
            self.marks.hit(if waiting.sent > 1 {
                Mark::AgainUnknown
            } else {
                Mark::UnknownOutcome
            });
            waiting.unknown = true;
            waiting.at = None;
            if waiting.left > 0 {
                waiting.left -= 1;
                return self.ask_later(who);
            }
        } else if waiting.sent > 1 {
            if waiting.unknown {
                self.marks.hit(Mark::UnknownResolved);
            }
            if waiting.crashed {
                self.marks.hit(Mark::CrashResolved);
            }
            let first = self.oracle.first_attempt(op(client.id, waiting.request));
            if let Some((_, ballot)) = first
                && version_of(&outcome) == Some(ballot)
            {
                self.marks.hit(Mark::AgainTookEffect);
            }
        }
        self.count(&outcome);
        self.complete(who, Some(outcome));
    }

    const fn count(&mut self, outcome: &Outcome) {
        let outcomes = &mut self.outcomes;
        match outcome {
            Outcome::Unknown => outcomes.unknown += 1,
            Outcome::Refused(Refusal::NoQuorum) => outcomes.no_quorum += 1,
            Outcome::Refused(_) => outcomes.refused += 1,
            Outcome::Mismatch { .. } | Outcome::Chosen { won: false, .. } => outcomes.lost += 1,
            Outcome::Chosen { won: true, .. }
            | Outcome::Done
            | Outcome::Found { .. }
            | Outcome::Keys { .. }
            | Outcome::Merged(_)
            | Outcome::Primary(_)
            | Outcome::Removed { .. }
            | Outcome::Session(_)
            | Outcome::Status(_)
            | Outcome::Written { .. } => outcomes.done += 1,
        }
    }

    /// A client's request is over: answered, or given up.
    fn complete(&mut self, who: usize, outcome: Option<Outcome>) {
        let Some(waiting) = self.clients[who].waiting.take() else { return };
        let id = op(self.clients[who].id, waiting.request);
        self.recorder.on_outcome(id, outcome.as_ref());
        if let Some(outcome) = &outcome {
            self.learn_primary(who, &waiting.command, outcome);
            self.learn(who, &waiting.command, outcome);
        }
        self.schedule_client(who);
    }

    /// What a client takes from an answer for its later questions.
    fn learn(&mut self, who: usize, command: &Command, outcome: &Outcome) {
        self.learn_merged(who, command, outcome);
        let client = &mut self.clients[who];
        if let Outcome::Session(session) = outcome {
            client.session = Some(*session);
            client.own.push(*session);
        }
        if let (Command::CloseSession(session), Outcome::Done) = (command, outcome) {
            client.suspended.retain(|known| known != session);
        }
        let Some((table, key)) = command.address() else { return };
        let Some(slot) = self.oracle.key_slot(table, key) else { return };
        let seen = &mut client.seen[slot - self.hosts.len()];
        let entry = match outcome {
            Outcome::Chosen { entry, .. } => Some(entry),
            Outcome::Found { entry, .. } | Outcome::Mismatch { entry, .. } => entry.as_ref(),
            Outcome::Written { generation, version, .. } => {
                seen.generation = *generation;
                seen.version = Some(*version);
                if let Command::Put { value, .. } | Command::CompareAndSet { value, .. } = command {
                    seen.value = Some(value.clone());
                }
                return;
            }
            Outcome::Removed { .. } => None,
            Outcome::Done
            | Outcome::Keys { .. }
            | Outcome::Merged(_)
            | Outcome::Primary(_)
            | Outcome::Refused(_)
            | Outcome::Session(_)
            | Outcome::Status(_)
            | Outcome::Unknown => return,
        };
        seen.value = entry.map(|entry| entry.value.clone());
        seen.version = entry.map(|entry| entry.version);
        seen.generation = entry.map(|entry| entry.generation);
    }

    fn ask_later(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.turn += 1;
        let turn = client.turn;
        let at = self.now + self.plan.cluster.backoff;
        self.arrange_turn(who, at, turn);
    }

    /// The node that had a request has crashed.
    pub(super) fn on_node_gone(&mut self, client: ClientId, request: RequestId) {
        if client.number() >= WATCHER {
            return;
        }
        let who = (client.number() - 1) as usize;
        let Some(waiting) = &mut self.clients[who].waiting else { return };
        if waiting.request != request {
            return;
        }
        waiting.at = None;
        waiting.crashed = true;
        let repeatable =
            !matches!(waiting.command, Command::OpenSession | Command::CloseSession(_));
        if waiting.left > 0 && repeatable {
            waiting.left -= 1;
            return self.ask_later(who);
        }
        self.outcomes.crashed += 1;
        self.complete(who, None);
    }

    /// A client dies: its sessions end, and what it waits for it will never hear.
    pub(super) fn kill_client(&mut self, who: usize) {
        self.clients[who].dead += 1;
        if self.clients[who].dead > 1 {
            return;
        }
        let client = &mut self.clients[who];
        client.turn += 1;
        client.session = None;
        client.own.clear();
        client.suspended.clear();
        let id = client.id;
        #[cfg(madsim)]
        self.hang_up(id);
        let client = &mut self.clients[who];
        if let Some(waiting) = client.waiting.take() {
            self.outcomes.crashed += 1;
            self.recorder.on_outcome(op(id, waiting.request), None);
        }
        for place in 0..self.hosts.len() {
            let monitored = self.hosts[place].monitored.iter();
            let own: Vec<SessionId> =
                monitored.filter(|(_, of)| *of == id).map(|(session, _)| *session).collect();
            for session in own {
                self.oracle.on_session_left(session);
                self.on_session_down(place, session);
            }
        }
    }

    /// A client comes back under the same name, with nothing.
    pub(super) fn revive_client(&mut self, who: usize) {
        let client = &mut self.clients[who];
        client.dead = client.dead.saturating_sub(1);
        if client.dead == 0 {
            self.schedule_client(who);
        }
    }

    /// A node hosts a session, and wants to be told when its client is gone.
    pub(super) fn on_monitor(&mut self, place: usize, session: SessionId, client: ClientId) {
        self.oracle.on_session(session, client);
        self.hosts[place].monitored.push((session, client));
        if client.number() >= PROBER {
            return;
        }
        let who = (client.number().wrapping_sub(1)) as usize;
        // A client that is gone, or another life of it that never asked, holds no session.
        let held = self.clients.get(who).is_some_and(|client| {
            let waiting = client.waiting.as_ref();
            waiting.is_some_and(|waiting| {
                waiting.at == Some(place) && waiting.command == Command::OpenSession
            })
        });
        if !held {
            self.oracle.on_session_left(session);
            match &mut self.free {
                Some(pool) => pool.downs.push((place as u16, session)),
                None => self.queue.push_down(self.now, place as u16, session),
            }
        }
    }

    /// A host is told that a session's client is gone.
    pub(super) fn on_session_down(&mut self, place: usize, session: SessionId) {
        let monitored = &mut self.hosts[place].monitored;
        let Some(at) = monitored.iter().position(|(known, _)| *known == session) else { return };
        monitored.swap_remove(at);
        self.event(0xD033 ^ session.number << 16 ^ (place as u64) << 56);
        self.tell(Some(place), EventKind::Down, format_args!("the client of {session} is gone"));
        if self.hosts[place].paused == 0 {
            self.oracle.on_session_told(session);
        }
        self.input(place, Input::Down { session });
    }

    /// A client is told of an event.
    pub(super) fn on_notify(&mut self, place: usize, client: ClientId, event: &Event) {
        self.tell(Some(place), EventKind::Notify, format_args!("tells {client}: {event}"));
        self.oracle.on_notice(place, client, event);
        if let Event::Merge(event) = event {
            return self.on_merge_news(place, client, event);
        }
        if is_watcher(client) {
            if matches!(event, Event::Readiness(_)) && self.says_lost(place) {
                self.marks.hit(Mark::StateLost);
            }
            // Who is not healed may lose what it still reached at any time.
            if matches!(event, Event::QuorumLost { .. } | Event::QuorumReached { .. })
                && (self.liveness.is_safety() || self.core_places().contains(&place))
            {
                self.liveness.last_quorum_event = self.now;
            }
            let mono = self.hosts[place].clock.mono(self.now);
            if let Event::Reachable { nodes, size } = event {
                self.oracle.on_reachable(place, *nodes, *size, mono);
            }
            return self.oracle.on_quorum_event(place, event, mono, &mut self.marks);
        }
        let who = (client.number().wrapping_sub(1)) as usize;
        match event {
            Event::Ended { .. } => self.marks.hit(Mark::Watched),
            Event::SessionSuspended(session) => {
                self.marks.hit(Mark::Suspended);
                // What a former life of the client had is not its own.
                let client = self.clients.get_mut(who);
                if let Some(client) = client.filter(|client| client.own.contains(session)) {
                    client.suspended.push(*session);
                }
            }
            Event::SessionResumed(session) => {
                self.marks.hit(Mark::Resumed);
                // W8: who is told that its session goes on may rely on that. What the client itself
                // has asked to end is another matter: its host may not have heard yet.
                if self.oracle.is_closed(*session) {
                    let text = format!("{client} is told that {session} goes on; it is closed");
                    self.fail(FailureKind::Violation, "W8", "resumed what is closed", text);
                }
                if let Some(client) = self.clients.get_mut(who) {
                    client.suspended.retain(|known| known != session);
                }
            }
            Event::SessionLost(session) => {
                self.marks.hit(Mark::Lost);
                let is_host_lost = self.hosts[place].wiped || self.hosts[place].rotten;
                self.oracle.on_session_lost(*session, is_host_lost);
                self.hosts[place].monitored.retain(|(known, _)| known != session);
                if let Some(client) = self.clients.get_mut(who) {
                    client.suspended.retain(|known| known != session);
                    if client.session == Some(*session) {
                        client.session = None;
                    }
                }
            }
            Event::Merge(_)
            | Event::QuorumLost { .. }
            | Event::QuorumReached { .. }
            | Event::Reachable { .. }
            | Event::Readiness(_)
            | Event::Role { .. } => {}
        }
    }

    /// Listens to a node's quorum events.
    pub(super) fn watch_quorum(&mut self, place: usize) {
        let boots = u64::from(self.hosts[place].boots);
        let request = Request {
            client: ClientId::new(WATCHER + u64::from(node_of(place).0)),
            id: RequestId(boots),
            sent: Sent::First,
            patience: std::time::Duration::from_secs(1),
            on_no_quorum: OnNoQuorum::Return,
            command: Command::Subscribe(Topic::Quorum),
        };
        self.give(place, request);
    }

    /// A session's client forgets a host that is gone.
    pub(super) fn forget_sessions(&mut self, place: usize) {
        let host = node_of(place);
        for client in &mut self.clients {
            client.suspended.retain(|session| session.host != host);
        }
    }
}

/// The version by which an outcome is ordered, where it made one.
const fn version_of(outcome: &Outcome) -> Option<Ballot> {
    if let Outcome::Chosen { entry, won: true } = outcome {
        return Some(entry.version);
    }
    if let Outcome::Written { version, .. }
    | Outcome::Removed { previous: Previous::Known(Some(_)) | Previous::Unknown, version } =
        outcome
    {
        return Some(*version);
    }
    None
}
