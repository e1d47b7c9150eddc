//! What an operation wants of its register, and what that does to a given content.
//!
//! Pure: the same goal on the same content gives the same step, whoever evaluates it.

use alloc::vec::Vec;
use core::time::Duration;

use super::cell::{Cell, Content, Live, State};
use super::command::{Entry, Expect};
use crate::base::{SessionId, Value, Wall};
use crate::monitor::{Binding, Cause, NodeSession};
use crate::paxos::Ballot;

/// What an operation is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// End the life `generation`, if a binding of it has ended (E1).
    Bury {
        generation: Ballot,
        /// Bindings found to have ended: decided, or certified by their owner.
        ended: Vec<Binding>,
    },
    /// Close the session of a node that a whole quorum has not heard for `down` (M2).
    CloseNodeSession {
        down: Duration,
        /// Not proposed before a quorum has not heard it for this long: members take turns.
        patience: Duration,
    },
    /// Write what is there again, at a new ballot.
    Fence,
    /// Find out what is chosen; an entry is never exposed whose binding is known to have ended.
    Get,
    /// Find out whether a client session goes on: from its host, or, if that is silent, from the
    /// host's session register, which is this operation's own.
    Inquire(SessionId),
    /// Find out what is chosen, as it is.
    Look,
    /// Open this node's next session.
    OpenNodeSession,
    /// Take the entry away; only that life of it, when given.
    Remove { generation: Option<Ballot> },
    /// Write the session again that this node believes to be open, so that a closing of it under
    /// way is either completed or made impossible (M3).
    RenewNodeSession { number: u64 },
    /// Put a value.
    Write { mode: Mode, value: Value, bindings: Vec<Binding> },
}

/// When a write applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Always,
    IfAbsent,
    If(Expect),
}

/// What a quorum of acceptors has testified in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quorum {
    /// The slowest of their wall clocks: every one of them shows at least this (M6).
    pub(crate) wall_min: Wall,
    /// The shortest silence of the node that a session register is about (M2).
    pub(crate) silent_min: Duration,
}

/// What a goal does to a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It becomes this.
    Change(State),
    /// It stays: the answer is a reading of it.
    Keep,
}

impl Goal {
    /// Evaluates the goal on `cell`, inside the ballot `ballot`.
    pub(crate) fn evaluate(&self, cell: &Cell, ballot: Ballot, quorum: &Quorum) -> Step {
        match self {
            Self::Bury { generation, ended } => bury(cell, *generation, ended, quorum),
            Self::CloseNodeSession { down, .. } => match cell.node_session() {
                Some(session) if session.open && quorum.silent_min >= *down => {
                    Step::Change(session_state(cell, ballot, session.number, false))
                }
                Some(_) | None => Step::Keep,
            },
            Self::Fence | Self::Get | Self::Inquire(_) | Self::Look => Step::Keep,
            Self::OpenNodeSession => {
                let number =
                    cell.node_session().map_or(1, |session| session.number.saturating_add(1));
                Step::Change(session_state(cell, ballot, number, true))
            }
            Self::Remove { generation } => match cell.live() {
                Some(live) if generation.is_none_or(|wanted| wanted == live.generation) => {
                    Step::Change(State::Dead(Cause::Removed))
                }
                Some(_) | None => Step::Keep,
            },
            Self::RenewNodeSession { number } => match cell.node_session() {
                Some(session) if session.open && session.number == *number => {
                    Step::Change(cell.state.clone())
                }
                Some(_) | None => Step::Keep,
            },
            Self::Write { mode, value, bindings } => {
                let applies = match mode {
                    Mode::Always => true,
                    Mode::IfAbsent => cell.live().is_none(),
                    Mode::If(expect) => is_expected(cell, expect),
                };
                if !applies {
                    return Step::Keep;
                }
                Step::Change(State::Live(Live {
                    generation: cell.live().map_or(ballot, |live| live.generation),
                    content: Content::Value(value.clone()),
                    bindings: bindings.clone(),
                }))
            }
        }
    }

