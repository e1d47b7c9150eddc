//! Whether a plan can be run, and its verdict trusted: every bound on what a plan may say.
//!
//! What the engine itself would refuse is left to the engine's own check of its configuration.
//!
//! Must never know: how a run goes.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use synod::{ClusterId, Config, ConfigError, Genesis, Limits, NodeId, TableConfig, Timing};

use super::{
    Act, CLIENTS_MAX, CLOCK_MAX, Cut, DROPS_MAX, Discipline, Fault, KEYS_MAX, MERGE_ROWS, MILLI,
    Mode, NODES_MAX, Nanos, Nodes, Operation, Plan, Resolvers, SECOND, TABLES_MAX, TIME_MAX, Tie,
    Trouble, shrink,
};

/// Why a plan cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The line, from 1; 0 when the plan as a whole is meant, or it was never text.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.message),
            line => write!(f, "{line}: {}", self.message),
        }
    }
}

impl std::error::Error for PlanError {}

impl PlanError {
    /// With the name of the file it is about in front, as compilers say it.
    #[must_use]
    pub fn in_file(&self, name: &str) -> String {
        match self.line {
            0 => format!("{name}: {}", self.message),
            line => format!("{name}:{line}: {}", self.message),
        }
    }
}

/// What of a plan is wrong: where it is text, that has a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The fault at this place.
    Fault(usize),
    /// The line that begins with this.
    Header(&'static str),
    /// The operation at this place.
    Operation(usize),
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) part: Part,
    pub(super) message: String,
}

type Checked = Result<(), Misfit>;

/// What is wrong with one operation or one fault.
type Fits = Result<(), String>;

fn wrong(header: &'static str, message: impl fmt::Display) -> Checked {
    Err(Misfit { part: Part::Header(header), message: format!("{header}: {message}") })
}

/// Numbers key draws: no two may be the same.
fn number(taken: &mut BTreeSet<u32>, id: u32) -> Fits {
    if taken.insert(id) { Ok(()) } else { Err("this number is taken; use another".to_owned()) }
}

/// A time of an operation or a fault.
fn time(name: &str, time: Nanos) -> Fits {
    if time > TIME_MAX {
        return Err(format!("{name} must be at most {}s; lower it", TIME_MAX / SECOND));
    }
    Ok(())
}

/// How far a clock or a deadline is off.
fn offset(name: &str, by: i64) -> Fits {
    if by.unsigned_abs() > CLOCK_MAX {
        return Err(format!("{name} must be within {}s either way", CLOCK_MAX / SECOND));
    }
    Ok(())
}

impl Plan {
    /// What each node is configured with, but for which node it is.
    #[must_use]
    pub fn config(&self, node: NodeId) -> Config {
        let cluster = &self.cluster;
        let span = Duration::from_nanos;
        let table = |table: &super::Table| match &table.discipline {
            Discipline::Consensus => TableConfig::consensus(&*table.name),
            Discipline::Listed(schema) | Discipline::Merged(schema) => {
                TableConfig::merged(&*table.name, schema.clone())
            }
            Discipline::Made(schema) | Discipline::Primary(schema) => {
                TableConfig::primary_table(&*table.name, schema.clone())
            }
            Discipline::WriteOnce => TableConfig::write_once(&*table.name),
        };
        let limits = Limits::default();
        let (merge_chunk, merge_rate) = if cluster.merge_rows < MERGE_ROWS {
            // About what a row takes.
            let chunk = cluster.merge_rows * 100;
            (chunk, chunk * 50)
        } else {
            (limits.merge_chunk, limits.merge_rate)
        };
        Config {
            cluster: ClusterId(1),
            node,
            members: (1..=cluster.nodes.min(NODES_MAX)).map(NodeId).collect(),
            cluster_size: cluster.size,
            tables: {
                let declared =
                    self.tables.iter().filter(|table| !table.is_made() && !table.is_listed());
                declared.map(table).collect()
            },
            genesis: if cluster.witnessed { Genesis::Witnessed } else { Genesis::Vouched },
            limits: Limits {
                requests_max: cluster.requests_max as usize,
                key_max: limits.key_max.min(cluster.row_max as usize),
                value_max: cluster.row_max as usize,
                history_max: cluster.history_max as usize,
                merge_rows: cluster.merge_rows,
                merge_chunk,
                merge_rate,
                ..limits
            },
            timing: Timing {
                heartbeat: span(cluster.heartbeat),
                down: span(cluster.down),
                up: span(cluster.up),
                sweep: span(cluster.sweep),
                round: span(cluster.round),
                backoff: span(cluster.backoff),
                backoff_max: span(cluster.backoff_max),
                debounce: Duration::ZERO,
            },
        }
    }

