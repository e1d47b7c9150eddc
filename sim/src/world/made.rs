//! Merged tables that clients make and drop while nodes run. Clients name them; which of its tables
//! a node takes that for is its own matter.
//!
//! Must never know: which of them there should be.

use synod::merged::{self, TableCommand};
use synod::{Command, MergeEvent, OpId, Outcome, Refusal, TableId, TableName};

use super::World;
use super::client::key_of;
use crate::oracle::{MergedCause, Shows};
use crate::plan::{Act, Operation};

/// No node has so many tables.
const NOWHERE: TableId = TableId(u16::MAX - 1);

impl World<'_> {
    fn has_listed(&self) -> bool {
        self.plan.tables.last().is_some_and(crate::plan::Table::is_listed)
    }

    fn listed(&self, name: &str) -> Option<u16> {
        let mut tables = self.plan.tables.iter().zip(0..);
        tables.find(|(table, _)| table.is_listed() && table.name == name).map(|(_, number)| number)
    }

    /// The ones that a node has: where, by which names, and which of the plan's they are.
    fn listed_at(&self, place: usize) -> Vec<(TableId, TableName, u16)> {
        let node = self.hosts[place].node.as_ref().filter(|_| self.has_listed());
        let all = node.into_iter().flat_map(|node| node.merged_tables());
        let listed = all.filter_map(|(table, hash, name)| Some((table, hash, self.listed(name)?)));
        listed.collect()
    }

    /// As which one a node's table is judged; nothing if it is not.
    pub(super) fn judged(&self, place: usize, table: TableId) -> Option<TableId> {
        let declared = self.plan.tables.get(usize::from(table.0));
        if declared.is_some_and(|table| !table.is_listed()) {
            return Some(table);
        }
        let listed = self.listed_at(place);
        let (_, name, _) = listed.into_iter().find(|(known, ..)| *known == table)?;
        self.oracle.judged(place, name)
    }

    /// The ones that a node has, as they are judged.
    pub(super) fn judged_at(&self, place: usize) -> Vec<TableId> {
        let listed = self.listed_at(place).into_iter();
        listed.filter_map(|(_, name, _)| self.oracle.judged(place, name)).collect()
    }

    /// A request is about to be handled.
    pub(super) fn before_listed(&mut self, place: usize, op: OpId, command: &Command) {
        if let Command::Table(command) = command
            && let Some(number) = self.listed(command.name())
        {
            let listed = self.listed_at(place);
            let has = listed.into_iter().find(|(.., known)| *known == number);
            let has = has.and_then(|(_, name, _)| self.oracle.judged(place, name));
            self.oracle.on_table_asked(place, op, (number, command), has);
        }
        if let Command::Merged { table, .. } = command
            && let Some(table) = self.judged(place, *table)
        {
            self.oracle.on_aimed(place, op, table);
        }
    }

    /// Shows the oracle which of them a node has copies of, and what these are.
    pub(super) fn look_at_listed(&mut self, place: usize, how: Shows, cause: MergedCause) {
        let node = self.hosts[place].node.as_ref().filter(|_| self.has_listed());
        // A node in a host has shown nothing before its first step.
        if node.is_none_or(|node| node.merged_tables().next().is_none()) {
            return;
        }
        let mut there = Vec::new();
        for (table, name, number) in self.listed_at(place) {
            let node = self.hosts[place].node.as_ref();
            let Some(copy) = node.and_then(|node| node.merged(table)) else { continue };
            let judged =
                self.oracle.on_made_copy(place, (number, name), copy, how, &mut self.marks);
            there.push(judged);
            match how {
                Shows::Start { is_lost } => self.oracle.on_copy_start(place, judged, copy, is_lost),
                Shows::Step => {
                    self.oracle.on_copy_step(place, judged, copy, cause, &mut self.marks);
                }
            }
        }
        self.oracle.on_made_copies(place, &there, how);
    }

    /// A node tells somebody who listens of merges.
    pub(super) fn judge_merge_event(&mut self, place: usize, event: &MergeEvent) {
        let (MergeEvent::Cleared { table, .. }
        | MergeEvent::Lost { table, .. }
        | MergeEvent::Raised { table, .. }
        | MergeEvent::Table { table, .. }) = event
        else {
            return;
        };
        if let Some(judged) = self.judged(place, *table) {
            self.oracle.on_merge_event(place, judged, event, &mut self.marks);
        }
    }

    // ---- what clients ask -----------------------------------------------------------------

    /// What an operation asks for, if it is about whether there is such a table.
    pub(super) fn table_command(
        &self,
        who: usize,
        number: u16,
        operation: &Operation,
    ) -> Option<Command> {
        let table = &self.plan.tables[usize::from(number)];
        if !table.is_listed() {
            return None;
        }
        let name = table.name.clone();
        let knows = self.clients[who].merged_made[usize::from(number)];
        if let Act::Unwatch(_) = &operation.act {
            return Some(Command::Table(TableCommand::Drop { name }));
        }
        let creates = !knows || matches!(&operation.act, Act::Watch(_));
        let schema = table.schema().filter(|_| creates)?.clone();
        Some(Command::Table(TableCommand::Create { name, schema }))
    }

    /// A command as the node that is given it has to be asked: it knows tables by its own numbers.
    /// One that a client names and the node does not know is none.
    pub(super) fn as_known(&self, place: usize, command: Command) -> Command {
        let at = |number: u16| {
            let mut listed = self.listed_at(place).into_iter();
            listed.find(|(.., known)| *known == number).map(|(table, ..)| table)
        };
        let is_listed = |table: TableId| {
            self.plan.tables.get(usize::from(table.0)).is_some_and(crate::plan::Table::is_listed)
        };
        if let Command::Merged { table, command } = &command
            && is_listed(*table)
        {
            let table = at(table.0).unwrap_or(NOWHERE);
            return Command::Merged { table, command: command.clone() };
        }
        if let Command::Table(TableCommand::Drop { name }) = &command
            && let Some(number) = self.listed(name)
            && at(number).is_none()
        {
            return Command::Merged { table: NOWHERE, command: merged::Command::Get(key_of(0)) };
        }
        command
    }

    /// What a client takes from an answer.
    pub(super) fn learn_listed(&mut self, who: usize, command: &Command, outcome: &Outcome) {
        let (number, knows) = match (command, outcome) {
            (Command::Table(command @ TableCommand::Create { .. }), Outcome::Done) => {
                (self.listed(command.name()), true)
            }
            (Command::Table(command @ TableCommand::Drop { .. }), Outcome::Done) => {
                (self.listed(command.name()), false)
            }
            (Command::Merged { table, .. }, Outcome::Refused(Refusal::NoSuchTable(_))) => {
                (Some(table.0), false)
            }
            _ => return,
        };
        if let Some(known) =
            number.and_then(|it| self.clients[who].merged_made.get_mut(usize::from(it)))
        {
            *known = knows;
        }
    }
}