    /// Whether the answer may show a client an entry that this operation did not put.
    pub(crate) const fn exposes_entry(&self) -> bool {
        match self {
            Self::Fence | Self::Get => true,
            Self::Write { mode, .. } => matches!(mode, Mode::IfAbsent | Mode::If(_)),
            Self::Remove { generation } => generation.is_some(),
            Self::Bury { .. }
            | Self::CloseNodeSession { .. }
            | Self::Inquire(_)
            | Self::Look
            | Self::OpenNodeSession
            | Self::RenewNodeSession { .. } => false,
        }
    }

    /// The bindings that a successful write leaves behind.
    pub(crate) fn bindings(&self) -> &[Binding] {
        match self {
            Self::Write { bindings, .. } => bindings,
            Self::Bury { .. }
            | Self::CloseNodeSession { .. }
            | Self::Fence
            | Self::Get
            | Self::Inquire(_)
            | Self::Look
            | Self::OpenNodeSession
            | Self::Remove { .. }
            | Self::RenewNodeSession { .. } => &[],
        }
    }
}

/// E1: only that life, and only while the binding that ended is still one of its own.
fn bury(cell: &Cell, generation: Ballot, ended: &[Binding], quorum: &Quorum) -> Step {
    let Some(live) = cell.live().filter(|live| live.generation == generation) else {
        return Step::Keep;
    };
    let is_over = |binding: &&Binding| match binding {
        Binding::Until(wall) => quorum.wall_min >= *wall,
        Binding::Key { .. } | Binding::Node { .. } | Binding::Session(_) => ended.contains(binding),
    };
    match live.bindings.iter().find(is_over) {
        Some(binding) => Step::Change(State::Dead(Cause::Erased(binding.clone()))),
        None => Step::Keep,
    }
}

fn session_state(cell: &Cell, ballot: Ballot, number: u64, open: bool) -> State {
    State::Live(Live {
        generation: cell.live().map_or(ballot, |live| live.generation),
        content: Content::NodeSession(NodeSession { number, open }),
        bindings: Vec::new(),
    })
}

fn is_expected(cell: &Cell, expect: &Expect) -> bool {
    match (expect, cell.live()) {
        (Expect::Absent, live) => live.is_none(),
        (Expect::Value(value), Some(live)) => {
            matches!(&live.content, Content::Value(present) if present == value)
        }
        (Expect::Version(version), Some(_)) => cell.version() == *version,
        (Expect::Value(_) | Expect::Version(_), None) => false,
    }
}

