//! This node's replicas of primary tables: what clients ask of them, what they tell each other,
//! what is written down, and how the arbiter of each is read and changed.
//!
//! The arbiter is a register of the engine's own table ([`TableId::ROSTERS`]), like any other but
//! for that no client can name it. A replica is told only what is chosen there, and what is decided
//! of sessions, again and again: whatever it has missed it learns later.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::requests::check_len;
use super::{Body, Effects, Event, Foreign, Node, Record, Timer};
use crate::base::{
    ClientId, Instant, Key, Life, NodeId, OpId, RegisterId, RequestId, TableId, TableName, Ticket,
};
use crate::consensus::{
    Asker, Cell, Content, Expect, Finding, Goal, Mode, Outcome, Refusal, Sent, Topic,
};
use crate::merged::Unmade;
use crate::paxos::Ballot;
use crate::primary::{
    self, Answer, Ask, Attempt, Call, Command, Envelope, Input, Journal, Limits, Made, Member,
    Passed, Passing, Place, REMEMBERED, ReadLevel, Reign, Replica, Role, Roster, Schema, Settings,
};

/// The replicas, and who waits for what of them.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    seats: BTreeMap<TableId, Seat>,
    names: BTreeMap<TableName, TableId>,
    /// What was recovered, until the replicas begin.
    journals: BTreeMap<TableName, Journal>,
    /// Whom to tell what becomes of what a replica was asked. The same may be asked by several.
    askers: BTreeMap<(TableId, OpId), BTreeSet<Teller>>,
    /// Requests of clients here, and whether they may have been done.
    clients: BTreeMap<OpId, bool>,
    errands: BTreeMap<u64, Errand>,
    /// The latest attempt of each errand.
    attempts: BTreeMap<u64, u64>,
    /// How many errands and attempts there were in this process life.
    numbers: u64,
    /// The latest attempt of each other node. Of one that was refused another copy may be on its
    /// way, and must not be taken for a second attempt.
    passed: BTreeMap<usize, (Life, Attempt)>,
    /// Who waits for the end of which reign.
    changes: BTreeMap<OpId, (TableId, Reign)>,
    /// Who waits for how many others to have what on disk.
    waits: BTreeMap<OpId, (TableId, Place, u64)>,
}

/// This node's part in one table.
#[derive(Debug)]
struct Seat {
    name: TableName,
    /// The key of its arbiter.
    arbiter: Key,
    replica: Replica,
    /// The look at the arbiter that is under way, and the one that is to follow it.
    look: Option<u64>,
    look_next: Option<u64>,
    proposing: bool,
    /// What the replica waits to have written, and when it will be.
    writing: Option<(Ticket, Ticket)>,
    told: (Role, Reign, Option<NodeId>),
}

/// Who is told what became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Teller {
    Client(OpId),
    /// An attempt of this node's own.
    Errand(u64),
    /// An attempt of another node.
    Peer(NodeId, Attempt),
}

/// A request that this node sees to until its client has lost patience.
#[derive(Debug)]
struct Errand {
    client: OpId,
    table: TableId,
    ask: Ask,
    deadline: Instant,
    attempt: Option<u64>,
    /// Whether the primary is to say first how far the table is: if the request has to be asked
    /// again, that tells whether it can have been forgotten.
    asks_first: bool,
    /// Whether an attempt that was not answered may have been done.
    ambiguous: bool,
    /// Why the last one was refused.
    refusal: primary::Refusal,
    /// The primary, says who was asked last.
    hint: Option<NodeId>,
}

impl Errand {
    /// Whether the next attempt may change what the table holds.
    const fn writes(&self) -> bool {
        self.ask.command.writes() && !self.asks_first
    }
}

impl Replicas {
    pub(super) fn is_asked(&self, op: &OpId) -> bool {
        self.clients.contains_key(op)
            || self.changes.contains_key(op)
            || self.waits.contains_key(op)
    }

    pub(super) fn requests_in_flight(&self) -> usize {
        self.clients.len() + self.changes.len() + self.waits.len()
    }

    pub(super) fn knows(&self, name: TableName) -> bool {
        self.names.contains_key(&name)
    }

    /// Whether anything was recovered of a table that was made while nodes ran, and is not known
    /// to be there still.
    pub(super) fn keeps_made(&self) -> bool {
        !self.journals.is_empty()
    }

    /// Whether a table of this name, made while nodes ran, was here, and may be still.
    pub(super) fn keeps_named(&self, name: &str) -> bool {
        let made = self.journals.iter().filter_map(|(hash, it)| Some((hash, it.made()?)));
        made.into_iter().any(|(hash, number)| *hash == Made::name_of(number, name))
    }

    /// Forgets what was recovered of tables that were made by this revision of the list and are
    /// not listed; says which those are.
    pub(super) fn take_unlisted(
        &mut self,
        revision: u64,
        listed: impl Fn(TableName) -> bool,
    ) -> Vec<TableName> {
        let is_gone = |name: &TableName, journal: &mut Journal| {
            journal.made().is_some_and(|number| number <= revision) && !listed(*name)
        };
        let gone = self.journals.extract_if(.., is_gone);
        gone.map(|(name, _)| name).collect()
    }

