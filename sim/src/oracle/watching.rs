//! What nodes tell without being asked: whom, and whether it is so (P-16, P-25).
//!
//! Must never know: how a node learns of an end.

use synod::consensus::State;
use synod::monitor::Cause;
use synod::{Ballot, ClientId, Command, Ending, Event, RegisterId, Status, TableId, Topic};

use super::{Oracle, node_of};
use crate::plan::{Nanos, Nodes};

/// What a client wants to be told by a node: of a key's register, or of the quorum.
type What = Option<usize>;

/// A subscription.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    node: usize,
    client: ClientId,
    what: What,
    /// The event at which the node said that it has it.
    since: Option<u64>,
    /// The latest life of which the client was told that it has ended.
    told: Ballot,
}

/// A life that a node has shown to somebody, as of an event.
pub(super) type Shown = (Ballot, u64);

impl Oracle {
    /// What a request subscribes to, or unsubscribes from (`false`).
    pub(super) fn topic(&self, command: &Command) -> Option<(What, bool)> {
        let (Command::Subscribe(topic) | Command::Unsubscribe(topic)) = command else {
            return None;
        };
        let wanted = matches!(command, Command::Subscribe(_));
        let what = match topic {
            Topic::Merges | Topic::Quorum | Topic::Roles => None,
            Topic::Key(table, key) => Some(self.key_slot(*table, key)?),
        };
        Some((what, wanted))
    }

    /// A node handles a request to subscribe: from now on it may tell the client.
    pub(super) fn may_watch(&mut self, node: usize, client: ClientId, what: What) {
        if self.watch(node, client, what).is_none() {
            self.watches.push(Watch { node, client, what, since: None, told: Ballot::ZERO });
        }
    }

    /// A node says that it has subscribed a client, or has it no more.
    pub(super) fn watches(&mut self, node: usize, client: ClientId, (what, wanted): (What, bool)) {
        let step = self.step;
        match self.watch(node, client, what) {
            Some(place) if wanted => {
                self.watches[place].since.get_or_insert(step);
            }
            Some(place) => {
                self.watches.swap_remove(place);
            }
            None => {}
        }
    }

    fn watch(&self, node: usize, client: ClientId, what: What) -> Option<usize> {
        let wanted = |watch: &Watch| (watch.node, watch.client, watch.what) == (node, client, what);
        self.watches.iter().position(wanted)
    }

    /// A process is gone, and with it who watched, and what it knew.
    pub(super) fn forget_watches(&mut self, node: usize) {
        self.watches.retain(|watch| watch.node != node);
        self.shown[node * self.slots..(node + 1) * self.slots].fill(None);
        self.versions[node * self.slots..(node + 1) * self.slots].fill(Ballot::ZERO);
    }

    /// A node has answered with a life; if that goes on, its end is news to this node.
    pub(super) fn shows(&mut self, node: usize, slot: usize, generation: Ballot) {
        if self.registers[slot].live().is_some_and(|live| live.generation == generation) {
            self.shown[node * self.slots + slot] = Some((generation, self.step));
        }
    }

    /// W14: a client is told of what it has subscribed to, or of its own session.
    pub(crate) fn on_notice(&mut self, node: usize, client: ClientId, event: &Event) {
        let wanted = match event {
            Event::Ended { table, key, .. } => self
                .key_slot(*table, key)
                .is_some_and(|slot| self.watch(node, client, Some(slot)).is_some()),
            Event::Merge(_)
            | Event::QuorumLost { .. }
            | Event::QuorumReached { .. }
            | Event::Reachable { .. }
            | Event::Readiness(_)
            | Event::Role { .. } => self.watch(node, client, None).is_some(),
            Event::SessionSuspended(session)
            | Event::SessionResumed(session)
            | Event::SessionLost(session) => self.owner(*session) == Some(client),
        };
        if !wanted {
            let text = format!("n{} tells {client}, who did not ask to know: {event}", node + 1);
            self.breaks("W14", "told unasked", text);
        }
        if let Event::Ended { table, key, generation, ending } = event {
            self.on_ended(*table, key, *generation, ending);
            if let Some(slot) = self.key_slot(*table, key)
                && let Some(place) = self.watch(node, client, Some(slot))
            {
                let told = &mut self.watches[place].told;
                *told = (*told).max(*generation);
            }
        }
    }

