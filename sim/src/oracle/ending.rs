//! What the end of a run asks: what should be gone, what may still come, what was counted.
//!
//! Must never know: how long a run is given to get there.

use synod::consensus::State;
use synod::monitor::{Cause, NodeSession};
use synod::{Ballot, Binding, OpId, RegisterId, Wall};

use super::{Oracle, register};
use crate::plan::Nodes;

/// An entry that lives on though a binding of it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) register: RegisterId,
    pub(crate) binding: Binding,
    /// Whether only the passing of a deadline has ended it: nobody need have done anything.
    pub(crate) late: bool,
}

impl Oracle {
    /// L2: a live entry of which a binding has ended, or names a node that is gone for good, or
    /// whose deadline has passed by the clock `wall`; rather one that no deadline accounts for.
    /// Asks whether such a life, so bound, is still what a reader would find: what is accepted but
    /// not chosen is completed by who reads it.
    pub(crate) fn orphan(
        &self,
        gone: Nodes,
        wall: Wall,
        is_found: impl Fn(&RegisterId, Ballot, &Binding) -> bool,
    ) -> Option<Orphan> {
        let is_over = |binding: &Binding| {
            self.has_ended(binding)
                || match binding {
                    Binding::Node { node, .. } => gone.has(node.0),
                    Binding::Session(session) => gone.has(session.host.0),
                    Binding::Until(until) => *until <= wall,
                    Binding::Key { .. } => false,
                }
        };
        let orphans = (self.nodes..self.slots).flat_map(|slot| {
            let live = self.registers[slot].live();
            let over = live.into_iter().flat_map(|live| {
                let over = live.bindings.iter().filter(|binding| is_over(binding));
                over.map(|binding| (live.generation, binding))
            });
            over.filter_map(|(generation, binding)| {
                let register = self.name(slot);
                is_found(&register, generation, binding).then(|| Orphan {
                    register,
                    binding: binding.clone(),
                    late: self.is_late(binding),
                })
            })
            .collect::<Vec<_>>()
        });
        orphans.min_by_key(|orphan| orphan.late)
    }

    /// Whether a binding is a deadline, or ended with an entry that a deadline ended, however many
    /// others lie between.
    fn is_late(&self, binding: &Binding) -> bool {
        let mut binding = binding;
        // Each was over before the next; so what goes round in circles did not happen.
        for _ in 0..self.slots {
            let (register, generation) = match binding {
                Binding::Until(_) => return true,
                Binding::Key { register, generation } => (register, *generation),
                Binding::Node { .. } | Binding::Session(_) => return false,
            };
            let end = self.slot(register).and_then(|slot| self.registers[slot].end_of(generation));
            match end.map(|end| &end.cell.state) {
                Some(State::Dead(Cause::Erased(before))) => binding = before,
                Some(State::Dead(_) | State::Live(_)) | None => return false,
            }
        }
        false
    }

    /// The deadlines of all entries that are chosen or may be yet, and how many registers hold
    /// entries that may end with them.
    pub(crate) fn deadlines_to_come(&self) -> (Vec<Wall>, usize) {
        let (mut deadlines, mut dependants) = (Vec::new(), 0);
        for register in &self.registers[self.nodes..] {
            let newest = register.newest().map(|chosen| chosen.ballot);
            let maybe = register.proposals.iter().rev();
            let maybe = maybe.take_while(|proposal| Some(proposal.ballot) >= newest);
            let bindings = maybe.filter_map(|proposal| proposal.cell.live());
            let bindings = bindings.flat_map(|live| &live.bindings);
            let mut is_dependant = false;
            for binding in bindings {
                match binding {
                    Binding::Until(wall) => deadlines.push(*wall),
                    Binding::Key { .. } => is_dependant = true,
                    Binding::Node { .. } | Binding::Session(_) => {}
                }
            }
            dependants += usize::from(is_dependant);
        }
        (deadlines, dependants)
    }

    /// How many ballots were prepared, but for those on the sessions of nodes that are gone: how
    /// soon these are closed, and by how many at once, is not counted.
    pub(crate) fn prepared(&self, gone: Nodes) -> u64 {
        let registers = self.registers.iter().enumerate();
        let counted = registers.filter(|(slot, _)| *slot >= self.nodes || gone.0 >> slot & 1 == 0);
        counted.map(|(_, register)| register.prepared).sum()
    }

    /// How often who counts among the replicas of a primary table has changed.
    pub(crate) fn rosters(&self) -> u64 {
        self.primary.iter().map(super::Primary::rosters).sum()
    }

    /// How many messages have asked for the list of tables.
    pub(crate) const fn list_reads(&self) -> u64 {
        self.list_reads
    }

    /// The newest chosen session of a node.
    pub(crate) fn node_session(&self, node: usize) -> Option<NodeSession> {
        self.node_sessions[node]
    }

    /// Bindings that something was erased for, and the event of the first such erasure.
    pub(crate) fn downs(&self) -> &[(Binding, u64)] {
        &self.downs
    }

    /// The bindings with which an operation's entry was chosen.
    pub(crate) fn bindings_of(&self, slot: usize, op: OpId) -> Option<Vec<Binding>> {
        let change = self.registers[slot].change_of(op)?;
        Some(change.cell.live()?.bindings.clone())
    }

    /// The value that a life began with.
    pub(crate) fn birth(&self, register: &RegisterId, generation: Ballot) -> Option<synod::Value> {
        let slot = self.slot(register)?;
        let birth = self.registers[slot].version(generation)?;
        register::value(&birth.cell).cloned()
    }

    /// Forgets what no check will ask for any more, so that a run of a year stays small: all but
    /// the newest proposals of each register, and the chosen ones among them.
    pub(crate) fn forget(&mut self) {
        const KEPT: usize = 256;
        for register in &mut self.registers {
            if register.proposals.len().max(register.chosen.len()) > 4 * KEPT {
                register.forget(KEPT);
            }
        }
        if self.asked.len() > 8 * KEPT {
            self.asked.drain(..4 * KEPT);
        }
    }
}
