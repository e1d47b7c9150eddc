//! What operators want to know: counted here, told to Prometheus, `/health` and `INFO`.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::clients::Shared;
use super::copies::Copies;
use super::replicas::Replicas;
use crate::consensus::{Command, Outcome, Readiness, Status};
use crate::host::Local;
use crate::merged;
use crate::primary::Info;
use crate::resp::{Surroundings, code};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabel {
    command: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    peer: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: OutcomeName,
}

/// A word for an outcome: `ok`, or the code of the refusal in small letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct OutcomeName(&'static str);

impl EncodeLabelValue for OutcomeName {
    fn encode(
        &self,
        encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        encoder.write_str(&self.0.to_ascii_lowercase())
    }
}

/// Everything that is counted.
pub(super) struct Metrics {
    registry: RefCell<Registry>,
    started: Instant,
    commands: Family<CommandLabel, Counter>,
    outcomes: Family<OutcomeLabel, Counter>,
    /// Those of the commands and outcomes that were seen: a family is slow to find its own.
    commands_seen: RefCell<Vec<(&'static str, Counter)>>,
    outcomes_seen: RefCell<Vec<(&'static str, Counter)>>,
    latency: Histogram,
    pub(super) connections: Gauge,
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    pub(super) malformed: Counter,
    pub(super) dropped: Counter,
    pub(super) wrong_passwords: Counter,
    pub(super) received: Counter,
    pub(super) sent: Counter,
    ready: Gauge,
    quorum: Gauge,
    reachable: Gauge,
    size: Gauge,
    sessions: Gauge,
    requests: Gauge,
    registers: Gauge,
    memory: Gauge,
    uptime: Gauge,
    /// From the hand-over of records to the end of their sync.
    pub(super) synced: Histogram,
    disk_waiting_bytes: Gauge,
    disk_waiting_records: Gauge,
    disk_stalled: Gauge<f64, AtomicU64>,
    disk_dropped: Counter,
    disk_refused: Counter,
    pub(super) storage: Gauge,
    link_up: Family<PeerLabel, Gauge>,
    link_queued: Family<PeerLabel, Gauge>,
    link_dropped: Family<PeerLabel, Counter>,
    handshakes_refused: Counter,
    copies: Copies,
    replicas: Replicas,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let metrics = Self {
            registry: RefCell::new(Registry::with_prefix("synod")),
            started: Instant::now(),
            commands: Family::default(),
            outcomes: Family::default(),
            commands_seen: RefCell::default(),
            outcomes_seen: RefCell::default(),
            // 50 microseconds to 1.6 seconds.
            latency: Histogram::new(exponential_buckets(50e-6, 2.0, 16)),
            connections: Gauge::default(),
            accepted: Counter::default(),
            refused: Counter::default(),
            malformed: Counter::default(),
            dropped: Counter::default(),
            wrong_passwords: Counter::default(),
            received: Counter::default(),
            sent: Counter::default(),
            ready: Gauge::default(),
            quorum: Gauge::default(),
            reachable: Gauge::default(),
            size: Gauge::default(),
            sessions: Gauge::default(),
            requests: Gauge::default(),
            registers: Gauge::default(),
            memory: Gauge::default(),
            uptime: Gauge::default(),
            // 50 microseconds to 26 seconds.
            synced: Histogram::new(exponential_buckets(50e-6, 2.0, 20)),
            disk_waiting_bytes: Gauge::default(),
            disk_waiting_records: Gauge::default(),
            disk_stalled: Gauge::default(),
            disk_dropped: Counter::default(),
            disk_refused: Counter::default(),
            storage: Gauge::default(),
            link_up: Family::default(),
            link_queued: Family::default(),
            link_dropped: Family::default(),
            handshakes_refused: Counter::default(),
            copies: Copies::default(),
            replicas: Replicas::default(),
        };
        metrics.register();
        metrics.register_host();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.borrow_mut();
        registry.register("commands", "Requests to the engine", self.commands.clone());
        registry.register("outcomes", "Its answers", self.outcomes.clone());
        registry.register(
            "request_duration_seconds",
            "From a request's arrival at the engine to its answer",
            self.latency.clone(),
        );
        for (name, help, counter) in [
            ("connections_accepted", "Clients accepted", &self.accepted),
            ("connections_refused", "Clients refused, there being too many", &self.refused),
            ("connections_malformed", "Clients that spoke no RESP", &self.malformed),
            (
                "connections_dropped",
                "Clients dropped for others, having asked nothing",
                &self.dropped,
            ),
            ("wrong_passwords", "Passwords that were not the right one", &self.wrong_passwords),
            ("received_bytes", "Bytes from clients", &self.received),
            ("sent_bytes", "Bytes to clients", &self.sent),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            ("connections", "Clients connected", &self.connections),
            ("ready", "Whether the node takes part", &self.ready),
            ("quorum", "Whether it hears a quorum", &self.quorum),
            ("reachable_nodes", "Members it hears, itself included", &self.reachable),
            ("cluster_size", "Configured seats", &self.size),
            ("sessions", "Client sessions hosted here", &self.sessions),
            ("requests_in_flight", "Requests in the engine", &self.requests),
            ("registers", "Registers kept here, live or dead", &self.registers),
            ("resident_bytes", "Memory of the process", &self.memory),
            ("uptime_seconds", "Since the process began", &self.uptime),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    fn register_host(&self) {
        let mut registry = self.registry.borrow_mut();
        registry.register(
            "disk_write_duration_seconds",
            "From the hand-over of records to the disk to the end of their sync",
            self.synced.clone(),
        );
        registry.register(
            "disk_stalled_seconds",
            "How long records have waited while nothing became durable",
            self.disk_stalled.clone(),
        );
        for (name, help, gauge) in [
            ("disk_waiting_bytes", "Bytes that are not durable yet", &self.disk_waiting_bytes),
            ("disk_waiting_records", "Records likewise", &self.disk_waiting_records),
            ("storage_bytes", "What the state directory takes", &self.storage),
        ] {
            registry.register(name, help, gauge.clone());
        }
        for (name, help, counter) in [
            (
                "disk_dropped_messages",
                "Messages of peers dropped, too much waiting for the disk",
                &self.disk_dropped,
            ),
            ("disk_refused_requests", "Requests refused likewise", &self.disk_refused),
            ("handshakes_refused", "Peers and strangers refused", &self.handshakes_refused),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register("link_up", "Whether there is a link to the peer", self.link_up.clone());
        registry.register("link_queued_bytes", "Bytes for the peer", self.link_queued.clone());
        registry.register(
            "link_dropped_messages",
            "Messages lost for want of a link to the peer, or of room",
            self.link_dropped.clone(),
        );
        self.copies.register(&mut registry);
        self.replicas.register(&mut registry);
    }

    fn set_host(&self, local: &Local) {
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let set = |counter: &Counter, total| counter.inner().store(total, Ordering::Relaxed);
        let disk = local.disk();
        self.disk_waiting_bytes.set(number(disk.waiting_bytes));
        self.disk_waiting_records.set(number(disk.waiting_records));
        self.disk_stalled.set(disk.stalled.as_secs_f64());
        set(&self.disk_dropped, disk.dropped);
        set(&self.disk_refused, disk.refused);
        set(&self.handshakes_refused, local.refused_handshakes());
        for link in local.links() {
            let peer = PeerLabel { peer: link.peer.0 };
            self.link_up.get_or_create(&peer).set(i64::from(link.up));
            self.link_queued.get_or_create(&peer).set(number(link.queued));
            set(&self.link_dropped.get_or_create(&peer), link.dropped);
        }
    }

    /// A request goes to the engine.
    pub(super) fn asked(&self, command: &Command) {
        let command = name(command);
        count(&self.commands_seen, command, || {
            self.commands.get_or_create(&CommandLabel { command }).clone()
        });
    }

    /// It was answered.
    pub(super) fn answered(&self, outcome: &Outcome, after: Duration) {
        let outcome = match outcome {
            Outcome::Refused(refusal) => code(refusal),
            Outcome::Unknown => "unknown",
            Outcome::Mismatch { .. } => "mismatch",
            Outcome::Chosen { .. }
            | Outcome::Done
            | Outcome::Found { .. }
            | Outcome::Keys { .. }
            | Outcome::Merged(_)
            | Outcome::Primary(_)
            | Outcome::Removed { .. }
            | Outcome::Session(_)
            | Outcome::Status(_)
            | Outcome::Written { .. } => "ok",
        };
        count(&self.outcomes_seen, outcome, || {
            let outcome = OutcomeName(outcome);
            self.outcomes.get_or_create(&OutcomeLabel { outcome }).clone()
        });
        self.latency.observe(after.as_secs_f64());
    }

    /// Everything, as Prometheus reads it; with the replicas of primary tables and the copies of
    /// merged ones, by their tables.
    pub(super) fn render(
        &self,
        status: &Status,
        local: &Local,
        replicas: &[(String, Info)],
        copies: &[(String, merged::Info)],
    ) -> String {
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.set_host(local);
        self.replicas.set(status.node, replicas);
        self.copies.set(copies);
        self.ready.set(i64::from(status.readiness == Readiness::Ready));
        self.quorum.set(i64::from(status.has_quorum));
        self.reachable.set(number(status.reachable.len()));
        self.size.set(i64::from(status.cluster_size));
        self.sessions.set(number(status.sessions));
        self.requests.set(number(status.requests));
        self.registers.set(number(status.registers));
        self.memory.set(resident().unwrap_or(0));
        self.uptime.set(i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX));
        let mut text = String::new();
        // A string takes everything.
        let _ = encode(&mut text, &self.registry.borrow());
        text
    }

    /// `INFO`.
    pub(super) fn info(&self, status: &Status, sections: &[String], shared: &Shared) -> String {
        let wanted = |name: &str| {
            sections.is_empty()
                || sections.iter().any(|section| {
                    section == name || ["all", "default", "everything"].contains(&section.as_str())
                })
        };
        let mut text = String::new();
        let mut section = |name: &str, lines: &[(&str, String)]| {
            if wanted(&name.to_ascii_lowercase()) {
                let _ = write!(text, "{}# {name}\r\n", if text.is_empty() { "" } else { "\r\n" });
                for (field, value) in lines {
                    let _ = write!(text, "{field}:{value}\r\n");
                }
            }
        };
        section(
            "Server",
            &[
                ("synod_version", env!("CARGO_PKG_VERSION").to_owned()),
                ("process_id", std::process::id().to_string()),
                ("uptime_in_seconds", self.started.elapsed().as_secs().to_string()),
                ("durable", yes(shared.is_durable())),
            ],
        );
        section(
            "Cluster",
            &[
                ("node", status.node.0.to_string()),
                ("epoch", status.epoch.0.to_string()),
                ("ready", yes(status.readiness == Readiness::Ready)),
                ("readiness", status.readiness.to_string()),
                ("quorum", yes(status.has_quorum)),
                ("reachable_nodes", status.reachable.len().to_string()),
                ("cluster_size", status.cluster_size.to_string()),
                ("quorum_size", status.quorum_size.to_string()),
            ],
        );
        section(
            "Clients",
            &[
                ("connected_clients", self.connections.get().to_string()),
                ("sessions", status.sessions.to_string()),
                ("requests_in_flight", status.requests.to_string()),
            ],
        );
        section("Memory", &[("used_memory_rss", resident().unwrap_or(0).to_string())]);
        section(
            "Stats",
            &[
                ("total_connections_received", self.accepted.get().to_string()),
                ("rejected_connections", self.refused.get().to_string()),
                ("malformed_connections", self.malformed.get().to_string()),
                ("total_net_input_bytes", self.received.get().to_string()),
                ("total_net_output_bytes", self.sent.get().to_string()),
            ],
        );
        let tables = shared.tables();
        let tables = tables.iter().map(|table| table.name.as_str());
        let tables: Vec<&str> = tables.filter(|name| !name.is_empty()).collect();
        section(
            "Keyspace",
            &[("registers", status.registers.to_string()), ("tables", tables.join(","))],
        );
        text
    }
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// Memory of this process in bytes, where the system tells.
fn resident() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1_024)
}

/// Counts one more of `name`, whose counter is looked up the first time only.
fn count(
    seen: &RefCell<Vec<(&'static str, Counter)>>,
    name: &'static str,
    find: impl FnOnce() -> Counter,
) {
    let mut seen = seen.borrow_mut();
    if let Some((_, counter)) = seen.iter().find(|(known, _)| *known == name) {
        counter.inc();
        return;
    }
    let counter = find();
    counter.inc();
    seen.push((name, counter));
}

const fn name(command: &Command) -> &'static str {
    match command {
        Command::CloseSession(_) => "close_session",
        Command::CompareAndSet { .. } => "compare_and_set",
        Command::Fence { .. } => "fence",
        Command::Get { .. } => "get",
        Command::Keys { .. } => "keys",
        Command::Merged { .. } => "merged",
        Command::OpenSession => "open_session",
        Command::Primary { .. } => "primary",
        Command::PrimaryTable(_) => "primary_table",
        Command::Put { .. } => "put",
        Command::PutIfAbsent { .. } => "put_if_absent",
        Command::Remove { .. } => "remove",
        Command::Status => "status",
        Command::Subscribe(_) => "subscribe",
        Command::Table(_) => "table",
        Command::Unsubscribe(_) => "unsubscribe",
    }
}