    pub(super) fn recover(
        &mut self,
        table: TableName,
        record: primary::Record,
    ) -> Result<(), Foreign> {
        let journal = self.journals.entry(table).or_insert_with(|| Journal::new(REMEMBERED));
        journal.add(record).map_err(Foreign::Replica)
    }
}

/// What a register says of who is primary; `None` if it holds what no replica has put there.
fn roster(cell: &Cell) -> Option<Option<Roster>> {
    match cell.live().map(|live| &live.content) {
        None => Some(None),
        Some(Content::Value(value)) => Roster::from_value(value).map(Some),
        Some(Content::NodeSession(_)) => None,
    }
}

impl Node {
    /// This node's replica of a primary table.
    #[must_use]
    pub fn replica(&self, table: TableId) -> Option<&Replica> {
        self.replicas.seats.get(&table).map(|seat| &seat.replica)
    }

    /// All of them: where each stands among the tables, and by which name those of other nodes know
    /// it. Of a table that is made again both are others than before.
    pub fn replicas(&self) -> impl Iterator<Item = (TableId, TableName, &Replica)> {
        self.replicas.seats.iter().map(|(table, seat)| (*table, seat.name, &seat.replica))
    }

    // ------------------------------------------------------------------ beginning

    /// Makes the replicas, from what was recovered of them.
    pub(super) fn begin_replicas(&mut self) {
        self.begin_declared();
        // Of those that were made while nodes ran it is to be found out whether they are there.
        let waits = |name: &TableName| {
            let mut tables = self.config.tables.iter();
            tables.any(|table| table.primary().is_some() && TableName::of(&table.name) == *name)
        };
        self.replicas.journals.retain(|name, journal| journal.made().is_some() || waits(name));
    }

    /// Makes the replicas of declared tables that have none, except where one of the same name was
    /// made while nodes ran: while that is there the declaration means that.
    pub(super) fn begin_declared(&mut self) {
        let tables = self.config.tables.iter().enumerate().filter(|(_, table)| !table.made);
        let primary = tables.filter_map(|(place, table)| {
            Some((TableId(place as u16), table.name.clone(), table.primary()?.clone()))
        });
        for (table, name, schema) in primary.collect::<Vec<_>>() {
            let is_there = self.replicas.seats.contains_key(&table);
            if !is_there && !self.replicas.keeps_named(&name) {
                self.begin_replica(table, TableName::of(&name), &name, &schema);
                if self.started {
                    self.timers.set(Timer::Replica(table), self.now.instant);
                }
            }
        }
    }

    fn begin_replica(&mut self, table: TableId, name: TableName, arbiter: &str, schema: &Schema) {
        let journal = self.replicas.journals.remove(&name);
        let journal = journal.unwrap_or_else(|| Journal::new(REMEMBERED));
        let wanted = journal.wanted().unwrap_or_else(|| schema.replicas.contains(self.config.node));
        let me = Member { node: self.config.node, life: self.life };
        let settings = self.settings(schema);
        let mut replica = Replica::recover(me, self.incarnation, settings, journal);
        if !wanted {
            // It only learns of others, until an operator has it join.
            replica.stay_out();
        }
        let seat = Seat {
            name,
            arbiter: Key::from(arbiter),
            replica,
            look: None,
            look_next: None,
            proposing: false,
            writing: None,
            told: Default::default(),
        };
        self.replicas.names.insert(name, table);
        self.replicas.seats.insert(table, seat);
    }

    /// Makes the replica of a table that is listed, from what was recovered of it.
    pub(super) fn begin_made(&mut self, table: TableId, name: &str, made: &Made) {
        let hash = made.hash(name);
        let known = self.replicas.journals.get(&hash);
        if known.is_none_or(|journal| journal.made().is_none()) {
            let record = primary::Record::Made(made.number);
            self.log(Record::Replica { table: hash, record });
        }
        self.begin_replica(table, hash, &made.arbiter(name), &made.schema);
        self.timers.set(Timer::Replica(table), self.now.instant);
    }

