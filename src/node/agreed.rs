//! Primary tables made and dropped while the node runs: what clients ask, and what the list of such
//! tables, which consensus agrees upon, comes to here.
//!
//! The list is a register beside those of the arbiters. Whoever wants something of it is answered
//! by what is found chosen there after it has asked; what is to be changed is changed from that
//! version, and looked at again. So it does not matter whose change was decided: what is wanted is
//! so, or is not. Nodes that miss a change hear in heartbeats that there is a later list.
//!
//! Tables stand behind those that are here already, in the order in which this node heard of them,
//! as merged ones do.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::{Effects, Node, Record, TableConfig, Timer};
use crate::base::{Key, OpId, RegisterId, TableId};
use crate::consensus::{
    Asker, Cell, Content, Expect, Finding, Goal, Mode, OnNoQuorum, Operation, Outcome, Refusal,
    Sent,
};
use crate::merged::{Unmade, is_table_name};
use crate::paxos::Ballot;
use crate::primary::{self, Catalogue, LIST, LIST_BYTES_MAX, Made, Schema, TableCommand};

/// How many places of tables there are, those of dropped ones counted.
const PLACES_MAX: usize = u16::MAX as usize - 1;

/// What is known of the list, and who wants something of it.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    list: Catalogue,
    /// Of the list; nothing before any is known to be chosen.
    version: Option<Ballot>,
    /// Whether that is of a later list, which this synod cannot read.
    is_illegible: bool,
    /// Whether no list is followed before an own reading has ended. One that is heard of may be
    /// older than tables that this node had when it stopped, and would have them be no more.
    is_unsure: bool,
    /// What had been heard when the latest reading that has ended began: it has found all that.
    covered: Heard,
    /// The same of the reading under way.
    covering: Heard,
    /// Whether the list is being read or changed.
    is_busy: bool,
    /// Those that stand here, each with its number.
    made: BTreeMap<TableId, u64>,
    /// Those that are listed and do not stand here, and why.
    unkept: BTreeMap<String, Unmade>,
    /// Declared primary tables of whose names others are listed.
    clashes: BTreeSet<TableId>,
    wishes: BTreeMap<OpId, Wish>,
    /// Which list each member has shown that it knows.
    known: BTreeMap<usize, u64>,
}

/// What says that there may be a later list.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// The latest that anybody knows.
    told: u64,
    /// At which ballot one was accepted here last.
    accepted: Option<Ballot>,
}

/// What a client wants of the list.
#[derive(Debug)]
struct Wish {
    what: Wanted,
    sent: Sent,
    on_no_quorum: OnNoQuorum,
    /// Whether what is under way has begun after this was asked.
    is_covered: bool,
    /// The revision of the list of which a change is proposed for it.
    under_way: Option<u64>,
    /// That of which one was, of which nobody knows whether it will yet take effect.
    maybe: Option<u64>,
    /// Whether one has taken effect.
    took: bool,
}

/// Why a wish is not answered yet.
enum Open {
    /// The list is to be changed for it.
    Tried,
    /// What it is to be told is not known.
    Waits,
}

#[derive(Clone, Debug)]
enum Wanted {
    Create(String, Schema),
    /// That one is listed no more; which one, once that is known.
    Drop(String, Option<u64>),
    /// That whoever is heard knows this list: it was dropped with that.
    Dropped(u64),
    /// That this node knows the list.
    Known,
}

impl Agreed {
    pub(super) fn is_asked(&self, op: &OpId) -> bool {
        self.wishes.contains_key(op)
    }

    pub(super) fn requests_in_flight(&self) -> usize {
        self.wishes.len()
    }

    /// Which list this node knows.
    pub(super) const fn revision(&self) -> u64 {
        self.list.revision
    }
}

/// The register that holds the list.
fn register() -> RegisterId {
    RegisterId::Key(TableId::ROSTERS, Key::from(LIST))
}

/// Whether this is the key of that register.
pub(super) fn is_list(key: &Key) -> bool {
    key.as_bytes() == LIST.as_bytes()
}

