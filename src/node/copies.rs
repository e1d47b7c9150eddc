//! This node's copies of merged tables: what clients ask of them, what copies tell each other, what
//! is written down. Where no copy is kept, one that is elsewhere is asked (L-05).
//!
//! Durable before visible holds for each copy as a whole: whatever leaves it, an answer or a
//! message, waits for the last record of it that was written.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::time::Duration;

use super::catalogue::listed_by;
use super::pulls::Pulls;
use super::requests::check_len;
use super::{Body, Effect, Effects, Event, Foreign, Held, MergeEvent, Node, Record, Timer};
use crate::base::{
    FRAME_MAX, Incarnation, Instant, Key, Life, NodeId, OpId, TableId, Ticket, Value, Wall,
};
use crate::consensus::{OnNoQuorum, Outcome, Readiness, Refusal, Sent, Topic};
use crate::merged::{
    self, Actor, Agreement, Answer, Applied, BATCH_MAX, CATALOGUE, Change, Command, Declined,
    Durability, Journal, Message, Mutation, Pull, Remote, RemoteContent, Replica, Replicas, Row,
    Schema, Step, Table, TableName, Unfit,
};

/// How many bytes of keys and values one batch may hold.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// How long everything else has its turn before a copy goes on putting in rows.
const PAUSE: Duration = Duration::from_millis(5);

/// What a node is told that asks for a row which no message holds.
const TOO_LONG: &str = "the row is longer than a message between nodes: ask a node with a copy";

/// How many events of a table are kept to be told.
const HISTORY_MAX: usize = 32;

/// How many bytes of rows the answer to another node may have: half of what a frame may, since they
/// are counted by about.
const ANSWER_BYTES_MAX: usize = FRAME_MAX / 2;

/// How many of the latest writes that were done for a peer are remembered.
const DONE_MAX: usize = 1_024;

/// The copies, and who waits for what of them.
#[derive(Debug, Default)]
pub(super) struct Copies {
    copies: BTreeMap<TableId, Copy>,
    /// Every merged table there is, kept here or not.
    names: BTreeMap<TableName, TableId>,
    /// The same, by their places.
    hashes: BTreeMap<TableId, TableName>,
    /// What was recovered, until the copies begin.
    journals: BTreeMap<TableName, Journal>,
    /// Requests whose answer waits for the disk: for what, and what is said if that takes too long.
    waiting: BTreeMap<OpId, (Ticket, Outcome)>,
    asks: BTreeMap<u64, Ask>,
    /// The latest number of an ask.
    asks_made: u64,
    /// The latest writes of each peer that came here to be done for it.
    done_for: BTreeMap<NodeId, DoneFor>,
    /// The process lives of peers, of whom something may be asked.
    lives: BTreeMap<NodeId, Incarnation>,
    heard: BTreeSet<NodeId>,
    /// What is asked of peers, as fast as it may be.
    pub(super) pulls: Pulls,
    /// The table that has last gone on with what is done little by little.
    worked: Option<TableId>,
}

/// One copy.
#[derive(Debug)]
struct Copy {
    replica: Replica,
    durable: bool,
    /// Of its last record.
    ticket: Ticket,
    /// Its latest events, and when they were.
    history: VecDeque<(Wall, merged::Event)>,
}

/// A request that a copy elsewhere is to answer.
#[derive(Debug)]
struct Ask {
    op: OpId,
    table: TableId,
    command: Command,
    deadline: Instant,
    /// How often it was sent.
    sent: usize,
    /// To whom last, unless that one has declined.
    asked: Option<NodeId>,
    /// Who has declined.
    declined: BTreeSet<NodeId>,
}

/// The latest writes that came from one process of a peer.
#[derive(Debug, Default)]
struct DoneFor {
    by: Incarnation,
    numbers: BTreeSet<u64>,
    /// Of what is not above this it is not known any more whether it came.
    forgotten: u64,
}

impl DoneFor {
    /// Takes note that a write has come; says whether it is certain that it had not come before.
    fn is_first(&mut self, by: Incarnation, number: u64) -> bool {
        if by > self.by {
            *self = Self { by, ..Self::default() };
        }
        if by < self.by || number <= self.forgotten || !self.numbers.insert(number) {
            return false;
        }
        if self.numbers.len() > DONE_MAX {
            self.forgotten = self.numbers.pop_first().unwrap_or_default();
        }
        true
    }
}