    /// There is no such table any more: ends what was asked of it, and has what was written of it
    /// be void.
    pub(super) fn end_replica(&mut self, table: TableId, effects: &mut Effects) {
        let Some(seat) = self.replicas.seats.remove(&table) else { return };
        self.replicas.names.remove(&seat.name);
        self.timers.clear(Timer::Replica(table));
        self.log(Record::Replica { table: seat.name, record: primary::Record::Void });
        let mut ended = Vec::new();
        let errands = self.replicas.errands.iter().filter(|(_, errand)| errand.table == table);
        for (number, errand) in errands.map(|(number, it)| (*number, it)).collect::<Vec<_>>() {
            let maybe = errand.ambiguous || errand.attempt.is_some() && errand.writes();
            ended.push((Some(number), errand.client, maybe));
        }
        let Replicas { askers, changes, clients, waits, .. } = &mut self.replicas;
        askers.retain(|(of, _), tellers| {
            if *of != table {
                return true;
            }
            for teller in tellers.iter() {
                // Who has passed it on hears of the end of the table by itself.
                if let Teller::Client(op) = teller {
                    ended.push((None, *op, clients.get(op).is_some_and(|maybe| *maybe)));
                }
            }
            false
        });
        ended.extend(
            changes.iter().filter(|(_, (of, _))| *of == table).map(|(op, _)| (None, *op, true)),
        );
        ended.extend(
            waits.iter().filter(|(_, (of, ..))| *of == table).map(|(op, _)| (None, *op, false)),
        );
        for (errand, op, maybe) in ended {
            let gone = Outcome::Refused(Refusal::NoSuchTable(table));
            let outcome = if maybe { Outcome::Unknown } else { gone };
            if let Some(number) = errand {
                self.end_errand(number, outcome, effects);
                continue;
            }
            let Replicas { changes, clients, waits, .. } = &mut self.replicas;
            clients.remove(&op);
            changes.remove(&op);
            waits.remove(&op);
            self.timers.clear(Timer::Answer(op));
            self.decline(op, outcome, effects);
        }
    }

    fn settings(&self, schema: &Schema) -> Settings {
        let limits = &self.config.limits;
        let write_bytes = limits.key_max.saturating_add(limits.value_max);
        let usual = Limits::default();
        Settings {
            acknowledge: schema.acknowledge,
            answer_within: schema.answer_within,
            retry: self.config.timing.round,
            patience: schema.patience,
            limits: Limits {
                write_bytes,
                // What is sent at a time need not be longer than the longest write makes it.
                batch_bytes: usual.batch_bytes.min(write_bytes),
                history: limits.history_max,
                ..usual
            },
        }
    }

    pub(super) fn start_replicas(&mut self) {
        for table in self.replicas.seats.keys() {
            self.timers.set(Timer::Replica(*table), self.now.instant);
        }
    }

    /// Ends what this node has been asked, because it may not go on: its storage is not the one
    /// that others know, so its replicas say nothing any more.
    pub(super) fn end_replicas(&mut self, effects: &mut Effects) {
        let replicas = core::mem::take(&mut self.replicas);
        for table in replicas.seats.keys() {
            self.timers.clear(Timer::Replica(*table));
        }
        for errand in replicas.errands.keys() {
            self.timers.clear(Timer::Errand(*errand));
        }
        let clients = replicas.clients.iter().map(|(op, may)| (*op, *may));
        let changes = replicas.changes.keys().map(|op| (*op, true));
        let waits = replicas.waits.keys().map(|op| (*op, false));
        for (op, may_be_done) in clients.chain(changes).chain(waits) {
            self.timers.clear(Timer::Answer(op));
            let refused = Outcome::Refused(Refusal::NotReady(self.readiness.clone()));
            let outcome = if may_be_done { Outcome::Unknown } else { refused };
            self.decline(op, outcome, effects);
        }
    }

    // ------------------------------------------------------------------ stepping

    /// Tells a replica something, and sees to what comes of it.
    fn step_replica(&mut self, table: TableId, input: Input, effects: &mut Effects) {
        let now = self.now.instant;
        let Some(seat) = self.replicas.seats.get_mut(&table) else { return };
        let before = seat.replica.version();
        let mut wanted = Vec::new();
        seat.replica.handle(input, now, &mut wanted);
        let version = seat.replica.version();
        for effect in wanted {
            self.carry_out(table, effect, effects);
        }
        if version != before {
            self.tell_sessions(table, effects);
        }
        self.tell_role(table, effects);
        self.end_changes(table, effects);
        self.end_waits(table, effects);
        if let Some(seat) = self.replicas.seats.get(&table) {
            self.timers.set(Timer::Replica(table), seat.replica.poll_timeout());
        }
    }

    fn carry_out(&mut self, table: TableId, effect: primary::Effect, effects: &mut Effects) {
        let Some(seat) = self.replicas.seats.get_mut(&table) else { return };
        match effect {
            primary::Effect::Look { asked } => self.look_at_roster(table, asked, effects),
            // Told below, with whose reign it is.
            primary::Effect::Notify(_) => {}
            primary::Effect::Persist { ticket, records } => {
                // What is on its way to the disk needs no second handing over.
                if seat.writing.is_none_or(|(writing, _)| writing != ticket) {
                    let name = seat.name;
                    seat.writing = Some((ticket, self.ticket));
                    for record in records {
                        self.log(Record::Replica { table: name, record });
                    }
                }
            }
            primary::Effect::Propose { before, roster } => {
                self.change_roster(table, before, &roster, effects);
            }
            primary::Effect::Reply { op, outcome } => {
                for teller in self.replicas.askers.remove(&(table, op)).unwrap_or_default() {
                    self.tell_outcome(teller, table, outcome.clone(), effects);
                }
            }
            primary::Effect::Send { to, message } => {
                let envelope = Envelope { table: seat.name, to: to.life, message };
                if let Some(member) = self.members.index(to.node)
                    && member != self.me
                {
                    self.send(member, Body::Primary(envelope), Ticket(0), effects);
                }
            }
        }
    }