    /// Whether the plan can be run, and its verdict trusted.
    ///
    /// # Errors
    /// The first thing that is wrong. It names no line: only text has lines.
    pub fn check(&self) -> Result<(), PlanError> {
        self.misfit().map_err(|misfit| PlanError { line: 0, message: misfit.message })
    }

    /// The first thing that is wrong.
    pub(super) fn misfit(&self) -> Checked {
        self.check_counts()?;
        self.check_times()?;
        self.check_config()?;
        let mut ids = BTreeSet::new();
        for (place, operation) in self.operations.iter().enumerate() {
            let fits =
                self.check_operation(operation).and_then(|()| number(&mut ids, operation.id));
            fits.map_err(|why| Misfit {
                part: Part::Operation(place),
                message: format!("op {}: {why}", operation.id),
            })?;
        }
        ids.clear();
        let mut lost = Nodes::default();
        for (place, fault) in self.faults.iter().enumerate() {
            let fits = self.check_fault(fault).and_then(|()| number(&mut ids, fault.id));
            fits.and_then(|()| self.check_losses(fault, &mut lost)).map_err(|why| Misfit {
                part: Part::Fault(place),
                message: format!("fault {}: {why}", fault.id),
            })?;
        }
        Ok(())
    }

    fn check_counts(&self) -> Checked {
        let cluster = &self.cluster;
        if cluster.nodes == 0 || cluster.nodes > NODES_MAX {
            return wrong("nodes", format_args!("{} is not within 1..={NODES_MAX}", cluster.nodes));
        }
        if cluster.size >= cluster.nodes && cluster.nodes < self.quorum() {
            return wrong(
                "size",
                format_args!(
                    "{} nodes are no quorum of {} seats; lower `size` or raise `nodes`",
                    cluster.nodes, cluster.size
                ),
            );
        }
        if self.mode == Mode::Timed && !self.choices.is_empty() {
            let message =
                "only free mode is told what to choose; say `mode free`, or leave them out";
            return wrong("choices", message);
        }
        if self.clients > CLIENTS_MAX {
            return wrong("clients", format_args!("{} is more than {CLIENTS_MAX}", self.clients));
        }
        if self.keys == 0 || self.keys > KEYS_MAX {
            return wrong("keys", format_args!("{} is not within 1..={KEYS_MAX}", self.keys));
        }
        if self.tables.is_empty() || self.tables.len() > TABLES_MAX {
            let count = self.tables.len();
            return wrong("table", format_args!("give 1 to {TABLES_MAX}, not {count}"));
        }
        if self.tables.iter().skip(self.consensus_tables()).any(super::Table::is_consensus) {
            return wrong(
                "table",
                "merged tables, and those with a primary, stand behind all others",
            );
        }
        if self.tables.iter().rev().skip(1).any(super::Table::is_made) {
            return wrong("table", "the last one alone can be made while nodes run");
        }
        if self.drops() > DROPS_MAX {
            return wrong("table", format_args!("a table can be dropped {DROPS_MAX} times"));
        }
        let declared = self.tables.iter().take_while(|table| !table.is_listed()).count();
        let listed = &self.tables[declared..];
        if listed.iter().any(|table| !table.is_listed())
            || !listed.is_empty() && self.tables.iter().any(super::Table::is_made)
        {
            return wrong("table", "merged tables made while nodes run stand behind all others");
        }
        self.check_resolvers()?;
        let network = &self.network;
        let shares =
            [("loss", network.loss), ("duplicate", network.duplicate), ("wire", network.wire)];
        match shares.iter().find(|(_, share)| *share > 1_000_000) {
            Some((name, share)) => {
                wrong("network", format_args!("{name}={share} of a million; 1000000 at most"))
            }
            None => Ok(()),
        }
    }