impl Ask {
    /// Whether the table may have been changed for it.
    fn may_be_done(&self) -> bool {
        self.asked.is_some() && self.command.changes()
    }
}

impl Copies {
    /// Gives a request a number of its own, which is the greatest so far.
    fn number(&mut self, ask: Ask) -> u64 {
        self.asks_made += 1;
        self.asks.insert(self.asks_made, ask);
        self.asks_made
    }

    pub(super) fn is_asked(&self, op: &OpId) -> bool {
        self.waiting.contains_key(op) || self.asks.values().any(|ask| ask.op == *op)
    }

    /// A table there is, and by which name its copies know each other.
    pub(super) fn name(&mut self, table: TableId, name: TableName) {
        self.names.insert(name, table);
        self.hashes.insert(table, name);
    }

    pub(super) fn knows(&self, name: TableName) -> bool {
        self.names.contains_key(&name)
    }

    pub(super) fn hash(&self, table: TableId) -> Option<TableName> {
        self.hashes.get(&table).copied()
    }

    /// As what a copy was begun that was recovered and holds something.
    pub(super) fn recovered(&self, name: TableName) -> Option<Agreement> {
        let table = self.journals.get(&name)?.table();
        (!table.seen().is_empty()).then(|| table.agreement().clone())
    }

    pub(super) fn all_recovered_of(&self, node: NodeId, life: Life) -> bool {
        let mut actors = self.journals.values().map(|journal| journal.table().actor());
        actors.all(|actor| actor.node == node && actor.life == life)
    }

    /// Has a copy count on more of the others.
    pub(super) fn meet(&mut self, table: TableId, peers: Vec<NodeId>, now: Instant) {
        if let Some(copy) = self.copies.get_mut(&table) {
            copy.replica.meet(peers, now);
        }
    }

    /// There is no such table any more. Says what was written down of a copy, if anything was.
    pub(super) fn forget(&mut self, table: TableId) -> Option<(TableName, Actor, Agreement)> {
        let name = self.hashes.remove(&table)?;
        self.names.remove(&name);
        self.pulls.forget(table);
        let copy = self.copies.remove(&table).filter(|copy| copy.durable)?;
        Some((name, copy.replica.table().actor(), copy.replica.table().agreement().clone()))
    }

    /// A question of a copy waits for its turn.
    pub(super) fn hold_pull(&mut self, table: TableId) {
        if let Some(copy) = self.copies.get_mut(&table) {
            copy.replica.hold_pull();
        }
    }

    /// Its turn has come; says whether it still is to be asked.
    pub(super) fn send_pull(&mut self, table: TableId, pull: &Pull, now: Instant) -> bool {
        self.copies.get_mut(&table).is_some_and(|copy| copy.replica.send_pull(pull, now))
    }

    /// Whether a copy takes no writes, since it is older than what it has told others.
    pub(super) fn is_rewound(&self, table: TableId) -> bool {
        self.copies.get(&table).is_some_and(|copy| copy.replica.is_rewound())
    }

    pub(super) fn recover_begun(&mut self, table: TableName, actor: Actor, agreement: Agreement) {
        self.journals.insert(table, Journal::new(agreement, actor));
    }

    pub(super) fn recover_changed(
        &mut self,
        table: TableName,
        by: Incarnation,
        change: Change,
        last: bool,
    ) -> Result<(), Foreign> {
        self.journals.get_mut(&table).ok_or(Foreign::NotBegun)?.add(by, change, last);
        Ok(())
    }
}

impl Node {
    /// This node's copy of a merged table, if it keeps one.
    #[must_use]
    pub fn merged(&self, table: TableId) -> Option<&Table> {
        self.copies.copies.get(&table).map(|copy| copy.replica.table())
    }

    /// The merged tables that there are for this node, kept here or not: by which name their copies
    /// know each other, and what people call them.
    pub fn merged_tables(&self) -> impl Iterator<Item = (TableId, TableName, &str)> {
        self.copies.hashes.iter().filter_map(|(table, hash)| {
            let config = self.config.tables.get(usize::from(table.0))?;
            Some((*table, *hash, config.name.as_str()))
        })
    }

