//! Gauges of this node's replicas of primary tables, as far as it takes part.
//!
//! Must never know: how a replica is asked.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::base::NodeId;
use crate::primary::{Info, Role};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabel {
    table: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    table: String,
    peer: u16,
}

/// Of each primary table; what is known of peers, a primary alone knows.
#[derive(Default)]
pub(super) struct Replicas {
    primary: Family<TableLabel, Gauge>,
    in_sync: Family<TableLabel, Gauge>,
    counting: Family<TableLabel, Gauge>,
    reign: Family<TableLabel, Gauge>,
    committed: Family<TableLabel, Gauge>,
    waiting: Family<TableLabel, Gauge>,
    peer_in_sync: Family<PeerLabel, Gauge>,
    peer_behind: Family<PeerLabel, Gauge>,
    peer_silent: Family<PeerLabel, Gauge<f64, AtomicU64>>,
}

impl Replicas {
    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, family) in [
            ("replica_primary", "Whether this node is primary of the table", &self.primary),
            ("replica_in_sync", "Whether its replica counts", &self.in_sync),
            ("replica_counting", "How many replicas count, as it knows", &self.counting),
            ("replica_reign", "How often the table has had a primary chosen", &self.reign),
            ("replica_committed", "The place up to which it knows writes done", &self.committed),
            ("replica_waiting_requests", "Requests that wait for its answer", &self.waiting),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "replica_peer_in_sync",
            "At the primary, whether the peer's replica counts",
            self.peer_in_sync.clone(),
        );
        registry.register(
            "replica_peer_behind",
            "At the primary, writes that the peer has not acknowledged",
            self.peer_behind.clone(),
        );
        registry.register(
            "replica_peer_silent_seconds",
            "At the primary, since when the peer has not been heard",
            self.peer_silent.clone(),
        );
    }

    /// Takes these for all there is to know: of what is not there, nothing is told.
    pub(super) fn set(&self, node: NodeId, replicas: &[(String, Info)]) {
        let Self { primary, in_sync, counting, reign, committed, waiting, .. } = self;
        for family in [primary, in_sync, counting, reign, committed, waiting] {
            family.clear();
        }
        self.peer_in_sync.clear();
        self.peer_behind.clear();
        self.peer_silent.clear();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (table, info) in replicas {
            let label = TableLabel { table: table.clone() };
            let roster = info.roster.as_ref();
            let members = || roster.into_iter().flat_map(|roster| &roster.in_sync);
            let counts = members().any(|member| member.node == node);
            let put = |family: &Family<TableLabel, Gauge>, value| {
                family.get_or_create(&label).set(value);
            };
            put(&self.primary, i64::from(info.role == Role::Primary));
            put(&self.in_sync, i64::from(counts));
            put(&self.counting, number(members().count() as u64));
            put(&self.reign, number(roster.map_or(0, |roster| roster.reign.0)));
            put(&self.committed, number(info.committed.index));
            put(&self.waiting, number(info.waiting));
            for lag in &info.lags {
                let label = PeerLabel { table: table.clone(), peer: lag.member.node.0 };
                self.peer_in_sync.get_or_create(&label).set(i64::from(lag.in_sync));
                self.peer_behind.get_or_create(&label).set(number(lag.behind));
                self.peer_silent.get_or_create(&label).set(lag.silent.as_secs_f64());
            }
        }
    }
}