impl Node {
    // ------------------------------------------------------------------ what clients ask

    pub(super) fn on_primary_table_request(
        &mut self,
        op: OpId,
        sent: Sent,
        patience: Duration,
        on_no_quorum: OnNoQuorum,
        command: TableCommand,
        effects: &mut Effects,
    ) {
        let what = match command {
            TableCommand::Learn => Wanted::Known,
            TableCommand::Create { name, mut schema } => {
                // In one order, whoever names them.
                schema.replicas = schema.replicas.with(&schema.replicas);
                if let Err(unmade) = self.check_primary_table(&name, &schema) {
                    let refused = Outcome::Refused(Refusal::Unmade(unmade));
                    return self.decline(op, refused, effects);
                }
                Wanted::Create(name, schema)
            }
        };
        self.wish(op, sent, patience, on_no_quorum, what, effects);
    }

    /// A table is to be dropped that is not one of those that this node has merged.
    pub(super) fn drop_listed(
        &mut self,
        op: OpId,
        sent: Sent,
        patience: Duration,
        on_no_quorum: OnNoQuorum,
        name: String,
        effects: &mut Effects,
    ) {
        self.wish(op, sent, patience, on_no_quorum, Wanted::Drop(name, None), effects);
    }

    /// What is wrong with a table, whatever is listed.
    fn check_primary_table(&self, name: &str, schema: &Schema) -> Result<(), Unmade> {
        if !is_table_name(name) {
            return Err(Unmade::Name);
        }
        if self.config.tables.len() >= PLACES_MAX {
            return Err(Unmade::TooMany);
        }
        let known = self.config.table(name);
        if let Some(table) = known.filter(|table| !self.agreed.made.contains_key(table)) {
            let is_merged = self.config.tables[usize::from(table.0)].schema().is_some();
            let declared = Err(Unmade::Declared);
            let merged = Err(Unmade::Exists("a merged table".to_string()));
            return if is_merged && !self.is_declared(table) { merged } else { declared };
        }
        let arbiter = Made { number: u64::MAX, schema: schema.clone() }.arbiter(name);
        let why = self.config.impossible_primary(&arbiter, schema, &self.members);
        if let Some(why) = why {
            return Err(Unmade::Impossible(why.to_string()));
        }
        // The others learn of it in words.
        match Schema::default().with_words(&schema.words()) {
            Ok(same) if same == *schema => Ok(()),
            Ok(_) | Err(_) => Err(Unmade::Impossible("times are whole milliseconds".to_string())),
        }
    }

    fn wish(
        &mut self,
        op: OpId,
        sent: Sent,
        patience: Duration,
        on_no_quorum: OnNoQuorum,
        what: Wanted,
        effects: &mut Effects,
    ) {
        if let Err(refusal) = self.check_standing(on_no_quorum) {
            let changes = !matches!(what, Wanted::Known);
            let maybe = sent == Sent::Again && changes;
            let outcome = if maybe { Outcome::Unknown } else { Outcome::Refused(refusal) };
            return self.decline(op, outcome, effects);
        }
        let (is_covered, under_way, maybe, took) = (false, None, None, false);
        let wish = Wish { what, sent, on_no_quorum, is_covered, under_way, maybe, took };
        self.agreed.wishes.insert(op, wish);
        self.timers.set(Timer::Answer(op), self.now.instant + patience);
        self.look_for_wishes(effects);
    }

    fn end_wish(&mut self, op: OpId, outcome: Outcome, effects: &mut Effects) {
        if self.agreed.wishes.remove(&op).is_some() {
            self.timers.clear(Timer::Answer(op));
            self.decline(op, outcome, effects);
        }
    }

    /// Somebody has waited for as long as it wanted to.
    pub(super) fn on_wish_timer(&mut self, op: OpId, effects: &mut Effects) {
        if let Some(wish) = self.agreed.wishes.get(&op) {
            let outcome = wish.out_of_time(Refusal::NoQuorum);
            self.end_wish(op, outcome, effects);
        }
    }