    /// Every copy that this node keeps.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Table> {
        self.copies.copies.values().map(|copy| copy.replica.table())
    }

    pub(super) fn requests_in_flight(&self) -> usize {
        let copies = self.copies.waiting.len() + self.copies.asks.len();
        self.requests.len()
            + copies
            + self.replicas.requests_in_flight()
            + self.agreed.requests_in_flight()
    }

    // ------------------------------------------------------------------ beginning

    /// Makes the copies that this node is to keep, from what was recovered of them.
    pub(super) fn begin_copies(&mut self) -> Result<(), Foreign> {
        let tables = self.config.tables.iter().enumerate();
        let merged = tables.filter_map(|(place, table)| {
            Some((TableId(place as u16), table.name.clone(), table.schema()?.clone()))
        });
        let declared: Vec<_> = merged.collect();
        self.recover_catalogue()?;
        for (table, name, schema) in declared {
            let name = self.name_declared(table, &name);
            self.copies.name(table, name);
            if schema.replicas.contains(self.config.node) {
                self.begin_copy(table, name, &schema)?;
            }
        }
        let mut nothing = Effects::new();
        self.read_catalogue(&mut nothing);
        debug_assert!(nothing.is_empty(), "a node says nothing before it has started");
        self.copies.journals.clear();
        Ok(())
    }

    /// Who keeps copies besides this node.
    pub(super) fn peers_of(&self, schema: &Schema) -> Vec<NodeId> {
        let replicas = match &schema.replicas {
            Replicas::All => &self.config.members,
            Replicas::Only(nodes) => nodes,
        };
        replicas.iter().copied().filter(|peer| *peer != self.config.node).collect()
    }

    pub(super) fn begin_copy(
        &mut self,
        table: TableId,
        name: TableName,
        schema: &Schema,
    ) -> Result<(), Foreign> {
        let node = self.config.node;
        let peers = self.peers_of(schema);
        let alone = peers.is_empty();
        let (life, incarnation) = (self.life, self.incarnation);
        let actor = Actor { node, life, incarnation, anew: 0 };
        let agreement = schema.agreement();
        let durable = schema.durability == Durability::Disk;
        // One that has seen nothing is begun anew: its name may have been used without a disk.
        let journal = self.copies.journals.remove(&name);
        // What is set aside for one that has seen nothing is of use to the same table only.
        let journal = journal.filter(|journal| {
            let found = journal.table();
            let is_same = *found.agreement() == agreement;
            !found.seen().is_empty() || found.progress().is_some() && is_same
        });
        let copy = match journal {
            Some(mut journal) if durable => {
                let of = journal.table().actor();
                if of.node != node || of.life != self.life {
                    return Err(Foreign::Node);
                }
                if *journal.table().agreement() != agreement {
                    if !journal.table().may_become(&agreement) {
                        return Err(Foreign::Agreement);
                    }
                    let becomes = Some(agreement.clone());
                    let change = Change { becomes, ..Change::default() };
                    let by = self.incarnation;
                    journal.add(by, change.clone(), true);
                    self.log(Record::Changed { table: name, by, change, last: true });
                }
                journal.into_table(agreement, alone)
            }
            stale => {
                if durable || stale.is_some() {
                    self.log(Record::Begun { table: name, actor, agreement: agreement.clone() });
                }
                Table::new(agreement, actor, alone)
            }
        };
        // The list is read as a whole.
        let mut copy = copy;
        if name == TableName::of(CATALOGUE) {
            copy.work(usize::MAX);
        }
        let pace = self.pace_of(name);
        let replica = Replica::new(name, schema, copy, peers, self.incarnation, pace);
        let ticket = if durable { self.ticket } else { Ticket(0) };
        let history = VecDeque::new();
        self.copies.copies.insert(table, Copy { replica, durable, ticket, history });
        Ok(())
    }

    // ------------------------------------------------------------------ stepping

    /// Has a copy do something, and sees to what comes of it.
    pub(super) fn step_copy<T>(
        &mut self,
        table: TableId,
        effects: &mut Effects,
        act: impl FnOnce(&mut Replica, &BTreeSet<NodeId>, &mut Step) -> T,
    ) -> Option<T> {
        let Copies { copies, heard, pulls, .. } = &mut self.copies;
        let copy = copies.get_mut(&table)?;
        let mut step = Step::default();
        let result = act(&mut copy.replica, heard, &mut step);
        let (durable, name) = (copy.durable, copy.replica.name());
        pulls.settle(table, step.taken, copy.replica.waits_for_answer());
        let shows_more = step.applied.iter().any(Applied::shows_change);
        let is_list = self.catalogue.table == Some(table);
        let listed = (is_list && shows_more).then(|| listed_by(&step.changes));
        if durable && !step.changes.is_empty() {
            copy.ticket = self.ticket;
            let by = self.incarnation;
            for change in step.changes {
                for (change, last) in change.split() {
                    self.records.push(Record::Changed { table: name, by, change, last });
                }
            }
        }
        let after = self.durable_with(table);
        for (to, message) in step.sends {
            self.send_merged(table, to, message, after, effects);
        }
        if self.copies.copies.get(&table).is_some_and(|copy| copy.replica.has_work()) {
            self.timers.hasten(Timer::Copies, self.now.instant + PAUSE);
        }
        self.tell_step(table, step.applied, step.events, effects);
        match listed {
            Some(Some(rows)) => self.read_rows(rows, effects),
            Some(None) => self.read_catalogue(effects),
            None => {}
        }
        Some(result)
    }

    /// One copy goes on with what is done little by little; the next when the timer is due again.
    pub(super) fn on_copies_timer(&mut self, effects: &mut Effects) {
        let copies = self.copies.copies.iter().filter(|(_, copy)| copy.replica.has_work());
        let busy: Vec<TableId> = copies.map(|(table, _)| *table).collect();
        let next =
            busy.iter().find(|table| Some(**table) > self.copies.worked).or_else(|| busy.first());
        let Some(&table) = next.filter(|_| self.merges()) else { return };
        self.copies.worked = Some(table);
        self.timers.set(Timer::Copies, self.now.instant + PAUSE);
        self.step_copy(table, effects, |replica, _, step| replica.on_pause(step));
    }

    /// Logs, remembers and tells what a step came to.
    fn tell_step(
        &mut self,
        table: TableId,
        applied: Vec<Applied>,
        events: Vec<merged::Event>,
        effects: &mut Effects,
    ) {
        let (node, name) = (self.config.node.0, &self.config.tables[usize::from(table.0)].name);
        for applied in applied {
            for row in applied.raised {
                tracing::warn!(node, table = name, %row, "conflict raised");
                self.tell_merges(MergeEvent::Raised { table, row }, effects);
            }
            for (row, value) in applied.lost {
                tracing::info!(node, table = name, %row, bytes = value.len(), "value lost");
                self.tell_merges(MergeEvent::Lost { table, row, value }, effects);
            }
            for row in applied.cleared {
                tracing::info!(node, table = name, %row, "conflict cleared");
                self.tell_merges(MergeEvent::Cleared { table, row }, effects);
            }
        }
        for event in events {
            if let merged::Event::Rewound { .. } = event {
                tracing::error!(node, table = name, "{event}");
            } else {
                tracing::info!(node, table = name, "{event}");
            }
            self.tell_merges(MergeEvent::Table { table, event: event.clone() }, effects);
            if let Some(copy) = self.copies.copies.get_mut(&table) {
                if copy.history.len() == HISTORY_MAX {
                    copy.history.pop_front();
                }
                copy.history.push_back((self.now.wall, event));
            }
        }
    }

    /// When everything that a copy holds is durable.
    pub(super) fn durable_with(&self, table: TableId) -> Ticket {
        self.copies.copies.get(&table).map_or(Ticket(0), |copy| copy.ticket)
    }

    fn tell_merges(&self, event: MergeEvent, effects: &mut Effects) {
        self.notify(&Topic::Merges, &Event::Merge(event), effects);
    }

    /// Whether this node's copies are in use: they need no vote, but they are not to speak for a
    /// storage that is not the one that others know.
    pub(super) const fn merges(&self) -> bool {
        !matches!(self.readiness, Readiness::StateLost(_))
    }

    pub(super) fn tick_copies(&mut self, effects: &mut Effects) {
        if !self.merges() {
            return;
        }
        let now = self.now;
        for table in self.copies.copies.keys().copied().collect::<Vec<_>>() {
            self.step_copy(table, effects, |replica, _, step| replica.on_tick(now, step));
        }
    }

    /// Looks who is heard: only a hint, for what is to be pushed to whom and for events. Copies
    /// become equal whether or not anybody noticed that they were apart (U-09).
    pub(super) fn update_peers(&mut self, effects: &mut Effects) {
        if self.copies.names.is_empty() {
            return;
        }
        let now = self.now.instant;
        let members = self.reach.members(now, self.config.timing.down);
        let me = self.me;
        let heard = members.filter(|member| *member != me).map(|m| self.members.nodes()[m]);
        let heard: BTreeSet<NodeId> = heard.collect();
        let before = core::mem::replace(&mut self.copies.heard, heard.clone());
        for peer in before.difference(&heard) {
            tracing::info!(node = self.config.node.0, peer = peer.0, "peer lost");
            self.tell_merges(MergeEvent::PeerLost(*peer), effects);
            self.copies.copies.values_mut().for_each(|copy| copy.replica.on_lost(*peer));
        }
        for peer in heard.difference(&before) {
            tracing::info!(node = self.config.node.0, peer = peer.0, "peer back");
            self.tell_merges(MergeEvent::PeerBack(*peer), effects);
            for table in self.copies.copies.keys().copied().collect::<Vec<_>>() {
                self.step_copy(table, effects, |replica, _, step| {
                    replica.on_back(*peer, now, step);
                });
            }
        }
    }

    /// What another copy says.
    pub(super) fn on_merged(
        &mut self,
        from: usize,
        life: Life,
        message: Message,
        effects: &mut Effects,
    ) {
        let from = self.members.nodes()[from];
        if !self.merges() || !message.is_of(from, life) {
            return;
        }
        if message.table == TableName::of(CATALOGUE) {
            self.begin_catalogue();
        }
        let Some(&table) = self.copies.names.get(&message.table) else { return };
        let now = self.now;
        self.step_copy(table, effects, |replica, _, step| {
            replica.on_message(from, message.body, now, step);
        });
    }

    // ------------------------------------------------------------------ answering

    pub(super) fn on_merged_request(
        &mut self,
        op: OpId,
        sent: Sent,
        patience: Duration,
        on_no_quorum: OnNoQuorum,
        (table, command): (TableId, Command),
        effects: &mut Effects,
    ) {
        let refused = self.check_merged(table, &command).err();
        if let Some(refusal) = refused {
            return self.decline(op, Outcome::Refused(refusal), effects);
        }
        // It cannot be told whether an earlier attempt was done.
        if sent == Sent::Again && command.changes() {
            return self.decline(op, Outcome::Unknown, effects);
        }
        if self.copies.copies.contains_key(&table) {
            let answer = self.serve(table, &command, effects);
            let outcome = answer.map_or_else(Outcome::Refused, Outcome::Merged);
            let after = self.durable_with(table);
            let until = (self.now.instant + patience, command.changes(), table);
            return self.reply(op, outcome, after, until, effects);
        }
        if on_no_quorum == OnNoQuorum::Return
            && self.next_replica(table, &BTreeSet::new(), 0).is_none()
        {
            let refused = Outcome::Refused(Refusal::NoReplica(table));
            return self.decline(op, refused, effects);
        }
        let (deadline, asked) = (self.now.instant + patience, None);
        let declined = BTreeSet::new();
        self.begin_ask(Ask { op, table, command, deadline, sent: 0, asked, declined }, effects);
    }

    fn begin_ask(&mut self, ask: Ask, effects: &mut Effects) {
        let number = self.copies.number(ask);
        self.on_ask_timer(number, effects);
    }

    fn serve(
        &mut self,
        table: TableId,
        command: &Command,
        effects: &mut Effects,
    ) -> Result<Answer, Refusal> {
        let now = self.now;
        let answer = self.step_copy(table, effects, |replica, heard, step| {
            replica.serve(command, now, |peer| heard.contains(&peer), step)
        });
        let mut answer = answer.ok_or(Refusal::NoReplica(table))?.map_err(Refusal::Unfit)?;
        if let (Answer::Info(info), Some(copy)) = (&mut answer, self.copies.copies.get(&table)) {
            info.history = copy.history.iter().cloned().collect();
        }
        Ok(answer)
    }

    /// Answers at once, for nothing has been read or written.
    pub(super) fn decline(&self, op: OpId, outcome: Outcome, effects: &mut Effects) {
        effects.push(Effect::Reply { client: op.client, request: op.request, outcome });
    }

    /// Answers once everything up to `after` is durable, or when the client's patience ends.
    pub(super) fn reply(
        &mut self,
        op: OpId,
        outcome: Outcome,
        after: Ticket,
        (deadline, changes, table): (Instant, bool, TableId),
        effects: &mut Effects,
    ) {
        let after = after.max(self.started_ticket);
        if after <= self.persisted || matches!(outcome, Outcome::Refused(_) | Outcome::Unknown) {
            return self.decline(op, outcome, effects);
        }
        let overdue = overdue(changes, table);
        self.copies.waiting.insert(op, (after, overdue));
        self.timers.set(Timer::Answer(op), deadline);
        self.held += 1;
        self.outbox.entry(after).or_default().push(Held::Reply(op, outcome));
    }

    /// The disk has taken longer than the client waits.
    pub(super) fn on_answer_timer(&mut self, op: OpId, effects: &mut Effects) {
        if let Some((_, overdue)) = self.copies.waiting.remove(&op) {
            self.decline(op, overdue, effects);
        }
    }

    /// What an answer waited for is durable. The request may have been answered, or even asked
    /// again, since.
    pub(super) fn release(
        &mut self,
        op: OpId,
        outcome: Outcome,
        ticket: Ticket,
        effects: &mut Effects,
    ) {
        if self.copies.waiting.get(&op).is_some_and(|(after, _)| *after == ticket) {
            self.copies.waiting.remove(&op);
            self.timers.clear(Timer::Answer(op));
            self.decline(op, outcome, effects);
        }
    }

    /// What is wrong with a command, whatever the table holds.
    fn check_merged(&self, table: TableId, command: &Command) -> Result<(), Refusal> {
        match self.config.tables.get(usize::from(table.0)) {
            Some(found) if found.schema().is_none() => return Err(Refusal::Discipline(table)),
            // What a node that takes no part has not begun may be there all the same.
            Some(_) if self.copies.hash(table).is_some() || !self.merges() => {}
            Some(_) | None => return Err(Refusal::NoSuchTable(table)),
        }
        // What is on the list is changed by making and dropping tables.
        if self.catalogue.table == Some(table) && command.changes() {
            return Err(Refusal::Discipline(table));
        }
        self.check_merged_limits(command)?;
        if !self.merges() {
            return Err(Refusal::NotReady(self.readiness.clone()));
        }
        if self.requests_in_flight() >= self.config.limits.requests_max {
            return Err(Refusal::Busy);
        }
        Ok(())
    }

    fn check_merged_limits(&self, command: &Command) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let key = |key: &Key| check_len("key", key.len(), limits.key_max);
        let value = |value: &Value| check_len("value", value.len(), limits.value_max);
        let element = |row: &Row| row.element.as_ref().map_or(Ok(()), value);
        let row = |row: &Row| key(&row.key).and_then(|()| element(row));
        // The place behind a key may be named by one that is longer by a byte.
        let place = |row: &Row| {
            check_len("key", row.key.len(), limits.key_max.saturating_add(1))?;
            element(row)
        };
        let page = |limit: u32| check_len("page", limit as usize, limits.page_max as usize);
        match command {
            Command::Conflicts { after, limit } | Command::Scan { after, limit, .. } => {
                after.as_ref().map_or(Ok(()), place)?;
                page(*limit)
            }
            Command::Get(wanted) => key(wanted),
            Command::Info | Command::Merge { .. } => Ok(()),
            Command::Resolve { row: at, dots, value: answer } => {
                row(at)?;
                check_len("list of versions", dots.len(), BATCH_MAX)?;
                answer.as_ref().map_or(Ok(()), value)
            }
            Command::Write { mutations, guards } => {
                check_len("batch", mutations.len(), BATCH_MAX)?;
                check_len("list of guards", guards.len(), BATCH_MAX)?;
                guards.iter().try_for_each(|guard| key(&guard.key))?;
                let mut bytes = 0;
                for mutation in mutations {
                    key(mutation.key())?;
                    if let Mutation::Put(at, content) | Mutation::RemoveValue(at, content) =
                        mutation
                    {
                        value(content)?;
                        bytes += at.len() + content.len();
                    }
                }
                check_len("batch in bytes", bytes, BATCH_BYTES_MAX)
            }
        }
    }

    // ------------------------------------------------------------------ asking elsewhere

    /// A replica that can be heard and has not declined; another one for each `turn`, if there are
    /// more.
    fn next_replica(
        &self,
        table: TableId,
        declined: &BTreeSet<NodeId>,
        turn: usize,
    ) -> Option<(NodeId, Incarnation)> {
        let schema = self.config.tables.get(usize::from(table.0))?.schema()?;
        let lives = self.copies.lives.iter();
        let able: Vec<_> = lives
            .filter(|(node, _)| {
                schema.replicas.contains(**node)
                    && self.copies.heard.contains(node)
                    && !declined.contains(node)
            })
            .map(|(node, life)| (*node, *life))
            .collect();
        (!able.is_empty()).then(|| able[turn % able.len()])
    }

    /// Notes in which process life a peer is.
    pub(super) fn hear_life(&mut self, from: usize, incarnation: Incarnation) {
        if !self.copies.names.is_empty() {
            let life = self.copies.lives.entry(self.members.nodes()[from]).or_default();
            *life = incarnation.max(*life);
        }
    }

    /// Asks a copy, or another one; gives up when the client does. What may change the table is
    /// sent once: whether a lost message was done cannot be told.
    pub(super) fn on_ask_timer(&mut self, mut number: u64, effects: &mut Effects) {
        let Some(ask) = self.copies.asks.get(&number) else { return };
        let (now, deadline) = (self.now.instant, ask.deadline);
        if now >= deadline {
            let outcome = overdue(ask.may_be_done(), ask.table);
            return self.end_ask(number, outcome, effects);
        }
        if !ask.may_be_done()
            && let Some((to, life)) = self.next_replica(ask.table, &ask.declined, ask.sent)
            && let Some(member) = self.members.index(to)
            && let Some(table) = self.copies.hash(ask.table)
        {
            let content = RemoteContent::Ask(life, ask.command.clone());
            if ask.command.changes() && number < self.copies.asks_made {
                // Others were asked while it waited: it goes as the latest, for of those long
                // before it a replica does not know whether they came.
                self.timers.clear(Timer::Ask(number));
                let Some(ask) = self.copies.asks.remove(&number) else { return };
                number = self.copies.number(ask);
            }
            if let Some(ask) = self.copies.asks.get_mut(&number) {
                ask.sent += 1;
                ask.asked = Some(to);
            }
            let remote = Remote { table, by: self.incarnation, number, content };
            self.send(member, Body::Remote(remote), Ticket(0), effects);
        }
        let again = now + self.config.timing.round * 2;
        self.timers.set(Timer::Ask(number), again.min(deadline));
    }

    fn end_ask(&mut self, number: u64, outcome: Outcome, effects: &mut Effects) {
        self.timers.clear(Timer::Ask(number));
        if let Some(ask) = self.copies.asks.remove(&number) {
            let until = (ask.deadline, ask.command.changes(), ask.table);
            self.reply(ask.op, outcome, Ticket(0), until, effects);
        }
    }

    /// Ends what this node has asked others, which may have done it: of one table, or of all.
    pub(super) fn fail_asks(&mut self, of: Option<TableId>, why: &Refusal, effects: &mut Effects) {
        let asks = self.copies.asks.iter();
        let asks = asks.filter(|(_, ask)| of.is_none_or(|table| ask.table == table));
        let asks = asks.map(|(number, ask)| (*number, ask.may_be_done()));
        for (number, may_be_done) in asks.collect::<Vec<_>>() {
            let refused = Outcome::Refused(why.clone());
            let outcome = if may_be_done { Outcome::Unknown } else { refused };
            self.end_ask(number, outcome, effects);
        }
    }

    /// A node without a copy asks one with, or is answered.
    pub(super) fn on_remote(&mut self, from: usize, remote: Remote, effects: &mut Effects) {
        let known = self.copies.names.get(&remote.table).copied();
        let asked = self.copies.asks.get(&remote.number);
        let asked = asked.filter(|_| remote.by == self.incarnation);
        let is_asked = asked.is_some_and(|ask| Some(ask.table) == known);
        match remote.content {
            RemoteContent::Answer(answer) if is_asked => {
                let outcome = match answer {
                    Ok(answer) => Outcome::Merged(answer),
                    Err(unfit) => Outcome::Refused(Refusal::Unfit(unfit)),
                };
                self.end_ask(remote.number, outcome, effects);
            }
            RemoteContent::Declined(why) if is_asked => {
                self.on_declined(self.members.nodes()[from], remote.number, why, effects);
            }
            RemoteContent::Answer(_) | RemoteContent::Declined(_) => {}
            RemoteContent::Ask(life, command) => {
                if life != self.incarnation || !self.merges() {
                    return;
                }
                // What comes twice, or so late that it may have, is not done. What is declined
                // counts as come, so that it can never be done after that.
                if command.changes() {
                    let peer = self.members.nodes()[from];
                    let done = self.copies.done_for.entry(peer).or_default();
                    if !done.is_first(remote.by, remote.number) {
                        return;
                    }
                }
                let content = self.answer_for(known, &command, effects);
                let after = known.map_or(Ticket(0), |table| self.durable_with(table));
                let answer = Remote { content, ..remote };
                self.send(from, Body::Remote(answer), after, effects);
            }
        }
    }

    /// Does what another node asks for a client of its, or says why not.
    fn answer_for(
        &mut self,
        table: Option<TableId>,
        command: &Command,
        effects: &mut Effects,
    ) -> RemoteContent {
        let Some(table) = table else { return RemoteContent::Declined(Declined::NoCopy) };
        let allowed = self.check_merged(table, command);
        match allowed.and_then(|()| self.serve(table, command, effects)) {
            Ok(answer) => answer.within(ANSWER_BYTES_MAX).map_or_else(
                || RemoteContent::Declined(Declined::Refused(TOO_LONG.to_string())),
                |answer| RemoteContent::Answer(Ok(answer)),
            ),
            Err(Refusal::Unfit(unfit)) => RemoteContent::Answer(Err(unfit)),
            Err(Refusal::Busy) => RemoteContent::Declined(Declined::Busy),
            Err(Refusal::NoReplica(_) | Refusal::NoSuchTable(_)) => {
                RemoteContent::Declined(Declined::NoCopy)
            }
            Err(refusal) => RemoteContent::Declined(Declined::Refused(refusal.to_string())),
        }
    }

    /// Asks another replica; the client is refused once each that can be heard has declined.
    fn on_declined(&mut self, by: NodeId, number: u64, why: Declined, effects: &mut Effects) {
        let Some(ask) = self.copies.asks.get_mut(&number) else { return };
        let is_news = ask.declined.insert(by);
        // Another is being asked already: that one's word counts.
        if !is_news || ask.asked != Some(by) {
            return;
        }
        ask.asked = None;
        let (table, sent, declined) = (ask.table, ask.sent, ask.declined.clone());
        if self.next_replica(table, &declined, sent).is_some() {
            // Under a number of its own: who has done a later one takes none before it.
            self.timers.clear(Timer::Ask(number));
            if let Some(ask) = self.copies.asks.remove(&number) {
                self.begin_ask(ask, effects);
            }
            return;
        }
        let refusal = match why {
            Declined::Busy => Refusal::Busy,
            Declined::NoCopy => Refusal::NoReplica(table),
            Declined::Refused(why) => Refusal::Unfit(Unfit::Elsewhere { node: by, why }),
        };
        self.end_ask(number, Outcome::Refused(refusal), effects);
    }
}

/// What a client is told that has waited for as long as it wanted to.
const fn overdue(changed: bool, table: TableId) -> Outcome {
    if changed { Outcome::Unknown } else { Outcome::Refused(Refusal::NoReplica(table)) }
}
