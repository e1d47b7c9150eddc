//! Merged tables made, changed and dropped while the node runs: what clients ask, and what the list
//! of such tables, which is a merged table itself, comes to here.
//!
//! A node begins its copy of the list when a client makes its first table, or when a peer speaks of
//! the list. Tables stand behind the declared ones, in the order in which this node heard of them:
//! their [`TableId`]s are this node's own, for as long as it runs. A table that was dropped keeps
//! its place, without a name.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Discipline, Effects, Foreign, Node, Record, TableConfig};
use crate::base::{Key, OpId, TableId};
use crate::consensus::{OnNoQuorum, Outcome, Refusal, Sent};
use crate::merged::{
    Agreement, CATALOGUE, Change, Listed, Mutation, Replicas, Role, Row, Schema, Table,
    TableCommand, TableName, Unfit, Unmade, Writer, is_table_name,
};

/// How many tables may be made while nodes run, the dropped ones not counted: each has a digest for
/// each peer with each heartbeat, and the list is gone through with each change of it.
const TABLES_MAX: usize = 1_024;

/// How many names they may have had in all. That a name was dropped is never forgotten: a node that
/// was away, for however long, may have the table that was, and is not to bring it back.
const NAMES_MAX: usize = 16 * TABLES_MAX;

/// The tables made while the node runs.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// The list of them, once this node has begun its copy.
    pub(super) table: Option<TableId>,
    /// Each with its generation.
    made: BTreeMap<TableId, u32>,
    /// The generations of declared tables of whose names others were dropped before.
    declared: BTreeMap<TableId, u32>,
    /// How often the tables have changed here.
    revision: u64,
}

/// The rows of the list that show something else after these changes; nothing if that may be any,
/// as where rows are put in of what counted before.
pub(super) fn listed_by(changes: &[Change]) -> Option<Vec<Row>> {
    let is_whole = changes.is_empty() || changes.iter().any(|change| change.role != Role::Step);
    let versions = changes.iter().flat_map(|change| &change.versions);
    (!is_whole).then(|| versions.map(|(row, _)| row.clone()).collect())
}

impl Node {
    /// Grows with each change of the tables that [`Node::config`] names.
    #[must_use]
    pub const fn tables_revision(&self) -> u64 {
        self.catalogue.revision
    }

    pub(super) fn on_table_request(
        &mut self,
        op: OpId,
        sent: Sent,
        patience: core::time::Duration,
        on_no_quorum: OnNoQuorum,
        command: TableCommand,
        effects: &mut Effects,
    ) {
        let refusal = if !self.merges() {
            Some(Refusal::NotReady(self.readiness.clone()))
        } else if self.requests_in_flight() >= self.config.limits.requests_max {
            Some(Refusal::Busy)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            // It may have been done where it was asked first.
            let again = sent == Sent::Again;
            let outcome = if again { Outcome::Unknown } else { Outcome::Refused(refusal) };
            return self.decline(op, outcome, effects);
        }
        let (name, drops) =
            (command.name().to_string(), matches!(command, TableCommand::Drop { .. }));
        let outcome = match self.change_tables(command, effects) {
            Ok(()) => Outcome::Done,
            // It is none of those merged here, so it may be one that was agreed upon.
            Err(Unmade::NoSuchTable) if drops => {
                return self.drop_listed(op, sent, patience, on_no_quorum, name, effects);
            }
            // It may have been dropped by this very request.
            Err(Unmade::NoSuchTable) if sent == Sent::Again => Outcome::Unknown,
            Err(unmade) => Outcome::Refused(Refusal::Unmade(unmade)),
        };
        let Some(catalogue) = self.catalogue.table else {
            return self.decline(op, outcome, effects);
        };
        let after = self.durable_with(catalogue);
        let until = (self.now.instant + patience, true, catalogue);
        self.reply(op, outcome, after, until, effects);
    }