    /// Tells whoever wants to know what this node's replica is now.
    fn tell_role(&mut self, table: TableId, effects: &mut Effects) {
        let Some(seat) = self.replicas.seats.get_mut(&table) else { return };
        let replica = &seat.replica;
        let told = (replica.role(), replica.reign(), replica.primary());
        if seat.told == told {
            return;
        }
        seat.told = told;
        let (role, reign, primary) = told;
        let (node, name) = (self.config.node.0, &self.config.tables[usize::from(table.0)].name);
        let primary_node = primary.map(|primary| primary.0);
        tracing::info!(node, table = name, %role, %reign, primary = primary_node, "role");
        self.notify(&Topic::Roles, &Event::Role { table, role, reign, primary }, effects);
        if primary.is_some() {
            // Whoever waits for one waits no longer.
            let errands = self.replicas.errands.iter();
            for (number, _) in errands.filter(|(_, errand)| errand.table == table) {
                self.timers.hasten(Timer::Errand(*number), self.now.instant);
            }
        }
    }

    /// How it stands now, for somebody who begins to listen.
    pub(super) fn roles(&self) -> impl Iterator<Item = Event> {
        self.replicas.seats.iter().map(|(table, seat)| {
            let (role, reign, primary) = seat.told;
            Event::Role { table: *table, role, reign, primary }
        })
    }

    pub(super) fn on_replica_timer(&mut self, table: TableId, effects: &mut Effects) {
        self.step_replica(table, Input::Timeout, effects);
    }

    /// More is durable than was.
    pub(super) fn on_replicas_persisted(&mut self, effects: &mut Effects) {
        let persisted = self.persisted;
        let mut written = Vec::new();
        for (table, seat) in &mut self.replicas.seats {
            if let Some((ticket, _)) = seat.writing.take_if(|(_, durable)| *durable <= persisted) {
                written.push((*table, ticket));
            }
        }
        for (table, ticket) in written {
            self.step_replica(table, Input::Persisted(ticket), effects);
        }
    }

    /// What another replica says.
    pub(super) fn on_primary(
        &mut self,
        from: usize,
        life: Life,
        envelope: Envelope,
        effects: &mut Effects,
    ) {
        let Some(&table) = self.replicas.names.get(&envelope.table) else { return };
        // Another disk of this node was meant.
        if envelope.to != self.life {
            return;
        }
        let from = Member { node: self.members.nodes()[from], life };
        let message = envelope.message;
        self.step_replica(table, Input::Message { from, message }, effects);
    }

    // ------------------------------------------------------------------ the arbiter

    fn arbiter_of(&self, table: TableId) -> Option<RegisterId> {
        let seat = self.replicas.seats.get(&table)?;
        Some(RegisterId::Key(TableId::ROSTERS, seat.arbiter.clone()))
    }

    /// Reads who is primary, from now on; one such reading at a time.
    fn look_at_roster(&mut self, table: TableId, asked: u64, effects: &mut Effects) {
        let Some(register) = self.arbiter_of(table) else { return };
        let Some(seat) = self.replicas.seats.get_mut(&table) else { return };
        if seat.look.is_some() {
            seat.look_next = Some(asked);
            return;
        }
        seat.look = Some(asked);
        self.start_own(Asker::Node, register, Goal::Look, effects);
    }

    /// Asks for another roster in place of the one that has this version.
    fn change_roster(
        &mut self,
        table: TableId,
        before: Ballot,
        roster: &Roster,
        effects: &mut Effects,
    ) {
        let Some(register) = self.arbiter_of(table) else { return };
        let floor = self.registers.floor(&register);
        let Some(seat) = self.replicas.seats.get_mut(&table) else { return };
        if seat.proposing {
            return;
        }
        seat.proposing = true;
        // Nobody ever takes a roster away, so what is absent has never been there.
        let absent = before == floor.accepted;
        let expect = if absent { Expect::Absent } else { Expect::Version(before) };
        let (mode, value) = (Mode::If(expect), roster.to_value());
        let goal = Goal::Write { mode, value, bindings: Vec::new() };
        self.start_own(Asker::Node, register, goal, effects);
    }

    fn table_of(&self, name: &Key) -> Option<TableId> {
        let name = core::str::from_utf8(name.as_bytes()).ok()?;
        self.replicas.names.get(&TableName::of(name)).copied()
    }