    /// Ends what clients want who do not wait for a quorum; or of everybody, because this node may
    /// not go on.
    pub(super) fn give_up_wishes(&mut self, all: bool, why: &Refusal, effects: &mut Effects) {
        let wishes = self.agreed.wishes.iter();
        let ended = wishes.filter(|(_, wish)| all || wish.on_no_quorum == OnNoQuorum::Return);
        let ended = ended.map(|(op, wish)| (*op, wish.out_of_time(why.clone())));
        for (op, outcome) in ended.collect::<Vec<_>>() {
            self.end_wish(op, outcome, effects);
        }
    }

    /// Whether a table is part of the configuration that the node was made with.
    pub(super) fn is_declared(&self, table: TableId) -> bool {
        self.config.tables.get(usize::from(table.0)).is_some_and(|table| !table.made)
    }

    /// Whether it is declared here, and another of its name is listed: then neither is served, for
    /// two primaries of one name would acknowledge writes of which one is lost.
    pub(super) fn is_clashing(&self, table: TableId) -> bool {
        self.agreed.clashes.contains(&table)
    }

    /// Whether it is one of those that stand here because of the list.
    pub(super) fn is_agreed(&self, table: TableId) -> bool {
        self.agreed.made.contains_key(&table)
    }

    // ------------------------------------------------------------------ the register

    /// Reads the list, if anybody waits for that; one reading or change at a time.
    fn look_at_list(&mut self, effects: &mut Effects) {
        if self.agreed.is_busy || !self.merges() {
            return;
        }
        self.agreed.is_busy = true;
        self.agreed.covering = self.heard_of_list().0;
        self.agreed.wishes.values_mut().for_each(|wish| wish.is_covered = true);
        self.start_own(Asker::Node, register(), Goal::Look, effects);
    }

    /// A reading or a change has ended.
    pub(super) fn on_list_finished(
        &mut self,
        operation: &Operation,
        finding: &Finding,
        effects: &mut Effects,
    ) {
        self.agreed.is_busy = false;
        let chosen = match finding {
            Finding::Chosen { cell, .. } => Some(cell.as_deref()),
            Finding::Burial(_) | Finding::Fact(_) | Finding::Failed => None,
        };
        // What has ended with something chosen is decided either way (AMB).
        let took = chosen.flatten().is_some_and(|cell| cell.lineage.contains(operation.op));
        let is_open = chosen.is_none() && operation.is_ambiguous();
        for wish in self.agreed.wishes.values_mut() {
            if let Some(revision) = wish.under_way.take() {
                wish.took |= took;
                if is_open {
                    wish.maybe.get_or_insert(revision);
                }
            }
        }
        if let Some(cell) = chosen {
            if matches!(operation.goal, Goal::Look) {
                self.agreed.is_unsure = false;
                self.agreed.covered = self.agreed.covering;
            }
            if let Some(cell) = cell {
                self.on_list_learned(cell, effects);
            }
            // A later one may have been heard of meanwhile.
            let (register, floor) = (register(), self.registers.floor(&register()));
            let record = self.registers.get(&register);
            let later = record.and_then(|record| record.learned(&floor)).map(|(_, it)| it.clone());
            if let Some(later) = later {
                self.on_list_learned(&later, effects);
            }
            self.settle_wishes(effects);
        }
        self.look_for_wishes(effects);
    }

    /// Reads the list for whoever has asked since the last reading began.
    fn look_for_wishes(&mut self, effects: &mut Effects) {
        let waits = |wish: &Wish| !matches!(wish.what, Wanted::Dropped(_));
        if self.agreed.wishes.values().any(waits) {
            self.look_at_list(effects);
        }
    }

