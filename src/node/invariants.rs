//! What must hold between any two steps of a node (`docs/INVARIANTS.md`).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::turns::Turns;
use super::{Node, Timer};
use crate::consensus::Stage;

/// A broken invariant: a bug of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one: its number in `docs/INVARIANTS.md`.
    pub invariant: &'static str,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.message)
    }
}

impl core::error::Error for Violation {}

impl Node {
    /// Checks every invariant of this node's state. Costs time proportional to all of it.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check_invariants(&self) -> Result<(), Violation> {
        let violated = |invariant, message| Err(Violation { invariant, message });
        for (register, record) in self.registers.iter() {
            let floor = self.registers.floor(register);
            let acceptor = record.acceptor();
            let (promised, accepted) =
                (acceptor.promised(&floor), acceptor.accepted_ballot(&floor));
            if accepted > promised {
                let message = format!("{register}: accepted {accepted} above promised {promised}");
                return violated("I4", message);
            }
            if let Some(cell) = acceptor.content()
                && cell.version() > accepted
            {
                let message = format!("{register}: changed at {} after {accepted}", cell.version());
                return violated("I3", message);
            }
            if record.ticket() > self.ticket {
                return violated("I5", format!("{register}: waits for a ticket never given out"));
            }
        }
        if self.index != self.expected_index() {
            return violated("I9", String::from("the index is not that of what is accepted"));
        }
        for (number, operation) in &self.operations {
            if !self.timers.has(Timer::Operation(*number)) {
                let message = format!("{} waits for nothing: {:?}", operation.op, operation.stage);
                return violated("I10", message);
            }
            let turns = self.proposing.get(&operation.register);
            let is_waiting = |turns: &Turns| turns.iter().any(|waiting| waiting == *number);
            let in_turn = if matches!(operation.stage, Stage::Preparing { .. }) {
                turns.is_some_and(|turns| turns.first() == Some(*number))
            } else {
                !matches!(operation.stage, Stage::Accepting { .. }) || turns.is_some_and(is_waiting)
            };
            if !in_turn {
                return violated("I11", format!("{} proposes out of turn", operation.op));
            }
        }
        for (register, turns) in &self.proposing {
            let gone = |number| !self.operations.contains_key(&number);
            if turns.first().is_none() || turns.iter().any(gone) {
                return violated("I11", format!("{register}: somebody gone holds a turn"));
            }
        }
        for (op, number) in &self.requests {
            if self.operations.get(number).is_none_or(|operation| operation.op != *op) {
                return violated("I12", format!("{op} will never be answered"));
            }
        }
        if self.requests_in_flight() > self.config.limits.requests_max {
            return violated("I13", String::from("more requests in flight than allowed"));
        }
        self.check_kept()?;
        self.check_copies()
    }

    /// That nothing is kept for the sake of what is gone.
    fn check_kept(&self) -> Result<(), Violation> {
        let violated = |message| Err(Violation { invariant: "I14", message });
        if self.held != self.outbox.values().map(Vec::len).sum::<usize>() {
            return violated(format!("{} messages are not those that wait", self.held));
        }
        for (session, number) in &self.inquiries {
            if !self.operations.contains_key(number) {
                let message = format!("{session}: somebody gone inquires into it");
                return violated(message);
            }
        }
        for session in &self.monitors.ended {
            if !self.index.has_session(*session) {
                return violated(format!("{session}: kept, and nothing is bound to it"));
            }
        }
        Ok(())
    }

    fn check_copies(&self) -> Result<(), Violation> {
        for table in self.tables() {
            if let Err(what) = table.check() {
                return Err(Violation { invariant: "I15", message: String::from(what) });
            }
        }
        self.check_replicas()
            .map_err(|what| Violation { invariant: "I12", message: String::from(what) })
    }
}