    fn change_tables(
        &mut self,
        command: TableCommand,
        effects: &mut Effects,
    ) -> Result<(), Unmade> {
        if !is_table_name(command.name()) {
            return Err(Unmade::Name);
        }
        if self.catalogue.table.is_some_and(|table| self.copies.is_rewound(table)) {
            return Err(Unmade::Impossible(Unfit::Rewound.to_string()));
        }
        let known = self.config.table(command.name());
        match command {
            TableCommand::AddReplica { name, node } => {
                let schema =
                    Schema { replicas: Replicas::Only([node].into()), ..Schema::default() };
                self.check_schema(&schema)?;
                if known.is_some_and(|table| self.is_agreed(table)) {
                    let why = "it is a primary table, which a node joins by JOIN";
                    return Err(Unmade::Impossible(why.to_string()));
                }
                let table = known.filter(|table| self.schema_of(*table).is_some());
                self.add_replicas(
                    &name,
                    table.ok_or(Unmade::NoSuchTable)?,
                    &schema.replicas,
                    effects,
                )
            }
            TableCommand::Create { name, schema } => {
                self.check_schema(&schema)?;
                if known.is_none() && self.replicas.keeps_named(&name) {
                    return Err(Unmade::Exists("a primary table".to_string()));
                }
                let Some(table) = known else { return self.make_table(&name, schema, effects) };
                let config = &self.config.tables[usize::from(table.0)];
                let Some(is) = config.schema() else {
                    let is_primary = config.primary().is_some();
                    let is = if is_primary { "a primary table" } else { "no merged table" };
                    return Err(Unmade::Exists(is.to_string()));
                };
                if is.agreement() != schema.agreement() {
                    return Err(Unmade::Exists(is.agreement().to_string()));
                }
                if is.durability != schema.durability {
                    return Err(Unmade::Exists(format!("kept {}", is.durability)));
                }
                if is.retention != schema.retention {
                    let milliseconds = is.retention.as_millis();
                    return Err(Unmade::Exists(format!("one of retention@{milliseconds}")));
                }
                self.add_replicas(&name, table, &schema.replicas, effects)
            }
            TableCommand::Drop { name } => {
                let generation = match known {
                    // What has never been shown here is not meant.
                    None if self.replicas.keeps_named(&name) => None,
                    None => self.listed(&name).and_then(|(listed, _)| {
                        listed.schema.is_some().then_some(listed.generation)
                    }),
                    Some(table) if self.is_agreed(table) || self.is_clashing(table) => None,
                    Some(table) => Some(*self.catalogue.made.get(&table).ok_or(Unmade::Declared)?),
                };
                let generation = generation.ok_or(Unmade::NoSuchTable)?;
                self.list(&name, &Listed { generation, schema: None }, effects);
                Ok(())
            }
        }
    }

    fn schema_of(&self, table: TableId) -> Option<&Schema> {
        self.config.tables.get(usize::from(table.0)).and_then(TableConfig::schema)
    }

    fn check_schema(&self, schema: &Schema) -> Result<(), Unmade> {
        if let Some(why) = self.config.impossible(schema, &self.members) {
            return Err(Unmade::Impossible(why.to_string()));
        }
        // The others learn of it in words.
        match Schema::default().with_words(&schema.words()) {
            Ok(same) if same == *schema => Ok(()),
            Ok(_) | Err(_) => {
                let why = "a table that goes by a function has to be declared on every node";
                Err(Unmade::Impossible(why.to_string()))
            }
        }
    }

    fn make_table(
        &mut self,
        name: &str,
        mut schema: Schema,
        effects: &mut Effects,
    ) -> Result<(), Unmade> {
        // In one order, whoever names them.
        schema.replicas = schema.replicas.with(&schema.replicas);
        let places = usize::from(u16::MAX) - 1;
        if self.catalogue.made.len() >= TABLES_MAX || self.config.tables.len() >= places {
            return Err(Unmade::TooMany);
        }
        let list = self.begin_catalogue();
        let names = self.merged(list).map_or(0, Table::len);
        let generation = match self.listed(name) {
            None if names >= NAMES_MAX => return Err(Unmade::TooMany),
            None => 0,
            Some((Listed { generation, schema: None }, _)) => generation.saturating_add(1),
            // It is listed, but this node cannot keep it.
            Some((Listed { schema: Some(schema), .. }, _)) => {
                return Err(Unmade::Exists(schema.agreement().to_string()));
            }
        };
        self.list(name, &Listed { generation, schema: Some(schema) }, effects);
        Ok(())
    }

    fn add_replicas(
        &mut self,
        name: &str,
        table: TableId,
        replicas: &Replicas,
        effects: &mut Effects,
    ) -> Result<(), Unmade> {
        let mut schema = self.schema_of(table).ok_or(Unmade::NoSuchTable)?.clone();
        if schema.replicas.cover(replicas) {
            return Ok(());
        }
        let generation = *self.catalogue.made.get(&table).ok_or(Unmade::Declared)?;
        if self.listed(name).is_some_and(|(_, agreed)| !agreed) {
            return Err(Unmade::Disputed);
        }
        schema.replicas = schema.replicas.with(replicas);
        self.list(name, &Listed { generation, schema: Some(schema) }, effects);
        Ok(())
    }

    // ------------------------------------------------------------------ the list

    /// This node's copy of the list, begun now if it was not.
    pub(super) fn begin_catalogue(&mut self) -> TableId {
        if let Some(table) = self.catalogue.table {
            return table;
        }
        let schema = Schema::default();
        let table = self.push_table(TableConfig::merged(CATALOGUE, schema.clone()));
        self.catalogue.table = Some(table);
        let name = TableName::of(CATALOGUE);
        self.copies.name(table, name);
        self.begin_copy(table, name, &schema).expect("nobody else has written it");
        table
    }