    /// Answers whoever can be answered, and has the list changed for the others.
    fn settle_wishes(&mut self, effects: &mut Effects) {
        let mut next = self.agreed.list.clone();
        let (mut answers, mut tried) = (Vec::new(), Vec::new());
        let Agreed { list, made, wishes, unkept, is_illegible, .. } = &mut self.agreed;
        let config = &self.config;
        let unkept = |name: &str| {
            let stands = config.table(name).is_some_and(|table| made.contains_key(&table));
            let merged = || Unmade::Exists("a merged table".to_string());
            (!stands).then(|| unkept.get(name).cloned().unwrap_or_else(merged))
        };
        for (op, wish) in wishes.iter_mut().filter(|(_, wish)| wish.is_covered) {
            let settled = if *is_illegible {
                let why = Refusal::Unmade(Unmade::Illegible);
                match wish.what {
                    Wanted::Dropped(_) => Err(Open::Waits),
                    Wanted::Create(..) | Wanted::Drop(..) | Wanted::Known => {
                        Ok(wish.out_of_time(why))
                    }
                }
            } else {
                wish.settle(list, &unkept, &mut next)
            };
            match settled {
                Ok(outcome) => answers.push((*op, outcome)),
                Err(Open::Tried) => tried.push(*op),
                Err(Open::Waits) => {}
            }
        }
        let value = next.to_value();
        if value.len() > LIST_BYTES_MAX {
            let refused = || Outcome::Refused(Refusal::Unmade(Unmade::TooMany));
            answers.extend(tried.drain(..).map(|op| (op, refused())));
        }
        for (op, outcome) in answers {
            self.end_wish(op, outcome, effects);
        }
        self.end_drops(effects);
        if tried.is_empty() {
            return;
        }
        for op in tried {
            if let Some(wish) = self.agreed.wishes.get_mut(&op) {
                wish.under_way = Some(self.agreed.list.revision);
            }
        }
        self.agreed.is_busy = true;
        // Nobody ever takes the list away, so what is absent has never been there.
        let expect = self.agreed.version.map_or(Expect::Absent, Expect::Version);
        let goal = Goal::Write { mode: Mode::If(expect), value, bindings: Vec::new() };
        self.start_own(Asker::Node, register(), goal, effects);
    }

    /// A dropped table may have its primary on a node that has not heard of it. Whoever is heard is
    /// waited for: it acknowledges nothing more of it.
    pub(super) fn end_drops(&mut self, effects: &mut Effects) {
        let down = self.config.timing.down;
        let heard: Vec<usize> = self.reach.members(self.now.instant, down).collect();
        let known = |member: &usize| self.agreed.known.get(member).copied().unwrap_or(0);
        let others = heard.iter().filter(|member| **member != self.me);
        let least = others.map(known).min().unwrap_or(u64::MAX);
        let ended = self.agreed.wishes.iter().filter(|(_, wish)| match wish.what {
            Wanted::Dropped(revision) => revision <= least,
            Wanted::Create(..) | Wanted::Drop(..) | Wanted::Known => false,
        });
        for op in ended.map(|(op, _)| *op).collect::<Vec<_>>() {
            self.end_wish(op, Outcome::Done, effects);
        }
    }

    /// A member has said which list it knows.
    pub(super) fn on_revision_told(&mut self, member: usize, revision: u64, effects: &mut Effects) {
        let known = self.agreed.known.entry(member).or_default();
        *known = revision.max(*known);
        if revision > self.agreed.list.revision.max(self.agreed.covered.told) {
            self.look_at_list(effects);
        }
        if !self.agreed.wishes.is_empty() {
            self.end_drops(effects);
        }
    }

    /// It is tried again with each heartbeat, until the list is known.
    pub(super) fn tick_list(&mut self, effects: &mut Effects) {
        if self.awaits_list() {
            self.look_at_list(effects);
        }
        self.look_for_wishes(effects);
        if !self.agreed.wishes.is_empty() {
            self.end_drops(effects);
        }
    }

    // ------------------------------------------------------------------ what it comes to

    /// A node that goes on from what it had reads the list before it believes any: tables that it
    /// had may be later than what it hears of.
    pub(super) fn await_list(&mut self) {
        self.agreed.is_unsure = self.replicas.keeps_made();
    }

