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
mod calls;
mod claims;
mod ending;
mod lists;
mod made;
mod merged;
mod primary;
mod reach;
mod register;
mod resolving;
#[cfg(test)]
mod tests;
mod wanted;
mod watching;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use synod::consensus::{Cell, Change, State};
use synod::monitor::{Cause, NodeSession};
use synod::{
    Ballot, Binding, ClientId, Event, Incarnation, Key, NodeId, OpId, Record, RegisterId,
    SessionId, TableId, Wall,
};

use crate::marks::{Mark, Marks};
use crate::plan::{Nanos, Plan};
use answers::Asked;
use bindings::{Deadline, SessionTruth};
use calls::{Bounds, Call};
pub(crate) use ending::Orphan;
pub(crate) use made::Shows;
use merged::Merged;
pub(crate) use merged::MergedCause;
use primary::Primary;
pub(crate) use primary::{Seat, Stand};
pub(crate) use reach::Echo;
use reach::Reach;
use register::{Register, Wrong};
use resolving::Collision;
use watching::{Shown, Watch};

/// The key of the register that lists the primary tables that are made while nodes run.
const LIST: &str = "$tables";

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) rule: &'static str,
    /// What broke it, without numbers.
    pub(crate) shape: &'static str,
    pub(crate) message: String,
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
    /// Who has told it last that its storage is not the one it is known by.
    told_lost: Vec<bool>,
    /// The most its wall clock ever showed.
    wall_max: u64,
    quorum: Option<bool>,
    /// How many members it last said that it reaches.
    reachable: Option<usize>,
}

/// Something that a proposer did about an ambiguous operation of its own.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    op: OpId,
    slot: usize,
    /// The first ballot at which it was proposed, and how often it was proposed again.
    ballot: Ballot,
    again: u32,
}

