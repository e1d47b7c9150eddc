//! What nodes say, message by message, against what they hold and what is chosen: every claim that
//! leaves a node is compared with the truth at that moment.
//!
//! Must never know: whether a message will arrive.

use std::sync::Arc;

use synod::consensus::{self, Cell};
use synod::{Ballot, Body, Message, TableId, cluster};

use super::Oracle;
use crate::marks::{Mark, Marks};

impl Oracle {
    /// A node sends a message: every claim it makes is compared with the truth.
    pub(crate) fn on_send(
        &mut self,
        node: usize,
        to: usize,
        message: &Message,
        slot: Option<usize>,
        marks: &mut Marks,
    ) {
        let truth = &self.truths[node];
        // W12: nothing leaves a process life that could be forgotten.
        if !truth.lost
            && (truth.life != Some(message.life.0) || truth.incarnation < Some(message.incarnation))
            && !matches!(message.body, Body::Cluster(_) if truth.life.is_none())
        {
            let (life, incarnation) = (message.life.0, message.incarnation.0);
            self.breaks(
                "W12",
                "message from a life that is not durable",
                format!(
                    "n{} sends {message} in life {life:x}, incarnation {incarnation}, of which \
                     its disk knows nothing",
                    node + 1
                ),
            );
        }
        match &message.body {
            Body::Consensus(message) => self.on_consensus(node, message, slot, marks),
            Body::Cluster(message) => self.on_cluster(node, to, message),
            Body::Merged(message) => self.on_merged((node, to), message, marks),
            Body::Monitor(_) | Body::Passed(_) | Body::Primary(_) | Body::Remote(_) => {}
        }
    }

    /// W12: that a peer's storage is on record is told once it is on the disk. Who counts its
    /// witnesses relies on them never to forget it (P-32).
    fn on_cluster(&mut self, node: usize, to: usize, message: &cluster::Message) {
        let cluster::Message::HeartbeatAck { recorded, .. } = message else { return };
        if self.truths[node].witnessed[to] != Some(recorded.0) {
            self.breaks(
                "W12",
                "witness not durable",
                format!(
                    "n{} tells n{} that it has taken note of storage life {:x}, which is not on \
                     its disk",
                    node + 1,
                    to + 1,
                    recorded.0
                ),
            );
        }
    }

    fn on_consensus(
        &mut self,
        node: usize,
        message: &consensus::Message,
        slot: Option<usize>,
        marks: &mut Marks,
    ) {
        let Some(slot) = slot else {
            if let consensus::Message::Listing { items, .. } = message {
                self.on_listing(node, items);
            } else if !matches!(message, consensus::Message::List { .. }) {
                let text = format!("n{} sends {message}", node + 1);
                self.breaks("W1", "unknown register", text);
            }
            return;
        };
        match message {
            consensus::Message::Prepare { ballot, .. } => self.on_prepare(node, slot, *ballot),
            consensus::Message::Promise { ballot, accepted, cell, chosen, .. } => {
                self.on_promise(node, slot, *ballot);
                self.on_state(node, slot, *accepted, cell.as_ref(), *chosen, message);
            }
            consensus::Message::ReadReply { accepted, cell, chosen, .. } => {
                self.mark_empties(slot, *accepted, cell.as_deref(), marks);
                self.on_state(node, slot, *accepted, cell.as_ref(), *chosen, message);
            }
            consensus::Message::Accept { ballot, cell, .. } => {
                if usize::from(ballot.node.0) != node + 1 && self.is_known(slot, *ballot) {
                    marks.hit(Mark::ReadCompleted);
                }
                self.propose(node, slot, *ballot, cell, marks);
            }
            consensus::Message::Accepted { ballot, .. } => self.on_accepted(node, slot, *ballot),
            consensus::Message::Commit { ballot, .. } => {
                self.check_chosen(node, slot, *ballot, "W9", "commit of what is not chosen");
                if let Ok(place) = self.registers[slot].find(*ballot) {
                    let version = self.registers[slot].proposals[place].cell.version();
                    self.tells(node, slot, version);
                }
            }
            consensus::Message::Read { .. } if Some(slot) == self.list => self.list_reads += 1,
            consensus::Message::Reject { .. }
            | consensus::Message::Read { .. }
            | consensus::Message::List { .. }
            | consensus::Message::Listing { .. } => {}
        }
    }

    fn on_prepare(&mut self, node: usize, slot: usize, ballot: Ballot) {
        let truth = &self.truths[node];
        if usize::from(ballot.node.0) != node + 1 || Some(ballot.incarnation) != truth.incarnation {
            self.breaks(
                "W1",
                "ballot of another life",
                format!("n{} prepares {ballot}, which is not its own", node + 1),
            );
        }
        let register = &mut self.registers[slot];
        if ballot != register.prepared_max {
            register.prepared += 1;
            register.prepared_max = ballot;
        }
    }

    /// A member that counts: its storage is what it was when it first voted (W6).
    fn check_voter(&mut self, node: usize, what: &str) {
        let truth = &mut self.truths[node];
        if truth.lost || !truth.active {
            let why = if truth.lost {
                "its storage was lost after it had voted"
            } else {
                "it has not durably become a voter"
            };
            let life = truth.life;
            self.breaks(
                "W6",
                if self.truths[node].lost { "amnesiac votes" } else { "votes before active" },
                format!("n{} {what} in life {life:x?}, but {why}", node + 1),
            );
        } else if truth.voted.is_none() {
            truth.voted = truth.life;
        }
    }

