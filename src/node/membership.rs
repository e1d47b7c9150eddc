//! Heartbeats, who is reachable, and coming to vote.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Body, Effect, Effects, Event, Node, Record, Timer};
use crate::base::{Life, NodeId, Ticket};
use crate::cluster::{self, Witnesses};
use crate::consensus::{Readiness, Refusal, Topic};

impl Node {
    pub(super) fn on_heartbeat_timer(&mut self, effects: &mut Effects) {
        let now = self.now.instant;
        self.timers.set(Timer::Heartbeat, now + self.config.timing.heartbeat);
        self.update_reach(effects);
        self.heartbeat(effects);
        self.tick_copies(effects);
        self.tell_all_sessions(effects);
        self.tick_list(effects);
        self.keep_own_session(effects);
    }

    fn heartbeat(&mut self, effects: &mut Effects) {
        let sequence = self.reach.send(self.now.instant);
        let session = self.sessions.number();
        let tables = self.agreed.revision();
        let lost = matches!(self.readiness, Readiness::StateLost(_));
        for member in self.peers() {
            let heartbeat = cluster::Message::Heartbeat { sequence, session, tables, lost };
            self.send(member, Body::Cluster(heartbeat), Ticket(0), effects);
        }
    }

    /// A link that has come up is tried at once rather than at the next heartbeat.
    pub(super) fn on_link(&mut self, peer: NodeId, up: bool, effects: &mut Effects) {
        if up && self.members.contains(peer) {
            self.heartbeat(effects);
        }
    }

    pub(super) fn on_cluster(
        &mut self,
        from: usize,
        life: Life,
        message: cluster::Message,
        effects: &mut Effects,
    ) {
        match message {
            cluster::Message::Heartbeat { session, tables, .. } => {
                self.answer_heartbeat(from, life, &message, effects);
                if let Some(session) = session {
                    self.on_session_told(self.members.nodes()[from], session, effects);
                }
                self.on_revision_told(from, tables, effects);
            }
            cluster::Message::HeartbeatAck { sequence, recorded, session } => {
                if recorded != self.life {
                    return self.on_disowned(from, effects);
                }
                self.reach.ack(from, sequence);
                if self.readiness == Readiness::Unwitnessed && self.activating.is_none() {
                    let fresh = self.witnesses.recorded_by(from);
                    let recorders = self.witnesses.recorders();
                    if recorders.count() >= Witnesses::required(&self.members) {
                        let epoch = self.epoch;
                        self.activating = Some(self.log(Record::Active { epoch }));
                    } else if fresh {
                        self.tell_whom_it_awaits();
                    }
                }
                self.update_reach(effects);
                if let Some(session) = session {
                    self.on_own_session_seen(session, effects);
                }
                self.keep_own_session(effects);
            }
        }
    }

    /// Answers a heartbeat, once the sender's storage is on record here.
    pub(super) fn answer_heartbeat(
        &mut self,
        from: usize,
        life: Life,
        message: &cluster::Message,
        effects: &mut Effects,
    ) {
        let cluster::Message::Heartbeat { sequence, lost, .. } = *message else {
            return;
        };
        let peer = self.members.nodes()[from];
        let recorded = match self.witnesses.life(from) {
            Some(recorded) => recorded,
            // A node without state of its own has no standing to take note of others'.
            None if matches!(self.readiness, Readiness::StateLost(_)) => return,
            // It is not what the cluster knows that node by.
            None if lost => return,
            None => {
                self.witnesses.record(from, life);
                self.silence.hear(from, self.now.instant);
                self.witnessed_ticket = self.log(Record::Witnessed { peer, life });
                life
            }
        };
        let session = self.registers.node_session(peer);
        let ack = cluster::Message::HeartbeatAck { sequence, recorded, session };
        self.send(from, Body::Cluster(ack), self.witnessed_ticket, effects);
    }