    /// An operation on an arbiter has ended.
    pub(super) fn on_roster_finished(
        &mut self,
        name: &Key,
        goal: &Goal,
        finding: &Finding,
        effects: &mut Effects,
    ) {
        let Some(table) = self.table_of(name) else { return };
        let Some(register) = self.arbiter_of(table) else { return };
        let Some(seat) = self.replicas.seats.get_mut(&table) else { return };
        let looked = matches!(goal, Goal::Look);
        let asked = if looked { seat.look.take().unwrap_or(0) } else { 0 };
        let next = if looked { seat.look_next.take() } else { None };
        seat.proposing &= looked;
        if let Finding::Chosen { cell, .. } = finding {
            let floor = self.registers.floor(&register);
            let absent = Cell::absent(floor.accepted);
            self.tell_roster(table, asked, cell.as_deref().unwrap_or(&absent), effects);
        }
        if let Some(next) = next {
            self.look_at_roster(table, next, effects);
        }
    }

    /// It is news what is chosen of an arbiter.
    pub(super) fn on_roster_learned(&mut self, name: &Key, cell: &Cell, effects: &mut Effects) {
        if let Some(table) = self.table_of(name) {
            self.tell_roster(table, 0, cell, effects);
        }
    }

    fn tell_roster(&mut self, table: TableId, asked: u64, cell: &Cell, effects: &mut Effects) {
        let version = cell.version();
        let Some(roster) = roster(cell) else {
            let node = self.config.node.0;
            tracing::error!(node, %table, %cell, "no roster: the table has no primary");
            return;
        };
        self.step_replica(table, Input::Arbiter { asked, version, roster }, effects);
    }

    // ------------------------------------------------------------------ sessions

    /// Whether the session of this member is decided to be closed, or it is a life of its node that
    /// is over.
    fn is_gone(&self, member: &Member) -> bool {
        let Some(index) = self.members.index(member.node) else { return true };
        let life = if index == self.me { Some(self.life) } else { self.witnesses.life(index) };
        let session = self.registers.node_session(member.node);
        life.is_some_and(|life| life != member.life) || session.is_some_and(|known| !known.open)
    }

    /// Tells a replica of the sessions of all whom it knows of, as far as it has it wrong.
    fn tell_sessions(&mut self, table: TableId, effects: &mut Effects) {
        let Some(seat) = self.replicas.seats.get(&table) else { return };
        let Some(roster) = seat.replica.roster() else { return };
        let members = roster.in_sync.iter().chain(&roster.joining);
        let wrong = members.filter(|member| seat.replica.is_gone(member) != self.is_gone(member));
        for member in wrong.copied().collect::<Vec<_>>() {
            let open = !self.is_gone(&member);
            self.step_replica(table, Input::Session { member, open }, effects);
        }
    }

    /// A session may have been opened or closed.
    pub(super) fn tell_all_sessions(&mut self, effects: &mut Effects) {
        for table in self.replicas.seats.keys().copied().collect::<Vec<_>>() {
            self.tell_sessions(table, effects);
        }
    }

    // ------------------------------------------------------------------ answering

    pub(super) fn on_primary_request(
        &mut self,
        op: OpId,
        sent: Sent,
        patience: Duration,
        (table, call): (TableId, Call),
        effects: &mut Effects,
    ) {
        if let Err(refusal) = self.check_primary(table, &call) {
            return self.decline(op, Outcome::Refused(refusal), effects);
        }
        match call {
            Call::Ask { command, seen, op: id, follow } => {
                let id = id.filter(|_| command.writes());
                // An id of its own is there to be used again.
                let again = sent == Sent::Again || id.is_some();
                let id = id.unwrap_or(op);
                let ask = Ask { op: id, seen, again, within: patience, command };
                self.replicas.clients.insert(op, false);
                if follow && self.passes_on(table, &ask.command) {
                    return self.begin_errand(op, table, ask, patience, effects);
                }
                self.replicas.clients.insert(op, ask.command.writes());
                if self.replicas.askers.contains_key(&(table, ask.op)) {
                    // It is answered with the one that waits already, but in its own time.
                    self.timers.set(Timer::Answer(op), self.now.instant + patience);
                }
                self.ask_replica(table, ask, Teller::Client(op), effects);
            }
            Call::Force => {
                let check = |replica: &Replica| match replica.role() {
                    Role::Primary => Ok(()),
                    Role::Outside | Role::Secondary | Role::Unknown => replica.check_force(),
                };
                self.begin_change(op, table, patience, Input::Force, check, effects);
            }
            Call::HandOver(to) => {
                let check = |replica: &Replica| replica.check_hand_over(to);
                self.begin_change(op, table, patience, Input::HandOver(to), check, effects);
            }
            Call::Info => {
                let now = self.now.instant;
                let info = self.replica(table).map(|replica| replica.info(now));
                let answer = info.map(|info| Outcome::Primary(Answer::Info(info)));
                self.decline(op, answer.unwrap_or(Outcome::Unknown), effects);
            }
            Call::Join(wanted) => {
                self.step_replica(table, Input::Join(wanted), effects);
                // Whatever the table was told, also when this node starts again.
                let Some(seat) = self.replicas.seats.get(&table) else { return };
                let record = primary::Record::Wanted(wanted);
                let after = self.log(Record::Replica { table: seat.name, record });
                let until = (self.now.instant + patience, true, table);
                self.reply(op, Outcome::Primary(Answer::Done), after, until, effects);
            }
            Call::Wait { place, replicas } => {
                self.replicas.waits.insert(op, (table, place, replicas));
                self.timers.set(Timer::Answer(op), self.now.instant + patience);
                self.end_waits(table, effects);
            }
        }
    }

