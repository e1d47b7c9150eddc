//! What this node knows to be chosen, and who wants to know.

use alloc::sync::Arc;

use super::agreed::is_list;
use super::{Effects, Ending, Event, Node, Timer};
use crate::base::{RegisterId, TableId};
use crate::consensus::{Cell, State, Topic};
use crate::monitor::Cause;
use crate::paxos::Ballot;

impl Node {
    /// Somebody has found that what was accepted at `ballot` is chosen. Only what is accepted here
    /// at exactly that ballot is known by it.
    pub(super) fn on_commit(
        &mut self,
        register: &RegisterId,
        ballot: Ballot,
        effects: &mut Effects,
    ) {
        let floor = self.registers.floor(register);
        let Some(record) = self.registers.get_mut(register) else {
            return;
        };
        if record.acceptor().accepted_ballot(&floor) != ballot {
            return;
        }
        let Some(cell) = record.acceptor().content().cloned() else {
            return;
        };
        if let Some(before) = record.learn(&floor, ballot, &cell) {
            self.on_learned(register, before.as_ref(), &cell, effects);
        }
    }

    /// `cell` is chosen at `ballot`: a fact, however it was found.
    pub(super) fn learn(
        &mut self,
        register: &RegisterId,
        ballot: Ballot,
        cell: &Arc<Cell>,
        effects: &mut Effects,
    ) {
        let floor = self.registers.floor(register);
        let record = self.registers.entry(register);
        if let Some(before) = record.learn(&floor, ballot, cell) {
            self.on_learned(register, before.as_ref(), cell, effects);
        }
    }

    /// It is news that `cell` is chosen, where `before` was known to be.
    fn on_learned(
        &mut self,
        register: &RegisterId,
        before: Option<&Arc<Cell>>,
        cell: &Arc<Cell>,
        effects: &mut Effects,
    ) {
        match register {
            RegisterId::NodeSession(node) => {
                let session = cell.node_session();
                if *node == self.config.node
                    && let Some(session) = session
                {
                    self.on_own_session_seen(session, effects);
                }
                self.sweep_soon();
                self.tell_all_sessions(effects);
            }
            RegisterId::Key(TableId::ROSTERS, name) if is_list(name) => {
                self.on_list_learned(cell, effects);
            }
            RegisterId::Key(TableId::ROSTERS, name) => self.on_roster_learned(name, cell, effects),
            RegisterId::Key(table, key) => {
                let ended = before
                    .and_then(|before| before.live())
                    .filter(|live| cell.live().is_none_or(|now| now.generation != live.generation));
                if let (Some(live), Some(before)) = (ended, before) {
                    let ending = ending(before, cell);
                    let topic = Topic::Key(*table, key.clone());
                    let (table, key, generation) = (*table, key.clone(), live.generation);
                    let event = Event::Ended { table, key, generation, ending };
                    self.notify(&topic, &event, effects);
                }
                if self.index.has_dependants(register) {
                    self.sweep_soon();
                }
            }
        }
    }

    /// Level-triggered: whatever may have ended is looked at again, now rather than later.
    pub(super) fn sweep_soon(&mut self) {
        self.timers.hasten(Timer::Sweep, self.now.instant);
    }
}

/// How the life in `before` ended, given that `after` is chosen later.
fn ending(before: &Cell, after: &Cell) -> Ending {
    // Only the change directly behind what we knew is surely the one that ended that life.
    let last = after.version();
    let directly = before.version()
        == match last.sequence.checked_sub(1) {
            Some(sequence) => Ballot { sequence, ..last },
            None => after.lineage.iter().nth(1).map_or(after.truncated, |change| change.ballot),
        };
    match &after.state {
        State::Dead(Cause::Erased(binding)) if directly => Ending::Erased(binding.clone()),
        State::Dead(Cause::Removed) if directly => Ending::Removed,
        State::Dead(_) | State::Live(_) => Ending::Unseen,
    }
}
