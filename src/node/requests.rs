//! What clients ask: checked here, answered here if no other node is needed, else begun.

use alloc::vec::Vec;

use super::{Effect, Effects, Node, Timer};
use crate::base::{ClientId, Key, OpId, RegisterId, TableId, Value};
use crate::consensus::{
    Asker, Command, Goal, Listing, Message, Mode, OnNoQuorum, Operation, Outcome, ReadLevel,
    Readiness, Refusal, Request, Sent, Stage, Status, Topic,
};
use crate::monitor::{Bind, Standing};

impl Node {
    pub(super) fn on_request(&mut self, request: Request, effects: &mut Effects) {
        let Request { client, id, sent, patience, on_no_quorum, command } = request;
        let op = OpId { client, request: id };
        if self.requests.contains_key(&op)
            || self.copies.is_asked(&op)
            || self.replicas.is_asked(&op)
            || self.agreed.is_asked(&op)
        {
            // A duplicate of one in flight: that one will be answered, once.
            return;
        }
        if let Command::Merged { table, command } = command {
            let asked = (table, command);
            return self.on_merged_request(op, sent, patience, on_no_quorum, asked, effects);
        }
        if let Command::Table(command) = command {
            return self.on_table_request(op, sent, patience, on_no_quorum, command, effects);
        }
        if let Command::PrimaryTable(command) = command {
            return self.on_primary_table_request(
                op,
                sent,
                patience,
                on_no_quorum,
                command,
                effects,
            );
        }
        if let Command::Primary { table, call } = command {
            return self.on_primary_request(op, sent, patience, (table, call), effects);
        }
        if let Some(outcome) = self.answer_at_once(client, sent, on_no_quorum, &command, effects) {
            effects.push(Effect::Reply { client, request: id, outcome });
            return;
        }
        // What changes nothing has never taken effect, however often it is sent.
        let was_sent = sent == Sent::Again && changes(&command);
        let asker = Asker::Client { client, request: id };
        let (register, goal, binds, stage) = self.plan(command);
        let mut operation = Operation::new(op, asker, register, goal);
        operation.deadline = self.now.instant + patience;
        operation.on_no_quorum = on_no_quorum;
        operation.binds = binds;
        operation.stage = stage;
        if was_sent {
            operation.sent_before();
        }
        self.requests.insert(op, self.operation_next + 1);
        self.start_operation(operation, effects);
    }

    /// Refusals, and answers that need nobody else.
    fn answer_at_once(
        &mut self,
        client: ClientId,
        sent: Sent,
        on_no_quorum: OnNoQuorum,
        command: &Command,
        effects: &mut Effects,
    ) -> Option<Outcome> {
        if let Err(refusal) = self.check(command) {
            return Some(Outcome::Refused(refusal));
        }
        if let Some(outcome) = self.answer_locally(client, command, effects) {
            return Some(outcome);
        }
        let refusal = self.check_standing(on_no_quorum).err()?;
        // A definite "no" could be a lie about a request that another node has worked on.
        Some(match sent {
            Sent::Again if changes(command) => Outcome::Unknown,
            Sent::Again | Sent::First => Outcome::Refused(refusal),
        })
    }

