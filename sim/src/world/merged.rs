//! Merged tables: what clients ask of them, and what of their copies is shown to the oracle.
//!
//! Must never know: whether what a copy shows is right.

use synod::merged::{
    self, Answer, Dot, Guard, Keep, Mutation, Pattern, RemoteContent, Row, Strategy,
};
use synod::{
    Body, ClientId, Command, Input, Message, OnNoQuorum, Outcome, Request, RequestId, Sent,
    TableId, TableName, Topic, Value,
};

use super::client::{key_of, value_of};
use super::{WATCHER, World};
use crate::oracle::{MergedCause, Shows, node_of, op};
use crate::plan::{Act, Address, Guess, Operation};

/// What the requests that listen to merges are numbered from.
const MERGES: u64 = 1 << 32;

/// What the requests to merge are numbered from.
const ORDERS: u64 = 1 << 33;

/// What a client last saw of a key of a merged table.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// What it shows.
    shows: Vec<Dot>,
    /// The value shown first.
    value: Option<Value>,
    /// The first of its rows in conflict, and everything that this holds.
    conflict: Option<(Row, Vec<Dot>)>,
}

/// Why a node that is given this may write to its copies.
pub(super) fn cause(input: &Input) -> MergedCause {
    if let Input::Request(request) = input {
        return MergedCause::Asked(op(request.client, request.id));
    }
    if let Input::Message { message, .. } = input
        && let Body::Remote(remote) = &message.body
        && let RemoteContent::Ask(..) = &remote.content
    {
        return MergedCause::AskedFor;
    }
    MergedCause::Other
}

