//! The registers kept at one node: as acceptor, and as learner.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::ops::Bound;

use super::cell::Cell;
use crate::base::{Key, NodeId, RegisterId, TableId, Ticket};
use crate::monitor::Binding;
use crate::paxos::{Acceptor, Ballot, Floor};

/// What this node knows to be chosen of a register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Nothing.
    Nothing,
    /// Exactly what its acceptor has accepted.
    Accepted,
    /// This, which its acceptor has not or no longer accepted.
    Cell(Ballot, Arc<Cell>),
}

/// One register at one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Register {
    acceptor: Acceptor<Arc<Cell>>,
    learned: Learned,
    /// What must be durable before anybody hears what the acceptor holds.
    ticket: Ticket,
}

impl Register {
    const fn new() -> Self {
        Self { acceptor: Acceptor::EMPTY, learned: Learned::Nothing, ticket: Ticket(0) }
    }

    pub(crate) const fn acceptor(&self) -> &Acceptor<Arc<Cell>> {
        &self.acceptor
    }

    pub(crate) const fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The bindings of what is accepted.
    pub(crate) fn bindings(&self) -> &[Binding] {
        self.acceptor.content().and_then(|cell| cell.live()).map_or(&[], |live| &live.bindings)
    }

    /// The highest ballot known to be chosen, and its content.
    pub(crate) fn learned(&self, floor: &Floor) -> Option<(Ballot, &Arc<Cell>)> {
        match &self.learned {
            Learned::Nothing => None,
            Learned::Accepted => {
                Some((self.acceptor.accepted_ballot(floor), self.acceptor.content()?))
            }
            Learned::Cell(ballot, cell) => Some((*ballot, cell)),
        }
    }

    /// Whether what is accepted is known to be chosen.
    pub(crate) fn is_chosen(&self, floor: &Floor) -> bool {
        match &self.learned {
            Learned::Nothing => false,
            Learned::Accepted => true,
            Learned::Cell(ballot, _) => *ballot == self.acceptor.accepted_ballot(floor),
        }
    }

    pub(crate) fn prepare(
        &mut self,
        floor: &Floor,
        ballot: Ballot,
        ticket: Ticket,
    ) -> Result<(), Ballot> {
        self.acceptor.prepare(floor, ballot)?;
        self.ticket = ticket;
        Ok(())
    }

    pub(crate) fn accept(
        &mut self,
        floor: &Floor,
        ballot: Ballot,
        cell: Arc<Cell>,
        ticket: Ticket,
    ) -> Result<(), Ballot> {
        let before = self.learned(floor).map(|(ballot, cell)| (ballot, cell.clone()));
        self.acceptor.accept(floor, ballot, cell)?;
        self.ticket = ticket;
        self.learned = match before {
            None => Learned::Nothing,
            // What was chosen before stays known until something later is.
            Some((chosen, _)) if chosen == ballot => Learned::Accepted,
            Some((chosen, cell)) => Learned::Cell(chosen, cell),
        };
        Ok(())
    }

    /// Takes note that `cell` is chosen at `ballot`. Returns what was known before, if it is news.
    pub(crate) fn learn(
        &mut self,
        floor: &Floor,
        ballot: Ballot,
        cell: &Arc<Cell>,
    ) -> Option<Option<Arc<Cell>>> {
        let before = self.learned(floor).map(|(ballot, cell)| (ballot, cell.clone()));
        if before.as_ref().is_some_and(|(known, _)| *known >= ballot) {
            return None;
        }
        self.learned = if self.acceptor.accepted_ballot(floor) == ballot {
            Learned::Accepted
        } else {
            Learned::Cell(ballot, cell.clone())
        };
        Some(before.map(|(_, cell)| cell))
    }

    pub(crate) fn recover_promise(&mut self, ballot: Ballot) -> Result<(), Ballot> {
        self.acceptor.recover_promise(ballot)
    }

    pub(crate) fn recover_accepted(
        &mut self,
        ballot: Ballot,
        cell: Arc<Cell>,
    ) -> Result<(), Ballot> {
        self.acceptor.recover_accepted(ballot, cell)
    }
}

/// All registers at one node, and the floor under those nobody touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registers {
    floor: Floor,
    map: BTreeMap<RegisterId, Register>,
}

impl Registers {
    pub(crate) const fn new(floor: Floor) -> Self {
        Self { floor, map: BTreeMap::new() }
    }

    /// The floor of the slice of `register`. One for all until slices have ballots of their own.
    pub(crate) const fn floor(&self, _register: &RegisterId) -> Floor {
        self.floor
    }

    pub(crate) fn get(&self, register: &RegisterId) -> Option<&Register> {
        self.map.get(register)
    }

    pub(crate) fn get_mut(&mut self, register: &RegisterId) -> Option<&mut Register> {
        self.map.get_mut(register)
    }

    /// The register, made if there is none. A rejected message must not make one: callers check.
    pub(crate) fn entry(&mut self, register: &RegisterId) -> &mut Register {
        // One search; the clone is of a pointer.
        self.map.entry(register.clone()).or_insert_with(Register::new)
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RegisterId, &Register)> {
        self.map.iter()
    }

    /// The registers of a table behind `after`, in order of keys.
    pub(crate) fn page<'a>(
        &'a self,
        table: TableId,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Register)> {
        let low = after.map_or_else(
            || Bound::Included(RegisterId::Key(table, Key::from(&[][..]))),
            |key| Bound::Excluded(RegisterId::Key(table, key.clone())),
        );
        self.map.range((low, Bound::Unbounded)).map_while(
            move |(register, record)| match register {
                RegisterId::Key(owner, key) if *owner == table => Some((key, record)),
                RegisterId::Key(..) | RegisterId::NodeSession(_) => None,
            },
        )
    }

    /// The chosen session of a node, as far as known here.
    pub(crate) fn node_session(&self, node: NodeId) -> Option<crate::monitor::NodeSession> {
        let register = RegisterId::NodeSession(node);
        let (_, cell) = self.map.get(&register)?.learned(&self.floor)?;
        cell.node_session()
    }
}
