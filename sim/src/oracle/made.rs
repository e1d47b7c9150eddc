//! Merged tables that clients make and drop while nodes run: which there are, where, and whether
//! they may be.
//!
//! A table that is made again after it was dropped is another one, whose copies know each other by
//! another name; each is judged by itself, so one that has anything of an earlier one shows what
//! nobody wrote to it. What is judged of a dropped one ends, on each node, when it is not there any
//! more.
//!
//! Must never know: how a list of tables goes about.

use std::collections::{BTreeMap, BTreeSet};

use synod::merged::{Agreement, Schema, Table, TableCommand};
use synod::{Command, OpId, TableId, TableName};

use super::Oracle;
use super::merged::Merged;
use crate::marks::{Mark, Marks};
use crate::plan::{Nodes, Plan};

/// What those that were made are numbered from, in the order in which they were first seen.
const FIRST: u16 = 1 << 10;

/// What is known of them.
#[derive(Clone, Debug, Default)]
pub(super) struct MadeTables {
    /// What each is, by its number in the plan.
    schemas: BTreeMap<u16, Schema>,
    /// Which one a request was about where it was given to a node.
    aimed: BTreeMap<(usize, OpId), TableId>,
    /// Which one a node has as it is asked to make or drop it.
    asked: BTreeMap<(usize, OpId), (u16, Option<TableId>)>,
    /// Of which names somebody has asked to drop one.
    drops: BTreeSet<u16>,
    /// Nodes that have said that one of a name is made, or that this one is dropped.
    created: BTreeSet<(usize, u16)>,
    dropped: BTreeSet<(usize, TableId)>,
    /// Nodes where somebody listens to merges.
    watched: BTreeSet<usize>,
}

/// What a node does when it shows which copies it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    /// It has started, and may have lost what it had.
    Start {
        /// Whether it has.
        is_lost: bool,
    },
    /// It has taken a step.
    Step,
}

impl MadeTables {
    pub(super) fn new(plan: &Plan) -> Self {
        let tables = plan.tables.iter().zip(0..).filter(|(table, _)| table.is_listed());
        let schemas = tables.filter_map(|(table, number)| Some((number, table.schema()?.clone())));
        Self { schemas: schemas.collect(), ..Self::default() }
    }
}

impl Oracle {
    /// Whether a plan's table is one of them.
    pub(super) fn is_listed(&self, table: TableId) -> bool {
        self.made.schemas.contains_key(&table.0)
    }

    /// Which table a client's request was about at a node: of one that was made, the one that the
    /// node knew by its name.
    pub(super) fn meant(&self, node: usize, op: OpId, table: TableId) -> Option<TableId> {
        match self.is_listed(table) {
            true => self.made.aimed.get(&(node, op)).copied(),
            false => Some(table),
        }
    }

    /// Whether a node may say that there is no table of the name that a client asked for: it may
    /// not have heard of it yet, or not any more.
    pub(super) fn is_refused_table(&self, command: &Command) -> bool {
        let is_listed = matches!(command, Command::Merged { table, .. } if self.is_listed(*table));
        let lists = !self.made.schemas.is_empty();
        is_listed || lists && matches!(command, Command::Table(TableCommand::Drop { .. }))
    }

    /// Whether a command, as a node is given it, is about one of them.
    pub(super) fn may_be_dropped(&self, command: &Command) -> bool {
        let first = self.made.schemas.keys().next();
        let is_one = |table: TableId| first.is_some_and(|first| table.0 >= *first);
        matches!(command, Command::Merged { table, .. } if is_one(*table))
    }

    /// As which one a node's table is judged.
    pub(crate) fn judged(&self, node: usize, name: TableName) -> Option<TableId> {
        let mut all = self.merged.iter().filter(|it| it.name == name && it.number.is_some());
        let here = all.clone().find(|it| it.copies[node].is_there);
        here.or_else(|| all.next()).map(|it| it.table)
    }

    /// A request is given to a node that knows this one.
    pub(crate) fn on_aimed(&mut self, node: usize, op: OpId, table: TableId) {
        if table.0 >= FIRST {
            self.made.aimed.insert((node, op), table);
        }
    }

    /// A node is asked to make one, or to drop it, and has this one.
    pub(crate) fn on_table_asked(
        &mut self,
        node: usize,
        op: OpId,
        (number, command): (u16, &TableCommand),
        has: Option<TableId>,
    ) {
        if matches!(command, TableCommand::Drop { .. }) {
            self.made.drops.insert(number);
        }
        self.made.asked.insert((node, op), (number, has));
    }

    /// It says that it has.
    pub(super) fn on_table_done(
        &mut self,
        node: usize,
        op: OpId,
        command: &TableCommand,
        marks: &mut Marks,
    ) {
        let Some((number, had)) = self.made.asked.remove(&(node, op)) else { return };
        match (command, had) {
            (TableCommand::Drop { .. }, Some(table)) => {
                marks.hit(Mark::TableDropped);
                self.made.dropped.insert((node, table));
            }
            (TableCommand::Create { .. }, had) => {
                marks.hit(Mark::MergedTableMade);
                self.made.created.insert((node, number));
                let elsewhere = |it: &Merged| {
                    let copies = it.copies.iter().enumerate();
                    it.number == Some(number)
                        && copies.clone().any(|(other, copy)| other != node && copy.is_there)
                        && copies.clone().any(|(other, copy)| other == node && copy.is_there)
                };
                if had.is_none() && self.merged.iter().any(elsewhere) {
                    marks.hit(Mark::MadeApart);
                }
            }
            _ => {}
        }
    }