    fn check_resolvers(&self) -> Checked {
        let Some(resolvers) = &self.resolvers else { return Ok(()) };
        let Resolvers { patience, failing, panicking, stalling, stall } = *resolvers;
        if self.mode == Mode::Free {
            return wrong("resolvers", "they need time; say `mode timed`, or leave them out");
        }
        if let Some(share) = [failing, panicking, stalling].iter().find(|it| **it > 1_000_000) {
            return wrong("resolvers", format_args!("{share} of a million; 1000000 at most"));
        }
        if patience < MILLI || stall == 0 || patience.max(stall) > TIME_MAX {
            let message =
                "patience must be at least 1ms, stall more than 0, both at most three years";
            return wrong("resolvers", message);
        }
        Ok(())
    }

    /// Sums of times must stay within a clock's range, and time must go on.
    fn check_times(&self) -> Checked {
        let (cluster, network, disk) = (&self.cluster, &self.network, &self.disk);
        for (header, time) in [("safety", self.safety), ("liveness", self.liveness)] {
            if time > TIME_MAX {
                return wrong(header, format_args!("at most {}s", TIME_MAX / SECOND));
            }
        }
        if self.liveness == 0 {
            return wrong("liveness", "must be longer than 0");
        }
        if cluster.wall_spread > CLOCK_MAX {
            return wrong("clocks", format_args!("spread: at most {}s", CLOCK_MAX / SECOND));
        }
        let steps =
            [cluster.heartbeat, cluster.sweep, cluster.round, cluster.backoff, cluster.backoff_max];
        if steps.iter().any(|&step| step < MILLI) {
            return wrong("timing", "all but `down` and `up` must be at least 1ms");
        }
        let latencies = [
            ("network", "latency", network.latency),
            ("network", "jitter", network.jitter),
            ("disk", "latency", disk.latency),
            ("disk", "jitter", disk.jitter),
        ];
        match latencies.iter().find(|(.., latency)| *latency > 86_400 * SECOND) {
            Some((header, name, _)) => wrong(header, format_args!("{name} must be at most a day")),
            None => Ok(()),
        }
    }

    /// What the engine itself would refuse.
    fn check_config(&self) -> Checked {
        let mut config = self.config(NodeId(1));
        let made = self.tables.iter().filter(|table| table.is_made() || table.is_listed());
        config.tables.extend(made.filter_map(|table| {
            if let Discipline::Listed(schema) = &table.discipline {
                return Some(TableConfig::merged(&*table.name, schema.clone()));
            }
            // As long as the key of its arbiter can be, which has the number of the table before it.
            let name = format!("{:0>22}{}", "", table.name);
            Some(TableConfig::primary_table(name, table.primary()?.clone()))
        }));
        let Err(error) = config.check() else { return Ok(()) };
        let header = match &error {
            ConfigError::DuplicateTable(_)
            | ConfigError::ReservedName(_)
            | ConfigError::Merged { .. }
            | ConfigError::Primary { .. }
            | ConfigError::TooManyTables(_) => "table",
            ConfigError::Members(_) | ConfigError::NotMember(_) => "size",
            ConfigError::TooFewWitnesses { .. } => "genesis",
            ConfigError::TooLong { .. } | ConfigError::ZeroLimit(_) => "limits",
            ConfigError::DownTooShort
            | ConfigError::DurationTooLong(_)
            | ConfigError::ZeroDuration(_) => "timing",
        };
        Err(Misfit { part: Part::Header(header), message: error.to_string() })
    }