    fn on_promise(&mut self, node: usize, slot: usize, ballot: Ballot) {
        self.check_voter(node, "promises");
        let word = self.words[node * self.slots + slot];
        if word.said_promised > Some(ballot) {
            let said = word.said_promised.unwrap_or(Ballot::ZERO);
            self.breaks(
                "W4",
                "promise goes back",
                format!("n{} promises {ballot} after it had promised {said}", node + 1),
            );
        }
        if word.durable_promised.max(word.durable_accepted) < Some(ballot) {
            self.breaks(
                "W12",
                "promise not durable",
                format!("n{} promises {ballot}, which is not on its disk", node + 1),
            );
        }
        let word = &mut self.words[node * self.slots + slot];
        word.said_promised = word.said_promised.max(Some(ballot));
    }

    fn on_accepted(&mut self, node: usize, slot: usize, ballot: Ballot) {
        self.check_voter(node, "accepts");
        let word = self.words[node * self.slots + slot];
        // What was accepted before the promise may be said again, also late: the promise told of it.
        let register = &self.registers[slot];
        let voted = register.is_dropped(ballot)
            || register
                .find(ballot)
                .is_ok_and(|place| register.proposals[place].votes >> node & 1 == 1);
        if word.said_promised > Some(ballot) && !voted {
            let said = word.said_promised.unwrap_or(Ballot::ZERO);
            self.breaks(
                "W5",
                "accepted below the promise",
                format!("n{} accepts {ballot} after it had promised {said}", node + 1),
            );
        }
        if word.durable_accepted < Some(ballot) {
            self.breaks(
                "W12",
                "acceptance not durable",
                format!("n{} says it accepted {ballot}, which is not on its disk", node + 1),
            );
        }
        let word = &mut self.words[node * self.slots + slot];
        word.said_promised = word.said_promised.max(Some(ballot));
        word.said_accepted = word.said_accepted.max(Some(ballot));
    }

    /// What an acceptor says it has accepted.
    fn on_state(
        &mut self,
        node: usize,
        slot: usize,
        accepted: Ballot,
        cell: Option<&Arc<Cell>>,
        chosen: bool,
        message: &consensus::Message,
    ) {
        self.check_voter(node, "tells what it accepted");
        let word = self.words[node * self.slots + slot];
        if !accepted.is_genesis() && word.durable_accepted < Some(accepted) {
            self.breaks(
                "W12",
                "told what is not durable",
                format!("n{} sends {message}, which is not on its disk", node + 1),
            );
        }
        if word.said_accepted > Some(accepted) {
            let said = word.said_accepted.unwrap_or(Ballot::ZERO);
            self.breaks(
                "W4",
                "acceptance goes back",
                format!("n{} sends {message} after it had accepted {said}", node + 1),
            );
        }
        let word = &mut self.words[node * self.slots + slot];
        word.said_accepted = word.said_accepted.max(Some(accepted));
        if accepted.is_genesis() {
            if cell.is_some_and(|cell| cell.live().is_some()) {
                self.breaks("W1", "life at genesis", format!("n{} sends {message}", node + 1));
            }
            return;
        }
        if self.registers[slot].is_dropped(accepted) {
            return;
        }
        match (self.registers[slot].find(accepted), cell) {
            (Ok(place), Some(cell)) => {
                let known = &self.registers[slot].proposals[place].cell;
                if !Arc::ptr_eq(known, cell) && known != cell {
                    let text = format!("n{} sends {message}, but {known} was proposed", node + 1);
                    self.breaks("W1", "two contents at one ballot", text);
                }
            }
            _ => self.breaks(
                "W1",
                "accepted what was not proposed",
                format!("n{} sends {message}", node + 1),
            ),
        }
        if chosen {
            self.check_chosen(node, slot, accepted, "W9", "said chosen what is not");
        }
    }

    fn on_listing(&mut self, node: usize, items: &[consensus::Listed]) {
        self.check_voter(node, "lists");
        // The table is not in the message, so only what holds for any table is checked: there are
        // plans with one table, and there all of it is.
        if self.slots != self.nodes + self.keys {
            return;
        }
        for item in items {
            let Some(slot) = self.key_slot(TableId(0), &item.key) else { continue };
            let word = self.words[node * self.slots + slot];
            if !item.accepted.is_genesis() && word.durable_accepted < Some(item.accepted) {
                self.breaks(
                    "W12",
                    "listed what is not durable",
                    format!("n{} lists {} at {}", node + 1, item.key, item.accepted),
                );
            }
            if item.chosen {
                let shape = "listed as chosen what is not";
                self.check_chosen(node, slot, item.accepted, "W9", shape);
            }
        }
    }

    fn check_chosen(
        &mut self,
        node: usize,
        slot: usize,
        ballot: Ballot,
        rule: &'static str,
        shape: &'static str,
    ) {
        if ballot.is_genesis() {
            return;
        }
        let register = &self.registers[slot];
        if register.is_dropped(ballot) {
            return;
        }
        if !register.find(ballot).is_ok_and(|place| register.proposals[place].chosen) {
            let votes = register.find(ballot).map_or(0, |place| register.proposals[place].votes);
            let register = self.name(slot);
            self.breaks(
                rule,
                shape,
                format!(
                    "n{} says that {ballot} of {register} is chosen; only {} have accepted it",
                    node + 1,
                    votes.count_ones()
                ),
            );
        }
    }
}