    pub(super) fn push_table(&mut self, config: TableConfig) -> TableId {
        let table = TableId(self.config.tables.len() as u16);
        self.config.tables.push(TableConfig { made: true, ..config });
        self.catalogue.revision += 1;
        table
    }

    fn list(&mut self, name: &str, listed: &Listed, effects: &mut Effects) {
        let Some(catalogue) = self.catalogue.table else { return };
        let writer = Writer { wall: self.now.wall, ..Writer::default() };
        let put = [Mutation::Put(Key::from(name), listed.value())];
        self.step_copy(catalogue, effects, |replica, heard, step| {
            let change = replica.table().write(&put, writer).expect("it has no fields");
            replica.write(change, |peer| heard.contains(&peer), step);
        });
    }

    /// What the list says of a table, and whether it says one thing only.
    fn listed(&self, name: &str) -> Option<(Listed, bool)> {
        let table = self.merged(self.catalogue.table?)?;
        let shown = table.shown(&Row { key: Key::from(name), element: None });
        let values: Vec<Listed> =
            shown.iter().filter_map(|version| Listed::parse(version.value()?)).collect();
        let (listed, agreed) = Listed::fold(&values, self.held(name))?;
        // What this version of synod cannot read, it does not write over.
        Some((listed, agreed && values.len() == shown.len()))
    }

    /// What this node has as a table of this name, if it was made while nodes ran.
    fn held(&self, name: &str) -> Option<Agreement> {
        let table = self.config.table(name)?;
        self.catalogue.made.get(&table)?;
        self.schema_of(table).map(Schema::agreement)
    }

    /// Has the tables be as the list says.
    pub(super) fn read_catalogue(&mut self, effects: &mut Effects) {
        let Some(table) = self.catalogue.table.and_then(|table| self.merged(table)) else { return };
        let rows = table.scan(None).map(|(row, _)| row.clone()).collect();
        self.read_rows(rows, effects);
    }

    /// Has tables be as these rows of the list say.
    pub(super) fn read_rows(&mut self, rows: Vec<Row>, effects: &mut Effects) {
        for row in rows {
            let Ok(name) = core::str::from_utf8(row.key.as_bytes()) else { continue };
            let Some((listed, agreed)) = self.listed(name) else { continue };
            self.follow(name, &listed, effects);
            let list = self.catalogue.table.and_then(|table| self.merged(table));
            let is_split = list.is_some_and(|list| list.shown(&row).len() > 1);
            // What came to one is written as one: that ends the conflict. Others write the same.
            if agreed && is_split && self.started && self.merges() {
                self.list(name, &listed, effects);
            }
        }
    }

    fn follow(&mut self, name: &str, listed: &Listed, effects: &mut Effects) {
        let known = self.config.table(name);
        let mut made = known.and_then(|known| Some((known, *self.catalogue.made.get(&known)?)));
        if known.is_some_and(|table| self.is_agreed(table)) {
            let why =
                "a merged table of this name was made too; here the name means the primary one";
            tracing::error!(
                node = self.config.node.0,
                table = name,
                why,
                "a name is of two tables"
            );
            return;
        }
        if let (Some(table), None) = (known, made) {
            return self.follow_declared(name, table, listed, effects);
        }
        if let Some((table, generation)) = made
            && (generation < listed.generation || listed.schema.is_none())
        {
            self.drop_table(table, effects);
            made = None;
        }
        let Some(schema) = &listed.schema else { return };
        match made {
            Some((table, _)) => self.follow_replicas(table, schema),
            // Its name was that of a primary table here, which may be there still.
            None if self.replicas.keeps_named(name) => {}
            None => self.adopt(name, listed, schema.clone()),
        }
    }

    /// One that is declared here is what its declaration says, whatever is made or dropped. But it
    /// may have been dropped, and made again, before it was declared: then what is here is of a
    /// table that is no more.
    fn follow_declared(
        &mut self,
        name: &str,
        table: TableId,
        listed: &Listed,
        effects: &mut Effects,
    ) {
        let is_list = self.catalogue.table == Some(table);
        let Some(schema) = self.schema_of(table).filter(|_| !is_list).cloned() else { return };
        let own = self.catalogue.declared.get(&table).copied().unwrap_or(0);
        let is_dropped = listed.schema.is_none();
        let generation = match listed.generation {
            later if later > own => later.saturating_add(u32::from(is_dropped)),
            _ => own,
        };
        let hash = Listed { generation, schema: None }.name(name);
        if generation > own {
            if self.copies.knows(hash) {
                return;
            }
            self.void_copy(table);
            self.catalogue.declared.insert(table, generation);
            self.copies.name(table, hash);
            if schema.replicas.contains(self.config.node) {
                self.begin_copy(table, hash, &schema).expect("nothing was kept of it here");
            }
        }
        // The others are not to take it for dropped.
        let is_untold = is_dropped || listed.generation < generation;
        if is_untold && self.started && self.merges() && self.check_schema(&schema).is_ok() {
            self.list(name, &Listed { generation, schema: Some(schema) }, effects);
        }
    }