    /// Somebody listens at a node from now on, to all that is there and will be.
    pub(crate) fn on_all_watched(&mut self, node: usize) {
        self.made.watched.insert(node);
    }

    /// A node keeps a copy; says as which one it is judged.
    pub(crate) fn on_made_copy(
        &mut self,
        node: usize,
        (number, name): (u16, TableName),
        copy: &Table,
        how: Shows,
        marks: &mut Marks,
    ) -> TableId {
        let is_it = |it: &Merged| {
            it.name == name && it.number == Some(number) && it.agreement() == *copy.agreement()
        };
        let place = self.merged.iter().position(is_it).unwrap_or_else(|| {
            let before = self.merged.iter().filter(|it| it.number == Some(number));
            if before.clone().any(|it| it.name != name) {
                marks.hit(Mark::MadeAgain);
            }
            self.merged.push(self.begin(number, name, copy.agreement()));
            self.merged.len() - 1
        });
        let watched = self.made.watched.contains(&node);
        let merged = &mut self.merged[place];
        let table = merged.table;
        if !merged.copies[node].is_there {
            merged.begin_copy(node, watched && how == Shows::Step, self.step);
            if self.made.dropped.contains(&(node, table)) && how != (Shows::Start { is_lost: true })
            {
                let text = format!("{table}: n{} has a copy, and said it was dropped", node + 1);
                self.breaks("C3", "a dropped table is back", text);
            }
        }
        table
    }

    fn begin(&self, number: u16, name: TableName, agreement: &Agreement) -> Merged {
        let made = self.merged.iter().filter(|it| it.number.is_some()).count();
        let Agreement { kind, strategy, contest } = agreement.clone();
        let schema = self.made.schemas.get(&number).cloned().unwrap_or_default();
        let schema = Schema { kind, strategy, contest, ..schema };
        let table = TableId(FIRST.saturating_add(u16::try_from(made).unwrap_or(u16::MAX)));
        Merged::of(table, Some(number), name, schema, self.nodes)
    }

    /// A node has copies of these, and of no others.
    pub(crate) fn on_made_copies(&mut self, node: usize, there: &[TableId], how: Shows) {
        if let Shows::Start { .. } = how {
            self.made.watched.remove(&node);
        }
        if how == (Shows::Start { is_lost: true }) {
            // It knows nothing of what it said.
            self.made.created.retain(|(other, _)| *other != node);
            self.made.dropped.retain(|(other, _)| *other != node);
        }
        let mut wrong = None;
        for merged in self.merged.iter_mut().filter(|it| it.number.is_some()) {
            let is_gone = merged.copies[node].is_there && !there.contains(&merged.table);
            if !is_gone {
                continue;
            }
            // Nobody may have been told that it is there, nor of anything in it that outlives the
            // process: a copy in memory is in use before the list that names it is on disk.
            let is_told = merged.is_durable() && !merged.copies[node].told.is_empty();
            let made = merged.number.map(|number| (node, number));
            let is_made = made.is_some_and(|made| self.made.created.contains(&made));
            let is_untold = matches!(how, Shows::Start { .. }) && !is_told && !is_made;
            let is_allowed = merged.number.is_some_and(|it| self.made.drops.contains(&it))
                || how == (Shows::Start { is_lost: true })
                || is_untold;
            merged.copies[node].is_there = false;
            if !is_allowed {
                wrong = Some(format!("{}: n{} has it no more", merged.table, node + 1));
            }
        }
        if let Some(text) = wrong {
            self.breaks("C2", "a table is gone that nobody dropped", text);
        }
    }

    /// C1: what these nodes do not agree on yet.
    pub(super) fn unequal_tables(&self, nodes: Nodes) -> Option<(&'static str, String)> {
        let is_core = |node: usize| nodes.has(super::node_of(node).0);
        let is_there = |it: &Merged| {
            let copies = it.copies.iter().enumerate();
            copies.clone().any(|(node, copy)| is_core(node) && copy.is_there)
        };
        for (&number, schema) in &self.made.schemas {
            let keeps =
                |node: &usize| is_core(*node) && schema.replicas.contains(super::node_of(*node));
            let all: Vec<&Merged> =
                self.merged.iter().filter(|it| it.number == Some(number)).collect();
            for merged in all.iter().copied().filter(|it| is_there(it)) {
                let has = |node: &usize| {
                    all.iter().any(|it| it.name == merged.name && it.copies[*node].is_there)
                };
                if let Some(node) = (0..self.nodes).filter(keeps).find(|node| !has(node)) {
                    let text = format!("{}: n{} has no copy of it", merged.table, node + 1);
                    return Some(("a table is not everywhere", text));
                }
                let said =
                    |(node, table): &&(usize, TableId)| *table == merged.table && is_core(*node);
                if let Some((node, table)) = self.made.dropped.iter().find(said) {
                    let text = format!("{table} is there; n{} said it was dropped", node + 1);
                    return Some(("a dropped table is kept", text));
                }
            }
            let said = |(node, made): &&(usize, u16)| *made == number && is_core(*node);
            if !self.made.drops.contains(&number)
                && (0..self.nodes).any(|node| keeps(&node))
                && !all.iter().any(|it| is_there(it))
                && let Some((node, _)) = self.made.created.iter().find(said)
            {
                let text = format!("t{number} is not there; n{} said it was made", node + 1);
                return Some(("a table is gone", text));
            }
        }
        None
    }
}
