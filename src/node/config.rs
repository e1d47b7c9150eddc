//! What a node is told when it is made. Checked once, here; the rest of the engine trusts it.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::base::{ClusterId, FRAME_MAX, NodeId, Replicas, TableId, TableName};
use crate::cluster::Witnesses;
use crate::merged;
use crate::paxos::{Members, MembersError};
use crate::primary;

/// A node's configuration. All members must be given the same, but for `node`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which cluster; messages of another are dropped.
    pub cluster: ClusterId,
    /// Which member this is.
    pub node: NodeId,
    /// The voting members.
    pub members: Vec<NodeId>,
    /// The configured number of seats; quorums are majorities of this (P-02). Default 3 (P-03).
    pub cluster_size: u16,
    /// The tables, in the order of their [`TableId`]s.
    pub tables: Vec<TableConfig>,
    /// How a node with empty storage comes to vote.
    pub genesis: Genesis,
    /// Bounds on everything that a client or a peer could make grow.
    pub limits: Limits,
    /// How long things may take.
    pub timing: Timing,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// Its name; unique.
    pub name: String,
    /// What it promises.
    pub discipline: Discipline,
    /// Whether it was made while nodes ran. Never of one that a node is told of.
    pub made: bool,
}

/// What a table promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// One order of all writes, for whoever reaches a quorum.
    Consensus {
        /// Whether the only write is `put_if_absent`. Then an entry without bindings never
        /// changes, and any node that knows it answers for it without asking (R7).
        write_once: bool,
    },
    /// Every node reads and writes, also alone; copies become equal when nodes meet.
    Merged(merged::Schema),
    /// One replica puts all writes in order, the others follow it and can be read; a write is
    /// acknowledged when whoever counts has it on disk.
    Primary(primary::Schema),
}

impl TableConfig {
    /// A consensus table.
    #[must_use]
    pub fn consensus(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            discipline: Discipline::Consensus { write_once: false },
            made: false,
        }
    }

    /// A merged table.
    #[must_use]
    pub fn merged(name: impl Into<String>, schema: merged::Schema) -> Self {
        Self { name: name.into(), discipline: Discipline::Merged(schema), made: false }
    }

    /// A primary table.
    #[must_use]
    pub fn primary_table(name: impl Into<String>, schema: primary::Schema) -> Self {
        Self { name: name.into(), discipline: Discipline::Primary(schema), made: false }
    }

    /// A consensus table whose only write is `put_if_absent`.
    #[must_use]
    pub fn write_once(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            discipline: Discipline::Consensus { write_once: true },
            made: false,
        }
    }

    /// Whether its only write is `put_if_absent`.
    #[must_use]
    pub const fn is_write_once(&self) -> bool {
        matches!(self.discipline, Discipline::Consensus { write_once: true })
    }

    /// What it is, on one line, if its keys belong to it by its place among the tables: then that
    /// must stay as it is. The copies of other tables know their table by its name.
    #[must_use]
    pub fn declaration(&self) -> Option<String> {
        match &self.discipline {
            Discipline::Consensus { write_once: false } => Some(format!("consensus {}", self.name)),
            Discipline::Consensus { write_once: true } => Some(format!("write-once {}", self.name)),
            Discipline::Merged(_) | Discipline::Primary(_) => None,
        }
    }

    /// What a merged table was told.
    #[must_use]
    pub const fn schema(&self) -> Option<&merged::Schema> {
        match &self.discipline {
            Discipline::Consensus { .. } | Discipline::Primary(_) => None,
            Discipline::Merged(schema) => Some(schema),
        }
    }

    /// What a primary table was told.
    #[must_use]
    pub const fn primary(&self) -> Option<&primary::Schema> {
        match &self.discipline {
            Discipline::Consensus { .. } | Discipline::Merged(_) => None,
            Discipline::Primary(schema) => Some(schema),
        }
    }

    /// Whether each of its keys is a register of its own.
    #[must_use]
    pub const fn is_consensus(&self) -> bool {
        matches!(self.discipline, Discipline::Consensus { .. })
    }
}