/// The oracles of one run.
#[derive(Debug)]
pub(crate) struct Oracle {
    nodes: usize,
    keys: usize,
    /// Registers of node sessions and keys; behind them are those that say who is primary.
    keyed: usize,
    /// Where the list of tables stands, and how often it was read.
    list: Option<usize>,
    list_reads: u64,
    slots: usize,
    /// Seats of the configuration.
    size: usize,
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
    calls: Vec<Call>,
    /// When each node last had as many calls under way as it may.
    full: Vec<Option<u64>>,
    watches: Vec<Watch>,
    /// For each node and register: a life that its process has shown, and the newest version that
    /// it has told of.
    shown: Vec<Option<Shown>>,
    versions: Vec<Ballot>,
    bounds: Bounds,
    reach: Reach,
    merged: Vec<Merged>,
    made: made::MadeTables,
    primary: Vec<Primary>,
    /// Which of them stands at which place of each node, and was asked last by each request.
    seats: Vec<Vec<(TableId, usize)>>,
    asked_of_primary: BTreeMap<OpId, usize>,
    lists: lists::Lists,
    /// The calls of resolvers about each collision: by which node, in which spell.
    resolved: BTreeMap<Collision, Vec<(usize, u64)>>,
    attempts: Vec<Attempt>,
    erasures: Vec<(usize, u64)>,
    breach: Option<Breach>,
    step: u64,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        let nodes = usize::from(plan.cluster.nodes);
        let keys = usize::from(plan.keys);
        let keyed = nodes + plan.tables.len() * keys;
        let primary = Primary::all(plan);
        // Behind the arbiters stands the list of tables that are made.
        let lists = usize::from(plan.tables.iter().any(crate::plan::Table::is_made));
        let slots = keyed + primary.len() + lists;
        let truth = Truth {
            witnessed: vec![None; nodes],
            heard: vec![0; nodes],
            told_lost: vec![false; nodes],
            ..Truth::default()
        };
        Self {
            nodes,
            keys,
            keyed,
            slots,
            list: (lists > 0).then(|| slots - 1),
            list_reads: 0,
            size: usize::from(plan.cluster.size),
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
            calls: Vec::new(),
            full: vec![None; nodes],
            watches: Vec::new(),
            shown: vec![None; nodes * slots],
            versions: vec![Ballot::ZERO; nodes * slots],
            bounds: Bounds {
                requests: plan.cluster.requests_max as usize,
                write_once: plan.tables.iter().map(crate::plan::Table::is_write_once).collect(),
            },
            reach: Reach::new(nodes),
            merged: Merged::all(plan),
            made: made::MadeTables::new(plan),
            seats: vec![Self::seats(&primary); nodes],
            primary,
            asked_of_primary: BTreeMap::new(),
            lists: lists::Lists::default(),
            resolved: BTreeMap::new(),
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
            RegisterId::Key(TableId::ROSTERS, name) => {
                let list = self.keyed + self.primary.len();
                if name.as_bytes() == LIST.as_bytes() {
                    return (list < self.slots).then_some(list);
                }
                let table = self.primary.iter().position(|primary| primary.is_named(name))?;
                Some(self.keyed + table)
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
        (first == b'k' && number < self.keys && slot < self.keyed).then_some(slot)
    }

    /// The register of a number.
    pub(crate) fn name(&self, slot: usize) -> RegisterId {
        if let Some(primary) = slot.checked_sub(self.keyed).and_then(|it| self.primary.get(it)) {
            return RegisterId::Key(TableId::ROSTERS, primary.register());
        }
        if slot >= self.keyed {
            return RegisterId::Key(TableId::ROSTERS, Key::from(LIST));
        }
        match slot.checked_sub(self.nodes) {
            None => RegisterId::NodeSession(node_of(slot)),
            Some(place) => {
                let table = u16::try_from(place / self.keys).unwrap_or(u16::MAX);
                let key = format!("k{}", place % self.keys);
                RegisterId::Key(TableId(table), Key::from(key.as_str()))
            }
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
        if register.is_dropped(ballot) {
            return;
        }
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
        if ballot.sequence > 0 {
            marks.hit(Mark::Followed);
        }
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
                Some(session) => self.check_node_session(node, slot, cell, session, marks),
                None => {
                    if live.generation == ballot
                        && self.registers[slot].newest().is_some_and(|c| c.cell.live().is_none())
                    {
                        marks.hit(Mark::LifeAfterLife);
                    }
                    self.check_write(slot, cell, change.op);
                    let own = self.name(slot);
                    let is_own = |binding: &Binding| matches!(binding, Binding::Key { register, .. } if *register == own);
                    if live.bindings.iter().any(is_own) {
                        let text = format!("{cell} is proposed at {ballot}");
                        self.breaks_at(slot, ("LIN", "bound to itself", text));
                    }
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
        cell: &Cell,
        session: NodeSession,
        marks: &mut Marks,
    ) {
        let ballot = cell.version();
        if session.open {
            self.check_opening(slot, cell, session);
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

    /// W8: no node opens a session in place of one that is open, and that its clients rely on: it
    /// has that renewed, or finds that it was closed.
    fn check_opening(&mut self, slot: usize, cell: &Cell, session: NodeSession) {
        let before = cell.lineage.iter().nth(1).map(|change| change.ballot);
        let before = before.and_then(|before| self.registers[slot].find(before).ok());
        let before =
            before.and_then(|place| self.registers[slot].proposals[place].cell.node_session());
        let Some(before) = before.filter(|before| before.open && before.number < session.number)
        else {
            return;
        };
        let host = node_of(slot);
        let relied = self.sessions.iter().find(|known| {
            known.id.host == host && known.id.node_session == before.number && !known.ended
        });
        if let Some(relied) = relied {
            let text = format!("{host} opens {session} over {before}, which hosts {}", relied.id);
            self.breaks_at(slot, ("W8", "session opened over one that is open", text));
        }
    }

    /// A client's write holds that client's value, in the register it was meant for.
    fn check_write(&mut self, slot: usize, cell: &Arc<Cell>, op: OpId) {
        let Some(asked) = self.asked_of(op) else {
            // Replicas say who is to be primary; that they may is judged elsewhere.
            if op.client.is_internal() && slot < self.keyed {
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
                | Record::Begun { .. }
                | Record::Born { .. }
                | Record::Changed { .. }
                | Record::Incarnation(_)
                | Record::Promised { .. }
                | Record::Witnessed { .. } => {}
                Record::Replica { record, .. } => {
                    if matches!(record, synod::primary::Record::Piece(_)) {
                        marks.hit(Mark::CopiedWhole);
                    }
                }
            }
        }
    }

    fn is_known(&self, slot: usize, ballot: Ballot) -> bool {
        let register = &self.registers[slot];
        register.find(ballot).is_ok() || register.is_dropped(ballot)
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
                Record::Begun { .. } | Record::Changed { .. } => {}
                Record::Replica { table, record } => {
                    self.on_replica_record(node, *table, record);
                }
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
        // The oldest first.
        while let Some(cell) = self.registers[slot].fresh.pop() {
            if self.list == Some(slot) {
                self.on_list_chosen(&cell, marks);
            }
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
    pub(crate) fn on_heard(
        &mut self,
        node: usize,
        from: usize,
        (life, says_lost): (u64, Option<bool>),
        mono: Nanos,
    ) {
        let truth = &mut self.truths[node];
        truth.told_lost[from] = says_lost.unwrap_or(truth.told_lost[from]);
        if truth.witnessed[from] == Some(life) && !truth.told_lost[from] {
            truth.heard[from] = mono;
        }
    }

    /// A node goes on that stood still until now, for long: it has not listened, so the silence of
    /// others meanwhile says nothing (M1).
    pub(crate) fn on_awake(&mut self, node: usize, mono: Nanos) {
        self.truths[node].heard.fill(mono);
    }

    /// A host begins to watch a session.
    pub(crate) fn on_session(&mut self, session: SessionId, client: ClientId) {
        if self.sessions.iter().any(|known| known.id == session) {
            self.breaks("W8", "session number used twice", format!("{session} is opened again"));
        }
        let known = SessionTruth { id: session, client, ended: false, told: None, is_gone: false };
        self.sessions.push(known);
    }

    /// The client of a session is gone.
    pub(crate) fn on_session_left(&mut self, session: SessionId) {
        self.on_session_end(session);
        if let Some(known) = self.sessions.iter_mut().rev().find(|known| known.id == session) {
            known.is_gone = true;
        }
    }

    /// Whose session it is.
    pub(crate) fn owner(&self, session: SessionId) -> Option<ClientId> {
        let known = self.sessions.iter().rev().find(|known| known.id == session);
        known.map(|known| known.client)
    }

    /// W8: a host gives a session up, and may if it is over or if the host is no member any more.
    pub(crate) fn on_session_lost(&mut self, session: SessionId, is_host_lost: bool) {
        if !is_host_lost && !self.session_has_ended(session) {
            let text = format!("{session} is given up by its host; nothing has ended it");
            self.breaks("W8", "session lost that goes on", text);
        }
        self.on_session_end(session);
        self.on_session_told(session);
    }

    /// A session is over: its client died, or has its host close it.
    pub(crate) fn on_session_end(&mut self, session: SessionId) {
        if let Some(known) = self.sessions.iter_mut().rev().find(|known| known.id == session) {
            known.ended = true;
        }
    }

    /// A node's process has started with these records durable. A host that lost its memory lost
    /// its client sessions.
    pub(crate) fn on_start(&mut self, node: usize, records: &[Record], mono: Nanos) {
        self.reach.start(node);
        self.forget_calls(node);
        self.forget_watches(node);
        self.forget_replicas(node);
        let truth = &mut self.truths[node];
        truth.heard.fill(mono);
        truth.told_lost.fill(false);
        truth.witnessed.fill(None);
        truth.quorum = None;
        truth.reachable = None;
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
        self.lose_replicas(node);
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
                attempt.again += 1;
                if attempt.again > 1 {
                    marks.hit(Mark::ResolvedTwice);
                }
            }
            None => {
                let Change { op, ballot } = change;
                self.attempts.push(Attempt { op, slot, ballot, again: 0 });
            }
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