    /// W3: a watcher was told that a life ended: it is over by choice, and in that way.
    pub(super) fn on_ended(
        &mut self,
        table: TableId,
        key: &synod::Key,
        generation: Ballot,
        ending: &Ending,
    ) {
        let Some(slot) = self.key_slot(table, key) else {
            return self.breaks("W3", "unknown register", format!("ended {table}/{key}"));
        };
        let register = &self.registers[slot];
        if !register.has_ended(generation) {
            let text = format!("a watcher was told that life {generation} ended; it goes on");
            return self.breaks_at(slot, ("W3", "told of an end that was not", text));
        }
        let Some(end) = register.end_of(generation) else { return };
        let right = match (ending, &end.cell.state) {
            (Ending::Erased(told), State::Dead(Cause::Erased(true_one))) => told == true_one,
            (Ending::Removed, State::Dead(Cause::Removed)) => true,
            (Ending::Erased(_) | Ending::Removed, _) => false,
            // The last thing that happened there, to a life that was never changed: whoever knew
            // that life has seen how it ended.
            (Ending::Unseen, _) => {
                end.cell.live().is_some()
                    || register.before(end.version).is_none_or(|last| last.version != generation)
                    || register.newest().is_none_or(|newest| newest.version != end.version)
            }
        };
        if !right {
            let text = format!(
                "a watcher was told that life {generation} ended so: {ending:?}; it became {} at {}",
                end.cell, end.version
            );
            self.breaks_at(slot, ("W3", "told of another end than it had", text));
        }
    }

    /// L10: a life whose end a watcher has not been told of, though its node knew that life when it
    /// went on; at one of these nodes.
    pub(crate) fn untold(&self, nodes: Nodes) -> Option<(RegisterId, ClientId, Ballot)> {
        self.watches.iter().find_map(|watch| {
            let (slot, since) = (watch.what?, watch.since?);
            let (generation, at) = self.shown[watch.node * self.slots + slot]?;
            let end = self.registers[slot].end_of(generation)?;
            let due = nodes.has(node_of(watch.node).0)
                && end.since > since.max(at)
                && watch.told < generation;
            due.then(|| (self.name(slot), watch.client, generation))
        })
    }

    /// P-26: who is said to be reachable has lately answered; and a change is one.
    pub(crate) fn on_reachable(&mut self, node: usize, nodes: usize, size: u16, mono: Nanos) {
        let most = self.reach.both_ways(node, mono, self.down) as usize;
        let before = self.truths[node].reachable.replace(nodes);
        if nodes > most || usize::from(size) != self.size || before == Some(nodes) {
            let text = format!(
                "n{} says that it reaches {nodes} of {size}; it may reach {most} of {}, and said \
                 {before:?} before",
                node + 1,
                self.size
            );
            self.breaks("L5", "reaches others than it says", text);
        }
    }

    /// A node's word about itself.
    pub(super) fn check_status(&mut self, node: usize, status: &Status, mono: Nanos) {
        let calls = self.calls.iter().filter(|call| call.node == node).count();
        let heard = |other: &synod::NodeId| {
            self.reach.hears(node, usize::from(other.0).wrapping_sub(1), mono, self.down)
        };
        let session = self.node_sessions[node].map_or(0, |session| session.number);
        let wrong = if status.node != node_of(node)
            || usize::from(status.cluster_size) != self.size
            || status.quorum_size != self.quorum
        {
            "another cluster than it has"
        } else if self.truths[node].quorum.is_some_and(|quorum| quorum != status.has_quorum) {
            "another quorum than it told of"
        } else if !status.reachable.iter().all(heard) {
            "somebody who does not answer"
        } else if status.requests != calls {
            "other requests than it has"
        } else if status.node_session.is_some_and(|number| number > session) {
            "a session that is not chosen"
        } else {
            return;
        };
        let text = format!("n{} tells of {wrong}: {status:?}", node + 1);
        self.breaks("W14", "wrong about itself", text);
    }

    /// How many members a node last said that it reaches.
    pub(crate) fn reachable(&self, node: usize) -> Option<usize> {
        self.truths[node].reachable
    }
}
