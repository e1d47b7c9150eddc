//! The oracles: white-box checks of safety, made at every message, record and answer at the seam.
//!
//! An omniscient observer: it sees what every node sends and makes durable, what clients are told,
//! and what truly happened to clients, clocks and disks. From that it derives what is promised,
//! accepted, durable and chosen by itself, and compares. It asks nothing of the engine but its own
//! invariants. `docs/SIMULATION.md` lists the checks with the reason each cannot cry wolf.
//!
//! Must never know: the scheduler. It changes nothing in a run.

mod answers;
mod bindings;
mod reach;
mod register;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::sync::Arc;

use synod::cluster;
use synod::consensus::{self, Cell, Change, State};
use synod::monitor::{Cause, NodeSession};
use synod::{
    Ballot, Binding, Body, ClientId, Event, Incarnation, Key, Message, NodeId, OpId, Record,
    RegisterId, SessionId, TableId, Wall,
};

use crate::marks::{Mark, Marks};
use crate::plan::{Nanos, Nodes, Plan};
use answers::Asked;
use bindings::{Deadline, SessionTruth};
pub(crate) use reach::Echo;
use reach::Reach;
use register::{Register, Wrong};

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) rule: &'static str,
    /// What broke it, without numbers.
    pub(crate) shape: &'static str,
    pub(crate) message: String,
}

/// An entry that lives on though a binding of it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) register: RegisterId,
    pub(crate) binding: Binding,
    /// Whether only the passing of a deadline has ended it: nobody need have done anything.
    pub(crate) late: bool,
}

/// What one acceptor is known to have said and to have made durable about one register.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    /// The highest promise told anybody, as a promise or an acceptance.
    said_promised: Option<Ballot>,
    /// The highest acceptance told anybody.
    said_accepted: Option<Ballot>,
    durable_promised: Option<Ballot>,
    durable_accepted: Option<Ballot>,
}

/// What is true of one node.
#[derive(Clone, Debug, Default)]
struct Truth {
    /// The storage life of its durable `Born`.
    life: Option<u64>,
    /// The storage life in which it first voted.
    voted: Option<u64>,
    active: bool,
    incarnation: Option<Incarnation>,
    /// Whether its storage was destroyed after it had voted.
    lost: bool,
    /// On whose storage life it has taken note durably.
    witnessed: Vec<Option<u64>>,
    /// When it last heard each member, on its own monotonic clock.
    heard: Vec<Nanos>,
    /// The most its wall clock ever showed.
    wall_max: u64,
    quorum: Option<bool>,
}

/// Something that a proposer did about an ambiguous operation of its own.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    op: OpId,
    slot: usize,
    ballot: Ballot,
}