    /// What is wrong with a call, whatever the table holds.
    fn check_primary(&self, table: TableId, call: &Call) -> Result<(), Refusal> {
        match self.config.tables.get(usize::from(table.0)) {
            None => return Err(Refusal::NoSuchTable(table)),
            Some(found) if found.name.is_empty() => return Err(Refusal::NoSuchTable(table)),
            Some(found) if found.primary().is_none() => return Err(Refusal::Discipline(table)),
            Some(_) if self.is_clashing(table) => {
                return Err(Refusal::Unmade(Unmade::DeclaredToo));
            }
            Some(_) => {}
        }
        let limits = &self.config.limits;
        let key = |key: &Key| check_len("key", key.len(), limits.key_max);
        if let Call::Ask { command, .. } = call {
            match command {
                Command::Get(wanted, _) | Command::Remove(wanted) => key(wanted)?,
                Command::Put(wanted, value) => {
                    key(wanted)?;
                    check_len("value", value.len(), limits.value_max)?;
                }
                Command::Resolve => {}
                Command::Scan { after, limit } => {
                    after.as_ref().map_or(Ok(()), key)?;
                    check_len("page", *limit as usize, limits.page_max as usize)?;
                }
            }
        }
        if !self.merges() || !self.replicas.seats.contains_key(&table) {
            return Err(Refusal::NotReady(self.readiness.clone()));
        }
        if self.requests_in_flight() >= self.config.limits.requests_max {
            return Err(Refusal::Busy);
        }
        Ok(())
    }

    fn ask_replica(&mut self, table: TableId, ask: Ask, teller: Teller, effects: &mut Effects) {
        self.replicas.askers.entry((table, ask.op)).or_default().insert(teller);
        self.step_replica(table, Input::Ask(ask), effects);
    }

    fn tell_outcome(
        &mut self,
        teller: Teller,
        table: TableId,
        outcome: primary::Outcome,
        effects: &mut Effects,
    ) {
        match teller {
            Teller::Client(op) => {
                if self.replicas.clients.remove(&op).is_some() {
                    self.timers.clear(Timer::Answer(op));
                    self.decline(op, told(outcome), effects);
                }
            }
            Teller::Errand(attempt) => self.on_attempted(attempt, outcome, effects),
            Teller::Peer(node, attempt) => {
                let (Some(seat), Some(member)) =
                    (self.replicas.seats.get(&table), self.members.index(node))
                else {
                    return;
                };
                let content = Passing::Answer(outcome);
                let answer = Passed { table: seat.name, attempt, content };
                self.send(member, Body::Passed(answer), Ticket(0), effects);
            }
        }
    }

    /// Has an operator's wish for another reign done, and its client wait for that.
    fn begin_change(
        &mut self,
        op: OpId,
        table: TableId,
        patience: Duration,
        input: Input,
        check: impl Fn(&Replica) -> Result<(), primary::Refusal>,
        effects: &mut Effects,
    ) {
        let Some(replica) = self.replica(table) else { return };
        if let Err(refusal) = check(replica) {
            return self.decline(op, Outcome::Refused(Refusal::Primary(refusal)), effects);
        }
        if matches!(input, Input::Force) && replica.role() == Role::Primary {
            return self.decline(op, Outcome::Primary(Answer::Done), effects);
        }
        let reign = replica.roster().map_or(Reign::NONE, |roster| roster.reign);
        self.replicas.changes.insert(op, (table, reign));
        self.timers.set(Timer::Answer(op), self.now.instant + patience);
        self.step_replica(table, input, effects);
    }

    /// Answers those who wanted another reign, once there is one or there will be none.
    fn end_changes(&mut self, table: TableId, effects: &mut Effects) {
        if self.replicas.changes.is_empty() {
            return;
        }
        let Some(replica) = self.replica(table) else { return };
        let known = replica.roster().map_or(Reign::NONE, |roster| roster.reign);
        let given_up = !replica.is_changing();
        let waiting = self.replicas.changes.iter();
        let ended = waiting.filter(|(_, (of, reign))| *of == table && (known > *reign || given_up));
        for (op, reign) in ended.map(|(op, (_, reign))| (*op, *reign)).collect::<Vec<_>>() {
            self.replicas.changes.remove(&op);
            self.timers.clear(Timer::Answer(op));
            let refused = Outcome::Refused(Refusal::Primary(primary::Refusal::NotInTime));
            let outcome = if known > reign { Outcome::Primary(Answer::Done) } else { refused };
            self.decline(op, outcome, effects);
        }
    }

