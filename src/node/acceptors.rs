//! This node's acceptors: what peers ask of them, and what they may answer.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Body, Effects, Node, Record};
use crate::base::{Key, RegisterId, TableId, Ticket};
use crate::consensus::{Cell, Listed, Message, Tag, Testimony};
use crate::monitor::{Binding, Fact};
use crate::paxos::Ballot;

/// No proposer gets here; above it there is room for this node's own rounds.
pub(super) const ROUND_MAX: u64 = u64::MAX / 2;

/// A round further ahead than this is not the work of a proposer: at a million attempts a second it
/// would have taken twelve days while this node was away. Following it could use up the rounds for
/// everybody (Z66). What is left of 64 bits is enough for as many leaps as a year has seconds.
pub(super) const ROUND_LEAP_MAX: u64 = 1 << 40;

impl Node {
    pub(super) fn on_consensus(&mut self, from: usize, message: Message, effects: &mut Effects) {
        if !self.is_ready() || !self.is_plausible(&message) {
            return;
        }
        match message {
            Message::Accept { tag, register, ballot, cell } => {
                self.on_accept(from, tag, register, ballot, cell, effects);
            }
            Message::Accepted { tag, register, ballot, suspect } => {
                self.on_accepted(from, tag, &register, ballot, suspect, effects);
            }
            Message::Commit { register, ballot } => self.on_commit(&register, ballot, effects),
            Message::List { tag, table, after, limit } => {
                self.on_list(from, tag, table, after.as_ref(), limit, effects);
            }
            Message::Listing { tag, items, more } => {
                self.on_listing(from, tag, items, more, effects);
            }
            Message::Prepare { tag, register, ballot } => {
                self.on_prepare(from, tag, register, ballot, effects);
            }
            promise @ Message::Promise { .. } => self.on_promise(from, promise, effects),
            Message::Read { tag, register } => self.on_read(from, tag, register, effects),
            reply @ Message::ReadReply { .. } => self.on_read_reply(from, reply, effects),
            Message::Reject { tag, register, ballot, promised } => {
                self.on_reject(tag, &register, ballot, promised, effects);
            }
        }
    }

    /// Whether a ballot from the wire may be followed.
    fn is_followable(&mut self, ballot: Ballot) -> bool {
        if ballot.epoch != self.epoch
            || ballot.is_genesis()
            || ballot.round > self.round.saturating_add(ROUND_LEAP_MAX).min(ROUND_MAX)
            || !self.members.contains(ballot.node)
        {
            return false;
        }
        self.round = self.round.max(ballot.round);
        true
    }

    fn on_prepare(
        &mut self,
        from: usize,
        tag: Tag,
        register: RegisterId,
        ballot: Ballot,
        effects: &mut Effects,
    ) {
        if !self.is_followable(ballot) {
            return;
        }
        let floor = self.registers.floor(&register);
        let ticket = self.ticket;
        let record = self.registers.entry(&register);
        if let Err(promised) = record.prepare(&floor, ballot, ticket) {
            return self.reject(from, tag, register, ballot, promised, effects);
        }
        self.log(Record::Promised { register: register.clone(), ballot });
        let (accepted, cell, chosen, suspect) = self.accepted(&register);
        let testimony = self.testify(&register);
        let promise =
            Message::Promise { tag, register, ballot, accepted, cell, chosen, suspect, testimony };
        self.tell(from, promise, ticket, effects);
    }

    fn on_accept(
        &mut self,
        from: usize,
        tag: Tag,
        register: RegisterId,
        ballot: Ballot,
        cell: Arc<Cell>,
        effects: &mut Effects,
    ) {
        if !self.is_followable(ballot) {
            return;
        }
        let floor = self.registers.floor(&register);
        let ticket = self.ticket;
        let record = self.registers.entry(&register);
        let after = if record.acceptor().accepted_ballot(&floor) == ballot {
            // A duplicate, or a reader completing what is accepted here already: the same content,
            // and on its way to the disk already. Other content would be a second one for one
            // ballot (I1): whoever sends that gets no vote for it.
            if record.acceptor().content() != Some(&cell) {
                return;
            }
            record.ticket()
        } else {
            let before = record.bindings().to_vec();
            if let Err(promised) = record.accept(&floor, ballot, cell.clone(), ticket) {
                return self.reject(from, tag, register, ballot, promised, effects);
            }
            if before != record.bindings() {
                self.index.remove(&register, &before);
                if let Some(live) = cell.live() {
                    self.index.insert(&register, &live.bindings);
                }
                self.forget_ended(&before);
            }
            self.log(Record::Accepted { register: register.clone(), ballot, cell: cell.clone() })
        };
        let bindings = cell.live().map_or(&[][..], |live| &live.bindings);
        let suspect = bindings.iter().any(|binding| self.may_have_ended(binding));
        let accepted = Message::Accepted { tag, register, ballot, suspect };
        self.tell(from, accepted, after, effects);
    }

    /// Nothing changed, so nothing more must be durable than what was promised already; and a "no"
    /// binds nobody, so it need not wait for that either.
    fn reject(
        &mut self,
        from: usize,
        tag: Tag,
        register: RegisterId,
        ballot: Ballot,
        promised: Ballot,
        effects: &mut Effects,
    ) {
        let reject = Message::Reject { tag, register, ballot, promised };
        self.tell(from, reject, Ticket(0), effects);
    }

