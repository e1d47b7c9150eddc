//! Gauges of this node's copies of merged tables.
//!
//! Must never know: how a copy is asked.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::merged::{Info, PeerInfo, Rewound};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabel {
    table: String,
}

/// Of each merged table that this node keeps a copy of.
#[derive(Default)]
pub(super) struct Copies {
    versions: Family<TableLabel, Gauge>,
    tombstones: Family<TableLabel, Gauge>,
    conflicts: Family<TableLabel, Gauge>,
    settled: Family<TableLabel, Gauge>,
    behind: Family<TableLabel, Gauge>,
    stalled: Family<TableLabel, Gauge>,
    apart: Family<TableLabel, Gauge>,
    disagreed: Family<TableLabel, Gauge>,
    clock_ahead: Family<TableLabel, Gauge>,
    rewound: Family<TableLabel, Gauge>,
}

impl Copies {
    const fn all(&self) -> [(&'static str, &'static str, &Family<TableLabel, Gauge>); 10] {
        [
            ("copy_versions", "Versions held, tombstones too", &self.versions),
            ("copy_tombstones", "Tombstones that wait for other copies", &self.tombstones),
            ("copy_conflicts", "Rows in conflict", &self.conflicts),
            ("copy_settled", "Whether it has met all the others since it was begun", &self.settled),
            ("copy_behind", "Writes that a peer lacks, of the peer that lacks most", &self.behind),
            ("copy_stalled", "Peers that have what does not come", &self.stalled),
            ("copy_apart", "Peers it is left apart from until told to merge", &self.apart),
            ("copy_disagreed", "Peers that say the table is something else", &self.disagreed),
            ("copy_clock_ahead_seconds", "Of most of the others', if too far", &self.clock_ahead),
            (
                "copy_rewound",
                "1 if its storage was put back and it waits for its own writes, 2 for good",
                &self.rewound,
            ),
        ]
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, family) in self.all() {
            registry.register(name, help, family.clone());
        }
    }

    /// Takes these for all there is to know: of what is not there, nothing is told.
    pub(super) fn set(&self, copies: &[(String, Info)]) {
        for (_, _, family) in self.all() {
            family.clear();
        }
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (table, info) in copies {
            let label = TableLabel { table: table.clone() };
            let put = |family: &Family<TableLabel, Gauge>, value| {
                family.get_or_create(&label).set(value);
            };
            let peers = |which: fn(&&PeerInfo) -> bool| {
                number(info.peers.iter().filter(which).count() as u64)
            };
            put(&self.versions, number(info.versions));
            put(&self.tombstones, number(info.tombstones));
            put(&self.conflicts, number(info.conflicts));
            put(&self.settled, i64::from(info.settled));
            let behind = info.peers.iter().map(|peer| peer.behind).max();
            put(&self.behind, number(behind.unwrap_or(0)));
            put(&self.stalled, peers(|peer| peer.stalled));
            put(&self.apart, peers(|peer| peer.apart));
            put(&self.disagreed, peers(|peer| peer.agrees == Some(false)));
            put(&self.clock_ahead, number(info.clock_ahead.map_or(0, |by| by.as_secs())));
            put(
                &self.rewound,
                match info.rewound {
                    None => 0,
                    Some(Rewound::Behind) => 1,
                    Some(Rewound::Forked) => 2,
                },
            );
        }
    }
}