    /// What has been heard of later lists, and which one was accepted here last.
    fn heard_of_list(&self) -> (Heard, Option<Ballot>) {
        let register = register();
        let floor = self.registers.floor(&register);
        let acceptor = self.registers.get(&register).map(|record| record.acceptor());
        let cell = acceptor.and_then(|acceptor| acceptor.content());
        let accepted = acceptor.map(|acceptor| acceptor.accepted_ballot(&floor));
        let told = self.agreed.known.values().copied().max().unwrap_or(0);
        (Heard { told, accepted }, cell.map(|cell| cell.version()))
    }

    /// Whether there may be a list that this node does not know: others say so; or one is accepted
    /// here that may be chosen, for of those who know all may be gone.
    fn awaits_list(&self) -> bool {
        let Agreed { list, version, covered, is_unsure, .. } = &self.agreed;
        let (heard, accepted) = self.heard_of_list();
        *is_unsure
            || heard.told > list.revision.max(covered.told)
            || (accepted > *version && heard.accepted > covered.accepted)
    }

    /// What is chosen of the list.
    pub(super) fn on_list_learned(&mut self, cell: &Cell, effects: &mut Effects) {
        let version = cell.version();
        if self.agreed.is_unsure || self.agreed.version.is_some_and(|known| version <= known) {
            return;
        }
        let list = match cell.live().map(|live| &live.content) {
            Some(Content::Value(value)) => Catalogue::from_value(value),
            Some(Content::NodeSession(_)) | None => None,
        };
        self.agreed.version = Some(version);
        self.agreed.is_illegible = list.is_none();
        let Some(list) = list else {
            let node = self.config.node.0;
            tracing::error!(node, "the list of primary tables is not one that this synod can read");
            return;
        };
        self.agreed.list = list;
        self.follow_list(effects);
        // Others want to know that this node knows.
        self.timers.hasten(Timer::Heartbeat, self.now.instant);
    }

    /// Has the tables be as the list says.
    fn follow_list(&mut self, effects: &mut Effects) {
        let list = self.agreed.list.clone();
        let mut kept = Vec::new();
        for (table, number) in self.agreed.made.clone() {
            let name = &self.config.tables[usize::from(table.0)].name;
            if list.has(name, number) {
                kept.push(number);
            } else {
                self.drop_made(table, effects);
            }
        }
        self.agreed.unkept.clear();
        self.agreed.clashes.clear();
        for (name, made) in list.tables.iter().filter(|(_, made)| !kept.contains(&made.number)) {
            self.found(name, made);
        }
        // What was written of those that are no more.
        let listed = |hash| list.tables.iter().any(|(name, made)| made.hash(name) == hash);
        for table in self.replicas.take_unlisted(list.revision, listed) {
            self.log(Record::Replica { table, record: primary::Record::Void });
        }
        // Others may have waited for their names.
        self.begin_declared();
        self.read_catalogue(effects);
    }

    fn found(&mut self, name: &str, made: &Made) {
        let node = self.config.node.0;
        let known = self.config.table(name);
        let config = known.map(|table| &self.config.tables[usize::from(table.0)]);
        let is_merged = config.is_some_and(|config| config.schema().is_some())
            && known.is_some_and(|table| !self.is_declared(table));
        let hash = made.hash(name);
        let declared = known.filter(|table| {
            self.config.tables[usize::from(table.0)].primary().is_some()
                && self.replica(*table).is_none()
        });
        let possible =
            self.config.impossible_primary(&made.arbiter(name), &made.schema, &self.members);
        let why = if !is_table_name(name) {
            Some(Unmade::Name)
        } else if let Some(table) = known.filter(|_| !is_merged && declared.is_none()) {
            self.agreed.clashes.insert(table);
            Some(Unmade::DeclaredToo)
        } else if self.config.tables.len() >= PLACES_MAX {
            Some(Unmade::TooMany)
        } else if self.replicas.knows(hash) {
            Some(Unmade::Impossible("its name has the hash of another".to_string()))
        } else {
            possible.map(|why| Unmade::Impossible(why.to_string()))
        };
        if let Some(why) = why {
            tracing::error!(
                node,
                table = name,
                %why,
                "a primary table that was made is not kept here"
            );
            self.agreed.unkept.insert(name.to_string(), why);
            return;
        }
        if is_merged {
            let why = "a merged table of this name was made too; here the name means that one. \
                       Save what you need of it and drop it";
            tracing::error!(node, table = name, why, "a name is of two tables");
        }
        tracing::info!(node, table = name, schema = made.schema.words(), "primary table made");
        let config = || TableConfig::primary_table(name, made.schema.clone());
        let table = declared.unwrap_or_else(|| self.push_table(config()));
        self.agreed.made.insert(table, made.number);
        self.begin_made(table, name, made);
    }