    /// By which name the copies of a declared table know each other. It may have been made before
    /// it was declared; and if one of its name was dropped it is a new one, unless something of it
    /// is here: what is declared cannot be dropped.
    pub(super) fn name_declared(&mut self, table: TableId, name: &str) -> TableName {
        let Some((mut listed, _)) = self.listed(name) else { return TableName::of(name) };
        if listed.schema.is_none() && self.copies.recovered(listed.name(name)).is_none() {
            listed.generation = listed.generation.saturating_add(1);
        }
        self.catalogue.declared.insert(table, listed.generation);
        listed.name(name)
    }

    fn adopt(&mut self, name: &str, listed: &Listed, mut schema: Schema) {
        let node = self.config.node.0;
        let hash = listed.name(name);
        let why = match self.check_schema(&schema) {
            Err(unmade) => Some(unmade.to_string()),
            Ok(()) if !is_table_name(name) => Some(Unmade::Name.to_string()),
            Ok(()) if self.copies.knows(hash) => Some("its name has the hash of another".into()),
            Ok(()) if self.config.tables.len() >= usize::from(u16::MAX) => {
                Some(Unmade::TooMany.to_string())
            }
            Ok(()) => None,
        };
        if let Some(why) = why {
            tracing::warn!(node, table = name, why, "a listed table is not kept here");
            return;
        }
        // A copy stays what it was begun as, whatever the list came to since.
        if let Some(begun) = self.copies.recovered(hash) {
            let Agreement { kind, strategy, contest } = begun;
            (schema.kind, schema.strategy, schema.contest) = (kind, strategy, contest);
        }
        let table = self.push_table(TableConfig::merged(name, schema.clone()));
        self.catalogue.made.insert(table, listed.generation);
        self.copies.name(table, hash);
        tracing::info!(node, table = name, schema = schema.words(), "table made");
        if schema.replicas.contains(self.config.node) {
            self.begin_copy(table, hash, &schema).expect("it is what was begun");
        }
    }

    fn follow_replicas(&mut self, table: TableId, listed: &Schema) {
        let Some(schema) = self.schema_of(table) else { return };
        if schema.replicas == listed.replicas || schema.agreement() != listed.agreement() {
            return;
        }
        let schema = Schema { replicas: listed.replicas.clone(), ..schema.clone() };
        let place = usize::from(table.0);
        self.config.tables[place].discipline = Discipline::Merged(schema.clone());
        self.catalogue.revision += 1;
        let Some(hash) = self.copies.hash(table) else { return };
        if self.merged(table).is_some() {
            let (peers, now) = (self.peers_of(&schema), self.now.instant);
            self.copies.meet(table, peers, now);
        } else if schema.replicas.contains(self.config.node) {
            self.begin_copy(table, hash, &schema).expect("nothing was kept of it here");
        }
    }

    fn drop_table(&mut self, table: TableId, effects: &mut Effects) {
        let name = self.unname_table(table);
        tracing::info!(node = self.config.node.0, table = name, "table dropped");
        self.catalogue.made.remove(&table);
        self.void_copy(table);
        self.fail_asks(Some(table), &Refusal::NoSuchTable(table), effects);
    }

    /// A table that was dropped keeps its place, without a name. This was it.
    pub(super) fn unname_table(&mut self, table: TableId) -> String {
        self.catalogue.revision += 1;
        core::mem::take(&mut self.config.tables[usize::from(table.0)].name)
    }

    /// Has what was written of a copy be void.
    fn void_copy(&mut self, table: TableId) {
        if let Some((hash, actor, agreement)) = self.copies.forget(table) {
            self.log(Record::Begun { table: hash, actor, agreement });
        }
    }

    /// Makes what was recovered of the list.
    pub(super) fn recover_catalogue(&mut self) -> Result<(), Foreign> {
        let Some(agreement) = self.copies.recovered(TableName::of(CATALOGUE)) else {
            return Ok(());
        };
        if agreement != Schema::default().agreement() {
            return Err(Foreign::Agreement);
        }
        if !self.copies.all_recovered_of(self.config.node, self.life) {
            return Err(Foreign::Node);
        }
        self.begin_catalogue();
        Ok(())
    }
}