    /// Whether an operation fits the rest of the plan.
    fn check_operation(&self, operation: &Operation) -> Fits {
        let (client, clients) = (operation.client, self.clients);
        if client == 0 || client > clients {
            return Err(format!("client {client} is not within 1..={clients}"));
        }
        self.check_node(operation.node)?;
        time("after", operation.after)?;
        time("patience", operation.patience)?;
        for tie in shrink::ties_of(&operation.act) {
            match *tie {
                Tie::Key(at) if usize::from(at.table) >= self.consensus_tables() => {
                    return Err(format!("bound to {at}, which is in no table that is not merged"));
                }
                Tie::Key(at) if !self.has(at) => {
                    return Err(format!("bound to {at}, which the plan has not"));
                }
                Tie::Node(node) if node == 0 || node > self.cluster.nodes => {
                    return Err(format!("bound to node {node}, which the plan has not"));
                }
                Tie::Until(after) => offset("until", after)?,
                Tie::Key(_) | Tie::Node(_) | Tie::Session => {}
            }
        }
        let tables = self.tables.len();
        if let Act::Keys(table, _) = operation.act
            && usize::from(table) >= tables
        {
            return Err(format!("t{table}: there are only {tables} tables"));
        }
        match operation.act.address() {
            Some(at) if !self.has(at) => {
                Err(format!("{at}: the plan has {tables} tables of {} keys", self.keys))
            }
            _ => Ok(()),
        }
    }

    fn check_node(&self, node: u16) -> Fits {
        let nodes = self.cluster.nodes;
        if node == 0 || node > nodes {
            return Err(format!("node {node} is not within 1..={nodes}"));
        }
        Ok(())
    }

    /// Whether a fault fits the rest of the plan.
    fn check_fault(&self, fault: &Fault) -> Fits {
        time("at", fault.at)?;
        time("for", fault.lasts)?;
        match &fault.trouble {
            Trouble::Client(client) if *client == 0 || *client > self.clients => {
                Err(format!("client {client} is not within 1..={}", self.clients))
            }
            Trouble::Crash(node, _)
            | Trouble::DiskFull(node)
            | Trouble::Freeze(node)
            | Trouble::Pause(node)
            | Trouble::Rot(node)
            | Trouble::Wipe(node)
            | Trouble::WriteError(node) => self.check_node(*node),
            Trouble::Delay(_, by) | Trouble::Reorder(_, by) => time("by", *by),
            Trouble::Drift(node, ppm) => {
                self.check_node(*node)?;
                if !(-900_000..=9_000_000).contains(ppm) {
                    return Err(format!("drift {ppm} is not within -900000..=9000000"));
                }
                Ok(())
            }
            Trouble::Duplicate(_, ppm) | Trouble::Loss(_, ppm) if *ppm > 1_000_000 => {
                Err(format!("{ppm} of a million is too many"))
            }
            Trouble::Hint(node, peer) => {
                self.check_node(*node)?;
                self.check_node(*peer)
            }
            Trouble::Jump(node, by) | Trouble::Skew(node, by) => {
                self.check_node(*node)?;
                offset("by", *by)
            }
            Trouble::Partition(cut, half) => {
                if *half > 0 && *half < MILLI {
                    return Err("flap must be 0s or at least 1ms".to_owned());
                }
                time("flap", *half)?;
                let ring: &[u16] = if let Cut::Ring(order) = cut { order } else { &[] };
                ring.iter().try_for_each(|node| self.check_node(*node))
            }
            Trouble::SlowDisk(node, by) => {
                self.check_node(*node)?;
                time("by", *by)
            }
            Trouble::Client(_)
            | Trouble::Clog(_)
            | Trouble::Duplicate(..)
            | Trouble::Loss(..)
            | Trouble::PowerCut(_)
            | Trouble::Queue(..) => Ok(()),
        }
    }

    /// Whether the cluster can bear what this fault destroys, after those before it.
    fn check_losses(&self, fault: &Fault, lost: &mut Nodes) -> Fits {
        let cluster = &self.cluster;
        let (Trouble::Wipe(node) | Trouble::Rot(node)) = fault.trouble else { return Ok(()) };
        if !cluster.witnessed {
            return Err(
                "genesis `vouched` promises that no storage is lost; take `witnessed`, or no \
                        wipe and rot"
                    .to_owned(),
            );
        }
        lost.add(node);
        if lost.len() > u32::from(cluster.nodes - self.quorum()) {
            return Err(format!(
                "{} nodes lose their storage, but a quorum of {} of {} must keep it",
                lost.len(),
                self.quorum(),
                cluster.nodes
            ));
        }
        Ok(())
    }
}
