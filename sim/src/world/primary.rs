//! Primary tables: what clients ask of them, and what of their replicas is shown to the oracle.
//!
//! Must never know: whether what a replica shows is right.

use synod::primary::{Answer, Call, Command as Ask, ReadLevel, TableCommand};
use synod::{Command, Key, OpId, Outcome, RequestId, TableId};

use super::World;
use super::client::{key_of, value_of};
use crate::marks::Mark;
#[cfg(not(madsim))]
use crate::oracle::{Seat, Stand};
use crate::plan::{Act, Operation};

/// What a client knows of a primary table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    /// The latest place it was shown.
    seen: u64,
    /// Its latest write, which a node may have under way, and what it had seen before that.
    last: Option<(RequestId, u64)>,
    /// Whether it has been told that the table is made, if it is one of those.
    is_made: bool,
}

impl World<'_> {
    /// A node may have taken a step: its replicas are looked at.
    #[cfg(not(madsim))]
    pub(super) fn look_at_replicas(&mut self, place: usize) {
        let boots = self.hosts[place].boots;
        for table in self.plan.primary_tables() {
            let node = self.hosts[place].node.as_ref();
            let Some(replica) = node.and_then(|node| node.replica(table)) else { continue };
            if self.oracle.stand(place, table) != Some(Stand::of(replica)) {
                let seat = Seat::of(replica);
                self.oracle.on_replica_step((place, boots), table, &seat, &mut self.marks);
            }
            self.oracle.on_replica_pending(place, table, replica, self.now);
        }
    }

    /// What an operation asks of a primary table, if it is about one.
    pub(super) fn primary_command(&self, who: usize, operation: &Operation) -> Option<Command> {
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

    /// What a client takes from an answer for its later questions.
    pub(super) fn learn_primary(&mut self, who: usize, command: &Command, outcome: &Outcome) {
        if let (Command::PrimaryTable(_), Outcome::Done) = (command, outcome) {
            self.marks.hit(Mark::TableMade);
            if let Some(known) = self.clients[who].passed.last_mut() {
                known.is_made = true;
            }
            self.oracle.on_table_made();
        }
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

    /// A client asks a node, for the first time or again.
    pub(super) fn note_primary(
        &mut self,
        (who, request): (usize, RequestId),
        node: usize,
        command: &Command,
    ) {
        let client = &mut self.clients[who];
        let id = client.id;
        let Command::Primary { table, call } = command else { return };
        if let Call::Ask { command: Ask::Put(..) | Ask::Remove(_), seen, .. } = call
            && let Some(known) = client.passed.get_mut(usize::from(table.0))
        {
            known.last = Some((request, *seen));
        }
        self.oracle.on_primary_asked((OpId { client: id, request }, node), *table, call);
    }
}

const fn asked(table: u16, call: Call) -> Command {
    Command::Primary { table: TableId(table), call }
}