/// How a node with empty storage comes to vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Genesis {
    /// Whoever starts the node vouches that its storage was never used: it votes at once. A wiped
    /// disk is still found out as soon as a peer that knew the old one is heard, which may be too
    /// late.
    Vouched,
    /// It votes once enough peers have durably taken note of its storage, so that a wiped disk can
    /// never pass for a new one. The first start of a cluster of three needs all three up.
    #[default]
    Witnessed,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a key. Default 1 KiB.
    pub key_max: usize,
    /// Bytes of a value. Default 1 MiB.
    pub value_max: usize,
    /// Bindings of one entry. Default 8.
    pub bindings_max: usize,
    /// Keys in one answer to `keys`. Default 1,000.
    pub page_max: u32,
    /// Requests in flight at one node; above it, [`crate::Refusal::Busy`]. Default 4,096.
    pub requests_max: usize,
    /// Client sessions hosted by one node. Default 65,536.
    pub sessions_max: usize,
    /// Subscriptions at one node: a client's to a topic is one. Default 65,536.
    pub subscriptions_max: usize,
    /// Committed entries of each primary table that a replica keeps, of at most 16 MiB, for those
    /// that lack no more than these. Who lacks more takes a copy. Default 16,384.
    pub history_max: usize,
    /// Rows of a difference between copies of a merged table that one step puts in. Default 1,000.
    pub merge_rows: u32,
    /// Bytes of versions that a copy asks another for at once; at least one version is sent.
    /// Default 256 KiB, which is also the most that is sent.
    pub merge_chunk: u32,
    /// Bytes of versions a second that a node asks others for, of all tables together, so that
    /// copies that meet again leave room on the links. Default 16 MiB.
    pub merge_rate: u32,
}

/// Durations. They affect progress, never safety.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats. Default 250 ms.
    pub heartbeat: Duration,
    /// Silence after which a node's session may be closed, and a peer counts as unreachable.
    /// Default 2 s; at least four heartbeats.
    pub down: Duration,
    /// How long a quorum must have been heard before it counts as reached. Default 0.
    pub up: Duration,
    /// Between two sweeps of bound entries. Default 500 ms.
    pub sweep: Duration,
    /// How long one round of messages may take before it is tried again. Default 100 ms.
    pub round: Duration,
    /// The first backoff of a proposer that was preempted; doubles with each loss. Default 5 ms.
    pub backoff: Duration,
    /// Where that stops doubling. Default 500 ms.
    pub backoff_max: Duration,
    /// How long a peer that is back must stay before merged tables are compared with it. Default 0.
    pub debounce: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            key_max: 1 << 10,
            value_max: 1 << 20,
            bindings_max: 8,
            page_max: 1_000,
            requests_max: 4_096,
            sessions_max: 1 << 16,
            subscriptions_max: 1 << 16,
            history_max: 1 << 14,
            merge_rows: 1_000,
            merge_chunk: 256 << 10,
            merge_rate: 16 << 20,
        }
    }
}

impl Limits {
    /// What everything but keys, values and bindings takes of a message, with room to spare.
    const REST: usize = 1 << 10;

    /// The longest messages and records, and which limits make them so long.
    fn frames(&self) -> [(&'static str, usize); 2] {
        let key = self.key_max.saturating_add(128); // with a ballot and what else goes with a key
        let keys = |count: usize| key.saturating_mul(count).saturating_add(Self::REST);
        let entry = keys(self.bindings_max.saturating_add(1)).saturating_add(self.value_max);
        [
            ("value_max, key_max and bindings_max", entry),
            ("page_max and key_max", keys(self.page_max as usize)),
        ]
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            down: Duration::from_secs(2),
            up: Duration::ZERO,
            sweep: Duration::from_millis(500),
            round: Duration::from_millis(100),
            backoff: Duration::from_millis(5),
            backoff_max: Duration::from_millis(500),
            debounce: Duration::ZERO,
        }
    }
}