    fn on_read(&mut self, from: usize, tag: Tag, register: RegisterId, effects: &mut Effects) {
        let (accepted, cell, chosen, suspect) = self.accepted(&register);
        // A3: only what is durable is told, so what is told is never taken back.
        let after = self.registers.get(&register).map_or(Ticket(0), |record| record.ticket());
        let testimony = self.testify(&register);
        let reply =
            Message::ReadReply { tag, register, accepted, cell, chosen, suspect, testimony };
        self.tell(from, reply, after, effects);
    }

    /// What this node knows at first hand that may matter to a ballot on `register`.
    fn testify(&self, register: &RegisterId) -> Testimony {
        let silent = match register {
            // Our own word that we are alive: nobody closes our session over it (M2).
            RegisterId::NodeSession(node) if *node == self.config.node => 0,
            RegisterId::NodeSession(node) => self.members.index(*node).map_or(0, |member| {
                let silent = self.silence.of(member, self.now.instant).as_millis();
                u64::try_from(silent).unwrap_or(u64::MAX)
            }),
            RegisterId::Key(..) => 0,
        };
        Testimony { wall: self.now.wall, silent }
    }

    /// A(k), whether it is known to be chosen, and whether a binding of it may have ended.
    fn accepted(&self, register: &RegisterId) -> (Ballot, Option<Arc<Cell>>, bool, bool) {
        let floor = self.registers.floor(register);
        let Some(record) = self.registers.get(register) else {
            // Nobody touched it: dead since the floor, which is chosen by definition.
            return (floor.accepted, None, true, false);
        };
        let cell = record.acceptor().content().cloned();
        let accepted = record.acceptor().accepted_ballot(&floor);
        let chosen = accepted == floor.accepted || record.is_chosen(&floor);
        let suspect = record.bindings().iter().any(|binding| self.may_have_ended(binding));
        (accepted, cell, chosen, suspect)
    }

    /// Whether what this node has *accepted*, chosen or not, says that a binding's target has
    /// ended. Never evidence by itself: whoever is told so inquires (E3).
    ///
    /// A write and the ending of what it is bound to share an acceptor. If that acceptor accepted
    /// the ending first, it flags the write here; if the write first, its index finds the write
    /// when the ending is learned. So no entry is orphaned, at no extra cost.
    pub(super) fn may_have_ended(&self, binding: &Binding) -> bool {
        match binding {
            Binding::Key { register, generation } => {
                let floor = self.registers.floor(register);
                self.registers.get(register).is_some_and(|record| {
                    let acceptor = record.acceptor();
                    let live = acceptor.content().and_then(|cell| cell.live());
                    acceptor.accepted_ballot(&floor) > *generation
                        && live.is_none_or(|live| live.generation != *generation)
                        || record.learned(&floor).is_some_and(|(ballot, cell)| {
                            has_ended(ballot, Some(cell), *generation)
                        })
                })
            }
            Binding::Node { node, session } => self.may_have_closed(*node, *session),
            Binding::Session(session) => {
                self.may_have_closed(session.host, session.node_session)
                    || self.monitors.ended.contains(session)
                    || session.host == self.config.node
                        && self.sessions.fact(*session) == Fact::Ended
            }
            Binding::Until(wall) => self.now.wall >= *wall,
        }
    }

    fn may_have_closed(&self, node: crate::NodeId, session: u64) -> bool {
        let register = RegisterId::NodeSession(node);
        let accepted = self
            .registers
            .get(&register)
            .and_then(|record| record.acceptor().content())
            .and_then(|cell| cell.node_session());
        let learned = self.registers.node_session(node);
        [accepted, learned].into_iter().flatten().any(|known| known.has_ended(session))
    }

    fn on_list(
        &mut self,
        from: usize,
        tag: Tag,
        table: TableId,
        after: Option<&Key>,
        limit: u32,
        effects: &mut Effects,
    ) {
        let limit = limit.min(self.config.limits.page_max) as usize;
        let mut items: Vec<Listed> = Vec::new();
        let mut more = false;
        let mut ticket = Ticket(0);
        for (key, record) in self.registers.page(table, after) {
            let floor = self.registers.floor(&RegisterId::Key(table, key.clone()));
            let accepted = record.acceptor().accepted_ballot(&floor);
            if accepted == floor.accepted {
                continue;
            }
            if items.len() == limit {
                more = true;
                break;
            }
            ticket = ticket.max(record.ticket());
            let live = record.acceptor().content().is_some_and(|cell| cell.live().is_some());
            items.push(Listed {
                key: key.clone(),
                accepted,
                live,
                chosen: record.is_chosen(&floor),
                suspect: record.bindings().iter().any(|binding| self.may_have_ended(binding)),
            });
        }
        self.tell(from, Message::Listing { tag, items, more }, ticket, effects);
    }

    /// Sends a question or answer about sessions; they depend on nothing durable.
    pub(super) fn send_monitor(
        &mut self,
        to: usize,
        message: crate::monitor::Message,
        effects: &mut Effects,
    ) {
        self.send(to, Body::Monitor(message), Ticket(0), effects);
    }
}

/// Whether the life `generation` of a register is over, given that `cell` is *chosen* there at
/// `ballot`. A ballot chosen above the birth builds on it, or that birth was never chosen and
/// cannot be any more; a ballot below it proves nothing. Once true, always true.
pub(super) fn has_ended(ballot: Ballot, cell: Option<&Arc<Cell>>, generation: Ballot) -> bool {
    let live = cell.and_then(|cell| cell.live());
    ballot > generation && live.is_none_or(|live| live.generation != generation)
}