    /// Answers those for whom enough others have what they wait for, and everybody if this is not
    /// the primary.
    fn end_waits(&mut self, table: TableId, effects: &mut Effects) {
        if !self.replicas.waits.values().any(|(of, ..)| *of == table) {
            return;
        }
        let Some(replica) = self.replica(table) else { return };
        let (primary, info) = (replica.primary(), replica.info(self.now.instant));
        let leads = info.role == Role::Primary;
        let waiting = self.replicas.waits.iter().filter(|(_, (of, ..))| *of == table);
        let ended = waiting
            .filter(|(_, (_, place, replicas))| !leads || info.holders(*place) >= *replicas)
            .map(|(op, _)| *op);
        for op in ended.collect::<Vec<_>>() {
            self.replicas.waits.remove(&op);
            self.timers.clear(Timer::Answer(op));
            let refusal = Refusal::Primary(primary::Refusal::NotPrimary(primary));
            let answer = Outcome::Primary(Answer::Info(info.clone()));
            self.decline(op, if leads { answer } else { Outcome::Refused(refusal) }, effects);
        }
    }

    /// Somebody has waited for as long as it wanted to: for others to have something on disk, for
    /// another reign, or for what a request of the same id comes to. It may come yet.
    pub(super) fn on_change_timer(&mut self, op: OpId, effects: &mut Effects) {
        if let Some((table, ..)) = self.replicas.waits.remove(&op) {
            let info = self.replica(table).map(|replica| replica.info(self.now.instant));
            let answer = info.map(|info| Outcome::Primary(Answer::Info(info)));
            return self.decline(op, answer.unwrap_or(Outcome::Unknown), effects);
        }
        let Replicas { askers, changes, clients, .. } = &mut self.replicas;
        let changes = changes.remove(&op).map(|_| true);
        if let Some(may_be_done) = clients.remove(&op).or(changes) {
            askers.retain(|_, tellers| {
                tellers.remove(&Teller::Client(op));
                !tellers.is_empty()
            });
            let refused = Outcome::Refused(Refusal::Primary(primary::Refusal::NotInTime));
            self.decline(op, if may_be_done { Outcome::Unknown } else { refused }, effects);
        }
    }

    // ------------------------------------------------------------------ following the primary

    /// Whether this node cannot answer by itself.
    fn passes_on(&self, table: TableId, command: &Command) -> bool {
        match command {
            Command::Put(..) | Command::Remove(_) | Command::Resolve => true,
            Command::Get(_, ReadLevel::Linearizable) => true,
            Command::Get(..) | Command::Scan { .. } => {
                !self.replica(table).is_some_and(Replica::may_show)
            }
        }
    }

    const fn number(&mut self) -> u64 {
        self.replicas.numbers += 1;
        self.replicas.numbers
    }

    fn begin_errand(
        &mut self,
        client: OpId,
        table: TableId,
        mut ask: Ask,
        patience: Duration,
        effects: &mut Effects,
    ) {
        let number = self.number();
        if ask.command.writes() && !ask.again {
            // It has not been done by now, so whatever is forgotten of what is committed by now is
            // not this.
            let heard = self.replica(table).and_then(Replica::heard).unwrap_or(0);
            ask.seen = ask.seen.max(heard);
        }
        let errand = Errand {
            client,
            table,
            asks_first: ask.command.writes() && !ask.again && ask.seen == 0,
            ambiguous: ask.again && ask.command.writes(),
            ask,
            deadline: self.now.instant + patience,
            attempt: None,
            refusal: primary::Refusal::NotInTime,
            hint: None,
        };
        self.replicas.errands.insert(number, errand);
        self.on_errand_timer(number, effects);
    }

    /// Asks the primary, whoever that is now, unless the client waits no more.
    pub(super) fn on_errand_timer(&mut self, number: u64, effects: &mut Effects) {
        let now = self.now.instant;
        let Some(errand) = self.replicas.errands.get(&number) else { return };
        if now >= errand.deadline {
            let refused = Outcome::Refused(Refusal::Primary(errand.refusal));
            let maybe = errand.ambiguous || errand.attempt.is_some() && errand.writes();
            let outcome = if maybe { Outcome::Unknown } else { refused };
            return self.end_errand(number, outcome, effects);
        }
        let (table, hint, deadline) = (errand.table, errand.hint, errand.deadline);
        let primary = self.replica(table).and_then(Replica::primary).or(hint);
        let again = now + self.config.timing.round * 2;
        self.timers.set(Timer::Errand(number), again.min(deadline));
        let Some(primary) = primary else { return };
        let attempt = self.number();
        let Some(errand) = self.replicas.errands.get_mut(&number) else { return };
        let before = errand.attempt.replace(attempt);
        // One that was not answered may have been done.
        errand.ambiguous |= before.is_some() && errand.writes();
        errand.hint = None;
        let within = errand.deadline.since(now);
        let again = errand.ask.again || errand.ambiguous;
        let mut ask = Ask { again, within, ..errand.ask.clone() };
        if errand.asks_first {
            // Under a name of its own: by that of the client's write somebody may be waiting there
            // for what becomes of it, and would be told this.
            let client = ClientId::internal(self.config.node, self.incarnation);
            ask.op = OpId { client, request: RequestId(attempt) };
            ask.command = Command::Get(Key::from(""), ReadLevel::Committed);
        }
        if let Some(before) = before {
            self.replicas.attempts.remove(&before);
        }
        self.replicas.attempts.insert(attempt, number);
        if primary == self.config.node {
            return self.ask_replica(table, ask, Teller::Errand(attempt), effects);
        }
        let (Some(member), Some(seat)) =
            (self.members.index(primary), self.replicas.seats.get(&table))
        else {
            return;
        };
        let attempt = Attempt { incarnation: self.incarnation, number: attempt };
        let passed = Passed { table: seat.name, attempt, content: Passing::Ask(ask) };
        self.send(member, Body::Passed(passed), Ticket(0), effects);
    }