    /// What is wrong with a command, whatever the state of the cluster.
    fn check(&self, command: &Command) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        if let Some((table, key)) = command.address() {
            self.check_table(table)?;
            check_len("key", key.len(), limits.key_max)?;
        }
        match command {
            Command::CompareAndSet { table, key, value, bindings, .. }
            | Command::Put { table, key, value, bindings } => {
                if self.config.tables[usize::from(table.0)].is_write_once() {
                    return Err(Refusal::WriteOnce(*table));
                }
                self.check_write(*table, key, value, bindings)
            }
            Command::PutIfAbsent { table, key, value, bindings } => {
                self.check_write(*table, key, value, bindings)
            }
            Command::Remove { table, .. }
                if self.config.tables[usize::from(table.0)].is_write_once() =>
            {
                Err(Refusal::WriteOnce(*table))
            }
            Command::Keys { table, after, limit } => {
                self.check_table(*table)?;
                check_len("key", after.as_ref().map_or(0, Key::len), limits.key_max)?;
                check_len("page", *limit as usize, limits.page_max as usize)
            }
            Command::Subscribe(Topic::Key(table, key)) => {
                self.check_table(*table)?;
                check_len("key", key.len(), limits.key_max)
            }
            Command::CloseSession(_)
            | Command::Fence { .. }
            | Command::Get { .. }
            | Command::Merged { .. }
            | Command::OpenSession
            | Command::Primary { .. }
            | Command::PrimaryTable(_)
            | Command::Remove { .. }
            | Command::Status
            | Command::Subscribe(Topic::Merges | Topic::Quorum | Topic::Roles)
            | Command::Table(_)
            | Command::Unsubscribe(_) => Ok(()),
        }
    }

    fn check_table(&self, table: TableId) -> Result<(), Refusal> {
        match self.config.tables.get(usize::from(table.0)) {
            None => Err(Refusal::NoSuchTable(table)),
            Some(found) if !found.is_consensus() => Err(Refusal::Discipline(table)),
            Some(_) => Ok(()),
        }
    }

    fn check_write(
        &self,
        table: TableId,
        key: &Key,
        value: &Value,
        binds: &[Bind],
    ) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        check_len("value", value.len(), limits.value_max)?;
        check_len("list of bindings", binds.len(), limits.bindings_max)?;
        for bind in binds {
            let possible = match bind {
                Bind::Key { table: other, key: parent } => {
                    self.check_table(*other)?;
                    check_len("key", parent.len(), limits.key_max)?;
                    // A key cannot keep itself alive.
                    (*other, parent) != (table, key)
                }
                Bind::Node(node) => self.members.contains(*node),
                Bind::Session(session) => self.members.contains(session.host),
                Bind::Until(_) => true,
            };
            if !possible {
                return Err(Refusal::InvalidBinding(bind.clone()));
            }
        }
        Ok(())
    }

    /// Whether the node can work for a client now.
    pub(super) fn check_standing(&self, on_no_quorum: OnNoQuorum) -> Result<(), Refusal> {
        if self.requests_in_flight() >= self.config.limits.requests_max {
            return Err(Refusal::Busy);
        }
        if on_no_quorum == OnNoQuorum::Retry
            && matches!(self.readiness, Readiness::Starting | Readiness::Unwitnessed)
        {
            // P-34: it waits for the cluster to come up.
            return Ok(());
        }
        if !self.is_ready() {
            return Err(Refusal::NotReady(self.readiness.clone()));
        }
        if on_no_quorum.gives_up(self.reach.has_quorum()) {
            return Err(Refusal::NoQuorum);
        }
        Ok(())
    }

    fn answer_locally(
        &mut self,
        client: ClientId,
        command: &Command,
        effects: &mut Effects,
    ) -> Option<Outcome> {
        match command {
            Command::CloseSession(session) => {
                // Nobody ends the session of another, and nobody learns whether there is one.
                let own = self.sessions.owner(*session) == Some(client);
                Some(if own && self.end_session(*session, effects).is_some() {
                    effects.push(Effect::Demonitor { session: *session });
                    Outcome::Done
                } else {
                    Outcome::Refused(Refusal::NoSuchSession(*session))
                })
            }
            Command::Get { table, key, level } => self.get_locally(*table, key, *level),
            Command::Status => Some(Outcome::Status(self.status())),
            Command::Subscribe(topic) => Some(self.subscribe(client, topic, effects)),
            Command::Unsubscribe(topic) => {
                self.subscriptions.remove(&(topic.clone(), client));
                Some(Outcome::Done)
            }
            Command::CompareAndSet { .. }
            | Command::Fence { .. }
            | Command::Keys { .. }
            | Command::Merged { .. }
            | Command::OpenSession
            | Command::Primary { .. }
            | Command::PrimaryTable(_)
            | Command::Put { .. }
            | Command::PutIfAbsent { .. }
            | Command::Remove { .. }
            | Command::Table(_) => None,
        }
    }

    /// A read that needs no message: one that may be stale, or one that cannot be (R7).
    fn get_locally(&self, table: TableId, key: &Key, level: ReadLevel) -> Option<Outcome> {
        let register = RegisterId::Key(table, key.clone());
        let floor = self.registers.floor(&register);
        let learned = self.registers.get(&register).and_then(|record| record.learned(&floor));
        if level == ReadLevel::Local {
            if !self.is_ready() {
                return Some(Outcome::Refused(Refusal::NotReady(self.readiness.clone())));
            }
            let (entry, version) = match learned {
                Some((_, cell)) => (cell.entry(), cell.version()),
                None => (None, floor.accepted),
            };
            return Some(Outcome::Found { entry, version });
        }
        // R7: chosen in a table without other writes, and bound to nothing, it is there for ever.
        let (_, cell) = learned?;
        let permanent = self.is_ready()
            && self.config.tables[usize::from(table.0)].is_write_once()
            && cell.live().is_some_and(|live| live.bindings.is_empty());
        permanent.then(|| Outcome::Found { entry: cell.entry(), version: cell.version() })
    }

    fn subscribe(&mut self, client: ClientId, topic: &Topic, effects: &mut Effects) -> Outcome {
        let subscription = (topic.clone(), client);
        if self.subscriptions.contains(&subscription) {
            return Outcome::Done;
        }
        if self.subscriptions.len() >= self.config.limits.subscriptions_max {
            return Outcome::Refused(Refusal::Busy);
        }
        self.subscriptions.insert(subscription);
        match topic {
            // P-25: it begins with the state as it is.
            Topic::Quorum => {
                effects.push(Effect::Notify { client, event: self.quorum_event() });
            }
            Topic::Key(table, key) => {
                self.look_at_key(RegisterId::Key(*table, key.clone()), effects);
            }
            Topic::Merges => {}
            Topic::Roles => {
                let roles = self.roles();
                effects.extend(roles.map(|event| Effect::Notify { client, event }));
            }
        }
        Outcome::Done
    }

    fn status(&self) -> Status {
        let down = self.config.timing.down;
        let reachable = self.reach.members(self.now.instant, down);
        let reachable: Vec<_> = reachable.map(|member| self.members.nodes()[member]).collect();
        Status {
            node: self.config.node,
            epoch: self.epoch,
            cluster_size: self.members.size(),
            quorum_size: self.quorum(),
            reachable,
            has_quorum: self.reach.has_quorum(),
            readiness: self.readiness.clone(),
            node_session: match self.sessions.standing() {
                Standing::Open(number) => Some(number),
                Standing::None | Standing::Suspended(_) => None,
            },
            sessions: self.sessions.len(),
            requests: self.requests_in_flight(),
            registers: self.registers.len(),
        }
    }

    /// What a command means for which register.
    fn plan(&self, command: Command) -> (RegisterId, Goal, Vec<Bind>, Stage) {
        let own = RegisterId::NodeSession(self.config.node);
        let write = |table, key, mode, value, mut binds: Vec<Bind>| {
            // Asked for twice is asked for once: both must name the same life.
            let mut place = 0;
            while place < binds.len() {
                if binds[..place].contains(&binds[place]) {
                    binds.remove(place);
                } else {
                    place += 1;
                }
            }
            let goal = Goal::Write { mode, value, bindings: Vec::new() };
            (RegisterId::Key(table, key), goal, binds, Stage::Backoff)
        };
        let plain =
            |table, key, goal| (RegisterId::Key(table, key), goal, Vec::new(), Stage::Backoff);
        match command {
            Command::CompareAndSet { table, key, expect, value, bindings } => {
                write(table, key, Mode::If(expect), value, bindings)
            }
            Command::Put { table, key, value, bindings } => {
                write(table, key, Mode::Always, value, bindings)
            }
            Command::PutIfAbsent { table, key, value, bindings } => {
                write(table, key, Mode::IfAbsent, value, bindings)
            }
            Command::Fence { table, key } => plain(table, key, Goal::Fence),
            Command::Get { table, key, .. } => plain(table, key, Goal::Get),
            Command::Remove { table, key, generation } => {
                plain(table, key, Goal::Remove { generation })
            }
            Command::Keys { table, after, limit } => {
                // A page of nothing would say that nothing is left.
                let limit = limit.max(1);
                let listing = Listing { table, after, limit, ..Listing::default() };
                (own, Goal::Look, Vec::new(), Stage::Listing { listing })
            }
            // The others have been answered.
            Command::OpenSession
            | Command::CloseSession(_)
            | Command::Merged { .. }
            | Command::Primary { .. }
            | Command::PrimaryTable(_)
            | Command::Status
            | Command::Subscribe(_)
            | Command::Table(_)
            | Command::Unsubscribe(_) => (own, Goal::Look, Vec::new(), Stage::Hosting),
        }
    }

    /// The first step of an operation, and the one to which it returns when the ground has shifted.
    pub(super) fn begin(&mut self, number: u64, effects: &mut Effects) {
        if !self.is_ready() {
            // It must not propose yet: a former life of this node may have used the same ballots.
            return self.wake_after(number, self.config.timing.round);
        }
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        match (&operation.stage, &operation.goal) {
            (Stage::Hosting, _) => self.host_session(number, effects),
            (Stage::Listing { listing }, _) => {
                let message = Message::List {
                    tag: self.tag(number),
                    table: listing.table,
                    after: listing.after.clone(),
                    limit: listing.limit,
                };
                self.wake_after(number, self.config.timing.round);
                self.tell_all(message, effects);
            }
            (_, Goal::Get | Goal::Look | Goal::CloseNodeSession { .. }) => {
                self.read(number, effects);
            }
            (_, Goal::Bury { .. }) => self.verify(number, effects),
            (_, Goal::Inquire(session)) => self.ask(number, *session, effects),
            (_, Goal::Write { bindings, .. })
                if bindings.is_empty() && !operation.binds.is_empty() =>
            {
                self.resolve_binds(number, effects);
            }
            (
                _,
                Goal::Fence
                | Goal::OpenNodeSession
                | Goal::Remove { .. }
                | Goal::RenewNodeSession { .. }
                | Goal::Write { .. },
            ) => self.propose(number, effects),
        }
    }

    /// Hosts the session that a client has asked for, or waits until this node can.
    fn host_session(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get(&number) else {
            return;
        };
        let Asker::Client { client, .. } = operation.asker else {
            return;
        };
        if self.sessions.len() >= self.config.limits.sessions_max {
            let refused = Outcome::Refused(Refusal::Busy);
            return self.finish_request(number, refused, effects);
        }
        match self.sessions.host(client) {
            Some(session) => {
                effects.push(Effect::Monitor { session, client });
                self.finish_request(number, Outcome::Session(session), effects);
            }
            None => self.timers.set(
                Timer::Operation(number),
                operation.deadline.min(self.now.instant + self.config.timing.heartbeat),
            ),
        }
    }
}

const fn changes(command: &Command) -> bool {
    matches!(
        command,
        Command::CompareAndSet { .. }
            | Command::Put { .. }
            | Command::PutIfAbsent { .. }
            | Command::Remove { .. }
    )
}

pub(super) const fn check_len(what: &'static str, len: usize, max: usize) -> Result<(), Refusal> {
    if len > max { Err(Refusal::LimitExceeded { what, len, max }) } else { Ok(()) }
}