impl World<'_> {
    // ---- what is shown to the oracle ------------------------------------------------------

    pub(super) fn start_copies(&mut self, place: usize) {
        let is_lost = self.hosts[place].wiped || self.hosts[place].rotten;
        self.look_at_listed(place, Shows::Start { is_lost }, MergedCause::Other);
        for table in self.plan.merged_tables() {
            let node = self.hosts[place].node.as_ref();
            if let Some(copy) = node.and_then(|node| node.merged(table)) {
                self.oracle.on_copy_start(place, table, copy, is_lost);
            }
        }
    }

    /// What a request is to be answered with follows from the copy as it is before.
    pub(super) fn before_copies(&mut self, place: usize, input: &Input) {
        if let Input::Request(request) = input {
            let id = op(request.client, request.id);
            self.before_listed(place, id, &request.command);
            if let Command::Merged { table, command } = &request.command
                && let Some(table) = self.judged(place, *table)
            {
                self.oracle.on_merged_asked(place, id, (table, command), &mut self.marks);
            }
        }
        let told = match input {
            Input::Request(Request { command: Command::Merged { table, command }, .. }) => {
                let known = self.plan.tables.get(usize::from(table.0));
                known.map(|known| (TableName::of(&known.name), command))
            }
            Input::Message { message: Message { body: Body::Remote(remote), .. }, .. } => {
                match &remote.content {
                    RemoteContent::Ask(_, command) => Some((remote.table, command)),
                    RemoteContent::Answer(_) | RemoteContent::Declined(_) => None,
                }
            }
            Input::Down { .. }
            | Input::Link { .. }
            | Input::Message { .. }
            | Input::Persisted { .. }
            | Input::Request(_)
            | Input::Timeout => None,
        };
        if let Some((table, merged::Command::Merge { keep: Some(_) })) = told {
            self.oracle.on_keep(place, table);
        }
    }

    pub(super) fn look_at_copies(&mut self, place: usize, cause: MergedCause) {
        for table in self.plan.merged_tables() {
            let node = self.hosts[place].node.as_ref();
            if let Some(copy) = node.and_then(|node| node.merged(table)) {
                self.oracle.on_copy_step(place, table, copy, cause, &mut self.marks);
            }
        }
        self.look_at_listed(place, Shows::Step, cause);
    }

    /// Once everything is told that a step has to tell.
    pub(super) fn look_at_alarms(&mut self, place: usize) {
        for table in self.plan.merged_tables().chain(self.judged_at(place)) {
            self.oracle.check_alarms(place, table);
        }
    }

    /// Listens to what a node tells of merges.
    pub(super) fn watch_merges(&mut self, place: usize) {
        if self.plan.tables.iter().all(|table| table.schema().is_none()) {
            return;
        }
        let boots = u64::from(self.hosts[place].boots);
        let request = Request {
            client: ClientId::new(WATCHER + u64::from(node_of(place).0)),
            id: RequestId(MERGES + boots),
            sent: Sent::First,
            patience: std::time::Duration::from_secs(1),
            on_no_quorum: OnNoQuorum::Return,
            command: Command::Subscribe(Topic::Merges),
        };
        self.give(place, request);
    }

    /// A node has somebody listen.
    pub(super) fn on_watched(&mut self, place: usize, request: RequestId) {
        if (MERGES..ORDERS).contains(&request.0) {
            for table in self.plan.merged_tables().chain(self.judged_at(place)) {
                self.oracle.on_merges_watched(place, table);
            }
            self.oracle.on_all_watched(place);
        }
    }

    /// Has copies that wait to be told so merge, each by its own node (U-01).
    pub(super) fn order_merges(&mut self) {
        let manual = |table: &TableId| {
            let schema = self.plan.tables[usize::from(table.0)].schema();
            schema.is_some_and(|schema| schema.strategy == Strategy::Manual)
        };
        let tables: Vec<TableId> = self.plan.merged_tables().filter(manual).collect();
        for table in tables {
            for place in self.core_places() {
                self.orders += 1;
                let client = ClientId::new(WATCHER + u64::from(node_of(place).0));
                let id = RequestId(ORDERS + self.orders);
                let command = merged::Command::Merge { keep: None };
                let command = Command::Merged { table, command };
                self.oracle.on_request(op(client, id), &command);
                let request = Request {
                    client,
                    id,
                    sent: Sent::First,
                    patience: std::time::Duration::from_nanos(self.plan.cluster.down),
                    on_no_quorum: OnNoQuorum::Return,
                    command,
                };
                self.give(place, request);
            }
        }
    }

    // ---- what clients ask -----------------------------------------------------------------

    /// What an operation asks of a merged table, if it is about one.
    pub(super) fn merged_command(&self, place: usize, operation: &Operation) -> Option<Command> {
        let number = if let Act::Keys(table, _) = operation.act {
            table
        } else {
            operation.act.address()?.table
        };
        let schema = self.plan.tables[usize::from(number)].schema()?;
        if let Some(command) = self.table_command(place, number, operation) {
            return Some(command);
        }
        let client = self.clients[place].id.number();
        let value = value_of(client, u64::from(operation.id));
        let put = |at: Address| {
            let mut mutations = vec![Mutation::Put(key_of(at.key), value.clone())];
            if operation.id % 4 == 3 && self.plan.keys > 1 {
                let next = key_of((at.key + 1) % self.plan.keys);
                mutations.push(Mutation::Put(next, value.clone()));
            }
            mutations
        };
        let guard = |at: Address, shows| vec![Guard { key: key_of(at.key), shows }];
        let free = Vec::new;
        let ask = |command| Command::Merged { table: TableId(number), command };
        let seen = |at: Address| &self.clients[place].merged[self.seen_place(at)];
        let (mutations, guards) = match &operation.act {
            Act::Put(at, _) => (put(*at), free()),
            Act::PutIfAbsent(at, _) | Act::CompareAndSet(at, Guess::Absent, _) => {
                (put(*at), guard(*at, Vec::new()))
            }
            Act::CompareAndSet(at, Guess::Seen | Guess::Version, _) => {
                (put(*at), guard(*at, seen(*at).shows.clone()))
            }
            Act::Remove(at, only_seen) => {
                let key = key_of(at.key);
                let seen = seen(*at).value.clone().filter(|_| *only_seen);
                let remove = match seen {
                    Some(value) => Mutation::RemoveValue(key, value),
                    None => Mutation::Remove(key),
                };
                (vec![remove], free())
            }
            Act::Fence(_)
                if schema.strategy == Strategy::Manual && operation.id.is_multiple_of(2) =>
            {
                let keep =
                    [None, Some(Keep::Here), Some(Keep::There)][operation.id as usize / 2 % 3];
                return Some(ask(merged::Command::Merge { keep }));
            }
            Act::Fence(at) => return Some(ask(self.resolving(seen(*at), *at))),
            Act::Keys(_, limit) => {
                let (pattern, limit) = (Pattern::default(), *limit);
                return Some(ask(merged::Command::Scan { pattern, after: None, limit }));
            }
            Act::Get(at) | Act::GetLocal(at) | Act::Watch(at) | Act::Unwatch(at) => {
                return Some(ask(merged::Command::Get(key_of(at.key))));
            }
            Act::CloseSession | Act::OpenSession | Act::Status => return None,
        };
        Some(ask(merged::Command::Write { mutations, guards }))
    }

    /// The answer of a resolver that has seen so much: what it liked best.
    fn resolving(&self, seen: &Seen, at: Address) -> merged::Command {
        match (&seen.conflict, &seen.value) {
            (Some((row, dots)), Some(value)) => merged::Command::Resolve {
                row: row.clone(),
                dots: dots.clone(),
                value: Some(value.clone()),
            },
            _ => merged::Command::Get(key_of(at.key)),
        }
    }

    fn seen_place(&self, at: Address) -> usize {
        usize::from(at.table) * usize::from(self.plan.keys) + usize::from(at.key)
    }

    /// What a client takes from an answer for its later questions.
    pub(super) fn learn_merged(&mut self, who: usize, command: &Command, outcome: &Outcome) {
        self.learn_listed(who, command, outcome);
        let Command::Merged { table, command: merged::Command::Get(key) } = command else { return };
        let Outcome::Merged(Answer::Found { entries, .. }) = outcome else { return };
        let numbers = 0..self.plan.keys;
        let Some(number) = numbers.into_iter().find(|&number| key_of(number) == *key) else {
            return;
        };
        let place = self.seen_place(Address { table: table.0, key: number });
        let conflict = entries.iter().find(|entry| entry.values.len() > 1);
        let first = conflict.or_else(|| entries.first());
        self.clients[who].merged[place] = Seen {
            shows: entries.iter().flat_map(|it| &it.values).map(|it| it.dot).collect(),
            value: first.and_then(|it| it.values.first()).map(|it| it.value.clone()),
            conflict: conflict.map(|it| (it.row.clone(), it.dots.clone())),
        };
    }
}
