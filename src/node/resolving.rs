//! Resolving: from the names that a client gives bindings to the lives that they name now.

use alloc::vec::Vec;

use super::{Effects, Node};
use crate::base::RegisterId;
use crate::consensus::{Finding, Goal, Outcome, Refusal, Stage};
use crate::monitor::{Bind, Binding, Fact};

impl Node {
    /// Finds out which life each binding names; the write begins when all are known.
    pub(super) fn resolve_binds(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let binds = operation.binds.clone();
        let resolved = alloc::vec![None; binds.len()];
        operation.stage = Stage::Resolving { binds: binds.clone(), resolved, missing: binds.len() };
        self.wait_for_others(number);
        for (place, bind) in binds.iter().enumerate() {
            if !self.operations.contains_key(&number) {
                // One of them has ended: the answer is given.
                return;
            }
            let asker = self.child(number, place);
            match bind {
                Bind::Key { table, key } => {
                    let register = RegisterId::Key(*table, key.clone());
                    self.start_own(asker, register, Goal::Get, effects);
                }
                Bind::Node(node) => {
                    self.start_own(asker, RegisterId::NodeSession(*node), Goal::Look, effects);
                }
                Bind::Session(session) => {
                    let register = RegisterId::NodeSession(session.host);
                    self.start_own(asker, register, Goal::Inquire(*session), effects);
                }
                Bind::Until(wall) => {
                    let over = self.now.wall >= *wall;
                    let fact = if over { Fact::Ended } else { Fact::Alive };
                    self.on_finding(number, place, Finding::Fact(fact), effects);
                }
            }
        }
    }

    pub(super) fn on_resolved(
        &mut self,
        number: u64,
        place: usize,
        finding: &Finding,
        effects: &mut Effects,
    ) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Stage::Resolving { binds, resolved, missing } = &mut operation.stage else {
            return;
        };
        let Some(bind) = binds.get(place) else { return };
        let binding = match (bind, finding) {
            // There may be time for another try.
            (_, Finding::Failed | Finding::Burial(_)) => return self.back_off(number),
            (_, Finding::Fact(Fact::Ended)) => None,
            (Bind::Key { table, key }, Finding::Chosen { cell, .. }) => {
                let live = cell.as_ref().and_then(|cell| cell.live());
                live.map(|live| Binding::Key {
                    register: RegisterId::Key(*table, key.clone()),
                    generation: live.generation,
                })
            }
            (Bind::Node(node), Finding::Chosen { cell, .. }) => {
                let session = cell.as_ref().and_then(|cell| cell.node_session());
                let open = session.filter(|session| session.open);
                open.map(|open| Binding::Node { node: *node, session: open.number })
            }
            // A host that cannot be asked is not known to have ended it. If it has, the entry is
            // erased when that becomes known.
            (Bind::Session(session), Finding::Fact(_)) => Some(Binding::Session(*session)),
            (Bind::Until(wall), Finding::Fact(_)) => Some(Binding::Until(*wall)),
            (Bind::Key { .. } | Bind::Node(_), Finding::Fact(_))
            | (Bind::Session(_) | Bind::Until(_), Finding::Chosen { .. }) => None,
        };
        let Some(binding) = binding else {
            let refused = Outcome::Refused(Refusal::InvalidBinding(bind.clone()));
            // One sent before may have been put while the binding was good, so "no" may be wrong.
            let outcome = if operation.is_ambiguous() { Outcome::Unknown } else { refused };
            return self.finish(number, outcome, Finding::Failed, effects);
        };
        resolved[place] = Some(binding);
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        let found: Vec<Binding> = resolved.iter().flatten().cloned().collect();
        if let Goal::Write { bindings, .. } = &mut operation.goal {
            *bindings = found;
        }
        self.begin(number, effects);
    }
}