impl Cell {
    /// The entry as a client sees it.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let live = self.live()?;
        let Content::Value(value) = &live.content else {
            return None;
        };
        Some(Entry {
            value: value.clone(),
            generation: live.generation,
            version: self.version(),
            bindings: live.bindings.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        ClientId, Epoch, Incarnation, Key, NodeId, OpId, RegisterId, RequestId, TableId,
    };
    use alloc::vec;

    fn ballot(round: u64) -> Ballot {
        Ballot { epoch: Epoch(1), round, node: NodeId(1), incarnation: Incarnation(1), sequence: 0 }
    }

    const QUORUM: Quorum = Quorum { wall_min: Wall(100), silent_min: Duration::from_secs(3) };

    fn put(cell: &Cell, goal: &Goal, round: u64) -> Cell {
        let op = OpId { client: ClientId::new(1), request: RequestId(round) };
        match goal.evaluate(cell, ballot(round), &QUORUM) {
            Step::Change(state) => cell.changed(state, op, ballot(round)),
            Step::Keep => cell.clone(),
        }
    }

    fn write(mode: Mode, bindings: Vec<Binding>) -> Goal {
        Goal::Write { mode, value: Value::from("v"), bindings }
    }

    /// E1: a later life, or one whose binding was replaced, is not touched.
    #[test]
    fn erase_ends_only_the_life_and_the_binding_it_names() {
        let bound = Binding::Node { node: NodeId(2), session: 1 };
        let absent = Cell::absent(Ballot::genesis(Epoch(1)));
        let born = put(&absent, &write(Mode::IfAbsent, vec![bound.clone()]), 1);
        let bury = Goal::Bury { generation: ballot(1), ended: vec![bound.clone()] };
        assert_eq!(put(&born, &bury, 2).state, State::Dead(Cause::Erased(bound.clone())));
        let renewed = put(&born, &write(Mode::Always, vec![]), 2);
        assert_eq!(bury.evaluate(&renewed, ballot(3), &QUORUM), Step::Keep);
        let removed = put(&born, &Goal::Remove { generation: None }, 2);
        let reborn = put(&removed, &write(Mode::IfAbsent, vec![bound]), 3);
        assert_eq!(bury.evaluate(&reborn, ballot(4), &QUORUM), Step::Keep);
    }

    /// E1: the end of one life of a target says nothing of a later life of it. An entry that was
    /// rewritten to hang on that one is not touched, though it keeps its own life.
    #[test]
    fn erase_spares_what_hangs_on_a_later_life_of_the_same_target() {
        let register = RegisterId::Key(TableId(0), Key::from("parent"));
        let key = |round| Binding::Key { register: register.clone(), generation: ballot(round) };
        let node = |session| Binding::Node { node: NodeId(2), session };
        let session = |node_session, number| {
            Binding::Session(SessionId { host: NodeId(2), node_session, number })
        };
        for (over, lasting) in [
            (key(1), key(2)),
            (node(1), node(2)),
            (session(1, 1), session(2, 1)),
            (session(1, 1), session(1, 2)),
        ] {
            let absent = Cell::absent(Ballot::genesis(Epoch(1)));
            let born = put(&absent, &write(Mode::IfAbsent, vec![over.clone()]), 3);
            let bury = Goal::Bury { generation: ballot(3), ended: vec![over.clone()] };
            assert_eq!(put(&born, &bury, 4).state, State::Dead(Cause::Erased(over)));
            let rewritten = put(&born, &write(Mode::Always, vec![lasting.clone()]), 4);
            let live = rewritten.live().expect("it was overwritten, not erased");
            assert_eq!((live.generation, &live.bindings[..]), (ballot(3), &[lasting][..]));
            assert_eq!(bury.evaluate(&rewritten, ballot(5), &QUORUM), Step::Keep);
        }
    }

    /// P-20, M6: the slowest clock of a quorum decides, not the fastest of anybody.
    #[test]
    fn deadline_needs_every_clock_of_a_quorum() {
        let absent = Cell::absent(Ballot::genesis(Epoch(1)));
        let bury = Goal::Bury { generation: ballot(1), ended: vec![] };
        for (until, erased) in [(99, true), (100, true), (101, false)] {
            let goal = write(Mode::IfAbsent, vec![Binding::Until(Wall(until))]);
            let born = put(&absent, &goal, 1);
            assert_eq!(put(&born, &bury, 2).live().is_none(), erased);
        }
    }

    /// M2: acceptors that were silent each at its own moment were not silent together.
    #[test]
    fn silences_count_only_where_they_overlap() {
        let absent = Cell::absent(Ballot::genesis(Epoch(1)));
        let open = put(&absent, &Goal::OpenNodeSession, 1);
        let down = Duration::from_secs(2);
        let close = Goal::CloseNodeSession { down, patience: down };
        let after = |elapsed| close.evaluate(&open, ballot(2), &QUORUM.when_asked(elapsed));
        assert!(matches!(after(Duration::from_secs(1)), Step::Change(_)));
        assert_eq!(after(Duration::from_millis(1001)), Step::Keep);
        assert_eq!(after(Duration::MAX), Step::Keep);
    }

    /// M2: one acceptor that heard the node lately vetoes the closing.
    #[test]
    fn session_closes_only_after_the_silence_of_a_whole_quorum() {
        let absent = Cell::absent(Ballot::genesis(Epoch(1)));
        let open = put(&absent, &Goal::OpenNodeSession, 1);
        assert_eq!(open.node_session(), Some(NodeSession { number: 1, open: true }));
        let close = |down| {
            let down = Duration::from_secs(down);
            Goal::CloseNodeSession { down, patience: down }
        };
        assert_eq!(close(4).evaluate(&open, ballot(2), &QUORUM), Step::Keep);
        let closed = put(&open, &close(3), 2);
        assert_eq!(closed.node_session(), Some(NodeSession { number: 1, open: false }));
        let renew = Goal::RenewNodeSession { number: 1 };
        assert_eq!(renew.evaluate(&closed, ballot(3), &QUORUM), Step::Keep);
        let reopened = put(&closed, &Goal::OpenNodeSession, 3);
        assert_eq!(reopened.node_session(), Some(NodeSession { number: 2, open: true }));
    }
}