    fn drop_made(&mut self, table: TableId, effects: &mut Effects) {
        self.agreed.made.remove(&table);
        let node = self.config.node.0;
        if self.is_declared(table) {
            tracing::info!(node, %table, "primary table dropped; it is what is declared");
        } else {
            let name = self.unname_table(table);
            tracing::info!(node, table = name, "primary table dropped");
        }
        self.end_replica(table, effects);
    }
}

impl Wish {
    /// What its client is told if it is not waited for any more.
    fn out_of_time(&self, why: Refusal) -> Outcome {
        let is_open = self.under_way.or(self.maybe).is_some() || self.sent == Sent::Again;
        match self.what {
            // What it waits for besides is no part of the promise.
            Wanted::Dropped(_) => Outcome::Done,
            Wanted::Create(..) | Wanted::Drop(..) if self.took => Outcome::Done,
            Wanted::Create(..) | Wanted::Drop(..) if is_open => Outcome::Unknown,
            Wanted::Create(..) | Wanted::Drop(..) | Wanted::Known => Outcome::Refused(why),
        }
    }

    /// What the list, found after this was asked, says to it; or it is to be changed to `next`.
    /// Nobody is told of what is only to be.
    fn settle(
        &mut self,
        list: &Catalogue,
        unkept: &impl Fn(&str) -> Option<Unmade>,
        next: &mut Catalogue,
    ) -> Result<Outcome, Open> {
        let refused = |unmade| Ok(Outcome::Refused(Refusal::Unmade(unmade)));
        match &mut self.what {
            Wanted::Known => Ok(Outcome::Done),
            Wanted::Create(name, schema) => {
                let is_listed = list.tables.get(name).is_some_and(|made| made.schema == *schema);
                if is_listed && let Some(why) = unkept(name) {
                    return refused(why);
                }
                if is_listed || self.took {
                    return Ok(Outcome::Done);
                }
                // It may have been made by this, and dropped since: that is not to be undone.
                if self.maybe.is_some_and(|revision| list.revision > revision) {
                    return Ok(Outcome::Unknown);
                }
                // Of several that want one name one is tried. It may come to nothing.
                match next.tables.get(name).cloned() {
                    Some(made) if made.schema == *schema => Err(Open::Tried),
                    Some(made) if list.has(name, made.number) => {
                        refused(Unmade::Exists(made.to_string()))
                    }
                    Some(_) => Err(Open::Waits),
                    None if next.create(name, schema.clone()) => Err(Open::Tried),
                    None if list.is_full() => refused(Unmade::TooMany),
                    None => Err(Open::Waits),
                }
            }
            Wanted::Drop(name, which) => {
                let listed = list.tables.get(name).map(|made| made.number);
                // It may have been dropped by this very request; what is listed is another then.
                if which.is_none() && self.sent == Sent::Again {
                    return Ok(Outcome::Unknown);
                }
                let Some(number) = which.or(listed) else { return refused(Unmade::NoSuchTable) };
                *which = Some(number);
                if list.has(name, number) {
                    if next.has(name, number) {
                        next.drop(name);
                    }
                    return Err(Open::Tried);
                }
                self.what = Wanted::Dropped(list.revision);
                Err(Open::Waits)
            }
            Wanted::Dropped(_) => Err(Open::Waits),
        }
    }
}
