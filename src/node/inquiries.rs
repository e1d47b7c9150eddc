//! Inquiries: whether what a binding names has ended, by what is chosen or by its host's word (E3).

use alloc::vec::Vec;

use super::acceptors::has_ended;
use super::{Effects, Node};
use crate::base::{RegisterId, SessionId};
use crate::consensus::{Finding, Goal, Outcome, Stage};
use crate::monitor::{Binding, Fact};

impl Node {
    /// Finds out whether a binding's target has ended.
    pub(super) fn inquire(
        &mut self,
        number: u64,
        place: usize,
        binding: &Binding,
        effects: &mut Effects,
    ) {
        let asker = self.child(number, place);
        let found = |node: &mut Self, fact, effects: &mut Effects| {
            node.on_finding(number, place, Finding::Fact(fact), effects);
        };
        match binding {
            Binding::Key { register, .. } => {
                self.start_own(asker, register.clone(), Goal::Look, effects);
            }
            Binding::Node { node, session } => {
                if self.has_closed(*node, *session) {
                    return found(self, Fact::Ended, effects);
                }
                self.start_own(asker, RegisterId::NodeSession(*node), Goal::Look, effects);
            }
            Binding::Session(session) => {
                if self.has_closed(session.host, session.node_session)
                    || self.monitors.ended.contains(session)
                {
                    return found(self, Fact::Ended, effects);
                }
                let register = RegisterId::NodeSession(session.host);
                self.start_own(asker, register, Goal::Inquire(*session), effects);
            }
            // Decided by the clocks of the quorum that promises.
            Binding::Until(_) => found(self, Fact::Unknown, effects),
        }
    }

    /// Whether it is known to be *chosen* here that a node session has ended.
    fn has_closed(&self, node: crate::NodeId, session: u64) -> bool {
        self.registers.node_session(node).is_some_and(|known| known.has_ended(session))
    }

    /// Asks the host of a session whether it goes on.
    pub(super) fn ask(&mut self, number: u64, session: SessionId, effects: &mut Effects) {
        if session.host == self.config.node {
            return match self.sessions.fact(session) {
                // Whether this node's own session is still open has to be asked of the others.
                Fact::Unknown => self.read(number, effects),
                fact @ (Fact::Alive | Fact::Ended) => {
                    self.finish(number, Outcome::Done, Finding::Fact(fact), effects);
                }
            };
        }
        let Some(host) = self.members.index(session.host) else {
            // Nobody of that name can have opened it.
            return self.finish(number, Outcome::Done, Finding::Fact(Fact::Ended), effects);
        };
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Asking;
        self.inquiries.insert((session, number));
        self.wake_after(number, self.config.timing.round * 2);
        let ask = crate::monitor::Message::AskSessions(alloc::vec![session]);
        self.send_monitor(host, ask, effects);
    }

    /// The host of a session has answered.
    pub(super) fn on_session_fact(
        &mut self,
        session: SessionId,
        fact: Fact,
        effects: &mut Effects,
    ) {
        let waiting: Vec<u64> = self
            .inquiries
            .range((session, 0)..=(session, u64::MAX))
            .map(|(_, number)| *number)
            .collect();
        for number in waiting {
            self.finish(number, Outcome::Done, Finding::Fact(fact), effects);
        }
    }
}

/// Whether a finding proves that what a binding names has ended.
pub(super) fn is_over(binding: &Binding, finding: &Finding) -> bool {
    match (binding, finding) {
        (_, Finding::Fact(fact)) => *fact == Fact::Ended,
        (Binding::Key { generation, .. }, Finding::Chosen { ballot, cell }) => {
            has_ended(*ballot, cell.as_ref(), *generation)
        }
        (Binding::Node { session, .. }, Finding::Chosen { cell, .. }) => cell
            .as_ref()
            .and_then(|cell| cell.node_session())
            .is_some_and(|known| known.has_ended(*session)),
        (Binding::Session(_) | Binding::Until(_), Finding::Chosen { .. })
        | (_, Finding::Burial(_) | Finding::Failed) => false,
    }
}
