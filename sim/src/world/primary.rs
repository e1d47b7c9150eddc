//! Primary tables: what clients ask of them, and what of their replicas is shown to the oracle.
//!
//! Must never know: whether what a replica shows is right.

use synod::merged::{TableCommand as MergedTable, Unmade};
use synod::primary::{Acknowledge, Answer, Call, Command as Ask, ReadLevel, TableCommand};
use synod::{Command, Key, OpId, Outcome, Refusal, RequestId, TableId, TableName};

#[cfg(not(madsim))]
use super::Process;
use super::World;
use super::client::{key_of, value_of};
use crate::marks::Mark;
#[cfg(not(madsim))]
use crate::oracle::{Seat, Stand};
use crate::plan::{Act, Operation, Table};

/// Where no node has a table.
const NOWHERE: TableId = TableId(u16::MAX - 1);

/// What a client knows of a primary table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    /// The latest place it was shown.
    seen: u64,
    /// Its latest write, which a node may have under way, and what it had seen before that.
    last: Option<(RequestId, u64)>,
    /// Whether it has been told that the table is made, if it is one of those.
    is_made: bool,
    /// Which of the tables of this name it has asked last: what it has seen is of that.
    of: Option<TableName>,
}

impl World<'_> {
    /// A node may have taken a step: its replicas are looked at.
    #[cfg(not(madsim))]
    pub(super) fn look_at_replicas(&mut self, place: usize) {
        let boots = self.hosts[place].boots;
        let Some(node) = self.hosts[place].node.as_ref() else { return };
        for (table, name, replica) in node.replicas() {
            if self.oracle.stand(place, table) != Some(Stand::of(replica)) {
                let (at, seat) = ((table, name), Seat::of(replica));
                self.oracle.on_replica_step((place, boots), at, &seat, &mut self.marks);
            }
            self.oracle.on_replica_pending(place, table, replica, self.now);
        }
    }

    /// What an operation asks of a primary table, if it is about one.
    pub(super) fn primary_command(&self, who: usize, operation: &Operation) -> Option<Command> {
        if let Act::CloseSession | Act::OpenSession = operation.act {
            return self.made_command(operation);
        }
        let number = if let Act::Keys(table, _) = operation.act {
            table
        } else {
            operation.act.address()?.table
        };
        let table = &self.plan.tables[usize::from(number)];
        let schema = table.primary()?;
        let client = &self.clients[who];
        let known = client.passed[usize::from(number)];
        if table.is_made() && !known.is_made {
            let (name, schema) = (table.name.clone(), schema.clone());
            return Some(Command::PrimaryTable(TableCommand::Create { name, schema }));
        }
        let value = || value_of(client.id.number(), u64::from(operation.id));
        let of = |at: &crate::plan::Address| -> Key { key_of(at.key) };
        let (mut op, mut seen) = (None, known.seen);
        let command = match &operation.act {
            Act::Put(at, _) => Ask::Put(of(at), value()),
            // What became of the client's latest write?
            Act::CompareAndSet(..) => {
                if let Some((request, before)) = known.last {
                    op = Some(OpId { client: client.id, request });
                    seen = before;
                }
                Ask::Resolve
            }
            Act::Remove(at, _) => Ask::Remove(of(at)),
            Act::Get(at) => Ask::Get(of(at), ReadLevel::Committed),
            Act::Fence(at) => Ask::Get(of(at), ReadLevel::Linearizable),
            Act::GetLocal(at) => Ask::Get(of(at), ReadLevel::Dirty),
            Act::Keys(_, limit) => Ask::Scan { after: None, limit: *limit },
            Act::PutIfAbsent(..) => return Some(asked(number, Call::HandOver(None))),
            Act::Watch(_) => return Some(asked(number, Call::Join(true))),
            Act::Unwatch(_) => return Some(asked(number, Call::Join(false))),
            Act::CloseSession | Act::OpenSession | Act::Status => return None,
        };
        let follow = operation.persistent;
        Some(asked(number, Call::Ask { command, seen, op, follow }))
    }

    /// That the table which clients make be dropped, or made as another than they make it.
    fn made_command(&self, operation: &Operation) -> Option<Command> {
        let table = self.plan.tables.iter().find(|table| table.is_made())?;
        let (name, mut schema) = (table.name.clone(), table.primary()?.clone());
        if operation.act == Act::CloseSession {
            return Some(Command::Table(MergedTable::Drop { name }));
        }
        schema.acknowledge = match schema.acknowledge {
            Acknowledge::All | Acknowledge::Primary => Acknowledge::Quorum,
            Acknowledge::Quorum => Acknowledge::All,
        };
        Some(Command::PrimaryTable(TableCommand::Create { name, schema }))
    }

    /// A command as it has to be put to a node. Clients know tables that are made by name, and each
    /// node has its own places for them; what a client has seen of a dropped one says nothing
    /// of one that is made again.
    pub(super) fn address_made(&mut self, who: usize, target: usize, command: &Command) -> Command {
        let Command::Primary { table, call } = command else { return command.clone() };
        let known = &self.plan.tables[usize::from(table.0)];
        if !known.is_made() {
            return command.clone();
        }
        let node = self.hosts[target].node.as_ref();
        let found = node.and_then(|node| find_made(node, &known.name));
        let Some((place, name)) = found else {
            return Command::Primary { table: NOWHERE, call: call.clone() };
        };
        let passed = &mut self.clients[who].passed[usize::from(table.0)];
        let mut call = call.clone();
        if passed.of.is_some_and(|of| of != name) {
            self.marks.hit(Mark::AskedOfAnother);
            *passed = Passed { is_made: passed.is_made, ..Passed::default() };
            if let Call::Ask { seen, op, .. } = &mut call {
                (*seen, *op) = (0, None);
            }
        }
        passed.of = Some(name);
        Command::Primary { table: place, call }
    }

    /// What a client takes from an answer for its later questions.
    pub(super) fn learn_primary(&mut self, who: usize, command: &Command, outcome: &Outcome) {
        self.learn_made(who, command, outcome);
        let Command::Primary { table, call } = command else { return };
        let Some(known) = self.clients[who].passed.get_mut(usize::from(table.0)) else { return };
        if let Outcome::Primary(
            Answer::Committed { place, .. }
            | Answer::Found { place, .. }
            | Answer::Rows { place, .. },
        ) = outcome
        {
            let is_dirty = matches!(call, Call::Ask { command: Ask::Get(_, ReadLevel::Dirty), .. });
            if !is_dirty {
                known.seen = known.seen.max(place.index);
            }
        }
    }

    /// What it takes from an answer about the table that clients make.
    fn learn_made(&mut self, who: usize, command: &Command, outcome: &Outcome) {
        let Some(table) = self.plan.tables.iter().position(Table::is_made) else {
            return;
        };
        let (mark, is_made) = match (command, outcome) {
            (Command::PrimaryTable(_), Outcome::Done) => (Some(Mark::TableMade), true),
            (Command::PrimaryTable(_), Outcome::Refused(Refusal::Unmade(Unmade::Exists(_)))) => {
                (Some(Mark::MadeAsAnother), true)
            }
            (Command::Table(_), Outcome::Done) => (Some(Mark::PrimaryDropped), false),
            (Command::Table(_), Outcome::Refused(Refusal::Unmade(Unmade::NoSuchTable))) => {
                (None, false)
            }
            // Where there is none now there may have been one. Who has dropped none waits for it.
            (Command::Primary { table: of, .. }, Outcome::Refused(Refusal::NoSuchTable(_)))
                if usize::from(of.0) == table && self.oracle.is_any_dropped() =>
            {
                (None, false)
            }
            _ => return,
        };
        mark.into_iter().for_each(|mark| self.marks.hit(mark));
        self.clients[who].passed[table].is_made = is_made;
    }

    /// A client asks a node, for the first time or again: for this, and as it is put to the node.
    pub(super) fn note_primary(
        &mut self,
        (who, request): (usize, RequestId),
        node: usize,
        (command, put): (&Command, &Command),
    ) {
        let client = &mut self.clients[who];
        let id = client.id;
        let Command::Primary { table, .. } = command else { return };
        let Command::Primary { table: place, call } = put else { return };
        if let Call::Ask { command: Ask::Put(..) | Ask::Remove(_), seen, .. } = call
            && let Some(known) = client.passed.get_mut(usize::from(table.0))
        {
            known.last = Some((request, *seen));
        }
        self.oracle.on_primary_asked((OpId { client: id, request }, node), *place, call);
    }
}

/// Where a node has the primary table of this name, and by which name other nodes know it.
#[cfg(not(madsim))]
fn find_made(node: &Process, name: &str) -> Option<(TableId, TableName)> {
    let table = node.config().table(name)?;
    let mut replicas = node.replicas();
    replicas.find(|(known, ..)| *known == table).map(|(table, hash, _)| (table, hash))
}

#[cfg(madsim)]
fn find_made(node: &crate::stack::Process, name: &str) -> Option<(TableId, TableName)> {
    node.find_made(name)
}

const fn asked(table: u16, call: Call) -> Command {
    Command::Primary { table: TableId(table), call }
}