    /// A peer remembers another storage of this node: what that one promised is lost.
    fn on_disowned(&mut self, by: usize, effects: &mut Effects) {
        if matches!(self.readiness, Readiness::StateLost(_)) {
            return;
        }
        let by = self.members.nodes()[by];
        let why = format!("node {} remembers other storage of this node", by.0);
        self.activating = None;
        self.become_ready(Readiness::StateLost(why), effects);
        self.stop_serving(effects);
    }

    /// The record that this node votes is durable.
    pub(super) fn activate(&mut self, effects: &mut Effects) {
        if !matches!(self.readiness, Readiness::StateLost(_)) {
            self.become_ready(Readiness::Ready, effects);
            self.keep_own_session(effects);
        }
    }

    /// A first start needs more than a quorum, and whoever reads the log has to start the rest.
    pub(super) fn tell_whom_it_awaits(&self) {
        if self.readiness != Readiness::Unwitnessed || self.activating.is_some() {
            return;
        }
        let recorders = self.witnesses.recorders();
        let members = self.members.nodes().iter().enumerate();
        let missing = members.filter(|(member, _)| *member != self.me && !recorders.has(*member));
        let missing: Vec<String> = missing.map(|(_, node)| node.0.to_string()).collect();
        let (needed, size) = (Witnesses::required(&self.members) + 1, self.members.size());
        let all = needed >= u32::from(size);
        let needed = if all { format!("all {size}") } else { format!("{needed} of {size}") };
        tracing::warn!(
            node = self.config.node.0,
            "first start: waits for node {}; the first start needs {needed}",
            missing.join(", node "),
        );
    }

    fn become_ready(&mut self, readiness: Readiness, effects: &mut Effects) {
        let node = self.config.node.0;
        match &readiness {
            Readiness::Ready => tracing::info!(node, %readiness, "readiness"),
            Readiness::Starting | Readiness::Unwitnessed => {
                tracing::warn!(node, %readiness, "readiness");
            }
            Readiness::StateLost(_) => tracing::error!(node, %readiness, "readiness"),
        }
        self.readiness = readiness.clone();
        self.notify(&Topic::Quorum, &Event::Readiness(readiness), effects);
        self.update_reach(effects);
    }

    /// P-24..P-26: looks who is reachable, and tells who wants to know.
    pub(super) fn update_reach(&mut self, effects: &mut Effects) {
        let timing = &self.config.timing;
        let changes = self.reach.update(self.now.instant, timing.down, timing.up);
        let (node, size) = (self.config.node.0, self.members.size());
        if let Some(nodes) = changes.reachable {
            tracing::info!(node, nodes, size, "reachable");
            self.notify(&Topic::Quorum, &Event::Reachable { nodes, size }, effects);
        }
        if let Some(reached) = changes.reached {
            if reached {
                tracing::info!(node, reached, "quorum reached");
            } else {
                tracing::warn!(node, reached, "quorum lost");
            }
            self.notify(&Topic::Quorum, &self.quorum_event(), effects);
            if !reached {
                self.give_up_impatient(effects);
                self.give_up_wishes(false, &Refusal::NoQuorum, effects);
            }
        }
        self.update_peers(effects);
    }

    /// The event that tells the present state.
    pub(super) fn quorum_event(&self) -> Event {
        if self.reach.has_quorum() {
            Event::QuorumReached { epoch: self.epoch }
        } else {
            Event::QuorumLost { epoch: self.epoch }
        }
    }

    /// Ends what a node that must not vote has begun.
    fn stop_serving(&mut self, effects: &mut Effects) {
        let numbers: Vec<u64> = self.operations.keys().copied().collect();
        for number in numbers {
            self.fail(number, effects);
        }
        for (session, client) in self.sessions.lose() {
            let event = Event::SessionLost(session);
            effects.push(Effect::Notify { client, event });
            effects.push(Effect::Demonitor { session });
        }
        self.fail_asks(None, &Refusal::NotReady(self.readiness.clone()), effects);
        self.give_up_wishes(true, &Refusal::NotReady(self.readiness.clone()), effects);
        self.end_replicas(effects);
    }
}