/// The oracles of one run.
#[derive(Debug)]
pub(crate) struct Oracle {
    nodes: usize,
    keys: usize,
    slots: usize,
    quorum: u32,
    down: Nanos,
    registers: Vec<Register>,
    words: Vec<Word>,
    truths: Vec<Truth>,
    sessions: Vec<SessionTruth>,
    /// The newest chosen session of each node.
    node_sessions: Vec<Option<NodeSession>>,
    /// For ballots on session registers: who promised after how long a silence.
    silences: Vec<(usize, Ballot, usize, Nanos)>,
    /// Bindings whose targets were seen to have truly ended when something was first erased for
    /// them, with the event at which that was.
    downs: Vec<(Binding, u64)>,
    asked: Vec<Asked>,
    /// Of the calls under way.
    deadlines: Vec<Deadline>,
    reach: Reach,
    attempts: Vec<Attempt>,
    erasures: Vec<(usize, u64)>,
    breach: Option<Breach>,
    step: u64,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        let nodes = usize::from(plan.cluster.nodes);
        let keys = usize::from(plan.keys);
        let slots = nodes + plan.tables.len() * keys;
        let truth =
            Truth { witnessed: vec![None; nodes], heard: vec![0; nodes], ..Truth::default() };
        Self {
            nodes,
            keys,
            slots,
            quorum: u32::from(plan.quorum()),
            down: plan.cluster.down,
            registers: (0..slots).map(|_| Register::default()).collect(),
            words: vec![Word::default(); nodes * slots],
            truths: vec![truth; nodes],
            sessions: Vec::new(),
            node_sessions: vec![None; nodes],
            silences: Vec::new(),
            downs: Vec::new(),
            asked: Vec::new(),
            deadlines: Vec::new(),
            reach: Reach::new(nodes),
            attempts: Vec::new(),
            erasures: Vec::new(),
            breach: None,
            step: 0,
        }
    }

    /// The first check that failed since it was last asked.
    pub(crate) const fn breach(&mut self) -> Option<Breach> {
        self.breach.take()
    }

    /// How many registers a run can have.
    pub(crate) const fn slots(&self) -> usize {
        self.slots
    }

    /// Tells the oracles which event it is.
    pub(crate) const fn at(&mut self, step: u64) {
        self.step = step;
    }

    #[cold]
    fn breaks(&mut self, rule: &'static str, shape: &'static str, message: impl Display) {
        if self.breach.is_none() {
            self.breach = Some(Breach { rule, shape, message: message.to_string() });
        }
    }

    #[cold]
    fn breaks_at(&mut self, slot: usize, (rule, shape, message): Wrong) {
        let register = self.name(slot);
        self.breaks(rule, shape, format!("{register}: {message}"));
    }

    /// The number of a register, if a plan can have made it.
    #[inline]
    pub(crate) fn slot(&self, register: &RegisterId) -> Option<usize> {
        match register {
            RegisterId::NodeSession(node) => {
                let place = usize::from(node.0).checked_sub(1)?;
                (place < self.nodes).then_some(place)
            }
            RegisterId::Key(table, key) => self.key_slot(*table, key),
        }
    }

    /// The number of a key's register.
    #[inline]
    pub(crate) fn key_slot(&self, table: TableId, key: &Key) -> Option<usize> {
        let (&first, digits) = key.as_bytes().split_first()?;
        let mut number = 0_usize;
        for digit in digits {
            number = number * 10 + usize::from(digit.wrapping_sub(b'0'));
        }
        let slot = self.nodes + usize::from(table.0) * self.keys + number;
        (first == b'k' && number < self.keys && slot < self.slots).then_some(slot)
    }

    /// The register of a number.
    pub(crate) fn name(&self, slot: usize) -> RegisterId {
        match slot.checked_sub(self.nodes) {
            None => RegisterId::NodeSession(node_of(slot)),
            Some(place) => {
                let table = u16::try_from(place / self.keys).unwrap_or(u16::MAX);
                let key = format!("k{}", place % self.keys);
                RegisterId::Key(TableId(table), Key::from(key.as_str()))
            }
        }
    }

    // ---- what nodes send ------------------------------------------------------------------

    /// A node sends a message: every claim it makes is compared with the truth.
    pub(crate) fn on_send(
        &mut self,
        node: usize,
        to: usize,
        message: &Message,
        slot: Option<usize>,
        marks: &mut Marks,
    ) {
        let truth = &self.truths[node];
        // W12: nothing leaves a process life that could be forgotten.
        if !truth.lost
            && (truth.life != Some(message.life.0) || truth.incarnation < Some(message.incarnation))
            && !matches!(message.body, Body::Cluster(_) if truth.life.is_none())
        {
            let (life, incarnation) = (message.life.0, message.incarnation.0);
            self.breaks(
                "W12",
                "message from a life that is not durable",
                format!(
                    "n{} sends {message} in life {life:x}, incarnation {incarnation}, of which \
                     its disk knows nothing",
                    node + 1
                ),
            );
        }
        match &message.body {
            Body::Consensus(message) => self.on_consensus(node, message, slot, marks),
            Body::Cluster(message) => self.on_cluster(node, to, message),
            Body::Monitor(_) => {}
        }
    }

    /// W12: that a peer's storage is on record is told once it is on the disk. Who counts its
    /// witnesses relies on them never to forget it (P-32).
    fn on_cluster(&mut self, node: usize, to: usize, message: &cluster::Message) {
        let cluster::Message::HeartbeatAck { recorded, .. } = message else { return };
        if self.truths[node].witnessed[to] != Some(recorded.0) {
            self.breaks(
                "W12",
                "witness not durable",
                format!(
                    "n{} tells n{} that it has taken note of storage life {:x}, which is not on \
                     its disk",
                    node + 1,
                    to + 1,
                    recorded.0
                ),
            );
        }
    }

    fn on_consensus(
        &mut self,
        node: usize,
        message: &consensus::Message,
        slot: Option<usize>,
        marks: &mut Marks,
    ) {
        let Some(slot) = slot else {
            if let consensus::Message::Listing { items, .. } = message {
                self.on_listing(node, items);
            } else if !matches!(message, consensus::Message::List { .. }) {
                let text = format!("n{} sends {message}", node + 1);
                self.breaks("W1", "unknown register", text);
            }
            return;
        };
        match message {
            consensus::Message::Prepare { ballot, .. } => self.on_prepare(node, slot, *ballot),
            consensus::Message::Promise { ballot, accepted, cell, chosen, .. } => {
                self.on_promise(node, slot, *ballot);
                self.on_state(node, slot, *accepted, cell.as_ref(), *chosen, message);
            }
            consensus::Message::ReadReply { accepted, cell, chosen, .. } => {
                self.mark_empties(slot, *accepted, cell.as_deref(), marks);
                self.on_state(node, slot, *accepted, cell.as_ref(), *chosen, message);
            }
            consensus::Message::Accept { ballot, cell, .. } => {
                if usize::from(ballot.node.0) != node + 1 && self.is_known(slot, *ballot) {
                    marks.hit(Mark::ReadCompleted);
                }
                self.propose(node, slot, *ballot, cell, marks);
            }
            consensus::Message::Accepted { ballot, .. } => self.on_accepted(node, slot, *ballot),
            consensus::Message::Commit { ballot, .. } => {
                self.check_chosen(node, slot, *ballot, "W9", "commit of what is not chosen");
            }
            consensus::Message::Reject { .. }
            | consensus::Message::Read { .. }
            | consensus::Message::List { .. }
            | consensus::Message::Listing { .. } => {}
        }
    }

    fn on_prepare(&mut self, node: usize, slot: usize, ballot: Ballot) {
        let truth = &self.truths[node];
        if usize::from(ballot.node.0) != node + 1 || Some(ballot.incarnation) != truth.incarnation {
            self.breaks(
                "W1",
                "ballot of another life",
                format!("n{} prepares {ballot}, which is not its own", node + 1),
            );
        }
        let register = &mut self.registers[slot];
        if ballot != register.prepared_max {
            register.prepared += 1;
            register.prepared_max = ballot;
        }
    }

    /// A member that counts: its storage is what it was when it first voted (W6).
    fn check_voter(&mut self, node: usize, what: &str) {
        let truth = &mut self.truths[node];
        if truth.lost || !truth.active {
            let why = if truth.lost {
                "its storage was lost after it had voted"
            } else {
                "it has not durably become a voter"
            };
            let life = truth.life;
            self.breaks(
                "W6",
                if self.truths[node].lost { "amnesiac votes" } else { "votes before active" },
                format!("n{} {what} in life {life:x?}, but {why}", node + 1),
            );
        } else if truth.voted.is_none() {
            truth.voted = truth.life;
        }
    }

    fn on_promise(&mut self, node: usize, slot: usize, ballot: Ballot) {
        self.check_voter(node, "promises");
        let word = self.words[node * self.slots + slot];
        if word.said_promised > Some(ballot) {
            let said = word.said_promised.unwrap_or(Ballot::ZERO);
            self.breaks(
                "W4",
                "promise goes back",
                format!("n{} promises {ballot} after it had promised {said}", node + 1),
            );
        }
        if word.durable_promised.max(word.durable_accepted) < Some(ballot) {
            self.breaks(
                "W12",
                "promise not durable",
                format!("n{} promises {ballot}, which is not on its disk", node + 1),
            );
        }
        let word = &mut self.words[node * self.slots + slot];
        word.said_promised = word.said_promised.max(Some(ballot));
    }

    fn on_accepted(&mut self, node: usize, slot: usize, ballot: Ballot) {
        self.check_voter(node, "accepts");
        let word = self.words[node * self.slots + slot];
        // What was accepted before the promise may be said again, also late: the promise told of it.
        let register = &self.registers[slot];
        let voted = register
            .find(ballot)
            .is_ok_and(|place| register.proposals[place].votes >> node & 1 == 1);
        if word.said_promised > Some(ballot) && !voted {
            let said = word.said_promised.unwrap_or(Ballot::ZERO);
            self.breaks(
                "W5",
                "accepted below the promise",
                format!("n{} accepts {ballot} after it had promised {said}", node + 1),
            );
        }
        if word.durable_accepted < Some(ballot) {
            self.breaks(
                "W12",
                "acceptance not durable",
                format!("n{} says it accepted {ballot}, which is not on its disk", node + 1),
            );
        }
        let word = &mut self.words[node * self.slots + slot];
        word.said_promised = word.said_promised.max(Some(ballot));
        word.said_accepted = word.said_accepted.max(Some(ballot));
    }

    /// What an acceptor says it has accepted.
    fn on_state(
        &mut self,
        node: usize,
        slot: usize,
        accepted: Ballot,
        cell: Option<&Arc<Cell>>,
        chosen: bool,
        message: &consensus::Message,
    ) {
        self.check_voter(node, "tells what it accepted");
        let word = self.words[node * self.slots + slot];
        if !accepted.is_genesis() && word.durable_accepted < Some(accepted) {
            self.breaks(
                "W12",
                "told what is not durable",
                format!("n{} sends {message}, which is not on its disk", node + 1),
            );
        }
        if word.said_accepted > Some(accepted) {
            let said = word.said_accepted.unwrap_or(Ballot::ZERO);
            self.breaks(
                "W4",
                "acceptance goes back",
                format!("n{} sends {message} after it had accepted {said}", node + 1),
            );
        }
        let word = &mut self.words[node * self.slots + slot];
        word.said_accepted = word.said_accepted.max(Some(accepted));
        if accepted.is_genesis() {
            if cell.is_some_and(|cell| cell.live().is_some()) {
                self.breaks("W1", "life at genesis", format!("n{} sends {message}", node + 1));
            }
            return;
        }
        match (self.registers[slot].find(accepted), cell) {
            (Ok(place), Some(cell)) => {
                let known = &self.registers[slot].proposals[place].cell;
                if !Arc::ptr_eq(known, cell) && known != cell {
                    let text = format!("n{} sends {message}, but {known} was proposed", node + 1);
                    self.breaks("W1", "two contents at one ballot", text);
                }
            }
            _ => self.breaks(
                "W1",
                "accepted what was not proposed",
                format!("n{} sends {message}", node + 1),
            ),
        }
        if chosen {
            self.check_chosen(node, slot, accepted, "W9", "said chosen what is not");
        }
    }

    fn on_listing(&mut self, node: usize, items: &[consensus::Listed]) {
        self.check_voter(node, "lists");
        // The table is not in the message, so only what holds for any table is checked: there are
        // plans with one table, and there all of it is.
        if self.slots != self.nodes + self.keys {
            return;
        }
        for item in items {
            let Some(slot) = self.key_slot(TableId(0), &item.key) else { continue };
            let word = self.words[node * self.slots + slot];
            if !item.accepted.is_genesis() && word.durable_accepted < Some(item.accepted) {
                self.breaks(
                    "W12",
                    "listed what is not durable",
                    format!("n{} lists {} at {}", node + 1, item.key, item.accepted),
                );
            }
            if item.chosen {
                let shape = "listed as chosen what is not";
                self.check_chosen(node, slot, item.accepted, "W9", shape);
            }
        }
    }

    fn check_chosen(
        &mut self,
        node: usize,
        slot: usize,
        ballot: Ballot,
        rule: &'static str,
        shape: &'static str,
    ) {
        if ballot.is_genesis() {
            return;
        }
        let register = &self.registers[slot];
        if !register.find(ballot).is_ok_and(|place| register.proposals[place].chosen) {
            let votes = register.find(ballot).map_or(0, |place| register.proposals[place].votes);
            let register = self.name(slot);
            self.breaks(
                rule,
                shape,
                format!(
                    "n{} says that {ballot} of {register} is chosen; only {} have accepted it",
                    node + 1,
                    votes.count_ones()
                ),
            );
        }
    }

    // ---- proposals and votes --------------------------------------------------------------

    /// A content is proposed at a ballot, by a message or by the proposer's own record.
    fn propose(
        &mut self,
        node: usize,
        slot: usize,
        ballot: Ballot,
        cell: &Arc<Cell>,
        marks: &mut Marks,
    ) {
        let register = &mut self.registers[slot];
        let place = match register.find(ballot) {
            Ok(place) => {
                let known = &register.proposals[place].cell;
                if !Arc::ptr_eq(known, cell) && known != cell {
                    let text = format!("at {ballot} both {known} and {cell} are proposed");
                    return self.breaks_at(slot, ("W1", "two contents at one ballot", text));
                }
                return;
            }
            Err(place) => place,
        };
        let proposal = register::Proposal { ballot, cell: cell.clone(), votes: 0, chosen: false };
        register.proposals.insert(place, proposal);
        if usize::from(ballot.node.0) != node + 1
            || Some(ballot.incarnation) != self.truths[node].incarnation
        {
            let text = format!("n{} is the first to propose {cell} at {ballot}", node + 1);
            return self.breaks_at(slot, ("W1", "ballot of another life", text));
        }
        if let Err(wrong) = self.registers[slot].check_builds(place) {
            return self.breaks_at(slot, wrong);
        }
        match cell.lineage.last() {
            Some(change) if change.ballot == ballot => {
                self.on_change(node, slot, cell, *change, marks);
            }
            Some(change) if change.ballot > ballot => {
                let text = format!("{cell} at {ballot} says it was changed at {}", change.ballot);
                self.breaks_at(slot, ("W2", "changed above its own ballot", text));
            }
            _ => {}
        }
    }

    /// A proposal that changes the register: is it justified?
    fn on_change(
        &mut self,
        node: usize,
        slot: usize,
        cell: &Arc<Cell>,
        change: Change,
        marks: &mut Marks,
    ) {
        let ballot = change.ballot;
        self.mark_attempt(slot, change, marks);
        match &cell.state {
            State::Dead(Cause::Erased(binding)) => {
                self.check_erase(node, slot, ballot, binding, marks);
            }
            State::Dead(_) => {}
            State::Live(live) => match cell.node_session() {
                Some(session) => self.check_node_session(node, slot, ballot, session, marks),
                None => {
                    if live.generation == ballot
                        && self.registers[slot].newest().is_some_and(|c| c.cell.live().is_none())
                    {
                        marks.hit(Mark::LifeAfterLife);
                    }
                    self.check_write(slot, cell, change.op);
                }
            },
        }
    }

    /// W8: nothing is erased but for what truly happened, and that before it was proposed.
    fn check_erase(
        &mut self,
        node: usize,
        slot: usize,
        ballot: Ballot,
        binding: &Binding,
        marks: &mut Marks,
    ) {
        let just = match binding {
            Binding::Session(session) => self.session_has_ended(*session),
            Binding::Node { node, session } => self.node_session_has_ended(*node, *session),
            Binding::Key { register, generation } => self
                .slot(register)
                .is_some_and(|target| self.registers[target].has_ended(*generation)),
            Binding::Until(wall) => self.clocks_past(*wall) >= self.quorum,
        };
        if !just {
            let text = format!("n{} erases at {ballot} for {binding}, which goes on", node + 1);
            let shape = match binding {
                Binding::Session(_) => "erased for a session that goes on",
                Binding::Node { .. } => "erased for a node session that goes on",
                Binding::Key { .. } => "erased for a key that lives",
                Binding::Until(_) => "erased before its deadline",
            };
            return self.breaks_at(slot, ("W8", shape, text));
        }
        if !self.downs.iter().any(|(known, _)| known == binding) {
            self.downs.push((binding.clone(), self.step));
        }
        self.erasures.push((slot, self.step));
        let racing = self.registers[slot].proposals.iter().rev().take(4).any(|proposal| {
            !proposal.chosen && proposal.cell.live().is_some() && proposal.ballot != ballot
        });
        if racing {
            marks.hit(Mark::EraseRacedPut);
        }
    }

    /// W8 and M2: a node's session is opened and renewed by the node alone, and closed only after
    /// a quorum, each for itself, had not heard the node for the whole of the time.
    fn check_node_session(
        &mut self,
        node: usize,
        slot: usize,
        ballot: Ballot,
        session: NodeSession,
        marks: &mut Marks,
    ) {
        if session.open {
            if slot != node {
                let text = format!("n{} opens {session} at {ballot}", node + 1);
                self.breaks_at(slot, ("W8", "session opened by another node", text));
            }
            return;
        }
        if slot == node {
            return;
        }
        marks.hit(Mark::SessionClosed);
        let mut members = 0_u64;
        for &(register, at, acceptor, silence) in &self.silences {
            if register == slot && at == ballot && silence >= self.down {
                members |= 1 << acceptor;
            }
        }
        if members.count_ones() < self.quorum {
            let text = format!(
                "n{} closes the session of n{} at {ballot} though only {} of the acceptors that \
                 promised had not heard it for {} ms",
                node + 1,
                slot + 1,
                members.count_ones(),
                self.down / 1_000_000
            );
            self.breaks_at(slot, ("W8", "session closed without silence", text));
        }
    }

    /// A client's write holds that client's value, in the register it was meant for.
    fn check_write(&mut self, slot: usize, cell: &Arc<Cell>, op: OpId) {
        let Some(asked) = self.asked_of(op) else {
            if op.client.is_internal() {
                let text = format!("{op} puts {cell}");
                self.breaks_at(slot, ("LIN", "a node writes by itself", text));
            }
            return;
        };
        let right = asked.slot == Some(slot)
            && register::value(cell).is_some_and(|value| Some(value) == asked.value.as_ref())
            && cell.live().is_some_and(|live| answers::are_asked(&asked.command, &live.bindings));
        if !right {
            let text = format!("{op} puts {cell}, which it was not asked to");
            self.breaks_at(slot, ("LIN", "put what was not asked", text));
        }
    }

    /// A node gives records to its disk: they are what it will answer for.
    pub(crate) fn on_persist(
        &mut self,
        node: usize,
        records: &[Record],
        mono: Nanos,
        marks: &mut Marks,
    ) {
        for record in records {
            match record {
                Record::Accepted { register, ballot, cell } => {
                    let Some(slot) = self.slot(register) else { continue };
                    // The proposer's own acceptor may be the first to see it.
                    if usize::from(ballot.node.0) == node + 1 || self.is_known(slot, *ballot) {
                        self.propose(node, slot, *ballot, cell, marks);
                    } else {
                        let text = format!("n{} accepts {cell} at {ballot}", node + 1);
                        self.breaks_at(slot, ("W1", "accepted what was not proposed", text));
                    }
                }
                Record::Promised { register: RegisterId::NodeSession(of), ballot } => {
                    self.on_silence(node, usize::from(of.0).wrapping_sub(1), *ballot, mono);
                }
                Record::Active { .. }
                | Record::Born { .. }
                | Record::Incarnation(_)
                | Record::Promised { .. }
                | Record::Witnessed { .. } => {}
            }
        }
    }

    fn is_known(&self, slot: usize, ballot: Ballot) -> bool {
        self.registers[slot].find(ballot).is_ok()
    }

    /// Notes how long an acceptor had not heard a node when it promised a ballot on its session.
    fn on_silence(&mut self, acceptor: usize, of: usize, ballot: Ballot, mono: Nanos) {
        if of >= self.nodes {
            return;
        }
        let silence =
            if acceptor == of { 0 } else { mono.saturating_sub(self.truths[acceptor].heard[of]) };
        // Only closings look here, and a closing follows its promises soon.
        if self.silences.len() >= 4096 {
            self.silences.drain(..2048);
        }
        self.silences.push((of, ballot, acceptor, silence));
    }

    /// Records are durable.
    pub(crate) fn on_durable(&mut self, node: usize, records: &[Record]) {
        for record in records {
            match record {
                Record::Accepted { register, ballot, .. } => {
                    let Some(slot) = self.slot(register) else { continue };
                    let word = &mut self.words[node * self.slots + slot];
                    if word.durable_accepted > Some(*ballot) {
                        self.goes_back(node, slot, "acceptance");
                        continue;
                    }
                    if word.durable_promised > Some(*ballot) {
                        let text = format!("n{} logs {record} below its promise", node + 1);
                        self.breaks_at(slot, ("W5", "accepted below the promise", text));
                        continue;
                    }
                    word.durable_accepted = Some(*ballot);
                }
                Record::Promised { register, ballot } => {
                    let Some(slot) = self.slot(register) else { continue };
                    let word = &mut self.words[node * self.slots + slot];
                    if word.durable_promised.max(word.durable_accepted) > Some(*ballot) {
                        self.goes_back(node, slot, "promise");
                        continue;
                    }
                    word.durable_promised = Some(*ballot);
                }
                Record::Active { .. } => self.truths[node].active = true,
                Record::Born { life, .. } => self.truths[node].life = Some(life.0),
                Record::Incarnation(incarnation) => {
                    let truth = &mut self.truths[node];
                    if truth.incarnation >= Some(*incarnation) {
                        let text = format!("n{} begins incarnation {incarnation} again", node + 1);
                        self.breaks("W1", "incarnation used twice", text);
                    } else {
                        truth.incarnation = Some(*incarnation);
                    }
                }
                Record::Witnessed { peer, life } => {
                    let place = usize::from(peer.0).wrapping_sub(1);
                    if let Some(known) = self.truths[node].witnessed.get_mut(place) {
                        known.get_or_insert(life.0);
                    }
                }
            }
        }
    }

    #[cold]
    fn goes_back(&mut self, node: usize, slot: usize, what: &str) {
        let text = format!("n{} logs a {what} below an earlier one", node + 1);
        self.breaks_at(slot, ("W4", "record goes back", text));
    }

    /// A node knows its own records to be durable, by confirmation or by recovery: its acceptances
    /// are votes.
    pub(crate) fn on_votes(&mut self, node: usize, records: &[Record], marks: &mut Marks) {
        if self.truths[node].lost {
            return;
        }
        for record in records {
            let Record::Accepted { register, ballot, .. } = record else { continue };
            let Some(slot) = self.slot(register) else { continue };
            let Ok(place) = self.registers[slot].find(*ballot) else { continue };
            let proposal = &mut self.registers[slot].proposals[place];
            proposal.votes |= 1 << node;
            if !proposal.chosen && proposal.votes.count_ones() >= self.quorum {
                self.choose(slot, place, marks);
            }
        }
    }

    fn choose(&mut self, slot: usize, place: usize, marks: &mut Marks) {
        if let Err(wrong) = self.registers[slot].choose(place, self.step) {
            return self.breaks_at(slot, wrong);
        }
        let cell = self.registers[slot].proposals[place].cell.clone();
        if slot < self.nodes {
            self.registers[slot].fresh.clear();
            if let Some(session) = cell.node_session() {
                self.node_session_chosen(slot, session, marks);
            }
            return;
        }
        while let Some(cell) = self.registers[slot].fresh.pop() {
            let change = cell.lineage.last();
            let first = change.and_then(|change| self.first_attempt(change.op));
            if first.is_some_and(|(_, first)| change.is_some_and(|now| now.ballot > first)) {
                marks.hit(Mark::PreemptedThenWon);
            }
            self.mark_chosen(slot, &cell, marks);
            if let Some(change) = cell.lineage.last() {
                self.check_rejected(slot, change.op, &cell);
            }
        }
    }

    fn node_session_chosen(&mut self, slot: usize, session: NodeSession, marks: &mut Marks) {
        let known = &mut self.node_sessions[slot];
        let order = |session: NodeSession| (session.number, !session.open);
        if known.is_none_or(|known| order(known) < order(session)) {
            if session.open && known.is_some_and(|known| !known.open) {
                marks.hit(Mark::SessionReopened);
            }
            *known = Some(session);
        }
    }

    fn mark_chosen(&self, slot: usize, cell: &Cell, marks: &mut Marks) {
        let State::Dead(Cause::Erased(binding)) = &cell.state else { return };
        marks.hit(match binding {
            Binding::Key { .. } => Mark::ErasedKey,
            Binding::Node { .. } => Mark::ErasedNode,
            Binding::Session(_) => Mark::ErasedSession,
            Binding::Until(_) => Mark::ErasedDeadline,
        });
        if let Binding::Key { register, .. } = binding
            && let Some(target) = self.slot(register)
            && target != slot
            && self.registers[target]
                .newest()
                .is_some_and(|chosen| matches!(&chosen.cell.state, State::Dead(Cause::Erased(_))))
        {
            marks.hit(Mark::Cascade);
        }
    }

    // ---- what truly happened --------------------------------------------------------------

    /// Whether the deadline of a live entry has passed by some of these clocks but not by a quorum
    /// of them.
    pub(crate) fn clocks_disagree(&self, walls: &[Wall]) -> bool {
        let mut bindings = self.registers[self.nodes..]
            .iter()
            .filter_map(|register| register.live())
            .flat_map(|live| &live.bindings);
        bindings.any(|binding| {
            let Binding::Until(until) = binding else { return false };
            let past = walls.iter().filter(|wall| *wall >= until).count() as u32;
            (1..self.quorum).contains(&past)
        })
    }

    /// The number of nodes whose wall clock has ever shown `wall` or later.
    fn clocks_past(&self, wall: Wall) -> u32 {
        self.truths.iter().map(|truth| u32::from(truth.wall_max >= wall.0)).sum()
    }

    fn node_session_has_ended(&self, node: NodeId, number: u64) -> bool {
        let place = usize::from(node.0).wrapping_sub(1);
        let known = self.node_sessions.get(place).copied().flatten();
        known.is_some_and(|known| known.has_ended(number))
    }

    /// Whether the node session that hosts a client session is decided to be over.
    pub(crate) fn is_closed(&self, session: SessionId) -> bool {
        self.node_session_has_ended(session.host, session.node_session)
    }

    /// Whether a client session is over: ended by its client's end or its own, or with its host's.
    pub(crate) fn session_has_ended(&self, session: SessionId) -> bool {
        let known = self.sessions.iter().rev().find(|known| known.id == session);
        known.is_none_or(|known| known.ended)
            || self.node_session_has_ended(session.host, session.node_session)
    }

    /// Whether a binding's target is over, for certain.
    pub(crate) fn has_ended(&self, binding: &Binding) -> bool {
        match binding {
            Binding::Session(session) => self.session_has_ended(*session),
            Binding::Node { node, session } => self.node_session_has_ended(*node, *session),
            Binding::Key { register, generation } => self
                .slot(register)
                .is_some_and(|target| self.registers[target].has_ended(*generation)),
            Binding::Until(_) => false,
        }
    }

    /// A message leaves: what its arrival will show of the links.
    #[inline]
    pub(crate) fn depart(&self, from: usize, to: usize, mono: Nanos) -> Echo {
        self.reach.depart(from, to, mono)
    }

    /// A node is about to handle a message.
    #[inline]
    pub(crate) fn arrive(&mut self, from: usize, to: usize, echo: Echo) {
        self.reach.arrive(from, to, echo);
    }

    /// A node has handled a message from a peer.
    #[inline]
    pub(crate) fn on_heard(&mut self, node: usize, from: usize, life: u64, mono: Nanos) {
        if self.truths[node].witnessed[from] == Some(life) {
            self.truths[node].heard[from] = mono;
        }
    }

    /// A node goes on that stood still until now, for long: it has not listened, so the silence of
    /// others meanwhile says nothing (M1).
    pub(crate) fn on_awake(&mut self, node: usize, mono: Nanos) {
        self.truths[node].heard.fill(mono);
    }

    /// A host begins to watch a session.
    pub(crate) fn on_session(&mut self, session: SessionId) {
        if self.sessions.iter().any(|known| known.id == session) {
            self.breaks("W8", "session number used twice", format!("{session} is opened again"));
        }
        self.sessions.push(SessionTruth { id: session, ended: false, told: None });
    }

    /// A session is over: its client died, or is about to be told that it is closed.
    pub(crate) fn on_session_end(&mut self, session: SessionId) {
        if let Some(known) = self.sessions.iter_mut().rev().find(|known| known.id == session) {
            known.ended = true;
        }
    }

    /// A node's process has started with these records durable. A host that lost its memory lost
    /// its client sessions.
    pub(crate) fn on_start(&mut self, node: usize, records: &[Record], mono: Nanos) {
        self.reach.start(node);
        let truth = &mut self.truths[node];
        truth.heard.fill(mono);
        truth.witnessed.fill(None);
        truth.quorum = None;
        for record in records {
            if let Record::Witnessed { peer, life } = record {
                let place = usize::from(peer.0).wrapping_sub(1);
                if let Some(known) = truth.witnessed.get_mut(place) {
                    *known = Some(life.0);
                }
            }
        }
        let (host, step) = (node_of(node), self.step);
        for session in self.sessions.iter_mut().filter(|session| session.id.host == host) {
            session.ended = true;
            session.told.get_or_insert(step);
        }
    }

    /// A node's storage is destroyed.
    pub(crate) fn on_lost(&mut self, node: usize) {
        let truth = &mut self.truths[node];
        truth.lost |= truth.voted.is_some();
        truth.life = None;
        truth.incarnation = None;
        truth.active = false;
        let lost = truth.lost;
        for word in &mut self.words[node * self.slots..(node + 1) * self.slots] {
            word.durable_promised = None;
            word.durable_accepted = None;
            if !lost {
                *word = Word::default();
            }
        }
    }

    /// Whether a node's storage was destroyed after it had voted.
    pub(crate) fn is_lost(&self, node: usize) -> bool {
        self.truths[node].lost
    }

    /// Whether a node has durably become a voter.
    pub(crate) fn is_active(&self, node: usize) -> bool {
        self.truths[node].active && !self.truths[node].lost
    }

    /// Quorum events alternate, and start with the state as it is; a quorum that is said to be
    /// reached has lately been heard and has heard (P-25).
    pub(crate) fn on_quorum_event(
        &mut self,
        node: usize,
        event: &Event,
        mono: Nanos,
        marks: &mut Marks,
    ) {
        let reached = matches!(event, Event::QuorumReached { .. });
        if !reached && !matches!(event, Event::QuorumLost { .. }) {
            return;
        }
        let before = self.truths[node].quorum.replace(reached);
        if before == Some(reached) {
            let text = format!("n{} says twice in a row: {event}", node + 1);
            self.breaks("L5", "quorum events do not alternate", text);
        }
        let members = self.reach.both_ways(node, mono, self.down);
        if reached && members < self.quorum {
            let text = format!(
                "n{} says that it reaches a quorum; only {members} of the {} needed, itself \
                 included, have heard it and answered within {} ms",
                node + 1,
                self.quorum,
                self.down / 1_000_000
            );
            self.breaks("L5", "quorum reached that is not", text);
        }
        match (before, reached) {
            (Some(true), false) => marks.hit(Mark::QuorumLost),
            (Some(false), true) => marks.hit(Mark::QuorumRegained),
            _ => {}
        }
    }

    /// What a node last said of its quorum.
    pub(crate) fn has_quorum(&self, node: usize) -> Option<bool> {
        self.truths[node].quorum
    }

    /// A watcher was told that a life ended: it is over, by choice.
    pub(crate) fn on_ended(&mut self, table: TableId, key: &Key, generation: Ballot) {
        let Some(slot) = self.key_slot(table, key) else {
            return self.breaks("W3", "unknown register", format!("ended {table}/{key}"));
        };
        if !self.registers[slot].has_ended(generation) {
            let text = format!("a watcher was told that life {generation} ended; it goes on");
            self.breaks_at(slot, ("W3", "told of an end that was not", text));
        }
    }

    // ---- for the end of a run -------------------------------------------------------------

    /// L2: a live entry of which a binding has ended, or names a node that is gone for good, or
    /// whose deadline has passed by the clock `wall`; rather one that no deadline accounts for.
    /// Asks whether such a life, so bound, is still what a reader would find: what is accepted but
    /// not chosen is completed by who reads it.
    pub(crate) fn orphan(
        &self,
        gone: Nodes,
        wall: Wall,
        is_found: impl Fn(&RegisterId, Ballot, &Binding) -> bool,
    ) -> Option<Orphan> {
        let is_over = |binding: &Binding| {
            self.has_ended(binding)
                || match binding {
                    Binding::Node { node, .. } => gone.has(node.0),
                    Binding::Session(session) => gone.has(session.host.0),
                    Binding::Until(until) => *until <= wall,
                    Binding::Key { .. } => false,
                }
        };
        let orphans = (self.nodes..self.slots).flat_map(|slot| {
            let live = self.registers[slot].live();
            let over = live.into_iter().flat_map(|live| {
                let over = live.bindings.iter().filter(|binding| is_over(binding));
                over.map(|binding| (live.generation, binding))
            });
            over.filter_map(|(generation, binding)| {
                let register = self.name(slot);
                is_found(&register, generation, binding).then(|| Orphan {
                    register,
                    binding: binding.clone(),
                    late: self.is_late(binding),
                })
            })
            .collect::<Vec<_>>()
        });
        orphans.min_by_key(|orphan| orphan.late)
    }

    /// Whether a binding is a deadline, or ended with an entry that a deadline ended, however many
    /// others lie between.
    fn is_late(&self, binding: &Binding) -> bool {
        let mut binding = binding;
        // Each was over before the next; so what goes round in circles did not happen.
        for _ in 0..self.slots {
            let (register, generation) = match binding {
                Binding::Until(_) => return true,
                Binding::Key { register, generation } => (register, *generation),
                Binding::Node { .. } | Binding::Session(_) => return false,
            };
            let end = self.slot(register).and_then(|slot| self.registers[slot].end_of(generation));
            match end.map(|end| &end.cell.state) {
                Some(State::Dead(Cause::Erased(before))) => binding = before,
                Some(State::Dead(_) | State::Live(_)) | None => return false,
            }
        }
        false
    }

    /// The deadlines of all entries that are chosen or may be yet, and how many registers hold
    /// entries that may end with them.
    pub(crate) fn deadlines_to_come(&self) -> (Vec<Wall>, usize) {
        let (mut deadlines, mut dependants) = (Vec::new(), 0);
        for register in &self.registers[self.nodes..] {
            let newest = register.newest().map(|chosen| chosen.ballot);
            let maybe = register.proposals.iter().rev();
            let maybe = maybe.take_while(|proposal| Some(proposal.ballot) >= newest);
            let bindings = maybe.filter_map(|proposal| proposal.cell.live());
            let bindings = bindings.flat_map(|live| &live.bindings);
            let mut is_dependant = false;
            for binding in bindings {
                match binding {
                    Binding::Until(wall) => deadlines.push(*wall),
                    Binding::Key { .. } => is_dependant = true,
                    Binding::Node { .. } | Binding::Session(_) => {}
                }
            }
            dependants += usize::from(is_dependant);
        }
        (deadlines, dependants)
    }

    /// How many ballots were prepared, but for those on the sessions of nodes that are gone: how
    /// soon these are closed, and by how many at once, is not counted.
    pub(crate) fn prepared(&self, gone: Nodes) -> u64 {
        let registers = self.registers.iter().enumerate();
        let counted = registers.filter(|(slot, _)| *slot >= self.nodes || gone.0 >> slot & 1 == 0);
        counted.map(|(_, register)| register.prepared).sum()
    }

    /// The newest chosen session of a node.
    pub(crate) fn node_session(&self, node: usize) -> Option<NodeSession> {
        self.node_sessions[node]
    }

    /// Bindings that something was erased for, and the event of the first such erasure.
    pub(crate) fn downs(&self) -> &[(Binding, u64)] {
        &self.downs
    }

    /// The bindings with which an operation's entry was chosen.
    pub(crate) fn bindings_of(&self, slot: usize, op: OpId) -> Option<Vec<Binding>> {
        let change = self.registers[slot].change_of(op)?;
        Some(change.cell.live()?.bindings.clone())
    }

    /// The value that a life began with.
    pub(crate) fn birth(&self, register: &RegisterId, generation: Ballot) -> Option<synod::Value> {
        let slot = self.slot(register)?;
        let birth = self.registers[slot].version(generation)?;
        register::value(&birth.cell).cloned()
    }

    /// Forgets what no check will ask for any more, so that a run of a year stays small: all but
    /// the newest proposals of each register, and the chosen ones among them.
    pub(crate) fn forget(&mut self) {
        const KEPT: usize = 256;
        for register in &mut self.registers {
            if register.proposals.len().max(register.chosen.len()) > 4 * KEPT {
                register.forget(KEPT);
            }
        }
        if self.asked.len() > 8 * KEPT {
            self.asked.drain(..4 * KEPT);
        }
    }

    // ---- marks of ambiguous operations ----------------------------------------------------

    /// "Nothing there" is a ballot like any other: two acceptors may mean different ones.
    fn mark_empties(&self, slot: usize, ballot: Ballot, cell: Option<&Cell>, marks: &mut Marks) {
        let dead = |cell: Option<&Cell>| cell.is_none_or(|cell| cell.live().is_none());
        if slot >= self.nodes && dead(cell) {
            let newest = self.registers[slot].newest();
            if newest.is_some_and(|newest| newest.ballot != ballot && dead(Some(&newest.cell))) {
                marks.hit(Mark::MixedEmpties);
            }
        }
    }

    /// Notes the attempts of client operations, to see which of the four cases each next one is.
    fn mark_attempt(&mut self, slot: usize, change: Change, marks: &mut Marks) {
        if change.op.client.is_internal() {
            return;
        }
        let earlier = self.attempts.iter_mut().rev().find(|attempt| attempt.op == change.op);
        match earlier {
            Some(attempt) => {
                // It is proposed afresh: so either nothing as late as its first attempt was seen
                // (ii), or what was seen had complete lineage since (iii).
                let newest = self.registers[slot].newest().map(|newest| newest.ballot);
                let first = attempt.ballot;
                marks.hit(if newest < Some(first) {
                    Mark::AgainEvaluated
                } else {
                    Mark::AgainDead
                });
                marks.hit(Mark::RoundDuel);
            }
            None => self.attempts.push(Attempt { op: change.op, slot, ballot: change.ballot }),
        }
    }

    /// Whether an operation was proposed at all, and at which ballot first.
    pub(crate) fn first_attempt(&self, op: OpId) -> Option<(usize, Ballot)> {
        let attempt = self.attempts.iter().rev().find(|attempt| attempt.op == op)?;
        Some((attempt.slot, attempt.ballot))
    }
}

/// The node at a place.
pub(crate) fn node_of(place: usize) -> NodeId {
    NodeId(u16::try_from(place + 1).unwrap_or(u16::MAX))
}

/// The operation of a client's request.
pub(crate) const fn op(client: ClientId, request: synod::RequestId) -> OpId {
    OpId { client, request }
}