/// Why a configuration is impossible. Each says which field, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The members and the size do not make a configuration.
    Members(MembersError),
    /// This node is not among the members.
    NotMember(NodeId),
    /// Two tables of one name.
    DuplicateTable(String),
    /// A table with no name, or with one that begins with `$`, as those of synod itself do.
    ReservedName(String),
    /// A merged table that cannot be kept as it is declared.
    Merged {
        /// Which.
        table: String,
        /// Why.
        why: Impossible,
    },
    /// A primary table that cannot be kept as it is declared.
    Primary {
        /// Which.
        table: String,
        /// Why.
        why: Impossible,
    },
    /// More tables than a [`TableId`] can number.
    TooManyTables(usize),
    /// A duration that must not be zero is.
    ZeroDuration(&'static str),
    /// A duration is longer than a day, which can only be a mistake.
    DurationTooLong(&'static str),
    /// `timing.down` is less than four heartbeats: a lost heartbeat or two would close sessions.
    DownTooShort,
    /// Entries or listings could be longer than a frame, so no peer and no log would take them.
    TooLong {
        /// Which limits make it so.
        limits: &'static str,
        /// How many bytes that could be.
        len: usize,
    },
    /// So many witnesses are needed, and so many peers are listed: it could never start.
    TooFewWitnesses {
        /// Needed.
        required: u32,
        /// Listed.
        peers: usize,
    },
    /// A limit that must not be zero is.
    ZeroLimit(&'static str),
}

/// What is wrong with the declaration of a merged or a primary table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impossible {
    /// Two names that messages could not tell apart.
    NameTaken,
    /// A replica is named twice.
    ReplicaTwice(NodeId),
    /// A replica is not among the members.
    ReplicaUnknown(NodeId),
    /// No node is to keep a copy.
    NoReplica,
    /// Tombstones would be dropped before a peer counts as gone (M-12).
    RetentionTooShort,
    /// A bag that is told by what field values are versions of each other, but not by what field
    /// they are of one element: nothing could ever collide (M-21).
    NoSecondary,
    /// A field that no value can have, or that there are no words for (M-18).
    Field,
    /// Its name is longer than `key_max`: the name is a key of the engine's own table.
    NameTooLong,
    /// Clients would be answered, or replicas counted out, at once.
    NoTime,
    /// Two of the largest rows would not fit into one message.
    RowTooLong,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken => write!(f, "another such table's name has the same hash"),
            Self::ReplicaTwice(node) => write!(f, "node {} is named twice as a replica", node.0),
            Self::ReplicaUnknown(node) => {
                write!(f, "replica {} is not among the members", node.0)
            }
            Self::NoReplica => write!(f, "it needs at least one replica"),
            Self::RetentionTooShort => {
                write!(
                    f,
                    "retention must be at least `timing.down`, or peers that are only slow \
                    would count as gone"
                )
            }
            Self::NoSecondary => write!(
                f,
                "in a bag, a strategy that chooses needs a secondary field; without one, only \
                 equal elements meet"
            ),
            Self::NameTooLong => write!(f, "its name must not be longer than `key_max`"),
            Self::NoTime => write!(f, "`answer` and `patience` must be longer than zero"),
            Self::RowTooLong => {
                write!(f, "`value_max` and `key_max` must let two rows into one message")
            }
            Self::Field => write!(
                f,
                "a field is bytes that end within `value_max`, at least one; or a JSON pointer of \
                 at most 256 bytes, without white space, + and commas; or a function with a name"
            ),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Members(error) => write!(f, "{error}"),
            Self::NotMember(node) => write!(f, "node: {} is not among the members", node.0),
            Self::DuplicateTable(name) => write!(f, "tables: two tables are named {name:?}"),
            Self::ReservedName(name) => {
                write!(f, "tables: {name:?} cannot be a name: it is empty, or begins with '$'")
            }
            Self::Merged { table, why } | Self::Primary { table, why } => {
                write!(f, "tables: {table:?}: {why}")
            }
            Self::TooManyTables(count) => {
                write!(f, "tables: {count} are more than {}", u16::MAX)
            }
            Self::ZeroDuration(name) => write!(f, "timing.{name}: must be longer than zero"),
            Self::DurationTooLong(name) => write!(f, "timing.{name}: must be at most a day"),
            Self::DownTooShort => write!(f, "timing.down: must be at least four heartbeats"),
            Self::TooLong { limits, len } => write!(
                f,
                "limits: {limits} allow {len} bytes in one message, which may have {}; lower them",
                FRAME_MAX
            ),
            Self::TooFewWitnesses { required, peers } => write!(
                f,
                "genesis: {required} witnesses are needed where {peers} peers are listed; list \
                 more members, or vouch for new storage"
            ),
            Self::ZeroLimit(name) => write!(f, "limits.{name}: must be more than zero"),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// The configuration of `node` in a cluster of nodes 1, 2 and 3 with one table, `default`.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            cluster: ClusterId(1),
            node,
            members: vec![NodeId(1), NodeId(2), NodeId(3)],
            cluster_size: 3,
            tables: vec![TableConfig::consensus("default")],
            genesis: Genesis::default(),
            limits: Limits::default(),
            timing: Timing::default(),
        }
    }

    /// The table named `name`.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<TableId> {
        let place = self.tables.iter().position(|table| table.name == name)?;
        u16::try_from(place).ok().map(TableId)
    }

    /// How many peers must durably have taken note of a node's new storage before it votes (P-32):
    /// 0 under [`Genesis::Vouched`]. So many nodes, and one more, must be up at a first start.
    ///
    /// # Errors
    /// Whatever makes the configuration impossible.
    pub fn witnesses(&self) -> Result<u32, ConfigError> {
        let members = self.check()?;
        Ok(match self.genesis {
            Genesis::Vouched => 0,
            Genesis::Witnessed => Witnesses::required(&members),
        })
    }

    /// Whether a node could run with this.
    ///
    /// # Errors
    /// The first thing that is impossible.
    pub fn check(&self) -> Result<Members, ConfigError> {
        let members =
            Members::new(self.members.clone(), self.cluster_size).map_err(ConfigError::Members)?;
        if !members.contains(self.node) {
            return Err(ConfigError::NotMember(self.node));
        }
        let (required, peers) = (Witnesses::required(&members), members.nodes().len() - 1);
        if self.genesis == Genesis::Witnessed && required as usize > peers {
            return Err(ConfigError::TooFewWitnesses { required, peers });
        }
        if self.tables.len() > usize::from(u16::MAX) {
            return Err(ConfigError::TooManyTables(self.tables.len()));
        }
        for (place, table) in self.tables.iter().enumerate() {
            if self.tables[..place].iter().any(|other| other.name == table.name) {
                return Err(ConfigError::DuplicateTable(table.name.clone()));
            }
            if table.name.is_empty() || table.name.starts_with('$') || table.made {
                return Err(ConfigError::ReservedName(table.name.clone()));
            }
        }
        self.check_merged(&members)?;
        self.check_primary(&members)?;
        let timing = &self.timing;
        let durations = [
            ("heartbeat", timing.heartbeat),
            ("down", timing.down),
            ("sweep", timing.sweep),
            ("round", timing.round),
            ("backoff", timing.backoff),
            ("backoff_max", timing.backoff_max),
        ];
        if let Some((name, _)) = durations.iter().find(|(_, duration)| duration.is_zero()) {
            return Err(ConfigError::ZeroDuration(name));
        }
        let longest = Duration::from_secs(24 * 60 * 60);
        let others = [("up", timing.up), ("debounce", timing.debounce)];
        let mut all = durations.iter().chain(&others);
        if let Some((name, _)) = all.find(|(_, duration)| *duration > longest) {
            return Err(ConfigError::DurationTooLong(name));
        }
        if timing.down < timing.heartbeat.saturating_mul(4) {
            return Err(ConfigError::DownTooShort);
        }
        let limits = &self.limits;
        let counts = [
            ("merge_chunk", limits.merge_chunk as usize),
            ("merge_rate", limits.merge_rate as usize),
            ("merge_rows", limits.merge_rows as usize),
            ("page_max", limits.page_max as usize),
            ("requests_max", limits.requests_max),
            ("sessions_max", limits.sessions_max),
            ("subscriptions_max", limits.subscriptions_max),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(ConfigError::ZeroLimit(name));
        }
        if let Some((limits, len)) = limits.frames().into_iter().find(|(_, len)| *len > FRAME_MAX) {
            return Err(ConfigError::TooLong { limits, len });
        }
        Ok(members)
    }

    fn check_merged(&self, members: &Members) -> Result<(), ConfigError> {
        let merged = self.tables.iter().filter_map(|table| Some((table, table.schema()?)));
        let mut names = BTreeSet::new();
        for (table, schema) in merged {
            let fresh = names.insert(TableName::of(&table.name));
            let why =
                if fresh { self.impossible(schema, members) } else { Some(Impossible::NameTaken) };
            if let Some(why) = why {
                return Err(ConfigError::Merged { table: table.name.clone(), why });
            }
        }
        Ok(())
    }

    fn check_primary(&self, members: &Members) -> Result<(), ConfigError> {
        let primary = self.tables.iter().filter_map(|table| Some((table, table.primary()?)));
        let mut names = BTreeSet::new();
        for (table, schema) in primary {
            let fresh = names.insert(TableName::of(&table.name));
            let why = self.impossible_primary(&table.name, schema, members);
            let why = if fresh { why } else { Some(Impossible::NameTaken) };
            if let Some(why) = why {
                return Err(ConfigError::Primary { table: table.name.clone(), why });
            }
        }
        Ok(())
    }

    /// What is wrong with a primary table whose arbiter has this name.
    pub(super) fn impossible_primary(
        &self,
        arbiter: &str,
        schema: &primary::Schema,
        members: &Members,
    ) -> Option<Impossible> {
        let limits = &self.limits;
        let row = limits.key_max.saturating_add(limits.value_max);
        if arbiter.len() > limits.key_max {
            Some(Impossible::NameTooLong)
        } else if row.saturating_mul(2).saturating_add(1 << 20) > FRAME_MAX {
            Some(Impossible::RowTooLong)
        } else if schema.answer_within.min(schema.patience).is_zero() {
            Some(Impossible::NoTime)
        } else {
            impossible_replicas(&schema.replicas, members)
        }
    }

    pub(super) fn impossible(
        &self,
        schema: &merged::Schema,
        members: &Members,
    ) -> Option<Impossible> {
        if let Some(why) = impossible_replicas(&schema.replicas, members) {
            return Some(why);
        }
        if schema.retention < self.timing.down {
            return Some(Impossible::RetentionTooShort);
        }
        let chooses = schema.agreement().decisive().is_some();
        if chooses && schema.kind == (merged::Kind::Bag { secondary: None }) {
            return Some(Impossible::NoSecondary);
        }
        let max = self.limits.value_max;
        let possible = schema.agreement().fields().all(|field| field.is_possible(max));
        (!possible).then_some(Impossible::Field)
    }
}

fn impossible_replicas(replicas: &Replicas, members: &Members) -> Option<Impossible> {
    let Replicas::Only(nodes) = replicas else { return None };
    if nodes.is_empty() {
        return Some(Impossible::NoReplica);
    }
    nodes.iter().enumerate().find_map(|(place, node)| {
        if nodes[..place].contains(node) {
            Some(Impossible::ReplicaTwice(*node))
        } else if members.contains(*node) {
            None
        } else {
            Some(Impossible::ReplicaUnknown(*node))
        }
    })
}
