//! Burials: an entry whose binding may have ended is erased before anybody is shown it (E1-E4, R6).

use alloc::vec::Vec;

use super::inquiries::is_over;
use super::{Effects, Node};
use crate::consensus::{AfterBurial, Burial, Cell, Finding, Goal, Outcome, Refusal, Stage, State};
use crate::monitor::{Binding, Cause};
use crate::paxos::Ballot;

impl Node {
    /// Whether the answer would show an entry that may have to be erased first (R6).
    pub(super) fn must_bury(&self, number: u64, cell: &Cell) -> bool {
        let Some(operation) = self.operations.get(&number) else {
            return false;
        };
        let Some(live) = cell.live() else {
            return false;
        };
        !live.bindings.is_empty()
            && operation.goal.exposes_entry()
            && operation.cleared != Some((live.generation, cell.version()))
            && (operation.suspect
                || live.bindings.iter().any(|binding| self.may_have_ended(binding)))
    }

    /// Has the entry erased if a binding of it has ended; then looks again.
    pub(super) fn bury(&mut self, number: u64, cell: &Cell, effects: &mut Effects) {
        let Some(live) = cell.live() else { return };
        let (generation, version) = (live.generation, cell.version());
        self.stop_proposing(number, effects);
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Burying { then: AfterBurial::Again { generation, version } };
        let register = operation.register.clone();
        self.wait_for_others(number);
        let asker = self.child(number, 0);
        self.start_own(asker, register, Goal::Bury { generation, ended: Vec::new() }, effects);
    }

    /// Has the operation's own entry erased if a binding of it has ended; then answers.
    pub(super) fn bury_own(
        &mut self,
        number: u64,
        generation: Ballot,
        outcome: Outcome,
        effects: &mut Effects,
    ) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Burying { then: AfterBurial::Answer { generation, outcome } };
        let register = operation.register.clone();
        self.wait_for_others(number);
        let asker = self.child(number, 0);
        self.start_own(asker, register, Goal::Bury { generation, ended: Vec::new() }, effects);
    }

    /// Of a burial: finds out which bindings of the entry have ended. It needs the entry for that,
    /// which this node may not hold.
    pub(super) fn verify(&mut self, number: u64, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        operation.stage = Stage::Verifying { bindings: Vec::new(), missing: 1 };
        let register = operation.register.clone();
        self.wait_for_others(number);
        let asker = self.child(number, usize::MAX);
        self.start_own(asker, register, Goal::Look, effects);
    }

    /// The entry is known: asks about each of its bindings.
    fn verify_bindings(&mut self, number: u64, cell: Option<&Cell>, effects: &mut Effects) {
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Goal::Bury { generation, .. } = operation.goal else {
            return;
        };
        let Some(live) = cell.and_then(Cell::live).filter(|live| live.generation == generation)
        else {
            let burial = cell.map_or(Burial::Over, over);
            return self.finish(number, Outcome::Done, Finding::Burial(burial), effects);
        };
        let bindings = live.bindings.clone();
        operation.stage = Stage::Verifying { bindings: bindings.clone(), missing: bindings.len() };
        for (place, binding) in bindings.iter().enumerate() {
            self.inquire(number, place, binding, effects);
        }
        if bindings.is_empty() {
            self.finish(number, Outcome::Done, Finding::Burial(Burial::Alive), effects);
        }
    }

    pub(super) fn on_burial(
        &mut self,
        number: u64,
        then: AfterBurial,
        finding: &Finding,
        effects: &mut Effects,
    ) {
        let Finding::Burial(burial) = finding else {
            // Whether the entry lives could not be found out.
            return match then {
                AfterBurial::Answer { generation, outcome } => {
                    self.bury_own(number, generation, outcome, effects);
                }
                AfterBurial::Again { .. } => self.back_off(number),
            };
        };
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        match then {
            AfterBurial::Answer { outcome, .. } => {
                // Over for another reason: it was put, and something else happened to it since.
                let refused = match burial {
                    Burial::Erased(ended) => operation
                        .goal
                        .bindings()
                        .iter()
                        .position(|own| own == ended)
                        .and_then(|place| operation.binds.get(place).cloned()),
                    Burial::Alive | Burial::Over => None,
                };
                let refused = refused.map(|bind| Outcome::Refused(Refusal::InvalidBinding(bind)));
                self.finish(number, refused.unwrap_or(outcome), Finding::Failed, effects);
            }
            AfterBurial::Again { generation, version } => {
                if *burial == Burial::Alive {
                    operation.cleared = Some((generation, version));
                }
                self.begin(number, effects);
            }
        }
    }

    pub(super) fn on_verified(
        &mut self,
        number: u64,
        place: usize,
        finding: Finding,
        effects: &mut Effects,
    ) {
        if place == usize::MAX {
            return match finding {
                Finding::Chosen { cell, .. } => {
                    self.verify_bindings(number, cell.as_deref(), effects);
                }
                Finding::Fact(_) | Finding::Burial(_) | Finding::Failed => {
                    self.give_up(number, effects);
                }
            };
        }
        let Some(operation) = self.operations.get_mut(&number) else {
            return;
        };
        let Stage::Verifying { bindings, missing } = &mut operation.stage else {
            return;
        };
        let Some(binding) = bindings.get(place) else {
            return;
        };
        if is_over(binding, &finding) {
            let binding = binding.clone();
            if let Goal::Bury { ended, .. } = &mut operation.goal {
                ended.push(binding);
            }
        }
        *missing -= 1;
        if *missing > 0 {
            return;
        }
        let has_deadline = bindings.iter().any(|binding| matches!(binding, Binding::Until(_)));
        let Goal::Bury { ended, .. } = &operation.goal else {
            return;
        };
        if ended.is_empty() && !has_deadline {
            return self.finish(number, Outcome::Done, Finding::Burial(Burial::Alive), effects);
        }
        self.propose(number, effects);
    }
}

/// How a life came to its end, as far as the content chosen behind it tells.
pub(super) fn over(cell: &Cell) -> Burial {
    match &cell.state {
        State::Dead(Cause::Erased(binding)) => Burial::Erased(binding.clone()),
        State::Dead(_) | State::Live(_) => Burial::Over,
    }
}