    /// An attempt was answered: that is the answer, or a reason to try again.
    fn on_attempted(&mut self, attempt: u64, outcome: primary::Outcome, effects: &mut Effects) {
        let Some(number) = self.replicas.attempts.remove(&attempt) else { return };
        let Some(errand) = self.replicas.errands.get_mut(&number) else { return };
        errand.attempt = None;
        match outcome {
            primary::Outcome::Rejected(refusal) if !refusal.is_final() => {
                errand.refusal = refusal;
                errand.hint = refusal.hint();
            }
            primary::Outcome::Unknown => errand.ambiguous = true,
            primary::Outcome::Found { place, .. } if errand.ask.command.writes() => {
                (errand.ask.seen, errand.asks_first) = (place.index, false);
                return self.on_errand_timer(number, effects);
            }
            primary::Outcome::Committed { .. }
            | primary::Outcome::Found { .. }
            | primary::Outcome::Rejected(_)
            | primary::Outcome::Rows { .. } => {
                return self.end_errand(number, told(outcome), effects);
            }
        }
        let again = (self.now.instant + self.config.timing.round).min(errand.deadline);
        self.timers.set(Timer::Errand(number), again);
    }

    fn end_errand(&mut self, number: u64, outcome: Outcome, effects: &mut Effects) {
        self.timers.clear(Timer::Errand(number));
        let Some(errand) = self.replicas.errands.remove(&number) else { return };
        if let Some(attempt) = errand.attempt {
            self.replicas.attempts.remove(&attempt);
        }
        if self.replicas.clients.remove(&errand.client).is_some() {
            self.decline(errand.client, outcome, effects);
        }
    }

    /// Another node passes on what it was asked, or has been answered.
    pub(super) fn on_passed(
        &mut self,
        from: usize,
        life: Life,
        passed: Passed,
        effects: &mut Effects,
    ) {
        let Some(&table) = self.replicas.names.get(&passed.table) else { return };
        match passed.content {
            // What an earlier process life asked, nobody waits for.
            Passing::Answer(_) if passed.attempt.incarnation != self.incarnation => {}
            Passing::Answer(outcome) => {
                self.on_attempted(passed.attempt.number, outcome, effects);
            }
            Passing::Ask(_) if self.is_clashing(table) => {}
            Passing::Ask(ask) => {
                let latest = self.replicas.passed.entry(from).or_default();
                if life == latest.0 && passed.attempt <= latest.1 {
                    return;
                }
                *latest = (life, passed.attempt);
                let teller = Teller::Peer(self.members.nodes()[from], passed.attempt);
                self.ask_replica(table, ask, teller, effects);
            }
        }
    }

    /// Whether everybody who waits for a replica waits for something.
    pub(super) fn check_replicas(&self) -> Result<(), &'static str> {
        for ((table, op), tellers) in &self.replicas.askers {
            let awaited = self.replica(*table).is_some_and(|replica| replica.awaits(op));
            if !awaited || tellers.is_empty() {
                return Err("somebody waits for an answer that no replica will give");
            }
        }
        for (number, errand) in &self.replicas.errands {
            if !self.timers.has(Timer::Errand(*number)) {
                return Err("a request is passed on no more");
            }
            if !self.replicas.clients.contains_key(&errand.client) {
                return Err("a request is passed on for nobody");
            }
        }
        let seats = self.replicas.seats.keys();
        if self.started && seats.into_iter().any(|table| !self.timers.has(Timer::Replica(*table))) {
            return Err("a replica is never woken");
        }
        Ok(())
    }
}

/// What a client is told.
fn told(outcome: primary::Outcome) -> Outcome {
    match outcome {
        primary::Outcome::Committed { place, existed } => {
            Outcome::Primary(Answer::Committed { place, existed })
        }
        primary::Outcome::Found { value, place } => {
            Outcome::Primary(Answer::Found { value, place })
        }
        primary::Outcome::Rejected(refusal) => Outcome::Refused(Refusal::Primary(refusal)),
        primary::Outcome::Rows { rows, more, place } => {
            Outcome::Primary(Answer::Rows { rows, more, place })
        }
        primary::Outcome::Unknown => Outcome::Unknown,
    }
}
